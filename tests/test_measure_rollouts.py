"""The one reader of rollouts, on rows as servers, harnesses and trainers write them; all counted by hand."""

import json

import pytest

from sdlab.errors import SdlabError
from sdlab.reading.cells import text_of
from sdlab.reading.chats import prompt_of
from sdlab.reading.column_names import is_chat
from sdlab.reading.files import read_rollouts, rollouts_of, token_counts
from sdlab.reading.generations import generations_of
from sdlab.reading.messages import joined
from sdlab.reading.values import cut_of, truth_of, verdict_of


def choice(content, reason="stop", **message):
    return {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": reason,
        "logprobs": None,
    }


def completion(*choices, tokens=None, **more):
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + (tokens or 0)}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1750000000,
        "model": "Qwen/Qwen3-8B",
        "choices": list(choices),
        "usage": usage,
        **more,
    }


def read(*rows, **columns):
    return rollouts_of(list(rows), "x.jsonl", columns)


def texts(*rows, **columns):
    return [row["completion"] for row in read(*rows, **columns).rows]


def noted(rollouts, part):
    return [note for note in rollouts.notes if part in note]


CUT_IN_THINKING = completion(choice(None, "length", reasoning_content="Wait, perhaps 7"), tokens=4096)


@pytest.mark.parametrize(
    "row",
    [
        CUT_IN_THINKING,  # at the top level
        {"response": CUT_IN_THINKING},
        {
            "id": "batch_req_1",
            "custom_id": "q1",
            "error": None,
            "response": {"status_code": 200, "body": CUT_IN_THINKING},
        },
        {"output": CUT_IN_THINKING["choices"]},
        {"response": CUT_IN_THINKING["choices"][0]},
        {"content": None, "reasoning_content": "Wait, perhaps 7", "finish_reason": "length"},
        {"message": CUT_IN_THINKING["choices"][0]["message"], "finish_reason": "length"},
    ],
)
def test_content_null_with_reasoning_is_a_completion_that_was_cut(row):
    (one,) = read(row).rows
    assert one["completion"] == "<think>\nWait, perhaps 7" and one["truncated"] == 1
    if "usage" in json.dumps(row):
        assert one["tokens"] == 4096 and one["model"] == "Qwen/Qwen3-8B"


def test_choices_of_one_answer_are_completions_and_their_common_tokens_are_not_each_ones():
    rollouts = read(completion(choice("a"), choice("b", "length"), choice("", "stop"), tokens=300))
    assert [row["completion"] for row in rollouts.rows] == ["a", "b", ""]
    assert [row["truncated"] for row in rollouts.rows] == [0, 1, 0]
    assert [row["tokens"] for row in rollouts.rows] == [None] * 3
    assert noted(
        rollouts, "1 rows do not have a value in 'usage.completion_tokens' for each of their completions"
    )
    assert noted(rollouts, "1 completions are empty")


def test_an_answer_without_text_counts_and_a_failed_request_is_left_out():
    """A model that spends all its tokens on hidden thinking returns nothing: that is a failure, not a gap."""
    hidden, filtered = (
        completion(choice(None, "length"), tokens=512),
        completion(choice(None, "content_filter")),
    )
    failed = {
        "custom_id": "c",
        "response": {"status_code": 500, "body": {"error": {"message": "overloaded"}}},
        "error": None,
    }
    errored = {"custom_id": "d", "response": None, "error": {"code": "batch_expired"}}
    rollouts = read(
        {"custom_id": "a", "response": hidden}, {"custom_id": "b", "response": filtered}, failed, errored
    )
    assert [(row["completion"], row["truncated"]) for row in rollouts.rows] == [("", 1), ("", 0)]
    assert noted(
        rollouts,
        "2 of 4 completions are missing and left out (1 cells without text, 1 of requests that failed)",
    )
    assert rollouts.left_out == 2


