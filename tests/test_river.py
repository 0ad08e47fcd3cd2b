"""RIVER: which frames condition it, samplers by hand, same seed same video, plans, first frames, sparse, DDPM."""
import math
from dataclasses import replace

import pytest
import torch
import torch.nn as nn

from ssl_workbench import core
from ssl_workbench.classics import vqgan
from ssl_workbench.learner import Learner, draw_seeds
from ssl_workbench.losses import flow_matching_pair
from ssl_workbench.methods.river import RIVER, Views, cpu, time_token
from ssl_workbench.methods.river.sampling import SOLVERS, Blank, Plan, Rollout, alphas, gather_cells, random_cells

AE = (('widths', (8, 8, 8)), ('depths', (0, 0, 0)), ('decoder_widths', (8, 8, 8)), ('decoder_depths', (0, 0, 0)),
      ('codes', 64), ('adversarial', 0.))
TINY = replace(cpu, size=32, canvas=32, frames=8, dim=32, depth=1, middle=1, heads=2, predicted=3, ae=AE)
SPARSE = dict(sparse=True, contexts=2, seen=.5, denoised=.25)
CASES = {'cpu': {}, 'batch norm': dict(out_norm='batch'), 'no reference': dict(reference=False),
         'plan and blank': dict(plan=.3, blank=.3),
         'sparse': SPARSE, 'ddpm': dict(path='ddpm')}
NUMBERS = torch.Generator().manual_seed(0)


