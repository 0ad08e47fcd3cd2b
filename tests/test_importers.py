"""Published checkpoints, made here at a small size with the authors' names and shapes, become ours or are refused."""
import json

import pytest
import timm
import torch

from ssl_workbench import catalog, importers
from ssl_workbench.cli import main
from ssl_workbench.encoders import Encoder, open_file

SIZE = dict(size=32, patch=8, dim=64, depth=2, heads=1)
HEAD = dict(hidden=24, out_dim=12, prototypes=10)


def shaken(method):
    "Random weights in all but mask tokens of encoders, which most files do not hold"
    torch.manual_seed(0)
    with torch.no_grad():
        for n, p in method.named_parameters():
            if not n.endswith('encoder.mask_token'): p.add_(.05 * torch.randn_like(p))
    return method.eval()


def turned(state, pairs):
    "Our tensors under the authors' names"
    return importers.renamed(state, pairs)


def branch(method, side):
    "Student or teacher of DINO or iBOT as the authors save it"
    state = {k.removeprefix(f'{side}.'): v for k, v in method.state_dict().items() if k.startswith(f'{side}.')}
    out = turned(state, (('encoder.mask_token', 'backbone.masked_embed'), ('encoder.net.', 'backbone.'),
                         ('head.projector.', 'head.mlp.'), ('head.prototypes.weight', 'head.last_layer.weight_v'),
                         ('patch_prototypes.weight', 'head.last_layer2.weight_v')))
    out['head.last_layer.weight_g'] = torch.ones(10, 1)
    return out


def dino():
    method = shaken(catalog.build('dino', 'cpu', SIZE | HEAD | dict(small_size=16)))
    method.centre.copy_(torch.randn(10))
    sides = {s: {k: v for k, v in branch(method, s).items() if 'masked' not in k} for s in ('student', 'teacher')}
    return method, sides | dict(dino_loss=dict(center=method.centre[None]), epoch=3)


def ibot():
    method = shaken(catalog.build('ibot', 'cpu', SIZE | HEAD | dict(small_size=16, shared_head=False)))
    for side in (method.student, method.teacher): side.encoder.mask_token.data.fill_(.3)
    losses = dict(center=method.centre[None], center2=method.patch_centre[None, None])
    return method, dict(student=branch(method, 'student'), teacher=branch(method, 'teacher'), ibot_loss=losses)


def mae():
    method = shaken(catalog.build('mae', 'cpu', SIZE | dict(decoder_dim=32, decoder_depth=1, decoder_heads=1)))
    pairs = (('decoder.embed.', 'decoder_embed.'), ('decoder.mask_token', 'mask_token'),
             ('decoder.blocks.', 'decoder_blocks.'), ('decoder.norm.', 'decoder_norm.'),
             ('decoder.pixels.', 'decoder_pred.'), ('encoder.mask_token', None), ('encoder.net.', ''))
    return method, dict(model=turned(method.state_dict(), pairs) | dict(decoder_pos_embed=method.decoder.positions))


def mocov3():
    method = shaken(catalog.build('mocov3', 'cpu', SIZE | dict(hidden=24, out_dim=12)))
    pairs = (('student.projector.', 'module.base_encoder.head.'), ('student.encoder.mask_token', None),
             ('teacher.projector.', 'module.momentum_encoder.head.'), ('teacher.encoder.mask_token', None),
             ('student.encoder.net.', 'module.base_encoder.'), ('teacher.encoder.net.', 'module.momentum_encoder.'),
             ('predictor.', 'module.predictor.'))
    return method, dict(state_dict=turned(method.state_dict(), pairs), arch='vit_small')


def dilemma():
    method = shaken(catalog.build('dilemma', 'cpu', SIZE | dict(given=dict(hidden=24, out_dim=12))))
    method.dice.zero_()
    pairs = (('base.student.projector.', 'module.base_encoder.head.'), ('base.student.encoder.mask_token', None),
             ('base.teacher.projector.', 'module.momentum_encoder.head.'), ('base.teacher.encoder.mask_token', None),
             ('base.student.encoder.net.', 'module.base_encoder.'), ('head.', 'module.dilemma_head.'), ('dice', None),
             ('base.teacher.encoder.net.', 'module.momentum_encoder.'), ('base.predictor.', 'module.predictor.'))
    for side in (method.base.student, method.base.teacher): side.encoder.net.pos_embed.data[:, 0] = 0
    state = turned(method.state_dict(), pairs)                     # no row for the class token
    for k in ('module.base_encoder.pos_embed', 'module.momentum_encoder.pos_embed'): state[k] = state[k][:, 1:]
    return method, dict(state_dict=state, arch='vit_small')