PARTS = {
    "anthropic": [
        {"type": "thinking", "thinking": "hmm", "signature": "x"},
        {"type": "text", "text": "so "},
        {"type": "text", "text": "7"},
    ],
    "mistral": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]},
        {"type": "text", "text": "so 7"},
    ],
    "responses": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hmm"}]},
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "so 7"}],
        },
    ],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_a_list_of_parts_is_one_completion(parts):
    expected = ["<think>\nhmm\n</think>\n\nso 7"]
    assert texts({"content": parts}) == expected
    assert texts({"response": {"role": "assistant", "content": parts}}) == expected
    assert texts({"choices": [{"message": {"role": "assistant", "content": parts}}]}) == expected
    assert (
        texts({"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": parts}]})
        == expected
    )
    assert texts({"response": {"output": parts, "status": "completed"}}) == expected
    assert texts({"response": {"content": ["so ", "7"]}}) == ["so 7"]  # a message without its role
    assert texts({"response": ["so ", "7"]}) == ["so ", "7"]  # two completions


def test_gemini_and_anthropic_objects():
    gemini = {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": "hmm", "thought": True}, {"text": "7"}]},
                "finishReason": "MAX_TOKENS",
            }
        ],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 10, "thoughtsTokenCount": 30},
    }
    for row in (gemini, {"key": "q1", "response": gemini}):
        (one,) = read(row).rows
        assert (one["completion"], one["truncated"]) == ("<think>\nhmm\n</think>\n\n7", 1)
    assert one["tokens"] == 40
    message = {
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": PARTS["anthropic"],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 5, "output_tokens": 20},
    }
    for row in (message, {"custom_id": "q1", "result": {"type": "succeeded", "message": message}}):
        (one,) = read(row).rows
        assert (one["completion"], one["truncated"], one["tokens"], one["model"]) == (
            "<think>\nhmm\n</think>\n\nso 7",
            1,
            20,
            "claude",
        )
    lost = {"custom_id": "q2", "result": {"type": "errored", "error": {"type": "overloaded"}}}
    assert noted(
        read({"custom_id": "q1", "result": {"type": "succeeded", "message": message}}, lost),
        "1 of requests that failed",
    )


def test_the_responses_api_says_why_it_is_incomplete():
    row = {
        "response": {
            "object": "response",
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": PARTS["responses"][:1],
            "usage": {"output_tokens": 64},
        }
    }
    (one,) = read(row).rows
    assert (one["completion"], one["truncated"], one["tokens"]) == ("<think>\nhmm", 1, 64)


def test_sglang_llama_cpp_ollama_and_tgi():
    rows = {
        "sglang": {
            "text": "a",
            "meta_info": {"finish_reason": {"type": "length", "length": 8}, "completion_tokens": 8},
        },
        "llama.cpp": {"content": "a", "stop_type": "limit", "tokens_predicted": 8, "truncated": False},
        "ollama": {
            "message": {"role": "assistant", "content": "a"},
            "done_reason": "length",
            "eval_count": 8,
        },
        "tgi": {"generated_text": "a", "details": {"finish_reason": "length", "generated_tokens": 8}},
    }
    for name, row in rows.items():
        (one,) = read(row).rows
        assert (one["completion"], one["truncated"], one["tokens"]) == ("a", 1, 8), name
        (one,) = read({"prompt": "p", "output": row}).rows if name != "tgi" else [one]
        assert (one["completion"], one["truncated"], one["tokens"]) == ("a", 1, 8), name
    assert noted(read(rows["llama.cpp"]), "1 completions have a finish reason that 'truncated' contradicts")


CUT_WORDS = [
    "length",
    "LENGTH",
    "max_tokens",
    "MAX_TOKENS",
    "FinishReason.MAX_TOKENS",
    "max_length",
    "max_new_tokens",
    "limit",
    "max_output_tokens",
    "model_length",
    "model_context_window_exceeded",
    "incomplete",
    {"type": "length"},
    {"type": "length", "length": 4096},
    {"reason": "max_output_tokens"},
    True,
    1,
    1.0,
    "1",
    "1.0",
    "True",
    "true",
]
END_WORDS = [
    "stop",
    "STOP",
    "eos",
    "eos_token",
    "end_turn",
    "stop_sequence",
    "tool_calls",
    "content_filter",
    "FinishReason.STOP",
    {"type": "stop", "matched": 151645},
    "COMPLETE",
    "word",
    False,
    0,
    0.0,
    "0",
    "0.0",
    "False",
    "false",
]


