"""What speed benchmarks share: options, the median of several tries, where and how a result was measured."""
import argparse
import os
import statistics
import sys
import time

import torch

from benchmarks.provenance import RESULTS, command, commit, device_name, positive_int, versions, write_json


def options(module, words, argv=None, threads=None, **more):
    "What a benchmark is given, torch's threads set (by default to all cores); more: option → what argparse takes"
    p = argparse.ArgumentParser(prog=f'python -m {module}', description=words.splitlines()[0])
    p.add_argument('--threads', type=positive_int, default=threads or os.cpu_count(), help='of torch')
    for name, how in more.items(): p.add_argument(f'--{name}' if 'nargs' not in how else name, **how)
    args = p.parse_args(argv)
    args.command = command(module, sys.argv[1:] if argv is None else argv)
    torch.set_num_threads(args.threads)
    return args


def median_seconds(f, tries):
    "Median of the wall seconds of several tries; the first does not count"
    times = []
    for _ in range(tries + 1):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def about(args):
    "Threads, device, versions, commit and command of a measurement"
    device = device_name(getattr(args, 'device', 'cpu'))
    return dict(threads=args.threads, device=device, versions=versions(), commit=commit(), command=args.command)


def save(name, what, found, args):
    "benchmarks/results/<name>.json"
    write_json(RESULTS/f'{name}.json', dict(kind='speed', what=what) | found | about(args))
