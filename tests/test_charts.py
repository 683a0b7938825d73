"""Charts: valid Vega-Lite, one theme, a mime bundle that needs neither network nor JavaScript, and words for
each.
"""

import base64
import functools
import io
import os
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib

import altair as alt
import pandas as pd
import pytest
from PIL import Image

from sdlab.charts import bars as charts_bars
from sdlab.charts import information, picture, style
from sdlab.charts import picture as charts_picture
from sdlab.charts import training as charts_training
from sdlab.errors import SdlabError

CONTEXTS = ("none", "solution", "solution_no_think", "regenerated")


def summary() -> pd.DataFrame:
    rows = []
    for metric, values in {
        "reward": (0.33, 1.0, 0.46, 1.0),
        "length": (77, 22, 83, 34),
        "markers": (10.1, 0.3, 10.0, 1.7),
        "density": (131, 14, 120, 50),
    }.items():
        for context, mean in zip(CONTEXTS, values, strict=True):
            rows.append(
                {"context": context, "metric": metric, "mean": mean, "low": mean * 0.9, "high": mean * 1.1}
            )
    return pd.DataFrame(rows)


@functools.cache
def all_charts() -> dict[str, alt.Chart]:
    frame = summary()
    curve = pd.DataFrame(
        {
            "reliability": [0.1, 0.5, 0.9],
            "information": [0.0, 0.5, 2.1],
            "entropy": [0.0, 1.0, 2.0],
            "mean": [0.1, 0.4, 0.9],
            "low": [0.05, 0.3, 0.8],
            "high": [0.2, 0.5, 1.0],
        }
    )
    dots = pd.DataFrame({"context": CONTEXTS, "information": [0, 45, 8, 33], "markers": [10.1, 0.3, 10, 1.7]})
    breakdown = pd.DataFrame(
        [{"context": c, "marker": m, "mean": 1.5} for c in CONTEXTS for m in ("wait", "hmm")]
    )
    training = pd.DataFrame(
        [
            {"method": m, "split": s, "recorded": r, "step": t, "reward": 0.4 + 0.01 * t, "length": 70 + t}
            for m in ("grpo", "sdpo")
            for s in ("in-domain", "deeper")
            for r in (True, False)
            for t in (0, 5)
        ]
    )
    markers = frame[frame["metric"] == "markers"]
    return {
        "table": charts_bars.context_table_chart(frame, subtitle="100 problems"),
        "points": charts_bars.interval_points(markers, "mean", "context", title="Markers per answer"),
        "bars": charts_bars.interval_bars(markers, "mean", "context", title="Markers per answer"),
        "breakdown": charts_bars.marker_breakdown(breakdown),
        "entropy": information.entropy_markers(curve),
        "information": information.information_curve(curve, at=0.5),
        "dots": information.information_markers(dots),
        "training": charts_training.training_curves(training),
    }


@pytest.mark.parametrize(
    "name", ["table", "points", "bars", "breakdown", "entropy", "information", "dots", "training"]
)
def test_every_chart_validates_and_says_what_it_shows(name):
    spec = all_charts()[name].to_dict()  # raises on an invalid specification
    words = picture.alt_text(spec)
    assert len(words) > 40 and re.search(r"\d", words), words


def test_alt_text_names_contexts_and_their_numbers():
    words = picture.alt_text(all_charts()["table"].to_dict())
    assert "no context 0.33 (0.30 to 0.36)" in words
    assert "full solution 22 (19.8 to 24)" in words


def test_alt_text_of_a_bare_chart_names_its_axes():
    chart = (
        alt.Chart(pd.DataFrame({"a": [1], "b": [2]})).mark_point().encode(x="a", y=alt.Y("b", title="bees"))
    )
    assert picture.alt_text(chart.to_dict()) == "Chart of a, bees."


def test_colours_follow_the_context_whatever_is_in_the_frame():
    frame = summary()
    only = frame[(frame["metric"] == "reward") & (frame["context"] == "regenerated")]
    spec = charts_bars.interval_bars(only, "mean", "context").to_dict()
    scale = spec["layer"][0]["encoding"]["color"]["scale"]
    assert scale == {"domain": ["regenerated"], "range": [style.CONTEXT_COLOURS["regenerated"]]}


@pytest.fixture
def sdlab_renderer():
    before = alt.theme.active, alt.renderers.active
    charts_picture.enable()
    charts_picture.enable()
    yield
    alt.theme.enable(before[0])
    alt.renderers.enable(before[1])


def test_mime_bundle_is_offline_and_has_a_text_alternative(sdlab_renderer):
    bundle = all_charts()["bars"]._repr_mimebundle_(None, None)
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    html = bundle["text/html"]
    assert "<script" not in html and not re.search(r'(?:src|href)="(?!data:)', html)
    assert bundle["text/plain"].startswith("Markers per answer.")
    assert 'alt="Markers per answer.' in html and 'role="img" aria-label="Markers per answer.' in html
    svg = base64.b64decode(re.search(r"svg\+xml;base64,([^\"]+)", html)[1])
    root = ElementTree.fromstring(svg)  # well formed
    titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "full solution: 0.30 (0.27 to 0.33)" in titles  # what hovering over the bar shows
    assert sum(map(len, bundle.values())) < 80_000


def test_png_keeps_its_pixels_while_shrinking():
    """Independent check: both files are decoded here, byte by byte, as the PNG specification says."""
    import vl_convert

    picture.with_theme()
    text = all_charts()["bars"].to_json()
    before = vl_convert.vegalite_to_png(text, scale=1)
    after = picture.squeeze_png(before)
    assert len(after) < len(before) / 3
    first, second = decode_png(before), decode_png(after)
    assert len(first) == len(second)
    far = sum(1 for a, b in zip(first, second, strict=True) if max(abs(a[i] - b[i]) for i in range(3)) > 40)
    assert far == 0
    same = sum(1 for a, b in zip(first, second, strict=True) if a[:3] == b)
    assert same > 0.95 * len(first)


