"""Whole files of other tools, imported: score, problems, lengths and notes, all counted by hand."""

import json

import numpy as np
import pandas
import pytest

from sdlab.cli import main
from sdlab.errors import SdlabError
from sdlab.results.imported import import_rollouts
from sdlab.results.store import load_result


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one(path, **options):
    (result,) = import_rollouts(path, **options)
    return result


def noted(result, part):
    return [note for note in result.notes if part in note]


def mean(result, metric):
    return result.summary().set_index("metric").loc[metric, "mean"]


def server(content, reason, thinking=None, tokens=10):
    message = {"role": "assistant", "content": content, "reasoning_content": thinking}
    return {
        "choices": [{"message": message, "finish_reason": reason}],
        "usage": {"completion_tokens": tokens},
    }


def test_a_completion_cut_in_its_thinking_is_wrong_and_its_thinking_counts(tmp_path):
    rows = [
        {"prompt": "p", "gold": "2", **server("\\boxed{2}", "stop", "hmm, wait", 30)},
        {"prompt": "p", "gold": "2", **server(None, "length", "Wait, perhaps \\boxed{2}. Maybe", 4096)},
        {"prompt": "p", "gold": "2", **server(None, "length", None, 4096)},
        {"prompt": "p", "gold": "2", **server("", "stop", "likely", 20)},
    ]
    result = one(write(tmp_path / "x.jsonl", rows))
    assert result.samples["reward"].tolist() == [1, 0, 0, 0] and mean(result, "reward") == 0.25
    assert result.samples["truncated"].tolist() == [0, 1, 1, 0] and mean(result, "truncated") == 0.5
    assert result.samples["markers"].tolist() == [2, 3, 0, 1]
    assert (
        result.samples["length"].tolist() == [30, 4096, 4096, 20] and result.about["length_unit"] == "tokens"
    )
    assert noted(result, "2 of 4 completions (50.0%) were cut at the length limit")
    assert noted(
        result, "x.jsonl: 4 rows read: 4 completions, 4 with a gold answer, 0 with a verdict, 4 that say"
    )
    assert noted(result, "2 of 4 completions have a readable answer")


def test_problems_are_told_apart_by_the_whole_conversation(tmp_path):
    def row(first, reply):
        turns = [
            {"role": "user", "content": first},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Solve it."},
        ]
        return {"prompt": turns, "completion": f"\\boxed{{{reply}}}", "ground_truth": "2"}

    result = one(write(tmp_path / "x.jsonl", [row("1+1", 2), row("1+1", 3), row("4-2", 2)]))
    assert result.problems["generations"].tolist() == [2, 1] and result.problems["right"].tolist() == [1, 1]
    assert result.problems["prompt"][0] == "user: 1+1\n\nassistant: Yes?\n\nuser: Solve it."
    chats = [
        {
            "messages": [*row("1+1", 2)["prompt"], {"role": "assistant", "content": f"\\boxed{{{n}}}"}],
            "gold": "2",
        }
        for n in (2, 3)
    ]
    result = one(write(tmp_path / "y.jsonl", chats))
    assert result.problems["generations"].tolist() == [2]
    assert noted(result, "2 completions follow earlier turns of the model, which belong to the prompt")


