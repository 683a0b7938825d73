"""Load the named splits, which always contain the same problems.

The content of a hunt or reaction is hashed. The hash assigns it to one role (pretraining, training or test)
and to one seed, so no two splits and no two seeds can share a problem. Kata are the same 131 tasks
everywhere, on purpose.
"""

from collections.abc import Iterator
from itertools import islice
from threading import RLock

from sdlab.errors import SdlabError, unknown
from sdlab.seeds import stream
from sdlab.world import chemistry, hunts, kata
from sdlab.world.problems import Problem

SEEDS = 16  # the problems are divided among this many seeds
ROLES = ("pretrain", "pretrain", "train", "test")  # half of all content is reserved for pretraining
SPLITS = {
    "train": "two hunts of the 20 types seen in pretraining; what the study trains on",
    "in-domain": "two hunts of the 20 seen types, problems never trained on",
    "unseen-types": "two hunts of the 12 types whose clue and check were never combined before, "
    "a quarter of the clues wider than any seen (shift of kind)",
    "deeper": "three hunts of seen types, where training has two (depth shift)",
    "chemistry-train": "six reaction types, 90% of 2,400 questions",
    "chemistry-test": "the other 10%, from the same distribution",
    "kata": "131 tasks of three steps, the same for training and test, with a failing case as feedback",
}
TRAINING = "training problems"  # names a run's own problems where results of splits are listed
SIZES = {
    "train": 4096,
    "in-domain": 512,
    "unseen-types": 512,
    "deeper": 512,
    "chemistry-train": 2160,
    "chemistry-test": 240,
}
# hunts: split -> (types, number of hunts), and the share of wide clues where there are any
HUNTS: dict[str, tuple] = {
    "train": (hunts.SEEN_TYPES, 2),
    "in-domain": (hunts.SEEN_TYPES, 2),
    "deeper": (hunts.SEEN_TYPES, 3),
}
HUNTS["unseen-types"] = (tuple(sorted(hunts.UNSEEN_TYPES)), 2, 0.25)


def dealt_to(identity: int) -> tuple[str, int]:
    """Return the (role, seed) to which content with this identity belongs."""
    return ROLES[identity % len(ROLES)], identity // len(ROLES) % SEEDS


def split_size(name: str) -> int:
    """Return the number of problems of a split.

    Raises SdlabError for an unknown name.
    """
    if name not in SPLITS:
        raise unknown("split", name, SPLITS)
    return kata.COUNT if name == "kata" else SIZES[name]


def load_split(name: str, seed: int = 0, limit: int | None = None) -> list[Problem]:
    """Load the problems of a split, always the same ones for the same name and seed.

    `limit` takes the first `limit` problems. Their order is random, so the first ones are a fair sample.
    Raises SdlabError for an unknown name, a seed outside 0 to 15, or more problems than the split has.
    """
    size = split_size(name)
    if not (isinstance(seed, int) and 0 <= seed < SEEDS):
        raise SdlabError(
            f"split seed {seed!r} is not allowed; it must be a whole number from 0 to {SEEDS - 1}"
        )
    if limit is not None and not 1 <= limit <= size:
        raise SdlabError(f"{limit} problems asked of split {name!r}, which has {size}; choose 1 to {size}")
    if name == "kata":
        return list(kata.all_kata()[:limit])
    return list(_first(name, seed, limit or size))


_LOCK = RLock()  # one thread generates problems, others wait for it
# (name, seed) -> the problems so far, and the generator of more
_BEGUN: dict[tuple[str, int], tuple[tuple[Problem, ...], Iterator[Problem]]] = {}


def _first(name: str, seed: int, count: int) -> tuple[Problem, ...]:
    """Return the first `count` problems of a split.

    Problems are generated only when requested, and are then kept.
    """
    with _LOCK:
        # The entry is removed while it grows. An interrupted generator is unusable; the next call then starts
        # again.
        problems, maker = _BEGUN.pop((name, seed), ((), _make(name, seed)))
        problems += tuple(islice(maker, max(0, count - len(problems))))
        _BEGUN[name, seed] = problems, maker
        return problems[:count]


def _make(name: str, seed: int) -> Iterator[Problem]:
    rng, seen = stream("split", name, seed), set()
    role = "train" if name.endswith("train") else "test"
    chemical = name.startswith("chemistry")
    domain = chemistry if chemical else hunts
    while True:
        draw = chemistry.draw_chemistry(rng) if chemical else hunts.draw_hunt(rng, *HUNTS[name])
        identity = domain.identity(draw)
        if dealt_to(identity) == (role, seed) and identity not in seen:
            seen.add(identity)
            yield domain.make_problem(draw, f"{name}/{seed}/{len(seen) - 1:04d}", name)
