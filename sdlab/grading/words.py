"""Compare answers that are not mathematics: choices with their text, words, orders of letters, formulas."""

import re

from sdlab.grading.spelling import plain, squashed

_LETTER = re.compile(r"\(?([A-Ja-j])[).:]?|\[([A-Ja-j])\]")
_NAMED = re.compile(r"(?:option|choice|answer|alternative)\s*:?\s*", re.IGNORECASE)
_WITH_TEXT = re.compile(
    r"(?:\(([A-J])\)|\[([A-J])\]|([A-J])\s*[).:]|([A-J])\s+(?=[-\u2014(]))\s*[-:.]?\s*(?=\S)(.+)", re.DOTALL
)
_OTHER_CHOICE = re.compile(
    r"(?<![A-Za-z])\(?[A-J](?:[).:]|$)|\b(?:or|and)\s+\(?[A-J]\b|^[A-J]\b(?!\s*[a-z])", re.DOTALL
)
_LETTERS = re.compile(r"[A-Za-z]{2,}")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*|[()\[\]]\d*){2,}(?:\^?\d*[+-])?")
_FREE_CASE = {"yes", "no", "true", "false"}
_ALIASES = {
    "doesnotexist": "dne", "nosolutions": "no solution", "norealsolutions": "no real solution",
    "therearenosolutions": "no solution", "therearenorealsolutions": "no real solution",
}  # fmt: skip
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")
_COMMANDS = re.compile(r"\\[a-zA-Z]+")


def choice_of(text: str) -> tuple[str, str] | None:
    """Return (letter, its text or "") of a choice A to J in plain spelling; None for any other text."""
    named = _NAMED.match(text)
    text = re.sub(r"^\\text\{([^{}]*)\}", r"\1", text[named.end() :] if named else text).strip()
    alone = _LETTER.fullmatch(text)
    if alone:
        return (alone[1] or alone[2]).upper(), ""
    match = _WITH_TEXT.fullmatch(text)
    if not match or _OTHER_CHOICE.search(plain(match[5])):
        return None
    return next(letter for letter in match.groups() if letter), plain(match[5])


def same_choice(answer: str, truth: str) -> bool | None:
    """Compare by letter when the truth is a choice; return None when it is not, or may be something else."""
    right = choice_of(truth)
    if right is None:
        return None
    left = choice_of(answer)
    if left is None:
        return None if right[1] or "=" in answer or (len(squashed(truth)) == 1 and truth.islower()) else False
    if right[1] and left[1] and squashed(left[1]).lower() != squashed(right[1]).lower():
        return False
    return left[0] == right[0]


def _folded(text: str) -> str:
    """Return a word in lower case, unless its capitals carry meaning (HCl, CO, AB)."""
    meaningful = not (text.islower() or text.istitle() or text.isupper()) or len(text) < 3
    return text.lower() if text.lower() in _FREE_CASE or not meaningful else text


def _words(text: str) -> str | None:
    """Return the words of a text in one spelling; None for a text that may be mathematics."""
    marked = "\\text{" in text
    bare = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text)
    bare = " ".join(bare.replace('"', " ").split()).rstrip(".")
    if not _WORDS.fullmatch(bare):
        return None
    words = [word for word in bare.split() if word.lower() not in ("a", "an", "the")] or bare.split()
    longest = max(map(len, words))
    if not marked and longest < 3 and bare.lower() not in _FREE_CASE:
        return None
    if not marked and any(len(word) == 1 for word in words) and longest < 4:
        return None  # a b c, or a product with a name in it
    joined = " ".join(map(_folded, words))
    return _ALIASES.get(joined.replace(" ", "").lower(), joined)


def _formula(text: str) -> str | None:
    """Return a chemical formula, or letters in an order, without subscript marks; None for other texts."""
    bare = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).replace("_", "").replace(" ", "")
    bare = bare.replace("{", "").replace("}", "")
    letters = re.fullmatch(r"[A-Za-z]{2,}", bare) and bare != bare.lower()
    return bare if letters or (_FORMULA.fullmatch(bare) and re.search("[A-Z]", bare)) else None


def is_words(text: str) -> bool:
    """Return whether a plain text can only be words."""
    return _words(text) is not None


def same_words(answer: str, truth: str) -> bool | None:
    """Compare words, names and formulas letter by letter; return None when a side may be mathematics."""
    formulas = _formula(answer), _formula(truth)
    if all(formulas):
        words = _words(answer), _words(truth)
        return formulas[0] == formulas[1] or (None not in words and words[0] == words[1])
    left, right = _words(answer), _words(truth)
    if left is not None and right is not None:
        letters = _LETTERS.fullmatch(left) and _LETTERS.fullmatch(right)
        if letters and left != right and set(left) <= set("xyz") and sorted(left) == sorted(right):
            return True  # a product
        return left == right
    if (left is None) != (right is None):
        other = truth if left is not None else answer
        wordy = _words(answer if left is not None else truth) or ""
        if wordy in _FREE_CASE:
            return False
        if re.fullmatch("[a-z]{3,}", wordy) and not re.search(r"\\text", answer + truth):
            # abc may equal a \cdot b \cdot c
            return None if re.search(r"[a-z]", _COMMANDS.sub("", other)) else False
        return None
    return None
