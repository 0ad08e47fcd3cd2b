"""PooDLe's bundled weights: their recipe, and the scores on their card."""
import torch

from benchmarks.protocols import camvid
from benchmarks.protocols.davis import JUDGED, TRAINED
from benchmarks.protocols.worlds import drives
from benchmarks.weights.recipes import Recipe
from benchmarks.weights.scores import SEEDS, by_groups, feature_maps, real
from ssl_workbench import probes, world

ROADS = dict(level=2, canvas=128, batch=16, steps=800, pictures=2048)
FILMS = f'camvid:0001TP,0016E5+davis:{",".join(TRAINED)}'        # the other drives and films are the test
recipes = {
    'poodle': Recipe('poodle', 'world:drive:2', changes=ROADS, against='flowe-drive'),
    'poodle-real': Recipe('poodle', FILMS, changes=dict(canvas=128, channels=(24, 48, 96, 144), flow='dis', steps=1800),
                          gpu=dict(flow='dis', channels=(24, 48, 96, 144), steps=2500))}
LEVELS = (2, 3)                     # of the drives in the test


def maps_of(method, others):
    "seed → name → patch features: the method, a random network with batch norm measured on drives, others, raw pixels"
    def models(seed):
        images = torch.stack([x for x, _ in drives(SEEDS[-1] + 20, 2, 50)])
        return {'ours': method, 'random init': probes.random_init(method, images, seed), **others}
    return feature_maps(method, models=models)


def drive_sets(seed, level, n=100):
    "Drives that teach, drives of the test"
    return drives(10 + seed, level, n), drives(seed, level, n)


def drawn_drives(method, others, level):
    "Linear segmentation of drives by groups of classes"
    protocol = (f'mean IoU of a linear classifier on frozen features, decoder kept, one place per {method.patch} px, '
                f'trained on 100 drives of level {level}, tested on 100 others, 128 px; three pairs of sets')
    return by_groups(f'level-{level} drives', protocol, maps_of(method, others), lambda seed: drive_sets(seed, level),
                     len(world.classes('drive', level)))


def streets(method, others):
    "Linear segmentation of CamVid by groups of classes, learnt on two drives, another is the test"
    protocol = ('mean IoU of a linear classifier on frozen features, decoder kept, '
                'trained on drives 0001TP and 0016E5, tested on drive 0006R0, 144×192 px; three probe seeds')
    return by_groups('CamVid by drive', protocol, maps_of(method, others), lambda seed: camvid.split_by_drive(),
                     len(camvid.CLASSES))


def scores(method, name, **others):
    "The card's scores; those on real data only where the data are"
    if name == 'poodle-real':
        return [*real(method, others, sequences=JUDGED), *streets(method, others), *drawn_drives(method, others, 2)]
    drawn = [r for level in LEVELS for r in drawn_drives(method, others, level)]
    return [*drawn, *streets(method, others)] if camvid.available() else drawn


def recheck(method, card):
    "(name, figure on the card, the same figure made again): linear segmentation of the first sets of drives"
    score = next(s for s in card['scores'] if s['name'] == 'linear mIoU, level-2 drives')
    train, test = drive_sets(SEEDS[0], 2)
    found = probes.segment(probes.feature_maps(method), train, test, len(world.classes('drive', 2)), seed=SEEDS[0])
    return score['name'], score['seeds'][0], found['miou']
