"""Drawn images: what claims train on and are tested by, rendered once, and what cards are scored by."""
from functools import lru_cache

import torch
import torch.nn.functional as F

from ssl_workbench.world import World, batch

# ---- sets of the claims

WORLD_SEEDS = dict(pool=0, knn_train=9001, knn_test=9002, seg_train=9003, scenes=9004, pairs=9005)  # all apart


class RenderedImages:
    "Images rendered once and kept on the device, as a dataset"
    def __init__(self, rendered):
        self.frames, self.aspect, self.label = rendered['frames'], rendered['aspect'], rendered['label']

    def __len__(self): return len(self.frames)

    def __getitem__(self, i): return {k: v[0] for k, v in self.batch([i], self.frames.device).items()}

    def batch(self, indices, device):
        index = torch.as_tensor(indices, device=self.frames.device)
        return {k: getattr(self, k)[index].to(device) for k in ('frames', 'aspect', 'label')}


@lru_cache(maxsize=None)
def rendered(kind, level, size, seed, n, truth, device, mixed):
    "n images of a world with their truth, rendered once a process"
    ds = World(kind, level, (size, size), frames=1, length=n, seed=seed, truth=truth, pool=False, mixed=mixed)
    keys = ('frames', 'aspect', 'label') + (('instances', 'classes') if truth else ())
    parts = []
    for start in range(0, n, 128):
        drawn = ds.batch(range(start, min(start + 128, n)), device)
        boxes = dict(boxes=list(drawn['boxes'][:, 0])) if truth else {}
        parts.append({k: drawn[k].to(device) for k in keys} | boxes)
    whole = {k: torch.cat([p[k] for p in parts]) for k in keys}
    return whole | (dict(boxes=[b for p in parts for b in p['boxes']]) if truth else {})


def image_set(name, config, protocol, device, kind='scene', mixed=False):
    "One of the five sets of images; mixed: iconic ones with any texture on any shape"
    truth = kind != 'iconic' and name in ('seg_train', 'scenes')
    n = getattr(protocol, name)
    return rendered(kind, config.level, config.canvas, WORLD_SEEDS[name], n, truth, str(device), mixed)


def training_images(config, protocol, device, kind='scene'):
    "The images to train on"
    return RenderedImages(image_set('pool', config, protocol, device, kind))


def float_images(images):
    "(N,3,H,W) float 0-1 on the CPU"
    return images['frames'][:, 0].cpu().float() / 255


def labelled(images):
    "A dataset of (image, semantic label)"
    return list(zip(images['frames'][:, 0].cpu(), images['classes'][:, 0].cpu(), strict=True))


def in_chunks(f, images, n=100):
    "f of all images, n at a time"
    return torch.cat([f(x) for x in images.split(n)])


def tiny_images(x):
    "(B,768): images of 16 × 16 pixels, the baseline that learns nothing"
    return F.adaptive_avg_pool2d(x, 16).flatten(1)


# ---- sets of the cards: one of its own for each probe seed

CARD_SIDE = 192                     # pixels a side of the scenes that cards are scored by


def unseen(kind, level, first, n, side, keys=('frames',), truth=True):
    "Tensors (n,1,…) of n images that no training draws, from the world's seed `first` on"
    parts = [batch(range(s, min(s + 50, first + n)), kind=kind, level=level, size=(side, side), frames=1, truth=truth)
             for s in range(first, first + n, 50)]
    return [torch.cat([p[k] for p in parts]) for k in keys]


@lru_cache(maxsize=None)
def scenes(seed, level=3, n=200):
    "n unseen scenes of a probe seed: images float 0-1, instances, classes"
    keys = ('frames', 'instances', 'classes')
    frames, instances, classes = unseen('scene', level, 700_000 + 1000 * seed, n, CARD_SIDE, keys)
    return frames[:, 0] / 255, instances[:, 0], classes[:, 0]


@lru_cache(maxsize=None)
def drives(seed, level, n=200, side=128):
    "n unseen drives of a probe seed as (image float 0-1, classes)"
    frames, classes = unseen('drive', level, 740_000 + 1000 * seed, n, side, ('frames', 'classes'))
    return list(zip(frames[:, 0] / 255, classes[:, 0]))


def iconic_sets(seed, level, mixed=False):
    "1500 iconic images of a probe seed that teach, and 500 others"
    return [World('iconic', level, (96, 96), 1, n, seed=s + 10 * seed, truth=False, mixed=mixed)
            for s, n in ((501, 1500), (502, 500))]
