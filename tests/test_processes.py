"""Two processes with half the batch each learn what one learns from the whole: terms, gradients, centre, draws."""
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssl_workbench import catalog, core
from ssl_workbench.learner import Learner, checkpoints, draw_indices, draw_seeds
from ssl_workbench.methods import poodle, river
from ssl_workbench.methods.slotmim import SlotMIM, Views, cpu
from ssl_workbench.world import World

ROOT = Path(__file__).resolve().parent.parent
BATCH, STEPS = 8, 4
TINY = replace(cpu, size=32, patch=8, dim=16, depth=2, heads=2, stem='linear', drop_path=0., hidden=16, out_dim=8,
               prototypes=6, freeze_prototypes=0., clip=0., batch=BATCH)
CASES = {'centring': TINY, 'sinkhorn': replace(TINY, sinkhorn=True), 'hard slots': replace(TINY, hard_slots=True),
         'cross alone': replace(TINY, within=0., slot=0.)}
SMALL = dict(size=32, patch=8, dim=16, depth=2, heads=2, batch=BATCH)
HEAD = dict(hidden=16, out_dim=8)
CROPS = dict(**HEAD, small_size=16, small=2, prototypes=6, freeze_prototypes=0., clip=0.)
WORDS = dict(canvas=32, text_dim=16, text_depth=1, text_heads=2, out_dim=8)
SHORT = dict(canvas=32, frames=5, middle=1, ae=(('widths', (8, 8, 8)), ('decoder_widths', (8, 8, 8)), ('codes', 24),
                                                ('adversarial', 0.)))
FILMS = dict(**CROPS, canvas=32, length=4, small_length=2, frames=5, colour=0., grey=0.)
# and LOCA, …; what to change in the cpu preset
CLASSICS = {'simclr': HEAD, 'mocov3': HEAD, 'dino': CROPS, 'ibot': CROPS,
            'mae': dict(decoder_dim=16, decoder_depth=1, decoder_heads=2),
            'loca': dict(**HEAD, small=16, queries=4, prototypes=6, clip=0.),
            'dilemma': dict(given=HEAD, weight=.4, ratios=(.4,), growth=(1,)),
            'dilemma mixed': dict(given=HEAD, weight=.4, mixed=True, growth=(1, 1, 1, 1)),
            'vicreg': dict(**HEAD, dims=(8, 8, 12, 16), stem=(4, 8)), 'byol': dict(**HEAD, channels=(8, 8, 12, 16)),
            'flowe': dict(**HEAD, channels=(8, 8, 12, 16), canvas=48),
            'clip': WORDS, 'clip simclr': dict(WORDS, hidden=16, extra='simclr', styles=4),
            'clip distill': dict(WORDS, hidden=16, extra='distill'),
            'sfclip': (TAUGHT := dict(WORDS, image_share=.5, text_share=.25, text_masked=.5, vision_dims=(96,))),
            'sfclip sparse': dict(TAUGHT, dropped=.5, image_masked=.25),
            'xlm': dict(languages=('en', 'de', 'qaa')),
            'vqgan': dict(widths=(8, 8, 16), decoder_widths=(8, 8, 16), codes=24, disc_width=8, adversarial_from=0.,
                          adaptive=True),
            'vqgan before its discriminator': dict(widths=(8, 8, 16), decoder_widths=(8, 8, 16), codes=24,
                                                   disc_width=8),
            'scale': (VECTORS := dict(inputs=8, hidden=16, target_hidden=16, out_dim=8, clips=8, views=4)),
            'scale as in the thesis': dict(VECTORS, objective='thesis', positions='minmax', mirrored=True,
                                           mask_by='count'),
            'river': dict(SHORT, plan=.25, blank=.25), 'river batch norm': dict(SHORT, out_norm='batch'),
            'river ddpm': dict(SHORT, path='ddpm'),
            'river sparse': dict(SHORT, sparse=True, contexts=2, seen=.5, denoised=.5),
            'vidrop': dict(FILMS, dropped=.5), 'vidrop stare': dict(FILMS, objective='stare', shared_head=True),
            'vidrop dense': dict(FILMS, dropped=0., objective='dino'),
            'mcjepa': dict(canvas=48, pair_size=(32, 32), dims=(8, 8, 16), stem=(4, 8), filters=(8, 8), inputs=8,
                           radius=2, expand=16, out_dim=8, vc_warmup=0., flow_start=0., occlusion_start=0.,
                           grad_clip=0.)}
