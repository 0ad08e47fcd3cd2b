"""The course, made anew in _course: `python -m course`; `python -m course check` lets otter grade every assignment.

`python -m course check 12 05_nets` grades those of some lessons, named by their number or in full."""
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from course import assignments, notebooks, slides, syllabus
from docs.__main__ import mathjax
from docs.notebooks import NBS, ROOT, title_of

COURSE = Path(os.environ.get('COURSE', ROOT/'_course'))
README = """# {title}: the course

Publish the folder `students` as the branch `{course_branch}` of {git_url}. Keep the folder `teachers`.

| folder | what it holds |
|---|---|
| `students/syllabus.md` | weeks with goals, minutes, prerequisites and reading |
| `students/lessons` | the lessons without solutions, glossary and table of symbols |
| `students/assignments` | exercises that otter grades, without their hidden tests |
| `students/slides` | a page a lesson; arrow keys turn it |
| `students/quizzes` | a quiz a week |
| `students/binder` | what Binder installs |
| `teachers/lessons` | the lessons with solutions |
| `teachers/assignments` | the solved assignments and their autograders: `otter grade -a NAME.zip SUBMISSIONS` |
| `teachers/demos` | the widgets of a lesson with the code they need, to run in front of a class |
| `teachers/quizzes` | the answers |
"""


def open_here(ini, made) -> str:
    """The students' first page: how to begin, and links that open lessons and assignments elsewhere

    No Colab for assignments: otter reads its tests from the notebook's file, which Colab keeps elsewhere.
    """
    rows = [f"| {title_of(p)[0]} | {notebooks.badges(ini, f'lessons/{p.relative_to(NBS).as_posix()}')} | "
            + (notebooks.badges(ini, f'assignments/{p.stem}.ipynb', colab=False) if p.stem in made else '–') + ' |'
            for w in syllabus.weeks() for p in w.lessons]
    home = ['```sh', f"pip install '{notebooks.package(ini)}'", 'jupyter lab lessons', '```']
    begin = [f"# {ini['title']}: a course", '', 'Begin with the [syllabus](syllabus.md). At home:', '', *home, '']
    return '\n'.join([*begin, '| lesson | open it in | its exercises in |', '|---|---|---|', *rows, ''])


def write_frame(students, ini, made) -> None:
    "What surrounds the lessons: pictures, glossary, Binder, first page"
    shutil.copytree(NBS/'images', students/'lessons/images')
    for name in ('glossary.md', 'symbols.md'): shutil.copy(NBS/name, students/'lessons')
    (students/'slides/assets').mkdir(parents=True, exist_ok=True)
    shutil.copy(mathjax(), students/'slides/assets/mathjax.js')
    (students/'binder').mkdir(parents=True)
    (students/'binder/requirements.txt').write_text(f'{notebooks.package(ini)}\notter-grader>=6.1\n')
    (students/'binder/runtime.txt').write_text('python-3.11\n')
    (students/'README.md').write_text(open_here(ini, made), encoding='utf-8')


def make(course=COURSE, only=None) -> list:
    "The whole course; the names of its assignments"
    ini, start = notebooks.settings(), time.monotonic()
    students, teachers, made = course/'students', course/'teachers', []
    shutil.rmtree(course, ignore_errors=True)
    with tempfile.TemporaryDirectory() as masters:
        for path in notebooks.lessons():
            notebooks.write_lesson(path, students, teachers, ini)
            if only is not None and path.stem not in only: continue
            if assignments.write_assignment(path, Path(masters), students/'assignments', teachers/'assignments', ini):
                made.append(path.stem)
    for path in {p for w in syllabus.weeks() for p in w.lessons}: slides.write(path, students/'slides')
    write_frame(students, ini, made)
    shutil.copytree(students/'lessons/images', teachers/'lessons/images')
    for name in ('glossary.md', 'symbols.md'): shutil.copy(NBS/name, teachers/'lessons')
    syllabus.write(students, teachers)
    (course/'README.md').write_text(README.format(**ini), encoding='utf-8')
    print(f'{course}: {len(notebooks.lessons())} notebooks, {len(made)} assignments, {len(syllabus.weeks())} weeks, '
          f'{time.monotonic() - start:.0f} s')
    if '/example/' in ini['git_url']: print('git_url in settings.ini is still the example: links to Colab and Binder '
                                            'lead nowhere until it is filled in')
    return made


def chosen(zips, names) -> list:
    "The autograders of the lessons named by number or in full; of all lessons where none is named"
    lost = [n for n in names if not any(z.stem == n or z.stem.startswith(f'{n}_') for z in zips)]
    if lost: raise SystemExit(f"no assignment of {', '.join(lost)}")
    return [z for z in zips if not names or any(z.stem == n or z.stem.startswith(f'{n}_') for n in names)]


def check(names=(), course=COURSE) -> int:
    "Assignments, graded by otter: the teacher's notebook all points, the untouched one none, and it runs"
    wrong = 0
    for zipped in chosen(sorted((course/'teachers/assignments').glob('*.zip')), names):
        start = time.monotonic()
        made = [course/f'{who}/assignments/{zipped.stem}.ipynb' for who in ('teachers', 'students')]
        shares = [assignments.grade(zipped, m) for m in made]
        failed = assignments.failure(made[1])
        fine = shares == [1, 0] and not failed
        wrong += not fine
        said = f'{zipped.stem}: teacher {shares[0]:.0%}, untouched {shares[1]:.0%}, {time.monotonic() - start:.0f} s'
        print(said if fine else f'{said}: WRONG {failed}'.rstrip(), flush=True)
    return int(wrong > 0)


if __name__ == '__main__':
    if sys.argv[1:2] == ['check']: sys.exit(check(sys.argv[2:]))
    make()
