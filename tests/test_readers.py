"""Readers: torchcodec beside PyAV, deep colours, films in zips, a range of strides."""
import importlib.machinery
import importlib.util
import json
import struct
import sys
import types
import warnings
import zipfile
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ssl_workbench import catalog, cli, data
from ssl_workbench.data import datasets, videos
from ssl_workbench.learner import newest_checkpoint
from ssl_workbench.training import learner_of, training_data


def film(path, n=24, start=0):
    "A film whose frame t is of brightness 8 t + 20"
    grey = (torch.arange(start, start + n) * 8 + 20).to(torch.uint8)
    data.write_video(grey.view(-1, 1, 1, 1).expand(-1, 3, 32, 48).contiguous(), path)
    return path


def numbers(clip):
    "Which frame each is"
    return ((clip.float().mean((1, 2, 3)) - 20) / 8).round().int().tolist()


# ---- torchcodec

class FakeDecoder:
    "As torchcodec documents `decoders.VideoDecoder`: get_frame_at(k) → data (H,W,3) uint8, pts_seconds"
    made, shift = [], 0                    # `shift`: a decoder whose numbers are those of other frames

    def __init__(self, source, *, stream_index, dimension_order, num_ffmpeg_threads, seek_mode):
        assert dimension_order == 'NHWC' and seek_mode == 'exact' and num_ffmpeg_threads == 1
        file = source if isinstance(source, str) else videos.resolve_file(source)[1]
        self.frames = list(videos.decode_packets(file, stream_index))
        FakeDecoder.made.append(source)

    def get_frame_at(self, k):
        if k + self.shift >= len(self.frames): raise IndexError('past the end')
        frame = self.frames[k + self.shift]
        return types.SimpleNamespace(data=torch.from_numpy(frame.to_ndarray(format='rgb24')), pts_seconds=frame.time)


@pytest.fixture
def torchcodec(monkeypatch):
    "A stand-in for torchcodec that decodes with PyAV"
    package, decoders = (types.ModuleType(n) for n in ('torchcodec', 'torchcodec.decoders'))
    package.__spec__, decoders.VideoDecoder = importlib.machinery.ModuleSpec('torchcodec', None), FakeDecoder
    monkeypatch.setitem(sys.modules, 'torchcodec', package)
    monkeypatch.setitem(sys.modules, 'torchcodec.decoders', decoders)
    monkeypatch.setenv('SSL_VIDEO_READER', 'torchcodec')
    monkeypatch.setattr(FakeDecoder, 'made', [])
    monkeypatch.setattr(FakeDecoder, 'shift', 0)


@pytest.mark.parametrize('ending', ('mp4', 'mkv', 'avi'))
def test_torchcodec_gives_the_frames_of_our_index(torchcodec, tmp_path, ending):
    path = film(tmp_path/f'a.{ending}')
    for where in (path, path.read_bytes()):
        FakeDecoder.made.clear()
        assert numbers(data.read_video(where, 5, start=7, stride=3)) == [7, 10, 13, 16, 19]
        used = bool(data.frame_index(str(path)).times)
        assert bool(FakeDecoder.made) == used, 'a film without times is left to PyAV'


def test_a_decoder_with_other_numbers_is_not_believed(torchcodec, tmp_path, monkeypatch):
    path = film(tmp_path/'a.mp4')
    monkeypatch.setattr(FakeDecoder, 'shift', 1)
    assert numbers(data.read_video(path, 4, start=9)) == [9, 10, 11, 12] and FakeDecoder.made
    monkeypatch.setattr(FakeDecoder, 'get_frame_at', lambda self, k: (_ for _ in ()).throw(RuntimeError('cannot')))
    assert numbers(data.read_video(path, 4, start=9)) == [9, 10, 11, 12]


def test_a_reader_that_is_missing_or_unknown_is_one_sentence(monkeypatch, tmp_path, capsys):
    path = film(tmp_path/'a.mp4')
    if importlib.util.find_spec('torchcodec') is None:
        monkeypatch.setenv('SSL_VIDEO_READER', 'torchcodec')
        assert cli.main(['train', 'simclr', '--data', str(path), '--out', str(tmp_path/'run'), '--device', 'cpu']) == 2
        assert 'torchcodec, which cannot be loaded' in capsys.readouterr().err
    monkeypatch.setenv('SSL_VIDEO_READER', 'ffmpeg')
    with pytest.raises(ValueError, match='pyav or torchcodec'): data.VideoFolder(path, frames=2)


def test_the_reader_is_kept_with_a_run_and_said_when_it_is_another(tmp_path):
    film(tmp_path/'a.mp4')
    config = replace(catalog.module('simclr').presets['cpu'], batch=2, steps=2)
    start = lambda: learner_of('simclr', config, training_data(str(tmp_path/'a.mp4'), catalog.find('simclr'), config),
                               out=tmp_path/'run', device='cpu', progress=False)
    list(start().steps(1))
    learner = start()
    learner.started = True
    file = newest_checkpoint(tmp_path/'run')/'run.json'
    run = json.loads(file.read_text())
    assert run['reading']['films'].split()[0] == 'pyav'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        start().load()
    file.write_text(json.dumps(run | dict(reading=dict(run['reading'], films='torchcodec 0.9'))))
    with pytest.warns(UserWarning, match='films of this run were read torchcodec 0.9, and now pyav'): start().load()


