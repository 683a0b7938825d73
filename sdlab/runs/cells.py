"""Many training runs: each in a process of its own with one thread, on this machine or as tasks of a Ray cluster; a failed one stops no other.

A cell is one run with its run folder. The folder makes everything repeatable: its lock lets one process write at a time, its
finished marker says that nothing is left to do, and a cell that was killed goes on from its last step.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from _thread import interrupt_main
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sdlab import paths
from sdlab.errors import SdlabError, first_line
from sdlab.files import to_json, write_atomic
from sdlab.provenance import granted_cores, peak_memory_mb
from sdlab.runs.files import read_about
from sdlab.runs.folder import defaults
from sdlab.runs.training import METHODS, Plan, train
from sdlab.settings import Count, Positive, checked
from sdlab.train.config import TrainConfig

ONE_THREAD = {"OMP_NUM_THREADS": "1", "CPU_LIMIT": "1"}
RETRIES = 3  # how often Ray starts a cell again whose worker died
ANSWER = 30.0  # seconds a Ray cluster has to answer
OUTCOME = "outcome.json"  # in a finished cell's run folder: what the run itself does not write down


@dataclass(frozen=True)
class Cell:
    """One training run: what `sdlab.runs.training.train` takes, and a name to report it by."""

    name: str
    folder: Path
    method: str
    config: TrainConfig
    plan: Plan = Plan()
    model: str = "organism"


def is_done(cell: Cell) -> bool:
    """Whether the cell's folder holds its finished run: of the same method, model and settings."""
    if not (cell.folder / "finished.json").is_file():
        return False
    there = read_about(cell.folder)
    same = (there["method"], there["model"]) == (cell.method, cell.model)
    for part, wanted in (("config", cell.config), ("settings", cell.plan)):
        same = same and defaults(wanted) | there[part] == json.loads(json.dumps(asdict(wanted)))
    return same


def run_cell(cell: Cell, timeout: float | None = None) -> str:
    """Run a cell in this process, or go on with it; a finished one is left alone. Returns why it failed, in one line, or "".

    Beside the run's own files it leaves outcome.json: seconds (wall time of the process that finished it, loading and
    evaluation included) and peak_memory_mb (MiB) of this process. timeout: seconds after which it is interrupted.
    """
    began, alarm = time.perf_counter(), threading.Timer(timeout or 0, interrupt_main)
    alarm.daemon = True
    try:
        if is_done(cell):
            return ""
        if timeout:
            with suppress(ValueError):  # not the main thread
                signal.signal(
                    signal.SIGINT, signal.default_int_handler
                )  # what a shell starts in the background ignores interrupts
            alarm.start()
        run = train(cell.method, cell.config, cell.folder, cell.plan, model=cell.model)
        if not run.finished:
            return _stopped(timeout) if timeout and time.perf_counter() - began >= timeout else "interrupted"
        write_atomic(
            cell.folder / OUTCOME,
            to_json({"seconds": round(time.perf_counter() - began, 3), "peak_memory_mb": peak_memory_mb()})
            + "\n",
        )
    except KeyboardInterrupt:
        return _stopped(timeout) if timeout and time.perf_counter() - began >= timeout else "interrupted"
    except SdlabError as error:
        return str(error)
    except Exception as error:  # whatever it is, the other cells do not suffer from it
        return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
    finally:
        alarm.cancel()
    return ""


@checked
def run_cells(
    cells: Sequence[Cell],
    *,
    jobs: Count | None = None,
    ray: str | None = None,
    timeout: Positive | None = None,
    on_done: Callable[[Cell, str], None] | None = None,
) -> dict[str, str]:
    """Run the cells that are not finished, in this order; returns {name: reason} of those that failed.

    jobs: processes at once on this machine, one thread each (default: one per core it grants). ray: the address HOST:PORT of a
    Ray cluster that this machine is part of, "auto" for the one running here, "local" to start one with `jobs` cores for the
    time being; its machines must share the folders and have sdlab installed. A cell whose Ray worker dies is started again
    and goes on. timeout: seconds a cell may take. on_done(cell, reason) is called as each ends, with "" for success.
    Ctrl-C stops what runs; every folder can go on. Raises SdlabError for bad arguments and a cluster that does not answer.
    """
    if jobs and ray not in (None, "local"):
        raise SdlabError(
            f"jobs={jobs} is for this machine alone; the Ray cluster {ray} has as many at once as it has cores"
        )
    waiting, failed = [cell for cell in cells if not _left_alone(cell)], {}
    ended = _on_ray(waiting, ray, jobs, timeout) if ray else _here(waiting, jobs or _cores(), timeout)
    for cell, reason in ended:
        if reason:
            failed[cell.name] = reason
        if on_done:
            on_done(cell, reason)
    return failed


