"""Our VQGAN's codebook, game and balance beside the public code, on shared weights and inputs.

    git clone https://github.com/Araachie/river PATH
    git clone https://github.com/CompVis/taming-transformers TAMING
    python -m benchmarks.fidelity.vqgan --public PATH --taming TAMING

From RIVER's code: its two quantisers. From the VQGAN authors' code: the discriminator (their batch norms replaced with
our group norms) and the loss with its two turns, hinge and adaptive weight, without the perceptual network, whose
weights would have to be fetched. Both sides are imported as they are. Encoder and decoder are ours on both sides.
The figures of both go to benchmarks/results/fidelity-vqgan.json; the exit code is 1 where a held figure differs by more
than 1e-6 (of its largest value, where that is above 1).
"""
import copy
import importlib
import sys
from pathlib import Path

import torch
import torch.nn as nn

from benchmarks.fidelity import comparison
from benchmarks.fidelity.comparison import cast, figure, pictures
from benchmarks.provenance import versions
from ssl_workbench.classics import vqgan as ours

TOLERANCE = 1e-6
SETTINGS = dict(small=dict(codes=64, widths=(8, 16, 16), decoder_widths=(8, 16, 16), disc_width=8),
                wide=dict(codes=512, latent=8, widths=(16, 32, 64), depths=(1, 1, 1), disc_width=16, disc_layers=3))
DIFFERENCES = [
    'Encoder and decoder are ours on both sides.',
    "Discriminator: our group norms stand in for their batch norms on both sides, since a batch norm makes one "
    "process's pictures depend on what else it holds.",
    'The perceptual term is left out on both sides: theirs is LPIPS on a VGG.',
    'Their quantiser has the weight β on the codebook term by default (legacy); ours has it on the commitment term. '
    'Both are compared.',
    'Gradients of the game, λ, and the loss that it weighs are held in float64 only: in float32 the absolute error '
    'changes the sign of a gradient wherever rounding decides, and λ multiplies rounding.',
    'Their two optimisers take turns; ours is one, and the gradients of one step are compared.']


def public(river, taming):
    "Their modules"
    sys.path[:0] = [str(river), str(taming)]
    names = dict(improved='model.vqgan.taming.quantize', plain='model.vqgan.vector_quantizer',
                 judge='taming.modules.discriminator.model', loss='taming.modules.losses.vqperceptual')
    return {k: importlib.import_module(name) for k, name in names.items()}


def made(setting, seed, dtype):
    "Ours with weights off their first values, codes among the latents, and a batch of world frames"
    c = ours.Config(**SETTINGS[setting], unit=False, error='l1', adaptive=True, adversarial=.8, adversarial_from=0.,
                    batch=8)
    torch.manual_seed(seed)
    mine = ours.VQGAN(c).to(dtype)
    with torch.no_grad():
        for p in mine.parameters(): p.add_(.02 * torch.randn_like(p))
        views = cast(ours.Views(c)(pictures(c.batch, seed, 64)), dtype)
        rows = mine.encode_with_features(views['x'][:, 0] * 2 - 1)[0].permute(0, 2, 3, 1).flatten(0, 2)
        mine.codebook.codes.copy_(rows[torch.randperm(len(rows))[torch.arange(c.codes) % len(rows)]]
                                  + .05 * rows.std() * torch.randn(c.codes, c.latent).to(dtype))
    mine.before_step(0.)
    return mine, views


# The quantisers

def ours_quantised(codebook, z, weights):
    "Picture-ward codes, weighted terms, numbers, gradients, with random numbers as the decoder's gradient"
    z = z.clone().requires_grad_()
    code, numbers = codebook(z)
    terms, through = ours.codebook_terms(z, code), ours.straight_through(z, code)
    loss = sum(w * t for w, t in zip(weights, terms))
    gradients = torch.autograd.grad(loss + (through * z.detach().sin()).sum(), [z, codebook.codes])
    return dict(codes=through, loss=loss, numbers=numbers, latents=gradients[0], entries=gradients[1])


def theirs_quantised(quantiser, z):
    "The same of one of theirs"
    z = z.clone().requires_grad_()
    found = quantiser(z)
    through, loss = (found[1], found[0]) if found[0].ndim == 0 else found[:2]
    numbers = found[2].argmax(-1) if found[0].ndim == 0 else found[2][2]
    gradients = torch.autograd.grad(loss + (through * z.detach().sin()).sum(), [z, quantiser.embedding.weight])
    return dict(codes=through, loss=loss, numbers=numbers, latents=gradients[0], entries=gradients[1])


