"""Progress of commands: bars on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdlab.rollout.forecast import clock

if TYPE_CHECKING:
    from rich.progress import Progress

FIRST_LINE, NEXT_LINES = 10.0, 60.0  # seconds until the first line, and between lines


class LineProgress:
    """Progress as lines on stderr, for logs: one after ten seconds, then one a minute, and the end."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.due: dict[str, float] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Print a line when one is due."""
        now = time.monotonic()
        began = self.began.setdefault(name, now)
        due = self.due.setdefault(name, now + FIRST_LINE)
        if now < due or not total:
            return
        self.due[name] = now + NEXT_LINES
        left = (now - began) * (total - done) / max(done, 1)
        more = f", about {clock(left)} left" if done < total else ""
        print(f"{name}: {done:,} of {total:,}{more}", file=sys.stderr, flush=True)


class BarProgress:
    """Progress as bars of rich."""

    def __init__(self, board: "Progress") -> None:
        self.board, self.bars = board, {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Draw the bar `name`."""
        if name not in self.bars:
            self.bars[name] = self.board.add_task(name, total=total)
        self.board.update(self.bars[name], completed=done, total=total)


@contextmanager
def long_progress() -> "Iterator[LineProgress | BarProgress]":
    """Yield a function (name, done, total) that shows progress, also where the output is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineProgress()
        return
    with Progress(console=console, transient=True) as board:
        yield BarProgress(board)


def to_stderr(sentence: str) -> None:
    """Print a sentence about the work, apart from its results."""
    print(sentence, file=sys.stderr, flush=True)


def step_progress() -> "Progress":
    """Return a progress board with the elapsed and the remaining time.

    Each task has a count, a bar and the field `note`.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description} {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
