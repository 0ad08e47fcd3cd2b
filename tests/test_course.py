"""The course in a box: solutions stay out, assignments are graded by otter itself, what is said of it agrees."""
import ast
import json
import random
import re
import sys
import types
from pathlib import Path

import numpy
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
pytest.importorskip('otter')
import tidy  # noqa: E402

from course import __main__ as course  # noqa: E402
from course import assignments, notebooks, slices, syllabus  # noqa: E402
from docs import methods  # noqa: E402
from docs.notebooks import read, sources, text  # noqa: E402
from ssl_workbench import catalog  # noqa: E402

LESSONS = sources()
FORM = [p for p in LESSONS if assignments.exercises(read(p))]
GRADED = 1                                       # lessons that otter grades in CI
CHEAP = [ROOT/'nbs/06_heads.ipynb', ROOT/'nbs/panels/11_touch.ipynb']
ids = lambda p: p.stem


def cell(source, *tags):
    "A cell of a made-up lesson: words where it begins with # or a capital"
    words = re.match('#+ |[A-Z*]', source) and not tags
    if words: return dict(cell_type='markdown', id=f'm{hash(source)}', metadata={}, source=source)
    return notebooks.code_cell(source, f'c{hash(source)}', tags)


LESSON = [
    cell('# Entropy\n> What is least when all agree.'),
    cell('#| default_exp losses'),
    cell('#| export\nimport math\n\nimport torch\nimport torch.nn.functional as F'),
    cell('#| export\ndef mean_entropy(probs):\n    p = probs.mean(0)\n    return -(p * p.log()).sum()'),
    cell('import matplotlib.pyplot as plt\n\nfrom ssl_workbench.panels.touch import touch'),
    cell('def rows(n, k):\n    return torch.rand(n, k).softmax(-1)'),
    cell('probs = rows(4, 3)\nfor _ in range(10**9): probs = rows(4, 3)     # a long training'),
    cell('picture = torch.zeros(3, 8, 8, dtype=torch.uint8)'),
    cell('picture[0] += 255'),
    cell("touch(picture, points=dict(here=(.5, .5)), label='Red')"),
    cell('What to see: red.'),
    cell('## Exercises\n\n1. *Write.* `uniform(k)`: the entropy of k equal parts.'),
    cell('def uniform(k): ...\n\n# check_uniform(uniform)', 'answer'),
    cell("*Derive.* How often do four fair tosses all agree? The number `chance`."),
    cell('chance = ...\n\n# check_chance(chance)', 'answer'),
    cell('''def check_uniform(uniform, tries=4):
    "Against the loss, on equal rows"
    for k in torch.randint(2, 90, (tries,)).tolist():
        found = float(mean_entropy(torch.full((2, k), 1 / k)))
        assert math.isclose(uniform(k), found, rel_tol=1e-4), f'not for {k} parts'

def check_chance(chance, tries=2000):
    "Against tosses"
    found = (torch.rand(tries, 4) < .5).float().mean(1)
    assert abs(float(chance) - float(((found == 0) | (found == 1)).float().mean())) < .03, 'no'
'''),
    cell('## References\n\nShannon, 1948.\n\n## Answers'),
    cell('def uniform(k): return math.log(k)\n\nchance = 2 / 2**4\n\ncheck_uniform(uniform)', 'solution'),
    cell('''for wrong in (lambda k: math.log(2), lambda k: 3.):
    try: check_uniform(wrong)
    except AssertionError: continue
    raise ValueError('a wrong answer passed')''', 'solution'),
    cell('#| hide\nimport nbdev\n\nnbdev.nbdev_export()'),
]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A made-up lesson as assignment: the folder"
    folder = tmp_path_factory.mktemp('course')
    notebooks.write(LESSON, folder/'lesson.ipynb')
    assert assignments.write_assignment(folder/'lesson.ipynb', folder/'masters', folder/'students', folder/'teachers',
                                        notebooks.settings())
    return folder


