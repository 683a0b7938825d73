"""Start a submission's process in the sandbox, and end it with everything it started."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from sdlab.labs.sandbox import bubblewrap
from sdlab.labs.sandbox.family import Family
from sdlab.labs.sandbox.folders import readable_folders
from sdlab.labs.sandbox.isolation import left_open, threads_of_user

PASSED_ON = (  # of the environment: no keys, tokens or secrets
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


def notes(closed_off: Iterable[Collection[str]]) -> list[str]:
    """Return lines on the protections that the sandbox lacked; [] when nothing ran.

    `closed_off`: for each submission the names of what was closed to it.
    """
    closed_off = list(closed_off)
    return [line for line in (bubblewrap.refusal(), left_open(closed_off)) if line] if closed_off else []


class Process:
    """Run `python -m MODULE` in the sandbox, with `folder` as its home and the only place to write.

    The module calls `inside.enter`, which reads `settings` and later requests. Its replies come from the pipe
    `replies`. Where files are closed off, it cannot read the paths in `hidden`. `memory_mb`: for each
    process.
    """

    def __init__(
        self,
        module: str,
        folder: Path,
        hidden: list[Path],
        *,
        memory_mb: float,
        cpu_seconds: int,
        settings: dict[str, Any],
        environment: dict[str, str],
        output: int | IO[bytes] = subprocess.PIPE,
    ) -> None:
        readable, listable = readable_folders(hidden)
        within = bubblewrap.command(folder, hidden)
        self.replies, ours = os.pipe()
        own = {"HOME": str(folder), "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
        try:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-P", "-m", module],
                cwd=folder,
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ} | own | environment,
                pass_fds=(ours,),
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError:
            os.close(self.replies)
            raise
        finally:
            os.close(ours)
        self.family = Family(self.process.pid)
        limits = {"memory_mb": memory_mb, "cpu_seconds": cpu_seconds, "threads": threads_of_user()}
        places = {"readable": readable, "listable": listable, "replies": ours}
        # Through the pipe, because other users of the machine can read arguments.
        self.send(settings | limits | places | {"closed_off": bubblewrap.CLOSED_OFF if within else ()})

    def send(self, request: dict[str, Any]) -> None:
        """Write one line to its standard input; an ended process is noticed by its missing reply."""
        pipe = self.process.stdin
        assert pipe is not None  # __init__ opened it
        with suppress(OSError):
            pipe.write((json.dumps(request, allow_nan=False) + "\n").encode())
            pipe.flush()

    def stop(self) -> None:
        """End the process and all processes that it started."""
        self.family.memory_mb(math.inf)  # to observe the youngest
        for end in (self.process.terminate, self.process.kill):  # on SIGTERM it kills its child and ends
            if self.process.poll() is None:
                end()
            try:
                self.process.wait(5)
                break
            except subprocess.TimeoutExpired:
                continue
        self.family.kill()
        self.process.wait()
        os.close(self.replies)
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()


def signal_name(status: int) -> str:
    """Return the name of the signal that an exit status stands for (128 + n, or Python's -n), "" for none."""
    names = {number.value: number.name for number in signal.Signals}
    return names.get(-status if status < 0 else status - 128, "")
