"""Photographs: how much of a picture one slot takes, and whether the slot in the centre finds the object.

    python -m benchmarks.protocols.photographs [NAME_OR_RUN ...] [--pictures 200] [--side 128] [--seeds 3]

prints and writes to benchmarks/results/photographs.json, for each network (default: all bundled ones with slots):

- coverage: on photographs of Tiny-ImageNet val, evenly over its classes, the share of pictures of which one slot covers
  more than 75 %; a network without slots gives k-means of its patch features;
- CorLoc: the box of the slot that best covers the centre (its largest connected piece) against the true boxes, IoU at
  least .5, beside a random network of its kind, k-means on colour and the central box that does best.

Boxes are Tiny-ImageNet's where they are there (tiny-imagenet-200, or tiny_imagenet_val_boxes.txt beside the zips); else
those of DAVIS's masks, frames evenly over its sequences. Intervals are 95 % t-intervals over classes or sequences, as
pictures of one are not independent; differences are paired by them.
"""
import argparse
import sys
from collections import defaultdict

import torch
import torch.nn.functional as F

from benchmarks.protocols import davis
from benchmarks.protocols.worlds import in_chunks
from benchmarks.provenance import RESULTS, command, commit, device_name, positive_int, versions, write_json
from ssl_workbench import catalog, core, data, probes

LARGEST, K, SIDE, PICTURES = .75, 5, 128, 200
SHARES = (.3, .4, .5, .6, .7, .8, .9)                   # sides of central boxes, parts of the picture's


# ---- pictures

def squares(samples, side):
    "(N,3,side,side) float 0–1 of pictures (1,3,H,W) uint8"
    return torch.cat([F.interpolate(s['frames'][:1] / 255, (side, side), mode='bicubic', antialias=True).clamp(0, 1)
                      for s in samples])


def tiny_photographs(n=PICTURES, side=SIDE):
    "Photographs of Tiny-ImageNet val, evenly over its classes: images, boxes in pixels or None, class of each"
    photos = data.TinyImageNet(split='val', count=n)
    samples = list(photos)
    boxes = torch.cat([s['boxes'][0][None] for s in samples]) * side / 64 if 'boxes' in samples[0] else None
    return squares(samples, side), boxes, [s['label'] for s in samples]


def davis_photographs(n=PICTURES, side=SIDE):
    "Frames of DAVIS, evenly over its sequences: images, boxes of the masks, sequence of each"
    images, boxes, groups = [], [], []
    films = data.Davis(frames=None)
    for name, film in zip(films.names, films):
        seen = film['instances'].flatten(1).any(1).nonzero()[:, 0]
        each = max(1, round(n / len(films)))
        for t in seen[torch.linspace(0, len(seen) - 1, each).long()].tolist():
            h, w = film['frames'].shape[-2:]
            box = box_of(film['instances'][t])
            boxes.append(box * torch.tensor([side / w, side / h] * 2))
            images.append(dict(frames=film['frames'][t:t + 1]))
            groups.append(name)
    return squares(images, side), torch.stack(boxes)[:, None], groups


def box_of(mask):
    "(4,) xyxy around what is not 0"
    y, x = mask.nonzero().unbind(1)
    return torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()


# ---- segments

def segments(method, images):
    "(N,h,w) the slot of each patch; of a network without slots, k-means of its patch features picture by picture"
    device = next(method.parameters()).device
    if hasattr(method, 'slots'): return in_chunks(lambda x: method.slots(x.to(device)).cpu(), images, 50)
    return probes.cluster_maps(in_chunks(probes.feature_maps(method), images, 50), K)


def colour_segments(images, grid, k=K):
    "(N,h,w): k-means of the patches' mean colour, picture by picture"
    return probes.cluster_maps(probes.patch_colour(images, grid), k)


def largest_shares(labels):
    "(N,) the share of each picture that its largest segment covers"
    flat = labels.flatten(1)
    return torch.stack([torch.bincount(row).max() / len(row) for row in flat])


