"""One thread in the checks, in this process and in those it starts: sums of floats depend on how many there are."""
import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch  # noqa: E402

torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
