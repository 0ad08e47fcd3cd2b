"""SCALE's bundled weights: their recipe, and the scores on their card.

The backbone is the bundled ViDROP where there is one, else DILEMMA on single frames. Two more runs of the same recipe,
with other training seeds, are trained when the first is scored (each takes minutes: the features are cached), so that
every score has an interval over three training seeds. Videos that teach and videos that are scored are drawn once.
"""
from dataclasses import replace
from functools import lru_cache

import torch
from torch.nn.functional import normalize

from benchmarks.weights.recipes import RUNS, Recipe, train
from benchmarks.weights.scores import over_seeds, row
from ssl_workbench import catalog, core, probes
from ssl_workbench.methods.scale import ClipPlan, build_cache, open_backbone
from ssl_workbench.methods.scale.probes import ClipContext, Reader, linear_score, reader_score
from ssl_workbench.world import CHAIN_TASKS, World

TASKS = tuple(reversed(CHAIN_TASKS))    # fraction: a number; first, count, order: classes
LONG, CANVAS, LEVEL = 96, 64, 1
TEACH, TEST, FOUND = 1200, 1200, 64  # videos that teach, that are scored, whose halves are compared
GRID = (12, 1)                     # test clips: twelve moments, the middle of the picture
SEEDS = (0, 1, 2)                  # of training
SEARCH = dict(grid=((1e-3, 1e-2),), steps=250)    # of the transformer that is trained with labels


def backbone_settings():
    "The backbone and how its clips are cut: of the bundled ViDROP, else of DILEMMA; empty where neither is there"
    cards = catalog.cards()
    name = 'vidrop' if 'vidrop' in cards else 'dilemma'
    if name not in cards: return {}
    config = cards[name]['config']
    return dict(backbone=name, pooling='change', inputs=5 * config['dim'], size=config['size'],
                frames=config.get('length', 8))


BUILD = dict(scale=(.7, 1.), centre=True, dim=192, heads=6, dropout=.1, hidden=256, target_hidden=256, out_dim=128,
             long=LONG, canvas=CANVAS, pictures=3000, steps=1500, batch=128, lr=1e-3)
BACKBONE = backbone_settings()
recipes = {}
if BACKBONE: recipes['scale'] = Recipe('scale', f'world:chain:{LEVEL}', changes=BACKBONE | BUILD, seed=0)


# ---- videos

def videos(n, seed): return World('chain', LEVEL, (CANVAS, CANVAS), LONG, n, seed=seed, truth=False, pool=False)


def plan_of(config):
    "The test clips"
    return ClipPlan(config.frames, config.stride, config.size, grid=GRID, scale=config.scale)


@lru_cache(maxsize=None)
def clip_set(config, n, seed):
    "Features, boxes and truth of n videos that no training draws"
    backbone = open_backbone(config.backbone, catalog.load, config.pooling).to(core.device())
    cut = f'{config.pooling}-{config.size}-{n}-{seed}'
    folder = f'runs/features/scores-{config.backbone}-{backbone.sha256[:8]}-{cut}'
    return build_cache(videos(n, seed), backbone, folder, plan_of(config)).everything()


def sets(method):
    "Videos that teach and videos that are scored: features, positions, truth"
    keys = ('backbone', 'pooling', 'frames', 'stride', 'size', 'scale')
    config = replace(type(method.config)(), inputs=method.config.inputs, **{k: getattr(method.config, k) for k in keys})
    device = next(method.parameters()).device
    halves = [clip_set(config, n, seed) for n, seed in ((TEACH, 101), (TEST, 102))]
    return [{k: v.to(device) for k, v in half.items()} for half in halves]


def as_read(method, half):
    "Features and positions as the network takes them"
    features, position = method._clips(half['features'], half['boxes'])
    return dict(features=features, position=position)


# ---- scores

def trained(name):
    "The three runs of a recipe, trained where they are not there yet"
    recipe = recipes[name]
    runs = [train(replace(recipe, seed=s), RUNS(f'{name}-seed{s}'), None).method for s in SEEDS[1:]]
    return [m.eval() for m in runs]


def one_vector(method, half):
    "A video as one vector: the class token over all its clips"
    return method.summary(half['features'], half['boxes'])


