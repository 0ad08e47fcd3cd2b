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


def marks(page, n):
    "Waits until the game tells that so many patches are marked"
    page.locator('#verdict', has_text=f'{n or "none"} marked so far').wait_for()


def press(page, x, y):
    "Clicks at a place of the game's picture, in 0-1"
    picture = page.locator('#mine img')
    box = picture.bounding_box()
    picture.click(position=dict(x=x * box['width'], y=y * box['height']))


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
    page.get_by_role('button', name='Stop').click()            # at once: on a busy machine the run may be over while the curves are drawn
    page.locator('#said', has_text='may be resumed').wait_for()
    page.locator('#plot .js-plotly-plot').wait_for()
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


def test_misplaced_marks_and_answer(visit):
    "Clicks mark each their patch, another click takes a mark back; the answer tells both scores and shows the heat; the next picture begins anew"
    page = visit('Misplaced')
    marks(page, 0)
    bare = shown(page)
    for n, place in enumerate([(.05, .05), (.95, .05), (.55, .55)], 1):
        press(page, *place)
        marks(page, n)         # a click on a picture that is just being replaced would reach neither
    three = changed(page, bare)
    press(page, .95, .05)
    marks(page, 2)
    two = changed(page, three)
    page.get_by_role('button', name='Show the answer').click()
    page.locator('#heat img').wait_for()
    told = page.locator('#verdict').inner_text()
    assert re.search(r'You found \d+ of the 13 moved patches with .* false alarm', told) and 'the network found' in told
    assert 'as many patches as you (2)' in told and re.search(r'AUROC on this picture is [01]\.\d\d', told)
    assert shown(page) != two
    page.get_by_role('button', name='Clear marks').click()
    marks(page, 0)
    assert page.locator('#heat img:visible').count() == 0 and changed(page, two) == bare, 'the same picture with no marks is the same file'
    page.get_by_role('button', name='Next picture').click()
    changed(page, bare)


def test_misplaced_by_keyboard(visit):
    "Without a mouse: sliders point at a patch, a button marks it, another shows the answer"
    page = visit('Misplaced')
    marks(page, 0)
    bare = shown(page)
    fold = page.get_by_role('button', name='Click in the picture, or use sliders')
    fold.focus()
    page.keyboard.press('Enter')
    row = page.get_by_label('number input for Row').or_(page.get_by_role('spinbutton', name=re.compile('Row'))).first
    row.fill('3')
    row.press('Enter')
    pointed = changed(page, bare)
    page.get_by_role('button', name='Mark or unmark this patch').focus()
    page.keyboard.press('Enter')
    marks(page, 1)
    changed(page, pointed)
    page.get_by_role('button', name='Show the answer').focus()
    page.keyboard.press('Enter')
    page.locator('#heat img').wait_for()
    assert 'as many patches as you (1)' in page.locator('#verdict').inner_text()


def test_misplaced_is_each_visitors_own(visit):
    "One visitor's marks are not another's"
    first, second = visit('Misplaced'), visit('Misplaced')
    press(first, .3, .3)
    marks(first, 1)
    press(second, .6, .6)
    marks(second, 1)
    press(second, .8, .8)
    marks(second, 2)
    marks(first, 1)


@pytest.mark.parametrize('tab,place', [('Misplaced', '#puzzle-photo'), ('Locate', '#locate-photo')])
def test_new_tabs_take_photos(visit, photo, tmp_path, tab, place):
    "An own photo changes the figure; a file that is none gets one sentence that names it"
    page = visit(tab)
    before, bad = shown(page), tmp_path/'notes.jpg'
    page.locator(f'{place} input[type=file]').set_input_files(photo)
    changed(page, before)
    page.locator(f'{place} button[aria-label^=Remove], {place} button[aria-label=Clear]').first.click()
    bad.write_text('Dear diary, this is not a picture.\n')
    page.locator(f'{place} input[type=file]').set_input_files(bad)
    toast = page.locator('.toast-body').first
    toast.wait_for()
    assert bad.name in toast.inner_text() and 'Traceback' not in toast.inner_text()


def test_locate_three_at_once(visit):
    "Three answers side by side, each with its accuracy; a click in any moves the piece, and so do the sliders"
    page = visit('Locate')
    page.locator(FIGURE).nth(2).wait_for()
    for word in ('all', 'a fifth', 'none'): page.locator('.caption', has_text=re.compile(rf'Visible: {word} · of \d+ patches \d+ within one cell')).first.wait_for()
    before = [shown(page, n) for n in range(3)]
    figure = page.locator(FIGURE).nth(1)
    box = figure.bounding_box()
    figure.click(position=dict(x=.8 * box['width'], y=.8 * box['height']))
    after = [changed(page, before[n], n) for n in range(3)]
    page.get_by_role('button', name='Click in a picture, or use sliders').click()
    x = page.get_by_label('number input for Centre: x').or_(page.get_by_role('spinbutton', name=re.compile('Centre: x'))).first
    assert abs(float(x.input_value()) - .8) < .03
    x.fill('0.1')
    x.press('Enter')
    changed(page, after[0])


