"""Where self-distillation stops helping: the coverage grid as differences, turning points and sentences."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import pandas

from sdlab.findings.before_after import direction
from sdlab.measure.crossed import Difference, seeds_difference, seeds_interval
from sdlab.measure.intervals import Interval
from sdlab.study.coverage_conditions import (
    COUNTS,
    COVERAGE,
    DOMAINS,
    coverage_name,
    small_name,
)
from sdlab.study.coverage_table import stops_paying, training_difference, training_gain
from sdlab.study.recorded import Recorded

METHODS = ("grpo", "sdpo", "sdpo_no_think")
AWAY = ("in-domain", "unseen-types")  # splits that no run of the grid trains on
Grid = dict[tuple[str, int | None], str]  # (method, number of problems; None: all) -> condition
Crossing = dict[str, dict[str, Difference]]  # number of problems -> quantity -> difference
Series = dict[str, dict[int | None, str]]  # label -> number of problems -> condition


def counted(count: int | None) -> str:
    """Return a number of problems as text; None is all of them."""
    return str(count or "all")


def listed(found: Collection[str], nothing: str = "none") -> str:
    """Return names as a list in a sentence: "8", "8 and 64", "8, 64 and all"; without names, `nothing`."""
    *first, last = list(found) or [nothing]
    return f"{', '.join(first)} and {last}" if first else last


def coverage_grid(names: Collection[str]) -> Grid:
    """Return the conditions of the grid that are among `names`."""
    every = {(method, count): coverage_name(method, count) for method in METHODS for count in COUNTS}
    return {key: name for key, name in every.items() if name in names}


def crossing(recorded: Recorded, grid: Grid) -> Crossing:
    """Return, for each number of problems, what training shows of SDPO and what it does elsewhere.

    "gain": the end of SDPO's training score minus its beginning. "versus": SDPO minus GRPO on their training
    problems. A split's name: SDPO against the untrained model there.
    """
    found: Crossing = {}
    for count in COUNTS:
        grpo, sdpo = grid.get(("grpo", count)), grid.get(("sdpo", count))
        if grpo and sdpo:
            found[counted(count)] = {
                "gain": training_gain(recorded, sdpo),
                "versus": training_difference(recorded, grpo, sdpo),
            } | {split: recorded.difference("base", sdpo, "reward", split) for split in AWAY}
    return found


def counts_where(rows: Crossing, quantity: str, word: str) -> list[str]:
    """Return the numbers of problems at which a quantity is significantly "larger" or "smaller"."""
    return [count for count, row in rows.items() if direction(row[quantity]) == word]


def hidden_damage(rows: Crossing) -> list[str]:
    """Return the numbers of problems at which the training score rises and unseen types fall."""
    fallen = counts_where(rows, "unseen-types", "smaller")
    return [count for count in counts_where(rows, "gain", "larger") if count in fallen]


def crossing_table(rows: Crossing) -> pandas.DataFrame:
    """Return `crossing` as a table of text.

    The number of seeds is left out: the untrained model has more of them than the runs of the grid.
    """
    names = {
        "gain": "SDPO, training score",
        "versus": "SDPO minus GRPO, training",
        "in-domain": "SDPO, in-domain",
        "unseen-types": "SDPO, unseen types",
    }
    table = {
        count: {names[key]: str(replace(one, left_out=())) for key, one in row.items()}
        for count, row in rows.items()
    }
    return pandas.DataFrame.from_dict(table, orient="index").rename_axis("problems")


def crossing_words(rows: Crossing) -> list[str]:
    """Return what the grid shows: where training rises, where it falls, and where it hides a loss."""
    up, down = (counts_where(rows, "gain", word) for word in ("larger", "smaller"))
    above, below = (counts_where(rows, "versus", word) for word in ("larger", "smaller"))
    fallen, hidden = counts_where(rows, "unseen-types", "smaller"), hidden_damage(rows)
    nothing = "no number of"
    return [
        f"SDPO's own training score rises significantly with {listed(up, nothing)} problems, and falls with "
        f"{listed(down, nothing)}.",
        f"On the training problems SDPO ends above GRPO with {listed(above, nothing)} problems, and "
        f"below with {listed(below, nothing)}.",
        f"On unseen types SDPO ends below the untrained model with {listed(fallen, nothing)} problems.",
        (
            f"With {listed(hidden)} problems the training score rises while unseen types fall: there the "
            "training curve hides the loss."
        )
        if hidden
        else "At no number of problems does a rising training score hide a loss on unseen types.",
    ]


def changed_series(names: Collection[str]) -> Series:
    """Return SDPO with one thing changed: model, or the teacher's context."""
    every: Series = {
        "SDPO": {count: coverage_name("sdpo", count) for count in COUNTS},
        "small, no intuition": {count: small_name("sdpo", count) for count in COUNTS},
        "without think": {count: coverage_name("sdpo_no_think", count) for count in COUNTS},
    }
    there = {
        label: {count: name for count, name in named.items() if name in names}
        for label, named in every.items()
    }
    return {label: named for label, named in there.items() if len(named) > 1}


def turning_points(recorded: Recorded, series: Series) -> dict[str, pandas.Series]:
    """Return, for each series, the number of problems (log2) at which training stops helping, by seed."""
    return {label: stops_paying(recorded, list(named.values())) for label, named in series.items()}


