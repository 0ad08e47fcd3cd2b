"""The workbench in a headless browser: what a visitor, a phone, a keyboard and twenty at once find."""
import contextlib
import inspect
import os
import re
import runpy
import shutil
import socket
import statistics
import sys
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT/'ssl_workbench/app'
sys.path.insert(0, str(ROOT))
pytest.importorskip('gradio')
pytest.importorskip('playwright')
from playwright.sync_api import TimeoutError  # noqa: E402

from benchmarks import app as bench  # noqa: E402
from benchmarks.speed import visitors  # noqa: E402

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
    opened.errors = errors
    yield opened
    for context in contexts: context.close()
    if not contexts: return                            # a test that was skipped before it opened a page
    assert requests and not [r for r in requests if not r.startswith((url, 'data:', 'blob:'))]
    assert not errors


def show(page, tab):
    "Opens a tab and waits for its figure; on a phone the last tabs are in a menu"
    button = page.get_by_role('tab', name=tab, exact=True)
    if not button.count():
        page.get_by_role('button', name='More tabs').first.click()
        button = page.locator('.overflow-dropdown button:visible', has_text=tab)
    button.first.click()
    if tab != 'Home': page.locator(FIGURE).first.wait_for()


def shown(page, n=0): return page.locator(FIGURE).nth(n).get_attribute('src')


def changed(page, before, n=0):
    "Waits until the n-th visible figure is another one; its address"
    page.wait_for_function('''([n, old]) => {
        const i = [...document.querySelectorAll('.figure img')].filter(e => e.offsetParent)[n];
        return i && i.src && i.getAttribute('src') != old && i.complete && i.naturalWidth > 0 }''', arg=[n, before])
    return shown(page, n)


def replaced(page, place, before):
    "Waits until the picture at a place is another one"
    page.wait_for_function('''([place, old]) => {
        const i = document.querySelector(`${place} img`);
        return i && i.getAttribute('src') != old }''', arg=[place, before])


def number_box(page, label):
    "The visible field beside a slider"
    field = page.get_by_label(f'number input for {label}').or_(page.get_by_role('spinbutton', name=re.compile(label)))
    return field.locator('visible=true').first


def number(page, label, value):
    "Types a number beside a slider"
    box = number_box(page, label)
    box.fill(str(value))
    box.press('Enter')


def drop(page, path): page.locator('#photo input[type=file]').set_input_files(path)


def marks(page, n):
    "Waits until the game shows that so many patches are marked"
    page.locator('#verdict', has_text=f'{n or "none"} marked so far').wait_for()


def press(page, x, y):
    "Clicks at a place of the game's picture, in 0-1"
    picture = page.locator('#marked img')
    box = picture.bounding_box()
    picture.click(position=dict(x=x * box['width'], y=y * box['height']))


def steps(page): return int(re.search(r'Step (\d+)', page.locator('#status').inner_text()).group(1))


def test_photo_and_click(visit, photo):
    "A dropped photo changes the figure; a click shows what else a prototype wins"
    page = visit('Slots')
    before = shown(page)
    drop(page, photo)
    after = changed(page, before)
    found = page.locator('#retrieved')
    found.get_by_text('What else this prototype wins').wait_for()
    assert found.locator('img').count() >= 1
    sources = "[...document.querySelectorAll('#retrieved img')].map(i => i.src).join()"
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
    sentence = toast(page)
    assert bad.name in sentence and len(sentence) < 300
    assert shown(page) == before, 'what was on screen stays there'
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
    box_of = page.locator(FIGURE).nth(1).bounding_box()           # a tall picture has margins at its sides
    page.locator(FIGURE).nth(1).click(position=dict(x=.4 * box_of['width'], y=.2 * box_of['height']))
    changed(page, alike, 1)
    number(page, 'Head', 2)
    changed(page, after)
    box.fill('resnet_of_my_dreams')
    box.press('Enter')
    toast = page.locator('.toast-body').first
    toast.wait_for()
    assert "no model 'resnet_of_my_dreams'" in toast.inner_text()


def test_train_stop_resume(visit):
    "Steps grow and the pictures change; stop keeps the run, resume goes on from its step, start over forgets it"
    page = visit('Training')
    before, go = shown(page), page.get_by_role('button', name='Start · resume')
    go.click()
    before = changed(page, before)
    page.wait_for_function("() => +(/Step (\\d+)/.exec(document.querySelector('#status').innerText) || [0, 0])[1] >= 2")
    page.get_by_role('button', name='Stop').click()  # at once: the run may be over while the curves are drawn
    page.locator('#status', has_text='can be resumed').wait_for()
    page.locator('#plot .js-plotly-plot').wait_for()
    at = steps(page)
    assert at >= 2 and shown(page) != before
    page.evaluate('''() => {
        const line = document.querySelector('#status');
        window.lines = [];
        new MutationObserver(() => window.lines.push(line.innerText))
            .observe(line, {subtree: true, childList: true, characterData: true}) }''')
    go.click()
    page.wait_for_function("at => +/Step (\\d+)/.exec(document.querySelector('#status').innerText)[1] > at", arg=at)
    seen = [int(n) for n in re.findall(r'Step (\d+)', ' '.join(page.evaluate('window.lines')))]
    assert seen and seen == sorted(seen) and min(seen) >= at
    page.get_by_role('button', name='Start over').click()
    page.locator('#status', has_text='Not started').wait_for()


def test_positions_marks_and_answer(visit):
    "Clicks mark patches, another click takes a mark back; the answer has both scores and heat; then the next picture"
    page = visit('Positions')
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
    page.locator('#suspicion img').wait_for()
    verdict = page.locator('#verdict').inner_text()
    assert re.search(r'You found \d+ of the 13 moved patches with .* false alarm', verdict)
    assert 'the network found' in verdict and 'as many patches as you (2)' in verdict
    assert re.search(r'AUROC on this picture is [01]\.\d\d', verdict)
    assert shown(page) != two
    page.get_by_role('button', name='Clear marks').click()
    marks(page, 0)
    assert page.locator('#suspicion img:visible').count() == 0
    assert changed(page, two) == bare, 'the same picture with no marks is the same file'
    page.get_by_role('button', name='Next picture').click()
    changed(page, bare)


