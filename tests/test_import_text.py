"""OpenCLIP, made here at a small size with the authors' names and shapes: both towers, or the image tower alone."""
import gzip
import json

import pytest
import timm
import torch
import torch.nn.functional as F

from ssl_workbench import catalog
from ssl_workbench.encoders import Encoder
from ssl_workbench.importers import BLOCK, CLIP_VIT, TEXT
from ssl_workbench.towers import VOCABULARY, BytePairs, TextConfig, WordEncoder, open_towers

MERGES = gzip.compress(b'version\nd o\ndo g</w>\na n')
VISION = (('cls_token', 'class_embedding'), ('pos_embed', 'positional_embedding'),
          ('patch_embed.proj.weight', 'conv1.weight'), ('norm_pre.', 'ln_pre.'), ('norm.', 'ln_post.'),
          ('blocks.', 'transformer.resblocks.'))


def theirs(name):
    "A tensor of a block as the authors call it"
    for a, b in BLOCK.items(): name = name.replace(b, a)
    return name


def open_clip():
    "Both towers, and their file"
    torch.manual_seed(0)
    options = dict(img_size=32, patch_size=8, embed_dim=64, depth=1, num_heads=1)
    net = timm.create_model(CLIP_VIT, num_classes=0, **options)
    image = catalog.from_state(net.state_dict(), CLIP_VIT, 1, **options)
    words = len(BytePairs(MERGES)) - 1
    towers = WordEncoder(image, TextConfig(words, 64, 2, 1, 9, 12))
    towers.text.words.weight[0] = 0
    rest = {k: v + (k[:10] != 'text.words') * .1 * torch.randn_like(v.float())
            for k, v in towers.state_dict().items() if not k.startswith('net.')}
    towers = open_towers(image, towers.text_config, rest)
    state = {theirs(f'visual.{next(b + k[len(a):] for a, b in VISION if k.startswith(a))}'): v
             for k, v in net.state_dict().items()}
    for k in ('class_embedding', 'positional_embedding'): state[f'visual.{k}'] = state[f'visual.{k}'].squeeze()
    state |= {a: rest[b].T if 'head' in b else rest[b] for a, b in TEXT.items()}
    state |= {'token_embedding.weight': rest['text.words.weight'][1:],
              'positional_embedding': rest['text.positions'][0]}
    state |= {theirs(k.replace('text.blocks.', 'transformer.resblocks.')): v for k, v in rest.items() if 'blocks' in k}
    return towers, dict(state_dict={f'module.{k}': v for k, v in state.items()}, epoch=32)


def test_both_towers_come_back(tmp_path):
    "Pictures and texts equal, with the vocabulary beside the file, and without it after it was imported"
    towers, tree = open_clip()
    torch.save(tree, file := tmp_path/'epoch_32.pt')
    bare, x, ids = catalog.load(file), torch.rand(2, 3, 32, 32), torch.tensor([[7, 3, 9, 0], [1, 1, 2, 8]])
    assert isinstance(bare, Encoder) and torch.allclose(bare.embed_images(x), towers.embed_images(x), atol=1e-6)
    assert torch.allclose(bare.embed_ids(ids), towers.embed_ids(ids), atol=1e-6)
    with pytest.raises(ValueError, match=VOCABULARY): bare.embed_texts(['a dog'])
    (tmp_path/VOCABULARY).write_bytes(MERGES)
    out, card = catalog.save_imported(file, tmp_path/'mine', 'clip')
    (tmp_path/VOCABULARY).unlink()
    again = catalog.load(out)
    assert card['config']['text']['depth'] == 2 and card['imported']['format'] == 'OpenCLIP'
    ids = BytePairs(MERGES)(['a dog!', 'an and'])
    assert torch.allclose(again.embed_texts(['a dog!', 'an and']), towers.embed_ids(ids), atol=1e-6)
    assert torch.equal(again.features(x)['tokens'], bare.features(x)['tokens'])
    assert json.loads(out.with_suffix('.json').read_text())['config']['text'] == card['config']['text']


@pytest.mark.parametrize('lost', ['ln_final.bias', 'text_projection', 'token_embedding'])
def test_other_text_towers_are_left_out(lost, tmp_path):
    "A tower without its own last norm, projection or words: the image tower alone, and the note says it"
    _, tree = open_clip()
    torch.save(dict(state_dict={k: v for k, v in tree['state_dict'].items() if lost not in k}), file := tmp_path/'x.pt')
    found, about = catalog.import_checkpoint(file)
    assert not isinstance(found, WordEncoder) and 'text tower is left out' in about.notes[0]


