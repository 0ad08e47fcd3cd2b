"""Our RIVER beside the authors' public code, on shared weights, frames and random numbers.

    git clone https://github.com/Araachie/river PATH
    python -m benchmarks.fidelity.river --public PATH

Their model runs as it is, training step and prediction; so does their solver. Stand-ins: the autoencoder is ours on
both sides, and what only logs, evaluates or schedules is not loaded. Whenever they draw random numbers from torch
they are given ours, which must lie in the range they request. The figures of both go to
benchmarks/results/fidelity-river.json; the exit code is 1 where a held figure differs by more than 1e-5 (of its largest
value, where that is above 1).
"""
import importlib
import re
import sys
import types
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch
import torch.nn as nn
import torchdiffeq
import yaml

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import cast, compared, figure, pictures
from benchmarks.provenance import versions
from ssl_workbench.classics import vqgan
from ssl_workbench.methods import river as ours

AE = (('widths', (8, 8, 8)), ('depths', (0, 0, 0)), ('decoder_widths', (8, 8, 8)), ('decoder_depths', (0, 0, 0)),
      ('codes', 64), ('adversarial', 0.))
SMALL = ours.Config(size=32, canvas=32, frames=8, dim=32, depth=2, middle=2, heads=8, dropout=.05, ae=AE)
LARGE = replace(ours.paper, ae=AE)
AT_256 = replace(LARGE, size=256, canvas=256, out_norm='batch',
                 ae=(('widths', (8,) * 4), ('depths', (0,) * 4), ('decoder_widths', (8,) * 4),
                     ('decoder_depths', (0,) * 4), ('latent', 8)))
SETTINGS = {'small': (SMALL, 6), 'small, batch norm': (replace(SMALL, out_norm='batch'), 6),
            'small, no reference': (replace(SMALL, reference=False), 6), 'paper': (LARGE, 2)}
NAMES = [(r'position_encoding\.row_embed\.weight', 'rows'), (r'position_encoding\.col_embed\.weight', 'columns'),
         (r'project_in\.1', 'project'), (r'time_projection', 'distance'),
         (r'in_blocks', 'into'), (r'mid_blocks', 'middle'), (r'out_blocks\.(\d+)\.0', r'joins.\1'),
         (r'out_blocks\.(\d+)\.1', r'out.\1'),
         (r'project_out\.0', 'head'), (r'project_out\.[23]', 'norm'), (r'project_out\.4', 'last')]
BLOCK = r'body\.(\d+)\.body\.(\d+)\.'
REFINER = [(BLOCK + r'body\.3\.conv_du\.0', r'body.\1.\2.weigh.1'),
           (BLOCK + r'body\.3\.conv_du\.2', r'body.\1.\2.weigh.3'), (BLOCK + r'(body\.[02])', r'body.\1.\2.\3'),
           (BLOCK, r'body.\1.\2.')]
LR, NEAR_THE_END = 1e-4, 'float32 target at t = .9999'


# Their code

def public(path):
    "What is needed of the public code"
    sys.path.insert(0, str(path))
    missing = {'transformers': 'get_polynomial_decay_schedule_with_warmup', 'evaluation.evaluator': 'Evaluator',
               'lutils.logger': 'Logger', 'lutils.logging': 'to_video make_observations_grid'}
    for name, names in missing.items():
        sys.modules[name] = types.SimpleNamespace(**{n: lambda **_: None for n in names.split()})
    sys.modules['training'] = types.ModuleType('training')
    sys.modules['training'].__path__ = [str(path/'training')]
    model, regressor, trainer = (importlib.import_module(m)
                                 for m in ('model.model', 'model.vector_field_regressor', 'training.trainer'))
    sys.modules['refinement'] = types.ModuleType('refinement')
    sys.modules['refinement'].__path__ = [str(path/'refinement')]
    return types.SimpleNamespace(model=model, regressor=regressor, trainer=trainer.Trainer,
                                 rcan=importlib.import_module('refinement.rcan').RCAN, path=path)


