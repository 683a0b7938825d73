"""More problems, or more types? The recorded runs that vary the two separately, in tables and words."""

from collections.abc import Collection, Mapping
from itertools import product

import pandas

from sdlab.findings.before_after import direction, signed, which
from sdlab.findings.coverage_crossing import AWAY
from sdlab.measure.crossed import Difference, seeds_interval
from sdlab.measure.spread import SHARE
from sdlab.study.coverage_conditions import coverage_name
from sdlab.study.coverage_table import training_difference, training_ends
from sdlab.study.recorded import Recorded

CAUSES = ("the number of problems", "the number of types", "both", "neither, as far as these runs can tell")


def type_cells(names: Collection[str]) -> dict[tuple[str, int, int | None], str]:
    """Return the conditions that cross problems and types: (method, problems, types; None: any) -> name."""
    every = {key: coverage_name(*key) for key in product(("grpo", "sdpo"), (8, 128), (1, None))}
    return {key: name for key, name in every.items() if name in names}


def type_table(recorded: Recorded, labels: Mapping[str, str], types: int = 20) -> pandas.DataFrame:
    """Return scores and markers of the conditions that cross problems and types."""
    rows = []
    for (method, count, kinds), name in type_cells(set(recorded.provenance)).items():
        away = {split: str(recorded.interval(name, "reward", split)) for split in AWAY}
        training = seeds_interval(training_ends(recorded, name, "reward"), bounds=SHARE)
        markers = str(recorded.interval(name, "markers", "in-domain"))
        about = {"method": labels[method], "problems": count, "types": kinds or types}
        rows.append(about | {"training score": str(training)} | away | {"markers, in-domain": markers})
    return pandas.DataFrame(rows).set_index(["method", "problems", "types"])


def type_effects(recorded: Recorded, labels: Mapping[str, str]) -> dict[str, dict[str, Difference]]:
    """Return what more problems do at the same types, and more types at the same number of problems."""
    pairs = {
        "128 instead of 8 problems, one type": ((8, 1), (128, 1)),
        "128 instead of 8 problems, any type": ((8, None), (128, None)),
        "20 types instead of one, 8 problems": ((8, 1), (8, None)),
        "20 types instead of one, 128 problems": ((128, 1), (128, None)),
    }
    cells, effects = type_cells(set(recorded.provenance)), {}
    for (effect, (a, b)), method in product(pairs.items(), ("grpo", "sdpo")):
        one, two = cells.get((method, *a)), cells.get((method, *b))
        if one and two:
            row = effects.setdefault(effect, {})
            row[f"{labels[method]}, training"] = training_difference(recorded, one, two)
            row[f"{labels[method]}, in-domain"] = recorded.difference(one, two, "reward", "in-domain")
    return effects


def cause(effects: Mapping[str, Mapping[str, Difference]], column: str) -> str:
    """Return which of problems and types changes a column, one of CAUSES.

    It is "" where no run of one type is recorded.
    """
    by_types = [effect for effect in effects if effect.startswith("20")]
    if not by_types:
        return ""
    types = any(effects[effect][column].significant for effect in by_types)
    problems = any(row[column].significant for effect, row in effects.items() if effect not in by_types)
    return which(problems, types, CAUSES)


def effect_words(effects: Mapping[str, Mapping[str, Difference]], column: str) -> list[str]:
    """Return one sentence per effect on a column: does it rise, fall, or is it not significant?"""
    method, _, place = column.partition(", ")
    said = f"{method}'s training score" if place == "training" else f"{method}'s score {place}"
    return [
        f"{effect}: {said} {direction(row[column], 'rises', 'falls', 'does not clearly change')} "
        f"({signed(row[column].interval)})."
        for effect, row in effects.items()
    ]
