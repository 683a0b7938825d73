"""Files are read whole or refused, and no value changes on the way."""

import gzip
import json
import math

import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.reading.json_rows import UnknownShape
from sdlab.reading.rows import read_frame, read_rows

ROWS = [
    {"prompt": "p0", "completion": "a", "n": 1},
    {"prompt": "p1", "completion": "b", "n": 2},
    {"prompt": "p2", "completion": "c", "n": 3},
]


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path)[0]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.ndjson", "x.json.gz", "x.jsonl.gz"])
@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table"])
def test_every_named_orient_of_to_json(tmp_path, name, orient):
    pandas.DataFrame(ROWS).to_json(tmp_path / name, orient=orient)
    rows, _ = read_rows(tmp_path / name)
    assert [{k: row[k] for k in ROWS[0]} for row in rows] == ROWS


def test_to_json_with_names_that_nobody_knows(tmp_path):
    frame = pandas.DataFrame([{"q": "p0", "r": "a"}, {"q": "p1", "r": "b"}])
    for orient in ("columns", "index"):
        frame.to_json(tmp_path / "x.json", orient=orient)
        assert read_rows(tmp_path / "x.json")[0] == frame.to_dict("records")


def test_rows_without_names_are_refused(tmp_path):
    pandas.DataFrame(ROWS).to_json(tmp_path / "x.json", orient="values")
    with pytest.raises(UnknownShape, match='x.json: its rows are lists without names .*orient="records"'):
        read_rows(tmp_path / "x.json")


def test_a_json_array_and_a_pretty_printed_one_in_a_jsonl(tmp_path):
    assert read(tmp_path, "x.jsonl", json.dumps(ROWS)) == ROWS
    assert read(tmp_path, "x.jsonl", json.dumps(ROWS, indent=2)) == ROWS
    assert read(tmp_path, "x.jsonl", json.dumps({"data": ROWS}, indent=2)) == ROWS
    batches = json.dumps(ROWS[:2]) + "\n" + json.dumps(ROWS[2:]) + "\n"  # one batch a line
    assert read(tmp_path, "x.jsonl", batches) == ROWS


def test_dictionaries_of_rows(tmp_path):
    by_id = {f"aime-{i}": row for i, row in enumerate(ROWS)}
    expected = [row | {"problem_id": f"aime-{i}"} for i, row in enumerate(ROWS)]
    assert read(tmp_path, "x.json", json.dumps(by_id)) == expected
    opencompass = {
        str(i): {"origin_prompt": row["prompt"], "prediction": row["completion"]}
        for i, row in enumerate(ROWS)
    }
    assert [row["prediction"] for row in read(tmp_path, "x.json", json.dumps(opencompass))] == ["a", "b", "c"]
    lists = {"aime-0": [{"completion": "a"}, {"completion": "b"}], "aime-1": [{"completion": "c"}]}
    assert [
        (row["problem_id"], row["completion"]) for row in read(tmp_path, "x.json", json.dumps(lists))
    ] == [
        ("aime-0", "a"),
        ("aime-0", "b"),
        ("aime-1", "c"),
    ]
    texts = {"0": ["a", "b"], "1": ["c", "d"]}
    assert [row["text"] for row in read(tmp_path, "x.json", json.dumps(texts))] == [["a", "b"], ["c", "d"]]


def test_rows_inside_an_object(tmp_path):
    inspect = {"version": 2, "eval": {"model": "m"}, "results": {"scores": []}, "samples": ROWS}
    assert read(tmp_path, "x.json", json.dumps(inspect)) == ROWS
    viewer = {
        "features": [],
        "rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)],
        "partial": False,
    }
    assert read(tmp_path, "x.json", json.dumps(viewer)) == ROWS
    one = {"prompt": "p", "samples": [{"text": "a"}, {"text": "b"}]}  # a row, not something around rows
    assert read(tmp_path, "x.json", json.dumps(one)) == [one]