# terms that depend on the other process's half
COUPLED = {'simclr': ['contrast'], 'mocov3': ['contrast'], 'loca': ['position', 'cluster', 'me_max'],
           'dilemma': ['contrast'], 'dilemma mixed': ['contrast', 'mismatch'], 'vicreg': ['variance', 'covariance'],
           'byol': ['regression'], 'vqgan': ['reconstruction', 'commitment'], 'river batch norm': ['field'],
           'scale': ['set', 'mcm'], 'scale as in the thesis': ['set', 'mcm'],
           'vidrop': ['cls', 'patch', 'koleo'], 'vidrop stare': ['cls', 'patch', 'koleo'],
           'clip': ['contrast'], 'clip simclr': ['contrast', 'simclr'], 'sfclip': ['contrast', 'text'], 'xlm': ['mlm'],
           'flowe': ['equivariance'], 'mcjepa': ['reconstruction', 'covariance', 'content covariance']}


ROADS = dict(size=32, canvas=48, channels=(8, 8, 12, 16), hidden=16, out_dim=8, subcrops=3, sub_size=16, batch=BATCH)
# what takes pairs of frames with flow
PAIRED = {'poodle': {}, 'poodle, row 2': poodle.TABLE4[2], 'poodle, every pixel': dict(loss_size='input', pooled=False)}


class Recorded:
    "Pictures of the world that records which were requested"
    def __init__(self, world=None):
        self.world, self.requested = world or World('scene', 1, (32, 32), 1, 24, truth=False), []
    def __len__(self): return len(self.world)
    def batch(self, indices, device):
        self.requested.append(list(indices))
        return self.world.batch(indices, device)


class Vectors:
    "Cached features of clips that have nothing in common"
    def __len__(self): return 24

    def batch(self, indices, device):
        seeds = core.seeds_of(list(indices))
        boxes = core.uniform(seeds, 'boxes', 48).float().view(-1, 8, 2, 3).sort(2).values.flatten(2)
        return dict(features=core.normal(seeds, 'features', 64).float().view(-1, 8, 8), boxes=boxes,
                    flip=core.uniform(seeds, 'flip', 8) < .5)


def data_for(name):
    "What a method learns from here: pairs of a drive with their flow, videos, cached features, or pictures"
    if 'features' in catalog.find(name.split()[0]).inputs: return Vectors()
    if 'clip' in catalog.find(name.split()[0]).inputs: return World('bounce', 1, (32, 32), 5, 24, truth=False)
    if 'pair' in catalog.find(name.split()[0]).inputs: return World('drive', 1, (48, 48), 2, 24)
    return World('scene', 1, (32, 32), 1, 24, truth=False, captions=True)


class Doubles(Views):
    "The same views in float64"
    def __call__(self, batch):
        views = super().__call__(batch)
        return views | dict(x=views['x'].double(), box=views['box'].double())


def slotmim(config):
    "A SlotMIM in float64 that is not fresh: several slots are active, the teacher lags behind, the centre is off zero"
    core.seed_everything(0)
    method = SlotMIM(config).double()
    with torch.no_grad():
        for p in [*method.student.parameters(), *method.predictor.parameters()]: p.add_(.4 * torch.randn_like(p))
        for late, p in zip(method.teacher.parameters(), method.student.parameters()):
            late.copy_(p + .05 * torch.randn_like(p))
        method.centre.copy_(.1 * torch.randn_like(method.centre))
    return method


def learner(config=TINY, out=None):
    return Learner(slotmim(config), Doubles(config), Recorded(), total=STEPS, batch=BATCH, out=out, save_every=2,
                   device='cpu', progress=False)


