"""SF-CLIP's claims: tables 7.5 to 7.10 of the thesis, LaSF-CLIP and chapter 8's token dropping, on drawn scenes.

The teachers are the bundled encoder and the bundled XLM, the same for every arm and seed: frozen, no part of what
varies. Captions are English in every pair. The near languages are Spanish, French and German, the far one `qaa`.
"""
from dataclasses import dataclass, replace

from benchmarks.claims.runner import Claim, above
from benchmarks.protocols import captions
from benchmarks.protocols.cost import now
from benchmarks.protocols.runs import as_drawn, train
from ssl_workbench import core, probes
from ssl_workbench.classics.clip import CLIP
from ssl_workbench.classics.clip import Config as CLIPConfig
from ssl_workbench.classics.clip import Views as CLIPViews
from ssl_workbench.methods.sfclip import SFCLIP, Precomputed, Views
from ssl_workbench.training import with_teachers
from ssl_workbench.world import World, classes

# ---- the setting: what the arms share, the smallest in which the sentences make sense

CPU = dict(kind='scene', level=1, steps=300, batch=64, scale=(.8, 1.))          # of the cpu preset
GPU = dict(kind='scene', level=3, steps=6000)                                   # of the gpu preset
SEEDS = 3
TIMED = 4                                       # a run of so few steps learns nothing: it is timed
SHARED = ('size canvas patch dim depth heads pos_base text_dim text_depth text_heads context out_dim temperature scale '
          'styles language steps batch lr lr_end warmup weight_decay betas pictures kind level').split()


@dataclass(frozen=True)
class Protocol:
    "What is trained on, and how a run is scored; the same for every arm"
    pool: int = 4096              # scenes to train on
    test: int = 1000              # unseen scenes whose captions are searched
    objects: int = 1000           # unseen iconic pictures classified by words
    pixels: int = 200             # unseen scenes segmented by words
    probed: int = 0               # scenes that a linear segmentation learns from; 0: none
    plain: str = ''               # train CLIP in place of SF-CLIP: 'none', 'simclr' (SLIP) or 'distill' (MaskCLIP)


protocols = dict(cpu=Protocol(), gpu=replace(Protocol(), pool=50_000, test=2000, pixels=500))


def missing(config, protocol):
    "One sentence where a teacher is not there, else nothing"
    if protocol.plain: return ''
    try: with_teachers(config)
    except ValueError as error: return f'SF-CLIP needs its teachers: {error}'
    return ''


def describe(config, protocol):
    "Data and scoring in words"
    c, p = config, protocol
    shared = f'views of {c.size} px of world:{c.kind}:{c.level}, English captions; batches of {c.batch}'
    if c.steps <= TIMED: return f'{shared}; views, forward and backward pass, best of {c.steps} steps, without drawing'
    return (f'{shared}, {c.steps} steps on {p.pool} scenes; retrieval on {p.test} unseen scenes, classification on '
            f'{p.objects} iconic pictures, segmentation on {p.pixels} scenes')


# ---- scores

def clip_config(config, protocol):
    "CLIP's settings with SF-CLIP's for what they share"
    return CLIPConfig(extra=protocol.plain, **{k: getattr(config, k) for k in SHARED})


def scores(method, config, protocol, device):
    "All scores of a trained or untrained method"
    p, place = protocol, (config.level, config.canvas)
    by = captions.retrieval(method, *place, p.test, device)
    found = dict(en=by['en']['i2t'][1], t2i=by['en']['t2i'][5], i2t=by['en']['i2t'][5], far=by[captions.FAR]['i2t'][5],
                 near=sum(by[lang]['i2t'][5] for lang in captions.NEAR) / len(captions.NEAR),
                 **{lang: by[lang]['i2t'][5] for lang in captions.NEAR},
                 zs=captions.zero_shot(method, *place, p.objects, device),
                 seg=captions.word_map_miou(method, *place, p.pixels, device))
    for k, v in captions.composition(method, *place, p.test, device).items(): found[k] = v
    parts = [found[k] for k in ('replace', 'swap', 'add') if k in found]
    found['compose'] = sum(parts) / len(parts)
    if p.probed: found['linear_seg'] = linear_segmentation(method, config, protocol)
    return found


