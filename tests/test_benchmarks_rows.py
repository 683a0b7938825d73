"""Rows and prompts: DAPO's instruction is replaced by the boxed one, and every layout is read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdlab.benchmarks.rows import BOXED, CHOICE, boxed_prompt, read_row, reader
from sdlab.errors import SdlabError
from sdlab.grading.score import grade

# The raw form of DAPO-Math-17k, as the study's README shows it.
RAW = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where "
    "$Answer is the answer to the problem.\n\n{}\n\nRemember to put your answer on its own line after "
    '"Answer:".'
)
MATH = [
    "dapo_seen_1x64",
    "dapo_seen_8x8",
    "dapo_seen_64",
    "dapo_seen_128",
    "dapo_seen_512",
    "aime24",
    "amc23",
    "math500",
]


def real_prompts(path):
    import pandas

    for cell in pandas.read_parquet(path)["prompt"]:
        yield (json.loads(cell) if isinstance(cell, str) else cell)[-1]["content"]


@pytest.mark.parametrize("name", MATH)
def test_every_real_prompt_is_left_as_it_is_and_comes_back_from_dapo_s_form(name, sdlab_real_data):
    pytest.importorskip("pyarrow")
    for prompt in real_prompts(sdlab_real_data(f"{name}.parquet")):
        question = prompt.removesuffix(BOXED).rstrip()
        assert question != prompt and boxed_prompt(prompt) == prompt  # the study's own form
        # one AMC question has a space before the line break, which only comes back from the study's own form
        study = f"{question}\n{BOXED}"
        assert study == prompt or prompt.split() == study.split()
        for raw in (RAW.format(question), f"{question}\n\n{BOXED}", question, f"  {RAW.format(question)}\n"):
            assert boxed_prompt(raw) == study


BEFORE, AFTER = RAW.split("{}")


@settings(deadline=None)
@given(
    st.text(max_size=40),
    st.sampled_from(["", BEFORE]),
    st.sampled_from(["", AFTER, AFTER.rstrip("."), f"\n{BOXED}", f"\n\n{BOXED}", f"{AFTER}\n{BOXED}"]),
)
def test_idempotent_with_one_instruction_and_nothing_of_the_other(question, before, after):
    once = boxed_prompt(before + question + after)
    assert boxed_prompt(once) == once
    assert once.removesuffix(BOXED).strip() == question.strip() and once.endswith(f"\n{BOXED}")


def test_the_question_s_own_words_stay():
    question = 'Solve the following math problem step by step in your head. What goes after "Answer:"?'
    assert boxed_prompt(question) == f"{question}\n{BOXED}"


def read(grading, row, graded=True):
    return read_row(reader(grading, list(row), "x.json")[1], row, 0, "x.json", graded)


@pytest.mark.parametrize(
    ("row", "answer", "kind"),
    [
        (
            {
                "prompt": [{"role": "user", "content": RAW.format("1 + 1?")}],
                "reward_model": {"ground_truth": "2"},
            },
            "2",
            "",
        ),
        ({"prompt": "1 + 1?", "reward_model": '{"ground_truth": "2"}', "solution": "2"}, "2", ""),
        ({"prompt": "1 + 1?", "answer": 2}, "2", ""),
        (
            {"problem": "1 + 1?", "answer": "2", "unique_id": "test/algebra/7.json", "solution": "so 2"},
            "2",
            "algebra",
        ),
        ({"problem": "1 + 1?", "solution": "\\boxed{2}"}, "2", ""),
        ({"question": "1 + 1?", "answer": 2.0}, "2.0", ""),
        ({"question": "1 + 1?", "answer": "1 and 1\n#### 2"}, "2", ""),
        ({"prompt": "1 + 1?", "answer": "So it is \\boxed{2}."}, "2", ""),
        ({"prompt": "1 + 1?", "reward_model": {"ground_truth": "\\boxed{1} or \\fbox{2}"}}, "2", ""),
    ],
)
def test_layouts_of_mathematics(row, answer, kind):
    assert read("math", row) == (f"1 + 1?\n{BOXED}", answer, kind)


def test_multiple_choice_says_how_to_answer_and_is_graded_so():
    hub = {
        "question": "Which?",
        "choices": {"text": ["an ether", "an ester"], "label": ["A", "B"]},
        "answerKey": "B",
    }
    plain = {
        "prompt": "Which?\n\nA: an ether\nB: an ester\nPlease reason step by step.",
        "answer": "B",
        "system": f"\n{CHOICE}\n",
        "kind": "mcq",
    }
    verl = {
        "prompt": [{"role": "system", "content": CHOICE}, {"role": "user", "content": plain["prompt"]}],
        "reward_model": {"ground_truth": "B"},
    }
    assert read("choice", hub) == read("choice", plain) == read("choice", verl)._replace(kind="mcq")
    assert (
        read("choice", hub).prompt
        == f"{CHOICE}\n\nWhich?\n\nA: an ether\nB: an ester\nPlease reason step by step."
    )
    right = [
        "<answer>\nB\n</answer>",
        "\\boxed{B}",
        "\\boxed{74.1} g, so <answer>b</answer>",
        "<answer>A</answer> no: <answer>(B)</answer>",
        "<answer>B</answer> with \\boxed{74.1}",
    ]
    wrong = [
        "<answer>A</answer>",
        "B",
        "<answer>B",
        "\\boxed{B} or rather <answer>A</answer>",
        "<answer>an ester</answer>",
    ]
    assert grade(right + wrong, ["B"] * 10) == [1] * 5 + [0] * 5


def test_the_real_system_message_is_the_one_for_the_hub_s_rows(sdlab_real_data):
    for name in ("train", "test"):
        rows = [
            json.loads(line)
            for line in sdlab_real_data(f"sciknoweval_chemistry_{name}.json").read_text().splitlines()
            if line.strip()
        ]
        assert {row["system"].strip() for row in rows} == {CHOICE}
        assert all(row["prompt"].endswith("\nPlease reason step by step.") for row in rows)


def test_tool_use_without_a_system_message():
    truth = '[{"Action": "find", "Action_Input": "{}"}]'
    for system in ("None", None, "-", ""):
        row = {"prompt": "Call it.", "answer": truth, "system": system, "kind": "tooluse"}
        assert read("calls", row) == ("Call it.", truth, "tooluse")


def test_programs_have_no_answer():
    row = {"question_content": "Add.", "starter_code": "class Solution:\n    pass\n", "difficulty": "easy"}
    assert read("", row, graded=False) == (
        "Add.\n\nStart from this code:\n```python\nclass Solution:\n    pass\n```",
        "",
        "easy",
    )
    assert read("", row | {"starter_code": ""}, graded=False).prompt == "Add."
    with pytest.raises(SdlabError, match="cannot be graded"):
        grade(["print(1)"], [""])


@pytest.mark.parametrize(
    ("grading", "columns", "told"),
    [
        (
            "math",
            ["problem", "url"],
            r"x.json lacks the column 'answer'; it has problem, url, and needs "
            r".*problem and answer",
        ),
        ("math", ["prompt"], "lacks the column 'reward_model'"),
        ("math", [], "lacks the column .*; it has none"),
        ("choice", ["question", "choices"], "lacks the column 'answerKey'"),
        ("calls", ["answer"], "lacks the column 'prompt'"),
        ("", ["question_content"], "lacks the column 'starter_code'"),
    ],
)
def test_a_missing_column_is_named(grading, columns, told):
    with pytest.raises(SdlabError, match=told):
        reader(grading, columns, "x.json")


@pytest.mark.parametrize(
    ("grading", "row", "told"),
    [
        ("math", {"prompt": "", "answer": "2"}, "row 0: no question"),
        ("math", {"prompt": " ", "answer": "2"}, "row 0: no question"),
        ("math", {"problem": "1 + 1?", "answer": None}, "row 0: no answer"),
        ("math", {"problem": None, "answer": "1"}, "row 0: no question"),
        (
            "choice",
            {"question": "q", "choices": {"text": ["a"], "label": []}, "answerKey": "A"},
            r"row 0 is not as its columns say \(ValueError",
        ),
        ("choice", {"question": "q", "choices": None, "answerKey": "A"}, "row 0 is not as its columns say"),
        ("calls", {"prompt": "Call.", "answer": ""}, "row 0: no answer"),
        ("calls", {"prompt": "Call.", "answer": "find"}, "row 0: 'find' is no list of tool calls"),
        (
            "choice",
            {"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "ketone"},
            "row 0: .*'ketone' is no choice",
        ),
        (
            "math",
            {"problem": "1 + 1?", "solution": "We add and get 2."},
            "row 0: no .*boxed.* in the solution 'We add",
        ),
        ("math", {"problem": "1 + 1?", "solution": "It is \\boxed{2"}, "row 0: no answer can be extracted"),
        ("math", {"question": "1 + 1?", "answer": "It is \\boxed{}."}, "row 0: no answer can be extracted"),
        ("math", {"question": "1 + 1?", "answer": "We add.\nIt is 2."}, "row 0: no answer can be extracted"),
        ("math", {"question": "1 + 1?", "answer": "We add. #### "}, "row 0: no answer can be extracted"),
        ("math", {"prompt": "1 + 1?", "answer": "We add. " * 80}, "row 0: no answer can be extracted"),
        (
            "math",
            {"prompt": "1 + 1?", "reward_model": {"ground_truth": "\\boxed{2"}},
            "row 0: no answer can be extracted",
        ),
    ],
)
def test_bad_rows_are_told(grading, row, told):
    with pytest.raises(SdlabError, match=told):
        read(grading, row)
