"""Token choice: filters against brute force, frequencies against the distribution, numbers keyed by row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sdlab.errors import SdlabError
from sdlab.rollout.sampling import choose, row_uniforms
from sdlab.rollout.types import SamplingParams


def brute_force(logits: list[float], temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Return the filtered distribution by its definition.

    Sort, cut after k, renormalise, and take tokens until their share reaches p.
    """
    weights = np.exp((np.array(logits) - max(logits)) / temperature)
    probs = weights / weights.sum()
    order = sorted(range(len(probs)), key=lambda i: -probs[i])
    if top_k:
        order = order[:top_k]
    total, share, kept = sum(probs[i] for i in order), 0.0, []
    for i in order:
        kept.append(i)
        share += probs[i] / total
        if share >= top_p:
            break
    out = np.zeros(len(probs))
    out[kept] = probs[kept] / probs[kept].sum()
    return out


def sampled_distribution(logits: torch.Tensor, params: SamplingParams, draws: int) -> np.ndarray:
    """Frequencies over an even grid of u: every token's share, exact to 1/draws."""
    u = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    tokens, _ = choose(logits.expand(draws, -1), u, params)
    return np.bincount(tokens.numpy(), minlength=logits.shape[-1]) / draws


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 40),
    temperature=st.sampled_from([0.3, 0.6, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 2, 5, 100]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.95, 1.0]),
)
def test_filters_equal_brute_force(seed, size, temperature, top_k, top_p):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, size)).float()
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
    found, wanted = (
        sampled_distribution(logits, params, 20_000),
        brute_force(logits.tolist(), temperature, top_k, top_p),
    )
    assert np.abs(found - wanted).max() < 2 / 20_000
    assert not found[wanted == 0].any()


def test_filters_equal_transformers():
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(3)) * 2
    peer = TopPLogitsWarper(0.8)(
        None, TopKLogitsWarper(20)(None, TemperatureLogitsWarper(0.7)(None, logits))
    ).softmax(-1)[0]
    found = sampled_distribution(logits[0], SamplingParams(temperature=0.7, top_k=20, top_p=0.8), 50_000)
    assert np.abs(found - peer.numpy()).max() < 2 / 50_000


@pytest.mark.parametrize("top_k, top_p", [(0, 1.0), (7, 1.0), (0, 0.8), (10, 0.9)])
def test_frequencies_of_keyed_draws_match_the_distribution(top_k, top_p):
    """The engine's samples follow the filtered distribution (chi-square over many rows, fixed seed)."""
    logits = torch.randn(30, generator=torch.Generator().manual_seed(1)) * 1.5
    params = SamplingParams(
        num_generations=200, max_completion_length=100, temperature=0.9, top_k=top_k, top_p=top_p, seed=5
    )
    u = torch.from_numpy(row_uniforms(["a", "b"], params)).flatten()
    tokens, chance = choose(logits.expand(len(u), -1), u, params)
    wanted = brute_force(logits.tolist(), 0.9, top_k, top_p)
    counts = np.bincount(tokens.numpy(), minlength=30)
    assert not counts[wanted == 0].any()
    assert chisquare(counts[wanted > 0], wanted[wanted > 0] * len(u)).pvalue > 0.01
    unfiltered = (logits / 0.9).softmax(-1)  # what is reported is before the filters
    torch.testing.assert_close(chance, unfiltered[tokens])


def test_extreme_draws_never_pick_an_impossible_token():
    logits = torch.full((2, 9), float("-inf"))
    logits[:, 3:6] = torch.tensor([0.0, 1.0, 2.0])
    tokens, _ = choose(logits, torch.tensor([0.0, 1 - 2**-32], dtype=torch.float64), SamplingParams())
    assert tokens.tolist() == [3, 5]


def test_greedy_reports_temperature_one():
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    tokens, chance = choose(
        logits, torch.zeros(1, dtype=torch.float64), SamplingParams(temperature=0, top_k=1)
    )
    assert tokens.tolist() == [1]
    torch.testing.assert_close(chance, logits.softmax(-1)[:, 1])


def test_draws_belong_to_the_row_not_to_the_batch():
    four = SamplingParams(num_generations=4, max_completion_length=6, seed=1)
    both, turned = row_uniforms(["a", "b"], four), row_uniforms(["b", "a"], four)
    np.testing.assert_array_equal(both[:4], turned[4:])
    np.testing.assert_array_equal(both[4:], turned[:4])
    assert len(np.unique(both)) == both.size
    # the same text twice with two generations is the same text once with four
    two = SamplingParams(num_generations=2, max_completion_length=6, seed=1)
    np.testing.assert_array_equal(row_uniforms(["a", "a"], two), both[:4])
    longer = SamplingParams(num_generations=4, max_completion_length=9, seed=1)
    np.testing.assert_array_equal(row_uniforms(["a"], longer)[:, :6], both[:4])
    assert not np.isin(
        row_uniforms(["a"], SamplingParams(num_generations=4, max_completion_length=6, seed=2)), both
    ).any()


def test_draws_are_uniform():
    u = row_uniforms([f"prompt {i}" for i in range(300)], SamplingParams(max_completion_length=100))
    assert 0 <= u.min() and u.max() < 1
    for part in (
        u.flatten(),
        u[:, 0],
    ):  # also across rows: the first number of every row is one draw from each key
        assert chisquare(np.histogram(part, 10, (0, 1))[0]).pvalue > 0.01


@pytest.mark.parametrize(
    "bad",
    [
        {"num_generations": 0},
        {"max_completion_length": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
    ],
)
def test_bad_parameters_name_themselves(bad):
    with pytest.raises(SdlabError, match=next(iter(bad))):
        SamplingParams(**bad)
