"""Images with captions from a table or from shards: read, refused in a sentence, counted, trained on"""
import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_workbench import data
from ssl_workbench.learner import collate

pytestmark = pytest.mark.filterwarnings('ignore')


def png(seed, size=(24, 16)):
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, 'PNG')
    return out.getvalue()


def pictures(folder, n=6):
    (folder/'img').mkdir(parents=True, exist_ok=True)
    for k in range(n): (folder/'img'/f'{k}.png').write_bytes(png(k))
    return folder


def table(folder, lines, name='pairs.csv', encoding='utf-8'):
    path = folder/name
    path.write_bytes('\n'.join(lines).encode(encoding))
    return path


def shard(path, members):
    with tarfile.open(path, 'w') as archive:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


def members(k): return [(f'a/{k:03d}.png', png(k)), (f'a/{k:03d}.txt', f'caption {k}'.encode())]


def test_columns_separators_encodings(tmp_path):
    pictures(tmp_path)
    for mark, name in ((',', 'a.csv'), (';', 'b.csv'), ('\t', 'c.tsv'), ('|', 'd.csv')):
        for encoding in ('utf-8', 'utf-8-sig', 'utf-16'):
            path = table(tmp_path, [f'Text{mark}FilePath', f'étoile 🙂{mark}img/1.png'], name, encoding)
            one = data.open_data(path, size=16)
            assert one.captions == ['étoile 🙂'] and one[0]['frames'].shape == (1, 3, 16, 16), (mark, encoding)
            assert one[0]['aspect'] == 1.5
    named = table(tmp_path, ['a,b,text', 'img\\0.png,"two,\nlines",x'])
    assert data.open_data(f'{named}:image=a,caption=b').captions == ['two, lines']
    assert data.open_data(f'{named}:image=a,en=b,es=text')[0]['caption'] == dict(en='two, lines', es='x')
    latin = table(tmp_path, ['path;title', 'img/0.png;étoile'], 'latin.csv', 'cp1252')
    with pytest.raises(data.BadFile, match='line 2 is not UTF-8'): data.open_data(latin)
    assert data.open_data(f'{latin}:encoding=cp1252').captions == ['étoile']
    with pytest.raises(data.BadFile, match='no encoding'): data.open_data(f'{latin}:encoding=klingon')


@pytest.mark.parametrize('lines, sentence', [
    ([''], 'the file is empty'), (['a,b', '1,2'], 'there are a, b'), (['url,caption', 'http,x'], 'download'),
    (['path,b', 'img/0.png,x'], 'no column for the caption'), (['path,caption'], 'no picture with a caption'),
    (['path,caption', 'img/0.png,'], '1 pictures without a caption'), (['path,caption', 'no.png,x'], 'not there'),
    (['path,caption', '"img/0.png,x'], 'no picture with a caption'), (['\0\1\2', '\0'], 'no column')])
def test_tables_that_cannot_be_used(tmp_path, lines, sentence):
    with pytest.raises(data.BadFile, match=sentence) as error: data.open_data(table(pictures(tmp_path), lines))
    assert str(error.value).startswith('pairs.csv') and '\n' not in str(error.value)


def test_what_is_left_out_is_counted(tmp_path):
    lines = ['image,caption', 'img/0.png,one', 'img/1.png, ', ',two', 'img/2.png,three,four', 'gone.png,five',
             'bad.png,six', f'img/3.png,{"x" * 10_000}', 'img/4.png,🙂']
    (tmp_path/'bad.png').write_bytes(b'no picture')
    found = data.open_data(table(pictures(tmp_path), lines), size=16)
    found.check()
    assert found.captions == ['one', 'six', 'x' * 10_000, '🙂']
    for part in ('1 pictures without a caption', '1 rows without a picture', '1 rows with more cells',
                 'not there (gone.png)', '1 bad: bad.png'): assert part in found.report(), part
    assert found[1]['caption'] == 'x' * 10_000       # the next pair, picture and caption
    assert (found[1]['frames'] == found[2]['frames']).all()


def test_captions_stay_with_their_pictures_in_batches(tmp_path):
    "With and without the cache, from workers, in several languages, and mixed"
    rows = [f'img/{k}.png,one {k},uno {k}' for k in range(6)]
    two = table(pictures(tmp_path), ['path,caption_en,caption_es', *rows], 'two.csv')
    plain = table(tmp_path, ['path,caption', *[f'img/{k}.png,picture {k}' for k in range(6)]])
    found = data.open_data(two, size=16)
    assert found.languages == ['en', 'es'] and 'captions in en, es' in found.report()
    order = [4, 0, 3]
    batch = collate([found[i] for i in order])
    assert batch['caption'] == [dict(en=f'one {i}', es=f'uno {i}') for i in order]
    kept = data.open_data(two, size=16, cache=True)
    again = kept.batch(order)
    assert again['caption'] == batch['caption'] and torch.equal(again['frames'], batch['frames'])
    assert kept[4]['caption'] == found[4]['caption']
    plainly = data.open_data(plain, size=16)
    loader = torch.utils.data.DataLoader(plainly, batch_size=3, num_workers=1, collate_fn=collate)
    assert [c for b in loader for c in b['caption']] == [f'picture {k}' for k in range(6)]
    mixed = data.open_data(f'{plain}+{plain}', size=16)
    assert mixed[2]['caption'] == 'picture 1'
    for part in mixed.parts: part.keep()
    mixed = data.Interleaved(mixed.parts)
    assert mixed.batch([0, 5])['caption'] == ['picture 0', 'picture 2']


