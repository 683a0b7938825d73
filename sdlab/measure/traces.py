"""I(y; c | x) of the rational reasoner: exact where its traces can be listed, sampled where they cannot.

What is random here? A problem determines its answer, so a hint about it adds nothing for a reader who has
searched. The reasoner has not searched yet. For it the hidden value follows its prior (tilted where its knobs
give it intuition), and the contexts it may meet follow from that: p(c) = sum_v prior(v) p(c | v). What it
then writes, y, is random given c, and p(y | x, c) is exact.

There are two different numbers:

- information: E log p(y|x,c) / pbar(y), with the mixture pbar(y) = sum_c p(c) p(y|x,c).
  This is I(y; c | x), at most H(c).
- plug-in: E log p(y|x,c) / p(y|x), with the reasoner without a context in the denominator. Scoring a text
  with and without c gives this number. It is too large, because the reasoner without a context does not write
  the mixture: plug-in = I + KL(pbar || p(.|x)). It is infinite when a context allows a sentence that the
  reasoner without one never writes ("The answer is 36, so").
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from sdlab.errors import SdlabError
from sdlab.measure.information import check_table, kl_divergence, mutual_information
from sdlab.seeds import stream
from sdlab.settings import Count, Seed, checked
from sdlab.world.evidence import NOTHING, Evidence
from sdlab.world.knobs import BLIND, Knobs, with_intuition
from sdlab.world.likelihood import log_prob
from sdlab.world.problems import Problem
from sdlab.world.reasoner import program, sample

Contexts = Sequence[tuple[float, Evidence]]  # (C,) pairs of a probability and the reasoner's evidence
REST = "(any other trace)"  # the last entry of a table: all traces too unlikely to be listed
FLOOR = 1e-6  # traces less likely than this are not listed


@dataclass(frozen=True)
class TraceTable:
    """The traces of one problem under C contexts and under none.

    The last of the Y entries is REST: all traces that are not listed, taken together. Merging outcomes is
    data processing, so `information`, `plug_in` and `gap` are exact for the merged outcomes and never above
    those of all traces.
    """

    texts: tuple[str, ...]  # (Y,)
    weights: np.ndarray  # (C,) p(c), sums to one
    given: np.ndarray  # (C, Y) p(y | x, c), rows sum to one
    alone: np.ndarray  # (Y,) p(y | x), no context, sums to one

    @property
    def joint(self) -> np.ndarray:
        """Return p(y, c | x): (Y, C)."""
        return (self.weights[:, None] * self.given).T

    @property
    def mixture(self) -> np.ndarray:
        """Return pbar(y) = sum_c p(c) p(y | x, c): (Y,).

        This is the expectation of a reader who knows that a context comes, but not which.
        """
        return self.weights @ self.given

    @property
    def information(self) -> float:
        """Return I(y; c | x) in nats."""
        return mutual_information(self.joint)

    @property
    def gap(self) -> float:
        """Return KL(pbar || p(. | x)) in nats, by which the plug-in is too large."""
        return kl_divergence(self.mixture, self.alone)

    @property
    def plug_in(self) -> float:
        """Return E log p(y|x,c) - log p(y|x) in nats; equals information + gap."""
        return float(
            sum(w * kl_divergence(row, self.alone) for w, row in zip(self.weights, self.given, strict=True))
        )

    @property
    def unlisted(self) -> float:
        """Return the probability of REST with the contexts."""
        return float(self.mixture[-1])

    def expect(self, measure: Callable[[str], float]) -> float:
        """Return the mean of `measure(text)` over the listed traces that are written with the contexts."""
        listed = self.mixture[:-1]
        return float(listed @ [measure(text) for text in self.texts[:-1]] / listed.sum())


def hints(
    problem: Problem, reliability: float, slot: int = 0, knobs: Knobs = BLIND
) -> list[tuple[float, Evidence]]:
    """Return contexts that name one candidate of a slot, right with probability `reliability`.

    A wrong hint names each wrong candidate equally often. The hidden value follows the slot's prior, and the
    reasoner knows the reliability. With n candidates and an even prior, reliability 1/n is chance (the hint
    has no information), and 1 reveals the value (log n nats).

    Raises SdlabError unless 0 < reliability <= 1 and the slot has at least two candidates.
    """
    if not 0 < reliability <= 1:
        raise SdlabError(f"reliability={reliability!r} is not allowed; it must be above 0 and at most 1")
    if not 0 <= slot < len(problem.slots) or len(problem.slots[slot].candidates) < 2:
        raise SdlabError(
            f"problem {problem.id!r} has no slot {slot} with two candidates or more to give a hint about"
        )
    prior = with_intuition(problem, knobs).slots[slot].prior
    wrong = (1 - reliability) / (len(prior) - 1)
    chances = [
        sum(p * (reliability if i == named else wrong) for i, p in enumerate(prior))
        for named in range(len(prior))
    ]
    return [(chance, Evidence({slot: (named, reliability)})) for named, chance in enumerate(chances)]


def likely_traces(
    problem: Problem,
    evidence: Evidence = NOTHING,
    thinking: bool = True,
    floor: float = FLOOR,
    limit: int = 50_000,
    knobs: Knobs = BLIND,
) -> dict[str, float]:
    """Return text -> p(text | x, evidence) of every trace at least as likely as `floor`.

    The search is a depth-first replay with pruning. `reasoner.enumerate_traces` lists all traces, but a
    credible claim makes them infinitely many, because a value that the belief rules out can be proposed and
    dropped again and again.

    Raises SdlabError beyond `limit` traces.
    """
    traces, path = {}, []
    while True:
        text, chances = _replay(problem, evidence, thinking, path, floor, knobs)
        if text is not None:
            if len(traces) == limit:
                raise SdlabError(
                    f"problem {problem.id!r} has more than {limit} traces above {floor}; "
                    "raise floor or use sampled_information"
                )
            traces[text] = math.exp(
                math.fsum(math.log(p[taken]) for p, taken in zip(chances, path, strict=True))
            )
        so_far = [1.0]
        for p, taken in zip(chances, path, strict=True):
            so_far.append(so_far[-1] * p[taken])
        for level in range(len(path) - 1, -1, -1):  # the deepest choice with an option left
            later = _next(chances[level], path[level] + 1, floor / so_far[level])
            if later is not None:
                path[level:] = [later]
                break
        else:
            return traces


def _replay(
    problem, evidence, thinking, path: list[int], floor: float, knobs: Knobs
) -> tuple[str | None, list]:
    """Follow `path`, then the first option above the floor, which is added to `path`.

    Returns the text and the probabilities at every step; the text is None when no option was left.
    """
    run, words, chances, so_far = program(problem, evidence, thinking, knobs), [], [], 1.0
    try:
        choice = next(run)
        while True:
            level = len(chances)
            if level == len(path):
                first = _next(choice.probs, 0, floor / so_far)
                if first is None:
                    return None, chances
                path.append(first)
            taken = path[level]
            chances.append(choice.probs)
            words.append(choice.options[taken])
            so_far *= choice.probs[taken]
            choice = run.send(taken)
    except StopIteration:
        return "".join(words), chances


def _next(probs, start: int, floor: float) -> int | None:
    return next((i for i in range(start, len(probs)) if probs[i] > 0 and probs[i] >= floor), None)


def trace_table(
    problem: Problem,
    contexts: Contexts,
    thinking: bool = True,
    floor: float = FLOOR,
    knobs: Knobs = BLIND,
) -> TraceTable:
    """Return the table of traces that are likely under a context or under none, with exact probabilities.

    It is meant for problems with one slot and two or three candidates.

    Raises SdlabError when the contexts' probabilities are no distribution.
    """
    weights = check_table([weight for weight, _ in contexts], "the contexts' probabilities")
    evidences = [NOTHING, *(evidence for _, evidence in contexts)]
    rows = [likely_traces(problem, evidence, thinking, floor, knobs=knobs) for evidence in evidences]
    texts = tuple(dict.fromkeys(text for row in rows for text in row))
    table = np.empty((len(evidences), len(texts) + 1))
    for i, (row, evidence) in enumerate(zip(rows, evidences, strict=True)):
        table[i, :-1] = [
            row[t] if t in row else math.exp(log_prob(t, problem, evidence, thinking, knobs)) for t in texts
        ]
        rest = 1 - math.fsum(table[i, :-1])
        table[i, -1] = rest if rest > 1e-12 else 0.0  # smaller values are rounding errors
    return TraceTable((*texts, REST), weights, table[1:], table[0])


@checked
def sampled_information(
    problems: Sequence[Problem],
    contexts_of: Callable[[Problem], Contexts],
    num_traces: Count = 16,
    thinking: bool = True,
    seed: Seed = 0,
    knobs: Knobs = BLIND,
) -> pandas.DataFrame:
    """Estimate the information by Monte Carlo, for problems of any size.

    A row draws c, then y given c, and scores y exactly under every context. There are `num_traces` rows for
    each of P problems: problem_id, context (its index), text, given = log p(y|x,c), mixture = log pbar(y),
    alone = log p(y|x), information = given - mixture, plug_in = given - alone, in nats. The mean of
    `information` is an unbiased estimate of I(y; c | x). `summarise(frame, metrics=["information",
    "plug_in"])` gives it with an interval resampled by problem.
    """
    rows = []
    for problem in problems:
        contexts, rng = contexts_of(problem), stream("information", seed, problem.id)
        check_table([weight for weight, _ in contexts], "the contexts' probabilities")
        for _ in range(num_traces):
            chosen = rng.choices(range(len(contexts)), [weight for weight, _ in contexts])[0]
            text = sample(problem, rng, contexts[chosen][1], thinking, knobs=knobs).text
            rows.append(
                {"problem_id": problem.id, "context": chosen, "text": text}
                | score_trace(text, problem, contexts, chosen, thinking, knobs)
            )
    return pandas.DataFrame(rows)


def score_trace(
    text: str,
    problem: Problem,
    contexts: Contexts,
    chosen: int,
    thinking: bool = True,
    knobs: Knobs = BLIND,
) -> dict[str, float]:
    """Return given, mixture, alone, information and plug_in of one trace in nats.

    The trace counts as written under contexts[chosen].
    """
    under = np.array([log_prob(text, problem, evidence, thinking, knobs) for _, evidence in contexts])
    given, alone = float(under[chosen]), log_prob(text, problem, NOTHING, thinking, knobs)
    mixture = float(np.logaddexp.reduce(under + np.log([weight for weight, _ in contexts])))
    return {
        "given": given,
        "mixture": mixture,
        "alone": alone,
        "information": given - mixture,
        "plug_in": given - alone,
    }
