"""Delay Ctrl-C (SIGINT) until it is safe: never in the middle of an update of the weights or of a file.

Python calls signal handlers only in the main thread. In other threads nothing is delayed, and nothing needs
to be.
"""

import inspect
import math
import signal
import threading
from types import CodeType, FrameType
from typing import Self


class HeldInterrupts:
    """Delay Ctrl-C inside a `with`; at its end a delayed press acts as usual.

    held: while it is False, a press acts at once. presses: number of presses that are delayed before the next
    one acts. While a function runs whose code is in `sealed`, every press is delayed. This works in a Jupyter
    kernel, whose interrupt is a SIGINT too. It changes nothing where SIGINT is ignored (a shell's background
    job) or handled outside Python.
    """

    def __init__(self, presses: float = math.inf, sealed: tuple[CodeType, ...] = ()) -> None:
        self.presses, self.sealed = presses, sealed
        self.held, self.pressed = True, 0
        self._before = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end()
        if kind is None:  # an error ends the work as well
            self.act()

    def end(self) -> None:
        """Delay nothing from now on."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def act(self) -> None:
        """Let a delayed press act now."""
        if self.pressed:
            self.pressed = 0
            if self._before is not None:
                # An outer `with` reads from the frame where it is called.
                self._before(signal.SIGINT, inspect.currentframe())

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed += 1
        if not self._is_sealed(frame) and (not self.held or self.pressed > self.presses):
            self.act()

    def _is_sealed(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self.sealed:
                return True
            frame = frame.f_back
        return False


def uninterrupted() -> HeldInterrupts:
    """Return a context that no Ctrl-C interrupts; for writing files, which takes seconds at most."""
    return HeldInterrupts()
