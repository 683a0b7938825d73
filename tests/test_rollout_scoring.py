"""Scoring: against a plain forward pass over each row alone, without padding, cache or batching."""

import inspect

import pytest
import rollout_models as tiny
import torch

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.rollout import memory
from sdlab.rollout.cache import named_cache
from sdlab.rollout.loading import load_engine
from sdlab.rollout.packed import PackedQwen3
from sdlab.rollout.scoring import plan_batches
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams

MODELS = {"qwen3": tiny.qwen3, "qwen3 generic": tiny.qwen3, "llama": tiny.llama, "gpt2": tiny.gpt2}


@pytest.fixture(scope="module", params=list(MODELS))
def engine(request):
    return TorchEngine(MODELS[request.param](), tiny.word_tokenizer(), fast="generic" not in request.param)


def rows():
    """Prompts of 1 to 40 tokens, some shared; completions of 0 to 30 tokens, not sorted."""
    draw = torch.Generator().manual_seed(0)
    texts = [*tiny.prompts(5), "w9"]
    prompts = [texts[i] for i in (0, 3, 1, 0, 5, 2, 4, 0, 3, 5)]
    lengths = [7, 30, 1, 0, 12, 5, 19, 22, 3, 4]
    return prompts, [torch.randint(1, tiny.VOCAB, (n,), generator=draw).tolist() for n in lengths]


def alone(engine, prompt: str, completion: list[int]) -> torch.Tensor:
    ids = engine.tokenizer(prompt)["input_ids"]
    with torch.no_grad():
        return engine.model(torch.tensor([ids + completion])).logits[
            0, len(ids) - 1 : len(ids) - 1 + len(completion)
        ]


@pytest.mark.parametrize("make", [tiny.qwen3, tiny.llama, tiny.gpt2])
def test_the_cache_goes_by_the_name_that_the_model_takes(make):
    """`past_key_values` before transformers 5.24, then `cache`; the old name prints a warning there."""
    model = make()
    ((name, cache),) = named_cache(model(torch.tensor([[1, 2]]), use_cache=True)).items()
    assert name in inspect.signature(model.forward).parameters and cache.get_seq_length() == 2
    assert named_cache({"logits": 0, "cache": 1}) == {"cache": 1}
    assert named_cache({"logits": 0, "past_key_values": 1}) == {"past_key_values": 1}


