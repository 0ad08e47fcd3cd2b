"""Reading other people's files: every bad kind, a thousand mutated files, datasets over half-broken folders"""
import io
import multiprocessing
import pickle
import random
import struct
import warnings
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.robustness import mutated
from ssl_workbench import data
from ssl_workbench.core import data_root
from ssl_workbench.data import BadFile, read_image, read_video

ROOT = data_root()


needs = lambda name: pytest.mark.skipif(not ROOT or not (ROOT/name).exists(),
                                        reason=f'{name} is not in the data folder')


def scene(h=40, w=56, t=0):
    "A bright picture with an edge that moves"
    y, x = np.mgrid[:h, :w]
    a = np.stack([200 - y, 90 + x, np.full((h, w), 120)], -1)
    a[(x > 8 + 3*t) & (x < 24 + 3*t) & (y > h//4)] = [230, 60, 40]
    return Image.fromarray(a.clip(0, 255).astype(np.uint8))


def encoded(picture, kind, **kw):
    out = io.BytesIO()
    picture.save(out, kind, **kw)
    return out.getvalue()


def clip(n=10, h=40, w=56):
    return torch.stack([torch.from_numpy(np.array(scene(h, w, t))).permute(2, 0, 1) for t in range(n)])


def film(tmp_path, ending='mp4', **kw):
    return data.write_video(clip(), tmp_path/f'film.{ending}', **kw)


def sentence(read, path):
    "The sentence with which a file is refused; it is one line, and names the file"
    with pytest.raises(BadFile) as caught: read(path)
    text = str(caught.value)
    assert isinstance(caught.value, ValueError) and '\n' not in text and 10 < len(text) < 400 and text.endswith('.')
    if hasattr(path, 'name'): assert path.name in text
    return text


def png(w, h, paths=b'', bits=8, colour=0):
    "A PNG by hand: what its header says need not be what its body holds"
    chunk = lambda k, b: struct.pack('>I', len(b)) + k + b + struct.pack('>I', zlib.crc32(k + b))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, bits, colour, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(paths)) + chunk(b'IEND', b''))


# ---- pictures that must be refused

BAD = {
    'truncated.jpg': lambda: encoded(scene(), 'JPEG')[:700],
    'truncated.png': lambda: encoded(scene(), 'PNG')[:-40],
    'truncated.gif': lambda: encoded(scene(), 'GIF')[:-900],
    'truncated.webp': lambda: encoded(scene(), 'WEBP')[:-40],
    'truncated.bmp': lambda: encoded(scene(), 'BMP')[:-500],
    'truncated.tif': lambda: encoded(scene(), 'TIFF')[:-500],
    'header_only.jpg': lambda: encoded(scene(), 'JPEG')[:20],
    'zero.jpg': lambda: b'',
    'text.jpg': lambda: b'Dear diary, today I renamed a letter.\n'*20,
    'zeros.png': lambda: bytes(5000),
    'bomb.png': lambda: png(60000, 60000, bytes(10**6)),
    'wide_bomb.png': lambda: png(20000, 4000, bytes(10**5)),
    'short_body.png': lambda: png(64, 64, bytes(100)),
    'script.eps': lambda: b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n',
    'float.tif': lambda: encoded(Image.fromarray(np.linspace(-9, 9, 64, dtype=np.float32).reshape(8, 8)), 'TIFF'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_picture_is_refused_in_one_sentence(tmp_path, name):
    path = tmp_path/name
    path.write_bytes(BAD[name]())
    sentence(read_image, path)
    sentence(read_video, path)
    with pytest.raises(BadFile): read_image(BAD[name]())


def test_what_is_not_a_file(tmp_path):
    assert 'folder' in sentence(read_image, tmp_path)
    assert 'no such file' in sentence(read_image, tmp_path/'missing.jpg')
    assert 'no such file' in sentence(read_video, tmp_path/'missing.mp4')
    assert 'empty' in sentence(read_image, b'')
    assert sentence(read_image, None) == 'No file was given.'
    assert '\n' not in sentence(read_image, str(tmp_path/'two\nlines.jpg'))
    sentence(read_image, 'null\0byte.jpg')
    sentence(read_image, 'x'*5000)
    sentence(read_image, '/dev/null')


def test_a_film_is_not_a_picture(tmp_path):
    assert 'not a picture' in sentence(read_image, film(tmp_path))


def test_sentence_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(BadFile('a.jpg: the file is empty (0 bytes).')))
    assert str(error) == 'a.jpg: the file is empty (0 bytes).'


# ---- pictures that must be used

def near(image, tolerance=4.):
    "Whether an image is the scene"
    truth = torch.from_numpy(np.array(scene())).permute(2, 0, 1).float()
    return image.shape == truth.shape and (image.float() - truth).abs().mean() < tolerance


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'WEBP', 'BMP', 'TIFF', 'PPM', 'JPEG2000', 'AVIF'])
def test_formats(kind):
    if kind not in data.supported_formats(): pytest.skip(f'this Pillow has no {kind}')
    assert near(read_image(encoded(scene(), kind)), 8.)


