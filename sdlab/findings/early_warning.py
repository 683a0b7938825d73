"""The alarm in tables and sentences: which measure warns, within methods too, how early, and where not."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas

from sdlab.measure.intervals import Interval, row_intervals, tidy
from sdlab.measure.shares import share_interval
from sdlab.study.alarm import method_alone
from sdlab.study.detection import ALL
from sdlab.study.statements import OWN_WORDS
from sdlab.study.verdicts import NOT_SETTLED, judge
from sdlab.study.watch import MEASURES
from sdlab.text.plural import plural


def outcome_table(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row per method: runs, failed, for which reason, and whether both outcomes occur."""
    rows = {}
    for method, part in runs.groupby("method", sort=False):
        failed = int(part["failed"].sum())
        reasons = part["reason"].value_counts()
        rows[method] = {
            "runs": len(part),
            "failed": failed,
            "by score": int(reasons.get("score", 0)),
            "by repetition": int(reasons.get("repetition", 0)),
            "both outcomes": "yes" if 0 < failed < len(part) else "no",
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def mixed_words(runs: pandas.DataFrame) -> str:
    """Return sentences: how many methods have failed and healthy runs, and what the method's name tells."""
    shares = runs.groupby("method")["failed"].mean()
    mixed = [str(name) for name, share in shares.items() if 0 < share < 1]
    inside = runs[runs["method"].isin(mixed)]
    return (
        f"{len(mixed)} of {plural(len(shares), 'method')} have failed and healthy runs "
        f"({', '.join(mixed) or 'none'}: {int(inside['failed'].sum())} of {plural(len(inside), 'run')} "
        f"failed). Knowing only the method, without any measure, has an area of {method_alone(runs):.2f}; "
        "for a new run it is at most that, because each method's share of failures comes from these runs."
    )


def inside(areas: pandas.DataFrame) -> pandas.DataFrame:
    """Return a table of areas with the areas within methods in the place of those across methods."""
    return areas.assign(auroc=areas["within"], low=areas["within_low"], high=areas["within_high"])


def area_table(areas: pandas.DataFrame, step: int) -> pandas.DataFrame:
    """Return one row per measure after `step` steps: direction, area across and within methods, and runs."""
    rows = areas[(areas["step"] == step) & areas["auroc"].notna()].sort_values("auroc", ascending=False)
    return pandas.DataFrame({
        "warns when it": [f"{word}s" for word in rows["direction"]],
        "across methods": _intervals(rows, ("auroc", "low", "high")),
        "within methods": _intervals(rows, ("within", "within_low", "within_high")),
        "runs": rows["runs"].tolist(), "methods within": rows["mixed"].tolist(),
    }, index=pandas.Index(rows["label"], name=f"after {step} steps"))  # fmt: skip


def _intervals(rows: pandas.DataFrame, names: Sequence[str]) -> list[str]:
    return [
        str(interval) if interval.mean == interval.mean else "no method has both"
        for interval in row_intervals(rows, names)
    ]


def best_measures(areas: pandas.DataFrame, step: int, column: str = "auroc") -> list[str]:
    """Return the labels of the measures after `step` steps, the largest area first; without nan."""
    rows = areas[(areas["step"] == step) & areas[column].notna()]
    return rows.sort_values(column, ascending=False)["label"].tolist()


def warned_share(warned: pandas.DataFrame, failed: bool = True) -> Interval:
    """Return the share of failed runs that were warned of in time, or of healthy runs with a false alarm.

    warned: from `sdlab.study.detection.warnings_by_run`. The interval resamples conditions, because the seeds
    of one condition resemble each other.
    """
    rows = warned[(warned["failed"] == failed) & warned["at"].notna()]
    hit = rows["at"] < rows["first_failed"] if failed else rows["at"] < math.inf
    return _share_over_conditions(hit, rows["condition"])


def _share_over_conditions(hit: pandas.Series, conditions: pandas.Series) -> Interval:
    """Return the share of runs that are hit; the interval is wide where few conditions differ."""
    groups = hit.astype(float).groupby(conditions)
    if not groups.ngroups:
        return Interval(math.nan, math.nan, math.nan)
    over, under = groups.sum().to_numpy(), groups.size().to_numpy().astype(float)
    return share_interval(over, under)


def warned_before(warned: pandas.DataFrame) -> tuple[Interval, Interval]:
    """Return the share of failed runs that were warned of before their score fell, at least and at most.

    The fall lies between two evaluations: at least, the warning is not after the last healthy one; at most,
    it is before the first failed one. A run without a warning counts as not warned of. warned and intervals
    as in `warned_share`.
    """
    rows = warned[warned["failed"].astype(bool) & warned["at"].notna()]
    least = _share_over_conditions(rows["at"] <= rows["last_healthy"], rows["condition"])
    return least, warned_share(warned)


def method_table(detection: pandas.DataFrame, measure: str) -> pandas.DataFrame:
    """Return one row per method for one measure: the rule from the other methods, and how well it warns."""
    rows = detection[(detection["measure"] == measure)]
    table = {}
    for row in rows.to_dict("records"):
        lead = f"{tidy(row['lead_least'])} to {tidy(row['lead_most'])}" if row["warned"] else ""
        table[row["method"]] = {
            "rule of the other methods": row["rule"] or row["note"],
            "failed": f"{row['failed']} of {row['runs']}",
            "warned": _share(row["warned"]),
            "lead (steps)": lead if row["warned"] == row["warned"] else "",
            "false alarms": _share(row["false_alarms"]),
        }
    return pandas.DataFrame.from_dict(table, orient="index").rename_axis(MEASURES[measure].label)


def _share(value: float) -> str:
    return "" if value != value else f"{value:.0%}"


def silent_words(warned: pandas.DataFrame, measure: str) -> list[str]:
    """Return sentences on where the alarm does not help: missed runs and false alarms by method."""
    lines, label = [], MEASURES[measure].label
    known = warned[warned["at"].notna()]
    for method, part in known.groupby("method", sort=False):
        failed, healthy = part[part["failed"]], part[~part["failed"].astype(bool)]
        late = failed[~(failed["at"] < failed["first_failed"])]
        false = healthy[np.isfinite(healthy["at"])]
        if len(late):
            worst = late["difference"].min()
            lines.append(
                f"{method}: no warning in time in {len(late)} of {plural(len(failed), 'failed run')} "
                f"({label}; their largest loss of score is {worst:+.2f})."
            )
        if len(false):
            lines.append(f"{method}: a false alarm in {len(false)} of {plural(len(healthy), 'healthy run')}.")
    left = int(warned["at"].isna().sum())
    if left:
        lines.append(
            f"{plural(left, 'run')} could not be judged: the other methods have no failed or no healthy run."
        )
    return lines or [f"With {label} every failed run was warned of, and no healthy run."]


def alarm_claims(
    areas: pandas.DataFrame, warned: pandas.DataFrame, detection: pandas.DataFrame, step: int, measure: str
) -> dict[str, dict[str, str]]:
    """Return claim -> measured, verdict (yes, no, not settled), and what would refute it.

    An area needs 0.5 below its interval. The score falls between two evaluations, so the claim about the
    order of warning and fall is settled only when both ends agree (`warned_before`).
    """
    rows, label = {}, MEASURES[measure].label
    for name in dict.fromkeys(areas["measure"]):
        row = areas[(areas["measure"] == name) & (areas["step"] == step)].iloc[0]
        interval = Interval(row["within"], row["within_low"], row["within_high"])
        rows[f"after {step} steps, {MEASURES[name].label}: failed and healthy runs of one method differ"] = (
            interval, 0.5, math.inf, f"area within methods: 0.5 or less ({plural(row['mixed'], 'method')})",
        )  # fmt: skip
    rows[f"a threshold on {label} warns in time of at least half of the failed runs of unseen methods"] = (
        warned_share(warned), 0.5, math.inf, "share warned: a half or less",
    )  # fmt: skip
    rows["it gives a false alarm in at most a fifth of the healthy runs of unseen methods"] = (
        warned_share(warned, failed=False), -math.inf, 0.2, "share of false alarms: a fifth or more",
    )  # fmt: skip
    whole = detection[(detection["measure"] == measure) & (detection["method"] == ALL)].iloc[0]
    table = {
        claim: {
            "measured": str(interval),
            "verdict": OWN_WORDS[judge(interval, low, high)],
            "refuted by": why,
        }
        for claim, (interval, low, high, why) in rows.items()
    }
    least, most = warned_before(warned)
    verdict = judge(Interval(least.mean, least.low, most.high), 0.5, math.inf)
    table["in most failed runs the warning comes before the score falls"] = {
        "measured": f"share of failed runs: {least} at least, {most} at most; where it warns, a median lead "
        f"of {tidy(whole['lead_least'])} to {tidy(whole['lead_most'])} steps",
        "verdict": OWN_WORDS[verdict],
        "refuted by": "share warned before the first failed evaluation: a half or less",
    }
    return table


def settled_words(claims: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a sentence that counts the verdicts, then one for every claim that is settled."""
    verdicts = [row["verdict"] for row in claims.values()]
    counted = ", ".join(f"{word} {verdicts.count(word)}" for word in dict.fromkeys(verdicts))
    return [f"Verdicts on {plural(len(claims), 'claim')}: {counted}."] + [
        f"{claim[0].upper()}{claim[1:]}: **{row['verdict']}** ({row['measured']})."
        for claim, row in claims.items()
        if row["verdict"] != OWN_WORDS[NOT_SETTLED]
    ]


def claim_table(claims: Mapping[str, Mapping[str, str]]) -> pandas.DataFrame:
    """Return the claims as a table: verdict, measured, and what would refute them."""
    table = pandas.DataFrame.from_dict(dict(claims), orient="index")
    return table[["verdict", "measured", "refuted by"]].rename_axis("claim")
