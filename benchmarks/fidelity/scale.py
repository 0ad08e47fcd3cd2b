"""Our SCALE beside the authors' public code, on shared weights and inputs.

    git clone https://github.com/Separius/SCALE PATH
    python -m benchmarks.fidelity.scale --public PATH

Their classes cannot be built: `Scale()` reads an attribute before it sets it. So a `Scale` is put together here
without its constructor, from the parts that the constructor names (their heads, their blocks); its forward pass, losses
included, then runs as it is. So do the heads' builder, the split into two sets, the parameter groups, the rate, the
min-max of positions, and k-NN. The figures of both go to benchmarks/results/fidelity-scale.json; the exit code is 1
where a held figure differs by more than 1e-5.
"""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import timm
import torch
import torch.nn as nn
import torch.nn.functional as F

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import compared, figure, gradients
from benchmarks.provenance import versions
from ssl_workbench import core, probes
from ssl_workbench.methods import scale as ours

ORDER = [2, 1, 5, 4, 3, 6, 0]       # their position is flip h0 w0 h1 w1 t0 t1; ours x0 y0 t0 x1 y1 t1 flip
TINY = replace(ours.paper, inputs=48, dim=64, heads=2, hidden=96, target_hidden=80, out_dim=24, views=4, clips=8,
               dropout=0., batch=6)


# ---- their code

def public(path):
    "What is needed of the public code"
    src = path/'src'
    scope = dict(torch=torch, nn=nn, F=F, np=np)
    blocks = comparison.definitions(src/'vision_transformer.py', ('Block', 'Attention', 'Mlp', 'DropPath', 'drop_path'),
                                    **scope)
    found = comparison.definitions(src/'scale.py', ('Scale', 'get_head'), **scope, Block=blocks['Block'])
    train = ('split_in_half', 'get_parameter_groups', 'warm_up_cosine_lr_scheduler')
    schedulers = dict(LambdaLR=torch.optim.lr_scheduler.LambdaLR,
                      CosineAnnealingLR=torch.optim.lr_scheduler.CosineAnnealingLR)
    found |= comparison.definitions(src/'train.py', train, **scope, **schedulers)
    found |= comparison.definitions(src/'eval.py', ('knn_classifier',), **scope)
    text = (path/'SlowFast/slowfast/datasets/dataset.py').read_text()
    start = text.index('def normalize_pos_info')
    body = text[start:text.index('return pos_info', start)] + 'return pos_info\n'
    exec('\n'.join(line.removeprefix('    ') for line in ('    ' + body).splitlines()), scope)
    return SimpleNamespace(**found, Block=blocks['Block'], normalize_pos_info=scope['normalize_pos_info'])


def head(pub, c, inputs, prediction):
    "Their head in our widths: their builder has its widths written into it"
    built = pub.get_head(inputs, c.out_dim, prediction)
    wide = c.hidden if prediction else c.target_hidden
    dims = [inputs, *[wide] * (sum(isinstance(m, nn.Linear) for m in built) - 1), c.out_dim]
    layers = iter(zip(dims, dims[1:]))
    return nn.Sequential(*(nn.Linear(*next(layers), bias=m.bias is not None) if isinstance(m, nn.Linear) else m
                           for m in built))


