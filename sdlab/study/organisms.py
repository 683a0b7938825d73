"""Does a result hold on every organism? The main conditions and statements, repeated on each of them.

There are two ways to ask. Organism by organism: does it hold on each, with an interval over training seeds
and problems? And for organisms of the recipe in general: then the organism is the unit, each with the mean
of its training seeds, and the interval is over organisms and problems (`over_organisms`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas

from sdlab.measure.intervals import Interval
from sdlab.paths import ORGANISM
from sdlab.study.organism_conditions import REPEATED, organism_name
from sdlab.study.recorded import Recorded
from sdlab.study.statements import Statement
from sdlab.study.verdicts import AGREES

SAME_RECIPE = (ORGANISM, "organism-1", "organism-2")  # they differ in the pretraining seed only
EVALUATED = ["step", "split", "problem_id"]  # what an evaluation is about


def name_on(condition: str, organism: str) -> str:
    """Return the name of a main condition on `organism`: sdpo on organism-1 is sdpo_1."""
    return condition if organism == ORGANISM else organism_name(condition, organism)


def is_repeated(statement: Statement) -> bool:
    """Return whether all conditions of the statement were run on the other organisms, too."""
    return statement.conditions() <= set(REPEATED)


def on_organism(statement: Statement, organism: str) -> Statement:
    """Return the same statement about the runs on `organism`.

    Raises SdlabError for an unknown organism.
    """

    return replace(
        statement, tests=tuple(test.renamed(lambda name: name_on(name, organism)) for test in statement.tests)
    )


def over_organisms(recorded: Recorded, organisms: Iterable[str] = SAME_RECIPE) -> Recorded:
    """Return the repeated conditions with the organism as the unit: its number stands in the column `seed`.

    The sums of an organism are the means of its training seeds, so every organism counts the same however
    many seeds it has. All intervals and verdicts of the result are over organisms and problems. The result
    has the conditions, splits and steps that are recorded on every organism, under the first one's names.

    Raises SdlabError for an unknown organism.
    """
    columns = list(organisms)
    names = {name_on(name, one): (name, i) for i, one in enumerate(columns) for name in REPEATED}
    steps, evaluations = (
        _unit_means(frame[frame["condition"].isin(list(names))], names, keys, len(columns))
        for frame, keys in ((recorded.steps, ["step"]), (recorded.evaluations, EVALUATED))
    )
    kept = sorted({*steps["condition"], *evaluations["condition"]})
    return Recorded(steps, evaluations, {name: recorded.provenance.get(name, {}) for name in kept})


def _unit_means(
    frame: pandas.DataFrame, names: Mapping[str, tuple[str, int]], keys: list[str], units: int
) -> pandas.DataFrame:
    """Return the mean over training seeds of every number, by condition, organism and `keys`.

    Rows that not all `units` organisms have are left out.
    """
    unit = frame.assign(
        condition=[names[name][0] for name in frame["condition"]],
        seed=[names[name][1] for name in frame["condition"]],
    )
    means = unit.groupby(["condition", "seed", *keys], sort=False).mean(numeric_only=True).reset_index()
    there = means.groupby(["condition", *keys])["seed"].transform("nunique")
    return means[there == units].reset_index(drop=True)


def statements_by_organism(
    recorded: Recorded, statements: Iterable[Statement], organisms: Iterable[str] = SAME_RECIPE
) -> pandas.DataFrame:
    """Return the verdict on each repeated statement by organism: one row per statement.

    Columns: claim, one per organism (the measured quantities and the verdict), `over organisms` (the same
    with the organism as the unit, see `over_organisms`), and `all`, which is "yes" when the statement holds
    on every organism, else "no". A statement without runs on some organism is left out.
    """
    columns: list[str] = list(organisms)
    rows, units = [], over_organisms(recorded, columns)
    names = set(recorded.evaluations["condition"]) | set(recorded.steps["condition"])
    for statement in filter(is_repeated, statements):
        versions = {organism: on_organism(statement, organism) for organism in columns}
        if not all(version.conditions() <= names for version in versions.values()):
            continue
        verdicts = {organism: version.row(recorded) for organism, version in versions.items()}
        words = {row["verdict"] for row in verdicts.values()}
        cells = {organism: f"{row['measured']}: {row['verdict']}" for organism, row in verdicts.items()}
        over = statement.row(units)
        rows.append({
            "claim": statement.claim, **cells, "over organisms": f"{over['measured']}: {over['verdict']}",
            "all": "yes" if words in ({AGREES}, {"yes"}) else "no",
        })  # fmt: skip
    return pandas.DataFrame(rows, columns=["claim", *columns, "over organisms", "all"])


@dataclass(frozen=True)
class AcrossOrganisms:
    """A condition's metric on several organisms: its interval on each, and the spread between them."""

    intervals: Mapping[str, Interval]

    @property
    def means(self) -> list[float]:
        """Return the mean on each organism."""
        return [interval.mean for interval in self.intervals.values()]

    @property
    def spread(self) -> tuple[float, float]:
        """Return the least and the largest mean of the organisms."""
        return min(self.means), max(self.means)

    def __str__(self) -> str:
        """Return the first organism's interval and the range of all organisms' means."""
        low, high = self.spread
        return f"{next(iter(self.intervals.values()))}, organisms {low:.2f} to {high:.2f}"


def across_organisms(
    recorded: Recorded, condition: str, metric: str, split: str, organisms: Iterable[str] = SAME_RECIPE
) -> AcrossOrganisms:
    """Return a main condition's metric at the end of training on each organism.

    Raises SdlabError when a run is not recorded.
    """
    return AcrossOrganisms(
        {organism: recorded.interval(name_on(condition, organism), metric, split) for organism in organisms}
    )
