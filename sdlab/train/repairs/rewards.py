"""Repairs that reward each token by what the views of the teacher think of it.

s, t and u are defined in `signals`. Grades: code = the authors' code, port = a re-implementer's code, paper =
the paper's text, note = second-hand notes, reconstructed = filled in.
"""

import math

import torch

from sdlab.train.repairs.hooks import Repair, Surrogate, reinforce_taught
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.targets import AVSD_VIEWS, agreement


def avsd(gate: str = "avsd", temperature: float = 0.7) -> Repair:
    """Return AVSD on the sampled tokens (arXiv 2605.20643; code), the default of its scripts.

        g = mean_m t_m;  a = log mean_m exp t_m;  J = max(a - g, 0);  advantage = g + gate J - s

    gate: "avsd" is `agreement`, "consensus" is 0, "arithmetic" is 1.
    """

    def advantage(signals: Signals, state: dict):
        t, s = signals.t, signals.s
        geometric, arithmetic = t.mean(0), t.logsumexp(0) - math.log(len(t))
        excess = (arithmetic - geometric).clamp(min=0)
        open_ = {"consensus": 0.0, "arithmetic": 1.0}
        share = open_[gate] if gate in open_ else agreement(t - s, excess)
        return geometric + share * excess - s

    return Repair(
        name="avsd",
        views=AVSD_VIEWS,
        advantage=advantage,
        weights=reinforce_taught,
        surrogate=Surrogate("logp"),
        temperature=temperature,
    )


def likelihood_factor(signals: Signals, limit: float, normalise: bool) -> torch.Tensor:
    """Return w = clip(exp(t - old), 1/limit, limit), (B, T), divided by its geometric mean over the row."""
    log_w = (signals.t[0] - signals.old).clamp(-math.log(limit), math.log(limit)) * signals.mask
    if normalise:
        log_w = log_w - log_w.sum(1, keepdim=True) / signals.mask.sum(1, keepdim=True).clamp(min=1)
    return log_w.exp()


def distilled_rl(
    limit: float = 3.0,
    apply_to: str = "positive",
    normalise: bool = True,
    dual: float | None = 3.0,
    scale: str = "std",
) -> Repair:
    """Return Distilled-RL (arXiv 2607.17247; code; its teacher was another model): A' = A w where A > 0.

        w = clip(exp(t - old), 1/c, c), divided by its geometric mean over the row

    apply_to: "positive", "negative" or "all" advantages.
    """

    def advantage(signals: Signals, state: dict):
        A, w = signals.advantages(scale), likelihood_factor(signals, limit, normalise)
        changed = {"positive": A > 0, "negative": A < 0, "all": A == A}[apply_to]
        return A * torch.where(changed, w, torch.ones_like(w))

    return Repair(
        name="distilled_rl",
        advantage=advantage,
        weights=lambda signals, state: (None, signals.token_mean(signals.mask, eps=1e-8)),
        surrogate=Surrogate("ppo", 0.2, 0.2, dual),
    )


def token_rewards(signals: Signals, alpha: float) -> torch.Tensor:
    """Return TOP-D's reward of each token, log(alpha exp(t - old) + 1 - alpha), (B, T)."""
    return (alpha * (signals.t[0] - signals.old).exp() + 1 - alpha).log()


def returns(rewards: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return each token's reward plus the mean of the row's later rewards, (B, T)."""
    after = rewards.flip(1).cumsum(1).flip(1) - rewards
    left = mask.flip(1).cumsum(1).flip(1) - mask.int()
    return (rewards + after / left.clamp(min=1)) * mask


def group_means(signals: Signals, mask: torch.Tensor) -> torch.Tensor:
    """Return the weights (B, T) of the mean over groups with a token of each group's token mean."""
    counts = mask.sum(1).view(-1, signals.num_generations).sum(1).to(signals.old.dtype)
    share = 1 / (counts.clamp(min=1) * (counts > 0).sum().clamp(min=1))
    return mask * share.repeat_interleave(signals.num_generations)[:, None]


def topd(alpha: float = 0.2) -> Repair:
    """Return TOP-D (port in lee3296/FIRE): a reward per token from the teacher alone, no verifier.

    A = `returns` of `token_rewards`, standardised over the tokens of the group
    PPO(A), mean over groups of the group's token mean

    The group is the whole one, also where a minibatch holds a part of it.
    """

    def advantage(signals: Signals, state: dict):
        G, facts = signals.num_generations, signals.facts
        mask = facts.mask.bool() & facts.informed.bool().all(0)[:, None]
        values = returns(token_rewards(signals, alpha), mask)
        count = mask.view(-1, G * mask.shape[1]).sum(1).clamp(min=1)

        def group_mean(x):
            return ((x * mask).view(len(count), -1).sum(1) / count).repeat_interleave(G)[:, None]

        centred = values - group_mean(values)
        return centred / (group_mean(centred.square()).sqrt() + 1e-6)

    return Repair(
        name="topd",
        advantage=advantage,
        weights=lambda signals, state: (None, group_means(signals, signals.taught)),
        surrogate=Surrogate("ppo", 0.2, 0.2),
    )


def earliness(a: torch.Tensor, gamma: float = 0.5, eps: float = 1e-8) -> torch.Tensor:
    """Return IW-OPD's weights 1 + gamma (1 - sum_{k<t} |a_k| / sum_k |a_k|) of gains a (B, T)."""
    sizes = a.abs()
    before = (sizes.cumsum(1) - sizes) / sizes.sum(1, keepdim=True).clamp(min=eps)
    return 1 + gamma * (1 - before)


def iw_opd(gamma: float = 0.5, rollout: str = "self", eps: float = 1e-8, temperature: float = 1.0) -> Repair:
    """Return IW-OPD (arXiv 2606.22600; code in TRL): sampled reverse KL, with more weight on early tokens.

    A = a w,  a = t - s, or t - old (rollout="old"),  w = `earliness` of a
    """

    def advantage(signals: Signals, state: dict):
        a = (signals.u[0] if rollout == "self" else signals.t[0] - signals.old) * signals.mask
        return a * earliness(a, gamma, eps)

    return Repair(
        name="iw_opd",
        advantage=advantage,
        weights=reinforce_taught,
        surrogate=Surrogate("logp"),
        temperature=temperature,
    )
