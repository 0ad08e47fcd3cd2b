"""Our PooDLe beside the authors' public code, on shared weights and inputs.

    git clone https://github.com/agentic-learning-ai-lab/poodle PATH
    git -C PATH checkout 7518934e1a7824c70acf4088f2f19f89c14acb1b
    python -m benchmarks.fidelity.poodle --public PATH

(The branch `html` holds the project's page only.)
Their class runs as it is, its forward pass too. Stand-ins: the flow network gives the world's exact flow, kornia is not
needed (their affine is off), and both sides have our ResNet-50 as encoder. The figures of both go to
benchmarks/results/fidelity-poodle.json; the exit code is 1 where a held figure differs by more than 1e-5.
"""
import importlib
import sys
import tempfile
import types
from dataclasses import replace

import timm
import torch
import torch.nn as nn
import torch.nn.functional as F

from benchmarks.fidelity import comparison
from benchmarks.provenance import versions
from ssl_workbench import core, world
from ssl_workbench.geometry import in_frame, visible
from ssl_workbench.heads import ema_update
from ssl_workbench.methods import poodle as ours

COMMIT = '7518934e1a7824c70acf4088f2f19f89c14acb1b'
SETTINGS = replace(ours.paper, size=64, hidden=96, out_dim=32, decoder='none', subcrops=4, sub_size=8,
                   affine_scale=(1., 1.), degrees=0.)
CASES = [dict(seed=s, dtype=d) for s in (0, 1) for d in ('float64', 'float32')]
NOT_HELD = ('float32 pooled loss', 'float32 gradient*')
DIFFERENCES = [
    'Warping: their grid divides by W-1 and samples with align_corners=False, so it reads at x·W/(W-1) - 1/2. Ours is '
    'given a flow that leads to the same places; valid pixels are judged by the true flow on both sides.',
    'Order: they warp first and undo the affine afterwards; here there is no affine.',
    'Decoder: they upsample after each bottleneck, the paper before it. Their blocks and laterals are run in the '
    'paper\'s order.',
    'Pooled projection: they project the mean, the paper takes the mean of projections; subcrops of 8 pixels leave one '
    'place, where both are the same.',
    'Denominators: theirs is each frame\'s count of valid pixels, ours that of each way over the batch; one pair a '
    'batch makes them the same.',
    'Subcrops are theirs, captured: two directions draw their own, ours serve both.',
    'Pooled loss and gradients are held in float64 only: batch norm over eight rows, in fifty layers, leaves few '
    'digits of float32.']


# Their code

class Stand(nn.Module):
    "Our encoder with the names that their class uses"
    def __init__(self, encoder): super().__init__(); self.encoder = encoder
    def forward_feature_pyramid(self, x, stages): maps = self.encoder(x); return [maps[s] for s in stages]
    def forward_features(self, x, pool): return self.encoder(x)[-1].mean((2, 3), keepdim=True)


class Known(nn.Module):
    "A flow network that knows the flow"
    flow = None
    def forward(self, a, b, iters, test_mode): return None, Known.flow


def before_cuda(path):
    "Their resampler up to the line that traces it on a GPU"
    module = types.ModuleType('src.utils.uflow_resampler')
    exec(path.read_text().split('resample_with_unstacked_warp = torch.jit.trace')[0], module.__dict__)
    return module


def public(path):
    "Their module, with stand-ins for what is not compared"
    sys.path.insert(0, str(path))
    made = lambda **names: types.SimpleNamespace(**names)
    def encoder(stride):
        config = replace(SETTINGS, decoder='none' if stride == 8 else 'full')
        return lambda pretrained: Stand(ours.build_encoder(config))
    sys.modules |= {'kornia': made(augmentation=None), 'kornia.augmentation': made(),
                    'src.models.raft.raft': made(RAFT=Known), 'src.models.registry': made(register_model=lambda f: f),
                    'src.models.backbone.resnet': made(resnet50=encoder(32), resnet50_stride8=encoder(8))}
    for package in ('src', 'src.models', 'src.utils'):
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(path/package.replace('.', '/'))]
    sys.modules['src.utils.uflow_resampler'] = before_cuda(path/'src/utils/uflow_resampler.py')
    return importlib.import_module('src.models.poodle')


