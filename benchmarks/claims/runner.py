"""Runs a method's claims, arm by arm and seed by seed, and writes down what came out.

A method's claims live in `benchmarks/claims/<method>.py`, which holds

    claims        tuple of Claim
    protocols     preset → Protocol: frozen dataclass of what is trained on and how it is scored
    measure       (config, protocol, seed, device) → dict of scores; trains one arm
    references    name → (config, protocol, seed, device) → dict of scores; trains nothing
    describe      the data and the scoring in words: a text with fields of c and p, or a function of config and protocol
    missing       where there is such a thing: (config, protocol) → one sentence on what no arm can do without,
                  '' when all is there

Every finished run is in the result file before the next begins, so a stopped command goes on where it was.
A run is known by a hash of everything that decides it; claims that share an arm share its runs.
"""
import argparse
import hashlib
import importlib
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from benchmarks.claims.code_hash import code_hash
from benchmarks.provenance import RESULTS, command, commit, device_name, positive_int, read_json, versions, write_json
from ssl_workbench import catalog
from ssl_workbench.claims import said, verdicts
from ssl_workbench.learner import Diverged

HERE = Path(__file__).resolve().parent
REFERENCE = 'reference: '           # marks what is not trained among the tasks


@dataclass(frozen=True)
class Pair:
    "`above` scores higher than `below`"
    above: str
    below: str                      # an arm, or what needs no training: a name of `references`
    metric: str
    why: str                        # the sentence it stands for
    times: float = 1.               # what the score of `above` is multiplied with: a limit


def above(a, b, why, *metrics, times=1.):
    "A pair for each metric"
    return tuple(Pair(a, b, m, why, times) for m in metrics)


@dataclass(frozen=True)
class Correlation:
    "Over the arms, two scores rise together"
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
    arms: dict                      # name → changes of config and protocol: dict, or function config → dict
    pairs: tuple                    # of Pair
    setting: dict                   # preset → changes of config and protocol: the smallest that makes sense
    measured: str                   # 'now' or 'runnable'
    correlations: tuple = ()        # of Correlation
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
    return sorted(e.name for e in catalog.catalog + catalog.classics if (HERE/f'{e.name}.py').exists())


def module(method):
    "A method's claims; ValueError where it has none"
    if method not in methods(): raise ValueError(f"'{method}' has no claims: there are those of {', '.join(methods())}")
    return importlib.import_module(f'benchmarks.claims.{method}')


def chosen_claims(home, ids):
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
            about = f'{c.where}; {c.measured}; {len(c.arms)} arms, {len(c.pairs) + len(c.correlations)} sentences'
            lines.append(f'{method} {c.id} ({about}): {c.sentence}')
    return '\n'.join(lines)


# ---- settings

def changed_setting(config, protocol, changes):
    "(config, protocol) with changes of either"
    ours = {f.name for f in fields(protocol)}
    of_config, of_protocol = ({k: v for k, v in changes.items() if (k in ours) == own} for own in (False, True))
    return catalog.replace_config(config, of_config), catalog.replace_config(protocol, of_protocol)


def setting(home, method, claim, preset, texts):
    "(config, protocol) that all arms of a claim start from; ValueError for settings that do not exist"
    base = changed_setting(catalog.module(method).presets[preset], home.protocols[preset],
                           claim.setting.get(preset, {}))
    return changed_setting(*base, catalog.parse_settings(texts))


def arm_setting(claim, arm, config, protocol):
    "(config of the arm, its protocol, its changes); an arm's own changes come last"
    changes = claim.arms[arm]
    changes = changes(config) if callable(changes) else changes
    return *changed_setting(config, protocol, changes), changes


def plain(x):
    "As JSON would have it"
    return json.loads(json.dumps(x if isinstance(x, dict) else asdict(x), default=str))


def described(home, config, protocol):
    "A method's data and scoring in words"
    if callable(home.describe): return home.describe(config, protocol)
    return ' '.join(home.describe.split()).format(c=config, p=protocol)


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

