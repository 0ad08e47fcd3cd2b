"""Pictures to touch in a real JupyterLab in headless Chromium: a click and a drag answered, no outside request.

Of each lesson the widget cells run with the code that they need, and no more: `course.slices` cuts them out. CI opens
the lessons of the methods; LAB=all, which `make course-check` sets, opens every notebook that has something to touch.
"""
import contextlib
import json
import os
import re
import shutil
import statistics
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
pytest.importorskip('jupyterlab')
pytest.importorskip('anywidget')
pytest.importorskip('playwright')

from playwright.sync_api import expect  # noqa: E402

from benchmarks import app as bench  # noqa: E402
from course import notebooks, slices  # noqa: E402
from docs import methods  # noqa: E402
from docs.notebooks import read, sources, text  # noqa: E402
from ssl_workbench import catalog  # noqa: E402

WAIT = 90_000  # ms; patience with a busy machine, no claim about speed
CELLS = ['''from plotly.graph_objects import Figure

from ssl_workbench import catalog, world
from ssl_workbench.panels import Knob, Panel, similarity_panel
from ssl_workbench.panels.touch import layer, touch, values

photo = world.sample(3, 'scene', 1, (96, 128), frames=1, truth=False)['frames'][0]
slotmim = catalog.load('slotmim')''',
         'similarity_panel.live(slotmim, photo)',
         '''drawn = touch(photo, arrows=dict(flow=(.2, .2, .4, .4)), label='Drag',
              values=[values('red', photo[0])], layers=[layer('negative', 255 - photo, .5)])
drawn.observe(lambda change: drawn.show(caption=' '.join(f'{v:.2f}' for v in change['new']['flow'])), 'places')
drawn''',
         '''from ipywidgets import VBox
VBox([touch(photo, question=f'Question {k}', choices=['yes', 'no']) for k in (1, 2)])''',
         '''line = lambda t, n=2: Figure().add_scatter(y=list(range(n)), name='line')
Panel('Plot', lambda: {}, line, (Knob('n', 2, 9, 1, 3),), (), static=lambda t, n=2: photo).live()''']
RUN = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }"
PLOTTED = "document.querySelector('.js-plotly-plot')?.data?.[0]?.y?.length === 3"
METHODS = [methods.lessons(entry)[0] for entry in catalog.catalog]
TOUCHED = {p.stem: p for p in (sources() if os.environ.get('LAB') == 'all' else METHODS) if slices.widgets(read(p))}
OPEN = """async path => {
    const app = window.jupyterapp, notebook = await app.commands.execute('docmanager:open', {path})
    await notebook.context.ready
    await notebook.sessionContext.ready
    await notebook.sessionContext.session.kernel.info
    app.shell.activateById(notebook.id)
    await app.commands.execute('notebook:run-all-cells')
    return notebook.content.widgets.filter(c => c.model.type === 'code').map(c => c.model.outputs.toJSON())
}"""
CLOSE = """async () => {
    const app = window.jupyterapp, notebook = app.shell.currentWidget
    await notebook.sessionContext.shutdown()
    await app.commands.execute('docmanager:save')
    notebook.close()
}"""
READY = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def notebook(cells):
    "Code cells as a notebook file"
    code = [dict(cell_type='code', id=f'c{k}', metadata={}, outputs=[], execution_count=None, source=s)
            for k, s in enumerate(cells)]
    kernel = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    return json.dumps(dict(cells=code, metadata=kernel, nbformat=4, nbformat_minor=5))


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "The address of a JupyterLab over a folder with its notebooks; its settings in that folder, too"
    folder = tmp_path_factory.mktemp('lab')
    (folder/'touch.ipynb').write_text(notebook(CELLS))
    for name, path in TOUCHED.items(): notebooks.write(notebooks.demo(read(path)), folder/f'{name}.ipynb')
    words = ['-m', 'jupyterlab', '--no-browser', '--allow-root', '--expose-app-in-browser', '--IdentityProvider.token=',
             '--ServerApp.password=', f'--ServerApp.root_dir={folder}', '--LabApp.extension_manager=readonly', '--port']
    own = {name: str(folder/name) for name in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTERLAB_SETTINGS_DIR',
                                               'JUPYTERLAB_WORKSPACES_DIR', 'IPYTHONDIR')}
    for plugin, name, said in (('apputils', 'notification', dict(fetchNews='false', checkForUpdates=False)),
                               ('notebook', 'tracker', dict(windowingMode='none')),      # draws all cells
                               ('docmanager', 'plugin', dict(autosave=False))):          # asks nothing of two tabs
        place = folder/f'JUPYTERLAB_SETTINGS_DIR/@jupyterlab/{plugin}-extension'
        place.mkdir(parents=True)
        (place/f'{name}.jupyterlab-settings').write_text(json.dumps(said))
    with bench.served(words=words, OMP_NUM_THREADS='1', **own) as (url, _): yield url


