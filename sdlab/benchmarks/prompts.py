r"""Write the prompt of a problem: instruction, system text and solved examples around its question.

Mathematics asks for a box: "Prompts reformatted to \boxed{}" (arXiv 2603.24472; its change_math_prompts.py
does the same to DAPO's texts). A problem is one user message here, so a system text and solved examples come
before the question in that message. This works with every chat template.
"""

import re
from dataclasses import dataclass

from sdlab.grading.tool_calls import is_calls

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
_ANSWER_FIRST = re.compile(
    r"Solve the following math problem step by step\.\s+"
    r"The last line of your response should be of the form Answer: \$Answer "
    r"\(without quotes\) where \$Answer is the answer to the problem\.\s*"
)
_ONE_BREAK = re.compile(r"[^\n]\n\Z")
_ANSWER_LAST = 'Remember to put your answer on its own line after "Answer:"'
# Forms of an answer that the grader reads. A question that names one of them asks for a format itself.
_FORMATS = ("\\boxed", "\\fbox", "<answer>", "####", "Action Input")


@dataclass(frozen=True)
class PromptStyle:
    r"""The texts around a question.

    instruction: the line after the question; None for the \boxed{} instruction, unless the question asks for
    a format itself; "" for no instruction. system: a text before everything. examples: (question, worked
    solution) pairs that come between the two.
    """

    instruction: str | None = None
    system: str = ""
    examples: tuple[tuple[str, str], ...] = ()

    def prompt(self, question: str, answer: str = "", boxed: bool = True) -> str:
        r"""Return the prompt of a question.

        answer: tool calls get no instruction. boxed: whether instruction None adds the \boxed{} instruction;
        the problems of a split or a benchmark already say how to answer.
        """
        text = question
        if self.instruction:
            text = f"{question.removesuffix(BOXED).rstrip()}\n{self.instruction.strip()}"
        elif self.instruction is None and boxed and not is_calls(answer) and not asks_for_format(question):
            text = boxed_prompt(question)
        parts = [self.system.strip()] if self.system.strip() else []
        if self.examples:
            parts += [f"Problem: {asked}\nSolution: {solution}" for asked, solution in self.examples]
            parts.append("Now solve this problem.")
        return "\n\n".join([*parts, text])


def asks_for_format(question: str) -> bool:
    """Return whether a question asks for a form of the answer that the grader reads."""
    return any(form in question for form in _FORMATS)


def boxed_prompt(question: str) -> str:
    r"""Return `question` with the instruction to answer within \boxed{} on its last line.

    The instruction replaces DAPO's "Answer: $Answer" lines. The function is idempotent: an existing
    instruction to box is brought to the same form. The question itself is not changed.
    """
    text = question.strip()
    opening = _ANSWER_FIRST.match(text)
    text = text[opening.end() :] if opening else text
    body = text.removesuffix(BOXED)
    # In the study's form, white space before its line break stays (as in AMC23's file).
    study_form = body != text and _ONE_BREAK.search(body)
    body = body[:-1] if study_form else body.rstrip()
    for ending in (f"{_ANSWER_LAST}.", _ANSWER_LAST):
        if body.rstrip().endswith(ending):
            body = body.rstrip().removesuffix(ending).rstrip()
    return f"{body}\n{BOXED}"


def with_system(system: object, question: str) -> str:
    """Return a system text and a question as one user message; a text of "None" or "-" counts as none."""
    text = "" if system is None or system != system else str(system).strip()
    return question if text in ("", "None", "-") or not question else f"{text}\n\n{question}"
