"""Our SlotMIM beside the authors' public code, on shared weights and inputs.

    git clone https://github.com/CVMI-Lab/SlotMIM PATH
    python -m benchmarks.fidelity.slotmim --public PATH

Their code is imported from PATH as it is, given random weights (ours are the same ones, renamed) and the same views.
The figures of both go to benchmarks/results/fidelity-slotmim.json; the exit code is 1 where a held figure differs by
more than 1e-5.
"""
import importlib
import math
import sys
from dataclasses import replace
from functools import partial
from itertools import chain
from types import SimpleNamespace

import numpy as np
import timm
import torch
import torch.nn as nn
import torchvision
import torchvision.transforms.functional as TF

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import cast, first_gradients, gradients, pictures, standard
from benchmarks.fidelity.comparison import unscaled as figure
from benchmarks.provenance import versions
from ssl_workbench import core, geometry, heads, learner, losses, views, world
from ssl_workbench.methods import slotmim as ours

TOTAL, WARM, FREEZE, LR, LR_END, DECAY, CLIP = 8, 3, 1, 6e-4, 2e-6, (.04, .4), .3

SETTINGS = dict(
    small=(dict(size=64, patch=16, dim=64, depth=3, heads=4, hidden=128, out_dim=32, prototypes=24), 6),
    tiny224=(dict(size=224, patch=16, dim=192, depth=12, heads=3, hidden=2048, out_dim=256, prototypes=512), 3),
    base224=(dict(size=224, patch=16, dim=768, depth=12, heads=12, hidden=2048, out_dim=256, prototypes=512), 2))


# Their code

def public(path):
    "What is needed of the public code"
    sys.path.insert(0, str(path))
    code = {m: importlib.import_module(m)
            for m in ('models.slotmim', 'models.vision_transformer', 'data.datasets', 'data.transforms')}
    names = ['get_params_groups', 'clip_gradients', 'cancel_gradients_slots', 'cosine_scheduler']
    script = comparison.definitions(path/'main_pretrain_mim.py', names, np=np)
    return SimpleNamespace(SlotMIM=code['models.slotmim'].SlotMIM,
                           ViT=code['models.vision_transformer'].VisionTransformer,
                           datasets=code['data.datasets'], transforms=code['data.transforms'], **script)


def their_arguments(c, batch):
    "Arguments of their network; an epoch is one step, so that epochs count our steps"
    return SimpleNamespace(
        arch='vit', dim_hidden=c.hidden, dim_hidden_slot=c.hidden, dim_out=c.out_dim, teacher_momentum=c.momentum[0],
        group_loss_weight=c.patch_weight,
        use_sinkhorn=c.sinkhorn, use_cross_patch_loss=True, use_masked_patch_loss=True, mask_loss_weight=1,
        cross_loss_weight=1, drop_path_rate=c.drop_path,
        student_temp=c.student_temp, warmup_teacher_temp=c.teacher_temp[0], teacher_temp=c.teacher_temp[1],
        warmup_teacher_temp_epochs=WARM, epochs=TOTAL,
        num_prototypes=c.prototypes, center_momentum=c.centre_momentum, num_instances=batch, world_size=1,
        batch_size=batch, start_epoch=1)


NAMES = (('encoder_q.mask_token', 'student.encoder.mask_token'), ('encoder_k.mask_token', 'teacher.encoder.mask_token'),
         ('encoder_q.', 'student.encoder.net.'), ('encoder_k.', 'teacher.encoder.net.'),
         ('projector_q.mlp.', 'student.projector.'),
         ('projector_k.mlp.', 'teacher.projector.'), ('grouping_q.prototypes_patch.', 'student.prototypes.'),
         ('grouping_k.prototypes_patch.', 'teacher.prototypes.'), ('predictor_slot.mlp.', 'predictor.'),
         ('center', 'centre'))


our_name = partial(comparison.rename_prefix, NAMES)


def pair(pub, setting, seed, dtype, **changes):
    "Their network and ours with the same weights: random everywhere, teacher and centre too"
    sizes, batch = SETTINGS[setting]
    c = ours.Config(stem='linear', momentum=(.9, 1.), teacher_warmup=(WARM - 1) / TOTAL,
                    freeze_prototypes=FREEZE / TOTAL,
                    weight_decay=DECAY, clip=CLIP, scale=(.08, 1.), batch=batch, **sizes, **changes)
    torch.manual_seed(seed)
    build = partial(pub.ViT, img_size=c.size, patch_size=c.patch, embed_dim=c.dim, depth=c.depth, num_heads=c.heads,
                    mlp_ratio=4,
                    qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))
    theirs = pub.SlotMIM(build, their_arguments(c, batch)).to(dtype)
    with torch.no_grad():
        for p in theirs.parameters(): p.add_(.02 * torch.randn_like(p))
        theirs.center.copy_(.1 * torch.randn_like(theirs.center))
    mine = ours.SlotMIM(c).to(dtype)
    mine.load_state_dict({our_name(k): v.clone().view(-1) if k == 'center' else v.clone()
                          for k, v in theirs.state_dict().items()})
    return theirs, mine