def test_home_cards_open_their_tabs(visit):
    "Each method that has an app has a card, and the card a door"
    page = visit()
    assert page.locator('.card .name').all_inner_texts() and len(page.locator('.card').all()) == 6
    page.locator('.card', has_text='DILEMMA').get_by_role('button', name='Open').click()
    marks(page, 0)


@pytest.fixture(scope='module')
def moments(tmp_path_factory):
    "Two pictures of one shape and two sizes, one of another shape, and films of many frames and of one"
    from ssl_workbench.data import write_video
    from ssl_workbench.show import to_image
    from ssl_workbench.world import batch
    folder = tmp_path_factory.mktemp('moments')
    clip = batch([500_100], kind='scene', level=1, size=(120, 160), frames=6, truth=False)['frames'][0]
    to_image(clip[0]).resize((640, 480)).save(folder/'large.png')
    to_image(clip[2]).save(folder/'small.png')
    to_image(clip[2]).rotate(90, expand=True).save(folder/'turned.png')
    write_video(clip, folder/'film.mp4')
    write_video(clip[:1], folder/'still.mp4')
    return folder


def toast(page):
    "The sentence of the newest refusal, once it is there"
    box = page.locator('.toast-body').first
    box.wait_for()
    said = box.inner_text()
    assert 'Traceback' not in said and said.rstrip().endswith('.')
    return said


def test_flow_first_click(visit):
    "Without an upload: sources side by side, a table with the error of nothing moving; the slider pushes A, another pair is another figure"
    page = visit('Flow')
    page.locator('#flow-table', has_text='nothing moves').wait_for()
    assert page.locator('.caption:visible', has_text='pixels off on average').count() >= 1
    assert re.search(r'DIS\s+\d+\.\d\d', page.locator('#flow-table').inner_text())
    said = page.locator('#flow-said').inner_text()
    assert '256 × 192 pixels' in said and said.count('RAFT') <= 2
    source = lambda name: page.locator(f'#{name} img').get_attribute('src')
    first, half, crossed = source('flow-frame-a'), source('flow-moved'), source('flow-arrows')
    s = page.get_by_label('number input for From A').or_(page.get_by_role('spinbutton', name=re.compile('From A'))).first
    s.fill('0')
    s.press('Enter')
    page.wait_for_function("old => { const i = document.querySelector('#flow-moved img'); return i && i.getAttribute('src') != old }", arg=half)
    assert source('flow-frame-a') == first
    page.get_by_label('truth', exact=True).check()
    page.wait_for_function("old => { const i = document.querySelector('#flow-arrows img'); return i && i.getAttribute('src') != old }", arg=crossed)
    page.get_by_label('driving').check()
    page.locator('#flow-said', has_text='320 × 160 pixels').wait_for()


def test_flow_of_own_frames(visit, moments):
    "Two pictures of unequal size are brought to one; other shapes, and a film of one frame, are refused in a sentence"
    page = visit('Flow')
    page.get_by_label('Two pictures').check()
    page.locator('#flow-a input[type=file]').set_input_files(moments/'large.png')
    page.locator('#flow-said', has_text='One picture more').wait_for()
    page.locator('#flow-b input[type=file]').set_input_files(moments/'small.png')
    page.locator('#flow-said', has_text='shrunk from 640 × 480').wait_for()
    assert 'B, 160 × 120, is brought to the size of A' in page.locator('#flow-said').inner_text()
    page.locator('#flow-b button[aria-label^=Remove], #flow-b button[aria-label=Clear]').first.click()
    page.locator('#flow-said', has_text='One picture more').wait_for()
    page.locator('#flow-b input[type=file]').set_input_files(moments/'turned.png')
    assert 'differ in shape' in toast(page)
    page.get_by_label('A clip').check()
    page.locator('#flow-said', has_text='of 16').wait_for()
    page.locator('#flow-clip input[type=file]').set_input_files(moments/'film.mp4')
    page.locator('#flow-said', has_text='of 6').wait_for()