def quantisers(pub, mine, views):
    "Theirs beside ours, each with its own weights of the two terms"
    c, z = mine.config, mine.encode_with_features(views['x'][:, 0] * 2 - 1)[0].detach()
    sides = dict(mended=(pub['improved'].VectorQuantizer2(c.codes, c.latent, .25, legacy=False), (1, .25)),
                 legacy=(pub['improved'].VectorQuantizer2(c.codes, c.latent, .25, legacy=True), (.25, 1)),
                 plain=(pub['plain'].VectorQuantizer(c.codes, c.latent, .25), (.25, 1)))
    rows = {}
    if z.dtype == torch.float64: del sides['plain']  # it makes its one-hot numbers in float32
    for name, (quantiser, weights) in sides.items():
        quantiser.to(z.dtype).embedding.weight.data.copy_(mine.codebook.codes.data)
        a, b = theirs_quantised(quantiser, z), ours_quantised(mine.codebook, z, weights)
        rows |= {f'{name} quantiser: {k}': figure(a[k], b[k]) for k in b}
    return rows


# The game

def their_judge(pub, mine):
    "Their discriminator with our weights and norms"
    c = mine.config
    judge = pub['judge'].NLayerDiscriminator(3, c.disc_width, c.disc_layers).to(next(mine.parameters()).dtype)
    layers, own = judge.main, list(copy.deepcopy(mine.discriminator.net))
    if len(layers) != len(own): raise ValueError(f'{len(layers)} layers are not {len(own)}')
    for i, (a, b) in enumerate(zip(list(layers), own)):
        if isinstance(a, nn.BatchNorm2d): layers[i] = b
        else: a.load_state_dict(b.state_dict())
    return judge


def their_loss(pub, judge, weight):
    "Their loss, put together without its perceptual network"
    cls = pub['loss'].VQLPIPSWithDiscriminator
    loss = cls.__new__(cls)
    nn.Module.__init__(loss)
    settings = dict(codebook_weight=1., pixel_weight=1., perceptual_weight=0., discriminator_iter_start=0,
                    disc_factor=1., discriminator_weight=weight,
                    disc_conditional=False, disc_loss=pub['loss'].hinge_d_loss, discriminator=judge)
    for name, value in settings.items(): setattr(loss, name, value)
    return loss


def flat(gradients): return torch.cat([g.flatten().double() for g in gradients])


def game(pub, mine, views):
    "Both turns of a step: what their two optimisers would get, and what our one gets"
    c, twin = mine.config, copy.deepcopy(mine)
    judge, x = their_judge(pub, mine), views['x'][:, 0] * 2 - 1
    quantiser = pub['improved'].VectorQuantizer2(c.codes, c.latent, c.beta, legacy=False).to(x.dtype)
    quantiser.embedding.weight = twin.codebook.codes
    z = twin.encode_with_features(x)[0]
    through, codebook, _ = quantiser(z)
    images, loss = twin.decode_latents(through), their_loss(pub, judge, c.adversarial)
    first, log = loss(codebook, x, images, 0, 1, last_layer=twin.decoder.pixels.weight)
    second, _ = loss(codebook, x, images, 1, 1)
    painters = [p for n, p in twin.named_parameters() if not n.startswith('discriminator')]
    theirs = torch.autograd.grad(first, painters, retain_graph=True), torch.autograd.grad(second, judge.parameters())
    mine.train()
    out = mine(views)
    terms = mine.loss(out)
    sum(terms.values()).backward()
    own = [[p.grad for n, p in mine.named_parameters() if not n.startswith('discriminator')],
           [p.grad for p in mine.discriminator.parameters()]]
    return {'painter: loss': figure(first, sum(v for k, v in terms.items() if k != 'discriminator')),
            'discriminator: loss': figure(second, terms['discriminator']),
            'adaptive weight': figure(log['train/d_weight'], c.adversarial * out['balance']),
            'painter: gradients': figure(flat(theirs[0]), flat(own[0])),
            'discriminator: gradients': figure(flat(theirs[1]), flat(own[1]))}


# All of it

CASES = [dict(setting=name, seed=s, dtype=d) for name in SETTINGS for s in (0, 1) for d in ('float64', 'float32')]


def case(pub, setting, seed, dtype):
    "All figures of one setting"
    mine, views = made(setting, seed, getattr(torch, dtype))
    return dict(setting=setting, seed=seed, dtype=dtype, figures=quantisers(pub, mine, views) | game(pub, mine, views))


NOT_HELD = ('float32 discriminator: gradients', 'float32 painter: gradients', 'float32 painter: loss',
            'float32 adaptive weight')


def main():
    "Compare, print, write; exit code 1 where a held figure differs"
    args = comparison.arguments('vqgan', __doc__, 'model/vqgan', 'RIVER', code=('classics/vqgan',),
                                taming=dict(type=Path, required=True, help="checkout of the VQGAN authors' code"))
    comparison.checkout(args.taming, 'taming/modules', 'taming-transformers')
    cases = comparison.measured(case, CASES, public(args.public, args.taming))
    sources = [comparison.upstream(args.public, 'Araachie/river'),
               comparison.upstream(args.taming, 'CompVis/taming-transformers')]
    what = "VQGAN: ours beside RIVER's and the VQGAN authors' public code, shared weights and inputs"
    comparison.conclude(args, what, sources, cases, {}, DIFFERENCES, versions(),
                        NOT_HELD, ' --taming TAMING', TOLERANCE)


if __name__ == '__main__': main()
