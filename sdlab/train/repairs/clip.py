"""Repairs that compare the student with the teacher in another way: the divergence and its clip.

Grades: code = the authors' code, paper = the paper's text, note = second-hand notes, reconstructed = filled
in.
"""

from sdlab.train.repairs.hooks import Divergence, Repair, Surrogate, reinforce_taught
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.views import View, own_attempt

SDPO = Repair(name="sdpo")  # arXiv 2601.20802, with the settings of arXiv 2603.24472


def opsd_clip(
    alpha: float = 0.0,
    clip: float | None = 0.05,
    top_k: int | None = None,
    rest: str = "bucket",
    temperature: float = 1.1,
) -> Repair:
    """Return OPSD (arXiv 2601.18734; code): each entry's term of the divergence is at most `clip`.

        loss_t = sum_v min(p_T (l_T - l_S), clip),  logits / 1.1,  mean over tokens

    The clip acts before the sum over the vocabulary and on one side only, so the loss can be negative.
    """
    return Repair(
        name="opsd_clip",
        divergence=Divergence(alpha, top_k, support="teacher", rest=rest, clip=clip),
        temperature=temperature,
    )


def opsd_sampled(temperature: float = 1.0) -> Repair:
    """Return OPSD on the sampled tokens only (arXiv 2601.18734; code).

        loss_t = -sg(u) s

    Its expected gradient is that of KL(S || T).
    """

    def advantage(signals: Signals, state: dict):
        return signals.u[0]

    return Repair(
        name="opsd_sampled",
        advantage=advantage,
        weights=reinforce_taught,
        surrogate=Surrogate("logp"),
        temperature=temperature,
    )


def sd_zero(top_k: int = 64, forward: float = 0.5) -> Repair:
    """Return SD-Zero's second phase (arXiv 2604.12002; code; the view is reconstructed).

        loss_t = forward KL(T || S) + (1 - forward) KL(S || T) on the teacher's top k, renormalised

    The teacher reads the completion itself and a verdict, and no solution. The paper's equation is forward =
    0.
    """
    return Repair(
        name="sd_zero",
        views=(View(own_attempt, needs=1),),
        divergence=Divergence((forward, 1 - forward), top_k, support="teacher", rest="renormalise"),
    )