def test_modes_come_out_right():
    grey = torch.from_numpy(np.array(scene().convert('L')))
    assert read_image(encoded(scene().convert('L'), 'PNG')).equal(grey.expand(3, -1, -1))
    assert near(read_image(encoded(scene().quantize(64), 'PNG')), 8.)
    assert near(read_image(encoded(scene().convert('CMYK'), 'JPEG', quality=95)))
    assert near(read_image(encoded(scene().convert('CMYK'), 'TIFF')))
    assert set(read_image(encoded(scene().convert('1'), 'PNG')).unique().tolist()) == {0, 255}
    assert near(read_image(encoded(scene().convert('YCbCr'), 'JPEG', quality=95)))


def test_deep_pictures_are_scaled_not_clipped():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    want = torch.from_numpy(np.round(values/257.).astype(np.uint8))
    for kind in ('PNG', 'TIFF', 'PPM'):
        assert read_image(encoded(Image.fromarray(values), kind)).equal(want.expand(3, 8, 8)), kind
    assert read_image(encoded(Image.fromarray((values/65535).astype(np.float32)), 'TIFF')).equal(want.expand(3, 8, 8))


def test_deep_colour_png():
    pixels = np.array([[[0, 257*40, 65535], [65535, 0, 257*200]]], '>u2')
    image = read_image(png(2, 1, b'\0' + pixels.tobytes(), bits=16, colour=2))
    assert image.permute(1, 2, 0).tolist() == [[[0, 40, 255], [255, 0, 200]]]


def test_alpha_is_laid_on_white():
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2] = [10, 20, 30, 255]
    for kind in ('PNG', 'WEBP', 'TIFF'):
        image = read_image(encoded(Image.fromarray(clear), kind, **({'lossless': True} if kind == 'WEBP' else {})))
        assert image[:, 0, 0].tolist() == [10, 20, 30] and image[:, 3, 3].tolist() == [255]*3, kind
    palette = Image.fromarray(clear[..., :3]).quantize(4)
    gone = palette.getpixel((3, 3))
    assert read_image(encoded(palette, 'PNG', transparency=gone))[:, 3, 3].tolist() == [255]*3
    assert read_image(encoded(palette, 'GIF', transparency=gone))[:, 3, 3].tolist() == [255]*3
    assert read_image(encoded(Image.new('LA', (3, 3), (0, 0)), 'PNG')).min() == 255


@pytest.mark.parametrize('note,undo', [(1, None), (2, 'FLIP_LEFT_RIGHT'), (3, 'ROTATE_180'), (4, 'FLIP_TOP_BOTTOM'),
                                       (5, 'TRANSPOSE'), (6, 'ROTATE_90'), (7, 'TRANSVERSE'), (8, 'ROTATE_270')])
def test_exif_orientation(note, undo):
    exif = Image.Exif()
    exif[0x0112] = note
    stored = scene().transpose(getattr(Image.Transpose, undo)) if undo else scene()
    assert near(read_image(encoded(stored, 'JPEG', exif=exif, quality=95)))
    assert near(read_image(encoded(stored, 'PNG', exif=exif)), 1e-3)


def test_damaged_exif_beside_good_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    good = encoded(scene(), 'JPEG', exif=exif, quality=95)
    spot = good.index(b'Exif\0\0') + 6
    image = read_image(good[:spot] + b'\xff'*16 + good[spot + 16:])
    assert near(image)


@pytest.mark.parametrize('w,h', [(1, 1), (1, 77), (20000, 1), (20000, 100), (37, 23)])
def test_odd_sizes(w, h):
    image = read_image(encoded(scene().resize((w, h)), 'PNG'))
    assert image.shape == (3, h, w) and image.float().mean() > 40
    canvas, aspect = data.resize_image(image, 32)
    assert canvas.shape == (3, 32, 32) and canvas.dtype == torch.uint8 and aspect == w/h