def in_problems(turn: pandas.Series) -> Interval | None:
    """Return a turning point in problems over the seeds that cross; None when no seed does."""
    crossed = turn.dropna()
    if crossed.empty:
        return None
    doublings = seeds_interval(crossed)
    return Interval(2**doublings.mean, 2**doublings.low, 2**doublings.high)


def later_than(first: pandas.Series, other: pandas.Series) -> Difference | None:
    """Return by how many doublings `other` turns later, paired by seed; None where a seed never crosses."""
    one, two = first.align(other, join="inner")
    if two.empty or one.isna().any() or two.isna().any():
        return None
    return seeds_difference(one, two)


def moved_series(turns: Mapping[str, pandas.Series], first: str = "SDPO") -> list[str]:
    """Return the series whose turning point differs significantly from that of `first`."""
    later = {label: later_than(turns[first], turn) for label, turn in turns.items() if label != first}
    return [label for label, change in later.items() if change is not None and change.significant]


def turning_table(turns: Mapping[str, pandas.Series]) -> pandas.DataFrame:
    """Return one row per series: where its training score stops rising, in how many seeds, how much later."""
    rows = {}
    for label, turn in turns.items():
        later = later_than(turns["SDPO"], turn) if label != "SDPO" and "SDPO" in turns else None
        rows[label] = {
            "training score stops rising at (problems)": str(in_problems(turn) or "nowhere"),
            "seeds that cross": f"{turn.notna().sum()} of {len(turn)}",
            "doublings later than SDPO": str(later or ""),
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("series")


def training_gains(recorded: Recorded, series: Series) -> dict[str, dict[str, Difference]]:
    """Return the gain of the training score by series and number of problems."""
    return {
        label: {counted(count): training_gain(recorded, name) for count, name in named.items()}
        for label, named in series.items()
    }


def gains_table(gains: Mapping[str, Mapping[str, Difference]]) -> pandas.DataFrame:
    """Return `training_gains` as a table of text: a row per number of problems, a column per series."""
    table = {label: {count: str(one) for count, one in row.items()} for label, row in gains.items()}
    return (
        pandas.DataFrame(table, index=[counted(count) for count in COUNTS]).fillna("").rename_axis("problems")
    )


def training_title(recorded: Recorded, what: str, labels: Mapping[str, str]) -> str:
    """Return a title: the training score of which conditions rises, and of which it falls, significantly."""
    gains = {label: training_gain(recorded, name) for name, label in labels.items()}
    moved = {
        word: [label for label, change in gains.items() if direction(change, "rises", "falls") == word]
        for word in ("rises", "falls")
    }
    parts = [f"{word} with {' and with '.join(names)}" for word, names in moved.items() if names]
    return f"{what}: the training score {', and '.join(parts) or 'does not clearly change'}"


def own_test(name: str) -> str:
    """Return the test split of the domain that a condition was trained on."""
    return DOMAINS[name.partition("_")[0]][1]


def domain_effects(
    recorded: Recorded, metrics: Collection[str] = ("reward", "length", "markers")
) -> dict[str, dict[str, dict[str, Difference]]]:
    """Return the changes against the untrained model of each training on another domain: split -> metric."""
    names = [name for name in recorded.provenance if name.startswith(("chemistry_", "kata_"))]
    return {
        name: {
            split: {m: recorded.difference("base_domains", name, m, split) for m in metrics}
            for split in (own_test(name), *AWAY)
        }
        for name in names
    }


def domain_table(effects: Mapping[str, Mapping[str, Mapping[str, Difference]]]) -> pandas.DataFrame:
    """Return one row per training: the score, length and markers of its own test, and the score on hunts."""
    rows = {}
    for name, row in effects.items():
        own = row[own_test(name)]
        rows[COVERAGE[name].label] = {
            "own test: score": str(own["reward"]),
            "length": str(own["length"]),
            "markers": str(own["markers"]),
            "hunts, in-domain: score": str(row["in-domain"]["reward"]),
            "hunts, unseen types: score": str(row["unseen-types"]["reward"]),
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("trained on")


def domain_points(effects: Mapping[str, Mapping[str, Mapping[str, Difference]]]) -> pandas.DataFrame:
    """Return the changes of the score on the own test and on the hunts, for `transfer_points`."""
    rows = []
    for name, row in effects.items():
        for place, split in (("its own test", own_test(name)), ("hunts, in-domain", "in-domain")):
            rows.append(
                {"label": COVERAGE[name].label, "place": place, **vars(row[split]["reward"].interval)}
            )
    return pandas.DataFrame(rows)


def domain_words(effects: Mapping[str, Mapping[str, Mapping[str, Difference]]]) -> list[str]:
    """Return one sentence per training: what happens to its own test and to the hunts."""
    return [
        f"{COVERAGE[name].label}: the score on its own test {_moves(row[own_test(name)]['reward'])}, "
        f"on the hunts it {_moves(row['in-domain']['reward'])}."
        for name, row in effects.items()
    ]


def _moves(change: Difference) -> str:
    return f"{direction(change, 'rises', 'falls', 'does not clearly change')} ({change.interval})"
