"""A lesson's exercises as an otter-grader assignment: the questions, what they need of the lesson, hidden tests.

A lesson gives an answer cell (tag `answer`) that defines `x`, a checker `check_x(answer)`, and a solution cell (tag
`solution`) that defines `x` again; the checker of a class `Next` is `check_next`. The hidden test of `x` builds the
checker anew from its source, so that nothing a student's notebook defines can change it, and asks it several times with
other draws.
"""
import ast
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from course import slices
from course.notebooks import code_cell, markdown_cell, package, write
from docs.notebooks import DIRECTIVE, read, text

IMPORTS = ast.Import, ast.ImportFrom
TAGS = 'answer', 'solution'                      # of cells that give a slice nothing
SEEDS = 3, 141, 5926                             # of the draws that a hidden test makes


@dataclass(frozen=True)
class Exercise:
    "One question with a checker"
    name: str                                    # what the answer defines
    question: str                                # Markdown
    answer: str                                  # the untouched cell
    solution: str                                # code that gives the name its right value
    checker: int                                 # number of the cell that defines `check_name`


def _given(source) -> set:
    "Names that a cell gives"
    return slices.names(source).gives


def _solution(cells, name) -> str:
    "The statements of the solution cells that the name's right value needs, no checks among them"
    body = [s for c in cells if slices.tagged(c, 'solution') and c['cell_type'] == 'code'
            for s in ast.parse(slices.code_of(c)).body]
    given = {n: k for k, s in enumerate(body) for n in slices.names(ast.unparse(s)).gives}
    taken, queue = set(), [given[name]] if name in given else []
    while queue:
        if (k := queue.pop()) in taken: continue
        taken.add(k)
        own = slices.names(ast.unparse(body[k]))
        queue += [given[n] for n in own.needs | own.later if n in given]
    return '\n\n'.join(ast.unparse(body[k]) for k in sorted(taken))


def _untouched(source, name) -> str:
    "The part of an answer cell that is about one name"
    body = ast.parse(source).body
    return '\n'.join(ast.get_source_segment(source, s) for s in body
                     if isinstance(s, IMPORTS) or name in slices.names(ast.unparse(s)).gives)


def question_of(words, name) -> str:
    """The words that ask for one name: of a list of exercises the item that names it, else all below the heading

    The line that says how the lesson's own checker is called is left out, and so are questions that nothing grades.
    """
    words = re.sub(r'^.*\buncomment\b.*\n?', '', words, flags=re.M)
    words = re.split(r'^#+ Exercises.*\n', words, flags=re.M)[-1].strip()
    items = re.split(r'\n(?=\d+\. )|\n\s*\n(?! )', words)
    asked = [item.strip() for item in items if re.search(rf'`{name}\b', item)]
    return '\n\n'.join(asked) or words


def exercises(cells) -> list:
    "The questions of a lesson that have answer cell, checker and solution"
    checkers = {n.removeprefix('check_'): i for i, c in enumerate(cells) if not slices.tagged(c, 'solution')
                for n in _given(slices.code_of(c)) if n.startswith('check_')}
    found = []
    for i, cell in enumerate(cells):
        if not slices.tagged(cell, 'answer'): continue
        above = [text(c['source']) for c in cells[:i] if c['cell_type'] == 'markdown']
        source = slices.code_of(cell)
        names = [n for s in ast.parse(source).body for n in sorted(_given(ast.unparse(s)))]       # in their order
        for name in dict.fromkeys(names):
            if name.lower() in checkers and (solution := _solution(cells, name)):
                found.append(Exercise(name, question_of(above[-1], name), _untouched(source, name), solution,
                                      checkers[name.lower()]))
    return found


def _module(cells) -> str:
    "The module that a lesson exports"
    for cell in cells:
        if found := re.search(r'^#\|\s*default_exp\s+(\S+)', text(cell['source']), re.M):
            return f'ssl_workbench.{found[1]}'.removesuffix('.__init__')
    return ''


