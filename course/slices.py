"""The cells that one cell needs: a slice of a lesson by the names that its cells read, give and change.

A widget in a lesson of a hundred cells needs about a dozen of them. The browser tests, the assignments and the
teacher's demos run only those.
"""
import ast
import builtins
import re
import symtable
from dataclasses import dataclass

from docs.notebooks import DIRECTIVE, text

WIDGETS = {'live', 'touch', 'controls'}          # calls that show something to touch
BUILTINS = set(dir(builtins)) | {'__name__', '__file__', '__doc__'}
COMPREHENSIONS = {'genexpr', 'listcomp', 'setcomp', 'dictcomp'}     # functions to Python, called at once
SKIPPED = {'gpu', 'slow', 'default_exp'}


@dataclass(frozen=True)
class Names:
    "What a cell of code does with names at the level of the notebook"
    needs: frozenset = frozenset()               # read while it runs, and not given before by the cell itself
    later: frozenset = frozenset()               # read by its functions when they are called
    gives: frozenset = frozenset()               # bound: assigned, imported, defined
    changes: frozenset = frozenset()             # an attribute or item is set, or a method called for its effect
    modules: frozenset = frozenset()             # of those given, the imported ones


def _free(source) -> tuple:
    "Names that a statement reads from the notebook: while it runs, and when a function made in it is called"
    now, later = set(), set()

    def visit(table, called):
        outside = table.get_type() == 'module'
        found = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (outside or s.is_global())}
        (later if called else now).update(found)
        for child in table.get_children():
            visit(child, called or child.get_type() == 'function' and child.get_name() not in COMPREHENSIONS)

    visit(symtable.symtable(source, 'cell', 'exec'), False)
    added = [n.target for n in ast.parse(source).body if isinstance(n, ast.AugAssign)]
    return (now | {t.id for t in added if isinstance(t, ast.Name)}) - BUILTINS, later - BUILTINS


def _bound(statement) -> set:
    "Names that a statement gives to the notebook"
    table = symtable.symtable(ast.unparse(statement), 'cell', 'exec')
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}


def _root(node):
    "The name that a chain of attributes, items and calls begins with"
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _outside(node):
    "The nodes of a statement that run with it: not those inside functions and classes"
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from _outside(child)


def _changed(statement) -> set:
    "Names whose content a statement changes"
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)): return set()
    found = set()
    for node in _outside(statement):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            found.add(_root(node))
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if called and isinstance(node.value.func, ast.Attribute): found.add(_root(node.value))
    return found - {None}


BLOCKS = ast.For, ast.While, ast.If, ast.With, ast.Try


def _statements(body):
    "The statements of a cell in the order in which they run; of a block its head, then what is inside"
    for statement in body:
        if not isinstance(statement, BLOCKS):
            yield statement
            continue
        head = [ast.Assign([i.optional_vars], i.context_expr) if i.optional_vars else ast.Expr(i.context_expr)
                for i in getattr(statement, 'items', [])]
        if isinstance(statement, ast.For): head = [ast.Assign([statement.target], statement.iter)]
        if isinstance(statement, (ast.If, ast.While)): head = [ast.Expr(statement.test)]
        yield from map(ast.fix_missing_locations, head)
        yield from _statements(statement.body)
        for handler in getattr(statement, 'handlers', []):
            if handler.name: yield ast.parse(f'{handler.name} = Exception').body[0]
            yield from _statements(handler.body)
        yield from _statements([*getattr(statement, 'orelse', []), *getattr(statement, 'finalbody', [])])


def names(source) -> Names:
    "What a cell reads, gives and changes"
    needs, later, gives, changes, modules = set(), set(), set(), set(), set()
    for statement in _statements(ast.parse(source).body):
        now, called = _free(ast.unparse(statement))
        own = {n.target.id for n in _outside(statement) if isinstance(n, ast.NamedExpr)}
        needs |= now - gives - own
        later |= called
        gives |= _bound(statement) | own
        changes |= _changed(statement)
        if isinstance(statement, (ast.Import, ast.ImportFrom)): modules |= _bound(statement)
    return Names(*map(frozenset, (needs, later - gives, gives, changes - modules, modules)))


def statements(source) -> list:
    "The source of each statement, as it is written where it has its lines to itself"
    lines, body, found = source.split('\n'), ast.parse(source).body, []
    first = [min([s.lineno, *(d.lineno for d in getattr(s, 'decorator_list', []))]) for s in body]
    for k, s in enumerate(body):
        shared = k and body[k - 1].end_lineno >= first[k] or first[k + 1:k + 2] == [s.end_lineno]
        found.append(ast.unparse(s) if shared else '\n'.join(lines[first[k] - 1:s.end_lineno]))
    return found


