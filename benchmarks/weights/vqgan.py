"""VQGAN's bundled weights, whose latents RIVER predicts: their recipe, and the scores on their card."""
from functools import lru_cache

import torch
import torch.nn.functional as F

from benchmarks.weights.machine import Recipe
from benchmarks.weights.scores import SEEDS, row
from ssl_workbench import probes
from ssl_workbench.classics.vqgan import perplexity
from ssl_workbench.world import World

KINDS = ('bounce', 'walker', 'arm')
WORLDS = '+'.join(f'world:{kind}:1' for kind in KINDS)
BIG = dict(steps=9000, batch=32, pictures=4096, error='l2', codes=8192, patience=200, adversarial=0., colour=.1)    # squared error, many codes: bodies keep their colours
recipes = {'vqgan': Recipe('vqgan', WORLDS, changes=BIG)}
N, SIDE = 256, 64                  # frames in a set, pixels a side
HOW = f'three sets of {N} unseen frames of {SIDE} px, a clip each'


@lru_cache(maxsize=None)
def frames(kind, seed):
    "Unseen frames of a world (N,3,H,W) float 0-1, the last of a clip each"
    return World(kind, 1, (SIDE, SIDE), 8, N, seed=670 + seed, truth=False, pool=False).batch(range(N))['frames'][:, -1] / 255


@torch.no_grad()
def rebuilt(method, x):
    "Latents (N,c,h,w), code numbers (N,h,w), pictures (N,3,H,W)"
    place = next(method.parameters()).device
    z = torch.cat([method.encode(part.to(place)) for part in x.split(64)])
    return z.cpu(), method.codebook.nearest(z).cpu(), torch.cat([method.decode(part).cpu() for part in z.split(64)])


def small(x, factor):
    "Bicubic: the side `factor` times smaller, and back"
    there = F.interpolate(x, scale_factor=1 / factor, mode='bicubic', antialias=True, align_corners=False)
    return F.interpolate(there, x.shape[-2:], mode='bicubic', align_corners=False).clamp(0, 1)


def level(x, said):
    "Mean PSNR"
    return probes.psnr(said, x, most=60.).mean().item()


def measured(method, kind):
    "metric → name → score a seed"
    found = {}
    for seed in SEEDS:
        x = frames(kind, seed)
        z, numbers, said = rebuilt(method, x)
        _, drawn, blind = rebuilt(probes.random_init(method, seed=seed), x)
        use = lambda n: perplexity(torch.bincount(n.flatten(), minlength=len(method.codebook.codes))).item()
        pictures = {'ours': said, 'random init': blind, 'bicubic, 1/8 of the side': small(x, method.factor), 'mean colour': x.mean((2, 3), keepdim=True).expand_as(x)}
        rows = dict(psnr={name: level(x, y) for name, y in pictures.items()}, ssim={name: probes.ssim(y, x).mean().item() for name, y in pictures.items()},
                    use={'ours': use(numbers), 'random init': use(drawn)}, std={'ours': z.std((0, 2, 3)).mean().item(), 'one': 1.})
        for metric, values in rows.items():
            for name, value in values.items(): found.setdefault(metric, {}).setdefault(name, []).append(value)
    return found


def judged(method, kind):
    "Rows of one world"
    c, found, rows = method.config, measured(method, kind), []
    for metric, name, words in (
            ('psnr', 'PSNR of reconstruction', 'dB of each frame encoded, quantised and decoded, mean over frames'), ('ssim', 'SSIM of reconstruction', 'likewise, SSIM'),
            ('use', 'codes in use', f'perplexity of the {c.codes} codes over all cells: as many equally frequent ones have the same entropy'),
            ('std', 'standard deviation of the latents', 'before quantisation, over frames and cells, mean over channels; RIVER\'s noise has 1')):
        rows.append(row(f'{name}, {kind}', f'{words}; {SIDE // c.factor}×{SIDE // c.factor} cells of {c.latent} numbers; {HOW}', found[metric].pop('ours'), found[metric]))
    return rows


def scores(method, name, **extra):
    "The card's scores"
    return [r for kind in KINDS for r in judged(method, kind)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): PSNR of the first set of bouncing bodies"
    score = next(s for s in card['scores'] if s['name'] == 'PSNR of reconstruction, bounce')
    x = frames('bounce', SEEDS[0])
    return score['name'], score['seeds'][0], level(x, rebuilt(method, x)[2])
