"""The named splits: fixed problems that a student can name.

A hunt's or reaction's content is hashed, and the hash deals it to one role (pretraining, training or test) and one
seed, so no two splits and no two seeds can share a problem. Kata are the same 131 tasks everywhere, on purpose.
"""

from collections.abc import Iterator
from itertools import islice
from threading import RLock

from sdlab.errors import SdlabError, unknown
from sdlab.seeds import stream
from sdlab.world import chemistry, hunts, kata
from sdlab.world.problems import Problem

SEEDS = 16  # problems are dealt out to this many seeds
ROLES = ("pretrain", "pretrain", "train", "test")  # half of all content is kept for pretraining
SPLITS = {
    "train": "two hunts of the 20 types seen in pretraining; what the study trains on",
    "in-domain": "two hunts of the 20 seen types, problems never trained on",
    "unseen-types": "two hunts of the 12 types whose clue and check were never combined before, a quarter of the clues wider than any seen (shift of kind)",
    "deeper": "three hunts of seen types, where training has two (depth shift)",
    "chemistry-train": "six reaction types, 90% of 2,400 questions",
    "chemistry-test": "the other 10%, from the same distribution",
    "kata": "131 tasks of three steps, the same for training and test, with a failing case as feedback",
}
TRAINING = "training questions"  # a run's own: where a result is told beside those of splits
SIZES = {
    "train": 4096,
    "in-domain": 512,
    "unseen-types": 512,
    "deeper": 512,
    "chemistry-train": 2160,
    "chemistry-test": 240,
}
HUNTS = {"train": (hunts.SEEN_TYPES, 2), "in-domain": (hunts.SEEN_TYPES, 2), "deeper": (hunts.SEEN_TYPES, 3)}
HUNTS["unseen-types"] = (tuple(sorted(hunts.UNSEEN_TYPES)), 2, 0.25)


def dealt_to(identity: int) -> tuple[str, int]:
    """The (role, seed) that content with this identity belongs to."""
    return ROLES[identity % len(ROLES)], identity // len(ROLES) % SEEDS


def load_split(name: str, seed: int = 0, limit: int | None = None) -> list[Problem]:
    """The problems of a split, always the same ones for the same name and seed.

    `limit` takes the first so many; the order is random, so a prefix is a fair sample.
    Raises SdlabError on an unknown name, a seed outside 0..15, or more problems than the split has.
    """
    if name not in SPLITS:
        raise unknown("split", name, SPLITS)
    if not (isinstance(seed, int) and 0 <= seed < SEEDS):
        raise SdlabError(
            f"split seed {seed!r} is not allowed; it must be a whole number from 0 to {SEEDS - 1}"
        )
    size = kata.COUNT if name == "kata" else SIZES[name]
    if limit is not None and not 1 <= limit <= size:
        raise SdlabError(f"{limit} problems asked of split {name!r}, which has {size}; choose 1 to {size}")
    if name == "kata":
        return list(kata.all_kata()[:limit])
    return list(_first(name, seed, limit or size))


_LOCK = RLock()  # one thread makes problems, others wait for it
_BEGUN: dict[
    tuple[str, int], tuple[tuple[Problem, ...], Iterator[Problem]]
] = {}  # problems, and the maker of more


def _first(name: str, seed: int, count: int) -> tuple[Problem, ...]:
    """The first `count` problems of a split. What was made is kept; nobody waits for problems nobody asks for."""
    with _LOCK:
        # taken out while it grows: a maker that is interrupted is of no more use, and the next call begins anew
        problems, maker = _BEGUN.pop((name, seed), ((), _make(name, seed)))
        problems += tuple(islice(maker, max(0, count - len(problems))))
        _BEGUN[name, seed] = problems, maker
        return problems[:count]


def _make(name: str, seed: int) -> Iterator[Problem]:
    rng, seen, mine = (
        stream("split", name, seed),
        set(),
        ("train" if name.endswith("train") else "test", seed),
    )
    chemical = name.startswith("chemistry")
    room = chemistry if chemical else hunts
    while True:
        draw = chemistry.draw_chemistry(rng) if chemical else hunts.draw_hunt(rng, *HUNTS[name])
        identity = room.identity(draw)
        if dealt_to(identity) == mine and identity not in seen:
            seen.add(identity)
            yield room.make_problem(draw, f"{name}/{seed}/{len(seen) - 1:04d}", name)
