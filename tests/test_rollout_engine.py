"""Generation agrees with full recomputation and does not depend on the batch, its order or padding."""

import itertools
import sys

import pytest
import rollout_models as tiny
import torch

from sdlab.errors import SdlabError
from sdlab.rollout import loop, qwen3, torch_engine
from sdlab.rollout.packed import supports
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams

MODELS = {"qwen3": tiny.qwen3, "llama": tiny.llama, "gpt2": tiny.gpt2}
ENDS = list(range(1, 600, 20))  # thirty ending tokens: rows end after about twenty tokens


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.word_tokenizer()


@pytest.fixture(scope="module", params=list(MODELS))
def engine(request, tokenizer):
    return TorchEngine(MODELS[request.param](), tokenizer)


@pytest.fixture(scope="module")
def fast(tokenizer):
    model = tiny.qwen3()
    model.generation_config.eos_token_id = ENDS
    return TorchEngine(model, tokenizer)


@pytest.fixture(scope="module")
def exact(tokenizer):
    """In float64: a sum taken in another order cannot push a draw across the border between two tokens."""
    model = tiny.qwen3().double()
    model.generation_config.eos_token_id = ENDS
    return TorchEngine(model, tokenizer)


@pytest.fixture
def two_workers(monkeypatch):
    """Small units and two worker threads, whatever the machine."""
    monkeypatch.setattr(TorchEngine, "threads", lambda self: 2)
    monkeypatch.setattr(torch_engine, "UNIT_ROWS", 8)


def uncached_greedy(model, prompt: list[int], limit: int, ends) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(limit):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in ends:
                break
    return ids[len(prompt) :]


def same(a, b, tolerance=2e-5):
    assert a.completion_ids.tolist() == b.completion_ids.tolist()
    assert a.completion_mask.tolist() == b.completion_mask.tolist()
    assert a.truncated.tolist() == b.truncated.tolist()
    assert a.texts == b.texts
    torch.testing.assert_close(a.per_token_logps, b.per_token_logps, atol=tolerance, rtol=0)


def test_cached_greedy_equals_full_recomputation(engine):
    prompts = tiny.prompts(6)
    got = engine.generate(prompts, SamplingParams(max_completion_length=24, temperature=0))
    wanted = [uncached_greedy(engine.model, ids, 24, engine.eos_ids) for ids in got.prompt_ids]
    assert got.completions() == wanted
    assert len({token for row in wanted for token in row}) > 20  # the model is not stuck on one token


def test_greedy_with_early_ends_equals_full_recomputation(fast, two_workers):
    prompts = tiny.prompts(12, seed=4)
    got = fast.generate(prompts, SamplingParams(max_completion_length=40, temperature=0))
    assert got.completions() == [uncached_greedy(fast.model, ids, 40, ENDS) for ids in got.prompt_ids]
    assert len(set(got.lengths.tolist())) > 4


