"""Claims: verdicts on numbers made by hand, one tiny claim from end to end, the code hash, and what is committed."""
import importlib.util
import json
import math
import re
import shlex
import subprocess
import sys

import pytest
import torch

from benchmarks.claims import runner
from benchmarks.claims.code_hash import code_hash, modules_run
from benchmarks.protocols import runs
from benchmarks.provenance import ROOT, write_json
from benchmarks.weights.recipes import recipe_of
from ssl_workbench import catalog, claims, probes

RESULTS = ROOT/'benchmarks/results'


# ---- verdicts

def test_interval_by_hand():
    "Three numbers: mean 2, deviation 1, t quantile 4.3027 over the root of three; one number has no interval"
    found = claims.verdict([1., 2., 3.])
    half = 4.302653 / math.sqrt(3)
    assert found['mean'] == 2 and found['low'] == pytest.approx(2 - half, abs=1e-4)
    assert found['high'] == pytest.approx(2 + half, abs=1e-4)
    assert found['effect'] == pytest.approx(2) and found['n'] == 3
    alone = claims.verdict([5.])
    assert (alone['low'], alone['high'], alone['effect'], alone['verdict']) == (None, None, None, 'unclear')


@pytest.mark.parametrize('differences, word', [
    ([4.9, 5., 5.1], 'holds'), ([-4.9, -5., -5.1], 'opposite'), ([1., 2., 3.], 'unclear'), ([-1., 0., 1.], 'unclear'),
    ([1., 2., 3., 2., 2.], 'holds'), ([-1., -2., -3., -2., -2.], 'opposite'), ([7.], 'unclear')])
def test_verdict(differences, word):
    "Decided where the interval leaves zero out; more seeds decide what three cannot"
    found = claims.verdict(differences)
    assert found['verdict'] == word
    if found['low'] is not None:
        assert (found['low'] > 0) == (word == 'holds') and (found['high'] < 0) == (word == 'opposite')


def test_interval_covers():
    "Of a thousand samples of four, 95 % of the intervals hold the true mean"
    x = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
    inside = [abs(m - 3) <= h for m, h in map(probes.interval, x)]
    assert .93 <= sum(inside) / 1000 <= .97


def arm(*scores):
    return dict(runs=[dict(seed=i, scores=None if s is None else dict(knn=s)) for i, s in enumerate(scores)])


def test_seeds_are_paired():
    "Differences seed by seed, unfinished runs left out; the paper's difference beside them; pairs in the paper's order"
    pair = dict(above='b', below='a', metric='knn', why='as they say')
    result = dict(arms=dict(a=arm(.1, .5, .2), b=arm(.3, .6, None)), paper=dict(a=dict(knn=40.), b=dict(knn=45.5)),
                  pairs=[pair])
    assert claims.differences_of(result, pair) == pytest.approx([.2, .1])
    row, = claims.verdicts(result)
    assert row['paper'] == pytest.approx(5.5) and row['n'] == 2 and row['what'] == 'b above a'
    assert claims.order(result, 'knn') == (1, 1)
    assert claims.verdicts(result | dict(arms=dict(a=arm(), b=arm())))[0]['verdict'] == 'not run'


# ---- a tiny claim

TINY = ['steps=2', 'batch=4', 'size=32', 'patch=8', 'dim=16', 'depth=1', 'heads=2', 'hidden=16', 'out_dim=8',
        'prototypes=4',
        'pool=8', 'knn_train=24', 'knn_test=12', 'seg_train=4', 'scenes=6']


def command(out, *words):
    return ['slotmim', '--claim', 'table5c', '--seeds', '3', '--device', 'cpu', '--out', str(out), '--set', *TINY,
            *words]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "(folder, result) of one claim with tiny networks, trained for two steps with three seeds"
    out = tmp_path_factory.mktemp('claims')
    assert runner.main(command(out)) == 0
    return out, json.loads((out/'slotmim-table5c.json').read_text())


