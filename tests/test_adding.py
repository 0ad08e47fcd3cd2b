"""Adding a method touches its own files and one row: a toy moves into a copy of the tree and is found everywhere.

The files are those that CONTRIBUTING lists. What they hold is short, but all of it runs: the notebook is exported, the
command line trains the toy, its recipe writes weights with their card, its claim is measured, its page is filled, and
the contract and the house hold for it. Nothing else is touched by hand.
"""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tidy

ROOT = Path(__file__).resolve().parent.parent


def notebook(cells):
    "The text of a notebook; a cell that begins with a heading or a capital letter is prose, every other is code"
    kind = lambda c: 'markdown' if re.match(r'#+ [^|]|[A-Z>]', c) else 'code'
    nb = [dict(cell_type=kind(c), id=f'toy{i:05}', metadata={}, source=c.strip()) for i, c in enumerate(cells)]
    return tidy.dumps(tidy.tidy(dict(cells=nb, metadata={}, nbformat=4, nbformat_minor=5)))


# ---- what is written by hand

METHOD = '''
# Toy

> SimCLR that also keeps its outputs small.
---
A method that stands for the next one: everything that a method exports, and nothing that anybody needs.
---
#| default_exp methods.toy
---
#| export
from dataclasses import dataclass, replace

import torch

from ssl_workbench.classics import simclr
---
## Settings
---
#| export
@dataclass(frozen=True)
class Config(simclr.Config):
    "SimCLR's settings, and a weight"
    small:float = .1              # weight of the second term

cpu = Config(dim=96, depth=1, heads=2, hidden=64, batch=4, steps=20, pictures=64)
gpu = replace(cpu, dim=192, depth=6, heads=3)
paper = replace(gpu, size=224, canvas=256, patch=16)    # section 1 of a paper that does not exist
presets = dict(cpu=cpu, gpu=gpu, paper=paper)
---
## Views and losses
---
#| export
class Views(simclr.Views):
    "SimCLR's two crops"

class Toy(simclr.SimCLR):
    "SimCLR with a second term"
    def loss(self,
        out:dict,                 # of forward
    ) -> dict:                    # contrast, small: scalars
        "Equation 1, and the mean square of what it compares"
        return super().loss(out) | dict(small=self.config.small * out['queries'].square().mean())

panels = simclr.panels
---
## A case by hand
---
toy = Toy(cpu)
assert abs(toy.loss(dict(queries=torch.ones(2, 3, 48), keys=torch.ones(2, 3, 48)))['small'].item() - .1) < 1e-6
---
#| hide
import nbdev

nbdev.nbdev_export()
'''

ROW = '''    Entry('toy', 'Toy', 'A Paper That Does Not Exist', 'Nobody', 'Nowhere 2000', 'Toy', ('image',), 'ready'),
)
'''

PAGE = '''
# A page for the toy

> Nothing to see but that it is there.
---
The shell finds the page because it lies in this folder and exports `PAGE`.
---
#| default_exp app.toy
---
#| export
import gradio as gr

from ssl_workbench.app.widgets import Page
---
#| export
def fill() -> None:
    "Draws the page"
    gr.Markdown('A toy.')

PAGE = Page('toy', 'toy', 'Toy', 'Is it there?', 'It is.', 'features', None, fill, order=75)
---
#| hide
import nbdev

nbdev.nbdev_export()
'''

SHELL = '''"""The toy's page: `python apps/toy.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('toy')
'''

CLAIM = '''"""A claim of a paper that does not exist."""
from dataclasses import dataclass

from benchmarks.claims.runner import Claim, above
from ssl_workbench.training import learner_of, training_data
from ssl_workbench.catalog import find


@dataclass(frozen=True)
class Protocol:
    "How an arm is scored"
    pictures: int = 16            # scored


protocols = dict(cpu=Protocol(), gpu=Protocol())


def measure(config, protocol, seed, device):
    "Train one arm; minus its last loss"
    learner = learner_of('toy', config, training_data('world:iconic:0', find('toy'), config), seed, device=device)
    learner.progress = False
    return dict(score=-[step.total for step in learner.steps()][-1])


references = {}
describe = 'iconic pictures; minus the last loss'
claims = (Claim(
    id='table1', sentence='Small outputs are better.', where='Table 1', paper={}, seeds=1, measured='now',
    metrics=dict(score=dict(title='score', unit='', how='minus the last loss')),
    arms=dict(with_term={}, without=dict(small=0.)), setting=dict(cpu={}, gpu={}),
    pairs=above('with_term', 'without', 'as they say', 'score')),)
'''

