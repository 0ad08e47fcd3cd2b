"""MC-JEPA's claims: tables 1, 3, 5 and 11 and figure 5 of Bardes, Ponce, LeCun 2023, on drawn scenes and drives."""
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch

from benchmarks.claims.runner import Claim, Pair, above
from benchmarks.protocols.flow import constant_flow, flow_error, relative_epe, unseen_pairs
from benchmarks.protocols.runs import as_drawn, train
from benchmarks.protocols.segmentation import camvid_iou, drive_iou, patch_pixels
from ssl_workbench import data, probes
from ssl_workbench.methods.mcjepa import MCJEPA, motion_only

# ---- the setting: what the arms share, the smallest in which the sentences make sense

PAIRS = 'world:scene:{0}@2*2+world:drive:{0}@1'
CPU = dict(level=2, canvas=96, pair_size=(64, 64), dims=(32, 48, 64), depths=(1, 1, 1), levels=3,
           l1=3., structure=.5, window=1, smooth=2., edge=30.,
           vc_warmup=.05, content_kind='scene', batch=6, many=4, steps=200)     # changes of the cpu preset
GPU = dict(level=3, content_kind='scene', steps=6000)                           # changes of the gpu preset
SEEDS = 3


@dataclass(frozen=True)
class Protocol:
    "What is trained on, and how a run is scored; the same for every arm"
    pool: int = 384               # pairs of each part to train on, and `many` times as many single images
    pairs: int = 64               # unseen pairs in the test, of scenes and of drives
    seg_train: int = 100          # drives that the linear segmentation learns from
    scenes: int = 150             # test drives
    street: tuple = (96, 128)     # CamVid's height and width


protocols = dict(cpu=Protocol(),
                 gpu=replace(Protocol(), pool=8192, pairs=256, seg_train=300, scenes=500, street=(144, 192)))


@lru_cache(maxsize=None)
def training_pairs(level, canvas, content_kind, many, n):
    "Pairs and single images to train on, rendered once a process; an arm without images leaves them alone"
    images = data.open_data(f'world:{content_kind}:{level}', size=canvas, frames=1, length=n * many, truth=False)
    return data.Streams(data.open_pairs(PAIRS.format(level), size=canvas, length=n, truth=False), images, many)


# ---- scores

MOVING = dict(epe=('scene', 2), epe_drive=('drive', 1))     # metric → kind of world, stride


def flow_errors(source, config, protocol, device):
    "Flow on both kinds of unseen pairs; source: two (B,3,H,W) float 0-1 → (B,2,H,W)"
    return {m: flow_error(source, kind, stride, config, protocol, device) for m, (kind, stride) in MOVING.items()}


def segmentation(maps, config, protocol, device):
    "Linear segmentation of drawn drives and of CamVid; maps: (B,3,H,W) → (B,D,h,w)"
    drives, streets = drive_iou(maps, config, protocol, device), camvid_iou(maps, protocol)
    return dict(seg=drives['all']) | (dict(camvid=streets['all']) if streets else {})


def scores(method, config, protocol, device):
    "All scores of a trained or untrained MC-JEPA; flow only where it has one"
    place = torch.device(device)
    found = segmentation(probes.feature_maps(method), config, protocol, device)
    flow = lambda a, b: method.flow(a.to(place), b.to(place))
    return found | (flow_errors(flow, config, protocol, device) if config.flow_loss else {})


def measure(config, protocol, seed, device):
    "Scores of one arm with one seed: train from scratch, then probe"
    pairs = training_pairs(config.level, config.canvas, config.content_kind, config.many, protocol.pool)
    return scores(train('mcjepa', config, pairs, seed, device), config, protocol, device)


# ---- what needs no training

def random_init(config, protocol, seed, device):
    "The same network, its weights as drawn"
    return scores(as_drawn(MCJEPA, config, seed, device), config, protocol, device)


def raw_pixels(config, protocol, seed, device):
    "Pixels of patches; nothing moves"
    maps = patch_pixels(2**len(config.dims))
    return dict(segmentation(maps, config, protocol, device), **{m: 1. for m in MOVING})


@lru_cache(maxsize=None)
def constant_epe(kind, level, size, stride, n, device):
    "Relative end-point error of the best constant flow of every pair"
    truth = unseen_pairs(kind, level, size, stride, n, device=device)[2]
    return relative_epe(constant_flow(truth), truth)


