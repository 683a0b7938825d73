"""Progress that is drawn in place: a thin bar while something runs, one line when it is done.

A notebook uses one display handle, so the saved output is the last state, in exported HTML too.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Self

from sdlab.show.view import View, render


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def is_headless() -> bool:
    """Return whether nobody can click or watch: SDLAB_HEADLESS=1 (set by sdlab's executor), or no kernel."""
    return os.environ.get("SDLAB_HEADLESS", "") not in ("", "0") or not in_notebook()


class Board:
    """A bar for one task: call it as `board(done, total)`, the hook of every long function of sdlab.

    Draws at most every `interval` seconds, at the end always. `surface` is what it draws on: "notebook",
    "terminal" (rich) or "none"; None finds out. Headless notebooks get the final line only. Use as a context
    manager, or let it finish by itself at `done == total`; a second stage on the same board starts a new
    clock.
    """

    def __init__(
        self,
        label: str,
        unit: str = "",
        *,
        interval: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
        surface: str | None = None,
        show: Callable | None = None,
    ):
        self.label, self.unit, self.interval, self.clock = label, unit, interval, clock
        if surface is None:
            surface = "notebook" if in_notebook() else "terminal" if sys.stderr.isatty() else "none"
        self.surface, self._show = surface, show
        self._quiet = surface == "notebook" and show is None and is_headless()
        self._handle = self._rich = self._task = None
        self._entered = self._start = self._drawn = None
        self.done, self.total, self.finished = 0, 0, False

    def __call__(self, done: int, total: int) -> None:
        now = self.clock()
        if self._start is None or done < self.done:
            first = self._start is None and self._entered is not None
            self._start, self._drawn = self._entered if first else now, None
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
        self._entered = self.clock()  # work that reports only once, at its end, has taken time, too
        return self

    def __exit__(self, *_) -> None:
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
        """Return the board as HTML: bar and line while running, the line alone at the end."""
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
        if self._rich is not None:
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


def show_in_place(view: View, handle=None):
    """Display `view`, or redraw the `handle` of an earlier call; return the handle."""
    from IPython.display import display

    if handle is None:
        return display(view, display_id=True)
    handle.update(view)
    return handle