@pytest.mark.parametrize("cut, words", [(1.0, CUT_WORDS), (0.0, END_WORDS)])
def test_every_way_to_say_cut_or_ended(cut, words):
    for word in words:
        assert cut_of(word, "truncated") == cut, word
    flags = [word for word in words if isinstance(word, (bool, int, float))]
    assert [cut_of(word, "is_finished") for word in flags] == [1 - cut] * len(flags)


def test_reasons_that_are_not_known_are_named():
    rows = [
        {"completion": "a", "finish_reason": reason} for reason in ("abort", "abort", "error", None, "stop")
    ]
    rollouts = read(*rows)
    assert [row["truncated"] for row in rollouts.rows] == [None, None, None, None, 0]
    assert noted(
        rollouts, "3 completions end for reasons that are not known ('abort' 2 times, 'error' 1 times)"
    )
    assert cut_of(151645, "stop_reason") is None and cut_of(1, "stop_reason") is None  # the numbers of tokens


def test_a_flag_and_a_reason_in_one_file():
    rows = [
        {"completion": "a", "finish_reason": "length"},
        {"completion": "b", "truncated": 1.0},
        {"completion": "c", "truncated": 0},
    ]
    assert [row["truncated"] for row in read(*rows).rows] == [1, 1, 0]


SYSTEM, FIRST, SECOND = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+2?"},
    {"role": "user", "content": "Sure?"},
)


def test_prompts_keep_every_turn():
    chat = [SYSTEM, FIRST, {"role": "assistant", "content": "4"}, SECOND]
    expected = "system: Be brief.\n\nuser: 2+2?\n\nassistant: 4\n\nuser: Sure?"
    for cell in (chat, json.dumps(chat), {"messages": chat}, {"body": {"messages": chat, "model": "m"}}):
        assert prompt_of(cell) == expected
    assert read({"prompt": chat, "completion": "yes"}).rows[0]["prompt"] == expected
    row = read({"messages": [*chat, {"role": "assistant", "content": "yes"}]}).rows[0]
    assert (row["prompt"], row["completion"], row["earlier"]) == (expected, "yes", "4")
    assert prompt_of([FIRST]) == "2+2?"  # one turn of a user is its text, as in files without roles
    human = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "2+2?"},
        {"from": "gpt", "value": "4"},
    ]
    row = read({"conversations": human}).rows[0]
    assert (row["prompt"], row["completion"]) == ("system: Be brief.\n\nhuman: 2+2?", "4")


def test_a_chat_of_several_turns_tells_problems_apart_beside_a_column_of_last_turns():
    def row(first, **more):
        turns = [{"role": "user", "content": first}, {"role": "assistant", "content": "Yes?"}, SECOND]
        return {"question": SECOND["content"], "messages": turns, **more}

    answer = {"role": "assistant", "content": "4"}
    rows = [row(first, response="4") for first in ("2+2?", "3+1?")]
    for some in (rows, [row | {"messages": [*row["messages"], answer]} for row in rows]):
        assert [one["prompt"] for one in read(*some).rows] == [
            f"user: {first}\n\nassistant: Yes?\n\nuser: Sure?" for first in ("2+2?", "3+1?")
        ]
        assert [one["prompt"] for one in read(*some, prompt="question").rows] == ["Sure?"] * 2
    one_turn = {"question": "2+2?", "messages": [{"role": "user", "content": "Solve: 2+2?"}, answer]}
    assert read(one_turn).rows[0]["prompt"] == "2+2?"


def test_answers_of_servers_kept_as_json_text():
    (one,) = read({"prompt": "p", "response": json.dumps(CUT_IN_THINKING)}).rows
    assert (one["completion"], one["truncated"], one["tokens"]) == ("<think>\nWait, perhaps 7", 1, 4096)
    text = '{"choices": "a model may write this"}'
    assert texts({"prompt": "p", "response": text}) == [text]


