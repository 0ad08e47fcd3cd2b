"""CLIP and SF-CLIP: captions on their way to the views, what may not leak, teachers, and what cannot be read."""
import io
import tarfile
import warnings
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from ssl_workbench import catalog, core, training
from ssl_workbench.classics import clip, xlm
from ssl_workbench.learner import Learner, collate
from ssl_workbench.methods import sfclip
from ssl_workbench.text import END, PAD, world_tokenizer
from ssl_workbench.world import World
from ssl_workbench.world.captions import write_caption

TINY = dict(size=32, canvas=32, dim=16, depth=1, heads=2, text_dim=16, text_depth=1, text_heads=2, out_dim=8, batch=8,
            pictures=16, steps=4)
WORDS = replace(xlm.cpu, dim=16, depth=1, heads=2, steps=2, batch=4, pictures=8)


class OneByOne:
    "Samples one at a time, so that a loader and its workers collate them"
    def __init__(self, data): self.data = data
    def __len__(self): return len(self.data)
    def __getitem__(self, i): return self.data[i]


class Captioned(OneByOne):
    "The same with captions in place of facts: strings, or one a language"
    def __init__(self, data, caption): super().__init__(data); self.caption = caption

    def __getitem__(self, i):
        sample = self.data[i]
        return dict(frames=sample['frames'], aspect=sample['aspect'], caption=self.caption(sample['facts']))


def pairs(n=16): return World('scene', 1, (32, 32), 1, n, truth=False, captions=True)


def teachers():
    "Untrained ones, the same at each call"
    with core.seeded(0):
        return [catalog.build('slotmim', 'cpu', dict(dim=24, heads=2, depth=1))], xlm.XLM(WORDS)


def student(**changes):
    "A tiny SF-CLIP with its teachers"
    core.seed_everything(0)
    config = replace(sfclip.cpu, **dict(TINY, vision_dims=(24,), word_dim=16, image_share=.5, text_share=.5) | changes)
    vision, language = teachers()
    return sfclip.SFCLIP(config).adopt(vision if config.vision_dims else (), language if config.text_teacher else None)


def views_of(method, n=8):
    "Views of the first pairs"
    data = pairs()
    return sfclip.Views(method.config)(data.batch(range(n)) | dict(seed=torch.arange(n)))


def terms(data, kind=clip, workers=0, **more):
    "The loss of each step of a short run"
    core.seed_everything(0)
    config = replace(kind.cpu, **TINY)
    run = Learner(clip.CLIP(config), clip.Views(config), data, 4, batch=8, workers=workers, device='cpu',
                  progress=False, **more)
    return [step.total for step in run.steps()]


# Captions on their way

def test_captions_travel():
    "Facts that the data batches, facts through a loader, its workers, written captions, captions a language: the same"
    whole = terms(pairs())
    assert terms(OneByOne(pairs())) == whole and terms(OneByOne(pairs()), workers=1) == whole
    assert terms(Captioned(pairs(), write_caption)) == whole
    assert terms(Captioned(pairs(), lambda f: {k: write_caption(f, k) for k in ('de', 'en')})) == whole


def test_captions_stay_lists():
    "A caption a language is a dict, and is not taken apart"
    batch = next(iter(DataLoader(Captioned(pairs(), lambda f: dict(en='a', de='b')), 2, collate_fn=collate)))
    assert batch['caption'] == [dict(en='a', de='b')] * 2


def test_styles_are_drawn_by_the_seed():
    "One style always the plain one; of four, each sample's seed draws its own, and all four come up"
    batch = pairs().batch(range(16)) | dict(seed=torch.arange(16))
    plain = [write_caption(f) for f in batch['facts']]
    assert clip.batch_texts(batch) == plain
    drawn = clip.batch_texts(batch, 'en', 4)
    assert clip.batch_texts(batch, 'en', 4) == drawn
    style = [[write_caption(f, 'en', s) for s in range(4)].index(t) for f, t in zip(batch['facts'], drawn, strict=True)]
    assert set(style) == {0, 1, 2, 3}


@pytest.mark.parametrize('caption, hint', [
    (None, 'no caption'), ('', 'no caption'), ('  \n', 'no caption'), (3, 'no caption'), ({}, "no caption in 'en'"),
    ({'fr': 'une étoile'}, 'fr'), ({'en': None}, 'no caption')])
