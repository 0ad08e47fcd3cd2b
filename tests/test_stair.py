"""The stair: modules import only from lower notebooks, by whatever trick an import is written.

The number of a notebook, with its letter, is the rank of the module that it exports (`09b` above `09a`, whatever the
folder). Every way to name a module counts: absolute, relative and lazy imports, faces of packages, attributes of an
imported package, `import_module` and `__import__`, a string that holds the dotted name. A name that is put together
while the program runs is allowed in two modules: the catalog turns rows into modules, the shell finds its pages.
"""
import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = 'ssl_workbench'
COMPUTES = {f'{PACKAGE}.catalog', f'{PACKAGE}.app.shell'}
OUTSIDE = ('apps', 'benchmarks', 'tests')
MACHINERY = {'importlib', 'pkgutil', 'runpy', 'imp', 'zipimport', 'builtins', 'sys.modules'}
HARMLESS = {'importlib.resources', 'importlib.metadata'}        # they read files, no module of ours
RUNS_TEXT = {'exec', 'eval', 'compile', '__import__', '__builtins__'}
DOTTED = re.compile(rf'(?<![\w.]){PACKAGE}(?:\.\w+)+')


# ---- modules and their ranks

def dotted(path, root):
    "ssl_workbench/world/__init__.py as ssl_workbench.world"
    parts = path.relative_to(root).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def rank_of(notebook):
    "`09b_probes.ipynb` as (9, 'b')"
    number = re.match(r'(\d+)([a-z]*)_', Path(notebook).name)
    assert number, f'{notebook}: a notebook that exports begins with its number, as 09b_'
    return int(number[1]), number[2]


def modules_of(root):
    "Module → (file, rank) of everything that a notebook exports; the rest may hold no code but the version"
    found = {}
    for path in sorted((root/PACKAGE).rglob('*.py')):
        if path.name == '_modidx.py': continue
        text = path.read_text(encoding='utf-8')
        source = re.search(r'File to edit: (\S+\.ipynb)\.', text)
        if source: found[dotted(path, root)] = path, rank_of(source[1])
        else: assert not re.search(r'\bimport\b', text), f'{path.relative_to(root)} imports and comes from no notebook'
    return found


# ---- what a file names

class References(ast.NodeVisitor):
    "Collects the dotted names that a module refers to, and the lines where a name is computed"

    def __init__(self, me, is_face, known):
        self.package = me if is_face else me.rpartition('.')[0]
        self.known = known
        self.names, self.computed = set(), []
        self.bound = {}                       # local name → dotted name of a module or of the import machinery

    def read(self, tree):
        "Imports first: a function may use what is imported below it"
        for node in ast.walk(tree):
            if isinstance(node, ast.Import): self.bind_import(node)
            if isinstance(node, ast.ImportFrom): self.bind_from(node)
        self.visit(tree)

    def compute(self, node, why): self.computed.append(f'line {node.lineno}: {why}')

    def absolute(self, level, module):
        "The module that `from ..module import` means"
        home = self.package.split('.')
        home = home[:len(home) + 1 - level] if level else []
        return '.'.join([*home, *([module] if module else [])])

    def bind_import(self, node):
        for a in node.names:
            self.names.add(a.name)
            self.bound[a.asname or a.name.split('.')[0]] = a.name if a.asname else a.name.split('.')[0]

    def bind_from(self, node):
        base = self.absolute(node.level, node.module)
        for a in node.names:
            if a.name == '*': self.compute(node, 'a star import')
            full = f'{base}.{a.name}'
            self.names.add(full if full in self.known else base)
            self.bound[a.asname or a.name] = full

    def full(self, node):
        "The dotted name that a chain of attributes stands for, '' where it starts from something else"
        if isinstance(node, ast.Name): return self.bound.get(node.id, '')
        base = self.full(node.value) if isinstance(node, ast.Attribute) else ''
        return f'{base}.{node.attr}' if base else ''

    def refer(self, node, name):
        "What an expression refers to that is bound to a module"
        within = lambda homes: any((name + '.').startswith(h + '.') for h in homes)
        if within({PACKAGE}): self.names.add(name)
        if within(MACHINERY) and not within(HARMLESS): self.compute(node, name)
        if name not in self.known and any(k.startswith(name + '.') for k in self.known):
            self.compute(node, f'the package {name} is handed around')

    def visit_Attribute(self, node):
        if name := self.full(node): self.refer(node, name)
        else: self.generic_visit(node)

    def visit_Name(self, node):
        if node.id in RUNS_TEXT: self.compute(node, node.id)
        if name := self.bound.get(node.id): self.refer(node, name)

    def visit_Call(self, node):
        "An import by a literal string counts as an import; by anything else as a computed one"
        name = self.full(node.func) or getattr(node.func, 'id', '')
        literal = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if name not in ('__import__', 'importlib.import_module') or not isinstance(literal, str):
            return self.generic_visit(node)
        module = literal.lstrip('.')
        self.names.add(self.absolute(len(literal) - len(module), module))
        for part in [*node.args[1:], *(k.value for k in node.keywords)]: self.visit(part)

    def visit_Expr(self, node):
        "Docstrings and other bare strings are prose"
        if not isinstance(node.value, ast.Constant): self.generic_visit(node)

    def visit_Constant(self, node):
        if not isinstance(node.value, str): return
        self.names |= set(DOTTED.findall(node.value))
        if re.search(rf'(?<![\w.]){PACKAGE}(\.\w+)*\.$', node.value): self.compute(node, repr(node.value))
        if re.fullmatch(rf'({"|".join(OUTSIDE)})(\.\w+)+', node.value): self.names.add(node.value)

    def visit_JoinedStr(self, node):
        "An f-string whose dotted name goes on with a value"
        for part, after in zip(node.values, [*node.values[1:], None]):
            text = part.value if isinstance(part, ast.Constant) else ''
            if isinstance(after, ast.FormattedValue) and re.search(rf'(?<![\w.]){PACKAGE}[\w.]*$', text):
                self.compute(node, ast.unparse(node))
            self.visit(part)


