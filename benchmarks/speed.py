"""How fast SlotMIM's cpu preset trains and looks, on this machine: `python -m benchmarks.speed [world] [app]`.

Named benchmarks run after it, each as a command of its own. The result goes to benchmarks/results/speed.json.
"""
import argparse
import importlib.util
import os
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import torch

from benchmarks.claims.machine import RESULTS, commit, machine_words, natural, versions, write
from ssl_workbench import catalog, core, world
from ssl_workbench.methods.slotmim import presets

MORE = ('world', 'app')


def training(config, device, steps):
    "Images a second of a whole training step, views and teacher included, waiting for data left out"
    data = world.World(config.kind, config.level, (config.size,) * 2, frames=1, length=config.batch, truth=False)
    learner = catalog.learner_of('slotmim', replace(config, steps=steps + 3), data, device=device)
    learner.progress = False
    times = [s.seconds - s.waited for s in learner.steps(steps + 2)]
    return config.batch / statistics.median(times[2:])


@torch.no_grad()
def looking(config, device, repeats):
    "Images a second of the teacher's features"
    method = catalog.build('slotmim', config).eval().to(device)
    x = torch.rand(config.batch, 3, config.size, config.size, device=device)
    def once():
        start = time.perf_counter()
        method.features(x)['pooled'].cpu()
        return time.perf_counter() - start
    return config.batch / statistics.median([once() for _ in range(repeats + 2)][2:])


def main(argv=None):
    "Measure, print, write, then run what else was named; exit code 2 for what is not there"
    argv = sys.argv[1:] if argv is None else argv
    p = argparse.ArgumentParser(prog='python -m benchmarks.speed', description="How fast SlotMIM's cpu preset is.")
    p.add_argument('more', nargs='*', help=f"benchmarks to run afterwards: {', '.join(MORE)}")
    p.add_argument('--steps', type=natural, default=12, help='steps that are timed')
    p.add_argument('--threads', type=natural, default=os.cpu_count(), help='of torch')
    p.add_argument('--device', default='cpu', help='cpu, cuda, …')
    args = p.parse_args(argv)
    lost = [m for m in args.more if m not in MORE or not importlib.util.find_spec(f'benchmarks.{m}')]
    if lost: print(f"there is no benchmark '{lost[0]}' here: choose among {', '.join(MORE)}", file=sys.stderr); return 2
    torch.set_num_threads(args.threads)
    config, device = presets['cpu'], core.device(args.device)
    train, look = training(config, device, args.steps), looking(config, device, args.steps)
    print(f'SlotMIM, cpu preset, {config.size} px, batches of {config.batch}, {machine_words(device)}, {args.threads} threads:')
    print(f'  training   {train:8.0f} images/s ({config.batch / train * 1e3:.0f} ms a step, {config.batch / train * config.steps:.0f} s a run of {config.steps} steps)')
    print(f'  features   {look:8.0f} images/s')
    write(RESULTS/'speed.json', dict(kind='speed', what="SlotMIM's cpu preset", size=config.size, batch=config.batch, steps=config.steps,
          training_images_per_second=round(train, 1), features_images_per_second=round(look, 1), threads=args.threads, device=machine_words(device),
          versions=versions(), commit=commit(), command=shlex.join(['python', '-m', 'benchmarks.speed', *argv])))
    return max([subprocess.run([sys.executable, '-m', f'benchmarks.{m}']).returncode for m in args.more], default=0)


if __name__ == '__main__': sys.exit(main())
