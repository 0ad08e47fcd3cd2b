"""SCALE's claims: tables 4.1 to 4.5 and 4.7 to 4.12 of the thesis, on chains of actions; its future work, too.

Features are cached once for all arms and claims: what is trained and scored are vectors. The backbone is the bundled
ViDROP where there is one, else DILEMMA on single frames.
"""
from dataclasses import dataclass, replace
from functools import lru_cache

from benchmarks.claims.runner import Claim, above
from benchmarks.protocols.runs import as_drawn, train
from benchmarks.speed.cached_clips import BESIDE, added_operations, joint_rate, method_rate, scale_rate
from benchmarks.weights.scale import backbone_settings
from ssl_workbench import catalog, core
from ssl_workbench.learner import Learner
from ssl_workbench.methods.scale import SCALE, Backbone, ClipPlan, Config, Views, build_cache, clip_positions
from ssl_workbench.methods.scale.joint import Joint, JointViews
from ssl_workbench.methods.scale.probes import clip_scores
from ssl_workbench.probes import few_shot_subset
from ssl_workbench.video_nets import VideoViT
from ssl_workbench.world import World

# ---- the setting: what the arms share, the smallest in which the sentences make sense

CPU = dict(backbone_settings(), scale=(.7, 1.), centre=True, level=1, steps=600, batch=64, dim=96, heads=3, hidden=256,
           target_hidden=256, out_dim=64)                                        # changes of the cpu preset
GPU = dict(backbone_settings(), scale=(.7, 1.), centre=True, level=1, steps=6000, lr=1e-3)    # of the gpu preset
SEEDS = 5
TASKS = ('order', 'count', 'first')
QUICK = dict(grid=((1e-3, 1e-2), (3e-4, 1e-2)), steps=300)
ASKS = ('read', 'fraction', 'speed', 'joint', *BESIDE)     # the last ones: speed of what table 4.1 sets beside SCALE


@dataclass(frozen=True)
class Protocol:
    "What is trained on, what teaches the heads, and what is scored"
    pool: int = 2000              # videos to train on
    teach: int = 1000             # videos that teach the heads
    test: int = 2000              # videos that are scored
    clips_read: int = 12          # test clips of a video, evenly spaced
    labelled: float = 1.          # part of the videos that teach, by class
    nonlinear: bool = True        # the heads that are trained networks, too
    ask: str = 'read'             # one of `ASKS`
    pixels: float = .15           # part of the pixels' tokens that enters, end to end; 0: none, features are cached
    joint_pool: int = 200         # videos to train on, end to end

    def __post_init__(self):
        if self.ask not in ASKS: raise ValueError(f"ask is one of {', '.join(ASKS)}, not '{self.ask}'")


protocols = dict(cpu=Protocol(), gpu=replace(Protocol(), pool=16_000, teach=4000, test=4000, joint_pool=8000))
WORLDS = dict(pool=0, teach=9301, test=9302)       # world seeds: no video in two sets


def describe(config, protocol):
    "Data and scoring in words"
    c, p = config, protocol
    return (f'world:{c.kind}:{c.level}, {c.long} frames of {c.canvas} px, features of {c.backbone}; {c.steps} steps on '
            f'{p.pool} videos, batches of {c.batch}; heads trained on {p.teach} videos, tested on {p.test}, '
            f'{p.clips_read} clips each')


def missing(config, protocol):
    "One sentence where the backbone is not there, else nothing"
    try: catalog.load(config.backbone)
    except ValueError as error: return f'SCALE needs a backbone that is trained: {error}'
    return ''


# ---- videos and their features

def videos(config, n, which):
    return World(config.kind, config.level, (config.canvas, config.canvas), config.long, n, seed=WORLDS[which],
                 truth=False, pool=False)


@lru_cache(maxsize=None)
def cached(backbone, pooling, plan, kind, level, canvas, long, n, which, device):
    "The features of n videos, made once"
    net = Backbone(catalog.load(backbone).to(device), backbone, pooling=pooling)
    data = World(kind, level, (canvas, canvas), long, n, seed=WORLDS[which], truth=False, pool=False)
    name = f'claims-{backbone}-{pooling}-{net.sha256[:8]}-{kind}{level}-{long}-{n}-{which}-{plan.views}-{plan.frames}'
    return build_cache(data, net, f'runs/features/{name}', plan)


