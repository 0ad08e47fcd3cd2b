"""The site: built once as `make docs` builds it, read page by page, and opened in a browser."""
import contextlib
import functools
import http.server
import os
import posixpath
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
pytest.importorskip('mkdocs')
from docs import methods, notebooks, stills  # noqa: E402
from ssl_workbench import catalog  # noqa: E402

SHOWN = ['', 'methods/24_mcjepa/', 'methods/slotmim/', 'methods/', 'results/', 'results/claims/', 'glossary/',
         'symbols/', 'api/ssl_workbench.losses/', 'course/']

SET = 'n => document.querySelectorAll(".arithmatex mjx-container > svg").length == n'     # all equations are set


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The folder of the built site; a warning fails the build"
    folder = tmp_path_factory.mktemp('site')
    env = {**os.environ, 'SITE_SOURCE': str(folder/'source'), 'NO_MKDOCS_2_WARNING': '1', 'PYTHONPATH': str(ROOT)}
    for command in (['docs'], ['mkdocs', 'build', '-d', str(folder/'site')]):
        done = subprocess.run([sys.executable, '-m', *command], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0 and 'WARNING' not in done.stderr, done.stderr[-3000:]
    return folder/'site'


class Page(HTMLParser):
    "What a test asks of a page: headings, images, links, anchors, what it loads"

    def __init__(self, path):
        super().__init__()
        self.headings, self.images, self.links, self.anchors, self.loads = [], [], [], set(), []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[k] for k in ('id', 'name') if attrs.get(k)}
        if re.fullmatch('h[1-6]', tag): self.headings.append(int(tag[1]))
        if tag == 'img': self.images.append(attrs.get('alt') or '')
        if tag == 'a' and attrs.get('href'): self.links.append(attrs['href'])
        if tag in ('script', 'img', 'iframe') and attrs.get('src'): self.loads.append(attrs['src'])
        if tag == 'link' and attrs.get('rel') in ('stylesheet', 'icon', 'preconnect'): self.loads.append(attrs['href'])


@pytest.fixture(scope='module')
def pages(site):
    "Every page by its address, read"
    found = {p.relative_to(site).as_posix().removesuffix('index.html'): Page(p) for p in site.rglob('*.html')}
    found.pop('404.html')
    return found


def test_every_notebook_and_method_has_a_page(pages):
    "A page a notebook, a page a method, and what the menu promises"
    for path in notebooks.sources():
        name = notebooks.site_path(path).removesuffix('.md')
        assert f'{name}/' in pages
    assert {f'methods/{e.name}/' for e in catalog.catalog} <= pages.keys()
    assert {'', 'course/', 'glossary/', 'symbols/', 'results/', 'results/claims/', 'api/'} <= pages.keys()


def test_headings(pages):
    "One title a page, and no level left out on the way down"
    for name, page in pages.items():
        assert page.headings.count(1) == 1 and page.headings[0] == 1, name
        assert all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:])), (name, page.headings)


def test_images_say_what_they_show(pages):
    "Words of its own for every image"
    for name, page in pages.items():
        assert all(len(alt) > 12 for alt in page.images), (name, page.images)


def test_links(site, pages):
    "Every link inside the site leads to a page, a file, a heading that is there"
    lost = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme: continue
            target = posixpath.normpath(posixpath.join(name, unquote(parts.path))) if parts.path else name
            target = '' if target in ('.', '') else target
            there = pages.get(target if not target or target.endswith('/') else f'{target}/')
            if there is None and not (site/target).is_file(): lost.append((name, link))
            elif there and parts.fragment and unquote(parts.fragment) not in there.anchors: lost.append((name, link))
    assert lost == []


def test_nothing_is_loaded_from_elsewhere(pages, site):
    "Scripts, styles and pictures lie on the site"
    for name, page in pages.items():
        assert [l for l in page.loads if re.match(r'(https?:)?//', l)] == [], name
    for style in site.rglob('*.css'):
        assert not re.search(r'@import|url\(["\']?(https?:)?//', style.read_text(encoding='utf-8')), style.name


def test_results_are_those_of_cards_and_claims(site):
    "Each bundled score and each claim is on the site, with its command"
    from benchmarks.tables import claim_line
    from ssl_workbench.claims import load_claims
    text = (site/'results/index.html').read_text(encoding='utf-8')
    for name, card in catalog.cards().items():
        assert f'id="{name}"' in text and card['command'] in text and (site/f'results/cards/{name}.json').is_file()
        for score in card['scores']: assert f"{score['value']:.3f}" in text
    text = (site/'results/claims/index.html').read_text(encoding='utf-8')
    text = re.sub(r'<[^>]+>', '', text)
    for result in load_claims(): assert result['command'] in text and claim_line(result) in text


