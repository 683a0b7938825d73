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
    """Return lines on what the sandbox lacked; none when nothing ran.

    closed_off: for each submission what it could not reach.
    """
    closed_off = list(closed_off)
    return [line for line in (bubblewrap.refusal(), left_open(closed_off)) if line] if closed_off else []


class Process:
    """`python -m MODULE` in the sandbox, with `folder` as its home and the only place to write.

    The module calls `inside.enter`, which reads `settings` and the requests sent after it. Its replies come
    from the pipe `replies`. The paths in `hidden` cannot be read there, where files are closed off.
    memory_mb: for each process.
    """

    def __init__(
        self,
        module: str,
        folder: Path,
        hidden: list[Path],
        *,
        memory_mb: float,
        cpu_seconds: int,
        settings: dict,
        environment: dict[str, str],
        output=subprocess.PIPE,
    ):
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
        # not as an argument: others on the machine can read those
        self.send(settings | limits | places | {"closed_off": bubblewrap.CLOSED_OFF if within else ()})

    def send(self, request: dict) -> None:
        """Write one line to its standard input; that it has ended is noticed by the missing reply."""
        with suppress(OSError):
            self.process.stdin.write((json.dumps(request, allow_nan=False) + "\n").encode())
            self.process.stdin.flush()

    def stop(self) -> None:
        """End it and whatever it started."""
        self.family.memory_mb(math.inf)  # to know the youngest
        for end in (self.process.terminate, self.process.kill):  # SIGTERM: it kills what it holds, then ends
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
