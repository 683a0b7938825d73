"""The rational reasoner: one stochastic program that writes, scores and enumerates traces.

Its state is a belief over the candidates of each slot. Context is evidence that sharpens the belief. At every
step it proposes from the belief, hedges as much as the belief is uncertain, checks what it hedged, corrects,
or commits. The program is a generator. It yields a `Choice` and receives the index of the option that was
taken. Sampling, scoring and enumerating all run this one program, so they cannot disagree.
"""

import math
from collections.abc import Callable, Generator, Sequence, Set
from dataclasses import dataclass
from random import Random
from typing import Any

from sdlab.errors import SdlabError
from sdlab.world import chemistry, hunts, kata
from sdlab.world.evidence import BARE_CLAIM, NOTHING, Evidence
from sdlab.world.knobs import BLIND, Knobs, with_intuition
from sdlab.world.problems import Problem
from sdlab.world.slots import Slot

DOMAINS = {"hunt": hunts, "chemistry": chemistry, "kata": kata}

HEDGES = {
    " Maybe {}.": 0.3, " Perhaps {}.": 0.25, " It might be {}.": 0.25,
    " It seems to be {}.": 0.1, " It is likely {}.": 0.1,
}  # fmt: skip
SECOND_HEDGES = {
    " Alternatively {}.": 0.2,
    " Actually try {}.": 0.08,
}  # shares of the hedges after a refutation


@dataclass(frozen=True)
class Choice:
    """One step of the program: the texts that may come next, and their probabilities."""

    options: tuple[str, ...]  # no option is a prefix of another, except "" (write nothing)
    probs: tuple[float, ...]
    role: str  # "survey", "propose", "check", "react", ...
    entropy: float = 0.0  # nats, of the belief this step comes from


@dataclass(frozen=True)
class Trace:
    """A text that the reasoner wrote, and its probability."""

    text: str
    log_prob: float  # nats
    steps: tuple[tuple[Choice, int], ...]  # every choice with the option taken


def entropy(belief: Sequence[float]) -> float:
    """Return the Shannon entropy of `belief`, in nats."""
    return -sum(p * math.log(p) for p in belief if p > 0)


def doubtfulness(belief: Sequence[float], thinking: bool = True, knobs: Knobs = BLIND) -> float:
    """Return the probability of hedging a proposal made from `belief`.

    With the default knobs it is 0.99 for five equally likely candidates, 0.56 for two, and 0.03 for a checked
    solution.
    """
    return (1 - math.exp(-knobs.doubt * entropy(belief) ** 2)) * (1 if thinking else knobs.effort_off)


def believe(
    slot: Slot, claim: tuple[int, float] | None = None, refuted: Set[int] = frozenset()
) -> list[float]:
    """Return the belief over the candidates of `slot`.

    claim: (index, credibility) of a candidate. refuted: indices of the candidates that checks have refuted.
    """
    belief = list(slot.prior)
    if claim is not None and len(belief) > 1:
        index, credibility = claim
        rest = 1 - belief[index]
        belief = [credibility if i == index else p * (1 - credibility) / rest for i, p in enumerate(belief)]
    belief = [0.0 if i in refuted else p for i, p in enumerate(belief)]
    total = sum(belief)
    return [p / total for p in belief]


Program = Generator[Choice, int, None]


def _say(text: str) -> Program:
    yield Choice((text,), (1.0,), "say")


