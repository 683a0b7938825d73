"""How much ground a data set covers: exposures, types where they are known, and copies in the test set."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas

from sdlab.benchmarks import recorded, table_three
from sdlab.benchmarks.coverage import (
    PAPER_PLAN,
    SamplingPlan,
    exposures,
    measure_coverage,
)
from sdlab.benchmarks.duplicates import Overlap, overlap
from sdlab.errors import MissingPackage, SdlabError
from sdlab.world.problems import Problem
from sdlab.world.splits import load_split

KNOWN = {
    "questions": "problems",
    "types": "types",
    "effective_types": "effective types",
    "effective_types_2": "order 2",
    "combinations": "combinations",
    "effective_combinations": "effective combinations",
}
AGAIN = ("questions", "distinct", "near", "chinese", "variety")
MEASURES = {  # names for readers of what `measure_coverage` counts
    "questions": "rows",
    "distinct": "distinct problems",
    "touched": "problems met",
    "touched_share": "share met",
    "exposures": "exposures of a problem",
    "answers": "completions per problem",
    "effective_types": "effective types",
    "effective_types_2": "effective types, order 2",
    "effective_combinations": "effective combinations",
}
PAIRS = (
    ("train", "in-domain"),
    ("train", "unseen-types"),
    ("chemistry-train", "chemistry-test"),
    ("kata", "kata"),
)


def plan_table(ways: pandas.DataFrame) -> pandas.DataFrame:
    """Return `table_three.touched_under` as text: a row per population, a column per way to draw."""
    cells = [f"{one.touched:,.0f} ({one.share:.1%})" for one in ways.itertuples()]
    table = ways.assign(cell=cells).pivot(index="population", columns="drawn", values="cell")
    table = table.loc[list(dict.fromkeys(ways["population"])), list(dict.fromkeys(ways["drawn"]))]
    return table.rename(columns=problems_said)


def plans_that_fit(ways: pandas.DataFrame) -> dict[str, list[str]]:
    """Return which plans give the paper's number of problems, its share, and both."""
    number = ways["off the paper's number"].abs() < 0.01
    share = ways["off its share"].abs() < 0.005
    chosen = {
        "14,000 problems (within 1%)": ways[number],
        "78% (within half a point)": ways[share],
        "both": ways[number & share],
    }
    return {
        what: [
            f"{one.population}, {problems_said(str(one.drawn))} ({one.touched:,.0f}, {one.share:.1%})"
            for one in part.itertuples()
        ]
        for what, part in chosen.items()
    }


def exposure_shares(
    plans: Mapping[str, tuple[Sequence[int], SamplingPlan]], most: int = 6
) -> pandas.DataFrame:
    """Return, for each plan, the share of the problems that are drawn 0, 1, ..., `most` times.

    plans: name -> (copies of each distinct problem, plan). The mean number of exposures is draws divided by
    problems, however one draws; this is checked.
    """
    rows = []
    for name, (copies, plan) in plans.items():
        chances = exposures(copies, plan)
        mean = sum(times * share for times, share in enumerate(chances))
        if abs(mean - plan.draws / len(copies)) > 1e-9:
            raise SdlabError(f"plan {name!r}: mean exposures {mean} differ from draws divided by problems")
        rows += [
            {"plan": name, "times": times, "share": share} for times, share in enumerate(chances[: most + 1])
        ]
    return pandas.DataFrame(rows)


def exposure_title(shares: pandas.DataFrame, problems: int) -> str:
    """Return the least and the largest share of the problems that no draw meets, as a title."""
    never = shares[shares["times"] == 0]["share"]
    return f"By the plan, {never.min():.0%} to {never.max():.0%} of {problems:,} problems are never drawn"


def exposures_by_set(
    real: Mapping[str, dict], ours: Mapping[str, dict], splits: Collection[str]
) -> pandas.DataFrame:
    """Return how often one problem is drawn in 100 steps, for the paper's sets, its files, and our splits."""
    rows = [
        {
            "set": f"{one.name}, as in the paper",
            "exposures": PAPER_PLAN.draws / one.questions,
            "who": "paper's numbers",
        }
        for one in table_three.TABLE
    ]
    rows += [
        {"set": name, "exposures": real[name]["exposures"], "who": "its files"}
        for name in real
        if name.startswith("DAPO")
    ]
    rows += [
        {"set": f"sdlab: {name}", "exposures": ours[name]["exposures"], "who": "organism"} for name in splits
    ]
    return pandas.DataFrame(rows)


