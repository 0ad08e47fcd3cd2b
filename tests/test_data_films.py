"""Frame k is frame k: every encoding, any start; films as they are shown"""
import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ssl_workbench import data
from ssl_workbench.data import read_video, videos


def picture(k, h=48, w=64):
    "Frame k of a film: its grey tells its number, a red corner tells which way is up"
    a = np.full((h, w, 3), 6*k % 240, np.uint8)
    a[:h//2, :w//2] = [250, 20, 20]
    return a


def write(path, n=40, codec='libx264', pts=None, options=None, sar=None, form='yuv420p', first=0):
    "A film of n frames; `pts` in milliseconds makes its rate vary"
    with av.open(str(path), 'w') as box:
        stream = box.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        stream.options = options or {}
        if sar: stream.codec_context.sample_aspect_ratio = sar
        if pts is not None: stream.codec_context.time_base = Fraction(1, 1000)
        for k in range(n):
            frame = av.VideoFrame.from_ndarray(picture(k), format='rgb24')
            frame.pts, frame.time_base = first + k, Fraction(1, 10)
            if pts is not None: frame.pts, frame.time_base = pts[k], Fraction(1, 1000)
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return path


varying = [100*k if k < 20 else 2000 + 20*(k - 20) for k in range(40)]
OPEN = {'x264-params': 'open-gop=1:keyint=8:bframes=3:scenecut=0'}
FILMS = {
    'plain.mp4': {}, 'b.mkv': dict(options={'bf': '3', 'g': '12'}), 'varying.mp4': dict(pts=varying),
    'varying.mkv': dict(pts=varying, options={'g': '6'}), 'open.mp4': dict(options=OPEN), 'open.ts': dict(options=OPEN),
    'late.mkv': dict(first=37, options={'g': '10'}), 'late.mp4': dict(first=37, options={'g': '10'}),
    'p.mpg': dict(codec='mpeg2video', options={'g': '9', 'bf': '2'}), 'x.avi': dict(codec='mpeg4', options={'bf': '2'}),
    'v.webm': dict(codec='libvpx-vp9', options={'g': '8'}),
    'v8.webm': dict(codec='libvpx', options={'g': '15', 'auto-alt-ref': '1', 'lag-in-frames': '16'}),
    'h.mkv': dict(codec='libx265', options={'x265-params': 'keyint=9:open-gop=1:log-level=none'}),
    'j.mov': dict(codec='mjpeg', form='yuvj420p'), 'f.flv': dict(codec='flv'), 'w.wmv': dict(codec='wmv2'),
}


@pytest.mark.parametrize('name', FILMS)
def test_frame_k_is_frame_k(tmp_path, name):
    path = write(tmp_path/name, **FILMS[name])
    whole = read_video(path)
    assert len(whole) == 40 == data.frame_count(path)
    shades = (whole[:, :, 30:, 40:].float().mean((1, 2, 3))/6).round().int()
    assert (shades - torch.arange(40)).abs().max() <= 1
    for start in (1, 5, 13, 19, 20, 22, 31, 34, 37):
        assert read_video(path, 6, start=start).equal(whole[start:start + 6]), start
    assert read_video(path.read_bytes(), 6, start=22).equal(whole[22:28])
    clips = data.VideoFolder(path, frames=8, size=32)
    assert len(clips) == 5 and not clips.check()


def test_a_jump_is_used_and_checked(tmp_path, monkeypatch):
    path = write(tmp_path/'a.mp4', options={'g': '8', 'bf': '0'})
    calls, real = [], videos.decode_packets
    monkeypatch.setattr(videos, 'decode_packets', lambda f, n, since=None: calls.append(since) or real(f, n, since))
    whole = read_video(path)
    calls.clear()
    assert read_video(path, 4, start=30).equal(whole[30:34]) and calls[0] is not None and None not in calls
    index = videos.frame_index(str(path))
    wrong = videos.FrameIndex(index.stream, index.count, tuple(t + (t > 9000) for t in index.times), index.keys, 1.)
    monkeypatch.setattr(videos, 'frame_index', lambda file: wrong)
    assert read_video(path, 4, start=30).equal(whole[30:34]) and None in calls


def test_index_follows_the_file(tmp_path):
    path = write(tmp_path/'a.mp4', n=12)
    assert data.frame_count(path) == 12
    write(path, n=15)
    assert data.frame_count(path) == 15


MATRICES = {'turned': ((0, 1, -1, 0), lambda x: x.rot90(-1, (2, 3))), 'mirrored': ((-1, 0, 0, 1), lambda x: x.flip(3)),
            'upside down': ((1, 0, 0, -1), lambda x: x.flip(2)), 'transposed': ((0, 1, 1, 0), lambda x: x.mT)}


@pytest.mark.parametrize('name', MATRICES)
def test_display_matrix(tmp_path, name):
    (a, b, c, d), shown = MATRICES[name]
    body, plain = bytearray(write(tmp_path/'a.mp4', n=3).read_bytes()), read_video(tmp_path/'a.mp4')
    at = body.index(b'tkhd') + 44
    body[at:at + 36] = struct.pack('>9i', a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    assert read_video(bytes(body)).equal(shown(plain))


def test_pixel_aspect(tmp_path):
    path = write(tmp_path/'a.mp4', n=9, sar=Fraction(2, 1))
    assert data.pixel_aspect(path) == 2
    assert abs(data.VideoFolder(path, 2, size=16)[0]['aspect'] - 2*64/48) < 1e-6


def test_the_film_is_not_its_cover(tmp_path):
    "Two video streams: a preview of one frame, first in the file, and the film"
    path = tmp_path/'a.mkv'
    with av.open(str(path), 'w') as box:
        preview, film = box.add_stream('mjpeg', rate=10), box.add_stream('libx264', rate=10)
        for stream, (w, h), form in ((preview, (160, 120), 'yuvj420p'), (film, (64, 48), 'yuv420p')):
            stream.width, stream.height, stream.pix_fmt = w, h, form
        box.mux(preview.encode(av.VideoFrame.from_ndarray(picture(9, 120, 160), format='rgb24')))
        box.mux(preview.encode())
        for k in range(12): box.mux(film.encode(av.VideoFrame.from_ndarray(picture(k), format='rgb24')))
        box.mux(film.encode())
    assert read_video(path).shape == (12, 3, 48, 64) and data.frame_count(path) == 12


def test_transparent_frames_lie_on_white(tmp_path):
    path = tmp_path/'a.mov'
    with av.open(str(path), 'w') as box:
        stream = box.add_stream('png', rate=10)
        stream.width, stream.height, stream.pix_fmt = 8, 8, 'rgba'
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[:4] = [10, 20, 30, 255]
        pixels[4, 0] = [0, 0, 0, 128]
        box.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgba')))
        box.mux(stream.encode())
    frame = read_video(path)[0]
    assert frame[:, 0, 0].tolist() == [10, 20, 30] and frame[:, 7, 7].tolist() == [255]*3
    assert frame[:, 4, 0].tolist() == [127]*3


def test_animations_are_counted(tmp_path):
    pages = [Image.fromarray(picture(k)) for k in range(5)]
    for kind in ('GIF', 'WEBP', 'PNG'):
        out = io.BytesIO()
        pages[0].save(out, kind, save_all=True, append_images=pages[1:])
        (tmp_path/f'a.{kind}').write_bytes(out.getvalue())
        assert data.frame_count(tmp_path/f'a.{kind}') == 5
        assert read_video(tmp_path/f'a.{kind}', 2, start=3).equal(read_video(tmp_path/f'a.{kind}')[3:])


def test_limits_of_frames(tmp_path, monkeypatch):
    path = write(tmp_path/'a.mp4', n=3)
    monkeypatch.setattr(data.limits, 'frame_pixels', 64*48 - 1)
    with pytest.raises(data.BadFile, match='64 x 48 pixels'): read_video(path)