def inputs(c, seed, dtype):
    "Our views of world scenes"
    return cast(ours.Views(c)(pictures(c.batch, seed) | dict(aspect=torch.full((c.batch,), 4 / 3))), dtype)


def for_them(v):
    "The same views as their forward takes them: crops, coords, flags, masks"
    return [[t[:, k] for k in (0, 1)] for t in (standard(v['x']), v['box'], v['flip'], v['mask'])]


# Comparing

def their_targets(model, k, sinkhorn):
    "Their teacher's distribution: read from the gradient of their distillation loss at even student scores"
    q = torch.zeros_like(k, requires_grad=True)
    grad, = torch.autograd.grad(model.self_distill(q, k, sinkhorn), q)
    return 1 / k.shape[1] - grad * model.student_temp * len(k)


@torch.no_grad()
def parts(theirs, mine, v):
    "Encoder, projector, scores, slots, active slots, aligned scores, targets: one student view and its teacher's"
    crops, coords, flags, masks = for_them(v)
    temp = theirs.teacher_temp = mine.temperature = .055
    rows = {}
    for branch, encoder, projector, grouping, mask in (
            ('student', theirs.encoder_q, theirs.projector_q, theirs.grouping_q, True),
            ('teacher', theirs.encoder_k, theirs.projector_k, theirs.grouping_k, False)):
        tokens = encoder(crops[0], masks[0]) if mask else encoder(crops[0])
        z = projector(tokens)
        slots, dots = grouping(z, z, temp)
        own_tokens, own_z, own_s = getattr(mine, branch)(v['x'][:, 0], v['mask'][:, 0] if mask else None)
        rows |= {f'{branch} tokens': figure(tokens, own_tokens), f'{branch} projections': figure(z, own_z),
                 f'{branch} scores': figure(dots.transpose(1, 2), own_s),
                 f'{branch} slots': figure(slots, heads.pool(own_z, heads.assign(own_s, temp))),
                 f'{branch} active slots': figure(theirs.get_slot_mask(dots), heads.active_slots(own_s).long()),
                 f'{branch} aligned scores': figure(theirs.invaug(dots, coords[0], flags[0]).permute(0, 2, 3, 1),
                                                    mine.aligned(own_s, v['box'][:, 0], v['flip'][:, 0]))}
    scores = own_s.flatten(0, 1)
    rows['Sinkhorn targets'] = figure(theirs.sinkhorn_knopp_teacher(scores, temp), losses.sinkhorn_knopp(scores, temp))
    with torch.enable_grad():
        rows['centred targets'] = figure(their_targets(theirs, scores, False),
                                         losses.centred_softmax(scores, mine.centre, temp))
    return rows


def their_steps(pub, model, stream, seed):
    "Their training loop over given views: terms and gradients of each step"
    optimiser = torch.optim.AdamW(pub.get_params_groups(model))
    rate = pub.cosine_scheduler(LR, LR_END, TOTAL, 1)
    decay = pub.cosine_scheduler(*DECAY, TOTAL, 1)
    for i, v in enumerate(stream):
        for k, group in enumerate(optimiser.param_groups):
            group['lr'] = rate[i]
            if k == 0: group['weight_decay'] = decay[i]
        torch.manual_seed(seed + i)
        terms = model(*for_them(v), i)
        terms = {k: t for k, t in terms.items() if 'loss' in k}
        optimiser.zero_grad()
        sum(terms.values()).backward()
        grads = gradients(model, our_name)
        pub.clip_gradients(model, CLIP)
        pub.cancel_gradients_slots(i, model, FREEZE)
        optimiser.step()
        yield {k: t.item() for k, t in terms.items()}, grads


class Given:
    "Data and views for our learner that hand out given views in turn"
    def __init__(self, stream, seed): self.stream, self.seed, self.i = stream, seed, 0
    def __len__(self): return 1000
    def batch(self, indices, device): return {}
    def __call__(self, batch):
        torch.manual_seed(self.seed + self.i)
        self.i += 1
        return self.stream[self.i - 1]


