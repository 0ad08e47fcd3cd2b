"""RIVER's bundled weights: their recipe, and the scores on their card."""
from functools import partial

import torch

from benchmarks.protocols.films import moving_psnr, prediction_set, psnr, reconstruct
from benchmarks.weights.recipes import Recipe
from benchmarks.weights.scores import SEEDS, over_seeds, row
from ssl_workbench import catalog, probes

BIG = dict(                        # recent contexts: in a world that bounces the last frames say most
    dim=128, depth=2, middle=2, window=3, steps=40000, batch=32, precision='bf16',
    blank=.05, guidance=1.3, plan=.15, pictures=4096)
recipes = {'river': Recipe('river', 'world:bounce:1', changes=BIG, seed=0)}
N, SIDE, GIVEN, NEXT = 64, 64, 2, 14     # clips in a set, pixels a side, frames given, frames to come
ENCODER = 'mcjepa'                 # of Fréchet's distance: its features tell the order of frames


# ---- films

def test_clips(seed):
    "Unseen clips: given (N,2,3,H,W) and to come (N,14,3,H,W), float 0-1, and the pixels that count (N,14,1,H,W)"
    return prediction_set('bounce', 1, SIDE, GIVEN + NEXT, N, GIVEN, 680 + seed)


def predict(method, given, n, seed, **how):
    "The first n frames to come, 32 clips at a time"
    device = next(method.parameters()).device
    return torch.cat([method.predict(x.to(device), n, seed=1000 * seed + i, **how).cpu()
                      for i, x in enumerate(given.split(32))])


def one_at_a_time(method, seed):
    "The frames to come, each predicted from the true ones before it"
    film = torch.cat(test_clips(seed)[:2], 1)
    return torch.cat([predict(method, film[:, :k], 1, seed) for k in range(GIVEN, GIVEN + NEXT)], 1)


def predictions(method, seed):
    "name → frames to come"
    given, truth, _ = test_clips(seed)
    untrained = probes.random_init(method, seed=seed).adopt(method.autoencoder)
    plain = {'without guidance': predict(method, given, NEXT, seed, guidance=1)} if method.config.guidance > 1 else {}
    return {'ours': predict(method, given, NEXT, seed), **plain,
            'last frame kept': probes.copy_last(given, NEXT),
            'pixels extrapolated': probes.linear_extrapolation(given, NEXT),
            'random init': predict(untrained, given, NEXT, seed), 'autoencoder': reconstruct(method, truth, 8)}


SIMPLE = ('last frame kept', 'pixels extrapolated')


# ---- the card

def bodies_right(given, predicted):
    "Share of frames that show exactly the given bodies"
    return (sum(probes.body_changes(given, predicted).values()) == 0).double().mean().item()


def above_simple(curve, name):
    "At how many horizons a curve is above the simple predictions (of the two: above the other)"
    others = torch.stack([curve[n] for n in SIMPLE if n != name])
    return sum(bool((value > others[:, k]).all()) for k, value in enumerate(curve[name]))


def measured(method, seed):
    "metric → name → figure on one set of clips"
    given, truth, moving = test_clips(seed)
    made = predictions(method, seed)
    curve = {name: moving_psnr(x, truth, moving) for name, x in made.items()}      # (14,) dB
    encode = partial(probes.clip_features, catalog.load(ENCODER))
    kept = {n: probes.bodies_kept(given, x) for n, x in made.items()}
    right = {n: bodies_right(given, x) for n, x in made.items()}
    return dict(
        moving={n: c.nanmean().item() for n, c in curve.items()}, above={n: above_simple(curve, n) for n in curve},
        gain={n: (c - curve['last frame kept'])[:4].mean().item() for n, c in curve.items()},
        kept=kept | {'true films': probes.bodies_kept(given, truth)},
        right=right | {'each from the true past': bodies_right(given, one_at_a_time(method, seed)),
                       'true films': bodies_right(given, truth)},
        psnr={n: psnr(x, truth).mean().item() for n, x in made.items()},
        ssim={n: probes.ssim(x, truth).mean().item() for n, x in made.items()},
        fvd={n: probes.frechet_video(encode, truth, x, encoder=ENCODER).value for n, x in made.items()},
        **{f'at {k + 1}': {n: c[k].item() for n, c in curve.items()} for k in (0, 3, 6, 13)})


def protocol_of(config):
    "The protocol of all figures"
    past = f'the last frame and the {config.window} before it' if config.window else 'the whole past'
    guided = config.guidance != 1
    calls = f', guidance {config.guidance}, {2 * config.predicted}' if guided else f', {config.predicted}'
    return (f'{GIVEN} frames of level-1 bounce given, {NEXT} to predict; given frames left out; '
            f'{SIDE}×{SIDE}, pixels 0-1; '
            f'three sets of {N} unseen clips, each with seeds of its own, one rollout per clip; '
            f'Euler, {config.predicted} steps{calls} network calls per frame, no warm start, looks at {past}')


WORDS = dict(
    moving=('PSNR on moving pixels',
            'dB over pixels inside a body in the true or the last given frame, mean over clips and horizons'),
    above=('horizons above both',
           f'of {NEXT}: PSNR on moving pixels above the last frame kept and above pixels extrapolated '
           '(each of the two: above the other)'),
    gain=('gain over the last frame kept, first four frames', 'dB on moving pixels, mean of the differences'),
    kept=('bodies kept', 'share of rollouts that show exactly the given bodies, by their colours, '
          'in the last frame and in 9 of 10 frames'),
    right=('frames with the right bodies', 'share of all frames that show exactly the given bodies, by their colours; '
           '"each from the true past": the same network, given all true frames before'),
    psnr=('PSNR', 'dB of whole frames, mean over frames and clips'),
    ssim=('SSIM', '11×11 Gaussian window, sigma 1.5, mean over channels, frames and clips'),
    fvd=(f'Fréchet video distance, {ENCODER}',
         f"squared, between features of true and predicted clips: the bundled {ENCODER}'s pooled features, "
         'mean over time and mean change; not I3D'))
WORDS |= {f'at {k}': (f'PSNR on moving pixels, frame {k}', f'dB, {k} frames after the last one given')
          for k in (1, 4, 7, 14)}


def scores(method, name, **others):
    "The card's scores"
    found, how = over_seeds(lambda seed: measured(method, seed)), protocol_of(method.config)
    return [row(title, f'{words}; {how}', found[metric], lower=metric == 'fvd')
            for metric, (title, words) in WORDS.items()]


def recheck(method, card):
    "(name, figure on the card, the same figure made again): the first frame to come, on the first set"
    score = next(s for s in card['scores'] if s['name'] == 'PSNR on moving pixels, frame 1')
    given, truth, moving = test_clips(SEEDS[0])
    first = predict(method, given, 1, SEEDS[0])
    return score['name'], score['seeds'][0], moving_psnr(first, truth[:, :1], moving[:, :1])[0].item()
