"""The tables of task coverage: how many problems, how often seen, and in which domain."""

from typing import cast

import pandas
from table_text import framed, markdown

from sdlab.charts.types import Frame
from sdlab.findings import exposures as seen
from sdlab.findings.coverage_crossing import in_problems
from sdlab.measure.intervals import Interval, row_interval
from sdlab.study.coverage_conditions import COUNTS, COVERAGE, coverage_name, small_name
from sdlab.study.coverage_table import coverage_table, stops_paying, training_gain
from sdlab.study.exposure_conditions import SEEN
from sdlab.study.exposures import separate_effects
from sdlab.study.recorded import is_recorded, load_recorded
from sdlab.text.plural import plural
from sdlab.world.splits import SIZES, TRAINING


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
