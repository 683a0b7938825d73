"""What every method of the arena does to score, length, doubt and cost, from the recorded runs.

Methods without a record stay in every table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.crossed import Difference, crossed_difference
from sdlab.measure.intervals import Interval
from sdlab.study.arena_comparisons import frames_of, recorded_in
from sdlab.study.arena_conditions import EARLY, ROUNDS, UNTRAINED, arena_name
from sdlab.study.arena_families import FAMILY
from sdlab.study.recorded import Recorded, is_recorded, load_recorded
from sdlab.train.repairs.catalogue import BASELINES, CATALOGUE, CONTROLS

KINDS = {**dict.fromkeys(BASELINES, "baseline"), **dict.fromkeys(CONTROLS, "control")}  # else "repair"
METRICS = (
    "reward", "pass@4", "pass@8", "length", "markers", "density", "right_if_unhedged", "right_if_hedged",
    "calibration",
)  # fmt: skip
COUNTED = ("right_if_unhedged", "right_if_hedged", "calibration")  # of number hunts only


def kind_of(method: str) -> str:
    """Return "baseline", "control" or "repair"."""
    return KINDS.get(method, "repair")


def load_arena(*rounds: str, folder: str | Path | None = None) -> Recorded:
    """Return the recorded runs of some rounds of the arena (without names: of all).

    Raises SdlabError when none is recorded, and as `load_recorded`.
    """
    there = recorded_names(*rounds, folder=folder)
    if not there:
        raise SdlabError(
            f"no run of the arena's {', '.join(rounds or ROUNDS)} is recorded; make the learning rates with "
            "`sdlab reproduce arena-rates`, then the runs with `sdlab reproduce arena`"
        )
    return load_recorded(*there, folder=folder)


def recorded_names(*rounds: str, folder: str | Path | None = None) -> list[str]:
    """Return the conditions of some rounds (without names: of all) that are recorded."""
    names = [name for round_name in rounds or ROUNDS for name in _names(round_name)]
    return [name for name in dict.fromkeys(names) if is_recorded(name, folder)]


def _names(round_name: str) -> list[str]:
    return [arena_name(method, round_name) for method in (UNTRAINED, *CATALOGUE)]


def missing_methods(recorded: Recorded, round_name: str = "hunts") -> list[str]:
    """Return the methods without a record in a round; "base" among them when the untrained model has none."""
    there = set(recorded.evaluations["condition"])
    return [one for one in (UNTRAINED, *CATALOGUE) if arena_name(one, round_name) not in there]


def measures(
    recorded: Recorded,
    round_name: str = "hunts",
    splits: Sequence[str] | None = None,
    metrics: Sequence[str] = METRICS,
) -> pandas.DataFrame:
    """Return one row per method, split and metric after the last step: also for the untrained model, "base".

    Columns: method, kind, family, split, metric, mean, low, high (95%, over seeds and problems), seeds. A
    method without a record, and a metric that a split does not have, has NaN. metrics: those of
    `Recorded.table`, and calibration: right_if_unhedged minus right_if_hedged.
    """
    frames, rows = frames_of(recorded), []
    for method in (UNTRAINED, *CATALOGUE):
        name = arena_name(method, round_name)
        mine = recorded_in(frames, name) if name in frames else None
        about = {
            "method": method,
            "kind": "" if method == UNTRAINED else kind_of(method),
            "family": FAMILY.get(method, ""),
            "seeds": mine.evaluations["seed"].nunique() if mine else 0,
        }
        for split in splits or ROUNDS[round_name].final_splits:
            for metric in metrics:
                counts = metric not in COUNTED or not split.startswith("chemistry")
                value = _measure(mine, name, metric, split) if mine and counts else Interval(*[math.nan] * 3)
                rows.append(about | {"split": split, "metric": metric, **vars(value)})
    return pandas.DataFrame(rows)


def _measure(recorded: Recorded, name: str, metric: str, split: str) -> Interval:
    if metric != "calibration":
        return recorded.interval(name, metric, split)
    (a, m), (b, n) = (recorded.table(name, kind, split) for kind in ("right_if_hedged", "right_if_unhedged"))
    if not (m.to_numpy().sum() and n.to_numpy().sum()):  # nothing hedged, or nothing unhedged
        return Interval(*[math.nan] * 3)
    return crossed_difference(a, b, m, n).interval


@dataclass(frozen=True)
class Peak:
    """The evaluated step with the highest mean score over the seeds, on problems that all steps have."""

    step: int
    score: float
    last: float  # after the last step, on the same problems


def peak(recorded: Recorded, name: str, split: str = "unseen-types") -> Peak:
    """Return the peak of a condition's score along training.

    Raises SdlabError when nothing is recorded there.
    """
    table = _scores(recorded, name, split)
    scores = table.to_numpy().mean(1)
    best = int(scores.argmax())
    return Peak(table.index.tolist()[best], float(scores[best]), float(scores[-1]))


def _scores(recorded: Recorded, name: str, split: str) -> pandas.DataFrame:
    """Return the score by step (rows) and seed (columns), on the problems that all steps have."""
    frame = recorded.evaluations
    mine = frame[(frame["condition"] == name) & (frame["split"] == split)]
    if mine.empty:
        raise SdlabError(f"no evaluation of condition {name!r} on split {split!r} is recorded")
    steps = mine.groupby("problem_id")["step"].nunique()
    mine = mine[mine["problem_id"].isin(steps.index[steps == mine["step"].nunique()])]
    sums = mine.groupby(["step", "seed"])[["reward", "generations"]].sum()
    return (sums["reward"] / sums["generations"]).unstack("seed")


def stopped_early(
    recorded: Recorded, name: str | None = None, chosen_on: str = "in-domain", split: str = "unseen-types"
) -> tuple[pandas.Series, Difference]:
    """Return the control of early stopping: the chosen step by seed, and what it gains over the last step.

    Each seed's checkpoint is the evaluated one with the highest score on `chosen_on`; the gain is the score
    on `split`, which has other problems, at that step minus the score after the last step. Step 0, the
    untrained model, may be chosen. name: the condition, by default plain SDPO's.

    Raises SdlabError when nothing is recorded there.
    """
    name = name or arena_name(EARLY)
    steps = _scores(recorded, name, chosen_on).idxmax()
    frame = recorded.evaluations
    mine = frame[(frame["condition"] == name) & (frame["split"] == split)]
    last = mine[mine["step"] == mine["step"].max()]
    early = mine[mine["step"] == mine["seed"].map(steps)]

    def table(rows: pandas.DataFrame, column: str) -> pandas.DataFrame:
        return rows.pivot(index="seed", columns="problem_id", values=column)

    common = table(early, "reward").dropna(axis="columns").columns
    (a, b), (m, n) = (
        [table(rows, column)[common] for rows in (last, early)] for column in ("reward", "generations")
    )
    return steps, crossed_difference(a, b, m, n)


def costs(recorded: Recorded, round_name: str = "hunts") -> pandas.DataFrame:
    """Return the cost of a training step: one row per method.

    Columns: method, passes (forward passes per completion, the one with a gradient included), passes_ratio
    (SDPO's are 1), seconds (the median over steps, then the mean over seeds), seconds_ratio (SDPO's are 1;
    over the seeds that both have). Seconds depend on the machine and on the length of the completions.
    """
    steps = recorded.steps
    timed = (
        steps.groupby(["condition", "seed"])["seconds"].median()
        if {"condition", "seed", "seconds"} <= set(steps.columns)
        else pandas.Series(dtype=float, index=pandas.MultiIndex.from_arrays([[], []]))
    )
    by_name = {name: part.droplevel(0) for name, part in timed.groupby(level=0)}
    mine = by_name.get(arena_name("sdpo", round_name), pandas.Series(dtype=float))
    rows = []
    for method, entry in CATALOGUE.items():
        seconds = by_name.get(arena_name(method, round_name), pandas.Series(dtype=float))
        both = seconds.index.intersection(mine.index)
        rows.append(
            {
                "method": method,
                "passes": entry.passes + 1,
                "passes_ratio": (entry.passes + 1) / (CATALOGUE["sdpo"].passes + 1),
                "seconds": seconds.mean() if len(seconds) else math.nan,
                "seconds_ratio": seconds[both].mean() / mine[both].mean() if len(both) else math.nan,
            }
        )
    return pandas.DataFrame(rows)
