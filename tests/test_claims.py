"""The ledger of claims: verdicts on numbers made by hand, one tiny claim run from end to end, and what is committed."""
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.claims import machine
from ssl_workbench import claims, probes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/'benchmarks/results'


# ---- verdicts

def test_interval_by_hand():
    "Three numbers: mean 2, deviation 1, t quantile 4.3027 over the root of three; one number has no interval"
    found = claims.verdict([1., 2., 3.])
    half = 4.302653 / math.sqrt(3)
    assert found['mean'] == 2 and found['low'] == pytest.approx(2 - half, abs=1e-4) and found['high'] == pytest.approx(2 + half, abs=1e-4)
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
    if found['low'] is not None: assert (found['low'] > 0) == (word == 'holds') and (found['high'] < 0) == (word == 'opposite')


def test_interval_covers():
    "Of a thousand samples of four, 95 % of the intervals hold the true mean"
    x = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
    inside = [abs(m - 3) <= h for m, h in map(probes.interval, x)]
    assert .93 <= sum(inside) / 1000 <= .97


def runs(*scores): return dict(runs=[dict(seed=i, scores=None if s is None else dict(knn=s)) for i, s in enumerate(scores)])


def test_seeds_are_paired():
    "Differences seed by seed, runs that did not finish left out; the paper's difference beside them; pairs in the paper's order"
    pair = dict(above='b', below='a', metric='knn', why='as they say')
    result = dict(arms=dict(a=runs(.1, .5, .2), b=runs(.3, .6, None)), paper=dict(a=dict(knn=40.), b=dict(knn=45.5)), pairs=[pair])
    assert claims.differences_of(result, pair) == pytest.approx([.2, .1])
    row, = claims.verdicts(result)
    assert row['paper'] == pytest.approx(5.5) and row['n'] == 2 and row['what'] == 'b above a'
    assert claims.order(result, 'knn') == (1, 1)
    assert claims.verdicts(result | dict(arms=dict(a=runs(), b=runs())))[0]['verdict'] == 'not run'


# ---- a tiny claim

TINY = ['steps=2', 'batch=4', 'size=32', 'patch=8', 'dim=16', 'depth=1', 'heads=2', 'hidden=16', 'out_dim=8', 'prototypes=4',
        'pool=8', 'knn_train=24', 'knn_test=12', 'seg_train=4', 'scenes=6']


def command(out, *words): return ['slotmim', '--claim', 'table5c', '--seeds', '3', '--device', 'cpu', '--out', str(out), '--set', *TINY, *words]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "(folder, result) of one claim with tiny networks, trained for two steps with three seeds"
    out = tmp_path_factory.mktemp('claims')
    assert machine.main(command(out)) == 0
    return out, json.loads((out/'slotmim-table5c.json').read_text())


def complete(result, seeds):
    "Assert that a claim's result says all that a reader needs"
    assert result['complete'] and result['seeds'] == seeds and 'benchmarks.claims' in result['command'] and result['setting']
    assert result['identity']['device'] and result['identity']['config'] and result['identity']['protocol'] and result['wall_seconds'] > 0
    for arm in result['arms'].values():
        assert sorted(r['seed'] for r in arm['runs']) == list(range(seeds))
        for r in arm['runs']: assert r['scores'] or r['failed']
    for r in machine.runs_in(result): assert r['commit'] and r['device'] and r['seconds'] >= 0 and {'python', 'torch', 'timm', 'ssl_workbench'} <= set(r['versions'])
    assert [(v['what'], v['verdict'], v['n']) for v in result['verdicts']] == [(v['what'], v['verdict'], v['n']) for v in claims.verdicts(result)]


def test_a_claim_from_end_to_end(tiny):
    "Two arms, three seeds, every score finite and of the arm's own run; the references beside them"
    _, result = tiny
    complete(result, 3)
    first = {a: [r['scores'] for r in arm['runs']] for a, arm in result['arms'].items()}
    assert len(first) == 2 and all(set(s) == set(result['metrics']) and all(map(math.isfinite, s.values())) for rows in first.values() for s in rows)
    assert len({r['key'] for r in machine.runs_in(result)}) == len(machine.runs_in(result)) == 2 * 3 + 5 * 3
    by = {n: [r['scores'] for r in rows] for n, rows in result['references'].items()}
    assert all(s['ari'] < by['truth in patches'][0]['ari'] for rows in first.values() for s in rows)


