"""Pictures made for one place of the walkthrough: what is drawn is what was given, and the words say it."""

import math

import pandas
import pytest
from pictures import check_picture

from sdlab.charts import changes, objectives, untrained
from sdlab.errors import SdlabError

RATES = pandas.Series([0, 1 / 8, 1 / 2, 1 / 2, 5 / 8, 1])
CHANGES = pandas.DataFrame(
    {
        "who": ["paper, AIME24", "live, in-domain", "live, in-domain"],
        "model": ["sft_guided", "sft_unguided", "sft_guided"],
        "change": [-0.63, 0.04, -0.25],
        "low": [math.nan, -0.02, -0.3],
        "high": [math.nan, 0.1, -0.2],
    }
)
CAUSES = pandas.DataFrame(
    {
        "split": ["in-domain"] * 3,
        "model": ["sft_guided", "base", "base"],
        "cause": ["unchecked", "wrong sum", "wrong fact"],
        "share": [0.3, 0.05, 0.1],
    }
)
CASES = pandas.DataFrame(
    {"ratio": [1.0, 1.4], "objective": [1.0, 1.28], "advantage": [1.0, 1.0], "push": [1.0, 0.0]}
)
LINES = pandas.DataFrame(
    {"ratio": [0.4, 1.7] * 2, "objective": [0.4, 1.28, -0.8, -1.7], "advantage": [1.0, 1.0, -1.0, -1.0]}
)
OBJECTIONS = pandas.DataFrame(
    {"p": [0.1, 1e-6] * 2, "alpha": ["0.5"] * 2 + ["1.0"] * 2, "nats": [0.2, 0.6, 1.0, 11.2]}
)
CHARTS = {
    "rates": (lambda: untrained.base_rate_chart(RATES, 8, 1 / 8, 1 / 2), "those from 1/8 to 4/8 are chosen"),
    "changes": (
        lambda: changes.relative_changes(CHANGES, title="T <b>"),
        "paper, AIME24, SFT, guided -63%; live, in-domain, SFT, unguided +4%",
    ),
    "causes": (
        lambda: changes.causes_chart(CAUSES),
        "in-domain, SFT, guided, unchecked 30%; in-domain, base, wrong sum 5%",
    ),
    "clip": (
        lambda: objectives.clip_chart(LINES, CASES, (0.8, 1.28)),
        "advantage +1, ratio 1.4: objective 1.28, push 0.00",
    ),
    "divergence": (
        lambda: objectives.divergence_chart(OBJECTIONS),
        "alpha 0.5: up to 0.60 nats; alpha 1.0: up to 11.20 nats",
    ),
}


@pytest.mark.parametrize("name", CHARTS)
def test_drawn_and_told(name):
    check_picture(*CHARTS[name])


def rows_of(chart: dict) -> list[dict]:
    """The data of a chart of one layer."""
    return chart["datasets"][chart["data"]["name"]]


def test_base_rates_are_counted_and_the_chosen_ones_marked():
    rows = rows_of(untrained.base_rate_chart(RATES, 8, 1 / 8, 1 / 2).to_dict())
    assert [row["problems"] for row in rows] == [1, 1, 0, 0, 2, 1, 0, 0, 1]  # of 0, 1, ... 8 right
    assert [row["right"] for row in rows if row["selection"] == "chosen"] == [1, 2, 3, 4]


def test_causes_keep_their_order_and_the_base_model_comes_first():
    encoding = changes.causes_chart(CAUSES).to_dict()
    encoding = encoding.get("spec", encoding)["encoding"]
    assert encoding["y"]["sort"] == ["base", "SFT, guided"]
    assert encoding["color"]["scale"]["domain"] == [
        "wrong fact",
        "short list",
        "unchecked",
        "wrong sum",
        "other",
    ]


def test_the_clip_range_and_log_2_are_drawn_where_they_are():
    clip = objectives.clip_chart(LINES, CASES, (0.8, 1.28)).to_dict()
    assert [{"ratio": 0.8}, {"ratio": 1.28}] in clip["datasets"].values()
    assert clip["layer"][1]["encoding"]["x"]["scale"]["domain"] == [0.4, 1.7]
    title = "Flat above 1.28 if the advantage is positive, below 0.8 if negative"
    assert clip["title"]["text"] == title
    bound = objectives.divergence_chart(OBJECTIONS).to_dict()
    assert [{"y": math.log(2)}] in bound["datasets"].values()


def test_the_title_says_which_divergence_stays_below_log_2():
    lines = pandas.DataFrame(
        {"p": [0.1, 1e-8] * 2, "alpha": ["0.5"] * 2 + ["1.0"] * 2, "nats": [0.3, 0.5, 2, 16]}
    )
    title = objectives.divergence_chart(lines).to_dict()["title"]
    assert title == "Alpha 1.0 reaches 16 nats; alpha 0.5 stays below log 2 (dashed)"


@pytest.mark.parametrize(("advantage", "flat", "slope"), [(1.0, 1.3, 0.75), (-1.0, 0.75, 1.3)])
def test_the_clipped_objective_is_flat_on_the_side_that_the_title_names(advantage, flat, slope):
    import torch

    from sdlab.train.losses import grpo_token_loss

    def push(ratio: float) -> float:
        now = torch.tensor(math.log(ratio), requires_grad=True)
        grpo_token_loss(now, torch.tensor(0.0), torch.tensor(advantage), 0.2, 0.28).backward()
        return now.grad.item()

    assert push(flat) == 0 and push(slope) != 0


BROKEN = {
    "no rates": (lambda: untrained.base_rate_chart(RATES.head(0), 8, 0, 1), "base_rate_chart got no rates"),
    "no interval": (
        lambda: changes.relative_changes(CHANGES.drop(columns="low"), title="T"),
        "relative_changes needs",
    ),
    "no cause": (lambda: changes.causes_chart(CAUSES.head(0)), "causes_chart got an empty frame"),
    "no push": (lambda: objectives.clip_chart(LINES, LINES, (0.8, 1.28)), "push"),
    "no alpha": (lambda: objectives.divergence_chart(OBJECTIONS.drop(columns="alpha")), "alpha"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_frames_are_told(case):
    make, told = BROKEN[case]
    with pytest.raises(SdlabError, match=told):
        make()
