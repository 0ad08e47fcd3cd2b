"""SF-CLIP's bundled weights, those of its language teacher, and those of CLIP, with which it is compared.

`xlm` first: SF-CLIP reads words through its table. CLIP and SF-CLIP train on the same scenes, for as many steps and
pairs, with captions in English alone. When SF-CLIP is scored, both are trained with two more seeds, so that every score
has an interval over three training seeds; the language teacher is the bundled one.
"""
from dataclasses import replace

from benchmarks.protocols import captions
from benchmarks.weights.recipes import RUNS, Recipe, train
from benchmarks.weights.scores import row
from ssl_workbench import core, probes
from ssl_workbench.classics.xlm import word_translation
from ssl_workbench.probes.retrieval import WAYS
from ssl_workbench.world import LANGUAGE_NAMES

SEEDS = (0, 1, 2)                  # of training
LEVEL, CANVAS = 1, 64
TEST, OBJECTS, PIXELS = 500, 500, 200       # scenes whose captions are searched, pictures classified, scenes segmented
SHARED = dict(kind='scene', level=LEVEL, canvas=CANVAS, scale=(.8, 1.), steps=500, batch=64, pictures=8192)
recipes = {'xlm': Recipe('xlm', f'world:scene:{LEVEL}'),
           'clip': Recipe('clip', f'world:scene:{LEVEL}', changes=SHARED),
           'sfclip': Recipe('sfclip', f'world:scene:{LEVEL}', changes=SHARED)}


def runs(name, method):
    "The run that is scored, and two more of other seeds, trained where they are not there yet"
    more = [train(replace(recipes[name], seed=s), RUNS(f'{name}-seed{s}'), None).method.eval() for s in SEEDS[1:]]
    return [method, *more]


# ---- the language teacher

def teacher_scores(method):
    "Is the nearest word of another language a translation?"
    found = [word_translation(m.embedding) for m in runs('xlm', method)]
    drawn = [word_translation(probes.random_init(method, seed=s).embedding) for s in SEEDS]
    return [row(f'{lang}: nearest word is a translation', 'precision at 1 of the English words of the grammar with one '
                'token in both languages, cosine of word embeddings; three training seeds',
                {'ours': [f[lang][0] for f in found], 'random init': [d[lang][0] for d in drawn],
                 'chance': [found[0][lang][1]]}) for lang in found[0]]


# ---- CLIP and SF-CLIP

def found_by(method):
    "metric → figure"
    device = next(method.parameters()).device
    by = captions.retrieval(method, LEVEL, CANVAS, TEST, device)
    return {'image→text R@1, English': by['en']['i2t'][1], 'text→image R@1, English': by['en']['t2i'][1],
            **{f'{WAYS[way]} R@5, {LANGUAGE_NAMES[lang]}': by[lang][way][5] for way in WAYS for lang in by},
            'zero-shot class': captions.zero_shot(method, LEVEL, CANVAS, OBJECTS, device),
            **{f'pixels by words, {read}': captions.word_map_miou(method, LEVEL, CANVAS, PIXELS, device, read)
               for read in ('values', 'keys')},
            **{f'one wrong fact, {k}': v for k, v in captions.composition(method, LEVEL, CANVAS, TEST, device).items()}}


def chances(method):
    "metric → chance, of retrieval"
    by = captions.retrieval(method, LEVEL, CANVAS, TEST, next(method.parameters()).device)
    return {'image→text R@1, English': by['en']['i2t_chance'][1], 'text→image R@1, English': by['en']['t2i_chance'][1],
            **{f'{WAYS[way]} R@5, {LANGUAGE_NAMES[lang]}': by[lang][f'{way}_chance'][5] for way in WAYS for lang in by}}


HOW = (f'world:scene:{LEVEL}, unseen: {TEST} scenes and their captions, {OBJECTS} iconic pictures by class (balanced), '
       f'pixels of {PIXELS} scenes (mIoU), captions with one wrong fact (accuracy, chance .5); three training seeds; '
       'trained on pairs in English only')


def scores(method, name, **others):
    "The card's scores"
    if name == 'xlm': return teacher_scores(method)
    compared = {'ours': runs(name, method)}
    if name == 'sfclip':
        first = train(recipes['clip'], RUNS('clip'), None).method.eval()
        compared['CLIP, as many steps'] = runs('clip', first)
    compared['random init'] = [probes.random_init(method, seed=s) for s in SEEDS]
    figures = {who: [found_by(m.to(core.device())) for m in each] for who, each in compared.items()}
    chance = chances(method)
    return [row(metric, HOW, {who: [f[metric] for f in each] for who, each in figures.items()}
                | ({'chance': [chance[metric]]} if metric in chance else {})) for metric in figures['ours'][0]]


def recheck(method, card):
    "(name, figure on the card, the same figure made again)"
    if 'languages' in vars(method.config):
        score = card['scores'][0]
        return score['name'], score['seeds'][0], word_translation(method.embedding)[score['name'][:2]][0]
    score = next(s for s in card['scores'] if s['name'] == 'image→text R@5, English')
    by = captions.retrieval(method, LEVEL, CANVAS, TEST, languages=('en',))
    return score['name'], score['seeds'][0], by['en']['i2t'][5]