def test_figures_take_their_words_from_below():
    "A figure is described by what the lesson says of it; a picture without such words by the text above"
    cells = [dict(cell_type='markdown', source='# A\n> b'), dict(cell_type='markdown', source='Two views. And more.'),
             dict(cell_type='code', source='show()'),
             dict(cell_type='markdown', source='*What to see:* the **left** one is [round](x.md). Then.')]
    assert notebooks.described(cells, 2) == 'Figure: the left one is round.'
    assert notebooks.described(cells[:3], 2) == 'Figure in “A”: Two views.'


def test_markdown_of_notebooks():
    "Links lead to pages, lists and tables get their blank line, code stays as it is"
    words = notebooks.linked('[a](../classics/16_mae.ipynb#x), [b](index.ipynb)')
    assert words == '[a](../classics/16_mae.md#x), [b](tour.md)'
    assert notebooks.linked('[a](https://x.org/b.ipynb)') == '[a](https://x.org/b.ipynb)'
    assert notebooks.spaced('Two:\n- a\n- b\n```\nx\n- y\n```') == 'Two:\n\n- a\n- b\n```\nx\n- y\n```'
    assert all(methods.drawing(methods.lessons(e)[0]) for e in catalog.catalog), 'each method has its drawing'


# ---- in a browser

@pytest.fixture(scope='module')
def address(site):
    "The site, served on this machine"
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


@pytest.fixture(scope='module')
def browser():
    "Chromium; skipped without one, but not in CI"
    pytest.importorskip('playwright')
    if not (shutil.which('chromium') or shutil.which('google-chrome')):
        assert not os.environ.get('CI'), 'CI opens the site in Chromium, and there is none here'
        pytest.skip('no chromium on this machine')
    from benchmarks import app as bench
    with bench.chromium() as b: yield b


@contextlib.contextmanager
def opened(browser, address, scheme, width):
    "A tab that notes what it asks for elsewhere, and errors"
    context = browser.new_context(viewport=dict(width=width, height=844), color_scheme=scheme)
    page, foreign = context.new_page(), []
    page.on('request', lambda r: foreign.append(r.url) if not r.url.startswith((address, 'data:', 'blob:')) else None)
    page.on('pageerror', lambda e: foreign.append(str(e)))
    yield page, foreign
    context.close()


@pytest.mark.parametrize('scheme, width', [('light', 390), ('dark', 1280)])
def test_in_a_browser(browser, address, scheme, width):
    "Nothing from elsewhere, no sideways scroll, equations set, the visitor's light or dark"
    with opened(browser, address, scheme, width) as (page, foreign):
        for name in SHOWN:
            page.goto(address + name, wait_until='load')
            assert page.locator('h1').count() == 1
            wide = page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
            assert wide <= 0, f'{name} is {wide} px too wide at {width}'
            ground = page.evaluate('getComputedStyle(document.body).backgroundColor')
            assert (sum(map(int, re.findall(r'\d+', ground)[:3])) < 300) == (scheme == 'dark'), (name, ground)
            equations = page.locator('.arithmatex').count()
            if not equations: continue
            page.wait_for_function(SET, arg=equations)
            assert page.locator('[data-mml-node="merror"]').count() == 0, name
        assert foreign == []


def test_search_finds_a_word(browser, address):
    "The index lies on the site; a word of a lesson is found"
    with opened(browser, address, 'light', 1280) as (page, foreign):
        page.goto(address)
        page.locator('.md-search__input').click()
        page.locator('.md-search__input').fill('sinkhorn')
        page.locator('.md-search-result__link').first.wait_for()
        assert foreign == []


@pytest.mark.parametrize('name', ['methods/24_mcjepa/', 'methods/27c_river/', '07_losses/'])
def test_equations_of_lessons(browser, address, name):
    "Every equation of these lessons is set without an error"
    with opened(browser, address, 'light', 390) as (page, foreign):
        page.goto(address + name)
        n = page.locator('.arithmatex').count()
        page.wait_for_function(SET, arg=n)
        assert n and page.locator('[data-mml-node="merror"]').count() == 0 and foreign == []