def known_types(ours: Mapping[str, dict]) -> pandas.DataFrame:
    """Return problems, types and combinations of our splits, plain and effective."""
    table = pandas.DataFrame(ours).T[list(KNOWN)].rename(columns=KNOWN)
    return table.map(lambda value: f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}")


def not_coverage(problems: Sequence[Problem], plan: SamplingPlan) -> pandas.DataFrame:
    """Return measures of four sets made of `problems`: as they are, one of them, one type, and copies."""
    first = problems[:64]
    cases = {
        "64 problems": first,
        "the first of them, 64 rows": [first[0]] * 64,
        "64 of one type": [one for one in problems if one.kind == first[0].kind][:64],
        "the 64, each in 4 rows": list(first) * 4,
    }
    names = ["questions", "distinct", "effective_types", "exposures", "answers"]
    table = pandas.DataFrame({name: measure_coverage(rows, plan) for name, rows in cases.items()}).T
    return table[names].rename(columns=MEASURES).rename_axis("set").map(as_cell)


def measured_again(folder: Path, real: Mapping[str, dict], name: str = "DAPO 512") -> str:
    """Measure one set of the real files again, and return a sentence that it equals its record.

    real: the recorded measures. Without the package that reads the files, the sentence names the package.
    Raises SdlabError when a measure differs.
    """
    try:
        again = recorded.measure_set(folder, name, resamples=0)
    except MissingPackage as error:
        return f"{name} is not measured again: {error}"
    differ = [measure for measure in AGAIN if again[measure] != real[name][measure]]
    if differ:
        raise SdlabError(f"{name}, measured again, differs from its record in {', '.join(differ)}")
    return f"{name}, measured again: the numbers of the record"


def overlaps_of_splits(few: int) -> dict[str, tuple[Overlap, int]]:
    """Return the overlap of our training and test splits, and how many near copies have another answer."""
    found = {}
    for train, test in PAIRS:
        old, new = load_split(train), load_split(test)[:few]
        one = overlap([p.prompt for p in old], [p.prompt for p in new])
        changed = sum(new[i].answer != old[j].answer for i, j, _ in one.pairs[one.exact :])
        found[f"{train} / {test}"] = one, changed
    return found


def overlap_table(ours: Mapping[str, tuple[Overlap, int]], real: Sequence[dict]) -> pandas.DataFrame:
    """Return exact and near copies between training and test: our splits, then the paper's files."""
    rows = [
        {
            "training / test": pair,
            "test problems": str(one.test),
            "exact": str(one.exact),
            "near": str(one.near),
            "near, with another answer": str(changed),
        }
        for pair, (one, changed) in ours.items()
    ]
    rows += [
        {
            "training / test": " / ".join(one[part].split(".")[0] for part in ("train", "test")),
            "test problems": str(one["test_questions"]),
            "exact": str(one["exact"]),
            "near": str(one["near_95"]),
            "near, with another answer": "",
        }
        for one in real
    ]
    return pandas.DataFrame(rows).set_index("training / test")


def as_cell(value: object) -> str:
    """Return a number or a text for a table of the paper's numbers."""
    if value is None or isinstance(value, str):
        return "–" if value is None else value
    return f"{value:,.1f}".removesuffix(".0")


def compared_numbers(held: pandas.DataFrame) -> pandas.DataFrame:
    """Return `table_three.comparisons` as text: the paper's number, the file's, and whether they agree."""
    named = held.assign(agrees=held["agrees"].map({True: "yes", False: "NO"}))
    return named.set_index("what").map(as_cell).rename(index=problems_said)


def problems_said(name: str) -> str:
    """Return a name for readers: what records and the paper call a question is a problem here."""
    return name.replace("question", "problem")
