"""The page of results says what is recorded, computed here in another way than by docs/tables.py."""

from pathlib import Path

import pytest

from sdlab.measure.crossed import crossed_difference
from sdlab.measure.intervals import Interval
from sdlab.study import coverage_table as ends
from sdlab.study.conditions import CONDITIONS, LONG
from sdlab.study.paper_statements import COVERAGE_STATEMENTS, METHOD_STATEMENTS
from sdlab.study.recorded import load_recorded
from sdlab.study.statements import statement_rows
from sdlab.world.splits import SIZES, TRAINING

COUNTS = ("1", "8", "64", "128", "512", "all")
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]


@pytest.fixture(scope="module")
def recorded():
    return load_recorded()


def seeds_of(recorded, name) -> str:
    return str(recorded.evaluations.query("condition == @name")["seed"].nunique())


def test_the_tables_of_training_are_what_is_recorded(recorded):
    """Label, seeds, score on three splits, markers and length of every main condition and of those of a
    hundred steps.
    """
    for name, one in (CONDITIONS | LONG).items():
        if name in LONG and name not in recorded.provenance:
            continue
        label = one.label.removesuffix(", 100 steps")
        scores = [
            str(recorded.interval(name, "reward", split)) for split in ("in-domain", "unseen-types", "deeper")
        ]
        rest = [str(recorded.interval(name, metric, "in-domain")) for metric in ("markers", "length")]
        assert [label, seeds_of(recorded, name), *scores, *rest] in [row[:7] for row in rows()], name


def test_the_change_from_step_40_on_is_what_is_recorded(recorded):
    """On the problems that were judged along training, on unseen types."""
    for name, one in LONG.items():
        if name not in recorded.provenance:
            continue
        tables = [recorded.table(name, "reward", "unseen-types", step) for step in (0, 40, None)]
        shared = tables[0][0].columns
        (x, m), (y, n) = ([part[shared] for part in table] for table in tables[1:])
        row = [one.label.removesuffix(", 100 steps"), str(crossed_difference(x, y, m, n))]
        assert row in [[found[0], found[-1]] for found in rows() if len(found) == 8], name


def test_the_coverage_table_is_what_is_recorded(recorded):
    for count in COUNTS:
        grpo, sdpo = (f"cover_{method}_{count}" for method in ("grpo", "sdpo"))
        table = ends.coverage_table(recorded, [grpo, sdpo]).set_index(["condition", "split", "metric"])
        cells = [
            str(Interval(*table.loc[place, ["mean", "low", "high"]]))
            for place in (
                (grpo, TRAINING, "reward"), (sdpo, TRAINING, "reward"), (grpo, "unseen-types", "reward"),
                (sdpo, "unseen-types", "reward"), (sdpo, "in-domain", "length"),
            )
        ]  # fmt: skip
        label = count if count != "all" else f"all ({SIZES['train']:,})"
        assert [label, *cells, seeds_of(recorded, grpo)] in rows(), count


def test_the_table_of_other_domains_is_what_is_recorded(recorded):
    for name in (name for name in recorded.provenance if name.startswith(("chemistry_", "kata_"))):
        own = "kata" if name.startswith("kata_") else "chemistry-test"
        cells = [
            recorded.interval("base_domains", "reward", own), recorded.interval(name, "reward", own),
            recorded.interval(name, "length", own), recorded.interval(name, "reward", "in-domain"),
        ]  # fmt: skip
        row = [recorded.provenance[name]["label"], *map(str, cells), seeds_of(recorded, name)]
        assert row in rows(), name
    untrained = str(recorded.interval("base", "reward", "in-domain"))
    assert f"hunts, in-domain (untrained {untrained})" in PAGE


def test_the_table_of_where_training_stops_paying_is_what_is_recorded(recorded):
    for label, series in (
        ("SDPO", "cover_sdpo"),
        ("the small organism (290,000 parameters, without intuition)", "small_sdpo"),
        ("without think", "cover_sdpo_no_think"),
    ):
        names = [f"{series}_{count}" for count in COUNTS]
        names = [name for name in names if name in recorded.provenance]
        if not {f"{series}_8", f"{series}_all"} <= set(names):
            continue
        turns = ends.stops_paying(recorded, names)
        kept = turns.dropna()
        if kept.empty:
            assert any(label in row[0] and row[1].startswith("nowhere") for row in rows()), label
            continue
        count = ends.seeds_interval(kept)
        cells = [f"{2**value:.0f}" for value in (count.mean, count.low, count.high)]
        never = f"; {len(turns) - len(kept)} of {len(turns)} seeds never gain"
        cell = f"{cells[0]} [{cells[1]}, {cells[2]}]" + (never if len(kept) < len(turns) else "")
        gains = [str(ends.training_gain(recorded, f"{series}_{count}")) for count in ("8", "all")]
        assert [label, cell, str(len(turns)), *gains] in rows(), label


def statement_table(recorded) -> str:
    """The statements as the page and notebooks 06 and 08 show them."""
    lines = ["| statement | the paper | refuted by | measured | verdict |", "| --- | --- | --- | --- | --- |"]
    for claim, row in statement_rows(recorded, (*METHOD_STATEMENTS, *COVERAGE_STATEMENTS)).items():
        paper = f"{row['paper']} ({row['source']})" if row["source"] else row["paper"]
        lines.append(f"| {claim} | {paper} | {row['refuted by']} | {row['measured']} | {row['verdict']} |")
    return "\n".join(lines)


def test_the_table_of_statements_is_that_of_the_recorded_runs(recorded):
    assert PAGE.split("<!-- table statements -->")[1].split("<!-- end -->")[0].strip() == statement_table(
        recorded
    )


def test_sdpo_ends_below_base_at_as_many_rates_as_stated(recorded):
    rates = [name for name in recorded.provenance if name.startswith("rate_sdpo")]
    changes = [recorded.difference("base", name, "reward", "unseen-types") for name in rates]
    below = sum(one.significant and one.interval.mean < 0 for one in changes)
    text = f"significantly below the untrained model on unseen types at {below} of {len(rates)} rates"
    assert text in " ".join(PAGE.split())


def test_the_share_that_is_lost_within_ten_steps_is_that_of_the_runs(recorded):
    shares = []
    for metric in ("reward", "markers"):
        frame = recorded.evaluations.query("condition == 'sdpo' and split == 'unseen-types'")
        early = frame[frame["problem_id"].isin(frame.loc[frame["step"] == 10, "problem_id"])]
        start, ten, end = (
            part[metric].sum() / part["generations"].sum()
            for part in (early[early["step"] == step] for step in (0, 10, 40))
        )
        shares.append(f"{(start - ten) / (start - end):.0%}")
    text = f"is {shares[0]} of the loss after 40 steps in score, and {shares[1]} in markers"
    assert text in " ".join(PAGE.split())