def run(task):
    "The record of one run; a run that diverges has a reason in place of scores"
    before, start, home = torch.get_num_threads(), time.perf_counter(), module(task.method)
    torch.set_num_threads(task.threads)
    what = home.references[task.arm.removeprefix(REFERENCE)] if task.arm.startswith(REFERENCE) else home.measure
    try:
        found = dict(scores={k: round(float(v), 6)
                             for k, v in what(task.config, task.protocol, task.seed, task.device).items()})
    except Diverged as error: found = dict(scores=None, failed=str(error))
    finally: torch.set_num_threads(before)
    return dict(seed=task.seed, key=task.key, **found, seconds=round(time.perf_counter() - start, 1))


def run_tasks(tasks, jobs):
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


def runs_in(result):
    "All records of a result"
    arms = [a['runs'] for a in result.get('arms', {}).values()] + list(result.get('references', {}).values())
    return [r for runs in arms for r in runs]


def stored(out, method):
    "key → record of every run in the result files of a method"
    found = [read_json(f) for f in sorted(Path(out).glob(f'{method}-*.json'))]
    return {r['key']: r for result in found if result and 'arms' in result for r in runs_in(result)}


def identity(config, protocol, preset, device):
    "What two results must share to be one"
    return dict(preset=preset, device=torch.device(device).type, config=plain(config), protocol=plain(protocol))


@dataclass
class ClaimRun:
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
        self.tasks = tasks_of(self.home, self.method, self.claim, self.config, self.protocol,
                              self.seeds, self.device, self.threads)

    def records(self, store, arm):
        return [store[t.key] for t in self.tasks if t.arm == arm and t.key in store]

    def result(self, store):
        "The result as it stands"
        c = self.claim
        arms = {a: dict(changes=plain(arm_setting(c, a, self.config, self.protocol)[2]), runs=self.records(store, a))
                for a in c.arms}
        references = {n: self.records(store, REFERENCE + n) for n in self.home.references}
        result = dict(kind='claim', method=self.method, id=c.id, sentence=c.sentence, where=c.where,
                      measured=c.measured, metrics=c.metrics, paper=c.paper, pairs=[asdict(p) for p in c.pairs],
                      together=[asdict(b) for b in c.correlations],                 # the stored name stays
                      setting=f'preset {self.preset}, ' + described(self.home, self.config, self.protocol),
                      command=self.command, seeds=self.seeds, complete=all(t.key in store for t in self.tasks),
                      arms=arms, references=references,
                      identity=identity(self.config, self.protocol, self.preset, self.device))
        seconds = sum(r['seconds'] for r in runs_in(result))
        return result | dict(wall_seconds=round(seconds, 1), verdicts=verdicts(result))


def claim_run(args, home, claim, words):
    "The run of one claim; ValueError where its file holds another setting's result"
    config, protocol = setting(home, args.method, claim, args.preset, args.set)
    file, device = file_of(args.out, args.method, claim), args.device
    if sentence := getattr(home, 'missing', lambda *_: '')(config, protocol): raise ValueError(sentence)
    old, seeds = read_json(file), args.seeds or claim.seeds
    same = old and old.get('identity') == identity(config, protocol, args.preset, device)
    if old and not same and not args.replace:
        raise ValueError(f'{file} holds the result of another setting: '
                         'name another folder with --out, or add --replace')
    if same and args.resume: seeds = max(seeds, old['seeds'] if old['complete'] else 0)
    for arm in claim.arms: arm_setting(claim, arm, config, protocol)
    return ClaimRun(home, args.method, claim, config, protocol, args.preset, seeds, device, args.threads, words, file)


# ---- the command

class _Parser(argparse.ArgumentParser):
    "One sentence on what is wrong"
    def error(self, message): raise ValueError(message)