def slotmim():
    method = shaken(catalog.build('slotmim', 'cpu', SIZE | HEAD))
    method.student.encoder.mask_token.data.fill_(.3)
    pairs = (('student.encoder.mask_token', 'encoder_q.mask_token'), ('student.encoder.net.', 'encoder_q.'),
             ('teacher.encoder.mask_token', 'encoder_k.mask_token'), ('teacher.encoder.net.', 'encoder_k.'),
             ('student.projector.', 'projector_q.mlp.'), ('teacher.projector.', 'projector_k.mlp.'),
             ('student.prototypes.', 'grouping_q.prototypes_patch.'),
             ('teacher.prototypes.', 'grouping_k.prototypes_patch.'), ('predictor.', 'predictor_slot.mlp.'),
             ('centre', 'center'))
    return method, dict(model=turned(method.state_dict(), pairs))


METHODS = dict(dino=dino, ibot=ibot, mae=mae, mocov3=mocov3, dilemma=dilemma, slotmim=slotmim)


@pytest.mark.parametrize('name', METHODS)
def test_methods_come_back_whole(name, tmp_path):
    "Every tensor, the settings that shapes tell, equal features; known by name and without"
    method, tree = METHODS[name]()
    torch.save(tree, file := tmp_path/'checkpoint.pth')
    again, x = catalog.load(file), torch.rand(1, 3, 32, 32)
    assert type(again) is type(method) and not again.training
    for k, v in method.state_dict().items(): assert torch.equal(v, again.state_dict()[k]), k
    for k, v in SIZE.items(): assert getattr(again.config, k) == v
    assert torch.equal(again.features(x)['tokens'], method.features(x)['tokens'])
    assert type(catalog.import_checkpoint(file, name)[0]) is type(method)


@pytest.mark.parametrize('name', METHODS)
def test_cut_files_are_refused(name, tmp_path):
    "A tensor of each part missing: one sentence; never half a network"
    _, tree = METHODS[name]()
    place = next(k for k in ('teacher', 'model', 'state_dict') if k in tree)
    for lost in ('patch_embed', 'blocks.1.mlp.fc2.bias', 'norm.bias'):
        kept = {k: v for k, v in tree[place].items() if lost not in k}
        torch.save(tree | {place: kept}, file := tmp_path/'checkpoint.pth')
        with pytest.raises(ValueError) as e: catalog.load(file)
        assert '\n' not in str(e.value)


def test_of_another_format(tmp_path):
    "A name that the file belies, and one that is no format"
    torch.save(mae()[1], file := tmp_path/'checkpoint.pth')
    with pytest.raises(ValueError, match='it is a file of mae, not of dino'): importers.read(file, 'dino')
    with pytest.raises(ValueError, match="no format 'beit'"): importers.read(file, 'beit')


def test_dinov2_and_vicreg_are_encoders(tmp_path):
    "Registers, chunked blocks and a mask token; a ResNet with its expander"
    net = timm.create_model('vit_small_patch14_reg4_dinov2', num_classes=0, img_size=56, embed_dim=64, depth=2,
                            num_heads=1)
    state = {k.replace('blocks.', 'blocks.0.'): v for k, v in net.state_dict().items()}
    state['register_tokens'] = state.pop('reg_token')
    state['pos_embed'] = torch.cat([torch.zeros(1, 1, 64), state['pos_embed']], 1)
    torch.save(dict(teacher={f'backbone.{k}': v for k, v in (state | dict(mask_token=torch.zeros(1, 64))).items()}),
               file := tmp_path/'teacher.pth')
    mine, x = catalog.load(file), torch.rand(1, 3, 56, 56)
    theirs = net.eval().forward_features((x - mine.mean) / mine.std)
    assert torch.allclose(mine.features(x)['tokens'], theirs[:, 5:], atol=1e-5)
    net = timm.create_model('resnet50', num_classes=0, layers=(1, 1, 1, 1), channels=(8, 16, 24, 32))
    state = {f'module.backbone.{k}': v for k, v in net.state_dict().items()}
    torch.save(dict(model=state | {'module.projector.0.weight': torch.zeros(8, 128)}), file := tmp_path/'model.pth')
    mine, x = catalog.load(file), torch.rand(1, 3, 64, 64)
    assert torch.allclose(mine.features(x)['pooled'], net.eval()((x - mine.mean) / mine.std), atol=1e-5)


