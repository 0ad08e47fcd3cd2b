"""The drawn world against its own promises: one seed, one video; a truth that the pixels agree with."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from ssl_workbench import world

every_kind = pytest.mark.parametrize('kind', world.kinds)
every_level = pytest.mark.parametrize('level', range(len(world.LEVELS)))


def same(a, b):
    "Equal to the last byte, NaN included"
    return a.dtype == b.dtype and a.shape == b.shape and a.contiguous().view(torch.uint8).equal(b.contiguous().view(torch.uint8))


def equal(a, b):
    "Two samples, whatever the number of absent objects at the end of their boxes"
    n = min(a['boxes'].shape[1], b['boxes'].shape[1])
    rest = [s['boxes'][:, n:] for s in (a, b)]
    return a.keys() == b.keys() and all(r.isnan().all() for r in rest) and same(a['boxes'][:, :n], b['boxes'][:, :n]) and all(
        same(v, b[k]) if torch.is_tensor(v) else v == b[k] for k, v in a.items() if k != 'boxes')


# ---- the contract

SHAPES = dict(frames='T3HW', flow='S2HW', flow_back='S2HW', visible='S1HW', instances='THW', classes='THW', depth='THW', boxes='TN4')
TYPES = dict(frames=torch.uint8, flow=torch.float32, flow_back=torch.float32, visible=torch.bool, instances=torch.int64,
             classes=torch.int64, depth=torch.float32, boxes=torch.float32)


@every_kind
@pytest.mark.parametrize('size, frames', [((64, 64), 8), ((48, 80), 3), ((80, 48), 1)])
def test_names_types_shapes(kind, size, frames):
    "What a sample holds; N counts the objects of the video"
    s = world.sample(3, kind=kind, size=size, frames=frames)
    long = dict(zip('THW', (frames, *size))) | dict(S=frames - 1, N=s['boxes'].shape[1])
    for name, letters in SHAPES.items():
        assert s[name].dtype == TYPES[name] and s[name].shape == tuple(long.get(c) or (0 if c == 'S' else int(c)) for c in letters), name
    assert type(s['action']) is int and list(s['caption']) == ['en', 'es', 'fr', 'de']
    assert all(s[k].isfinite().all() for k in ('flow', 'flow_back', 'depth')) and s['depth'].min() > 0
    assert s['aspect'] == pytest.approx(size[1] / size[0]) and s['boxes'].shape[1] >= s['instances'].max()


@every_level
def test_mixed_draws_shape_texture_and_colour_apart(level):
    "Every shape wears every texture about as often; the classes that are plain sit out; only iconic pictures are mixed"
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
    import numpy as np
    plan = world._plan(torch.arange(40), 'iconic', 1, np.arange(1), (64, 64), True)
    before = world._paint(plan, (64, 64), torch.device('cpu'), True)[0]
    truth = world._truth(plan, (64, 64), torch.device('cpu'))['instances']
    assert (world._texture(plan.skin) == plan.skin[:, 0] // world.VARIANTS).all()     # disc dots, star rays, square checks, triangle stripes
    plan.skin = (plan.skin + world.VARIANTS) % (5 * world.VARIANTS)
    moved = (world._paint(plan, (64, 64), torch.device('cpu'), True)[0] - before).abs().amax(1) > .05
    near = F.max_pool2d((truth > 0).float(), 5, 1, 2) > 0
    assert (moved & (truth > 0)).flatten(1).any(1).float().mean() > .95 and not (moved & ~near).any()


def test_defaults():
    "A scene of level 1, 64 by 64, eight frames"
    assert equal(world.sample(7), world.sample(7, kind='scene', level=1, size=(64, 64), frames=8, plain=False))


@pytest.mark.parametrize('wrong', [
    dict(kind='opera'), dict(kind=None), dict(level=4), dict(level=-1), dict(level='1'), dict(level=1.5), dict(level=None), dict(frames=0),
    dict(frames=2.5), dict(frames='8'), dict(size=64), dict(size=(64,)), dict(size=(8, 64)), dict(size=(64.5, 64)), dict(size=('a', 'b')),
    dict(size=None), dict(size=(1, 2, 3))], ids=str)
def test_what_cannot_be_rendered(wrong):
    "One sentence that names the argument, from a sample, a batch and a dataset"
    for make in (lambda: world.sample(0, **wrong), lambda: world.batch([0], **wrong), lambda: world.World(**wrong)):
        with pytest.raises(ValueError, match=next(iter(wrong))) as said: make()
        assert '\n' not in str(said.value)


# ---- one seed, one video

@every_kind
def test_batch_and_place_change_nothing(kind):
    "Alone, or anywhere in a batch of any size: the same bytes, truth included"
    seeds = [11, 5, 9, 2, 5, 70]
    for plain in (False, True):
        whole = world.batch(seeds, kind=kind, level=2, size=(32, 48), frames=3, plain=plain)
        for i, seed in enumerate(seeds):
            alone = world.sample(seed, kind, 2, (32, 48), 3, plain)
            assert equal(alone, {k: v[i] for k, v in whole.items()} | dict(aspect=alone['aspect'], label=int(whole['label'][i]), action=int(whole['action'][i])))
    a, b = (whole['frames'][i] for i in (0, 1))
    assert not torch.equal(a, b) and torch.equal(whole['frames'][1], whole['frames'][4])


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
    assert all(equal(a, b) for a, b in zip(here, world.World('scene', 2, (32, 32), 2, length=9, seed=5, pool=False).samples(range(9))))
    assert not torch.equal(here[0]['frames'], world.World('scene', 2, (32, 32), 2, length=9, seed=6)[0]['frames'])


def test_truth_can_be_left_out():
    "The same frames, label and aspect without the truth, and nothing else"
    full, bare = (world.sample(8, 'scene', 1, (32, 32), 3, truth=t) for t in (True, False))
    assert bare.keys() == {'frames', 'aspect', 'label'} and all(torch.equal(v, full[k]) if k == 'frames' else v == full[k] for k, v in bare.items())


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
    at = lambda k, s: b[k][:, s].flatten(0, 1)
    return dict(now=at('frames', slice(-1)).float(), next=at('frames', slice(1, None)).float(), flow=at('flow', slice(None)), back=at('flow_back', slice(None)),
                visible=at('visible', slice(None))[:, 0], ids=at('instances', slice(-1)), ids_next=at('instances', slice(1, None)),
                depth=at('depth', slice(-1)), depth_next=at('depth', slice(1, None)), n=int(b['instances'].max()) + 1)


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
    "The next frame pulled back by the flow is this frame, on visible pixels: all, and those that move and are no edge; likewise backwards"
    p = pairs(kind, level)
    ahead, inside = warp(p['next'], p['flow'])
    assert not (p['visible'] & ~inside).any() and p['visible'].float().mean() > .6
    behind, back = warp(p['now'], p['back'])[0], seen_back(p)
    assert back.float().mean() > .5
    for error, keep, flow, ids in ((ahead - p['now'], p['visible'], p['flow'], p['ids']), (behind - p['next'], back, p['back'], p['ids_next'])):
        moving = keep & (flow.norm(dim=1) > .3) & inner(ids)
        assert moving.sum() > 500
        for pixels, limit in ((keep, 10), (moving, 15)):      # the white lines of a road are thin: 12 among what moves there
            middle, most = far(error, pixels)
            assert middle <= 2 and most <= limit, (middle, most)


@pytest.mark.parametrize('kind', ['scene', 'iconic', 'drive'])
def test_a_wrong_flow_is_seen(kind):
    "No flow, the flow turned round, and pixels that are hidden, all fail the comparison above: it can fail"
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
def test_hidden_means_something_nearer(kind, level):
    "A pixel that lands well inside another object is not visible; that object is nearer in depth"
    p = pairs(kind, level, 8)
    lands, inside = warp(one_hot(p['ids_next'], p['n']), p['flow'])
    there = lands.argmax(1)
    over = (there > p['ids']) | ((there > 0) & (there != p['ids']) & inner(p['ids']))     # an overtaken pole is thinner than a pixel's step
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
    "Of all objects whose shape covers a pixel the nearest is seen, worked out from the plan without any order of painting"
    cpu, size, seeds = torch.device('cpu'), (64, 64), torch.tensor(OVERTAKING)
    plan = world._plan(seeds, kind, level, torch.arange(8).numpy(), size)
    cards = world._shapes(cpu)[torch.as_tensor(plan.card).flatten()]
    covers = world._seen(cards, plan, *world._axes(size, cpu))[:, :, 0] < 0
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
            assert all(v.max() == v.min() < world.FURTHEST for v in values)
            if t and kind == 'drive': continue                # traffic overtakes
            assert all(a[0] >= b[0] for a, b in zip(values, values[1:]))


def box_of(mask):
    "x1 y1 x2 y2 of a mask, edge to edge"
    y, x = mask.nonzero().unbind(1)
    return [x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1]


@every_kind
@every_level
def test_boxes_and_classes_belong_to_instances(kind, level):
    "Row k bounds what is seen of instance k + 1, NaN where nothing is; an instance keeps its class; 0 is the background in both"
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
    assert seen > 20 and (absent > 0) == (kind not in ('iconic', 'motion'))


@every_level
def test_the_motion_is_the_class(level):
    "Motions: the label is the action, every action occurs, and what is drawn differs within an action"
    b = world.batch(range(120), kind='motion', level=level, size=(16, 16), frames=2)
    assert torch.equal(b['label'], b['action']) and set(b['action'].tolist()) == set(range(world.LEVELS[level].actions))
    objects = {int(a): {int(c.max()) for c in b['classes'][b['action'] == a]} for a in b['action'].unique()}
    assert min(map(len, objects.values())) >= min(3, world.LEVELS[level].classes)


# ---- captions

def test_captions_translate():
    "Over all kinds and levels: one sentence in each language, and the same sentence in one is the same in every other"
    to, texts = {}, set()
    for kind in world.kinds:
        for level in range(4):
            for c in world.batch(range(60), kind=kind, level=level, size=(16, 16), frames=3)['caption']:
                texts.add(c['en'])
                for text in c.values(): assert text[0].isupper() and text.endswith('.') and text == text.strip() and '  ' not in text
                for a in c:
                    for b in c: to.setdefault((a, b), {}).setdefault(c[a], set()).add(c[b])
    assert len(texts) > 500 and all(len(found) == 1 for table in to.values() for found in table.values())
    assert all(len(to['en', b]) == len(to[b, 'en']) for b in ('es', 'fr', 'de'))


def test_captions_say_what_is_there():
    "The noun of the largest object in every language, and the motion where the motion is the class"
    for seed in range(30):
        s = world.sample(seed, 'motion', 2, (32, 32), 8)
        noun = world.NOUNS[world.classes('motion', 2)[int(s['classes'].max())]]
        for i, (code, text) in enumerate(s['caption'].items()):
            assert noun[i].split()[0].lower() in text.lower() and world.MOVES[i][s['action']] in text, text


# ---- backgrounds

def groups(kind, level, near=30 / 255):
    "How many sorts of background, told by the colours above and below, and how many pictures"
    b, found = world.batch(range(60), kind=kind, level=level, size=(32, 32), frames=1, plain=True), []
    for x, ids in zip(b['frames'][:, 0].float() / 255, b['instances'][:, 0]):
        parts = [x[:, rows][:, ids[rows] == 0] for rows in (slice(0, 10), slice(22, 32))]
        if all(p.shape[1] for p in parts): found.append(torch.cat([p.median(1)[0] for p in parts]))
    left, n = found, 0
    while left: left, n = [d for d in left if (d - left[0]).abs().max() >= near], n + 1
    return n, len(found)


@pytest.mark.parametrize('kind', ['scene', 'iconic'])
def test_backgrounds_recur_where_it_is_easy(kind):
    "Level 0: a handful of places, each many times; level 3: hardly two alike"
    easy, hard = groups(kind, 0), groups(kind, 3)
    assert easy[0] <= world.LEVELS[0].places and easy[1] > 40 and hard[0] > hard[1] / 2


def test_levels_get_harder():
    "More classes, more objects, smaller ones"
    for a, b in zip(world.LEVELS, world.LEVELS[1:]):
        assert a.classes < b.classes and a.objects[1] <= b.objects[1] and a.radius[0] > b.radius[0] and a.texture <= b.texture
    sizes = [[(s == k).float().mean().item() for s in world.batch(range(30), kind='scene', level=l, size=(48, 48), frames=1)['instances'][:, 0]
              for k in s.unique() if k] for l in (0, 3)]
    assert min(sizes[1]) < min(sizes[0]) / 4 and math.fsum(sizes[0]) / len(sizes[0]) > math.fsum(sizes[1]) / len(sizes[1])
