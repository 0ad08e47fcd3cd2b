"""What a predicted frame and a training step cost: `python -m benchmarks.speed.prediction`.

Wall seconds of one 64×64 frame at 10 network calls (half as many steps with guidance) with the bundled RIVER (the cpu
preset as drawn where none is bundled; decoding is counted, the median of several tries). Then the same frame after
pasts of up to 1,000 frames: seconds to draw its latents, a line through them, and the last over the first. Peak memory
of a process that does both. Last, a training step of the same network in float32 and in bf16: views, latents and
gradients, waiting for data left out. The result goes to benchmarks/results/prediction.json.
"""
import os
import resource
import time
from dataclasses import replace
from statistics import median

import torch

from benchmarks.provenance import device_name, positive_int
from benchmarks.speed.measure import median_seconds, options, save
from ssl_workbench import catalog, core, training
from ssl_workbench.methods.river import Rollout
from ssl_workbench.world import World

LENGTHS = (2, 10, 30, 100, 300, 1000)
CALLS = 10


def model():
    "RIVER, and whose weights these are"
    if 'river' in catalog.cards(): return catalog.load('river'), 'bundled'
    core.seed_everything(0)
    return catalog.build('river', 'cpu').eval(), 'cpu preset as drawn'


def steps_of(method):
    "That take so many calls"
    return CALLS // (2 if method.config.guidance > 1 else 1)


def past(method, length):
    "Latents (1,length,c,h,w) of a film: noise, since what they hold costs nothing"
    return torch.randn(1, length, *method.config.shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def frame_seconds(method, tries):
    "One frame after two, from pixels to pixels"
    frames = torch.rand(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seconds = median_seconds(lambda: method.predict(frames, 1, steps=steps_of(method)), tries)
    if method.calls != CALLS: raise RuntimeError(f'{method.calls} network calls, not {CALLS}')
    return seconds


@torch.no_grad()
def lengths_seconds(method, tries):
    "length of the past → seconds of one frame; the lengths take turns, so that a busy moment hits all of them"
    pasts, times = {n: past(method, n) for n in LENGTHS}, {n: [] for n in LENGTHS}
    for _ in range(tries + 1):
        for n, z in pasts.items():
            start = time.perf_counter()
            for _ in Rollout(method, z, 1, 0, 'euler', steps_of(method)).frames(): pass
            times[n].append(time.perf_counter() - start)
    return {n: median(t[1:]) for n, t in times.items()}


def slope(cost):
    "Seconds that a thousand more frames of past add, by least squares"
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (list(cost), list(cost.values())))
    return ((x - x.mean()) * (y - y.mean())).sum().item() / (x - x.mean()).square().sum().item() * 1000


def step_seconds(config, precision, tries):
    "One training step in that precision"
    data = World(config.kind, config.level, (config.canvas,) * 2, config.frames, config.batch, truth=False)
    learner = training.learner_of('river', replace(config, precision=precision, steps=tries + 3), data, device='cpu')
    learner.progress = False
    return median([s.seconds - s.waited for s in learner.steps()][3:])


def main(argv=None):
    "Measure, print, write"
    tries = dict(type=positive_int, default=9, help='of every time; the median counts')
    args = options('benchmarks.speed.prediction', __doc__, argv, threads=2, tries=tries)
    method, weights = model()
    seconds, cost = frame_seconds(method, args.tries), lengths_seconds(method, args.tries)
    found = dict(weights=weights, calls=CALLS, frame_seconds=seconds, past_seconds=cost,
                 slope_seconds_per_1000_frames=slope(cost), last_over_first=cost[LENGTHS[-1]] / cost[LENGTHS[0]],
                 memory_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, tries=args.tries)
    found['step_seconds'] = {name: step_seconds(method.config, precision, args.tries)
                             for name, precision in (('float32', 'no'), ('bf16', 'bf16'))}
    print(f'one frame, {CALLS} network calls: {seconds:.3f} s with {args.threads} threads of {os.cpu_count()}, '
          f"{device_name()}; peak memory {found['memory_gb']:.2f} GB")
    for n, s in cost.items(): print(f'  after {n:5} frames: {s:.3f} s')
    print(f"  {1000 * found['slope_seconds_per_1000_frames']:+.1f} ms a thousand frames; "
          f"last over first {found['last_over_first']:.2f}")
    steps = ', '.join(f'{s:.3f} s in {name}' for name, s in found['step_seconds'].items())
    print(f'a training step of {method.config.batch}: {steps}')
    what = 'a predicted frame of 64×64 at 10 network calls; its cost after a longer and longer past'
    save('prediction', what, found, args)


if __name__ == '__main__': main()
