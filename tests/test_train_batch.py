"""What a step draws, samples and updates, against counting, plain Hugging Face passes and closed forms."""

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest
import rollout_models as tiny
import torch

from sdlab.errors import SdlabError
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.train import batch
from sdlab.train.config import TrainConfig
from sdlab.train.losses import token_logps

TEMPLATE = "{{ messages[0].content }} {% if enable_thinking %}w3{% else %}w4{% endif %}"
ITEMS = [f"item {i}" for i in range(10)]
INF, NAN = float("inf"), float("nan")


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = tiny.word_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="module")
def engine(tokenizer):
    return TorchEngine(tiny.qwen3(layers=2), tokenizer)


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def problems(count: int) -> list:
    return [
        SimpleNamespace(id=f"p{i}", prompt=prompt, answer=f"answer {i}", feedback="")
        for i, prompt in enumerate(tiny.prompts(count))
    ]


def settings(**changes) -> TrainConfig:
    return TrainConfig(**dict(num_problems=3, num_generations=2, max_completion_length=6) | changes)


# Which problems


@pytest.mark.parametrize("count", [1, 3, 5, 7, 10])
def test_every_epoch_goes_through_all_items_once_in_an_order_of_its_own(count):
    drawn = [item for step in range(30) for item in batch.draw(ITEMS, count, 0, step)]
    epochs = [drawn[start : start + 10] for start in range(0, len(drawn) - 9, 10)]
    assert len(epochs) == 3 * count and all(sorted(epoch) == ITEMS for epoch in epochs)
    assert len(set(map(tuple, epochs))) == len(epochs)


def test_a_step_of_more_than_there_is_goes_round():
    drawn = batch.draw(ITEMS, 25, 0, 0)
    assert sorted(Counter(drawn).values()) == [2] * 5 + [3] * 5
    assert sorted(drawn[20:] + batch.draw(ITEMS, 25, 0, 1)[:5]) == ITEMS


def test_what_is_drawn_depends_on_seed_and_step_alone():
    assert batch.draw(ITEMS, 4, 3, 8) == batch.draw(ITEMS, 4, 3, 8)
    assert batch.draw(ITEMS, 10, 3, 8) != batch.draw(ITEMS, 10, 4, 8)
    assert batch.draw(ITEMS, 10, 3, 8) != batch.draw(ITEMS, 10, 3, 9)
    assert batch.draw(ITEMS, 10, 0, 1) != batch.draw(ITEMS, 10, 1, 0)  # not seed + step
    assert batch.draw(ITEMS, 10, 0, 0, key="traces") != batch.draw(ITEMS, 10, 0, 0)  # two things, two orders


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(SdlabError, match="at least one problem"):
        batch.draw([], 4, 0, 0)


# Rollouts


def test_a_steps_rollouts_depend_on_seed_and_step_alone(engine):
    pool = problems(3)  # all of them in every step
    first = batch.sample_batch(engine, pool, settings(seed=1), 4)
    again = batch.sample_batch(engine, pool, settings(seed=1), 4)
    assert [p.id for p in again.problems] == [p.id for p in first.problems]
    assert again.rollouts.texts == first.rollouts.texts and again.rollouts.prompts == first.rollouts.prompts
    assert torch.equal(again.rollouts.per_token_logps, first.rollouts.per_token_logps)

    def of_problem(b):
        return {p.id: b.rollouts.texts[2 * i : 2 * i + 2] for i, p in enumerate(b.problems)}

    for seed, step in ((1, 5), (2, 4), (4, 1)):
        other = of_problem(batch.sample_batch(engine, pool, settings(seed=seed), step))
        assert all(other[name] != texts for name, texts in of_problem(first).items())


def test_rewards_come_from_each_problems_own_truth(engine, monkeypatch):
    asked = []

    def grade(texts, truths):
        asked.extend(zip(texts, truths, strict=True))
        return [float(truth == "answer 1") for truth in truths]

    monkeypatch.setattr(batch, "grade", grade)
    got = batch.sample_batch(engine, problems(4), settings(num_problems=4, num_generations=3), 0)
    assert [text for text, _ in asked] == got.rollouts.texts
    assert [truth for _, truth in asked] == [p.answer for p in got.problems for _ in range(3)]
    assert (
        got.rewards.tolist() == [float(p.id == "p1") for p in got.problems for _ in range(3)]
        and got.rewards.sum() == 3
    )
    assert got.rollouts.prompts == [f"{p.prompt} w3" for p in got.problems]


