"""DILEMMA's claims: tables 3.8 and 3.10 to 3.14 of the thesis' chapter 3, on drawn iconic pictures."""
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from benchmarks.claims.runner import Claim, above
from benchmarks.protocols.classification import iconic_features, knn_and_linear, pooled
from benchmarks.protocols.cost import cost_per_image
from benchmarks.protocols.positions import mismatch, misplaced_patches
from benchmarks.protocols.runs import as_drawn, train
from benchmarks.protocols.worlds import float_images, image_set, tiny_images, training_images
from ssl_workbench.methods.dilemma import DILEMMA, auroc, config_on

# ---- the setting: what the arms share, the smallest in which the sentences make sense

QUICK = dict(pos_base=10., momentum=(.98, 1.))  # a short run on a small grid
# of the cpu preset
CPU = dict(kind='iconic', level=1, steps=120, batch=16, lr=2e-3, scale=(.3, 1.), weight=10., given=QUICK)
GPU = dict(kind='iconic', level=3, steps=3000, given=QUICK)                 # of the gpu preset
SEEDS = 3
TIMED = 4                                       # a run of so few steps learns nothing: it is timed


@dataclass(frozen=True)
class Protocol:
    "What is trained on, and how a run is scored; the same for every arm"
    pool: int = 2048              # iconic images to train on
    knn_train: int = 600          # iconic images that vote and teach the linear probe
    knn_test: int = 400           # iconic images classified
    scenes: int = 200             # iconic images in which patches are misplaced


protocols = dict(cpu=Protocol(), gpu=replace(Protocol(), pool=50_000, knn_train=3000, knn_test=1500, scenes=500))


# ---- scores

@torch.no_grad()
def detection(method, config, protocol, device):
    "Accuracy and AUROC of misplaced patches in unseen images: everything shown, and as sparse as the sparsest training"
    images = float_images(image_set('scenes', config, protocol, device, 'iconic'))
    images = F.interpolate(images, (config.size,) * 2, mode='bilinear', antialias=True)
    found = {}
    for name, ratio in (('', 0.), ('_sparse', max(config.ratios) or .55)):
        keep, given, wrong = misplaced_patches(config, len(images), ratio, 'judged')
        predicted = mismatch(method, images, keep, given)
        found[f'md{name}'] = float(((predicted > .5) == wrong).float().mean())
        found[f'auroc{name}'] = auroc(predicted.flatten(), wrong.flatten())
    return found


def classification(features, config, protocol, device):
    "kNN and linear accuracy of the class (shape), and likewise with any texture on any shape, where only shape tells"
    found = {}
    for name, mixed in (('', False), ('shape_', True)):
        both = knn_and_linear(*iconic_features(features, config, protocol, device, mixed))
        found |= {f'{name}knn': both['knn'], f'{name}lin': both['linear']}
    return found


def scores(method, config, protocol, device):
    "All scores of a trained or untrained DILEMMA"
    found = classification(pooled(method), config, protocol, device)
    return found | (detection(method, config, protocol, device) if config.task == 'mismatch' and config.weight else {})


def measure(config, protocol, seed, device):
    "Scores of one arm with one seed: train from scratch, then probe; a run of a few steps is timed and not probed"
    if config.steps <= TIMED: return cost_per_image(config, protocol, seed, device)
    method = train('dilemma', config, training_images(config, protocol, device, 'iconic'), seed, device)
    return scores(method, config, protocol, device)


# ---- what needs no training

def random_init(config, protocol, seed, device):
    "The same network, its weights as drawn"
    return {} if config.steps <= TIMED else scores(as_drawn(DILEMMA, config, seed, device), config, protocol, device)


def raw_pixels(config, protocol, seed, device):
    "Small images"
    return {} if config.steps <= TIMED else classification(tiny_images, config, protocol, device)


references = {'random init': random_init, 'raw pixels': raw_pixels}


def describe(config, protocol):
    "Data and scoring in words"
    c, p = config, protocol
    shared = (f'views of {c.size} px from iconic pictures of {c.canvas} px, level {c.level}, '
              f'patch {c.patch}, width {c.dim}, depth {c.depth}')
    if c.steps <= TIMED:
        return (f'{shared}; forward and backward pass, teacher included, views left out, '
                f'best of {c.steps} steps per ratio, batches of {c.batch} times the growth')
    return (f'{shared}; {c.steps} steps of {c.batch} images times the growth (other arms see as many images in total), '
            f'from {p.pool} pictures; probes trained on {p.knn_train} pictures, tested on {p.knn_test} others; '
            f'misplaced patches in {p.scenes} unseen pictures')


