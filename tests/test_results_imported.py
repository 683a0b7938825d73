import gzip
import json
from math import comb

import numpy as np
import pandas
import pytest

from sdlab import cli
from sdlab.commands.evaluate import compare
from sdlab.errors import SdlabError
from sdlab.grading.score import extract_answer, grade
from sdlab.reading.generations import generations_of
from sdlab.results.comparison import comparison, sentences, wide
from sdlab.results.imported import import_rollouts
from sdlab.results.store import load_result
from sdlab.text.markers import count_markers


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one(path, **options):
    (result,) = import_rollouts(path, **options)
    return result


ROWS = [
    {"question": "What is 1+1?", "response": "Wait, \\boxed{2}", "gold": "2"},
    {"question": "What is 2+2?", "response": "Maybe unlikely \\boxed{5}", "gold": 4},
    {"question": "What is  1+1? ", "response": "\\boxed{3}", "gold": "2"},
]


def said(result, start):
    return any(note.startswith(start) for note in result.notes)


def test_rows_are_grouped_by_prompt_and_graded(tmp_path):
    result = one(write(tmp_path / "some-model.jsonl", ROWS))
    assert (result.model, result.benchmark) == ("some-model", "some-model")
    assert result.samples["problem_id"].tolist() == ["some-model/0000", "some-model/0001", "some-model/0000"]
    assert result.samples["generation"].tolist() == [0, 0, 1] and result.samples["reward"].tolist() == [
        1,
        0,
        0,
    ]
    assert result.problems["rate"].tolist() == [0.5, 0] and result.problems["truth"].tolist() == ["2", "4"]
    assert (
        result.samples["length"].tolist() == [2, 3, 1]
        and result.about["length_unit"] == "words"
        and said(result, "Lengths are in words")
    )
    assert result.samples["markers"].tolist() == [1, 1, 0] and result.samples[
        "markers_substring"
    ].tolist() == [1, 2, 0]
    assert said(result, "some-model.jsonl: columns: prompt 'question', response 'response', answer 'gold'.")
    assert said(result, "Nothing says whether completions were cut") and "truncated" not in set(
        result.summary()["metric"]
    )
    assert said(result, "Problems have 1 to 2 generations each")
    told = result.summary().set_index("metric")
    assert told.loc["reward", "mean"] == 0.25  # every problem once, not every response


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_every_kind_of_file_says_the_same(tmp_path, ending):
    rows = [
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": r["question"]},
            ],
            "responses": [r["response"], "no"],
            "reward_model": {"ground_truth": str(r["gold"])},
        }
        for r in ROWS
    ]
    path = tmp_path / f"x.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow")
        pandas.DataFrame(rows).to_parquet(path)
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        write(path, rows)
    result = one(path)
    assert result.problems["prompt"].tolist() == [
        "system: Be brief.\n\nuser: What is 1+1?",
        "system: Be brief.\n\nuser: What is 2+2?",
    ] and result.problems["truth"].tolist() == ["2", "4"]
    assert result.problems["generations"].tolist() == [4, 2] and result.problems["right"].tolist() == [1, 0]


def test_unbalanced_problems_have_pass_at_k_of_their_own(tmp_path):
    counts = {"a": (5, 2), "b": (2, 1), "c": (3, 0)}
    rows = [
        {"prompt": p, "completion": f"\\boxed{{{int(i < c)}}}", "answer": "1"}
        for p, (n, c) in counts.items()
        for i in range(n)
    ]
    result = one(write(tmp_path / "x.jsonl", rows), columns={"answer": "answer"})
    curve = result.pass_at_k().set_index("k")
    assert curve.index.tolist() == [1, 2, 3, 4, 5]
    for k in curve.index:
        held = [(n, c) for n, c in counts.values() if n >= k]
        assert curve["mean"][k] == pytest.approx(np.mean([1 - comb(n - c, k) / comb(n, k) for n, c in held]))
        assert (curve["problems"][k], curve["left_out"][k]) == (len(held), 3 - len(held))


