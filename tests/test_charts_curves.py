"""Curves: what is drawn is the plain mean and range of the seeds, and the intervals of the recorded
evaluations.
"""

import numpy as np
import pandas
import pytest

from sdlab.charts import curves, multiples, picture
from sdlab.charts.style import METHOD_COLOURS
from sdlab.errors import SdlabError
from sdlab.measure.crossed import crossed_interval
from sdlab.study.recorded import Recorded

SEEDS, STEPS = 3, 4


def steps_frame() -> pandas.DataFrame:
    rng = np.random.default_rng(5)
    rows = [
        {
            "condition": name,
            "seed": seed,
            "step": step,
            "reward": rng.uniform(),
            "loss": np.nan if step == 2 else rng.normal(),
            "idle": np.nan,
        }
        for name in ("sdpo", "grpo")
        for seed in range(SEEDS)
        for step in range(STEPS)
    ]
    return pandas.DataFrame(rows)


def recorded() -> Recorded:
    """Twice as many problems at the last step, the further ones much easier; base is judged once, after step
    0.
    """
    rng = np.random.default_rng(6)
    rows = []
    for name, steps in (("grpo", (0, 10, 20)), ("sdpo", (0, 10, 20)), ("base", (0,))):
        for step in steps:
            for seed in range(SEEDS):
                for split in ("in-domain", "unseen-types"):
                    for problem in range(12 if step == 20 else 6):
                        right = int(rng.integers(0, 5)) if problem < 6 else 8
                        rows.append(
                            {
                                "condition": name,
                                "seed": seed,
                                "step": step,
                                "split": split,
                                "problem_id": f"{split}/{problem}",
                                "generations": 8,
                                "reward": right,
                                "length": int(rng.integers(300, 900)),
                                "markers": int(rng.integers(0, 90)),
                                "truncated": 0,
                            }
                        )
    return Recorded(steps_frame(), pandas.DataFrame(rows), {})


def drawn(panel: dict, datasets: dict, wanted=("mean",)) -> pandas.DataFrame:
    """The rows behind a panel's layers that hold `wanted`, without repeats."""
    names = {
        panel.get("data", {}).get("name"),
        *(layer.get("data", {}).get("name") for layer in panel["layer"]),
    } - {None}
    frames = [pandas.DataFrame(datasets[name]) for name in names]
    return pandas.concat([frame for frame in frames if set(wanted) <= set(frame)]).drop_duplicates()


def panels(spec: dict) -> dict[str, dict]:
    found = spec.get("concat", [spec])
    return {
        panel["title"]["text"] if isinstance(panel["title"], dict) else panel["title"]: panel
        for panel in found
    }


def scale(panel: dict, channel: str) -> dict:
    return next(
        layer["encoding"][channel]["scale"]
        for layer in panel["layer"]
        if "scale" in layer["encoding"].get(channel, {})
    )


def test_run_curves_draw_the_mean_and_the_range_of_the_seeds():
    frame = steps_frame()
    spec = curves.run_curves(frame, ("reward", "loss", "idle")).to_dict()
    by_title = panels(spec)
    assert set(by_title) == {"score", "loss"}  # a metric without any number is left out
    rows = drawn(by_title["score"], spec["datasets"])
    assert len(rows) == 2 * STEPS
    for row in rows.itertuples():
        name = {"GRPO": "grpo"}.get(row.label, "sdpo")
        values = frame[(frame["condition"] == name) & (frame["step"] == row.step)]["reward"]
        assert (row.low, row.high) == (values.min(), values.max()) and row.mean == pytest.approx(
            sum(values) / SEEDS
        )
    assert sorted(drawn(by_title["loss"], spec["datasets"])["step"].unique()) == [
        0,
        1,
        3,
    ]  # nothing is drawn where nothing was learnt


def test_colours_and_labels_follow_the_condition():
    spec = curves.run_curves(steps_frame(), ("reward",), labels={"sdpo": "mine"}).to_dict()
    assert scale(panels(spec)["score"], "color") == {
        "domain": ["GRPO", "mine"],
        "range": [METHOD_COLOURS["grpo"], METHOD_COLOURS["sdpo"]],
    }


def test_one_run_has_no_band():
    one = steps_frame().query("seed == 0").drop(columns="seed")
    spec = curves.run_curves(one, ("reward",)).to_dict()
    assert {layer["mark"]["type"] for layer in panels(spec)["score"]["layer"]} == {"line"}
    assert "one training seed" in picture.alt_text(spec)