def test_flow_refuses_one_frame(moments):
    "A film of one frame, a file that is none, and pictures of two shapes: one sentence each"
    from ssl_workbench import hub
    def said(where, first=None, second=None, clip=None):
        with pytest.raises(ValueError) as told: hub.frames_from(where, 'scene', 1, 1, first, second, clip, 0., 1)
        assert '\n' not in str(told.value) and str(told.value).endswith('.')
        return str(told.value)
    world, pictures, clip = hub.PLACES
    (moments/'notes.mp4').write_text('Dear diary, this is no film.')
    assert said(clip, clip=str(moments/'still.mp4')) == 'still.mp4 holds one frame only: motion needs two.'
    assert 'notes.mp4' in said(clip, clip=str(moments/'notes.mp4'))
    assert '640 × 480 and 120 × 160' in said(pictures, str(moments/'large.png'), str(moments/'turned.png'))
    pair = hub.frames_from(pictures, 'scene', 1, 1, str(moments/'large.png'), str(moments/'small.png'), None, 0., 1)
    assert pair['frames'].shape == (2, 3, 336, 448)


def test_raft_is_asked_once():
    "Where RAFT's weights cannot be had, the page says so in one sentence and does not ask again"
    from ssl_workbench import hub
    asked = []
    def refusing():
        asked.append(1)
        raise ValueError('RAFT is left out: no weights.')
    pair = hub.paired(*hub.world_pair('bounce', 5, 2)['frames'])
    with mock.patch.object(hub, '_raft', hub.Once(refusing, 'wait')):
        for _ in range(3):
            found, missing = hub.flows_of(pair)
            assert 'DIS' in found and 'RAFT' not in found and 'RAFT is left out: no weights.' in missing
    assert len(asked) == 1


def test_poodle_tab(visit):
    "Pairs of subcrops at once; features and classes when their tabs are opened, three pictures each, other at another moment"
    page = visit('PooDLe')
    before = shown(page)
    k = page.get_by_label('number input for Pairs K').or_(page.get_by_role('spinbutton', name=re.compile('Pairs K'))).first
    k.fill('2')
    k.press('Enter')
    changed(page, before)
    for tab, word in (('Features', 'A random network'), ('Classes', 'mean IoU over the clip')):
        page.get_by_role('tab', name=tab, exact=True).click()
        page.locator(FIGURE).nth(2).wait_for()
        page.locator('.caption:visible', has_text=word).first.wait_for()
        before = shown(page, 1)
        moment = page.get_by_label('number input for Moment').or_(page.get_by_role('spinbutton', name=re.compile('Moment'))).locator('visible=true').first
        moment.fill('1')
        moment.press('Enter')
        changed(page, before, 1)


def number(page, label, value):
    "Types a number beside a slider"
    box = page.get_by_label(f'number input for {label}').or_(page.get_by_role('spinbutton', name=re.compile(label))).locator('visible=true').first
    box.fill(str(value))
    box.press('Enter')


def test_river_predicts(visit):
    "Frames take shape, then futures play beside the truth with their PSNR and as files; what is shown being another, they go"
    from ssl_workbench import catalog
    calls = 4 if catalog.card('river')['config']['guidance'] > 1 else 2   # two steps, and guidance asks twice
    page = visit('River')
    page.locator('#river-stage .unknown').nth(2).wait_for()
    number(page, 'Steps', 2)
    number(page, 'Frames to come', 2)
    number(page, 'Futures', 2)
    page.wait_for_function("document.querySelectorAll('#river-stage .unknown').length == 2")
    page.locator('#river-go').click()
    page.locator('#river-said', has_text=f'Done: 2 frames, {calls} network calls a frame').wait_for()
    page.locator('#river-table', has_text='the last seen frame again').wait_for()
    assert page.locator('#river-stage .tile').count() == 3 and page.locator('#river-film img').count() == 3
    assert page.locator('#river-stage .tile img').first.evaluate('e => getComputedStyle(e).animationName').endswith('reel')
    for kind, start in (('mp4', b'ftyp'), ('gif', b'GIF8')):
        with page.expect_download() as file: page.locator(f'#river-{kind}').click()
        assert start in Path(file.value.path()).read_bytes()[:12]
    page.locator('#river-kind').get_by_label('a walker').check()
    page.wait_for_function("document.querySelectorAll('#river-stage .unknown').length == 2 && !document.querySelector('#river-film img')")


def test_river_of_own_balls(visit):
    "Two clicks put a ball down and send it off; a click on a ball is refused in a sentence"
    page = visit('River')
    page.locator('#river-stage .unknown').first.wait_for()
    page.get_by_label('Balls of yours').check()
    canvas = page.locator('#river-canvas img')
    source = lambda: canvas.get_attribute('src')
    def click(x, y):
        before, box = source(), canvas.bounding_box()
        canvas.click(position=dict(x=x * box['width'], y=y * box['height']))
        page.wait_for_function("old => { const i = document.querySelector('#river-canvas img'); return i && i.getAttribute('src') != old }", arg=before)
    canvas.wait_for()
    for place in ((.5, .15), (.3, .15)): click(*place)
    box = canvas.bounding_box()
    canvas.click(position=dict(x=.5 * box['width'], y=.15 * box['height']))
    assert 'There is a ball already' in toast(page)


