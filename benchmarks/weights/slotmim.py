"""SlotMIM's bundled weights: their recipes, and the scores on their cards."""
from functools import lru_cache

import torch
import torch.nn.functional as F

from benchmarks.weights.machine import Recipe
from ssl_workbench import catalog, core, probes
from ssl_workbench.data import CAMVID, CamVid, Cifar10
from ssl_workbench.world import World, batch

MILD = dict(colour=.2, grey=0., momentum=(.98, 1.), steps=4000)    # colour tells things apart, so it is changed less
recipes = {
    'slotmim': Recipe('slotmim', 'world:scene:3', changes=dict(
        MILD, colour=.1, level=3, canvas=192, scale=(.06, .35), prototypes=64, pictures=8192)),
    'slotmim-real': Recipe('slotmim', 'camvid:0001TP,0016E5+cifar10', changes=dict(
        MILD, dim=192, hidden=384, scale=(.1, .6), prototypes=32, sinkhorn=True, steps=2500))}
SEEDS = (0, 1, 2)
SIDE = 192                          # pixels a side of judged scenes


def row(name, protocol, ours, baselines):
    "One score of the card: mean over probe seeds with its 95 % interval, baselines beside it"
    value, half = probes.interval(ours)
    return dict(name=name, value=round(value, 4), half=round(half, 4), seeds=[round(v, 4) for v in ours], protocol=protocol,
                baselines={k: round(probes.interval(v)[0], 4) for k, v in baselines.items()})


# ---- object discovery on unseen scenes

@lru_cache(maxsize=None)
def scenes(seed, level=3, n=200):
    "n unseen scenes of a probe seed: images float 0-1, instances"
    made = [batch(range(s, s + 50), kind='scene', level=level, size=(SIDE, SIDE), frames=1) for s in range(700_000 + 1000 * seed, 700_000 + 1000 * seed + n, 50)]
    return torch.cat([m['frames'][:, 0] for m in made]) / 255, torch.cat([m['instances'][:, 0] for m in made])


def judged(labels, instances):
    "ARI and mean best IoU of patch labels"
    full = probes.upsample_labels(labels, instances.shape[-2:]) if labels.shape[-2:] != instances.shape[-2:] else labels
    return probes.ari(full, instances), probes.best_iou(full, instances)


def slots_of(method, images):
    "Patch labels, in parts"
    place = next(method.parameters()).device
    return torch.cat([method.slots(x.to(place)).cpu() for x in images.split(50)])


def discovery(method):
    "The two discovery scores over three sets of scenes"
    found = {}
    for seed in SEEDS:
        images, instances = scenes(seed)
        grid = (SIDE // method.patch,) * 2
        labels = {'ours': slots_of(method, images), 'random init': slots_of(probes.random_init(method, images, seed), images)}
        for k in (16, method.config.prototypes):
            clusters = probes.baselines(images, instances, grid, k, seed=seed, shared=True)
            labels |= {f'{n}, k={k}' if 'k-means' in n else n: v for n, v in clusters.items()}
        for name, made in labels.items(): found.setdefault(name, []).append(judged(made, instances))
    protocol = f'hard slots on {len(images)} unseen level-3 scenes of {SIDE} px, patches of {method.patch}; mean over three sets of scenes; k-means over all scenes of a set'
    titles = ('slots: full ARI, level-3 scenes', 'slots: mean best IoU, level-3 scenes')
    return [row(t, protocol, [v[i] for v in found['ours']], {k: [v[i] for v in x] for k, x in found.items() if k != 'ours'}) for i, t in enumerate(titles)]


# ---- frozen features

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


def iconic(method, level):
    "Classes of iconic images"
    sets = lambda seed: [World('iconic', level, (96, 96), 1, n, seed=s + 10 * seed, truth=False, pool=False) for s, n in ((501, 1500), (502, 500))]
    return both(f'iconic images of level {level}', '1500 images teach, 500 others are judged, 96 px; three sets', *classified(beside(method), sets))


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


def camvid(method, extra=()):
    "Linear segmentation of CamVid, learnt on two drives and judged on a third"
    train, test, found = Labelled(['0001TP', '0016E5']), Labelled(['0006R0']), {}
    for seed in SEEDS:
        models = {n: probes.feature_maps(m) for n, m in beside(method, extra)(seed).items() if n != 'raw pixels'} | {'raw pixels': pixel_maps(method.patch)}
        for name, maps in models.items():
            found.setdefault(name, []).append(probes.segment(maps, train, test, len(CAMVID), seed=seed)['miou'])
    protocol = 'mean IoU of a linear classifier on frozen patches, learnt on drives 0001TP and 0016E5, judged on drive 0006R0, 144×192 px; three probe seeds'
    return row('linear mIoU, CamVid by drive', protocol, found.pop('ours'), found)


def scores(method, name):
    "The card's scores; those on real data only where the data are"
    real = core.data_root() is not None
    if name == 'slotmim': return [*discovery(method), *(r for level in (1, 2, 3) for r in iconic(method, level)), *([camvid(method)] if real else [])]
    drawn = {'slotmim': catalog.load('slotmim')}
    return [camvid(method, drawn), *cifar(method, drawn), *discovery(method)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): full ARI on the first set of scenes"
    said = next(s for s in card['scores'] if s['name'].startswith('slots: full ARI'))
    images, instances = scenes(SEEDS[0])
    return said['name'], said['seeds'][0], judged(slots_of(method, images), instances)[0]
