"""What the lessons on probes cannot see: agreement with libraries and brute force on random cases, error sentences."""
import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import skimage.metrics
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, jaccard_score
from sklearn.neighbors import KNeighborsClassifier

from ssl_workbench import catalog, probes
from ssl_workbench.heads import VideoInference
from ssl_workbench.probes import label_propagation
from ssl_workbench.world import World


def draw(seed):
    "A seeded generator"
    return torch.Generator().manual_seed(seed)


def random_labels(seed, shape=(3, 7, 9), kinds=5):
    "A truth and a prediction that agrees with it in about half the pixels"
    g = draw(seed)
    truth = torch.randint(int(torch.randint(1, kinds + 1, (1,), generator=g)), shape, generator=g)
    other = torch.randint(kinds, shape, generator=g)
    return torch.where(torch.rand(shape, generator=g) < .5, truth, other), truth


def rand_by_pairs(p, t):
    "Adjusted Rand index by looking at every pair of pixels"
    pairs = list(itertools.combinations(range(len(p)), 2))
    a, b = [p[i] == p[j] for i, j in pairs], [t[i] == t[j] for i, j in pairs]
    both, expected = sum(x and y for x, y in zip(a, b)), sum(a)*sum(b)/len(pairs)
    most = (sum(a) + sum(b))/2
    return 1. if most == expected else (both - expected)/(most - expected)


@pytest.mark.parametrize('background', [True, False])
def test_ari_counts_pairs(background):
    "Thirty random stacks against pair counting, with and without the background"
    for seed in range(30):
        pred, truth = random_labels(seed)
        keep = [(t >= 0) if background else t > 0 for t in truth]
        want = [rand_by_pairs(p[k].tolist(), t[k].tolist()) for p, t, k in zip(pred, truth, keep) if k.sum() > 1]
        if want: assert probes.ari(pred, truth, background) == pytest.approx(sum(want)/len(want), abs=1e-12)


def test_overlap_scores_by_brute_force():
    "jaccard, best_iou and mask_jaccard against loops, void and unassigned pixels among them"
    for seed in range(30):
        pred, truth = random_labels(seed, kinds=6)
        truth[:, 0, 1], truth[:, 1, 0], pred[:, 2, 2:4] = 255, 1, -1
        best = []
        for p, t in zip(pred, truth):
            real, iou = t != 255, lambda a, b: (a & b).sum().item()/max(1, (a | b).sum().item())
            best.append([max(iou((p == i) & real, t == k) for i in p[p >= 0].unique())
                         for k in t.unique() if 0 < k < 255])
        assert probes.jaccard(pred, truth) == pytest.approx(sum(sum(b)/len(b) for b in best)/3, abs=1e-6)
        assert probes.best_iou(pred, truth) == pytest.approx(sum(map(sum, best))/sum(map(len, best)), abs=1e-6)
        masks = torch.stack([pred == k for k in range(6)], 1)
        assert probes.mask_jaccard(masks, truth) == pytest.approx(probes.jaccard(pred, truth), abs=1e-6)


@pytest.mark.parametrize('k, temperature', [(1, .07), (7, .07), (20, 1.), (500, .5)])
def test_knn_agrees_with_scikit_learn(k, temperature):
    "Their weighted vote with cosine distances, whatever the chunk; more neighbours requested than there are"
    x = torch.randn(140, 6, generator=draw(0))
    y = torch.randint(4, (140,), generator=draw(1))*3 - 2
    x[:, 0] += y
    vote = KNeighborsClassifier(min(k, 100), metric='cosine', weights=lambda d: np.exp(-d/temperature))
    want = vote.fit(x[:100].double().numpy(), y[:100].numpy()).predict(x[100:].double().numpy())
    for chunk in (3, 1024):
        assert probes.knn_predict(x[:100], y[:100], x[100:], k, temperature, chunk).tolist() == want.tolist()
        assert probes.knn(x[:100], y[:100], x[100:], y[100:], k, temperature, chunk) == (want == y[100:].numpy()).mean()


def test_regression_reaches_the_bottom():
    "The gradient of the penalised loss, written out by hand, vanishes at the weights found"
    x, y = torch.randn(300, 5, generator=draw(0)).double(), torch.rand(300, 3, generator=draw(1)).double()
    w = probes.softmax_regression(x, y, l2=.01)
    slope = (x @ w[:, :-1].T + w[:, -1]).softmax(1)*y.sum(1, keepdim=True) - y
    assert (slope.T @ x/y.sum() + .01*w[:, :-1]).abs().max() < 1e-5 and (slope.sum(0)/y.sum()).abs().max() < 1e-5


@pytest.mark.parametrize('l2', [1., .01])
def test_regression_agrees_with_scikit_learn(l2):
    "The same weights as their L2 logistic regression, whose C sums where ours means"
    x, y = torch.randn(300, 5, generator=draw(0)).double(), torch.randint(3, (300,), generator=draw(1))
    x[:, 0] += y
    w = probes.softmax_regression(x, F.one_hot(y).double(), l2)
    theirs = LogisticRegression(C=1/(l2*len(x)), tol=1e-8, max_iter=1000).fit(x.numpy(), y.numpy())
    bias = w[:, -1] - w[:, -1].mean()  # a constant added to all biases changes nothing
    assert torch.allclose(w[:, :-1], torch.tensor(theirs.coef_), atol=1e-4)
    assert torch.allclose(bias, torch.tensor(theirs.intercept_ - theirs.intercept_.mean()), atol=1e-4)


def test_iou_agrees_with_scikit_learn():
    "Jaccard per class, void pixels left out, a class absent from the truth NaN"
    pred, truth = random_labels(0, (4, 9, 11), kinds=5)
    truth[:, 0] = 255
    truth[truth == 3] = 2
    got, keep = probes.iou_scores(probes.confusion(pred, truth, 5)), truth != 255
    labels = sorted(truth[keep].unique().tolist())
    want = jaccard_score(truth[keep].numpy(), pred[keep].numpy(), labels=labels, average=None)
    assert got['iou'][labels].tolist() == pytest.approx(want.tolist(), abs=1e-6) and got['iou'][3].isnan()
    assert got['miou'] == pytest.approx(want.mean(), abs=1e-9)


