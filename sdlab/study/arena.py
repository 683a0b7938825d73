"""The arena's results: one table of all repairs, with verdicts against baselines, controls and claims.

Everything is computed from the recorded runs (`sdlab.study.arena_measures.load_arena`). Methods without a
record stay in every table. `sdlab.study.arena_comparisons` describes the verdicts and how many comparisons
are handled.
"""

import math

import numpy as np
import pandas

from sdlab.measure.intervals import interval_cells, tidy
from sdlab.study.arena_claims import CLAIMS, SPLITS
from sdlab.study.arena_comparisons import (
    GAINS,
    KEEPS,
    LEVEL,
    NOT_RECORDED,
    ONE_SEED,
    compare_with,
    frames_of,
    holm,
    p_beyond,
    p_value,
    p_within,
    recorded_in,
)
from sdlab.study.arena_conditions import ROUNDS, TEACHER_FREE, UNTRAINED, arena_name
from sdlab.study.arena_families import FAMILIES, FAMILY
from sdlab.study.arena_measures import METRICS, costs, kind_of, measures, missing_methods, peak
from sdlab.study.recorded import Recorded
from sdlab.study.statements import AGREES, DISAGREES, MARGIN, NOT_SETTLED
from sdlab.train.repairs.catalogue import CATALOGUE

COMPARATORS = (UNTRAINED, "sdpo", "grpo", TEACHER_FREE)
HEADLINE = {"hunts": "unseen-types", "chemistry": "chemistry-test", "narrow": "unseen-types"}


def verdicts(
    recorded: Recorded, round_name: str = "hunts", split: str | None = None, margin: float = MARGIN
) -> pandas.DataFrame:
    """Return the comparisons of every method with each of COMPARATORS, as `compare_with` makes them."""
    split = split or HEADLINE[round_name]
    parts = [
        compare_with(recorded, list(CATALOGUE), other, round_name, split, margin) for other in COMPARATORS
    ]
    return pandas.concat(parts, ignore_index=True)


def arena_table(
    recorded: Recorded, round_name: str = "hunts", split: str | None = None, margin: float = MARGIN
) -> pandas.DataFrame:
    """Return the arena as a table of text: a row per method, the highest score first.

    Columns: method, kind, family, seeds, the score on every split of the round, then on `split` (default:
    HEADLINE): pass@4, pass@8, length, markers, density, calibration, the peak's step, passes and seconds
    relative to SDPO, and the verdict against each of COMPARATORS. Methods without a record come last.
    """
    split = split or HEADLINE[round_name]
    long = measures(recorded, round_name)
    long["cell"] = interval_cells(long)
    here = long[long["split"] == split].pivot(index="method", columns="metric", values="cell")
    score = long[long["metric"] == "reward"]
    cells = score.pivot(index="method", columns="split", values="cell")
    order = score[score["split"] == split].set_index("method")["mean"].sort_values(ascending=False)
    words = verdicts(recorded, round_name, split, margin).pivot(
        index="method", columns="other", values="verdict"
    )
    spent = costs(recorded, round_name).set_index("method")
    missing = missing_methods(recorded, round_name)
    seeds = score.drop_duplicates("method").set_index("method")["seeds"]
    rows = []
    for method in [one for one in order.index if one != UNTRAINED]:
        absent = method in missing
        name = arena_name(method, round_name)
        row = {"method": method, "kind": kind_of(method), "family": FAMILIES[FAMILY[method]][0]}
        row |= {"seeds": str(seeds[method])}
        row |= {f"score, {one}": cells.loc[method, one] for one in ROUNDS[round_name].final_splits}
        row |= {metric: here.loc[method, metric] for metric in METRICS[1:6]}
        row |= {"calibration": here.loc[method, "calibration"]}
        row |= {"peak": "" if absent else str(peak(recorded, name, split).step)}
        row |= {one: tidy(spent[one].to_dict()[method]) for one in ("passes_ratio", "seconds_ratio")}
        row |= {f"against {other}": words.loc[method, other] for other in COMPARATORS}
        rows.append({key: NOT_RECORDED if value == "nan" and absent else value for key, value in row.items()})
    return pandas.DataFrame(rows).fillna("")


