"""One reader of problems behind every name: columns, answers, prompts, and what is wrong with a file."""

import json

import pytest

from sdlab.benchmarks.problems import ProblemSource, load_problems
from sdlab.benchmarks.prompts import BOXED, PromptStyle
from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.grading.score import grade
from sdlab.world.splits import load_split


def jsonl(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("question", ["question", "problem", "prompt", "Question"])
@pytest.mark.parametrize("answer", ["answer", "solution", "ground_truth", "Answer"])
def test_the_usual_columns_are_recognised(tmp_path, question, answer):
    path = jsonl(tmp_path / "my.jsonl", {question: "1 + 1?", answer: "2"}, {question: "2 + 2?", answer: 4})
    assert [(one.prompt, one.answer) for one in load_problems(path)] == [
        (f"1 + 1?\n{BOXED}", "2"),
        (f"2 + 2?\n{BOXED}", "4"),
    ]


@pytest.mark.parametrize(
    ("cell", "answer", "right"),
    [
        ("He has 30 + 4 = <<30+4=34>>34 apples.\n#### 34", "34", "34"),
        ("It costs a lot.\n#### 1,234", "1,234", "1234"),
        ("So the sum is $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}", "0.5"),
        ("34 apples", "34 apples", "34"),
        ("$18", "$18", "18"),
        ("1,000,000", "1,000,000", "1000000"),
        (7, "7", "7"),
        (0.25, "0.25", "\\frac14"),
    ],
)
def test_answers_are_extracted_and_the_grader_reads_them(tmp_path, cell, answer, right):
    (problem,) = load_problems(jsonl(tmp_path / "my.jsonl", {"question": "?", "answer": cell}))
    assert problem.answer == answer
    assert grade([f"so \\boxed{{{right}}}", "so \\boxed{99}"], [problem.answer] * 2) == [1, 0]


def test_named_columns_and_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = tmp_path / "my.parquet"
    pandas.DataFrame({"text": ["1 + 1?"], "label": [2], "answer": [3]}).to_parquet(path)
    (problem,) = load_problems(path, question_column="text", answer_column="label")
    assert (problem.prompt, problem.answer, problem.id) == (f"1 + 1?\n{BOXED}", "2", "my/0000")


@pytest.mark.parametrize(
    "question",
    [
        "1 + 1? Write \\boxed{...}.",
        "1 + 1? End with #### and the number.",
        "1 + 1? <answer>...</answer>",
        f"1 + 1?\n{BOXED}",
    ],
)
def test_a_question_that_asks_for_a_format_is_left_as_it_is(tmp_path, question):
    path = jsonl(tmp_path / "my.jsonl", {"question": question, "answer": "2"})
    assert load_problems(path)[0].prompt == question


def test_instruction_system_and_solved_examples(tmp_path):
    path = jsonl(tmp_path / "my.jsonl", {"question": "1 + 1?", "answer": "2"})
    solved = jsonl(
        tmp_path / "solved.jsonl",
        {"question": "2 + 2?", "answer": "Two and two.\n#### 4"},
        {"question": "3 + 3?", "answer": "6"},
    )

    def prompt(**options):
        return load_problems(path, **options)[0].prompt

    assert prompt(instruction="Box it.") == "1 + 1?\nBox it."
    assert prompt(instruction="") == "1 + 1?"
    assert prompt(system="Be brief.") == f"Be brief.\n\n1 + 1?\n{BOXED}"
    assert prompt(system="Be brief.", few_shot=solved) == (
        "Be brief.\n\nProblem: 2 + 2?\nSolution: Two and two.\nThe answer is \\boxed{4}.\n\n"
        "Problem: 3 + 3?\nSolution: The answer is \\boxed{6}.\n\n"
        f"Now solve this problem.\n\n1 + 1?\n{BOXED}"
    )
    split = load_problems("in-domain", 1, system="Be brief.")[0]
    assert split.prompt == f"Be brief.\n\n{load_split('in-domain')[0].prompt}"
    assert PromptStyle(instruction="Box it.").prompt(f"1 + 1?\n{BOXED}") == "1 + 1?\nBox it."


def test_candidates_that_agree_are_no_problem(tmp_path):
    row = {"problem": "1 + 1?", "question": "1 + 1? ", "answer": "2", "solution": "We add: \\boxed{2.0}"}
    prose = {"problem": "1 + 2?", "question": "1 + 2?", "answer": "3", "solution": "We add one and two."}
    problems = load_problems(jsonl(tmp_path / "my.jsonl", row, prose))
    assert [one.answer for one in problems] == ["2", "3"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question": "a"}],
            "my.jsonl has no column of answers; it has question; name the column answer or ground_truth or "
            "solution, or give its name with --answer-column",
        ),
        ([{"x": "a", "answer": "1"}], "no column of questions; it has x, answer; .*--question-column"),
        (
            [{"problem": "a", "answer": "1"}, {"problem": "a", "answer": "5", "solution": "\\boxed{7}"}],
            "my.jsonl, row 1: the columns 'answer' .'5'. and 'solution' .'7'. differ.*--answer-column",
        ),
        (
            [{"question": "a", "prompt": "b", "answer": "1"}],
            "my.jsonl, row 0: the columns 'prompt' .'b'. and 'question' .'a'. differ.*--question-column",
        ),
        ([{"question": "a", "answer": "nan"}], "my.jsonl, row 0: no answer in column 'answer'"),
        ([{"question": "a", "answer": {"x": 1}}], "my.jsonl, row 0: the answer is an object"),
        (
            [{"question": "a", "answer": "because " * 20}],
            "my.jsonl, row 0: the answer 'because .* is a sentence of 20 words.*give the result alone",
        ),
        ([{"question": "a", "solution": "We add and get 2."}], "row 0: no .*boxed.* in the solution"),
    ],
)  # fmt: skip
def test_bad_files_are_named_with_the_row_and_the_remedy(tmp_path, rows, message):
    with pytest.raises(SdlabError, match=message) as raised:
        load_problems(jsonl(tmp_path / "my.jsonl", *rows))
    assert "\n" not in str(raised.value)


