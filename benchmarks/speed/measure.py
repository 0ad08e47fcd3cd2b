"""What speed benchmarks share: options, the median of several tries, where and how a result was measured."""
import argparse
import os
import statistics
import time

import torch

from benchmarks.provenance import RESULTS, command, commit, device_name, positive_int, versions, write_json


def parser(module, words, threads=None):
    "Options of a benchmark; threads: torch's, all cores by default"
    p = argparse.ArgumentParser(prog=f'python -m {module}', description=words.splitlines()[0])
    p.add_argument('--threads', type=positive_int, default=threads or os.cpu_count(), help='of torch')
    return p


def parsed(p, argv):
    "The options, torch's threads set"
    args = p.parse_args(argv)
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


def about(args, module, argv):
    "Threads, device, versions, commit and command of a measurement"
    device = getattr(args, 'device', 'cpu')
    return dict(threads=args.threads, device=device_name(device), versions=versions(), commit=commit(),
                command=command(module, argv))


def save(name, what, found, args, module, argv):
    "benchmarks/results/<name>.json"
    write_json(RESULTS/f'{name}.json', dict(kind='speed', what=what) | found | about(args, module, argv))