def _left_alone(cell: Cell) -> bool:
    with suppress(SdlabError):  # told when the cell is run
        return is_done(cell)
    return False


# On this machine.


def _here(cells: Sequence[Cell], jobs: int, timeout: float | None):
    """Yields (cell, reason) as cells end."""
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
    """A cell in a process of its own. It ends when this process does, however that happens: its standard input is then closed."""

    def __init__(self, cell: Cell, timeout: float | None):
        self.cell, self.timeout, self.began, self.late = cell, timeout, time.monotonic(), False
        self.said = tempfile.TemporaryFile()
        command = [sys.executable, "-c", "from sdlab.runs.cells import child; child()", _to_text(cell)]
        # a session of its own: Ctrl-C reaches the parent, which stops its children
        options = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.DEVNULL,
            "stderr": self.said,
            "start_new_session": True,
        }
        self.process = subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, **options)

    def ended(self) -> bool:
        if self.timeout and time.monotonic() - self.began > self.timeout and self.process.poll() is None:
            self.stop()
            self.late = True
        return self.process.poll() is not None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def reason(self) -> str:
        self.process.stdin.close()
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        self.said.close()
        status = self.process.returncode
        if status == 0:
            return ""
        if self.late:
            return _stopped(self.timeout)
        if status < 0:
            name = signal.Signals(-status).name
            return f"killed by {name}{' (was the memory full?)' if name == 'SIGKILL' else ''}; the same sweep goes on with it"
        return lines[-1] if lines else f"ended with status {status} and no message"


def child() -> None:
    """What a cell's process runs; the cell is its first argument. The reason of a failure is the last line it says."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reason = run_cell(_from_text(sys.argv[1]))
    if reason:
        print(reason, file=sys.stderr, flush=True)
    os._exit(1 if reason else 0)  # no teardown of torch, which a closing standard input could cross


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def _to_text(cell: Cell) -> str:
    return json.dumps({**asdict(cell), "folder": str(cell.folder)})


def _from_text(text: str) -> Cell:
    about = json.loads(text)
    config, plan = (
        {name: tuple(value) if isinstance(value, list) else value for name, value in about[part].items()}
        for part in ("config", "plan")
    )
    return Cell(
        **about
        | {
            "folder": Path(about["folder"]),
            "config": METHODS[about["method"]](**config),
            "plan": Plan(**plan),
        }
    )


def _stopped(timeout: float) -> str:
    return f"stopped after {timeout:g} s (timeout); with more time the same sweep goes on with it"


def _cores() -> int:
    granted = granted_cores() or 1
    return min(paths.cpu_limit() or granted, granted)


# On a Ray cluster.


def _on_ray(cells: Sequence[Cell], address: str, jobs: int | None, timeout: float | None):
    """Yields (cell, reason) as cells end. A worker runs one cell and ends, so every cell has a process of its own here, too."""
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
def _cluster(address: str, jobs: int | None):
    """The module ray, connected. Raises SdlabError when it is not installed or nobody answers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise SdlabError('Ray is not installed; run `pip install "sdlab[ray]"`, or leave --ray out') from None
    if address not in ("auto", "local"):
        _check_answer(address)
    here = {"num_cpus": jobs or _cores(), "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **here)
    except Exception as error:  # no cluster, another version of Ray or Python there, ...
        raise SdlabError(
            f"could not join the Ray cluster {address!r}: {first_line(error)}; start one with `ray start --head`, or leave --ray out"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()  # the tasks that still run end with it


def _check_answer(address: str) -> None:
    """Raise SdlabError unless a Ray head answers there: ray.init itself waits for minutes, or ends the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise SdlabError(
            f"the Ray address {address!r} is not allowed; give HOST:PORT of the cluster's head, auto, or local"
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
        why = (
            getattr(error, "strerror", None) or "something else than Ray, or another version of it, is there"
        )
        raise SdlabError(
            f"no Ray cluster answers at {address!r} ({why}); start one with `ray start --head`, or leave --ray out"
        ) from None
