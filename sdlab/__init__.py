"""sdlab: see why self-distillation sometimes makes a reasoning model worse (arXiv 2603.24472).

Data flows one way: world -> rollout -> score -> train, measure -> study -> show.
Importing the package is instant; torch and friends are imported by the rooms that use them.
"""

import os

__version__ = "0.1.0"

# oneDNN keeps compiled kernels and scratch memory for up to 1,024 matrix shapes. Every micro-batch of ours has a new one, so a
# training run would grow by hundreds of megabytes; it is read at the first product, whatever was imported before.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "32")
