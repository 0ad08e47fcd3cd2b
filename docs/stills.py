"""Moments of touch that play on the site without a kernel: `python -m docs.stills [LESSON …]` computes them anew.

A moment is a cell that ends in a widget. Its states are what the widget shows at a few settings of its knobs and
places, read from the widget itself, so that a page shows what a notebook shows. They lie in `docs/states`, pictures
beside numbers, and `make docs` copies them. `tests/test_stills.py` computes two states of each anew.
"""
import ast
import base64
import hashlib
import io
import itertools
import json
import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

from course import slices
from course.notebooks import code_cell
from docs.notebooks import NBS, STATES, read

SHOWN = ('picture', 'layers', 'values', 'bars', 'caption', 'answer')     # what may differ between two states
DOTS = 30                             # computed places that the script marks, at most: `MANY` in touch.js
HOVERED = 1200                        # numbers under the pointer that a page carries, at most


def spots(columns, rows, left=0., top=0., right=1., bottom=1.) -> list:
    "Centres of a grid of cells over a part of the picture"
    return [(round(left + (right - left) * (i + .5) / columns, 3), round(top + (bottom - top) * (j + .5) / rows, 3))
            for j in range(rows) for i in range(columns)]


@dataclass(frozen=True)
class Moment:
    "A widget of a lesson, and the settings that its page has"
    lesson: str                       # path in `nbs` without ending
    cell: str                         # the widget's cell
    over: dict                        # name of a knob or place → its settings
    given: str = ''                   # code in place of a cell that trains, and of what else takes long
    titles: dict = field(default_factory=dict)       # of settings that are no knobs

    @property
    def folder(self): return STATES/Path(self.lesson).name

    @property
    def file(self): return self.folder/f'{self.cell}.json'

    @property
    def settings(self) -> list:
        "All states' settings"
        return [dict(zip(self.over, chosen)) for chosen in itertools.product(*self.over.values())]


BOXES = [(.02, .02, .3, .3), (.3, .3, .65, .65), (.36, .6, .64, .88), (.65, .1, .95, .4)]
SENTENCES = ['A small red star.', 'A large blue circle.', 'A green triangle.', 'A yellow square.']
MOMENTS = [
    Moment('methods/20_dilemma', '2d12bc6a', dict(share=[.05, .2, .5], seed=[0, 1], answer=[False, True])),
    Moment('methods/20_dilemma', '1bed46f9', dict(move=[
        (.69, .31, .81, .81), (.19, .19, .81, .19), (.44, .44, .56, .44), (.19, .81, .81, .56), (.31, .31, .31, .81),
        (.56, .69, .19, .44)])),
    Moment('methods/20_dilemma', 'dl-find1', dict(which=[3, 4], guess=spots(8, 8)), 'longer = ready'),
    Moment('methods/20b_dilemma_variants', '25a124a3', dict(ratio=[.2, .4, .65, .85], policy=['importance', 'random'])),
    Moment('methods/21_loca', '51080002', dict(mirrored=[True, False], guess=spots(8, 8))),
    Moment('methods/21_loca', '51080004', dict(patch=spots(3, 3, right=.5), visible=['all', 'half', 'a fifth'])),
    Moment('methods/21_loca', '51080006', dict(rounds=[0, 1, 2, 3, 8], lead=[0, 4, 8, 12])),
    Moment('methods/21_loca', 'c4074d4b', dict(box=BOXES, seen=['all', 'a fifth', 'none'])),
    Moment('methods/21_loca', 'bef15b84', dict(box=BOXES, seen=['all', 'a fifth', 'none'])),
    Moment('methods/22_slotmim', '51070003', dict(patch=spots(8, 8))),
    Moment('methods/22_slotmim', '51070008', dict(place=spots(6, 2, top=.125, bottom=1.125))),
    Moment('methods/22_slotmim', '5107000c', dict(temperature=[.03, .07, .2, 1.], favourite=[0, .6, 1.2],
                                                  centring=[False, True])),
    Moment('methods/22_slotmim', '6f4e2562', dict(shown=[4, 8, 12, 24], assignment=['hard', 'soft'],
                                                  detail=[16, 32])),
    Moment('methods/23a_poodle_crops', '52000002', dict(source=['truth', 'dis', 'still'],
                                                        guess=spots(12, 10, left=.5))),
    Moment('methods/23a_poodle_crops', '1d2a16ba', dict(source=['truth', 'dis', 'still'], gap=[1, 3, 5])),
    Moment('methods/23b_poodle_toy', '966bb45b', dict(radius=[6, 16, 40, 80], area=[.02, .04, .1])),
    Moment('methods/23c_poodle', 'c484d16c', dict(detail=[16, 24, 32], clipped=[False, True])),
    Moment('methods/23c_poodle', '52200004', dict(place=spots(5, 3, right=.5, top=.15, bottom=.9))),
    Moment('methods/24_mcjepa', 'mj-vol3', dict(click=spots(3, 3, right=.2), warp_first=[True, False])),
    Moment('methods/24_mcjepa', 'mj-arrow2', dict(motion=[
        (.07, .46, .07 + dx, .46 + dy) for dy in (-.1, 0., .1) for dx in (-.04, 0., .04)])),
    Moment('methods/24_mcjepa', 'mj-guess1', dict(click=spots(5, 5, right=.333)),
           "longer, where = ready, 'cpu'"),
    Moment('methods/24_mcjepa', 'mj-trip', dict(click=spots(3, 3, right=.333), alpha2=[.5, 4.]),
           "longer, where = ready, 'cpu'"),
    Moment('methods/25d_scale', '2a0bf4cc', dict(shift=[0., .1, .2, .3, .4, .5], how=['size', 'minmax'])),
    Moment('methods/25d_scale', 'f7c48cd0', dict(masking=[.05, .25, .5, .75], mask_by=['bernoulli', 'count'],
                                                 clips=[2, 8, 16])),
    Moment('methods/25d_scale', '6fc6e836', dict(times=[4, 8, 12, 16], head=[0, 1, 2]),
           "longer = catalog.load('scale')"),
    Moment('methods/26_vidrop', 'e6ecebba', dict(dropped=[0., .5, .85, .95], pattern=['random', 'tube'])),
    Moment('methods/26_vidrop', 'e772b9bc', dict(dropped=[0., .25, .5, .7, .85, .95], local_clips=[0, 4, 8, 12])),
    Moment('methods/26_vidrop', 'b49a6f3b', dict(tau=[.02, .04, .1, .3], rounds=[0, 1, 3, 10])),
    Moment('methods/26_vidrop', 'f592b5b2', dict(dropped=[0., .3, .5, .7, .85])),
    Moment('methods/27a_river_sampling', 'rv-field', dict(steps=[1, 2, 4, 10, 40],
                                                               solver=['euler', 'midpoint', 'rk4'])),
    Moment('methods/27c_river', 'rv-ctx', dict(back=[1, 4, 8], claimed=[1, 4, 8, 20])),
    Moment('methods/27c_river', 'rv-throw', dict(red=[(.06, .3, .15, .34), (.06, .3, .06, .5)],
                                                 blue=[(.27, .62, .18, .58), (.27, .62, .27, .3)]),
           'longer = ready'),
    Moment('methods/28_sfclip', '5fc11009', dict(word=['star', 'red', 'meadow', 'triangle', 'small', 'left'])),
    Moment('methods/28_sfclip', '53000003', dict(sentence=SENTENCES), titles=dict(sentence='Sentence')),
    Moment('methods/28_sfclip', '53000007', dict(number=[0, 1, 2, 3, 4, 5], kind=['swap attribute', 'swap object'])),
]


