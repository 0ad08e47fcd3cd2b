"""Public sets as they are unpacked, on imitations; DAVIS and Tiny-ImageNet themselves where they are"""
import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_workbench import core, data, probes

pytestmark = pytest.mark.filterwarnings('ignore')


def film(path, n=20, shade=0):
    "A small film; its first frames tell its shade"
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = torch.full((n, 3, 32, 48), shade, dtype=torch.uint8)
    return data.write_video(frames, path, codec={'.avi': 'mpeg4', '.webm': 'libvpx'}.get(path.suffix, 'libx264'))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def kinetics(root):
    "Two classes, flat folders, CSVs; one film of the list is lost, one that is there is not listed"
    head = 'label,youtube_id,time_start,time_end,split\n'
    rows = '"abseiling, fast",aaa,3,13,train\nzumba,bbb,0,10,train\nzumba,lost,5,15,train\n'
    write(root/'annotations/train.csv', head + rows)
    write(root/'annotations/validate.csv', head + 'zumba,ccc,100,110,val\n')
    for k, name in enumerate(('train/aaa_000003_000013', 'train/bbb_000000_000010', 'train/other_000000_000010',
                              'val/zumba/ccc_000100_000110')): film(root/f'{name}.mp4', shade=40*k)
    return root


def ucf101(root):
    for k, name in enumerate(('Archery/v_Archery_g01_c01', 'Archery/v_Archery_g02_c01',
                              'HandstandPushups/v_HandStandPushups_g01_c01')):
        film(root/'UCF-101'/f'{name}.avi', shade=40*k)
    lists = root/'ucfTrainTestlist'
    write(lists/'classInd.txt', '1 Archery\r\n2 HandstandPushups\r\n')
    train = 'Archery/v_Archery_g01_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g01_c01.avi 2\r\n'
    write(lists/'trainlist01.txt', train)
    write(lists/'testlist01.txt', 'Archery/v_Archery_g02_c01.avi\n\n')
    write(lists/'trainlist02.txt', 'Archery/v_Archery_g02_c01.avi 1\n')
    return root


def hmdb51(root):
    for k, name in enumerate(('run/one film (1)', 'run/two', 'run/three', 'wave/one')):
        film(root/'videos'/f'{name}.avi', shade=40*k)
    write(root/'splits/run_test_split1.txt', 'one film (1).avi 1 \ntwo.avi 2 \nthree.avi 0 \n')
    write(root/'splits/wave_test_split1.txt', 'one.avi 1 \n')
    return root


def ssv2(root):
    for k in (1, 2, 3): film(root/f'20bn-something-something-v2/{k}.webm', shade=40*k)
    rows = [dict(id='1', label='pushing a cup', template='Pushing [something]', placeholders=['a cup']),
            dict(id=2, template='Holding [something] up')]
    write(root/'labels/train.json', json.dumps(rows))
    write(root/'labels/something-something-v2-train.json', json.dumps(rows))
    write(root/'labels/test.json', json.dumps([dict(id='3')]))
    numbers = {'Holding something up': '0', 'Pushing something': '1'}
    write(root/'labels/something-something-v2-labels.json', json.dumps(numbers))
    return root


SETS = {                              # maker, class, split → (labels, names of the films), classes
    'kinetics': (kinetics, 'Kinetics', dict(train=[0, 1], val=[1]), ['abseiling, fast', 'zumba']),
    'ucf101': (ucf101, 'UCF101', dict(train=[0, 1], test=[0]), ['Archery', 'HandstandPushups']),
    'hmdb51': (hmdb51, 'HMDB51', dict(train=[0, 1], test=[0]), ['run', 'wave']),
    'ssv2': (ssv2, 'SSv2', dict(train=[1, 0]), ['Holding something up', 'Pushing something'])}
every_set = pytest.mark.parametrize('name', SETS)


