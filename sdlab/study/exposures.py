"""Does the number of problems decide, or how often each is seen? The recorded grid as tables."""

import pandas

from sdlab.measure.crossed import Difference
from sdlab.study.exposure_conditions import BATCH, GRID, exposures_name
from sdlab.study.recorded import Recorded


def exposures_table(
    recorded: Recorded, method: str, metric: str = "reward", split: str = "unseen-types"
) -> pandas.DataFrame:
    """Return a metric at the end of every run of the grid: one row per cell.

    Columns: num_questions, exposures, steps, mean, low, high.

    Raises SdlabError when a run is not recorded.
    """
    rows = []
    for n, e in GRID:
        interval = recorded.interval(exposures_name(method, n, e), metric, split)
        rows.append({"num_questions": n, "exposures": e, "steps": n * e // BATCH, **vars(interval)})
    return pandas.DataFrame(rows)


def separate_effects(
    recorded: Recorded, method: str, metric: str = "reward", split: str = "unseen-types"
) -> dict[str, dict[str, Difference]]:
    """Return how the metric changes when one of problems, exposures and steps changes by a factor of four.

    The outer keys name what stays: "same problems" (exposures and steps grow), "same exposures" (problems and
    steps grow), "same steps" (problems grow, exposures fall). The inner keys name the two cells.
    """
    effects: dict[str, dict[str, Difference]] = {
        "same problems": {},
        "same exposures": {},
        "same steps": {},
    }
    for n, e in GRID:
        for kind, other in (
            ("same problems", (n, 4 * e)),
            ("same exposures", (4 * n, e)),
            ("same steps", (4 * n, e // 4)),
        ):
            if other in GRID:
                names = exposures_name(method, n, e), exposures_name(method, *other)
                label = f"{n} x {e} to {other[0]} x {other[1]}"
                effects[kind][label] = recorded.difference(*names, metric, split)
    return effects
