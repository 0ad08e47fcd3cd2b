"""Videos whose class is the motion alone: drawn once, and read by a frozen encoder as clips or as single frames."""
from functools import lru_cache

import torch

from benchmarks.protocols.cost import now
from ssl_workbench import data, probes
from ssl_workbench.catalog import replace_config
from ssl_workbench.probes.video_classification import FrameAverage
from ssl_workbench.training import learner_of
from ssl_workbench.world import World

CLIP_SEEDS = dict(pool=0, train=501, test=502)      # of the world: all apart
CODES, CODED = 1024, 10                             # codes, and pixels a side of a patch


class DrawnVideos:
    "Videos drawn once and kept, as a dataset"
    def __init__(self, drawn): self.frames, self.aspect, self.label = drawn

    def __len__(self): return len(self.frames)

    def __getitem__(self, i): return {k: v[0] for k, v in self.batch([i], self.frames.device).items()}

    def batch(self, indices, device):
        index = torch.as_tensor(list(indices), device=self.frames.device)
        return {k: getattr(self, k)[index].to(device) for k in ('frames', 'aspect', 'label')}


@lru_cache(maxsize=None)
def drawn_videos(kind, level, side, frames, seed, n, stride=1):
    "n videos of a world: frames uint8 (n,T,3,side,side), aspect, label; drawn once a process, on the CPU"
    world = World(kind, level, (side, side), frames, n, seed=seed, truth=False, pool=False, stride=stride)
    parts = [world.batch(range(s, min(s + 64, n))) for s in range(0, n, 64)]
    return tuple(torch.cat([p[k] for p in parts]) for k in ('frames', 'aspect', 'label'))


def training_videos(config, pool):
    "What a method of clips is trained on"
    return DrawnVideos(drawn_videos(config.kind, config.level, config.canvas, config.frames, CLIP_SEEDS['pool'], pool,
                                    config.stride))


def stored_videos(stored, config, pool, folder):
    """The same videos on the disk: 'films' (H.264, an mp4 each) or 'codes' (patches of 10, made of these videos).

    They are written the first time; a folder that a killed run left unfinished is gone on with.
    """
    videos = training_videos(config, pool)
    root = folder/f'{config.kind}{config.level}-{config.canvas}-{config.frames}-{config.stride}-{pool}-{stored}'
    if stored == 'codes':
        try: return data.CodeClips(root)
        except data.BadFile: codec = data.fit_codec(videos.frames, CODES, CODED)
        return data.CodeClips(data.store_codes(codec, videos, root))
    root.mkdir(parents=True, exist_ok=True)
    for i, clip in enumerate(videos.frames):
        film = root/f'{i:05d}.mp4'
        if film.exists(): continue
        data.write_video(clip, part := film.with_suffix('.part.mp4'))
        part.rename(film)
    return data.VideoFolder(root, config.frames, size=config.canvas)


def clip_set(which, level, n, size, length, kind='motion', shift=0):
    "(clips (n,F,3,S,S) uint8, labels) that no training draws; shift: another set"
    frames, _, label = drawn_videos(kind, level, size, length, CLIP_SEEDS[which] + 10 * shift, n)
    return frames, label


@torch.no_grad()
def clip_features(method, clips, chunk=64, frame=None):
    "(n,D) pooled features on the CPU; frame: of that frame alone, for networks of pictures and of clips alike"
    device = next(method.parameters()).device
    rows = clips if frame is None else clips[:, frame]
    return torch.cat([method.features(x.to(device))['pooled'].float().cpu() for x in rows.split(chunk)])


@torch.no_grad()
def frame_mean(method, clips, chunk=64):
    "(n,D): a network of pictures on every frame, averaged; order is lost"
    return clip_features(FrameAverage(method), clips, max(1, chunk // clips.shape[1]))


def pixel_rows(clips):
    "(n,F·192): every frame at 8×8 pixels"
    x = torch.nn.functional.adaptive_avg_pool2d(clips.flatten(0, 1).float() / 255, 8)
    return x.unflatten(0, clips.shape[:2]).flatten(1)


def knn_and_linear(features, train, test, seed=0):
    "Accuracies of features: clips → (n,D); train, test: of `clip_set`"
    a, b = features(train[0]), features(test[0])
    return dict(knn=probes.knn(a, train[1], b, test[1]), linear=probes.linear(a, train[1], b, test[1], seed=seed))


# ---- equal time

def step_cost(name, config, data, device, tries=6):
    "Seconds of a training step: the least of some after the first; the processor's own on a CPU"
    learner = learner_of(name, replace_config(config, dict(steps=tries + 1)), data, 0, device=device)
    learner.progress, times, start = False, [], now(device)
    for _ in learner.steps():
        times.append(now(device) - start)
        start = now(device)
    return min(times[1:])


def steps_in(seconds, name, config, data, device):
    "How many steps a run of that many seconds has: then its schedules end with it"
    return max(int(seconds / step_cost(name, config, data, device)), 2)