def linear_segmentation(method, config, protocol):
    "mIoU of a linear layer on the patch features"
    halves = [captions.test_scenes(config.level, config.canvas, n, seed)
              for n, seed in ((protocol.probed, 9303), (protocol.pixels, captions.TEST_SEED))]
    pairs = [[(captions.sized(one['frames'], config.size)[0], one['classes'][0]) for one in map(half.__getitem__,
              range(len(half)))]
             for half in halves]
    return probes.segment(probes.feature_maps(method), *pairs, len(classes('scene', config.level)))['miou']


def pool(config, protocol):
    "The scenes to train on"
    return World(config.kind, config.level, (config.canvas,) * 2, 1, protocol.pool, truth=False, captions=True)


def measure(config, protocol, seed, device):
    "Scores of one arm with one seed; a run of a few steps is timed"
    if config.steps <= TIMED: return dict(time=step_time(config, protocol, seed, device))
    name, c = ('clip', clip_config(config, protocol)) if protocol.plain else ('sfclip', config)
    return scores(train(name, c, pool(config, protocol), seed, device), config, protocol, device)


def step_time(config, protocol, seed, device):
    "Milliseconds of a step: views, forward, backward; the least of a few"
    core.seed_everything(seed)
    if protocol.plain:
        c = clip_config(config, protocol)
        method, views = CLIP(c), CLIPViews(c)
    else:
        c, teachers = with_teachers(config)
        method, views = SFCLIP(c).adopt(*teachers), Views(c)
    data, times, indices = pool(config, replace(protocol, pool=c.batch)), [], list(range(c.batch))
    method.to(device).train()
    if getattr(c, 'precomputed', False): data = Precomputed(data, method, device)
    data.batch(indices, device)
    for k in range(config.steps):
        seeds = core.fold_in(indices, f'time {seed} {k}').to(device)
        start = now(device)
        sum(method.loss(method(views(data.batch(indices, device) | dict(seed=seeds)))).values()).backward()
        times.append(now(device) - start)
        method.zero_grad(set_to_none=True)
    return 1e3 * min(times)


# ---- what needs no training

def random_init(config, protocol, seed, device):
    "The same network, its weights and words as drawn"
    if config.steps <= TIMED: return {}
    if protocol.plain:
        return scores(as_drawn(CLIP, clip_config(config, protocol), seed, device), config, protocol, device)
    c, teachers = with_teachers(config)
    return scores(as_drawn(SFCLIP, c, seed, device).adopt(*teachers).to(device), c, protocol, device)


def chance(config, protocol, seed, device):
    "A random order"
    if config.steps <= TIMED: return {}
    n, near = protocol.test, 5 / protocol.test
    return dict(en=1 / n, t2i=near, i2t=near, near=near, far=near, **{lang: near for lang in captions.NEAR},
                compose=.5, replace=.5, swap=.5, add=.5)


references = {'random init': random_init, 'chance': chance}


# ---- the claims

LANG = 'recall at 5, caption of a picture in {}, of which no pair was seen; the thesis: XTD10, {}'
METRICS = dict(
    en=dict(title='EN R@1', unit='%', how='recall at 1, English caption of a picture'),
    i2t=dict(title='I2T R@5', unit='%', how='recall at 5, English caption of a picture; the thesis: MSCOCO'),
    t2i=dict(title='T2I R@5', unit='%', how='recall at 5, picture of an English caption; the thesis: MSCOCO'),
    near=dict(title='near', unit='%', how=LANG.format('Spanish, French and German (mean)', 'Spanish')),
    es=dict(title='ES', unit='%', how=LANG.format('Spanish', 'Spanish')),
    far=dict(title='far', unit='%', how=LANG.format('the invented language qaa', 'Russian')),
    zs=dict(title='zero-shot', unit='%', how='balanced accuracy of iconic pictures by words; the thesis: ImageNet'),
    seg=dict(title='mIoU', unit='%', how='pixels by words, last values; the thesis: Pascal Context, last keys'))
