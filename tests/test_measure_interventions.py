"""Interventions: dose 0 changes no bit, effects equal those by hand, and nothing outlives its `with`."""

import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from rollout_models import gpt2, llama, prompts, qwen3, word_tokenizer

from sdlab.errors import SdlabError
from sdlab.measure.continuations import compare_interventions, continue_from, count_checks, insert_at, reword
from sdlab.measure.evaluation import evaluate
from sdlab.measure.interventions import ban, bias_logits, doubt_direction, patch_layers, replace, steer
from sdlab.rollout.loading import load_engine
from sdlab.rollout.packed import supports
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.text.markers import total_markers
from sdlab.world.splits import load_split

MAKERS = (qwen3, llama, gpt2)
PARAMS = SamplingParams(num_generations=2, max_completion_length=24, seed=3)


def clean(model) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def weights(model) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def width(model) -> int:
    return model.config.hidden_size


def logits(model, ids=((5, 6, 7, 8),)):
    with torch.no_grad():
        return model(torch.tensor(ids)).logits


@pytest.fixture(scope="module")
def organism():
    return load_engine("organism")


@pytest.fixture(scope="module")
def problems():
    return load_split("in-domain", limit=6)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("fast", [True, False])
def test_dose_0_changes_no_bit_of_samples_and_scores(make, fast):
    model, other = make(), make(1)
    engine, texts = TorchEngine(model, word_tokenizer(), fast=fast), prompts(3)
    direction = np.ones(width(model))
    before, own = engine.generate(texts, PARAMS), weights(model)
    scored = engine.score(texts, [[5, 6, 7]] * 3, return_logits=True)
    for enter in (
        lambda: steer(model, direction, 1, 0.0),
        lambda: steer(model, 0 * direction, 1, 3.0),
        lambda: bias_logits(model, {5: 0.0}),
        lambda: ban(model, engine.tokenizer, ["w5"], 0),
        lambda: replace(model, engine.tokenizer, {"w5": "w6"}, 0),
        lambda: patch_layers(model, other, [1], 0.0),
    ):
        with enter():
            assert clean(model) and equal(own, weights(model))
            after = engine.generate(texts, PARAMS)
            assert torch.equal(before.completion_ids, after.completion_ids)
            assert torch.equal(before.per_token_logps, after.per_token_logps)
            again = engine.score(texts, [[5, 6, 7]] * 3, return_logits=True)
            assert torch.equal(scored.logits, again.logits)


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_outlives_its_with(make):
    model, tokenizer = make(), word_tokenizer()
    own, plain = weights(model), logits(model)
    contexts = (
        lambda: steer(model, np.ones(width(model)), 0),
        lambda: steer(model, np.ones(width(model)), 2),
        lambda: bias_logits(model, {5: -1.0}),
        lambda: ban(model, tokenizer, ["w5"]),
        lambda: replace(model, tokenizer, {"w5": "w6"}),
        lambda: patch_layers(model, make(1), [1, 2], 0.5),
    )
    for enter in contexts:
        with pytest.raises(KeyboardInterrupt), enter():
            assert not torch.equal(logits(model), plain)
            raise KeyboardInterrupt
        assert clean(model) and equal(own, weights(model)) and torch.equal(logits(model), plain)
    with steer(model, np.ones(width(model)), 1), ban(model, tokenizer, ["w5"]):  # they nest
        assert logits(model)[..., 5].max() == -math.inf
    assert clean(model)


@pytest.mark.parametrize("make", MAKERS)
def test_steering_adds_the_direction_to_the_residual(make):
    model = make()
    direction = np.random.default_rng(0).normal(size=width(model))
    from sdlab.measure.residuals import recording

    with torch.no_grad(), recording(model, [0, 1, 2]) as seen:
        model(torch.tensor([[5, 6, 7, 8]]))
        plain = dict(seen)
    for layer in (0, 1):
        with torch.no_grad(), steer(model, direction, layer, 2.0), recording(model, [0, 1, 2]) as seen:
            model(torch.tensor([[5, 6, 7, 8]]))
        moved = (seen[layer] - plain[layer])[0].numpy()
        assert moved == pytest.approx(np.tile(2 * direction, (4, 1)), abs=1e-3)
        assert torch.equal(seen[0], plain[0]) == (layer != 0)
        assert not torch.equal(seen[2], plain[2])


