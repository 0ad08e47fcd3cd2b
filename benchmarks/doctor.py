"""Runs that are broken on purpose, and runs that are not: is the doctor right about both?

    python -m benchmarks.doctor                     all cases, seeds 0 1 2, into benchmarks/results/doctor.json
    python -m benchmarks.doctor --seeds 10          other seeds: thresholds were chosen on 10, and on no other
    python -m benchmarks.doctor --keep FOLDER       keep the runs' folders, judge those that are there already
"""
import argparse
import json
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from benchmarks import provenance
from ssl_workbench import world
from ssl_workbench.catalog import module
from ssl_workbench.doctor import FINE, doctor
from ssl_workbench.learner import Diverged, newest_checkpoint
from ssl_workbench.training import learner_of, replace_config

RESULT = Path(__file__).resolve().parent/'results/doctor.json'
SMALL = dict(size=32, canvas=48, batch=16, steps=50)
TINY = dict(SMALL, dim=48, depth=2)
METHODS = dict(
    dino=dict(TINY, small=0, prototypes=32),
    slotmim=TINY,
    loca=dict(TINY, small=16, queries=4),
    simclr=TINY,
    byol=SMALL,
)
SAME = dict(momentum=(0., 0.))
SOFT = dict(teacher_temp=(1., 1.))


@dataclass(frozen=True)
class Case:
    "A method, what is done to it, and the verdicts of which one is right; none: it is healthy"
    method: str
    name: str
    change: dict
    right: tuple = ()
    stop: int = 0                 # step after which it is looked at; 0: the end
    spoil: int = 0                # from this draw on the pictures are not numbers; 0: never


def cases():
    "All of them: each lesson's breaks that end in something the doctor has a word for, and each method as it is"
    falls = 'few prototypes', 'collapse'
    return [
        *(Case(m, 'as it is', {}) for m in METHODS),
        *(Case(m, 'another rate', dict(lr=5e-4)) for m in METHODS),
        *(Case(m, 'after five steps', {}, ('too early',), stop=5) for m in METHODS),
        *(Case(m, 'rate x 300', dict(lr=.5), ('rate too high', 'diverged')) for m in METHODS),
        *(Case(m, 'two pictures a batch', dict(batch=2), ('batch too small',)) for m in METHODS),
        *(Case(m, 'pictures that are no numbers', {}, ('diverged',), spoil=12) for m in METHODS),
        Case('dino', 'no sharpening', SOFT, ('uniform guess',)),
        Case('dino', 'no centring', dict(centring=False), falls),
        Case('dino', 'teacher = student', SAME, ('teacher is the student', *falls)),
        Case('dino', 'teacher stands still', dict(momentum=(1., 1.)), ('teacher and student apart',)),
        Case('slotmim', 'hot teacher', SOFT, ('uniform guess',)),
        Case('slotmim', 'teacher = student', SAME, ('teacher is the student', *falls)),
        Case('slotmim', 'teacher stands still', dict(momentum=(1., 1.)), ('teacher and student apart',)),
        Case('loca', 'no Sinkhorn, no me-max', dict(sinkhorn=False, me_max=0.), falls),
        Case('loca', 'teacher = student', SAME, ('teacher is the student',)),
        Case('simclr', 'negatives off', dict(negatives=False, steps=200), ('rank falling', 'collapse')),
        Case('simclr', 'hot', dict(temperature=10.), ('uniform guess',)),
        Case('byol', 'no predictor, gradient into both', dict(predictor=False, stop_gradient=False),
             ('shortcut', 'collapse')),
        Case('byol', 'teacher stands still', dict(momentum=(1., 1.)), ('teacher and student apart',)),
    ]


class Pictures:
    "Drawn once, held in memory; from draw `spoil` on a batch holds pictures that are no numbers"
    def __init__(self, frames, spoil): self.frames, self.spoil, self.drawn = frames, spoil, 0
    def __len__(self): return len(self.frames)

    def batch(self, indices, device):
        "Frames (B,1,3,H,W) and aspect"
        import torch
        frames = self.frames[indices].to(device)
        self.drawn += 1
        if self.spoil and self.drawn > self.spoil: frames = torch.full(frames.shape, float('nan'), device=device)
        return dict(frames=frames, aspect=torch.ones(len(indices), device=device))


@lru_cache(maxsize=4)
def frames(kind, level, canvas):
    "512 pictures, uint8 (512,1,3,H,W)"
    return world.batch(range(512), kind=kind, level=level, size=(canvas, canvas), frames=1, truth=False)['frames']


def train(case, seed, out):
    "The run's folder, filled"
    config = replace_config(module(case.method).presets['cpu'], METHODS[case.method])
    config = replace_config(config, case.change)
    data = Pictures(frames(config.kind, config.level, config.canvas), case.spoil)
    learner = learner_of(case.method, config, data, seed, out, 'cpu', progress=False, save_every=20)
    try:
        for _ in learner.steps(case.stop or None): pass
    except Diverged: pass
    if learner.i and newest_checkpoint(out) is None: learner.save()
    return out


def judged(case, seed, out):
    "A row: what was done, what the doctor says first, whether that is right"
    said = doctor(out)
    first = said[0].name
    right = first in case.right if case.right else first in FINE
    return dict(method=case.method, case=case.name, seed=seed, expected=list(case.right) or ['healthy'], said=first,
                evidence=said[0].evidence, others=[v.name for v in said[1:]], right=right)


def summary(rows):
    "How many broken runs were named rightly, how many healthy ones accused"
    healthy = [r for r in rows if r['expected'] == ['healthy']]
    broken = [r for r in rows if r['expected'] != ['healthy']]
    part = lambda some, many: round(len(some) / len(many), 4) if many else None
    return dict(broken=len(broken), named_rightly=part([r for r in broken if r['right']], broken),
                healthy=len(healthy), accused=part([r for r in healthy if not r['right']], healthy))


def main():
    "Train, judge, print, write"
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    words.add_argument('--keep', type=Path)
    words.add_argument('--only', help='cases whose method and name hold these letters')
    words.add_argument('--out', type=Path, default=RESULT)
    args, rows = words.parse_args(), []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in args.seeds:
            for case in cases():
                label = f'{case.method} {case.name}'
                if args.only and args.only not in label: continue
                out = (args.keep or Path(temporary))/f'{label.replace(" ", "_").replace("=", "is")}-{seed}'
                if not out.exists(): train(case, seed, out)
                rows.append(judged(case, seed, out))
                print('   ' if rows[-1]['right'] else 'NOT', f'{label} ({seed}): {rows[-1]["said"]}', flush=True)
    print(summary(rows))
    about = dict(what='small runs of five methods, 50 steps (one case 200) of 16 drawn pictures, broken on purpose or '
                      'not; the first verdict counts; thresholds were chosen on seed 10', seeds=args.seeds)
    result = about | summary(rows) | dict(rows=rows, command='python -m benchmarks.doctor',
                                          commit=provenance.commit('benchmarks/doctor.py'),
                                          device=provenance.device_name(), versions=provenance.versions())
    args.out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__': main()
