"""Run folders: killed at random moments they end as if nothing had happened; whatever is wrong is named and nothing is lost."""

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.study import runs
from sdlab.study.runs import find_runs, load_run, open_run
from toy_run import ToyConfig, run_toy

STEPS = 40


def contents(folder):
    """What must be the same: the tables without their times, and every tensor of the checkpoint."""
    run = load_run(folder)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    return run.steps.drop(columns="seconds"), run.samples(), saved


def assert_same(one, two):
    for a, b in zip(one[:2], two[:2]):
        pandas.testing.assert_frame_equal(a, b)
    assert one[2]["steps"] == two[2]["steps"]

    def same(a, b):
        if isinstance(a, torch.Tensor):
            return torch.equal(a, b)
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
        if isinstance(a, (list, tuple)):
            return len(a) == len(b) and all(map(same, a, b))
        return a == b

    assert same(one[2]["state"], two[2]["state"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_toy(folder, ToyConfig(steps=STEPS))
    return folder


def in_process(folder, pause):
    """The toy loop in a process of its own, forked because importing torch anew takes longer than the loop."""
    process = multiprocessing.get_context("fork").Process(target=run_toy, args=(folder, ToyConfig(steps=STEPS), pause))
    process.start()
    return process


def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(tmp_path, whole):
    folder, rng, killed, steps_seen = tmp_path / "run", random.Random(0), 0, []
    while not (folder / "finished.json").exists():
        process = in_process(folder, 0.01)
        process.join(rng.uniform(0.05, 0.4))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if (folder / "checkpoint.pt").exists():
            steps_seen.append(torch.load(folder / "checkpoint.pt", weights_only=True)["steps"])
        assert len(steps_seen) < 200 and killed < 400
    assert killed >= 3 and steps_seen == sorted(steps_seen)
    assert_same(contents(folder), contents(whole))


def test_a_kill_within_any_write_loses_at_most_that_step(tmp_path, whole, monkeypatch):
    """Stop the save at every point in turn: after samples, after the row, within the checkpoint, before its rename."""

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    for place, target in enumerate(("_append samples.jsonl", "_append steps.jsonl", "_save", "replace")):
        folder = tmp_path / str(place)
        with monkeypatch.context() as patch:
            count = [0]
            real_append, real_save, real_replace = runs.Run._append, runs.Run._save, os.replace

            def append(self, name, rows, target=target):
                if target == f"_append {name}" and rows and rows[0]["step"] == 7:
                    with open(self.folder / name, "a") as file:
                        file.write(json.dumps(rows[0])[:9])  # half a line
                    die()
                real_append(self, name, rows)

            def save(self, content, target=target):
                if target == "_save" and content["steps"] == 8:
                    (self.folder / ".checkpoint.pt").write_bytes(b"half")
                    die()
                real_save(self, content)

            def move(source, destination, target=target):
                count[0] += str(destination).endswith("checkpoint.pt")
                if target == "replace" and count[0] == 8:
                    die()
                real_replace(source, destination)

            patch.setattr(runs.Run, "_append", append)
            patch.setattr(runs.Run, "_save", save)
            patch.setattr(runs.os, "replace", move)
            with pytest.raises(Killed):
                run_toy(folder, ToyConfig(steps=STEPS))
        assert torch.load(folder / "checkpoint.pt", weights_only=True)["steps"] == 7
        run_toy(folder, ToyConfig(steps=STEPS))
        assert_same(contents(folder), contents(whole))


def test_an_interrupt_leaves_a_folder_that_goes_on(tmp_path, whole):
    process = in_process(tmp_path / "run", 0.05)
    while not (tmp_path / "run" / "checkpoint.pt").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode != 0
    run_toy(tmp_path / "run", ToyConfig(steps=STEPS))
    assert_same(contents(tmp_path / "run"), contents(whole))


def test_more_steps_extend_a_finished_run(tmp_path, whole):
    run_toy(tmp_path / "run", ToyConfig(steps=15))
    assert load_run(tmp_path / "run").finished
    run_toy(tmp_path / "run", ToyConfig(steps=STEPS))
    assert_same(contents(tmp_path / "run"), contents(whole))


def test_a_finished_run_is_never_written_again_unless_asked(tmp_path):
    folder = tmp_path / "run"
    run_toy(folder, ToyConfig(steps=3))
    before = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(SdlabError, match="finished.*--overwrite"):
        run_toy(folder, ToyConfig(steps=3))
    assert (folder / "checkpoint.pt").read_bytes() == before
    run_toy(folder, ToyConfig(steps=2), overwrite=True)
    assert len(load_run(folder).steps) == 2


def test_another_config_or_model_is_named_with_both_values(tmp_path):
    folder = tmp_path / "run"
    run_toy(folder, ToyConfig(steps=3))
    with pytest.raises(SdlabError, match=r"rate 0.1 there, 0.2 here"):
        run_toy(folder, replace(ToyConfig(steps=5), rate=0.2))
    about = json.loads((folder / "config.json").read_text())
    about["provenance"]["model_sha256"] = {"model.safetensors": "0" * 64}
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(SdlabError, match="another model_sha256"):
        run_toy(folder, ToyConfig(steps=5))


def test_an_unfinished_run_without_resume_is_left_alone(tmp_path):
    class Stop(Exception):
        pass

    folder = tmp_path / "run"
    with pytest.raises(Stop), open_run(folder, ToyConfig(), method="toy", model="none"):
        raise Stop
    with pytest.raises(SdlabError, match="--resume.*--overwrite"):
        open_run(folder, ToyConfig(), method="toy", model="none", resume=False)
    open_run(folder, ToyConfig(), method="toy", model="none").close()  # the refusal let go of the lock


def test_foreign_files_are_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(SdlabError, match="thesis.tex"):
            open_run(tmp_path, ToyConfig(), method="toy", model="none", overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work" and len(list(tmp_path.iterdir())) == 1


def test_two_writers_are_one_too_many(tmp_path):
    with open_run(tmp_path / "run", ToyConfig(), method="toy", model="none"):
        with pytest.raises(SdlabError, match="another process"):
            open_run(tmp_path / "run", ToyConfig(), method="toy", model="none")


def test_damaged_files_are_named(tmp_path):
    folder = tmp_path / "run"
    run_toy(folder, ToyConfig(steps=3))
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(SdlabError, match="checkpoint.pt is damaged"):
        run_toy(folder, ToyConfig(steps=5))
    (folder / "config.json").write_text("{")
    with pytest.raises(SdlabError, match="config.json cannot be read"):
        load_run(folder)
    with pytest.raises(SdlabError, match="holds no run"):
        load_run(tmp_path / "nowhere")


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run_toy(folder, ToyConfig(steps=3))

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SdlabError, match="No space left.*free some space"):
        run_toy(folder, ToyConfig(steps=6))
    monkeypatch.undo()
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["steps"] == 3
    run_toy(folder, ToyConfig(steps=6))
    assert load_run(folder).steps["step"].tolist() == list(range(6))


def test_evaluations_of_steps_that_never_finished_are_forgotten_and_later_ones_win(tmp_path):
    frame = pandas.DataFrame({"problem_id": ["a", "b"], "reward": [1, 0]})
    with open_run(tmp_path / "run", ToyConfig(), method="toy", model="none") as run:
        run.restore({})
        run.save_evaluation(0, "deeper", frame)
        run.save_evaluation(0, "deeper", frame.assign(reward=[1, 1]))
        run.save_evaluation(1, "deeper", frame)  # step 1 is not finished
    with open_run(tmp_path / "run", ToyConfig(), method="toy", model="none") as run:
        run.restore({})
    found = load_run(tmp_path / "run").evaluations
    assert found["step"].tolist() == [0, 0] and found["reward"].tolist() == [1, 1]
    assert find_runs(tmp_path) == [tmp_path / "run"]


def test_an_unknown_or_missing_tracker_is_named(tmp_path):
    with pytest.raises(SdlabError, match="unknown tracker 'wandb'"):
        open_run(tmp_path / "run", ToyConfig(), method="toy", model="none", tracker="wandb")
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(SdlabError, match="pip install tensorboard"):
            open_run(tmp_path / "run", ToyConfig(), method="toy", model="none", tracker="tensorboard")
        open_run(tmp_path / "run", ToyConfig(), method="toy", model="none").close()
