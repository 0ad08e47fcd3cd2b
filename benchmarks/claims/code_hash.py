"""A hash of the code that a method's runs go through, so that a result says whether it was measured by this code.

Counted are the library's modules and packages but those that only show, list or call, and of methods, classics and
protocols the ones that the claims and the method use: by import, or by their name in the catalog as a string.
"""
import ast
import hashlib
from functools import lru_cache

from benchmarks.provenance import ROOT

NOT_RUN = {'__init__', '_modidx', 'show', 'panels', 'catalog', 'compare', 'claims', 'hub', 'app', 'cli'}
METHODS, CLASSICS, PROTOCOLS = 'ssl_workbench.methods.', 'ssl_workbench.classics.', 'benchmarks.protocols.'


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def modules_of(root):
    "dotted name → file of the library, the protocols and the claims; a package's is its face's"
    files = [p for part in ('ssl_workbench', 'benchmarks/protocols', 'benchmarks/claims')
             for p in (root/part).rglob('*.py')]
    return {'.'.join(p.relative_to(root).with_suffix('').parts).removesuffix('.__init__'): p for p in files}


def imports(tree, package):
    "Dotted names that a module imports, names out of modules included; package: the one it lies in"
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): names |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom):
            up = package[:len(package) + 1 - node.level] if node.level else []
            base = '.'.join([*up, *(node.module or '').split('.')]).strip('.')
            names |= {base, *(f'{base}.{a.name}' for a in node.names)}
    return names


def quoted(tree, known):
    "Methods and classics that a module names as strings"
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {part + w for w in words for part in (METHODS, CLASSICS) if part + w in known}


def modules_run(method, root=ROOT):
    "dotted name → syntax tree of every module that a run of the method's claims goes through"
    files, own = modules_of(root), METHODS + method
    library = [n for n in files if n.startswith('ssl_workbench.') and n.split('.')[1] not in NOT_RUN
               | {'methods', 'classics'}]
    siblings = [n for n in files if n == own or n.startswith((own + '.', own + '_'))]
    trees, queue = {}, [*library, *siblings, f'benchmarks.claims.{method}']
    while queue:
        name = queue.pop()
        if name in trees or name not in files: continue
        file, tree = files[name], ast.parse(files[name].read_text(encoding='utf-8'))
        trees[name] = tree
        package = name.split('.') if file.stem == '__init__' else name.split('.')[:-1]
        used = imports(tree, package) | (set() if name in library else quoted(tree, files))
        queue += [n for n in used if n.startswith((METHODS, CLASSICS, PROTOCOLS))]
    return dict(sorted(trees.items()))


@lru_cache(maxsize=None)
def code_hash(method, root=ROOT):
    "Twelve hexadecimal digits; comments and docstrings do not count, nor do the sentences of the claims"
    trees = modules_run(method, root)
    claims = trees[f'benchmarks.claims.{method}']
    claims.body = [n for n in claims.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    text = ''.join(ast.dump(_WithoutDocstrings().visit(t)) for t in trees.values())
    return hashlib.sha256(text.encode()).hexdigest()[:12]
