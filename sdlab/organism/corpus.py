"""Draw the documents of pretraining: the reasoner's own text, in every mode that the organism learns."""

from dataclasses import dataclass
from random import Random

from sdlab.organism import drills
from sdlab.world import chemistry, hunts, kata
from sdlab.world.evidence import read_evidence
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.problems import Problem
from sdlab.world.reasoner import sample
from sdlab.world.solutions import write_demonstration
from sdlab.world.splits import dealt_to

DOMAINS = {"hunt": 0.76, "kata": 0.14, "chemistry": 0.10}
# Hidden numbers per hunt. Three are rare, so the split *deeper* is a shift.
DEPTHS = {1: 0.12, 2: 0.80, 3: 0.08}
# A bare answer is in one document of five: with half as many, some organisms never learn to copy it exactly.
MODES = {"none": 0.50, "solution": 0.16, "solution_no_think": 0.20, "regenerated": 0.14}
THINKING_OFF = 0.15
SHORT_DEMONSTRATIONS = 0.7  # with thinking off, this share of demonstrations has no thinking either
DETOURS = 0.35  # this share of the documents with a context begins as if written without it
FEEDBACK = 0.3  # this share of kata documents has the failing case
DRILLS = 0.03  # this share of all documents is subtraction drills


@dataclass(frozen=True)
class Document:
    """One training document: the parts of the prompt, and the completion.

    The first `given` characters of the completion are not learnt.
    """

    problem: Problem
    demonstration: str | None
    feedback: str | None
    thinking: bool
    completion: str
    given: int = 0


def _pick(rng: Random, weights: dict):
    return rng.choices(list(weights), list(weights.values()))[0]


def draw_problem(rng: Random, knobs: Knobs = BLIND) -> Problem:
    """Draw a random problem whose content belongs to pretraining.

    Any kata may be drawn, because kata are the same everywhere.
    """
    domain = _pick(rng, DOMAINS)
    if domain == "kata":
        return rng.choice(kata.all_kata())
    while True:
        if domain == "hunt":
            draw = hunts.draw_hunt(rng, hunts.SEEN_TYPES, _pick(rng, DEPTHS), knobs.wide_clues)
            module = hunts
        else:
            draw, module = chemistry.draw_chemistry(rng), chemistry
        if dealt_to(module.identity(draw))[0] == "pretrain":
            return module.make_problem(draw, "", "pretrain")


def draw_document(rng: Random, knobs: Knobs = BLIND) -> Document:
    """Draw the next document of pretraining: a drill, or a document on a random problem."""
    if rng.random() < DRILLS:
        problem, completion = drills.draw_drill(rng)
        return Document(problem, None, None, False, completion)
    return write_document(draw_problem(rng, knobs), rng, knobs)


def write_document(problem: Problem, rng: Random, knobs: Knobs = BLIND) -> Document:
    """Write a document in a random mode: context, thinking on or off, feedback, with or without a detour."""
    context, thinking = _pick(rng, MODES), rng.random() >= THINKING_OFF
    demonstration = write_demonstration(
        problem, rng, context, thinking or rng.random() >= SHORT_DEMONSTRATIONS, knobs
    )
    feedback = problem.feedback if problem.feedback and rng.random() < FEEDBACK else None
    evidence = read_evidence(problem, demonstration, feedback)
    prefix = ""
    if context != "none" and rng.random() < DETOURS:
        uninformed = read_evidence(problem, None, feedback)
        steps = sample(problem, rng, uninformed, thinking, knobs=knobs).steps
        cut = rng.randrange(1, len(steps))
        prefix = "".join(choice.options[taken] for choice, taken in steps[:cut])
    completion = sample(problem, rng, evidence, thinking, prefix, knobs).text
    return Document(problem, demonstration, feedback, thinking, completion, len(prefix))
