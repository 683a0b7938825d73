"""Measure the processor time of a student's function, for tests that ask for linear time."""

import time
from collections.abc import Callable
from typing import Any


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return (result, seconds): the result of the call, and the processor time that it took.

    A submission's function runs in another process while it is graded; then it is the time of that process.
    """
    clock = getattr(function, "cpu_seconds", time.process_time)
    start = clock()
    result = function(*arguments)
    return result, clock() - start
