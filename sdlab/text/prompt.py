"""The richer information c, and how it enters a prompt (paper Section 3; SDPO's reprompt template)."""

import re

from sdlab.errors import unknown
from sdlab.text.templates import check_rendered, check_template, template_options

CONTEXTS = ("none", "solution", "solution_no_think", "regenerated")
CONTEXT_LABELS = {
    "none": "no context",
    "solution": "full solution",
    "solution_no_think": "solution without think",
    "regenerated": "regenerated",
}
REPROMPT = "{prompt}\n\n{context}\n\nCorrectly solve the original question."
SOLUTION = "Correct solution: {demonstration}"


def strip_thinking(text: str, opened: bool = False) -> str:
    """The part of a completion after its thinking.

    opened: the completion's prompt ended inside <think> (`sdlab.text.templates.opens_thinking`); a completion without
    </think> was then cut inside its thinking, and nothing of it is an answer.

    Removes `<think>...</think>` and also a thinking that ends in `</think>` without opening it, because some chat
    templates (DeepSeek-R1's) open `<think>` in the prompt; looking for the pair alone silently keeps everything there.
    An opened thinking that never ends (a truncated completion) is removed to the end of the text.
    """
    if opened and "</think>" not in text:
        return ""
    text = re.sub(r"^.*</think>\s*", "", text, flags=re.DOTALL)
    return re.sub(r"<think>.*\Z", "", text, flags=re.DOTALL).strip()


def demonstration_for(
    context: str, solution: str | None = None, regenerated: str | None = None, opened: bool = False
) -> str | None:
    """What stands in the prompt under `context`: nothing, the solution, its text without thinking, or y~.

    `solution` is a correct completion y, `regenerated` a correct completion written with the solution in view.
    `opened`: as in `strip_thinking`. Raises SdlabError on an unknown context.
    """
    if context not in CONTEXTS:
        raise unknown("context", context, CONTEXTS)
    choices = {"none": None, "solution": solution, "regenerated": regenerated}
    return choices[context] if context in choices else solution and strip_thinking(solution, opened)


def build_messages(
    problem, demonstration: str | None = None, feedback: str | None = None
) -> list[dict[str, str]]:
    """Chat messages for a problem, with a demonstration and an environment's feedback where given."""
    parts = [SOLUTION.format(demonstration=demonstration)] if demonstration else []
    parts += [feedback] if feedback else []
    content = problem.prompt
    if parts:
        content = REPROMPT.format(prompt=problem.prompt, context="\n\n".join(parts))
    return [{"role": "user", "content": content}]


def render_prompt(
    tokenizer, problem, demonstration: str | None = None, feedback: str | None = None, thinking: bool = True
) -> str:
    """The prompt as one string, through the tokenizer's own chat template; a template that writes the date gets a fixed one.

    Raises SdlabError when there is none, when it cannot do what `thinking` asks for (`sdlab.text.templates.check_template`), and
    when it leaves out a part of the problem, the demonstration or the feedback.
    """
    check_template(tokenizer, thinking)
    prompt = tokenizer.apply_chat_template(
        build_messages(problem, demonstration, feedback),
        tokenize=False,
        add_generation_prompt=True,
        **template_options(tokenizer, thinking),
    )
    check_rendered(tokenizer, prompt, [part for part in (problem.prompt, demonstration, feedback) if part])
    return prompt
