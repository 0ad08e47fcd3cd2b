"""What a training step costs: time, and memory that autograd keeps."""
import time

import torch

from benchmarks.protocols.worlds import training_images
from ssl_workbench import core
from ssl_workbench.catalog import build
from ssl_workbench.methods.dilemma import Views


class SavedTensors:
    "Bytes that autograd keeps for the backward pass, each tensor once, weights left out"
    def __init__(self, module): self.bytes, self.known = 0, {p.data_ptr() for p in module.parameters()}

    def pack(self, x):
        if x.data_ptr() not in self.known:
            self.known.add(x.data_ptr())
            self.bytes += x.numel() * x.element_size()
        return x

    def hooks(self): return torch.autograd.graph.saved_tensors_hooks(self.pack, lambda x: x)


def now(device):
    "The processor's own time on a CPU, the wall's once a GPU is done"
    if torch.device(device).type == 'cpu': return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def step_seconds(method, views, device):
    "Seconds of a forward and a backward pass"
    start = now(device)
    sum(method.loss(method(views)).values()).backward()
    return now(device) - start


def saved_megabytes(method, views):
    "Megabytes that autograd keeps for the backward pass"
    saved = SavedTensors(method)
    with saved.hooks(): method(views)
    return saved.bytes / 1e6


def cost_per_image(config, protocol, seed, device):
    "DILEMMA's milliseconds and kept megabytes an image, at the ratios as scheduled: all steps over all images"
    core.seed_everything(seed)
    method = build('dilemma', config).to(device).train()
    pool, seconds, megabytes, images = training_images(config, protocol, device, 'iconic'), 0., 0., 0
    for ratio, growth in zip(config.ratios, config.growth):
        n = round(growth * config.batch)
        seeds = core.fold_in(torch.arange(n), str(seed)).to(device)
        views = Views(config)(pool.batch(torch.arange(n) % len(pool), device) | dict(seed=seeds, ratio=ratio))
        seconds += min(step_seconds(method, views, device) for _ in range(config.steps))
        megabytes += saved_megabytes(method, views)
        images += n
    return dict(time=1e3 * seconds / images, memory=megabytes / images)
