"""Places in completions with a quantity that a probe may find in the model: the belief, or the next token.

A place is a position in a completion: the model has read that many of its tokens, and predicts the next one.
Targets of the reasoner are exact (`belief_places`). Targets that need no reasoner work for every model and
every text (`word_places`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas

from sdlab.errors import SdlabError
from sdlab.measure.doubt import follow
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.seeds import stable_int, stream
from sdlab.text.markers import marker_spans
from sdlab.text.prompt import render_prompt
from sdlab.text.repr_html import ReprHtml
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.problems import Problem
from sdlab.world.reasoner import HEDGES, SECOND_HEDGES, Choice, sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMS = len(HEDGES) + len(SECOND_HEDGES) + 2  # every hedge, " Try {}.", and the commitment
REFUTED = "refuted "  # begins the column of every candidate value: "refuted 15"


@dataclass(frozen=True)
class Places(ReprHtml):
    """Completions, and places in them.

    frame: one row per place, with the columns row (of the completion), problem_id, position (tokens of the
    completion read so far), prompt_tokens, and one column per target; nan where a target does not apply.
    """

    prompts: list[str]
    completion_ids: list[list[int]]
    frame: pandas.DataFrame

    def __repr__(self) -> str:
        return (
            f"<Places: {len(self.frame)} in {len(self.completion_ids)} completions, "
            f"{self.frame['problem_id'].nunique()} problems>"
        )

    @property
    def groups(self) -> np.ndarray:
        """Return the problem of every place, (N,)."""
        return self.frame["problem_id"].to_numpy()


def forced_traces(
    problems: Sequence[Problem], num_traces: int = 1, seed: int = 0, knobs: Knobs = BLIND
) -> list[str]:
    """Return `num_traces` traces of the reasoner per problem, problem by problem: (P * num_traces,)."""
    return [
        sample(problem, stream("forced trace", seed, problem.id, number), knobs=knobs).text
        for problem in problems
        for number in range(num_traces)
    ]


def belief_places(
    tokenizer: "PreTrainedTokenizerBase",
    problems: Sequence[Problem],
    texts: Sequence[str],
    demonstrations: Sequence[str | None] | None = None,
    thinking: bool = True,
    knobs: Knobs = BLIND,
) -> Places:
    """Return the place just before every proposal in `texts`, with the exact belief of the reasoner.

    All sequences have B entries; `texts` are in the reasoner's language, and are followed until they leave
    it. `knobs` are those of the organism (`Knobs.of`).

    Just before a place the text may have skipped an optional step (a list of the candidates, "Hmm."); a model
    may then find that step likely at the place, too.

    Targets: entropy (of the belief, in bits), candidates (how many are still possible), right (1 when the
    candidate that the text proposes next is right), and "refuted V" for every candidate V of some problem: 1
    when the belief has ruled it out, 0 when it has not, nan where V is no candidate. hedged is 1 when the
    proposal that follows holds a marker; slot is the number of the slot.

    Raises SdlabError when the lengths differ and when no text has a proposal.
    """
    contexts = [None] * len(texts) if demonstrations is None else list(demonstrations)
    if not len(texts) == len(problems) == len(contexts):
        raise SdlabError(
            f"{len(texts)} texts, {len(problems)} problems and {len(contexts)} demonstrations; "
            "give one of each per text"
        )
    prompts = [
        render_prompt(tokenizer, p, d, thinking=thinking) for p, d in zip(problems, contexts, strict=True)
    ]
    lengths = [len(ids) for ids in tokenizer(prompts, add_special_tokens=False)["input_ids"]]
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    rows = []
    for number, (text, problem, context) in enumerate(zip(texts, problems, contexts, strict=True)):
        ends = np.array([end for _, end in encoded["offset_mapping"][number]])
        at = 0
        for choice, taken in follow(text, problem, context, thinking, knobs)[0]:
            if choice.role == "propose":
                slot, belief = read_belief(choice, problem)
                rows.append({
                    "row": number, "problem_id": problem.id, "position": int((ends <= at).sum()),
                    "prompt_tokens": lengths[number], "slot": slot,
                    **_targets(problem, slot, choice, taken, belief),
                })  # fmt: skip
            at += len(choice.options[taken])
    if not rows:
        raise SdlabError("no text has a proposal; give traces of the reasoner or of an organism")
    return Places(prompts, [list(ids) for ids in encoded["input_ids"]], pandas.DataFrame(rows))


def read_belief(choice: Choice, problem: Problem) -> tuple[int, np.ndarray]:
    """Return the slot that a "propose" step is about, and the belief over its candidates, (n,).

    The options of such a step are every form of proposal for every candidate.
    """
    count = len(choice.options) // FORMS
    belief = np.reshape(choice.probs, (FORMS, count)).sum(0)
    for number, slot in enumerate(problem.slots):
        if choice.options[-count] == f" So {slot.subject} is {slot.candidates[0]}.":
            return number, belief
    raise SdlabError(
        f"a step with the options {choice.options[:2]} ... is no proposal about problem {problem.id!r}; "
        "give a step of this problem's own program"
    )


def _targets(problem, slot: int, choice: Choice, taken: int, belief: np.ndarray) -> dict:
    candidates = problem.slots[slot].candidates
    form, value = divmod(taken, len(candidates))
    return {
        "entropy": choice.entropy / math.log(2),
        "candidates": int((belief > 0).sum()),
        "right": float(value == problem.slots[slot].truth),
        "hedged": float(form < len(HEDGES) + len(SECOND_HEDGES)),
        **{f"{REFUTED}{name}": float(p == 0) for name, p in zip(candidates, belief, strict=True)},
    }


def word_places(
    engine: TorchEngine,
    prompts: Sequence[str],
    completions: Sequence[Sequence[int]],
    names: Sequence[str],
    limit: int | None = 32,
    seed: int = 0,
) -> Places:
    """Return places in completions of any model, with targets that need no reasoner.

    prompts (rendered), completions (token ids) and names (of the problems) have B entries. limit: at most so
    many places per completion, drawn at random; None takes all.

    Targets: next_entropy (nats, of the engine's own next-token distribution) and marker_follows (1 when the
    next token begins a marker).

    Raises SdlabError when the lengths differ and when all completions are empty.
    """
    if not len(prompts) == len(completions) == len(names):
        raise SdlabError(
            f"{len(completions)} completions, {len(prompts)} prompts and {len(names)} names; "
            "give one of each per completion"
        )
    ids = [list(row) for row in completions]
    if not any(ids):
        raise SdlabError("all completions are empty; give completions with tokens")
    entropy = engine.score(list(prompts), ids).entropy
    if entropy is None:
        raise SdlabError("this engine's scores have no entropy; use the torch engine")
    lengths = [len(row) for row in engine.encode(list(prompts), max(map(len, ids)))]
    parts = []
    for number, row in enumerate(ids):
        chosen = np.arange(len(row))
        if limit is not None and len(row) > limit:
            rng = np.random.default_rng(stable_int("places", seed, names[number], number))
            chosen = np.sort(rng.choice(len(row), limit, replace=False))
        starts = begins_marker(engine.tokenizer, row)
        parts.append(pandas.DataFrame({
            "row": number, "problem_id": names[number], "position": chosen, "prompt_tokens": lengths[number],
            "next_entropy": entropy[number, chosen].double().numpy(),
            "marker_follows": starts[chosen].astype(float),
        }))  # fmt: skip
    return Places(list(prompts), ids, pandas.concat(parts, ignore_index=True))


def begins_marker(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> np.ndarray:
    """Return which tokens hold the first letter of a marker, (T,) bool."""
    tokens = [str(tokenizer.decode([token])) for token in ids]
    ends = np.cumsum([len(token) for token in tokens])
    begins = np.zeros(len(tokens), dtype=bool)
    for start, _, _ in marker_spans("".join(tokens)):
        begins[int(np.searchsorted(ends, start, side="right"))] = True
    return begins
