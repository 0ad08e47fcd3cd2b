"""The command line: exit codes, one sentence, a run stopped by a signal and continued, bad files; README's example."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ssl_workbench import catalog, cli, training
from ssl_workbench.cli import main
from ssl_workbench.learner import checkpoints, newest_checkpoint

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, '-c', 'import sys; from ssl_workbench.cli import main; sys.exit(main())']
ENV = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'SSL_DATA': str(ROOT/'nowhere')}
TINY = [w for kv in ('batch=4', 'dim=48', 'depth=1', 'heads=2', 'hidden=32', 'prototypes=4') for w in ('--set', kv)]


def call(*words, cwd=None):
    "The command line in this process: (exit code, stdout, stderr)"
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err: code = main(list(map(str, words)))
    return code, out.getvalue(), err.getvalue()


def train(out, *words, steps=6, data='world:scene:0'):
    return ['train', 'slotmim', '--preset', 'cpu', '--device', 'cpu', '--data', data, '--steps', steps, '--out', out,
            *TINY, *words]


def final(out):
    "The last checkpoint's weights"
    return load_file(newest_checkpoint(out)/'model.safetensors')


def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A finished run of six steps"
    out = tmp_path_factory.mktemp('runs')/'whole'
    code, text, err = call(*train(out))
    assert code == 0 and '6 steps done' in text, err
    return out


def test_list():
    "A heading, nine rows and the classics that are ready, from a process of its own"
    done = subprocess.run([*COMMAND, 'list'], capture_output=True, text=True, env=ENV, timeout=300)
    lines = done.stdout.splitlines()
    there = [e.name for e in catalog.catalog] + [e.name for e in catalog.classics if e.state == 'ready']
    assert done.returncode == 0 and [line.split()[0] for line in lines[1:]] == there


def test_refusal_in_a_process():
    "Exit code 2, nothing on stdout, one sentence on stderr, no traceback"
    done = subprocess.run([*COMMAND, 'train', 'nobody'], capture_output=True, text=True, env=ENV, timeout=300)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.count('\n') == 1 and 'slotmim' in done.stderr


def planned():
    "The catalog with a row that is planned only"
    return (*catalog.catalog, replace(catalog.find('slotmim'), name='later', state='planned'))


def test_a_planned_method_is_refused(monkeypatch):
    "It stands in the list, and training says which are ready"
    monkeypatch.setattr(catalog, 'catalog', planned())
    code, out, err = call('train', 'later')
    assert (code, out) == (2, '') and err.count('\n') == 1 and "'later' is planned" in err and 'slotmim' in err


def folder(kind, where):
    "A folder of bad input"
    where.mkdir()
    if kind == 'text': (where/'a.jpg').write_text('this is no picture')
    if kind == 'zero': (where/'a.jpg').write_bytes(b'')
    return where


@pytest.mark.parametrize('words, hint', [
    ([], 'required'), (['fly'], 'fly'), (['list', 'more'], 'more'),
    (['train'], 'method'), (['train', 'nobody'], 'slotmim'),
    (['train', 'sfclip', '--set', 'text_teacher=nowhere'], 'nowhere'),
    (['train', 'slotmim', '--preset', 'huge'], 'huge'), (['train', 'slotmim', '--steps', '0'], '0'),
    (['train', 'slotmim', '--steps', 'many'], 'many'), (['train', 'slotmim', '--data', 'nowhere'], 'nowhere'),
    (['train', 'slotmim', '--data', 'world:moon'], 'moon'), (['train', 'slotmim', '--data', 'world:scene:9'], '9'),
    (['train', 'slotmim', '--set', 'size'], 'key=value'), (['train', 'slotmim', '--set', 'sise=3'], 'sise'),
    (['train', 'slotmim', '--set', 'size=big'], 'big'), (['train', 'slotmim', '--set', 'heads=5'], 'heads'),
    (['train', 'slotmim', '--device', 'abacus'], 'abacus'),
    (['train', 'slotmim', '--resume', '--out', 'never'], 'never'),
    (['probe', 'nothing'], 'nothing'), (['probe', 'x.pth'], 'no file'), (['probe', 'x.safetensors'], 'x.safetensors'),
    (['probe', '.'], 'checkpoint'), (['app', '--port', 'nine'], 'nine')],
    ids=lambda v: ' '.join(v) if isinstance(v, list) else '')
def test_what_it_cannot_do(words, hint, tmp_path, monkeypatch):
    "Exit code 2 and one sentence that names what is wrong"
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*words)
    assert code == 2 and hint in err and err.startswith('ssl-workbench: ') and err.count('\n') == 1, err


@pytest.mark.parametrize('kind', ['empty', 'text', 'zero'])
def test_bad_folder(kind, tmp_path):
    "A folder in which nothing can be read is refused by name"
    code, _, err = call(*train(tmp_path/'out', data=folder(kind, tmp_path/kind)))
    assert code == 2 and kind in err and 'Traceback' not in err


def test_one_bad_file_is_counted(tmp_path):
    "A folder of photographs with a broken one trains, and says how many were left out"
    where = folder('text', tmp_path/'photos')
    for i in range(5): Image.effect_noise((80 + i, 60), 60).convert('RGB').save(where/f'b{i}.png')
    code, out, err = call(*train(tmp_path/'out', data=where, steps=3))
    assert code == 0 and '1 files could not be read' in out, err


def test_training_twice_is_the_same(run, tmp_path):
    "Same words, same weights, bit for bit"
    assert call(*train(tmp_path/'again'))[0] == 0
    assert same(final(run), final(tmp_path/'again'))


def test_an_old_run_is_not_overwritten(run):
    "Without --resume a folder with a run is refused; with other settings or data, too"
    for words, hint in [([], '--resume'), (['--resume', '--set', 'tau=1'], 'tau'),
                        (['--resume', '--set', 'lr=.1'], 'lr'), (['--resume', '--seed', '1'], 'seed')]:
        code, _, err = call(*train(run, *words))
        assert code == 2 and hint in err, err
    assert call(*train(run, '--resume', data='world:iconic:0'))[0] == 2


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
def test_stopped_and_resumed(name, tmp_path):
    "A signal ends the run between two steps; the words it prints continue it to the same weights"
    out, log, steps = tmp_path/'run', tmp_path/'run'/'log.jsonl', 40
    child = subprocess.Popen([*COMMAND, *map(str, train(out, steps=steps))], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env=ENV)
    end = time.time() + 300
    begun = lambda: log.exists() and log.read_text().count('\n') >= 3
    while time.time() < end and child.poll() is None and not begun(): time.sleep(.02)
    child.send_signal(getattr(signal, name))
    text, err = child.communicate(timeout=300)
    if child.returncode == 0: pytest.skip('this machine finished before the signal came')
    assert child.returncode == 128 + getattr(signal, name), err
    again = re.search(r'to go on: ssl-workbench (.*)', text).group(1).split()
    assert '--resume' in again and 'Traceback' not in err
    assert call(*again)[0] == 0
    assert call(*train(tmp_path/'whole', steps=steps))[0] == 0
    assert same(final(out), final(tmp_path/'whole'))
    assert [json.loads(line)['i'] for line in log.read_text().splitlines()] == list(range(steps))


def test_probe_prints_protocol_and_baselines(run):
    "kNN and linear, each beside random networks and raw pixels, with how it was measured"
    code, out, _ = call('probe', run, '--data', 'world:iconic:0', '--train', 40, '--test', 20, '--device', 'cpu')
    assert code == 0
    assert all(w in out for w in ('random init', 'raw pixels', 'knn', 'linear', 'train 40, test 20', 'k=20'))


def test_probe_of_a_folder(run, tmp_path):
    "One sub-folder a class is enough; without classes there is nothing to probe"
    for c, value in (('dark', 40), ('light', 200)):
        (tmp_path/'set'/c).mkdir(parents=True)
        shades = [v // 4 + value // 2 for v in range(256)]
        for i in range(10): Image.effect_noise((64, 64), 30).point(shades).save(tmp_path/'set'/c/f'{i}.png')
    code, out, err = call('probe', run, '--data', tmp_path/'set', '--train', 16, '--test', 4, '--device', 'cpu')
    assert code == 0 and 'raw pixels' in out, err
    code, _, err = call('probe', run, '--data', tmp_path/'set'/'dark')
    assert code == 2 and 'label' in err


# ---- files that load refuses

@pytest.fixture
def saved(run, tmp_path):
    "Weights and card of the finished run"
    method = catalog.load(run)
    score = {'name': 'knn', 'value': .5, 'protocol': 'k=20', 'baselines': {'random init': .3}}
    card = dict(method='slotmim', preset='cpu', config=dict(vars(method.config)), seed=0, steps=6, device='cpu',
                data=[dict(name='world', source='ssl_workbench.world', licence='Apache-2.0')], torch=torch.__version__,
                wall_seconds=1., commit='0', command='test', scores=[score], curve=dict(step=[0, 5], total=[2., 1.]))
    return catalog.save_weights(method, tmp_path/'tiny', card)


def test_saved_weights_are_the_runs(saved, run):
    "What was saved in half precision shows the same slots on almost every patch"
    x = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    a, b = catalog.load(saved).slots(x), catalog.load(run).slots(x)
    assert (a == b).float().mean() > .98
    assert all(v.dtype == torch.float16 for v in load_file(saved).values() if v.is_floating_point())
    assert not [k for k in load_file(saved) if k.startswith('student')]


def recard(path, **changes):
    card = path.with_suffix('.json')
    new = {**json.loads(card.read_text()), **changes}
    card.write_text(json.dumps({k: v for k, v in new.items() if v is not None}))


def spoil(path, kind):
    "Weights or card with one thing wrong"
    whole = path.read_bytes()
    if kind == 'cut': path.write_bytes(whole[:len(whole) // 2])
    if kind == 'flipped bit': path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    if kind == 'no card': path.with_suffix('.json').unlink()
    if kind == 'card is text': path.with_suffix('.json').write_text('hello')
    if kind == 'card is a list': path.with_suffix('.json').write_text('[1, 2]')
    if kind == 'card is a number': path.with_suffix('.json').write_text('7')
    if kind == 'scores are numbers': recard(path, scores=[1, 2])
    if kind == 'card lacks seed': recard(path, seed=None)
    if kind == 'another config': recard(path, config={'dim': 96, 'heads': 4})
    if kind == 'unknown setting': recard(path, config={'colour_of_the_sky': 1})
    if kind == 'planned method': recard(path, method='later')
    if kind == 'another method': recard(path, method='river')
    if kind == 'no method of ours': recard(path, method='slotmin')
    if kind == 'text': path.write_text('hello'); recard(path, sha256=catalog.sha256(path))
    if kind == 'other tensors': save_file({'a': torch.zeros(2)}, path); recard(path, sha256=catalog.sha256(path))


@pytest.mark.parametrize('kind', [
    'cut', 'flipped bit', 'no card', 'card is text', 'card is a list', 'card is a number', 'card lacks seed',
    'scores are numbers', 'another config', 'unknown setting', 'planned method', 'another method', 'no method of ours',
    'text', 'other tensors'])
def test_load_refuses(kind, saved, monkeypatch):
    "One sentence for each"
    monkeypatch.setattr(catalog, 'catalog', planned())
    spoil(saved, kind)
    with pytest.raises(ValueError) as refusal: catalog.load(saved)
    assert '\n' not in str(refusal.value) and len(str(refusal.value)) < 1000


@pytest.mark.parametrize('text', [
    'hello', '[]', '7', '{}', '{"module": "ssl_workbench.methods.slotmim"}', '{"module": 3, "config": {}}',
    '{"module": "slotmim", "config": 3}', '{"module": "x.y.slotmin", "config": {}}'])
def test_a_spoilt_run_is_refused(text, run, tmp_path):
    "A run.json that is no checkpoint's: one sentence"
    shutil.copytree(newest_checkpoint(run), tmp_path/'point')
    (tmp_path/'point'/'run.json').write_text(text)
    with pytest.raises(ValueError) as refusal: catalog.load(tmp_path/'point')
    assert '\n' not in str(refusal.value)


# ---- old names

def test_renamed_settings_and_methods(saved, run, tmp_path, monkeypatch):
    "A card and a checkpoint that hold old names load as they did, and to the same weights"
    then = catalog.load(saved).state_dict()
    config = json.loads(saved.with_suffix('.json').read_text())['config']
    recard(saved, method='slotmin', config={'breadth' if k == 'dim' else k: v for k, v in config.items()})
    shutil.copytree(newest_checkpoint(run), tmp_path/'point')
    old = json.loads((tmp_path/'point'/'run.json').read_text())
    config = {'breadth' if k == 'dim' else k: v for k, v in old['config'].items()}
    old |= dict(module='ssl_workbench.methods.slotmin', config=config)
    (tmp_path/'point'/'run.json').write_text(json.dumps(old))
    for path in (saved, tmp_path/'point'):
        with pytest.raises(ValueError, match='slotmin'): catalog.load(path)
    monkeypatch.setitem(catalog.renamed_methods, 'slotmin', 'slotmim')
    monkeypatch.setitem(catalog.renamed_settings, 'slotmim', {'breadth': 'dim'})
    assert same(catalog.load(saved).state_dict(), then)
    assert same(catalog.load(tmp_path/'point').state_dict(), catalog.load(run).state_dict())


def test_an_old_run_resumes(tmp_path, monkeypatch):
    "Its settings.json and its checkpoint hold an old name; resumed, it ends as the uninterrupted run"
    from ssl_workbench.training import open_run
    config = catalog.replace_config(catalog.module('simclr').presets['cpu'], dict(
        batch=4, dim=24, depth=1, heads=2, hidden=16, out_dim=8, steps=3))
    start = lambda out, **kw: open_run('simclr', config, 'world:iconic:0', 0, out, 'cpu', **kw)
    whole, part = start(tmp_path/'whole'), start(tmp_path/'part')
    for _ in whole.steps(): pass
    for _ in part.steps(2): pass
    point = part.save()
    for file in (point/'run.json', tmp_path/'part'/'settings.json'):
        file.write_text(file.read_text().replace('"dim":', '"breadth":'))
    with pytest.raises(ValueError, match='dim'): start(tmp_path/'part', resume=True)
    monkeypatch.setitem(catalog.renamed_settings, 'simclr', {'breadth': 'dim'})
    rest = start(tmp_path/'part', resume=True)
    assert [step.i for step in rest.steps()] == [2]
    assert same(rest.method.state_dict(), whole.method.state_dict())
    assert json.loads((tmp_path/'part'/'settings.json').read_text())['dim'] == 24


STORED = [*sorted(ROOT.glob('ssl_workbench/weights/*.json')), *ROOT.glob('tests/pinned/run/*/*/run.json')]


@pytest.mark.parametrize('file', STORED, ids=lambda p: f'{p.parent.name}/{p.stem}')
def test_every_stored_setting_has_a_name_today(file):
    "Cards of bundled weights and an old checkpoint: after the migration, nothing is unknown"
    stored = json.loads(file.read_text(encoding='utf-8'))
    name, config = catalog.migrate(stored.get('method') or stored['module'], stored['config'])
    today = catalog.module(name).presets['cpu']
    assert config.keys() <= vars(today).keys() and catalog.replace_config(today, config)


@pytest.mark.parametrize('name', ['w.pt', 'w.pth', 'w.ckpt', 'w.pkl', 'w.bin'])
def test_pickles_are_not_opened(name, tmp_path):
    "A pickle that would leave a trace when opened leaves none"
    import pickle
    trace = tmp_path/'trace'

    class Bomb:
        def __reduce__(self): return (open, (str(trace), 'w'))
    (tmp_path/name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match='pickle'): catalog.load(tmp_path/name)
    assert not trace.exists()


def test_card_errors(saved):
    "A phrase for everything that is missing, of another type or empty; it names the place and not the whole card"
    card = json.loads(saved.with_suffix('.json').read_text())
    score = card['scores'][0]
    wrong = [{k: v for k, v in card.items() if k != gone} for gone in catalog.schema['required']]
    wrong += [{**card, **change} for change in (
        {'seed': -1}, {'seed': '0'}, {'seed': True}, {'steps': 1.5}, {'data': []},
        {'data': [{'name': 'x', 'source': 'y'}]},
        {'scores': []}, {'scores': [{**score, 'baselines': {}}]}, {'scores': [{**score, 'baselines': {'a': 'b'}}]},
        {'curve': {'step': [0, 1], 'total': [1.]}}, {'sha256': 'abc'}, {'device': ''}, {'config': [card] * 9})]
    assert catalog.card_errors(card) == []
    for bad in [*wrong, [card], 7, 'text', None]:
        errors = catalog.card_errors(bad)
        assert len(errors) == 1 and errors[0].startswith('card') and len(errors[0]) < 150, errors


# ---- wrong words

METHODS = ('simclr', 'slotmim', 'vicreg', 'mcjepa', 'poodle', 'vqgan', 'river', 'clip', 'sfclip', 'xlm', 'nobody', '',
           '-', '\0')
VALUES = ('None', '0', '-1', '1', '1.5', '1e999', '10**23', '9' * 30, 'nan', '()', '(1,)', '(2., 1.)',
          '((1,2),3)', 'True',
          "'x'", '{}', '[]', '{[]: 1}', '(' * 300, '=', '', 'é', '\ud800', '-' * 3000 + '1')
KEYS = ('depth', 'dim', 'prototypes', 'batch', 'lr', 'size', 'patch', 'scale', 'flip', 'momentum', 'channels',
        'given', 'ae',
        'steps', 'kind', 'level', 'flow', 'autoencoder', 'precision', 'nothing', '')
OPTIONS = ('--preset', '--data', '--steps', '--out', '--resume', '--from', '--workers', '--precision', '--seed',
           '--set',
           '--device', '--train', '--test', '--port', '--help?', '--', '-x')
WORDS = ('cpu', 'gpu', 'paper', 'world', 'world:scene:0', 'world:scene:99999999999', 'world:', 'cifar10', '.',
         '/', '..', '~',
         'a+b', '+', 'world+world', 'world@0', 'world*0', '0', '1', '-5', '3.5', '9' * 40, 'slotmim',
         'x.safetensors', 'x.pt',
         '', ' ', '\0', 'x' * 5000, 'no', 'bf16', 'fp16', 'auto', 'cuda:7', 'meta', 'mps', '00000003')


def random_line(numbers):
    "A wrong or a right command line; what could run long is cut to one step on a tiny network"
    if numbers.random() < .5:
        method = numbers.choice(METHODS[:7])
        keys = numbers.choice((KEYS, tuple(vars(catalog.module(method).cpu))))
        settings = [f'{numbers.choice(keys)}={numbers.choice(VALUES)}' for _ in range(numbers.randrange(1, 3))]
        return ['train', method, '--preset', 'cpu', '--steps', '1', *(w for s in settings for w in ('--set', s))]
    verb = numbers.choice(('train', 'train', 'train', 'probe', 'list', 'app', 'fly', ''))
    line = [verb]
    if numbers.random() < .9: line.append(numbers.choice((*METHODS, *WORDS)))
    for _ in range(numbers.randrange(5)):
        option = numbers.choice(OPTIONS)
        value = f'{numbers.choice(KEYS)}={numbers.choice(VALUES)}' if option == '--set' else numbers.choice(WORDS)
        line += [option, value] if numbers.random() < .9 else [option]
    return line


def test_five_hundred_random_lines(tmp_path, monkeypatch):
    "Words drawn with a fixed seed: fine or refused with exit code 2 and one sentence, never a traceback"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, 'app', lambda args: 0)                                        # would serve for ever
    monkeypatch.setattr(cli, 'run_until_stopped', lambda learner: (learner.total, 0))     # would train
    monkeypatch.setattr(cli, 'probe_scores', lambda *_: [])
    numbers, codes = random.Random(0), []
    for _ in range(500):
        line = random_line(numbers)
        if any(w.startswith('--h') for w in line): continue                               # argparse helps and exits
        code, _, err = call(*line)
        assert code == 0 or code == 2 and err.count('ssl-workbench:') == err.count('\n') > 0, (line, code, err)
        codes.append(code)
    assert codes.count(2) > 400 and codes.count(0) > 5


# ---- going on

def test_longer_and_from_an_older_one(tmp_path):
    "More --steps extend, fewer are refused, none keeps the run's; an older checkpoint is named by its number"
    out = tmp_path/'run'
    assert call(*train(out, steps=3))[0] == 0
    code, text, err = call(*train(out, '--resume', steps=5))
    assert code == 0 and '5 steps in place of 3' in text and 'schedules' in text and '5 steps done' in text, err
    assert call(*train(out, '--resume', steps=4))[0] == 2
    unsaid = [w for w in train(out, '--resume') if w not in ('--steps', 6)]
    assert '5 steps done' in call(*unsaid)[1]
    older = checkpoints(out)[0]
    assert '5 steps done' in call(*train(out, '--resume', older.name, steps=5))[1]
    code, _, err = call(*train(out, '--resume', '77', steps=5))
    assert code == 2 and "no checkpoint '77'" in err and newest_checkpoint(out).name in err


def test_from_weights(run, saved, tmp_path):
    "A run begins at a run, a file or a bundled name, is resumed without saying so again, and not by another start"
    for start in (run, saved):
        out = tmp_path/f'from-{Path(start).stem}'
        words = ['train', 'slotmim', '--device', 'cpu', '--data', 'world:scene:0', '--out', out]
        code, _, err = call(*words, '--from', start, '--steps', 2)
        assert code == 0, err
        assert json.loads((out/'settings.json').read_text())['from'] == str(start)
        assert call(*words, '--resume', '--steps', 2)[0] == 0
        assert catalog.load(out).config.dim == 48
    code, _, err = call('train', 'dino', '--from', run, '--out', tmp_path/'x')
    assert code == 2 and 'SlotMIM' in err
    code, _, err = call('train', 'slotmim', '--preset', 'cpu', '--from', run, '--out', tmp_path/'x')
    assert code == 2 and 'does not fit these settings' in err
    assert not (tmp_path/'x').exists()


@pytest.mark.parametrize('text', ['', '{"method": "slo', '[1]', '7', '{}', '{"method": 3}'])
def test_broken_settings_do_not_block(text, run, tmp_path):
    "settings.json cut off by a kill: the run goes on from run.json, and another run is still refused"
    shutil.copytree(run, tmp_path/'run')
    (tmp_path/'run'/'settings.json').write_text(text)
    code, _, err = call(*train(tmp_path/'run', '--resume', '--set', 'lr=.5'))
    assert code == 2 and 'lr' in err
    assert call(*train(tmp_path/'run', '--resume', data='world:iconic:0'))[0] == 2
    assert call(*train(tmp_path/'run', '--resume'))[0] == 0
    assert json.loads((tmp_path/'run'/'settings.json').read_text())['method'] == 'slotmim'


def test_same_data_spelt_otherwise(tmp_path, monkeypatch):
    "./photos, photos/ and its absolute path are one folder; another folder is not"
    (tmp_path/'photos').mkdir(), (tmp_path/'others').mkdir()
    monkeypatch.chdir(tmp_path)
    same = ('photos', './photos', 'photos/', str(tmp_path/'photos'), 'others/../photos')
    assert all(training.same_data('photos', s) for s in same) and not training.same_data('photos', 'others')
    assert training.same_data('photos@2+world:scene:0', './photos@2+world:scene:0')
    assert not training.same_data('photos@2', 'photos@3') and not training.same_data('world:scene:0', 'world:scene:1')


def test_two_runs_in_one_folder(tmp_path):
    "The second is refused while the first lives; a killed one leaves nothing that keeps others out"
    code = ('from ssl_workbench.training import locked\n'
            f"with locked({str(tmp_path/'run')!r}):\n    print('in', flush=True)")
    first = subprocess.Popen([sys.executable, '-c', code + '\n    import time; time.sleep(300)'],
                             stdout=subprocess.PIPE, text=True, env=ENV)
    assert first.stdout.readline() == 'in\n'
    refused, _, err = call(*train(tmp_path/'run'))
    first.kill(), first.wait()
    assert refused == 2 and 'another run is under way' in err
    assert call(*train(tmp_path/'run', steps=1))[0] == 0


def test_resumed_words(monkeypatch):
    "The line that is printed can be followed: one --resume, and torchrun's own words where it started the run"
    assert cli._resumed(['train', '--resume', '00000010', '--seed', '1']) == ['train', '--seed', '1', '--resume']
    assert cli._resumed(['train', 'x', '--resume=3']) == cli._resumed(['train', 'x']) == ['train', 'x', '--resume']
    assert cli._launcher() == []
    for k, v in dict(TORCHELASTIC_RUN_ID='1', WORLD_SIZE='2', LOCAL_WORLD_SIZE='2').items(): monkeypatch.setenv(k, v)
    assert cli._launcher() == ['torchrun', '--standalone', '--nproc-per-node', '2', '--no-python']


def test_few_pictures_and_an_unseen_class(run, tmp_path, monkeypatch):
    "What was asked for is used, or what is there is said; classes are named"
    for c, n in (('many', 30), ('some', 20)):
        (tmp_path/'set'/c).mkdir(parents=True)
        for i in range(n): Image.effect_noise((40 + i, 64), 30).save(tmp_path/'set'/c/f'{i}.png')
    probe = ['probe', run, '--data', tmp_path/'set', '--device', 'cpu']
    code, out, err = call(*probe, '--train', 10, '--test', 30)
    assert code == 0 and 'train 10, test 30' in out and 'many' in out and 'some' in out, err
    code, out, err = call(*probe, '--train', 100, '--test', 100)
    assert '100 samples to score were asked for, 25 are there' in err and 'train 25, test 25' in out
    whole = [type('Labelled', (list,), dict(labels=[0, 0, 0, 1, 1, 0], classes=['many', 'some']))(range(6))][0]
    halves = torch.utils.data.Subset(whole, [0, 1]), torch.utils.data.Subset(whole, [2, 3, 4])
    monkeypatch.setattr(training, 'labelled_split', lambda *_: halves)
    with pytest.warns(UserWarning, match='class some is never seen'): training.labelled_splits('x', 32, 2, 3)


# ---- several processes, and README's words

def test_two_processes(tmp_path):
    "torchrun with two processes: one run, one log, the batch divided"
    words = train(tmp_path/'two', steps=4)
    program = tmp_path/'command.py'
    program.write_text('import sys\nfrom ssl_workbench.cli import main\nsys.exit(main())\n')
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    done = subprocess.run([*torchrun, program, *map(str, words)], env={**ENV, 'ACCELERATE_USE_CPU': 'true'},
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    stored = json.loads((newest_checkpoint(tmp_path/'two')/'run.json').read_text())
    assert stored['run']['processes'] == 2 and stored['drawn'] == 16
    assert len((tmp_path/'two'/'log.jsonl').read_text().splitlines()) == 4


def test_processes_keep_the_exit_code(tmp_path):
    "--processes: torchrun ends with 1 for every failure, the command line with the code of what happened"
    def call(*words):
        command = [sys.executable, '-c', 'import sys; from ssl_workbench.cli import main; sys.exit(main())', *words]
        return subprocess.run(list(map(str, command)), env=ENV, capture_output=True, text=True, timeout=600)
    refused = call(*train(tmp_path/'odd', steps=2), '--set', 'batch=3', '--processes', 2)
    said = [line for line in refused.stderr.splitlines() if line.startswith('ssl-workbench:')]
    assert refused.returncode == 2 and len(said) == 1 and 'a batch of 3 does not divide' in said[0]
    assert 'Traceback' not in refused.stderr
    done = call(*train(tmp_path/'two', steps=1), '--processes', 2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((newest_checkpoint(tmp_path/'two')/'run.json').read_text())['run']['processes'] == 2


def test_words_of_several_processes(monkeypatch):
    "What a process that was started this way says is the words of the one that started it"
    assert cli._without(['train', 'x', '--processes', '2', '--processes=3', '--seed', '1'], '--processes') == [
        'train', 'x', '--seed', '1']
    for k, v in dict(TORCHELASTIC_RUN_ID='1', WORLD_SIZE='2', SSL_PROCESSES='2').items(): monkeypatch.setenv(k, v)
    assert cli._launcher() == []


def test_readme_example(monkeypatch, tmp_path):
    "The library example in README runs as it stands, shortened"
    code = re.search(r'```python\n(.*?)```', (ROOT/'README.md').read_text(), re.S).group(1)
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith('from ')]) == 5
    short = re.sub(r'total=[\w.]+', 'total=2', code)
    assert short != code
    monkeypatch.chdir(tmp_path)
    exec(compile(short, 'README.md', 'exec'), {})


def readme_commands():
    "Every command of README's blocks"
    blocks = re.findall(r'```sh\n(.*?)```', (ROOT/'README.md').read_text(encoding='utf-8'), re.S)
    return [line.split('#')[0].split() for block in blocks for line in block.splitlines() if line.strip()]


def test_readme_commands(monkeypatch, tmp_path):
    "What README says to type runs, shortened; `app` is started by a process of its own and answers"
    from benchmarks.app import served
    monkeypatch.chdir(tmp_path)
    short = dict(list=[], train=['--steps', 2, '--device', 'cpu', *TINY], probe=['--train', 40, '--test', 20])
    ours = [words[1:] for words in readme_commands() if words[0] == 'ssl-workbench']
    assert [words[0] for words in ours] == ['list', 'train', 'probe', 'app']
    for words in ours[:-1]:
        code, out, err = call(*words, *short[words[0]])
        assert code == 0 and out, err
    start = 'import sys; from ssl_workbench.cli import main; sys.exit(main(["app", "--port", sys.argv[1]]))'
    with served(words=['-c', start], patience=900) as (url, seconds): assert url and seconds


def test_readme_make():
    "Every `make` of README is a target, and `make run` is what the tests of the app start"
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    targets = set(re.findall(r'^make (\w+)|`make (\w+)`', text, re.M))
    assert {''.join(t) for t in targets} == {'run', 'test', 'lab', 'docs', 'course'}
    for target in map(''.join, targets):
        done = subprocess.run(['make', '-n', target, 'PYTHON=python3'], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert target != 'run' or 'ssl-workbench app' in done.stdout
        assert target != 'docs' or '-m docs' in done.stdout and 'mkdocs build' in done.stdout


def test_a_folder_that_only_has_the_name_of_weights(tmp_path, monkeypatch):
    "Bundled weights are found beside a folder of their name; a run in that folder comes first, as before"
    (tmp_path/'dilemma').mkdir()
    (tmp_path/'dilemma'/'holiday.jpg').write_bytes(b'')
    monkeypatch.chdir(tmp_path)
    assert type(catalog.load('dilemma')).__name__ == 'DILEMMA'
    with pytest.raises(ValueError, match='holds no checkpoint'): catalog.load(tmp_path/'dilemma')


def test_app_is_offline_unless_told(monkeypatch):
    "`app --online` lets networks of timm be fetched"
    pytest.importorskip('gradio')
    from ssl_workbench.app import shell
    asked = []
    monkeypatch.setattr(shell, 'launch', lambda **options: asked.append(options))
    assert main(['app', 'slots', '--port', '7999']) == main(['app', '--online']) == 0
    assert asked == [dict(port=7999, page='slots', online=False), dict(port=None, page=None, online=True)]


def test_the_hub_is_asked_on_request_alone(monkeypatch, capsys):
    "Without --online a network of timm is one sentence at once, and no name is looked up"
    import socket

    import huggingface_hub
    asked = []
    def lookup(host, *args, **more): asked.append(host); raise OSError('no network')
    monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(socket, 'getaddrinfo', lookup)
    assert main(['probe', 'timm:vit_tiny_patch16_224', '--data', 'world:iconic:1']) == 2
    said = capsys.readouterr().err
    assert huggingface_hub.constants.HF_HUB_OFFLINE and '--online' in said and said.count('\n') == 1 and not asked
