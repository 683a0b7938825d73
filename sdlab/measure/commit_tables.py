"""Tables of the commitments in evaluated completions, and of the causes of wrong ones."""

from collections.abc import Iterable, Sequence

import pandas

from sdlab.measure.commits import cause, commits
from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.evaluation import need_columns, summarise
from sdlab.world.problems import Problem

SHARES = ("unchecked", "right_if_unchecked", "right_if_checked", "fact")
SHARE_LABELS = {
    "unchecked": "unchecked (guesses)",
    "right_if_unchecked": "right, if unchecked",
    "right_if_checked": "right, if checked",
    "fact": "true statements",
}
WRONG = ("wrong", "guess", "other")  # all wrong completions, those by an unchecked guess, and the others


def commits_in(
    frame: pandas.DataFrame, problems: Iterable[Problem], keep: Sequence[str] = ("model",)
) -> pandas.DataFrame:
    """Return the commitments in the completions of an evaluation, with the frame's columns `keep`.

    `text` is the number of the row in `frame`, from 0. Raises SdlabError when a column is missing, and when a
    problem is not a number hunt.
    """
    need_columns(frame, ["completion", "problem_id", *keep])
    by_id = {problem.id: problem for problem in problems}
    rows = commits(frame["completion"].tolist(), [by_id[name] for name in frame["problem_id"]])
    return rows.assign(**{name: frame[name].to_numpy()[rows["text"].to_numpy(int)] for name in keep})


def commit_shares(rows: pandas.DataFrame, by: str = "model") -> pandas.DataFrame:
    """Return the SHARES of commitments by group with intervals, as `summarise` does."""
    parts = [summarise(rows.dropna(subset=name), by, [name]) for name in SHARES if rows[name].notna().any()]
    return pandas.concat(parts, ignore_index=True)


def with_causes(frame: pandas.DataFrame, problems: Iterable[Problem]) -> pandas.DataFrame:
    """Return an evaluation with the column `cause` of each completion, and WRONG as columns of 0 and 1."""
    by_id = {problem.id: problem for problem in problems}
    causes = pandas.Series(
        [
            cause(text, by_id[name])
            for text, name in zip(frame["completion"], frame["problem_id"], strict=True)
        ],
        index=frame.index,
    )
    guess, right = causes == "unchecked", causes == "right"
    return frame.assign(
        cause=causes,
        wrong=(~right).astype(float),
        guess=guess.astype(float),
        other=(~guess & ~right).astype(float),
    )


def cause_shares(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the causes of wrong completions as shares of all: columns split, model, cause, share."""
    shares = frame.groupby(["split", "model"])["cause"].value_counts(normalize=True).rename("share")
    return shares.reset_index().query("cause != 'right'")


def more_wrong(
    before: pandas.DataFrame, after: pandas.DataFrame, names: tuple[str, str] = ("before", "after")
) -> dict[str, Comparison]:
    """Return how many more completions are wrong after a training: in all, by a guess, and by other causes.

    Both frames are from `with_causes`. The values are shares of all completions.
    """
    return {name: compare(before, after, name, names=names) for name in WRONG}
