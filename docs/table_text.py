"""Markdown tables for the pages."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; every cell is converted to text."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def framed(frame: pandas.DataFrame) -> str:
    """Return a data frame as a Markdown table, its index first."""
    return markdown(
        [str(frame.index.name), *map(str, frame.columns)], [[key, *row] for key, *row in frame.itertuples()]
    )
