"""Titles of charts about contexts: they state what the numbers say, whatever the numbers are."""

import pandas
import pytest

from sdlab.findings import context_titles


def frame(columns: str, *rows: tuple) -> pandas.DataFrame:
    return pandas.DataFrame(list(rows), columns=columns.split())


def test_what_a_hint_is_worth():
    curve = frame("reliability information", (0.5, 0.0), (0.7, 0.1), (0.8, 0.2), (1.0, 0.6))
    title = "Right 75% of the time, a hint is worth 25% of a sure one"
    assert context_titles.hint_title(curve) == title
    assert context_titles.hint_title(curve, 1.0).endswith("worth 100% of a sure one")


def test_traces_without_a_marker():
    rows = [(c, m, 0.1) for c in ("no hint", "wrong hint") for m in ("0 markers", "1 marker")]
    shares = frame("context marker mean", *rows, ("right hint", "0 markers", 0.52))
    title = "No marker: 52% of the traces after a right hint, 10% without a hint"
    assert context_titles.spread_title(shares) == title


def test_how_much_too_large_the_usual_estimate_is():
    rows = ("exact_information", 2.0), ("information", 1.0), ("exact_plug_in", 5.0), ("nats", 4.0)
    title = "The plug-in is 2.5 times the true information (the model's: 4.0 times)"
    assert context_titles.plug_in_title(frame("metric mean", *rows)) == title


def test_what_processing_keeps():
    links = {"solution": 0.6931, "regenerated": 0.63, "solution_no_think": 0.62}
    title = "Of 0.69 nats, writing anew keeps 0.63, cutting the thinking 0.62"
    assert context_titles.chain_title(links) == title


@pytest.mark.parametrize(
    ("markers", "title"),
    [
        ((0.2, 1.4), "Most information and fewest markers: full solution"),
        ((1.4, 0.2), "Most information: full solution; fewest markers: regenerated"),
    ],
)
def test_the_context_with_the_most_information(markers, title):
    rows = zip(("solution", "regenerated"), (0.7, 0.6), markers, strict=True)
    assert context_titles.extremes_title(frame("context information markers", *rows)) == title


def test_the_largest_index_is_named_so():
    rows = frame("context information markers", ("own", 0.7, 1.0), ("none", 0.1, 2.0))
    assert context_titles.extremes_title(rows, "largest index") == "Largest index and fewest markers: own"


def test_markers_with_and_without_a_context():
    markers = pandas.Series({"none": 7.42, "solution": 0.0, "regenerated": 5.8})
    title = "Markers per completion: 7.4 without context, 0.00 to 5.8 with one"
    assert context_titles.markers_title(markers) == title
    one = context_titles.markers_title(markers.drop("regenerated"))
    assert one == "Markers per completion: 7.4 without context, 0.00 with one"


def test_kinds_of_tokens_from_the_largest():
    sizes = frame("kind mean", ("other", 0.22), ("marker", 2.5), ("digit", 0.38))
    title = "Mean |u|: 2.5 nats at markers, 0.38 at digit, 0.22 at other tokens"
    assert context_titles.kinds_title(sizes) == title


def test_problems_of_middle_difficulty():
    rates = pandas.Series([0, 1 / 8, 4 / 8, 5 / 8])
    title = "2 of 4 problems are solved in 1 to 4 of 8 tries"
    assert context_titles.base_rate_title(rates, 8, 1 / 8, 4 / 8) == title