class Stand(nn.Module):
    "Our autoencoder, with pixels of -1 to 1 as theirs has them; keeps what it decoded"
    def __init__(self, autoencoder): super().__init__(); self.autoencoder = autoencoder
    def encode(self, x): return self.autoencoder.encode((x + 1) / 2)
    def decode(self, z): self.decoded = z; return 2 * self.autoencoder.decode(z) - 1


def parts(c):
    "Our settings in their words"
    z, h, w = c.shape
    return dict(state_size=z, state_res=[h, w], inner_dim=c.dim, depth=c.depth, mid_depth=c.middle,
                out_norm=dict(layer='ln', batch='bn')[c.out_norm])


def built(pub, c, autoencoder):
    "Their model at our settings"
    with patch.object(pub.model, 'VQModelInterface', lambda *_: Stand(autoencoder)):
        net = pub.model.Model(dict(sigma=c.sigma_min, autoencoder=dict(type='ldm-vq', config='f8', ckpt_path=''),
                                   vector_field_regressor=parts(c)))
    if not c.reference:
        net.vector_field_regressor = pub.regressor.build_vector_field_regressor(parts(c), reference=False)
    return net


def under_our_names(named, c):
    "Their regressor's tensors under our names; of their 512 places the first ones"
    for name, x in named:
        for theirs, mine in NAMES: name = re.sub('^' + theirs, mine, name)
        yield name, x[:c.shape[1 if name == 'rows' else 2]] if name in ('rows', 'columns') else x


def pair(pub, c, seed, dtype):
    "Both with the same weights, random everywhere, and one autoencoder"
    torch.manual_seed(seed)
    autoencoder = vqgan.VQGAN(c.latents)
    nn.init.normal_(autoencoder.codebook.codes)
    net = built(pub, c, autoencoder)
    with torch.no_grad():
        for p in net.vector_field_regressor.parameters(): p.add_(.02 * torch.randn_like(p))
        for b in net.vector_field_regressor.buffers():
            if b.is_floating_point(): b.add_(.1 * torch.rand_like(b))
    mine = ours.RIVER(c, autoencoder)
    mine.regressor.load_state_dict(dict(under_our_names(net.vector_field_regressor.state_dict().items(), c)))
    return net.to(dtype), mine.to(dtype)


# Random numbers

@contextmanager
def given(numbers):
    "torch's random numbers are these, in turn; ValueError where shape or range is another, or where some are left"
    queue = deque(numbers)
    def next_of(shape, low=None, high=None):
        x = queue.popleft()
        if tuple(x.shape) != tuple(shape): raise ValueError(f'requested {tuple(shape)}, given {tuple(x.shape)}')
        if high is not None and not (low <= x.min() and x.max() < high):
            raise ValueError(f'requested {low} … {high} - 1, given {x}')
        return x
    fakes = dict(randint=lambda low, high, size: next_of(size, low, high), randn=lambda shape: next_of(shape),
                 rand=lambda *shape: next_of(shape), randn_like=lambda x: next_of(x.shape))
    with ExitStack() as stack:
        for name, fake in fakes.items(): stack.enter_context(patch.object(torch, name, fake))
        yield
    if queue: raise ValueError(f'{len(queue)} numbers were not requested')


@contextmanager
def floats(dtype):
    "torch makes floats of this kind: theirs draw and count in the default one"
    torch.set_default_dtype(dtype)
    try: yield
    finally: torch.set_default_dtype(torch.float32)


class Noted(ours.Rollout):
    "A rollout that keeps what it drew, in order, and itself"
    drawn, last = [], None

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        Noted.last = self
        self.drawn.clear()

    def noise(self, stream):
        self.drawn.append(super().noise(stream))
        return self.drawn[-1]

    def draw_conditions(self):
        conditions, offset = super().draw_conditions()
        self.drawn.append(self.known + offset[:, 1])
        return conditions, offset


