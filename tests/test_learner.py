"""Runs that are killed, stopped, damaged or split over workers reach the same weights, or fail with one sentence."""
import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
import torch.nn as nn

from ssl_workbench import core, learner
from ssl_workbench.learner import Diverged, Learner, Meter, checkpoints, clip_gradients, newest_checkpoint, read_log
from ssl_workbench.methods.slotmim import Config, SlotMIM, Views
from ssl_workbench.world import World

TINY = Config(size=16, patch=4, dim=16, depth=2, heads=2, stem='linear', drop_path=.3, hidden=16, out_dim=8,
              prototypes=6, momentum=(.9, 1.))
ENV = os.environ | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')


class Plain:
    "Pictures of the world one by one, without `batch`"
    def __init__(self, length=12): self.world = World('scene', 0, (24, 24), 1, length, truth=False)
    def __len__(self): return len(self.world)
    def __getitem__(self, i): return self.world[i]


class Batched(Plain):
    "The same pictures, batches made by the data"
    def batch(self, indices, device): return self.world.batch(indices, device)


def slotmim(out=None, data=None, config=TINY, **kw):
    "A learner of a tiny SlotMIM with stochastic depth, so that torch's generator matters"
    core.seed_everything(0)
    return Learner(SlotMIM(config), Views(config), data or Batched(),
                   **dict(dict(total=12, lr=1e-3, batch=4, out=out, device='cpu', progress=False), **kw))


class Toy(nn.Module):
    "Predicts a picture's mean colour; `spoil` turns a step's loss into something else"
    def __init__(self, spoil=lambda i, loss: loss, sizes=None):
        super().__init__()
        self.net, self.spoil, self.i = nn.Linear(3 * 24 * 24, 3), spoil, 0
        if sizes: self.batch_size = sizes
    def before_step(self, t): pass
    def forward(self, views): return dict(embedding=self.net(views['x'].flatten(1)), truth=views['x'].mean((2, 3)))
    def loss(self, out): return dict(colour=self.spoil(self.i, (out['embedding'] - out['truth']).square().mean()))
    def after_step(self, t): self.i += 1
    def param_groups(self): return [dict(params=list(self.parameters()), weight_decay=.01)]


def views(batch): return dict(x=batch['frames'][:, 0].double() / 255, seed=batch['seed'])


def toy(out=None, spoil=lambda i, loss: loss, sizes=None, **kw):
    "A learner of the toy, in float64"
    core.seed_everything(0)
    return Learner(Toy(spoil, sizes).double(), views, Batched(),
                   **dict(dict(total=30, lr=1e-3, batch=4, out=out, device='cpu', progress=False), **kw))


def run(learner, n=None):
    "The learner after n steps"
    for _ in learner.steps(n): pass
    return learner


def same(a, b):
    "Whether two nested things are equal bit for bit"
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


def state(learner): return learner.method.state_dict(), learner.optimiser.state_dict()['state']


# Killed

TOTAL, EVERY, KILLS = 30, 4, 10
PLACES = ('while the views are made', 'between two steps', 'half way through a checkpoint', 'before its name is final',
          'before old ones go')


def die(): os.kill(os.getpid(), signal.SIGKILL)


def deadly(f, when):
    "`f`, but SIGKILL where `when(*arguments)` says so"
    def g(*args, **kw):
        if when(*args): die()
        return f(*args, **kw)
    return g


def live(folder, step, place):
    "One life of a run: from its newest checkpoint until SIGKILL at or just after `step`, or to the end"
    random.seed(0), numpy.random.seed(0)  # a forked process has a seed of its own otherwise
    run = slotmim(folder, Plain(), total=TOTAL, save_every=EVERY)
    # move both generators
    run.views = lambda batch, views=run.views: (random.random(), numpy.random.rand()) and views(batch)
    if newest_checkpoint(folder): run.load()
    due = lambda *_: step is not None and run.i >= step
    if place == PLACES[0]: run.views = deadly(run.views, due)
    if place == PLACES[2]:
        half = lambda file: (Path(file).write_bytes(b'\x08\0\0'), die())
        learner.save_file = lambda tensors, file: due() and half(file) or save(tensors, file)
    if place == PLACES[3]: os.replace = deadly(os.replace, due)
    if place == PLACES[4]:
        shutil.rmtree = deadly(shutil.rmtree, lambda path, *_: due() and not str(path).endswith('.part'))
    for _ in run.steps():
        if place == PLACES[1] and due(): die()


