"""A page a method: what it learns from, its drawing, its lessons, its app, its scores, its claims, its commands."""
import re
from pathlib import Path

from benchmarks import tables
from docs import notebooks
from docs.results import claim_section
from ssl_workbench import catalog
from ssl_workbench.claims import load_claims

ROOT = Path(__file__).resolve().parent.parent
INPUTS = dict(image='images', pair='pairs of frames', clip='clips of videos', caption='captions',
              features='features of clips')


def lessons(entry) -> list:
    "Notebooks of a method: the one that exports it, then its other parts, which share its number"
    main = ROOT/tables.lesson(entry.name)
    parts = sorted(main.parent.glob(f'{re.match("[0-9]+", main.name)[0]}*.ipynb'))
    return [main, *(p for p in parts if p != main)]


def drawing(path) -> str:
    "The lesson's drawing with its words"
    prose = '\n'.join(notebooks.text(c['source']) for c in notebooks.read(path) if c['cell_type'] == 'markdown')
    found = re.search(r'!\[([^]]*)\]\((\.\./images/[^)]+)\)', prose)
    return f'![{found[1]}]({found[2]})' if found else ''


def box(path) -> list:
    "The lesson's box: loss, why no collapse, what goes in, the paper's main result; nothing where it has none"
    for cell in notebooks.read(path)[:12]:
        words = notebooks.text(cell['source'])
        if cell['cell_type'] == 'markdown' and words.startswith('> **') and 'collapse' in words:
            return [w + '  ' for w in words.splitlines()] + ['']
    return []


def look(entry) -> list:
    "What its pages of the app show"
    shown = [p for p in tables.pages() if p['method'] == entry.name]
    ask = lambda words: words if words.endswith(('?', '.')) else words + '.'
    lines = [f"- **{p['title']}**: {ask(p['question'])} {p['text']} `ssl-workbench app {p['name']}`" for p in shown]
    return ['## Look', '', *lines, ''] if lines else []


def commands(entry) -> list:
    "How it is trained and probed from a terminal"
    return ['## Train', '', '```sh', f'ssl-workbench train {entry.name} --preset cpu --out runs/{entry.name}',
            f'ssl-workbench probe runs/{entry.name}', '```', '',
            f'In Python: [`{entry.module}`](../api/{entry.module}.md) exports `Config`, `presets`, `Views`, '
            f'`{entry.cls}` and `panels`.', '']


def results(entry) -> list:
    "Its weights' scores and its paper's claims"
    cards = {n: c for n, c in catalog.cards().items() if n.split('-')[0] == entry.name}
    lines = ['## Scores', '']
    for name, card in cards.items():
        lines += [f'### `{name}`', '', tables.recipe_line(name, card) + '. '
                  f'[How each score is measured](../results/index.md#{name}).', '', tables.score_table(card), '']
    if not cards: lines += ['No weights are bundled yet.', '']
    claims = load_claims(f'{entry.name}-')
    for claim in claims:
        head, *rest = claim_section(claim)
        lines += ['#' + head, *rest] if claim is not claims[0] else ['## Claims', '', '#' + head, *rest]
    return lines


def page(entry) -> str:
    "The page of one method"
    main, *parts = lessons(entry)
    line = notebooks.title_of(main)[1]
    also = [f'[{notebooks.title_of(p)[0]}]({p.stem}.md)' for p in parts]
    lines = [f'# {entry.title}', '', line, '', f'*{entry.paper}*, {entry.authors}, {entry.venue}.',
             f"Learns from {' and '.join(INPUTS[i] for i in entry.inputs)}.", '', drawing(main), '',
             f'[Step through the lesson]({main.stem}.md){{ .md-button .md-button--primary }}', '',
             *([f"Its other lessons: {', '.join(also)}.", ''] if also else []), *box(main), *look(entry),
             *commands(entry), *results(entry)]
    return '\n'.join(lines) + '\n'


def row(entry, link) -> str:
    "A method in the table"
    line = notebooks.title_of(ROOT/tables.lesson(entry.name))[1]
    return f"| [{entry.title}]({link}) | {line} | {entry.authors}, {entry.venue} |"


def index() -> str:
    "The table of the nine, and of the classics"
    classic = lambda e: '../' + tables.lesson(e.name).removeprefix('nbs/').replace('.ipynb', '.md')
    return '\n'.join([
        '# Methods', '', 'Nine methods, each with a lesson, an app and the claims of its paper, run again.', '',
        '| method | idea | paper |', '|---|---|---|', *(row(e, f'{e.name}.md') for e in catalog.catalog), '',
        '## Classics', '', 'What the nine build on or are compared with, by the same protocol: a lesson each.', '',
        '| method | idea | paper |', '|---|---|---|', *(row(e, classic(e)) for e in catalog.classics)]) + '\n'


def write(folder) -> list:
    "The pages; returns the entries of the navigation"
    folder.mkdir(parents=True, exist_ok=True)
    nav = ['methods/index.md']
    (folder/'index.md').write_text(index(), encoding='utf-8')
    for entry in catalog.catalog:
        (folder/f'{entry.name}.md').write_text(page(entry), encoding='utf-8')
        parts = [{notebooks.title_of(p)[0] + (' (lesson)' if i == 0 else ''): f'methods/{p.stem}.md'}
                 for i, p in enumerate(lessons(entry))]
        nav.append({entry.title: [{f'{entry.title} at a glance': f'methods/{entry.name}.md'}, *parts]})
    return nav
