"""Every result object prints as one short line, and its HTML escapes the text."""

import numpy as np
import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.measure.comparison import compare
from sdlab.measure.crossed import crossed_difference
from sdlab.results.result import QUESTION, make_result
from sdlab.runs.loading import LoadedRun
from sdlab.study.recorded import Recorded

TAG = "<script>alert(1)</script>"


def loaded_run(folder, finished=True):
    steps = pandas.DataFrame({"step": range(3000), "loss": 0.123456789})
    config = {"steps": 3000, "seed": 2}
    return LoadedRun(folder, "grpo", config, {}, {"model": TAG}, steps, None, finished)


def recorded():
    names = [f"condition-{i}" for i in range(50)]
    steps = pandas.DataFrame({"condition": TAG, "seed": np.repeat([1, 0], 3000)})
    return Recorded(steps, steps, {name: {} for name in [TAG, *names]})


def result():
    problems = [f"p{i}" for i in range(300)]
    questions = pandas.DataFrame({"problem_id": problems} | {name: problems for name in QUESTION})
    samples = pandas.DataFrame({"problem_id": np.repeat(problems, 4), "reward": [1.0, 1.0, 1.0, 0.0] * 300})
    samples["completion"] = "text " * 100
    return make_result(TAG, "toy", samples.assign(generation=0), questions, {"notes": ["note"] * 999})


def comparison():
    frame = pandas.DataFrame({"problem_id": [f"p{i}" for i in range(900)], "reward": 1.0})
    return compare(frame.assign(reward=0.5), frame, names=(TAG, "b"))


def difference():
    a = np.random.default_rng(0).random((4, 2000))
    return crossed_difference(a, a + 0.25)


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (
            lambda: loaded_run("runs/x"),
            f"<LoadedRun grpo, model {TAG}, seed 2, 3000 of 3000 steps, finished, runs/x>",
        ),
        (recorded, f"<Recorded {TAG}, condition-0, condition-1, condition-2 and 47 more; seeds 0, 1>"),
        (result, f"<Result {TAG} on toy: score 0.75, 300 problems, 1,200 completions>"),
        (
            comparison,
            f"<Comparison score: b minus {TAG} +0.50 [0.47, 0.53] (900 problems), significant>",
        ),
        (difference, "<Difference +0.25, 4 seeds paired>"),
    ],
)
def test_a_result_object_prints_as_one_line_and_escapes_its_html(thing, expected):
    assert repr(thing()) == expected
    html = thing()._repr_html_()
    assert "<script" not in html and len(html) < 500
    if TAG in expected:
        assert "&lt;script&gt;" in html


def test_the_model_of_a_finished_run_is_its_model_folder(tmp_path):
    (tmp_path / "model").mkdir()
    assert loaded_run(tmp_path).model == str(tmp_path / "model")
    with pytest.raises(SdlabError, match=r"is not finished.*start it again with the same settings"):
        _ = loaded_run(tmp_path, finished=False).model
    (tmp_path / "model").rmdir()
    with pytest.raises(SdlabError, match=r"model is missing; train again with --overwrite"):
        _ = loaded_run(tmp_path).model