save = learner.save_file


def lives(folder):
    "A whole run and a run of ten deaths, each life in a process of its own; prints how each life ended"
    numbers = random.Random(0)
    deaths = [(k, numbers.choice(PLACES)) for k in sorted(numbers.sample(range(1, TOTAL - EVERY), KILLS))]
    ends = []
    for name, step, place in [('whole', None, None), *(('killed', *d) for d in deaths), ('killed', None, None)]:
        pid = os.fork()
        if not pid:
            live(folder/name, step, place)
            os._exit(0)
        ends.append([step, place, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])])
    print(json.dumps(ends))


def test_ten_deaths(tmp_path):
    "Killed ten times and resumed: weights, optimiser, generators and log of the uninterrupted run, bit for bit"
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, env=ENV,
                          timeout=600)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    assert [e[2] for e in ends] == [0] + KILLS * [-signal.SIGKILL] + [0], ends
    assert len({e[1] for e in ends}) >= 4
    whole, killed = (newest_checkpoint(tmp_path/n) for n in ('whole', 'killed'))
    assert whole.name == killed.name == f'{TOTAL:08d}'
    for file in ('model.safetensors', 'state.pt', 'random-0.pt'):
        assert same(learner._tensors(whole/file), learner._tensors(killed/file)), file
    a, b = ([{k: v for k, v in r.items() if k not in ('seconds', 'waited')} for r in read_log(tmp_path/n)]
            for n in ('whole', 'killed'))
    assert a == b and [r['i'] for r in a] == list(range(TOTAL))


# Stopped, split, accumulated

def test_ten_and_twenty_are_thirty():
    "Stopping between steps changes nothing, whoever makes the batches"
    for data in (Batched(), Plain()):
        whole, parts = run(slotmim(data=data)), slotmim(data=data)
        for n in (3, 4, 5): run(parts, n)
        assert same(state(whole), state(parts))


def test_break_loses_nothing():
    "A stream left early goes on with the next sample"
    whole, parts = run(slotmim(data=Plain(), workers=1)), slotmim(data=Plain(), workers=1)
    for step in parts.steps():
        if step.i == 4: break
    assert parts.i == 5 and parts.drawn == 20
    assert same(state(whole), state(run(parts)))


@pytest.mark.parametrize('workers', [0, 1, 2])
def test_workers_change_nothing(workers):
    "Batches from data, from one process or from several: same weights and same state of torch's generator"
    a = run(slotmim(data=Batched()), 5)
    random_a = torch.get_rng_state()
    b = run(slotmim(data=Plain(), workers=workers), 5)
    assert same(state(a), state(b)) and torch.equal(random_a, torch.get_rng_state())


def test_every_epoch_shows_all():
    "Each pass over the data shows every sample once, in an order of its own"
    n = 12
    shown = learner.draw_indices(3, range(3 * n), n)
    epochs = [tuple(shown[k:k + n]) for k in range(0, 3 * n, n)]
    assert all(sorted(e) == list(range(n)) for e in epochs) and len(set(epochs)) == 3
    assert len(set(learner.draw_seeds(3, range(1000)).tolist())) == 1000


def test_accumulated_steps():
    "Two batches of four a step are one of eight"
    a, b = toy(batch=8), toy(batch=4, accumulate=2)
    pairs = list(zip(a.steps(6), b.steps(6)))
    assert all(abs(x.total - y.total) < 1e-12 and x.seen == y.seen for x, y in pairs)
    assert (a.method.net.weight - b.method.net.weight).abs().max() < 1e-9