def test_a_picture_without_caption(caption, hint):
    "One sentence, in the loader's form too"
    batch = dict(frames=torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8), seed=torch.arange(2),
                 caption=['A star.', caption])
    for kind in (clip, sfclip):
        with pytest.raises(ValueError, match=hint) as e: kind.Views(replace(kind.cpu, size=32))(batch)
        assert '\n' not in str(e.value)
    with pytest.raises(ValueError, match='no captions'): clip.batch_texts(dict(frames=None, seed=None))


def test_data_without_captions_are_refused(tmp_path):
    "Before a step is taken, and by name"
    from PIL import Image
    for k in range(3): Image.new('RGB', (40, 30), (k, 0, 0)).save(tmp_path/f'{k}.png')
    for name in ('clip', 'sfclip', 'xlm'):
        with pytest.raises(ValueError, match='holds no captions'):
            training.training_data(str(tmp_path), catalog.find(name), catalog.module(name).cpu)


@pytest.mark.parametrize('kind', ['clip', 'sfclip'])
@pytest.mark.parametrize('ending', ['csv', 'tar', 'classes'])
def test_trained_on_files(kind, ending, tmp_path, monkeypatch):
    "A table with columns of one's own, shards, and folders named after classes: trained, stopped, resumed"
    from ssl_workbench.show import to_image
    data, place = pairs(8), tmp_path/'pairs'
    monkeypatch.setattr(training, 'with_teachers', lambda config: (replace(config, vision_dims=(24,), word_dim=16),
                                                                   teachers()))
    pictures = [to_image(data[i]['frames'][0]) for i in range(8)]
    captions = [write_caption(data[i]['facts']) for i in range(8)]
    place.mkdir()
    if ending == 'classes':
        for k, picture in enumerate(pictures):
            (place/f'polar_{"ab"[k % 2]}').mkdir(exist_ok=True)
            picture.save(place/f'polar_{"ab"[k % 2]}'/f'{k}.png')
        name = str(place)
    elif ending == 'csv':
        for k, picture in enumerate(pictures): picture.save(place/f'{k}.png')
        rows = [f'{k}.png,"{c}"' for k, c in enumerate(captions)]
        (place/'mine.csv').write_text('\n'.join(['photo,title', *rows]), encoding='utf-8')
        name = f'{place}/mine.csv:image=photo,caption=title'
    else:
        name = str(place/'shard.tar')
        with tarfile.open(name, 'w') as shard:
            for k, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
                picture.save(body := io.BytesIO(), 'PNG')
                for suffix, raw in (('png', body.getvalue()), ('txt', caption.encode())):
                    entry = tarfile.TarInfo(f'./{k:04}.{suffix}')          # as tar writes a folder's files
                    entry.size = len(raw)
                    shard.addfile(entry, io.BytesIO(raw))
    config = replace(catalog.module(kind).cpu, **TINY | dict(batch=4))
    def run(out): return training.open_run(kind, config, name, 0, out, 'cpu', resume=out.exists())
    seen = run(tmp_path/'whole').data[3]['caption']
    assert seen == ('a photo of the large polar a.' if ending == 'classes' else captions[3])
    whole, first = run(tmp_path/'a'), run(tmp_path/'b')
    for _ in whole.steps(): pass
    for _ in first.steps(2): pass
    first.save()
    again = run(tmp_path/'b')
    assert again.i == 2
    for _ in again.steps(): pass
    theirs = again.method.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in whole.method.state_dict().items())


# What is read

@pytest.mark.parametrize('kind', ['clip', 'sfclip'])
def test_odd_texts(kind):
    "Emoji, unknown words and languages, ten thousand characters: finite unit rows; nothing at all: a sentence"
    method = catalog.build(kind, 'cpu', {k: v for k, v in TINY.items()}).eval()
    odd = ['🦊 a red 🟥 star', 'Красный круг слева.', '一颗红色的星星', 'x', 'ᚃᚐ', '\ud800', 'a\0b', '12345 %$#']
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('error')
        rows = method.embed_texts(odd)
        assert rows.isfinite().all() and torch.allclose(rows.norm(dim=1), torch.ones(len(odd)), atol=1e-5)
    with torch.no_grad(), pytest.warns(UserWarning, match='1 of 2 texts are cut to 64 tokens'):
        cut = method.embed_texts(['red star ' * 1111, 'A red star.'])
    assert cut.isfinite().all()
    for wrong, hint in (([''], 'text 0 of 1 is empty'), (['a', ' \n'], 'text 1 of 2 is empty'), ('a star', 'list'),
                        ([None], 'list'), ([3], 'list'), (None, 'list'), (5, 'list'), ((w for w in 'ab'), 'list')):
        with pytest.raises(ValueError, match=hint) as e: method.embed_texts(wrong)
        assert '\n' not in str(e.value)


