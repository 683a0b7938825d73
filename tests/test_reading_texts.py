import json
import sys

import pandas
import pytest

from sdlab.commands.markers import markers_command, markers_report
from sdlab.errors import SdlabError
from sdlab.reading.rows import read_frame
from sdlab.reading.texts import read_texts

ROWS = [
    {"id": "a", "prompt": "How many wait here, in this long long question?", "completion": "Wait, 3."},
    {"id": "b", "completion": "Hmm, 4. Wait"},
]


def write(path, kind, rows):
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "json lines named json":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json of columns":
        path.write_text(json.dumps(pandas.DataFrame(rows)[["id", "completion"]].to_dict("list")))
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        pandas.DataFrame(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "json lines named json", "json of columns", "parquet"])
def test_every_kind_reads_the_same(tmp_path, kind):
    ending = {"jsonl": "jsonl", "parquet": "parquet"}.get(kind, "json")
    read = read_texts(write(tmp_path / f"run.{ending}", kind, ROWS))
    assert (read.texts, read.columns, read.lengths) == (["Wait, 3.", "Hmm, 4. Wait"], ["completion"], None)


def test_text_files_lists_of_strings_and_chats(tmp_path):
    (tmp_path / "one.txt").write_text("wait\nwait")
    assert read_texts(tmp_path / "one.txt").texts == ["wait\nwait"]
    (tmp_path / "two.json").write_text(json.dumps(["maybe", "so"]))
    assert read_texts(tmp_path / "two.json").texts == ["maybe", "so"]
    chat = [
        {"messages": [{"role": "user", "content": "hm"}, {"role": "assistant", "content": "likely"}], "n": 1}
    ]
    (tmp_path / "three.json").write_text(json.dumps(chat))
    assert read_texts(tmp_path / "three.json").texts == ["likely"]


def test_column_is_told_or_the_longest(tmp_path):
    rows = [{"short": "wait", "long": "perhaps so it is", "n": 7}, {"short": "wait", "long": None, "n": 8}]
    path = write(tmp_path / "x.json", "json", rows)
    assert read_texts(path).columns == ["long"] and read_texts(path).left_out == 1
    assert read_texts(path, "short").texts == ["wait", "wait"]
    for column in ("nope", "n"):
        with pytest.raises(SdlabError, match=f"no text column '{column}'; its columns are: short, long, n"):
            read_texts(path, column)


def test_token_counts_of_a_run_are_used(tmp_path):
    rows = [
        {"completion": "Wait, 3.", "length": 5},
        {"completion": None, "length": 90},
        {"completion": "Hmm", "length": 15},
    ]
    table = markers_report(write(tmp_path / "x.jsonl", "jsonl", rows)).set_index("marker")
    assert table.loc["total", "per_1000_tokens"] == pytest.approx(1000 * 2 / 20)


def test_folder_of_several_kinds(tmp_path):
    write(tmp_path / "a.jsonl", "jsonl", ROWS)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("Perhaps")
    (tmp_path / "config.json").write_text('{"seed": 3}')
    (tmp_path / "notes.md").write_text("wait wait")
    (tmp_path / ".hidden.txt").write_text("wait wait")
    table = markers_report(tmp_path)
    assert table.set_index("marker").loc["total", "count"] == 4
    assert "skipped without text: config.json" in table.attrs["source"]
    assert "3 texts of column 'completion', 'text' in 2 files" in table.attrs["source"]


BAD = {
    "empty.json": (b"", "is empty"),
    "none.json": (b"[]", "holds no rows"),
    "cut.json": (b'[{"completion": "wa', "line 1 is not JSON"),
    "cut.jsonl": (b'{"completion": "wait"}\n{"comp', "line 2 is not JSON"),
    "latin.txt": (b"caf\xe9", "not UTF-8"),
    "numbers.json": (b'[{"n": 1}]', "no column with text that a model wrote; its columns are: n"),
    "table.csv": (b"a,b", "ends in '.csv'; use one of: .json"),
    "bad.parquet": (b"PAR1 this is no parquet file PAR1", "cannot read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_give_one_clear_line(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SdlabError) as caught:
        markers_command(str(tmp_path / name))
    assert message in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_and_empty_folder(tmp_path):
    with pytest.raises(SdlabError, match="no file or folder .*absent.json"):
        read_texts(tmp_path / "absent.json")
    with pytest.raises(SdlabError, match="holds no text"):
        read_texts(tmp_path)
    with pytest.raises(SdlabError, match="unknown match 'stem'"):
        (tmp_path / "a.txt").write_text("wait")
        markers_report(tmp_path, "stem")


def test_parquet_without_its_reader(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1PAR1")
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SdlabError, match="needs pyarrow; install it with: pip install pyarrow"):
        read_texts(tmp_path / "x.parquet")


def test_command_prints_what_it_read(tmp_path, capsys):
    path = write(tmp_path / "[run].json", "json", ROWS)
    markers_command(str(path), match="substring")
    out = capsys.readouterr().out.replace("\n", " ")
    assert (
        "[run].json" in out
        and "column 'completion'" in out
        and "substring" in out
        and "per 1,000 words" in out
    )
    assert out.split("total")[1].split()[:2] == ["3", "2"]


def test_real_files(sdlab_real_data):
    read = read_texts(sdlab_real_data("reasoning_traces.json"))
    assert (len(read.texts), read.columns) == (10, ["message_thinking", "message_content"])
    assert (
        len(read_texts(sdlab_real_data("sciknoweval_chemistry_test.json"), "prompt").texts) == 210
    )  # JSON lines inside


def test_halves_of_characters_and_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"completion": "\\ud83d wait"}\n{"completion": "caf\xe9"}\n')
    with pytest.raises(SdlabError, match="not UTF-8"):
        read_texts(path)
    assert read_frame(path, errors="replace")["completion"].tolist() == ["\ufffd wait", "caf\ufffd"]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"text": ' + "1" * 5000 + "}", "a number of thousands of digits"),
    ],
)
def test_json_that_python_will_not_read(tmp_path, line, reason):
    for name, where in (("x.jsonl", "line 1: it"), ("x.json", "x.json: it")):
        (tmp_path / name).write_text(line)
        with pytest.raises(SdlabError, match=f"{where}.*{reason}"):
            read_frame(tmp_path / name)