def test_accumulated_centre():
    "The centre follows the mean over all batches of a step"
    a, b = (run(slotmim(config=Config(**vars(TINY) | dict(drop_path=0.)), **kw), 1).method.centre
            for kw in (dict(batch=8), dict(batch=4, accumulate=2)))
    assert torch.allclose(a, b, atol=1e-7) and a.abs().max() > 1e-4


def test_growing_batches(tmp_path):
    "A method may say how large each batch is; a resumed run goes on with the right sample"
    sizes = lambda i: 2 + i
    whole = toy(tmp_path/'a', sizes=sizes, total=6)
    assert [s.views['x'].shape[0] for s in whole.steps()] == [2, 3, 4, 5, 6, 7] and whole.drawn == 27
    run(toy(tmp_path/'b', sizes=sizes, total=6, save_every=2), 5)
    again = run(toy(tmp_path/'b', sizes=sizes, total=6, save_every=2).load())
    assert again.drawn == 27 and same(state(whole), state(again))


@pytest.mark.parametrize('processes', [2, 3])
def test_draws_are_shared_out(processes, monkeypatch):
    "Processes share each batch without gap or overlap, also where its size does not divide"
    monkeypatch.setattr(core, 'world_size', lambda: processes)
    one, plans = toy(sizes=lambda i: 4 + i), []
    for rank in range(processes):
        monkeypatch.setattr(core, 'rank', lambda rank=rank: rank)
        plans.append(one._plan(5))
    drawn = [k for step in zip(*plans) for draws in step for k in draws]
    assert drawn == list(range(sum(one._batch_size(i) for i in range(5))))


# What stops a run

def test_not_a_number(tmp_path):
    "Step, term and last good checkpoint are named, and nothing was written over"
    bad = toy(tmp_path, lambda i, loss: loss * math.nan if i == 7 else loss, save_every=3)
    with pytest.raises(Diverged) as error: run(bad)
    assert 'step 7' in str(error.value) and "'colour'" in str(error.value)
    assert str(tmp_path/'checkpoints'/'00000006') in str(error.value)
    assert bad.method.net.weight.isfinite().all() and [r['i'] for r in read_log(tmp_path)] == list(range(7))


def test_explosion():
    "A loss a thousand times its recent size stops the run; a fall or a tenfold rise does not"
    with pytest.raises(Diverged, match='step 15: the loss exploded.*no checkpoint'):
        run(toy(spoil=lambda i, loss: loss * (1e7 if i == 15 else 1)))
    assert run(toy(spoil=lambda i, loss: loss * (10 if i == 15 else 1))).i == 30


@pytest.mark.parametrize('wrong, hint', [(dict(total=0), 'at least one step'), (dict(data=Batched(0)), 'no sample')])
def test_what_cannot_be_trained(wrong, hint):
    "One sentence"
    with pytest.raises(ValueError, match=hint):
        Learner(Toy(), views, **dict(dict(data=Batched(), total=3, device='cpu'), **wrong))


# Checkpoints

def test_half_a_checkpoint_is_ignored(tmp_path):
    "What was being written when the run died is no checkpoint, and the next one takes its place"
    run(slotmim(tmp_path, save_every=5), 7)
    part = tmp_path/'checkpoints'/'00000010.part'
    part.mkdir()
    (part/'run.json').write_text('{"i": 10')
    assert newest_checkpoint(tmp_path).name == '00000005'
    whole, again = run(slotmim()), run(slotmim(tmp_path, save_every=5).load())
    assert same(state(whole), state(again)) and not part.exists()
    assert [p.name for p in checkpoints(tmp_path)] == ['00000010', '00000012']


def test_a_log_cut_off(tmp_path):
    "A line that was half written, or is no record, is left out and written again"
    run(slotmim(tmp_path, save_every=5), 7)
    log = tmp_path/'log.jsonl'
    log.write_bytes(log.read_bytes()[:-20] + b'\0\0\xff')
    assert [r['i'] for r in read_log(tmp_path)] == list(range(6))
    run(slotmim(tmp_path, save_every=5).load())
    assert [r['i'] for r in read_log(tmp_path)] == list(range(12))


