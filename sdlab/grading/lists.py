"""Read the values in a list, in assignments or in an equation; `sdlab.grading.structure` compares them."""

import re

from sdlab.grading.sets import bracketed
from sdlab.grading.spelling import split_top, squashed

_SEPARATOR = re.compile(r"[,;]|\\text\{\s*,?\s*(?:and|or)\s*,?\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])")
_THOUSANDS = re.compile(r"(?<![\w,.])\d{1,3}(?:,\d{3})+(?!,?\d)")
EQUAL = re.compile(r"=|\\approx(?![a-zA-Z])")
NAME = re.compile(
    r"(?:m\s*)?(?:\\(?:angle|triangle|overline|vec|hat|bar|measuredangle|text|widehat)\s*)*"
    r"(?:\{?[A-Z]{1,4}\}?|\{?[a-z]\}?|[A-Za-z][a-z]{2,}|\{[^{}]*\}|\\[a-zA-Z]+|\|[A-Za-z\s]+\|)"
    r"(?:_\{?\w+\}?|\^\{?\\(?:prime|ast)\}?|\^\*|')*(?:\s*\(\s*[\w\\, ]*\s*\))?"
)


def values_of(text: str, thousands: bool) -> list[str]:
    r"""Return the values of a list: `x = 1, 2`, `\{1, 2\}`, `1 \text{ and } 2`, `\pm 1`."""
    braces = text.startswith(r"\{") and text.endswith(r"\}") and r"\}" not in text[:-2]
    inner = text[2:-2] if braces else text
    if thousands and not re.search(r"[(\[]|\\\{", inner) and not (braces and ", " not in inner):
        inner = _THOUSANDS.sub(lambda group: group[0].replace(",", ""), inner)
    parts = [part for part in split_top(inner, _SEPARATOR) if part]
    names = [split_top(part, EQUAL) for part in parts]
    named = {squashed(name[0]) for name in names if len(name) > 1}
    if (
        len(parts) > 1
        and len(named) == 1
        and all(len(name) <= 2 for name in names)
        and NAME.fullmatch(names[0][0])
    ):
        parts = [name[-1] for name in names]  # x = 1, x = 2, or x = 1, 2
    values = []
    for part in parts:
        if r"\pm" in part or r"\mp" in part:
            sides = split_top(part, EQUAL)
            part = sides[-1] if len(sides) == 2 and NAME.fullmatch(sides[0]) else part
            for plus, minus in ("+-", "-+"):
                signed = re.sub(r"\s*\\mp\s*", minus, re.sub(r"\s*\\pm\s*", plus, part))
                values.append(signed.removeprefix("+"))
        else:
            values.append(part)
    return values


def assignments(text: str) -> dict[str, str] | None:
    """Return {name: value} of `x = 1, y = 2` and of `(x, y) = (1, 2)`, at least two of them, else None."""
    sides = split_top(text, EQUAL)
    if len(sides) == 2 and (names := bracketed(sides[0])) and (values := bracketed(sides[1])):
        pairs = list(zip(names[1], values[1], strict=True)) if len(names[1]) == len(values[1]) > 1 else []
    else:
        pairs = [split_top(part, EQUAL) for part in split_top(text, _SEPARATOR) if part]
    if len(pairs) < 2 or not all(len(pair) == 2 and NAME.fullmatch(pair[0]) for pair in pairs):
        return None
    by_name = {squashed(name): value for name, value in pairs}
    return by_name if len(by_name) == len(pairs) else None


def solved(text: str, sides: list[str]) -> list[str]:
    r"""Return the values that an equation gives its left side: 36 for `x = 36`, 5 for `m+n = 2+3 = 5`.

    There are two values for `x = \pi \approx 3.14`. The list is empty when the equation still has to be
    solved, as `2x = 36` or `x^2 + y^2 = 36`.
    """
    if NAME.fullmatch(sides[-1]) and not NAME.fullmatch(sides[0]):
        return [sides[0]]
    bare = re.sub(r"_\{?\w+\}?|\\[a-zA-Z]+|\b[a-zA-Z]{3,}\b", "", sides[0])
    letters = set(re.findall("[a-zA-Z]", bare))
    called = re.search(r"[a-zA-Z]\s*\(|\\(?:text|angle|frac|sin|cos|tan|log|ln|binom|overline)|\|", sides[0])
    if letters and re.match(r"-|\d.*[a-zA-Z]\s*\(", sides[0]):
        return []  # -AB = 36, 2f(x) = x^2
    if not called and not NAME.fullmatch(sides[0]):
        if len(letters) == 1 or (letters and letters <= set("xyz") and re.search(r"\d", bare)):
            return []
    if r"\approx" in text and (not NAME.fullmatch(sides[-2]) or sides[-2] == r"\pi"):
        return sides[-2:]
    return sides[-1:]