# ---- a moment's widget, and what it shows

_room = dict(lesson='', run=[], room=None)       # of the last widget: the next one of its lesson continues there


def room_for(lesson, cells, taken):
    "The namespace to run these cells in, and which of them are still to run there"
    gives = lambda k: slices.names(slices.code_of(cells[k])).gives
    rest = [k for k in taken if k not in _room['run']]
    if _room['lesson'] == lesson:                         # unless a cell would take back what a later one gave
        later = set().union(*(gives(k) for k in _room['run'] if rest and k > rest[0]))
        if not any(gives(k) & later for k in rest): return _room['room'], rest
    _room.update(lesson=lesson, run=[], room=types.ModuleType('lesson'))
    sys.modules['lesson'] = _room['room']
    return _room['room'], taken


def widget(moment:Moment):
    "The widget of a moment, made by the cells of its lesson that it needs; the namespace of these cells"
    cells = read(NBS/f'{moment.lesson}.ipynb')
    i = next(k for k, c in enumerate(cells) if c['id'] == moment.cell)
    cells[i - 1] = code_cell(moment.given, 'given') if moment.given else cells[i - 1]
    room, rest = room_for(moment.lesson, cells, slices.needed(cells, [i]))
    last = ast.parse(slices.code_of(cells[i]))
    shown = last.body.pop()
    for tree in (*(ast.parse(slices.code_of(cells[k])) for k in rest if k != i), last):
        exec(compile(tree, moment.lesson, 'exec'), room.__dict__)
    _room['run'] += rest
    return eval(compile(ast.Expression(shown.value), moment.lesson, 'eval'), room.__dict__), room


def picture_of(made, room):
    "The picture to touch inside what a cell shows"
    if hasattr(made, 'places'): return made
    if hasattr(made, 'panel'): return made.widget
    return next(v for v in vars(room).values() if hasattr(v, 'places') and hasattr(v, 'kinds'))


