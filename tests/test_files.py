"""Files: JSON that is JSON, NaN included, and texts with a byte-order mark."""

import ast
import json
import math
import os
from pathlib import Path

import numpy as np
import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.files import files_below, from_json, sha256, to_json
from sdlab.labs.grading import files_in
from sdlab.labs.sandbox.submission import load_repair
from sdlab.runs.files import read_about, read_lines, to_line
from sdlab.runs.folder import open_run
from sdlab.runs.loading import find_runs, load_run
from sdlab.scale.job import Job, read_job, write_job
from sdlab.scale.recipes import RECIPES, read_recipe
from sdlab.train.grpo import GRPOConfig
from sdlab.walkthrough.copies import copy_notebooks

SDLAB = Path(__file__).parents[1] / "sdlab"


def strict(text: str):
    """The value of a text that any JSON parser reads."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value, plain", [
    (math.nan, None), (math.inf, None), (-math.inf, None), (np.float32(0.5), 0.5), (np.float64("nan"), None),
    (np.int64(3), 3), (np.bool_(True), True),
    ({"a": [1.5, math.nan, {"b": (math.inf, "NaN")}]}, {"a": [1.5, None, {"b": [None, "NaN"]}]}),
    ("NaN", "NaN"), (True, True), (None, None),
])  # fmt: skip
def test_what_json_has_not_becomes_null(value, plain):
    assert strict(to_json(value)) == plain


def test_null_is_read_as_nan():
    found = from_json(to_json({"a": [1.5, math.nan], "b": "null", "c": math.nan}))
    assert (
        found["a"][0] == 1.5 and math.isnan(found["a"][1]) and found["b"] == "null" and math.isnan(found["c"])
    )
    assert math.isnan(from_json('{"a": NaN}')["a"])  # as it was written before


def test_a_runs_table_with_nan_is_json_and_comes_back(tmp_path):
    with open_run(tmp_path / "run", GRPOConfig(steps=2), method="grpo", model="organism") as run:
        run.restore({})
        for step, loss in enumerate((math.nan, 0.25)):
            run.save_evaluation(
                step, "deeper", pandas.DataFrame({"problem_id": ["a", "b"], "markers": [math.nan, 1.0]})
            )
            run.save_step({"step": step, "loss": loss, "grad_norm": math.nan}, [{"reward": math.nan}], {})
    for path in (tmp_path / "run").glob("*.json*"):
        for line in [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines():
            strict(line)
    found = load_run(tmp_path / "run")
    assert math.isnan(found.steps["loss"][0]) and found.steps["loss"][1] == 0.25
    assert found.steps["grad_norm"].dtype == float and found.steps["grad_norm"].isna().all()
    assert found.evaluations["markers"].isna().tolist() == [True, False, True, False]
    with open_run(tmp_path / "run", GRPOConfig(steps=2), method="grpo", model="organism") as run:
        rows = run.restore({})
    assert math.isnan(rows[0]["loss"]) and rows[1]["loss"] == 0.25


def test_a_line_of_a_table_is_read_as_it_was_written(tmp_path):
    row = {"step": 3, "loss": math.nan, "sums": {"reward": [1, math.nan]}}
    (tmp_path / "steps.jsonl").write_text(to_line(row))
    (again,) = read_lines(tmp_path / "steps.jsonl")
    assert repr(again) == repr(row)


def test_no_file_is_written_with_json_that_may_hold_nan():
    """`json.dumps` writes NaN, which is no JSON; files go through `to_json`."""
    odd = []
    for path in SDLAB.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(
                getattr(call, "func", None), "attr", getattr(getattr(call, "func", None), "id", "")
            )
            if isinstance(call, ast.Call) and name in ("write_atomic", "write", "write_text", "write_bytes"):
                inner = {one.attr for one in ast.walk(call) if isinstance(one, ast.Attribute)}
                piped = path.name in (
                    "launch.py",
                    "process.py",
                    "trial.py",
                    "submission.py",
                    "score.py",
                    "worker.py",
                )  # to processes
                odd += [f"{path.name}:{call.lineno}"] * ("dumps" in inner and not piped)
    assert not odd


# Byte-order marks: what Windows editors put at the beginning of a text


def with_mark(path: Path) -> Path:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return path


def test_files_with_a_byte_order_mark_are_read(tmp_path):
    submission = tmp_path / "repair.py"
    submission.write_text(
        "from sdlab.train.repairs.controls import mix\nrepair = mix(0.25)  # é\n", encoding="utf-8"
    )
    assert load_repair(with_mark(submission)).name == "mix_0.25"
    job = Job("grpo", "organism", "train", GRPOConfig())
    assert read_job(with_mark(write_job(job, tmp_path / "job.json"))) == job
    recipe = tmp_path / "deepseek-7b-grpo.toml"
    recipe.write_bytes((RECIPES / recipe.name).read_bytes())
    assert read_recipe(with_mark(recipe)) == read_recipe(RECIPES / recipe.name)
    with open_run(tmp_path / "run", GRPOConfig(), method="grpo", model="organism"):
        pass
    with_mark(tmp_path / "run" / "config.json")
    assert read_about(tmp_path / "run")["method"] == "grpo"


def test_a_submitted_notebook_with_a_byte_order_mark_is_read(tmp_path):
    import nbformat

    from sdlab.labs.cells import read_notebook

    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")]), path)
    assert read_notebook(with_mark(path)).cells[0].source == "x = 1"


def test_a_folder_without_rights_is_told_and_not_skipped(tmp_path):
    (tmp_path / "a" / ".hidden").mkdir(parents=True)
    (tmp_path / "a" / ".hidden" / "x.json").write_text("{}")
    (tmp_path / "a" / "y.json").write_text("{}")
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / ".z.json").write_text("{}")
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["a/y.json", "x.json"]
    with pytest.raises(SdlabError, match="cannot read the folder .*nowhere"):
        files_below(tmp_path / "nowhere")
    (tmp_path / "a").chmod(0)
    try:
        if os.access(tmp_path / "a", os.R_OK):
            pytest.skip("this user may read every folder")
        with pytest.raises(SdlabError, match="cannot read the folder .*a: Permission denied"):
            files_below(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o755)


def copy_from(folder):
    return copy_notebooks(folder.parent / "to", folder)


@pytest.mark.parametrize("search", [find_runs, lambda folder: files_in([folder]), copy_from])
def test_every_search_below_a_folder_tells_a_folder_without_rights(tmp_path, monkeypatch, search):
    folder = tmp_path / "from"
    (folder / "locked").mkdir(parents=True)
    (folder / "x.ipynb").write_text("{}")
    scandir = os.scandir

    def refuse(place="."):
        if str(place).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    search(folder)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SdlabError, match="cannot read the folder .*locked: Permission denied"):
        search(folder)


def test_the_checksum_of_a_file_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(SdlabError, match="cannot read .*gone: No such file or directory; check"):
        sha256(tmp_path / "gone")
