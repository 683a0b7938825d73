"""Nudge a model to check: continue its completions from its guesses with the reasoner's re-check phrase.

A nudge gives no number and no verdict away. So what comes back with it was not erased by a training; only
the habit of starting was.
"""

from collections.abc import Collection, Iterable

import pandas

from sdlab.grading.score import grade
from sdlab.measure.commits import commits, nudge, statement
from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.continuations import continue_from
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.seeds import stable_int
from sdlab.world import hunts
from sdlab.world.problems import Problem

AT_ONCE = 32  # beginnings per call of the engine: each is a long prompt of its own
STATEMENT = 16  # tokens that a statement needs, at most


def _continued(
    engine: Engine, problems: list, beginnings: list[str], longest: int, *key: object
) -> list[str]:
    params = SamplingParams(1, longest, seed=stable_int("nudges", *key))
    texts: list[str] = []
    for start in range(0, len(beginnings), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        texts += continue_from(engine, problems[part], beginnings[part], params)["completion"].tolist()
    return texts


def nudged(
    engine: Engine, frame: pandas.DataFrame, problems: Iterable[Problem], rounds: int, seed: int = 0
) -> pandas.DataFrame:
    """Return the completions of `frame`, continued after a nudge at each unchecked commitment, and graded.

    Each of the `rounds` nudges the first unchecked commitment after the last nudge, so 1 is one nudge per
    completion. Columns completion and reward are new, the others those of `frame`. Raises SdlabError when a
    problem is not a number hunt.
    """
    return nudged_after(engine, frame, problems, (rounds,), seed)[rounds]


def nudged_after(
    engine: Engine,
    frame: pandas.DataFrame,
    problems: Iterable[Problem],
    rounds: Collection[int],
    seed: int = 0,
) -> dict[int, pandas.DataFrame]:
    """Return `nudged` after each of several numbers of rounds; the rounds that they share run once."""
    by_id = {problem.id: problem for problem in problems}
    asked = [by_id[name] for name in frame["problem_id"]]
    texts, done = frame["completion"].tolist(), [0] * len(frame)
    found = {}
    for turn in range(max(rounds) + 1):
        if turn in rounds:
            rewards = grade(texts, [problem.answer for problem in asked])
            found[turn] = frame.assign(completion=texts, reward=rewards)
        if turn == max(rounds):
            break
        starts = [nudge(text, problem, skip) for text, problem, skip in zip(texts, asked, done, strict=True)]
        todo = {number: start for number, start in enumerate(starts) if start}
        own = [asked[number] for number in todo]
        for number, text in zip(
            todo, _continued(engine, own, list(todo.values()), 256, seed, turn), strict=True
        ):
            texts[number], done[number] = text, len(todo[number])
    return found


def second_looks(
    frame: pandas.DataFrame, problems: Iterable[Problem], per_problem: int = 4
) -> pandas.DataFrame:
    """Return the places of `frame` where a second look began: the commitments that were checked afterwards.

    Column look: "first look" or "later look" at this number. `beginning`: the text up to the look. At most
    `per_problem` of each kind are kept for a problem.
    """
    by_id = {problem.id: problem for problem in problems}
    rows = commits(frame["completion"].tolist(), [by_id[name] for name in frame["problem_id"]])
    rows = rows.query("looked_again == 1").reset_index(drop=True)
    texts = frame["completion"].tolist()
    rows["beginning"] = [
        f"{texts[number][:end]} Wait, check {slot}:"
        for number, end, slot in zip(rows["text"], rows["end"], rows["slot"], strict=True)
    ]
    earlier = rows.groupby(["text", "slot"]).cumcount()
    rows["look"] = ["later look" if count else "first look" for count in earlier]
    return rows.groupby(["problem_id", "look"]).head(per_problem)


def true_statements(
    engine: Engine, looks: pandas.DataFrame, problems: Iterable[Problem], seed: int = 0
) -> pandas.DataFrame:
    """Return `looks` with a column `true`: does `engine` continue each beginning with a true statement?

    `looks`: from `second_looks`. All models get the same texts, so their facts can be compared.
    """
    by_id = {problem.id: problem for problem in problems}
    asked = [by_id[name] for name in looks["problem_id"]]
    beginnings = looks["beginning"].tolist()
    texts = _continued(engine, asked, beginnings, STATEMENT, seed, "statements")
    right = [
        statement(problem, hunts.NAMES.index(slot), value)
        for problem, slot, value in zip(asked, looks["slot"], looks["value"], strict=True)
    ]
    true = [
        float(bool(words) and text[len(start) :].strip().startswith(words))
        for words, text, start in zip(right, texts, beginnings, strict=True)
    ]
    return looks.assign(true=true)


def nudge_gains(tries: pandas.DataFrame) -> dict[tuple[str, str], Comparison]:
    """Return the change of the score by each nudge: (model, nudge) -> comparison with the first nudge.

    `tries`: rows of `nudged` with the columns model and nudge; the first nudge of a model is "none at all".
    """
    gains = {}
    for model, rows in tries.groupby("model", sort=False):
        first, *others = rows.groupby("nudge", sort=False)
        for name, part in others:
            gains[str(model), str(name)] = compare(first[1], part, names=(str(first[0]), str(name)))
    return gains