@every_set
def test_layouts_by_path_and_by_name(name, tmp_path, monkeypatch):
    "Recognised at a path, found by name in the data folder; labels and classes as its lists have them"
    make, kind, splits, classes = SETS[name]
    kind = getattr(data, kind)
    root = make(tmp_path/kind.folders[0])
    monkeypatch.setenv('SSL_DATA', str(tmp_path))
    for source in (str(root), name):
        for split, labels in splits.items():
            if split == 'val' and name != 'kinetics': continue
            clips = data.open_data(source, split=split, frames=8, every=100, size=32)
            assert type(clips) is kind and clips.classes == classes and clips.labels == labels
            assert [clips[i]['label'] for i in range(len(clips))] == labels
            assert clips[0]['frames'].shape == (8, 3, 32, 32) and clips[0]['aspect'] == 1.5
            assert f'split {split}' in clips.report() and '\n' not in clips.report()
        pictures = data.open_data(source, size=32)
        assert pictures[0]['frames'].shape == (1, 3, 32, 32) and len(pictures) == 3*len(splits['train'])
        assert data.open_pairs(source, size=32)[0]['frames'].shape == (2, 3, 32, 32)
    assert len(data.open_data(name, frames=4, size=32, count=3)) == 3


def test_each_film_has_its_own_label(tmp_path):
    "Shades of the films tell which is which: what is not listed is left out, what is lost is counted"
    clips = data.Kinetics(kinetics(tmp_path), frames=4, every=100, size=16)
    assert '1 more are listed and not there' in clips.report()
    shades = [clips[i]['frames'].float().mean().item() for i in range(2)]
    assert abs(shades[0] - 0) < 8 and abs(shades[1] - 40) < 8
    second = data.UCF101(ucf101(tmp_path/'u'), fold=2, frames=4, every=100, size=16)
    assert second.names == ['UCF-101/Archery/v_Archery_g02_c01.avi'] and 'fold 2' in second.report()
    assert data.SSv2(ssv2(tmp_path/'s'), 'test', frames=4, size=16).labels is None


def test_kinetics_in_class_folders_and_frames_in_folders(tmp_path):
    "Without lists: train/<class>; a film may be a folder of its frames"
    for c in 'ab': film(tmp_path/f'kinetics/train/{c}/x.mp4')
    clips = data.Kinetics(tmp_path/'kinetics', frames=4, every=100, size=16)
    assert clips.classes == ['a', 'b'] and clips.labels == [0, 1]
    root = ucf101(tmp_path/'u')
    path = root/'UCF-101/Archery/v_Archery_g01_c01.avi'
    frames = data.read_video(path)
    path.unlink()
    path.with_suffix('').mkdir()
    for k, frame in enumerate(frames):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(path.with_suffix('')/f'{k:05d}.png')
    clips = data.UCF101(root, frames=20, size=(32, 48))
    assert clips.labels == [0, 1] and torch.equal(clips[0]['frames'], frames)


@every_set
def test_what_is_not_there_is_one_sentence(name, tmp_path, monkeypatch):
    "No set, no such split, no list, no film, a list of nonsense"
    make, kind, splits, _ = SETS[name]
    kind = getattr(data, kind)
    monkeypatch.setenv('SSL_DATA', str(tmp_path))
    with pytest.raises(data.BadFile, match=f'^{name}: none of {kind.folders[0]}') as error: data.open_data(name)
    assert '\n' not in str(error.value)
    with pytest.raises(ValueError, match="no split 'half'"): kind(tmp_path, 'half')
    with pytest.raises(data.BadFile, match='no list of the split train'): kind(tmp_path)
    root = make(tmp_path/'set')
    for path in root.rglob('*'):
        if path.suffix in ('.avi', '.mp4', '.webm'): path.write_bytes(b'broken')
    with pytest.raises(data.BadFile): kind(root, frames=4)
    lists = [p for p in root.rglob('*') if p.suffix in ('.csv', '.json') or 'Ind' in p.name or 'split1' in p.name]
    for path in lists: path.write_bytes(b'\xff\xfe{nonsense')
    with pytest.raises(data.BadFile) as error: kind(root, frames=4)
    assert '\n' not in str(error.value)


def test_a_train_csv_alone_makes_no_kinetics(tmp_path):
    "A folder of pictures with a train.csv of its own stays what it is"
    Image.new('RGB', (20, 20)).save(tmp_path/'a.png')
    write(tmp_path/'train.csv', 'id,target\na,1\n')
    assert type(data.open_data(tmp_path, size=16)) is data.ImageFolder


# ---- DAVIS

