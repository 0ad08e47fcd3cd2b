"""Scores for cards: a frozen method beside a random network of its kind, raw pixels and others; three probe seeds."""
import math
from statistics import mean

import torch
from torch.utils.data import Subset

from benchmarks.protocols import camvid as streets
from benchmarks.protocols import davis as real_films
from benchmarks.protocols import photographs
from benchmarks.protocols.classification import PixelEncoder, encoder_accuracy
from benchmarks.protocols.films import films, propagation_scores
from benchmarks.protocols.segmentation import GROUPS, iou_by_group, patch_pixels
from benchmarks.protocols.worlds import CARD_SIDE, iconic_sets, scenes
from ssl_workbench import catalog, core, probes, world
from ssl_workbench.data import TinyImageNet

SEEDS = (0, 1, 2)


# ---- rows of a card

def over_seeds(measure, seeds=SEEDS):
    "metric → name → a figure a seed (or whatever else is measured); measure(seed): metric → name → figure"
    found = {}
    for seed in seeds:
        for metric, values in measure(seed).items():
            for name, value in values.items(): found.setdefault(metric, {}).setdefault(name, []).append(value)
    return found


def row(name, protocol, found, lower=False):
    """One score of the card: mean of 'ours' with its 95 % interval, beside the means of all other names.

    lower: less is better, which the row says for all that read it, in its key `better` and in its protocol.
    """
    value, half = probes.interval(found['ours'])
    return dict(name=name, value=round(value, 4), half=round(half, 4), seeds=[round(v, 4) for v in found['ours']],
                **(dict(better='lower') if lower else {}), protocol=protocol + '; lower is better' * lower,
                baselines={k: round(probes.interval(v)[0], 4) for k, v in found.items() if k != 'ours'})


def row_of(name, protocol, measure, seeds=SEEDS, lower=False):
    "The same; measure(seed): name → figure"
    return row(name, protocol, over_seeds(lambda seed: {name: measure(seed)}, seeds)[name], lower)


# ---- what is compared

def beside(method, others=()):
    "seed → name → the method, a random network of its kind, and others"
    return lambda seed: {'ours': method, 'random init': probes.random_init(method, seed=seed), **dict(others)}


def encoders(method, others=()):
    "seed → name → encoder: the same and raw pixels"
    models = beside(method)
    return lambda seed: models(seed) | {'raw pixels': PixelEncoder(), **dict(others)}


def feature_maps(method, others=(), models=None):
    "seed → name → patch features (B,3,H,W) → (B,D,h,w): the same and raw pixels"
    models = models or beside(method, others)
    return lambda seed: {n: probes.feature_maps(m) for n, m in models(seed).items()} | {
        'raw pixels': patch_pixels(method.patch)}


# ---- classification

def classification(what, protocol, models, sets):
    "A row for kNN, a row for the linear probe; sets(seed): two datasets"
    def measure(seed):
        train, test = sets(seed)
        found = {name: encoder_accuracy(one, train, test, seed) for name, one in models(seed).items()}
        return {probe: {name: value[probe] for name, value in found.items()} for probe in ('knn', 'linear')}
    found = over_seeds(measure)
    return [row(f'kNN, {what}', f'accuracy, k=20, T=.07, {protocol}', found['knn']),
            row(f'linear, {what}', f'accuracy of logistic regression on frozen pooled features, {protocol}',
                found['linear'])]


def iconic(method, level, others=(), mixed=False):
    "Classes of iconic images; mixed: any texture and colour on any shape, and the class is the shape"
    what = f'shape, iconic images of level {level} in any texture' if mixed else f'iconic images of level {level}'
    protocol = 'trained on 1500 images, tested on 500 others, 96 px; three sets'
    return classification(what, protocol, encoders(method, others),
                          lambda seed: iconic_sets(seed, level, mixed))


def tiny_imagenet_available():
    "Whether Tiny-ImageNet is there"
    return core.data_root() is not None and (core.data_root()/'tiny_imagenet_val.zip').exists()


def tiny_imagenet_sets(seed, each=50):
    "So many training pictures of each class, drawn by a seed, and all of val"
    train, test = TinyImageNet(split='train'), TinyImageNet(split='val')
    draw, labels = torch.Generator().manual_seed(seed), torch.tensor(train.labels)
    order = torch.randperm(len(labels), generator=draw)
    chosen = [order[labels[order] == k][:each] for k in range(len(train.classes))]
    return Subset(train, torch.cat(chosen).tolist()), test


def tiny_imagenet(method, others=()):
    "Classes of Tiny-ImageNet"
    protocol = 'trained on 50 training pictures per class, tested on the 25 per class of val, at 64 px; three draws'
    return classification('Tiny-ImageNet', protocol, encoders(method, others), tiny_imagenet_sets)


# ---- photographs