def dinov3_file(net, biases=None):
    "The authors' names of timm's tensors"
    state = {k.replace('reg_token', 'storage_tokens').replace('gamma_', 'ls'): v for k, v in net.state_dict().items()}
    state = {k + '.gamma' * k.endswith(('ls1', 'ls2')): v for k, v in state.items()}
    for k in range(12):
        state[f'blocks.{k}.attn.qkv.bias'] = torch.zeros(3 * 384) if biases is None else biases
        state[f'blocks.{k}.attn.qkv.bias_mask'] = torch.ones(3 * 384)
    return state | {'rope_embed.periods': torch.zeros(16), 'mask_token': torch.zeros(1, 384)}


def test_dinov3_as_published_and_as_trained(tmp_path):
    "Its summary is the class token, not timm's mean; a teacher with heads beside it; biases of keys are refused"
    net, file = timm.create_model('vit_small_patch16_dinov3', num_classes=0).eval(), tmp_path/'dinov3.pth'
    x = torch.rand(1, 3, 32, 48)
    for wrap in (dict, lambda s: dict(teacher={f'backbone.{k}': v for k, v in s.items()} | {
            'dino_head.last_layer.weight': torch.zeros(2, 2)})):
        torch.save(wrap(dinov3_file(net)), file)
        mine, _ = catalog.import_checkpoint(file)
        out = net.forward_features((x - mine.mean) / mine.std)
        found = mine.features(x)
        assert torch.allclose(found['pooled'], out[:, 0], atol=1e-5)
        assert torch.allclose(found['tokens'], out[:, 5:], atol=1e-5)
    bare = {k: v for k, v in dinov3_file(net, torch.ones(3 * 384)).items() if not k.endswith('mask')}
    torch.save(bare, file)
    with pytest.raises(ValueError, match='its keys have a bias') as e: catalog.load(file)
    assert '\n' not in str(e.value)


def poodle():
    sizes = dict(bottleneck=True, small=False, channels=(8, 16, 24, 32), hidden=24, out_dim=12, block_first=True)
    method = shaken(catalog.build('poodle', 'cpu', sizes))
    pairs = tuple((ours, theirs) for theirs, ours in importers.frames._poodle_names() if ours)
    state = turned(method.state_dict(), pairs)
    for k, v in list(state.items()):
        if k.endswith(('or.0.weight', 'or.3.weight')): state[k] = v.reshape(*v.shape[:2], 1, 1)
        if 'dense' in k and k.endswith('0.weight'): state[k.replace('weight', 'bias')] = torch.randn(len(v))
    for k, v in state.items():
        if 'dense' in k and k.endswith('1.running_mean'): state[k] = v + state[k.replace('1.running_mean', '0.bias')]
    return method, dict(model={f'module.{k}': v for k, v in state.items()} | {
        'module.flow_model.fnet.conv1.weight': torch.zeros(2)}, epoch=100)


def test_poodle_comes_back_whole(tmp_path):
    "Both networks with decoders and heads, their biases in the norms; cut, strange or of another name: one sentence"
    method, tree = poodle()
    torch.save(tree, file := tmp_path/'poodle.pth')
    again, x = catalog.load(file), torch.rand(1, 3, 64, 64)
    for k, v in again.state_dict().items():
        assert torch.allclose(v.float(), method.state_dict()[k].float(), atol=1e-6), k
    for mine, theirs in zip(again.teacher.dense(x), method.teacher.dense(x)):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    assert again.config.block_first and again.config.channels == (8, 16, 24, 32)
    for change, name in (('decoder_laterals.1.weight', ''), ('teacher_backbone.layer2', ''),
                         ('pooled_predictor.3.', ''), (None, ''), (None, 'mocov3')):
        kept = {k: v for k, v in tree['model'].items() if not change or change not in k}
        torch.save(dict(model=kept | ({} if change or name else {'module.extra': torch.zeros(1)})), file)
        with pytest.raises(ValueError) as e: catalog.import_checkpoint(file, name)
        assert '\n' not in str(e.value)


