"""Scores of a frozen method beside a random network of its kind and raw pixels, for the cards of several methods."""
import math
from functools import lru_cache

import torch
import torch.nn.functional as F

from ssl_workbench import probes, world
from ssl_workbench.data import CAMVID_CLASSES, CamVid, Cifar10
from ssl_workbench.world import World, batch

SEEDS = (0, 1, 2)
SIDE = 192                          # pixels a side of judged scenes


def row(name, protocol, ours, baselines):
    "One score of the card: mean over probe seeds with its 95 % interval, baselines beside it"
    value, half = probes.interval(ours)
    return dict(name=name, value=round(value, 4), half=round(half, 4), seeds=[round(v, 4) for v in ours], protocol=protocol,
                baselines={k: round(probes.interval(v)[0], 4) for k, v in baselines.items()})


@lru_cache(maxsize=None)
def scenes(seed, level=3, n=200):
    "n unseen scenes of a probe seed: images float 0-1, instances, classes"
    made = [batch(range(s, s + 50), kind='scene', level=level, size=(SIDE, SIDE), frames=1) for s in range(700_000 + 1000 * seed, 700_000 + 1000 * seed + n, 50)]
    return torch.cat([m['frames'][:, 0] for m in made]) / 255, torch.cat([m['instances'][:, 0] for m in made]), torch.cat([m['classes'][:, 0] for m in made])


class Pixels:
    "Raw pixels in a method's place: 16 by 16 colours"
    def features(self, x): return {'pooled': F.adaptive_avg_pool2d(x, 16).flatten(1)}


def classified(models, sets):
    "name → kNN and linear accuracy a seed; models(seed): name → encoder; sets(seed): two datasets"
    near, line = {}, {}
    for seed in SEEDS:
        train, test = sets(seed)
        for name, one in models(seed).items():
            a, b = probes.encode(one, train), probes.encode(one, test)
            parts = a['pooled'], a['label'], b['pooled'], b['label']
            near.setdefault(name, []).append(probes.knn(*parts))
            line.setdefault(name, []).append(probes.linear(*parts, seed=seed))
    return near, line


def both(what, protocol, near, line):
    "A row for kNN, a row for the linear probe"
    return [row(f'kNN, {what}', f'accuracy, k=20, T=.07, {protocol}', near.pop('ours'), near),
            row(f'linear, {what}', f'accuracy of logistic regression on frozen pooled features, {protocol}', line.pop('ours'), line)]


def beside(method, extra=()):
    "seed → the method, a random network of its kind, raw pixels, and others"
    return lambda seed: {'ours': method, 'random init': probes.random_init(method, seed=seed), 'raw pixels': Pixels(), **dict(extra)}


def iconic(method, level, extra=(), mixed=False):
    "Classes of iconic images; mixed: any texture and colour on any shape, and the shape is asked for"
    sets = lambda seed: [World('iconic', level, (96, 96), 1, n, seed=s + 10 * seed, truth=False, mixed=mixed) for s, n in ((501, 1500), (502, 500))]
    what = f'shape, iconic images of level {level} in any texture' if mixed else f'iconic images of level {level}'
    return both(what, '1500 images teach, 500 others are judged, 96 px; three sets', *classified(beside(method, extra), sets))


def cifar(method, extra=()):
    "Classes of CIFAR-10"
    sets = lambda seed: [Spread(Cifar10(split=s, size=64), n, seed) for s, n in (('train', 3000), ('test', 1000))]
    return both('CIFAR-10', '3000 training pictures teach, 1000 test pictures are judged, at 64 px; three draws', *classified(beside(method, extra), sets))


class Spread:
    "n samples of a dataset, drawn by a seed"
    def __init__(self, data, n, seed):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        self.data, self.index = data, order[:n].tolist()

    def __len__(self): return len(self.index)

    def __getitem__(self, i): return self.data[self.index[i]]


class Labelled:
    "CamVid frames as (image, label map)"
    def __init__(self, drives): self.data = CamVid(drives=drives, split='train', size=(144, 192), cache=True)

    def __len__(self): return len(self.data)

    def __getitem__(self, i):
        sample = self.data[i]
        return sample['frames'][0].float() / 255, sample['classes'][0]


