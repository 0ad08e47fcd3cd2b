"""Our MAE beside the authors' public code, on shared weights, inputs and masks.

    git clone https://github.com/facebookresearch/mae PATH
    python -m benchmarks.fidelity.mae --public PATH

Their code is imported from PATH as it is. From outside two things are put back that newer libraries have dropped
(`numpy.float`, the argument `qk_scale` of timm's Block), and the random numbers by which they hide patches are given.
The figures of both go to benchmarks/results/fidelity-mae.json; the exit code is 1 where a held figure differs by more
than 1e-5 (of its largest value, where that is above 1).
"""
import ast
import importlib
import re
import sys
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import numpy
import timm
import torch
from timm.models import vision_transformer
from timm.optim import param_groups_weight_decay

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import compared, figure, gradients, pictures, standard
from benchmarks.provenance import versions
from ssl_workbench import core, learner
from ssl_workbench.classics import mae as ours
from ssl_workbench.world import World

TOTAL, WARM, LR = 8, 2, 1e-3
SETTINGS = dict(small=(dict(size=64, patch=8, dim=96, depth=3, heads=3, decoder_dim=64, decoder_depth=2,
                            decoder_heads=4), 6),
                tiny224=(dict(size=224, patch=16, dim=192, depth=6, heads=3, decoder_dim=128, decoder_depth=2,
                              decoder_heads=4), 3),
                base224=(dict(size=224, patch=16, dim=768, depth=12, heads=12, decoder_dim=512, decoder_depth=8,
                              decoder_heads=16), 2))
NAMES = dict(decoder_embed='decoder.embed', mask_token='decoder.mask_token', decoder_blocks='decoder.blocks',
             decoder_norm='decoder.norm',
             decoder_pred='decoder.pixels')
# theirs: a parameter, ours a buffer; ours: an unused token that is never trained
HIDES = ('decoder_pos_embed', 'encoder.mask_token')


# Their code

def public(path):
    "What is needed of the public code"
    sys.path.insert(0, str(path))
    numpy.float = float
    block = vision_transformer.Block
    with patch.object(vision_transformer, 'Block', lambda *args, qk_scale=None, **rest: block(*args, **rest)):
        models = importlib.import_module('models_mae')
    return SimpleNamespace(models=models, adjust=importlib.import_module('util.lr_sched').adjust_learning_rate,
                           path=path)


def our_name(name):
    "Our name of one of their tensors"
    head, _, rest = name.partition('.')
    return NAMES[head] + '.' * bool(rest) + rest if head in NAMES else 'encoder.net.' + name


def built(pub, c):
    "Their network at our settings"
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    return pub.models.MaskedAutoencoderViT(img_size=c.size, patch_size=c.patch, embed_dim=c.dim, depth=c.depth,
                                           num_heads=c.heads, decoder_embed_dim=c.decoder_dim,
                                           decoder_depth=c.decoder_depth, decoder_num_heads=c.decoder_heads,
                                           norm_layer=norm, norm_pix_loss=c.norm_pixels)


def state_of(model):
    "Their tensors under our names, without the decoder's positions"
    return {our_name(k): v for k, v in model.state_dict().items() if k not in HIDES}


def pair(pub, c, seed, dtype):
    "Both with the same weights, random everywhere"
    torch.manual_seed(seed)
    theirs, mine = (m.to(dtype).train() for m in (built(pub, c), ours.MAE(c)))
    with torch.no_grad():
        for p in theirs.parameters():
            if p.requires_grad: p.add_(.02 * torch.randn_like(p))
    missing = mine.load_state_dict({k: v.clone() for k, v in state_of(theirs).items()}, strict=False)
    if missing.unexpected_keys or missing.missing_keys != ['encoder.mask_token']: raise ValueError(str(missing))
    return theirs, mine


def inputs(c, seed, dtype):
    "Our views of world pictures, and the numbers by which they hide patches"
    given = pictures(c.batch, seed)
    return ours.Views(c)(given)['x'].to(dtype), core.uniform(given['seed'], 'noise', c.cells)


