"""Build prompts with or without the extra information c (paper Section 3; SDPO's reprompt template)."""

import re
from typing import TYPE_CHECKING, Protocol

from sdlab.errors import unknown
from sdlab.text.templates import check_rendered, check_template, render, template_options

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXTS = ("none", "solution", "solution_no_think", "regenerated")
CONTEXT_LABELS = {
    "none": "no context",
    "solution": "full solution",
    "solution_no_think": "solution without think",
    "regenerated": "regenerated",
}
REPROMPT = "{prompt}\n\n{context}\n\nCorrectly solve the original question."
SOLUTION = "Correct solution: {demonstration}"


class HasPrompt(Protocol):
    """Anything with the text of a problem, such as `sdlab.world.problems.Problem`."""

    @property
    def prompt(self) -> str:
        """Return the user's message."""
        ...


def strip_thinking(text: str, opened: bool = False) -> str:
    """Return the part of a completion after its thinking.

    The function removes `<think>...</think>`. It also removes thinking that ends in `</think>` without an
    opening tag, because some chat templates (DeepSeek-R1's) open `<think>` in the prompt. Removing only the
    pair would silently keep this thinking. Thinking that never ends (a truncated completion) is removed to
    the end of the text. opened: whether the prompt ended inside <think>
    (`sdlab.text.templates.opens_thinking`). A completion without </think> was then cut inside its thinking,
    and the result is "".
    """
    if opened and "</think>" not in text:
        return ""
    text = re.sub(r"^.*</think>\s*", "", text, flags=re.DOTALL)
    return re.sub(r"<think>.*\Z", "", text, flags=re.DOTALL).strip()


def demonstration_for(
    context: str, solution: str | None = None, regenerated: str | None = None, opened: bool = False
) -> str | None:
    """Return the demonstration for `context`: None, the solution, the solution without thinking, or y~.

    solution: a correct completion y. regenerated: a correct completion y~ written with the solution as
    context. opened: as in `strip_thinking`.
    Raises SdlabError for an unknown context.
    """
    if context not in CONTEXTS:
        raise unknown("context", context, CONTEXTS)
    choices = {"none": None, "solution": solution, "regenerated": regenerated}
    return choices[context] if context in choices else solution and strip_thinking(solution, opened)


def build_messages(
    problem: HasPrompt, demonstration: str | None = None, feedback: str | None = None
) -> list[dict[str, str]]:
    """Return the chat messages for a problem, with an optional demonstration and optional feedback."""
    parts = [SOLUTION.format(demonstration=demonstration)] if demonstration else []
    parts += [feedback] if feedback else []
    content = problem.prompt
    if parts:
        content = REPROMPT.format(prompt=problem.prompt, context="\n\n".join(parts))
    return [{"role": "user", "content": content}]


def render_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    problem: HasPrompt,
    demonstration: str | None = None,
    feedback: str | None = None,
    thinking: bool = True,
) -> str:
    """Render the prompt as one string with the tokenizer's chat template.

    A template that writes the date gets a fixed date.
    Raises SdlabError when there is no template, when it does not support `thinking`
    (`sdlab.text.templates.check_template`), and when it leaves out a part of the problem, the demonstration
    or the feedback.
    """
    check_template(tokenizer, thinking)
    messages = build_messages(problem, demonstration, feedback)
    prompt = render(tokenizer, messages, template_options(tokenizer, thinking))
    check_rendered(tokenizer, prompt, [part for part in (problem.prompt, demonstration, feedback) if part])
    return prompt