def test_one_row_alone(tmp_path):
    chat = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]
    for name in ("x.json", "x.jsonl"):
        assert read(tmp_path, name, json.dumps(ROWS[0])) == ROWS[:1]
        assert read(tmp_path, name, json.dumps(chat)) == [{"messages": chat}]
        assert read(tmp_path, name, json.dumps({"messages": chat})) == [{"messages": chat}]
        row = {"request": {"prompt": "p"}, "response": {"text": "a", "finish_reason": "stop"}}
        assert read(tmp_path, name, json.dumps(row)) == [row]


@pytest.mark.parametrize(
    "data, reason",
    [
        ({"prompt": ["p0", "p1"], "completion": ["a"]}, "its columns have 1 to 2 cells"),
        (
            {"columns": ["prompt", "completion"], "data": [["p"]]},
            "do not have one cell for each of 'columns'",
        ),
        ({"answer": {"gold": 1, "text": "a"}, "text": {"gold": 2, "text": "b"}}, "could be rows or columns"),
        ({"rows": [{"a": 1}], "data": [{"b": 1}], "n": 1}, "both hold a list of rows"),
        (7, "holds 7 and no rows"),
        ([], "holds no rows"),
        ({}, "holds no rows"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path, data, reason):
    for name in ("x.json", "x.jsonl"):
        with pytest.raises(SdlabError, match=reason):
            read(tmp_path, name, json.dumps(data))


def test_integers_beside_a_null_stay_exact(tmp_path):
    big = 2**63 - 1  # no float has it
    rows = [{"id": big, "answer": 7}, {"id": None, "answer": None}, {"id": big - 1, "answer": -3}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_rows(tmp_path / "x.jsonl")[0] == rows
    frame = read_frame(tmp_path / "x.jsonl")
    assert frame["id"].tolist() == [big, None, big - 1] and isinstance(frame["answer"][0], int)
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert read_rows(tmp_path / "x.parquet")[0] == rows


def test_marks_line_breaks_and_encodings(tmp_path):
    lines = [
        json.dumps(row, ensure_ascii=False) for row in [{"completion": "é\u2028wait"}, {"completion": "b"}]
    ]
    expected = [{"completion": "é\u2028wait"}, {"completion": "b"}]
    for ends in ("\n", "\r\n", "\r"):
        text = ends.join(lines) + ends
        for code in ("utf-8", "utf-8-sig", "utf-16"):  # utf-16 writes its mark
            assert read(tmp_path, "x.jsonl", text.encode(code)) == expected
    assert read(tmp_path, "x.txt", b"a\r\nb") == [{"text": "a\nb"}]


def test_nan_nulls_and_mixed_types(tmp_path):
    rows = read(
        tmp_path, "x.jsonl", '{"completion": NaN}\nnull\n"text"\n3\n{"completion": [1, {"a": null}]}\n'
    )
    assert math.isnan(rows[0]["completion"])
    assert rows[1:] == [{"text": None}, {"text": "text"}, {"text": 3}, {"completion": [1, {"a": None}]}]


@pytest.mark.parametrize("content", ["", " \n\t\n", "\ufeff"])
@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.txt"])
def test_empty_files(tmp_path, name, content):
    with pytest.raises(SdlabError, match="is empty; give a file with at least one text"):
        read(tmp_path, name, content)


def test_a_name_that_stands_twice_in_an_object(tmp_path):
    line = '{"completion": "a", "completion": "b"}'
    with pytest.raises(SdlabError, match="x.jsonl: line 2: an object has the name 'completion' twice"):
        read(tmp_path, "x.jsonl", '{"completion": "c"}\n' + line)
    with pytest.raises(SdlabError, match="x.json: an object has the name 'completion' twice"):
        read(tmp_path, "x.json", line)


def test_damaged_files(tmp_path):
    good = gzip.compress(b'{"completion": "a"}\n' * 500)
    for content in (good[: len(good) // 2], b"no gzip", good[:-6] + b"\0\0\0\0\0\0"):
        with pytest.raises(SdlabError, match="cannot read .*x.jsonl.gz"):
            read(tmp_path, "x.jsonl.gz", content)
    with pytest.raises(SdlabError, match="line 2 is not JSON"):
        read(tmp_path, "x.json", '{"completion": "a"}\n{"completion": "b')
    with pytest.raises(SdlabError, match="line 1 is not JSON"):
        read(tmp_path, "x.jsonl", "<html><body>502 Bad Gateway</body></html>")
