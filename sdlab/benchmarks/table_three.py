"""The paper's Table 3, with the contents of its files today and of the organism's splits.

The paper's numbers are those of arXiv 2603.24472 as noted in the project's literature file (second-hand);
None where the notes give none.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdlab.benchmarks.coverage import PAPER_PLAN, expected_met
from sdlab.benchmarks.recorded import SETS

if TYPE_CHECKING:
    import pandas

PAPER_TOUCHED, PAPER_SHARE = 14_000, 0.78  # of 25,600 draws over 100 steps


@dataclass(frozen=True)
class PaperRow:
    """A data set of the paper, the measured set for it, and the organism's split that represents it."""

    name: str
    questions: int
    types: int | None
    evaluation: str
    verdict: str
    measured: str  # name in data/coverage/real.json, "" for none
    stand_in: str  # split of the organism


TABLE = (
    PaperRow(
        "Chemistry (SciKnowEval)",
        2400,
        6,
        "held-out 10%, same distribution",
        "SDPO helps (Fig. 1)",
        "chemistry",
        "chemistry-train",
    ),
    PaperRow(
        "LiveCodeBench v6",
        131,
        None,
        "the training problems",
        "SDPO helps (SDPO paper: 48.8, GRPO 41.2)",
        "",
        "kata",
    ),
    PaperRow("DAPO-Math-17k", 14_000, None, "other benchmarks", "SDPO hurts (Fig. 3)", "DAPO 512", "train"),
)
# set -> number of distinct questions that its name states
SUBSETS = {"DAPO 1 x 64": 1, "DAPO 8 x 8": 8, "DAPO 64": 64, "DAPO 128": 128, "DAPO 512": 512}


def table_three(measures: dict, organism: dict[str, dict]) -> "pandas.DataFrame":
    """Return one row per data set of the paper: the paper's numbers, the files', and the organism's.

    measures: `real_coverage()[0]`. organism: split -> `measure_coverage` row. Missing numbers are None.
    """
    import pandas

    rows = []
    for data_set in TABLE:
        real, stand_in = measures["sets"].get(data_set.measured, {}), organism[data_set.stand_in]
        groups = real.get("groups") or {}
        row = {
            "data set": data_set.name,
            "problems, paper": data_set.questions,
            "in the file": real.get("questions"),
            "distinct": real.get("distinct"),
            "types, paper": data_set.types,
            "types, found": _count(groups, "types"),
            "effective types, found": (groups.get("types") or {}).get("effective"),
            "wordings, found": _count(groups, "wordings"),
            "tested on, paper": data_set.evaluation,
            "test problems in training": _overlap(measures, data_set.measured),
            "exposures in 100 steps, paper": PAPER_PLAN.draws / data_set.questions,
            "verdict of the paper": data_set.verdict,
            "stand-in": data_set.stand_in,
            "its problems": stand_in["questions"],
            "its types": stand_in["types"],
            "its effective types": stand_in["effective_types"],
        }
        rows.append(row)
    return pandas.DataFrame(rows, dtype=object).set_index("data set")


def _overlap(measures: dict, name: str) -> str | None:
    """Return the overlap of all test files of a set with its training file, in words.

    Subsets of the training file do not count as tests.
    """
    rows = [
        row
        for row in measures["overlaps"]
        if name and row["train"] in SETS[name] and not row["test"].startswith("dapo_seen")
    ]
    exact, near, test = (sum(row[key] for row in rows) for key in ("exact", "near_95", "test_questions"))
    return f"{exact} exact, {near} near of {test}" if rows else None


def _count(groups: dict, scale: str) -> int | str | None:
    """Return the number of groups; "none" when the search found no groups, None without a search."""
    return groups[scale]["count"] if groups.get(scale) else "none" if groups else None


def touched_under(populations: dict[str, int], copies: int = 100) -> "pandas.DataFrame":
    """Return how many distinct questions 25,600 draws meet on average, with the paper's numbers.

    There is a row for each population and way of drawing: one epoch over rows that are all distinct; with
    replacement; one epoch over a file that holds every question `copies` times (DAPO-Math-17k as published:
    1.79 million rows of about 17,900 questions, BytedTsinghua-SIA/DAPO issue 36).
    """
    import pandas

    rows = []
    for name, size in populations.items():
        ways = {
            "every question once": expected_met([1] * size, PAPER_PLAN.draws),
            "with replacement": expected_met([1] * size, PAPER_PLAN.draws, True),
            f"a file with {copies} copies": expected_met([copies] * size, PAPER_PLAN.draws),
        }
        for way, met in ways.items():
            rows.append(
                {
                    "population": name,
                    "size": size,
                    "drawn": way,
                    "touched": met,
                    "share": met / size,
                    "off the paper's number": met / PAPER_TOUCHED - 1,
                    "off its share": met / size - PAPER_SHARE,
                }
            )
    return pandas.DataFrame(rows)


def comparisons(measures: dict) -> list[dict]:
    """Return every number of the paper that a file can be compared with: what, paper, file, agrees."""
    sets, rows = measures["sets"], []

    def compare(what: str, paper: float | None, file: float | str | None) -> None:
        rows.append({"what": what, "paper": paper, "file": file, "agrees": paper == file})

    for data_set in TABLE:
        if data_set.measured and data_set.name.startswith("Chemistry"):
            real = sets[data_set.measured]
            compare(f"{data_set.name}: questions", data_set.questions, real["questions"])
            compare(
                f"{data_set.name}: types (first peak of the silhouette)",
                data_set.types,
                _count(real["groups"], "types"),
            )
    split = next(row for row in measures["overlaps"] if row["train"].startswith("sciknoweval"))
    compare(
        "Chemistry: share held out", 0.1, round(split["test_questions"] / sets["chemistry"]["questions"], 3)
    )
    compare("Chemistry: test questions that stand in the training set", 0, split["exact"])
    for name, questions in SUBSETS.items():
        compare(f"{name}: distinct questions", questions, sets[name]["distinct"])
    return rows
