"""Trained weights for others: timm, the hub, torch.export, ONNX; each opened again and equal."""
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch

from ssl_workbench import catalog
from ssl_workbench.encoders import open_file, open_timm
from ssl_workbench.exports import (
    HubMethod,
    Program,
    example,
    program_of,
    to_hub,
    to_onnx,
    to_program,
    to_timm,
    traced,
)
from ssl_workbench.towers import TextConfig, WordEncoder
from ssl_workbench.video_nets import ClipConfig, ClipEncoder

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


def assert_same(run, method, cells=((2, 4, 4), (2, 6, 9), (4, 10, 7))):
    "run(x) gives tokens, pooled and attention as the method does: three sizes, two batches"
    program = program_of(method)
    for k, batch in ((k, batch) for k in cells for batch in (1, 3)):
        x = example(program, batch, k)
        with torch.no_grad():
            for a, b in zip(run(x), truth(method, x), strict=True): assert torch.allclose(a, b, atol=1e-4), (k, batch)


ROTARY = ('vit_small_patch16_dinov3', 'eva02_tiny_patch14_224')
CLIPS = ('counted', 'halves', 'trained')


def encoder(name):
    "A small encoder: of clips by its positions, or timm's"
    if name in CLIPS: return shaken(ClipEncoder(ClipConfig(32, 8, 8, 2, 48, 1, 2, name)))
    return shaken(open_timm(name, False, embed_dim=48, depth=1, num_heads=2))


def test_pushed_to_the_hub(tmp_path, monkeypatch, capsys):
    "What is pushed is what was written; without a connection the folder stays, and there is one sentence"
    from ssl_workbench.cli import main
    pushed = {}
    def upload(self, repo_id, folder_path, **more): pushed[repo_id] = {p.name for p in Path(folder_path).iterdir()}
    def create(self, repo_id, **more): return SimpleNamespace(repo_id=repo_id)
    monkeypatch.setattr('huggingface_hub.HfApi.create_repo', create)
    monkeypatch.setattr('huggingface_hub.HfApi.upload_folder', upload)
    words = ['export', 'loca', '--to', 'hf', '--push', 'me/loca', '--out']
    assert main([*words, str(tmp_path/'a')]) == 0 and 'pushed to me/loca' in capsys.readouterr().out
    assert {'config.json', 'model.safetensors'} <= pushed['me/loca']
    def unreachable(*_, **__): raise ConnectionError('no route')
    monkeypatch.setattr('huggingface_hub.HfApi.create_repo', unreachable)
    assert main([*words, str(tmp_path/'b')]) == 2
    assert 'is written, but me/loca was not reached (ConnectionError)' in capsys.readouterr().err
    assert (tmp_path/'b'/'model.safetensors').exists()
    assert main(['export', 'loca', '--to', 'timm', '--push', 'me/v', '--out', str(tmp_path/'c')]) == 2
    assert 'only a Hugging Face folder is pushed' in capsys.readouterr().err


@pytest.mark.parametrize('name', CHANGES)
def test_timm_loads_it(name, tmp_path):
    "create_model and a strict load_state_dict; equal features; and in again"
    method, x = made(name), torch.rand(2, 3, 32, 32)
    file = to_timm(method, tmp_path/'out')
    config = json.loads((tmp_path/'out'/'config.json').read_text())
    net = timm.create_model(config['architecture'], num_classes=0, **config['model_args']).eval()
    net.load_state_dict(open_file(file).net.state_dict(), strict=True)
    encoder = method.inference_encoder
    seen = net.forward_features((x - encoder.mean) / encoder.std)[:, encoder.prefix:]
    assert torch.allclose(seen, encoder(x)[0], atol=1e-5)
    local = timm.create_model(f"local-dir:{tmp_path/'out'}", pretrained=True).eval()
    assert torch.allclose(local.forward_features((x - encoder.mean) / encoder.std)[:, encoder.prefix:], seen, atol=1e-6)


def test_timms_config_beside_the_weights_is_read(tmp_path):
    "Heads, pixels and architecture of our export come back, by whatever door; without it the guess is a note"
    sizes, x = dict(size=32, patch=8, dim=128, depth=1, heads=4), torch.rand(1, 3, 32, 32)
    method = shaken(catalog.build('slotmim', 'cpu', sizes | dict(stem='linear')))
    file = to_timm(method, tmp_path/'out')
    wanted = method.features(x)['tokens']
    import_of = lambda name='', heads=None: catalog.import_checkpoint(file, name, heads)
    for again in (open_file(file), catalog.load(file), import_of('encoder')[0], import_of('slotmim')[0]):
        assert again.net.blocks[0].attn.num_heads == 4
        assert torch.allclose(again.features(x)['tokens'], wanted, atol=1e-5)
        assert torch.allclose(again.mean, method.inference_encoder.mean) and 'guessed' not in again.note
    assert import_of(heads=8)[0].net.blocks[0].attn.num_heads == 8
    (tmp_path/'out'/'config.json').unlink()
    assert open_file(file).net.blocks[0].attn.num_heads == 2 and 'heads are guessed' in open_file(file).note
    again, found = import_of()
    assert any('heads are guessed' in n and '--heads' in n for n in found.notes) and 'guessed' in again.note
    assert not any('guessed' in n for n in import_of(heads=4)[1].notes)


@pytest.mark.parametrize('text', ['[]', '{', '{"architecture": 3}', '{"architecture": "bert", "model_args": {}}',
                                  '{"name": "x"}', '{"architecture": "vit_tiny_patch16_224", "model_args": 3}'])
