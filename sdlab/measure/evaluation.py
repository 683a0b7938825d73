"""Sampling a model on problems, with one tidy row per completion, and summaries with intervals by problem.

Metrics of `summarise`: any numeric column is averaged over completions. `density` is markers per 1,000 tokens
as a ratio of sums, 1000 * sum(markers) / sum(length). The mean of each completion's own ratio would be
another number, dominated by the shortest texts: one "wait" in ten tokens would weigh as much as a hundred in
a thousand.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import pandas

from sdlab.errors import SdlabError, unknown
from sdlab.grading.score import extract_answer, verify
from sdlab.measure.intervals import interval_cells, ratio_interval
from sdlab.measure.shares import share_interval
from sdlab.rollout.checks import OutOfMemory
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.text.markers import MARKERS, count_markers, total_markers
from sdlab.text.prompt import CONTEXTS, render_prompt, strip_thinking
from sdlab.text.templates import opens_thinking
from sdlab.world.problems import Problem

METRICS = ("reward", "length", "markers", "density", "truncated")
# metrics per 1,000 tokens -> the counts they are computed from
DENSITIES = {"density": "markers", "density_substring": "markers_substring"}
# Metrics that count; they have no upper limit, also where every completion has 0 or 1.
COUNTS = ("length", "markers", "markers_substring", "checks", *MARKERS)
# Tokens per batch when entropies are computed: the whole vocabulary's probabilities are in memory for each.
SCORED_TOKENS = 4096


def evaluate(
    engine: Engine,
    problems: Sequence[Problem],
    params: SamplingParams,
    *,
    context: str = "none",
    demonstrations: Sequence[str | None] | None = None,
    thinking: bool = True,
    entropy: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Sample G = params.num_generations completions of each of P problems, grade them, and return P*G rows.

    `demonstrations` (P,) are the texts in the prompts under `context`. Under "solution_no_think" their
    thinking is removed here, so that this context never contains the full solution by mistake; the
    demonstrations then must be completions of this model, which begin inside their thinking where its chat
    template opens it. A demonstration that is None, or has no text left, is left out of its prompt, and the
    rows of that problem have guided=False.

    Columns: problem_id, domain, split, kind, context, guided, generation, completion, answer, truth, reward
    (0 or 1; NaN without a truth), length (tokens), markers (all ten, whole words), truncated. With
    entropy=True, if the engine's scores have it and they fit the memory, also entropy: of the next token in
    nats, averaged over the completion's tokens, at temperature 1 whatever the sampling was.

    Raises SdlabError on an unknown context, without problems, and when the demonstrations do not fit context
    and problems.
    """
    if context not in CONTEXTS:
        raise unknown("context", context, CONTEXTS)
    if not len(problems):
        raise SdlabError("no problems to evaluate; give at least one")
    if (demonstrations is None) != (context == "none"):
        needs = "takes no demonstrations" if context == "none" else "needs demonstrations, one per problem"
        raise SdlabError(f"context {context!r} {needs}")
    hints = [None] * len(problems) if demonstrations is None else list(demonstrations)
    if len(hints) != len(problems):
        raise SdlabError(
            f"{len(problems)} problems but {len(hints)} demonstrations; give one (or None) per problem"
        )
    if context == "solution_no_think":
        opened = opens_thinking(engine.tokenizer, thinking)
        stripped = [text and strip_thinking(text, opened) for text in hints]
        empty = sum(bool(before) and not after for before, after in zip(hints, stripped, strict=True))
        if empty:
            warnings.warn(
                f"{empty} of {len(hints)} demonstrations were cut inside their thinking: nothing is left "
                "without it, and their problems are asked plainly (guided=False)",
                stacklevel=2,
            )
        hints = stripped
    prompts = [
        render_prompt(engine.tokenizer, p, d, thinking=thinking) for p, d in zip(problems, hints, strict=True)
    ]
    rollouts = engine.generate(prompts, params, progress=progress)
    lengths, truncated = rollouts.lengths.tolist(), rollouts.truncated.tolist()
    rows = []
    for row, text in enumerate(rollouts.texts):
        index, generation = divmod(row, rollouts.num_generations)
        problem = problems[index]
        answer = extract_answer(text, problem.answer or None)
        rows.append(
            {
                "problem_id": problem.id,
                "domain": problem.domain,
                "split": problem.split,
                "kind": problem.kind,
                "context": context,
                "guided": bool(hints[index]),
                "generation": generation,
                "completion": text,
                "answer": answer,
                "truth": problem.answer,
                "reward": float(verify(answer, problem.answer)) if problem.answer else np.nan,
                "length": lengths[row],
                "markers": total_markers(text),
                "truncated": truncated[row],
            }
        )
    frame = pandas.DataFrame(rows)
    if entropy:
        repeated = [prompt for prompt in prompts for _ in range(rollouts.num_generations)]
        with suppress(OutOfMemory):  # the completions took far longer and are kept without their entropy
            scores = engine.score(repeated, rollouts.completions(), batch_tokens=SCORED_TOKENS)
            if scores.entropy is not None:
                frame["entropy"] = (scores.entropy.sum(-1) / scores.completion_mask.sum(-1)).tolist()
    return frame