@pytest.mark.parametrize('kw, hint', [(dict(total=13), 'total 12 there, 13 here'), (dict(seed=1), 'seed'),
                                      (dict(batch=2), 'batch 4 there, 2 here'), (dict(lr=.1), 'lr'),
                                      (dict(config=Config(**vars(TINY) | dict(dim=32))), 'dim 16 there, 32 here'),
                                      (dict(data=Batched(9)), 'samples')])
def test_another_run_is_refused(kw, hint, tmp_path):
    "What differs is named in one line"
    run(slotmim(tmp_path))
    with pytest.raises(ValueError, match=hint) as error: slotmim(tmp_path, **kw).load()
    assert '\n' not in str(error.value)


def test_a_new_run_in_an_old_folder_is_refused(tmp_path):
    "Neither log nor checkpoints of a run are lost to another"
    run(slotmim(tmp_path), 6)
    with pytest.raises(ValueError, match='holds the checkpoints of a run'): run(slotmim(tmp_path))
    assert len(read_log(tmp_path)) == 6
    with pytest.raises(ValueError, match='there is no checkpoint'): slotmim(tmp_path/'other').load()
    with pytest.raises(ValueError, match='there is no checkpoint'): slotmim().load()
    with pytest.raises(ValueError, match='no folder'): slotmim().save()


@pytest.mark.parametrize('file', ['run.json', 'model.safetensors', 'state.pt', 'random-0.pt'])
@pytest.mark.parametrize('damage', ['cut', 'empty', 'noise', 'gone'])
def test_a_damaged_checkpoint(file, damage, tmp_path):
    "One line names the file; the checkpoint before it still loads by its path"
    run(slotmim(tmp_path, save_every=3), 6)
    path = newest_checkpoint(tmp_path)/file
    content = path.read_bytes()
    if damage == 'gone': path.unlink()
    else:
        path.write_bytes(dict(cut=content[:len(content) // 2], empty=b'',
                              noise=random.Random(0).randbytes(len(content)))[damage])
    fresh = slotmim(tmp_path, save_every=3)
    before = same(state(fresh), state(slotmim()))
    with pytest.raises(ValueError) as error: fresh.load()
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    assert before and same(state(fresh), state(slotmim())), 'a refused checkpoint changed the learner'
    assert fresh.load(checkpoints(tmp_path)[0]).i == 3


@pytest.mark.parametrize('file', ['run.json', 'model.safetensors', 'state.pt', 'random-0.pt'])
def test_a_flipped_bit(file, tmp_path):
    "One bit anywhere in a checkpoint: refused by name, and nothing of it is taken over; without the flip it resumes"
    run(slotmim(tmp_path, save_every=3), 6)
    path, numbers = newest_checkpoint(tmp_path)/file, random.Random(0)
    sound = path.read_bytes()
    places = [numbers.randrange(len(sound)) for _ in range(12)]
    if file == 'run.json': places = [sound.index(b'"drawn": ') + 10, sound.index(b'"i": ') + 5]
    fresh = slotmim(tmp_path, save_every=3)
    for place in places:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1:])
        with pytest.raises(ValueError, match=file): fresh.load()
    assert same(state(fresh), state(slotmim())) and fresh.i == 0
    path.write_bytes(sound)
    assert fresh.load().i == 6


def test_a_checkpoint_without_sums_still_loads(tmp_path):
    "Runs of older versions kept no sha256"
    run(slotmim(tmp_path, save_every=3), 6)
    file = newest_checkpoint(tmp_path)/'run.json'
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in kept.items() if k not in ('sha256', 'values', 'threads', 'notes')}))
    assert slotmim(tmp_path).load().i == 6


@pytest.mark.parametrize('text', ['[]', '7', 'null', '{}', '{"i": 6}',
                                  '{"i": "6", "drawn": 1, "run": {}, "config": {}}',
                                  '{"i": 6, "drawn": 24, "run": [], "config": 3, "module": "x"}'])
