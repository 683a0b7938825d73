"""A step's signals against brute force in plain Python, and what order and threads must not change."""

import math
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sdlab.train.losses import all_logps, grpo_token_loss
from sdlab.train.signals import (
    COLUMNS,
    FORK,
    Signals,
    entropy,
    idle_groups,
    pass_at_g,
    policy_clipped,
    policy_ratio,
    teacher_gain,
)


def logits(seed: int, rows: int, vocabulary: int = 11) -> torch.Tensor:
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 127, 300])
def test_entropy_and_gain_are_the_sums_they_stand_for(rows):
    student, teacher = all_logps(logits(0, rows)), all_logps(logits(1, rows))
    ids = torch.randint(11, (rows,), generator=torch.Generator().manual_seed(2))
    found, gains = entropy(student), teacher_gain(student, teacher, ids)
    assert found.shape == gains.shape == (rows,)
    for m in range(rows):
        by_hand = -sum(math.exp(p) * p for p in student[m].tolist())
        assert found[m].item() == pytest.approx(by_hand, abs=1e-5)
        assert gains[m].item() == pytest.approx(
            teacher[m, ids[m]].item() - student[m, ids[m]].item(), abs=1e-6
        )
    assert entropy(all_logps(torch.zeros(2, 7))).tolist() == pytest.approx([math.log(7)] * 2)


def test_a_token_is_clipped_exactly_where_the_loss_has_no_gradient():
    advantage = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 0.5, -0.5])
    old = torch.full((8,), -1.0)
    now = (old + torch.tensor([0.3, -0.5, 0.1, 0.3, -0.5, -0.1, 0.24, -0.21])).requires_grad_()
    grpo_token_loss(now, old, advantage, 0.2, 0.28).sum().backward()
    ratio = policy_ratio(now, old)
    assert ratio.tolist() == pytest.approx([math.exp(n + 1) for n in now.tolist()])
    assert not ratio.requires_grad
    clipped = policy_clipped(ratio, advantage, 0.2, 0.28)
    assert clipped.tolist() == (now.grad == 0).tolist()
    assert clipped.any() and not clipped.all()


def parts_of(values: dict[str, torch.Tensor], sizes) -> list[tuple[list[int], dict]]:
    parts, start = [], 0
    for size in sizes:
        parts.append(
            ([start, start + 1], {name: value[start : start + size] for name, value in values.items()})
        )
        start += size
    return parts


def test_a_steps_columns_are_taken_over_all_tokens_whatever_the_micro_batches():
    n = 100
    draw = random.Random(0)
    raw = {
        name: [draw.gauss(0.3, 1) for _ in range(n)]
        for name in ("u", "ratio", "divergence", "teacher_entropy")
    }
    measures = {name: torch.tensor(values, dtype=torch.float32) for name, values in raw.items()}
    measures["fork"] = torch.tensor([draw.random() for _ in range(n)]) > FORK
    measures["clipped"] = measures["ratio"] > 1
    signals = Signals()
    for part, values in parts_of(measures, (1, 60, 39)):
        signals.add(part, **values)
    columns = signals.columns()
    mean = {name: sum(value.tolist()) / n for name, value in measures.items()}
    spread = math.sqrt(sum((x - mean["u"]) ** 2 for x in raw["u"]) / n)
    expected = (
        mean["teacher_entropy"], mean["u"], spread, mean["divergence"], mean["fork"], mean["clipped"],
        mean["ratio"], max(raw["ratio"]),
    )  # fmt: skip
    assert tuple(columns) == COLUMNS
    assert tuple(columns.values()) == pytest.approx(expected, rel=1e-6)


def test_neither_order_nor_threads_change_a_bit():
    values = {"u": torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 10}
    parts = parts_of(values, [40] * 100)

    def spread(seed: int) -> float:
        signals, order = Signals(), parts[:]
        random.Random(seed).shuffle(order)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: signals.add(one[0], **one[1]), order))
        return signals.columns()["u_spread"]

    assert spread(0) == spread(1) == spread(2)


def test_two_losses_on_the_same_rows_both_count():
    signals = Signals()
    signals.add([0, 1], "sdpo", ratio=torch.tensor([1.0, 2.0]))
    signals.add([0], "grpo", ratio=torch.tensor([6.0]), clipped=torch.tensor([True]))
    columns = signals.columns()
    assert (columns["ratio_mean"], columns["ratio_max"], columns["clip_fraction"]) == (3.0, 6.0, 1.0)


def test_the_signals_of_both_losses_against_loops_over_tokens():
    n, vocabulary = 40, 9
    student, teacher = all_logps(logits(3, n, vocabulary)), all_logps(logits(4, n, vocabulary))
    draw = random.Random(1)
    ids = torch.tensor([draw.randrange(vocabulary) for _ in range(n)])
    now = student[torch.arange(n), ids]
    old = now + torch.tensor([draw.gauss(0, 0.5) for _ in range(n)])
    advantages = torch.tensor([draw.choice([-0.5, 0.5]) for _ in range(n)])
    divergence = torch.rand(n, generator=torch.Generator().manual_seed(5))
    forks = ratio = clipped = over = gain = flat = 0.0
    for m in range(n):
        r = math.exp(now[m].item() - old[m].item())
        forks += -sum(math.exp(p) * p for p in student[m].tolist()) > 0.5
        ratio, over = ratio + r, over + (r > 1.1)
        clipped += r > 1.28 if advantages[m] > 0 else r < 0.8
        gain += teacher[m, ids[m]].item() - now[m].item()
        flat += -sum(math.exp(p) * p for p in teacher[m].tolist())
    policy = Signals()
    policy.add_policy([0], student.requires_grad_(), now, old, advantages, 0.2, 0.28)
    columns = policy.columns()
    assert columns["fork_rate"] == pytest.approx(forks / n)
    assert columns["clip_fraction"] == pytest.approx(clipped / n)
    assert columns["ratio_mean"] == pytest.approx(ratio / n, rel=1e-5)
    distillation = Signals()
    distillation.add_distillation([0], student, teacher, ids, old, divergence, 1.1)
    columns = distillation.columns()
    assert columns["fork_rate"] == pytest.approx(forks / n)
    assert columns["clip_fraction"] == pytest.approx(over / n)
    assert columns["u_mean"] == pytest.approx(gain / n, rel=1e-5)
    assert columns["teacher_entropy"] == pytest.approx(flat / n, rel=1e-5)
    assert columns["divergence"] == pytest.approx(sum(divergence.tolist()) / n)
    free = Signals()
    free.add_distillation([0], student, teacher, ids, old, divergence, None)
    assert free.columns()["clip_fraction"] == 0
    assert free.columns()["ratio_max"] == columns["ratio_max"]


def test_what_was_not_measured_is_nan():
    assert all(math.isnan(value) for value in Signals().columns().values())
    signals = Signals()
    signals.add([0], fork=torch.tensor([True, False]))
    columns = signals.columns()
    assert columns["fork_rate"] == 0.5
    assert {name for name, value in columns.items() if not math.isnan(value)} == {"fork_rate"}


def test_groups_and_problems_are_counted_as_by_hand():
    rewards = torch.tensor([0, 0, 1.0, 0, 1, 1, 0, 0])
    assert pass_at_g(rewards, 2) == 0.5 and pass_at_g(rewards, 4) == 1.0
    assert idle_groups([2, 3], 4, 2) == 0.75 and idle_groups([], 4, 2) == 1.0
    assert idle_groups([0, 2, 4, 7], 4, 2) == 0.0
