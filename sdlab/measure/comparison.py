"""The change of a metric between two evaluations, paired by problem."""

from dataclasses import dataclass

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import is_share, metric_sums
from sdlab.measure.intervals import Interval, difference_interval
from sdlab.measure.shares import share_difference
from sdlab.text.plural import plural
from sdlab.text.repr_html import ReprHtml


@dataclass(frozen=True)
class Comparison(ReprHtml):
    """The change of a metric from frame a to frame b over the problems on which both have it."""

    metric: str
    a: float
    b: float
    # b minus a, paired by problem
    difference: Interval
    problems: int
    significant: bool
    sentence: str
    # whether |b - a| < margin is shown; None without a margin
    equivalent: bool | None = None

    def __repr__(self) -> str:
        return f"<Comparison {self.sentence}>"


def compare(
    frame_a: pandas.DataFrame,
    frame_b: pandas.DataFrame,
    metric: str = "reward",
    *,
    names: tuple[str, str] = ("a", "b"),
    confidence: float = 0.95,
    margin: float | None = None,
) -> Comparison:
    """Compare two frames problem by problem.

    `.sentence` states the difference, its interval (of 95%, unless it says otherwise), and whether it is
    significant. The comparison uses the problems on which both frames have the metric (for "reward": a graded
    completion). Significant means two things: the interval (Student's t over problems; for shares that of
    `sdlab.measure.shares`) excludes 0, and there are enough problems for a sign test to reach that confidence
    at all (6 for 95%). With fewer problems an interval is not reliable. `margin`: also test whether the two
    are equal within it (two one-sided tests at 5%: the 90% interval lies inside the margin). An interval
    without width, of a metric without limits that changes by the same amount on every problem, is left out of
    the sentence and does not show equality.

    Raises SdlabError when no such problem exists, on a missing column, and on a margin that is not above 0.
    """
    if margin is not None and not margin > 0:
        raise SdlabError(f"margin={margin!r} is not allowed; it must be above 0; use for example 0.05")
    sums_a, sums_b = metric_sums(frame_a, metric), metric_sums(frame_b, metric)
    common = _shared(sums_a, sums_b)
    if not common:
        raise SdlabError(
            f"{names[0]} and {names[1]} have no problem in common with a {metric} on both sides; "
            "compare runs on the same problems, or another metric"
        )
    over_a, under_a, over_b, under_b = (
        column.loc[common].to_numpy() for sums in (sums_a, sums_b) for column in sums
    )
    shares = is_share(frame_a, metric) and is_share(frame_b, metric)
    interval_of = share_difference if shares else difference_interval
    change = interval_of(over_a, under_a, over_b, under_b, confidence)
    a, b = float(over_a.sum() / under_a.sum()), float(over_b.sum() / under_b.sum())
    excludes_zero = change.low > 0 or change.high < 0
    enough = 2.0 ** (1 - len(common)) <= 1 - confidence
    counted = plural(len(common), "problem")
    if not enough:
        verdict = "too few problems to tell"
    elif excludes_zero:
        verdict = "significant"
    else:
        verdict = "not significant"
    equivalent = None
    if margin is not None:
        inner = interval_of(over_a, under_a, over_b, under_b, 0.9)
        equivalent = bool(enough and inner.has_width and -margin < inner.low and inner.high < margin)
        verdict += (
            f"; equal within {margin:g}" if equivalent else f"; not shown to be equal within {margin:g}"
        )
    level = "" if confidence == 0.95 else f"{confidence:.0%} interval, "
    name = "score" if metric == "reward" else metric
    sentence = f"{name}: {names[1]} minus {names[0]} {change.signed} ({level}{counted}), {verdict}"
    return Comparison(metric, a, b, change, len(common), bool(excludes_zero and enough), sentence, equivalent)


def shared_problems(frame_a: pandas.DataFrame, frame_b: pandas.DataFrame, metric: str) -> list:
    """Return the ids of the problems on which both frames have the metric, as `compare` uses them."""
    return _shared(metric_sums(frame_a, metric), metric_sums(frame_b, metric))


def _shared(sums_a, sums_b) -> list:
    (_, under_a), (_, under_b) = sums_a, sums_b
    known_b = set(under_b.index[under_b > 0])
    return [problem for problem in under_a.index[under_a > 0] if problem in known_b]
