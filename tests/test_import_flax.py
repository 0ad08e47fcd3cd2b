"""LOCA's checkpoint of Flax, written here byte by byte under the authors' names, becomes ours or is refused."""
import struct

import numpy as np
import pytest
import torch

from benchmarks.fidelity.loca import renamed
from ssl_workbench import catalog, importers
from ssl_workbench.cli import main
from ssl_workbench.encoders import Encoder
from ssl_workbench.importers.flax import read_flax

SETTINGS = dict(size=32, small=16, patch=8, dim=48, depth=2, heads=3, hidden=40, out_dim=24, prototypes=12)


def packed(x):
    "A value as msgpack in the short forms that Flax writes: dicts, text, whole numbers, arrays as extension 1"
    if isinstance(x, dict):
        head = bytes([0x80 | len(x)]) if len(x) < 16 else b'\xde' + struct.pack('>H', len(x))
        return head + b''.join(packed(k) + packed(v) for k, v in x.items())
    if isinstance(x, str):
        text = x.encode()
        return (bytes([0xa0 | len(text)]) if len(text) < 32 else b'\xd9' + bytes([len(text)])) + text
    if isinstance(x, int): return b'\xce' + struct.pack('>I', x)
    shape = bytes([0x90 | x.ndim]) + b''.join(packed(int(n)) for n in x.shape)
    body = b'\x93' + shape + packed(x.dtype.name) + b'\xc6' + struct.pack('>I', x.nbytes) + x.tobytes()
    return b'\xc9' + struct.pack('>I', len(body)) + b'\x01' + body


def nested(flat):
    "{'a/b': x} as dicts in dicts"
    out = {}
    for name, x in flat.items():
        *path, last = name.split('/')
        place = out
        for k in path: place = place.setdefault(k, {})
        place[last] = x.astype(np.float32)
    return out


@pytest.fixture
def loca():
    "A LOCA with random weights, and its training state as the authors nest it"
    torch.manual_seed(0)
    method = catalog.build('loca', 'cpu', SETTINGS)
    with torch.no_grad():
        for n, p in method.named_parameters():
            if 'mask_token' not in n: p.add_(.05 * torch.randn_like(p))
    sides = {k: nested(renamed(b.state_dict(), method.config)) for k, b in (('params', method.student),
                                                                           ('ema_params', method.teacher))}
    return method.eval(), sides | dict(opt_state=dict(count=799, mu=sides['params']), global_step=799)


def saved(tree, file):
    file.write_bytes(packed(tree))
    return file


@pytest.mark.parametrize('name', ['loca_vbase_imnet1k', 'checkpoint_799', 'loca.msgpack'])
def test_loca_comes_back_whole(name, loca, tmp_path):
    "Every tensor, the settings, heads too; equal scores; whatever the file is called"
    method, tree = loca
    again, x = catalog.load(saved(tree, tmp_path/name)), torch.rand(2, 3, 32, 32)
    assert type(again) is type(method) and not again.training
    assert {k: getattr(again.config, k) for k in SETTINGS if k != 'small'} == {
        k: v for k, v in SETTINGS.items() if k != 'small'}
    for k, v in method.state_dict().items(): assert torch.equal(v, again.state_dict()[k]), k
    assert torch.equal(again.student.locator(again.student.tokens(x), again.teacher.tokens(x)),
                       method.student.locator(method.student.tokens(x), method.teacher.tokens(x)))


def test_one_network_fills_both(loca, tmp_path):
    "The parameters of one network: student and teacher are the same, and the note says so"
    _, tree = loca
    method, found = catalog.import_checkpoint(saved(tree['ema_params'], tmp_path/'weights'), 'loca')
    assert 'the same' in found.notes[0]
    for k, v in method.student.state_dict().items(): assert torch.equal(v, method.teacher.state_dict()[k])


def test_an_encoder_alone(loca, tmp_path):
    "Without its heads it is no LOCA, but an encoder with the same tokens"
    method, tree = loca
    body = {k: v for k, v in tree['ema_params'].items() if k.startswith(('ToToken', 'encoder'))}
    mine, x = catalog.load(saved(body, tmp_path/'encoder')), torch.rand(1, 3, 32, 32)
    assert isinstance(mine, Encoder)
    assert torch.allclose(mine.features(x)['tokens'], method.teacher.tokens(x), atol=1e-5)


def test_cut_strange_or_wrong_is_one_sentence(loca, tmp_path):
    "A file cut anywhere, a lost or an unknown tensor, another format's name, an unknown kind of number"
    _, tree = loca
    whole = packed(tree)
    sentences = []

    def refused(data, name='', match=''):
        (file := tmp_path/'checkpoint_1').write_bytes(data)
        with pytest.raises(ValueError, match=match) as e: catalog.import_checkpoint(file, name)
        assert '\n' not in str(e.value)
        sentences.append(str(e.value))

    for part in (.2, .5, .9, .999): refused(whole[:int(part * len(whole))], match='cut')
    lost = {k: v for k, v in tree['ema_params'].items() if k != 'final_norm'}
    refused(packed(tree | dict(ema_params=lost)), match='final_norm')
    refused(packed(tree | dict(ema_params=tree['ema_params'] | dict(extra=dict(bias=np.zeros(2, np.float32))))),
            match='no part of LOCA')
    refused(whole, 'dino', 'a file of loca, not of dino')
    refused(packed(tree | dict(global_step=np.zeros(2, np.complex64))), match='complex64')
    refused(whole + b'\x00', match='behind its end')
    bomb = b'\x81\xa1a' * 5000
    refused(bomb, match='too deeply')
    assert len(set(sentences)) >= 6


def test_arrays_in_pieces_and_halves(tmp_path):
    "bfloat16, and the pieces into which Flax cuts arrays above a gigabyte"
    x = np.arange(6, dtype=np.float32)
    pieces = dict(__msgpack_chunked_array__=1, shape={'0': 2, '1': 3}, chunks={'0': x[:4], '1': x[4:]})
    read = read_flax(saved(dict(a=dict(kernel=pieces)), tmp_path/'x'))
    assert torch.equal(read['a/kernel'], torch.arange(6.).reshape(2, 3))


def test_what_is_no_flax_is_not_taken_for_it(tmp_path):
    "Text, an empty file, a folder, a pickle"
    for content in (b'', b'# README\n', b'{"a": 1}', b'\x80\x04}q\x00.', b'\x00' * 64):
        (file := tmp_path/'thing').write_bytes(content)
        assert not importers.flax.is_flax(file)
    assert not importers.flax.is_flax(tmp_path)


def test_loca_on_the_command_line(loca, tmp_path, capsys):
    "Imported, saved with its card, loaded"
    _, tree = loca
    file = saved(tree, tmp_path/'loca_vbase')
    assert main(['import', 'loca', str(file), '--out', str(tmp_path/'mine')]) == 0
    assert 'google-research/scenic' in capsys.readouterr().out
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(catalog.load(tmp_path/'mine.safetensors').features(x)['tokens'],
                       catalog.load(file).features(x)['tokens'])