# Comparing

def their_steps(pub, model, c, stream):
    "Their loop over given views and numbers: loss, gradients, prediction, mask"
    args = SimpleNamespace(lr=LR, min_lr=0., warmup_epochs=WARM, epochs=TOTAL)
    optimiser = torch.optim.AdamW(param_groups_weight_decay(model, c.weight_decay), LR, betas=c.betas)
    for i, (x, noise) in enumerate(stream):
        pub.adjust(optimiser, i + 1, args)
        with patch.object(torch, 'rand', lambda *_, noise=noise, **__: noise):
            loss, prediction, mask = model(standard(x[:, 0]), mask_ratio=c.dropped)
        optimiser.zero_grad()
        loss.backward()
        yield loss.item(), gradients(model, our_name), prediction, mask
        optimiser.step()


def our_steps(method, c, stream):
    "The same with our parts"
    optimiser = torch.optim.AdamW(method.param_groups(), LR, betas=c.betas)
    for i, (x, noise) in enumerate(stream):
        for g in optimiser.param_groups: g['lr'] = core.warmup_cosine((i + 1) / TOTAL, LR, 0., WARM / TOTAL)
        keep = noise.argsort(1)[:, :ours.visible_count(c.cells, c.dropped)].sort(1).values
        out = method(dict(x=x, keep=keep[:, None]))
        loss = sum(method.loss(out).values())
        optimiser.zero_grad()
        loss.backward()
        yield loss.item(), gradients(method), out['pixels'], out['mask']
        optimiser.step()


def case(pub, setting, seed, dtype, steps, normed=True, dropped=.75):
    "Some training steps of both from the same weights on the same views"
    sizes, batch = SETTINGS[setting]
    c = ours.Config(**sizes, batch=batch, norm_pixels=normed, dropped=dropped)
    theirs, mine = pair(pub, c, seed, getattr(torch, dtype))
    stream, rows = [inputs(c, 10 * seed + i, getattr(torch, dtype)) for i in range(steps)], {}
    for i, (a, b) in enumerate(zip(their_steps(pub, theirs, c, stream), our_steps(mine, c, stream), strict=True)):
        rows[f'step {i} loss'] = figure(a[0], b[0])
        if i: continue
        rows |= {'step 0 prediction': figure(a[2], b[2]), 'step 0 hidden patches': figure(a[3], b[3])}
        for part in ('encoder', 'decoder'):
            rows[f'step 0 gradients of the {part}'] = compared(*({k: v for k, v in g.items()
                                                                  if k.startswith(part + '.')} for g in (a[1], b[1])))
    if steps > 1:
        rows['weights after'] = compared(state_of(theirs),
                                         {k: v for k, v in mine.state_dict().items() if k not in HIDES})
    return dict(setting=setting, seed=seed, dtype=dtype, normed=normed, dropped=dropped, batch=batch, steps=steps,
                figures=rows)


# Positions, shapes, groups, recipe, schedule

def shapes(pub):
    "The large network of the paper preset: names and shapes, positions, which weights are decayed"
    c = ours.paper
    with torch.device('meta'): mine, theirs = ours.MAE(c), pub.models.mae_vit_large_patch16(norm_pix_loss=True)
    a, b = ({k: tuple(v.shape) for k, v in d.items() if k not in HIDES} for d in (state_of(theirs), mine.state_dict()))
    decayed = lambda groups, model, name: sorted(name(n) for n, p in model.named_parameters() for g in groups
                                                 if g['weight_decay'] and any(p is q for q in g['params']))
    same = (decayed(param_groups_weight_decay(theirs, .05), theirs, our_name)
            == decayed(mine.param_groups(), mine, str))
    small = ours.Config(**SETTINGS['tiny224'][0])
    one, two = built(pub, small), ours.MAE(small)
    return {'paper preset: names and shapes': figure(True, a == b),
            'which weights are decayed': figure(True, same),
            'positions of the encoder': figure(one.pos_embed, two.encoder.net.pos_embed),
            'positions of the decoder': figure(one.decoder_pos_embed, two.decoder.positions)}


