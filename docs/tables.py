"""Write the tables of the README and of these pages from the recorded runs: `python docs/tables.py`.

A table is between `<!-- table NAME -->` and `<!-- end -->`. A test checks that the pages are up to date.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pandas

from sdlab.charts.types import Frame
from sdlab.findings import doubt_left
from sdlab.findings import exposures as seen
from sdlab.findings import organisms as across
from sdlab.findings.before_after import direction
from sdlab.findings.coverage_crossing import in_problems
from sdlab.findings.curve_shape import change_between, sums_at
from sdlab.findings.rate_words import losses_by_rate, rate_words
from sdlab.measure.intervals import Interval, row_interval
from sdlab.study.conditions import CONDITIONS, LONG
from sdlab.study.coverage_conditions import (
    COUNTS,
    COVERAGE,
    coverage_name,
    small_name,
)
from sdlab.study.coverage_table import coverage_table, stops_paying, training_gain
from sdlab.study.dissociation import dissociation as dissociation_of
from sdlab.study.exposure_conditions import SEEN
from sdlab.study.exposures import separate_effects
from sdlab.study.mechanism_recorded import load_mechanisms
from sdlab.study.organisms import SAME_RECIPE, statements_by_organism
from sdlab.study.paper_statements import COVERAGE_STATEMENTS, METHOD_STATEMENTS
from sdlab.study.rates import sweep_table
from sdlab.study.recorded import Recorded, is_recorded, load_recorded
from sdlab.study.statements import statement_rows
from sdlab.text.plural import plural
from sdlab.world.splits import SIZES, TRAINING

HERE = Path(__file__).parent
PAGES = (HERE / "results.md", HERE / "index.md", HERE.parent / "README.md")
SPLITS = ("in-domain", "unseen-types", "deeper")
SLOT = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; every cell is converted to text."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


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


def framed(frame: pandas.DataFrame) -> str:
    """Return a data frame as a Markdown table, its index first."""
    return markdown(
        [str(frame.index.name), *map(str, frame.columns)], [[key, *row] for key, *row in frame.itertuples()]
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


def exposures() -> str:
    """Return SDPO's score on unseen types by number of problems and exposures, and what changes it."""
    recorded = load_recorded(*SEEN)
    words = seen.effect_words(separate_effects(recorded, "sdpo"))
    return framed(seen.grid_table(recorded, "sdpo")) + "\n" + "".join(f"- {line}\n" for line in words)


def coverage() -> str:
    """Return training score and score on unseen types against the number of training problems."""
    names = [coverage_name(method, count) for method in ("grpo", "sdpo") for count in COUNTS]
    table = cast(Frame, coverage_table(load_recorded(*names), names))
    rows = []
    for questions, group in table.groupby("questions", sort=False):
        cells = group.set_index(["method", "split", "metric"])[["mean", "low", "high"]]

        def cell(method: str, split: str, metric: str = "reward", cells: Frame = cells) -> Interval:
            return row_interval(cells.loc[(method, split, metric)])

        scores = [cell(method, split) for split in (TRAINING, "unseen-types") for method in ("grpo", "sdpo")]
        seeds = "/".join(map(str, sorted(set(group["seeds"]))))
        label = questions if questions != "all" else f"all ({SIZES['train']:,})"
        rows.append([label, *scores, cell("sdpo", "in-domain", "length"), seeds])
    header = [
        "problems", "GRPO, its training problems", "SDPO, its training problems", "GRPO, unseen types",
        "SDPO, unseen types", "length after SDPO, in-domain", "seeds",
    ]  # fmt: skip
    return markdown(header, rows)


def domains() -> str:
    """Return what training on chemistry and on kata does to their own tests and to the hunts."""
    names = [name for name in COVERAGE if name.startswith(("chemistry_", "kata_"))]
    recorded = load_recorded("base_domains", *names)
    rows = []
    for name in names:
        test = COVERAGE[name].plan.final_splits[0]
        seeds = recorded.evaluations.query("condition == @name")["seed"].nunique()
        rows.append(
            [
                COVERAGE[name].label,
                recorded.interval("base_domains", "reward", test),
                recorded.interval(name, "reward", test),
                recorded.interval(name, "length", test),
                recorded.interval(name, "reward", "in-domain"),
                seeds,
            ]
        )
    untrained = load_recorded("base").interval("base", "reward", "in-domain")
    header = ["trained on", "own test, untrained", "own test, after", "length"]
    header += [f"hunts, in-domain (untrained {untrained})", "seeds"]
    return markdown(header, rows)


def turns() -> str:
    """Return the number of problems at which SDPO's training score turns from gain to loss."""
    series: dict[str, dict[int | None, str]] = {
        "SDPO": {count: coverage_name("sdpo", count) for count in COUNTS},
        "the small organism (290,000 parameters, without intuition)": {
            count: small_name("sdpo", count) for count in COUNTS
        },
        "without think": {count: coverage_name("sdpo_no_think", count) for count in COUNTS},
    }
    rows = []
    for label, every in series.items():
        named = {count: name for count, name in every.items() if is_recorded(name)}
        if not {8, None} <= set(named):
            continue
        recorded = load_recorded(*named.values())
        turn = stops_paying(recorded, list(named.values()))
        gains = [training_gain(recorded, named[count]) for count in (8, None)]
        rows.append([label, _crossing(turn), len(turn), *gains])
    header = [
        "SDPO with one thing changed",
        "turns at (problems)",
        "seeds",
        "gain with 8 problems",
        "with all",
    ]
    return markdown(header, rows)


def _crossing(turn: pandas.Series) -> str:
    """Return the interval of 2**turn over the seeds that cross, and the number that never do."""
    problems, missing = in_problems(turn), int(turn.isna().sum())
    if problems is None:
        return f"nowhere; {len(turn)} of {plural(len(turn), 'seed')} never gain"
    text = f"{problems.mean:.0f}"
    if len(turn) - missing > 1:
        text += f" [{problems.low:.0f}, {problems.high:.0f}]"
    return text + (f"; {missing} of {len(turn)} seeds never gain" if missing else "")


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
    domains, turns, statements, found, doubt,
)  # fmt: skip
TABLES: dict[str, Callable[[], str]] = {table.__name__: table for table in SHOWN}


def rendered(text: str) -> str:
    """Return a page with every table computed again."""
    return SLOT.sub(lambda slot: slot[1] + TABLES[slot[2]]() + slot[3], text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
