"""DILEMMA's bundled weights: their recipes, and the scores on their cards."""
import torch

from benchmarks.weights.machine import Recipe
from benchmarks.weights.scores import SEEDS, camvid, iconic, row, scenes, segmented
from ssl_workbench import core, probes
from ssl_workbench.data import Cifar10, CamVid
from ssl_workbench.methods.dilemma import auroc, misplaced, square
from ssl_workbench.views import keep_tokens

MILD = dict(batch=16, lr=3e-3, scale=(.5, 1.), weight=10., dense_task=True,   # few steps: places are told apart sooner, and ask for more of the loss
            given=dict(pos_base=10., colour=.1, grey=0., blur=(0., 0.), solarise=(0., 0.), momentum=(.99, 1.)))
recipes = {
    'dilemma': Recipe('dilemma', 'world:scene:3', changes=dict(MILD, kind='scene', level=3, canvas=192, pictures=8192, steps=5000), against='mocov3-scenes')}


# ---- wrong places in unseen pictures

def lied_to(config, n, ratio, seed):
    "keep, told (n,m) int64 and wrong (n,m) bool: with nothing dropped, patches swap places"
    seeds = core.fold_in(torch.arange(n), f'judged{seed}')
    keep, dropped = keep_tokens(seeds, 'judged', config.cells, config.kept(ratio))
    return keep, *misplaced(keep, dropped, config.wrong(keep.shape[1]), seeds)


@torch.no_grad()
def suspicion(method, images, keep, told):
    "Probability of a wrong place for every patch kept"
    place = next(method.parameters()).device
    return torch.cat([method.mismatch(x.to(place), t.to(place), k.to(place)).cpu() for x, t, k in zip(images.split(100), told.split(100), keep.split(100))])


def unlike_neighbours(config, images, told):
    "How far a patch's mean colour is from the mean of the (up to eight) patches around the place it is told: no network"
    colour = probes.patch_colour(images, config.grid).flatten(2)                          # (B,3,N)
    shown = torch.zeros_like(colour).scatter(2, told[:, None].expand_as(colour), colour)
    box = torch.nn.functional.avg_pool2d(shown.unflatten(2, config.grid), 3, 1, 1, count_include_pad=False).flatten(2)
    return (shown - box).norm(dim=1).gather(1, told)


def found(method, images, seed, ratio=0.):
    "Area under ROC of the method's suspicion"
    keep, told, wrong = lied_to(method.config, len(images), ratio, seed)
    return auroc(suspicion(method, images, keep, told).flatten(), wrong.flatten())


def detection(method, what, pictures):
    "Area under ROC, everything shown and 55 % left out; pictures(seed): (N,3,S,S)"
    c, full, sparse = method.config, {}, {}
    for seed in SEEDS:
        images = torch.stack([square(x, c.size) for x in pictures(seed)])
        _, told, wrong = lied_to(c, len(images), 0., seed)
        models = {'ours': method, 'random init': probes.random_init(method, seed=seed)}
        for name, m in models.items():
            full.setdefault(name, []).append(found(m, images, seed))
            sparse.setdefault(name, []).append(found(m, images, seed, .55))
        full.setdefault("unlike its neighbours' colour", []).append(auroc(unlike_neighbours(c, images, told).flatten(), wrong.flatten()))
    protocol = f'area under ROC, {c.theta:.0%} of {c.cells} patches in a wrong place, {what} at {c.size} px; three sets of 200'
    return [row(f'misplaced patches, {what}', f'{protocol}; everything shown, the wrong ones swap places', full.pop('ours'), full),
            row(f'misplaced patches, {what}, 55 % left out', f'{protocol}; 55 % of the patches left out, the wrong ones are told places of those', sparse.pop('ours'), sparse)]


def drawn(seed): return scenes(seed)[0]


def real(data):
    "seed → 200 pictures of a dataset"
    def pictures(seed):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:200]
        return [data[int(i)]['frames'][0] for i in order]
    return pictures


def scores(method, name, **extra):
    "The card's scores; those on real data only where the data are"
    found = [*detection(method, 'level-3 scenes', drawn), *(r for level in (0, 1, 2) for r in iconic(method, level, extra, mixed=True)),
             *(r for level in (1, 2, 3) for r in iconic(method, level, extra)), segmented(method, extra)]
    if core.data_root() is None: return found
    return [*found, camvid(method, extra), *detection(method, 'CIFAR-10 test', real(Cifar10(split='test', size=64))),
            *detection(method, 'CamVid, drive 0006R0', real(CamVid(drives=['0006R0'], split='train', size=(144, 192))))]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): wrong places in the first set of scenes"
    score = next(s for s in card['scores'] if s['name'] == 'misplaced patches, level-3 scenes')
    images = torch.stack([square(x, method.config.size) for x in drawn(SEEDS[0])])
    return score['name'], score['seeds'][0], found(method, images, SEEDS[0])
