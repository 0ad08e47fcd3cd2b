"""The workbench in a headless browser: what a visitor, a phone, a keyboard and twenty at once find."""
import os
import re
import runpy
import shutil
import socket
import sys
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
pytest.importorskip('gradio')
pytest.importorskip('playwright')
from playwright.sync_api import TimeoutError  # noqa: E402

from benchmarks import app as bench  # noqa: E402

WAIT = 90_000  # ms; patience with a busy machine, no claim about speed
FIGURE = '.figure img:visible'
SPY = '''import os, socket
real = socket.getaddrinfo
def look(host, *args, **options):
    if host not in (None, '', '127.0.0.1', 'localhost', '0.0.0.0', '::1', b'127.0.0.1', b'localhost'):
        with open(os.environ['LOOKUPS'], 'a') as f: f.write(f'{host}\\n')
    return real(host, *args, **options)
socket.getaddrinfo = look
'''


@pytest.fixture(scope='module')
def lookups(tmp_path_factory):
    "The file in which the app notes every name it looks up on the network"
    folder = tmp_path_factory.mktemp('spy')
    (folder/'sitecustomize.py').write_text(SPY)
    return folder/'lookups'


@pytest.fixture(scope='module')
def url(lookups):
    "The address of a running hub"
    with bench.served(PYTHONPATH=str(lookups.parent), LOOKUPS=str(lookups)) as (address, _): yield address


@pytest.fixture(scope='module')
def browser():
    "Chromium; skipped without one, but not in CI"
    if not (shutil.which('chromium') or shutil.which('google-chrome')):
        assert not os.environ.get('CI'), 'CI drives the app in Chromium, and there is none here'
        pytest.skip('no chromium on this machine')
    with bench.chromium() as b: yield b


@pytest.fixture(scope='module')
def photo(tmp_path_factory): return bench.photo(tmp_path_factory.mktemp('photos')/'holiday.jpg')


