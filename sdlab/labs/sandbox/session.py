"""The process of one submission, with its requests, its replies, its output and its limits."""

from __future__ import annotations

import json
import math
import os
import secrets
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from sdlab.labs.sandbox.answers import AnswerError, Stopped
from sdlab.labs.sandbox.launch import Process, signal_name
from sdlab.labs.sandbox.reduced import WORKER, Rules, copy_reduced, python_path
from sdlab.settings import Range, check_settings

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
GRACE_SECONDS = 5.0  # from the interruption of a cell to the end of its process


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


class Session(Process):
    """The process that runs cells (sdlab.labs.sandbox.worker), with its output and its replies."""

    def __init__(self, folder: Path, hidden: list[Path], limits: Limits, rules: Rules | None) -> None:
        own: dict[str, str] = {}
        if rules is not None:
            copy_reduced(rules, folder / ".sdlab")
            own["PYTHONPATH"] = python_path(folder / ".sdlab")
        super().__init__(
            WORKER,
            folder,
            hidden,
            memory_mb=limits.memory_mb,
            cpu_seconds=int(limits.timeout * (os.cpu_count() or 1)) + 60,
            settings={"rules": rules and rules.as_settings()},
            environment=ENVIRONMENT | {"IPYTHONDIR": str(folder / ".ipython")} | own,
        )
        self.limits, self.why = limits, ""
        self.allowed, self.until = math.inf, math.inf  # seconds of the cell that runs now, and its end
        self.printed, self.last, self.buffer = 0, b"", b""
        self.selector = selectors.DefaultSelector()
        assert self.process.stdout is not None  # a pipe, by default
        for handle in (self.replies, self.process.stdout.fileno()):
            os.set_blocking(handle, False)
            self.selector.register(handle, selectors.EVENT_READ)

    def begin(self, seconds: float) -> None:
        """Allow the cell that begins now `seconds`."""
        self.allowed, self.until = seconds, time.monotonic() + seconds

    def ask(self, kind: str, **content: Any) -> dict[str, Any]:
        """Return the reply to a request of a test.

        Raises AnswerError when the submission's code raises, and Stopped when there is no reply.
        """
        answer = self.request(kind, **content)
        if not answer["ok"]:
            raise AnswerError(answer)
        return answer

    def request(self, kind: str, **content: Any) -> dict[str, Any]:
        """Send a request and return its reply. Raises Stopped when there is none by `until`."""
        token, seconds = secrets.token_hex(16), max(0.1, self.until - time.monotonic())
        latest = time.monotonic() + seconds + GRACE_SECONDS
        self.write(
            {"token": token, "kind": kind, "seconds": seconds, "allowed": self.allowed, **content}, latest
        )
        answer = self.reply(token, latest)
        if answer is None:
            raise Stopped
        return answer

    def write(self, request: dict[str, Any], until: float) -> None:
        """Write one line to the process, which may not read it; after `until` that is the reason to stop."""
        assert self.process.stdin is not None  # a pipe
        pipe, data = self.process.stdin.fileno(), (json.dumps(request, allow_nan=False) + "\n").encode()
        os.set_blocking(pipe, False)
        while data and not self.why:
            try:
                data = data[os.write(pipe, data) :]
            except BlockingIOError:
                if time.monotonic() > until:
                    self.why = "did not read its next request"
                time.sleep(0.005)
            except OSError:
                return  # it ended; its missing reply says so

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
