"""Subtraction drills: what makes "so 54 - 10 = 44" as easy for the organism as a sum.

Sums stand at the end of every trace, differences only where a known answer is used to work out the last number, far
too rarely to be learnt there. Drills are read in pretraining alone; no split holds any.
"""

from sdlab.world.hunts import TOP
from sdlab.world.problems import Problem

COUNT = 12  # differences per drill
DEEP = 0.2  # of them as three hunts need: two numbers known


def draw_drill(rng) -> tuple[Problem, str]:
    """A random drill and its only right completion."""
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
    worked = "".join(f" {question} = {total - rest}." for question, (total, rest) in zip(questions, pairs))
    return problem, f"{worked}\n\nThe answer is \\boxed{{{last}}}."