def test_positions_by_keyboard(visit):
    "Without a mouse: sliders point at a patch, a button marks it, another shows the answer"
    page = visit('Positions')
    marks(page, 0)
    bare = shown(page)
    fold = page.get_by_role('button', name='Click in the picture, or use sliders')
    fold.focus()
    page.keyboard.press('Enter')
    number(page, 'Row', 3)
    pointed = changed(page, bare)
    page.get_by_role('button', name='Mark or unmark this patch').focus()
    page.keyboard.press('Enter')
    marks(page, 1)
    changed(page, pointed)
    page.get_by_role('button', name='Show the answer').focus()
    page.keyboard.press('Enter')
    page.locator('#suspicion img').wait_for()
    assert 'as many patches as you (1)' in page.locator('#verdict').inner_text()


def test_positions_is_each_visitors_own(visit):
    "One visitor's marks are not another's"
    first, second = visit('Positions'), visit('Positions')
    press(first, .3, .3)
    marks(first, 1)
    press(second, .6, .6)
    marks(second, 1)
    press(second, .8, .8)
    marks(second, 2)
    marks(first, 1)


@pytest.mark.parametrize('tab,place', [('Positions', '#positions-photo'), ('Locations', '#locations-photo')])
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


def test_locations_three_at_once(visit):
    "Three answers side by side, each with its accuracy; a click in any moves the piece, and so do the sliders"
    page = visit('Locations')
    page.locator(FIGURE).nth(2).wait_for()
    for word in ('all', 'a fifth', 'none'):
        line = re.compile(rf'Visible: {word} · of \d+ patches, \d+ within one cell')
        page.locator('.caption', has_text=line).first.wait_for()
    before = [shown(page, n) for n in range(3)]
    figure = page.locator(FIGURE).nth(1)
    box = figure.bounding_box()
    figure.click(position=dict(x=.8 * box['width'], y=.8 * box['height']))
    after = [changed(page, before[n], n) for n in range(3)]
    page.get_by_role('button', name='Click in a picture, or use sliders').click()
    x = number_box(page, 'Centre: x')
    assert abs(float(x.input_value()) - .8) < .03
    x.fill('0.1')
    x.press('Enter')
    changed(page, after[0])


def test_home_cards_open_their_tabs(visit):
    "Each method that has an app has a card, and the card a door"
    from ssl_workbench.app.shell import pages
    page, cards = visit(), [p for p in pages().values() if p.thumbnail]
    assert page.locator('.card .name').all_inner_texts() and len(page.locator('.card').all()) == len(cards) > 6
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
    sentence = box.inner_text()
    assert 'Traceback' not in sentence and sentence.rstrip().endswith('.')
    return sentence


def test_flow_first_click(visit):
    "Without an upload: sources side by side, a table with nothing moving; the slider moves A, another pair is drawn"
    page = visit('Flow')
    page.locator('#flow-table', has_text='nothing moves').wait_for()
    assert page.locator('.caption:visible', has_text='pixels off on average').count() >= 1
    errors = dict(re.findall(r'(MC-JEPA|DIS|nothing moves)\s+(\d+\.\d\d)', page.locator('#flow-table').inner_text()))
    assert float(errors['MC-JEPA']) < float(errors['DIS']) < float(errors['nothing moves'])
    status = page.locator('#flow-status').inner_text()
    assert '128 × 128 pixels' in status and status.count('RAFT') <= 2
    source = lambda name: page.locator(f'#{name} img').get_attribute('src')
    first, half, crossed = source('flow-frame-a'), source('flow-warped'), source('flow-arrows')
    number(page, 'From A', 0)
    replaced(page, '#flow-warped', half)
    assert source('flow-frame-a') == first
    page.get_by_label('truth', exact=True).check()
    replaced(page, '#flow-arrows', crossed)
    page.get_by_label('scene', exact=True).check()
    page.locator('#flow-status', has_text='256 × 192 pixels').wait_for()


def test_flow_of_own_frames(visit, moments):
    "Two pictures of unequal size are brought to one; other shapes, and a film of one frame, are refused in a sentence"
    page = visit('Flow')
    page.get_by_label('Two pictures').check()
    page.locator('#flow-a input[type=file]').set_input_files(moments/'large.png')
    page.locator('#flow-status', has_text='One more picture').wait_for()
    page.locator('#flow-b input[type=file]').set_input_files(moments/'small.png')
    page.locator('#flow-status', has_text='shrunk from 640 × 480').wait_for()
    assert 'B, 160 × 120, is resized to match A' in page.locator('#flow-status').inner_text()
    page.locator('#flow-b button[aria-label^=Remove], #flow-b button[aria-label=Clear]').first.click()
    page.locator('#flow-status', has_text='One more picture').wait_for()
    page.locator('#flow-b input[type=file]').set_input_files(moments/'turned.png')
    assert 'differ in shape' in toast(page)
    page.get_by_label('A clip').check()
    page.locator('#flow-status', has_text='frames 1 and').wait_for()
    page.locator('#flow-clip input[type=file]').set_input_files(moments/'film.mp4')
    page.locator('#flow-status', has_text='of 6').wait_for()


def test_flow_refuses_one_frame(moments):
    "A film of one frame, a file that is none, and pictures of two shapes: one sentence each"
    from ssl_workbench.app.flow import ORIGINS, frames_from
    def frames(where, first=None, second=None, clip=None):
        return frames_from(where, 'scene', 1, 1, first, second, clip, 1, 1)
    def refusal(*where, **files):
        with pytest.raises(ValueError) as error: frames(*where, **files)
        assert '\n' not in str(error.value) and str(error.value).endswith('.')
        return str(error.value)
    _, pictures, clip = ORIGINS
    large, small, turned = (str(moments/f'{name}.png') for name in ('large', 'small', 'turned'))
    (moments/'notes.mp4').write_text('Dear diary, this is no film.')
    assert refusal(clip, clip=str(moments/'still.mp4')) == 'still.mp4 holds a single frame: motion needs two.'
    assert 'notes.mp4' in refusal(clip, clip=str(moments/'notes.mp4'))
    assert '640 × 480 and 120 × 160' in refusal(pictures, large, turned)
    assert frames(pictures, large, small)['frames'].shape == (2, 3, 336, 448)