def _imports(statement, wanted) -> str:
    "An import without the names that nobody wants"
    kept = [a for a in statement.names if (a.asname or a.name.split('.')[0]) in wanted]
    return ast.unparse(type(statement)(**{**vars(statement), 'names': kept})) if kept else ''


def _statements(cells, wanted) -> tuple:
    "Cells with one statement each, so that a slice takes no more than it needs, and the wanted ones, whole, in them"
    found, kept = [], []
    for i, cell in enumerate(cells):
        source = slices.code_of(cell)
        if i in wanted: kept.append(len(found))
        whole = i in wanted or not source or _exported(cell) or any(slices.tagged(cell, t) for t in TAGS)
        found += [cell] if whole else [dict(cell, source=s) for s in slices.statements(source)]
    return found, kept


def _exported(cell) -> bool:
    "Whether the library holds what a cell defines"
    return 'export' in DIRECTIVE.findall(text(cell['source']))


def setup(cells, wanted, more='') -> str:
    "Code that has to run before the wanted cells and some more code: what the lesson exports comes from the library"
    module, (cells, wanted) = _module(cells), _statements(cells, wanted)
    stop = [i for i, c in enumerate(cells) if _exported(c)]
    taken = slices.needed(cells, wanted, more, stop)
    read_by = [slices.names(more), *(slices.names(slices.code_of(cells[i])) for i in taken if i not in stop)]
    asked = set().union(*(n.needs | n.later for n in read_by))
    imports, library, rest = [], set(), ''
    for i in taken:
        source = slices.code_of(cells[i])
        body = ast.parse(source).body
        imports += [_imports(s, asked) for s in body if isinstance(s, IMPORTS)]
        own = [s for s in body if not isinstance(s, IMPORTS)]
        if _exported(cells[i]): library |= set().union(*(slices.names(ast.unparse(s)).gives for s in own)) & asked
        elif own and i not in wanted: rest += _apart(rest, source)
    names = ', '.join(sorted(library))
    lines = sorted(set(filter(None, imports))) + ([f'from {module} import {names}'] if names else [])
    return '\n\n'.join(filter(None, ['\n'.join(lines), rest]))


def _apart(before, source) -> str:
    "A statement below others: two blank lines around a function, none around short ones"
    block = lambda s: s.split('\n')[-1].startswith(' ') or s.startswith(('def ', 'class ', '@'))
    return ('\n\n\n' if block(before) or block(source) else '\n') * bool(before) + source


def hidden_test(cells, exercise) -> str:
    "The checker from its source, in a room of its own, several draws; an otter test of one function"
    source = setup(cells, [exercise.checker]) + '\n\n\n' + slices.code_of(cells[exercise.checker])
    return f'''""" # BEGIN TEST CONFIG
hidden: true
points: 1
""" # END TEST CONFIG
def test_{exercise.name}(env):
    import random
    import sys
    import types
    import numpy
    import torch
    room = types.ModuleType('hidden_{exercise.name}')
    sys.modules[room.__name__] = room
    exec({source!r}, room.__dict__)
    for seed in {SEEDS}:
        for draw in (random.seed, numpy.random.seed, torch.manual_seed): draw(seed)
        room.check_{exercise.name.lower()}(env['{exercise.name}'])'''


def public_test(exercise) -> str:
    "Whether the cell was answered at all; no points"
    return f'''""" # BEGIN TEST CONFIG
points: 0
failure_message: this answer is still the empty one
""" # END TEST CONFIG
def test_{exercise.name}_is_answered(env):
    before = dict(env)
    exec({exercise.answer!r}, before)
    def told(x):
        if isinstance(x, type): return {{k: told(v) for k, v in vars(x).items() if not k.startswith('__')}}
        return (x.__code__.co_code, x.__code__.co_consts) if hasattr(x, '__code__') else repr(x)
    assert told(env['{exercise.name}']) != told(before['{exercise.name}'])'''


