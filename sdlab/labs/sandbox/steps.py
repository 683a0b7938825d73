"""Run the cells of a notebook in the sandbox, and stop a cell that reaches a limit."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sdlab.errors import SdlabError
from sdlab.labs.sandbox.isolation import check_system
from sdlab.labs.sandbox.launch import Process, signal_name
from sdlab.settings import Range, check_settings

if TYPE_CHECKING:
    from sdlab.labs.matching import Step

ENVIRONMENT = {
    "SDLAB_HEADLESS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "",
    "PYTHONIOENCODING": "utf-8:replace",
    "TERM": "dumb",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "2097152",
    "MALLOC_TRIM_THRESHOLD_": "4194304",
}
START_SECONDS = 120.0  # to import torch on a loaded machine
GRACE_SECONDS = 5.0  # from the interruption of a cell to the end of its process
RESTARTS = 3


@dataclass(frozen=True)
class Limits:
    """The resources that one submission may use.

    `timeout` and `cell_timeout`: seconds for the submission and for each cell. `memory_mb`: for each of its
    processes and for all together. `output_mb`: the size of its printed text.
    """

    timeout: Annotated[float, Range(1)] = 600.0
    cell_timeout: Annotated[float, Range(0.1)] = 180.0
    memory_mb: Annotated[int, Range(200)] = 3000
    output_mb: Annotated[float, Range(0.001)] = 20.0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass
class Outcome:
    """The result of each step.

    `errors`: by the step's index in the plan (no entry: it worked). `problems`: lines on stopped cells and
    replaced functions. `closed_off`: the names of what was closed to the submission. `peak_mb`: the largest
    memory of one of its processes, in MB.
    """

    errors: dict[int, str] = field(default_factory=dict)
    passed: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    closed_off: tuple[str, ...] = ()
    peak_mb: float = 0.0


def run_steps(steps: Sequence[Step], imports: Sequence[str], hidden: list[Path], limits: Limits) -> Outcome:
    """Run `steps` in order.

    A cell that has to be stopped is left out, and the others are run again in a fresh process. Where files
    are closed off, the submission cannot read the files and folders in `hidden`. Raises SdlabError where
    processes cannot be limited.
    """
    check_system()
    outcome = Outcome()
    left_out: set[int] = set()
    deadline = time.monotonic() + limits.timeout
    for _ in range(RESTARTS + 1):
        culprit = _once(steps, imports, hidden, limits, deadline, left_out, outcome)
        if culprit is None:
            return outcome
        left_out.add(culprit)
        if time.monotonic() >= deadline:
            break
    for index, step in enumerate(steps):
        if step.kind == "test" and index not in outcome.passed:
            outcome.errors.setdefault(index, "not reached: the submission was stopped before")
    return outcome


def _once(
    steps: Sequence[Step],
    imports: Sequence[str],
    hidden: list[Path],
    limits: Limits,
    deadline: float,
    left_out: set[int],
    outcome: Outcome,
) -> int | None:
    """Run the steps in one process; return the index of the step that ended it, None when all were run."""
    folder = Path(tempfile.mkdtemp(prefix="sdlab-lab-"))
    worker = None
    try:
        worker = _Worker(folder, imports, hidden, limits)
        ready = worker.reply("ready", min(deadline, time.monotonic() + START_SECONDS))
        if ready is None:
            raise SdlabError(
                f"the process for grading did not start ({worker.why}): {worker.tail()};"
                " give more --memory or check the installation with `python -m sdlab --help`"
            )
        outcome.closed_off = tuple(ready["closed_off"])
        for index, step in enumerate(steps):
            if index in left_out or (step.kind == "test" and index in outcome.passed | set(outcome.errors)):
                continue  # it has its verdict
            seconds = max(0.1, min(limits.cell_timeout, deadline - time.monotonic()))
            token = secrets.token_hex(16)
            worker.send({"token": token, "kind": step.kind, "code": step.code, "seconds": seconds})
            answer = worker.reply(token, time.monotonic() + seconds + GRACE_SECONDS)
            outcome.peak_mb = max(outcome.peak_mb, worker.family.peak_mb)
            if answer is None:
                outcome.errors[index] = worker.why
                outcome.problems.append(f"{step.name}: {worker.why}; stopped")
                return index
            if answer["ok"]:
                outcome.passed.add(index)
            else:
                outcome.errors[index] = answer["error"]
            if answer["put_back"]:
                names = answer["put_back"]
                more = " ..." if len(names) > 4 else ""
                outcome.problems.append(f"replaced {', '.join(names[:4])}{more}; put back before the tests")
            if answer["memory"]:
                outcome.problems.append(
                    f"{step.name}: needs more than the {limits.memory_mb} MB allowed; stopped"
                )
                return index
            if answer["late"]:
                outcome.problems.append(f"{step.name}: {answer['error']}; stopped")
                if time.monotonic() >= deadline:
                    return index
        return None
    finally:
        if worker:
            worker.stop()
            outcome.peak_mb = max(outcome.peak_mb, worker.family.peak_mb)
        _remove(folder)


class _Worker(Process):
    """The process that runs cells (sdlab.labs.sandbox.worker), with its output and its replies."""

    def __init__(self, folder: Path, imports: Sequence[str], hidden: list[Path], limits: Limits) -> None:
        super().__init__(
            "sdlab.labs.sandbox.worker",
            folder,
            hidden,
            memory_mb=limits.memory_mb,
            cpu_seconds=int(limits.timeout * (os.cpu_count() or 1)) + 60,
            settings={"imports": list(imports)},
            environment=ENVIRONMENT | {"IPYTHONDIR": str(folder / ".ipython")},
        )
        self.limits, self.why = limits, ""
        self.printed, self.last, self.buffer = 0, b"", b""
        self.selector = selectors.DefaultSelector()
        assert self.process.stdout is not None  # a pipe, by default
        for handle in (self.replies, self.process.stdout.fileno()):
            os.set_blocking(handle, False)
            self.selector.register(handle, selectors.EVENT_READ)

    def reply(self, token: str, until: float) -> dict[str, Any] | None:
        """Return the reply with `token`; None when there will be none, and then `why` has the reason."""
        looked = 0.0
        while not self.why:
            now = time.monotonic()
            for key, _ in self.selector.select(max(0.0, min(0.25, until - now))):
                try:
                    data = os.read(key.fd, 1 << 16)
                except OSError:
                    data = b""
                if not data:
                    self.selector.unregister(key.fd)
                elif key.fd == self.replies:
                    self.buffer += data
                else:
                    self.printed += len(data)
                    self.last = (self.last + data)[-2000:]
            *lines, self.buffer = self.buffer.split(b"\n")
            for line in lines:
                answer = _parsed(line)
                if answer is None or answer.get("token") != token:
                    self.why = "wrote to the examiner's pipe"
                    return None
                self.family.peak_mb = max(self.family.peak_mb, answer["peak_mb"])
                return answer
            if self.printed > self.limits.output_mb * 1e6 or len(self.buffer) > 10_000_000:
                self.why = f"printed more than {self.limits.output_mb:g} MB"
            elif self.process.poll() is not None or not self.selector.get_map():
                self.why = self._ended()
            elif now >= until:
                self.why = "did not end in time, nor when it was interrupted"
            elif now - looked > 0.5:
                looked = now
                if self.family.memory_mb(self.limits.memory_mb) > self.limits.memory_mb:
                    self.why = f"needs more than the {self.limits.memory_mb} MB allowed"
        return None

    def _ended(self) -> str:
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        return f"ended its process ({signal_name(status or 0) or f'exit status {status}'})"

    def tail(self) -> str:
        """Return the last line that the process printed."""
        lines = [line for line in self.last.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it printed nothing"

    def stop(self) -> None:
        """End the process and all processes that it started."""
        self.selector.close()
        super().stop()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _remove(folder: Path) -> None:
    def unlock(function: Callable[[str], object], path: str, _: Any) -> None:
        try:
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            function(path)
        except OSError:
            pass

    shutil.rmtree(folder, onerror=unlock)
