"""What the teacher of a repair sees: context rules, from a step's completions to the teacher's prompts.

A rule is a function Step -> (prompts, informed), B each. A row that is not informed keeps the student's
prompt. Where a published context cannot be had in the world of sdlab, the rule says which one is nearest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import torch

from sdlab.seeds import stream
from sdlab.settings import Count, OneOf, check_settings
from sdlab.text.prompt import SOLUTION, render_prompt
from sdlab.train.teacher import choose_demonstrations, teacher_view
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Step:
    """A step's completions, as a context rule sees them."""

    tokenizer: "PreTrainedTokenizerBase"
    problems: Sequence[Problem]  # P
    texts: Sequence[str]  # B
    rewards: torch.Tensor  # (B,)
    num_generations: int  # G
    seed: int
    step: int
    thinking: bool = True

    def problem(self, row: int) -> Problem:
        """Return the problem of a row."""
        return self.problems[row // self.num_generations]

    def siblings(self, rule: str = "first") -> list[int | None]:
        """Return for each row the row of its demonstration, a right sibling, or None."""
        rng = stream("demonstration", self.seed, self.step)
        return choose_demonstrations(self.rewards, self.num_generations, rule, rng)

    def prompt(self, row: int, demonstration: str | None = None, feedback: str | None = None) -> str:
        """Return the rendered prompt of a row's problem with a demonstration and feedback."""
        return render_prompt(self.tokenizer, self.problem(row), demonstration, feedback, self.thinking)

    def prompts(self, demonstrations: Sequence[str | None]) -> tuple[list[str], list[bool]]:
        """Return the prompts with the demonstrations, B each, and which rows have one."""
        return [self.prompt(row, text) for row, text in enumerate(demonstrations)], list(
            map(bool, demonstrations)
        )


Rule = Callable[[Step], tuple[list[str], list[bool]]]


@dataclass(frozen=True)
class View:
    """One context of the teacher.

    model: "teacher" (see TeacherRule) or "base". needs: the smallest number of generations.

    Raises SdlabError for a value that is not allowed.
    """

    rule: Rule = None  # type: ignore[assignment]  # None: `solution`
    model: Annotated[str, OneOf("model of a view", ("teacher", "base"))] = "teacher"
    needs: Count = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", self.rule or solution)
        check_settings(self)


@dataclass(frozen=True)
class _Context:
    """The settings that `teacher_view` reads."""

    context: str
    demonstration: str
    seed: int
    thinking: bool


def from_context(context: str, demonstration: str = "first") -> Rule:
    """Return the rule of a context of SDPO (`sdlab.train.teacher.TEACHER_CONTEXTS`)."""

    def rule(step: Step) -> tuple[list[str], list[bool]]:
        config = _Context(context, demonstration, step.seed, step.thinking)
        view = teacher_view(
            step.tokenizer, step.problems, step.texts, step.rewards, step.num_generations, config, step.step
        )
        return view.prompts, view.distilled

    return rule


solution = from_context("solution")  # the group's first right completion other than its own, as in SDPO
solution_no_think = from_context("solution_no_think")


def wrong_solution(number: int = 0) -> Rule:
    """Return the rule that shows the wrong sibling with this number, in the words used for a right one."""

    def rule(step: Step) -> tuple[list[str], list[bool]]:
        texts = []
        for row in range(len(step.texts)):
            start = row - row % step.num_generations
            group = (i for i in range(start, start + step.num_generations) if i != row)
            wrong = [i for i in group if step.rewards[i] < 0.5]
            texts.append(step.texts[wrong[number]] if number < len(wrong) else None)
        return step.prompts(texts)

    return rule


def half_solution(step: Step) -> tuple[list[str], list[bool]]:
    """Show the first half of the demonstration's words (AVSD)."""
    texts = [None if i is None else step.texts[i].split(" ") for i in step.siblings()]
    return step.prompts(
        [None if words is None else " ".join(words[: (len(words) + 1) // 2]) for words in texts]
    )


def sibling_answer(step: Step) -> tuple[list[str], list[bool]]:
    """Show only the boxed answer, to rows with a right sibling (AVSD)."""
    return step.prompts(
        [
            None if i is None else f"\\boxed{{{step.problem(row).answer}}}"
            for row, i in enumerate(step.siblings())
        ]
    )


def answer(step: Step) -> tuple[list[str], list[bool]]:
    """Show the problem's boxed answer, to every row (SDPG)."""
    return step.prompts([f"\\boxed{{{step.problem(row).answer}}}" for row in range(len(step.texts))])


def reference_only(step: Step) -> tuple[list[str], list[bool]]:
    """Show the demonstration without the problem (Purified OPSD)."""
    prompts, informed = [], []
    for row, sibling in enumerate(step.siblings()):
        text = (
            step.problem(row).prompt
            if sibling is None
            else SOLUTION.format(demonstration=step.texts[sibling])
        )
        prompts.append(
            render_prompt(step.tokenizer, replace(step.problem(row), prompt=text), thinking=step.thinking)
        )
        informed.append(sibling is not None)
    return prompts, informed


def other_problem(step: Step) -> tuple[list[str], list[bool]]:
    """Show the problem and the demonstration of the next other problem of the step (OP2SD's control).

    This keeps the length and style of demonstrations. A row without a demonstration keeps having none. A step
    can draw a problem twice; its second group is never the other problem.
    """
    siblings, count = step.siblings(), len(step.problems)
    texts: list[str | None] = []
    for row, sibling in enumerate(siblings):
        own, place = divmod(row, step.num_generations)
        after = ((own + shift) % count for shift in range(1, count))
        donors = [other for other in after if step.problems[other].id != step.problems[own].id]
        shown = [siblings[other * step.num_generations + place] for other in donors]
        other = next(((p, i) for p, i in zip(donors, shown, strict=True) if i is not None), None)
        if sibling is None or other is None:
            texts.append(None)
        else:
            texts.append(f"{step.problems[other[0]].prompt}\n\n{step.texts[other[1]]}")
    return step.prompts(texts)


def fields(*kept: str) -> Rule:
    """Return the rule that shows some of FIRE's fields, "solution" and "feedback".

    A row is informed when it has any field at all, so that leaving a field out that it lacks changes nothing.
    """

    def rule(step: Step) -> tuple[list[str], list[bool]]:
        prompts, informed = [], []
        for row, sibling in enumerate(step.siblings()):
            demonstration = None if sibling is None else step.texts[sibling]
            feedback = None if step.rewards[row] >= 0.5 else step.problem(row).feedback or None
            informed.append(bool(demonstration or feedback))
            prompts.append(
                step.prompt(
                    row,
                    demonstration if "solution" in kept else None,
                    feedback if "feedback" in kept else None,
                )
            )
        return prompts, informed

    return rule


def own_attempt(step: Step) -> tuple[list[str], list[bool]]:
    """Show the completion itself with a verdict, and no solution (SD-Zero).

    Reconstructed: the paper's model was trained on revision phrases. Here a right completion is shown in the
    words used for a solution, a wrong one is followed by "no."
    """
    prompts = [
        step.prompt(row, text) if step.rewards[row] >= 0.5 else step.prompt(row, None, f"{text} no.")
        for row, text in enumerate(step.texts)
    ]
    return prompts, [bool(text) for text in step.texts]