def put_together(pub, c):
    "A `Scale` without its constructor"
    m = pub.Scale.__new__(pub.Scale)
    nn.Module.__init__(m)
    m.mask_ratio, m.set_temperature, m.dense_temperature = c.masking, c.temperature, c.temperature
    m.set_dim = m.dense_dim = c.out_dim
    m.input_projection = nn.Linear(c.inputs, c.dim)
    m.pos_encoding_mlp = nn.Sequential(nn.Linear(7, 2 * c.dim), nn.ReLU(True), nn.Linear(2 * c.dim, c.dim))
    m.set_cls_token, m.msk_token = (nn.Parameter(torch.zeros(1, 1, c.dim)) for _ in range(2))
    m.transformer = nn.ModuleList(pub.Block(c.dim, num_heads=c.dim // 32, qkv_bias=True, mlp_ratio=c.widen)
                                  for _ in range(c.depth))
    m.norm = nn.LayerNorm(c.dim)
    m.set_head, m.dense_pred_head = head(pub, c, c.dim, True), head(pub, c, c.dim, True)
    m.dense_target_head = head(pub, c, c.inputs, False)
    return m



# ---- ours with the same weights

NAMES = (('input_projection', 'encoder.project'), ('pos_encoding_mlp', 'encoder.position'),
         ('set_cls_token', 'encoder.cls_token'), ('msk_token', 'encoder.mask_token'),
         ('transformer', 'encoder.blocks'), ('norm', 'encoder.norm'), ('set_head', 'set_head'),
         ('dense_pred_head', 'clip_head'), ('dense_target_head', 'target_head'))


def our_name(name): return comparison.rename_prefix(NAMES, name)


def ours_of(name, x):
    "One of their tensors as we have it: columns of positions in our order"
    return x[:, ORDER] if name == 'pos_encoding_mlp.0.weight' else x


def pair(pub, c, seed, dtype):
    "Both, with the same weights, none of them fresh"
    core.seed_everything(seed)
    theirs = put_together(pub, c)
    with torch.no_grad():
        for p in theirs.parameters(): p.add_(.05 * torch.randn_like(p))
    mine = ours.SCALE(c)
    mine.load_state_dict({our_name(n): ours_of(n, p) for n, p in theirs.state_dict().items()})
    return theirs.to(dtype).train(), mine.to(dtype).train()


def inputs(c, seed, dtype):
    "Cached clips as both have them"
    draw = torch.Generator().manual_seed(100 + seed)
    boxes = torch.rand(c.batch, c.clips, 2, 3, generator=draw).sort(2).values.flatten(2)
    features = torch.randn(c.batch, c.clips, c.inputs, generator=draw)
    flip = torch.rand(c.batch, c.clips, generator=draw) < .5
    return dict(features=features.to(dtype), boxes=boxes.to(dtype), flip=flip)


def case(pub, seed, dtype, **changes):
    "Positions, both losses with their gradients, and what is read without masks"
    c, kind = replace(TINY, **changes), getattr(torch, dtype)
    (theirs, mine), data = pair(pub, c, seed, kind), inputs(c, seed, kind)
    position = ours.clip_positions(data['boxes'], data['flip'], 'minmax')
    raw = torch.cat([data['boxes'], data['flip'][..., None].to(kind)], -1)[..., [6, 1, 0, 4, 3, 2, 5]]
    their_position = torch.stack([torch.from_numpy(pub.normalize_pos_info(p.numpy().copy())) for p in raw])
    rows = dict(position=figure(their_position[..., [2, 1, 5, 4, 3, 6, 0]], position))
    torch.manual_seed(seed)
    x, y, _ = pub.split_in_half(data['features'], their_position, c.views)
    state = torch.get_rng_state()
    mask = (torch.rand(2 * c.batch, c.views, dtype=kind) < c.masking).view(c.batch, 2, c.views)
    torch.set_rng_state(state)
    out = theirs(x, y)
    views = dict(x=x, position=y[..., [2, 1, 5, 4, 3, 6, 0]], mask=mask)
    found = mine(views)
    terms = mine.loss(found)
    rows |= {'set loss': figure(out['set_loss'], 2 * terms['set']),
             'mcm loss': figure(out['dense_loss'], 2 * terms['mcm']),
             'set accuracy': figure(out['set_acc'] / 100, both_accuracies(found))}
    ((out['set_loss'] + out['dense_loss']) / 2).backward()
    sum(terms.values()).backward()
    theirs_g = {our_name(n): ours_of(n, g) for n, g in gradients(theirs).items()}
    rows['gradients'] = compared(theirs_g, gradients(mine))
    with torch.no_grad(): plain = theirs.eval()(data['features'], their_position, unsupervised=False)
    cls, clips = mine.eval().encoder(data['features'], position)
    rows |= dict(summary=figure(plain['set_cls'], cls), clips=figure(plain['h'], clips),
                 summary_method=figure(plain['set_cls'], mine.summary(data['features'], data['boxes'], data['flip'])))
    return dict(seed=seed, dtype=dtype) | changes | dict(figures=rows)


def both_accuracies(out):
    "Mean of the two directions"
    from ssl_workbench.losses import retrieval_accuracy
    return (retrieval_accuracy(out['first'], out['second']) + retrieval_accuracy(out['second'], out['first'])) / 2


def rules(pub):
    "Parameter groups, learning rate, k-NN, heads as their builder has them"
    theirs, mine = pair(pub, TINY, 0, torch.float64)
    free, decayed = ({id(p) for p in g['params']} for g in pub.get_parameter_groups(theirs))
    ids = {id(p): our_name(n) for n, p in theirs.named_parameters()}
    own = {id(p): n for n, p in mine.named_parameters()}
    groups = [sorted(own[id(p)] for p in g['params']) for g in mine.param_groups()]
    same = groups == [sorted(ids[i] for i in part) for part in (decayed, free)]
    total, c = 400, ours.paper
    optimiser = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=c.lr)
    schedule, rates = pub.warm_up_cosine_lr_scheduler(optimiser, total, c.warmup * total), []
    for _ in range(total):
        rates.append(optimiser.param_groups[0]['lr'])
        optimiser.step()
        schedule.step()
    draw = torch.Generator().manual_seed(0)
    x, z = (F.normalize(torch.randn(n, 16, generator=draw), dim=1) for n in (200, 100))
    a, b = torch.randint(0, 4, (200,), generator=draw), torch.randint(0, 4, (100,), generator=draw)
    shapes = lambda m: [tuple(p.shape) for p in m.parameters()]
    with torch.device('meta'):
        paper = ours.SCALE(ours.paper)
        heads = [shapes(pub.get_head(768 if target else 256, 128, not target)) for target in (False, True)]
    return {'decayed parameters': figure(True, same), 'learning rate': figure(rates, [
                core.warmup_cosine(i / total, c.lr, 0., c.warmup) for i in range(total)]),
            'k-NN accuracy': figure(pub.knn_classifier(x, a, z, b, 4) / 100, probes.knn(x, a, z, b)),
            'widths of the heads': figure(True, heads == [shapes(paper.clip_head), shapes(paper.target_head)]
                                          and shapes(paper.set_head) == heads[0])}


