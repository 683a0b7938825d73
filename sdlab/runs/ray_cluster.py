"""Run cells as tasks of a Ray cluster."""

import os
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from sdlab.errors import SdlabError, first_line
from sdlab.runs.cell import Cell, run_cell
from sdlab.runs.processes import ONE_THREAD, usable_cores

RETRIES = 3  # restarts of a cell whose Ray worker died
ANSWER = 30.0  # seconds to wait for a Ray cluster's answer


def run_on_ray(
    cells: Sequence[Cell], address: str, jobs: int | None, timeout: float | None
) -> Iterator[tuple[Cell, str]]:
    """Yield (cell, reason) as cells end.

    A worker runs one cell and ends, so every cell has its own process here, too.
    """
    with _cluster(address, jobs) as ray:
        options = {"num_cpus": 1, "max_retries": RETRIES, "max_calls": 1}
        task = ray.remote(**options)(_in_worker)
        waiting = {task.options(name=cell.name).remote(cell, timeout): cell for cell in cells}
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            try:
                reason = ray.get(ready)
            except ray.exceptions.RayError as error:
                reason = (
                    f"{type(error).__name__}: its worker died {RETRIES + 1} times"
                    if isinstance(error, ray.exceptions.WorkerCrashedError)
                    else first_line(error)
                )
            yield waiting.pop(ready), reason


def _in_worker(cell: Cell, timeout: float | None) -> str:
    import torch

    os.environ.update(ONE_THREAD)
    torch.set_num_threads(1)
    return run_cell(cell, timeout)


@contextmanager
def _cluster(address: str, jobs: int | None) -> Generator[ModuleType]:
    """Yield the module ray, connected to the cluster.

    Raises SdlabError when Ray is not installed and when no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise SdlabError('Ray is not installed; run `pip install "sdlab[ray]"`, or leave --ray out') from None
    if address not in ("auto", "local"):
        _check_answer(address)
    here = {"num_cpus": jobs or usable_cores(), "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **here)
    except Exception as error:  # no cluster, another version of Ray or Python there, ...
        raise SdlabError(
            f"could not join the Ray cluster {address!r}: {first_line(error)}; "
            "start one with `ray start --head`, or leave --ray out"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()  # also ends the tasks that still run


def _check_answer(address: str) -> None:
    """Raise SdlabError unless a Ray head answers at the address.

    ray.init itself would wait for minutes, or end the process.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise SdlabError(
            f"the Ray address {address!r} is not allowed; "
            "give HOST:PORT of the cluster's head, auto, or local"
        )
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address],
            check=True,
            capture_output=True,
            timeout=ANSWER,
        )
    except (OSError, OverflowError, subprocess.SubprocessError) as error:
        why = getattr(error, "strerror", None) or "another program, or another version of Ray, is there"
        raise SdlabError(
            f"no Ray cluster answers at {address!r} ({why}); "
            "start one with `ray start --head`, or leave --ray out"
        ) from None
