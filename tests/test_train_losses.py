"""The losses against the paper's own numbers, against loops over single tokens, against finite differences,
and against TRL.
"""

import itertools
import json
import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.train import divergences, losses

VECTORS = json.loads((Path(__file__).parent / "data" / "sdpo_loss_vectors.json").read_text())
B, T, V = 4, 5, 7
ALPHAS = (0.0, 0.3, 0.5, 1.0)
SUPPORTS = ((None, False), (3, True), (3, False))
NAN, INF = math.nan, math.inf


def random(*shape, seed=0, scale=1.0, grad=False):
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    return numbers.requires_grad_(grad)


def logps(*shape, seed=0, scale=1.5, grad=False):
    return random(*shape, seed=seed, scale=scale).log_softmax(-1).requires_grad_(grad)


def gradient(loss, tensor):
    return torch.autograd.grad(loss, tensor, retain_graph=True)[0]


@pytest.fixture
def batch():
    """One of everything: a full row, rows cut short, a row that is not distilled, a row without a token."""
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    return SimpleNamespace(
        mask=mask,
        distil=torch.tensor([1, 1, 0, 1]),
        ids=torch.randint(V, (B, T), generator=torch.Generator().manual_seed(5)),
        student=random(B, T, V, seed=1, scale=1.5, grad=True),
        teacher=random(B, T, V, seed=2, scale=1.5),
        old=random(B, T, V, seed=3, scale=1.5),
        advantages=random(B, seed=4),
    )


# The paper's own numbers


@pytest.mark.parametrize(
    "case", VECTORS, ids=lambda c: f"alpha{c['alpha']}-top{c['topk']}-tail{c['add_tail']}-clip{c['is_clip']}"
)
def test_sdpo_loss_and_gradient_are_those_of_the_papers_code(case):
    def tensor(name):
        return torch.tensor(case[name], dtype=torch.float64)

    logits, ids = tensor("student_logits").requires_grad_(), torch.tensor(case["completion_ids"])
    weight = None
    if case["is_clip"] is not None:
        weight = losses.importance_weight(
            losses.token_logps(logits, ids), losses.token_logps(tensor("old_logits"), ids), case["is_clip"]
        )
    student, teacher = logits.log_softmax(-1), tensor("teacher_logits").log_softmax(-1)
    options = dict(alpha=case["alpha"], top_k=case["topk"], tail=case["add_tail"])
    loss = losses.sdpo_loss(
        student, teacher, tensor("completion_mask"), tensor("distillation_mask"), **options, weight=weight
    )
    assert abs(loss.item() - case["loss"]) < 1e-9
    assert (gradient(loss, logits) - tensor("grad_student_logits")).abs().max() < 1e-9


def test_the_reference_cases_cover_every_setting():
    settings = {(c["alpha"], c["topk"] is None, c["add_tail"], c["is_clip"]) for c in VECTORS}
    assert len(VECTORS) == len(settings) == 24


# Loops over single tokens


def loop_mean(numbers, mask, how):
    """{(row, column): number} averaged with plain python."""
    rows = defaultdict(list)
    for (row, column), number in numbers.items():
        if mask[row][column]:
            rows[row].append(number)
    if how == "token_mean":
        return sum(map(sum, rows.values())) / sum(map(len, rows.values()))
    return sum(sum(row) / len(row) for row in rows.values()) / len(rows)


def positions():
    return [(row, column) for row in range(B) for column in range(T)]


@pytest.mark.parametrize("how", losses.AGGREGATIONS)
def test_sft_loss_is_the_mean_of_the_tokens_negative_log_probabilities(batch, how):
    got = losses.sft_loss(losses.token_logps(batch.student, batch.ids, temperature=0.7), batch.mask, how)
    numbers = {}
    for row, column in positions():
        scores = [math.exp(x / 0.7) for x in batch.student[row, column].tolist()]
        numbers[row, column] = -math.log(scores[batch.ids[row, column]] / sum(scores))
    assert got.item() == pytest.approx(loop_mean(numbers, batch.mask.tolist(), how), abs=1e-12)