def test_a_config_of_others_is_no_traceback(text, tmp_path):
    "What is not timm's is passed over; what does not fit is refused in one sentence"
    file = to_timm(made(sorted(CHANGES)[0]), tmp_path/'out')
    (tmp_path/'out'/'config.json').write_text(text)
    if 'vit_tiny' not in text: assert 'guessed' in open_file(file).note; return
    with pytest.raises(ValueError, match='does not fit vit_tiny_patch16_224'): catalog.load(file)


@pytest.mark.parametrize('name', CHANGES)
def test_the_hub_keeps_it_whole(name, tmp_path):
    "Every tensor of the method, from its folder"
    method = made(name)
    to_hub(method, tmp_path/'hub')
    again = HubMethod.from_pretrained(str(tmp_path/'hub')).method
    assert again.config == method.config
    for k, v in method.state_dict().items(): assert torch.equal(v, again.state_dict()[k]), k


def test_the_hub_keeps_encoders(tmp_path):
    "Of clips; with a text tower; and what cannot read pictures says so"
    words = TextConfig(words=20, dim=16, depth=1, heads=2, context=8, out_dim=12)
    tower = shaken(WordEncoder(encoder('vit_tiny_patch16_224'), words))
    for k, one in enumerate((encoder('halves'), encoder('vit_small_patch16_dinov3'), tower)):
        to_hub(one, tmp_path/str(k))
        again, x = HubMethod.from_pretrained(str(tmp_path/str(k))), example(program_of(one), 2, (2, 2, 3))
        assert torch.equal(again(x)['tokens'], one.features(x)['tokens']) and type(again.method) is type(one)
    ids = torch.tensor([[3, 7, 2, 0]])
    assert torch.equal(again.method.embed_ids(ids), tower.embed_ids(ids))
    with pytest.raises(ValueError, match='XLM has no features of pictures'):
        HubMethod('xlm', vars(catalog.load('xlm').config))(x)


ALONE = {'clip', 'dilemma', 'dino', 'loca', 'sfclip', 'slotmim', 'vidrop'}       # methods read by a transformer


@pytest.mark.parametrize('name', sorted(catalog.cards()))
def test_every_bundled_weight_is_exported_or_says_why(name, tmp_path):
    "The hub takes it whole; the encoder alone is exported where it is a transformer, with the method's own features"
    method = catalog.load(name)
    to_hub(method, tmp_path/'hub')
    again = HubMethod.from_pretrained(str(tmp_path/'hub')).method.state_dict()
    assert again.keys() == method.state_dict().keys()
    for k, v in method.state_dict().items(): assert torch.equal(v, again[k]), k
    alone = catalog.card(name)['method'] in ALONE
    if alone: assert_same(traced(method).module(), method)
    for write in () if alone else (to_timm, to_onnx, to_program):
        with pytest.raises(ValueError, match='has an encoder that other libraries do not know.* use --to hf'):
            write(method, tmp_path/'out')
    if name == 'vidrop':
        with pytest.raises(ValueError, match='timm has no network of clips'): to_timm(method, tmp_path/'out')
    assert [p.name for p in tmp_path.iterdir()] == ['hub']


def test_a_program_that_gives_something_else_is_not_exported(tmp_path):
    "A method with a summary of its own, that no program knows"
    method = made('dino')
    own = type(method).features
    method.features = lambda x: own(method, x) | dict(pooled=own(method, x)['tokens'].amax(1))
    with pytest.raises(ValueError, match='DINO cannot be exported .* .its pooled differ'): traced(method)
    with pytest.raises(ValueError, match='use --to hf for the whole method'): to_program(method, tmp_path/'p')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ('dino', 'slotmim'))
def test_program_at_any_size(name, tmp_path):
    "torch.export: three sizes, two batches"
    method = made(name)
    program = torch.export.load(to_program(method, tmp_path/'p')).module()
    for shape in SHAPES:
        x = torch.rand(shape)
        for a, b in zip(program(x), truth(method, x), strict=True): assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize('name', ('dino', 'halves', *ROTARY))
def test_onnx_at_any_size(name, tmp_path):
    "onnxruntime beside torch, of pictures and clips, with added and rotary positions: three sizes, two batches"
    for package in ('onnx', 'onnxscript'): pytest.importorskip(package)
    runtime, method = pytest.importorskip('onnxruntime'), made(name) if name in CHANGES else encoder(name)
    session = runtime.InferenceSession(str(to_onnx(method, tmp_path/'p')), providers=['CPUExecutionProvider'])
    takes = 'clips' if name in CLIPS else 'images'
    assert_same(lambda x: map(torch.tensor, session.run(list(Program.names), {takes: x.numpy()})), method)


@pytest.mark.parametrize('name', ('counted', 'trained', 'vit_small_patch16_rope_mixed_224'))
def test_other_positions_as_a_program(name):
    "Three sizes, two batches"
    one = encoder(name)
    assert_same(traced(one).module(), one)


def test_an_encoder_of_timm_is_exported_too(tmp_path):
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
def test_what_cannot_be_exported(name, tmp_path):
    "One sentence, and nothing is written"
    with pytest.raises(ValueError, match='other libraries'): to_timm(catalog.build(name, 'cpu'), tmp_path/'out')
    assert not (tmp_path/'out').exists()


def test_swin_says_what_it_can_be_exported_to(tmp_path):
    "No program; a timm file and a folder of the hub"
    encoder = open_timm('swin_tiny_patch4_window7_224', False, embed_dim=12, depths=(1, 1), num_heads=(1, 2))
    for write in (to_program, to_onnx):
        with pytest.raises(ValueError, match='SwinTransformer cannot be exported .* use --to timm or --to hf'):
            write(encoder, tmp_path/'out')
    for write in (to_timm, to_hub): write(encoder, tmp_path/write.__name__)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['to_hub', 'to_timm']


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