def test_missing_completions_that_were_cut_count_one_by_one():
    row = {"prompt": "p", "responses": ["a", None, None], "finish_reasons": ["stop", "length", "stop"]}
    rollouts = read(row, {"prompt": "q", "responses": [None], "truncated": True})
    assert [(one["completion"], one["truncated"]) for one in rollouts.rows] == [("a", 0), ("", 1), ("", 1)]
    assert rollouts.left_out == 1


def test_pictures_tools_and_columns_beside_belong_to_the_prompt():
    def asked(url):
        return [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": url}},
                    {"type": "text", "text": "Area?"},
                ],
            }
        ]

    assert prompt_of(asked("a.png")) != prompt_of(asked("b.png")) and "Area?" in prompt_of(asked("a.png"))
    row = read({"system": "Be brief.", "question": "2+2?", "response": "4"}).rows[0]
    assert row["prompt"] == prompt_of([SYSTEM, FIRST])
    row = read({"instruction": "", "input": "2 and 2", "output": "4"}).rows[0]
    assert row["prompt"] == "2 and 2"
    row = read({"instruction": "Add.", "input": "2 and 2", "output": "4"}).rows[0]  # alpaca
    assert row["prompt"] == "Add.\n\n2 and 2"


def test_an_answer_with_calls_of_tools_is_one_completion_without_the_tools_words():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    chat = [
        FIRST,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "wait 4"},
        {"role": "assistant", "content": "It is 4."},
    ]
    for row in ({"messages": chat}, {"prompt": chat[:1], "completion": chat[1:]}):
        (one,) = read(row).rows
        assert one["completion"].endswith("\n\nIt is 4.") and '"add"' in one["completion"]
        assert "wait" not in one["completion"] and one["prompt"] == "2+2?" and one["earlier"] == ""


def test_turns_after_the_answer_are_left_out_and_counted():
    rollouts = read({"messages": [FIRST, {"role": "assistant", "content": "4"}, SECOND]})
    assert rollouts.rows[0]["completion"] == "4" and rollouts.rows[0]["prompt"] == "2+2?"
    assert noted(rollouts, "1 completions are followed by turns of others")


def test_thinking_is_joined_once():
    inside = {"response": {"content": "7", "reasoning_content": "hmm"}}
    assert texts(inside) == ["<think>\nhmm\n</think>\n\n7"]
    assert texts({"response": "<think>hmm</think>7", "reasoning": "hmm"}) == ["<think>hmm</think>7"]
    assert texts({"generations": ["a", "b"], "reasoning": ["x", "y"]}) == [joined("x", "a"), joined("y", "b")]
    assert texts({"reasoning": "hmm"}) == ["<think>\nhmm"]
    rollouts = read({"generations": ["a", "b"], "reasoning": "whose?"})
    assert [row["completion"] for row in rollouts.rows] == ["a", "b"]
    assert noted(rollouts, "1 rows do not have a value in 'reasoning' for each of their completions")


def test_one_verdict_or_length_says_nothing_about_each_of_several():
    rollouts = read({"responses": ["a", "b"], "score": 1.0, "num_tokens": 9, "finish_reason": "stop"})
    assert all(row[name] is None for row in rollouts.rows for name in ("recorded", "tokens", "truncated"))
    assert len(noted(rollouts, "1 rows do not have a value")) == 3


VERDICTS = {
    1.0: [1, True, 1.0, "1", "correct", "True", "C", {"value": "C", "answer": "7"}, {"match": {"value": 1}}],
    0.0: [0, False, -1, -1.0, "incorrect", "I", {"extractive_match": 0.0}],
}


def test_verdicts():
    for verdict, cells in VERDICTS.items():
        assert [verdict_of(cell) for cell in cells] == [verdict] * len(cells)
    assert [verdict_of(cell) for cell in (0.5, 2, "P", None, [], {}, {"a": 1, "b": 0}, "0.7", 10**400)] == [
        None
    ] * 9


def test_rewards_between_zero_and_one_are_counted():
    rows = [
        {"prompt": "p", "completion": "a", "score": score} for score in (1.0, 0.0, 0.5, 0.25, 2.0, None, -1)
    ]
    rollouts = read(*rows)
    assert [row["recorded"] for row in rollouts.rows] == [1, 0, None, None, None, None, 0]
    (note,) = noted(rollouts, "no verdicts")
    assert note.startswith(
        "3 of the values in 'score' are no verdicts and left out, 2 of them strictly between 0 and 1 ("
    )
    assert noted(rollouts, "7 rows read: 7 completions, 0 with a gold answer, 3 with a verdict")


