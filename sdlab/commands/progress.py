"""Progress of commands: bars on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdlab.rollout.forecast import clock

if TYPE_CHECKING:
    from rich.progress import Progress

FIRST_LINE, NEXT_LINES = 10.0, 60.0  # seconds until the first line, and between lines
# Share of the work after which the time left is estimated: rows that are sampled together end together, so
# the first of them say little.
KNOWN = 0.015


@dataclass
class _Task:
    """What the lines of one task need: its first report, its last one, and when the next line is due."""

    began: float
    first: int
    done: int
    due: float
    printed: bool = False


class LineProgress:
    """Progress as lines on stderr, for logs.

    The first line comes after ten seconds, then one a minute. A task that had a line also has one at its end.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, _Task] = {}
        self.due = time.monotonic() + FIRST_LINE  # of the first task, whose first report may come late

    def __call__(self, name: str, done: int, total: int | None, note: str = "") -> None:
        """Print a line when one is due.

        Tasks may begin in the middle, as a resumed training does: the time left is computed from the steps
        since the first report.
        """
        now = time.monotonic()
        task = self.tasks.get(name)
        if task is None or done < task.done:
            due = now + FIRST_LINE if self.tasks else self.due
            task = self.tasks[name] = _Task(now, done, done, due)
        ended = bool(total) and done >= total and task.printed and task.done < total
        task.done = done
        if not total or (now < task.due and not ended):
            return
        task.due, task.printed = now + NEXT_LINES, True
        known = task.first < done < total and done - task.first >= KNOWN * (total - task.first)
        left = (now - task.began) * (total - done) / (done - task.first) if known else 0.0
        words = [f"{name}: {done:,} of {total:,}", note, f"about {clock(left)} left" if known else ""]
        print(", ".join(word for word in words if word), file=sys.stderr, flush=True)

    def tell(self, message: str) -> None:
        """Print a message between the lines."""
        to_stderr(message)


class BarProgress:
    """Progress as bars of rich."""

    def __init__(self, board: "Progress") -> None:
        self.board, self.bars = board, {}

    def __call__(self, name: str, done: int, total: int | None, note: str = "") -> None:
        """Draw the bar `name`."""
        if name not in self.bars:
            self.bars[name] = self.board.add_task(name, total=total, note=note)
        self.board.update(self.bars[name], completed=done, total=total, note=note)

    def tell(self, message: str) -> None:
        """Print a message above the bars."""
        self.board.console.print(message, style="bold", soft_wrap=True, markup=False, highlight=False)


@contextmanager
def long_progress(keep: bool = False) -> "Iterator[LineProgress | BarProgress]":
    """Yield a function (name, done, total, note="") that shows progress, also where stderr is no terminal.

    Nothing goes to stdout, which is for results. keep: leave the bars on the terminal at the end; they
    disappear all the same when an error ends the work.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:  # the latter cannot redraw a line
        yield LineProgress()
        return
    columns = (
        TextColumn("{task.description}", markup=False),  # the name of a file may look like markup
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=not keep) as board:
        try:
            yield BarProgress(board)
        except BaseException:
            board.live.transient = True
            raise


def to_stderr(sentence: str) -> None:
    """Print a sentence about the work, apart from its results."""
    print(sentence, file=sys.stderr, flush=True)