def inputs(c, batch, seed, dtype):
    "Frames of the world, our views of them, and the numbers that they would draw for them; t is at most .9 in float32"
    films = pictures(batch, seed, c.size, 'bounce', level=1, frames=8)
    views = cast(ours.Views(c)(films), dtype)
    if dtype == torch.float32: views['t'] = .9 * views['t']
    where = ours.Views(c).choose_frames(films['seed'], 8, torch.zeros(batch, dtype=torch.bool))[0]
    return (films['frames'] / 255).to(dtype), views, [where[:, 0], *where[:, 2:], views['noise'],
                                                      views['t'].view(-1, 1, 1, 1)]


# Comparing

def trainer(pub, net, c):
    "As much of their trainer as makes the loss and the optimiser"
    made = types.SimpleNamespace(config=dict(loss_weights=dict(flow_matching_loss=1.),
                                             optimizer=dict(learning_rate=LR, weight_decay=c.weight_decay,
                                                            num_warmup_steps=1, num_training_steps=2)),
                                 flow_matching_loss=nn.MSELoss())
    pub.trainer.init_optimizer(made, net)
    return made


def training(pub, net, mine, c, batch, seed, dtype, steps):
    "Some steps of both, dropout included: point on the path, target, field, loss, gradients, weights after"
    optimiser = torch.optim.AdamW(mine.param_groups(), LR, betas=(.9, .999))
    made, rows, entered = trainer(pub, net, c), {}, []
    net.vector_field_regressor.register_forward_pre_hook(lambda _, args, words: entered.append(words['input_latents']),
                                                         with_kwargs=True)
    for i in range(steps):
        frames, views, numbers = inputs(c, batch, 10 * seed + i, dtype)
        torch.manual_seed(seed)
        with given(numbers), floats(dtype): theirs = net.train()(2 * frames - 1)
        torch.manual_seed(seed)
        out = mine.train()(views)
        losses = pub.trainer.calculate_loss(made, theirs)[0], mine.loss(out)['field']
        net.zero_grad(); optimiser.zero_grad()
        for loss in losses: loss.backward()
        rows[f'step {i} loss'] = figure(*losses)
        if not i:
            rows |= {'point on the path': figure(entered[0], out['noisy']),
                     'target': figure(theirs.target_vectors, out['target']),
                     'field': figure(theirs.reconstructed_vectors, out['prediction'])}
            grads = ((n, p.grad) for n, p in net.vector_field_regressor.named_parameters())
            own = {n: p.grad for n, p in mine.regressor.named_parameters()}
            rows['gradients'] = compared(dict(under_our_names(grads, c)), own)
        made.optimizer.step(); optimiser.step()
    both = dict(under_our_names(net.vector_field_regressor.state_dict().items(), c)), mine.regressor.state_dict()
    return rows | ({'weights and running statistics after': compared(*both)} if steps > 1 else {})


def rollout(net, mine, frames, n, points, warm, seed):
    "Both predict n frames with rk4; theirs takes points, between which ours takes steps"
    calls, seen = [], frames.shape[1]
    hook = net.vector_field_regressor.register_forward_hook(lambda *_: calls.append(1))
    net.eval(), mine.eval()
    with patch.object(ours, 'Rollout', Noted):
        steps = int((1 - warm) * points) - 1
        prediction = mine.predict(frames, n, steps=steps, solver='rk4', warm_start=warm, seed=seed)
    with given(Noted.drawn), floats(frames.dtype):
        theirs = net.generate_frames(2 * frames - 1, n, steps=points, warm_start=warm)
    hook.remove()
    latents = net.ae.decoded.unflatten(0, (len(frames), -1))[:, seen:], Noted.last.latents[:, -n:]
    pixels = (theirs[:, seen:] + 1).div(2).clamp(0, 1), prediction
    name = f'{points} points, warm start {warm:g}, {seen} seen, {n} predicted: '
    return {name + 'latents': figure(*latents), name + 'pixels': figure(*pixels),
            name + 'network calls a frame': figure(len(calls) / n, mine.calls / n)}