def test_linear_never_learns_from_the_test_set():
    "Each test sample alone gets the prediction that it gets among others"
    x, y = torch.randn(400, 20, generator=draw(0)), torch.arange(400) % 4
    x[:, 0] += 4*(y == 1)
    halves = x[:200], y[:200], x[200:]
    singles = [probes.linear(*halves[:2], x[i:i + 1], y[i:i + 1]) for i in range(200, 220)]
    assert probes.linear(*halves[:2], x[200:220], y[200:220]) == pytest.approx(sum(singles)/20)


def test_segment_sees_what_features_hold():
    "One-hot features give mIoU 1, void ignored, sizes mixed; useless ones give the majority; both repeat exactly"
    g, pairs = draw(0), []
    for size in [(16, 24)]*12 + [(32, 16)]*8:
        label = torch.randint(3, (size[0]//8, size[1]//8), generator=g).repeat_interleave(8, 0).repeat_interleave(8, 1)
        void = torch.rand(size, generator=g) < .1
        pairs.append((torch.stack([label == k for k in range(3)]).float(), label.masked_fill(void, 255)))
    got = [probes.segment(lambda x: x, pairs[::2], pairs[1::2], 4) for _ in range(2)]
    assert got[0]['miou'] == got[0]['acc'] == 1. and got[0]['iou'][3].isnan()
    assert torch.equal(got[0]['iou'][:3], got[1]['iou'][:3])
    dull = probes.segment(lambda x: x[:, :1, ::4, ::4]*0, pairs[::2], pairs[1::2], 3)
    assert sorted(dull['iou'].tolist())[:2] == [0, 0] and dull['acc'] < .6


def test_probes_do_not_depend_on_threads():
    "Same seed, same numbers with one thread and with two"
    x = torch.randn(600, 24, generator=draw(0))
    y = torch.arange(600) % 5
    x[:, :5] += F.one_hot(y, 5)
    maps, seen = x.view(6, 10, 10, 24).movedim(-1, 1), []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            split = x[:400], y[:400], x[400:], y[400:]
            seen.append([probes.knn(*split), probes.linear(*split), probes.low_shot(*split, .1),
                         probes.cluster_maps(maps, 5).tolist()])
    finally: torch.set_num_threads(threads)
    assert seen[0] == seen[1]


def test_components_by_flood_fill():
    "Pieces of random maps and of a spiral, found pixel by pixel"
    def flood(label):
        found, n = torch.full(label.shape, -1), 0
        for start in itertools.product(*map(range, label.shape)):
            if found[start] >= 0: continue
            todo = [start]
            while todo:
                y, x = todo.pop()
                if not (0 <= y < label.shape[0] and 0 <= x < label.shape[1]): continue
                if found[y, x] >= 0 or label[y, x] != label[start]: continue
                found[y, x] = n
                todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            n += 1
        return found
    maps = list(torch.randint(2, (10, 12, 13), generator=draw(0)))
    snake = torch.zeros(12, 13).long()
    snake[::2] = 1; snake[1::4, -1] = 1; snake[3::4, 0] = 1  # one long path back and forth
    for label in [*maps, snake]:
        got, want = probes.connected_components(label[None])[0], flood(label)
        assert len({*zip(got.flatten().tolist(), want.flatten().tolist())}) == want.max() + 1 == got.unique().numel()


def test_kmeans_finds_blobs_and_batches_do_not_matter():
    "Far blobs are found exactly; many problems at once give what each gives alone"
    centres = 50*torch.randn(4, 6, 3, generator=draw(0))
    x = centres.repeat_interleave(20, 1) + torch.randn(4, 120, 3, generator=draw(1))
    labels, found = probes.kmeans(x, 6, restarts=8)
    for i in range(4):
        alone = probes.kmeans(x[i], 6, restarts=8)
        assert torch.equal(alone[0], labels[i]) and torch.allclose(alone[1], found[i])
        assert adjusted_rand_score(np.repeat(range(6), 20), labels[i]) == 1


def test_interval_agrees_with_scipy():
    "Their quantiles and their t-interval"
    for df in (1, 2, 3, 9, 30, 120):
        assert probes.t_quantile(df) == pytest.approx(scipy.stats.t.ppf(.975, df), abs=1e-9)
    x = torch.randn(7, generator=draw(0)).double().numpy()
    mean, half = probes.interval(x)
    low, high = scipy.stats.t.interval(.95, len(x) - 1, x.mean(), scipy.stats.sem(x))
    assert (mean - half, mean + half) == pytest.approx((low, high), abs=1e-12)


def test_boxes_agree_with_the_world():
    "Boxes of whole pieces are the world's own boxes"
    got = World('scene', level=1, frames=1, length=20).batch(range(20))
    instances, boxes = got['instances'][:, 0], got['boxes'][:, 0]
    ours = probes.boxes_of(instances, background=0)
    whole = [(ours[b][i], boxes[b, k - 1]) for b in range(20) for i, k in enumerate(instances[b].unique()[1:])
             if probes.connected_components((instances[b] == k)[None])[0][instances[b] == k].unique().numel() == 1]
    assert len(whole) > 30
    for mine, theirs in whole: assert torch.equal(mine, theirs.float())


def test_encode_is_the_same_with_and_without_batch():
    "A dataset that renders batches and a plain list of its samples; clips give their first frame"
    class Mean:
        def features(self, x): return dict(pooled=x.mean((2, 3)))
    world = World('iconic', level=0, frames=2, length=10)
    a, b = probes.encode(Mean(), world, batch=4), probes.encode(Mean(), [world[i] for i in range(10)])
    assert torch.allclose(a['pooled'], b['pooled']) and torch.equal(a['label'], b['label'])
    assert a['pooled'].shape == (10, 3)


class Still:
    "Raw pixels of 4 x 4 patches: features that nothing can train"
    def features(self, x):
        maps = probes.patch_pixels(x, (x.shape[-2]//4, x.shape[-1]//4))
        return dict(tokens=maps.flatten(2).mT, grid=maps.shape[2:], pooled=maps.mean((2, 3)))


def blocks(n, seed, size=(12, 20)):
    "n pairs of a picture, its left half dark, its right half bright, or the other way round, and which is which"
    pairs = []
    for turned in torch.randint(2, (n,), generator=draw(seed)).tolist():
        label = (torch.arange(size[1]) < size[1]//2).long().expand(size)
        label = 1 - label if turned else label
        pairs.append((label.float().expand(3, -1, -1)*.8, label))
    return pairs


def test_cue_conflict_adds_up():
    "Shares count decisions one by one, whatever the classes are called; bias is theirs alone"
    shape, texture = torch.randint(5, (2, 600), generator=draw(0))*7 + 3
    x = torch.cat([F.one_hot(shape//7, 5), 2*F.one_hot(texture//7, 5)], 1).float()
    x += .8*torch.randn(600, 10, generator=draw(1))
    got = probes.cue_conflict(x, shape, texture, probes.knn_predict)
    agree = shape == texture
    train = agree & ~probes.hold_out(torch.where(agree, shape, -1), 0)
    predicted = probes.knn_predict(x[train], shape[train], x)
    conflict = (shape != texture).nonzero()[:, 0].tolist()
    want = [sum(int(predicted[i] == y[i]) for i in conflict) for y in (shape, texture)]
    assert [got['shape'], got['texture']] == pytest.approx([w/len(conflict) for w in want])
    assert got['bias'] == pytest.approx(want[0]/sum(want))
    assert got['neither'] == pytest.approx(1 - sum(want)/len(conflict))
    assert got['bias'] < .3 and got['agree'] > .8 and got['texture_unseen_shapes'] > got['shape_unseen_textures']


def test_unseen_group_accuracy_tests_every_row_once():
    "A probe that remembers which groups it was trained on"
    y, groups = torch.randint(3, (2, 90), generator=draw(0))
    seen = []
    def predict(train_x, train_y, test_x):
        seen.append((set(train_x[:, 0].tolist()), set(test_x[:, 0].tolist()), len(test_x)))
        return torch.zeros(len(test_x)).long()
    got = probes.unseen_group_accuracy(groups[:, None].float(), y, groups, predict)
    assert got == pytest.approx((y == 0).double().mean().item())
    assert all(not a & b for a, b, _ in seen) and sum(n for *_, n in seen) == 90


@pytest.mark.parametrize('size, window, stride', [
    ((12, 20), (8, 8), 3), ((8, 8), (8, 8), 8), ((5, 30), (8, 10), 7), ((9, 9), (4, 6), 1)])
def test_sliding_logits_by_hand(size, window, stride):
    "Every pixel is the plain mean over the windows that cover it"
    x = torch.rand(2, 3, *size, generator=draw(0))
    net = lambda part: part[:, :2].cumsum(-1).cumsum(-2)                  # depends on where the window starts
    got, (h, w) = probes.sliding_logits(net, x, window, stride), window
    full = F.pad(x, (0, max(0, w - size[1]), 0, max(0, h - size[0])), value=probes.GREY)
    seen = [[[] for _ in range(full.shape[-1])] for _ in range(full.shape[-2])]
    for top, left in probes.sliding_windows(full.shape[-2:], window, stride):
        out = net(full[..., top:top + h, left:left + w])
        for i, j in itertools.product(range(h), range(w)): seen[top + i][left + j].append(out[..., i, j])
    mean = [[torch.stack(seen[i][j]).mean(0) for j in range(size[1])] for i in range(size[0])]
    want = torch.stack([torch.stack(row, -1) for row in mean], -2)
    assert got.shape == (2, 2, *size) and torch.allclose(got, want, atol=1e-4)


def test_random_window_keeps_image_and_label_together():
    "Whatever the ratio and the crop, bright is class 1 and padding is ignored, but for the blurred border"
    g, image, label = draw(0), *blocks(1, 0)[0]
    for _ in range(50):
        x, y = probes.random_crop(image, label, (16, 16), g)
        assert x.shape == (3, 16, 16) and y.shape == (16, 16)
        real = y != 255
        assert (x[:, ~real] == probes.GREY).all() and ((x[0] > .4) == (y == 1))[real].float().mean() > .9


def test_decoder_learns_on_still_features_and_leaves_no_trace():
    "Frozen pixels are enough where brightness is the class; same seed, same scores; the global generator is untouched"
    before = torch.random.get_rng_state()
    setting = dict(steps=40, frozen=True, window=(8, 8), stride=5, lr=.05, batch=4)
    ways = [probes.finetune_segmentation(Still(), blocks(12, 0), blocks(6, 1), 2, **setting) for _ in range(2)]
    assert ways[0]['miou'] == ways[1]['miou'] > .8 and ways[0].keys() == {'miou', 'acc', 'iou'}
    assert torch.equal(before, torch.random.get_rng_state())


def test_poly_decay_and_loss_over_labelled_pixels():
    "The rate is lr (1 - t/n)^.9, and a crop of nothing but ignored pixels gives no NaN"
    net, void = probes.LinearDecoder(Still(), 48, 2, frozen=True), [(i, l*0 + 255) for i, l in blocks(4, 0)]
    was = net.head.weight.clone()
    assert probes.train_decoder(net, void, 3, (8, 8), weight_decay=0.) == [0, 0, 0]
    assert torch.equal(was, net.head.weight)
    rate, descent = [], torch.optim.SGD(net.parameters(), .1)
    decay = torch.optim.lr_scheduler.PolynomialLR(descent, 10, .9)
    for _ in range(10): rate.append(decay.get_last_lr()[0]); descent.step(); decay.step()
    assert rate == pytest.approx([.1*(1 - t/10)**.9 for t in range(10)])


DENSE = [e.name for e in (*catalog.catalog, *catalog.classics)
         if e.state == 'ready' and 'features' not in e.inputs and e.inputs != ('caption',)]


@pytest.mark.parametrize('name', DENSE)               # a method of cached features has no map of a picture
def test_every_method_can_be_fine_tuned(name):
    "Gradients reach every weight that features() reads, teachers and fixed positions too; the method stays as it was"
    with torch.random.fork_rng(): method = catalog.build(name).eval()
    was = {k: v.clone() for k, v in method.state_dict().items()}
    flags = [p.requires_grad for p in method.parameters()]
    x = torch.rand(2, 3, 64, 64, generator=draw(0))
    with torch.no_grad(): dim = method.features(x)['tokens'].shape[-1]
    net = probes.LinearDecoder(method, dim, 3).train()
    with torch.no_grad(): net.head.weight.normal_()
    net(x).square().mean().backward()
    trained = [n for n, p in net.method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    attends = any('attn.qkv' in n for n, _ in method.named_parameters())
    if attends:
        assert sum('attn.qkv.weight' in n for n in trained) >= 2
        clips = isinstance(method, VideoInference)                # its positions are fixed and no parameter
        first = ('encoder.embedding',) if clips else ('patch_embed', 'pos_embed')
        assert all(any(part in n for n in trained) for part in first)
    else: assert sum(p.ndim == 4 and n in trained for n, p in net.method.named_parameters()) >= 5
    assert all(torch.equal(v, was[k]) for k, v in method.state_dict().items())
    assert flags == [p.requires_grad for p in method.parameters()]
    assert all(p.grad is None for p in method.parameters())
    frozen = probes.LinearDecoder(method, dim, 3, frozen=True).train()
    assert not frozen.method.training
    assert [n for n, p in frozen.named_parameters() if p.requires_grad] == ['head.weight', 'head.bias']


def test_attention_masks_of_a_method():
    "Each mask holds nine tenths of its head's mass with the fewest cells; the best head of each object counts"
    method = catalog.build('slotmim').eval()
    x = torch.rand(3, 3, 64, 64, generator=draw(0))
    masks, rows = probes.attention_masks(method, x), method.attention(x)
    cells = masks[..., ::8, ::8]
    mass = (rows*cells).flatten(2).sum(-1)/rows.flatten(2).sum(-1)
    least = torch.where(cells, rows, torch.inf).flatten(2).amin(-1)/rows.flatten(2).sum(-1)
    assert masks.shape == (3, rows.shape[1], 64, 64) and (mass > .9 - 1e-6).all() and (mass - least < .9 + 1e-6).all()
    truth = masks[:, 1].long()
    assert probes.attention_jaccard(method, x, truth, batch=2) == 1


def flows(seed, shape=(3, 2, 12, 15), scale=20.):
    "A true flow, a prediction near it, and which pixels count"
    g = draw(seed)
    truth = scale*torch.randn(shape, generator=g)
    return truth + 4*torch.randn(shape, generator=g), truth, torch.rand(shape[0], 1, *shape[2:], generator=g) < .6


def test_flow_scores_by_brute_force():
    "Pixel by pixel: EPE, KITTI's outliers, seen and occluded; masks with and without their channel"
    for seed in range(10):
        predict, truth, valid = flows(seed)
        visible = torch.rand(valid.shape, generator=draw(seed + 99)) < .7
        rows = {'': [], '_noc': [], '_occ': []}
        for b, y, x in itertools.product(*map(range, (3, 12, 15))):
            if not valid[b, 0, y, x]: continue
            (u, v), (s, t) = predict[b, :, y, x].tolist(), truth[b, :, y, x].tolist()
            error, length = ((u - s)**2 + (v - t)**2)**.5, (s*s + t*t)**.5
            for name in ('', '_noc' if visible[b, 0, y, x] else '_occ'):
                rows[name].append((error, error > 3 and error > .05*length))
        got = probes.flow_scores(predict, truth, visible, valid[:, 0])
        for name, row in rows.items():
            assert got['epe' + name] == pytest.approx(sum(e for e, _ in row)/len(row), abs=1e-6)
            assert got['fl' + name] == pytest.approx(sum(o for _, o in row)/len(row), abs=1e-12)
        assert got['epe'] == probes.epe(predict, truth, valid) and got['fl'] == probes.fl_all(predict, truth, valid)
        assert got['zero'] == pytest.approx(probes.epe(0*truth, truth, valid), abs=1e-9)
        assert probes.flow_scores(predict, truth)['epe_occ'] != probes.flow_scores(predict, truth)['epe_occ']


def mean_error(flow, truth, valid):
    "End-point error of each pair, (B,)"
    return torch.stack([(t - f).norm(dim=0)[v[0]].double().mean() for f, t, v in zip(flow, truth, valid)])


@pytest.mark.parametrize('kind', ['spread', 'few', 'still', 'line'])
def test_best_constant_is_the_best(kind):
    "No other arrow has a smaller end-point error: neither the mean, the median, near ones nor any true one"
    for seed in range(6):
        _, truth, valid = flows(seed, (2, 2, 6, 7))
        if kind == 'few': truth = (truth/15).round()
        if kind == 'still': truth = torch.where(torch.rand(2, 1, 6, 7, generator=draw(seed)) < .55, 0., truth)
        if kind == 'line': truth[:, 1] = 2*truth[:, 0]
        best = probes.best_constant(truth, valid)
        assert best.shape == (2, 2, 1, 1)
        points = truth.flatten(2)
        candidates = [*points.movedim(2, 0), points.mean(2), points.median(2).values]
        candidates = [c[..., None, None] for c in candidates]
        candidates += [best + r*torch.randn(best.shape, generator=draw(seed)) for r in (1e-3, .1, 1.)]
        for candidate in candidates:
            assert (mean_error(best, truth, valid) <= mean_error(candidate, truth, valid) + 1e-5).all()
    assert torch.equal(probes.best_constant(torch.full((1, 2, 3, 3), 7.)), torch.full((1, 2, 1, 1), 7.))


def test_photometric_of_a_shift():
    "A picture that moves by whole pixels is fetched back exactly, as uint8 and as float; occluded pixels do not count"
    wide = torch.randint(256, (2, 3, 10, 14), generator=draw(0), dtype=torch.uint8)
    a, b = wide[..., 2:12], wide[..., :10].clone()      # what is at x in a is at x + 2 in b
    flow = torch.zeros(2, 2, 10, 10)
    flow[:, 0] = 2
    assert probes.photometric(a, b, flow)['warped'] < 1e-6 < .1 < probes.photometric(a, b, flow)['unwarped']
    b[:, :, 4, 5] = 255 - a[:, :, 4, 3]
    seen = torch.ones(2, 10, 10, dtype=torch.bool)
    seen[:, 4, 3] = False
    assert probes.photometric(a/255, b/255, flow)['warped'] > 1e-4
    assert probes.photometric(a/255, b/255, flow, seen)['warped'] < 1e-6


def test_class_groups_by_brute_force():
    "Shares over the images in which a class occurs, void pixels counted, sizes mixed"
    for seed in range(5):
        g = draw(seed)
        frequencies, heights = torch.tensor([30., 8, 3, 1, .3, .1]), (10, 15, 20, 10, 12)
        labels = [torch.multinomial(frequencies, h*20, True, generator=g).view(h, 20) for h in heights]
        for label in labels: label[label == 5] = 255
        groups = probes.class_groups(labels, 7, small=.05, rare=.6)
        for c in range(7):
            shares = [(label == c).double().mean().item() for label in labels if (label == c).any()]
            found = {name for name, members in groups.items() if c in members}
            if not shares: assert not found; continue
            size, frequency = sum(shares)/len(shares), len(shares)/5
            assert found == {'small' if size <= .05 else 'large', 'rare' if frequency <= .6 else 'common'}
    assert probes.group_scores(torch.tensor([.5, torch.nan, .25]), dict(a=[0, 1], b=[1]))['a'] == .5


def propagate_by_loops(features, first_mask, k, context, radius, temperature):
    "DINO's propagation, one patch and one source at a time; labels 0 to C-1"
    T, _, h, w = features.shape
    C, places = int(first_mask.max()) + 1, list(itertools.product(range(h), range(w)))
    x = F.normalize(features.double(), dim=1)
    H, W = first_mask.shape
    soft = [torch.stack([F.one_hot(first_mask[int((i + .5)*H/h), int((j + .5)*W/w)], C).double() for i, j in places])]
    predicted = [first_mask]
    for t in range(1, T):
        rows = []
        for i, j in places:
            near = [((x[t, :, i, j]*x[s, :, a, b]).sum().item(), soft[s][a*w + b])
                    for s in [0, *range(max(1, t - context), t)] for a, b in places
                    if not radius or max(abs(a - i), abs(b - j)) <= radius]
            best = sorted(near, key=lambda n: -n[0])[:k]
            weights = torch.tensor([c for c, _ in best]).div(temperature).exp()
            rows.append(sum(u*l for u, (_, l) in zip(weights/weights.sum(), best)))
        soft.append(torch.stack(rows))
        maps = F.interpolate(soft[t].T.view(1, C, h, w), (H, W), mode='bilinear')[0]
        maps = [(m - m.min())/(m.max() - m.min()) if m.max() > m.min() else m for m in maps]
        predicted.append(torch.stack(maps).argmax(0))
    return torch.stack(predicted)


@pytest.mark.parametrize('context,radius', [(7, 12), (2, 1), (0, 2), (3, 0)])
def test_propagate_by_loops(context, radius, monkeypatch):
    "Every patch, source and frame by hand; in chunks the same"
    features = torch.randn(5, 6, 4, 5, generator=draw(1)).cumsum(0)
    first = torch.randint(3, (12, 15), generator=draw(2))
    want = propagate_by_loops(features, first, 5, context, radius, .1)
    assert torch.equal(probes.propagate(features, first, context=context, radius=radius), want)
    whole = label_propagation._propagated
    monkeypatch.setattr(label_propagation, '_propagated', lambda *a: whole(*a, budget=60))
    assert torch.equal(probes.propagate(features, first, context=context, radius=radius), want)


def test_propagate_keeps_any_labels_and_sharp_temperatures():
    "Labels need not be 0 to C-1; one label alone stays; exp(1/temperature) does not overflow"
    features, first = torch.randn(4, 6, 4, 5, generator=draw(3)), torch.randint(3, (12, 15), generator=draw(4))
    named = torch.tensor([-1, 40, 1000])[first]
    want = torch.tensor([-1, 40, 1000])[probes.propagate(features, first)]
    assert torch.equal(probes.propagate(features, named), want)
    assert (probes.propagate(features, first*0 + 9) == 9).all()
    still = probes.propagate(features[:1].expand(4, -1, -1, -1), first, neighbours=1, temperature=1e-4)
    assert torch.equal(still[1], still[2]) and torch.equal(still[1], still[3])


def f_by_sets(p, t):
    "Contour accuracy of one frame with sets of pixels"
    h, w = t.shape
    def outline(m):
        at, m = set(), m.tolist()
        for y, x in itertools.product(range(h), range(w)):
            others = [(y, x + 1)]*(x + 1 < w) + [(y + 1, x)]*(y + 1 < h) + [(y + 1, x + 1)]*(x + 1 < w and y + 1 < h)
            if any(m[a][b] != m[y][x] for a, b in others): at.add((y, x))
        return at
    near = -int(-.008*(h*h + w*w)**.5//1)
    hit = lambda a, b: sum(any((y - v)**2 + (x - u)**2 <= near**2 for v, u in b) for y, x in a)
    a, b = outline(p), outline(t)
    if not a or not b: return float(not a and not b)
    precision, recall = hit(a, b)/len(a), hit(b, a)/len(b)
    return 2*precision*recall/(precision + recall) if precision + recall else 0.


def test_davis_by_sets():
    "J and F with sets of pixels on random masks; the first and the last frame count only when asked"
    for seed, size in enumerate([(9, 14), (20, 11), (130, 9)]):
        noise = [torch.randn(5, *size, generator=draw(10*seed + k)) for k in (0, 1)]
        pred, truth = (F.avg_pool2d(x, 3, 1, 1) > .2 for x in noise)
        pred[2], truth[3, :, :] = False, False
        f = [f_by_sets(p, t) for p, t in zip(pred, truth)]
        j = [((p & t).sum()/(p | t).sum()).item() if (p | t).any() else 1. for p, t in zip(pred, truth)]
        for ends, kept in ((False, slice(1, -1)), (True, slice(None))):
            got, n = probes.davis(pred, truth, ends), len(f[kept])
            assert got == pytest.approx(dict(j=sum(j[kept])/n, f=sum(f[kept])/n), abs=1e-6)


def test_follow_true_flow_and_score_clips():
    "Looked up along the world's true flow the visible pixels are right; perfect features beat standing still"
    ball = World('bounce', level=0, frames=4, size=(48, 48), length=2)
    clips = [ball[i] for i in range(2)]
    for c in clips:
        carried = probes.propagate_by_flow(c['instances'][0], c['flow_back'], c['flow'])
        assert torch.equal(carried[0], c['instances'][0]) and (carried == c['instances']).float().mean() > .97
    scores = probes.video_segmentation(lambda x: F.adaptive_avg_pool2d(x, 12), clips, radius=4)
    assert scores['flow']['j'] > max(.8, scores['still']['j'])
    assert scores['method']['objects'] == scores['still']['objects']
    assert 0 <= scores['method']['f'] <= 1


IMAGES = dict(channel_axis=0, data_range=1., gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


def test_ssim_and_psnr_agree_with_scikit_image():
    "Random, smooth and inverted pictures; bytes and floats; any leading shape; Wang's covariances, without N - 1"
    g = draw(0)
    a = F.interpolate(torch.rand(4, 3, 5, 7, generator=g), (19, 27), mode='bicubic').clamp(0, 1).view(2, 2, 3, 19, 27)
    b = (a + .2*torch.randn(a.shape, generator=g)).clamp(0, 1)
    b[0, 1], b[1, 0] = 1 - a[0, 1], a[1, 0]
    got, db = probes.ssim(a, b), probes.psnr(a, b)
    assert got.shape == db.shape == (2, 2) and got[1, 0] == 1 and db[1, 0] == torch.inf and got[0, 1] < 0
    for i, j in ((0, 0), (0, 1), (1, 1)):
        x, y = (v[i, j].double().numpy() for v in (a, b))
        assert got[i, j].item() == pytest.approx(skimage.metrics.structural_similarity(x, y, **IMAGES), abs=1e-9)
        assert db[i, j].item() == pytest.approx(skimage.metrics.peak_signal_noise_ratio(x, y, data_range=1.), abs=1e-9)
    bytes_ = [(x*255).round().byte() for x in (a, b)]
    assert torch.allclose(probes.ssim(*bytes_), probes.ssim(*(x.double()/255 for x in bytes_)), atol=1e-12)
    assert torch.allclose(probes.psnr(a*7, b*7, peak=7.), db, atol=1e-4)
    weights = torch.tensor([.299, .587, .114]).view(3, 1, 1)
    luma = [(x*weights).sum(-3, keepdim=True).expand_as(x) for x in (a, b)]
    assert torch.allclose(probes.ssim(a, b, grey=True), probes.ssim(*luma), atol=1e-5)


def frechet_by_root(a, b):
    "The formula as it stands, with scipy's square root of a matrix"
    a, b = a.double().numpy(), b.double().numpy()
    s, t = np.cov(a.T), np.cov(b.T)
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2*np.real(scipy.linalg.sqrtm(s @ t)))


@pytest.mark.parametrize('n, d', [(200, 5), (60, 20), (90, 24)])
def test_frechet_agrees_with_scipy(n, d):
    "The usual code of FID; sets of different size"
    g = draw(d)
    a = torch.randn(n, d, generator=g) @ torch.randn(d, d, generator=g)
    b = torch.randn(n + 7, d, generator=g) @ torch.randn(d, d, generator=g) + 1
    want = frechet_by_root(a, b)
    assert probes.frechet(a, b) == pytest.approx(want, abs=1e-6)
    assert probes.frechet(b, a) == pytest.approx(want, abs=1e-6)
    assert probes.frechet(a, a) < 1e-9 and probes.frechet(a, a + 2) == pytest.approx(4*d, rel=1e-5)


def test_frechet_with_fewer_samples_than_dimensions():
    "Exact for the empirical covariances: extra empty dimensions and a turn of space change nothing"
    g = draw(4)
    a, b = torch.randn(9, 6, generator=g).double(), 2*torch.randn(8, 6, generator=g).double() + 1
    turn = torch.linalg.qr(torch.randn(40, 40, generator=g).double()).Q
    wide = [F.pad(x, (0, 34)) @ turn for x in (a, b)]
    assert probes.frechet(*wide) == pytest.approx(probes.frechet(a, b), abs=1e-9)
    assert probes.frechet(a, b) == pytest.approx(frechet_by_root(a, b), abs=1e-6)


def test_moving_psnr_by_pixels():
    "Marked pixels of each clip, a clip without any left out, an unmarked pixel without effect"
    g = draw(5)
    pred, truth = torch.rand(3, 4, 3, 6, 5, generator=g), torch.rand(3, 4, 3, 6, 5, generator=g)
    inst = (torch.rand(3, 6, 6, 5, generator=g) < .3).long()*4
    inst[2] = 0
    moving, got = probes.moving_pixels(inst, 2), None
    assert torch.equal(moving[:2, 2, 0], (inst[:2, 4] > 0) | (inst[:2, 1] > 0))
    got = probes.moving_psnr(pred, truth, moving)
    for t in range(4):
        db = []
        for b in range(2):
            e = [(pred[b, t, c, y, x] - truth[b, t, c, y, x]).item()**2
                 for y, x in moving[b, t, 0].nonzero().tolist() for c in range(3)]
            db.append(-10*math.log10(sum(e)/len(e)))
        assert got[t].item() == pytest.approx(sum(db)/2, abs=1e-5)
    other = torch.where(moving, pred, torch.rand(pred.shape, generator=g))
    assert torch.allclose(probes.moving_psnr(other, truth, moving), got)
    assert probes.moving_psnr(pred[2:], truth[2:], moving[2:]).isnan().all()


def test_perceptual_distance_by_places():
    "Lists of maps and tokens alike, in pieces or at once"
    g = draw(6)
    a, b = torch.rand(2, 3, 3, 8, 8, generator=g), torch.rand(2, 3, 3, 8, 8, generator=g)
    encode = lambda x: [x, x[:, :2, ::2, ::2]]
    got = probes.perceptual_distance(encode, a, b, batch=4)
    x, y = a[1, 2], b[1, 2]
    unit = [[F.normalize(v, dim=0) for v in layers] for layers in ((x, y), (x[:2, ::2, ::2], y[:2, ::2, ::2]))]
    places = [[(p[:, i, j] - q[:, i, j]).square().sum().item() for i in range(len(p[0])) for j in range(len(p[0]))]
              for p, q in unit]
    assert got.shape == (2, 3) and got[1, 2].item() == pytest.approx(sum(sum(p)/len(p) for p in places)/2, abs=1e-6)
    tokens = lambda x: dict(tokens=x.flatten(2).mT, grid=x.shape[2:])
    assert torch.allclose(probes.perceptual_distance(tokens, a, b), probes.perceptual_distance(lambda x: x, a, b))
    with torch.random.fork_rng():
        method = catalog.build('slotmim').eval()
        far = probes.perceptual_distance(method, torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    assert far.shape == (2,) and (far > 0).all()


@pytest.mark.parametrize('level', [0, 1, 2])
def test_count_bodies_of_true_frames(level):
    "At least 98 of 100 true frames exactly right in colours and numbers, and the true future keeps its bodies"
    clips = World('bounce', level=level, frames=16, seed=11, length=5).batch(range(5))
    frames, want = clips['frames'].flatten(0, 1), torch.zeros(80, 9, dtype=torch.long)
    for row, inst, kind in zip(want, clips['instances'].flatten(0, 1), clips['classes'].flatten(0, 1)):
        for k in inst.unique()[1:]: row[kind[inst == k][0] - 1] += 1
    got = probes.count_bodies(frames)
    assert (got == want).all(1).double().mean() >= .98
    assert torch.equal(probes.count_bodies(frames[:4]/255), got[:4])
    assert probes.bodies_kept(clips['frames'][:, :2], clips['frames'][:, 2:]) == 1


def test_video_numbers_carry_their_protocol():
    "Observed frames in or out, rollouts a clip, the encoder's name"
    g = draw(8)
    real, made = torch.rand(6, 5, 3, 8, 8, generator=g), torch.rand(6, 4, 3, 3, 8, 8, generator=g)
    encode = lambda clips: torch.stack([clips.mean((1, 2, 3, 4)), clips.std((1, 2, 3, 4))], 1)
    out, inside = (probes.frechet_video(encode, real, made, 'mean and deviation', 'noise', included)
                   for included in (False, True))
    assert out.value == probes.frechet(encode(real[:, 2:]), encode(made.flatten(0, 1)))
    whole = torch.cat([real[:, None, :2].expand(-1, 4, -1, -1, -1, -1), made], 2).flatten(0, 1)
    assert inside.value == probes.frechet(encode(real), encode(whole)) != out.value
    for part in ('2 frames observed (left out', '3 predicted', '6 clips', '4 samples', '8x8', '0-1',
                 'mean and deviation', 'noise'):
        assert part in str(out), part
    assert 'observed (in the comparison)' in str(inside) and 'mean and deviation' in probes.report([inside])


def test_upernet_overfits_two_images():
    "Frozen maps of two sizes, two pictures: the head learns them by heart, the backbone is as before, the seed decides"
    g = draw(0)
    label = torch.zeros(2, 32, 32, dtype=torch.long)
    label[0, 4:20, 8:28], label[1, 12:32, 4:12], label[1, :8] = 1, 2, 1
    pairs = [(torch.rand(3, 32, 32, generator=g)*.2 + .4 + .3*(l == 1) - .3*(l == 2), l) for l in label]
    stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 2, 2), torch.nn.BatchNorm2d(8), torch.nn.Dropout(.5))
    was = {k: v.clone() for k, v in stem.state_dict().items()}
    class Maps(torch.nn.Module):
        def __init__(self): super().__init__(); self.stem = stem
        def forward(self, x): fine = self.stem(x); return [fine, F.avg_pool2d(fine, 2)]
    maps, how = Maps(), dict(classes=3, steps=80, window=(32, 32), dim=16, lr=.01, batch=4, ratio=(1, 1))
    state = torch.get_rng_state()
    scores = probes.upernet(maps, pairs, pairs, **how)
    assert scores['acc'] > .95 and scores['miou'] > .85
    assert torch.equal(state, torch.get_rng_state()) and maps.training and stem.training
    assert all(torch.equal(v, was[k]) for k, v in stem.state_dict().items())
    assert probes.upernet(maps, pairs, pairs, **how)['miou'] == scores['miou']
    net = probes.train_upernet(maps, pairs, 3, 1, (32, 32), dim=16, batch=2)
    assert not [n for n, _ in net.named_parameters() if 'stem' in n]
    assert net.eval()(torch.zeros(1, 3, 32, 48)).shape == (1, 3, 32, 48)


zeros = torch.zeros
two = zeros(1, 2, 2).long()
BAD = {
    'features \\(n,D\\)': lambda: probes.knn(zeros(3), zeros(3), zeros(1, 3), zeros(1)),
    'n > 0': lambda: probes.linear(zeros(0, 3), zeros(0), zeros(1, 3), zeros(1)),
    'NaN': lambda: probes.knn(torch.full((2, 2), torch.nan), [0, 1], zeros(1, 2), [0]),
    'dimensions': lambda: probes.linear(zeros(2, 3), [0, 1], zeros(1, 2), [0]),
    'k >= 1': lambda: probes.knn(torch.ones(2, 2), [0, 1], torch.ones(1, 2), [0], k=0),
    'fraction': lambda: probes.low_shot(torch.ones(2, 2), [0, 1], torch.ones(1, 2), [0], fraction=0),
    'upsample_labels': lambda: probes.ari(zeros(1, 2, 2), zeros(1, 4, 4)),
    'nothing to discover': lambda: probes.jaccard(two, two),
    'no pixel to judge': lambda: probes.ari(two, two, background=False),
    'nothing to locate': lambda: probes.corloc(zeros(1, 4), [zeros(0, 4)]),
    'one predicted box': lambda: probes.corloc(torch.ones(1, 2, 4), torch.ones(1, 1, 4)),
    '1 predictions for 2': lambda: probes.corloc(torch.ones(1, 4), torch.ones(2, 1, 4)),
    '1 <= k <= 3': lambda: probes.kmeans(zeros(3, 2), 4),
    'equal patches': lambda: probes.patch_pixels(zeros(1, 3, 10, 10), (3, 3)),
    '4 classes': lambda: probes.confusion(two, two + 7, 4),
    'labelled pixel': lambda: probes.segment(lambda x: x, [(zeros(3, 2, 2), two[0] + 255)], [], 2),
    'at least one Score': lambda: probes.report([]),
    'at least one value': lambda: probes.interval([]),
    'one sample': lambda: probes.encode(None, []),
    'reset_parameters': lambda: probes.random_init(torch.nn.ParameterList([torch.ones(2)])),
    'agree, and others': lambda: probes.cue_conflict(torch.ones(4, 2), [0, 1, 0, 1], [0, 1, 0, 1]),
    'two groups or more': lambda: probes.unseen_group_accuracy(torch.ones(4, 2), zeros(4), zeros(4)),
    'covers every pixel': lambda: probes.sliding_windows((8, 8), (4, 4), 5),
    'both \\(B,2,H,W\\)': lambda: probes.epe(zeros(1, 2, 4, 4), zeros(1, 2, 4, 5)),
    'predicted flow holds NaN': lambda: probes.fl_all(torch.full((1, 2, 4, 4), torch.nan), zeros(1, 2, 4, 4)),
    'true flow holds NaN': lambda: probes.epe(zeros(1, 2, 4, 4), torch.full((1, 2, 4, 4), torch.nan)),
    'no valid pixel': lambda: probes.flow_scores(zeros(1, 2, 4, 4), zeros(1, 2, 4, 4), valid=zeros(1, 4, 4)),
    'visible is \\(B,1,H,W\\)': lambda: probes.flow_scores(zeros(1, 2, 4, 4), zeros(1, 2, 4, 4), torch.ones(4, 4)),
    'images of one shape': lambda: probes.photometric(zeros(1, 3, 4, 4), zeros(1, 3, 4, 4), zeros(1, 2, 4, 5)),
    'stays in the frame': lambda: probes.photometric(zeros(1, 3, 4, 4), zeros(1, 3, 4, 4), zeros(1, 2, 4, 4) + 9),
    'there are 2 classes': lambda: probes.class_groups(two + 7, 2),
    'one image of labels': lambda: probes.class_groups([], 2),
    'features \\(T,D,h,w\\)': lambda: probes.propagate(zeros(2, 3, 4), zeros(4, 4)),
    'features hold NaN': lambda: probes.propagate(torch.full((2, 3, 4, 4), torch.nan), zeros(4, 4)),
    'neighbours >= 1': lambda: probes.propagate(torch.ones(2, 3, 4, 4), zeros(4, 4), neighbours=0),
    'two stacks of masks': lambda: probes.davis(zeros(3, 4, 4), zeros(3, 4, 5)),
    'none between': lambda: probes.davis(zeros(2, 4, 4), zeros(2, 4, 4)),
    'object in its first frame': lambda: probes.video_segmentation(None, []),
    'reads 2 maps': lambda: probes.UperNet([2, 2], 3)([zeros(2, 2, 4, 4)]),
    'stacks of images': lambda: probes.psnr(zeros(3, 4, 4), zeros(3, 4, 5)),
    'sides of 11 or more': lambda: probes.ssim(zeros(3, 10, 20), zeros(3, 10, 20)),
    'pictures hold NaN': lambda: probes.psnr(torch.full((3, 4, 4), torch.nan), zeros(3, 4, 4)),
    'give `peak`': lambda: probes.psnr(torch.full((3, 4, 4), 255.), zeros(3, 4, 4)),
    'moving \\(B,n,1,H,W\\)': lambda: probes.moving_psnr(zeros(1, 2, 3, 4, 4), zeros(1, 2, 3, 4, 4), two),
    'T > observed': lambda: probes.moving_pixels(zeros(1, 2, 4, 4), 2),
    'two observed frames': lambda: probes.linear_extrapolation(zeros(1, 1, 3, 4, 4), 2),
    'at least two samples': lambda: probes.frechet(zeros(1, 3), zeros(4, 3)),
    '3 and of 4 dimensions': lambda: probes.frechet(zeros(2, 3), zeros(2, 4)),
    'b holds NaN': lambda: probes.frechet(zeros(2, 3), torch.full((2, 3), torch.nan)),
    'real \\(B,t\\+n': lambda: probes.frechet_video(None, zeros(2, 3, 3, 4, 4), zeros(2, 4, 3, 4, 4), 'none'),
    'two frames or more': lambda: probes.clip_features(None, zeros(2, 1, 3, 4, 4)),
    'frames \\(T,3,H,W\\)': lambda: probes.count_bodies(zeros(3, 4, 4)),
    'bodies are compared': lambda: probes.bodies_kept(zeros(2, 1, 3, 4, 4), zeros(1, 1, 3, 4, 4)),
    'nothing to fine-tune': lambda: probes.finetune_segmentation(Still(), blocks(4, 0), blocks(4, 1), 2, 1),
}


@pytest.mark.parametrize('sentence', BAD)
def test_bad_input_is_one_sentence(sentence):
    "A ValueError of one line that names what is wrong"
    with pytest.raises(ValueError, match=sentence) as error: BAD[sentence]()
    assert '\n' not in str(error.value)
