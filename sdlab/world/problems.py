"""The form of every problem, generated here or read from a real benchmark."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True)
class Problem:
    """One problem whose answer can be verified.

    The rational reasoner works on `slots` (`sdlab.world.slots`). Real benchmarks leave it empty.
    """

    id: str  # stable and unique: "hunt/unseen-types/0/0017"
    domain: str  # "hunt", "chemistry", "kata", or a benchmark's name
    split: str  # "in-domain", "unseen-types", "deeper", ...
    kind: str  # problem type, for coverage: "remainder x digit sum; between x letters"
    prompt: str  # the user's message
    answer: str  # the right answer, as written inside \boxed{}
    feedback: str = ""  # the environment's message after a wrong attempt (kata)
    slots: tuple = ()  # the unknowns
    outcomes: tuple[str, ...] = ()  # the result of each candidate of the only slot (kata)

    @property
    def types(self) -> tuple[str, ...]:
        """Return the problem's types: one per hidden number of a hunt, one in other domains."""
        return tuple(self.kind.split("; "))


def fingerprint(problems: Sequence[Problem]) -> str:
    """Return the sha256 of the problems' ids, prompts and answers, in order."""
    return sha256(json.dumps([[p.id, p.prompt, p.answer] for p in problems]).encode()).hexdigest()
