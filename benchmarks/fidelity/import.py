"""Checkpoints that the authors' public code saves, imported by ours: features, scores, slots and predictions agree.

    git clone https://github.com/facebookresearch/dino PUBLIC/dino    # and mae, moco-v3, dinov2, dinov3, vicreg
    git clone https://github.com/bytedance/ibot PUBLIC/ibot
    git clone https://github.com/CVMI-Lab/SlotMIM PUBLIC/SlotMIM
    git clone https://github.com/MCG-NJU/VideoMAE PUBLIC/VideoMAE
    git clone https://github.com/mlfoundations/open_clip PUBLIC/open_clip
    git clone https://github.com/google-research/scenic PUBLIC/scenic
    git clone https://github.com/Separius/DILEMMA PUBLIC/DILEMMA
    git clone https://github.com/yaox12/BYOL-PyTorch PUBLIC/byol
    git clone https://github.com/agentic-learning-ai-lab/poodle PUBLIC/poodle   # and: git checkout 7518934
    git clone https://github.com/facebookresearch/jepa PUBLIC/jepa
    git clone https://github.com/Araachie/river PUBLIC/river
    python -m venv JAX && JAX/bin/pip install jax flax optax               # for LOCA
    SSL_JAX=JAX/bin/python python -m benchmarks.fidelity.import --public PUBLIC [--only mae | --add vjepa river]

Each network is built by its authors' code at a small size with random weights, and saved as their training script saves
it. `catalog.load` reads the file. The figures of both go to benchmarks/results/fidelity-import.json; the exit code is 1
where a figure differs by more than 1e-5. Each format runs in a process of its own: their modules share names. Each case
keeps the commit at which it was measured.
"""
import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import timm
import torch
import torch.nn as nn
import torchvision
from timm.models import vision_transformer

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import figure, standard
from benchmarks.provenance import versions
from ssl_workbench import catalog, world
from ssl_workbench.world.captions import STYLES, write_caption

SIDE, PATCH, DIM, DEPTH, HEADS = 64, 16, 128, 2, 2               # 64 channels a head, as published
SIZES = dict(img_size=SIDE, patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=4,
             norm_layer=partial(nn.LayerNorm, eps=1e-6))
JAX = os.environ.get('SSL_JAX', sys.executable)                  # a Python with jax, flax and optax, for LOCA
ARGUMENTS = argparse.Namespace(arch='vit', lr=1e-3, output_dir='.')          # beside the weights, as scripts save them


def shaken(module):
    "Random weights in all that is trained, also where the first value is 0; lengths of a weight-normed layer stay 1"
    with torch.no_grad():
        for n, p in module.named_parameters():
            if p.requires_grad and not n.endswith('weight_g'): p.add_(.05 * torch.randn_like(p))
    return module.eval()


def sees(net, images):
    "Class and patch tokens of our encoder, stacked as theirs: (B,1+N,D)"
    tokens, cls = net(images)
    return torch.cat([cls[:, None], tokens], 1)


def wrapped(state): return {f'module.{k}': v for k, v in state.items()}


# ---- self-distillation: a backbone and a head, twice

def branches(path, file, build):
    "Student, teacher and their checkpoint; build: → network"
    student, teacher = (shaken(build()) for _ in range(2))
    return student, teacher, dict(student=wrapped(student.state_dict()), teacher=teacher.state_dict(), epoch=3,
                                  args=ARGUMENTS)


def dino(path, file, images):
    nets, tools = importlib.import_module('vision_transformer'), importlib.import_module('utils')
    build = lambda: tools.MultiCropWrapper(nets.VisionTransformer(**SIZES | dict(img_size=[SIDE]), qkv_bias=True),
                                           nets.DINOHead(DIM, 40, hidden_dim=48, bottleneck_dim=24))
    student, teacher, saved = branches(path, file, build)
    centre = torch.randn(1, 40)
    torch.save(saved | dict(dino_loss=dict(center=centre)), file)
    mine, x = catalog.load(file), standard(images)
    _, cls, scores = mine.teacher(images)
    torch.save(teacher.backbone.state_dict(), alone := file.with_name('backbone.pth'))
    return dict(cls=figure(teacher.backbone(x), cls), scores=figure(teacher(x), scores),
                student_scores=figure(student(x), mine.student(images)[2]), centre=figure(centre, mine.centre),
                attention=figure(teacher.backbone.get_last_selfattention(x)[:, :, 0, 1:],
                                 unnormed(mine.teacher.encoder, images)),
                backbone_alone=figure(teacher.backbone(x), catalog.load(alone).features(images)['pooled']))


