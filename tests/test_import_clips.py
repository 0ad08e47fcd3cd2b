"""V-JEPA, RIVER and VQGAN, made here at a small size with the authors' names and shapes, become ours or are refused."""
import json
import re

import pytest
import torch

from ssl_workbench import catalog, importers
from ssl_workbench.cli import main
from ssl_workbench.importers.river import OUTER, river_as_published, vqgan_as_published
from ssl_workbench.video_nets import ClipConfig, ClipEncoder

MIDDLE = 'block_1', 'attn_1', 'block_2'
BUILD = dict(design='published', attended=(1,), widths=(32, 32, 32), depths=(1, 1, 1), decoder_widths=(32, 32, 32),
             decoder_depths=(2, 2, 2), linear=False, unit=False, codes=20, latent=4)


def shaken(method):
    "Random weights in all that a file holds"
    torch.manual_seed(0)
    with torch.no_grad():
        for n, p in method.named_parameters():
            if n != 'mask_token': p.add_(.05 * torch.randn_like(p))
    return method.eval()


def vjepa(positions='halves', size=32, frames=4):
    "V-JEPA's training checkpoint"
    method = shaken(ClipEncoder(ClipConfig(size, frames, 8, 2, 64, 2, 1, positions)))
    pairs = ('embedding.', 'patch_embed.proj.'), ('layers.', 'blocks.'), ('norm.', 'norm.'), ('mask_token', None)
    state = importers.renamed(method.state_dict(), pairs) | dict(pos_embed=method.positions(method.built_for))
    state['patch_embed.proj.weight'] = state['patch_embed.proj.weight'].reshape(64, 3, 2, 8, 8)
    saved = {f'module.backbone.{k}': v for k, v in state.items()}
    return method, dict(encoder={k: v + 1 for k, v in saved.items()}, predictor={'module.backbone.a': torch.zeros(1)},
                        target_encoder=saved, opt={}, epoch=300)


def vqgan_names(method):
    "Our published VQGAN under the authors' names, written apart from the importer's table"
    out, deepest = {}, len(method.config.widths) - 1
    for name, x in method.state_dict().items():
        name = next((a + name[len(b):] for a, b in OUTER if b and a != b and name.startswith(b)), name)
        found = re.fullmatch(r'(encoder|decoder)\.(stages|middle|down|up)\.(\d+)\.(?:(\d+)\.(?=[a-z]))?(.+)', name)
        if found:
            side, kind, i, at, rest = found.groups()
            level = int(i) if side == 'encoder' else deepest - int(i)
            place, two = f"{side}.{'down' if side == 'encoder' else 'up'}.{level}", level in method.config.attended
            if kind == 'middle': name = f'{side}.mid.{MIDDLE[int(i)]}.{rest}'
            elif kind == 'stages':
                name = f"{place}.{'attn' if two and int(at) % 2 else 'block'}.{int(at) // (1 + two)}.{rest}"
            else: name = f'{place}.{kind}sample.conv.{rest}'
        name = name.replace('.out.', '.proj_out.').replace('.shortcut.', '.nin_shortcut.')
        if '.qkv.' in name: out |= {name.replace('qkv', k): part for k, part in zip('qkv', x.chunk(3))}
        elif name != 'codebook.idle': out[name] = x
    return out


def vqgan():
    "A VQGAN as the VQGAN authors' code saves it"
    method = shaken(catalog.build('vqgan', 'cpu', BUILD | dict(adversarial=0.)))
    return method, dict(state_dict=vqgan_as_published(method) | {'loss.discriminator.main.0.weight': torch.zeros(1)})


def river(norm='layer', reference=True):
    "RIVER's training checkpoint"
    settings = dict(dim=32, depth=1, middle=1, heads=8, out_norm=norm, reference=reference, ae=tuple(BUILD.items()))
    method = shaken(catalog.build('river', 'cpu', settings))
    state = {f'module.{k}': v for k, v in river_as_published(method).items()}
    return method, dict(model=state, optimizer={}, global_step=9)


@pytest.mark.parametrize('positions, size, frames', [('halves', 32, 4), ('thirds', 32, 4), ('halves', 16, 16)])
def test_vjepa_is_an_encoder_of_clips(positions, size, frames, tmp_path):
    "The target encoder: size, frames and positions found, weights equal, on other clips too; 32 tokens either way"
    method, tree = vjepa(positions, size, frames)
    torch.save(tree, file := tmp_path/'vjepa.pth.tar')
    (again, found), x = catalog.import_checkpoint(file), torch.rand(1, frames, 3, size, size)
    assert again.config == method.config and found.format == 'V-JEPA' and not again.training
    assert not any(p.requires_grad for p in again.parameters())
    for clip in (x, torch.rand(1, 8, 3, 24, 40), x[:, 0]):
        assert torch.equal(again.features(clip)['tokens'], method.features(clip)['tokens'])
    assert torch.allclose(again.attention(x).flatten(2).sum(2), torch.ones(1, 1))


def test_vjepa_on_the_command_line(tmp_path, capsys):
    "Weights with a card, loaded again; a damaged card is one sentence"
    method, tree = vjepa()
    torch.save(tree, file := tmp_path/'vjepa.pth')
    assert main(['import', 'vjepa', str(file), '--out', str(tmp_path/'mine')]) == 0
    assert 'facebookresearch/jepa' in capsys.readouterr().out
    card, x = json.loads((tmp_path/'mine.json').read_text()), torch.rand(1, 4, 3, 32, 32)
    assert card['method'] == 'clips' and card['imported']['licence'] == 'CC-BY-NC 4.0'
    again = catalog.load(tmp_path/'mine.safetensors')
    assert torch.equal(again.features(x)['pooled'], method.features(x)['pooled'])
    del card['config']['frames']
    (tmp_path/'mine.json').write_text(json.dumps(card))
    with pytest.raises(ValueError, match='not that of an encoder'): catalog.load(tmp_path/'mine.safetensors')


