"""What goes into a network: every right form gives the same numbers, every wrong one is refused in one sentence."""
import inspect

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_workbench import catalog
from ssl_workbench.heads import VideoInference
from ssl_workbench.nets import ResNet, as_images, round_to_stride, timm_vit, trusted, vit

READY = [e.name for e in catalog.catalog + catalog.classics if e.state == 'ready' and e.inputs != ('caption',)]
PICTURE = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
DOORS = dict(                     # beside features: what else takes pictures, and gives a tensor or a tuple or a dict
    slots=lambda m, x: m.slots(x), scores=lambda m, x: m.scores(x), soft_slots=lambda m, x: m.soft_slots(x),
    slot_features=lambda m, x: m.slot_features(x), attention=lambda m, x: m.attention(x),
    mismatch=lambda m, x: m.mismatch(x), locate=lambda m, x: m.locate(x, x),
    locate_scores=lambda m, x: m.locate_scores(x, x), flow=lambda m, x: m.flow(x, x),
    norm_map=lambda m, x: m.norm_map(x), reconstruct=lambda m, x: m.reconstruct(x),
    numbers=lambda m, x: m.numbers(x), embed_images=None, embed_patches=None, encode=None, features=None)


def right(x):
    "Name → the same pictures, from (B,3,H,W) uint8"
    rows = x.movedim(1, -1).numpy()
    return dict(float=x / 255, double=x.double() / 255, numpy=x.numpy(), channels_last=rows, noncontiguous=x.mT.mT,
                flipped=rows[::-1][::-1], big_endian=(x.numpy() / 255).astype('>f4'),
                pil=[Image.fromarray(r) for r in rows])


def wrong(x):
    "Name → what no network takes, from right pictures (B,3,H,W) float"
    pil = [Image.new('RGB', (64, 64)), Image.new('RGB', (64, 32))]
    return dict(grey=x[:, :1], two=x[:, :2], rgba=torch.cat([x, x[:, :1]], 1), alone=x[0], clip=x[None], plane=x[0, 0],
                bytes_as_floats=x * 255, normalised=(x - .5) / .25, negative=x - .01,
                nan=torch.where(x > .9, torch.nan, x), infinite=x / 0, integers=(x * 255).long(),
                signed=(x * 127).to(torch.int8), boolean=x > .5,
                complex=x + 0j, torch_channels_last=x.movedim(1, -1), empty=x[..., :0], text='photo.jpg', nothing=None,
                numbers=[1, 2], no_pictures=[], deep=(x.numpy() * 65535).astype(np.uint16), sizes=pil,
                objects=np.array([[[[None]]]]), half_pil=[*pil[:1], 3])


def built(name):
    "The bundled method, else an untrained one"
    torch.manual_seed(0)
    return (catalog.load(name) if name in catalog.cards() else catalog.build(name, 'cpu')).eval()


def flat(found):
    "All numbers of an answer in one row"
    if isinstance(found, dict): found = [found['tokens'], found['pooled']]
    parts = found if isinstance(found, (tuple, list)) else [found]
    return torch.cat([p.detach().double().flatten() for p in parts])


def doors(method):
    "Name → call of everything public of it that takes pictures"
    found = {k: (call or (lambda m, x, k=k: getattr(m, k)(x))) for k, call in DOORS.items() if hasattr(method, k)}
    if hasattr(method, 'predict'): found.pop('encode')         # RIVER's takes clips that were checked
    return found


def refused(call, x, says=None):
    "The one sentence with which `call` refuses"
    with pytest.raises(ValueError, match=says) as e, torch.no_grad(): call(x)
    words = str(e.value)
    assert '\n' not in words and len(words) < 300
    return words


@pytest.mark.parametrize('name', READY)
def test_every_door_takes_every_right_form(name):
    "Bytes, floats, numpy, PIL: the same numbers"
    method = built(name)
    assert 'features' in doors(method)
    for door, call in doors(method).items():
        with torch.no_grad(): truth = flat(call(method, PICTURE.float() / 255))
        assert truth.isfinite().all()
        for form, x in right(PICTURE).items():
            with torch.no_grad(): assert torch.allclose(flat(call(method, x)), truth, atol=1e-4), (door, form)


@pytest.mark.parametrize('name', READY)
def test_every_door_refuses_every_wrong_form(name):
    "No number comes from what is no picture"
    method = built(name)
    forms = wrong(PICTURE.float() / 255)
    reads_clips = isinstance(method, VideoInference) or 'features' in catalog.find(name).inputs
    if reads_clips: forms.pop('clip')                             # there a batch of clips is right
    for call in doors(method).values():
        for x in forms.values(): refused(lambda x, call=call: call(method, x), x)


