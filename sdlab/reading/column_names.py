"""The names that harnesses, trainers, servers and data sets give to the columns of rollout files."""

from typing import TypeGuard

CHATS = ("messages", "conversation", "conversations")  # columns with a prompt and often its completion
# role of a column -> its names, the most certain first
ROLES = {
    "prompt": (
        "prompt",
        "question",
        "problem",
        "query",
        "instruction",
        "full_prompt",
        "origin_prompt",
        "question_content",
        "input",
        "arguments",
        "user",
        "request",
        "prompts",
        "questions",
        "problems",
        "queries",
        "inputs",
    ),
    "conversation": CHATS,
    "prompt_input": ("input",),  # the rest of a prompt whose first part is an instruction
    "system": ("system", "system_prompt", "system_message"),
    "response": (
        "response",
        "responses",
        "completion",
        "completions",
        "generation",
        "generations",
        "output",
        "outputs",
        "model_output",
        "model_outputs",
        "model_response",
        "model_responses",
        "generated_text",
        "generated_responses",
        "message_content",
        "prediction",
        "predictions",
        "resps",
        "samples",
        "output_list",
        "output_text",
        "choices",
        "candidates",
        "message",
        "raw_response",
        "raw_output",
        "llm_response",
        "content",
        "text",
        "result",
        "code",
    ),
    "thinking": ("message_thinking", "reasoning_content", "thinking", "reasoning", "reasoning_text"),
    "answer": (
        "ground_truth",
        "ground_truths",
        "gts",
        "gtruth_answer",
        "gold",
        "gold_answer",
        "gt_answer",
        "gt",
        "reference_answer",
        "expected_answer",
        "correct_answer",
        "truth",
        "target",
        "answer",
        "answerkey",
        "answer_key",
        "gold_answers",
        "targets",
        "references",
        "answers",
        "solution",
    ),
    "tokens": (
        "completion_tokens",
        "num_tokens",
        "completion_length",
        "response_tokens",
        "output_tokens",
        "n_tokens",
        "token_count",
        "response_length",
        "tokens_predicted",
        "generated_tokens",
        "num_generated_tokens",
        "token_counts",
        "completion_lengths",
        "response_lengths",
        "eval_count",
        "length",
    ),
    "finish_reason": (
        "finish_reason",
        "finish_reasons",
        "finishreason",
        "stop_reason",
        "stop_reasons",
        "stop_type",
        "done_reason",
        "completion_reason",
    ),
    "truncated": ("truncated", "is_truncated", "was_truncated", "clipped", "is_clipped", "is_cut"),
    "reward": (
        "correct",
        "is_correct",
        "acc",
        "accuracy",
        "exact_match",
        "extractive_match",
        "math_verify",
        "correctness_math_verify",
        "correctness",
        "reward",
        "rewards",
        "score",
        "scores",
        "verdict",
        "graded_list",
    ),
    "model": ("model", "model_name", "generator"),
    "benchmark": ("benchmark", "data_source", "dataset"),
    "problem_id": (
        "problem_id",
        "question_id",
        "prompt_id",
        "unique_id",
        "task_id",
        "doc_id",
        "custom_id",
        "idx",
        "id",
        "key",
        "index",
    ),
}
NAMES = frozenset().union(*ROLES.values())  # these names identify a table of rollouts


def is_known(name: object) -> bool:
    """Return whether a column of this name has a role."""
    return str(name).lower() in NAMES


def is_turn(cell: object) -> TypeGuard[dict]:
    """Return whether a cell is one message of a chat: {"role", "content"} or {"from", "value"}."""
    return isinstance(cell, dict) and ("role" in cell or {"from", "value"} <= set(cell))


def is_chat(cell: object) -> TypeGuard[list[dict]]:
    """Return whether a cell is a list of messages, at least one."""
    return isinstance(cell, list) and bool(cell) and all(map(is_turn, cell))