def test_pixel_limit_is_a_knob():
    picture = encoded(scene(), 'PNG')
    assert read_image(picture, limit=40*56).shape == (3, 40, 56)
    with pytest.raises(BadFile, match='56 x 40 pixels'): read_image(picture, limit=40*56 - 1)


def test_least_keeps_enough_detail():
    large = encoded(scene(800, 1200), 'JPEG', quality=95)
    assert read_image(large).shape == (3, 800, 1200)
    small = read_image(large, least=100)
    assert min(small.shape[1:]) >= 100 and small.shape[1] < 800
    difference = data.resize_image(small, 50)[0].float() - data.resize_image(read_image(large), 50)[0].float()
    assert difference.abs().mean() < 2


# ---- videos

ENCODINGS = [('mp4', 'libx264'), ('mkv', 'libx264'), ('avi', 'mpeg4'), ('webm', 'libvpx-vp9')]


def test_video_round_trip(tmp_path):
    back = read_video(film(tmp_path))
    assert back.shape == (10, 3, 40, 56) and (back.float() - clip().float()).abs().mean() < 6
    for other in ('mkv', 'mov'):
        assert read_video(film(tmp_path, other)).shape == back.shape
    assert read_video(film(tmp_path, 'avi', codec='mpeg4')).shape == back.shape
    assert read_video(open(film(tmp_path), 'rb')).equal(back)
    assert read_video(film(tmp_path), frames=4).equal(back[:4])
    assert read_video(film(tmp_path), frames=99).equal(back)
    assert read_video(film(tmp_path), size=16).shape == (10, 3, 16, 16)


@pytest.mark.parametrize('ending,codec', ENCODINGS)
def test_any_stretch_equals_the_whole(tmp_path, ending, codec):
    path = data.write_video(clip(90), tmp_path/f'long.{ending}', fps=25, codec=codec)
    whole = read_video(path)
    assert len(whole) == 90
    for start, stride in [(0, 1), (1, 1), (15, 1), (16, 3), (17, 2), (47, 1), (63, 5), (89, 1)]:
        assert read_video(path, frames=4, start=start, stride=stride).equal(whole[start::stride][:4]), (start, stride)
    sentence(lambda p: read_video(p, start=90), path)


@pytest.mark.parametrize('h,w,t', [(1, 1, 1), (2, 2, 3), (41, 57, 2), (7, 300, 1)])
def test_odd_and_one_frame_videos(tmp_path, h, w, t):
    back = read_video(data.write_video(clip(t, h, w), tmp_path/'odd.mp4'))
    assert back.shape == (t, 3, h + h % 2, w + w % 2)
    assert (back[..., :h, :w].float() - clip(t, h, w).float()).abs().mean() < 25


@pytest.mark.parametrize('ending,codec', ENCODINGS)
def test_truncated_video(tmp_path, ending, codec):
    path = data.write_video(clip(30), tmp_path/f'film.{ending}', codec=codec)
    whole, good = read_video(path), path.read_bytes()
    for part in (.02, .3, .5, .8, .97):
        path.write_bytes(good[:int(len(good)*part)])
        try: left = read_video(path)
        except BadFile as error: assert path.name in str(error); continue
        assert left.equal(whole[:len(left)]), part