TRUTHS = [
    ("7", "7"),
    (7, "7"),
    (7.0, "7"),
    (2**63 - 1, str(2**63 - 1)),
    (["7"], "7"),
    ({"ground_truth": "7"}, "7"),
    ("He has 3.\n#### 18", "18"),
    ("so \\boxed{\\frac12}.", "\\frac12"),
    ("<reasoning>x</reasoning><answer>A</answer>", "A"),
    ({"query": "q", "choices": ["3", "4"], "gold_index": [1]}, "4"),
    ("\\boxed{4", None),
    ("#### 1\nthen", None),
    ("", None),
    (None, None),
    ([], None),
    (["a", "b"], None),
    ("word " * 200, None),
    (True, None),
]


@pytest.mark.parametrize("cell, truth", TRUTHS)
def test_gold_answers(cell, truth):
    assert truth_of(cell, "answer") == truth


def test_a_solution_without_a_box_is_no_gold_answer():
    assert truth_of("We add.\nSo it is 4.", "solution") is None and truth_of("4", "solution") == "4"
    rollouts = read({"prompt": "p", "completion": "4", "solution": "We add.\nSo it is 4."})
    assert noted(rollouts, "no gold answer can be read in column 'solution'")


def gsm8k(doc, resp, name, verdict, target="5 - 1 = 4\n#### 4"):
    return {
        "doc_id": doc,
        "doc": {"question": f"q{doc}", "answer": target},
        "target": target,
        "resps": [[resp]],
        "filtered_resps": [resp[-1]],
        "arguments": {
            "gen_args_0": {"arg_0": f"Question: q{doc}\nAnswer:", "arg_1": {"until": ["Question:"]}}
        },
        "filter": name,
        "metrics": ["exact_match"],
        "doc_hash": f"h{doc}",
        "prompt_hash": "ab",
        "target_hash": "cd",
        "exact_match": verdict,
    }


def test_lm_evaluation_harness_samples():
    rows = [
        gsm8k(doc, resp, name, verdict)
        for name, verdicts in (("strict-match", (1.0, 0.0)), ("flexible-extract", (1.0, 1.0)))
        for doc, resp, verdict in zip((0, 1), ("So \\boxed{4}", "#### 4"), verdicts, strict=True)
    ]
    rollouts = read(*rows)
    assert [
        (row["prompt"], row["completion"], row["truth"], row["recorded"], row["id"]) for row in rollouts.rows
    ] == [
        ("Question: q0\nAnswer:", "So \\boxed{4}", "4", 1, "0"),
        ("Question: q1\nAnswer:", "#### 4", "4", 0, "1"),
    ]
    assert noted(
        rollouts,
        "2 rows repeat the completions of another row, one for each filter (2 of 'flexible-extract'); each "
        "completion counts once, with the verdict of the filter 'strict-match'",
    )
    assert noted(rollouts, "4 rows read: 2 completions")
    older = [
        row | {"arguments": [[row["arguments"]["gen_args_0"]["arg_0"], {"until": ["\n"]}]]} for row in rows
    ]
    assert [row["prompt"] for row in read(*older).rows] == ["Question: q0\nAnswer:", "Question: q1\nAnswer:"]


def test_choices_by_likelihood_are_no_completions():
    row = {
        "doc_id": 0,
        "doc": {"question": "q"},
        "target": 1,
        "filter": "none",
        "acc": 1.0,
        "resps": [[["-3.25", "False"]], [["-0.5", "True"]]],
        "filtered_resps": [["-3.25", "False"]],
    }
    with pytest.raises(
        SdlabError, match="no row has a completion in column 'resps' .1 log-likelihoods of given texts"
    ):
        read(row)