def test_lists_with_token_counts_finish_reasons_and_verdicts(tmp_path):
    rows = [
        {
            "prompt": "p",
            "generations": ["a \\boxed{1}", "wait \\boxed{1}", "b"],
            "target": "1",
            "num_tokens": [9, 20, 3],
            "finish_reasons": ["stop", "length", "odd"],
            "correct": [True, True, True],
            "model": "M",
            "dataset": "D",
        },
        {
            "prompt": "q",
            "generations": ["\\boxed{1}"],
            "target": "1",
            "num_tokens": [4],
            "finish_reasons": ["eos"],
            "correct": [-1],
            "model": "M",
            "dataset": "D",
        },
    ]
    result = one(write(tmp_path / "x.jsonl", rows))
    assert (result.model, result.benchmark, result.about["length_unit"]) == ("M", "D", "tokens")
    assert result.samples["length"].tolist() == [9, 20, 3, 4]
    assert result.samples["truncated"].tolist()[:2] == [0, 1] and np.isnan(result.samples["truncated"][2])
    assert result.samples["verdict"].tolist() == [1, 1, 0, 1] and result.samples["reward"].tolist() == [
        1,
        0,
        0,
        1,
    ]
    assert said(
        result,
        "The file's own verdicts ('correct') agree with the grading here on 2 of 4 completions (1 are "
        "right only here, 1 only there).",
    )
    assert said(result, "1 of 4 completions (25.0%) were cut") and said(
        result, "1 completions do not say whether they were cut"
    )
    assert result.summary().set_index("metric").loc["truncated", "mean"] == pytest.approx(1 / 3)


def test_what_servers_return_is_taken_apart(tmp_path):
    reply = {
        "choices": [
            {
                "message": {"role": "assistant", "content": "\\boxed{2}", "reasoning_content": "hmm"},
                "finish_reason": "length",
            }
        ],
        "usage": {"completion_tokens": 77},
    }
    result = one(
        write(
            tmp_path / "x.jsonl",
            [
                {"prompt": "p", "response": {"body": reply}, "answer": "#### 2"},
                {"prompt": "p", "response": reply, "answer": "so \\boxed{2}"},
            ],
        )
    )
    assert result.samples["completion"].tolist() == [
        "<think>\nhmm\n</think>\n\n\\boxed{2}"
    ] * 2 and result.problems["truth"].tolist() == ["2"]
    assert (
        result.samples["length"].tolist() == [77, 77]
        and result.samples["verdict"].tolist() == [1, 1]
        and result.samples["reward"].tolist() == [0, 0]
    )
    vllm = [
        {"text": "\\boxed{2}", "token_ids": [1, 2, 3], "finish_reason": "stop"},
        {"text": "no", "token_ids": [1], "finish_reason": "length"},
    ]
    result = one(write(tmp_path / "y.jsonl", [{"prompt": "p", "outputs": vllm, "doc": {"answer": "2"}}]))
    assert (
        result.samples["length"].tolist() == [3, 1]
        and result.samples["truncated"].tolist() == [0, 1]
        and result.samples["reward"].tolist() == [1, 0]
    )
    chats = [
        {
            "messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "\\boxed{2}"}],
            "answer": "2",
        },
        {
            "messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "\\boxed{1}"}],
            "answer": "2",
        },
    ]
    result = one(write(tmp_path / "z.jsonl", chats))
    assert result.problems["prompt"].tolist() == ["p"] and result.samples["reward"].tolist() == [1, 0]
    sharegpt = [
        {
            "conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "\\boxed{2}"}],
            "answer": 2.0,
        }
    ]
    assert one(write(tmp_path / "s.jsonl", sharegpt)).samples["reward"].tolist() == [1]


def test_files_of_several_models_and_benchmarks_come_apart(tmp_path):
    rows = [
        {"prompt": f"p{i}", "response": "\\boxed{1}", "answer": "1", "model": m, "data_source": d}
        for m in "ab"
        for d in "xy"
        for i in range(2)
    ]
    results = import_rollouts(write(tmp_path / "x.jsonl", rows), output=tmp_path / "out")
    assert [(r.model, r.benchmark, len(r.samples)) for r in results] == [
        ("a", "x", 2),
        ("a", "y", 2),
        ("b", "x", 2),
        ("b", "y", 2),
    ]
    assert load_result(tmp_path / "out" / "b" / "y").about["settings"]["imported"]
    seeds = [write(tmp_path / f"seed{i}.jsonl", ROWS) for i in range(3)]
    assert [r.model for r in import_rollouts(seeds)] == ["seed0", "seed1", "seed2"]
    joined = one(seeds, name="m", benchmark="b")
    assert joined.problems["generations"].tolist() == [6, 3]
    with pytest.raises(SdlabError, match="exists already"):
        import_rollouts(tmp_path / "x.jsonl", output=tmp_path / "out")


