"""PooDLe: subcrops that follow the flow, equation 1 by hand, both ways alike, every row of table 4."""
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import interpolate

from ssl_workbench import core, geometry, world
from ssl_workbench.classics.flowe import MAX_ELEMENTS, FlowE
from ssl_workbench.classics.flowe import cpu as FLOWE
from ssl_workbench.learner import draw_seeds
from ssl_workbench.methods.poodle import (
    TABLE4,
    PooDLe,
    SpatialDecoder,
    Views,
    cpu,
    dense_loss,
    pooled_loss,
    presets,
    public_code,
)
from ssl_workbench.methods.poodle.crops import extract_subcrops, grid_cells, subcrops
from ssl_workbench.methods.poodle.toy import disc, mean_by_size, subcrop_probabilities, toy_probabilities

TINY = replace(cpu, size=32, canvas=48, channels=(8, 12, 16, 24), hidden=16, out_dim=8, subcrops=3, sub_size=16,
               dim=24, heads=2, depth=2)
CASES = {**{f'row {n}': change for n, change in TABLE4.items()},
         'pooled alone': dict(dense=False), 'every pixel': dict(loss_size='input'),
         'ViT': dict(net='vit', decoder='none'), 'ViT, dense alone': dict(net='vit', decoder='none', pooled=False),
         'ViT with registers': dict(net='vit', decoder='none', registers=3)}


def batch(n=4, size=48):
    "Pairs of the drawn road as a learner hands them over"
    made = world.batch(torch.arange(n), device='cpu', kind='drive', level=1, size=(size, size), frames=2)
    made = {k: made[k] for k in ('frames', 'flow', 'flow_back')}
    return made | dict(aspect=torch.ones(n), seed=draw_seeds(0, range(n)))


def made(**change):
    "A method whose weights are not fresh, so that the teacher is another network"
    core.seed_everything(0)
    method = PooDLe(replace(TINY, **change))
    with torch.no_grad():
        for p in method.parameters(): p.add_(.05 * torch.randn_like(p))
    return method.train()


def smooth_flow(n=6, size=(40, 80), most=12.):
    "Flows that vary from place to place"
    rough = most * (2 * torch.rand(n, 2, 3, 4, generator=torch.Generator().manual_seed(0)) - 1)
    return interpolate(rough, size, mode='bilinear', align_corners=True)


# ---- subcrops

@pytest.mark.parametrize('size, area, want', [((512, 1024), (.05, .3), (214.2, 3, 5)),
                                              ((64, 64), (.05, .3), (26.8, 3, 3)),
                                              ((100, 100), (.25, .25), (50., 2, 2))])
def test_cells(size, area, want):
    "d = min(H,W)·√mean area; cells are counted up to the border: 15 for the paper's crop, which its K = 9 needs"
    assert grid_cells(size, area) == pytest.approx(want, abs=.05)


@pytest.mark.parametrize('jitter', [0., .1])
def test_partner_follows_the_flow(jitter):
    "The partner's centre lies where the flow, by another interpolation, carries the centre, give or take the jitter"
    flow = smooth_flow()
    got = subcrops(flow, range(6), k=5, jitter=jitter)
    one, two = got['centre'].double().unbind(1)
    assert (got['frame'] == torch.tensor([0, 1])[:, None]).all()
    h, w = flow.shape[-2:]
    at = one * torch.tensor([w, h]) - .5
    low = torch.minimum(at.floor().clamp(min=0), torch.tensor([w - 2., h - 2.]))
    part, (x, y) = (at - low).clamp(0, 1), low.long().unbind(-1)
    look = lambda dx, dy: torch.stack([f[:, b + dy, a + dx].T for f, a, b in zip(flow, x, y)]).double()
    u, v = part[..., :1], part[..., 1:]
    moved = (1 - v) * ((1 - u) * look(0, 0) + u * look(1, 0)) + v * ((1 - u) * look(0, 1) + u * look(1, 1))
    off = (two - (one + moved / torch.tensor([w, h]))).abs()
    assert off.max() <= jitter + 1e-5 and (jitter == 0 or off.max() > .5 * jitter)


