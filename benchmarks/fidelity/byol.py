"""Our BYOL beside the authors' public code, on shared weights and inputs.

    git clone https://github.com/google-deepmind/deepmind-research PATH
    pip install jax dm-haiku
    python -m benchmarks.fidelity.byol --public PATH

Their heads (haiku), their `_forward`, `loss_fn` and `_update_fn` are taken from PATH as they are and run in JAX. In
place of the encoder both sides have the identity, and the pictures are vectors: their ResNet pads on one side, ours on
both, so the two cannot share weights. The optimiser is plain gradient descent on both sides, at the rate that their
schedule says. The figures of both go to benchmarks/results/fidelity-byol.json; the exit code is 1 where a held figure
differs by more than 1e-5 (of its largest value, where that is above 1).
"""
import __future__

import ast
import collections
import functools
import importlib
import sys
from types import SimpleNamespace

import torch
import torch.nn as nn

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import figure
from benchmarks.provenance import versions
from ssl_workbench import core
from ssl_workbench.classics import byol as ours
from ssl_workbench.classics import vicreg

BASE, TOTAL, RATE = .9, 8, 2.
SIZES = dict(dim=24, hidden=48, out=16, batch=12)
BATCH_NORM = dict(decay_rate=.9, eps=1e-5, create_scale=True, create_offset=True)


# Their code

def definitions(file, kinds, names, scope):
    "Some definitions of a script, without running the rest of it"
    body = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, kinds)
            and getattr(n, 'name', None) in names]
    exec(compile(ast.Module(body, []), str(file), 'exec', flags=__future__.annotations.compiler_flag), scope)
    return [scope[n] for n in names]


def public(path):
    "What is needed of the public code"
    sys.path.insert(0, str(path))
    jax, hk = importlib.import_module('jax'), importlib.import_module('haiku')
    jax.config.update('jax_enable_x64', True)
    jax.tree_map = jax.tree_util.tree_map
    networks, helpers, schedules = (importlib.import_module(f'byol.utils.{n}')
                                    for n in ('networks', 'helpers', 'schedules'))
    class Given(hk.Module):
        def __init__(self, num_classes, bn_config): super().__init__()
        def __call__(self, x, is_training): return x
    same = SimpleNamespace(normalize_images=lambda x: x, postprocess=lambda x, rng: x)
    scope = dict(jax=jax, jnp=jax.numpy, hk=hk, helpers=helpers, schedules=schedules, dataset=same, augmentations=same,
                 networks=SimpleNamespace(MLP=networks.MLP, Given=Given),
                 _ByolExperimentState=collections.namedtuple(
                     'State', 'online_params target_params online_state target_state opt_state'),
                 optax=SimpleNamespace(apply_updates=lambda p, u: jax.tree_util.tree_map(lambda a, b: a + b, p, u)))
    file = path/'byol'/'byol_experiment.py'
    forward, loss, update = definitions(file, ast.FunctionDef, ['_forward', 'loss_fn', '_update_fn'], scope)
    return SimpleNamespace(jax=jax, hk=hk, schedules=schedules, forward=forward, loss=loss, update=update, path=path)


def theirs(pub, dtype):
    "Their experiment with identities where ours has them: `forward`, `loss_fn`, `_update_fn`"
    network = dict(projector_hidden_size=SIZES['hidden'], projector_output_size=SIZES['out'],
                   predictor_hidden_size=SIZES['hidden'], encoder_class='Given',
                   encoder_config={}, bn_config=BATCH_NORM)
    it = SimpleNamespace(_num_classes=10, _should_transpose_images=lambda: False, _batch_size=256, _max_steps=TOTAL,
                         _base_target_ema=BASE,
                         _lr_schedule_config=dict(base_learning_rate=RATE, warmup_steps=2))
    descent = lambda rate: lambda g, state, p: (pub.jax.tree_util.tree_map(lambda x: -rate * x, g), state)
    it._optimizer = lambda rate: SimpleNamespace(update=descent(rate))
    forward = lambda inputs, is_training: pub.forward(it, inputs, is_training=is_training, **network)
    it.forward = pub.hk.without_apply_rng(pub.hk.transform_with_state(forward))
    it.loss_fn = functools.partial(pub.loss, it)
    it.update = pub.jax.pmap(functools.partial(pub.update, it), axis_name='i')
    return it


