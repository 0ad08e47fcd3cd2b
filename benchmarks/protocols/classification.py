"""Image classification on frozen features: kNN and logistic regression."""
import torch
from torch.utils.data import Subset

from benchmarks.protocols.worlds import float_images, image_set, in_chunks, tiny_images
from ssl_workbench import probes


class PixelEncoder:
    "Raw pixels in a method's place: 16 by 16 colours"
    def features(self, x): return {'pooled': tiny_images(x)}


def pooled(method):
    "A function of images (B,3,H,W) → the method's pooled features (B,D) on the CPU"
    device = next(method.parameters()).device
    @torch.no_grad()
    def features(x): return method.features(x.to(device))['pooled'].float().cpu()
    return features


# ---- iconic images of the claims

def iconic_features(features, config, protocol, device, mixed=False):
    "(features, labels) of the iconic images that vote and of those classified; features: (N,3,H,W) → (N,D)"
    sets = (image_set(n, config, protocol, device, 'iconic', mixed) for n in ('knn_train', 'knn_test'))
    return [(in_chunks(features, float_images(s)), s['label'].cpu()) for s in sets]


def iconic_knn(features, config, protocol, device):
    "kNN accuracy on iconic images; features: (N,3,H,W) → (N,D)"
    train, test = iconic_features(features, config, protocol, device)
    return probes.knn(*train, *test)


# ---- any two datasets

def knn_and_linear(train, test, seed=0):
    "Accuracies of kNN and of the linear probe; train, test: (features, labels)"
    return dict(knn=probes.knn(*train, *test), linear=probes.linear(*train, *test, seed=seed))


def encoder_accuracy(encoder, train, test, seed=0):
    "The same of an encoder on two datasets"
    a, b = (probes.encode(encoder, dataset) for dataset in (train, test))
    return knn_and_linear((a['pooled'], a['label']), (b['pooled'], b['label']), seed)


def random_subset(data, n, seed):
    "n samples of a dataset, drawn by a seed"
    return Subset(data, torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:n].tolist())
