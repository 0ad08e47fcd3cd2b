"""Our VICReg beside the authors' public code, on shared weights and inputs.

    git clone https://github.com/facebookresearch/vicreg PATH
    python -m benchmarks.fidelity.vicreg --public PATH

Their model is imported from PATH as it is. Its ResNet-50 is replaced by our encoder (with the same weights), since ours
is another net by choice; expander and loss are theirs. Both take some steps of AdamW on the same views.
The figures of both go to benchmarks/results/fidelity-vicreg.json; the exit code is 1 where a held figure differs by
more than 1e-5 (of its largest value, where that is above 1).
"""
import copy
import importlib
import sys
from types import SimpleNamespace

import timm
import torch
import torch.nn as nn

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import compared, figure, gradients, pictures
from benchmarks.provenance import versions
from ssl_workbench.classics import vicreg as ours

SETTINGS = dict(small=dict(dims=(16, 24, 32, 48), stem=(8, 16), hidden=96, out_dim=96, batch=12),
                wide=dict(dims=(32, 48, 64, 96), stem=(16, 32), hidden=512, out_dim=512, batch=8))


# Their code

def public(path):
    "Their training script as a module"
    sys.path.insert(0, str(path))
    return importlib.import_module('main_vicreg')


class Summary(nn.Module):
    "Our encoder as their backbone: an image to a vector"
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
    def forward(self, x): return self.encoder(x)[0].mean((2, 3))


def our_name(name):
    "Our name of one of their tensors"
    return name.replace('backbone.encoder.', 'encoder.').replace('projector.', 'expander.')


def pair(pub, setting, seed, dtype):
    "Both with the same weights, off their first values; every parameter of ours has one of theirs"
    c = ours.Config(**SETTINGS[setting], scale=(.08, 1.), colour=1.)
    torch.manual_seed(seed)
    mine = ours.VICReg(c).to(dtype)
    with torch.no_grad():
        for p in mine.parameters(): p.add_(.02 * torch.randn_like(p))
    args = SimpleNamespace(mlp=f'{c.hidden}-{c.hidden}-{c.out_dim}', arch='resnet50', batch_size=c.batch, sim_coeff=25.,
                           std_coeff=25., cov_coeff=1.)
    theirs = pub.VICReg(args).to(dtype)
    theirs.backbone, theirs.projector = Summary(copy.deepcopy(mine.encoder)), pub.Projector(args, c.dims[-1]).to(dtype)
    theirs.projector.load_state_dict(mine.expander.state_dict())
    return theirs, mine


def inputs(c, seed, dtype):
    "Our views of world pictures"
    return ours.Views(c)(pictures(c.batch, seed))['x'].to(dtype)


# Comparing

def steps_of(model, loss, groups, stream, name=str):
    "Loss and gradients of each step of AdamW over given views"
    optimiser = torch.optim.AdamW(groups, 1e-3)
    for x in stream:
        value = loss(x)
        optimiser.zero_grad()
        value.backward()
        yield value.item(), gradients(model, name)
        optimiser.step()


def case(pub, setting, seed, dtype, steps):
    "Some training steps of both from the same weights on the same views"
    theirs, mine = pair(pub, setting, seed, getattr(torch, dtype))
    stream = [inputs(mine.config, 10 * seed + i, getattr(torch, dtype)) for i in range(steps)]
    groups = [dict(params=[p for p in theirs.parameters() if pub.exclude_bias_and_norm(p) == free],
                   weight_decay=0. if free else 1e-6) for free in (False, True)]
    rows = {}
    both = zip(steps_of(theirs, lambda x: theirs(*x.unbind(1)), groups, stream, our_name),
               steps_of(mine, lambda x: sum(mine.loss(mine(dict(x=x))).values()), mine.param_groups(), stream),
               strict=True)
    for i, ((loss, grads), (own_loss, own_grads)) in enumerate(both):
        rows[f'step {i} loss'] = figure(loss, own_loss)
        if i: continue
        for part in ('expander', 'encoder'):
            rows[f'step 0 gradients of the {part}'] = compared(*({k: v for k, v in g.items() if k.startswith(part)}
                                                                 for g in (grads, own_grads)))
    state, own = {our_name(k): v for k, v in theirs.state_dict().items()}, mine.state_dict()
    split = lambda d, running: {k: v for k, v in d.items() if ('running' in k) == running and 'tracked' not in k}
    return dict(setting=setting, seed=seed, dtype=dtype, batch=mine.config.batch, steps=steps,
                figures=rows
                | {'running statistics after': compared(split(state, True), split(own, True)),
                   'weights after': compared(split(state, False), split(own, False))})


