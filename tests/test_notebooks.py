"""Every notebook runs from top to bottom, two at a time, at the training budget of SSL_BUDGET."""
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)


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
def runs():
    "Notebook → its run, under way; the longest first"
    os.environ.update(MPLBACKEND='agg', PLOTLY_RENDERER='plotly_mimetype', IN_TEST='1', OMP_NUM_THREADS='1')
    workers = max(1, min(2, os.cpu_count() or 1))
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=8) as pool:
        longest = sorted(NOTEBOOKS, key=lambda p: ('methods' not in p.parts, -p.stat().st_size))
        yield {p: pool.submit(run, p) for p in longest}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_notebook_runs(path, runs):
    "No cell fails"
    fine, words = runs[path].result(timeout=3600)
    assert fine, words
