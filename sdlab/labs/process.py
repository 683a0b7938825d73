"""Runs a plan's cells in the separate process, and stops it when it takes too long, grows too large or prints too much."""

import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from sdlab.errors import SdlabError
from sdlab.labs.family import Family
from sdlab.labs.isolation import check_system, readable_folders
from sdlab.labs.matching import Step
from sdlab.settings import Range, check_settings

PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CPU_LIMIT",
    "SDLAB_DATA",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)
START_SECONDS = 600.0  # to import torch on a loaded machine
GRACE_SECONDS = 5.0  # from the interruption of a cell to the end of its process
RESTARTS = 3


@dataclass(frozen=True)
class Limits:
    """Seconds for the submission and for each cell, MB of memory for each of its processes and for all, MB that it may print."""

    timeout: Annotated[float, Range(1)] = 600.0
    cell_timeout: Annotated[float, Range(0.1)] = 180.0
    memory_mb: Annotated[int, Range(200)] = 3000
    output_mb: Annotated[float, Range(0.001)] = 20.0

    def __post_init__(self):
        check_settings(self)


@dataclass
class Outcome:
    """What became of each step: `errors` by its index in the plan (none: it worked), what was stopped, walls, MB."""

    errors: dict[int, str] = field(default_factory=dict)
    passed: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    walls: tuple[str, ...] = ()
    peak_mb: float = 0.0


def run_steps(
    steps: tuple[Step, ...], imports: tuple[str, ...], hidden: list[Path], limits: Limits
) -> Outcome:
    """Run `steps` in order. A cell that has to be stopped is left out, and the others are run again in a fresh process.

    The files and folders in `hidden` cannot be read there (where Landlock is). Raises SdlabError where processes cannot be limited.
    """
    check_system()
    outcome, left_out = Outcome(), set()
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
    steps, imports, hidden, limits: Limits, deadline: float, left_out: set[int], outcome: Outcome
) -> int | None:
    """One process; returns the index of the step that ended it, None when all were run."""
    folder = Path(tempfile.mkdtemp(prefix="sdlab-lab-"))
    worker = None
    try:
        worker = _Worker(folder, imports, hidden, limits)
        ready = worker.reply("ready", min(deadline, time.monotonic() + START_SECONDS))
        if worker.why:
            raise SdlabError(
                f"the process for grading did not start ({worker.why}): {worker.tail()}; give more --memory or check the installation with `python -m sdlab --help`"
            )
        outcome.walls = tuple(ready["walls"])
        for index, step in enumerate(steps):
            if index in left_out or (step.kind == "test" and index in outcome.passed | set(outcome.errors)):
                continue  # a verdict stands
            seconds = max(0.1, min(limits.cell_timeout, deadline - time.monotonic()))
            token = secrets.token_hex(16)
            worker.ask({"token": token, "kind": step.kind, "code": step.code, "seconds": seconds})
            answer = worker.reply(token, time.monotonic() + seconds + GRACE_SECONDS)
            outcome.peak_mb = max(outcome.peak_mb, worker.family.peak_mb)
            if worker.why:
                outcome.errors[index] = worker.why
                outcome.problems.append(f"{step.name}: {worker.why}; stopped")
                return index
            if answer["ok"]:
                outcome.passed.add(index)
            else:
                outcome.errors[index] = answer["error"]
            if answer["put_back"]:
                names = answer["put_back"]
                outcome.problems.append(
                    f"replaced {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}; put back before the tests"
                )
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


class _Worker:
    """The started process with its pipes."""

    def __init__(self, folder: Path, imports, hidden: list[Path], limits: Limits):
        self.limits, self.why = limits, ""
        self.printed, self.last, self.buffer = 0, b"", b""
        readable, listable = readable_folders(hidden)
        replies, ours = os.pipe()
        settings = {
            "replies": ours,
            "memory_mb": limits.memory_mb,
            "cpu_seconds": int(limits.timeout * (os.cpu_count() or 1)) + 60,
            "readable": readable,
            "listable": listable,
            "imports": list(imports),
        }
        with tempfile.TemporaryFile(
            "w+", encoding="utf-8"
        ) as file:  # arguments are too short for many folders
            json.dump(settings, file)
            file.seek(0)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sdlab.labs.worker", str(file.fileno())],
                cwd=folder,
                env=_environment(folder),
                pass_fds=(ours, file.fileno()),
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        os.close(ours)
        self.family = Family(self.process.pid)
        self.replies = replies
        self.selector = selectors.DefaultSelector()
        for handle in (replies, self.process.stdout.fileno()):
            os.set_blocking(handle, False)
            self.selector.register(handle, selectors.EVENT_READ)

    def ask(self, request: dict) -> None:
        try:
            self.process.stdin.write((json.dumps(request) + "\n").encode())
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended; the missing reply will say so

    def reply(self, token: str, until: float) -> dict | None:
        """The reply with `token`; None, and the reason in `why`, when there will be none."""
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
        names = {256 - number: number.name for number in signal.Signals}
        return f"ended its process ({names.get(status, f'exit status {status}')})"

    def tail(self) -> str:
        lines = [line for line in self.last.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"

    def stop(self) -> None:
        """End it and whatever it started."""
        self.family.memory_mb(self.limits.memory_mb)
        for end in (self.process.terminate, self.process.kill):  # SIGTERM: it kills what it holds, then ends
            if self.process.poll() is None:
                end()
            try:
                self.process.wait(5)
                break
            except subprocess.TimeoutExpired:
                continue
        self.family.kill()
        self.selector.close()
        os.close(self.replies)
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:
                pass


def _environment(folder: Path) -> dict[str, str]:
    """A home of its own, no keys or tokens, no hub."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    own = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "IPYTHONDIR": str(folder / ".ipython"),
        "HF_HUB_OFFLINE": "1",
        "SDLAB_HEADLESS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "",
        "PYTHONIOENCODING": "utf-8:replace",
        "TERM": "dumb",
    }
    return (
        passed
        | own
        | {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "2097152", "MALLOC_TRIM_THRESHOLD_": "4194304"}
    )


def _parsed(line: bytes) -> dict | None:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _remove(folder: Path) -> None:
    def unlock(function, path, _):
        try:
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            function(path)
        except OSError:
            pass

    shutil.rmtree(folder, onerror=unlock)
