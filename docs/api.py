"""The library's reference: a page a module, made from signatures, docstrings and docments."""
import ast
import importlib
import inspect
import re
from pathlib import Path

from fastcore.docments import docments

from docs.notebooks import NBS, title_of

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT/'ssl_workbench'
SOURCE = re.compile(r'File to edit: (?:\.\./)+nbs/(\S+\.ipynb)')


def modules() -> list:
    "(dotted name, notebook it comes from) of every exported module"
    found = []
    for path in sorted(LIB.rglob('*.py')):
        source = SOURCE.search(path.read_text(encoding='utf-8'))
        if not source: continue
        parts = path.relative_to(ROOT).with_suffix('').parts
        found.append(('.'.join(parts[:-1] if parts[-1] == '__init__' else parts), source[1]))
    return found


def cell(words) -> str:
    "Text that fits a cell of a table"
    return ' '.join(str(words).split()).replace('|', '\\|').replace('<', '&lt;')


def kind(annotation) -> str:
    "A type as one would write it"
    if annotation in (inspect.Parameter.empty, None): return ''
    return f"`{getattr(annotation, '__name__', str(annotation))}`"


def row(name, doc) -> str:
    "An argument, its type, its default and its comment as a row; nothing for a return that nobody describes"
    empty = (inspect.Parameter.empty, None)
    if name == 'return':
        described = doc['docment'] or doc['anno'] not in empty
        return f"| *returns* | {cell(kind(doc['anno']))} |  | {cell(doc['docment'] or '')} |" if described else ''
    default = '' if doc['default'] is inspect.Parameter.empty else f"`{cell(repr(doc['default'])[:60])}`"
    return f"| `{name}` | {cell(kind(doc['anno']))} | {default} | {cell(doc['docment'] or '')} |"


def arguments(thing) -> list:
    "A table of its arguments and of what comes back"
    found = docments(thing, full=True, returns=True).items()
    rows = [r for r in (row(n, d) for n, d in found if n not in ('self', 'cls')) if r]
    return ['| argument | type | default | what |', '|---|---|---|---|', *rows, ''] if rows else []


STARS = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}


def signature(name, thing) -> str:
    "How it is called, in one line"
    try: found = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError): return f'{name}(…)'
    names = [STARS.get(p.kind, '') + p.name for p in found if p.name not in ('self', 'cls')]
    return f"{name}({', '.join(names)})"


def methods(cls) -> list:
    "Public methods of a class that it defines itself"
    own = [(n, f) for n, f in vars(cls).items() if inspect.isfunction(f) and not n.startswith('_') and f.__doc__]
    return [f"- `{signature(n, f)}`: {cell(f.__doc__)}" for n, f in own] + [''] * bool(own)


def entry(name, thing) -> list:
    "One function or class"
    lines = [f'## {name}', '', f'```python\n{signature(name, thing)}\n```', '']
    doc = thing.__doc__ or ''
    lines += [] if doc.startswith(f'{name}(') else [cell(doc), '']
    try: lines += arguments(thing)
    except (TypeError, ValueError, SyntaxError): pass
    return lines + (methods(thing) if inspect.isclass(thing) else [])


def values(module, names) -> list:
    "Exported values: presets, constants"
    found = [(n, getattr(module, n)) for n in names]
    rows = [f'| `{n}` | `{cell(repr(v)[:90])}` |' for n, v in found if ' at 0x' not in repr(v)]
    return ['## Values', '', '| name | value |', '|---|---|', *rows, ''] if rows else []


def exported(module) -> list:
    "Names that the module exports, in the order of its file"
    tree = ast.parse(Path(module.__file__).read_text(encoding='utf-8'))
    defined = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    names = [n for n in getattr(module, '__all__', []) if hasattr(module, n)]
    return sorted(names, key=lambda n: defined.index(n) if n in defined else len(defined))


def page(dotted, notebook) -> str:
    "The page of a module"
    module = importlib.import_module(dotted)
    things = [(n, getattr(module, n)) for n in exported(module)]
    real = [(n, t) for n, t in things if inspect.isclass(t) or inspect.isfunction(t)]
    here = [(n, t) for n, t in real if t.__module__ == dotted]
    there = [(n, t) for n, t in real if t.__module__ != dotted and t.__module__.startswith('ssl_workbench')]
    lesson = f'Lesson: [{title_of(NBS/notebook)[0]}](../{notebook.removesuffix("ipynb")}md).'
    lines = [f'# {dotted}', '', cell(module.__doc__ or ''), '', lesson, '']
    for name, thing in here: lines += entry(name, thing)
    if there:
        lines += ['## From its parts', '', '| name | from |', '|---|---|']
        lines += [f'| `{n}` | [{t.__module__}]({t.__module__}.md) |' for n, t in there] + ['']
    return '\n'.join(lines + values(module, [n for n, t in things if (n, t) not in real]))


def write(folder) -> list:
    "All pages and their index; returns the entries of the navigation"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ['# Reference', '', 'Every exported name, from the comments in its own source. '
             'Each page leads back to the lesson that makes it.', '', '| module | what |', '|---|---|']
    nav = ['api/index.md']
    for dotted, notebook in modules():
        words = page(dotted, notebook)
        (folder/f'{dotted}.md').write_text(words, encoding='utf-8')
        lines.append(f"| [{dotted}]({dotted}.md) | {cell(words.splitlines()[2])} |")
        nav.append({dotted.removeprefix('ssl_workbench.'): f'api/{dotted}.md'})
    (folder/'index.md').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return nav