def unnormed(encoder, images):
    "The class token's attention over the patches, before it is made to sum to 1 without the class token"
    from ssl_workbench.nets import attention_matrix
    x = encoder.embed(images)
    for block in encoder.net.blocks[:-1]: x = block(x)
    return attention_matrix(encoder.net.blocks[-1], x)[:, :, 0, 1:]


def ibot(path, file, images):
    nets, head, tools = (importlib.import_module(m) for m in ('models.vision_transformer', 'models.head', 'utils'))
    found = {}
    for shared in (True, False):
        build = lambda shared=shared: tools.MultiCropWrapper(
            nets.VisionTransformer(**SIZES | dict(img_size=[SIDE]), qkv_bias=True, return_all_tokens=True,
                                   masked_im_modeling=True),
            head.iBOTHead(DIM, 40, patch_out_dim=40, hidden_dim=48, bottleneck_dim=24, shared_head=shared))
        student, teacher, saved = branches(path, file, build)
        teacher.backbone.masked_im_modeling = False
        centre = torch.randn(1, 1, 40)
        torch.save(saved | dict(ibot_loss=dict(center=torch.randn(1, 40), center2=centre)), file)
        mine, x = catalog.load(file), standard(images)
        tokens, cls, scores = mine.teacher(images)
        their_cls, their_patches = teacher(x)
        mask = torch.rand(len(images), (SIDE // PATCH)**2) < .4
        theirs = student.backbone(x, mask=mask.unflatten(1, (SIDE // PATCH,) * 2))
        name = 'shared head' if shared else 'two last layers'
        found |= {f'{name}: tokens': figure(teacher.backbone(x), torch.cat([cls[:, None], tokens], 1)),
                  f'{name}: scores': figure(their_cls, scores),
                  f'{name}: patch scores': figure(their_patches, mine.teacher.patch_scores(tokens)),
                  f'{name}: masked tokens': figure(theirs[:, 1:], mine.student(images, mask=mask)[0]),
                  f'{name}: patch centre': figure(centre, mine.patch_centre)}
    return found


# ---- reconstruction

def mae(path, file, images):
    np.float = float
    block = vision_transformer.Block
    with patch.object(vision_transformer, 'Block', lambda *args, qk_scale=None, **rest: block(*args, **rest)):
        models = importlib.import_module('models_mae')
    theirs = shaken(models.MaskedAutoencoderViT(decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=2,
                                                norm_pix_loss=True, **SIZES))
    torch.save(dict(model=theirs.state_dict(), epoch=3, args=ARGUMENTS), file)
    mine, x = catalog.load(file), standard(images)
    torch.manual_seed(0)
    latent, mask, restore = theirs.forward_encoder(x, .5)
    keep = restore.argsort(1)[:, :int((mask[0] == 0).sum())]
    tokens, cls = mine.encoder(images, keep=keep)
    body = {k: v for k, v in theirs.state_dict().items() if not k.startswith(('decoder', 'mask_token'))}
    torch.save(dict(model=body), alone := file.with_name('encoder.pth'))
    whole = theirs.forward_encoder(x, 0.)                        # in an order of its own
    order = whole[2]
    patches = whole[0][:, 1:].gather(1, order[..., None].expand(-1, -1, DIM))
    encoder, _ = catalog.import_checkpoint(alone, 'mae')
    return dict(tokens=figure(latent, torch.cat([cls[:, None], tokens], 1)),
                prediction=figure(theirs.forward_decoder(latent, restore),
                                  mine.decoder(tokens, cls, keep, mine.encoder.grid(images))),
                encoder_alone=figure(patches, encoder.features(images)['tokens']))


def loca(path, file, images):
    file = file.with_name('checkpoint_799')                        # as Flax names them
    settings = dict(size=SIDE, patch=PATCH, dim=DIM, depth=DEPTH, heads=4, hidden=48, out_dim=24, prototypes=16)
    given, out = (file.with_name(f'{k}.npz') for k in ('given', 'found'))
    np.savez(given, reference=standard(images).movedim(1, -1).numpy(),
             **{f'setting/{k}': np.asarray(v) for k, v in settings.items()})
    subprocess.run([JAX, Path(__file__).with_name('loca_checkpoint.py'), path, given, file, out], check=True)
    found = {k: torch.from_numpy(v) for k, v in np.load(out).items() if v.dtype == np.float32}
    mine = catalog.load(file)
    teacher, student = (b.tokens(images) for b in (mine.teacher, mine.student))
    rows = lambda branch, tokens: branch.scores(tokens).flatten(0, 1)
    return dict(tokens=figure(found['tokens'], teacher),
                scores=figure(found['teacher_scores'], rows(mine.teacher, teacher)),
                student_scores=figure(found['student_scores'], rows(mine.student, student)),
                position=figure(found['position'], mine.student.locator(student, teacher[:, :5])))


def videomae(path, file, images):
    registry, layers, utils = (ModuleType(n) for n in ('timm.models.registry', 'timm.models.layers', 'utils'))
    registry.register_model = lambda f: f
    vars(layers).update({n: getattr(timm.layers, n) for n in ('drop_path', 'to_2tuple', 'trunc_normal_')})
    sys.modules |= {'timm.models.registry': registry, 'timm.models.layers': layers}
    nets = importlib.import_module('modeling_pretrain')
    theirs = shaken(nets.PretrainVisionTransformer(
        img_size=224, patch_size=PATCH, encoder_embed_dim=DIM, encoder_depth=1, encoder_num_heads=HEADS,
        decoder_num_classes=3 * 2 * PATCH**2, decoder_embed_dim=64, decoder_depth=1, decoder_num_heads=1, mlp_ratio=4,
        qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6), tubelet_size=2))
    torch.save(dict(model=wrapped(theirs.state_dict()), epoch=3, args=ARGUMENTS), file)
    mine, clips = catalog.load(file), torch.rand(1, 16, 3, 224, 224)
    masked = (torch.rand(1, 14 * 14) < .9).repeat(1, 8)
    gone, keep = (m.nonzero()[:, 1][None] for m in (masked, ~masked))
    x = ((clips - mine.encoder.mean) / mine.encoder.std).transpose(1, 2)
    tokens, _ = mine.encoder(clips, keep=keep)
    prediction = mine.decoder(tokens, keep, gone, mine.encoder.grid(clips))
    theirs_rows = theirs(x, masked).unflatten(-1, (-1, 3)).transpose(-1, -2).flatten(-2)   # a colour after the other
    return dict(tokens=figure(theirs.encoder(x, masked), tokens), prediction=figure(theirs_rows, prediction))


def vjepa(path, file, images):
    build = importlib.import_module('src.models.vision_transformer').VisionTransformer
    wrap = importlib.import_module('src.models.utils.multimask').MultiMaskWrapper
    predictor = importlib.import_module('src.models.predictor').vit_predictor
    torch.backends.cuda.sdp_kernel = nullcontext                     # in their attention; newer torch has it no more
    found = {}
    for uniform in (False, True):
        size = dict(img_size=SIDE, patch_size=PATCH, num_frames=8, tubelet_size=2, uniform_power=uniform)
        encoder, target = (shaken(wrap(build(embed_dim=DIM, depth=DEPTH, num_heads=HEADS, qkv_bias=True,
                                             norm_layer=partial(nn.LayerNorm, eps=1e-6), **size))) for _ in range(2))
        rest = predictor(embed_dim=DIM, predictor_embed_dim=48, depth=1, num_heads=2, use_mask_tokens=True, **size)
        torch.save(dict(encoder=wrapped(encoder.state_dict()), predictor=wrapped(rest.state_dict()), scaler=None,
                        opt=torch.optim.AdamW(encoder.parameters()).state_dict(), epoch=300, loss=.1, batch_size=24,
                        target_encoder=wrapped(target.state_dict()), world_size=128, lr=1e-4), file)
        mine, name = catalog.load(file), 'a third each' if uniform else 'half for time'
        clips, other = torch.rand(2, 8, 3, SIDE, SIDE), torch.rand(1, 16, 3, 2 * SIDE, 2 * SIDE)
        keep = torch.rand(2, mine.features(clips)['tokens'].shape[1]).argsort(1)[:, :9]
        enters = lambda x: standard(x).transpose(1, 2)
        found |= {f'{name}: tokens': figure(target(enters(clips)), mine.features(clips)['tokens']),
                  f'{name}: kept tokens': figure(target(enters(clips), masks=keep)[0], mine(clips, keep=keep)[0]),
                  f'{name}: a larger clip': figure(target(enters(other)), mine.features(other)['tokens'])}
    return found


# ---- prediction of frames

def published_vqgan(path, width):
    "Their VQGAN at a small width, its codes among the latents"
    theirs = importlib.import_module('model.vqgan.taming.autoencoder')
    settings = theirs.vq_f8_small_ddconfig | dict(ch=width, n_embed=64, num_res_blocks=1)
    return theirs, settings


def with_codes(autoencoder, pictures):
    "Random weights, and codes near the latents of some pictures"
    shaken(autoencoder)
    rows = autoencoder.quant_conv(autoencoder.encoder(pictures)).movedim(1, -1).flatten(0, -2)
    codes = autoencoder.quantize.embedding.weight
    codes.copy_(rows[torch.randperm(len(rows))[:len(codes)]] + .1 * rows.std() * torch.randn_like(codes))
    return autoencoder


def vqgan(path, file, images):
    theirs, settings = published_vqgan(path, 32)
    net = with_codes(theirs.VQModelInterface(settings), 2 * images - 1)
    judge = {'loss.discriminator.main.0.weight': torch.zeros(2), 'loss.logvar': torch.zeros(1)}
    torch.save(dict(state_dict=net.state_dict() | judge, epoch=3, global_step=9), file)
    mine, x = catalog.load(file), 2 * images - 1
    z = net.encode(x)
    numbers = net.quantize(z)[2][2].view(len(z), *z.shape[2:])
    return dict(latents=figure(z, mine.encode(images)), codes=figure(numbers.double(), mine.numbers(images).double()),
                unquantised=figure(net.decode(z, force_not_quantize=True), mine.decode_latents(z)),
                picture=figure(((net.decode(z) + 1) / 2).clamp(0, 1), mine.reconstruct(images)))


def river(path, file, images):
    theirs, settings = published_vqgan(path, 32)
    model, found = importlib.import_module('model.model'), {}
    for norm in ('ln', 'bn'):
        parts = dict(state_size=4, state_res=[8, 8], inner_dim=64, depth=2, mid_depth=1, out_norm=norm)
        with patch.object(model, 'VQModelInterface', lambda *_: theirs.VQModelInterface(settings)):
            net = model.Model(dict(sigma=1e-7, autoencoder=dict(type='ldm-vq', config='f8_small', ckpt_path=''),
                                   vector_field_regressor=parts))
        shaken(net)
        with_codes(net.ae, 2 * images - 1)
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(0, .1)
        torch.save(dict(model=wrapped(net.state_dict()), optimizer={}, lr_scheduler={}, global_step=9), file)
        mine, clip = catalog.load(file), torch.rand(2, 2, 3, SIDE, SIDE)
        z = mine.encode(clip)
        noisy, t, apart = torch.randn_like(z[:, 0]), torch.rand(2), torch.tensor([1, 3])
        field = net.vector_field_regressor(noisy, z[:, 1], z[:, 0], apart, t)
        offset = torch.stack([torch.full((2,), -1), -1 - apart], 1)
        name = dict(ln='layer norm', bn='batch norm')[norm]
        found |= {f'{name}: latents': figure(net.ae.encode(2 * clip.flatten(0, 1) - 1), z.flatten(0, 1)),
                  f'{name}: field': figure(field, mine.regressor(noisy, z.flip(1), offset, t)[0]),
                  f'{name}: decoded': figure(((net.ae.decode(z[:, 0]) + 1) / 2).clamp(0, 1), mine.decode(z)[:, 0])}
    return found


# ---- contrast

def mocov3(path, file, images):
    sys.modules['timm.models.layers.helpers'] = SimpleNamespace(to_2tuple=timm.layers.to_2tuple)
    vision_transformer.VisionTransformer.num_tokens = 1
    build = partial(importlib.import_module('vits').VisionTransformerMoCo, qkv_bias=True, stop_grad_conv1=True, **SIZES)
    theirs = shaken(importlib.import_module('moco.builder').MoCo_ViT(build, 24, 48, .2))
    torch.save(dict(epoch=3, arch='vit_small', state_dict=wrapped(theirs.state_dict())), file)
    mine, x = catalog.load(file), standard(images)
    _, cls, z = mine.student(images)
    return dict(projection=figure(theirs.base_encoder(x), z),
                prediction=figure(theirs.predictor(theirs.base_encoder(x)), mine.predictor(z)),
                key=figure(theirs.momentum_encoder(x), mine.teacher(images)[2]),
                tokens=figure(theirs.base_encoder.forward_features(x), sees(mine.student.encoder, images)))


def dilemma(path, file, images):
    build = partial(importlib.import_module('vits').VisionTransformerMoCo, qkv_bias=True, no_embed_class=True,
                    global_pool='token', **SIZES)
    theirs = shaken(importlib.import_module('moco.builder').MoCo_ViT(build, 24, 48, .2, dilemma_probability=.2))
    torch.save(dict(epoch=3, arch='vit_small', state_dict=wrapped(theirs.state_dict())), file)
    mine, x = catalog.load(file), standard(images)
    student, teacher = mine.base.student, mine.base.teacher
    tokens, cls, z = student(images)
    their_z, their_tokens = theirs.base_encoder(x)
    n = (SIDE // PATCH)**2
    keep, place = (torch.rand(len(images), n).argsort(1)[:, :n // 2] for _ in range(2))
    body = theirs.base_encoder       # its own pass forgets the places, and takes them for one picture at a time only
    sparse = torch.cat([body._pos_embed(body.patch_embed(x[i:i + 1]), keep[i:i + 1], place[i:i + 1]) for i in (0, 1)])
    sparse = body.norm(body.blocks(body.norm_pre(sparse)))[:, 1:]
    ours = student.encoder(images, keep=keep, position_ids=place)[0]
    return dict(tokens=figure(their_tokens, tokens), projection=figure(their_z, z),
                prediction=figure(theirs.predictor(their_z), mine.base.predictor(z)),
                key=figure(theirs.momentum_encoder(x)[0], teacher(images)[2]),
                logits=figure(theirs.dilemma_head(their_tokens), mine.head(tokens)),
                misplaced_tokens=figure(sparse, ours),
                misplaced_logits=figure(theirs.dilemma_head(sparse), mine.head(ours)))


def byol(path, file, images):
    sizes = dict(input_dim=512, hidden_dim=48, output_dim=24)
    config = dict(model=dict(backbone=dict(type='resnet18', pretrained=False), projection=sizes,
                             predictor=sizes | dict(input_dim=24)))
    theirs = shaken(importlib.import_module('model.byol_model').BYOLModel(config))
    for m in theirs.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(0, .1)
    torch.save(dict(config=config, epoch=3, steps=9, model=wrapped(theirs.state_dict()), amp={}), file)
    mine, x = catalog.load(file), standard(images)
    return dict(pooled=figure(theirs.online_network.encoder(x).flatten(1), mine.features(images)['pooled']),
                map=figure(theirs.online_network.encoder[:8](x).flatten(2).mT, mine.features(images)['tokens']))


def poodle(path, file, images):
    class RAFT(nn.Linear):
        "In the flow network's place, which is left out"
        def __init__(self): super().__init__(1, 1)
        def load_state_dict(self, state, **_): "Nothing to load"
    known = {'registry': dict(register_model=lambda f: f), 'raft.raft': dict(RAFT=RAFT)}
    for name, things in known.items(): sys.modules[f'src.models.{name}'] = SimpleNamespace(**things)
    sys.modules |= {'kornia.augmentation': SimpleNamespace(), 'kornia': SimpleNamespace(augmentation=None)}
    for name, things in (('flow', ('flow_to_warp', 'mask_invalid', 'warp', 'compute_occlusion_mask')),
                         ('bbox', ('resize_crop_to_bounding_boxes',))):
        sys.modules[f'src.utils.{name}'] = SimpleNamespace(**dict.fromkeys(things))
    for package in ('src', 'src.models', 'src.utils'):
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(path/package.replace('.', '/'))]
    torch.save({}, empty := file.with_name('flow.pth'))
    build = importlib.import_module('src.models.poodle').Poodle
    theirs = shaken(build('resnet50', empty, mlp_hidden_dim=48, proj_dim=24))
    for m in theirs.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(0, .1)
    torch.save(dict(model=wrapped(theirs.state_dict()), epoch=3), file)
    mine, x, found = catalog.load(file), standard(images), {}
    for side, prefix in (('student', ''), ('teacher', 'teacher_')):
        of = lambda name, prefix=prefix: getattr(theirs, prefix + name)
        maps = of('backbone').forward_feature_pyramid(x, stages=theirs.encoder_stages)
        z = maps[-1]
        for i, (block, lateral) in enumerate(zip(of('decoder_blocks'), of('decoder_laterals'))):
            z = nn.functional.interpolate(block(z), scale_factor=2, mode='bilinear') + lateral(maps[-i - 2])
        branch = getattr(mine, side)
        (top, fine), pooled = branch.maps(images), maps[-1].mean((2, 3), keepdim=True)
        found |= {f'{side}: encoder': figure(maps[-1], top), f'{side}: decoder': figure(z, fine),
                  f'{side}: dense projection': figure(of('dense_projector')(z), branch.dense_projector(fine)),
                  f'{side}: pooled projection': figure(of('pooled_projector')(pooled),
                                                       branch.pooled_projector(top.mean((2, 3))))}
    p = theirs.dense_projector(z)
    return found | dict(dense_prediction=figure(theirs.dense_predictor(p), mine.dense_predictor(p)),
                        pooled_prediction=figure(theirs.pooled_predictor(p).flatten(2).mT,
                                                 mine.pooled_predictor(p.flatten(2).mT)))


def slotmim(path, file, images):
    models = importlib.import_module('models.slotmim')
    nets = importlib.import_module('models.vision_transformer')
    args = SimpleNamespace(arch='vit', dim_hidden=48, dim_hidden_slot=48, dim_out=24, teacher_momentum=.99,
                           group_loss_weight=.5, use_sinkhorn=False, use_cross_patch_loss=True,
                           use_masked_patch_loss=True, mask_loss_weight=1, cross_loss_weight=1, drop_path_rate=0.,
                           student_temp=.1, warmup_teacher_temp=.04, teacher_temp=.07, warmup_teacher_temp_epochs=1,
                           epochs=2, num_prototypes=16, center_momentum=.9, num_instances=4, world_size=1,
                           batch_size=2, start_epoch=1)
    theirs = shaken(models.SlotMIM(partial(nets.VisionTransformer, qkv_bias=True, **SIZES), args))
    theirs.center.copy_(.1 * torch.randn_like(theirs.center))
    torch.save(dict(model=wrapped(theirs.state_dict()), epoch=3, args=ARGUMENTS), file)
    mine, x = catalog.load(file), standard(images)
    tokens, z, scores = mine.teacher(images)
    their_tokens = theirs.encoder_k(x)
    their_z = theirs.projector_k(their_tokens)
    found = dict(tokens=figure(flat(their_tokens), tokens), projection=figure(flat(their_z), z),
                 centre=figure(theirs.center, mine.centre))
    their_scores = torch.einsum('bnd,kd->bnk', nn.functional.normalize(flat(their_z), dim=-1),
                                nn.functional.normalize(theirs.grouping_k.prototypes_patch.weight, dim=-1))
    return found | dict(scores=figure(their_scores, scores),
                        slots=figure(their_scores.argmax(-1).flatten().double(),
                                     mine.slots(images).flatten().double()),
                        predictor=figure(theirs.predictor_slot(flat(their_z)), mine.predictor(z)))


def flat(x):
    "(B,D,h,w) as (B,h·w,D); rows as they are"
    return x.flatten(2).transpose(1, 2) if x.ndim == 4 else x


def vicreg(path, file, images):
    resnet = importlib.import_module('resnet')
    theirs, width = resnet.resnet50(zero_init_residual=True)
    shaken(theirs)
    for m in theirs.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(0, .1)
    torch.save(theirs.state_dict(), file)
    x, mine = standard(images), catalog.load(file)
    expander = {'projector.0.weight': torch.zeros(8, width)}
    whole = wrapped({f'backbone.{k}': v for k, v in theirs.state_dict().items()} | expander)
    torch.save(dict(model=whole, epoch=3), checkpoint := file.with_name('model.pth'))
    return dict(pooled=figure(theirs(x), mine.features(images)['pooled']),
                of_a_checkpoint=figure(theirs(x), catalog.load(checkpoint).features(images)['pooled']))


# ---- encoders

def dinov2(path, file, images):
    nets = importlib.import_module('dinov2.models.vision_transformer')
    found = {}
    for registers, chunks in ((0, 0), (4, 0), (4, 2)):
        theirs = shaken(nets.DinoVisionTransformer(
            img_size=56, patch_size=14, embed_dim=DIM, depth=4, num_heads=HEADS, mlp_ratio=4, init_values=1e-5,
            num_register_tokens=registers, block_chunks=chunks, interpolate_offset=0., interpolate_antialias=True))
        state = theirs.state_dict()
        torch.save(dict(teacher={f'backbone.{k}': v for k, v in state.items()}) if chunks else state, file)
        pictures = images[..., :56, :56]
        mine, out = catalog.load(file), theirs.forward_features(standard(pictures))
        seen, name = mine.features(pictures), f'{registers} registers' + ', a training run' * bool(chunks)
        found |= {f'{name}: tokens': figure(out['x_norm_patchtokens'], seen['tokens']),
                  f'{name}: class token': figure(out['x_norm_clstoken'], seen['pooled'])}
    return found


def dinov3(path, file, images):
    hub = importlib.import_module('dinov3.hub.backbones')
    found = {}
    for name, builder, biased, run in (('ViT-S/16', 'dinov3_vits16', False, False),
                                       ('ViT-S/16 with biases, a training run', 'dinov3_vits16', True, True),
                                       ('ViT-S+/16', 'dinov3_vits16plus', False, False)):
        theirs = getattr(hub, builder)(pretrained=False)
        theirs.init_weights()
        shaken(theirs)
        if not biased:
            for block in theirs.blocks: block.attn.qkv.bias.zero_()       # as in most published files
        state = theirs.state_dict()
        heads = {'dino_head.mlp.0.weight': torch.zeros(2, 2), 'ibot_head.mlp.0.weight': torch.zeros(2, 2)}
        torch.save(dict(teacher={f'backbone.{k}': v for k, v in state.items()} | heads) if run else state, file)
        mine, out = catalog.load(file), theirs.forward_features(standard(images))
        seen, large = mine.features(images), torch.rand(1, 3, 2 * SIDE, 3 * SIDE)
        found |= {f'{name}: tokens': figure(out['x_norm_patchtokens'], seen['tokens']),
                  f'{name}: class token': figure(out['x_norm_clstoken'], seen['pooled']),
                  f'{name}: a wide picture': figure(theirs.forward_features(standard(large))['x_norm_patchtokens'],
                                                    mine.features(large)['tokens'])}
    return found


def open_clip(path, file, images):
    clip, tokens = (importlib.import_module(f'open_clip.{m}') for m in ('model', 'tokenizer'))
    text = dict(context_length=77, width=DIM, heads=HEADS, layers=DEPTH)
    image = dict(image_size=SIDE, patch_size=PATCH, width=DIM, layers=DEPTH, head_width=64)
    theirs = shaken(clip.CLIP(24, image, text))
    torch.save(dict(state_dict=wrapped(theirs.state_dict()), epoch=3), file)
    shutil.copy(tokens.default_bpe(), file.parent)
    mine, cut = catalog.load(file), tokens.SimpleTokenizer()
    facts = world.batch(torch.arange(40), kind='scene', level=3, size=(16, 16), frames=1)['facts']
    words = [write_caption(f, k, s) for f in facts for k, n in STYLES.items() for s in range(n)] + [
        "It's 42 dogs & cats!?", '  two\n lines, naïve café — 東京, ½ ²', "they'd say: \"we've 3,000\"", 'a_b x' * 60]
    ids = cut(words)
    ours = nn.functional.pad(mine.tokenizer(words), (0, 77))[:, :77]
    x = (images - mine.mean) / mine.std
    rows, captions = theirs.encode_image(x, normalize=True), theirs.encode_text(ids, normalize=True)
    logits = mine.log_scale.exp() * mine.embed_images(images) @ mine.embed_texts(words).T
    return dict(embedding=figure(theirs.visual(x), mine.image_head(mine.features(images)['pooled'])),
                tokens=figure((ids + 1).double() * (ours > 0), ours.double()),
                texts=figure(captions, mine.embed_texts(words)),
                logits=figure(theirs.logit_scale.exp() * rows @ captions.T, logits))


# ---- all of it

FORMATS = dict(dino=('dino', 'facebookresearch/dino'), ibot=('ibot', 'bytedance/ibot'),
               mae=('mae', 'facebookresearch/mae'),
               mocov3=('moco-v3', 'facebookresearch/moco-v3'), dilemma=('DILEMMA', 'Separius/DILEMMA'),
               byol=('byol', 'yaox12/BYOL-PyTorch'), poodle=('poodle', 'agentic-learning-ai-lab/poodle'),
               slotmim=('SlotMIM', 'CVMI-Lab/SlotMIM'),
               loca=('scenic', 'google-research/scenic'), videomae=('VideoMAE', 'MCG-NJU/VideoMAE'),
               vjepa=('jepa', 'facebookresearch/jepa'), river=('river', 'Araachie/river'),
               vqgan=('river', 'Araachie/river'),
               vicreg=('vicreg', 'facebookresearch/vicreg'),
               dinov2=('dinov2', 'facebookresearch/dinov2'), dinov3=('dinov3', 'facebookresearch/dinov3'),
               open_clip=('open_clip', 'mlfoundations/open_clip'))
COMMITS = dict(poodle='7518934e1a7824c70acf4088f2f19f89c14acb1b')                # where the folder is no checkout
DIFFERENCES = [
    'What is compared are pictures of the size that a network was built for: at others each interpolates its positions '
    'in its own way.',
    'DINO and iBOT: the lengths of prototypes are 1 (their norm_last_layer); other lengths are left out at import.',
    'VideoMAE: pictures of 224 pixels and 16 frames, its sizes, since its file does not hold them.',
    'LOCA: written and run by the authors\' code in JAX (flax.serialization.to_bytes); read here without JAX.',
    'DILEMMA: their own pass forgets the places of kept patches; here their layers are given them, one picture at a '
    'time.',
    'BYOL: a port to PyTorch, whose heads end in a bias; the ResNet of the online network alone. DeepMind\'s own files '
    'are pickles of Python objects, which are not opened.',
    'PooDLe: of their class the constructor and the backbone run, out of two files (src/models/poodle.py, '
    'src/models/backbone/resnet.py) that were typed from a stored text of commit 7518934, not from a checkout; '
    'the flow network has a stand-in. '
    'Decoder and heads are applied here as in the middle of their training pass, in eval mode.',
    'V-JEPA: the target encoder alone; its size, frames and the division of its channels are found from its positions.',
    'RIVER and VQGAN: the smaller configuration of the code (f8_small), at a quarter of its width and with one block '
    'less; the solver is compared in fidelity-river.json. The discriminator is left out.',
    "DINOv3: ViT-S and ViT-S+ at their own size, since the architecture is found by its shapes; the hub's file and the "
    'teacher of a training run.',
    'OpenCLIP: the vocabulary of its tokenizer lies beside the file; ftfy, which mends broken text, has a stand-in '
    'that leaves text as it is. 1 is added to their token numbers, so that 0 is free for padding.']


@torch.no_grad()
def one(name, public):
    "The figures of one format"
    os.environ['XFORMERS_DISABLED'] = '1'                        # dinov2: plain attention
    sys.modules['ftfy'] = SimpleNamespace(fix_text=lambda x: x)  # open_clip: of its tokenizer
    folder, _ = FORMATS[name]
    path = public/folder
    sys.path.insert(0, str(path/'src' if name == 'open_clip' else path))
    torch.manual_seed(0)
    torch.Tensor.cuda = lambda self, *_, **__: self
    comparison.single_process()
    images = torch.rand(2, 3, SIDE, SIDE)
    with tempfile.TemporaryDirectory() as there: return globals()[name](path, Path(there)/'checkpoint.pth', images)


def in_its_process(name, public):
    "The same, in a process of its own"
    code = ('import importlib, json, sys, pathlib; m = importlib.import_module("benchmarks.fidelity.import"); '
            'print("\\n" + json.dumps(m.one(sys.argv[1], pathlib.Path(sys.argv[2]))))')
    done = subprocess.run([sys.executable, '-c', code, name, str(public)], capture_output=True, text=True, timeout=600)
    if done.returncode: raise SystemExit(f'{name}: {done.stderr[-2000:]}')
    return json.loads(done.stdout.strip().splitlines()[-1])


def on_record(file, but):
    "The cases that were measured before, with the commit at which each was, without those of some formats"
    found = json.loads(file.read_text())
    return [dict(commit=found['commit']) | c for c in found['cases'] if c['format'] not in but]


def main():
    "Compare, print, write; exit code 1 where a figure differs"
    args = comparison.arguments('import', __doc__, '', only=dict(choices=FORMATS, help='one format; writes nothing'),
                                add=dict(nargs='+', choices=FORMATS, default=[], metavar='FORMAT',
                                         help='measure these formats alone, and keep the others as they are on record'))
    args.quick = bool(args.only)
    cases = on_record(args.out, set(args.add)) if args.add else []
    for name in [args.only] if args.only else args.add or FORMATS:
        where = comparison.upstream(args.public/FORMATS[name][0], FORMATS[name][1])
        where['commit'] = where['commit'] or COMMITS.get(name)
        cases.append(dict(format=name, dtype='float32', upstream=where, commit=args.state['commit'],
            figures={f'{name}: {k}': f for k, f in in_its_process(name, args.public).items()}))
        print(name, f"{max(f['max_difference'] for f in cases[-1]['figures'].values()):.1e}", flush=True)
    cases.sort(key=lambda c: list(FORMATS).index(c['format']))
    comparison.conclude(args, "Checkpoints that public code saved, imported: both networks on the same pictures",
                        dict(repositories=[c['upstream'] for c in cases]), cases, {}, DIFFERENCES,
                        versions(torchvision, timm, np), options=f" --add {' '.join(args.add)}" * bool(args.add))


if __name__ == '__main__': main()
