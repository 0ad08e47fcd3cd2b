"""SlotMIM's claims: tables 4 and 5 of Wen et al., CVPR 2025, on drawn scenes."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks.claims.runner import Claim, Correlation, above
from benchmarks.protocols.classification import iconic_knn, pooled
from benchmarks.protocols.discovery import ari_and_mbo, full_size
from benchmarks.protocols.runs import GPU_SCENES, SceneProtocol, as_drawn, train
from benchmarks.protocols.segmentation import patch_pixels, scene_miou
from benchmarks.protocols.worlds import float_images, image_set, in_chunks, tiny_images, training_images
from ssl_workbench import probes
from ssl_workbench.methods.slotmim import SlotMIM

# ---- the setting: what the arms share, the smallest in which the sentences make sense

# of the cpu preset; on level 0 raw pixels already know 99 of 100 classes
CPU = dict(level=1, steps=150, colour=.5, grey=.1)
GPU = dict(level=3, steps=3000)                 # of the gpu preset
SEEDS = 3


@dataclass(frozen=True)
class Protocol(SceneProtocol):
    "And how slots are scored"
    temperature: float = .07      # of soft slots (the authors' VOC protocol)


protocols = dict(cpu=Protocol(), gpu=Protocol(**GPU_SCENES))


# ---- scores

def one_hot(labels):
    "(B,h,w) labels as a soft assignment (B,K,h,w) that is sure"
    return F.one_hot(labels, int(labels.max()) + 1).movedim(-1, 1).double()


def discovery(soft, config, protocol, device):
    "Object discovery by soft slots (B,K,h,w) of the test scenes"
    scenes = image_set('scenes', config, protocol, device)
    instances, classes = scenes['instances'][:, 0].cpu(), scenes['classes'][:, 0].cpu()
    hard = soft.argmax(1)
    full = full_size(hard, instances.shape[-2:])
    ari, mbo = ari_and_mbo(full, instances)
    return dict(jacc=probes.mask_jaccard(probes.slot_masks(soft, instances.shape[-2:]), classes),
                loc=probes.corloc(probes.object_box(full), [b.cpu() for b in scenes['boxes']]),
                kbar=sum(len(h.unique()) for h in hard) / len(hard), ari=ari, mbo=mbo, used=len(hard.unique()))


def scores(method, config, protocol, device):
    "All scores of a trained or untrained SlotMIM"
    images = float_images(image_set('scenes', config, protocol, device))
    with torch.no_grad():
        soft = in_chunks(lambda x: method.soft_slots(x.to(device), protocol.temperature).cpu(), images)
    return dict(knn=iconic_knn(pooled(method), config, protocol, device),
                ade=scene_miou(probes.feature_maps(method), config, protocol, device),
                **discovery(soft, config, protocol, device))


def measure(config, protocol, seed, device):
    "Scores of one arm with one seed: train from scratch, then probe"
    method = train('slotmim', config, training_images(config, protocol, device), seed, device)
    return scores(method, config, protocol, device)


# ---- what needs no training

def random_init(config, protocol, seed, device):
    "The same network, its weights as drawn"
    return scores(as_drawn(SlotMIM, config, seed, device), config, protocol, device)


def grid_of(config): return (config.canvas // config.patch,) * 2


def clustered(features, config, protocol, seed, device):
    "k-means over all test scenes, as many clusters as prototypes; features: (images, grid) → (B,D,h,w) of patches"
    images = float_images(image_set('scenes', config, protocol, device))
    labels = probes.cluster_maps(features(images, grid_of(config)), config.prototypes, seed, shared=True)
    return discovery(one_hot(labels), config, protocol, device)


def raw_pixels(config, protocol, seed, device):
    "kNN on small images, linear segmentation of patches, k-means of patches, all on pixels"
    return dict(knn=iconic_knn(tiny_images, config, protocol, device),
                ade=scene_miou(patch_pixels(config.patch), config, protocol, device),
                **clustered(probes.patch_pixels, config, protocol, seed, device))


def colour_clusters(config, protocol, seed, device):
    "k-means of patch colours"
    return clustered(probes.patch_colour, config, protocol, seed, device)


def blind_grid(config, protocol, seed, device):
    "Two by four rectangles, whatever the image: what a score gives for nothing"
    return discovery(one_hot(probes.grid_labels((protocol.scenes, *grid_of(config)), 2, 4)), config, protocol, device)


def truth_at_patches(config, protocol, seed, device):
    "The truth in patches: the most for ARI and best IoU; not for Jaccard, which drops slots of a single patch"
    scenes = image_set('scenes', config, protocol, device)
    labels = probes.truth_at_patches(scenes['instances'][:, 0].cpu(), grid_of(config))
    return discovery(one_hot(labels), config, protocol, device)


references = {'random init': random_init, 'raw pixels': raw_pixels, 'k-means on colour': colour_clusters,
              'image-blind grid': blind_grid, 'truth in patches': truth_at_patches}

describe = """
views of {c.size} px from pictures of {c.canvas}, patch {c.patch}, width {c.dim}, depth {c.depth},
{c.prototypes} prototypes, {c.steps} steps of {c.batch} images from {p.pool} scenes of level {c.level};
kNN on {p.knn_test} iconic pictures with {p.knn_train} others, linear segmentation trained on {p.seg_train} scenes;
slots and segments tested on {p.scenes} unseen scenes
"""


# ---- the claims

METRICS = dict(
    knn=dict(title='kNN', unit='%',
             how='iconic pictures, pooled teacher features, k=20, T=.07; the paper: ImageNet-1K'),
    ade=dict(title='segm.', unit='%',
             how='mean IoU of a linear classifier on frozen patches of scenes; the paper: ADE20K, fine-tuned'),
    jacc=dict(title='Jaccard', unit='%',
              how='best IoU of a slot\'s mask (99 % of its mass) with each class in a scene; the paper: VOC 2012'),
    loc=dict(title='CorLoc', unit='%',
             how='largest piece outside the slot that owns the border, IoU >= .5 with any object; the paper: VOC'),
    kbar=dict(title='slots', unit='', how='slots per image that win a patch (K-bar)'),
    ari=dict(title='ARI', unit='%', how='hard slots against instances, background included'),
    mbo=dict(title='mBO', unit='%', how='best IoU of a hard slot with each instance'),
    used=dict(title='used', unit='', how='prototypes that win a patch in any judged scene'))


def figures(*rows):
    "Rows of (arm, kNN, ADE, Jacc, Loc, K-bar) as arm → metric → figure"
    return {arm: dict(zip(('knn', 'ade', 'jacc', 'loc', 'kbar'), values, strict=True)) for arm, *values in rows}


ROW1, ROW2, ROW3, ROW4, ROW5 = '1 cross', '2 mask + cross', '3 mask + within', '4 mask + cross + slot', '5 all'
FIVE = (ROW5, 46.2, 49.1, 43.9, 62.5, 9.4)       # the default row, in every table

table4 = Claim(
    id='table4', sentence='Masking, cross-view, within-view and slot losses each contribute.',
    where='Table 4, section 3.6',
    metrics=METRICS, seeds=SEEDS, measured='now', setting=dict(cpu=CPU, gpu=GPU),
    paper=figures((ROW1, 45.1, 47.4, 42.5, 55.6, 8.3), (ROW2, 44.9, 48.6, 42.3, 60.7, 10.3),
                  (ROW3, 27.7, 45.7, 39.3, 65.5, 20.7),
                  (ROW4, 45.3, 47.5, 42.9, 63.6, 8.4), FIVE),
    arms={ROW1: dict(within=0., slot=0., mask_ratio=(0., 0.)), ROW2: dict(within=0., slot=0.),
          ROW3: dict(cross=0., slot=0.),
          ROW4: dict(within=0.), ROW5: {}},
    pairs=(*above(ROW2, ROW1, 'introducing MIM enhances object localization', 'loc'),
           *above(ROW2, ROW1, 'and benefits segmentation', 'ade'),
           *above(ROW5, ROW3, 'cross-view and slot losses improve object discovery', 'jacc'),
           *above(ROW3, ROW5, 'without them, more and smaller slots (table)', 'kbar'),
           *above(ROW5, ROW3, 'without them, weaker features (table)', 'knn', 'ade'),
           *above(ROW5, ROW4, 'the within-view loss regularises and improves representations', 'knn', 'ade', 'jacc')),
    correlations=(Correlation('jacc', 'knn', 'Jaccard correlates with representation quality'),
              Correlation('jacc', 'ade', 'Jaccard correlates with representation quality')))

HALF, DEFAULT, DOUBLE = 'half', 'default', 'double'
FEW, MORE = 'fewer prototypes, more holistic concepts', 'the default number is best'

table5a = Claim(
    id='table5a', sentence='Fewer prototypes give more holistic slots; a middle number gives the best features.',
    where='Table 5 a, section 3.6',
    metrics=METRICS, seeds=SEEDS, measured='now', setting=dict(cpu=CPU, gpu=GPU),
    paper=figures((HALF, 45.3, 49.1, 42.2, 61.2, 7.8), (DEFAULT, *FIVE[1:]), (DOUBLE, 45.6, 48.4, 42.8, 62.6, 10.8)),
    arms={HALF: lambda c: dict(prototypes=c.prototypes // 2), DEFAULT: {},
          DOUBLE: lambda c: dict(prototypes=c.prototypes * 2)},
    pairs=(*above(DEFAULT, HALF, FEW, 'kbar'), *above(DOUBLE, DEFAULT, FEW, 'kbar'), *above(DOUBLE, HALF, FEW, 'kbar'),
           *above(DEFAULT, HALF, MORE, 'knn', 'jacc'), *above(DEFAULT, DOUBLE, MORE, 'knn', 'ade', 'jacc')),
    correlations=(Correlation('jacc', 'knn', 'optimal representation is highly related to object discovery quality'),))

LOW, MIDDLE, HIGH = '0.3 ± 0.2', '0.4 ± 0.2', '0.5 ± 0.2'

table5b = Claim(
    id='table5b', sentence='A higher mask ratio gives more holistic slots, and weaker features.',
    where='Table 5 b, section 3.6',
    metrics=METRICS, seeds=SEEDS, measured='runnable', setting=dict(cpu=CPU, gpu=GPU),
    paper=figures((LOW, *FIVE[1:]), (MIDDLE, 45.8, 48.6, 45.0, 62.6, 8.1), (HIGH, 44.3, 48.2, 45.7, 64.8, 7.1)),
    arms={LOW: dict(mask_ratio=(.1, .5)), MIDDLE: dict(mask_ratio=(.2, .6)), HIGH: dict(mask_ratio=(.3, .7))},
    pairs=(*above(LOW, MIDDLE, 'a higher mask ratio: more holistic', 'kbar'),
           *above(MIDDLE, HIGH, 'a higher mask ratio: more holistic', 'kbar'),
           *above(HIGH, LOW, 'and better found objects (table)', 'jacc', 'loc'),
           *above(LOW, HIGH, 'but weaker features (table)', 'knn', 'ade')))

CENTRE, BALANCED = 'centring', 'Sinkhorn'

table5c = Claim(
    id='table5c', sentence='Centring gives more holistic slots and better features than Sinkhorn-Knopp.',
    where='Table 5 c, section 3.6',
    metrics=METRICS, seeds=SEEDS, measured='runnable', setting=dict(cpu=CPU, gpu=GPU),
    paper=figures((CENTRE, *FIVE[1:]), (BALANCED, 45.1, 49.3, 40.8, 68.5, 15.2)),
    arms={CENTRE: {}, BALANCED: dict(sinkhorn=True)},
    pairs=(*above(BALANCED, CENTRE, 'Sinkhorn: more fine-grained concepts', 'kbar'),
           *above(CENTRE, BALANCED, 'centring: more holistic objects', 'jacc'),
           *above(BALANCED, CENTRE, 'Sinkhorn localises better (table)', 'loc'),
           *above(CENTRE, BALANCED, 'centring: better features (table)', 'knn')))

claims = (table4, table5a, table5b, table5c)