def test_rows_that_repeat_are_reported():
    row = {"prompt": "p", "completion": "a", "answer": "1"}
    rollouts = read(row, row, row, row | {"completion": "b"})
    assert len(rollouts.rows) == 4 and noted(
        rollouts, "2 rows repeat an earlier row in every cell and are counted again"
    )


def test_verl_dumps():
    rows = [
        {
            "input": "user\n2+2?\nassistant\n",
            "output": "\\boxed{4}",
            "gts": "4",
            "score": 1.0,
            "step": step,
            "acc": True,
        }
        for step in (1, 2)
    ]
    rollouts = read(*rows)
    row = rollouts.rows[0]
    assert (row["prompt"], row["completion"], row["truth"], row["recorded"]) == (
        "user\n2+2?\nassistant\n",
        "\\boxed{4}",
        "4",
        1,
    )
    assert noted(rollouts, "the rows are of 2 training steps (column 'step')")


def test_trl_reward_columns():
    base = {
        "step": 5,
        "prompt": [FIRST],
        "completion": [{"role": "assistant", "content": "\\boxed{4}"}],
        "advantage": 0.7,
    }
    rollouts = read(base | {"accuracy_reward": 1.0, "think_format_reward": 0.0})
    assert rollouts.columns["reward"] == "accuracy_reward" and rollouts.rows[0]["recorded"] == 1
    assert (rollouts.rows[0]["prompt"], rollouts.rows[0]["completion"]) == ("2+2?", "\\boxed{4}")
    for several in ({"correct_reward": 1.0, "my_reward": 0.0}, {"think_format_reward": 1.0}):
        rollouts = read(base | several)
        assert "reward" not in rollouts.columns and rollouts.rows[0]["recorded"] is None
        assert noted(
            rollouts,
            f"{', '.join(map(repr, several))} may hold rewards; name the verdict's column with --reward",
        )
    assert read(base | several, reward="think_format_reward").rows[0]["recorded"] == 1


def test_lighteval_and_inspect():
    lighteval = {
        "doc": {"query": "2+2?", "choices": ["4"], "gold_index": [0], "task_name": "math"},
        "metric": {"extractive_match": 1.0},
        "model_response": {
            "text": ["\\boxed{4}", "\\boxed{5}"],
            "output_tokens": [[1, 2], [3]],
            "input": "2+2?",
        },
    }
    rows = read(lighteval).rows
    assert [(row["prompt"], row["completion"], row["truth"]) for row in rows] == [
        ("2+2?", f"\\boxed{{{n}}}", "4") for n in (4, 5)
    ]
    inspect = {
        "id": "q1",
        "epoch": 1,
        "input": [SYSTEM, FIRST],
        "target": "4",
        "messages": [SYSTEM, FIRST, {"role": "assistant", "content": "4"}],
        "output": {
            "model": "m",
            "choices": [{"message": {"role": "assistant", "content": "4"}, "stop_reason": "max_tokens"}],
            "usage": {"input_tokens": 3, "output_tokens": 9},
        },
        "scores": {"match": {"value": "C", "answer": "4", "explanation": "4"}},
    }
    (row,) = read(inspect).rows
    assert (row["completion"], row["truth"], row["recorded"], row["truncated"], row["tokens"], row["id"]) == (
        "4",
        "4",
        1,
        1,
        9,
        "q1",
    )
    assert row["prompt"] == prompt_of([SYSTEM, FIRST]) and row["model"] == "m"


def test_an_ordinary_file_has_no_note_beside_the_columns_and_the_counts():
    row = {
        "prompt": "p",
        "completions": ["a", "b"],
        "gold": "1",
        "finish_reasons": ["stop", "length"],
        "acc": [1, 0],
    }
    assert read(row).notes == [
        "columns: prompt 'prompt', response 'completions', answer 'gold', finish_reason 'finish_reasons', "
        "reward 'acc'.",
        "1 rows read: 2 completions, 2 with a gold answer, 2 with a verdict, 2 that say whether they were "
        "cut; 0 completions left out.",
    ]
    verl = {"prompt": "p", "completion": "a", "reward_model": {"ground_truth": "1", "style": "rule"}}
    assert not noted(read(verl), "may hold rewards")


