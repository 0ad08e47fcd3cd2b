"""The rules of the house, read from its own files: clean notebooks, exports, form, one catalog."""
import ast
import configparser
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT/'ssl_workbench'
MODULES = sorted(p for p in LIB.rglob('*.py')
                 if p.name != '_modidx.py' and 'File to edit: ' in p.read_text(encoding='utf-8'))
APPS = sorted((ROOT/'apps').glob('*.py'))
HEAVY = ['gradio', 'plotly', 'matplotlib', 'ipywidgets', 'IPython', 'nbdev', 'fastcore']

# ---- limits, and who may break them: file → reason

LINES, FUNCTION, CELLS = 650, 40, 110
LONG_MODULES = {}
LONG_FUNCTIONS = {}                 # 'file function'
LONG_NOTEBOOKS = {}


def _load(path):
    "A script as a module"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tidy = _load(ROOT/'nbs/tidy.py')
NOTEBOOKS = tidy.notebooks()
ids = lambda p: str(p.relative_to(ROOT))


def dotted(path):
    "ssl_workbench/world/__init__.py as ssl_workbench.world"
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def needs_gradio(path):
    "Whether a module is a part of the app"
    return path.is_relative_to(LIB/'app')


# ---- the library and the apps

def test_no_drawer_modules():
    "No utils, base, common, helpers"
    assert not {p.stem for p in MODULES} & {'utils', 'util', 'base', 'common', 'helpers', 'misc'}


def test_apps_are_shells():
    "Apps import the library, hold no tensors, and are four lines"
    for app in APPS:
        text = app.read_text(encoding='utf-8')
        assert re.search(r'^from ssl_workbench', text, re.M), f'{app.name} does not use the library'
        assert not re.search(r'^\s*(import|from) (torch|numpy)', text, re.M), f'{app.name} handles tensors'
        assert len([l for l in text.splitlines() if l.strip()]) <= 4, f'{app.name} is more than a shell'


def test_library_needs_no_notebook_or_app_package():
    "Every library module imports where gradio, plotly, matplotlib and nbdev cannot be imported"
    code = f'''
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}: raise ImportError("blocked " + name)
sys.meta_path.insert(0, Block())
for name in {[dotted(p) for p in MODULES if not needs_gradio(p)]}: importlib.import_module(name)
'''
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


# ---- notebooks

@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids)
def test_notebook_is_clean(path):
    "Nothing of a run but its outputs, within budget, no paths of a machine, every cell with its own id"
    text = path.read_text(encoding='utf-8')
    nb = json.loads(text)
    assert list(tidy.faults(nb)) == []
    assert tidy.dumps(tidy.tidy(nb)) == text, f'run: make tidy NB={path.relative_to(ROOT)}'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids)
def test_notebook_anatomy(path):
    "Title, one line, an export at the end; cells small; imports by name"
    cells = [(c['cell_type'], tidy.text(c['source'])) for c in json.loads(path.read_text())['cells']]
    assert re.match(r'# \S.*\n+> \S', cells[0][1]), 'first cell: # Title, > one line'
    code = [s for t, s in cells if t == 'code']
    assert not [s for s in code if re.search(r'^\s*from \S+ import \*', s, re.M)], 'star import'
    assert not [s for s in code if re.search(r'^[%!]', s, re.M)], 'magic'
    if path.name != 'index.ipynb':
        assert 'nbdev_export()' in code[-1]
        words = sum(t == 'markdown' for t, _ in cells) / len(cells)
        assert words >= .25, f'only {words:.0%} of the cells explain'


