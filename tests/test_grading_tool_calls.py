"""Tool calls: what is read from a completion, and which completions are right."""

import itertools
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import CPU_SECONDS

from sdlab.errors import SdlabError
from sdlab.grading.score import extract_answer, grade
from sdlab.grading.tool_calls import is_calls, read_calls, same_calls, truth_calls

scalars = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(alphabet='a{}"\\\n:', max_size=5))
values = st.recursive(
    scalars,
    lambda deeper: st.lists(deeper, max_size=2) | st.dictionaries(st.text(max_size=2), deeper, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(st.text(alphabet='k}"', max_size=3), values, max_size=3)
calls = st.lists(
    st.tuples(st.sampled_from(["find", "[Optional]save", "get-it.v2"]), objects), min_size=1, max_size=3
)


def truth_of(made):
    return json.dumps([{"Action": name, "Action_Input": json.dumps(arguments)} for name, arguments in made])


def written(made, indent=None):
    return "Thought: well\n" + "\n".join(
        f"Action: {name}\nAction Input: {json.dumps(arguments, indent=indent)}" for name, arguments in made
    )


@settings(deadline=None, max_examples=60)
@given(calls, st.sampled_from([None, 2]), st.randoms())
def test_the_calls_of_the_truth_in_any_order_are_right(made, indent, random):
    mixed = random.sample(made, len(made))
    assert grade([written(mixed, indent)], [truth_of(made)]) == [1.0]


def plain(value):
    """Tells true from 1, which Python's == does not."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else (type(value).__name__, value)


@settings(deadline=None, max_examples=60)
@given(calls, calls)
def test_other_calls_are_wrong(made, truth):
    same = any(
        [(name, plain(arguments)) for name, arguments in order]
        == [(name, plain(arguments)) for name, arguments in truth]
        for order in itertools.permutations(made)
    )
    assert grade([written(made)], [truth_of(truth)]) == [float(same)]


TRUTH = truth_of([("find", {"page": 1, "who": "me"}), ("find", {"page": 2, "who": "you"})])


@pytest.mark.parametrize(("completion", "right"), [
    ('Action: find\nAction Input: {"who": "me", "page": 1.0}\nObservation: 3\n\n'
     'Action: find\n Action Input:\n{"page": 2, "who": "you"}\nDone.', True),
    ('<think>\nAction: save\nAction Input: {}\n</think>\n'
     'Action: find(\nAction Input: {"page": 1, "who": "me"}\n'
     'Action: find\nAction Input: {"page": 2, "who": "you"}', True),
    # arguments changed places
    ('Action: find\nAction Input: {"page": 1, "who": "you"}\n'
     'Action: find\nAction Input: {"page": 2, "who": "me"}', False),
    ('Action: find\nAction Input: {"page": 2, "who": "you"}', False),  # a call is missing
    # a text is not a number
    ('Action: find\nAction Input: {"page": "1", "who": "me"}\n'
     'Action: find\nAction Input: {"page": 2, "who": "you"}', False),
    ('Action: find\nAction Input: {"page": true, "who": "me"}\n'
     'Action: find\nAction Input: {"page": 2, "who": "you"}', False),
    (TRUTH, False), ("I would search.", False), ("", False),
])  # fmt: skip
def test_by_hand(completion, right):
    assert grade([completion], [TRUTH]) == [float(right)]


@pytest.mark.parametrize("text", [
    "Action: find", "Action: find\nAction Input: {", "Action: find\nAction Input: []",
    "Action:\nAction Input: {}", "Action: find\nAction Input: {'a': 1}",
    'Action: find\nAction Input: {"a": NaN}', 'Action: find\nAction Input: {"a": ' + "9" * 5000 + "}",
    'Action: find\nAction Input: {"a": ' + "[" * 50_000, 'Action: find\nAction Input: {}\nAction: find',
    "no call",
])  # fmt: skip
def test_what_cannot_be_read_is_no_answer(text):
    assert read_calls(text) is None and not same_calls(read_calls(text), TRUTH)


def test_long_texts_take_linear_time():
    for text in (
        "Action: a\n" * 100_000,
        "Action: a\n" + "\n" * 500_000,
        "Action: a\nAction Input: {}\n" * 50_000,
        "Action:" + " " * 500_000,
    ):
        started = time.process_time()
        read_calls(text)
        assert time.process_time() - started < CPU_SECONDS  # a quadratic scan takes minutes


@pytest.mark.parametrize(
    "truth",
    [
        '[{"Action": "find"}]',
        '[{"Action": "find", "Action_Input": "x"}]',
        '[{"Action": "find", "Action_Input": "[1]"}]',
        '[{"Action"',
    ],
)
def test_a_truth_that_is_no_list_of_calls_is_told(truth):
    assert is_calls(truth)
    with pytest.raises(SdlabError, match="is no list of tool calls"):
        grade([written([("find", {})])], [truth])


def test_the_answer_of_a_completion_is_its_calls_and_its_text_is_never_run(tmp_path):
    assert (
        extract_answer(written([("find", {"b": 1, "a": 2})]), TRUTH)
        == '[{"Action": "find", "Action_Input": {"a": 2, "b": 1}}]'
    )
    trap = tmp_path / "ran"
    assert (
        grade([f"Action: __import__('pathlib').Path('{trap}').touch()\nAction Input: {{}}"], [TRUTH]) == [0]
        and not trap.exists()
    )


def test_every_real_item(sdlab_real_data):
    rows = [
        json.loads(line)
        for line in sdlab_real_data("tooluse_test.json").read_text().splitlines()
        if line.strip()
    ]
    made = [
        [(call["Action"], json.loads(call["Action_Input"])) for call in json.loads(row["answer"])]
        for row in rows
    ]
    truths = [row["answer"] for row in rows]
    assert grade([written(one) for one in made], truths) == [1.0] * 68
    shifted = grade([written(one) for one in made[1:] + made[:1]], truths)
    assert (
        sum(shifted)
        == sum(truth_calls(a) == truth_calls(b) for a, b in zip(truths[1:] + truths[:1], truths, strict=True))
        < 5
    )
    assert grade([written(one[:-1]) for one in made], truths) == [0.0] * 68
