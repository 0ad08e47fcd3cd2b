"""A checkpoint as the authors' LOCA (scenic, JAX) saves it, at random weights: the other half of LOCA's import.

Needs jax, flax and optax, no torch. Their network and their training state come from the checkout as they are. The file
is written by `flax.serialization.to_bytes`, as `save_checkpoint` of flax does where orbax is off.
"""
import ast
import sys
from pathlib import Path
from typing import Any, Dict, Optional

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from loca_public import network, public


def training_state(path):
    "Their class of what a checkpoint holds"
    file = Path(path)/'scenic/projects/loca/utils.py'
    body = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef) and n.name == 'TrainState']
    scope = dict(flax=flax, struct=flax.struct, optax=optax, jnp=jnp, Optional=Optional, Any=Any, Dict=Dict)
    exec(compile(ast.Module(body, []), str(file), 'exec'), scope)
    return scope['TrainState']


def main(path, given, file, out):
    "Saves the checkpoint; tokens, cosines and position scores of both networks go to `out`"
    vit, _, _, _ = public(Path(path))
    d = dict(np.load(given))
    c = {k.removeprefix('setting/'): v.item() for k, v in d.items() if k.startswith('setting/')}
    x, cells = jnp.asarray(d['reference']), (c['size'] // c['patch'])**2
    model = network(vit, c, dict(visible=np.arange(cells), keep=np.arange(cells), reference=d['reference']))
    params, found = {}, dict(jax=jax.__version__, flax=flax.__version__)
    for seed, side in enumerate(('student', 'teacher')):
        start = model.init(jax.random.PRNGKey(seed), x, train=False)['params']
        draws = np.random.default_rng(seed)
        noisy = lambda p, draws=draws: p + .05 * draws.standard_normal(p.shape, np.float32)
        params[side] = jax.tree_util.tree_map(noisy, start)
    _, found['teacher_scores'], seen, _ = model.apply({'params': params['teacher']}, x, train=False)
    found['tokens'] = seen
    found['position'], found['student_scores'], *_ = model.apply({'params': params['student']}, x, train=False,
                                                                 inputs_kv=seen[:, :5])
    tx = optax.adamw(1e-3)
    state = training_state(path)(tx=tx, opt_state=tx.init(params['student']), params=params['student'],
                                 ema_params=params['teacher'], global_step=799, rng=jax.random.PRNGKey(0))
    Path(file).write_bytes(flax.serialization.to_bytes(jax.device_get(state)))
    np.savez(out, **{k: np.asarray(v) for k, v in found.items()})


if __name__ == '__main__': main(*sys.argv[1:])
