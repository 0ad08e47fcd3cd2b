"""Recipes of weights for real pictures: small enough to bundle, on CPU and GPU; slots on photographs are scored."""
import pytest
import torch

from benchmarks import tables
from benchmarks.protocols import photographs
from benchmarks.weights.recipes import SEEN, SOURCES, config_of, on_gpu, recipe_of
from benchmarks.weights.scores import row, row_of
from ssl_workbench import catalog

REAL = ['slotmim-real', 'loca-real', 'dilemma-real', 'dino-real', 'ibot-real', 'mcjepa-real', 'poodle-real']


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


def test_a_row_says_once_whether_less_is_better():
    "Its key and its protocol; the strongest baseline and the margin follow it"
    found = dict(ours=[1., 1., 1.], a=[2., 2., 2.], b=[4., 4., 4.])
    more, less = row('kNN', 'how', found), row('end-point error', 'how', found, lower=True)
    assert 'better' not in more and more['protocol'] == 'how'
    assert less['better'] == 'lower' and less['protocol'] == 'how; lower is better'
    assert row_of('x', 'how', lambda seed: dict(ours=1., a=2.), lower=True)['better'] == 'lower'
    assert tables.strongest(more) == ('b', 4.) and tables.strongest(less) == ('a', 2.)
    assert tables.margin(more) == pytest.approx(-3 / 1e-4) and tables.margin(less) == pytest.approx(1 / 1e-4)


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


def test_a_card_names_the_content_images_of_mcjepa():
    "They come from another data set than its pairs, and weights have seen both"
    config = config_of(recipe_of('mcjepa-real')[0])
    assert config.content_kind in [one['name'] for one in catalog.card('mcjepa-real')['data']]
