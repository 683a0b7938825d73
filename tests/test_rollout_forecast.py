"""Forecasts of time and memory, on an engine whose speed is known."""

from types import SimpleNamespace

import pytest
import rollout_models as tiny
import torch

from sdlab.rollout import forecast
from sdlab.rollout.forecast import Speed, clock, measured_speed, needs_forecast
from sdlab.rollout.memory import CACHES, cache_bytes, sampling_bytes
from sdlab.rollout.types import SamplingParams
from sdlab.runs import needs
from sdlab.runs.plan import Plan
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig
from sdlab.train.sdpo import SDPOConfig


class Timed:
    """An engine that takes `sampled` seconds to sample a token, and `scored` to score one or to read one."""

    trains = False

    def __init__(self, sampled, scored):
        self.sampled, self.scored, self.time, self.asked = sampled, scored, 0.0, []
        self.tokenizer = tiny.word_tokenizer()

    def generate(self, prompts, params, progress=None):
        tokens, rows = params.max_completion_length, len(prompts) * params.num_generations
        self.asked.append((rows, tokens))
        ids = [[5] * len(text.split()) for text in prompts]
        self.time += self.sampled * rows * tokens + self.scored * sum(map(len, ids))
        self.time += 1.0 if len(self.asked) == 1 else 0.0  # the first call sets up what it needs
        return SimpleNamespace(
            prompt_ids=ids, lengths=torch.full((rows,), tokens), completions=lambda: [[5] * tokens] * rows
        )

    def score(self, prompts, completions, **options):
        self.time += self.scored * sum(
            len(text.split()) + len(ids) for text, ids in zip(prompts, completions, strict=True)
        )


def test_the_speed_is_that_of_the_engine_and_slow_engines_get_few_trials():
    fast = Timed(0.002, 0.0005)
    speed = measured_speed(fast, ["w3 w4 w5", "w6"], 100, 256, now=lambda: fast.time)
    assert (speed.sampled, speed.scored) == pytest.approx((0.002, 0.0005)) and speed.bytes is None
    assert fast.asked == [(2, 2), (8, 8), (32, 16)]
    assert speed.sampling(100, 256) == pytest.approx(51.2)
    assert speed.sampling(100, 256, prompts=50) == pytest.approx(
        51.2 + 50 * 2 * 0.0005
    )  # 2 tokens on average
    assert speed.sentence(100, 256).startswith(
        "100 completions take about 51 s if all reach the limit of 256"
    )
    assert "(500 tokens per second" in speed.sentence(100, 256)
    assert Speed(4.0, 1.0).rate == "0.2 tokens per second"
    slow = Timed(0.5, 0.1)
    measured_speed(slow, ["w3"], 100, 256, now=lambda: slow.time)
    assert slow.asked == [(2, 2), (8, 8)]
    slowest = Timed(5.0, 0.1)
    measured_speed(slowest, ["w3"], 100, 256, now=lambda: slowest.time)
    assert slowest.asked == [(2, 2)]
    few = Timed(0.002, 0.001)
    measured_speed(few, ["w3"], 2, 1, now=lambda: few.time)
    assert few.asked == [(2, 1)]


def test_the_time_of_reading_a_long_prompt_is_not_that_of_its_few_sampled_tokens():
    engine = Timed(0.01, 0.01)
    prompt = " ".join(["w3"] * 200)
    speed = measured_speed(engine, [prompt], 100, 256, now=lambda: engine.time)
    assert engine.asked == [(2, 2), (8, 8)]  # three quarters of the second trial are for the prompt
    assert (speed.sampled, speed.prompt) == pytest.approx((0.01, 200))
    # a clock that is wrong about one of the two: a sampled token still costs what a read one does
    engine.sampled = 0.0
    speed = measured_speed(engine, [prompt], 100, 256, now=lambda: engine.time)
    assert speed.sampled == speed.scored == pytest.approx(0.01)


def test_only_larger_models_need_a_forecast(monkeypatch):
    engine = SimpleNamespace(trains=True, model=tiny.llama())
    assert not needs_forecast(engine) and needs_forecast(Timed(1, 1))
    monkeypatch.setattr(forecast, "SMALL", 1000)
    assert needs_forecast(engine)


def test_memory_of_sampling_counts_weights_caches_and_choices():
    model = tiny.llama()
    weights = 4 * sum(p.numel() for p in model.parameters())
    row = 2 * 2 * 32 * 4 * 100  # keys and values, layers, 2 heads of 16, bytes, tokens
    assert cache_bytes(model) * 100 == row
    assert sampling_bytes(model, 10, 100) == weights + 10 * (2 * row + 12 * tiny.VOCAB)
    huge = CACHES // cache_bytes(model)  # one row fills the caches
    assert sampling_bytes(model, 10, huge) == weights + 2 * cache_bytes(model) * huge + 12 * tiny.VOCAB


def test_time_of_training_adds_steps_and_evaluations():
    speed, sizes = (
        Speed(0.01, 0.001),
        dict(steps=20, num_problems=4, num_generations=2, max_completion_length=50),
    )
    trial = dict(eval_every=10, eval_problems=8, eval_splits=("in-domain",), num_eval_generations=2)
    plan = Plan(**trial, final_problems=16, final_splits=("in-domain", "deeper"))
    evaluated = (2 * 8 + 2 * 16) * 2  # before the first step and after ten; two splits at the end
    step = 8 * 50 * 0.01 + 5 * 8 * (30 + 50) * 0.001
    expected = 20 * step + evaluated * 50 * 0.01
    assert needs.training_seconds(speed, "sdpo", SDPOConfig(**sizes), plan, 30) == pytest.approx(expected)
    less = 20 * 8 * (30 + 50) * 0.001  # GRPO has no teacher
    grpo = needs.training_seconds(speed, "grpo", GRPOConfig(**sizes), plan, 30)
    assert grpo == pytest.approx(expected - less)
    base = needs.training_seconds(speed, "base", TrainConfig(**sizes), plan, 30)
    assert base == pytest.approx(evaluated * 50 * 0.01)


def test_durations_in_words():
    assert [clock(seconds) for seconds in (4.4, 89, 600, 9000)] == ["4 s", "89 s", "10 min", "2.5 h"]


def test_evaluation_and_training_forecast_before_they_work(monkeypatch, tmp_path):
    from sdlab.results.evaluate import evaluate_benchmarks
    from sdlab.runs.training import train

    monkeypatch.setattr(forecast, "SMALL", 1000)
    notes, sampling = [], SamplingParams(2, 8)
    options = dict(sampling=sampling, limit=2, note=notes.append)
    evaluate_benchmarks("organism-small", ["in-domain"], **options)
    config = TrainConfig(max_completion_length=8)
    plan = Plan(eval_every=0, final_problems=2, final_splits=("in-domain",), num_eval_generations=1)
    train("base", config, tmp_path / "run", plan, model="organism-small", note=notes.append)
    assert [note.partition(" take about ")[0] for note in notes] == [
        "in-domain: 4 completions",
        "the evaluations",
    ]
    assert all("GiB of memory" in note for note in notes)
