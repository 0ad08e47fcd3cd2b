"""What the lesson on VideoMAE cannot see: masks over many settings, inputs, several processes' terms, weights."""
from dataclasses import replace

import pytest
import torch

from ssl_workbench import catalog, core
from ssl_workbench.classics import videomae
from ssl_workbench.classics.videomae import Config, VideoMAE, Views, masked_places
from ssl_workbench.video_nets import tubelets

TINY = Config(size=32, canvas=32, dim=24, depth=2, heads=2, decoder_dim=24, decoder_depth=1, decoder_heads=2)


def videos(n=4, frames=8, side=32, seed=0):
    "A batch of noise as a learner hands it over"
    g = torch.Generator().manual_seed(seed)
    return dict(frames=torch.randint(0, 256, (n, frames, 3, side, side), generator=g, dtype=torch.uint8),
                seed=torch.arange(n) + 100 * seed, aspect=torch.ones(n))


def built(config=TINY):
    "A method in double precision, and views of four videos"
    core.seed_everything(0)
    views = Views(config)(videos(frames=config.frames))
    return VideoMAE(config).double(), {k: v.double() if v.is_floating_point() else v for k, v in views.items()}


@pytest.mark.parametrize('pattern', ['tube', 'random', 'block'])
@pytest.mark.parametrize('dropped', [.3, .75, .9])
def test_masks(pattern, dropped):
    "Kept and gone make up the clip, as many as the rule says; tubes and blocks hold their places over time"
    c = replace(TINY, size=64, canvas=64, pattern=pattern, dropped=dropped)
    views = Views(c)(videos(side=64))
    keep, gone, (t, h, w) = views['keep'][:, 0], views['gone'][:, 0], c.grid
    masked, places = masked_places(c.grid, dropped, pattern)
    times = (1, t) if pattern == 'random' else (t, 1)
    assert gone.shape[1] == masked * times[0] and places == h * w * times[1]
    assert torch.equal(torch.cat([keep, gone], 1).sort(1).values, torch.arange(t * h * w).expand(4, -1))
    columns = keep.view(4, t, -1) % (h * w) if pattern != 'random' else None
    if columns is not None: assert (columns == columns[:, :1]).all()
    assert not torch.equal(keep[0], keep[1])


def test_the_views_depend_on_the_seeds_alone():
    "In another order and company the same clips and masks"
    batch = videos(6)
    whole, some = Views(TINY)(batch), Views(TINY)({k: v[[4, 1]] for k, v in batch.items()})
    assert all(torch.equal(whole[k][[4, 1]], v) for k, v in some.items())


def test_masked_pixels_reach_only_the_target():
    "Other pixels in the masked tubelets: the same tokens and prediction, another target"
    method, views = built()
    rows = tubelets(views['x'][:, 0], 2, 8)
    index = views['gone'][:, 0, :, None].expand(-1, -1, rows.shape[-1])
    noise = torch.rand(index.shape, dtype=rows.dtype, generator=torch.Generator().manual_seed(1))
    other = videomae.untubelets(rows.scatter(1, index, noise), TINY.grid, 2, 8)
    a, b = method(views), method(views | dict(x=other[:, None]))
    assert torch.equal(a['pixels'], b['pixels']) and torch.equal(a['tokens'], b['tokens'])
    assert (a['target'] - b['target']).abs().mean() > .1


def test_order_of_tokens_does_not_matter():
    "Seen and masked tubelets in any order: the loss is the same"
    method, views = built()
    mixed = views | {k: views[k].flip(2) for k in ('keep', 'gone')}
    a, b = (sum(method.loss(method(v)).values()) for v in (views, mixed))
    assert torch.allclose(a, b, atol=1e-12)


def test_two_halves_make_the_whole():
    "Every clip masks as many tubelets, so the mean over two processes is the loss of all"
    method, views = built()
    whole = sum(method.loss(method(views)).values())
    halves = [sum(method.loss(method({k: v[part] for k, v in views.items()})).values())
              for part in (slice(0, 2), slice(2, 4))]
    assert torch.allclose(whole, sum(halves) / 2, atol=1e-12)


