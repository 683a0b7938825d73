"""Text and tokens as pictures: plain HTML and CSS, no JavaScript, offline, model text escaped.

Styles are inline because notebook viewers drop <style>; where they drop inline styles as well (GitHub) the text stays
readable: <pre> keeps the lines, <b> keeps the markers, and the numbers are in tables.
"""

import re
from collections.abc import Mapping, Sequence

from sdlab.errors import SdlabError
from sdlab.show.view import FAINT, RULE, View, escape

# The ten markers in three families, each with its own colour and its own underline (never colour alone).
FAMILIES = {
    "reconsiders": (("wait", "hmm", "actually", "alternatively"), "#f9d9c4", "3px solid #D55E00"),
    "hedges": (("perhaps", "maybe", "seems", "might", "likely"), "#cfe6f5", "3px dotted #0072B2"),
    "checks": (("check",), "#c9ebdf", "3px double #007a59"),
}
_FAMILY = {marker: name for name, (markers, _, _) in FAMILIES.items() for marker in markers}
_NEGATIVE, _POSITIVE, _DARK = (213, 94, 0), (0, 114, 178), "#111111"
# MathJax would set "$a+b$" in a trace as a formula; it leaves <pre> alone.
_PRE = (
    "margin:0;padding:0;border:0;background:none;font-family:system-ui,sans-serif;font-size:14px;line-height:1.65;"
    "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
)
_CARD = (
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
        inner = f"<pre style='{_PRE};color:inherit'>{_coloured(part, match)}</pre>"
        if thinking:
            inner = (
                f"<div style='background:{FAINT};border-left:3px solid {RULE};border-radius:4px;padding:6px 10px;"
                f"margin:4px 0'>{inner}</div>"
            )
        body.append(inner)
    head = _header(title, facts, verdict)
    key = _marker_legend() if legend and count else ""
    html = f"<div style='{_CARD}'>{head}<div data-part='body'>{''.join(body)}</div>{key}</div>"
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
            f"<b title='marker: {name}' style='background:{background};color:{_DARK};border-bottom:{line};"
            f"border-radius:3px;padding:0 2px;font-weight:600'>{escape(text[start:end])}</b>"
        )
        at = end
    return "".join(out) + escape(text[at:])


def _header(title: str, facts: Sequence[str], verdict: str | None = None) -> str:
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
        f"<span><b style='background:{background};color:{_DARK};border-bottom:{line};border-radius:3px;padding:0 4px;"
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


def token_heatmap(
    tokens: Sequence[str],
    values: Sequence[float],
    *,
    title: str = "",
    unit: str = "nats",
    clip_percentile: float = 98,
    diverging: bool = True,
    extra: Mapping[str, Sequence] | None = None,
    prompt_tokens: Sequence[str] = (),
    meaning: tuple[str, str] = ("lower", "higher"),
    top: int = 10,
) -> View:
    """Each token on a background for its value, with a legend, hover text and a table of the largest.

    `tokens`, `values` and every list in `extra` (shown on hover, by its name) have T entries. The scale ends at the
    `clip_percentile` of the absolute values, so that one extreme token does not bleach the rest. `meaning`: what the
    two ends of the scale say, e.g. ("teacher disagrees", "teacher agrees"). `prompt_tokens` come first, uncoloured.
    """
    import numpy as np

    tokens, extra = list(tokens), {name: list(column) for name, column in (extra or {}).items()}
    numbers = np.asarray([float(value) for value in values])
    for name, size in [("values", len(numbers))] + [
        (f"extra[{name!r}]", len(column)) for name, column in extra.items()
    ]:
        if size != len(tokens):
            raise SdlabError(
                f"token_heatmap got {len(tokens)} tokens but {size} {name}; give one value per token"
            )
    if not 0 < clip_percentile <= 100:
        raise SdlabError(f"clip_percentile is {clip_percentile}; it must be above 0 and at most 100")
    finite = np.abs(numbers[np.isfinite(numbers)])
    limit = float(np.percentile(finite, clip_percentile)) if finite.size else 0.0
    limit = limit or (float(finite.max()) if finite.size else 0.0) or 1.0

    spans = []
    for i, (token, value) in enumerate(zip(tokens, numbers)):
        said = f"{shown(token)}  {value:+.3f} {unit}" if diverging else f"{shown(token)}  {value:.3f} {unit}"
        said += "".join(f"\n{name}: {_short(column[i])}" for name, column in extra.items())
        spans.append(
            f"<span title='{escape(said)}' style='background:{_tint(value / limit, diverging)};color:{_DARK};"
            f"border-radius:2px;padding:2px 0'>{_visible(token)}</span>"
        )
    prompt = ""
    if prompt_tokens:
        prompt = (
            f"<div style='border-bottom:1px dashed #b3b3b3;padding-bottom:6px;margin-bottom:6px' "
            f"data-part='prompt'><pre style='{_PRE};color:#5c5c5c'>{escape(''.join(prompt_tokens))}</pre></div>"
        )
    total = float(numbers[np.isfinite(numbers)].sum())
    head = _header(
        title,
        [f"{len(tokens)} tokens", f"sum {total:+.1f} {unit}" if diverging else f"sum {total:.1f} {unit}"],
    )
    html = (
        f"<div style='{_CARD}'>{head}<div style='background:#ffffff;color:{_DARK};border-radius:6px;padding:8px 10px'>"
        f"{prompt}<div data-part='body'><pre style='{_PRE};color:{_DARK};line-height:1.9'>{''.join(spans)}</pre></div></div>"
        f"{_scale(limit, unit, diverging, meaning)}{_top_table(tokens, numbers, unit, top, extra)}</div>"
    )
    strongest = ", ".join(f"{shown(tokens[i])} {numbers[i]:+.2f}" for i in _largest(numbers, top))
    return View(
        html,
        f"{title or 'Token values'}: {len(tokens)} tokens, sum {total:+.1f} {unit}; largest: {strongest}",
    )


