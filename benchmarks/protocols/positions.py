"""Positions of patches: misplaced ones to detect (DILEMMA), queries to locate in a reference (LOCA)."""
import torch

from ssl_workbench import core
from ssl_workbench.methods import dilemma, loca
from ssl_workbench.views import keep_tokens

# ---- misplaced patches

def misplaced_patches(config, n, ratio, stream):
    "(n,m) each: cells kept, positions they are given, which are wrong; with nothing dropped, patches swap positions"
    seeds = core.fold_in(torch.arange(n), stream)
    keep, dropped = keep_tokens(seeds, 'judged', config.cells, config.kept(ratio))
    return keep, *dilemma.misplaced(keep, dropped, config.wrong(keep.shape[1]), seeds)


@torch.no_grad()
def mismatch(method, images, keep, given):
    "(N,m): probability of a wrong position for every patch kept, 100 images at a time"
    device = next(method.parameters()).device
    parts = zip(images.split(100), given.split(100), keep.split(100))
    return torch.cat([method.mismatch(*(v.to(device) for v in part)).cpu() for part in parts])


# ---- queries in a reference

def query_reference_views(config, frames, stream, n=50):
    "LOCA's views of frames, n at a time, drawn as in training but for the seeds"
    seeds = core.fold_in(torch.arange(len(frames)), stream).to(frames.device)
    return [loca.Views(config)(dict(frames=f, seed=s)) for f, s in zip(frames.split(n), seeds.split(n))]


def most_frequent(cells):
    "The cell that is right most often; cells: int, below 0 where there is none"
    return cells[cells >= 0].bincount().argmax()


def cell_accuracy(predicted, cells):
    "Share of the patches that lie in the reference and are put into the right cell"
    return float((predicted == cells)[cells >= 0].float().mean())