def test_the_engines_sampler_sees_hooks():
    model = qwen3()
    engine, slow = (TorchEngine(model, word_tokenizer(), fast=fast) for fast in (True, False))
    assert supports(model)
    texts = prompts(3)
    with steer(model, np.ones(width(model)), 2, 3.0):
        assert not supports(model)
        fast = engine.generate(texts, PARAMS)
        assert torch.equal(fast.completion_ids, slow.generate(texts, PARAMS).completion_ids)
        scores = engine.score(texts, [[5, 6, 7]] * 3, return_logits=True).logits
    assert supports(model)
    with torch.no_grad():
        model(torch.tensor([[5, 6]]), output_hidden_states=True)  # transformers leaves hooks that record
    assert supports(model)
    assert not torch.equal(fast.completion_ids, engine.generate(texts, PARAMS).completion_ids)
    assert (scores - engine.score(texts, [[5, 6, 7]] * 3, return_logits=True).logits).abs().max() > 0.1


def test_bias_and_ban_are_those_of_the_logits():
    model, tokenizer = llama(), word_tokenizer()
    plain = logits(model)
    with bias_logits(model, {5: 1.5, 7: -math.inf}):
        biased = logits(model)
    expected = plain.clone()
    expected[..., 5] += 1.5
    expected[..., 7] = -math.inf
    assert torch.equal(biased, expected)
    with ban(model, tokenizer, ["w9", "nothing"], 2.0) as tokens:
        assert tokens == {"w9": [9], "nothing": []}
        assert logits(model)[0, 0, 9] == plain[0, 0, 9] - 2
    for bad in ({650: 1.0}, {3: math.nan}):
        with pytest.raises(SdlabError, match="is not allowed; ids go from 0 to 649"), bias_logits(model, bad):
            pass
    with pytest.raises(SdlabError, match="none of the words"), ban(model, tokenizer, ["nothing"]):
        pass
    with pytest.raises(SdlabError, match="dose=-1"), ban(model, tokenizer, ["w9"], -1):
        pass


@pytest.mark.parametrize("dose", [0.25, 1.0])
def test_replacing_moves_probability_from_the_marker_to_the_neutral_word(dose):
    model = llama()
    plain = logits(model).softmax(-1)
    with replace(model, word_tokenizer(), {"w5": "w6"}, dose) as pairs:
        changed = logits(model).softmax(-1)
    assert pairs == {5: 6}
    assert torch.allclose(changed[..., 5], (1 - dose) * plain[..., 5], atol=1e-6)
    assert torch.allclose(changed[..., 6], plain[..., 6] + dose * plain[..., 5], atol=1e-6)
    assert torch.allclose(changed[..., 7:], plain[..., 7:], atol=1e-6)
    with pytest.raises(SdlabError, match="dose=2"), replace(model, word_tokenizer(), {"w5": "w6"}, 2):
        pass
    with (
        pytest.raises(SdlabError, match="one token on both sides"),
        replace(model, word_tokenizer(), {"a": "b"}),
    ):
        pass


def test_bad_directions_and_layers_are_refused():
    model = qwen3()
    for direction, layer, message in (
        (np.ones(64), 1, r"shape \(64,\), the model has 128 dimensions"),
        (np.full(128, np.nan), 1, "not finite"),
        (np.ones(128), 5, "layer 5 is not in this model"),
    ):
        with pytest.raises(SdlabError, match=message), steer(model, direction, layer):
            pass
    for layers, dose, message in (([0], 1, "layer 0"), ([7], 1, "layer 7"), ([1], 1.5, "dose=1.5")):
        with pytest.raises(SdlabError, match=message), patch_layers(model, qwen3(1), layers, dose):
            pass
    with pytest.raises(SdlabError, match="block 1 has other shapes"), patch_layers(model, llama(), [1]):
        pass
    assert clean(model)


