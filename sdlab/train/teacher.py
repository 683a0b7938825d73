"""The informed teacher: which solution it sees, how that enters its prompt, and whose weights it has.

The teacher writes nothing. It is the same network with richer context c that scores the student's own tokens
(SDPO, arXiv 2601.20802; paper Section 4).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sdlab.errors import SdlabError, unknown
from sdlab.seeds import stream
from sdlab.text.prompt import render_prompt, strip_thinking
from sdlab.text.templates import opens_thinking

TEACHER_CONTEXTS = {
    "solution": "a sibling's right completion, thinking included (c = s)",
    "solution_no_think": "a sibling's right completion without its thinking (c = s without think)",
    "feedback": "what the environment says of this wrong completion, no solution",
    "solution_feedback": "a sibling's right completion, and the environment's feedback on a wrong one",
}
DEMONSTRATIONS = {
    "first": "the group's first right completion but one's own, as in the paper",
    "random": "any right one but one's own",
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
    rng=None,
    usable: Sequence[bool] | None = None,
) -> list[int | None]:
    """For each of B rows the row of its demonstration: a right completion of the same group, never its own; else None.

    rewards (B,) prompt-major; right is a reward above 0.5. A group's only right row has no other to learn from (SDPO's
    `dont_reprompt_on_self_success`). `rng`, a random.Random, is needed by the rule "random".
    usable (B,): rows that have something to show; others are passed over. None: all.
    Raises SdlabError on an unknown rule.
    """
    if rule not in DEMONSTRATIONS:
        raise unknown("demonstration rule", rule, DEMONSTRATIONS)
    chosen = []
    for row in range(len(rewards)):
        start = row - row % num_generations
        others = (i for i in range(start, start + num_generations) if i != row)
        right = [i for i in others if rewards[i] > 0.5 and (usable is None or usable[i])]
        chosen.append(None if not right else right[0] if rule == "first" else rng.choice(right))
    return chosen


@dataclass(frozen=True)
class TeacherView:
    """What the teacher sees for each of B rows."""

    prompts: list[str]  # B; a row that is not distilled keeps the student's prompt
    distilled: list[bool]  # B, SDPO's distillation mask: the teacher knows something the student does not
    demonstrations: list[int | None]  # B, row of the demonstration shown


def teacher_view(
    tokenizer,
    problems: Sequence,
    texts: Sequence[str],
    rewards: torch.Tensor,
    num_generations: int,
    config,
    step: int,
) -> TeacherView:
    """The teacher's prompt for every row under config.context: problem, demonstration, feedback, then the question again.

    problems (P,), texts (B,) the rollouts' completions, rewards (B,). Thinking is removed whether or not the template opens
    `<think>` itself (TRL 1.16's pattern needs both tags and silently keeps everything on R1 templates); a sibling of which nothing
    is left, cut inside its thinking, is passed over for the next right one.
    """
    if config.context not in TEACHER_CONTEXTS:
        raise unknown("teacher context", config.context, TEACHER_CONTEXTS)
    texts = list(texts)
    if config.context == "solution_no_think":
        opened = opens_thinking(tokenizer, config.thinking)
        texts = [strip_thinking(text, opened) for text in texts]
    rng = stream("demonstration", config.seed, step)
    siblings = choose_demonstrations(
        rewards, num_generations, config.demonstration, rng, [bool(text) for text in texts]
    )
    if not config.context.startswith("solution"):
        siblings = [None] * len(siblings)
    shown = [None if i is None else texts[i] for i in siblings]
    told = [None] * len(shown)
    if config.context.endswith("feedback"):
        told = [
            None if reward > 0.5 else problems[row // num_generations].feedback or None
            for row, reward in enumerate(rewards.tolist())
        ]
    prompts = [
        render_prompt(
            tokenizer, problems[row // num_generations], demonstration or None, feedback, config.thinking
        )
        for row, (demonstration, feedback) in enumerate(zip(shown, told))
    ]
    return TeacherView(prompts, [bool(d or f) for d, f in zip(shown, told)], siblings)


class Teacher:
    """The teacher's weights: "base" never moves, "ema" follows the student at `rate` per step, "live" is the student.

    EMA: weights <- (1 - rate) * weights + rate * student after every step (rate .05 in the paper's ablation, Fig. 6).
    Raises SdlabError on an unknown kind or a rate outside (0, 1].
    """

    def __init__(self, student, kind: str = "base", rate: float = 0.05):
        if kind not in TEACHER_KINDS:
            raise unknown("teacher", kind, TEACHER_KINDS)
        if kind == "ema" and not 0 < rate <= 1:
            raise SdlabError(
                f'teacher_update_rate={rate} is not allowed; it must be above 0 and at most 1 (0 is the teacher "base")'
            )
        self.kind, self.rate, self.student = kind, rate, student
        self.model = student if kind == "live" else frozen_copy(student)

    @property
    def state(self) -> dict:
        """What a run folder keeps of the teacher: its weights where they move, nothing where they can be made again."""
        return {"teacher": self.model} if self.kind == "ema" else {}

    @torch.no_grad()
    def follow(self) -> None:
        """Move an EMA teacher towards the student; the others stay."""
        if self.kind == "ema":
            for mine, theirs in zip(self.model.parameters(), self.student.parameters()):
                mine.lerp_(theirs, self.rate)


def frozen_copy(model):
    """A copy of `model` that does not train."""
    return copy.deepcopy(model).eval().requires_grad_(False)
