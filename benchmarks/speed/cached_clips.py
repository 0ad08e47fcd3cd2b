"""How many videos a second SCALE trains on: `python -m benchmarks.speed.cached_clips`.

One training step (forward and backward pass) on cached features of 2 × 8 clips, at the paper preset's widths, against a
step in which the same clips' pixels go through the backbone, too: every token of it, and 15 % of them; and against the
rows of table 4.1: MoCo v3 on two clips of a video, dense and sparse, and VideoMAE on one, each with that backbone.
Times are the processor's own on a CPU, the least of several tries. Beside them: what the network adds to the backbone's
operations when a video is read (thesis §4.3.1: some .001 %), counted for ViT-B on fifteen clips of 16 × 224². The
result goes to benchmarks/results/cached_clips.json.
"""
from dataclasses import fields, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.protocols.cost import saved_megabytes, step_seconds
from benchmarks.provenance import device_name, positive_int
from benchmarks.speed.measure import options, save
from ssl_workbench import catalog, core
from ssl_workbench.methods.scale import SCALE, Views, paper
from ssl_workbench.methods.scale.joint import Joint
from ssl_workbench.video_nets import VideoViT

TRUNK = dict(size=112, frames=16, patch=16, tubelet=2, dim=384, depth=12, heads=6)    # ViT-S on 8·7·7 tokens
BESIDE = {'MoCo v3': ('video_moco', {}), 'MoCo v3, sparse': ('video_moco', dict(dropped=.85)),
          'VideoMAE': ('videomae', {})}             # rows of table 4.1
CONFIG = replace(paper, inputs=384, size=112, dropout=0.)


def cached_views(config, videos):
    "Views of random features"
    boxes = torch.rand(videos, config.clips, 2, 3).sort(2).values.flatten(2)
    batch = dict(features=torch.randn(videos, config.clips, config.inputs), boxes=boxes,
                 flip=torch.zeros(videos, config.clips, dtype=torch.bool), seed=torch.arange(videos))
    return Views(config)(batch)


def clip_views_of(config, videos, kept):
    "Views of random clips, of which some tokens stay"
    views = cached_views(config, videos)
    shape = (videos, 2, config.views)
    tokens = TRUNK['frames'] // TRUNK['tubelet'] * (TRUNK['size'] // TRUNK['patch'])**2
    keep = torch.rand(*shape, tokens).argsort(-1)[..., :max(1, int(kept * tokens))]
    clips = torch.rand(*shape, TRUNK['frames'], 3, TRUNK['size'], TRUNK['size'])
    return dict(clips=clips, keep=keep, position=views['position'], mask=views['mask'])


def on(views, device): return {k: v.to(device) for k, v in views.items()}


def rate(method, views, videos, tries, device):
    "Videos a second, and megabytes a video that autograd keeps"
    seconds = min(step_seconds(method, views, device) for _ in range(tries))
    return dict(videos_per_second=videos / seconds, megabytes_per_video=saved_megabytes(method, views) / videos)


def scale_rate(videos, tries, device, config=CONFIG):
    "Of SCALE on cached features"
    core.seed_everything(0)
    return rate(SCALE(config).to(device).train(), on(cached_views(config, videos), device), videos, tries, device)


def joint_rate(kept, videos, tries, device, config=CONFIG):
    "Of SCALE with its backbone, on pixels"
    core.seed_everything(0)
    method = Joint(SCALE(config), VideoViT(**TRUNK, cls=False)).to(device).train()
    return rate(method, on(clip_views_of(config, videos, kept), device), videos, tries, device)


def method_rate(name, videos, tries, device, **changes):
    "Of what table 4.1 sets beside it, at the trunk's size: 'video_moco' (two clips a video) or 'videomae' (one)"
    core.seed_everything(0)
    videos = max(videos, 2)                         # batch norm needs two
    home, own = catalog.module(name), {f: TRUNK['frames'] for f in ('frames', 'length')} | dict(canvas=TRUNK['size'])
    known = {f.name for f in fields(home.paper)}
    config = catalog.replace_config(home.paper, {k: v for k, v in (TRUNK | own).items() if k in known} | changes)
    batch = dict(frames=torch.randint(0, 256, (videos, TRUNK['frames'], 3, TRUNK['size'], TRUNK['size'])).byte(),
                 seed=torch.arange(videos), aspect=torch.ones(videos))
    method, views = catalog.build(name, config).to(device).train(), home.Views(config)(batch)
    if hasattr(method, 'before_step'): method.before_step(.5)
    return rate(method, {k: v.to(device) for k, v in views.items() if torch.is_tensor(v)}, videos, tries, device)


def added_operations():
    "SCALE's share of the operations when a video is read: fifteen clips of 16 × 224² through ViT-B"
    with torch.device('meta'):
        trunk, method = VideoViT(size=224, frames=16, patch=16, dim=768, depth=12, heads=12), SCALE(paper)
        clips, features, position = torch.rand(15, 16, 3, 224, 224), torch.rand(1, 15, 768), torch.rand(1, 15, 7)
    counts = []
    for net, given in ((trunk, (clips,)), (method.encoder.eval(), (features, position))):
        with FlopCounterMode(display=False) as counter, torch.no_grad(): net(*given)
        counts.append(counter.get_total_flops())
    return dict(backbone=counts[0], scale=counts[1], percent=100 * counts[1] / counts[0])


def main(argv=None):
    "Measure, print, write"
    args = options('benchmarks.speed.cached_clips', __doc__, argv, threads=1,
                   tries=dict(type=positive_int, default=3, help='of each step; the least counts'),
                   batch=dict(type=positive_int, default=64, help='videos of a step on cached features'),
                   videos=dict(type=positive_int, default=2, help='of a step on pixels'),
                   device=dict(default='cpu', help='cpu, cuda, …'))
    found = dict(cached=scale_rate(args.batch, args.tries, args.device),
                 dense=joint_rate(1., args.videos, 1 if args.device == 'cpu' else args.tries, args.device),
                 sparse=joint_rate(.15, args.videos, args.tries, args.device),
                 **{row: method_rate(name, args.videos, args.tries, args.device, **changes)
                    for row, (name, changes) in BESIDE.items()})
    ratios = {k: found['cached']['videos_per_second'] / found[k]['videos_per_second'] for k in found if k != 'cached'}
    added = added_operations()
    print(f'2 × {CONFIG.views} clips of 16 × 112², ViT-S, {device_name(args.device)}, {args.threads} threads:')
    for name, row in found.items():
        print(f"  {name:15} {row['videos_per_second']:10.3f} videos/s, {row['megabytes_per_video']:8.2f} MB a video")
    print('  cached features ' + ', '.join(f'× {v:.0f} of {k}' for k, v in ratios.items()))
    print(f"  SCALE adds {added['percent']:.5f} % to the operations of ViT-B on fifteen clips")
    save('cached_clips', 'SCALE on cached features and on pixels',
         found | dict(ratios=ratios, added=added, batch=args.batch, videos=args.videos, trunk=TRUNK), args)


if __name__ == '__main__': main()