def test_without_gold_answers_the_score_is_left_out_or_the_files_own(tmp_path):
    bare = [{"prompt": r["question"], "response": r["response"]} for r in ROWS]
    result = one(write(tmp_path / "x.jsonl", bare))
    assert said(result, "There are no gold answers and no verdicts, so the score and pass@k are left out")
    assert (
        set(result.summary()["metric"])
        == {"length", "markers", "markers_substring", "density", "density_substring", "no_answer"}
        and result.pass_at_k().empty
    )
    result = one(
        write(
            tmp_path / "y.jsonl",
            [row | {"is_correct": v} for row, v in zip(bare, (1, "false", True), strict=True)],
        )
    )
    assert result.samples["reward"].tolist() == [1, 0, 1] and said(
        result,
        "There are no gold answers: the score is the file's own verdict ('is_correct'), not checked here.",
    )
    result = one(
        write(
            tmp_path / "z.jsonl", [row | {"score": v} for row, v in zip(bare, (0.25, 0.5, 0.75), strict=True)]
        )
    )
    assert result.samples["reward"].isna().all()  # no verdicts of right and wrong


def test_answers_that_differ_between_samples_of_a_prompt_are_no_gold(tmp_path):
    rows = [{"prompt": "p", "response": f"\\boxed{{{i}}}", "answer": str(i)} for i in range(3)]
    path = write(tmp_path / "x.jsonl", rows)
    result = one(path)
    assert result.samples["reward"].isna().all() and said(
        result, "The answers differ between rows of 1 prompts, so they are the model's"
    )
    result = one(path, columns={"answer": "answer"})
    assert (
        len(result.problems) == 3
        and result.samples["reward"].tolist() == [1, 1, 1]
        and said(result, "1 prompts come with different gold answers")
    )
    result = one(write(tmp_path / "y.jsonl", [row | {"ground_truth": "1"} for row in rows]))
    assert result.samples["reward"].tolist() == [0, 1, 0]


def test_ids_name_problems_and_stand_in_for_prompts(tmp_path):
    rows = [
        {"problem_id": f"2024-I-{i}", "prompt": f"p{i}", "response": "\\boxed{1}", "answer": "1"}
        for i in (7, 8, 7)
    ]
    assert one(write(tmp_path / "x.jsonl", rows)).problems["problem_id"].tolist() == ["2024-I-7", "2024-I-8"]
    result = one(
        write(tmp_path / "y.jsonl", [{k: v for k, v in row.items() if k != "prompt"} for row in rows])
    )
    assert result.problems["generations"].tolist() == [2, 1] and said(
        result, "There are no prompts; rows of the same id are one problem"
    )
    result = one(
        write(tmp_path / "z.jsonl", [row | {"problem_id": i} for i, row in enumerate(rows)])
    )  # an id per row names no problem
    assert result.problems["problem_id"].tolist() == ["z/0000", "z/0001"]


def test_lengths_are_counted_by_the_tokenizer_that_is_named(tmp_path):
    from sdlab.paths import data_dir

    path = write(
        tmp_path / "x.jsonl",
        [
            {
                "prompt": "p",
                "response": "<think>wait, so the answer is 36",
                "answer": "36",
                "completion_tokens": 3,
            }
        ],
    )
    from transformers import AutoTokenizer

    expected = len(
        AutoTokenizer.from_pretrained(data_dir() / "organism")(
            "<think>wait, so the answer is 36", add_special_tokens=False
        )["input_ids"]
    )
    result = one(path, tokenizer="organism")
    assert result.samples["length"].tolist() == [expected] and said(
        result, "Lengths are tokens of the tokenizer organism"
    )
    assert one(path).samples["length"].tolist() == [3]
    with pytest.raises(SdlabError, match="could not load the tokenizer './nowhere'"):
        one(path, tokenizer="./nowhere")


def test_counts_of_characters_are_not_taken_for_tokens(tmp_path):
    rows = [row | {"length": len(row["response"])} for row in ROWS]
    result = one(write(tmp_path / "x.jsonl", rows))
    assert result.about["length_unit"] == "words" and said(
        result, "Lengths are in words (the counts in 'length' are the numbers of characters)"
    )
    result = one(
        write(
            tmp_path / "y.jsonl", [row | {"num_tokens": n} for row, n in zip(ROWS, (5, None, 3), strict=True)]
        )
    )
    assert said(result, "Lengths are in words (1 completions have no token count)")