TERMS = dict(patch_loss_cross='cross', patch_loss_masked='within', ctr_slot_loss='slot')


def training(pub, theirs, mine, stream, seed):
    "Terms of each step, gradients of the first, weights and centre after the last"
    given = Given(stream, seed)
    run = learner.Learner(mine, given, given, TOTAL, LR, mine.config.batch, warmup=0., lr_end=LR_END, device='cpu',
                          progress=False)
    grads, rows = first_gradients(mine), {}
    both = zip(their_steps(pub, theirs, stream, seed), run.steps(len(stream)))
    for i, ((terms, their_grads), step) in enumerate(both):
        rows |= {f'step {i} {own}': figure(terms[name], step.terms[own]) for name, own in TERMS.items()}
        rows[f'step {i} total'] = figure(sum(terms.values()), step.total)
        if i == 0: rows['step 0 gradients'] = compared(their_grads, grads)
    state = {our_name(k): v.view(-1) if k == 'center' else v for k, v in theirs.state_dict().items()}
    own = mine.state_dict()
    rows['centre after'] = figure(state.pop('centre'), own.pop('centre'))
    rows['key biases after'] = compared(key_biases(state), key_biases(own))
    for branch in ('teacher', 'student', 'predictor'):
        of = lambda d, branch=branch: {k: v for k, v in d.items() if k.startswith(branch)}
        rows[f'{branch} after'] = compared(of(state), of(own))
    return rows


def key_biases(state):
    "The biases of the keys, taken out: attention ignores them, and Adam makes the rounding of their gradient a step"
    taken = {}
    for name in [n for n in state if n.endswith('qkv.bias')]:
        q, taken[name], v = state[name].chunk(3)
        state[name] = torch.cat([q, v])
    return taken


def compared(theirs, mine):
    "All tensors of two dicts as one figure; those that we freeze have no gradient yet"
    names = sorted(set(theirs) & set(mine))
    missing = sorted(set(theirs) ^ set(mine))
    flat = lambda d: torch.cat([d[n].flatten() for n in names])
    return figure(flat(theirs), flat(mine)) | (dict(without=missing) if missing else {})


# Geometry, masks, rules and schedules

class Fed:
    "A stand-in for `random` that serves our numbers: two to shape a try, two to place it"
    def __init__(self, tries, order): self.tries, self.order, self.even, self.left = iter(tries), order, True, []
    def uniform(self, a, b):
        if self.even: self.u, self.left = next(self.tries), list(self.order)
        self.even = not self.even
        return a + (b - a) * float(self.u[int(self.even)])
    def randint(self, a, b): return a + math.floor(float(self.u[self.left.pop(0)]) * (b - a + 1))


def their_mask(pub, grid, ratio, tries):
    "One of their block masks"
    d = pub.datasets
    maker = d.ImageFolderMask.__new__(d.ImageFolderMask)
    maker.psz, maker.pred_shape, maker.get_pred_ratio = 1, 'block', lambda: ratio
    maker.log_aspect_ratio = (math.log(.3), math.log(1 / .3))
    kept, load = (d.random, d.ImageFolder.__getitem__)
    d.ImageFolder.__getitem__ = lambda self, i: ([torch.zeros(3, *grid)], None, None)
    if tries is not None: d.random = Fed(tries, (2, 3))
    try: return torch.from_numpy(maker[0][3][0])
    finally: d.random, d.ImageFolder.__getitem__ = kept, load


def masks(pub, n=400):
    "Same random numbers, same masks; and each with its own numbers, the same part masked"
    seeds, out = torch.arange(n), {}
    ratio = .1 + .4 * core.uniform(seeds, 'ratio', 1)[:, 0]
    for grid in ((14, 14), (8, 8), (4, 4)):
        own = views.block_mask(seeds, 'm', grid, ratio).view(n, *grid)
        fed = torch.stack([their_mask(pub, grid, float(r), (u[:, 0] for u in views._block_tries(seeds[k:k + 1], 'm')))
                           for k, r in enumerate(ratio)])
        pub.datasets.random.seed(0)
        free = torch.stack([their_mask(pub, grid, float(r), None) for r in ratio])
        share = lambda m: [float(m.double().mean()), float(m.double().mean((1, 2)).std() / n**.5)]
        out[f'masks {grid[0]}×{grid[1]}'] = figure(fed, own) | dict(masks=n,
                                                                    equal=int((fed == own).all(2).all(1).sum()),
            hidden_with_own_numbers=dict(theirs=share(free), ours=share(own), note='mean and standard error'))
    return out


