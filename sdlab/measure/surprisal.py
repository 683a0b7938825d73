"""How surprising each token of given completions is for a model: its loss, token by token."""

from collections.abc import Sequence

import pandas

from sdlab.errors import SdlabError
from sdlab.rollout.types import Engine
from sdlab.text.prompt import render_prompt
from sdlab.world.problems import Problem


def surprisal(engine: Engine, problems: Sequence[Problem], completions: Sequence[str]) -> pandas.DataFrame:
    """Return one row per token of B completions: row, problem_id, position, token, nats.

    nats: -log p(token | problem, the tokens before it), by teacher forcing. Summed over a completion and
    divided by its tokens it is the loss of SFT, here without the end-of-sequence token.

    Raises SdlabError when the lengths differ.
    """
    if len(problems) != len(completions):
        raise SdlabError(
            f"{len(problems)} problems but {len(completions)} completions; give one problem per completion"
        )
    tokenizer = engine.tokenizer
    ids = tokenizer(list(completions), add_special_tokens=False)["input_ids"]
    scores = engine.score([render_prompt(tokenizer, problem) for problem in problems], ids)
    rows = [
        (number, problem.id, place, tokenizer.decode([token]), -value)
        for number, (problem, line) in enumerate(zip(problems, ids, strict=True))
        for place, (token, value) in enumerate(
            zip(line, scores.per_token_logps[number, : len(line)].tolist(), strict=True)
        )
    ]
    return pandas.DataFrame(rows, columns=["row", "problem_id", "position", "token", "nats"])
