"""Titles of charts that compare two groups, as findings: what differs, and what is not clear."""

from collections.abc import Mapping

import pandas

from sdlab.findings.before_after import UNCLEAR, metric_name
from sdlab.findings.curve_shape import PLACES
from sdlab.measure.comparison import Comparison
from sdlab.measure.intervals import tidy
from sdlab.text.prompt import CONTEXT_LABELS

WORDS = {  # metric -> the words for less and for more of it
    "reward": ("lower score", "higher score"),
    "length": ("shorter", "longer"),
    "markers": ("fewer markers", "more markers"),
    "density": ("fewer per 1,000 tokens", "more per 1,000 tokens"),
    "checked": ("less often checked", "more often checked"),
}


def differences_title(who: str, changes: Mapping[str, Comparison]) -> str:
    """Return the title "With the solution: shorter, fewer markers; no clear difference in score".

    who: the group that the words are about. changes: metric -> that group minus the other.
    """
    clear = [WORDS[metric][one.difference.mean > 0] for metric, one in changes.items() if one.significant]
    unclear = [metric_name(metric) for metric, one in changes.items() if not one.significant]
    parts = [", ".join(clear)] * bool(clear)
    parts += ["no clear difference in " + " and ".join(unclear)] * bool(unclear)
    return f"{who}: {'; '.join(parts)}"


def scores_title(where: str, changes: Mapping[str, Comparison]) -> str:
    """Return the title "In-domain score 0.80; SFT, unguided 0.86 (not significant); SFT, guided 0.38".

    changes: who -> change of its score from the same start.
    """
    start = next(iter(changes.values())).a
    return "; ".join(
        [f"{where} score {tidy(start)}", *(f"{who} {_end(one)}" for who, one in changes.items())]
    )


def gains_title(who: str, gains: Mapping[str, Comparison]) -> str:
    """Return the title "SFT, guided: score 0.38, with one nudge 0.49, with two nudges 0.79".

    gains: what was tried -> change of the score by it, from the same start.
    """
    start = next(iter(gains.values())).a
    return ", ".join(
        [f"{who}: score {tidy(start)}", *(f"with {what} {_end(one)}" for what, one in gains.items())]
    )


def relative_title(changes: pandas.DataFrame, source: str, model: str, who: str) -> str:
    """Return the title "Guided traces, recorded: score -36% in-domain, -64% on unseen types".

    changes: columns who ("recorded, in-domain"), model, change, low and high, from
    `sdlab.study.two_data_sets.relative_changes`; the rows of `source` and `model` are named.
    """
    rows = changes[(changes["model"] == model) & changes["who"].str.startswith(f"{source}, ")]
    parts = []
    for name, change, low, high in rows[["who", "change", "low", "high"]].itertuples(index=False, name=None):
        split = str(name).removeprefix(f"{source}, ")
        clear = low > 0 or high < 0
        parts.append(f"{change:+.0%} {PLACES.get(split, split)}" + ("" if clear else f" ({UNCLEAR})"))
    return f"{who}, {source}: score {', '.join(parts)}"


def wrong_title(wrong: Mapping[str, Comparison], who: str) -> str:
    """Return the title "Guided, in-domain: 42 more wrong completions in 100; guesses +46, other causes -4".

    wrong: the keys wrong, guess and other, from `sdlab.measure.commit_tables.more_wrong`.
    """
    if not wrong["wrong"].significant:
        return f"{who}: no clear difference in wrong completions"
    more = 100 * wrong["wrong"].difference.mean
    causes = {"guesses": wrong["guess"], "other causes": wrong["other"]}
    parts = ", ".join(
        f"{name} {100 * one.difference.mean:+.0f}" + ("" if one.significant else f" ({UNCLEAR})")
        for name, one in causes.items()
    )
    return f"{who}: {abs(more):.0f} {'more' if more > 0 else 'fewer'} wrong completions in 100; {parts}"


def shares_title(what: str, change: Comparison, names: tuple[str, str]) -> str:
    """Return the title "True statements at a first look: base 98%, guided 95% (not significant)"."""
    return f"{what}: {names[0]} {change.a:.0%}, {names[1]} {change.b:.0%}" + _verdict(change)


def hedging_title(change: Comparison, names: tuple[str, str] = ("up to 0.5 bits", "from 1 bit on")) -> str:
    """Return the title "Hedged without a context: 0% of proposals up to 0.5 bits, 84% from 1 bit on".

    change: of the share that hedges, from the proposals of the first belief to those of the second.
    """
    shares = f"{change.a:.0%} of proposals {names[0]}, {change.b:.0%} {names[1]}"
    return f"Hedged without a context: {shares}" + _verdict(change)


def fall_title(table: pandas.DataFrame, context: str = "solution") -> str:
    """Return the title "With the full solution: 5% of the marker count, 34% of the density".

    table: index context, columns markers and density; the first row counts as 100%.
    """
    left = table.loc[context] / table.iloc[0]
    label = CONTEXT_LABELS.get(context, context)
    return (
        f"With the {label}: {left['markers']:.0%} of the marker count, {left['density']:.0%} of the density"
    )


def words_title(changes: pandas.DataFrame) -> str:
    """Return the title "Largest change: check, 2.2 to 0.06 per completion; 10 of 10 words change clearly".

    changes: from `sdlab.measure.doubt_writers.marker_changes`.
    """
    clear = changes[changes["significant"]]
    if clear.empty:
        return f"No clear change of any of the {len(changes)} words"
    largest = clear.iloc[int((clear["after"] - clear["before"]).abs().to_numpy().argmax())]
    return (
        f"Largest change: {largest['marker']}, {tidy(largest['before'])} to {tidy(largest['after'])} per "
        f"completion; {len(clear)} of {len(changes)} words change clearly"
    )


def _end(change: Comparison) -> str:
    return tidy(change.b) + _verdict(change)


def _verdict(change: Comparison) -> str:
    return "" if change.significant else f" ({UNCLEAR})"