def case(pub, setting, seed, dtype, steps=1, rollouts=()):
    "Training steps, then predictions with the weights they led to"
    c, batch = SETTINGS[setting]
    net, mine = pair(pub, c, seed, getattr(torch, dtype))
    rows = training(pub, net, mine, c, batch, seed, getattr(torch, dtype), steps)
    mine.regressor.load_state_dict(dict(under_our_names(net.vector_field_regressor.state_dict().items(), c)))
    frames = inputs(c, 2, seed + 500, getattr(torch, dtype))[0]
    for seen, n, points, warm in rollouts: rows |= rollout(net, mine, frames[:, :seen], n, points, warm, seed)
    return dict(setting=setting, seed=seed, dtype=dtype, batch=batch, steps=steps, figures=rows)


# Shapes, recipe, the end of the path

def shapes(pub):
    "The networks of BAIR at 64 and 256 pixels: names and shapes, heads, dropout; which weights are decayed"
    rows, shape = {}, lambda named: {n: tuple(x.shape) for n, x in named}
    for name, c in (('paper preset', LARGE), ('at 256 pixels', AT_256)):
        with torch.device('meta'):
            theirs, mine = pub.regressor.build_vector_field_regressor(parts(c)), ours.Regressor(c)
        same = shape(under_our_names(theirs.state_dict().items(), c)) == shape(mine.state_dict().items())
        rows[f'{name}: names and shapes'] = figure(True, same)
        layers = theirs.in_blocks[0], mine.into[0]
        rows[f'{name}: heads, dropout'] = figure(*([x.self_attn.num_heads, x.dropout.p, x.dropout1.p, x.dropout2.p,
                                                    x.self_attn.dropout] for x in layers))
    small = ours.RIVER(SMALL)
    wd = SMALL.weight_decay
    decayed = sum(p.numel() for g in small.param_groups() if g['weight_decay'] == wd for p in g['params'])
    return rows | {'every weight is decayed': figure([wd, sum(p.numel() for p in small.regressor.parameters())],
                                                     [wd, decayed])}


def recipe(pub):
    "The numbers of their BAIR file, and of our paper preset"
    c, d = ours.paper, yaml.safe_load((pub.path/'configs'/'bair_64.yaml').read_text())
    m, t = d['model'], d['training']
    v, o = m['vector_field_regressor'], t['optimizer']
    theirs = [v['state_size'], *v['state_res'], v['inner_dim'], v['depth'], v['mid_depth'], m['sigma'],
              o['learning_rate'], o['weight_decay'], o['num_warmup_steps'] / o['num_training_steps'],
              o['num_training_steps'], t['num_observations'], d['data']['input_size'], t['batching']['batch_size'],
              d['evaluation']['steps']]
    return {'recipe': figure(theirs,
                             [*c.shape, c.dim, c.depth, c.middle, c.sigma_min, c.lr, c.weight_decay, c.warmup, c.steps,
                              c.frames, c.size, c.batch / 4, c.predicted])}


def refiner(pub, dtype='float64'):
    "The refinement network at the paper's size: a frame, the loss on pixels, gradients"
    c, kind = replace(ours.refiner_paper, size=32), getattr(torch, dtype)
    torch.manual_seed(0)
    net, mine = pub.rcan(c.groups, c.blocks, c.width, c.reduction).to(kind), ours.Refiner(c).to(kind)
    name = lambda n: next((re.sub('^' + a, b, n) for a, b in REFINER if re.match(a, n)), n)
    mine.load_state_dict({name(n): x for n, x in net.state_dict().items()})
    before, decoded, truth = torch.rand(3, 2, 3, 32, 32, dtype=kind).unbind(0)
    theirs, frame = net(2 * torch.cat([before, decoded], 1) - 1), mine.refine_frame(before, decoded)[0]
    losses = [nn.functional.mse_loss(theirs, 2 * truth - 1),
              mine.loss(dict(refined=frame[:, None], truth=truth[:, None]))['pixels']]
    for loss in losses: loss.backward()
    grads = compared({name(n): p.grad for n, p in net.named_parameters()},
                     {n: p.grad for n, p in mine.named_parameters()})
    return {f'refinement network, {dtype}: frame': figure((theirs + 1) / 2, frame),
            f'refinement network, {dtype}: loss': figure(*losses), f'refinement network, {dtype}: gradients': grads}


