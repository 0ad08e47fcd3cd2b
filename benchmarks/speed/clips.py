"""What dropping tokens of clips saves: `python -m benchmarks.speed.clips`.

One ViDROP training step (views left out, teacher and local clips included) at several drop rates against the dense one,
on the same clips, and one pass of the student's encoder alone beside the count of its operations. Times are the
processor's own on a CPU, so that other work on the machine does not count; the least of several tries, the rates in
turn. The result goes to benchmarks/results/clips.json.
"""
from dataclasses import replace

import torch

from benchmarks.protocols.clips import training_videos
from benchmarks.protocols.cost import now, saved_megabytes, step_seconds
from benchmarks.provenance import device_name, positive_int
from benchmarks.speed.measure import options, save
from ssl_workbench import core
from ssl_workbench.methods.vidrop import ViDROP, Views, cpu
from ssl_workbench.video_nets import block_flops

RATES = (0., .5, .75, .85, .95)
SHAPE = dict(size=64, canvas=64, length=16, frames=16, dim=192, depth=6, heads=6)   # 512 tokens


def pass_seconds(encoder, x, keep, device):
    "Seconds of a forward and a backward pass of the student's global clips"
    start = now(device)
    encoder(x, keep=keep)[1].sum().backward()
    return now(device) - start


def prepared(config, device):
    "Rate → (method, views), all of the same clips"
    pool, seeds = training_videos(config, config.batch), core.fold_in(torch.arange(config.batch), 'speed').to(device)
    batch, found = pool.batch(range(config.batch), device) | dict(seed=seeds), {}
    for rate in RATES:
        own = replace(config, dropped=rate)
        core.seed_everything(0)
        method = ViDROP(own).to(device).train()
        method.before_step(.5)
        found[rate] = method, Views(own)(batch)
    return found


def measured(config, tries, device):
    "Rate → milliseconds and megabytes a video of the step, milliseconds of the encoder's pass, tokens, operations"
    cases, times, passes = prepared(config, device), {}, {}
    for _ in range(tries):
        for rate, (method, views) in cases.items():
            times.setdefault(rate, []).append(step_seconds(method, views, device))
            x, keep = views['x'].flatten(0, 1), views['keep'].flatten(0, 1)
            passes.setdefault(rate, []).append(pass_seconds(method.student.encoder, x, keep, device))
    each = lambda seconds: 1e3 * min(seconds) / config.batch
    return {rate: dict(step=each(times[rate]), encoder=each(passes[rate]), tokens=replace(config, dropped=rate).kept,
                       memory=saved_megabytes(*cases[rate]) / config.batch,
                       flops=block_flops(replace(config, dropped=rate).kept + 1, config.dim) * config.depth)
            for rate in RATES}


def main(argv=None):
    "Measure, print, write"
    args = options('benchmarks.speed.clips', __doc__, argv, threads=1,
                   tries=dict(type=positive_int, default=4, help='of each step; the least counts'),
                   batch=dict(type=positive_int, default=4, help='videos'),
                   device=dict(default='cpu', help='cpu, cuda, …'))
    rows = measured(replace(cpu, **SHAPE, batch=args.batch), args.tries, args.device)
    print(f'{rows[0.]["tokens"]} tokens a clip, batches of {args.batch}, {device_name(args.device)}, '
          f'{args.threads} threads')
    for rate, r in rows.items():
        r |= dict(step_ratio=rows[0.]['step'] / r['step'], encoder_ratio=rows[0.]['encoder'] / r['encoder'],
                  flops_ratio=rows[0.]['flops'] / r['flops'])
        print(f"  {rate:4.0%} dropped: step {r['step']:7.1f} ms a video, {r['step_ratio']:.2f} times as fast as dense; "
              f"encoder {r['encoder']:7.1f} ms, {r['encoder_ratio']:.2f} (counted {r['flops_ratio']:.2f}); "
              f"{r['memory']:.0f} MB kept")
    save('clips', "ViDROP's step at several drop rates", dict(rates={str(k): v for k, v in rows.items()},
                                                            batch=args.batch, tries=args.tries), args)


if __name__ == '__main__': main()
