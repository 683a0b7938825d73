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
from sdlab.text.chat_template import template_record
from sdlab.train.config import TrainConfig

OUTCOME = "outcome.json"  # in a finished cell's run folder: time and memory


@dataclass(frozen=True)
class Cell:
    """One training run: the arguments of `sdlab.runs.training.train`, and a name for reports."""

    name: str
    folder: Path
    method: str
    config: TrainConfig
    plan: Plan = Plan()
    model: str = "organism"


def is_done(cell: Cell) -> bool:
    """Return whether the cell's folder holds its finished run.

    The run must have the same method, model and settings.
    """
    if not (cell.folder / "finished.json").is_file():
        return False
    there = read_about(cell.folder)
    same = (there["method"], there["model"]) == (cell.method, cell.model)
    for part, wanted in (("config", cell.config), ("settings", cell.plan)):
        same = same and defaults(wanted) | there[part] == json.loads(json.dumps(asdict(wanted)))
    origin, template = there["provenance"], template_record(cell.plan.chat_template)
    same = same and origin.get("chat_template") == template
    return same and (cell.plan.problems is None or origin.get("problems") == cell.plan.record())


def run_cell(cell: Cell, timeout: float | None = None) -> str:
    """Run or resume a cell in this process and return the reason of its failure in one line, or "".

    A finished cell is not run again. In addition to the run's own files it writes outcome.json: seconds (wall
    time of the process that finished the run, with loading and evaluation) and peak_memory_mb (MiB) of this
    process. timeout: the cell is interrupted after so many seconds.
    """
    began, alarm = time.perf_counter(), threading.Timer(timeout or 0, interrupt_main)
    alarm.daemon = True
    try:
        if is_done(cell):
            return ""
        if timeout:
            with suppress(ValueError):  # not the main thread
                # A process that a shell starts in the background ignores interrupts.
                signal.signal(signal.SIGINT, signal.default_int_handler)
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
    except Exception as error:  # any error: the other cells must still run
        return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
    finally:
        alarm.cancel()
    return ""


def timeout_message(timeout: float) -> str:
    """Return the reason of a cell that took longer than `timeout` seconds."""
    return f"stopped after {timeout:g} s (timeout); run the same sweep with more time to resume the cell"