def summarise(
    frame: pandas.DataFrame,
    by: Sequence[str] | str = (),
    metrics: Sequence[str] = METRICS,
    confidence: float = 0.95,
    seed: int = 0,
) -> pandas.DataFrame:
    """Return one row per group of `by` and metric: by..., metric, mean, low, high, problems, generations.

    Intervals of shares (`is_share`) are those of `sdlab.measure.shares`, others those of
    `sdlab.measure.intervals`. Groups keep their order of appearance. Missing values are left out; `problems`
    and `generations` count those that have the metric.

    Raises SdlabError on an empty frame and on a missing column.
    """
    by = [by] if isinstance(by, str) else list(by)
    need_columns(frame, ["problem_id", *by])
    interval_of = {
        metric: share_interval if is_share(frame, metric) else ratio_interval for metric in metrics
    }
    rows = []
    for key, group in frame.groupby(by, sort=False, observed=True) if by else [((), frame)]:
        for metric in metrics:
            over, under = metric_sums(group, metric)
            interval = interval_of[metric](over, under, confidence, seed)
            sizes = {"problems": int((under > 0).sum()), "generations": _known(group, metric)}
            rows.append(dict(zip(by, key, strict=True)) | {"metric": metric} | vars(interval) | sizes)
    return pandas.DataFrame(rows)


def marker_means(
    frame: pandas.DataFrame, by: str = "context", match: str = "word", confidence: float = 0.95, seed: int = 0
) -> pandas.DataFrame:
    """Return each marker's frequency by group, with its interval.

    Columns: `by`, marker, mean (per completion), low, high, density (per 1,000 tokens).
    """
    need_columns(frame, ["completion", "length", by])
    counts = pandas.DataFrame([count_markers(text, match) for text in frame["completion"]], index=frame.index)
    long = summarise(frame[["problem_id", by]].join(counts), by, MARKERS, confidence, seed).rename(
        columns={"metric": "marker"}
    )
    totals, tokens = counts.groupby(frame[by]).sum(), frame.groupby(by)["length"].sum()
    long["density"] = [
        1000 * totals.loc[g, m] / tokens[g] if tokens[g] else np.nan
        for g, m in zip(long[by], long["marker"], strict=True)
    ]
    return long[[by, "marker", "mean", "low", "high", "density"]]


