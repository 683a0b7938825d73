"""A completion's tokens coloured by a number per token."""

from collections.abc import Mapping, Sequence

from sdlab.errors import SdlabError
from sdlab.show.tokens import CARD, DARK, NEGATIVE, POSITIVE, PRE, header, shown
from sdlab.show.view import RULE, View, escape


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
            f"<span title='{escape(said)}' style='background:{_tint(value / limit, diverging)};color:{DARK};"
            f"border-radius:2px;padding:2px 0'>{_visible(token)}</span>"
        )
    prompt = ""
    if prompt_tokens:
        prompt = (
            f"<div style='border-bottom:1px dashed #b3b3b3;padding-bottom:6px;margin-bottom:6px' "
            f"data-part='prompt'><pre style='{PRE};color:#5c5c5c'>{escape(''.join(prompt_tokens))}</pre></div>"
        )
    total = float(numbers[np.isfinite(numbers)].sum())
    head = header(
        title,
        [f"{len(tokens)} tokens", f"sum {total:+.1f} {unit}" if diverging else f"sum {total:.1f} {unit}"],
    )
    html = (
        f"<div style='{CARD}'>{head}<div style='background:#ffffff;color:{DARK};border-radius:6px;padding:8px 10px'>"
        f"{prompt}<div data-part='body'><pre style='{PRE};color:{DARK};line-height:1.9'>{''.join(spans)}</pre></div></div>"
        f"{_scale(limit, unit, diverging, meaning)}{_top_table(tokens, numbers, unit, top, extra)}</div>"
    )
    strongest = ", ".join(f"{shown(tokens[i])} {numbers[i]:+.2f}" for i in _largest(numbers, top))
    return View(
        html,
        f"{title or 'Token values'}: {len(tokens)} tokens, sum {total:+.1f} {unit}; largest: {strongest}",
    )


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
    end = POSITIVE if share >= 0 or not diverging else NEGATIVE
    strength = 0.8 * min(1.0, abs(share))
    return "#" + "".join(f"{round(255 + (channel - 255) * strength):02x}" for channel in end)


def _scale(limit: float, unit: str, diverging: bool, meaning: tuple[str, str]) -> str:
    stops = [-1.0, -0.5, 0.0, 0.5, 1.0] if diverging else [0.0, 0.25, 0.5, 0.75, 1.0]
    boxes = "".join(
        f"<span style='background:{_tint(stop, diverging)};color:{DARK};padding:2px 10px'>"
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
