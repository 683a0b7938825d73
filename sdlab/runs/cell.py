"""One training run of a sweep, and its outcome."""

import json
import signal
import threading
import time
from _thread import interrupt_main
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sdlab.errors import SdlabError
from sdlab.files import to_json, write_atomic
from sdlab.provenance import peak_memory_mb
from sdlab.runs.files import read_about
from sdlab.runs.identity import defaults
from sdlab.runs.training import Plan, train
from sdlab.train.config import TrainConfig

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
            return (
                timeout_message(timeout)
                if timeout and time.perf_counter() - began >= timeout
                else "interrupted"
            )
        write_atomic(
            cell.folder / OUTCOME,
            to_json({"seconds": round(time.perf_counter() - began, 3), "peak_memory_mb": peak_memory_mb()})
            + "\n",
        )
    except KeyboardInterrupt:
        return (
            timeout_message(timeout) if timeout and time.perf_counter() - began >= timeout else "interrupted"
        )
    except SdlabError as error:
        return str(error)
    except Exception as error:  # whatever it is, the other cells do not suffer from it
        return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
    finally:
        alarm.cancel()
    return ""


def timeout_message(timeout: float) -> str:
    return f"stopped after {timeout:g} s (timeout); with more time the same sweep goes on with it"
