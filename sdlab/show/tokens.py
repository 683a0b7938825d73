"""Show text and tokens as plain HTML and CSS: no JavaScript, offline, model text escaped.

Styles are inline because notebook viewers drop <style>. Where they drop inline styles too (GitHub) the text
stays readable: <pre> keeps the lines, <b> keeps the markers, and the numbers are in tables.
"""

import re
from typing import Any

from sdlab.show.view import View, render, to_html
from sdlab.text.plural import plural

# The ten markers in three families, each with its own colour and its own underline (never colour alone).
FAMILIES = {
    "reconsiders": (("wait", "hmm", "actually", "alternatively"), "#f9d9c4", "3px solid #D55E00"),
    "hedges": (("perhaps", "maybe", "seems", "might", "likely"), "#cfe6f5", "3px dotted #0072B2"),
    "checks": (("check",), "#c9ebdf", "3px double #007a59"),
}
_FAMILY = {marker: name for name, (markers, _, _) in FAMILIES.items() for marker in markers}


def highlight_markers(
    text: str,
    title: str = "",
    *,
    length: int | None = None,
    reward: float | None = None,
    match: str = "word",
    legend: bool = True,
) -> View:
    """Show a text with its epistemic markers coloured and its thinking part in a muted box.

    `length`: tokens, if known (otherwise words are counted); `reward`: 1 right, 0 wrong, None for no verdict;
    `match`: "word" or "substring" as in `sdlab.text.markers`. The text of the HTML's body is exactly `text`.
    """
    from sdlab.text.markers import count_markers

    count = sum(count_markers(text, match).values())
    size = length if length is not None else len(text.split())
    unit = "tokens" if length is not None else "words"
    density = 1000 * count / size if size else 0.0
    verdict = "" if reward is None else "right" if reward > 0 else "wrong"
    facts = [f"{size:,} {unit}", plural(count, "marker"), f"{density:.0f} per 1,000 {unit}"]

    html = render(
        "markers.html",
        title=title,
        facts=facts,
        verdict=verdict,
        body=[(_pieces(part, match), thinking) for part, thinking in _split_think(text)],
        legend=legend and count > 0,
        families=FAMILIES,
    )
    lines = [title] * bool(title) + [", ".join(([verdict] if verdict else []) + facts), text]
    return View(html, "\n".join(lines))


def _split_think(text: str) -> list[tuple[str, bool]]:
    """Split the text at </think> into (thinking part with its tags, True) and (the rest, False).

    The parts together are the whole text.
    """
    start, end = text.find("<think>"), text.find("</think>")
    if end < 0:
        return (
            [(text[:start], False)] * (start > 0) + [(text[start:], True)] if start >= 0 else [(text, False)]
        )
    start = start if 0 <= start < end else 0
    parts = [(text[:start], False), (text[start : end + 8], True), (text[end + 8 :], False)]
    return [part for part in parts if part[0]]


def _pieces(text: str, match: str) -> list[tuple[str, str]]:
    """Return (text, the marker's family or "") of the pieces that `text` consists of."""
    from sdlab.text.markers import marker_spans

    if match == "word":
        spans = marker_spans(text)
    else:
        matches = re.finditer("|".join(_FAMILY), text, re.IGNORECASE)
        spans = [(one.start(), one.end(), one[0].lower()) for one in matches if one[0].isascii()]
    pieces, at = [], 0
    for start, end, marker in spans:
        pieces += [(text[at:start], ""), (text[start:end], _FAMILY[marker])]
        at = end
    return [*pieces, (text[at:], "")]


def side_by_side(*views: Any, min_width: int = 300) -> View:
    """Show views (or anything a notebook displays) next to each other; on a narrow page they stack."""
    parts = [View(to_html(view)) for view in views]
    html = render("beside.html", views=parts, min_width=min_width)
    return View(html, "\n\n".join(repr(view) for view in views))


def visible(token: str) -> str:
    """Return a token with signs for its invisible characters: "␣the", "⏎"."""
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "(empty)"
