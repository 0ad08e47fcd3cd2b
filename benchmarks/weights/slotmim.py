"""SlotMIM's bundled weights: their recipes, and the scores on their cards."""
from benchmarks.protocols import camvid as streets
from benchmarks.protocols.discovery import ari_and_mbo
from benchmarks.protocols.worlds import CARD_SIDE, in_chunks, scenes
from benchmarks.weights.recipes import Recipe
from benchmarks.weights.scores import SEEDS, bundled, camvid, iconic, over_seeds, real, row
from ssl_workbench import catalog, probes

MILD = dict(colour=.2, grey=0., momentum=(.98, 1.), steps=4000)    # colour tells things apart, so it is changed less
PHOTOS = dict(canvas=64, dim=128, depth=4, heads=4)                # 64-pixel photographs; 90 minutes of one core
recipes = {
    'slotmim': Recipe('slotmim', 'world:scene:3', changes=dict(
        MILD, colour=.1, level=3, canvas=192, scale=(.06, .35), prototypes=64, pictures=8192)),
    'slotmim-real': Recipe('slotmim', 'tiny_imagenet', changes=dict(
        MILD, **PHOTOS, hidden=384, scale=(.2, 1.), prototypes=64, sinkhorn=True, steps=5000),
        gpu=dict(canvas=64, depth=5, hidden=384, scale=(.2, 1.), prototypes=256, sinkhorn=True, momentum=(.99, 1.),
                 steps=4000))}

# ---- object discovery on unseen scenes

def slots_of(method, images):
    "(N,h,w) slot of each patch"
    device = next(method.parameters()).device
    return in_chunks(lambda x: method.slots(x.to(device)).cpu(), images, 50)


def patch_labels(method, images, instances, seed):
    "name → (N,h,w) labels of patches"
    drawn = probes.random_init(method, images, seed)
    labels = {'ours': slots_of(method, images), 'random init': slots_of(drawn, images)}
    for k in (16, method.config.prototypes):
        clusters = probes.baselines(images, instances, (CARD_SIDE // method.patch,) * 2, k, seed=seed, shared=True)
        labels |= {f'{n}, k={k}' if 'k-means' in n else n: v for n, v in clusters.items()}
    return labels


def discovery(method):
    "The two discovery scores over three sets of scenes"
    titles = ('slots: full ARI, level-3 scenes', 'slots: mean best IoU, level-3 scenes')
    def measure(seed):
        images, instances, _ = scenes(seed)
        both = {n: ari_and_mbo(x, instances) for n, x in patch_labels(method, images, instances, seed).items()}
        return {title: {n: v[i] for n, v in both.items()} for i, title in enumerate(titles)}
    protocol = (f'hard slots on {len(scenes(SEEDS[0])[0])} unseen level-3 scenes of {CARD_SIDE} px, '
                f'patches of {method.patch}; mean over three sets of scenes; k-means over all scenes of a set')
    return [row(title, protocol, found) for title, found in over_seeds(measure).items()]


def scores(method, name):
    "The card's scores; those on real data only where the data are"
    if name == 'slotmim':
        drawn = [*discovery(method), *(r for level in (1, 2, 3) for r in iconic(method, level))]
        return [*drawn, camvid(method)] if streets.available() else drawn
    found = [*real(method, {'slotmim': catalog.load('slotmim')}, slots=True), *discovery(method)]
    return [*found, camvid(method, bundled('dino-real'))] if streets.available() else found


def recheck(method, card):
    "(name, figure on the card, the same figure made again): full ARI on the first set of scenes"
    score = next(s for s in card['scores'] if s['name'].startswith('slots: full ARI'))
    images, instances, _ = scenes(SEEDS[0])
    return score['name'], score['seeds'][0], ari_and_mbo(slots_of(method, images), instances)[0]
