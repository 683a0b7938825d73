"""Colour the tokens of a completion by a number per token."""

from collections.abc import Mapping, Sequence
from typing import Any

from sdlab.errors import SdlabError
from sdlab.show.tokens import visible
from sdlab.show.view import View, render
from sdlab.text.plural import plural

NEGATIVE, POSITIVE = (213, 94, 0), (0, 114, 178)


def token_heatmap(
    tokens: Sequence[str],
    values: Sequence[float],
    *,
    title: str = "",
    unit: str = "nats",
    clip_percentile: float = 98,
    diverging: bool = True,
    extra: Mapping[str, Sequence[Any]] | None = None,
    prompt_tokens: Sequence[str] = (),
    meaning: tuple[str, str] = ("lower", "higher"),
    top: int = 10,
) -> View:
    """Show each token on a background for its value, with a legend and a table of the largest values.

    `tokens`, `values` and every list in `extra` (visible on hover, with its name) have T entries. The scale
    ends at the `clip_percentile` of the absolute values, so one extreme token does not make all others pale.
    `meaning`: the meaning of the two ends of the scale, e.g. ("teacher disagrees", "teacher agrees").
    `prompt_tokens` come first, without colour.

    Raises SdlabError when the lengths differ or `clip_percentile` is not above 0 and at most 100.
    """
    import numpy as np

    tokens = list(tokens)
    columns = {name: list(column) for name, column in (extra or {}).items()}
    numbers = np.asarray([float(value) for value in values])
    for name, size in [("values", len(numbers))] + [
        (f"extra[{name!r}]", len(column)) for name, column in columns.items()
    ]:
        if size != len(tokens):
            raise SdlabError(
                f"token_heatmap got {len(tokens)} tokens and {size} entries in {name}; give one per token"
            )
    if not 0 < clip_percentile <= 100:
        raise SdlabError(f"clip_percentile is {clip_percentile}; it must be above 0 and at most 100")
    finite = np.abs(numbers[np.isfinite(numbers)])
    limit = float(np.percentile(finite, clip_percentile)) if finite.size else 0.0
    limit = limit or (float(finite.max()) if finite.size else 0.0) or 1.0

    sign = "+" if diverging else ""
    coloured = []
    for i, (token, value) in enumerate(zip(tokens, numbers, strict=True)):
        hover = f"{visible(token)}  {value:{sign}.2f} {unit}"
        hover += "".join(f"\n{name}: {_short(column[i])}" for name, column in columns.items())
        coloured.append((token, _tint(value / limit, diverging), hover))
    largest = _largest(numbers.tolist(), top)
    total = float(numbers[np.isfinite(numbers)].sum())
    html = render(
        "heatmap.html",
        title=title,
        facts=[plural(len(tokens), "token"), f"sum {total:{sign}.1f} {unit}"],
        prompt="".join(prompt_tokens),
        tokens=coloured,
        scale=_scale(limit, diverging),
        meaning=meaning,
        unit=unit,
        columns=["position", "token", unit, *columns],
        rows=[
            (i, visible(tokens[i]), f"{numbers[i]:+.2f}", *(_short(column[i]) for column in columns.values()))
            for i in largest
        ],
    )
    strongest = ", ".join(f"{visible(tokens[i])} {numbers[i]:+.2f}" for i in largest)
    return View(
        html,
        f"{title or 'Token values'}: {plural(len(tokens), 'token')}, sum {total:+.1f} {unit}; "
        f"largest: {strongest}",
    )


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _tint(share: float, diverging: bool) -> str:
    """Return the background of a value at `share` of the limit: white at 0, at most 80% of the full colour.

    Dark text then keeps a contrast above 4.5.
    """
    if share != share:  # not a number
        return "#ffffff"
    end = POSITIVE if share >= 0 or not diverging else NEGATIVE
    strength = 0.8 * min(1.0, abs(share))
    return "#" + "".join(f"{round(255 + (channel - 255) * strength):02x}" for channel in end)


def _scale(limit: float, diverging: bool) -> list[tuple[str, str]]:
    """Return the colour and the text of each box of the legend."""
    stops = [-1.0, -0.5, 0.0, 0.5, 1.0] if diverging else [0.0, 0.25, 0.5, 0.75, 1.0]
    ends = {-1.0: "≤ ", 1.0: "≥ "}
    return [
        (
            _tint(stop, diverging),
            f"{ends.get(stop, '')}{stop * limit:{'+' if diverging and stop else ''}.2f}",
        )
        for stop in stops
    ]


def _largest(numbers: Sequence[float], top: int) -> list[int]:
    order = sorted(
        (i for i in range(len(numbers)) if numbers[i] == numbers[i]), key=lambda i: (-abs(numbers[i]), i)
    )
    return order[:top]
