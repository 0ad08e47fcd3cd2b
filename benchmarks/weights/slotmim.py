"""SlotMIM's bundled weights: their recipes, and the scores on their cards."""
import torch

from benchmarks.weights.machine import Recipe
from benchmarks.weights.scores import SEEDS, SIDE, camvid, cifar, iconic, row, scenes
from ssl_workbench import catalog, core, probes

MILD = dict(colour=.2, grey=0., momentum=(.98, 1.), steps=4000)    # colour tells things apart, so it is changed less
recipes = {
    'slotmim': Recipe('slotmim', 'world:scene:3', changes=dict(
        MILD, colour=.1, level=3, canvas=192, scale=(.06, .35), prototypes=64, pictures=8192)),
    'slotmim-real': Recipe('slotmim', 'camvid:0001TP,0016E5+cifar10', changes=dict(
        MILD, dim=192, hidden=384, scale=(.1, .6), prototypes=32, sinkhorn=True, steps=2500))}

# ---- object discovery on unseen scenes

def judged(labels, instances):
    "ARI and mean best IoU of patch labels"
    full = probes.upsample_labels(labels, instances.shape[-2:]) if labels.shape[-2:] != instances.shape[-2:] else labels
    return probes.ari(full, instances), probes.best_iou(full, instances)


def slots_of(method, images):
    "Patch labels, in parts"
    place = next(method.parameters()).device
    return torch.cat([method.slots(x.to(place)).cpu() for x in images.split(50)])


def discovery(method):
    "The two discovery scores over three sets of scenes"
    found = {}
    for seed in SEEDS:
        images, instances, _ = scenes(seed)
        grid = (SIDE // method.patch,) * 2
        labels = {'ours': slots_of(method, images), 'random init': slots_of(probes.random_init(method, images, seed), images)}
        for k in (16, method.config.prototypes):
            clusters = probes.baselines(images, instances, grid, k, seed=seed, shared=True)
            labels |= {f'{n}, k={k}' if 'k-means' in n else n: v for n, v in clusters.items()}
        for name, made in labels.items(): found.setdefault(name, []).append(judged(made, instances))
    protocol = f'hard slots on {len(images)} unseen level-3 scenes of {SIDE} px, patches of {method.patch}; mean over three sets of scenes; k-means over all scenes of a set'
    titles = ('slots: full ARI, level-3 scenes', 'slots: mean best IoU, level-3 scenes')
    return [row(t, protocol, [v[i] for v in found['ours']], {k: [v[i] for v in x] for k, x in found.items() if k != 'ours'}) for i, t in enumerate(titles)]


def scores(method, name):
    "The card's scores; those on real data only where the data are"
    real = core.data_root() is not None
    if name == 'slotmim': return [*discovery(method), *(r for level in (1, 2, 3) for r in iconic(method, level)), *([camvid(method)] if real else [])]
    drawn = {'slotmim': catalog.load('slotmim')}
    return [camvid(method, drawn), *cifar(method, drawn), *discovery(method)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): full ARI on the first set of scenes"
    said = next(s for s in card['scores'] if s['name'].startswith('slots: full ARI'))
    images, instances, _ = scenes(SEEDS[0])
    return said['name'], said['seeds'][0], judged(slots_of(method, images), instances)[0]
