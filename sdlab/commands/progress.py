"""The progress bar of commands that count steps."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


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
