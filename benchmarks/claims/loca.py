"""LOCA's claims: figures 4 and 5, tables 5 and 6 of Caron et al., WACV 2024, on drawn scenes."""
import torch

from benchmarks.claims.runner import Claim, Pair, above
from benchmarks.protocols.classification import iconic_knn, pooled
from benchmarks.protocols.positions import cell_accuracy, most_frequent, query_reference_views
from benchmarks.protocols.runs import GPU_SCENES, SceneProtocol, as_drawn, train
from benchmarks.protocols.segmentation import patch_pixels, scene_miou
from benchmarks.protocols.worlds import image_set, tiny_images, training_images
from ssl_workbench import probes
from ssl_workbench.losses import mean_entropy
from ssl_workbench.methods.loca import LOCA

# ---- the setting: what the arms share, the smallest in which the sentences make sense

CPU = dict(level=1, steps=150)                  # changes of the cpu preset
GPU = dict(level=3, steps=3000)                 # changes of the gpu preset
SEEDS = 3
protocols = dict(cpu=SceneProtocol(), gpu=SceneProtocol(**GPU_SCENES))


# ---- scores

def test_views(config, protocol, device):
    "Views of the test scenes, in parts"
    return query_reference_views(config, image_set('scenes', config, protocol, device)['frames'], 'posed')


@torch.no_grad()
def pretext(method, parts):
    "The teacher's weights on unseen views: position accuracy, and the mean prediction's entropy as a part of log K"
    twin = LOCA(method.config).to(next(method.parameters()).device)
    twin.teacher.load_state_dict(method.teacher.state_dict())
    twin.student.load_state_dict(method.teacher.state_dict())
    outs, found = [twin.eval()(v) for v in parts], {}
    mean = lambda k: torch.stack([o[k] for o in outs]).mean(0)
    if 'accuracy' in outs[0]: found['acc'] = float(mean('accuracy'))
    if 'mean_prediction' in outs[0]:
        most = torch.tensor(float(method.config.prototypes)).log().item()
        found['use'] = float(mean_entropy(mean('mean_prediction')[None])) / most
    return found


def scores(method, config, protocol, device):
    "All scores of a trained or untrained LOCA"
    return dict(ade=scene_miou(probes.feature_maps(method), config, protocol, device),
                knn=iconic_knn(pooled(method), config, protocol, device),
                **pretext(method, test_views(config, protocol, device)))


def measure(config, protocol, seed, device):
    "Scores of one arm with one seed: train from scratch, then probe"
    method = train('loca', config, training_images(config, protocol, device), seed, device)
    return scores(method, config, protocol, device)


# ---- what needs no training

def random_init(config, protocol, seed, device):
    "The same network, its weights as drawn"
    return scores(as_drawn(LOCA, config, seed, device), config, protocol, device)


def raw_pixels(config, protocol, seed, device):
    "kNN on small images, linear segmentation of patches; position by a guess"
    return dict(ade=scene_miou(patch_pixels(config.patch), config, protocol, device), acc=1 / config.cells,
                knn=iconic_knn(tiny_images, config, protocol, device))


def constant(config, protocol, seed, device):
    "Position by the cell that is right most often, whatever the image"
    cells = torch.cat([v['target'].flatten() for v in test_views(config, protocol, device)])
    return dict(acc=cell_accuracy(most_frequent(cells), cells))


GUESS, CONSTANT = 'raw pixels, a guess', 'the most frequent cell'
references = {'random init': random_init, GUESS: raw_pixels, CONSTANT: constant}

describe = """
reference of {c.size} px, small queries of {c.small}, from pictures of {c.canvas}, patch {c.patch}, width {c.dim},
depth {c.depth}, {c.prototypes} prototypes, {c.queries} queries,
{c.steps} steps of {c.batch} images from {p.pool} scenes of level {c.level};
kNN on {p.knn_test} iconic pictures with {p.knn_train} others, linear segmentation trained on {p.seg_train} scenes;
segments and positions tested on {p.scenes} unseen scenes
"""


