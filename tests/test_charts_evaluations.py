import dataclasses
import re

import numpy as np
import pandas
import pytest

from sdlab.charts.evaluations import pass_at_k_curves, pass_rates
from sdlab.charts.histogram import rate_histogram
from sdlab.charts.picture import OKABE_ITO, alt_text, svg_of, with_theme
from sdlab.charts.score_length import score_against_length
from sdlab.errors import SdlabError
from sdlab.results.comparison import comparison
from sdlab.results.result import make_result


def result(model, rates, benchmark="aime24", samples=16, length=100.0, unit="tokens"):
    """A result whose problem i has rates[i] * samples right answers."""
    rows = [
        {
            "problem_id": f"{benchmark}/{i:02d}",
            "generation": g,
            "completion": "",
            "answer": "",
            "reward": float(g < round(rate * samples)),
            "verdict": 0.0,
            "length": length + g,
            "markers": 1.0,
            "markers_substring": 1.0,
            "truncated": 0.0,
        }
        for i, rate in enumerate(rates)
        for g in range(samples)
    ]
    questions = pandas.DataFrame(
        [
            {
                "problem_id": f"{benchmark}/{i:02d}",
                "domain": "",
                "split": "",
                "kind": "",
                "prompt": f"{benchmark} {i}?",
                "truth": "1",
            }
            for i in range(len(rates))
        ]
    )
    return make_result(
        model,
        benchmark,
        pandas.DataFrame(rows),
        questions,
        {"length_unit": unit, "notes": [], "settings": {}},
    )


RATES = np.random.default_rng(0).permutation(np.repeat([0, 0.25, 0.5, 0.75, 1], 6))  # 30 problems
BASE, TRAINED = result("org/Base-7B", RATES), result("organism", RATES / 2, length=40)


