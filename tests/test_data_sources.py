"""What was found is said; a name means one thing; halves share nothing; other people's data sets"""
import os
import random
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_workbench import data

pytestmark = pytest.mark.filterwarnings('ignore')


def picture(seed): return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8))


def fill(folder, n, first=0, ending='png'):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n): picture(first + k).save(folder/f'{k}.{ending}')
    return folder


def film(path, n=24):
    path.parent.mkdir(parents=True, exist_ok=True)
    return data.write_video(torch.stack([torch.full((3, 24, 32), 9*k, dtype=torch.uint8) for k in range(n)]), path)


def frames_of(part): return [part[i]['frames'].numpy().tobytes() for i in range(len(part))]


def test_no_picture_is_on_both_sides(tmp_path):
    "Random labels, every third file broken, the same picture under two names"
    for c in 'ab':
        fill(tmp_path/c, 40, 100*(c == 'b'))
        for k in range(0, 40, 3): (tmp_path/c/f'{k}.png').write_bytes(b'broken')
        picture(1).save(tmp_path/c/'copy.png')
    train, test = data.labelled_split(tmp_path, 16, 30, 20)
    a, b = frames_of(train), frames_of(test)
    assert len(a) == 30 and len(b) == 20 and not set(a) & set(b) and len(set(b)) == len(b)
    assert set(train.labels) == set(test.labels) == {0, 1} and train.classes == ['a', 'b']
    with pytest.raises(data.BadFile): train.dataset[0]


def test_ten_to_learn_from_a_hundred_to_score(tmp_path):
    fill(tmp_path/'big', 120)
    fill(tmp_path/'small', 2, 500)
    train, test = data.labelled_split(tmp_path, 16, 10, 100)
    assert abs(len(train) - 10) <= 1 and abs(len(test) - 100) <= 1 and set(test.labels) <= set(train.labels)
    fill(tmp_path/'two'/'a', 1)
    fill(tmp_path/'two'/'b', 1, 9)
    with pytest.raises(ValueError, match='too few'): data.labelled_split(tmp_path/'two', 16, 10, 10)


def test_own_splits(tmp_path):
    for k, split in enumerate(('train', 'val')):
        for j, c in enumerate(('cat', 'dog')): fill(tmp_path/split/c, 6, 100*k + 10*j)
    folder = data.ImageFolder(tmp_path, 16)
    assert folder.classes == ['cat', 'dog'] and folder.splits == ['train', 'val'] and len(folder) == 12
    for split, n in (('val', 12), ('all', 24)): assert len(data.ImageFolder(tmp_path, 16, split=split)) == n
    with pytest.raises(ValueError, match='no split'): data.ImageFolder(tmp_path, 16, split='test')
    train, test = data.labelled_split(tmp_path, 16, 100, 100)
    assert len(train) == len(test) == 12 and {whole.split('/')[0] for whole in
           (train.dataset.names[i] for i in test.indices)} == {'val'}


def test_strays_windows_zips_and_links(tmp_path):
    root = tmp_path/'stray'
    for k, c in enumerate('ab'): fill(root/c, 6, 10*k)
    picture(99).save(root/'preview.jpg')
    folder = data.ImageFolder(root, 16)
    assert folder.classes == ['a', 'b'] and len(folder) == 12 and '1 beside the class folders' in folder.report()
    with zipfile.ZipFile(tmp_path/'win.zip', 'w') as z:
        for c in 'ab':
            for j in range(3): z.writestr(zipfile.ZipInfo(f'set\\{c}\\{j}.png'), (root/c/f'{j}.png').read_bytes())
    archive = data.ImageFolder(tmp_path/'win.zip', 16)
    assert archive.classes == ['a', 'b'] and len(archive) == 6 and archive[4]['frames'].equal(folder[7]['frames'])
    linked = fill(tmp_path/'linked'/'own', 4, 50).parent
    os.symlink(root/'a', linked/'other')
    os.symlink(linked, linked/'own'/'loop')
    assert len(data.ImageFolder(linked, 16)) == 10 and data.ImageFolder(linked, 16).classes == ['other', 'own']


def test_nothing_is_left_out_in_silence(tmp_path):
    fill(tmp_path, 3)
    for k in range(4): (tmp_path/f'{k}.HEIC').write_bytes(b'\0\0\0\x24ftypheic' + bytes(90))
    (tmp_path/'notes.txt').write_text('no picture')
    (tmp_path/'abc').write_bytes((tmp_path/'0.png').read_bytes())
    film(tmp_path/'live.mov')
    film(tmp_path/'.thumbs'/'a.mp4')
    film(tmp_path/'@eaDir'/'b.mp4')
    folder = data.open_data(tmp_path, size=16)
    line = data.report(folder)
    assert len(folder) == 4 and '\n' not in line
    assert all(word in line for word in ('4 pictures', '4 .heic', '1 .mov', '1 .txt', 'pillow-heif'))
    with pytest.raises(data.BadFile, match='pillow-heif'): data.read_image(tmp_path/'0.HEIC')
    assert len(data.VideoFolder(tmp_path, 8, size=16).videos) == 2  # the film and the folder of stills


