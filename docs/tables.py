"""Write the tables of the README and of these pages from the recorded runs: `python docs/tables.py`.

A table is between `<!-- table NAME -->` and `<!-- end -->`. A test checks that the pages are up to date.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from coverage_tables import coverage, domains, exposures, turns
from table_text import framed, markdown

from sdlab.charts.types import Frame
from sdlab.findings import arena_board, doubt_left
from sdlab.findings import organisms as across
from sdlab.findings.before_after import direction
from sdlab.findings.curve_shape import change_between, sums_at
from sdlab.findings.rate_words import losses_by_rate, rate_words
from sdlab.measure.intervals import Interval, row_interval
from sdlab.study.conditions import CONDITIONS, LONG
from sdlab.study.coverage_table import coverage_table
from sdlab.study.dissociation import dissociation as dissociation_of
from sdlab.study.mechanism_recorded import load_mechanisms
from sdlab.study.organisms import SAME_RECIPE, statements_by_organism
from sdlab.study.paper_statements import COVERAGE_STATEMENTS, METHOD_STATEMENTS
from sdlab.study.rates import sweep_table
from sdlab.study.recorded import Recorded, is_recorded, load_recorded
from sdlab.study.statements import statement_rows
from sdlab.world.splits import TRAINING

HERE = Path(__file__).parent
PAGES = (HERE / "results.md", HERE / "index.md", HERE.parent / "README.md")
SPLITS = ("in-domain", "unseen-types", "deeper")
SLOT = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _ends(recorded: Recorded, name: str) -> list[Any]:
    """Return seeds, score on three splits, markers and length of a condition's last checkpoint."""
    seeds = recorded.evaluations.query("condition == @name")["seed"].nunique()
    scores = [recorded.interval(name, "reward", split) for split in SPLITS]
    rest = [recorded.interval(name, metric, "in-domain") for metric in ("markers", "length")]
    return [seeds, *scores, *rest]


HEADER = [
    "trained by",
    "seeds",
    "in-domain",
    "unseen types",
    "deeper",
    "markers, in-domain",
    "length, in-domain",
]


def main() -> str:
    """Return the main table: every condition of 40 steps."""
    recorded = load_recorded(*CONDITIONS)
    return markdown(HEADER, [[one.label, *_ends(recorded, name)] for name, one in CONDITIONS.items()])


def long() -> str:
    """Return the table of the recorded runs of 100 steps."""
    there = {name: one for name, one in LONG.items() if is_recorded(name)}
    recorded, rows = load_recorded(*there), []
    for name, one in there.items():
        change = change_between(recorded, name, "unseen-types", 40, one.config.steps)
        rows.append([one.label.removesuffix(", 100 steps"), *_ends(recorded, name), change])
    return markdown([*HEADER, "from step 40 on, unseen types"], rows)


def rates() -> str:
    """Return the score after training at five learning rates."""
    table: Frame = cast(Frame, sweep_table())
    rows = []
    for (method, rate), group in table.groupby(["method", "learning_rate"], sort=False):
        by = group.set_index("measure")
        scores = [row_interval(by.loc[split]) for split in ("in-domain", "unseen-types")]
        best = "yes" if by["best"].any() else ""
        rows.append([method.upper(), f"{rate:g}", int(by["seeds"].iloc[0]), *scores, best])
    header = ["method", "learning rate", "seeds", "in-domain", "unseen types", "best by its own measure"]
    return markdown(header, sorted(rows, key=lambda row: (row[0], float(row[1]))))


def rates_found() -> str:
    """Return at how many learning rates SDPO ends below the untrained model, and each method's best rate."""
    return "".join(f"- {line}\n" for line in rate_words(sweep_table(), losses_by_rate()))


def fall() -> str:
    """Return SDPO's loss of score and of markers after ten steps, as a share of that after 40.

    All three evaluations are taken on the problems that are evaluated along training.
    """
    recorded = load_recorded("sdpo")
    shares = []
    for metric in ("reward", "markers"):
        sums = (sums_at(recorded, "sdpo", "unseen-types", step, metric=metric) for step in (0, 10, 40))
        start, early, end = (over.to_numpy().sum() / under.to_numpy().sum() for over, under in sums)
        shares.append(f"{(start - early) / (start - end):.0%}")
    return (
        "On unseen types the loss after ten steps of SDPO is "
        f"{shares[0]} of the loss after 40 steps in score, and {shares[1]} in markers.\n"
    )


def organisms() -> str:
    """Return the score on unseen types at the end of training, by condition and organism."""
    return framed(across.ends_table(load_recorded(*across.names_on(across.EVERY)), across.EVERY))


def dissociation() -> str:
    """Return what SDPO loses in-domain and on unseen types on every organism, and the effect of intuition."""
    recorded = load_recorded(*across.names_on(across.EVERY))
    losses = across.losses(recorded, across.EVERY)
    lines = [
        *across.losses_words(losses),
        *across.loss_over_organisms_words(across.loss_over_organisms(recorded, across.EVERY)),
        *across.intuition_words(across.intuition_changes(recorded, across.EVERY)),
    ]
    return framed(across.losses_table(recorded, losses)) + "\n" + "".join(f"- {line}\n" for line in lines)