def table_one(
    frame: pandas.DataFrame,
    by: str = "context",
    metrics: Sequence[str] = ("reward", "length", "markers", "density"),
    confidence: float = 0.95,
    seed: int = 0,
) -> pandas.DataFrame:
    """Return Table 1 of the paper as text: a row per group, a column per metric.

    Cells look like "0.30 [0.25, 0.35]".
    """
    long = summarise(frame, by, metrics, confidence, seed)
    long["cell"] = interval_cells(long)
    order = list(dict.fromkeys(long[by]))
    return (
        long.pivot(index=by, columns="metric", values="cell")
        .loc[order, list(metrics)]
        .rename_axis(columns=None)
    )


def select_by_base_rate(frame: pandas.DataFrame, low: float = 1 / 8, high: float = 1 / 2) -> list[str]:
    """Return the ids of the problems whose share of right completions lies in [low, high].

    They are in order of appearance. With 8 samples of the base model this is the paper's choice of 100
    questions (Section 3): 1 to 4 of 8 right, neither hopeless nor settled. Completions without a reward do
    not count, and problems without any reward are left out.

    Raises SdlabError on an empty frame.
    """
    right, graded = metric_sums(frame, "reward")
    share = right / graded  # NaN without a graded completion, so in no range
    return share.index[(share >= low - 1e-9) & (share <= high + 1e-9)].tolist()


def metric_sums(frame: pandas.DataFrame, metric: str) -> tuple[pandas.Series, pandas.Series]:
    """Return the numerator and the denominator of a metric by problem, each (P,).

    A row in which the metric is missing counts in neither; a problem without any other has 0 and 0.
    """
    over, under = (DENSITIES[metric], "length") if metric in DENSITIES else (metric, None)
    need_columns(frame, ["problem_id", over] + ([under] if under else []))
    if not pandas.api.types.is_numeric_dtype(frame[over]):
        raise SdlabError(
            f"metric {metric!r} is not a number in this frame; "
            f"choose a numeric column or one of: {', '.join(DENSITIES)}"
        )
    values = frame[over].astype(float) * (1000 if under else 1)
    shares = frame[under].astype(float) if under else values.notna().astype(float)
    known, keys = values.notna() & shares.notna(), frame["problem_id"]
    over, under = (column.where(known, 0.0).groupby(keys, sort=False).sum() for column in (values, shares))
    return over, under


def is_share(frame: pandas.DataFrame, metric: str) -> bool:
    """Return whether the mean of a metric is a share, which cannot leave the range from 0 to 1.

    Scores and pass@k are shares, and so is a column of nothing but 0 and 1 that is not one of COUNTS.
    """
    if metric in DENSITIES or metric in COUNTS:
        return False
    need_columns(frame, [metric])
    known = frame[metric].dropna()
    if metric == "reward" or metric.startswith("pass@"):
        return bool(known.between(0, 1).all())
    return bool(known.isin((0, 1)).all())


def _known(frame: pandas.DataFrame, metric: str) -> int:
    """Return how many rows have the metric."""
    columns = [DENSITIES[metric], "length"] if metric in DENSITIES else [metric]
    return int(frame[columns].notna().all(axis=1).sum())


def need_columns(frame: pandas.DataFrame, columns: Sequence[str]) -> None:
    """Raise SdlabError unless the frame has rows and all of `columns`."""
    missing = [name for name in columns if name not in frame.columns]
    if missing or not len(frame):
        what = f"has no column {', '.join(map(repr, missing))}" if missing else "has no rows"
        raise SdlabError(
            f"the frame {what}; it should come from evaluate "
            f"(columns here: {', '.join(map(str, frame.columns))})"
        )


def first_right(frame: pandas.DataFrame, opened: bool = False) -> pandas.Series:
    """Return the first right completion of each problem that has one, by problem_id.

    A completion that was cut inside its thinking is passed over, because it is no solution. opened: as in
    `sdlab.text.prompt.strip_thinking`.
    """
    right = frame[frame["reward"] == 1]
    whole = [bool(strip_thinking(text, opened)) for text in right["completion"]]
    return right[np.array(whole, dtype=bool)].groupby("problem_id")["completion"].first()