@pytest.mark.parametrize("how", losses.AGGREGATIONS)
def test_grpo_loss_is_the_clipped_objective_token_by_token(batch, how):
    new, old = losses.token_logps(batch.student, batch.ids), losses.token_logps(batch.old, batch.ids)
    got = losses.grpo_loss(new, old, batch.advantages, batch.mask, how=how)
    numbers = {}
    for row, column in positions():
        ratio, a = math.exp((new - old)[row, column].item()), batch.advantages[row].item()
        numbers[row, column] = -min(ratio * a, min(max(ratio, 0.8), 1.28) * a)
    assert got.item() == pytest.approx(loop_mean(numbers, batch.mask.tolist(), how), abs=1e-12)
    per_token = batch.advantages[:, None].expand(B, T)
    assert losses.grpo_loss(new, old, per_token, batch.mask, how=how).item() == pytest.approx(
        got.item(), abs=1e-15
    )


def loop_divergence(student, teacher, alpha):
    """From lists of probabilities, by the definition."""

    def kl(p, q):
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)

    if alpha in (0, 1):
        return kl(student, teacher) if alpha else kl(teacher, student)
    mixture = [(1 - alpha) * a + alpha * b for a, b in zip(student, teacher, strict=True)]
    return (1 - alpha) * kl(student, mixture) + alpha * kl(teacher, mixture)


def loop_support(student, teacher, k, tail):
    if k is None:
        return student, teacher
    best = sorted(range(len(student)), key=student.__getitem__)[-k:]
    student, teacher = [student[v] for v in best], [teacher[v] for v in best]
    if tail:
        return [*student, 1 - sum(student)], [*teacher, 1 - sum(teacher)]
    return [p / sum(student) for p in student], [p / sum(teacher) for p in teacher]


