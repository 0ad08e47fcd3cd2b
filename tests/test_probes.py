"""What the lesson on probes cannot see: agreement with brute force on many random cases, and error sentences."""
import itertools

import pytest
import torch
import torch.nn.functional as F

from ssl_workbench import probes
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


def test_knn_by_brute_force():
    "Votes counted one by one in float64, whatever the chunk; more neighbours asked than there are"
    x = torch.randn(140, 6, generator=draw(0))
    y = torch.randint(4, (140,), generator=draw(1))*3 - 2
    x[:, 0] += y
    for k, temperature in ((1, .07), (7, .07), (20, 1.), (500, .5)):
        right = 0
        for query, label in zip(x[100:].double(), y[100:]):
            near = F.cosine_similarity(query[None], x[:100].double()).topk(min(k, 100))
            votes = {}
            for c, i in zip(near.values, near.indices): votes[int(y[i])] = votes.get(int(y[i]), 0) + (c/temperature).exp().item()
            right += max(votes, key=votes.get) == label
        for chunk in (3, 1024): assert probes.knn(x[:100], y[:100], x[100:], y[100:], k, temperature, chunk) == right/40


def test_regression_reaches_the_bottom():
    "The gradient of the penalised loss, written out by hand, vanishes at the weights found"
    x, y = torch.randn(300, 5, generator=draw(0)).double(), torch.rand(300, 3, generator=draw(1)).double()
    w = probes.softmax_regression(x, y, l2=.01)
    slope = (x @ w[:, :-1].T + w[:, -1]).softmax(1)*y.sum(1, keepdim=True) - y
    assert (slope.T @ x/y.sum() + .01*w[:, :-1]).abs().max() < 1e-5 and (slope.sum(0)/y.sum()).abs().max() < 1e-5


def test_linear_never_learns_from_the_test_set():
    "Shuffled test labels: chance, and every guess the same as before"
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
        pairs.append((torch.stack([label == k for k in range(3)]).float(), label.masked_fill(torch.rand(size, generator=g) < .1, 255)))
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
            seen.append([probes.knn(*split), probes.linear(*split), probes.low_shot(*split, .1), probes.cluster_maps(maps, 5).tolist()])
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
                if not (0 <= y < label.shape[0] and 0 <= x < label.shape[1]) or found[y, x] >= 0 or label[y, x] != label[start]: continue
                found[y, x] = n
                todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            n += 1
        return found
    maps = list(torch.randint(2, (10, 12, 13), generator=draw(0)))
    snake = torch.zeros(12, 13).long()
    snake[::2] = 1; snake[1::4, -1] = 1; snake[3::4, 0] = 1  # one long path back and forth
    for label in [*maps, snake]:
        got, want = probes.components(label[None])[0], flood(label)
        assert len({*zip(got.flatten().tolist(), want.flatten().tolist())}) == want.max() + 1 == got.unique().numel()


def test_kmeans_finds_blobs_and_batches_do_not_matter():
    "Far blobs are found exactly; many problems at once give what each gives alone"
    centres = 50*torch.randn(4, 6, 3, generator=draw(0))
    x = centres.repeat_interleave(20, 1) + torch.randn(4, 120, 3, generator=draw(1))
    labels, found = probes.kmeans(x, 6, restarts=8)
    for i in range(4):
        alone = probes.kmeans(x[i], 6, restarts=8)
        assert torch.equal(alone[0], labels[i]) and torch.allclose(alone[1], found[i])
        assert probes.adjusted_rand(probes.contingency(labels[i], torch.arange(6).repeat_interleave(20))[0]) == 1


def test_t_quantile():
    "Against the printed tables (97.5 %)"
    table = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706, 9: 2.2622, 10: 2.2281, 19: 2.0930, 30: 2.0423, 60: 2.0003, 120: 1.9799}
    for df, value in table.items(): assert probes.t_quantile(df) == pytest.approx(value, abs=1e-4)


def test_boxes_agree_with_the_world():
    "Boxes of whole pieces are the world's own boxes"
    got = World('scene', level=1, frames=1, length=20).batch(range(20))
    instances, boxes = got['instances'][:, 0], got['boxes'][:, 0]
    ours = probes.boxes_of(instances, background=0)
    whole = [(ours[b][i], boxes[b, k - 1]) for b in range(20) for i, k in enumerate(instances[b].unique()[1:])
             if probes.components((instances[b] == k).long()[None])[0][instances[b] == k].unique().numel() == 1]
    assert len(whole) > 30
    for mine, theirs in whole: assert torch.equal(mine, theirs.float())


def test_encode_is_the_same_with_and_without_batch():
    "A dataset that renders batches and a plain list of its samples; clips give their first frame"
    class Mean:
        def features(self, x): return dict(pooled=x.mean((2, 3)))
    world = World('iconic', level=0, frames=2, length=10)
    a, b = probes.encode(Mean(), world, batch=4), probes.encode(Mean(), [world[i] for i in range(10)])
    assert torch.allclose(a['pooled'], b['pooled']) and torch.equal(a['label'], b['label']) and a['pooled'].shape == (10, 3)


two = torch.zeros(1, 2, 2).long()
BAD = {
    'features \\(n,D\\)': lambda: probes.knn(torch.zeros(3), torch.zeros(3), torch.zeros(1, 3), torch.zeros(1)),
    'n > 0': lambda: probes.linear(torch.zeros(0, 3), torch.zeros(0), torch.zeros(1, 3), torch.zeros(1)),
    'NaN': lambda: probes.knn(torch.full((2, 2), torch.nan), [0, 1], torch.zeros(1, 2), [0]),
    'dimensions': lambda: probes.linear(torch.zeros(2, 3), [0, 1], torch.zeros(1, 2), [0]),
    'k >= 1': lambda: probes.knn(torch.ones(2, 2), [0, 1], torch.ones(1, 2), [0], k=0),
    'fraction': lambda: probes.low_shot(torch.ones(2, 2), [0, 1], torch.ones(1, 2), [0], fraction=0),
    'upsample_labels': lambda: probes.ari(torch.zeros(1, 2, 2), torch.zeros(1, 4, 4)),
    'nothing to discover': lambda: probes.jaccard(two, two),
    'no pixel to judge': lambda: probes.ari(two, two, background=False),
    'nothing to locate': lambda: probes.corloc(torch.zeros(1, 4), [torch.zeros(0, 4)]),
    'one predicted box': lambda: probes.corloc(torch.ones(1, 2, 4), torch.ones(1, 1, 4)),
    '1 predictions for 2': lambda: probes.corloc(torch.ones(1, 4), torch.ones(2, 1, 4)),
    '1 <= k <= 3': lambda: probes.kmeans(torch.zeros(3, 2), 4),
    'equal patches': lambda: probes.patch_pixels(torch.zeros(1, 3, 10, 10), (3, 3)),
    '4 classes': lambda: probes.confusion(two, two + 7, 4),
    'labelled pixel': lambda: probes.segment(lambda x: x, [(torch.zeros(3, 2, 2), two[0] + 255)], [], 2),
    'at least one Score': lambda: probes.report([]),
    'at least one value': lambda: probes.interval([]),
    'one sample': lambda: probes.encode(None, []),
    'reset_parameters': lambda: probes.random_init(torch.nn.ParameterList([torch.ones(2)])),
}


@pytest.mark.parametrize('sentence', BAD)
def test_bad_input_is_one_sentence(sentence):
    "A ValueError of one line that names what is wrong"
    with pytest.raises(ValueError, match=sentence) as error: BAD[sentence]()
    assert '\n' not in str(error.value)
