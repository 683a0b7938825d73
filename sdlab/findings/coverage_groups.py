"""Types that nobody wrote down: groups found from the words of the problems, and how soon all are met.

In real files the types are found by `sdlab.benchmarks.clusters`; a group of wordings need not be a type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas

from sdlab.benchmarks import clusters
from sdlab.benchmarks.coverage import accumulation, expected_met
from sdlab.benchmarks.recorded import SIZES
from sdlab.text.plural import plural
from sdlab.world.splits import load_split


@dataclass(frozen=True)
class BlindGrouping:
    """Groups of problems found from their words alone, where the types are known."""

    table: pandas.DataFrame
    texts: dict[str, list[str]]
    types: dict[str, clusters.Types]
    rand: dict[str, float]  # agreement with the known types: 1 the same groups, 0 chance


def group_by_words(splits: Sequence[str], count: int) -> BlindGrouping:
    """Group the first `count` problems of each split by their words, and compare with their known types."""
    rows, texts, found, rand = [], {}, {}, {}
    for name in splits:
        problems = load_split(name)[:count]
        kinds, texts[name] = [one.kind for one in problems], [one.prompt for one in problems]
        groups = found[name] = clusters.find_types(texts[name])
        cut = groups.types or groups.best
        rand[name] = clusters.agreement(cut.labels, kinds)
        rows.append(
            {
                "split": name,
                "known types": len(set(kinds)),
                "types found": str(groups.types.count) if groups.types else "none",
                "highest silhouette": f"{groups.best.silhouette:.2f}",
                "groups compared": cut.count,
                "Rand index": f"{rand[name]:.2f}",
                "first group": ", ".join(cut.terms[0][:4]),
            }
        )
    return BlindGrouping(pandas.DataFrame(rows).set_index("split"), texts, found, rand)


def silhouette_curves(real: Mapping[str, dict], names: Sequence[str]) -> pandas.DataFrame:
    """Return the silhouette of every cut of the recorded sets, with the peaks named."""
    rows = []
    for name in names:
        groups = real[name]["groups"]
        peaks = {groups[scale]["count"]: scale for scale in ("wordings", "types") if groups[scale]}
        for k, value in groups["curve"].items():
            peak = f"{k} {peaks[int(k)]}" if int(k) in peaks else ""
            rows.append({"set": name, "groups": int(k), "silhouette": value, "peak": peak})
    return pandas.DataFrame(rows)


def group_table(real: Mapping[str, dict]) -> pandas.DataFrame:
    """Return the types and wordings found in each recorded set, and how often a part of it gives the same."""
    rows = {}
    for name, one in real.items():
        groups = one["groups"]
        if not groups:
            continue
        row = {"distinct": f"{one['distinct']:,}"}
        for scale in ("types", "wordings"):
            found, again = groups[scale], (groups["again"] or {}).get(scale)
            same = str(found["count"] if found else 0)
            row[scale] = f"{found['count']} (effective {found['effective']:.1f})" if found else "none"
            row[f"same {scale} again"] = (
                f"{again['counts'].get(same, 0)} of {sum(again['counts'].values())}" if again else ""
            )
        rows[name] = row
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("set")


def doublings(total: int) -> list[int]:
    """Return 1, 2, 4, ... up to `total`, and `total` itself."""
    return sorted({*(2**k for k in range(13) if 2**k <= total), total})


def accumulation_curves(
    counts: Mapping[str, Sequence[int]], kinds: Mapping[str, Sequence[Sequence[str]]]
) -> pandas.DataFrame:
    """Return how many distinct types are met as problems are drawn: columns set, n, met.

    counts: sets in which every problem has one type, by the size of each type. kinds: sets in which a problem
    may have several, by the types of each problem.
    """
    rows = []
    for name, sizes in counts.items():
        drawn = doublings(sum(sizes))
        rows += [
            {"set": name, "n": n, "met": met}
            for n, met in zip(drawn, expected_met(sizes, drawn), strict=True)
        ]
    for name, types in kinds.items():
        drawn = doublings(len(types))
        rows += [
            {"set": name, "n": n, "met": met}
            for n, met in zip(drawn, accumulation(types, drawn), strict=True)
        ]
    return pandas.DataFrame(rows)


def met_in(curves: pandas.DataFrame, n: int) -> pandas.DataFrame:
    """Return how many types are met in `n` problems, of how many, for each set."""
    at, whole = _met_of(curves, n)
    table = {f"met in {plural(n, 'problem')}": at.round(1), "of": whole.round().astype(int)}
    return pandas.DataFrame(table | {"share": (at / whole).map("{:.0%}".format)})


def met_title(curves: pandas.DataFrame, n: int) -> str:
    """Return in how many sets `n` problems meet nearly all types, and the set where they meet the fewest."""
    at, whole = _met_of(curves, n)
    share = (at / whole).round(2)
    every = f"{plural(n, 'problem')} meet nearly all types in {(share == 1).sum()} of {len(share)} sets"
    return every if share.min() == 1 else f"{every}, and {share.min():.0%} of {share.idxmin()}"


def _met_of(curves: pandas.DataFrame, n: int) -> tuple[pandas.Series, pandas.Series]:
    """Return how many types `n` problems meet, and how many there are, by set."""
    whole = curves.groupby("set", sort=False)["met"].last()
    return curves[curves["n"] == n].set_index("set")["met"].reindex(whole.index), whole


def unlike_curves(
    real: Mapping[str, dict], names: Sequence[str], texts: Mapping[str, Sequence[str]], resamples: int
) -> pandas.DataFrame:
    """Return the effective number of unlike problems (Vendi score) among n: recorded sets, then `texts`."""
    rows = [
        {"set": name, "n": int(n), "met": value}
        for name in names
        for n, value in real[name]["variety"].items()
    ]
    for name, own in texts.items():
        steps = [n for n in SIZES if n <= len(own)]
        met = clusters.variety(own, steps, resamples=resamples)
        rows += [{"set": name, "n": n, "met": value} for n, value in zip(steps, met, strict=True)]
    return pandas.DataFrame(rows)
