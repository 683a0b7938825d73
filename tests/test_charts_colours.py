"""Colours used together can be told apart without red or green cones, and where they are close something else
differs too.
"""

from itertools import combinations

import pandas
import pytest

from sdlab.charts import coverage, doubt, style
from sdlab.charts.picture import OKABE_ITO
from sdlab.show import heatmap, tokens

colorspacious = pytest.importorskip(
    "colorspacious", reason="pip install colorspacious to judge colours as a colour-blind reader sees them"
)

# Distance in CIELAB. A difference of 2.3 is just noticeable in patches side by side (Mahy et al. 1994); marks
# that lie apart need more.
CLEAR = 10
VISIONS = {
    "deuteranopia": "deuteranomaly",
    "protanopia": "protanomaly",
}  # of severity 100: the matrices of Machado, Oliveira and Fernandes (2009)
TOGETHER = {
    "all eight of the theme": OKABE_ITO,
    "contexts": tuple(style.CONTEXT_COLOURS.values()),
    "methods": tuple(style.METHOD_COLOURS[name] for name in style.METHOD_LABELS),
    "who writes": tuple(doubt.WRITERS.values()),
    "right and wrong": (style.BLUE, style.RED),
    "count and density": (style.ORANGE, style.GREEN),
    "chosen and left out": (style.BLUE, "#c9ced6"),
    "poles and middle of a heat map": tuple(heatmap._tint(share, True) for share in (-1, -0.5, 0, 0.5, 1)),
    "sets in one picture of coverage": coverage.COLOURS,
}


def seen(colour: str, vision: str | None):
    """The colour in CIELAB as an eye with that vision sees it."""
    space = {"name": "sRGB1+CVD", "cvd_type": VISIONS[vision], "severity": 100} if vision else "sRGB1"
    return colorspacious.cspace_convert(
        [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], space, "CIELab"
    )


def distance(one: str, other: str, vision: str | None) -> float:
    return float(
        sum((a - b) ** 2 for a, b in zip(seen(one, vision), seen(other, vision), strict=True)) ** 0.5
    )


def test_the_measure_sees_what_the_colour_blind_do_not():
    assert (
        distance("#d62728", "#2ca02c", None) > 60 > 3 * CLEAR > distance("#d62728", "#2ca02c", "deuteranopia")
    )  # red and green lines
    assert distance("#8f8f00", "#b36b00", "deuteranopia") < CLEAR < distance("#8f8f00", "#b36b00", None)
    assert distance("#000000", "#ffffff", None) == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("use", TOGETHER)
def test_colours_used_together_are_told_apart(use, vision):
    close = {
        f"{a} {b}": round(distance(a, b, vision), 1)
        for a, b in combinations(TOGETHER[use], 2)
        if distance(a, b, vision) < CLEAR
    }
    assert not close


def test_markers_differ_by_their_underline_as_well():
    lines = [line.split()[1] for _, _, line in tokens.FAMILIES.values()]
    assert len(set(lines)) == len(lines) == 3


def shades(names: list[str]) -> dict[str, str]:
    frame = pandas.DataFrame({"condition": names})
    _, labels, colours = style.label_colours(frame, "condition", {}, style.METHOD_COLOURS)
    return dict(zip(labels, colours, strict=True))


def test_a_method_has_one_colour_in_every_chart():
    for grpo, sdpo in (("grpo", "sdpo"), ("chemistry_grpo", "chemistry_sdpo"), ("kata_grpo", "kata_sdpo")):
        drawn = shades([sdpo, grpo])
        assert (drawn[grpo], drawn[sdpo]) == (style.METHOD_COLOURS["grpo"], style.METHOD_COLOURS["sdpo"])
    assert shades(["GRPO, live"])["GRPO, live"] == style.METHOD_COLOURS["grpo"]


def test_what_is_no_method_of_its_own_looks_like_none():
    drawn = shades(["kata_grpo", "kata_sdpo", "kata_sdpo_feedback", "kata_sdpo_both", "live"])
    assert len(set(drawn.values())) == 5
    assert {drawn["kata_sdpo_feedback"], drawn["live"]}.isdisjoint(style.METHOD_COLOURS.values())


def test_no_method_has_the_colour_of_the_regenerated_context():
    assert style.CONTEXT_COLOURS["regenerated"] not in style.METHOD_COLOURS.values()
