"""SCALE: its cache under faults, positions, losses against plain loops, its backbone, films, the command."""
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from ssl_workbench import catalog, core, probes
from ssl_workbench.cli import main
from ssl_workbench.data import write_video
from ssl_workbench.learner import Learner
from ssl_workbench.methods.scale import SCALE, Views, clip_positions, cpu, masked_clip_loss, panels, set_loss
from ssl_workbench.methods.scale.cache import (
    HEADER,
    Backbone,
    ClipPlan,
    FeatureCache,
    Films,
    build_cache,
    feature_data,
    fingerprint,
    grid_clips,
    is_cache,
    plan_clips,
    random_clips,
)
from ssl_workbench.nets import vit
from ssl_workbench.video_nets import VideoViT
from ssl_workbench.world import World

ROOT = Path(__file__).resolve().parent.parent
PLAN = ClipPlan(frames=4, stride=2, size=16, clips=6)
TINY = replace(cpu, inputs=16, frames=4, stride=2, size=16, clips=6, views=3, times=3, places=2, dim=16, heads=2,
               hidden=16, target_hidden=16, out_dim=8, batch=4, steps=4)


class Means(nn.Module):
    "A network of clips whose feature is the mean colour of each frame, and some weights"
    def __init__(self, takes=5, dim=16):
        super().__init__()
        self.takes, self.weight = takes, nn.Parameter(torch.ones(dim))

    def features(self, x):
        if x.ndim != self.takes: raise ValueError('another shape is wanted')
        means = x.mean((-1, -2)).flatten(1)
        return dict(pooled=F.pad(means, (0, len(self.weight) - means.shape[1])) * self.weight)


def world(n=10, frames=12, size=(20, 24), seed=3): return World('motion', 0, size, frames, n, seed=seed, truth=False)


def build(folder, data=None, net=None, plan=PLAN, **how):
    return build_cache(data or world(), Backbone(net or Means(), 'means'), folder, plan, **dict(shard=4) | how)


def refused(call, *words):
    "The one sentence with which it is refused"
    with pytest.raises(ValueError) as e: call()
    text = str(e.value)
    assert '\n' not in text and all(w in text for w in words), text
    return text


# ---- clips

def test_random_clips_lie_inside_and_are_spread():
    "Every box in the video and square in pixels; starts of all possible frames are as likely"
    plan = ClipPlan(frames=4, stride=3, size=8, clips=200)
    boxes, flip = random_clips(range(50), (20, 30, 40), plan)
    assert (boxes >= 0).all() and (boxes <= 1).all()
    sides = (boxes[..., 3:] - boxes[..., :3]) * torch.tensor([40, 30, 20])
    assert torch.allclose(sides[..., 0], sides[..., 1], atol=1e-4) and torch.allclose(sides[..., 2], torch.tensor(10.))
    assert sides[..., 0].min() >= .7 * 30 - 1e-3 and sides[..., 0].max() <= .875 * 30 + 1e-3
    starts = torch.bincount((boxes[..., 2] * 20).round().long().flatten(), minlength=11) / boxes[..., 0].numel()
    assert len(starts) == 11 and (starts - 1 / 11).abs().max() < .01 and (flip.double().mean() - .5).abs() < .02


@pytest.mark.parametrize('frames', [1, 2, 3, 9])
def test_short_videos(frames):
    "A video shorter than a clip gives clips of its whole length, whatever the grid"
    for boxes, flip in ([x[0] for x in random_clips([1], (frames, 20, 24), PLAN)],
                        grid_clips((frames, 20, 24), replace(PLAN, grid=(5, 3)))):
        clips = plan_clips(torch.rand(frames, 3, 20, 24), boxes, flip, PLAN)
        assert clips.shape == (len(boxes), 4, 3, 16, 16) and clips.isfinite().all()
        if frames < 7: assert (boxes[:, 2] == 0).all() and (boxes[:, 5] == 1).all()


def test_mirrored_clip():
    "A flipped clip is the mirror of the same box"
    video, box = torch.rand(8, 3, 20, 24), torch.tensor([[.1, .1, 0., .7, .8, .9]])
    a, b = (plan_clips(video, box, torch.tensor([f]), PLAN) for f in (False, True))
    assert torch.equal(a.flip(-1), b)


