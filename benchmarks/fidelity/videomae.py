"""Our VideoMAE beside the authors' public code, on shared weights, clips and masks.

    git clone https://github.com/MCG-NJU/VideoMAE PATH
    python -m benchmarks.fidelity.videomae --public PATH

Their network and their training loop come from PATH as they are: the loop makes the target, the loss and the step. From
outside are given what newer libraries have dropped, a logger that keeps quiet, and a scaler of gradients that scales
nothing. The figures of both go to benchmarks/results/fidelity-videomae.json; the exit code is 1 where a held figure
differs by more than 1e-5 (of its largest value, where that is above 1).
"""
import contextlib
import importlib
import io
import json
import math
import re
import sys
from functools import partial
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import timm
import torch
from torch import nn

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import compared, figure, pictures, standard
from benchmarks.provenance import versions
from ssl_workbench import core
from ssl_workbench.classics import videomae as ours

LR = 1e-3
SETTINGS = dict(small=(dict(size=64, patch=16, dim=48, depth=2, heads=3, decoder_dim=32, decoder_depth=2,
                            decoder_heads=2), 4),
                medium=(dict(size=96, patch=16, dim=96, depth=4, heads=4, decoder_dim=48, decoder_depth=3,
                             decoder_heads=3), 2),
                base224=(dict(size=224, patch=16, dim=768, depth=12, heads=12, decoder_dim=384, decoder_depth=4,
                              decoder_heads=6), 1))
PREFIXES = (('encoder.patch_embed.proj.', 'encoder.embedding.'), ('encoder.blocks.', 'encoder.layers.'),
            ('encoder.norm.', 'encoder.norm.'), ('encoder_to_decoder.', 'decoder.embed.'), ('mask_token',
            'decoder.mask_token'), ('decoder.head.', 'decoder.pixels.'), ('decoder.', 'decoder.'))


# Their code

class Quiet:
    "In place of their logger"
    def __init__(self, *_, **__): self.meters = {}
    def log_every(self, rows, *_): return iter(rows)
    def __getattr__(self, _): return lambda *_, **__: None


def public(path):
    "What is needed of the public code"
    sys.path.insert(0, str(path))
    registry, layers = ModuleType('timm.models.registry'), ModuleType('timm.models.layers')
    registry.register_model = lambda f: f
    vars(layers).update({n: getattr(timm.layers, n) for n in ('drop_path', 'to_2tuple', 'trunc_normal_')})
    utils = ModuleType('utils')
    utils.MetricLogger = utils.SmoothedValue = Quiet
    sys.modules |= {'timm.models.registry': registry, 'timm.models.layers': layers, 'utils': utils}
    engine = importlib.import_module('engine_for_pretraining')
    scope = dict(np=np, math=math, json=json)
    return SimpleNamespace(nets=importlib.import_module('modeling_pretrain'), engine=engine, path=path,
                           tube=importlib.import_module('masking_generator').TubeMaskingGenerator,
                           tune=importlib.import_module('modeling_finetune').VisionTransformer,
                           cosine=comparison.definitions(path/'utils.py', ['cosine_scheduler'], **scope)[
                               'cosine_scheduler'],
                           groups=comparison.definitions(path/'optim_factory.py', ['get_parameter_groups'], **scope)[
                               'get_parameter_groups'])


def built(pub, c):
    "Their network at our settings; it is made for 16 frames"
    return pub.nets.PretrainVisionTransformer(
        img_size=c.size, patch_size=c.patch, encoder_embed_dim=c.dim, encoder_depth=c.depth, encoder_num_heads=c.heads,
        decoder_num_classes=3 * c.tubelet * c.patch**2, decoder_embed_dim=c.decoder_dim, decoder_depth=c.decoder_depth,
        decoder_num_heads=c.decoder_heads, mlp_ratio=4, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6),
        tubelet_size=c.tubelet)