def first_step(config):
    "Terms, gradients as the optimiser meets them, and the centre after the first step"
    run, grads = learner(config), {}
    named = {n: p for n, p in run.method.named_parameters() if p.requires_grad}
    run.optimiser.step = lambda: grads.update({n: p.grad.clone() for n, p in named.items() if p.grad is not None})
    step = next(run.steps(1))
    return dict(terms=step.terms, grads=grads, centre=run.method.centre.clone(),
                uneven=[int(step.views['mask'].sum()), int(sum(step.out[f'active_{v}'].sum() for v in (1, 2)))])


def whole_run(out):
    "Samples requested and weights of a run, and the weights when it is stopped half way and continued"
    one = learner(out=out/'one')
    steps = list(one.steps())
    for _ in learner(out=out/'two').steps(2): pass
    again = learner(out=out/'two').load()
    for _ in again.steps(): pass
    return dict(requested=one.data.requested, terms=[s.terms for s in steps], seen=[s.seen for s in steps],
                weights=one.method.state_dict(), continued=again.method.state_dict(),
                files=sorted(p.name for p in checkpoints(out/'one')[-1].iterdir()))


def classic(name):
    "A classic in float64 with its views; no weight is fresh, so a teacher differs from its student"
    home, cpu = name.split()[0], catalog.module(name.split()[0]).cpu
    # ResNets have no patches
    config = replace(cpu, **{k: v for k, v in SMALL.items() if hasattr(cpu, k)}, **CLASSICS[name])
    core.seed_everything(0)
    method = catalog.build(home, config).double()
    with torch.no_grad():
        for p in method.parameters(): p.add_(.1 * torch.randn_like(p))
    if 'teachers' in catalog.find(home).needs:
        method.adopt([catalog.build('slotmim').double()], catalog.build('xlm').double())
    views = catalog.module(home).Views(config)
    return method, lambda batch: {k: v.double() if v.is_floating_point() else v for k, v in views(batch).items()}


def classic_step(name):
    "Terms, gradients as the optimiser meets them, and buffers after the first step of a classic"
    method, views = classic(name)
    run = Learner(method, views, Recorded(data_for(name)), total=STEPS, batch=BATCH, device='cpu', progress=False)
    grads = {}
    run.optimiser.step = lambda: grads.update({n: p.grad.clone() for n, p in method.named_parameters()
                                               if p.grad is not None})
    return dict(terms=next(run.steps(1)).terms, grads=grads, buffers={n: b.clone() for n, b in method.named_buffers()})


def paired_step(change):
    "The same of PooDLe, whose counts of valid pixels differ between the halves"
    config = replace(poodle.cpu, **ROADS | change)
    core.seed_everything(0)
    method = poodle.PooDLe(config).double()
    with torch.no_grad():
        for p in method.parameters(): p.add_(.1 * torch.randn_like(p))
    views = lambda batch: {k: v.double() if v.is_floating_point() else v
                           for k, v in poodle.Views(config)(batch).items()}
    run = Learner(method, views, World('drive', 1, (48, 48), 2, 24), total=STEPS, batch=BATCH, device='cpu',
                  progress=False)
    grads = {}
    run.optimiser.step = lambda: grads.update({n: p.grad.clone() for n, p in method.named_parameters()
                                               if p.grad is not None})
    step = next(run.steps(1))
    return dict(terms=step.terms, grads=grads, buffers={n: b.clone() for n, b in method.named_buffers()},
                valid=step.out['valid'].sum((0, 2, 3, 4)).tolist())


def futures():
    "What a RIVER predicts of this process's part of a batch, every sample with a seed of its own"
    config = replace(river.cpu, size=32, dim=32, depth=1, heads=2, **SHORT)
    core.seed_everything(0)
    method, part = river.RIVER(config).eval(), BATCH // core.world_size()
    draws = range(core.rank() * part, (core.rank() + 1) * part)
    return method.predict(World('bounce', 1, (32, 32), 2, 24, truth=False).batch(draws, 'cpu')['frames'], 3, steps=2,
                          seed=draw_seeds(0, draws))


