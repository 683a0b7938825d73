"""Draw, then reveal: ask the reader for the curve that a result will have, and draw the result over it.

    curve = draw_guess("The score along the training?", [0, 10, 20, 30], (0, 1), x_title="step")
    ...
    curve.answer = [0.31, 0.42, 0.55, 0.58]

The reader draws with a mouse, a finger or the arrow keys, and the page keeps the curve in the browser's
localStorage, like every other guess. The numbers of the result lie in a <details>. Only the drawing needs
scripts: without them, in print and for a screen reader the question and the result are complete.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sdlab.errors import SdlabError
from sdlab.show.guesses import ASKED
from sdlab.show.progress import show_in_place
from sdlab.show.view import View, render

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 30, 46  # margins around the axes
STEPS, TICKS = 20, 5  # about that many key presses and ticks from the bottom of the axis to its top
LEVEL = 0.05  # of the axis: a curve whose ends differ by no more "stays level"


class Drawing:
    """One curve for the reader to draw at the positions `xs`, and its `answer` when it is known.

    Setting `answer` redraws the question with its result.
    """

    def __init__(
        self,
        question: str,
        xs: Sequence[float],
        y_range: tuple[float, float],
        *,
        x_title: str = "",
        y_title: str = "",
        log_x: bool = False,
    ) -> None:
        self.question, self.x_title, self.y_title, self.log_x = question, x_title, y_title, log_x
        self.xs = _positions(question, xs, log_x)
        self.y_range = _range(question, y_range)
        # The same question keeps its name, so a curve stays when the notebook runs again.
        about = json.dumps([question, self.xs, self.y_range, log_x])
        self.name = "guess" + sha256(about.encode()).hexdigest()[:10]
        self.step = _round_step((self.y_range[1] - self.y_range[0]) / STEPS)
        self.digits = max(0, -math.floor(math.log10(self.step)))
        self._answer: tuple[float, ...] | None = None
        self._handle: DisplayHandle | None = None
        ASKED[self.name] = self

    @property
    def answer(self) -> tuple[float, ...] | None:
        """The values of the result at `xs`; None as long as they are not known."""
        return self._answer

    @answer.setter
    def answer(self, answer: Sequence[float]) -> None:
        values = _numbers(answer)
        if values is None or len(values) != len(self.xs):
            raise SdlabError(
                f"the answer of {self.question!r} is {_short(answer)}; it must be {len(self.xs)} finite "
                f"numbers, one for each of {_short(self.xs)}; leave it unset when the result is incomplete"
            )
        self._answer = values
        self.draw()

    @property
    def result(self) -> str:
        """The result in a few words: "rises from 0.31 to 0.58"; "" as long as it is not known."""
        if self._answer is None:
            return ""
        first, last = self._answer[0], self._answer[-1]
        way = "stays level" if abs(last - first) <= self._small else "rises" if last > first else "falls"
        return f"{way} from {first:.{self.digits}f} to {last:.{self.digits}f}"

    def spec(self) -> dict[str, Any]:
        """Return what the page's script needs: the scales, the step of a key, and the answer."""
        low, high = self._axis()
        return {
            "name": self.name,
            "x": [round(x, 2) for x in self._across()],
            "min": self.y_range[0], "max": self.y_range[1],  # of what can be drawn
            "low": low, "high": high,  # of the axis
            "top": TOP, "tall": HEIGHT - TOP - BOTTOM,
            "step": self.step, "digits": self.digits,
            "small": self._small,
            "answer": self._answer,
        }  # fmt: skip

    def view(self) -> View:
        """Return the question with its axes, and with the folded result when there is one."""
        spec = self.spec()
        labels = [f"{x:,.10g}" for x in self.xs]
        low, high = (f"{end:,.10g}" for end in self.y_range)
        values = [f"{value:.{self.digits}f}" for value in self._answer or ()]
        html = render(
            "drawing.html",
            drawing=self,
            spec=spec,
            points=list(zip(labels, spec["x"], strict=True)),
            ticks=[(f"{tick:,.10g}", self._height(tick)) for tick in _ticks(*self._axis())],
            result=[(x, self._height(y)) for x, y in zip(spec["x"], self._answer or (), strict=False)],
            values=values,
            box={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP,
                 "bottom": HEIGHT - BOTTOM, "middle": self._height(sum(self.y_range) / 2)},
            ends=(low, high),
        )  # fmt: skip
        x, y = self.x_title or "x", self.y_title or "y"
        lines = [f"Predict first: {self.question}", f"Draw {y} ({low} to {high}) at {x}: {', '.join(labels)}"]
        if values:
            pairs = "; ".join(f"{label}: {value}" for label, value in zip(labels, values, strict=True))
            lines += [f"Result: {self.result}", pairs]
        return View(html, "\n".join(lines))

    def row(self) -> View:
        """Return the question and its result as a row of the summary, and as a line of text."""
        html = render("drawing_row.html", drawing=self, spec=self.spec())
        return View(html, f"{self.question} Result: {self.result}")

    def draw(self) -> None:
        """Display the question in this cell, or redraw it where it was displayed."""
        self._handle = show_in_place(self.view(), self._handle)

    @property
    def _small(self) -> float:
        """The largest change that leaves a curve level, with room for rounding."""
        return LEVEL * (self.y_range[1] - self.y_range[0]) * (1 + 1e-9)

    def _axis(self) -> tuple[float, float]:
        """Return the ends of the vertical axis: those of `y_range`, or a tick outside the result."""
        values = (*self.y_range, *(self._answer or ()))
        low, high = min(values), max(values)
        tick = _round_step((high - low) / TICKS)
        return (
            low if low == self.y_range[0] else math.floor(low / tick) * tick,
            high if high == self.y_range[1] else math.ceil(high / tick) * tick,
        )

    def _across(self) -> list[float]:
        """Return the horizontal place of each point in the picture."""
        scaled = [math.log(x) for x in self.xs] if self.log_x else list(self.xs)
        inside = (LEFT + 14, WIDTH - RIGHT - 14)
        share = [(x - scaled[0]) / (scaled[-1] - scaled[0]) for x in scaled]
        return [inside[0] + part * (inside[1] - inside[0]) for part in share]

    def _height(self, value: float) -> float:
        """Return the vertical place of a value in the picture."""
        low, high = self._axis()
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 2)