def complete(result, seeds):
    "Assert that a claim's result holds all that a reader needs"
    assert result['complete'] and result['seeds'] == seeds and 'benchmarks.claims' in result['command']
    assert all(result['identity'][k] for k in ('device', 'config', 'protocol'))
    assert result['setting'] and result['wall_seconds'] > 0
    for arm in result['arms'].values():
        assert sorted(r['seed'] for r in arm['runs']) == list(range(seeds))
        for r in arm['runs']: assert r['scores'] or r['failed']
    for r in runner.runs_in(result):
        assert r['commit'] and r['device'] and r['seconds'] >= 0
        assert {'python', 'torch', 'timm', 'ssl_workbench'} <= set(r['versions'])
    short = lambda verdicts: [(v['what'], v['verdict'], v['n']) for v in verdicts]
    assert short(result['verdicts']) == short(claims.verdicts(result))


def test_a_claim_from_end_to_end(tiny):
    "Two arms, three seeds, every score finite and of the arm's own run; the references beside them"
    _, result = tiny
    complete(result, 3)
    first = {a: [r['scores'] for r in arm['runs']] for a, arm in result['arms'].items()}
    for s in (s for rows in first.values() for s in rows):
        assert set(s) == set(result['metrics']) and all(map(math.isfinite, s.values()))
    assert len(first) == 2
    assert len({r['key'] for r in runner.runs_in(result)}) == len(runner.runs_in(result)) == 2 * 3 + 5 * 3
    by = {n: [r['scores'] for r in rows] for n, rows in result['references'].items()}
    assert all(s['ari'] < by['truth in patches'][0]['ari'] for rows in first.values() for s in rows)


def test_table_and_figures(tiny):
    "The result as text and as two figures"
    _, result = tiny
    text = claims.claim_table(result)
    for word in ('centring', 'Sinkhorn', result['sentence'], 'verdict', result['command'],
                 *(m['title'] for m in result['metrics'].values())):
        assert word in text
    fine = claims.claim_table(dict(result, metrics={k: dict(m, digits=4) for k, m in result['metrics'].items()}))
    assert re.search(r'\d\.\d{4} ±', fine) and not re.search(r'\d\.\d{4} ±', text)
    pytest.importorskip('matplotlib')
    fig, bars = claims.draw_claim(result), claims.draw_verdicts(result)
    assert len([ax for ax in fig.axes if ax.get_xlabel() and ax.get_xlabel() != 'paper']) == len(result['metrics'])
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == list(result['arms'])
    words = {t.get_text() for t in bars.axes[0].texts}
    assert words and words <= {'holds', 'opposite', 'unclear'}


def test_runs_are_not_repeated(tiny, capsys):
    "The same command again runs nothing; a run that is missing is made again and comes out the same"
    out, result = tiny
    assert runner.main(command(out)) == 0 and ' 0 to do' in capsys.readouterr().err
    cut = json.loads(json.dumps(result))
    gone = cut['arms']['Sinkhorn']['runs'].pop(1)
    write_json(out/'slotmim-table5c.json', cut)
    assert runner.main(command(out)) == 0 and ' 1 to do' in capsys.readouterr().err
    again = json.loads((out/'slotmim-table5c.json').read_text())['arms']['Sinkhorn']['runs'][1]
    assert {k: again[k] for k in ('seed', 'key', 'scores')} == {k: gone[k] for k in ('seed', 'key', 'scores')}


@pytest.mark.parametrize('words, hint', [
    ([], 'name a method'), (['simclr'], "'simclr' has no claims"),
    (['slotmim', '--claim', 'table99'], "no claim 'table99'"),
    (['slotmim', '--preset', 'paper'], "'paper'"), (['slotmim', '--seeds', '0'], "'0'"),
    (['slotmim', '--set', 'colour'], 'colour'),
    (['slotmim', '--set', 'wings=2'], 'wings'), (['slotmim', '--device', 'toaster'], 'toaster'),
    (['slotmim', '--fly'], '--fly')])
def test_refused(words, hint, tmp_path, capsys):
    "Exit code 2, one sentence, nothing written"
    assert runner.main([*words, '--out', str(tmp_path/'out')]) == 2
    printed = capsys.readouterr()
    assert hint in printed.err and printed.err.count('\n') == 1 and printed.out == '' and not (tmp_path/'out').exists()