def long_video_scores(method, seed):
    "task → name → accuracy, or R²: a linear layer on one vector a video, and a transformer trained with the labels"
    teach, test = sets(method)
    a, b = as_read(method, teach), as_read(method, test)
    drawn = probes.random_init(method, seed=seed)
    vectors = {name: [read(half) for half in (teach, test)] for name, read in {
        'ours': lambda half: one_vector(method, half), 'SCALE as drawn': lambda half: one_vector(drawn, half),
        'mean of clip features': lambda half: half['features'].mean(1),
        'mean and deviation of clip features': lambda half: torch.cat([half['features'].mean(1),
                                                                       half['features'].std(1)], 1)}.items()}
    def labelled(outputs):
        with core.seeded(seed): network = type(method.encoder)(method.config).to(a['features'].device)
        inputs, dim = method.config.inputs, method.config.dim
        return Reader(ClipContext(network, inputs, dim), inputs + dim, outputs)
    found = {}
    for task in TASKS:
        rows = {name: linear_score(x, teach[task], y, test[task], seed) for name, (x, y) in vectors.items()}
        rows['transformer trained with labels'] = reader_score(labelled, a, teach[task], b, test[task], seed=seed,
                                                               **SEARCH)
        found[task] = rows
    return found


def agreement(embed, half):
    "Cosine of the summaries of a video's even and odd clips, less that with other videos'; mean over videos"
    first, second = (embed(half['features'][:, k::2], half['boxes'][:, k::2]) for k in (0, 1))
    middle = torch.cat([first, second]).mean(0)
    cosines = normalize(first - middle, dim=1) @ normalize(second - middle, dim=1).T
    n = len(cosines)
    return (cosines.diag().mean() * n / (n - 1) - cosines.mean() * n / (n - 1)).item()


def agreements(method):
    "name → agreement of two halves of a video"
    half = {k: v[:FOUND] for k, v in sets(method)[1].items()}
    drawn = probes.random_init(method)
    return {'ours': agreement(method.summary, half), 'SCALE as drawn': agreement(drawn.summary, half),
            'mean of clip features': agreement(lambda features, boxes: features.mean(1), half)}


CHANCE = dict(order=1 / 6, count=1 / 4, first=1 / 2, fraction=0.)
WORDS = dict(order='which of six cyclic orders four actions come in', count='how many different actions there are',
             first='which of two actions comes first', fraction='what fraction of the video is spent travelling')
HOW = (f'a linear layer on one vector per video, trained on {TEACH} videos of {LONG} frames, tested on {TEST} others, '
       f'world:chain:{LEVEL}; {GRID[0]} clips per video; penalty chosen on a held-out fifth of the training videos; '
       'three training seeds')


def scores(method, name, **others):
    "The card's scores, over three training seeds"
    per_run = [method, *trained(name)]
    per_seed = [long_video_scores(m, s) for s, m in zip(SEEDS, per_run)]
    rows = []
    for task in TASKS:
        metric = 'R²' if task == 'fraction' else 'accuracy'
        got = {k: [found[task][k] for found in per_seed] for k in per_seed[0][task]}
        rows.append(row(task, f'{metric}, {WORDS[task]}; {HOW}', got | {'chance': [CHANCE[task]] * len(SEEDS)}))
    found = over_seeds(lambda seed: dict(agreement=agreements(per_run[seed])), range(len(SEEDS)))
    return [*rows, row('two halves agree', 'cosine of the summaries of the six even and the six odd clips of a video, '
                       f'minus that with other videos; mean over the first {FOUND} scored videos', found['agreement'])]


def recheck(method, card):
    "(name, figure on the card, the same figure made again)"
    score = next(s for s in card['scores'] if s['name'] == 'two halves agree')
    return score['name'], score['seeds'][0], agreement(method.summary, clip_set_of(method))


def clip_set_of(method):
    "The videos of that score alone, encoded without a cache"
    plan, world = plan_of(method.config), videos(TEST, 102)
    frames = torch.stack([world[i]['frames'] for i in range(FOUND)]) / 255
    features, boxes = method.encode_clips(frames, plan)
    return dict(features=features, boxes=boxes)