def set_to(made, room, at:dict) -> None:
    "Moves the knobs and places of a widget"
    if hasattr(made, 'panel'):
        made.still = True
        for name, value in at.items():
            for one, v in zip(made.widgets[name], value if isinstance(value, tuple) else [value]): one.value = v
        made.still = False
        return made.redraw()
    for name, value in at.items():
        if name in made.kinds if hasattr(made, 'kinds') else False: made.places = {**made.places, name: list(value)}
        else: getattr(room, name).value = value


def state_at(made, room, at:dict) -> dict:
    "What the widget shows there: the state of its picture, without the reader's own part"
    set_to(made, room, at)
    state = dict(picture_of(made, room).state)
    small = [v for v in state['values'] if v['rows'] * v['columns'] <= HOVERED]
    return state | dict(values=small, guess='', revealed=False, released=0)


# ---- as files

def pixels_of(uri:str):
    "The picture of a data URI"
    from PIL import Image
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(',')[2])))


def saved(uri:str, moment:Moment) -> str:
    "A picture beside the numbers, named after its content; lossless where that is not much larger"
    name = f'{moment.cell}_{hashlib.blake2b(uri.encode(), digest_size=4).hexdigest()}.webp'
    if (moment.folder/name).exists(): return name
    drawn, files = pixels_of(uri), []
    for options in (dict(lossless=True, method=3), dict(quality=80, method=4)):
        file = io.BytesIO()
        drawn.save(file, 'webp', **options)
        files.append(file.getvalue())
    data = files[0] if len(files[0]) < 1.2 * len(files[1]) else files[1]
    (moment.folder/name).write_bytes(data)
    return name


def with_files(state:dict, moment:Moment) -> dict:
    "A state whose pictures are files"
    return state | dict(picture=saved(state['picture'], moment),
                        layers=[l | dict(src=saved(l['src'], moment)) for l in state['layers']])


def knobs_of(made, moment:Moment) -> list:
    "The settings that are no places, as `still` takes them"
    titles = {k.name: k.label or k.name for k in made.panel.knobs} if hasattr(made, 'panel') else moment.titles
    return [dict(name=n, title=titles[n], options=list(v)) for n, v in moment.over.items()
            if not isinstance(v[0], tuple)]


def hint_of(moment:Moment, kinds:dict) -> str:
    "How a mark is moved among the computed places"
    for name, all_of_it in moment.over.items():
        if name not in kinds: continue
        if kinds[name] != 'point': return 'Arrow keys on a mark, or dragging, lead to the next of the dashed ones.'
        if len(all_of_it) > DOTS: return 'Click anywhere; arrow keys move the mark.'
        return 'Click near a dot; arrow keys move to the next one.'
    return ''


def compute(moment:Moment) -> dict:
    "All states of a moment, with its pictures written; the first is what the widget shows before it is touched"
    made, room = widget(moment)
    first = made.values if hasattr(made, 'panel') else {}
    states = [with_files(state_at(made, room, at), moment) for at in moment.settings]
    start = min(range(len(states)), key=lambda k: off(first, moment.settings[k]))
    varied = [n for n in SHOWN if any(s[n] != states[0][n] for s in states)]
    knobs = knobs_of(made, moment)
    places = [n for n in states[0]['places'] if n in moment.over]
    state = states[start] | dict(
        knobs=knobs, settings={k['name']: moment.settings[start][k['name']] for k in knobs}, max_height=360,
        states=[dict(at=at, show={n: s[n] for n in varied}) for at, s in zip(moment.settings, states)],
        places={n: states[start]['places'][n] for n in places}, kinds={n: states[0]['kinds'][n] for n in places},
        hint=hint_of(moment, states[0]['kinds']))
    return state


def off(first:dict, at:dict) -> float:
    "How far a state is from the widget's first settings"
    def one(a, b):
        if isinstance(b, tuple): return sum((x - y)**2 for x, y in zip(a, b))
        return 0 if a == b else 10
    return sum(one(first[n], v) for n, v in at.items() if n in first)


def write(moment:Moment) -> str:
    "A moment's files, those of an earlier run gone; a line about them"
    moment.folder.mkdir(parents=True, exist_ok=True)
    for old in moment.folder.glob(f'{moment.cell}[._]*'): old.unlink()
    state = compute(moment)
    moment.file.write_text(json.dumps(state, separators=(',', ':')) + '\n', encoding='utf-8')
    size = sum(f.stat().st_size for f in moment.folder.glob(f'{moment.cell}[._]*'))
    return f"{moment.lesson} {moment.cell}: {len(state['states'])} states, {size // 1000} kB"


def stills(path) -> dict:
    "Of a notebook: cell → the file of its states"
    return {m.cell: m.file for m in MOMENTS if NBS/f'{m.lesson}.ipynb' == path}


def main(wanted):
    "The moments of these lessons, or cells; without a name, of all"
    os.environ.setdefault('SSL_BUDGET', '.05')
    for moment in MOMENTS:
        if not wanted or any(w in (moment.cell, Path(moment.lesson).name) for w in wanted):
            print(write(moment), flush=True)


if __name__ == '__main__': main(sys.argv[1:])
