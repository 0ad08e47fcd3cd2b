"""A notebook as a page of the site: Markdown, code, printed words and pictures with what they show; plumbing left out.

The pages are Markdown, so that mkdocs itself checks their links, lists their headings and searches them.
"""
import base64
import json
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
STATES = ROOT/'docs/states'              # what widgets show at some settings: see `docs.stills`
DIRECTIVE = re.compile(r'^#\|\s*(\w+).*\n?', re.M)
SEEN = re.compile(r'\*+What to see:?\*+:?\s*')
LINK = re.compile(r'(\]\()((?!\w+:)[^)#\s]*?)([^)/#\s]+)\.ipynb(#[^)\s]*)?\)')
ITEM = re.compile(r'\s*([-*+]|\d+\.) ')
HANDLE = re.compile(r'[\[(]*(<matplotlib|Text\()')


def text(source) -> str:
    "A cell's or output's text, whether stored as a string or as lines"
    return source if isinstance(source, str) else ''.join(source)


def sources() -> list:
    "All notebooks"
    return sorted(p for p in NBS.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)


def read(path) -> list:
    "A notebook's cells"
    return json.loads(path.read_text(encoding='utf-8'))['cells']


def site_path(path) -> str:
    "Where a notebook's page lies on the site"
    name = path.relative_to(NBS).with_suffix('.md').as_posix()
    return 'tour.md' if name == 'index.md' else name


def title_of(path) -> tuple:
    "Title and line of a notebook's first cell"
    return re.match(r'# (.*?)\n+> (.*)', text(read(path)[0]['source'])).groups()


def linked(words) -> str:
    "Links to notebooks as links to their pages"
    page = lambda m: f"{m[1]}{m[2]}{'tour' if m[3] == 'index' else m[3]}.md{m[4] or ''})"
    return LINK.sub(page, words)


def spaced(words) -> str:
    "Lists and tables as Python's Markdown reads them: a blank line before, four spaces a level"
    lines, fenced = [], False
    for line in words.split('\n'):
        fenced ^= line.lstrip().startswith('```')
        last = lines[-1] if lines else ''
        if not fenced and last.strip() and (
                ITEM.match(line) and not ITEM.match(last) and not last.startswith(' ') and not line.startswith(' ')
                or line.startswith('|') and not last.startswith('|')): lines.append('')
        lines.append(re.sub(r'^ {2,3}(?=[-*\d])', '    ', line) if not fenced else line)
    return '\n'.join(lines)


def plain(words) -> str:
    "Markdown as words without marks"
    words = re.sub(r'!?\[([^]]*)\]\([^)]*\)', r'\1', words)
    return ' '.join(re.sub(r'[*_`$"\[\]]', '', words).split())


def described(cells, i) -> str:
    "What the picture of cell `i` shows: the figure's own words below it, else those above it"
    after = next((text(c['source']) for c in cells[i + 1:i + 2] if c['cell_type'] == 'markdown'), '')
    if SEEN.search(after): return 'Figure: ' + re.split(r'(?<=[.?!])\s', plain(SEEN.split(after, maxsplit=1)[1]))[0]
    before = [text(c['source']) for c in cells[:i] if c['cell_type'] == 'markdown']
    heads = re.findall(r'^#+ (.*)$', '\n'.join(before), re.M)
    words = [plain(re.sub(r'^[#>|].*$|^```.*?^```', '', b, flags=re.M | re.S)) for b in reversed(before)]
    said = next((w for w in words if len(w) > 12), '')
    return f"Figure in “{plain(heads[-1])}”: " + re.split(r'(?<=[.?!:])\s', said)[0]


def fence(words, kind) -> list:
    "A block of code or of printed words"
    ticks = '`' * max(3, *(len(t) + 1 for t in re.findall('`+', words)), 3)
    return [f'{ticks} {{{kind}}}', words.rstrip('\n'), ticks, '']


def picture(data, name, folder) -> str:
    "The smaller of an output's pictures as a file; its name, or nothing"
    kinds = sorted((k for k in data if k in ('image/png', 'image/jpeg')), key=lambda k: len(text(data[k])))
    if not kinds: return ''
    file = f"{name}.{kinds[0].split('/')[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder/file).write_bytes(base64.b64decode(text(data[kinds[0]])))
    return file


def still(cells, i, folder) -> list:
    "A moment of touch: its first picture, which the page's script replaces by the widget; its states lie beside it"
    name = cells[i].get('id', '')
    states = STATES/folder.name.removesuffix('_files')/f'{name}.json'
    if not states.is_file(): return []
    folder.mkdir(parents=True, exist_ok=True)
    for file in states.parent.glob(f'{name}[._]*'): shutil.copy(file, folder)
    first = json.loads(states.read_text(encoding='utf-8'))['picture']
    return [f'![{described(cells, i)}]({folder.name}/{first}){{ .figure loading=lazy data-still={name}.json }}', '']


def outputs(cells, i, folder) -> list:
    "What a cell printed and drew, without the handles that matplotlib returns"
    lines, played = [], still(cells, i, folder)
    for k, output in enumerate(cells[i]['outputs']):
        data = output.get('data', {})
        file = '' if played else picture(data, f'{i:03}_{k}', folder)
        if file: lines += [f'![{described(cells, i)}]({folder.name}/{file}){{ .figure loading=lazy }}', '']
        elif output['output_type'] == 'stream': lines += fence(text(output['text']), '.text .output')
        elif played and 'image/png' in data: continue
        elif 'text/plain' in data and not HANDLE.match(text(data['text/plain'])):
            lines += fence(text(data['text/plain']), '.text .output')
    return lines + played


def code(cells, i, folder) -> list:
    "A cell of code with what came out; nothing for plumbing"
    cell = cells[i]
    source = text(cell['source'])
    words, source = set(DIRECTIVE.findall(source)), DIRECTIVE.sub('', source).strip('\n')
    if 'hide' in words or not source: return []
    lines = fence(source, '.python .exported' if words & {'export', 'exports'} else '.python')
    solution = 'solution' in cell['metadata'].get('tags', [])
    if solution or 'hide_input' in words or cell['metadata'].get('jupyter', {}).get('source_hidden'):
        name = 'Answer' if solution else 'Code'
        lines = [f'??? note "{name}"', '', *('    ' + l for l in '\n'.join(lines).split('\n')), '']
    return lines + outputs(cells, i, folder)


def page(path, target) -> str:
    "A notebook's page; its pictures are written beside it"
    cells, lines = read(path), []
    folder = target.parent/f'{target.stem}_files'
    for i, cell in enumerate(cells):
        if cell['cell_type'] == 'markdown': lines += [spaced(linked(text(cell['source']))), '']
        elif cell['cell_type'] == 'code': lines += code(cells, i, folder)
    return '\n'.join(lines)
