"""RIVER's refiner: a loss by hand, frames one after another, training with an autoencoder that blurs, bad input."""
from dataclasses import replace

import pytest
import torch
import torch.nn as nn
from torch.nn.functional import avg_pool2d, interpolate

from ssl_workbench import core
from ssl_workbench.learner import Learner, draw_seeds
from ssl_workbench.methods.river.refiner import Refiner, RefinerViews, refiner_cpu
from ssl_workbench.world import World

SMALL = replace(refiner_cpu, size=32, canvas=32, frames=2, width=8, reduction=4, blocks=1)


class Blur(nn.Module):
    "An autoencoder that knows means of 4×4 pixels"
    channels, factor = 3, 4

    def encode(self, x): return avg_pool2d(x, 4)
    def decode(self, z): return interpolate(z, scale_factor=4, mode='bilinear')


def clips(n=4, t=5):
    "Noise as frames, as a learner hands them over"
    frames = torch.randint(0, 256, (n, t, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return dict(frames=frames, aspect=torch.ones(n), seed=draw_seeds(0, range(n)))


def moved(refiner, seed=0):
    "Its last layer, zero at birth, as another one's"
    core.seed_everything(seed)
    nn.init.normal_(refiner.tail.weight, std=.1)
    return refiner.eval()


def test_views_are_consecutive():
    "Each view is a stretch of the clip, every stretch occurs, and the seeds alone choose it"
    batch = clips(64)
    x, again = (RefinerViews(SMALL)(batch)['x'] for _ in range(2))
    starts = [next(s for s in range(3) if torch.equal(view, clip[s:s + 3] / 255))
              for view, clip in zip(x, batch['frames'])]
    assert set(starts) == {0, 1, 2} and torch.equal(x, again)
    with pytest.raises(ValueError, match='too short: 3 are wanted'): RefinerViews(SMALL)(clips(t=2))


def test_loss_by_hand():
    "Frames .1 off are .2 off between −1 and 1: .04"
    refiner, truth = Refiner(SMALL), torch.full((1, 2, 3, 32, 32), .4)
    terms = refiner.loss(dict(refined=truth + .1, truth=truth, perceptual=torch.tensor(3.)))
    assert terms['pixels'].item() == pytest.approx(.04, rel=1e-5)
    assert terms['perceptual'].item() == pytest.approx(3 * SMALL.perceptual)


def test_refine_frame_by_hand():
    "With a body that passes everything on, the last convolution is all that counts"
    refiner = Refiner(SMALL)
    for p in refiner.body.parameters(): nn.init.zeros_(p)
    nn.init.zeros_(refiner.head.weight), nn.init.zeros_(refiner.head.bias), nn.init.constant_(refiner.tail.bias, .2)
    previous, decoded = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(2))
    torch.testing.assert_close(refiner.refine_frame(previous, decoded)[0], decoded + .1)
    refiner.config = replace(SMALL, residual=False)
    torch.testing.assert_close(refiner.refine_frame(previous, decoded)[0], torch.full_like(decoded, .6))


def test_a_refined_frame_is_the_next_ones_predecessor():
    "Frame by frame as `refine_frame` gives them, and the second depends on the first"
    refiner = moved(Refiner(SMALL))
    film = torch.rand(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first = refiner.refine_frame(film[:, 0], film[:, 1])[0].clamp(0, 1)
        second = refiner.refine_frame(first, film[:, 2])[0].clamp(0, 1)
        wrong = refiner.refine_frame(film[:, 1], film[:, 2])[0].clamp(0, 1)
    made = refiner.refine(film[:, 0], film[:, 1:])
    torch.testing.assert_close(made, torch.stack([first, second], 1))
    assert not torch.allclose(made[:, 1], wrong, atol=1e-3)


def test_training_mends_what_the_autoencoder_blurs():
    "After a short run frames are nearer to the truth than the autoencoder's; the same seed gives the same run"
    losses = []
    for _ in range(2):
        core.seed_everything(0)
        films = World('bounce', 1, (32, 32), 4, 32, seed=0, truth=False)
        learner = Learner(Refiner(SMALL, Blur()), RefinerViews(SMALL), films, 60, lr=1e-2, batch=8, device='cpu',
                          progress=False)
        losses.append([step.total for step in learner.steps()])
    assert losses[0] == losses[1]
    x = World('bounce', 1, (32, 32), 3, 16, seed=1, pool=False).batch(range(16))['frames'] / 255
    with torch.no_grad(): out = learner.method.eval()(dict(x=x))
    blurred = Blur().decode(Blur().encode(x[:, 1:].flatten(0, 1))).view_as(out['truth'])
    assert (out['refined'] - out['truth']).square().mean() < .9 * (blurred - out['truth']).square().mean()
    assert not [n for n, _ in learner.method.named_parameters() if 'autoencoder' in n]


def test_bad_input():
    "One sentence for what cannot be"
    with pytest.raises(ValueError, match='no multiple of reduction'): replace(SMALL, width=10)
    with pytest.raises(ValueError, match='needs the autoencoder'): Refiner(SMALL)(dict(x=torch.zeros(1, 3, 3, 32, 32)))
