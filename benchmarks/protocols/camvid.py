"""CamVid's labelled streets: two drives teach, a third is the test. Nothing where CamVid is not there."""
from functools import lru_cache

from ssl_workbench import core, data

TRAIN_DRIVES, TEST_DRIVES = ('0001TP', '0016E5'), ('0006R0',)
CLASSES = data.CAMVID_CLASSES
CARD_SIZE = (144, 192)              # height, width for cards


def available():
    "Whether CamVid is there"
    return core.data_root() is not None and (core.data_root()/'camvid').exists()


@lru_cache(maxsize=None)
def frames_of(drives, size):
    "Frames of some drives as a list of (image (3,H,W) uint8, label (H,W)); empty where CamVid is not there"
    if not available(): return []
    frames = data.CamVid(drives=list(drives), split='train', size=size)
    samples = [frames[i] for i in range(len(frames))]
    return [(s['frames'][0], s['classes'][0]) for s in samples]


def split_by_drive(size=CARD_SIZE):
    "(frames that teach, frames of the test)"
    return frames_of(TRAIN_DRIVES, size), frames_of(TEST_DRIVES, size)
