"""Read the data of a job as data sets for TRL's trainers: problems in the order of the study, or traces."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdlab import paths
from sdlab.benchmarks.problems import READING, ProblemSource
from sdlab.errors import SdlabError, unknown
from sdlab.files import to_json, write_atomic
from sdlab.reading.cells import text_of
from sdlab.reading.chats import unpacked
from sdlab.reading.column_names import is_chat
from sdlab.reading.columns import cell_of
from sdlab.reading.files import rollouts_of
from sdlab.reading.rows import read_rows
from sdlab.runs.identity import described
from sdlab.runs.plan import choose_problems
from sdlab.scale.job import Job, config_as
from sdlab.text.prompt import build_messages, render_prompt
from sdlab.train.batch import draw
from sdlab.train.sft import SFTConfig, Trace
from sdlab.world.problems import Problem
from sdlab.world.splits import SPLITS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

TRACE_COLUMNS = ("prompt", "completion")  # "answer" may be there as well


def job_problems(job: Job) -> list[Problem]:
    """Return the problems of a GRPO or SDPO job.

    They come from a split of the world, a file, or a benchmark; config.seed chooses num_questions of them.

    Raises SdlabError when there is no such data, when it has too few problems, or when a problem has no
    answer.
    """
    if job.data in SPLITS:
        from sdlab.runs.questions import training_questions

        return training_questions(job.data, job.num_questions, None, job.config.seed)
    return choose_problems(job_source(job).load(), job.num_questions, job.data, job.config.seed)


def job_source(job: Job) -> ProblemSource:
    """Return the source of a job's problems."""
    return ProblemSource(job.data, **{name: getattr(job, name) for name in READING})


def job_record(job: Job) -> dict | None:
    """Return name and checksum of a job's own file of problems.

    None for a split or a benchmark, and for SFT, which learns from traces.
    """
    if job.method == "sft" or not job_source(job).is_own:
        return None
    return {"train": job_source(job).record()}


def check_same_problems(job: Job) -> None:
    """Raise SdlabError when the run in the job's output was begun with another file of problems."""
    path = Path(job.output) / "config.json"
    if not path.is_file():
        return
    began = json.loads(path.read_text(encoding="utf-8-sig")).get("provenance", {}).get("problems") or {}
    then, now = (described((record or {}).get("train")) for record in (began, job_record(job)))
    if then != now:
        raise SdlabError(
            f"{job.output} was begun with other problems: {then} there and {now} here; "
            "restore the file, or choose another output"
        )


def fitting(
    problems: Sequence[Problem],
    tokenizer: "PreTrainedTokenizerBase",
    job: Job,
    context: int | None = None,
) -> list[Problem]:
    """Return the problems whose rendered prompt has at most max_prompt_length tokens.

    TRL would cut off the beginning of longer prompts, or keep them whole. context: tokens that the model can
    read.

    Raises SdlabError when no problem is left, and when a kept prompt and a completion of
    max_completion_length tokens exceed the context.
    """
    texts = [render_prompt(tokenizer, problem, thinking=job.config.thinking) for problem in problems]
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    kept = [
        problem for problem, length in zip(problems, lengths, strict=True) if length <= job.max_prompt_length
    ]
    if not kept:
        raise SdlabError(
            f"all {len(problems)} prompts are longer than max_prompt_length={job.max_prompt_length}; the "
            f"shortest has {min(lengths)} tokens"
        )
    longest = max(length for length in lengths if length <= job.max_prompt_length)
    if context is not None and longest + job.config.max_completion_length > context:
        raise SdlabError(
            f"a prompt of {longest} tokens and a completion of up to {job.config.max_completion_length} "
            f"exceed the model's context of {context}; "
            f"choose max_completion_length at most {max(0, context - longest)}, or a smaller "
            f"max_prompt_length"
        )
    return kept