def test_the_direction_of_doubt_is_the_difference_of_means():
    states = np.array([[1.0, 0], [3, 0], [0, 5], [0, 7]])
    assert doubt_direction(states, [True, True, False, False]).tolist() == [2, -6]
    with pytest.raises(SdlabError, match="4 of 4 places are doubtful"):
        doubt_direction(states, [True] * 4)


def test_all_layers_of_another_model_are_the_other_model():
    model = qwen3()
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for block in other.model.layers:
            for parameter in block.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    own = weights(model)
    with patch_layers(model, other, [1, 2, 3, 4]):
        assert torch.equal(logits(model), logits(other)) and supports(model)
    with patch_layers(model, other, [2], 0.25):
        mine, theirs = (one.model.layers[1].mlp.up_proj.weight for one in (model, other))
        assert torch.allclose(mine, 0.75 * own[list(dict(model.named_parameters())).index(
            "model.layers.1.mlp.up_proj.weight")] + 0.25 * theirs, atol=1e-6)  # fmt: skip
    assert equal(own, weights(model))


def test_words_and_behaviour_of_the_organism(organism, problems):
    """Without the words of checks there are no checks; other words leave the checks and fewer markers."""
    params = SamplingParams(2, 160, seed=1)
    model, tokenizer = organism.model, organism.tokenizer
    table = compare_interventions(
        organism,
        problems,
        params,
        {
            "as it is": nullcontext,
            "no markers": lambda: ban(model, tokenizer),
            "neutral words": lambda: replace(model, tokenizer),
            "no checks": lambda: ban(model, tokenizer, ["check", "test"]),
        },
    )
    plain = evaluate(organism, problems, params)
    first = table[table["intervention"] == "as it is"]
    assert first["completion"].tolist() == plain["completion"].tolist()
    means = table.groupby("intervention")[["markers", "checks"]].mean()
    assert means.loc["no markers", "markers"] == 0 and means.loc["no checks", "checks"] == 0
    assert means.loc["no checks", "markers"] > 0
    assert 0 < means.loc["neutral words", "markers"] < means.loc["as it is", "markers"]
    assert means.loc["neutral words", "checks"] > 0.5 * means.loc["as it is", "checks"]
    with pytest.raises(SdlabError, match="no interventions"):
        compare_interventions(organism, problems, params, {})


def test_texts_are_changed_at_a_place_or_word_by_word(organism, problems):
    text = "A: Maybe 15. Check: digit sum 6, need 6, yes. So A is 15. Wait, check A: checking"
    assert count_checks(text) == 2 and count_checks(text.replace("Check:", "Test:")) == 2
    assert insert_at(text, 12, " Wait.") == "A: Maybe 15. Wait."
    with pytest.raises(SdlabError, match="place 99 is not in a text of"):
        insert_at("short", 99, "x")
    short = "\nA: Maybe 15. Check: digit sum 6, need 6, yes."
    changed = reword(organism.tokenizer, short, {"Maybe": "Try", "Check": "Test"})
    assert changed == "\nA: Try 15. Test: digit sum 6, need 6, yes." and not total_markers(changed)
    with pytest.raises(SdlabError, match="tokens instead of"):
        reword(organism.tokenizer, short, {"Maybe": "It might be"})


def test_a_model_continues_from_a_changed_text(organism, problems):
    params = SamplingParams(2, 96, seed=2)
    whole = evaluate(organism, problems[:3], params)
    beginnings = [f"<think>\nA: Maybe {p.slots[0].candidates[0]}. Check:" for p in problems[:3]]
    table = continue_from(organism, problems[:3], beginnings, params)
    assert len(table) == 6 and table["problem_id"].tolist() == whole["problem_id"].tolist()
    assert all(text.startswith(beginnings[i // 2]) for i, text in enumerate(table["completion"]))
    assert table["reward"].isin([0.0, 1.0]).all() and table["length"].between(1, 96).all()
    assert table["markers"].tolist() == [
        total_markers(text[len(beginnings[i // 2]) :]) for i, text in enumerate(table["completion"])
    ]
    with pytest.raises(SdlabError, match="3 problems but 1 beginnings"):
        continue_from(organism, problems[:3], beginnings[:1], params)
