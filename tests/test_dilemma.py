"""DILEMMA: exact shares of misplaced patches, nothing leaks from dropped ones, ratios that a run keeps, packing."""
from dataclasses import replace

import pytest
import torch

from ssl_workbench import core, world
from ssl_workbench.learner import Learner, draw_seeds
from ssl_workbench.methods.dilemma import BASES, DILEMMA, Views, auroc, classic_module, config_on, misplaced
from ssl_workbench.methods.dilemma import cpu as CPU

TINY = replace(CPU, base='mocov3', given=dict(hidden=16, out_dim=8), size=32, canvas=32, dim=16, depth=2, heads=2,
               batch=4, steps=12)
SMALLER = dict(size=32, canvas=32, dim=16, depth=2, heads=2, batch=4, steps=12)
GIVEN = dict(mocov3=dict(hidden=16, out_dim=8), simclr=dict(hidden=16, out_dim=8),
             mae=dict(decoder_dim=16, decoder_depth=1, decoder_heads=2),
             dino=dict(hidden=16, out_dim=8, small_size=16, small=2, prototypes=6))


def batch(n=4, size=32):
    "Images as a learner hands them over"
    drawn = world.batch(torch.arange(n), device='cpu', kind='scene', level=0, size=(size, size), frames=1, truth=False)
    return dict(frames=drawn['frames'],
                aspect=torch.ones(n), seed=draw_seeds(0, range(n)))


def made(config):
    "A method whose weights are not fresh"
    core.seed_everything(0)
    method = DILEMMA(config)
    with torch.no_grad():
        for p in method.parameters(): p.add_(.05 * torch.randn_like(p))
    return method


@pytest.mark.parametrize('ratio', [.4, .55, .65])
@pytest.mark.parametrize('size, patch', [(64, 8), (224, 16)])
def test_exact_share_of_misplaced(ratio, size, patch):
    "Floor of theta |M| in every picture and both views, at distinct dropped cells; the others keep their own"
    c = replace(CPU, size=size, patch=patch)
    n = int(c.cells * (1 - ratio) + 1e-6)
    sizes = {(64, .4): 38, (64, .55): 28, (64, .65): 22, (196, .4): 117, (196, .55): 88, (196, .65): 68}
    assert n == sizes[c.cells, ratio]
    ratio_index = torch.full((5,), c.ratios.index(ratio))
    v = Views(c).tokens(draw_seeds(1, range(10)).view(5, 2), ratio_index, torch.zeros(5, 2, 3, size, size))
    assert v['keep'].shape == (5, 2, n) and v['queried'].all()
    assert (v['corrupted'].sum(-1) == int(.2 * n)).all() and torch.equal(v['position_ids'] != v['keep'], v['corrupted'])
    for keep, position_ids, corrupted in zip(*(v[k].flatten(0, 1) for k in ('keep', 'position_ids', 'corrupted'))):
        assert not set(position_ids[corrupted].tolist()) & set(keep.tolist()) and len(set(position_ids.tolist())) == n
        assert 0 <= position_ids.min() and position_ids.max() < c.cells


def test_misplaced_differ():
    "Views, pictures and seeds have their own; the same seed has the same"
    v = Views(TINY)(batch() | dict(ratio=.4))
    position_ids = v['position_ids'].flatten(0, 1)
    assert len({tuple(t.tolist()) for t in position_ids}) == len(position_ids)
    assert torch.equal(Views(TINY)(batch() | dict(ratio=.4))['position_ids'], v['position_ids'])


def test_every_cell_is_given():
    "Substitutes come evenly from the dropped cells, misplaced patches evenly from the kept"
    keep, dropped = torch.arange(10).expand(4000, -1), torch.arange(10, 16).expand(4000, -1)
    position_ids, corrupted = misplaced(keep, dropped, 2, torch.arange(4000))
    places = torch.bincount(position_ids[corrupted], minlength=16)[10:] / 4000
    assert (places - 2 / 6).abs().max() < .04 and (corrupted.float().mean(0) - .2).abs().max() < .03