def test_no_readable_answer_is_a_warning_beside_the_score(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    long = "I think that the answer must be thirty-six, " * 15
    path = write(
        tmp_path / "x.jsonl", [{"prompt": f"p{i}", "completion": long, "gold": "36"} for i in range(3)]
    )
    assert main(["import", str(path), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "0.00 [" in line)
    assert "] !" in row and "3 of 3" in row
    sentence = "Warning: none of the 3 graded completions has a readable answer"
    assert printed.count(sentence) == 1 and sentence in one(path).notes[0]
    assert main(["compare", str(tmp_path / "out")]) == 0 and sentence in capsys.readouterr().out
    short = write(tmp_path / "y.jsonl", [{"prompt": "p", "completion": "It is 36, I think", "gold": "36"}])
    assert one(short).warnings  # graded as it stands, which is no answer either
    wrong = write(tmp_path / "z.jsonl", [{"prompt": "p", "completion": long + "\\boxed{35}", "gold": "36"}])
    assert mean(one(wrong), "reward") == 0 and not one(wrong).warnings


def test_the_reward_column_is_named_on_the_command_line(tmp_path, capsys):
    table = {
        "step": [5] * 4,
        "prompt": ["p", "p", "q", "q"],
        "completion": ["a", "b", "c", "d"],
        "my_judge": [1.0, 0.0, 1.0, 1.0],
        "other_reward": [0.0, 0.0, 0.0, 1.0],
        "think_format_reward": [1.0, 0.5, 0.5, 0.0],
        "advantage": [0.1] * 4,
    }
    pytest.importorskip("pyarrow")
    pandas.DataFrame(table).to_parquet(tmp_path / "completions_00005.parquet")
    path = tmp_path / "completions_00005.parquet"
    assert (
        main(["import", str(path), "--reward", "my_judge", "--output", str(tmp_path / "out"), "--name", "m"])
        == 0
    )
    assert "4 with a verdict" in capsys.readouterr().out
    assert load_result(tmp_path / "out" / "m" / "completions_00005").problems["rate"].tolist() == [0.5, 1]
    result = one(path)  # the one column that may be a verdict, and says which
    assert result.samples["reward"].tolist() == [0, 0, 0, 1] and noted(result, "reward 'other_reward'")
    with pytest.raises(SdlabError, match="no column 'nope' for the reward"):
        one(path, columns={"reward": "nope"})


def test_rewards_that_are_no_verdicts_are_left_out_and_said(tmp_path):
    rows = [
        {"prompt": f"p{i}", "completion": "a", "score": score} for i, score in enumerate((1, 0.5, 0.25, 0))
    ]
    result = one(write(tmp_path / "x.jsonl", rows))
    rewards = result.samples["reward"].tolist()
    assert rewards[0] == 1 and rewards[3] == 0 and np.isnan(rewards[1:3]).all()
    assert noted(
        result, "2 of the values in 'score' are no verdicts and left out, 2 of them strictly between 0 and 1"
    )


def test_large_numbers_beside_nulls_name_and_grade_as_they_are(tmp_path):
    big = 9007199254740993  # 2**53 + 1, which no float is
    rows = [
        {"problem_id": big, "prompt": "p", "completion": f"\\boxed{{{big}}}", "answer": big},
        {"problem_id": big, "prompt": "p", "completion": f"\\boxed{{{big - 1}}}", "answer": None},
        {"problem_id": 3, "prompt": "q", "completion": "\\boxed{7}", "answer": 7},
    ]
    for name in ("x.jsonl", "x.parquet"):
        if name.endswith("parquet"):
            pyarrow = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
        else:
            write(tmp_path / name, rows)
        result = one(tmp_path / name)
        assert result.problems["truth"].tolist() == [str(big), "7"] and result.samples["reward"].tolist() == [
            1,
            0,
            1,
        ]
        assert result.problems["problem_id"].tolist() == [str(big), "3"]
        assert noted(result, "1 completions take the gold answer of other rows with the same prompt")


def test_the_models_own_answers_are_no_gold_answers(tmp_path):
    rows = [
        {"prompt": f"p{i}", "completion": f"\\boxed{{{i}}}", "answer": str(i), "correct": i > 0}
        for i in range(3)
    ]
    result = one(write(tmp_path / "x.jsonl", rows))
    assert result.samples["reward"].tolist() == [0, 1, 1] and noted(
        result, "the column holds the model's answers and no gold"
    )
    assert one(tmp_path / "x.jsonl", columns={"answer": "answer"}).samples["reward"].tolist() == [1, 1, 1]


def test_gold_columns_that_differ_make_problems_and_do_not_vanish(tmp_path):
    rows = [
        {"prompt": "Which?", "completion": "\\boxed{1}", "ground_truth": truth} for truth in ("1", "2", "1")
    ]
    result = one(write(tmp_path / "x.jsonl", rows))
    assert result.problems["generations"].tolist() == [2, 1] and result.problems["rate"].tolist() == [1, 0]
    assert noted(result, "1 prompts come with different gold answers")


def test_rows_without_prompts_in_two_files_are_not_one_problem(tmp_path):
    files = [
        write(tmp_path / f"{i}.jsonl", [{"completion": "a" * (i + 1), "is_correct": i}]) for i in range(2)
    ]
    result = one(files, name="m", benchmark="b")
    assert result.problems["generations"].tolist() == [1, 1] and result.problems["rate"].tolist() == [0, 1]


def test_files_that_are_named_twice_or_hold_the_same(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"prompt": "p", "completion": "a"}])
    with pytest.raises(SdlabError, match="x.jsonl is named twice"):
        import_rollouts([path, tmp_path / "." / "x.jsonl"])
    copy = tmp_path / "y.jsonl"
    copy.write_bytes(path.read_bytes())
    assert noted(one([path, copy], name="m", benchmark="b"), "Some of the files have the same content")


