r"""Bring an answer to one spelling: wrappers, Unicode, spacing and number notation of an answer.

`plain` removes the text that models write around an answer, and rewrites signs that have several spellings.
It never changes the meaning of an answer: `1\;2` stays two numbers, and `0.333...` keeps its dots.
"""

import re
import unicodedata
from functools import lru_cache

from sdlab.grading.numbers import repeating_as_fraction

_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_INDICES = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
_VULGAR = {
    sign: rf"\frac{{{top}}}{{{bottom}}}"
    for sign, top, bottom in zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "112131234151357", "233445555668888", strict=True)
}
_SIGNS = _VULGAR | {
    **dict.fromkeys("−–—‒‑﹣－", "-"), "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ",
    "÷": "/",
    "∕": "/", "⁄": "/", "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∖": r"\setminus ",
    "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}",
    "º": "°",
    "˚": "°", "→": r"\to ", "⟨": r"\langle ", "⟩": r"\rangle ", "“": '"', "”": '"', "‘": "'", "’": "'",
    "′": "'",
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""), "∧": r"\land ", "∨": r"\lor ",
}  # fmt: skip
_GREEK = dict(zip("αβγδεζηθικλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ", (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega").split(), strict=True))  # fmt: skip
_TABLE = str.maketrans(_SIGNS | {sign: rf"\{name} " for sign, name in _GREEK.items()})

_NUMERALS = {name: str(value) for value, name in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty".split())}  # fmt: skip
_SYNONYMS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?", ""),
        (r"\\(?:[dtcs]|nice)frac(?![a-zA-Z])", r"\\frac"),
        (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
        (r"\\(?:begin|end)\{(?:equation|align|gather)\*?\}", ""),
        (r"(?<=\d)(?:\{,\}|,\\!\s*)(?=\d{3})", ","),  # LaTeX's thousands separators
        (r"\{([,:])\}|\\text\{([:])\}", r"\1\2"),
        (r"\\text\{\s*[.,;]?\s*\}", " "),
        (r"\\(?:boxed|fbox)\{([^{}]*)\}", r"\1 "),
        (r"\\([pb]?mod)\s*(\d+)", r"\\\1{\2}"),
        (r":=", "="),
        (r"\\(?:textdollar|dollar)(?![a-zA-Z])|\\text\{\s*\\\$\s*\}", r"\\$"),
        (r"\\text\{\s*(Rs\.?)\s*\}", r"\1 "),
        (r"</?(?:b|i|u|em|strong)>", ""),
        (r"(?<![a-zA-Z])per ?cent(?![a-zA-Z])", "percent"),
        (r"\\begin\{cases\}([^&]*?)\\end\{cases\}", lambda m: m[1].strip().rstrip("\\").replace(r"\\", ", ")),
        (r"\\!", ""),
        (r"(?<!\\)\\(?:[,;: ]|(?:thinspace|enspace|quad|qquad)(?![a-zA-Z]))|~", " "),
        (r"\\(?:text(?:bf|it|rm|sf|tt|normal|sc)?|mathrm|mathbf|mathit|ce|mathsf|mathtt|mbox|operatorname\*?"
         r"|boldsymbol|bm|pmb|hbox|emph)\s*\{", r"\\text{"),
        (r"\\(?:displaystyle|textstyle|limits|scriptstyle|tiny|small|normalsize"
         r"|large|Large|LARGE|huge|bf|rm|it)(?![a-zA-Z])", ""),
        (r"\\lvert|\\rvert|\\vert(?![a-zA-Z])|\\mid(?![a-zA-Z])", "|"),
        (r"\\l[vV]ert|\\r[vV]ert|\\\|", "||"),
        (r"\\(?:color|textcolor|colorbox)\s*\{[^{}]*\}", ""),
        (r"\\text\{\s*(?:°|\\degree)\s*\}|\\text\{\}\^\{?\s*\\circ\s*\}?|\^\{?\s*(?:\\circ|°)\s*\}?"
         r"|\\degree|\\textdegree|\\circ(?=\s*[CF]?\s*$)", "°"),
        (r"\\leq(?:slant)?(?![a-zA-Z])|\\leqq|<=|=<", r"\\le "),
        (r"\\geq(?:slant)?(?![a-zA-Z])|\\geqq|>=", r"\\ge "),
        (r"\\neq(?![a-zA-Z])|(?<=\s)!=|\\not\s*=", r"\\ne "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\\lbrack(?![a-zA-Z])", "["),
        (r"\\rbrack(?![a-zA-Z])", "]"),
        (r"\\(?:varnothing|O)(?![a-zA-Z])", r"\\emptyset"),
        (r"\\(?:smallsetminus|backslash)(?![a-zA-Z])", r"\\setminus"),
        (r"\\(?:simeq|approxeq)(?![a-zA-Z])", r"\\approx"),
        (r"\\(?:dots|cdots|dotsc|dotsb|ldots)(?![a-zA-Z])", "..."),
        (r"\\colon(?![a-zA-Z])", ":"),
        (r"\\%", "%"),
        (r"^\*\*([^*]+)\*\*", r"\1 "),
        (r"\*\*(?=\s*[\w({-])(?<=[\w)}]\*\*)", "^"),
        (r"(?<![\\a-zA-Z])(?:[iI]nf(?:inity)?|infty|oo)(?![a-zA-Z])", r"\\infty "),
        (r"(?<![\\a-zA-Z])(?<!\\text\{)"
         r"(sqrt|pi|ln|log|exp|(?:arc)?(?:sin|cos|tan)|sec|csc|cot)(?![a-zA-Z])", r"\\\1 "),
        (r"√\s*(\d+|[a-zA-Z]|\([^()]*\))", r"\\sqrt{\1}"),
        (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}"),
        (r"\\(frac|binom)\s*(\d)\s*(\d)", r"\\\1{\2}{\3}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9a-zA-Z])", r"\1{\2}"),
        (r"(?<![\d.,^_])(\d{1,3})((?: +\d{3})+)(?![\d])(?!\s+\d)", lambda m: m[1] + m[2].replace(" ", "")),
        (r"(?<![\w.,/}])(\d+) +(\d+) */ *(\d+)(?![\w.,/^])", r"\1\\frac{\2}{\3}"),
        (r"(\w)\^\(([^()]*)\)", r"\1^{\2}"),
        (r"(?<![\w.)}^])(\d+) */ *(\d+)(?=\s*(?:[a-zA-Z(]|\\(?:pi|sqrt)))", r"\\frac{\1}{\2}"),
        (r"^(\d+) to (\d+)$", r"\1:\2"),
        (r"\^\{?\\text\{\s*(st|nd|rd|th)\s*\}\}?", r"\\text{\1}"),
        (r"_\{?\s*\\text\{\s*(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|sixteen)\s*\}\s*\}?",
         lambda m: f"_{{{_NUMERALS[m[1]]}}}"),
        (r"^(\w+)\s*\(?\s*(?:\\text\{\s*)?\(?base\s+(\d+)\)?\s*\}?\)?$", r"\1_{\2}"),
        (r"^\((\w+)\)_|^\\text\{(\w+)\}_", r"\1\2_"),
        (r"^(\S+) is the (?:final |correct )?answer$", r"\1"),
        (r"\\log_\s*(\d)(?![\d}])", r"\\log_{\1}"),
        (r"([\^_])(-?\d+)", r"\1{\2}"),
    )
]  # fmt: skip
_DOLLARS = re.compile(r"(?<!\\)\$")
_OPENING = re.compile(
    r"(?:(?:so|thus|hence|therefore|and)[, ]+)?(?:the\s+)?(?:(?:final|correct|right)\s+)?"
    r"(?:ans(?:wer)?|result|value|choice|option)\s*"
    r"(?:is|are|:|=)+\s*:?\s*|#{2,}\s*|=>\s*|(?:about|approximately|roughly)\s+(?=\S*\d)"
    r"|\\(?:therefore|implies|approx|Rightarrow|Longrightarrow|sim|to)(?![a-zA-Z])\s*|[=:]\s*",
    re.IGNORECASE,
)
_TEXT_OPENING = re.compile(r"\\text\{([^{}]*)\}\s*(?=.)")
_EDGE = re.compile(
    r"^(?:\s|\\\\(?![a-zA-Z]))+|(?:\s|~|;|:|。|\\newline|(?<!\\),|\\\\|\\(?:[,;:! ]|quad|qquad)|(?<!\\)\\)+$"
)
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("**", "**"),
    ("__", "__"),
    ("_", "_"),
    ("'", "'"),
    ('"', '"'),
    ("`", "`"),
    ("*", "*"),
)
_COMMAND = re.compile(
    r"\\(?:text|boxed|fbox|framebox|ensuremath|underline|mathbb(?!\{[A-Z]\}))\s*(?=\{)|(?=\{)"
)


def closing(text: str, start: int) -> int:
    """Return the index of the brace that closes the brace at `start`, or -1; escaped braces do not count."""
    depth, position = 0, start
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return -1


def _unwrapped(text: str) -> str:
    """Remove one wrapper around the whole text: `$...$`, `**...**`, `\\text{...}`, `{...}`."""
    for left, right in _WRAPPERS:
        inner = text[len(left) : -len(right)]
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            if left not in inner and right not in inner:
                return inner
    command = _COMMAND.match(text)
    if command and closing(text, command.end()) == len(text) - 1:
        return text[command.end() + 1 : -1]
    return text


@lru_cache(4096)
def plain(text: str) -> str:
    """Return `text` in one spelling, without wrappers and punctuation that never change an answer."""
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda run: f"^{{{run[0].translate(_POWERS)}}}", text)
    text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉₊₋]+", lambda run: f"_{{{run[0].translate(_INDICES)}}}", text)
    text = unicodedata.normalize("NFKC", text.translate(_TABLE))
    before = None
    while before != text:
        before = text
        text = _unwrapped(_EDGE.sub("", text))
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1]
        if text[:1] == "$" and "$" not in text[1:] and text[1:2].isdigit():
            text = "\\" + text
        text = _without_opening(text)
        if len(_DOLLARS.findall(text)) % 2 == 0:
            text = _DOLLARS.sub(" ", text)
        for pattern, replacement in _SYNONYMS:
            text = pattern.sub(replacement, text)
        text = " ".join(text.split())
        text = repeating_as_fraction(text)
        text = _NUMERALS.get(text.lower(), text)
    return text


def _without_opening(text: str) -> str:
    """Remove a phrase such as "The answer is" before the answer."""
    phrase = _TEXT_OPENING.match(text)
    if phrase and _OPENING.fullmatch(phrase[1].strip() + " "):
        return text[phrase.end() :]
    opening = _OPENING.match(text)
    return text[opening.end() :] if opening and opening.end() < len(text) else text


_LOOSE_SPACE = re.compile(r"(?<![\w.]) | (?![\w.])")


def squashed(text: str) -> str:
    """Return a plain text without `\\text{}` marks and spaces, except those between two words or numbers."""
    text = re.sub(r"(\\[a-zA-Z]+) (?=[^a-zA-Z])", r"\1", re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text))
    return _LOOSE_SPACE.sub("", text.strip())


_OPEN, _CLOSE = "([{", ")]}"


def split_top(text: str, separator: re.Pattern) -> list[str]:
    """Split a plain text where `separator` matches outside all brackets and environments.

    The parts are stripped. An opening bracket may be closed by another kind of bracket, as in `(0, 1]`. A
    text whose brackets do not balance is one part.
    """
    parts, start, depth, position = [], 0, 0, 0
    while position < len(text):
        if depth == 0:
            match = separator.match(text, position)
            if match and match.end() > match.start():
                parts.append(text[start : match.start()].strip())
                start = position = match.end()
                continue
        if text.startswith(r"\begin{", position):
            depth += 1
        elif text.startswith(r"\end{", position) or text.startswith(r"\rangle", position):
            depth -= 1
        elif text.startswith(r"\langle", position):
            depth += 1
        if text[position] == "\\" and position + 1 < len(text) and text[position + 1] not in "{}":
            position += 2
            continue
        depth += (text[position] in _OPEN) - (text[position] in _CLOSE)
        position += 1
    return [text] if depth else [*parts, text[start:].strip()]