# ---- deep colours

def png16(values):
    "A PNG of 16-bit colours (H,W,C), no filter"
    h, w, c = values.shape
    chunk = lambda kind, body: struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    head = struct.pack('>IIBBBBB', w, h, 16, {2: 4, 3: 2, 4: 6}[c], 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


@pytest.mark.parametrize('kind', ('png', 'tif', 'tif lzw'))
def test_white_of_deep_colours(kind, tmp_path):
    "Twelve bits in sixteen: white is white where it is said, nearly black and a warning where it is not"
    values = np.random.default_rng(0).integers(0, 4096, (6, 5, 3)).astype(np.uint16)
    values[0, 0], path = (0, 2048, 4095), tmp_path/f'deep.{kind[:3]}'
    if kind == 'png': path.write_bytes(png16(values))
    else: cv2.imwrite(str(path), values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5 if 'lzw' in kind else 1])
    wanted = np.round(values * (255 / 4095)).astype(np.uint8).transpose(2, 0, 1)
    with pytest.warns(UserWarning, match='nearly black'): assert data.read_image(path).max() == 15
    try: read = data.read_image(path, white=4095)
    except data.BadFile as error:          # tifffile without the decoder of this compression
        assert kind == 'tif lzw' and 'store it as PNG' in str(error)
        return
    assert read.numpy().tolist() == wanted.tolist()
    folder = data.ImageFolder(path, size=None, white=4095)
    assert folder[0]['frames'][0].numpy().tolist() == wanted.tolist()
    with pytest.raises(data.BadFile, match='no known white'): data.read_image(path, white=2000)


def test_deep_colours_with_alpha_and_full_range(tmp_path):
    values = np.array([[[0, 0, 0, 65535], [4095, 2048, 0, 65535], [9, 9, 9, 0]]], np.uint16)
    (tmp_path/'a.png').write_bytes(png16(values))
    assert data.read_image(tmp_path/'a.png', white=4095)[:, 0].T.tolist() == [[0, 0, 0], [255, 128, 0], [255] * 3]
    (tmp_path/'grey.png').write_bytes(png16(np.array([[[4095, 65535], [0, 65535]]], np.uint16)))
    assert data.read_image(tmp_path/'grey.png', white=4095)[:, 0].T.tolist() == [[255] * 3, [0] * 3]
    full = np.random.default_rng(1).integers(0, 65536, (4, 4, 3)).astype(np.uint16)
    (tmp_path/'full.png').write_bytes(png16(full))
    off = data.read_image(tmp_path/'full.png').int() - torch.from_numpy(full / 257).permute(2, 0, 1).round().int()
    assert off.abs().max() <= 1


# ---- films in zips, strides

def test_films_in_a_zip_are_indexed_once(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path/'films.zip', 'w') as archive:
        for k in range(2): archive.write(film(tmp_path/f'{k}.mp4', start=2 * k), f'{k}.mp4')
    calls, index = [], videos.index_frames
    monkeypatch.setattr(videos, 'index_frames', lambda file: calls.append(1) or index(file))
    films = data.VideoFolder(tmp_path/'films.zip', frames=4, size=None)
    read = [numbers(films[i]['frames']) for i in range(len(films))]
    assert read[:2] == [[0, 1, 2, 3], [4, 5, 6, 7]] and read[6] == [2, 3, 4, 5] and len(calls) == 2
    assert films[0]['frames'].shape[-2:] == (32, 48) and films.sizes() == [(48, 32)] * len(films)


def test_a_range_of_strides_opens_a_folder_once(tmp_path, monkeypatch):
    for k in range(2): film(tmp_path/f'{k}.mp4')
    opened, find = [], datasets.find_videos
    monkeypatch.setattr(datasets, 'find_videos', lambda files: opened.append(1) or find(files))
    pairs = data.open_pairs(tmp_path, size=16, stride=(2, 5))
    each = [data.open_pairs(tmp_path, size=16, stride=s) for s in range(2, 6)]
    assert len(opened) == 1 + 4 and len(pairs) == sum(map(len, each))
    alone = [numbers(sample['frames']) for part in each for sample in (part[i] for i in range(len(part)))]
    assert [numbers(pairs[i]['frames']) for i in range(len(pairs))] == alone
    assert {b - a for a, b in alone} == {2, 3, 4, 5}
    mixed = data.open_pairs(f'{tmp_path}@3*2+world:scene:0', size=16, stride=(1, 2), length=4)
    assert len(mixed) == 2 * len(each[1]) + 2 * 4 and numbers(mixed[0]['frames']) == [0, 3]