def test_raft_is_requested_once():
    "Where RAFT's weights cannot be had, the page has one sentence for it and does not try again"
    from ssl_workbench.app import motion
    calls = []
    def refusing():
        calls.append(1)
        raise ValueError('RAFT is left out: no weights.')
    pair = motion.picture_pair(*motion.world_pair('bounce', 5, 2)['frames'])
    with mock.patch.object(motion, 'raft', motion.Once(refusing, 'wait')):
        for _ in range(3):
            found, missing = motion.flows_of(pair)
            assert 'DIS' in found and 'RAFT' not in found and 'RAFT is left out: no weights.' in missing
    assert len(calls) == 1


def test_features_tab(visit):
    "Pairs of subcrops at once; features and classes in their tabs, three pictures each, others at another moment"
    page = visit('Features')
    before = shown(page)
    number(page, 'Pairs K', 2)
    changed(page, before)
    for tab, word in (('Features', 'A random network'), ('Classes', 'mean IoU over the clip')):
        page.get_by_role('tab', name=tab, exact=True).locator('visible=true').last.click()
        page.locator(FIGURE).nth(2).wait_for()
        page.locator('.caption:visible', has_text=word).first.wait_for()
        before = shown(page, 1)
        number(page, 'Frame', 9)
        changed(page, before, 1)



def test_frames_predicts(visit):
    "Frames take shape, then futures play beside the truth with PSNR and as files; other frames given, they go"
    from ssl_workbench import catalog
    calls = 4 if catalog.card('river')['config']['guidance'] > 1 else 2   # two steps, and guidance asks twice
    page = visit('Frames')
    page.locator('#frames-stage .unknown').nth(2).wait_for()
    number(page, 'Steps', 2)
    number(page, 'Frames to come', 2)
    number(page, 'Futures', 2)
    page.wait_for_function("document.querySelectorAll('#frames-stage .unknown').length == 2")
    page.locator('#frames-go').click()
    page.locator('#frames-status', has_text=f'Done: 2 frames, {calls} network calls a frame').wait_for()
    page.locator('#frames-table', has_text='last seen frame repeated').wait_for()
    assert page.locator('#frames-stage .tile').count() == 3 and page.locator('#frames-strip img').count() == 3
    playing = page.locator('#frames-stage .tile img').first
    assert playing.evaluate('e => getComputedStyle(e).animationName').endswith('reel')
    for kind, start in (('mp4', b'ftyp'), ('gif', b'GIF8')):
        with page.expect_download() as file: page.locator(f'#frames-{kind}').click()
        assert start in Path(file.value.path()).read_bytes()[:12]
    page.locator('#frames-kind').get_by_label('a walker').check()
    page.wait_for_function('''() => document.querySelectorAll('#frames-stage .unknown').length == 2
                                    && !document.querySelector('#frames-strip img')''')


def test_frames_of_a_real_clip(visit):
    "The weights have seen drawn balls: choosing a clip, the example too, says so, and going back takes it away"
    from ssl_workbench.app.models import example_clips, is_real
    if not is_real(example_clips()[0]): pytest.skip('no real clip is on this machine')
    page = visit('Frames')
    said = page.locator('.prose.untrained:visible', has_text='Beyond these weights')
    page.locator('#frames-stage .unknown').first.wait_for()
    assert not said.count()
    page.get_by_label('A clip', exact=True).first.check()
    said.wait_for()
    page.get_by_label('The drawn world', exact=True).first.check()
    said.wait_for(state='hidden')


def test_frames_of_own_balls(visit):
    "Two clicks put a ball down and send it off; a click on a ball is refused in a sentence"
    page = visit('Frames')
    page.locator('#frames-stage .unknown').first.wait_for()
    page.get_by_label('Balls of yours').check()
    canvas = page.locator('#frames-canvas img')
    source = lambda: canvas.get_attribute('src')
    def click(x, y):
        before, box = source(), canvas.bounding_box()
        canvas.click(position=dict(x=x * box['width'], y=y * box['height']))
        replaced(page, '#frames-canvas', before)
    canvas.wait_for()
    for place in ((.5, .15), (.3, .15)): click(*place)
    from playwright.sync_api import TimeoutError
    for _ in range(4):               # a click on a picture that is just being replaced is lost
        box = canvas.bounding_box()
        canvas.click(position=dict(x=.5 * box['width'], y=.15 * box['height']))
        try: page.locator('.toast-body').first.wait_for(timeout=20_000)
        except TimeoutError: continue
        break
    assert 'There is already a ball' in toast(page)


def test_frames_names_what_weights_cannot():
    "Weights without planning or blank conditions, no balls, a clip that is too short: one sentence each"
    from ssl_workbench.app import rollouts
    from ssl_workbench.app.models import RANDOM, example_clip, model
    name = 'river' + RANDOM
    options, (world, pictures) = rollouts.rollout_options(1, 0, 1, 'euler', 0., 0), rollouts.ENDS
    ends = rollouts.end_frames(name, world, 'bounce', 3, None, None, 2)
    assert ends['truth'].shape == (2, 3, 64, 64)
    assert rollouts.end_frames(name, pictures, 'bounce', 3, 'a.png', None, 2) is None
    with pytest.raises(ValueError, match='were trained without'):
        next(rollouts.rollouts_between(model(name), ends, 2, **options))
    with pytest.raises(ValueError, match='were trained without'):
        next(rollouts.rollouts_blank(model(name), 2, **options))
    _, balls, clip = rollouts.ORIGINS
    given = dict(clip=example_clip(), start=999, every=8, seen=3, ahead=4)
    past = lambda where, **more: rollouts.past_frames(name, where, 'bounce', 1, [], **given | more)
    with pytest.raises(ValueError, match='Only 2 frames of the clip can be given, not 3'): past(clip)
    with pytest.raises(ValueError, match='no ball yet'): past(balls)
    end = past(clip, every=1)
    assert end['seen'].shape == (3, 3, 64, 64) and end['truth'] is None, 'at the end of a clip nothing more is known'