def features_of(config, n, which, plan, device):
    c = config
    return cached(c.backbone, c.pooling, plan, c.kind, c.level, c.canvas, c.long, n, which, device)


def test_plan(config, protocol):
    "The clips that heads read"
    return ClipPlan(config.frames, config.stride, config.size, grid=(protocol.clips_read, 1), scale=config.scale)


def halves(config, protocol, device):
    "Features, boxes and truth of videos that teach and of those that are scored"
    plan = test_plan(config, protocol)
    return [{k: v.to(device) for k, v in features_of(config, n, which, plan, device).everything().items()}
            for n, which in ((protocol.teach, 'teach'), (protocol.test, 'test'))]


# ---- scores

def fraction(method, config, protocol, seed, device):
    "R² of the part of the video that is spent travelling, by linear layers on each clip"
    sides = []
    for half in halves(config, protocol, device):
        features, position = method._clips(half['features'], half['boxes'])
        sides += [dict(features=features, position=position), half['fraction'].float()]
    found = clip_scores(method.encoder, None, *sides, seed=seed, nonlinear=False)
    return dict(linear=found['SCALE, linear'], clips=found['Linear'])


def read(method, config, protocol, seed, device, *nonlinear):
    "Mean accuracy over the three tasks of linear heads, kNN and these nonlinear ones; each task's by the linear one"
    teach, test = halves(config, protocol, device)
    def fresh():
        with core.seeded(seed): return SCALE(config).encoder.to(device)
    found = {}
    for task in TASKS:
        some = few_shot_subset(teach[task], protocol.labelled, seed).to(device)
        sides = []
        for half in ({k: v[some] for k, v in teach.items()}, test):
            features, position = method._clips(half['features'], half['boxes'])
            sides.append((dict(features=features, position=position), half[task]))
        (a, y), (b, z) = sides
        found[task] = clip_scores(method.encoder, fresh, a, y, b, z, seed=seed,
                                  nonlinear=nonlinear if protocol.nonlinear else False, **QUICK)
    names = next(iter(found.values()))
    return {name: sum(found[t][name] for t in TASKS) / len(TASKS) for name in names} | {
        t: found[t]['SCALE, linear'] for t in TASKS}


SCALE_HEADS = dict(linear='SCALE, linear', tuned='SCALE, fine-tuned', knn='SCALE, k-NN')
PLAIN_HEADS = {'Linear': dict(linear='Linear', knn='k-NN', tuned='Linear'), 'MLP': dict(tuned='MLP', linear='MLP'),
               'Transformer': dict(tuned='Transformer', linear='Transformer')}


def named(found, heads):
    "metric → score"
    return {metric: found[head] for metric, head in heads.items() if head in found}


def trained_scale(config, protocol, seed, device):
    "SCALE after a whole run on cached features"
    cache = features_of(config, protocol.pool, 'pool', replace(config, clips=config.clips).plan, device)
    return train('scale', config, cache, seed, device)


def measure(config, protocol, seed, device):
    "One arm"
    if protocol.ask in ('speed', *BESIDE): return speeds(protocol, device)
    if protocol.ask == 'joint': return joint_scores(config, protocol, seed, device)
    if protocol.ask == 'fraction':
        method = trained_scale(config, protocol, seed, device)
        return dict(linear=fraction(method, config, protocol, seed, device)['linear'])
    found = read(trained_scale(config, protocol, seed, device), config, protocol, seed, device, 'SCALE, fine-tuned')
    return named(found, SCALE_HEADS) | {t: found[t] for t in TASKS}


@lru_cache(maxsize=4)
def plain_read(config, protocol, seed, device):
    "Every head on features as they are, without SCALE's weights"
    return read(as_drawn(SCALE, config, seed, device), config, protocol, seed, device, 'MLP', 'Transformer')


def plain(name):
    "A reader without SCALE; networks are compared where they are asked for"
    def scores(config, protocol, seed, device):
        if protocol.ask == 'fraction' and name == 'Linear':
            same = replace(config, centre=False)
            return dict(linear=fraction(as_drawn(SCALE, same, seed, device), same, protocol, seed, device)['clips'])
        if protocol.ask != 'read': return {}
        same = replace(config, centre=False, masking=Config.masking)          # what no plain reader depends on
        return named(plain_read(same, protocol, seed, device), PLAIN_HEADS[name])
    return scores