def test_swap_where_nothing_is_dropped():
    "Exactly theta of them, each in the place of another, all cells still given once"
    v = Views(replace(TINY, dense_task=True))(batch())
    assert (v['corrupted'].sum(-1) == int(.2 * 16)).all()
    assert torch.equal(v['position_ids'] != v['keep'], v['corrupted'])
    assert (v['position_ids'].sort(-1).values == torch.arange(16)).all()


@pytest.mark.parametrize('mixed', [False, True])
@pytest.mark.parametrize('task', ['mismatch', 'flip'])
def test_dropped_pixels_do_not_matter(mixed, task):
    "Student tokens, logits and class token are the same to the last bit when what is dropped is painted over"
    c = replace(TINY, mixed=mixed, task=task)
    method, images = made(c).eval(), batch(8)
    v = Views(c)(images if mixed else images | dict(ratio=.55))
    assert not mixed or len((v['keep'] >= 0).sum(-1).unique()) > 1
    cells = torch.zeros(8, 2, 17).scatter(2, v['keep'] % 17, 1.)[..., :16].bool()
    seen = cells.view(8, 2, 1, 4, 4).repeat_interleave(8, 3).repeat_interleave(8, 4)
    noise = torch.rand(8, 2, 3, 32, 32)
    painted = v | {k: torch.where(seen, v[k], noise) for k in ('x', 'x_student') if k in v}
    assert not torch.equal(painted['x'], v['x'])
    a, b = method(v), method(painted)
    true = v['keep'] >= 0
    assert all(torch.equal(a[k][true], b[k][true]) for k in ('tokens', 'logits'))
    assert torch.equal(a['embedding'], b['embedding'])
    assert not torch.equal(a['key_1'], b['key_1']), 'the teacher sees everything'


def test_mismatch_sees_only_what_is_kept():
    "DILEMMA.mismatch with keep"
    method = made(TINY).eval()
    v = Views(TINY)(batch() | dict(ratio=.4))
    x, keep, position_ids = (v[k][:, 0] for k in ('x', 'keep', 'position_ids'))
    seen = torch.zeros(4, 16).scatter(1, keep, 1.).bool().view(4, 1, 4, 4)
    seen = seen.repeat_interleave(8, 2).repeat_interleave(8, 3)
    overpainted = torch.where(seen, x, .5)
    assert torch.equal(method.mismatch(x, position_ids, keep), method.mismatch(overpainted, position_ids, keep))


def test_a_wrong_position_is_seen():
    "The given position changes the prediction, and each patch's own is the default"
    method, x = made(TINY).eval(), torch.rand(3, 3, 32, 32)
    own = torch.arange(16).expand(3, -1)
    assert torch.allclose(method.mismatch(x, own), method.mismatch(x), atol=1e-6)
    assert (method.mismatch(x, own.roll(1, 1)) - method.mismatch(x)).abs().max() > 1e-4


def test_mismatch_does_not_depend_on_order():
    "Kept patches handed over in another order, with their positions: the same predictions in that order"
    method = made(TINY).eval()
    v = Views(TINY)(batch() | dict(ratio=.4))
    x, keep, position_ids = (v[k][:, 0] for k in ('x', 'keep', 'position_ids'))
    other = torch.randperm(keep.shape[1], generator=torch.Generator().manual_seed(0))
    reordered = method.mismatch(x, position_ids[:, other], keep[:, other])
    assert torch.allclose(reordered, method.mismatch(x, position_ids, keep)[:, other], atol=1e-5)


def test_dense_step_has_no_mismatch_loss():
    "At ratio 0 the term is 0 and gives no gradient; above it, it does"
    method = made(TINY)
    for ratio, there in ((0., False), (.4, True)):
        out = method(Views(TINY)(batch() | dict(ratio=ratio)))
        term = method.loss(out)['mismatch']
        grad, = torch.autograd.grad(term, method.head.weight)
        assert (term > 0) == there == bool(grad.abs().sum() > 0) == ('accuracy' in out)