def drawn(chart):
    """(specification, svg, labels of the marks): drawn for real, without addresses except namespaces."""
    with_theme()
    spec = chart.to_dict()
    svg = svg_of(spec)
    assert set(re.findall(r"https?://[^\"' <]+", svg)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    return spec, svg, re.findall(r'aria-label="([^"]*)"', svg)


def test_every_problem_has_its_rate_with_the_exact_interval_sorted():
    spec, svg, labels = drawn(pass_rates([BASE, TRAINED]))
    points = [label for label in labels if " right, " in label]
    assert len(points) == 60
    worst = BASE.problems.sort_values("rate").iloc[0]
    assert (
        f"{worst['problem_id']}, org/Base-7B: 0 of 16 right, 0.00 to 0.21" in points
    )  # Clopper and Pearson's for 0 of 16
    words = alt_text(spec)
    assert words.startswith(
        "Each problem's pass rate. aime24. org/Base-7B: 6 of 30 problems never solved, 6 always; mean 0.50; "
        "half of the intervals are wider than 0.4"
    )
    assert "organism: 6 of 30 problems never solved, 0 always; mean 0.25" in words
    names = re.findall(r">(aime24/\d\d)</text>", svg)
    ordered = BASE.problems.set_index("problem_id").loc[names, "rate"].tolist()
    assert len(names) == 30 and ordered == sorted(ordered, reverse=True)
    assert OKABE_ITO[0] in svg and OKABE_ITO[1] in svg


def test_hundreds_of_problems_and_equal_names_of_other_problems():
    many = result("m", np.linspace(0, 1, 500))
    _, svg, labels = drawn(pass_rates([many]))
    assert "500 problems" in svg and len([label for label in labels if " right, " in label]) == 500
    other = result("n", [0.5])
    other = dataclasses.replace(other, problems=other.problems.assign(key="another"))
    _, svg, _ = drawn(pass_rates([result("m", [0.5]), other]))
    assert len(re.findall(r">aime24/00 \(\w+\)</text>", svg)) == 2


def test_pass_rates_of_several_benchmarks_or_of_nothing_are_refused():
    with pytest.raises(SdlabError, match="results of 2 benchmarks; it shows one"):
        pass_rates([BASE, result("m", [1], "amc23")])
    with pytest.raises(SdlabError, match="empty frame"):
        pass_rates([dataclasses.replace(BASE, problems=BASE.problems.assign(rate=np.nan))])


def test_pass_at_k_has_a_band_per_model_and_marks_where_problems_are_left_out():
    few = dataclasses.replace(
        result("organism", [0.5, 1.0], "amc23"),
        problems=pandas.concat(
            [
                result("organism", [0.5, 1.0], "amc23").problems,
                result("organism", [0.5], "amc23", samples=4).problems.assign(problem_id="late"),
            ],
            ignore_index=True,
        ),
    )
    curves = pandas.concat([BASE.pass_at_k(), TRAINED.pass_at_k(), few.pass_at_k()])
    spec, _svg, labels = drawn(pass_at_k_curves(curves))
    points = [label for label in labels if ", pass@" in label]
    assert (
        len(points) == 48 and sum("1 problems left out" in label for label in points) == 12
    )  # k = 5 ... 16 of one model
    first = BASE.pass_at_k().iloc[2]
    assert f"org/Base-7B, pass@3: {first['mean']:.3f} ({first['low']:.2f} to {first['high']:.2f})" in points
    assert "aime24, org/Base-7B: 0.50 at k=1 and 0.80 at k=16" in alt_text(spec)
    with pytest.raises(SdlabError, match="left_out not in the frame"):
        pass_at_k_curves(curves.drop(columns="left_out"))


def test_score_against_length_holds_the_organism_and_real_models():
    words = result("somebody", [1.0], "math500", length=1000, unit="words")
    table = comparison([BASE, TRAINED, words], metrics=("reward", "length"))
    spec, svg, labels = drawn(score_against_length(table))
    points = [label for label in labels if ": score " in label]
    row = table[(table["model"] == "organism") & (table["metric"] == "reward")].iloc[0]
    assert (
        f"organism, aime24: score {row['mean']:.2f} ({row['low']:.2f} to {row['high']:.2f}), length 48 tokens"
        in points
    )
    assert (
        any("length 1,008 words" in label for label in points) and len(points) == 3 and "hollow: words" in svg
    )
    assert "somebody on math500: score 1.00" in alt_text(spec) and "1,008 words" in alt_text(spec)
    assert all(
        f">{name}</text>" in svg for name in ("org/Base-7B", "organism", "somebody", "aime24", "math500")
    )
    with pytest.raises(SdlabError, match="none has both"):
        score_against_length(table[table["metric"] == "reward"])


def test_unreadable_completions_stand_in_every_chart():
    half = result("half", [0.5, 0.5])
    answers = half.samples["answer"].where(half.samples["generation"] % 4 > 0)
    samples = half.samples.assign(answer=answers)
    half = make_result("half", "aime24", samples, half.problems, half.about)
    assert half.unreadable == "8 of 32"
    _, svg, _ = drawn(pass_rates([half]))
    assert "8 of 32 completions have no readable answer" in svg
    _, svg, _ = drawn(pass_at_k_curves(half.pass_at_k()))
    assert "half: 25% without a readable answer" in svg
    _, svg, labels = drawn(score_against_length(comparison([half, TRAINED])))
    assert "without a readable answer: half on aime24 25%" in svg
    assert [("no readable answer: 25%" in label) for label in labels if "score 0" in label][:2].count(
        True
    ) == 1


def test_the_histogram_counts_problems_by_fifths_of_the_pass_rate():
    drawn = rate_histogram([result("a", [0, 0.1875, 0.25, 1, 1]), result("b", [0.5])]).to_dict()
    frames = [[row["problems"] for row in rows] for rows in drawn["datasets"].values()]
    assert frames == [[2, 1, 0, 0, 2], [0, 0, 1, 0, 0]]
    assert "a: 2 at 0.0 to 0.2, 1 at 0.2 to 0.4" in drawn["description"]
    with pytest.raises(SdlabError, match="no problem with a verdict"):
        rate_histogram([])
