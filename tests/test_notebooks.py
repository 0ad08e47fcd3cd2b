"""Every notebook runs from top to bottom at the training budget of SSL_BUDGET."""
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts),
                   key=lambda p: ('methods' not in p.parts, -p.stat().st_size))


def run(path):
    "True when the notebook ran, else what was printed; in a process of its own"
    import contextlib
    import io

    from nbdev.test import test_nb
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        fine, _ = test_nb(path, basepath=ROOT)
    return fine, words.getvalue()[-6000:]


@pytest.fixture(scope='module')
def runner():
    "A process that runs notebooks one after the other"
    quiet = dict(MPLBACKEND='agg', PLOTLY_RENDERER='plotly_mimetype', IN_TEST='1', OMP_NUM_THREADS='1')
    os.environ.update(quiet)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn'), max_tasks_per_child=6) as pool:
        yield pool


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_notebook_runs(path, runner):
    "No cell fails"
    fine, words = runner.submit(run, path).result()
    assert fine, words
