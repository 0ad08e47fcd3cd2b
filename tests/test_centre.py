"""Going on from weights that hold no centre: it begins where the first batch's scores are, not at zero."""
from dataclasses import replace

import pytest
import torch

from ssl_workbench import catalog, world
from ssl_workbench.losses import centred_softmax

CENTRES = {'dino': ('centre',), 'ibot': ('centre', 'patch_centre'), 'slotmim': ('centre',)}


def views_of(name, config, seed=0):
    frames = world.batch(range(seed, seed + 6), kind='iconic', size=(64, 64), frames=1, truth=False)['frames']
    return catalog.module(name).Views(config)(dict(frames=frames, seed=torch.arange(6) + seed, aspect=torch.ones(6)))


@pytest.mark.parametrize('name', CENTRES)
def test_a_centre_that_weights_came_without_is_the_first_batchs(name):
    config = replace(catalog.module(name).presets['cpu'], size=64)
    torch.manual_seed(0)
    source = catalog.build(name, config)
    state = catalog.inference_state(source)
    assert not any(k in state for k in CENTRES[name])
    method = catalog.start_from(catalog.build(name, config), state)
    views = views_of(name, config)
    method.eval()(views)
    for k in CENTRES[name]: assert getattr(method, k).abs().max() == 0, 'looking changes nothing'
    method.train().before_step(.5)
    out = method(views)
    if name == 'slotmim':
        scores = [method.teacher(views['x'][:, v])[2] for v in (0, 1)]
        assert torch.allclose(method.centre, torch.cat(scores).flatten(0, 1).mean(0), atol=1e-6)
        wanted = centred_softmax(scores[0][views['mask'][:, 0]].detach(), method.centre, method.temperature)
        torch.testing.assert_close(out['within_target_1'], wanted)
    else:
        assert torch.allclose(method.centre, out['teacher_scores'].mean((0, 1)), atol=1e-6)
        torch.testing.assert_close(out['targets'],
                                   centred_softmax(out['teacher_scores'], method.centre, method.temperature))
    before = {k: getattr(method, k).clone() for k in CENTRES[name]}
    method.before_step(.5)
    method(views_of(name, config, 50))
    for k, v in before.items(): assert torch.equal(getattr(method, k), v), 'the second batch moves it by momentum alone'
    fresh = catalog.build(name, config).train()
    fresh.before_step(0.)
    fresh(views)
    for k in CENTRES[name]: assert getattr(fresh, k).abs().max() == 0, 'a new run begins at zero, as the papers do'
