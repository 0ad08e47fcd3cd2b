"""Semantic segmentation: a linear classifier on frozen patches, all classes and groups of them."""
import math

from benchmarks.protocols import camvid
from benchmarks.protocols.worlds import image_set, labelled
from ssl_workbench import probes, world

GROUPS = ('all', 'small', 'large', 'rare', 'common')


def patch_pixels(patch):
    "(B,3,H,W) → (B,D,h,w): raw pixels of each patch as features"
    return lambda x: probes.patch_pixels(x, (x.shape[-2] // patch, x.shape[-1] // patch))


def iou_by_group(maps, train, test, classes, seed=0):
    "Mean IoU of all classes and of each of the other groups, NaN where it has none; maps: (B,3,H,W) → (B,D,h,w)"
    found = probes.segment(maps, train, test, classes, seed=seed)
    groups = probes.class_groups([label for _, label in train], classes)
    return dict(all=found['miou']) | probes.group_scores(found['iou'], groups)


def finite(scores):
    "Without those that are NaN"
    return {k: v for k, v in scores.items() if not math.isnan(v)}


# ---- test sets of the claims

def claim_sets(kind, config, protocol, device):
    "(train, test, number of classes) of a drawn world"
    train, test = (labelled(image_set(n, config, protocol, device, kind)) for n in ('seg_train', 'scenes'))
    return train, test, len(world.classes(kind, config.level))


def scene_miou(maps, config, protocol, device):
    "Mean IoU on scenes; maps: (B,3,H,W) → (B,D,h,w)"
    return probes.segment(maps, *claim_sets('scene', config, protocol, device))['miou']


def drive_iou(maps, config, protocol, device):
    "Mean IoU on drawn drives by groups of classes"
    return finite(iou_by_group(maps, *claim_sets('drive', config, protocol, device)))


def camvid_iou(maps, protocol):
    "Mean IoU on CamVid by groups of classes; nothing where it is not there"
    train, test = camvid.split_by_drive(protocol.street)
    return finite(iou_by_group(maps, train, test, len(camvid.CLASSES))) if train else {}
