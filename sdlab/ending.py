"""How a process of sdlab ends."""

import atexit
import gc
from functools import cache


@cache
def end_quickly() -> None:
    """Let this process end without a search for cyclic garbage; for a command, or the kernel of a notebook.

    torch and transformers create half a million objects, and Python's last collections visit them all, for
    one to two seconds. Objects in reference cycles are then not finalised, which Python does not promise
    either.
    """
    atexit.register(gc.freeze)
