"""The rules of the house, read from its own files: the stair, clean notebooks, exports, style, one catalog."""
import ast
import configparser
import importlib
import importlib.util
import json
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT/'ssl_workbench'
MODULES = sorted(p for p in LIB.rglob('*.py') if p.name not in ('__init__.py', '_modidx.py'))
APPS = sorted((ROOT/'apps').glob('*.py'))
ONLY_APPS = {'ssl_workbench.hub'}  # builds the page, so it needs gradio
HEAVY = ['gradio', 'plotly', 'matplotlib', 'ipywidgets', 'IPython', 'nbdev', 'fastcore']


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
    "ssl_workbench/methods/slotmim.py as ssl_workbench.methods.slotmim"
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def source_notebook(path):
    "The notebook that an exported module names in its header"
    return (path.parent/re.search(r'File to edit: (\S+\.ipynb)\.', path.read_text()).group(1)).resolve()


def stairs():
    "Module → number of its notebook"
    return {dotted(p): int(source_notebook(p).name[:2]) for p in MODULES}


def imported(path):
    "Names of the modules of this project that a file imports anywhere, lazily or not"
    package = dotted(path).rsplit('.', 1)[0] if path.is_relative_to(LIB) else ''
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import): names |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom):
            home = package.split('.')[:len(package.split('.')) + 1 - node.level] if node.level else []
            base = '.'.join([*home, *([node.module] if node.module else [])])
            names |= {f'{base}.{a.name}' for a in node.names} | {base}
    return names


def of_project(names, known):
    "Those names that are modules of ours"
    return sorted(n for n in names if n in known)


def kind(module):
    "'methods', 'classics' or ''"
    parts = module.split('.')
    return parts[1] if len(parts) > 2 else ''


@pytest.mark.parametrize('path', MODULES, ids=ids)
def test_stair(path):
    "A module imports only from lower numbers; methods and classics import no method; nothing imports apps"
    number, me = stairs(), dotted(path)
    names = imported(path)
    for other in of_project(names, number):
        assert number[other] < number[me], f'{me} ({number[me]}) imports {other} ({number[other]})'
        assert not (kind(me) in ('methods', 'classics') and kind(other) == 'methods'), f'{me} imports {other}'
    assert not [n for n in names if n.split('.')[0] in ('apps', 'benchmarks', 'tests')]


def test_stair_sees_imports(tmp_path):
    "The reader of imports finds relative, absolute and lazy ones"
    file = tmp_path/'x.py'
    file.write_text('import ssl_workbench.core\ndef f():\n    from ssl_workbench.methods.slotmim import Config\n')
    assert {'ssl_workbench.core', 'ssl_workbench.methods.slotmim'} <= imported(file)
    assert 'ssl_workbench.losses' in imported(LIB/'learner.py')


def test_names_into_objects_only_in_catalog():
    "importlib turns names into objects in the catalog alone"
    users = [dotted(p) for p in MODULES if re.search(r'import_module|__import__', p.read_text())]
    assert set(users) <= {'ssl_workbench.catalog'}


def test_no_drawer_modules():
    "No utils, base, common, helpers"
    assert not {p.stem for p in MODULES} & {'utils', 'util', 'base', 'common', 'helpers', 'misc'}


def test_apps_are_shells():
    "Apps import the library and hold no tensors"
    for app in APPS:
        names = imported(app)
        assert any(n.startswith('ssl_workbench') for n in names), f'{app.name} does not use the library'
        assert not [n for n in names if n.split('.')[0] in ('torch', 'numpy')], f'{app.name} handles tensors'