# Recipes and groups

def their_recipe(steps):
    "Numbers of one of their transforms: crop, jitter, grey, blur, solarise, mirror"
    by = {type(s).__name__: s for s in steps.transforms}
    jitter = by['RandomApply'].transforms[0]
    around = lambda pair, middle=1: (pair[1] - pair[0]) / 2
    return dict(size=by['RandomResizedCrop'].size[0], least=by['RandomResizedCrop'].scale[0],
                most=by['RandomResizedCrop'].scale[1], flip=by['RandomHorizontalFlip'].p,
                jitter_p=by['RandomApply'].p, brightness=around(jitter.brightness), contrast=around(jitter.contrast),
                saturation=around(jitter.saturation), hue=around(jitter.hue),
                grey_p=by['RandomGrayscale'].p, blur_p=by['GaussianBlur'].p, solarise_p=by['Solarization'].p)


def recipes(pub):
    "The numbers of both views' recipes"
    c, rows = ours.paper, {}
    theirs = pub.aug.TrainTransform()
    for v, steps in enumerate((theirs.transform, theirs.transform_prime)):
        p, a = vars(ours.recipes(c)[v]), their_recipe(steps)
        b = dict(size=c.size, least=c.scale[0], most=c.scale[1], flip=c.flip) | {k: p[k] for k in a if k in p}
        rows[f'recipe of view {v + 1}'] = figure([float(a[k]) for k in sorted(a)],
                                                 [float(b[k]) for k in sorted(a)]) | dict(numbers=a)
    return rows


def decayed(pub):
    "Which tensors of the paper preset are decayed"
    with torch.device('meta'): mine = ours.VICReg(ours.paper)
    ids = {id(p) for g in mine.param_groups() if g['weight_decay'] for p in g['params']}
    return {'decayed tensors are the same': figure(True,
                                                   all((id(p) in ids) != pub.exclude_bias_and_norm(p)
                                                       for p in mine.parameters()))}


# All of it

CASES = [dict(setting=name, seed=s, dtype=d, steps=3) for name in SETTINGS for s in (0, 1)
         for d in ('float64', 'float32')]
NOT_HELD = ('float32 weights after', 'float32 running statistics after')
DIFFERENCES = [
    'The encoder is ours on both sides: a ConvNeXt pyramid, theirs is a ResNet-50.',
    'The optimiser is AdamW on both sides: theirs is LARS, with its own rate and schedule, which are not compared.',
    'Weights and running statistics after some steps are held in float64 only: Adam turns a gradient that is all '
    'rounding into a step of its own size.',
    'Blur widths are meant for 224 pixels there; here they are scaled with the side of the view, and a true Gaussian '
    'stands for PIL\'s.']


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('vicreg', __doc__, 'main_vicreg.py',
                                code=('classics/vicreg', 'losses', 'nets', 'heads'))
    comparison.single_process()
    pub = public(args.public)
    rules, cases = recipes(pub) | decayed(pub), comparison.measured(case, CASES, pub)
    comparison.conclude(args, "VICReg: ours beside the authors' public code, shared weights and inputs",
                        comparison.upstream(args.public, 'facebookresearch/vicreg'),
                        cases, rules, DIFFERENCES, versions(timm), NOT_HELD)


if __name__ == '__main__': main()
