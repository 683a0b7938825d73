"""Types of questions in free text: groups of similar wording at two scales, and their stability.

The method has no seed and no number of types set by hand:

1. Boilerplate is removed (`sdlab.benchmarks.duplicates`); every distinct question counts once.

2. Words are letters between white space, without punctuation at their ends. Formulas, SMILES and numbers do
not count as words. Weights are TF-IDF with 1 + log(tf); words in fewer than 1% of the questions (or in only
one) are left out.

3. Average linkage on cosine distances gives one tree, which is cut into k = 2, 3, ..., MOST groups.

4. The silhouette (Rousseeuw 1987) says how well each cut fits. A *peak* is a k whose silhouette is above both
neighbours' (k = 1 counts as 0) and at least 0.25 (below it there is no substantial structure: Kaufman and
Rousseeuw 1990, Table 4). The first peak gives `types`, the coarsest division that holds; the highest gives
`wordings`. Both are None without a peak.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from sdlab.benchmarks.duplicates import first_places, normalised
from sdlab.errors import SdlabError
from sdlab.seeds import stream
from sdlab.settings import Count, CountOrZero, Range, checked

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

WORD = r"(?<!\S)[^\w\s]*([^\W\d_]{2,})[^\w\s]*(?!\S)"
MOST = 40
STRUCTURE = 0.25


@dataclass(frozen=True)
class Division:
    """One cut of the tree.

    labels: (N,) group of each text, numbered by size from 0; -1 for texts without a word.
    """

    count: int
    silhouette: float
    labels: np.ndarray
    sizes: tuple[int, ...]  # distinct texts in each group
    terms: tuple[tuple[str, ...], ...]  # the words that set each group apart, most telling first
    centres: tuple[int, ...]  # index of the text nearest to each group's mean


@dataclass(frozen=True)
class Types:
    """The result of `find_types`.

    curve: k -> silhouette. best: the cut with the highest silhouette, whether or not it is a peak.
    """

    curve: dict[int, float]
    types: Division | None
    wordings: Division | None
    best: Division
    distinct: int
    without_words: int


def find_types(texts: Sequence[str], most: int = MOST) -> Types:
    """Return groups of similar wording among `texts`, at two scales (method: see the module).

    Raises SdlabError when fewer than four distinct texts share words with another one, and when `most` is
    below 3.
    """
    from scipy.cluster.hierarchy import cut_tree, linkage
    from scipy.spatial.distance import squareform
    from sklearn.metrics import silhouette_score

    if most < 3:
        raise SdlabError(
            f"most={most!r} is not allowed; at least 3 groups must be tried for a peak to be seen"
        )
    first, place = _distinct(texts)
    vectors, words = word_vectors([texts[i] for i in first])
    kept = np.flatnonzero(vectors.getnnz(axis=1))
    if len(kept) < 4:
        raise SdlabError(
            f"types need at least 4 distinct questions that share words; {len(kept)} of {len(first)} do"
        )
    vectors = vectors[kept]
    distances = np.clip(1 - (vectors @ vectors.T).toarray(), 0, None)
    np.fill_diagonal(distances, 0)
    ks = list(range(2, min(most + 1, len(kept) - 1) + 1))  # one more than `most`: the last needs a neighbour
    cuts = cut_tree(linkage(squareform(distances, checks=False), "average"), ks)
    curve = {
        k: float(silhouette_score(distances, cuts[:, i], metric="precomputed")) for i, k in enumerate(ks)
    }

    def division(k: int) -> Division:
        return _describe(k, curve[k], cuts[:, ks.index(k)], vectors, words, kept, first, place)

    peaks = peaks_of(curve)
    reported = {k: value for k, value in curve.items() if k <= most}
    highest = max(peaks, key=curve.__getitem__, default=None)
    return Types(
        reported,
        division(min(peaks)) if peaks else None,
        division(highest) if highest is not None else None,
        division(max(reported, key=reported.__getitem__)),
        len(first),
        len(first) - len(kept),
    )


def peaks_of(curve: dict[int, float]) -> list[int]:
    """Return the k whose silhouette is at least STRUCTURE and above those of k - 1 and k + 1.

    The last k has no neighbour and is no peak.
    """
    return [
        k
        for k in sorted(curve)[:-1]
        if curve[k] >= STRUCTURE and curve.get(k - 1, 0.0) < curve[k] > curve[k + 1]
    ]


def word_vectors(texts: Sequence[str]) -> "tuple[csr_matrix, np.ndarray]":
    """Return TF-IDF vectors (N, W) of length 1 or 0, and the W words, of texts without boilerplate.

    Raises SdlabError when no two texts share a word.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        token_pattern=WORD, min_df=max(2, math.ceil(len(texts) / 100)), sublinear_tf=True
    )
    try:
        vectors = vectorizer.fit_transform(normalised(texts))
    except ValueError as error:
        raise SdlabError(
            f"no word is in two of the {len(texts)} questions; their wording shows no types, give others"
        ) from error
    return vectors, vectorizer.get_feature_names_out()


