"""The questions of a training run: how many of a split, and of how many types.

The paper varies only the number of questions, and with it the number of types. Here the two are separate:
`num_types` fixes the types while the number of questions grows, or the reverse. `candidates` keeps only hunts
with few or with many numbers to search.
"""

from collections import Counter
from itertools import combinations_with_replacement
from math import comb

from sdlab.errors import SdlabError, unknown
from sdlab.seeds import stream
from sdlab.settings import Seed, checked
from sdlab.world.hunts import SEEN_TYPES, draw_hunt, identity, make_problem, single_hunts
from sdlab.world.problems import Problem
from sdlab.world.splits import ROLES, SIZES, dealt_to, load_split, split_size

# the least and the largest number of candidates that a hunt's clues leave
CANDIDATES = {"any": (0, 99), "few": (0, 7), "many": (9, 99)}


@checked
def training_questions(
    split: str, num_questions: int | None, num_types: int | None, seed: Seed, candidates: str = "any"
) -> list[Problem]:
    """Return the questions that a run with this seed trains on.

    With the same seed and types, a smaller set of questions is part of a larger one. num_questions: so many
    of the split, chosen by the seed; None: all, in the split's order. num_types: only hunts whose every type
    is among so many types, chosen by the seed (fewer types are part of more types). They are drawn like the
    split "train", from everything that is dealt to training and so is in no test split. candidates: "few"
    keeps hunts whose clues leave at most seven numbers, "many" those with at least nine.

    Raises SdlabError when there are not so many questions or types, and for types or candidates of another
    split than "train".
    """
    check_questions(split, num_questions, num_types, seed, candidates)
    if num_types is None:
        questions = _kept(split, candidates)
        if num_questions is not None:
            questions = list(questions)
            stream("questions", split, seed).shuffle(questions)
        return questions[:num_questions]
    types = _types(num_types, split, seed)
    count = num_questions or min(_count(types), SIZES[split])
    rng, draws = stream("questions", split, seed, num_types), {}
    while len(draws) < count:
        draw = draw_hunt(rng, types, 2)
        if dealt_to(identity(draw))[0] == "train":
            draws.setdefault(identity(draw), draw)
    return [
        make_problem(draw, f"{split}/{num_types}-types/{seed}/{i:04d}", split)
        for i, draw in enumerate(draws.values())
    ]


@checked
def check_questions(
    split: str, num_questions: int | None, num_types: int | None, seed: Seed, candidates: str = "any"
) -> None:
    """Raise SdlabError when `training_questions` would.

    Makes no questions that are not needed for this.
    """
    if candidates not in CANDIDATES:
        raise unknown("choice of candidates", candidates, CANDIDATES)
    if candidates != "any":
        if split != "train" or num_types is not None:
            other = f"num_types={num_types}" if num_types else f"split {split!r}"
            raise SdlabError(
                f"candidates={candidates!r} is not allowed with {other}; "
                "it chooses among the hunts of split 'train'"
            )
        there, of_what = len(_kept(split, candidates)), f"questions with {candidates} candidates"
    elif num_types is None:
        there, of_what = split_size(split), f"questions in split {split!r}"
    elif split != "train":
        raise SdlabError(
            f"num_types={num_types} is not allowed with split {split!r}; "
            "only the hunts of split 'train' are sorted by type"
        )
    else:
        _check("num_types", num_types, len(SEEN_TYPES), "types of hunts")
        there, of_what = (
            _count(_types(num_types, split, seed)),
            f"questions of {num_types} types (seed {seed})",
        )
    if num_questions is not None:
        _check("num_questions", num_questions, there, of_what)


def _kept(split: str, candidates: str) -> list[Problem]:
    least, most = CANDIDATES[candidates]
    questions = load_split(split)
    return (
        questions
        if candidates == "any"
        else [one for one in questions if least <= sum(len(slot.candidates) for slot in one.slots) <= most]
    )


def _types(num_types: int, split: str, seed: int) -> list[tuple[str, str]]:
    order = list(SEEN_TYPES)
    stream("types", split, seed).shuffle(order)
    return order[:num_types]


def _count(types: list[tuple[str, str]]) -> int:
    """Return how many pairs of hunts of these types are dealt to training.

    The identity of a pair is the sum of its hunts' identities, and so is its remainder.
    """
    roles = len(ROLES)
    single = Counter(
        identity(((clue, check, hunt),)) % roles
        for clue, check in types
        for hunt in single_hunts(clue, check)
    )
    pairs = combinations_with_replacement(single, 2)
    return sum(
        comb(single[a] + 1, 2) if a == b else single[a] * single[b]
        for a, b in pairs
        if dealt_to((a + b) % roles)[0] == "train"
    )


def _check(name: str, value: int, most: int, of_what: str) -> None:
    if not 1 <= value <= most:
        raise SdlabError(
            f"{name}={value} is not allowed; there are {most} {of_what}: choose 1 to {most}, or None for all"
        )
