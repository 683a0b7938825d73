"""The one form every problem has, made here or read from a real benchmark."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One verifiable question.

    `slots` is what the rational reasoner works on (`sdlab.world.slots`); real benchmarks leave it empty.
    """

    id: str  # stable and unique: "hunt/unseen-types/0/0017"
    domain: str  # "hunt", "chemistry", "kata", or a benchmark's name
    split: str  # "in-domain", "unseen-types", "deeper", ...
    kind: str  # problem type, for coverage: "remainder x digit sum; between x letters"
    prompt: str  # the user's message
    answer: str  # ground truth as it stands inside \boxed{}
    feedback: str = ""  # what the environment says after a wrong try (kata)
    slots: tuple = ()  # the unknowns
    outcomes: tuple[str, ...] = ()  # per candidate of the only slot, what follows from it (kata)

    @property
    def types(self) -> tuple[str, ...]:
        """The types the problem is made of: one per hidden number of a hunt, its only one elsewhere."""
        return tuple(self.kind.split("; "))