def test_lm_evaluation_harness_and_verl_whole(tmp_path):
    def sample(doc, text, name, verdict):
        return {
            "doc_id": doc,
            "doc": {"question": f"q{doc}", "answer": "x\n#### 4"},
            "target": "x\n#### 4",
            "resps": [[text]],
            "arguments": {"gen_args_0": {"arg_0": f"Q: q{doc}\nA:", "arg_1": {}}},
            "filtered_resps": [text],
            "filter": name,
            "metrics": ["exact_match"],
            "exact_match": verdict,
        }

    rows = [
        sample(doc, f"So \\boxed{{{4 + doc}}}", name, float(doc == 0))
        for name in ("strict-match", "flexible-extract")
        for doc in (0, 1)
    ]
    result = one(write(tmp_path / "samples_gsm8k.jsonl", rows))
    assert result.problems["generations"].tolist() == [1, 1] and result.samples["reward"].tolist() == [1, 0]
    assert noted(result, "2 rows repeat the completions of another row, one for each filter")
    assert noted(result, "agree with the grading here on 2 of 2 completions")
    dump = [
        {"input": "user\n2+2?\nassistant\n", "output": f"\\boxed{{{n}}}", "gts": "4", "score": s, "step": 1}
        for n, s in ((4, 1.0), (5, -1.0))
    ]
    result = one(write(tmp_path / "1.jsonl", dump))
    assert result.problems["rate"].tolist() == [0.5] and noted(
        result, "agree with the grading here on 2 of 2 completions"
    )


def test_every_orient_of_to_json_gives_the_same_result(tmp_path):
    frame = pandas.DataFrame(
        {
            "prompt": ["p", "p", "q"],
            "completion": ["\\boxed{1}", "\\boxed{2}", "\\boxed{1}"],
            "gold": [1, 1, 1],
        }
    )
    for orient in ("records", "columns", "index", "split", "table"):
        frame.to_json(tmp_path / f"{orient}.jsonl", orient=orient)
        result = one(tmp_path / f"{orient}.jsonl")
        assert result.problems["rate"].tolist() == [0.5, 1] and result.samples["reward"].tolist() == [
            1,
            0,
            1,
        ], orient


def test_a_result_reads_back_from_its_samples_with_words_and_without_gold_answers(tmp_path):
    verdicts = [
        {
            "prompt": f"p{i // 2}",
            "completion": "wait, so it goes on for ten words or a few more " * (i + 1),
            "is_correct": i % 3 == 0,
            "finish_reason": "length" if i == 3 else "stop",
        }
        for i in range(6)
    ]
    golden = [row | {"gold": "1", "completion": row["completion"] + "\\boxed{1}"} for row in verdicts]
    bare = [{k: row[k] for k in ("prompt", "completion")} for row in golden]
    for name, rows in (("verdicts", verdicts), ("golden", golden), ("bare", bare)):
        first = one(write(tmp_path / f"{name}.jsonl", rows), output=tmp_path / "out")
        assert first.about["length_unit"] == "words"
        samples = first.folder / "samples.jsonl.gz"
        alone = tmp_path / f"{name}-alone.jsonl.gz"
        alone.write_bytes(samples.read_bytes())
        for path in (samples, alone):
            again = one(path, name=first.model, benchmark=first.benchmark)
            pandas.testing.assert_frame_equal(again.summary(), first.summary())
            assert again.about["length_unit"] == "words"
        assert one(samples).problems["prompt"].tolist() == ["p0", "p1", "p2"]
