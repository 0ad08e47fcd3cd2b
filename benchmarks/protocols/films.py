"""Videos: frames to predict, and objects to follow through a film."""
from functools import lru_cache

import torch

from ssl_workbench import probes
from ssl_workbench.world import World

MAX_PSNR = 60.                      # dB at which a perfect frame is cut


# ---- prediction

@lru_cache(maxsize=None)
def prediction_set(kind, level, size, frames, n, given, seed, stride=1, **chance):
    "n unseen videos: frames given and frames to predict (n,t,3,H,W) float 0-1, which pixels count (n,t,1,H,W)"
    videos = World(kind, level, (size, size), frames, n, seed=seed, pool=False, stride=stride, **chance).batch(range(n))
    x = videos['frames'].float() / 255
    return x[:, :given], x[:, given:], probes.moving_pixels(videos['instances'], given)


@torch.no_grad()
def reconstruct(autoencoder, frames, n):
    "Frames (N,…,3,H,W) through the autoencoder, n at a time: the best that a predictor of its latents can show"
    device = next(autoencoder.parameters()).device
    return torch.cat([autoencoder.decode(autoencoder.encode(x.to(device))).cpu() for x in frames.split(n)])


def psnr(predicted, truth):
    "(B,T) dB of whole frames"
    return probes.psnr(predicted, truth, most=MAX_PSNR)


def moving_psnr(predicted, truth, moving):
    "(T,) dB on moving pixels, mean over videos"
    return probes.moving_psnr(predicted, truth, moving, most=MAX_PSNR)


# ---- label propagation

@lru_cache(maxsize=None)
def films(seed, kind, level, n=12, frames=8, side=128):
    "n unseen films with the instances of every frame and the true flow"
    data = World(kind, level, (side, side), frames, n, seed=600 + seed, pool=False)
    return [data[i] for i in range(n)]


def propagation_scores(encoder, films):
    "Mean of J and F of the first frame's instances carried through films: by features, by the true flow, not at all"
    return {k: (score['j'] + score['f']) / 2 for k, score in probes.video_segmentation(encoder, films).items()}
