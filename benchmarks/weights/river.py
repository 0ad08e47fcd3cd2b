"""RIVER's bundled weights: their recipe, and the scores on their card."""
from functools import lru_cache, partial

import torch

from benchmarks.weights.machine import Recipe
from benchmarks.weights.scores import SEEDS, row
from ssl_workbench import catalog, probes
from ssl_workbench.world import World

BIG = dict(dim=128, depth=2, middle=2, window=3, steps=40000, batch=32, precision='bf16', blank=.05, guidance=1.3, plan=.15, pictures=4096)   # recent contexts: in a world that bounces the last frames say most
recipes = {'river': Recipe('river', 'world:bounce:1', changes=BIG, seed=0)}
N, SIDE, GIVEN, NEXT = 64, 64, 2, 14     # clips in a set, pixels a side, frames given, frames to come
ENCODER = 'mcjepa'                 # of Fréchet's distance: its features tell the order of frames
MOST = 60.                         # dB at which a perfect picture is cut


# ---- films

@lru_cache(maxsize=None)
def films(seed):
    "Unseen clips: given (N,2,3,H,W) and to come (N,14,3,H,W), float 0-1, and the pixels that count (N,14,1,H,W)"
    made = World('bounce', 1, (SIDE, SIDE), GIVEN + NEXT, N, seed=680 + seed, pool=False).batch(range(N))
    x = made['frames'] / 255
    return x[:, :GIVEN], x[:, GIVEN:], probes.moving_pixels(made['instances'], GIVEN)


def foretold(method, seed, n=NEXT, **how):
    "The first n frames to come"
    place, seen = next(method.parameters()).device, films(seed)[0]
    return torch.cat([method.predict(x.to(place), n, seed=1000 * seed + i, **how).cpu() for i, x in enumerate(seen.split(32))])


def one_at_a_time(method, seed):
    "The frames to come, each made from the true ones before it"
    seen, truth, _ = films(seed)
    film = torch.cat([seen, truth], 1).to(next(method.parameters()).device)
    return torch.cat([torch.cat([method.predict(x, 1, seed=1000 * seed + i).cpu() for i, x in enumerate(film[:, :k].split(32))]) for k in range(GIVEN, GIVEN + NEXT)], 1)


@torch.no_grad()
def squeezed(method, frames):
    "Frames through the autoencoder: what a perfect predictor of latents would show"
    place = next(method.parameters()).device
    return torch.cat([method.decode(method.encode(x.to(place))).cpu() for x in frames.split(8)])


def untrained(method, seed):
    "A network of its kind as drawn, with the same autoencoder"
    return probes.random_init(method, seed=seed).adopt(method.autoencoder)


def rivals(method, seed):
    "name → frames to come"
    seen, truth, _ = films(seed)
    plain = {'without guidance': foretold(method, seed, guidance=1)} if method.config.guidance > 1 else {}
    return {'ours': foretold(method, seed), **plain, 'last frame kept': probes.copy_last(seen, NEXT), 'pixels extrapolated': probes.extrapolated(seen, NEXT),
            'random init': foretold(untrained(method, seed), seed), 'autoencoder': squeezed(method, truth)}


RIVALS = ('last frame kept', 'pixels extrapolated')


# ---- the card

def each_horizon(made, truth, moving):
    "(14,) dB on moving pixels"
    return probes.moving_psnr(made, truth, moving, most=MOST)


def right(seen, made):
    "Share of frames that show exactly the given bodies"
    return (sum(probes.body_changes(seen, made).values()) == 0).double().mean().item()


def one_set(method, seed):
    "metric → name → figure on one set of clips"
    seen, truth, moving = films(seed)
    made = rivals(method, seed)
    curve = {name: each_horizon(x, truth, moving) for name, x in made.items()}
    over = {name: sum(bool((c > torch.stack([curve[r] for r in RIVALS if r != name])[:, k]).all()) for k, c in enumerate(v)) for name, v in curve.items()}
    encode = partial(probes.clip_features, catalog.load(ENCODER))
    return dict(moving={n: c.nanmean().item() for n, c in curve.items()}, above=over,
                gain={n: (c - curve['last frame kept'])[:4].mean().item() for n, c in curve.items()},
                kept={n: probes.bodies_kept(seen, x) for n, x in made.items()} | {'true films': probes.bodies_kept(seen, truth)},
                right={n: right(seen, x) for n, x in made.items()} | {'each from the true past': right(seen, one_at_a_time(method, seed)), 'true films': right(seen, truth)},
                psnr={n: probes.psnr(x, truth, most=MOST).mean().item() for n, x in made.items()}, ssim={n: probes.ssim(x, truth).mean().item() for n, x in made.items()},
                fvd={n: probes.frechet_video(encode, truth, x, encoder=ENCODER).value for n, x in made.items()},
                **{f'at {k + 1}': {n: c[k].item() for n, c in curve.items()} for k in (0, 3, 6, 13)})


def said(method):
    "The protocol of all figures"
    past = f'the last frame and the {method.config.window} before it' if method.config.window else 'the whole past'
    return (f'{GIVEN} frames of level-1 bounce given, {NEXT} to come; given frames left out; {SIDE}×{SIDE}, pixels 0-1; three sets of {N} unseen clips, each with '
            f'seeds of its own, one rollout a clip; Euler, {method.config.predicted} steps{guided(method.config)} network calls a frame, no warm start, looks at {past}')


def guided(config):
    "How many calls a frame costs, in words that go on"
    if config.guidance == 1: return f', {config.predicted}'
    return f', guidance {config.guidance}, {2 * config.predicted}'


WORDS = dict(
    moving=('PSNR on moving pixels', 'dB over pixels inside a body in the true or the last given frame, mean over clips and horizons'),
    above=('horizons above both', f'of {NEXT}: PSNR on moving pixels above the last frame kept and above pixels extrapolated (each of the two: above the other)'),
    gain=('gain over the last frame kept, first four frames', 'dB on moving pixels, mean of the differences'),
    kept=('bodies kept', 'share of rollouts that show exactly the given bodies, by their colours, in the last frame and in 9 of 10 frames'),
    right=('frames with the right bodies', 'share of all frames that show exactly the given bodies, by their colours; "each from the true past": the same network, given all true frames before'),
    psnr=('PSNR', 'dB of whole frames, mean over frames and clips'), ssim=('SSIM', '11×11 Gaussian window, sigma 1.5, mean over channels, frames and clips'),
    fvd=(f'Fréchet video distance, {ENCODER}', f"squared, between features of true and made clips: the bundled {ENCODER}'s pooled features, mean over time and mean change; "
         'not I3D; lower is better')) | {f'at {k}': (f'PSNR on moving pixels, frame {k}', f'dB, {k} frames after the last one given') for k in (1, 4, 7, 14)}


def scores(method, name, **extra):
    "The card's scores"
    found = {}
    for seed in SEEDS:
        for metric, values in one_set(method, seed).items():
            for who, value in values.items(): found.setdefault(metric, {}).setdefault(who, []).append(value)
    return [row(title, f'{words}; {said(method)}', found[metric].pop('ours'), found[metric]) for metric, (title, words) in WORDS.items()]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): the first frame to come, on the first set"
    score = next(s for s in card['scores'] if s['name'] == 'PSNR on moving pixels, frame 1')
    _, truth, moving = films(SEEDS[0])
    return score['name'], score['seeds'][0], each_horizon(foretold(method, SEEDS[0], 1), truth[:, :1], moving[:, :1])[0].item()
