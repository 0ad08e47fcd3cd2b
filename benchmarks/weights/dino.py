"""DINO's and iBOT's weights for real pictures: their recipes, and the scores on their cards."""
from benchmarks.protocols.classification import encoder_accuracy
from benchmarks.protocols.worlds import iconic_sets
from benchmarks.weights.recipes import Recipe
from benchmarks.weights.scores import SEEDS, camvid, iconic, real

PHOTOS = dict(canvas=64, dim=128, depth=4, heads=4, colour=.4, momentum=(.99, 1.), prototypes=512, steps=3500)
GPU = dict(canvas=64, depth=5, hidden=384, drop_path=0., colour=.5, prototypes=1024, steps=3000)
recipes = {'dino-real': Recipe('dino', 'tiny_imagenet', changes=PHOTOS, gpu=GPU),
           'ibot-real': Recipe('ibot', 'tiny_imagenet', changes=PHOTOS, gpu=GPU)}


def scores(method, name, **others):
    "The card's scores; those on real data only where the data are"
    found = real(method, others)
    if found: found.append(camvid(method, others))
    return [*found, *iconic(method, 2, others)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): kNN on the first set of iconic images"
    score = next(s for s in card['scores'] if s['name'] == 'kNN, iconic images of level 2')
    train, test = iconic_sets(SEEDS[0], 2, False)
    return score['name'], score['seeds'][0], encoder_accuracy(method, train, test, SEEDS[0])['knn']
