"""What sparse students and many queries cost: `python -m benchmarks.tokens`. The result goes to benchmarks/results/tokens.json.

DILEMMA: one training step (views left out, teacher included) of a ViT with 196 tokens at each of the four ratios as scheduled,
total time over total images, against the same classic with everything shown. LOCA: one step with ten queries against one.
Times are the processor's own on a CPU, so that other work on the machine does not count; the least of several tries.
"""
import argparse
import os
import shlex
import sys
from dataclasses import replace

import torch

from benchmarks.claims.dilemma import clocked, cost, protocols
from benchmarks.claims.machine import RESULTS, commit, machine_words, natural, versions, write
from ssl_workbench import catalog, core, world
from ssl_workbench.methods import dilemma, loca

SIDE = dict(size=112, canvas=112)   # 14 × 14 patches of 8 pixels
DENSE = dict(task='none', ratios=(0.,), growth=(1,))


def sparse(base, tries, batch, device):
    "Milliseconds and kept megabytes an image of a classic alone and with DILEMMA"
    config = replace(dilemma.on(base), **SIDE, batch=batch, steps=tries)
    protocol = replace(protocols['cpu'], pool=4 * batch)
    found = {name: cost(c, protocol, 0, device) for name, c in dict(dense=replace(config, **DENSE), dilemma=config).items()}
    return found | dict(time_ratio=found['dilemma']['time'] / found['dense']['time'], memory_ratio=found['dilemma']['memory'] / found['dense']['memory'])


def queries(n, tries, batch, device):
    "Milliseconds an image of one LOCA step with n queries, at the paper's proportions: 14 × 14 patches of reference, 6 × 6 of a small query"
    config = replace(loca.cpu, size=112, small=48, canvas=112, queries=n, batch=batch)
    core.seed_everything(0)
    method = catalog.build('loca', config).to(device).train()
    frames = world.batch(torch.arange(batch), kind='scene', level=0, size=(112, 112), frames=1, truth=False)['frames']
    views = {k: v.to(device) for k, v in loca.Views(config)(dict(frames=frames, seed=torch.arange(batch))).items()}
    return 1e3 / batch * min(clocked(method, views, device) for _ in range(tries))


def main(argv=None):
    "Measure, print, write"
    argv = sys.argv[1:] if argv is None else argv
    p = argparse.ArgumentParser(prog='python -m benchmarks.tokens', description=__doc__.splitlines()[0])
    p.add_argument('--tries', type=natural, default=4, help='of each step; the least counts')
    p.add_argument('--batch', type=natural, default=16, help='images where nothing is dropped')
    p.add_argument('--threads', type=natural, default=1, help='of torch')
    p.add_argument('--device', default='cpu', help='cpu, cuda, …')
    args = p.parse_args(argv)
    torch.set_num_threads(args.threads)
    rows = {base: sparse(base, args.tries, args.batch, args.device) for base in ('mocov3', 'simclr', 'dino')}
    ten, one = (queries(n, args.tries, args.batch, args.device) for n in (10, 1))
    print(f'196 tokens, batches of {args.batch}, {machine_words(args.device)}, {args.threads} threads of {os.cpu_count()}')
    for base, r in rows.items(): print(f"  DILEMMA on {base:7s} {r['dilemma']['time']:6.1f} ms an image, alone {r['dense']['time']:6.1f}: time × {r['time_ratio']:.2f}, memory × {r['memory_ratio']:.2f}")
    print(f'  LOCA, ten queries {ten:6.1f} ms an image, one {one:6.1f}: × {ten / one:.2f}')
    write(RESULTS/'tokens.json', dict(kind='speed', what='sparse students, many queries', dilemma=rows, loca=dict(ten=ten, one=one, ratio=ten / one), batch=args.batch,
          tries=args.tries, threads=args.threads, device=machine_words(args.device), versions=versions(), commit=commit(),
          command=shlex.join(['python', '-m', 'benchmarks.tokens', *argv])))
    return 0


if __name__ == '__main__': sys.exit(main())
