"""One arm of a claim: what it is trained on and tested by, a method trained from scratch, or its network as drawn."""
from dataclasses import dataclass

from ssl_workbench import core
from ssl_workbench.training import learner_of


@dataclass(frozen=True)
class SceneProtocol:
    "What is trained on, and how a run is scored; the same for every arm of a claim on scenes"
    pool: int = 2048              # scenes to train on
    knn_train: int = 400          # iconic images that vote
    knn_test: int = 400           # iconic images classified
    seg_train: int = 100          # scenes that the linear segmentation learns from
    scenes: int = 150             # test scenes: segmentation, slots or positions


GPU_SCENES = dict(pool=50_000, knn_train=2000, knn_test=1000, seg_train=300, scenes=500)


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