@pytest.mark.parametrize('change, words', [
    (dict(pos_embed=torch.rand(1, 32, 64)), 'sines and cosines'), (dict(pos_embed=None), 'V-JEPA 2'),
    ({'patch_embed.proj.weight': torch.zeros(64, 3, 8, 8)}, 'of pictures'), ({'norm.bias': None}, 'norm.bias'),
    ({'blocks.1.mlp.fc2.weight': None}, 'fc2'), ({'blocks.0.mlp.fc1.weight': torch.zeros(128, 64)}, 'four times'),
    ({'extra': torch.zeros(1)}, 'extra')])
def test_wrong_vjepa_is_refused(change, words, tmp_path):
    "Cut files, other positions, I-JEPA, another MLP, more than the encoder: one sentence"
    _, tree = vjepa()
    state = tree['target_encoder'] | {f'module.backbone.{k}': v for k, v in change.items()}
    torch.save(tree | dict(target_encoder={k: v for k, v in state.items() if v is not None}), file := tmp_path/'x.pth')
    with pytest.raises(ValueError, match=words) as e: catalog.load(file)
    assert '\n' not in str(e.value)


def test_vqgan_comes_back_whole(tmp_path):
    "Codes and pictures equal; the settings that shapes tell; the discriminator is left out and that is said"
    method, tree = vqgan()
    torch.save(tree, file := tmp_path/'vqvae.ckpt')
    (again, found), x = catalog.import_checkpoint(file), torch.rand(1, 3, 32, 32)
    assert {k: getattr(again.config, k) for k in BUILD} == BUILD and again.factor == 4
    assert torch.equal(again.reconstruct(x), method.reconstruct(x)) and 'discriminator' in found.notes[0]
    out, card = catalog.save_imported(file, tmp_path/'mine', 'vqgan')
    assert torch.equal(catalog.load(out).reconstruct(x), method.reconstruct(x)) and card['method'] == 'vqgan'


@pytest.mark.parametrize('norm, reference', [('layer', True), ('batch', True), ('layer', False)])
def test_river_comes_back_whole(norm, reference, tmp_path):
    "Predictions equal, with its VQGAN inside; saved with a card and loaded again"
    method, tree = river(norm, reference)
    torch.save(tree, file := tmp_path/'model.pth')
    (again, found), clip = catalog.import_checkpoint(file), torch.rand(1, 2, 3, 64, 64)
    assert again.config.out_norm == norm and again.config.reference == reference and 'side' in found.notes[0]
    right = method.predict(clip, 1, steps=1)
    assert torch.equal(again.predict(clip, 1, steps=1), right)
    out, _ = catalog.save_imported(file, tmp_path/'mine', 'river')
    assert torch.equal(catalog.load(out).predict(clip, 1, steps=1), right)


def test_names_that_leave_are_the_authors():
    "The table read backwards gives each tensor the name that their code gives it"
    method, _ = vqgan()
    ours, theirs = vqgan_as_published(method), vqgan_names(method)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    state = river_as_published(river()[0])
    assert {k.split('.')[1] for k in state if k.startswith('vector_field_regressor.')} == {
        'position_encoding', 'project_in', 'time_projection', 'in_blocks', 'mid_blocks', 'out_blocks', 'project_out'}
    assert state['vector_field_regressor.position_encoding.row_embed.weight'].shape[0] == 512


@pytest.mark.parametrize('make, lost', [(vqgan, 'quant_conv.weight'), (vqgan, 'encoder.mid.attn_1.k.weight'),
                                        (vqgan, 'decoder.up.1.block.0.norm1.bias'), (vqgan, 'quantize.'),
                                        (river, 'ae.'), (river, 'project_in.1.weight'),
                                        (river, 'in_blocks.0.norm1.bias'), (river, 'decoder.conv_in.bias'),
                                        (vqgan, 'decoder.up.2.upsample.conv.weight'),
                                        (vqgan, 'encoder.down.1.attn.0.proj_out.weight'),
                                        (river, 'out_blocks.0.1.norm1.bias')])
def test_cut_files_are_refused(make, lost, tmp_path):
    "A tensor of each part missing: one sentence"
    _, tree = make()
    place = 'model' if 'model' in tree else 'state_dict'
    assert any(lost in k for k in tree[place])
    torch.save({place: {k: v for k, v in tree[place].items() if lost not in k}}, file := tmp_path/'cut.pth')
    with pytest.raises(ValueError) as e: catalog.import_checkpoint(file, make.__name__)
    assert '\n' not in str(e.value)


def test_other_autoencoders_are_refused(tmp_path):
    "RIVER's own autoencoder for CLEVRER: the sentence says which files are read"
    state = {f'ae.backbone.{k}': torch.zeros(2, 2) for k in ('vector_quantizer.embedding.weight', 'encoder.a')}
    for tree in (dict(model=state | {'vector_field_regressor.project_in.1.bias': torch.zeros(2)}),
                 dict(model={k.removeprefix('ae.backbone.'): v for k, v in state.items()})):
        torch.save(tree, file := tmp_path/'clevrer.pth')
        with pytest.raises(ValueError, match='CLEVRER.*BAIR and KTH'): catalog.load(file)
