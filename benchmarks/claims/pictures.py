"""Pictures and pairs that claims train on and are judged by, each rendered once, and the scores that several methods share."""
import math
from functools import lru_cache

import torch

from ssl_workbench import core, data, probes, world

WORLDS = dict(pool=0, knn_train=9001, knn_test=9002, seg_train=9003, scenes=9004, pairs=9005)  # world seeds: no picture in two sets
STREETS = (['0001TP', '0016E5'], ['0006R0'])    # CamVid's drives that teach, and the one that is judged


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
    return rendered(kind, config.level, config.canvas, WORLDS[name], getattr(protocol, name), kind != 'iconic' and name in ('seg_train', 'scenes'), str(device), mixed)


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


# ---- classes by size, drawn and real streets

@lru_cache(maxsize=None)
def streets(drives, size):
    "CamVid's frames of some drives as (image uint8, label map), none where CamVid is not there"
    if core.data_root() is None or not (core.data_root()/'camvid').exists(): return []
    frames = data.CamVid(drives=list(drives), split='train', size=size)
    samples = [frames[i] for i in range(len(frames))]
    return [(s['frames'][0], s['classes'][0]) for s in samples]


def by_groups(maps, train, test, classes):
    "miou, and the mean IoU of small, large, rare and common classes where there are any; maps: (B,3,H,W) → (B,D,h,w)"
    found = probes.segment(maps, train, test, classes)
    groups = probes.group_scores(found['iou'], probes.class_groups([label for _, label in train], classes))
    return {k: v for k, v in dict(miou=found['miou'], **groups).items() if not math.isnan(v)}


def driven(maps, config, protocol, device):
    "Linear segmentation of drawn drives by groups of classes"
    train, test = (pairs_of(pictures(n, config, protocol, device, 'drive')) for n in ('seg_train', 'scenes'))
    return by_groups(maps, train, test, len(world.classes('drive', config.level)))


def camvid(maps, protocol):
    "Linear segmentation of CamVid by groups of classes, learnt on two drives and judged on a third; nothing where it is not there"
    train, test = (streets(tuple(d), protocol.street) for d in STREETS)
    return by_groups(maps, train, test, len(data.CAMVID_CLASSES)) if train else {}


# ---- motion

@lru_cache(maxsize=None)
def pairs(kind, level, size, stride, n, device):
    "n unseen pairs of frames float 0-1 (n,3,H,W) and their flow (n,2,H,W) in pixels"
    made = world.World(kind, level, (size, size), 2, n, seed=WORLDS['pairs'], pool=False, stride=stride).batch(range(n), device)
    return *(made['frames'].cpu() / 255).unbind(1), made['flow'][:, 0].cpu()


@torch.no_grad()
def flow_error(flow, kind, stride, config, protocol, device):
    "End-point error on unseen pairs, as a part of what zero flow gets; flow: two (B,3,H,W) float 0-1 → (B,2,H,W)"
    a, b, truth = pairs(kind, config.level, config.canvas, stride, protocol.pairs, str(device))
    said = torch.cat([flow(x, y) for x, y in zip(a.split(32), b.split(32))])
    return probes.epe(said, truth) / probes.epe(torch.zeros_like(truth), truth)
