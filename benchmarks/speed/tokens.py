"""What sparse students and many queries cost: `python -m benchmarks.speed.tokens`.

DILEMMA: one training step (views left out, teacher included) of a ViT with 196 tokens at each of the four ratios as
scheduled, total time over total images, against the same classic with everything shown. LOCA: one step with ten
queries against one. Times are the processor's own on a CPU, so that other work on the machine does not count; the least
of several tries. The result goes to benchmarks/results/tokens.json.
"""
import os
from dataclasses import replace

import torch

from benchmarks.claims.dilemma import protocols
from benchmarks.protocols.cost import cost_per_image, step_seconds
from benchmarks.provenance import device_name, positive_int
from benchmarks.speed.measure import options, save
from ssl_workbench import catalog, core, world
from ssl_workbench.methods import dilemma, loca

SIDE = dict(size=112, canvas=112)   # 14 × 14 patches of 8 pixels
DENSE = dict(task='none', ratios=(0.,), growth=(1,))


def sparse(base, tries, batch, device):
    "Milliseconds and kept megabytes an image of a classic alone and with DILEMMA"
    config = replace(dilemma.config_on(base), **SIDE, batch=batch, steps=tries)
    protocol = replace(protocols['cpu'], pool=4 * batch)
    configs = dict(dense=replace(config, **DENSE), dilemma=config)
    found = {name: cost_per_image(c, protocol, 0, device) for name, c in configs.items()}
    ratio = lambda what: found['dilemma'][what] / found['dense'][what]
    return found | dict(time_ratio=ratio('time'), memory_ratio=ratio('memory'))


def queries(n, tries, batch, device):
    "Milliseconds an image of one LOCA step with n queries, at the paper's 14 × 14 patches of reference, 6 × 6 of query"
    config = replace(loca.cpu, size=112, small=48, canvas=112, queries=n, batch=batch)
    core.seed_everything(0)
    method = catalog.build('loca', config).to(device).train()
    seeds = torch.arange(batch)
    frames = world.batch(seeds, kind='scene', level=0, size=(112, 112), frames=1, truth=False)['frames']
    views = {k: v.to(device) for k, v in loca.Views(config)(dict(frames=frames, seed=seeds)).items()}
    return 1e3 / batch * min(step_seconds(method, views, device) for _ in range(tries))


def main(argv=None):
    "Measure, print, write"
    args = options('benchmarks.speed.tokens', __doc__, argv, threads=1,
                   tries=dict(type=positive_int, default=4, help='of each step; the least counts'),
                   batch=dict(type=positive_int, default=16, help='images where nothing is dropped'),
                   device=dict(default='cpu', help='cpu, cuda, …'))
    rows = {base: sparse(base, args.tries, args.batch, args.device) for base in ('mocov3', 'simclr', 'dino')}
    ten, one = (queries(n, args.tries, args.batch, args.device) for n in (10, 1))
    print(f'196 tokens, batches of {args.batch}, {device_name(args.device)}, '
          f'{args.threads} threads of {os.cpu_count()}')
    for base, r in rows.items():
        print(f"  DILEMMA on {base:7s} {r['dilemma']['time']:6.1f} ms an image, alone {r['dense']['time']:6.1f}: "
              f"time × {r['time_ratio']:.2f}, memory × {r['memory_ratio']:.2f}")
    print(f'  LOCA, ten queries {ten:6.1f} ms an image, one {one:6.1f}: × {ten / one:.2f}')
    found = dict(dilemma=rows, loca=dict(ten=ten, one=one, ratio=ten / one), batch=args.batch, tries=args.tries)
    save('tokens', 'sparse students, many queries', found, args)


if __name__ == '__main__': main()