def constant(config, protocol, seed, device):
    "One arrow a pair; the same for every seed"
    return {m: constant_epe(kind, config.level, config.canvas, stride, protocol.pairs, str(device))
            for m, (kind, stride) in MOVING.items()}


def search(config, protocol, seed, device):
    "OpenCV's dense inverse search, which is made for flow and learns nothing; the same for every seed"
    return flow_errors(data.dis, config, protocol, device)


references = {'random init': random_init, 'raw pixels, zero flow': raw_pixels,
              'best constant flow': constant, 'DIS': search}

describe = """
stages {c.dims} wide and {c.depths} deep, flow at {c.levels} levels;
{c.steps} steps of {c.batch} pairs of {c.pair_size[0]}×{c.pair_size[1]} px
(two in three of scenes at stride 2, one of drives at stride 1; level {c.level}) and {c.many} images per pair;
pool of {p.pool} pairs of each part; flow tested on {p.pairs} unseen pairs of {c.canvas} px each,
linear segmentation trained on {p.seg_train} drives and tested on {p.scenes}
"""


# ---- the claims

METRICS = dict(
    epe=dict(title='EPE', unit='%',
             how="end-point error on scenes (stride 2) as a part of zero flow's; the paper: pixels, Sintel clean"),
    epe_drive=dict(title='EPE, drives', unit='%', how="likewise on drives; the paper: pixels, KITTI 2015"),
    seg=dict(title='segm.', unit='%',
             how='mean IoU of a linear classifier on frozen features of drawn drives; the paper: Pascal VOC, frozen'),
    camvid=dict(title='CamVid', unit='%',
                how='likewise on CamVid, tested on a drive of its own; the paper: Cityscapes, frozen'))
SHARED = dict(metrics=METRICS, seeds=SEEDS, setting=dict(cpu=CPU, gpu=GPU))
FLOW, CONTENT = ('epe', 'epe_drive'), ('seg', 'camvid')


def lower(a, b, why):
    "Arm `a` has the smaller end-point error: `b`'s is above it"
    return above(b, a, why, *FLOW)


def figures(**arms):
    "arm → metric → figure from rows of KITTI, Sintel clean, Pascal VOC"
    return {arm: {m: v for m, v in zip(('epe_drive', 'epe', 'seg'), row) if v is not None} for arm, row in arms.items()}


def motion_alone(config):
    "Changes that leave M-JEPA"
    other = motion_only(config)
    return {f.name: getattr(other, f.name) for f in fields(config) if getattr(other, f.name) != getattr(config, f.name)}


MOTION, VIEWS, BOTH = 'M-JEPA', 'VICReg', 'MC-JEPA'

table1 = Claim(
    id='table1',
    sentence='Learning motion and content together gives better features than without motion, '
             'and better flow than without content.',
    where='Table 1, section 4.2', measured='now', **SHARED,
    paper={MOTION: dict(epe=2.98, epe_drive=3.01, seg=9.4), VIEWS: dict(epe_drive=13.5, seg=60.1, camvid=59.8),
           BOTH: dict(epe=2.81, epe_drive=2.67, seg=67.1, camvid=65.5)},
    arms={MOTION: motion_alone, VIEWS: dict(flow_loss=False), BOTH: {}},
    pairs=(*above(BOTH, VIEWS, 'flow estimation significantly helps the localisation', *CONTENT),
           *lower(BOTH, MOTION, 'content features help the flow (table)'),
           *above(BOTH, MOTION, 'flow alone gives poor content (table)', *CONTENT)))

NONE, LAST, COLD, WARM = 'none', 'last level', 'all levels', 'all levels, warm-up'


def only(values):
    "The coarsest level's weight alone"
    return (values[0], *(0. for _ in values[1:]))


table11 = Claim(
    id='table11',
    sentence='Variance and covariance terms help at the last level, more at all levels, and more with a warm-up.',
    where='Table 11, appendix E',
    measured='now', **SHARED,
    paper=figures(**{NONE: (3.41, 3.37, 47.3), LAST: (2.77, 2.88, 65.6), COLD: (2.65, 2.80, 66.2),
                     WARM: (2.67, 2.81, 67.1)}),
    arms={NONE: lambda c: dict(variance=(0.,) * len(c.variance), covariance=(0.,) * len(c.covariance), vc_warmup=0.),
          LAST: lambda c: dict(variance=only(c.variance), covariance=only(c.covariance), vc_warmup=0.),
          COLD: dict(vc_warmup=0.), WARM: {}},
    pairs=(*above(LAST, NONE, 'the last layer is enough to prevent collapse', *CONTENT),
           *lower(LAST, NONE, 'and the flow gains (table)'),
           *above(COLD, LAST, 'every layer gives the best results', *CONTENT), *lower(COLD, LAST, 'for both'),
           *above(WARM, COLD, 'a single epoch of warm-up helps', *CONTENT),
           *above(WARM, COLD, 'at no gain for the flow (table)', *FLOW)))