# ---- the claims

METRICS = dict(
    knn=dict(title='kNN', unit='%',
             how='class of iconic pictures by kNN (k=20, T=.07); the thesis: IN-1K, table 3.8 also IN-100'),
    lin=dict(title='linear', unit='%', how='likewise, logistic regression on frozen pooled features'),
    shape_knn=dict(title='shape kNN', unit='%',
                   how='likewise, with any texture and colour on any shape: only shape helps; the thesis: Yoga82'),
    shape_lin=dict(title='shape linear', unit='%', how='likewise, logistic regression'),
    md=dict(title='MD acc.', unit='%',
            how='accuracy of the mismatch detection in unseen pictures, all patches shown; '
                'always "right place" gives 1 - θ = 80'),
    md_sparse=dict(title='MD acc., sparse', unit='%',
                   how='likewise, with as many patches left out as in the sparsest training steps'),
    auroc=dict(title='AUROC', unit='%', how='likewise, area under ROC, everything shown'),
    auroc_sparse=dict(title='AUROC, sparse', unit='%', how='likewise, sparse'))
COSTS = dict(
    time=dict(title='time', unit='ms',
              how='forward and backward pass per image: total time over total images; '
                  'the thesis: epoch time, relative'),
    memory=dict(title='memory', unit='MB',
                how='what autograd keeps for the backward pass, per image; '
                    'the thesis: most memory at a batch that fills the card'))
SHARED = dict(metrics=METRICS, seeds=SEEDS, setting=dict(cpu=CPU, gpu=GPU))
ALONE = dict(task='none')


def as_many(images, **changes):
    "Changes of an arm that sees as many images in its run as the default: `images` batches a step instead of 2.5"
    return lambda c: dict(changes, steps=round(c.steps * sum(c.growth) / len(c.growth) / images))


EVERYTHING = dict(ratios=(0.,), growth=(1,))    # nothing is dropped


def rows(names, **arms):
    "arm → metric → figure from rows of figures"
    return {arm: {m: v for m, v in zip(names, values) if v is not None} for arm, values in arms.items()}


DENSE, CONSTANT, RANDOM = 'dense', '75 %', 'random ratio'

table38 = Claim(
    id='table38', sentence='A random dropping ratio is better than a constant one.',
    where='Thesis, table 3.8, section 3.3.3', measured='now', **SHARED,
    paper=rows(('knn', 'lin'), **{DENSE: (53.27, 58.20), CONSTANT: (52.99, 57.90), RANDOM: (55.71, 59.55)}),
    arms={DENSE: as_many(1, **ALONE, **EVERYTHING), CONSTANT: as_many(4, **ALONE, ratios=(.75,), growth=(4,)),
          RANDOM: ALONE},
    pairs=(*above(RANDOM, CONSTANT, 'randomised performs better than constant', 'knn', 'lin'),
           *above(RANDOM, DENSE, 'only random sparsity outperforms the dense model', 'knn', 'lin'),
           *above(DENSE, CONSTANT, 'constant sparsity is worse than dense', 'knn', 'lin')))

PLAIN, MD, SPARSE, BOTH = 'MoCo v3', '+ MD', '+ sparsity', '+ both'

table310 = Claim(
    id='table310',
    sentence='Detecting misplaced patches is easy when all patches are visible, yet it improves shape tasks; '
             'with sparsity even more.',
    where='Thesis, table 3.10, section 3.3.3', measured='now', **SHARED,
    paper=rows(('knn', 'lin', 'shape_knn', 'shape_lin', 'md'),
               **{PLAIN: (53.27, 58.20, 31.60, 51.27, None), MD: (54.18, 58.78, 35.78, 54.53, 100.),
                  SPARSE: (55.71, 59.55, 32.73, 50.90, None)})
    | {BOTH: dict(knn=55.63, lin=59.84, shape_knn=35.94, shape_lin=57.26, md_sparse=96.2)},
    arms={PLAIN: as_many(1, **ALONE, **EVERYTHING), MD: as_many(1, dense_task=True, **EVERYTHING), SPARSE: ALONE,
          BOTH: {}},
    pairs=(*above(MD, PLAIN, 'detection improves shape tasks, dense', 'shape_knn', 'shape_lin'),
           *above(BOTH, SPARSE, 'and sparse', 'shape_knn', 'shape_lin'),
           *above(BOTH, PLAIN, 'DILEMMA above its base', 'knn', 'lin', 'shape_knn', 'shape_lin')))