def test_parquet(tmp_path):
    pa = pytest.importorskip('pyarrow')
    from pyarrow import parquet
    pictures(tmp_path)
    path = str(tmp_path/'pairs.parquet')
    cells = dict(image=[dict(bytes=png(0), path='x.png'), dict(bytes=None, path='img/1.png'), None],
                 caption=[['one', 'two'], ['three'], ['four']])
    parquet.write_table(pa.table(cells), path)
    found = data.open_data(path, size=16)
    assert found.captions == ['one', 'two', 'three'] and '1 rows without a picture' in found.report()
    assert torch.equal(found[0]['frames'], found[1]['frames']) and len(found.check()) == 0
    whole = open(path, 'rb').read()
    open(path, 'wb').write(whole[:-20])
    with pytest.raises(data.BadFile, match='not a whole Parquet file'): data.open_data(path)


def test_parquet_without_the_extra(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    (tmp_path/'a.parquet').write_bytes(b'PAR1')
    with pytest.raises(data.BadFile, match=r'ssl_workbench\[tables\]'): data.open_data(tmp_path/'a.parquet')


def test_shards(tmp_path):
    words = json.dumps(dict(caption_en='a star', caption_es='una estrella')).encode()
    shard(tmp_path/'two.tar', [('1.jpg', png(1)), ('1.json', words), ('2.png', png(2)), ('2.json', b'{'),
                               ('3.txt', b'alone'), ('4.png', png(4)), ('4.txt', b'\xff\xff')])
    two = data.open_data(tmp_path/'two.tar', size=16)
    assert two.captions == [dict(en='a star', es='una estrella')]
    assert '2 text files that cannot be read' in two.report() and '1 rows without a picture' in two.report()
    folder = tmp_path/'shards'
    folder.mkdir()
    for n in (2, 10, 1): shard(folder/f's{n}.tar', sum(map(members, range(10*n, 10*n + 3)), []))
    found = data.open_data(folder, size=16)
    assert found.captions == [f'caption {k}' for n in (1, 2, 10) for k in range(10*n, 10*n + 3)]
    assert torch.equal(found[4]['frames'][0], data.resize_image(data.read_image(png(21)), 16)[0])


@pytest.mark.parametrize('harm, left, sentence', [
    (lambda raw: raw[:len(raw)//2], 4, 'cut short after'), (lambda raw: raw[:700], 3, 'not read'),
    (lambda raw: raw[:2*1536] + b'x'*512 + raw[2*1536 + 512:], None, 'damaged after'), (lambda raw: b'', 3, 'empty'),
    (lambda raw: b'no tar' * 200, 3, 'not a tar file')])
def test_a_broken_shard_is_said(tmp_path, harm, left, sentence):
    for n in (1, 2): shard(tmp_path/f's{n}.tar', sum(map(members, range(10*n, 10*n + 3)), []))
    whole = (tmp_path/'s2.tar').read_bytes()
    whole = whole[:(len(whole.rstrip(b'\0')) // 512 + 2)*512]
    (tmp_path/'s2.tar').write_bytes(harm(whole))
    found = data.open_data(tmp_path, size=16)
    assert sentence in found.report() and 3 <= len(found) < 6 and (left is None or len(found) == left), found.report()
    assert not found.check()


def test_a_shard_that_shrinks_later(tmp_path):
    shard(tmp_path/'s.tar', sum(map(members, range(4)), []))
    found = data.open_data(tmp_path/'s.tar', size=16)
    whole = (tmp_path/'s.tar').read_bytes()
    (tmp_path/'s.tar').write_bytes(whole[:3000])
    assert len(found.check()) == 3 and 'cut short here' in found.skipped[0][1]


def test_other_methods_read_the_pictures_alone(tmp_path):
    path = table(pictures(tmp_path), ['path,caption', *[f'img/{k}.png,picture {k}' for k in range(6)]])
    with pytest.raises(ValueError, match='single pictures'): data.open_pairs(path)
    with pytest.raises(ValueError, match='no labels'): data.labelled_split(path, 16, 2, 2)
    with pytest.raises(ValueError, match='no clips'): data.open_data(path, frames=4)
    (tmp_path/'plain').mkdir()
    (tmp_path/'plain'/'0.png').write_bytes(png(0))
    table(tmp_path/'plain', ['a,b'], 'labels.csv')
    assert isinstance(data.open_data(tmp_path/'plain'), data.ImageFolder)