def test_otter_grades(made):
    "Everything right is 100 %, nothing answered 0 %, a checker that the student redefines changes nothing"
    score = lambda nb: assignments.grade(made/'teachers/lesson.zip', nb)
    assert score(made/'teachers/lesson.ipynb') == 1
    untouched = made/'students/lesson.ipynb'
    assert score(untouched) == 0
    nb = json.loads(untouched.read_text())
    half = 'chance = 1 / 8\ndef uniform(k): return 1.\ndef check_uniform(answer): pass\ncheck_uniform(uniform)'
    nb['cells'].append(cell(half))
    nb['cells'][-1].pop('id')
    (made/'half.ipynb').write_text(json.dumps(nb))
    assert score(made/'half.ipynb') == .5
    assert assignments.failure(untouched) == ''
    nb['cells'].append({k: v for k, v in cell('1 / 0').items() if k != 'id'})
    fails = made/'fails'/untouched.name               # otter looks for a file of this name
    fails.parent.mkdir()
    fails.write_text(json.dumps(nb))
    assert 'ZeroDivisionError' in assignments.failure(fails)


def test_lessons_to_grade_are_chosen_by_name():
    "By number or in full; a name that fits none is an error, not an empty success"
    zips = [Path(f'{n}.zip') for n in ('05_nets', '19_flowe', '19_vqgan', '20_dilemma', '20b_variants')]
    found = lambda *names: [z.stem for z in course.chosen(zips, names)]
    assert found() == [z.stem for z in zips] and found('20', '05_nets') == ['05_nets', '20_dilemma']
    assert found('19') == ['19_flowe', '19_vqgan']
    with pytest.raises(SystemExit, match='12, 2'): found('05', '12', '2')


@pytest.mark.parametrize('path', FORM[:GRADED], ids=ids)
def test_a_lesson_is_graded(path, tmp_path):
    "The teacher's notebook gets all points, the untouched one none; `make course-check` does this for all lessons"
    assert assignments.write_assignment(path, tmp_path, tmp_path/'students', tmp_path/'teachers', notebooks.settings())
    shares = [assignments.grade(tmp_path/f'teachers/{path.stem}.zip', tmp_path/who/f'{path.stem}.ipynb')
              for who in ('teachers', 'students')]
    assert shares == [1, 0]


@pytest.mark.parametrize('path', FORM, ids=ids)
def test_an_assignment_holds_together(path, tmp_path):
    "Whatever its questions, solutions and hidden tests read is given before"
    cells = read(path)
    found = assignments.exercises(cells)
    ready = assignments.setup(cells, [e.checker for e in found], '\n'.join(e.answer + '\n' + e.solution for e in found))
    given = slices.names(ready).gives
    assert slices.names(ready).needs == set()
    for e in found:
        own = slices.names(e.solution)
        assert own.needs <= given and own.later <= given | {x.name for x in found}
        alone = assignments.setup(cells, [e.checker])
        asked = slices.names(slices.code_of(cells[e.checker]))
        assert asked.needs | asked.later <= slices.names(alone).gives | asked.gives


def test_every_answer_is_graded():
    "What an answer cell asks for has a checker and a key"
    for path in LESSONS:
        cells = read(path)
        asked = {n for c in cells if slices.tagged(c, 'answer') for n in slices.names(slices.code_of(c)).gives}
        assert asked == {e.name for e in assignments.exercises(cells)}, path.stem


@pytest.mark.parametrize('path', FORM, ids=ids)
def test_a_question_stands_alone(path):
    "One question above each answer: no other question, nothing of the lesson's text, no word of the lesson's checker"
    asked = [e.question for e in assignments.exercises(read(path))]
    assert len(set(asked)) == len(asked)
    for words in asked:
        assert len(re.findall(r'\*(?:Derive|Write)\b', words)) == 1
        assert not re.search(r'Investigate|What to (see|take away)|Where to go|\bchecker|uncomment|^#', words, re.M)


def room(*sources):
    "A module that has run some code"
    made = types.ModuleType('room')
    sys.modules['room'] = made
    for source in sources: exec(source, made.__dict__)
    return made