def their_crops(pub, seed, width, height):
    "Their two crops (top, left, height, width) from our random numbers"
    tries = lambda name: core.uniform([seed], name, 40)[0].view(10, 4)
    t, picture = pub.transforms, torch.empty(3, height, width, device='meta')
    kept, maker, out = t.random, pub.transforms.CustomTwoCrop(224, (.08, 1.)), []
    try:
        t.random = Fed(tries('crop1'), (3, 2))
        out.append(maker.get_params(picture, maker.scale, maker.ratio))
        t.random = Fed(chain(tries('crop2'), tries('crop2/any')), (3, 2))
        out.append(maker.get_params_conditioned(picture, maker.scale, maker.ratio, out[0]))
    finally: t.random = kept
    return out


def crops(pub, n=400, width=4000, height=3000):
    "Crops from the same random numbers in a large picture, and the shared box of each pair under every mirror"
    pixels = torch.tensor([width, height, width, height], dtype=torch.float64)
    theirs = [their_crops(pub, s, width, height) for s in range(n)]
    boxes = torch.tensor([[[j, i, j + w, i + h] for i, j, h, w in two] for two in theirs], dtype=torch.float64)
    first = views.crop_boxes(range(n), 'crop1', (.08, 1.), aspect=width / height)
    second = views.overlapping_boxes(first, range(n), 'crop2', .01, (.08, 1.), aspect=width / height)
    out = {'crops in pixels of 4000×3000 (theirs are rounded)': figure(boxes, torch.stack([first, second], 1) * pixels)}
    for name, flips in dict(none=(0, 0), first=(1, 0), second=(0, 1), both=(1, 1)).items():
        mirror = [pub.transforms.CustomRandomHorizontalFlip(p) for p in flips]
        meet = [pub.transforms._clip_coords(list(b.float()), two) for b, two in zip(boxes, theirs)]
        turned = [[mirror[v]([torch.zeros(1, 1)], [c[v]])[1][0] for v in (0, 1)] for c in meet]
        matrix = geometry.crop_matrix(boxes / pixels, torch.tensor(flips).bool().expand(n, 2))
        own = torch.stack(geometry.intersection(matrix[:, 0], matrix[:, 1]), 1)
        out[f'shared box, mirrored: {name}'] = figure(torch.stack([torch.stack(t) for t in turned]), own)
    return out


def pixels(n=40, size=64):
    "Crops of rendered scenes: Pillow's bicubic on 8 bits against ours, which at its edge also reads what lies outside"
    pictures = world.batch(range(n), kind='scene', level=2, size=(192, 192), frames=1, truth=False)['frames'][:, 0]
    boxes = (views.crop_boxes(range(n), 'pixels', (.08, 1.)) * 192).round()
    mine = geometry.resample(pictures.float() / 255, geometry.crop_matrix(boxes / 192).float(), size).clamp(0, 1)
    theirs = torch.stack([TF.pil_to_tensor(TF.resized_crop(TF.to_pil_image(p), int(y), int(x), int(b - y), int(a - x),
                                                           [size, size], TF.InterpolationMode.BICUBIC))
                          for p, (x, y, a, b) in zip(pictures, boxes)]) / 255
    inner = lambda t: t[..., 4:-4, 4:-4]
    quantile = lambda d, q: float(d.flatten().kthvalue(int(q * d.numel())).values)
    away = (inner(theirs) - inner(mine)).abs()
    return {'crop pixels': figure(theirs, mine)
            | dict(inside=dict(median=quantile(away, .5), p99=quantile(away, .99), max=float(away.max())))}


def rules(pub):
    "Which parameters are decayed, how gradients are clipped"
    theirs, mine = pair(pub, 'small', 0, torch.float64)
    named = {id(p): n for n, p in mine.named_parameters()}
    ids = {id(p): our_name(n) for n, p in theirs.named_parameters()}
    own = [sorted(named[id(p)] for p in g['params']) for g in mine.param_groups()]
    for model in (theirs, mine):
        torch.manual_seed(0)
        trained = ((our_name(n) if model is theirs else n, p) for n, p in model.named_parameters() if p.requires_grad)
        for _, p in sorted(trained):
            p.grad = torch.randn_like(p) / p.numel()**.25
    pub.clip_gradients(theirs, CLIP)
    learner.clip_gradients(mine.param_groups())
    grads = lambda m, name: {name(n): p.grad for n, p in m.named_parameters() if p.requires_grad}
    same = [sorted(ids[id(p)] for p in g['params']) for g in pub.get_params_groups(theirs)] == own
    return {'clipped gradients': compared(grads(theirs, our_name), grads(mine, str)),
            'decayed parameters': figure(True, same) | dict(decayed=len(own[0]), free=len(own[1]))}