def raw(source, name) -> dict:
    "A cell that speaks to otter"
    return dict(cell_type='raw', id=name, metadata={}, source=source)


def question(cells, exercise) -> list:
    "One question in the form that `otter assign` reads"
    n = exercise.name.replace('_', '-')
    solved = (f"# BEGIN SOLUTION NO PROMPT\n{exercise.solution}\n# END SOLUTION\n"
              f"''' # BEGIN PROMPT\n{exercise.answer}\n''' # END PROMPT")
    return [raw(f'# BEGIN QUESTION\nname: {exercise.name}\npoints: 1', f'{n}-begin'),
            markdown_cell(exercise.question, f'{n}-question'),
            raw('# BEGIN SOLUTION', f'{n}-solution'), code_cell(solved, f'{n}-code'),
            raw('# END SOLUTION', f'{n}-solved'), raw('# BEGIN TESTS', f'{n}-tests'),
            code_cell(public_test(exercise), f'{n}-public'), code_cell(hidden_test(cells, exercise), f'{n}-hidden'),
            raw('# END TESTS', f'{n}-tested'), raw('# END QUESTION', f'{n}-end')]


CONFIG = '''# ASSIGNMENT CONFIG
init_cell: true
check_all_cell: true
export_cell: false
tests: {{files: false, ok_format: false}}
requirements: ['{package}']
generate: {{pdf: false, show_hidden: false}}'''


def master(cells, found, ini, lesson) -> list:
    "The notebook that `otter assign` reads"
    title, line = re.match(r'# (.*?)\n+> (.*)', text(cells[0]['source'])).groups()
    answers = '\n'.join(s for e in found for s in (e.answer, e.solution))
    words = (f'# Exercises: {title}\n\n> {line}\n\nFrom the lesson `{lesson}`. Answer in the cell below each question. '
             '`grader.check` says whether there is an answer; whether it is right, hidden tests decide.')
    head = [raw(CONFIG.format(package=package(ini)), 'config'), markdown_cell(words, 'title')]
    ready = setup(cells, [e.checker for e in found], answers)
    asked, rows, said = set(), [code_cell(ready, 'setup')] if ready else [], set()
    for e in found:
        if e.name in asked: continue
        asked.add(e.name)
        rows += [c for c in question(cells, e) if not (c['cell_type'] == 'markdown' and c['source'] in said)]
        said.add(e.question)
    return [*head, *rows]


def write_assignment(path, masters, students, teachers, ini, name='') -> bool:
    "Master, student's notebook, teacher's notebook and autograder of a lesson; False if it has no such exercise"
    cells = read(path)
    found = exercises(cells)
    if not found: return False
    name = name or path.stem
    source = write(master(cells, found, ini, path.name), masters/f'{name}.ipynb')
    made = assign(source, masters/name)
    for folder, target in (('student', students), ('autograder', teachers)):
        target.mkdir(parents=True, exist_ok=True)
        (made/folder/f'{name}.ipynb').replace(target/f'{name}.ipynb')
    next((made/'autograder').glob('*.zip')).replace(teachers/f'{name}.zip')
    return True


def assign(source, folder) -> Path:
    "What otter makes of a master"
    from otter.assign import main
    main(str(source), str(folder), no_pdfs=True, no_run_tests=True)
    return folder


def grade(autograder, notebook) -> float:
    "The share of the points that otter gives a notebook"
    from otter.run import main
    found = main(str(notebook), autograder=str(autograder), output_dir=None, no_logo=True)
    return found.total / found.possible


def failure(notebook) -> str:
    "What stops a notebook that is run from top to bottom; nothing where it runs"
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    with tempfile.TemporaryDirectory() as folder:                # otter writes a log beside the notebook
        shutil.copy(notebook, folder)
        client = NotebookClient(nbformat.read(notebook, 4), timeout=1800, kernel_name='python3')
        try: client.execute(cwd=folder)
        except CellExecutionError as e: return str(e)
    return ''