def recipe(pub):
    "The numbers of their command and script, and of our paper preset"
    c, page = ours.paper, (pub.path/'PRETRAIN.md').read_text()
    options = r'--(nodes|batch_size|mask_ratio|epochs|warmup_epochs|blr|weight_decay) ([\d.e-]+)'
    numbers = {k: float(v) for k, v in re.findall(options, page.split('```')[1])}
    calls = [n for n in ast.walk(ast.parse((pub.path/'main_pretrain.py').read_text())) if isinstance(n, ast.Call)]
    number = lambda word, key: ast.literal_eval(next(k.value for n in calls if ast.unparse(n.func).endswith(word)
                                                     for k in n.keywords if k.arg == key))
    batch = numbers['batch_size'] * numbers['nodes'] * 8
    theirs = [numbers['mask_ratio'], batch, numbers['warmup_epochs'] / numbers['epochs'], numbers['blr'] * batch / 256,
              numbers['weight_decay'],
              numbers['epochs'] * (1281167 // batch), *number('RandomResizedCrop', 'scale'), *number('AdamW', 'betas')]
    return {'recipe': figure(theirs, [c.dropped, c.batch, c.warmup, c.lr, c.weight_decay, c.steps, *c.scale, *c.betas])}


def schedule(pub, epochs=800, warm=40):
    "Learning rate over a run, once an epoch; ours is one step ahead while it warms up"
    args, opt = SimpleNamespace(lr=LR, min_lr=0., warmup_epochs=warm, epochs=epochs), SimpleNamespace(param_groups=[{}])
    tiny = ours.MAE(ours.Config(dim=16, depth=1, heads=1, decoder_dim=16, decoder_depth=1, decoder_heads=1))
    run = learner.Learner(tiny, None, World(length=1), epochs, LR, 1, warmup=warm / epochs, device='cpu')
    theirs = [pub.adjust(opt, i, args) for i in range(epochs)]
    return {'learning rate after the warm-up': figure(theirs[warm:],
                                                      [run._schedule(i / epochs) for i in range(warm, epochs)])}


# All of it

CASES = [*(dict(setting='small', seed=s, dtype=d, steps=3) for s in (0, 1, 2) for d in ('float64', 'float32')),
         dict(setting='small', seed=3, dtype='float64', steps=3, normed=False),
         dict(setting='small', seed=4, dtype='float64', steps=3, dropped=.5),
         dict(setting='tiny224', seed=0, dtype='float64', steps=1),
         dict(setting='tiny224', seed=1, dtype='float32', steps=1)]
LONG = [dict(setting='base224', seed=0, dtype='float32', steps=1)]
DIFFERENCES = [
    'Learning rate: theirs is 0 at the first step; ours is one step ahead during the warm-up.',
    'Weights after some steps are held in float64 only: Adam turns a gradient that is all rounding (key biases) into a '
    'step of its own size.',
    'First weights: their bias of the patch embedding starts as a convolution of torch does, ours at 0.',
    'Both run timm\'s present Block; theirs was written for timm 0.3.2.']
NOT_HELD = ('float32 weights after',)


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('mae', __doc__, 'models_mae.py', quick='two small cases alone; writes nothing',
                                long='ViT-B with the whole decoder as well')
    pub = public(args.public)
    rules = shapes(pub) | recipe(pub) | schedule(pub)
    cases = comparison.measured(case, CASES[:2] if args.quick else CASES + LONG * args.long, pub)
    comparison.conclude(args, "MAE: ours beside the authors' public code, shared weights, inputs and masks",
                        comparison.upstream(args.public, 'facebookresearch/mae'),
                        cases, rules, DIFFERENCES, versions(timm), NOT_HELD)


if __name__ == '__main__': main()