@pytest.mark.parametrize('path', FORM, ids=ids)
def test_checkers(path):
    "The key passes whatever is drawn; the untouched answer gets a hint, and a value that is right once is refused"
    cells = read(path)
    for e in assignments.exercises(cells):
        check = vars(room(assignments.setup(cells, [e.checker]), slices.code_of(cells[e.checker]))
                     )[f'check_{e.name.lower()}']
        ready = assignments.setup(cells, [e.checker], f'{e.answer}\n{e.solution}')
        empty, key = (vars(room(ready, source))[e.name] for source in (e.answer, e.solution))
        made = []

        def recorded(*args, key=key, made=made, **kwargs):
            made.append(key(*args, **kwargs))
            return made[-1]

        is_function = isinstance(key, types.FunctionType)
        for seed in assignments.SEEDS:
            for draw in (random.seed, numpy.random.seed, torch.manual_seed): draw(seed)
            check(recorded if is_function else key)
        with pytest.raises(AssertionError, match='.'): check(empty)
        for value in (made[0], made[-1]) if is_function else ():
            with pytest.raises((AssertionError, RuntimeError, IndexError)):      # also where its shape does not fit
                check(lambda *args, value=value, **kwargs: value)


@pytest.mark.parametrize('path', FORM, ids=ids)
def test_exercises_run_unanswered(path):
    "A student's cells of exercises, as they come; nothing else in the lesson reads an answer, so the rest runs too"
    cells, kept = read(path), notebooks.student(read(path), notebooks.settings())
    assert slices.answers_read(kept) == {}
    wanted = {i for i, c in enumerate(cells) if slices.tagged(c, 'answer')} | {e.checker for e in
                                                                               assignments.exercises(cells)}
    there = {c['id']: slices.code_of(c) for c in kept}
    room(assignments.setup(cells, sorted(wanted)), *(there[cells[i]['id']] for i in sorted(wanted)))


def test_a_cell_that_reads_an_answer_is_found():
    "By itself, or in a function called later; not above the answer, where the name is the lesson's own"
    after = [cell('print(1 + uniform(2))'), cell('def twice(): return 2 * chance')]
    tried = [*LESSON[:12], cell('chance = 1.'), cell('print(chance)'), *LESSON[12:16], *after, *LESSON[16:]]
    kept = notebooks.student(tried, notebooks.settings())
    found = {text(kept[i]['source']): asked for i, asked in slices.answers_read(kept).items()}
    assert found == {text(after[0]['source']): ['uniform'], text(after[1]['source']): ['chance']}
    assert slices.answers_read(notebooks.student(LESSON, notebooks.settings())) == {}


def test_an_assignment_takes_single_statements():
    "Of a cell that also trains and draws only the line that is read; comments and spelling stay"
    lesson = "draw, n = iter('ab'), 1    # seeded\nfilms = train(10**9)\nfor f in films: show(f)"
    cells = [cell('# A\n> b'), cell(lesson), cell('@keep\ndef near(x):\n    return x < .5'),
             cell('def check_x(x): assert near(next(draw))')]
    assert assignments.setup(cells, [3]) == "\n\n\n".join(["draw, n = iter('ab'), 1    # seeded",
                                                        '@keep\ndef near(x):\n    return x < .5'])
    assert slices.statements('a = 1; b = 2\nc = (3,\n     4)') == ['a = 1', 'b = 2', 'c = (3,\n     4)']


@pytest.mark.parametrize('path', CHEAP, ids=ids)
def test_a_student_notebook_runs(path, tmp_path):
    "From top to bottom, as students get it"
    import nbformat
    from nbclient import NotebookClient
    notebooks.write(notebooks.student(read(path), notebooks.settings()), tmp_path/path.name)
    NotebookClient(nbformat.read(tmp_path/path.name, 4), timeout=900, kernel_name='python3').execute(cwd=str(tmp_path))


