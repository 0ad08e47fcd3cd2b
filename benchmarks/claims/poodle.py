"""PooDLe's claims: tables 3 and 4, figures 5 b, 7, 9, 10 of Wang, Hoang et al., ICLR 2025, on drives and CamVid."""
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from benchmarks.claims.runner import Claim, above
from benchmarks.protocols import camvid
from benchmarks.protocols.runs import train
from benchmarks.protocols.segmentation import camvid_iou, drive_iou, patch_pixels
from ssl_workbench import core, data, probes, training, world
from ssl_workbench.methods.poodle import TABLE4, PooDLe, mean_by_size, subcrop_probabilities, toy_probabilities

# ---- the setting: what the arms share, the smallest in which the sentences make sense

CPU = dict(level=2, steps=150)                  # changes of the cpu preset
GPU = dict(level=3, steps=3000)                 # changes of the gpu preset
SEEDS = 3


@dataclass(frozen=True)
class Protocol:
    "What is trained on, and how a run is scored; an arm changes `flow`, `stride` or `count` alone"
    pool: int = 512               # pairs to train on
    flow: str = 'truth'           # the source of their flow: 'truth', or what `training.flow_source` takes
    stride: int = field(default=1, metadata=dict(range='[0, 100000]'))  # Δt, in the world's time; 0: one frame twice
    seg_train: int = 100          # drives that the linear segmentation learns from
    scenes: int = 150             # test drives
    street: tuple = (96, 128)     # CamVid's height and width
    count: str = ''               # 'subcrops' or 'pixels': train nothing, count how much of them is of objects


protocols = dict(cpu=Protocol(), gpu=replace(Protocol(), pool=8192, seg_train=300, scenes=500, street=(144, 192)))


class StillPairs:
    "Pairs of a frame and itself: Δt = 0"
    def __init__(self, pairs): self.pairs = pairs

    def __len__(self): return len(self.pairs)

    def __getitem__(self, i):
        sample = self.pairs[i]
        zero = {k: torch.zeros_like(sample[k]) for k in ('flow', 'flow_back')}
        return dict(sample, frames=sample['frames'][:1].repeat(2, 1, 1, 1), **zero)


@lru_cache(maxsize=None)
def rendered_pairs(kind, level, canvas, stride, n, flow):
    "Pairs with flow, rendered once a process"
    drawn = data.open_pairs(f'world:{kind}:{level}', size=canvas, stride=stride or 1, length=n, truth=flow == 'truth')
    if stride == 0: return StillPairs(drawn)
    return drawn if flow in ('truth', 'joint') else data.WithFlow(drawn, training.flow_source(flow))


def training_pairs(config, protocol):
    "Pairs with flow to train on"
    return rendered_pairs(config.kind, config.level, config.canvas, protocol.stride, protocol.pool, protocol.flow)


# ---- scores

def segmentation(maps, config, protocol, device):
    "Linear segmentation of drawn drives and of CamVid, by groups of classes; maps: (B,3,H,W) → (B,D,h,w)"
    streets = {f'street_{k}': v for k, v in camvid_iou(maps, protocol).items()}
    return drive_iou(maps, config, protocol, device) | streets


def measure(config, protocol, seed, device):
    "Scores of one arm with one seed: train from scratch, then probe; or count"
    if protocol.count: return prevalence(protocol.count, seed)
    if protocol.flow == 'joint': config = replace(config, flow='joint')
    method = train('poodle', config, training_pairs(config, protocol), seed, device)
    return segmentation(probes.feature_maps(method), config, protocol, device)


# ---- how often an object is seen, by subcrops and by pixels (figure 10)

