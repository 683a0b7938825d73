r"""Read sets of numbers: intervals, unions, differences and inequalities in one variable.

`read_set` turns the text into a small tree. sympy decides whether two trees are the same set
(`sdlab.grading._algebra`). A tree is ("interval", open bracket, low, high, close bracket), ("finite",
[elements]), ("reals",), ("empty",), ("relation", an inequality to be solved), or ("union" | "meet" | "minus",
[trees]). Ends and elements are plain texts.
"""

import re

from sdlab.grading.spelling import split_top

SETTY = re.compile(
    r"[<>]|\\(?:le|ge|ne|in|notin|cup|cap|setminus|mathbb|emptyset|infty)(?![a-zA-Z])|\breals?\b"
)
_SYMBOL = re.compile(
    r"(?!\\(?:infty|pi)(?![a-z]))(?:[a-zA-Z]|\\[a-z]{2,7})(?:_\{?\w+\}?)?'*(?:\([a-z]\))?\s*"
)
_MEMBER = re.compile(rf"({_SYMBOL.pattern})\\(in|notin)(?![a-zA-Z])\s*(.+)", re.DOTALL)
_BUILDER = re.compile(
    rf"\\\{{\s*({_SYMBOL.pattern})(?:\\in\s*\\(?:mathbb|text)\{{R\}}\s*)?(?:\||:)\s*(.+)\\\}}", re.DOTALL
)
_REALS = re.compile(
    r"\\(?:mathbb|text)\{R\}|R|"
    r"(?:\\text\{)?\s*all (?:the )?reals?(?: numbers?| values?)?\s*\}?|(?:\\text\{)?real numbers\}?"
)
_OR = re.compile(r"\\cup(?![a-zA-Z])|\\lor(?![a-zA-Z])|\\text\{\s*or\s*\}|\bor\b")
_AND = re.compile(r"\\cap(?![a-zA-Z])|\\land(?![a-zA-Z])|\\text\{\s*and\s*\}|\band\b")
_MINUS = re.compile(r"\\setminus(?![a-zA-Z])|-(?=\s*\\\{)")
_RELATION = re.compile(r"\\(?:le|ge|ne)(?![a-zA-Z])|[<>]")
_COMMA = re.compile(r"[,;]")
_BRACKETS = re.compile(r"([(\[\]])(.+)([)\]\[])", re.DOTALL)
INF = r"\infty"


def member(text: str) -> tuple[str, str]:
    r"""Split `x \in S` into ("x", "S"); for any other text return ("", text)."""
    match = _MEMBER.fullmatch(text)
    return (match[1].strip(), match[3]) if match and match[2] == "in" else ("", text)


def bracketed(text: str) -> tuple[str, list[str], str] | None:
    """Return (opening, parts, closing) of one bracket around the whole text, or None.

    `]0, 1[` has the brackets "(" and ")".
    """
    text = re.sub(r"^\\langle", "(", re.sub(r"\\rangle$", ")", text))
    match = _BRACKETS.fullmatch(text)
    if not match:
        return None
    left, inner, right = match.groups()
    if (left == "]" or right == "[") and len(split_top(inner, _COMMA)) != 2:
        return None
    depth = 0
    for sign in re.sub(r"\\.", "", inner):
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            return None  # (x + 1)(x - 1)
    if depth:
        return None
    return "(" if left == "]" else left, split_top(inner, _COMMA), ")" if right == "[" else right


def read_set(text: str) -> tuple[str, tuple] | None:
    """Return (variable or "", tree) of a plain text that describes a set of real numbers, or None."""
    text = text.strip()
    builder = _BUILDER.fullmatch(text)
    if builder:
        inner = read_set(builder[2])
        return inner and (inner if inner[0] == builder[1].strip() else None)
    if _REALS.fullmatch(text):
        return "", ("reals",)
    if text == r"\emptyset" or re.fullmatch(r"\\\{\s*\\\}", text):
        return "", ("empty",)
    for separator, name in ((_OR, "union"), (_AND, "meet")):
        parts = split_top(text, separator)
        if len(parts) > 1:
            return _joined(name, parts)
    variable, inner = member(text)
    if variable:
        result = read_set(inner)
        return result and (variable, result[1])
    parts = split_top(text, _MINUS)
    if len(parts) == 2:
        return _joined("minus", parts)
    if text.startswith(r"\{") and text.endswith(r"\}") and r"\}" not in text[:-2]:
        return "", ("finite", split_top(text[2:-2], _COMMA))
    group = bracketed(text)
    if group and len(group[1]) == 2 and all(group[1]):
        return "", ("interval", group[0], *group[1], group[2])
    if group and len(group[1]) == 1 and group[0] + group[2] == "()":
        return read_set(group[1][0])
    return _inequality(text)


def _joined(name: str, parts: list[str]) -> tuple[str, tuple] | None:
    trees = [tree for tree in map(read_set, parts) if tree]
    if len(trees) < len(parts):
        return None
    names = {variable for variable, _ in trees if variable}
    return (names.pop() if names else "", (name, [tree for _, tree in trees])) if len(names) < 2 else None


def _inequality(text: str) -> tuple[str, tuple] | None:
    parts = split_top(text, _RELATION)
    signs = [sign.strip() for sign in _RELATION.findall(text)]
    if len(parts) != len(signs) + 1 or not all(parts):
        return None
    forward = {"<": ("(", ")"), r"\le": ("[", "]")}
    if len(parts) == 2:
        left, right = parts
        if not _SYMBOL.fullmatch(left):
            left, right = right, left
            signs = [{"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}.get(signs[0], signs[0])]
        if not _SYMBOL.fullmatch(left) or _SYMBOL.fullmatch(right):
            letters = set(re.findall(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", text)))
            return (letters.pop(), ("relation", text)) if len(letters) == 1 else None
        match signs[0]:
            case r"\ne":
                return left, ("minus", [("reals",), ("finite", [right])])
            case "<" | r"\le":
                return left, ("interval", "(", f"-{INF}", right, forward[signs[0]][1])
            case _:
                return left, ("interval", "(" if signs[0] == ">" else "[", right, INF, ")")
    if len(parts) != 3 or not _SYMBOL.fullmatch(parts[1]):
        return None
    low, name, high = parts
    if all(sign in (">", r"\ge") for sign in signs):
        low, high, signs = high, low, [{">": "<"}.get(sign, r"\le") for sign in reversed(signs)]
    if not all(sign in forward for sign in signs):
        return None
    return name, ("interval", forward[signs[0]][0], low, high, forward[signs[1]][1])
