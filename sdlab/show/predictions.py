"""Predict, then reveal: ask the reader for a guess, and fold the result until the reader opens it.

    with reveal("Which falls first?", ["markers", "score", "both"]) as guess:
        display(charts.training_curves(steps))
        guess.answer = first_to_fall(steps)

The question is a group of radio buttons, and the outputs of the block lie in a <details> below it. That works
without scripts and without a kernel: in an untrusted notebook, in the report, in print (which opens it) and
for a screen reader. Where scripts may run, the page keeps the guess in the browser's localStorage, so that
`guesses_summary()` at the end of a notebook can compare guesses with results. `draw_guess` asks for a curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError
from sdlab.findings.before_after import direction
from sdlab.measure.comparison import Comparison
from sdlab.measure.crossed import Difference
from sdlab.show.captured import Captured, as_view
from sdlab.show.guesses import ASKED
from sdlab.show.progress import show_in_place
from sdlab.show.view import View, render

if TYPE_CHECKING:
    from IPython.display import DisplayHandle


class Guess:
    """One question for the reader, its `options`, and its `answer` when it is known.

    Setting `answer` redraws the question with its result.
    """

    def __init__(self, question: str, options: Sequence[str] = ()) -> None:
        self.question, self.options = question, tuple(options)
        if len(self.options) == 1 or len(set(self.options)) < len(self.options):
            raise SdlabError(
                f"the options of {question!r} are {list(self.options)}; give two or more different ones, "
                f"or none"
            )
        # The same question keeps its name, so a guess stays when the notebook runs again.
        self.name = "guess" + sha256("\0".join([question, *self.options]).encode()).hexdigest()[:10]
        self.result: View | None = None  # the captured outputs, when there are any
        self.state = "asked"  # or "running", "done", "failed"
        self._answer: str | None = None
        self._handle: DisplayHandle | None = None
        if self.options:
            ASKED[self.name] = self

    @property
    def answer(self) -> str | None:
        """The option that the results show to be right; None as long as it is not known."""
        return self._answer

    @answer.setter
    def answer(self, answer: str) -> None:
        if answer not in self.options:
            raise SdlabError(
                f"{answer!r} is no option of {self.question!r}; choose one of: {', '.join(self.options)}"
            )
        self._answer = answer
        if self.state == "asked":
            self.state = "done"
            self.draw()

    def view(self) -> View:
        """Return the question, with the folded result when there is one."""
        html = render("reveal.html", guess=self, right=self._right)
        lines = [f"Predict first: {self.question}"] if self.options else [self.question]
        lines += [f"( ) {option}" for option in self.options]
        lines += [f"Result: {self._answer}"] if self._answer is not None else []
        lines += [self.result.text] if self.result is not None else []
        return View(html, "\n".join(lines))

    def row(self) -> View:
        """Return the question and its result as a row of the summary, and as a line of text."""
        html = render("guess_row.html", guess=self, right=self._right)
        return View(html, f"{self.question} Result: {self._answer}")

    @property
    def _right(self) -> int | None:
        return None if self._answer is None else self.options.index(self._answer)

    def draw(self) -> None:
        """Display the question in this cell, or redraw it where it was displayed."""
        self._handle = show_in_place(self.view(), self._handle)


def predict(question: str, options: Sequence[str]) -> Guess:
    """Ask a question in this cell and return it; a later cell sets `.answer` of the returned Guess.

    Use it before a long training, or when one result answers several questions.

    Raises SdlabError when there are fewer than two different options.
    """
    if not options:
        raise SdlabError(f"{question!r} has no options; give two or more, or fold a result with reveal(...)")
    guess = Guess(question, options)
    guess.draw()
    return guess


@contextmanager
def reveal(question: str, options: Sequence[str] = (), answer: str | None = None) -> Iterator[Guess]:
    """Ask a question, and fold everything that the block prints and displays below it.

    Call `display(...)` for every output: the last line of a `with` block is not displayed by itself. A run
    decides the answer, so set `guess.answer` inside the block; give `answer` here only where no run can
    change it. Without `options` the outputs are folded under the question as a title, and nothing is asked.

    Progress bars and live boards stay visible while the block is running. Widgets and `record()` belong in
    a cell of their own. Raises SdlabError when one is displayed in the block, when the options or the answer
    are not valid, and when the block ends without an answer. An error in the block shows the outputs so far.
    """
    guess = Guess(question, options)
    guess.state = "running"
    if answer is not None:
        guess.answer = answer
    guess.draw()
    outputs = Captured()
    try:
        with outputs:
            yield guess
        if guess.options and guess.answer is None:
            raise SdlabError(
                f"{question!r} has no answer; set guess.answer in the block to one of: "
                f"{', '.join(guess.options)}"
            )
        guess.state = "done"
    except BaseException:
        guess.state = "failed"
        raise
    finally:
        guess.result = as_view(outputs)
        guess.draw()


def change_of(
    change: Comparison | Difference, words: tuple[str, str, str] = ("falls", "not clear", "rises")
) -> str:
    """Return the word for a change: it falls, it is not significant, or it rises.

    It makes an option of `reveal` from a result: `guess.answer = change_of(sdlab.compare(before, after))`.
    """
    down, unclear, up = words
    return direction(change, up, down, unclear)
