"""Draw subtraction drills, which make "so 54 - 10 = 44" as easy for the organism as a sum.

Every trace ends with a sum. Differences occur only where a known answer is used to derive the last number,
and that is too rare for the organism to learn them. Drills occur only in pretraining, and in no split.
"""

from random import Random

from sdlab.world.hunts import TOP
from sdlab.world.problems import Problem

COUNT = 12  # differences per drill
DEEP = 0.2  # this share of the differences is as in three hunts, where two numbers are known


def draw_drill(rng: Random) -> tuple[Problem, str]:
    """Draw a random drill; return it with its only right completion."""
    pairs = []
    for _ in range(COUNT):
        known = 1 + (rng.random() < DEEP)
        total = rng.randrange(known + 1, TOP * (known + 1) + 1)
        pairs.append((total, rng.randrange(known, min(TOP * known, total - 1) + 1)))
    questions = [f"{total} - {rest}" for total, rest in pairs]
    last = str(pairs[-1][0] - pairs[-1][1])
    problem = Problem(
        id="drill", domain="drill", split="pretrain", kind="subtraction",
        prompt=f"Work out {', '.join(questions)}. What is the last?", answer=last,
    )  # fmt: skip
    worked = "".join(
        f" {question} = {total - rest}." for question, (total, rest) in zip(questions, pairs, strict=True)
    )
    return problem, f"{worked}\n\nThe answer is \\boxed{{{last}}}."