def test_frames_between_and_from_nothing():
    "Weights that can: as many frames as wanted, from the seed alone, step by step as `plan` and `generate` draw them"
    from ssl_workbench import catalog
    from ssl_workbench.app import rollouts
    from ssl_workbench.app.models import RANDOM
    from ssl_workbench.data import to_uint8
    method = catalog.build('river', 'cpu', dict(plan=.3, blank=.1, depth=1, middle=1, dim=32)).eval()
    options, how = rollouts.rollout_options(2, 5, 2, 'midpoint', 0., 0), dict(steps=2, solver='midpoint')
    ends = rollouts.end_frames('river' + RANDOM, rollouts.ENDS[0], 'bounce', 3, None, None, 3)
    *_, last = rollouts.rollout_states(method, rollouts.rollouts_between(method, ends, 3, **options))
    whole = method.plan(ends['seen'][None], ends['last'][None], 3, seed=rollouts.future_seeds(5, 1), **how)
    assert last['calls'] == 12 and (last['done'][0].int() - to_uint8(whole[0]).int()).abs().max() <= 1
    *_, last = rollouts.rollout_states(method, rollouts.rollouts_blank(method, 3, **options))
    assert last['now'] is None and last['done'].shape == (2, 3, 3, 64, 64) and last['calls'] == 12
    whole = method.generate(2, 3, seed=rollouts.future_seeds(5, 2), **how)
    assert (last['done'].int() - to_uint8(whole.flatten(0, 1)).view_as(last['done']).int()).abs().max() <= 1


def test_clip(visit):
    "The example clip falls apart into slots; another moment is another figure"
    page = visit('Slots')
    page.get_by_role('tab', name='Clip', exact=True).click()
    page.locator(FIGURE).first.wait_for()
    before = shown(page)
    number(page, 'Frame', 5)
    changed(page, before)


def test_keyboard(visit):
    "Tab reaches the tabs, Enter opens one, Tab goes on to its controls"
    page = visit()
    at = lambda: page.evaluate('''() => {
        const e = document.activeElement;
        return `${e.getAttribute("role") || e.tagName} ${e.innerText || e.ariaLabel || e.type || ""}`.trim() }''')
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
    for tab in ('Home', 'Slots', 'Attention', 'Positions', 'Locations', 'Flow', 'Features', 'Frames', 'Training'):
        show(page, tab)
        fits = page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth')
        assert fits, f'{tab} scrolls sideways'
        if tab == 'Home': continue
        least = 140 if tab in ('Flow', 'Frames') else 300   # there they stand side by side
        assert page.locator(FIGURE).first.bounding_box()['width'] > least
    ground = "getComputedStyle(document.querySelector('.gradio-container')).color"
    light, switch = page.evaluate(ground), page.get_by_role('button', name='Light / dark')
    switch.click()
    page.wait_for_function(f'light => {ground} != light', arg=light)
    switch.click()
    page.wait_for_function(f'light => {ground} == light', arg=light)


@pytest.fixture(scope='module')
def panorama(tmp_path_factory):
    "3000 × 500 pixels: four scenes side by side"
    from PIL import Image
    folder = tmp_path_factory.mktemp('panorama')
    whole = Image.new('RGB', (3000, 500))
    for k in range(4): whole.paste(Image.open(bench.photo(folder/f'{k}.jpg', k, (500, 750))), (750 * k, 0))
    whole.save(folder/'panorama.jpg', quality=90)
    return folder/'panorama.jpg'


def test_a_panorama_on_a_phone(visit, panorama):
    "A figure six times as wide as high is still high enough to touch; it scrolls in its frame, the page does not"
    page = visit('Slots', viewport=dict(width=390, height=844))
    usual, before = page.locator(FIGURE).first.bounding_box(), shown(page)
    drop(page, panorama)
    changed(page, before)
    page.wait_for_function('''[...document.querySelectorAll('.figure img')].filter(e => e.offsetParent)[0]
        .style.getPropertyValue('--ratio') > 5''')
    figure = page.locator(FIGURE).first
    frame, box = figure.locator('..'), figure.bounding_box()
    assert abs(usual['width'] - frame.bounding_box()['width']) < 2, 'a usual picture fills its frame'
    assert 148 < box['height'] < 152 and abs(box['width'] / box['height'] - 6) < .1
    assert abs(box['x'] - frame.bounding_box()['x']) < 2, 'its left end is seen first'
    frame.evaluate('e => e.scrollLeft = e.scrollWidth')
    right = lambda e: e.bounding_box()['x'] + e.bounding_box()['width']
    assert abs(right(figure) - right(frame)) < 2, 'its right end can be reached'
    assert page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth')
    page.locator('button:visible', has_text='Click in the figure, or use sliders').first.click()
    place, before = number_box(page, 'Place: x'), shown(page)
    figure.scroll_into_view_if_needed()
    at = frame.bounding_box()
    page.mouse.click(at['x'] + .9 * at['width'], at['y'] + .7 * at['height'])
    changed(page, before)
    assert abs(float(place.input_value()) - (1 - .1 * at['width'] / box['width'])) < .03, 'counted from its left end'


def test_twenty_at_once(url, photo):
    "Twenty visitors drop a photo at the same moment; each gets a picture"
    assert len(bench.crowd(url, [photo] * 20)) == 20


def test_nothing_looked_up(url, photo, lookups):
    "The app itself has asked the network for no name"
    bench.visit(url, photo)
    assert not lookups.exists() or not lookups.read_text()


APPS = sorted(p.stem for p in (ROOT/'apps').glob('*.py'))


@pytest.mark.parametrize('app', APPS)
def test_every_app_builds(app):
    "Each script in apps/ builds its page and hands it to the server"
    from ssl_workbench.app import shell
    with mock.patch.object(shell, 'launch') as launch, mock.patch.object(sys, 'argv', [app, '7999', '--online']):
        runpy.run_path(str(ROOT/'apps'/f'{app}.py'), run_name='__main__')
    port, page, online = launch.call_args.args
    blocks = shell.build(page).blocks.values()
    assert (port, page, online) == (7999, None if app == 'hub' else app, True) and len(blocks) > 12
    assert any(type(b).__name__ == 'Tab' for b in blocks) == (
        app in ('hub', 'slots', 'features', 'frames', 'dropping', 'timeline', 'words'))


def test_a_script_for_every_page():
    "Pages and scripts have the same names; a page's method is in the catalog, its ability in some weights"
    from ssl_workbench.app import models, shell
    from ssl_workbench.catalog import find
    assert sorted([*shell.pages(), 'hub']) == APPS
    for page in shell.pages().values():
        assert not page.method or find(page.method).state == 'ready'
        assert not page.needs or models.choices(page.needs)
        assert (LIB/f'{page.name}.py').exists(), 'a page lives in the module of its name'


