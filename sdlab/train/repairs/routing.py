"""Repairs that send rows to distillation or to GRPO, or weigh whole rows.

s, t, u, H_S and H_T are defined in `signals`. Grades: code = the authors' code, port = a re-implementer's
code, paper = the paper's text, note = second-hand notes, reconstructed = filled in.
"""

import torch

from sdlab.train.repairs.hooks import Divergence, Repair, Surrogate, TeacherRule
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.views import View, answer


def srpo(
    rule: str = "paper",
    beta: float = 1.0,
    alpha: float = 0.5,
    top_k: int | None = 100,
    ratio_clip: float | None = 2.0,
    low: float = 0.2,
    high: float = 0.28,
    dual: float | None = 3.0,
    scale: str = "none",
) -> Repair:
    """Return SRPO (arXiv 2604.02288; paper and code): wrong rows are distilled, all others learn by GRPO.

        loss = [sum of PPO(A) + sum of w D_JS(S, T)] / all tokens of both
        w = exp(-beta H_T) / its mean over the distilled tokens

    rule: "paper" distils wrong rows with a right sibling; "advantage" (RLCSD's code) distils all rows with A
    <= 0, those of all-right groups too.
    """

    def advantage(signals: Signals, state: dict):
        return signals.advantages(scale)

    def weights(signals: Signals, state: dict):
        if rule == "paper":
            rows = ~signals.right & signals.available
        else:
            rows = signals.advantages(scale)[:, 0] <= 0
        distilled = signals.taught & rows[:, None]
        policy = signals.mask & ~distilled
        each = signals.token_mean(distilled | policy)
        sure = (-beta * signals.teacher_entropy[0]).exp() * distilled
        sure = sure / (sure.sum() / distilled.sum().clamp(min=1)).clamp(min=1e-30)
        return each * sure, each * policy

    return Repair(
        name="srpo" if rule == "paper" else "srpo_rlcsd",
        advantage=advantage,
        weights=weights,
        divergence=Divergence(alpha, top_k, ratio_clip=ratio_clip),
        surrogate=Surrogate("ppo", low, high, dual),
    )


SDPG_PENALTIES = {
    "urkl": lambda w: w.square() / 2,
    "rkl": lambda w: (w + 1).square() / 2,
    "ufkl": lambda w: (-w).exp() + w,
    "fkl": lambda w: (-w).exp(),
}


def sdpg(
    alpha: float = 0.001,
    beta: float = 0.001,
    penalty: str = "urkl",
    positive_only: bool = False,
    warmup: int = 0,
    decay: int = 0,
    old: str = "rollout",
    temperature: float = 1.0,
    low: float = 0.2,
    high: float = 0.28,
    dual: float | None = 10.0,
    scale: str = "std",
) -> Repair:
    """Return SDPG (arXiv 2606.04036; code): GRPO, a capped KL(S || T), and a penalty towards the base.

        loss_t = PPO(A) + beta min(KL(S || T), 20) + alpha f(s - base)

    beta rises over `warmup` steps and falls over the last `decay`. The paper has beta on rows with A > 0 only
    (positive_only) and that trapezoid; the code's defaults have neither. The cap removes the gradient above
    20. The live teacher sees the answer only, and its logits are not divided by the temperature.
    """

    def advance(state: dict, signals: Signals) -> dict:
        step, total = signals.step, signals.steps
        up = step / warmup if step < warmup else 1.0
        down = (total - step) / decay if decay > 0 and total > 0 and step >= total - decay else 1.0
        return {"beta": beta * up * down}

    def advantage(signals: Signals, state: dict):
        return signals.advantages(scale)

    def weights(signals: Signals, state: dict):
        mean = signals.token_mean(signals.mask)
        rows = signals.advantages(scale) > 0 if positive_only else torch.ones_like(signals.right)[:, None]
        return state["beta"] * mean * rows * signals.taught, mean

    def regulariser(student, base, ids):
        s, b = (logps.gather(-1, ids[:, None]).squeeze(-1) for logps in (student, base))
        return alpha * SDPG_PENALTIES[penalty](s - b)

    return Repair(
        name="sdpg",
        views=(View(answer, needs=1),),
        advance=advance,
        advantage=advantage,
        weights=weights,
        regulariser=regulariser,
        divergence=Divergence(1.0, top_k=None, clip=20.0, clip_at="token"),
        surrogate=Surrogate("ppo", low, high, dual, old),
        teacher=TeacherRule("live"),
        reads_base=True,
        temperature=temperature,
        teacher_temperature=1.0,
    )


def scope(tau: float = 1.0) -> Repair:
    """Return SCOPE (port in lee3296/FIRE): surprising right rows, and wrong rows likely for the teacher.

        right rows: -sum_t r, weight softmax(-mean old / tau) over the group's right rows
        wrong rows:  sum_t r sg(old - t), weight softmax(mean t / tau) over the group's wrong rows

    Sums over tokens without a clip, and the mean over groups with such a row. The softmax is over the whole
    group, also where a minibatch holds a part of it.
    """

    def advantage(signals: Signals, state: dict):
        return torch.where(signals.right[:, None], torch.ones_like(signals.old), signals.t[0] - signals.old)

    def weights(signals: Signals, state: dict):
        facts, groups = signals.facts, (-1, signals.num_generations)
        rows = signals.right | facts.informed[0].bool()
        mask = facts.mask.bool() & rows[:, None]
        length = mask.sum(1).clamp(min=1)
        surprise = -(signals.old * mask).sum(1) / (tau * length)
        likely = (signals.t[0] * mask).sum(1) / (tau * length)
        share = torch.zeros_like(likely)
        for side, scores in ((signals.right & rows, surprise), (~signals.right & rows, likely)):
            logits = scores.masked_fill(~side, float("-inf")).view(groups)
            share += logits.softmax(1).nan_to_num(0).flatten()  # a group without such rows: 0 for all
        counted = (rows & signals.included).view(groups).any(1).sum().clamp(min=1)
        return None, signals.mask * share[:, None] / counted

    return Repair(
        name="scope",
        advantage=advantage,
        weights=weights,
        surrogate=Surrogate("ratio"),
    )
