"""ViDROP's losses beside DINOv2's public code, on shared inputs; the method itself has no public code.

    git clone https://github.com/facebookresearch/dinov2 PATH
    python -m benchmarks.fidelity.vidrop --public PATH

CLS loss, patch loss, Sinkhorn (of CLS and of masked patches) and KoLeo come from PATH as they are, with one process, in
the words of their training step; our side is the method's own. The figures of both, and those of the gradients, go to
benchmarks/results/fidelity-vidrop.json; the exit code is 1 where a held figure differs by more than 1e-5.
"""
import contextlib
import importlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import torch

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import figure
from benchmarks.provenance import versions
from ssl_workbench.learner import draw_seeds
from ssl_workbench.losses import koleo, sinkhorn_knopp
from ssl_workbench.methods.vidrop import ViDROP, Views, cpu
from ssl_workbench.world import World

TINY = replace(cpu, size=32, small_size=16, length=4, small_length=2, frames=6, canvas=32, dim=24, depth=2, heads=2,
               hidden=32, out_dim=16, batch=6)
CASES = [dict(seed=seed, change=change) for seed in (0, 1) for change in (
    dict(prototypes=8), dict(prototypes=64, mask_ratio=(.1, .4), dropped=.5), dict(dropped=0., small=1),
    dict(objective='stare'), dict(mask_chance=1., mask_ratio=(.3, .9)))]


def public(path):
    "What is needed of the public code"
    sys.path.insert(0, str(path))
    load = lambda name: importlib.import_module(f'dinov2.{name}')
    torch.cuda.amp.autocast = lambda enabled=True: contextlib.nullcontext()      # the CPU has no such thing
    return SimpleNamespace(CLS=load('loss.dino_clstoken_loss').DINOLoss,
                           Patch=load('loss.ibot_patch_loss').iBOTPatchLoss,
                           KoLeo=load('loss.koleo_loss').KoLeoLoss, Head=load('layers.dino_head').DINOHead)


def their_terms(pub, out, raw, c, temperature):
    "The terms of one step as their training step computes them, crops in their order: first all first ones"
    two = lambda x: torch.cat(x.unbind(1))                                       # (B,2,…) → (2B,…)
    cls, patch = pub.CLS(c.prototypes, c.student_temp), pub.Patch(c.prototypes, c.student_temp)
    teacher = torch.cat(raw['cls'].unbind(1)[::-1])                              # A is matched to B
    targets = cls.sinkhorn_knopp_teacher(teacher, temperature, c.iterations).view(2, -1, c.prototypes)
    student, count = out['student_scores'], 2 + max(2 * c.small, 1)
    local = cls(list(student[:, 2:].unbind(1)), targets) / count
    both = cls([two(student[:, :2])], [targets.flatten(0, 1)]) * 2 / count
    masks, rows = two(out['in_loss']), two(out['patch_scores'])
    flat = patch.sinkhorn_knopp_teacher(two(raw['patch'])[masks], temperature, torch.full((1,), int(masks.sum())),
                                        c.iterations)
    patches = patch.forward_masked(rows[masks], flat, masks, int(masks.sum())) * 2 * .5
    spread = c.koleo_weight * sum(pub.KoLeo()(p) for p in two(out['cls']).chunk(2))
    found = dict(cls=local + both, patch=patches, koleo=spread)
    return found, dict(cls_targets=targets.flip(0).transpose(0, 1), patch_targets=flat), masks


def raw_scores(method, views):
    "The teacher's scores before Sinkhorn: CLS (B,2,K), patches (B,2,M,K)"
    x, b = views['x'].flatten(0, 1), len(views['x'])
    place = views['keep'].gather(2, views['picked']).flatten(0, 1)
    with torch.no_grad():
        tokens, _, scores = method.teacher(x)
        rows = method.teacher.patch_scores(tokens, place)
    return dict(cls=scores.unflatten(0, (b, 2)), patch=rows.unflatten(0, (b, 2)))


