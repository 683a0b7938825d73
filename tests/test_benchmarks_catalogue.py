"""Benchmarks by name: the real files, small files for every error, and the hub stood in for."""

import base64
import importlib.util
import json
import pickle
import re
import zlib

import pytest

from sdlab.benchmarks import recorded
from sdlab.benchmarks.catalogue import BENCHMARKS, find_benchmark
from sdlab.benchmarks.load import describe, load_benchmark, load_with_report
from sdlab.benchmarks.rows import BOXED
from sdlab.commands.benchmarks import benchmarks_command
from sdlab.errors import SdlabError
from sdlab.grading.score import grade

datasets = pytest.importorskip("datasets", reason='benchmarks need datasets: pip install "sdlab[data]"')

# benchmark, split, rows, distinct questions: as the files in the folder of real data have them.
REAL = [
    ("dapo-1x64", "train", 64, 1),
    ("dapo-8x8", "train", 64, 8),
    ("dapo-64", "train", 64, 64),
    ("dapo-128", "train", 128, 128),
    ("dapo-512", "train", 512, 511),
    ("aime24", "test", 30, 30),
    ("amc23", "test", 40, 40),
    ("math500", "test", 500, 500),
    ("sciknoweval-chemistry", "train", 1890, 1890),
    ("sciknoweval-chemistry", "test", 210, 210),
    ("toolalpaca", "test", 68, 68),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache of its own for every test, and no real data unless a test asks for them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("SDLAB_REAL_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr("sdlab.hub.why_unreachable", lambda url: None)  # stand-ins answer, not the network


def jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def dapo(number, answer="1"):
    question = (
        "Solve the following math problem step by step. The last line of your response should be of the "
        "form Answer: $Answer (without quotes) where "
        f"$Answer is the answer to the problem.\n\nWhat is question {number}?\n\nRemember to put your "
        f'answer on its own line after "Answer:".'
    )
    return {
        "prompt": [{"role": "user", "content": question}],
        "reward_model": {"ground_truth": answer, "style": "x"},
        "extra_info": {"index": f"{number}"},
    }


# The real files


@pytest.mark.parametrize(("name", "split", "rows", "distinct"), REAL)
def test_real_files(name, split, rows, distinct, sdlab_real_data, monkeypatch):
    folder = sdlab_real_data(BENCHMARKS[name].files[split]).parent
    problems, report = load_with_report(name, split=split, source=folder)
    kept = rows if name.startswith("dapo") else distinct
    assert (report.raw, report.distinct, report.problems, len(problems), report.conflicts) == (
        rows,
        distinct,
        kept,
        kept,
        0,
    )
    assert "the study's file, byte for byte" in report.notes
    assert (
        len({one.id for one in problems}) == kept
        and {one.split for one in problems} == {split}
        and {one.domain for one in problems} == {name}
    )
    assert len({one.prompt for one in problems}) == distinct
    if BENCHMARKS[name].grading == "math":
        assert all(one.prompt.endswith(f"\n{BOXED}") and one.prompt.count(BOXED) == 1 for one in problems)
        assert (
            grade(
                [f"<think>so</think>\n\\boxed{{{one.answer}}}" for one in problems],
                [one.answer for one in problems],
            )
            == [1.0] * kept
        )
    if BENCHMARKS[name].grading == "choice":
        answers = [one.answer for one in problems]
        assert (
            grade([f"\\boxed{{180.2}}\n<answer>\n{answer}\n</answer>" for answer in answers], answers)
            == [1.0] * kept
        )
        other = ["ABCD"["ABCD".index(answer) - 1] for answer in answers]
        assert grade([f"<answer>{answer}</answer>" for answer in other], answers) == [0.0] * kept
    monkeypatch.setenv("SDLAB_REAL_DATA", str(folder))
    assert (
        load_benchmark(name, split=split, limit=3) == problems[:3] and describe(name, split=split) == report
    )  # found there without a source


def test_math500_keeps_its_subjects(sdlab_real_data):
    kinds = {one.kind for one in load_benchmark("math500", source=sdlab_real_data("math500.parquet"))}
    assert len(kinds) == 7 and {"algebra", "precalculus"} < kinds


def test_the_library_itself_gives_the_same_verdicts(sdlab_real_data):
    """The file holds answers and truths, no verdicts: math-verify called on its own, without our shortcuts,
    is the second opinion.

    Every twentieth row: the library takes a tenth of a second a row here. All 500 agreed when they were
    tried.
    """
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    rows = json.loads(sdlab_real_data("math500_predictions_qwen3.json").read_text())[::20]
    config = [LatexExtractionConfig(), ExprExtractionConfig()]
    second = [
        float(bool(verify(parse(f"${row['answer']}$", config), parse(row["prediction"], config))))
        for row in rows
    ]
    assert grade([row["prediction"] for row in rows], [row["answer"] for row in rows]) == second and 0 < sum(
        second
    ) < len(rows)


# Repeated rows and subsets


def test_repeated_questions_are_taken_out_and_both_counts_told(tmp_path):
    rows = [
        dapo(number, "2" if copy == 2 and number == 3 else "1") for copy in range(3) for number in range(5)
    ]
    rows.append(
        json.loads(json.dumps(rows[4]).replace("What is question", "What  is question"))
    )  # white space is no difference
    problems, report = load_with_report("dapo-math-17k", source=jsonl(tmp_path / "x.jsonl", rows))
    assert (report.raw, report.distinct, report.problems, report.conflicts) == (16, 5, 5, 1)
    assert [one.prompt for one in problems] == [f"What is question {number}?\n{BOXED}" for number in range(5)]
    assert problems[3].answer == "1" and [one.id for one in problems][:2] == [
        "dapo-math-17k/train/00000",
        "dapo-math-17k/train/00001",
    ]
    assert "5 distinct questions, 17,917 expected" in report.notes


def test_parquet_and_json_array_give_what_json_lines_give(tmp_path):
    rows = [dapo(number) for number in range(4)]
    tmp_path = tmp_path / "a [1] *"  # no pattern
    tmp_path.mkdir()
    wanted = load_benchmark("dapo-math-17k", source=jsonl(tmp_path / "x.jsonl", rows))
    (tmp_path / "x.json").write_text(json.dumps(rows))
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "x.parquet")
    assert (
        load_benchmark("dapo-math-17k", source=tmp_path / "x.json")
        == load_benchmark("dapo-math-17k", source=tmp_path / "x.parquet")
        == wanted
    )


def test_subsets_are_drawn_nested_from_the_whole_set_when_their_files_are_absent(tmp_path):
    datasets.Dataset.from_list([dapo(number) for number in range(600)] * 2).to_parquet(
        tmp_path / "dapo-math-17k.parquet"
    )
    found = {
        size: load_with_report(f"dapo-{size}", source=tmp_path)
        for size in ("1x64", "8x8", "64", "128", "512")
    }
    asked = {size: [one.prompt for one in problems] for size, (problems, _) in found.items()}
    assert {size: (len(texts), len(set(texts))) for size, texts in asked.items()} == {
        "1x64": (64, 1),
        "8x8": (64, 8),
        "64": (64, 64),
        "128": (128, 128),
        "512": (512, 512),
    }
    assert asked["8x8"] == asked["8x8"][:8] * 8 and set(asked["1x64"]) < set(asked["8x8"]) < set(
        asked["64"]
    ) < set(asked["128"]) < set(asked["512"])
    assert asked["64"] != [
        f"What is question {number}?\n{BOXED}" for number in range(64)
    ]  # drawn, not the first ones
    for size, (problems, report) in found.items():
        assert (
            "not the same ones" in report.notes[0]
            and report.raw == 1200
            and len({one.id for one in problems}) == len(problems)
        )
        assert load_benchmark(f"dapo-{size}", source=tmp_path) == problems  # the same again


def test_a_subset_of_another_size_is_told(tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [dapo(number) for number in range(10)])
    with pytest.raises(
        SdlabError,
        match="has 10 rows and dapo-64 has 64; to draw it, give the folder that holds dapo-math-17k.parquet",
    ):
        load_benchmark("dapo-64", source=path)
    path.rename(tmp_path / "dapo-math-17k.parquet")
    datasets.Dataset.from_list([dapo(number) for number in range(10)]).to_parquet(
        tmp_path / "dapo-math-17k.parquet"
    )
    with pytest.raises(SdlabError, match="dapo-64 draws 64 questions and .* has 10"):
        load_benchmark("dapo-64", source=tmp_path)


# SciKnowEval and LiveCodeBench as the hub has them


def science(number, domain="Chemistry", level="L3", kind="mcq-4-choices"):
    return {
        "question": f"Question {number} of {domain}?",
        "choices": {"text": ["a", "b"], "label": ["A", "B"]},
        "answerKey": "AB"[number % 2],
        "type": kind,
        "domain": domain,
        "details": {"level": level, "task": "t"},
    }


def test_hub_rows_of_sciknoweval_are_filtered_and_split(tmp_path):
    rows = (
        [science(n) for n in range(40)]
        + [science(n, "Physics") for n in range(10)]
        + [science(99, level="L1"), science(98, kind="true_or_false")]
    )
    path = jsonl(tmp_path / "sciknoweval_test_v2.jsonl", rows)
    train, test = (
        load_benchmark("sciknoweval-chemistry", split=split, source=path) for split in ("train", "test")
    )
    assert (len(train), len(test)) == (36, 4) and not {one.prompt for one in train} & {
        one.prompt for one in test
    }
    assert all(
        "of Chemistry?\n\nA: a\nB: b\nPlease reason step by step." in one.prompt and one.answer in "AB"
        for one in train + test
    )
    assert len(load_benchmark("sciknoweval-physics", split="train", source=path)) == 9
    with pytest.raises(SdlabError, match="has no rows for sciknoweval-biology"):
        load_benchmark("sciknoweval-biology", split="train", source=path)


def test_the_split_is_sdpo_s(tmp_path, sdlab_real_data):
    """All 2,100 real questions in the order of their numbers, as hub rows: the split's test questions are
    those of SDPO's file, in its order.
    """
    rows = {}
    for split in ("train", "test"):
        for line in sdlab_real_data(f"sciknoweval_chemistry_{split}.json").read_text().splitlines():
            if line.strip():
                row = json.loads(line)
                question, _, options = (
                    row["prompt"].removesuffix("\nPlease reason step by step.").rpartition("\n\nA: ")
                )
                texts = re.split(r"\n[BCD]: ", options)
                rows[int(row["idx"])] = science(0) | {
                    "question": question,
                    "choices": {"text": texts, "label": list("ABCD")[: len(texts)]},
                    "answerKey": row["answer"],
                }
    path = jsonl(tmp_path / "hub.jsonl", [rows[number] for number in range(2100)])
    for split in ("train", "test"):
        mine = load_benchmark("sciknoweval-chemistry", split=split, source=path)
        real = load_benchmark(
            "sciknoweval-chemistry",
            split=split,
            source=sdlab_real_data(f"sciknoweval_chemistry_{split}.json"),
        )
        assert [(one.prompt, one.answer) for one in mine] == [(one.prompt, one.answer) for one in real]


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_livecodebench_s_hidden_tests_are_never_decoded(tmp_path):
    trap = tmp_path / "decoded"
    hidden = base64.b64encode(zlib.compress(pickle.dumps(Bomb(trap)))).decode()
    dates = ["2025-01-31T00:00:00", "2025-02-01T00:00:00", "2025-04-30T23:59:00", "2025-05-01T00:00:00"]
    rows = [
        {
            "question_title": "t",
            "question_content": f"Task {n}.",
            "starter_code": "",
            "contest_date": date,
            "difficulty": "easy",
            "public_test_cases": "[]",
            "private_test_cases": hidden,
            "metadata": "{}",
        }
        for n, date in enumerate(dates)
    ]
    problems = load_benchmark("livecodebench-v6", source=jsonl(tmp_path / "test6.jsonl", rows))
    assert [(one.prompt, one.answer, one.kind) for one in problems] == [
        ("Task 1.", "", "easy"),
        ("Task 2.", "", "easy"),
    ]
    assert not trap.exists() and hidden not in repr(problems)
    pickle.loads(zlib.decompress(base64.b64decode(hidden))).close()
    assert trap.exists()  # the trap works
    with pytest.raises(SdlabError, match="cannot be graded"):
        grade(["x"], [problems[0].answer])
    del rows[0]["contest_date"]
    with pytest.raises(SdlabError, match="lacks the column 'contest_date'; it has question_title"):
        load_benchmark("livecodebench-v6", source=jsonl(tmp_path / "y.jsonl", rows[:1]))


# The hub


HUB = [(name, split) for name, one in BENCHMARKS.items() for split in one.files if one.repo]


def hub_rows(name):
    if name.startswith("sciknoweval"):
        return [science(n, name.rpartition("-")[2].capitalize()) for n in range(20)]
    if name == "livecodebench-v6":
        return [
            {
                "question_content": f"Task {n}.",
                "starter_code": "",
                "contest_date": "2025-03-01",
                "private_test_cases": "x",
            }
            for n in range(20)
        ]
    question = "question" if name == "amc23" else "problem"
    answer = {"solution": "It is $\\boxed{7}$."} if name == "aime24" else {"answer": "7"}
    return [
        dapo(n, "7") if name.startswith("dapo") else {question: f"What is question {n}?", **answer}
        for n in range(20)
    ]


@pytest.mark.parametrize(("name", "split"), HUB)
def test_the_hub_is_asked_for_the_pinned_commit(name, split, monkeypatch):
    asked = []

    def stand_in(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_list(hub_rows(name))

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    problems, report = load_with_report(name, split=split)
    one = BENCHMARKS[name]
    assert (
        re.fullmatch("[0-9a-f]{40}", one.revision) and report.used == one.hub and one.revision in report.used
    )
    if name == "livecodebench-v6":
        address = f"hf://datasets/livecodebench/code_generation_lite@{one.revision}/test6.jsonl"
        assert asked == [(("json",), {"data_files": address, "split": "train"})]
    else:
        config = "v2" if name.startswith("sciknoweval") else None
        assert asked == [
            (
                (one.repo, config),
                {"split": "train" if name == "dapo-math-17k" else "test", "revision": one.revision},
            )
        ]
        assert problems[0].answer in ("7", "A", "B")
    expected = {"train": 18, "test": 2}[split] if name.startswith("sciknoweval") else 20
    assert (
        len(problems) == expected
        and f"{expected} distinct questions, {one.distinct[split]:,} expected" in report.notes
    )


@pytest.mark.parametrize("commit", ["0" * 40, BENCHMARKS["aime25"].revision])
def test_a_cache_of_another_commit_is_refused(commit, tmp_path, monkeypatch):
    folder = tmp_path / "math-ai___aime25" / "default" / "0.0.0" / commit
    datasets.Dataset.from_list(hub_rows("aime25")).save_to_disk(folder)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.load_from_disk(folder))
    if commit == BENCHMARKS["aime25"].revision:
        assert len(load_benchmark("aime25")) == 20
    else:
        with pytest.raises(SdlabError, match="the cache holds math-ai/aime25 at commit 0000"):
            load_benchmark("aime25")


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        (
            "livecodebench-v6",
            RuntimeError("Dataset scripts are no longer supported, but found code_generation_lite.py"),
            "is a loading script, .* source= .*test6.jsonl",
        ),
        (
            "aime25",
            datasets.exceptions.DatasetNotFoundError(
                "Revision 'x' doesn't exist for dataset 'math-ai/aime25' on the Hub."
            ),
            "has no commit 563bb84.* any more; .*catalogue.py",
        ),
        (
            "aime25",
            ConnectionError("Couldn't reach 'math-ai/aime25' on the Hub"),
            r"could not be read from the "
            r"hub \(ConnectionError: "
            r"Couldn't.*source=.*aime25.parquet.*SDLAB_REAL_DATA",
        ),
        (
            "aime25",
            ValueError('Instruction "test" corresponds to no data!'),
            "math-ai/aime25@563bb84.* has no rows for aime25",
        ),
        ("math500", ImportError("No module named 'zstandard'"), r"needs a package .*sdlab\[data\]"),
    ],
)
def test_errors_of_the_hub_say_what_to_do(name, error, told, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(SdlabError, match=told) as stopped:
        load_benchmark(name)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize("name", ["aime25", "livecodebench-v6", "dapo-64"])
def test_offline_with_the_real_library(name, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        SdlabError,
        match=r"could not be read from the hub \(HF_HUB_OFFLINE is set\); give a local copy with source=",
    ):
        load_benchmark(name)


# Bad input


def test_unknown_names_and_splits():
    with pytest.raises(
        SdlabError, match="unknown benchmark 'aime26'; choose one of: aime24, aime25, amc23, dapo-128"
    ):
        load_benchmark("aime26")
    with pytest.raises(SdlabError, match="unknown split of aime24 'train'; choose one of: test"):
        load_benchmark("aime24", split="train")
    with pytest.raises(SdlabError, match="toolalpaca has the splits train and test; say which"):
        load_benchmark("toolalpaca")
    with pytest.raises(
        SdlabError, match="toolalpaca is on no hub; give source= a folder with tooluse_train.json"
    ):
        load_benchmark("toolalpaca", split="train")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("aime24.parquet", b"", "is empty"),
        ("x.jsonl", b"", "is empty"),
        ("aime24.parquet", b"PAR1 not", "cannot read .*aime24.parquet: .*damaged"),
        ("x.jsonl", b'{"problem": ', "cannot read .*x.jsonl"),
        ("x.json", b'{"problem": "a", "url": "b"}', "lacks the column 'answer'; it has problem, url"),
        ("x.jsonl", b'{"problem": "a", "answer": "1"}\n{"problem": "b", "answer": null}', "row 1: no answer"),
        ("x.csv", b"a", "x.csv is not read as a benchmark; give a file ending in .parquet"),
    ],
)
def test_bad_files_are_told(file, content, told, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SdlabError, match=told) as stopped:
        load_benchmark("aime24", source=tmp_path / file)
    assert "\n" not in str(stopped.value)


