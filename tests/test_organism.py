"""The organism's tokenizer, its pretraining (resumed exactly) and the shipped checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from patience import PATIENCE

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.organism.corpus import draw_document, draw_problem, write_document
from sdlab.organism.pretrain import Batches, PretrainConfig, batch_loss, build_model, learning_rate, pretrain
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.seeds import stream
from sdlab.text.prompt import render_prompt
from sdlab.world.knobs import Knobs
from sdlab.world.splits import SPLITS, load_split

TINY = PretrainConfig(steps=6, documents=4, hidden_size=64, num_layers=1, intermediate_size=64, warmup=2)
SHIPPED = paths.data_dir() / "organism"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_every_text_of_the_world_is_words_and_round_trips(tokenizer):
    rng, letters = stream("test", "tokenizer"), set()
    documents = [draw_document(rng) for _ in range(300)]
    texts = [p.prompt for name in SPLITS for p in load_split(name, limit=100)]
    texts += [
        render_prompt(tokenizer, d.problem, d.demonstration, d.feedback, d.thinking) + d.completion
        for d in documents
    ]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == text
        letters |= {text for text in map(tokenizer.decode, ids) if len(text) == 1 and text.isalpha()}
    assert letters <= set(
        "ABC"
    )  # the names of hidden numbers; nothing of the world falls back to single letters


@pytest.mark.parametrize(
    "text",
    ["Éric says: 12345 ≠ 7 🙂", "<script>alert(1)</script>", "\t  spaces \n\n\n", "\\boxed{\\frac{1}{2}}"],
)
def test_foreign_text_falls_back_to_bytes_and_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_numbers_are_one_token_and_think_survives_skipping_special_tokens(tokenizer):
    for n in range(131):
        assert len(tokenizer(f" {n}", add_special_tokens=False).input_ids) == 1
    ids = tokenizer("<think>\nA\n</think><|im_end|>", add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>\nA\n</think>"
    assert ids[-1] == tokenizer.eos_token_id


def test_chat_template_opens_the_turn_and_closes_thinking_when_it_is_off(tokenizer):
    problem = load_split("in-domain", limit=1)[0]
    on = render_prompt(tokenizer, problem)
    assert on == f"<|im_start|>user\n{problem.prompt}<|im_end|>\n<|im_start|>assistant\n"
    assert render_prompt(tokenizer, problem, thinking=False) == on + "<think>\n\n</think>\n\n"


def test_only_the_completion_after_a_detour_is_learnt(tokenizer):
    batches, rng = Batches(tokenizer, TINY), stream("test", "learnt")
    seen = 0
    while seen < 20:
        document = write_document(draw_problem(rng), rng)
        context, learnt = batches.encode(document)
        prompt = render_prompt(
            tokenizer, document.problem, document.demonstration, document.feedback, document.thinking
        )
        assert tokenizer.decode(context) == prompt + document.completion[: document.given]
        assert tokenizer.decode(learnt) == document.completion[document.given :] + "<|im_end|>"
        seen += document.given > 0


def test_loss_is_the_mean_of_the_models_own_log_probabilities(tokenizer):
    model = build_model(TINY, len(tokenizer), 2, 0).eval()
    rows = [row for batch in Batches(tokenizer, TINY)[0] for row in batch]
    expected = 0.0
    for context, learnt in rows:
        ids = torch.tensor([context + learnt])
        logps = model(input_ids=ids).logits[0].log_softmax(-1)
        expected -= sum(logps[t - 1, ids[0, t]] for t in range(len(context), ids.shape[1]))
    torch.testing.assert_close(batch_loss(model, rows), expected)


def test_micro_batches_hold_every_row_once_and_no_more_tokens_than_allowed(tokenizer):
    config = PretrainConfig(documents=24, micro_tokens=700)
    batches = Batches(tokenizer, config)
    rng = stream("pretrain", config.seed, 3)
    expected = sorted(batches.encode(draw_document(rng)) for _ in range(24))
    assert sorted(row for batch in batches[3] for row in batch) == expected
    for batch in batches[3]:
        assert len(batch) == 1 or sum(len(context) + len(learnt) for context, learnt in batch) <= 700


def test_the_organism_reads_the_reasoner_with_its_own_knobs(tokenizer):
    knobs = Knobs(intuition=0.45)
    batches = Batches(tokenizer, PretrainConfig(documents=24, knobs=knobs))
    rng = stream("pretrain", 0, 5)
    expected = sorted(batches.encode(draw_document(rng, knobs)) for _ in range(24))
    assert sorted(row for batch in batches[5] for row in batch) == expected
    blind = Batches(tokenizer, PretrainConfig(documents=24))
    assert sorted(row for batch in blind[5] for row in batch) != expected


def test_rates_warm_up_and_fall_to_zero():
    rates = [
        learning_rate(step, PretrainConfig(steps=1000, warmup=100, cooldown=0.4)) for step in range(1000)
    ]
    assert rates[0] == 0.01 and rates[99] == rates[600] == 1.0 and 0 < rates[-1] < 0.01
    assert rates[600:] == sorted(rates[600:], reverse=True)


def test_resumed_pretraining_ends_with_the_same_weights(tmp_path):
    whole = pretrain(tmp_path / "whole", TINY, device="cpu")

    class Stop(Exception):
        pass

    def stop(done, total, loss):
        if done == 4:
            raise Stop

    with pytest.raises(Stop):
        pretrain(tmp_path / "parts", TINY, device="cpu", progress=stop, save_every=2)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    pretrain(tmp_path / "parts", TINY, device="cpu")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert sha256(whole / name) == sha256(tmp_path / "parts" / name)
    for other in (replace(TINY, seed=1), replace(TINY, knobs=Knobs(intuition=0.1))):
        with pytest.raises(SdlabError, match="another configuration"):
            pretrain(tmp_path / "parts", other, device="cpu")


@pytest.mark.slow
def test_killed_pretraining_goes_on(tmp_path):
    script = (
        "from sdlab.organism.pretrain import *; from pathlib import Path; import sys\n"
        "config = PretrainConfig(steps=40, documents=4, hidden_size=64, num_layers=1, "
        "intermediate_size=64, warmup=2)\n"
        "pretrain(Path(sys.argv[1]), config, device='cpu', save_every=2)"
    )
    run = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], start_new_session=True)
    checkpoint = tmp_path / "checkpoint.pt"
    try:
        until = time.monotonic() + PATIENCE
        while not checkpoint.exists() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    saved = torch.load(checkpoint, weights_only=True)["step"]
    assert 2 <= saved <= 40
    steps = []
    config = PretrainConfig(
        steps=40, documents=4, hidden_size=64, num_layers=1, intermediate_size=64, warmup=2
    )
    pretrain(tmp_path, config, device="cpu", progress=lambda done, total, loss: steps.append(done))
    assert steps[:1] == ([saved + 1] if saved < 40 else []) and (tmp_path / "model.safetensors").exists()


# The shipped checkpoint.


@pytest.fixture(scope="module")
def shipped():
    from sdlab.rollout.loading import load_engine

    return load_engine("organism")


def test_the_shipped_tokenizer_is_the_one_the_code_makes(tokenizer):
    saved = json.loads((SHIPPED / "tokenizer.json").read_text())
    assert saved["model"]["vocab"] == json.loads(tokenizer.backend_tokenizer.to_str())["model"]["vocab"]


def test_the_shipped_organism_is_plain_hugging_face_and_small(shipped):
    config = json.loads((SHIPPED / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"] and config["head_dim"] >= 32
    assert not list(SHIPPED.glob("*.py")) and "auto_map" not in config
    assert 1e6 <= sum(p.numel() for p in shipped.model.parameters()) <= 3e6
    card = (SHIPPED / "README.md").read_text()
    for word in ("seed", "Apache-2.0", "in-domain", "unseen-types", "deeper", "does badly"):
        assert word in card


@pytest.mark.slow
def test_the_shipped_organism_scores_as_its_targets_say(shipped):
    from sdlab.measure.evaluation import evaluate
    from sdlab.rollout.types import SamplingParams

    score = {}
    for name in ("in-domain", "unseen-types", "deeper"):
        frame = evaluate(shipped, load_split(name, limit=64), SamplingParams(4, 384, seed=1))
        score[name] = frame["reward"].mean()
    # the targets are .70 to .80, .50 to .65 and .45 to .60; 64 problems tell it to within .05 to .10
    assert 0.65 < score["in-domain"] < 0.85
    assert 0.4 < score["deeper"] < score["in-domain"]
    assert 0.35 < score["unseen-types"] < 0.7  # no intuition there


def test_damage_to_the_shipped_organism_is_noticed(tmp_path):
    import shutil

    from sdlab.rollout.loading import check_organism

    copy = Path(shutil.copytree(SHIPPED, tmp_path / "organism"))
    check_organism(copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(SdlabError, match="model.safetensors is damaged"):
        check_organism(copy)