def decode_png(data: bytes) -> list[tuple]:
    at, idat, palette = 8, b"", None
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, _, colour = struct.unpack(">IIBB", body[:10])
        palette = body if kind == b"PLTE" else palette
        idat += body if kind == b"IDAT" else b""
        at += 12 + size
    raw, step = zlib.decompress(idat), {6: 4, 3: 1}[colour]
    pixels, stride = [], width * step + 1
    for y in range(height):
        line = bytearray(raw[y * stride + 1 : (y + 1) * stride])
        if raw[y * stride] == 1:
            for x in range(step, len(line)):
                line[x] = (line[x] + line[x - step]) % 256
        else:
            assert raw[y * stride] == 0
        for x in range(0, len(line), step):
            pixels.append(
                tuple(line[x : x + 4]) if step == 4 else tuple(palette[3 * line[x] : 3 * line[x] + 3])
            )
    return pixels


def test_squeeze_png_leaves_a_grey_png_alone():
    file = io.BytesIO()
    Image.new("L", (1, 1), 7).save(file, "PNG")
    assert picture.squeeze_png(file.getvalue()) == file.getvalue()


def test_a_missing_column_and_an_empty_frame_are_told_in_one_line():
    with pytest.raises(SdlabError, match="low, high not in the frame"):
        charts_bars.context_table_chart(summary().drop(columns=["low", "high"]))
    with pytest.raises(SdlabError, match="empty frame"):
        charts_bars.context_table_chart(summary().iloc[:0])


def test_hostile_label_stays_text():
    frame = pd.DataFrame({"context": ["<script>x</script>"], "mean": [1.0], "low": [0.5], "high": [1.5]})
    html = picture.chart_html(charts_bars.interval_bars(frame, "mean", "context", title='"><script>x'))
    assert "<script" not in html
    svg = base64.b64decode(re.search(r"svg\+xml;base64,([^\"]+)", html)[1]).decode()
    assert "<script" not in svg and ElementTree.fromstring(svg) is not None


def test_importing_show_loads_nothing_heavy():
    code = (
        "import sys, sdlab.show; sys.exit(any(name in sys.modules for name in ('altair', 'pandas', 'torch', "
        "'ipywidgets')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


# Column names that Vega would read as paths

ODD = "[0].b it's: 100%"


def odd_charts(name) -> dict[str, alt.Chart]:
    """Every chart that is told columns, with their names changed by `name`."""
    bars = pd.DataFrame({"who": ["a", "b"], "m": [1.0, 2.0], "lo": [0.5, 1.5], "hi": [1.5, 2.5]})
    curve = pd.DataFrame(
        {"t": [1, 2, 3], "m": [1.0, 2.0, 4.0], "lo": [0.5, 1.5, 3.0], "hi": [1.5, 2.5, 5.0], "by": ["q"] * 3}
    )
    dots = pd.DataFrame(
        {"context": CONTEXTS, "m": [0, 45, 8, 33], "n": [10.1, 0.3, 10, 1.7], "lo": 1.0, "hi": 3.0}
    )
    cells = pd.DataFrame(
        [{"context": c, "marker": m, "m": i + 1.5} for i, c in enumerate(CONTEXTS) for m in ("wait", "hmm")]
    )
    steps = pd.DataFrame([
        {"t": t, "by": b, "s": s, "r": r, "m": 0.4 + 0.1 * t, "n": t + 3.0}
        for t in (0, 1, 2) for b in ("p", "q") for s in ("near", "far") for r in (True, False)
    ])  # fmt: skip
    bars, curve, steps = (
        frame.rename(columns={one: name(one) for one in frame}) for frame in (bars, curve, steps)
    )
    dots, cells = (
        frame.rename(columns={one: name(one) for one in ("m", "n", "lo", "hi")}) for frame in (dots, cells)
    )
    m, n, lo, hi, t, by = map(name, ("m", "n", "lo", "hi", "t", "by"))
    ends = {"low": lo, "high": hi}
    return {
        "bars": charts_bars.interval_bars(bars, m, name("who"), lo, hi, x_title="x"),
        "points": charts_bars.interval_points(bars, m, name("who"), lo, hi, x_title="x"),
        "cells": charts_bars.marker_breakdown(cells, value=m),
        "entropy": information.entropy_markers(curve, x=t, y=m, **ends),
        "information": information.information_curve(curve, x=t, y=m, colour=by, at=2, **ends),
        "dots": information.information_markers(dots, x=m, y=n, x_low=lo, x_high=hi, y_low=lo, y_high=hi),
        "training": charts_training.training_curves(
            steps, (m, n), step=t, by=by, split=name("s"), recorded=name("r")
        ),
    }


def shapes(chart) -> list[str]:
    """All that is drawn, without words: every path and where it lies."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    return re.findall(r'<path [^>]*?\bd="([^"]*)"', svg) + sorted(re.findall(r'transform="([^"]*)"', svg))


def test_charts_of_odd_column_names_draw_what_others_draw():
    plain, strange = odd_charts(lambda name: name), odd_charts(lambda name: name + ODD)
    for name, chart in plain.items():
        drawn = shapes(chart)
        assert len(drawn) > 20 and "NaN" not in "".join(drawn)
        assert shapes(strange[name]) == drawn, name
    for bad in ("back\\slash", 'a "quote"'):
        with pytest.raises(SdlabError, match="holds a backslash or a double quote; rename it"):
            style.field(bad, "Q")
