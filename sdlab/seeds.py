"""Random streams keyed by strings, so that no two purposes or seeds ever share one.

`Random(seed + i)` makes item 1 of seed 0 equal item 0 of seed 1; hashing the whole key does not.
"""

import hashlib
import random


def stable_int(*key: object) -> int:
    """A 63-bit integer from `key`, the same on every machine and in every process."""
    text = "\x1f".join(map(str, key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(*key: object) -> random.Random:
    """An independent `random.Random` for `key`, for example `stream("splits", "deeper", seed)`."""
    return random.Random(stable_int(*key))
