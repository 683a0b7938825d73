"""The number of problems, or how often each is met? The grid that separates the two, in tables and words."""

from collections.abc import Mapping

import pandas

from sdlab.findings.before_after import direction, which
from sdlab.measure.crossed import Difference
from sdlab.measure.intervals import interval_cells
from sdlab.study.exposures import exposures_table
from sdlab.study.recorded import Recorded

CHANGED = {
    "same problems": "each problem met four times as often (and four times the steps)",
    "same exposures": "four times the problems, each met as often (and four times the steps)",
    "same steps": "four times the problems, each met a quarter as often, in as many steps",
}


def grid_table(
    recorded: Recorded, method: str, metric: str = "reward", split: str = "unseen-types"
) -> pandas.DataFrame:
    """Return a metric at the end of training: rows are numbers of problems, columns exposures of each.

    Raises SdlabError when a run is not recorded.
    """
    frame = exposures_table(recorded, method, metric, split)
    frame["cell"] = interval_cells(frame)
    table = frame.pivot(index="num_questions", columns="exposures", values="cell").fillna("not run")
    return table.rename(columns="met {} times each".format).rename_axis(index="problems", columns=None)


WORSE = ("meeting each problem more often", "more problems", "both", "neither, as far as these runs can tell")


def worse(effects: Mapping[str, Mapping[str, Difference]]) -> str:
    """Return which of exposures and problems lowers the metric in a comparison, one of WORSE."""
    often, many = (
        any(direction(change) == "smaller" for change in effects[kind].values())
        for kind in ("same problems", "same exposures")
    )
    return which(often, many, WORSE)


def effect_words(
    effects: Mapping[str, Mapping[str, Difference]], what: str = "score on unseen types"
) -> list[str]:
    """Return one sentence per kind of comparison: in how many of its pairs does the metric rise or fall?"""
    lines = []
    for kind, pairs in effects.items():
        words = [direction(change, "rises", "falls", "") for change in pairs.values()]
        means = [change.interval.mean for change in pairs.values()]
        lines.append(
            f"{CHANGED[kind][0].upper()}{CHANGED[kind][1:]}: the {what} rises in {words.count('rises')} and "
            f"falls in {words.count('falls')} of {len(words)} comparisons ({min(means):+.2f} to "
            f"{max(means):+.2f})."
        )
    return lines


def effects_table(effects: Mapping[str, Mapping[str, Difference]]) -> pandas.DataFrame:
    """Return one row per comparison: what changes, from which cell to which, and the difference."""
    rows = [
        {"what changes": CHANGED[kind], "problems x exposures": label, "difference": str(change)}
        for kind, pairs in effects.items()
        for label, change in pairs.items()
    ]
    return pandas.DataFrame(rows).set_index(["what changes", "problems x exposures"])