def test_a_run_json_of_another_kind(text, tmp_path):
    "A list, a number, an object that lacks keys: one sentence"
    run(slotmim(tmp_path, save_every=3), 3)
    (newest_checkpoint(tmp_path)/'run.json').write_text(text)
    with pytest.raises(ValueError, match='run.json is damaged') as error: slotmim(tmp_path).load()
    assert '\n' not in str(error.value)


def test_from_an_older_checkpoint(tmp_path):
    "An older checkpoint goes on to the weights of the whole run, and the newer one is replaced, not preferred"
    whole = run(slotmim(tmp_path/'whole', save_every=3))
    part = run(slotmim(tmp_path/'part', save_every=3, keep=4), 9)
    newest = newest_checkpoint(tmp_path/'part')
    (newest/'state.pt').write_bytes(b'')
    again = slotmim(tmp_path/'part', save_every=3, keep=4).load(checkpoints(tmp_path/'part')[0])
    assert again.i == 3 and part.i == 9
    run(again, 3)
    assert newest_checkpoint(tmp_path/'part').name == '00000006'
    assert same(state(run(again)), state(whole))


def test_longer_than_planned(tmp_path):
    "A finished run may become longer, never shorter: it goes on by the schedules of the new length, bit for bit"
    run(slotmim(tmp_path/'a', total=6, save_every=3))
    shutil.copytree(tmp_path/'a', tmp_path/'b')
    with pytest.raises(ValueError, match='total 6 there, 12 here'): slotmim(tmp_path/'a').load()
    with pytest.raises(ValueError, match='total'): slotmim(tmp_path/'a', total=5).load(extend=True)
    one = slotmim(tmp_path/'a', save_every=3).load(extend=True)
    steps = list(one.steps())
    assert [s.t for s in steps] == [i / 12 for i in range(6, 12)] and steps[0].lr > steps[-1].lr
    run(slotmim(tmp_path/'b', save_every=3).load(extend=True), 4)
    assert same(state(run(slotmim(tmp_path/'b', save_every=3).load())), state(one))


@pytest.mark.parametrize('failing', ['save_file', 'torch.save', 'log'])
def test_a_full_disk(failing, tmp_path, monkeypatch):
    "One sentence with ENOSPC, no part of a checkpoint left, the one before still there"
    one = run(slotmim(tmp_path, save_every=3), 5)
    full = OSError(errno.ENOSPC, 'No space left on device')

    def fail(error):
        def f(*_, **__): raise error
        return f
    if failing == 'save_file': monkeypatch.setattr(learner, 'save_file', fail(full))
    if failing == 'torch.save':
        monkeypatch.setattr(torch, 'save', fail(RuntimeError('PytorchStreamWriter failed writing file data/0')))
        monkeypatch.setattr(shutil, 'disk_usage', lambda _: type('Usage', (), dict(free=0)))
    if failing == 'log': monkeypatch.setattr(json, 'dumps', fail(full))
    with pytest.raises(OSError) as error: run(one, 1)
    assert error.value.errno == errno.ENOSPC and 'disk is full' in str(error.value) and '\n' not in str(error.value)
    assert [p.name for p in (tmp_path/'checkpoints').iterdir()] == ['00000003']
    monkeypatch.undo()
    assert slotmim(tmp_path, save_every=3).load().i == 3


def test_threads_are_kept_and_said(tmp_path, recwarn):
    "Another number of threads is said on resume; the same is not"
    run(slotmim(tmp_path, save_every=3), 3)
    slotmim(tmp_path).load()
    assert not [w for w in recwarn if 'threads' in str(w.message)]
    now = torch.get_num_threads()
    torch.set_num_threads(now + 1)
    try:
        with pytest.warns(UserWarning, match=f'had {now} threads and goes on with {now + 1}'): slotmim(tmp_path).load()
    finally: torch.set_num_threads(now)


# Precision and ranges