def test_every_panel_is_shown():
    "What a method lists as its panels is what its pages show: nothing is listed that no page reads"
    from ssl_workbench import catalog
    from ssl_workbench.app import shell, training
    class Recorded(dict):
        def __getitem__(self, key):
            self.__dict__.setdefault('read', set()).add(key)
            return super().__getitem__(key)
    modules = [catalog.module(e.name) for e in catalog.catalog + catalog.classics if e.state == 'ready']
    modules = [m for m in modules if hasattr(m, 'panels')]
    with contextlib.ExitStack() as stack:
        listed = [Recorded(m.panels) for m in modules]
        for m, panels in zip(modules, listed): stack.enter_context(mock.patch.object(m, 'panels', panels))
        shell.build()
        training.untrained_sheet()   # what the training page draws when it is opened
    unread = {m.__name__: set(panels) - panels.__dict__.get('read', set()) for m, panels in zip(modules, listed)}
    assert not {m: keys for m, keys in unread.items() if keys}


def test_masking_baselines_have_a_row():
    "Where weights trained with none, most and all of the reference masked are bundled, they have a row of their own"
    from ssl_workbench.app import locations, shell
    from ssl_workbench.app.models import RANDOM
    pictures = lambda page: sum(type(b).__name__ == 'Image' and b.interactive is False for b in page.blocks.values())
    for names, n in (([], 3), (['loca' + RANDOM] * 3, 6)):
        with mock.patch.object(locations, 'masking_baselines', lambda names=names: names):
            assert pictures(shell.build('locations')) == n


def test_refused_launches():
    "A port that is in use, and a page that there is not, are one sentence each"
    from ssl_workbench.app.shell import shell
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        with pytest.raises(SystemExit, match='is not available'): shell('training', [str(s.getsockname()[1])])
    with pytest.raises(SystemExit, match="there is no page 'nowhere'"): shell('nowhere', [])


SOON = """import sys
from ssl_workbench.app.shell import launch
launch(int(sys.argv[1]), 'slots', keep=2)"""


def test_thirty_visitors_leave_nothing(tmp_path):
    "The server grows little with each visit, deletes what was dropped, names no other host, takes no endless request"
    import time

    import httpx
    cache, sizes = tmp_path/'cache', []
    arenas = dict(MALLOC_ARENA_MAX='2')          # memory that threads hold in reserve is no leak
    with bench.server(words=['-c', SOON], GRADIO_TEMP_DIR=str(cache), **arenas) as (url, _, process):
        for path in visitors.photos(tmp_path, 30):
            bench.visit(url, path)
            sizes.append(visitors.resident(process.pid))
        grown = [b - a for a, b in zip(sizes[9:], sizes[10:])]       # a leak grows each time, an allocator once
        assert statistics.median(grown) < .5 and sum(grown) < 20 * 4, f'megabytes after each visit: {sizes}'
        uploads = lambda: list(cache.rglob('photo*.jpg')) + list(cache.rglob('figure.png'))
        for _ in range(60):
            if not uploads(): break
            time.sleep(.5)
        assert not uploads()
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as web:
            ask = lambda host: web.get('/config', headers=dict(host=host)).status_code
            hosts = ('localhost:80', '127.0.0.1', 'evil.example', 'localhost.evil.example', '127.0.0.1.evil.example')
            assert [ask(h) for h in hosts] == [200, 200, 403, 403, 403]
            files = [('files', (f'{k}.bin', bytes(21_000_000))) for k in range(3)]
            assert web.post('/gradio_api/upload', files=files[:1]).status_code == 200
            assert web.post('/gradio_api/upload', files=files).status_code == 413
            parts = (bytes(2**20) for _ in range(64))
            kind = {'content-type': 'multipart/form-data; boundary=x'}
            assert web.post('/gradio_api/upload', content=parts, headers=kind).status_code in (400, 413)
        bench.visit(url, bench.photo(tmp_path/'last.jpg'))


def test_sessions_are_bounded():
    "Gradio's memory of visitors holds the last few; uploads are deleted an hour after their last use"
    from ssl_workbench.app import shell
    with mock.patch.object(shell.gr.Blocks, 'launch') as launch: shell.launch(7999, 'slots')
    given = launch.call_args.kwargs
    assert given['state_session_capacity'] == 64 and given['max_file_size'] == '25mb'
    assert given['app_kwargs']['middleware'][0].cls is shell.Doorkeeper
    assert shell.build('slots').delete_cache == (60, 3600)


def test_servers_keep_their_files_apart(monkeypatch):
    "An app's uploads lie in a folder of its own, or in the one that is named"
    from ssl_workbench.app import shell
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')
    with mock.patch.object(shell.gr.Blocks, 'launch'): shell.launch(7999, 'slots')
    own = os.environ['GRADIO_TEMP_DIR']
    assert Path(own).is_dir() and Path(own).name.startswith('ssl-workbench-')
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')
    assert shell.own_files() not in ('', own)
    monkeypatch.setenv('GRADIO_TEMP_DIR', '/named')
    assert shell.own_files() == '/named'


def jamming_run(folder, **changes):
    "A run folder whose checkpoint has such a config, and no weights that fit"
    import json
    from dataclasses import asdict

    import torch
    from safetensors.torch import save_file

    from ssl_workbench.methods import slotmim
    point = folder/'checkpoints'/'00000010'
    point.mkdir(parents=True)
    save_file({'a': torch.zeros(1)}, point/'model.safetensors')
    run = dict(module='ssl_workbench.methods.slotmim', config=asdict(slotmim.cpu) | changes)
    (point/'run.json').write_text(json.dumps(run))


@pytest.mark.parametrize('changes', [dict(depth=10_000_000), dict(dim=65_536, depth=200, heads=1),
                                     dict(prototypes=10**9)], ids=str)
def test_a_run_folder_cannot_jam(tmp_path, monkeypatch, changes):
    "A run too large for a page is refused in a sentence, with little memory and in no time"
    import os
    import time

    from ssl_workbench.app import models
    monkeypatch.chdir(tmp_path)
    jamming_run(tmp_path/'runs'/'deep', **changes)
    name = str(Path('runs')/'deep')
    assert name in models.choices()
    start, before = time.monotonic(), visitors.resident(os.getpid())
    with pytest.raises(ValueError) as error: models.model(name)
    assert time.monotonic() - start < 10 and visitors.resident(os.getpid()) - before < 500
    assert '\n' not in str(error.value) and 'Traceback' not in str(error.value)