def colours_first(rows):
    "Their pixels of a tubelet, (…, u·P²·3) along the first axis, with a colour after the other as ours"
    return rows.reshape(-1, 3, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def renamed(tensors):
    "Their tensors by name as ours: the patch embedding is a matrix, q and v biases one row with zeros for k"
    out = {}
    for name, value in tensors.items():
        mine = comparison.rename_prefix(PREFIXES, name)
        if name.startswith('encoder.patch_embed.proj.weight'): value = value.flatten(1)
        if name.startswith('decoder.head.'): value = colours_first(value)
        if name.endswith('v_bias'): continue
        if name.endswith('q_bias'):
            v = tensors[name.replace('q_bias', 'v_bias')]
            mine, value = mine.replace('q_bias', 'qkv.bias'), torch.cat([value, torch.zeros_like(v), v])
        out[mine] = value
    return out


def keyless(tensors):
    "Ours with the biases of keys at 0: they change nothing, and theirs has none"
    def cleared(x):
        x = x.clone()
        x[len(x) // 3:2 * len(x) // 3] = 0
        return x
    return {n: cleared(x) if n.endswith('qkv.bias') else x for n, x in tensors.items() if n != 'encoder.mask_token'}


def pair(pub, c, seed, dtype):
    "Both with the same weights, random everywhere"
    torch.manual_seed(seed)
    theirs, mine = (m.to(dtype).train() for m in (built(pub, c), ours.VideoMAE(c)))
    with torch.no_grad():
        for p in theirs.parameters(): p.add_(.02 * torch.randn_like(p))
    missing = mine.load_state_dict({k: v.clone() for k, v in renamed(theirs.state_dict()).items()}, strict=False)
    if missing.unexpected_keys or missing.missing_keys != ['encoder.mask_token']: raise ValueError(str(missing))
    return theirs, mine


def inputs(pub, c, seed, dtype):
    "Our views of world clips, masked by their generator: (views, their clips, their mask)"
    x = ours.Views(c)(pictures(c.batch, seed, side=c.size, kind='motion', frames=c.frames))['x'].to(dtype)
    np.random.seed(seed)
    maker = pub.tube(c.grid, c.dropped)
    mask = torch.stack([torch.from_numpy(maker()).bool() for _ in range(c.batch)])
    places = lambda m: m.nonzero()[:, 1].view(c.batch, 1, -1)
    return dict(x=x, keep=places(~mask), gone=places(mask)), standard(x[:, 0]).transpose(1, 2), mask


# Comparing

def their_step(pub, model, optimiser, c, videos, mask):
    "One pass of their loop: the loss, the gradients"
    found = {}
    def scaler(loss, optimizer, **_):
        loss.backward()
        found.update(loss=loss.item(), grads={n: p.grad.clone() for n, p in model.named_parameters()})
        optimizer.step()
    scaler.state_dict = lambda: dict(scale=1.)
    whole = contextlib.nullcontext
    with patch.object(torch.cuda, 'synchronize', lambda: None), patch.object(torch.cuda.amp, 'autocast', whole), \
            contextlib.redirect_stdout(io.StringIO()):
        pub.engine.train_one_epoch(model, [(videos, mask)], optimiser, torch.device('cpu'), 0, scaler,
                                   patch_size=c.patch, normlize_target=c.norm_pixels, start_steps=0,
                                   lr_schedule_values=[LR])
    return found['loss'], renamed(found['grads'])


def our_step(method, optimiser, views):
    "The same with our parts"
    out = method(views)
    loss = sum(method.loss(out).values())
    optimiser.zero_grad()
    loss.backward()
    grads = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    optimiser.step()
    return loss.item(), keyless(grads), out


def case(pub, setting, seed, dtype, steps, normed=True, dropped=.9):
    "Some training steps of both from the same weights on the same clips"
    sizes, batch = SETTINGS[setting]
    c = ours.Config(**sizes, frames=16, positions='flat', batch=batch, norm_pixels=normed, dropped=dropped)
    theirs, mine = pair(pub, c, seed, getattr(torch, dtype))
    rows, quiet = {}, contextlib.redirect_stdout(io.StringIO())
    with quiet: groups = pub.groups(theirs, c.weight_decay, theirs.no_weight_decay(), None, None)
    optimisers = [torch.optim.AdamW(groups, LR, betas=c.betas), torch.optim.AdamW(mine.param_groups(), LR,
                                                                                  betas=c.betas)]
    for i in range(steps):
        views, videos, mask = inputs(pub, c, 10 * seed + i, getattr(torch, dtype))
        if not i: prediction = colours_first(theirs(videos, mask).movedim(-1, 0)).movedim(0, -1)
        a = their_step(pub, theirs, optimisers[0], c, videos, mask)
        b = our_step(mine, optimisers[1], views)
        rows[f'step {i} loss'] = figure(a[0], b[0])
        if i: continue
        rows['step 0 prediction'] = figure(prediction, b[2]['pixels'])
        for part in ('encoder', 'decoder'):
            rows[f'step 0 gradients of the {part}'] = compared(*({k: v for k, v in g.items()
                                                                  if k.startswith(part + '.')} for g in (a[1], b[1])))
    if steps > 1: rows['weights after'] = compared(renamed(theirs.state_dict()), keyless(mine.state_dict()))
    return dict(setting=setting, seed=seed, dtype=dtype, normed=normed, dropped=dropped, batch=batch, steps=steps,
                figures=rows)


# Masks, positions, pooling, shapes, groups, recipe, schedule

def masks(pub):
    "How many tubelets they mask, and in how many columns, over grids and ratios"
    sizes = [((8, 14, 14), .9), ((8, 14, 14), .75), ((4, 8, 8), .9), ((4, 6, 6), .85), ((8, 10, 10), .95)]
    theirs, mine = [], []
    for grid, ratio in sizes:
        mask = pub.tube(grid, ratio)().reshape(grid[0], -1)
        masked, places = ours.masked_places(grid, ratio)
        keep, gone = ours.keep_tubelets(torch.arange(3), 'keep', grid, masked / places, 'tube')
        theirs += [int(mask.sum()), int(mask.all(0).sum())]
        mine += [gone.shape[1], len((gone[0] % places).unique())]
    return {'masked tubelets and tubes': figure(theirs, mine)}


def shapes(pub):
    "The base network of the paper preset: names and shapes, which weights are decayed; positions; fine-tuned pooling"
    c = ours.paper
    mine, theirs = ours.VideoMAE(c), pub.nets.pretrain_videomae_base_patch16_224(decoder_depth=4)
    a, b = ({k: tuple(v.shape) for k, v in d.items()} for d in (renamed(theirs.state_dict()),
                                                                 keyless(mine.state_dict())))
    decayed = lambda groups, model: {n for n, p in model.named_parameters() for g in groups
                                     if g['weight_decay'] and any(p is q for q in g['params'])}
    with contextlib.redirect_stdout(io.StringIO()):
        groups = pub.groups(theirs, .05, theirs.no_weight_decay(), None, None)
    named = {comparison.rename_prefix(PREFIXES, n) for n in decayed(groups, theirs)}
    return {'paper preset: names and shapes': figure(True, a == b),
            'which weights are decayed': figure(True, named == decayed(mine.param_groups(), mine)),
            'positions of the encoder': figure(theirs.encoder.pos_embed, ours.position_table(c, c.grid, c.dim)),
            'positions of the decoder': figure(theirs.pos_embed, ours.position_table(c, c.grid, c.decoder_dim)),
            'fine-tuned network: pooled features': fine_tuned(pub)}


def fine_tuned(pub):
    "Features of their network for fine-tuning (mean, then norm), and ours so read"
    c = ours.Config(**SETTINGS['small'][0], frames=16, positions='flat')
    torch.manual_seed(0)
    theirs = pub.tune(img_size=c.size, patch_size=16, num_classes=3, embed_dim=c.dim, depth=c.depth, num_heads=c.heads,
                      qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)).double().eval()
    with torch.no_grad():
        for p in theirs.parameters(): p.add_(.02 * torch.randn_like(p))
    mine = ours.VideoMAE(c).double().eval()
    body = {'encoder.' + n.replace('fc_norm', 'norm'): v for n, v in theirs.state_dict().items() if 'head' not in n}
    mine.load_state_dict(renamed(body), strict=False)
    x = torch.rand(2, 16, 3, c.size, c.size, dtype=torch.float64)
    with torch.no_grad():
        return figure(theirs.forward_features(standard(x).transpose(1, 2)), mine.features(x, 'fine-tuned')['pooled'])


def recipe(pub):
    "The numbers of their Kinetics script, and of our paper preset"
    c, folder = ours.paper, 'scripts/kinetics/videomae_vit_base_patch16_224_tubemasking_ratio_0.9_epoch_800'
    options = r'--(mask_ratio|decoder_depth|num_frames|sampling_rate|warmup_epochs|opt_betas) ([\d. ]+)'
    text = (pub.path/folder/'pretrain.sh').read_text()
    found = {k: [float(x) for x in v.split()] for k, v in re.findall(options, text)}
    theirs = [*found['mask_ratio'], *found['decoder_depth'], *found['num_frames'], *found['sampling_rate'],
              found['warmup_epochs'][0] / 800, *found['opt_betas']]
    rate = [float(re.search(rf"'--{name}'[^)]*default=([\d.e-]+)", (pub.path/'run_mae_pretraining.py').read_text())[1])
            for name in ('lr', 'min_lr', 'weight_decay')]
    mine = [c.dropped, c.decoder_depth, c.frames, c.stride, c.warmup, *c.betas]
    return {'recipe': figure(theirs + rate, [*mine, c.lr * 256 / c.batch, c.lr_end * 256 / c.batch, c.weight_decay])}


def schedule(pub, epochs=800, warm=40):
    "Learning rate over a run after the warm-up, once an epoch"
    with contextlib.redirect_stdout(io.StringIO()): theirs = pub.cosine(LR, LR / 15, epochs, 1, warm, 1e-6)
    mine = [core.warmup_cosine(i / epochs, LR, LR / 15, warm / epochs) for i in range(warm, epochs)]
    return {'learning rate after the warm-up': figure(theirs[warm:], mine)}


# All of it

CASES = [*(dict(setting='small', seed=s, dtype=d, steps=3) for s in (0, 1) for d in ('float64', 'float32')),
         dict(setting='small', seed=2, dtype='float64', steps=3, normed=False),
         dict(setting='small', seed=3, dtype='float64', steps=3, dropped=.5),
         dict(setting='medium', seed=0, dtype='float64', steps=1),
         dict(setting='medium', seed=1, dtype='float32', steps=1)]
LONG = [dict(setting='base224', seed=0, dtype='float32', steps=1)]
DIFFERENCES = [
    'Batch: their script has 64 GPUs of 32 clips, 2048; the paper preset the 1024 of the paper; the rate is scaled.',
    'Steps: theirs are 801 epochs, the last of which is not scheduled; the preset has the 800 of the paper.',
    'Flip: the paper mirrors half of the clips on Kinetics, the script none; the preset does.',
    'Crops: theirs are squares and near-squares at thirteen fixed places of four sizes; ours are drawn anywhere.',
    'Learning rate: theirs begins at 1e-6; ours one step above 0.',
    'First weights: their patch embedding and the linear layer to the decoder start as torch does, ours by Xavier.',
    'Keys have no bias in their attention; ours have one, which changes nothing.',
    'Weights after some steps are held in float64 only: Adam turns a gradient that is all rounding into a step of its '
    'own size.']
NOT_HELD = ('float32 weights after',)


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('videomae', __doc__, 'modeling_pretrain.py',
                                code=('classics.videomae', 'video_nets', 'clip_views'),
                                quick='two small cases alone; writes nothing', long='ViT-B as well')
    pub = public(args.public)
    rules = masks(pub) | shapes(pub) | recipe(pub) | schedule(pub)
    cases = comparison.measured(case, CASES[:2] if args.quick else CASES + LONG * args.long, pub)
    comparison.conclude(args, "VideoMAE: ours beside the authors' public code, shared weights, clips and masks",
                        comparison.upstream(args.public, 'MCG-NJU/VideoMAE'), cases, rules, DIFFERENCES, versions(timm),
                        NOT_HELD)


if __name__ == '__main__': main()
