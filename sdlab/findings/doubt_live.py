"""What is left of the doubt in one trained model, measured in a notebook: probes, markers, and steering."""

from collections.abc import Mapping

import numpy as np
import pandas

from sdlab.measure.doubt import doubt_curve, hedging_law
from sdlab.measure.intervals import Interval, row_interval, tidy
from sdlab.measure.places import Places
from sdlab.measure.probes import CONTROLS, ProbeScore, probe, probe_table
from sdlab.measure.readouts import NEAR
from sdlab.world.knobs import Knobs

States = Mapping[str, Mapping[str, Mapping[int, np.ndarray]]]  # model -> split -> layer -> (N, d)
TRANSFER = "the base's probe"
PANELS = {NEAR: "in-domain", "unseen-types": "unseen types", TRANSFER: TRANSFER}


def layer_table(states: States, places: Mapping[str, Places], target: str = "entropy") -> pandas.DataFrame:
    """Return what probes read at every layer: panel, model, x (the layer), mean, low, high, problems.

    states: the model before training first. Panels: other problems in-domain, unseen types, and in-domain
    problems read by the probe of the first model, after each model's mean is subtracted. Intervals are by
    problem.
    """
    first, tables = next(iter(states)), []
    for model, own in states.items():
        here, far = places[NEAR], places["unseen-types"]
        read = {
            NEAR: probe(own[NEAR], here, [target], controls=()),
            "unseen-types": probe(own[NEAR], here, [target], test=(own["unseen-types"], far), controls=()),
            TRANSFER: probe(states[first][NEAR], here, [target], apply=own[NEAR], controls=()),
        }
        tables += [
            probe_table(scores, names={"panel": PANELS[panel], "model": model})
            for panel, scores in read.items()
        ]
    rows = pandas.concat(tables, ignore_index=True).rename(columns={"layer": "x"})
    return rows[["panel", "model", "x", "mean", "low", "high", "problems"]]


def read_at(rows: pandas.DataFrame, model: str, panel: str, layer: int) -> Interval:
    """Return what a probe reads in `layer_table`."""
    row = rows[(rows["model"] == model) & (rows["panel"] == panel) & (rows["x"] == layer)].iloc[0]
    return row_interval(row)


def control_table(
    states: Mapping[int, np.ndarray], places: Places, target: str = "entropy"
) -> pandas.DataFrame:
    """Return what a probe of the last layer reads, beside what the controls read."""
    last = max(states)
    scores = probe({0: states[0], last: states[last]}, places, [target], controls=CONTROLS)
    chosen = [one for one in scores if (one.layer, one.control) != (0, "shuffled labels")]
    names = {"none": f"layer {last}", "embedding": "the token alone", "position": "position in the text"}
    rows = {names.get(one.control, one.control): _cell(one) for one in chosen}
    return pandas.DataFrame.from_dict(rows, orient="index", columns=[scores[0].metric]).rename_axis(
        "read from"
    )


def _cell(score: ProbeScore) -> str:
    return str(row_interval(probe_table([score]).iloc[0]))


def marker_curve(said: Mapping[str, np.ndarray], places: Places, knobs: Knobs) -> pandas.DataFrame:
    """Return the probability of a marker by bin of the belief's entropy, as `doubt_curve`, by model.

    said: model -> probability of a marker at every place, (N,).
    """
    law = [hedging_law(bits, knobs) for bits in places.frame["entropy"]]
    frames = [places.frame.assign(who=model, hedged=values, law=law) for model, values in said.items()]
    return doubt_curve(pandas.concat(frames, ignore_index=True), "who")


def ends_of(curve: pandas.DataFrame) -> dict[str, str]:
    """Return, for each model, the probability of a marker in the bin of least and of most doubt."""
    words = {}
    for model, part in curve.groupby("who", sort=False):
        ends = part.sort_values("entropy").iloc[[0, -1]][["mean", "entropy"]].to_numpy(float)
        words[str(model)] = ", ".join(f"{tidy(mean)} at {tidy(bits)} bits" for mean, bits in ends.tolist())
    return words