CIRCLES = (12., 24., 48., 96.)                  # radii in pixels of a frame of 256×512
THINGS = ('pole', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist')


def drive_labels(seed):
    "300 label maps of drawn drives, and the classes that are things"
    first = 800_000 + 1000 * seed
    drives = world.batch(range(first, first + 300), kind='drive', level=2, size=(128, 256), frames=1)
    return drives['classes'][:, 0], list(range(1, len(world.classes('drive', 2))))


def camvid_labels(seed):
    "150 label maps of CamVid, another choice a seed, and the classes that are things; none where it is not there"
    frames = [label for part in camvid.split_by_drive((180, 240)) for _, label in part]
    some = torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))[:150].tolist()
    return [frames[i] for i in some], [camvid.CLASSES.index(n) for n in THINGS]


@lru_cache(maxsize=None)
def probabilities(where, seed):
    "(n,) subcrop probability, (n,) pixel probability of objects from small to large: ten equal bins, or four circles"
    if where == 'circle': return toy_probabilities(CIRCLES)
    labels, things = dict(road=drive_labels, town=camvid_labels)[where](seed)
    return mean_by_size(*subcrop_probabilities(torch.stack(list(labels)), things, seed)) if len(labels) else None


def prevalence(what, seed):
    "Probability of the smaller and of the larger half of the objects, and the ratio of the two (log2)"
    found = {}
    for where in ('circle', 'road', 'town'):
        if (both := probabilities(where, seed)) is None: continue
        p = both[what == 'pixels']
        small, large = (part.mean().item() for part in p.tensor_split(2))
        balance = float(torch.tensor(small / large).log2())
        found |= {f'small_{where}': small, f'large_{where}': large, f'balance_{where}': balance}
    return found


# ---- what needs no training

def random_init(config, protocol, seed, device):
    "The same network, its weights as drawn, batch norm measured on the drives that teach"
    if protocol.count: return {}
    core.seed_everything(seed)
    pairs = training_pairs(config, protocol)
    frames = torch.stack([pairs[i]['frames'][0] for i in range(64)]) / 255
    method = probes.calibrate(PooDLe(config).to(device), frames).eval()
    return segmentation(probes.feature_maps(method), config, protocol, device)


def raw_pixels(config, protocol, seed, device):
    "Pixels of patches of 4 px"
    return {} if protocol.count else segmentation(patch_pixels(4), config, protocol, device)


references = {'random init': random_init, 'raw pixels': raw_pixels}


def describe(config, protocol):
    "Data and scoring in words"
    c, p = config, protocol
    if p.count:
        return (f'circles of radius {", ".join(f"{r:g}" for r in CIRCLES)} px in a frame of 256×512, '
                'all whole positions of squares of 2 to 8 % of it; '
                '300 drawn drives of level 2 and 150 frames of CamVid, two large crops each, '
                '512 subcrops of 2 to 3 % per crop; a subcrop counts if it shows 5 % of the object')
    return (f'crops of {c.size} px and {c.subcrops} pairs of subcrops of {c.sub_size} px from drives of {c.canvas} px, '
            f'level {c.level}, ResNet of {c.channels} channels; '
            f'{c.steps} steps of {c.batch} pairs out of {p.pool}, {p.stride} apart, flow: {p.flow}; '
            f'linear segmentation trained on {p.seg_train} drives, tested on {p.scenes}, '
            f'and CamVid at {p.street[0]}×{p.street[1]} px, trained on two drives, tested on a third')


# ---- the claims

GROUPS = ('all', 'small', 'large', 'rare', 'common')
DRIVES, STREETS = ('mean IoU of {} classes, a linear classifier on frozen features of drawn drives',
                   'likewise {} classes of CamVid; the paper: BDD100K')
METRICS = {g: dict(title=g, unit='%', how=DRIVES.format(g)) for g in GROUPS[:3]}             # no class is rare here
METRICS |= {f'street_{g}': dict(title=f'CamVid, {g}', unit='%', how=STREETS.format(g)) for g in GROUPS[:3]}
SHARED = dict(metrics=METRICS, seeds=SEEDS, setting=dict(cpu=CPU, gpu=GPU))
BOTH = ('all', 'street_all')
SMALL = ('small', 'street_small')