def test_an_empty_table_is_told(tmp_path):
    datasets.Dataset.from_dict({"problem": [], "answer": []}).to_parquet(tmp_path / "aime25.parquet")
    with pytest.raises(SdlabError, match="aime25.parquet is empty; give a file with at least one problem"):
        load_benchmark("aime25", source=tmp_path)


def test_missing_sources_are_told(tmp_path):
    with pytest.raises(
        SdlabError, match="no file or folder .*absent; give .* a folder that holds aime24.parquet"
    ):
        load_benchmark("aime24", source=tmp_path / "absent")
    with pytest.raises(SdlabError, match="holds no aime24.parquet"):
        load_benchmark("aime24", source=tmp_path)


@pytest.mark.parametrize("limit", [0, -1, 3])
def test_more_problems_than_there_are(limit, tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [{"problem": f"{n}?", "answer": "1"} for n in range(2)])
    with pytest.raises(SdlabError, match=f"{limit} problems asked of aime25, which has 2; choose 1 to 2"):
        load_benchmark("aime25", source=path, limit=limit)
    assert len(load_benchmark("aime25", source=path, limit=1)) == 1


def test_without_the_packages(tmp_path, monkeypatch):
    path = jsonl(tmp_path / "x.jsonl", [{"problem": "1?", "answer": "1"}])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for source in (path, None):
        with pytest.raises(
            SdlabError, match=r'need datasets and pyarrow; install with: pip install "sdlab\[data\]"'
        ):
            load_benchmark("aime25", source=source)


