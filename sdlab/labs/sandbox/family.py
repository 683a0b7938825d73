"""Measure the memory of a submission's processes from outside, and end them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


class Family:
    """The processes that `pid` started and that `memory_mb` has observed.

    `peak_mb`: the largest observed memory of one of them, in MB.
    """

    def __init__(self, pid: int) -> None:
        self.pid, self.peak_mb = pid, 0.0
        self._known: dict[int, psutil.Process] = {}

    def memory_mb(self, limit_mb: float) -> float:
        """Return the memory of all of them now, in MB.

        Above the limit, memory that they share is left out, where the system reports it (macOS reports it
        only to root).
        """
        import psutil

        try:
            family = psutil.Process(self.pid).children(recursive=True)
        except psutil.Error:
            return 0.0
        self._known.update({process.pid: process for process in family})
        resident = {process: _mb(process, "memory_info", "rss") for process in family}
        self.peak_mb = max(self.peak_mb, *resident.values(), 0.0)
        if sum(resident.values()) <= limit_mb:
            return sum(resident.values())
        return sum(_mb(process, "memory_full_info", "uss", there) for process, there in resident.items())

    def cpu_seconds(self) -> float:
        """Return the processor time that the processes running now have used."""
        import psutil

        total = 0.0
        with suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    total += times.user + times.system
        return total

    def kill(self) -> None:
        """End all observed processes that still run."""
        import psutil

        for process in self._known.values():
            try:
                process.kill()  # psutil checks that the id still belongs to the same process
            except psutil.Error:
                pass


def _mb(process: psutil.Process, method: str, column: str, otherwise: float = 0.0) -> float:
    """Return a figure of one process in MB; `otherwise` where the system does not report it."""
    import psutil

    try:
        return getattr(getattr(process, method)(), column) / 2**20
    except psutil.NoSuchProcess:
        return 0.0
    except psutil.Error:
        return otherwise