def test_tidy_removes_what_a_run_leaves():
    "Counts, timings, widget state, progress bars and addresses go; text and pictures stay"
    nb = {'metadata': {'widgets': {'state': 1}, 'kernelspec': {'name': 'python3'}}, 'nbformat': 4, 'nbformat_minor': 5,
          'cells': [{'cell_type': 'code', 'id': 'a', 'source': 'x', 'execution_count': 3,
                     'metadata': {'execution': {'t': 1}}, 'outputs': [
              {'output_type': 'stream', 'name': 'stderr', 'text': ['100%|####| 3/3\n']},
              {'output_type': 'stream', 'name': 'stdout', 'text': ['7 of 8\n', '<f at 0x7f00aa>\n']},
              {'output_type': 'display_data', 'metadata': {},
               'data': {tidy.WIDGETS + '-view+json': {}, 'text/plain': ['Box()']}},
              {'output_type': 'execute_result', 'execution_count': 3, 'metadata': {}, 'data': {
                  tidy.WIDGETS + '-view+json': {}, 'image/png': 'AAAA\n', 'text/plain': ['Live']}}]}]}
    cell = tidy.tidy(nb)['cells'][0]
    assert cell['outputs'] == [
        {'output_type': 'stream', 'name': 'stdout', 'text': ['7 of 8\n', '<f>\n']},
        {'output_type': 'execute_result', 'execution_count': None, 'metadata': {}, 'data': {'image/png': 'AAAA'}}]
    assert cell['execution_count'] is None and cell['metadata'] == {} and 'widgets' not in tidy.tidy(nb)['metadata']
    assert tidy.tidy(tidy.tidy(nb)) == tidy.tidy(nb)


@pytest.mark.parametrize('output', [
    {'output_type': 'stream', 'name': 'stdout', 'text': '/home/ada/data'},
    {'output_type': 'display_data', 'metadata': {}, 'data': {'image/png': 'A' * 500_000}},
    {'output_type': 'error', 'ename': 'E', 'evalue': '', 'traceback': []}], ids=['path', 'size', 'error'])
def test_tidy_names_what_it_cannot_mend(output):
    "A path of a machine, too large a picture, a cell that failed"
    assert list(tidy.faults({'cells': [{'id': 'a', 'cell_type': 'code', 'source': '', 'outputs': [output]}]}))


def test_export_and_clean_leave_no_diff(tmp_path):
    "nbdev's own export and clean, run on a copy of the tree, change nothing"
    copy = tmp_path/'tree'
    left = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '.last_checked', '*.safetensors')
    for part in ('nbs', 'ssl_workbench'): shutil.copytree(ROOT/part, copy/part, ignore=left)
    for part in ('settings.ini', 'pyproject.toml', 'README.md'): shutil.copy(ROOT/part, copy/part)
    contents = lambda: {p: p.read_bytes() for p in sorted(copy.rglob('*'))
                        if p.is_file() and '__pycache__' not in p.parts and p.name != '.last_checked'}
    before = contents()
    for command in ('nbdev_export', 'nbdev_clean'):
        program = str(Path(sys.executable).parent/command)
        subprocess.run([program], cwd=copy, check=True, capture_output=True, timeout=300)
    after = contents()
    changed = [str(p.relative_to(copy)) for p in before.keys() | after.keys() if before.get(p) != after.get(p)]
    assert sorted(changed) == [], 'run: make export tidy'


# ---- form

def functions(path):
    "(name, lines of code without docstring) of every function of a module"
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            yield node.name, body[-1].end_lineno - body[0].lineno + 1


def code_files():
    "The library, the apps and the benchmarks"
    return [*MODULES, *APPS, *sorted((ROOT/'benchmarks').rglob('*.py'))]


def over_limit(sizes, limit, exceptions):
    "What is above the limit and not excepted, and exceptions that nothing needs any more"
    above = {k: n for k, n in sizes.items() if n > limit}
    return {k: n for k, n in above.items() if k not in exceptions}, exceptions.keys() - above.keys()


def test_modules_can_be_read_in_one_go():
    "No module above 650 lines"
    sizes = {ids(p): p.read_text(encoding='utf-8').count('\n') for p in code_files()}
    assert over_limit(sizes, LINES, LONG_MODULES) == ({}, set())


def test_functions_are_short():
    "No function above 40 lines, its signature and docstring apart"
    sizes = {f'{ids(p)} {name}': n for p in code_files() for name, n in functions(p)}
    assert over_limit(sizes, FUNCTION, LONG_FUNCTIONS) == ({}, set())