def test_centres_lie_inside_and_boxes_too():
    "Both centres in the frame, boxes shifted in, areas within their bounds"
    got = subcrops(smooth_flow(60), range(60), k=6)
    assert got['centre'].min() >= 0 and got['centre'].max() < 1
    assert got['box'].min() >= 0 and got['box'].max() <= 1 + 1e-6
    extent = got['box'][..., 2:] - got['box'][..., :2]
    assert extent.prod(-1).min() >= .05 - 1e-5 and extent.prod(-1).max() <= .3 + 1e-5 and extent.prod(-1).max() > .25
    shape = extent[..., 0] * 80 / (extent[..., 1] * 40)
    assert shape.min() >= .75 - 1e-4 and shape.max() <= 4 / 3 + 1e-4
    free = ((got['centre'] - extent / 2 >= 0) & (got['centre'] + extent / 2 <= 1)).all(-1)
    middle = (got['box'][..., :2] + got['box'][..., 2:]) / 2
    assert free.any() and (middle - got['centre'])[free].abs().max() < 1e-5


def test_cells_without_replacement():
    "Distinct cells while there are enough, each centre in its own, all equally often; more pairs than cells go round"
    got = subcrops(torch.zeros(3000, 2, 64, 64), range(3000), k=4)
    assert all(len(set(row)) == 4 for row in got['cell'].tolist())
    side, _, columns = grid_cells((64, 64), (.05, .3))
    at = (got['centre'][:, 0] * 64 / side).long()
    assert torch.equal(at[..., 1] * columns + at[..., 0], got['cell'])
    times = torch.bincount(got['cell'].flatten(), minlength=9) / 3000
    assert (times - 4 / 9).abs().max() < .06
    many = subcrops(torch.zeros(5, 2, 64, 64), range(5), k=11)['cell']
    assert all(sorted(torch.bincount(row, minlength=9).tolist()) == [1] * 7 + [2] * 2 for row in many)


def test_subcrops_are_a_function_of_the_seed():
    "The same alone and in any company; another seed, others"
    flow = smooth_flow()
    whole, alone = subcrops(flow, range(6)), subcrops(flow[3:4], [3])
    assert all(torch.equal(whole[k][3:4], alone[k]) for k in whole)
    assert not torch.equal(subcrops(flow[3:4], [4])['box'], alone['box'])


def test_where_nothing_can_be_paired():
    "Flow that leads out of the frame everywhere: both crops come from the first frame and around one place"
    got = subcrops(torch.full((2, 2, 32, 32), 100.), [0, 1], k=3)
    assert (got['frame'] == 0).all() and torch.equal(got['centre'][:, 0], got['centre'][:, 1])
    half = torch.zeros(50, 2, 32, 32); half[..., 16:] = 100.
    assert (subcrops(half, range(50), k=3, jitter=0.)['frame'][:, 1] == 1).all(), 'cells that can be paired come first'


def test_cut_reads_the_right_frame():
    "A subcrop's pixels are those of its frame, at its box"
    frames = torch.stack([torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)], 1)
    frames[:, 1, :, :, :16] = .5
    box = torch.tensor([[[[0, 0, .4, .5], [.5, .5, 1, 1]], [[0, 0, .4, .5], [.5, .5, 1, 1]]]])
    got = extract_subcrops(frames, box, torch.tensor([[[0, 0], [1, 0]]]), 8)
    assert got.shape == (1, 2, 2, 3, 8, 8) and (got[0, 0] == 0).all() and (got[0, 1, 1] == 0).all()
    assert torch.allclose(got[0, 1, 0], torch.tensor(.5))


def test_subcrop_holds_what_its_partner_holds():
    "Without jitter and at equal sizes, following the flow brings the two crops' pixels closer than standing still does"
    made = world.batch(torch.arange(12), device='cpu', kind='drive', level=2, size=(96, 192), frames=2)
    frames, flow, near = made['frames'].float() / 255, made['flow'][:, 0], []
    for f in (flow, torch.zeros_like(flow)):
        sub = subcrops(f, range(12), k=6, area=(.1, .1), ratio=(1., 1.), jitter=0.)
        pixels = extract_subcrops(frames, sub['box'], sub['frame'], 24)
        near.append((pixels[:, 0] - pixels[:, 1]).abs().mean())
    assert near[0] < near[1]


# ---- views