def row(*values):
    "Figures of a row of the tables, beside those of CamVid, which has real streets too"
    return {f'street_{g}': v for g, v in zip(GROUPS, values, strict=True)}


TABLE = {1: ('1 FlowE', row(28.8, 8.7, 40.5, 1.8, 29.2)),
         2: ('2 + pooled', row(28.9, 7.2, 41.6, 2.2, 28.7)),
         3: ('3 + top-down', row(30.3, 6.8, 44.0, 4.3, 30.2)),
         4: ('4 + lateral', row(30.3, 10.9, 41.7, 2.4, 31.1)),
         5: ('5 dense, decoder', row(31.8, 12.8, 42.8, 8.3, 31.7)),
         6: ('6 PooDLe, learnt flow', row(33.7, 14.1, 45.1, 8.9, 33.8)),
         7: ('7 PooDLe', row(34.2, 15.0, 45.5, 9.0, 34.5))}


def arms_of(*rows):
    "Rows of table 4 as arms; the flow of row 6 comes from the bundled MC-JEPA"
    return dict(arms={TABLE[r][0]: TABLE4[r] | (dict(flow='mcjepa') if r == 6 else {}) for r in rows},
                paper={TABLE[r][0]: TABLE[r][1] for r in rows})


FLOWE, POOLED, TOPDOWN, LATERAL, DENSE, LEARNT, FULL = (name for name, _ in TABLE.values())

table4 = Claim(
    id='table4',
    sentence='The decoder helps the dense loss, and the pooled loss helps beyond it, small classes most of all.',
    where='Table 4, section 4.3',
    measured='now', **SHARED, **arms_of(1, 5, 7),
    pairs=(*above(DENSE, FLOWE, 'the full decoder: + 3 %', *BOTH),
           *above(FULL, DENSE, 'an even greater synergistic effect with the pooled loss', *BOTH),
           *above(FULL, FLOWE, 'a substantial improvement', *BOTH),
           *above(DENSE, FLOWE, 'small classes gain (table)', *SMALL),
           *above(FULL, DENSE, 'small classes gain (table)', *SMALL)))

THREE = {'FlowE': row(35.7, 12.2, 49.3, 10.7, 47.2), 'PooDLe': row(39.2, 18.3, 51.4, 12.0, 51.8)}

table3 = Claim(
    id='table3', sentence='PooDLe is better than FlowE in every group of classes, most of all the small ones.',
    where='Table 3, section 4.2', measured='now', **SHARED,
    paper=THREE, arms={'FlowE': TABLE4[1], 'PooDLe': TABLE4[7]},
    pairs=above('PooDLe', 'FlowE', 'significant improvement in all class designations', *GROUPS[:3],
                *(f'street_{g}' for g in GROUPS[:3])))

SUBCROPS, PIXELS = 'subcrops', 'pixels'
OBJECTS = dict(circle='circles', road='drawn drives', town='CamVid')
PREVALENCE = (
    ('small', 'small, {}', '%', 'part of the subcrops that are views of an object, '
     'part of the pixels that are its own; the smaller half of the objects'),
    ('large', 'large, {}', '%', 'likewise, the larger half'),
    ('balance', 'small / large, {}', 'log2', 'the smaller half over the larger half: 0 would be balance'))
COUNTS = {f'{k}_{where}': dict(title=title.format(name), unit=unit, how=how)
          for where, name in OBJECTS.items() for k, title, unit, how in PREVALENCE}

figure10 = Claim(
    id='figure10', sentence='Subcrops show objects more often than pixels do, the more so the smaller the object.',
    where='Figure 10, section 4.5, appendix C',
    # the figure has no numbers
    measured='now', metrics=COUNTS, seeds=SEEDS, setting={p: dict(count='subcrops') for p in protocols}, paper={},
    arms={SUBCROPS: dict(count='subcrops'), PIXELS: dict(count='pixels')},
    pairs=(*above(SUBCROPS, PIXELS, 'subcrops boost the prevalence of small objects', *(f'small_{w}' for w in OBJECTS)),
           *above(SUBCROPS, PIXELS, 'the relative difference is greater for smaller objects',
                  *(f'balance_{w}' for w in OBJECTS))))

