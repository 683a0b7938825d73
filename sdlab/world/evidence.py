"""Read a context as evidence for the rational reasoner: claims about slots, a known answer, feedback.

A value with a check is almost certain. A value without a check is credible, but worth checking. A known
answer limits the remaining values. Evidence is read from text, so the reasoner can be conditioned on a
solution from any source.
"""

import re
from dataclasses import dataclass, field

from sdlab.world.problems import Problem

CHECKED_CLAIM = 0.98  # credibility of a value whose check is in the context
BARE_CLAIM = 0.90  # credibility of a value that is only stated
# Credibility of a value that cannot be checked. The solution is said to be correct, and there is no other
# evidence.
UNCHECKABLE_CLAIM = 0.97


@dataclass(frozen=True)
class Evidence:
    """What a context says: `claims` maps a slot's index to (candidate index, credibility)."""

    claims: dict[int, tuple[int, float]] = field(default_factory=dict)
    answer: str | None = None
    feedback: bool = False


NOTHING = Evidence()
_BOX = re.compile(r"\\boxed\{([^{}]*)\}")


def read_evidence(
    problem: Problem, demonstration: str | None = None, feedback: str | None = None
) -> Evidence:
    """Read a demonstration (a solution, with or without its thinking) as evidence about `problem`.

    The last commitment to a slot counts ("So A is 15."). It counts as checked when a check precedes it on its
    line. Values that are not candidates, and answers in another form, are ignored.
    """
    if demonstration is None:
        return Evidence(feedback=feedback is not None)
    claims = {}
    for i, slot in enumerate(problem.slots):
        for value, text in enumerate(slot.candidates):
            ends = list(re.finditer(rf"(need .*)? So {slot.subject} is {re.escape(text)}\.", demonstration))
            if ends:
                credibility = (
                    CHECKED_CLAIM if ends[-1].group(1) else BARE_CLAIM if slot.tests else UNCHECKABLE_CLAIM
                )
                claim = (ends[-1].end(), value, credibility)
                claims[i] = max(claims.get(i, (0,)), claim)
    claims = {i: claim[1:] for i, claim in claims.items()}
    boxes = _BOX.findall(demonstration)
    answer = boxes[-1] if boxes else None
    if answer is not None and problem.domain == "chemistry":
        offered = [candidate.split()[-1] for candidate in problem.slots[0].candidates]
        if answer not in offered:
            answer = None
        elif not claims:
            claims[0] = (offered.index(answer), UNCHECKABLE_CLAIM)
    elif answer is not None and not answer.isdecimal():
        answer = None
    return Evidence(claims, answer, feedback is not None)