def davis(root, n=6, palette=False):
    "Two sequences; a square that moves, as 0 and 255 or as two numbers of a palette"
    for k, name in enumerate(('bear', 'car')):
        for kind in ('JPEGImages', 'Annotations'): (root/kind/'480p'/name).mkdir(parents=True)
        for t in range(n):
            mask = np.zeros((24, 40), np.uint8)
            mask[4:12, 2 + t:14 + t] = 1 if palette else 255
            if palette: mask[14:20, 20:30] = 2
            picture = Image.fromarray(mask, 'P' if palette else 'L')
            if palette: picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            picture.save(root/f'Annotations/480p/{name}/{t:05d}.png')
            frame = Image.fromarray(np.full((24, 40, 3), 20*t + 60*k, np.uint8))
            frame.save(root/f'JPEGImages/480p/{name}/{t:05d}.jpg')
    return root


@pytest.mark.parametrize('palette', [False, True])
def test_davis_of_both_years(tmp_path, palette, monkeypatch):
    "Masks as numbers of objects, on the canvas of the frames; windows, strides, chosen sequences; by name and by path"
    root = davis(tmp_path/'davis', palette=palette)
    monkeypatch.setenv('SSL_DATA', str(tmp_path))
    for source in (str(root), 'davis'):
        films = data.open_data(source, frames=4)
        assert type(films) is data.Davis and films.names == ['bear', 'car'] and '480p' in films.report()
        one = films[1]
        assert one['frames'].shape == (4, 3, 24, 40) and one['instances'].shape == (4, 24, 40)
        assert one['instances'].unique().tolist() == ([0, 1, 2] if palette else [0, 1])
        assert (one['instances'][3] == 1).nonzero().min(0).values.tolist() == [4, 5]
    windows = data.Davis(root, frames=2, stride=2, every=1, size=(12, 20), sequences=['car'])
    assert len(windows) == 4 and windows[3]['instances'].shape == (2, 12, 20)
    assert abs(windows[3]['frames'][0].float().mean() - (60 + 60)) < 3
    assert data.Davis(root, frames=None)[0]['frames'].shape[0] == 6
    scores = probes.video_segmentation(lambda x: torch.nn.functional.pixel_unshuffle(x, 4), list(films))
    assert scores['still']['objects'] == (4 if palette else 2)


def test_davis_that_is_damaged(tmp_path):
    "Too short, a mask that is lost, of another size or in colours: skipped and counted, or a sentence"
    root = davis(tmp_path/'davis')
    with pytest.raises(data.BadFile, match='6 frames where 9 are needed'): data.Davis(root, frames=9)
    with pytest.raises(ValueError, match='no sequence lion: it has bear, car'): data.Davis(root, sequences=['lion'])
    (root/'Annotations/480p/bear/00002.png').unlink()
    films = data.Davis(root, frames=4)
    assert films[0]['frames'].float().mean() > 55 and films.skipped[0][0] == 'bear'
    for picture in (Image.new('L', (10, 10)), Image.new('RGB', (40, 24))):
        picture.save(root/'Annotations/480p/car/00001.png')
        with pytest.raises(data.BadFile): data.Davis(root, frames=4)
    with pytest.raises(data.BadFile, match='SSL_DATA'): data.Davis(tmp_path/'davis/JPEGImages')


# ---- Tiny-ImageNet

