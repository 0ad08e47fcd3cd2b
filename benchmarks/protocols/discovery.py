"""Object discovery: segments of patches against instances."""
from ssl_workbench import probes


def full_size(labels, size):
    "Patch labels (B,h,w) at the size of the image"
    return labels if labels.shape[-2:] == size else probes.upsample_labels(labels, size)


def ari_and_mbo(labels, instances):
    "Full ARI and mean best IoU of patch labels (B,h,w) against instances (B,H,W)"
    full = full_size(labels, instances.shape[-2:])
    return probes.ari(full, instances), probes.best_iou(full, instances)
