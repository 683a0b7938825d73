"""Loading models: folders, the organism and its checksums, and names that lead nowhere."""

import io
import sys

import pytest
import rollout_models as tiny
import torch

from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.rollout.bars import hide_progress
from sdlab.rollout.loading import find_model, load_engine
from sdlab.rollout.types import SamplingParams


@pytest.fixture
def organism(tmp_path, monkeypatch):
    """A stand-in for data/organism: a saved model with its sums."""
    monkeypatch.setenv("SDLAB_DATA", str(tmp_path))
    folder = tmp_path / "organism"
    tiny.qwen3(layers=1).save_pretrained(folder)
    tiny.word_tokenizer().save_pretrained(folder)
    files = sorted(path for path in folder.iterdir())
    (folder / "SHA256SUMS").write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))
    return folder


def test_the_organism_and_a_folder_load_and_sample_alike(organism):
    params = SamplingParams(2, 10, seed=1)
    a, b = load_engine(device="cpu"), load_engine(str(organism), device="cpu")
    assert a.model.dtype == torch.float32 and not a.model.training
    assert a.generate(["w5 w6"], params).texts == b.generate(["w5 w6"], params).texts
    assert load_engine(str(organism), device="cpu", dtype=torch.bfloat16).model.dtype == torch.bfloat16


@pytest.mark.parametrize("harm, words", [
    (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json is damaged"),
    (lambda f: (f / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    (lambda f: (f / "SHA256SUMS").write_text(""), "SHA256SUMS is damaged"),
    (lambda f: (f / "SHA256SUMS").write_bytes(b"\xff\xfe"), "SHA256SUMS is damaged"),
])  # fmt: skip
def test_a_damaged_organism_is_named(organism, harm, words):
    harm(organism)
    with pytest.raises(SdlabError, match=words) as caught:
        load_engine()
    assert "sdlab pretrain" in str(caught.value) and "restore it from a copy" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["/nowhere/model", "./nowhere", "a/b/c", "no such thing", "some-org/some-model"]
)
def test_a_model_that_is_not_there_is_one_line(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SdlabError) as caught:
        load_engine(name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_folder_is_one_line(tmp_path):
    with pytest.raises(SdlabError, match=tmp_path.name) as caught:
        load_engine(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_threads_follow_the_limit_of_the_container(organism, monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("CPU_LIMIT", "1.0")
        load_engine(device="cpu")
        assert torch.get_num_threads() == 1
        torch.set_num_threads(2)
        monkeypatch.setenv("CPU_LIMIT", "not a number")
        load_engine(device="cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_folder_or_file_without_a_model_says_what_it_is(tmp_path):
    run, other, file = tmp_path / "run", tmp_path / "other", tmp_path / "notes.txt"
    run.mkdir(), other.mkdir(), file.write_text("x")
    (run / "config.json").write_text("{}")
    (run / "steps.jsonl").write_text("")
    for place, words in (
        (run, "is the folder of a run and no model; it has no model before the run is finished"),
        (other, "holds no model .config.json is missing."),
        (file, "is a file, but no .gguf file"),
    ):
        with pytest.raises(SdlabError, match=words) as caught:
            find_model(str(place))
        assert str(place) in str(caught.value) and "\n" not in str(caught.value)
    (run / "model").mkdir()
    with pytest.raises(SdlabError, match="its model is .*run/model"):
        find_model(str(run))


@pytest.mark.parametrize("terminal", [False, True])
def test_bars_are_drawn_only_where_somebody_watches_them(monkeypatch, terminal):
    """Both kinds: that of transformers, and tqdm itself, with which transformers reads GGUF files."""
    from tqdm.auto import tqdm
    from transformers.utils import logging

    class Stream(io.StringIO):
        def isatty(self):
            return terminal

    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", Stream())
    before, enabled = tqdm.__init__, logging.is_progress_bar_enabled()
    for active in (False, True):
        with hide_progress(active):
            for bar in (tqdm, logging.tqdm):
                assert sum(1 for _ in bar(range(3), desc="Loading", mininterval=0)) == 3
        assert ("Loading" in sys.stderr.getvalue()) == (terminal and not active)
        sys.stderr = Stream()
    assert tqdm.__init__ is before and logging.is_progress_bar_enabled() == enabled
    list(tqdm(range(3), desc="Later"))
    assert "Later" in sys.stderr.getvalue()  # bars of others are as before
