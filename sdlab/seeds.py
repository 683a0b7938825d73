"""Random streams keyed by strings, so that no two purposes or seeds share a stream.

With `Random(seed + i)` item 1 of seed 0 would equal item 0 of seed 1. A hash of the whole key avoids this.
"""

import hashlib
import random


def stable_int(*key: object) -> int:
    """Return a 63-bit integer for `key`, the same on every machine and in every process."""
    text = "\x1f".join(map(str, key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(*key: object) -> random.Random:
    """Return an independent `random.Random` for `key`, for example `stream("splits", "deeper", seed)`."""
    return random.Random(stable_int(*key))
