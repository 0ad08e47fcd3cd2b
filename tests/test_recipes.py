"""Recipes of weights for real pictures: small enough to bundle, on CPU and GPU; slots on photographs are scored."""
import pytest
import torch

from benchmarks.protocols import photographs
from benchmarks.weights.recipes import SEEN, SOURCES, config_of, on_gpu, recipe_of
from ssl_workbench import catalog

REAL = ['slotmim-photos', 'loca-real', 'dilemma-real', 'dino-real', 'ibot-real', 'mcjepa-real', 'poodle-real']


@pytest.mark.parametrize('name', REAL)
def test_recipes_for_real_pictures(name):
    "Every setting exists, both variants take at most 4 MB in half precision, and every source is named on the card"
    recipe, home = recipe_of(name)
    for one in (recipe, on_gpu(recipe)):
        method = catalog.build(one.method, config_of(one))
        assert 2 * sum(v.numel() for v in catalog.inference_state(method).values()) <= 3.95e6
        assert {part.split(':')[0] for part in one.data.split('+')} <= SOURCES.keys() & SEEN.keys()
    assert callable(home.scores) and callable(home.recheck)


def test_a_recipe_without_a_variant_says_so():
    with pytest.raises(ValueError, match='no variant for a GPU'): on_gpu(recipe_of('slotmim')[0])


def test_the_central_slot():
    "The slot with most of the centre, its largest piece, in pixels; and how much the largest slot takes"
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 2:6, 3:6] = 1
    labels[0, 0, 0] = 1                                                   # a crumb elsewhere
    assert photographs.central_boxes(labels, 64).tolist() == [[24., 16., 48., 48.]]
    assert photographs.largest_shares(labels).tolist() == [(64 - 13) / 64]
    truth = torch.tensor([[[24., 16, 48, 48]]])
    assert photographs.hits(photographs.central_boxes(labels, 64), truth).tolist() == [1]
    assert photographs.hits(photographs.central_boxes(labels, 64), truth + 24).tolist() == [0]