rest = Claim(
    id='table4-rest',
    sentence='Neither the pooled loss nor half a decoder is enough; flow learnt without labels is nearly as good.',
    where='Table 4, section 4.3',
    measured='runnable', **SHARED, **arms_of(*TABLE),
    pairs=(*above(FULL, POOLED, 'the pooled loss alone has little benefit', *BOTH),
           *above(DENSE, TOPDOWN, 'top-down only with laterals', *BOTH),
           *above(DENSE, LATERAL, 'laterals only with top-down', *BOTH),
           *above(LEARNT, DENSE, 'performs well even with self-supervised flow', *BOTH),
           *above(FULL, LEARNT, 'only a 0.5 % loss', *BOTH)))

AREAS = {'.02 to .1': (.02, .1), '.05 to .3': (.05, .3), '.3 to .5': (.3, .5), '.5 to 1': (.5, 1.)}
SMALLEST, OURS, _, LARGEST = AREAS

figure5b = Claim(
    id='figure5b', sentence='Larger subcrops give poorer features, because they show several objects.',
    where='Figure 5 b, section 4.4', measured='runnable', **SHARED,
    # the figure has no numbers
    paper={}, arms={name: dict(area=area) for name, area in AREAS.items()},
    pairs=(*above(OURS, LARGEST, 'larger subcrop areas result in poorer performance', *BOTH, *SMALL),
           *above(SMALLEST, LARGEST, 'likewise', *BOTH)))

PAIRS = {f'K = {k}': k for k in (0, 3, 6, 9)}

figure7 = Claim(
    id='figure7', sentence='Three subcrops already help a lot; more help a little more.', where='Figure 7, section 4.4',
    measured='runnable', **SHARED, paper={},
    arms={name: dict(subcrops=k) if k else dict(pooled=False) for name, k in PAIRS.items()},
    pairs=(*above('K = 3', 'K = 0', 'a large performance jump', *BOTH),
           *above('K = 6', 'K = 3', 'more modest gains', *BOTH), *above('K = 9', 'K = 3', 'more modest gains', *BOTH)))

# at 0 the paper shifts the crop too
GAPS = {f'Δt = {t}': t for t in (0, 1, 2, 4, 8)}

figure9 = Claim(
    id='figure9', sentence='Frames should be neither too close nor too far apart in time.',
    where='Figure 9, section 4.4', measured='runnable', **SHARED, paper={},
    arms={name: dict(stride=t) for name, t in GAPS.items()},
    pairs=(*above('Δt = 2', 'Δt = 0', 'too small: too easy', *BOTH),
           *above('Δt = 2', 'Δt = 8', 'too large: correspondence decreases', *BOTH)))

JOINT, FROZEN, DIS, TRUTH = 'joint flow', 'frozen MC-JEPA flow', 'DIS flow', 'true flow'

joint = Claim(
    id='joint-flow',
    sentence='One encoder that learns flow and features together is no worse than one that follows a frozen flow.',
    where='section 5, limitations and future work (the paper has no figures)', measured='runnable', **SHARED, paper={},
    arms={JOINT: dict(flow='joint'), FROZEN: dict(flow='mcjepa'), DIS: dict(flow='dis'), TRUTH: dict(flow='truth')},
    pairs=(*above(JOINT, FROZEN, 'a jointly learned flow in place of a frozen one', *BOTH, *SMALL),
           *above(JOINT, DIS, 'and in place of one computed without learning', *BOTH),
           *above(TRUTH, JOINT, 'how far from the truth', *BOTH, *SMALL)))

claims = (table4, table3, figure10, rest, figure5b, figure7, figure9, joint)
