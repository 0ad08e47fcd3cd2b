"""A recipe for ViDROP's weights, and the scores on their card.

The thesis drops 85 % of 1,568 tokens and keeps 235. A clip has 144 here, of which 85 % dropped leaves 21, some of them
masked: too few for the class token to tell the motion. So half are dropped, and fewer of the rest are masked.
Two more runs of the same recipe, with other training seeds, are trained when the first is scored, and VideoMAE for as
long as one of them. What a linear classifier makes of how much tokens change over time (`pooling='change'` of SCALE's
backbones) stands on the card, too: there, random weights do as well.
"""
from dataclasses import replace

import torch

from benchmarks.protocols import davis as real_films
from benchmarks.protocols.clips import clip_features, clip_set, frame_mean, knn_and_linear, pixel_rows
from benchmarks.weights.recipes import RUNS, Recipe, train
from benchmarks.weights.scores import SEEDS, davis, over_seeds, row
from ssl_workbench import catalog, probes
from ssl_workbench.methods.scale import Backbone

LEVELS = (1, 3)
TEACH, JUDGE = 1000, 800           # clips
recipes = {
    'vidrop': Recipe('vidrop', 'world:motion:1', against='videomae-motion', changes=dict(
        dropped=.5, mask_ratio=(.1, .4), small=2, level=1, pictures=6000, batch=32, steps=1200))}


def trained(name):
    "The other training seeds of a recipe, trained where they are not there yet"
    recipe = recipes[name]
    return [train(replace(recipe, seed=s), RUNS(f'{name}-seed{s}'), None).method.eval() for s in SEEDS[1:]]


def single_frame_methods():
    "Title → bundled network of pictures: what a single frame can tell"
    names = [e.name for e in catalog.catalog if e.inputs == ('image',) and e.name in catalog.cards()]
    return {catalog.find(n).title: catalog.load(n) for n in names}


def readers(runs, others):
    "seed → name → function of clips: ours, random weights, single frames, pixels, others"
    pictures = single_frame_methods()
    def of(seed):
        method = runs[seed]
        found = {'ours': lambda x: clip_features(method, x),
                 'random init': lambda x: clip_features(probes.random_init(method, seed=seed), x),
                 'ours, one frame': lambda x: clip_features(method, x, frame=x.shape[1] // 2)}
        found |= {f'{title}, mean of all frames': (lambda x, m=m: frame_mean(m, x)) for title, m in pictures.items()}
        found |= {title: (lambda x, m=m: clip_features(m, x)) for title, m in others.items()}
        return found | {'raw pixels, 8×8 a frame': pixel_rows}
    return of


def changes(runs, level, others):
    "Row of linear accuracy where a clip is read as the mean token and how much tokens change over time"
    c = runs[0].config
    def measure(seed):
        train, test = (clip_set(which, level, n, c.size, c.length, shift=seed)
                       for which, n in (('train', TEACH), ('test', JUDGE)))
        dilemma = {'DILEMMA, every frame': catalog.load('dilemma')} if 'dilemma' in catalog.cards() else {}
        networks = {'ours': runs[seed], 'random init': probes.random_init(runs[seed], seed=seed)} | dilemma | others
        def reads(method):
            net = Backbone(method, pooling='change')
            return lambda clips: torch.cat([net(some / 255).cpu() for some in clips.split(64)])
        return dict(linear={name: knn_and_linear(reads(m), train, test, seed)['linear']
                            for name, m in networks.items()})
    how = ('accuracy of logistic regression on the mean token and the mean change of tokens from one moment to the '
           f'next, by quarters of the picture; trained on {TEACH} clips of {c.length}×{c.size}² px, tested on {JUDGE} '
           'others; three training seeds')
    return row(f'linear, motions of level {level}, change of tokens', how, over_seeds(measure)['linear'])


def motion(runs, level, others):
    "Rows of linear and kNN accuracy for the motions of a level"
    c, of = runs[0].config, readers(runs, others)
    def measure(seed):
        train, test = (clip_set(which, level, n, c.size, c.length, shift=seed)
                       for which, n in (('train', TEACH), ('test', JUDGE)))
        found = {name: knn_and_linear(f, train, test, seed) for name, f in of(seed).items()}
        return {probe: {name: value[probe] for name, value in found.items()} for probe in ('linear', 'knn')}
    found = over_seeds(measure)
    data = (f'trained on {TEACH} clips of {c.length}×{c.size}² px, tested on {JUDGE} others, the class is the motion '
            'alone; three training seeds, each with a set of its own')
    return [row(f'linear, motions of level {level}', f'accuracy of logistic regression on frozen features, {data}',
                found['linear']),
            row(f'kNN, motions of level {level}', f'accuracy, k=20, T=.07, {data}', found['knn'])]


def scores(method, name, **others):
    "The card's scores, and the one that is checked again"
    runs = [method, *trained(name)]
    def small(seed):
        return {CHECKED: {'ours': checked_score(runs[seed], seed),
                          'random init': checked_score(probes.random_init(method, seed=seed), seed)}}
    def films(seed): return {'ours': runs[seed], 'random init': probes.random_init(method, seed=seed)} | others
    return [*(r for level in LEVELS for r in motion(runs, level, others)), changes(runs, LEVELS[0], others),
            *([davis(method, models=films)] if real_films.available() else []),
            row(CHECKED, 'accuracy, k=20, T=.07, trained on 300 clips, tested on 200; three training seeds',
                over_seeds(small)[CHECKED])]


CHECKED = 'kNN, motions of level 1, a small set'


@torch.no_grad()
def checked_score(method, seed):
    "kNN accuracy on a small set of a seed"
    c = method.config
    train, test = (clip_set(which, 1, n, c.size, c.length, shift=7 + seed)
                   for which, n in (('train', 300), ('test', 200)))
    return probes.knn(clip_features(method, train[0]), train[1], clip_features(method, test[0]), test[1])


def recheck(method, card):
    "(name, figure on the card, the same figure made again)"
    score = next(s for s in card['scores'] if s['name'] == CHECKED)
    return CHECKED, score['seeds'][0], checked_score(method, SEEDS[0])