@pytest.mark.parametrize('lost', ['module.transformer.resblocks.1.mlp.c_fc.bias', 'resblocks.0.attn.in_proj_bias',
                                  'visual.ln_post.bias'])
def test_cut_files_are_refused(lost, tmp_path):
    "A tensor of either tower missing: one sentence"
    _, tree = open_clip()
    torch.save(dict(state_dict={k: v for k, v in tree['state_dict'].items() if lost not in k}), file := tmp_path/'x.pt')
    with pytest.raises(ValueError) as e: catalog.load(file)
    assert '\n' not in str(e.value)


def test_a_wrong_vocabulary_is_refused(tmp_path):
    "A file that is not the compressed list"
    _, tree = open_clip()
    torch.save(tree, file := tmp_path/'x.pt')
    (tmp_path/VOCABULARY).write_bytes(b'not gzip')
    with pytest.raises(ValueError, match='cannot be read'): catalog.load(file).embed_texts(['a dog'])


@pytest.mark.parametrize('read', ['values', 'keys', 'tokens'])
def test_patches_are_read_by_words(read, tmp_path):
    "From the authors' own tensors: what their last block computes of each patch, through ln_post and the projection"
    towers, tree = open_clip()
    torch.save(tree, file := tmp_path/'x.pt')
    x, t = torch.rand(2, 3, 16, 24), {k.removeprefix('module.visual.'): v for k, v in tree['state_dict'].items()}
    found = catalog.load(file).embed_patches(x, read)
    block = lambda name: t[f'transformer.resblocks.0.{name}']
    tokens = towers.net.norm_pre(towers.net._pos_embed(towers.net.patch_embed(towers.fitted(x))))
    entered = F.layer_norm(tokens, (64,), block('ln_1.weight'), block('ln_1.bias'), towers.net.blocks[0].norm1.eps)
    query, key, value = F.linear(entered, block('attn.in_proj_weight'), block('attn.in_proj_bias')).chunk(3, -1)
    out = lambda rows: F.linear(rows, block('attn.out_proj.weight'), block('attn.out_proj.bias'))
    rows = dict(keys=key, values=out(value))
    if read == 'tokens':
        x1 = tokens + out((query @ key.mT / 64**.5).softmax(-1) @ value)
        rows['tokens'] = x1 + towers.net.blocks[0].mlp(towers.net.blocks[0].norm2(x1))
    last = F.layer_norm(rows[read], (64,), t['ln_post.weight'], t['ln_post.bias'], towers.net.norm.eps)[:, 1:]
    right = F.normalize(last @ t['proj'], dim=-1).mT.unflatten(2, (2, 3))
    assert found.shape == (2, 12, 2, 3) and torch.allclose(found, right, atol=1e-5)
    with pytest.raises(ValueError, match='keys, values or tokens'): towers.embed_patches(x, 'queries')


def test_the_pages_that_ask_in_words_offer_an_import(tmp_path, monkeypatch):
    "Search, words and captions take it, beside its random twin; a damaged card beside it is passed over"
    pytest.importorskip('gradio')
    from ssl_workbench.app import captions, models, search, words
    _, tree = open_clip()
    torch.save(tree, file := tmp_path/'epoch_32.pt')
    (tmp_path/VOCABULARY).write_bytes(MERGES)
    monkeypatch.chdir(tmp_path)
    catalog.save_imported(file, name := 'runs/mine.safetensors', 'clip')
    (tmp_path/'runs/other.safetensors').write_bytes(b'')
    (tmp_path/'runs/other.json').write_text('{')
    assert name in models.choices(search.NEEDS) and name not in models.choices('features')
    assert models.knows_photos(name) and 'OpenCLIP' in models.describe_weights(name)
    for one in (name, name + models.TWIN):
        shown, line = search.find_pictures(one, 'English', 'a dog', None, 2)
        assert shown.count('<figure') == 2 and 'rank' not in line
        assert words.heat_figure(one, None, 'dog, an', 'Values', True).count('<figure') == 3
        assert words.added_figure(one, None, 'a dog', 'Keys').count('<figure') == 3
        assert 'Cosine' in captions.compare(one, 1, 'a dog', 'an and')[2]
    own, twin = (search.gallery_rows(one) for one in (name, name + models.TWIN))
    assert not torch.allclose(own, twin, atol=.1)
