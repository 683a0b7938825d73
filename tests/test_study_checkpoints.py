"""The shipped checkpoints: which steps are stored, their models, and that making them resumes."""

from dataclasses import replace

import pytest
import torch

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.rollout.loading import load_engine
from sdlab.runs.checkpoints import LEVELS, list_checkpoints, load_checkpoint, write_checkpoint
from sdlab.runs.plan import plan_problems
from sdlab.study import checkpoints
from sdlab.study.conditions import condition
from sdlab.study.reproduction import cell_of
from sdlab.train.sdpo import run_sdpo


@pytest.fixture
def short(monkeypatch):
    """SDPO for three steps of two problems, stored after steps 1 and 3, instead of the conditions."""
    cell = cell_of("sdpo", 0)
    config = replace(cell.config, steps=3, warmup_steps=1, num_problems=2, num_generations=6)
    config = replace(config, max_completion_length=200)
    monkeypatch.setattr(checkpoints, "cell_of", lambda name, seed: replace(cell, config=config))
    monkeypatch.setattr(checkpoints, "stored_steps", lambda name: (1, 3))
    monkeypatch.setattr(checkpoints, "STEPS", {"sdpo": (1, 3)})
    return config


def test_every_condition_is_recorded_and_its_steps_ascend_to_its_last_one():
    for name in checkpoints.STEPS:
        steps = checkpoints.stored_steps(name)
        assert list(steps) == sorted(set(steps)) and steps[-1] == condition(name).config.steps


def test_a_checkpoint_is_the_model_of_the_same_training_without_checkpoints(short, tmp_path):
    written = checkpoints.make_checkpoints(tmp_path)
    assert [one.step for one in written] == [1, 3] and written == list_checkpoints(tmp_path)
    engine, base = load_engine("organism"), dict(load_engine("organism").model.named_parameters())
    run_sdpo(engine, plan_problems(condition("sdpo").plan, 0), short)
    stored = dict(load_checkpoint("sdpo", 3, folder=tmp_path).model.named_parameters())
    moved = 0.0
    for name, trained in engine.model.named_parameters():
        change = trained - base[name].half().float()
        if trained.dim() > 1:
            # one step of the code of each row, rounded up to float16
            step = change.abs().amax(1, keepdim=True) / LEVELS * 1.01 + 1e-7
            assert ((stored[name] - trained).abs() <= step).all(), name
        else:
            assert torch.equal(stored[name], trained)
        moved += (trained - base[name]).abs().sum().item()
    assert moved > 0


def test_what_is_there_is_not_trained_again_and_a_damaged_file_is(short, tmp_path, monkeypatch):
    first = checkpoints.make_checkpoints(tmp_path)
    assert checkpoints.make_checkpoints(tmp_path) == []
    (tmp_path / first[0].file).write_bytes(b"")
    assert checkpoints.make_checkpoints(tmp_path) == first


def test_checkpoints_of_another_organism_are_refused_before_anything_is_trained(short, tmp_path, monkeypatch):
    base = paths.data_dir() / "organism-small"
    write_checkpoint(base, load_engine("organism-small").model, tmp_path, "sdpo", 1)
    monkeypatch.setattr(checkpoints, "run_method", None)
    with pytest.raises(SdlabError, match="belong to another base organism"):
        checkpoints.make_checkpoints(tmp_path)


def test_the_shipped_checkpoints_belong_to_the_shipped_organism():
    entries = list_checkpoints()
    if not entries:
        pytest.skip("no checkpoints are shipped")
    assert {one.name: one.label for one in entries} == {
        name: condition(name).label for name in checkpoints.STEPS
    }
    for name in checkpoints.STEPS:
        steps = checkpoints.stored_steps(name)
        assert set(steps) <= checkpoints._intact(
            name, paths.checkpoints_dir(), paths.data_dir() / paths.ORGANISM
        )


def test_a_trained_engine_is_the_stored_checkpoint():
    if not list_checkpoints():
        pytest.skip("no checkpoints are shipped")
    engine, words = checkpoints.trained_engine("sdpo_no_think")
    stored = load_checkpoint("sdpo_no_think").model.state_dict()
    assert all(torch.equal(stored[name], value) for name, value in engine.model.state_dict().items())
    assert words == "SDPO, c = s without think: the stored checkpoint after 40 steps."


def test_without_a_checkpoint_the_engine_is_trained(short, tmp_path, monkeypatch):
    setup = replace(condition("sdpo"), config=short)
    monkeypatch.setattr(checkpoints, "condition", lambda name: setup)
    monkeypatch.setattr(paths, "checkpoints_dir", lambda: tmp_path / "none")
    engine, words = checkpoints.trained_engine("sdpo", steps=2)
    before = load_engine("organism").model.state_dict()
    assert words.endswith("trained here for 2 steps; no checkpoint of 'organism' is stored.")
    assert any(not torch.equal(before[name], value) for name, value in engine.model.state_dict().items())
