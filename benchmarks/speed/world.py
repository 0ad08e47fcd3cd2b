"""How fast the world is drawn, and how long training waits for it: `python -m benchmarks.speed.world`.

Frames a second: videos of 64 by 64 pixels with all their truth, kind by kind and level by level, on all cores.
Waiting: the share of a training run's time in which SlotMIM's cpu preset waits for pictures of the seeded pool; its
first pass draws them, later passes find them in memory, so both are measured and weighted as in the preset's whole run.
The result goes to benchmarks/results/world.json.
"""
import statistics
import time
from dataclasses import replace

from benchmarks.provenance import positive_int
from benchmarks.speed.measure import options, save
from ssl_workbench import training, world
from ssl_workbench.methods.slotmim import presets

SIZE, FRAMES, VIDEOS, POOL = (64, 64), 8, 8, 4096  # POOL: pictures in a default world, as training draws them
GOAL = dict(frames_per_second=200, waiting=.15)


def frames_per_second(kind, level, seconds):
    "Median over batches of fresh videos, all truth included"
    draw = lambda start: world.batch(range(start, start + VIDEOS), kind=kind, level=level, size=SIZE, frames=FRAMES)
    draw(0)
    rates, first = [], time.perf_counter()
    while time.perf_counter() - first < seconds or len(rates) < 3:
        start = time.perf_counter()
        draw(VIDEOS * (1 + len(rates)))
        rates.append(VIDEOS * FRAMES / (time.perf_counter() - start))
    return statistics.median(rates)


def waiting(steps):
    "Seconds a step of SlotMIM's cpu preset takes and waits, while pictures are new and when they are in the pool"
    config = replace(presets['cpu'], steps=2 * steps + 1)
    data = world.World(config.kind, config.level, (config.size,) * 2, frames=1, length=steps * config.batch,
                       truth=False)
    learner = training.learner_of('slotmim', config, data, device='cpu')
    learner.progress = False
    data.batch(range(config.batch), 'cpu')  # tables of shapes and textures are made once a process
    data.pool.clear()
    rows = [(s.seconds, s.waited) for s in learner.steps(2 * steps)]
    parts = dict(new=rows[1:steps], pooled=rows[steps:])  # the very first step warms up
    return {k: dict(seconds=statistics.mean(s for s, _ in v), waited=statistics.mean(w for _, w in v))
            for k, v in parts.items()}


def share_of_run(found):
    "The share of the preset's whole run spent waiting"
    config = presets['cpu']
    new = min(config.steps, POOL // config.batch)
    weights = dict(new=new, pooled=config.steps - new)
    total = {q: sum(weights[k] * found[k][q] for k in weights) for q in ('seconds', 'waited')}
    return total['waited'] / total['seconds']


def table(found, threads):
    "The result in words"
    levels = range(len(world.LEVELS))
    lines = [f'{"frames/s":10}' + ''.join(f'level {level:<6}' for level in levels)]
    lines += [f'{kind:10}' + ''.join(f'{rates[str(level)]:<12.0f}' for level in levels)
              for kind, rates in found['frames_per_second'].items()]
    w = found['waiting']
    lines += [f"slowest {found['slowest']:.0f} frames/s (wanted: {GOAL['frames_per_second']}); "
              f'64 x 64, all truth, {threads} threads',
              *(f"{k}: {w[k]['seconds'] * 1e3:.0f} ms a step, {w[k]['waited'] * 1e3:.0f} of them waiting for pictures"
                for k in ('new', 'pooled')),
              f"of a whole cpu run {w['run']:.1%} is waiting (wanted: below {GOAL['waiting']:.0%})"]
    return '\n'.join(lines)


def main(argv=None):
    "Measure, print, write"
    args = options('benchmarks.speed.world', __doc__, argv,
                   seconds=dict(type=float, default=2., help='for each kind and level'),
                   steps=dict(type=positive_int, default=12, help='with new pictures, and as many with pooled ones'))
    rates = {k: {str(level): round(frames_per_second(k, level, args.seconds), 1) for level in range(len(world.LEVELS))}
             for k in world.kinds}
    waited = waiting(max(args.steps, 2))
    found = dict(size=SIZE, frames=FRAMES, videos=VIDEOS, frames_per_second=rates,
                 slowest=min(r for row in rates.values() for r in row.values()),
                 waiting=waited | dict(run=share_of_run(waited)), goal=GOAL)
    print(table(found, args.threads))
    save('world', 'the world', found, args)


if __name__ == '__main__': main()
