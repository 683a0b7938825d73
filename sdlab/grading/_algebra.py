"""Compare values and sets with sympy, exactly; only the grader's process (`_grader.py`) imports this module.

latex2sympy, the reader of math-verify, reads the text and never evaluates it as Python. The comparison is
sdlab's own. That of math-verify rounds to six decimals, so that it holds any two small numbers, or 1/3 and
0.333333, for equal.
"""

import re
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig

_NORMAL = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none"
)
_CASE = ConversionConfig(lowercase_symbols=False)
_LAZY = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative)
_IMAGINARY = re.compile(r"(?<![a-zA-Z\\])i(?![a-zA-Z])|\\(?:mathbb\{C\}|Re|Im|arg|imath)(?![a-zA-Z])")
_POINTS = (
    sympy.Rational(7, 5),
    sympy.Rational(-11, 8),
    sympy.Rational(23, 7),
    sympy.Rational(1, 3),
    sympy.Rational(-17, 4),
)
_DIGITS = 60
# Relative. Two values that are closer than this are equal only if sympy can show it.
_TOLERANCE = sympy.Rational(1, 10**50)
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\text\{\s*([A-Za-z]|\d[\d.]*)\s*\}", r" \1 "),
        (r"\\text\{\s*(sin|cos|tan|cot|sec|csc|log|ln|exp|max|min|gcd|lcm)\s*\}", r"\\\1 "),
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),
        (r"°", r" \\cdot \\frac{\\pi}{180} "),
        (r"(\d+(?:\.\d+)?)\s*%", r"(\\frac{\1}{100})"),
        (r"\\lg(?![a-zA-Z])", r"\\log_{10}"),
        (r"\*", r"\\cdot "),
        (r"(?<![a-zA-Z\\])(\d+(?:\.\d+)?)[eE]([+-]?\d+)", r"(\1 \\cdot 10^{\2})"),
    )
]


@lru_cache(1024)
def _read(text: str, real: bool) -> Any:
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    expression: Any = latex2sympy(
        normalize_latex(text, _NORMAL),
        is_real=real,
        convert_degrees=False,
        normalization_config=None,
        conversion_config=_CASE,
    )
    if isinstance(expression, sympy.Basic):
        expression = expression.replace(
            lambda part: isinstance(part, sympy.Float), lambda part: sympy.Rational(str(part))
        )
    if isinstance(expression, sympy.Basic) and not real:
        symbols: Any = expression.free_symbols
        expression = expression.subs({symbol: sympy.I for symbol in symbols if symbol.name == "i"})
    return expression


def value(answer: str, truth: str) -> bool:
    """Return whether two plain texts are the same value, relation or matrix; False if one is unreadable."""
    real = not (_IMAGINARY.search(answer) or _IMAGINARY.search(truth))
    try:
        return _equal(_read(answer, real), _read(truth, real))
    except MemoryError:
        raise
    except Exception:  # the parser and sympy raise errors of any type for a model's text
        return False


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, sympy.MatrixBase | sympy.MatrixExpr) or isinstance(
        right, sympy.MatrixBase | sympy.MatrixExpr
    ):
        left, right = (one.doit() for one in (left, right))
        matrices = isinstance(left, sympy.MatrixBase) and isinstance(right, sympy.MatrixBase)
        return (
            matrices
            and left.shape == right.shape
            and all(_equal(*pair) for pair in zip(left.flat(), right.flat(), strict=True))
        )
    if isinstance(left, sympy.core.relational.Relational) or isinstance(
        right, sympy.core.relational.Relational
    ):
        return _same_relation(left, right)
    if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr):
        return _same_expression(left, right)
    return left == right


def _same_relation(left: Any, right: Any) -> bool:
    """Compare equations up to a constant factor, and inequalities up to a positive one."""
    if not isinstance(left, sympy.core.relational.Relational) or not isinstance(
        right, sympy.core.relational.Relational
    ):
        return False
    swapped: dict[Any, Any] = {
        sympy.StrictLessThan: sympy.StrictGreaterThan,
        sympy.LessThan: sympy.GreaterThan,
    }
    kinds, differences = [], []
    sides: tuple[Any, Any] = (left, right)  # sympy's stubs do not know that lhs and rhs are expressions
    for relation in sides:
        sign = -1 if type(relation) in swapped else 1
        kinds.append(swapped.get(type(relation), type(relation)))
        differences.append(sign * (relation.lhs - relation.rhs))
    if kinds[0] is not kinds[1]:
        return False
    ratio: Any = sympy.simplify(differences[0] / differences[1])
    if ratio.free_symbols or not ratio.is_finite or ratio.is_zero is not False:
        return False
    return isinstance(left, sympy.Eq | sympy.Ne) or ratio.is_positive is True