COMPOSE = dict(
    compose=dict(title='compositional', unit='%', how='true caption above one with a wrong fact, mean of three kinds; '
                                                      'the thesis: SugarCREPE'),
    **{k: dict(title=k, unit='%', how='likewise, this kind') for k in ('replace', 'swap', 'add')})
TIMES = dict(time=dict(title='time', unit='ms', how='of a training step; the thesis: epoch time, relative to CLIP'))


def setting(metrics=METRICS, seeds=SEEDS, **changes):
    "What claims share"
    return dict(metrics=metrics, seeds=seeds, setting=dict(cpu=dict(CPU, **changes), gpu=dict(GPU, **changes)))


def rows(names, **arms):
    "arm → metric → figure from rows of figures"
    return {arm: dict(zip(names, values)) for arm, values in arms.items()}


FULL, NO_TEXT, NO_WORDS, NO_VISION = 'SF-CLIP', 'no language teacher', 'own words', 'no vision teacher'
WITHOUT_TEXT = dict(text_teacher='', inherit_words=False)
WITHOUT_VISION = dict(vision_teachers=(), vision_dims=())

table78 = Claim(
    id='table78', sentence='The language teacher and its words provide the languages, the vision teacher the pictures.',
    where='Thesis, table 7.8, rows 1, 2, 4 and 5, section 7.3.4', measured='now', **setting(),
    paper=rows(('zs', 't2i', 'i2t', 'es', 'far', 'seg'), **{
        FULL: (33.9, 18.9, 33.3, 39.1, 34.2, 25.4), NO_TEXT: (33.2, 18.6, 31.5, 18.4, 1.6, 25.3),
        NO_WORDS: (35.2, 18.8, 31.9, 22.6, .8, 23.8), NO_VISION: (31.3, 16.6, 29., 35.5, 33.8, 22.7)}),
    arms={FULL: {}, NO_TEXT: WITHOUT_TEXT, NO_WORDS: dict(inherit_words=False), NO_VISION: WITHOUT_VISION},
    pairs=(*above(FULL, NO_WORDS, 'not inheriting the word embedding removes the multilingual capabilities', 'near',
                  'es', 'far'),
           *above(FULL, NO_TEXT, 'nor does it have any without the text teacher', 'near', 'es', 'far'),
           *above(FULL, NO_VISION, 'removing the image teacher leads to a drop on all metrics', 'zs', 't2i', 'i2t',
                  'es', 'far', 'seg'),
           *above(NO_WORDS, FULL, 'without projected words better zero-shot …', 'zs'),
           *above(FULL, NO_WORDS, '… and worse performance on everything else', 't2i', 'i2t', 'seg'),
           *above(FULL, 'chance', 'far languages significantly better than chance', 'near', 'far')))

CLIP_ARM = dict(plain='none')

against_clip = Claim(
    id='clip', sentence='SF-CLIP retrieves, segments and classifies better than CLIP after the same number of steps.',
    where='Thesis, tables 7.1, 7.3 and 7.7, section 7.3', measured='now', **setting(),
    paper={'CLIP': dict(i2t=53.5, t2i=38.8, es=23.3, far=1.1, zs=37.6, seg=13.5),
           FULL: dict(es=48.7, far=32.5, seg=25.9)},
    arms={'CLIP': CLIP_ARM, FULL: {}},
    pairs=(*above(FULL, 'CLIP', 'better than the other models', 'en', 'i2t', 't2i', 'zs'),
           *above(FULL, 'CLIP', 'drastically better for all languages', 'near', 'es', 'far'),
           *above(FULL, 'CLIP', 'zero-shot segmentation', 'seg')))

