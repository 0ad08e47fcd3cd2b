"""The library's reference: a page a module, made from signatures, docstrings and docments."""
import ast
import importlib
import inspect
import re
from pathlib import Path

from fastcore.docments import docments

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


def arguments(thing) -> list:
    "Rows of a table: each argument, its type, its default, its comment; what comes back"
    rows = []
    for name, doc in docments(thing, full=True, returns=True).items():
        if name in ('self', 'cls') or name == 'return' and not (doc['docment'] or doc['anno']): continue
        if name == 'return' and doc['anno'] in (None, inspect.Parameter.empty) and not doc['docment']: continue
        default = '' if doc['default'] in (inspect.Parameter.empty, None) and name == 'return' else doc['default']
        default = '' if default is inspect.Parameter.empty else f'`{cell(repr(default)[:60])}`' if name != 'return' else ''
        rows.append(f"| {'*returns*' if name == 'return' else f'`{name}`'} | {cell(kind(doc['anno']))} | {default} | "
                    f"{cell(doc['docment'] or '')} |")
    return ['| argument | type | default | what |', '|---|---|---|---|', *rows, ''] if rows else []


def signature(name, thing) -> str:
    "How it is called, in one line"
    try: found = inspect.signature(thing)
    except (TypeError, ValueError): return f'{name}(…)'
    names = [('*' * p.kind.value.__eq__(2) or '**' * p.kind.value.__eq__(4)) + p.name for p in found.parameters.values()]
    return f"{name}({', '.join(n for n in names if n not in ('self', 'cls'))})"


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
    lines = [f'# {dotted}', '', cell(module.__doc__ or ''), '', f'Its lesson: [{notebook}](../{notebook.removesuffix("ipynb")}md).', '']
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
