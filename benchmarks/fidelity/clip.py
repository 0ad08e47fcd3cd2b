"""The contrast of our CLIP and SF-CLIP beside OpenCLIP's, on shared embeddings, in one process and in two.

    git clone https://github.com/mlfoundations/open_clip PATH
    python -m benchmarks.fidelity.clip --public PATH

Their loss comes from PATH as it is. CLIP's term is theirs; SF-CLIP sums the two directions that they average (thesis
eq. 7.1), so its term and gradients are held to twice theirs. In two processes each has half of the batch, and their
loss runs as their training runs it (local loss, gather with gradient) and with the whole matrix of scores on each.
The figures of both go to benchmarks/results/fidelity-clip.json; the exit code is 1 where one differs by more than 1e-5.
"""
import importlib.util
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import normalize

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import figure
from benchmarks.provenance import versions
from ssl_workbench import core
from ssl_workbench.classics.clip import contrast_both_ways

BATCH, DIM, PROCESSES = 24, 32, 2
CASES = [dict(seed=s, dtype=d, scale=k) for s in (0, 1) for d in ('float64', 'float32') for k in (1 / .07, 100.)]
FORMS = {'local loss': dict(local_loss=True, gather_with_grad=True),
         'whole matrix': dict(local_loss=False, gather_with_grad=True)}
DIFFERENCES = ['SF-CLIP sums both directions where OpenCLIP halves the sum: with λ = 1 as in the thesis, halving would '
               'double the weight of the distillation.']


def public(path):
    "Their loss, without the rest of their package"
    spec = importlib.util.spec_from_file_location('open_clip_loss', path/'src/open_clip/loss.py')
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module.ClipLoss


def leaves(seed, dtype, scale):
    "Embeddings before they are normalised, pictures and captions alike, and 1/τ"
    draws = core.normal([seed], 'fidelity.clip', 2 * BATCH * DIM).view(2, BATCH, DIM)
    kind = getattr(torch, dtype)
    return (draws[0] + .4 * draws[1]).to(kind), draws[1].to(kind), torch.tensor([scale], dtype=kind)


def run(loss, image, text, scale):
    "What a loss gives, and its gradients for the embeddings and for 1/τ"
    given = [x.clone().requires_grad_() for x in (image, text, scale)]
    total = loss(normalize(given[0], dim=-1), normalize(given[1], dim=-1), given[2])
    total.backward()
    return dict(term=total.detach(), image=given[0].grad, text=given[1].grad, scale=given[2].grad)


def ours(factor):
    "Our contrast over all processes: CLIP's mean of both directions (factor ½), or SF-CLIP's sum (1)"
    def loss(image, text, scale):
        images, texts = core.gather(image, grad=True), core.gather(text, grad=True)
        return factor * sum(contrast_both_ways(image, text, images, texts, scale))
    return loss


def compared(theirs, image, text, scale):
    "Ours beside theirs"
    found = {}
    for name, factor, times in (('CLIP', .5, 1), ('SF-CLIP', 1, 2)):
        a, b = run(theirs, image, text, scale), run(ours(factor), image, text, scale)
        found |= {f'{name} {k}': figure(times * a[k], b[k]) for k in a}
    return found


def work(rank, path, folder):
    "One of the processes: its half of every case, in both of their forms"
    store = dist.FileStore(f'{folder}/store', PROCESSES)
    dist.init_process_group('gloo', store=store, rank=rank, world_size=PROCESSES)
    loss, part, found = public(path), BATCH // PROCESSES, []
    for c in CASES:
        image, text, scale = leaves(**c)
        own = slice(rank * part, (rank + 1) * part)
        forms = {n: loss(rank=rank, world_size=PROCESSES, **kw) for n, kw in FORMS.items()}
        a = {n: run(f, image[own], text[own], scale) for n, f in forms.items()}
        b = run(ours(.5), image[own], text[own], scale)
        for r in (*a.values(), b):                                  # what the optimiser meets: means over the processes
            for k in ('term', 'scale'): dist.all_reduce(r[k]); r[k] /= PROCESSES
        found.append({f'{n}, {k}': figure(r[k], b[k]) for n, r in a.items() for k in b})
        found[-1] |= {f'one process, {k}': figure(*pair) for k, pair in _whole(image, text, scale, b, own).items()}
    torch.save(found, f'{folder}/{rank}.pt')
    dist.barrier()
    dist.destroy_process_group()


def _whole(image, text, scale, found, own):
    "The whole batch in one process beside this process's part; gradients are averaged over processes"
    whole = lambda i, t, s: sum(contrast_both_ways(i, t, i, t, s)) / 2
    rank, core.rank = core.rank, lambda: 0                          # as if it were alone
    try: one = run(whole, image, text, scale)
    finally: core.rank = rank
    mean = {k: found[k] / PROCESSES for k in ('image', 'text')}
    return {k: (one[k], found[k]) for k in ('term', 'scale')} | {k: (one[k][own], mean[k]) for k in mean}


def case(loss, seed, dtype, scale):
    "One process"
    return dict(seed=seed, dtype=dtype, scale=scale, figures=compared(loss(), *leaves(seed, dtype, scale)))


def main():
    "Compare, print, write"
    args = comparison.arguments('clip', __doc__, 'src/open_clip/loss.py', 'OpenCLIP',
                                code=('classics/clip', 'methods/sfclip', 'core'))
    cases = comparison.measured(case, CASES, public(args.public))
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (args.public, folder), nprocs=PROCESSES)
        two = [torch.load(Path(folder)/f'{r}.pt', weights_only=True) for r in range(PROCESSES)]
    for r, found in enumerate(two):
        for c, f in zip(CASES, found):
            cases.append(dict(c, process=r, figures={f'two processes, {k}': v for k, v in f.items()}))
    comparison.conclude(args, "CLIP's contrast: ours beside OpenCLIP's, shared embeddings, one process and two",
                        comparison.upstream(args.public, 'mlfoundations/open_clip'), cases, {}, DIFFERENCES, versions())


if __name__ == '__main__': main()