def agreement() -> str:
    """Return the verdicts on the repeated statements, by organism."""
    recorded = load_recorded(*across.names_on(SAME_RECIPE))
    return framed(statements_by_organism(recorded, METHOD_STATEMENTS).set_index("claim"))


def doubt() -> str:
    """Return the claims about what is left of the doubt, by organism, and what would refute each."""
    table = doubt_left.claim_table(load_mechanisms())
    return framed(table.join(doubt_left.refuting_table()))


def repairs() -> str:
    """Return the arena's table of the recorded methods on unseen types, and what of it is recorded."""
    recorded = arena_board.arena_or_none()
    if recorded is None:
        return arena_board.absent_words(None) + "\n"
    lines = [*arena_board.board_words(recorded), arena_board.absent_words(recorded)]
    return framed(arena_board.board(recorded)) + "\n" + "".join(f"- {line}\n" for line in lines)


def repair_claims() -> str:
    """Return the verdicts on the papers' claims whose runs are recorded."""
    recorded = arena_board.arena_or_none()
    judged = None if recorded is None else arena_board.claims(recorded)
    return "No claim can be judged yet.\n" if judged is None or judged.empty else framed(judged)


def found() -> str:
    """Return the main findings, each with its numbers; every verdict in them is computed."""
    recorded = load_recorded("base", "grpo", "sdpo", "sdpo_no_think", "chemistry_sdpo", "cover_sdpo_8")

    def score(name: str, split: str, metric: str = "reward") -> Interval:
        return recorded.interval(name, metric, split)

    def change(before: str, after: str, split: str = "unseen-types") -> str:
        return direction(
            recorded.difference(before, after, "reward", split), "rises", "falls", "stays unclear"
        )

    loss = dissociation_of(recorded, "base", "sdpo")
    where = "more where problems are of a new kind" if loss.exceeds(1) else "in-domain and on unseen types"
    milder = {"rises": "smaller", "falls": "larger"}.get(
        change("sdpo", "sdpo_no_think"), "not clearly another"
    )
    markers = [score(name, "in-domain", "markers") for name in ("base", "sdpo")]
    narrow = coverage_table(recorded, ["cover_sdpo_8"]).query("metric == 'reward'").set_index("split")
    training = row_interval(narrow.loc[TRAINING])
    domains = load_recorded("base_domains", "chemistry_sdpo")
    chemistry = direction(
        domains.difference("base_domains", "chemistry_sdpo", "reward", "chemistry-test"), "rises", "falls"
    )
    before, after, plain, reward = (
        [score(name, split) for split in SPLITS[:2]] for name in ("base", "sdpo", "sdpo_no_think", "grpo")
    )
    lines = [
        f"**Self-distillation with the full solution loses score, {where}**: in-domain {before[0]} before, "
        f"{after[0]} after ({loss.loss_near} of it lost); unseen types {before[1]} before, {after[1]} after "
        f"({loss.loss_far} lost). Markers per completion go from {markers[0]} to {markers[1]}.",
        f"**GRPO {change('base', 'grpo')}** on the same problems: {reward[0]} in-domain, {reward[1]} on "
        "unseen types.",
        f"**Without the thinking in the teacher's context the loss is {milder}**: {plain[0]} in-domain, "
        f"{plain[1]} on unseen types.",
        f"**Narrow training**: with 8 problems the training score of SDPO is {training}, and the score on "
        f"unseen types {change('base', 'cover_sdpo_8')} to {score('cover_sdpo_8', 'unseen-types')}.",
        f"**Where nothing has to be searched** (chemistry) the score of SDPO {chemistry}, from "
        f"{domains.interval('base_domains', 'reward', 'chemistry-test')} to "
        f"{score('chemistry_sdpo', 'chemistry-test')}; on the hunts it then scores "
        f"{score('chemistry_sdpo', 'in-domain')} in-domain.",
    ]
    return "".join(f"- {line}\n" for line in lines)


def statements() -> str:
    """Return every statement with the result that would refute it, what was measured, and the verdict."""
    every = statement_rows(load_recorded(), (*METHOD_STATEMENTS, *COVERAGE_STATEMENTS))
    rows = []
    for claim, row in every.items():
        paper = f"{row['paper']} ({row['source']})" if row["source"] else row["paper"]
        rows.append([claim, paper, row["refuted by"], row["measured"], row["verdict"]])
    return markdown(["statement", "the paper", "refuted by", "measured", "verdict"], rows)


SHOWN = (
    main, fall, long, organisms, dissociation, agreement, rates, rates_found, coverage, exposures,
    domains, turns, statements, found, doubt, repairs, repair_claims,
)  # fmt: skip
TABLES: dict[str, Callable[[], str]] = {table.__name__: table for table in SHOWN}


def rendered(text: str) -> str:
    """Return a page with every table computed again."""
    return SLOT.sub(lambda slot: slot[1] + TABLES[slot[2]]() + slot[3], text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
