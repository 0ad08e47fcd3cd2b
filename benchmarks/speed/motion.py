"""What motion costs, and whether it stays finite: `python -m benchmarks.speed.motion`.

Flow of one 256×448 pair with the bundled MC-JEPA (wall seconds, the median of several tries). Peak memory of one
training step of PooDLe's ResNet-50 at 256×512, batch 4, and of MC-JEPA's cpu and gpu presets (each in a process of its
own, resident size). `--seeds 20`: whole runs of both methods' cpu presets, a seed each: does a term ever cease to be
finite? The result goes to benchmarks/results/motion.json.
"""
import os
import resource
import subprocess
import sys

import torch

from benchmarks.provenance import RESULTS, device_name, positive_int, read_json, write_json
from benchmarks.speed.measure import about, median_seconds, options
from ssl_workbench import catalog, core, training
from ssl_workbench.learner import Diverged

STEPS = {                          # what is measured → method, preset, changes
    'PooDLe, ResNet-50, 256×512, batch 4': ('poodle', 'paper',
                                            dict(size=(256, 512), canvas=(360, 640), batch=4, pictures=8)),
    'PooDLe, cpu preset': ('poodle', 'cpu', {}), 'MC-JEPA, cpu preset': ('mcjepa', 'cpu', {}),
    'MC-JEPA, gpu preset, batch 8': ('mcjepa', 'gpu', dict(batch=8, pictures=16)),
    'FlowE, cpu preset': ('flowe', 'cpu', {})}


def learner(name, preset, changes, seed=0):
    "A learner on the world that the preset names"
    config = catalog.replace_config(core.pick(catalog.module(name).presets, preset), changes)
    data = training.training_data(f'world:{config.kind}:{config.level}', catalog.find(name), config)
    return training.learner_of(name, config, data, seed, device='cpu')


def step_memory(what):
    "Gigabytes at the peak of one training step; call it in a process of its own"
    name, preset, changes = STEPS[what]
    next(learner(name, preset, changes).steps(1))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def step_memory_in_process(what, threads):
    "`step_memory` in a fresh process"
    code = (f'import torch; torch.set_num_threads({threads}); '
            f'from benchmarks.speed.motion import step_memory; print(step_memory({what!r}))')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    if done.returncode: raise RuntimeError(f'{what}: {done.stderr.strip().splitlines()[-1]}')
    return float(done.stdout.split()[-1])


def flow_seconds(tries):
    "Seconds for the flow of one 256×448 pair; None where no weights are bundled"
    if 'mcjepa' not in catalog.cards(): return None
    method = catalog.load('mcjepa')
    a, b = torch.rand(2, 1, 3, 256, 448, generator=torch.Generator().manual_seed(0))
    return median_seconds(lambda: method.flow(a, b), tries)


def divergence(name, seed, changes=None):
    "'' when all terms of a whole cpu run are finite, else the sentence with which it stopped"
    try:
        for _ in learner(name, 'cpu', changes or {}, seed).steps(): pass
    except Diverged as error: return str(error)
    return ''


def finite(name, seeds, changes):
    "Yields what is known of a method after each seed: how many runs, of how many steps, which of them stopped and why"
    stopped = {}
    for seed in range(seeds):
        if words := divergence(name, seed, changes): stopped[seed] = words
        yield dict(seeds=seed + 1, steps=changes.get('steps', catalog.module(name).cpu.steps), stopped=dict(stopped))


def main(argv=None):
    "Measure, print, write"
    args = options('benchmarks.speed.motion', __doc__, argv, threads=2,
                   tries=dict(type=int, default=5, help='of the flow, the median counts; 0: neither time nor memory'),
                   seeds=dict(type=int, default=0, help='whole runs of MC-JEPA and PooDLe; 0: none'),
                   steps=dict(type=positive_int, help="of such a run; the preset's when left out"))
    file = RESULTS/'motion.json'
    found = (read_json(file) or {}) | dict(kind='speed', what='flow of a pair, memory of a step, runs that stay finite')
    if args.tries:
        memory = {what: step_memory_in_process(what, args.threads) for what in STEPS}
        found['cost'] = dict(flow_seconds=flow_seconds(args.tries), memory_gb=memory, **about(args))
        print(f"flow of a 256×448 pair: {found['cost']['flow_seconds'] or float('nan'):.2f} s "
              f'with {args.threads} threads of {os.cpu_count()}, {device_name()}')
        for what, gb in memory.items(): print(f'  {what:40} {gb:.2f} GB')
        write_json(file, found)
    for name in ('mcjepa', 'poodle') if args.seeds else ():
        for r in finite(name, args.seeds, dict(steps=args.steps) if args.steps else {}):
            found['finite'] = found.get('finite', {}) | {name: r | about(args)}
            write_json(file, found)
        print(f"  {name}: {r['seeds'] - len(r['stopped'])} of {r['seeds']} runs of {r['steps']} steps stayed finite",
              *r['stopped'].values())


if __name__ == '__main__': main()
