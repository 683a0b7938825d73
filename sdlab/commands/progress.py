"""The progress bar of commands that count steps."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def step_progress() -> "Progress":
    """Return a progress board; each task has a count, a bar, the field `note` and the elapsed and remaining time."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description} {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
