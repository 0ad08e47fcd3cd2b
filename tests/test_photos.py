"""Photographs keep their pixels: a crop is cut from the photo, as sharp as torchvision cuts it from the same file."""
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from ssl_workbench import catalog, core, data
from ssl_workbench.learner import collate, newest_checkpoint
from ssl_workbench.training import learner_of, training_data
from ssl_workbench.views import CropGroup, Cutter, crops_of, cut_crop

CROPPING = ('simclr', 'mocov3', 'dino', 'ibot', 'mae', 'vicreg', 'byol', 'vqgan', 'loca', 'slotmim', 'dilemma')


def texture(w, h, seed=0):
    "A picture (H,W,3) with detail at every scale, down to the single pixel"
    draw = np.random.default_rng(seed)
    grains = [draw.random((-(-h // k), -(-w // k), 3)).repeat(k, 0).repeat(k, 1)[:h, :w] for k in (1, 2, 4, 16)]
    return (np.mean(grains, 0) * 255).astype(np.uint8)


@pytest.fixture(scope='module')
def album(tmp_path_factory):
    "A folder of six photos of 1600 x 1200 in two classes"
    folder = tmp_path_factory.mktemp('album')
    for k in range(6):
        (folder/f'c{k % 2}').mkdir(exist_ok=True)
        Image.fromarray(texture(1600, 1200, k)).save(folder/f'c{k % 2}/{k}.png')
    return folder


def energy(x):
    "Mean squared difference of neighbouring pixels of pictures (…,3,S,S) in 0-1"
    return float(x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean())


def by_torchvision(picture, box, size):
    "Crops (V,3,S,S) in 0-1, bicubic and antialiased, of the pixels nearest to the boxes (V,4)"
    h, w = picture.shape[-2:]
    edges = (box * torch.tensor([w, h, w, h])).round().int().tolist()
    mode = transforms.InterpolationMode.BICUBIC
    return torch.stack([transforms.resized_crop(picture, y1, x1, y2 - y1, x2 - x1, [size, size], mode, antialias=True)
                        for x1, y1, x2, y2 in edges]).float() / 255


def sharpness(folder, size, canvas):
    "Energy of 8 % crops by this library, over torchvision's of the same boxes of the same files"
    config = replace(catalog.module('simclr').presets['paper'], size=size, canvas=canvas, scale=(.08, .08), flip=0.)
    config = replace(config, colour=0., grey=0., blur=0.)
    entry, ours, theirs = catalog.find('simclr'), [], []
    photos, views = training_data(str(folder), entry, config), catalog.module('simclr').Views(config)
    files = data.ImageFolder(folder, size=None)
    for i in range(len(photos)):
        batch = collate([photos[i, 100 + i]]) | dict(seed=torch.tensor([100 + i]))
        out = views(batch)
        ours.append(energy(out['x']))
        theirs.append(energy(by_torchvision(data.read_image(files.files.open(files.names[i])), out['box'][0], size)))
    return sum(ours) / sum(theirs)


def test_an_eighth_of_a_photo_is_as_sharp_as_torchvision_cuts_it(album):
    assert .98 < sharpness(album, 224, 320) < 1.02


def test_a_very_large_jpeg_is_decoded_smaller_and_stays_sharp(tmp_path):
    for k in range(2): Image.fromarray(texture(3200, 2400, k)).save(tmp_path/f'{k}.jpg', quality=97)
    whole = data.ImageFolder(tmp_path, size=None)
    whole.least = Cutter(catalog.module('simclr').Views(catalog.module('simclr').presets['cpu'])).least
    assert min(whole[0]['frames'].shape[-2:]) <= 2400 // 2, 'nothing was gained'
    assert .93 < sharpness(tmp_path, 64, 128) < 1.07


def test_one_crop_equals_torchvisions_where_their_boxes_are_whole_pixels():
    picture = torch.from_numpy(texture(1600, 1200)).permute(2, 0, 1)
    box = torch.tensor([[.25, .25, .5, .5]])
    matrix = torch.tensor([[.25, 0, .25], [0, .25, .25]])
    ours, theirs = cut_crop(picture, matrix, 224).float() / 255, by_torchvision(picture, box, 224)[0]
    inside = (ours - theirs)[:, 4:-4, 4:-4]               # at the edge torchvision sees the crop alone
    assert -10 * inside.square().mean().log10() > 45


@pytest.mark.parametrize('name', CROPPING)
def test_cut_when_read_or_from_frames_the_views_are_the_same(name):
    "A photo as the canvas itself, and the crops cut from it by the reader"
    module = catalog.module(name)
    config = module.presets['cpu']
    views, n, seeds = module.Views(config), 3, torch.arange(3) + 40
    photos = [torch.from_numpy(texture(180, 120, k)).permute(2, 0, 1) for k in range(n)]
    whole = dict(frames=torch.stack(photos)[:, None], aspect=torch.full((n,), 1.5), seed=seeds)
    cut = Cutter(views)
    read = collate([dict(cuts=cut(p, 1.5, int(s)), aspect=1.5) for p, s in zip(photos, seeds)]) | dict(seed=seeds)
    a, b = views(whole), views(read)
    assert a.keys() == b.keys()
    for key in a:
        if key.startswith('x') and a[key].is_floating_point(): assert (a[key] - b[key]).abs().max() < .06, key
        else: assert torch.equal(a[key], b[key]), key
    recipes = [g for g in views.groups()]
    assert recipes and all(isinstance(g, CropGroup) for g in recipes)


def test_every_ready_method_of_single_images_says_which_crops_it_wants():
    rows = [e.name for e in catalog.catalog + catalog.classics if e.state == 'ready' and e.inputs == ('image',)]
    assert set(rows) == set(CROPPING)


def test_the_reader_alone_decides_and_small_pictures_stay_as_they_were(album, tmp_path):
    config, entry = catalog.module('simclr').presets['cpu'], catalog.find('simclr')
    for k in range(4): Image.fromarray(texture(96, 128, k)).save(tmp_path/f'{k}.png')
    small, large = (training_data(str(folder), entry, config) for folder in (tmp_path, album))
    assert isinstance(small, data.ImageFolder) and isinstance(large, data.Cropped)
    canvas, _ = data.resize_image(torch.from_numpy(texture(96, 128, 2)).permute(2, 0, 1), config.canvas)
    assert torch.equal(small.batch([2])['frames'][0, 0], canvas)
    both = training_data(f'{album}+{tmp_path}', entry, config)
    assert isinstance(both, data.Cropped) and len(both) == 12
    assert both[1, 5]['cuts']['view']['x'].shape == large[0, 5]['cuts']['view']['x'].shape == (2, 3, 64, 64)
    assert torch.equal(both[0, 5]['cuts']['view']['x'], large[0, 5]['cuts']['view']['x'])


def test_sets_with_a_canvas_of_their_own_are_not_cut_by_the_reader():
    "CamVid and CIFAR-10 come at the method's canvas: nothing of them goes through `Cropped`"
    root = core.data_root()
    if not (root and (root/'camvid').exists() and (root/'cifar10_train.zip').exists()):
        pytest.skip('neither CamVid nor CIFAR-10 here')
    config = catalog.module('slotmim').presets['cpu']
    both = training_data('camvid:0001TP,0016E5+cifar10', catalog.find('slotmim'), config)
    assert isinstance(both, data.Interleaved)
    for k, part in enumerate(both.parts):
        assert torch.equal(both[k]['frames'], part[0]['frames']) and both[k]['frames'].shape[-1] == config.canvas


def run(folder, out=None, workers=0, steps=4, keep=True):
    config = replace(catalog.module('simclr').presets['cpu'], batch=3, steps=steps)
    photos = training_data(str(folder), catalog.find('simclr'), config)
    photos.keep = keep
    return learner_of('simclr', config, photos, out=out, device='cpu', workers=workers, progress=False)


def test_a_run_on_photos_resumes_bit_for_bit_with_workers_or_without(album, tmp_path):
    whole = run(album, tmp_path/'a')
    terms = [s.terms for s in whole.steps()]
    half = run(album, tmp_path/'b')
    first = [s.terms for s in half.steps(2)]
    half.save()
    rest = run(album, tmp_path/'b').load()
    assert first + [s.terms for s in rest.steps()] == terms
    assert [s.terms for s in run(album, workers=2).steps()] == [s.terms for s in run(album, keep=False).steps()]
    weights = [torch.cat([p.flatten() for p in x.method.parameters()]) for x in (whole, rest)]
    assert torch.equal(*weights)


def test_a_run_that_was_read_otherwise_says_so(album, tmp_path):
    list(run(album, tmp_path/'a').steps(2))
    point = newest_checkpoint(tmp_path/'a')
    text = json.loads((point/'run.json').read_text())
    assert text['reading'] == {'crops': 'from each picture'}
    del text['reading']
    (point/'run.json').write_text(json.dumps(text))
    with pytest.warns(UserWarning, match='crops of this run were read otherwise'): run(album, tmp_path/'a').load()


def test_pictures_kept_in_memory_are_no_larger_than_needed_and_bad_ones_are_passed_over(tmp_path):
    for k in range(4): Image.fromarray(texture(900, 700, k)).save(tmp_path/f'{k}.png')
    (tmp_path/'1.png').write_bytes(b'not a picture')
    config = catalog.module('simclr').presets['cpu']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        photos = training_data(str(tmp_path), catalog.find('simclr'), config)
        a, b = photos[1, 3], photos[2, 3]
    least = Cutter(catalog.module('simclr').Views(config)).least
    assert torch.equal(a['cuts']['view']['x'], b['cuts']['view']['x']) and len(photos.skipped) == 1
    assert {min(s['frames'].shape[-2:]) for s in photos.kept.values()} == {least}
    assert data.kept_size(900, 700, 10_000) == (900, 700)


def test_a_group_of_crops_needs_no_reader():
    frames = torch.from_numpy(texture(64, 48)).permute(2, 0, 1)[None, None]
    out = crops_of(dict(frames=frames, seed=torch.tensor([1])), CropGroup('view', 3, 16))
    assert out['x'].shape == (1, 3, 3, 16, 16)