def test_a_slow_run_holds_up_nobody(tmp_path, monkeypatch):
    "While one visitor's weights are loading, others get theirs; of one name there is one load; a newer one is loaded"
    import threading

    from ssl_workbench.app import models
    monkeypatch.chdir(tmp_path)
    jamming_run(tmp_path/'runs'/'slow')
    started, finish, loads = threading.Event(), threading.Event(), []
    def load(name, **options):
        loads.append(name)
        started.set()
        assert finish.wait(60)
        return name
    monkeypatch.setattr(models.shelf, 'load', load)
    threads = [threading.Thread(target=models.model, args=['runs/slow']) for _ in range(3)]
    for t in threads: t.start()
    assert started.wait(60)
    assert models.model('slotmim' + models.RANDOM).config and all(t.is_alive() for t in threads)
    finish.set()
    for t in threads: t.join(60)
    assert models.model('runs/slow') == 'runs/slow' and loads == ['runs/slow']
    shutil.copytree('runs/slow/checkpoints/00000010', 'runs/slow/checkpoints/00000020')
    models.model('runs/slow')
    assert len(loads) == 2, 'a newer checkpoint is loaded'


def test_uploads_have_limits_of_their_own(tmp_path):
    "Many pixels in a small file are refused before they are decoded; a film is kept small; a deleted file is named"
    import os

    import torch
    from PIL import Image

    from ssl_workbench.data import write_video
    from ssl_workbench.panels.panel import CLIP_SIDE, read_input
    Image.new('L', (6000, 5000)).save(tmp_path/'large.png')
    assert os.path.getsize(tmp_path/'large.png') < 100_000
    before = visitors.resident(os.getpid())
    with pytest.raises(ValueError, match='large.png: 6000 x 5000 pixels, where at most 25,000,000'):
        read_input('image', str(tmp_path/'large.png'))
    assert visitors.resident(os.getpid()) - before < 50
    write_video(torch.zeros(4, 3, 720, 1280, dtype=torch.uint8), tmp_path/'film.mp4')
    assert read_input('clip', str(tmp_path/'film.mp4')).shape == (4, 3, 360, CLIP_SIDE)
    with pytest.raises(ValueError, match='gone.png was dropped here a while ago'):
        read_input('image', str(tmp_path/'gone.png'))


def upload_events(blocks):
    "Of a page: each handler that reads an upload, with its inputs; those that need a click are left out"
    from inspect import signature

    import gradio as gr
    for event in blocks.fns.values():
        inputs = event.inputs
        is_file = lambda c: isinstance(c, (gr.Video, gr.File)) or isinstance(c, gr.Image) and c.interactive is not False
        if not event.fn or not any(map(is_file, inputs)): continue
        if any(p.annotation in (gr.SelectData, gr.Request) for p in signature(event.fn).parameters.values()): continue
        yield event.fn, inputs, is_file


UPLOADS = 'slots attention comparison positions locations flow features dropping frames search words'.split()


@pytest.mark.parametrize('name', UPLOADS)
def test_every_page_refuses_a_broken_upload(tmp_path, name):
    "Each handler that reads a file which is none raises one sentence for the visitor: nothing on screen changes"
    import inspect

    import gradio as gr

    from ssl_workbench.app import shell
    bad, sentences = tmp_path/'notes.jpg', []
    bad.write_text('Dear diary, this is not a picture.')
    for function, inputs, is_file in upload_events(shell.build(name)):
        radios = [c for c in inputs if isinstance(c, gr.Radio)]
        own = lambda c: next((v for _, v in c.choices if 'clip' in str(v) or 'pictures' in str(v)), c.value)
        several = lambda c: getattr(c, 'file_count', '') == 'multiple'
        values = [([str(bad)] if several(c) else str(bad)) if is_file(c) else own(c) if c in radios else c.value
                  for c in inputs]
        try:
            found = function(*values)
            if inspect.isgenerator(found): next(found)
        except gr.Error as e: sentences.append(e.message)
    assert sentences, 'no handler has read the file'
    for sentence in sentences:
        assert 'notes.jpg' in sentence and '\n' not in sentence and sentence.endswith('.'), sentence


def test_timeline_of_clips(visit):
    "A clip taken out changes what is said of the summary; with none left there is a sentence"
    page = visit('Timeline')
    verdict = page.locator('#timeline-verdict')
    verdict.get_by_text('8 of 8 clips').wait_for()
    assert page.locator('#timeline-near figcaption').count() == 4
    page.locator('#timeline-kept label').nth(2).click()
    verdict.get_by_text('7 of 8 clips').wait_for()
    page.get_by_role('button', name='First half').click()
    verdict.get_by_text('4 of 8 clips').wait_for()
    for k in range(4): page.locator('#timeline-kept label').nth(k).click()
    assert 'No clip is in' in toast(page)


def test_search_in_two_languages(visit, photo, tmp_path):
    "A caption is translated with the language, and finds something; an empty sentence is refused in one"
    page = visit('Search')
    place, sentence = page.locator('#search-verdict'), page.locator('#search-sentence textarea')
    place.get_by_text('The scene that this sentence describes').wait_for()
    assert page.locator('#search-found figure').count() == 12
    before = sentence.input_value()
    page.locator('#search-language').get_by_text('Deutsch').click()
    page.wait_for_function('old => document.querySelector("#search-sentence textarea").value != old', arg=before)
    place.get_by_text('The scene that this sentence describes').wait_for()
    sentence.fill('🙂 something of my own')
    page.get_by_role('button', name='Search', exact=True).click()
    place.get_by_text('A sentence of your own.').wait_for()
    with page.expect_response(lambda r: 'queue/join' in r.url): # a picture of one's own is searched, too
        page.locator('#search-own input[type=file]').set_input_files(photo)
    place.get_by_text('A sentence of your own.').wait_for()
    sentence.fill(' ')
    page.get_by_role('button', name='Search', exact=True).click()
    assert 'Write a sentence first' in toast(page)
    sentence.fill('a star')
    (tmp_path/'notes.jpg').write_text('Dear diary, this is not a picture.')
    page.locator('#search-own input[type=file]').set_input_files(tmp_path/'notes.jpg')
    page.locator('.toast-body', has_text='notes.jpg').wait_for()


