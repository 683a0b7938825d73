"""131 small programming tasks of three steps; training and test tasks are the same, as in LiveCodeBench.

Two of the steps are nicknames with two readings each. The example in the task rules out some of the four
readings. In about half of the tasks one wrong reading passes the example. Then only the failing case (the
textual feedback of the environment) shows which reading is right.
"""

from functools import cache

from sdlab.seeds import stream
from sdlab.world.problems import Problem
from sdlab.world.slots import Slot, uniform

COUNT = 131
TOP = 30  # all numbers are 0 to TOP - 1
# nickname -> two readings, each (name in the trace, the function)
NICKNAMES = {
    "bump": (("by 1", lambda x: (x + 1) % TOP), ("by 2", lambda x: (x + 2) % TOP)),
    "jump": (("by 5", lambda x: (x + 5) % TOP), ("by 7", lambda x: (x + 7) % TOP)),
    "drop": (("by 3", lambda x: (x - 3) % TOP), ("by 4", lambda x: (x - 4) % TOP)),
    "fold": (("down", lambda x: x // 2), ("up", lambda x: (x + 1) // 2)),
    "flip": (("over", lambda x: TOP - 1 - x), ("around", lambda x: (x + 15) % TOP)),
    "twin": (("even", lambda x: 2 * x % TOP), ("odd", lambda x: (2 * x + 1) % TOP)),
}
PLAIN = {f"add {k}": (lambda x, k=k: (x + k) % TOP) for k in (3, 6, 8)} | {
    f"subtract {k}": (lambda x, k=k: (x - k) % TOP) for k in (2, 5)
}


def _run(functions, x: int) -> list[int]:
    path = [x]
    for function in functions:
        path.append(function(path[-1]))
    return path


def _words(path) -> str:
    return " to ".join(map(str, path))


@cache
def all_kata() -> tuple[Problem, ...]:
    """Return the 131 tasks, always the same ones."""
    rng, problems, seen = stream("kata", "tasks"), [], set()
    while len(problems) < COUNT:
        first, last = rng.sample(list(NICKNAMES), 2)
        plain = rng.choice(list(PLAIN))
        example, failing, asked = rng.sample(range(1, TOP), 3)
        truth = rng.randrange(4)
        readings = [(a, b) for a in NICKNAMES[first] for b in NICKNAMES[last]]
        programs = [(a[1], PLAIN[plain], b[1]) for a, b in readings]
        ends = {x: [_run(p, x)[-1] for p in programs] for x in (example, failing, asked)}
        survivors = [i for i in range(4) if ends[example][i] == ends[example][truth]]
        settled = [i for i in survivors if ends[failing][i] == ends[failing][truth]]
        misleading = [i for i in survivors if ends[asked][i] != ends[asked][truth]]
        weak = len(problems) % 2 == 1  # in every second task a wrong reading passes the example
        if (
            settled != [truth]
            or len(survivors) != 1 + weak
            or len(misleading) != weak
            or (first, plain, last, truth) in seen
        ):
            continue
        seen.add((first, plain, last, truth))
        problems.append(
            _task(len(problems), first, plain, last, truth, readings, programs, example, failing, asked)
        )
    return tuple(problems)


def _task(number, first, plain, last, truth, readings, programs, example, failing, asked) -> Problem:
    def test(i: int, *inputs: int) -> tuple[str, bool]:
        words, holds = [], True
        for x in inputs:
            path, required = _run(programs[i], x), _run(programs[truth], x)[-1]
            holds = path[-1] == required
            words.append(f"{_words(path)}, need {required}, {'yes' if holds else 'no'}.")
            if not holds:
                break
        return " ".join(words), holds

    (first_a, first_b), (last_a, last_b) = ([reading[0] for reading in NICKNAMES[n]] for n in (first, last))
    slot = Slot(
        name="Rule", subject="it",
        candidates=tuple(f"{first} {a[0]} and {last} {b[0]}" for a, b in readings), truth=truth,
        prior=uniform(4),
        survey=f" could be {first} {first_a} or {first_b}, {last} {last_a} or {last_b}.",
        tests=tuple(test(i, example) for i in range(4)),
        strict_tests=tuple(test(i, example, failing) for i in range(4)),
    )  # fmt: skip
    outcome = [_words(_run(p, asked)) for p in programs]
    example_end, failing_end, answer = (_run(programs[truth], x)[-1] for x in (example, failing, asked))
    return Problem(
        id=f"kata/{number:03d}", domain="kata", split="kata", kind=f"{first}, {plain}, {last}",
        prompt=f"Kata {number}: {first}, then {plain}, then {last}. {example} becomes {example_end}. "
        f"What does {asked} become?",
        answer=str(answer), feedback=f"Failing case: {failing} should become {failing_end}.", slots=(slot,),
        outcomes=tuple(outcome),
    )  # fmt: skip


def conclude(problem: Problem, values: list[int]) -> tuple[str, str]:
    """Return the last line of the trace and the answer, from the index of the reading."""
    path = problem.outcomes[values[0]]
    return f"\n{path}.", path.split()[-1]