def test_ratio_follows_from_the_size_of_the_batch():
    "1, 2, 3 or 4 times the base batch: 16, 9, 7, 5 of 16 patches"
    for growth, n in zip((1, 2, 3, 4), (16, 9, 7, 5)):
        assert Views(TINY)(batch(4 * growth))['keep'].shape == (4 * growth, 2, n)


def test_sizes_follow_run_seed_and_step():
    "The same with the same seed, others with another; 2.5 times the base in the mean, each ratio as often"
    def sizes(seed):
        core.seed_everything(seed)
        method = DILEMMA(TINY)
        return [method.batch_size(i) for i in range(2000)]
    first = sizes(0)
    assert first == sizes(0) and first != sizes(1)
    assert abs(sum(first) / 2000 / TINY.batch - 2.5) < .08
    assert all(abs(first.count(4 * g) / 2000 - .25) < .05 for g in (1, 2, 3, 4))


class Scenes:
    "A few pictures, made at once"
    def __init__(self): self.frames = batch(24)['frames']
    def __len__(self): return 24
    def batch(self, indices, device): return dict(frames=self.frames[list(indices)], aspect=torch.ones(len(indices)))


def test_exact_resume_across_a_change_of_ratio(tmp_path):
    "Stopped between steps of different ratios, continued by a method of another seed: the same run, bit for bit"
    def learner(out, seed=0):
        core.seed_everything(seed)
        return Learner(DILEMMA(TINY), Views(TINY), Scenes(), TINY.steps, lr=1e-2, batch=4, out=out, save_every=6,
                       device='cpu', progress=False)
    whole = learner(tmp_path/'whole')
    steps = list(whole.steps())
    sizes = [len(s.views['x']) for s in steps]
    assert len(set(sizes[:6])) > 1 and len(set(sizes[6:])) > 1, 'the ratio must change before and after the stop'
    for _ in learner(tmp_path/'part').steps(6): pass
    again = learner(tmp_path/'part', seed=5).load()
    rest = list(again.steps())
    assert [len(s.views['x']) for s in rest] == sizes[6:] and [s.terms for s in rest] == [s.terms for s in steps[6:]]
    assert all(torch.equal(v, again.method.state_dict()[k]) for k, v in whole.method.state_dict().items())


def test_mixed_batch_equals_pictures_alone():
    "Tokens, predictions and class token of each picture of a packed batch, run by itself"
    c = replace(TINY, mixed=True)
    method = made(c).eval()
    v = Views(c)(batch(12))
    x, keep, position_ids = (v[k][:, 0] for k in ('x', 'keep', 'position_ids'))
    counts = (keep >= 0).sum(1)
    assert len(counts.unique()) > 2
    together, cls = method.encoder(x, keep=keep, position_ids=position_ids)
    p = method.mismatch(x, position_ids, keep)
    for i, n in enumerate(counts.tolist()):
        one = x[i:i + 1], position_ids[i:i + 1, :n], keep[i:i + 1, :n]
        tokens, c0 = method.encoder(one[0], keep=one[2], position_ids=one[1])
        assert torch.allclose(tokens[0], together[i, :n], atol=1e-5) and torch.allclose(c0[0], cls[i], atol=1e-5)
        assert torch.allclose(method.mismatch(*one)[0], p[i, :n], atol=1e-5)


def test_mixed_ratios_are_as_frequent_as_pictures_get_them():
    "1, 2, 3, 4 tenths, from the samples' seeds; padding is not queried"
    c = replace(TINY, mixed=True)
    ratio_indices = Views(c).ratio_indices(dict(seed=draw_seeds(0, range(4000))))
    assert (torch.bincount(ratio_indices, minlength=4) / 4000 - torch.tensor([.1, .2, .3, .4])).abs().max() < .03
    v = Views(c)(batch(12))
    assert not v['queried'][v['keep'] < 0].any() and not v['corrupted'][v['keep'] < 0].any()
    assert DILEMMA(c).batch_size(3) == 10


