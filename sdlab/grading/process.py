"""Run sympy in a worker process: ask it, kill it at a time limit, and start it again."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from sdlab.errors import SdlabError

CPU_SECONDS = (
    2.0  # of sympy per answer; CPU time, so that a busy machine gives the same verdicts as an idle one
)
WALL_SECONDS = 300.0  # the parent's own limit, in case the worker sleeps or has no timer
START_SECONDS = 600.0
_CPU_LIMIT_HIT = -getattr(signal, "SIGPROF", 0) or None  # exit status of a worker ended by its own timer


class _Worker:
    """One grader process, and the clock that kills it."""

    def __init__(self) -> None:
        self.owner = os.getpid()  # after a fork the pipes belong to the parent
        script = Path(__file__).with_name("_grader.py")
        # -P keeps the script's folder off sys.path, so that no module of sdlab hides a library's module.
        command = [sys.executable, "-P", str(script), str(CPU_SECONDS)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        assert self.process.stdin is not None and self.process.stdout is not None  # both are pipes
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        if self._reply(START_SECONDS) != "ready":
            self.stop()
            raise SdlabError(
                'the grader did not start; install it with: pip install "math-verify[antlr4_13_2]==0.9.*"'
            )

    def usable(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, answer: str, truth: str) -> bool | None:
        """Return the verdict: False at the time limit, None when the process died of another cause."""
        try:
            self.stdin.write(json.dumps([answer, truth]) + "\n")
            self.stdin.flush()
            reply = self._reply(WALL_SECONDS)
        except BrokenPipeError:
            reply = ""
        except BaseException:  # interrupted before the reply: the next request would read this reply
            self.stop()
            raise
        if reply:
            return reply == "1"
        self.stop()
        return False if self.timed_out or self.process.returncode == _CPU_LIMIT_HIT else None

    def _reply(self, seconds: float) -> str:
        self.timed_out = False
        clock = threading.Timer(seconds, self._expire)
        clock.daemon = True
        clock.start()
        try:
            return self.stdout.readline().strip()
        finally:
            clock.cancel()

    def _expire(self) -> None:
        self.timed_out = True
        self.process.kill()

    def stop(self) -> None:
        if self.owner != os.getpid():
            return
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        try:
            self.stdin.close()
        except BrokenPipeError:  # closing writes the text that the dead process never read
            return


_worker: _Worker | None = None
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(
    os, "register_at_fork"
):  # a lock that another thread holds at the fork is never released in the child
    os.register_at_fork(after_in_child=_renew_lock)


def ask(answer: str, truth: str) -> bool:
    """Return whether sympy finds `answer` and `truth` equal; False when it takes more than CPU_SECONDS.

    Safe in any thread. There is one worker process, which the first call starts.
    Raises SdlabError when math-verify cannot be started.
    """
    global _worker
    with _lock:
        for _ in range(2):  # try again if the worker died of another cause than the answer
            if _worker is None or not _worker.usable():
                _worker = _Worker()
            verdict = _worker.ask(answer, truth)
            if verdict is not None:
                return verdict
    return False


@atexit.register
def _stop_worker() -> None:
    if _worker is not None:
        _worker.stop()
