"""Titles of charts about contexts, as findings: what a hint is worth, and what each context leaves."""

from collections.abc import Mapping

import numpy as np
import pandas

from sdlab.measure.intervals import tidy
from sdlab.text.prompt import CONTEXT_LABELS

KINDS = {"marker": "markers", "number": "numbers", "other": "other tokens"}


def hint_title(curve: pandas.DataFrame, reliability: float = 0.75) -> str:
    """Return the title "Right 75% of the time, a hint is worth 19% of a sure one".

    curve: columns reliability and information, up to a sure hint.
    """
    worth = float(np.interp(reliability, curve["reliability"], curve["information"]))
    share = worth / float(curve["information"].max())
    return f"Right {reliability:.0%} of the time, a hint is worth {share:.0%} of a sure one"


def spread_title(shares: pandas.DataFrame) -> str:
    """Return the title "No marker: 79% of the traces after a right hint, 35% without a hint".

    shares: from `sdlab.measure.trace_spread.marker_shares`, with the contexts "right hint" and "no hint".
    """
    none = shares[shares["marker"] == "0 markers"].set_index("context")["mean"]
    return (
        f"No marker: {none['right hint']:.0%} of the traces after a right hint, "
        f"{none['no hint']:.0%} without a hint"
    )


def plug_in_title(summary: pandas.DataFrame) -> str:
    """Return the title "The plug-in is 3.7 times the true information (the model's: 4.6 times)".

    summary: columns metric and mean, from `sdlab.study.known_truth.truth_and_model`, of one kind of solution.
    """
    mean = summary.set_index("metric")["mean"]
    true = mean["exact_plug_in"] / mean["exact_information"]
    model = mean["nats"] / mean["information"]
    return f"The plug-in is {true:.1f} times the true information (the model's: {model:.1f} times)"


def chain_title(links: Mapping[str, float]) -> str:
    """Return the title "Of 0.69 nats, writing anew keeps 0.63, cutting the thinking 0.62".

    links: information by context, from `sdlab.measure.chain.processing_chain`.
    """
    return (
        f"Of {links['solution']:.2f} nats, writing anew keeps {links['regenerated']:.2f}, "
        f"cutting the thinking {links['solution_no_think']:.2f}"
    )


def extremes_title(rows: pandas.DataFrame, most: str = "most information") -> str:
    """Return the title "Most information: regenerated; fewest markers: full solution".

    rows: columns context, information and markers. most: the words for the largest information.
    """
    labels = [CONTEXT_LABELS.get(str(name), str(name)) for name in rows["context"]]
    first = labels[int(np.nanargmax(rows["information"].to_numpy()))]
    least = labels[int(np.nanargmin(rows["markers"].to_numpy()))]
    most = most.capitalize()
    if first == least:
        return f"{most} and fewest markers: {first}"
    return f"{most}: {first}; fewest markers: {least}"


def markers_title(markers: pandas.Series) -> str:
    """Return the title "Markers per completion: 7.4 without context, 0.00 to 5.8 with one".

    markers: the mean by context, "none" among them.
    """
    rest = markers.drop("none")
    ends = dict.fromkeys((tidy(rest.min()), tidy(rest.max())))
    return f"Markers per completion: {tidy(markers['none'])} without context, {' to '.join(ends)} with one"


def kinds_title(sizes: pandas.DataFrame) -> str:
    """Return the title "Mean |u|: 2.5 nats at markers, 0.38 at numbers, 0.22 at other tokens".

    sizes: columns kind and mean; a kind without a plural in KINDS is named as it is.
    """
    ordered = sizes.sort_values("mean", ascending=False)
    names = [KINDS.get(kind, kind) for kind in ordered["kind"]]
    first, *rest = (f"{tidy(mean)}{{}} at {name}" for mean, name in zip(ordered["mean"], names, strict=True))
    return f"Mean |u|: {', '.join([first.format(' nats'), *(one.format('') for one in rest)])}"


def base_rate_title(rates: pandas.Series, samples: int, low: float, high: float) -> str:
    """Return the title "161 of 400 problems are solved in 1 to 4 of 8 tries"."""
    between = int(rates.between(low, high).sum())
    return (
        f"{between} of {len(rates)} problems are solved in {low * samples:.0f} to {high * samples:.0f} "
        f"of {samples} tries"
    )
