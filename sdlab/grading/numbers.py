"""Read numbers of any length from text, exactly: a canonical form, and fractions for repeating decimals."""

import re

_NUMBER = re.compile(
    r"([+-]?)\s*(?:(\d+|\d{1,3}(?:,\d{3})+|(?=\.\d))(?:\.(\d*))?)?"
    r"(?:(?<=[\d.])[eE]([+-]?\d+)"
    r"|\s*(?:\\times|\\cdot|\*|x)?\s*(?<![\d.])10\^(?:\{\s*([+-]?\d+)\s*\}|(\d)))?"
    r"(?:_\{?([2-9]|[12]\d|3[0-6])\}?)?",
    re.ASCII,
)
_REPEATING = re.compile(
    r"(\d{0,300})\.(\d{0,300})"
    r"(?:\\(?:overline|bar|dot)\s*\{?\s*(\d{1,300})\s*\}?|\((\d{1,300})\)(?!\s*[\w(\\^]))"
)
_DOTS = re.compile(r"(-?\d*\.\d*?)((\d{1,9}?)\3+)\.{3}")


def number(text: str) -> tuple[str, str, int, str] | None:
    """Return (sign, digits, power of ten, base) of a plain number in canonical form; None for anything else.

    1,200, 1.2e3 and 12 times 10^2 are all ("", "12", 2, ""). The digits are text, so that long numbers are
    cheap.
    """
    match = _NUMBER.fullmatch(text)
    if match is None or not any(match.groups()[1:]):
        return None
    sign, whole, decimals = match[1], match[2], (match[3] or "").rstrip("0")
    exponent = match[4] or match[5] or match[6] or "0"
    if len(exponent) > 15:
        return None
    digits = ("1" if whole is None else whole.replace(",", "")) + decimals
    power = int(exponent) - len(decimals)
    short = digits.rstrip("0")
    power += len(digits) - len(short)
    short = short.lstrip("0")
    return (
        (sign if sign == "-" else "", short, power, match[7] or "") if short else ("", "", 0, match[7] or "")
    )


def repeating_as_fraction(text: str) -> str:
    r"""Return `text` with its repeating decimals as fractions: `0.1\overline{6}`, `0.(3)`, `0.333...`.

    Dots count only after a period that is written twice, or three times if it is a single digit. Other texts
    keep their dots.
    """
    if "..." in text:
        text = _DOTS.sub(_dotted, text)
    return _REPEATING.sub(_repeating, text)


def _dotted(match: re.Match) -> str:
    return rf"{match[1]}\overline{{{match[3]}}}" if len(match[2]) > 2 else match[0]


def _repeating(match: re.Match) -> str:
    """Return the fraction of a repeating decimal, whose denominator consists of nines and zeros."""
    whole, fixed, period = match[1], match[2], match[3] or match[4]
    top = int(whole + fixed + period) - int((whole + fixed) or 0)
    return rf"\frac{{{top}}}{{{'9' * len(period)}{'0' * len(fixed)}}}"