def draw_guess(
    question: str,
    xs: Sequence[float],
    y_range: tuple[float, float],
    *,
    x_title: str = "",
    y_title: str = "",
    log_x: bool = False,
) -> Drawing:
    """Ask the reader to draw a curve in this cell, and return it; a later cell sets its `.answer`.

    `xs`: the positions of the points, in increasing order; four to eight are easy to draw.
    `y_range`: the ends of the vertical axis. `x_title`, `y_title`: the quantities on the axes, with units.
    `log_x`: a logarithmic horizontal axis, for numbers of problems such as 1, 8, 64.
    `.answer` takes the values of the result at `xs`. A value outside `y_range` makes the axis longer.

    Raises SdlabError when `xs` are not two or more increasing finite numbers, when `y_range` does not
    increase, and when an answer has another length or a value that is not finite.
    """
    drawing = Drawing(question, xs, y_range, x_title=x_title, y_title=y_title, log_x=log_x)
    drawing.draw()
    return drawing


def _positions(question: str, xs: Sequence[float], log_x: bool) -> tuple[float, ...]:
    numbers = _numbers(xs)
    if numbers is None or len(numbers) < 2 or any(b <= a for a, b in pairwise(numbers)):
        raise SdlabError(
            f"xs of {question!r} are {_short(xs)}; they must be two or more finite, increasing numbers; "
            f"give the positions at which the result is known"
        )
    if log_x and numbers[0] <= 0:
        raise SdlabError(
            f"xs of {question!r} begin with {numbers[0]:g}; a logarithmic axis needs numbers above 0; "
            f"leave that position out, or set log_x=False"
        )
    return numbers


def _range(question: str, y_range: Sequence[float]) -> tuple[float, float]:
    ends = _numbers(y_range)
    if ends is None or len(ends) != 2 or not ends[0] < ends[1]:
        raise SdlabError(
            f"y_range of {question!r} is {_short(y_range)}; it must be two finite, increasing numbers; "
            f"for a score give (0, 1)"
        )
    return ends[0], ends[1]


def _numbers(values: Any) -> tuple[float, ...] | None:
    """Return finite numbers as floats, or None when `values` are something else."""
    try:
        numbers = tuple(float(value) for value in values if not isinstance(value, str))
        return numbers if len(numbers) == len(values) and all(map(math.isfinite, numbers)) else None
    except (TypeError, ValueError):
        return None


def _short(values: Any) -> str:
    """Return how an error shows `values`."""
    try:
        text = str([round(float(value), 6) for value in values])
    except (TypeError, ValueError):
        text = repr(values)
    return text if len(text) <= 100 else text[:97] + "..."


def _round_step(size: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above `size`."""
    power = 10.0 ** math.floor(math.log10(size) + 1e-9)
    return max(factor for factor in (1, 2, 5) if factor * power <= size * (1 + 1e-9)) * power


def _ticks(low: float, high: float) -> list[float]:
    step = _round_step((high - low) / TICKS)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