@pytest.mark.parametrize('task', ['mismatch', 'position', 'jigsaw', 'flip', 'none'])
@pytest.mark.parametrize('base', list(BASES))
def test_every_base_with_every_task_trains_a_step(base, task):
    "Finite terms, the task's among them, and the encoder has moved"
    c = config_on(base, task=task, theta=.3, **SMALLER)
    c = replace(c, given=c.given | GIVEN[base], growth=c.growth[-1:], ratios=c.ratios[-1:])
    core.seed_everything(0)
    method = DILEMMA(c)
    before = [p.clone() for p in method.encoder.parameters()]
    learner = Learner(method, Views(c), Scenes(), 4, lr=1e-2, batch=c.batch, device='cpu', progress=False)
    terms = next(learner.steps(1)).terms
    assert all(torch.tensor(v).isfinite() for v in terms.values()) and (task == 'none' or terms[task] > 0)
    assert any(not torch.equal(a, b) for a, b in zip(before, method.encoder.parameters()))


@pytest.mark.parametrize('change, words', [
    (dict(base='byol'), 'byol'), (dict(task='jigsaws'), 'jigsaws'), (dict(policy='best'), 'best'),
    (dict(theta=1.), 'theta'), (dict(theta=.9), 'theta'),
    (dict(ratios=(0., 1., .5, .6)), 'ratios'), (dict(growth=(1, 2)), 'growth'), (dict(growth=(1, 1, 2, 3)), 'growth')])
def test_impossible_settings(change, words):
    "One sentence that names what is wrong"
    with pytest.raises(ValueError, match=words) as error: replace(CPU, **change)
    assert '\n' not in str(error.value)


def test_unknown_names():
    "A base that there is not; a ratio that the settings do not have; a task that was not trained"
    with pytest.raises(ValueError, match='byol'): classic_module('byol')
    with pytest.raises(ValueError, match='ratio'): Views(TINY)(batch() | dict(ratio=.5))
    with pytest.raises(ValueError, match='flip'): made(replace(TINY, task='flip')).mismatch(torch.rand(1, 3, 32, 32))


def test_importance_keeps_the_most_attended():
    "By the teacher's class token, view by view; patches are misplaced as ever"
    c = replace(TINY, policy='importance')
    method = made(c)
    v = Views(c)(batch() | dict(ratio=.55))
    out = method(v)
    for i in (0, 1):
        attended = method.base.teacher.encoder.attention(v['x'][:, i]).mean(1).flatten(1)
        assert torch.equal(out['place'][:, i], attended.topk(7, 1).indices.sort(1).values)
    assert (out['corrupted'].sum(-1) == 1).all()


def test_position_variant_detects_what_it_places_elsewhere():
    "One minus the probability of the given cell"
    method, x = made(replace(TINY, task='position')).eval(), torch.rand(2, 3, 32, 32)
    probability = method.head(method.encoder(x)[0]).softmax(-1)
    assert torch.allclose(method.mismatch(x), 1 - probability.diagonal(dim1=1, dim2=2), atol=1e-6)


def test_looking_survives_the_file():
    "inference_state brings encoder and head"
    method, x = made(TINY).eval(), torch.rand(2, 3, 32, 32)
    other = DILEMMA(TINY).eval().load_inference({k: v.half() for k, v in method.inference_state().items()})
    assert torch.allclose(other.mismatch(x), method.mismatch(x), atol=5e-3)


def test_auroc():
    "Against counting pairs, with ties; needs both kinds"
    draw = torch.Generator().manual_seed(0)
    scores, truth = torch.randint(0, 6, (4, 30), generator=draw).float(), torch.rand(4, 30, generator=draw) < .3
    a, b = scores[truth][:, None], scores[~truth][None]
    assert auroc(scores, truth) == pytest.approx(float(((a > b).double() + (a == b).double() / 2).mean()), abs=1e-12)
    with pytest.raises(ValueError, match='AUROC'): auroc(scores, truth & ~truth)
