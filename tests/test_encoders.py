"""Networks of timm behind our words: the same numbers as timm's own, from a name or from a file."""
import re

import pytest
import timm
import torch
from safetensors.torch import save_file

from ssl_workbench import core
from ssl_workbench.encoders import AttentiveEncoder, Encoder, network_of, open_file, open_timm, read_checkpoint
from ssl_workbench.methods.scale import timm_backbone
from ssl_workbench.probes import random_init
from ssl_workbench.teachers import open_vision

VIT = dict(embed_dim=24, depth=2, num_heads=2, img_size=64)
CONV = dict(dims=(8, 16, 24, 32), depths=(1, 2, 1, 1))
PLAIN = {'vit_small_patch16_224': VIT, 'vit_base_patch32_clip_224': VIT, 'vit_base_patch16_siglip_224': VIT,
         'vit_small_patch14_dinov2': VIT | dict(img_size=56), 'vit_small_patch14_reg4_dinov2': VIT | dict(img_size=56),
         'deit_tiny_distilled_patch16_224': VIT, 'deit3_small_patch16_224': VIT}
ROTARY = {'vit_small_patch16_dinov3': VIT, 'eva02_tiny_patch14_224': VIT | dict(img_size=56)}
MAPS = {'convnext_tiny': CONV, 'convnextv2_tiny': CONV, 'resnet18': dict(channels=(8, 16, 24, 32)),
        'resnet50': dict(layers=(1, 1, 1, 1), channels=(8, 16, 24, 32))}