@pytest.mark.parametrize("how", losses.AGGREGATIONS)
@pytest.mark.parametrize("k, tail", SUPPORTS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_sdpo_loss_is_the_divergence_token_by_token(batch, alpha, k, tail, how):
    student, teacher = batch.student.log_softmax(-1), batch.teacher.log_softmax(-1)
    new, old = losses.token_logps(batch.student, batch.ids), losses.token_logps(batch.old, batch.ids)
    weight = losses.importance_weight(new, old)
    got = losses.sdpo_loss(student, teacher, batch.mask, batch.distil, alpha, k, tail, weight, how)
    numbers = {}
    for row, column in positions():
        p, q = student[row, column].exp().tolist(), teacher[row, column].exp().tolist()
        numbers[row, column] = loop_divergence(*loop_support(p, q, k, tail), alpha)
        numbers[row, column] *= min(math.exp((new - old)[row, column].item()), 2)
    used = (batch.mask * batch.distil[:, None]).tolist()
    assert got.item() == pytest.approx(loop_mean(numbers, used, how), abs=1e-12)


def test_flat_tokens_give_what_the_batch_gives(batch):
    student, teacher = batch.student.log_softmax(-1), batch.teacher.log_softmax(-1)
    used = (batch.mask * batch.distil[:, None]).bool()
    for how in losses.AGGREGATIONS:
        weights = losses.token_weights(used, how, dtype=torch.float64)[used]
        flat = (losses.sdpo_token_loss(student[used], teacher[used], 0.5, 3, True) * weights).sum()
        whole = losses.sdpo_loss(student, teacher, batch.mask, batch.distil, 0.5, 3, True, how=how)
        assert flat.item() == pytest.approx(whole.item(), abs=1e-14)
        assert torch.allclose(gradient(flat, batch.student), gradient(whole, batch.student), atol=1e-14)


@pytest.mark.parametrize("scale", [False, True])
def test_group_advantages_by_hand(scale):
    rewards = torch.tensor([1, 0, 0, 0, 1, 1, 1, 1])
    deviation = math.sqrt((0.75**2 + 3 * 0.25**2) / 3) + 1e-4 if scale else 1
    expected = [0.75 / deviation] + [-0.25 / deviation] * 3 + [0.0] * 4
    assert losses.group_advantages(rewards, 4, scale).tolist() == pytest.approx(expected, abs=1e-6)


# Finite differences


@pytest.mark.parametrize("alpha", ALPHAS)
def test_divergence_has_the_gradient_of_finite_differences_in_both_arguments(alpha):
    arguments = logps(3, V, seed=1, grad=True), logps(3, V, seed=2, grad=True)
    assert torch.autograd.gradcheck(lambda s, t: divergences.divergence(s, t, alpha), arguments)


@pytest.mark.parametrize("k, tail", SUPPORTS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_sdpo_loss_has_the_gradient_of_finite_differences(batch, alpha, k, tail):
    teacher = batch.teacher.log_softmax(-1)

    def loss(logits):
        return losses.sdpo_loss(logits.log_softmax(-1), teacher, batch.mask, batch.distil, alpha, k, tail)

    assert torch.autograd.gradcheck(loss, (batch.student,))


def test_sft_and_grpo_have_the_gradient_of_finite_differences(batch):
    old = losses.token_logps(batch.old, batch.ids)

    def sft(logits):
        return losses.sft_loss(losses.token_logps(logits, batch.ids, 0.7), batch.mask, "sequence_mean")

    def grpo(logits):
        return losses.grpo_loss(losses.token_logps(logits, batch.ids), old, batch.advantages, batch.mask)

    assert torch.autograd.gradcheck(sft, (batch.student,))
    assert torch.autograd.gradcheck(grpo, (batch.student,))


def test_sampled_sdpo_has_the_gradient_of_the_reverse_kl_in_expectation():
    """Weighted by the student's probabilities, the gradients of all tokens add up to that of KL(student ||
    teacher).
    """
    logits, teacher = random(V, seed=1, grad=True), logps(V, seed=2)
    student = logits.log_softmax(-1)
    kl = divergences.divergence(student, teacher, 1.0)
    one = torch.ones(1, 1)
    expected = sum(
        student[v].exp().detach()
        * losses.sampled_sdpo_loss(student[v].view(1, 1), teacher[v].view(1, 1), one, one[0])
        for v in range(V)
    )
    assert torch.allclose(gradient(expected, logits), gradient(kl, logits), atol=1e-12)


# Limits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k, tail", SUPPORTS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_an_identical_teacher_gives_exactly_zero_and_no_gradient(alpha, k, tail, dtype):
    logits = random(50, V, seed=1, scale=4).to(dtype).requires_grad_()
    student = logits.log_softmax(-1)
    loss = losses.sdpo_token_loss(student, student, alpha, k, tail)
    assert loss.tolist() == [0.0] * 50
    slope = gradient(loss.sum(), logits).abs().max().item()
    assert (
        slope == 0 if alpha in (0.3, 0.5) else slope < 10 * torch.finfo(dtype).eps
    )  # at the ends p - p * sum(p) rounds


def test_an_identical_teacher_gives_zero_from_sampled_tokens(batch):
    new = losses.token_logps(batch.student, batch.ids)
    loss = losses.sampled_sdpo_loss(new, new, batch.mask, batch.distil)
    assert loss.item() == 0 and not gradient(loss, batch.student).any()


def test_jensen_shannon_is_symmetric_and_at_most_log_2():
    a, b = logps(200, V, seed=1, scale=6), logps(200, V, seed=2, scale=6)
    forth, back = divergences.divergence(a, b, 0.5), divergences.divergence(b, a, 0.5)
    assert torch.allclose(forth, back, atol=1e-12)
    assert 0 < forth.min() and forth.max() < math.log(2)
    assert not torch.allclose(divergences.divergence(a, b, 0.3), divergences.divergence(b, a, 0.3), atol=1e-3)
    assert torch.allclose(divergences.divergence(a, b, 0.3), divergences.divergence(b, a, 0.7), atol=1e-12)
    apart = torch.tensor([[0.0, -INF]]), torch.tensor([[-INF, 0.0]])
    assert divergences.divergence(*apart, 0.5).item() == pytest.approx(math.log(2))


def test_in_float32_jensen_shannon_keeps_tiny_differences():
    a = logps(20, V, seed=1)
    b = (a + 1e-4 * random(20, V, seed=2)).log_softmax(-1)
    exact, single = (
        divergences.divergence(a, b, 0.5),
        divergences.divergence(a.float(), b.float(), 0.5).double(),
    )
    assert exact.max() < 1e-8 and (single - exact).abs().max() < 1e-10


@pytest.mark.parametrize("alpha", ALPHAS)
def test_tokens_without_probability_give_no_nan(alpha):
    """A token forbidden to both adds nothing; one forbidden to one side is infinite only where the
    definition says so.
    """
    for dtype in (torch.float32, torch.float64):
        shared = torch.tensor([0.3, -INF, 1.0, -0.5], dtype=dtype)
        student, teacher = shared.clone().requires_grad_(), torch.tensor([1.0, -INF, 0.2, 0.0], dtype=dtype)
        loss = divergences.divergence(student.log_softmax(-1), teacher.log_softmax(-1), alpha)
        keep = [0, 2, 3]
        rest = divergences.divergence(student[keep].log_softmax(-1), teacher[keep].log_softmax(-1), alpha)
        assert loss.item() == pytest.approx(rest.item(), rel=1e-6)
        assert torch.isfinite(gradient(loss, student)).all()
        for own, other, infinite_at in (
            (shared, teacher.masked_fill(torch.tensor([0, 0, 0, 1]).bool(), -INF), 1.0),
            (shared.masked_fill(torch.tensor([0, 0, 0, 1]).bool(), -INF), teacher, 0.0),
        ):
            own = own.clone().requires_grad_()
            loss = divergences.divergence(own.log_softmax(-1), other.log_softmax(-1), alpha)
            assert loss.item() == INF if alpha == infinite_at else math.isfinite(loss.item())
            if alpha != infinite_at:
                assert torch.isfinite(gradient(loss, own)).all()


@pytest.mark.parametrize("k, tail", SUPPORTS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_very_sure_distributions_stay_finite_in_float32(alpha, k, tail):
    """Logits 1,000 apart: the tail bucket is empty, probabilities underflow, ratios overflow."""
    logits = torch.tensor(
        [[1000.0, 0, -3, 2, 0.5, -1000], [0, 1000.0, 3, -2, 1, 0], [90, 0, 0, 0, 0, 0]]
    ).requires_grad_()
    teacher = torch.tensor([[0.0, 1000.0, 0, 0, 0, 0], [0, 1000.0, 3, -2, 1, 0], [0, 90.0, 0, 0, 0, 0]])
    loss = losses.sdpo_token_loss(logits.log_softmax(-1), teacher.log_softmax(-1), alpha, k, tail)
    assert torch.isfinite(loss).all() and loss.min() >= -1e-6
    assert torch.isfinite(gradient(loss.sum(), logits)).all()


def test_no_ratio_moves_beyond_its_clip():
    """A > 0 stops pulling above 1.28, A < 0 stops pushing below .8; on the other side neither is ever
    clipped.
    """
    ratios = torch.tensor([0.5, 0.79, 0.81, 1.0, 1.27, 1.29, 2.0], dtype=torch.float64)
    new = ratios.log().requires_grad_()
    for a, clipped in ((2.0, ratios > 1.28), (-2.0, ratios < 0.8)):
        slope = gradient(
            losses.grpo_token_loss(new, torch.zeros(7), torch.full((7,), a), 0.2, 0.28).sum(), new
        )
        assert torch.allclose(slope, torch.where(clipped, 0.0, -a * ratios))


def test_on_policy_grpo_is_the_plain_policy_gradient(batch):
    new = losses.token_logps(batch.student, batch.ids)
    clipped = losses.grpo_loss(new, new, batch.advantages, batch.mask)
    plain = losses.aggregate(-batch.advantages[:, None] * new, batch.mask)
    assert torch.allclose(gradient(clipped, batch.student), gradient(plain, batch.student), atol=1e-15)


def test_importance_weights_are_clipped_and_have_no_gradient():
    new = torch.tensor([0.1, 1.0, -3.0, 1000.0], requires_grad=True)
    weight = losses.importance_weight(new, torch.zeros(4), clip=2.0)
    assert weight.tolist() == pytest.approx([math.exp(0.1), 2, math.exp(-3), 2]) and not weight.requires_grad
    free = losses.importance_weight(new, torch.zeros(4), clip=None)
    assert free.tolist() == [1] * 4 and not free.requires_grad


def test_what_a_group_agrees_on_teaches_nothing_and_scaling_gives_unit_deviation():
    rewards = random(24, seed=9)
    assert losses.group_advantages(torch.ones(6), 3, scale_rewards=True).tolist() == [0] * 6
    groups = losses.group_advantages(rewards, 8, scale_rewards=True).view(3, 8)
    assert groups.mean(1).tolist() == pytest.approx([0] * 3, abs=1e-12)
    assert groups.std(1).tolist() == pytest.approx([1] * 3, abs=1e-3)


def test_the_teacher_gets_no_gradient(batch):
    teacher = batch.teacher.log_softmax(-1).requires_grad_()
    loss = losses.sdpo_loss(batch.student.log_softmax(-1), teacher, batch.mask, batch.distil, 0.5, 3, True)
    loss.backward()
    assert teacher.grad is None and batch.student.grad.abs().sum() > 0


# The top k


def test_top_k_are_the_students_and_the_tail_makes_both_sum_to_one():
    student, teacher = logps(6, V, seed=1), logps(6, V, seed=2)
    s, t = divergences.top_k_logps(student, teacher, 3, tail=True)
    assert s.shape == t.shape == (6, 4)
    assert torch.allclose(s.exp().sum(-1), torch.ones(6).double()) and torch.allclose(
        t.exp().sum(-1), torch.ones(6).double()
    )
    for row in range(6):
        best = student[row].argsort(descending=True)[:3]
        assert sorted(s[row, :3].tolist()) == sorted(student[row, best].tolist())
        assert sorted(t[row, :3].tolist()) == sorted(teacher[row, best].tolist())
    s, t = divergences.top_k_logps(student, teacher, 3, tail=False)
    assert s.shape == (6, 3)
    assert torch.allclose(s.exp().sum(-1), torch.ones(6).double()) and torch.allclose(
        t.exp().sum(-1), torch.ones(6).double()
    )


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_top_v_are_the_whole_vocabulary(alpha, tail):
    logits, teacher = random(6, V, seed=1, grad=True), logps(6, V, seed=2)
    full = losses.sdpo_token_loss(logits.log_softmax(-1), teacher, alpha, None, tail)
    top = losses.sdpo_token_loss(logits.log_softmax(-1), teacher, alpha, V, tail)
    assert torch.allclose(full, top, atol=1e-12)
    assert torch.allclose(
        gradient(full.sum(), logits), gradient(top.sum(), logits), atol=1e-6 if tail else 1e-12
    )


def test_merging_tokens_into_a_tail_never_raises_the_divergence():
    student, teacher = logps(50, V, seed=1), logps(50, V, seed=2)
    for alpha in ALPHAS:
        by_k = [losses.sdpo_token_loss(student, teacher, alpha, k, True) for k in range(1, V + 1)]
        assert all((later - earlier).min() > -1e-12 for earlier, later in itertools.pairwise(by_k))


# Masks, aggregation, micro-batches


@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e30])
def test_what_is_masked_changes_neither_loss_nor_gradient(batch, garbage):
    used = (batch.mask * batch.distil[:, None]).bool()
    student, teacher = batch.student.detach().log_softmax(-1), batch.teacher.log_softmax(-1)
    new, old = losses.token_logps(batch.student.detach(), batch.ids), losses.token_logps(batch.old, batch.ids)
    weight = losses.importance_weight(new, old)
    calls = {
        "sft": (batch.mask.bool(), (new,), lambda n: losses.sft_loss(n, batch.mask)),
        "grpo": (
            batch.mask.bool(),
            (new, old),
            lambda n, o: losses.grpo_loss(n, o, batch.advantages, batch.mask),
        ),
        "sampled": (
            used,
            (new, old, weight),
            lambda n, o, w: losses.sampled_sdpo_loss(n, o, batch.mask, batch.distil, w),
        ),
        "sdpo": (
            used,
            (student, teacher, weight),
            lambda s, t, w: losses.sdpo_loss(s, t, batch.mask, batch.distil, 0.5, 3, True, w),
        ),
    }
    for name, (kept, tensors, call) in calls.items():
        answers = []
        for fill in (0.5, garbage):
            shown = [x.masked_fill(~(kept if x.dim() == 2 else kept[..., None]), fill) for x in tensors]
            shown[0].requires_grad_()
            loss = call(*shown)
            answers.append((loss.item(), gradient(loss, shown[0])))
        assert answers[0][0] == answers[1][0] and math.isfinite(answers[0][0]), name
        assert torch.equal(answers[0][1], answers[1][1]) and not answers[1][1][~kept].any(), name


@pytest.mark.parametrize("how", losses.AGGREGATIONS)
def test_losses_of_micro_batches_add_up_to_their_minibatch(batch, how):
    student, teacher = batch.student.log_softmax(-1), batch.teacher.log_softmax(-1)
    new, old = losses.token_logps(batch.student, batch.ids), losses.token_logps(batch.old, batch.ids)
    used = (batch.mask * batch.distil[:, None]).bool()

    def total(mask):
        return mask.sum() if how == "token_mean" else (mask.sum(1) > 0).sum().item()

    def sft(rows, count=None):
        return losses.sft_loss(new[rows], batch.mask[rows], how, count)

    def grpo(rows, count=None):
        return losses.grpo_loss(
            new[rows], old[rows], batch.advantages[rows], batch.mask[rows], how=how, total=count
        )

    def sdpo(rows, count=None):
        return losses.sdpo_loss(
            student[rows], teacher[rows], batch.mask[rows], batch.distil[rows], top_k=3, how=how, total=count
        )

    def sampled(rows, count=None):
        return losses.sampled_sdpo_loss(
            new[rows], old[rows], batch.mask[rows], batch.distil[rows], how=how, total=count
        )

    for loss, mask in ((sft, batch.mask), (grpo, batch.mask), (sdpo, used), (sampled, used)):
        whole = loss(slice(None))
        parts = sum(loss(rows, total(mask)) for rows in (slice(0, 1), slice(1, 3), slice(3, 4)))
        assert parts.item() == pytest.approx(whole.item(), abs=1e-14)
        slopes = [gradient(x, batch.student) for x in (parts, whole)]
        assert torch.allclose(*slopes, atol=1e-15)


def test_aggregations_weigh_tokens_or_rows_alike():
    loss, mask = (
        torch.tensor([[1.0, 2, 3], [7, 9, 9], [9, 9, 9]]),
        torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]]),
    )
    assert losses.aggregate(loss, mask).item() == 13 / 4
    assert losses.aggregate(loss, mask, "sequence_mean").item() == (2 + 7) / 2
    assert losses.aggregate(loss, mask, "sequence_mean", total=3).item() == pytest.approx(3)
    assert losses.aggregate(loss, mask.bool()).item() == losses.aggregate(loss, mask.float()).item() == 13 / 4


