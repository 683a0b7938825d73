"""Sweeps: which cells a grid has, and that a killed, failing or growing sweep loses no cell and repeats
none.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas
import pytest
from filelock import FileLock
from patience import PATIENCE

from sdlab import cli
from sdlab.errors import SdlabError
from sdlab.runs import processes
from sdlab.runs import sweep as room
from sdlab.runs.cell import Cell, run_cell
from sdlab.runs.cells import run_cells
from sdlab.runs.grid import Grid, cell_name, read_grid
from sdlab.runs.loading import load_run
from sdlab.runs.sweep import sweep
from sdlab.runs.training import METHODS, Plan
from sdlab.study import reproduction
from sdlab.study.conditions import CONDITIONS, Condition
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig
from sdlab.train.log import TIMED

TINY = {
    "steps": 3,
    "num_problems": 2,
    "num_generations": 2,
    "warmup_steps": 1,
    "max_completion_length": 128,
    "eval_every": 2,
    "eval_problems": 2,
    "final_problems": 2,
    "num_eval_generations": 2,
    "eval_splits": "in-domain",
    "final_splits": "in-domain+deeper",
}
AXES = TINY | {"method": ["grpo", "sdpo"], "num_questions": [8, None], "num_types": 2, "context": "solution"}
JUDGED = {
    "method": "base",
    "final_problems": 2,
    "num_eval_generations": 1,
    "final_splits": "in-domain",
}  # the shortest cell


pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def in_this_process(cells, *, on_done, **_):
    """What run_cells does, one after the other and without starting processes."""
    failed = {}
    for cell in cells:
        if not room.is_done(cell):
            reason = run_cell(cell)
            failed |= {cell.name: reason} if reason else {}
            on_done(cell, reason)
    return failed


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(room, "run_cells", in_this_process)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep that nothing disturbed, in this process, and its table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "run_cells", in_this_process)
        folder = tmp_path_factory.mktemp("sweep") / "whole"
        return folder, sweep(AXES, folder)


# Grids.


def test_a_grid_has_every_combination_once():
    grid = Grid(
        {
            "method": ["grpo", "sdpo"],
            "num_questions": [1, 8, None],
            "context": ["solution", "solution_no_think"],
            "seed": range(3),
            "steps": 7,
        }
    )
    found = [
        (p.method, p.plan.num_questions, getattr(p.config, "context", None), p.config.seed, p.config.steps)
        for p in grid.points()
    ]
    hand = [("grpo", n, None, s, 7) for n, s in product([1, 8, None], [0, 1, 2])]
    hand += [
        ("sdpo", n, c, s, 7)
        for n, c, s in product([1, 8, None], ["solution", "solution_no_think"], [0, 1, 2])
    ]
    assert found == hand  # GRPO has no context: once per question count and seed
    names = [cell_name(point, {"steps": 7}) for point in grid.points()]
    assert (
        len(set(names)) == 27
        and names[0] == "grpo_num_questions=1_seed=0"
        and names[-1] == "sdpo_num_questions=all_context=solution_no_think_seed=2"
    )
    turned = Grid(
        dict(reversed(grid.axes.items()))
    )  # the order in which axes are written makes no other folders
    assert [cell_name(point, {"steps": 7}) for point in turned.points()] == names


def test_settings_that_a_method_does_not_heed_make_no_cells_of_it():
    grid = Grid(
        {
            "method": ["base", "sft", "grpo"],
            "traces": ["unguided", "guided"],
            "num_questions": [8, 64],
            "thinking": [True, False],
        }
    )
    counts = pandas.Series([point.method for point in grid.points()]).value_counts().to_dict()
    assert counts == {"base": 2, "sft": 8, "grpo": 4}
    for point in grid.points():
        assert type(point.config) is METHODS[point.method] and point.config.seed == 0
        assert point.plan.num_questions == (
            None if point.method == "base" else point.settings["num_questions"]
        )


def test_a_grid_of_repairs_has_a_cell_for_each_and_none_of_other_methods():
    grid = read_grid(["method=grpo,repair", "repair=sdpo,srpo,rlcsd", "steps=3", "seed=0,1"])
    names = [cell_name(point, {"steps": 3}) for point in grid.points()]
    assert len(names) == 2 + 3 * 2
    assert names[0] == "grpo_seed=0" and names[-1] == "repair_repair=rlcsd_seed=1"
    configs = [point.config for point in grid.points()]
    assert [config.repair for config in configs[2:]] == ["sdpo"] * 2 + ["srpo"] * 2 + ["rlcsd"] * 2
    assert pickle.loads(pickle.dumps(configs)) == configs  # as a cluster's tasks carry them
    with pytest.raises(SdlabError, match="unknown repair 'srop'"):
        read_grid(["method=repair", "repair=srop"])


def test_values_are_read_as_their_types():
    grid = read_grid(
        [
            "method=sdpo",
            "num_questions=1,all",
            "thinking=true,False",
            "learning-rate=1e-4,3",
            "eval_splits=in-domain+deeper",
            "distillation_is_clip=none,2",
            "distillation_topk=none",
            "seed=0,3",
        ]
    )
    assert dict(grid.axes) == {
        "method": ("sdpo",),
        "num_questions": (1, None),
        "thinking": (True, False),
        "learning_rate": (1e-4, 3.0),
        "eval_splits": (("in-domain", "deeper"),),
        "distillation_is_clip": (None, 2.0),
        "distillation_topk": (None,),
        "seed": (0, 3),
    }
    assert [type(value) for value in grid.axes["learning_rate"]] == [float, float]
    same = Grid({"method": "grpo", "seed": np.arange(2), "eval_splits": [("in-domain", "deeper"), "deeper"]})
    assert same.axes["seed"] == (0, 1) and same.axes["eval_splits"] == (("in-domain", "deeper"), ("deeper",))
    assert same == Grid(
        {"method": ["grpo"], "seed": ["0", "1"], "eval_splits": ["in-domain+deeper", ["deeper"]]}
    )
    json.dumps(dict(same.axes))  # numpy's numbers are gone


@pytest.mark.parametrize(
    "axes, words",
    [
        ({}, "a grid needs a method"),
        ({"method": []}, "a grid needs a method"),
        ({"method": "dpo"}, "unknown method 'dpo'; choose one of: base, grpo, repair, sdpo, sft"),
        (
            {"method": "grpo", "contxt": "solution"},
            "unknown axis of grpo 'contxt'; choose one of: aggregation, .*num_questions",
        ),
        ({"method": "grpo", "context": "solution"}, "unknown axis of grpo 'context'"),
        ({"method": ["grpo", "sdpo"], "traces": "guided"}, "unknown axis of grpo, sdpo 'traces'"),
        ({"method": "grpo", "steps": []}, "axis 'steps' has no value"),
        ({"method": "grpo", "seed": [0, 1, 0]}, "axis 'seed' has 0 more than once"),
        ({"method": ["grpo", "grpo"]}, "axis 'method' has grpo more than once"),
        ({"method": "grpo", "num_questions": ["all", None]}, "axis 'num_questions' has all more than once"),
        ({"method": "grpo", "steps": "many"}, "steps='many' is not allowed; it must be a whole number$"),
        (
            {"method": "grpo", "num_questions": 8.5},
            "num_questions=8.5 is not allowed; it must be a whole number or all",
        ),
        ({"method": "grpo", "steps": True}, "steps=True is not allowed"),
        (
            {"method": "grpo", "thinking": "maybe"},
            "thinking='maybe' is not allowed; it must be true or false",
        ),
        ({"method": "grpo", "learning_rate": [1e-4, 0]}, "learning_rate=0.0 is not allowed"),
        ({"method": ["grpo", "sdpo"], "context": ["solution", "hints"]}, "unknown teacher context 'hints'"),
        ({"method": "grpo", "final_splits": "deeper+nowhere"}, "unknown split 'nowhere'"),
    ],
)
def test_a_bad_grid_is_refused(axes, words):
    with pytest.raises(SdlabError, match=words):
        Grid(axes)


@pytest.mark.parametrize(
    "words, told",
    [
        (["method"], "'method' is no axis"),
        (["method=grpo", "=3"], "'=3' is no axis"),
        (["seed=1", "seed=2"], "axis 'seed' is given twice; give it once"),
        (["method=grpo", "seed=0,,1"], "'seed=0,,1' has an empty value"),
        (["method=grpo", "seed=0,1,"], "'seed=0,1,' has an empty value"),
        (["method=grpo", "seed="], "'seed=' has an empty value"),
    ],
)
def test_bad_words_are_refused(words, told):
    with pytest.raises(SdlabError, match=told):
        read_grid(words)


def test_an_axis_that_is_an_option_too_is_refused():
    with pytest.raises(SdlabError, match="'few_shot' is an axis and the option --few-shot; leave one"):
        read_grid(["method=grpo", "few-shot=a"], {"problems": "p.jsonl", "few_shot": "b"})


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"num_questions": [8, 4097]},
            "num_questions=4097 is not allowed; there are 4096 questions in split 'train'",
        ),
        ({"num_questions": 0}, "num_questions=0 is not allowed"),
        ({"num_types": [2, 40]}, "num_types=40 is not allowed"),
        (
            {"num_types": [1, 2], "num_questions": [8, 100_000]},
            "num_questions=100000 is not allowed; there are .* of 1 types",
        ),
    ],
)
def test_questions_that_do_not_exist_are_told_before_anything_runs(tmp_path, options, words):
    with pytest.raises(SdlabError, match=words):
        sweep({"method": "grpo", "seed": [0, 1]} | options, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_the_first_cells_to_run_are_the_longest():
    def cell(method="grpo", plan=Plan(), **sizes):
        return Cell("", Path(), method, METHODS[method](**sizes), plan)

    ordered = [cell(steps=40), cell(steps=20), cell(steps=20, num_problems=8), cell("base")]
    assert sorted(reversed(ordered), key=room._work, reverse=True) == ordered


# Tables.


def test_the_table_says_what_the_run_folders_say(whole):
    folder, table = whole
    assert len(table) == 4 * 2 and set(table["status"]) == {"done"} and table["error"].isna().all()
    assert table["cell"].unique().tolist() == [
        "grpo_num_questions=8_seed=0",
        "grpo_num_questions=all_seed=0",
        "sdpo_num_questions=8_seed=0",
        "sdpo_num_questions=all_seed=0",
    ]
    assert (
        table["num_questions"].tolist() == ["8", "8", "all", "all"] * 2
        and table["context"].tolist()[4:] == ["solution"] * 4
        and table["context"].isna().sum() == 4
    )
    assert not table.columns.duplicated().any()
    for row in table.to_dict("records"):
        lines = [
            json.loads(line) for line in (folder / row["cell"] / "evaluations.jsonl").read_text().splitlines()
        ]
        (sums,) = (line["sums"] for line in lines if line["step"] == 3 and line["split"] == row["split"])
        assert row["generations"] == sum(sums["generations"]) == 4
        for name in ("reward", "length", "markers", "truncated"):
            assert row[name] == sum(sums[name]) / 4
        steps = [
            json.loads(line)["reward"]
            for line in (folder / row["cell"] / "steps.jsonl").read_text().splitlines()
        ]
        assert row["train_reward"] == pytest.approx(sum(steps) / 3)  # fewer than five
        assert row["seconds"] > 0 and 100 < row["peak_memory_mb"] < 20_000
    pandas.testing.assert_frame_equal(table, pandas.read_csv(folder / "table.csv"))
    board = room._Board(folder, {"x": Grid({"method": "grpo", "split": "kata"}).points()[0]}, {})
    assert room._Board.write(board)[["train_split", "split", "status"]].astype(object).values.tolist()[0][
        ::2
    ] == ["kata", "unfinished"]
    table.to_csv(folder / "table.csv", index=False)
    assert len(table.drop_duplicates(["length", "method", "num_questions"])) > 4  # the cells differ


# Sweeps that are stopped, and that fail.


def files(folder: Path) -> dict:
    """What tells whether a file was written again."""
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def wait_for(what, process=None, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until and (process is None or process.poll() is None)
        time.sleep(0.01)


def count_steps(folder: Path) -> int:
    path = folder / "steps.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_killed_sweep_goes_on_and_ends_like_one_that_nothing_disturbed(whole, tmp_path, quick, capsys):
    folder, (first, second) = (
        tmp_path / "sweep",
        ["sdpo_num_questions=8_seed=0", "sdpo_num_questions=all_seed=0"],
    )
    words = [
        f"{name}={'8,all' if name == 'num_questions' else 'grpo,sdpo' if name == 'method' else value}"
        for name, value in AXES.items()
    ]
    only = ["method=sdpo" if word.startswith("method") else word for word in words]
    process = subprocess.Popen(
        [sys.executable, "-m", "sdlab", "sweep", str(folder), *only, "--jobs", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: count_steps(folder / second) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with FileLock(folder / second / ".lock", timeout=PATIENCE):  # the cell's process has ended with it
        before = files(folder / first)
    assert (folder / first / "finished.json").exists() and not (folder / second / "finished.json").exists()
    kept = (folder / second / "steps.jsonl").read_text().splitlines()[:1]
    # in use elsewhere: refused, and nothing is touched
    with FileLock(folder / ".lock"), pytest.raises(SdlabError, match="another process|still open"):
        sweep(AXES, folder)
    capsys.readouterr()
    table = sweep(AXES, folder)  # now with GRPO
    said = capsys.readouterr().out
    assert (
        "4 cells" in said
        and "1 of them finished before" in said
        and said.count(": done") == 3
        and f"{first}:" not in said
    )
    assert files(folder / first) == before
    assert (folder / second / "steps.jsonl").read_text().splitlines()[
        :1
    ] == kept  # with its wall time: not made again
    for name in table["cell"].unique():
        one, two = load_run(folder / name), load_run(whole[0] / name)
        pandas.testing.assert_frame_equal(
            *(run.steps.drop(columns=[c for c in run.steps if c in TIMED]) for run in (one, two)),
            check_exact=True,
        )
        assert (one.folder / "model" / "model.safetensors").read_bytes() == (
            two.folder / "model" / "model.safetensors"
        ).read_bytes()
    timed = ["seconds", "peak_memory_mb"]
    pandas.testing.assert_frame_equal(
        table.drop(columns=timed), whole[1].drop(columns=timed), check_exact=True
    )


def test_ctrl_c_stops_the_cells_and_leaves_the_table(tmp_path):
    folder = tmp_path / "sweep"
    running = folder / "grpo_seed=1"

    def interrupt():
        wait_for(lambda: count_steps(running) >= 1)
        os.kill(os.getpid(), signal.SIGINT)

    settings = TINY | {"method": "grpo", "steps": 50}
    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            sweep(settings | {"seed": [1, 0]}, folder, jobs=1)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    FileLock(running / ".lock", timeout=0).acquire()  # its process is gone
    table = pandas.read_csv(folder / "table.csv")
    assert table["status"].tolist() == ["unfinished"] * 2 and table["seed"].tolist() == [1, 0]
    assert 1 <= len(load_run(running).steps) < 50


def test_a_failing_cell_stops_no_other_and_is_told(tmp_path, capsys, monkeypatch):
    (tmp_path / "base_seed=0").mkdir(parents=True)
    (tmp_path / "base_seed=0" / "config.json").write_text("{}")  # of something else
    words = [f"{name}={value}" for name, value in JUDGED.items()] + ["seed=0,1"]
    assert cli.main(["sweep", str(tmp_path), *words]) == 1
    said = capsys.readouterr()
    assert "base_seed=1: done" in said.out and "base_seed=0: failed: " in said.out
    assert (
        said.err.startswith("failed: base_seed=0: ")
        and "config.json does not belong to a run" in said.err
        and len(said.err.splitlines()) == 1
    )
    table = pandas.read_csv(tmp_path / "table.csv")
    assert (
        table["status"].tolist() == ["failed", "done"]
        and "config.json does not belong to a run" in table["error"][0]
        and table["reward"].isna().tolist() == [True, False]
    )
    (tmp_path / "base_seed=0" / "config.json").unlink()
    before = files(tmp_path / "base_seed=1")
    monkeypatch.setattr(room, "run_cells", in_this_process)
    assert cli.main(["sweep", str(tmp_path), *words]) == 0
    assert files(tmp_path / "base_seed=1") == before and set(
        pandas.read_csv(tmp_path / "table.csv")["status"]
    ) == {"done"}


def test_a_cell_that_is_killed_or_too_slow_is_told(tmp_path, monkeypatch):
    cell = Cell("a", tmp_path / "a", "grpo", GRPOConfig())
    assert run_cells([cell], timeout=0.2) == {
        "a": "stopped after 0.2 s (timeout); run the same sweep with more time to resume the cell"
    }
    start = subprocess.Popen

    def start_and_kill(*arguments, **options):
        process = start(*arguments, **options)
        process.kill()
        return process

    monkeypatch.setattr(processes.subprocess, "Popen", start_and_kill)
    heard = []
    assert run_cells([cell], on_done=lambda cell, reason: heard.append(reason)) == {"a": heard[0]}
    assert heard[0].startswith("killed by SIGKILL (was the memory full?)")
    for options, words in (
        ({"jobs": 0}, "jobs=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"jobs": 2, "ray": "auto"}, "jobs=2 is not allowed with the Ray cluster auto"),
    ):
        with pytest.raises(SdlabError, match=words):
            run_cells([cell], **options)


def test_a_cell_is_interrupted_at_its_time_and_surprises_are_one_line(tmp_path, monkeypatch):
    cell = Cell("a", tmp_path / "a", "grpo", GRPOConfig())

    def forever(*_, **__):
        while True:
            time.sleep(0.01)

    def surprise(*_, **__):
        raise RuntimeError("out of luck\nand more")

    monkeypatch.setattr("sdlab.runs.cell.train", forever)
    assert (
        run_cell(cell, timeout=0.2)
        == "stopped after 0.2 s (timeout); run the same sweep with more time to resume the cell"
    )
    monkeypatch.setattr("sdlab.runs.cell.train", surprise)
    assert run_cell(cell) == "RuntimeError: out of luck"


def test_a_cell_survives_being_written_down():
    for cell in (
        Cell(
            "a",
            Path("x/y"),
            "sdpo",
            METHODS["sdpo"](seed=3, distillation_topk=None),
            Plan(eval_splits=("deeper",), num_questions=8),
            "m",
        ),
        Cell("b", Path("z"), "base", TrainConfig()),
    ):
        assert processes._from_text(processes._to_text(cell)) == cell


# Folders.


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A small sweep: base, seeds 0 and 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "run_cells", in_this_process)
        folder = tmp_path_factory.mktemp("judged") / "sweep"
        sweep(JUDGED | {"seed": [0, 1]}, folder)
    return folder


def test_more_values_join_and_fewer_leave_the_others_alone(judged, quick, capsys):
    before = files(judged / "base_seed=0")
    capsys.readouterr()
    table = sweep(JUDGED | {"seed": [2]}, judged)
    assert table["cell"].tolist() == ["base_seed=2"] and capsys.readouterr().out.count(": done") == 1
    table = sweep(
        JUDGED | {"seed": [0, 1, 2], "final_problems": [2, 3]}, judged
    )  # a setting that was fixed becomes an axis
    assert table["cell"].tolist() == [
        f"base{n}_seed={s}" for n in ("", "_final_problems=3") for s in (0, 1, 2)
    ]
    assert table["generations"].tolist() == [2] * 3 + [3] * 3 and capsys.readouterr().out.count(": done") == 3
    assert files(judged / "base_seed=0") == before
    assert json.loads((judged / "grid.json").read_text())["axes"]["final_problems"] == [2, 3]
    # a method may bring a setting that the others do not have
    wider = Grid(JUDGED | {"method": ["base", "sdpo"], "context": "solution", "seed": [0]})
    room._claim(judged, wider, "organism")
    with pytest.raises(SdlabError, match="context is solution there and not set here"):
        sweep(JUDGED | {"method": "sdpo"}, judged)


def test_the_folder_of_another_sweep_is_refused_and_stays_as_it_is(judged, tmp_path):
    before = files(judged)
    for change, words in (
        ({"num_eval_generations": 2}, "holds another sweep: num_eval_generations is 1 there and 2 here"),
        ({"thinking": False}, "thinking is not set there and False here"),
    ):
        with pytest.raises(SdlabError, match=words):
            sweep(JUDGED | change, judged)
    with pytest.raises(SdlabError, match="final_splits is in-domain there"):
        sweep(JUDGED | {"final_splits": "deeper"}, judged)
    with pytest.raises(SdlabError, match="model is 'organism' there and 'other' here"):
        sweep(JUDGED, judged, model="other")
    (tmp_path / "mine.txt").write_text("a thesis")
    with pytest.raises(SdlabError, match="holds files but no sweep \\(mine.txt\\)"):
        sweep(JUDGED, tmp_path)
    with pytest.raises(SdlabError, match="holds files but no sweep"):
        sweep(JUDGED, judged / "base_seed=0")  # a run folder
    assert files(judged) == before and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_grid_file_is_told_and_without_it_finished_cells_are_found(judged, quick, capsys):
    text = (judged / "grid.json").read_text()
    (judged / "grid.json").write_text(text[:50])
    with pytest.raises(SdlabError, match="grid.json is damaged; delete it"):
        sweep(JUDGED, judged)
    (judged / "grid.json").unlink()
    capsys.readouterr()
    assert sweep(JUDGED, judged)["status"].tolist() == ["done"] and ": done" not in capsys.readouterr().out


def test_another_run_under_a_cells_name_is_not_taken_for_it(judged, tmp_path, quick):
    (judged / "base_seed=0").rename(tmp_path / "aside")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "aside").rename(tmp_path / "sweep" / "base_seed=7")
    table = sweep(JUDGED | {"seed": 7}, tmp_path / "sweep")
    assert table["status"].tolist() == ["failed"] and "seed is 0 there and 7 here" in table["error"][0]


def test_reproduce_runs_its_conditions_as_cells(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduction, "run_cells", in_this_process)
    plan = Plan(eval_every=0, final_problems=2, num_eval_generations=1, final_splits=("in-domain",))
    for name in ("good", "bad"):
        monkeypatch.setitem(CONDITIONS, name, Condition(name, name, "base", TrainConfig(), plan))
    (tmp_path / "work" / "bad" / "0").mkdir(parents=True)
    (tmp_path / "work" / "bad" / "0" / "thesis.txt").write_text("mine")
    for _ in range(2):  # the second time only the bad one is tried again
        with pytest.raises(
            SdlabError, match=r"1 of 2 runs failed: bad seed 0: .*holds files but no run \(thesis.txt\)"
        ):
            reproduction.reproduce(["good", "bad"], [0], work=tmp_path / "work", output=tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir())[0] == "good.evaluations.csv.gz"
    assert capsys.readouterr().out.splitlines().count("good seed 0: done") == 1
