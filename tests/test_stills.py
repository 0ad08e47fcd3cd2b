"""Moments of touch on the site: what lies in `docs/states` is what the lessons' widgets show."""
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
pytest.importorskip('anywidget')
from PIL import Image  # noqa: E402

from docs import stills  # noqa: E402
from docs.notebooks import NBS, read  # noqa: E402

METHODS = [str(n) for n in range(20, 29)]
LESSONS = sorted({m.lesson for m in stills.MOMENTS})
number = lambda moment: Path(moment.lesson).name[:2]


def stored(moment): return json.loads(moment.file.read_text(encoding='utf-8'))


def test_each_method_has_three():
    "At least three moments in each method's lesson, and a few megabytes in all"
    for method in METHODS: assert sum(number(m) == method for m in stills.MOMENTS) >= 3, method
    assert sum(f.stat().st_size for f in stills.STATES.rglob('*') if f.is_file()) < 6e6


def test_files_belong_to_moments():
    "No file is missing and none is left over; every state has its place"
    wanted = set()
    for m in stills.MOMENTS:
        state = stored(m)
        assert [s['at'] for s in state['states']] == json.loads(json.dumps(m.settings)), m.cell
        shows = [state, *(s['show'] for s in state['states'])]
        wanted |= {m.file} | {m.folder/s['picture'] for s in shows if 'picture' in s}
        wanted |= {m.folder/l['src'] for s in shows for l in s.get('layers', ())}
        assert set(state['settings']) | set(state['places']) == set(m.over)
        assert m.cell in {c['id'] for c in read(NBS/f'{m.lesson}.ipynb')}
    assert {f for f in stills.STATES.rglob('*') if f.is_file()} == wanted


def pixels(picture): return np.asarray(picture.convert('RGB'), dtype=float)


def agrees(moment, found, fresh):
    "The same words, numbers and, but for their compression, pictures"
    numbers = lambda x: [float(v) for v in re.findall(r'-?\d+\.?\d*', json.dumps(x))]
    words = lambda x: re.sub(r'-?\d+\.?\d*', '#', json.dumps(x))
    for name in ('bars', 'caption', 'answer', 'question', 'choices'):
        if name not in found: continue
        assert words(found[name]) == words(fresh[name]), (moment.cell, name)
        off = .02 if name == 'bars' else 1.01             # sentences round to whole numbers
        assert np.allclose(numbers(found[name]), numbers(fresh[name]), rtol=.02, atol=off), (moment.cell, name)
    pairs = [(found[k], fresh[k]) for k in ('picture',) if k in found]
    pairs += [(a['src'], b['src']) for a, b in zip(found.get('layers', ()), fresh['layers'], strict='layers' in found)]
    for file, uri in pairs:
        kept, made = pixels(Image.open(moment.folder/file)), pixels(stills.pixels_of(uri))
        assert kept.shape == made.shape and np.abs(kept - made).mean() < 5, (moment.cell, file)


@pytest.mark.parametrize('lesson', LESSONS, ids=lambda l: Path(l).name)
def test_states_are_what_widgets_show(lesson):
    "Two states of each moment, computed anew by the cells of its lesson: run `python -m docs.stills` where one is old"
    for moment in (m for m in stills.MOMENTS if m.lesson == lesson):
        made, room = stills.widget(moment)
        state = stored(moment)
        for k in (0, len(moment.settings) - 1):
            found = {n: v for n, v in state.items() if n in stills.SHOWN or n in ('question', 'choices')}
            agrees(moment, found | state['states'][k]['show'], stills.state_at(made, room, moment.settings[k]))


def test_a_stale_state_is_noticed():
    "Another sentence, another number or another picture does not agree"
    moment = next(m for m in stills.MOMENTS if m.cell == '51080006')
    made, room = stills.widget(moment)
    shown = [stills.state_at(made, room, moment.settings[k]) for k in (0, len(moment.settings) - 1)]
    found = stored(moment)['states']
    agrees(moment, found[0]['show'], shown[0])
    with pytest.raises(AssertionError): agrees(moment, found[0]['show'], shown[1])
    with pytest.raises(AssertionError): agrees(moment, found[0]['show'], shown[0] | dict(answer='Something else.'))
