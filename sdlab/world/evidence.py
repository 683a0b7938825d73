"""What a context tells the rational reasoner: claims about slots, a known answer, an environment's feedback.

A worked and checked value is near certain, a bare claim is credible but worth a check, a final answer constrains
what is left. Evidence is read from text, so the reasoner can be conditioned on anybody's solution.
"""

import re
from dataclasses import dataclass, field

from sdlab.world.problems import Problem

CHECKED_CLAIM = 0.98  # credibility of a value whose check stands in the context
BARE_CLAIM = 0.90  # of a value that is only stated
TOLD = 0.97  # of a value that cannot be checked, in a solution said to be correct: there is nothing else to go by


@dataclass(frozen=True)
class Evidence:
    """`claims` maps a slot's index to (candidate index, credibility)."""

    claims: dict[int, tuple[int, float]] = field(default_factory=dict)
    answer: str | None = None
    feedback: bool = False


NOTHING = Evidence()
_BOX = re.compile(r"\\boxed\{([^{}]*)\}")


def read_evidence(
    problem: Problem, demonstration: str | None = None, feedback: str | None = None
) -> Evidence:
    """Read a demonstration (a solution, with or without its thinking) as evidence about `problem`.

    The last commitment to a slot counts ("So A is 15."); it is worked when a check stands in front of it on its line.
    Values that are no candidates, and answers out of form, are not believed.
    """
    if demonstration is None:
        return Evidence(feedback=feedback is not None)
    claims = {}
    for i, slot in enumerate(problem.slots):
        for value, text in enumerate(slot.candidates):
            ends = list(re.finditer(rf"(need .*)? So {slot.subject} is {re.escape(text)}\.", demonstration))
            if ends:
                credibility = CHECKED_CLAIM if ends[-1].group(1) else BARE_CLAIM if slot.tests else TOLD
                found = (ends[-1].end(), value, credibility)
                claims[i] = max(claims.get(i, (0,)), found)
    claims = {i: found[1:] for i, found in claims.items()}
    boxes = _BOX.findall(demonstration)
    answer = boxes[-1] if boxes else None
    if answer is not None and problem.domain == "chemistry":
        offered = [candidate.split()[-1] for candidate in problem.slots[0].candidates]
        if answer not in offered:
            answer = None
        elif not claims:
            claims[0] = (offered.index(answer), TOLD)
    elif answer is not None and not answer.isdecimal():
        answer = None
    return Evidence(claims, answer, feedback is not None)