def test_flat_tubelets_give_no_nan():
    "A black clip: targets are 0, losses and gradients finite"
    method, views = built()
    out = method(views | dict(x=torch.zeros_like(views['x'])))
    assert (out['target'] == 0).all()
    loss = sum(method.loss(out).values())
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize('positions', ['counted', 'flat'])
@pytest.mark.parametrize('shape', [(1, 32, 32), (2, 16, 16), (16, 48, 32)])
def test_other_clips_than_it_was_made_for(positions, shape):
    "One frame, fewer, more; other sizes: features, attention, reconstruction"
    core.seed_everything(0)
    method = VideoMAE(replace(TINY, positions=positions)).eval()
    t, h, w = shape
    x = torch.rand(2, t, 3, h, w)
    grid = max(t // 2, 1), h // 8, w // 8
    with torch.no_grad(): found = method.features(x)
    assert tuple(found['grid']) == grid and found['tokens'].shape == (2, grid[0] * grid[1] * grid[2], 24)
    assert method.attention(x).shape == (2, 2, *grid)
    made = method.reconstruct(x)
    assert made.shape == x.shape and made.isfinite().all() and 0 < (made != x).float().mean() < 1


@pytest.mark.parametrize('x, words', [
    (torch.rand(2, 7, 3, 32, 32), 'tubelets'), (torch.rand(2, 8, 3, 30, 32), 'patches'),
    (torch.rand(2, 0, 3, 32, 32), 'no frame'), (torch.rand(2, 8, 4, 32, 32), '3 channels'),
    (torch.rand(2, 8, 3, 32, 32) * 9, 'floats')])
def test_clips_that_do_not_fit(x, words):
    "One sentence"
    method = VideoMAE(TINY)
    for door in (method.features, method.reconstruct, method.attention):
        with pytest.raises(ValueError, match=words): door(x)


@pytest.mark.parametrize('wrong', [dict(dropped=0.), dict(dropped=1.), dict(dropped=.01), dict(pattern='rows'),
                                   dict(positions='learnt'), dict(frames=3), dict(size=70), dict(decoder_heads=5)])
def test_settings_that_do_not_fit(wrong):
    "Refused before anything is built"
    with pytest.raises(ValueError): catalog.build('videomae', 'cpu', wrong)


def test_pooling_by_name():
    "The two ways to pool, and no third"
    method, x = VideoMAE(TINY).eval(), torch.rand(2, 8, 3, 32, 32)
    a, b = (method.features(x, p)['pooled'] for p in videomae.POOLING)
    assert a.shape == b.shape == (2, 24) and not torch.allclose(a, b)
    with pytest.raises(ValueError, match='pretrained or fine-tuned'): method.features(x, 'cls')


def test_it_learns_a_film_by_heart():
    "Eighty steps on four clips of changing colours: the error falls well below that of predicting 0"
    core.seed_everything(0)
    method, batch = VideoMAE(replace(TINY, dropped=.5)), videos()
    batch['frames'] = batch['frames'][:, :, :, :1, :1].expand(-1, -1, -1, 32, 32).clone()
    batch['frames'][..., 16:] = 255 - batch['frames'][..., 16:]
    views = Views(replace(TINY, dropped=.5, scale=(1., 1.), ratio=(1., 1.)))(batch)
    optimiser = torch.optim.AdamW(method.param_groups(), 3e-3)
    for _ in range(80):
        loss = sum(method.loss(method(views)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    lazy = method(views)['target'].square().mean()
    assert lazy > .9 and loss < .5 * lazy


def test_groups():
    "Biases, norms and the mask token are not decayed; everything that is trained is in one group"
    method = VideoMAE(TINY)
    decayed, free = method.param_groups()
    names = {id(p): n for n, p in method.named_parameters() if p.requires_grad}
    assert decayed['weight_decay'] == .05 and free['weight_decay'] == 0
    assert {id(p) for g in (decayed, free) for p in g['params']} == names.keys()
    assert 'decoder.mask_token' in {names[id(p)] for p in free['params']}
    assert all(p.ndim > 1 for p in decayed['params'])
