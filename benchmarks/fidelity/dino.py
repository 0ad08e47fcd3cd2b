"""Our DINO beside the authors' public code, on shared weights and inputs.

    git clone https://github.com/facebookresearch/dino PATH
    python -m benchmarks.fidelity.dino --public PATH

Their network, head and loss come from PATH as they are, with random weights (ours are the same ones, renamed) and the
same crops. The figures of both go to benchmarks/results/fidelity-dino.json; the exit code is 1 where a held figure
differs by more than 1e-5.
"""
import importlib
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import timm
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from timm.layers import resample_abs_pos_embed

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import cast, first_gradients, pictures, standard
from benchmarks.fidelity.comparison import unscaled as figure
from benchmarks.fidelity.slotmim import compared
from benchmarks.provenance import versions
from ssl_workbench import core, learner, losses
from ssl_workbench.classics import dino as ours

TOTAL, WARM, LR, LR_END, DECAY, CLIP, MOMENTUM = 8, 3, 1e-3, 1e-6, (.04, .4), 3., (.9, 1.)
TINY = dict(size=32, small_size=16, patch=8, dim=32, depth=2, heads=2, hidden=48, out_dim=16, prototypes=24, batch=4,
            small=2,
            momentum=MOMENTUM, weight_decay=DECAY, clip=CLIP, teacher_warmup=(WARM - 1) / TOTAL, freeze_prototypes=0.)


SCOPE = dict(np=np, torch=torch, nn=nn, F=F, dist=dist)              # what their losses import


# Their code

def public(path):
    "What is needed of the public code"
    sys.path.insert(0, str(path))
    nets, tools = importlib.import_module('vision_transformer'), importlib.import_module('utils')
    return SimpleNamespace(ViT=nets.VisionTransformer, Head=nets.DINOHead, Wrapper=tools.MultiCropWrapper, tools=tools,
                           Loss=comparison.definitions(path/'main_dino.py', ['DINOLoss'], **SCOPE)['DINOLoss'])


def their_network(pub, c, head, **more):
    "Encoder and head in their wrapper"
    net = pub.ViT(img_size=[c.size], patch_size=c.patch, embed_dim=c.dim, depth=c.depth, num_heads=c.heads, mlp_ratio=4,
                  qkv_bias=True,
                  norm_layer=partial(nn.LayerNorm, eps=1e-6), **more)
    return pub.Wrapper(net, head)


