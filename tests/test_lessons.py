"""Lessons answer when touched, and no answer stands beside its question."""
import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).resolve().parent.parent/'nbs'
TOUCHED = re.compile(r'\.live\(|\btouch\(|\bcontrols\(')
METHODS = {name: sorted((NBS/'methods').glob(f'{number}*.ipynb')) for number, name in (
    (20, 'DILEMMA'), (21, 'LOCA'), (22, 'SlotMIM'), (23, 'PooDLe'), (24, 'MC-JEPA'), (25, 'SCALE'), (26, 'ViDROP'),
    (27, 'RIVER'), (28, 'SF-CLIP'))}
CLASSICS = {p.stem: [p] for p in sorted((NBS/'classics').glob('*.ipynb'))}
WEEKS = sorted((NBS.parent/'course/weeks').glob('*.md'))
FOUNDATIONS = [NBS/f'{name}.ipynb' for w in WEEKS[:6]                    # what the first six weeks teach
               for name in re.search(r'^lessons: (.*)$', w.read_text(encoding='utf-8'), re.M)[1].split(', ')]
LESSONS = [p for some in (METHODS | CLASSICS).values() for p in some] + FOUNDATIONS


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']


def source(cell): return ''.join(cell['source'])


def tagged(cell, tag): return tag in cell.get('metadata', {}).get('tags', ())


@pytest.mark.parametrize('name, least', [*((n, 5) for n in METHODS), *((n, 3) for n in CLASSICS)])
def test_moments_of_touch(name, least):
    "At least five in a method's lesson, three in a classic's"
    found = [c for p in (METHODS | CLASSICS)[name] for c in cells(p)
             if c['cell_type'] == 'code' and TOUCHED.search(source(c))]
    assert len(found) >= least


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_answers_stand_apart(path):
    "Keys are the last cells, folded; an answer cell is empty, its checker is there, and the key is checked"
    found = cells(path)
    keys = [k for k, c in enumerate(found) if tagged(c, 'solution')]
    after = found[keys[0]:] if keys else []
    assert all(tagged(c, 'solution') or c['cell_type'] == 'markdown' or '#| hide' in source(c) for c in after)
    assert all(found[k]['metadata'].get('jupyter', {}).get('source_hidden') for k in keys)
    key = '\n'.join(source(found[k]) for k in keys)
    for cell in (c for c in found if tagged(c, 'answer')):
        for name in re.findall(r'^def (\w+)', source(cell), re.M):
            checkers = re.findall(rf'(check_\w+)\({name}\b', key)
            assert checkers, f'the key of {name} is not checked'
            assert all(any(f'def {one}(' in source(c) for c in found) for one in checkers), f'no checker of {name}'
        assert '...' in source(cell), 'an answer cell waits for its answer'


@pytest.mark.parametrize('name', METHODS)
def test_exercises_of_a_method(name):
    "Two with a checker at least, whose key stands apart"
    assert sum(tagged(c, 'answer') for p in METHODS[name] for c in cells(p)) >= 2


@pytest.mark.parametrize('path', FOUNDATIONS, ids=lambda p: p.stem)
def test_exercises_of_a_foundation(path):
    "One with a checker at least, derived or written, whose key shows wrong answers that fail"
    found = cells(path)
    assert any(tagged(c, 'answer') for c in found)
    words = '\n'.join(source(c) for c in found if c['cell_type'] == 'markdown')
    assert re.search(r'^\d\. \*(Derive|Write)\b', words[words.index('## Exercises'):], re.M)
    assert sum(source(c).count('refused(check_') for c in found if tagged(c, 'solution')) >= 1