def test_another_setting_is_not_mixed_in(tiny, capsys):
    "A folder that holds a claim of one setting takes no other"
    out, _ = tiny
    before = (out/'slotmim-table5c.json').read_text()
    assert runner.main(command(out, 'batch=2')) == 2 and 'another setting' in capsys.readouterr().err
    assert (out/'slotmim-table5c.json').read_text() == before


def test_refusal_in_a_process():
    "From a shell: code 2 and no traceback; the list of claims: code 0"
    call = lambda *words: subprocess.run([sys.executable, '-m', 'benchmarks.claims', *words], cwd=ROOT,
                                         capture_output=True, text=True, timeout=300)
    bad, good = call('nobody'), call('--list')
    assert bad.returncode == 2 and bad.stderr.count('\n') == 1 and 'slotmim' in bad.stderr
    assert good.returncode == 0
    assert good.stdout.count('\n') == sum(len(runner.module(m).claims) for m in runner.methods())


@pytest.mark.parametrize('method', runner.methods())
def test_claims_fit_together(method):
    "Pairs and figures name arms and metrics that exist; three seeds at least; every arm's settings can be made"
    home = runner.module(method)
    assert len({c.id for c in home.claims}) == len(home.claims)
    for c in home.claims:
        assert c.measured in ('now', 'runnable') and c.seeds >= 3
        assert set(c.paper) <= set(c.arms) and (c.pairs or c.correlations)
        known = set(c.arms) | set(home.references)
        assert all(p.above in c.arms and p.below in known - {p.above} and p.metric in c.metrics for p in c.pairs)
        assert all({t.x, t.y} <= set(c.metrics) for t in c.correlations)
        for preset in home.protocols:
            base = runner.setting(home, method, c, preset, [])
            arms = [runner.arm_setting(c, a, *base)[:2] for a in c.arms]
            assert len({json.dumps([runner.plain(part) for part in arm]) for arm in arms}) == len(c.arms)


def test_an_arm_may_change_the_protocol():
    "PooDLe's row 6 is row 7 with another flow: the same config, another protocol, runs of its own"
    home = runner.module('poodle')
    claim = next(c for c in home.claims if c.id == 'table4-rest')
    base = runner.setting(home, 'poodle', claim, 'cpu', ['pool=8'])
    learnt, plain = '6 PooDLe, learnt flow', '7 PooDLe'
    (six, own, changes), (seven, same, _) = (runner.arm_setting(claim, a, *base) for a in (learnt, plain))
    assert six == seven == base[0] and same == base[1] and own.flow == 'mcjepa' != same.flow
    assert changes == dict(flow='mcjepa') and own.pool == 8
    tasks = {t.arm: t for t in runner.tasks_of(home, 'poodle', claim, *base, 1, 'cpu', 1)}
    assert tasks[learnt].protocol == own and tasks[learnt].key != tasks[plain].key


def test_claims_that_need_weights_say_so(tmp_path, capsys):
    "RIVER cannot be trained without an autoencoder: code 2, one sentence that names it, nothing written"
    words = ['river', '--claim', 'table53', '--device', 'cpu', '--out', str(tmp_path/'out'), '--set',
             f"autoencoder={tmp_path/'none.safetensors'}"]
    assert runner.main(words) == 2
    message = capsys.readouterr().err
    assert 'autoencoder' in message and 'none.safetensors' in message and message.count('\n') == 1
    assert not (tmp_path/'out').exists()


def test_one_training_answers_several_arms(monkeypatch):
    "Arms of a warm start predict with the same network; it takes fewer calls, and another config is another network"
    home, made = runner.module('river'), []
    learner_of = lambda name, config, *_, **__: made.append(config) or UntrainedLearner(config)
    monkeypatch.setattr(runs, 'learner_of', learner_of)
    home.trained.cache_clear()
    claim = next(c for c in home.claims if c.id == 'figure53')
    base = runner.setting(home, 'river', claim, 'cpu',
                          ['dim=16', 'depth=1', 'middle=1', 'heads=2', 'frames=4', 'pool=4', 'clips=2', 'calls=4'])
    found = {a: home.measure(*runner.arm_setting(claim, a, *base)[:2], 0, 'cpu') for a in ('s = 0', 's = 0.5')}
    home.trained(runner.changed_setting(*base, dict(reference=False))[0], 4, False, 0, 'cpu')
    home.trained.cache_clear()
    assert len(made) == 2 and found['s = 0']['calls'] == 4 and found['s = 0.5']['calls'] == 5
    cold, warm = found['s = 0'], found['s = 0.5']
    assert cold['seconds'] == warm['seconds'] and cold['psnr'] != warm['psnr']


