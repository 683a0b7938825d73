"""The learning-rate sweep in words: which rate serves a method's own goal, and what it does to the score."""

from collections.abc import Sequence

import pandas

from sdlab.findings.before_after import direction
from sdlab.measure.crossed import Difference
from sdlab.study.conditions import SWEEP
from sdlab.study.recorded import is_recorded, load_recorded
from sdlab.text.plural import plural

GOALS = {"reward": "training score", "loss": "loss"}


def goal_table(swept: pandas.DataFrame) -> pandas.DataFrame:
    """Return, for each method, what it optimises at every rate, with the best rate marked."""
    rows = {}
    for method, group in swept.groupby("method", sort=False):
        goal = group[group["measure"].isin(list(GOALS))].sort_values("learning_rate")
        cells = {
            f"{row.learning_rate:g}": f"{row.mean:.3g}" + " (best)" * bool(row.best)
            for row in goal.itertuples()
        }
        rows[str(method).upper()] = {"optimises": GOALS[goal["measure"].iloc[0]]} | cells
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def losses_by_rate(method: str = "sdpo", split: str = "unseen-types") -> dict[float, Difference]:
    """Return the change of the score against the untrained model at every recorded rate of a method."""
    names = [name for name in SWEEP if name.startswith(f"rate_{method}") and is_recorded(name)]
    runs = load_recorded("base", *names)
    return {
        SWEEP[name].config.learning_rate: runs.difference("base", name, "reward", split) for name in names
    }


def rate_title(losses: dict[float, Difference], method: str = "SDPO") -> str:
    """Return at how many rates a method ends significantly below the untrained model, as a title."""
    below = sum(direction(change) == "smaller" for change in losses.values())
    return (
        f"{method} ends significantly below the untrained model on unseen types at {below} of "
        f"{plural(len(losses), 'rate')}"
    )


def rate_words(swept: pandas.DataFrame, losses: dict[float, Difference], method: str = "SDPO") -> list[str]:
    """Return at how many rates the score ends lower, and the best rate by each method's own goal."""
    once = sum(change.seeds == 1 for change in losses.values())
    lines = [
        rate_title(losses, method)
        + (f"; {once} of them have one seed, and one seed shows nothing." if once else ".")
    ]
    for row in swept[swept["best"]].drop_duplicates("method").itertuples():
        ends = _ends(swept[swept["method"] == row.method])
        lines.append(
            f"{str(row.method).upper()}: its own goal is best at {row.learning_rate:g}, "
            f"{'at an end of' if row.learning_rate in ends else 'inside'} the range {ends[0]:g} to "
            f"{ends[1]:g}."
        )
    return lines


def _ends(group: pandas.DataFrame) -> Sequence[float]:
    return float(group["learning_rate"].min()), float(group["learning_rate"].max())