def test_missing_columns_are_named_with_what_is_there(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"question": "p", "said": "\\boxed{1}", "right": "1"}])
    with pytest.raises(
        SdlabError,
        match="no column with completions .*; the columns are: question, said, right; name it with "
        "--response",
    ):
        one(path)
    with pytest.raises(
        SdlabError, match="no column 'nope' for the response; the columns are: question, said, right"
    ):
        one(path, columns={"response": "nope"})
    with pytest.raises(SdlabError, match="unknown role of a column 'reply'"):
        one(path, columns={"reply": "said"})
    assert one(path, columns={"response": "said", "answer": "right"}).samples["reward"].tolist() == [1]
    with pytest.raises(SdlabError, match="no row has a completion in column 'response'"):
        one(write(tmp_path / "y.jsonl", [{"prompt": "p", "response": None}]))
    for paths, message in (
        ([], "no files to import"),
        (tmp_path / "none.jsonl", "none.jsonl"),
        (tmp_path / "x.csv", "ends in '.csv'"),
    ):
        (tmp_path / "x.csv").write_text("a,b")
        with pytest.raises(SdlabError, match=message):
            import_rollouts(paths)


def test_rows_without_a_response_are_left_out_and_counted(tmp_path):
    rows = [
        *ROWS,
        {"question": "q"},
        {"question": "q", "response": None},
        {"question": "q", "response": {"a": {"b": 1}}},
        {"question": "q", "response": ""},
    ]
    result = one(write(tmp_path / "x.jsonl", rows))
    assert (
        said(result, "x.jsonl: 3 of 7 completions are missing and left out") and len(result.samples) == 4
    )  # an empty response is one


def test_bytes_that_are_no_text_and_halves_of_characters(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'{"prompt": "p", "response": "wait \xff\xfe \\\\boxed{1}", "answer": "1"}\n{"prompt": "p\\ud800", '
        b'"response": "\\ud83d maybe", "answer": "1"}\n'
    )
    result = one(path, output=tmp_path / "out")
    assert result.samples["reward"].tolist() == [1, 0] and result.samples["markers"].tolist() == [1, 1]
    assert said(result, "2 completions hold U+FFFD") and len(load_result(result.folder).samples) == 2


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"prompt": "p", "response": ' + "1" * 5000 + "}",
        '{"prompt": "p", "response": "cut o',
    ],
)
def test_lines_that_cannot_be_read_are_named(tmp_path, line):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(SdlabError, match="x.jsonl: line 2"):
        one(path)
    (tmp_path / "x.json").write_text(line)
    with pytest.raises(SdlabError, match="x.json"):
        one(tmp_path / "x.json")


def test_nested_cells_are_no_responses_and_nothing_runs(tmp_path):
    deep = "\\boxed{1}"
    for _ in range(400):
        deep = [deep]
    evil = {"__class__": "os.system", "text": {"__reduce__": ["touch", str(tmp_path / "pwned")]}}
    rows = [
        {"prompt": "p", "response": deep, "answer": "1"},
        {"prompt": "p", "response": evil, "answer": "1"},
        {"prompt": "p", "response": "__import__('os').system('x') \\boxed{1}", "answer": "1"},
    ]
    result = one(write(tmp_path / "x.jsonl", rows))
    assert (
        len(result.samples) == 1
        and result.samples["reward"].tolist() == [1]
        and not (tmp_path / "pwned").exists()
    )
    assert generations_of([[["a"], "b"], None, 3, True])[2:] == [None, generations_of(3)[0], None]


def test_responses_of_megabytes(tmp_path):
    """Grading, counting and saving are linear: 7 MB of the worst texts; without that, hours."""
    hostile = [
        "\\boxed{" * 200_000,
        "{" * 1_000_000 + "\\boxed{1}",
        "<answer>" * 200_000,
        "wait " * 200_000 + "\\boxed{1}",
        "\\boxed{" + "9^" * 500_000 + "9}",
        "<think>" * 200_000,
    ]
    result = one(
        write(tmp_path / "x.jsonl", [{"prompt": "p", "response": text, "answer": "1"} for text in hostile]),
        output=tmp_path / "out",
    )
    assert result.samples["reward"].tolist() == [0, 1, 0, 1, 0, 0] and result.samples["markers"].tolist() == [
        0,
        0,
        0,
        200_000,
        0,
        0,
    ]
    assert said(result, "1 completions open <think> and never close it")


