"""The questions that a notebook has asked its reader, and the table that compares guesses with results."""

from __future__ import annotations

from typing import Any, Protocol

from sdlab.show.view import View, render


class Question(Protocol):
    """A question with a `name` for the browser's storage, and an `answer` once it is known."""

    name: str

    @property
    def answer(self) -> Any: ...

    def row(self) -> View:
        """Return the question and its result as a row of the table, and as a line of text."""
        ...


ASKED: dict[str, Question] = {}  # the questions of this kernel in order


def guesses_summary() -> View:
    """Return a table of all questions of this notebook with the results and, where scripts run, the guesses.

    Put it at the end of a notebook. The line above the table counts the right guesses and the drawn curves.
    A drawn curve is compared in one line: its mean distance from the result, and its direction.
    """
    rows = [question.row() for question in ASKED.values() if question.answer is not None]
    lines = ["Guesses and results", *[row.text for row in rows]]
    return View(render("guesses.html", rows=rows), "\n".join(lines))
