"""Problems: one solution each, splits that never meet, the same on every machine."""

import functools
import hashlib
import itertools
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from sdlab.errors import SdlabError
from sdlab.world import chemistry, hunts, kata, splits
from sdlab.world.splits import SIZES, SPLITS, load_split

HUNT_SPLITS = ("train", "in-domain", "unseen-types", "deeper")


def brute_force_solutions(problem):
    """Read the problem's English anew and count the numbers from 1 to 30 that fit every sentence."""
    facts = {
        "its digits add up to": lambda x: sum(map(int, str(x))),
        "its digits differ by": lambda x: abs(int(f"{x:02d}"[0]) - int(f"{x:02d}"[1])),
        "its square starts with": lambda x: int(str(x**2)[0]),
        "three times it has digit sum": lambda x: sum(map(int, str(x * 3))),
        "half of it, rounded down, ends in": lambda x: int(str(x // 2)[-1]),
        "its name has": lambda x: len(hunts.SPELLED[x - 1]),
        "it has": None,  # divisors or ones in binary, told apart by the unit
    }
    sentences = [s for s in problem.prompt.split(". ")[1:] if not s.startswith("What")]
    solutions = []
    for sentence in sentences:
        clue, check = (
            sentence.rstrip(".").split(" and ")
            if sentence.count(" and ") == 1
            else (sentence.rsplit(" and ", 1))
        )
        if " between " in sentence:
            low, rest = sentence.split(" between ")[1].split(" and ", 1)
            high, check = rest.split(" and ", 1)
            fits = lambda x, low=int(low), high=int(high): low <= x <= high  # noqa: E731
        else:
            words = clue.replace(",", "").split()
            if "leaves" in words:
                fits = lambda x, r=int(words[2]), m=int(words[-1]): x % m == r  # noqa: E731
            elif "ends" in words:
                bound = (
                    (lambda x: x > 10)
                    if "over" in words
                    else (lambda x: x < 21)
                    if "under" in words
                    else (lambda x: True)
                )
                digits = (int(words[-3]), int(words[-1]))
                fits = lambda x, digits=digits, b=bound: b(x) and x % 10 in digits  # noqa: E731
            else:
                shift = int(words[2]) if words[2].isdigit() else 0
                figure = clue.split(" than a ")[-1] if shift else clue.split(" is a ")[-1]
                members = {
                    "square": {1, 4, 9, 16, 25}, "cube": {1, 8, 27}, "power of two": {1, 2, 4, 8, 16},
                    "square or a cube": {1, 4, 8, 9, 16, 25, 27},
                    "square or a power of two": {1, 2, 4, 8, 9, 16, 25},
                }[figure]  # fmt: skip
                fits = lambda x, s=shift, m=members: x - s in m  # noqa: E731
        check = check.rstrip(".")
        wanted = int(next(w for w in reversed(check.split()) if w.isdigit()))
        if check.endswith("divisors"):
            fact = lambda x: sum(x % d == 0 for d in range(1, x + 1))  # noqa: E731
        elif check.endswith("ones in binary"):
            fact = int.bit_count
        else:
            fact = next(f for start, f in facts.items() if check.startswith(start))
        solutions.append([x for x in range(1, 31) if fits(x) and fact(x) == wanted])
    return solutions


@pytest.mark.parametrize("split", HUNT_SPLITS)
def test_every_hunt_has_exactly_one_solution_and_it_is_the_answer(split):
    for problem in load_split(split, limit=300):
        solutions = brute_force_solutions(problem)
        assert [len(s) for s in solutions] == [1] * len(problem.slots), problem.prompt
        assert sum(s[0] for s in solutions) == int(problem.answer), problem.prompt


def test_splits_and_seeds_never_share_a_problem():
    seen = {}
    for split, seed in itertools.product(
        ("train", "in-domain", "unseen-types", "deeper", "chemistry-train", "chemistry-test"), (0, 1, 2)
    ):
        for problem in load_split(split, seed, limit=min(400, SIZES[split])):
            assert problem.prompt not in seen, (problem.id, seen[problem.prompt])
            seen[problem.prompt] = problem.id


def test_pretraining_never_draws_a_problem_of_a_split():
    from sdlab.organism.corpus import draw_problem
    from sdlab.seeds import stream

    held_out = {p.prompt for name in SIZES for p in load_split(name)}
    rng = stream("test", "pretraining")
    drawn = {p.prompt for p in (draw_problem(rng) for _ in range(3000)) if p.domain != "kata"}
    assert len(drawn) > 2000 and not drawn & held_out


def test_types_are_where_the_names_say():
    assert len(hunts.TYPES) == 32 and len(hunts.UNSEEN_TYPES) == 12 and len(hunts.SEEN_TYPES) == 20
    unseen = {f"{clue} x {check}" for clue, check in hunts.UNSEEN_TYPES}
    for problem in load_split("unseen-types", limit=200):
        assert set(problem.kind.split("; ")) <= unseen
    for split in ("train", "in-domain", "deeper"):
        for problem in load_split(split, limit=200):
            assert not set(problem.kind.split("; ")) & unseen
    assert {len(p.slots) for p in load_split("deeper", limit=50)} == {3}
    assert all(hunts.single_hunts(*t) for t in hunts.TYPES)
    for part in (0, 1):  # every family is seen, in some other combination
        assert {t[part] for t in hunts.SEEN_TYPES} == {t[part] for t in hunts.TYPES}


def test_same_seed_same_problems_for_ever():
    text = "".join(p.prompt + p.answer for name in SPLITS for p in load_split(name, limit=50))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "4534fd424b0fbb85"


@pytest.mark.parametrize("split", ["deeper", "chemistry-test"])
def test_an_interrupted_split_is_made_anew(monkeypatch, split):
    """Interrupt the generation at forty moments: the next call returns all problems in order."""
    wanted, rng = load_split(split, 3, limit=12), random.Random(split)
    source, count = {splits.__file__, hunts.__file__, chemistry.__file__}, itertools.count(1)

    def trace(frame, event, _, last=None):
        if frame.f_code.co_filename not in source:
            return None
        if event == "line" and next(count) == last:
            raise KeyboardInterrupt
        return functools.partial(trace, last=last)

    def lines(last=None):
        """Make it from nothing; returns how many lines that took."""
        nonlocal count
        count = itertools.count(1)
        monkeypatch.setattr(splits, "_BEGUN", {})
        load_split(split, 3, limit=4)
        before = sys.gettrace()
        sys.settrace(functools.partial(trace, last=last))
        try:
            load_split(split, 3, limit=12)
        finally:
            sys.settrace(before)
        return next(count)

    for last in rng.sample(range(1, lines()), 40):
        with pytest.raises(KeyboardInterrupt):
            lines(last)
        assert load_split(split, 3, limit=12) == wanted


def test_threads_that_make_a_split_together_get_the_same_one(monkeypatch):
    wanted, patience = load_split("in-domain", 5, limit=60), sys.getswitchinterval()
    monkeypatch.setattr(splits, "_BEGUN", {})
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            limits = [10, 60, 30, 1, 60, 45, 20, 60] * 3
            found = list(pool.map(lambda limit: load_split("in-domain", 5, limit=limit), limits))
    finally:
        sys.setswitchinterval(patience)
    assert found == [wanted[:limit] for limit in limits]


def test_a_split_that_is_handed_out_is_not_the_one_that_is_kept():
    load_split("deeper", limit=5).clear()
    assert len(load_split("deeper", limit=5)) == 5


def test_kata_are_131_distinct_and_only_feedback_settles_half_of_them():
    tasks = load_split("kata")
    assert len(tasks) == len({t.prompt for t in tasks}) == 131
    weak = 0
    for task in tasks:
        slot = task.slots[0]
        passing = [i for i, (_, holds) in enumerate(slot.tests) if holds]
        assert slot.truth in passing
        assert [i for i, (_, holds) in enumerate(slot.strict_tests) if holds] == [slot.truth]
        assert kata.conclude(task, [slot.truth])[1] == task.answer
        assert all(kata.conclude(task, [i])[1] != task.answer for i in passing if i != slot.truth)
        weak += len(passing) > 1
    assert weak == 65


def test_chemistry_train_and_test_have_one_distribution():
    counts = {}
    for name in ("chemistry-train", "chemistry-test"):
        problems = load_split(name)
        assert {p.kind for p in problems} == set(chemistry.RULES)
        counts[name] = [sum(p.kind == k for p in problems) / len(problems) for k in chemistry.RULES]
        for p in problems:
            offered = re.findall(r"an? (\w+)", p.prompt.split("forms:")[1])
            assert len(set(offered)) == 4 and p.answer in offered and chemistry.RULES[p.kind][0] == p.answer
    assert max(abs(a - b) for a, b in zip(*counts.values(), strict=True)) < 0.08
    assert len(load_split("chemistry-train")) + len(load_split("chemistry-test")) == 2400


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("nowhere",), "unknown split 'nowhere'"),
        (("deeper", 16), "seed 16"),
        (("kata", 0, 132), "131"),
        (("deeper", 0, 0), "choose 1 to"),
    ],
)
def test_bad_requests_are_named(arguments, words):
    with pytest.raises(SdlabError, match=words):
        load_split(*arguments)
