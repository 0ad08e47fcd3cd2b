"""ViDROP's claims: figure 6.2 and tables 6.1, 6.2 and 6.4 to 6.9 of the thesis' chapter 6, on videos of motion alone.

Action detection (table 6.9) reads chains of actions. V-JEPA, which the thesis starts from in its last tables, is not
trained here: VideoMAE stands in its place.
"""
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from benchmarks.claims.runner import Claim, above
from benchmarks.protocols.clips import (
    clip_features,
    clip_set,
    knn_and_linear,
    pixel_rows,
    steps_in,
    stored_videos,
    training_videos,
)
from benchmarks.protocols.cost import now, saved_megabytes, step_seconds
from benchmarks.protocols.runs import as_drawn, train
from ssl_workbench import catalog, core, probes
from ssl_workbench.methods.vidrop import ViDROP, Views, add_cls, start_from_encoder
from ssl_workbench.training import learner_of
from ssl_workbench.world import CHAIN_ACTIONS, World

# ---- the setting

CPU = dict(level=1, steps=300, batch=16)
GPU = dict(level=3, steps=3000)
SEEDS = 5
TIMED = 4                                       # a run of so few steps learns nothing: it is timed
LOW_SHOT = (.05, .1, .5)                        # parts of the labels
STARTS, STORED, ASKS = ('', 'videomae', 'videomae alone'), ('', 'films', 'codes'), ('motion', 'detection')


@dataclass(frozen=True)
class Protocol:
    "What is trained on, and how a run is scored; the same for every arm"
    pool: int = 2048              # videos to train on
    train: int = 1000             # videos that teach the probes
    test: int = 1000              # videos that are judged
    seconds: float = 0.           # of training, the processor's own; 0: the config's steps
    start: str = ''               # 'videomae': the first half of the steps trains VideoMAE, whose encoder is the start;
                                  # 'videomae alone': all steps train VideoMAE, and its encoder is scored
    stored: str = ''              # 'films' or 'codes': how the training videos lie on the disk; '': kept in memory
    paced: str = ''               # likewise: the storage whose speed says how many steps `seconds` are; '': their own
    ask: str = 'motion'           # or 'detection': when which action of a long video begins and ends

    def __post_init__(self):
        for name, allowed in dict(start=STARTS, stored=STORED, paced=STORED, ask=ASKS).items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, not '{value}'")


protocols = dict(cpu=Protocol(), gpu=replace(Protocol(), pool=20_000, train=4000, test=4000))


# ---- scores

def sets(config, protocol):
    "Clips that teach, clips that are judged"
    return [clip_set(which, config.level, getattr(protocol, which), config.size, config.length, config.kind)
            for which in ('train', 'test')]


def low_shot(a, ya, b, yb):
    "Linear accuracy with a part of the labels, as many of each class"
    found = {}
    for part in LOW_SHOT:
        rows = torch.cat([(ya == k).nonzero()[:, 0][:max(1, round(part * int((ya == k).sum())))] for k in ya.unique()])
        found[f'low{round(100 * part)}'] = probes.linear(a[rows], ya[rows], b, yb)
    return found


LONG, WINDOW_HOP, CHAINS = 96, 4, dict(train=301, test=302)           # frames of a chain; the world's seeds


@lru_cache(maxsize=None)
def chains(which, n, level, side):
    "(films, what happens when in each) of n long videos"
    drawn = World('chain', level, (side, side), LONG, n, seed=CHAINS[which], truth=False, pool=False).batch(range(n))
    truth = [dict(segments=torch.as_tensor(s[:, :2]), labels=torch.as_tensor(s[:, 2]).long() - 1)
             for s in drawn['segments']]
    return list(drawn['frames']), truth