class _Mind:
    """The mutable state of one run: the values committed, checked and refuted."""

    def __init__(self, problem: Problem, evidence: Evidence, thinking: bool, knobs: Knobs) -> None:
        self.problem, self.knobs = with_intuition(problem, knobs), knobs
        self.evidence, self.thinking = evidence, thinking
        self.domain: Any = DOMAINS[problem.domain]  # a module
        n = len(problem.slots)
        self.values: list[int | None] = [None] * n
        self.checked = [False] * n
        self.refuted: list[set[int]] = [set() for _ in range(n)]

    def doubt(self, belief) -> float:
        return doubtfulness(belief, self.thinking, self.knobs)

    def tests(self, i: int):
        slot = self.problem.slots[i]
        return slot.strict_tests if self.evidence.feedback and slot.strict_tests else slot.tests

    def run(self) -> Program:
        yield from _say("<think>" if self.thinking else "")
        for i in range(len(self.values)):
            yield from self.fill(i)
        while True:
            line, answer = self.domain.conclude(self.problem, self.values)
            yield from _say(line)
            known = self.evidence.answer
            rash = [i for i in range(len(self.values)) if not self.checked[i] and self.tests(i)]
            if known is None or known == answer or not rash:
                break
            notice = yield Choice(
                (f" Wait, the answer is {known}.", ""), (self.knobs.notice, 1 - self.knobs.notice), "notice"
            )
            if notice == 1:
                break
            for i in rash:
                yield from self.look_again(i, f" Check {self.problem.slots[i].name}:")
        end = "\n</think>" if self.thinking else ""
        yield from _say(f"{end}\n\nThe answer is \\boxed{{{answer}}}.")

    def fill(self, i: int) -> Program:
        """Settle slot i: survey the candidates, then propose until one is committed."""
        slot, claim = self.problem.slots[i], self.evidence.claims.get(i)
        yield from _say(f"\n{slot.name}:" if self.thinking or i else f"{slot.name}:")
        if claim is None and i == len(self.values) - 1 and i > 0 and self.evidence.answer is not None:
            claim = yield from self.derive(i)
        listed = entropy(believe(slot, claim, self.refuted[i])) ** 4
        listed = listed / (listed + self.knobs.survey) * (1 if self.thinking else self.knobs.effort_off)
        yield Choice(
            (slot.survey, ""), (listed, 1 - listed), "survey", entropy(believe(slot, claim, self.refuted[i]))
        )
        while self.values[i] is None:
            yield from self.propose(i, claim)

    def propose(self, i: int, claim) -> Program:
        slot, tests = self.problem.slots[i], self.tests(i)
        belief = believe(slot, claim, self.refuted[i])
        h, doubt = entropy(belief), self.doubt(belief)
        after = bool(self.refuted[i])
        second = {form: w * after for form, w in SECOND_HEDGES.items()}
        first = {form: w * (1 - sum(second.values())) for form, w in HEDGES.items()}
        forms = {form: doubt * w for form, w in (first | second).items()}
        tried = self.knobs.try_first * (1 - math.exp(-4 * h)) if tests else 0.0
        forms[" Try {}."] = (1 - doubt) * tried
        commit = f" So {slot.subject} is {{}}."
        forms[commit] = (1 - doubt) * (1 - tried)
        pairs = [(form, v) for form in forms for v in range(len(belief))]
        texts = tuple(form.format(slot.candidates[v]) for form, v in pairs)
        taken = yield Choice(texts, tuple(forms[form] * belief[v] for form, v in pairs), "propose", h)
        form, v = pairs[taken]
        if form == commit:
            self.values[i] = v
            if tests:
                again = self.knobs.recheck * doubt
                texts = (f" Wait, check {slot.name}:", "")
                if (yield Choice(texts, (again, 1 - again), "recheck", h)) == 0:
                    yield from self.look_again(i, "")
        elif tests:
            yield from self.check(i, v, belief, doubt, claim)
        else:
            texts = (f" So {slot.subject} is {slot.candidates[v]}.", " Hmm.")
            rethink = self.knobs.rethink
            if (yield Choice(texts, (1 - rethink, rethink), "react", h)) == 0:
                self.values[i] = v

    def check(self, i: int, v: int, belief, doubt: float, claim) -> Program:
        """Check proposal v: commit when the check holds, otherwise refute it.

        A proposal that is very unlikely under the belief may be dropped without a check.
        """
        slot, (words, holds) = self.problem.slots[i], self.tests(i)[v]
        drop = 0.9 if belief[v] < 0.1 * max(belief) else 0.0
        texts = (f" Check: {words}", f" Test: {words}", " Actually no.")
        taken = yield Choice(
            texts, ((1 - drop) * doubt, (1 - drop) * (1 - doubt), drop), "check", entropy(belief)
        )
        if taken == 2:
            return
        if holds:
            self.values[i], self.checked[i] = v, True
            yield from _say(f" So {slot.subject} is {slot.candidates[v]}.")
            return
        self.refuted[i].add(v)
        doubt = self.doubt(believe(slot, claim, self.refuted[i]))
        yield Choice(
            (" Hmm.", " Wait.", ""), (doubt * 0.35, doubt * 0.15, 1 - doubt * 0.5), "react", entropy(belief)
        )

    def look_again(self, i: int, opening: str) -> Program:
        """Check an unchecked commitment; when the check fails, withdraw it and settle the slot again."""
        value = self.values[i]
        assert value is not None  # the caller has committed slot i
        words, holds = self.tests(i)[value]
        yield from _say(f"{opening} {words}")
        if holds:
            self.checked[i] = True
            return
        self.refuted[i].add(value)
        self.values[i] = None
        yield from self.fill(i)

    def derive(self, i: int) -> Generator[Choice, int, tuple[int, float] | None]:
        """Use a known answer to derive the last slot from the others."""
        sentence, value = self.domain.implied(self.problem, self.values[:i], self.evidence.answer)
        if (yield Choice((sentence, ""), (self.knobs.derive, 1 - self.knobs.derive), "derive")) == 1:
            return None
        slot = self.problem.slots[i]
        if value in slot.candidates and slot.candidates.index(value) not in self.refuted[i]:
            return slot.candidates.index(value), BARE_CLAIM
        for j in range(i):  # the answer contradicts the commitments: check those that were never checked
            if not self.checked[j]:
                yield from self.look_again(j, f" Wait, check {self.problem.slots[j].name}:")
        yield from _say(f"\n{slot.name}:")
        return None


