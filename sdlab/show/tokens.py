"""Text and tokens as pictures: plain HTML and CSS, no JavaScript, offline, model text escaped.

Styles are inline because notebook viewers drop <style>; where they drop inline styles as well (GitHub) the text stays
readable: <pre> keeps the lines, <b> keeps the markers, and the numbers are in tables.
"""

import re
from collections.abc import Sequence

from sdlab.show.view import FAINT, RULE, View, escape

# The ten markers in three families, each with its own colour and its own underline (never colour alone).
FAMILIES = {
    "reconsiders": (("wait", "hmm", "actually", "alternatively"), "#f9d9c4", "3px solid #D55E00"),
    "hedges": (("perhaps", "maybe", "seems", "might", "likely"), "#cfe6f5", "3px dotted #0072B2"),
    "checks": (("check",), "#c9ebdf", "3px double #007a59"),
}
_FAMILY = {marker: name for name, (markers, _, _) in FAMILIES.items() for marker in markers}
NEGATIVE, POSITIVE, DARK = (213, 94, 0), (0, 114, 178), "#111111"
# MathJax would set "$a+b$" in a trace as a formula; it leaves <pre> alone.
PRE = (
    "margin:0;padding:0;border:0;background:none;font-family:system-ui,sans-serif;font-size:14px;line-height:1.65;"
    "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
)
CARD = (
    f"border:1px solid {RULE};border-radius:8px;padding:10px 14px;margin:4px 0;font-size:14px;line-height:1.5"
)


def highlight_markers(
    text: str,
    title: str = "",
    *,
    length: int | None = None,
    reward: float | None = None,
    match: str = "word",
    legend: bool = True,
) -> View:
    """The text with its epistemic markers coloured and its thinking part in a muted box.

    `length`: tokens, if known (words are counted otherwise); `reward`: 1 right, 0 wrong, None not shown;
    `match`: "word" or "substring" as in `sdlab.text.markers`. Extracting the text of the body gives `text` back.
    """
    from sdlab.text.markers import count_markers

    count = sum(count_markers(text, match).values())
    size = length if length is not None else len(text.split())
    unit = "tokens" if length is not None else "words"
    density = 1000 * count / size if size else 0.0
    verdict = None if reward is None else "right" if reward > 0 else "wrong"
    facts = [f"{size:,} {unit}", f"{count} marker{'s' * (count != 1)}", f"{density:.0f} per 1,000 {unit}"]

    body = []
    for part, thinking in _split_think(text):
        inner = f"<pre style='{PRE};color:inherit'>{_coloured(part, match)}</pre>"
        if thinking:
            inner = (
                f"<div style='background:{FAINT};border-left:3px solid {RULE};border-radius:4px;padding:6px 10px;"
                f"margin:4px 0'>{inner}</div>"
            )
        body.append(inner)
    head = header(title, facts, verdict)
    key = _marker_legend() if legend and count else ""
    html = f"<div style='{CARD}'>{head}<div data-part='body'>{''.join(body)}</div>{key}</div>"
    shown = [title] * bool(title) + [", ".join(([verdict] if verdict else []) + facts), text]
    return View(html, "\n".join(shown))


def _split_think(text: str) -> list[tuple[str, bool]]:
    """The text cut at </think>: (thinking part with its tags, True) then (the rest, False); nothing is dropped."""
    start, end = text.find("<think>"), text.find("</think>")
    if end < 0:
        return (
            [(text[:start], False)] * (start > 0) + [(text[start:], True)] if start >= 0 else [(text, False)]
        )
    start = start if 0 <= start < end else 0
    parts = [(text[:start], False), (text[start : end + 8], True), (text[end + 8 :], False)]
    return [part for part in parts if part[0]]


def _coloured(text: str, match: str) -> str:
    from sdlab.text.markers import marker_spans

    if match == "word":
        spans = marker_spans(text)
    else:
        found = re.finditer("|".join(_FAMILY), text, re.IGNORECASE)
        spans = [(hit.start(), hit.end(), hit[0].lower()) for hit in found if hit[0].isascii()]
    out, at = [], 0
    for start, end, marker in spans:
        name = _FAMILY[marker]
        _, background, line = FAMILIES[name]
        out.append(escape(text[at:start]))
        out.append(
            f"<b title='marker: {name}' style='background:{background};color:{DARK};border-bottom:{line};"
            f"border-radius:3px;padding:0 2px;font-weight:600'>{escape(text[start:end])}</b>"
        )
        at = end
    return "".join(out) + escape(text[at:])


def header(title: str, facts: Sequence[str], verdict: str | None = None) -> str:
    chips = []
    if verdict:
        colour = "#007a59" if verdict == "right" else "#b34700"
        sign = "✓" if verdict == "right" else "✗"
        chips.append(
            f"<span style='background:{colour};color:#fff;border-radius:10px;padding:1px 9px'>{sign} {verdict}</span>"
        )
    chips += [
        f"<span style='background:{FAINT};border-radius:10px;padding:1px 9px'>{escape(fact)}</span>"
        for fact in facts
    ]
    name = f"<strong style='font-size:15px'>{escape(title)}</strong>" if title else ""
    return (
        f"<div style='display:flex;flex-wrap:wrap;gap:6px 8px;align-items:baseline;margin-bottom:6px;font-size:12px'>"
        f"{name} {' '.join(chips)}</div>"
    )


def _marker_legend() -> str:
    keys = "".join(
        f"<span><b style='background:{background};color:{DARK};border-bottom:{line};border-radius:3px;padding:0 4px;"
        f"font-weight:600'>{name}</b> {', '.join(markers)}</span> "
        for name, (markers, background, line) in FAMILIES.items()
    )
    return f"<div style='display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:8px;font-size:12px;opacity:.85'>{keys}</div>"


def side_by_side(*views, min_width: int = 300) -> View:
    """Views (or anything a notebook shows) next to each other; on a narrow page they stack."""
    from sdlab.show.view import to_html

    cells = "".join(
        f"<div style='flex:1 1 {min_width}px;min-width:0'>{to_html(view)}</div>" for view in views
    )
    html = f"<div style='display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start'>{cells}</div>"
    return View(html, "\n\n".join(repr(view) for view in views))


def shown(token: str) -> str:
    """A token with its invisible characters made visible: "␣the", "⏎"."""
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "(empty)"