@pytest.mark.parametrize("batch_tokens", [1, 150, 10_000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_scores_equal_a_plain_forward_pass(engine, batch_tokens, temperature):
    prompts, completions = rows()
    got = engine.score(
        prompts, completions, temperature=temperature, return_logits=True, top_k=9, batch_tokens=batch_tokens
    )
    assert got.completion_mask.sum(-1).tolist() == [len(ids) for ids in completions]
    for i, (prompt, ids) in enumerate(zip(prompts, completions, strict=True)):
        n, logits = len(ids), alone(engine, prompt, ids)
        wanted = (logits / temperature).log_softmax(-1)
        torch.testing.assert_close(got.logits[i, :n], logits, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(got.per_token_logps[i, :n], wanted[range(n), ids], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(got.entropy[i, :n], -(wanted.exp() * wanted).sum(-1), atol=1e-4, rtol=0)
        best = wanted.topk(9)
        torch.testing.assert_close(got.topk_logps[i, :n], best.values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(wanted.gather(-1, got.topk_ids[i, :n]), best.values, atol=1e-5, rtol=1e-5)
        for part in (got.per_token_logps, got.entropy, got.logits, got.topk_logps):
            assert (part[i, n:] == 0).all()


def test_scores_equal_what_sampling_reported(engine):
    params = SamplingParams(4, 40, temperature=0.8, top_p=0.9, seed=2)
    sampled = engine.generate(tiny.prompts(6), params)
    scored = engine.score(
        [p for p in sampled.prompts for _ in range(4)], sampled.completions(), temperature=0.8
    )
    assert scored.completion_mask.equal(sampled.completion_mask)
    assert (scored.per_token_logps - sampled.per_token_logps).abs().max() < 1e-5


def test_in_float64_scores_equal_what_sampling_reported_to_float32():
    """The two paths compute the same thing; what is left is the rounding of the reported float32."""
    engine = TorchEngine(tiny.qwen3().double(), tiny.word_tokenizer())
    sampled = engine.generate(tiny.prompts(6), SamplingParams(4, 40, seed=2))
    scored = engine.score([p for p in sampled.prompts for _ in range(4)], sampled.completions())
    assert (scored.per_token_logps - sampled.per_token_logps).abs().max() < 2e-6


def test_the_organism_scores_what_it_sampled():
    """Float32 rounding in the model is about 3e-7 on average, at most 1.5e-5, also in transformers."""
    if not (paths.data_dir() / "organism" / "SHA256SUMS").is_file():
        pytest.skip("data/organism is not there; `sdlab pretrain` makes it")
    engine = load_engine("organism", device="cpu")
    texts = [f"<|im_start|>user\nWhat is {n} + {n}?<|im_end|>\n<|im_start|>assistant\n" for n in range(4)]
    sampled = engine.generate(texts, SamplingParams(4, 60, seed=2))
    scored = engine.score([p for p in texts for _ in range(4)], sampled.completions())
    gap = (scored.per_token_logps - sampled.per_token_logps).abs()[sampled.completion_mask]
    assert gap.mean() < 2e-6 and gap.quantile(0.99) < 2e-5 and gap.max() < 1e-4


def test_workers_change_nothing(engine, monkeypatch):
    prompts, completions = rows()
    alone = engine.score(prompts, completions, return_logits=True, batch_tokens=60)
    monkeypatch.setattr(TorchEngine, "threads", lambda self: 3)
    for _ in range(3):
        together = engine.score(prompts, completions, return_logits=True, batch_tokens=60)
        torch.testing.assert_close(together.logits, alone.logits, atol=1e-4, rtol=1e-5)


def test_only_completion_positions_reach_the_head(engine, monkeypatch):
    """The head is what a large vocabulary makes expensive: count the positions it sees."""
    seen = []
    handle = engine.model.get_output_embeddings().register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].shape[:-1].numel())
    )
    forward = PackedQwen3.forward
    monkeypatch.setattr(
        PackedQwen3,
        "forward",
        lambda self, tokens, *rest: seen.append(len(tokens)) or forward(self, tokens, *rest),
    )
    monkeypatch.setattr(
        "sdlab.rollout.packed.plain", lambda module: True
    )  # the hook alone would choose the generic path
    prompts, completions = [tiny.prompts(1, 40, 40)[0]] * 4, [[5, 6, 7]] * 4
    engine.score(prompts, completions)
    handle.remove()
    assert 4 * 3 <= sum(seen) <= 4 * 3 + 1  # and one for the shared prompt


def test_scores_can_enter_a_loss(engine):
    prompts, completions = rows()
    got = engine.score(prompts, completions, return_logits=True, top_k=3)
    student = torch.zeros(got.logits.shape[-1], requires_grad=True)
    (student * got.logits).sum().backward()
    assert student.grad.abs().sum() > 0


def test_optional_parts_are_absent_unless_asked_for(engine):
    got = engine.score(["w5"], [[4, 5]])
    assert got.logits is None and got.topk_logps is None and got.topk_ids is None


def test_batches_hold_every_row_once_within_budget():
    lengths, prompt_lengths, same = [5, 9, 1, 30, 2, 2], [10, 10, 4, 4, 10, 4], [0, 0, 1, 1, 0, 1]
    batches = plan_batches(lengths, prompt_lengths, same, 40)
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    for batch in batches:
        padded = len(batch) * (max(lengths[i] for i in batch) + max(prompt_lengths[i] for i in batch))
        assert padded <= 40 or len(batch) == 1


def test_a_large_vocabulary_is_scored_in_small_parts_with_the_same_numbers(engine, monkeypatch):
    prompts, completions = rows()
    whole = engine.score(prompts, completions, return_logits=True, top_k=3)
    monkeypatch.setattr(memory, "HEAD_NUMBERS", 7 * tiny.VOCAB)  # seven tokens at a time
    assert memory.head_tokens(tiny.VOCAB) == 7
    sizes = []
    softmax = torch.Tensor.log_softmax
    monkeypatch.setattr(
        torch.Tensor, "log_softmax", lambda x, dim: (sizes.append(len(x)), softmax(x, dim))[1]
    )
    parts = engine.score(prompts, completions, return_logits=True, top_k=3)
    assert max(sizes) == 7 and sum(sizes) == sum(map(len, completions))
    for name in ("per_token_logps", "entropy", "logits", "topk_logps"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), atol=2e-5, rtol=1e-5)


def test_batches_hold_few_tokens_of_completions_when_asked():
    lengths, same = [5, 9, 1, 30, 2, 2], [0, 0, 1, 1, 0, 1]
    batches = plan_batches(lengths, [4] * 6, same, 10_000, 12)
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 12 for batch in batches)
    assert plan_batches(lengths, [4] * 6, same, 10_000) == plan_batches(lengths, [4] * 6, same, 10_000, 10**9)


def test_bfloat16_on_the_generic_path_runs_on_weights_in_bfloat16():
    engine = TorchEngine(tiny.llama(), tiny.word_tokenizer())
    half = memory.half_copy(engine.model)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in engine.model.parameters()} == {torch.float32}
    assert {b.dtype for b in half.buffers()} == {b.dtype for b in engine.model.buffers()}
    prompts, completions = rows()
    rounded = TorchEngine(engine.model, engine.tokenizer, bf16=True).score(prompts, completions)
    expected = TorchEngine(half, engine.tokenizer).score(prompts, completions)
    torch.testing.assert_close(rounded.per_token_logps, expected.per_token_logps, atol=0, rtol=0)
    assert not torch.equal(
        rounded.per_token_logps, engine.score(prompts, completions).per_token_logps
    )  # it did round


def test_nothing_to_score(engine):
    assert engine.score([], []).per_token_logps.shape == (0, 0)
    assert engine.score(["w3", "w4"], [[], []]).per_token_logps.shape == (2, 0)


def test_errors_are_one_clear_line(engine):
    for prompts, completions, extra, words in (
        (["w3"], [[4], [5]], {}, "1 prompts and 2 completions"),
        ([""], [[4]], {}, "no tokens"),
        (["w3"], [[4] * 2000], {}, "context"),
        (["w3"], [[4]], {"top_k": 651}, "top_k=651"),
        (["w3"], [[650]], {}, "650"),
        (["w3"], [[4]], {"temperature": -1.0}, "temperature"),
    ):
        with pytest.raises(SdlabError, match=words) as caught:
            engine.score(prompts, completions, **extra)
        assert "\n" not in str(caught.value)
