"""A lesson as slides: title, the method in a box, equations beside their code, every figure with what it shows.

One page a lesson that loads nothing from elsewhere; arrow keys turn it, printing gives a slide a page.
"""
import base64
import html
import re
from functools import lru_cache
from pathlib import Path

from course import slices
from docs.notebooks import NBS, SEEN, described, read, text, title_of

STYLE = Path(__file__).with_name('slides.css')
SCRIPT = Path(__file__).with_name('slides.js')
LONG, SAID, SHORT = 14, 9, 420                   # lines of code and of what it prints, letters of text on a slide
FEW = 5                                          # slides with which a lesson is not told
LINK = re.compile(r'(?<!!)\[([^]]*)\]\([^)]*\)')
IMAGE = re.compile(r'!\[([^]]*)\]\(([^)\s]+\.svg)\)')


def embedded(match, folder) -> str:
    "A drawing beside the lesson, inside the page"
    path = (folder/match[2]).resolve()
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img class="drawing" src="data:image/svg+xml;base64,{data}" alt="{html.escape(match[1])}">'


def marked(words, folder) -> str:
    "Markdown as HTML, links as their words, equations left to MathJax"
    from nbconvert.filters import markdown2html
    return markdown2html(IMAGE.sub(lambda m: embedded(m, folder), LINK.sub(r'\1', words)))


@lru_cache(maxsize=1)
def _painter():
    "pygments' formatter"
    from pygments.formatters import HtmlFormatter
    return HtmlFormatter(nowrap=True, style='friendly')


def painted(source) -> str:
    "Code in colours"
    from pygments import highlight
    from pygments.lexers import PythonLexer
    return f'<pre class="code">{highlight(source, PythonLexer(), _painter())}</pre>'


def pictures(cells, i) -> list:
    "The stored pictures of a cell"
    found = []
    for output in cells[i].get('outputs', []):
        data = output.get('data', {})
        kind = next((k for k in ('image/png', 'image/jpeg') if k in data), None)
        if kind:
            source = f'data:{kind};base64,{text(data[kind]).strip()}'
            found.append(f'<img src="{source}" alt="{html.escape(described(cells, i))}">')
    return found


def cut(words) -> str:
    "The first sentences, as many as a slide holds"
    kept = ''
    for sentence in re.split(r'(?<=[.?!:])\s+', words.strip()):
        if kept and len(kept) + len(sentence) > SHORT: break
        kept += sentence + ' '
    return kept[:1].upper() + kept[1:].strip()


def printed(cell) -> str:
    "What a cell printed, if it is short"
    said = ''.join(text(o['text']) for o in cell.get('outputs', []) if o['output_type'] == 'stream').rstrip()
    return f'<pre class="printed">{html.escape(said)}</pre>' if 0 < said.count('\n') + bool(said) <= SAID else ''


def first_paragraphs(words) -> str:
    "Words below a heading up to what a slide holds; equations and lists stay whole"
    kept = []
    for paragraph in re.split(r'\n\s*\n', re.sub(r'^#+ .*$', '', words, flags=re.M).strip()):
        if kept and len(''.join(kept)) + len(paragraph) > SHORT: break
        kept.append(paragraph)
    return '\n\n'.join(kept)


def slide(heading, *parts, kind='') -> str:
    "One slide"
    return f'<section class="{kind}"><h2>{html.escape(heading)}</h2>{"".join(parts)}</section>'


def of_words(cell, heading, title, folder) -> list:
    "Slides of a Markdown cell: a drawing, the exercises, what to take away"
    words = text(cell['source'])
    made = [slide(title, embedded(m, folder)) for m in IMAGE.finditer(words)]
    if re.search(r'^> \*\*The loss', words, re.M): made.append(slide('In one box', marked(words, folder)))
    if re.search(r'^## (What to take away|Exercises)', words, re.M):
        made.append(slide(heading, marked(re.sub(r'^#+ .*$', '', words, flags=re.M), folder), kind='text'))
    return made


def of_code(cells, i, heading, folder) -> list:
    "The slide of a cell that drew something, or of a short one below an equation"
    near = lambda k: text(cells[k]['source']) if k < len(cells) and cells[k]['cell_type'] == 'markdown' else ''
    before, after, key = near(i - 1), near(i + 1), slices.code_of(cells[i])
    if shown := pictures(cells, i):
        said = cut(SEEN.split(after, maxsplit=1)[1].split('\n\n')[0]) if SEEN.search(after) else ''
        live = '<p class="live">Live in the demo notebook.</p>' if slices.is_widget(cells[i]) else ''
        return [slide(heading, *shown, marked(said, folder), live, kind='figure')]
    if '$' in before and key and key.count('\n') < LONG and 'import ' not in key:
        return [slide(heading, marked(first_paragraphs(before), folder), painted(key), printed(cells[i]),
                      kind='equation')]
    return []


def walked(cells, title, folder, sections) -> list:
    "Slides of all cells; with sections, also one for the first words of each"
    heading, made = title, []
    for i, cell in enumerate(cells):
        if slices.tagged(cell, 'solution'): continue
        words = text(cell['source'])
        if cell['cell_type'] == 'markdown':
            heading = (re.findall(r'^##+ (.*)$', words, re.M) or [heading])[-1]
            found = of_words(cell, heading, title, folder)
            if sections and not found and len(first := first_paragraphs(words)) > 60 and i:
                found = [slide(heading, marked(first, folder), kind='equation')]
            made += found
        elif cell['cell_type'] == 'code': made += of_code(cells, i, heading, folder)
    return made


def slides(path) -> list:
    "The slides of a lesson; one without figures and equations is told by the first words of its sections"
    cells, folder, (title, line) = read(path), path.parent, title_of(path)
    made = walked(cells, title, folder, sections=False)
    if len(made) < FEW: made = walked(cells, title, folder, sections=True)
    return [f'<section class="title"><h1>{html.escape(title)}</h1>{marked(line, folder)}</section>', *made]


def page(path, assets='assets') -> str:
    "The page"
    title, _ = title_of(path)
    style = STYLE.read_text(encoding='utf-8') + _painter().get_style_defs('.code')
    return f'''<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}: slides</title><style>{style}</style></head>
<body>{"".join(slides(path))}
<nav><button id="back" aria-label="Back">‹</button><output id="at"></output>
<button id="on" aria-label="On">›</button></nav>
<script>{SCRIPT.read_text(encoding='utf-8')}</script><script async src="{assets}/mathjax.js"></script></body></html>
'''


def write(path, folder) -> Path:
    "A lesson's slides as a file"
    target = folder/path.relative_to(NBS).with_suffix('.html').name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(path), encoding='utf-8')
    return target
