"""One thread in the checks, here and in what they start: sums of floats depend on how many there are.

One worker a file, notebooks apart. Loader processes are forked from a server that has done nothing else: a process that
drove a browser or ran threads is not safe to fork.
"""
import multiprocessing
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent/'nbs'))     # for `import tidy`
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
multiprocessing.set_forkserver_preload(['ssl_workbench.data'])
multiprocessing.set_start_method('forkserver', force=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "Files share what their fixtures build, so a file stays on one worker; every notebook stands alone"
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path = nodeid.split('::')[0]
            return nodeid if path.endswith('test_notebooks.py') else path

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def limits_stay():
    "What one file may cost is a setting of the process: a test that changes it does so for itself alone"
    from ssl_workbench.data import limits
    before = dict(vars(limits))
    yield
    vars(limits).update(before)
