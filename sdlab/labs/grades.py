"""Grades as a table and as a CSV file."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Graded:
    """The points of a submission.

    A test cell earns all of its points or none. Cells graded by hand are listed in `manual`.
    """

    submission: Path
    lab: str = ""
    points: dict[str, float] = field(default_factory=dict)  # by grade_id of the test cell
    max_points: dict[str, float] = field(default_factory=dict)
    manual: dict[str, float] = field(default_factory=dict)  # grade_id: points that a person gives
    errors: dict[str, str] = field(default_factory=dict)  # grade_id or "cell 7": the error there, one line
    problems: tuple[str, ...] = ()  # notes for the person who grades, a line each
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    closed_off: tuple[str, ...] = ()  # closed to its code: files, network, processes, signals, tcp

    @property
    def total(self) -> float:
        """The points of all cells."""
        return sum(self.points.values())

    @property
    def max_total(self) -> float:
        """The points that all cells are worth."""
        return sum(self.max_points.values())


def write_csv(results: list[Graded], path: Path) -> None:
    """Write one row per submission: its total points, its points per cell, and notes.

    Cells of another lab are empty.
    """
    cells = list(
        dict.fromkeys((graded.lab, identity) for graded in results for identity in graded.max_points)
    )
    several = len({lab for lab, _ in cells}) > 1
    titles = [f"{lab}: {identity}" if several else identity for lab, identity in cells]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "submission",
                "lab",
                "total",
                "of",
                "by_hand",
                *titles,
                "problems",
                "errors",
                "seconds",
                "peak_memory_mb",
            ]
        )
        for graded in results:
            points = [f"{graded.points[identity]:g}" if graded.lab == lab else "" for lab, identity in cells]
            errors = "; ".join(f"{name}: {line}" for name, line in graded.errors.items())
            row = [
                str(graded.submission),
                graded.lab,
                f"{graded.total:g}",
                f"{graded.max_total:g}",
                f"{sum(graded.manual.values()):g}",
                *points,
            ]
            writer.writerow(
                [
                    _safe(cell)
                    for cell in (
                        *row,
                        "; ".join(graded.problems),
                        errors,
                        f"{graded.seconds:.1f}",
                        f"{graded.peak_memory_mb:.0f}",
                    )
                ]
            )


def table(results: list[Graded]) -> Table:
    """Return a table of the class for a terminal of 80 columns or more, one row per submission.

    Long names and lists take several lines. Time, memory and points by hand are in the CSV file; the notes
    are those of `notes`.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    rows = Table(box=box.SIMPLE)
    rows.add_column("submission", overflow="fold", max_width=26)
    rows.add_column("lab", overflow="fold", max_width=10)
    rows.add_column("points", no_wrap=True, justify="right")
    rows.add_column("notes", no_wrap=True, justify="right")
    rows.add_column("not earned", overflow="fold")
    for name, graded in zip(_names(results), results, strict=True):
        lost = [identity.removesuffix("-test") for identity, got in graded.points.items() if got == 0]
        row = (
            name,
            graded.lab.partition("_")[0],
            f"{graded.total:g} of {graded.max_total:g}",
            str(len(graded.problems) or ""),
            "everything" if lost and len(lost) == len(graded.points) else ", ".join(lost),
        )
        rows.add_row(*(escape(printable(cell)) for cell in row))
    return rows


def notes(results: list[Graded], width: int = 80) -> list[str]:
    """Return lines of at most `width` columns with what was noticed about each submission."""
    lines = []
    for name, graded in zip(_names(results), results, strict=True):
        if graded.problems:
            lines += wrap(printable(name), width, break_on_hyphens=False)
        for problem in graded.problems:
            lines += wrap(printable(problem), width, initial_indent="  - ", subsequent_indent="    ")
    return lines


def _names(results: list[Graded]) -> list[str]:
    """Return the file's name of each submission, with its folder where another has the same name."""
    files = [graded.submission.name for graded in results]
    return [
        f"{graded.submission.parent.name}/{file}" if files.count(file) > 1 else file
        for graded, file in zip(results, files, strict=True)
    ]


def _safe(cell: str) -> str:
    """Escape text that a spreadsheet would run as a formula."""
    cell = printable(cell)
    return "'" + cell if cell[:1] in "=+-@\t\r" and cell else cell


def printable(text: str) -> str:
    """Return `text` with a space for every unprintable character except line ends."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
