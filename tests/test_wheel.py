"""The wheel, built from this tree and installed into an empty environment with what it declares and nothing else."""
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ABSENT = ['gradio', 'plotly', 'matplotlib', 'ipywidgets', 'IPython', 'nbdev', 'fastcore', 'pytest', 'jupyterlab']
QUIET = {**os.environ, 'PIP_DISABLE_PIP_VERSION_CHECK': '1', 'PYTHONPATH': '', 'PYTHONDONTWRITEBYTECODE': '1'}


def run(*words, cwd, **kw):
    "A command that must succeed; its output"
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=QUIET, capture_output=True, text=True, timeout=1800, **kw)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "The built wheel"
    here = tmp_path_factory.mktemp('wheel')
    keep = shutil.ignore_patterns('__pycache__')
    shutil.copytree(ROOT/'ssl_workbench', here/'tree'/'ssl_workbench', ignore=keep)
    for name in ('pyproject.toml', 'README.md', 'LICENSE', 'settings.ini'): shutil.copy(ROOT/name, here/'tree')
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', here, here/'tree', cwd=here)
    return next(here.glob('*.whl'))


@pytest.fixture(scope='module')
def empty(wheel, tmp_path_factory):
    "The Python of a fresh environment that holds the wheel and its declared dependencies"
    home = tmp_path_factory.mktemp('env')
    venv.create(home/'env', with_pip=False)
    python = home/'env'/('Scripts' if os.name == 'nt' else 'bin')/'python'
    run(sys.executable, '-m', 'pip', '--python', python, 'install', '-q', '--no-compile', wheel, cwd=home)
    yield python
    shutil.rmtree(home, ignore_errors=True)


def test_wheel_holds_library_weights_and_licence(wheel):
    "All modules, all weights with their cards, the licence; no notebook, no test"
    names = zipfile.ZipFile(wheel).namelist()
    tree = [p.relative_to(ROOT).as_posix() for p in (ROOT/'ssl_workbench').rglob('*')
            if p.suffix in ('.py', '.safetensors') or p.parent.name == 'weights' and p.suffix == '.json']
    assert set(tree) <= set(names)
    assert any(n.endswith('LICENSE') for n in names)
    assert not [n for n in names if n.endswith('.ipynb') or n.startswith(('tests/', 'apps/', 'benchmarks/', 'nbs/'))]


def test_declared_dependencies_suffice(empty, tmp_path):
    "In the empty environment every library module imports, and the app and notebook packages are not there"
    code = f'''
import importlib.util, pkgutil, ssl_workbench
there = [n for n in {ABSENT} if importlib.util.find_spec(n)]
names = [m.name for m in pkgutil.walk_packages(ssl_workbench.__path__, "ssl_workbench.") if m.name not in ("ssl_workbench.hub", "ssl_workbench._modidx")]
for name in names: importlib.import_module(name)
print(len(names), "modules", ssl_workbench.__file__)
assert not there, there
'''
    said = run(empty, '-c', code, cwd=tmp_path)
    assert str(ROOT) not in said and int(said.split()[0]) > 12


def test_command_and_weights_in_the_empty_environment(empty, tmp_path):
    "The command lists nine methods; every bundled file loads; the app says which packages it lacks"
    command = empty.parent/'ssl-workbench'
    assert run(command, 'list', cwd=tmp_path).count('\n') >= 10
    code = 'from ssl_workbench.catalog import cards, load\nfor n in cards(): print(type(load(n)).__name__)'
    said = run(empty, '-c', code, cwd=tmp_path)
    assert len(said.split()) == len(list((ROOT/'ssl_workbench'/'weights').glob('*.json')))
    done = subprocess.run([str(command), 'app'], cwd=tmp_path, env=QUIET, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and '[apps]' in done.stderr and 'Traceback' not in done.stderr
