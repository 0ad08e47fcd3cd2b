"""MC-JEPA's bundled weights: their recipe, and the scores on their card."""
import torch

from benchmarks.protocols.davis import JUDGED, TRAINED
from benchmarks.protocols.flow import constant_flow, estimate, unseen_pairs
from benchmarks.weights.recipes import Recipe
from benchmarks.weights.scores import SEEDS, beside, camvid, followed, over_seeds, row, row_of, segmented
from benchmarks.weights.scores import real as real_pictures
from ssl_workbench import core, probes
from ssl_workbench.data import dis, open_pairs, read_image, zero_flow

PAIRS = 'world:drive:3@1*3+world:scene:3@2'
BIG = dict(level=3, canvas=128, pair_size=(96, 96), dims=(48, 64, 96), depths=(1, 2, 2), stem=(24, 48), levels=3,
           batch=4, many=4, out_dim=128, content_weight=.2, pair_scale=(.6, 1.),
           l1=3., structure=.5, window=1, smooth=2., edge=30., pictures=2048, lr=1.5e-3)
FILMS = f'davis:{",".join(TRAINED)}+camvid:0001TP,0016E5'        # the other films are the test
recipes = {
    'mcjepa': Recipe('mcjepa', PAIRS, changes=dict(BIG, content_kind='scene', steps=13000)),
    'mcjepa-real': Recipe('mcjepa', FILMS, changes=dict(BIG, content_kind='tiny_imagenet', stride=1, steps=5000),
                          gpu=dict(content_kind='tiny_imagenet', canvas=160, dims=(48, 64, 96, 128), stem=(24, 48),
                                   depths=(1, 2, 2, 2), levels=4, radius=3, filters=(64, 64, 48, 32),
                                   out_dim=512, expand=512, stride=1, steps=5000))}
WORLDS = {'level-3 scenes': ('scene', 2), 'level-3 drives': ('drive', 1)}       # kind of world, stride
N, SIDE = 64, 96                   # pairs in a set, pixels a side


# ---- flow on unseen pairs

def test_pairs(kind, stride, seed):
    "Pairs (N,3,H,W) float 0-1 twice, their flow (N,2,H,W) and which pixels both frames see (N,1,H,W)"
    return unseen_pairs(kind, 3, SIDE, stride, N, 650 + seed)


def sources(method, seed):
    "name → flow source: the method, a random network of its kind, OpenCV's dense inverse search, nothing moves"
    device = next(method.parameters()).device
    of = lambda m: lambda a, b: m.flow(a.to(device), b.to(device))
    return {'ours': of(method), 'random init': of(probes.random_init(method, seed=seed)), 'DIS': dis,
            'zero flow': zero_flow}


def flow_errors(method, kind, stride, seed):
    "metric → name → end-point error: relative to zero flow's, everywhere, where both frames see the place, or one"
    a, b, truth, seen = test_pairs(kind, stride, seed)
    flows = {name: estimate(source, a, b) for name, source in sources(method, seed).items()} | {
        'best constant flow': constant_flow(truth),
        'mean flow of other pairs': test_pairs(kind, stride, seed + 10)[2].mean(0, keepdim=True).expand_as(truth)}
    occluded = ~seen.bool()
    epe = {name: probes.epe(flow, truth) for name, flow in flows.items()}
    return dict(part={name: value / epe['zero flow'] for name, value in epe.items()}, epe=epe,
                noc={name: probes.epe(flow, truth, seen) for name, flow in flows.items()},
                occ={name: probes.epe(flow, truth, occluded) if occluded.any() else float('nan')
                     for name, flow in flows.items()})


ERRORS = dict(
    part=("end-point error / zero flow's", "end-point error as a part of zero flow's"),
    epe=('end-point error', 'end-point error in pixels'),
    noc=('end-point error, seen', 'likewise, where both frames see the place'),
    occ=('end-point error, occluded', 'likewise, where one frame does not'))


def drawn_pairs(method, what):
    "Rows of end-point errors on one kind of pairs"
    kind, stride = WORLDS[what]
    found = over_seeds(lambda seed: flow_errors(method, kind, stride, seed))
    how = f'three sets of {N} unseen pairs of {SIDE} px, stride {stride}'
    return [row(f'{name}, {what}', f'{words}; {how}', found[metric], lower=True)
            for metric, (name, words) in ERRORS.items()]


def chairs(method):
    "End-point error on the real pairs of FlyingChairs, pair by pair"
    pairs = open_pairs('flying_chairs')
    def measure(sample):
        (a, b), truth = sample['frames'][:, None] / 255, sample['flow']
        flows = {name: estimate(source, a, b) for name, source in sources(method, 0).items()}
        return {n: probes.epe(f, truth) for n, f in (flows | {'best constant flow': constant_flow(truth)}).items()}
    protocol = f'in pixels, at full size; mean of {len(pairs)} pairs, with the interval over pairs'
    return row_of('end-point error, FlyingChairs', protocol, measure, (pairs[i] for i in range(len(pairs))),
                  lower=True)


def alley(method):
    "What is left between neighbouring frames of a real film once the flow is undone, as a part of what was there"
    files = sorted((core.data_root()/'clip_alley').glob('*.jpg'))
    frames = torch.stack([read_image(f) for f in files]) / 255
    def measure(pair):
        left = {n: probes.photometric(*pair, estimate(source, *pair)) for n, source in sources(method, 0).items()}
        return {name: x['warped'] / x['unwarped'] for name, x in left.items()}
    protocol = ('mean |frame − next frame warped| over mean |frame − next frame|, pixels that stay in the picture; '
                f'{len(frames) - 1} pairs of neighbours')
    pairs = zip(frames[:-1, None], frames[1:, None])
    return row_of('photometric error / unwarped, clip_alley', protocol, measure, pairs, lower=True)


# ---- the card

def real(method, others):
    "The scores on real data, each where its data are"
    root = core.data_root()
    if root is None: return []
    tests = dict(flying_chairs=lambda: chairs(method), clip_alley=lambda: alley(method),
                 camvid=lambda: camvid(method, others))
    return [score() for name, score in tests.items() if (root/name).exists()]


def scores(method, name, **others):
    "The card's scores; those on real data only where the data are"
    if name == 'mcjepa-real':
        found = real_pictures(method, others, sequences=JUDGED)
        return [*found, *(r for what in WORLDS for r in drawn_pairs(method, what))]
    films = (followed(kind, 3, beside(method, others), method.patch) for kind in ('scene', 'drive'))
    return [*(r for what in WORLDS for r in drawn_pairs(method, what)), segmented(method, others), *films,
            *real(method, others)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): end-point error on the first set of scenes"
    score = next(s for s in card['scores'] if s['name'] == 'end-point error, level-3 scenes')
    a, b, truth, _ = test_pairs(*WORLDS['level-3 scenes'], SEEDS[0])
    return score['name'], score['seeds'][0], probes.epe(estimate(sources(method, 0)['ours'], a, b), truth)
