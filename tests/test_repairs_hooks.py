"""What hooks get and what becomes of it: parts of groups, clips, contexts, settings that cannot work."""

import math
from dataclasses import replace

import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.train.repairs.hooks import Divergence, Repair, Surrogate, TeacherRule
from sdlab.train.repairs.loss import token_divergence
from sdlab.train.repairs.rewards import topd
from sdlab.train.repairs.routing import scope
from sdlab.train.repairs.signals import Facts, Signals
from sdlab.train.repairs.views import Step, other_problem
from sdlab.world.splits import load_split

B, T, V, G = 8, 5, 7, 4


class Tables:
    """A scorer with fixed distributions, (B, T, V) by source."""

    def __init__(self, mask, informed, seed=0):
        draw = torch.Generator().manual_seed(seed)
        self.mask, self.rows = mask, {"student": torch.ones(B).bool(), 0: informed}
        logits = torch.randn(2, B, T, V, generator=draw, dtype=torch.float64) * 2
        self.logps = dict(zip(("student", 0), logits.log_softmax(-1), strict=True))

    def scan(self, *sources):
        part = self.rows[sources[0]].nonzero()[:, 0].tolist()
        yield part, [self.logps[source][part][self.mask[part]] for source in sources]


def signals_with(rewards, informed) -> Signals:
    """Signals of two groups of four, with rows of different lengths."""
    draw = torch.Generator().manual_seed(1)
    mask = torch.arange(T) < torch.tensor([5, 3, 1, 4, 2, 5, 4, 3])[:, None]
    scorer = Tables(mask, torch.tensor(informed).bool())
    ids = torch.randint(V, (B, T), generator=draw)
    noise = torch.randn(B, T, generator=draw, dtype=torch.float64) / 10
    old = scorer.logps["student"].gather(-1, ids[..., None])[..., 0] + noise
    facts = Facts(
        mask=mask,
        ids=ids,
        old=old,
        rewards=torch.tensor(rewards, dtype=torch.float64),
        informed=torch.tensor([informed]).bool(),
        num_generations=G,
        problem_ids=["a"] * G + ["b"] * G,
        uniforms=torch.rand(B, T, generator=draw),
    )
    return Signals(facts, scorer)


def test_topd_compares_with_the_whole_group_in_every_minibatch():
    signals = signals_with([1, 0, 0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 1, 1, 1])
    t, old, alpha = signals.t[0], signals.old, 0.2
    expected = torch.zeros(B, T, dtype=torch.float64)
    for rows in ([0, 1, 2, 3], [5, 6, 7]):  # row 4 has no teacher
        values = {}
        for row in rows:
            n = int(signals.mask[row].sum())
            rewards = [
                math.log(alpha * math.exp(t[row, i].item() - old[row, i].item()) + 1 - alpha)
                for i in range(n)
            ]
            for i in range(n):
                later = rewards[i + 1 :]
                values[row, i] = rewards[i] + (sum(later) / len(later) if later else 0)
        mean = sum(values.values()) / len(values)
        spread = math.sqrt(sum((x - mean) ** 2 for x in values.values()) / len(values)) + 1e-6
        for (row, i), value in values.items():
            expected[row, i] = (value - mean) / spread
    repair = topd(alpha)
    for part in (range(B), [0, 1], [2, 3, 4, 5], [6, 7]):
        within = signals.within(list(part))
        used = within.mask & signals.taught
        actual = repair.advantage(within, {})
        torch.testing.assert_close(actual[used], expected[used], atol=1e-12, rtol=1e-9)


def test_scope_weighs_a_row_by_its_whole_group_in_every_minibatch():
    rewards, informed = [1, 0, 0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]
    signals = signals_with(rewards, informed)
    shares = torch.zeros(B, dtype=torch.float64)
    for rows, table, sign in (([0, 3], signals.old, -1), ([4], signals.old, -1), ([1, 2], signals.t[0], 1)):
        scores = [
            math.exp(sign * sum(table[row][signals.mask[row]].tolist()) / int(signals.mask[row].sum()))
            for row in rows
        ]
        for row, score in zip(rows, scores, strict=True):
            shares[row] = score / sum(scores)  # the wrong rows of the second group have no teacher: 0
    for part, groups in ((range(B), 2), ([0, 1], 1), ([2, 3, 4], 2), ([5, 6, 7], 1)):
        within = signals.within(list(part))
        distil, policy = scope().weights(within, {})
        expected = within.mask * shares[:, None] / groups
        assert distil is None
        torch.testing.assert_close(policy, expected, atol=1e-12, rtol=1e-9)