RENDERED = {
    "chatml": "<|im_start|>system\nwait<|im_end|>\n<|im_start|>user\nmaybe<|im_end|>\n"
    "<|im_start|>assistant\nSo 4<|im_end|>\n",
    "llama 3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nwait<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nmaybe<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nSo 4<|eot_id|>",
    "gemma": "<bos><start_of_turn>system\nwait<end_of_turn>\n<start_of_turn>user\nmaybe<end_of_turn>\n"
    "<start_of_turn>model\nSo 4",
    "zephyr": "<|system|>\nwait</s>\n<|user|>\nmaybe</s>\n<|assistant|>\nSo 4</s>",
}


@pytest.mark.parametrize("text", RENDERED.values(), ids=RENDERED)
def test_a_chat_that_a_template_rendered_is_no_completion_as_a_whole(text):
    (row,) = read({"text": text}).rows
    assert (row["prompt"], row["completion"]) == ("system: wait\n\nuser: maybe", "So 4")
    asked = text.partition("So 4")[0]
    assert read({"prompt": asked, "completion": "So 4"}).rows[0]["prompt"] == "system: wait\n\nuser: maybe"
    (row,) = read({"prompt": "p", "completion": text}).rows
    assert (row["prompt"], row["completion"]) == ("p", "So 4")
    assert texts({"completion": f"It prints {text}"}) == [f"It prints {text}"]  # a model may quote one


def test_columns_that_are_not_read_are_named_and_every_file_counts():
    rollouts = read(
        {"prompt": "p", "completion": "a", "answer": "1", "advantage": 0.1, "hash": "ab12"},
        {"prompt": "q", "completion": None},
    )
    assert noted(rollouts, "columns that are not read: advantage, hash.")
    assert noted(
        rollouts,
        "2 rows read: 1 completions, 1 with a gold answer, 0 with a verdict, "
        "0 that say whether they were cut; "
        "1 completions left out.",
    )
    empty = read({"prompt": "p", "responses": []}, {"prompt": "q", "responses": ["a", None]})
    assert noted(empty, "2 of 3 completions are missing and left out (2 empty cells)")


def test_token_counts_that_are_none():
    def counts(numbers, text="four little words here, and six more of them"):
        return token_counts([{"tokens": number, "completion": text} for number in numbers])

    assert counts([12, 13.0, "14"]) == ([12, 13, 14], "")
    assert counts([44, 44]) == (None, "the counts are the numbers of characters")
    assert counts([9, 9]) == (None, "the counts are the numbers of words")
    assert counts([9, None]) == (None, "1 completions have no token count")
    assert counts([None, None])[0] is counts([-1, 4])[0] is counts([float("inf"), 4])[0] is None


def test_numbers_as_text():
    assert [text_of(n) for n in (7, 7.0, 0.1, -2.50, 2**70, 1e22, True, None, [])] == [
        "7",
        "7",
        "0.1",
        "-2.5",
        str(2**70),
        str(10**22),
        None,
        None,
        None,
    ]


def test_hostile_cells(tmp_path):
    deep = "x"
    for _ in range(5000):
        deep = [deep]
    html = "<script>alert(1)</script><think>wait</think>"
    rollouts = read(
        {"completion": html},
        {"completion": deep},
        {"completion": {"text": {"__reduce__": ["touch", str(tmp_path / "x")]}}},
        {"completion": b"a\xff"},
        {"completion": {"content": [{"type": "text", "text": None}, 3, None]}},
    )
    assert [row["completion"] for row in rollouts.rows] == [html, "a\ufffd", "3"] and not (
        tmp_path / "x"
    ).exists()
    assert not is_chat([]) and not is_chat([{"role": "user"}, 3]) and generations_of([]) == []
    chat = '[{"role": "user", "content": '  # a text that only begins as a chat
    assert texts({"completion": chat}) == [chat]


def test_errors_name_the_file_and_its_columns(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "p", "said": "a"}\n')
    with pytest.raises(
        SdlabError, match="x.jsonl: no column with completions .* prompt, said; name it with --response"
    ):
        read_rollouts(path)
    assert read_rollouts(path, {"response": "said"}).rows[0]["completion"] == "a"
