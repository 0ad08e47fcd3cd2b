"""Probes by words: what is false of a caption is false of its picture; a model that knows nothing is at chance"""
import math

import pytest
import torch

from ssl_workbench import catalog, probes, world
from ssl_workbench.training import language_scores


@pytest.mark.parametrize('level', [0, 1, 3])
def test_a_negative_is_false_of_the_picture(level):
    "Checked against the truth of the pixels: a noun that is put in is nowhere to be seen"
    drawn = world.batch(range(60), kind='scene', level=level, size=(48, 48), frames=1)
    names = world.classes('scene', level)
    seen = [{names[k] for k in c.unique().tolist() if k} for c in drawn['classes'][:, 0]]
    found = 0
    for facts, there in zip(drawn['facts'], seen):
        every = facts.objects + facts.others
        assert there <= {o[2] for o in every}, 'the facts know of everything in the picture'
        for kind in ('replace object', 'add object', 'subject', 'object'):
            for seed in range(5):
                wrong = world.hard_negative(facts, kind, seed)
                if wrong is None: continue
                new = [o for o in wrong.objects if o not in facts.objects]
                assert len(new) == 1 and new[0][2] not in there
                found += 1
        for kind in ('replace attribute', 'swap attribute', 'swap object', 'add attribute'):
            wrong = world.hard_negative(facts, kind, 1)
            if wrong is None: continue
            new = [o for o in wrong.objects if o not in facts.objects]
            if not new:                                          # two of one noun changed places
                assert all(sum(o[1:] == e[1:] for e in every) == 1 for o in facts.objects[:2])
                continue
            assert not all(any(all(a in ('', b) for a, b in zip(o, e)) for e in every) for o in new), (kind, facts)
    assert found > 200


def test_a_size_that_was_not_measured_is_no_negative():
    for kind in ('walker', 'arm'):
        for facts in world.batch(range(8), kind=kind, level=1, size=(32, 32), frames=1, captions=True)['facts']:
            wrong = world.hard_negative(facts, 'add attribute')
            assert wrong is None or facts.objects[0][2] not in ('person', 'arm')


class Blind(torch.nn.Module):
    "The same of every picture and of every text"
    def embed_images(self, x): return torch.ones(len(x), 4)
    def embed_texts(self, texts): return torch.ones(len(texts), 4)


def test_who_knows_nothing_is_at_chance():
    scenes = world.World('iconic', level=0, frames=1, length=40, size=(16, 16), truth=False, captions=True)
    said = probes.captions_of(scenes)
    assert len(set(said)) < len(said), 'some scenes share a caption'
    found = probes.retrieval(probes.embed_dataset(Blind().embed_images, scenes)['pooled'], said, Blind().embed_texts)
    for way in ('i2t', 't2i'):
        assert all(abs(found[way][k] - found[f'{way}_chance'][k]) < 1e-9 for k in probes.KS)
    pairs = probes.compose_pairs([scenes[i]['facts'] for i in range(40)])
    for row in probes.compose(torch.ones(40, 4), pairs, Blind().embed_texts).values():
        assert row['n'] == 0 and math.isnan(row['accuracy']) or row['accuracy'] == .5


def test_every_kind_of_probe_by_words():
    method = catalog.build('clip', 'cpu').eval()
    for kind, data in (('zeroshot', 'world:iconic:0'), ('retrieval', 'world:scene:0'), ('segment', 'world:scene:0'),
                       ('compose', 'world:scene:0')):
        rows = language_scores(kind, method, data, 12, 8, seeds=(0,))
        assert rows and all(0 <= r.value <= 1 and r.n_test for r in rows) and 'trained' in probes.score_grid(rows)
    other = catalog.load('slotmim')
    with pytest.raises(ValueError, match='clip or sfclip'): language_scores('compose', other, 'world', 4)
    with pytest.raises(ValueError, match='no classes of objects'):
        language_scores('zeroshot', method, 'world:motion:0', 4, 4)


def test_a_random_twin_keeps_the_words_it_was_given():
    method = catalog.build('sfclip', 'cpu')
    method.text.words.weight.data.normal_()
    twin = probes.random_init(method, seed=1)
    assert torch.equal(twin.text.words.weight, method.text.words.weight)
    assert not torch.equal(twin.image_head.weight, method.image_head.weight)
