"""Where a result comes from (commit, machine, versions, command), and its file, of which never half is left."""
import argparse
import json
import os
import platform
import shlex
import subprocess
from pathlib import Path

import timm
import torch

import ssl_workbench

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/'benchmarks/results'


# ---- the checkout

def git(*words):
    "What git answers, or nothing"
    done = subprocess.run(['git', *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ''


def changed(*paths):
    "Whether the paths differ from what is committed"
    return bool(git('status', '--porcelain', '--', *paths))


def commit(*paths, short=False):
    "The checked-out commit; a plus sign where the library, or these paths, are not as committed"
    head = git('rev-parse', *(['--short'] if short else []), 'HEAD') or 'unknown'
    return head + '+' * changed('ssl_workbench', *paths)


# ---- the machine

def device_name(device='cpu'):
    "The device as results name it: the GPU, or the CPU with its cores"
    if torch.device(device).type == 'cuda': return torch.cuda.get_device_name(device)
    return f'CPU, {os.cpu_count()} cores ({platform.machine()})'


def processor_name():
    "The device as cards name it: the GPU where there is one, or the processor's model"
    if torch.cuda.is_available(): return torch.cuda.get_device_name()
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    name = next((x.split(':', 1)[1].strip() for x in lines if x.startswith('model name')), platform.machine())
    return f'CPU ({name})'


def versions(*packages):
    "name → version of Python, torch and packages; without any, timm and ours"
    found = (torch, *(packages or (timm, ssl_workbench)))
    return dict(python=platform.python_version()) | {p.__name__: p.__version__ for p in found}


# ---- the command

def command(module, argv=()):
    "The words that run a module of ours again"
    return shlex.join(['python', '-m', module, *argv])


def positive_int(text):
    "A whole number above zero, for argparse"
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above zero")
    return int(text)


# ---- results

def read_json(file):
    "What a file holds, or None where there is none"
    return json.loads(file.read_text(encoding='utf-8')) if file.exists() else None


def write_json(file, result):
    "Under a temporary name, then renamed"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix('.part')
    part.write_text(json.dumps(result, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    os.replace(part, file)
