"""Mutated files of all kinds: no crash but a sentence, no hang, no flood of memory

    python -m benchmarks.robustness files [--count 4500] [--seed 2026]    writes results/robustness-files.json
"""
import argparse
import io
import json
import random
import resource
import struct
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from ssl_workbench import data

RESULTS = Path(__file__).parent/'results'
PICTURES = ('JPEG', 'PNG', 'GIF', 'WEBP', 'BMP', 'TIFF', 'PPM', 'JPEG2000', 'AVIF')
FILMS = [('mp4', 'libx264'), ('mkv', 'libx264'), ('avi', 'mpeg4'), ('mov', 'mjpeg'), ('webm', 'libvpx-vp9'),
         ('mpg', 'mpeg2video'), ('ts', 'libx264'), ('flv', 'flv'), ('wmv', 'wmv2')]


def page(t=0, h=24, w=32):
    "A small picture with an edge that moves"
    y, x = np.mgrid[:h, :w]
    a = np.stack([200 - y, 90 + x, np.full((h, w), 120)], -1)
    a[(x > 4 + 3*t) & (x < 12 + 3*t)] = [230, 60, 40]
    return Image.fromarray(a.astype(np.uint8))


def encoded(kind, pages=1, **kw):
    "A picture or an animation as bytes"
    out, first = io.BytesIO(), page()
    more = dict(save_all=True, append_images=[page(t) for t in range(1, pages)]) if pages > 1 else {}
    first.save(out, kind, **more, **kw)
    return out.getvalue()


def film(path, codec):
    "A film of twelve frames as bytes"
    with av.open(str(path), 'w') as box:
        stream = box.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
        stream.options = {'g': '5'}
        for t in range(12): box.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(page(t % 5)), format='rgb24')))
        box.mux(stream.encode())
    return path.read_bytes()


def png16(values):
    "A 16-bit colour PNG"
    h, w, _ = values.shape
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    chunk = lambda k, b: struct.pack('>I', len(b)) + k + b + struct.pack('>I', zlib.crc32(k + b))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 16, 2, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def originals(folder):
    "Sound files: name → (bytes, reader)"
    image, video, flow = data.read_image, lambda b: data.read_video(b, frames=4, start=3), data.read_flow
    files = {k.lower(): (encoded(k), image) for k in PICTURES if k in data.supported_formats()}
    files['progressive.jpeg'] = encoded('JPEG', progressive=True), image
    for k in ('GIF', 'WEBP', 'PNG'): files[f'moving.{k.lower()}'] = encoded(k, 5), video
    for ending, codec in FILMS: files[ending] = film(folder/f'a.{ending}', codec), video
    slide = torch.full((2, 9, 12), 3.)
    files['flo'] = data.write_flow(slide, folder/'a.flo').read_bytes(), flow
    pixels = torch.ones(9, 12, 3).numpy()
    files['pfm'] = b'PF\n12 9\n-1.0\n' + pixels.astype('<f4').tobytes(), flow
    files['kitti.png'] = png16(pixels*2**15), flow
    files['depth.pfm'] = b'Pf\n12 9\n-1.0\n' + pixels[..., 0].astype('<f4').tobytes(), data.read_depth
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:
        for k in range(4): z.writestr(f'{"ab"[k % 2]}/{k}.png', encoded('PNG'))
        z.writestr('film.mp4', files['mp4'][0])
    files['zip'] = out.getvalue(), archive_reader(folder/'mutated.zip')
    return files


def archive_reader(path):
    "Every picture and every clip of an archive with these bytes"
    def read(body):
        path.write_bytes(body)
        folder = data.open_data(path, size=16)
        folder.check()
        clips = data.open_data(path, size=16, frames=4)
        clips.check()
        return folder[0]['frames']
    return read


def mutated(body, others, dice):
    "A body with bytes flipped, cut, inserted, or with another file's head"
    b = bytearray(body)
    for _ in range(dice.choice([1, 1, 2, 5, 20])):
        if not b: break
        at, kind = dice.randrange(len(b)), dice.randrange(6)
        if kind == 0: b[at] = dice.randrange(256)
        if kind == 1: b[at] ^= 1 << dice.randrange(8)
        if kind == 2: b[at:at] = dice.randbytes(dice.randrange(1, 30))
        if kind == 3: del b[at:at + dice.randrange(1, 60)]
        if kind == 4 and dice.random() < .3: del b[at:]
        if kind == 5 and dice.random() < .3: b[:dice.randrange(4, 64)] = dice.choice(others)[:dice.randrange(4, 64)]
    return bytes(b)


def outcome(read, body):
    "'read', 'refused', or what went wrong"
    try: out = read(body)
    except ValueError as error:  # BadFile is one
        text = str(error)
        good = type(error) in (ValueError, data.BadFile) and '\n' not in text and len(text) < 500
        return 'refused' if good else f'{type(error).__name__}: {text[:200]}'
    except Exception as error: return f'{type(error).__name__}: {error}'[:200]
    return 'read' if torch.is_tensor(out) and out.numel() else f'gave {out!r}'[:200]


def run(count, seed):
    "Figures of so many mutated files: how many were read, refused, wrong; the slowest and the memory"
    warnings.simplefilter('ignore')
    dice, found, wrong, slowest = random.Random(seed), Counter(), [], (0., '')
    with tempfile.TemporaryDirectory() as folder:
        files = originals(Path(folder))
        for name, (body, read) in files.items(): assert outcome(read, body) == 'read', (name, outcome(read, body))
        kinds, bodies = list(files), [body for body, _ in files.values()]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for k in range(count):
            kind = kinds[k % len(kinds)]
            body, begin = mutated(files[kind][0], bodies, dice), time.perf_counter()
            result = outcome(files[kind][1], body)
            slowest = max(slowest, (time.perf_counter() - begin, f'{kind} {k}'))
            found[result if result in ('read', 'refused') else 'wrong'] += 1
            if result not in ('read', 'refused'): wrong.append(f'{kind} {k}: {result}')
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)/2**20
    return dict(files=count, seed=seed, kinds=kinds, read=found['read'], refused=found['refused'], wrong=wrong,
                slowest_seconds=round(slowest[0], 2), slowest=slowest[1], memory_grown_gb=round(grown, 2),
                memory_gb=round(before/2**20 + grown, 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=['files'])
    parser.add_argument('--count', type=int, default=4500)
    parser.add_argument('--seed', type=int, default=2026)
    args = parser.parse_args()
    figures = run(args.count, args.seed)
    figures['command'] = f'python -m benchmarks.robustness files --count {args.count} --seed {args.seed}'
    print(json.dumps(figures, indent=1))
    (RESULTS/'robustness-files.json').write_text(json.dumps(figures, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__': main()
