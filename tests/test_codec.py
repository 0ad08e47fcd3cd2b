"""The patch codec: nearest patches, exact round trips, a store that survives whatever happens to it"""
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ssl_workbench import core, data
from ssl_workbench.world import World

ROOT = Path(__file__).resolve().parent.parent


def noise(*shape, seed=0): return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed)).byte()


def clips(n=6, frames=8, side=20):
    "Drawn clips with labels"
    return World('chain', 0, (side, side), frames, length=n, truth=False)


def codec_of(patch=(1, 5, 5), codes=16): return data.PatchCodec(noise(codes, patch[0], 3, *patch[1:], seed=3))


@pytest.fixture
def store(tmp_path):
    "A finished store of six clips, and its codec"
    codec = codec_of()
    return data.store_codes(codec, clips(), tmp_path/'store', 'drawn', batch=2), codec


# ---- encode and decode

@pytest.mark.parametrize('patch', [(1, 5, 5), (2, 4, 10), (4, 20, 5), (8, 20, 20)])
def test_nearest_patch_by_brute_force(patch):
    "Each code is the nearest patch by plain distances; decoding puts that patch there, pixel by pixel"
    codec, x = codec_of(patch, 7), noise(2, 8, 3, 20, 20)
    codes = codec.encode(x)
    t, h, w = patch
    assert codes.dtype == torch.int32 and codes.shape == (2, 8//t, 20//h, 20//w)
    back = codec.decode(codes)
    for b, i, j, k in np.ndindex(*codes.shape):
        place = (b, slice(i*t, i*t + t), slice(None), slice(j*h, j*h + h), slice(k*w, k*w + w))
        distances = (codec.codebook.double() - x[place].double()).square().flatten(1).sum(1)
        code = int(codes[b, i, j, k])
        assert code == distances.argmin() and torch.equal(back[place], codec.codebook[code])


def test_patches_of_the_codebook_come_back_exactly():
    "A clip made of codebook patches is coded without loss, whatever the number of codes and leading dimensions"
    codec = codec_of((2, 5, 4), 300)
    codes = torch.randint(300, (2, 3, 4, 5, 6), generator=torch.Generator().manual_seed(1))
    x = codec.decode(codes)
    assert x.shape == (2, 3, 8, 3, 25, 24) and torch.equal(codec.encode(x).long(), codes)
    assert torch.equal(codec.decode(codec.encode(x)), x) and codec.psnr(x) > 100


def test_rows_at_once_are_the_patches_one_by_one():
    "What the CPU does with numpy and what another device does with torch are the same clip"
    for patch, grid in (((1, 5, 5), (2, 8, 4, 4)), ((2, 4, 10), (4, 5, 2)), ((3, 1, 7), (2, 3, 2, 5, 2))):
        codec = codec_of(patch, 40)
        codes = torch.randint(40, grid, generator=torch.Generator().manual_seed(2))
        expected = data.join_patches(codec.codebook.flatten(1)[codes], codec.patch)
        assert torch.equal(codec.decode(codes), expected) and torch.equal(codec.decode(codes.int()), expected)


def test_factor_counts_bytes(tmp_path):
    "The factors are the bytes of pixels over those of the files"
    codec, films = codec_of((1, 5, 5), 16), clips()
    root = data.store_codes(codec, films, tmp_path/'a')
    pixels = sum(films[i]['frames'].numel() for i in range(6))
    payload = lambda name: np.load(root/f'{name}.npy').nbytes
    assert codec.factor() == pixels/payload('codes') == 37.5
    assert codec.factor(6, (8, 3, 20, 20)) == pytest.approx(pixels/(payload('codes') + payload('codebook')))


@pytest.mark.parametrize('wrong, words', [
    (dict(shape=(8, 3, 64, 64), patch=10), '64 x 64 do not divide into patches of 10 x 10: stretch them to 60 x 60'),
    (dict(shape=(7, 3, 20, 20), patch=(2, 5, 5)), '7 frames do not divide by the 2'),
    (dict(shape=(8, 3, 4, 4), patch=10), 'stretch them to 10 x 10')], ids=str)
def test_sides_that_do_not_divide(wrong, words):
    with pytest.raises(ValueError, match=words): data.check_divides(wrong['shape'], data.patch_shape(wrong['patch']))


@pytest.mark.parametrize('patch', [0, -1, (1, 2, 3, 4), (2.5, 2), 'ab', ()], ids=str)
def test_what_is_no_patch(patch):
    with pytest.raises(ValueError, match='a patch is S'): data.patch_shape(patch)


def test_what_cannot_be_a_codec():
    for wrong in (noise(1, 1, 3, 2, 2), noise(4, 3, 2, 2), noise(4, 1, 1, 2, 2), noise(4, 1, 3, 2, 2).float()):
        with pytest.raises(ValueError, match='codebook'): data.PatchCodec(wrong)
    with pytest.raises(ValueError, match='uint8'): codec_of().encode(torch.rand(1, 3, 5, 5))
    with pytest.raises(ValueError, match='65,536'): data.fit_codec(clips(), 70_000, 5)
    with pytest.raises(ValueError, match='too few'): data.fit_codec(clips(), 60_000, 5)


# ---- fit

def test_fit_finds_the_patches_there_are():
    "Clips made of eight patches with a little noise: k-means finds all eight, and is the same for the same seed"
    grey = torch.arange(8)*30 + 10
    which = torch.randint(8, (20, 4, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    x = grey[which].expand(-1, -1, 3, -1, -1).repeat_interleave(5, 3).repeat_interleave(5, 4)
    x = (x + torch.randint(-4, 5, x.shape, generator=torch.Generator().manual_seed(1))).byte()
    codec = data.fit_codec(x, 24, 5, steps=30, batch=512)
    found = codec.codebook.float().mean((1, 2, 3, 4))
    assert (grey[:, None] - found).abs().min(1).values.max() < 2 and codec.psnr(x) > 38
    assert torch.equal(codec.codebook, data.fit_codec(x, 24, 5, steps=30, batch=512).codebook)
    assert not torch.equal(codec.codebook, data.fit_codec(x, 24, 5, steps=30, batch=512, seed=1).codebook)


def test_more_codes_and_smaller_patches_are_better():
    "On clips that were not used to fit"
    films = World('scene', 1, (40, 40), 4, length=80, truth=False)
    train, test = films.batch(range(60))['frames'], films.batch(range(60, 80))['frames']
    fitted = lambda p, k: data.fit_codec(train, k, p, steps=12, batch=2048).psnr(test)
    dB = {(p, k): fitted(p, k) for p, k in ((10, 8), (10, 128), (5, 128))}
    assert dB[10, 8] + .5 < dB[10, 128] < dB[5, 128] - .5


def test_patches_to_learn_from():
    "As many as asked for where there are, evenly from the clips, without repetition; datasets give the same as tensors"
    x = noise(5, 4, 3, 10, 10)
    part = data.sample_patches(x, (1, 5, 5), 40)
    assert part.shape == (40, 75) and len(part.unique(dim=0)) == 40
    assert data.sample_patches(x, (1, 5, 5), 10**6).shape == (5*16, 75)
    films = clips()
    same = [data.sample_patches(s, (1, 5, 5), 60, seed=4) for s in (films, films.batch(range(6))['frames'])]
    assert torch.equal(*same)


# ---- the store

@pytest.mark.parametrize('patch', [(1, 5, 5), (4, 5, 5)])
def test_what_is_read_is_what_was_stored(tmp_path, patch):
    "Every window of every clip, alone and in a batch, with its labels and aspect"
    codec, films = codec_of(patch), clips()
    root = data.store_codes(codec, films, tmp_path/'s', batch=4)
    for frames, stride, every in ((None, 1, None), (3, 1, 1), (2, 3, 2), (1, 1, 1), (4, 2, None)):
        ds = data.CodeClips(root, frames, stride, every=every)
        whole = [codec.decode(codec.encode(films[i]['frames'])) for i in range(6)]
        batch = ds.batch(range(len(ds)))
        for i, (row, start) in enumerate(ds.clips):
            expected = whole[row] if frames is None else whole[row][start:start + (frames - 1)*stride + 1:stride]
            assert torch.equal(ds[i]['frames'], expected) and torch.equal(batch['frames'][i], expected)
            assert ds[i]['order'] == films[row]['order'] == batch['order'][i] and ds[i]['aspect'] == 1.
            assert torch.equal(ds[i]['actions'], films[row]['actions']) and ds.labels[i] == films[row]['label']
        assert len(ds) == 6*len(range(0, 8 - ds.span + 1, every or ds.frames*stride))
    resized = data.CodeClips(root, 4, size=(30, 24)).batch([0, 5])
    assert resized['frames'].shape == (2, 4, 3, 30, 24)
    with pytest.raises(data.BadFile, match='clips of 8 frames'): data.CodeClips(root, 9)


def test_opened_by_its_path_and_trained_from(store):
    "`open_data` knows a store, for clips, for pictures and for pairs; workers and pickles read the same"
    root, codec = store
    ds = data.open_data(root, frames=4, size=20)
    assert type(ds) is data.CodeClips and len(ds) == 12 and '38 times' in ds.report() and 'drawn' in ds.report()
    assert data.open_data(root, size=20)[0]['frames'].shape == (1, 3, 20, 20)
    assert data.open_pairs(root, size=20)[0]['frames'].shape == (2, 3, 20, 20)
    loaded = [s for b in DataLoader(ds, batch_size=5, num_workers=1, collate_fn=list) for s in b]
    copy = pickle.loads(pickle.dumps(ds))
    assert len(pickle.dumps(ds)) < 50_000
    for i in range(12):
        assert all(torch.equal(other[i]['frames'], ds[i]['frames']) for other in (loaded, copy))
    with pytest.raises(ValueError, match='colour'): data.open_data(root, colour=1)


WRITER = '''
import sys, time
sys.path.insert(0, {tests!r})
import test_codec as t
from ssl_workbench import data
class Slow:
    def __len__(self): return 6
    def __getitem__(self, i):
        if i > 1: time.sleep(.3)
        return t.clips()[i]
data.store_codes(t.codec_of(), Slow(), {root!r}, 'drawn', batch=1)
'''


def test_a_killed_writer_goes_on(tmp_path, store):
    "Killed in the middle (SIGKILL): refused in a sentence, gone on with, in the end the same bytes as in one go"
    root = tmp_path/'killed'
    words = WRITER.format(tests=str(ROOT/'tests'), root=str(root))
    writer = subprocess.Popen([sys.executable, '-c', words], env=os.environ | {'PYTHONPATH': str(ROOT)})
    try:
        for _ in range(600):
            done = json.loads((root/data.STORE_HEADER).read_text())['done'] if (root/data.STORE_HEADER).exists() else 0
            if done >= 2 or writer.poll() is not None: break
            time.sleep(.05)
    finally: writer.send_signal(signal.SIGKILL); writer.wait()
    done = data.read_header(root)['done']
    assert 2 <= done < 6
    with pytest.raises(data.BadFile, match=f'{done} of 6 clips'): data.open_data(root)
    with pytest.raises(ValueError, match='source'): data.store_codes(codec_of(), clips(), root, 'others')
    with pytest.raises(ValueError, match='another codebook'):
        data.store_codes(data.PatchCodec(noise(16, 1, 3, 5, 5, seed=9)), clips(), root, 'drawn')
    with pytest.raises(ValueError, match='clips'): data.store_codes(codec_of(), clips(5), root, 'drawn')
    data.store_codes(codec_of(), clips(), root, 'drawn')
    for file in store[0].iterdir(): assert (root/file.name).read_bytes() == file.read_bytes(), file.name
    before = {f.name: f.stat().st_mtime_ns for f in root.iterdir()}
    data.store_codes(codec_of(), clips(), root, 'drawn')                       # finished: nothing is written
    assert before == {f.name: f.stat().st_mtime_ns for f in root.iterdir()}


def test_damage_is_one_sentence(store):
    "Each file cut, lengthened, changed, emptied or gone; a header of any nonsense: BadFile in one line"
    root, _ = store
    whole = {f.name: f.read_bytes() for f in root.iterdir()}
    cut = (lambda b: b[:-7], lambda b: b + b'x', lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b'', lambda b: None)
    for name in set(whole) - {data.STORE_HEADER}:
        for damage in cut:
            bad = damage(whole[name])
            if bad is None: (root/name).unlink()
            else: (root/name).write_bytes(bad)
            with pytest.raises(data.BadFile, match=f'^store: its {name}') as error: data.CodeClips(root)
            assert '\n' not in str(error.value)
            (root/name).write_bytes(whole[name])
    later = whole[data.STORE_HEADER].decode().replace('"version": 1', '"version": 2')
    for text in ('', '{', '[]', '{}', '{"version": 1}', '7', later):
        (root/data.STORE_HEADER).write_text(text)
        with pytest.raises(data.BadFile, match='store: its codes.json'): data.open_data(root)
    (root/data.STORE_HEADER).unlink()
    with pytest.raises(data.BadFile, match='no store of codes'): data.CodeClips(root)


def test_large_files_are_compared_on_request(store, monkeypatch):
    "Above the limit only sizes are looked at, unless `verify`; a number beyond the codebook is still refused"
    root, _ = store
    from ssl_workbench.data import codec
    monkeypatch.setattr(codec, '_HASHED', 10)
    bad = np.load(root/'codes.npy')
    bad[2, 3] = 999
    np.save(root/'codes.npy', bad)
    ds = data.CodeClips(root)
    ds.strict = True
    assert ds[0]['frames'].shape == (8, 3, 20, 20)
    with pytest.raises(data.BadFile, match='patches that the codebook does not have'): ds.batch([0, 2])
    with pytest.raises(data.BadFile, match='SHA-256'): data.CodeClips(root, verify=True)


# ---- the target: 150 times smaller at 25 dB or more

def test_quality_on_a_real_film():
    "A codebook of the film itself: at least 25 dB at 150 times fewer bytes, the codebook not counted"
    root = core.data_root()
    if not root or not (root/'clip_alley').is_dir(): pytest.skip('no clip_alley in the data folder (SSL_DATA)')
    alley = data.read_video(root/'clip_alley', frames=4, size=(220, 510))
    codec = data.fit_codec(alley[None], 1024, 10, steps=12, batch=4096)
    assert codec.factor() == 150 and codec.psnr(alley) > 25 and codec.factor(1, tuple(alley.shape)) < 5
