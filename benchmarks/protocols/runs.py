"""One arm of a claim: a method trained from scratch, or its network as drawn."""
from ssl_workbench import core
from ssl_workbench.catalog import learner_of


def train(name, config, data, seed, device):
    "The method after a whole run, in evaluation mode"
    learner = learner_of(name, config, data, seed, device=device)
    learner.progress = False
    for _ in learner.steps(): pass
    return learner.method.eval()


def as_drawn(cls, config, seed, device):
    "The same network, its weights as drawn, in evaluation mode"
    core.seed_everything(seed)
    return cls(config).to(device).eval()
