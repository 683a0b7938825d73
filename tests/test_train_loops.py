"""The three loops: every gradient against brute force over full rows, every column against counting, and
what may go wrong.
"""

import copy
import math
import re
import warnings
from dataclasses import replace

import pandas
import pytest
import rollout_models as tiny
import torch

from sdlab.errors import SdlabError
from sdlab.organism.pretrain import PretrainConfig, build_model
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.seeds import stable_int
from sdlab.text.prompt import render_prompt
from sdlab.train import batch, grpo, log, losses, session
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.train.sdpo import SDPOConfig, run_sdpo
from sdlab.train.sft import SFTConfig, Trace, run_sft
from sdlab.train.teacher import teacher_view
from sdlab.world.splits import load_split

CONFIGS = {"sft": SFTConfig, "grpo": GRPOConfig, "sdpo": SDPOConfig}
P, G, T = 3, 4, 12
PROBLEMS = [replace(problem, answer=str(i)) for i, problem in enumerate(load_split("train", limit=6))]
TRACES = [
    Trace(problem, f"<think>\nmaybe {i}.\n</think>\n\n\\boxed{{{problem.answer}}}")
    for i, problem in enumerate(PROBLEMS)
]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def start(tokenizer):
    """Random weights, sharpened so that tokens depend on what came before and some completions end."""
    shape = PretrainConfig(hidden_size=64, num_layers=1, intermediate_size=128)
    model = tiny.sharpen(
        build_model(shape, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id), 2.0, 5.0
    )
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(100, 140)]
    return model


@pytest.fixture
def engine(start, tokenizer):
    return TorchEngine(copy.deepcopy(start), tokenizer)