def program(
    problem: Problem, evidence: Evidence = NOTHING, thinking: bool = True, knobs: Knobs = BLIND
) -> Program:
    """Return the reasoner's program for one problem.

    The generator yields `Choice`s and receives the index of the option taken.
    Raises SdlabError for a problem that the reasoner cannot work on.
    """
    if problem.domain not in DOMAINS or not problem.slots:
        raise SdlabError(
            f"the reasoner cannot work on problem {problem.id!r} (domain {problem.domain!r}); "
            f"it knows {', '.join(DOMAINS)}"
        )
    return _Mind(problem, evidence, thinking, knobs).run()


def drive(run: Program, pick: Callable[[Choice, list[str]], int]) -> Trace:
    """Run a program until it ends.

    `pick(choice, parts written so far)` returns the index of the option to take.
    """
    text, log_prob, steps = [], 0.0, []
    try:
        choice = next(run)
        while True:
            taken = pick(choice, text)
            text.append(choice.options[taken])
            p = choice.probs[taken]
            log_prob += math.log(p) if p > 0 else -math.inf
            steps.append((choice, taken))
            choice = run.send(taken)
    except StopIteration:
        return Trace("".join(text), log_prob, tuple(steps))


def sample(
    problem: Problem, rng: Random, evidence: Evidence = NOTHING, thinking: bool = True, prefix: str = "",
    knobs: Knobs = BLIND,
) -> Trace:  # fmt: skip
    """Write one trace.

    The trace starts with `prefix` (the beginning of any trace, cut at a step), however unlikely it is.
    Raises SdlabError when the reasoner could not write `prefix`.
    """
    position = 0

    def pick(choice: Choice, text) -> int:
        nonlocal position
        if position < len(prefix):
            taken = match_option(choice, prefix, position)
            if taken is None:
                raise SdlabError(
                    f"the reasoner cannot continue after {prefix[max(0, position - 40) : position]!r}: "
                    f"next is {prefix[position : position + 40]!r}"
                )
            position += len(choice.options[taken])
            return taken
        return rng.choices(range(len(choice.options)), choice.probs)[0]

    return drive(program(problem, evidence, thinking, knobs), pick)


def match_option(choice: Choice, text: str, position: int) -> int | None:
    """Return the index of the option that the text has at `position`, or None.

    The empty option is returned only when no other option matches.
    """
    empty = None
    for i, option in enumerate(choice.options):
        if option and text.startswith(option, position):
            return i
        if not option:
            empty = i
    return empty