def test_a_language_that_the_grammar_lacks():
    "Refused where a config is made, on the command line as well"
    for kind in (clip, sfclip):
        with pytest.raises(ValueError, match="not 'ru'"): replace(kind.cpu, language='ru')
        with pytest.raises(ValueError, match='1 to 2, not 4'): replace(kind.cpu, language='fr', styles=4)
    with pytest.raises(ValueError, match="not 'ru'"): catalog.build('clip', 'cpu', dict(language='ru'))


def test_order_and_padding():
    "A text is the same alone and beside a longer one; another word order is another text"
    for method in (clip.CLIP(replace(clip.cpu, **TINY)), student()):
        with torch.no_grad():
            alone, beside = (method.embed_texts(t)[0] for t in (['A red star.'], ['A red star.', 'A ring, ' * 9]))
            turned = method.embed_texts(['star red A.'])[0]
        assert torch.allclose(alone, beside, atol=1e-5) and not torch.allclose(alone, turned, atol=1e-3)


def test_patches_by_words():
    "Unit columns on the patch grid, three ways; a fourth is refused"
    method = student().eval()
    x = torch.rand(2, 3, 48, 32)
    with torch.no_grad(): maps = [method.embed_patches(x, read) for read in ('keys', 'values', 'tokens')]
    for m in maps: assert m.shape == (2, 8, 6, 4) and torch.allclose(m.norm(dim=1), torch.ones(2, 6, 4), atol=1e-5)
    assert not torch.allclose(maps[0], maps[1], atol=1e-2)
    with pytest.raises(ValueError, match='keys, values or tokens'): method.embed_patches(x, 'queries')


# Masks and subsets

