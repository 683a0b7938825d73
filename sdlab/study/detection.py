"""Does a threshold on one measure warn of runs of a method that it was not fitted on, and how early?"""

import math
from collections.abc import Sequence

import numpy as np
import pandas

from sdlab.measure.intervals import tidy
from sdlab.settings import Share, checked
from sdlab.study.alarm import changes, measures_of
from sdlab.study.outcomes import RUN
from sdlab.study.recorded import Recorded
from sdlab.study.watch import DIRECTIONS, MEASURES, Rule, oriented

ALL = "all methods"


def fit_rule(
    moved: pandas.DataFrame, runs: pandas.DataFrame, measure: str, false_alarms: float
) -> Rule | None:
    """Return the rule on `measure` that warns of most failed runs, or None without failed or healthy runs.

    `moved` and `runs` as in `detection_table`, in the same order. In each direction the threshold is the
    largest change of the healthy run that comes after the share `false_alarms` of them, so at most this share
    of the healthy runs breaks the rule at any step. Equal directions: "fall" before "rise" before "either".
    """
    failed = runs["failed"].to_numpy(bool)
    if failed.all() or not failed.any():
        return None
    best: tuple[float, Rule] | None = None
    for direction in DIRECTIONS:
        peaks = np.nanmax(oriented(moved, direction), axis=1)
        healthy = np.sort(peaks[~failed])[::-1]
        threshold = max(float(healthy[int(false_alarms * len(healthy))]), 1e-9)
        warned = _first(moved, Rule(measure, direction, threshold))[failed]
        share = float((warned < runs["first_failed"].to_numpy(float)[failed]).mean())
        if best is None or share > best[0]:
            best = share, Rule(measure, direction, threshold)
    return best[1] if best else None


def _first(moved: pandas.DataFrame, rule: Rule) -> np.ndarray:
    """Return the first step that breaks the rule, by run; infinity where none does."""
    broken = oriented(moved, rule.direction) > rule.threshold
    steps = np.asarray(moved.columns, dtype=float)
    return np.where(broken.any(axis=1), steps[broken.argmax(axis=1)], np.inf)


@checked
def detection_table(
    recorded: Recorded,
    runs: pandas.DataFrame,
    measures: Sequence[str] | None = None,
    false_alarms: Share = 0.1,
    rule: Rule | None = None,
) -> pandas.DataFrame:
    """Return how well each measure warns of failed runs of a method that its threshold was not fitted on.

    `runs` as in `changes`. rule: judge this fixed rule instead of fitting; `measures` is then not used.

    One row per measure and method, then a row ALL. Columns: measure, method, rule, runs, failed, warned
    (share of the failed runs that break the rule before the first failed evaluation), lead_least and
    lead_most (median number of steps from the warning to the last healthy and to the first failed
    evaluation; the fall lies between the two), false_alarms (share of the healthy runs that break the
    rule at any step), left_out (runs without the measure), note (why a method could not be judged).

    Raises SdlabError as `changes`.
    """
    rows = []
    if rule is not None:
        measures = [rule.measure]
    for measure in measures_of(recorded, runs) if measures is None else measures:
        warned = warnings_by_run(recorded, runs, measure, false_alarms, rule)
        for method in dict.fromkeys(warned["method"]):
            held = warned[warned["method"] == method]
            rows.append(_judged(measure, method, str(held["rule"].iloc[0]), held))
        known = warned[warned["at"].notna()]
        rows.append(_judged(measure, ALL, str(rule) if rule else "", known))
        for row in rows[-1 - warned["method"].nunique() :]:
            row["left_out"] = warned.attrs["left_out"]
    return pandas.DataFrame(rows)


@checked
def warnings_by_run(
    recorded: Recorded,
    runs: pandas.DataFrame,
    measure: str,
    false_alarms: Share = 0.1,
    rule: Rule | None = None,
) -> pandas.DataFrame:
    """Return the runs that have the measure, with the rule of the other methods and the step of its warning.

    Arguments as in `detection_table`. Columns: those of `runs`, rule (in words, "" where the other methods
    have no failed or no healthy run), and at: the first step that breaks the rule, infinity where none does,
    nan without a rule. `attrs["left_out"]`: runs without the measure.

    Raises SdlabError as `changes`.
    """
    moved = changes(recorded, runs, measure)
    mine = runs.set_index(RUN).loc[moved.index]
    first, words = np.full(len(mine), np.nan), np.full(len(mine), "", dtype=object)
    for method in dict.fromkeys(mine["method"]):
        held = (mine["method"] == method).to_numpy()
        fitted = rule or fit_rule(moved[~held], mine[~held], measure, false_alarms)
        if fitted is not None:
            words[held], first[held] = str(fitted), _first(moved[held], fitted)
    table = mine.assign(rule=words, at=first).reset_index()
    table.attrs["left_out"] = moved.attrs["left_out"]
    return table


def _judged(measure: str, method: str, words: str, runs: pandas.DataFrame) -> dict:
    failed, first = runs["failed"].to_numpy(bool), runs["at"].to_numpy(float)
    row = {
        "measure": measure,
        "method": method,
        "rule": words,
        "runs": len(runs),
        "failed": int(failed.sum()),
    }
    nothing = dict.fromkeys(("warned", "lead_least", "lead_most", "false_alarms"), math.nan)
    if np.isnan(first).all():
        why = "the other methods have no failed or no healthy run" if len(first) else "no method to judge"
        return row | nothing | {"note": why}
    fell, before = (runs[name].to_numpy(float)[failed] for name in ("first_failed", "last_healthy"))
    at = first[failed]
    warned = at < fell
    return row | {
        "warned": float(warned.mean()) if failed.any() else math.nan,
        "lead_least": float(np.median((before - at)[warned])) if warned.any() else math.nan,
        "lead_most": float(np.median((fell - at)[warned])) if warned.any() else math.nan,
        "false_alarms": float(np.isfinite(first[~failed]).mean()) if (~failed).any() else math.nan,
        "note": "",
    }


def alarm_text(areas: pandas.DataFrame, detection: pandas.DataFrame) -> pandas.DataFrame:
    """Return both tables as text with a row per measure: areas by step, then the row of all methods.

    The areas are those with the learned direction ("unseen"), and in brackets the interval of the area in the
    best direction.
    """
    numbers = areas[["unseen", "auroc", "low", "high"]].to_numpy(float)
    cells = areas.assign(
        cell=[f"{unseen:.2f} ({area:.2f} [{tidy(low)}, {tidy(high)}])" for unseen, area, low, high in numbers]
    ).pivot(index="label", columns="step", values="cell")
    cells = cells.rename(columns=lambda step: f"after {step} steps").rename_axis(columns=None)
    whole = detection[detection["method"] == ALL]
    whole = whole.set_index(whole["measure"].map(lambda name: MEASURES[str(name)].label))
    text = pandas.DataFrame({
        "warned": [f"{value:.0%}" for value in whole["warned"]],
        "lead (steps)": [f"{a:.0f} to {b:.0f}" for a, b in whole[["lead_least", "lead_most"]].to_numpy()],
        "false alarms per healthy run": [f"{value:.2f}" for value in whole["false_alarms"]],
    }, index=whole.index)  # fmt: skip
    return cells.reindex(index=areas["label"].unique()).join(text)