def test_notebooks_are_a_lesson_long():
    "No notebook above 110 cells"
    sizes = {ids(p): len(json.loads(p.read_text(encoding='utf-8'))['cells']) for p in NOTEBOOKS}
    assert over_limit(sizes, CELLS, LONG_NOTEBOOKS) == ({}, set())


def test_limits_are_held():
    "What is too large is found, an exception is respected, and one that nothing needs any more is named"
    assert over_limit(dict(a=3, b=9), 5, {}) == (dict(b=9), set())
    assert over_limit(dict(a=3, b=9), 5, dict(b='a reason', a='none')) == ({}, {'a'})


def test_ruff():
    "Lines, names, order of imports and the usual traps, in everything that is code: notebooks too"
    done = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--output-format', 'concise', '.'], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_ruff_sees_notebooks(tmp_path):
    "The settings reach notebooks, the benchmarks and the library, each with what it must hold"
    wide, unused = 'x = 1' + 120 * ' ' + '# wide\n', 'import os\n'
    for folder, line in dict(nbs=wide, benchmarks=unused, ssl_workbench=unused).items():
        (tmp_path/folder).mkdir()
        cell = dict(cell_type='code', id='a', metadata={}, source=[line], outputs=[], execution_count=None)
        nb = dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)
        file = tmp_path/folder/('a.ipynb' if folder == 'nbs' else 'a.py')
        file.write_text(json.dumps(nb) if folder == 'nbs' else line)
    command = [sys.executable, '-m', 'ruff', 'check', '--output-format', 'concise', '--config', ROOT/'pyproject.toml']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert sorted(re.findall(r'^(\w+)/.*? ([A-Z]+\d+) ', done.stdout, re.M)) == [
        ('benchmarks', 'F401'), ('nbs', 'E501'), ('ssl_workbench', 'F401')], done.stdout


@pytest.mark.parametrize('path', MODULES, ids=ids)
def test_public_names_say_what_they_are(path):
    "Every exported function and class has a docstring, and a function's arguments their comment or type"
    text = path.read_text(encoding='utf-8')
    lines, bare = text.splitlines(), []
    for node in ast.parse(text).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith('_'): continue
        if not ast.get_docstring(node): bare.append(f'{node.name}: no docstring')
        if not isinstance(node, ast.FunctionDef): continue
        arguments = node.args.args + node.args.kwonlyargs
        bare += [f'{node.name}({a.arg})' for a in arguments if '#' not in lines[a.lineno - 1] and not a.annotation]
    assert bare == []


# ---- one truth in one place

def test_settings_agree():
    "What settings.ini and pyproject.toml both say, they say alike"
    ini = configparser.ConfigParser()
    ini.read(ROOT/'settings.ini')
    ini, toml = ini['DEFAULT'], tomllib.loads((ROOT/'pyproject.toml').read_text())
    project, nbdev = toml['project'], toml['tool']['nbdev']
    assert ini['lib_name'] == project['name'] and ini['description'] == project['description']
    assert project['requires-python'] == f">={ini['min_python']}"
    for key in ('nbs_path', 'lib_path', 'tst_flags'): assert nbdev[key] == ini[key]
    assert ini.getboolean('update_pyproject') is nbdev['update_pyproject'] is False
    assert f'__version__ = "{ini["version"]}"' in (LIB/'__init__.py').read_text()
    assert (ini['license'], project['license']) == ('apache2', 'Apache-2.0')
    assert 'License' in (ROOT/'LICENSE').read_text()


def table(text, heading):
    "Rows of the first table under a heading of a Markdown page"
    rows = [r for r in text.split(heading, 1)[1].split('\n## ')[0].splitlines() if r.startswith('|')]
    return [[c.strip() for c in r.strip('|').split('|')] for r in rows[2:]]