CASES = [*(dict(seed=s, dtype=d) for s in (0, 1) for d in ('float64', 'float32')),
         dict(seed=2, dtype='float64', batch=16, depth=3), dict(seed=3, dtype='float64', masking=.5),
         dict(seed=4, dtype='float32', inputs=768, dim=256, heads=8, hidden=4096, target_hidden=2048, out_dim=128,
              views=8, clips=16)]
DIFFERENCES = [
    'Their Scale is put together without its constructor, which fails; widths of the heads, written into their '
    'builder, are ours in the small cases and theirs in the last one and under "widths of the heads".',
    'Masks: theirs are drawn from the global generator; ours are set to the same ones here.',
    'Learning rate: theirs is 0 at the first step; our learner is one step ahead while it warms up. Compared is the '
    'schedule itself.',
    'k-NN: they centre each split by its own mean before; compared is the vote on the same features.',
    'Dropout is off in the runs: both draw it from the global generator, in another order.']


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('scale', __doc__, 'src/scale.py', code=('methods/scale', 'losses', 'probes'))
    pub = public(args.public)
    comparison.conclude(args, "SCALE: ours beside the authors' public code, shared weights and inputs",
                        comparison.upstream(args.public, 'Separius/SCALE'), comparison.measured(case, CASES, pub),
                        rules(pub), DIFFERENCES, versions(timm, np), ())


if __name__ == '__main__': main()