def theirs(pub, seed, dtype, **options):
    "Their class with random weights, its teacher another network"
    torch.manual_seed(seed)
    with tempfile.NamedTemporaryFile(suffix='.pt') as empty:
        torch.save({}, empty.name)
        net = pub.Poodle(options.pop('backbone', 'resnet50-stride8'), empty.name, mlp_hidden_dim=SETTINGS.hidden,
                         proj_dim=SETTINGS.out_dim,
                         alpha1=.1, alpha2=.5, subcrop_num_pair=SETTINGS.subcrops, subcrop_size=[SETTINGS.sub_size] * 2,
                         subcrop_jitter=.1, **options)
    with torch.no_grad():
        for module in net.teacher_modules:
            for p in module.parameters(): p.add_(.02 * torch.randn_like(p))
        # ours has none there: batch norm takes it away
        for head in (net.dense_projector, net.dense_predictor, net.teacher_dense_projector): head[0].bias.zero_()
    return net.to(getattr(torch, dtype)).train()


def shared(net):
    "Our class with their weights"
    method = ours.PooDLe(SETTINGS).to(next(net.parameters()).dtype).train()
    flat = lambda state: {k: v.flatten(1) if v.dim() == 4 else v for k, v in state.items()}
    no_bias = lambda state: {k: v for k, v in state.items() if k != '0.bias'}
    for branch, prefix in ((method.student, ''), (method.teacher, 'teacher_')):
        of = lambda name, prefix=prefix: getattr(net, prefix + name)
        branch.encoder.load_state_dict(of('backbone').encoder.state_dict())
        branch.dense_projector.load_state_dict(no_bias(of('dense_projector').state_dict()))
        branch.pooled_projector.load_state_dict(flat(of('pooled_projector').state_dict()))
    method.dense_predictor.load_state_dict(no_bias(net.dense_predictor.state_dict()))
    method.pooled_predictor.load_state_dict(flat(net.pooled_predictor.state_dict()))
    return method


# The comparison

def figure(a, b):
    "Both values, or the largest difference of two tensors"
    a, b = (torch.as_tensor(x).double() for x in (a, b))
    entry = dict(max_difference=(a - b).abs().max().item(), largest=b.abs().max().item())
    return entry | (dict(ours=a.item(), theirs=b.item()) if a.numel() == 1 else {})


def shifted(flow):
    "The flow that makes our warp read where theirs reads"
    h, w = flow.shape[-2:]
    ys, xs = (torch.arange(n, dtype=flow.dtype) for n in (h, w))
    x, y = xs + flow[:, :, 0], ys[:, None] + flow[:, :, 1]
    return torch.stack([x * w / (w - 1) - .5 - xs, y * h / (h - 1) - .5 - ys[:, None]], 2)


def ran(pub, net, x, flow, momentum):
    "Their forward pass: losses, valid part, and the subcrops it cut (teacher's, student's)"
    kept, cut = [], pub.resize_crop_to_bounding_boxes
    pub.resize_crop_to_bounding_boxes = lambda *a, **k: kept.append(cut(*a, **k)) or kept[-1]
    Known.flow = flow[0]
    try: losses, metrics = net(x[:, 0], x[:, 1], x[:, 0], x[:, 1], momentum)
    finally: pub.resize_crop_to_bounding_boxes = cut
    return losses, metrics['mask'], kept


