"""What must not change when code moves: drawn worlds, what bundled weights compute, an old run, the words of commands.

The values lie in tests/pinned and were written by `python tests/test_pinned.py` before the modules became packages.
Write them anew only when a change of behaviour is meant, and say so in the commit.
"""
import contextlib
import importlib
import io
import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_workbench import catalog, world

HERE = Path(__file__).resolve().parent
PINNED = HERE/'pinned'
KINDS = ('iconic', 'scene', 'drive', 'motion', 'bounce', 'walker', 'arm')
WORLDS = [(kind, level) for kind in KINDS for level in (0, 3)]
TRUTH = ('flow', 'flow_back', 'visible', 'instances', 'classes', 'depth', 'boxes', 'action')


def drawn(kind, level):
    "A small video and the sums of its truth"
    video = world.sample(seed=7, kind=kind, level=level, size=(32, 48), frames=4)
    truth = {k: torch.as_tensor(video[k]).double().nan_to_num(-1).flatten() for k in TRUTH if k in video}
    weight = lambda x: torch.arange(1, len(x) + 1, dtype=torch.float64).sin()
    sums = {k: [float(x.sum()), float((x * weight(x)).sum())] for k, x in truth.items()}
    return video['frames'].numpy(), sums, video['caption']


def computed(name):
    "Numbers that a bundled method gives for two fixed pictures"
    method = catalog.load(name)
    if not hasattr(method, 'features'): return {'embedding': method.embedding.flatten()[::997][:12].tolist()}
    size = method.config.size
    video = world.batch([3, 4], kind='scene', level=1, size=(size, size), frames=2, truth=False)['frames'].float() / 255
    a, b = video[:, 0], video[:, 1]
    with torch.no_grad():
        out = {'pooled': method.features(a)['pooled'].flatten()[:8].tolist()}
        if hasattr(method, 'attention') and hasattr(method, 'slots') or name in ('dilemma', 'loca'):
            out['attention'] = method.attention(a).flatten()[::17][:8].tolist()
        if hasattr(method, 'slots'): out['slots'] = method.slots(a).flatten().tolist()
        if hasattr(method, 'locate'): out['located'] = method.locate(a[:, :, :48, :48], a).flatten().tolist()
        if hasattr(method, 'mismatch'):
            n = (size // method.config.patch)**2
            out['mismatch'] = method.mismatch(a, torch.arange(n).roll(1).repeat(2, 1)).flatten()[:8].tolist()
        if hasattr(method, 'embed_texts'): out['texts'] = method.embed_texts(['A red star.']).flatten()[:8].tolist()
        if hasattr(method, 'flow'): out['flow'] = method.flow(a, b).flatten()[::501][:12].tolist()
        if hasattr(method, 'predict'):
            out['predicted'] = method.predict(video, 2, seed=1).flatten()[::997][:12].tolist()
    return out


def command(*words):
    "(exit code, what was printed) of the console script that pyproject names"
    project = tomllib.loads((HERE.parent/'pyproject.toml').read_text())['project']
    module, function = project['scripts']['ssl-workbench'].split(':')
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = getattr(importlib.import_module(module), function)(list(map(str, words)))
    return code, out.getvalue() + err.getvalue()


def spoken(out):
    "Commands and what they print; numbers of training and probing included"
    simclr = ['train', 'simclr', '--preset', 'cpu', '--device', 'cpu', '--data', 'world:iconic:0', '--seed', '3']
    train = [*simclr, '--out', out, '--set', 'batch=4', '--steps', '4']
    other = ['--out', out + '-b']
    commands = {
        'train': train,
        'again': train,
        'resumed': [*train, '--resume'],
        'probe': ['probe', 'slotmim', '--data', 'world:iconic:0', '--train', '40', '--test', '20'],
        'setting': ['train', 'simclr', '--set', 'dept=3', *other],
        'value': ['train', 'simclr', '--set', 'depth=deep', *other],
        'nothing': ['probe', 'no-such-weights'],
        'verb': ['tarin']}
    spoken = {name: command(*words) for name, words in commands.items()}
    bundled = ', '.join(sorted(catalog.cards()))
    return {name: [code, words.replace(out, 'OUT').replace(bundled, 'BUNDLED')]
            for name, (code, words) in spoken.items()}


def write():
    "Everything anew"
    torch.set_num_threads(1)
    PINNED.mkdir(exist_ok=True)
    videos = {f'{k}-{l}': drawn(k, l) for k, l in WORLDS}
    np.savez_compressed(PINNED/'worlds.npz', **{k: v[0] for k, v in videos.items()})
    import tempfile
    values = dict(worlds={k: v[1:] for k, v in videos.items()}, weights={n: computed(n) for n in catalog.cards()},
                  run=of_run(), commands=spoken(tempfile.mkdtemp() + '/run'))
    (PINNED/'values.json').write_text(json.dumps(values, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def of_run():
    "Numbers that the old run's method gives"
    frames = world.batch([3], kind='iconic', level=1, size=(64, 64), frames=1, truth=False)['frames'][:, 0] / 255
    with torch.no_grad(): return catalog.load(PINNED/'run').features(frames)['pooled'].flatten().tolist()


def pinned(): return json.loads((PINNED/'values.json').read_text(encoding='utf-8'))


@pytest.mark.parametrize('kind, level', WORLDS, ids=str)
def test_worlds_are_drawn_as_before(kind, level):
    "Frames to 1/255 on 99.9 % of pixels, the truth's sums, captions to the letter"
    frames, truth, caption = drawn(kind, level)
    old, (sums, words) = np.load(PINNED/'worlds.npz')[f'{kind}-{level}'], pinned()['worlds'][f'{kind}-{level}']
    assert (np.abs(frames.astype(int) - old) <= 1).mean() >= .999
    assert truth.keys() == sums.keys()
    for key, two in truth.items(): assert two == pytest.approx(sums[key], rel=1e-4, abs=1e-2), key
    assert caption == words


@pytest.mark.parametrize('name', sorted(pinned()['weights']) if (PINNED/'values.json').exists() else [])
def test_bundled_weights_compute_as_before(name):
    "Features and what each method shows, on two fixed pictures"
    now, then = computed(name), pinned()['weights'][name]
    assert now.keys() == then.keys()
    for key, values in then.items():
        if all(isinstance(v, int) for v in values): assert np.mean(np.array(now[key]) == values) >= .98, key
        else: assert now[key] == pytest.approx(values, rel=1e-3, abs=1e-4), key


def test_old_run_loads():
    "A checkpoint of a run that was trained before the move"
    assert of_run() == pytest.approx(pinned()['run'], rel=1e-3, abs=1e-4)


NUMBER = re.compile(r'-?\d+\.\d+(?:e-?\d+)?|-?\.\d+')


def test_commands_speak_as_before(tmp_path):
    "Exit codes and words the same; numbers too, to two parts in a hundred"
    numbers = lambda words: [float(n) for n in NUMBER.findall(words)]
    now = spoken(str(tmp_path/'run'))
    for name, (code, words) in pinned()['commands'].items():
        code_now, words_now = now[name]
        assert code_now == code and NUMBER.sub('N', words_now) == NUMBER.sub('N', words), name
        assert numbers(words_now) == pytest.approx(numbers(words), rel=2e-2, abs=2e-2), name


if __name__ == '__main__': sys.exit(write())
