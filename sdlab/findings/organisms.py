"""Does a result hold on every organism, and what does intuition change? Tables and sentences."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas

from sdlab.findings.before_after import direction, signed
from sdlab.findings.curve_shape import PLACES, split_name
from sdlab.measure.crossed import Difference
from sdlab.study.conditions import CONDITIONS
from sdlab.study.dissociation import Dissociation, dissociation, loss_change
from sdlab.study.organism_conditions import REPEATED
from sdlab.study.organisms import SAME_RECIPE, across_organisms, name_on, over_organisms
from sdlab.study.recorded import Recorded, is_recorded
from sdlab.world.knobs import Knobs

SPLITS = ("in-domain", "unseen-types", "deeper")
BLIND = "organism-blind"  # the control, without intuition
EVERY = (*SAME_RECIPE, BLIND)
FACTOR = 1.5  # a loss on unseen types of so many times the loss in-domain is called a dissociation


def recorded_organisms(conditions: Iterable[str] = REPEATED, folder: str | Path | None = None) -> list[str]:
    """Return the organisms on which all of `conditions` are recorded, the first organism first."""
    wanted = list(conditions)
    return [one for one in EVERY if all(is_recorded(name_on(name, one), folder) for name in wanted)]


def intuition(recorded: Recorded, organism: str) -> float:
    """Return q, the intuition of the reasoner whose text the organism has read, as its runs store it.

    Runs of an organism that was made before knobs were stored have none, and its reasoner had no intuition.
    """
    runs = recorded.provenance[name_on("base", organism)]["runs"]
    return Knobs.read(next(iter(runs.values())).get("knobs") or {}).intuition


def ends_table(
    recorded: Recorded, organisms: Iterable[str], metric: str = "reward", split: str = "unseen-types"
) -> pandas.DataFrame:
    """Return a metric at the end of training: one row per condition, one column per organism.

    The last two columns are about the organisms of one recipe, which differ in the pretraining seed only: the
    least and the largest mean, and the mean with the organism as the unit (interval over organisms and
    problems).
    """
    columns = list(organisms)
    same = [one for one in columns if one in SAME_RECIPE]
    units = over_organisms(recorded, same)
    rows = {}
    for name in REPEATED:
        every = across_organisms(recorded, name, metric, split, columns).intervals
        cells = {one: str(interval) for one, interval in every.items()}
        if len(same) > 1:
            low, high = across_organisms(recorded, name, metric, split, same).spread
            cells |= {
                "organisms of one recipe": f"{low:.2f} to {high:.2f}",
                "over organisms": str(units.interval(name, metric, split)),
            }
        rows[CONDITIONS[name].label] = cells
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("trained by")


def losses(recorded: Recorded, organisms: Iterable[str], condition: str = "sdpo") -> dict[str, Dissociation]:
    """Return the relative losses in-domain and on unseen types on each organism, and their ratio."""
    return {one: dissociation(recorded, name_on("base", one), name_on(condition, one)) for one in organisms}


def loss_over_organisms(
    recorded: Recorded, organisms: Iterable[str], condition: str = "sdpo"
) -> Dissociation | None:
    """Return the relative losses with the organism as the unit; None with fewer than three of one recipe."""
    same = [one for one in organisms if one in SAME_RECIPE]
    if len(same) < 3:
        return None
    return dissociation(over_organisms(recorded, same), "base", condition)


def loss_over_organisms_words(loss: Dissociation | None) -> list[str]:
    """Return what organisms of this recipe lose in general, judged with the organism as the unit."""
    if loss is None:
        return []
    if loss.exceeds(FACTOR):
        verdict = f"shown to be more than {FACTOR:g} times as large"
    else:
        larger = "shown to be larger" if loss.exceeds(1) else "not shown to be larger"
        verdict = f"{larger} ({loss.ratio} times as large)"
    return [
        f"With the organism as the unit ({loss.seeds} organisms): SDPO loses {loss.loss_near} of the score "
        f"in-domain and {loss.loss_far} on unseen types. The share on unseen types is larger by "
        f"{signed(loss.excess(1))}; it is {verdict}."
    ]


def losses_table(recorded: Recorded, found: Mapping[str, Dissociation]) -> pandas.DataFrame:
    """Return a table of `losses`: one row per organism."""
    rows = {
        one: {
            "intuition": f"{intuition(recorded, one):g}",
            "seeds": loss.seeds,
            "lost in-domain": str(loss.loss_near),
            "lost on unseen types": str(loss.loss_far),
            "the difference": signed(loss.excess(1)),
            "times as much": str(loss.ratio),
            f"more than {FACTOR:g} times": "yes" if loss.exceeds(FACTOR) else "not shown",
        }
        for one, loss in found.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("organism")


def losses_points(found: Mapping[str, Dissociation]) -> pandas.DataFrame:
    """Return a row per organism and split, to draw: label, mean, low, high (shares of the score before)."""
    return pandas.DataFrame(
        {"label": f"{one}, {split_name(split)}", **vars(interval)}
        for one, loss in found.items()
        for split, interval in ((loss.near, loss.loss_near), (loss.far, loss.loss_far))
    )


def losses_title(found: Mapping[str, Dissociation]) -> str:
    """Return on how many organisms with intuition SDPO loses a larger share on unseen types, as a title."""
    members = [loss for one, loss in found.items() if one != BLIND]
    more = sum(loss.exceeds(1) for loss in members)
    return f"With intuition, SDPO loses a larger share on unseen types on {more} of {len(members)} organisms"


def losses_words(found: Mapping[str, Dissociation]) -> list[str]:
    """Return how many organisms of each kind lose a larger share on unseen types than in-domain."""
    lines = []
    kinds = {"with intuition": set(found) - {BLIND}, "without intuition": set(found) & {BLIND}}
    for kind, members in kinds.items():
        if members:
            more, much = (sum(found[one].exceeds(factor) for one in members) for factor in (1, FACTOR))
            ratios = [found[one].ratio.mean for one in members]
            span = f"{min(ratios):.2f}" + (f" to {max(ratios):.2f}" if len(ratios) > 1 else "")
            lines.append(
                f"Organisms {kind}: the share lost on unseen types is {span} times that lost in-domain; "
                f"it is shown to be larger on {more} of {len(members)}, and more than {FACTOR:g} times as "
                f"large on {much} of {len(members)}."
            )
    return lines


def intuition_changes(
    recorded: Recorded, organisms: Iterable[str], condition: str = "sdpo"
) -> dict[tuple[str, str], Difference]:
    """Return by organism and split the relative loss on the organism minus that on the blind one."""

    def pair(one: str) -> tuple[str, str]:
        return name_on("base", one), name_on(condition, one)

    return {
        (one, split): loss_change(recorded, pair(BLIND), pair(one), split)
        for one in organisms
        if one != BLIND
        for split in SPLITS
    }


def intuition_words(changes: Mapping[tuple[str, str], Difference]) -> list[str]:
    """Return per split on how many organisms a smaller, or larger, share is lost than without intuition."""
    lines = []
    for split in dict.fromkeys(split for _, split in changes):
        here = [change for (_, other), change in changes.items() if other == split]
        words = [direction(change) for change in here]
        means = [change.interval.mean for change in here]
        span = f"{min(means):+.2f}" + (f" to {max(means):+.2f}" if len(means) > 1 else "")
        lines.append(
            f"With intuition the share lost {PLACES.get(split, split)} is smaller on "
            f"{words.count('smaller')} and larger on {words.count('larger')} of {len(here)} organisms "
            f"(difference {span})."
        )
    return lines


def names_on(organisms: Iterable[str]) -> list[str]:
    """Return the names of all repeated conditions on these organisms."""
    return [name_on(name, one) for one in organisms for name in REPEATED]


def kind_of_loss(found: Mapping[str, Dissociation]) -> int:
    """Return what the organisms with intuition lose on unseen types, judged on all of them together.

    1: more than FACTOR times the share lost in-domain on each; 2: a smaller share on each; else 0.
    """
    ratios = [loss for one, loss in found.items() if one != BLIND]
    if ratios and all(loss.exceeds(FACTOR) for loss in ratios):
        return 1
    return 2 if ratios and all(loss.seeds > 1 and loss.ratio.high < 1 for loss in ratios) else 0
