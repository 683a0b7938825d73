"""Number hunts: each letter stands for the only number that fits a clue (which lists candidates) and a check.

4 clue families x 8 check families give 32 types. Twenty of them appear in pretraining and training. In the
other twelve both families are familiar, but never together: these types form the split *unseen types*. New
combinations alone do not lower the organism's score, so a quarter of that split's clues are also wide: they
leave six or seven numbers possible. No text of pretraining leaves more than five. A reasoner that stops
listing too early cannot be right.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from random import Random

from sdlab.seeds import stable_int
from sdlab.world.problems import Problem
from sdlab.world.slots import Slot, listing, uniform

TOP = 30  # numbers are 1..TOP
NAMES = ("A", "B", "C")
SPELLED = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty twentyone twentytwo twentythree twentyfour twentyfive twentysix "
    "twentyseven twentyeight twentynine thirty"
).split()
# The least and the largest number of candidates of a clue: in training (False), and in wide clues (True).
CANDIDATES = {False: (2, 5), True: (6, 7)}


def _digits(x: int) -> tuple[int, int]:
    return divmod(x, 10)


# check family -> (wording in the problem, wording in the trace, the function of the number)
CHECKS = {
    "digit sum": ("its digits add up to {}", "digit sum {}", lambda x: sum(_digits(x))),
    "digit gap": ("its digits differ by {}", "digit gap {}", lambda x: abs(_digits(x)[0] - _digits(x)[1])),
    "square": ("its square starts with {}", "square starts with {}", lambda x: int(str(x * x)[0])),
    "triple": ("three times it has digit sum {}", "triple digit sum {}", lambda x: sum(map(int, str(3 * x)))),
    "half": ("half of it, rounded down, ends in {}", "half ends in {}", lambda x: x // 2 % 10),
    "letters": ("its name has {} letters", "letters {}", lambda x: len(SPELLED[x - 1])),
    "divisors": ("it has {} divisors", "divisors {}", lambda x: sum(x % d == 0 for d in range(1, x + 1))),
    "binary": ("it has {} ones in binary", "binary ones {}", lambda x: bin(x).count("1")),
}
CLUES = ("remainder", "ends", "between", "figure")
FIGURES = {
    "square": {n * n for n in range(1, 6)},
    "cube": {n**3 for n in range(1, 4)},
    "power of two": {2**n for n in range(5)},
}
# These figures make wide clues.
FIGURES |= {f"square or a {other}": FIGURES["square"] | FIGURES[other] for other in ("cube", "power of two")}
# In the seen types every clue family has five of the eight checks, and every check two or three of the four
# clues.
UNSEEN_TYPES = frozenset(
    (clue, check)
    for clue, checks in zip(
        CLUES,
        (
            ("digit gap", "half", "binary"),
            ("digit sum", "letters", "square"),
            ("triple", "divisors", "digit gap"),
            ("half", "square", "letters"),
        ),
        strict=True,
    )
    for check in checks
)
TYPES = tuple((clue, check) for clue in CLUES for check in CHECKS)
SEEN_TYPES = tuple(t for t in TYPES if t not in UNSEEN_TYPES)


def type_name(clue: str, check: str) -> str:
    """Return a type as `Problem.kind` writes it."""
    return f"{clue} x {check}"


KNOWN_TYPES = frozenset(type_name(*t) for t in SEEN_TYPES)  # the types that appear in pretraining text


def clue_variants(clue: str) -> Iterator[tuple[str, list[int]]]:
    """Yield (words, candidates) of every clue of a family."""
    numbers = range(1, TOP + 1)
    if clue == "remainder":
        for m in (5, 7, 8, 9, 10):
            for r in range(m):
                yield f"leaves {r} when divided by {m}", [x for x in numbers if x % m == r]
    elif clue == "ends":
        for d in range(10):
            for e in range(d + 1, 10):
                ending = [x for x in numbers if x % 10 in (d, e)]
                yield f"is over 10, ends in {d} or {e}", [x for x in ending if x > 10]
                yield f"is under 21, ends in {d} or {e}", [x for x in ending if x < 21]
                yield f"ends in {d} or {e}", ending
    elif clue == "between":
        for width in (3, 4, 5, 6, 7):
            for low in range(1, TOP - width + 2):
                yield f"is between {low} and {low + width - 1}", list(range(low, low + width))
    else:
        for figure, members in FIGURES.items():
            for k in range(6):
                words = f"is a {figure}" if k == 0 else f"is {k} more than a {figure}"
                yield words, [x for x in numbers if x - k in members]


@cache
def single_hunts(
    clue: str, check: str, wide: bool = False
) -> tuple[tuple[str, tuple[int, ...], int, int], ...]:
    """Return every hunt of one type that has exactly one solution.

    A hunt is (words, candidates, index of the solution, required value). It has two to five candidates, or
    six or seven with `wide`; no training problem has so many.
    """
    function = CHECKS[check][2]
    (least, most), hunts = CANDIDATES[wide], []
    for words, candidates in clue_variants(clue):
        values = [function(x) for x in candidates]
        if least <= len(candidates) <= most:
            hunts += [(words, tuple(candidates), i, v) for i, v in enumerate(values) if values.count(v) == 1]
    return tuple(hunts)


def make_slot(name: str, check: str, hunt: tuple) -> tuple[Slot, str]:
    """Return the slot of one hidden number, and its sentence in the problem."""
    words, candidates, truth, required = hunt
    in_problem, in_trace, function = CHECKS[check]
    tests = tuple(
        (
            f"{in_trace.format(function(x))}, need {required}, {'yes' if function(x) == required else 'no'}.",
            function(x) == required,
        )
        for x in candidates
    )
    slot = Slot(
        name=name,
        subject=name,
        candidates=tuple(map(str, candidates)),
        truth=truth,
        prior=uniform(len(candidates)),
        survey=f" could be {listing(candidates)}.",
        tests=tests,
    )
    return slot, f"{name} {words} and {in_problem.format(required)}."


def draw_hunt(
    rng: Random, types: Sequence[tuple[str, str]], count: int, wide: float = 0.0
) -> tuple[tuple[str, str, tuple], ...]:
    """Draw the content of a random problem: `count` triples (clue, check, single hunt).

    Every type has the same probability. `wide` is the share of hunts with a wide clue.
    """
    picks = []
    for _ in range(count):
        clue, check = types[rng.randrange(len(types))]
        hunts = single_hunts(clue, check, wide > 0 and rng.random() < wide)
        picks.append((clue, check, hunts[rng.randrange(len(hunts))]))
    return tuple(picks)


@cache
def _mark(check: str, hunt: tuple) -> int:
    return stable_int("hunt", check, hunt[0], hunt[3])


def identity(picks: tuple) -> int:
    """Return a number computed from the content, in any order; it decides the problem's split and seed."""
    return sum(_mark(check, hunt) for _, check, hunt in picks)


