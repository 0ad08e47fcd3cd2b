"""Seconds until the app is ready, a dropped picture drawn, twenty visitors served: `python -m benchmarks.app`.

A dropped picture: on Slots by the bundled weights, on Attention by timm's ViT-S at 224 pixels (random weights, which
take as long as trained ones).
"""
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT/'benchmarks/results/app.json'
ARGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
        '--disable-sync', '--no-first-run']


def free_port():
    "A port that nobody listens on"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@contextmanager
def server(app='hub', patience=180, words=None, **env):
    """An app of `apps/`, or what other words to Python start on a port, as a process of its own.

    Gives its address, the seconds to its first answer, the process. Its files lie in a folder that
    goes with it.
    """
    port, log, files = free_port(), tempfile.TemporaryFile('w+'), tempfile.mkdtemp(prefix='app-')
    env = {'GRADIO_TEMP_DIR': files} | env
    words, start = [sys.executable, *(words or [ROOT/'apps'/f'{app}.py']), str(port)], time.monotonic()
    path = os.pathsep.join([*filter(None, [env.pop('PYTHONPATH', '')]), str(ROOT)])
    process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, 'PYTHONPATH': path, **env},
                               cwd=tempfile.gettempdir())
    try:
        yield f'http://127.0.0.1:{port}', seconds_to_ready(process, port, start, patience, log), process
    finally:
        process.terminate()
        try: process.wait(20)
        except subprocess.TimeoutExpired: process.kill()
        shutil.rmtree(files, ignore_errors=True)


@contextmanager
def served(*words, **options):
    "As `server`, without the process"
    with server(*words, **options) as (url, ready, _): yield url, ready


def seconds_to_ready(process, port, start, patience, log):
    "Seconds until the page answers; what the process wrote when it never does"
    while time.monotonic() - start < patience and process.poll() is None:
        try:
            found = httpx.get(f'http://127.0.0.1:{port}/', trust_env=False, follow_redirects=True)
            if found.status_code == 200: return time.monotonic() - start
        except httpx.TransportError: time.sleep(.1)
    log.seek(0)
    raise RuntimeError(f'the app did not answer within {patience} s:\n{log.read()[-2000:]}')


@contextmanager
def chromium(**options):
    "The system's Chromium, headless"
    from playwright.sync_api import sync_playwright
    found = shutil.which('chromium') or shutil.which('google-chrome')
    if not found: raise FileNotFoundError('no chromium and no google-chrome on this machine')
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=found, headless=True, args=ARGS, **options)
        try: yield browser
        finally: browser.close()


def photo(path, seed=0, size=(960, 1280)):
    "Writes a picture of the world as JPEG, at a camera's shape"
    from ssl_workbench.show import to_image
    from ssl_workbench.world import batch
    small = size[0] // 4, size[1] // 4
    frame = batch([500_000 + seed], kind='scene', level=2, size=small, frames=1, truth=False)['frames'][0, 0]
    to_image(frame).resize(size[::-1]).save(path, quality=90)
    return Path(path)


def drawing(config):
    "Of a page's config: number, inputs and photo of the event that draws slots after a drop"
    parts = {c['id']: c for c in config['components']}
    drop = next(k for k, c in parts.items() if c['props'].get('elem_id') == 'photo')
    event = next(d for d in config['dependencies'] if [drop, 'change'] in [list(t) for t in d['targets']])
    return event['id'], [parts[k] for k in event['inputs']], drop


def visit(url, path):
    "One visitor without a browser: opens the page, drops a photo, waits for its slots; (seconds, bytes of the picture)"
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as web:
        web.get('/').raise_for_status()
        number, inputs, drop = drawing(web.get('/config').raise_for_status().json())
        start = time.monotonic()
        files = {'files': (path.name, path.read_bytes())}
        file = web.post('/gradio_api/upload', files=files).raise_for_status().json()[0]
        dropped = dict(path=file, meta={'_type': 'gradio.FileData'})
        data = [dropped if c['id'] == drop else c['props'].get('value') for c in inputs]
        session = uuid.uuid4().hex
        event = dict(data=data, fn_index=number, session_hash=session)
        web.post('/gradio_api/queue/join', json=event).raise_for_status()
        picture = web.get(answer(web, session)).raise_for_status().content
        return time.monotonic() - start, len(picture)