# ---- the claims

METRICS = dict(
    ade=dict(title='segm.', unit='%',
             how='mean IoU of a linear classifier on frozen patches of scenes; '
                 'the paper: ADE20K, fine-tuned end to end'),
    knn=dict(title='classif.', unit='%',
             how='kNN on iconic pictures; the paper: ADE20K multi-label (figure 5) or ImageNet-1k 10-shot (table 6 b)'),
    acc=dict(title='position', unit='%',
             how='accuracy of the position prediction on unseen pictures, with the masking of the training'),
    use=dict(title='H', unit='%', how='entropy of the mean prediction as a part of log K; the paper: H with K = 4096'))
# section 5.1: loss (2) only, as the authors' code does it
ALONE = dict(clusters='none', reference_by='student', query_positions=False)
SHARED = dict(metrics=METRICS, seeds=SEEDS, setting=dict(cpu=CPU, gpu=GPU))


def ades(**figures):
    "arm → ADE20K figure"
    return {arm: dict(ade=value) for arm, value in figures.items()}


ONE0, ONE8, TWO0, TWO8 = 'single, η 0', 'single, η .8', 'reference, η 0', 'reference, η .8'

figure4 = Claim(
    id='figure4',
    sentence='Finding a query in a reference is harder than placing patches in a single view, and teaches more.',
    where='Figure 4, section 5.1',
    measured='now', **SHARED,
    # table 5, and "+7.6 mIoU" over the best single view: the figure has no numbers
    paper={TWO8: dict(ade=42.5), ONE8: dict(ade=34.9)},
    arms={ONE0: dict(mechanism='single', clusters='none', masking=0.),
          ONE8: dict(mechanism='single', clusters='none', masking=.8),
          TWO0: dict(ALONE, masking=0.), TWO8: dict(ALONE, masking=.8)},
    pairs=(*above(ONE0, TWO0, 'a more challenging pretext task: lower accuracy', 'acc'),
           *above(ONE8, TWO8, 'a more challenging pretext task: lower accuracy', 'acc'),
           *above(TWO8, ONE8, 'query-reference leads to better representations', 'ade'),
           *above(TWO8, ONE0, 'query-reference leads to better representations', 'ade'),
           *above(TWO0, TWO8, 'masking makes the task harder', 'acc'),
           *above(TWO8, TWO0, 'and leads to better representations', 'ade')))

RATIOS = {f'η {r:g}'.replace('0.', '.'): r for r in (0., .5, .8, 1.)}
ALL, _, MOST, NOTHING = RATIOS

figure5 = Claim(
    id='figure5',
    sentence='Masking most of the reference is best: everything visible is too easy, '
             'nothing visible leaves no relative location.', where='Figure 5, section 5.1',
    measured='now', **SHARED,
    paper={MOST: dict(ade=42.5), NOTHING: dict(acc=3.7)},    # table 5; the text: the figure has no numbers
    arms={name: dict(ALONE, masking=r) for name, r in RATIOS.items()},
    pairs=(*above(MOST, ALL, 'masking improves both localisation and classification', 'ade', 'knn'),
           *above(MOST, NOTHING, 'too much masking hurts segmentation', 'ade'),
           *above(NOTHING, ALL, 'a boost in classification for η = 1', 'knn'),
           *above(ALL, MOST, 'solved near perfectly when everything is visible', 'acc'),
           *above(NOTHING, GUESS, 'and to some extent when nothing is: above a guess', 'acc'),
           *above(NOTHING, CONSTANT, 'and above the cell that is right most often', 'acc')))

EVERY, CENTRE, BOX = 'every patch', 'central patch', 'query box'

