"""Our LOCA beside the authors' public code (JAX), on shared weights and inputs.

    git clone https://github.com/google-research/scenic PATH
    python -m venv JAX && JAX/bin/pip install jax flax optax
    python -m benchmarks.fidelity.loca --public PATH --jax JAX/bin/python

Their network, Sinkhorn, loss and training step are imported from PATH as they are and run by the other Python (see
`loca_public.py`), on random weights (ours are the same ones, renamed) and the same views; which tokens are kept is
given to both. The figures of both go to benchmarks/results/fidelity-loca.json; the exit code is 1 where a held figure
differs by more than 1e-5.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import cast, pictures
from benchmarks.fidelity.comparison import unscaled as figure
from benchmarks.provenance import versions
from ssl_workbench import core, geometry, learner
from ssl_workbench.heads import ema_update
from ssl_workbench.methods import loca as ours

MOMENTUM, BATCH = .9, 4
SETTINGS = dict(small=dict(size=64, small=32, patch=8, dim=48, depth=2, heads=3, hidden=64, out_dim=32, prototypes=24,
                           queries=4),
                paper_grid=dict(size=224, small=96, patch=16, dim=96, depth=3, heads=3, hidden=128, out_dim=64,
                                prototypes=128, queries=3))
DIFFERENCES = ['Position embeddings of small queries: theirs are resized bilinearly, ours bicubically (timm); here '
               'ours are resized as theirs.',
               'Kept tokens: theirs are one draw for all pictures of a device, ours one a picture; here both get the '
               'same.',
               'Stochastic depth is off in both. Colour, blur and the crops themselves are not compared.']


def renamed(branch, c):
    "A branch's tensors (or gradients) by their names and shapes in Flax"
    heads, out = c.heads, {}
    get = lambda name: branch[name].detach().double()
    linear = lambda name, ours_: out.update({f'{name}/kernel': get(ours_ + '.weight').T,
                                             f'{name}/bias': get(ours_ + '.bias')})
    norm = lambda name, ours_: out.update({f'{name}/scale': get(ours_ + '.weight'),
                                           f'{name}/bias': get(ours_ + '.bias')})

    def attention(name, parts, proj):
        for part, (w, b) in zip(('query', 'key', 'value'), parts):
            out[f'{name}/{part}/kernel'], out[f'{name}/{part}/bias'] = w.T.reshape(c.dim, heads, -1), b.view(heads, -1)
        out[f'{name}/out/kernel'] = get(proj + '.weight').T.reshape(heads, -1, c.dim)
        out[f'{name}/out/bias'] = get(proj + '.bias')

    net = 'encoder.net.'
    out['ToTokenSequence_0/embedding/kernel'] = get(net + 'patch_embed.proj.weight').permute(2, 3, 1, 0)
    out['ToTokenSequence_0/embedding/bias'] = get(net + 'patch_embed.proj.bias')
    out['ToTokenSequence_0/posembed_input'] = get(net + 'pos_embed').view(1, *c.grid, c.dim)
    for i in range(c.depth):
        block, mine = f'encoderblock_{i}', f'{net}blocks.{i}.'
        norm(f'{block}/LayerNorm_0', mine + 'norm1'); norm(f'{block}/LayerNorm_1', mine + 'norm2')
        attention(f'{block}/MultiHeadDotProductAttention_0',
                  zip(get(mine + 'attn.qkv.weight').chunk(3), get(mine + 'attn.qkv.bias').chunk(3)), mine + 'attn.proj')
        linear(f'{block}/MlpBlock_0/Dense_0', mine + 'mlp.fc1'); linear(f'{block}/MlpBlock_0/Dense_1', mine + 'mlp.fc2')
    norm('encoder_norm', net + 'norm')
    head, cross, mine = 'projection_head_for_clustering_prediction', 'cross_attention_block', 'locator.cross.'
    for i in range(3): linear(f'{head}/Dense_{i}', f'projector.{2 * i}')
    out[f'{head}/prototypes/kernel'] = get('prototypes.weight').T
    for i, name in enumerate(('norm_query', 'norm_key', 'norm_mlp')): norm(f'{cross}/LayerNorm_{i}', mine + name)
    attention(f'{cross}/MultiHeadDotProductAttention_0',
              [(get(f'{mine}{k}.weight'), get(f'{mine}{k}.bias')) for k in ('query', 'key', 'value')], mine + 'proj')
    linear(f'{cross}/MlpBlock_0/Dense_0', mine + 'mlp.0'); linear(f'{cross}/MlpBlock_0/Dense_1', mine + 'mlp.2')
    norm('final_norm', 'locator.norm'); linear('position_predictor', 'locator.head')
    return {k: np.ascontiguousarray(v.numpy()) for k, v in out.items()}


def bilinear(encoder):
    "The encoder, its position embeddings resized as theirs are"
    table, embed = encoder.net.pos_embed, encoder.embed
    side = encoder.net.patch_embed.grid_size

    def positions(grid):
        maps = table.unflatten(1, side).movedim(-1, 1)
        return F.interpolate(maps, tuple(grid), mode='bilinear', antialias=True,
                             align_corners=False).flatten(2).mT if tuple(grid) != tuple(side) else table

    def placed(images, mask=None, keep=None, position_ids=None):
        h, w = encoder.grid(images)
        return embed(images, mask, torch.arange(h * w).expand(len(images), -1) if keep is None else keep, position_ids)

    encoder.positions, encoder.embed = positions, placed


def method_of(c, seed):
    "Ours in float64, random everywhere; the teacher is another network than the student"
    torch.manual_seed(seed)
    method = ours.LOCA(c).double()
    with torch.no_grad():
        for p in method.parameters(): p.add_(.05 * torch.randn_like(p))
    for branch in (method.student, method.teacher): bilinear(branch.encoder)
    return method


def inputs(c, seed):
    "Our views of world scenes, with the same tokens kept in every picture; and theirs: standardised, channels last, "
    "with the cell of every patch"
    made = ours.Views(c)
    v = cast(made(pictures(BATCH, seed, 128)), torch.float64)
    v |= {k: v[k][:1].expand(BATCH, -1) for k in ('keep', 'visible')}
    v['target'] = made.targets(v['matrix'], v['keep'])
    cells = made.targets(v['matrix'], torch.arange(c.cells).expand(BATCH, -1))
    mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in ((.485, .456, .406), (.229, .224, .225)))
    last = lambda x: ((x - mean) / std).movedim(-3, -1).numpy()
    theirs = dict(reference=last(v['x'][:, 0]), query0=last(v['x'][:, 1]),
                  query0_mask=cells[:, :c.cells].view(BATCH, *c.grid).numpy(), keep=v['keep'][0].numpy(),
                  visible=v['visible'][0].numpy())
    side = c.small // c.patch
    for k, (x, cell) in enumerate(zip(v['x_small'].unbind(1), cells[:, c.cells:].view(BATCH, -1, side, side).unbind(1)),
                                  1):
        theirs |= {f'query{k}': last(x), f'query{k}_mask': cell.numpy()}
    return v, theirs


def case(name, seed, public, python):
    "One step of both"
    c = ours.Config(batch=BATCH, **SETTINGS[name])
    method, (views, theirs) = method_of(c, seed), inputs(c, seed)
    given = theirs | {f'setting/{k}': np.asarray(getattr(c, k)) for k in SETTINGS[name]}
    for part in ('student', 'teacher'):
        given |= {f'{part}/{k}': v for k, v in renamed(getattr(method, part).state_dict(), c).items()}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f'{folder}/given.npz', **given)
        subprocess.run([python, str(Path(__file__).with_name('loca_public.py')), str(public), f'{folder}/given.npz',
                        f'{folder}/found.npz'], check=True)
        found = dict(np.load(f'{folder}/found.npz'))
    return dict(setting=name, seed=seed, jax=str(found['jax']), flax=str(found['flax']),
                figures=figures(method, views, found))


def figures(method, views, found):
    "Everything that both computed"
    c, first = method.config, views['keep'].shape[1]
    reference, whole = method._reference(views)
    scores = method.teacher.scores(whole)
    out = method(views)
    terms, student = method.loss(out), method.student.scores(out['tokens'])
    small = slice(first, first + (c.small // c.patch)**2)
    rows = dict(reference_tokens=reference, teacher_scores=scores, targets=method.targets(scores.flatten(0, 1)),
                query0_position=out['position_scores'][:, :first],
                query1_position=out['position_scores'][:, small], query0_scores=student[:, :first],
                query1_scores=student[:, small])
    table = {k: figure(found[k], v.detach()) for k, v in rows.items()}
    table |= dict(loss_position=figure(found['total'] - found['features'], terms['position'].detach()),
                  loss_features=figure(found['features'], (terms['cluster'] + terms['me_max']).detach()))
    sum(terms.values()).backward()
    learner.clip_gradients(method.param_groups())
    grads = {n: p.grad for n, p in method.student.named_parameters() if p.requires_grad}
    part = lambda name: {k.removeprefix(name): v for k, v in found.items() if k.startswith(name)}
    table['clipped gradients'] = comparison.compared(part('gradient/'), renamed(grads, c), figure)
    with torch.no_grad():
        for n, p in method.student.named_parameters():
            if p.requires_grad: p.sub_(grads[n])
    ema_update(method.teacher, method.student, MOMENTUM)
    table['teacher after'] = comparison.compared(part('teacher/'), renamed(method.teacher.state_dict(), c), figure)
    return table


def correspondence(n=300):
    "How often our h(j) agrees with their recipe: indices drawn on a picture of 896 pixels, cropped, resized"
    same, cell = 0, 896 // 14
    boxes = torch.floor(core.uniform(torch.arange(n), 'boxes', 2) * 448)
    for x, y in boxes.tolist():
        painted = torch.arange(196).view(14, 14).repeat_interleave(cell, 0).repeat_interleave(cell, 1)
        theirs = F.interpolate(painted[int(y):int(y) + 448, int(x):int(x) + 448][None, None].double(), (6, 6),
                               mode='nearest-exact').long().flatten()
        box = torch.tensor([x, y, x + 448, y + 448]) / 896
        whole = geometry.crop_matrix(torch.tensor([[0., 0., 1., 1.]]))
        mine = geometry.index_match(whole, geometry.crop_matrix(box[None, None]), (14, 14), (6, 6))[0, 0]
        same += int((mine == theirs).sum())
    return same / (36 * n)


def rules():
    "Decayed elements: theirs are of tensors that are not one-dimensional in Flax (two of ours make three of theirs)"
    c = ours.Config(**SETTINGS['small'])
    method, size = ours.LOCA(c), lambda ps: sum(p.numel() for p in ps)
    theirs = sum(v.size for v in renamed(method.student.state_dict(), c).values() if v.ndim != 1)
    return {'decayed elements': figure(theirs, size(method.param_groups()[0]['params']))}


def main():
    "Compare, print, write; exit code 1 where a figure differs"
    args = comparison.arguments('loca', __doc__, 'scenic/projects/loca/vit.py', 'scenic',
                                jax=dict(default=sys.executable, help='a Python that has jax, flax and optax'),
                                quick='one small network; writes nothing')
    cases = [case(name, seed, args.public, args.jax)
             for name, seed in ([('small', 0)] if args.quick else [('small', 0), ('small', 1), ('paper_grid', 0)])]
    agree = correspondence()
    print(f'correspondence: {agree:.2%} of patches alike')
    comparison.conclude(args, "LOCA: ours beside the authors' public code, shared weights and inputs, float64",
                        comparison.upstream(args.public, 'google-research/scenic'),
                        cases, rules(), DIFFERENCES, versions() | {k: cases[0][k] for k in ('jax', 'flax')},
                        ('decayed elements',), ' --jax PYTHON', same_correspondence=agree)


if __name__ == '__main__': main()