def slot_coverage(method, others=()):
    "How many of 200 photographs of Tiny-ImageNet val have three quarters taken by one slot; fewer is better"
    images, _, _ = photographs.tiny_photographs()
    def measure(seed):
        labels = {name: photographs.segments(one, images) for name, one in beside(method, others)(seed).items()}
        labels['k-means on colour'] = photographs.colour_segments(images, (images.shape[-1] // method.patch,) * 2)
        return {name: (photographs.largest_shares(x) > photographs.LARGEST).double().mean().item()
                for name, x in labels.items()}
    protocol = (f'share of 200 photographs of Tiny-ImageNet val in which one slot covers more than '
                f'{photographs.LARGEST:.0%}, at {photographs.SIDE} px')
    return row_of('one slot over 75 %, photographs', protocol, measure, lower=True)


# ---- segmentation

def mean_iou(name, protocol, maps, sets, classes):
    "A row of mean IoU; maps(seed): name → patch features; sets(seed): what teaches, what is the test"
    def measure(seed):
        train, test = sets(seed)
        return {n: probes.segment(f, train, test, classes, seed=seed)['miou'] for n, f in maps(seed).items()}
    return row_of(name, protocol, measure)


def bundled(name):
    "Title of bundled weights, with the seconds they were trained for → that method"
    card = catalog.card(name)
    return {f"{catalog.find(card['method']).title}, trained for {card['wall_seconds']:.0f} s": catalog.load(name)}


def camvid(method, others=()):
    "Linear segmentation of CamVid, learnt on two drives, another is the test"
    protocol = ('mean IoU of a linear classifier on frozen patches, trained on drives 0001TP and 0016E5, '
                'tested on drive 0006R0, 144×192 px; three probe seeds')
    return mean_iou('linear mIoU, CamVid by drive', protocol, feature_maps(method, others),
                    lambda seed: streets.split_by_drive(), len(streets.CLASSES))


def segmented(method, others=()):
    "Linear segmentation of scenes of level 3: learnt on one set of them, the next is the test"
    def sets(seed): return [list(zip(images, classes)) for images, _, classes in (scenes(10 + seed), scenes(seed))]
    protocol = (f'mean IoU of a linear classifier on frozen patches of {method.patch} px, '
                f'trained on 200 scenes of level 3, tested on 200 others, {CARD_SIDE} px; three pairs of sets')
    return mean_iou('linear mIoU, level-3 scenes', protocol, feature_maps(method, others), sets,
                    len(world.classes('scene', 3)))


def by_groups(what, protocol, maps, sets, classes):
    "A row of mean IoU for all classes and one for each group that exists; maps and sets as above"
    def measure(seed):
        train, test = sets(seed)
        found = {n: iou_by_group(f, train, test, classes, seed) for n, f in maps(seed).items()}
        return {g: {n: v[g] for n, v in found.items()} for g in GROUPS}
    found = over_seeds(measure)
    there = {g: f for g, f in found.items() if not any(map(math.isnan, sum(f.values(), [])))}
    return [row(f'linear mIoU, {what}' + f', {g} classes' * (g != 'all'), protocol, there[g]) for g in GROUPS
            if g in there]


# ---- objects followed through a film

def followed(kind, level, models, patch):
    "Label propagation: the first frame's instances carried through a film; models(seed): name → method"
    def measure(seed):
        clips = films(seed, kind, level)
        found = {name: propagation_scores(one, clips) for name, one in models(seed).items()}
        plain = next(iter(found.values()))
        return {n: v['method'] for n, v in found.items()} | {
            'first mask kept': plain['still'], 'carried by the true flow': plain['flow'],
            'raw pixels': propagation_scores(patch_pixels(patch), clips)['method']}
    protocol = (f'mean of J and F over the objects of 12 films of 8 frames at 128 px, {kind} of level {level}; '
                "DINO's protocol (5 neighbours, 7 frames, radius 12); three sets of films")
    return row_of(f'J&F, level-{level} {kind} films', protocol, measure)


def davis(method, others=(), sequences=None, models=None):
    "Label propagation on DAVIS; sequences: those it was not trained on, None: all; models(seed): name → method"
    models = models or beside(method, others)
    clips = [c for c, name in zip(real_films.sequences(), real_films.names()) if sequences is None or name in sequences]
    def jf(one): return [real_films.scores(one, [clip])['method']['jf'] for clip in clips]     # one object a sequence
    ours, plain = jf(models(SEEDS[0])['ours']), real_films.scores(real_films.pixels(method.patch), clips)
    drawn = over_seeds(lambda seed: dict(jf={n: mean(jf(m)) for n, m in models(seed).items() if n != 'ours'}))['jf']
    protocol = (f"mean of J and F over {len(clips)} sequences of DAVIS 2016 val, 24 frames of 120×216 px; DINO's "
                'protocol (5 neighbours, 7 frames, radius 12); ± over the sequences; random weights: three seeds')
    return row('J&F, DAVIS', protocol, dict(ours=ours) | drawn | {
        'first mask kept': [plain['still']['jf']], f'raw pixels of {method.patch} px': [plain['method']['jf']]})


def real(method, others=(), slots=False, sequences=None):
    "The rows on real pictures, as far as the data are there: patches first, then slots, then whole pictures"
    found = [davis(method, others, sequences)] if real_films.available() else []
    if slots and tiny_imagenet_available(): found.append(slot_coverage(method, others))
    if tiny_imagenet_available(): found += tiny_imagenet(method, others)
    return found