@pytest.mark.parametrize("how", losses.AGGREGATIONS)
def test_nothing_to_learn_from_is_zero_with_a_graph(batch, how):
    none = torch.zeros(B, T)
    student, new = batch.student.log_softmax(-1), losses.token_logps(batch.student, batch.ids)
    for loss in (
        losses.sft_loss(new, none, how),
        losses.grpo_loss(new, new, batch.advantages, none, how=how),
        losses.sdpo_loss(student, student, batch.mask, torch.zeros(B), top_k=3, how=how),
        losses.sdpo_loss(student, student, batch.mask, torch.zeros(B), top_k=None, how=how, total=0),
        losses.sampled_sdpo_loss(new, new, batch.mask, torch.zeros(B), how=how),
    ):
        assert loss.item() == 0
        assert not gradient(loss, batch.student).any()


# Bad input


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: losses.aggregate(torch.ones(2, 3), torch.ones(2, 3), "mean"),
            ("'mean'", "sequence_mean, token_mean"),
        ),
        (lambda: losses.aggregate(torch.ones(6), torch.ones(6, 1)), ("(6,)", "(6, 1)")),
        (lambda: losses.group_advantages(torch.ones(4), 1), ("num_generations=1", "at least 2")),
        (lambda: losses.group_advantages(torch.ones(7), 2), ("(7,)", "groups of 2")),
        (lambda: divergences.divergence(logps(2, V), logps(2, V), 1.5), ("1.5", "[0, 1]")),
        (lambda: divergences.divergence(logps(2, V), logps(2, V), NAN), ("nan", "[0, 1]")),
        (lambda: divergences.divergence(logps(2, V), logps(1, V), 0.5), ("student_logps", "(1, 7)")),
        (lambda: divergences.top_k_logps(logps(2, V), logps(2, V), V + 1, True), ("top_k 8", "7 tokens")),
        (lambda: divergences.top_k_logps(logps(2, V), logps(2, V), 0, True), ("top_k 0", "1 to 7")),
        (lambda: losses.importance_weight(torch.ones(2), torch.ones(2), 0), ("clip=0", "above 0")),
        (
            lambda: losses.token_logps(logps(2, V), torch.zeros(2, dtype=torch.long), 0),
            ("temperature=0", "above 0"),
        ),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(SdlabError) as error:
        call()
    assert all(word in str(error.value) for word in words), error.value