NORMED, DIRECTIONS, NEITHER, LARGER = 'layer norm', 'l2', 'no norm', 'layer norm, twice as wide'

table3 = Claim(
    id='table3',
    sentence='Layer norm keeps the estimator stable; l2-normalisation before its last layer does not work.',
    where='Table 3, section 4.3',
    measured='runnable', **SHARED,
    # without either: crashed
    paper=figures(**{NORMED: (2.68, 2.88, 67.0), DIRECTIONS: (6.21, 6.04, 53.2), LARGER: (2.67, 2.81, 67.1)}),
    arms={NORMED: {}, DIRECTIONS: dict(estimator_norm='l2'), NEITHER: dict(estimator_norm='none'),
          LARGER: lambda c: dict(factor=2 * c.factor)},
    pairs=(*lower(NORMED, DIRECTIONS, 'l2-normalization is very inefficient'),
           *above(NORMED, DIRECTIONS, 'for content too (table)', *CONTENT),
           *lower(NORMED, NEITHER, 'not regularising led to crashing runs'),
           *lower(LARGER, NORMED, 'a larger estimator marginally improves')))

FROZEN, TUNED, TOGETHER = 'frozen features', 'fine-tuning', 'combined'
EPOCHS, BATCHES = 'epoch alternation', 'batch alternation'

table5 = Claim(
    id='table5', sentence='Both losses in every step are better than one loss after the other.',
    where='Table 5, section 4.3', measured='runnable', **SHARED,
    paper=figures(**{FROZEN: (13.52, 13.82, 60.1), TUNED: (2.71, 2.82, 61.3), EPOCHS: (4.54, 4.91, 63.5),
                     BATCHES: (2.78, 2.95, 67.1), TOGETHER: (2.67, 2.81, 67.1)}),
    arms={FROZEN: dict(strategy='frozen', flow_start=.5), TUNED: dict(strategy='finetune', flow_start=.5),
          # an epoch is a tenth of the run
          EPOCHS: lambda c: dict(strategy='epoch', pictures=c.batch * max(1, c.steps // 10)),
          BATCHES: dict(strategy='batch'), TOGETHER: {}},
    pairs=(*lower(TOGETHER, FROZEN, 'frozen features are too hard a constraint'),
           *above(TOGETHER, TUNED, 'fine-tuning degrades segmentation too much', *CONTENT),
           *lower(TOGETHER, EPOCHS, 'alternating between epochs is not optimal'),
           *lower(TOGETHER, BATCHES, 'combined losses for optimal flow')))

CYCLES = {f'cycle {w:g}': w for w in (0., .1, .2, 1.)}

figure5_2 = Claim(
    id='figure5-2', sentence='Cycle consistency improves the flow if its weight is well chosen.',
    where='Figure 5 (2), section 4.3', measured='runnable', **SHARED,
    paper={}, arms={name: dict(cycle=w) for name, w in CYCLES.items()},      # the figure has no numbers
    pairs=(*lower('cycle 0.2', 'cycle 0', 'introducing the loss significantly improves the flow'),
           *lower('cycle 0.2', 'cycle 1', 'very sensitive to it')))

ALPHAS = {f'alpha {a:g}': a for a in (.01, .1, 1., 10.)}

figure5_3 = Claim(
    id='figure5-3',
    sentence='A small weight of the flow terms already helps segmentation; beyond a threshold it hurts.',
    where='Figure 5 (3), section 4.3',
    measured='runnable', **SHARED, paper={},                                    # no numbers either
    arms={'VICReg': dict(flow_loss=False)} | {name: dict(alpha=a) for name, a in ALPHAS.items()},
    pairs=(*(Pair('alpha 0.01', 'VICReg', m, 'a significant improvement even with a very small coefficient')
             for m in CONTENT),
           *lower('alpha 1', 'alpha 0.01', 'the flow improves with it'),
           *above('alpha 1', 'alpha 10', 'beyond a threshold segmentation degrades a lot', *CONTENT)))

claims = (table1, table11, table3, table5, figure5_2, figure5_3)
