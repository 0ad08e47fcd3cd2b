"""VQGAN: straight-through gradients, revival of codes in any order of rows, one optimiser for both networks."""
from dataclasses import replace

import pytest
import torch

from ssl_workbench import world
from ssl_workbench.classics.vqgan import VQGAN, Codebook, Perceptual, Views, cpu, straight_through

TINY = replace(cpu, size=32, canvas=32, widths=(8, 8, 16), decoder_widths=(8, 8, 16), codes=32, disc_width=8,
               adversarial_from=0.)


def views(config=TINY, n=4, seed=0):
    "Views of some frames"
    frames = world.batch(torch.arange(n), device='cpu', kind='scene', level=0, size=(32, 32), frames=2)['frames']
    return Views(config)(dict(frames=frames, seed=torch.arange(n) + seed))


def made(config=TINY, **parts):
    "A method in training mode, past the discriminator's start"
    torch.manual_seed(0)
    method = VQGAN(config, **parts).train()
    method.before_step(.5)
    return method


def test_straight_through():
    "The code's value, the latent's gradient, and no gradient for the code"
    z, code = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    out = straight_through(z, code)
    (out * torch.arange(6.).view(2, 3)).sum().backward()
    assert torch.allclose(out, code) and torch.equal(z.grad, torch.arange(6.).view(2, 3)) and code.grad is None


def test_nearest_is_nearest():
    "The same codes as by comparing all distances"
    torch.manual_seed(0)
    book, z = Codebook(50, 3), torch.randn(2, 3, 4, 5)
    torch.nn.init.normal_(book.codes)
    every = (z.permute(0, 2, 3, 1)[..., None, :] - book.codes).square().sum(-1)
    assert torch.equal(book.nearest(z), every.argmin(-1))


def test_revival_is_for_the_idle_and_knows_no_order():
    "Only codes idle for longer than patience move, onto the rows with the smallest priorities, in any order of rows"
    torch.manual_seed(0)
    rows, priority, order = torch.randn(30, 2), torch.rand(30), torch.randperm(30)
    books = [Codebook(6, 2, patience=3) for _ in range(2)]
    books[1].load_state_dict(books[0].state_dict())
    for book in books: book.idle.zero_()
    start = books[0].codes.detach().clone()
    used = torch.arange(30) % 3                                # codes 3, 4, 5 are never used
    for step in range(4):
        moved = [book.revive(rows[o], used[o], priority[o]) for book, o in zip(books, (torch.arange(30), order))]
        assert moved[0].tolist() == ([3, 4, 5] if step == 3 else [])
    assert torch.equal(books[0].codes, books[1].codes) and torch.equal(books[0].codes[:3], start[:3])
    assert torch.equal(books[0].codes[3:], rows[priority.argsort()[:3]])


def test_no_patience_no_revival():
    "With patience 0 dead codes stay dead"
    book = Codebook(6, 2, patience=0)
    before = book.codes.detach().clone()
    for _ in range(5): assert len(book.revive(torch.randn(9, 2), torch.zeros(9, dtype=torch.int64), torch.rand(9))) == 0
    assert torch.equal(book.codes, before)


def test_two_sides_one_step():
    "The adversarial term leaves the discriminator alone, the discriminator's term everything else"
    method = made()
    terms = method.loss(method(views()))
    groups = dict(discriminator=[p for n, p in method.named_parameters() if n.startswith('discriminator')],
                  autoencoder=[*method.decoder.parameters(), *method.encoder.parameters()])
    grads = lambda term, side: torch.autograd.grad(terms[term], groups[side], retain_graph=True, allow_unused=True)
    reached = lambda term, side: any(g is not None and g.abs().sum() > 0 for g in grads(term, side))
    assert reached('discriminator', 'discriminator') and reached('adversarial', 'autoencoder')
    assert not reached('discriminator', 'autoencoder') and not reached('adversarial', 'discriminator')


def test_decoding_snaps():
    "A latent a little off decodes to the same picture; what the decoder absorbs can be left out"
    method = made().eval()
    with torch.no_grad():
        method.codebook.codes.normal_()
        codes = method.codebook.codes[torch.arange(16)].view(1, 4, 4, 4).permute(0, 3, 1, 2)
        off = codes + 1e-4 * torch.randn_like(codes)
        assert torch.equal(method.decode(off), method.decode(codes))
        assert not torch.equal(method.decode(off, quantise=False), method.decode(codes))


def test_latents_have_unit_width():
    "Mean 0 and width 1 a channel, by running figures as by the batch"
    method, v = made(), views(n=8)
    for _ in range(200): method(v)
    with torch.no_grad(): z = method.eval().encode(v['x'][:, 0])
    assert z.mean((0, 2, 3)).abs().max() < .05 and (z.std((0, 2, 3)) - 1).abs().max() < .05


def test_perceptual_network_stays_outside():
    "A perceptual network is neither trained nor saved, and its own weights are not touched"
    net = torch.nn.Conv2d(3, 4, 3)
    method = made(perceptual=lambda x: [net(x)])
    assert method.loss(method(views()))['perceptual'] > 0
    held = made(perceptual=torch.nn.Sequential(net, torch.nn.Flatten(0, 0)))
    assert not [n for n in held.state_dict() if 'perceptual' in n] and net.weight.requires_grad
    assert Perceptual(lambda x: [x])(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)) > 0


@pytest.mark.parametrize('change, message', [(dict(error='l3'), 'l1 or l2'), (dict(widths=(8, 8)), 'every resolution'),
                                          (dict(size=30), 'multiple of 8'), (dict(widths=(8, 8, 12)), 'multiple of 8')])
def test_settings_that_cannot_be(change, message):
    "One sentence"
    with pytest.raises(ValueError, match=message): replace(TINY, **change)