def test_table_and_figures(tiny):
    "The result as text and as two figures"
    _, result = tiny
    text = claims.claim_table(result)
    for word in ('centring', 'Sinkhorn', result['sentence'], 'verdict', result['command'], *(m['title'] for m in result['metrics'].values())): assert word in text
    fine = claims.claim_table(dict(result, metrics={k: dict(m, digits=4) for k, m in result['metrics'].items()}))
    assert re.search(r'\d\.\d{4} ±', fine) and not re.search(r'\d\.\d{4} ±', text)
    pytest.importorskip('matplotlib')
    fig, bars = claims.draw_claim(result), claims.draw_verdicts(result)
    assert len([ax for ax in fig.axes if ax.get_xlabel() and ax.get_xlabel() != 'paper']) == len(result['metrics'])
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == list(result['arms'])
    said = {t.get_text() for t in bars.axes[0].texts}
    assert said and said <= {'holds', 'opposite', 'unclear'}


def test_runs_are_not_repeated(tiny, capsys):
    "The same command again runs nothing; a run that is missing is made again and comes out the same"
    out, result = tiny
    assert machine.main(command(out)) == 0 and ' 0 to do' in capsys.readouterr().err
    cut = json.loads(json.dumps(result))
    gone = cut['arms']['Sinkhorn']['runs'].pop(1)
    machine.write(out/'slotmim-table5c.json', cut)
    assert machine.main(command(out)) == 0 and ' 1 to do' in capsys.readouterr().err
    again = json.loads((out/'slotmim-table5c.json').read_text())['arms']['Sinkhorn']['runs'][1]
    assert {k: again[k] for k in ('seed', 'key', 'scores')} == {k: gone[k] for k in ('seed', 'key', 'scores')}


@pytest.mark.parametrize('words, hint', [
    ([], 'name a method'), (['simclr'], "'simclr' has no claims"), (['slotmim', '--claim', 'table99'], "no claim 'table99'"),
    (['slotmim', '--preset', 'paper'], "'paper'"), (['slotmim', '--seeds', '0'], "'0'"), (['slotmim', '--set', 'colour'], 'colour'),
    (['slotmim', '--set', 'wings=2'], 'wings'), (['slotmim', '--device', 'toaster'], 'toaster'), (['slotmim', '--fly'], '--fly')])
def test_refused(words, hint, tmp_path, capsys):
    "Exit code 2, one sentence, nothing written"
    assert machine.main([*words, '--out', str(tmp_path/'out')]) == 2
    said = capsys.readouterr()
    assert hint in said.err and said.err.count('\n') == 1 and said.out == '' and not (tmp_path/'out').exists()


def test_another_setting_is_not_mixed_in(tiny, capsys):
    "A folder that holds a claim of one setting takes no other"
    out, _ = tiny
    before = (out/'slotmim-table5c.json').read_text()
    assert machine.main(command(out, 'batch=2')) == 2 and 'another setting' in capsys.readouterr().err
    assert (out/'slotmim-table5c.json').read_text() == before


