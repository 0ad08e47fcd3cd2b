"""Runs a method's claims, arm by arm and seed by seed, and writes down what came out.

A method's claims live in `benchmarks/claims/<method>.py`, which holds

    claims        tuple of Claim
    protocols     preset → Protocol: frozen dataclass of what is trained on and how it is scored
    measure       (config, protocol, seed, device) → dict of scores; trains one arm
    references    name → (config, protocol, seed, device) → dict of scores; trains nothing
    describe      (config, protocol) → the data and the scoring in words
    missing       where there is such a thing: (config, protocol) → one sentence on what no arm can do without, '' when all is there

Every finished run is in the result file before the next begins, so a stopped command goes on where it was.
A run is known by a hash of everything that decides it; claims that share an arm share its runs.
"""
import argparse
import ast
import hashlib
import importlib
import json
import multiprocessing
import os
import platform
import shlex
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import timm
import torch

import ssl_workbench
from ssl_workbench import catalog, core
from ssl_workbench.claims import verdicts
from ssl_workbench.learner import Diverged

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT/'benchmarks/results'
REFERENCE = 'reference: '           # marks what is not trained among the tasks


@dataclass(frozen=True)
class Pair:
    "`above` scores higher than `below`"
    above: str
    below: str
    metric: str
    why: str                        # the sentence it stands for


def above(a, b, why, *metrics):
    "A pair for each metric"
    return tuple(Pair(a, b, m, why) for m in metrics)


@dataclass(frozen=True)
class Together:
    "Over the arms, two scores go together"
    x: str
    y: str
    why: str


@dataclass(frozen=True)
class Claim:
    "A sentence of a paper that a small run can test"
    id: str
    sentence: str
    where: str                      # table, section
    metrics: dict                   # name → dict(title, unit, how)
    paper: dict                     # arm → metric → the paper's figure
    arms: dict                      # name → changes of the config, or of the protocol: dict, or function config → dict
    pairs: tuple                    # of Pair
    setting: dict                   # preset → changes of config and protocol: the smallest setting in which it makes sense
    measured: str                   # 'now' or 'runnable'
    together: tuple = ()            # of Together
    seeds: int = 5                  # by default


@dataclass(frozen=True)
class Task:
    "One run"
    method: str
    arm: str                        # or REFERENCE + name
    seed: int
    config: object
    protocol: object
    device: str
    threads: int
    key: str


# ---- what there is

def methods():
    "Names of the methods that have claims"
    return sorted(p.stem for p in HERE.glob('*.py') if p.stem not in ('__init__', '__main__', 'machine', 'pictures'))


def module(method):
    "A method's claims; ValueError where it has none"
    if method not in methods(): raise ValueError(f"'{method}' has no claims: there are those of {', '.join(methods())}")
    return importlib.import_module(f'benchmarks.claims.{method}')


def chosen(home, ids):
    "The claims named, else those that are measured now; ValueError for an unknown one"
    known = {c.id: c for c in home.claims}
    for i in ids or ():
        if i not in known: raise ValueError(f"there is no claim '{i}': there are {', '.join(known)}")
    return [known[i] for i in ids] if ids else [c for c in home.claims if c.measured == 'now']


def listing():
    "All claims in words"
    lines = []
    for method in methods():
        for c in module(method).claims:
            lines.append(f'{method} {c.id} ({c.where}; {c.measured}; {len(c.arms)} arms, {len(c.pairs) + len(c.together)} sentences): {c.sentence}')
    return '\n'.join(lines)


# ---- settings

def revised(config, protocol, changes):
    "(config, protocol) with changes of either"
    ours = {f.name for f in fields(protocol)}
    of_config, of_protocol = ({k: v for k, v in changes.items() if (k in ours) == own} for own in (False, True))
    return catalog.replace_config(config, of_config), catalog.replace_config(protocol, of_protocol)


def setting(home, method, claim, preset, texts):
    "(config, protocol) that all arms of a claim start from; ValueError for settings that do not exist"
    base = revised(catalog.module(method).presets[preset], home.protocols[preset], claim.setting.get(preset, {}))
    return revised(*base, catalog.settings(texts))


