r"""Compare an answer with the truth by structure: lists, tuples, matrices, equations, ratios, single values.

`same` splits two texts, rule by rule, until only single values are left. Numbers are compared here, exactly.
All other values go to the `Judge`: sympy in its own process, or `no_algebra`, which raises NeedsAlgebra.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from sdlab.grading.lists import EQUAL, NAME, assignments, solved, values_of
from sdlab.grading.numbers import number
from sdlab.grading.sets import SETTY, bracketed, member, read_set
from sdlab.grading.spelling import plain, split_top, squashed
from sdlab.grading.units import same_quantity
from sdlab.grading.words import same_choice, same_words


class NeedsAlgebra(Exception):
    """Only computer algebra can compare two values."""


class Judge(NamedTuple):
    """The functions that compare two values (`value`) and two trees of `sdlab.grading.sets` (`sets`)."""

    value: Callable[[str, str], bool]
    sets: Callable[[tuple, tuple], bool]


def _refuse(left, right) -> bool:
    raise NeedsAlgebra


no_algebra = Judge(_refuse, _refuse)

_COMMA = re.compile(r"[,;]")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])")
_COLON = re.compile(r":")
_MATRIX = re.compile(
    r"\\begin\{([pb]?matrix|array|smallmatrix)\}(?:\s*\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_CAPITAL = re.compile(r"(?:\\text\{)?\s*[A-Z]\s*\}?")
_UNREADABLE = re.compile(
    r"\.\.\.|'|[fgh]\^\{-1\}|\d\s+\d|\d \.\d|\\text\{[^{}]*[A-Za-z]{2}[^{}]*\}"
    r"|\\(?:equiv|[pb]?mod|circ|to|underline|land|lor|partial|nabla|top)(?![a-zA-Z])"
    r"|(?<![a-zA-Z\\])[a-zA-Z]\d|\^\{?T(?![a-zA-Z])|(?<![\d.])0\d|\d/\d+/\d"
)


def same(answer: str, truth: str, judge: Judge) -> bool:
    """Return whether `answer` means the same as `truth`.

    Raises the errors of `judge`.
    """
    return _same(plain(answer), plain(truth), judge)


def _same(answer: str, truth: str, judge: Judge) -> bool:
    answer, truth = _bare(answer), _bare(truth)
    if not answer or not truth:
        return False
    if squashed(answer) == squashed(truth):
        return True
    for rule in (
        _choices,
        _words,
        _member,
        _sets,
        _assigned,
        _lists,
        _groups,
        _matrices,
        _equations,
        _ratios,
        _quantities,
    ):
        verdict = rule(answer, truth, judge)
        if verdict is not None:
            return verdict
    left, right = number(answer), number(truth)
    if left and right:  # a base may be left out on one side, as in 52_8 and 52
        return left[:3] == right[:3] and (left[3] == right[3] or "" in (left[3], right[3]))
    if _UNREADABLE.search(answer) or _UNREADABLE.search(truth):
        return False
    return judge.value(answer, truth)


def _bare(text: str) -> str:
    """Remove round or square brackets around a single value."""
    text = text.strip()
    group = bracketed(text)
    while group and len(group[1]) == 1 and group[0] + group[2] in ("()", "[]") and not SETTY.search(text):
        text = group[1][0].strip()
        group = bracketed(text)
    return text


def _choices(answer: str, truth: str, judge: Judge) -> bool | None:
    return same_choice(answer, truth)


def _words(answer: str, truth: str, judge: Judge) -> bool | None:
    return same_words(answer, truth)


def _member(answer: str, truth: str, judge: Judge) -> bool | None:
    r"""Compare `x \in S` as S, if both sides name the same variable."""
    (left, left_set), (right, right_set) = member(answer), member(truth)
    if not left and not right:
        return None
    if left and right and squashed(left) != squashed(right):
        return False
    other, named = (truth, left) if left else (answer, right)
    result = read_set(other)
    if result and result[0] and squashed(result[0]) != squashed(named):
        return False
    return _same(left_set, right_set, judge)


def _sets(answer: str, truth: str, judge: Judge) -> bool | None:
    if not SETTY.search(answer) and not SETTY.search(truth):
        return None
    left, right = read_set(answer), read_set(truth)
    if left and right:
        if left[0] and right[0] and squashed(left[0]) != squashed(right[0]):
            return False
        return judge.sets(left[1], right[1])
    return None


def _assigned(answer: str, truth: str, judge: Judge) -> bool | None:
    """Compare `x = 1, y = 2` with the same in another order, with `(x, y) = (1, 2)` or with `(1, 2)`."""
    for one, other in ((answer, truth), (truth, answer)):
        sides = split_top(one, EQUAL)
        if len(sides) == 2 and bracketed(sides[0]) and bracketed(sides[1]) and bracketed(other):
            first, second = (sides[1], other) if one is answer else (other, sides[1])
            return _same(first, second, judge)
    left, right = assignments(answer), assignments(truth)
    if not left and not right:
        return None
    if left and right:
        return left.keys() == right.keys() and all(_same(left[name], right[name], judge) for name in left)
    pairs, other = (left, truth) if left else (right or {}, answer)
    group = bracketed(other)
    if (
        not group
        or group[0] + group[2] != "()"
        or list(pairs) != sorted(pairs)
        or len(pairs) != len(group[1])
    ):
        return None
    if not all(len(name) == 1 for name in pairs):
        return False
    values = list(pairs.values())
    if left:
        return all(_same(value, part, judge) for value, part in zip(values, group[1], strict=True))
    return all(_same(part, value, judge) for value, part in zip(values, group[1], strict=True))


def _lists(answer: str, truth: str, judge: Judge) -> bool | None:
    left, right = values_of(answer, True), values_of(truth, True)
    if len(left) < 2 and len(right) < 2 and left[:1] == [answer] and right[:1] == [truth]:
        return None
    if len(left) == 1 < len(right):
        left = values_of(answer, False)  # 100,200 is a list when the truth is a list; 1,000 never is
        left = left if not any(re.match(r"0\d", value) for value in left) else [answer]
    elif len(right) == 1 < len(left):
        return values_of(truth, False) == left  # the truth 1,234 may mean the list 1, 234
    if len(left) != len(right) or "..." in answer + truth:
        return False
    if len(left) > 2 and all(_CAPITAL.fullmatch(one) for one in left + right):
        return [squashed(one) for one in left] == [squashed(one) for one in right]  # the order counts
    names = [
        {side[0] for side in (split_top(value, EQUAL) for value in one) if len(side) > 1}
        for one in (left, right)
    ]
    if (len(names[0]) > 1) != (len(names[1]) > 1):  # x = 1, y = 2 against 1, 2: in this order only
        return all(_same(*pair, judge) for pair in zip(left, right, strict=True))
    rest = list(right)
    for value in left:
        match = next((one for one in rest if squashed(one) == squashed(value)), None)
        match = match or next((one for one in rest if _same(value, one, judge)), None)
        if match is None:
            return False
        rest.remove(match)
    return True


def _groups(answer: str, truth: str, judge: Judge) -> bool | None:
    """Compare pairs, tuples and intervals: the same brackets around the same values in the same order."""
    left, right = bracketed(answer), bracketed(truth)
    if not ((left and len(left[1]) > 1) or (right and len(right[1]) > 1)):
        return None
    if not left or not right:
        sides = split_top(answer, EQUAL), split_top(truth, EQUAL)
        return None if max(map(len, sides)) > 1 else False
    if (left[0], left[2], len(left[1])) != (right[0], right[2], len(right[1])):
        return False
    return all(_same(*pair, judge) for pair in zip(left[1], right[1], strict=True))


def _matrices(answer: str, truth: str, judge: Judge) -> bool | None:
    left, right = _MATRIX.fullmatch(answer), _MATRIX.fullmatch(truth)
    if not left or not right:
        return None
    rows = [_rows(left[2]), _rows(right[2])]
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    return all(
        _same(one, other, judge) for pair in zip(*rows, strict=True) for one, other in zip(*pair, strict=True)
    )


def _rows(body: str) -> list[list[str]]:
    rows = [split_top(row, re.compile("&")) for row in split_top(body, re.compile(r"\\\\(?:\s*\[[^\]]*\])?"))]
    return [row for row in rows if row != [""]]


def _equations(answer: str, truth: str, judge: Judge) -> bool | None:
    left, right = split_top(answer, EQUAL), split_top(truth, EQUAL)
    if len(left) == len(right) == 1:
        return None
    if _RELATION.search(answer) or _RELATION.search(truth):
        return False
    if len(right) == 1:
        return any(_same(value, truth, judge) for value in solved(answer, left))
    named = solved(truth, right) if NAME.fullmatch(right[0]) or NAME.fullmatch(right[-1]) else []
    if len(left) == 1:
        named = named or ([right[-1]] if not re.search("[a-zA-Z]", truth) else [])
        return any(_same(answer, value, judge) for value in named)
    names = [
        next((side for side in (sides[0], sides[-1]) if NAME.fullmatch(side)), None)
        for sides in (left, right)
    ]
    if names[0] is not None and names[1] is not None and squashed(names[0]) == squashed(names[1]):
        return any(_same(value, one, judge) for value in solved(answer, left) for one in named)
    if _UNREADABLE.search(answer) or _UNREADABLE.search(truth) or len(left) > 2 or len(right) > 2:
        return False
    return judge.value(answer, truth)


def _ratios(answer: str, truth: str, judge: Judge) -> bool | None:
    left, right = split_top(answer, _COLON), split_top(truth, _COLON)
    if len(left) == len(right) == 1 or "..." in answer + truth:
        return None
    if min(len(left), len(right)) == 1:
        left, right = (
            rf"\frac{{{one[0]}}}{{{one[1]}}}" if len(one) == 2 else one[0] for one in (left, right)
        )
        return None if ":" in left + right or not left or not right else _same(left, right, judge)
    if len(left) != len(right):
        return False
    if any(re.match(r"0\d", part) for part in left[1:] + right[1:]):
        return all(_same(*pair, judge) for pair in zip(left, right, strict=True))  # times of day
    products = (
        (rf"({a}) \cdot ({right[0]})", rf"({b}) \cdot ({left[0]})")
        for a, b in zip(left[1:], right[1:], strict=True)
    )
    return all(_same(*pair, judge) for pair in zip(left, right, strict=True)) or all(
        judge.value(*pair) for pair in products
    )


def _quantities(answer: str, truth: str, judge: Judge) -> bool | None:
    return same_quantity(answer, truth, lambda left, right: _same(left, right, judge))
