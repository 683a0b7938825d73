"""Train one submission of the leaderboard in the sandbox, and stop it when it reaches a limit."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from sdlab.labs.sandbox.launch import Process, signal_name

OUTPUT_MB = 20.0  # the size of a submission's printed text
TOO_MUCH_OUTPUT = f"printed more than {OUTPUT_MB:g} MB"


def train(
    source: Path | str,
    place: Path,
    task: dict[str, Any],
    *,
    timeout: float,
    memory_gb: float,
    stop: threading.Event | None = None,
) -> tuple[str, tuple[str, ...] | None]:
    """Train the submission `source` (a file, or Python text) and leave its weights in the new folder `place`.

    It is stopped after `timeout` seconds, above `memory_gb` of all its processes, after 20 MB of output, and
    when `stop` is set. Return the reason of a failure in one line, or "", and the names of what was closed to
    it (None when it ended before).
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
    hidden = [source.resolve().parent] if isinstance(source, Path) else []
    with tempfile.TemporaryFile() as output:  # a file without a name cannot be deleted or replaced
        worker = Process(
            "sdlab.labs.sandbox.submission",
            place,
            hidden,
            memory_mb=memory_gb * 1024,
            cpu_seconds=int(timeout) + 1,
            settings={"memory_gb": memory_gb, "task": task},
            environment={"OMP_NUM_THREADS": "1", "CPU_LIMIT": "1"},
            output=output,
        )
        try:
            reason, status = _watch(worker, output, timeout, memory_gb, stop)
            os.set_blocking(worker.replies, False)
            closed_off = _reply(worker.replies)
        finally:
            worker.stop()
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - 4000))
        lines = output.read().decode(errors="replace").strip().splitlines()
    if not reason and size > OUTPUT_MB * 1e6:
        reason = TOO_MUCH_OUTPUT
    if not reason and status:
        if name := signal_name(status):
            reason = f"its process was ended ({name})"
        else:
            reason = _plain(lines[-1]) if lines else f"its process ended with status {status}"
    lacking = [
        k
        for k in range(len(task["seeds"]))
        if (place / f"{k}.safetensors").is_symlink() or not (place / f"{k}.safetensors").is_file()
    ]
    return reason or (
        "its process ended before it was trained, or it removed its weights" if lacking else ""
    ), closed_off


def _watch(
    worker: Process, output: IO[bytes], timeout: float, memory_gb: float, stop: threading.Event | None
) -> tuple[str, int | None]:
    """Wait for the end; return the reason to stop the process ("" when it ended) and its exit status."""
    started, looked = time.monotonic(), 0.0
    while True:
        try:
            return "", worker.process.wait(0.1)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if now - started > timeout:
            return f"stopped after {timeout:g} s (time limit)", None
        if os.fstat(output.fileno()).st_size > OUTPUT_MB * 1e6:
            return TOO_MUCH_OUTPUT, None
        if stop is not None and stop.is_set():
            return "interrupted", None
        if now - looked > 0.5:
            looked = now
            if worker.family.memory_mb(memory_gb * 1024) > memory_gb * 1024:
                return f"needs more than {memory_gb:g} GiB of memory (memory limit)", None


def _plain(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line).strip()[:300]


def _reply(pipe: int) -> tuple[str, ...] | None:
    try:
        return tuple(json.loads(os.read(pipe, 1000)))
    except (ValueError, OSError):  # it ended before its reply
        return None