# ---- the cache

def test_cache_holds_what_the_backbone_gives(tmp_path):
    "Features, boxes and labels of every video, in order, in half precision; batches on request"
    cache, data = build(tmp_path/'c'), world()
    assert len(cache) == 10 and cache.dim == 16 and cache.labels == [data[i]['label'] for i in range(10)]
    seeds = core.fold_in(torch.arange(10), 'cache 0')
    boxes, flip = random_clips(seeds, (12, 20, 24), PLAN)
    for i in (0, 5, 9):
        truth = Means().features(plan_clips(data[i]['frames'], boxes[i], flip[i], PLAN))['pooled']
        assert torch.allclose(cache[i]['features'], truth, atol=1e-3) and torch.equal(cache[i]['boxes'], boxes[i])
    batch = cache.batch([9, 0, 9])
    assert torch.equal(batch['features'][0], batch['features'][2])
    assert torch.equal(batch['features'][1], cache[0]['features'])
    with pytest.raises(IndexError): cache[10]


def test_images_and_clips(tmp_path):
    "A network for pictures sees single frames, whose features are averaged; one for clips sees clips"
    clips, frames = Backbone(Means(5, 12)), Backbone(Means(4, 12))
    x = torch.rand(3, 4, 3, 8, 8)
    assert torch.allclose(clips(x), x.mean((-1, -2)).flatten(1)) and clips.takes == 'clips'
    assert torch.allclose(frames(x)[:, :3], x.mean((1, -1, -2))) and frames.takes == 'frames'
    refused(lambda: Backbone(nn.Linear(2, 2)), 'features')


