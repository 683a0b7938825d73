"""One submission's training for the leaderboard: a process of its own, started, watched from outside, and stopped when it must be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from sdlab.labs.family import Family
from sdlab.labs.isolation import readable_folders

KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "SDLAB_DATA",
)  # of the environment; the secret is not among them
OUTPUT_MB = 20.0  # what a submission may print
TOO_MUCH_SAID = f"printed more than {OUTPUT_MB:g} MB"
CHILD = "import json, sys; from sdlab.labs.submission import child; child(json.load(sys.stdin))"


def train(
    source: Path | str,
    place: Path,
    task: dict,
    *,
    timeout: float,
    memory_gb: float,
    stop: threading.Event | None = None,
) -> tuple[str, tuple[str, ...] | None]:
    """Train the submission `source` (a file, or Python text) as `task` says; its weights are then in the new folder `place`.

    Returns why it failed, in one line, or "", and its walls (sdlab.labs.isolation; None when it did not get so far). It is stopped
    after `timeout` seconds, above `memory_gb` of all its processes, after 20 MB of output, and when `stop` is set.
    """
    place.mkdir(parents=True)
    try:
        if isinstance(source, Path):
            if source.suffix not in (".py", ".ipynb"):
                return f"{source.name} is neither a Python file nor a notebook", None
            shutil.copyfile(source, place / f"submission{source.suffix}")
        else:
            (place / "submission.py").write_text(source)
    except OSError as error:
        return f"cannot read {source}: {error.strerror}", None
    readable, listable = readable_folders([source.resolve().parent] if isinstance(source, Path) else [])
    told, ours = os.pipe()
    settings = {
        "timeout": timeout,
        "memory_gb": memory_gb,
        "readable": readable,
        "listable": listable,
        "walls": ours,
        "task": task,
    }
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env |= {
        "HOME": str(place),
        "TMPDIR": str(place),
        "OMP_NUM_THREADS": "1",
        "CPU_LIMIT": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with (
        tempfile.TemporaryFile() as said,
        open(told, "rb", buffering=0) as walls,
    ):  # a file without a name: nobody can delete or replace it
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", CHILD], cwd=place, env=env, pass_fds=(ours,), start_new_session=True,
                stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip
        finally:
            os.close(ours)
        with (
            suppress(BrokenPipeError),
            process.stdin as pipe,
        ):  # not an argument: those can be read by others on the machine
            pipe.write(json.dumps(settings).encode())
        reason, status = _watch(process, said, timeout, memory_gb, stop)
        os.set_blocking(walls.fileno(), False)
        had = _walls(walls.read(1000))
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - 4000))
        lines = said.read().decode(errors="replace").strip().splitlines()
    if not reason and size > OUTPUT_MB * 1e6:
        reason = TOO_MUCH_SAID
    if not reason and status:
        signals = {
            256 - number: number.name for number in signal.Signals
        }  # as the process says it of its child
        reason = (
            f"its process was ended ({signals[status % 256]})"
            if status % 256 in signals
            else _plain(lines[-1])
            if lines
            else f"its process ended with status {status}"
        )
    lacking = [
        k
        for k in range(len(task["seeds"]))
        if (place / f"{k}.safetensors").is_symlink() or not (place / f"{k}.safetensors").is_file()
    ]
    return reason or (
        "its process ended before it was trained, or it removed its weights" if lacking else ""
    ), had


def _watch(
    process: subprocess.Popen, said, timeout: float, memory_gb: float, stop: threading.Event | None
) -> tuple[str, int | None]:
    """Wait for the end of `process`, or end it and whatever it started; why it was ended, and its exit status."""
    family, reason, started, looked = Family(process.pid), "", time.monotonic(), 0.0
    try:
        while not reason:
            try:
                return reason, process.wait(0.1)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if now - started > timeout:
                reason = f"stopped after {timeout:g} s (time limit)"
            elif os.fstat(said.fileno()).st_size > OUTPUT_MB * 1e6:
                reason = TOO_MUCH_SAID
            elif stop is not None and stop.is_set():
                reason = "interrupted"
            elif now - looked > 0.5:
                looked = now
                if family.memory_mb(memory_gb * 1024) > memory_gb * 1024:
                    reason = f"needs more than {memory_gb:g} GiB of memory (memory limit)"
    finally:
        family.memory_mb(memory_gb * 1024)  # to know the youngest
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of one that has ended
            os.killpg(process.pid, signal.SIGKILL)
        family.kill()
        process.wait()
    return reason, None


def _plain(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line).strip()[:300]


def _walls(line: bytes | None) -> tuple[str, ...] | None:
    try:
        return tuple(json.loads(line or b"null") or ()) if line else None
    except ValueError:
        return None