def test_precision(monkeypatch):
    "auto takes bf16 where there are units for it; the launcher's is honoured, a contradiction and fp16 are refused"
    monkeypatch.delenv('ACCELERATE_MIXED_PRECISION', raising=False)
    monkeypatch.setattr(core, 'has_bf16', lambda *_: False)
    assert (core.precision(), core.precision('auto'), core.precision('no')) == ('no', 'no', 'no')
    with pytest.warns(UserWarning, match='no units'): assert core.precision('bf16') == 'bf16'
    monkeypatch.setattr(core, 'has_bf16', lambda *_: True)
    assert core.precision('auto') == core.precision('bf16') == 'bf16'
    for wrong in ('fp16', 'fp8', 'half'):
        with pytest.raises(ValueError, match=wrong): slotmim(precision=wrong)
    monkeypatch.setenv('ACCELERATE_MIXED_PRECISION', 'bf16')
    assert slotmim().precision == 'bf16'
    with pytest.raises(ValueError, match='launcher'): slotmim(precision='no')
    monkeypatch.setenv('ACCELERATE_MIXED_PRECISION', 'fp16')
    with pytest.raises(ValueError, match='fp16'): slotmim()


def test_what_a_launcher_asks(monkeypatch):
    "Accumulation is taken over; sharding is refused, not dropped"
    monkeypatch.setenv('ACCELERATE_GRADIENT_ACCUMULATION_STEPS', '2')
    assert toy().accumulate == 2
    with pytest.raises(ValueError, match='launcher'): toy(accumulate=3)
    monkeypatch.setenv('ACCELERATE_GRADIENT_ACCUMULATION_STEPS', '1')
    monkeypatch.setenv('ACCELERATE_USE_FSDP', 'true')
    with pytest.raises(ValueError, match='FSDP'): toy()


@pytest.mark.parametrize('wrong', [dict(batch=-4), dict(batch=0), dict(lr=0.), dict(lr=-1.), dict(lr=math.nan),
                                   dict(warmup=2.), dict(betas=(.9, 1.)), dict(accumulate=0), dict(workers=-1)])
def test_ranges(wrong):
    "One sentence that names the setting, its value and its range"
    with pytest.raises(ValueError, match=f'{next(iter(wrong))} is .* outside its range'): toy(**wrong)


def test_every_known_range_can_be_read():
    "Each is an interval with its ends in order"
    for name, bounds in core.RANGES.items():
        low, high = map(float, bounds[1:-1].split(','))
        assert low < high and bounds[0] in '([' and bounds[-1] in '])', name


class Trap:
    "Runs a command when unpickled"
    def __init__(self, file): self.file = file
    def __reduce__(self): return os.mkdir, (str(self.file),)


def test_a_checkpoint_runs_no_code(tmp_path):
    "A pickle with a command in it is refused, and the command is not run"
    run(slotmim(tmp_path/'run'), 6)
    torch.save(Trap(tmp_path/'sprung'), newest_checkpoint(tmp_path/'run')/'state.pt')
    with pytest.raises(ValueError, match='state.pt'): slotmim(tmp_path/'run').load()
    assert not (tmp_path/'sprung').exists()


def test_all_generators_come_back(tmp_path):
    "Python's, NumPy's and torch's"
    draw = lambda: (random.random(), numpy.random.rand(), float(torch.rand(())))
    random.seed(1), numpy.random.seed(2)
    run(slotmim(tmp_path), 12)
    expected = draw()
    random.seed(3), numpy.random.seed(4), torch.manual_seed(5)
    slotmim(tmp_path).load()
    assert draw() == expected


def test_old_checkpoints_go(tmp_path):
    "As many as wanted are kept, the newest ones; going back to an older one keeps what is written then"
    run(toy(tmp_path, save_every=3, keep=3), 14)
    assert [p.name for p in checkpoints(tmp_path)] == ['00000006', '00000009', '00000012']
    run(toy(tmp_path, save_every=7, keep=3).load(checkpoints(tmp_path)[0]), 2)
    assert '00000007' in [p.name for p in checkpoints(tmp_path)]


# Watching