def references(text, me, is_face, known):
    "(modules of ours that a file refers to, programs outside the library, computed names)"
    reader = References(me, is_face, known)
    reader.read(ast.parse(text))
    found = set()
    for parts in (n.split('.') for n in reader.names):
        prefixes = ['.'.join(parts[:n]) for n in range(1, len(parts) + 1)]
        there = [p for p in prefixes if p in known]
        found |= set(there[-1:]) | {face for face in there[:-1] if not me.startswith(face + '.')}
    return found - {me}, {n for n in reader.names if n.split('.')[0] in OUTSIDE}, reader.computed


# ---- the rules

def owner(module):
    "methods.river of ssl_workbench.methods.river.sampling; the first part elsewhere"
    parts = module.split('.')
    return '.'.join(parts[1:3] if parts[1] in ('methods', 'classics') else parts[1:2])


def read(root):
    "module → (rank, modules that it refers to, programs outside, computed names)"
    known = modules_of(root)
    return {me: (rank, *references(path.read_text(encoding='utf-8'), me, path.name == '__init__.py', known))
            for me, (path, rank) in known.items()}


def circle(edges):
    "The nodes of one circle, [] where there is none"
    state, path = {}, []

    def visit(node):
        state[node] = 'open'
        path.append(node)
        for after in sorted(edges.get(node, ())):
            if state.get(after) == 'open': return path[path.index(after):] + [after]
            if after not in state and (found := visit(after)): return found
        state[node] = 'done'
        path.pop()
        return []

    for node in sorted(edges):
        if node not in state and (found := visit(node)): return found
    return []


def violations(root):
    "A sentence for every rule of the stair that is broken"
    found = read(root)
    for me, (rank, others, outside, computed) in found.items():
        for other in sorted(others):
            if found[other][0] >= rank: yield f'{me} {rank} refers to {other} {found[other][0]}'
            below = owner(me).startswith(('methods.', 'classics.'))
            if below and owner(other).startswith('methods.') and owner(me) != owner(other):
                yield f'{me} refers to the method {other}'
        yield from (f'{me} refers to {n}' for n in sorted(outside))
        if me not in COMPUTES: yield from (f'{me} computes a name of a module, {c}' for c in computed)
    edges, between = {me: row[1] for me, row in found.items()}, defaultdict(set)
    for me, others in edges.items(): between[owner(me)] |= {owner(o) for o in others} - {owner(me)}
    for what, graph in (('modules', edges), ('packages', between)):
        if ring := circle(graph): yield f"import circle of {what}: {' → '.join(ring)}"


def test_the_stair_is_held():
    "Nothing in the library breaks a rule"
    assert list(violations(ROOT)) == []


