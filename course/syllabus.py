"""The weeks: goals, lessons, minutes, reading, quiz. `python -m course.syllabus --write` puts their table on the site.

A week is a file in `course/weeks`: what changes there changes syllabus, quizzes and the site's page.
"""
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from course import assignments, slices
from docs.notebooks import NBS, ROOT, read, text, title_of

WEEKS = ROOT/'course/weeks'
PAGE = ROOT/'docs/pages/course.md'
TABLE = re.compile(r'(<!-- weeks: python -m course\.syllabus --write -->\n).*?(<!-- /weeks -->)', re.S)
MINUTES = re.compile(r'(?:\*Measured: |\b[Aa]bout )(?:about )?((?:less than )?an?|\w+) minutes?\b')
COUNT = dict(zip('a one two three four five six seven eight nine ten'.split(), (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)))
NUMBERS = dict(zip(range(10, 21), 'ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen '
                                  'twenty'.split()))
READ, CODE, DERIVE = 200, .75, 15                # words a minute, minutes a cell of code, minutes a question
TERM = 1, 2, 4, 6, 7, 9, 10, 11, 13, 14, 16, 19  # of these a term of twelve weeks is made


@dataclass(frozen=True)
class Week:
    "One week of the course"
    number:int
    title:str
    question:str
    part:str
    lessons:tuple                                # paths of notebooks
    after:tuple                                  # weeks that come before
    goals:tuple
    reading:tuple
    quiz:tuple                                   # of (question, answer)


def week(path) -> Week:
    "A week from its file"
    head, *parts = re.split(r'^## ', path.read_text(encoding='utf-8'), flags=re.M)
    title, question = re.match(r'# (.*)\n> (.*)', head).groups()
    said = dict(re.findall(r'^(\w+): (.*)$', head, re.M))
    below = {p.split('\n', 1)[0]: p.split('\n', 1)[1] for p in parts}
    listed = lambda name: tuple(l.removeprefix('- ') for l in below[name].strip().split('\n'))
    quiz = re.findall(r'^\d+\. (.*)\n +\*\*Answer\.\*\* (.*)$', below['Quiz'], re.M)
    after = tuple(map(int, re.findall(r'\d+', said['after'])))
    return Week(int(path.stem[:2]), title, question, said['part'],
                tuple(NBS/f'{n}.ipynb' for n in said['lessons'].split(', ')), after, listed('Goals'),
                listed('Reading'), tuple(quiz))


def weeks() -> list:
    "All weeks in order"
    return [week(p) for p in sorted(WEEKS.glob('*.md'))]


def running_minutes(cells) -> int | None:
    "What a run of a lesson takes: the measured line at its top, else what it says itself; None where it says nothing"
    words = '\n'.join(text(c['source']) for c in cells[:8] if c['cell_type'] == 'markdown')
    found = sorted(MINUTES.finditer(words), key=lambda m: 'Measured' not in m[0])
    if not found: return None
    said = found[0][1].split()[-1].lower()
    return int(said) if said.isdigit() else COUNT['a' if said == 'an' else said] if said in COUNT else None


def study_minutes(cells) -> int:
    "Time to work through a lesson, estimated: its words, its cells, its questions"
    words = sum(len(text(c['source']).split()) for c in cells if c['cell_type'] == 'markdown')
    code = sum(bool(slices.code_of(c)) for c in cells)
    asked = '\n'.join(text(c['source']) for c in cells if c['cell_type'] == 'markdown').split('## Exercises')[-1]
    questions = len(re.findall(r'\*(?:Change|Derive)\b', asked, re.I))
    return round((words / READ + code * CODE + questions * DERIVE) / 15) * 15


def hours(minutes) -> str:
    "Minutes in words"
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02} min'


def link(path, root) -> str:
    "A link to a lesson"
    return f'[{title_of(path)[0]}]({root}{path.relative_to(NBS).as_posix()})'


def table(found, root='') -> str:
    "The weeks as a table: number, lessons, question"
    rows = [f"| {w.number} | {', '.join(link(p, root) for p in w.lessons)} | {w.question} |" for w in found]
    return '\n'.join(['| week | lessons | question |', '|---|---|---|', *rows])