def test_refusal_in_a_process():
    "From a shell: code 2 and no traceback; the list of claims: code 0"
    call = lambda *words: subprocess.run([sys.executable, '-m', 'benchmarks.claims', *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    bad, good = call('vidrop'), call('--list')
    assert bad.returncode == 2 and bad.stderr.count('\n') == 1 and 'slotmim' in bad.stderr
    assert good.returncode == 0 and good.stdout.count('\n') == sum(len(machine.module(m).claims) for m in machine.methods())


@pytest.mark.parametrize('method', machine.methods())
def test_claims_fit_together(method):
    "Pairs and figures name arms and metrics that exist; three seeds at least; every arm's settings can be made"
    home = machine.module(method)
    assert len({c.id for c in home.claims}) == len(home.claims)
    for c in home.claims:
        assert c.measured in ('now', 'runnable') and c.seeds >= 3 and set(c.paper) <= set(c.arms) and (c.pairs or c.together)
        assert all({p.above, p.below} <= set(c.arms) and p.above != p.below and p.metric in c.metrics for p in c.pairs)
        assert all({t.x, t.y} <= set(c.metrics) for t in c.together)
        for preset in home.protocols:
            base = machine.setting(home, method, c, preset, [])
            arms = [machine.arm_setting(c, a, *base)[:2] for a in c.arms]
            assert len({json.dumps([machine.plain(part) for part in arm]) for arm in arms}) == len(c.arms)


def test_an_arm_may_change_the_protocol():
    "PooDLe's row 6 is row 7 with another flow: the same config, another protocol, runs of its own"
    home = machine.module('poodle')
    claim = next(c for c in home.claims if c.id == 'table4-rest')
    base = machine.setting(home, 'poodle', claim, 'cpu', ['pool=8'])
    (six, own, said), (seven, same, _) = (machine.arm_setting(claim, a, *base) for a in ('6 PooDLe, learnt flow', '7 PooDLe'))
    assert six == seven == base[0] and same == base[1] and own.flow == 'mcjepa' != same.flow and said == dict(flow='mcjepa') and own.pool == 8
    tasks = {t.arm: t for t in machine.tasks_of(home, 'poodle', claim, *base, 1, 'cpu', 1)}
    assert tasks['6 PooDLe, learnt flow'].protocol == own and tasks['6 PooDLe, learnt flow'].key != tasks['7 PooDLe'].key


def test_claims_that_need_weights_say_so(tmp_path, capsys):
    "RIVER cannot be trained without an autoencoder: code 2, one sentence that names it, nothing written"
    words = ['river', '--claim', 'table53', '--device', 'cpu', '--out', str(tmp_path/'out'), '--set', f"autoencoder={tmp_path/'none.safetensors'}"]
    assert machine.main(words) == 2
    said = capsys.readouterr().err
    assert 'autoencoder' in said and 'none.safetensors' in said and said.count('\n') == 1 and not (tmp_path/'out').exists()


def test_one_training_answers_several_arms(monkeypatch):
    "Arms of a warm start ask the same network; a warm start takes fewer calls, and another config is another network"
    home, made = machine.module('river'), []
    monkeypatch.setattr(home.catalog, 'learner_of', lambda name, config, *_, **__: made.append(config) or Untaught(config))
    home.trained.cache_clear()
    claim = next(c for c in home.claims if c.id == 'figure53')
    base = machine.setting(home, 'river', claim, 'cpu', ['dim=16', 'depth=1', 'middle=1', 'heads=2', 'frames=4', 'pool=4', 'clips=2', 'calls=4'])
    found = {a: home.measure(*machine.arm_setting(claim, a, *base)[:2], 0, 'cpu') for a in ('s = 0', 's = 0.5')}
    home.trained(machine.revised(*base, dict(reference=False))[0], 4, False, 0, 'cpu')
    home.trained.cache_clear()
    assert len(made) == 2 and found['s = 0']['calls'] == 4 and found['s = 0.5']['calls'] == 5
    assert found['s = 0']['seconds'] == found['s = 0.5']['seconds'] and found['s = 0']['psnr'] != found['s = 0.5']['psnr']


class Untaught:
    "A learner that has nothing to do"
    def __init__(self, config): self.method = machine.module('river').RIVER(config)

    def steps(self): return ()


# ---- what is committed

COMMITTED = {p.stem: json.loads(p.read_text()) for p in sorted(RESULTS.glob('*.json'))} if RESULTS.is_dir() else {}
CLAIMED = {n: r for n, r in COMMITTED.items() if r.get('kind') == 'claim'}


@pytest.mark.parametrize('name', CLAIMED)
def test_committed_claim(name):
    "At least three seeds, all finished; commit, command, data, device, versions; the verdicts follow from the numbers"
    result = CLAIMED[name]
    known = {c.id: c for c in machine.module(result['method']).claims}
    assert name == f"{result['method']}-{result['id']}" and set(result['arms']) == set(known[result['id']].arms)
    assert result['seeds'] >= 3
    complete(result, result['seeds'])
    assert not [r for r in machine.runs_in(result) if r['commit'] == 'unknown']


@pytest.mark.parametrize('method', sorted({r['method'] for r in CLAIMED.values()}))
def test_what_is_measured_now_is_there(method):
    "Once a method has a result, every claim that is called measured has one"
    wanted = {f'{method}-{c.id}' for c in machine.module(method).claims if c.measured == 'now'}
    assert wanted and wanted <= set(CLAIMED)


@pytest.mark.parametrize('name', [n for n in COMMITTED if n.startswith('fidelity-') and 'rules' in COMMITTED[n]])
def test_committed_fidelity(name):
    "Our figures and the public code's differ by 1e-5 at most wherever they are held to each other; both sides are named"
    found = COMMITTED[name]
    assert found['tolerance'] <= 1e-5 and found['largest'] <= found['tolerance'] and len(found['held_to_tolerance']) > 10
    shown = {f'{d} {n}': v for d, row in found['largest_differences'].items() for n, v in row.items()} | {n: f['max_difference'] for n, f in found['rules'].items() if 'max_difference' in f}
    assert max(shown[n] for n in found['held_to_tolerance']) == found['largest']
    assert found['upstream']['repository'].startswith('https://') and len(found['upstream']['commit']) == 40
    assert found['commit'] and not found['changed'] and found['command'] and found['device'] and found['versions']
    assert all('seed' in c and c['figures'] for c in found['cases'])


def test_committed_davis():
    "J and F agree with the official evaluation on every case, to its own tolerance"
    found = COMMITTED['fidelity-davis']
    assert found['tolerance'] == 1e-6 and found['largest'] <= 1e-6
