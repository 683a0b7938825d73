"""A board that is redrawn during training, and the button that stops the training."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from sdlab.show.progress import in_notebook, is_headless, show_in_place
from sdlab.show.view import View, render, to_html

if TYPE_CHECKING:
    from IPython.display import DisplayHandle


class LiveBoard:
    """Small multiples that are redrawn during training: `board.update({"step": 3, "reward": 0.41, ...})`.

    `columns`: the entries of a row to draw. It redraws at most every `interval` seconds, and once
    more at the end of the cell or at `close()`, so the last row is never missing. Headless, where nobody
    watches, it draws at the end only. `board.rows` holds the rows. `steps`: how many there will be, for "step
    3 of 40". `baseline`: the untrained model's value of some columns, drawn as a dashed line.

    In an interactive notebook there is a stop button under the board until the cell ends. The next `update`
    after a press raises KeyboardInterrupt; every training loop of sdlab then returns the finished steps and
    leaves a complete run folder.
    """

    def __init__(
        self,
        columns: Sequence[str] = ("reward", "length", "markers"),
        *,
        title: str = "Training",
        step: str = "step",
        steps: int | None = None,
        baseline: Mapping[str, float] | None = None,
        interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        show: Callable[[View], object] | None = None,
    ) -> None:
        self.columns, self.title, self.step, self.clock, self._show = tuple(columns), title, step, clock, show
        self.steps, self.baseline, self.is_stopped = steps, dict(baseline or {}), False
        self.interval = math.inf if show is None and is_headless() else interval
        self.rows: list[dict[str, Any]] = []
        self._drawn: float | None = None
        self._handle: DisplayHandle | None = None
        self._hooked: Any = None  # IPython's events, while this board closes at the end of the cell
        self._stop: StopButton | None = None
        self._pending = False
        self._first = 0

    def update(self, row: dict[str, Any]) -> None:
        """Add one row (a dict with the step and any of the columns) and redraw if the interval has passed.

        Raises KeyboardInterrupt when the stop button was pressed; this row is kept and drawn.
        """
        self.rows.append(dict(row))
        self._pending = True
        if self._hooked is None and self._show is None and in_notebook():
            self._begin()
        now = self.clock()
        if self.interval < math.inf and (self._drawn is None or now - self._drawn >= self.interval):
            self._draw(now)
        if self._stop is not None:
            if self._stop.pressed.is_set():
                self.is_stopped = self._pending = True  # the last picture says where the reader stopped
                self.close()
                raise KeyboardInterrupt(f"{self.title} was stopped by hand")
            # One step after the button was created the page has a connection to the kernel for it.
            if len(self.rows) > self._first:
                self._stop.show()

    def close(self, *_: Any) -> None:
        """Draw the remaining rows and remove the button. IPython also calls this at the end of the cell."""
        if self._pending:
            self._draw(self.clock())
        if self._stop is not None:
            self._stop.close()
            self._stop = None
        if self._hooked is not None:
            self._hooked.unregister("post_run_cell", self.close)
            self._hooked = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def view(self) -> View:
        """Return the board as a picture, with the latest numbers as text below it."""
        import pandas as pd

        from sdlab.charts.style import METRIC_LABELS, number
        from sdlab.charts.training import training_curves

        last = self.rows[-1]
        drawn = [name for name in self.columns if any(row.get(name) is not None for row in self.rows)]
        words = ", ".join(
            f"{METRIC_LABELS.get(name, name)} {number(float(last[name]))}"
            for name in drawn
            if last.get(name) is not None
        )
        line = f"{self.title}, {self._place(last)}: {words}"
        if not drawn:
            return View(render("caption.html", view="", caption=line), line)
        frame = pd.DataFrame(self.rows)
        if "method" not in frame:
            frame["method"] = self.title
        chart = training_curves(
            frame,
            drawn,
            step=self.step,
            title=self._headline(drawn[0]),
            baseline=self.baseline,
            columns=4,
            width=190,
        )
        return View(render("caption.html", view=View(to_html(chart)), caption=line), line)

    def _headline(self, metric: str) -> str:
        """Return the chart's title: the first and the last value of its first metric."""
        from sdlab.charts.style import METRIC_LABELS, number

        values = [float(row[metric]) for row in self.rows if row.get(metric) is not None]
        label = METRIC_LABELS.get(metric, metric)
        if len(values) < 2:
            return f"{self.title}: {label} {number(values[0])}"
        return f"{self.title}: {label} {number(values[0])} at the first step, {number(values[-1])} now"

    def _place(self, last: Mapping[str, Any]) -> str:
        """Return where the training is: "step 3 of 40", with a remark where the reader stopped it."""
        step = last.get(self.step)
        if self.steps is None or step is None:
            place = f"{self.step} {step}"
        else:
            place = f"{self.step} {int(step) + 1} of {self.steps}"
        return place + (", stopped by you here" if self.is_stopped else "")

    def _draw(self, now: float) -> None:
        self._drawn, self._pending = now, False
        if self._show is not None:
            self._show(self.view())
        elif in_notebook():
            self._handle = show_in_place(self.view(), self._handle)

    def _begin(self) -> None:
        """In a new cell: close at its end, and create a button if a reader can press it."""
        from IPython import get_ipython

        shell: Any = get_ipython()
        self._hooked = shell.events
        self._hooked.register("post_run_cell", self.close)
        if is_run_by_a_reader():
            self._stop, self._first = StopButton(self.title), len(self.rows)