def test_a_boxed_answer_is_graded(engine, monkeypatch):
    pool = problems(2)
    monkeypatch.setattr(
        TorchEngine,
        "generate",
        lambda *_: SimpleNamespace(texts=["\\boxed{7}", "7", "so \\boxed{6}", "\\boxed{answer 1}"]),
    )
    pool[0].answer = pool[1].answer = "7"
    assert batch.sample_batch(engine, pool, settings(num_problems=2), 0).rewards.tolist() == [
        1.0,
        0.0,
        0.0,
        0.0,
    ]


def test_thinking_temperature_and_length_reach_the_sampler(engine):
    got = batch.sample_batch(
        engine, problems(3), settings(thinking=False, temperature=0.6, max_completion_length=4), 0
    )
    assert (
        all(prompt.endswith(" w4") for prompt in got.rollouts.prompts)
        and got.rollouts.completion_ids.shape[1] == 4
    )
    for row, completion in enumerate(got.rollouts.completions()):
        prompt = got.rollouts.prompt_ids[row // 2]
        with torch.no_grad():
            logits = engine.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        wanted = token_logps(logits, torch.tensor(completion), 0.6)
        assert (got.rollouts.per_token_logps[row, : len(completion)] - wanted).abs().max() < 1e-4


# Minibatches and micro-batches


@pytest.mark.parametrize("rows, count", [(8, 2), (7, 3), (3, 3), (2, 5), (1, 1), (0, 2)])
def test_minibatches_are_nearly_equal_parts_in_order(rows, count):
    parts = batch.minibatches(range(10, 10 + rows), count)
    assert [row for part in parts for row in part] == list(range(10, 10 + rows))
    assert len(parts) == min(rows, count) and all(parts)
    assert not parts or max(map(len, parts)) - min(map(len, parts)) <= 1


class Case:
    """Twelve completions of four prompts, two of them the same text, in no order; and their loss."""

    def __init__(self, engine):
        texts = tiny.prompts(3, 2, 25, seed=3)
        order = [0, 1, 2, 1, 0, 2, 2, 1, 0, 1, 0, 2]
        generator = torch.Generator().manual_seed(1)
        lengths = [3, 9, 1, 14, 5, 5, 2, 7, 11, 4, 1, 8]
        self.prompts = [texts[i] for i in order]
        self.completions = [torch.randint(3, tiny.VOCAB, (n,), generator=generator).tolist() for n in lengths]
        self.weights = torch.randn(12, generator=generator)
        self.engine, self.rows = engine, batch.Rows(engine, self.prompts, self.completions)

    def loss_of(self, part):
        logits = self.rows.logits(self.engine.model, part)
        ids = torch.tensor([token for i in part for token in self.completions[i]])
        weights = torch.cat([self.weights[i].expand(len(self.completions[i])) for i in part])
        return (weights * token_logps(logits, ids)).sum()

    def plain(self):
        """Loss and gradients in one backward pass over full rows."""
        loss = 0.0
        for prompt, completion, weight in zip(self.prompts, self.completions, self.weights, strict=True):
            ids = self.engine.tokenizer(prompt)["input_ids"]
            logits = self.engine.model(torch.tensor([ids + completion])).logits[0, len(ids) - 1 : -1]
            loss = loss + weight * token_logps(logits, torch.tensor(completion)).sum()
        return loss.item(), torch.autograd.grad(loss, list(self.engine.model.parameters()))

    def accumulated(self, batch_tokens, times: int = 1):
        self.engine.model.zero_grad()
        for _ in range(times):
            total = batch.accumulate(self.engine.model, self.rows.plan(range(12), batch_tokens), self.loss_of)
        gradients = [parameter.grad.clone() for parameter in self.engine.model.parameters()]
        self.engine.model.zero_grad()
        return total, gradients


@pytest.fixture(scope="module")
def case(engine):
    return Case(engine)


def test_rows_hold_every_prompt_once_and_give_each_row_its_logits(case):
    assert sorted(case.rows.prompt_ids) == sorted(case.engine.tokenizer(list(set(case.prompts)))["input_ids"])
    part = [7, 0, 4, 2]
    with torch.no_grad():
        got = case.rows.logits(case.engine.model, part)
        for i in part:
            ids = case.engine.tokenizer(case.prompts[i])["input_ids"]
            wanted = case.engine.model(torch.tensor([ids + case.completions[i]])).logits[0, len(ids) - 1 : -1]
            mine, got = got[: len(wanted)], got[len(wanted) :]
            assert (mine - wanted).abs().max() < 1e-4
    assert not len(got)


@pytest.mark.parametrize("model", [tiny.qwen3, tiny.llama])
def test_bfloat16_is_as_near_as_torchs_autocast_and_the_weights_stay_float32(tokenizer, model):
    """On the fast path and the generic one, against the model's own forward; random weights, so that
    rounding shows.
    """
    engine = TorchEngine(model(), tokenizer)
    exact, rounded = Case(engine), Case(engine.in_bf16(True))

    def gradients(backward):
        return torch.cat([part.flatten() for part in backward])

    wanted, got = (gradients(one.accumulated(30)[1]) for one in (exact, rounded))
    with torch.autocast("cpu", torch.bfloat16):
        theirs = gradients(exact.plain()[1])
    assert (
        got.dtype == torch.float32
        and 0 < (got - wanted).norm() < 1.1 * (theirs - wanted).norm() < 0.1 * wanted.norm()
    )
    with torch.no_grad():
        wanted, got = (one.rows.logits(engine.model, range(12)) for one in (exact, rounded))
        assert wanted.dtype == got.dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            prompts = [engine.tokenizer(prompt)["input_ids"] for prompt in exact.prompts]
            rows = [
                engine.model(torch.tensor([ids + more])).logits[0, len(ids) - 1 : -1]
                for ids, more in zip(prompts, exact.completions, strict=True)
            ]
    assert 0 < (got - wanted).norm() < 1.1 * (torch.cat(rows) - wanted).norm() < 0.1 * wanted.norm()
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("batch_tokens", [1, 30, 45, 10**6])
def test_a_plan_has_every_row_once_within_the_limit(case, batch_tokens):
    rows = [11, 3, 4, 0, 8, 5, 9]
    parts = case.rows.plan(rows, batch_tokens)
    assert sorted(row for part in parts for row in part) == sorted(rows)
    sizes = []
    for part in parts:
        prompts = {case.prompts[i] for i in part}
        sizes.append(
            sum(len(case.completions[i]) for i in part)
            + sum(len(case.engine.tokenizer(prompt)["input_ids"]) for prompt in prompts)
        )
        assert len(part) == 1 or sizes[-1] <= batch_tokens
    in_order = [case.prompts[row] for part in parts for row in part]
    assert sum(a != b for a, b in itertools.pairwise(in_order)) == 2  # rows of one prompt are neighbours
    assert (len(parts) == 1) == (batch_tokens == 10**6)


def test_many_rows_make_an_even_number_of_like_parts(engine):
    sizes = [40 + 7 * (i % 11) for i in range(96)]
    rows = batch.Rows(engine, [f"w{i // 8 + 3} w4" for i in range(96)], [[5] * size for size in sizes])
    for batch_tokens in (700, 1000, 3000, 5000):
        parts = rows.plan(range(96), batch_tokens)
        tokens = [sum(sizes[i] for i in part) for part in parts]
        assert len(parts) % 2 == 0 and max(tokens) - min(tokens) <= max(sizes) + 8


def test_rows_too_long_for_the_model_are_an_error(engine):
    with pytest.raises(SdlabError, match="exceed the model's context of 1024"):
        batch.Rows(engine, ["w3 w4"], [[5] * 1023])


@pytest.mark.parametrize("batch_tokens", [1, 60, 200, 10**6])
def test_micro_batches_add_up_to_one_big_backward(case, batch_tokens):
    total, gradients = case.accumulated(batch_tokens)
    wanted_total, wanted = case.plain()
    assert total == pytest.approx(wanted_total, rel=1e-5)
    for got, gradient in zip(gradients, wanted, strict=True):
        assert (got - gradient).abs().max() < 1e-5 * gradient.abs().max()


def test_two_threads_change_no_bit_from_one_repetition_to_the_next(case, two_threads):
    runs = [case.accumulated(30) for _ in range(4)]
    assert len(case.rows.plan(range(12), 30)) > 3
    wanted_total, wanted = case.plain()
    for total, gradients in runs:
        assert total == runs[0][0] == pytest.approx(wanted_total, rel=1e-5)
        assert all(map(torch.equal, gradients, runs[0][1]))
    assert all((a - b).abs().max() < 1e-5 * b.abs().max() for a, b in zip(runs[0][1], wanted, strict=True))
    assert torch.get_num_threads() == 2


def test_a_large_vocabulary_makes_micro_batches_smaller(case, monkeypatch):
    monkeypatch.setattr(case.rows, "head_tokens", 50)
    assert case.rows.plan(range(12), 10_000) == case.rows.plan(range(12), 50)
    assert batch.Rows(case.engine, case.prompts, case.completions).head_tokens > 10_000


def test_gradients_are_added_to_those_that_are_there(case):
    once, twice = case.accumulated(200)[1], case.accumulated(200, times=2)[1]
    for a, b in zip(once, twice, strict=True):
        torch.testing.assert_close(b, 2 * a)


def test_frozen_weights_stay_without_gradient(tokenizer):
    case = Case(TorchEngine(tiny.qwen3(layers=1), tokenizer))
    model = case.engine.model
    model.model.layers[0].mlp.requires_grad_(False)
    batch.accumulate(model, case.rows.plan(range(12), 200), case.loss_of)
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == [
        f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up", "down")
    ]


def test_no_parts_no_gradient(case):
    assert batch.accumulate(case.engine.model, [], case.loss_of) == 0.0
    assert all(parameter.grad is None for parameter in case.engine.model.parameters())


# One update


def small_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def with_gradient(model, scale: float = 1.0) -> torch.Tensor:
    """Sets fixed gradients; returns them as one vector."""
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = scale * torch.arange(1.0, parameter.numel() + 1).view_as(parameter) * (-1) ** number
    return vector(parameter.grad for parameter in model.parameters())


def vector(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten().clone() for tensor in tensors])


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_gradient_longer_than_the_limit_is_shortened_to_it(scale):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=123.0)  # the step's rate replaces it
    before, gradient = vector(model.parameters()), with_gradient(model, scale)
    length = gradient.norm().item()
    config = settings(learning_rate=0.5, warmup_steps=0, max_grad_norm=2.0)
    assert batch.apply_update(model, optimizer, config, 0, 1.0) == pytest.approx(length)
    moved = before - vector(model.parameters())
    torch.testing.assert_close(moved, 0.5 * gradient * min(1.0, 2.0 / length), rtol=1e-4, atol=1e-6)
    assert moved.norm().item() == pytest.approx(0.5 * min(2.0, length), rel=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("warmup, shares", [(4, [0.25, 0.5, 0.75, 1, 1, 1]), (1, [1, 1]), (0, [1, 1])])
def test_the_rate_rises_linearly_and_then_stays(warmup, shares):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    config = settings(learning_rate=0.1, warmup_steps=warmup, max_grad_norm=1000.0)
    for step, share in enumerate(shares):
        before, gradient = vector(model.parameters()), with_gradient(model)
        batch.apply_update(model, optimizer, config, step, 0.0)
        torch.testing.assert_close(
            before - vector(model.parameters()), 0.1 * share * gradient, rtol=1e-4, atol=1e-6
        )
        assert batch.learning_rate(config, step) == pytest.approx(0.1 * share)


def test_the_optimizer_is_adam_without_weight_decay():
    """Adam's first step is the rate times the sign of the gradient; a weight without gradient stays."""
    model = small_model()
    config = settings(learning_rate=1e-3, warmup_steps=0)
    optimizer = batch.make_optimizer(model, config)
    before, gradient = vector(model.parameters()), with_gradient(model)
    model.bias.grad.zero_()
    batch.apply_update(model, optimizer, config, 0, 1.0)
    wanted = before - 1e-3 * gradient.sign()
    wanted[6:] = before[6:]
    torch.testing.assert_close(vector(model.parameters()), wanted, rtol=0, atol=1e-6)


def test_an_interrupted_runs_gradients_do_not_enter_the_next():
    model = small_model()
    with_gradient(model)
    batch.make_optimizer(model, settings())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "loss, entry", [(NAN, 1.0), (INF, 1.0), (-INF, 1.0), (1.0, NAN), (1.0, INF), (1.0, -INF)]
)
def test_what_is_not_finite_is_refused_and_leaves_everything_as_it_was(loss, entry):
    model, config = small_model(), settings(learning_rate=0.0375, warmup_steps=0)
    optimizer = batch.make_optimizer(model, config)
    with_gradient(model)
    batch.apply_update(model, optimizer, config, 0, 1.0)
    weights, moments = (
        vector(model.parameters()),
        vector(state["exp_avg"] for state in optimizer.state.values()),
    )
    with_gradient(model)
    model.bias.grad[1] = entry
    with pytest.raises(SdlabError, match=r"step 17: .*not finite.*0\.0375") as caught:
        batch.apply_update(model, optimizer, config, 17, loss)
    assert "\n" not in str(caught.value)
    assert torch.equal(vector(model.parameters()), weights)
    assert torch.equal(vector(state["exp_avg"] for state in optimizer.state.values()), moments)
    with_gradient(model)
    batch.apply_update(model, optimizer, config, 18, 1.0)  # and the next one goes on
    assert torch.isfinite(vector(model.parameters())).all()


# Settings


@pytest.mark.parametrize(
    "name, value",
    [
        ("steps", 0),
        ("num_problems", 0),
        ("num_generations", 1),
        ("max_completion_length", 0),
        ("num_minibatches", 0),
        ("batch_tokens", 0),
        ("num_problems", 2.0),
        ("warmup_steps", -1),
        ("learning_rate", 0.0),
        ("learning_rate", NAN),
        ("learning_rate", INF),
        ("max_grad_norm", -1.0),
        ("temperature", 0.0),
    ],
)
def test_settings_out_of_range_are_named_with_their_value(name, value):
    with pytest.raises(SdlabError, match=f"^{name}={value!r} is not allowed"):
        settings(**{name: value})