# TRL's own code


@pytest.fixture
def trl(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    return pytest.importorskip("trl", reason="TRL is not installed; pip install 'sdlab[trl]'")


@pytest.fixture
def trl_self():
    """Stands in for a TRL trainer: the settings its loss methods read; whatever they log goes nowhere."""
    me = MagicMock(
        current_gradient_accumulation_steps=1,
        epsilon_low=0.2,
        epsilon_high=0.28,
        beta=0.0,
        top_entropy_quantile=1.0,
    )
    me._metrics = defaultdict(lambda: defaultdict(list))
    me.accelerator.gather = me.accelerator.reduce = lambda x, **_: x
    me.accelerator.num_processes, me.accelerator.process_index, me.accelerator.device = (
        1,
        0,
        torch.device("cpu"),
    )
    me.off_policy_mask_threshold, me.importance_sampling_level = None, "token"
    me.use_vllm = me._entropy_bonus_enabled = me.aux_loss_enabled = False
    return me


@pytest.mark.parametrize("k, tail", SUPPORTS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_token_losses_are_trls(trl, batch, alpha, k, tail):
    from trl.experimental.sdpo import loss_utils as theirs

    if k is None:
        expected = theirs.compute_full_logit_self_distillation_loss(
            batch.student, batch.teacher, distillation_alpha=alpha
        )
    else:
        options = dict(distillation_topk=k, distillation_alpha=alpha, distillation_add_tail=tail)
        expected = theirs.compute_topk_self_distillation_loss(batch.student, batch.teacher, **options)
    got = losses.sdpo_token_loss(batch.student.log_softmax(-1), batch.teacher.log_softmax(-1), alpha, k, tail)
    assert torch.allclose(got, expected, atol=1e-12)
    assert torch.allclose(
        gradient(got.sum(), batch.student), gradient(expected.sum(), batch.student), atol=1e-12
    )


@pytest.mark.parametrize("mode", ["topk_logits", "full_logits", "sampled_token"])
def test_sdpo_loss_is_that_of_trls_trainer(trl, trl_self, batch, mode):
    """TRL divides by all rows of the batch, ours by those that are distilled; `total` makes up for it."""
    from trl.experimental.sdpo import SDPOTrainer

    old = losses.token_logps(batch.old, batch.ids)
    used = (batch.mask * batch.distil[:, None]).double()
    alpha = 1.0 if mode == "sampled_token" else 0.5
    trl_self.args = SimpleNamespace(
        distillation_mode=mode,
        distillation_topk=3,
        distillation_alpha=alpha,
        distillation_add_tail=True,
        distillation_is_clip=2.0,
    )
    theirs = SimpleNamespace(
        student_logits=batch.student, teacher_logits=batch.teacher, completion_ids=batch.ids, loss_mask=used
    )
    expected = SDPOTrainer._compute_self_distillation_loss(
        trl_self, MagicMock(), {"old_per_token_logps": old}, theirs
    )

    new = losses.token_logps(batch.student, batch.ids)
    shared = dict(weight=losses.importance_weight(new, old), how="sequence_mean", total=B)
    if mode == "sampled_token":
        teacher = losses.token_logps(batch.teacher, batch.ids)
        got = losses.sampled_sdpo_loss(new, teacher, batch.mask, batch.distil, **shared)
    else:
        k = 3 if mode == "topk_logits" else None
        teacher = batch.teacher.log_softmax(-1)
        got = losses.sdpo_loss(
            batch.student.log_softmax(-1), teacher, batch.mask, batch.distil, alpha, k, True, **shared
        )
    assert got.item() == pytest.approx(expected.item(), abs=1e-12)
    assert torch.allclose(gradient(got, batch.student), gradient(expected, batch.student), atol=1e-12)


@pytest.mark.parametrize("loss_type, how", [("dapo", "token_mean"), ("grpo", "sequence_mean")])
def test_grpo_loss_is_that_of_trls_trainer(trl, trl_self, batch, loss_type, how):
    """DAPO is token_mean, GRPO sequence_mean; no empty row here, for TRL counts those and ours does not."""
    from trl import GRPOTrainer

    rows = slice(0, 3)
    new, old, mask = (
        losses.token_logps(batch.student, batch.ids)[rows],
        losses.token_logps(batch.old, batch.ids)[rows],
        batch.mask[rows],
    )
    trl_self.loss_type, trl_self.args = loss_type, SimpleNamespace(delta=None, steps_per_generation=1)
    trl_self._get_per_token_logps_and_entropies.return_value = (new, torch.zeros_like(new), None)
    inputs = dict(
        prompt_ids=batch.ids[rows], prompt_mask=mask, completion_ids=batch.ids[rows], completion_mask=mask
    )
    inputs |= dict(advantages=batch.advantages[rows], old_per_token_logps=old, num_items_in_batch=mask.sum())
    expected = GRPOTrainer._compute_loss(trl_self, MagicMock(), inputs)
    got = losses.grpo_loss(new, old, batch.advantages[rows], mask, how=how)
    assert got.item() == pytest.approx(expected.item(), abs=1e-12)
    assert torch.allclose(gradient(got, batch.student), gradient(expected, batch.student), atol=1e-12)


@pytest.mark.parametrize("scale", [False, True])
def test_group_advantages_are_those_of_trls_trainer(trl, trl_self, scale):
    from trl.experimental.sdpo import SDPOTrainer

    rewards = random(12, seed=6)
    trl_self.num_generations = trl_self.num_generations_eval = 4
    trl_self.scale_rewards, trl_self.reward_weights = "group" if scale else "none", torch.ones(1)
    trl_self._calculate_rewards.return_value = rewards[:, None]
    trl_self.sample_rollouts.return_value = defaultdict(lambda: torch.zeros(12, 1))
    done = SDPOTrainer._prepare_training_batch(trl_self, [{"prompt": "x"}] * 12)
    # without scaling TRL's SDPO still divides, by 1 + 1e-4
    assert torch.allclose(
        losses.group_advantages(rewards, 4, scale),
        done["advantages"] * (1 if scale else 1 + 1e-4),
        atol=1e-12,
    )
