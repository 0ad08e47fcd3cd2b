"""The drawn world against its own promises: one seed, one video; a truth that the pixels agree with."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from ssl_workbench import world
from ssl_workbench.core import fold_in
from ssl_workbench.world import chains, dynamics, figures, layers, render, textures
from ssl_workbench.world.captions import write_caption

CPU = torch.device('cpu')

every_kind = pytest.mark.parametrize('kind', world.kinds)
every_level = pytest.mark.parametrize('level', range(len(world.LEVELS)))


def same(a, b):
    "Equal to the last byte, NaN included"
    data = lambda x: x.contiguous().view(torch.uint8)
    return a.dtype == b.dtype and a.shape == b.shape and data(a).equal(data(b))


def each(batch, i, like):
    "Video i of a batch as a sample"
    numbers = {k: int(batch[k][i]) for k in ('label', 'action')}
    return {k: v[i] for k, v in batch.items()} | numbers | dict(aspect=like['aspect'])


def equal(a, b):
    "Two samples, whatever the number of absent objects at the end of their boxes"
    n = min(a['boxes'].shape[1], b['boxes'].shape[1])
    boxes = all(s['boxes'][:, n:].isnan().all() for s in (a, b)) and same(a['boxes'][:, :n], b['boxes'][:, :n])
    return boxes and a.keys() == b.keys() and all(
        same(v, b[k]) if torch.is_tensor(v) else v == b[k] for k, v in a.items() if k != 'boxes')


# ---- the contract

SHAPES = dict(frames='T3HW', flow='S2HW', flow_back='S2HW', visible='S1HW', instances='THW', classes='THW', depth='THW',
              boxes='TN4')
TYPES = dict(frames=torch.uint8, flow=torch.float32, flow_back=torch.float32, visible=torch.bool, instances=torch.int64,
             classes=torch.int64, depth=torch.float32, boxes=torch.float32)


@every_kind
@pytest.mark.parametrize('size, frames', [((64, 64), 8), ((48, 80), 3), ((80, 48), 1)])
def test_names_types_shapes(kind, size, frames):
    "What a sample holds; N counts the objects of the video"
    s = world.sample(3, kind=kind, size=size, frames=frames)
    long = dict(zip('THW', (frames, *size))) | dict(S=frames - 1, N=s['boxes'].shape[1])
    for name, letters in SHAPES.items():
        shape = tuple(long.get(c) or (0 if c == 'S' else int(c)) for c in letters)
        assert s[name].dtype == TYPES[name] and s[name].shape == shape, name
    assert type(s['action']) is int and list(s['caption']) == ['en', 'es', 'fr', 'de']
    assert all(s[k].isfinite().all() for k in ('flow', 'flow_back', 'depth')) and s['depth'].min() > 0
    assert s['aspect'] == pytest.approx(size[1] / size[0]) and s['boxes'].shape[1] >= s['instances'].max()


@every_level
def test_mixed_draws_shape_texture_and_colour_independently(level):
    "Every shape has every texture about as often; plain classes sit out; only iconic pictures are mixed"
    out = world.batch(range(2000), kind='iconic', level=level, size=(16, 16), frames=1, truth=False, mixed=True)
    own = [i for i, name in enumerate(world.classes('iconic', level)) if name not in ('background', 'ring', 'heart')]
    assert out['label'].unique().tolist() == out['texture'].unique().tolist() == own and 'instances' not in out
    table = torch.stack([torch.bincount(out['texture'][out['label'] == s], minlength=13)[own] for s in own]) / 2000
    assert (table - 1 / len(own)**2).abs().max() < .02
    assert 'texture' not in world.batch([0], kind='iconic', frames=1, truth=False)
    one = world.World('iconic', level=level, frames=1, mixed=True, length=3)[2]
    assert type(one['texture']) is int and one['classes'].unique().tolist()[-1] == one['label']
    with pytest.raises(ValueError, match='iconic'): world.World('scene', mixed=True)


def test_mixed_shows_the_texture_it_names():
    "Two pictures of one plan that differ in texture alone differ inside the object and nowhere else"
    plan = world._plan_videos(torch.arange(40), 'iconic', 1, np.arange(1), (64, 64), True)
    before = render.paint_videos(plan, (64, 64), CPU, True)[0]
    truth = render.ground_truth(plan, (64, 64), CPU)['instances']
    kinds = plan.texture[:, 0] // world.VARIANTS
    assert (layers.texture_class(plan.texture) == kinds).all()     # dots on disc, rays on star, checks on square, …
    plan.texture = (plan.texture + world.VARIANTS) % (5 * world.VARIANTS)
    moved = (render.paint_videos(plan, (64, 64), CPU, True)[0] - before).abs().amax(1) > .05
    near = F.max_pool2d((truth > 0).float(), 5, 1, 2) > 0
    assert (moved & (truth > 0)).flatten(1).any(1).float().mean() > .95 and not (moved & ~near).any()


def test_defaults():
    "A scene of level 1, 64 by 64, eight frames"
    assert equal(world.sample(7), world.sample(7, kind='scene', level=1, size=(64, 64), frames=8, plain=False))


@pytest.mark.parametrize('wrong', [
    dict(kind='opera'), dict(kind=None), dict(level=4), dict(level=-1), dict(level='1'), dict(level=1.5),
    dict(level=None), dict(frames=0), dict(frames=2.5), dict(frames='8'), dict(size=64), dict(size=(64,)),
    dict(size=(8, 64)), dict(size=(64.5, 64)), dict(size=('a', 'b')), dict(size=None), dict(size=(1, 2, 3)),
    dict(stochastic=True), dict(future=1), dict(future=-1), dict(branch=0), dict(task='order')], ids=str)
def test_what_cannot_be_rendered(wrong):
    "One sentence that names the argument, from a sample, a batch and a dataset"
    for make in (lambda: world.sample(0, **wrong), lambda: world.batch([0], **wrong), lambda: world.World(**wrong)):
        with pytest.raises(ValueError, match=next(iter(wrong))) as error: make()
        assert '\n' not in str(error.value)


# ---- one seed, one video

@every_kind
def test_batch_and_place_change_nothing(kind):
    "Alone, or anywhere in a batch of any size: the same bytes, truth included"
    seeds = [11, 5, 9, 2, 5, 70]
    for plain in (False, True):
        whole = world.batch(seeds, kind=kind, level=2, size=(32, 48), frames=3, plain=plain)
        for i, seed in enumerate(seeds):
            alone = world.sample(seed, kind, 2, (32, 48), 3, plain)
            assert equal(alone, each(whole, i, alone))
    a, b = (whole['frames'][i] for i in (0, 1))
    assert not torch.equal(a, b) and torch.equal(whole['frames'][1], whole['frames'][4])


# ---- stochastic worlds

predicted = pytest.mark.parametrize('kind', world.PREDICTION_KINDS)


@predicted
def test_randomness_is_the_seeds(kind):
    "A stochastic video too: the same bytes alone, in a batch, in any future, and as the start of a longer one"
    for future in (0, 3):
        options = dict(kind=kind, level=2, size=(32, 48), stochastic=True, future=future)
        whole = world.batch([11, 5, 9], frames=5, **options)
        for i, seed in enumerate((11, 5, 9)):
            alone = world.sample(seed, frames=5, **options)
            assert equal(alone, each(whole, i, alone))
        assert torch.equal(whole['frames'], world.batch([11, 5, 9], frames=9, **options)['frames'][:, :5])
    ds = world.World(kind, 1, (32, 32), 4, length=3, stochastic=True, future=2)
    drawn = world.batch(fold_in([1], 'world.item.0'), kind=kind, size=(32, 32), frames=4, stochastic=True, future=2)
    assert torch.equal(ds[1]['frames'], drawn['frames'][0])


@predicted
@pytest.mark.parametrize('branch, stride', [(1, 1), (2, 1), (4, 1), (3, 2)])
def test_futures_share_their_past(kind, branch, stride):
    "The first `branch` frames are the same in every future, later ones mostly differ; future 0 has no branch"
    options = dict(kind=kind, size=(32, 32), frames=14, stride=stride, truth=False, stochastic=True)
    videos = [world.batch(range(12), future=k, branch=branch, **options)['frames'] for k in range(3)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert torch.equal(videos[a][:, :branch], videos[b][:, :branch])
        assert (videos[a][:, branch:] != videos[b][:, branch:]).flatten(1).any(1).float().mean() > .6
    assert torch.equal(videos[0], world.batch(range(12), branch=7, **options)['frames'])
    certain = world.batch(range(12), **options | dict(stochastic=False))['frames']
    assert torch.equal(certain[:, 0], videos[0][:, 0]) and not torch.equal(certain, videos[0])


# ---- what moves in the worlds for prediction

def test_balls_keep_their_energy_and_their_momentum():
    "Eight balls thrown at the middle of a box; with walls or kicks the energy alone is kept"
    u = torch.rand(20, 8, 4, generator=torch.Generator().manual_seed(0)).double().numpy()
    at, r = .7 * np.exp(2j * np.pi * np.arange(8) / 8)[None] + 0 * u[..., 0], .1 + .1 * u[..., 1]
    v = -.1 * (.5 + u[..., 2]) * at * np.exp(.4j * (u[..., 3] - .5))
    moment, energy = (lambda v: (r**2 * v).sum(1)), (lambda v: (r**2 * np.abs(v)**2).sum(1))
    first, last = (lambda path: path[..., 1] - path[..., 0]), (lambda path: path[..., -1] - path[..., -2])
    path = world.bounce_trajectories(at, v, r, 60, (99, 99))
    assert (np.abs(first(path) - v) < 1e-9).all() and (np.abs(last(path) - v).max(1) > .02).all()
    assert np.allclose(moment(last(path)), moment(v)) and np.allclose(energy(last(path)), energy(v))
    path = world.bounce_trajectories(at, v, r, 120, (1.2, 1.2))    # now with walls
    late = last(path)
    calm = np.abs(late - (path[..., -2] - path[..., -3])).max(1) < 1e-9           # nothing met in the last two frames
    assert calm.sum() > 2 and np.allclose(energy(late)[calm], energy(v)[calm])
    assert not np.allclose(moment(late), moment(v), atol=1e-4)
    draws = np.stack([0 * u[:, :8, :1], u[:, :8, 1:2]], -1)                       # kicked in every frame
    steps = np.diff(world.bounce_trajectories(at[:, :1], v[:, :1], r[:, :1], 9, (99, 99), draws=draws))[:, 0]
    assert np.allclose(np.abs(steps), np.abs(v[:, :1])) and (np.abs(np.diff(steps)) > 1e-6).all()


def test_balls_are_flat_and_of_different_colours():
    "Exactly the ball's colour inside, the ground's outside; no two balls alike; balls touch when they meet"
    b = world.batch(range(40), kind='bounce', level=2, size=(64, 64), frames=2)
    colours = torch.tensor(list(world.COLOURS.values())[:-1]).mul(255).add(.5).byte()
    grounds = torch.tensor(world.GROUNDS).float().mul(255).add(.5).byte()
    for x, ids, classes in zip(b['frames'][:, 0], b['instances'][:, 0], b['classes'][:, 0]):
        deep = inner(inner(ids[None]).long() * (ids[None] + 1))[0] & inner(ids[None])[0]
        for k in ids.unique():
            seen = x[:, (ids == k) & deep].unique(dim=1)
            own = grounds if k == 0 else colours[classes[ids == k][:1] - 1]
            if seen.shape[1]: assert seen.shape[1] == 1 and (seen[:, 0] == own).all(1).any()
        assert len({int(classes[ids == k][0]) for k in ids.unique() if k}) == (ids.unique() > 0).sum()
    plan = dynamics.bounce_plan(torch.arange(200), world.LEVELS[2], np.arange(30), (1, 1))
    z, r, present = plan.tau[:, 1:], world.DISC * np.abs(plan.alpha[:, 1:, :1]), plan.label > 0
    both = present[:, :, None] & present[:, None] & ~np.eye(present.shape[1], dtype=bool)
    gaps = np.abs(z[:, :, None] - z[:, None]) - r[:, :, None] - r[:, None]
    assert -.03 < gaps[both].min() < .005


def test_bones_hang_together():
    "Each bone keeps its length and starts where the one before it ends; heads stay in the frame; every action is drawn"
    plan = figures.walker_plan(torch.arange(80), world.LEVELS[1], np.arange(30), (1, 1))
    assert set(plan.action.tolist()) == set(range(len(world.WALKER_ACTIONS)))
    assert np.ptp(np.abs(plan.alpha), axis=-1).max() < 1e-9
    head = plan.tau[:, 1:][plan.label == 1]
    assert np.abs(head.real).max() < 1 and head.imag.min() > -1
    width = {3: world.LIMB, 4: world.LIMB, 5: world.LEG, 6: world.LEG}
    def joint(label, end):
        "Where the bones of a class end (1) or start (-1), both sides in order"
        z = (plan.tau[:, 1:] + end * 1j * plan.alpha[:, 1:] * (1 - width[label]))[plan.label == label]
        return np.sort_complex(z.reshape(80, 2, -1).transpose(0, 2, 1))
    for upper, lower in ((3, 4), (5, 6)): assert np.abs(joint(upper, 1) - joint(lower, -1)).max() < 1e-9


def test_walkers_are_certain_and_their_feet_hold():
    "In a deterministic world steps repeat with one period; a foot on the floor slides less than the body moves"
    plan = figures.walker_plan(torch.arange(200), world.LEVELS[0], np.arange(12), (1, 1))
    walks = plan.action == 0
    feet, body = plan.tau[:, 1:][plan.label == 7].reshape(200, 2, 12)[walks], plan.tau[:, 1:][plan.label == 2][walks]
    steps, on = np.abs(np.diff(feet.real)), np.diff(feet.imag)
    low = feet.imag[..., :-1] >= feet.imag[..., :-1].max(1, keepdims=True) - 1e-12
    assert np.median(steps[low]) < .5 * np.median(np.abs(np.diff(body.real))) and np.abs(on).max() < .2


def test_toys_move_only_when_pushed():
    "What nothing reaches stays to the last digit; nothing overlaps; toys are pushed in most videos"
    _, toys = figures.tabletop(torch.arange(60), world.LEVELS[3], (1.5, 1), 6)
    r, present = toys['r'], toys['present']
    room = np.where(present, 1.5 - r, 1e3) + 1j * np.where(present, 1 - r, 1e3)
    for draws in (None, dynamics.branching_uniform(torch.arange(60), 'test', 29, 3, 0, 1)):
        hand, z, _ = figures.simulate_pushes(toys['p'], toys['v'], toys['z'], r, room, 30, (1.5, 1), draws)
        still = np.abs(np.diff(z)) == 0
        near = np.abs(z - hand[:, None]) - r[..., None] - world.GRIPPER_RADIUS
        touched = (near < .12).any(1)
        assert still[:, :, :][~(touched[:, None, :-1] | touched[:, None, 1:]).repeat(6, 1)].all()
        assert max(figures.max_penetration(hand[:, t], z[..., t], r).max() for t in range(30)) < .02
        assert (~still).any((1, 2)).mean() > .6
        assert (np.abs(np.where(present[..., None], z.real, 0)) + r[..., None] < 1.5 + 1e-9).all()


@every_kind
def test_threads_change_nothing(kind):
    "One thread or two"
    before, made = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            made.append(world.sample(4, kind, 3, (64, 64), 4))
    finally: torch.set_num_threads(before)
    assert equal(*made)


def test_workers_change_nothing():
    "Rendered here, or by one or two worker processes, in batches of any size"
    ds = lambda: world.World('scene', 2, (32, 32), 2, length=9, seed=5)
    here = [s for i in range(9) for s in [ds()[i]]]
    for workers, size in ((1, 1), (2, 4)):
        loaded = [s for batch in DataLoader(ds(), batch_size=size, num_workers=workers, collate_fn=list) for s in batch]
        assert len(loaded) == 9 and all(equal(a, b) for a, b in zip(here, loaded))
    unpooled = world.World('scene', 2, (32, 32), 2, length=9, seed=5, pool=False).samples(range(9))
    assert all(equal(a, b) for a, b in zip(here, unpooled))
    assert not torch.equal(here[0]['frames'], world.World('scene', 2, (32, 32), 2, length=9, seed=6)[0]['frames'])


def test_truth_can_be_left_out():
    "The same frames, label and aspect without the truth, and nothing else"
    full, bare = (world.sample(8, 'scene', 1, (32, 32), 3, truth=t) for t in (True, False))
    assert bare.keys() == {'frames', 'aspect', 'label'} and torch.equal(bare['frames'], full['frames'])
    assert all(bare[k] == full[k] for k in ('aspect', 'label'))


# ---- flow

def warp(x, flow):
    "x (M,C,H,W) sampled at p + flow(p), and where that is inside"
    h, w = x.shape[-2:]
    px, py = torch.arange(w) + flow[:, 0], torch.arange(h)[:, None] + flow[:, 1]
    grid = torch.stack([2 * px / (w - 1) - 1, 2 * py / (h - 1) - 1], -1)
    return F.grid_sample(x.float(), grid, align_corners=True), (px >= 0) & (px <= w - 1) & (py >= 0) & (py <= h - 1)


def one_hot(ids, n): return F.one_hot(ids, n).movedim(-1, 1)


def pairs(kind, level, n=4):
    "Pairs of neighbouring frames of some videos drawn plainly, with their truth"
    b = world.batch(range(20, 20 + n), kind=kind, level=level, size=(64, 64), frames=5, plain=True)
    every, now, later = (lambda k, s=s: b[k][:, s].flatten(0, 1) for s in (slice(None), slice(-1), slice(1, None)))
    return dict(now=now('frames').float(), next=later('frames').float(), flow=every('flow'), back=every('flow_back'),
                visible=every('visible')[:, 0], ids=now('instances'), ids_next=later('instances'),
                depth=now('depth'), depth_next=later('depth'), n=int(b['instances'].max()) + 1)


def seen_back(p):
    "Pixels of the next frame whose four neighbours in this one are of the same object and visible"
    came, inside = warp(one_hot(p['ids'], p['n']) * p['visible'][:, None], p['back'])
    return inside & (came.gather(1, p['ids_next'][:, None])[:, 0] > .999)


def inner(ids):
    "Pixels whose eight neighbours are of the same object"
    around = F.pad(ids[:, None].float(), (1, 1, 1, 1), mode='replicate')
    return (F.max_pool2d(around, 3, 1) == -F.max_pool2d(-around, 3, 1))[:, 0]


def far(error, keep):
    "Median and 95th percentile of the largest channel's difference over the pixels kept"
    e = error.abs().amax(1)[keep]
    return e.median().item(), e.quantile(.95).item()


@every_kind
@every_level
def test_flow_is_what_happens(kind, level):
    "The next frame warped by the flow is this frame where visible, moving pixels off edges too; likewise backwards"
    p = pairs(kind, level)
    ahead, inside = warp(p['next'], p['flow'])
    assert not (p['visible'] & ~inside).any() and p['visible'].float().mean() > .6
    behind, back = warp(p['now'], p['back'])[0], seen_back(p)
    assert back.float().mean() > .5
    for error, keep, flow, ids in ((ahead - p['now'], p['visible'], p['flow'], p['ids']),
                                   (behind - p['next'], back, p['back'], p['ids_next'])):
        moving = keep & (flow.norm(dim=1) > .3) & inner(ids)
        assert moving.sum() > (200 if kind == 'walker' else 500)      # limbs are thin, and some people stand
        for pixels, limit in ((keep, 10), (moving, 15)):      # the white lines of a road are thin: 12 there
            middle, most = far(error, pixels)
            assert middle <= 2 and most <= limit, (middle, most)


@pytest.mark.parametrize('kind', ['scene', 'iconic', 'drive'])
def test_a_wrong_flow_is_seen(kind):
    "No flow, the flow turned round, and occluded pixels all fail the comparison above: it can fail"
    p = pairs(kind, 3)
    moving = p['visible'] & (p['flow'].norm(dim=1) > 1)
    for flow in (0 * p['flow'], -p['flow']): assert far(warp(p['next'], flow)[0] - p['now'], moving)[1] > 20
    ahead, inside = warp(p['next'], p['flow'])
    assert far(ahead - p['now'], inside & ~p['visible'])[1] > 20


@every_kind
@every_level
def test_there_and_back(kind, level):
    "Forward flow where backward flow leads, plus backward flow, is nothing: to a hundredth of a pixel"
    p = pairs(kind, level)
    back = seen_back(p)
    assert (warp(p['flow'], p['back'])[0] + p['back']).norm(dim=1)[back].max() < .01


# ---- objects

@every_kind
@every_level
def test_occluded_means_something_nearer(kind, level):
    "A pixel that lands well inside another object is not visible; that object is nearer in depth"
    p = pairs(kind, level, 8)
    lands, inside = warp(one_hot(p['ids_next'], p['n']), p['flow'])
    there = lands.argmax(1)
    over = (there > p['ids']) | ((there > 0) & (there != p['ids']) & inner(p['ids']))     # an overtaken pole is thin
    covered = inside & (lands.amax(1) > .999) & over
    assert covered.sum() > 50 and not (covered & p['visible']).any()
    drives_off = .03 if kind == 'drive' else 1e-4             # what is overtaken may itself move away, a little a frame
    assert (warp(p['depth_next'][:, None], p['flow'])[0][:, 0] < p['depth'] + drives_off)[covered].all()


def shared_box(a, b, size):
    "(H,W) bool: the part of the frame in both boxes"
    x1, y1, x2, y2 = [int(v) for v in (*torch.maximum(a[:2], b[:2]), *torch.minimum(a[2:], b[2:]))]
    mask = torch.zeros(size, dtype=torch.bool)
    mask[y1:max(y1, y2), x1:max(x1, x2)] = True
    return mask


OVERTAKING = [7, 16, 21, 22, 26, 37, 50, 70, 100, 109]        # drives in which one thing passes another


@every_kind
@every_level
def test_the_nearest_is_in_front(kind, level):
    "Of all objects whose shape covers a pixel the nearest is seen, worked out from the plan without any z-order"
    size, seeds = (64, 64), torch.tensor(OVERTAKING)
    plan = world._plan_videos(seeds, kind, level, np.arange(8), size)
    shapes = textures.shape_maps(CPU)[torch.as_tensor(plan.shape).flatten()]
    covers = render.warp_objects(shapes, plan, *render.pixel_axes(size, CPU))[:, :, 0] < 0
    depth = torch.as_tensor(plan.depth[:, 1:, :, None, None]).float()
    nearest = torch.where(covers, depth, torch.inf).amin(1)
    b = world.batch(seeds, kind=kind, level=level, size=size, frames=8)
    seen = b['instances'] > 0
    assert torch.equal(seen, covers.any(1)) and torch.equal(b['depth'][seen], nearest[seen])


@pytest.mark.parametrize('level', [1, 2, 3])
def test_overtaken_traffic_is_drawn_behind(level):
    "Where an object has come nearer than one drawn after it at first, the pixels show what the truth says is in front"
    b = world.batch(OVERTAKING, kind='drive', level=level, plain=True)
    ahead, errors = [warp(f[1:], flow)[0] - f[:-1].float() for f, flow in zip(b['frames'], b['flow'])], []
    for i, (ids, depth, boxes) in enumerate(zip(b['instances'], b['depth'], b['boxes'])):
        for t in range(7):
            z = {int(k): depth[t][ids[t] == k][0].item() for k in ids[t].unique() if k}
            for m, n in [(m, n) for m in z for n in z if m < n and z[m] < z[n]]:
                both = shared_box(boxes[t, m - 1], boxes[t, n - 1], ids.shape[1:]) & ((ids[t] == m) | (ids[t] == n))
                errors.append(ahead[i][t].abs().amax(0)[both & b['visible'][i, t, 0] & inner(ids[t:t + 1])[0]])
    errors = torch.cat(errors)
    assert len(errors) > 40 and errors.quantile(.9) < 15, (len(errors), errors.quantile(.9))


@every_kind
@every_level
def test_depth_orders_the_objects(kind, level):
    "One depth an object and frame, nearer than the background; numbers rise from far to near as first drawn"
    b = world.batch(range(8), kind=kind, level=level, size=(48, 48), frames=4)
    for ids, depth in zip(b['instances'], b['depth']):
        for t in range(4):
            values = [depth[t][ids[t] == k] for k in ids[t].unique() if k]
            assert all(v.max() == v.min() < world.BACKGROUND_DEPTH for v in values)
            if t and kind == 'drive': continue                # traffic overtakes
            assert all(a[0] >= b[0] for a, b in zip(values, values[1:]))


def box_of(mask):
    "x1 y1 x2 y2 of a mask, edge to edge"
    y, x = mask.nonzero().unbind(1)
    return [x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1]


@every_kind
@every_level
def test_boxes_and_classes_belong_to_instances(kind, level):
    "Row k bounds what is seen of instance k + 1, NaN where nothing is; instances keep their class"
    names, seen, absent = world.classes(kind, level), 0, 0
    b = world.batch(range(6), kind=kind, level=level, size=(48, 64), frames=5)
    for i in range(6):
        s = {k: v[i] for k, v in b.items()}
        ids, classes = s['instances'], s['classes']
        assert torch.equal(ids == 0, classes == 0) and classes.max() < len(names)
        for k in range(s['boxes'].shape[1]):
            assert len(classes[ids == k + 1].unique()) <= 1
            for t in range(5):
                mask, box = ids[t] == k + 1, s['boxes'][t, k]
                if mask.any(): assert box.tolist() == box_of(mask); seen += 1
                else: assert box.isnan().all(); absent += 1
        assert 0 <= s['label'] < (world.LEVELS[level].actions if kind == 'motion' else len(names))
    assert seen > 20 and (absent > 0) == (kind not in ('iconic', 'motion', 'chain'))


@every_level
def test_the_motion_is_the_class(level):
    "Motions: the label is the action, every action occurs, and what is drawn differs within an action"
    b = world.batch(range(120), kind='motion', level=level, size=(16, 16), frames=2)
    assert torch.equal(b['label'], b['action']) and set(b['action'].tolist()) == set(range(world.LEVELS[level].actions))
    objects = {int(a): {int(c.max()) for c in b['classes'][b['action'] == a]} for a in b['action'].unique()}
    assert min(map(len, objects.values())) >= min(3, world.LEVELS[level].classes)


# ---- chains of actions

def chain_tables(n=60_000):
    "The sub-actions of n chains in their order, and the label of each task of classes"
    facts = chains.chain_truth(torch.arange(n), 96)
    labels = {k: torch.as_tensor(facts[k]) for k in ('order', 'count', 'first')}
    labels['count'] = labels['count'] - world.LEAST_COUNT     # not in place: the facts share its memory
    return torch.as_tensor(facts['segments'][..., 2]).long(), labels, facts


def test_a_single_clip_says_nothing_about_a_chain():
    "Given the sub-action of any one clip all labels stay as likely as before; order and count even given its place"
    actions, labels, _ = chain_tables()
    for task, label in labels.items():
        classes = world.CHAIN_TASKS[task]
        assert (torch.bincount(label) / len(label) - 1 / classes).abs().max() < .01 and label.max() == classes - 1
        for a in range(1, 9):
            seen = label[:, None].expand(-1, 8)[actions == a]
            assert (torch.bincount(seen, minlength=classes) / len(seen) - 1 / classes).abs().max() < .01
            for place in range(8) if task != 'first' else ():
                seen = label[actions[:, place] == a]
                assert (torch.bincount(seen, minlength=classes) / len(seen) - 1 / classes).abs().max() < .035


def test_all_clips_of_a_chain_say_everything():
    "Order, count and first computed again from the sub-actions in their order; without places the order is lost"
    actions, labels, facts = chain_tables(4000)
    for row, order, count, first in zip(actions.tolist(), *(facts[k] for k in ('order', 'count', 'first'))):
        travels = [a for a in row if a < 5]
        start = travels.index(1)
        assert [a - 1 for a in travels[start:] + travels[:start]] == list(chains.CIRCLES[order])
        assert sorted(travels) == [1, 2, 3, 4] and count == len(set(row)) and first == (row.index(1) > row.index(2))
        assert all((a < 5) != (b < 5) for a, b in zip(row, row[1:]))
    assert set(facts['count']) == {5, 6, 7, 8}
    assert .2 < facts['fraction'].min() < .35 < .5 < facts['fraction'].max() < .7


@pytest.mark.parametrize('frames, stride', [(96, 1), (48, 2), (24, 4), (128, 1)])
def test_segments_and_frames_of_chains_agree(frames, stride):
    "The action of a frame is that of the segment it lies in; the share of frames that travel is the fraction"
    b = world.batch(range(40), kind='chain', size=(16, 16), frames=frames, stride=stride, truth=False)
    assert b['actions'].shape == (40, frames) and b['segments'].shape == (40, 8, 3) and 'flow' not in b
    for actions, segments, fraction in zip(b['actions'], b['segments'], b['fraction']):
        expected = torch.zeros(frames, dtype=torch.int64)
        for start, end, action in segments.tolist():
            assert 0 <= start < end <= frames
            expected[math.ceil(start):math.ceil(end)] = int(action)
        assert torch.equal(actions, expected)
        assert abs(((actions > 0) & (actions < 5)).float().mean() - fraction) <= 4 / frames
    fine = world.batch(range(40), kind='chain', size=(16, 16), frames=(frames - 1) * stride + 1, truth=False)
    assert all(torch.equal(fine[k], b[k]) for k in ('order', 'count', 'first', 'fraction'))
    assert torch.equal(fine['frames'][:, ::stride], b['frames'])


@every_level
def test_what_a_chain_does_is_what_is_drawn(level):
    "The object rests where the truth says so, travels where it says so, and stays in the frame"
    plan = chains.chain_plan(torch.arange(60), world.LEVELS[level], np.arange(96))
    facts = chains.chain_truth(torch.arange(60), 96)
    actions = chains.frame_actions(facts['segments'], 96)
    own = (plan.tau[:, 1] - plan.tau[:, 0]) / plan.alpha[:, 0]                      # without the camera
    way, turn = np.abs(np.diff(own)), np.abs(np.diff(np.log(plan.alpha[:, 1] / plan.alpha[:, 0])))
    inside = actions[:, :-1] == actions[:, 1:]
    travel, spot, rest = [inside & (actions[:, 1:] >= a) & (actions[:, 1:] < b) for a, b in ((1, 5), (5, 9), (0, 1))]
    assert way[rest].max() < 1e-9 and turn[rest].max() < 1e-9 and turn[travel].max() < 1e-9 and way[spot].max() < 1e-9
    assert (way[travel] > .01).mean() > .9 and (turn[spot] > .01).mean() > .9 and rest.sum() > 60
    z = plan.tau[:, 1]
    assert np.maximum(np.abs(z.real), np.abs(z.imag)).max() < 1.2


def test_tasks_of_chains():
    "Each task is the label on request, by name too; only chains have tasks"
    for task, classes in world.CHAIN_TASKS.items():
        b = world.World('chain', 0, (16, 16), 48, length=30, truth=False, task=task).batch(range(30))
        assert torch.equal(b['label'], b[task] - (world.LEAST_COUNT if task == 'count' else 0))
        assert classes is None or 0 <= b['label'].min() and b['label'].max() < classes
    one = world.sample(3, 'chain', size=(16, 16), frames=4)
    assert type(one['order']) is int and type(one['fraction']) is float and one['segments'].shape == (8, 3)
    assert 1 <= one['action'] < len(world.CHAIN_ACTIONS) and one['caption']['en'].count(', then ') == 7
    with pytest.raises(ValueError, match='order, count, first, fraction'): world.World('chain', task='last')


# ---- captions

def test_captions_translate():
    "Over all kinds and levels: one sentence in each language, and the same sentence in one is the same in every other"
    to, texts = {}, set()
    for kind in world.kinds:
        for level in range(4):
            for c in world.batch(range(60), kind=kind, level=level, size=(16, 16), frames=3)['caption']:
                texts.add(c['en'])
                for text in c.values():
                    assert text[0].isupper() and text.endswith('.') and text == text.strip() and '  ' not in text
                for a in c:
                    for b in c: to.setdefault((a, b), {}).setdefault(c[a], set()).add(c[b])
    assert len(texts) > 500 and all(len(found) == 1 for table in to.values() for found in table.values())
    assert all(len(to['en', b]) == len(to[b, 'en']) for b in ('es', 'fr', 'de'))


def test_captions_say_what_is_there():
    "The noun of the largest object in every language, and the motion where the motion is the class"
    for seed in range(30):
        s = world.sample(seed, 'motion', 2, (32, 32), 8)
        noun = world.NOUNS[world.classes('motion', 2)[int(s['classes'].max())]]
        for i, text in enumerate(s['caption'].values()):
            assert noun[i].split()[0].lower() in text.lower() and world.ACTION_PHRASES[i][s['action']] in text, text


def test_every_style_states_the_same_facts():
    "One text, one set of facts, in each language and style; ``qaa`` shares no letter with the others"
    read, letters = {}, {}
    for kind in world.kinds:
        for level in range(4):
            for facts in world.batch(range(40), kind=kind, level=level, size=(16, 16), frames=3)['facts']:
                for lang, styles in world.STYLES.items():
                    for style in range(styles):
                        text = write_caption(facts, lang, style)
                        stated = write_caption(facts)          # what the plain caption does not say no style may say
                        assert read.setdefault(text, stated) == stated, text
                        letters.setdefault(lang == 'qaa', set()).update(text)
    assert letters[True] & letters[False] == {' '}
    with pytest.raises(ValueError, match="no language 'xx'"): write_caption(facts, 'xx')
    with pytest.raises(ValueError, match='style of es is 0 to 1, not 2'): write_caption(facts, 'es', 2)


@pytest.mark.parametrize('kind', world.NEGATIVES)
def test_a_hard_negative_is_another_caption(kind):
    "It differs in every style and language, and is drawn by its seed"
    found = 0
    for facts in world.batch(range(80), kind='scene', level=2, size=(16, 16), frames=3)['facts']:
        wrong = world.hard_negative(facts, kind, 7)
        if wrong is None: continue
        found += 1
        assert wrong == world.hard_negative(facts, kind, 7) != facts
        assert all(write_caption(facts, lang, s) != write_caption(wrong, lang, s)
                   for lang, styles in world.STYLES.items() for s in range(styles))
        if 'swap' in kind: assert sorted(write_caption(facts, 'qaa')) == sorted(write_caption(wrong, 'qaa'))
    assert found >= 10
    with pytest.raises(ValueError, match="no negative 'rename'"): world.hard_negative(facts, 'rename')


# ---- backgrounds

def groups(kind, level, near=30 / 255):
    "How many sorts of background, by the colours above and below, and how many pictures"
    b, found = world.batch(range(60), kind=kind, level=level, size=(32, 32), frames=1, plain=True), []
    for x, ids in zip(b['frames'][:, 0].float() / 255, b['instances'][:, 0]):
        parts = [x[:, rows][:, ids[rows] == 0] for rows in (slice(0, 10), slice(22, 32))]
        if all(p.shape[1] for p in parts): found.append(torch.cat([p.median(1)[0] for p in parts]))
    left, n = found, 0
    while left: left, n = [d for d in left if (d - left[0]).abs().max() >= near], n + 1
    return n, len(found)


@pytest.mark.parametrize('kind', ['scene', 'iconic'])
def test_backgrounds_recur_where_it_is_easy(kind):
    "Level 0: a handful of backgrounds, each many times; level 3: hardly two alike"
    easy, hard = groups(kind, 0), groups(kind, 3)
    assert easy[0] <= world.LEVELS[0].backgrounds and easy[1] > 40 and hard[0] > hard[1] / 2


def test_levels_get_harder():
    "More classes, more objects, smaller ones"
    for a, b in zip(world.LEVELS, world.LEVELS[1:]):
        assert a.classes < b.classes and a.objects[1] <= b.objects[1]
        assert a.radius[0] > b.radius[0] and a.contrast <= b.contrast
    def areas(level):
        "Sizes of all objects of thirty scenes, in parts of the frame"
        ids = world.batch(range(30), kind='scene', level=level, size=(48, 48), frames=1)['instances'][:, 0]
        return [(i == k).float().mean().item() for i in ids for k in i.unique() if k]
    easy, hard = areas(0), areas(3)
    assert min(hard) < min(easy) / 4 and math.fsum(easy) / len(easy) > math.fsum(hard) / len(hard)