@checked
def stability(
    texts: Sequence[str],
    types: Types,
    resamples: CountOrZero = 10,
    share: Annotated[float, Range(above=0, most=1)] = 0.8,
) -> dict[str, dict]:
    """Return whether other questions of the same kind would give the same groups.

    The search is repeated on `resamples` random parts of the distinct texts. Per scale ("types", "wordings"):
    counts {number of groups: times; 0: none}, and the mean adjusted Rand index between a part's groups and
    those of the whole set (1: the same groups, 0: no more alike than by chance); None without groups.
    """
    from sklearn.metrics import adjusted_rand_score

    first, _ = _distinct(texts)
    counts: dict[str, Counter[int]] = {"types": Counter(), "wordings": Counter()}
    indices: dict[str, list[float]] = {"types": [], "wordings": []}
    for number in range(resamples):
        part = sorted(stream("clusters", "resample", number).sample(first, max(4, round(share * len(first)))))
        again = find_types([texts[i] for i in part])
        for scale in counts:
            whole, resampled = getattr(types, scale), getattr(again, scale)
            counts[scale][resampled.count if resampled else 0] += 1
            if whole and resampled:
                old, new = whole.labels[part], resampled.labels
                both = (old >= 0) & (new >= 0)
                indices[scale].append(adjusted_rand_score(old[both], new[both]))
    return {
        scale: {
            "counts": {str(k): counts[scale][k] for k in sorted(counts[scale])},
            "rand": float(np.mean(indices[scale])) if indices[scale] else None,
        }
        for scale in counts
    }


def agreement(labels: Sequence[int] | np.ndarray, kinds: Sequence[str]) -> float:
    """Return the adjusted Rand index of groups and known types, without texts that have no word.

    Source: Hubert and Arabie 1985.
    """
    from sklearn.metrics import adjusted_rand_score

    pairs = [(label, kind) for label, kind in zip(labels, kinds, strict=True) if label >= 0]
    return float(adjusted_rand_score([kind for _, kind in pairs], [label for label, _ in pairs]))


@checked
def variety(texts: Sequence[str], sizes: Sequence[int], resamples: Count = 20) -> list[float]:
    """Return the effective number of different questions among n, for each n in `sizes`.

    It is the Vendi score, averaged over random parts of the distinct texts with words: exp of the entropy of
    the eigenvalues of K / n, where K holds the cosine similarities of `word_vectors`. It is 1 when all have
    the same wording, and n when no two share a word. It is a Hill number of order 1 that needs no types.

    Raises SdlabError when a size is larger than the number of such texts.

    Source: Friedman and Dieng 2023.
    """
    first, _ = _distinct(texts)
    vectors, _ = word_vectors([texts[i] for i in first])
    vectors = vectors[np.flatnonzero(vectors.getnnz(axis=1))].toarray()
    if max(sizes) > len(vectors) or min(sizes) < 1:
        raise SdlabError(
            f"{max(sizes)} questions asked of {len(vectors)} distinct ones with words; "
            f"choose 1 to {len(vectors)}"
        )
    means = []
    for size in sizes:
        scores = []
        for number in range(resamples if size < len(vectors) else 1):
            part = stream("variety", size, number).sample(range(len(vectors)), size)
            values = np.linalg.svd(vectors[part], compute_uv=False) ** 2 / size
            values = values[values > 1e-12]
            scores.append(math.exp(-(values * np.log(values)).sum()))
        means.append(float(np.mean(scores)))
    return means


def _distinct(texts: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """Return the index of the first of each distinct text, and each text's place among them."""
    if not len(texts):
        raise SdlabError("the set of problems is empty; give at least one problem")
    plain = normalised(texts)
    first = first_places(plain)
    order = {text: number for number, text in enumerate(first)}
    return list(first.values()), np.array([order[text] for text in plain])


def _describe(
    count: int,
    silhouette: float,
    labels: np.ndarray,
    vectors: "csr_matrix",
    words: np.ndarray,
    kept: np.ndarray,
    first: list[int],
    place: np.ndarray,
) -> Division:
    """Return a cut of the tree as a `Division`.

    labels, vectors: of the distinct texts with words, whose indices among the distinct texts are `kept`.
    first, place: see `_distinct`.
    """
    order = sorted(
        range(count), key=lambda group: (-(labels == group).sum(), int(np.flatnonzero(labels == group)[0]))
    )
    rank = {group: i for i, group in enumerate(order)}
    overall = np.asarray(vectors.mean(0)).ravel()
    terms, centres, sizes = [], [], []
    for group in order:
        members = np.flatnonzero(labels == group)
        mean = np.asarray(vectors[members].mean(0)).ravel()
        best = np.argsort(-(mean - overall), kind="stable")[:6]
        terms.append(tuple(str(words[i]) for i in best if mean[i] > overall[i]))
        centres.append(int(first[kept[members[int(np.argmax(vectors[members] @ mean))]]]))
        sizes.append(len(members))
    distinct = np.full(len(first), -1)
    distinct[kept] = [rank[label] for label in labels]
    return Division(count, silhouette, distinct[place], tuple(sizes), tuple(terms), tuple(centres))
