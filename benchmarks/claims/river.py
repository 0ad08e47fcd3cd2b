"""RIVER's claims: tables 5.3 to 5.5, figures 5.3, 5.10, 5.12 and 5.18 of Sameni's thesis (Davtyan et al., ICCV 2023).

Planning, and an idea for later, too.
"""
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch

from benchmarks.claims.runner import Claim, Correlation, above
from benchmarks.protocols.films import moving_psnr, prediction_set, psnr, reconstruct
from benchmarks.protocols.runs import train
from ssl_workbench import catalog, core, probes
from ssl_workbench.methods.river import RIVER
from ssl_workbench.world import World

# ---- the setting: what the arms share, the smallest in which the sentences make sense

CPU = dict(dim=96, depth=1, middle=2, steps=350)                                # changes of the cpu preset
GPU = dict(dim=256, depth=2, middle=3, steps=6000, pictures=8192)               # changes of the gpu preset
SEEDS = 3
TASKS = ('frames', 'bodies', 'futures', 'plan', 'no goal', 'blend')
# of Fréchet's distance: of the bundled encoders the one whose features tell the order of frames
ENCODER = 'mcjepa'


@dataclass(frozen=True)
class Protocol:
    "What is trained on, what the trained network predicts, and how that is scored"
    pool: int = 768               # clips to train on
    clips: int = 64               # unseen clips in the test
    observed: int = 2             # frames that are given; the clip's others are to come
    calls: int = 10               # steps of the solver a frame; Euler's: network calls
    warm: float = 0.              # part of the path that is jumped
    context: int = 0              # frames back that a query may attend to; 0: all
    stochastic: bool = False      # a world in which chance kicks bodies
    futures: int = 4              # of a clip, where futures are predicted
    ask: str = 'frames'           # one of `TASKS`
    batch: int = 32               # clips rolled out at a time

    def __post_init__(self):
        if self.ask not in TASKS: raise ValueError(f"ask is one of {', '.join(TASKS)}, not '{self.ask}'")


protocols = dict(cpu=Protocol(), gpu=replace(Protocol(), pool=8192, clips=256, batch=128))
WORLDS = dict(pool=0, test=9100)            # world seeds: no clip in two sets


@lru_cache(maxsize=None)
def training_clips(kind, level, canvas, frames, stride, stochastic, n):
    "Clips to train on, rendered once a process"
    return World(kind, level, (canvas, canvas), frames, n, seed=WORLDS['pool'], truth=False,
                 stride=stride, stochastic=stochastic)


def test_clips(config, protocol, future=0):
    "Unseen clips: the frames given, those to come, which pixels count"
    c, p = config, protocol
    chance = dict(stochastic=True, future=future, branch=p.observed) if p.stochastic else {}
    return prediction_set(c.kind, c.level, c.size, c.frames, p.clips, p.observed, WORLDS['test'], stride=c.stride,
                          **chance)


@lru_cache(maxsize=8)
def trained(config, n, stochastic, seed, device):
    "(RIVER, seconds of its training), once a process for all arms that predict something else with the same network"
    clips = training_clips(config.kind, config.level, config.canvas, config.frames, config.stride, stochastic, n)
    start = time.perf_counter()
    return train('river', config, clips, seed, device), time.perf_counter() - start


def trained_for(config, protocol, seed, device):
    "(RIVER, seconds of its training) of an arm"
    return trained(config, protocol.pool, protocol.stochastic, seed, device)


def missing(config, protocol):
    "One sentence where the weights that every arm needs are not there, else nothing"
    for name, what in ((config.autoencoder, 'an autoencoder'), (ENCODER, 'an encoder for the Fréchet distance')):
        try: catalog.card(name)
        except ValueError as error: return f'RIVER needs {what} that is trained: {error}'
    return ''


# ---- what a trained network predicts

def in_batches(f, clips, protocol, seed):
    "f(frames, a seed of its own for every clip), a few clips at a time, on the CPU"
    seeds = torch.arange(len(clips)) + 10000 * seed
    return torch.cat([f(x, s).cpu() for x, s in zip(clips.split(protocol.batch), seeds.split(protocol.batch))])


