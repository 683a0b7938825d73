"""What a trained model still represents, says and knows, beside the model before training, at forced traces.

Everything is measured at places of the same texts, which the reasoner wrote, so models are compared where
the exact belief is the same.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas

from sdlab.measure.logit_change import logit_change, word_probability
from sdlab.measure.nudges import true_statements
from sdlab.measure.places import Places
from sdlab.measure.probes import CONTROLS, ProbeScore, probe
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.world.problems import Problem

TARGETS = ("entropy", "candidates", "right", "refuted")
OWN, TRANSFER = "own", "base"  # a probe fitted on the model itself, or on the model before training
NEAR = "in-domain"  # the split on which probes are fitted
MARKER, CHANGE, UNEMBEDDING, RESIDUAL = (
    "marker probability", "logit change", "logit change, unembedding", "logit change, residual",
)  # fmt: skip
TRUE = "true statements"
States = Mapping[int, np.ndarray]


def probe_scores(
    states: Mapping[str, States],
    places: Mapping[str, Places],
    before: Mapping[str, States] | None = None,
    targets: Sequence[str] = TARGETS,
) -> list[tuple[str, str, ProbeScore]]:
    """Return (split, probe, score) for every target, layer and control.

    states, places: split -> residuals of the model and places; probes are fitted on NEAR and judged there
    (other problems) and on the other splits. before: residuals of the model before training at the same
    places; its probes are then judged on this model, too (TRANSFER), after each model's mean is subtracted.
    Controls are measured on NEAR only.

    Raises SdlabError as `probe`.
    """
    scores = []
    for split, here in places.items():
        elsewhere = None if split == NEAR else (states[split], here)
        controls = CONTROLS if split == NEAR else ()
        own = probe(states[NEAR], places[NEAR], targets, test=elsewhere, controls=controls)
        scores += [(split, OWN, score) for score in own]
        if before is not None:
            moved = probe(
                before[NEAR], places[NEAR], targets, apply=states[NEAR], test=elsewhere, controls=()
            )
            scores += [(split, TRANSFER, score) for score in moved]
    return scores


def marker_readouts(engine: TorchEngine, before: TorchEngine | None, places: Places) -> pandas.DataFrame:
    """Return the probability of a marker at every place, and why the markers' logits changed, by problem.

    before: the model before training; without it only the probability is measured. The change is the mean
    over markers (`logit_change`).

    Columns: measure, problem_id, total (sum over the problem's places), count (places).
    """
    rows = places.frame[["problem_id"]].assign(**{MARKER: word_probability(engine, places)})
    if before is not None:
        parts = logit_change(before, engine, places)
        parts = parts.groupby(["row", "position"], sort=False)[["change", "unembedding", "residual"]].mean()
        keys = pandas.MultiIndex.from_frame(places.frame[["row", "position"]])
        for name, column in ((CHANGE, "change"), (UNEMBEDDING, "unembedding"), (RESIDUAL, "residual")):
            rows[name] = parts[column].reindex(keys).to_numpy()
    return _by_problem(rows)


def fact_readouts(
    engine: TorchEngine, looks: pandas.DataFrame, problems: Sequence[Problem]
) -> pandas.DataFrame:
    """Return how often the model states a true fact when a text makes it check a value, by problem.

    looks: from `sdlab.measure.nudges.second_looks`, the same for all models. Columns as `marker_readouts`.
    """
    rows = true_statements(engine, looks, problems)[["problem_id", "true"]]
    return _by_problem(rows.rename(columns={"true": TRUE}))


def _by_problem(rows: pandas.DataFrame) -> pandas.DataFrame:
    long = rows.melt("problem_id", var_name="measure", value_name="value")
    groups = long.groupby(["measure", "problem_id"], sort=False)["value"]
    return groups.agg(total="sum", count="size").reset_index()