def test_killed_writer(tmp_path):
    "SIGKILL in the middle: whole shards and nothing half that counts; the same words finish it, to the same bytes"
    code = f'''
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.test_scale import *
class Slow(Means):
    def features(self, x): time.sleep(.15); return super().features(x)
build({str(tmp_path/"killed")!r}, net=Slow())
'''
    child = subprocess.Popen([sys.executable, '-c', code], env=os.environ | dict(PYTHONPATH=str(ROOT)))
    first = tmp_path/'killed'/'shard-00000.npy'
    until = time.time() + 120
    while not first.exists() and time.time() < until and child.poll() is None: time.sleep(.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert first.exists() and not (tmp_path/'killed'/'shard-00002.npy').exists()
    refused(lambda: FeatureCache(tmp_path/'killed'), 'not finished')
    again, whole = build(tmp_path/'killed'), build(tmp_path/'whole')
    assert np.array_equal(again.rows(range(10)), whole.rows(range(10)))


@pytest.mark.parametrize('change, words', [
    (dict(net='other'), ('means', 'another folder')), (dict(plan=replace(PLAN, clips=8)), ('clips', '6', '8')),
    (dict(seed=1), ('seed',)), (dict(dtype='float32'), ('dtype',)), (dict(data='longer'), ('videos', '10', '11')),
    (dict(data='other seed'), ('seed', '3', '4'))])
def test_another_cache_is_refused(tmp_path, change, words):
    "Another backbone, plan, seed or data: a sentence, and the cache is as it was"
    before = build(tmp_path/'c').rows(range(10))
    change = dict(change)
    if 'net' in change:
        change['net'] = Means()
        change['net'].weight.data[3] += 1e-6
    if 'data' in change: change['data'] = dict(longer=world(11)).get(change['data'], world(seed=4))
    refused(lambda: build(tmp_path/'c', **change), *words)
    assert np.array_equal(FeatureCache(tmp_path/'c').rows(range(10)), before)


@pytest.mark.parametrize('harm', ['cut', 'empty', 'text', 'other', 'header', 'list', 'gone', 'no backbone'])
def test_damaged_cache(tmp_path, harm):
    "A damaged file is named in one sentence"
    build(tmp_path/'c')
    shard, header = tmp_path/'c'/'shard-00001.npy', tmp_path/'c'/HEADER
    if harm == 'cut': shard.write_bytes(shard.read_bytes()[:-9])
    if harm == 'empty': shard.write_bytes(b'')
    if harm == 'text': shard.write_text('hello')
    if harm == 'other': np.save(shard, np.zeros(4))
    if harm == 'header': header.write_text(header.read_text()[:-30])
    if harm == 'list': header.write_text('[1, 2]')
    if harm == 'no backbone':
        found = json.loads(header.read_text())
        del found['about']['backbone']
        header.write_text(json.dumps(found))
    if harm == 'gone': shard.unlink()
    refused(lambda: FeatureCache(tmp_path/'c'), 'not finished' if harm == 'gone' else str(tmp_path))
    refused(lambda: FeatureCache(tmp_path), HEADER)


def test_features_that_do_not_fit(tmp_path):
    "NaN is refused; what overflows half precision is refused with the way out"
    net = Means()
    net.weight.data[:] = 1e6
    refused(lambda: build(tmp_path/'a', net=net), "dtype='float32'")
    assert build(tmp_path/'b', net=net, dtype='float32').everything()['features'].max() > 65504
    net.weight.data[0] = math.nan
    refused(lambda: build(tmp_path/'c', net=net), 'NaN')


def test_films(tmp_path):
    "Films of any length and shape, one of a single frame, with labels by folder; a bad one is left out and counted"
    for name, (t, h, w) in {'a/one.mp4': (1, 32, 48), 'a/long.mp4': (30, 32, 32), 'b/tall.mp4': (9, 64, 32)}.items():
        (tmp_path/name).parent.mkdir(exist_ok=True)
        write_video(torch.randint(0, 255, (t, 3, h, w), dtype=torch.uint8), tmp_path/name)
    (tmp_path/'b/bad.mp4').write_bytes(b'no film at all')
    films = Films(tmp_path, side=24, longest=16)
    shapes = [tuple(films.read(i)['frames'].shape) for i, n in enumerate(films.names) if 'bad' not in n]
    assert sorted(shapes) == [(1, 3, 24, 36), (9, 3, 48, 24), (15, 3, 24, 24)]
    with pytest.warns(UserWarning, match='bad.mp4'): cache = build(tmp_path/'cache', data=films)
    assert len(cache) == 3 and cache.bad == 1 and sorted(cache.labels) == [0, 0, 1] and '1 videos' in cache.report()


def test_fingerprint():
    "The same weights wherever they are; one bit more, another name or shape is another"
    a = nn.Linear(3, 3)
    b = nn.Linear(3, 3)
    b.load_state_dict(a.state_dict())
    assert fingerprint(a) == fingerprint(b)
    b.bias.data[0] += 1e-7
    assert fingerprint(a) != fingerprint(b) and fingerprint(nn.Sequential(a)) != fingerprint(a)


# ---- views, positions

def vectors(n=8, clips=6, dim=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    boxes = torch.rand(n, clips, 2, 3, generator=draw).sort(2).values.flatten(2)
    return dict(features=torch.randn(n, clips, dim, generator=draw), boxes=boxes, flip=torch.rand(n, clips) < .5,
                seed=torch.arange(n))


def test_two_sets_share_no_clip():
    "2V of the cached clips, each once, with their own boxes; every pairing is as likely"
    batch = vectors(2000)
    batch['features'] = batch['boxes'].repeat(1, 1, 3)[..., :16]
    views = Views(TINY)(batch)
    assert torch.equal(views['x'][..., :6], views['position'])
    x = views['x'].flatten(1, 2)
    assert (torch.cdist(x, x) + torch.eye(6) > 0).all()
    first = (views['x'][:, 0, :, None] == batch['features'][:, None]).all(-1).any(1).double().mean(0)
    assert (first - .5).abs().max() < .05
    refused(lambda: Views(replace(TINY, clips=8, views=4))(batch), 'views=3')
    refused(lambda: Views(TINY)(dict(frames=torch.zeros(1), seed=torch.arange(1))), 'cache')


def test_masks():
    "By chance, a set of eight is unmasked one time in ten; by count it is two of eight in each set"
    seeds = torch.arange(4000)
    chance = Views(replace(cpu, masking=.25)).masks(seeds)
    assert (chance.double().mean() - .25).abs() < .01 and ((~chance.any(-1)).double().mean() - .75**8).abs() < .01
    count = Views(replace(cpu, mask_by='count')).masks(seeds)
    assert (count.sum(-1) == 2).all() and (count.double().mean((0, 1)) - .25).abs().max() < .03
    assert (Views(replace(cpu, mask_by='count', masking=.01)).masks(seeds).sum(-1) == 1).all()


def test_positions():
    "By the video's size as they are; min-max from the first edge to the last; no axis divides by zero"
    boxes = torch.tensor([[[.2, 0., .5, .6, 1., .5], [.4, 0., .5, 1., 1., .5]]])
    assert torch.equal(clip_positions(boxes), boxes)
    low = clip_positions(boxes, None, 'minmax')[0]
    want = torch.tensor([[0., 0., 0., .5, 1., 0.], [.25, 0., 0., 1., 1., 0.]])
    assert torch.allclose(low, want) and low.isfinite().all()
    assert clip_positions(boxes, torch.tensor([[True, False]]), 'minmax')[0, :, 6].tolist() == [1, 0]


# ---- losses

def plain_losses(out, v, tau=.2):
    "Set loss and masked clip modelling by loops over the equations"
    n = lambda x: x / x.norm(dim=-1, keepdim=True)
    a, b, p, t = (n(out[k]) for k in ('first', 'second', 'predictions', 'targets'))
    share = lambda x, y, i, j: math.exp(x[i] @ y[j] / tau)
    ell = lambda x, y, i: -math.log(share(x, y, i, i) / sum(share(x, y, i, j) for j in range(len(y))))
    both = [ell(a, b, i) + ell(b, a, i) for i in range(len(a))]
    masked = [i for i in range(len(p)) if out['mask'][i]]
    one, other = ([ell(x, y, i) for i in masked] for x, y in ((p, t), (t, p)))
    return dict(code=dict(set=sum(both) / len(a) / 4, mcm=sum(one) / len(masked) / 2),
                thesis=dict(set=sum(both) / len(a), mcm=(sum(one) + sum(other)) / len(a)))


@pytest.mark.parametrize('objective', ['code', 'thesis'])
def test_losses_are_the_equations(objective):
    "Both objectives against loops, in double precision"
    torch.manual_seed(0)
    method = SCALE(replace(TINY, objective=objective)).double().train()
    views = {k: v.double() if v.is_floating_point() else v for k, v in Views(TINY)(vectors()).items()}
    out = method(views)
    want = plain_losses({k: v.detach() for k, v in out.items()}, 3)[objective]
    assert {k: v.item() for k, v in method.loss(out).items()} == pytest.approx(want, abs=1e-9)


def test_small_cases():
    "Two orthogonal pairs, one masked clip of two: by hand"
    a = torch.eye(2)
    assert set_loss(a, a, a, a, 1.).item() == pytest.approx(2 * math.log(1 + math.exp(-1)), abs=1e-6)
    mask = torch.tensor([True, False])
    right = masked_clip_loss(a, a, mask, a, a, 1, 1.)
    wrong = masked_clip_loss(a, a.flip(0), mask, a, a.flip(0), 1, 1.)
    assert right.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)
    assert wrong.item() == pytest.approx(math.log(1 + math.exp(1)), abs=1e-6)
    none = masked_clip_loss(a, a, ~(mask | True), a, a, 1, 1.)
    assert none.item() == 0


def test_nothing_masked_is_no_nan():
    "A batch in which chance masks nothing: the term is 0 and gradients are finite"
    method = SCALE(TINY).train()
    views = Views(TINY)(vectors())
    views['mask'] = torch.zeros_like(views['mask'])
    terms = method.loss(method(views))
    sum(terms.values()).backward()
    assert terms['mcm'].item() == 0 and all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize('centre', [False, True])
def test_a_masked_clip_is_not_seen(centre):
    "What a masked clip holds cannot change the prediction at its place, nor the summary"
    method = SCALE(replace(TINY, centre=centre)).eval()
    views = Views(TINY)(vectors())
    other = {k: v.clone() for k, v in views.items()}
    other['x'][views['mask']] = torch.randn_like(other['x'][views['mask']])
    a, b = method(views), method(other)
    assert views['mask'].any() and torch.equal(a['embedding'], b['embedding'])
    assert torch.equal(a['predictions'], b['predictions']) and not torch.equal(a['targets'], b['targets'])


def test_tokens_start_at_zero_and_are_not_decayed():
    "Class and mask token, biases and norms are free of decay; heads have no bias"
    method = SCALE(TINY)
    decayed, free = ({id(p) for p in g['params']} for g in method.param_groups())
    for name, p in method.named_parameters():
        assert (id(p) in free) == (p.ndim == 1 or name.endswith('_token')) and (id(p) in free) != (id(p) in decayed)
    assert not method.encoder.cls_token.any() and not method.encoder.mask_token.any()
    assert not [n for n, _ in method.named_parameters() if 'head' in n and n.endswith('bias')]


# ---- inference

def test_summary():
    "The order of clips does not matter, their places do; wrong shapes are refused"
    method, one = SCALE(TINY).eval(), vectors(3)
    a = method.summary(one['features'], one['boxes'])
    order = torch.tensor([5, 3, 1, 0, 2, 4])
    b = method.summary(one['features'][:, order], one['boxes'][:, order])
    c = method.summary(one['features'], one['boxes'][:, order])
    assert a.shape == (3, 16) and torch.allclose(a, b, atol=1e-5) and (a - c).abs().max() > 1e-4
    assert torch.allclose(method.clip_attention(one['features'], one['boxes']).sum(-1), torch.ones(3, 2))
    assert method.summary(one['features'][:, :1], one['boxes'][:, :1]).isfinite().all()
    for bad in ((one['features'][0], one['boxes'][0]), (one['features'][..., :3], one['boxes']),
                (one['features'], one['boxes'][..., :4]), (one['features'][:, :0], one['boxes'][:, :0])):
        refused(lambda bad=bad: method.summary(*bad), '(B,V,16)')


def test_embed_is_the_summary_of_the_grid():
    "5×3 clips through the backbone, and their summary; videos of one frame; the backbone is no part of the weights"
    method = SCALE(TINY, Means()).eval()
    video = torch.rand(2, 12, 3, 20, 24)
    boxes, flip = grid_clips((12, 20, 24), TINY.test_plan)
    features = torch.stack([Means().features(plan_clips(v, boxes, flip, TINY.test_plan))['pooled'] for v in video])
    assert torch.allclose(method.embed(video), method.summary(features, boxes.expand(2, -1, -1)), atol=1e-5)
    whole = (video * 255).round()
    assert torch.allclose(method.embed(whole.byte()), method.embed(whole / 255), atol=1e-5)
    assert method.embed(video[:, :1]).isfinite().all() and not [k for k in method.state_dict() if 'weight' == k]
    refused(lambda: method.embed(video[0]), 'batch of one')
    refused(lambda: SCALE(TINY).embed(video), 'no backbone')


def test_another_backbone_is_refused():
    "Of other weights, or of another width"
    method, net = SCALE(TINY, Means()), Means()
    net.weight.data[0] = 2
    refused(lambda: method.adopt(net), 'other weights')
    refused(lambda: SCALE(TINY).adopt(Means(dim=13)), 'inputs=13')
    twin = probes.random_init(method)
    assert twin.backbone.sha256 == method.backbone.sha256
    assert not torch.equal(twin.encoder.project.weight, method.encoder.project.weight)


def test_weights_name_their_backbone(tmp_path):
    "A stored SCALE keeps the backbone's name and fingerprint; another network of that name is not taken"
    method = catalog.build('scale', 'cpu')
    assert method.config.sha256 == fingerprint(catalog.load(method.config.backbone))
    card = dict(catalog.card('dilemma'), method='scale', config=dict(vars(method.config)))
    for name, change in (('same', {}), ('other', dict(sha256='0' * 64))):
        method.config = replace(method.config, **change)
        stored = card | dict(config=dict(vars(method.config)))
        file = catalog.save_weights(method, tmp_path/f'{name}.safetensors', stored)
        loaded = catalog.load(file)
        assert loaded.summary(torch.zeros(1, 2, cpu.inputs), torch.rand(1, 2, 6)).isfinite().all()
        if name == 'same': assert loaded.embed(torch.rand(1, 9, 3, 64, 64)).isfinite().all()
        else: refused(lambda loaded=loaded: loaded.embed(torch.rand(1, 9, 3, 64, 64)), 'other weights')


def test_panels():
    "Both panels draw a video's clips"
    method = SCALE(TINY, Means()).eval()
    clip = torch.randint(0, 255, (12, 3, 20, 24), dtype=torch.uint8)
    for panel in panels.values(): assert panel.figure(method, clip, times=5).dtype == torch.uint8


# ---- training

def test_it_learns(tmp_path):
    "On videos whose clips share a vector, the two sets find each other and masked clips are found"
    class Same:
        def __len__(self): return 64
        def batch(self, indices, device):
            found = vectors(64, seed=5)
            found['features'] = found['features'][:, :1] + .3 * found['features']
            found['features'][..., 6:12] += found['boxes']
            return {k: v[list(indices)] for k, v in found.items() if k != 'seed'}
    core.seed_everything(0)
    run = Learner(SCALE(replace(TINY, dim=32, batch=16)), Views(TINY), Same(), 60, lr=3e-3, batch=16, device='cpu',
                  progress=False)
    steps = list(run.steps())
    early, late = (sum(s.total for s in part) / 5 for part in (steps[:5], steps[-5:]))
    assert late < .75 * early


def call(*words):
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err: code = main(list(map(str, words)))
    return code, out.getvalue(), err.getvalue()


SMALL = [w for kv in ('batch=4', 'dim=16', 'heads=2', 'hidden=16', 'target_hidden=16', 'out_dim=8', 'views=3')
         for w in ('--set', kv)]


def test_the_command(tmp_path, monkeypatch):
    "A cache is trained on, resumed; another's features are refused; a world makes its own cache and finds it"
    monkeypatch.chdir(tmp_path)
    words = ['train', 'scale', '--preset', 'cpu', '--device', 'cpu', *SMALL]
    build(tmp_path/'cache')
    code, out, err = call(*words, '--data', tmp_path/'cache', '--steps', 4, '--out', 'run')
    assert code == 0 and '10 videos, 6 clips each' in out, err
    code, out, err = call(*words, '--data', tmp_path/'cache', '--steps', 6, '--out', 'run', '--resume')
    assert code == 0, err
    loaded = catalog.load('run')
    assert loaded.config.inputs == 16 and loaded.config.backbone == 'means' and loaded.config.clips == 6
    other = Means()
    other.weight.data[0] = 3
    build(tmp_path/'other', net=other)
    code, _, err = call(*words, '--data', tmp_path/'other', '--steps', 6, '--out', 'next', '--from', 'run')
    assert code == 2 and 'another backbone' in err, err
    code, _, err = call(*words, '--data', tmp_path/'cache', '--steps', 2, '--out', 'x', '--set', 'views=4')
    assert code == 2 and 'views=3' in err, err
    drawn = [*words, '--data', 'chain:0', '--steps', 2, '--set', 'pictures=5', '--set', 'long=12', '--set', 'canvas=32',
             '--set', 'size=32', '--set', 'clips=6', '--set', 'frames=2']
    for out in ('a', 'b'): assert call(*drawn, '--out', out)[0] == 0
    assert len([p for p in Path('runs/features').iterdir() if is_cache(p)]) == 1
    code, _, err = call(*words, '--data', 'chain:0', '--set', 'backbone=nobody', '--out', 'c')
    assert code == 2 and 'nobody' in err and 'backbone' in err, err


def test_feature_data_of_films(tmp_path):
    "A folder of films becomes a cache"
    (tmp_path/'films').mkdir()
    for i in range(3): write_video(torch.randint(0, 255, (9, 3, 32, 32), dtype=torch.uint8), tmp_path/f'films/{i}.mp4')
    cache = feature_data(str(tmp_path/'films'), replace(TINY, backbone='x'), None, lambda name: Means(), tmp_path/'out')
    assert len(cache) == 3 and cache.dim == 16 and is_cache(cache.folder)


def test_other_backbones():
    "An image transformer and a video transformer"
    clips = torch.rand(3, 4, 3, 16, 16)
    assert Backbone(vit(size=16, patch=8, dim=24, depth=1, heads=2))(clips).shape == (3, 24)
    assert Backbone(VideoViT(size=16, frames=4, patch=8, dim=24, depth=1, heads=2))(clips).shape == (3, 24)