def predict(method, given, n, protocol, seed):
    "The next n frames (B,n,3,H,W)"
    p, device = protocol, next(method.parameters()).device
    how = dict(steps=p.calls, warm_start=p.warm, context=p.context or None)
    return in_batches(lambda x, s: method.predict(x.to(device), n, seed=s.to(device), **how), given, p, seed)


def plan(method, given, last, n, protocol, seed):
    "The n frames between those given and the last one"
    p, t, device = protocol, given.shape[1], next(method.parameters()).device
    ends = lambda x: (x[:, :t].to(device), x[:, t:].to(device))
    between = lambda x, s: method.plan(*ends(x), n, steps=p.calls, seed=s.to(device))
    return in_batches(between, torch.cat([given, last], 1), p, seed)


# ---- scores

@lru_cache(maxsize=1)
def encoder():
    "The encoder through whose features films are compared"
    return catalog.load(ENCODER)


def distance(truth, predicted):
    "Fréchet video distance of clips (B,n,3,H,W), the given frames left out"
    return probes.frechet_video(partial(probes.clip_features, encoder()), truth, predicted, encoder=ENCODER).value


def motion_of(films):
    "Mean change from a frame to the next"
    return films.diff(dim=1).abs().mean().item()


def quality(truth, moving, predicted):
    "How good the frames to come are"
    near = moving_psnr(predicted, truth, moving)
    return dict(fvd=distance(truth, predicted), psnr=psnr(predicted, truth).mean().item(),
                moving=near.nanmean().item(), near=near[:4].nanmean().item(),
                motion=motion_of(predicted) / motion_of(truth))


def frames(config, protocol, seed, device):
    "The frames to come, and what they cost"
    method, seconds = trained_for(config, protocol, seed, device)
    given, truth, moving = test_clips(config, protocol)
    predicted = predict(method, given, truth.shape[1], protocol, seed)
    calls = method.calls / truth.shape[1]                                       # of the last clips, as of all others
    return quality(truth, moving, predicted) | dict(calls=calls, speed=10 / calls, seconds=seconds)


def fates(given, predicted):
    "Bodies by their colours in the last frame: kept, lost, new, of another colour; as parts of those that were given"
    change = {k: v[:, -1].double() for k, v in probes.body_changes(given, predicted).items()}
    there = torch.stack([probes.count_bodies(clip)[-1].sum() for clip in given]).double().clamp(min=1)
    turned = torch.minimum(change['lost'], change['created'])
    return dict(turned=(turned / there).mean().item(), lost=(change['lost'] / there).mean().item(),
                kept=probes.bodies_kept(given, predicted))


def bodies(config, protocol, seed, device):
    "What becomes of bodies over a rollout"
    method, _ = trained_for(config, protocol, seed, device)
    given, truth, _ = test_clips(config, protocol)
    predicted = predict(method, given, truth.shape[1], protocol, seed)
    return fates(given, predicted) | dict(psnr=psnr(predicted, truth).mean().item())


def spread(several, given):
    "Of futures (K,B,n,3,H,W): last frames around their mean, as a part of their way from the last given frame"
    last = several[:, :, -1]
    way = (last - given[None, :, -1]).square().mean().sqrt()
    return (last.var(0).mean().sqrt() / way.clamp(min=1e-6)).item()


def futures(config, protocol, seed, device):
    "Several futures of each clip, and the world's own where it has several"
    method, _ = trained_for(config, protocol, seed, device)
    given, truth, _ = test_clips(config, protocol)
    ks = range(protocol.futures)
    predicted = torch.stack([predict(method, given, truth.shape[1], protocol, 100 * seed + k) for k in ks])
    real = torch.stack([test_clips(config, protocol, k)[1]
                        for k in ks]) if protocol.stochastic else truth.expand_as(predicted)
    each = torch.stack([psnr(p, truth).mean(1) for p in predicted])
    return dict(spread=spread(predicted, given), true_spread=spread(real, given),
                best=(each.amax(0) - each.mean(0)).mean().item(), psnr=each.mean().item())