class UntrainedLearner:
    "A learner that has nothing to do"
    def __init__(self, config): self.method = runner.module('river').RIVER(config)

    def steps(self): return ()


# ---- the hash of the code

TREE = {                            # a small library with a package, methods, classics and things that only show
    'ssl_workbench/core.py': 'A = 1', 'ssl_workbench/world/__init__.py': 'from .textures import B',
    'ssl_workbench/world/textures.py': 'B = 1', 'ssl_workbench/show.py': 'C = 1', 'ssl_workbench/panels.py': 'C = 1',
    'ssl_workbench/app/__init__.py': '', 'ssl_workbench/app/slots.py': 'C = 1', 'ssl_workbench/cli.py': 'C = 1',
    'ssl_workbench/classics/__init__.py': '', 'ssl_workbench/classics/flowe.py': 'D = 1',
    'ssl_workbench/classics/mae.py': 'D = 1', 'ssl_workbench/classics/vqgan.py': 'D = 1',
    'ssl_workbench/methods/__init__.py': '', 'ssl_workbench/methods/toy.py': 'from ..classics import flowe\nE = 1',
    'ssl_workbench/methods/toy_sampling.py': 'E = 1', 'ssl_workbench/methods/other.py': 'E = 1',
    'benchmarks/protocols/__init__.py': '', 'benchmarks/protocols/flow.py': 'F = 1',
    'benchmarks/protocols/films.py': 'F = 1', 'benchmarks/claims/runner.py': 'F = 1',
    'benchmarks/claims/toy.py': """from benchmarks.protocols.flow import F
ENCODER = 'vqgan'
def measure(config): return F
claims = ('a sentence',)
"""}
COUNTS = ('core', 'world/__init__', 'world/textures', 'methods/toy', 'methods/toy_sampling', 'classics/flowe',
          'classics/vqgan')
IGNORED = ('show', 'panels', 'app/slots', 'cli', 'classics/mae', 'methods/other')


@pytest.fixture
def tree(tmp_path):
    "(folder of the small library, function: path, text added → the hash then)"
    for path, text in TREE.items():
        (tmp_path/path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/path).write_text(text)
    def added(path, text):
        (tmp_path/path).write_text(TREE[path] + text)
        code_hash.cache_clear()
        found = code_hash('toy', tmp_path)
        (tmp_path/path).write_text(TREE[path])
        return found
    yield added
    code_hash.cache_clear()


@pytest.mark.parametrize('path', [*(f'ssl_workbench/{n}.py' for n in COUNTS), 'benchmarks/protocols/flow.py'])
def test_code_hash_sees(tree, path):
    "Rooms of packages and their faces, the method and its siblings, classics by import or by name, protocols in use"
    same = tree(path, '')
    assert tree(path, '\nG = 2\n') != same
    assert tree(path, '\n# a remark\n') == same and tree(path, '\n"A docstring"\n') == same


@pytest.mark.parametrize('path', [*(f'ssl_workbench/{n}.py' for n in IGNORED), 'benchmarks/protocols/films.py',
                                  'benchmarks/claims/runner.py'])
def test_code_hash_ignores(tree, path):
    "What only shows, lists or calls, and what this method does not use"
    assert tree(path, '\nG = 2\n') == tree(path, '')


def test_code_hash_of_claims(tree):
    "How a claim is measured counts, its sentences do not"
    path = 'benchmarks/claims/toy.py'
    assert tree(path, "claims = ('another',)\n") == tree(path, '') != tree(path, 'def scores(x): return x\n')