def test_readme_lists_the_catalog():
    "README's table is the catalog, row by row: each method with its notebook and its paper"
    from ssl_workbench.catalog import catalog
    rows = table((ROOT/'README.md').read_text(), '## The nine methods')
    assert [r[1] for r in rows] == [f'{e.authors}, {e.venue}' for e in catalog]
    for row, entry in zip(rows, catalog):
        title, notebook = re.fullmatch(r'\[(.+)\]\((.+)\)', row[0]).groups()
        assert title == entry.title
        assert f'default_exp methods.{entry.name}' in (ROOT/notebook).read_text(encoding='utf-8')


def test_readme_is_one_page():
    "At most 150 lines and 1,100 words, and a picture that moves, below 2 MB"
    from PIL import Image
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    assert text.count('\n') <= 150 and len(text.split()) <= 1100
    picture = ROOT/re.search(r'<img src="([^"]+)" alt="[^"]{30,}"', text)[1]
    assert picture.stat().st_size < 2e6
    with Image.open(picture) as film:
        first = film.convert('RGB').tobytes()
        film.seek(film.n_frames - 1)
        assert film.n_frames >= 8 and film.convert('RGB').tobytes() != first


def test_readme_names_all_lessons():
    "Every method and classic is one link away"
    from benchmarks.tables import lesson
    from ssl_workbench.catalog import catalog, classics
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    assert [e.name for e in catalog + classics if e.state == 'ready' and f'({lesson(e.name)})' not in text] == []


def test_catalog_matches_the_stair():
    "A ready method has its notebook and module; a planned one has neither"
    from ssl_workbench.catalog import catalog, classics
    for shelf, entries in (('methods', catalog), ('classics', classics)):
        there = {p.stem for p in (LIB/shelf).glob('*.py')} | {p.parent.name for p in (LIB/shelf).glob('*/__init__.py')}
        assert there - {'__init__'} == {e.name for e in entries if e.state == 'ready'}


def test_readme_links_lead_somewhere():
    "Every file that README, CONTRIBUTING and CHANGELOG link to exists"
    for page in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'):
        links = re.findall(r'\]\(([^)#\s]+)\)|src="([^"]+)"', (ROOT/page).read_text(encoding='utf-8'))
        lost = [l for l in map(''.join, links) if not l.startswith('http') and not (ROOT/l).exists()]
        assert lost == [], page


@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids)
def test_notebook_links_lead_somewhere(path):
    "Every file that a lesson's prose links to exists"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    prose = '\n'.join(tidy.text(c['source']) for c in cells if c['cell_type'] == 'markdown')
    links = re.findall(r'\]\(([^)#\s]+)[^)]*\)|src="([^"]+)"', prose)
    lost = [l for l in map(''.join, links) if not re.match(r'\w+:', l) and not (path.parent/l).exists()]
    assert lost == []


def tracked():
    "Files of the project, from git where there is one"
    done = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True)
    if done.returncode: pytest.skip('not a git checkout')
    return [ROOT/n for n in done.stdout.split('\0') if n and (ROOT/n).is_file()]


def test_sizes():
    "Each weights file at most 4 MB, all together 40; the rest of the tree under 25 MB"
    weights = [p.stat().st_size for p in (LIB/'weights').glob('*.safetensors')]
    assert max(weights, default=0) <= 4e6 and sum(weights) <= 40e6
    assert sum(p.stat().st_size for p in tracked() if p.parent != LIB/'weights') < 25e6


def test_no_pickles_and_no_machine_paths():
    "No pickle is tracked, and no file names a folder that only one machine has"
    files = tracked()
    assert not [p for p in files if p.suffix in ('.pt', '.pth', '.ckpt', '.pkl')]
    kinds = ('.py', '.ipynb', '.md', '.toml', '.ini', '.json')
    text = [p for p in files if p.suffix in kinds and p.parent != ROOT/'tests']
    found = [p.name for p in text if re.search(r'(?<![\w.])/(work|root|home)/\w', p.read_text(encoding='utf-8'))]
    assert found == []


def test_readme_results():
    "README's scores and verdicts are those of the cards and of the committed claims"
    from benchmarks.tables import written
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    assert written(text) == text, 'run: python -m benchmarks.tables --write'