def test_every_module_is_seen():
    "The reader knows the modules of the library, and sees what some of them import"
    found = {me.removeprefix(f'{PACKAGE}.'): row[1] for me, row in read(ROOT).items()}
    assert len(found) > 25 and {'core', 'learner', 'catalog', 'training', 'cli', 'methods.slotmim'} <= found.keys()
    assert f'{PACKAGE}.losses' in found['learner'] and f'{PACKAGE}.training' in found['cli']
    assert sum(map(len, found.values())) > 100


# ---- the test of the test

HOUSE = {
    'core': '00_core', 'world/textures': 'world/01a_textures', 'world/scenes': 'world/01b_scenes',
    'world/__init__': 'world/01c_world', 'probes': '09_probes', 'classics/simclr': 'classics/12_simclr',
    'methods/loca': 'methods/21_loca', 'methods/slotmim': 'methods/22_slotmim',
    'methods/river/sampling': 'methods/27a_sampling', 'methods/river/refiner': 'methods/27b_refiner',
    'methods/river/__init__': 'methods/27c_river', 'catalog': '29_catalog', 'app/models': 'app/40_models',
    'app/shell': 'app/49_shell', 'hub': '60_hub'}


def house(root, texts=()):
    "What is wrong with a little library in which some modules hold these lines"
    texts = dict(texts)
    assert texts.keys() <= HOUSE.keys()
    for name, notebook in HOUSE.items():
        path = root/PACKAGE/f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        header = f'"Prose may name ssl_workbench.hub."\n# File to edit: ../nbs/{notebook}.ipynb.\n'
        path.write_text(header + texts.get(name, '') + '\n')
    for folder in ('methods', 'classics', 'app'): (root/PACKAGE/folder/'__init__.py').touch()
    (root/PACKAGE/'__init__.py').write_text('__version__ = "1"\n')
    return list(violations(root))


UPWARDS = [
    'import ssl_workbench.hub', 'import ssl_workbench.hub as x', 'from ssl_workbench import hub', 'from . import hub',
    'from ssl_workbench.hub import launch', 'from .hub import launch', 'def f():\n    from .hub import launch',
    'def f():\n    import ssl_workbench.hub', 'import ssl_workbench.core\nssl_workbench.hub.launch()',
    'import ssl_workbench.core as c, ssl_workbench\ndef f(): return ssl_workbench.hub.launch',
    'import importlib\nimportlib.import_module("ssl_workbench.hub")', '__import__("ssl_workbench.hub")',
    'from importlib import import_module\nimport_module(".hub", "ssl_workbench")',
    'from importlib import import_module as get\nget("ssl_workbench.hub")',
    'import importlib as i\ni.import_module(".hub", __package__)', 'import sys\nsys.modules["ssl_workbench.hub"]',
    'NAME = "ssl_workbench.hub"', 'TEXT = "-m ssl_workbench.hub --port 1"', 'f"{1} ssl_workbench.hub"',
    'def f(x="ssl_workbench.hub"): pass', 'x: "ssl_workbench.hub.Page" = None']


@pytest.mark.parametrize('code', UPWARDS)
def test_a_look_upwards_is_seen(code, tmp_path):
    "Every way to name a module higher up the stair"
    assert any('probes (9, \'\') refers to ssl_workbench.hub' in v for v in house(tmp_path, {'probes': code}))


COMPUTED = [
    'import importlib\nn = "hub"\nimportlib.import_module(n)',
    'import importlib\nimportlib.import_module("ssl_workbench" + ".hub")',
    'import importlib\nn = 1\nimportlib.import_module(f"ssl_workbench.{n}")',
    '__import__("ssl_" + "workbench.hub")', 'f = __import__', 'import importlib\nf = importlib.import_module',
    'import importlib\ngetattr(importlib, "x")',
    'from importlib import import_module as g\nf = g', 'import importlib as i\ni.util.find_spec("x")',
    'exec("import x")',
    'eval("x")', 'import pkgutil\npkgutil.resolve_name("x")', 'import runpy\nrunpy.run_module("x")',
    'import sys\nsys.modules[n]', 'from sys import modules\nmodules[n]', 'import sys as s\ns.modules',
    'n = 1\nf"ssl_workbench.{n}"', 'n = "hub"\n"ssl_workbench." + n',
    'import ssl_workbench\ngetattr(ssl_workbench, "hub")',
    'from ssl_workbench import methods\nvars(methods)', 'import builtins\nbuiltins.__import__("x")',
    'from .core import *']


