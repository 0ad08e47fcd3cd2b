"""Optical flow: unseen pairs of frames and end-point errors."""
from functools import lru_cache

import torch

from benchmarks.protocols.worlds import WORLD_SEEDS
from ssl_workbench import probes
from ssl_workbench.world import World


@lru_cache(maxsize=None)
def unseen_pairs(kind, level, size, stride, n, seed=WORLD_SEEDS['pairs'], device='cpu'):
    "n pairs float 0-1 (n,3,H,W) twice, their flow (n,2,H,W) in pixels, which pixels both frames see (n,1,H,W)"
    pairs = World(kind, level, (size, size), 2, n, seed=seed, pool=False, stride=stride).batch(range(n), device)
    return *(pairs['frames'].cpu() / 255).unbind(1), pairs['flow'][:, 0].cpu(), pairs['visible'][:, 0].cpu()


@torch.no_grad()
def estimate(source, a, b, n=16):
    "(N,2,H,W): flow of pairs, n at a time; source: two (B,3,H,W) → (B,2,H,W)"
    return torch.cat([source(x, y).float().cpu() for x, y in zip(a.split(n), b.split(n))])


def constant_flow(truth):
    "(N,2,H,W): the best constant flow of every pair, found on every third pixel"
    return probes.best_constant(truth[..., 1::3, 1::3], steps=50).expand_as(truth)


def relative_epe(flow, truth):
    "End-point error as a part of what zero flow gets"
    return probes.epe(flow, truth) / probes.epe(torch.zeros_like(truth), truth)


def flow_error(source, kind, stride, config, protocol, device):
    "Relative end-point error of a source on the claims' unseen pairs"
    a, b, truth, _ = unseen_pairs(kind, config.level, config.canvas, stride, protocol.pairs, device=str(device))
    return relative_epe(estimate(source, a, b, 32), truth)
