"""Pictures of coverage: the rows are drawn as they are, and the words say what the eye sees."""

import pandas
import pytest
from pictures import check_picture

from sdlab.charts import coverage
from sdlab.errors import SdlabError

LINES = pandas.DataFrame(
    [{"set": name, "n": n, "met": n / k} for k, name in ((1, "broad"), (2, "narrow")) for n in (2, 20, 200)]
)
DOTS = pandas.DataFrame({"set": ["a <b>", "c"], "exposures": [1.83, 6400.0], "who": ["paper", "files"]})
TIMES = pandas.DataFrame(
    {"plan": ["epochs"] * 2 + ["chance"] * 3, "times": [1, 2, 0, 1, 2], "share": [0.5, 0.5, 0.25, 0.5, 0.25]}
)
CURVE = pandas.DataFrame(
    {"set": ["s"] * 3, "groups": [2, 3, 4], "silhouette": [0.2, 0.9, 0.5], "peak": ["", "3 types", ""]}
)
CHARTS = {
    "accumulation": (
        lambda: coverage.accumulation_chart(LINES, title="T", y_title="met"),
        "broad: 200 of 200 drawn; narrow: 100 of 200 drawn",
    ),
    "bars": (lambda: coverage.exposure_bars(DOTS, title="T"), "1.83, c 6,400"),
    "histogram": (
        lambda: coverage.exposure_histogram(TIMES, title="T"),
        "epochs: never used 0%; chance: never used 25%",
    ),
    "silhouette": (
        lambda: coverage.silhouette_chart(CURVE, floor=0.25, title="T"),
        "s: 3 types at silhouette 0.90",
    ),
}


@pytest.mark.parametrize("name", CHARTS)
def test_drawn_and_told(name):
    check_picture(*CHARTS[name])


def test_log_axes_are_labelled_within_the_data():
    chart = coverage.accumulation_chart(LINES, title="T", y_title="met").to_dict()
    assert chart["encoding"]["x"]["axis"]["values"] == [2, 5, 10, 20, 50, 100, 200]


@pytest.mark.parametrize(
    "broken",
    [LINES.drop(columns="met"), LINES.head(0), pandas.concat([LINES.assign(set=str(i)) for i in range(11)])],
)
def test_bad_frames_are_told(broken):
    with pytest.raises(SdlabError, match="accumulation_chart"):
        coverage.accumulation_chart(broken, title="T", y_title="met")
