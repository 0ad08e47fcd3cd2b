"""LOCA's bundled weights: their recipes, and the scores on their cards."""
import torch
import torch.nn.functional as F

from benchmarks.weights.machine import Recipe
from benchmarks.weights.scores import SEEDS, camvid, iconic, row, segmented
from ssl_workbench import core, probes
from ssl_workbench.methods.loca import Views
from ssl_workbench.world import batch

MILD = dict(colour=.1, grey=0., flip=0., momentum=(.99, 1.), prototypes=64, keep_mode='random')   # colour tells grounds apart, so it is changed less
recipes = {
    'loca': Recipe('loca', 'world:scene:3', changes=dict(MILD, size=128, small=48, queries=5, batch=12, steps=4200, level=3, canvas=192, pictures=8192), against='mocov3-scenes')}
PICTURES = 200                      # judged in a set


# ---- position on unseen scenes

def posed(config, seed):
    "Views of unseen scenes of level 3 with a mask of the visible cells, and the cells of every small query (B,V,Nq)"
    frames = torch.cat([batch(range(s, s + 50), kind='scene', level=3, size=(config.canvas,) * 2, frames=1, truth=False)['frames']
                        for s in range(720_000 + 1000 * seed, 720_000 + 1000 * seed + PICTURES, 50)])
    views = Views(config)(dict(frames=frames, seed=core.fold_in(torch.arange(PICTURES), f'posed{seed}')))
    seen = torch.zeros(PICTURES, config.cells, dtype=torch.bool).scatter(1, views['visible'], True)
    goal = views['target'][:, views['keep'].shape[1]:].view(PICTURES, config.queries - 1, -1)
    return views | dict(seen=seen), goal


def said(method, views):
    "The cells that a method says (B,V,Nq)"
    place, x = next(method.parameters()).device, views['x'][:, 0]
    return torch.stack([torch.cat([method.locate(q.to(place), r.to(place), s.to(place)).cpu() for q, r, s in zip(query.split(50), x.split(50), views['seen'].split(50))])
                        for query in views['x_small'].unbind(1)], 1)


def alike(config, views):
    "The cell whose raw pixels are most like the patch's, of all cells"
    def patches(x):
        side = x.shape[-1] // config.patch
        return F.normalize(probes.patch_pixels(x - x.mean((2, 3), keepdim=True), (side, side)).flatten(2), dim=1)
    x = patches(views['x'][:, 0])
    return torch.stack([(patches(q).mT @ x).argmax(-1) for q in views['x_small'].unbind(1)], 1)


def right(cells, goal):
    "Share of the patches that lie in the reference and are put into the right cell"
    return float((cells == goal)[goal >= 0].float().mean())


def position(method):
    "Position accuracy with the part of the reference visible that it was trained with"
    found, c = {}, method.config
    for seed in SEEDS:
        views, goal = posed(c, seed)
        guesses = {'ours': said(method, views), 'random init': said(probes.random_init(method, seed=seed), views), 'raw pixels, all visible': alike(c, views),
                   'the most frequent cell': torch.full_like(goal, int(goal[goal >= 0].bincount().argmax()))}
        for name, cells in guesses.items(): found.setdefault(name, []).append(right(cells, goal))
        found.setdefault('a guess', []).append(1 / c.cells)
    protocol = (f'share of patches of small queries put into the right one of {c.cells} cells, {1 - c.masking:.0%} of the reference visible; '
                f'{PICTURES} unseen level-3 scenes, {c.queries - 1} queries each, as in training; mean over three sets')
    return row('position accuracy, level-3 scenes', protocol, found.pop('ours'), found)


def scores(method, name, **extra):
    "The card's scores; those on real data only where the data are"
    found = [position(method), *(r for level in (1, 2, 3) for r in iconic(method, level, extra)), segmented(method, extra)]
    return found if core.data_root() is None else [*found, camvid(method, extra)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): position accuracy on the first set of scenes"
    score = next(s for s in card['scores'] if s['name'].startswith('position accuracy'))
    views, goal = posed(method.config, SEEDS[0])
    return score['name'], score['seeds'][0], right(said(method, views), goal)
