"""What a context is worth to a language model, token by token: log p(y|x,c) - log p(y|x).

Two forward passes over the same tokens y, one with c in the prompt and one without, give the per-token difference; its
sum over the answer is log p(y|x,c)/p(y|x), in nats per answer. What the mean over answers estimates, and where it errs:
- For y sampled from the model itself with c, at temperature 1, it estimates the plug-in E KL(p(.|x,c) || p(.|x)) of the
  model. That is I(y; c | x) plus KL(pbar || p(.|x)) (see `sdlab.measure.traces`), because the model without c is not the
  mixture pbar over contexts: an upper bound on the model's own information, sometimes far above it.
- For y written by somebody else, or sampled at another temperature or with top-p, it estimates a difference of
  cross-entropies and can be negative.
- It speaks of the model's conditionals, not of the writer's: a model that does not use c shows none.
With `rivals`, the contexts that could have stood there, the mixture itself is in the denominator: that is the model's
I(y; c | x) for a context drawn evenly from these, at most log C.
Nats per answer grow with the answer's length; nats per token say how dense the information is. Bits = nats / log 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval, ratio_interval
from sdlab.text.prompt import render_prompt


@dataclass(frozen=True)
class ModelInformation:
    """`frame` has a row per completion (B): problem_id, context, row, tokens, given = log p(y|x,c), alone = log p(y|x),
    nats = given - alone, nats_per_token; with rivals also mixture and information = given - mixture.

    `per_token[b]` (T_b,) is log p(y_t|x,c,y_<t) - log p(y_t|x,y_<t), and `tokens[b]` its T_b tokens as text.
    """

    frame: pandas.DataFrame
    per_token: list[np.ndarray]
    tokens: list[list[str]]

    def interval(
        self, column: str = "nats", per: str | None = None, confidence: float = 0.95, seed: int = 0
    ) -> Interval:
        """The mean of `column` per answer, or per unit of the column `per` ("tokens"), resampled by problem."""
        missing = [name for name in (column, per) if name and name not in self.frame.columns]
        if missing:
            raise SdlabError(
                f"no column {missing[0]!r} in the frame, which has {', '.join(self.frame.columns)}"
            )
        sums = self.frame.assign(answers=1.0).groupby("problem_id", sort=False)
        return ratio_interval(sums[column].sum(), sums[per or "answers"].sum(), confidence, seed)


def model_information(
    engine,
    problems: Sequence,
    completions: Sequence[str | Sequence[int]],
    demonstrations: Sequence[str | None],
    *,
    rivals: Sequence[Sequence[str | None]] | None = None,
    context: str = "solution",
    thinking: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ModelInformation:
    """Score B completions with and without their demonstration in the prompt; all sequences have B entries.

    Completions are token ids (as sampled, `rollouts.completions()`) or text (the end-of-sequence token is added).
    `rivals[b]`, C texts that could have stood in b's prompt with equal chance, must hold demonstrations[b].
    Raises SdlabError on lengths that differ, an empty completion, or rivals without the demonstration itself.
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
    for row, (shown, named) in enumerate(zip(contexts, demonstrations)):
        if named not in shown:
            raise SdlabError(
                f"rivals[{row}] does not hold demonstrations[{row}]; the context that was there is one of them"
            )
    prompts, wanted = [], []  # per row: without context, then with each of its contexts
    for problem, shown, row in zip(problems, contexts, ids):
        prompts += [
            render_prompt(engine.tokenizer, problem, text, thinking=thinking) for text in (None, *shown)
        ]
        wanted += [row] * (1 + len(shown))
    logps = engine.score(prompts, wanted, progress=progress).per_token_logps.double().numpy()
    rows, per_token, at = [], [], 0
    for number, (problem, shown, named, row) in enumerate(zip(problems, contexts, demonstrations, ids)):
        alone, *under = logps[at : at + 1 + len(shown), : len(row)]
        at += 1 + len(shown)
        given = under[shown.index(named)]
        per_token.append(given - alone)
        nats = float(per_token[-1].sum())
        found = {
            "problem_id": problem.id,
            "context": context,
            "row": number,
            "tokens": len(row),
            "given": float(given.sum()),
        }
        found |= {"alone": float(alone.sum()), "nats": nats, "nats_per_token": nats / len(row)}
        if rivals is not None:
            found["mixture"] = float(np.logaddexp.reduce([one.sum() for one in under]) - np.log(len(under)))
            found["information"] = found["given"] - found["mixture"]
        rows.append(found)
    return ModelInformation(
        pandas.DataFrame(rows), per_token, [[engine.tokenizer.decode([i]) for i in row] for row in ids]
    )


def _ids(tokenizer, completion) -> list[int]:
    if not isinstance(completion, str):
        return list(completion)
    return (
        tokenizer(completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        if completion
        else []
    )