def test_tiny_imagenet_by_name(tmp_path, monkeypatch):
    "Zips of both splits; words where the file has them; a labelled split of the two"
    for split, n in (('train', 6), ('val', 2)):
        with zipfile.ZipFile(tmp_path/f'tiny_imagenet_{split}.zip', 'w') as z:
            for c in ('n02', 'n01', 'n03'):
                for k in range(n):
                    box = io.BytesIO()
                    draw = np.random.default_rng(k + 9*int(c[1:]))
                    Image.fromarray(draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(box, 'JPEG')
                    z.writestr(f'{split}/{c}/{split}_{k}.jpg', box.getvalue())
    monkeypatch.setenv('SSL_DATA', str(tmp_path))
    assert data.open_data('tiny_imagenet').classes == ['n01', 'n02', 'n03']
    write(tmp_path/'tiny_imagenet_words.txt', 'n01\tgoldfish, Carassius auratus\nn02\ttree frog\nbroken line\n')
    photos = data.open_data('tiny_imagenet', split='val', size=32)
    assert photos.classes == ['goldfish', 'tree frog', 'n03'] and photos.labels == [0, 0, 1, 1, 2, 2]
    assert photos[5]['frames'].shape == (1, 3, 32, 32) and photos[5]['label'] == 2
    train, test = data.labelled_split('tiny_imagenet', 32, 12, 6)
    assert len(train) == 12 and len(test) == 6 and train.classes == test.classes
    with pytest.raises(ValueError, match='train, val'): data.open_data('tiny_imagenet', split='test')
    with pytest.raises(data.BadFile, match='_train.zip: not found'): data.TinyImageNet(tmp_path/'elsewhere')


def test_tiny_imagenet_as_unpacked(tmp_path, monkeypatch):
    "tiny-imagenet-200: classes agree between the splits, pictures keep their boxes, a broken list is one sentence"
    root = tmp_path/'tiny-imagenet-200'
    for c, wnid in enumerate(('n02', 'n01', 'n10')):
        for k in range(3):
            for part, name in (('train', f'{wnid}/images/{wnid}_{k}'), ('val', f'images/val_{3*k + c}')):
                (root/part/name).parent.mkdir(parents=True, exist_ok=True)
                Image.new('RGB', (64, 64), (80*c, 20*k, 0)).save(root/part/f'{name}.JPEG')
    write(root/'wnids.txt', 'n02\nn10\nn01\n')
    write(root/'words.txt', 'n01\tgoldfish, Carassius auratus\nn02\ttree frog\n')
    rows = [f'val_{3*k + c}.JPEG\t{wnid}\t{k}\t2\t{40 + k}\t63' for c, wnid in enumerate(('n02', 'n01', 'n10'))
            for k in range(3)]
    write(root/'val/val_annotations.txt', '\n'.join(rows))
    monkeypatch.setenv('SSL_DATA', str(tmp_path))
    train, val = (data.open_data('tiny_imagenet', split=s) for s in ('train', 'val'))
    assert train.classes == val.classes == ['goldfish', 'tree frog', 'n10'] and len(train) == len(val) == 9
    assert val.labels == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.TinyImageNet(split='val', count=3).labels == [0, 1, 2]
    for i in range(9):
        assert abs(int(val[i]['frames'][0, 0].float().mean()) - 80*(1, 0, 2)[val[i]['label']]) < 8
        assert val[i]['boxes'].shape == (1, 1, 4) and val[i]['boxes'][0, 0, 3] == 64
    assert data.open_data('tiny_imagenet', split='val', size=128)[1]['boxes'].tolist() == [[[2, 4, 84, 128]]]
    assert 'boxes' not in train[0] and isinstance(data.open_data(root), data.TinyImageNet)
    assert all(len(half) for half in data.labelled_split('tiny_imagenet', 32, 6, 3))
    write(root/'val/val_annotations.txt', 'val_0.JPEG n01 a b c d')
    with pytest.raises(data.BadFile): data.open_data('tiny_imagenet', split='val')


def test_sequences_of_davis_by_name(tmp_path, monkeypatch):
    "Some sequences to train on, the others to be judged"
    davis(tmp_path/'davis')
    monkeypatch.setenv('SSL_DATA', str(tmp_path))
    assert data.open_data('davis:bear', frames=4).names == ['bear']
    assert len(data.open_pairs('davis:car+davis:bear', size=24)) > 2
    assert data.open_data('davis:bear', frames=1, size=24)[0]['frames'].shape == (1, 3, 24, 24)
    with pytest.raises(ValueError, match='no sequence lion'): data.open_data('davis:lion')


# ---- the real ones

def test_davis_itself():
    root = core.data_root()
    if not root or not (root/'davis').is_dir(): pytest.skip('no davis in the data folder (SSL_DATA)')
    films = data.open_data('davis', frames=24, size=(120, 216))
    assert len(films) == 10 and films[4]['instances'].unique().tolist() == [0, 1]


def test_tiny_imagenet_itself():
    root = core.data_root()
    if not root or not (root/'tiny_imagenet_val.zip').exists(): pytest.skip('no Tiny-ImageNet (SSL_DATA)')
    photos = data.open_data('tiny_imagenet', split='val')
    assert len(photos) == 5000 and len(photos.classes) == 200 and 'goldfish' in photos.classes


def test_a_range_of_strides_keeps_each_clips_label(tmp_path):
    "Another stride is another choice of clips: each keeps the class of its film"
    root = ucf101(tmp_path/data.UCF101.folders[0])
    one = data.open_data(root, split='train', frames=2, stride=1, every=1, size=32)
    two = one.at_stride(3)
    assert len(two.labels) == len(two.clips) < len(one.clips) == len(one.labels)
    assert all(two[i]['label'] == two.label_of[two.clips[i][0]] for i in range(len(two)))