PAIR = {
    "element": lambda terms, clip: sum(min(term, clip) for term in terms),
    "token": lambda terms, clip: min(sum(terms), clip),
}


@pytest.mark.parametrize("at", PAIR)
def test_the_clip_of_a_pair_of_divergences(at):
    draw = torch.Generator().manual_seed(0)
    student, target = (torch.randn(6, V, generator=draw, dtype=torch.float64).log_softmax(-1) for _ in "ab")
    whole = token_divergence(Divergence((0.3, 0.7), None), student, target)
    clip = whole.median().item() / (V if at == "element" else 1)
    actual = token_divergence(Divergence((0.3, 0.7), None, clip=clip, clip_at=at), student, target)
    for n in range(6):
        terms = [
            0.3 * math.exp(q) * (q - p) + 0.7 * math.exp(p) * (p - q)
            for p, q in zip(student[n].tolist(), target[n].tolist(), strict=True)
        ]
        assert whole[n].item() == pytest.approx(sum(terms))
        assert actual[n].item() == pytest.approx(PAIR[at](terms, clip))
    assert (actual < whole - 1e-6).any()


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_entries_too_unlikely_for_float32_add_nothing_to_a_clipped_divergence(alpha):
    """Their probabilities are 0 on both sides, but not their log-probabilities."""
    likely = [[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]
    logits = torch.tensor([[*map(math.log, row), -200.0, -150.0] for row in likely])
    student, target = logits[:1].requires_grad_(), logits[1:].detach()
    loss = token_divergence(Divergence(alpha, None, clip=10.0), student, target)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    expected = 0.0
    for p, q in zip(*likely, strict=True):
        m = (1 - alpha) * p + alpha * q
        parts = {0: q * math.log(q / p), 1: p * math.log(p / q)}
        between = (1 - alpha) * p * math.log(p / m) + alpha * q * math.log(q / m)
        expected += parts.get(alpha, between)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert gradient.isfinite().all() and not gradient[0, 3:].any() and gradient[0, :3].all()


def test_the_other_problem_is_never_the_same_problem_drawn_again():
    one, two = load_split("train", limit=2)
    step = Step(
        tokenizer=build_tokenizer(),
        problems=[one, one, two, one],
        texts=[f"So {place} is done." for place in range(8)],
        rewards=torch.ones(8),
        num_generations=2,
        seed=0,
        step=0,
    )
    prompts, informed = other_problem(step)
    assert all(informed)
    for row, prompt in enumerate(prompts):
        own, other = (two, one) if row // 2 == 2 else (one, two)
        assert other.prompt in prompt and own.prompt in prompt
        donor = {0: 2, 1: 2, 2: 3, 3: 2}[row // 2]  # the next group with another problem
        assert f"{other.prompt}\n\nSo {2 * donor + 1 - row % 2} is done." in prompt
    alone = replace(step, problems=[one] * 4)
    assert not any(other_problem(alone)[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Surrogate("logp", dual=3.0), "dual=3.0 does nothing here; it needs kind"),
        (lambda: TeacherRule(rate=0.5), "rate=0.5 does nothing here; it needs kind"),
        (lambda: TeacherRule("ema", every=3), "every=3 does nothing here; it needs kind"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(make, message):
    with pytest.raises(SdlabError, match=message):
        make()


def test_settings_that_something_reads_are_kept():
    assert Surrogate("ppo", dual=3.0).dual == 3 and TeacherRule("trust_region", 0.5).rate == 0.5
    assert TeacherRule("snapshot", every=3).every == 3 and Repair().teacher == TeacherRule()