def _same_expression(left, right) -> bool:
    if left == right:
        return left is not sympy.nan
    if left.has(*_LAZY) or right.has(*_LAZY):
        left, right = left.doit(), right.doit()
        if left.has(*_LAZY) or right.has(*_LAZY):
            return left == right
    symbols = left.free_symbols | right.free_symbols
    if left.has(sympy.oo, sympy.zoo, sympy.nan) or right.has(sympy.oo, sympy.zoo, sympy.nan):
        left, right = left.doit(), right.doit()
        return left == right and left in (sympy.oo, -sympy.oo) and not symbols
    return _same_functions(left, right, symbols) if symbols else _same_numbers(left, right)


def _same_numbers(left, right) -> bool:
    left, right = left.doit(), right.doit()
    if left.is_Rational and right.is_Rational:
        return left == right
    difference = left - right
    size = max(abs(left.evalf(_DIGITS)), abs(right.evalf(_DIGITS)))
    gap = abs(difference.evalf(_DIGITS))
    if gap.is_comparable and size.is_comparable and gap > size * _TOLERANCE:
        return False
    return _is_zero(difference)


def _is_zero(difference) -> bool:
    if difference.is_zero is not None:
        return difference.is_zero
    short = sympy.simplify(difference)
    if short.is_zero is not None:
        return short.is_zero
    return bool(short.equals(0))


def _same_functions(left, right, symbols: set) -> bool:
    """Return whether two expressions are equal at points on both sides of zero, to 50 digits.

    They must also not be unequal after simplification.
    """
    points: tuple[Any, ...] = _POINTS
    variables = sorted(symbols, key=str)
    equal = 0
    for first in range(len(_POINTS)):
        point = {symbol: points[(first + 2 * k) % len(points)] + k for k, symbol in enumerate(variables)}
        values = [one.subs(point).doit() for one in (left, right)]
        numbers = [one.evalf(_DIGITS) for one in values]
        if not all(one.is_number and one.is_finite and not one.has(sympy.nan) for one in numbers):
            continue
        gap, size = abs((values[0] - values[1]).evalf(_DIGITS)), max(map(abs, numbers))
        if gap > size * _TOLERANCE:
            return False
        equal += 1
    difference = sympy.simplify(left - right)
    return difference.is_zero is True or (equal >= 3 and difference.is_zero is None)


def sets(answer: tuple, truth: tuple) -> bool:
    """Return whether two trees of `sdlab.grading.sets` are the same set.

    They are compared by their ends, and then as sympy sets.
    """
    if _same_trees(answer, truth):
        return True
    try:
        left, right = _set(answer), _set(truth)
        return left is not None and right is not None and left.symmetric_difference(right).is_empty is True
    except MemoryError:
        raise
    except Exception:  # as in `value`
        return False


def _same_trees(left: tuple, right: tuple) -> bool:
    if left[0] != right[0] or len(left) != len(right):
        return False
    if left[0] == "interval":
        brackets = (left[1], left[4]) == (right[1], right[4])
        return brackets and value(left[2], right[2]) and value(left[3], right[3])
    return left == right


def _set(tree: tuple):
    """Return the sympy set of a tree.

    None when an end is not a real number, or when the low end of an interval is not below the high end.
    """
    match tree:
        case ("reals",):
            return sympy.S.Reals
        case ("empty",):
            return sympy.S.EmptySet
        case ("finite", elements):
            values = [_read(one, True).doit() for one in elements]
            return sympy.FiniteSet(*values) if all(one.is_extended_real for one in values) else None
        case ("relation", text):
            return _read(text, True).as_set()
        case ("interval", left, low, high, right):
            low, high = _read(low, True).doit(), _read(high, True).doit()
            if (
                not (low.is_extended_real and high.is_extended_real)
                or low.free_symbols | high.free_symbols
                or not low < high
            ):
                return None
            return sympy.Interval(low, high, left == "(", right == ")")
    parts = [_set(one) for one in tree[1]]
    if None in parts:
        return None
    if tree[0] == "minus":
        return parts[0] - parts[1]
    return (sympy.Union if tree[0] == "union" else sympy.Intersection)(*parts)