@pytest.mark.parametrize('n, share', [(8, .25), (10, .25), (64, .125), (7, .5), (5, .01), (6, 1.)])
def test_subset(n, share):
    "As many as asked for, one from each stretch, each member of a stretch some time; the halves choose as the whole"
    seen = set()
    for s in range(60):
        draws = core.uniform(torch.arange(n) + 1000 * s, 'subset', 1)[:, 0]
        rows = sfclip.subset(draws, share)
        k = max(1, round(n * share))
        assert len(rows) == k and (rows * k // n).tolist() == list(range(k))
        seen |= set(rows.tolist())
        if n % (2 * k) == 0 or k % 2 == 0 and n % k == 0:
            halves = [sfclip.subset(half, share) for half in draws.chunk(2)]
            if 2 * len(halves[0]) == k: assert torch.equal(rows, torch.cat([halves[0], halves[1] + n // 2]))
    assert seen == set(range(n))


def test_masks_are_of_true_tokens_of_the_subset():
    "At most the share of each text, never padding, never outside the subset; the same whatever else is in the batch"
    method = student(text_masked=.5, image_masked=.25)
    views, fewer = views_of(method), views_of(method, 4)
    hidden, ids = views['hidden_words'], views['ids']
    assert hidden.any() and not (hidden & (ids == PAD)).any()
    assert (hidden.sum(1) <= .5 * (ids != PAD).sum(1)).all()
    outside = [i for i in range(8) if i not in views['text_subset'].tolist()]
    assert not hidden[outside].any()
    length = min(fewer['ids'].shape[1], ids.shape[1])
    both = [i for i in fewer['text_subset'].tolist() if i in views['text_subset'].tolist()]
    assert both and torch.equal(hidden[both, :length], fewer['hidden_words'][both, :length])
    patches = views['hidden_patches']
    assert patches.sum(1)[views['image_subset']].tolist() == [4] * 4 and patches.sum() == 16


def test_what_is_masked_does_not_leak():
    "Other words, other pixels under the mask: not a bit changes; in sight: it does"
    method = student(text_share=1., image_share=1., text_masked=.5, image_masked=.25).eval()
    views = views_of(method)
    ids, hidden = views['ids'], views['hidden_words']
    change = lambda where: torch.where(where, ids.roll(1, 0).clamp(min=END), ids)
    pixels = views['hidden_patches'].view(-1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    paint = lambda where: torch.where(where, torch.rand_like(views['x'][:, 0]), views['x'][:, 0])[:, None]
    with torch.no_grad():
        plain = method(views)
        under = method(views | dict(ids=change(hidden), x=paint(pixels)))
        sight = method(views | dict(ids=change(~hidden & (ids != PAD)), x=paint(~pixels)))
    assert not torch.equal(change(hidden), ids)
    for key in ('image', 'text', 'seen_0'): assert torch.equal(plain[key], under[key]), key
    true = plain['valid']
    assert torch.equal(plain['read'][true], under['read'][true])
    for key in ('image', 'text'): assert (plain[key] - sight[key]).abs().max() > 1e-3, key


def test_dropped_patches_do_not_enter():
    "Pixels of dropped patches change nothing for the student; targets are those of the kept ones"
    method = student(dropped=.5, image_share=1.).eval()
    views = views_of(method)
    gone = torch.ones(8, 16, dtype=torch.bool).scatter(1, views['keep'], False)
    pixels = gone.view(-1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    painted = torch.where(pixels, torch.rand_like(views['x'][:, 0]), views['x'][:, 0])[:, None]
    with torch.no_grad(): a, b = method(views), method(views | dict(x=painted))
    assert a['tokens'].shape[1] == 8 == a['known_0'].shape[1] and torch.equal(a['image'], b['image'])


# Teachers

def test_teachers_that_do_not_fit():
    "Too many, too few, another table of words: a sentence; without any, too"
    vision, language = teachers()
    config = replace(sfclip.cpu, **dict(TINY, vision_dims=(24,), word_dim=16))
    for given, hint in (((vision * 2, language), '2 vision teachers'), (((), language), '0 vision teachers'),
                        ((vision, None), 'none is given'), ((vision, xlm.XLM(xlm.cpu)), 'has words of')):
        with pytest.raises(ValueError, match=hint): sfclip.SFCLIP(config).adopt(*given)
    bare = replace(config, text_teacher='', inherit_words=False)
    with pytest.raises(ValueError, match='one is given'): sfclip.SFCLIP(bare).adopt(vision, language)
    with pytest.raises(ValueError, match='learns from teachers'): sfclip.SFCLIP(config)(views_of(student()))


def test_teachers_by_name(tmp_path):
    "From a run's folder; their widths are read from them; what is no teacher is refused, and what is not there"
    run = training.learner_of('xlm', WORDS, training.training_data('world:scene:1', catalog.find('xlm'), WORDS),
                              out=tmp_path/'words', device='cpu')
    run.progress = False
    for _ in run.steps(): pass
    config = replace(sfclip.cpu, **TINY, text_teacher=str(tmp_path/'words'))
    fitted, (vision, language) = training.with_teachers(config)
    assert (fitted.vision_dims, fitted.word_dim) == ((catalog.load('slotmim').config.dim,), 16)
    assert torch.equal(language.embedding, run.method.embedding) and len(vision) == 1
    for change, hint in ((dict(text_teacher='slotmim'), 'no language teacher'),
                         (dict(vision_teachers=('nowhere',)), "no weights 'nowhere'"),
                         (dict(text_teacher='nowhere'), 'ssl-workbench train xlm'),
                         (dict(vision_teachers=(str(tmp_path/'words'),)), 'no vision teacher')):
        with pytest.raises(ValueError, match=hint) as e: training.with_teachers(replace(config, **change))
        assert '\n' not in str(e.value)


def test_teachers_are_no_part_of_the_weights():
    "Not in the state, not trained, not in what is saved; the inherited words are"
    method = student()
    vision, language = teachers()
    assert not any('frozen' in k for k in method.state_dict())
    before = {k: v.clone() for k, v in method.frozen['language'].state_dict().items()}
    sum(method.loss(method(views_of(method))).values()).backward()
    assert all(p.grad is None for m in (*method.frozen['vision'], method.frozen['language']) for p in m.parameters())
    assert all(torch.equal(v, before[k]) for k, v in method.frozen['language'].state_dict().items())
    words = method.text.words.weight
    assert torch.equal(words, sfclip.even_words(language.embedding)) and 'text.words.weight' in method.inference_state()


@pytest.mark.parametrize('change, left', [
    (dict(vision_teachers=(), vision_dims=()), {'contrast', 'text'}),
    (dict(text_teacher='', inherit_words=False), {'contrast', 'vision'}),
    (dict(vision_teachers=(), vision_dims=(), text_teacher='', inherit_words=False), {'contrast'})])
def test_without_a_teacher(change, left):
    "Its term goes, the others stay; the same words on the command line"
    method = student(**change)
    assert set(method.loss(method(views_of(method)))) == left
    built = catalog.build('sfclip', 'cpu', catalog.parse_settings([f'{k}={v}' for k, v in change.items()]))
    assert all(getattr(built.config, k) == v for k, v in change.items())


def test_two_vision_teachers_are_averaged():
    "The same teacher twice is as one"
    one, vision = student(), teachers()[0]
    core.seed_everything(0)
    config = replace(one.config, vision_teachers=('a', 'b'), vision_dims=(24, 24))
    two = sfclip.SFCLIP(config).adopt(vision * 2, teachers()[1])
    state = one.state_dict()
    two.load_state_dict(state | {k.replace('.0.', '.1.'): v for k, v in state.items() if 'to_vision' in k})
    views = views_of(one)
    a, b = (m.loss(m(views)) for m in (one, two))
    assert a.keys() == b.keys() and all(torch.allclose(a[k], b[k]) for k in a)


def test_precomputed_teachers():
    "Of uncropped pictures the same terms up to half precision; a run from a name asks the teachers once"
    method = student(scale=(1., 1.), precomputed=True)
    data = pairs()
    ready = sfclip.Precomputed(data, method)
    views = [sfclip.Views(method.config)(d.batch(range(8), 'cpu') | dict(seed=torch.arange(8))) for d in (ready, data)]
    assert 'known_0' in views[0] and 'known_0' not in views[1]
    a, b = (method.loss(method(v)) for v in views)
    assert all(abs(a[k] - b[k]) < 1e-2 for k in a)
    method.frozen = {}                                                     # nobody is left to be asked
    assert method.loss(method(views[0])).keys() == a.keys()
    slow = sfclip.Precomputed(OneByOne(data), student(precomputed=True)).batch([3, 5])
    assert all(torch.equal(slow[k], ready.batch([3, 5])[k]) for k in slow if '_map' in k)


def test_precomputed_teachers_on_disk(tmp_path, monkeypatch):
    "The same as in memory; asked once, also by the next run; another teacher or other data are refused"
    method, data = student(precomputed=True), pairs()
    memory, disk = sfclip.Precomputed(data, method), sfclip.Precomputed(data, method, folder=tmp_path/'f', chunk=5)
    a, b = (d.batch([7, 2, 5]) for d in (memory, disk))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a if '_map' in k)
    monkeypatch.setattr(sfclip.SFCLIP, 'vision_targets', None)                        # nobody can be asked
    again = sfclip.Precomputed(data, method, folder=tmp_path/'f').batch([2])
    assert torch.equal(again['text_map'], a['text_map'][1:2])
    refused = lambda *of: pytest.raises(ValueError, match=f"holds other features: ({'|'.join(of)}) ")
    other = World('scene', 1, (32, 32), 1, 16, seed=9, truth=False, captions=True)
    with refused('data', 'first'): sfclip.Precomputed(other, method, folder=tmp_path/'f')
    with refused('samples', 'data'): sfclip.Precomputed(pairs(8), method, folder=tmp_path/'f')
    with torch.no_grad():
        for p in method.frozen['vision'][0].parameters(): p.add_(1)
    with refused('vision'): sfclip.Precomputed(data, method, folder=tmp_path/'f')


def test_resumed_run(tmp_path):
    "Stopped half way and continued: the same weights, bit for bit"
    def learner(out):
        method = student(dropped=.25, image_masked=.25)
        return Learner(method, sfclip.Views(method.config), pairs(), 4, batch=8, out=out, save_every=2, device='cpu',
                       progress=False)
    whole, first = learner(tmp_path/'a'), learner(tmp_path/'b')
    for _ in whole.steps(): pass
    for _ in first.steps(2): pass
    again = learner(tmp_path/'b').load()
    for _ in again.steps(): pass
    theirs = again.method.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in whole.method.state_dict().items())


# The tokenizer

def test_every_caption_comes_back():
    "All languages and styles of some hundred scenes of every kind, to the letter, without bytes"
    from ssl_workbench.world import STYLES, kinds
    from ssl_workbench.world import batch as drawn
    tokenizer = world_tokenizer()
    for kind in kinds:
        for f in drawn(range(40), kind=kind, level=3, size=(16, 16), frames=2, truth=False, captions=True)['facts']:
            for lang, n in STYLES.items():
                for style in range(n):
                    text = write_caption(f, lang, style)
                    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize('text', ['', ' ', '  two  spaces ', 'Émoji 🦊!', 'ENGLISH', "l'étoile", 'a\tb\nc', '一颗星'])
def test_any_text_comes_back(text):
    "Whatever it is"
    tokenizer = world_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_classes_that_no_caption_would_say():
    "Numbers of WordNet train with a warning; two folders of one name are refused"
    from ssl_workbench.data import class_names
    with pytest.warns(UserWarning, match="'n02123045' is a number of WordNet"): class_names(['n02123045', 'n02123159'])
    with pytest.raises(ValueError, match="two classes are called"): class_names(['polar_bear', 'polar bear'])
