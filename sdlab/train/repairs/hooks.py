"""A repair of self-distillation: a few pure functions and declarations that change SDPO.

    loss = sum distil * D(student, target) + sum policy * surrogate(advantage) + mean regulariser

`Repair()` is SDPO. A repair replaces the hooks that it needs, so that each method can be read beside its
formula in `clip`, `targets`, `advantages`, `weighting`, `routing` and `controls`.

Shapes: B completions of at most T tokens in groups of G, a vocabulary of V tokens, M views of the teacher, K
entries of the divergence's support, N tokens of a micro-batch. Everything that a hook gets is without
gradient, except the student's log-probabilities in `target` and `regulariser`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch

from sdlab.errors import SdlabError
from sdlab.settings import Count, OneOf, Positive, Range, Share, check_settings, unused
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.views import View

SUPPORTS = {"student": "the student's k most likely tokens", "teacher": "the first view's"}
RESTS = {
    "bucket": "all other tokens are one more entry",
    "renormalise": "the k probabilities of either side are divided by their sum",
    "drop": "other tokens are left out",
    "renormalise_teacher": "only the target's k probabilities are divided by their sum",
}
SURROGATES = {"ppo": "max(-r A, -clip(r) A)", "ratio": "-r A", "logp": "-A log p"}
OLD = {"rollout": "the probabilities at sampling", "student": "the student's own, so that r = 1"}
TEACHERS = {
    "base": "the weights the student started from",
    "live": "the student itself",
    "ema": "a moving average of the student: weights += rate * (student - weights) after a step",
    "snapshot": "a copy of the student, taken anew every `every` steps",
    "trust_region": "logits base + rate * (student - base)",
}
Weights = tuple[torch.Tensor | None, torch.Tensor | None]


@dataclass(frozen=True)
class Divergence:
    """How the student is compared with the target at a token.

    alpha: 0 is KL(target || student), 1 is KL(student || target), between them is the generalised
    Jensen-Shannon divergence (`sdlab.train.divergences`). A pair (a, b) is a KL(target || student) + b
    KL(student || target). top_k: entries of the support, None for the whole vocabulary. clip: the upper bound
    of each entry's term ("element") or of the token's sum ("token"). ratio_clip: the bound of the importance
    weight exp(s - old) of a token, None for no such weight.

    Raises SdlabError for a value that is not allowed.
    """

    alpha: Share | tuple[float, ...] = 0.5
    top_k: Count | None = 100
    support: Annotated[str, OneOf("support", SUPPORTS)] = "student"
    rest: Annotated[str, OneOf("rule for the other tokens", RESTS)] = "bucket"
    clip: Positive | None = None
    clip_at: Annotated[str, OneOf("place of the clip", ("element", "token"))] = "element"
    ratio_clip: Positive | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        if isinstance(self.alpha, tuple) and (len(self.alpha) != 2 or min(self.alpha) < 0):
            raise SdlabError(f"alpha={self.alpha} is not allowed; a pair needs two numbers of at least 0")


@dataclass(frozen=True)
class Surrogate:
    """The policy loss of an advantage A at a sampled token, with r = exp(s - old).

    The clip range of r is 1 - low to 1 + high. dual: where A < 0 the loss is at most -dual * A.

    Raises SdlabError for a value that is not allowed.
    """

    kind: Annotated[str, OneOf("surrogate", SURROGATES)] = "ppo"
    low: Share = 0.2
    high: Annotated[float, Range(0)] = 0.28
    dual: Positive | None = None
    old: Annotated[str, OneOf("old policy", OLD)] = "rollout"

    def __post_init__(self) -> None:
        check_settings(self)
        unused(self, "dual", self.kind == "ppo", 'kind="ppo"')


@dataclass(frozen=True)
class TeacherRule:
    """Whose weights the teacher has; see TEACHERS. Raises SdlabError for a value that is not allowed."""

    kind: Annotated[str, OneOf("teacher", TEACHERS)] = "base"
    rate: Annotated[float, Range(above=0, most=1)] = 0.05  # of "ema" and "trust_region"
    every: Count = 10  # steps, of "snapshot"

    def __post_init__(self) -> None:
        check_settings(self)
        moves = self.kind in ("ema", "trust_region")
        unused(self, "rate", moves, 'kind="ema" or "trust_region"')
        unused(self, "every", self.kind == "snapshot", 'kind="snapshot"')


def keep_nothing(state: dict, signals: Signals) -> dict:
    """Return the state of a repair that has none."""
    return {}


def distil_all(signals: Signals, state: dict) -> Weights:
    """Return SDPO's weights: the mean over the tokens of all rows whose teacher has its context."""
    return signals.token_mean(signals.taught), None


def reinforce_taught(signals: Signals, state: dict) -> Weights:
    """Return the weights of a policy loss: the mean over the tokens whose teacher has its context."""
    return None, signals.token_mean(signals.taught)


def first_view(
    student: torch.Tensor, views: torch.Tensor, base: torch.Tensor | None, state: dict
) -> torch.Tensor:
    """Return the first view (N, K), SDPO's target."""
    return views[0]


@dataclass(frozen=True)
class Repair:
    """One method: hooks and declarations. The default is SDPO (arXiv 2601.20802).

    views: what the teacher sees, one context rule for each of M views, and whose weights read it.

    advance(state, signals) -> state: called once per step, first. The state is a dict of numbers, texts,
    tensors, and lists, tuples and dicts of them. It is {} before the first step and is stored with the
    checkpoint.

    advantage(signals, state) -> (B, T) or (B, 1), signed; None means no policy term.

    weights(signals, state) -> (distil, policy), each (B, T), (B, 1) or None (no such term), at least 0, with
    the denominators.

    advantage and weights are called for the whole step and again for each minibatch, whose masks hold only
    its rows. The minibatches together hold all rows. `signals.facts` are those of the whole step, for what
    is a property of a group, because a minibatch may hold a part of it.

    target(student (N, K), views (M, N, K), base (N, K) or None, state) -> log-probabilities (N, K). It works
    on the divergence's support.

    regulariser(student (N, V), base (N, V) or None, ids (N,)) -> (N,); its mean over all tokens is added.

    reads_base: whether target or regulariser read `base`, the model from which training started, without
    context. temperature divides the logits, in addition to the sampling temperature. teacher_temperature is
    the views' own and the only one that divides their logits (None: they have that of the others).

    Raises SdlabError for a value that is not allowed.
    """

    name: str = "repair"
    views: tuple[View, ...] = (View(),)
    advance: Callable[[dict, Signals], dict] = keep_nothing
    advantage: Callable[[Signals, dict], torch.Tensor] | None = None
    weights: Callable[[Signals, dict], Weights] = distil_all
    target: Callable[..., torch.Tensor] = first_view
    regulariser: Callable[..., torch.Tensor] | None = None
    divergence: Divergence = Divergence(ratio_clip=2.0)
    surrogate: Surrogate = Surrogate()
    teacher: TeacherRule = TeacherRule()
    reads_base: bool = False
    temperature: Positive = 1.0
    teacher_temperature: Positive | None = None

    def __post_init__(self) -> None:
        check_settings(self)