def between(config, protocol, seed, device):
    "The frames between the first ones and the last one: planned, predicted without the goal, or blended"
    given, truth, moving = test_clips(config, protocol)
    goal, truth, moving = truth[:, -1:], truth[:, :-1], moving[:, :-1]
    n = truth.shape[1]
    if protocol.ask == 'blend':
        predicted = given[:, -1:].lerp(goal, torch.arange(1, n + 1).view(1, -1, 1, 1, 1) / (n + 1))
    else:
        method, _ = trained_for(config, protocol, seed, device)
        if protocol.ask == 'plan': predicted = plan(method, given, goal, n, protocol, seed)
        else: predicted = predict(method, given, n, protocol, seed)
    each = moving_psnr(predicted, truth, moving)
    return dict(goal=psnr(predicted[:, -1:], goal).mean().item(), between=each.nanmean().item(),
                middle=each[n // 2].item(), kept=probes.bodies_kept(given, predicted))


TASK = dict(frames=frames, bodies=bodies, futures=futures, plan=between) | {'no goal': between, 'blend': between}


def measure(config, protocol, seed, device):
    "Scores of one arm with one seed: train from scratch, unless an arm before did so, then predict"
    return TASK[protocol.ask](config, protocol, seed, device)


# ---- what needs no training

def reference(predicted):
    "For claims on frames; predicted: (given, truth, config, protocol, seed, device) → frames to come (B,n,3,H,W)"
    def scored(config, protocol, seed, device):
        if protocol.ask != 'frames': return {}
        given, truth, moving = test_clips(config, protocol)
        return quality(truth, moving, predicted(given, truth, config, protocol, seed, device))
    return scored


def untrained(given, truth, config, protocol, seed, device):
    "A network as drawn"
    core.seed_everything(seed)
    method = RIVER(config, catalog.load(config.autoencoder)).to(device).eval()
    return predict(method, given, truth.shape[1], protocol, seed)


def reconstructed(given, truth, config, protocol, seed, device):
    "The true frames through the autoencoder: the best that any predictor of its latents can show"
    return reconstruct(catalog.load(config.autoencoder, device), truth.flatten(0, 1), 256).view_as(truth)


references = {'random init': reference(untrained),
              'last frame kept': reference(lambda given, truth, *_: probes.copy_last(given, truth.shape[1])),
              'pixels extrapolated': reference(
                  lambda given, truth, *_: probes.linear_extrapolation(given, truth.shape[1])),
              'autoencoder': reference(reconstructed)}


def autoencoder_name(config):
    "The autoencoder in words"
    try: return f"{config.autoencoder} ({catalog.card(config.autoencoder)['sha256'][:8]})"
    except ValueError: return f'{config.autoencoder} (missing)'


def describe(config, protocol):
    "Data and scoring in words"
    c, p = config, protocol
    return (f'{"stochastic " * p.stochastic}{c.kind} of level {c.level}, {c.size} px, clips of {c.frames} frames; '
            f'latents of {autoencoder_name(c)}; U-ViT {c.dim} wide, '
            f'{2 * c.depth + c.middle} blocks; {c.steps} steps of {c.batch} clips out of {p.pool}; '
            f'{p.observed} frames given, {c.frames - p.observed} to predict, {p.clips} unseen clips, one rollout each; '
            f'Euler, {p.calls} calls per frame; pixels 0-1; given frames left out; features: {ENCODER}')


# ---- the claims

METRICS = dict(
    fvd=dict(title='Fréchet', unit='', digits=4,
             how=f'Fréchet distance of films (lower is better), features of the bundled {ENCODER}; the thesis: I3D'),
    psnr=dict(title='PSNR', unit='dB', how='whole frames, mean over frames and clips'),
    moving=dict(title='PSNR, moving', unit='dB',
                how='pixels inside a body in the true or the last given frame, mean over horizons'),
    near=dict(title='first four', unit='dB', how='likewise, the first four frames'))
COST = dict(calls=dict(title='calls', unit='', how='network calls per frame'),
            speed=dict(title='speed', unit='', how='frames in ten network calls'),
            motion=dict(title='motion', unit='%',
                        how='mean change from one frame to the next, as a fraction of that in the true films'))
FATES = dict(
    turned=dict(title='other colour', unit='%',
                how='bodies that are lost in the last frame while one of another colour is new, '
                    'as a part of the given ones'),
    lost=dict(title='lost', unit='%', how='bodies missing from the last frame'),
    kept=dict(title='kept', unit='%', how='rollouts that show exactly the given bodies'))
SHARED = dict(seeds=SEEDS, setting=dict(cpu=CPU, gpu=GPU))
QUALITY = ('psnr', 'moving')


def having(**changes):
    "`SHARED` with further changes for all arms of a claim"
    return dict(SHARED, setting={k: dict(v, **changes) for k, v in SHARED['setting'].items()})


def lower(a, b, why, *metrics):
    "Arm `a` scores lower than `b`"
    return above(b, a, why, *(metrics or ('fvd',)))


def better(a, b, why):
    "Arm `a` is the better predictor: its frames are nearer, its films more alike"
    return *above(a, b, why, *QUALITY), *lower(a, b, why)


WITH, WITHOUT = 'with reference', 'without reference'

table53 = Claim(
    id='table53', sentence='Without the last frame as a condition the network does not know how things move.',
    where='Table 5.3, figure 5.9, section 5.3.4',
    measured='now', metrics=METRICS, **SHARED,
    paper={WITH: dict(fvd=94.38, psnr=30.53), WITHOUT: dict(fvd=217.13, psnr=26.95)},
    arms={WITH: {}, WITHOUT: dict(reference=False)},
    pairs=(*better(WITH, WITHOUT, 'one frame from the past contains no information about motion'),))


def start(s):
    "A warm start, and the steps that are left"
    return dict(warm=s, calls=round((1 - s) * 10))


WARM = {f's = {s:g}': s for s in (0., .1, .2, .3, .5)}
COLD, BONUS, *_, LAST = WARM

figure53 = Claim(
    id='figure53',
    sentence='A warm start makes sampling faster and films worse; a small one makes them better; '
             'a large one slows what moves.',
    where='Figure 5.3, sections 5.2.3 and 5.3.4', measured='now',
    metrics=METRICS | COST, **SHARED, paper={},                                 # the figure has no numbers
    arms={name: start(s) if s else {} for name, s in WARM.items()},
    correlations=(Correlation('speed', 'fvd', 'higher s: faster, but worse FVD'),),
    pairs=(*above(LAST, COLD, 'higher values of s lead to faster sampling', 'speed'),
           *lower(COLD, LAST, 'but with a cost on quality'),
           *lower(BONUS, COLD, 's = 0.1 acts like the truncation trick and slightly improves'),
           *above(BONUS, COLD, 'likewise', *QUALITY),
           *above(COLD, LAST, 'extreme warm starts reduce the magnitude of motion', 'motion')))

FLOW, NOISE, SLOW = 'flow matching', 'DDPM', 'DDPM, 40 calls'

figure512 = Claim(
    id='figure512',
    sentence='With the same network, the same steps and the same calls, flow matching converges and DDPM does not.',
    where='Figure 5.12, section 5.3.4',
    measured='now', metrics=METRICS, **SHARED, paper={},                        # films, no numbers
    arms={FLOW: {}, NOISE: dict(path='ddpm'), SLOW: dict(path='ddpm', calls=40)},
    pairs=(*better(FLOW, NOISE, 'DDPM fails to converge with the exact same hyperparameters'),
           *better(FLOW, SLOW, 'more calls do not help')))

BACK = {f'{k} frames': k for k in (2, 4, 6, 8)}

table54 = Claim(
    id='table54', sentence='There is a best context size: more of the past helps up to a point.',
    where='Table 5.4, section 5.3.4', measured='runnable', metrics=METRICS,
    **having(observed=8),
    paper={f'{k} frames': dict(psnr=v) for k, v in zip((2, 4, 6, 8), (28.53, 29.07, 30.17, 29.40))},     # KTH
    arms={name: dict(context=k) for name, k in BACK.items()},
    pairs=(*above('6 frames', '2 frames', 'having more context can be useful', *QUALITY),
           *above('6 frames', '8 frames', 'a trade-off', *QUALITY)))

PLAIN, JITTER = 'as they are', 'colour jitter'

figure510 = Claim(
    id='figure510', sentence='Colour jitter keeps bodies from changing their colour.',
    where='Figure 5.10, section 5.3.4', measured='runnable',
    metrics=FATES | dict(psnr=METRICS['psnr']), **having(ask='bodies'), paper={},
    arms={PLAIN: {}, JITTER: dict(colour=1.)},                                  # the autoencoder saw jitter in both
    pairs=(*lower(JITTER, PLAIN, 'without it colours tend to change', 'turned'),
           *above(JITTER, PLAIN, 'and bodies are kept', 'kept')))

LONG = {f'{part} of the steps': part for part in ('1/4', '1/2', '1')}

table55 = Claim(
    id='table55', sentence='More training gives better films.', where='Table 5.5, figure 5.11', measured='runnable',
    metrics=METRICS | dict(seconds=dict(title='training', unit='s', how='wall seconds of the training')),
    **SHARED, paper={},                                                         # the thesis: other methods' figures
    arms={name: (lambda c, k=int(part[-1]): dict(steps=max(1, c.steps // k))) for name, part in LONG.items()},
    pairs=(*better('1/2 of the steps', '1/4 of the steps', 'more iterations lead to better results'),
           *better('1 of the steps', '1/2 of the steps', 'likewise')))

SURE, CHANCE = 'deterministic world', 'stochastic world'
SPREAD = dict(spread=dict(title='spread', unit='%',
                          how='of last frames around their mean over the futures of a clip, '
                              'as a part of their way from the last given frame (rms)'),
              true_spread=dict(title='true spread', unit='%', how="likewise, the world's own futures"),
              best=dict(title='best − mean', unit='dB',
                        how='PSNR of the best future of a clip over the mean of its futures'),
              psnr=METRICS['psnr'])

figure518 = Claim(
    id='figure518', sentence='Where the world has several futures, so has the network.',
    where='Figure 5.18, section 5.5', measured='runnable', metrics=SPREAD,
    **having(ask='futures'), paper={}, arms={SURE: {}, CHANCE: dict(stochastic=True)},
    pairs=(*above(CHANCE, SURE, 'very different fates', 'spread', 'best'),))

PLANNED, BLIND, BLEND = 'planned', 'goal unknown', 'blended'
GOAL = dict(goal=dict(title='goal', unit='dB', how='PSNR of the last frame between to the goal'),
            between=dict(title='between', unit='dB', how='PSNR on moving pixels to the true frames between'),
            middle=dict(title='middle', unit='dB', how='likewise, of the middle frame alone'), kept=FATES['kept'])

planning = Claim(
    id='planning', sentence='Given the goal as well, the network finds a way to it.',
    where='Figures 5.7 and 5.19, section 5.3.2', measured='runnable', metrics=GOAL,
    **having(plan=.5, ask='plan'), paper={}, arms={PLANNED: {}, BLIND: dict(ask='no goal'), BLEND: dict(ask='blend')},
    pairs=(*above(PLANNED, BLIND, 'the model manipulates the objects to achieve the goal', 'goal', 'between'),
           *above(PLANNED, BLEND, 'in a plausible sequence, not a blend', 'middle', 'kept')))

DENSE, SPARSE, EQUAL = 'one past frame', 'sparse tokens of three', 'sparse, equal time'
TIME = 1.36                        # of a sparse step over a plain one (.285 s, .210 s on one core, 128 wide, 4 blocks)

sparse = Claim(
    id='sparse',
    sentence='Denoising some tokens, with sparse tokens of several past frames as conditions, is better at equal cost.',
    where='Chapter 8, future work',
    measured='runnable', metrics=METRICS | table55.metrics, **SHARED, paper={},
    arms={DENSE: {}, SPARSE: (few := dict(sparse=True, contexts=3, seen=.25, denoised=.5)),
          EQUAL: lambda c: dict(few, steps=round(c.steps / TIME))},
    pairs=(*better(SPARSE, DENSE, 'potentially improving the quality'),
           *better(EQUAL, DENSE, 'while maintaining computational efficiency')))

claims = (table53, figure53, figure512, table54, figure510, table55, figure518, planning, sparse)