RECIPE = '''"""The toy's bundled weights."""
from benchmarks.weights.recipes import Recipe

recipes = {'toy': Recipe('toy', 'world:iconic:0', changes=dict(steps=4))}


def scores(method, name):
    "One score with its baseline"
    value = sum(p.square().sum().item() for p in method.parameters()) > 0
    return [dict(name='alive', value=float(value), half=0., seeds=[1.], protocol='any weight', baselines={'dead': 0.})]


def recheck(method, card):
    "The same again"
    return 'alive', card['scores'][0]['value'], scores(method, '')[0]['value']
'''

DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><circle cx="5" cy="5" r="4"/></svg>\n'


def write_toy(tree):
    "Writes what CONTRIBUTING lists; the paths"
    split = lambda text: text.strip('\n').split('\n---\n')
    files = {'nbs/methods/28_toy.ipynb': notebook(split(METHOD)), 'nbs/images/toy.svg': DRAWING,
             'nbs/app/48t_toy.ipynb': notebook(split(PAGE)), 'apps/toy.py': SHELL,
             'benchmarks/claims/toy.py': CLAIM, 'benchmarks/weights/toy.py': RECIPE}
    table = tree/'nbs/29_catalog.ipynb'
    nb = json.loads(table.read_text(encoding='utf-8'))
    cell = next(c for c in nb['cells'] if ''.join(c['source']).startswith('#| export\ncatalog = ('))
    source = ''.join(cell['source'])
    assert source.rstrip().endswith('\n)')
    cell['source'] = (source.rstrip()[:-1] + ROW).splitlines(keepends=True)
    files['nbs/29_catalog.ipynb'] = tidy.dumps(nb)
    for name, text in files.items(): (tree/name).write_text(text, encoding='utf-8')
    return sorted(files)


# ---- what finds it

USE = '''
import contextlib, io, json, sys, traceback
from pathlib import Path
found = {}

def step(name):
    "Runs a function, keeps what it printed and returned or how it failed"
    def run(f):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try: value = f()
            except BaseException as e:
                traceback.print_exc()
                value = f'{type(e).__name__}: {e}'
        found[name] = [value, out.getvalue()[-3000:]]
    return run

from ssl_workbench import catalog, cli
step('list')(lambda: cli.main(['list']))
step('train')(lambda: cli.main('train toy --preset cpu --device cpu --steps 2 --out RUN'.split()))
step('load')(lambda: type(catalog.load('RUN')).__name__)
step('build')(lambda: type(catalog.build('toy', 'cpu')).__name__)
from benchmarks.claims import runner
from benchmarks.weights import recipes
step('weights')(lambda: recipes.main(['toy', '--device', 'cpu']))
step('card')(lambda: [type(catalog.load('toy')).__name__, catalog.card('toy')['method']])
step('claims')(lambda: runner.listing())
step('claim')(lambda: runner.main('toy --set steps=2 --seeds 1 --out RESULTS'.split()))
def pages():
    import gradio as gr
    from ssl_workbench.app import shell
    with gr.Blocks(): shell.pages()['toy'].fill()
    return list(shell.pages())
step('pages')(pages)
import runpy
sys.argv = ['tables', '--write']
step('readme')(lambda: bool(runpy.run_module('benchmarks.tables', run_name='__main__')))
import pytest
tests = ['tests/test_methods.py', 'tests/test_house.py', 'tests/test_stair.py']
names = 'toy or stair_is_held or matches_the_stair or readme_lists'
step('tests')(lambda: int(pytest.main([*tests, '-q', '-p', 'no:cacheprovider', '-k', names])))
Path('found.json').write_text(json.dumps(found))
'''


