"""Turn an Altair chart into a picture that every viewer shows, without JavaScript and network.

JupyterLab 4.6 does not draw Vega-Lite 6 itself. The usual HTML renderer fetches JavaScript from a CDN, and
the self-contained one costs 900 KB a chart. So the kernel sends finished pictures:

- text/html: the SVG inside an <object>. Hovering over a mark shows its values (SVG <title>, no JavaScript).
  Viewers that remove <object> (an untrusted notebook in JupyterLab, GitHub) show the <img> inside it, and its
  alt text describes the chart.
- image/png for viewers that show no HTML, and text/plain with the text of the alt text.

Charts are drawn dark on white. JupyterLab and Notebook 7 name a dark theme in an attribute of <body>, which
no media query sees; the <style> beside every chart does, and turns the chart: white becomes the colour of a
card, hues stay. JupyterLab removes the <style> from an untrusted notebook; its charts are white cards until a
cell with a chart is run.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

    Chart = alt.Chart | alt.LayerChart | alt.ConcatChart | alt.HConcatChart

PNG_SCALE = 1.5
FONT = "Helvetica Neue, Arial, Liberation Sans, DejaVu Sans, sans-serif"
INK, MUTED, GRID = "#222222", "#5c5c5c", "#e6e6e6"
# Okabe and Ito's eight colours, distinct under all common kinds of colour blindness; black last.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000")
# The report, the slides and the documentation use this filter, too; each has its own sign of a dark page.
TURN = "invert(.895) hue-rotate(180deg)"
IN_DARK = (
    f"<style>@media screen{{[data-jp-theme-light=false] .sdlab-chart{{filter:{TURN}}}"
    "[data-jp-theme-light=false] .sdlab-chart .sdlab-chart{filter:none}}</style>"
)


def theme_config() -> alt.theme.ThemeConfig:
    """Return the configuration of every chart: Okabe-Ito colours, light grid, white card."""
    return {
        "config": {
            "background": "white",
            "padding": 12,
            "font": FONT,
            "numberFormat": ",.3~f",
            "view": {"stroke": None, "continuousWidth": 360, "continuousHeight": 230, "discreteHeight": 230},
            "title": {
                "anchor": "start",
                "frame": "group",
                "fontSize": 15,
                "fontWeight": 600,
                "color": INK,
                "offset": 10,
                "subtitleFontSize": 12,
                "subtitleColor": MUTED,
                "subtitlePadding": 4,
            },
            "axis": {
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "titleColor": MUTED,
                "labelColor": INK,
                "gridColor": GRID,
                "domainColor": "#b3b3b3",
                "tickColor": "#b3b3b3",
                "labelLimit": 240,
            },
            "axisBand": {"grid": False, "ticks": False},
            "legend": {
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "titleColor": MUTED,
                "labelColor": INK,
                "labelLimit": 240,
            },
            "header": {"labelFontSize": 12, "titleFontSize": 12, "labelColor": INK, "titleColor": MUTED},
            "range": {"category": list(OKABE_ITO)},
            "bar": {"cornerRadiusEnd": 2},
            "line": {"strokeWidth": 2},
            "point": {"size": 60, "filled": True},
        }
    }


def enable() -> None:
    """Enable sdlab's theme and renderer in Altair for this process; a second call changes nothing."""
    with _without_iri_grammar():
        import altair as alt

    if "sdlab" not in alt.theme.names():
        alt.theme.register("sdlab", enable=False)(theme_config)
    alt.theme.enable("sdlab")
    if "sdlab" not in alt.renderers.names():
        alt.renderers.register("sdlab", lambda spec, **_: picture_bundle(spec))
    alt.renderers.enable("sdlab")


@contextmanager
def _without_iri_grammar() -> Iterator[None]:
    """Hide a package whose import compiles a grammar: a second of every kernel.

    Altair imports jsonschema, which imports rfc3987-syntax, if it is there, to check the format "iri". No
    chart has such a value, and jsonschema does not check a format that it does not know.
    """
    name = "rfc3987_syntax"
    hidden = not {"jsonschema", name} & set(sys.modules)
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import then fails, and jsonschema goes on
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]


def picture_bundle(spec: dict[str, Any]) -> dict[str, str]:
    """Return the mime bundle of a Vega-Lite `spec`: text/html, image/png (base64) and text/plain."""
    svg, png = draw(spec)
    words = alt_text(spec)
    png64 = base64.b64encode(png).decode()
    return {"text/html": picture_html(svg, png64, words), "image/png": png64, "text/plain": words}


def draw(spec: dict[str, Any]) -> tuple[str, bytes]:
    """Return the SVG text and the PNG bytes of a Vega-Lite specification, drawn by vl-convert.

    The PNG has 1.5 pixels per point.
    """
    import vl_convert

    svg = vl_convert.vegalite_to_svg(json.dumps(spec))  # the specification is compiled once, for both
    return hover_titles(svg), squeeze_png(vl_convert.svg_to_png(svg, scale=PNG_SCALE))