table5 = Claim(
    id='table5',
    sentence='Predicting the position of every patch is better than predicting only the central one, or the box.',
    where='Table 5, section 5.1',
    measured='runnable', **SHARED, paper=ades(**{EVERY: 42.5, CENTRE: 38.6, BOX: 39.0}),
    arms={EVERY: ALONE, CENTRE: dict(ALONE, localisation='centre'), BOX: dict(ALONE, localisation='box')},
    pairs=(*above(EVERY, CENTRE, 'it requires to predict the spatial extent', 'ade'),
           *above(EVERY, BOX, 'classification works better than regression', 'ade')))

BOTH, SK, ME, NONE = 'Sinkhorn + me-max', 'Sinkhorn', 'me-max', 'neither'  # H 8.28, 8.27, 8.14, 0 of log 4096

table6a = Claim(
    id='table6a',
    sentence='Sinkhorn-Knopp and me-max both keep all prototypes in use; without either the run collapses.',
    where='Table 6 a, section 5.2',
    measured='runnable', **SHARED,
    paper={BOTH: dict(ade=46.2, use=99.5), SK: dict(ade=46.1, use=99.4), ME: dict(ade=45.7, use=97.9),
           NONE: dict(use=0.)},
    arms={BOTH: {}, SK: dict(me_max=0.), ME: dict(sinkhorn=False), NONE: dict(sinkhorn=False, me_max=0.)},
    pairs=(*(Pair(a, NONE, 'use', 'either encourages the use of all prototypes') for a in (BOTH, SK, ME)),
           *above(BOTH, NONE, 'collapse', 'ade'), *above(BOTH, ME, 'both are useful (table)', 'ade', 'use')))

PATCH, IMAGE = 'patch', 'image (GAP)'

table6b = Claim(
    id='table6b', sentence='Clusters of patches transfer better to segmentation, clusters of images to classification.',
    where='Table 6 b, section 5.2',
    measured='runnable', **SHARED, paper={PATCH: dict(knn=40.9, ade=46.2), IMAGE: dict(knn=48.5, ade=43.8)},
    arms={PATCH: {}, IMAGE: dict(clusters='image')},
    pairs=(*above(PATCH, IMAGE, 'performance on semantic segmentation is improved', 'ade'),
           *above(IMAGE, PATCH, 'a decay on classification', 'knn')))

FEWEST, FEWER, DEFAULT, MORE = 'K / 8', 'K / 2', 'K', '4 K'

table6c = Claim(
    id='table6c', sentence='The number of prototypes matters little; a few too many do no harm.',
    where='Table 6 c, section 5.2',
    # 2⁴, 2⁸, 2¹², 2¹⁴
    measured='runnable', **SHARED, paper=ades(**{FEWEST: 45.3, FEWER: 46.2, DEFAULT: 46.2, MORE: 45.8}),
    arms={FEWEST: lambda c: dict(prototypes=c.prototypes // 8), FEWER: lambda c: dict(prototypes=c.prototypes // 2),
          DEFAULT: {},
          MORE: lambda c: dict(prototypes=c.prototypes * 4)},
    pairs=(*above(DEFAULT, FEWEST, 'over-clustering is beneficial', 'ade'),
           *above(DEFAULT, MORE, 'within bounds (table)', 'ade')))

table6d = Claim(
    id='table6d', sentence='More queries per reference give better segmentation.', where='Table 6 d, section 5.2',
    measured='runnable', **SHARED,
    paper=ades(**{'10 queries': 46.2, '5 queries': 45.5, '2 queries': 43.4, '1 query': 41.1}),
    arms={'10 queries': dict(queries=10), '5 queries': dict(queries=5), '2 queries': dict(queries=2),
          '1 query': dict(queries=1)},
    pairs=(*above('10 queries', '5 queries', 'more queries (table)', 'ade'),
           *above('5 queries', '2 queries', 'more queries (table)', 'ade'),
           *above('2 queries', '1 query', 'more queries (table)', 'ade'),
           *above('10 queries', '1 query', 'a single query: a loss of 5.1 mIoU', 'ade')))

claims = (figure4, figure5, table5, table6a, table6b, table6c, table6d)
