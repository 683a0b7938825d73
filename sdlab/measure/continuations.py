"""Let a model continue from a text that was changed, and compare interventions by markers, checks and score.

A text is changed at one place (`insert_at`) or reworded with words of the same number of tokens (`reword`).
Both separate the word from the behaviour: " Test:" opens the same check as " Check:" and is no marker, and
" Wait." alone checks nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pandas

from sdlab.errors import SdlabError
from sdlab.grading.score import extract_answer, verify
from sdlab.measure.evaluation import evaluate
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.text.markers import total_markers
from sdlab.text.prompt import render_prompt
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# the words that open a check in the language of the reasoner: " Check:", " Test:", " Wait, check A:"
_CHECKS = re.compile(r"\b(?:Check|Test|[Cc]heck [A-Z]):")


def count_checks(text: str) -> int:
    """Return how many checks a text of the reasoner's language opens, whatever the word."""
    return len(_CHECKS.findall(text))


def insert_at(text: str, place: int, words: str) -> str:
    """Return `text` up to the character `place`, followed by `words`: a beginning that a model can continue.

    Raises SdlabError for a place outside the text.
    """
    if not 0 <= place <= len(text):
        raise SdlabError(f"place {place} is not in a text of {len(text)} characters; choose 0 to {len(text)}")
    return text[:place] + words


def reword(tokenizer: "PreTrainedTokenizerBase", text: str, table: Mapping[str, str]) -> str:
    """Return `text` with every word of `table` replaced; capitals count, and only whole words are replaced.

    Raises SdlabError when the new text has another number of tokens, because then positions shift too.
    """
    words = re.compile(rf"\b(?:{'|'.join(map(re.escape, table))})\b")
    changed = words.sub(lambda match: table[match[0]], text)
    before, after = (len(ids) for ids in tokenizer([text, changed], add_special_tokens=False)["input_ids"])
    if before != after:
        raise SdlabError(
            f"the reworded text has {after} tokens instead of {before}; "
            "replace words by words of as many tokens"
        )
    return changed


def continue_from(
    engine: Engine,
    problems: Sequence[Problem],
    beginnings: Sequence[str],
    params: SamplingParams,
    thinking: bool = True,
) -> pandas.DataFrame:
    """Sample continuations of the beginnings of completions, grade them, and return one row per continuation.

    problems and beginnings have B entries; there are params.num_generations rows for each. Columns:
    problem_id, generation, completion (beginning and continuation), reward, length (tokens of the
    continuation), markers and checks (of the continuation), truncated.

    Raises SdlabError when the lengths differ.
    """
    if len(problems) != len(beginnings):
        raise SdlabError(
            f"{len(problems)} problems but {len(beginnings)} beginnings; give one beginning per problem"
        )
    prompts = [
        render_prompt(engine.tokenizer, problem, thinking=thinking) + beginning
        for problem, beginning in zip(problems, beginnings, strict=True)
    ]
    rollouts = engine.generate(prompts, params)
    rows = []
    for number, text in enumerate(rollouts.texts):
        index, generation = divmod(number, rollouts.num_generations)
        whole, truth = beginnings[index] + text, problems[index].answer
        rows.append({
            "problem_id": problems[index].id, "generation": generation, "completion": whole,
            "reward": float(verify(extract_answer(whole, truth or None), truth)) if truth else float("nan"),
            "length": int(rollouts.lengths[number]), "markers": total_markers(text),
            "checks": count_checks(text), "truncated": bool(rollouts.truncated[number]),
        })  # fmt: skip
    return pandas.DataFrame(rows)


def compare_interventions(
    engine: TorchEngine,
    problems: Sequence[Problem],
    params: SamplingParams,
    interventions: Mapping[str, Callable[[], AbstractContextManager]],
    *,
    thinking: bool = True,
) -> pandas.DataFrame:
    """Evaluate a model under each intervention, with the same seeds; one row per completion.

    interventions: name -> function without arguments that returns the context manager, for example
    `{"as it is": nullcontext, "steered": lambda: steer(engine.model, direction, 2, 1.0)}`.

    Columns: intervention, those of `evaluate`, and checks (`count_checks`). Summaries with intervals by
    problem: `summarise(frame, "intervention", ["reward", "markers", "checks", "length"])`.

    Raises SdlabError without interventions, and as `evaluate`.
    """
    if not interventions:
        raise SdlabError("no interventions to compare; name at least one, such as {'as it is': nullcontext}")
    tables = []
    for name, enter in interventions.items():
        with enter():
            table = evaluate(engine, problems, params, thinking=thinking)
        tables.append(
            table.assign(intervention=name, checks=[count_checks(text) for text in table["completion"]])
        )
    return pandas.concat(tables, ignore_index=True)