def test_every_lesson_of_the_first_weeks_has_an_assignment():
    "Whoever starts the course has something to hand in from the first week on"
    taught = [p for w in syllabus.weeks() if w.part == 'Foundations' and w.number <= 6 for p in w.lessons]
    assert len(taught) >= 13 and set(taught) <= set(FORM)


def test_the_student_sees_no_solution(made):
    "Neither of the assignment nor of the lesson; hidden tests are the teacher's alone"
    words = (made/'students/lesson.ipynb').read_text()
    assert 'def uniform(k): ...' in words and 'math.log(k)' not in words and '2**4' not in words
    assert 'def check_uniform' not in words and 'from ssl_workbench.losses import mean_entropy' in words
    lesson = json.dumps(notebooks.student(LESSON, notebooks.settings()))
    assert 'def check_uniform' in lesson and '# check_uniform(uniform)' in lesson and 'Shannon' in lesson
    assert 'math.log(k)' not in lesson and 'Answers' not in lesson and 'nbdev' not in lesson and '#|' not in lesson
    assert 'math.log(k)' in json.dumps(notebooks.teacher(LESSON, notebooks.settings()))


def test_a_slice_leaves_training_out():
    "What a widget needs runs, in order; what trains, draws or is asked does not"
    taken = slices.needed(LESSON, slices.widgets(LESSON))
    assert [slices.code_of(LESSON[i]).split('\n')[0] for i in taken] == [
        'import math', 'import matplotlib.pyplot as plt', 'picture = torch.zeros(3, 8, 8, dtype=torch.uint8)',
        'picture[0] += 255', "touch(picture, points=dict(here=(.5, .5)), label='Red')"]
    assert slices.unmet(LESSON, taken) == {}
    assert 'long training' not in json.dumps(notebooks.demo(LESSON))


@pytest.mark.parametrize('source, needs, gives', [
    ('for a in b: c = a', 'b', 'a c'), ('x = f(x)', 'f x', 'x'), ('x += 1', 'x', 'x'), ('[z for z in y if z]', 'y', ''),
    ('with open(p) as g: h = g.read()', 'p', 'g h'), ('try: q()\nexcept ValueError as e: print(e)', 'q', 'e'),
    ('import a.b, c as d', '', 'a d'), ('def f(x, y=k): return x + u', 'k u', 'f'), ('lambda v: v + w', 'w', ''),
    ('class A(B):\n    c: int = d\n    def e(self): return g', 'B d g', 'A'), ('m = 1\nprint(m, n)', 'n', 'm'),
    ('if r:\n    s = 1\nelse: s = t', 'r t', 's'), ('print(u := v, u)', 'v', 'u'),
    ('a, (b, *c) = d', 'd', 'a b c'), ('f"{x} {y!r}"', 'x y', '')])
def test_names(source, needs, gives):
    "What a cell reads and gives"
    own = slices.names(source)
    assert own.needs | own.later == set(needs.split()) and own.gives == set(gives.split())


@pytest.mark.parametrize('path', LESSONS, ids=ids)
def test_student_notebooks(path):
    "No solution and no plumbing; the code can be read, and the first cell installs from the setting's address"
    kept = notebooks.student(read(path), notebooks.settings() | dict(git_url='https://git.example.org/a/b'))
    code = [c['source'] for c in kept if c['cell_type'] == 'code']
    for source in code: ast.parse(source)
    assert 'git+https://git.example.org/a/b@' in code[0] and 'github' not in code[0]
    words = '\n'.join(text(c['source']) for c in kept)
    assert not any(slices.tagged(c, 'solution') for c in kept)
    assert not re.search(r'^#\||nbdev_export\(\)|^#+ (Answers|Solutions)\b|<summary>Answer', words, re.M)
    below = words.split('## Exercises', 1)[-1]
    assert not re.search(r'^check_\w+\(', below, re.M)
    keys = [slices.code_of(c) for c in read(path) if slices.tagged(c, 'solution')]
    assert not [k for k in keys if k and k in words]


