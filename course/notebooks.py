"""A lesson as notebooks: for students without its solutions, for teachers whole, as a demo with its widgets alone."""
import ast
import configparser
import json
import re
from pathlib import Path
from urllib.parse import quote

from course import slices
from docs.notebooks import DIRECTIVE, NBS, ROOT, read, text

KEYS = re.compile(r'^#+ (?:Answers?|Solutions?|Keys?)\b.*$', re.M)      # what follows is not for students
HEADING = re.compile(r'^#+ (?!Answers?\b|Solutions?\b|Keys?\b)', re.M)
COLAB, BINDER = 'https://colab.research.google.com/github', 'https://mybinder.org/v2'
KERNEL = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))


def settings() -> dict:
    "settings.ini, read anew"
    ini = configparser.ConfigParser()
    ini.read(ROOT/'settings.ini')
    return dict(ini['DEFAULT'])


def package(ini) -> str:
    "What pip installs: the package from the repository's own address"
    return f"{ini['lib_name']}[lab] @ git+{ini['git_url']}@{ini['branch']}"


def badges(ini, path, colab=True) -> str:
    "Links that open a notebook of the course's branch in Colab (from GitHub alone) and in Binder"
    url, branch = ini['git_url'].removesuffix('.git'), ini['course_branch']
    owner = re.fullmatch(r'https://github\.com/([^/]+/[^/]+)', url)
    place = f'gh/{owner[1]}/{branch}' if owner else f"git/{quote(url, safe='')}/{branch}"
    links = [f'[Colab]({COLAB}/{owner[1]}/blob/{branch}/{quote(path)})'] if owner and colab else []
    return ' · '.join([*links, f'[Binder]({BINDER}/{place}?labpath={quote(path, safe="")})'])


def code_cell(source, name, tags=(), folded=False) -> dict:
    "A cell of code that has not run"
    about = dict(tags=list(tags)) if tags else {}
    if folded: about['jupyter'] = dict(source_hidden=True)
    return dict(cell_type='code', id=name, metadata=about, source=source, execution_count=None, outputs=[])


def markdown_cell(source, name) -> dict:
    "A cell of words"
    return dict(cell_type='markdown', id=name, metadata={}, source=source)


def install_cell(ini) -> dict:
    "Installs the package where it is not there: on Colab"
    return code_cell(f'''import importlib.util
import subprocess
import sys

if importlib.util.find_spec('{ini['lib_name']}') is None:
    subprocess.check_call([sys.executable, '-m', 'pip', 'install', '-q', '{package(ini)}'])''',
                     'install', ['setup'], True)


def write(cells, path) -> Path:
    "Cells as a notebook file"
    path.parent.mkdir(parents=True, exist_ok=True)
    words = json.dumps(dict(cells=cells, metadata=KERNEL, nbformat=4, nbformat_minor=5), indent=1, ensure_ascii=False)
    path.write_text(words + '\n', encoding='utf-8')
    return path


def without_directives(cell) -> dict | None:
    "A cell for readers: without nbdev's directives, plumbing folded; None for what else is hidden"
    if cell['cell_type'] != 'code': return dict(cell, source=text(cell['source']))
    source = text(cell['source'])
    words, source = set(DIRECTIVE.findall(source)), DIRECTIVE.sub('', source).strip('\n')
    if 'default_exp' in words or not source: return None
    about, plumbing = dict(cell['metadata']), slices.is_plumbing(source)
    if 'hide' in words and not plumbing: return None
    if plumbing or 'hide_input' in words: about['jupyter'] = dict(source_hidden=True)
    return dict(cell, source=source, metadata=about)


def readable(cells) -> list:
    "Every cell for readers"
    return [c for c in map(without_directives, cells) if c]


def teacher(cells, ini) -> list:
    "The whole lesson, solutions open"
    kept = readable(cells)
    for cell in kept:
        if slices.tagged(cell, 'solution'): cell['metadata'] = dict(tags=cell['metadata']['tags'])
    return [kept[0], install_cell(ini), *kept[1:]]


def _unanswered(cell) -> dict | None:
    "A cell below the exercises without calls of checkers; None for one that answers and calls"
    source = text(cell['source'])
    body = ast.parse(source).body
    calls = [s for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)
             and isinstance(s.value.func, ast.Name) and s.value.func.id.startswith('check_')]
    if not calls: return cell
    if not any(isinstance(s, ast.FunctionDef) and s.name.startswith('check_') for s in body): return None
    lines = source.split('\n')
    for s in reversed(calls): del lines[s.lineno - 1:s.end_lineno]
    return dict(cell, source='\n'.join(lines).strip('\n'), outputs=[])


def student(cells, ini) -> list:
    """A lesson without answers: no cell tagged `solution`, nothing below a heading like "Answers", no checker called

    What calls a checker is cut only below the exercises: before them it is the lesson that shows how to check.
    """
    kept, below, hidden = [], False, False
    for cell in readable(cells):
        if slices.tagged(cell, 'solution'): continue
        if cell['cell_type'] == 'markdown':
            if not KEYS.search(cell['source']): hidden = hidden and not HEADING.search(cell['source'])
            below = below or bool(re.search(r'^#+ Exercises', cell['source'], re.M))
            before, *rest = KEYS.split(cell['source'], maxsplit=1)
            if rest:
                hidden = True
                if before.strip(): kept.append(dict(cell, source=before.rstrip()))
                continue
            if below and cell['source'].startswith('**Exercise '): continue
        elif below: cell = _unanswered(cell)
        if cell and not hidden: kept.append(cell)
    return [kept[0], install_cell(ini), *kept[1:]]


def _words_before(cells, i) -> str:
    "The last heading and the words directly above a cell"
    words = '\n'.join(text(c['source']) for c in cells[:i] if c['cell_type'] == 'markdown')
    heads = re.findall(r'^##+ .*$', words, re.M)
    above = text(cells[i - 1]['source']) if cells[i - 1]['cell_type'] == 'markdown' else ''
    return above if re.match(r'##+ ', above) else '\n\n'.join(filter(None, [heads[-1] if heads else '', above]))


def demo(cells) -> list:
    "The widgets of a lesson with the code that they need, folded, and the words around them; no cells without a widget"
    shown = slices.widgets(cells)
    if not shown: return []
    kept = [markdown_cell('\n'.join(text(cells[0]['source']).split('\n')[:3]), 'title')]
    for i in slices.needed(cells, shown):
        if i in shown: kept.append(markdown_cell(_words_before(cells, i) or '## Try', f'before-{i}'))
        kept.append(code_cell(slices.code_of(cells[i]), f'code-{i}', ['widget'] if i in shown else [], True))
        after = cells[i + 1] if i + 1 < len(cells) else None
        if i in shown and after and after['cell_type'] == 'markdown' and not text(after['source']).startswith('#'):
            kept.append(markdown_cell(text(after['source']), f'after-{i}'))
    return kept


def lessons() -> list:
    "All notebooks"
    return sorted(p for p in NBS.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)


def write_lesson(path, students, teachers, ini) -> None:
    "A lesson for students, for teachers, and its demo"
    cells, place = read(path), path.relative_to(NBS)
    write(student(cells, ini), students/'lessons'/place)
    write(teacher(cells, ini), teachers/'lessons'/place)
    if found := demo(cells): write(found, teachers/'demos'/place.name)
