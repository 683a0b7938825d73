"""What readers see in tables: labels of contexts, "score", "problem", whole numbers, and the right plural."""

import pandas

from sdlab.benchmarks.coverage import SamplingPlan
from sdlab.findings import (
    before_after,
    coverage_data,
    coverage_groups,
    early_warning,
    objections,
    real_models,
)
from sdlab.text.plural import plural
from sdlab.text.prompt import CONTEXTS
from sdlab.world.splits import load_split

LABELS = ["no context", "full solution", "solution without think", "regenerated"]


def test_a_noun_follows_its_number():
    assert [plural(n, "method") for n in (0, 1, 2, 1024)] == [
        "0 methods", "1 method", "2 methods", "1,024 methods"]  # fmt: skip
    assert plural(1, "method is", "methods are") == "1 method is"
    assert plural(3, "method is", "methods are") == "3 methods are"


def test_the_sentence_about_one_method_is_in_the_singular():
    runs = pandas.DataFrame({"method": ["a"], "failed": [True]})
    assert early_warning.mixed_words(runs).startswith("0 of 1 method have failed and healthy runs")
    claims = {"it warns": {"verdict": "yes", "measured": "1.00"}}
    assert early_warning.settled_words(claims)[0] == "Verdicts on 1 claim: yes 1."


def test_table_one_has_labels_and_the_papers_whole_numbers():
    frame = pandas.DataFrame([
        {"problem_id": i, "context": context, "reward": 1.0, "length": 30.0, "markers": 0.0}
        for context in CONTEXTS for i in range(3)
    ])  # fmt: skip
    table = real_models.beside_the_paper({"mine": frame})
    assert list(table.columns) == LABELS
    paper = table.loc["paper: DeepSeek-R1-Distill-Qwen-7B"]
    assert paper.loc["length"].tolist() == ["13,054", "1,873", "12,036", "2,808"]
    assert paper.loc["score"].tolist() == ["0.30", "0.98", "0.78", "0.95"]
    assert paper.loc["markers"].tolist() == ["182.5", "8.8", "159.8", "24.1"]
    assert table.loc[("mine", "score")].tolist() == ["1.00 [0.29, 1.00]"] * 4


def test_the_share_of_the_loss_is_under_the_labels_of_the_contexts():
    tokens = pandas.DataFrame({
        "name": ["p", "p", "q", "q"], "marker": ["wait", "", "wait", ""], "u": [-2.0, 0.1, -1.0, 0.1],
        "divergence": [0.4, 0.1, 0.2, 0.1], "entropy": [1.0] * 4,
    })  # fmt: skip
    table = objections.marker_share_table({"solution": tokens, "solution_no_think": tokens})
    assert list(table.columns) == LABELS[1:3]
    assert table.loc["markers' share of the loss"].tolist() == ["75%", "75%"]


def test_questions_of_records_are_problems_for_readers():
    ways = pandas.DataFrame([
        {"population": "all", "drawn": "every question once", "size": 14_000, "touched": 14_000.0,
         "share": 1.0, "off the paper's number": 0.0, "off its share": 0.22},
    ])  # fmt: skip
    assert list(coverage_data.plan_table(ways).columns) == ["every problem once"]
    fits = coverage_data.plans_that_fit(ways)
    assert fits["14,000 problems (within 1%)"] == ["all, every problem once (14,000, 100.0%)"]
    assert fits["both"] == []
    held = pandas.DataFrame({"what": ["x: distinct questions"], "paper": [8], "file": [8], "agrees": [True]})
    assert coverage_data.compared_numbers(held).loc["x: distinct problems"].tolist() == ["8", "8", "yes"]


def test_a_number_of_types_is_whole():
    curves = coverage_groups.accumulation_curves({"sizes": [3, 1]}, {})
    table = coverage_groups.met_in(curves, 2)
    assert table["of"].tolist() == [2] and pandas.api.types.is_integer_dtype(table["of"])
    assert table.loc["sizes", "met in 2 problems"] == 1.5  # of the six pairs, three have both types


def test_a_chart_of_training_states_the_first_and_the_last_value():
    steps = pandas.DataFrame([
        {"condition": name, "seed": seed, "step": step, "reward": value + shift, "markers": 10 * value}
        for name, curve in {"grpo": (0.5, 0.6, 0.9), "sdpo": (0.5, 0.7, 0.1)}.items()
        for step, value in reversed(list(enumerate(curve)))
        for seed, shift in enumerate((-0.05, 0.05))
    ])  # fmt: skip
    title = before_after.first_to_last(steps, {"grpo": "GRPO"})
    assert title == "Training score, first to last step: GRPO 0.50 to 0.90; sdpo 0.50 to 0.10"
    assert before_after.first_to_last(steps, metric="markers") == (
        "Training markers, first to last step: grpo 5.0 to 9.0; sdpo 5.0 to 1.00"
    )


def test_numbers_of_problems_have_no_decimals():
    problems = load_split("chemistry-train")[:200]
    table = coverage_data.not_coverage(problems, SamplingPlan(steps=10, num_problems=32))
    assert table.loc["the 64, each in 4 rows", ["rows", "distinct problems"]].tolist() == ["256", "64"]
    assert table.loc["the first of them, 64 rows", "completions per problem"] == "2,560"


def test_titles_state_what_the_draws_leave_out_and_what_they_meet():
    shares = pandas.DataFrame({"plan": ["a", "a", "b"], "times": [0, 1, 0], "share": [0.239, 0.7, 0.0]})
    assert coverage_data.exposure_title(shares, 17_900) == (
        "By the plan, 0% to 24% of 17,900 problems are never drawn"
    )
    curves = coverage_groups.accumulation_curves({"few": [8, 8], "many": [1] * 16}, {})
    assert coverage_groups.met_title(curves, 8) == (
        "8 problems meet nearly all types in 1 of 2 sets, and 50% of many"
    )
