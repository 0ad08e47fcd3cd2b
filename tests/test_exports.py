"""Trained weights for others: timm, the hub, torch.export, ONNX; each opened again and equal."""
import json

import pytest
import timm
import torch

from ssl_workbench import catalog
from ssl_workbench.encoders import open_file, open_timm
from ssl_workbench.exports import HubMethod, Program, to_hub, to_onnx, to_program, to_timm

SIZE = dict(size=32, patch=8, dim=64, depth=2, heads=2)
CHANGES = dict(dino=SIZE | dict(hidden=24, prototypes=10, small_size=16), mae=SIZE, slotmim=SIZE)
SHAPES = [(b, 3, h, w) for b in (1, 3) for h, w in ((32, 32), (48, 72), (80, 56))]


def shaken(method):
    "Random weights everywhere, also where the first value is 0"
    torch.manual_seed(0)
    with torch.no_grad():
        for p in method.parameters(): p.add_(.02 * torch.randn_like(p))
    return method.eval()


def made(name): return shaken(catalog.build(name, 'cpu', CHANGES[name]))


def truth(method, x):
    "tokens, pooled, attention"
    found = method.features(x)
    return found['tokens'], found['pooled'], method.attention(x)


@pytest.mark.parametrize('name', CHANGES)
def test_timm_loads_it(name, tmp_path):
    "create_model and a strict load_state_dict; equal features; and in again"
    method, x = made(name), torch.rand(2, 3, 32, 32)
    file = to_timm(method, tmp_path/'out')
    config = json.loads((tmp_path/'out'/'config.json').read_text())
    net = timm.create_model(config['architecture'], num_classes=0, **config['model_args']).eval()
    net.load_state_dict(open_file(file, heads=2).net.state_dict(), strict=True)
    encoder = method.inference_encoder
    seen = net.forward_features((x - encoder.mean) / encoder.std)[:, encoder.prefix:]
    assert torch.allclose(seen, encoder(x)[0], atol=1e-5)
    local = timm.create_model(f"local-dir:{tmp_path/'out'}", pretrained=True).eval()
    assert torch.allclose(local.forward_features((x - encoder.mean) / encoder.std)[:, encoder.prefix:], seen, atol=1e-6)


@pytest.mark.parametrize('name', CHANGES)
def test_the_hub_keeps_it_whole(name, tmp_path):
    "Every tensor of the method, from its folder"
    method = made(name)
    to_hub(method, tmp_path/'hub')
    again = HubMethod.from_pretrained(str(tmp_path/'hub')).method
    assert again.config == method.config
    for k, v in method.state_dict().items(): assert torch.equal(v, again.state_dict()[k]), k


@pytest.mark.parametrize('name', ('dino', 'slotmim'))
def test_program_at_any_size(name, tmp_path):
    "torch.export: three sizes, two batches"
    method = made(name)
    program = torch.export.load(to_program(method, tmp_path/'p')).module()
    for shape in SHAPES:
        x = torch.rand(shape)
        for a, b in zip(program(x), truth(method, x), strict=True): assert torch.allclose(a, b, atol=1e-4)


def test_onnx_at_any_size(tmp_path):
    "onnxruntime beside torch: three sizes, two batches"
    for package in ('onnx', 'onnxscript'): pytest.importorskip(package)
    runtime, method = pytest.importorskip('onnxruntime'), made('dino')
    session = runtime.InferenceSession(str(to_onnx(method, tmp_path/'p')), providers=['CPUExecutionProvider'])
    for shape in SHAPES:
        x = torch.rand(shape)
        found = session.run(list(Program.names), dict(images=x.numpy()))
        for a, b in zip(found, truth(method, x), strict=True): assert torch.allclose(torch.tensor(a), b, atol=1e-4)


def test_an_encoder_of_timm_leaves_too(tmp_path):
    "Registers without positions"
    encoder = shaken(open_timm('vit_small_patch14_reg4_dinov2', False, embed_dim=64, depth=2, num_heads=2, img_size=56))
    for x in (torch.rand(1, 3, 56, 56), torch.rand(2, 3, 70, 42)):
        for a, b in zip(Program(encoder)(x), truth(encoder, x), strict=True): assert torch.allclose(a, b, atol=1e-4)


def test_without_the_packages(tmp_path, monkeypatch):
    "One sentence"
    import sys
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(ValueError, match='two packages more: pip install'): to_onnx(made('dino'), tmp_path/'p')


@pytest.mark.parametrize('name', ('vicreg', 'river'))
def test_what_cannot_leave(name, tmp_path):
    "One sentence, and nothing is written"
    with pytest.raises(ValueError, match='others do not know'): to_timm(catalog.build(name, 'cpu'), tmp_path/'out')
    assert not (tmp_path/'out').exists()


@pytest.mark.parametrize('name, options', [('convnext_tiny', dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1))),
                                           ('resnet18', dict(channels=(8, 16, 24, 32)))])
def test_a_convolutional_encoder_as_a_program(name, options, tmp_path):
    "torch.export at three sizes and two batches: tokens and summary as `features` gives them"
    encoder = shaken(open_timm(name, False, **options))
    program = torch.export.load(to_program(encoder, tmp_path/'p')).module()
    for shape in ((1, 3, 64, 64), (2, 3, 96, 160), (3, 3, 224, 64)):
        x = torch.rand(shape)
        with torch.no_grad(): found = encoder.features(x)
        tokens, pooled = program(x)
        assert torch.allclose(tokens, found['tokens'], atol=1e-4) and torch.allclose(pooled, found['pooled'], atol=1e-4)


def test_a_convolutional_encoder_as_onnx(tmp_path):
    "onnxruntime beside torch"
    for package in ('onnx', 'onnxscript'): pytest.importorskip(package)
    runtime = pytest.importorskip('onnxruntime')
    encoder = shaken(open_timm('convnext_tiny', False, dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)))
    session = runtime.InferenceSession(str(to_onnx(encoder, tmp_path/'p')), providers=['CPUExecutionProvider'])
    for shape in ((1, 3, 64, 64), (2, 3, 96, 160)):
        x = torch.rand(shape)
        tokens, pooled = session.run(['tokens', 'pooled'], dict(images=x.numpy()))
        with torch.no_grad(): found = encoder.features(x)
        assert torch.allclose(torch.tensor(tokens), found['tokens'], atol=1e-4)
        assert torch.allclose(torch.tensor(pooled), found['pooled'], atol=1e-4)