@pytest.mark.parametrize('method, there, absent', [
    ('slotmim', ['protocols.discovery', 'methods.slotmim', 'core', 'learner'],
     ['protocols.films', 'classics.mae', 'show']),
    ('dilemma', ['protocols.cost', 'classics.mae', 'classics.simclr'],
     ['protocols.films', 'methods.slotmim', 'panels']),
    ('river', ['protocols.films', 'classics.vqgan', 'methods.mcjepa', 'classics.vicreg'],
     ['protocols.cost', 'app', 'cli'])])
def test_code_hash_of_methods(method, there, absent):
    "What a method's claims go through"
    names = {n.split('.', 1)[1] for n in modules_run(method)}
    assert set(there) <= names and not set(absent) & names and any(n.split('.')[0] == 'world' for n in names)
    assert len(code_hash(method)) == 12


# ---- what is committed

COMMITTED = {p.stem: json.loads(p.read_text()) for p in sorted(RESULTS.glob('*.json'))} if RESULTS.is_dir() else {}
CLAIMED = {n: r for n, r in COMMITTED.items() if r.get('kind') == 'claim'}


def commands(result):
    "Every command that a result or a part of it names"
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, list) else ()
    own = [result['command']] if isinstance(result, dict) and 'command' in result else []
    return own + [c for part in parts for c in commands(part)]


@pytest.mark.parametrize('name', COMMITTED)
def test_committed_commands_run(name):
    "What a result names as its command is there: python -m, then a module of ours"
    for words in map(str.split, commands(COMMITTED[name])):
        assert words[:2] == ['python', '-m'] and words[2].startswith('benchmarks.')
        assert importlib.util.find_spec(words[2]), words[2]


@pytest.mark.parametrize('name', catalog.cards())
def test_recipes_of_cards(name):
    "The command on a card names a recipe of the card's method"
    card = catalog.card(name)
    *module, recipe = shlex.split(card['command'])
    assert module == ['python', '-m', 'benchmarks.weights'] and recipe_of(recipe)[0].method == card['method']


@pytest.mark.parametrize('name', CLAIMED)
def test_committed_claim(name):
    "At least three seeds, all finished; commit, command, data, device, versions; the verdicts follow from the numbers"
    result = CLAIMED[name]
    known = {c.id: c for c in runner.module(result['method']).claims}
    assert name == f"{result['method']}-{result['id']}" and set(result['arms']) == set(known[result['id']].arms)
    assert result['seeds'] >= 3
    complete(result, result['seeds'])
    assert not [r for r in runner.runs_in(result) if r['commit'] == 'unknown']


@pytest.mark.parametrize('method', sorted({r['method'] for r in CLAIMED.values()}))
def test_what_is_measured_now_is_there(method):
    "Once a method has a result, every claim that is called measured has one"
    wanted = {f'{method}-{c.id}' for c in runner.module(method).claims if c.measured == 'now'}
    assert wanted and wanted <= set(CLAIMED)


@pytest.mark.parametrize('name', [n for n in COMMITTED if n.startswith('fidelity-') and 'rules' in COMMITTED[n]])
def test_committed_fidelity(name):
    "Our figures and the public code's differ by 1e-5 at most wherever they are held together; both sides are named"
    found = COMMITTED[name]
    assert found['tolerance'] <= 1e-5 and found['largest'] <= found['tolerance']
    assert len(found['held_to_tolerance']) > 10
    shown = {f'{d} {n}': v for d, row in found['largest_differences'].items() for n, v in row.items()}
    shown |= {n: f['max_difference'] for n, f in found['rules'].items() if 'max_difference' in f}
    assert max(shown[n] for n in found['held_to_tolerance']) == found['largest']
    assert found['upstream']['repository'].startswith('https://') and len(found['upstream']['commit']) == 40
    assert found['commit'] and not found['changed'] and found['command'] and found['device'] and found['versions']
    assert all('seed' in c and c['figures'] for c in found['cases'])


def test_committed_davis():
    "J and F agree with the official evaluation on every case, to its own tolerance"
    found = COMMITTED['fidelity-davis']
    assert found['tolerance'] == 1e-6 and found['largest'] <= 1e-6
