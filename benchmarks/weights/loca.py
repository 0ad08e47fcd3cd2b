"""LOCA's bundled weights: their recipes, and the scores on their cards."""
import torch
import torch.nn.functional as F

from benchmarks.protocols import camvid as streets
from benchmarks.protocols.positions import cell_accuracy, most_frequent, query_reference_views
from benchmarks.protocols.worlds import unseen
from benchmarks.weights.recipes import Recipe
from benchmarks.weights.scores import SEEDS, camvid, iconic, real, row_of, segmented
from ssl_workbench import probes

MILD = dict(                        # colour tells grounds apart, so it is changed less
    colour=.1, grey=0., flip=0., momentum=(.99, 1.), prototypes=64, keep_mode='random')
recipes = {
    'loca': Recipe('loca', 'world:scene:3', against='mocov3-scenes', changes=dict(
        MILD, size=128, small=48, queries=5, batch=12, steps=4200, level=3, canvas=192, pictures=8192)),
    'loca-real': Recipe('loca', 'tiny_imagenet', against='dino-real', changes=dict(
        MILD, canvas=64, dim=128, depth=4, heads=4, queries=5, scale=(.4, 1.), steps=4500),
        gpu=dict(canvas=64, flip=0., colour=.3, scale=(.4, 1.), steps=4000))}
IMAGES = 200                        # in a test set


# ---- position on unseen scenes

def query_reference_set(config, seed):
    "Views of unseen scenes of level 3 with a mask of the visible cells, and the cells of every small query (B,V,Nq)"
    frames, = unseen('scene', 3, 720_000 + 1000 * seed, IMAGES, config.canvas, truth=False)
    views, = query_reference_views(config, frames, f'posed{seed}', IMAGES)
    seen = torch.zeros(IMAGES, config.cells, dtype=torch.bool).scatter(1, views['visible'], True)
    cells = views['target'][:, views['keep'].shape[1]:].view(IMAGES, config.queries - 1, -1)
    return views | dict(seen=seen), cells


def predicted_cells(method, views):
    "(B,V,Nq): the cells that a method predicts"
    device, reference = next(method.parameters()).device, views['x'][:, 0]
    def located(query):
        parts = zip(query.split(50), reference.split(50), views['seen'].split(50))
        return torch.cat([method.locate(*(v.to(device) for v in part)).cpu() for part in parts])
    return torch.stack([located(query) for query in views['x_small'].unbind(1)], 1)


def most_similar_cells(config, views):
    "(B,V,Nq): the cell whose raw pixels are most like the patch's, of all cells"
    def patches(x):
        side = x.shape[-1] // config.patch
        pixels = probes.patch_pixels(x - x.mean((2, 3), keepdim=True), (side, side))
        return F.normalize(pixels.flatten(2), dim=1)
    x = patches(views['x'][:, 0])
    return torch.stack([(patches(q).mT @ x).argmax(-1) for q in views['x_small'].unbind(1)], 1)


def position(method):
    "Position accuracy with the part of the reference visible that it was trained with"
    c = method.config
    def measure(seed):
        views, cells = query_reference_set(c, seed)
        predictions = {'ours': predicted_cells(method, views),
                       'random init': predicted_cells(probes.random_init(method, seed=seed), views),
                       'raw pixels, all visible': most_similar_cells(c, views),
                       'the most frequent cell': most_frequent(cells).expand_as(cells)}
        return {name: cell_accuracy(x, cells) for name, x in predictions.items()} | {'a guess': 1 / c.cells}
    protocol = (f'share of patches of small queries put into the right one of {c.cells} cells, '
                f'{1 - c.masking:.0%} of the reference visible; {IMAGES} unseen level-3 scenes, '
                f'{c.queries - 1} queries each, as in training; mean over three sets')
    return row_of('position accuracy, level-3 scenes', protocol, measure)


def scores(method, name, **others):
    "The card's scores; those on real data only where the data are"
    if name == 'loca-real': found = [*real(method, others), position(method)]
    else: found = [position(method), *(r for level in (1, 2, 3) for r in iconic(method, level, others))]
    found.append(segmented(method, others))
    return [*found, camvid(method, others)] if streets.available() else found


def recheck(method, card):
    "(name, figure on the card, the same figure made again): position accuracy on the first set of scenes"
    score = next(s for s in card['scores'] if s['name'].startswith('position accuracy'))
    views, cells = query_reference_set(method.config, SEEDS[0])
    return score['name'], score['seeds'][0], cell_accuracy(predicted_cells(method, views), cells)
