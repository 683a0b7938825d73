"""Count what a reader of rollouts reads and leaves out, and write the sentences that report it."""

from collections import Counter
from dataclasses import dataclass, field

from sdlab.reading.columns import reward_columns
from sdlab.reading.values import number_of

SHOWN = 3  # values of a kind that a note names
NAMED = 20  # columns that a note names


@dataclass
class Tally:
    """Counts over the rows of one file."""

    rows: int = 0
    left_out: Counter = field(default_factory=Counter)  # reason -> completions
    filters: Counter = field(default_factory=Counter)  # filter -> rows that repeat another row's completions
    kept_filters: dict[str, None] = field(default_factory=dict)  # the filters whose verdicts count
    copies: int = 0  # rows that repeat an earlier one in every cell
    unfit: Counter = field(default_factory=Counter)  # role -> rows without a cell for each completion
    unread: dict[str, Counter] = field(default_factory=lambda: {role: Counter() for role in VALUES})
    no_truth: int = 0
    no_prompt: int = 0
    empty: int = 0
    earlier: int = 0  # completions that follow other turns of the model
    after: int = 0  # completions with turns after them
    conflicts: int = 0  # completions whose finish reason contradicts their flag
    steps: set[str] = field(default_factory=set)


VALUES = ("reward", "finish_reason", "truncated")


def sentences(tally: Tally, rows: list[dict], columns: dict[str, str], names: list[str]) -> list[str]:
    """Return the sentences to report: the columns, then the counts, then what was left out.

    rows: the completions; columns: role -> column; names: all columns of the file.
    """
    used = {name for column in columns.values() for name in (column, column.partition(".")[0])}
    unused = [name for name in names if name not in used and not name.startswith("__index_level_")]
    notes = ["columns: " + ", ".join(f"{role} {column!r}" for role, column in columns.items()) + "."]
    if unused:
        more = ", ..." * (len(unused) > NAMED)
        notes.append(f"columns that are not read: {', '.join(unused[:NAMED])}{more}.")
    left, truths = tally.left_out.total(), len(rows) - tally.no_truth
    notes.append(
        f"{tally.rows:,} rows read: {len(rows):,} completions, {truths:,} with a gold answer, "
        f"{_count(rows, 'recorded')} with a verdict, "
        f"{_count(rows, 'truncated')} that say whether they were cut; {left:,} completions left out."
    )
    if left:
        why = ", ".join(f"{count:,} {reason}" for reason, count in tally.left_out.items())
        notes.append(
            f"{left:,} of {left + len(rows):,} completions are missing and left out ({why}); "
            "if they are failures, the score here is too high."
        )
    if tally.filters:
        by = ", ".join(f"{count:,} of {name!r}" for name, count in tally.filters.items())
        kept = ", ".join(map(repr, tally.kept_filters))
        notes.append(
            f"{tally.filters.total():,} rows repeat the completions of another row, one for each "
            f"filter ({by}); each completion counts once, with the verdict of the filter {kept}."
        )
    if tally.copies:
        notes.append(
            f"{tally.copies:,} rows repeat an earlier row in every cell and are counted again; "
            "remove them if the file was written twice."
        )
    notes += _unread(tally, columns, unused)
    notes += _answers(tally, truths, columns)
    if tally.empty:
        notes.append(f"{tally.empty:,} completions are empty; they are completions without an answer.")
    if tally.earlier:
        notes.append(
            f"{tally.earlier:,} completions follow earlier turns of the model, which belong to the prompt."
        )
    if tally.after:
        notes.append(f"{tally.after:,} completions are followed by turns of others, which are left out.")
    if len(tally.steps) > 1:
        notes.append(f"the rows are of {len(tally.steps):,} training steps (column 'step'), taken together.")
    return notes


def _count(rows: list[dict], name: str) -> str:
    return f"{sum(row[name] is not None for row in rows):,}"


def _answers(tally: Tally, truths: int, columns: dict[str, str]) -> list[str]:
    if "answer" not in columns or not tally.no_truth:
        return []
    if not truths:
        return [f"no gold answer can be read in column {columns['answer']!r}."]
    where = f"column {columns['answer']!r}"
    return [f"{tally.no_truth:,} completions have no gold answer that can be read in {where}."]


def _unread(tally: Tally, columns: dict[str, str], names: list[str]) -> list[str]:
    """Return sentences on cells with unknown values; names: the columns that are not read."""
    notes, column, values = [], columns.get("reward"), tally.unread["reward"]
    if values:
        between = sum(count for cell, count in values.items() if 0 < (number_of(cell) or 0) < 1)
        part = f", {between:,} of them strictly between 0 and 1" if between else ""
        notes.append(
            f"{values.total():,} of the values in {column!r} are no verdicts and left out{part} "
            f"({_some(values)}); a verdict is 1 for right, 0 or -1 for wrong."
        )
    others = reward_columns(names) if column is None else []
    if others:
        notes.append(
            f"{', '.join(map(repr, others))} may hold rewards; name the verdict's column with --reward."
        )
    for role in VALUES[1:]:
        if tally.unread[role]:
            count = tally.unread[role].total()
            notes.append(
                f"{count:,} completions end for reasons that are not known ({_some(tally.unread[role])})."
            )
    for role, count in tally.unfit.items():
        notes.append(
            f"{count:,} rows do not have a value in {columns.get(role)!r} for each of their completions; "
            "what these say is left out."
        )
    if tally.conflicts:
        notes.append(
            f"{tally.conflicts:,} completions have a finish reason that {columns['truncated']!r} "
            "contradicts; the finish reason counts."
        )
    return notes


def _some(values: Counter) -> str:
    examples = ", ".join(f"{cell!r} {count:,} times" for cell, count in values.most_common(SHOWN))
    return examples + ", ..." * (len(values) > SHOWN)