def answer(web, session):
    "Address of the picture that the queue answers with"
    with web.stream('GET', '/gradio_api/queue/data', params=dict(session_hash=session)) as stream:
        for line in stream.iter_lines():
            message = json.loads(line[5:]) if line.startswith('data:') else {}
            if message.get('msg') == 'process_completed':
                if not message['success']: raise RuntimeError(f"refused: {message['output']}")
                return '/gradio_api/file=' + message['output']['data'][0]['path']
    raise RuntimeError('the queue closed without an answer')


def crowd(url, paths):
    "As many visitors as photos, all at once: each one's seconds; the first failure is raised"
    gate, answers = threading.Barrier(len(paths)), []
    def one(path):
        gate.wait()
        try: answers.append(visit(url, path))
        except Exception as e: answers.append(e)
    threads = [threading.Thread(target=one, args=(p,)) for p in paths]
    for t in threads: t.start()
    for t in threads: t.join()
    for a in answers:
        if isinstance(a, Exception): raise a
    return [seconds for seconds, _ in answers]


def drops(url, paths):
    "Seconds from each drop to the changed figure, in Chromium, the page open"
    figure, seconds = '.figure img', []
    with chromium() as browser:
        page = browser.new_page()
        page.goto(url)
        page.get_by_role('tab', name='Slots').click()
        page.locator(figure).first.wait_for()
        before = page.locator(figure).first.get_attribute('src')
        for path in paths:
            start = time.monotonic()
            page.locator('#photo input[type=file]').set_input_files(path)
            page.wait_for_function('''([q, old]) => {
                const i = document.querySelector(q);
                return i && i.getAttribute("src") != old && i.complete && i.naturalWidth }''', arg=[figure, before])
            seconds.append(time.monotonic() - start)
            page.locator('#retrieved figure').first.wait_for()
            page.locator('#photo button[aria-label^=Remove], #photo button[aria-label=Clear]').first.click()
            page.wait_for_function('([q, old]) => document.querySelector(q).getAttribute("src") == old',
                                   arg=[figure, before])
    return seconds


def drop_under(url, path, network='vit_small_patch16_224'):
    "Seconds from a drop on Attention to the changed figure, under a network of timm that was typed before"
    with chromium() as browser:
        page = browser.new_page()
        page.goto(url)
        page.get_by_role('tab', name='Attention').click()
        figure = page.locator('.figure img:visible').first
        figure.wait_for()
        def after(act):
            "Seconds from an act to another figure"
            old, start = figure.get_attribute('src'), time.monotonic()
            act()
            while (now := figure.get_attribute('src')) == old or not now:
                if time.monotonic() - start > 120: raise RuntimeError('the figure did not change within two minutes')
                time.sleep(.02)
            return time.monotonic() - start
        box = page.get_by_label('Network').locator('visible=true').first
        box.fill(network)
        after(lambda: box.press('Enter'))
        return after(lambda: page.locator('#look input[type=file]').set_input_files(path))


def machine():
    "Where this was measured"
    import torch
    return dict(cores=os.cpu_count(), load=round(os.getloadavg()[0], 2),
                processor=platform.processor() or platform.machine(), python=platform.python_version(),
                torch=torch.__version__, gradio=version('gradio'))


def main():
    "Measures, prints, writes"
    with tempfile.TemporaryDirectory() as folder:
        paths, place = [photo(Path(folder)/f'photo{k}.jpg', k) for k in range(20)], machine()
        with served() as (url, ready):
            alone, small, together = drops(url, paths[:5]), drop_under(url, paths[5]), crowd(url, paths)
    found = dict(ready_s=ready, drop_median_s=statistics.median(alone), drop_s=alone, vit_small_s=small,
                 users=len(together), users_median_s=statistics.median(together), users_worst_s=max(together))
    found = {k: [round(x, 2) for x in v] if isinstance(v, list) else round(v, 2) for k, v in found.items()}
    result = dict(command='python -m benchmarks.app', machine=place, **found)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + '\n')
    print(json.dumps(result, indent=1))


if __name__ == '__main__': main()
