"""Repairs in tables and sentences: where each pushes the doubt, and what live training does."""

from collections.abc import Iterable, Mapping

import pandas

from sdlab.findings.before_after import Changes, cell, direction
from sdlab.measure.crossed import crossed_interval
from sdlab.measure.evaluation import metric_sums
from sdlab.measure.intervals import Interval, row_intervals
from sdlab.study.arena_families import FAMILIES, FAMILY
from sdlab.text.plural import plural
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.named import repair_named

LOWERS, RAISES, UNCLEAR = "lowers it", "raises it", "no clear direction"


def pushes_by_method(pushes: pandas.DataFrame) -> pandas.DataFrame:
    """Return each method's mean push per choice point: columns method, mean, low, high, problems.

    The interval is Student's t by problem. A batch has few problems, and a bootstrap interval of a mean that
    may be 0 then excludes 0 too often (`sdlab.measure.intervals`).
    """
    rows = []
    for method, part in pushes.groupby("method", sort=False):
        over, under = metric_sums(part, "push")
        interval = crossed_interval(over.to_numpy()[None], under.to_numpy()[None])
        rows.append({"method": method, **vars(interval), "problems": len(over)})
    return pandas.DataFrame(rows)


def push_word(push: Interval) -> str:
    """Return whether a push lowers or raises the doubt, or neither clearly."""
    return RAISES if push.low > 0 else LOWERS if push.high < 0 else UNCLEAR


def _intervals(table: pandas.DataFrame) -> dict[str, Interval]:
    return dict(zip(table["method"].astype(str), row_intervals(table), strict=True))


def push_table(pushes: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row per method: its family, its push in right, wrong and all completions, and a word.

    The lowest push comes first.
    """
    kinds = {"right": {}, "wrong": {}} | {
        str(kind): _intervals(pushes_by_method(part)) for kind, part in pushes.groupby("completion")
    }
    rows = {}
    for method, every in sorted(_intervals(pushes_by_method(pushes)).items(), key=lambda item: item[1].mean):
        family = FAMILIES[FAMILY[method]][0] if method in FAMILY else "your own"
        rows[method] = {"family": family, "the doubt": push_word(every), "all choice points": str(every)}
        rows[method] |= {
            f"in {kind} completions": str(found.get(method, "none")) for kind, found in kinds.items()
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def push_words(pushes: pandas.DataFrame) -> list[str]:
    """Return one sentence per family: how many of its methods lower the doubt, and how many raise it."""
    words = {method: push_word(push) for method, push in _intervals(pushes_by_method(pushes)).items()}
    lines = []
    for family, (label, _) in FAMILIES.items():
        mine = [word for method, word in words.items() if FAMILY.get(method) == family]
        if mine:
            lines.append(
                f"{label[0].upper()}{label[1:]}: of {plural(len(mine), 'method')} "
                f"{mine.count(LOWERS)} push the doubt down, {mine.count(RAISES)} push it up."
            )
    return lines


def live_table(changes: Mapping[str, Changes]) -> pandas.DataFrame:
    """Return one row per method: the change of score, markers and length, and whether it is significant."""
    rows = {
        name: {
            "score, in-domain": cell(own["in-domain", "reward"]),
            "score, unseen types": cell(own["unseen-types", "reward"]),
            "markers, in-domain": cell(own["in-domain", "markers"]),
            "length, in-domain": cell(own["in-domain", "length"]),
        }
        for name, own in changes.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("after minus before")


def live_words(changes: Mapping[str, Changes]) -> list[str]:
    """Return one sentence per method about its live training."""
    verb = ("rises", "falls", "does not clearly change")
    return [
        f"{name}: the score {direction(own['in-domain', 'reward'], *verb)} in-domain and "
        f"{direction(own['unseen-types', 'reward'], *verb)} on unseen types; the number of markers "
        f"{direction(own['in-domain', 'markers'], *verb)}."
        for name, own in changes.items()
    ]


def named(methods: Iterable[str]) -> dict[str, Repair]:
    """Return repairs of the catalogue by name."""
    return {name: repair_named(name) for name in methods}
