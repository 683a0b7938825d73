"""Progress that is drawn in place: a thin bar while something runs, one line when it is done.

A notebook uses one display handle, so the saved output and exported HTML show the last state.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from sdlab.show.view import View, render

if TYPE_CHECKING:
    from IPython.display import DisplayHandle
    from rich.progress import Progress, TaskID


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def is_headless() -> bool:
    """Return whether no reader can watch or click: no kernel, or SDLAB_HEADLESS=1 (set by the executor)."""
    return os.environ.get("SDLAB_HEADLESS", "") not in ("", "0") or not in_notebook()


class Board:
    """A progress bar: call it as `board(done, total)`; every long function of sdlab accepts it as `progress`.

    It draws at most every `interval` seconds, and always at the end. `surface`: where it draws, "notebook",
    "terminal" (rich) or "none"; None chooses one. Headless notebooks show the final line only. Use it as a
    context manager, or it finishes by itself at `done == total`. When `done` falls, a new stage with a new
    clock begins.
    """

    def __init__(
        self,
        label: str,
        unit: str = "",
        *,
        interval: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
        surface: str | None = None,
        show: Callable[[View], object] | None = None,
    ) -> None:
        self.label, self.unit, self.interval, self.clock = label, unit, interval, clock
        if surface is None:
            surface = "notebook" if in_notebook() else "terminal" if sys.stderr.isatty() else "none"
        self.surface, self._show = surface, show
        self._quiet = surface == "notebook" and show is None and is_headless()
        self._handle: DisplayHandle | None = None
        self._rich: Progress | None = None
        self._task: TaskID | None = None
        self._entered: float | None = None
        self._start: float | None = None
        self._drawn: float | None = None
        self.done, self.total, self.finished, self.seconds = 0, 0, False, 0.0

    def __call__(self, done: int, total: int) -> None:
        now = self.clock()
        if self._start is None or done < self.done:
            start = self._entered if self._start is None and self._entered is not None else now
            self._start, self._drawn = start, None
        self.done, self.total, self.finished = done, total, bool(total) and done >= total
        self.seconds = now - self._start
        if self.finished or self._drawn is None or now - self._drawn >= self.interval:
            self._drawn = now
            if not self._quiet or self.finished:
                self._draw()

    def close(self) -> None:
        """Draw the last state and stop; a second call does nothing."""
        if self._start is not None and not self.finished:
            self.seconds = self.clock() - self._start
            self.finished = True
            self._draw()
        if self._rich is not None:
            self._rich.stop()
            self._rich = None

    def __enter__(self) -> Self:
        self._entered = self.clock()  # for work that reports only once, at its end
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def words(self) -> str:
        """Return the state in one line: "sampling: 128 of 256 rows, 41 rows/s"."""
        unit = f" {self.unit}" if self.unit else ""
        of = f" of {self.total:,}" if self.total else ""
        text = f"{self.label}: {self.done:,}{of}{unit}"
        if self.finished:
            text += f" in {self.seconds:.1f} s"
        if self.seconds > 0 and self.done:
            text += f", {_rate(self.done / self.seconds)}{unit}/s"
        return text

    def view(self) -> View:
        """Return the board as HTML: bar and line while running, only the line at the end."""
        html = render(
            "progress.html",
            label=self.label,
            done=self.done,
            total=self.total,
            share=f"{100 * self.done / self.total if self.total else 0:.1f}",
            finished=self.finished,
            words=self.words,
        )
        return View(html, self.words)

    def _draw(self) -> None:
        if self._show is not None:
            self._show(self.view())
        elif self.surface == "notebook":
            self._handle = show_in_place(self.view(), self._handle)
        elif self.surface == "terminal":
            self._draw_terminal()

    def _draw_terminal(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        if self._rich is None and self._task is None:
            self._rich = Progress(
                TextColumn("{task.fields[words]}"),
                BarColumn(bar_width=30),
                transient=True,
                console=Console(stderr=True),
            )
            self._rich.start()
            self._task = self._rich.add_task(self.label, total=self.total or None, words=self.words)
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=self.done, total=self.total or None, words=self.words)
            if self.finished:
                self._rich.stop()
                self._rich.console.print(self.words, highlight=False, markup=False)
                self._rich = self._task = None


def progress(label: str, unit: str = "") -> Board:
    """Return a progress hook: `engine.generate(prompts, params, progress=progress("sampling", "tokens"))`."""
    return Board(label, unit)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def show_in_place(view: View, handle: DisplayHandle | None = None) -> DisplayHandle | None:
    """Display `view`, or redraw the `handle` of an earlier call; return the handle."""
    from IPython.display import display

    if handle is None:
        return display(view, display_id=True)
    handle.update(view)
    return handle