def near_the_end(pub):
    "Their quotient and our difference at t = .9999 in float32, each beside float64"
    z1, z0 = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t, sigma, exact = torch.tensor([.9999]), SMALL.sigma_min, z1 - (1 - SMALL.sigma_min) * z0
    a, b = z1.float(), z0.float()
    place, field = ours.flow_matching_pair(a[None], b[None], t, sigma)
    quotient = (a - (1 - sigma) * place[0]) / (1 - (1 - sigma) * t)
    return {NEAR_THE_END: figure(quotient, field[0])
            | dict(theirs_from_exact=float((quotient - exact).abs().max()),
                   ours_from_exact=float((field[0] - exact).abs().max()))}


# All of it

# frames seen, predicted, points of the solver, warm start
FULL, SHORT = [(2, 2, 100, 0.), (1, 2, 100, .1)], [(2, 3, 10, 0.), (1, 3, 10, .1)]
CASES = [*(dict(setting='small', seed=0, dtype=d, steps=3, rollouts=FULL) for d in ('float64', 'float32')),
         *(dict(setting='small', seed=s, dtype=d, steps=3, rollouts=SHORT) for s in (1, 2)
           for d in ('float64', 'float32')),
         *(dict(setting=s, seed=3, dtype=d, steps=3, rollouts=SHORT)
           for s in ('small, batch norm', 'small, no reference') for d in ('float64', 'float32')),
         dict(setting='paper', seed=0, dtype='float32', rollouts=[(2, 1, 5, 0.)])]
LONG = [dict(setting='paper', seed=s, dtype=d, rollouts=[(2, 1, 100, 0.)]) for s, d in ((1, 'float64'), (2, 'float32'))]
NOT_HELD = ('float32 weights and running*', NEAR_THE_END)
DIFFERENCES = [
    'Steps: they integrate over int((1 - s)·steps) points, so steps=100 is 99 intervals of rk4 and 396 network calls a '
    'frame, 356 with s=.1; our `steps` counts intervals, and the calls are the same for one less.',
    'Target: theirs is a quotient that loses digits near t=1, ours the same difference without it. In float32 t is at '
    'most .9 here; at .9999 both stand beside float64.',
    'Context window: their `past_horizon` takes the minimum where the maximum is meant, so it never restricts; it is '
    'not compared.',
    'Refinement: their loss takes features of I3D as well, ours those of a network that is named; pixels alone are '
    'compared, without their optional tanh.',
    'Pixels: both sides paint with our autoencoder, which snaps latents to codes; in float32 a latent half way between '
    'two may fall on either, which it did not in these cases.',
    'Weights after some steps are held in float64 only: Adam turns a gradient that is all rounding (key biases) into a '
    'step of its own size.',
    'Positions: they keep 512 rows and columns and use the first ones, ours has as many as the grid.',
    'Learning rate: they decay it with the root of what is left of the run, from the peak to 1e-7; ours follows a '
    'cosine.',
    'Batch: 16 is theirs on each GPU; ours counts four of them.']


def short(name):
    "A figure's name without its step, or the settings of its prediction"
    if name.startswith('step '): return comparison.short(name)
    return 'prediction: ' * (': ' in name) + name.split(': ')[-1]


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('river', __doc__, 'model/vector_field_regressor.py',
                                code=('methods/river', 'classics/vqgan', 'losses', 'heads', 'core', 'world', 'views'),
                                quick='two small cases alone; writes nothing',
                                long="the paper's network with all 396 network calls as well")
    pub = public(args.public.resolve())
    rules = shapes(pub) | recipe(pub) | near_the_end(pub) | refiner(pub) | refiner(pub, 'float32')
    cases = comparison.measured(case, CASES[2:4] if args.quick else CASES + LONG * args.long, pub)
    comparison.conclude(args, "RIVER: ours beside the authors' public code, shared weights, frames and random numbers",
                        comparison.upstream(args.public, 'Araachie/river'),
                        cases, rules, DIFFERENCES, versions(torchdiffeq), NOT_HELD, short=short)


if __name__ == '__main__': main()