def test_views_are_a_function_of_the_seed():
    "Alone and in company, and the parts fit together"
    views, alone = Views(TINY)(batch()), Views(TINY)({k: v[2:3] for k, v in batch().items()})
    assert all(torch.allclose(views[k][2:3].float(), alone[k].float(), atol=1e-6) for k in views)
    assert views['sub'].shape == (4, 2, 3, 3, 16, 16)
    assert views['valid'].shape == (4, 2, 1, 32, 32) and views['valid'].dtype == torch.bool
    again = extract_subcrops(views['clean'], views['sub_box'], views['sub_frame'], 16)
    assert torch.equal(again, views['sub']), 'subcrops are cut from the recoloured crop before it is turned'


def test_valid_is_what_can_be_compared():
    "With no turn, valid is: in frame and not hidden"
    plain = replace(TINY, affine_scale=(1., 1.), degrees=0.)
    views = Views(plain)(batch())
    for v in (0, 1):
        there, back = views['flow'][:, v], views['flow'][:, 1 - v]
        want = geometry.in_frame(there) & geometry.visible(there, back, .1, .5)
        edge = (views['valid'][:, v] != want)
        assert not (views['valid'][:, v] & ~want).any() and edge.float().mean() < .06
    assert .3 < views['valid'].float().mean() < 1
    assert Views(TINY)(batch())['valid'].float().mean() < views['valid'].float().mean()


def test_pairs_without_flow_are_refused():
    "One sentence"
    with pytest.raises(ValueError, match='flow'): Views(TINY)({k: v for k, v in batch().items() if 'flow' not in k})


# ---- losses

def still(n=1, p=2, size=4):
    "Maps, identity affines, no motion, everything valid"
    maps = torch.zeros(n, 2, p, size, size)
    affine = torch.eye(2, 3).expand(n, 2, 2, 3)
    return maps, affine, torch.zeros(n, 2, 2, size, size), torch.ones(n, 2, 1, size, size, dtype=torch.bool)


def test_equation_1_by_hand():
    "Equal directions 0, orthogonal 2, opposite 4; lengths do not matter; what is not valid is not asked"
    maps, affine, flow, valid = still()
    a, b = maps.clone(), maps.clone()
    a[:, :, 0], b[:, :, 0] = 3., .1
    assert dense_loss(a, b, affine, flow, valid) == pytest.approx(0., abs=1e-6)
    b[:, :, 0], b[:, :, 1] = 0., 5.
    assert dense_loss(a, b, affine, flow, valid) == pytest.approx(2.)
    assert dense_loss(a, -a, affine, flow, valid) == pytest.approx(4.)
    b = a.clone(); b[:, 1, :, :, 2:] *= -1
    assert dense_loss(a, b, affine, flow, valid) == pytest.approx(.5 * 4 * .5)
    valid[:, 0, :, :, 2:] = False
    assert dense_loss(a, b, affine, flow, valid) == pytest.approx(0., abs=1e-6)
    assert dense_loss(a, b, affine, flow, valid & False) == 0


def test_equation_1_follows_the_flow():
    "A map moved by whole pixels costs nothing with its flow, and something without"
    maps, affine, flow, valid = still(size=8, p=5)
    a = torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    a[:, 1] = a[:, 0].roll((1, 2), (-2, -1))
    flow[:, 0, 0], flow[:, 0, 1] = 2., 1.
    flow[:, 1] = -flow[:, 0]
    valid = torch.stack([geometry.in_frame(flow[:, v]) for v in (0, 1)], 1)
    assert dense_loss(a, a, affine, flow, valid) < 1e-5 < dense_loss(a, a, affine, 0 * flow, valid)


def test_losses_are_symmetric():
    "Frames exchanged: the same"
    views = Views(TINY)(batch())
    g = torch.Generator().manual_seed(0)
    p, z = (torch.randn(4, 2, 6, 8, 8, generator=g) for _ in range(2))
    parts = [p, z, views['affine'], views['flow'], views['valid']]
    assert dense_loss(*parts) == pytest.approx(dense_loss(*(x.flip(1) for x in parts)).item(), abs=1e-6)
    p, z = torch.randn(4, 2, 3, 6, generator=g), torch.randn(4, 2, 3, 6, generator=g)
    assert pooled_loss(p, z) == pytest.approx(pooled_loss(p.flip(1), z.flip(1)).item(), abs=1e-6)
    by_hand = torch.stack([2 - 2 * torch.cosine_similarity(p[:, v], z[:, 1 - v], dim=-1) for v in (0, 1)]).mean()
    assert pooled_loss(p, z) == pytest.approx(by_hand.item(), abs=1e-5)