REWRITTEN = 'LaSF-CLIP'

lasfclip = Claim(
    id='lasfclip', sentence='Rewritten captions make zero-shot better and compositional understanding worse.',
    where='Thesis, tables 7.1 and 7.6, section 7.3.3 (CLIP and LaCLIP on CC12M)', measured='now',
    **setting({k: METRICS[k] for k in ('zs', 'en', 'near', 'far')} | COMPOSE),
    paper={'CLIP': dict(zs=40.2, compose=70.9, replace=77.5, swap=61.8, add=73.5),
           'LaCLIP': dict(zs=48.4, compose=69., replace=75.1, swap=60.6, add=71.2)},
    arms={FULL: {}, REWRITTEN: dict(styles=4), 'CLIP': CLIP_ARM, 'LaCLIP': dict(plain='none', styles=4)},
    pairs=(*above(REWRITTEN, FULL, 'zero-shot rises', 'zs'), *above(FULL, REWRITTEN, 'compositional falls', 'compose'),
           *above('LaCLIP', 'CLIP', 'zero-shot rises', 'zs'),
           *above('CLIP', 'LaCLIP', 'compositional falls', 'compose')))

ALL, SUBSET, KNOWN = 'SF-CLIP, full batch', 'SF-CLIP, subset', 'SF-CLIP, precomputed'

table710 = Claim(
    id='table710', sentence='With a subset of each batch SF-CLIP costs little more than CLIP.',
    where='Thesis, table 7.10, section 7.3.4', measured='now', **setting(TIMES, steps=TIMED),
    paper={'CLIP': dict(time=1.), 'CLIP + SimCLR': dict(time=2.67), 'MaskCLIP': dict(time=1.75), ALL: dict(time=2.28),
           SUBSET: dict(time=1.2)},
    arms={'CLIP': CLIP_ARM, 'CLIP + SimCLR': dict(plain='simclr'), 'MaskCLIP': dict(plain='distill'),
          ALL: dict(image_share=1., text_share=1.), SUBSET: {}, KNOWN: dict(precomputed=True)},
    pairs=(*above('CLIP + SimCLR', SUBSET, 'significantly faster than SLIP', 'time'),
           *above('MaskCLIP', SUBSET, 'and MaskCLIP', 'time'), *above(ALL, SUBSET, 'the subset is cheaper', 'time'),
           *above('CLIP', SUBSET, 'only slightly slower than CLIP: at most a quarter', 'time', times=1.25),
           *above('CLIP', KNOWN, 'precomputed targets cost virtually nothing: at most 8 %', 'time', times=1.08)))

rest78 = Claim(
    id='table78-rest', sentence='Masking text helps, masking pictures has mixed effects, and the default rate is best.',
    where='Thesis, table 7.8, rows 1, 3 and 6 to 8', measured='runnable', **setting(),
    paper=rows(('zs', 't2i', 'i2t', 'es', 'far', 'seg'), **{
        FULL: (33.9, 18.9, 33.3, 39.1, 34.2, 25.4), 'text not masked': (33.6, 18.9, 32.5, 38., 31.1, 25.2),
        'pictures masked': (34.3, 18.7, 32.3, 37.4, 33.6, 25.6), 'half the part': (33.9, 18.8, 32.9, 38.9, 34.1, 25.2),
        'twice the part': (34.1, 18.7, 31.5, 39., 32.4, 25.2)}),
    arms={FULL: {}, 'text not masked': dict(text_masked=0.), 'pictures masked': dict(image_masked=.25),
          'half the part': lambda c: dict(image_share=c.image_share / 2, text_share=c.text_share / 2),
          'twice the part': lambda c: dict(image_share=c.image_share * 2, text_share=c.text_share * 2)},
    pairs=(*above(FULL, 'text not masked', 'consistent benefits for masking with text', 'i2t', 'es', 'far'),
           *above(FULL, 'half the part', 'optimal performance at the default rate', 'i2t', 'es'),
           *above(FULL, 'twice the part', 'overfitting at higher rates', 'i2t', 'far')))

