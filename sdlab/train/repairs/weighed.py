"""What the hooks of a repair say about the tokens of a minibatch, checked."""

from dataclasses import dataclass

import torch

from sdlab.errors import SdlabError
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.loss import checked
from sdlab.train.repairs.signals import Signals


@dataclass
class Weighed:
    """What the hooks say about the tokens of a minibatch; tables are (B, T), 0 where the mask is false."""

    distil: torch.Tensor | None
    policy: torch.Tensor | None
    advantage: torch.Tensor | None
    mean: torch.Tensor  # of the mean over all tokens

    @property
    def distils(self) -> torch.Tensor:
        """Return which rows are distilled, (B,) bool."""
        return torch.zeros(len(self.mean)).bool() if self.distil is None else (self.distil > 0).any(1)

    @property
    def pushes(self) -> torch.Tensor:
        """Return which rows have a policy gradient, (B,) bool."""
        if self.policy is None or self.advantage is None:
            return torch.zeros(len(self.mean)).bool()
        return ((self.policy > 0) & (self.advantage != 0)).any(1)

    @property
    def taught(self) -> list[int]:
        """Return the rows that contribute to the gradient."""
        return (self.distils | self.pushes).nonzero()[:, 0].tolist()

    def counted(self, repair: Repair) -> list[int]:
        """Return the rows that count in a mean of the loss, also those without a gradient."""
        if repair.regulariser:
            return list(range(len(self.mean)))
        policy = torch.zeros_like(self.mean) if self.policy is None else self.policy
        return (self.distils | (policy > 0).any(1)).nonzero()[:, 0].tolist()


def weigh(repair: Repair, signals: Signals, state: dict) -> Weighed:
    """Return weights and advantages from the hooks, checked.

    Raises SdlabError, naming the repair and the hook, for results that cannot be used.
    """
    mask = signals.mask
    shapes = (mask.shape, (len(mask), 1))
    pair = repair.weights(signals, state)
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise SdlabError(
            f"repair {repair.name!r}: weights gave a {type(pair).__name__}; it must give the pair "
            "(distil, policy), each a tensor or None; change the hook"
        )
    tables = []
    for name, weight in zip(("distil", "policy"), pair, strict=True):
        if weight is not None:
            weight = checked(repair, f"weights ({name})", weight, *shapes).expand(mask.shape)
            weight = weight.to(signals.old).masked_fill(~mask, 0)
            if (weight < 0).any():
                raise SdlabError(
                    f"repair {repair.name!r}: weights ({name}) gave {weight.min():.3g}; weights must be at "
                    "least 0; change the hook (a sign belongs in the advantage)"
                )
        tables.append(weight)
    distil, policy = tables
    if (policy is None) != (repair.advantage is None):
        lacks, has = (
            ("advantage", "policy weights") if repair.advantage is None else ("policy weights", "advantage")
        )
        raise SdlabError(
            f"repair {repair.name!r}: weights and advantage do not agree: there is {has} but no {lacks}; "
            "give both or neither"
        )
    if distil is not None and not repair.views:
        raise SdlabError(
            f"repair {repair.name!r}: weights gave distil weights, but there is no view; add one or give None"
        )
    check_ratio(repair, distil is not None, policy is not None)
    advantage = None
    if repair.advantage:
        values = checked(repair, "advantage", repair.advantage(signals, state), *shapes)
        advantage = values.expand(mask.shape).to(signals.old).masked_fill(~mask, 0)
    return Weighed(distil, policy, advantage, signals.token_mean(mask))


def check_group(repair: Repair, num_generations: int) -> None:
    """Raise SdlabError when the group is too small for a view of the repair."""
    for number, view in enumerate(repair.views):
        if view.needs > num_generations:
            raise SdlabError(
                f"repair {repair.name!r}: views[{number}] needs {view.needs} completions of each problem; "
                f"num_generations is {num_generations}; raise it, or use fewer views"
            )


def check_ratio(repair: Repair, distils: bool, pushes: bool) -> None:
    """Raise SdlabError when a ratio would compare probabilities of two temperatures.

    The probabilities at sampling have the sampling temperature, the student's also the repair's.
    """
    surrogate, fields = repair.surrogate, []
    if distils and repair.divergence.ratio_clip is not None:
        fields.append("Divergence(ratio_clip=None)")
    if pushes and surrogate.kind != "logp" and surrogate.old == "rollout":
        fields.append('Surrogate(old="student")')
    if repair.temperature != 1 and fields:
        raise SdlabError(
            f"repair {repair.name!r}: with temperature={repair.temperature:g} the ratio exp(s - old) is not "
            f"1 for the policy that sampled; it needs temperature=1; use {' and '.join(fields)}, or change "
            "the sampling temperature instead"
        )


def advanced(repair: Repair, state: dict, signals: Signals) -> dict:
    """Return the state after `advance`, checked.

    Raises SdlabError, naming the repair and the hook, unless it is a dict that a checkpoint can hold.
    """
    new = repair.advance(state, signals)
    if type(new) is not dict:
        raise SdlabError(
            f"repair {repair.name!r}: advance gave a {type(new).__name__}; it must give a dict; "
            "change the hook"
        )
    kind = _not_stored(new)
    if kind is not None:
        raise SdlabError(
            f"repair {repair.name!r}: advance gave a state with a {kind.__module__}.{kind.__name__}, which a "
            "checkpoint cannot hold; it may hold numbers, texts, tensors, and lists, tuples and dicts of "
            "them; change the hook, for example to x.item()"
        )
    return new


def _not_stored(value: object) -> type | None:
    """Return the type of a part that a checkpoint would not load again, or None."""
    if type(value) in (bool, int, float, str, type(None)) or isinstance(value, torch.Tensor):
        return None
    if type(value) is dict:
        parts = [*value, *value.values()]
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):
        parts = [*value]
    else:
        return type(value)
    return next((kind for kind in map(_not_stored, parts) if kind is not None), None)
