"""Choose when Ctrl-C (SIGINT) acts: never in the middle of an update of the weights or of a file.

Python calls signal handlers in the main thread only. Elsewhere nothing is held back, and nothing needs to be.
"""

import inspect
import math
import signal
import threading
from types import CodeType, FrameType
from typing import Self


class HeldInterrupts:
    """Hold Ctrl-C back inside a `with`; at its end a press that was held acts as it would have before.

    held: while it is False, a press acts at once. presses: how many are held back before the next one acts.
    While a function runs whose code is in `sealed`, every press is held. Works in a Jupyter kernel, whose
    interrupt is a SIGINT too; where SIGINT is ignored (a shell's background job) or handled outside Python
    it changes nothing.
    """

    def __init__(self, presses: float = math.inf, sealed: tuple[CodeType, ...] = ()):
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

    def __exit__(self, kind, *_) -> None:
        self.end()
        if kind is None:  # an error that is on its way ends the work as well
            self.act()

    def end(self) -> None:
        """Hold nothing back from now on."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def act(self) -> None:
        """Let a press that was held back act now."""
        if self.pressed:
            self.pressed = 0
            self._before(signal.SIGINT, inspect.currentframe())  # an outer hold looks where it is called from

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
    """Return a `with` that no Ctrl-C cuts short: for writing files, seconds at most."""
    return HeldInterrupts()