def test_tensorboard_files(tmp_path):
    "Terms, rate and meter of every step can be read back"
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    steps = list(learner.tensorboard(slotmim().steps(3), tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {'loss/total', 'loss/cross', 'loss/within', 'loss/slot', 'lr', 'meter/rank'} <= set(events.Tags()['scalars'])
    assert [e.step for e in events.Scalars('loss/slot')] == [0, 1, 2]
    assert [e.value for e in events.Scalars('loss/slot')] == pytest.approx([s.terms['slot'] for s in steps])


def test_log_is_what_was_seen(tmp_path):
    "The log's records are those of the steps"
    steps = list(slotmim(tmp_path).steps())
    assert read_log(tmp_path) == json.loads(json.dumps([learner.record(s) for s in steps]))
    assert [s.seen for s in steps] == list(range(4, 52, 4)) and steps[-1].t == 11 / 12


def reading(**out): return Meter()(0, out)


def test_meter():
    "Known cases: all directions, one, none; prototypes used evenly, or one alone; what does not exist is not shown"
    assert reading(embedding=torch.cat([torch.eye(16), -torch.eye(16)]))['rank'] == pytest.approx(1, abs=1e-4)
    line = torch.linspace(-1, 1, 64)[:, None] * torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    assert reading(embedding=line)['rank'] == pytest.approx(1 / 16, rel=.01)
    assert reading(embedding=torch.ones(64, 16))['std'] == pytest.approx(0, abs=1e-6)
    noise = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
    assert reading(embedding=noise)['std'] == pytest.approx(1, abs=.05)
    assert set(reading(embedding=line)) == {'rank', 'std'}
    even = reading(embedding=line, prototype_use=torch.full((8,), .125), prototype_wins=torch.ones(8),
                   agreement=torch.tensor(.5))
    assert (even['entropy'], even['active'], even['agreement']) == (pytest.approx(1), 1, .5)
    alone = reading(embedding=line, prototype_use=torch.eye(8)[0], prototype_wins=9 * torch.eye(8)[0])
    assert (alone['entropy'], alone['active']) == (pytest.approx(0, abs=1e-6), .125)
    assert all(math.isfinite(v) for v in reading(embedding=torch.randn(1, 16)).values())


def test_meter_keeps_the_newest():
    "A ring of embeddings, read every few steps"
    meter = Meter(size=8, every=2)
    first = meter(0, dict(embedding=torch.ones(8, 4)))
    assert meter(1, dict(embedding=torch.randn(8, 4))) is first and meter.ring.shape == (8, 4)
    assert meter(2, dict(embedding=torch.randn(8, 4)))['std'] > first['std']


def test_clipping():
    "One parameter by itself, or all groups of one rule as one vector"
    a, b, c = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    def norms(kind):
        for p, g in zip((a, b, c), (3., 4., 100.)): p.grad = torch.tensor([g, 0.])
        clip_gradients([dict(params=[a], clip=(kind, 1.)), dict(params=[b], clip=(kind, 1.)),
                        dict(params=[c], clip=None)])
        return [float(p.grad.norm()) for p in (a, b, c)]
    assert norms('parameter') == pytest.approx([1, 1, 100], rel=1e-4)
    assert norms('global') == pytest.approx([.6, .8, 100], rel=1e-4)


def test_schedules():
    "The rate rises over the warm-up to its peak and falls to its end; weight decay follows its own; groups may scale"
    run = slotmim(total=100, lr=1e-2, lr_end=1e-4, warmup=.1)
    rates = [run._schedule(i / 100) for i in range(101)]
    assert rates[0] == pytest.approx(1e-3) and max(rates) == pytest.approx(1e-2) and rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(1e-4)
    assert all(a <= b for a, b in zip(rates[:10], rates[1:10])) and all(a >= b for a, b in zip(rates[10:], rates[11:]))
    assert [g['weight_decay'] for g in run.optimiser.param_groups] == [pytest.approx(.4), 0]


if __name__ == '__main__': lives(Path(sys.argv[1]))