references = {name: plain(name) for name in PLAIN_HEADS}


def speeds(protocol, device):
    "Videos a second and memory of a step, by method or by what part of the pixels enters; operations that SCALE adds"
    if protocol.ask in BESIDE:
        name, changes = BESIDE[protocol.ask]
        row = method_rate(name, 1, 2, device, **changes)
        return dict(rate=row['videos_per_second'], memory=-row['megabytes_per_video'])
    row = joint_rate(protocol.pixels, 1, 1, device) if protocol.pixels else scale_rate(32, 2, device)
    return dict(rate=row['videos_per_second'], memory=-row['megabytes_per_video'], added=added_operations()['percent'])


def joint_scores(config, protocol, seed, device):
    "SCALE and a video transformer, trained together; or SCALE on the same network as drawn (no `pixels`)"
    core.seed_everything(seed)
    trunk = VideoViT(config.size, config.frames, 8, 2, config.inputs, 3, 3, cls=False, pos_base=10.).to(device)
    scale = SCALE(config).to(device)
    pool, views = videos(config, protocol.joint_pool, 'pool'), Views(config)
    if protocol.pixels:
        method = Joint(scale, trunk)
        sets = JointViews(config, views.masks, lambda b, f: clip_positions(b, None, config.positions), trunk.grid,
                          1 - protocol.pixels)
        for _ in Learner(method, sets, pool, config.steps, config.lr, config.batch, seed=seed, device=device,
                         progress=False).steps(): pass
    net, plan = Backbone(Joint(scale, trunk), f'joint-{protocol.pixels}-{seed}'), test_plan(config, protocol)
    name = f'runs/features/{net.name}-{net.sha256[:8]}'
    if not protocol.pixels:
        cache = build_cache(pool, net, f'{name}-pool', config.plan)
        scale = train('scale', cache.fit(config), cache, seed, device)
    sets = [build_cache(videos(config, n, w), net, f'{name}-{w}', plan).everything()
            for n, w in ((protocol.teach, 'teach'), (protocol.test, 'test'))]
    found = {}
    for task in TASKS:
        a, b = (dict(zip(('features', 'position'), scale.eval()._clips(h['features'], h['boxes']))) for h in sets)
        found[task] = clip_scores(scale.encoder, None, a, sets[0][task], b, sets[1][task], seed, nonlinear=False)
    mean = {name: sum(f[name] for f in found.values()) / len(found) for name in found['order']}
    return dict(linear=mean['SCALE, linear'], knn=mean['SCALE, k-NN'], clips=mean['Linear'])


# ---- the claims

OVER = 'mean over order, count and first of twelve clips a video'
METRICS = dict(linear=dict(title='linear', unit='%',
                           how=f'accuracy of a linear layer on each clip [feature; CLS], {OVER}'),
               tuned=dict(title='nonlinear', unit='%', how=f'accuracy of what is trained on all clips, {OVER}'),
               knn=dict(title='kNN', unit='%', how=f'accuracy of the weighted vote of 20, {OVER}'),
               **{t: dict(title=t, unit='%', how='accuracy of the linear layer on this task') for t in TASKS})


def setting(**changes):
    "Changes of config and protocol for all arms, at both presets"
    return dict(setting=dict(cpu=dict(CPU, **changes), gpu=dict(GPU, **changes)), seeds=SEEDS)


OURS = 'SCALE'
GAINS = (*above(OURS, 'Linear', 'SCALE_linear improves on the linear layer', 'linear'),
         *above(OURS, 'Transformer', 'with its better initialisation SCALE_ft outperforms the Transformer', 'tuned'),
         *above(OURS, 'MLP', 'and what reads clip by clip', 'tuned'))

table42 = Claim(
    id='table42', sentence='SCALE improves what a linear layer, or fine-tuning, can read from long videos.',
    where='Tables 4.2 and 4.3, section 4.3.2', measured='now', metrics=METRICS, **setting(),
    paper={OURS: dict(linear=25.26, tuned=29.68)},       # SSv2, SVT; Linear 20.30, MLP 21.43, Transformer 29.24
    arms={OURS: {}}, pairs=GAINS)