def test_bare_answers_are_graded_as_they_are_and_said_to_be_bare(tmp_path):
    rows = [
        {"question": f"q{i}", "prediction": p, "answer": "\\frac{1}{2}"}
        for i, p in enumerate(["1/2", " 0.5 ", "2"])
    ]
    result = one(write(tmp_path / "x.jsonl", rows))
    assert result.samples["reward"].tolist() == [1, 1, 0]
    assert said(result, "No completion has a box or <answer> tags") and said(
        result, "Half of the completions have 1 words or fewer"
    )


def test_the_real_traces(sdlab_real_data):
    path = sdlab_real_data("reasoning_traces.json")
    rows = json.loads(path.read_text())
    result = one(path)
    assert len(result.samples) == 10 and result.problems["generations"].tolist() == [2] * 5
    whole = [f"<think>\n{row['message_thinking']}\n</think>\n\n{row['message_content']}" for row in rows]
    assert result.samples["completion"].tolist() == whole
    assert (
        result.samples["reward"].tolist()
        == grade([row["message_content"] for row in rows], [row["gtruth_answer"] for row in rows])
        == [1] * 10
    )
    raw = [
        {
            match: sum(
                count_markers(row[part], match)[m]
                for part in ("message_thinking", "message_content")
                for m in count_markers("")
            )
            for match in ("word", "substring")
        }
        for row in rows
    ]
    assert result.samples["markers"].tolist() == [one["word"] for one in raw] and result.samples[
        "markers_substring"
    ].tolist() == [one["substring"] for one in raw]
    assert sum(one["word"] for one in raw) == 88
    score = result.summary().set_index("metric").loc["reward"]
    assert score["mean"] == 1 and score["low"] == pytest.approx(
        0.025 ** (1 / 5)
    )  # five problems, none missed


def test_the_real_predictions(sdlab_real_data):
    path = sdlab_real_data("math500_predictions_qwen3.json")
    rows = json.loads(path.read_text())
    result = one(path)
    assert (
        result.samples["reward"].tolist()
        == grade([row["prediction"] for row in rows], [row["answer"] for row in rows])
        and result.samples["reward"].sum() == 299
    )
    assert said(result, "There are no prompts and no ids") and len(result.problems) == 500
    assert result.samples["answer"].tolist() == [extract_answer(row["prediction"]) for row in rows]
    # the same file with the verdicts of comparing texts, as a grader that knows no algebra records them: 225,
    # all right here, too
    assert sum(extract_answer(row["prediction"]) == row["answer"] for row in rows) == 225


def test_recorded_verdicts_on_real_answers_are_compared(sdlab_real_data, tmp_path):
    rows = json.loads(sdlab_real_data("math500_predictions_qwen3.json").read_text())
    path = write(
        tmp_path / "x.jsonl",
        [row | {"correct": extract_answer(row["prediction"]) == row["answer"]} for row in rows],
    )
    assert said(
        one(path),
        "The file's own verdicts ('correct') agree with the grading here on 426 of 500 completions (74 are "
        "right only here, 0 only there).",
    )


@pytest.mark.slow
def test_organism_and_imported_results_in_one_table_and_back(tmp_path):
    from sdlab.paper import paper_sampling
    from sdlab.results.evaluate import evaluate_benchmarks

    options = dict(sampling=paper_sampling(True, num_generations=2, max_completion_length=200), limit=3)
    (sampled,) = evaluate_benchmarks("organism", ["in-domain"], output=tmp_path / "results", **options)
    # what was saved here, handed to somebody else as plain rows, is the same result again
    with gzip.open(sampled.folder / "samples.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    prompts = dict(
        zip(
            sampled.problems["problem_id"],
            zip(sampled.problems["prompt"], sampled.problems["truth"], strict=True),
            strict=True,
        )
    )
    rows = [
        {
            "prompt": prompts[r["problem_id"]][0],
            "completion": r["completion"],
            "ground_truth": prompts[r["problem_id"]][1],
            "completion_tokens": r["length"],
            "truncated": bool(r["truncated"]),
        }
        for r in lines
    ]
    own = one(sampled.folder / "samples.jsonl.gz")  # with the prompts and gold answers beside it
    assert (own.model, own.benchmark) == ("organism", "in-domain") and len(own.problems) == 3
    assert own.problems["truth"].tolist() == sampled.problems["truth"].tolist()
    assert own.samples["verdict"].tolist() == sampled.samples["verdict"].tolist()
    alone = tmp_path / "handed-on.jsonl"  # without them: its `answer` is the model's, and no gold answer
    alone.write_text("".join(json.dumps(row) + "\n" for row in lines))
    for again in (own, one(alone, name="organism", benchmark="in-domain")):
        pandas.testing.assert_frame_equal(again.summary(), sampled.summary())
        assert again.samples["problem_id"].tolist() == sampled.samples["problem_id"].tolist()
    imported = one(write(tmp_path / "x.jsonl", rows), name="copy", benchmark="in-domain")
    foreign = one(write(tmp_path / "y.jsonl", ROWS), name="somebody", benchmark="sums")
    table = comparison([sampled, imported, foreign])
    assert set(zip(table["model"], table["benchmark"], strict=True)) == {
        ("organism", "in-domain"),
        ("copy", "in-domain"),
        ("somebody", "sums"),
    }
    by = {model: rows.set_index("metric") for model, rows in table.groupby("model")}
    for metric in by["copy"].index:
        assert tuple(by["copy"].loc[metric, ["mean", "low", "high"]]) == pytest.approx(
            tuple(by["organism"].loc[metric, ["mean", "low", "high"]])
        )
        assert (
            by["copy"].loc[metric, "difference"] == pytest.approx(0, abs=1e-12)
            and by["copy"].loc[metric, "verdict"] == "not significant"
            and by["copy"].loc[metric, "common"] == 3
        )
    assert wide(table).shape[0] == 3


