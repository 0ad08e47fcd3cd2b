"""What comparisons with public code share: their code out of a checkout, images for both, figures, report, command.

A comparison lives in `benchmarks/fidelity/<name>.py`; what it found goes to benchmarks/results/fidelity-<name>.json.
"""
import argparse
import ast
import sys
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.provenance import RESULTS, changed, command, git, write_json
from ssl_workbench import core, world

TOLERANCE = 1e-5
MEAN, STD = torch.tensor([.485, .456, .406]).view(3, 1, 1), torch.tensor([.229, .224, .225]).view(3, 1, 1)


# ---- both sides

def definitions(file, names, **scope):
    "Name → function or class of a script, without running the rest of it"
    body = [n for n in ast.parse(file.read_text()).body if getattr(n, 'name', None) in names]
    exec(compile(ast.Module(body, []), str(file), 'exec'), scope)
    return {n: scope[n] for n in names}


def single_process():
    "A process group of one, which their losses need"
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)


def pictures(n, seed, side=96, kind='scene', level=2, frames=1):
    "World pictures and their seeds, as our views take them"
    seeds = core.fold_in(torch.arange(n) + 1000 * seed, 'fidelity')
    drawn = world.batch(seeds, kind=kind, level=level, size=(side, side), frames=frames, truth=False)
    return dict(frames=drawn['frames'], seed=seeds)


def cast(views, dtype):
    "Views with their floats in another precision"
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in views.items()}


def standard(x):
    "Pixels less their mean, in their spread, as public code takes them"
    return (x - MEAN.to(x)) / STD.to(x)


def rename_prefix(pairs, name):
    "Our name of one of their tensors; pairs: (their prefix, ours), of which the first that fits counts"
    theirs, mine = next(pair for pair in pairs if name.startswith(pair[0]))
    return mine + name.removeprefix(theirs)


def gradients(model, name=str):
    "Name → gradient of what is trained"
    return {name(n): p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def first_gradients(model):
    "Name → gradient of the first step, there once the step is done"
    found = {}
    def keep(p, name):
        if name not in found: found[name] = p.grad.clone()
    for n, p in model.named_parameters():
        if p.requires_grad: p.register_post_accumulate_grad_hook(partial(keep, name=n))
    return found


# ---- comparing

def doubles(x):
    "Numbers or a tensor, flat"
    return torch.as_tensor(x if isinstance(x, torch.Tensor) else np.asarray(x)).detach().double().flatten()


def unscaled(theirs, mine):
    "What both gave, in short, and the largest difference"
    a, b = doubles(theirs), doubles(mine)
    if a.shape != b.shape: raise ValueError(f'{a.shape} is not {b.shape}')
    show = lambda x: float(x) if x.numel() == 1 else dict(mean=float(x.mean()), norm=float(x.norm()), n=x.numel())
    return dict(theirs=show(a), ours=show(b), max_difference=float((a - b).abs().max()))


def figure(theirs, mine):
    "The same with their largest value: where it is above 1, the difference counts as a part of it"
    return unscaled(theirs, mine) | dict(largest=float(doubles(theirs).abs().max()))


def compared(theirs, mine, figure=figure):
    "All tensors of two dicts as one figure; ValueError where their names differ"
    if set(theirs) != set(mine): raise ValueError(f'only one has {sorted(set(theirs) ^ set(mine))}')
    flat = lambda d: torch.cat([doubles(d[n]) for n in sorted(d)])
    return figure(flat(theirs), flat(mine))


def apart(f):
    "How far a figure's sides are apart"
    return f['max_difference'] / max(1., f.get('largest', 0.))


def short(name):
    "A figure's name without its step"
    return name.split(' ', 2)[2] if name.startswith('step ') else name


def worst(cases, short=short):
    "The largest difference of each figure over all cases, by precision"
    table = {}
    for c in cases:
        row = table.setdefault(c.get('dtype', 'float64'), {})
        for name, f in c['figures'].items(): row[short(name)] = max(row.get(short(name), 0.), apart(f))
    return table


# ---- the command

def checkout(path, probe, of='the public code'):
    "Nothing, where the path holds the code; else the command ends"
    if not (path/probe).exists(): sys.exit(f'{path} is not a checkout of {of}: {probe} is missing')


def arguments(name, words,
              probe,                        # a file of the public code
              of='the public code',
              code=(),                      # what is compared: modules; without them the library
              **more):                      # further options: words of a switch, or what argparse takes
    "The command's options, with our commit and whether the code differs from it"
    p = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--public', type=Path, required=True, help=f'checkout of {of}')
    p.add_argument('--out', type=Path, default=RESULTS/f'fidelity-{name}.json', help='JSON to write')
    for option, how in more.items():
        p.add_argument(f'--{option}', **(how if isinstance(how, dict) else dict(action='store_true', help=how)))
    args = p.parse_args()
    checkout(args.public, probe, of)
    paths = [f'ssl_workbench/{n}{end}' for n in code for end in ('.py', '')] or ['ssl_workbench']    # modules, packages
    args.name, args.state = name, dict(commit=git('rev-parse', 'HEAD') or None, changed=changed(*paths))
    return args


def measured(case, cases, pub):
    "Every case, with a line about each"
    found = []
    for c in cases:
        found.append(case(pub, **c))
        print(c, f"{max(f['max_difference'] for f in found[-1]['figures'].values()):.1e}", flush=True)
    return found


def upstream(path, repository, **more):
    "Where the public code is from"
    return dict(repository=f'https://github.com/{repository}', **more,
                commit=git('-C', str(path.resolve()), 'rev-parse', 'HEAD') or None)


def about(args, options=''):
    "The commit, the command, the device"
    long = ' --long' * getattr(args, 'long', False)
    return dict(**args.state, device='cpu',
                command=command(f'benchmarks.fidelity.{args.name}', ['--public', 'PATH']) + options + long)


def report(args, what, upstream, cases,
           rules,                           # name → figure, of what no case has
           differences, versions,
           not_held=(),                     # figures, with * for any ending
           options='',                      # of the command, beside --public and --long
           tolerance=TOLERANCE, short=short, **more):
    "All that was measured, with where and how"
    table = worst(cases, short)
    held = {f'{d} {n}': v for d, row in table.items() for n, v in row.items()}
    held |= {n: apart(f) for n, f in rules.items() if 'max_difference' in f}
    held = {n: v for n, v in held.items() if not any(fnmatchcase(n, p) for p in not_held)}
    return dict(what=what, tolerance=tolerance, held_to_tolerance=sorted(held), largest=max(held.values()),
                largest_is=max(held, key=held.get), **more, upstream=upstream,
                **about(args, options), versions=versions, largest_differences=table, known_differences=differences,
                **(dict(rules=rules) if rules else {}), cases=cases)


def finish(args, found, fine=True):
    "Print, write unless the run was quick, and end: exit code 1 where a held figure differs or fine is false"
    for kind, row in found['largest_differences'].items(): print(kind, {k: f'{v:.1e}' for k, v in row.items()})
    rules = {k: f"{v['max_difference']:.1e}" for k, v in found.get('rules', {}).items() if 'max_difference' in v}
    if rules: print(rules)
    print('largest held difference', found['largest_is'], found['largest'])
    if not getattr(args, 'quick', False): write_json(args.out, found)
    if dist.is_initialized(): dist.destroy_process_group()
    sys.exit(int(not (found['largest'] <= found['tolerance'] and fine)))


def conclude(args, *what, fine=True, **more):
    "`report` and `finish` in one"
    finish(args, report(args, *what, **more), fine)