def made(name, options):
    "The encoder at small random weights, none of them zero, and a picture"
    core.seed_everything(0)
    encoder = open_timm(name, False, **options)
    with torch.no_grad():
        for p in encoder.parameters(): p.add_(.02 * torch.randn_like(p))
    side = 4 * encoder.patch
    return encoder, torch.rand(2, 3, side, side * 3 // 4 if encoder.patch < 20 else side)


@pytest.mark.parametrize('name, options', (PLAIN | ROTARY | MAPS).items())
def test_features_are_those_of_timm(name, options):
    "Tokens on their grid, and what timm's classifier reads, to 1e-5"
    encoder, x = made(name, options)
    found, normal = encoder.features(x), (x - encoder.mean) / encoder.std
    out = encoder.net.forward_features(normal)
    tokens = out[:, encoder.net.num_prefix_tokens:] if out.ndim == 3 else out.flatten(2).mT
    assert found['grid'] == (x.shape[-2] // encoder.patch, x.shape[-1] // encoder.patch)
    assert torch.allclose(found['tokens'], tokens, atol=1e-5) and tokens.std() > .01
    assert torch.allclose(found['pooled'], encoder.net(normal), atol=1e-5)
    assert torch.allclose(encoder.features((x * 255).round().byte())['tokens'], tokens, atol=.2)


@pytest.mark.parametrize('name, options', (PLAIN | ROTARY).items())
def test_attention_is_what_the_block_uses(name, options):
    "Rows sum to 1, and the values weighted by them give the block's own result"
    encoder, x = made(name, options)
    found = encoder.attention(x)
    assert isinstance(encoder, AttentiveEncoder) and found.shape == (2, 2, *encoder.features(x)['grid'])
    assert torch.allclose(found.sum((2, 3)), torch.ones(()), atol=1e-5) and found.std() > 0
    attn, kept = encoder.net.blocks[-1].attn, {}
    hook = attn.attn_drop.register_forward_hook(lambda m, i, o: kept.update(matrix=o))
    attn.fused_attn = False
    encoder.net.forward_features((x - encoder.mean) / encoder.std)
    hook.remove()
    rows, prefix = kept['matrix'], encoder.prefix
    rows = rows[:, :, 0] if encoder.net.cls_token is not None else rows[:, :, prefix:].mean(2)
    rows = rows[..., prefix:]
    assert torch.allclose(found.flatten(2), rows / rows.sum(-1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize('name', MAPS)
def test_maps_have_no_attention(name):
    "A convolutional network says so by not having it"
    encoder, _ = made(name, MAPS[name])
    assert type(encoder) is Encoder and not hasattr(encoder, 'attention')


def test_looking_leaves_the_network_alone():
    "Attention neither hooks nor changes what the others share"
    encoder, x = made('vit_small_patch16_dinov3', VIT)
    before = encoder.features(x)['tokens']
    fused = encoder.net.blocks[-1].attn.fused_attn
    encoder.attention(x)
    assert encoder.net.blocks[-1].attn.fused_attn == fused and isinstance(encoder.net.blocks[-1].attn.attn_drop,
                                                                         torch.nn.Dropout)
    assert torch.equal(encoder.features(x)['tokens'], before)


@pytest.mark.parametrize('kind', ('safetensors', 'pth'))
@pytest.mark.parametrize('name, options', (PLAIN | MAPS).items())
def test_a_file_tells_its_architecture(name, options, kind, tmp_path):
    "Shapes alone, and equal features; a classifier in the file is no hindrance"
    encoder, x = made(name, options)
    state = {k: v.clone() for k, v in encoder.net.state_dict().items()}
    file = tmp_path/f'weights.{kind}'
    if kind == 'pth': torch.save(dict(model=state | {'head.weight': torch.zeros(10, 24)}, epoch=3), file)
    else: save_file(state, file)
    again = open_file(file, heads=2, pixels=tuple(tuple(v.flatten().tolist()) for v in (encoder.mean, encoder.std)))
    assert 'deit' in again.config.name or again.config.name.split('_')[0] in name
    wide = 1e-4 if 'clip' in name or 'siglip' in name else 1e-5              # norms of another epsilon
    assert torch.allclose(again.features(x)['tokens'], encoder.features(x)['tokens'], atol=wide)


def test_a_named_file_takes_that_architecture(tmp_path):
    "The name of the file, or of the caller, decides over shapes; a wrong one is refused"
    net = timm.create_model('test_vit', num_classes=0)
    save_file(net.state_dict(), tmp_path/'test_vit.safetensors')
    save_file(net.state_dict(), tmp_path/'other.safetensors')
    assert open_file(tmp_path/'test_vit.safetensors').config.name == 'test_vit'
    assert open_file(tmp_path/'other.safetensors', 'test_vit').net.blocks[0].attn.num_heads == 2
    with pytest.raises(ValueError, match='does not fit test_vit2'): open_file(tmp_path/'other.safetensors', 'test_vit2')


def test_dinov3_is_known_by_its_shapes(tmp_path):
    "Every size that timm has, without its numbers"
    from ssl_workbench.encoders import recognise
    for name in ('vit_small_patch16_dinov3', 'vit_base_patch16_dinov3', 'vit_small_plus_patch16_dinov3'):
        with torch.device('meta'): state = timm.create_model(name, num_classes=0).state_dict()
        assert recognise(state)[0] == name


BAD = dict(cut=(r'incomplete, or a pickle that is not', lambda f: f.write_bytes(b'PK\3\4' + bytes(60))),
           empty=(r'incomplete, or a pickle that is not', lambda f: f.write_bytes(b'')),
           text=(r'incomplete, or a pickle that is not', lambda f: f.write_text('hello')),
           code=(r'may run code', lambda f: torch.save(dict(model=core.pick), f)),
           list=(r'holds list', lambda f: torch.save([torch.zeros(2)], f)),
           other=(r'a plain ViT', lambda f: torch.save(dict(a=torch.zeros(2)), f)),
           half=(r'is not recognised|does not fit', lambda f: torch.save(
               dict(list(timm.create_model('test_vit', num_classes=0).state_dict().items())[:9]), f)))


@pytest.mark.parametrize('kind', BAD)
def test_bad_files(kind, tmp_path):
    "One sentence that names the file"
    file = tmp_path/'weights.pth'
    BAD[kind][1](file)
    with pytest.raises(ValueError, match=BAD[kind][0]) as e: open_file(file)
    assert 'weights.pth' in str(e.value) and '\n' not in str(e.value) and len(str(e.value)) < 400 + len(str(file))


def test_wrappers_and_nests(tmp_path):
    "DistributedDataParallel's prefix and the authors' nesting are seen through, with their arguments beside"
    import argparse
    state = {'module._orig_mod.a.weight': torch.ones(2)}
    torch.save(dict(teacher=state, student={}, args=argparse.Namespace(lr=1.)), tmp_path/'w.pth')
    assert list(network_of(read_checkpoint(tmp_path/'w.pth'))) == ['a.weight']


def test_one_place_for_all_users():
    "Teacher, backbone and a random twin are the same encoder"
    teacher = open_vision('vit_small_patch14_dinov2', (3, 3), False, **PLAIN['vit_small_patch14_dinov2'])
    assert teacher.features(torch.rand(1, 3, 64, 64))['grid'] == (3, 3)
    assert timm_backbone('resnet10t', False)(torch.rand(2, 3, 3, 40, 40)).shape == (2, 512)
    twin = random_init(teacher, seed=1)
    assert type(twin) is type(teacher) and not torch.equal(twin.net.pos_embed, teacher.net.pos_embed)
    assert open_timm('timm:test_vit', True, or_random=True).note.startswith('random weights: the weights of test_vit')
    with pytest.raises(ValueError, match=re.escape("timm has no model 'nothing'")): open_timm('nothing', or_random=True)


def plain(tmp_path, **options):
    "(file, network) of a small ViT as timm keeps it"
    net = timm.create_model('vit_tiny_patch16_224', num_classes=0,
                            **dict(img_size=64, embed_dim=128, depth=2, num_heads=2) | options)
    save_file(net.state_dict(), tmp_path/'tiny.safetensors')
    return tmp_path/'tiny.safetensors', net.eval()


def test_the_pages_of_features_offer_an_imported_encoder(tmp_path, monkeypatch):
    "With its panels, its random twin, and the line that opens the panel"
    pytest.importorskip('gradio')
    from ssl_workbench import catalog
    from ssl_workbench.app import attention, comparison, models
    file, net = plain(tmp_path)
    monkeypatch.chdir(tmp_path)
    catalog.save_imported(file, name := 'runs/plain.safetensors')
    assert name in models.choices('features') and name in comparison.offered()
    assert not any(name in models.choices(needs) for needs in ('slots', 'locate', 'mismatch', 'flow', 'embed_patches'))
    for one in (name, name + models.TWIN): assert list(attention.panels_of(one)) == ['attention', 'likeness']
    assert attention.panel_home('likeness', name)[1] == 'similarity_panel'
    x = torch.rand(1, 3, 64, 64)
    own, twin = (models.encoder(one).features(x)['tokens'] for one in (name, name + models.TWIN))
    assert own.shape == twin.shape == (1, 16, 128) and not torch.allclose(own, twin, atol=.1)


@pytest.mark.parametrize('name', ['slotmim', 'loca', 'dino', 'mae'])
def test_training_starts_from_an_encoder(name, tmp_path):
    "Student and teacher are the encoder; a step is taken; features before it are the encoder's"
    from ssl_workbench import catalog, data, training
    from ssl_workbench.encoders import encoder_settings
    from ssl_workbench.nets import ViT
    file, _ = plain(tmp_path)
    source, preset = catalog.load(file), catalog.module(name).presets['cpu']
    config = catalog.replace_config(preset, encoder_settings(source) | dict(batch=4, steps=2))
    pictures = data.open_data('world:scene:0', size=64, frames=1, length=8)
    learner = training.learner_of(name, config, pictures, device='cpu', start=file)
    vits = [m for m in learner.method.modules() if isinstance(m, ViT)]
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for one in (v for v in vits if v.net.cls_token is not None):
            assert (one.eval().features(x)['tokens'] - source.features(x)['tokens']).abs().max() < 1e-3
    assert len(vits) == (1 if name == 'mae' else 2) and len(list(learner.steps(1))) == 1


def test_an_encoder_that_is_no_start_says_so(tmp_path):
    "Another network, another width: one sentence with the settings that fit"
    from ssl_workbench import catalog, training
    file, _ = plain(tmp_path)
    with pytest.raises(ValueError, match='--set patch=16 dim=128 depth=2 heads=2'):
        training._begin_at(catalog.build('slotmim', 'cpu'), file)
    from ssl_workbench.encoders import encoder_settings
    with pytest.raises(ValueError, match='not a plain ViT'): encoder_settings(open_timm('resnet10t', False))
    with pytest.raises(ValueError, match='LayerScale'):
        encoder_settings(open_timm('vit_small_patch14_dinov2', False, img_size=28, depth=1))