@pytest.fixture
def visit(url, browser):
    "Opens the page; at the end there is no console error, and no request has left this machine"
    contexts, requests, errors = [], [], []
    def opened(tab=None, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on('request', lambda r: requests.append(r.url))
        page.on('console', lambda m: m.type == 'error' and errors.append(m.text))
        page.on('pageerror', lambda e: errors.append(str(e)))
        page.goto(url)
        page.get_by_role('heading', name='Nine ways').wait_for()
        if tab: show(page, tab)
        return page
    yield opened
    for context in contexts: context.close()
    assert requests and not [r for r in requests if not r.startswith((url, 'data:', 'blob:'))]
    assert not errors


def show(page, tab):
    "Opens a tab and waits for its figure"
    page.get_by_role('tab', name=tab, exact=True).click()
    if tab != 'Home': page.locator(FIGURE).first.wait_for()


def shown(page, n=0): return page.locator(FIGURE).nth(n).get_attribute('src')


def changed(page, before, n=0):
    "Waits until the n-th visible figure is another one; its address"
    page.wait_for_function('''([n, old]) => { const i = [...document.querySelectorAll('.figure img')].filter(e => e.offsetParent)[n];
                              return i && i.src && i.getAttribute('src') != old && i.complete && i.naturalWidth > 0 }''', arg=[n, before])
    return shown(page, n)


def drop(page, path): page.locator('#photo input[type=file]').set_input_files(path)


def steps(page): return int(re.search(r'Step (\d+)', page.locator('#said').inner_text()).group(1))


def test_photo_and_click(visit, photo):
    "A dropped photo changes the figure; a click tells what else a prototype wins"
    page = visit('Slots')
    before = shown(page)
    drop(page, photo)
    after = changed(page, before)
    wins = page.locator('#wins')
    wins.get_by_text('What else this prototype wins').wait_for()
    assert wins.locator('img').count() >= 1
    sources = "[...document.querySelectorAll('#wins img')].map(i => i.src).join()"
    first, others = page.evaluate(sources), False
    for x, y in [(.05, .05), (.5, .95), (.95, .5), (.3, .3), (.05, .95), (.95, .05)]:
        box = page.locator(FIGURE).first.bounding_box()
        page.locator(FIGURE).first.click(position=dict(x=x * box['width'], y=y * box['height']))
        after = changed(page, after)
        try: page.wait_for_function(f'first => {sources} && {sources} != first', arg=first, timeout=20_000)
        except TimeoutError: continue
        others = True
        break
    assert others, 'whatever is clicked, the same pictures come'


@pytest.mark.parametrize('kind', ['text', 'truncated'])
def test_bad_upload(visit, photo, tmp_path, kind):
    "A file that is no picture gets one sentence that names it, and the next file works"
    from PIL import Image
    bad = tmp_path/('notes.jpg' if kind == 'text' else 'half.png')
    if kind == 'text': bad.write_text('Dear diary, this is not a picture.\n')
    else:
        Image.open(photo).save(bad)
        bad.write_bytes(bad.read_bytes()[:5000])
    page = visit('Slots')
    before = shown(page)
    drop(page, bad)
    toast = page.locator('.toast-body').first
    toast.wait_for()
    said = toast.inner_text()
    assert bad.name in said and said.rstrip().endswith('.') and 'Traceback' not in said and len(said) < 300
    page.locator('#photo button[aria-label^=Remove], #photo button[aria-label=Clear]').first.click()
    drop(page, photo)
    assert changed(page, before) != before


def test_attention_of_a_timm_name(visit):
    "Any vision transformer of timm by name; random weights are called so; unknown names are refused"
    page = visit('Attention')
    before = shown(page)
    box = page.get_by_role('listbox', name='Network').or_(page.get_by_label('Network')).first
    box.fill('vit_tiny_patch16_224')
    box.press('Enter')
    after = changed(page, before)
    page.locator('.note:visible', has_text='weights').first.wait_for()
    page.locator(FIGURE).nth(1).wait_for()
    alike = shown(page, 1)
    page.locator(FIGURE).nth(1).click(position=dict(x=12, y=12))
    changed(page, alike, 1)
    head = page.get_by_label('number input for Head').or_(page.get_by_role('spinbutton', name=re.compile('Head'))).first
    head.fill('2')
    head.press('Enter')
    changed(page, after)
    box.fill('resnet_of_my_dreams')
    box.press('Enter')
    toast = page.locator('.toast-body').first
    toast.wait_for()
    assert "no model 'resnet_of_my_dreams'" in toast.inner_text()


def test_train_stop_resume(visit):
    "Steps grow and the pictures change; stop keeps the run, resume goes on from its step, start over forgets it"
    page = visit('Train')
    before, go = shown(page), page.get_by_role('button', name='Start · resume')
    go.click()
    before = changed(page, before)
    page.wait_for_function("() => +(/Step (\\d+)/.exec(document.querySelector('#said').innerText) || [0, 0])[1] >= 2")
    page.locator('#plot .js-plotly-plot').wait_for()
    page.get_by_role('button', name='Stop').click()
    page.locator('#said', has_text='may be resumed').wait_for()
    at = steps(page)
    assert at >= 2 and shown(page) != before
    page.evaluate('''() => { window.said = []; new MutationObserver(() => window.said.push(document.querySelector('#said').innerText))
                             .observe(document.querySelector('#said'), {subtree: true, childList: true, characterData: true}) }''')
    go.click()
    page.wait_for_function("at => +/Step (\\d+)/.exec(document.querySelector('#said').innerText)[1] > at", arg=at)
    told = [int(n) for n in re.findall(r'Step (\d+)', ' '.join(page.evaluate('window.said')))]
    assert told and told == sorted(told) and min(told) >= at
    page.get_by_role('button', name='Start over').click()
    page.locator('#said', has_text='Not started').wait_for()


def test_clip(visit):
    "The example clip falls apart into slots; another moment is another figure"
    page = visit('Slots')
    page.get_by_role('tab', name='Clip', exact=True).click()
    page.locator(FIGURE).first.wait_for()
    before = shown(page)
    moment = page.get_by_label('number input for Moment').or_(page.get_by_role('spinbutton', name=re.compile('Moment'))).first
    moment.fill('1')
    moment.press('Enter')
    changed(page, before)


def test_keyboard(visit):
    "Tab reaches the tabs, Enter opens one, Tab goes on to its controls"
    page = visit()
    at = lambda: page.evaluate('(e => `${e.getAttribute("role") || e.tagName} ${e.innerText || e.ariaLabel || e.type || ""}`.trim())(document.activeElement)')
    seen = []
    while 'Slots' not in (seen or [''])[-1] and len(seen) < 15:
        page.keyboard.press('Tab')
        seen.append(at())
    assert 'Slots' in seen[-1], f'Tab reaches {seen}'
    page.keyboard.press('Enter')
    page.locator(FIGURE).first.wait_for()
    for _ in range(40):
        page.keyboard.press('Tab')
        seen.append(page.evaluate('document.activeElement.type || ""'))
        if 'range' in seen: break
    assert 'range' in seen, f'no slider is reached: {seen}'
    before = shown(page)
    page.keyboard.press('ArrowLeft')
    page.keyboard.press('ArrowLeft')
    page.keyboard.press('Home')
    changed(page, before)


def test_phone_and_dark(visit):
    "On a phone nothing scrolls sideways and figures are as wide as the page; the switch makes it dark"
    page = visit(viewport=dict(width=390, height=844), color_scheme='light')
    for tab in ('Home', 'Slots', 'Attention', 'Train'):
        show(page, tab)
        assert page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth'), f'{tab} scrolls sideways'
        if tab != 'Home': assert page.locator(FIGURE).first.bounding_box()['width'] > 300
    ground = "getComputedStyle(document.querySelector('.gradio-container')).color"
    light, switch = page.evaluate(ground), page.get_by_role('button', name='Light / dark')
    switch.click()
    page.wait_for_function(f'light => {ground} != light', arg=light)
    switch.click()
    page.wait_for_function(f'light => {ground} == light', arg=light)


def test_twenty_at_once(url, photo):
    "Twenty visitors drop a photo at the same moment; each gets a picture"
    assert len(bench.crowd(url, [photo] * 20)) == 20


def test_nothing_looked_up(url, photo, lookups):
    "The app itself has asked the network for no name"
    bench.visit(url, photo)
    assert not lookups.exists() or not lookups.read_text()


@pytest.mark.parametrize('app', sorted(p.stem for p in (ROOT/'apps').glob('*.py')))
def test_every_app_builds(app):
    "Each script in apps/ builds its page and hands it to the server"
    from ssl_workbench import hub
    with mock.patch.object(hub, 'launch') as launch, mock.patch.object(sys, 'argv', [app, '7999', '--online']):
        runpy.run_path(str(ROOT/'apps'/f'{app}.py'), run_name='__main__')
    port, page, online = launch.call_args.args
    assert (port, online) == (7999, True) and len(page.blocks) > 12
    assert any(type(b).__name__ == 'Tab' for b in page.blocks.values()) == (app in ('hub', 'slots'))


def test_taken_port():
    "A port that is in use is one sentence"
    from ssl_workbench import hub
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        with pytest.raises(SystemExit, match='cannot be had'): hub.shell('train', [str(s.getsockname()[1])])