@pytest.fixture(scope='module')
def browser():
    "The system's Chromium"
    if not (shutil.which('chromium') or shutil.which('google-chrome')):
        assert not os.environ.get('CI'), 'CI opens JupyterLab in Chromium, and there is none here'
        pytest.skip('no chromium on this machine')
    expect.set_options(timeout=WAIT)
    with bench.chromium() as browser: yield browser


@contextlib.contextmanager
def opened(browser, lab):
    "JupyterLab on a page; at the end no error in the console, and no request has left this machine"
    requests, errors, heard = [], [], []
    page = browser.new_context(viewport=dict(width=1280, height=1000)).new_page()
    page.set_default_timeout(WAIT)
    page.on('request', lambda r: requests.append(r.url))
    page.on('console', lambda m: m.type == 'error' and errors.append(m.text))
    page.on('pageerror', lambda e: errors.append(str(e)))
    page.on('websocket', lambda ws: ws.on('framereceived', lambda m: heard.append(m)))
    page.heard, page.said = heard, errors
    yield page
    said = list(errors)                # not what a closing tab says of its connections
    page.context.close()
    ours = lab, lab.replace('http', 'ws'), 'data:', 'blob:'
    assert requests and not [r for r in requests if not r.startswith(ours)]
    assert not said


@pytest.fixture(scope='module')
def page(lab, browser):
    "The notebook, all its cells run"
    with opened(browser, lab) as page:
        page.goto(f'{lab}/lab/tree/touch.ipynb')
        page.wait_for_function(READY)
        page.evaluate(RUN)
        page.locator('.touch[data-drawn]').nth(1).wait_for()
        page.wait_for_function(PLOTTED)
        yield page


def frame(page, k):
    "The k-th picture on the page, scrolled into view, and where it lies"
    found = page.locator('.touch-frame').nth(k)
    found.scroll_into_view_if_needed()
    return found, found.bounding_box()


def test_click_is_answered(page):
    "The kernel draws another picture for each click; the times are printed, not judged"
    found, box = frame(page, 0)
    picture, seconds = found.locator('.touch-picture'), []
    for x, y in [(.2, .3), (.7, .6), (.4, .8), (.6, .2), (.3, .6)]:
        before, start = picture.get_attribute('src'), time.perf_counter()
        page.mouse.click(box['x'] + x * box['width'], box['y'] + y * box['height'])
        page.wait_for_function('([e, before]) => e.src !== before', arg=[picture.element_handle(), before], polling=10)
        seconds.append(time.perf_counter() - start)
        assert abs(float(found.locator('.touch-handle').evaluate('e => parseFloat(e.style.left)')) - 100 * x) < 1
    print(f'redraw after a click: median {statistics.median(seconds):.2f} s of {len(seconds)}')


def test_drag_is_answered(page):
    "An arrow drawn by hand, and moved by the keyboard, reaches Python, whose caption comes back"
    found, box = frame(page, 1)
    caption = page.locator('.touch-caption').nth(1)
    at = lambda x, y: (box['x'] + x * box['width'], box['y'] + y * box['height'])
    page.mouse.move(*at(.6, .7))
    page.mouse.down()
    page.mouse.move(*at(.7, .6), steps=3)
    page.mouse.move(*at(.8, .5))
    page.mouse.up()
    expect(caption).to_have_text(re.compile(r'0\.60 0\.70 0\.80 0\.50'))
    page.keyboard.press('ArrowLeft')
    expect(caption).to_have_text(re.compile(r'0\.60 0\.70 0\.78 0\.50'))
    assert found.locator('.touch-handle').nth(1).get_attribute('aria-label').startswith('end of flow: 78 %')


def test_the_browser_alone_switches_overlays_and_reads_values(page):
    "A tick and a hover need no kernel"
    found, box = frame(page, 1)
    assert found.locator('.touch-layer').count() == 1
    page.get_by_label('negative').uncheck()
    assert found.locator('.touch-layer').count() == 0
    page.mouse.move(box['x'] + 30, box['y'] + 30)
    assert re.search(r'x \d+ %, y \d+ % · red \d+', page.locator('.touch-readout').nth(1).inner_text())


def test_a_plot_is_updated_in_place(page):
    "Its slider changes the curve of the plot that is there"
    plot = page.locator('.js-plotly-plot').element_handle()
    page.locator('.noUi-handle').last.focus()
    page.keyboard.press('ArrowRight')
    page.wait_for_function('p => p.isConnected && p.data[0]?.y.length === 4', arg=plot)


def test_knobs_and_picture_fit_one_screen(page):
    "No live panel is higher than the window"
    _, box = frame(page, 0)
    assert box['height'] <= 1000 * .62 + 1


def test_a_guess_stays_when_another_is_made(page):
    "Each question has choices of its own"
    questions = page.locator('.touch-question:visible')
    for k in (0, 1): questions.nth(k).locator('input').first.check()
    assert page.locator('.touch-question input:checked').count() == 2


# ---- every lesson

@pytest.fixture(scope='module')
def desk(lab, browser):
    "JupyterLab without a notebook, into which one lesson after the other is opened"
    with opened(browser, lab) as page:
        page.goto(f'{lab}/lab/workspaces/desk')
        page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        yield page


