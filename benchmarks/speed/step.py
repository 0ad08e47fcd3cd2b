"""How fast SlotMIM's cpu preset trains, and how fast its features are: the first of `python -m benchmarks.speed`.

The result goes to benchmarks/results/speed.json.
"""
import statistics
from dataclasses import replace

import torch

from benchmarks.provenance import device_name, positive_int
from benchmarks.speed.measure import median_seconds, save
from ssl_workbench import catalog, core, training, world
from ssl_workbench.methods.slotmim import presets


def training_rate(config, device, steps):
    "Images a second of a whole training step, views and teacher included, waiting for data left out"
    data = world.World(config.kind, config.level, (config.size,) * 2, frames=1, length=config.batch, truth=False)
    learner = training.learner_of('slotmim', replace(config, steps=steps + 3), data, device=device)
    learner.progress = False
    times = [s.seconds - s.waited for s in learner.steps(steps + 2)]
    return config.batch / statistics.median(times[2:])


@torch.no_grad()
def feature_rate(config, device, repeats):
    "Images a second of the teacher's features"
    method = catalog.build('slotmim', config).eval().to(device)
    x = torch.rand(config.batch, 3, config.size, config.size, device=device)
    return config.batch / median_seconds(lambda: method.features(x)['pooled'].cpu(), repeats)


OPTIONS = dict(steps=dict(type=positive_int, default=12, help='steps that are timed'),
               device=dict(default='cpu', help='cpu, cuda, …'))


def run(args):
    "Measure, print, write"
    config, device = presets['cpu'], core.device(args.device)
    train, features = training_rate(config, device, args.steps), feature_rate(config, device, args.steps)
    print(f'SlotMIM, cpu preset, {config.size} px, batches of {config.batch}, '
          f'{device_name(device)}, {args.threads} threads:')
    print(f'  training   {train:8.0f} images/s ({config.batch / train * 1e3:.0f} ms a step, '
          f'{config.batch / train * config.steps:.0f} s a run of {config.steps} steps)')
    print(f'  features   {features:8.0f} images/s')
    found = dict(size=config.size, batch=config.batch, steps=config.steps, training_images_per_second=round(train, 1),
                 features_images_per_second=round(features, 1))
    save('speed', "SlotMIM's cpu preset", found, args)