def test_a_column_that_is_not_there(tmp_path):
    path = jsonl(tmp_path / "my.jsonl", {"question": "a", "answer": "1"})
    with pytest.raises(SdlabError, match="has no column 'truth'; it has question, answer; .*--answer-column"):
        load_problems(path, answer_column="truth")
    with pytest.raises(SdlabError, match="unseen-types is no file of yours.*leave"):
        load_problems("unseen-types", question_column="prompt")


def test_the_record_of_a_file_is_its_name_and_checksum_wherever_it_lies(tmp_path):
    (tmp_path / "a").mkdir()
    first = jsonl(tmp_path / "my.jsonl", {"question": "a", "answer": "1"})
    second = jsonl(tmp_path / "a" / "my.jsonl", {"question": "a", "answer": "1"})
    record = ProblemSource(str(first)).record()
    assert record == {"name": "my.jsonl", "sha256": sha256(first)} == ProblemSource(str(second)).record()
    assert ProblemSource(str(first), system="x").record() == record | {"system": "x"}
    jsonl(second, {"question": "a", "answer": "2"})
    assert ProblemSource(str(second)).record() != record


def test_a_data_set_of_the_hub(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("sdlab.hub.why_unreachable", lambda url: None)
    rows = [{"question": "1 + 1?", "answer": "It is\n#### 2"}]
    asked = []

    def load_dataset(name, config=None, split=None):
        asked.append((name, config, split))
        table = datasets.Dataset.from_list(rows)
        return table if split else datasets.DatasetDict({"train": table, "test": table})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (problem,) = load_problems("org/sums:main:test")
    assert asked == [("org/sums", "main", "test")]
    assert (problem.prompt, problem.answer, problem.id) == (f"1 + 1?\n{BOXED}", "2", "sums/0000")
    assert ProblemSource("org/sums:test").record()["name"] == "org/sums:test"
    with pytest.raises(SdlabError, match="org/sums has the splits train, test; name one, .*org/sums:train"):
        load_problems("org/sums")


def test_a_hub_name_without_network(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("sdlab.hub.why_unreachable", lambda url: None)

    def load_dataset(*_, **__):
        raise ConnectionError("Couldn't reach 'org/sums' on the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(
        SdlabError, match="no file org/sums, and it could not be read from the hub .*network"
    ) as raised:
        load_problems("org/sums")
    assert "\n" not in str(raised.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SdlabError, match="HF_HUB_OFFLINE is set"):
        load_problems("org/sums")