def test_cut_with_its_index_in_front(tmp_path):
    "The index promises 30 frames; those before the cut can be had by asking for no more"
    import av
    path = tmp_path/'front.mp4'
    with av.open(str(path), 'w', options={'movflags': 'faststart'}) as box:
        stream = data.add_video_stream(box, 'libx264', 8, (40, 56), 18)
        for a in clip(30).permute(0, 2, 3, 1).numpy():
            box.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(a), format='rgb24')))
        box.mux(stream.encode())
    whole, good = read_video(path), path.read_bytes()
    path.write_bytes(good[:len(good)*8//10])
    sentence(read_video, path)
    assert read_video(path, frames=3).equal(whole[:3])


def test_bad_videos(tmp_path):
    good = film(tmp_path).read_bytes()
    bad = {'zero.mp4': b'', 'text.mp4': b'not a film\n'*50, 'text.txt': b'hello\n'*50,
           'codec.mp4': good.replace(b'avc1', b'zzzz'),
           'list.m3u8': b'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.mp4\n#EXT-X-ENDLIST\n',
           'concat.mp4': b"ffconcat version 1.0\nfile 'film.mp4'\n", 'noise.mp4': random.Random(0).randbytes(9000)}
    for name, body in bad.items():
        (tmp_path/name).write_bytes(body)
        sentence(read_video, tmp_path/name)
    assert 'codec' in sentence(read_video, tmp_path/'codec.mp4')
    (tmp_path/'nothing').mkdir()
    sentence(read_video, tmp_path/'nothing')
    assert 'no such file' in sentence(read_video, tmp_path/'gone')


def test_sound_only(tmp_path):
    import wave
    with wave.open(str(tmp_path/'a.wav'), 'wb') as out:
        out.setparams((1, 2, 8000, 0, 'NONE', ''))
        out.writeframes(bytes(16000))
    sentence(read_video, tmp_path/'a.wav')


def test_huge_frame_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(data.limits, 'frame_pixels', 40*56 - 1)
    assert '56 x 40' in sentence(read_video, film(tmp_path))
    monkeypatch.undo()
    monkeypatch.setattr(data.limits, 'video_pixels', 4*40*56)
    assert 'fewer frames' in sentence(read_video, film(tmp_path))
    assert read_video(film(tmp_path), frames=4).shape[0] == 4


def test_turned_video(tmp_path):
    "A phone's note in the track header: turn by 90 degrees clockwise"
    body, plain = bytearray(film(tmp_path).read_bytes()), read_video(film(tmp_path))
    at = body.index(b'tkhd') + 44
    assert struct.unpack('>9i', body[at:at + 36])[:5:4] == (65536, 65536)
    body[at:at + 36] = struct.pack('>9i', 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    assert read_video(bytes(body)).equal(plain.rot90(-1, (2, 3)))


def test_animations_and_folders(tmp_path):
    pages = [scene(t=t) for t in range(5)]
    for kind, kw in [('WEBP', {'lossless': True}), ('PNG', {})]:
        body = encoded(pages[0], kind, save_all=True, append_images=pages[1:], **kw)
        assert read_video(body).equal(clip(5)), kind
        assert read_video(body, frames=2, start=1, stride=2).equal(clip(5)[1:4:2]), kind
    gif = read_video(encoded(pages[0], 'GIF', save_all=True, append_images=pages[1:]))
    assert gif.shape == (5, 3, 40, 56) and (gif.float() - clip(5).float()).abs().mean() < 8
    for t, page in enumerate(pages): page.save(tmp_path/f'f{8 + t}.png')
    assert read_video(tmp_path).equal(clip(5))
    assert read_video(str(tmp_path) + '/', frames=2, start=1, stride=2).equal(clip(5)[1:4:2])
    (tmp_path/'f9.png').write_bytes(b'x')
    assert 'f9.png' in sentence(read_video, tmp_path)
    scene(20, 20).save(tmp_path/'f9.png')
    assert 'differs in size' in sentence(read_video, tmp_path)
    assert read_video(tmp_path, size=8).shape == (5, 3, 8, 8)


def test_write_video_says_what_it_needs(tmp_path):
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for wrong in (pixels.float(), pixels[0], pixels[:0]):
        with pytest.raises(ValueError, match='uint8'): data.write_video(wrong, tmp_path/'a.mp4')
    with pytest.raises(ValueError, match='encoder'): data.write_video(clip(2), tmp_path/'a.mp4', codec='libnothing')
    with pytest.raises(ValueError, match='b.mp4'): data.write_video(clip(2), tmp_path/'no'/'b.mp4')
    with pytest.raises(ValueError, match='b.what'): data.write_video(clip(2), tmp_path/'b.what')
    with pytest.raises(ValueError): read_video(film(tmp_path), frames=0)


# ---- a thousand mutated files

def originals(tmp_path):
    pages = [scene(24, 32, t) for t in range(3)]
    files = {k: encoded(pages[0], k) for k in ('JPEG', 'PNG', 'GIF', 'WEBP', 'BMP', 'TIFF')}
    files['progressive'] = encoded(pages[0], 'JPEG', progressive=True)
    for k in ('GIF', 'WEBP', 'PNG'): files[f'{k} moving'] = encoded(pages[0], k, save_all=True, append_images=pages[1:])
    for ending, codec in [('mp4', 'libx264'), ('webm', 'libvpx-vp9'), ('avi', 'mpeg4')]:
        files[ending] = data.write_video(clip(4, 24, 32), tmp_path/f'a.{ending}', codec=codec).read_bytes()
    return files


def outcome(read, body):
    "The tensor, or None when the file is refused in one sentence; anything else fails"
    try: out = read(body)
    except BadFile as error:
        assert '\n' not in str(error) and str(error).startswith('the given bytes: ')
        return None
    assert out.dtype == torch.uint8 and out.shape[-3] == 3 and out.numel() > 0
    return out


@pytest.mark.filterwarnings('ignore')
def test_a_thousand_mutated_files(tmp_path):
    files, dice, used = originals(tmp_path), random.Random(2026), {True: 0, False: 0}
    kinds = list(files)
    for k in range(1000):
        kind = kinds[k % len(kinds)]
        body = mutated(files[kind], list(files.values()), dice)
        picture = kind not in ('mp4', 'webm', 'avi')
        if picture and k % 2: result = outcome(read_image, body)
        else: result = outcome(lambda b: read_video(b, frames=8), body)
        used[result is not None] += 1
    assert used[True] > 100 and used[False] > 100  # the mutator neither spares nor destroys everything


# ---- datasets

@pytest.fixture
def half_broken(tmp_path):
    "Two class folders, half of the files bad, each in another way; the readable ones are 0, 2, 4 ..."
    bad = list(BAD.values())
    for k in range(16):
        path = tmp_path/'photos'/('a' if k < 8 else 'b')/f'{k:02}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(scene(t=k), 'PNG') if k % 2 == 0 else bad[k % len(bad)]())
    (tmp_path/'photos'/'a'/'._00.png').write_bytes(b'a Mac was here')
    (tmp_path/'photos'/'readme.txt').write_text('no picture')
    return tmp_path/'photos'


@pytest.mark.filterwarnings('ignore')
def test_half_broken_folder(half_broken):
    photos = data.ImageFolder(half_broken, size=24)
    assert len(photos) == 16 and photos.classes == ['a', 'b']
    samples = [photos[i] for i in range(16)]
    for i in range(0, 16, 2): assert samples[i]['label'] == int(i >= 8) and samples[i]['frames'].shape == (1, 3, 24, 24)
    for i in range(1, 15, 2): assert samples[i]['frames'].equal(samples[i + 1]['frames'])
    assert samples[15]['frames'].equal(samples[0]['frames'])
    assert all(s['frames'].float().std() > 10 for s in samples)
    assert [name for name, _ in photos.skipped] == [f'{"a" if k < 8 else "b"}/{k:02}.png' for k in range(1, 16, 2)]
    assert photos[-1]['frames'].equal(samples[15]['frames'])
    with pytest.raises(IndexError): photos[16]


def test_one_warning(half_broken):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        photos = data.ImageFolder(half_broken, size=24)
        [photos[i] for i in range(16)]
    assert len(caught) == 1 and 'skipped' in str(caught[0].message)


@pytest.mark.filterwarnings('ignore')
def test_order_does_not_matter(half_broken):
    forward, backward = data.ImageFolder(half_broken, size=24), data.ImageFolder(half_broken, size=24)
    late = {i: backward[i]['frames'] for i in reversed(range(16))}
    assert all(forward[i]['frames'].equal(late[i]) for i in range(16))


def through_workers(root, how):
    "Frames of a folder through loader processes, and what was skipped"
    fresh = data.ImageFolder(root, size=24)
    fresh[3]  # an archive that is already open in the parent
    loader = DataLoader(fresh, batch_size=4, num_workers=2 if how == 'fork' else 1, multiprocessing_context=how)
    return torch.cat([b['frames'] for b in loader]).numpy(), fresh.skipped


@pytest.mark.filterwarnings('ignore')
def test_workers_equal_serial(half_broken, tmp_path):
    archive = tmp_path/'photos.zip'
    with zipfile.ZipFile(archive, 'w') as z:
        for path in sorted(half_broken.rglob('*.*')): z.write(path, path.relative_to(half_broken))
    with ProcessPoolExecutor(1) as clean:  # that may fork: this one may have run anything before
        for root, how in [(half_broken, 'fork'), (archive, 'fork'), (archive, 'spawn')]:
            photos = data.ImageFolder(root, size=24)
            serial = [photos[i] for i in range(16)]
            frames, skipped = clean.submit(through_workers, root, how).result()
            assert torch.from_numpy(frames).equal(torch.stack([s['frames'] for s in serial]))
            assert skipped == photos.skipped and len(skipped) == 8


def test_limits_hold_in_workers(tmp_path):
    "However its processes start, what was allowed here is allowed there"
    Image.new('RGB', (40, 30), 'red').save(tmp_path/'a.png')
    photos = data.ImageFolder(tmp_path, size=24)
    data.limits.pixels = 1000
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as fresh:
        with pytest.raises(BadFile, match='at most 1,000'): fresh.submit(photos.__getitem__, 0).result()


@pytest.mark.filterwarnings('ignore')
def test_cache_gives_the_same(half_broken):
    plain, kept = data.ImageFolder(half_broken, size=24), data.ImageFolder(half_broken, size=24, cache=True)
    assert not hasattr(plain, 'batch')
    batch = kept.batch([3, 0, 3, 12])
    assert batch['frames'].equal(torch.stack([plain[i]['frames'] for i in (3, 0, 3, 12)]))
    assert batch['label'].tolist() == [0, 0, 0, 1] and batch['aspect'].dtype == torch.float32
    again = kept[12]
    assert again['frames'].equal(plain[12]['frames']) and again['label'] == 1
    assert pickle.loads(pickle.dumps(kept)).batch([5])['frames'].equal(plain[5]['frames'][None])


@pytest.mark.filterwarnings('ignore')
def test_nothing_to_read(tmp_path):
    (tmp_path/'none').mkdir()
    (tmp_path/'all').mkdir()
    for k in range(3): (tmp_path/'all'/f'{k}.jpg').write_bytes(b'no')
    (tmp_path/'bad.zip').write_bytes(b'PK\3\4 and then nothing')
    for name in ('none', 'all', 'bad.zip', 'gone'): sentence(data.ImageFolder, tmp_path/name)
    for name in ('none', 'gone'): sentence(data.VideoFolder, tmp_path/name)
    assert 'none of its 3 files' in sentence(data.ImageFolder, tmp_path/'all')
    for make in (data.Cifar10, data.CamVid, data.FlowPairs): sentence(make, tmp_path/'none')


@pytest.mark.filterwarnings('ignore')
def test_damaged_archive(tmp_path):
    path = tmp_path/'p.zip'
    with zipfile.ZipFile(path, 'w') as z:
        for k in range(4): z.writestr(f'{k}.png', encoded(scene(t=k), 'PNG'))
    body = bytearray(path.read_bytes())
    spot = body.index(b'IDAT') + 30
    body[spot] ^= 255  # the archive's own checksum of member 0 no longer holds
    path.write_bytes(body)
    photos = data.ImageFolder(path, size=16)
    assert photos[0]['frames'].equal(photos[1]['frames']) and photos.skipped[0][0] == '0.png'


@pytest.mark.filterwarnings('ignore')
def test_video_folder(tmp_path):
    root = tmp_path/'films'
    root.mkdir()
    data.write_video(clip(20), root/'a.mp4')
    (root/'b.mp4').write_bytes((root/'a.mp4').read_bytes()[:900])
    data.write_video(clip(3), root/'c.mp4')
    (root/'d').mkdir()
    for t in range(9): scene(t=t).save(root/'d'/f'{t}.png')
    films = data.VideoFolder(root, frames=4, stride=2, size=(20, 28))
    whole = data.resize_image(read_video(root/'a.mp4'), (20, 28))[0]
    assert len(films) == 2 + 1 + 1 + 1
    assert films[1]['frames'].equal(whole[8:16:2]) and films[0]['aspect'] == 56/40
    assert films[2]['frames'].equal(films[4]['frames']) and len(films.skipped) == 2
    assert '3 frames where 4 are needed' in films.skipped[1][1] or '2 frames where 4' in films.skipped[1][1]
    frames = torch.cat([b['frames'] for b in DataLoader(films, batch_size=2, num_workers=2)])
    assert frames.equal(torch.stack([films[i]['frames'] for i in range(5)]))


def test_flow_files(tmp_path):
    flow = torch.randn(2, 5, 7)
    path = data.write_flow(flow, tmp_path/'a.flo')
    assert data.read_flow(path).equal(flow) and data.read_flow(path.read_bytes()).equal(flow)
    good = path.read_bytes()
    wrong_size = good[:4] + struct.pack('<ii', -5, 7) + good[12:]
    for k, body in enumerate([good[:-1], good[:8], b'', b'JUNK' + good[4:], wrong_size]):
        bad = tmp_path/f'{k}.flo'
        bad.write_bytes(body)
        sentence(data.read_flow, bad)


@pytest.mark.parametrize('names', [('1-img0.png', '1-img1.png', '1-gt.flo'),
                                   ('1_img1.ppm', '1_img2.ppm', '1_flow.flo')])
def test_flow_pairs(tmp_path, names):
    for k, name in enumerate(names[:2]): scene(t=k).save(tmp_path/name)
    flow = torch.randn(2, 40, 56)
    data.write_flow(flow, tmp_path/names[2])
    pair = data.FlowPairs(tmp_path)[0]
    assert pair['frames'].equal(clip(2)) and pair['flow'].equal(flow[None])
    small = data.FlowPairs(tmp_path, size=(20, 28))[0]
    assert small['flow'].shape == (1, 2, 20, 28) and small['aspect'] == 56/40


def test_torch_flow_sets(tmp_path):
    root = tmp_path/'Sintel'/'training'
    for part in ('clean', 'flow'): (root/part/'alley').mkdir(parents=True)
    for t in range(3): scene(t=t).save(root/'clean'/'alley'/f'frame_{t:04}.png')
    for t in range(2): data.write_flow(torch.full((2, 40, 56), t + 1.), root/'flow'/'alley'/f'frame_{t:04}.flo')
    sintel = data.TorchFlow('Sintel', tmp_path, split='train')
    assert len(sintel) == 2 and sintel[1]['frames'].equal(clip(3)[1:]) and (sintel[1]['flow'] == 2).all()
    with pytest.raises(BadFile): data.TorchFlow('KittiFlow', tmp_path)
    (root/'clean'/'alley'/'frame_0000.png').write_bytes(b'no picture')
    with pytest.warns(match='skipped'): assert (data.TorchFlow('Sintel', tmp_path)[0]['flow'] == 2).all()


def test_sparse_flow(tmp_path):
    "KITTI stores (flow*64 + 2^15, valid) as a 16-bit picture; two pixels, one of them measured"
    root = tmp_path/'KittiFlow'/'training'
    for part in ('image_2', 'flow_occ'): (root/part).mkdir(parents=True)
    for t in (10, 11): scene(1, 2).save(root/'image_2'/f'000000_{t}.png')
    stored = np.array([[[2**15 + 64*3, 2**15 - 32, 1], [0, 0, 0]]], '>u2')
    (root/'flow_occ'/'000000_10.png').write_bytes(png(2, 1, b'\0' + stored.tobytes(), bits=16, colour=2))
    sample = data.TorchFlow('KittiFlow', tmp_path, split='train')[0]
    assert sample['flow'].shape == (1, 2, 1, 2) and sample['flow'][0, :, 0, 0].tolist() == [3., -.5]
    assert sample['valid'].shape == (1, 1, 1, 2) and sample['valid'].flatten().tolist() == [True, False]


# ---- mixtures

def world(kind, n, frames=2):
    "A small world of n samples"
    return data.open_data(f'world:{kind}:0', size=24, frames=frames, length=n)


@pytest.mark.parametrize('mixture', ['Interleaved', 'Concatenated', 'Streams'])
def test_mixtures_batch_and_travel(mixture):
    "A batch is the samples one by one, also in a loader process; no part that makes batches, no batch"
    more = ([2, 1],) if mixture == 'Concatenated' else ()
    mix = lambda a, b: getattr(data, mixture)(*((a, b) if mixture == 'Streams' else ([a, b], *more)))
    mixed, some = mix(world('scene', 2), world('drive', 3)), [2, 0, 1, 2]
    rows = [mixed[i].get('image', mixed[i]) for i in some]
    for dataset in (mixed, pickle.loads(pickle.dumps(mixed))):
        batch = dataset.batch(some)
        batch = batch.get('image', batch)
        assert batch['frames'].equal(torch.stack([row['frames'] for row in rows])) and batch['aspect'].numel() == 4
    assert not hasattr(mix(*[[world('scene', 2)[0]] for _ in range(2)]), 'batch')


def test_every_name_of_a_room_is_at_the_door():
    "The package gives what its rooms give, and nothing else"
    rooms = [getattr(data, room) for room in ('files', 'videos', 'datasets', 'codec', 'layouts', 'tables', 'flow',
                                           'mixtures', 'sources')]
    assert sorted(data.__all__) == sorted(name for room in rooms for name in room.__all__)
    assert all(getattr(data, name) is getattr(room, name) for room in rooms for name in room.__all__)


# ---- one door

def test_open_data(tmp_path):
    scene().save(tmp_path/'a.png')
    assert isinstance(data.open_data(tmp_path, size=16), data.ImageFolder)
    assert data.open_data(str(tmp_path/'a.png'), size=16)[0]['frames'].shape == (1, 3, 16, 16)
    data.write_video(clip(9), tmp_path/'v.mp4')
    assert data.open_data(tmp_path/'v.mp4', frames=3, size=16)[2]['frames'].shape == (3, 3, 16, 16)
    world = data.open_data('world:iconic:0', size=24, frames=1, length=3)
    assert len(world) == 3 and world[0]['frames'].shape == (1, 3, 24, 24)
    for wrong in ('imagenot', 'world:nowhere', 'world:scene:x', 'world:scene:99', 'world:a:b:c', ''):
        with pytest.raises(ValueError) as caught: data.open_data(wrong)
        assert '\n' not in str(caught.value)
    with pytest.raises(ValueError, match='camvid'): data.open_data('imagenot')


@needs('cifar10_test.zip')
def test_cifar10():
    test = data.Cifar10(split='test', count=100)
    assert len(test) == 100 and len(test.classes) == 10 and test.classes[0] == 'airplane'
    assert torch.tensor(test.labels).bincount().tolist() == [10]*10
    sample = test[15]
    assert sample['frames'].shape == (1, 3, 32, 32) and sample['label'] == test.labels[15]
    loaded = torch.cat([b['frames'] for b in DataLoader(test, batch_size=25, num_workers=2)])
    assert loaded.equal(data.open_data('cifar10', split='test', count=100, cache=True).batch(range(100))['frames'])


@needs('camvid')
def test_camvid():
    train = data.CamVid()
    assert len(train) == 367 and len(data.CamVid(split='val')) == 101
    assert [len(data.CamVid(drives=[d])) for d in ('0001TP', '0006R0', '0016E5')] == [62, 101, 204]
    sample = train[100]
    assert sample['frames'].shape == (1, 3, 180, 240) and sample['classes'].shape == (1, 180, 240)
    assert set(sample['classes'].unique().tolist()) <= {*range(11), 255} and sample['aspect'] == 240/180
    small = data.CamVid(size=(60, 80), cache=True)
    batch = small.batch([100, 5])
    assert batch['classes'].dtype == torch.int64 and batch['classes'].shape == (2, 1, 60, 80)
    assert set(batch['classes'].unique().tolist()) <= {*range(11), 255}
    pairs = data.CamVid(pairs=True)
    assert pairs[0]['frames'].shape == (2, 3, 180, 240)
    assert all(a.name.split('_')[0] == b.name.split('_')[0] for a, b in pairs.paths)
    assert 350 < len(pairs) <= 364


@needs('flying_chairs')
def test_flying_chairs():
    chairs = data.open_data('flying_chairs')
    assert len(chairs) == 5
    a = chairs[0]
    assert a['frames'].shape == (2, 3, 384, 512) and a['flow'].shape == (1, 2, 384, 512)
    y, x = torch.meshgrid(torch.arange(384.), torch.arange(512.), indexing='ij')
    at = torch.stack([(x + a['flow'][0, 0])/511, (y + a['flow'][0, 1])/383], -1)*2 - 1
    b = torch.nn.functional.grid_sample(a['frames'][1:].float(), at[None], align_corners=True)
    unmoved = (a['frames'][0].float() - a['frames'][1].float()).abs().mean()
    assert (b[0] - a['frames'][0].float()).abs().median() < .25*unmoved


@needs('clip_alley')
def test_frame_folder():
    alley = data.VideoFolder(ROOT/'clip_alley', frames=5, size=(96, 224))
    assert len(alley) == 2 and alley[0]['frames'].shape == (5, 3, 96, 224)
    assert data.read_video(ROOT/'clip_alley', frames=3).shape == (3, 3, 218, 512)
