"""Families of hunts that differ only in the hidden value: all that is possible before the search.

A problem fixes its answer. For a reader who has searched, a solution in the context therefore carries no
information. The reasoner has not searched yet. It has read the clue and holds every candidate possible, with
the probability of its prior. An average over the members of a family, with that prior, is an average over
what the reasoner does not know.
"""

from functools import cache
from itertools import groupby

from sdlab.errors import SdlabError
from sdlab.seeds import stream
from sdlab.settings import Count, checked
from sdlab.world import hunts
from sdlab.world.problems import Problem
from sdlab.world.splits import dealt_to

SIZES = (2, 3, 4, 5)


@checked
def load_families(size: int, limit: Count | None = None) -> list[tuple[Problem, tuple[Problem, ...]]]:
    """Return pairs (problem, siblings): a hunt for one number, and all `size` hunts of its family.

    There is one sibling for each candidate. siblings[v] has the same clue, the same kind of check and the
    same candidates as `problem`, and its answer is candidate v. `problem` is one of the siblings, and its
    content belongs to the test role. All types are seen types. The order is random but fixed.
    Raises SdlabError unless `size` is one of SIZES and there are `limit` families of that size.
    """
    if size not in SIZES:
        raise SdlabError(
            f"families of {size!r} candidates do not exist; choose one of: {', '.join(map(str, SIZES))}"
        )
    families = _families(size)
    if limit is not None and not 1 <= limit <= len(families):
        raise SdlabError(f"{limit} families of {size} candidates asked for; choose 1 to {len(families)}")
    return list(families[:limit])


@cache
def _families(size: int) -> tuple[tuple[Problem, tuple[Problem, ...]], ...]:
    rng, families = stream("families", size), []
    for clue, check in hunts.SEEN_TYPES:
        for words, group in groupby(hunts.single_hunts(clue, check), key=lambda hunt: hunt[0]):
            members = sorted(group, key=lambda hunt: hunt[2])
            test = [dealt_to(hunts.identity(((clue, check, hunt),)))[0] == "test" for hunt in members]
            if len(members) != size or len(members[0][1]) != size or not any(test):
                continue
            name = f"family/{size}/{clue} x {check}/{words}"
            siblings = tuple(
                hunts.make_problem(((clue, check, hunt),), f"{name}/{hunt[3]}", "families")
                for hunt in members
            )
            chosen = rng.choice([i for i, is_test in enumerate(test) if is_test])
            families.append((siblings[chosen], siblings))
    rng.shuffle(families)
    return tuple(families)