def answered(page, act, cell) -> float:
    "Seconds from a touch to the kernel's word that something has changed"
    told = lambda m: re.search(rb'"method": ?"update"', m if isinstance(m, bytes) else m.encode())    # no mere echo
    page.heard.clear()
    start = time.perf_counter()
    act()
    while time.perf_counter() - start < WAIT / 1000:
        if any(map(told, page.heard)): return time.perf_counter() - start
        page.wait_for_timeout(5)
    raise AssertionError(f'the kernel did not answer in {cell}')


def drag(page, found, x=(.3, .65), y=(.4, .6)):
    "From one place of an element to another, held"
    found.scroll_into_view_if_needed()
    box = found.bounding_box()
    at = lambda k: (box['x'] + x[k] * box['width'], box['y'] + y[k] * box['height'])
    page.mouse.move(*at(0))
    page.mouse.down()
    page.mouse.move(*at(1), steps=4)
    page.mouse.up()


def slide(page, slider):
    "A slider's handle taken to the farther end"
    handle, track = slider.locator('.noUi-handle').first, slider.bounding_box()
    box = handle.bounding_box()
    at = (box['x'] + box['width'] / 2 - track['x']) / track['width']
    drag(page, slider, (at, .05 if at > .5 else .95), (.5, .5))


def click_of(page, cell):
    "A way to click in a widget: in its picture, on a knob, on a button; nothing where it has none"
    if cell.locator('.touch-handle').count():
        picture = cell.locator('.touch-frame').first
        return lambda: picture.click(position={k: .4 * v for k, v in dict(
            x=picture.bounding_box()['width'], y=picture.bounding_box()['height']).items()})
    if (tick := cell.locator('.widget-checkbox input')).count(): return tick.first.click
    if (menu := cell.locator('.jupyter-widgets select')).count() and not cell.locator('.jupyter-button').count():
        now = menu.first.locator('option:checked').inner_text()
        options = [o for o in menu.first.locator('option').all_inner_texts() if o != now]
        return lambda: menu.first.select_option(options[-1])
    if (button := cell.get_by_role('button', name='Step')).count(): return button.first.click
    return None


def guess_in(cell) -> bool:
    "Commits to a guess, in words or a place, and reveals the answer; whether there is a question"
    if not cell.locator('.touch-reveal:visible').count(): return False
    assert cell.locator('.touch-answer').count() == 0 and cell.locator('.touch-reveal').is_disabled()
    if (choices := cell.locator('.touch-question input')).count(): choices.first.click()
    else:
        box = cell.locator('.touch-frame').first.bounding_box()
        cell.locator('.touch-frame').first.click(position=dict(x=.75 * box['width'], y=.5 * box['height']))
    cell.locator('.touch-reveal').click()
    cell.locator('.touch-answer, .touch-layer').first.wait_for()
    return True


def drag_of(page, cell):
    "A way to drag in a widget: in its picture, a slider; nothing where it has neither"
    if cell.locator('.touch-handle').count(): return lambda: drag(page, cell.locator('.touch-frame').first)
    if (slider := cell.locator('.noUi-target:visible')).count(): return lambda: slide(page, slider.first)
    return None


@pytest.mark.parametrize('name', TOUCHED)
def test_lesson(name, desk):
    "Each widget of the lesson is drawn, and a click and a drag in it are answered; the times are printed, not judged"
    cells = [c for c in notebooks.demo(read(TOUCHED[name])) if c['cell_type'] == 'code']
    shown = [i for i, c in enumerate(cells) if slices.tagged(c, 'widget')]
    outputs, seconds, dragged = desk.evaluate(OPEN, f'{name}.ipynb'), [], 0
    assert [o for out in outputs for o in out if o['output_type'] == 'error'] == []
    panel = desk.locator('.jp-NotebookPanel:not(.lm-mod-hidden)')
    for i in shown:
        cell = panel.locator('.jp-CodeCell').nth(i)
        cell.scroll_into_view_if_needed()
        cell.locator('.touch[data-drawn], .js-plotly-plot, .jupyter-widgets').first.wait_for()
        if cell.locator('.touch').count(): cell.locator('.touch[data-drawn]').first.wait_for()
        ways, shows = (click_of(desk, cell), drag_of(desk, cell)), text(cells[i]['source']).splitlines()[-1]
        assert guess_in(cell) or any(ways), f'nothing to touch in {shows}'
        seconds += [answered(desk, way, shows) for way in ways if way]
        dragged += ways[1] is not None
    assert dragged, 'nothing in the lesson can be dragged'
    print(f'{name}: {len(shown)} widgets, answer after a touch: median {statistics.median(seconds):.2f} s')
    desk.wait_for_timeout(500)
    assert not desk.said
    desk.evaluate(CLOSE)
    desk.wait_for_timeout(500)
    desk.said.clear()                  # a widget may have had something to say to the kernel that is gone
