"""A sweep on a real Ray cluster with two workers, one of which is killed in the middle of a cell."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pandas
import pytest
import torch
from patience import PATIENCE

from sdlab.errors import SdlabError
from sdlab.runs import cell, cells, ray_cluster
from sdlab.runs.grid import Grid, cell_name
from sdlab.runs.loading import load_run
from sdlab.runs.sweep import sweep
from sdlab.train.log import TIMED

pytestmark = pytest.mark.slow

AXES = {
    "method": ["grpo", "repair"],
    "repair": "srpo",
    "num_questions": [8, None],
    "num_types": 2,
    "steps": 4,
    "num_problems": 2,
    "num_generations": 2,
    "warmup_steps": 1,
    "max_completion_length": 128,
    "eval_every": 0,
    "final_problems": 2,
    "final_splits": "in-domain",
    "num_eval_generations": 1,
}
WORDS = [
    f"{name}={','.join('all' if value is None else str(value) for value in values)}"
    if isinstance(values, list)
    else f"{name}={values}"
    for name, values in AXES.items()
]
needs_ray = pytest.mark.skipif(
    not find_spec("ray"), reason='Ray is not installed; `pip install "sdlab[ray]"`'
)


@pytest.fixture(scope="module")
def cluster(monkeypatch_module):
    """The address of a Ray head with two cores, in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # its sockets need a short path
    (Path(folder) / "ray").mkdir()
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("RAY_worker_niceness", "0"),
        ("RAY_TMPDIR", folder),
    ):  # by default its workers yield to all others
        monkeypatch_module.setenv(name, value)
    from ray.cluster_utils import Cluster

    head = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield head.address
    head.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@needs_ray
@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(cluster, tmp_path):
    command = [sys.executable, "-m", "sdlab", "sweep", str(tmp_path / "ray"), *WORDS, "--ray", cluster]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        victim, before = kill_one(tmp_path / "ray", process)
        said, wrong = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, said + wrong
    torch.set_num_threads(1)
    for point in Grid(AXES).points():  # the same cells in this process; the table is then made of them
        name = cell_name(point, {**AXES, "final_splits": ["in-domain"]})
        assert not cell.run_cell(
            cell.Cell(name, tmp_path / "here" / name, point.method, point.config, point.plan)
        )
    here = sweep(AXES, tmp_path / "here")
    names = here["cell"].tolist()
    assert sorted(re.findall(r"\] (\S+): done", said)) == sorted(names) and len(names) == 4  # every cell once
    # the steps that were saved before the kill are there as they were, wall time included: they were not made
    # again
    after = (victim / "steps.jsonl").read_text().splitlines()
    assert len(before) >= 2 and after[: len(before) - 1] == before[:-1]
    for name in names:
        one, two = load_run(tmp_path / "ray" / name), load_run(tmp_path / "here" / name)
        assert one.steps["step"].tolist() == [0, 1, 2, 3] and one.finished
        untimed = [column for column in one.steps if column not in TIMED]
        pandas.testing.assert_frame_equal(one.steps[untimed], two.steps[untimed], check_exact=True)
        pandas.testing.assert_frame_equal(one.evaluations, two.evaluations, check_exact=True)
        assert (one.folder / "model" / "model.safetensors").read_bytes() == (
            two.folder / "model" / "model.safetensors"
        ).read_bytes()
    table = pandas.read_csv(tmp_path / "ray" / "table.csv")
    timed = ["seconds", "peak_memory_mb"]
    pandas.testing.assert_frame_equal(table.drop(columns=timed), here.drop(columns=timed), check_exact=True)


def kill_one(folder: Path, process) -> tuple[Path, list[str]]:
    """Kill -9 the process that is in the middle of some cell; returns the cell's folder and the lines of its
    steps then.
    """
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        for path in folder.glob("*/steps.jsonl"):
            lines = path.read_text().splitlines()
            if 2 <= len(lines) < AXES["steps"] and (pid := (path.parent / ".lock").read_text()):
                os.kill(int(pid), signal.SIGKILL)
                return path.parent, path.read_text().splitlines()
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"no cell was caught in the middle: {process.communicate()}")


@needs_ray
def test_a_failing_cell_is_told_and_not_tried_again(cluster, tmp_path):
    (tmp_path / "in use").mkdir()
    (tmp_path / "in use" / "thesis.txt").write_text("mine")
    small = Grid(
        {"method": "base", "final_problems": 2, "final_splits": "in-domain", "num_eval_generations": 1}
    )
    (point,) = small.points()
    bad = cell.Cell("bad", tmp_path / "in use", point.method, point.config, point.plan)
    good = cell.Cell("good", tmp_path / "good", point.method, point.config, point.plan)
    failed = cells.run_cells([bad, good], ray=cluster)
    assert list(failed) == ["bad"] and "holds files but no run (thesis.txt)" in failed["bad"]
    assert cell.is_done(good)


@needs_ray
def test_an_address_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "ANSWER", 8.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SdlabError, match=f"no Ray cluster answers at '{address}' .*another program"):
            sweep(AXES, tmp_path / "sweep", ray=address)
    with pytest.raises(SdlabError, match=f"no Ray cluster answers at '{address}' .*refused"):
        sweep(AXES, tmp_path / "sweep", ray=address)
    with pytest.raises(SdlabError, match="'nonsense' is not allowed; give HOST:PORT"):
        sweep(AXES, tmp_path / "sweep", ray="nonsense")
    assert set(pandas.read_csv(tmp_path / "sweep" / "table.csv")["status"]) == {"unfinished"}


def test_without_ray_installed_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SdlabError, match=r'pip install "sdlab\[ray\]"'):
        sweep(AXES, tmp_path / "sweep", ray="local")
