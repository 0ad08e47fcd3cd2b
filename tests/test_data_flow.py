"""Flow and depth with a mask: unknown values never become numbers, whatever the format, layout and size"""
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_workbench import data

FLOW = torch.tensor([8., -4.]).view(2, 1, 1).expand(2, 48, 96)


def seen(part=.2): return torch.rand(1, 48, 96, generator=torch.Generator().manual_seed(3)) < part


def png16(path, values):
    "A 16-bit PNG of (H,W,C) by hand"
    h, w, c = values.shape
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    chunk = lambda k, b: struct.pack('>I', len(b)) + k + b + struct.pack('>I', zlib.crc32(k + b))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 16, {1: 0, 3: 2}[c], 0, 0, 0))
                     + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def kitti_png(path, flow, valid):
    stored = torch.cat([(flow*64 + 2**15)*valid, valid.float()]).permute(1, 2, 0).numpy()
    png16(path, stored.astype(np.uint16))


def pfm(path, values, order='<'):
    c, h, w = values.shape
    head = f'{"PF" if c == 3 else "Pf"}\n{w} {h}\n{-1. if order == "<" else 1.}\n'.encode()
    path.write_bytes(head + values.permute(1, 2, 0).numpy()[::-1].astype(order + 'f4').tobytes())


def pictures(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names): Image.new('RGB', (96, 48), (20*k, 90, 30)).save(folder/name)


def is_slide(sample, size):
    "Whether the flow is the slide on a canvas of that size wherever it is valid, and somewhere valid"
    valid, want = sample['valid'][0, 0], FLOW[:, 0, 0]*torch.tensor([size[1]/96, size[0]/48])
    flow = sample['flow'][0]
    assert sample['valid'].dtype == torch.bool and sample['valid'].shape == (1, 1, *size) and flow.isfinite().all()
    return valid.float().mean() > .15 and (flow[:, valid] - want[:, None]).abs().max() < 1e-3 and flow.abs().max() < 99