def central_boxes(labels, side):
    "(N,4) around the largest connected piece of the segment that covers most of the central half"
    h, w = labels.shape[1:]
    scale = torch.tensor([side / w, side / h] * 2)
    pieces, boxes = probes.connected_components(labels), []
    for label, piece in zip(labels, pieces):
        k = label[h // 4:h - h // 4, w // 4:w - w // 4].flatten().mode().values
        boxes.append(box_of(piece == piece[label == k].mode().values) * scale)
    return torch.stack(boxes)


# ---- scores

def hits(boxes, truth):
    "(N,) 1 where the box finds a true one"
    return torch.tensor([probes.corloc(b[None], t[None]) for b, t in zip(boxes, truth)], dtype=torch.float64)


def by_group(values, groups):
    "Mean a group, in the groups' order"
    found = defaultdict(list)
    for value, group in zip(values.tolist(), groups): found[group].append(value)
    return torch.tensor([sum(v) / len(v) for v in found.values()], dtype=torch.float64)


def interval(values, groups):
    "dict(value, half) over groups"
    value, half = probes.interval(by_group(values, groups))
    return dict(value=round(value, 4), half=round(half, 4))


def measure(method, photographs, boxed, seeds):
    "Coverage and CorLoc of a network, beside what it has to beat"
    images, truth, groups = boxed
    side, grid = images.shape[-1], (images.shape[-1] // method.patch,) * 2
    central = lambda labels: hits(central_boxes(labels, side), truth)
    ours = central(segments(method, images))
    drawn = torch.stack([central(segments(probes.random_init(method, images[:50], seed), images))
                         for seed in range(seeds)]).mean(0)
    colour = {k: central(colour_segments(images, grid, k)) for k in (2, 3, K)}
    best = max(colour, key=lambda k: colour[k].mean())
    boxes = {s: torch.tensor([[.5 - s / 2] * 2 + [.5 + s / 2] * 2]).mul(side).expand(len(images), 4) for s in SHARES}
    middle = max((hits(b, truth) for b in boxes.values()), key=lambda x: x.mean())
    rows = {'ours': ours, 'random init': drawn, f'k-means on colour, k={best}': colour[best],
            'best central box': middle}
    shares = largest_shares(segments(method, photographs))
    return dict(coverage=dict(over_three_quarters=(shares > LARGEST).double().mean().item(),
                              mean_largest=shares.double().mean().item(), pictures=len(shares)),
                corloc={name: interval(x, groups) for name, x in rows.items()},
                above={name: interval(ours - x, groups) for name, x in rows.items() if name != 'ours'})


def main(argv=None):
    "Exit code 2 where the pictures are not there"
    p = argparse.ArgumentParser(prog='python -m benchmarks.protocols.photographs', description=__doc__.splitlines()[0])
    p.add_argument('networks', nargs='*', help='bundled names, runs or files; default: the bundled ones with slots')
    p.add_argument('--pictures', type=positive_int, default=PICTURES)
    p.add_argument('--side', type=positive_int, default=SIDE, help='pixels')
    p.add_argument('--seeds', type=positive_int, default=3, help='of random networks')
    args = p.parse_args(argv)
    root = core.data_root()
    if root is None or not davis.available():
        print('Tiny-ImageNet and DAVIS are not in the data folder: SSL_DATA names it', file=sys.stderr)
        return 2
    images, boxes, groups = tiny_photographs(args.pictures, args.side)
    boxed = (images, boxes, groups) if boxes is not None else davis_photographs(args.pictures, args.side)
    names = args.networks or sorted(f.stem for f in core.weights_dir().glob('slotmim*.safetensors'))
    found = {}
    for name in names:
        found[name] = measure(catalog.load(name).eval(), images, boxed, args.seeds)
        one = found[name]
        print(f"{name}: one slot over {LARGEST:.0%} in {one['coverage']['over_three_quarters']:.1%} of "
              f"{one['coverage']['pictures']} photographs; CorLoc " + ', '.join(
                  f"{k} {v['value']:.3f} ± {v['half']:.3f}" for k, v in one['corloc'].items()))
    write_json(RESULTS/'photographs.json', dict(
        kind='protocol', what='slots on photographs', data='Tiny-ImageNet val', side=args.side, seeds=args.seeds,
        boxes='Tiny-ImageNet val' if boxes is not None else 'DAVIS 2016 val, boxes of its masks', networks=found,
        device=device_name(), versions=versions(), commit=commit(),
        command=command('benchmarks.protocols.photographs', sys.argv[1:] if argv is None else argv)))
    return 0


if __name__ == '__main__': sys.exit(main())