class Given(nn.Module):
    "In the encoder's place: a vector as a map of one place; the parameter is for the moving average alone"
    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(1))
    def forward(self, x): return [x[..., None, None]]


def our_method(seed, dtype):
    "Our BYOL with identities for encoders; every weight random, the teacher behind"
    torch.manual_seed(seed)
    method = ours.BYOL(ours.Config(hidden=SIZES['hidden'], out_dim=SIZES['out'], momentum=(BASE, 1.)))
    method.encoder, method.teacher_encoder = Given(), Given()
    for name in ('projector', 'teacher_projector'):
        setattr(method, name, ours.head(SIZES['dim'], SIZES['hidden'], SIZES['out']))
    for p in method.teacher_projector.parameters(): p.requires_grad_(False)
    with torch.no_grad():
        for p in method.parameters(): p.add_(.1 * torch.randn_like(p))
    return method.to(dtype).train()


PLACES = (('linear', 'w', '0.weight'), ('linear', 'b', '0.bias'), ('batch_norm', 'scale', '1.weight'),
          ('batch_norm', 'offset', '1.bias'), ('linear_1', 'w', '3.weight'))

def exported(method, teacher):
    "Our heads as their parameters; the classifier, which does not touch them, is zero"
    heads = dict(projector=method.teacher_projector if teacher else method.projector, predictor=method.predictor)
    found = {}
    for head, net in heads.items():
        for part, key, name in PLACES:
            x = net.get_parameter(name).detach().numpy()
            found.setdefault(f'{head}/{part}', {})[key] = x.T if key == 'w' else x[None] if part == 'batch_norm' else x
    return found | dict(classifier=dict(w=0. * heads['projector'][0].weight.detach().numpy()[:1].T.repeat(10, 1),
                                        b=heads['projector'][0].bias.detach().numpy()[:10] * 0.))


def flat(params, head):
    "Their parameters of one head in our order and shape"
    def read(part, key):
        x = torch.tensor(params[f'{head}/{part}'][key].__array__())
        return x.squeeze(0) if part == 'batch_norm' else x
    return torch.cat([(read(part, key).T if key == 'w' else read(part, key)).flatten() for part, key, _ in PLACES])


def own(net, of):
    "The same of ours"
    return torch.cat([of(net.get_parameter(name)).detach().flatten() for *_, name in PLACES])


# Comparing

def case(pub, seed, dtype, steps):
    "Gradients of a first step, then some steps of both from the same weights on the same vectors"
    it, mine = theirs(pub, dtype), our_method(seed, getattr(torch, dtype))
    g = torch.Generator().manual_seed(seed)
    stream = [torch.randn(SIZES['batch'], 2, SIZES['dim'], generator=g, dtype=getattr(torch, dtype))
              for _ in range(steps)]
    batches = [dict(view1=x[:, 0].numpy(), view2=x[:, 1].numpy(), labels=pub.jax.numpy.zeros(len(x), int))
               for x in stream]
    _, state = it.forward.init(pub.jax.random.PRNGKey(0), batches[0], is_training=True)
    online, target, rows = exported(mine, False), exported(mine, True), {}
    grads, _ = pub.jax.grad(it.loss_fn, has_aux=True)(online, target, state, state, None, batches[0])
    first = sum(mine.loss(mine(dict(x=stream[0]))).values())
    first.backward()
    for head in ('projector', 'predictor'):
        rows[f'gradients of the {head}'] = figure(flat(grads, head), own(mine.get_submodule(head), lambda p: p.grad))
    one = lambda tree: pub.jax.tree_util.tree_map(lambda x: pub.jax.numpy.asarray(x)[None], tree)
    now = it_state(pub, online, target, state, one)
    for i, (x, batch) in enumerate(zip(stream, batches, strict=True)):
        now, logs = it.update(now, pub.jax.numpy.full((1,), i), one(pub.jax.random.PRNGKey(0)), one(batch))
        loss = our_step(mine, x, float(logs['learning_rate'][0]), i)
        rows[f'step {i} loss'] = figure(float(logs['repr_loss'][0]), loss)
    after = lambda tree: {k: {n: v[0] for n, v in d.items()} for k, d in tree.items()}
    rows |= {f'{head} after': figure(flat(after(now.online_params), head), own(mine.get_submodule(head), lambda p: p))
             for head in ('projector', 'predictor')}
    rows['teacher after'] = figure(flat(after(now.target_params), 'projector'),
                                   own(mine.teacher_projector, lambda p: p))
    return dict(seed=seed, dtype=dtype, steps=steps, **SIZES, figures=rows)