def test_sampled_logps_are_the_models(engine):
    """Independent recomputation, row by row without padding or cache, at a temperature and under filters."""
    params = SamplingParams(4, max_completion_length=20, temperature=0.7, top_p=0.9, top_k=50, seed=1)
    got = engine.generate(tiny.prompts(6), params)
    for row, completion in enumerate(got.completions()):
        prompt = got.prompt_ids[row // 4]
        with torch.no_grad():
            logits = engine.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        wanted = (logits / 0.7).log_softmax(-1)[range(len(completion)), completion]
        torch.testing.assert_close(got.per_token_logps[row, : len(completion)], wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("params", [
    SamplingParams(4, 50, seed=3),
    SamplingParams(3, 50, temperature=0.6, top_p=0.95, top_k=20, seed=3),
    SamplingParams(1, 50, temperature=0),
])  # fmt: skip
def test_fast_path_equals_generic_path(exact, tokenizer, params):
    assert supports(exact.model)
    generic = TorchEngine(exact.model, tokenizer, fast=False)
    prompts = tiny.prompts(9, seed=2)
    same(exact.generate(prompts, params), generic.generate(prompts, params))


@pytest.mark.parametrize("changes", [
    {"attention_bias": True},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 1, "head_dim": 64},
    {"tie_word_embeddings": False, "rms_norm_eps": 1e-3},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
])  # fmt: skip
def test_fast_path_follows_the_configuration(tokenizer, changes):
    model = tiny.qwen3(layers=2, **changes)
    if changes.get("attention_bias"):
        for layer in model.model.layers:
            for part in (
                layer.self_attn.q_proj,
                layer.self_attn.k_proj,
                layer.self_attn.v_proj,
                layer.self_attn.o_proj,
            ):
                torch.nn.init.normal_(part.bias)
    params = SamplingParams(2, 20, seed=1)
    prompts, model = tiny.prompts(4), model.double()
    same(
        TorchEngine(model, tokenizer).generate(prompts, params),
        TorchEngine(model, tokenizer, fast=False).generate(prompts, params),
    )


@pytest.mark.parametrize("make", [tiny.qwen3, tiny.llama])
def test_in_bfloat16_what_is_sampled_is_nearly_what_the_model_says(tokenizer, make):
    exact = TorchEngine(make(), tokenizer)
    rounded = exact.in_bf16(True)
    assert rounded.model is exact.model and exact.in_bf16(False) is exact and rounded.in_bf16(True) is rounded
    got = rounded.generate(tiny.prompts(6), SamplingParams(4, 40, seed=1))
    prompts = [prompt for prompt in got.prompts for _ in range(4)]
    for engine in (exact, rounded):
        off = (engine.score(prompts, got.completions()).per_token_logps - got.per_token_logps)[
            got.completion_mask
        ].abs()
        assert off.mean() < 0.01 and off.max() < 0.2
    wanted = exact.score(prompts, got.completions()).per_token_logps
    assert (wanted - got.per_token_logps)[got.completion_mask].abs().max() > 1e-5  # rounding there was


def test_a_processor_without_bfloat16_is_told(tokenizer, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.warns(UserWarning, match="no instructions for bfloat16"):
        TorchEngine(tiny.qwen3(layers=1), tokenizer).in_bf16(True)


def test_other_variants_take_the_generic_path():
    assert not supports(tiny.llama())
    sliding = tiny.qwen3(
        layers=2,
        layer_types=["full_attention", "sliding_attention"],
        sliding_window=8,
        use_sliding_window=True,
    )
    assert not supports(sliding)
    assert not supports(
        tiny.qwen3(layers=1, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})
    )
    adapted = tiny.qwen3(layers=1)
    adapted.model.layers[0].mlp.down_proj = torch.nn.Sequential(adapted.model.layers[0].mlp.down_proj)
    assert not supports(adapted)


def test_sliding_window_model_is_right(tokenizer):
    """The fast path refuses this model and its cache forgets; the tokens are those of full recomputation."""
    model = tiny.qwen3(
        layers=2,
        layer_types=["full_attention", "sliding_attention"],
        sliding_window=8,
        use_sliding_window=True,
    )
    got = TorchEngine(model, tokenizer).generate(
        tiny.prompts(3), SamplingParams(max_completion_length=12, temperature=0)
    )
    assert got.completions() == [uncached_greedy(model, ids, 12, [tiny.EOS]) for ids in got.prompt_ids]


@pytest.mark.parametrize("kind", ["fast", "generic", "llama"])
def test_padding_order_and_company_change_nothing(exact, tokenizer, kind, two_workers):
    engine = {
        "fast": exact,
        "generic": TorchEngine(exact.model, tokenizer, fast=False),
        "llama": TorchEngine(tiny.llama().double(), tokenizer),
    }[kind]
    prompts, params = tiny.prompts(10, seed=6), SamplingParams(3, 40, temperature=0.9, seed=8)
    together = engine.generate(prompts, params)
    order = [7, 2, 9, 0, 1, 8, 3, 6, 5, 4]
    turned = engine.generate([prompts[i] for i in order], params)
    for position, i in enumerate(order):
        for g in range(3):
            a, b = i * 3 + g, position * 3 + g
            assert turned.completions()[b] == together.completions()[a]
            n = together.lengths[a]
            torch.testing.assert_close(
                turned.per_token_logps[b, :n], together.per_token_logps[a, :n], atol=2e-5, rtol=0
            )
    alone = [engine.generate([prompt], params).completions() for prompt in prompts]
    assert [row for rows in alone for row in rows] == together.completions()


def test_units_and_threads_change_nothing(exact, monkeypatch):
    prompts, params = tiny.prompts(10, seed=6), SamplingParams(3, 40, seed=8)
    whole = exact.generate(prompts, params)
    before = torch.get_num_threads(), sys.getswitchinterval()
    monkeypatch.setattr(TorchEngine, "threads", lambda self: 3)
    for rows in (1, 2, 5, 16):  # fewer rows than one prompt's generations, and more
        monkeypatch.setattr(TorchEngine, "unit_rows", lambda self, *_, rows=rows: rows)
        same(exact.generate(prompts, params), whole)
    assert (torch.get_num_threads(), sys.getswitchinterval()) == before


@pytest.mark.parametrize(
    "count, generations, max_rows", [(10, 3, 8), (4, 8, 3), (1, 5, 100), (32, 8, 128), (7, 2, 5)]
)
def test_units_hold_every_row_once(count, generations, max_rows):
    ids = [[0] * (1 + i % 5) for i in range(count)]
    units = loop.plan_units(ids, generations, max_rows)
    assert sorted(row for unit in units for row in unit.rows) == list(range(count * generations))
    for unit in units:
        assert len(unit.rows) == sum(unit.repeats) <= max_rows
        expanded = [
            prompt for prompt, repeat in zip(unit.prompts, unit.repeats, strict=True) for _ in range(repeat)
        ]
        assert all(prompt is ids[row // generations] for prompt, row in zip(expanded, unit.rows, strict=True))


def _step_bytes(units, weights, token, prompt):
    """What one step of all units costs: the weights once a unit, caches and prompts at the longest prompt."""
    return sum(
        weights + (token * len(unit.rows) + prompt * len(unit.prompts)) * max(map(len, unit.prompts))
        for unit in units
    )


@pytest.mark.parametrize(
    "weights, prompt, units", [(0, 0, 4), (10_000, 0, 2), (10**9, 0, 1), (40_000, 0, 1), (40_000, 20, 2)]
)
def test_units_split_where_padding_costs_more_than_reading_the_weights_again(weights, prompt, units):
    ids = [[0] * length for length in (10, 12, 500, 11, 40)]
    plan = loop.plan_units(ids, 2, 100, (weights, 10, prompt))
    assert sorted(row for unit in plan for row in unit.rows) == list(range(10))
    if weights:
        assert len(plan) == units
    # no other way to cut the sorted prompts into units costs less
    order = sorted(range(5), key=lambda i: len(ids[i]))
    costs = []
    for cuts in itertools.product([False, True], repeat=4):
        groups = [[order[0]]]
        for cut, i in zip(cuts, order[1:], strict=True):
            groups.append([i]) if cut else groups[-1].append(i)
        costs.append(sum(weights + (10 * 2 + prompt) * len(g) * max(len(ids[i]) for i in g) for g in groups))
    assert _step_bytes(plan, weights, 10, prompt) == min(costs)


def test_seeds_reproduce_and_differ(fast):
    prompts = tiny.prompts(3)
    first = fast.generate(prompts, SamplingParams(2, 30, seed=1))
    same(fast.generate(prompts, SamplingParams(2, 30, seed=1)), first, tolerance=0)
    assert fast.generate(prompts, SamplingParams(2, 30, seed=2)).texts != first.texts


def test_equal_prompts_get_different_samples(fast):
    prompt = tiny.prompts(1)[0]
    got = fast.generate([prompt, prompt], SamplingParams(2, 30, seed=1))
    assert len({tuple(row) for row in got.completions()}) == 4
    assert got.completions() == fast.generate([prompt], SamplingParams(4, 30, seed=1)).completions()


def test_rows_end_at_the_first_eos(fast):
    got = fast.generate(tiny.prompts(8), SamplingParams(4, 25, seed=0))
    assert 0 < int(got.truncated.sum()) < 32
    assert got.completion_ids.shape[1] == int(got.lengths.max())
    for ids, mask, logps, cut in zip(
        got.completion_ids, got.completion_mask, got.per_token_logps, got.truncated, strict=True
    ):
        n = int(mask.sum())
        assert mask.tolist() == [True] * n + [False] * (len(mask) - n)
        ends = [i for i, token in enumerate(ids[:n].tolist()) if token in ENDS]
        assert (ends == [] and n == 25) if cut else ends == [n - 1]
        assert (ids[n:] == tiny.PAD).all() and (logps[n:] == 0).all() and (logps[:n] < 0).all()


def test_a_row_that_ends_on_its_last_token_is_not_truncated(fast):
    got = fast.generate(tiny.prompts(8), SamplingParams(4, 25, seed=0))
    row = int((~got.truncated).nonzero()[0])
    again = fast.generate(tiny.prompts(8), SamplingParams(4, int(got.lengths[row]), seed=0))
    assert not again.truncated[row] and again.truncated.any()


def test_finished_rows_leave_the_batch(fast, tokenizer, monkeypatch):
    """The number of decoded rows is close to the tokens produced, far below rows times the longest row."""
    for engine, slack in ((fast, 1.1), (TorchEngine(fast.model, tokenizer, fast=False), 1.3)):
        decoder = qwen3.Qwen3Decoder if engine.fast else torch_engine.HFDecoder
        decoded, step = [], decoder.step
        monkeypatch.setattr(
            decoder, "step", lambda self, tokens, step=step: decoded.append(len(tokens)) or step(self, tokens)
        )
        got = engine.generate(tiny.prompts(16), SamplingParams(8, 120, seed=0))
        produced, rows = int(got.lengths.sum()), len(got.lengths)
        assert sum(decoded) < slack * (produced - rows) + 64 < 0.7 * rows * 120
        assert decoded[-1] < 1.2 * int(got.truncated.sum()) + 2


def test_training_between_calls_is_seen(tokenizer):
    model = tiny.qwen3(layers=2)
    engine, prompts = TorchEngine(model, tokenizer), tiny.prompts(3)
    params = SamplingParams(max_completion_length=12, temperature=0)
    before = engine.generate(prompts, params).completions()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    after = engine.generate(prompts, params)
    assert after.completions() != before
    assert after.completions() == [uncached_greedy(model, ids, 12, [tiny.EOS]) for ids in after.prompt_ids]


def test_results_can_enter_a_loss_and_the_mode_is_restored(fast):
    fast.model.train()
    got = fast.generate(tiny.prompts(2), SamplingParams(2, 10))
    assert fast.model.training
    fast.model.eval()
    weight = torch.ones((), requires_grad=True)
    (weight * got.per_token_logps).sum().backward()  # an inference tensor would refuse
    torch.testing.assert_close(weight.grad, got.per_token_logps.sum())


def test_progress_counts_every_row_once(fast, two_workers):
    calls = []
    fast.generate(
        tiny.prompts(6), SamplingParams(4, 30), progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (24, 24) and all(total == 24 for _, total in calls)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls}) and len(calls) > 1


def test_an_interrupt_stops_the_workers(fast, two_workers):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fast.generate(tiny.prompts(6), SamplingParams(8, 500), progress=interrupt)


def test_bfloat16_fast_path_is_close(tokenizer):
    model = tiny.qwen3(layers=2).to(torch.bfloat16)
    engine = TorchEngine(model, tokenizer)
    got = engine.generate(tiny.prompts(4), SamplingParams(4, 20, seed=1))
    wanted = engine.score([p for p in got.prompts for _ in range(4)], got.completions())
    assert (got.per_token_logps - wanted.per_token_logps).abs().max() < 0.2
    assert (got.per_token_logps - wanted.per_token_logps).abs().mean() < 0.02


def test_no_prompts_no_rows(fast):
    got = fast.generate([], SamplingParams(2, 10))
    assert got.texts == [] and len(got.completion_ids) == len(got.lengths) == 0


def test_errors_are_one_clear_line(fast, tokenizer):
    for prompts, params, words in (
        (["w3 w4", ""], SamplingParams(), "no tokens"),
        ("w3", SamplingParams(), "list of strings"),
        (tiny.prompts(1, 20, 20), SamplingParams(max_completion_length=1010), "at most 1004"),
    ):
        with pytest.raises(SdlabError, match=words) as caught:
            fast.generate(prompts, params)
        assert "\n" not in str(caught.value)
    broken = tiny.qwen3(layers=1)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(SdlabError, match="not finite"):
        TorchEngine(broken, tokenizer).generate(["w3"], SamplingParams(max_completion_length=4))