def is_plumbing(source) -> bool:
    "Whether code only imports, and sets what it imports: `plt.rcParams['figure.dpi'] = 72`"
    sets = lambda s: isinstance(s, ast.Assign) and all(isinstance(t, (ast.Attribute, ast.Subscript)) for t in s.targets)
    body = ast.parse(source).body
    return bool(body) and all(isinstance(s, (ast.Import, ast.ImportFrom)) or sets(s) for s in body)


def code_of(cell) -> str:
    "A cell's code without directives; empty for other cells and for what is hidden, if it is more than plumbing"
    if cell['cell_type'] != 'code': return ''
    source = text(cell['source'])
    words, code = set(DIRECTIVE.findall(source)), DIRECTIVE.sub('', source).strip('\n')
    if words & SKIPPED or re.search(r'^#\|\s*eval:\s*false', source, re.M): return ''
    return '' if 'hide' in words and not is_plumbing(code) else code


def _calls(node) -> set:
    "Names of the functions and methods that are called in a node"
    calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, 'id', None) for f in calls}


def is_widget(cell) -> bool:
    "Whether a cell ends in something to touch: `.live(…)`, `touch(…)`, `controls(…)`, or a name given to one"
    source = code_of(cell)
    body = ast.parse(source).body if source else []
    if not body or not isinstance(body[-1], ast.Expr): return False
    if _calls(body[-1]) & WIDGETS: return True
    shown = {n.id for n in ast.walk(body[-1]) if isinstance(n, ast.Name)}
    return any(_calls(s) & WIDGETS and _bound(s) & shown for s in body[:-1])


def tagged(cell, tag) -> bool:
    "Whether a cell has a tag"
    return tag in cell['metadata'].get('tags', [])


def needed(cells, wanted, more='', stop=()) -> list:
    """Numbers of the cells that have to run, in order, so that the wanted ones do, and perhaps more code below them.

    Of the cells before a reader, the last that gives a name counts, and those after it that change what it names. A
    cell that trains, draws or asserts is left out unless something needs a name from it. Solutions and answers give
    nothing. Cells at which to stop are taken without what they need themselves.
    """
    kept = lambda i, c: i in wanted or not (tagged(c, 'solution') or tagged(c, 'answer'))
    known = [names(code_of(c)) if kept(i, c) else Names() for i, c in enumerate(cells)] + [names(more)]
    imported, taken, queue = set().union(*(k.modules for k in known)), set(), [*wanted, len(cells)]
    while queue:
        reader = queue.pop()
        if reader in taken: continue
        taken.add(reader)
        own = known[reader]
        for name in own.needs | own.later | (own.changes - own.gives) if reader not in stop else ():
            found = _givers(known, reader, name, imported)
            if not found and name in own.later:                      # a function defined below the one that calls it
                found = [i for i in range(reader + 1, max(wanted) + 1) if name in known[i].gives][:1]
            queue += found
    return sorted(taken - {len(cells)})


def _givers(known, reader, name, imported) -> list:
    "Of the cells before a reader, those that give it a name's value: nothing, if none gives the name"
    found = []
    for i in reversed(range(reader)):
        if name in known[i].gives: return [*found, i]
        if name in known[i].changes and name not in imported: found.append(i)
    return []


def unmet(cells, taken) -> dict:
    "Number of a cell → names that it reads and none of the taken cells gives"
    read = {i: names(code_of(cells[i])) for i in taken}
    given, found, all_given = set(), {}, set().union(*(n.gives for n in read.values()))
    for i, own in read.items():
        if lost := (own.needs - given) | (own.later - all_given): found[i] = sorted(lost)
        given |= own.gives
    return found


def answers_read(cells) -> dict:
    """Number of a cell → answers that it reads, which are empty until a student gives them

    A name of the lesson's own may be given again as an answer, if only cells above the answer read it.
    """
    read = [names(code_of(c)) for c in cells]
    asked = {name: i for i, c in enumerate(cells) if tagged(c, 'answer') for name in read[i].gives}
    found = {}
    for i, own in enumerate(read):
        empty = {n for n, at in asked.items() if n in own.later or n in own.needs and i > at}
        if empty and not tagged(cells[i], 'answer'): found[i] = sorted(empty)
    return found


def widgets(cells) -> list:
    "Numbers of the cells that end in something to touch"
    return [i for i, c in enumerate(cells) if is_widget(c) and not tagged(c, 'solution')]