def test_words_have_heats(visit):
    "A heat a word, on both tabs; what is too much is a sentence"
    page = visit('Words')
    figures = page.locator('#words-words-figure figure')
    assert figures.count() == 5
    page.locator('#words-words textarea, #words-words input').first.fill('Stern, zebra')
    page.get_by_role('button', name='Draw').first.click()
    page.wait_for_function('document.querySelectorAll("#words-words-figure figure").length == 3')
    page.locator('#words-words textarea, #words-words input').first.fill('a, b, c, d, e, f, g')
    page.get_by_role('button', name='Draw').first.click()
    assert 'at most 6' in toast(page)
    page.get_by_role('tab', name='Which word looks where').click()
    page.wait_for_function('document.querySelectorAll("#words-sentence-figure figure").length == 11')


def test_captions_with_one_thing_changed(visit):
    "The changed caption follows the choice, and the table comes with its controls"
    page = visit('Captions')
    false, verdict = page.locator('#captions-false textarea'), page.locator('#captions-verdict')
    verdict.get_by_text('Cosine').wait_for()
    before = false.input_value()
    page.locator('#captions-change').get_by_text('add an object').click()
    page.wait_for_function('old => document.querySelector("#captions-false textarea").value != old', arg=before)
    page.locator('#captions-table tbody tr').nth(6).wait_for()
    assert 'add an object' in page.locator('#captions-table').inner_text()


def test_a_wrong_name_is_said_once(visit):
    "One sentence, and no picture of another network stays under the wrong name"
    page = visit('Attention')
    box = page.get_by_role('listbox', name='Network').or_(page.get_by_label('Network')).first
    box.fill('resnet_of_my_dreams')
    box.press('Enter')
    page.locator('.toast-body').first.wait_for()
    page.wait_for_function("() => ![...document.querySelectorAll('.figure img')].some(e => e.offsetParent)")
    page.wait_for_timeout(2000)
    assert page.locator('.toast-body').count() == 1


def test_head_ends_with_the_network(visit):
    "The slider of heads has as many positions as the network has heads, and the mean; it changes with the network"
    page = visit('Attention')
    box = page.get_by_role('listbox', name='Network').or_(page.get_by_label('Network')).first
    for network, heads in (('slotmim-real', 4), ('vit_tiny_patch16_224', 3)):
        box.fill(network)
        box.press('Enter')
        page.wait_for_function(f'''() => [...document.querySelectorAll('input[type=range]')].some(
            e => e.offsetParent && (e.getAttribute('aria-label') || '').includes('Head') && +e.max == {heads})''')


@pytest.mark.parametrize('second', [False, True])
def test_the_python_for_a_comparison(photo, tmp_path, monkeypatch, second):
    "Run where the files lie, it draws a sheet of all that is compared: raw colours and the second picture, too"
    from ssl_workbench.app import comparison
    for name in ('one.jpg', 'two.jpg'): shutil.copy(photo, tmp_path/name)
    other = str(tmp_path/'two.jpg') if second else None
    names = ['loca', comparison.COLOURS]
    code = comparison.python(names, str(tmp_path/'one.jpg'), other, None, 'all', 4, 8, (.5, .5))
    monkeypatch.chdir(tmp_path)
    exec(code, done := {})
    assert list(done['methods']) == names and len(done['pictures']) == 1 + second
    assert done['sheet'].ndim == 3 and done['sheet'].float().std() > 5


def test_below_a_view(visit, photo):
    "Under a visitor's picture: the twins, the data as files and the Python, on one press each"
    for tab in ('Slots', 'Compare'):
        page = visit(tab)
        before = shown(page)
        page.locator('#photo input[type=file], #compare-photo input[type=file]').first.set_input_files(photo)
        changed(page, before)
        page.get_by_role('button', name=re.compile('^Beside (its|their) random')).locator('visible=true').first.click()
        page.locator('.beside img:visible').nth(1).wait_for()
        page.get_by_role('button', name='Data of this view').locator('visible=true').first.click()
        page.locator('.kept a:visible').first.wait_for()
        page.get_by_role('button', name='The Python for it').locator('visible=true').first.click()
        page.locator('.python .cm-content:visible', has_text='holiday').first.wait_for()


def test_a_dropped_picture_goes_along(visit, photo):
    "Dropped under Slots, it lies under Attention, too"
    page = visit('Attention')
    example = shown(page)
    show(page, 'Slots')
    before = shown(page)
    page.locator('#photo input[type=file]').set_input_files(photo)
    changed(page, before)
    show(page, 'Attention')
    changed(page, example)
    assert page.locator('#look img').count() == 1


def test_a_dropped_clip_goes_along(visit, moments):
    "Dropped under Slots, it lies under Frames, too; its box shows the whole of it"
    page = visit('Slots')
    page.get_by_role('tab', name='Clip', exact=True).click()
    page.locator(FIGURE).first.wait_for()
    before = shown(page)
    page.locator('#clip input[type=file]').set_input_files(moments/'film.mp4')
    changed(page, before)
    film, box = page.locator('#clip video'), page.locator('#clip').bounding_box()
    film.wait_for()
    inner = film.bounding_box()
    assert inner['height'] > 60 and inner['y'] + inner['height'] <= box['y'] + box['height'] + 1, 'cut off'
    name = film.get_attribute('src').rsplit('/')[-1]
    page.get_by_role('tab', name='Frames', exact=True).click()
    page.get_by_label('A clip', exact=True).first.check()
    page.wait_for_function('name => document.querySelector(`#frames-clip video[src$="${name}"]`)', arg=name)


def test_every_picture_has_words(visit):
    "On every page: no picture without alternative text, and a fold that says what is seen"
    from ssl_workbench.app.shell import pages
    page = visit()
    for name in [None, *(p.title for p in pages().values())]:
        if name: show(page, name)
        page.wait_for_function("![...document.querySelectorAll('img')].some(i => i.offsetParent && !i.alt)")
        assert not name or page.locator('.seeing:visible').count() == 1, name


def test_a_choice_stays_marked(visit):
    "Whatever is pressed under Slots, each group of choices has one that is marked"
    page = visit('Slots')
    marked = """() => [...document.querySelectorAll('fieldset')]
        .filter(f => f.offsetParent && f.querySelector('[type=radio]'))
        .map(f => f.querySelectorAll('[type=radio]:checked').length)"""
    assert page.evaluate(marked) and set(page.evaluate(marked)) == {1}
    before = shown(page)
    page.locator(FIGURE).first.click(position=dict(x=60, y=120))
    before = changed(page, before)
    page.get_by_label('soft', exact=True).first.check()
    before = changed(page, before)
    number(page, 'Detail', 32)
    changed(page, before)
    assert set(page.evaluate(marked)) == {1}