def gradients_of(terms, out):
    "Name → gradient of a term with respect to the scores and class tokens it reads"
    reads = dict(cls='student_scores', patch='patch_scores', koleo='cls')
    return {k: torch.autograd.grad(terms[k], out[name], retain_graph=True)[0] for k, name in reads.items()}


def head_figures(pub, c, seed):
    "Scores of their head and of ours with the same weights"
    torch.manual_seed(seed)
    theirs, mine = pub.Head(c.dim, c.prototypes, hidden_dim=c.hidden, bottleneck_dim=c.out_dim), ViDROP(c).student.head
    with torch.no_grad():
        for p in theirs.parameters(): p.add_(.1 * torch.randn_like(p))
        theirs.last_layer.weight_g.fill_(1.)
        mine.projector.load_state_dict(theirs.mlp.state_dict())
        mine.prototypes.weight.copy_(theirs.last_layer.weight_v)
        x = torch.randn(20, c.dim)
        return figure(theirs(x), mine(x))


def case(pub, seed, change):
    "Every term, every target, every gradient of one step"
    c = replace(TINY, **change)
    torch.manual_seed(seed)
    method = ViDROP(c)
    with torch.no_grad():
        for p in method.parameters(): p.add_(.1 * torch.randn_like(p))
    method.before_step(.5)
    videos = World('motion', 1, (c.canvas,) * 2, c.frames, c.batch, seed=seed, truth=False).batch(range(c.batch))
    views = Views(c)(videos | dict(seed=draw_seeds(seed, range(c.batch))))
    out = method(views)
    mine = method.loss(out)
    theirs, targets, masks = their_terms(pub, out, raw_scores(method, views), c, method.temperature)
    a, b = gradients_of(theirs, out), gradients_of(mine, out)
    rows = {f'{k} loss': figure(theirs[k], mine[k]) for k in mine}
    rows |= {f'{k} gradient': figure(a[k], b[k]) for k in mine}
    rows['CLS targets'] = figure(targets['cls_targets'], out['targets'])
    rows['patch targets'] = figure(targets['patch_targets'], torch.cat(out['patch_targets'].unbind(1))[masks])
    rows['head'] = head_figures(pub, c, seed)
    return dict(seed=seed, change=change, dtype='float32', figures=rows)


def rules(pub):
    "Single functions on inputs of their own"
    torch.manual_seed(5)
    scores, x = torch.rand(40, 12) * 2 - 1, torch.randn(50, 16)
    theirs = pub.CLS(12).sinkhorn_knopp_teacher(scores, .05)
    return {'Sinkhorn': figure(theirs, sinkhorn_knopp(scores, .05)),
            'Sinkhorn, over processes': figure(theirs, sinkhorn_knopp(scores, .05, total=lambda v: v, largest=1.)),
            'KoLeo': figure(pub.KoLeo()(x), koleo(x)), 'KoLeo, two rows alike': figure(pub.KoLeo()(x[[0, 0, 1]]),
                                                                                     koleo(x[[0, 0, 1]]))}


DIFFERENCES = [
    'KoLeo: neighbours within one process there, within the whole batch here (one process here, so no difference)',
    'without local clips: CLS terms are divided by 3 there, by 2 here; every case here has local clips',
    'last layer at first: learning rate 0 there, no gradient here',
    'masks: half of the crops of a process there, one of two clips of each video here; the masks compared are ours']


def main():
    "Compare, print, write"
    args = comparison.arguments('vidrop', __doc__, 'dinov2/loss/koleo_loss.py', 'facebookresearch/dinov2',
                                code=('methods/vidrop', 'losses', 'classics/dino', 'classics/ibot'))
    pub = public(args.public)
    comparison.single_process()
    found = comparison.measured(case, CASES, pub)
    comparison.conclude(args, "ViDROP's losses and DINOv2's", comparison.upstream(
        args.public, 'facebookresearch/dinov2', licence='Apache-2.0'), found, rules(pub), DIFFERENCES, versions())


if __name__ == '__main__': main()