def arm_setting(claim, arm, config, protocol):
    "(config of the arm, its protocol, its changes); an arm's own changes come last"
    changes = claim.arms[arm]
    changes = changes(config) if callable(changes) else changes
    return *revised(config, protocol, changes), changes


def plain(x):
    "As JSON would have it"
    return json.loads(json.dumps(x if isinstance(x, dict) else asdict(x), default=str))


def key_of(method, what, config, protocol, seed, device):
    "A hash of everything that decides a run"
    about = dict(method=method, what=what, config=plain(config), protocol=plain(protocol), seed=seed, device=device)
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def tasks_of(home, method, claim, config, protocol, seeds, device, threads):
    "Every run that a claim needs, seed by seed"
    kind, tasks = torch.device(device).type, []
    for seed in range(seeds):
        for arm in claim.arms:
            own, by, _ = arm_setting(claim, arm, config, protocol)
            tasks.append(Task(method, arm, seed, own, by, device, threads, key_of(method, 'run', own, by, seed, kind)))
        for name in home.references:
            key = key_of(method, name, config, protocol, seed, kind)
            tasks.append(Task(method, REFERENCE + name, seed, config, protocol, device, threads, key))
    return tasks


# ---- one run

def git(*words):
    "What git says, or nothing"
    done = subprocess.run(['git', *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ''


def commit():
    "The checked-out commit; a plus sign where the library or the claims are not as committed"
    head = git('rev-parse', 'HEAD') or 'unknown'
    return head + ('+' if git('status', '--porcelain', '--', 'ssl_workbench', 'benchmarks/claims') else '')


class _Code(ast.NodeTransformer):
    "Strips docstrings"
    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


NOT_RUN = {'__init__', '_modidx', 'show', 'panels', 'catalog', 'compare', 'claims', 'hub', 'data'}


def code(method):
    "A hash of the code that a run goes through: the stair, the method, how it is measured; comments do not count"
    stair = sorted(p for p in Path(ssl_workbench.__file__).parent.glob('*.py') if p.stem not in NOT_RUN)
    trees = [ast.parse(p.read_text()) for p in [*stair, Path(ssl_workbench.__file__).parent/f'methods/{method}.py']]
    home = ast.parse((HERE/f'{method}.py').read_text())
    home.body = [n for n in home.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]  # not the claims themselves
    text = ''.join(ast.dump(_Code().visit(t)) for t in [*trees, ast.parse((HERE/'pictures.py').read_text()), home])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run(task):
    "The record of one run; a run that diverges has a reason in place of scores"
    before, start, home = torch.get_num_threads(), time.perf_counter(), module(task.method)
    torch.set_num_threads(task.threads)
    what = home.references[task.arm.removeprefix(REFERENCE)] if task.arm.startswith(REFERENCE) else home.measure
    try: found = dict(scores={k: round(float(v), 6) for k, v in what(task.config, task.protocol, task.seed, task.device).items()})
    except Diverged as error: found = dict(scores=None, failed=str(error))
    finally: torch.set_num_threads(before)
    return dict(seed=task.seed, key=task.key, **found, seconds=round(time.perf_counter() - start, 1))


def finished(tasks, jobs):
    "(task, record) as the runs finish; with several jobs in processes of their own, which changes no number"
    if jobs == 1:
        for task in tasks: yield task, run(task)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context('spawn')) as pool:
        waiting = {pool.submit(run, t): t for t in tasks}
        try:
            for done in as_completed(waiting): yield waiting[done], done.result()
        finally: pool.shutdown(cancel_futures=True)


# ---- the result file

def file_of(out, method, claim):
    return Path(out)/f'{method}-{claim.id}.json'


def read(file):
    "A result, or None"
    return json.loads(file.read_text(encoding='utf-8')) if file.exists() else None


def runs_in(result):
    "All records of a result"
    arms = [a['runs'] for a in result.get('arms', {}).values()] + list(result.get('references', {}).values())
    return [r for runs in arms for r in runs]


def stored(out, method):
    "key → record of every run in the result files of a method"
    found = [read(f) for f in sorted(Path(out).glob(f'{method}-*.json'))]
    return {r['key']: r for result in found if result and 'arms' in result for r in runs_in(result)}


def write(file, result):
    "Under a temporary name, then renamed: a killed command leaves no half of a file"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix('.part')
    part.write_text(json.dumps(result, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    os.replace(part, file)


def identity(config, protocol, preset, device):
    "What two results must share to be one"
    return dict(preset=preset, device=torch.device(device).type, config=plain(config), protocol=plain(protocol))


def machine_words(device):
    "The device in words"
    if torch.device(device).type == 'cuda': return torch.cuda.get_device_name(device)
    return f'CPU, {os.cpu_count()} cores ({platform.machine()})'


def versions():
    return dict(python=platform.python_version(), torch=torch.__version__, timm=timm.__version__, ssl_workbench=ssl_workbench.__version__)


@dataclass
class Sheet:
    "One claim of this command: what it needs, and its result file"
    home: object
    method: str
    claim: Claim
    config: object
    protocol: object
    preset: str
    seeds: int
    device: str
    threads: int
    command: str
    file: Path

    def __post_init__(self):
        self.tasks = tasks_of(self.home, self.method, self.claim, self.config, self.protocol, self.seeds, self.device, self.threads)

    def collected(self, store, arm):
        return [store[t.key] for t in self.tasks if t.arm == arm and t.key in store]

    def result(self, store):
        "The result as it stands"
        c = self.claim
        arms = {a: dict(changes=plain(arm_setting(c, a, self.config, self.protocol)[2]), runs=self.collected(store, a)) for a in c.arms}
        references = {n: self.collected(store, REFERENCE + n) for n in self.home.references}
        result = dict(kind='claim', method=self.method, id=c.id, sentence=c.sentence, where=c.where, measured=c.measured,
                      metrics=c.metrics, paper=c.paper, pairs=[asdict(p) for p in c.pairs], together=[asdict(b) for b in c.together],
                      setting=f'preset {self.preset}, ' + self.home.describe(self.config, self.protocol), command=self.command,
                      seeds=self.seeds, complete=all(t.key in store for t in self.tasks), arms=arms, references=references,
                      identity=identity(self.config, self.protocol, self.preset, self.device))
        seconds = sum(r['seconds'] for r in runs_in(result))
        return result | dict(wall_seconds=round(seconds, 1), verdicts=verdicts(result))


def sheet(args, home, claim, words):
    "The sheet of one claim; ValueError where its file holds another setting's result"
    config, protocol = setting(home, args.method, claim, args.preset, args.set)
    file, device = file_of(args.out, args.method, claim), args.device
    if sentence := getattr(home, 'missing', lambda *_: '')(config, protocol): raise ValueError(sentence)
    old, seeds = read(file), args.seeds or claim.seeds
    same = old and old.get('identity') == identity(config, protocol, args.preset, device)
    if old and not same and not args.replace:
        raise ValueError(f'{file} holds the result of another setting: name another folder with --out, or add --replace')
    if same and args.resume: seeds = max(seeds, old['seeds'] if old['complete'] else 0)
    for arm in claim.arms: arm_setting(claim, arm, config, protocol)
    return Sheet(home, args.method, claim, config, protocol, args.preset, seeds, device, args.threads, words, file)


# ---- the command

class _Parser(argparse.ArgumentParser):
    "Says what is wrong in one sentence"
    def error(self, message): raise ValueError(message)


def natural(text):
    "A whole number above zero"
    if not text.isdigit() or int(text) < 1: raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above zero")
    return int(text)


def parser():
    p = _Parser(prog='python -m benchmarks.claims', description='Run what a paper claims again, small, with several seeds.')
    p.add_argument('method', nargs='?', help=f"one of {', '.join(methods())}")
    p.add_argument('--claim', nargs='+', metavar='ID', help='only these; without it all that are measured now')
    p.add_argument('--preset', default='cpu', help='cpu or gpu')
    p.add_argument('--seeds', type=natural, help='how many; without it what the claim says')
    p.add_argument('--set', nargs='+', default=[], metavar='KEY=VALUE', help='change a setting of all arms, or of the protocol')
    p.add_argument('--jobs', type=natural, default=1, help='runs at a time, each in a process of its own')
    p.add_argument('--threads', type=natural, default=1, help='of a run, on the CPU')
    p.add_argument('--device', help='cpu, cuda, …; without it what the preset says')
    p.add_argument('--out', type=Path, default=RESULTS, help='folder of the result files')
    p.add_argument('--resume', action=argparse.BooleanOptionalAction, default=True, help='reuse runs that are there already')
    p.add_argument('--replace', action='store_true', help='overwrite a result of another setting')
    p.add_argument('--list', action='store_true', help='say which claims there are')
    return p


def check(args):
    "The method's claims; ValueError for what cannot be run"
    if not args.method: raise ValueError(f"name a method: {', '.join(methods())} (--list shows the claims)")
    home = module(args.method)
    if args.preset not in home.protocols:
        raise ValueError(f"no claim is set for the preset '{args.preset}': choose one of {', '.join(home.protocols)}")
    args.device = args.device or ('cuda' if args.preset != 'cpu' else 'cpu')
    try: kind = torch.device(args.device).type
    except RuntimeError: raise ValueError(f"there is no device called '{args.device}'") from None
    if kind == 'cuda' and not torch.cuda.is_available():
        raise ValueError(f'preset {args.preset} wants a GPU and there is none: add --device cpu to run it slowly')
    return home


def say(*words): print(*words, file=sys.stderr, flush=True)


def main(argv=None):
    "Run the command; 0 when all is done, 2 and one sentence for what cannot be done"
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parser().parse_args(argv)
        if args.list: print(listing()); return 0
        home, words = check(args), shlex.join(['python', '-m', 'benchmarks.claims', *argv])
        sheets = [sheet(args, home, c, words) for c in chosen(home, args.claim)]
    except ValueError as error:
        say(error)
        return 2
    try: work(sheets, args)
    except KeyboardInterrupt:
        say('stopped; the same command goes on from here')
        return 130
    return 0


def plan(sheets, store):
    "The runs that are missing, each once: seed by seed over all claims, references last"
    todo = {t.key: t for s in sheets for t in s.tasks if t.key not in store}
    return sorted(todo.values(), key=lambda t: (t.seed, t.arm.startswith(REFERENCE)))


def work(sheets, args):
    "Run what is missing, writing every result as soon as it changes"
    now = dict(commit=commit(), code=code(args.method), device=machine_words(args.device), threads=args.threads, jobs=args.jobs, versions=versions())
    store = stored(args.out, args.method) if args.resume else {}
    wanted = {t.key for s in sheets for t in s.tasks}
    older = [r for k, r in store.items() if k in wanted and r.get('code') != now['code']]
    if older: say(f'{len(older)} runs are kept from other code ({", ".join(sorted({r["commit"][:9] for r in older}))}); --no-resume measures again')
    todo = plan(sheets, store)
    say(f'{len(wanted)} runs wanted, {len(wanted) - len(todo)} there already, {len(todo)} to do')
    start = time.perf_counter()
    for s in sheets: write(s.file, s.result(store))
    for n, (task, record) in enumerate(finished(todo, args.jobs), 1):
        store[task.key] = record | now
        for s in sheets:
            if any(t.key == task.key for t in s.tasks): write(s.file, s.result(store))
        left = (time.perf_counter() - start) / n * (len(todo) - n)
        say(f"[{n}/{len(todo)}] {task.arm}, seed {task.seed}: {record['seconds']:.0f} s  {line(record)}  (about {left / 60:.0f} min left)")
    for s in sheets: say('\n'.join([f'{s.file.name}:', *(f"  {r['what']}, {r['metric']}: {r['verdict']}" for r in s.result(store)['verdicts'])]))


def line(record):
    "Scores in a line, or why there are none"
    return record.get('failed') or ' '.join(f'{k} {v:.3f}' for k, v in record['scores'].items())