def our_positions(net):
    "In place of their interpolation of positions: timm's, as ours, of their own parameter"
    patch = net.patch_embed.patch_size
    net.interpolate_pos_encoding = lambda x, w, h: resample_abs_pos_embed(
        net.pos_embed, (w // patch, h // patch), num_prefix_tokens=1)


NAMES = (('backbone.masked_embed', 'encoder.mask_token'), ('backbone.', 'encoder.net.'),
         ('head.mlp.', 'head.projector.'),
         ('head.last_layer.weight_v', 'head.prototypes.weight'),
         ('head.last_layer2.weight_v', 'patch_prototypes.weight'))


def our_name(name, side):
    "Our name of one of their tensors; None for what we do not have"
    found = next(((a, b) for a, b in NAMES if name.startswith(a)), None)
    return f'{side}.{found[1]}{name.removeprefix(found[0])}' if found else None


def renamed(tensors, side):
    "Named tensors of theirs under our names; the lengths of the last layer, all 1, are left out"
    return {our_name(n, side): v for n, v in tensors if our_name(n, side)}


def shaken(module):
    "Random weights everywhere; the last layer keeps its length"
    with torch.no_grad():
        for n, p in module.named_parameters():
            if not n.endswith('weight_g'): p.add_(.05 * torch.randn_like(p))
    return module


def pair(pub, c, seed, dtype):
    "Their student, teacher and loss, and our method, with the same weights and centre"
    torch.manual_seed(seed)
    student, teacher = (shaken(their_network(pub, c,
                                             pub.Head(c.dim, c.prototypes, hidden_dim=c.hidden,
                                                      bottleneck_dim=c.out_dim))).to(dtype) for _ in range(2))
    loss = pub.Loss(c.prototypes, 2 + c.small, *c.teacher_temp, WARM, TOTAL).to(dtype)
    loss.center.copy_(.1 * torch.randn_like(loss.center))
    mine = ours.DINO(c).to(dtype)
    state = renamed(student.state_dict().items(), 'student') | renamed(teacher.state_dict().items(), 'teacher')
    missing = mine.load_state_dict({k: v.clone() for k, v in state.items()} | dict(centre=loss.center[0].clone()),
                                   strict=False)
    if [k for k in missing.missing_keys if 'mask_token' not in k] or missing.unexpected_keys:
        raise ValueError(f'names differ: {missing}')
    return SimpleNamespace(student=student, teacher=teacher, loss=loss), mine


def inputs(c, views, seed, dtype):
    "Crops of world pictures"
    return cast(views(c)(pictures(c.batch, seed, 64, 'iconic') | dict(aspect=torch.full((c.batch,), 4 / 3))), dtype)


def for_them(v):
    "The same crops as their loop has them: a list, large ones first, normalised"
    return [standard(x) for x in (*v['x'].unbind(1), *(v['x_small'].unbind(1) if 'x_small' in v else ()))]


# Training both

def their_terms(theirs, v, i):
    "The loss of one step"
    images = for_them(v)
    return dict(cls=theirs.loss(theirs.student(images), theirs.teacher(images[:2]).detach(), i))


def their_steps(pub, theirs, stream, terms_of):
    "Their training loop over given crops: terms and gradients of each step"
    optimiser = torch.optim.AdamW(pub.tools.get_params_groups(theirs.student))
    rate, decay, momentum = (pub.tools.cosine_scheduler(a, b, TOTAL, 1) for a, b in ((LR, LR_END), DECAY, MOMENTUM))
    for i, v in enumerate(stream):
        for k, group in enumerate(optimiser.param_groups):
            group['lr'] = rate[i]
            if k == 0: group['weight_decay'] = decay[i]
        terms = terms_of(theirs, v, i)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        grads = renamed(((n, p.grad.clone()) for n, p in theirs.student.named_parameters() if p.grad is not None),
                        'student')
        pub.tools.clip_gradients(theirs.student, CLIP)
        optimiser.step()
        with torch.no_grad():
            own = dict(theirs.student.named_parameters())
            for n, k in theirs.teacher.named_parameters(): k.mul_(momentum[i]).add_((1 - momentum[i]) * own[n].detach())
        yield {k: t.item() for k, t in terms.items()}, grads


class Given:
    "Data and views for our learner that hand out given views in turn"
    def __init__(self, stream): self.stream, self.i = stream, 0
    def __len__(self): return 1000
    def batch(self, indices, device): return {}
    def __call__(self, batch): self.i += 1; return self.stream[self.i - 1]


def apart(state):
    "Key biases taken out: attention does not feel them, so their gradient is rounding and Adam makes it a step"
    return {n: torch.cat([v.chunk(3)[0], v.chunk(3)[2]]) if n.endswith('qkv.bias') else v for n, v in state.items()}


def training(pub, theirs, mine, stream, terms_of=their_terms, centres=(('centre', 'center'),)):
    "Terms of each step, gradients of the first, centres of each, weights after the last"
    given, grads, rows = Given(stream), first_gradients(mine), {}
    run = learner.Learner(mine, given, given, TOTAL, LR, mine.config.batch, warmup=0., lr_end=LR_END, device='cpu',
                          progress=False)
    both = zip(their_steps(pub, theirs, stream, terms_of), run.steps(len(stream)))
    for i, ((terms, gradients), step) in enumerate(both):
        rows |= {f'step {i} {k}': figure([t], [step.terms[k]]) for k, t in terms.items()}
        rows |= {f'step {i} {mine_} after': figure(getattr(theirs.loss, name), getattr(mine, mine_))
                 for mine_, name in centres}
        if i == 0:
            top = max(g.abs().max() for g in gradients.values())
            rows['step 0 gradients'] = compared(gradients, grads)
            rows['step 0 gradients by the largest'] = compared(*({n: g / top for n, g in d.items()}
                                                                 for d in (gradients, grads)))
    for side in ('student', 'teacher'):
        state, own = renamed(getattr(theirs, side).state_dict().items(), side), mine.state_dict()
        rows[f'{side} after'] = compared(*(apart({n: v for n, v in d.items() if n in state and n in own})
                                           for d in (state, own)))
    return rows


@torch.no_grad()
def parts(theirs, mine, v):
    "CLS, scores and targets of the large crops; positions of small crops as both interpolate them"
    rows, images, c = {}, for_them(v), mine.config
    for side in ('student', 'teacher'):
        net, branch = getattr(theirs, side), getattr(mine, side)
        tokens, cls, scores = branch(v['x'][:, 0])
        found = net.backbone(images[0])
        rows |= {f'{side} CLS': figure(found if found.ndim == 2 else found[:, 0], cls),
                 f'{side} scores': figure(net.head(found if found.ndim == 2 else found[:, 0]), scores)}
    rows['centred targets'] = figure(F.softmax((scores - theirs.loss.center) / .05, -1),
                                     losses.centred_softmax(scores, mine.centre, .05))
    side = c.small_size // c.patch
    blank = images[0].new_zeros(1, side**2 + 1, c.dim)
    interpolate = type(net.backbone).interpolate_pos_encoding
    rows['positions of small crops'] = figure(interpolate(net.backbone, blank, c.small_size, c.small_size),
                                              mine.teacher.encoder.positions((side, side)))
    return rows


def rules(pub, theirs, mine):
    "Which parameters are decayed, how gradients are clipped; schedules of a whole run"
    named = {id(p): n for n, p in mine.named_parameters()}
    ids = {id(p): our_name(n, 'student') for n, p in theirs.student.named_parameters()}
    groups = [sorted(ids[id(p)] for p in g['params']) for g in pub.tools.get_params_groups(theirs.student)]
    same = groups == [sorted(named[id(p)] for p in g['params']) for g in mine.param_groups()]
    torch.manual_seed(0)
    grads = {n: 3 * torch.randn_like(p) for n, p in mine.named_parameters() if p.requires_grad}
    for n, p in mine.named_parameters(): p.grad = grads[n].clone() if n in grads else None
    for n, p in theirs.student.named_parameters():
        p.grad = grads[our_name(n, 'student')].clone() if our_name(n, 'student') in grads else None
    pub.tools.clip_gradients(theirs.student, CLIP)
    learner.clip_gradients(mine.param_groups())
    clipped = [renamed(((n, p.grad) for n, p in theirs.student.named_parameters() if p.grad is not None), 'student'),
               {n: p.grad for n, p in mine.named_parameters() if n in grads}]
    total, c = 400, ours.paper
    progress = [i / total for i in range(total)]
    return {'decayed parameters': figure(True, same), 'clipped gradients': compared(*clipped),
            'schedule: weight decay': figure(pub.tools.cosine_scheduler(*c.weight_decay, total, 1),
                                             [core.cosine(t, *c.weight_decay) for t in progress]),
            'schedule: momentum': figure(pub.tools.cosine_scheduler(*c.momentum, total, 1),
                                         [core.cosine(t, *c.momentum) for t in progress])}


# All of it

CASES = [*(dict(seed=s, dtype=d, steps=3) for s in (0, 1) for d in ('float64', 'float32')),
         dict(seed=2, dtype='float64', steps=3, small=0),
         dict(seed=3, dtype='float64', steps=1, size=224, small_size=96, patch=16, dim=192, depth=12, heads=3,
              hidden=2048, out_dim=256, prototypes=4096, batch=2)]
NOT_HELD = ('float64 positions of small crops', 'float32 positions of small crops', 'float32 gradients',
            'float32 student after', 'float32 teacher after')
DIFFERENCES = [
    'Positions of small crops: theirs are interpolated bicubically with a shift of .1 of a cell, ours with '
    'antialiasing (timm); in the runs both use ours, and how far the two are apart stands under "positions of small '
    'crops".',
    'Learning rate: theirs is 0 at the first step and reaches its peak at the last step of the warm-up; ours rises '
    'from peak/warm-up steps, one step ahead. The runs have no warm-up.',
    'Teacher temperature: theirs rises once an epoch and ends its rise one epoch early; ours rises with every step. In '
    'the runs an epoch is one step.',
    'The frozen last layer: its gradient is dropped there, it is detached here; the update is the same.',
    'The lengths of the last layer are fixed to 1 on both sides (their norm_last_layer).',
    'Stochastic depth is off in the runs: they draw it crop by crop, we picture by picture.',
    'Gradients in float32 are held as parts of the largest one; in float64 as they are.',
    'Weights after three steps are held in float64 only: Adam turns a gradient that is all rounding into a step of its '
    'own size.']


def case(pub, seed, dtype, steps, **changes):
    "Parts on one batch, then some training steps on others"
    c, kind = ours.Config(**(TINY | changes)), getattr(torch, dtype)
    theirs, mine = pair(pub, c, seed, kind)
    stream = [inputs(c, ours.Views, 10 * seed + i, kind) for i in range(steps + 1)]
    rows = parts(theirs, mine, stream[0])
    for net in (theirs.student, theirs.teacher): our_positions(net.backbone)
    figures = rows | training(pub, theirs, mine, stream[1:])
    return dict(seed=seed, dtype=dtype, batch=c.batch) | changes | dict(figures=figures)


def main(name, repository, probe, words, compare, differences):
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments(name.lower(), words, probe)
    comparison.single_process()
    cases, rules = compare(args.public)
    comparison.conclude(args, f"{name}: ours beside the authors' public code, shared weights and inputs",
                        comparison.upstream(args.public, repository),
                        cases, rules, differences, versions(torchvision, timm, np), NOT_HELD)


def compare(path):
    "All cases, and the rules"
    pub = public(path)
    return comparison.measured(case, CASES, pub), rules(pub, *pair(pub, ours.Config(**TINY), 0, torch.float64))


if __name__ == '__main__': main('DINO', 'facebookresearch/dino', 'main_dino.py', __doc__, compare, DIFFERENCES)