def test_library_needs_no_notebook_or_app_package():
    "Every library module imports where gradio, plotly, matplotlib and nbdev cannot be imported"
    code = f'''
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}: raise ImportError("blocked " + name)
sys.meta_path.insert(0, Block())
for name in {[dotted(p) for p in MODULES if dotted(p) not in ONLY_APPS]}: importlib.import_module(name)
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
          'cells': [{'cell_type': 'code', 'id': 'a', 'source': 'x', 'execution_count': 3, 'metadata': {'execution': {'t': 1}}, 'outputs': [
              {'output_type': 'stream', 'name': 'stderr', 'text': ['100%|####| 3/3\n']},
              {'output_type': 'stream', 'name': 'stdout', 'text': ['7 of 8\n', '<f at 0x7f00aa>\n']},
              {'output_type': 'display_data', 'metadata': {}, 'data': {tidy.WIDGETS + '-view+json': {}, 'text/plain': ['Box()']}},
              {'output_type': 'execute_result', 'execution_count': 3, 'metadata': {}, 'data': {
                  tidy.WIDGETS + '-view+json': {}, 'image/png': 'AAAA\n', 'text/plain': ['Live']}}]}]}
    cell = tidy.tidy(nb)['cells'][0]
    assert cell['outputs'] == [{'output_type': 'stream', 'name': 'stdout', 'text': ['7 of 8\n', '<f>\n']},
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
    for part in ('nbs', 'ssl_workbench'):
        shutil.copytree(ROOT/part, copy/part, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '.last_checked', '*.safetensors'))
    for part in ('settings.ini', 'pyproject.toml', 'README.md'): shutil.copy(ROOT/part, copy/part)
    before = {p: p.read_bytes() for p in sorted(copy.rglob('*')) if p.is_file()}
    for command in ('nbdev_export', 'nbdev_clean'):
        subprocess.run([str(Path(sys.executable).parent/command)], cwd=copy, check=True, capture_output=True, timeout=300)
    after = {p: p.read_bytes() for p in sorted(copy.rglob('*')) if p.is_file() and '__pycache__' not in p.parts and p.name != '.last_checked'}
    changed = [str(p.relative_to(copy)) for p in before.keys() | after.keys() if before.get(p) != after.get(p)]
    assert sorted(changed) == [], 'run: make export tidy'


# ---- style

def functions(path):
    "(name, lines of code without docstring) of every function of a module"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            yield node.name, body[-1].end_lineno - body[0].lineno + 1


@pytest.mark.parametrize('path', MODULES, ids=ids)
def test_functions_are_short(path):
    "Median at most six lines, none above twenty-five"
    sizes = dict(functions(path))
    assert statistics.median(sizes.values()) <= 6
    assert {n: s for n, s in sizes.items() if s > 25} == {}


@pytest.mark.parametrize('path', MODULES, ids=ids)
def test_public_names_say_what_they_are(path):
    "Every exported function and class has a docstring, and a function's arguments their comment or type"
    lines, bare = path.read_text().splitlines(), []
    for node in ast.parse(path.read_text()).body:
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
    assert {k: nbdev[k] for k in ('nbs_path', 'lib_path', 'tst_flags')} == {k: ini[k] for k in ('nbs_path', 'lib_path', 'tst_flags')}
    assert ini.getboolean('update_pyproject') is nbdev['update_pyproject'] is False
    assert f'__version__ = "{ini["version"]}"' in (LIB/'__init__.py').read_text()
    assert 'License' in (ROOT/'LICENSE').read_text() and (ini['license'], project['license']) == ('apache2', 'Apache-2.0')


def table(text, heading):
    "Rows of the first table under a heading of a Markdown page"
    rows = [l for l in text.split(heading, 1)[1].split('\n## ')[0].splitlines() if l.startswith('|')]
    return [[c.strip() for c in r.strip('|').split('|')] for r in rows[2:]]


def test_readme_lists_the_catalog():
    "README's table of methods is the catalog, row by row"
    from ssl_workbench.catalog import catalog
    rows = table((ROOT/'README.md').read_text(), '## The nine methods')
    assert rows == [[e.title, f'{e.authors}, {e.venue}', ' + '.join(e.inputs), e.state, f'`{e.name}`'] for e in catalog]


def test_catalog_matches_the_stair():
    "A ready method has its notebook and module; a planned one has neither"
    from ssl_workbench.catalog import catalog, classics
    for shelf, entries in (('methods', catalog), ('classics', classics)):
        made = {p.stem for p in (LIB/shelf).glob('*.py')} - {'__init__'}
        assert made == {e.name for e in entries if e.state == 'ready'}


def test_readme_links_lead_somewhere():
    "Every file that README, CONTRIBUTING and CHANGELOG link to exists"
    for page in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'):
        links = re.findall(r'\]\(([^)#\s]+)\)|src="([^"]+)"', (ROOT/page).read_text())
        lost = [l for l in map(''.join, links) if not l.startswith('http') and not (ROOT/l).exists()]
        assert lost == [], page


def tracked():
    "Files of the project, from git where there is one"
    done = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True)
    if done.returncode: pytest.skip('not a git checkout')
    return [ROOT/n for n in done.stdout.split('\0') if n and (ROOT/n).is_file()]


def test_sizes():
    "Each weights file at most 4 MB, all together 40; the tree under 40 MB"
    weights = [p.stat().st_size for p in (LIB/'weights').glob('*.safetensors')]
    assert max(weights, default=0) <= 4e6 and sum(weights) <= 40e6
    assert sum(p.stat().st_size for p in tracked()) < 40e6


def test_no_pickles_and_no_machine_paths():
    "No pickle is tracked, and no file names a folder that only one machine has"
    files = tracked()
    assert not [p for p in files if p.suffix in ('.pt', '.pth', '.ckpt', '.pkl')]
    text = [p for p in files if p.suffix in ('.py', '.ipynb', '.md', '.toml', '.ini', '.json') and p.parent != ROOT/'tests']
    found = [p.name for p in text if re.search(r'(?<![\w.])/(work|root|home)/\w', p.read_text(encoding='utf-8'))]
    assert found == []


def test_readme_results():
    "README's results are those of the cards and of the committed claims"
    from benchmarks.table import written
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    assert written(text) == text, 'run: python -m benchmarks.table --write'
