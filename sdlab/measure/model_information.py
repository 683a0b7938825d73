"""How much a context changes a language model's probabilities, token by token: log p(y|x,c) - log p(y|x).

Two forward passes over the same tokens y, one with c in the prompt and one without, give the difference per
token. Its sum over the completion is log p(y|x,c)/p(y|x), in nats per completion. Its mean over completions
estimates the following:

- For y sampled from the model itself with c at temperature 1: the plug-in E KL(p(.|x,c) || p(.|x)) of the
  model. This is I(y; c | x) plus KL(pbar || p(.|x)) (see `sdlab.measure.traces`), because the model without c
  is not the mixture pbar over contexts. So it is an upper bound on the model's own information, sometimes far
  above it.
- For y by another writer, at another temperature or with top-p: a difference of cross-entropies, which can be
  negative.

It describes the model's conditional probabilities, not the writer's: a model that does not use c shows no
information.

With `rivals`, the contexts that could have been in the prompt, the denominator is the mixture itself. The
result is then the model's I(y; c | x) for a context drawn evenly from these, at most log C. Nats per
completion grow with its length; nats per token say how dense the information is. Bits = nats / log 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval, ratio_interval
from sdlab.rollout.types import Engine
from sdlab.text.prompt import render_prompt
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelInformation:
    """The information of B completions, as a whole and token by token.

    `frame` has a row per completion: problem_id, context, row, tokens, given = log p(y|x,c), alone = log
    p(y|x), nats = given - alone, nats_per_token; with rivals also mixture and information = given - mixture.
    `per_token[b]` (T_b,) is log p(y_t|x,c,y_<t) - log p(y_t|x,y_<t), and `tokens[b]` has its T_b tokens as
    text.
    """

    frame: pandas.DataFrame
    per_token: list[np.ndarray]
    tokens: list[list[str]]

    def interval(
        self, column: str = "nats", per: str | None = None, confidence: float = 0.95, seed: int = 0
    ) -> Interval:
        """Return the mean of `column` per completion with its interval, resampled by problem.

        per: a column such as "tokens"; the mean is then per unit of that column.

        Raises SdlabError on a column that the frame lacks.
        """
        missing = [name for name in (column, per) if name and name not in self.frame.columns]
        if missing:
            raise SdlabError(
                f"no column {missing[0]!r} in the frame, which has {', '.join(self.frame.columns)}"
            )
        sums = self.frame.assign(answers=1.0).groupby("problem_id", sort=False)
        return ratio_interval(sums[column].sum(), sums[per or "answers"].sum(), confidence, seed)


def model_information(
    engine: Engine,
    problems: Sequence[Problem],
    completions: Sequence[str | Sequence[int]],
    demonstrations: Sequence[str | None],
    *,
    rivals: Sequence[Sequence[str | None]] | None = None,
    context: str = "solution",
    thinking: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ModelInformation:
    """Score B completions with and without their demonstration in the prompt; all sequences have B entries.

    Completions are token ids (as sampled, `rollouts.completions()`) or text (the end-of-sequence token is
    added). `rivals[b]` are C texts that could have been in b's prompt with equal probability; they must
    include demonstrations[b].

    Raises SdlabError when the lengths differ, on an empty completion, and on rivals without the demonstration
    itself.
    """
    sizes = {"completions": len(completions), "demonstrations": len(demonstrations)}
    sizes |= {"rivals": len(rivals)} if rivals is not None else {}
    for name, size in sizes.items():
        if size != len(problems) or not size:
            raise SdlabError(
                f"{len(problems)} problems but {size} {name}; give one for each row, and at least one row"
            )
    ids = [_ids(engine.tokenizer, completion) for completion in completions]
    if not all(ids):
        raise SdlabError(f"completion {[bool(row) for row in ids].index(False)} has no tokens; leave it out")
    contexts = (
        [list(dict.fromkeys(row)) for row in rivals] if rivals is not None else [[d] for d in demonstrations]
    )
    for row, (rival_texts, demonstration) in enumerate(zip(contexts, demonstrations, strict=True)):
        if demonstration not in rival_texts:
            raise SdlabError(
                f"rivals[{row}] does not hold demonstrations[{row}]; add the context that was in the prompt"
            )
    prompts, scored_ids = [], []  # per row: without context, then with each of its contexts
    for problem, rival_texts, row in zip(problems, contexts, ids, strict=True):
        prompts += [
            render_prompt(engine.tokenizer, problem, text, thinking=thinking) for text in (None, *rival_texts)
        ]
        scored_ids += [row] * (1 + len(rival_texts))
    logps = engine.score(prompts, scored_ids, progress=progress).per_token_logps.double().numpy()
    rows, per_token, at = [], [], 0
    for number, (problem, rival_texts, demonstration, row) in enumerate(
        zip(problems, contexts, demonstrations, ids, strict=True)
    ):
        alone, *under = logps[at : at + 1 + len(rival_texts), : len(row)]
        at += 1 + len(rival_texts)
        with_context = under[rival_texts.index(demonstration)]
        per_token.append(with_context - alone)
        nats = float(per_token[-1].sum())
        values: dict[str, Any] = {
            "problem_id": problem.id,
            "context": context,
            "row": number,
            "tokens": len(row),
            "given": float(with_context.sum()),
        }
        values |= {"alone": float(alone.sum()), "nats": nats, "nats_per_token": nats / len(row)}
        if rivals is not None:
            values["mixture"] = float(np.logaddexp.reduce([one.sum() for one in under]) - np.log(len(under)))
            values["information"] = values["given"] - values["mixture"]
        rows.append(values)
    return ModelInformation(
        pandas.DataFrame(rows), per_token, [[engine.tokenizer.decode([i]) for i in row] for row in ids]
    )


def _ids(tokenizer: "PreTrainedTokenizerBase", completion: str | Sequence[int]) -> list[int]:
    if not isinstance(completion, str):
        return list(completion)
    return (
        tokenizer(completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        if completion
        else []
    )
