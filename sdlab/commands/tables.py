"""Tables of commands: readable at 80 columns, whole with --wide, and as csv or json for other programs."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import pandas
    from rich.console import Console
    from rich.table import Table

NAME_WIDTHS = (24, 20, 16, 12)  # columns for a name, when the table is too wide with whole names


@dataclass(frozen=True)
class TableOptions:
    """The form in which a table is printed."""

    wide: bool = False
    """Print every column and whole names, however wide the terminal is."""
    csv: bool = False
    """Print the table of numbers as csv; everything else goes to stderr."""
    json: bool = False
    """Print the table of numbers as json; everything else goes to stderr."""

    def __post_init__(self) -> None:
        if self.csv and self.json:
            raise SdlabError("--csv and --json exclude each other; choose one of them")

    @property
    def for_programs(self) -> bool:
        """Return whether the table is printed for a program."""
        return self.csv or self.json


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    heading: str
    cells: Sequence[str]
    short: Sequence[str] | None = None
    """Shorter cells, for a terminal that is too narrow."""
    optional: int = 0
    """Columns with larger numbers are left out first; 0 is never left out."""
    whole: bool = False
    """For the column of names: never shorten them, because they are copied into commands."""


def print_table(
    names: Column,
    columns: Sequence[Column],
    numbers: "pandas.DataFrame",
    options: TableOptions = TableOptions(),
    *,
    title: str = "",
    groups: Sequence[str] | None = None,
) -> None:
    """Print a table of text that fits the terminal, or `numbers` for a program.

    names: the first column; names that are too long lose their beginning, unless they are `whole`. groups: a
    heading for each row; rows of the same heading follow each other. A line below the table says which
    columns are left out.
    """
    if options.csv:
        sys.stdout.write(numbers.to_csv(index=False, lineterminator="\n"))
        return
    if options.json:
        sys.stdout.write(numbers.to_json(orient="records", indent=1) + "\n")
        return
    from rich.console import Console

    console, unlimited = console_for(options), Console(width=10_000)
    candidates = list(_candidates(names, columns, title, groups, options.wide))
    fitting = (pair for pair in candidates if unlimited.measure(pair[1]).maximum <= console.width)
    kept, table = next(fitting, candidates[-1])
    console.print(table)
    left_out = [" ".join(column.heading.split()) for column in columns if column not in kept]
    if left_out:
        print(f"Left out at {console.width} columns: {', '.join(left_out)}. --wide shows everything.")


def console_for(options: TableOptions) -> "Console":
    """Return the console for a table and what belongs to it: stderr when the table is for a program."""
    from rich.console import Console

    if options.wide:
        return Console(stderr=options.for_programs, width=10_000, highlight=False)
    return Console(stderr=options.for_programs, highlight=False)


def note(options: TableOptions, sentences: Iterable[str], style: str = "") -> None:
    """Print sentences that belong to a table."""
    from rich.text import Text

    for sentence in sentences:
        console_for(options).print(Text(sentence, style=style), soft_wrap=True)


def shorten(name: str, width: int) -> str:
    """Return a name of at most `width` characters, shortened from the left."""
    return name if len(name) <= width else "…" + name[len(name) - width + 1 :]


def _candidates(
    names: Column, columns: Sequence[Column], title: str, groups: Sequence[str] | None, wide: bool
) -> "Iterator[tuple[list[Column], Table]]":
    """Yield tables from the widest to the narrowest: fewer columns, shorter cells, shorter names."""
    longest = max(map(len, names.cells), default=0)
    widths = (longest,) if names.whole else NAME_WIDTHS
    yield list(columns), _table(names, columns, 0, longest, title, groups)
    if wide:
        return
    for dropped in sorted({column.optional for column in columns}, reverse=True):
        kept = [column for column in columns if not column.optional or column.optional <= dropped]
        yield kept, _table(names, kept, 0, widths[0], title, groups)
    kept = [column for column in columns if not column.optional]
    shortable = sum(column.short is not None for column in kept)
    for short in range(1, shortable + 1):
        yield kept, _table(names, kept, short, widths[0], title, groups)
    for width in widths:
        yield kept, _table(names, kept, shortable, width, title, groups)


def _table(
    names: Column,
    columns: Sequence[Column],
    short: int,
    width: int,
    title: str,
    groups: Sequence[str] | None,
) -> "Table":
    """Return a table with names of at most `width` characters, and `short` columns with short cells."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    can = [number for number, column in enumerate(columns) if column.short is not None]
    brief = set(can[len(can) - short :])
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    # a terminal narrower than whole names gets them in two lines, with every letter
    table.add_column(names.heading, no_wrap=not names.whole, overflow="fold" if names.whole else "ellipsis")
    cells = []
    for number, column in enumerate(columns):
        own = column.short if number in brief and column.short is not None else column.cells
        table.add_column(column.heading, justify="right")
        cells.append(own)
    before = None
    for row, name in enumerate(names.cells):
        if groups is not None and groups[row] != before:
            before = groups[row]
            table.add_row(Text(shorten(before, max(width, NAME_WIDTHS[0])), style="bold"))
        # Text, because names from files may look like markup.
        table.add_row(Text(shorten(name, width)), *(Text(own[row]) for own in cells))
    return table