BOTH, NEITHER = 'both teachers', 'no teacher'

table79 = Claim(
    id='table79', sentence='More teachers are better.', where='Thesis, table 7.9, section 7.3.4', measured='runnable',
    **setting(),
    paper=rows(('zs', 't2i', 'i2t', 'es', 'far', 'seg'), **{
        NEITHER: (31.5, 15.5, 28., 16.9, .8, 21.6), NO_TEXT: (33.2, 18.6, 31.5, 18.4, 1.6, 25.3),
        NO_VISION: (31.3, 16.6, 29., 35.5, 33.8, 22.7), BOTH: (33.9, 18.9, 33.3, 39.1, 34.2, 25.4),
        'two vision teachers': (36.2, 20.6, 36., 41.7, 36.2, 25.7)}),
    arms={NEITHER: WITHOUT_TEXT | WITHOUT_VISION, NO_TEXT: WITHOUT_TEXT, NO_VISION: WITHOUT_VISION, BOTH: {},
          'two vision teachers': dict(vision_teachers=('slotmim', 'dilemma'), vision_dims=(96, 96))},
    pairs=(*above(BOTH, NEITHER, 'improved performance with an increased number of teachers', 'i2t', 't2i', 'near',
                  'seg'),
           *above('two vision teachers', BOTH, 'likewise', 'i2t', 'seg')))

table75 = Claim(
    id='table75', sentence='A linear layer segments better on SF-CLIP than on CLIP and SLIP.',
    where='Thesis, table 7.5', measured='runnable',
    **setting(dict(linear_seg=dict(title='linear mIoU', unit='%', how='a linear layer on patch features')), probed=300),
    paper={'CLIP': dict(linear_seg=29.6), 'SLIP': dict(linear_seg=41.8), FULL: dict(linear_seg=47.9)},
    arms={'CLIP': CLIP_ARM, 'SLIP': dict(plain='simclr'), FULL: {}},
    pairs=(*above(FULL, 'CLIP', 'a richer spatial representation', 'linear_seg'),
           *above(FULL, 'SLIP', 'likewise', 'linear_seg')))

table76 = Claim(
    id='table76', sentence='SF-CLIP understands composition better than CLIP and SLIP.', where='Thesis, table 7.6',
    measured='runnable', **setting(COMPOSE),
    paper={'CLIP': dict(compose=68.9, replace=73.3, swap=59.4, add=74.), 'SLIP': dict(compose=69.2, replace=75.2,
           swap=58.6, add=73.5), FULL: dict(compose=71.2, replace=77.3, swap=61.6, add=74.8)},
    arms={'CLIP': CLIP_ARM, 'SLIP': dict(plain='simclr'), FULL: {}},
    pairs=(*above(FULL, 'CLIP', 'a decent improvement', 'compose', 'replace', 'swap', 'add'),
           *above(FULL, 'SLIP', 'likewise', 'compose')))

DROPPED = 'half of the patches dropped'

dropping = Claim(
    id='dropping', sentence='Token dropping inside SF-CLIP could make training more efficient.',
    where='Thesis, chapter 8 (future work): "combining token dropping with the masking strategy used in SF-CLIP"',
    measured='runnable', **setting(), paper={},
    arms={FULL: {}, DROPPED: dict(dropped=.5), f'{DROPPED}, more steps': lambda c: dict(
        dropped=.5, steps=round(1.4 * c.steps))},
    pairs=above(f'{DROPPED}, more steps', FULL, 'better training performance', 'en', 'near', 'seg'))

claims = (table78, against_clip, lasfclip, table710, rest78, table79, table75, table76, dropping)
