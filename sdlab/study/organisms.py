"""Does a result hold on every organism? The main conditions and statements, repeated on each of them."""

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


def statements_by_organism(
    recorded: Recorded, statements: Iterable[Statement], organisms: Iterable[str] = SAME_RECIPE
) -> pandas.DataFrame:
    """Return the verdict on each repeated statement by organism: one row per statement.

    Columns: claim, one per organism (the measured quantities and the verdict), and `all`, which is "yes" when
    every organism has the same verdict as the first one and that verdict is settled, else "no". A statement
    without runs on some organism is left out.
    """
    columns: list[str] = list(organisms)
    rows = []
    names = set(recorded.evaluations["condition"]) | set(recorded.steps["condition"])
    for statement in filter(is_repeated, statements):
        versions = {organism: on_organism(statement, organism) for organism in columns}
        if not all(version.conditions() <= names for version in versions.values()):
            continue
        verdicts = {organism: version.row(recorded) for organism, version in versions.items()}
        words = {row["verdict"] for row in verdicts.values()}
        cells = {organism: f"{row['measured']}: {row['verdict']}" for organism, row in verdicts.items()}
        rows.append(
            {"claim": statement.claim, **cells, "all": "yes" if words in ({AGREES}, {"yes"}) else "no"}
        )
    return pandas.DataFrame(rows, columns=["claim", *columns, "all"])


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