SIZES = [(48, 96), (24, 48), (96, 192), (31, 50)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('rubbish', [float('nan'), float('inf'), 1.7e9, -3e9])
def test_unknown_flow_is_resized_as_a_mask(tmp_path, size, rubbish):
    flow = FLOW.clone().masked_fill(~seen(), rubbish)
    pictures(tmp_path, ['1-img0.png', '1-img1.png'])
    data.write_flow(flow, tmp_path/'1-gt.flo')
    assert is_slide(data.open_pairs(tmp_path, None if size == (48, 96) else size)[0], size)


@pytest.mark.parametrize('size', SIZES)
def test_kitti_by_torchvision_and_by_layout(tmp_path, size):
    root = tmp_path/'KittiFlow'
    pictures(root/'training'/'image_2', ['000000_10.png', '000000_11.png'])
    for kind in ('occ', 'noc'): kitti_png(root/'training'/f'flow_{kind}'/'000000_10.png', FLOW, seen())
    canvas = None if size == (48, 96) else size
    assert is_slide(data.TorchFlow('KittiFlow', tmp_path, canvas)[0], size)
    pairs = data.open_pairs(root, canvas)
    assert len(pairs) == 1 and is_slide(pairs[0], size)
    assert data.read_flow(root/'training/flow_occ/000000_10.png').isnan().equal(~seen().expand(2, -1, -1))


def test_sintel_layout_and_one_folder(tmp_path):
    root = tmp_path/'Sintel'/'training'
    for part in ('clean', 'final'): pictures(root/part/'alley_1', [f'frame_{k:04}.png' for k in (1, 2, 10)])
    pictures(root/'clean'/'cave_2', [f'frame_{k:04}.png' for k in (1, 2)])
    for part, k in (('alley_1', 1), ('alley_1', 2), ('cave_2', 1)):
        (root/'flow'/part).mkdir(parents=True, exist_ok=True)
        data.write_flow(FLOW, root/'flow'/part/f'frame_{k:04}.flo')
    pairs = data.open_pairs(tmp_path/'Sintel')
    assert len(pairs) == 3 and is_slide(pairs[0], (48, 96)) and 'final' in pairs.triples[0][1]
    assert pairs.triples[1][1:] == tuple(f'training/final/alley_1/frame_{k:04}.png' for k in (2, 10))
    flat = tmp_path/'flat'
    pictures(flat, [f'{k}.png' for k in (8, 9, 10)])
    for k in (8, 9): pfm(flat/f'{k}.pfm', torch.cat([FLOW, FLOW[:1]]))
    pairs = data.open_pairs(flat)
    assert [t[1:] for t in pairs.triples] == [('8.png', '9.png'), ('9.png', '10.png')]
    assert is_slide(pairs[1], (48, 96))


@pytest.mark.parametrize('order', '<>')
def test_pfm_and_depth(tmp_path, order):
    depth = torch.arange(12.).view(1, 3, 4) + 1
    depth[0, 1, 2] = float('inf')
    pfm(tmp_path/'a.pfm', depth, order)
    back = data.read_depth(tmp_path/'a.pfm')
    assert back[0, 1, 2].isnan() and back.nan_to_num(0.).equal(depth.masked_fill(depth.isinf(), 0.))
    with pytest.raises(data.BadFile, match='depth'): data.read_flow(tmp_path/'a.pfm')
    stored = np.array([[[256], [0]], [[512], [128]]])
    png16(tmp_path/'d.png', stored)
    assert data.read_depth(tmp_path/'d.png').nan_to_num(-1).tolist() == [[[1., -1.], [2., .5]]]
    half = data.resize_known(torch.tensor([[[4., float('nan')], [4., 4.]]]), 1)
    assert half.item() == 4.
    assert data.resize_known(torch.full((1, 4, 4), float('nan')), 2).isnan().all()


def test_deep_png_by_opencv(tmp_path):
    "Every filter of PNG: OpenCV writes, we read"
    cv2 = pytest.importorskip('cv2')
    y, x = np.mgrid[:37, :53]
    smooth = np.stack([900*x + 13*y, 65535 - 700*y, 30*x*y], -1).astype(np.uint16)
    noise = np.random.default_rng(0).integers(0, 65536, (37, 53, 3)).astype(np.uint16)
    for values in (smooth, noise, np.concatenate([smooth, noise])):
        for strategy in range(5):
            cv2.imwrite(str(tmp_path/'a.png'), values, [cv2.IMWRITE_PNG_STRATEGY, strategy])
            got = data.read_png16((tmp_path/'a.png').read_bytes())
            assert (got.numpy().transpose(1, 2, 0)[..., ::-1] == values).all()


def test_bad_flow_files(tmp_path):
    pfm(tmp_path/'a.pfm', torch.zeros(3, 4, 5))
    good = (tmp_path/'a.pfm').read_bytes()
    kitti_png(tmp_path/'k.png', FLOW, seen())
    png = (tmp_path/'k.png').read_bytes()
    heads = b'PF\n9999999 2\n-1\n', b'PF\n2 2\nnan\n' + bytes(48), b'PF\n0 0\n-1.\n'
    for body in (good[:-1], good[:9], *heads, png[:60], png[:20]):
        with pytest.raises(data.BadFile) as caught: data.read_flow(body)
        assert str(caught.value).startswith('the given bytes: ') and '\n' not in str(caught.value)


def test_masks_in_mixtures(tmp_path):
    "Flow sets with a mask beside the world, whose flow is valid everywhere"
    pictures(tmp_path, ['1-img0.png', '1-img1.png'])
    data.write_flow(FLOW.clone().masked_fill(~seen(), 2e9), tmp_path/'1-gt.flo')
    both = data.Concatenated([data.FlowPairs(tmp_path, 32, cache=True),
                              data.open_pairs('world:scene:0', size=32, length=2)], [1, 1])
    assert both[1]['valid'].all() and both[1]['valid'].shape == (1, 1, 32, 32) and not both[0]['valid'].all()
    assert both.batch([0, 1])['valid'].float().mean((1, 2, 3, 4))[1] == 1
    estimated = data.WithFlow(data.FlowPairs(tmp_path, 32), data.zero_flow)
    assert 'valid' not in estimated[0]