@pytest.mark.parametrize('path', LESSONS, ids=ids)
def test_student_notebooks_lack_no_name(path):
    "What is left out for students, and what is hidden, gives nothing that a later cell reads"
    for who in (notebooks.student, notebooks.teacher):
        kept = who(read(path), notebooks.settings())
        assert slices.unmet(kept, range(len(kept))) == {}


# ---- the weeks, and what is said of them

WEEKS = syllabus.weeks()


def test_weeks_hold_together():
    "Numbers in order, every method once, nothing before what it needs, no more than two methods or classics a week"
    numbers = [w.number for w in WEEKS]
    assert numbers == list(range(1, len(WEEKS) + 1)) and set(syllabus.TERM) <= set(numbers)
    taught = [p for w in WEEKS for p in w.lessons]
    assert len(set(taught)) == len(taught) and all(p.exists() for p in taught)
    assert {methods.lessons(e)[0] for e in catalog.catalog if e.state == 'ready'} <= set(taught)
    for w in WEEKS:
        assert all(n < w.number for n in w.after) and w.goals and w.reading and 4 <= len(w.quiz) <= 6
        assert len({re.sub(r'^(\d+).*', r'\1', p.stem) for p in w.lessons
                    if p.parent.name in ('methods', 'classics')}) <= 2, w.title
        file, = syllabus.WEEKS.glob(f'{w.number:02}_*.md')
        assert file.read_text(encoding='utf-8').count('**Answer.**') == len(w.quiz)


def test_the_course_is_told_alike_everywhere():
    "The site's table is that of the weeks; README and first page give their number"
    assert syllabus.page(WEEKS) == syllabus.PAGE.read_text(encoding='utf-8'), 'run python -m course.syllabus --write'
    words = syllabus.number(len(WEEKS))
    for name in ('README.md', 'docs/pages/index.md', 'docs/pages/course.md'):
        text = (ROOT/name).read_text(encoding='utf-8')
        found = re.findall(r'\b(\w+) weeks\b', text)
        assert words in map(str.lower, found), f'{name} says {found}'


def test_quizzes_keep_their_answers_apart():
    "Every question is in both, every answer in the teacher's alone"
    for w in WEEKS:
        asked, solved = syllabus.quiz(w), syllabus.answers(w)
        assert all(q in asked and q in solved and a in solved for q, a in w.quiz) and 'Answer' not in asked


def test_minutes_of_a_lesson():
    "The measured line counts, else what the lesson says of itself"
    said = lambda *words: syllabus.running_minutes([cell(w) for w in ('# A\n> b', *words)])
    assert said('About four minutes on two cores.') == 4 and said('Nothing.') is None
    assert said('*Measured: about 12 minutes on 2 cores, 1.0 GB of memory.* x', 'About two minutes.') == 12
    assert said('*Measured: less than a minute on 2 cores, 1.0 GB of memory.* x') == 1


def test_links_follow_the_setting():
    "Colab where the repository is on GitHub, Binder everywhere; the address is that of the settings"
    ini = notebooks.settings()
    there = notebooks.badges(ini | dict(git_url='https://github.com/a/b.git', course_branch='c'), 'lessons/x y.ipynb')
    assert 'colab.research.google.com/github/a/b/blob/c/lessons/x%20y.ipynb' in there
    assert 'mybinder.org/v2/gh/a/b/c?labpath=lessons%2Fx%20y.ipynb' in there
    other = notebooks.badges(ini | dict(git_url='https://git.example.org/a/b'), 'x.ipynb')
    assert 'colab' not in other and 'mybinder.org/v2/git/https%3A%2F%2Fgit.example.org%2Fa%2Fb/' in other
    assert not [p for p in (ROOT/'course').rglob('*') if p.is_file() and p.suffix != '.pyc'
                and ini['git_url'] in p.read_text(encoding='utf-8')], 'the address is a setting'


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The folder that `make course` writes"
    folder = tmp_path_factory.mktemp('whole')/'course'
    assert course.make(folder, only=[p.stem for p in FORM[:GRADED]]) == [p.stem for p in FORM[:GRADED]]
    return folder