def chart_html(chart: Chart, fallback: bool = True) -> str:
    """Return the text/html of one Altair chart, for views of several charts (a flip book, a live board).

    Without `fallback` there is no <img> inside, so a viewer that removes <object> shows nothing.
    """
    with_theme()
    spec = chart.to_dict()
    svg, png = draw(spec) if fallback else (hover_titles(svg_of(spec)), b"")
    return picture_html(svg, base64.b64encode(png).decode(), alt_text(spec))


def svg_of(spec: dict[str, Any]) -> str:
    """Return the plain SVG text of a Vega-Lite specification."""
    import vl_convert

    return vl_convert.vegalite_to_svg(json.dumps(spec))


def with_theme() -> None:
    """Enable the theme if the notebook has not called `sdlab.show.setup()` yet."""
    import altair as alt

    if alt.theme.active != "sdlab":
        enable()


def picture_html(svg: str, png64: str, words: str) -> str:
    """Return an <object> with the SVG; where <object> is not allowed, the PNG and its alt text remain."""
    size = re.search(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"', svg)
    assert size is not None, "vl-convert writes the size of every picture"
    width, height = (float(value) for value in size.groups())
    # The picture shrinks with the page: it fills its box, and the viewBox keeps its proportions.
    svg = re.sub(
        r'(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r'\1 width="100%" height="100%"', svg, count=1
    )
    label = html.escape(words, quote=True)
    image = (
        f'<img class="sdlab-chart" alt="{label}" width="{width:.0f}" src="data:image/png;base64,{png64}">'
        if png64
        else ""
    )
    return (
        f'{IN_DARK}<object class="sdlab-chart" type="image/svg+xml" role="img" aria-label="{label}" '
        f'style="display:block;width:100%;max-width:{width:.0f}px;aspect-ratio:{width:.0f}/{height:.0f};'
        f'background:#fff;border-radius:8px" '
        f'data="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">{image}</object>'
    )


_MARK = re.compile(
    r'<(path|text|line|rect|image)\b((?=[^>]*role="graphics-symbol")[^>]*?aria-label="([^"]*)"[^>]*?)(/>|>)'
)


def hover_titles(svg: str) -> str:
    """Give every labelled mark a <title> for hovering, and remove elements that draw nothing."""
    svg = re.sub(
        r'<path class="(?:foreground|background)" aria-hidden="true" d="(?:M0,0h0v0h0Z)?"[^>]*/>', "", svg
    )
    svg = re.sub(r' aria-roledescription="[^"]*"', "", svg)
    # The font is named once, on the whole picture.
    svg = svg.replace(f' font-family="{FONT}"', "").replace("<svg ", f'<svg font-family="{FONT}" ', 1)

    def titled(match: re.Match[str]) -> str:
        tag, attributes, label, end = match.groups()
        closing = f"</{tag}>" if end == "/>" else ""
        return f"<{tag}{attributes}><title>{label}</title>{closing}"

    return _MARK.sub(titled, svg)


def squeeze_png(png: bytes) -> bytes:
    """Reduce a PNG to at most 256 colours; the file is then about a sixth of vl-convert's.

    A chart has few colours; all others come from the soft edges of letters and lines. vl-convert writes RGBA;
    a PNG of another mode is returned unchanged.
    """
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        if picture.mode != "RGBA":
            return png
        reduced = picture.convert("RGB").quantize(
            256, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE
        )
    file = io.BytesIO()
    reduced.save(file, "PNG", optimize=True)
    return file.getvalue()


def alt_text(spec: dict[str, Any]) -> str:
    """Return the text alternative of a chart.

    It consists of title, subtitle and description; without them it lists the encoded columns.
    """
    title = spec.get("title") or ""
    parts: list[str] = []
    if isinstance(title, dict):
        for value in (title.get("text"), title.get("subtitle")):
            parts.append(" ".join(value) if isinstance(value, list) else value or "")
    else:
        parts.append(" ".join(title) if isinstance(title, list) else title)
    parts.append(spec.get("description") or "")
    parts = [part.strip().rstrip(".") for part in parts if part and part.strip()]
    if not parts:
        fields = list(dict.fromkeys(_fields(spec)))
        parts = ["Chart of " + ", ".join(fields) if fields else "Chart"]
    return ". ".join(parts) + "."


def _fields(node: Any) -> list[str]:
    """Return the titles or names of all columns encoded by position, colour or facet, in order."""
    names: list[str] = []
    if isinstance(node, dict):
        for channel, value in node.get("encoding", {}).items():
            if channel in ("x", "y", "color", "column", "row", "facet") and isinstance(value, dict):
                name = value.get("title") or value.get("field")
                names += [name] if isinstance(name, str) else []
        for key, value in node.items():
            if key not in ("encoding", "datasets", "config", "data"):
                names += _fields(value)
    elif isinstance(node, list):
        for item in node:
            names += _fields(item)
    return names
