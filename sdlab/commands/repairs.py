"""`sdlab repairs`: the published repairs of self-distillation, with claims and cost."""

import shutil
import textwrap
from inspect import cleandoc

import tyro

from sdlab.errors import unknown
from sdlab.train.repairs.catalogue import BASELINES, CATALOGUE, CONTROLS, GRADES, REPAIRS, Entry

GROUPS = {"Baselines": BASELINES, "Repairs": REPAIRS, "Controls": CONTROLS}
SOURCE_WIDTH = 106  # columns of the descriptions in their docstrings
PROTOCOL = (
    "Early stopping is a control too, but a protocol and no loss: plain SDPO, whose checkpoint is chosen on "
    "other problems."
)


def repairs(name: tyro.conf.Positional[str | None] = None) -> int:
    """List the repairs and controls of `sdlab train repair`, or describe one of them with its formula.

    Args:
        name: A repair of the list.
    """
    width = max(72, min(100, shutil.get_terminal_size().columns))
    if name is None:
        print(catalogue_text(width))
    elif name not in CATALOGUE:
        raise unknown("repair", name, CATALOGUE)
    else:
        entry = CATALOGUE[name]
        print("\n".join([*lines_of(name, entry, width), "", *described(entry, width)]))
    return 0


def catalogue_text(width: int) -> str:
    """Return the catalogue as text, no line wider than `width` columns."""
    lines = [f"{'name':<20}{'source':<14}{'grade':<15}passes  changes"]
    for title, entries in GROUPS.items():
        lines += ["", title]
        for name, entry in entries.items():
            lines += lines_of(name, entry, width)
    notes = [
        "source: an arXiv id, or the place of the code. passes: forward passes per completion and step, "
        "besides the one with a gradient. changes: the hooks that differ from SDPO's.",
        "grade: " + "; ".join(f"{grade} = {meaning}" for grade, meaning in GRADES.items()) + ".",
        PROTOCOL,
        "`sdlab repairs NAME` shows the formula; `sdlab train repair --repair NAME` trains.",
    ]
    return "\n".join([*lines, *(line for note in notes for line in ["", *textwrap.wrap(note, width)])])


def described(entry: Entry, width: int) -> list[str]:
    """Return the description of a method as lines of at most `width` columns.

    Lines that their writer filled are joined and filled again. Others, such as formulas, stay on a line of
    their own; what does not fit is indented more.
    """
    lines: list[str] = []
    filled = False
    for line in cleandoc(entry.description or entry.about).splitlines():
        if filled and line and not line.startswith(" ") and not lines[-1].startswith(" "):
            lines[-1] += " " + line
        else:
            lines.append(line)
        filled = len(line) > SOURCE_WIDTH - 12  # no room for another word
    return [part for line in lines for part in _wrapped(line, width)]


def _wrapped(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    more = indent + "    " if indent else ""
    parts = textwrap.wrap(
        line.strip(), width, initial_indent=indent, subsequent_indent=more, break_on_hyphens=False
    )
    return parts or [""]


def lines_of(name: str, entry: Entry, width: int) -> list[str]:
    """Return the lines of one method."""
    head = f"{name:<20}{entry.paper:<14}{entry.grade:<15}{entry.passes:<8}"
    first = textwrap.wrap(entry.changes, width, initial_indent=head, subsequent_indent=" " * 12)
    claim = "" if entry.claim == "none" else f" Claim: {entry.claim}."
    return first + textwrap.wrap(
        entry.about + claim, width, initial_indent=" " * 4, subsequent_indent=" " * 4
    )