def shown(token: str) -> str:
    """A token with its invisible characters made visible: "␣the", "⏎"."""
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "(empty)"


def _visible(token: str) -> str:
    """Escaped token; a newline gets a hidden-from-readers sign before it, so that its colour can be seen."""
    sign = "<span aria-hidden='true' data-sign='1' style='opacity:.55'>⏎</span>\n"
    return escape(token).replace("\n", sign)


def _short(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _tint(share: float, diverging: bool) -> str:
    """Background of a value at `share` of the limit: white at 0; at most 80% of the full colour, so that dark text
    keeps a contrast above 4.5."""
    if share != share:  # not a number: no value to show
        return "#ffffff"
    end = _POSITIVE if share >= 0 or not diverging else _NEGATIVE
    strength = 0.8 * min(1.0, abs(share))
    return "#" + "".join(f"{round(255 + (channel - 255) * strength):02x}" for channel in end)


def _scale(limit: float, unit: str, diverging: bool, meaning: tuple[str, str]) -> str:
    stops = [-1.0, -0.5, 0.0, 0.5, 1.0] if diverging else [0.0, 0.25, 0.5, 0.75, 1.0]
    boxes = "".join(
        f"<span style='background:{_tint(stop, diverging)};color:{_DARK};padding:2px 10px'>"
        f"{'≤ ' * (diverging and stop == -1)}{'≥ ' * (stop == 1)}{stop * limit:{'+' if diverging and stop else ''}.2f}</span>"
        for stop in stops
    )
    left, right = (escape(word) for word in meaning)
    return (
        f"<div style='margin-top:8px;font-size:12px'>{left} <span style='border:1px solid {RULE};border-radius:4px;"
        f"padding:2px 0'>{boxes}</span> {right} ({escape(unit)})</div>"
    )


def _largest(numbers, top: int) -> list[int]:
    order = sorted(
        (i for i in range(len(numbers)) if numbers[i] == numbers[i]), key=lambda i: (-abs(numbers[i]), i)
    )
    return order[:top]


def _top_table(tokens, numbers, unit: str, top: int, extra: Mapping[str, list]) -> str:
    chosen = _largest(numbers, top)
    if not chosen:
        return ""
    cell = "style='padding:2px 12px;text-align:right'"
    head = "".join(
        f"<th scope='col' {cell}>{escape(name)}</th>" for name in ["position", "token", unit, *extra]
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td {cell}>{value}</td>"
            for value in [
                i,
                f"<code>{escape(shown(tokens[i]))}</code>",
                f"{numbers[i]:+.3f}",
                *[escape(_short(column[i])) for column in extra.values()],
            ]
        )
        + "</tr>"
        for i in chosen
    )
    which = (
        "token with the largest value"
        if len(chosen) == 1
        else f"{len(chosen)} tokens with the largest values"
    )
    return (
        f"<details style='margin-top:8px;font-size:12px'><summary>The {which}"
        f"</summary><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )
