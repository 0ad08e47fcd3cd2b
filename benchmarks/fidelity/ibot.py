"""Our iBOT beside the authors' public code, on shared weights and inputs.

    git clone https://github.com/bytedance/ibot PATH
    python -m benchmarks.fidelity.ibot --public PATH

Their network, head and loss come from PATH as they are, with random weights (ours are the same ones, renamed) and the
same crops and masks. The figures of both go to benchmarks/results/fidelity-ibot.json; the exit code is 1 where a held
figure differs by more than 1e-5.
"""
import importlib
import sys
from types import SimpleNamespace

import torch

from benchmarks.fidelity import comparison
from benchmarks.fidelity import dino as shared
from benchmarks.fidelity.comparison import unscaled as figure
from ssl_workbench.classics import ibot as ours


def public(path):
    "What is needed of the public code"
    sys.path.insert(0, str(path))
    nets, head, tools = (importlib.import_module(m) for m in ('models.vision_transformer', 'models.head', 'utils'))
    return SimpleNamespace(ViT=nets.VisionTransformer, Head=head.iBOTHead, Wrapper=tools.MultiCropWrapper, tools=tools,
                           Loss=comparison.definitions(path/'main_ibot.py', ['iBOTLoss'], **shared.SCOPE)['iBOTLoss'])


def their_head(pub, c):
    "Their head with our sizes"
    return pub.Head(c.dim, c.prototypes, patch_out_dim=c.prototypes, hidden_dim=c.hidden, bottleneck_dim=c.out_dim,
                    shared_head=c.shared_head)


def pair(pub, c, seed, dtype):
    "Their student, teacher and loss, and our method, with the same weights and centres"
    torch.manual_seed(seed)
    student, teacher = (shared.shaken(shared.their_network(pub, c, their_head(pub, c), return_all_tokens=True,
                                                           masked_im_modeling=m)).to(dtype) for m in (True, False))
    loss = pub.Loss(c.prototypes, c.prototypes, 2, c.small, *c.teacher_temp, *c.patch_temp, shared.WARM,
                    shared.TOTAL).to(dtype)
    for centre in (loss.center, loss.center2): centre.copy_(.1 * torch.randn_like(centre))
    mine = ours.IBOT(c).to(dtype)
    state = shared.renamed(student.state_dict().items(), 'student')
    state |= shared.renamed(teacher.state_dict().items(), 'teacher')
    state = {k: v.clone() for k, v in state.items() if k in mine.state_dict()}
    missing = mine.load_state_dict(state | dict(centre=loss.center[0].clone(), patch_centre=loss.center2[0, 0].clone()),
                                   strict=False)
    if missing.missing_keys != ['teacher.encoder.mask_token']: raise ValueError(f'names differ: {missing}')
    return SimpleNamespace(student=student, teacher=teacher, loss=loss), mine


def their_terms(theirs, v, i):
    "Both losses of one step"
    images, side = shared.for_them(v), int(v['mask'].shape[-1]**.5)
    masks = [m.unflatten(1, (side, side)) for m in v['mask'].unbind(1)]
    taught = [t.detach() for t in theirs.teacher(images[:2])]
    predicted = theirs.student(images[:2], mask=masks)
    theirs.student.backbone.masked_im_modeling = False
    small = theirs.student(images[2:])[0] if len(images) > 2 else None
    theirs.student.backbone.masked_im_modeling = True
    terms = theirs.loss(predicted, taught, small, masks, i)
    return {k: terms[k] for k in ('cls', 'patch')}


@torch.no_grad()
def parts(theirs, mine, v):
    "Tokens and scores of masked and of whole crops"
    rows, images, side = {}, shared.for_them(v), int(v['mask'].shape[-1]**.5)
    for name, mask in (('student', v['mask'][:, 0]), ('teacher', None)):
        net, branch = getattr(theirs, name), getattr(mine, name)
        found = net.backbone(images[0], mask=None if mask is None else mask.unflatten(1, (side, side)))
        tokens, cls, scores = branch(v['x'][:, 0], mask=mask)
        first, rest = net.head(found)
        rows |= {f'{name} tokens': figure(found, torch.cat([cls[:, None], tokens], 1)),
                 f'{name} scores': figure(first, scores),
                 f'{name} patch scores': figure(rest, branch.patch_scores(tokens))}
    return rows


CASES = [*(dict(seed=s, dtype=d, steps=3) for s in (0, 1) for d in ('float64', 'float32')),
         dict(seed=2, dtype='float64', steps=3, small=0),
         dict(seed=3, dtype='float64', steps=3, shared_head=False),
         dict(seed=4, dtype='float32', steps=1, shared_head=False),
         dict(seed=5, dtype='float64', steps=1, size=224, small_size=96, patch=16, dim=192, depth=12, heads=3,
              hidden=2048, out_dim=256, prototypes=2048, batch=2)]
DIFFERENCES = [*shared.DIFFERENCES,
               'Their teacher has no mask token; ours carries one that it never uses.',
               'Sharing: their teacher may share its last layer while the student does not; here both do or neither.',
               'Small crops: theirs go through the head with all their patches, of which CLS is used; ours with CLS '
               'alone.']


def case(pub, seed, dtype, steps, **changes):
    "Parts on one batch, then some training steps on others"
    c, kind = ours.Config(**(shared.TINY | dict(size=48) | changes)), getattr(torch, dtype)
    theirs, mine = pair(pub, c, seed, kind)
    stream = [shared.inputs(c, ours.Views, 10 * seed + i, kind) for i in range(steps + 1)]
    rows = parts(theirs, mine, stream[0])
    for net in (theirs.student, theirs.teacher): shared.our_positions(net.backbone)
    hidden = [int(v['mask'].any(-1).sum()) for v in stream[1:]]
    figures = rows | shared.training(pub, theirs, mine, stream[1:], their_terms,
                                     (('centre', 'center'), ('patch_centre', 'center2')))
    return dict(seed=seed, dtype=dtype, batch=c.batch) | changes | dict(crops_with_holes=hidden, figures=figures)


def compare(path):
    "All cases, and the rules"
    pub = public(path)
    networks = pair(pub, ours.Config(**shared.TINY), 0, torch.float64)
    return comparison.measured(case, CASES, pub), shared.rules(pub, *networks)


if __name__ == '__main__': shared.main('iBOT', 'bytedance/ibot', 'main_ibot.py', __doc__, compare, DIFFERENCES)