def is_run_by_a_reader() -> bool:
    """Return whether a page with cells started this run.

    Such a page sends the id of the cell; nbclient (papermill, nbconvert) does not.
    """
    if is_headless():
        return False
    from IPython import get_ipython

    shell: Any = get_ipython()
    return bool(shell.kernel.get_parent().get("metadata", {}).get("cellId"))


class StopButton:
    """A button that can be pressed while its cell is running: sets `pressed`, a threading.Event.

    A running cell keeps the kernel's main thread busy. A press therefore arrives only where the page sends
    widget messages to a *subshell*, another thread of the kernel (JEP 91; the default of ipykernel 7 with
    JupyterLab 4.4). The button tests this. It is first on the page invisibly, and the page reports its view
    (`_view_count`). The button appears only when that report arrives while the cell is running. Without a
    subshell it never appears, so there is no button that does not work.
    """

    def __init__(self, title: str) -> None:
        import ipywidgets

        self.pressed = threading.Event()
        self._handles: list[DisplayHandle | None] = []
        self._is_reported, self._is_over = False, False
        self._button = ipywidgets.Button(
            description="Stop after this step",
            tooltip=f"Stop {title}: the finished steps are kept",
            layout={"display": "none", "width": "auto", "margin": "4px 0"},
        )
        self._button._view_count = 0  # not None: the page reports how often the button is on it
        # ipykernel 7.4 sends the replies to a widget of the main thread to the main thread, which is busy.
        comm: Any = self._button.comm
        if hasattr(comm, "_reply_subshell_for"):
            comm._reply_subshell_for = lambda data, chosen_by_the_page: chosen_by_the_page
        self._button.observe(self._view_reported, names="_view_count")
        self._button.on_click(self._press)

    def show(self) -> None:
        """Show the button under the output of the cell so far; a second call does nothing."""
        if not self._handles:
            from IPython.display import display

            from sdlab.show.widgets import leave_keys

            self._handles = [display(self._button, display_id=True), leave_keys(back=True)]

    def _view_reported(self, change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        self._is_reported = True
        if self._is_over:
            self._end()
        else:
            self._button.layout.display = "inline-block"

    def _press(self, _: Any) -> None:
        self.pressed.set()
        self._button.disabled, self._button.description = True, "Stopping ..."

    def close(self) -> None:
        """Remove the button from the page and from the saved output."""
        self._is_over, self._button._view_count = True, None  # the page does not report its removal
        for handle in self._handles:
            if handle is not None:
                handle.update({"text/plain": ""}, raw=True)
        # Otherwise a report is still coming, and the kernel would warn that no widget receives it.
        if self._is_reported or not self._handles:
            self._end()

    def _end(self) -> None:
        for part in (self._button, self._button.layout, self._button.style):
            part.close()
