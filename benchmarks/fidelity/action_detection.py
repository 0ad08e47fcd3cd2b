"""Our action detection beside ActionFormer's public code: targets of moments, losses, average precision.

    git clone https://github.com/happyharrycn/actionformer_release PATH
    python -m benchmarks.fidelity.action_detection --public PATH

Their functions come from PATH as they are; `numpy.float`, which newer libraries have dropped, is put back. Their soft
NMS is compiled and is not run here. The figures of both go to benchmarks/results/fidelity-action_detection.json; the
exit code is 1 where a held figure differs by more than 1e-5.
"""
import ast
import importlib.util
from types import SimpleNamespace

import numpy as np
import pandas
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import figure
from benchmarks.provenance import versions
from ssl_workbench.probes import action_detection as ours

LEVELS, CLASSES = 4, 5


# Their code

def module(file):
    "A file of theirs alone, without the package around it"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def method(file, name):
    "A method of a class of theirs as a function, undecorated"
    node = next(n for n in ast.walk(ast.parse(file.read_text())) if getattr(n, 'name', '') == name)
    node.decorator_list, scope = [], dict(torch=torch, F=F)
    exec(compile(ast.Module([node], []), str(file), 'exec'), scope)
    return scope[name]


def public(path):
    "What is needed of the public code"
    np.float = float
    return SimpleNamespace(losses=module(path/'libs/modeling/losses.py'), metrics=module(path/'libs/utils/metrics.py'),
                           targets=method(path/'libs/modeling/meta_archs.py', 'label_points_single_video'))


# Comparing

def segments(g, n, longest=12.):
    "(n,2)"
    start = torch.rand(n, generator=g) * 30
    return torch.stack([start, start + .5 + longest * torch.rand(n, generator=g)], 1)


def targets(pub, g):
    "What each moment of four levels should say, of six actions that may overlap"
    truth, labels = segments(g, 6), torch.randint(0, CLASSES, (6,), generator=g)
    points, mine = [], []
    for level, reach in enumerate(ours.level_reach(LEVELS)):
        at = 2**level * torch.arange(40 // 2**level) + .5
        points.append(torch.stack([at, *(torch.full_like(at, v) for v in (*reach, 2**level))], 1))
        mine.append(ours.moment_targets(at, 2**level, reach, truth, labels, CLASSES))
    it = SimpleNamespace(train_center_sample='radius', train_center_sample_radius=ours.RADIUS, num_classes=CLASSES)
    what, when = pub.targets(it, torch.cat(points), truth, labels)
    hit = what.any(1)                                           # elsewhere theirs holds the first action's distances
    return {'classes of moments': figure(what, torch.cat([m[0] for m in mine])),
            'distances of moments': figure(when[hit], torch.cat([m[1] for m in mine])[hit])}


def losses(pub, g):
    "Of random predictions and truths"
    a, b = (4 * torch.rand(50, 2, generator=g) for _ in range(2))
    logits, truth = 3 * torch.randn(50, CLASSES, generator=g), (torch.rand(50, CLASSES, generator=g) < .2).float()
    return {'loss of distances': figure(pub.losses.ctr_diou_loss_1d(a, b), ours.distance_loss(a, b)),
            'loss of classes': figure(pub.losses.sigmoid_focal_loss(logits, truth), sigmoid_focal_loss(logits, truth))}


def precision(pub, g):
    "Average precision of one class over five videos, at five thresholds"
    truth = [segments(g, int(n)) for n in torch.randint(1, 5, (5,), generator=g)]
    found = []
    for t in truth:
        s = torch.cat([t + torch.randn(t.shape, generator=g) * .7, t + torch.randn(t.shape, generator=g),
                       segments(g, 4)])
        found.append(dict(segments=s, scores=torch.rand(len(s), generator=g)))
    frame = lambda parts, **more: pandas.DataFrame({
        'video-id': [f'video {i}' for i, p in enumerate(parts) for _ in p],
        't-start': torch.cat(list(parts))[:, 0].double().numpy(),
        't-end': torch.cat(list(parts))[:, 1].double().numpy(), **more})
    theirs = pub.metrics.compute_average_precision_detection(
        frame(truth), frame([f['segments'] for f in found], score=torch.cat([f['scores'] for f in found]).double()),
        np.array(ours.THRESHOLDS))
    return {'average precision': figure(theirs, [ours.average_precision(found, truth, t) for t in ours.THRESHOLDS])}


def case(pub, seed):
    "All of it on one random case"
    g = torch.Generator().manual_seed(seed)
    rows = targets(pub, g) | losses(pub, g) | precision(pub, g)
    return dict(seed=seed, dtype='float32', figures=rows)


DIFFERENCES = [
    'Where several actions of the same length to 1e-3 claim a moment, theirs takes all their classes, ours the first.',
    'Their denominator of the losses is a running mean of the number of positives, ours the number in the batch.',
    'Distances: ReLU there, softplus here; no label smoothing here; the head is smaller.',
    'Soft NMS is compiled there and is not compared; tests hold ours to a loop.']


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('action_detection', __doc__, 'libs/utils/metrics.py', 'ActionFormer',
                                code=('probes.action_detection',))
    cases = comparison.measured(case, [dict(seed=s) for s in range(20)], public(args.public))
    comparison.conclude(args, "Action detection: ours beside ActionFormer's public code on random cases",
                        comparison.upstream(args.public, 'happyharrycn/actionformer_release'), cases, {}, DIFFERENCES,
                        versions(np, pandas))


if __name__ == '__main__': main()