def winners(recorded: Recorded, count: int = 3) -> list[str]:
    """Return the best repairs of the hunts: at most `count` that keep the untrained model's score.

    They are in the order of their score on unseen types. Baselines and controls are not among them.
    """
    table = verdicts(recorded)
    kept = table[(table["other"] == UNTRAINED) & table["verdict"].isin([GAINS, KEEPS])]
    kept = kept[[kind_of(method) == "repair" for method in kept["method"]]]
    best = kept.sort_values("mean", ascending=False, kind="stable")
    return best["method"].head(count).tolist()


def family_table(recorded: Recorded, round_name: str = "hunts", split: str | None = None) -> pandas.DataFrame:
    """Return what the methods do by family: columns family, at a choice point, methods, recorded, score, ...

    score, length and markers: the least and the largest mean of the family's recorded methods on `split`.
    keeps: how many of them keep or raise the untrained model's score.
    """
    split = split or HEADLINE[round_name]
    long = measures(recorded, round_name, [split], ("reward", "length", "markers"))
    wide = long.pivot(index="method", columns="metric", values="mean")
    table = compare_with(recorded, list(CATALOGUE), UNTRAINED, round_name, split).set_index("method")
    rows = []
    for family, (label, what) in FAMILIES.items():
        methods = [method for method, own in FAMILY.items() if own == family]
        part = wide.loc[methods].dropna(subset="reward")
        ranges = {
            name: _range(part[column]) if len(part) else NOT_RECORDED
            for name, column in (("score", "reward"), ("length", "length"), ("markers", "markers"))
        }
        keeps = int(np.isin(table.loc[part.index, "verdict"], [GAINS, KEEPS]).sum())
        rows.append(
            {"family": label, "at a choice point": what, "methods": ", ".join(methods)}
            | {"recorded": len(part), **ranges, "keeps": keeps}
        )
    return pandas.DataFrame(rows)


def _range(values: pandas.Series) -> str:
    ends = [tidy(values.min()), tidy(values.max())]
    return " to ".join(dict.fromkeys(ends))


def claims_table(recorded: Recorded, margin: float = MARGIN) -> pandas.DataFrame:
    """Return the verdict on every claim of the papers: one row per claim and split.

    Columns: claim, paper (its words in the catalogue), note, round, split, seeds, measured (the difference of
    scores with its 95% interval), p and verdict: agrees or disagrees when an adjusted p-value is below 5%,
    else not settled. A claim of a difference has the p-value of no difference, and disagrees when the
    difference has the other sign. A claim of equality has two: it agrees when the difference is shown to be
    within the margin, and disagrees when it is shown to be beyond the margin (column p). A difference from 0
    alone does not refute it. All p-values of the table are one family for Holm's correction.
    """
    frames, rows = frames_of(recorded), []
    for claim in CLAIMS:
        than, method = (arena_name(one, claim.round_name) for one in (claim.than, claim.method))
        for split in SPLITS[claim.round_name]:
            row = {"claim": str(claim), "paper": CATALOGUE[claim.method].claim, "note": claim.note}
            row |= {"round": claim.round_name, "split": split, "seeds": 0, "measured": NOT_RECORDED}
            row |= {"mean": math.nan, "p": math.nan, "p_within": math.nan, "relation": claim.relation}
            if {than, method} <= frames.keys():
                difference = recorded_in(frames, than, method).difference(than, method, "reward", split)
                row |= {"seeds": difference.seeds, "mean": difference.interval.mean, "p": p_value(difference)}
                row |= {"measured": str(difference.interval)}
                if claim.relation == "equal":
                    row |= {"p": p_beyond(difference, margin), "p_within": p_within(difference, margin)}
            rows.append(row)
    table = pandas.DataFrame(rows)
    family = table[["p", "p_within"]].astype(float)
    table[["p", "p_within"]] = holm(family.to_numpy().ravel()).reshape(family.shape)
    table["verdict"] = [_claim_verdict(row) for row in table.to_dict("records")]
    return table.drop(columns=["mean", "p_within", "relation"])


def _claim_verdict(row: dict) -> str:
    if math.isnan(row["p"]):
        return ONE_SEED if row["seeds"] else NOT_RECORDED
    differs = row["p"] < LEVEL
    if row["relation"] == "equal":
        return AGREES if row["p_within"] < LEVEL else DISAGREES if differs else NOT_SETTLED
    if not differs:
        return NOT_SETTLED
    return AGREES if (row["mean"] > 0) == (row["relation"] == "above") else DISAGREES