def test_another_file_of_a_known_name_is_told(tmp_path):
    jsonl(
        tmp_path / "tooluse_test.json",
        [{"prompt": "Call.", "answer": '[{"Action": "a", "Action_Input": "{}"}]'}],
    )
    assert (
        "differs from the study's file of that name"
        in describe("toolalpaca", split="test", source=tmp_path).notes
    )
    assert set(recorded.load_record()["files"]) <= {
        file for one in BENCHMARKS.values() for file in one.files.values()
    }


# The command


def test_the_list_names_all_and_counts_what_is_here(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.setattr(
        datasets, "load_dataset", lambda builder, **options: datasets.Dataset.from_json(options["data_files"])
    )  # no hub
    jsonl(
        tmp_path / "tooluse_train.json",
        [{"prompt": f"Call {n % 2}.", "answer": '[{"Action": "a", "Action_Input": "{}"}]'} for n in range(5)],
    )
    benchmarks_command(source=tmp_path)
    told = capsys.readouterr().out
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if line.startswith("│")
    ]
    rows = {(line[0], line[1]): line[2:] for line in lines}
    assert set(rows) == {(name, split) for name, one in BENCHMARKS.items() for split in one.files}
    assert rows["toolalpaca", "train"][:3] == ["2", "5", "tool calls"] and rows["toolalpaca", "test"][:2] == [
        "(68)",
        "-",
    ]
    assert rows["dapo-math-17k", "train"][:2] == ["(17,917)", "-"] and rows["dapo-math-17k", "train"][
        -1
    ].endswith("@6587709")


def test_the_list_can_be_read_in_80_columns(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    benchmarks_command(source=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines]
    for name, one in BENCHMARKS.items():  # each on one line, whole
        for split in one.files:
            assert any(row[:2] == [name, split] for row in rows)
    assert any(line.strip().endswith("the hub") for line in lines) and "sdlab benchmarks NAME" in lines[-1]


def test_one_benchmark_with_its_counts_and_an_example(tmp_path, capsys):
    jsonl(tmp_path / "sciknoweval_chemistry_train.json", [science(n) for n in range(20)])
    benchmarks_command("sciknoweval-chemistry", "train", tmp_path)
    told = capsys.readouterr().out
    assert (
        "rows 18; distinct questions 18; problems 18" in told
        and "graded: a letter" in told
        and "of Chemistry?" in told
    )
    assert find_benchmark("sciknoweval-chemistry").revision in told
    with pytest.raises(SdlabError, match="unknown benchmark"):
        benchmarks_command("x")
