"""Pictures that claims train on and are judged by, each rendered once, and the scores that several methods share."""
from functools import lru_cache

import torch

from ssl_workbench import probes, world

WORLDS = dict(pool=0, knn_train=9001, knn_test=9002, seg_train=9003, scenes=9004)  # world seeds: no picture in two sets


class Pool:
    "Pictures rendered once and kept on the device"
    def __init__(self, made):
        self.frames, self.aspect, self.label = made['frames'], made['aspect'], made['label']

    def __len__(self): return len(self.frames)

    def __getitem__(self, i): return {k: v[0] for k, v in self.batch([i], self.frames.device).items()}

    def batch(self, indices, device):
        index = torch.as_tensor(indices, device=self.frames.device)
        return dict(frames=self.frames[index].to(device), aspect=self.aspect[index].to(device), label=self.label[index].to(device))


@lru_cache(maxsize=None)
def rendered(kind, level, size, seed, n, truth, device, mixed):
    "n pictures of a world with their truth, rendered once a process"
    ds = world.World(kind, level, (size, size), frames=1, length=n, seed=seed, truth=truth, pool=False, mixed=mixed)
    keys = ('frames', 'aspect', 'label') + (('instances', 'classes') if truth else ())
    parts = []
    for start in range(0, n, 128):
        made = ds.batch(range(start, min(start + 128, n)), device)
        parts.append({k: made[k].to(device) for k in keys} | (dict(boxes=list(made['boxes'][:, 0])) if truth else {}))
    whole = {k: torch.cat([p[k] for p in parts]) for k in keys}
    return whole | (dict(boxes=[b for p in parts for b in p['boxes']]) if truth else {})


def pictures(name, config, protocol, device, kind='scene', mixed=False):
    "One of the five sets of pictures; mixed: iconic ones with any texture on any shape"
    return rendered(kind, config.level, config.canvas, WORLDS[name], getattr(protocol, name), kind == 'scene' and name in ('seg_train', 'scenes'), str(device), mixed)


def pixels(made):
    "(N,3,H,W) float 0-1 on the CPU"
    return made['frames'][:, 0].cpu().float() / 255


def pairs_of(made):
    "A dataset of (image, semantic label)"
    return list(zip(made['frames'][:, 0].cpu(), made['classes'][:, 0].cpu(), strict=True))


def in_parts(f, images, n=100):
    return torch.cat([f(x) for x in images.split(n)])


def classified(pooled, config, protocol, device):
    "kNN accuracy on iconic pictures; pooled: (N,3,H,W) → (N,D)"
    a, b = (pictures(n, config, protocol, device, 'iconic') for n in ('knn_train', 'knn_test'))
    return probes.knn(in_parts(pooled, pixels(a)), a['label'].cpu(), in_parts(pooled, pixels(b)), b['label'].cpu())


def segmented(maps, config, protocol, device):
    "Mean IoU of linear segmentation on scenes; maps: (B,3,H,W) → (B,D,h,w)"
    train, test = (pairs_of(pictures(n, config, protocol, device)) for n in ('seg_train', 'scenes'))
    return probes.segment(maps, train, test, len(world.classes('scene', config.level)))['miou']