def schedules(pub, epochs=80, steps=5, warm=8, temp_epochs=40):
    "Schedules of a run of 400 steps as theirs give them by step or epoch, ours by progress"
    total, c = epochs * steps, ours.paper
    method = ours.SlotMIM(replace(ours.cpu, dim=16, depth=1, heads=1, hidden=8))
    run = learner.Learner(method, None, world.World(length=1), total, LR, 1, warmup=warm / epochs, lr_end=LR_END,
                          device='cpu')
    progress = [i / total for i in range(total)]
    temps = np.concatenate([np.linspace(*c.teacher_temp, temp_epochs),
                            np.full(epochs - temp_epochs, c.teacher_temp[1])]).repeat(steps)
    momentum = [1 - (1 - c.momentum[0]) * (math.cos(math.pi * k / total) + 1) * .5 for k in range(total)]
    decay = run.optimiser.param_groups[0]['wd']
    return {'schedule: learning rate': figure(pub.cosine_scheduler(LR, LR_END, epochs, steps, warm),
                                              [run._schedule(t) for t in progress]),
            'schedule: weight decay': figure(pub.cosine_scheduler(*c.weight_decay, epochs, steps),
                                             [decay(t) for t in progress]),
            'schedule: teacher temperature': figure(temps,
                                                    [core.linear(t, *c.teacher_temp, temp_epochs / epochs)
                                                     for t in progress]),
            'schedule: momentum (their formula)': figure(momentum, [core.cosine(t, *c.momentum) for t in progress])}


# All of it

CASES = [*(dict(setting='small', seed=s, dtype=d, sinkhorn=k, steps=3) for s in (0, 1, 2)
           for d in ('float64', 'float32') for k in (False, True)),
         dict(setting='small', seed=3, dtype='float64', drop_path=.3, steps=3),
         dict(setting='tiny224', seed=0, dtype='float64', steps=1),
         dict(setting='tiny224', seed=1, dtype='float32', sinkhorn=True, steps=1),
         dict(setting='base224', seed=0, dtype='float32', steps=1)]
NOT_HELD = ('crops in pixels*', 'crop pixels', 'schedule: learning rate', 'schedule: teacher temperature',
            'float32 key biases after', 'float32 teacher after', 'float32 student after', 'float32 predictor after')
DIFFERENCES = [
    'Crops: theirs are whole pixels, ours real numbers; from the same random numbers corners differ by about a pixel '
    'of the picture.',
    'Learning rate: theirs is 0 at the first step and reaches its peak at the last step of the warm-up; ours rises '
    'from peak/warm-up steps, one step ahead.',
    'Teacher temperature: theirs rises once an epoch and ends its rise one epoch before the given number of epochs; '
    'ours rises with every step.',
    'Sinkhorn: theirs computes in float32 always, ours keeps float64; ours subtracts the largest score first, which '
    'changes nothing but overflow.',
    'Prototypes are frozen by dropping their gradient there, by detaching them here: step 0 has no gradient for them '
    'here, the update is the same.',
    'Weights after three steps are held in float64 only: Adam turns a gradient that is all rounding (key biases above '
    'all) into a step of its own size.',
    'A step whose loss is not a number is skipped there; here the run stops and says where.']


def case(pub, setting, seed, dtype, steps, **changes):
    "Parts on one batch, then some training steps on others"
    theirs, mine = pair(pub, setting, seed, getattr(torch, dtype), **changes)
    c = mine.config
    stream = [inputs(c, 10 * seed + i, getattr(torch, dtype)) for i in range(steps + 1)]
    rows = {}
    if not c.drop_path: rows = parts(theirs, mine, stream[0])
    return dict(setting=setting, seed=seed, dtype=dtype, batch=c.batch, **changes,
                figures=rows | training(pub, theirs, mine, stream[1:], seed))


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('slotmim', __doc__, 'models/slotmim.py',
                                quick='the small network alone; writes nothing')
    comparison.single_process()
    pub = public(args.public)
    rest = masks(pub) | crops(pub) | pixels() | rules(pub) | schedules(pub)
    cases = comparison.measured(case, CASES[:4 if args.quick else None], pub)
    comparison.conclude(args, "SlotMIM: ours beside the authors' public code, shared weights and inputs",
                        comparison.upstream(args.public, 'CVMI-Lab/SlotMIM'),
                        cases, rest, DIFFERENCES, versions(torchvision, timm, np), NOT_HELD)


if __name__ == '__main__': main()