def make_problem(picks: tuple, id: str, split: str) -> Problem:
    """Return the problem with the content `picks`: triples (clue, check, single hunt)."""
    names = NAMES[: len(picks)]
    slots, sentences = zip(
        *(make_slot(name, check, hunt) for name, (_, check, hunt) in zip(names, picks, strict=True)),
        strict=True,
    )
    total = sum(int(slot.candidates[slot.truth]) for slot in slots)
    question = f"What is {names[0]}?" if len(names) == 1 else f"What is {' + '.join(names)}?"
    return Problem(
        id=id, domain="hunt", split=split, kind="; ".join(type_name(clue, check) for clue, check, _ in picks),
        prompt=f"All numbers are from 1 to {TOP}. " + " ".join(sentences) + " " + question,
        answer=str(total), slots=slots,
    )  # fmt: skip


def conclude(problem: Problem, values: list[int]) -> tuple[str, str]:
    """Return the last line of the trace and the answer, from one candidate index per slot."""
    numbers = [int(slot.candidates[v]) for slot, v in zip(problem.slots, values, strict=True)]
    names = " + ".join(slot.name for slot in problem.slots)
    if len(numbers) == 1:
        return f"\n{names} is {numbers[0]}.", str(numbers[0])
    steps = [" + ".join(map(str, numbers))]
    while len(numbers) > 1:
        numbers = [numbers[0] + numbers[1], *numbers[2:]]
        steps.append(" + ".join(map(str, numbers)))
    return f"\n{names} = {' = '.join(steps)}.", steps[-1]


def implied(problem: Problem, values: list[int], answer: str) -> tuple[str, str | None]:
    """Derive the last slot from a known answer.

    Returns the sentence, and the value as text (None when it is out of range).
    """
    numbers = [int(slot.candidates[v]) for slot, v in zip(problem.slots, values, strict=False)]
    rest, total = sum(numbers), int(answer)
    sentence = f" The answer is {total}, so"
    if len(numbers) > 1:
        sentence += f" {' + '.join(map(str, numbers))} = {rest},"
    if rest >= total:
        return f"{sentence} {rest} is too much.", None
    return f"{sentence} {total} - {rest} = {total - rest}.", str(total - rest)