def parser():
    p = _Parser(prog='python -m benchmarks.claims',
                description='Run what a paper claims again, small, with several seeds.')
    p.add_argument('method', nargs='?', help=f"one of {', '.join(methods())}")
    p.add_argument('--claim', nargs='+', metavar='ID', help='only these; without it all that are measured now')
    p.add_argument('--preset', default='cpu', help='cpu or gpu')
    p.add_argument('--seeds', type=positive_int, help='how many; the number of the claim by default')
    p.add_argument('--set', nargs='+', default=[], metavar='KEY=VALUE',
                   help='change a setting of all arms, or of the protocol')
    p.add_argument('--jobs', type=positive_int, default=1, help='runs at a time, each in a process of its own')
    p.add_argument('--threads', type=positive_int, default=1, help='of a run, on the CPU')
    p.add_argument('--device', help='cpu, cuda, …; that of the preset by default')
    p.add_argument('--out', type=Path, default=RESULTS, help='folder of the result files')
    p.add_argument('--resume', action=argparse.BooleanOptionalAction, default=True,
                   help='reuse runs that are there already')
    p.add_argument('--replace', action='store_true', help='overwrite a result of another setting')
    p.add_argument('--list', action='store_true', help='list the claims')
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


def log(*words): print(*words, file=sys.stderr, flush=True)


def main(argv=None):
    "Run the command; 0 when all is done, 2 and one sentence for what cannot be done"
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parser().parse_args(argv)
        if args.list: print(listing()); return 0
        home, words = check(args), command('benchmarks.claims', argv)
        claim_runs = [claim_run(args, home, c, words) for c in chosen_claims(home, args.claim)]
    except ValueError as error:
        log(error)
        return 2
    try: run_all(claim_runs, args)
    except KeyboardInterrupt:
        log('stopped; the same command goes on from here')
        return 130
    return 0


def missing_tasks(claim_runs, store):
    "The runs that are missing, each once: seed by seed over all claims, references last"
    todo = {t.key: t for s in claim_runs for t in s.tasks if t.key not in store}
    return sorted(todo.values(), key=lambda t: (t.seed, t.arm.startswith(REFERENCE)))


def run_all(claim_runs, args):
    "Run what is missing, writing every result as soon as it changes"
    now = dict(commit=commit('benchmarks/claims', 'benchmarks/protocols'), code=code_hash(args.method),
               device=device_name(args.device), threads=args.threads, jobs=args.jobs, versions=versions())
    store = stored(args.out, args.method) if args.resume else {}
    wanted = {t.key for s in claim_runs for t in s.tasks}
    older = [r for k, r in store.items() if k in wanted and r.get('code') != now['code']]
    if older:
        commits = ', '.join(sorted({r['commit'][:9] for r in older}))
        log(f'{len(older)} runs are kept from other code ({commits}); --no-resume measures again')
    todo = missing_tasks(claim_runs, store)
    log(f'{len(wanted)} runs wanted, {len(wanted) - len(todo)} there already, {len(todo)} to do')
    start = time.perf_counter()
    for s in claim_runs: write_json(s.file, s.result(store))
    for n, (task, record) in enumerate(run_tasks(todo, args.jobs), 1):
        store[task.key] = record | now
        for s in claim_runs:
            if any(t.key == task.key for t in s.tasks): write_json(s.file, s.result(store))
        left = (time.perf_counter() - start) / n * (len(todo) - n)
        log(f"[{n}/{len(todo)}] {task.arm}, seed {task.seed}: {record['seconds']:.0f} s  {score_line(record)}  "
            f"(about {left / 60:.0f} min left)")
    for s in claim_runs:
        rows = (f"  {r['what']}, {r['metric']}: {said(r)}" for r in s.result(store)['verdicts'])
        log('\n'.join([f'{s.file.name}:', *rows]))


def score_line(record):
    "Scores in a line, or why there are none"
    return record.get('failed') or ' '.join(f'{k} {v:.3f}' for k, v in record['scores'].items())