def test_split_curves_draw_the_intervals_on_the_problems_of_every_step():
    data = recorded()
    spec = curves.split_curves(data, ["grpo", "sdpo"], "density").to_dict()
    fewer = data.evaluations.query("not (condition == 'grpo' and seed == seed.max())")
    other = Recorded(data.steps, fewer, data.provenance)
    caption = curves.split_curves(other, ["grpo", "sdpo"], "density").to_dict()["title"]["subtitle"]
    counts = sorted(set(fewer.groupby("condition")["seed"].nunique()))
    assert len(counts) == 2 and caption.startswith(f"{counts[0]} or {counts[1]} training seeds")
    panel = panels(spec)[spec["title"]["text"]]
    rows = drawn(panel, spec["datasets"])
    assert len(rows) == 2 * 2 * 3
    for row in rows.itertuples():
        name = {"GRPO": "grpo"}.get(row.label, "sdpo")  # noqa: F841, the query reads it
        cells = data.evaluations.query("condition == @name and split == @row.split and step == @row.step")
        cells = cells[cells["problem_id"].str.rsplit("/").str[-1].astype(int) < 6]
        over, under = (
            cells.pivot(index="seed", columns="problem_id", values=column).to_numpy()
            for column in ("markers", "length")
        )
        wanted = crossed_interval(1000 * over, under, bounds=(0, np.inf))
        assert (row.mean, row.low, row.high) == pytest.approx((wanted.mean, wanted.low, wanted.high))
    assert scale(panel, "strokeDash") == {"domain": ["in-domain", "unseen-types"], "range": [[1, 0], [6, 4]]}


def test_easier_problems_at_the_end_do_not_lift_the_curve():
    rows = recorded()
    whole = rows.interval("grpo", "reward", "in-domain").mean
    spec = curves.split_curves(rows, ["grpo"], "reward").to_dict()
    ends = drawn(panels(spec)[spec["title"]["text"]], spec["datasets"]).query(
        "step == 20 and split == 'in-domain'"
    )
    assert whole > 0.6 and ends["mean"].item() < 0.5


def test_a_condition_judged_once_is_a_dot_with_its_interval():
    data = recorded()
    spec = curves.split_curves(data, ["base", "grpo"], ("reward", "length")).to_dict()
    panel = panels(spec)["score"]
    assert {"line", "area", "rule", "point"} == {layer["mark"]["type"] for layer in panel["layer"]}
    rule = next(layer for layer in panel["layer"] if layer["mark"]["type"] == "rule")
    assert {row["label"] for row in spec["datasets"][rule["data"]["name"]]} == {"base"}
    base = data.interval("base", "reward", "in-domain")
    assert f"base, in-domain, {base.mean:.2f} ({base.low:.2f} to {base.high:.2f})" in picture.alt_text(spec)


@pytest.mark.parametrize("call, told", [
    (lambda: curves.run_curves(steps_frame().iloc[:0]), "empty frame"),
    (lambda: curves.run_curves(steps_frame(), ("reward", "speed")), "no column speed"),
    (lambda: curves.run_curves(steps_frame(), ("idle",)), "no number in idle"),
    (lambda: curves.run_curves(steps_frame(), ("reward",), by="colour"), "colour"),
    (lambda: curves.split_curves(recorded(), ["sft"], "reward"), "no evaluation of condition 'sft'"),
    (lambda: curves.split_curves(recorded(), ["grpo"], "reward", splits=("deeper",)), "on split 'deeper'"),
])  # fmt: skip
def test_errors_name_what_is_wrong(call, told):
    with pytest.raises(SdlabError, match=told):
        call()


def test_multiples_have_one_panel_per_setting_beside_the_same_reference():
    chart = multiples.setting_multiples(recorded(), "sdpo", ["grpo"], labels={"sdpo": "SDPO", "grpo": "GRPO"})
    drawn = chart.to_dict()
    assert [panel["title"] for panel in drawn["concat"]] == ["GRPO"]
    labels = {row["label"] for rows in drawn["datasets"].values() for row in rows}
    assert labels == {"SDPO", "the setting of the panel"}
    with pytest.raises(SdlabError, match="got no conditions"):
        multiples.setting_multiples(recorded(), "sdpo", [])
