"""ViDROP: what is dropped cannot matter, masked tokens meet their own place, and the video trunk beneath it."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_workbench import catalog, core
from ssl_workbench.clip_views import clip_crops, clip_times, keep_tubelets, kept_count, mask_kept
from ssl_workbench.learner import Learner, draw_seeds
from ssl_workbench.losses import koleo, sinkhorn_knopp
from ssl_workbench.methods.vidrop import ViDROP, Views, add_cls, config_for, cpu, gpu, paper, start_from_encoder
from ssl_workbench.nets import timm_vit, vit
from ssl_workbench.video_nets import VideoViT, inflate, tubelets, untubelets
from ssl_workbench.world import World

TINY = replace(cpu, size=32, small_size=16, small=2, length=4, small_length=2, frames=6, canvas=32, dim=24, depth=2,
               heads=2, hidden=16, out_dim=8, prototypes=6, batch=4, steps=4, freeze_prototypes=0.)


def clips_of(config, n=4, seed=0):
    "Views of n drawn videos"
    videos = World('motion', 1, (config.canvas,) * 2, config.frames, n, seed=seed, truth=False).batch(range(n))
    return Views(config)(videos | dict(seed=draw_seeds(seed, range(n))))


def shaken(config):
    "A method whose teacher is not its student"
    core.seed_everything(0)
    method = ViDROP(config)
    with torch.no_grad():
        for p in method.parameters(): p.add_(.1 * torch.randn_like(p))
    method.before_step(.5)
    return method


# ---- what is dropped

@pytest.mark.parametrize('pattern', ['random', 'tube', 'block'])
def test_a_dropped_token_cannot_change_the_student(pattern):
    "Other pixels at every dropped place of the global clips: the student's tokens and scores are the same bits"
    config = replace(TINY, pattern=pattern)
    method, views = shaken(config), clips_of(config)
    x, keep = views['x'].flatten(0, 1), views['keep'].flatten(0, 1)
    tubes = tubelets(x, config.tubelet, config.patch)
    dropped = torch.ones(len(x), config.cells, dtype=torch.bool).scatter(1, keep, False)
    tubes[dropped] = torch.rand(int(dropped.sum()), tubes.shape[2])
    other = dict(views, x=untubelets(tubes, config.grid, config.tubelet, config.patch).unflatten(0, (4, 2)))
    with torch.no_grad(): a, b = method(views), method(other)
    assert torch.equal(a['tokens'], b['tokens']) and torch.equal(a['student_scores'], b['student_scores'])
    assert not torch.equal(a['targets'], b['targets'])                       # the teacher sees them


def test_a_masked_tokens_content_cannot_change_the_student():
    "Only its place is left of it"
    method, views = shaken(TINY), clips_of(TINY)
    x, mask = views['x'].flatten(0, 1), views['mask'].flatten(0, 1)
    tubes = tubelets(x, 2, 8)
    tubes[mask] = 1 - tubes[mask]
    other = dict(views, x=untubelets(tubes, TINY.grid, 2, 8).unflatten(0, (4, 2)))
    with torch.no_grad(): assert torch.equal(method(views)['tokens'], method(other)['tokens'])
    stare = replace(TINY, objective='stare')
    method = shaken(stare)
    with torch.no_grad():
        seen = {k: v for k, v in views.items() if k != 'mask'} | {k: clips_of(stare)[k] for k in ('picked', 'in_loss')}
        assert not torch.equal(method(seen)['tokens'], method(dict(seen, x=other['x']))['tokens'])


def test_masked_tokens_meet_the_teachers_token_of_the_same_place():
    "By hand, clip by clip and token by token, from a dense pass of the teacher"
    method, views = shaken(TINY), clips_of(TINY)
    with torch.no_grad():
        out = method(views)
        rows, where = [], []
        for i in range(4):
            for v in range(2):
                dense = method.teacher.encoder(views['x'][i, v][None])[0][0]
                places = views['mask'][i, v].nonzero()[:, 0].tolist()
                assert set(places) <= set(views['keep'][i, v].tolist())
                for m in range(views['picked'].shape[2]):
                    if not views['in_loss'][i, v, m]: continue
                    place = int(views['keep'][i, v, views['picked'][i, v, m]])
                    places.remove(place)
                    rows.append(method.teacher.patch_head(dense[place]))
                    where.append((i, v, m))
                assert places == []                                          # every masked token is in the loss, once
        want = sinkhorn_knopp(torch.stack(rows), method.temperature)
    got = torch.stack([out['patch_targets'][w] for w in where])
    assert len(rows) == int(views['mask'].sum()) > 0 and torch.allclose(got, want, atol=1e-5)
    assert out['patch_targets'][~views['in_loss']].abs().sum() == 0


def test_terms_by_hand():
    "The three terms from the scores, each in its own words"
    method, views = shaken(TINY), clips_of(TINY)
    with torch.no_grad(): out = method(views); terms = method.loss(out)
    s, q = out['student_scores'], out['targets']
    pairs = [-(q[:, t] * (s[:, v] / .1).log_softmax(-1)).sum(-1).mean() for t in (0, 1) for v in range(4) if v != t]
    assert len(pairs) == 2 + 2 * TINY.small and torch.allclose(terms['cls'], torch.stack(pairs).mean(), atol=1e-6)
    total = 0.
    for i in range(4):
        for v in range(2):
            inside = out['in_loss'][i, v]
            if not inside.any(): continue
            log = (out['patch_scores'][i, v] / .1).log_softmax(-1)[inside]
            total += -(out['patch_targets'][i, v][inside] * log).sum() / inside.sum()
    assert torch.allclose(terms['patch'], total / 8, atol=1e-6)              # unmasked clips count as 0
    assert torch.allclose(terms['koleo'], .1 * (koleo(out['cls'][:, 0]) + koleo(out['cls'][:, 1])))


@pytest.mark.parametrize('change, there', [(dict(objective='dino'), {'cls', 'koleo'}),
                                           (dict(koleo_weight=0.), {'cls', 'patch'}),
                                           (dict(cls_weight=0.), {'patch', 'koleo'}),
                                           (dict(patch_weight=0.), {'cls', 'koleo'}),
                                           (dict(objective='stare', dropped=0.), {'cls', 'patch', 'koleo'}),
                                           (dict(small=0, shared_head=True), {'cls', 'patch', 'koleo'}),
                                           (dict(positions='trained'), {'cls', 'patch', 'koleo'})])
def test_settings(change, there):
    "Every objective gives its terms, finite, with a gradient to every trained tensor of the encoder"
    config = replace(TINY, **change)
    method = ViDROP(config)
    method.before_step(.5)
    terms = method.loss(method(clips_of(config)))
    assert set(terms) == there and all(v.isfinite() for v in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad is not None for n, p in method.student.encoder.named_parameters() if p.requires_grad)


def test_refused_settings():
    "One sentence each"
    for wrong in (dict(objective='mae'), dict(pattern='rows'), dict(positions='none'), dict(length=7),
                  dict(small_length=3)):
        with pytest.raises(ValueError) as e: replace(cpu, **wrong)
        assert next(iter(wrong)) in str(e.value)
    for wrong in (dict(koleo_weight=-1.), dict(layer_decay=0.), dict(tubelet=0), dict(batch=1), dict(dropped=1.),
                  dict(mask_ratio=(.7, .5)), dict(size=50), dict(small_size=20), dict(iterations=0)):
        with pytest.raises(ValueError) as e: catalog.build('vidrop', 'cpu', wrong)
        assert next(iter(wrong)) in str(e.value)


def test_presets():
    "The thesis' numbers, and bundled weights of at most 4 MB"
    assert (paper.grid, paper.cells, paper.kept) == ((8, 14, 14), 1568, 235)
    assert paper.prototypes == 16384 and not paper.shared_head and paper.dropped == .85
    with torch.device('meta'): method = ViDROP(gpu)
    assert sum(2 * v.numel() for v in method.inference_state().values()) < 4e6
    with torch.device('meta'): rates = {g['lr_scale'] for g in ViDROP(paper).param_groups()}
    assert max(rates) == 1. and min(rates) == pytest.approx(.2 * .9**13)


def test_the_last_layer_rests_and_the_teacher_follows_after_the_step():
    "No gradient to the prototypes at first; the teacher is an average of the student's new weights, in eval mode"
    method = ViDROP(replace(TINY, freeze_prototypes=.1, drop_path=.5))
    method.train()
    assert not method.teacher.training and method.student.training
    for t, moved in ((0., False), (.5, True)):
        method.zero_grad()
        method.before_step(t)
        sum(method.loss(method(clips_of(TINY))).values()).backward()
        grads = [h.prototypes.weight.grad for h in (method.student.head, method.student.patch_head)]
        assert all((g is not None and g.abs().sum() > 0) == moved for g in grads)
    before = method.teacher.head.prototypes.weight.clone()
    with torch.no_grad(): method.student.head.prototypes.weight.add_(1.)
    method.after_step(0.)
    assert torch.allclose(method.teacher.head.prototypes.weight, before + (1 - TINY.momentum[0]), atol=1e-6)


def test_resume_is_exact(tmp_path):
    "Stopped after two of four steps: the same weights as without a stop"
    data = World('motion', 0, (32, 32), 6, 16, truth=False)
    def learner(out):
        core.seed_everything(0)
        return Learner(ViDROP(replace(TINY, drop_path=.2)), Views(TINY), data, total=4, batch=4, out=out, save_every=1,
                       device='cpu', progress=False)
    whole = learner(tmp_path/'a')
    for _ in whole.steps(): pass
    for _ in learner(tmp_path/'b').steps(2): pass
    again = learner(tmp_path/'b').load()
    for _ in again.steps(): pass
    assert all(torch.equal(v, again.method.state_dict()[k]) for k, v in whole.method.state_dict().items())


# ---- what may enter, and what comes out

def test_features_and_attention():
    "Clips, films of other sizes, pictures as clips of one frame; a sentence for what does not divide"
    method = shaken(TINY).eval()
    x = torch.rand(2, 4, 3, 32, 48)
    with torch.no_grad():
        out = method.features(x)
        assert out['tokens'].shape == (2, 48, 24) and out['grid'] == (2, 4, 6) and out['pooled'].shape == (2, 24)
        assert torch.allclose(method.features((x * 255).round().byte())['pooled'], out['pooled'], atol=.05)
        assert torch.allclose(method.features(x.movedim(2, -1).numpy())['pooled'], out['pooled'], atol=1e-5)
        one = method.features(x[:, :1])
        picture = method.features(x[:, 0])                                   # answers as a network of pictures does
        assert one['grid'] == (1, 4, 6) and picture['grid'] == (4, 6) and torch.equal(one['pooled'], picture['pooled'])
        assert method.attention(x[:, 0]).shape == (2, 2, 4, 6)
        attention = method.attention(x)
        assert attention.shape == (2, 2, 2, 4, 6) and torch.allclose(attention.sum((2, 3, 4)), torch.ones(2, 2))
    for wrong, word in ((x[:, :3], '3 frames'), (x[..., :30], '30'), (x[:, :0], 'no frame'),
                        (x[:, :, :1], '3 channels'), (x * 255, 'to 255'), (x.long(), 'int64'), ('clip.mp4', 'str'),
                        (x[None], r'\(1,2,4')):
        with pytest.raises(ValueError, match=word) as e: method.features(wrong)
        assert '\n' not in str(e.value)
    assert method.features([Image.fromarray(np.zeros((32, 32, 3), np.uint8))])['grid'] == (4, 4)


def test_views_depend_on_the_sample_alone():
    "A batch of two is the first half of a batch of four"
    videos = World('motion', 1, (32, 32), 6, 4, truth=False).batch(range(4))
    frames, seeds, aspect = videos['frames'], draw_seeds(0, range(4)), videos['aspect']
    whole = Views(TINY)(dict(frames=frames, seed=seeds, aspect=aspect))
    half = Views(TINY)(dict(frames=frames[:2], seed=seeds[:2], aspect=aspect[:2]))
    for k, v in half.items(): assert torch.allclose(v.float(), whole[k][:2].float(), atol=1e-6), k
    assert (whole['in_loss'].any(2).sum(1) == 1).all()                       # one of two global clips is masked


def test_colours_box_and_mirror_are_constant_over_a_clip():
    "A video that stands still gives clips that stand still, whatever the augmentation"
    still = torch.randint(0, 256, (3, 1, 3, 32, 32), dtype=torch.uint8).repeat(1, 6, 1, 1, 1)
    config = replace(TINY, colour=1., grey=.3, blur=(.5, .5, .5), solarise=(.3, .3, .3), flip=.5)
    views = Views(config)(dict(frames=still, seed=torch.arange(3)))
    for k in ('x', 'x_small'): assert (views[k] - views[k][:, :, :1]).abs().max() < 1e-5
    assert (views['x'][:, 0] - views['x'][:, 1]).abs().mean() > .02


@pytest.mark.parametrize('frames, length', [(1, 4), (3, 4), (4, 4), (9, 4)])
def test_short_and_odd_videos(frames, length):
    "One frame, fewer than a clip, just enough: real frames in order, the last one held"
    times = clip_times(torch.arange(100), 's', frames, length)
    assert times.min() == 0 and times.max() == frames - 1 and (times.diff(dim=1) >= 0).all()
    x = clip_crops(torch.rand(2, frames, 3, 24, 40), [0, 1], 's', 2, 16, length)['x']
    assert x.shape == (2, 2, length, 3, 16, 16) and x.isfinite().all()


@pytest.mark.parametrize('pattern', ['random', 'tube', 'block'])
@pytest.mark.parametrize('grid', [(1, 1, 1), (1, 2, 3), (4, 6, 6), (8, 14, 14)])
@pytest.mark.parametrize('dropped', [0., .5, .85, .99])
def test_patterns(pattern, grid, dropped):
    "Kept and dropped are all tokens, once; the count is the same for every sample"
    n = grid[0] * grid[1] * grid[2]
    keep, gone = keep_tubelets(torch.arange(200), 'p', grid, dropped, pattern)
    assert keep.shape[1] == kept_count(grid, dropped, pattern) >= 1
    assert torch.equal(torch.cat([keep, gone], 1).sort(1).values, torch.arange(n).expand(200, -1))
    if dropped < .9 and pattern != 'block': assert len(keep.unique()) == n      # the middle lies in every large box
    picked, masked = mask_kept(torch.arange(200), 'm', keep[:, None].expand(-1, 2, -1), (.5, .7))
    assert picked.max() < keep.shape[1] and (masked.any(2).sum(1) == 1).all()


# ---- the start from an image checkpoint, and from an encoder without a class token

def test_start_from_an_image_checkpoint():
    "A clip of one frame gives the image network's own tokens, fixed and learnt positions; training goes on"
    for image_net in (vit(32, 8, 24, 2, 2).eval(), vit(32, 8, 24, 2, 2, cls=True, positions='normal').eval()):
        encoder = inflate(image_net, 4)
        config = config_for(encoder, TINY)
        config = replace(config, small_size=config.patch * 2, frames=6, canvas=config.size)
        method = start_from_encoder(ViDROP(config), encoder.state_dict()).eval()
        x = torch.rand(2, 3, config.size, config.size)
        with torch.no_grad():
            tokens, cls = image_net(x)
            found = method.features(x[:, None])
        assert torch.allclose(found['tokens'], tokens, atol=1e-4)
        assert torch.allclose(found['pooled'], cls, atol=1e-4)
        sum(method.loss(method(clips_of(config))).values()).backward()
    with pytest.raises(ValueError, match='do not fit'): start_from_encoder(ViDROP(TINY), encoder.state_dict())


def test_inflate():
    "timm's networks, with LayerScale too; a sentence for those that cannot be inflated"
    for name in ('vit_tiny_patch16_224', 'deit3_small_patch16_224'):
        image_net = timm_vit(name, pretrained=False)
        x = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            want, found = image_net.cls_features(x), inflate(image_net).eval().cls_features(x)
        assert torch.allclose(found['tokens'], want['tokens'], atol=1e-3)
        assert torch.allclose(found['pooled'], want['pooled'], atol=1e-3)
    for name in ('test_vit', 'test_vit2', 'test_vit3'):
        with pytest.raises(ValueError, match='cannot be inflated'): inflate(timm_vit(name, pretrained=False))
    with pytest.raises(ValueError, match='stem'): inflate(vit(32, 8, 24, 2, 2, stem='conv'))


@pytest.mark.parametrize('positions', ['counted', 'trained'])
def test_start_without_a_class_token(positions):
    "VideoMAE's and V-JEPA's encoders have none: one is added, everything else stays"
    config = replace(TINY, positions=positions)
    bare = VideoViT(32, 4, 8, 2, 24, 2, 2, cls=False, masked=False, positions=positions)
    state = add_cls(bare.state_dict(), seed=1)
    method = start_from_encoder(ViDROP(config), state)
    assert torch.equal(method.teacher.encoder.layers[1].mlp.fc1.weight, bare.layers[1].mlp.fc1.weight)
    assert torch.equal(method.student.encoder.cls_token, state['cls_token']) and state['cls_token'].abs().sum() > 0
    assert not torch.equal(state['cls_token'], add_cls(bare.state_dict(), seed=2)['cls_token'])
    with pytest.raises(ValueError, match='already'): add_cls(state)
