"""The informed teacher: which solution it sees, how its prompt contains it, and which weights it has.

The teacher writes nothing. It is the same network with more context c, and it scores the student's own
tokens.

Source: SDPO, arXiv 2601.20802; paper Section 4.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import nn

from sdlab.errors import SdlabError, unknown
from sdlab.seeds import stream
from sdlab.text.prompt import render_prompt, strip_thinking
from sdlab.text.templates import knows_think, named, opens_thinking
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Model = TypeVar("Model", bound=nn.Module)

TEACHER_CONTEXTS = {
    "solution": "a sibling's right completion, thinking included (c = s)",
    "solution_no_think": "a sibling's right completion without its thinking (c = s without think)",
    "feedback": "the environment's feedback on this wrong completion, no solution",
    "solution_feedback": "a sibling's right completion, and the environment's feedback on a wrong one",
}
DEMONSTRATIONS = {
    "first": "the group's first right completion other than its own, as in the paper",
    "random": "a random right completion other than its own",
}
TEACHER_KINDS = {
    "base": "the weights the student started from",
    "ema": "a moving average of the student",
    "live": "the student itself",
}


def choose_demonstrations(
    rewards: torch.Tensor,
    num_generations: int,
    rule: str = "first",
    rng: Random | None = None,
    usable: Sequence[bool] | None = None,
) -> list[int | None]:
    """Return for each of B rows the row of its demonstration, or None.

    The demonstration is a right completion of the same group, never the row itself. rewards: (B,), prompt by
    prompt; a row is right when its reward is above 0.5. The only right row of a group has no demonstration
    (SDPO's `dont_reprompt_on_self_success`). `rng`, a random.Random, is needed by the rule "random". usable:
    (B,), rows that can serve as a demonstration; None means all.

    Raises SdlabError on an unknown rule, and when the rule "random" gets no rng.
    """
    if rule not in DEMONSTRATIONS:
        raise unknown("demonstration rule", rule, DEMONSTRATIONS)
    if rule == "random" and rng is None:
        raise SdlabError('the rule "random" needs rng; give a random.Random')
    chosen = []
    for row in range(len(rewards)):
        start = row - row % num_generations
        others = (i for i in range(start, start + num_generations) if i != row)
        right = [i for i in others if rewards[i] > 0.5 and (usable is None or usable[i])]
        if not right:
            chosen.append(None)
        else:
            chosen.append(right[0] if rule == "first" or rng is None else rng.choice(right))
    return chosen


@dataclass(frozen=True)
class TeacherView:
    """What the teacher sees for each of B rows."""

    prompts: list[str]  # B; a row that is not distilled keeps the student's prompt
    distilled: list[bool]  # B, SDPO's distillation mask: the teacher knows something the student does not
    demonstrations: list[int | None]  # B, row of the demonstration shown


class TeacherSettings(Protocol):
    """The settings that `teacher_view` reads, of an SDPOConfig."""

    @property
    def context(self) -> str:
        """Return one of TEACHER_CONTEXTS."""
        ...

    @property
    def demonstration(self) -> str:
        """Return one of DEMONSTRATIONS."""
        ...

    @property
    def thinking(self) -> bool:
        """Return whether the model thinks."""
        ...

    @property
    def seed(self) -> int:
        """Return the training seed."""
        ...


def check_context(tokenizer: "PreTrainedTokenizerBase", context: str) -> None:
    """Raise SdlabError for "solution_no_think" with a model without <think>.

    Nothing could be removed from its solutions, and the teacher would silently see the full solution.
    """
    if context == "solution_no_think" and not knows_think(tokenizer):
        raise SdlabError(
            f"context='solution_no_think' cannot be had from {named(tokenizer)}: it has no <think> in its "
            "chat template or vocabulary, so the teacher would see the full solution; "
            "use context='solution'"
        )


def teacher_view(
    tokenizer: "PreTrainedTokenizerBase",
    problems: Sequence[Problem],
    texts: Sequence[str],
    rewards: torch.Tensor,
    num_generations: int,
    config: TeacherSettings,
    step: int,
) -> TeacherView:
    """Return the teacher's prompt for every row: problem, demonstration, feedback, then the problem again.

    config.context says which parts there are. problems: (P,). texts: (B,), the rollouts' completions.
    rewards: (B,). With "solution_no_think" the thinking is removed whether or not the template opens
    `<think>` itself. (TRL 1.16's pattern needs both tags and silently keeps everything on R1 templates.) A
    sibling that was cut inside its thinking has no text left; the next right one is used instead.

    Raises SdlabError on an unknown context, and for "solution_no_think" with a model without <think>.
    """
    if config.context not in TEACHER_CONTEXTS:
        raise unknown("teacher context", config.context, TEACHER_CONTEXTS)
    check_context(tokenizer, config.context)
    texts = list(texts)
    if config.context == "solution_no_think":
        opened = opens_thinking(tokenizer, config.thinking)
        texts = [strip_thinking(text, opened) for text in texts]
    rng = stream("demonstration", config.seed, step)
    siblings: list[int | None] = choose_demonstrations(
        rewards, num_generations, config.demonstration, rng, [bool(text) for text in texts]
    )
    if not config.context.startswith("solution"):
        siblings = [None] * len(siblings)
    demonstrations = [None if i is None else texts[i] for i in siblings]
    feedbacks = [None] * len(demonstrations)
    if config.context.endswith("feedback"):
        feedbacks = [
            None if reward > 0.5 else problems[row // num_generations].feedback or None
            for row, reward in enumerate(rewards.tolist())
        ]
    prompts = [
        render_prompt(
            tokenizer, problems[row // num_generations], demonstration or None, feedback, config.thinking
        )
        for row, (demonstration, feedback) in enumerate(zip(demonstrations, feedbacks, strict=True))
    ]
    return TeacherView(
        prompts, [bool(d or f) for d, f in zip(demonstrations, feedbacks, strict=True)], siblings
    )


class Teacher:
    """The teacher's weights: "base" is fixed, "ema" follows the student, "live" is the student.

    EMA: weights <- (1 - rate) * weights + rate * student after every step (rate 0.05 in the paper's ablation,
    Fig. 6).

    Raises SdlabError on an unknown kind and on a rate outside (0, 1].
    """

    def __init__(self, student: "PreTrainedModel", kind: str = "base", rate: float = 0.05) -> None:
        if kind not in TEACHER_KINDS:
            raise unknown("teacher", kind, TEACHER_KINDS)
        if kind == "ema" and not 0 < rate <= 1:
            raise SdlabError(
                f"teacher_update_rate={rate} is not allowed; "
                'it must be above 0 and at most 1 (for 0, use the teacher "base")'
            )
        self.kind, self.rate, self.student = kind, rate, student
        self.model = student if kind == "live" else frozen_copy(student)

    @property
    def state(self) -> dict:
        """Return the part of the teacher that a run folder stores: an EMA's weights.

        The other kinds store nothing, because their weights can be computed again.
        """
        return {"teacher": self.model} if self.kind == "ema" else {}

    @torch.no_grad()
    def follow(self) -> None:
        """Move an EMA teacher towards the student; the other kinds stay as they are."""
        if self.kind == "ema":
            for mine, theirs in zip(self.model.parameters(), self.student.parameters(), strict=True):
                mine.lerp_(theirs, self.rate)


def frozen_copy(model: Model) -> Model:
    """Return a copy of `model` that does not train."""
    return copy.deepcopy(model).eval().requires_grad_(False)
