"""What distillation costs CLIP: `python -m benchmarks.speed.sfclip`; the thesis' table 7.10, and token dropping (ch. 8).

One training step (views, forward and backward pass; drawing the pictures left out) of CLIP, of CLIP with SimCLR (SLIP),
of CLIP with EMA distillation (MaskCLIP), and of SF-CLIP: all of the batch before its teachers, a subset, teachers
precomputed, half of the patches dropped. Times are the processor's own on a CPU, so that other work on the machine does
not count; the arms take turns, and the least of several tries counts. The teachers are untrained, which costs as much.
By default they are as large as the student; the thesis' are many times larger (`--wider`, `--deeper`), so there the
subset saves more. The result goes to benchmarks/results/sfclip-time.json.
"""
from dataclasses import replace

import torch

from benchmarks.protocols.cost import now
from benchmarks.provenance import device_name, positive_int
from benchmarks.speed.measure import options, save
from ssl_workbench import catalog, core
from ssl_workbench.classics import clip, xlm
from ssl_workbench.methods import sfclip
from ssl_workbench.nets import vit
from ssl_workbench.world import World

THESIS = {'CLIP': 1., 'CLIP + SimCLR': 2.67, 'MaskCLIP': 1.75, 'SF-CLIP, full batch': 2.28, 'SF-CLIP, subset': 1.2}
SHARED = 'size canvas patch dim depth heads text_dim text_depth text_heads context out_dim batch'.split()


def teachers(c, wider, deeper):
    "Untrained teachers of a vision transformer's and XLM's kind"
    vision = vit(c.size, c.patch, c.dim * wider, c.depth * deeper, c.heads * wider)
    language = xlm.XLM(replace(xlm.cpu, dim=c.text_dim * wider, depth=c.text_depth * deeper, heads=c.text_heads * wider,
                               context=c.context))
    return [vision], language


def arms(c, wider, deeper):
    "Name → method, with SF-CLIP's settings for what they share"
    plain = replace(clip.cpu, **{k: getattr(c, k) for k in SHARED})
    found = {name: clip.CLIP(replace(plain, extra=extra))
             for name, extra in (('CLIP', 'none'), ('CLIP + SimCLR', 'simclr'), ('MaskCLIP', 'distill'))}
    given = teachers(c, wider, deeper)
    c = replace(c, vision_dims=(c.dim * wider,), word_dim=c.text_dim * wider)
    changes = {'SF-CLIP, full batch': dict(image_share=1., text_share=1.), 'SF-CLIP, subset': {},
               'SF-CLIP, precomputed': dict(precomputed=True), 'SF-CLIP, half of the patches': dict(dropped=.5)}
    return found | {name: sfclip.SFCLIP(replace(c, **change)).adopt(*given) for name, change in changes.items()}


def stepper(method, data, device):
    "A function that takes one training step and returns its seconds"
    c, home = method.config, catalog.module(type(method).__module__.split('.')[2])
    method.to(device).train()
    if getattr(c, 'precomputed', False): data = sfclip.Precomputed(data, method, device)
    indices = list(range(c.batch))
    data.batch(indices, device)                                       # drawn, and kept

    def step(seed):
        seeds = core.fold_in(torch.arange(c.batch), f'speed {seed}').to(device)
        start = now(device)
        with torch.no_grad(): views = home.Views(c)(data.batch(indices, device) | dict(seed=seeds))
        sum(method.loss(method(views)).values()).backward()
        method.after_step(.5)
        seconds = now(device) - start
        method.zero_grad(set_to_none=True)
        return seconds
    return step


def main(argv=None):
    "Measure, print, write"
    args = options('benchmarks.speed.sfclip', __doc__, argv, threads=1,
                   tries=dict(type=positive_int, default=5, help='of each step; the least counts'),
                   batch=dict(type=positive_int, default=64, help='pairs a step'),
                   preset=dict(default='cpu', choices=tuple(sfclip.presets), help="SF-CLIP's"),
                   wider=dict(type=positive_int, default=1, help='teachers: times the width of the student'),
                   deeper=dict(type=positive_int, default=1, help='teachers: times its depth'),
                   device=dict(default='cpu', help='cpu, cuda, …'))
    core.seed_everything(0)
    c = replace(sfclip.presets[args.preset], batch=args.batch)
    data = World(c.kind, c.level, (c.canvas,) * 2, 1, args.batch, truth=False, captions=True)
    steps = {name: stepper(method, data, args.device) for name, method in arms(c, args.wider, args.deeper).items()}
    times = {name: [] for name in steps}
    for k in range(args.tries + 1):
        for name, step in steps.items(): times[name].append(step(k))
    best = {name: 1e3 * min(t[1:]) for name, t in times.items()}
    ratios = {name: t / best['CLIP'] for name, t in best.items()}
    print(f'{args.preset} preset, batches of {args.batch}, teachers × {args.wider} wide, × {args.deeper} deep, '
          f'{device_name(args.device)}, {args.threads} threads:')
    for name, t in best.items():
        print(f'  {name:30} {t:9.1f} ms a step  × {ratios[name]:.2f}   thesis {THESIS.get(name, "-")}')
    save('sfclip-time', 'what distillation costs CLIP (thesis, table 7.10)',
         dict(milliseconds=best, ratios=ratios, thesis=THESIS, preset=args.preset, batch=args.batch, tries=args.tries,
              wider=args.wider, deeper=args.deeper), args)


if __name__ == '__main__': main()