table44 = Claim(
    id='table44', sentence='k-NN on SCALE beats k-NN on the mean of the clips.', where='Tables 4.4 and 4.5',
    measured='now', metrics=METRICS, **setting(),
    paper={OURS: dict(knn=65.63, linear=74.46)},         # UCF-101, VideoMAE-B; k-NN 35.05, Linear 66.53
    arms={OURS: {}}, pairs=(*above(OURS, 'Linear', 'a consistent improvement over the baseline', 'knn'),
                            *above(OURS, 'Linear', 'and by a linear layer', 'linear')))

table47 = Claim(
    id='table47', sentence='With a tenth of the labels SCALE_ft does not overfit as the other nonlinear heads do.',
    where='Table 4.7', measured='now', metrics=METRICS, **setting(labelled=.1),
    paper={OURS: dict(linear=57.74, tuned=59.52)},       # K400, rho BYOL; Linear 56.43, MLP 58.68, Transformer 58.95
    arms={OURS: {}}, pairs=GAINS)

BOTH, SET, MCM = 'both losses', 'set loss alone', 'masked clips alone'

table48 = Claim(
    id='table48', sentence='Masked clip modelling is always beneficial, and the set loss almost always.',
    where='Table 4.8, section 4.3.3', measured='now', metrics=METRICS, **setting(masking=.2),
    paper={BOTH: dict(tuned=93.20), SET: dict(tuned=91.80), MCM: dict(tuned=92.01)},            # UCF-101, SVT
    arms={BOTH: {}, SET: dict(mcm_weight=0.), MCM: dict(set_weight=0.)},
    pairs=(*above(BOTH, SET, 'having MCM is always beneficial', 'tuned', 'linear'),
           *above(BOTH, MCM, 'and the SET loss is almost always helpful', 'tuned', 'linear')))

RATIOS = {f'{r:.0%} masked': r for r in (.15, .25, .35, .45)}

table49 = Claim(
    id='table49', sentence='Masking a quarter of the clips is best.', where='Table 4.9', measured='runnable',
    metrics=METRICS, **setting(), paper=dict(zip(RATIOS, (dict(tuned=v) for v in (93.18, 93.20, 93.15, 92.96)))),
    arms={name: dict(masking=r) for name, r in RATIOS.items()},
    pairs=(*above('25% masked', '15% masked', 'best results around 25 %', 'tuned'),
           *above('25% masked', '45% masked', 'likewise', 'tuned')))

SIZES = {f'{d} wide, {n} layer{"s" * (n > 1)}': (d, n) for d in (32, 96) for n in (1, 2)}
WIDE, NARROW = '96 wide, 2 layers', '32 wide, 1 layer'