def test_clips():
    "RIVER takes clips in the same forms"
    river, clip = built('river'), PICTURE[None]
    truth = river.predict(clip.float() / 255, 1, steps=2)
    for x in (clip, clip.numpy(), clip.movedim(2, -1).numpy(), clip.double() / 255):
        assert torch.allclose(river.predict(x, 1, steps=2), truth, atol=1e-4)
    assert as_images([Image.fromarray(p) for p in PICTURE.movedim(1, -1).numpy()], clip=True).shape == (1, 2, 3, 64, 64)
    for x in (PICTURE, clip[:, :, :1], clip.float(), clip.long(), None, clip[..., :60]):
        refused(lambda x: river.predict(x, 1, steps=2), x)


def test_sizes_that_do_not_fit():
    "Where patches do not fill the picture, a sentence; where a method rounds, numbers"
    for name in READY:
        method = built(name)
        try:
            with torch.no_grad(): found = method.features(PICTURE[..., :60, :52])
        except ValueError as e: assert '60' in str(e), name
        else: assert found['tokens'].isfinite().all() and found['tokens'].shape[1] == np.prod(found['grid'])


def test_words():
    "The sentence names what was given"
    x = PICTURE.float() / 255
    says = dict(grey='not 1 ', rgba='not 4 ', alone=r'x\[None\]', bytes_as_floats='to 255', integers='int64',
                text='str', nan='nan', sizes='64×32|32×64', deep='uint16')
    for name, word in says.items(): refused(as_images, wrong(x)[name], word)
    assert torch.equal(as_images(x + 5e-4), x + 5e-4)              # rounding is no mistake, and stays


def test_precision_device_and_gradient():
    "Pictures come to the network's precision, and the gradient comes back"
    net = vit(size=32, patch=8, dim=48, depth=1, heads=3).eval()
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    net.features(x)['pooled'][0, 0].backward()
    assert x.grad.abs().sum() > 0
    assert net.double().features(PICTURE[..., :32, :32])['tokens'].dtype == torch.float64
    assert as_images(PICTURE, net.half()).dtype == torch.float16
    assert as_images(torch.rand(0, 3, 8, 8)).shape == (0, 3, 8, 8)


def test_a_training_step_is_not_checked():
    "What a step makes itself is trusted; after it the door is closed again, whatever happened inside"
    x = torch.full((1, 3, 8, 8), 7.)
    with trusted(): assert as_images(x) is x
    with pytest.raises(KeyError), trusted(): raise KeyError
    refused(as_images, x)


@pytest.mark.parametrize('name', READY)
def test_trace(name):
    "torch.jit.trace of features gives the same numbers, and no look at values is traced"
    class Pooled(torch.nn.Module):
        def __init__(self, method): super().__init__(); self.method = method
        def forward(self, x): return self.method.features(x)['pooled']
    method, x = built(name), PICTURE.float() / 255
    traced = torch.jit.trace(Pooled(method), x[:1].repeat(2, 1, 1, 1), check_trace=False)
    with torch.no_grad(): assert torch.allclose(traced(x), method.features(x)['pooled'], atol=1e-4)
    assert 'aminmax' not in str(traced.inlined_graph)


def test_round_to_stride():
    "To the nearest multiple, at least one; nothing moves where it fits"
    x = torch.rand(1, 3, 64, 96)
    assert round_to_stride(x, 32) is x
    assert round_to_stride(x[..., :60, :75], 32).shape[2:] == (64, 64)
    assert round_to_stride(x[..., :5, :5], 32).shape[2:] == (32, 32)


def test_what_is_inherited_is_explained():
    "Rendered help: every argument of features, attention and load_inference stands with its comment"
    method = built('slotmim')
    assert '(B,3,H,W)' in inspect.getsource(method.features) and 'sums to 1' in inspect.getsource(method.attention)
    assert ResNet.__doc__


@pytest.mark.parametrize('name', ['test_vit', 'test_vit2', 'test_vit3', 'vit_wee_patch16_reg1_gap_256'])
def test_timm_with_and_without_class_token_and_registers(name):
    "Every patch kept is the same as no choice; without a class token there is none, though there are registers"
    net = timm_vit(name, pretrained=False)
    x = torch.rand(1, 3, 6 * net.patch, 4 * net.patch)
    with torch.no_grad():
        tokens, cls = net(x)
        assert torch.allclose(net(x, keep=torch.arange(24)[None])[0], tokens, atol=1e-4)
        assert (cls is None) == (net.net.cls_token is None) and net.cls_features(x)['pooled'].isfinite().all()
        assert torch.allclose(net.attention(x).sum((2, 3)), torch.ones(()))


OTHERS = ['deit_tiny_distilled_patch16_224', 'vit_tiny_r_s16_p8_224', 'resnet18', 'no_such_net']


@pytest.mark.parametrize('name', OTHERS)
def test_timm_of_another_kind(name):
    "One sentence for what cannot be had"
    refused(lambda n: timm_vit(n, pretrained=False), name)