@pytest.fixture
def graded(monkeypatch):
    """A random model is never right: here whoever answers problem 0 is, of other groups the second and, in
    every other one, the third.
    """

    def grade(texts, truths):
        return [
            float(truth == "0" or i % G == 1 or (i % G == 2 and i // G % 2 == 1))
            for i, truth in enumerate(truths)
        ]

    monkeypatch.setattr(batch, "grade", grade)


def all_graded(monkeypatch, reward: float):
    monkeypatch.setattr(batch, "grade", lambda texts, truths: [reward] * len(texts))


def settings(method: str, **changes):
    common = dict(
        steps=2,
        num_problems=P,
        num_generations=G,
        max_completion_length=T,
        learning_rate=1e-3,
        warmup_steps=0,
        batch_tokens=100,
    )
    return CONFIGS[method](**common | ({"batch_size": 4} if method == "sft" else {}) | changes)


def train(method: str, engine, config=None, **options):
    given = (engine, PROBLEMS, TRACES) if method == "sft" else (engine, PROBLEMS)
    return {"sft": run_sft, "grpo": run_grpo, "sdpo": run_sdpo}[method](
        *given, config or settings(method), **options
    )


def weights(model) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def untimed(table: pandas.DataFrame) -> pandas.DataFrame:
    return table[[name for name in table if name not in log.TIMED]]


class Recorder:
    """Every update a run makes, (step, weights before, loss, gradient), and every batch it samples."""

    def __init__(self, monkeypatch):
        self.updates, self.batches = [], []
        update, sample = session.apply_update, session.sample_batch

        def recorded_update(model, optimizer, config, step, loss):
            self.updates.append(
                (
                    step,
                    copy.deepcopy(model),
                    loss,
                    [parameter.grad.clone() for parameter in model.parameters()],
                )
            )
            return update(model, optimizer, config, step, loss)

        def recorded_sample(*arguments):
            self.batches.append(sample(*arguments))
            return self.batches[-1]

        monkeypatch.setattr(session, "apply_update", recorded_update)
        monkeypatch.setattr(session, "sample_batch", recorded_sample)


def full_logits(model, prompts: list[list[int]], completions: list[list[int]], width: int) -> torch.Tensor:
    """(B, width, V) by the Hugging Face model on one full row at a time, zero after a completion's end."""
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        rows.append(torch.cat([logits, logits.new_zeros(width - len(completion), logits.shape[1])]))
    return torch.stack(rows)


def check_update(model, loss: torch.Tensor, recorded_loss: float, recorded: list[torch.Tensor]) -> None:
    assert recorded_loss == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)
    for (name, _), got, wanted in zip(
        model.named_parameters(), recorded, torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        assert wanted.abs().max() > 0 and (got - wanted).abs().max() < 1e-4 * wanted.abs().max(), name


# Gradients by brute force


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "temperature": 0.7,
            "scale_rewards": True,
            "aggregation": "sequence_mean",
            "epsilon_low": 0.05,
            "epsilon_high": 0.1,
        },
    ],
    ids=["as the paper", "other settings"],
)
def test_grpos_updates_are_those_of_all_rows_at_once(engine, graded, monkeypatch, changes):
    """Rows without advantage included: leaving them out of the passes leaves nothing out of the gradient."""
    config, recorder = settings("grpo", steps=1, learning_rate=1e-2, **changes), Recorder(monkeypatch)
    table = train("grpo", engine, config)
    (sampled,) = recorder.batches
    rollouts, rewards = sampled.rollouts, sampled.rewards.view(P, G)
    spread = rewards.std(1, keepdim=True) + 1e-4 if config.scale_rewards else 1.0
    advantages = ((rewards - rewards.mean(1, keepdim=True)) / spread).flatten()
    assert 0 < (advantages == 0).sum() < P * G and table.used_rows[0] == (advantages != 0).sum()
    assert len(recorder.updates) == config.num_minibatches == table.updates[0] == 2
    prompts = [ids for ids in rollouts.prompt_ids for _ in range(G)]
    clipped = []
    for number, (_step, model, loss, gradient) in enumerate(recorder.updates):
        rows = slice(number * P * G // 2, (number + 1) * P * G // 2)
        mask, old, ids = (
            x[rows] for x in (rollouts.completion_mask, rollouts.per_token_logps, rollouts.completion_ids)
        )
        logits = full_logits(model, prompts[rows], rollouts.completions()[rows], mask.shape[1])
        ratio = (
            (logits / config.temperature).log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1) - old
        ).exp()
        gain, bounded = advantages[rows, None], ratio.clamp(1 - config.epsilon_low, 1 + config.epsilon_high)
        each = -torch.minimum(ratio * gain, bounded * gain) * mask
        wanted = (
            (each.sum(1) / mask.sum(1)).mean()
            if config.aggregation == "sequence_mean"
            else each.sum() / mask.sum()
        )
        check_update(model, wanted, loss, gradient)
        clipped.append(((bounded != ratio) & mask).sum().item())
    assert clipped[0] == 0 < clipped[1]  # before the first update every ratio is one


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "teacher_model_kind": "ema",
            "teacher_update_rate": 0.5,
            "distillation_alpha": 0.0,
            "distillation_topk": None,
            "context": "solution_no_think",
        },
        {
            "teacher_model_kind": "live",
            "distillation_alpha": 1.0,
            "distillation_add_tail": False,
            "distillation_is_clip": None,
            "temperature": 0.7,
        },
        {"aggregation": "sequence_mean", "distillation_topk": 7, "distillation_is_clip": 1.01},
    ],
    ids=["as the paper", "ema", "live", "other settings"],
)
def test_sdpos_updates_are_those_of_the_whole_batch_and_vocabulary(engine, graded, monkeypatch, changes):
    config, recorder = settings("sdpo", learning_rate=1e-2, **changes), Recorder(monkeypatch)
    teacher = copy.deepcopy(engine.model)
    table = train("sdpo", engine, config)
    for step, sampled in enumerate(recorder.batches):
        rollouts, mask = sampled.rollouts, sampled.rollouts.completion_mask
        told, distilled = [], []
        for row in range(P * G):
            right = [i for i in range(P * G) if i // G == row // G and i != row and sampled.rewards[i] == 1]
            text = rollouts.texts[right[0]] if right else ""
            if config.context == "solution_no_think":
                text = text.split("</think>")[-1].split("<think>")[0].strip()
            question = sampled.problems[row // G].prompt
            if text:
                question += f"\n\nCorrect solution: {text}\n\nCorrectly solve the original question."
                distilled.append(row)
            told.append(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
        assert 0 < len(distilled) < P * G and table.used_rows[step] == len(distilled)
        told = engine.tokenizer(told, add_special_tokens=False)["input_ids"]
        asked = [ids for ids in rollouts.prompt_ids for _ in range(G)]
        updates = [update for update in recorder.updates if update[0] == step]
        assert len(updates) == 2
        for number, (_, model, loss, gradient) in enumerate(updates):
            half = distilled[len(distilled) * number // 2 : len(distilled) * (number + 1) // 2]
            with torch.no_grad():
                informed = full_logits(
                    model if config.teacher_model_kind == "live" else teacher,
                    told,
                    rollouts.completions(),
                    mask.shape[1],
                )
            student = (
                full_logits(model, asked, rollouts.completions(), mask.shape[1]) / config.temperature
            ).log_softmax(-1)
            now = student.gather(-1, rollouts.completion_ids[..., None]).squeeze(-1)
            ratio = (
                None
                if config.distillation_is_clip is None
                else (now - rollouts.per_token_logps).detach().exp().clamp(max=config.distillation_is_clip)
            )
            wanted = losses.sdpo_loss(
                student,
                (informed / config.temperature).log_softmax(-1),
                mask,
                torch.tensor([row in half for row in range(P * G)]),
                config.distillation_alpha,
                config.distillation_topk,
                config.distillation_add_tail,
                ratio,
                config.aggregation,
            )
            check_update(model, wanted, loss, gradient)
        if (
            config.teacher_model_kind == "ema" and step == 0
        ):  # the teacher of the next step is halfway to the student at its beginning
            after = next(update[1] for update in recorder.updates if update[0] == 1)
            with torch.no_grad():
                for mine, theirs in zip(teacher.parameters(), after.parameters(), strict=True):
                    mine.copy_((mine + theirs) / 2)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
def test_sfts_update_is_the_mean_over_the_traces_tokens(engine, graded, monkeypatch, dtype, tolerance):
    """In bfloat16 too, whose numbers above 256 are no longer exact: token ids must not pass through it."""
    engine.model.to(dtype)
    recorder = Recorder(monkeypatch)
    train("sft", engine, settings("sft", steps=1, batch_size=6))
    ((_, model, loss, gradient),) = recorder.updates
    total, count = 0.0, 0
    for trace in TRACES:  # six of six, in whatever order
        prompt = engine.tokenizer(
            f"<|im_start|>user\n{trace.problem.prompt}<|im_end|>\n<|im_start|>assistant\n"
        )["input_ids"]
        ids = torch.tensor(engine.tokenizer(trace.completion + "<|im_end|>")["input_ids"])
        assert ids[-1] == engine.tokenizer.eos_token_id and ids.max() > 256
        (logits,) = full_logits(model, [prompt], [ids.tolist()], len(ids))
        total, count = total - logits.log_softmax(-1).gather(-1, ids[:, None]).sum(), count + len(ids)
    if dtype == torch.float32:
        check_update(model, total / count, loss, gradient)
    assert loss == pytest.approx((total / count).item(), rel=tolerance)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_before_the_first_update_the_sampled_probabilities_are_the_recomputed_ones(
    engine, graded, monkeypatch, temperature
):
    differences, token_loss = [], grpo.grpo_token_loss

    def recorded(now, old, *rest):
        differences.append((now - old).abs().max().item())
        return token_loss(now, old, *rest)

    monkeypatch.setattr(grpo, "grpo_token_loss", recorded)
    train("grpo", engine, settings("grpo", steps=1, temperature=temperature, num_minibatches=1))
    assert len(differences) > 1 and max(differences) < 1e-4
    differences.clear()
    train(
        "grpo",
        engine,
        settings("grpo", steps=1, temperature=temperature, num_minibatches=2, batch_tokens=10**6),
    )
    assert len(differences) == 2 and differences[0] < 1e-4 < differences[1]


# One row per step


@pytest.mark.parametrize("method", CONFIGS)
def test_a_row_says_what_was_sampled_and_done(engine, graded, monkeypatch, method):
    recorder, seen, first = (
        Recorder(monkeypatch),
        [],
        TorchEngine(copy.deepcopy(engine.model), engine.tokenizer),
    )
    config = settings(method, learning_rate=1e-2, warmup_steps=4, seed=5, temperature=0.8)
    table = train(method, engine, config, on_step=seen.append)
    assert tuple(table.columns) == log.COLUMNS and list(table.step) == [0, 1]
    pandas.testing.assert_frame_equal(table, pandas.DataFrame(seen), check_exact=True)
    for row, sampled in zip(table.itertuples(), recorder.batches, strict=True):
        rollouts, step = sampled.rollouts, row.Index
        lengths = [len(completion) for completion in rollouts.completions()]
        ends = [completion[-1] in engine.eos_ids for completion in rollouts.completions()]
        marks = [
            len(
                re.findall(
                    r"\b(wait|hmm|perhaps|maybe|actually|alternatively|seems|might|likely|check)\b",
                    text.lower(),
                )
            )
            for text in rollouts.texts
        ]
        assert row.reward == pytest.approx(sum(sampled.rewards.tolist()) / (P * G)) and 0 < row.reward < 1
        assert row.length == pytest.approx(sum(lengths) / len(lengths))
        assert row.markers == pytest.approx(sum(marks) / len(marks)) and row.density == pytest.approx(
            1000 * sum(marks) / sum(lengths), rel=1e-5
        )
        assert row.truncated == pytest.approx(1 - sum(ends) / len(ends)) and 0 < row.truncated < 1
        assert row.learning_rate == pytest.approx(config.learning_rate * (step + 1) / 4)
        updates = [update for update in recorder.updates if update[0] == step]
        norms = [
            math.sqrt(sum(gradient.square().sum().item() for gradient in update[3])) for update in updates
        ]
        assert row.updates == len(updates) == config.num_minibatches
        assert row.loss == pytest.approx(sum(update[2] for update in updates) / len(updates))
        assert row.grad_norm == pytest.approx(sum(norms) / len(norms), rel=1e-4)
        assert row.seconds >= row.seconds_sampling + row.seconds_update > 0
        assert row.tokens_per_second == pytest.approx(sum(lengths) / row.seconds)
        groups = sampled.rewards.view(P, G).tolist()
        assert row.pass_at_g == sum(max(group) for group in groups) / P
        # surprise and k3 by plain passes: the policy that sampled, and the weights training started from
        surprise, divergence = [], []
        policy = first.model if step == 0 else updates[0][1]
        for i, completion in enumerate(rollouts.completions()):
            prompt, at = rollouts.prompt_ids[i // G], (range(len(completion)), completion)
            with torch.no_grad():
                now, then = (
                    (full_logits(m, [prompt], [completion], len(completion))[0] / 0.8).log_softmax(-1)[at]
                    for m in (policy, first.model)
                )
            surprise += (-now).tolist()
            if i % G == 0:
                divergence += ((then - now).exp() - 1 - (then - now)).tolist()
        assert row.entropy == pytest.approx(sum(surprise) / len(surprise), rel=1e-4)
        assert row.kl_to_base == pytest.approx(sum(divergence) / len(divergence), rel=1e-3, abs=1e-6)
        assert (row.kl_to_base < 1e-6) == (step == 0)


def test_the_probe_of_sft_is_a_sample_of_the_problems(engine, graded):
    """The first row's numbers come from the untrained model's own completions, not from the traces."""
    prompts = [render_prompt(engine.tokenizer, problem) for problem in batch.draw(PROBLEMS, P, 0, 0)]
    wanted = engine.generate(prompts, SamplingParams(G, T, seed=stable_int("rollouts", 0, 0)))
    row = train("sft", engine, settings("sft", steps=1)).iloc[0]
    assert row.length == pytest.approx(wanted.lengths.float().mean().item())
    assert row.truncated == pytest.approx(wanted.truncated.float().mean().item())
    assert row.used_rows == 4


class Tokens:
    """What the signals of a step should be, token by token, from full rows through the Hugging Face model."""

    def __init__(self, sampled, rows, student, config, teacher=None, prompts=None):
        rollouts = sampled.rollouts
        self.forks, self.ratios, self.gains, self.teacher, self.divergence = [], [], [], [], []
        for i in rows:
            ids = rollouts.completions()[i]
            at = (range(len(ids)), ids)
            own = [rollouts.prompt_ids[i // G]]
            with torch.no_grad():
                s = full_logits(student, own, [ids], len(ids))[0].div(config.temperature).log_softmax(-1)
            self.forks += [-(row.exp() * row).sum().item() > 0.5 for row in s]
            self.ratios += (s[at] - rollouts.per_token_logps[i, : len(ids)]).exp().tolist()
            if teacher is None:
                continue
            with torch.no_grad():
                t = full_logits(teacher, [prompts[i]], [ids], len(ids))[0]
            t = t.div(config.temperature).log_softmax(-1)
            self.teacher += [-(row.exp() * row).sum().item() for row in t]
            self.gains += (t[at] - s[at]).tolist()
            mixed = (s.exp() + t.exp()) / 2
            self.divergence += (
                ((s.exp() * (s - mixed.log())).sum(-1) + (t.exp() * (t - mixed.log())).sum(-1)) / 2
            ).tolist()


def mean(values) -> float:
    return sum(values) / len(values)


def test_the_signals_of_grpo_are_those_of_all_tokens(engine, graded, monkeypatch):
    recorder = Recorder(monkeypatch)
    config = settings(
        "grpo", steps=1, learning_rate=1e-2, temperature=0.8, epsilon_low=0.01, epsilon_high=0.02
    )
    row = train("grpo", engine, config).iloc[0]
    (sampled,) = recorder.batches
    rewards = sampled.rewards.view(P, G)
    advantages = (rewards - rewards.mean(1, keepdim=True)).flatten().tolist()
    forks, ratios, clipped = [], [], []
    for number, (_, student, *_) in enumerate(recorder.updates):
        rows = [i for i in range(number * P * G // 2, (number + 1) * P * G // 2) if advantages[i]]
        tokens = Tokens(sampled, rows, student, config)
        forks, ratios = forks + tokens.forks, ratios + tokens.ratios
        gains = [advantages[i] for i in rows for _ in sampled.rollouts.completions()[i]]
        clipped += [r > 1.02 if a > 0 else r < 0.99 for r, a in zip(tokens.ratios, gains, strict=True)]
    assert 0 < mean(clipped) < 1 and max(ratios) > 1.01
    assert row.fork_rate == pytest.approx(mean(forks), abs=2 / len(forks))
    assert row.ratio_mean == pytest.approx(mean(ratios), rel=1e-4)
    assert row.ratio_max == pytest.approx(max(ratios), rel=1e-3)
    assert row.clip_fraction == pytest.approx(mean(clipped), abs=2 / len(clipped))
    assert row.idle_groups == sum(len(set(group)) == 1 for group in rewards.tolist()) / P > 0
    assert row[["teacher_entropy", "u_mean", "u_spread", "divergence"]].isna().all()


def test_the_signals_of_sdpo_are_those_of_all_tokens(engine, graded, monkeypatch):
    first, recorder = copy.deepcopy(engine.model), Recorder(monkeypatch)
    config = settings(
        "sdpo",
        steps=1,
        learning_rate=1e-2,
        temperature=0.8,
        distillation_topk=None,
        distillation_is_clip=1.02,
    )
    row = train("sdpo", engine, config).iloc[0]
    (sampled,) = recorder.batches
    view = teacher_view(
        engine.tokenizer, sampled.problems, sampled.rollouts.texts, sampled.rewards, G, config, 0
    )
    prompts = engine.encode(view.prompts, T)
    distilled = [i for i in range(P * G) if view.distilled[i]]
    half, parts = len(distilled) // 2, []
    for rows, (_, student, *_) in zip((distilled[:half], distilled[half:]), recorder.updates, strict=True):
        parts.append(Tokens(sampled, rows, student, config, first, prompts))
    forks, ratios, gains, teacher, divergence = (
        [value for part in parts for value in getattr(part, name)]
        for name in ("forks", "ratios", "gains", "teacher", "divergence")
    )
    spread = math.sqrt(mean([(gain - mean(gains)) ** 2 for gain in gains]))
    over = [ratio > 1.02 for ratio in ratios]
    assert 0 < mean(over) < 1 and spread > 0.01
    assert row.fork_rate == pytest.approx(mean(forks), abs=2 / len(forks))
    assert row.ratio_mean == pytest.approx(mean(ratios), rel=1e-4)
    assert row.ratio_max == pytest.approx(max(ratios), rel=1e-3)
    assert row.clip_fraction == pytest.approx(mean(over), abs=2 / len(over))
    assert row.u_mean == pytest.approx(mean(gains), rel=1e-3, abs=1e-5)
    assert row.u_spread == pytest.approx(spread, rel=1e-3)
    assert row.teacher_entropy == pytest.approx(mean(teacher), rel=1e-4)
    assert row.divergence == pytest.approx(mean(divergence), rel=1e-3)
    taught = {i // G for i in distilled}
    assert row.idle_groups == pytest.approx(1 - len(taught) / P)


def test_the_signals_of_sft_are_about_its_traces(engine, graded):
    row = train("sft", engine, settings("sft", steps=1)).iloc[0]
    assert 0 <= row.fork_rate <= 1 and 0 < row.pass_at_g <= 1
    nothing = [
        "teacher_entropy",
        "u_mean",
        "u_spread",
        "divergence",
        "clip_fraction",
        "ratio_mean",
        "ratio_max",
    ]
    assert row[[*nothing, "idle_groups"]].isna().all()


# The same seed, the same run


@pytest.mark.slow
@pytest.mark.parametrize("method", CONFIGS)
def test_a_seed_gives_the_same_bits_and_another_others(start, tokenizer, graded, monkeypatch, method):
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        results = []
        for seed in (1, 1, 2):
            engine = TorchEngine(copy.deepcopy(start), tokenizer)
            results.append(
                (untimed(train(method, engine, settings(method, seed=seed))), weights(engine.model))
            )
    finally:
        torch.set_num_threads(before)
    (table, trained), (again, same_seed), (other, other_seed) = results
    pandas.testing.assert_frame_equal(table, again, check_exact=True)
    assert same(trained, same_seed)
    assert not table.equals(other)
    assert not any(map(torch.equal, trained, other_seed))


@pytest.mark.parametrize("method", CONFIGS)
def test_in_bfloat16_the_update_of_the_same_batch_is_nearly_the_same(
    start, tokenizer, graded, monkeypatch, method
):
    sample, found = session.sample_batch, {}
    monkeypatch.setattr(session, "sample_batch", lambda engine, *rest: sample(engine.in_bf16(False), *rest))
    for bf16 in (False, True):
        engine = TorchEngine(copy.deepcopy(start), tokenizer)
        with monkeypatch.context() as patched:
            recorder = Recorder(patched)
            train(method, engine, settings(method, steps=1, num_minibatches=1, bf16=bf16))
        found[bf16] = torch.cat([part.flatten() for part in recorder.updates[0][3]])
        assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.float32}
    assert 0 < (found[True] - found[False]).norm() < 0.1 * found[False].norm()


@pytest.mark.parametrize("method", CONFIGS)
def test_every_parameter_learns(engine, start, graded, method):
    train(method, engine, settings(method, steps=1))
    moved = {
        name: (a - b).abs().max().item()
        for (name, a), b in zip(engine.model.named_parameters(), start.parameters(), strict=True)
    }
    assert all(0 < change < 5e-3 for change in moved.values()), moved  # Adam moves by about the rate


class FakeRun:
    """A run folder in memory."""

    def __init__(self):
        self.rows, self.samples, self.saved = [], [], None

    def restore(self, state):
        if self.saved:
            for name, thing in state.items():
                thing.load_state_dict(copy.deepcopy(self.saved[name]))
        return list(self.rows)

    def save_step(self, row, samples, state):
        self.rows.append(dict(row))
        self.samples += samples
        self.saved = {name: copy.deepcopy(thing.state_dict()) for name, thing in state.items()}

    def settle(self, steps, state):
        assert len(self.rows) == steps


class Interrupt:
    """Ctrl-C once a step is done."""

    def __init__(self, step: int):
        self.step = step

    def __call__(self, row):
        if row["step"] == self.step:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, changes",
    [
        ("sft", {}),
        ("grpo", {}),
        ("sdpo", {}),
        ("sdpo", {"teacher_model_kind": "ema", "demonstration": "random"}),
    ],
    ids=["sft", "grpo", "sdpo", "sdpo-ema"],
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(start, tokenizer, graded, method, changes):
    config = settings(method, steps=4, warmup_steps=3, **changes)
    whole = TorchEngine(copy.deepcopy(start), tokenizer)
    wanted = train(method, whole, config)
    run, first = FakeRun(), TorchEngine(copy.deepcopy(start), tokenizer)
    half = train(method, first, config, run=run, on_step=Interrupt(1))
    pandas.testing.assert_frame_equal(untimed(half), untimed(wanted[:2]), check_exact=True)
    second, seen = TorchEngine(copy.deepcopy(start), tokenizer), []
    got = train(method, second, config, run=run, on_step=seen.append)
    pandas.testing.assert_frame_equal(untimed(got), untimed(wanted), check_exact=True)
    assert [row["step"] for row in seen] == [2, 3] and [row["step"] for row in run.rows] == [0, 1, 2, 3]
    assert same(weights(second.model), weights(whole.model)) and not same(
        weights(second.model), weights(first.model)
    )
    finished = train(
        method, TorchEngine(copy.deepcopy(start), tokenizer), config, run=run, on_step=Interrupt(0)
    )
    pandas.testing.assert_frame_equal(finished, got)  # nothing left to do


def test_a_few_samples_are_kept_to_read(engine, graded, monkeypatch):
    recorder, run = Recorder(monkeypatch), FakeRun()
    train("grpo", engine, settings("grpo", steps=1, num_problems=5), run=run)
    (sampled,) = recorder.batches
    wanted = [
        (0, p.id, p.prompt, sampled.rollouts.texts[i * G], sampled.rewards[i * G].item())
        for i, p in enumerate(sampled.problems[:4])
    ]
    assert [
        tuple(sample[name] for name in ("step", "problem_id", "prompt", "completion", "reward"))
        for sample in run.samples
    ] == wanted


@pytest.mark.parametrize("method", CONFIGS)
def test_an_interrupt_returns_the_finished_steps(engine, graded, method):
    table = train(method, engine, settings(method, steps=5), on_step=Interrupt(1))
    assert list(table.step) == [0, 1]


@pytest.mark.parametrize("finished", [0, 1])
@pytest.mark.parametrize("method", CONFIGS)
def test_an_interrupt_within_a_step_returns_the_ones_before(engine, graded, monkeypatch, method, finished):
    grade, calls = batch.grade, []

    def interrupted(texts, truths):
        calls.append(texts)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return grade(texts, truths)

    monkeypatch.setattr(batch, "grade", interrupted)
    table = train(method, engine)
    assert len(table) == finished and tuple(table.columns) == log.COLUMNS


# Steps that teach nothing


@pytest.mark.parametrize("method, reward", [("grpo", 0.0), ("grpo", 1.0), ("sdpo", 0.0)])
def test_equal_rewards_change_nothing_and_are_told_once(engine, start, monkeypatch, method, reward):
    all_graded(monkeypatch, reward)
    counts = []  # of warnings, by the end of each step
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        table = train(method, engine, settings(method, steps=9), on_step=lambda row: counts.append(len(told)))
    assert counts == [0] * 4 + [1] * 5  # in the fifth step, and never again
    assert "5 steps in a row changed nothing" in str(told[0].message)
    assert same(weights(engine.model), weights(start))
    assert (
        table[["loss", "grad_norm"]].isna().to_numpy().all()
        and not table[["used_rows", "updates"]].to_numpy().any()
    )
    assert (table.reward == reward).all() and (table.kl_to_base < 1e-6).all()


def test_a_step_that_teaches_starts_the_count_again():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        idle = log.Idle("why")
        for updates in [0, 0, 0, 0, 1, 0, 0, 0, 0]:
            idle.step(updates)
        assert not told
        for updates in [0, 2, 0, 0, 0, 0, 0, 0]:
            idle.step(updates)
    assert len(told) == 1 and str(told[0].message).endswith("why")


def test_where_all_are_right_sdpo_has_demonstrations(engine, monkeypatch):
    all_graded(monkeypatch, 1.0)
    row = train("sdpo", engine, settings("sdpo", steps=1)).iloc[0]
    assert row.used_rows == P * G and row.updates == 2


def test_a_minibatch_of_equals_is_no_update(engine, monkeypatch):
    monkeypatch.setattr(batch, "grade", lambda texts, truths: [1.0, *[0.0] * (len(texts) - 1)])
    row = train("grpo", engine, settings("grpo", steps=1, num_minibatches=P)).iloc[0]
    assert row.updates == 1 and row.used_rows == G and math.isfinite(row.loss) and row.grad_norm > 0


# What must be refused


@pytest.mark.parametrize(
    "method, name, value",
    [
        *(
            (method, name, value)
            for method in CONFIGS
            for name, value in (("num_generations", 1), ("steps", 0))
        ),
        ("sft", "batch_size", 0),
        ("grpo", "aggregation", "mean"),
        ("sdpo", "aggregation", "mean"),
        ("sdpo", "distillation_alpha", 1.5),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(method, name, value):
    with pytest.raises(SdlabError, match=str(value)) as caught:
        settings(method, **{name: value})
    assert "sibling" in str(caught.value) or name != "num_generations"


@pytest.mark.parametrize("method", CONFIGS)
def test_no_problems_are_an_error(engine, method):
    arguments = (engine, PROBLEMS, []) if method == "sft" else (engine, [])
    with pytest.raises(SdlabError, match="nothing to train on"):
        {"sft": run_sft, "grpo": run_grpo, "sdpo": run_sdpo}[method](*arguments, settings(method))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("method", CONFIGS)
def test_weights_that_are_not_finite_are_refused(engine, graded, method, value):
    with torch.no_grad():
        engine.model.model.norm.weight.fill_(value)
    with pytest.raises(SdlabError, match="not finite"):
        train(method, engine)


@pytest.mark.parametrize("method", CONFIGS)
def test_after_a_huge_update_the_next_sampling_is_refused_and_the_finished_step_is_kept(
    engine, graded, method
):
    run = FakeRun()
    with pytest.raises(SdlabError, match="not finite.*learning rate"):
        train(method, engine, settings(method, learning_rate=1e15, num_minibatches=1), run=run)
    assert [row["step"] for row in run.rows] == [0] and math.isfinite(run.rows[0]["loss"])


@pytest.mark.parametrize("method", ["grpo", "sdpo"])
def test_after_a_huge_update_the_next_minibatch_is_refused_by_name(engine, graded, method):
    with pytest.raises(SdlabError, match=r"step 0: .*not finite.*1e\+15"):
        train(method, engine, settings(method, learning_rate=1e15))
    assert all(
        map(torch.isfinite, (parameter.sum() for parameter in engine.model.parameters()))
    )  # the refused update is not in there


# SFT learns


def test_sft_learns_its_traces_to_their_end(engine, tokenizer):
    engine.model.generation_config.eos_token_id = tokenizer.eos_token_id
    engine = TorchEngine(engine.model, tokenizer)
    config = settings(
        "sft",
        steps=30,
        batch_size=6,
        learning_rate=2e-2,
        num_problems=1,
        num_generations=2,
        max_completion_length=1,
    )
    table = train("sft", engine, config)
    assert table.loss[0] > 3 and 0 < table.loss.iloc[-1] < 0.3
    prompts = [render_prompt(tokenizer, trace.problem) for trace in TRACES]
    wanted = [tokenizer(trace.completion)["input_ids"] for trace in TRACES]
    ends = engine.score(prompts, [[*ids, tokenizer.eos_token_id] for ids in wanted])
    last = ends.completion_mask.sum(-1) - 1
    assert ends.per_token_logps[range(len(last)), last].exp().min() > 0.9  # of the end after a trace
    sampled = engine.generate(prompts, SamplingParams(1, 40, temperature=0))
    assert not sampled.truncated.any() and all(
        text.startswith("<think>") and "\\boxed{" in text for text in sampled.texts
    )