def one(w, root) -> str:
    "A week in full"
    lines = [f'### {w.number}. {w.title}', '', f'*{w.question}*', '']
    if w.after: lines += [f"Comes after: {', '.join(f'week {n}' for n in w.after)}.", '']
    lines += ['Goals:', '', *(f'- {g}' for g in w.goals), '', '| lesson | runs | takes | graded exercises |',
              '|---|---|---|---|']
    total = 0
    for path in w.lessons:
        cells = read(path)
        ran, takes = running_minutes(cells), study_minutes(cells)
        total += takes
        asked = ', '.join(f'`{e.name}`' for e in assignments.exercises(cells)) or '–'
        lines.append(f"| {link(path, root)} | {f'{ran} min' if ran else '–'} | {hours(takes)} | {asked} |")
    reading = ['Reading:', '', *(f'- {r}' for r in w.reading), '']
    quiz = f'[Quiz of week {w.number}](quizzes/week_{w.number:02}.md), {len(w.quiz)} questions, ten minutes.'
    return '\n'.join([*lines, '', f'Together about {hours(total)}.', '', *reading, quiz, ''])


def number(n) -> str:
    "A number as a word"
    return NUMBERS.get(n, str(n))


def intro(found) -> str:
    "How long the course is, and how it fits a shorter term"
    left = ', '.join(str(w.number) for w in found if w.number not in TERM)
    return (f'{number(len(found)).capitalize()} weeks, at most two methods a week. '
            f"A term of {number(len(TERM))} weeks takes weeks {', '.join(map(str, TERM))}; "
            f'weeks {left} are then further reading.')


ABOUT = f"""*Runs*: minutes on a small machine, measured where the lesson has been measured.
*Takes*: an estimate, {READ} words or {1 / CODE:.2g} cells of code a minute, {DERIVE} minutes for each question to
change or derive; a question to write takes about an hour more, an open one a week.

Pages of the thesis are its printed ones (S. Sameni, *Efficient Self-Supervised Visual Representation Learning via
Sparsity*, Bern, 2024); other papers are cited by section, with pages where the edition at hand shows them.

Words: [glossary](lessons/glossary.md). Letters: [symbols](lessons/symbols.md)."""


def syllabus(found, root='lessons/') -> str:
    "The whole syllabus"
    lines = ['# Syllabus', '', intro(found), '', table(found, root), '', ABOUT, '']
    part = None
    for w in found:
        if w.part != part: lines += [f'## {w.part}', '']
        part = w.part
        lines.append(one(w, root))
    return '\n'.join(lines)


def quiz(w) -> str:
    "The questions of a week"
    return '\n'.join([f'# Quiz {w.number}: {w.title}', '', *(f'{k}. {q}' for k, (q, _) in enumerate(w.quiz, 1)), ''])


def answers(w) -> str:
    "Its questions with answers"
    rows = [f'{k}. {q}\n\n   **Answer.** {a}\n' for k, (q, a) in enumerate(w.quiz, 1)]
    return '\n'.join([f'# Quiz {w.number}: {w.title}, with answers', '', *rows])


def page(found) -> str:
    "The site's page of the course with the table as it should be"
    return TABLE.sub(lambda m: f'{m[1]}\n{intro(found)}\n\n{table(found)}\n\n{m[2]}', PAGE.read_text(encoding='utf-8'))


def write(students, teachers) -> None:
    "Syllabus and quizzes, answers apart"
    found = weeks()
    for folder in (students/'quizzes', teachers/'quizzes'): folder.mkdir(parents=True, exist_ok=True)
    (students/'syllabus.md').write_text(syllabus(found), encoding='utf-8')
    for w in found:
        (students/f'quizzes/week_{w.number:02}.md').write_text(quiz(w), encoding='utf-8')
        (teachers/f'quizzes/week_{w.number:02}_answers.md').write_text(answers(w), encoding='utf-8')


def main() -> int:
    "Whether the site's page is as it should be; with --write it is made so"
    words = page(weeks())
    if '--write' in sys.argv: PAGE.write_text(words, encoding='utf-8')
    elif words != PAGE.read_text(encoding='utf-8'): print(f'{Path(PAGE).name}: run python -m course.syllabus --write')
    return int(words != PAGE.read_text(encoding='utf-8'))


if __name__ == '__main__': sys.exit(main())
