"""The direction of a repair's loss at choice points: finite differences, GRPO's closed form, a real step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.measure.doubt_push import doubt_push, probability_push
from sdlab.measure.logit_change import marker_tokens
from sdlab.rollout.loading import load_engine
from sdlab.train.batch import Rows, sample_batch
from sdlab.train.losses import group_advantages
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.loop import BUDGET, run_repair
from sdlab.train.repairs.named import repair_named
from sdlab.world.splits import load_split

SMALL = replace(BUDGET, num_problems=4, num_generations=4, max_completion_length=128, seed=3)


@pytest.fixture(scope="module")
def untrained():
    return load_engine("organism-small")


@pytest.fixture(scope="module")
def problems():
    return load_split("train", limit=16)


@pytest.fixture(scope="module")
def marked(untrained):
    return sorted({token for ids in marker_tokens(untrained.tokenizer).values() for token in ids})


@torch.no_grad()
def distributions(engine, batch) -> torch.Tensor:
    """The probabilities (B, T, V) that a model gives to the next token along the batch's completions."""
    rows = Rows(engine, batch.prompts, batch.rollouts.completions())
    logits = rows.logits(engine.model, range(len(batch.rewards)))
    table = torch.zeros(*batch.rollouts.completion_mask.shape, logits.shape[-1])
    table[batch.rollouts.completion_mask.bool()] = logits.softmax(-1)
    return table


def test_the_push_is_the_derivative_of_the_probability_along_the_step():
    generator = torch.Generator().manual_seed(0)
    logits, gradient = torch.randn(2, 5, 7, dtype=torch.float64, generator=generator)
    marked, h = [1, 4], 1e-6
    moved = [(logits + sign * h * -gradient).softmax(-1)[:, marked].sum(-1) for sign in (1, -1)]
    exact = probability_push(logits.log_softmax(-1), gradient, marked)
    assert torch.allclose(exact, (moved[0] - moved[1]) / (2 * h), atol=1e-8)


def test_grpos_push_is_its_closed_form_and_no_weights_change(untrained, problems, marked):
    before = [p.clone() for p in untrained.model.parameters()]
    table = doubt_push(untrained, problems, {"grpo": repair_named("grpo")}, SMALL)
    assert all(map(torch.equal, before, untrained.model.parameters()))
    # GRPO's step at a token is dz = A (one-hot of the written token - p), up to the weight that all share
    batch = sample_batch(untrained, problems, SMALL, step=0)
    p, mask = distributions(untrained, batch), batch.rollouts.completion_mask.bool()
    written = torch.nn.functional.one_hot(batch.rollouts.completion_ids, p.shape[-1])
    dz = group_advantages(batch.rewards, 4)[:, None, None] * (written - p) * mask[..., None]
    dz = dz / (dz.square().sum() / mask.sum()).sqrt()
    push = (p * (dz - (p * dz).sum(-1, keepdim=True)))[..., marked].sum(-1)
    at = table["row"].to_numpy(), table["place"].to_numpy()
    assert np.allclose(table["push"], push.numpy()[at], atol=1e-5)
    assert np.allclose(table["markers"], p[..., marked].sum(-1).numpy()[at], atol=1e-5)
    choices = mask & ((-(p * p.clamp(min=1e-30).log()).sum(-1)) > 0.5)
    assert len(table) == choices.sum()
    inside = (dz.square().sum(-1) * choices).sum() / dz.square().sum()
    assert table["share"].iloc[0] == pytest.approx(float(inside), rel=1e-4)


def test_a_small_step_of_sdpo_moves_the_markers_where_the_push_says(untrained, problems, marked):
    table = doubt_push(untrained, problems, {"sdpo": Repair()}, SMALL, step=0)
    student = load_engine("organism-small")
    run_repair(student, problems, Repair(), replace(SMALL, steps=1, warmup_steps=0, learning_rate=3e-5))
    batch = sample_batch(untrained, problems, SMALL, step=0)
    before, after = (distributions(one, batch)[..., marked].sum(-1).numpy() for one in (untrained, student))
    moved = (after - before)[table["row"].to_numpy(), table["place"].to_numpy()]
    assert table["push"].sum() < 0 and moved.sum() < 0
    assert np.corrcoef(table["push"], moved)[0, 1] > 0.5


def test_sdpo_lowers_the_doubt_more_than_methods_that_weigh_the_teacher_or_do_without(untrained, problems):
    names = ["sdpo", "grpo", "srpo", "rlsd", "antisd", "choice_gate", "opsa", "sdpg", "rlcsd"]
    config = replace(SMALL, num_generations=6)
    table = doubt_push(untrained, problems, {name: repair_named(name) for name in names}, config)
    assert table["push"].notna().all() and set(table["method"]) == set(names)
    sums = table.groupby("method")["push"].sum()
    assert sums["sdpo"] < 0 and sums["sdpo"] < sums["choice_gate"] and sums["sdpo"] < sums["grpo"]
    # the gate of AntiSD opens after its warm-up, so it is not GRPO any more
    assert not np.allclose(table.query("method == 'antisd'")["push"], table.query("method == 'grpo'")["push"])


def test_a_group_too_small_for_a_view_is_refused(untrained, problems):
    with pytest.raises(SdlabError, match="needs"):
        doubt_push(untrained, problems, {"rlcsd": repair_named("rlcsd")}, replace(SMALL, num_generations=2))