def test_training_outlives_a_reload(visit):
    "A run is there after a reload, any of several methods trains, and what was learnt is a file"
    page = visit('Training')
    page.get_by_role('button', name='Start · resume').click()
    page.wait_for_function("() => +(/Step (\\d+)/.exec(document.querySelector('#status').innerText) || [0, 0])[1] >= 2")
    page.reload()
    visit.errors.clear()                       # requests that the reload cut off
    page.get_by_role('heading', name='Nine ways').wait_for()
    show(page, 'Training')
    page.locator('#status', has_text=re.compile(r'Step \d+.*can be resumed')).wait_for()
    assert steps(page) >= 2
    page.get_by_role('button', name='Save the weights').click()
    page.locator('#status', has_text='Saved as').wait_for()
    home = Path(tempfile.gettempdir())/re.search(r'Saved as (\S+):', page.locator('#status').inner_text()).group(1)
    with page.expect_download() as file: page.locator('#trained-file a').first.click()
    names = zipfile.ZipFile(file.value.path()).namelist()
    assert any(n.endswith('model.safetensors') for n in names) and (home/'checkpoints').is_dir()
    shutil.rmtree(home)
    page.locator('#train-method').get_by_label('VICReg', exact=True).check()
    page.locator('#status', has_text='Not started').wait_for()
    page.get_by_role('button', name='Start · resume').click()
    page.locator('#status', has_text=re.compile(r'Step \d+')).wait_for()
    page.get_by_role('button', name='Start over').click()


def test_futures_and_truth_loop_together(visit):
    "After Predict the reels have one length and stand at the same moment"
    page = visit('Frames')
    page.locator('#frames-stage .unknown').first.wait_for()
    for name, value in (('Steps', 1), ('Frames to come', 2), ('Futures', 1)): number(page, name, value)
    page.wait_for_function("document.querySelectorAll('#frames-stage .unknown').length == 1")
    page.locator('#frames-go').click()
    page.locator('#frames-table', has_text='last seen frame repeated').wait_for()
    at = page.locator('#frames-stage .tile img').evaluate_all("""tiles => tiles.map(e => {
        const a = e.getAnimations()[0];
        return [a.effect.getTiming().duration, a.currentTime] })""")
    assert len(at) == 2 and at[0][0] == at[1][0] and abs(at[0][1] - at[1][1]) < 20


def test_the_piece_starts_off_the_middle(visit):
    "Where guessing the middle would be right nothing could be learnt; beside the answers stands that guess"
    page = visit('Locations')
    page.locator(FIGURE).nth(2).wait_for()
    page.get_by_role('button', name='Click in a picture, or use sliders').click()
    at = [float(number_box(page, f'Centre: {axis}').input_value()) for axis in 'xy']
    assert max(abs(x - .5) for x in at) > .15
    assert page.get_by_text('The prior').locator('visible=true').count()


def test_tabs_and_length_on_a_phone(visit):
    "A tab is wide enough for a finger, and Flow is read without scrolling for ever"
    page = visit('Flow', viewport=dict(width=390, height=844))
    tabs = page.get_by_role('tab').locator('visible=true')
    assert all(t.bounding_box()['width'] >= 44 for t in tabs.all())
    for figure in page.locator('.figure:visible').all(): figure.scroll_into_view_if_needed()   # they load when seen
    page.wait_for_function("[...document.querySelectorAll('.figure img')].every(i => !i.offsetParent || i.complete)")
    assert page.evaluate('document.documentElement.scrollHeight') < 3900        # it was 5,700 with all figures loaded


ENDPOINTS = 'slots attention features locate suspect predict clip_features summary match flow'.split()


@pytest.mark.parametrize('name', ENDPOINTS)
def test_endpoints_name_what_weights_cannot(name, photo, tmp_path):
    "Weights of another kind, of no name, and none at all: one sentence, which is a ValueError"
    import torch

    from ssl_workbench.app import endpoints
    from ssl_workbench.data import write_video
    write_video(torch.zeros(4, 3, 64, 64, dtype=torch.uint8), film := tmp_path/'film.mp4')
    given = dict(image=str(photo), a=str(photo), b=str(photo), clip=str(film), video=str(film), sentences='a star',
                 detail=8, x=.3, y=.6, size=.4, share=.2, seed=3, frames=1, futures=1, steps=1)
    function = getattr(endpoints, name)
    names = [n for n in inspect.signature(function).parameters if n != 'weights']
    for wrong in ('xlm', 'nonsense of mine', None, ''):
        with pytest.raises(ValueError) as error: function(**{n: given[n] for n in names}, weights=wrong)
        assert '\n' not in str(error.value) and len(str(error.value)) < 1500
    with pytest.raises(ValueError, match='no weights have the ability'): endpoints.weights('nonsense')


def test_endpoints(url, photo):
    "Named endpoints with typed inputs: files in, files and a summary out; what cannot be used is one sentence"
    import numpy as np
    from gradio_client import Client, handle_file
    client = Client(url, verbose=False)
    told, files = client.predict(image=handle_file(photo), weights='slotmim', detail=8, api_name='/slots')
    names = {Path(f).name: f for f in files}
    assert told['grid'] == [6, 8] and np.load(names['scores.npy']).shape[1:] == (6, 8) and 'masks.png' in names
    told, files = client.predict(image=handle_file(photo), weights='slotmim', detail=8, api_name='/features')
    assert list(np.load(files[0]).shape) == told['shape']
    told, files = client.predict(a=handle_file(photo), b=handle_file(photo), weights='dis', api_name='/flow')
    assert told['mean_length'] < .5 and any(f.endswith('.flo') for f in files)
    told, _ = client.predict(image=handle_file(photo), weights='loca', x=.3, y=.6, size=.4, api_name='/locate')
    assert {'all', 'a fifth', 'none', 'always the middle'} == set(told['visible'])
    with pytest.raises(Exception, match='There are no weights'):
        client.predict(image=handle_file(photo), weights='nothing', detail=8, api_name='/slots')
