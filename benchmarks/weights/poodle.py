"""PooDLe's bundled weights: their recipe, and the scores on their card."""
import torch

from benchmarks.weights.machine import Recipe
from benchmarks.weights.scores import SEEDS, Labelled, drives, grouped, pixel_maps
from ssl_workbench import core, probes, world
from ssl_workbench.data import CAMVID_CLASSES

ROADS = dict(level=2, canvas=128, batch=16, steps=800, pictures=2048)
recipes = {'poodle': Recipe('poodle', 'world:drive:2', changes=ROADS, against='flowe-drive')}
JUDGED = (2, 3)                     # levels of drives


def untrained(method, seed):
    "A random network of its kind, batch norm measured on drives"
    return probes.random_init(method, torch.stack([x for x, _ in drives(SEEDS[-1] + 20, 2, 50)]), seed)


def models(method, extra):
    "seed → the method, a random network of its kind, and the rival"
    return lambda seed: {'ours': method, 'random init': untrained(method, seed), **extra}


def mapped(method, extra):
    "seed → patch features of the same, and of raw pixels"
    return lambda seed: {n: probes.feature_maps(m) for n, m in models(method, extra)(seed).items()} | {'raw pixels': pixel_maps(method.patch)}


def roads(seed, level, n=100):
    "Drives that teach, drives that are judged"
    return drives(10 + seed, level, n), drives(seed, level, n)


def driven(method, extra, level):
    "Linear segmentation of drives by groups of classes"
    protocol = (f'mean IoU of a linear classifier on frozen features, decoder kept, {method.patch} px a place, learnt on 100 drives of level {level}, '
                'judged on 100 others, 128 px; three pairs of sets')
    return grouped(f'level-{level} drives', protocol, mapped(method, extra), lambda seed: roads(seed, level), len(world.classes('drive', level)))


def streets(method, extra):
    "Linear segmentation of CamVid by groups of classes, learnt on two drives and judged on a third"
    train, test = (list(Labelled(names)) for names in (['0001TP', '0016E5'], ['0006R0']))
    protocol = ('mean IoU of a linear classifier on frozen features, decoder kept, learnt on drives 0001TP and 0016E5, judged on drive 0006R0, '
                '144×192 px; three probe seeds')
    return grouped('CamVid by drive', protocol, mapped(method, extra), lambda seed: (train, test), len(CAMVID_CLASSES))


def scores(method, name, **extra):
    "The card's scores; those on real data only where the data are"
    found = [r for level in JUDGED for r in driven(method, extra, level)]
    return found if core.data_root() is None or not (core.data_root()/'camvid').exists() else [*found, *streets(method, extra)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): linear segmentation of the first sets of drives"
    score = next(s for s in card['scores'] if s['name'] == 'linear mIoU, level-2 drives')
    found = probes.segment(probes.feature_maps(method), *roads(SEEDS[0], 2), len(world.classes('drive', 2)), seed=SEEDS[0])
    return score['name'], score['seeds'][0], found['miou']