def work(out):
    "All that is compared, by one process of however many there are; written as a file"
    first = {name: first_step(config) for name, config in CASES.items()}
    results = dict(first=first, paired={name: paired_step(change) for name, change in PAIRED.items()},
                   classics={name: classic_step(name) for name in CLASSICS}, run=whole_run(out), futures=futures(),
                   processes=core.world_size(), rank=core.rank())
    torch.save(results, out/f'rank{core.rank()}.pt')


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "What each of two processes found"
    out = tmp_path_factory.mktemp('two')
    env = os.environ | dict(ACCELERATE_USE_CPU='true', CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1',
                            PYTHONPATH=str(ROOT))
    words = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', __file__, str(out)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(out/f'rank{r}.pt') for r in (0, 1)]


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    "What one process finds"
    out = tmp_path_factory.mktemp('one')
    work(out)
    return torch.load(out/'rank0.pt')


def halves(config):
    "Mean terms of two processes that know nothing of each other"
    views, whole = Doubles(config), World('scene', 1, (32, 32), 1, 24, truth=False)
    found = []
    for draws in (range(BATCH // 2), range(BATCH // 2, BATCH)):
        method = slotmim(config)
        method.before_step(0.)
        batch = whole.batch(draw_indices(0, draws, 24), 'cpu') | dict(seed=draw_seeds(0, draws))
        found.append(method.loss(method(views(batch))))
    return {k: (found[0][k] + found[1][k]).item() / 2 for k in found[0]}


def test_there_were_two(one, two):
    "Two processes that knew of each other; their shares of masked patches and active slots are uneven"
    assert one['processes'] == 1 and [r['processes'] for r in two] == [2, 2] and [r['rank'] for r in two] == [0, 1]
    a, b, whole = (r['first']['centring']['uneven'] for r in (*two, one))
    assert all(x != y and x + y == z for x, y, z in zip(a, b, whole)), (a, b, whole)


@pytest.mark.parametrize('case', CASES)
def test_first_step(case, one, two):
    "Every term, every gradient and the centre, on both processes, to 1e-6"
    want = one['first'][case]
    for got in (r['first'][case] for r in two):
        assert got['terms'] == pytest.approx(want['terms'], abs=1e-6) and got['terms'].keys() == want['terms'].keys()
        assert got['grads'].keys() == want['grads'].keys() and len(want['grads']) > 20
        far = {n: (g - want['grads'][n]).abs().max().item() for n, g in got['grads'].items()}
        assert max(far.values()) < 1e-6, max(far.items(), key=lambda f: f[1])
        assert (got['centre'] - want['centre']).abs().max() < 1e-6
    assert max(g.abs().max()
               for g in want['grads'].values()) > 1e-2, 'gradients too small to compare'


@pytest.mark.parametrize('case, coupled', [('centring', ['within', 'slot']), ('sinkhorn', ['cross', 'within', 'slot'])])
def test_processes_matter(case, coupled, one):
    "What depends on the other half (negatives, balance, counts) differs without it: the comparison could fail"
    alone, want = halves(CASES[case]), one['first'][case]['terms']
    for term in coupled: assert abs(alone[term] - want[term]) > 1e-4, (term, alone, want)


@pytest.mark.parametrize('name', CLASSICS)
def test_classic_first_step(name, one, two):
    "Every term, every gradient and every running statistic of a classic, on both processes, to 1e-6"
    want = one['classics'][name]
    for got in (r['classics'][name] for r in two):
        assert got['terms'] == pytest.approx(want['terms'], abs=1e-6) and got['terms'].keys() == want['terms'].keys()
        for part in ('grads', 'buffers'):
            assert got[part].keys() == want[part].keys()
            far = {n: (x - want[part][n]).abs().max().item() for n, x in got[part].items()}
            assert max(far.values(), default=0.) < 1e-6, max(far.items(), key=lambda f: f[1])
    assert len(want['grads']) > 20 and max(g.abs().max() for g in want['grads'].values()) > 1e-2


@pytest.mark.parametrize('name', COUPLED)
def test_classic_needs_the_other_half(name, one):
    "Without the other half its terms are other numbers: the comparison could fail"
    found, whole = [], data_for(name)
    for draws in (range(BATCH // 2), range(BATCH // 2, BATCH)):
        method, views = classic(name)
        method.before_step(0.)
        found.append(method.loss(method(views(whole.batch(draw_indices(0, draws, 24), 'cpu')
                                              | dict(seed=draw_seeds(0, draws))))))
    for term in COUPLED[name]:
        assert abs(sum(f[term].item() for f in found) / 2 - one['classics'][name]['terms'][term]) > 1e-4


@pytest.mark.parametrize('name, centres', [('dino', ['centre']), ('ibot', ['centre', 'patch_centre'])])
def test_centre_is_that_of_the_whole_batch(name, centres, one):
    "A half's own centre is another one: the comparison of buffers could fail"
    whole, (method, views) = World('scene', 1, (32, 32), 1, 24, truth=False), classic(name)
    method.before_step(0.)
    method(views(whole.batch(draw_indices(0, range(BATCH // 2), 24), 'cpu')
                 | dict(seed=draw_seeds(0, range(BATCH // 2)))))
    method.after_step(0.)
    for centre in centres:
        want = one['classics'][name]['buffers'][centre]
        assert want.abs().max() > 1e-3 and (getattr(method, centre) - want).abs().max() > 1e-5


@pytest.mark.parametrize('name', PAIRED)
def test_paired_first_step(name, one, two):
    "Every term, gradient and running statistic of PooDLe; the halves have unevenly many valid pixels"
    want, (a, b) = one['paired'][name], (r['paired'][name]['valid'] for r in two)
    assert a != b and [x + y for x, y in zip(a, b)] == want['valid']
    for got in (r['paired'][name] for r in two):
        assert got['terms'] == pytest.approx(want['terms'], abs=1e-6) and len(want['grads']) > 20
        for part in ('grads', 'buffers'):
            assert got[part].keys() == want[part].keys()
            far = {n: (x - want[part][n]).abs().max().item() for n, x in got[part].items()}
            assert max(far.values(), default=0.) < 1e-6, max(far.items(), key=lambda f: f[1])
    assert max(g.abs().max() for g in want['grads'].values()) > 1e-2


def test_draws_are_disjoint_halves(one, two):
    "Step by step, the processes request the halves of what one process requests"
    whole, a, b = (r['run']['requested'] for r in (one, *two))
    assert len(whole) == STEPS and [x + y for x, y in zip(a, b)] == whole
    assert all(not set(x) & set(y) and len(x) == len(y) == BATCH // 2 for x, y in zip(a, b))
    seen = [BATCH * (i + 1) for i in range(STEPS)]
    assert one['run']['seen'] == two[0]['run']['seen'] == two[1]['run']['seen'] == seen


def test_processes_stay_together(one, two):
    "Same terms and same weights on both after some steps, and those of one process up to rounding"
    a, b = (r['run'] for r in two)
    assert a['terms'] == b['terms']
    assert all(torch.equal(v, b['weights'][k]) for k, v in a['weights'].items())
    for got, want in zip(a['terms'], one['run']['terms']): assert got == pytest.approx(want, abs=1e-5)


def test_two_processes_continue(two):
    "Stopped half way and continued: the uninterrupted run's weights, bit for bit; generators are kept by process"
    for r in two: assert all(torch.equal(v, r['run']['continued'][k]) for k, v in r['run']['weights'].items())
    assert two[0]['run']['files'] == ['model.safetensors', 'random-0.pt', 'random-1.pt', 'run.json', 'state.pt']


if __name__ == '__main__': work(Path(sys.argv[1]))


def test_same_seed_same_video(one, two):
    "Predicted in two halves by two processes, or in one by one: the same frames"
    want, got = one['futures'], torch.cat([r['futures'] for r in two])
    assert got.shape == want.shape == (BATCH, 3, 3, 32, 32) and torch.allclose(got, want, atol=1e-5)
    assert (want[0] - want[1]).abs().max() > .01