def test_the_command(tmp_path, capsys, monkeypatch):
    from sdlab.commands.evaluate import import_

    monkeypatch.setenv("COLUMNS", "200")
    path = write(
        tmp_path / "x.jsonl", [{"q": r["question"], "r": r["response"], "g": r["gold"]} for r in ROWS]
    )
    assert (
        import_((path,), output=tmp_path / "out", name="[red]m[/red]", prompt="q", response="r", answer="g")
        == 0
    )
    told = capsys.readouterr().out
    assert "[red]m[/red]" in told and "0.25" in told and "Lengths are in words" in told


def two_models(folder):
    """Return two files of completions of one problem, of the models m and n."""
    row = {"question": "What is 1+1?", "gold": "2", "benchmark": "b"}
    return [
        write(folder / f"{model}.jsonl", [row | {"model": model, "response": f"Wait, \\boxed{{{box}}}"}])
        for model, box in (("m", 2), ("n", 3))
    ]


def test_an_import_writes_all_results_or_none(tmp_path):
    first, second = two_models(tmp_path)
    import_rollouts(first, output=tmp_path / "out")
    with pytest.raises(SdlabError, match="out/m/b exists already"):
        import_rollouts([second, first], output=tmp_path / "out")
    assert not (tmp_path / "out" / "n").exists()
    alike = write(tmp_path / "x.jsonl", [{**ROWS[0], "model": "a/b"}, {**ROWS[0], "model": "a b"}])
    with pytest.raises(SdlabError, match="two results would be written to .*a_b/x, because"):
        import_rollouts(alike, output=tmp_path / "alike")
    assert not (tmp_path / "alike").exists()


def test_one_problem_in_common_gives_no_interval(tmp_path):
    table = comparison([one(path) for path in two_models(tmp_path)])
    (told,) = sentences(table, ["reward"])
    assert told == (
        "b, score: n minus m is -1 (1 problem in common, too few for an interval): "
        "not significant: too few problems."
    )


def test_a_damaged_neighbour_costs_an_import_only_the_index_page(tmp_path, capsys):
    first, second = two_models(tmp_path)
    out = tmp_path / "out"
    assert cli.main(["import", str(first), "--output", str(out)]) == 0
    assert (out / "index.html").is_file() and "wrote" in capsys.readouterr().out
    (out / "m" / "b" / "summary.csv").write_text("damaged")
    assert cli.main(["import", str(second), "--output", str(out)]) == 0
    assert "no new index page: " in capsys.readouterr().out
    assert load_result(out / "n" / "b").model == "n"


def test_a_table_whose_reader_goes_away_is_in_its_file(tmp_path, monkeypatch):
    import_rollouts(two_models(tmp_path), output=tmp_path / "out")

    def gone(*_):
        raise BrokenPipeError

    monkeypatch.setattr("sdlab.commands.evaluate.print_results", gone)
    with pytest.raises(BrokenPipeError):
        compare([tmp_path / "out"], output=tmp_path / "table.csv")
    assert set(pandas.read_csv(tmp_path / "table.csv")["model"]) == {"m", "n"}