def it_state(pub, online, target, state, one):
    "Their state for one device"
    return pub.update.__globals__['_ByolExperimentState'](one(online), one(target), one(state), one(state), one(dict()))


def our_step(method, x, rate, i):
    "Loss of one step of plain gradient descent, then the teacher's"
    method.zero_grad()
    loss = sum(method.loss(method(dict(x=x))).values())
    loss.backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None: p.sub_(rate * p.grad)
    method.after_step(i / TOTAL)
    return loss.item()


# Recipes and schedules

def recipes(pub):
    "The numbers of both views' recipes, theirs read from their script"
    tree = ast.parse((pub.path/'byol'/'utils'/'augmentations.py').read_text())
    recipe = next(n.value for n in tree.body if isinstance(n, ast.Assign)
                and ast.unparse(n.targets[0]) == 'augment_config')
    config, rows = eval(ast.unparse(recipe)), {}
    for v in (0, 1):
        a, p = config[f'view{v + 1}'], vars(vicreg.recipes(ours.paper)[v])
        colour = a['color_transform']
        names = ('color_jitter_prob', 'brightness', 'contrast', 'saturation', 'hue', 'to_grayscale_prob')
        theirs = [colour[k] for k in names]
        theirs += [a['gaussian_blur']['apply_prob'], a['gaussian_blur']['sigma_min'], a['gaussian_blur']['sigma_max'],
                   a['solarize']['apply_prob'], a['solarize']['threshold']]
        names = ('jitter_p', 'brightness', 'contrast', 'saturation', 'hue', 'grey_p', 'blur_p')
        mine = [*(p[k] for k in names), *p['blur_sigma'], p['solarise_p'], p['threshold']]
        found = figure([float(x) for x in theirs], [float(x) for x in mine])
        rows[f'recipe of view {v + 1}'] = found | dict(numbers=theirs)
    return rows


def schedules(pub, steps=200):
    "The teacher's momentum over a run"
    theirs = [float(pub.schedules.target_ema(pub.jax.numpy.float64(i), .996, steps)) for i in range(steps)]
    mine = [core.cosine(i / steps, *ours.paper.momentum) for i in range(steps)]
    return {'schedule of the momentum': figure(theirs, mine)}


# All of it

CASES = [dict(seed=s, dtype=d, steps=3) for s in (0, 1, 2) for d in ('float64', 'float32')]
DIFFERENCES = [
    'The encoder is the identity on both sides: their ResNet pads as TensorFlow does, on one side where the stride is '
    '2, ours as torch does.',
    'Running statistics are not compared: haiku starts them without bias, torch from 0 and 1.',
    'The optimiser is plain gradient descent on both sides: theirs is LARS, ours AdamW.',
    'Their second network is drawn anew at the start; ours is a copy of the first. Here both are given.',
    'Blur widths are meant for 224 pixels there; here they are scaled with the side of the view.']


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('byol', __doc__, 'byol/byol_experiment.py',
                                code=('classics/byol', 'classics/vicreg', 'losses', 'heads'))
    pub = public(args.public)
    rules, cases = recipes(pub) | schedules(pub), comparison.measured(case, CASES, pub)
    comparison.conclude(args, "BYOL: ours beside the authors' public code, shared weights and inputs",
                        comparison.upstream(args.public, 'google-deepmind/deepmind-research', folder='byol'),
                        cases, rules, DIFFERENCES, versions(pub.jax, pub.hk))


if __name__ == '__main__': main()
