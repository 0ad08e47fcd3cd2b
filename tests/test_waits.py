"""A training step makes a GPU wait at most twice: once for what decides its shapes, once for what the learner reads."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_methods import READY

from ssl_workbench import core
from ssl_workbench.geometry import resample
from ssl_workbench.views import Photometric

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize('some', [READY[::2], READY[1::2]], ids=['even', 'odd'])
def test_a_step_waits_at_most_twice(some):
    "Views, forward, backward, optimiser, teacher and meter together, on a device that counts"
    env = os.environ | dict(PYTHONPATH=f'{HERE.parent}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
    done = subprocess.run([sys.executable, HERE/'waits.py', *some], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(some)
    assert {name: kinds for name, kinds in found.items() if sum(kinds.values()) > 2} == {}
    assert all(sum(kinds.values()) > 0 for kinds in found.values())        # the counter counts


def test_views_are_the_same_where_nothing_is_asked():
    "All rows computed and selected, as on a GPU, are the chosen rows computed, as on a CPU"
    from ssl_workbench import views
    x, chosen = torch.rand(6, 3, 8, 8), torch.tensor([True, False, True, True, False, False])
    change = lambda some, rows: some * torch.arange(6.)[rows].view(-1, 1, 1, 1)
    everywhere = torch.where(chosen.view(-1, 1, 1, 1), change(x, slice(None)), x)
    assert torch.equal(views._change_rows(x.clone(), chosen, change), everywhere)


def test_rows_without_asking_each_mask():
    "`true_rows` finds the places of every mask, in order"
    masks = torch.rand(3, 4) > .5, torch.zeros(5, dtype=torch.bool), torch.rand(2, 2, 2) > .2
    assert all(torch.equal(a, m.flatten().nonzero()[:, 0]) for a, m in zip(core.true_rows(*masks), masks))


def test_crops_need_not_be_asked():
    "A matrix that only crops and mirrors gives the same pixels, asked or not; a turned one is seen"
    x = torch.rand(3, 3, 16, 16)
    matrix = torch.tensor([[.5, 0., .1], [0., .5, .2]]).repeat(3, 1, 1)
    assert torch.equal(resample(x, matrix, 8), resample(x, matrix, 8, turned=False))
    matrix[1, 0, 1] = .1
    mixed = resample(x, matrix, 8)
    assert torch.equal(mixed[::2], resample(x[::2], matrix[::2], 8, turned=False))
    assert torch.equal(mixed[1:2], resample(x[1:2], matrix[1:2], 8))


def test_photometric_is_a_function_of_the_seed():
    "Whatever else is in the batch"
    x, seeds, recipe = torch.rand(8, 3, 16, 16), torch.arange(8), Photometric(blur_p=.5, solarise_p=.5)
    whole = recipe(x, seeds, 'view')
    assert torch.allclose(whole[3:4], recipe(x[3:4], seeds[3:4], 'view'), atol=1e-6) and not torch.equal(whole, x)