def cheap(base):
    "Changes that time a classic with 196 tokens, its views twice as wide as those of the cpu preset"
    def change(config, **more):
        own = config_on(base)
        return dict(base=base, given=own.given, steps=TIMED, size=112, canvas=128, ratios=own.ratios, growth=own.growth,
                    batch=16) | more
    return change


def timing(base, **more): return lambda config: cheap(base)(config, **more)


DENSELY = dict(ALONE, **EVERYTHING)
ARMS312 = {'SimCLR': timing('simclr', **DENSELY), 'SimCLR + DILEMMA': timing('simclr'),
           'MoCo v3': timing('mocov3', **DENSELY), 'MoCo v3 + DILEMMA': timing('mocov3'),
           'DINO (MC)': timing('dino', **DENSELY), 'DINO (MC) + DILEMMA': timing('dino')}

table312 = Claim(
    id='table312', sentence='Sparse students cost less time and memory.', where='Thesis, table 3.12, section 3.3.3',
    measured='now', metrics=COSTS, seeds=SEEDS,
    setting=dict(cpu=dict(steps=TIMED, size=112, canvas=128, batch=16),
                 gpu=dict(steps=TIMED, size=112, canvas=128, batch=64)),
    # the thesis: 0.85, 0.65 and 0.72 of the dense epoch time with SimCLR, MoCo v3, DINO with small crops;
    # memory of a full card
    paper={}, arms=ARMS312,
    pairs=tuple(p for base in ('SimCLR', 'MoCo v3', 'DINO (MC)')
                for p in above(base, f'{base} + DILEMMA', 'sparse is cheaper per image', 'time', 'memory')))

VARIANTS = {'none': 'none', 'position correction': 'position', 'partial jigsaw': 'jigsaw', 'flip detection': 'flip',
            'DILEMMA': 'mismatch'}

table311 = Claim(
    id='table311', sentence='All variants of the loss help, detecting misplaced patches most.',
    where='Thesis, table 3.11, section 3.3.3', measured='runnable', **SHARED,
    paper=rows(('knn', 'lin', 'shape_knn', 'shape_lin'), **{
        'none': (53.27, 58.20, 31.60, 51.27), 'position correction': (54.77, 58.95, 35.74, 56.15),
        'partial jigsaw': (55.72, 59.19, 34.77, 56.79),
        'flip detection': (55.69, 59.59, 35.09, 55.00), 'DILEMMA': (55.63, 59.84, 35.94, 57.26)}),
    arms={name: as_many(1, **ALONE, **EVERYTHING) if task == 'none' else dict(task=task)
          for name, task in VARIANTS.items()},
    pairs=(*(p for v in VARIANTS if v != 'none'
             for p in above(v, 'none', 'all variants help shape discrimination', 'shape_knn', 'shape_lin')),
           *(p for v in list(VARIANTS)[1:-1]
             for p in above('DILEMMA', v, 'DILEMMA is best on both', 'lin', 'shape_lin'))))

IMPORTANT, CHANCE = 'importance', 'random'

table313 = Claim(
    id='table313', sentence='Dropping at random is better than dropping what the teacher attends to least.',
    where='Thesis, table 3.13, section 3.3.3', measured='runnable', **SHARED,
    paper=rows(('knn', 'lin'), **{IMPORTANT: (71.88, 76.76), CHANCE: (73.98, 77.78)}),
    arms={name: as_many(4, **ALONE, ratios=(.75,), growth=(4,), policy=name) for name in (IMPORTANT, CHANCE)},
    pairs=above(CHANCE, IMPORTANT, 'no need for extra complexity', 'knn', 'lin'))


def with_mae(config, **more):
    "Changes that put DILEMMA on MAE, which drops three quarters at every step"
    return dict(base='mae', given=dict(pos_base=10.), ratios=(.75,), growth=(1,), lr=config_on('mae').lr) | more


