"""Any JSON at all: the reader of rollouts gives completions and counts that add up, or a one-line refusal."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from sdlab.errors import SdlabError
from sdlab.reading.column_names import NAMES
from sdlab.reading.files import rollouts_of, token_counts
from sdlab.reading.json_rows import UnknownShape, rows_of
from sdlab.reading.rows import read_rows

WORDS = [
    "role",
    "user",
    "assistant",
    "content",
    "type",
    "text",
    "length",
    "finish_reason",
    "usage",
    "gold_index",
    "choices",
]
names = st.sampled_from([*sorted(NAMES), *WORDS, "0", "x"])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**64),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        [*WORDS, "<|im_start|>user\nq", '[{"role": "user"}]', '{"choices": [3]}', "\\boxed{", "#### 4"]
    ),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(names, values, max_size=5), min_size=1, max_size=4))
def test_any_rows(rows):
    try:
        rollouts = rollouts_of(rows, "x.jsonl")
    except SdlabError as error:
        assert "\n" not in str(error)
        return
    assert rollouts.rows and all(isinstance(row["completion"], str) for row in rollouts.rows)
    assert all(row["truncated"] in (0, 1, None) and row["recorded"] in (0, 1, None) for row in rollouts.rows)
    assert {row["row"] for row in rollouts.rows} <= set(range(len(rows)))
    (count,) = [note for note in rollouts.notes if " rows read: " in note]
    assert count.startswith(f"{len(rows):,} rows read: {len(rollouts.rows):,} completions, ")
    assert f"; {rollouts.left_out:,} completions left out." in count
    # every row has a completion, or an entry among what is left out, or repeats another one
    without = len(rows) - len({row["row"] for row in rollouts.rows})
    repeats = sum(int(note.split()[0]) for note in rollouts.notes if "one for each filter" in note)
    assert without <= rollouts.left_out + repeats
    token_counts(rollouts.rows)


@settings(max_examples=150, deadline=None)
@given(values)
def test_any_value_of_a_file(value):
    try:
        rows, _ = rows_of(value)
    except UnknownShape as error:
        assert "\n" not in str(error)
        return
    assert rows and all(isinstance(row, dict) for row in rows)
    leaves = json.dumps(value).count("\\boxed{")
    assert json.dumps(rows).count("\\boxed{") == leaves  # nothing of it is lost


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(st.binary(max_size=30), st.text(max_size=30).map(str.encode)),
    name=st.sampled_from(["x.json", "x.jsonl", "x.txt"]),
)
def test_any_bytes(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    for errors in ("strict", "replace"):
        try:
            assert all(isinstance(row, dict) for row in read_rows(path, errors)[0])
        except SdlabError as error:
            assert name in str(error)
