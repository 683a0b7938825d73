"""Token views: the text survives unchanged, hostile text stays text, numbers and lengths are right."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdlab.errors import SdlabError
from sdlab.show import highlight_markers, side_by_side, token_heatmap
from sdlab.show.heatmap import _tint
from sdlab.show.tokens import FAMILIES
from sdlab.text.markers import MARKERS

TEXT = "<think>\nMaybe 9? Check: 0 + 9 = 9. Hmm, wait.\n</think>\n\nThe answer is \\boxed{36}."
HOSTILE = "<script>alert(1)</script> & \"quoted\" 'single' <img src=x onerror=alert(1)> $a+b$"


class Reader(HTMLParser):
    """Collects the text of the element marked data-part=..., leaving out what is hidden from readers."""

    def __init__(self, html: str, part: str):
        super().__init__()
        self.part, self.depth, self.hidden, self.text, self.tags, self.marked = part, 0, 0, "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if self.depth or attrs.get("data-part") == self.part:
            self.depth += 1
        if self.hidden or attrs.get("aria-hidden"):
            self.hidden += 1
        if tag == "b" and self.depth:
            self.marked.append("")

    def handle_endtag(self, tag):
        self.depth -= bool(self.depth)
        self.hidden -= bool(self.hidden)

    def handle_data(self, data):
        if self.depth and not self.hidden:
            self.text += data
            if self.marked and self.lasttag == "b" and not self.marked[-1]:
                self.marked[-1] = data


@pytest.mark.parametrize(
    "text", [TEXT, HOSTILE, "", "no markers here", "<think>unfinished, maybe", "a</think>b", "\n\nwait\n"]
)
def test_highlighted_text_is_the_text(text):
    assert Reader(highlight_markers(text).html, "body").text == text


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=60))
def test_any_text_and_any_tokens_come_back(text):
    assert Reader(highlight_markers(text).html, "body").text == text
    tokens = re.findall(r"\s?\w+|[^\w]", text)
    assert Reader(token_heatmap(tokens, [0.5] * len(tokens)).html, "body").text == "".join(tokens)


def test_markers_are_marked_and_counted():
    view = highlight_markers(TEXT, "no context", length=50, reward=0)
    assert Reader(view.html, "body").marked == ["Maybe", "Check", "Hmm", "wait"]
    assert "wrong, 50 tokens, 4 markers, 80 per 1,000 tokens" in view.text
    inside = highlight_markers("unlikely, checking", match="substring")
    assert Reader(inside.html, "body").marked == ["likely", "check"] and "2 markers" in inside.text
    assert "0 markers" in highlight_markers("unlikely, checking").text


def test_families_hold_the_ten_markers_once():
    assert sorted(marker for markers, _, _ in FAMILIES.values() for marker in markers) == sorted(MARKERS)


def test_unknown_match_is_refused():
    with pytest.raises(SdlabError, match="match"):
        highlight_markers("x", match="fuzzy")


def hostile_views():
    return [
        highlight_markers(HOSTILE, HOSTILE),
        token_heatmap(
            [HOSTILE, "b"],
            [1, -2],
            title=HOSTILE,
            unit=HOSTILE,
            extra={HOSTILE: [HOSTILE, "x"]},
            prompt_tokens=[HOSTILE],
            meaning=(HOSTILE, HOSTILE),
        ),
        side_by_side(highlight_markers(HOSTILE), HOSTILE),
    ]


@pytest.mark.parametrize("view", hostile_views())
def test_hostile_text_never_becomes_markup(view):
    tags = Reader(view._repr_html_(), "body").tags
    assert not {tag for tag, _ in tags} & {"script", "img", "iframe"}
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)


def test_heatmap_lengths_must_agree():
    with pytest.raises(SdlabError, match="3 tokens and 2 entries in values"):
        token_heatmap(["a", "b", "c"], [1, 2])
    with pytest.raises(SdlabError, match="2 tokens and 1 entries in extra\\['p'\\]"):
        token_heatmap(["a", "b"], [1, 2], extra={"p": [1]})
    with pytest.raises(SdlabError, match="clip_percentile"):
        token_heatmap(["a"], [1], clip_percentile=0)


def test_heatmap_colours_scale_and_table():
    view = token_heatmap(
        [" a", "\n", "b", "c"],
        [2.0, -1.0, 0.0, float("nan")],
        clip_percentile=100,
        extra={"p": [0.25, 0.5, 0.75, 1.0]},
        top=2,
    )
    spans = [
        attributes
        for tag, attributes in Reader(view.html, "body").tags
        if tag == "span" and "title" in attributes
    ]
    assert [re.search("background:(#[0-9a-f]{6})", span["style"])[1] for span in spans] == [
        _tint(1.0, True),
        _tint(-0.5, True),
        "#ffffff",
        "#ffffff",
    ]
    assert spans[0]["title"] == "␣a  +2.00 nats\np: 0.25" and spans[1]["title"].startswith("⏎  -1.00 ")
    assert "≥ +2.00" in view.html and "≤ -2.00" in view.html
    table = re.findall(r"<code>(.*?)</code>", view.html)
    assert table == ["␣a", "⏎"]


def test_one_extreme_token_does_not_bleach_the_rest():
    values = [1.0] * 99 + [1000.0]
    html = token_heatmap(["x"] * 100, values).html
    assert html.count(_tint(1.0, True)) >= 99


def test_empty_heatmap_and_all_zero_values():
    assert "0 tokens" in token_heatmap([], []).text
    assert "#ffffff" in token_heatmap(["a"], [0.0]).html


@pytest.mark.parametrize("share", [-5, -1, -0.5, 0, 0.5, 1, 5])
def test_dark_text_is_readable_on_every_tint(share):
    """WCAG 2 contrast of #111111 on the background, at least 4.5."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert (luminance(_tint(share, True)) + 0.05) / (luminance("#111111") + 0.05) >= 4.5
