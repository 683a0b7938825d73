"""The recorded learning-rate sweep as one table: each rate by the method's own measure and by score."""

from collections.abc import Sequence

import pandas

from sdlab.errors import SdlabError
from sdlab.study.conditions import SWEEP
from sdlab.study.coverage_table import training_ends
from sdlab.study.recorded import Recorded, is_recorded, load_recorded

# The log column that a method optimises, and 1 where a larger value is better, -1 where a smaller one is.
MEASURES = {"grpo": ("reward", 1), "sdpo": ("loss", -1)}
COLUMNS = ("method", "learning_rate", "seeds", "measure", "mean", "low", "high", "best")


def sweep_table(
    recorded: Recorded | None = None, splits: Sequence[str] = ("in-domain", "unseen-types")
) -> pandas.DataFrame:
    """Return three rows per method and rate, with the columns COLUMNS.

    measure "reward" or "loss" is the training column that the method optimises: its mean over the last five
    steps and the seeds, with the lowest and the highest seed as low and high. `best` marks the method's best
    rate by it. The other measures are splits: the score after training, with its 95% interval over seeds and
    problems as low and high. recorded: None loads the recorded sweep.

    Raises SdlabError when no run of the sweep is recorded.
    """
    if recorded is None:
        names = [name for name in SWEEP if is_recorded(name)]
        if not names:
            raise SdlabError(
                "no run of the learning-rate sweep is recorded; make them with `sdlab reproduce rates`"
            )
        recorded = load_recorded(*names)
    rows = []
    for name in recorded.provenance:
        condition = SWEEP[name]
        column, sign = MEASURES[condition.method]
        ends = training_ends(recorded, name, column)
        common = {
            "method": condition.method,
            "learning_rate": condition.config.learning_rate,
            "seeds": len(ends),
        }
        rows.append(
            common
            | {
                "measure": column,
                "mean": ends.mean(),
                "low": ends.min(),
                "high": ends.max(),
                "rank": sign * ends.mean(),
            }
        )
        rows += [
            common | {"measure": split} | vars(recorded.interval(name, "reward", split)) for split in splits
        ]
    table = pandas.DataFrame(rows)
    table["best"] = table["rank"].notna() & (
        table["rank"] == table.groupby("method")["rank"].transform("max")
    )
    return table.sort_values(["method", "measure", "learning_rate"], ignore_index=True)[list(COLUMNS)]