def test_pieces_change_nothing():
    "One pair at a time with recomputation: the same loss, the same gradient"
    views, g = Views(TINY)(batch()), torch.Generator().manual_seed(0)
    p, z = (torch.randn(4, 2, 6, 8, 8, generator=g) for _ in range(2))
    found = []
    for room in (MAX_ELEMENTS, 1):
        q = p.clone().requires_grad_()
        loss = dense_loss(q, z, views['affine'], views['flow'], views['valid'], room)
        loss.backward()
        found.append((loss.item(), q.grad))
    (loss, grad), (loss_pieces, grad_pieces) = found
    assert loss == pytest.approx(loss_pieces, abs=1e-6)
    assert torch.allclose(grad, grad_pieces, atol=1e-8) and grad.abs().max() > 0


# ---- networks

@pytest.mark.parametrize('name', CASES)
def test_every_row_steps(name):
    "Builds, steps, every trained weight gets a gradient, the teacher none; the loss falls along its gradient"
    method = made(**CASES[name])
    views = Views(method.config)(batch())
    method.before_step(0.)
    terms = method.loss(method(views))
    assert set(terms) == {k for k in ('dense', 'pooled') if getattr(method.config, k)}
    assert all(0 < v < 4 for v in terms.values())
    sum(terms.values()).backward()
    grads = {n: p.grad for n, p in method.named_parameters()}
    assert [n for n, p in method.named_parameters() if p.requires_grad and grads[n] is None] == []
    assert all(g is None for n, g in grads.items() if 'teacher' in n)
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None: p.sub_(1e-3 * p.grad / (p.grad.norm() + 1e-12))
    assert sum(method.loss(method(views)).values()) < sum(terms.values())
    old = [p.clone() for p in method.teacher.parameters()]
    method.after_step(.5)
    assert any(not torch.equal(p, q) for p, q in zip(method.teacher.parameters(), old))


def test_four_heads_learn():
    "Each of the two projectors and two predictors, by its own loss alone"
    method = made()
    terms = method.loss(method(Views(method.config)(batch())))
    heads = dict(dense=(method.student.dense_projector, method.dense_predictor),
                 pooled=(method.student.pooled_projector, method.pooled_predictor))
    def grads(term, which):
        weights = [h[-1].weight for h in heads[which]]
        return torch.autograd.grad(terms[term], weights, retain_graph=True, allow_unused=True)
    for term, other in (('dense', 'pooled'), ('pooled', 'dense')):
        assert all(g.abs().max() > 0 for g in grads(term, term)) and all(g is None for g in grads(term, other))


def test_resolutions():
    "Row by row: decoders and dilation both end at an eighth (here a quarter, the stem being small)"
    x = torch.rand(1, 3, 32, 32)
    for change in TABLE4.values():
        method = made(**change).eval()
        assert method.features(x)['grid'] == (8, 8) and method.patch == 4
        assert method.student.encoder(x)[-1].shape[-1] == (2 if method.config.compute else 8)
    assert made(dense=False).eval().features(x)['grid'] == (2, 2)


def test_decoder_by_hand():
    "Without computation the decoder is upsampling and laterals; with it, an eighth of the width inside"
    maps = [torch.randn(2, d, n, n) for d, n in ((16, 16), (32, 8), (64, 4))]
    plain = SpatialDecoder((16, 32, 64), compute=False)
    up = lambda z, n: interpolate(z, (n, n), mode='bilinear')
    want = up(up(maps[2], 8) + plain.laterals[0](maps[1]), 16) + plain.laterals[1](maps[0])
    assert torch.allclose(plain(maps), want, atol=1e-6)
    block = SpatialDecoder((512, 1024, 2048), laterals=False).blocks[0]
    assert block.conv2.weight.shape == (256, 256, 3, 3) and block.conv3.weight.shape == (2048, 256, 1, 1)


def test_row_1_is_flowe():
    "With FlowE's weights, the same loss on the same views"
    change = dict(pooled=False, decoder='none', hidden=16, out_dim=8, channels=(8, 12, 16, 24))
    method, views = made(**change), Views(replace(TINY, **change))(batch())
    flowe = FlowE(replace(FLOWE, size=32, hidden=16, out_dim=8, channels=(8, 12, 16, 24)))
    for mine, theirs in ((method.student, flowe.student), (method.teacher, flowe.teacher)):
        theirs.encoder.load_state_dict(mine.encoder.state_dict())
        theirs.projector.load_state_dict(mine.dense_projector.state_dict())
    flowe.predictor.load_state_dict(method.dense_predictor.state_dict())
    with torch.no_grad(): a, b = (m.eval().loss(m.eval()(views)) for m in (method, flowe))
    assert a['dense'].item() == pytest.approx(b['equivariance'].item(), abs=1e-5)