def test_river_says_what_weights_cannot():
    "Weights trained without planning or blank conditions say so; no balls, and a clip that is too short, are one sentence each"
    from ssl_workbench import hub
    name = 'river' + hub.RANDOM
    method, options = hub.model(name), hub.options_of(1, 0, 1, 'euler', 0., 0)
    ends = hub.ends_from(name, hub.ENDS[0], 'bounce', 3, None, None, 2)
    assert hub.ends_from(name, hub.ENDS[1], 'bounce', 3, 'a.png', None, 2) is None and ends['truth'].shape == (2, 3, 64, 64)
    for what, rolls in (('plan', hub.plan_rolls(method, ends, 2, **options)), ('blank', hub.blank_rolls(method, 2, **options))):
        assert hub.able(name, what)['value'] == hub.CANNOT[what]
        with pytest.raises(ValueError, match='were trained without'): next(rolls)
    clip = dict(clip=hub.example_clip(), moment=1., every=8, seen=3, ahead=4)
    with pytest.raises(ValueError, match=r'has 2 frames to show, not 3'): hub.past_from(name, hub.PASTS[2], 'bounce', 1, [], **clip)
    with pytest.raises(ValueError, match='no ball yet'): hub.past_from(name, hub.PASTS[1], 'bounce', 1, [], **clip)
    shown = hub.past_from(name, hub.PASTS[2], 'bounce', 1, [], **clip | dict(every=1))
    assert shown['seen'].shape == (3, 3, 64, 64) and shown['truth'] is None, 'at the end of a clip nothing more is known'


def test_river_plans_and_begins_from_nothing():
    "Weights that can: as many frames as asked for, from the seed alone, drawn step by step as `plan` and `generate` draw them"
    from ssl_workbench import catalog, hub
    method = catalog.build('river', 'cpu', dict(plan=.3, blank=.1, depth=1, middle=1, dim=32)).eval()
    options = hub.options_of(2, 5, 2, 'midpoint', 0., 0)
    ends = hub.ends_from('river' + hub.RANDOM, hub.ENDS[0], 'bounce', 3, None, None, 3)
    last = [s for s in hub.unrolled(method, hub.plan_rolls(method, ends, 3, **options))][-1]
    whole = method.plan(ends['seen'][None], ends['last'][None], 3, steps=2, solver='midpoint', seed=hub.seeds_from(5, 1))
    assert last['calls'] == 12 and (last['done'][0].int() - hub.to_uint8(whole[0]).int()).abs().max() <= 1
    *_, last = hub.unrolled(method, hub.blank_rolls(method, 3, **options))
    assert last['now'] is None and last['done'].shape == (2, 3, 3, 64, 64) and last['calls'] == 12
    whole = method.generate(2, 3, steps=2, solver='midpoint', seed=hub.seeds_from(5, 2))
    assert (last['done'].int() - hub.to_uint8(whole.flatten(0, 1)).view_as(last['done']).int()).abs().max() <= 1


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
    for tab in ('Home', 'Slots', 'Attention', 'Misplaced', 'Locate', 'Flow', 'PooDLe', 'River', 'Train'):
        show(page, tab)
        assert page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth'), f'{tab} scrolls sideways'
        if tab != 'Home': assert page.locator(FIGURE).first.bounding_box()['width'] > (140 if tab in ('Flow', 'River') else 300)   # they stand side by side
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
    assert any(type(b).__name__ == 'Tab' for b in page.blocks.values()) == (app in ('hub', 'slots', 'poodle', 'river'))


def test_rivals_have_a_row():
    "Where the weights trained with nothing, most and all of the reference hidden are bundled, they stand side by side; else the row is absent"
    from ssl_workbench import hub
    pictures = lambda page: sum(type(b).__name__ == 'Image' and b.interactive is False for b in page.blocks.values())
    with mock.patch.object(hub, 'rivals', lambda: []): assert pictures(hub.build('locate')) == 3
    with mock.patch.object(hub, 'rivals', lambda: ['loca' + hub.RANDOM] * 3): assert pictures(hub.build('locate')) == 6


def test_taken_port():
    "A port that is in use is one sentence"
    from ssl_workbench import hub
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        with pytest.raises(SystemExit, match='cannot be had'): hub.shell('train', [str(s.getsockname()[1])])
