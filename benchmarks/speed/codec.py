"""How fast clips are read from codes, and what the codec costs in quality: `python -m benchmarks.speed.codec`.

Reading: the same clips as a film in H.264 (read frame by frame, `data.read_video`), as raw bytes, memory-mapped, and as
codes of 10 x 10 patches (`data.CodeClips`), all in one run on one thread, in turn; frames a second of processor time,
so that other programs of the machine do not count. Two films: drawn clips of
220 x 220 pixels and, where it is there, `clip_alley` at 220 x 510.
Quality: PSNR and compression factor, codebook left out and counted, on drawn clips that the codebook has not seen, and
on `clip_alley` at 240 x 480 by a codebook of other real films (DAVIS), of its own first half (scored on the second),
and of the clip itself. The result goes to benchmarks/results/codec.json.
"""
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.provenance import positive_int
from benchmarks.speed.measure import options, save
from ssl_workbench import core, data
from ssl_workbench.world import World

GOAL = dict(times_as_fast=5, factor=100, psnr=25)
DRAWN, FRAMES, VIDEOS = (80, 80), 8, 256
FILM = dict(size=(220, 220), frames=64)
PATCHES = (10, 16, (4, 5, 5))


# ---- reading

class One:
    "A dataset of one clip"
    def __init__(self, clip): self.clip = clip
    def __len__(self): return 1
    def __getitem__(self, i): return dict(frames=self.clip, aspect=1.)


def reading(clip, tries, box):
    "Frames a second of one clip as a film, as raw bytes and as codes; bytes of each"
    film, raw, store = box/'film.mp4', box/'raw.npy', box/'store'
    data.write_video(clip, film)
    np.save(raw, clip.numpy())
    codec = data.fit_codec(clip[None], codes=1024, patch=10, steps=20)
    data.store_codes(codec, One(clip), store)
    codes = data.CodeClips(store)
    ways = {'film': lambda: data.read_video(film), 'codes': lambda: codes.batch([0])['frames'][0],
            'raw': lambda: torch.from_numpy(np.load(raw, mmap_mode='r').copy())}
    assert all(way().shape[0] == len(clip) for way in ways.values())
    times = {name: [] for name in ways}
    for _ in range(tries):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(time.process_time() - start)
    rates = {name: len(clip)/statistics.median(t) for name, t in times.items()}
    sizes = dict(film=film.stat().st_size, raw=clip.numel(), codes=2*clip.numel()//300, codebook=codec.codebook.numel())
    return dict(shape=list(clip.shape), frames_per_second=rates, bytes=sizes,
                times_as_fast=rates['codes']/rates['film'])


# ---- quality

def row(codec, frames, clips, shape):
    "PSNR and both compression factors"
    return dict(codes=len(codec), patch=list(codec.patch), psnr=codec.psnr(frames), factor=codec.factor(),
                factor_with_codebook=codec.factor(clips, shape))


def drawn_quality(codes, steps):
    "On drawn clips: the codebook of 256 of them, scored on 32 others"
    films = World('scene', level=1, size=DRAWN, frames=FRAMES, length=4096, truth=False, pool=False)
    train, test = films.batch(range(VIDEOS))['frames'], films.batch(range(4000, 4032))['frames']
    return [row(data.fit_codec(train, k, patch, steps), test, VIDEOS, (FRAMES, 3, *DRAWN))
            for patch in PATCHES for k in codes]


def film_quality(codes, steps):
    "On clip_alley by three codebooks; nothing where the data folder lacks it or DAVIS"
    root = core.data_root()
    if not root or not (root/'clip_alley').is_dir() or not (root/'davis').is_dir(): return []
    found = []
    for patch in PATCHES:
        alley = data.read_video(root/'clip_alley', frames=8, size=(240, 480))
        davis = data.Davis(frames=24, size=(240, 400), every=24)
        films = torch.stack([davis[i]['frames'] for i in range(len(davis))])
        for k in codes:
            made = {'other films (DAVIS)': (films, alley), 'its first half': (alley[None, :4], alley[4:]),
                    'itself': (alley[None], alley)}
            for name, (clips, test) in made.items():
                n = data.cut_patches(clips, data.patch_shape(patch)).flatten(0, -2).shape[0]
                if k > n // 3: continue
                one = data.fit_codec(clips, k, patch, steps)
                found.append(dict(codebook=name) | row(one, test, len(clips), tuple(clips.shape[1:])))
    return found


def table(found):
    "The result in words"
    lines = []
    for name, r in found['reading'].items():
        rates = ', '.join(f'{k} {v:,.0f}' for k, v in r['frames_per_second'].items())
        lines.append(f"{name} {tuple(r['shape'])}: frames/s {rates}; codes are read {r['times_as_fast']:.1f} times as "
                     f"fast as the film (wanted: {GOAL['times_as_fast']})")
    for name in ('drawn', 'alley'):
        for r in found[name]:
            patch = ' x '.join(map(str, r['patch']))
            lines.append(f"{name}, codebook of {r.get('codebook', 'other drawn clips')}, {patch}, {r['codes']} codes: "
                         f"{r['psnr']:.2f} dB, {r['factor']:.0f}x ({r['factor_with_codebook']:.1f}x with the codebook)")
    return '\n'.join(lines)


def main(argv=None):
    "Measure, print, write"
    args = options('benchmarks.speed.codec', __doc__, argv, threads=1,
                   tries=dict(type=positive_int, default=9, help='of each way of reading'),
                   steps=dict(type=positive_int, default=40, help='of k-means'),
                   codes=dict(type=positive_int, nargs='*', help='sizes of the codebook; 1024 2048 by default'))
    codes = args.codes or [1024, 2048]
    clip = World('scene', level=1, size=FILM['size'], frames=FILM['frames'], length=1, truth=False)[0]['frames']
    with tempfile.TemporaryDirectory() as box: found = dict(reading=dict(drawn=reading(clip, args.tries, Path(box))))
    root = core.data_root()
    if root and (root/'clip_alley').is_dir():
        alley = data.read_video(root/'clip_alley', size=(220, 510))
        with tempfile.TemporaryDirectory() as box: found['reading']['alley'] = reading(alley, args.tries, Path(box))
    found |= dict(drawn=drawn_quality(codes, args.steps), alley=film_quality(codes, args.steps), goal=GOAL)
    print(table(found))
    save('codec', 'the patch codec', found, args)


if __name__ == '__main__': main()