def case(pub, seed, dtype):
    "One pair: teacher after its step, losses, valid part, gradients"
    net = theirs(pub, seed, dtype, decoder_dims=[])
    method, kind = shared(net), getattr(torch, dtype)
    made = world.batch([seed], kind='drive', level=2, size=(64, 64), frames=2)
    x, flow = made['frames'].to(kind) / 255, torch.stack([made['flow'][:, 0], made['flow_back'][:, 0]], 1).to(kind)
    losses, part, (subs_teacher, subs_student) = ran(pub, net, x, flow, .99)
    sum(losses.values()).backward()
    ema_update(method.teacher, method.student, .99)
    valid = torch.stack([in_frame(flow[:, v]) & visible(flow[:, v], flow[:, 1 - v], .1, .5) for v in (0, 1)], 1)
    affine = torch.eye(2, 3, dtype=kind).expand(1, 2, 2, 3)
    target = method.teacher.pool(subs_teacher.flatten(0, 1))[1]
    prediction = method.pooled_predictor(method.student.pool(subs_student.flatten(0, 1))[1])
    pooled = ours.pooled_loss(prediction.view(1, 2, -1, SETTINGS.out_dim),
                              target.view(1, 2, -1, SETTINGS.out_dim).flip(1).detach())
    out = method._dense(dict(x=x, flow=shifted(flow), valid=valid, affine=affine))
    dense = ours.dense_loss(out['prediction'], out['target'], affine, shifted(flow), valid)
    (dense + pooled).backward()
    teachers = [('encoder', net.teacher_backbone.encoder, method.teacher.encoder),
                ('pooled projector', net.teacher_pooled_projector, method.teacher.pooled_projector)]
    figures = {f'teacher after its step, {n}': figure(torch.cat([p.flatten() for p in b.parameters()]),
                                                      torch.cat([p.flatten() for p in a.parameters()]))
               for n, a, b in teachers}
    figures |= {'dense loss': figure(dense.detach(), losses['dense'].detach()),
                'pooled loss': figure(pooled.detach(), losses['pooled'].detach()),
                'valid part': figure(valid.to(kind).mean(), part)}
    grads = [('dense predictor', net.dense_predictor[3].weight, method.dense_predictor[-1].weight),
             ('pooled predictor', net.pooled_predictor[3].weight, method.pooled_predictor[-1].weight),
             ('first convolution', net.backbone.encoder.net.conv1.weight, method.student.encoder.net.conv1.weight)]
    return dict(seed=seed, dtype=dtype,
                figures=figures | {f'gradient, {n}': figure(b.grad.flatten(), a.grad.flatten()) for n, a, b in grads})


def decoder(pub):
    "Their blocks and laterals in the paper's order beside our decoder"
    net = theirs(pub, 0, 'float64', backbone='resnet50', decoder_hidden_dim_factor=.5)
    mine = ours.SpatialDecoder((256, 512, 1024, 2048)).double()
    mine.blocks.load_state_dict(net.decoder_blocks.state_dict())
    mine.laterals.load_state_dict(net.decoder_laterals.state_dict())
    maps = [torch.randn(2, d, n, n, dtype=torch.float64) for d, n in ((256, 16), (512, 8), (1024, 4), (2048, 2))]
    z = maps[-1]
    for block, lateral, other in zip(net.decoder_blocks, net.decoder_laterals, maps[-2::-1]):
        z = block(F.interpolate(z, scale_factor=2, mode='bilinear', align_corners=False)) + lateral(other)
    return {'decoder, the paper\'s order': figure(mine(maps).detach(), z.detach())}


# All of it

def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('poodle', __doc__, 'src/models/poodle.py',
                                code=('methods/poodle', 'classics/flowe', 'losses', 'nets', 'heads', 'geometry'))
    core.seed_everything(0)
    pub = public(args.public)
    rules, cases = decoder(pub), comparison.measured(case, CASES, pub)
    source = comparison.upstream(args.public, 'agentic-learning-ai-lab/poodle')
    comparison.conclude(args, "PooDLe: ours beside the authors' public code, shared weights and inputs",
                        source | dict(commit=source['commit'] or COMMIT),
                        cases, rules, DIFFERENCES, versions(timm), NOT_HELD)


if __name__ == '__main__': main()
