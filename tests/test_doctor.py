"""The doctor over small runs, as they should be and broken; all cases are in benchmarks/doctor.py."""
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import doctor as bench  # noqa: E402
from ssl_workbench.cli import main  # noqa: E402
from ssl_workbench.doctor import SIGNS  # noqa: E402

FEW = [c for c in bench.cases() if (c.method, c.name) in {
    ('simclr', 'as it is'), ('simclr', 'hot'), ('simclr', 'rate x 300'), ('simclr', 'two pictures a batch'),
    ('simclr', 'pictures that are no numbers'), ('simclr', 'after five steps')}]


@pytest.mark.parametrize('case', FEW, ids=lambda c: c.name)
def test_first_verdict(case, tmp_path):
    "What was broken is named first; nothing is said against what was not"
    row = bench.judged(case, 3, bench.train(case, 3, tmp_path/'run'))
    assert row['right'], row
    assert row['evidence'].startswith(('step ', '2 pictures'))


def test_a_run_on_the_command_line(tmp_path, capsys):
    "The verdict is printed; a folder without a run is one sentence and exit code 2"
    bench.train(FEW[0], 3, tmp_path/'run')
    assert main(['doctor', str(tmp_path/'run')]) == 0
    assert capsys.readouterr().out.startswith(FEW[0].right[0] if FEW[0].right else 'healthy')
    assert main(['doctor', str(tmp_path)]) == 2 and 'no log' in capsys.readouterr().err


def test_every_lesson_that_is_named_is_there():
    "Each verdict links to a notebook"
    assert not [lesson for _, _, lesson in SIGNS.values() if lesson and not (ROOT/lesson).exists()]