def pixel_maps(patch):
    "Raw pixels of each patch as features"
    return lambda x: probes.patch_pixels(x, (x.shape[-2] // patch, x.shape[-1] // patch))


def mapped(method, extra, seed):
    "name → patch features of images: the method, a random network of its kind, raw pixels, and others"
    models = {n: probes.feature_maps(m) for n, m in beside(method, extra)(seed).items() if n != 'raw pixels'}
    return models | {'raw pixels': pixel_maps(method.patch)}


def camvid(method, extra=()):
    "Linear segmentation of CamVid, learnt on two drives and judged on a third"
    train, test, found = Labelled(['0001TP', '0016E5']), Labelled(['0006R0']), {}
    for seed in SEEDS:
        for name, maps in mapped(method, extra, seed).items():
            found.setdefault(name, []).append(probes.segment(maps, train, test, len(CAMVID_CLASSES), seed=seed)['miou'])
    protocol = 'mean IoU of a linear classifier on frozen patches, learnt on drives 0001TP and 0016E5, judged on drive 0006R0, 144×192 px; three probe seeds'
    return row('linear mIoU, CamVid by drive', protocol, found.pop('ours'), found)


def segmented(method, extra=()):
    "Linear segmentation of scenes of level 3: learnt on one set of them, judged on the next"
    found = {}
    for seed in SEEDS:
        train, test = (list(zip(images, classes)) for images, _, classes in (scenes(10 + seed), scenes(seed)))
        for name, maps in mapped(method, extra, seed).items():
            found.setdefault(name, []).append(probes.segment(maps, train, test, len(world.classes('scene', 3)), seed=seed)['miou'])
    protocol = f'mean IoU of a linear classifier on frozen patches of {method.patch} px, learnt on 200 scenes of level 3, judged on 200 others, {SIDE} px; three pairs of sets'
    return row('linear mIoU, level-3 scenes', protocol, found.pop('ours'), found)


# ---- classes by size

GROUPS = ('all', 'small', 'large', 'rare', 'common')


def grouped(what, protocol, models, sets, classes):
    "A row for all classes and one for each group that exists; models(seed): name → patch features; sets(seed): what teaches, what is judged"
    found = {}
    for seed in SEEDS:
        train, test = sets(seed)
        groups = probes.class_groups([label for _, label in train], classes)
        for name, maps in models(seed).items():
            iou = probes.segment(maps, train, test, classes, seed=seed)
            for group, value in dict(all=iou['miou'], **probes.group_scores(iou['iou'], groups)).items():
                found.setdefault(group, {}).setdefault(name, []).append(value)
    there = {g: f for g, f in found.items() if not any(map(math.isnan, sum(f.values(), [])))}
    return [row(f'linear mIoU, {what}' + (f', {g} classes' if g != 'all' else ''), protocol, there[g].pop('ours'), there[g]) for g in GROUPS if g in there]


@lru_cache(maxsize=None)
def drives(seed, level, n=200, side=128):
    "n unseen drives of a probe seed as (image float 0-1, classes)"
    made = [batch(range(s, s + 50), kind='drive', level=level, size=(side, side), frames=1) for s in range(740_000 + 1000 * seed, 740_000 + 1000 * seed + n, 50)]
    return [(x, y) for m in made for x, y in zip(m['frames'][:, 0] / 255, m['classes'][:, 0])]


# ---- things followed through a film

@lru_cache(maxsize=None)
def clips(seed, kind, level, n=12, frames=8, side=128):
    "n unseen films with the instances of every frame and the true flow"
    data = World(kind, level, (side, side), frames, n, seed=600 + seed, pool=False)
    return [data[i] for i in range(n)]


def followed(kind, level, models, patch):
    "Label propagation: the first frame's instances carried through a film; models(seed): name → method"
    found = {}
    both = lambda score: (score['j'] + score['f']) / 2
    for seed in SEEDS:
        films = clips(seed, kind, level)
        for name, one in models(seed).items():
            got = probes.video_segmentation(one, films)
            found.setdefault(name, []).append(both(got['method']))
        found.setdefault('first mask kept', []).append(both(got['still']))
        found.setdefault('carried by the true flow', []).append(both(got['flow']))
        found.setdefault('raw pixels', []).append(both(probes.video_segmentation(pixel_maps(patch), films)['method']))
    protocol = (f'mean of J and F over the objects of 12 films of 8 frames at 128 px, {kind} of level {level}; DINO\'s protocol (5 neighbours, 7 frames, radius 12); '
                'three sets of films')
    return row(f'J&F, level-{level} {kind} films', protocol, found.pop('ours'), found)