@pytest.mark.parametrize('form', ['port', 'published', 'backbone'])
def test_byol_is_a_resnet(form, tmp_path):
    "The port's two networks, the form of its published file, a ResNet alone: the online one; a cut one is refused"
    nets = [timm.create_model('resnet18', num_classes=0, channels=(8, 16, 24, 32), stem_width=8) for _ in range(2)]
    pairs = {b: a for a, b in importers.NUMBERED.items()}
    online, target = (turned(n.state_dict(), tuple(pairs.items())) for n in nets)
    whole = {f'online_network.encoder.{k}': v for k, v in online.items()} | {
        f'target_network.encoder.{k}': v for k, v in target.items()} | {
        f'{k}.l2.bias': torch.zeros(3) for k in ('online_network.projetion', 'predictor')}
    whole = {f'module.{k}': v for k, v in whole.items()}
    tree = dict(port=dict(model=whole, steps=9), published=dict(online_backbone=nets[0].state_dict(), epoch=300),
                backbone=nets[0].state_dict())[form]
    torch.save(tree, file := tmp_path/'byol.pth.tar')
    (mine, found), x = catalog.import_checkpoint(file, 'byol'), torch.rand(1, 3, 64, 64)
    assert found.format == 'BYOL'
    assert torch.allclose(mine.features(x)['pooled'], nets[0].eval()((x - mine.mean) / mine.std), atol=1e-5)
    place = tree.get('model') or tree.get('online_backbone') or tree
    del place[next(k for k in place if 'bn2.running_mean' in k)]
    torch.save(tree, file)
    with pytest.raises(ValueError) as e: catalog.import_checkpoint(file, 'byol')
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('arch', ['vit_tiny_patch16_224', 'resnetaa50', 'resnetblur50', 'flexivit_small',
                                  'convnext_atto'])
def test_the_name_of_a_plain_file_tells(arch, tmp_path):
    "As `open_file`: the same network and pixels by both doors; under another name the guess is on the card"
    net = timm.create_model(arch).eval()
    torch.save(net.state_dict(), file := tmp_path/f'{arch}.pth')
    (mine, found), x = catalog.import_checkpoint(file), torch.rand(1, 3, 64, 64)
    for again in (mine, open_file(file), catalog.load(file)):
        assert again.config.name == arch and type(again.net) is type(net)
        assert torch.allclose(again.mean.flatten(), torch.tensor(net.pretrained_cfg['mean']))
    if arch[0] == 'r':
        wanted = net.forward_head(net.forward_features((x - mine.mean) / mine.std), pre_logits=True)
        assert torch.allclose(mine.features(x)['pooled'], wanted, atol=1e-5)
    assert found.notes == ()


def test_a_name_that_the_tensors_belie(tmp_path):
    "Taken by its shapes, and said so, with what is guessed on the card"
    net = timm.create_model('vit_tiny_patch16_224', num_classes=0, img_size=32, embed_dim=64, depth=1, num_heads=1)
    torch.save(net.state_dict(), file := tmp_path/'vit_tiny_patch16_224.pth')
    _, card = catalog.save_imported(file, tmp_path/'mine')
    notes = ' '.join(card['imported']['notes'])
    assert all(w in notes for w in ('its name says vit_tiny_patch16_224', 'heads are guessed', 'as for ImageNet'))
    assert all(n in open_file(file).note for n in card['imported']['notes'])


BODIES = dict(vit=('vit_tiny_patch16_224', dict(img_size=32, patch_size=8, embed_dim=64, depth=1, num_heads=1)),
              scaled=('vit_small_patch14_dinov2', dict(img_size=28, embed_dim=64, depth=1, num_heads=1)),
              resnet=('resnet50', dict(layers=(1, 1, 1, 1), channels=(8, 16, 24, 32))))
FIT = dict(vit={'dino', 'ibot', 'mae', 'mocov3', 'slotmim'}, resnet={'dino', 'mocov3', 'byol', 'vicreg'},
           scaled={'dino', 'ibot', 'mae', 'mocov3', 'slotmim', 'dinov2'})


@pytest.mark.parametrize('body', BODIES)
def test_a_named_format_has_its_body(body, tmp_path):
    "A bare backbone that fits is imported with a note; any other is refused with what was expected and found"
    arch, options = BODIES[body]
    torch.save(timm.create_model(arch, num_classes=0, **options).state_dict(), file := tmp_path/'weights.pth')
    for name in importers.READERS.keys() - {'encoder'}:
        if name in FIT[body]:
            found = catalog.import_checkpoint(file, name)[1]
            assert 'the format is as you named it: the file itself does not tell' in found.notes, name
            continue
        with pytest.raises(ValueError) as e: catalog.import_checkpoint(file, name)
        assert 'weights.pth' in str(e.value) and '\n' not in str(e.value)
        if name in importers.BODIES and (body, name) != ('scaled', 'dinov3'):    # whose shapes are looked up
            assert 'is expected' in str(e.value) and ('a ResNet' if body == 'resnet' else 'a ViT') in str(
                e.value).split('it holds')[1]


