"""Compare a model before and after training on the same problems: changes, tables and sentences."""

from collections.abc import Iterable, Mapping, Sequence

import pandas

from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.crossed import Difference
from sdlab.measure.evaluation import summarise
from sdlab.measure.evaluation_sets import evaluate_tests as evaluate_tests
from sdlab.measure.intervals import Interval, tidy
from sdlab.study.recorded import Recorded

METRICS = ("reward", "length", "markers", "density")
NAMES = {"reward": "score", "density": "markers per 1,000 tokens"}
UNCLEAR = "not significant"
Changes = dict[tuple[str, str], Comparison]  # (test, metric) -> change


def metric_name(metric: str) -> str:
    """Return the name of a metric as a reader knows it: "score" for reward."""
    return NAMES.get(metric, metric)


def direction(
    change: Comparison | Difference, up: str = "larger", down: str = "smaller", unclear: str = UNCLEAR
) -> str:
    """Return `up` or `down` for a significant change, else `unclear`."""
    if not change.significant:
        return unclear
    interval = change.interval if isinstance(change, Difference) else change.difference
    return up if interval.mean > 0 else down


def which(first: bool, second: bool, options: Sequence[str]) -> str:
    """Return the option that holds; they are: only the first, only the second, both, neither."""
    return options[2 if first and second else 0 if first else 1 if second else 3]


def cell(change: Comparison | Difference) -> str:
    """Return a difference with its interval and its verdict for a table."""
    return str(change) if isinstance(change, Difference) else signed(change.difference, change.significant)


def signed(interval: Interval, significant: bool = True) -> str:
    """Return an interval with the sign of its mean, and "(not significant)" where it is not."""
    return interval.signed + ("" if significant else f" ({UNCLEAR})")


def means(frame: pandas.DataFrame, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Return the mean of each metric over all completions of `frame`."""
    table = summarise(frame, metrics=metrics).set_index("metric")["mean"]
    return {metric: float(table[metric]) for metric in metrics}


def checked_share(frame: pandas.DataFrame) -> pandas.Series:
    """Return the share of the numbers a completion settles ("So A is 15.") that a check confirmed before.

    NaN for a completion that settles none.
    """
    settled = frame["completion"].str.count(r"So [A-Z] is")
    return (frame["completion"].str.count(r", yes\.") / settled.where(settled > 0)).clip(upper=1)


def changes_by_test(
    before: pandas.DataFrame, after: pandas.DataFrame, metrics: Sequence[str] = METRICS
) -> Changes:
    """Return the change of every metric on every test, paired by problem."""
    found = {}
    for split in dict.fromkeys(before["split"]):
        one, two = (frame[frame["split"] == split] for frame in (before, after))
        for metric in metrics:
            found[split, metric] = compare(one, two, metric, names=("before", "after"))
    return found


def change_table(changes: Changes) -> pandas.DataFrame:
    """Return one row per test and metric: before, after, and the difference with its interval."""
    rows = [
        {
            "test": split,
            "metric": metric_name(metric),
            "before": tidy(change.a),
            "after": tidy(change.b),
            "after minus before": cell(change),
        }
        for (split, metric), change in changes.items()
    ]
    return pandas.DataFrame(rows).set_index(["test", "metric"])


def change_words(changes: Changes, metrics: Iterable[str] = ("reward", "length", "markers")) -> list[str]:
    """Return one sentence per test: the metrics before and after, and whether each change is significant."""
    lines = []
    for split in dict.fromkeys(split for split, _ in changes):
        parts = [
            f"{metric_name(metric)} {tidy(one.a)} before and {tidy(one.b)} after ({direction(one)})"
            for metric, one in ((metric, changes[split, metric]) for metric in metrics)
        ]
        lines.append(f"{split}: " + ", ".join(parts) + ".")
    return lines


def main_changes(changes: Changes) -> dict[str, Comparison]:
    """Return the change of the score on the last test and of the markers on the first, named for a record."""
    tests = [split.replace("-", "_").replace(" ", "_") for split in dict.fromkeys(s for s, _ in changes)]
    splits = list(dict.fromkeys(split for split, _ in changes))
    return {
        f"score_change_{tests[-1]}": changes[splits[-1], "reward"],
        f"marker_change_{tests[0]}": changes[splits[0], "markers"],
    }


def first_to_last(
    steps: pandas.DataFrame,
    labels: Mapping[str, str] | None = None,
    metric: str = "reward",
    by: str = "condition",
) -> str:
    """Return the title of a chart of training runs: "Training score, first to last step: SDPO 0.71 to 0.19".

    steps: a row per step (and seed) of each condition; a value is the mean over the seeds at that step.
    labels: names of the conditions for readers; others are shown as they are.
    """
    labels, means = labels or {}, steps.groupby([by, "step"], sort=True)[metric].mean()
    ends = [
        f"{labels.get(name, name)} {tidy(means.loc[name].iloc[0])} to {tidy(means.loc[name].iloc[-1])}"
        for name in dict.fromkeys(steps[by])
    ]
    return f"Training {metric_name(metric)}, first to last step: {'; '.join(ends)}"


def nested(changes: Changes) -> dict[str, dict[str, Comparison]]:
    """Return the changes as test -> metric -> change."""
    found: dict[str, dict[str, Comparison]] = {}
    for (split, metric), change in changes.items():
        found.setdefault(split, {})[metric] = change
    return found


def against_untrained(
    recorded: Recorded,
    name: str,
    splits: Sequence[str],
    metrics: Sequence[str] = METRICS,
    base: str = "base",
) -> dict[tuple[str, str], Difference]:
    """Return the difference between recorded runs and the untrained model, by split and metric."""
    return {
        (split, metric): recorded.difference(base, name, metric, split)
        for split in splits
        for metric in metrics
    }


def against_untrained_table(
    recorded: Recorded, name: str, differences: Mapping[tuple[str, str], Difference], base: str = "base"
) -> pandas.DataFrame:
    """Return a table of `against_untrained`: the untrained model, the trained one, and the difference."""
    rows = [
        {
            "test": split,
            "metric": metric_name(metric),
            "untrained": str(recorded.interval(base, metric, split)),
            "trained": str(recorded.interval(name, metric, split)),
            "difference": cell(difference),
        }
        for (split, metric), difference in differences.items()
    ]
    return pandas.DataFrame(rows).set_index(["test", "metric"])
