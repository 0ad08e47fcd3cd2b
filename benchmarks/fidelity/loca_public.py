"""The authors' LOCA (scenic, JAX) on given weights and views: the other half of `benchmarks.fidelity.loca`.

Needs jax, flax and optax, no torch. Of scenic, what LOCA computes with is imported as it is; TensorFlow, data sets and
checkpoints are left out.
"""
import ast
import functools
import sys
import types
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.example_libraries import optimizers


def left_out(name, **things):
    "A module in name only"
    sys.modules[name] = types.SimpleNamespace(__name__=name, __spec__=None, __path__=[], **things)
    return sys.modules[name]


def functions(file, names, **scope):
    "Some functions of a script, without running the rest of it"
    body = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef) and n.name in names]
    exec(compile(ast.Module(body, []), str(file), 'exec'), scope)
    return {n: scope[n] for n in names}


def public(path):
    "Their network's module, their training step, their loss"
    sys.path.insert(0, str(path))
    empty = type('Empty', (), {})
    left_out('ml_collections', ConfigDict=dict)
    tensorflow = left_out('tensorflow', io=types.SimpleNamespace(gfile=None))
    sys.modules['tensorflow.io'] = tensorflow.io
    for part, thing in (('base_model', dict(BaseModel=empty)), ('classification_model', {}),
                        ('multilabel_classification_model', dict(MultiLabelClassificationModel=empty))):
        left_out(f'scenic.model_lib.base_models.{part}', **thing)
    from scenic.model_lib.base_models import model_utils
    home = 'scenic.model_lib.base_models'
    for part in ('base_model', 'classification_model'): setattr(sys.modules[home], part, sys.modules[f'{home}.{part}'])
    from scenic.projects.loca import vit
    home = path/'scenic/projects/loca'
    shared = dict(jax=jax, jnp=jnp, Dict=Dict, Any=Any, Tuple=Tuple, Callable=Callable)
    tools = types.SimpleNamespace(TrainState=None,
                                  **functions(home/'utils.py', ['prepare_input', 'sinkhorn'], **shared,
                                              ml_collections=sys.modules['ml_collections']))
    step = functions(home/'trainer.py', ['loca_train_step'], **shared, Batch=dict, utils=tools, nn=nn, optax=optax,
                     optimizers=optimizers, ml_collections=sys.modules['ml_collections'],
                     train_utils=types.SimpleNamespace(bind_rng_to_host_device=lambda rng, **_: rng))['loca_train_step']
    return vit, step, model_utils.weighted_softmax_cross_entropy, tools.sinkhorn


@flax.struct.dataclass
class State:
    "What their training step reads and writes"
    rng: Any
    global_step: int
    params: Any
    ema_params: Any
    opt_state: Any
    tx: Any = flax.struct.field(pytree_node=False)


def tree(flat):
    "{'a/b': x} as nested dicts"
    out = {}
    for name, x in flat.items():
        *path, last = name.split('/')
        functools.reduce(lambda d, k: d.setdefault(k, {}), path, out)[last] = jnp.asarray(x)
    return out


def flat(nested, prefix=''):
    "Nested dicts as {'a/b': x}"
    return {k: v for name, x in nested.items()
            for k, v in (flat(x, f'{prefix}{name}/') if isinstance(x, dict)
                         else {prefix + name: np.asarray(x)}).items()}


def network(vit, c, d):
    "Their network at our settings c; it keeps the tokens that d names"
    side = c['size'] // c['patch']
    vit.token_indexes_not_to_drop = lambda n, *_: jnp.asarray(d['visible'] if n == len(d['visible']) else d['keep'])
    return vit.ViT4LOCA(mlp_dim=4 * c['dim'], num_layers=c['depth'], num_heads=c['heads'],
                        patches=types.SimpleNamespace(size=(c['patch'],) * 2), hidden_size=c['dim'],
                        n_ref_positions=side**2, apply_cluster_loss=True, head_hidden_dim=c['hidden'],
                        head_bottleneck_dim=c['out_dim'], head_output_dim=c['prototypes'],
                        stochastic_depth=0., posembs=(side, side), dtype=jnp.asarray(d['reference']).dtype)


def step_config(c, d):
    "The settings that their training step reads"
    return types.SimpleNamespace(
        n_ref_positions=(c['size'] // c['patch'])**2, apply_cluster_loss=True, reference_seqlen=len(d['visible']),
        reference_seqlen_selection='consecutive', query_max_seqlen=len(d['keep']), sharpening=.05,
        model=types.SimpleNamespace(temperature=.1),
        dataset_configs=types.SimpleNamespace(number_of_focal_queries=c['queries'] - 1),
        get=lambda k, default=None: 1., max_grad_norm=1.)


def main(path, given, out):
    "Their tokens, scores, targets, loss, clipped gradient and teacher after one step, on what `given` holds"
    jax.config.update('jax_enable_x64', True)
    vit, step, loss, sinkhorn = public(Path(path))
    d = dict(np.load(given))
    of = lambda name: tree({k.removeprefix(name): v for k, v in d.items() if k.startswith(name)})
    params, ema = of('student/'), of('teacher/')
    c = {k.removeprefix('setting/'): v.item() for k, v in d.items() if k.startswith('setting/')}
    model = network(vit, c, d)
    rngs = dict(dropout=jax.random.PRNGKey(0), droptok=jax.random.PRNGKey(1))
    apply = functools.partial(model.apply, train=True, rngs=rngs)
    _, scores, seen, _ = apply({'params': ema}, d['reference'], seqlen=len(d['visible']), drop_moment='late')
    found = dict(reference_tokens=seen, teacher_scores=scores,
                 targets=sinkhorn(jax.nn.softmax(scores / .05, -1), distributed=False))
    found['query0_position'], found['query0_scores'], *_ = apply({'params': params}, d['query0'], inputs_kv=seen,
                                                                 seqlen=len(d['keep']))
    found['query1_position'], found['query1_scores'], *_ = apply({'params': params}, d['query1'], inputs_kv=seen)
    state = State(jax.random.PRNGKey(2), 0, params, ema, None, optax.sgd(1.))
    state = state.replace(opt_state=state.tx.init(params))
    train = functools.partial(step, flax_model=model, momentum_parameter_scheduler=lambda _: .9, loss_fn=loss,
                              metrics_fn=lambda *_: {}, config=step_config(c, d))
    names = [k for k in d if k in ('reference',) or k.startswith('query')]
    one = lambda x: jax.tree_util.tree_map(lambda v: jnp.asarray(v)[None], x)
    new, metrics = jax.pmap(train, axis_name='batch')(one(state), one({k: d[k] for k in names}))
    first = lambda x: jax.tree_util.tree_map(lambda v: v[0], x)
    found |= dict(total=metrics['total_loss'][0][0], features=metrics['feature_loss'][0][0])
    moved = jax.tree_util.tree_map(lambda a, b: a - b, params, first(new.params))
    np.savez(out, jax=jax.__version__, flax=flax.__version__, **{k: np.asarray(v) for k, v in found.items()},
             **{f'gradient/{k}': v for k, v in flat(moved).items()},
             **{f'teacher/{k}': v for k, v in flat(first(new.ema_params)).items()})


if __name__ == '__main__': main(*sys.argv[1:])
