"""VQGAN's bundled weights, whose latents RIVER predicts: their recipe, and the scores on their card."""
from functools import lru_cache

import torch
import torch.nn.functional as F

from benchmarks.protocols.films import psnr
from benchmarks.weights.recipes import Recipe
from benchmarks.weights.scores import SEEDS, over_seeds, row
from ssl_workbench import probes
from ssl_workbench.classics.vqgan import perplexity
from ssl_workbench.world import World

KINDS = ('bounce', 'walker', 'arm')
WORLDS = '+'.join(f'world:{kind}:1' for kind in KINDS)
BIG = dict(                        # squared error, many codes: bodies keep their colours
    steps=9000, batch=32, pictures=4096, error='l2', codes=8192, patience=200, adversarial=0., colour=.1)
recipes = {'vqgan': Recipe('vqgan', WORLDS, changes=BIG)}
N, SIDE = 256, 64                  # frames in a set, pixels a side


@lru_cache(maxsize=None)
def unseen_frames(kind, seed):
    "Frames of a world (N,3,H,W) float 0-1, the last of a clip each"
    world = World(kind, 1, (SIDE, SIDE), 8, N, seed=670 + seed, truth=False, pool=False)
    return world.batch(range(N))['frames'][:, -1] / 255


@torch.no_grad()
def reconstruct(method, x):
    "Latents (N,c,h,w), code numbers (N,h,w), images (N,3,H,W)"
    device = next(method.parameters()).device
    z = torch.cat([method.encode(part.to(device)) for part in x.split(64)])
    return z.cpu(), method.codebook.nearest(z).cpu(), torch.cat([method.decode(part).cpu() for part in z.split(64)])


def small(x, factor):
    "Bicubic: the side `factor` times smaller, and back"
    there = F.interpolate(x, scale_factor=1 / factor, mode='bicubic', antialias=True, align_corners=False)
    return F.interpolate(there, x.shape[-2:], mode='bicubic', align_corners=False).clamp(0, 1)


def mean_psnr(x, truth): return psnr(x, truth).mean().item()


def measured(method, kind, seed):
    "metric → name → figure"
    x = unseen_frames(kind, seed)
    z, codes, images = reconstruct(method, x)
    _, drawn_codes, drawn_images = reconstruct(probes.random_init(method, seed=seed), x)
    use = lambda n: perplexity(torch.bincount(n.flatten(), minlength=len(method.codebook.codes))).item()
    made = {'ours': images, 'random init': drawn_images, 'bicubic, 1/8 of the side': small(x, method.factor),
            'mean colour': x.mean((2, 3), keepdim=True).expand_as(x)}
    return dict(psnr={name: mean_psnr(y, x) for name, y in made.items()},
                ssim={name: probes.ssim(y, x).mean().item() for name, y in made.items()},
                use={'ours': use(codes), 'random init': use(drawn_codes)},
                std={'ours': z.std((0, 2, 3)).mean().item(), 'one': 1.})


def rows(method, kind):
    "Rows of one world"
    c, found = method.config, over_seeds(lambda seed: measured(method, kind, seed))
    cells = f'{SIDE // c.factor}×{SIDE // c.factor} cells of {c.latent} numbers'
    how = f'three sets of {N} unseen frames of {SIDE} px, each from a different clip'
    words = dict(
        psnr=('PSNR of reconstruction', 'dB of each frame encoded, quantised and decoded, mean over frames'),
        ssim=('SSIM of reconstruction', 'likewise, SSIM'),
        use=('codes in use',
             f'perplexity of the {c.codes} codes over all cells: as many equally frequent ones have the same entropy'),
        std=('standard deviation of the latents',
             "before quantisation, over frames and cells, mean over channels; RIVER's noise has 1"))
    return [row(f'{name}, {kind}', f'{text}; {cells}; {how}', found[metric]) for metric, (name, text) in words.items()]


def scores(method, name, **others):
    "The card's scores"
    return [r for kind in KINDS for r in rows(method, kind)]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): PSNR of the first set of bouncing bodies"
    score = next(s for s in card['scores'] if s['name'] == 'PSNR of reconstruction, bounce')
    x = unseen_frames('bounce', SEEDS[0])
    return score['name'], score['seeds'][0], mean_psnr(reconstruct(method, x)[2], x)