# ---- moments of touch, played without a kernel

def played(page, cell):
    "The widget of a moment, in sight"
    page.locator(f'img[data-still="{cell}.json"], .still[data-moment="{cell}"]').first.scroll_into_view_if_needed()
    box = page.locator(f'.still[data-moment="{cell}"]')
    box.locator('.touch[data-drawn]').wait_for()
    return box


def shown(box):
    "What a moment shows: its picture and overlays, its words and bars"
    return box.evaluate("""b => [...b.querySelectorAll('.touch-picture, .touch-layer')].map(i => i.src.split('/').pop())
        .concat([...b.querySelectorAll('.touch-caption, .touch-bars, .touch-answer')].map(e => e.textContent))""")


def revealed(page, box):
    "What a moment shows once the reader has made a guess, where it asks for one"
    button = box.locator('.touch-reveal')
    if button.count() and button.text_content() == 'Reveal':
        if button.is_disabled():
            dots = box.locator('.touch-question input')
            dots.first.check() if dots.count() else box.locator('.touch-handle').last.press('ArrowLeft')
        button.click()
        assert box.locator('.touch-answer').count() or box.locator('.touch-layer').count()
    return shown(box)


def moved_by_pointer(page, box, moment):
    "Clicks on another computed place, or at both ends of a slider; False where there is neither"
    points = [h for h in box.locator('.touch-point0').all()]
    if points:
        name = next(n for n, v in moment.over.items() if isinstance(v[0], tuple))
        for x, y in (moment.over[name][-1], moment.over[name][0]):
            box.locator('.touch-frame').scroll_into_view_if_needed()
            place = box.locator('.touch-frame').bounding_box()
            yield page.mouse.click(place['x'] + x * place['width'], place['y'] + y * place['height'])
    for slider in box.locator('input[type=range]').all():
        size = slider.bounding_box()
        for x in (size['width'] - 3, 3): yield slider.click(position=dict(x=x, y=size['height'] / 2))


def moved_by_keys(page, box, moment):
    "Arrow keys on marks and sliders, a choice, a tick"
    for handle in box.locator('.touch-handle').all():
        for key in ('ArrowRight', 'ArrowDown', 'ArrowLeft', 'ArrowUp'): yield handle.press(key)
    for slider in box.locator('input[type=range]').all():
        for key in ('End', 'Home'): yield slider.press(key)
    for tick in box.locator('.touch-knobs input[type=checkbox]').all(): yield tick.press('Space')
    for choice in box.locator('select').all(): yield choice.select_option(index=1)


@pytest.mark.parametrize('number', range(20, 29))
def test_moments_play_without_a_kernel(browser, address, number):
    "Three a method at least: another setting by pointer and by keyboard shows another picture or other words"
    moments = [m for m in stills.MOMENTS if Path(m.lesson).name.startswith(str(number))]
    ways = {moved_by_pointer: 0, moved_by_keys: 0}
    with opened(browser, address, 'light', 1280) as (page, foreign):
        for moment in moments:
            page.goto(f'{address}{moment.lesson}/', wait_until='domcontentloaded')
            box = played(page, moment.cell)
            for way in ways:
                before = revealed(page, box)
                changed = any(revealed(page, box) != before for _ in way(page, box, moment))
                ways[way] += changed
                assert changed or way is moved_by_pointer, (moment.cell, way.__name__)
        assert foreign == [] and len(moments) >= 3 and min(ways.values()) >= 1


@pytest.mark.parametrize('width', [390, 1280])
def test_a_page_with_moments_fits(browser, address, width):
    "Widget, question and knobs stay inside the page, and a mark moves to a computed place"
    with opened(browser, address, 'light', width) as (page, foreign):
        page.goto(f'{address}methods/21_loca/', wait_until='domcontentloaded')
        box = played(page, '51080004')
        assert page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth') <= 0
        frame = box.locator('.touch-frame').bounding_box()
        assert frame['x'] >= 0 and frame['x'] + frame['width'] <= width
        box.locator('.touch-frame').scroll_into_view_if_needed()
        frame = box.locator('.touch-frame').bounding_box()
        page.mouse.click(frame['x'] + .4 * frame['width'], frame['y'] + .9 * frame['height'])
        mark = box.locator('.touch-handle').evaluate('h => [parseFloat(h.style.left), parseFloat(h.style.top)]')
        assert [round(v / 100, 3) for v in mark] == [.417, .833] and foreign == []
