"""DILEMMA's bundled weights: their recipes, and the scores on their cards."""
import torch

from benchmarks.protocols import camvid as streets
from benchmarks.protocols.classification import random_subset
from benchmarks.protocols.positions import mismatch, misplaced_patches
from benchmarks.protocols.worlds import scenes
from benchmarks.weights.recipes import Recipe
from benchmarks.weights.scores import (
    SEEDS,
    bundled,
    camvid,
    iconic,
    over_seeds,
    row,
    segmented,
    tiny_imagenet_available,
)
from benchmarks.weights.scores import real as real_pictures
from ssl_workbench import core, probes
from ssl_workbench.data import CamVid, Cifar10, TinyImageNet
from ssl_workbench.methods.dilemma import auroc, centre_crop

MILD = dict(                        # few steps: misplaced patches are found sooner, and weigh more in the loss
    batch=16, lr=3e-3, scale=(.5, 1.), weight=10., dense_task=True,
    given=dict(pos_base=10., colour=.1, grey=0., blur=(0., 0.), solarise=(0., 0.), momentum=(.99, 1.)))
recipes = {
    'dilemma': Recipe('dilemma', 'world:scene:3', against='mocov3-scenes', changes=dict(
        MILD, kind='scene', level=3, canvas=192, pictures=8192, steps=5000)),
    'dilemma-real': Recipe('dilemma', 'tiny_imagenet', changes=dict(
        MILD, canvas=64, dim=128, depth=4, heads=4, scale=(.4, 1.), steps=6000),
        gpu=dict(canvas=64, dense_task=True, scale=(.4, 1.), steps=3500))}


# ---- misplaced patches in unseen images

def difference_to_neighbours(config, images, given):
    "How far a patch's mean colour is from the mean of the (up to eight) patches around its given position: no network"
    colour = probes.patch_colour(images, config.grid).flatten(2)                          # (B,3,N)
    shown = torch.zeros_like(colour).scatter(2, given[:, None].expand_as(colour), colour)
    box = torch.nn.functional.avg_pool2d(shown.unflatten(2, config.grid), 3, 1, 1, count_include_pad=False).flatten(2)
    return (shown - box).norm(dim=1).gather(1, given)


def mismatch_auroc(method, images, seed, ratio=0.):
    "Area under ROC of the method's mismatch probabilities"
    keep, given, wrong = misplaced_patches(method.config, len(images), ratio, f'judged{seed}')
    return auroc(mismatch(method, images, keep, given).flatten(), wrong.flatten())


def squares(images, config):
    "(N,3,S,S): images at the method's size"
    return torch.stack([centre_crop(x, config.size) for x in images])


def detection(method, what, images_of):
    "Area under ROC, everything shown and 55 % left out; images_of(seed): N images"
    c = method.config
    def measure(seed):
        images = squares(images_of(seed), c)
        models = {'ours': method, 'random init': probes.random_init(method, seed=seed)}
        full, sparse = ({name: mismatch_auroc(m, images, seed, ratio) for name, m in models.items()}
                        for ratio in (0., .55))
        _, given, wrong = misplaced_patches(c, len(images), 0., f'judged{seed}')
        colour = auroc(difference_to_neighbours(c, images, given).flatten(), wrong.flatten())
        return dict(full=full | {"unlike its neighbours' colour": colour}, sparse=sparse)
    found = over_seeds(measure)
    protocol = (f'area under ROC, {c.theta:.0%} of {c.cells} patches in the wrong place, '
                f'{what} at {c.size} px; three sets of 200')
    return [row(f'misplaced patches, {what}', f'{protocol}; all patches shown, the misplaced ones swap places',
                found['full']),
            row(f'misplaced patches, {what}, 55 % left out',
                f'{protocol}; 55 % of the patches left out, the misplaced ones get their positions', found['sparse'])]


def drawn_scenes(seed): return scenes(seed)[0]


def real(data):
    "seed → 200 images of a dataset"
    return lambda seed: [sample['frames'][0] for sample in random_subset(data, 200, seed)]


def scores(method, name, **others):
    "The card's scores; those on real data only where the data are"
    if name == 'dilemma-real':
        photos = real(TinyImageNet(split='val')) if tiny_imagenet_available() else None
        return [*(detection(method, 'photographs', photos) if photos else ()), *real_pictures(method, others),
                *detection(method, 'level-3 scenes', drawn_scenes),
                *([camvid(method, bundled('dino-real'))] if streets.available() else ())]
    found = [*detection(method, 'level-3 scenes', drawn_scenes),
             *(r for level in (0, 1, 2) for r in iconic(method, level, others, mixed=True)),
             *(r for level in (1, 2, 3) for r in iconic(method, level, others)), segmented(method, others)]
    if core.data_root() is None: return found
    cifar10, drive = Cifar10(split='test', size=64), CamVid(drives=['0006R0'], split='train', size=(144, 192))
    return [*found, camvid(method, others), *detection(method, 'CIFAR-10 test', real(cifar10)),
            *detection(method, 'CamVid, drive 0006R0', real(drive))]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): misplaced patches in the first set of scenes"
    score = next(s for s in card['scores'] if s['name'] == 'misplaced patches, level-3 scenes')
    images = squares(drawn_scenes(SEEDS[0]), method.config)
    return score['name'], score['seeds'][0], mismatch_auroc(method, images, SEEDS[0])
