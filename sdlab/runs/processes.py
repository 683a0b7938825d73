"""Run cells on this machine, each in its own process with one thread."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdlab import paths
from sdlab.provenance import granted_cores
from sdlab.runs.cell import Cell, run_cell, timeout_message
from sdlab.runs.training import METHODS, Plan

ONE_THREAD = {"OMP_NUM_THREADS": "1", "CPU_LIMIT": "1"}


def run_here(cells: Sequence[Cell], jobs: int, timeout: float | None) -> Iterator[tuple[Cell, str]]:
    """Yield (cell, reason) as cells end."""
    waiting, running = deque(cells), []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Child(waiting.popleft(), timeout))
            for child in [child for child in running if child.ended()]:
                running.remove(child)
                yield child.cell, child.reason()
            time.sleep(0.05)
    finally:
        for child in running:
            child.stop()


class _Child:
    """A cell in its own process.

    The process ends when this one does, for whatever reason, because its standard input is then closed.
    """

    def __init__(self, cell: Cell, timeout: float | None) -> None:
        self.cell, self.timeout, self.began, self.late = cell, timeout, time.monotonic(), False
        self.errors = tempfile.TemporaryFile()
        command = [sys.executable, "-c", "from sdlab.runs.processes import child; child()", _to_text(cell)]
        # a session of its own: Ctrl-C reaches the parent, which stops its children
        options = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.DEVNULL,
            "stderr": self.errors,
            "start_new_session": True,
        }
        self.process = subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, **options)

    def ended(self) -> bool:
        """Return whether the process has ended; it is stopped first if it is over its time."""
        if self.timeout and time.monotonic() - self.began > self.timeout and self.process.poll() is None:
            self.stop()
            self.late = True
        return self.process.poll() is not None

    def stop(self) -> None:
        """Kill the process and wait for its end."""
        self.process.kill()
        self.process.wait()

    def reason(self) -> str:
        """Return the reason of a failure in one line, or ""."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        self.errors.close()
        status = self.process.returncode
        if status == 0:
            return ""
        if self.late and self.timeout:
            return timeout_message(self.timeout)
        if status < 0:
            name = signal.Signals(-status).name
            hint = " (was the memory full?)" if name == "SIGKILL" else ""
            return f"killed by {name}{hint}; run the same sweep again to resume the cell"
        return lines[-1] if lines else f"ended with status {status} and no message"


def child() -> None:
    """Run the cell in the first argument; for a cell's own process.

    The last line on standard error is the reason of a failure.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reason = run_cell(_from_text(sys.argv[1]))
    if reason:
        print(reason, file=sys.stderr, flush=True)
    os._exit(1 if reason else 0)  # without torch's teardown, which the end of standard input could interrupt


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def _to_text(cell: Cell) -> str:
    return json.dumps({**asdict(cell), "folder": str(cell.folder)})


def _from_text(text: str) -> Cell:
    about = json.loads(text)
    config, plan = _with_tuples(about["config"]), _with_tuples(about["plan"])
    return Cell(
        **about
        | {
            "folder": Path(about["folder"]),
            "config": METHODS[about["method"]](**config),
            "plan": Plan(**plan),
        }
    )


def _with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings read from JSON with tuples instead of lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def usable_cores() -> int:
    """Return the number of cores that this machine grants."""
    granted = granted_cores() or 1
    return min(paths.cpu_limit() or granted, granted)
