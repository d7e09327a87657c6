"""The worker: networks in memory, and the jobs that they are for."""

import os

# PyTorch's threads (OpenMP) spin for a while when they have nothing to do, and take the cores from those of the
# inference engine, with which they take turns. It is read when PyTorch is loaded, so it is said before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