def test_teacher_is_slower_on_a_longer_schedule():
    "After a third of the schedule the momentum is what BYOL's cosine has there"
    method = made(horizon=3., momentum=(.9, 1.))
    before, now = ([p.clone() for p in part.parameters()] for part in (method.teacher, method.student))
    method.after_step(1.)
    m = core.cosine(1 / 3, .9, 1.)
    assert m == pytest.approx(.925)
    followed = zip(method.teacher.parameters(), before, now)
    assert all(torch.allclose(p, m * a + (1 - m) * b, atol=1e-6) for p, a, b in followed)


def test_any_size_of_picture():
    "Odd sides too; a ViT brings them to whole patches; the norm map has the features' grid"
    for change, size in ((dict(), (37, 61)), (dict(pooled=False, decoder='none'), (33, 47)),
                         (CASES['ViT with registers'], (37, 61))):
        method, x = made(**change).eval(), torch.rand(1, 3, *size)
        out = method.features(x)
        assert out['tokens'].shape[1] == out['grid'][0] * out['grid'][1]
        assert method.norm_map(x).shape == (1, *out['grid'])
    method = made().eval()
    out = method.features(x)
    assert torch.allclose(method.norm_map(x), out['tokens'].norm(dim=-1).view(1, *out['grid']), atol=1e-5)


def test_registers_take_part_and_are_left_out():
    "They change what the patches become, and no map shows them"
    method, x = made(**CASES['ViT with registers']).eval(), torch.rand(2, 3, 32, 32)
    before = method.features(x)['tokens']
    with torch.no_grad(): method.student.encoder.registers.add_(1.)
    assert before.shape[1] == 16 and not torch.allclose(method.features(x)['tokens'], before)


def test_settings_that_cannot_work():
    "One sentence each"
    for change in (dict(net='resnet50'), dict(decoder='unet'), dict(net='vit'), dict(dense=False, pooled=False),
                   dict(loss_size='half')):
        with pytest.raises(ValueError): replace(cpu, **change)


def test_paper_preset_has_the_paper_s_widths():
    "ResNet-50, decoder 2048 → 256 → 2048, laterals from 1024 and 512, heads 4096 and 256 wide"
    with torch.device('meta'): method = PooDLe(presets['paper'])
    decoder = method.student.decoder
    assert [tuple(m.weight.shape[:2]) for m in decoder.laterals] == [(2048, 1024), (2048, 512)] and method.patch == 8
    assert [b.conv2.weight.shape[0] for b in decoder.blocks] == [256, 256]
    heads = (method.student.dense_projector, method.dense_predictor, method.student.pooled_projector,
             method.pooled_predictor)
    widths = [(h[0].weight.shape[1], h[0].weight.shape[0], h[-1].weight.shape[0]) for h in heads]
    assert widths == [(2048, 4096, 256), (256, 4096, 256)] * 2


# ---- subcrops as views of one thing

def test_toy_probability_by_brute_force():
    "Every position of a square, counted pixel by pixel in a small frame"
    mask, side = disc(5., (24, 32)), round((.1 * 24 * 32)**.5)
    windows = [mask[y:y + side, x:x + side] for y in range(24 - side + 1) for x in range(32 - side + 1)]
    hit = torch.stack([(w.float().mean() >= .05).double() for w in windows])
    hits, share = toy_probabilities(5., (24, 32), (.1,))
    assert hits.item() == pytest.approx(hit.mean().item(), abs=1e-9)
    assert share.item() == pytest.approx(mask.double().mean().item())
    assert share.item() == pytest.approx(torch.pi * 25 / (24 * 32), rel=.05)


def test_toy_curve_is_the_paper_s_finding():
    "Subcrops show an object more often than pixels do, the more the smaller; never without object, always if full"
    hits, share = toy_probabilities([15, 20, 40, 80, 120])
    gain = hits / share
    assert (gain > 1).all() and gain[1] > gain[2] > gain[3] > gain[4]
    assert toy_probabilities([0.])[0] == 0 and toy_probabilities([400.])[0] == 1


