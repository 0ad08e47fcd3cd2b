"""The wheel, built from this tree and installed into an environment that holds what it declares and nothing else."""
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
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


def wanted(requirements):
    "Names of the packages that these lines require here, without extras"
    from packaging.requirements import Requirement
    required = [Requirement(r) for r in requirements or []]
    return [r.name for r in required if not r.marker or r.marker.evaluate({'extra': ''})]


def declared(wheel):
    "Name → installed distribution of all that the wheel's metadata asks for, and what those ask for in turn"
    archive = zipfile.ZipFile(wheel)
    metadata = Parser().parsestr(archive.read(next(n for n in archive.namelist() if n.endswith('METADATA'))).decode())
    found, new = {}, wanted(metadata.get_all('Requires-Dist'))
    while new:
        name = re.sub(r'[-_.]+', '-', new.pop()).lower()
        if name in found: continue
        try: found[name] = distribution(name)
        except PackageNotFoundError: continue          # another platform's; an import that needs it fails below
        new += wanted(found[name].requires)
    return found


@pytest.fixture(scope='module')
def empty(wheel, tmp_path_factory):
    "The Python of a fresh environment: the wheel, and links to its declared dependencies as they are installed here"
    home = tmp_path_factory.mktemp('env')
    venv.create(home/'env', with_pip=False)
    python = home/'env'/('Scripts' if os.name == 'nt' else 'bin')/'python'
    site = Path(run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=home).strip())
    for package in declared(wheel).values():
        for top in {file.parts[0] for file in package.files or [] if file.parts[0] not in ('..', '__pycache__')}:
            if not (site/top).exists(): (site/top).symlink_to(package.locate_file(top))
    pip = [sys.executable, '-m', 'pip', '--python', python]
    run(*pip, 'install', '-q', '--no-compile', '--no-deps', '--no-index', wheel, cwd=home)
    yield python
    shutil.rmtree(home, ignore_errors=True)


def test_wheel_holds_library_weights_and_licence(wheel):
    "All modules, all weights with their cards, the style sheet, the licence; no notebook, no test"
    names = zipfile.ZipFile(wheel).namelist()
    tree = [p.relative_to(ROOT).as_posix() for p in (ROOT/'ssl_workbench').rglob('*')
            if p.suffix in ('.py', '.safetensors', '.css') or p.parent.name == 'weights' and p.suffix == '.json']
    assert set(tree) <= set(names)
    assert any(n.endswith('LICENSE') for n in names)
    assert not [n for n in names if n.endswith('.ipynb') or n.startswith(('tests/', 'apps/', 'benchmarks/', 'nbs/'))]


def test_declared_dependencies_suffice(empty, tmp_path):
    "In the empty environment every library module imports, and the app and notebook packages are not there"
    code = f'''
import importlib.util, pkgutil, ssl_workbench
there = [n for n in {ABSENT} if importlib.util.find_spec(n)]
names = [m.name for m in pkgutil.walk_packages(ssl_workbench.__path__, "ssl_workbench.", onerror=lambda name: None)
         if m.name.split(".")[1] not in ("app", "_modidx")]
for name in names: importlib.import_module(name)
print(len(names), "modules", ssl_workbench.__file__)
assert not there, there
'''
    printed = run(empty, '-c', code, cwd=tmp_path)
    assert str(ROOT) not in printed and int(printed.split()[0]) > 12


def test_command_and_weights_in_the_empty_environment(empty, tmp_path):
    "The command lists the methods and the classics; every bundled file loads; the app names the packages it lacks"
    from ssl_workbench.catalog import catalog, classics
    command = empty.parent/'ssl-workbench'
    assert len(catalog) == 9
    rows = 1 + len(catalog) + sum(e.state == 'ready' for e in classics)
    assert run(command, 'list', cwd=tmp_path).count('\n') == rows
    code = 'from ssl_workbench.catalog import cards, load\nfor n in cards(): print(type(load(n)).__name__)'
    loaded = run(empty, '-c', code, cwd=tmp_path)
    assert len(loaded.split()) == len(list((ROOT/'ssl_workbench'/'weights').glob('*.json')))
    done = subprocess.run([str(command), 'app'], cwd=tmp_path, env=QUIET, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and '[apps]' in done.stderr and 'Traceback' not in done.stderr
