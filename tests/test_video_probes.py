"""What the lessons on video probes cannot see: brute force on random cases, real lengths and sizes, error sentences."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from ssl_workbench import probes
from ssl_workbench.probes import action_detection, video_classification


def draw(seed):
    "A seeded generator"
    return torch.Generator().manual_seed(seed)


class Mean:
    "The mean colour of each frame of a clip, in order"
    def features(self, clips): return dict(pooled=clips.mean((3, 4)).flatten(1), tokens=clips.mean((3, 4)))


# ---- clips

def test_boxes_cover_what_frames_say():
    "Random videos: boxes lie inside, frames are evenly spaced by the stride, squares are squares of pixels"
    for seed in range(40):
        g = draw(seed)
        T, H, W, clips, crops, length, stride = (int(torch.randint(1, top, (1,), generator=g))
                                                 for top in (200, 99, 99, 7, 4, 20, 6))
        boxes = probes.clip_boxes(T, (H, W), clips, crops, length, stride)
        assert boxes.shape == (clips * crops, 6) and boxes.min() >= 0 and boxes.max() <= 1 + 1e-6
        sides = (boxes[:, 3] - boxes[:, 0]) * W, (boxes[:, 4] - boxes[:, 1]) * H
        assert all(torch.allclose(s, torch.tensor(float(min(H, W))), atol=1e-3) for s in sides)
        frames = probes.clip_frames(boxes, T, length)
        assert frames.shape == (clips * crops, length) and frames.min() >= 0 and frames.max() < T
        span = (length - 1) * stride + 1
        if span <= T:
            assert length == 1 or (frames.diff(dim=1) == stride).all()
            starts = frames[::crops, 0].tolist()
            assert starts == sorted(starts) and (clips == 1 or (starts[0], starts[-1]) == (0, T - span))
        elif length > 1: assert (frames[:, 0] == 0).all() and (frames[:, -1] == T - 1).all()


def test_one_clip_lies_in_the_middle():
    "As a centre crop does in space"
    box = probes.clip_boxes(100, (60, 100), 1, 1, 10, 2)
    assert probes.clip_frames(box, 100, 10)[0].tolist() == list(range(40, 60, 2))
    assert torch.allclose(box[0, [0, 3]] * 100, torch.tensor([20., 80]))


def test_cutting_is_slicing_where_nothing_is_resized():
    "Crops of the pixels' own size are the pixels"
    video = torch.randint(0, 256, (30, 3, 16, 40), generator=draw(0), dtype=torch.uint8)
    boxes = probes.clip_boxes(30, (16, 40), 2, 3, 4, 3)
    clips = probes.cut_clips(video, boxes, 4, 16)
    for k, (start, left) in enumerate((s, x) for s in (0, 20) for x in (0, 12, 24)):
        want = video[start:start + 10:3, :, :, left:left + 16] / 255
        assert torch.allclose(clips[k], want, atol=1e-5)


@pytest.mark.parametrize('frames, size', [(1, (9, 31)), (2, (64, 64)), (700, (17, 16))])
def test_any_length_and_size(frames, size):
    "Fifteen clips of one frame, of two, of many; of a narrow picture and a wide one"
    got = probes.multi_clip(Mean(), [torch.rand(frames, 3, *size)], 5, 3, length=8, stride=4, size=16, tokens=True)
    assert got['pooled'].shape == (1, 15, 24) and got['pooled'].isfinite().all()
    assert got['tokens'].shape == (1, 15, 8, 3)
    if frames == 1: assert torch.allclose(got['pooled'][0, :, :3], got['pooled'][0, :, 3:6], atol=1e-6)


def test_whole_data_set_in_its_order():
    "In groups or one by one, with the labels of each"
    data = [dict(frames=torch.full((3 + i, 3, 8, 8), i, dtype=torch.uint8), label=i) for i in range(7)]
    scheme = dict(clips=2, crops=1, length=2, stride=1, size=8)
    found = probes.encode_videos(Mean(), data, group=3, **scheme)
    assert found['label'].tolist() == list(range(7)) and found['boxes'].shape == (7, 2, 6)
    assert torch.allclose(found['pooled'][:, 0, 0] * 255, torch.arange(7.), atol=1e-4)
    assert torch.equal(found['pooled'], probes.encode_videos(Mean(), data, group=1, batch=1, **scheme)['pooled'])


def test_a_method_is_left_as_it_was():
    "Training mode comes back, no gradients are kept"
    class Net(torch.nn.Module):
        def __init__(self): super().__init__(); self.layer = torch.nn.Linear(3, 2)
        def features(self, x):
            assert not self.training
            return dict(pooled=self.layer(x.mean((1, 3, 4))))
    net = Net().train()
    got = probes.multi_clip(net, torch.rand(2, 4, 3, 8, 8), 1, 1, length=2, stride=1, size=8)
    assert net.training and net.layer.training and not got['pooled'].requires_grad


@pytest.mark.parametrize('call, words', [
    (lambda: probes.clip_boxes(0, (8, 8)), 'frames is 0'),
    (lambda: probes.clip_boxes(8, (8, 8), clips=0), 'clips is 0'),
    (lambda: probes.clip_boxes(8, (8, 8), stride=1.5), 'stride is 1.5'),
    (lambda: probes.clip_boxes(8, (8, 8), part=0.), 'part'), (lambda: probes.window_boxes(8, hop=0), 'hop=0'),
    (lambda: probes.multi_clip(Mean(), []), 'at least one video'),
    (lambda: probes.encode_videos(Mean(), []), 'at least one video'),
    (lambda: probes.cut_clips(torch.rand(4, 1, 8, 8), probes.clip_boxes(4, (8, 8))), '3 channels'),
    (lambda: probes.cut_clips(torch.zeros(0, 3, 8, 8), probes.clip_boxes(4, (8, 8))), 'without frames'),
    (lambda: probes.clip_linear(torch.rand(4, 2, 3), [0, 1], torch.rand(2, 3), [0, 1]), 'one label a video'),
    (lambda: probes.clip_linear(torch.rand(4, 3), [0, 1, 0, 1], torch.rand(2, 5), [0, 1]), '3 dimensions'),
    (lambda: probes.clip_linear(torch.full((4, 3), torch.nan), [0, 1, 0, 1], torch.rand(2, 3), [0, 1]), 'NaN'),
    (lambda: probes.clip_linear(torch.rand(4, 3), [0, 1, 0, 1], torch.rand(2, 3), [0, 1], norm='layer'), 'or none'),
    (lambda: probes.attentive(torch.rand(4, 3), [0, 1, 0, 1], torch.rand(2, 3), [0, 1]), 'tokens'),
    (lambda: probes.detection_map([], []), 'as many'),
    (lambda: probes.detection_probe(([], [], []), ([], [], []), 2), 'train')])
def test_refusals(call, words):
    "One sentence for what makes no sense"
    with pytest.raises(ValueError, match=words) as e: call()
    assert '\n' not in str(e.value)


# ---- readers

def clip_features(videos, seed, clips=3, classes=3, dim=5):
    "Random clip features that know something of the class, and the classes"
    g = draw(seed)
    y = torch.arange(videos) % classes
    return torch.randn(videos, clips, dim, generator=g) + F.one_hot(y, dim)[:, None] * 1.2, y


def test_votes_are_a_logistic_regression_averaged():
    "scikit-learn's regression at the chosen penalty, clip by clip, and the mean of its probabilities"
    (x, y), (test, _) = clip_features(60, 0), clip_features(30, 1)
    votes, classes = probes.clip_votes(x, y, test)
    assert torch.allclose(votes.sum(1), torch.ones(30, dtype=votes.dtype)) and classes.tolist() == [0, 1, 2]
    rows, flat = x.flatten(0, 1).double(), test.flatten(0, 1).double()
    mean, width = rows.mean(0), rows.std(0, correction=0)
    close = []
    for l2 in (1., 1e-1, 1e-2, 1e-3, 1e-4):
        model = LogisticRegression(C=1 / (l2 * len(rows)), max_iter=2000, tol=1e-8)
        model.fit(((rows - mean) / width).numpy(), y.repeat_interleave(3).numpy())
        mine = model.predict_proba(((flat - mean) / width).numpy()).reshape(30, 3, 3).mean(1)
        close.append(np.abs(mine - votes.numpy()).max())
    assert min(close) < 1e-3


def test_the_held_out_part_is_whole_videos():
    "No clip of a held-out video is trained on while the penalty is chosen"
    seen = {}
    real = video_classification.fit_penalised
    def spy(x, y, held, *rest): seen['held'] = held; return real(x, y, held, *rest)
    video_classification.fit_penalised = spy
    try: probes.clip_linear(*clip_features(60, 0), *clip_features(30, 1))
    finally: video_classification.fit_penalised = real
    rows = seen['held'].view(60, 3)
    assert (rows == rows[:, :1]).all() and 0 < rows[:, 0].sum() < 60


def test_test_labels_choose_nothing():
    "Other test labels, the same votes, the same reader"
    (x, y), (test, z) = clip_features(40, 2), clip_features(20, 3)
    a, b = (probes.clip_linear(x, y, test, labels) for labels in (z, (z + 1) % 3))
    votes = probes.clip_votes(x, y, test)[0].argmax(1)
    assert a == (votes == z).double().mean() and b == (votes == (z + 1) % 3).double().mean()


def test_norms():
    "One loud dimension is quiet after 'batch', loud after 'none'; a constant dimension stays finite"
    x = torch.randn(50, 4, generator=draw(0)) * torch.tensor([1., 1, 1000, 0])
    for norm, ratio in (('batch', 1.), ('none', 1000.)):
        mean, width = video_classification.normaliser(x, norm)
        y = (x - mean) / width
        assert y.isfinite().all() and y[:, 2].std() / y[:, 0].std() == pytest.approx(
            ratio if norm == 'batch' else (x[:, 2].std() / x[:, 0].std()).item(), rel=1e-3)


def test_low_shot_keeps_every_class():
    "5 % of 40 videos of four classes is one of each; 100 % is all"
    seen = {}
    real = video_classification.clip_linear
    def spy(x, y, *rest): seen[len(y)] = y; return real(x, y, *rest)
    video_classification.clip_linear = spy
    try: probes.clip_low_shot(*clip_features(40, 0, classes=4), *clip_features(20, 1, classes=4))
    finally: video_classification.clip_linear = real
    assert {n: y.bincount().tolist() for n, y in seen.items()} == {4: [1] * 4, 20: [5] * 4, 40: [10] * 4}


def test_neighbours_do_not_mind_a_common_shift():
    "Centred by the training mean"
    (x, y), (test, z) = clip_features(60, 4), clip_features(40, 5)
    shift = 30 * torch.randn(5, generator=draw(6))
    assert probes.clip_knn(x, y, test, z) == pytest.approx(probes.clip_knn(x + shift, y, test + shift, z), abs=.03)


def test_attentive_reader():
    "Starts as the mean; one setting and one class work; the same seed gives the same number, the global RNG stays"
    reader = probes.AttentiveReader(6, 3)
    x = torch.randn(4, 7, 6, generator=draw(0))
    mean = reader.classify(reader.norm(reader.value(x).mean(1)))
    assert torch.allclose(reader(x), mean, atol=1e-6) and reader.heads == 1        # six channels, four heads: one
    state = torch.get_rng_state()
    y, options = torch.arange(20) % 2, dict(steps=5, grid=((1e-3, .01), (1e-2, .01)))
    tokens = torch.randn(20, 7, 6, generator=draw(1))
    a, b = (probes.attentive(tokens, y, tokens, y, **options) for _ in range(2))
    assert a == b and torch.equal(state, torch.get_rng_state())
    assert probes.attentive(tokens, y * 0 + 5, tokens, y * 0 + 5, steps=2) == 1.


# ---- detection

def slow_precision(guesses, truth, threshold):
    "Average precision by the book: for each recall level the best precision at it or beyond"
    rows = sorted(((s.item(), i, k) for i, g in enumerate(guesses) for k, s in enumerate(g['scores'])), reverse=True)
    taken, right, n = set(), [], sum(map(len, truth))
    for _, i, k in rows:
        best, hit = -1., None
        for j, (a, b) in enumerate(truth[i].tolist()):
            c, d = guesses[i]['segments'][k].tolist()
            shared = max(0., min(b, d) - max(a, c))
            iou = shared / (b - a + d - c - shared)
            if (i, j) not in taken and iou > best: best, hit = iou, j
        right.append(hit is not None and best >= threshold)
        if right[-1]: taken.add((i, hit))
    precision = [sum(right[:k + 1]) / (k + 1) for k in range(len(right))]
    recall = [sum(right[:k + 1]) / n for k in range(len(right))]
    levels = [j / n for j in range(1, n + 1)]
    return sum(max([p for p, r in zip(precision, recall) if r >= level - 1e-9], default=0.) for level in levels) / n


def random_segments(g, n):
    "(n,2)"
    start = torch.rand(n, generator=g) * 20
    return torch.stack([start, start + .5 + 5 * torch.rand(n, generator=g)], 1)


def test_average_precision_by_the_book():
    "Forty random cases of three videos, among them empty lists"
    for seed in range(40):
        g = draw(seed)
        counts = torch.randint(0, 7, (2, 3), generator=g).tolist()
        truth = [random_segments(g, n) for n in counts[0]]
        guesses = [dict(segments=torch.cat([random_segments(g, n), t + .4 * torch.randn(t.shape, generator=g)]),
                        scores=torch.rand(n + len(t), generator=g)) for n, t in zip(counts[1], truth)]
        if not sum(counts[0]): continue
        for threshold in (.3, .7):
            got = probes.average_precision(guesses, truth, threshold)
            assert got == pytest.approx(slow_precision(guesses, truth, threshold), abs=1e-9)


def test_a_perfect_list_and_an_empty_one():
    "1 and 0; a class that only the guesses have does not count"
    truth = [dict(segments=random_segments(draw(i), 3), labels=torch.tensor([0, 1, 1])) for i in range(3)]
    perfect = [t | dict(scores=torch.rand(3)) for t in truth]
    extra = [dict(segments=torch.cat([p['segments'], p['segments']]), labels=torch.cat([p['labels'], p['labels'] + 5]),
                  scores=torch.cat([p['scores'], p['scores']])) for p in perfect]
    none = [dict(segments=torch.zeros(0, 2), labels=torch.zeros(0).long(), scores=torch.zeros(0)) for _ in truth]
    assert probes.detection_map(perfect, truth)['map'] == probes.detection_map(extra, truth)['map'] == 1
    assert probes.detection_map(none, truth)['map'] == 0


def test_soft_nms_by_a_loop():
    "Take the best, lower the rest, again; twenty random lists of two classes"
    for seed in range(20):
        g = draw(seed)
        segments, scores = random_segments(g, 12), torch.rand(12, generator=g)
        labels = torch.randint(0, 2, (12,), generator=g)
        left, want = [[s.item(), *seg.tolist(), y.item()] for s, seg, y in zip(scores, segments, labels)], []
        while left:
            left.sort(key=lambda row: -row[0])
            best = left.pop(0)
            want.append(best)
            for row in left:
                shared = max(0., min(best[2], row[2]) - max(best[1], row[1]))
                iou = shared / (best[2] - best[1] + row[2] - row[1] - shared)
                if row[3] == best[3]: row[0] *= math.exp(-iou**2 / .5)
        got = probes.soft_nms(segments, scores, labels, least=0.)
        assert torch.allclose(got['scores'].float(), torch.tensor([w[0] for w in want]), atol=1e-5)
        assert torch.allclose(got['segments'], torch.tensor([w[1:3] for w in want]))


def test_targets_lead_back_to_the_truth():
    "A head that says what it should finds every segment that some moment is responsible for, exactly"
    times = torch.arange(64) * 3. + 7
    truth = dict(segments=torch.tensor([[20., 40], [60, 70], [90, 190]]), labels=torch.tensor([0, 1, 1]))
    class Oracle(torch.nn.Module):
        def forward(self, x, there):
            rows = action_detection._targets(times, truth, 3, 2)
            return [((what * 20 - 10)[None], when[None], None) for what, when in rows]
    found = probes.detect(Oracle(), [torch.zeros(64, 1)], [times])[0]
    sure = {k: v[found['scores'] > .9] for k, v in found.items()}
    order = sure['segments'][:, 0].argsort()
    assert torch.allclose(sure['segments'][order], truth['segments'], atol=1e-3)
    assert sure['labels'][order].tolist() == [0, 1, 1]


def test_detector_is_seeded():
    "The same seed, the same head; the global generator is left alone"
    features, times = [torch.randn(9, 4, generator=draw(0))] * 2, [torch.arange(9.)] * 2
    truth = [dict(segments=torch.tensor([[1., 4]]), labels=torch.tensor([1]))] * 2
    state = torch.get_rng_state()
    a, b = (probes.train_detector(features, times, truth, 2, steps=2, width=8, heads=2) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
    assert torch.equal(state, torch.get_rng_state())
