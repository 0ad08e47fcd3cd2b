"""DAVIS: the first mask carried through 24 frames of 120 x 216; J&F of anything that gives maps of features.

    python -m benchmarks.protocols.davis [--seeds 3]

prints and writes to benchmarks/results/davis.json what an encoder has to beat: the first mask kept still, raw pixels
(patches of 8 x 8 and 4 x 4 as features), and small vision transformers with random weights. Ten sequences of DAVIS
2016 val at 240 pixels height, stretched to 120 x 216; DINO's label propagation (5 neighbours, 7 past frames and the
first, radius 12 patches, temperature .1); J and F as in the official evaluation, means over the ten objects.
"""
import argparse
import statistics
import sys
from functools import lru_cache

import torch.nn.functional as F

from benchmarks.provenance import RESULTS, command, commit, device_name, positive_int, versions, write_json
from ssl_workbench import core, data, probes
from ssl_workbench.nets import vit

FRAMES, SIZE, PATCH = 24, (120, 216), 8
TRAINED = ('breakdance', 'cows', 'drift-straight', 'libby', 'paragliding-launch')      # films of a recipe;
JUDGED = ('blackswan', 'car-roundabout', 'dog', 'horsejump-high', 'scooter-black')     # these are then their test


def available():
    "Whether DAVIS is there"
    return core.data_root() is not None and (core.data_root()/'davis').is_dir()


@lru_cache(maxsize=None)
def sequences(frames=FRAMES, size=SIZE):
    "Samples with frames (T,3,H,W) uint8 and instances (T,H,W); none where DAVIS is not there"
    return list(data.Davis(frames=frames, size=size)) if available() else []


def names():
    "The sequences' names, in the same order"
    return data.Davis(frames=FRAMES, size=SIZE).names if available() else []


def scores(encoder, clips=None):
    "{'jf', 'j', 'f'} of an encoder with features(x), or of a function images (T,3,H,W) float 0-1 -> (T,D,h,w)"
    found = probes.video_segmentation(encoder, clips or sequences())
    return {name: dict(jf=(s['j'] + s['f'])/2, j=s['j'], f=s['f']) for name, s in found.items()}


def pixels(patch):
    "Raw pixels as features: each cell is its patch x patch pixels"
    return lambda images: F.pixel_unshuffle(images, patch)


def random_vit(seed):
    "A small vision transformer (192 channels, 6 blocks, patches of 8) with random weights"
    with core.seeded(seed): return vit(size=64, patch=PATCH).eval()


def measure(seeds):
    "name -> jf, j, f; random weights with the spread over seeds"
    rows = {}
    for patch in (8, 4):
        found = scores(pixels(patch))
        rows['still'] = found['still']
        rows[f'pixels {patch} x {patch}'] = found['method']
    each = [scores(random_vit(seed))['method'] for seed in range(seeds)]
    rows['random ViT'] = {k: statistics.mean(s[k] for s in each) for k in each[0]} | dict(
        seeds=[s['jf'] for s in each])
    return rows


def main(argv=None):
    "Exit code 2 where DAVIS is not there"
    p = argparse.ArgumentParser(prog='python -m benchmarks.protocols.davis', description=__doc__.splitlines()[0])
    p.add_argument('--seeds', type=positive_int, default=3, help='of random weights')
    args = p.parse_args(argv)
    if not available():
        print('davis is not in the data folder: SSL_DATA names the folder it lies in', file=sys.stderr)
        return 2
    rows = measure(args.seeds)
    for name, s in rows.items(): print(f"{name:16} J&F {s['jf']:.3f}  J {s['j']:.3f}  F {s['f']:.3f}")
    write_json(RESULTS/'davis.json', dict(
        kind='protocol', what='label propagation on DAVIS', data='DAVIS 2016 val, ten sequences, 240p', frames=FRAMES,
        size=SIZE, rows=rows, device=device_name(), versions=versions(), commit=commit(),
        command=command('benchmarks.protocols.davis', sys.argv[1:] if argv is None else argv)))
    return 0


if __name__ == '__main__': sys.exit(main())