def test_a_name_means_one_thing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path/'world_tour', 3)
    for name in ('world_tour', './world_tour'): assert isinstance(data.open_data(name, size=16), data.ImageFolder)
    assert data.parse_source('world:scene:1').kind == 'world' and data.parse_source('world').options == ()
    for wrong in ('world:scene:x', 'world:a:b:c', 'worldly', 'nothing'):
        with pytest.raises(ValueError): data.open_data(wrong)
    mixed = data.open_data('world:scene:0+world_tour', size=16, frames=1, length=5, truth=False)
    assert len(mixed) == 10 and mixed[1]['frames'].shape == mixed[0]['frames'].shape
    with pytest.raises(ValueError, match='length'): data.open_data('world_tour', size=16, length=5)
    with pytest.raises(ValueError, match='clips'): data.open_data('world_tour/0.png', size=16, frames=8)
    with pytest.raises(ValueError, match='single pictures'): data.open_pairs('world_tour/0.png')


def test_zips_of_films_and_frames(tmp_path):
    film(tmp_path/'a.mp4')
    fill(tmp_path/'seq', 20)
    with zipfile.ZipFile(tmp_path/'films.zip', 'w') as z: z.write(tmp_path/'a.mp4', 'a.mp4')
    with zipfile.ZipFile(tmp_path/'frames.zip', 'w') as z:
        for k in range(20): z.write(tmp_path/'seq'/f'{k}.png', f'seq/{k}.png')
    for zipped, plain in (('films.zip', 'a.mp4'), ('frames.zip', 'seq')):
        a, b = (data.open_data(tmp_path/n, size=16, frames=4, stride=2) for n in (zipped, plain))
        assert len(a) == len(b) > 1 and all(a[i]['frames'].equal(b[i]['frames']) for i in range(len(a)))
    assert data.open_pairs(tmp_path/'films.zip', size=16)[3]['frames'].shape == (2, 3, 16, 16)
    picked = data.open_data(tmp_path/'films.zip', size=16)
    assert picked[0]['frames'].shape == (1, 3, 16, 16) and data.memory_needed(picked) == len(picked)*3*16*16


def test_class_folders_in_linear_time():
    names = [f'{k % 10000:05}/{k}.jpg' for k in range(100_000)]
    random.Random(0).shuffle(names)
    begin = time.perf_counter()
    classes, labels = data.folder_classes(names)
    assert len(classes) == 10000 and len(labels) == 100_000 and time.perf_counter() - begin < 10


def test_deep_files_say_that_they_are_dark(tmp_path):
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path/'twelve.png')
    with pytest.warns(UserWarning, match='twelve.png'): dark = data.read_image(tmp_path/'twelve.png')
    assert dark.max() == 16 and data.read_image(tmp_path/'twelve.png', white=4095).max() == 255
    Image.fromarray(np.linspace(0, 255, 64).astype(np.float32).reshape(8, 8)).save(tmp_path/'f.tif')
    assert data.read_image(tmp_path/'f.tif', white=255).max() == 255
    assert data.ImageFolder(tmp_path/'twelve.png', 8, white=4095)[0]['frames'].max() == 255


class Other(torch.utils.data.Dataset):
    def __init__(self, sample): self.sample = sample
    def __len__(self): return 4
    def __getitem__(self, i): return self.sample


@pytest.mark.parametrize('sample', [(torch.rand(3, 8, 10), 1), (picture(0), 2), {'pixel_values': torch.rand(3, 8, 10)},
                                    {'image': picture(1), 'label': 3}, torch.rand(3, 8, 10), picture(4),
                                    (np.zeros((8, 10, 3), np.uint8), 0)])
def test_other_data_sets_are_adapted(sample):
    got = data.adapt(Other(sample))[0]
    assert got['frames'].dtype == torch.uint8 and got['frames'].shape[:2] == (1, 3) and got['aspect'] > 1


@pytest.mark.parametrize('sample', ['text', {'x': 1}, torch.rand(5), torch.randn(3, 8, 8), (torch.rand(1, 8, 8), 0)])
def test_other_data_sets_are_refused(sample):
    with pytest.raises(ValueError) as caught: data.adapt(Other(sample))
    assert '\n' not in str(caught.value)


def test_mutated_files_of_all_kinds():
    "A few hundred of the 4,500 of `python -m benchmarks.robustness files`"
    from benchmarks import robustness
    figures = robustness.run(300, 7)
    assert not figures['wrong'] and figures['read'] > 30 and figures['refused'] > 30
    assert figures['slowest_seconds'] < 10 and figures['memory_grown_gb'] < 2
