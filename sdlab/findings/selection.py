"""What rewards select: how right completions differ from wrong ones to the same problem.

For any property m of a completion, the mean of advantage times m over a group is p (1 - p) times the mean of
m over its right completions minus that over its wrong ones, with p the share of right completions.
"""

from collections.abc import Mapping, Sequence

import pandas

from sdlab.findings.before_after import UNCLEAR, Changes, cell, direction, metric_name
from sdlab.measure.comparison import Comparison, compare

METRICS = ("length", "markers", "density", "checked")


def right_and_wrong(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row per problem and verdict: the means over its right, and over its wrong completions.

    Only problems with both kinds are kept. The columns are problem_id, reward, length, markers, checked where
    the frame has it, and context ("right" or "wrong").
    """
    rates = frame.groupby("problem_id")["reward"].transform("mean")
    mixed = frame[rates.between(0, 1, inclusive="neither")]
    columns = [column for column in ("length", "markers", "checked") if column in frame]
    means = mixed.groupby(["problem_id", "reward"], sort=False)[columns].mean().reset_index()
    named = means.assign(context=means["reward"].map({1.0: "right", 0.0: "wrong"}))
    return named.sort_values("reward", ascending=False, kind="stable", ignore_index=True)


def sibling_contrast(means: pandas.DataFrame, metrics: Sequence[str] = METRICS) -> dict[str, Comparison]:
    """Return right minus wrong for every metric, paired by problem; `means` from `right_and_wrong`."""
    right, wrong = (means[means["context"] == name] for name in ("right", "wrong"))
    return {metric: compare(wrong, right, metric, names=("wrong", "right")) for metric in metrics}


def contrast_table(contrast: Mapping[str, Comparison], frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the contrast as a table, beside the difference of all right and all wrong completions."""
    rows = []
    for metric, change in contrast.items():
        pooled = compare(frame[frame["reward"] == 0], frame[frame["reward"] == 1], metric)
        rows.append(
            {
                "metric": metric_name(metric),
                "wrong": f"{change.a:.2f}",
                "right": f"{change.b:.2f}",
                "right minus wrong, same problem": cell(change),
                "all problems mixed": f"{pooled.b - pooled.a:+.2f}",
            }
        )
    return pandas.DataFrame(rows).set_index("metric")


def advantage_identity_error(frame: pandas.DataFrame, column: str = "length") -> float:
    """Return the largest difference between the mean of advantage x column and p (1 - p) x contrast.

    The frame has a column `advantage`. Groups whose completions are all right or all wrong are left out.
    """
    worst = 0.0
    for _, group in frame.groupby("problem_id"):
        p = group["reward"].mean()
        if 0 < p < 1:
            means = group.groupby("reward")[column].mean()
            push = (group["advantage"] * group[column]).mean()
            worst = max(worst, abs(push - p * (1 - p) * (means[1.0] - means[0.0])))
    return worst


def selected_and_changed(
    contrast: Mapping[str, Comparison], changes: Changes, split: str
) -> pandas.DataFrame:
    """Return what rewards select beside what training changed on `split`, and whether the two agree."""
    rows = []
    for metric, chosen in contrast.items():
        words = [direction(one, "more", "less") for one in (chosen, changes[split, metric])]
        agree = "cannot tell" if UNCLEAR in words else "yes" if words[0] == words[1] else "no"
        rows.append(
            {
                "metric": metric_name(metric),
                "right completions have": words[0],
                "after training": words[1],
                "agree": agree,
            }
        )
    return pandas.DataFrame(rows).set_index("metric")
