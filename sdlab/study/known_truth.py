"""Compare a language model's information with the true value, on the same traces.

The rational reasoner wrote the traces, so it can score them exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import pandas

from sdlab.measure.evaluation import summarise
from sdlab.measure.model_information import ModelInformation, model_information
from sdlab.measure.traces import score_trace
from sdlab.rollout.types import Engine
from sdlab.seeds import stream
from sdlab.settings import Count, Seed, checked
from sdlab.world.evidence import read_evidence
from sdlab.world.families import SIZES, load_families
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.problems import Problem
from sdlab.world.reasoner import sample
from sdlab.world.solutions import write_correct

MEASURES = {
    "exact_information": "true I(y; s | x)",
    "information": "model's I(y; s | x)",
    "exact_plug_in": "true plug-in",
    "nats": "model's plug-in",
}


@dataclass(frozen=True)
class Draw:
    """A trace y that the reasoner wrote with one of n solutions in its context.

    There is one solution for each value that can be the answer of the hunt.
    """

    problem: Problem
    # (n,): solutions[v] is a correct solution of the sibling whose answer is value v
    solutions: list[str]
    # the index of the solution in the context
    chosen: int
    # y
    text: str
    # in nats: given, mixture, alone, information, plug_in
    exact: dict[str, float]

    @property
    def right(self) -> bool:
        """Return whether the solution in the context is right for this problem."""
        return self.chosen == self.problem.slots[0].truth


def mixed_families() -> list[tuple[Problem, tuple[Problem, ...]]]:
    """Return all families of one-number hunts, with their sizes in turn.

    The order is 2, 3, 4, 5, 2, ... candidates, as long as there are any.
    """
    rounds = zip_longest(*(load_families(size) for size in SIZES))
    return [family for one_round in rounds for family in one_round if family]


@checked
def draw_traces(
    families: Sequence[tuple[Problem, Sequence[Problem]]],
    num_traces: Count,
    seed: Seed = 0,
    knobs: Knobs = BLIND,
) -> list[Draw]:
    """Draw `num_traces` traces for each family's problem, and score them exactly.

    Contexts are drawn evenly from its n solutions, so I(y; s | x) is at most log n. `knobs` are those of the
    organism that the exact values are compared with.
    """
    draws = []
    for problem, siblings in families:
        rng = stream("known truth", seed, problem.id)
        texts = [write_correct(sibling, rng, knobs=knobs) for sibling in siblings]
        contexts = [(1 / len(texts), read_evidence(problem, text)) for text in texts]
        for _ in range(num_traces):
            chosen = rng.randrange(len(texts))
            text = sample(problem, rng, contexts[chosen][1], knobs=knobs).text
            exact = score_trace(text, problem, contexts, chosen, knobs=knobs)
            draws.append(Draw(problem, texts, chosen, text, exact))
    return draws


def compare_with_truth(
    engine: Engine, draws: list[Draw], progress: Callable[[int, int], None] | None = None
) -> tuple[pandas.DataFrame, ModelInformation]:
    """Return the model's frame with the reasoner's exact values, and the model's information.

    The added columns: exact_information, exact_plug_in, exact_given, right, values (n).
    """
    information = model_information(
        engine,
        [d.problem for d in draws],
        [d.text for d in draws],
        [d.solutions[d.chosen] for d in draws],
        rivals=[d.solutions for d in draws],
        progress=progress,
    )
    frame = information.frame.assign(right=[d.right for d in draws], values=[len(d.solutions) for d in draws])
    for name in ("information", "plug_in", "given"):
        frame[f"exact_{name}"] = [d.exact[name] for d in draws]
    return frame, information


def truth_and_model(frame: pandas.DataFrame, seed: Seed = 0) -> pandas.DataFrame:
    """Return the MEASURES of `compare_with_truth` by kind of solution, as `summarise` does.

    Columns solution (right or wrong) and measure (the label) are added. Infinite values are left out.
    """
    finite = frame.replace([float("inf"), float("-inf")], float("nan"))
    finite = finite.assign(solution=frame["right"].map({True: "right", False: "wrong"}))
    summary = summarise(finite, ["solution"], list(MEASURES), seed=seed)
    return summary.assign(measure=summary["metric"].map(MEASURES))
