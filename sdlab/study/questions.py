"""Which questions a run trains on: how many of a split, and of how many types.

The paper varies the number of questions alone, and with it the number of types. Here the two are separate: `num_types`
keeps the types fixed while the number of questions grows, and the other way round.
"""

from itertools import combinations_with_replacement

from sdlab.errors import SdlabError
from sdlab.seeds import stream
from sdlab.world.hunts import SEEN_TYPES, draw_hunt, identity, make_problem, single_hunts
from sdlab.world.problems import Problem
from sdlab.world.splits import SIZES, dealt_to, load_split


def training_questions(split: str, num_questions: int | None, num_types: int | None, seed: int) -> list[Problem]:
    """The questions a run with this seed trains on. Fewer questions are always among more, with the same seed and types.

    num_questions: that many of the split, chosen by the seed; None: all of it, in its own order. num_types: only hunts whose
    every type is among that many types, chosen by the seed (fewer types are always among more); they are drawn as the split
    "train" is, from everything that is dealt to training and so is in no test split.
    Raises SdlabError when there are not that many questions or types, and for types of another split than "train".
    """
    if num_types is not None:
        return _of_types(split, num_questions, num_types, seed)
    questions = load_split(split)
    if num_questions is None:
        return questions
    _check("num_questions", num_questions, len(questions), f"questions in split {split!r}")
    order = list(questions)
    stream("questions", split, seed).shuffle(order)
    return order[:num_questions]


def _of_types(split: str, num_questions: int | None, num_types: int, seed: int) -> list[Problem]:
    if split != "train":
        raise SdlabError(f"num_types={num_types} is not allowed with split {split!r}; only the hunts of split 'train' are sorted by type")
    _check("num_types", num_types, len(SEEN_TYPES), "types of hunts")
    order = list(SEEN_TYPES)
    stream("types", split, seed).shuffle(order)
    chosen = order[:num_types]
    single = [identity(((clue, check, hunt),)) for clue, check in chosen for hunt in single_hunts(clue, check)]
    pairs = {a + b for a, b in combinations_with_replacement(single, 2)}  # a pair's identity is the sum of its hunts'
    there = sum(dealt_to(pair)[0] == "train" for pair in pairs)
    if num_questions is None:
        num_questions = min(there, SIZES[split])
    _check("num_questions", num_questions, there, f"questions of {num_types} types (seed {seed})")
    rng, found = stream("questions", split, seed, num_types), {}
    while len(found) < num_questions:
        draw = draw_hunt(rng, chosen, 2)
        if dealt_to(identity(draw))[0] == "train":
            found.setdefault(identity(draw), draw)
    return [make_problem(draw, f"{split}/{num_types}-types/{seed}/{i:04d}", split) for i, draw in enumerate(found.values())]


def _check(name: str, value: int, most: int, of_what: str) -> None:
    if not 1 <= value <= most:
        raise SdlabError(f"{name}={value} is not allowed; there are {most} {of_what}: choose 1 to {most}, or None for all")