def question_rows(problems: Sequence[Problem], job: Job) -> "Dataset":
    """Return a datasets.Dataset of steps * num_problems rows, in the order of `sdlab.train`.

    Columns: prompt (messages), answer, problem (its place in `problems`). With shuffle_dataset=False step k
    of TRL holds the problems of step k of `sdlab.train`.
    """
    from datasets import Dataset

    places = range(len(problems))
    order: list[int] = [
        place
        for step in range(job.config.steps)
        for place in draw(places, job.config.num_problems, job.config.seed, step)
    ]
    return Dataset.from_list(
        [{"prompt": build_messages(problems[i]), "answer": problems[i].answer, "problem": i} for i in order]
    )


def write_traces(traces: Sequence[Trace], path: str | Path) -> Path:
    """Write traces as a jsonl file that an SFT job reads; return its path."""
    rows = [
        {"prompt": trace.problem.prompt, "completion": trace.completion, "answer": trace.problem.answer}
        for trace in traces
    ]
    return write_atomic(Path(path), "".join(to_json(row, ensure_ascii=False) + "\n" for row in rows))


def read_traces(path: str | Path) -> list[Trace]:
    """Return the traces of a json, jsonl or parquet file with the columns prompt and completion.

    Raises SdlabError when they are missing or empty.
    """
    path = paths.given(path)
    if not path.is_file():
        raise SdlabError(
            f"no file {path}; an SFT job learns from a file of traces with the columns "
            f"{' and '.join(TRACE_COLUMNS)} (sdlab.scale.data.write_traces)"
        )
    records, notes = read_rows(path)
    names = {name for row in records for name in row}
    for name in TRACE_COLUMNS:
        if name not in names:
            raise unknown(
                f"column of {path.name} (needed: {name})", ", ".join(map(str, names)), TRACE_COLUMNS
            )
    columns = {
        "prompt": "prompt",
        "response": "completion",
        "answer": "answer" if "answer" in names else None,
    }
    rollouts = rollouts_of(records, path, columns, notes)
    traces, by_number = [], {row["row"]: row for row in rollouts.rows}
    for number, record in enumerate(records):
        row = by_number.get(number)
        if row is None or not row["prompt"] or not row["completion"]:
            raise SdlabError(
                f"{path.name}, row {number}: prompt and completion must be texts; mend or remove it"
            )
        chat = unpacked(cell_of(record, "prompt"))
        if is_chat(chat) and len(chat) > 1:
            raise SdlabError(
                f"{path.name}, row {number}: the prompt is a conversation of {len(chat)} turns; SFT takes "
                f"one message of a user"
            )
        answer = text_of(cell_of(record, "answer")) or ""
        problem = Problem(f"{path.stem}/{number:04d}", path.stem, path.stem, "", row["prompt"], answer)
        traces.append(Trace(problem, row["completion"]))
    return traces


def trace_rows(traces: Sequence[Trace], tokenizer: "PreTrainedTokenizerBase", job: Job) -> "Dataset":
    """Return a datasets.Dataset of steps * batch_size tokenized rows, in the order of `run_sft`.

    Columns: input_ids and labels, which are -100 on the prompt. Traces are tokenized here, because TRL would
    render prompt and completion together, and some chat templates rewrite the thinking of a past turn.
    """
    from datasets import Dataset

    prompts = tokenizer(
        [render_prompt(tokenizer, trace.problem, thinking=job.config.thinking) for trace in traces],
        add_special_tokens=False,
    )["input_ids"]
    completions = tokenizer([trace.completion for trace in traces], add_special_tokens=False)["input_ids"]
    completions = [[*ids, tokenizer.eos_token_id] for ids in completions]
    config = config_as(job, SFTConfig)
    order: list[int] = [
        place
        for step in range(config.steps)
        for place in draw(range(len(traces)), config.batch_size, config.seed, step, key="traces")
    ]
    return Dataset.from_list(
        [
            {"input_ids": prompts[i] + completions[i], "labels": [-100] * len(prompts[i]) + completions[i]}
            for i in order
        ]
    )
