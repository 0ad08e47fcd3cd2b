"""Whether the app grows with its visitors: `python -m benchmarks.speed.visitors`.

Some hundred visitors one after another, each of whom opens the hub, drops a photo of their own, and gets its slots.
After every tenth the resident memory of the server is read, and what it keeps in its folder of uploads and figures.
What counts is the growth from the 50th visitor to the last. The result goes to benchmarks/results/visitors.json.
"""
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.app import machine, photo, server, visit
from benchmarks.provenance import positive_int
from benchmarks.speed.measure import options, save

FIRST = 50                         # visitors after whom everything that is loaded once has been loaded
MOST = 200                         # MB that the server may grow from then on


def resident(pid):
    "Megabytes of a process that are in memory"
    fields = Path(f'/proc/{pid}/status').read_text().split('VmRSS:')[1].split()
    return int(fields[0]) / 1024


def kept(folder):
    "How many files a server keeps, and how many megabytes they are"
    sizes = [p.stat().st_size for p in Path(folder).rglob('*') if p.is_file()]
    return len(sizes), sum(sizes) / 2**20


def photos(folder, n):
    "Paths of n photos, no two alike, each made when it is wanted"
    base = np.asarray(Image.open(photo(Path(folder)/'base.jpg')))
    for k in range(n):
        file = Path(folder)/f'photo{k}.jpg'
        Image.fromarray(np.roll(base, (7 * k, 13 * k), (0, 1))).save(file, quality=90)
        yield file
        file.unlink()


def visitors(n, every=10, **env):
    "A row after every few visitors: how many came, megabytes in memory, files and megabytes kept; seconds of each"
    rows, seconds = [], []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        with server(GRADIO_TEMP_DIR=cache, **env) as (url, _, process):
            start = resident(process.pid)
            for k, path in enumerate(photos(folder, n), 1):
                seconds.append(visit(url, path)[0])
                if k % every and k != n: continue
                files, size = kept(cache)
                rows.append(dict(visitors=k, resident_mb=round(resident(process.pid), 1), files=files,
                                 files_mb=round(size, 1)))
                print(f"{k:4} visitors · {rows[-1]['resident_mb']:.0f} MB in memory · {files} files, {size:.0f} MB",
                      file=sys.stderr, flush=True)
    return dict(start_mb=round(start, 1), rows=rows, median_s=round(statistics.median(seconds), 3))


def growth(rows, first=FIRST):
    "Megabytes from the first so many visitors to the last"
    early = [r['resident_mb'] for r in rows if r['visitors'] <= first]
    return round(rows[-1]['resident_mb'] - early[-1], 1)


def main(argv=None):
    "Measure, print, write; exit code 1 where the server grew by more than MOST"
    args = options('benchmarks.speed.visitors', __doc__, argv, threads=2,
                   visitors=dict(type=positive_int, default=500, help='one after another'))
    start = time.monotonic()
    found = visitors(args.visitors)
    minutes = round((time.monotonic() - start) / 60, 1)
    found |= dict(visitors=args.visitors, growth_mb=growth(found['rows']), minutes=minutes, machine=machine())
    save('visitors', f'memory of the app over its visitors; growth from the first {FIRST} to the last', found, args)
    print(f"{found['growth_mb']} MB from visitor {FIRST} to visitor {args.visitors}; at most {MOST} are allowed")
    return int(found['growth_mb'] > MOST)


if __name__ == '__main__': sys.exit(main())