table410 = Claim(
    id='table410', sentence='SCALE needs more than one layer, and enough channels.', where='Table 4.10',
    measured='runnable', metrics=METRICS, **setting(),
    paper={WIDE: dict(tuned=93.81), '96 wide, 1 layer': dict(tuned=92.86), NARROW: dict(tuned=92.62)},   # rho BYOL
    arms={name: dict(dim=d, depth=n, heads=max(1, d // 32)) for name, (d, n) in SIZES.items()},
    pairs=(*above(WIDE, '96 wide, 1 layer', 'more than one layer is necessary', 'tuned'),
           *above(WIDE, '32 wide, 2 layers', 'too few channels can hurt', 'tuned')))

FEW, SOME, MANY = '2 × 2 clips', '2 × 4 clips', '2 × 8 clips'

table411 = Claim(
    id='table411', sentence='More views improve consistently; large batches are not necessary.', where='Table 4.11',
    measured='now', metrics=METRICS, **setting(),
    paper={SOME: dict(tuned=92.67), MANY: dict(tuned=93.20)},                    # UCF-101, SVT, batch 512
    arms={FEW: dict(views=2), SOME: dict(views=4), MANY: {},
          'half the batch': lambda c: dict(batch=c.batch // 2)},
    pairs=(*above(MANY, SOME, 'more views lead to consistent improvement', 'tuned', 'linear'),
           *above(SOME, FEW, 'likewise', 'tuned', 'linear'),
           *above(MANY, 'half the batch', 'not too reliant on large batch sizes (here: no gain)', 'tuned')))

CLIPS, FRAMES = 'clips', 'frames'

table412 = Claim(
    id='table412',
    sentence='With single frames in place of clips SCALE still helps; masked frames are harder to identify.',
    where='Table 4.12', measured='runnable', metrics=METRICS, **setting(),
    paper={FRAMES: dict(linear=17.70, tuned=23.51)},     # SSv2, CLIP; Linear 15.22
    arms={CLIPS: {}, FRAMES: dict(frames=1)},
    pairs=(*above(CLIPS, FRAMES, 'frames of one video are nearly alike', 'linear', 'tuned'),))

CACHED, END_TO_END = 'SCALE, cached features', 'SCALE, end to end'

table41 = Claim(
    id='table41', sentence='On cached features a step is orders of magnitude cheaper, in time and memory.',
    where='Table 4.1, section 4.3.1', measured='now',
    metrics=dict(rate=dict(title='rate', unit='videos/s', digits=3,
                           how='forward and backward pass, ViT-S, 16 × 112² px; SCALE and MoCo compare two views of a '
                               'video: 8 clips each, or one'),
                 memory=dict(title='memory', unit='−MB a video',
                             how='kept for the backward pass, negative: less is more'),
                 added=dict(title='added', unit='% of operations', digits=5,
                            how='of the network over those of ViT-B on fifteen clips of 16 × 224²')),
    setting=dict(cpu=dict(CPU, ask='speed'), gpu=dict(GPU, ask='speed')), seeds=3,
    paper={CACHED: dict(rate=9224.65, added=.001), 'MoCo v3': dict(rate=8.66), 'MoCo v3, sparse': dict(rate=28.83),
           'VideoMAE': dict(rate=33.54)},                     # ViT-B, one RTX 3090
    arms={CACHED: dict(pixels=0.), **{name: dict(ask=name) for name in BESIDE},
          f'{END_TO_END}, 15 % of the tokens': {}, f'{END_TO_END}, all tokens': dict(pixels=1.)},
    pairs=(*above(CACHED, 'VideoMAE', 'orders of magnitude more efficient', 'rate', 'memory'),
           *above(CACHED, 'MoCo v3, sparse', 'likewise', 'rate', 'memory'),
           *above('MoCo v3, sparse', 'MoCo v3', 'dropping tokens helps', 'rate', 'memory'),
           *above(f'{END_TO_END}, 15 % of the tokens', f'{END_TO_END}, all tokens', 'and SCALE end to end, too', 'rate',
                  'memory')))

TOGETHER, DRAWN = 'trained together, sparse', 'network as drawn, frozen'

joint = Claim(
    id='joint', sentence='A sparse backbone trained end to end over several clips beats a frozen one.',
    where='Section 4.2.3 and chapter 8, future work', measured='runnable',
    metrics=dict(linear=METRICS['linear'], knn=METRICS['knn'],
                 clips=dict(title='clips', unit='%', how=f'linear on clip features alone, {OVER}')),
    setting=dict(cpu=dict(CPU, ask='joint', inputs=96, size=48, frames=8, views=3, clips=6, batch=8, steps=300,
                          teach=300, test=500),
                 gpu=dict(GPU, ask='joint', inputs=192, size=64, frames=8, views=4, clips=8, batch=64, steps=6000)),
    seeds=3, paper={}, arms={TOGETHER: {}, 'trained together, dense': dict(pixels=1.), DRAWN: dict(pixels=0.)},
    pairs=(*above(TOGETHER, DRAWN, 'if performance is the main goal', 'linear', 'clips'),
           *above(TOGETHER, 'trained together, dense', 'and still build a good representation', 'linear')))

centre = Claim(
    id='centre', sentence='With the mean of the seen clips subtracted, the summary says more about what happens.',
    where='ours, not the paper', measured='now', metrics=METRICS, **setting(), paper={},
    arms={'centred': {}, 'as they are': dict(centre=False)},
    pairs=(*above('centred', 'as they are', 'the look of a video is a shortcut', 'linear', 'tuned'),))

spent = Claim(
    id='fraction', sentence="SCALE's summary says how a long video's time is spent.",
    where='Section 4.3.2; the regression is ours', measured='now',
    metrics=dict(linear=dict(title='R²', unit='', digits=3, how='of the part of the video spent travelling, a linear '
                                                                'layer on each clip [feature; CLS], mean of twelve')),
    **setting(ask='fraction'), paper={}, arms={OURS: {}},
    pairs=above(OURS, 'Linear', 'SCALE_linear improves on the linear layer', 'linear'))

claims = (table41, table42, spent, table44, table47, table48, table49, table410, table411, table412, joint, centre)