def clips(n=16, t=8, size=32):
    "Frames that have nothing in common, as a learner hands them over"
    frames = torch.randint(0, 256, (n, t, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return dict(frames=frames, aspect=torch.ones(n), seed=draw_seeds(0, range(n)))


def made(**change):
    "A model whose codes lie apart"
    core.seed_everything(0)
    model = RIVER(replace(TINY, **change))
    nn.init.normal_(model.autoencoder.codebook.codes)
    return model.eval()


def numbered(n, t):
    "Latents that tell the number of their frame"
    return torch.arange(t, dtype=torch.float32).view(1, t, 1, 1, 1).expand(n, -1, *TINY.shape).clone()


def contexts(roll, calls):
    "Frames that the second condition came from, call by call: (calls,B)"
    found = []
    for roll.calls in range(calls): found.append(roll.draw_conditions()[0][:, 1, 0, 0, 0].long())
    return torch.stack(found)


# ---- which frames are learnt from

def test_frames_chosen():
    "Target from the third on, the reference before it, the context anywhere before that; every one as likely"
    where, offset = Views(TINY).choose_frames(core.seeds_of(range(20000)), 8, torch.zeros(20000, dtype=torch.bool))
    target, reference, context = where.T
    assert set(target.tolist()) == set(range(2, 8)) and torch.equal(reference, target - 1)
    assert ((context >= 0) & (context <= target - 2)).all()
    assert (torch.bincount(target)[2:] / 20000 - 1 / 6).abs().max() < .012
    for s in (2, 5, 7):
        share = torch.bincount(context[target == s], minlength=s - 1) / (target == s).sum()
        assert (share - 1 / (s - 1)).abs().max() < .03
    assert torch.equal(offset, torch.stack([reference, context], 1) - target[:, None])


def test_planned_frames_lie_on_both_sides():
    "With `plan`: one condition before the target, one after it"
    where, _ = Views(TINY).choose_frames(core.seeds_of(range(4000)), 8, torch.ones(4000, dtype=torch.bool))
    target, first, second = where.T
    assert (first < target).all() and (target < second).all() and first.min() == 0 and second.max() == 7
    assert set(target.tolist()) == set(range(1, 7))


def test_views_are_those_frames():
    "Pixels of the frames that were chosen, of the sample's seed alone"
    batch = clips()
    views = Views(TINY)(batch)
    where, _ = Views(TINY).choose_frames(core.seeds_of(batch['seed']), 8, torch.zeros(16, dtype=torch.bool))
    assert torch.equal(views['x'], batch['frames'][torch.arange(16)[:, None], where] / 255)
    alone = Views(TINY)({k: v[5:6] for k, v in batch.items()})
    assert all(torch.equal(v[5:6], alone[k]) for k, v in views.items())


def test_parts_of_a_batch():
    "plan and blank take their parts of the samples"
    views = Views(replace(TINY, plan=.25, blank=.25))(clips(400))
    plan = views['offset'][:, 1] > 0
    assert 60 < plan.sum() < 140 and 60 < views['blank'].sum() < 140 and not (views['blank'] & plan).any()


def test_refused():
    "One sentence for what cannot be"
    with pytest.raises(ValueError, match='needs three'): Views(TINY)(clips(2, t=2))
    for change in (dict(path='gan'), dict(frames=2), dict(plan=.6, blank=.6), dict(seen=.5), dict(size=30)):
        with pytest.raises(ValueError): replace(TINY, **change)


# ---- which frames are the conditions while predicting

@pytest.mark.parametrize('context, frames', [(None, range(8)), (1, [7]), (3, [5, 6, 7]), (8, range(8)), (50, range(8))])
def test_context_window(context, frames):
    "Frame τ=9 comes after the reference 8; a window of k is {τ−1−k … τ−2}, all of it, each as likely"
    roll = Rollout(made(), numbered(40, 9), 1, context=context)
    seen = contexts(roll, 50)
    assert set(seen.flatten().tolist()) == set(frames)
    assert (torch.bincount(seen.flatten())[list(frames)] / seen.numel() - 1 / len(frames)).abs().max() < .04
    conditions, offset = roll.draw_conditions()
    assert (conditions[:, 0] == 8).all() and torch.equal(offset[:, 0], torch.full((40,), -1))
    assert torch.equal(conditions[:, 1, 0, 0, 0], 9. + offset[:, 1])


def test_another_context_at_every_call():
    "Drawn anew for each call and for each sample, independently"
    seen = contexts(Rollout(made(), numbered(60, 9), 1), 60)
    assert abs((seen[1:] == seen[:-1]).float().mean() - 1 / 8) < .03
    assert abs((seen[:, 1:] == seen[:, :-1]).float().mean() - 1 / 8) < .03


def test_the_network_is_given_the_distance():
    "The log of the distance between the two conditions, as in the code"
    net = made().regressor
    with torch.no_grad():
        embedded = net.embed_offset(torch.tensor([[-1, -2], [-1, -5], [-3, -7]]))
        assert torch.allclose(embedded, net.distance(torch.tensor([1., 4., 4.]).log()[:, None]))


def test_time_token():
    "Cosines, then sines, of 200·t"
    token = time_token(torch.tensor([0., .3]), 8)
    assert torch.equal(token[0], torch.tensor([1.] * 4 + [0.] * 4))
    assert token[1, 0] == pytest.approx(math.cos(60), abs=1e-5)
    assert token[1, 5] == pytest.approx(math.sin(60 / 10), abs=1e-5)
    assert token[1, 7] == pytest.approx(math.sin(.06), abs=1e-6)


# ---- sampling

@pytest.mark.parametrize('solver', SOLVERS)
def test_calls(solver):
    "steps × stages × frames, counted where the network is"
    model, queried = made(), []
    model.regressor.register_forward_hook(lambda *_: queried.append(1))
    model.predict(clips(2)['frames'], 2, steps=3, solver=solver)
    assert model.calls == len(queried) == 3 * SOLVERS[solver] * 2
    model.predict(clips(2)['frames'], 1)
    assert model.calls == TINY.predicted


@pytest.mark.parametrize('solver', SOLVERS)
def test_a_straight_path_is_followed_to_its_end(solver):
    "Where the field is that of one target, every solver arrives there in any number of steps; frames become the past"
    truth = torch.randn(2, *TINY.shape, generator=NUMBERS)
    roll = Rollout(made(), numbered(2, 3), 2, solver=solver, steps=3)
    def field(t, z):
        noise = roll.noise(f'noise/{roll.known}')
        return flow_matching_pair(truth + roll.known, noise, t.expand(2), TINY.sigma_min)[1]
    roll.field = field
    stood = [(k, t) for k, t, _ in roll.frames()]
    assert stood == [(k, pytest.approx(i / 3)) for k in (3, 4) for i in range(4)]
    assert torch.allclose(roll.latents[:, 3:], torch.stack([truth + 3, truth + 4], 1), atol=1e-5)


@pytest.mark.parametrize('warm', [0., .1, .6])
def test_warm_start(warm):
    "Begins at the noisy frame before, at place s, and ends at 1"
    roll = Rollout(made(), numbered(2, 3), 1, seed=4, steps=2, warm_start=warm)
    path = list(roll.path())
    assert torch.allclose(path[0][1], (1 - (1 - 1e-7) * warm) * roll.noise('noise/3') + warm * 2.)
    assert [t for t, _ in path] == pytest.approx([warm, (1 + warm) / 2, 1])


@pytest.mark.parametrize('weight', [1., 1.5, 3.])
def test_guidance(weight):
    "The field given the past and, with guidance, beyond it: away from the field given noise; one call or two"
    model, queried = made(blank=.5), []
    def network(z, conditions, offset, t, memory):
        queried.append((conditions, offset))
        return 10. ** len(queried) + z, None
    roll = Rollout(model, numbered(2, 5), 1, guidance=weight)
    model.regressor.forward = network
    prediction = roll.field(torch.tensor(.5), torch.zeros(2, *TINY.shape))
    assert roll.calls == len(queried) == 1 + (weight > 1)
    want = 10. if weight == 1 else 100 + weight * (10 - 100)
    assert torch.allclose(prediction, torch.full_like(prediction, want))
    assert (queried[0][0][:, 0] == 4).all(), 'the frame before'
    if weight == 1: return
    (_, offset), (noise, offset_blank) = queried
    assert abs(noise.std() - 1) < .2 and abs(noise.mean()) < .2 and torch.equal(offset, offset_blank), 'same distances'


def test_guided_films():
    "The config's guidance by default; 1 is none; a first frame has nothing to be led away from"
    frames, guided = clips(2)['frames'], made(blank=.5, guidance=2.)
    plain = made(blank=.5)
    film = guided.predict(frames, 2)
    assert guided.calls == 2 * 2 * TINY.predicted
    assert torch.equal(film, guided.predict(frames, 2)) and torch.equal(film, plain.predict(frames, 2, guidance=2))
    assert torch.equal(guided.predict(frames, 2, guidance=1), plain.predict(frames, 2))
    assert plain.calls == 2 * TINY.predicted
    assert (film - plain.predict(frames, 2)).abs().max() > .01
    assert torch.equal(guided.generate(2, 1), plain.generate(2, 1)) and guided.calls == TINY.predicted
    guided.generate(2, 3)
    assert guided.calls == TINY.predicted * (1 + 2 + 2)
    with pytest.raises(ValueError, match='blank above 0'): replace(TINY, guidance=2.)
    with pytest.raises(ValueError, match='at least 1'): replace(TINY, blank=.5, guidance=.5)


def test_one_frame_is_doubled():
    "One seen frame is taken for two, and does not come out again"
    model, frames = made(), clips(2)['frames']
    prediction = model.predict(frames[:, :1], 3, seed=2)
    assert prediction.shape == (2, 3, 3, 32, 32)
    assert torch.equal(prediction, model.predict(frames[:, [0, 0]], 3, seed=2))
    assert prediction.min() >= 0 and prediction.max() <= 1


@pytest.mark.parametrize('change', [{}, SPARSE, dict(path='ddpm')], ids=['flow', 'sparse', 'ddpm'])
def test_same_seed_same_video(change):
    "Alone and in company; another seed, another video"
    model, frames, seeds = made(**change), clips(3)['frames'][:, :3], [5, 6, 5]
    whole = model.predict(frames, 2, seed=seeds)
    for i in range(3):
        alone = model.predict(frames[i:i + 1], 2, seed=seeds[i:i + 1])
        assert torch.allclose(whole[i:i + 1], alone, atol=1e-5)
        assert ((whole[i:i + 1] * 255).round() - (alone * 255).round()).abs().max() <= 1
    assert torch.equal(whole, model.predict(frames, 2, seed=seeds))
    assert torch.allclose(model.predict(frames[:1], 2, seed=5), whole[:1], atol=1e-5)
    assert (model.predict(frames[:1], 2, seed=6) - whole[:1]).abs().max() > .01
    twice = model.predict(frames[[0, 0]], 2, seed=5)
    assert (twice[0] - twice[1]).abs().max() > .01, 'one seed for all: each sample its own future'


BAD = {'(B,T,3,H,W)': dict(frames=torch.zeros(2, 3, 32, 32)),
       'multiples of 8': dict(frames=torch.zeros(2, 3, 3, 32, 30)),
       'at least one frame': dict(frames=torch.zeros(2, 0, 3, 32, 32)),
       "no solver 'heun'": dict(solver='heun'),
       'below 1': dict(warm_start=1.),
       'context is at least 1': dict(context=0),
       'guidance is at least 1': dict(guidance=.5),
       'nothing to be guided away from': dict(guidance=2),
       'steps is at least 1': dict(steps=0)}


@pytest.mark.parametrize('words', BAD)
def test_predict_refuses(words):
    "In one sentence"
    with pytest.raises(ValueError) as error: made().predict(**dict(frames=clips(2)['frames'], n=1) | BAD[words])
    assert words in str(error.value) and '\n' not in str(error.value)


def test_other_sizes():
    "Wider frames than it learnt from: places are stretched"
    assert made().predict(torch.zeros(1, 2, 3, 32, 48), 1).shape == (1, 1, 3, 32, 48)


# ---- between two frames, and out of nothing

def test_plan_is_conditioned_on_past_and_goal():
    "One frame before the present one, any of them, and always the goal with its distance"
    roll = Plan(made(plan=.5), numbered(40, 5), 3)
    roll.latents = numbered(40, 7)
    for now in (4, 5, 6):
        roll.known, past = now, set()
        for roll.calls in range(20):
            conditions, offset = roll.draw_conditions()
            past |= set((now + offset[:, 0]).tolist())
            assert (conditions[:, 1] == 4).all() and (offset[:, 1] == 7 - now).all()
            assert torch.equal(conditions[:, 0, 0, 0, 0], (now + offset[:, 0]).float())
        assert past == set(range(now))


def test_plan():
    "n frames between; refused by a network that was not trained for it"
    model, frames = made(plan=.5), clips(2)['frames']
    prediction = model.plan(frames[:, :2], frames[:, 7:], 3)
    assert prediction.shape == (2, 3, 3, 32, 32) and model.calls == 3 * TINY.predicted
    assert (prediction - model.plan(frames[:, :2], frames[:, 6:7], 3)).abs().max() > 1e-4, 'the goal matters'
    with pytest.raises(ValueError, match='without plan'): made().plan(frames[:, :2], frames[:, 7:], 3)


def test_blank_conditions_are_noise():
    "The prediction for a blank sample does not depend on its other frames; for the others it does"
    model, views = made(blank=.5), Views(replace(TINY, blank=.5))(clips())
    other = views | dict(x=torch.cat([views['x'][:, :1], 1 - views['x'][:, 1:]], 1))
    with torch.no_grad(): one, two = (model(v)['prediction'] for v in (views, other))
    moved = (one - two).flatten(1).abs().max(1).values
    blank = views['blank']
    assert 0 < blank.sum() < 16 and (moved[blank] == 0).all() and (moved[~blank] > 1e-4).all()


def test_generate():
    "The first frame out of noise, the others after it; same seed, same video"
    model = made(blank=.5)
    prediction = model.generate(3, 3, seed=[1, 2, 1])
    assert prediction.shape == (3, 3, 3, 32, 32) and model.calls == 3 * TINY.predicted
    assert torch.allclose(prediction[0], prediction[2], atol=1e-5) and (prediction[0] - prediction[1]).abs().max() > .01
    roll = Blank(model, torch.zeros(2, 0, *TINY.shape), 1)
    first, roll.calls = roll.draw_conditions()[0], 1
    assert abs(first.std() - 1) < .2 and not torch.equal(first, roll.draw_conditions()[0])
    with pytest.raises(ValueError, match='without blank'): made().generate(1, 2)


# ---- sparse tokens

def test_some_cells():
    "Distinct, in order, the part that was requested, every cell as likely"
    cells = random_cells(core.seeds_of(range(3000)), 'cells', 16, .25)
    assert cells.shape == (3000, 4) and (cells.diff(dim=1) > 0).all() and cells.min() == 0 and cells.max() == 15
    assert (torch.bincount(cells.flatten()) / 3000 - .25).abs().max() < .04


def test_gathered_cells():
    "Cell 5 of a grid of 4 is row 1, column 1"
    z = torch.randn(1, 2, 4, 4, 4, generator=NUMBERS)
    got = gather_cells(z, torch.tensor([[[5, 6], [0, 15]]]))['z']
    assert torch.equal(got[0, 0, 0], z[0, 0, :, 1, 1]) and torch.equal(got[0, 0, 1], z[0, 0, :, 1, 2])
    assert torch.equal(got[0, 1, 1], z[0, 1, :, 3, 3])


def test_sparse_views_and_loss():
    "Several past frames with their ages; the loss is that of the kept cells"
    model, batch = made(**SPARSE), clips()
    views = Views(model.config)(batch)
    assert views['old'].shape == (16, 2, 3, 32, 32)
    assert views['cells'].shape == (16, 2, 8) and views['kept'].shape == (16, 4)
    assert views['age'].min() >= 2 and (views['age'][:, 0] != views['age'][:, 1]).any()
    with torch.no_grad(): out = model(views)
    error = (out['prediction'] - out['target']).square().mean(1).flatten(1)
    by_hand = torch.stack([error[i, k] for i, row in enumerate(views['kept']) for k in row]).mean()
    assert model.loss(out)['field'] == pytest.approx(by_hand.item(), abs=1e-6)


def test_what_is_left_out_does_not_matter():
    "Cells of the target that are not worked on, and cells of the past that are not seen, change nothing; the others do"
    model = made(**SPARSE)
    views = Views(model.config)(clips(4))
    z, shown, old = (torch.randn(4, *s, generator=NUMBERS) for s in (TINY.shape, (1, *TINY.shape), (2, *TINY.shape)))
    def predict(z, old):
        memory = dict(gather_cells(old, views['cells']), age=views['age'], kept=views['kept'])
        return model.regressor(z, shown, views['offset'], views['t'], memory)[0]
    left = torch.ones(4, 16).scatter(1, views['kept'], 0.).view(4, 1, 4, 4)
    unseen = torch.ones(4, 2, 16).scatter(2, views['cells'], 0.).view(4, 2, 1, 4, 4)
    with torch.no_grad():
        prediction = predict(z, old)
        assert torch.allclose(prediction, predict(z + left, old), atol=1e-6)
        assert torch.allclose(prediction, predict(z, old + unseen), atol=1e-6)
        assert (prediction - predict(z + 1 - left, old)).abs().max() > 1e-3
        assert (prediction - predict(z, old + 1 - unseen)).abs().max() > 1e-4


def test_sparse_contexts():
    "Several past frames within the window, others at every call, all cells of the frame that is made"
    model = made(**SPARSE)
    roll, ages = Rollout(model, numbered(20, 9), 1, context=3), set()
    for roll.calls in range(20):
        memory = roll.memory()
        assert torch.equal(memory['z'][..., 0, 0], 9. - memory['age'])
        assert 'kept' not in memory and memory['cells'].shape == (20, 2, 8)
        ages |= set(memory['age'].flatten().tolist())
    assert ages == {2, 3, 4}


# ---- DDPM on the same network

def test_ddpm_noises_as_the_paper_says():
    "β rises in a straight line from 1e-4 to .02; a level of noise is √ᾱ and √(1 − ᾱ)"
    beta = torch.linspace(1e-4, .02, 1000, dtype=torch.float64)
    assert torch.allclose(alphas(1000).double(), (1 - beta).cumprod(0), rtol=1e-5)
    model, views = made(path='ddpm'), Views(replace(TINY, path='ddpm'))(clips())
    with torch.no_grad(): out, z = model(views), model.encode(views['x'])[:, 0]
    a = (1 - beta).cumprod(0)[((1 - views['t']) * 1000).long()].float()[:, None, None, None]
    assert torch.allclose(out['noisy'], a.sqrt() * z + (1 - a).sqrt() * views['noise'], atol=1e-5)
    assert torch.equal(out['target'], views['noise'])


def test_ddpm_step_by_hand():
    "Ho et al., equation 7, from the highest of 50 levels to the next"
    model = made(path='ddpm', levels=50)
    roll, prediction = Rollout(model, numbered(2, 3), 1, steps=50), torch.randn(2, *TINY.shape, generator=NUMBERS)
    roll.field = lambda t, z: prediction
    path = roll.ancestral()
    (_, x), (_, got) = next(path), next(path)
    beta = torch.linspace(1e-4, .02, 50, dtype=torch.float64) * 20
    bar, b, alpha = (1 - beta).cumprod(0), beta[49], 1 - beta[49]
    clean = (x - (1 - bar[49]).sqrt() * prediction) / bar[49].sqrt()
    mean = bar[48].sqrt() * b / (1 - bar[49]) * clean + alpha.sqrt() * (1 - bar[48]) / (1 - bar[49]) * x
    want = mean + ((1 - bar[48]) / (1 - bar[49]) * b).sqrt() * roll.noise('noise/3/0')
    assert torch.allclose(got.double(), want.double(), atol=1e-4)


def test_ddpm_given_the_noise_arrives():
    "With the true noise the last step leaves the clean frame; levels go from high to low, once each"
    model, truth, queried = made(path='ddpm'), torch.randn(2, *TINY.shape, generator=NUMBERS), []
    roll = Rollout(model, numbered(2, 3), 1, steps=7)
    def field(t, z):
        queried.append(int(model.level(t.reshape(1))))
        a = model.alphas[queried[-1]]
        return (z - a.sqrt() * truth) / (1 - a).sqrt()
    roll.field = field
    *_, (t, z) = roll.ancestral()
    assert t == 1 and torch.allclose(z, truth, atol=1e-3)
    assert queried == torch.linspace(999, 0, 7).round().long().tolist()


# ---- what is trained

@pytest.mark.parametrize('case', CASES)
def test_gradients(case):
    "To every parameter of the regressor, to none of the autoencoder"
    model = made(**CASES[case]).train()
    assert not model.autoencoder.training
    sum(model.loss(model(Views(model.config)(clips(24)))).values()).backward()
    assert [n for n, p in model.regressor.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []
    assert all(p.grad is None and not p.requires_grad for p in model.autoencoder.parameters())
    assert {id(p) for g in model.param_groups() for p in g['params']} == {id(p) for p in model.regressor.parameters()}


@pytest.mark.parametrize('case', ['cpu', 'sparse', 'ddpm'])
def test_bf16(case):
    "Half the bits in the network's products, none lost in the latents: nearly the same steps"
    films, seen = clips(24), {}
    class Data:
        def __len__(self): return 24
        def batch(self, indices, device='cpu'): return {k: v[indices] for k, v in films.items()}
    for precision in ('no', 'bf16'):
        model = made(**CASES[case], precision=precision)
        assert model.config.precision == precision
        learner = Learner(model, Views(model.config), Data(), 4, batch=24, precision=precision, device='cpu',
                          progress=False)
        seen[precision] = [(s.terms['field'], s.out['target'].clone(), s.out['prediction'].clone())
                           for s in learner.steps()]
    for (loss, target, prediction), (loss16, target16, prediction16) in zip(seen['no'], seen['bf16'], strict=True):
        assert torch.allclose(target, target16, atol=1e-6) and not prediction.equal(prediction16)
        assert abs(loss16 - loss) < .02 * loss
        assert (prediction - prediction16).abs().max() < .05 * prediction.abs().max()


class Shrunk(nn.Module):
    "An autoencoder of another kind: means of patches"
    factor = 8

    def __init__(self, channels):
        super().__init__()
        self.channels, self.weight = channels, nn.Parameter(torch.ones(1))

    def encode(self, x): return nn.functional.avg_pool2d(x, 8)[:, [0, 1, 2, 0][:self.channels]] * self.weight
    def decode(self, z): return nn.functional.interpolate(z[:, :3], scale_factor=8)


def test_adopts_another_autoencoder():
    "Anything with the four; it stays as it is; other channels are refused in one sentence"
    model = made().adopt(Shrunk(4))
    assert not model.autoencoder.weight.requires_grad and not model.train().autoencoder.training
    assert model.eval().predict(torch.zeros(1, 2, 3, 32, 32), 1).shape == (1, 1, 3, 32, 32)
    fewer = replace(TINY.latents, widths=(8, 8), depths=(0, 0), decoder_widths=(8, 8), decoder_depths=(0, 0))
    for other in (Shrunk(3), vqgan.VQGAN(replace(TINY.latents, latent=8)), vqgan.VQGAN(fewer)):
        with pytest.raises(ValueError, match='autoencoder has'): made().adopt(other)


def test_takes_over_how_an_autoencoder_is_built(tmp_path):
    "More codes, another width: the config follows, and a saved network comes back as it was"
    coder = vqgan.VQGAN(replace(TINY.latents, codes=40, decoder_widths=(8, 8, 16))).eval()
    model = RIVER(TINY, coder).eval()
    assert dict(model.config.ae)['codes'] == 40 and len(model.autoencoder.codebook.codes) == 40
    again = RIVER(model.config).load_inference(model.inference_state()).eval()
    frames = torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (again.predict(frames, 1) - model.predict(frames, 1)).abs().max() < 1e-4
    torch.testing.assert_close(model.autoencoder.reconstruct(frames[0]), coder.reconstruct(frames[0]))


@pytest.mark.parametrize('window', (1, 2, 4))
def test_window_bounds_training_and_rollouts(window):
    "Contexts lie in the window before the reference, all of it is used, and a rollout keeps to it by default"
    config = replace(TINY, window=window, plan=0.)
    batch = dict(frames=torch.zeros(256, 8, 3, 32, 32, dtype=torch.uint8), seed=torch.arange(256),
                 aspect=torch.ones(256))
    offset = Views(config)(batch)['offset']
    assert (offset[:, 0] == -1).all() and -1 - window in offset[:, 1]
    assert set(offset[:, 1].tolist()) <= set(range(-1 - window, 0))
    model = RIVER(config).eval()
    for context, far in ((None, window), (3, 3)):
        roll, seen = Rollout(model, torch.zeros(64, 7, *config.shape), 1, seed=0, steps=6, context=context), set()
        for _ in range(6):
            seen |= set(roll.draw_conditions()[1][:, 1].tolist())
            roll.calls += 1
        assert seen == set(range(-1 - far, -1))
    with pytest.raises(ValueError, match='window'): replace(TINY, window=-1)
