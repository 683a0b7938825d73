"""Run the cells of a notebook in the sandbox and its tests outside, and stop a cell that reaches a limit."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlab.errors import SdlabError
from sdlab.labs.sandbox.answers import Stopped, names_for_tests, run_test
from sdlab.labs.sandbox.isolation import check_system
from sdlab.labs.sandbox.reduced import Rules, hidden_files
from sdlab.labs.sandbox.session import Limits, Session

if TYPE_CHECKING:
    from sdlab.labs.matching import Step

START_SECONDS = 120.0  # to import torch on a loaded machine
RESTARTS = 3


@dataclass
class Outcome:
    """The result of each step.

    `errors`: by the step's index in the plan (no entry: it worked). `problems`: lines on stopped
    cells. `closed_off`: the names of what was closed to the submission. `peak_mb`: the largest memory of one
    of its processes, in MB.
    """

    errors: dict[int, str] = field(default_factory=dict)
    passed: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    closed_off: tuple[str, ...] = ()
    peak_mb: float = 0.0


def run_steps(
    steps: Sequence[Step],
    imports: Sequence[str],
    hidden: list[Path],
    limits: Limits,
    rules: Rules | None = None,
) -> Outcome:
    """Run `steps` in order: tests in this process, all other cells in the process of the submission.

    A cell that has to be stopped is left out, and the others are run again in a fresh process. Where files
    are closed off, the submission cannot read the files and folders in `hidden`. `rules`: what it may use;
    None for all of sdlab. `imports`: the import statements of the lab, for its tests. Raises SdlabError where
    processes cannot be limited.
    """
    check_system()
    outcome = Outcome()
    if rules is not None:
        hidden = [*hidden, *hidden_files(rules)]
    left_out: set[int] = set()
    deadline = time.monotonic() + limits.timeout
    for _ in range(RESTARTS + 1):
        culprit = _once(steps, imports, hidden, limits, rules, deadline, left_out, outcome)
        if culprit is None:
            return outcome
        left_out.add(culprit)
        if time.monotonic() >= deadline:
            break
    for index, step in enumerate(steps):
        if step.kind == "test" and index not in outcome.passed:
            outcome.errors.setdefault(index, "not reached: the submission was stopped before")
    return outcome


def _once(
    steps: Sequence[Step],
    imports: Sequence[str],
    hidden: list[Path],
    limits: Limits,
    rules: Rules | None,
    deadline: float,
    left_out: set[int],
    outcome: Outcome,
) -> int | None:
    """Run the steps in one process; return the index of the step that ended it, None when all were run."""
    folder = Path(tempfile.mkdtemp(prefix="sdlab-lab-"))
    worker = None
    try:
        worker = Session(folder, hidden, limits, rules)
        ready = worker.reply("ready", min(deadline, time.monotonic() + START_SECONDS))
        if ready is None:
            raise SdlabError(
                f"the process for grading did not start ({worker.why}): {worker.tail()};"
                " give more --memory or check the installation with `python -m sdlab --help`"
            )
        outcome.closed_off = tuple(ready["closed_off"])
        names = names_for_tests(imports if any(step.kind == "test" for step in steps) else ())
        for index, step in enumerate(steps):
            if index in left_out or (step.kind == "test" and index in outcome.passed | set(outcome.errors)):
                continue  # it has its verdict
            worker.begin(max(0.1, min(limits.cell_timeout, deadline - time.monotonic())))
            try:
                if step.kind == "test":
                    asked = rules.asked if rules else ()
                    error, answer = run_test(step.code, names, asked, worker.ask, worker.family.cpu_seconds)
                else:
                    answer = worker.request(step.kind, code=step.code)
                    error = answer["error"]
                    if step.kind == "given":
                        exec(step.code, names)
            except Stopped:
                outcome.errors[index] = worker.why
                outcome.problems.append(f"{step.name}: {worker.why}; stopped")
                return index
            finally:
                outcome.peak_mb = max(outcome.peak_mb, worker.family.peak_mb)
            if error:
                outcome.errors[index] = error
            else:
                outcome.passed.add(index)
            if answer and answer["memory"]:
                outcome.problems.append(
                    f"{step.name}: needs more than the {limits.memory_mb} MB allowed; stopped"
                )
                return index
            if answer and answer["late"]:
                outcome.problems.append(f"{step.name}: {answer['error']}; stopped")
                if time.monotonic() >= deadline:
                    return index
        return None
    finally:
        if worker:
            worker.stop()
            outcome.peak_mb = max(outcome.peak_mb, worker.family.peak_mb)
        _remove(folder)


def _remove(folder: Path) -> None:
    def unlock(function: Callable[[str], object], path: str, _: Any) -> None:
        try:
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            function(path)
        except OSError:
            pass

    shutil.rmtree(folder, onerror=unlock)