@pytest.mark.parametrize('path', [p for w in WEEKS for p in w.lessons], ids=ids)
def test_slides(path, whole):
    "Some slides, nothing from elsewhere, no solution, words for every picture"
    page = (whole/f'students/slides/{path.stem}.html').read_text(encoding='utf-8')
    assert page.count('<section') >= 3
    assert re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page) == ['assets/mathjax.js']
    assert all(len(alt) > 8 for alt in re.findall(r'<img[^>]*alt="([^"]*)"', page))
    for key in (text(c['source']) for c in read(path) if slices.tagged(c, 'solution')): assert key not in page


def test_the_whole_course(whole):
    "Every lesson twice, a demo where there is something to touch, links that lead somewhere, nothing of the teacher's"
    for half in ('students', 'teachers'):
        assert {p.relative_to(whole/half/'lessons') for p in (whole/half/'lessons').rglob('*.ipynb')} \
            == {p.relative_to(ROOT/'nbs') for p in LESSONS}
    assert {p.name for p in (whole/'teachers/demos').iterdir()} == {p.name for p in LESSONS if slices.widgets(read(p))}
    students, lost = whole/'students', []
    assert not [p for p in students.rglob('*') if p.suffix == '.zip' or 'answers' in p.name]
    for path in [*students.rglob('*.md'), *students.rglob('*.ipynb')]:
        words = path.read_text(encoding='utf-8') if path.suffix == '.md' else \
            '\n'.join(text(c['source']) for c in read(path) if c['cell_type'] == 'markdown')
        lost += [(path.name, link) for link in re.findall(r'\]\(((?!\w+:)[^)\s#]+)[^)]*\)', words)
                 if not (path.parent/link).exists()]
    assert lost == []
    address = notebooks.settings()['git_url']
    assert address in (students/'binder/requirements.txt').read_text() and address in (students/'README.md').read_text()


# ---- minutes and memory

def test_minutes_and_memory_are_measured(tmp_path, monkeypatch):
    "A run at full length writes one line at the top, a second run replaces it, a shortened run leaves it as it is"
    path = tmp_path/'lesson.ipynb'
    cells = [cell('# A lesson\n> One line.'), cell('held = bytearray(700 * 10**6)')]
    notebooks.write(cells, path)
    own = b'1' * 1_600_000_000          # what this process holds is not the notebook's
    line = lambda: re.findall(r'^\*Measured: .*$', text(read(path)[0]['source']), re.M)
    monkeypatch.setenv('SSL_BUDGET', '.05')
    _, gigabytes = tidy.run(path)
    assert .7 < gigabytes < 1.5 < len(own) / 1e9 and line() == []
    monkeypatch.setenv('SSL_BUDGET', '1')
    for _ in range(2): tidy.run(path)
    found, = line()
    assert re.fullmatch(r'\*Measured: (less than|about) a minute on \d+ cores?, (0\.[789]|1\.\d) GB of memory\.\* '
                        '<!-- measured -->', found)
    assert len(read(path)) == 2 and '> One line.' in text(read(path)[0]['source'])


def test_a_stated_cost_gives_way_to_the_measured_one():
    "Where a lesson says already how long it takes, that line is replaced"
    nb = dict(cells=[cell('# A\n> b'), cell('By X.\n\n**About four minutes on two cores, 1.5 GB.**\n\nNext.')])
    line = tidy.cost_line(2.6, 1.234, 2)
    words = tidy.with_cost(nb, line)['cells'][1]['source']
    assert words == 'By X.\n\n*Measured: about 3 minutes on 2 cores, 1.2 GB of memory.* <!-- measured -->\n\nNext.'
    for rest in ('', '\n\n*Words:* x'):
        title = tidy.with_cost(dict(cells=[cell(f'# A\n\n> b\n> c{rest}')]), line)['cells'][0]['source']
        assert title == f'# A\n\n> b\n> c\n\n{line}{rest}'
