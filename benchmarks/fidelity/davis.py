"""Do J and F of `probes.davis` agree with DAVIS's own evaluation?

    git clone https://github.com/davisvideochallenge/davis2017-evaluation PATH
    python -m benchmarks.fidelity.davis --public PATH

It runs the authors' functions beside ours on random masks (blobs, outlines at the picture's edge, single pixels, empty and full ones, odd sizes) and writes
benchmarks/results/fidelity-davis.json: seeds, both figures, the upstream commit; never their code. Their code needs opencv, scikit-image and scipy.
"""
import argparse, json, subprocess, sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ssl_workbench import probes

RESULT = Path(__file__).parents[1]/'results'/'fidelity-davis.json'
TOLERANCE = 1e-6
SIZES = [(24, 24), (37, 53), (64, 64), (96, 160), (120, 214), (7, 300)]
KINDS = ['near', 'far', 'empty guess', 'empty truth', 'both empty', 'full', 'sparse']
FRAMES = 6


def blobs(seed, size, frames=FRAMES, level=.15, grain=5):
    "Smooth noise cut at a level: (T,H,W) bool, changing from frame to frame"
    noise = torch.randn(frames, 1, *(max(2, n // grain) for n in size), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size, mode='bilinear')[:, 0] > level


def masks(kind, seed, size):
    "(guess, truth), each (T,H,W) bool"
    truth, other = blobs(2 * seed, size), blobs(2 * seed + 1, size)
    if kind == 'near': return truth.roll((1, 2), (1, 2)) | (other & blobs(seed, size, level=1.)), truth
    if kind == 'far': return other, truth
    if kind == 'empty guess': return other & (torch.arange(FRAMES) % 2 > 0)[:, None, None], truth
    if kind == 'empty truth': return other, truth & (torch.arange(FRAMES) % 2 > 0)[:, None, None]
    if kind == 'both empty': return other & False, truth & False
    if kind == 'full': return other | True, truth
    return torch.rand(other.shape, generator=torch.Generator().manual_seed(seed)) < .01, blobs(seed, size, level=2.)


def public(path):
    "Their two functions and the loop around them"
    sys.path.insert(0, str(path))
    from davis2017.evaluation import DAVISEvaluation
    return DAVISEvaluation._evaluate_semisupervised


def theirs(evaluate, guess, truth):
    "J and F as their script has them: the first and the last frame cut off, one object, its mean over frames"
    cut = lambda m: m[None, 1:-1].numpy()
    j, f = evaluate(cut(truth), cut(guess), None, ('J', 'F'))
    return dict(j=float(np.mean(j)), f=float(np.mean(f)))


def case(evaluate, kind, seed, size):
    "Both on the same masks"
    guess, truth = masks(kind, seed, size)
    a, b = theirs(evaluate, guess, truth), probes.davis(guess, truth)
    return dict(kind=kind, seed=seed, size=list(size), theirs=a, ours=b, difference=max(abs(a[k] - b[k]) for k in a))


def git(path, *words):
    "What git says of a checkout, or None"
    done = subprocess.run(['git', '-C', str(path), *words], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def report(path, cases, seeds):
    "All that was measured, with where and how"
    return dict(what='DAVIS J and F: ours beside davis2017-evaluation on the same masks', tolerance=TOLERANCE, largest=max(c['difference'] for c in cases),
                upstream=dict(repository='https://github.com/davisvideochallenge/davis2017-evaluation', commit=git(path, 'rev-parse', 'HEAD')),
                commit=git('.', 'rev-parse', 'HEAD'), changed=bool(git('.', 'status', '--porcelain', 'ssl_workbench')),
                command=f'python -m benchmarks.fidelity.davis --public PATH --seeds {seeds}', device='cpu', versions=dict(torch=torch.__version__, numpy=np.__version__),
                known_differences=['Void pixels are not handled: their semi-supervised evaluation passes none either.'], cases=cases)


def main():
    "Compare, print, write; exit code 1 where a figure differs"
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--public', type=Path, required=True, help='checkout of the public code')
    arguments.add_argument('--seeds', type=int, default=3)
    arguments.add_argument('--out', type=Path, default=RESULT, help='JSON to write')
    args = arguments.parse_args()
    if not (args.public/'davis2017'/'metrics.py').exists(): sys.exit(f'{args.public} is not a checkout of the public code: davis2017/metrics.py is missing')
    evaluate = public(args.public)
    cases = [case(evaluate, kind, seed, size) for kind in KINDS for size in SIZES for seed in range(args.seeds)]
    found = report(args.public, cases, args.seeds)
    print(f"{len(cases)} cases, largest difference {found['largest']:.1e}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + '\n')
    sys.exit(int(not found['largest'] <= TOLERANCE))


if __name__ == '__main__': main()