table314 = Claim(
    id='table314', sentence='Detecting wrong positions in the encoder improves MAE.',
    where='Thesis, table 3.14, section 3.3.3', measured='runnable', **SHARED,
    paper=rows(('lin',), **{'MAE': (37.30,), 'MAE + DILEMMA': (39.06,)}),
    arms={'MAE': lambda c: with_mae(c, task='none'), 'MAE + DILEMMA': with_mae},
    pairs=above('MAE + DILEMMA', 'MAE', 'outperforms MAE', 'lin', 'shape_lin'))

WEAK = dict(QUICK, colour=0., grey=0., blur=(0., 0.), solarise=(0., 0.))

weaker = Claim(
    id='weaker-augmentations', sentence='With random resized crops alone DILEMMA keeps what MoCo v3 loses.',
    where='Thesis, section 3.3.3, "Weaker Data Augmentations"',
    measured='runnable', **SHARED, paper=rows(('lin',), **{'MoCo v3': (29.65,), 'MoCo v3 + DILEMMA': (44.48,)}),
    arms={'MoCo v3': as_many(1, **ALONE, **EVERYTHING, given=WEAK, flip=0.),
          'MoCo v3 + DILEMMA': dict(given=WEAK, flip=0.)},
    pairs=above('MoCo v3 + DILEMMA', 'MoCo v3', 'a huge gap', 'lin', 'shape_lin'))

ONE, MIXED = 'one ratio a step', 'all ratios in a batch'

mixed = Claim(
    id='mixed', sentence='Several ratios within one batch could help further.',
    where='Thesis, section 8 (future work): "multiple sparsity rates within the same minibatch, similar to NaViT"',
    measured='now', **SHARED, paper={}, arms={ONE: {}, MIXED: dict(mixed=True)},
    pairs=above(MIXED, ONE, 'could further enhance the performance', 'knn', 'lin', 'shape_knn', 'shape_lin'))

# table 3.1: a base alone, and with DILEMMA for as many pictures or for as long; an epoch's time of table 3.12
EPOCH_TIME = dict(simclr=.85, mocov3=.65, dino=.72)
NAMES = dict(simclr='SimCLR', mocov3='MoCo v3', dino='DINO (MC)')


def on_base(base, time=None, **more):
    "Changes that put DILEMMA on a base, for as many pictures as `config.steps` batches hold, or (`time`) for as long"
    def change(config):
        own = config_on(base, 'cpu', **more)
        pictures = sum(own.growth) / len(own.growth)
        kept = dict(base=base, given=own.given, weight=own.weight, ratios=own.ratios, growth=own.growth, lr=own.lr,
                    scale=own.scale) | more
        return dict(kept, steps=round(config.steps * sum(config.growth) / len(config.growth) / pictures / (time or 1)))
    return change


def table31(base, figures):
    "The claim of table 3.1 about one base"
    alone, images, time = NAMES[base], f'{NAMES[base]} + DILEMMA, equal images', f'{NAMES[base]} + DILEMMA, equal time'
    return Claim(
        id=f'table31-{base}',
        sentence=f'DILEMMA improves {alone} with the same number of images, and even more in the same time.',
        where='Thesis, table 3.1, section 3.3.1; times of table 3.12', measured='runnable', **SHARED,
        paper=rows(('knn', 'lin'), **dict(zip((alone, images, time), figures))),
        arms={alone: on_base(base, **DENSELY), images: on_base(base), time: on_base(base, EPOCH_TIME[base])},
        pairs=(*above(images, alone, 'a consistent improvement over the baseline', 'knn', 'lin'),
               *above(time, alone, 'with the same training time', 'knn', 'lin'),
               *above(time, images, 'longer, since cheaper', 'knn', 'lin')))


on_simclr = table31('simclr', [(41.46, 50.21), (41.90, 50.71), (None, None)])
on_mocov3 = table31('mocov3', [(59.68, 63.62), (61.97, 65.62), (64.69, 68.03)])
on_dino = table31('dino', [(61.35, 65.46), (62.48, 68.55), (63.74, 69.43)])

claims = (table38, table310, table312, mixed, table311, table313, table314, weaker, on_simclr, on_mocov3, on_dino)
