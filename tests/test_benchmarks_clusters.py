"""Duplicates and groups: on texts whose copies and types are known, against scikit-learn and brute force."""

import numpy as np
import pytest
from rapidfuzz.distance import Indel

from sdlab.benchmarks.clusters import agreement, find_types, peaks_of, stability, variety, word_vectors
from sdlab.benchmarks.duplicates import boilerplate, near_copies, normalised, overlap, stripped
from sdlab.errors import SdlabError
from sdlab.seeds import stream
from sdlab.world.splits import load_split

TEMPLATE = (
    "Solve the problem below.\n\n{}\nPlease reason step by step, and put your final answer within "
    "\\boxed{{}}."
)
ASKED = {
    "weight": "What is the molar weight of the molecule {} in grams?",
    "bonds": "How many rotatable bonds are there inside the compound {} then?",
    "route": "Which reactant was used for the synthesis when {} came out?",
}


def filled(count: int) -> tuple[list[str], list[str]]:
    """(texts, types): each type's sentence filled with a formula, in a mixed order."""
    rng, rows = stream("test", "filled"), []
    for kind, sentence in ASKED.items():
        rows += [
            (sentence.format("".join(rng.choice("CNO=()123") for _ in range(12)) + "9"), kind)
            for _ in range(count)
        ]
    rng.shuffle(rows)
    return [text for text, _ in rows], [kind for _, kind in rows]


# Duplicates


def test_boilerplate_is_found_and_nothing_else():
    questions = ["What is 2 + 2?", "Find x.", "What is 3 + 2?"]
    wrapped = [TEMPLATE.format(one) for one in questions]
    assert stripped(wrapped) == questions == stripped(questions)
    prefix, suffix = boilerplate(wrapped)
    assert (prefix + "Find x." + suffix) == wrapped[1]
    assert boilerplate(["the same"] * 3) == ("", "")  # one question alone has no template
    assert boilerplate(["a b c d", "a b d"]) == ("", "")  # nothing would be left of the second
    assert stripped(["is it 12?", "is it 112?"]) == ["12?", "112?"]  # cut at spaces, never inside a number


def test_normalised_keeps_case():
    assert normalised(["a  cc\n1", "a CC 1"]) == ["cc 1", "CC 1"]


def test_overlap_against_brute_force():
    train, test = (
        ["alpha beta gamma delta", "one two three four five", "x"],
        ["one two three four fivo", "alpha beta gamma delta", "other words", "y"],
    )
    found = overlap(train, test, near=90)
    assert (found.train, found.test, found.exact, found.near) == (3, 4, 1, 1)
    best = {i: max(100 * Indel.normalized_similarity(a, b) for b in train) for i, a in enumerate(test)}
    assert [(i, round(score, 6)) for i, _, score in found.pairs] == [(i, round(best[i], 6)) for i in (1, 0)]
    assert overlap(train, test, near=100).near == 0


def test_overlap_ignores_different_templates():
    questions = ["How many ways?", "Find the least n.", "Compute 7 times 8."]
    assert overlap([TEMPLATE.format(one) for one in questions], questions).exact == 3


def test_near_copies_are_told_once():
    texts = [
        "a question about seven apples",
        "something else",
        "a question about seven apples",
        "a question about seven apple",
    ]
    assert [(i, j) for i, j, _ in near_copies(texts)] == [(3, 0)]  # the exact copy is no near copy
    many = [
        f"text number {i} with a tail of {i * 7919 % 1000} and {'so on, ' * 9}{i // 10} words"
        for i in range(600)
    ]  # more than one chunk
    mine = [(i, j) for i, j, _ in near_copies(many, 97)]
    bare = normalised(many)  # "text number" and "words" are shared by all
    brute = [
        i for i in range(600) if any(Indel.normalized_similarity(bare[i], bare[j]) >= 0.97 for j in range(i))
    ]
    assert brute and [i for i, _ in mine] == brute and all(j < i for i, j in mine)


def test_known_overlaps_of_the_splits():
    texts = {
        name: [one.prompt for one in load_split(name)[:150]]
        for name in ("kata", "chemistry-train", "chemistry-test")
    }
    assert overlap(texts["kata"], texts["kata"]).exact == 131
    assert overlap(texts["chemistry-train"], texts["chemistry-test"]).exact == 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda: overlap([], ["a"]),
        lambda: overlap(["a"], []),
        lambda: overlap(["a"], ["b"], near=0),
        lambda: near_copies(["a", "b"], 101),
    ],
)
def test_bad_overlaps_are_told(ask):
    with pytest.raises(SdlabError, match="two sets of questions|near="):
        ask()


