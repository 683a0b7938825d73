"""Hedging of each proposal against belief entropy: does a trace hedge where a rational writer is unsure?

The reasoner of `sdlab.world.reasoner` has a belief at every step. So any trace in its language, also one of
the organism, can be followed: at each proposal ("Maybe 15.", "So A is 15.") we know the entropy of the belief
that a rational reader of the same problem and context would hold, and whether the words hedge.
"""

from collections.abc import Sequence
from math import exp, inf, log
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import summarise
from sdlab.measure.intervals import interval_cells
from sdlab.text.markers import total_markers
from sdlab.world.evidence import read_evidence
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.problems import Problem
from sdlab.world.reasoner import Choice, program

if TYPE_CHECKING:
    import pandas

# In bits: certain, a worked claim (.98), a bare claim (.9), then 2, 3, 4 and 5 equally likely candidates, and
# more than 5 (wide clues).
EDGES = (-0.01, 0.05, 0.4, 0.8, 1.05, 1.65, 2.05, 2.4, inf)


def follow(
    text: str,
    problem: Problem,
    demonstration: str | None = None,
    thinking: bool = True,
    knobs: Knobs = BLIND,
) -> tuple[list[tuple[Choice, int]], bool]:
    """Return the reasoner's steps along `text`, and whether they reach its end.

    Unlike `sdlab.world.likelihood.explain` this keeps the steps before the text leaves the language: at a
    wrong fact, at a candidate that was already ruled out, or where the text was cut off.
    """
    run = program(problem, read_evidence(problem, demonstration), thinking, knobs)
    steps, position = [], 0
    try:
        choice = next(run)
        while True:
            fits = [
                i
                for i, option in enumerate(choice.options)
                if choice.probs[i] > 0 and text.startswith(option, position)
            ]
            if not fits:
                return steps, False
            # "" (write nothing) is taken only when nothing else fits
            taken = max(fits, key=lambda i: len(choice.options[i]))
            steps.append((choice, taken))
            position += len(choice.options[taken])
            choice = run.send(taken)
    except StopIteration:
        return steps, position == len(text)


def proposals(
    texts: Sequence[str],
    problems: Sequence,
    demonstrations: Sequence[str | None] | None = None,
    knobs: Knobs = BLIND,
) -> "pandas.DataFrame":
    """Return one row per proposal in `texts`: text number, problem_id, entropy, hedged, law, followed.

    All sequences have B entries. entropy: in bits. hedged: 1 when the proposal holds a marker. law: the
    reasoner's own probability of hedging at that belief. followed: whether the whole text could be read.
    `knobs` are those of the organism that wrote the texts (`Knobs.of` reads them from its configuration);
    with intuition they change the belief.

    Raises SdlabError when the lengths differ.
    """
    import pandas

    contexts = [None] * len(texts) if demonstrations is None else list(demonstrations)
    if not len(texts) == len(problems) == len(contexts):
        raise SdlabError(
            f"{len(texts)} texts, {len(problems)} problems and {len(contexts)} demonstrations; "
            "give one of each per text"
        )
    rows = []
    for number, (text, problem, demonstration) in enumerate(zip(texts, problems, contexts, strict=True)):
        steps, followed = follow(text, problem, demonstration, knobs=knobs)
        for choice, taken in steps:
            if choice.role == "propose":
                words = choice.options[taken]
                law = sum(
                    p for option, p in zip(choice.options, choice.probs, strict=True) if total_markers(option)
                )
                rows.append(
                    (
                        number,
                        problem.id,
                        choice.entropy / log(2),
                        int(total_markers(words) > 0),
                        law,
                        followed,
                    )
                )
    return pandas.DataFrame(rows, columns=["text", "problem_id", "entropy", "hedged", "law", "followed"])


def doubt_curve(frame: "pandas.DataFrame", by: str, edges: Sequence[float] = EDGES) -> "pandas.DataFrame":
    """Return the share of hedged proposals by bin of belief entropy, with intervals by problem.

    `frame`: as returned by `proposals`, with a column `by` that names the writer. Columns: `by`, bin, entropy
    (mean of the bin, bits), mean, low, high, excess (the mean of hedged minus law) with excess_low and
    excess_high, problems, proposals. Writers are in order of appearance, bins are rising.

    Raises SdlabError when an entropy is outside `edges`.
    """
    import pandas

    bins = pandas.cut(frame["entropy"], list(edges), labels=False)
    if bins.isna().any():
        raise SdlabError(
            f"{int(bins.isna().sum())} proposals have an entropy outside the edges {edges[0]} to {edges[-1]}"
            f", such as {frame['entropy'][bins.isna()].iloc[0]}; give edges that hold every proposal"
        )
    frame = frame.assign(bin=bins, excess=frame["hedged"] - frame["law"])
    keys = [by, "bin"]
    rate = (
        summarise(frame, keys, ["hedged"]).drop(columns="metric").rename(columns={"generations": "proposals"})
    )
    gap = summarise(frame, keys, ["excess"])[[*keys, "mean", "low", "high"]]
    gap.columns = [*keys, "excess", "excess_low", "excess_high"]
    middle = frame.groupby(keys, sort=False)["entropy"].mean().reset_index()
    curve = middle.merge(rate, on=keys).merge(gap, on=keys).sort_values("bin", kind="stable")
    place = {name: i for i, name in enumerate(dict.fromkeys(frame[by]))}  # writers in order of appearance
    return curve.sort_values(by, key=lambda names: names.map(place), kind="stable", ignore_index=True)


def doubt_table(curve: "pandas.DataFrame") -> "pandas.DataFrame":
    """Return a `doubt_curve` as text, one line per writer and bin.

    The shares have their intervals in brackets.
    """
    import pandas

    by = curve.columns[0]
    return pandas.DataFrame({
        "bits": [f"{value:.2f}" for value in curve["entropy"]],
        "hedged": interval_cells(curve),
        "excess": interval_cells(curve, ("excess", "excess_low", "excess_high")),
        "problems": curve["problems"].to_numpy(), "proposals": curve["proposals"].to_numpy(),
    }, index=pandas.Index(curve[by], name=None))  # fmt: skip


def hedging_law(entropy: float, knobs: Knobs = BLIND) -> float:
    """Return the reasoner's probability of hedging at a belief of this entropy in bits.

    `reasoner.doubtfulness` takes the belief itself.
    """
    return 1 - exp(-knobs.doubt * (entropy * log(2)) ** 2)
