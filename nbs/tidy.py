"""Strip from notebooks what a run leaves behind, so that a diff shows only what a person wrote.

    python nbs/tidy.py [FILES]           rewrite them (all notebooks when none is named)
    python nbs/tidy.py --check [FILES]   only say which are untidy; exit code 1 if any
    python nbs/tidy.py --run [FILES]     run them first and keep their outputs; at full length (SSL_BUDGET=1), write
                                         minutes and memory, as measured, into the line marked <!-- measured -->
"""
import argparse
import base64
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

NBS = Path(__file__).resolve().parent
KEEP_METADATA = {'kernelspec'}
KEEP_CELL = {'hide_input', 'tags', 'jupyter'}   # tags: solutions of exercises; jupyter: folded
WIDGETS = 'application/vnd.jupyter.widget'
PATHS = re.compile(r'(?<![\w.])/(?:home|root|tmp|work|Users|mnt|var|opt)/[^\s\'":,<>)]*')
ADDRESS = re.compile(r' at 0x[0-9a-f]+')
TEMPORARY = re.compile(r'(?:/[\w.-]+)+/tmp[a-z0-9_]{8}(?![a-z0-9_])')
MARK = '<!-- measured -->'                      # ends the line that says what a notebook costs
COST = re.compile(rf'^.*{MARK}$|^\**About [\w ]+ minutes? on two cores[^\n]*\.\**$', re.M)
COSTS = '''import pathlib, re, resource
own, others = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
status = pathlib.Path('/proc/self/status')     # Linux: ru_maxrss is at least that of whoever started this process
peak = int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) if status.exists() else own.ru_maxrss
print(max(peak, others.ru_maxrss), sum(u.ru_utime + u.ru_stime for u in (own, others)))'''
KERNEL = {'display_name': 'python3', 'language': 'python', 'name': 'python3'}


def text(source):
    "A cell's or output's text, whether stored as a string or as lines"
    return source if isinstance(source, str) else ''.join(source)


def lines(source):
    "Text as notebooks store it: a list of lines"
    return text(source).splitlines(keepends=True)


def timeless(words):
    "Text without the addresses of objects and the names of temporary folders"
    return TEMPORARY.sub('TEMP', ADDRESS.sub('', words))


