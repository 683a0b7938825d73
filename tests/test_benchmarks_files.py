"""Reading questions from files: both layouts, and what is told when a file is not as it should be."""

import importlib.util
import json

import pandas
import pytest

from sdlab.benchmarks.files import load_problems
from sdlab.errors import SdlabError

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1 + 1?"}]


def jsonl(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_verl_layout_in_parquet_and_as_json_text(tmp_path):
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    row = {
        "data_source": "math",
        "prompt": CHAT,
        "reward_model": {"ground_truth": "2"},
        "extra_info": {"index": "test/algebra/7.json"},
    }
    packed = {key: json.dumps(value) if not isinstance(value, str) else value for key, value in row.items()}
    for name, one in (("nested", row), ("packed", packed)):
        path = tmp_path / f"{name}.parquet"
        pandas.DataFrame([one, one]).to_parquet(path)
        (first, second) = load_problems(path)
        assert (first.prompt, first.answer, first.domain, first.kind, first.split) == (
            "What is 1 + 1?",
            "2",
            "math",
            "algebra",
            name,
        )
        assert (first.id, second.id) == (f"{name}/0000", f"{name}/0001")


def test_question_and_answer_layout(tmp_path):
    path = jsonl(
        tmp_path / "chem.json",
        {"prompt": "[Na+] is what?\n", "answer": "A", "kind": "mcq", "dataset": "sci"},
        {"prompt": "B?", "answer": "0", "kind": None},
    )
    first, second = load_problems(path, split="train")
    assert (first.prompt, first.answer, first.kind, first.domain, first.split) == (
        "[Na+] is what?",
        "A",
        "mcq",
        "sci",
        "train",
    )
    assert (second.answer, second.kind, second.domain) == ("0", "", "chem")
    assert [one.id for one in load_problems(path, limit=1)] == ["chem/0000"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"text": "a", "answer": "b"}], "has no column of questions; it has text, answer"),
        ([{"prompt": "a", "answer": "b"}, {"prompt": "", "answer": "b"}], "row 1: no question"),
        ([{"prompt": "a", "answer": None}, {"prompt": "a", "answer": "b"}], "row 0: no answer"),
        (
            [{"prompt": [{"role": "system", "content": "x"}], "reward_model": {"ground_truth": "1"}}],
            "row 0: no question",
        ),
        ([{"prompt": "a", "reward_model": {}}], "row 0: no answer"),
        ([{"prompt": "a", "answer": "we try \\boxed{2"}], "row 0: no answer can be extracted from"),
        ([{"prompt": "a", "answer": "first\nsecond"}], "row 0: no answer can be extracted from"),
        (
            [{"prompt": "a", "reward_model": {"ground_truth": "first\nsecond"}}],
            "row 0: no answer can be extracted from",
        ),
    ],
)
def test_bad_rows_are_told(tmp_path, rows, told):
    with pytest.raises(SdlabError, match=told):
        load_problems(jsonl(tmp_path / "bad.jsonl", *rows))


@pytest.mark.parametrize("limit", [0, -1, 3])
def test_more_questions_than_exist(tmp_path, limit):
    path = jsonl(tmp_path / "two.jsonl", *[{"prompt": "a", "answer": "b"}] * 2)
    with pytest.raises(SdlabError, match=f"{limit} problems asked of two.jsonl, which has 2; choose 1 to 2"):
        load_problems(path, limit=limit)


def test_missing_files_and_parquet_without_pyarrow(tmp_path, monkeypatch):
    with pytest.raises(SdlabError, match="no file"):
        load_problems(tmp_path / "absent.json")
    (tmp_path / "x.parquet").write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SdlabError, match=r'pip install "sdlab\[data\]"'):
        load_problems(tmp_path / "x.parquet")
