"""Draw the pictures of the README and of these pages again: `python docs/figures.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas

from sdlab.charts import picture
from sdlab.charts.bars import context_table_chart
from sdlab.charts.curves import split_curves
from sdlab.charts.questions import question_curves
from sdlab.charts.rates import rate_curves
from sdlab.study.coverage_table import coverage_table
from sdlab.study.rates import sweep_table
from sdlab.study.recorded import load_recorded
from sdlab.text.plural import plural
from sdlab.walkthrough.record import read_record
from sdlab.world.splits import TRAINING

if TYPE_CHECKING:
    import altair as alt

HERE = Path(__file__).parent
COUNTS = ("1", "8", "64", "128", "512", "all")


def collapse() -> alt.ConcatChart | alt.LayerChart:
    """Return the chart of score and markers along training under GRPO and SDPO."""
    names = ("grpo", "sdpo", "sdpo_no_think")
    title = "On problems never trained on: in-domain solid, unseen types dashed"
    return split_curves(load_recorded(*names), names, ("reward", "markers"), title=title)


def rates() -> alt.HConcatChart:
    """Return the chart of the score after training at each learning rate."""
    base = load_recorded("base")
    untrained = {
        split: base.interval("base", "reward", split).mean for split in ("in-domain", "unseen-types")
    }
    table = sweep_table()
    seeds = plural(int(table["seeds"].max()), "seed")
    return rate_curves(
        table,
        base=untrained,
        subtitle=f"20 steps; bars: 95% intervals over problems and {seeds}; grey: untrained",
    )


def coverage() -> alt.ConcatChart:
    """Return the chart of score and length against the number of training problems."""
    metrics, splits = ("reward", "length"), (TRAINING, "unseen-types")
    names = [f"cover_{method}_{count}" for method in ("grpo", "sdpo") for count in COUNTS]
    base = load_recorded("base")
    rows = [
        {"split": split, "metric": metric, "mean": base.interval("base", metric, split).mean}
        for split in splits[1:]
        for metric in metrics
    ]
    return question_curves(
        coverage_table(load_recorded(*names), names), metrics, splits, base=pandas.DataFrame(rows),
        title="Narrow training hides the damage, broad training shows it",
        subtitle="40 steps of 8 x 8; 95% bands; grey: untrained, unseen types",
        width=450,
    )  # fmt: skip


def four_contexts() -> alt.HConcatChart:
    """Return the chart of the four contexts, from what notebook 03 recorded when it was run last."""
    values = read_record(HERE.parent / "notebooks" / "03_four_contexts.ipynb")["values"]
    rows = [
        {"context": context, "metric": metric, **interval}
        for context, metrics in values["table_one"].items()
        for metric, interval in metrics.items()
    ]
    counted = f"{values['problems']} problems x {values['samples']} samples; 95% intervals by problem"
    return context_table_chart(pandas.DataFrame(rows), title="One model, four contexts", subtitle=counted)


if __name__ == "__main__":
    picture.with_theme()
    for draw in (collapse, rates, coverage, four_contexts):
        _, png = picture.draw(draw().to_dict())
        (HERE / f"{draw.__name__}.png").write_bytes(png)
        print(f"docs/{draw.__name__}.png: {len(png):,} bytes")
