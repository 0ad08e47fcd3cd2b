"""MC-JEPA's bundled weights: their recipe, and the scores on their card."""
from functools import lru_cache

import torch

from benchmarks.weights.machine import Recipe
from benchmarks.weights.scores import SEEDS, camvid, followed, row, segmented
from ssl_workbench import core, probes
from ssl_workbench.data import dis, open_pairs, read_image, zero_flow
from ssl_workbench.world import World

PAIRS = 'world:drive:3@1*3+world:scene:3@2'
BIG = dict(level=3, canvas=128, pair_size=(96, 96), dims=(48, 64, 96), depths=(1, 2, 2), stem=(24, 48), levels=3, batch=4, many=4, out_dim=128, content_weight=.2, pair_scale=(.6, 1.),
           l1=3., structure=.5, window=1, smooth=2., edge=30., pictures=2048, lr=1.5e-3)
recipes = {'mcjepa': Recipe('mcjepa', PAIRS, changes=dict(BIG, content_kind='scene', steps=13000))}
PLACES = {'level-3 scenes': ('scene', 2), 'level-3 drives': ('drive', 1)}       # kind of world, stride
N, SIDE = 64, 96                   # pairs in a set, pixels a side


# ---- flow on unseen pairs

@lru_cache(maxsize=None)
def drawn(kind, stride, seed):
    "Pairs (N,3,H,W) float 0-1 twice, their flow (N,2,H,W) and which pixels both frames see (N,1,H,W)"
    made = World(kind, 3, (SIDE, SIDE), 2, N, seed=650 + seed, pool=False, stride=stride).batch(range(N))
    return *(made['frames'] / 255).unbind(1), made['flow'][:, 0], made['visible'][:, 0]


def arrows(truth):
    "The best constant flow of every pair, found on every third pixel"
    return probes.best_constant(truth[..., 1::3, 1::3], steps=50).expand_as(truth)


@torch.no_grad()
def said(source, a, b, n=16):
    "Flow of pairs, a few at a time; source: two (B,3,H,W) → (B,2,H,W)"
    return torch.cat([source(x, y).float().cpu() for x, y in zip(a.split(n), b.split(n))])


def sources(method, seed):
    "name → flow source: the method, a random network of its kind, OpenCV's dense inverse search, nothing moves"
    place = next(method.parameters()).device
    of = lambda m: lambda a, b: m.flow(a.to(place), b.to(place))
    return {'ours': of(method), 'random init': of(probes.random_init(method, seed=seed)), 'DIS': dis, 'zero flow': zero_flow}


def errors(flow, truth, seen):
    "End-point error: everywhere, where both frames see the place, where one does not"
    hidden = ~seen.bool()
    return dict(epe=probes.epe(flow, truth), noc=probes.epe(flow, truth, seen), occ=probes.epe(flow, truth, hidden) if hidden.any() else float('nan'))


def measured(method, kind, stride):
    "metric → name → error a seed"
    found = {}
    for seed in SEEDS:
        a, b, truth, seen = drawn(kind, stride, seed)
        flows = {name: said(source, a, b) for name, source in sources(method, seed).items()} | {
            'best constant flow': arrows(truth), 'mean flow of other pairs': drawn(kind, stride, seed + 10)[2].mean(0, keepdim=True).expand_as(truth)}
        for name, flow in flows.items():
            for metric, value in errors(flow, truth, seen).items(): found.setdefault(metric, {}).setdefault(name, []).append(value)
    zero = found['epe']['zero flow']
    return dict(part={n: [v / z for v, z in zip(values, zero)] for n, values in found['epe'].items()}, **found)


def estimated(method, what):
    "Rows of end-point errors on one kind of pairs"
    kind, stride = PLACES[what]
    found, rows = measured(method, kind, stride), []
    for metric, name, words in (('part', "end-point error / zero flow's", "end-point error as a part of zero flow's"), ('epe', 'end-point error', 'end-point error in pixels'),
                                ('noc', 'end-point error, seen', 'likewise, where both frames see the place'), ('occ', 'end-point error, occluded', 'likewise, where one frame does not')):
        protocol = f'{words}; three sets of {N} unseen pairs of {SIDE} px, stride {stride}; lower is better'
        rows.append(row(f'{name}, {what}', protocol, found[metric].pop('ours'), found[metric]))
    return rows


def chairs(method):
    "End-point error on the real pairs of FlyingChairs, pair by pair"
    pairs, found = open_pairs('flying_chairs'), {}
    for sample in (pairs[i] for i in range(len(pairs))):
        (a, b), truth = sample['frames'][:, None] / 255, sample['flow']
        flows = {name: said(source, a, b) for name, source in sources(method, 0).items()} | {'best constant flow': arrows(truth)}
        for name, flow in flows.items(): found.setdefault(name, []).append(probes.epe(flow, truth))
    return row('end-point error, FlyingChairs', f'in pixels, at full size; mean of {len(pairs)} pairs, with the interval over pairs; lower is better', found.pop('ours'), found)


def alley(method):
    "What is left between neighbouring frames of a real film once the flow is undone, as a part of what was there"
    frames, found = torch.stack([read_image(f) for f in sorted((core.data_root()/'clip_alley').glob('*.jpg'))]) / 255, {}
    for a, b in zip(frames[:-1, None], frames[1:, None]):
        for name, source in sources(method, 0).items():
            left = probes.photometric(a, b, said(source, a, b))
            found.setdefault(name, []).append(left['warped'] / left['unwarped'])
    protocol = f'mean |frame − next frame warped| over mean |frame − next frame|, pixels that stay in the picture; {len(frames) - 1} pairs of neighbours; lower is better'
    return row('photometric error / unwarped, clip_alley', protocol, found.pop('ours'), found)


# ---- the card

def rivals_beside(method, extra):
    "seed → the method, a random network of its kind, and the rival"
    return lambda seed: {'ours': method, 'random init': probes.random_init(method, seed=seed), **extra}


def real(method, extra):
    "The scores on real data, each where its data are"
    root, rows = core.data_root(), []
    if root is None: return rows
    for name, score in dict(flying_chairs=lambda: chairs(method), clip_alley=lambda: alley(method), camvid=lambda: camvid(method, extra)).items():
        if (root/name).exists(): rows.append(score())
    return rows


def scores(method, name, **extra):
    "The card's scores; those on real data only where the data are"
    films = rivals_beside(method, extra)
    return [*(r for what in PLACES for r in estimated(method, what)), segmented(method, extra),
            *(followed(kind, 3, films, method.patch) for kind in ('scene', 'drive')), *real(method, extra)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): end-point error on the first set of scenes"
    score = next(s for s in card['scores'] if s['name'] == 'end-point error, level-3 scenes')
    a, b, truth, _ = drawn(*PLACES['level-3 scenes'], SEEDS[0])
    return score['name'], score['seeds'][0], probes.epe(said(sources(method, 0)['ours'], a, b), truth)
