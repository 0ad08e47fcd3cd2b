"""Pictures and sentences: retrieval in five languages, classes and pixels by words, captions with one wrong fact."""
from functools import lru_cache

import torch

from ssl_workbench import probes
from ssl_workbench.world import World, classes
from ssl_workbench.world.captions import STYLES, write_caption

TEST_SEED = 9301                    # a world seed that no training draws
NEAR, FAR = ('es', 'fr', 'de'), 'qaa'


@lru_cache(maxsize=16)
def test_scenes(level, canvas, n, seed=TEST_SEED):
    "n unseen scenes with facts and pixel classes"
    return World('scene', level, (canvas, canvas), 1, n, seed=seed, captions=True)


@lru_cache(maxsize=16)
def test_objects(level, canvas, n, seed=TEST_SEED):
    "n unseen iconic pictures"
    return World('iconic', level, (canvas, canvas), 1, n, seed=seed, truth=False)


def sized(x, size):
    "(N,3,H,W) uint8 → float 0-1 at the method's size"
    x = x.float() / 255
    if x.shape[-1] == size: return x
    return torch.nn.functional.interpolate(x, (size, size), mode='bilinear', antialias=True)


@lru_cache(maxsize=4)
def _drawn(level, canvas, size, n, seed):
    "(pictures, facts, classes of the pixels)"
    batch = test_scenes(level, canvas, n, seed).batch(range(n), 'cpu')
    return sized(batch['frames'][:, 0], size), batch['facts'], batch['classes'][:, 0]


@torch.no_grad()
def embedded(method, images, device):
    "(N,P) unit rows of pictures"
    return torch.cat([method.embed_images(x.to(device)).cpu() for x in images.split(100)])


def retrieval(method, level, canvas, n, device='cpu', seed=TEST_SEED, languages=tuple(STYLES)):
    "language → what `probes.retrieval` says, on n unseen scenes"
    images, facts, _ = _drawn(level, canvas, method.config.size, n, seed)
    rows = embedded(method, images, device)
    return {lang: probes.retrieval(rows, [write_caption(f, lang) for f in facts], method.embed_texts)
            for lang in languages}


def zero_shot(method, level, canvas, n, device='cpu', seed=TEST_SEED):
    "Balanced accuracy of the class of iconic pictures, by captions of one object"
    batch = test_objects(level, canvas, n, seed).batch(range(n), 'cpu')
    prompts = probes.world_prompts(classes('iconic', level))
    words = probes.word_classifier(method.embed_texts, prompts)
    rows = embedded(method, sized(batch['frames'][:, 0], method.config.size), device)
    return probes.zero_shot(rows, batch['label'], words, list(prompts))['balanced']


def word_map_miou(method, level, canvas, n, device='cpu', read='values', seed=TEST_SEED):
    "mIoU of pixels by words"
    images, _, truth = _drawn(level, canvas, method.config.size, n, seed)
    prompts = probes.scene_prompts(classes('scene', level))
    words = probes.word_classifier(method.embed_texts, prompts)
    maps = lambda x: method.embed_patches(x.to(device), read).cpu()
    return probes.segment_by_words(maps, words, list(zip(images, truth)), prompts)['miou']


def composition(method, level, canvas, n, device='cpu', seed=TEST_SEED):
    "replace, swap, add → accuracy against captions with one wrong fact"
    images, facts, _ = _drawn(level, canvas, method.config.size, n, seed)
    found = probes.compose(embedded(method, images, device), probes.compose_pairs(facts), method.embed_texts)
    return {k: v for k, v in probes.group_means(found).items() if v == v}
