"""How often a training step makes an accelerator wait for Python, counted without one: `python tests/waits.py NAME …`.

Tensors of the device 'far' hold their values on the CPU and refuse to meet CPU tensors. What would make a GPU wait is
counted: reading values (`item`, `tolist`, copies to the CPU), shapes that depend on values (`nonzero`, `unique`,
indexing by a mask), and what is copied to the device in a way that waits. Prints one JSON line: method → kind → count.
"""
import json
import sys
from collections import Counter
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

sys.path.insert(0, str(Path(__file__).parent))
_setup_privateuseone_for_python_backend('far')
aten, WAITS, FAR = torch.ops.aten, Counter(), torch.device('far', 0)
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEX = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
READS = {aten._local_scalar_dense.default: 'item', aten.nonzero.default: 'nonzero', aten._unique2.default: 'unique',
         aten.masked_select.default: 'masked_select', aten.repeat_interleave.Tensor: 'repeat_interleave'}


class Far(torch.Tensor):
    "A tensor whose values are `inner`, on the CPU"
    @staticmethod
    def __new__(cls, inner):
        how = dict(strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
                   layout=inner.layout, device=FAR, requires_grad=inner.requires_grad)
        made = torch.Tensor._make_wrapper_subclass(cls, inner.size(), **how)
        made.inner = inner
        return made

    def __init__(self, inner): pass

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None): return run(func, args, kwargs or {})

    def tolist(self):
        WAITS['tolist'] += 1
        return self.inner.tolist()

    def new_tensor(self, data, **kw):
        WAITS['new_tensor'] += 1
        return Far(self.inner.new_tensor(data, **kw))


def tensor_far(data, *, make=torch.tensor, device=None, **kw):
    "`torch.tensor`, counted where it copies numbers to the device"
    if device is None or torch.device(device).type != 'far': return make(data, device=device, **kw)
    WAITS['tensor'] += 1
    return Far(make(data, **kw))


torch.tensor = tensor_far


def count(func, far, args, kwargs):
    "Note what this operation would make an accelerator wait for"
    if far and func in READS: WAITS[READS[func]] += 1
    masks = [i for i in args[1] if i is not None and i.dtype == torch.bool] if far and func in INDEX else []
    if masks: WAITS['index by a mask'] += 1
    if func is aten._to_copy.default and kwargs.get('device') is not None:
        there = torch.device(kwargs['device']).type
        if far and there == 'cpu': WAITS['to the CPU'] += 1
        if not far and there == 'far' and not kwargs.get('non_blocking'): WAITS['to the device'] += 1


def run(func, args, kwargs):
    "An operation on the CPU, its result where its operands are"
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    far, near = [t for t in tensors if isinstance(t, Far)], [t for t in tensors if not isinstance(t, Far) and t.ndim]
    if far and near and func not in COPIES | INDEX: raise RuntimeError(f'{func}: tensors of two devices')
    count(func, far, args, kwargs)
    wanted = torch.device(kwargs['device']).type if kwargs.get('device') is not None else None
    plain_args, plain = tree_map(lambda x: x.inner if isinstance(x, Far) else x, (args, dict(kwargs)))
    if wanted: plain['device'] = torch.device('cpu')
    plain.pop('pin_memory', None)
    out = func(*plain_args, **plain)
    if func is aten.copy_.default: return args[0]
    same, here = {id(t.inner): t for t in far}, wanted == 'far' or wanted is None and far
    def wrap(x):
        if not isinstance(x, torch.Tensor) or isinstance(x, Far): return x
        return same[id(x)] if id(x) in same else Far(x) if here else x
    return tree_map(wrap, out)


class OnFar(TorchDispatchMode):
    "Factory calls with device='far' give such tensors"
    def __torch_dispatch__(self, func, types, args=(), kwargs=None): return run(func, args, kwargs or {})


library = torch.library.Library('aten', 'IMPL')
inner = lambda x: x.inner if isinstance(x, Far) else x


def strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return Far(torch.empty_strided(size, stride, dtype=dtype or torch.get_default_dtype()))


def empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    return Far(torch.empty(size, dtype=dtype or torch.get_default_dtype(),
                           memory_format=memory_format or torch.contiguous_format))


def copy_from(source, target, non_blocking=False):
    inner(target).copy_(inner(source))
    return target


library.impl('empty_strided', strided, 'PrivateUse1')
library.impl('empty.memory_format', empty, 'PrivateUse1')
library.impl('_copy_from', copy_from, 'PrivateUse1')
torch.far.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
torch.far.get_rng_state = lambda *_: torch.zeros(1, dtype=torch.uint8)
torch.far.set_rng_state = lambda *_: None


def learner_on_far(name):
    "(learner, batch) of a method whose parameters and batch are far"
    from test_methods import build, inputs_of

    from ssl_workbench import core
    from ssl_workbench.learner import Learner
    core._PLAIN.add(Far)
    home, method, _ = build(name)
    batch = inputs_of(name)
    learner = Learner(method, home.Views(method.config), [torch.zeros(3, 8, 8)] * 4, total=100, batch=4, device='cpu')
    method.to(FAR)
    for group in learner.optimiser.param_groups: group['foreach'] = False
    return learner, {k: v.to(FAR) if isinstance(v, torch.Tensor) else v for k, v in batch.items()} | dict(
        host_seed=batch['seed'])


def waits(name, steps=3):
    "kind → count of the step that waits most often, after the first, which sets up"
    with OnFar():
        learner, batch = learner_on_far(name)
        learner.meter.every, found = 2, []
        for _ in range(steps):
            WAITS.clear()
            learner._step(iter([dict(batch)]))
            found.append(dict(WAITS))
    return max(found[1:], key=lambda w: sum(w.values()))


if __name__ == '__main__': print(json.dumps({name: waits(name) for name in sys.argv[1:]}))