WAITS = "wait " * 50  # where it must not be counted


def test_only_what_the_model_wrote_is_counted(tmp_path):
    chat = [
        {"role": "system", "content": WAITS},
        {"role": "user", "content": WAITS},
        {"role": "assistant", "content": "Perhaps.", "reasoning_content": "Hmm, wait"},
        {"role": "tool", "content": WAITS},
        {"role": "user", "content": WAITS},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Maybe"}, {"type": "text", "text": "So."}],
        },
    ]
    rows = {
        "chat": {"messages": chat, "hash": WAITS.replace(" ", "")},
        "columns": {
            "prompt": WAITS,
            "system": WAITS,
            "response": "Perhaps. So.",
            "reasoning": "Hmm, wait. Maybe",
            "gold": WAITS,
        },
        "request": {
            "request": {"messages": chat[:2]},
            "response": {"choices": [{"message": chat[2]}, {"message": chat[5]}]},
        },
    }
    for name, row in rows.items():
        for ending in ("jsonl", "json"):
            path = write(tmp_path / f"{name}.{ending}", ending, [row])
            counts = markers_report(path).set_index("marker")["count"]
            assert {marker: n for marker, n in counts.items() if n} == {
                "wait": 1,
                "hmm": 1,
                "perhaps": 1,
                "maybe": 1,
                "total": 4,
            }, name
    table = markers_report(tmp_path / "columns.json")
    assert table.attrs["source"].startswith("1 texts of column 'reasoning', 'response' in 1 file;")
    only = markers_report(tmp_path / "columns.json", column="response").set_index("marker")["count"]
    assert only["total"] == 1  # a named column is read alone
    assert read_texts(tmp_path / "chat.json", "messages").texts == read_texts(tmp_path / "chat.json").texts


def test_prompts_and_hashes_are_never_taken_for_a_models_text(tmp_path):
    rows = [{"prompt": WAITS, "sha256": "ab" * 200, "question": WAITS, "id": WAITS, "target": WAITS}]
    with pytest.raises(SdlabError, match="no column with text that a model wrote; .* name one with --column"):
        read_texts(write(tmp_path / "x.json", "json", rows))
    assert read_texts(tmp_path / "x.json", "prompt").texts == [WAITS]
    users = [{"messages": [{"role": "user", "content": WAITS}]}]
    with pytest.raises(
        SdlabError, match="no text that a model wrote: no row has a completion in column 'messages'"
    ):
        read_texts(write(tmp_path / "y.json", "json", users))
    write(tmp_path / "run.jsonl", "jsonl", ROWS)
    read = read_texts(tmp_path)
    assert [file.name for file in read.files] == ["run.jsonl"] and sorted(f.name for f in read.skipped) == [
        "x.json",
        "y.json",
    ]


def test_repeated_and_missing_completions_are_said(tmp_path, capsys):
    sample = {"doc_id": 0, "resps": [["Wait, 4"]], "arguments": [["q", {}]], "target": "4"}
    rows = [sample | {"filter": name} for name in ("strict-match", "flexible-extract")] + [
        sample | {"doc_id": 1, "resps": [[None]], "filter": "x"}
    ]
    path = write(tmp_path / "x.jsonl", "jsonl", rows)
    assert markers_report(path).set_index("marker").loc["total", "count"] == 1
    markers_command(str(path))
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 completions are missing and left out" in printed
    assert "1 rows repeat the completions of another row, one for each filter" in printed


def test_counts_of_characters_are_no_tokens(tmp_path):
    rows = [{"completion": "Wait, it must be thirty-six", "length": 27}] * 2
    table = markers_report(write(tmp_path / "x.jsonl", "jsonl", rows))
    assert table.columns[-1] == "per_1000_words" and table["per_1000_words"].iloc[-1] == 1000 * 2 / 10


def test_of_a_run_folder_only_the_completions_are_read(tmp_path):
    write(tmp_path / "samples.jsonl", "jsonl", [{"step": 0, "completion": "Wait, wait.", "prompt": "Wait?"}])
    write(tmp_path / "steps.jsonl", "jsonl", [{"step": 0, "text": "wait wait wait"}])
    (tmp_path / "config.json").write_text('{"method": "sdpo", "text": "wait"}')
    table = markers_report(tmp_path)
    assert table.set_index("marker").loc["total", "count"] == 2
    assert table.attrs["source"].startswith("1 texts of column 'completion' in 1 file")
