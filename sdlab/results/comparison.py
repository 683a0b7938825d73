"""Compare several results in one table, with paired differences on the same problems."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from sdlab.errors import SdlabError, unknown
from sdlab.measure.comparison import compare, shared_problems
from sdlab.measure.evaluation import DENSITIES
from sdlab.measure.intervals import Interval, interval_cells
from sdlab.results.result import ALL_METRICS, METRICS, Result
from sdlab.results.store import load_results
from sdlab.text.plural import plural

DEFAULT_METRICS = ("reward", "pass@1", "pass@4", "pass@8", "pass@16", *METRICS)
IN_UNITS = ("length", *DENSITIES)  # not comparable between tokens and words
NO_BASELINE, NO_PROBLEMS = "the baseline has no result here", "no problem in common"


def comparison(
    results: Sequence[Result | str | Path],
    baseline: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    confidence: float = 0.95,
    seed: int = 0,
) -> pandas.DataFrame:
    """Return one row per model, benchmark and metric, with the difference from the baseline.

    results: results, or folders that hold some (of organisms and real models, sampled and imported). Columns:
    model, benchmark, metric, mean, low, high, problems, generations, unit, baseline, difference,
    difference_low, difference_high, common, verdict.

    The difference is model minus baseline (the first model when none is named), paired by problem, on the
    problems that both have on that benchmark. Problems are identified by their prompts. The verdict is
    "significant", "not significant", or the reason why there is none; it is empty for the baseline. Intervals
    are those of `sdlab.measure.shares` and `sdlab.measure.intervals`. With many rows some differences are
    significant by chance: at 95%, one in twenty where nothing differs.

    Raises SdlabError on an unknown baseline or metric, without results, and when a model has two results on
    one benchmark.
    """
    loaded = _loaded(results)
    models = list(dict.fromkeys(result.model for result in loaded))
    baseline = models[0] if baseline is None else baseline
    if baseline not in models:
        raise unknown("baseline", baseline, models)
    for metric in metrics:
        if metric not in ALL_METRICS:
            raise unknown("metric", metric, ALL_METRICS)
    by = {(result.model, result.benchmark): result for result in loaded}
    tables = []
    for result in loaded:
        rows = result.summary(metrics, confidence, seed)
        other = by.get((baseline, result.benchmark))
        differences = [_difference(other, result, metric, baseline, confidence) for metric in rows["metric"]]
        tables.append(rows.reset_index(drop=True).join(pandas.DataFrame(differences)))
    table = pandas.concat(tables, ignore_index=True)
    places = {
        benchmark: i for i, benchmark in enumerate(dict.fromkeys(result.benchmark for result in loaded))
    }
    return table.sort_values("benchmark", key=lambda column: column.map(places), kind="stable").reset_index(
        drop=True
    )


def wide(
    table: pandas.DataFrame,
    metrics: Sequence[str] = ("reward", "pass@16", "length", "markers", "density", "truncated"),
) -> pandas.DataFrame:
    """Return a `comparison` as text: a row per benchmark and model, cells like "0.30 [0.25, 0.35]".

    A metric that no result has is left out.
    """
    cells = table.assign(cell=interval_cells(table))
    words = (cells["metric"] == "length") & (cells["unit"] == "words") | cells["metric"].isin(
        DENSITIES
    ) & cells["unit"].str.endswith("words")
    cells.loc[words, "cell"] += " words"
    keys = pandas.MultiIndex.from_frame(cells[["benchmark", "model"]].drop_duplicates())
    present = [metric for metric in metrics if metric in set(cells["metric"])]
    return (
        cells.pivot(index=["benchmark", "model"], columns="metric", values="cell")
        .reindex(index=keys, columns=present)
        .fillna("")
        .rename_axis(columns=None)
    )


def sentences(table: pandas.DataFrame, metrics: Sequence[str] = ("reward", "length", "markers")) -> list[str]:
    """Return the differences of a `comparison` in words, on the benchmarks that the baseline has."""
    rows = table[table["metric"].isin(metrics) & ~table["verdict"].isin(["", NO_BASELINE])]
    return [
        f"{row['benchmark']}, {'score' if row['metric'] == 'reward' else row['metric']}: "
        f"{row['model']} minus {row['baseline']} "
        + (
            f"is {row['difference']:+.3g} ({_doubt(row)}): "
            if np.isfinite(row["difference"])
            else "is not known: "
        )
        + f"{row['verdict']}."
        for row in rows.to_dict("records")
    ]


def _doubt(row: dict) -> str:
    """Return the interval of a difference and its number of problems, in words."""
    interval = Interval(row["difference"], row["difference_low"], row["difference_high"])
    if not interval.has_width:
        few = "too few for an interval" if row["common"] < 2 else "all with the same difference"
        return f"{plural(row['common'], 'problem')} in common, {few}"
    return (
        f"{row['difference_low']:+.3g} to {row['difference_high']:+.3g}, {plural(row['common'], 'problem')}"
    )


def _loaded(results: Sequence[Result | str | Path]) -> list[Result]:
    """Return the results, with those of folders loaded.

    Raises SdlabError when there is none, and when a model has two results on one benchmark.
    """
    loaded = []
    for source in results:
        loaded += [source] if isinstance(source, Result) else load_results([source])
    if not loaded:
        raise SdlabError(
            "nothing to compare; give results, or folders that `sdlab evaluate` or `sdlab import` wrote"
        )
    seen = set()
    for result in loaded:
        if (result.model, result.benchmark) in seen:
            raise SdlabError(
                f"two results of {result.model} on {result.benchmark}; "
                "give one of them another model name (--name)"
            )
        seen.add((result.model, result.benchmark))
    return loaded


def _difference(a: Result | None, b: Result, metric: str, baseline: str, confidence: float) -> dict:
    """Return the columns of the paired difference, b minus a."""
    nothing = {
        "baseline": baseline,
        "difference": np.nan,
        "difference_low": np.nan,
        "difference_high": np.nan,
        "common": 0,
    }
    if b.model == baseline:
        return nothing | {"verdict": ""}
    if a is None:
        return nothing | {"verdict": NO_BASELINE}
    if metric in IN_UNITS and a.about["length_unit"] != b.about["length_unit"]:
        return nothing | {
            "verdict": f"{a.about['length_unit']} and {b.about['length_unit']} cannot be compared"
        }
    rows_a, rows_b = _rows(a, metric), _rows(b, metric)
    if rows_a.empty or rows_b.empty or not shared_problems(rows_a, rows_b, metric):
        return nothing | {"verdict": NO_PROBLEMS}
    change = compare(rows_a, rows_b, metric, confidence=confidence)
    verdict = "significant" if change.significant else "not significant"
    bounds = change.difference.low, change.difference.high
    if not change.significant and (bounds[0] > 0 or bounds[1] < 0 or not np.isfinite(bounds).all()):
        verdict = "not significant: too few problems"
    values = {
        "difference": change.difference.mean,
        "difference_low": change.difference.low,
        "difference_high": change.difference.high,
        "common": change.problems,
    }
    return nothing | values | {"verdict": verdict}


def _rows(result: Result, metric: str) -> pandas.DataFrame:
    """Return the rows to compare, with the prompt's key as `problem_id`.

    The rows are problems for shares of right completions, and completions for the other metrics.
    """
    if metric == "reward" or metric.startswith("pass@"):
        frame = result.problems[["key", "rate" if metric == "reward" else metric]].set_axis(
            ["problem_id", metric], axis=1
        )
        return frame.dropna()
    keys = dict(zip(result.problems["problem_id"], result.problems["key"], strict=True))
    columns = [DENSITIES[metric], "length"] if metric in DENSITIES else [metric]
    if any(column not in result.samples for column in columns):
        return pandas.DataFrame({"problem_id": [], metric: []})
    return result.samples.assign(problem_id=result.samples["problem_id"].map(keys)).dropna(subset=columns)