# Groups


def test_planted_types_are_found():
    texts, kinds = filled(30)
    found = find_types([TEMPLATE.format(text) for text in texts])
    assert found.types.count == found.wordings.count == 3 and found.without_words == 0
    assert agreement(found.types.labels, kinds) == 1
    assert found.types.sizes == (30, 30, 30)
    for group, centre in enumerate(found.types.centres):
        assert found.types.labels[centre] == group
    assert any("synthesis" in words for words in found.types.terms) and not any(
        "reason" in words for words in found.types.terms
    )
    again = stability(texts, found, resamples=3)
    assert again["types"] == {"counts": {"3": 3}, "rand": 1.0}


def test_order_and_copies_change_nothing():
    texts, _ = filled(12)
    found, turned = find_types(texts), find_types(texts[::-1] + texts[:5])
    assert turned.curve == pytest.approx(found.curve)
    assert (
        agreement(turned.types.labels[: len(texts)][::-1], [str(label) for label in found.types.labels]) == 1
    )
    assert turned.types.sizes == found.types.sizes  # copies count once


def test_words_drawn_by_chance_have_no_types():
    rng = stream("test", "chance")
    words = ["".join(rng.choice("abcdefgh") for _ in range(5)) for _ in range(60)]
    found = find_types([" ".join(rng.sample(words, 12)) for _ in range(120)])
    assert found.types is None and found.wordings is None and found.best.silhouette < 0.25
    assert stability([" ".join(words)], found, 0)["types"]["rand"] is None


def test_wording_is_not_type():
    """On our chemistry the method groups by place; known truth says that these are not the reactions."""
    some = load_split("chemistry-train")[:300]
    cut = find_types([one.prompt for one in some]).best
    assert abs(agreement(cut.labels, [one.kind for one in some])) < 0.05
    assert agreement(cut.labels, [one.prompt.split(" in ")[1].split(",")[0] for one in some]) > 0.5


def test_formulas_and_numbers_are_no_words():
    _, words = word_vectors(["the acid, CC(=O)N has 12 bonds", "the (acid) C1CC1 has $x$ bonds", "的 acid"])
    assert set(words) == {"the", "acid", "has", "bonds"}


def test_texts_without_words_are_set_apart():
    texts, _ = filled(10)
    found = find_types([*texts, "12 + 7", "已知正整数 $n$ 满足"])
    assert found.without_words == 2 and (found.types.labels[-2:] == -1).all() and sum(found.types.sizes) == 30


def test_peaks():
    assert peaks_of({2: 0.3, 3: 0.5, 4: 0.4, 5: 0.6, 6: 0.9}) == [3]  # the last has no neighbour
    assert peaks_of({2: 0.3, 3: 0.2, 4: 0.24, 5: 0.1}) == [2]  # 4 is a peak, and too low
    assert peaks_of({2: 0.5, 3: 0.5, 4: 0.1}) == []


def test_variety_by_hand():
    unlike = ["apple apple", "pear pear", "fig fig"]
    assert variety([one + tail for one in unlike for tail in (" 1", " 2")], [6]) == pytest.approx(
        [3.0]
    )  # three words, two questions each
    vectors = word_vectors(texts := filled(6)[0])[0].toarray()
    values = np.linalg.eigvalsh(vectors @ vectors.T / len(texts))
    values = values[values > 1e-12]
    assert variety(texts, [len(texts)]) == pytest.approx([np.exp(-(values * np.log(values)).sum())])
    growing = variety(texts, [1, 2, 6, 18])
    assert growing[0] == pytest.approx(1) and growing == sorted(growing)


@pytest.mark.parametrize(("ask", "told"), [
    (lambda: find_types([]), "the set of problems is empty"),
    (lambda: find_types(["a question"] * 9), "no word is in two"),
    (lambda: find_types(filled(5)[0], most=2), "most=2"),
    (lambda: variety(filled(2)[0], [7]), "7 questions asked of 6"),
])  # fmt: skip
def test_too_little_is_told(ask, told):
    with pytest.raises(SdlabError, match=told):
        ask()