def detection(method, config, protocol, seed, device):
    "Mean average precision at each tIoU, of a small head on frozen features of windows; a third of the videos"
    sides = []
    for which in CHAINS:
        films, truth = chains(which, getattr(protocol, which) // 3, config.level, config.size)
        sides.append((*probes.encode_windows(method, films, config.length, 1, WINDOW_HOP, config.size), truth))
    found = probes.detection_probe(*sides, len(CHAIN_ACTIONS) - 1, seed=seed, device=device)
    return dict(map=found['map'], **{f'map{round(100 * t)}': v for t, v in found['by_threshold'].items()})


def scores(method, config, protocol, seed, device):
    "kNN and linear on whole clips, on one frame, and with few labels; or what the protocol asks"
    if protocol.ask == 'detection': return detection(method, config, protocol, seed, device)
    (x, y), (u, v) = sets(config, protocol)
    a, b = clip_features(method, x), clip_features(method, u)
    middle = config.length // 2
    one = [clip_features(method, clips, frame=middle) for clips in (x, u)]
    return dict(knn=probes.knn(a, y, b, v), linear=probes.linear(a, y, b, v), frame=probes.linear(one[0], y, one[1], v),
                **low_shot(a, y, b, v))


def cost(config, protocol, seed, device):
    "Milliseconds and kept megabytes a video: forward and backward pass, teacher and local clips included"
    core.seed_everything(seed)
    method = catalog.build('vidrop', config).to(device).train()
    method.before_step(.5)
    seeds = core.fold_in(torch.arange(config.batch), str(seed)).to(device)
    pool = training_videos(config, 2 * config.batch)
    views = Views(config)(pool.batch(torch.arange(config.batch), device) | dict(seed=seeds))
    seconds = min(step_seconds(method, views, device) for _ in range(config.steps))
    return dict(time=1e3 * seconds / config.batch, memory=saved_megabytes(method, views) / config.batch)


def videomae(config, protocol, steps, data, seed, device):
    "A VideoMAE of the same encoder and videos after that many steps"
    home = catalog.module('videomae')
    shared = ('size', 'patch', 'tubelet', 'dim', 'depth', 'heads', 'pos_base', 'batch', 'canvas', 'kind', 'level',
              'frames', 'stride', 'length')
    changes = {k: getattr(config, k) for k in shared if hasattr(home.cpu, k)}
    return train('videomae', catalog.replace_config(home.cpu, changes | dict(steps=steps)), data, seed, device)


def from_videomae(config, protocol, data, seed, device):
    "ViDROP whose encoder is that of a VideoMAE that was trained for half of the steps"
    first = videomae(config, protocol, config.steps // 2, data, seed, device)
    learner = learner_of('vidrop', replace(config, steps=config.steps - config.steps // 2), data, seed, device=device)
    own = learner.method.student.encoder.state_dict()
    state = {k: v for k, v in add_cls(first.encoder.state_dict(), seed).items() if k in own}
    start_from_encoder(learner.method, state)
    learner.progress = False
    for _ in learner.steps(): pass
    return learner.method.eval()


def videos(config, protocol, stored):
    "What is trained on, in memory or from the disk"
    if not stored: return training_videos(config, protocol.pool)
    return stored_videos(stored, config, protocol.pool, Path('runs')/'stored')


def trained(config, protocol, data, seed, device):
    "What is scored: ViDROP, or the VideoMAE that it starts from"
    if protocol.start == 'videomae alone': return videomae(config, protocol, config.steps, data, seed, device)
    if protocol.start: return from_videomae(config, protocol, data, seed, device)
    return train('vidrop', config, data, seed, device)


def measure(config, protocol, seed, device):
    "Scores of one arm with one seed: train from scratch, then probe; a run of a few steps is timed and not probed"
    if config.steps <= TIMED: return cost(config, protocol, seed, device)
    data = videos(config, protocol, protocol.stored)
    if protocol.seconds:
        pace = videos(config, protocol, protocol.paced or protocol.stored)
        config = replace(config, steps=steps_in(protocol.seconds, 'vidrop', config, pace, device))
    start = now(device)
    method = trained(config, protocol, data, seed, device)
    spent = dict(steps=config.steps, seconds=now(device) - start) if protocol.seconds else {}
    return scores(method, config, protocol, seed, device) | spent


def random_init(config, protocol, seed, device):
    "The same network, its weights as drawn"
    if config.steps <= TIMED: return {}
    return scores(as_drawn(ViDROP, config, seed, device), config, protocol, seed, device)


def raw_pixels(config, protocol, seed, device):
    "Every frame at 8×8 pixels"
    if config.steps <= TIMED or protocol.ask == 'detection': return {}
    return knn_and_linear(pixel_rows, *sets(config, protocol))


references = {'random init': random_init, 'raw pixels': raw_pixels}


def describe(config, protocol):
    "Data and scoring in words"
    c, p = config, protocol
    shared = (f'clips of {c.length}×{c.size}² px from {c.kind} videos of level {c.level}, tubelets of '
              f'{c.tubelet}×{c.patch}², width {c.dim}, depth {c.depth}')
    if c.steps <= TIMED:
        return (f'{shared}; forward and backward pass, teacher and local clips included, without making views, '
                f'best of {c.steps}, batches of {c.batch}')
    long = f'{p.seconds:g} s of training' if p.seconds else f'{c.steps} steps'
    if p.ask == 'detection':
        return (f'{shared}; {long} on {p.pool} videos, batches of {c.batch}; a small head like ActionFormer, trained '
                f'on {p.train // 3} chains of {LONG} frames, tested on {p.test // 3}, a window of {c.length} frames '
                f'every {WINDOW_HOP}')
    return (f'{shared}; {long} on {p.pool} videos, batches of {c.batch}; probes trained on {p.train} videos, tested '
            f'on {p.test}, the class is the motion alone')


# ---- the claims

METRICS = dict(
    linear=dict(title='linear', unit='%', how='class of motion by logistic regression on the frozen class token; '
                                              'the thesis: K400, ViT-B, single crop'),
    knn=dict(title='kNN', unit='%', how='likewise by kNN (k=20, T=.07)'))
COSTS = dict(
    time=dict(title='time', unit='ms', how='forward and backward pass a video; the thesis: clips a second'),
    memory=dict(title='memory', unit='MB',
                how='what autograd keeps for the backward pass, a video; the thesis: largest batch that fits'))
SHARED = dict(metrics=METRICS, seeds=SEEDS, setting=dict(cpu=CPU, gpu=GPU))


def linear(**arms):
    "arm → the paper's linear accuracy"
    return {arm: dict(linear=value) for arm, value in arms.items()}


SPARSE, DENSE, LONGER = '85 % dropped', 'dense', 'dense, four times as long'
SECONDS = 120.                                  # of the processor's own time

figure62 = Claim(
    id='figure62', sentence='With 85 % of the tokens dropped, accuracy is higher than that of the dense model, even if '
    'that one is trained four times as long.', where='Thesis, figure 6.2 and section 6.3.2', measured='now',
    **{**SHARED, 'setting': dict(cpu=dict(CPU, seconds=SECONDS), gpu=dict(GPU, seconds=SECONDS))},
    paper=linear(**{SPARSE: 54.9, LONGER: 47.1}),
    arms={SPARSE: {}, DENSE: dict(dropped=0.), LONGER: dict(dropped=0., seconds=4 * SECONDS)},
    pairs=(*above(SPARSE, DENSE, 'sparse beats dense at equal time', 'linear', 'knn'),
           *above(SPARSE, LONGER, 'even after training for four times longer', 'linear'),
           *above(SPARSE, 'random init', 'it learns at all', 'linear')))

BIG = dict(steps=TIMED, size=64, length=16, canvas=64, frames=16, dim=192, heads=6, depth=6, small=4, batch=4)

table65 = Claim(
    id='table65', sentence='Dropping makes a step cheaper in time and memory.', where='Thesis, table 6.5',
    measured='now', metrics=COSTS, seeds=3, setting=dict(cpu=BIG, gpu=dict(BIG, batch=32)), paper={},
    # the thesis: 43.1 against 23.4 clips a second, batches of 33 and 12
    arms={SPARSE: {}, DENSE: dict(dropped=0.)},
    pairs=above(DENSE, SPARSE, 'significantly more than dense models', 'time', 'memory'))

STARE, DINO, IBOT = 'stare', 'DINO', 'iBOT'

table61a = Claim(
    id='table61a',
    sentence='A patch loss on masked tokens is better than none, and better than one on all visible tokens.',
    where='Thesis, table 6.1a', measured='now', **SHARED, paper=linear(**{STARE: 51.7, DINO: 53.1, IBOT: 54.9}),
    arms={STARE: dict(objective='stare'), DINO: dict(objective='dino'), IBOT: {}},
    pairs=(*above(IBOT, DINO, 'an extra loss on tokens is better than not having it', 'linear'),
           *above(IBOT, STARE, 'masked tokens are better than all visible ones', 'linear'),
           *above(DINO, STARE, 'the order of the table', 'linear')))

TOKENS, TUBES, BLOCK = 'random tokens', 'random tubes', 'block (V-JEPA)'

table61c = Claim(
    id='table61c', sentence='Simple random dropping is better than tubes or blocks.', where='Thesis, table 6.1c',
    measured='now', **SHARED, paper=linear(**{TOKENS: 54.9, TUBES: 54.5, BLOCK: 53.1}),
    arms={TOKENS: {}, TUBES: dict(pattern='tube'), BLOCK: dict(pattern='block')},
    pairs=(*above(TOKENS, TUBES, 'random is more effective', 'linear'),
           *above(TOKENS, BLOCK, 'random is more effective', 'linear'),
           *above(TUBES, BLOCK, 'the order of the table', 'linear')))

RATES = {'80 %': .8, '85 %': .85, '90 %': .9, '95 %': .95}

table61d = Claim(
    id='table61d', sentence='Lower drop rates improve accuracy, at the same number of steps.',
    where='Thesis, table 6.1d', measured='now', **SHARED,
    paper=linear(**dict(zip(RATES, (55.2, 54.9, 54.4, 51.5)))),
    arms={name: dict(dropped=rate) for name, rate in RATES.items()},
    pairs=(*above('80 %', '95 %', 'lower rates are better', 'linear'),
           *above('85 %', '95 %', 'lower rates are better', 'linear'),
           *above('85 %', '90 %', 'lower rates are better', 'linear')))

table61b = Claim(
    id='table61b', sentence='Even a few local clips boost accuracy.', where='Thesis, table 6.1b', measured='runnable',
    **SHARED, paper=linear(**{'8': 54.9, '4': 54.1, '0': 50.2}),
    arms={str(n): dict(small=n) for n in (8, 4, 0)},
    pairs=(*above('4', '0', 'a few have a boost', 'linear'), *above('8', '4', 'more are better', 'linear')))

table61e = Claim(
    id='table61e', sentence='Fewer prototypes are as good; separate heads are better than a shared one.',
    where='Thesis, table 6.1e', measured='runnable', **SHARED,
    paper=linear(**{'65k': 54.9, '16k': 54.9, '2k': 54.3, '65k, shared': 53.8}),
    # in the thesis' proportions
    arms={'65k': dict(prototypes=512), '16k': dict(prototypes=128), '2k': dict(prototypes=16),
          '65k, shared': dict(prototypes=512, shared_head=True)},
    pairs=(*above('65k', '65k, shared', 'a shared head is worse', 'linear'),
           *above('16k', '2k', '2k is slightly worse', 'linear')))

MASKS = {'.1 to .4': (.1, .4), '.1 to .7': (.1, .7), '.5 to .7': (.5, .7), '.7': (.7, .7)}

table61f = Claim(
    id='table61f', sentence='Masking half or more of the kept tokens is slightly better.',
    where='Thesis, table 6.1f', measured='runnable', **SHARED,
    paper=linear(**dict(zip(MASKS, (54.9, 54.9, 55.5, 55.0)))),
    arms={name: dict(mask_ratio=ratio) for name, ratio in MASKS.items()},
    pairs=above('.5 to .7', '.1 to .4', 'larger probabilities achieve slight improvement', 'linear'))

table62 = Claim(
    id='table62', sentence='Starting from VideoMAE is better than from random weights, in the same number of steps.',
    where='Thesis, table 6.2', measured='runnable', **SHARED, paper=linear(random=53.3, VideoMAE=55.5),
    arms={'random': {}, 'VideoMAE': dict(start='videomae')},
    pairs=above('VideoMAE', 'random', 'significantly less training time in all', 'linear', 'knn'))

PLAIN, AUGMENTED = 'crops alone', "DINO's colours"
COLOURS = dict(colour=1., grey=.2, blur=(1., .1, .5), solarise=(0., .2, 0.))

table66 = Claim(
    id='table66', sentence='Strong colour changes, drawn once per clip, help on motion.',
    where='Thesis, tables 6.6 (SSv2) and 6.8', measured='runnable', **SHARED,
    paper={PLAIN: dict(linear=33.8), AUGMENTED: dict(linear=38.7)},
    arms={PLAIN: dict(colour=0., grey=0.), AUGMENTED: COLOURS},
    pairs=above(AUGMENTED, PLAIN, 'narrows the gap on SSv2; above on UCF101 and HMDB51', 'linear', 'knn'))

table67 = Claim(
    id='table67', sentence='With few labels ViDROP is better than its baseline.', where='Thesis, table 6.7',
    measured='runnable', seeds=SEEDS, setting=dict(cpu=CPU, gpu=GPU),
    metrics={f'low{p}': dict(title=f'{p} % of labels', unit='%', how='linear accuracy with that part of the labels, as '
                             'many of each class; the thesis: K400') for p in (5, 10, 50)},
    paper={PLAIN: dict(low5=58.5, low10=62.5, low50=69.8), AUGMENTED: dict(low5=61.2, low10=65.4, low50=72.5)},
    arms={PLAIN: dict(colour=0., grey=0.), AUGMENTED: COLOURS},
    pairs=(*above(AUGMENTED, PLAIN, 'further improves these results', 'low5', 'low10', 'low50'),
           *above(PLAIN, 'random init', 'above the baseline in all regimes', 'low5', 'low10', 'low50')))

CODES, FILMS, AS_LONG = 'codes', 'films', 'films, as long as codes'
ON_DISK = dict(seconds=90., canvas=160, pool=512)

table64 = Claim(
    id='table64', sentence='Training from codes is five times as fast, and costs little accuracy; in the same time, '
    'films teach less.', where='Thesis, table 6.4', measured='now', seeds=3,
    metrics=METRICS | dict(seconds=dict(title='training', unit='s', how="the processor's own time, reading included")),
    setting=dict(cpu=dict(CPU, **ON_DISK), gpu=dict(GPU, **ON_DISK)),
    paper={CODES: dict(linear=44.4), FILMS: dict(linear=46.1), AS_LONG: dict(linear=29.5)},      # hours: 9.7, 52.2, 9.7
    arms={CODES: dict(stored='codes'), FILMS: dict(stored='films', paced='codes'), AS_LONG: dict(stored='films')},
    pairs=(*above(FILMS, CODES, 'as many steps from films take longer', 'seconds'),
           *above(FILMS, CODES, 'a small performance cost', 'linear'),
           *above(CODES, AS_LONG, 'pixel data for the same duration yields worse performance', 'linear')))

ALONE, DROPPED = 'VideoMAE', 'ViDROP from VideoMAE'
ON = {ALONE: dict(start='videomae alone'), DROPPED: dict(start='videomae')}

table69 = Claim(
    id='table69', sentence='ViDROP more than doubles the precision of action detection.', where='Thesis, table 6.9',
    measured='runnable', seeds=3, metrics=dict(
        map=dict(title='mAP', unit='%', how='over tIoU .3 to .7, frozen windows, small head; the thesis: THUMOS14'),
        map50=dict(title='mAP at .5', unit='%', how='likewise at tIoU .5')),
    setting=dict(cpu=dict(CPU, ask='detection'), gpu=dict(GPU, ask='detection')),
    paper={ALONE: dict(map=20.1, map50=15.3), DROPPED: dict(map=49.9, map50=52.2)},               # V-JEPA
    arms=ON, pairs=(*above(DROPPED, ALONE, 'across all thresholds', 'map', 'map50'),
                    *above(DROPPED, 'random init', 'it learns at all', 'map')))

claims = (figure62, table64, table65, table61a, table61c, table61d,
          table61b, table61e, table61f, table62, table66, table67, table69)