@pytest.mark.parametrize('code', COMPUTED)
def test_a_computed_name_is_seen(code, tmp_path):
    "Only the catalog and the app's shell may make a module's name while they run"
    assert any('ssl_workbench.probes computes' in v for v in house(tmp_path, {'probes': code}))
    assert house(tmp_path, {'catalog': code}) == house(tmp_path, {'app/shell': code}) == []


@pytest.mark.parametrize('module, code', [
    ('methods/slotmim', 'from .loca import LOCA'), ('methods/slotmim', 'from ..methods import loca'),
    ('methods/slotmim', 'from .. import methods\nmethods.loca.LOCA'), ('methods/river/refiner',
    'from ..loca import LOCA'),
    ('methods/slotmim', 'from ssl_workbench.methods.loca import LOCA'), ('hub', 'def f():\n    from tests import x'),
    ('methods/river/sampling', '__import__("ssl_workbench.methods.slotmim")'), ('hub',
    '__import__("benchmarks.claims")'),
    ('classics/simclr', 'from ..methods.loca import LOCA'), ('catalog', 'from benchmarks.claims import slotmim'),
    ('catalog', 'import apps.hub'), ('world/textures', 'from .scenes import x'), ('world/textures',
    'from . import scenes'),
    ('world/scenes', 'from . import sample'), ('world/scenes', 'from ssl_workbench.world import sample'),
    ('world/scenes', 'from ssl_workbench import world'), ('core', 'from .world import sample'),
    ('core', 'from .world.textures import x'), ('app/models', 'from .shell import launch'),
    ('methods/river/sampling', 'from .refiner import x'), ('methods/river/sampling', 'from . import RIVER')])
def test_a_broken_rule_is_seen(module, code, tmp_path):
    "Methods and rooms that import each other, the face of a package from inside it, programs outside the library"
    assert house(tmp_path, {module: code})


@pytest.mark.parametrize('module, code', [
    ('methods/slotmim', 'from ..classics.simclr import SimCLR'),
    ('methods/slotmim', 'from ..world import sample\nfrom ..world.textures import x'),
    ('methods/river/refiner', 'from .sampling import x\nfrom . import sampling'),
    ('methods/river/__init__', 'from .sampling import x\nfrom .refiner import y'),
    ('world/__init__', 'from .textures import x\nfrom .scenes import y'),
    ('world/scenes', 'from .textures import x\nfrom ssl_workbench.world.textures import y\nfrom . import textures'),
    ('app/models', 'from importlib import resources\nresources.files("ssl_workbench.app")'),
    ('app/shell', 'from . import models'), ('hub', 'from .app.shell import launch\nfrom . import catalog, core'),
    ('probes', 'model.eval()\nx.exec'), ('probes', 'def f():\n    "of ssl_workbench.hub"')])
def test_what_is_allowed(module, code, tmp_path):
    "A package's own rooms downwards, resources, prose"
    assert house(tmp_path, {module: code}) == []


def test_circles_are_seen(tmp_path):
    "Of packages, too, where every single import goes downwards"
    found = house(tmp_path, {'methods/river/refiner': 'from ..slotmim import x',
    'world/__init__': 'from ..probes import x',
                             'probes': 'from .world.textures import y'})
    assert any('circle of packages: probes → world → probes' in v for v in found)
    assert circle({'a': {'b'}, 'b': {'c'}, 'c': {'a'}}) == ['a', 'b', 'c', 'a']
    assert circle({'a': {'b', 'c'}, 'b': {'c'}, 'c': set()}) == []


def test_ranks():
    "Numbers first, then letters, whatever the folder"
    ranks = [rank_of(n) for n in ('nbs/09_probes.ipynb', 'nbs/probes/09a_x.ipynb', '09b_y.ipynb',
    'classics/10_show.ipynb')]
    assert ranks == sorted(set(ranks))
    with pytest.raises(AssertionError): rank_of('index.ipynb')


def test_code_without_a_notebook_is_seen(tmp_path):
    "An __init__ that nobody exports and that imports"
    house(tmp_path)
    (tmp_path/PACKAGE/'methods'/'__init__.py').write_text('from . import loca\n')
    with pytest.raises(AssertionError): list(violations(tmp_path))
