"""Checkpoints as small differences: what comes back, and what is refused."""

import gzip

import pytest
import torch
from checkpoint_maker import moved, small_base
from rollout_models import qwen3
from safetensors.torch import load, load_file

from sdlab.errors import SdlabError
from sdlab.runs import checkpoints
from sdlab.runs.checkpoints import find_checkpoint, list_checkpoints, load_checkpoint, write_checkpoint


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    return folder, small_base(folder)


def loaded(folder, base, name="sdpo", step=None):
    engine = load_checkpoint(name, step, folder=folder, base_folder=base[0])
    return dict(engine.model.named_parameters())


def test_every_weight_comes_back_within_half_a_level(base, tmp_path):
    trained = moved(base[1])
    write_checkpoint(base[0], trained, tmp_path, "sdpo", 5)
    after = loaded(tmp_path, base)
    for name, exact in trained.named_parameters():
        if exact.dim() == 1:
            assert torch.equal(after[name], exact)
            continue
        start = load_file(base[0] / "model.safetensors")[name].half().float()
        level = (exact - start).abs().amax(1, keepdim=True) / checkpoints.LEVELS
        assert ((after[name] - exact).abs() <= 0.51 * level + 1e-7).all(), name
        assert (after[name] - exact).abs().max() > 0  # the file is no copy of the weights


def test_the_arithmetic_is_base_plus_code_times_scale(base, tmp_path):
    entry = write_checkpoint(base[0], moved(base[1]), tmp_path, "sdpo", 5)
    stored = load(gzip.decompress((tmp_path / entry.file).read_bytes()))
    name = "model.layers.1.mlp.down_proj.weight"
    assert stored[name + ".codes"].dtype == torch.int8 and stored[name + ".scales"].dtype == torch.float16
    start = load_file(base[0] / "model.safetensors")[name].half().double()
    exact = start + stored[name + ".codes"].double() * stored[name + ".scales"].double()[:, None]
    assert torch.equal(loaded(tmp_path, base)[name], exact.float())


@pytest.mark.parametrize("size", [0.0, 1e-9, 3e-6, 1.0])
def test_no_difference_is_too_small_or_too_large(base, tmp_path, size):
    trained = moved(base[1], size)
    write_checkpoint(base[0], trained, tmp_path, "sdpo", 1)
    weights = loaded(tmp_path, base)
    for name, exact in trained.named_parameters():
        start = load_file(base[0] / "model.safetensors")[name].half().float()
        bound = 0.51 / checkpoints.LEVELS * (exact - start).abs().max() + 6e-8 * checkpoints.LEVELS
        assert (weights[name] - exact).abs().max() <= bound


def test_the_base_is_its_float16_weights(base, tmp_path):
    for name, parameter in loaded(tmp_path, base, "base").items():
        assert torch.equal(parameter, load_file(base[0] / "model.safetensors")[name].half().float())


def test_the_index_lists_models_by_step_and_replaces_what_is_written_again(base, tmp_path):
    assert list_checkpoints(tmp_path / "nowhere") == []
    for name, step in (("sdpo", 10), ("grpo", 5), ("sdpo", 5), ("sdpo", 10)):
        label, method = name.upper(), name
        write_checkpoint(base[0], moved(base[1], seed=step), tmp_path, name, step, label=label, method=method)
    entries = list_checkpoints(tmp_path)
    assert [(entry.name, entry.step) for entry in entries] == [("sdpo", 5), ("sdpo", 10), ("grpo", 5)]
    assert find_checkpoint("sdpo", None, tmp_path).step == 10
    assert {path.name for path in tmp_path.iterdir()} == {"index.json", *(entry.file for entry in entries)}


def test_the_same_weights_give_the_same_bytes(base, tmp_path):
    first, again = (write_checkpoint(base[0], moved(base[1]), tmp_path / name, "a", 1) for name in "xy")
    assert first.sha256 == again.sha256


def test_refusals(base, tmp_path):
    entry = write_checkpoint(base[0], moved(base[1]), tmp_path, "sdpo", 5)
    with pytest.raises(SdlabError, match="unknown checkpoint 'grpo'; choose one of: sdpo"):
        loaded(tmp_path, base, "grpo")
    with pytest.raises(SdlabError, match="unknown training step of sdpo 7; choose one of: 5"):
        loaded(tmp_path, base, step=7)
    other = tmp_path / "other"
    small_base(other, seed=3)
    with pytest.raises(SdlabError, match="belongs to another base organism"):
        loaded(tmp_path, (other,))
    with pytest.raises(SdlabError, match="belong to another base organism"):
        write_checkpoint(other, moved(base[1]), tmp_path, "sdpo", 6)
    with pytest.raises(SdlabError, match="other names or shapes"):
        write_checkpoint(base[0], qwen3(0, 650, 2), tmp_path, "sdpo", 6)
    broken = moved(base[1])
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    with pytest.raises(SdlabError, match="not finite"):
        write_checkpoint(base[0], broken, tmp_path, "sdpo", 6)
    path = tmp_path / entry.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SdlabError, match="is damaged"):
        loaded(tmp_path, base)
    path.unlink()
    with pytest.raises(SdlabError, match="is missing"):
        loaded(tmp_path, base)
    for text in ("{", "[]", '{"version": 2, "checkpoints": []}', '{"checkpoints": [{"name": 1}]}'):
        (tmp_path / checkpoints.INDEX).write_text(text)
        with pytest.raises(SdlabError, match=r"index\.json"):
            list_checkpoints(tmp_path)