def test_subcrop_hits():
    "A class that fills a picture is always hit, one that is not there never; a small one more often than it has pixels"
    labels = torch.zeros(3, 60, 120, dtype=torch.long)
    labels[0] = 1
    labels[1, 28:33, 55:60] = 2
    hits, share = subcrop_probabilities(labels, [1, 2], each=400, scale=(.6, 1.), area=(.05, .05))
    assert hits.shape == share.shape == (3, 2) and (hits[2] == 0).all()
    assert hits[0].tolist() == [1., 0.] and share[0].tolist() == [1., 0.]
    assert share[1, 1] == pytest.approx(25 / 7200) and hits[1, 1] > 5 * share[1, 1]
    assert torch.equal(subcrop_probabilities(labels, [1, 2], each=400, scale=(.6, 1.), area=(.05, .05))[0], hits)
    a, b = mean_by_size(torch.rand(40, 3), torch.arange(120.).view(40, 3), bins=7)
    assert len(a) == len(b) == 7 and b.tolist() == sorted(b.tolist())


@pytest.mark.parametrize('change', [dict(predictor=False), dict(stop_gradient=False)])
def test_guards_can_be_taken_out(change):
    "Without predictor, or with the gradient into both sides, a step still runs, and the teacher is what it should be"
    method = made(**change)
    out = method(Views(method.config)(batch()))
    sum(method.loss(out).values()).backward()
    assert out['target'].requires_grad is not change.get('stop_gradient', True)
    assert torch.equal(out['target'], out['prediction']) is False


def test_stride_is_a_range_drawn_anew_for_each_pair():
    "Each pair stands in the data once with every distance, so the run's order draws Δt; one number stays one number"
    from ssl_workbench.data import open_pairs
    one, many = (open_pairs('world:drive:0', 32, s, length=4) for s in (3, (2, 4)))
    assert len(many) == 3 * len(one)
    same = lambda a, b: torch.equal(a['frames'], b['frames'])
    assert all(same(many[4 + i], one[i]) for i in range(4)) and not same(many[0], one[0])
    assert presets['paper'].stride == (15, 30) and presets['walking_tours'].stride == 15


def test_blur_does_not_grow_with_the_crop():
    "paper: σ at most 2 pixels whatever the side; the small presets keep the rule that their weights were trained with"
    step = torch.zeros(1, 3, 64, 1024); step[..., 512:] = 1
    def width(config):
        recipe = replace(Views(config).photometric(0), jitter_p=0, grey_p=0, blur_p=1., blur_sigma=(2., 2.))
        edge = recipe(step, [0], 'v')[0, 0, 32].diff()
        at = torch.arange(len(edge)) - (edge * torch.arange(len(edge))).sum()
        return float((edge * at.square()).sum().sqrt())
    assert abs(width(presets['paper']) - 2) < .05 and abs(width(presets['gpu']) - 2 * 1024 / 224) < .1


def test_public_code():
    "The authors' code as a declared alternative: colours, weights, zoom, and the teacher before the step"
    config = public_code(cpu)
    recipe = Views(replace(config, colour=1.)).photometric(1)
    assert (recipe.brightness, recipe.hue, recipe.blur_p, recipe.blur_at) == (.8, .2, .5, None)
    torch.manual_seed(0)
    method, plain = PooDLe(config), PooDLe(cpu)
    plain.load_state_dict(method.state_dict())
    views = Views(cpu)(world.batch(range(2), kind='drive', size=(96, 96), frames=2) | dict(seed=torch.arange(2)))
    with torch.no_grad():
        ours, theirs = method.loss(method(views)), plain.loss(plain(views))
        for name in ('dense', 'pooled'): assert torch.allclose(ours[name], theirs[name] / 2)
        for p in method.student.parameters(): p.add_(1)
        before = next(method.teacher.parameters()).clone()
        method.after_step(0.); assert torch.equal(next(method.teacher.parameters()), before)
        method.before_step(0.); assert not torch.equal(next(method.teacher.parameters()), before)


def test_paper_flow_is_refused_where_it_cannot_be_had(monkeypatch):
    "RAFT's weights are missing: one sentence, and no other flow in silence"
    from torchvision.models import optical_flow

    from ssl_workbench.training import flow_source
    def offline(*_, **__): raise OSError('no network')
    monkeypatch.setattr(optical_flow, presets['paper'].flow, offline)
    with pytest.raises(ValueError, match='RAFT|raft'): flow_source(presets['paper'].flow)