UNSOUND = dict(
    number=(lambda s, k: {1: torch.ones(2)}, 'names a tensor 1'),
    beside=(lambda s, k: s | {1: torch.ones(2)}, 'names a tensor 1'),
    nested=(lambda s, k: dict(model=s | {(2, 3): torch.ones(2)}), 'names a tensor'),
    sparse=(lambda s, k: s | {k: s[k].to_sparse()}, 'sparse'),
    nan=(lambda s, k: s | {k: s[k] * torch.nan}, 'not finite'),
    infinite=(lambda s, k: s | {k: s[k] / 0}, 'not finite'),
    complex=(lambda s, k: s | {k: s[k] * 1j}, 'complex'),
    integer=(lambda s, k: s | {k: s[k].long()}, 'int64'))


@pytest.mark.parametrize('kind', UNSOUND)
@pytest.mark.parametrize('body', ['encoder', 'method'])
def test_unsound_tensors_are_one_sentence(body, kind, tmp_path, capsys):
    "By all doors, exit code 2; the file is named"
    if body == 'encoder':
        state, name = timm.create_model('vit_tiny_patch16_224', num_classes=0, img_size=32, patch_size=8, embed_dim=64,
                                        depth=1, num_heads=1).state_dict(), 'blocks.0.mlp.fc1.weight'
    else: state, name = mae()[1]['model'], 'decoder_blocks.0.mlp.fc1.weight'
    change, said = UNSOUND[kind]
    torch.save(change(state, name), file := tmp_path/'weights.pth')
    doors = (catalog.load, catalog.import_checkpoint, *[open_file] * (body == 'encoder'))
    for door in doors:
        with pytest.raises(ValueError, match=said) as e: door(file)
        assert 'weights.pth' in str(e.value) and '\n' not in str(e.value)
    assert main(['import', 'auto', str(file), '--out', str(tmp_path/'mine')]) == 2
    assert 'weights.pth' in capsys.readouterr().err and not (tmp_path/'mine.safetensors').exists()


def test_harmless_numbers_in_other_parts(tmp_path):
    "An optimizer's numbered state beside the network is no matter"
    method, tree = mae()
    torch.save(tree | dict(optimizer={'state': {0: dict(step=torch.ones(1))}}, milestones={30: 1},
                           last={0: torch.ones(1)}), file := tmp_path/'weights.pth')
    assert type(catalog.load(file)) is type(method)


def test_what_cannot_be_written_is_one_sentence(tmp_path, capsys):
    "Another thing in the place of the file, or of its folder"
    torch.save(mae()[1], file := tmp_path/'weights.pth')
    (tmp_path/'mine.part').mkdir()
    for out in (tmp_path/'mine', file/'mine'):
        assert main(['import', 'mae', str(file), '--out', str(out)]) == 2
        assert f'{out}.safetensors cannot be written' in capsys.readouterr().err


def test_import_on_the_command_line(tmp_path, capsys):
    "Weights with a card that says where they came from; nothing is overwritten"
    method, tree = slotmim()
    torch.save(tree, file := tmp_path/'slotmim.pth')
    words = ['import', 'slotmim', str(file), '--out', str(tmp_path/'mine')]
    assert main(words) == 0 and 'CVMI-Lab/SlotMIM' in capsys.readouterr().out
    card = json.loads((tmp_path/'mine.json').read_text())
    assert card['imported']['file'] == 'slotmim.pth' and card['config']['prototypes'] == 10
    again, x = catalog.load(tmp_path/'mine.safetensors'), torch.rand(1, 3, 32, 32)
    assert torch.equal(again.slots(x), method.slots(x)) and torch.equal(again.scores(x), method.scores(x))
    assert main(words) == 2 and 'exists already' in capsys.readouterr().err
    net = timm.create_model('vit_tiny_patch16_224', num_classes=0, img_size=32, patch_size=8, embed_dim=64, depth=1,
                            num_heads=1)
    torch.save(dict(model=net.state_dict()), file)
    assert main(['import', 'mae', str(file), '--heads', '1', '--out', str(tmp_path/'encoder')]) == 0
    assert isinstance(catalog.load(tmp_path/'encoder.safetensors'), Encoder)