def small(picture):
    "A stored PNG with 128 colours, a sixth of the bytes; those that are small or have a palette stay as they are"
    if len(picture) < 20_000: return picture
    from PIL import Image
    try: image = Image.open(io.BytesIO(base64.b64decode(picture)))
    except OSError: return picture
    if image.mode == 'P': return picture
    file = io.BytesIO()
    image = image.convert('RGB').quantize(128, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    image.save(file, 'PNG', optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def tidy_output(output):
    "One output without counts, addresses and widget state; None when nothing worth keeping is left"
    if output['output_type'] == 'stream':
        if output.get('name') == 'stderr': return None
        kept = [l.split('\r')[-1] for l in lines(output['text']) if '\r' not in l.rstrip('\r\n')]
        return {**output, 'text': lines(timeless(''.join(kept)))} if kept else None
    if 'execution_count' in output: output = {**output, 'execution_count': None}
    if 'data' not in output: return output
    data = {k: v for k, v in output['data'].items() if not k.startswith(WIDGETS)}
    data.update({k: text(v).rstrip() for k, v in data.items() if k.startswith('image/') and 'svg' not in k})
    if 'image/png' in data: data['image/png'] = small(data['image/png'])
    if 'text/plain' in data:
        data['text/plain'] = lines(timeless(text(data['text/plain'])))
    if any(k.startswith('image/') for k in data) and any(k.startswith(WIDGETS) for k in output['data']):
        data.pop('text/plain', None)
    only_repr = set(data) <= {'text/plain'} and len(data) != len(output['data'])
    return None if only_repr else {**output, 'data': data, 'metadata': {}}


def tidy_cell(cell):
    "One cell with its source, its tags, its id and tidy outputs"
    new = {'cell_type': cell['cell_type'], 'id': cell.get('id'),
           'metadata': {k: v for k, v in cell.get('metadata', {}).items() if k in KEEP_CELL},
           'source': lines(cell['source'])}
    if 'attachments' in cell: new['attachments'] = cell['attachments']
    if cell['cell_type'] == 'code':
        new['execution_count'] = None
        new['outputs'] = [o for o in map(tidy_output, cell.get('outputs', [])) if o]
    return new


def tidy(nb):
    "The notebook with nothing in it that depends on when and where it ran"
    cells = [tidy_cell(c) for c in nb['cells'] if text(c['source']).strip()]
    meta = {k: v for k, v in nb.get('metadata', {}).items() if k in KEEP_METADATA}
    return {'cells': cells, 'metadata': {'kernelspec': KERNEL, **meta}, 'nbformat': 4, 'nbformat_minor': 5}


def dumps(nb):
    "The notebook's bytes as nbdev_clean writes them"
    return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n'


def faults(nb):
    "Sentences about what tidying cannot mend: missing ids, absolute paths, too much output"
    ids = [c.get('id') for c in nb['cells']]
    if None in ids or len(set(ids)) < len(ids): yield 'cell ids are missing or double'
    outputs = [o for c in nb['cells'] for o in c.get('outputs', [])]
    size = len(json.dumps(outputs))
    if size > 450_000: yield f'outputs take {size // 1000} kB, more than 450 kB as stored (340 kB of pictures)'
    for found in PATHS.findall(' '.join(text(o.get('text', '')) + text(o.get('data', {}).get('text/plain', ''))
                                        for o in outputs)):
        yield f'an output shows the path {found}'
    for c in nb['cells']:
        if any(o['output_type'] == 'error' for o in c.get('outputs', [])): yield f"cell {c['id']} ended in an error"


def notebooks():
    "All notebooks of the project"
    return sorted(p for p in NBS.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)


def staged():
    "Notebooks in git's index"
    names = subprocess.run(['git', 'diff', '--cached', '--name-only', '--diff-filter=ACM', '-z', '--', '*.ipynb'],
                           capture_output=True, text=True, check=True).stdout.split('\0')
    return [Path(n) for n in names if n]


def cost_line(minutes, gigabytes, cores):
    "What a notebook costs, in words"
    n = round(minutes)
    spent = f'about {n} minutes' if n > 1 else 'about a minute' if n else 'less than a minute'
    return f"*Measured: {spent} on {cores} core{'s' * (cores > 1)}, {gigabytes:.1f} GB of memory.* {MARK}"


def with_cost(nb, line):
    "The notebook with this line: in place of the one there is near its top, else below its title"
    top = [c for c in nb['cells'][:8] if c['cell_type'] == 'markdown']
    old = next((c for c in top if COST.search(text(c['source']))), None)
    if old: old['source'] = COST.sub(lambda _: line, text(old['source']), count=1)
    else: top[0]['source'] = re.sub(r'\A(.*?^>.*?)(?=\n\n|\n*\Z)', lambda m: f'{m[1]}\n\n{line}',
                                    text(top[0]['source']), count=1, flags=re.M | re.S)
    return nb


def run(path):
    "Execute a notebook in place with its own folder as working folder; minutes, and gigabytes of its largest process"
    import nbformat
    from nbclient import NotebookClient
    nb, start = nbformat.read(path, 4), time.monotonic()
    nb.cells.append(nbformat.v4.new_code_cell(COSTS))
    NotebookClient(nb, timeout=3600, kernel_name='python3', record_timing=False, store_widget_state=False,
                   resources={'metadata': {'path': str(path.parent)}}).execute()
    peak, busy = map(float, nb.cells.pop().outputs[0]['text'].split())
    minutes = min(time.monotonic() - start, busy) / 60     # its own processors' time, where others kept it waiting
    gigabytes = peak / (1e9 if sys.platform == 'darwin' else 1e6 / 1.024)      # bytes there, kibibytes elsewhere
    if float(os.environ.get('SSL_BUDGET', 1)) == 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
        with_cost(nb, cost_line(minutes, gigabytes, min(cores, int(os.environ.get('OMP_NUM_THREADS') or cores))))
    nbformat.write(nb, path)
    return minutes, gigabytes


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('files', nargs='*', type=Path)
    p.add_argument('--check', action='store_true')
    p.add_argument('--run', action='store_true')
    p.add_argument('--staged', action='store_true', help='the notebooks about to be committed')
    args = p.parse_args()
    bad = 0
    for path in staged() if args.staged else args.files or notebooks():
        if args.run: print('running', path); print('{:.1f} minutes, {:.1f} GB'.format(*run(path)))
        old = path.read_text(encoding='utf-8')
        new = dumps(tidy(json.loads(old)))
        if new != old and args.check: print(f'{path}: untidy, run: python nbs/tidy.py {path}'); bad += 1
        elif new != old: path.write_text(new, encoding='utf-8'); print('tidied', path)
        for fault in faults(json.loads(new)): print(f'{path}: {fault}'); bad += 1
    return bool(bad)


if __name__ == '__main__': sys.exit(main())