def contents(tree):
    "Path → bytes of every file of a tree"
    return {str(p.relative_to(tree)): p.read_bytes() for p in sorted(tree.rglob('*'))
            if p.is_file() and '__pycache__' not in p.parts and p.name != '.last_checked'}


@pytest.fixture(scope='module')
def added(tmp_path_factory):
    "(files written by hand, files that changed in the export, what each use printed)"
    tree = tmp_path_factory.mktemp('adding')/'tree'
    weights = [p.name for p in (ROOT/'ssl_workbench/weights').iterdir() if p.stem != 'slotmim']
    left = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '.last_checked', 'results', *weights)
    parts = ('nbs', 'ssl_workbench', 'apps', 'benchmarks', 'tests')
    for part in parts: shutil.copytree(ROOT/part, tree/part, ignore=left)
    for file in ('settings.ini', 'pyproject.toml', 'README.md', 'LICENSE'): shutil.copy(ROOT/file, tree)
    before = contents(tree)
    written = write_toy(tree)
    quiet = {**os.environ, 'PYTHONPATH': str(tree), 'OMP_NUM_THREADS': '1', 'SSL_DATA': 'nowhere', 'MPLBACKEND': 'agg',
             'GRADIO_ANALYTICS_ENABLED': 'False', 'HF_HUB_OFFLINE': '1', 'PYTHONDONTWRITEBYTECODE': '1'}
    export = [str(Path(sys.executable).parent/'nbdev_export')]
    subprocess.run(export, cwd=tree, env=quiet, check=True, capture_output=True, timeout=300)
    after = contents(tree)
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    done = subprocess.run([sys.executable, '-c', USE], cwd=tree, env=quiet, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    yield written, changed, json.loads((tree/'found.json').read_text())
    shutil.rmtree(tree, ignore_errors=True)


def test_few_files_by_hand(added):
    "At most seven, none of another method; the rest is exported"
    written, changed, _ = added
    assert len(written) <= 7
    own = [f for f in written if 'toy' in Path(f).name]
    assert set(written) - set(own) == {'nbs/29_catalog.ipynb'}
    exported = {f for f in changed if f.startswith('ssl_workbench/')}
    assert set(changed) - exported == set(written)
    assert {Path(f).name for f in exported} == {'_modidx.py', 'catalog.py', 'toy.py'}


def test_contributing_lists_the_files():
    "The list in CONTRIBUTING is the one above"
    text = (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8').split('## The files', 1)[1].split('\n## ')[0]
    listed = {re.sub(r'\bNN[a-z]?_', '', f).replace('NAME', 'toy') for f in re.findall(r'^\d\. `([^`]+)`', text, re.M)}
    assert len(listed) == 7 and listed == {
        'nbs/methods/toy.ipynb', 'nbs/images/toy.svg', 'nbs/29_catalog.ipynb', 'nbs/app/toy.ipynb', 'apps/toy.py',
        'benchmarks/claims/toy.py', 'benchmarks/weights/toy.py'}


@pytest.mark.parametrize('use, value, words', [
    ('list', 0, 'toy'), ('train', 0, '2 steps done'), ('load', 'Toy', ''), ('build', 'Toy', ''), ('tests', 0, '100%'),
    ('weights', None, 'alive: 1.000'), ('card', ['Toy', 'toy'], ''), ('claim', 0, 'toy-table1.json')])
def test_the_toy_is_used(use, value, words, added):
    "Listed, trained, built, saved with its card and loaded, measured, held to the contract and the rules of the house"
    result, printed = added[2][use]
    assert result == value and words in printed, f'{result}\n{printed}'


def test_the_claim_is_listed(added):
    "Beside the others"
    assert 'toy table1' in added[2]['claims'][0]


def test_the_page_is_found(added):
    "In its place among the tabs"
    names, printed = added[2]['pages']
    assert 'toy' in names and len(names) > 1 and isinstance(names, list), printed


def test_the_readme_is_written(added):
    "The table of methods, by a command"
    assert added[2]['readme'][0] is True, added[2]['readme'][1]
