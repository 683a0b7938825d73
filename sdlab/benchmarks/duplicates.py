"""Count equal and nearly equal questions with rapidfuzz, after shared boilerplate is removed.

Near means a normalised Indel similarity (`rapidfuzz.fuzz.ratio`) of at least `near`, from 0 to 100. It
compares letters, not meaning: two questions about molecules that differ in one atom are near, and have
different answers.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdlab.errors import SdlabError

NEAR = 95.0
CHUNK = 256  # rows of the similarity matrix held at once


@dataclass(frozen=True)
class Overlap:
    """The overlap of a test set with a training set.

    Of `test` distinct test questions, `exact` are in the training set, and `near` more have a near copy
    there. pairs: (test index, training index, similarity), best first, with indices into the lists of texts.
    """

    train: int
    test: int
    exact: int
    near: int
    pairs: tuple[tuple[int, int, float], ...]


def boilerplate(texts: Sequence[str]) -> tuple[str, str]:
    r"""Return the prefix and suffix that all distinct texts share, cut at white space.

    Both are empty for fewer than two distinct texts. A template such as "Please reason step by step, and put
    your final answer within \boxed{}." is detected, not listed. If a text would be left without a word,
    nothing counts as boilerplate.
    """
    distinct = list(dict.fromkeys(text.strip() for text in texts))
    if len(distinct) < 2:
        return "", ""
    prefix = os.path.commonprefix(distinct)  # noqa: RUF071  texts, not paths
    suffix = os.path.commonprefix([text[::-1] for text in distinct])[::-1]  # noqa: RUF071
    prefix = prefix[: max((i + 1 for i, c in enumerate(prefix) if c.isspace()), default=0)]
    suffix = suffix[min((i for i, c in enumerate(suffix) if c.isspace()), default=len(suffix)) :]
    if any(len(text) <= len(prefix) + len(suffix) for text in distinct):
        return "", ""
    return prefix, suffix


def stripped(texts: Sequence[str]) -> list[str]:
    """Return the texts without the `boilerplate` they share."""
    prefix, suffix = boilerplate(texts)
    return [text.strip().removeprefix(prefix).removesuffix(suffix).strip() for text in texts]


def normalised(texts: Sequence[str]) -> list[str]:
    """Return the texts for comparison: without shared boilerplate, runs of white space as one space.

    The case stays, because it has a meaning in a SMILES formula.
    """
    return [" ".join(text.split()) for text in stripped(texts)]


def near_copies(texts: Sequence[str], near: float = NEAR) -> list[tuple[int, int, float]]:
    """Return (later index, earlier index, similarity) of every distinct text that has a near copy before it.

    The earlier text is its best near copy among the distinct ones.
    """
    distinct = first_places(normalised(texts))
    copies = []
    names = list(distinct)
    for start, scores in _scores(names, names, near):
        for row, line in enumerate(scores):
            before = line[: start + row]
            if len(before) and before.max() >= near:
                copies.append(
                    (distinct[names[start + row]], distinct[names[int(before.argmax())]], float(before.max()))
                )
    return copies


def overlap(train: Sequence[str], test: Sequence[str], near: float = NEAR) -> Overlap:
    """Return how many of the test questions are in the training set, word for word or nearly.

    Each set loses its own boilerplate first.

    Raises SdlabError when a set is empty and when `near` is not in (0, 100].
    """
    if not len(train) or not len(test):
        raise SdlabError(
            f"overlap needs two sets of questions; got {len(train)} for training and {len(test)} for test"
        )
    old, new = first_places(normalised(train)), first_places(normalised(test))
    exact = [text for text in new if text in old]
    others, names = [text for text in new if text not in old], list(old)
    pairs = [(new[text], old[text], 100.0) for text in exact]
    for start, scores in _scores(others, names, near):
        best = scores.argmax(1)
        pairs += [
            (new[others[start + i]], old[names[j]], float(scores[i, j]))
            for i, j in enumerate(best)
            if scores[i, j] >= near
        ]
    pairs.sort(key=lambda pair: -pair[2])
    return Overlap(len(old), len(new), len(exact), len(pairs) - len(exact), tuple(pairs))


def first_places(texts: list[str]) -> dict[str, int]:
    """Return distinct text -> index of its first appearance."""
    places: dict[str, int] = {}
    for index, text in enumerate(texts):
        places.setdefault(text, index)
    return places


def _scores(rows: list[str], columns: list[str], near: float) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, similarities (<= CHUNK, columns)) block by block; values below `near` are 0."""
    from rapidfuzz import fuzz, process

    if not 0 < near <= 100:
        raise SdlabError(
            f"near={near!r} is not allowed; it is a similarity above 0 and at most 100, for example {NEAR:g}"
        )
    for start in range(0, len(rows), CHUNK):
        yield (
            start,
            process.cdist(
                rows[start : start + CHUNK], columns, scorer=fuzz.ratio, score_cutoff=near, dtype=np.float64
            ),
        )
