"""What an informed teacher objects to: its divergence from the student at every token of a completion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas
import torch

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import marker_means, summarise
from sdlab.measure.intervals import Interval, interval_cells
from sdlab.measure.token_divergence import heat_ratio, token_divergence
from sdlab.rollout.types import TrainableEngine
from sdlab.text.markers import total_markers
from sdlab.text.plural import plural
from sdlab.text.prompt import CONTEXT_LABELS, render_prompt
from sdlab.train.batch import Batch, sample_batch
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.teacher import TeacherView, teacher_view
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNSURE = 0.5  # nats of the student's next-token entropy above which a token is a choice
OTHER = "other tokens"


@dataclass(frozen=True)
class TaughtBatch:
    """Completions of one batch, and what the teacher would see when it reads each of them."""

    batch: Batch
    config: SDPOConfig
    views: Mapping[str, TeacherView]  # context -> the teacher's prompts

    @property
    def taught(self) -> float:
        """The share of completions that are distilled."""
        distilled = next(iter(self.views.values())).distilled
        return sum(distilled) / len(distilled)

    def coverage_words(self) -> str:
        """Return one sentence: how many completions are distilled, and why the others are not."""
        size = self.config.num_generations
        right = self.batch.rewards.view(-1, size).sum(1)
        start = (
            f"{plural(len(right), 'problem')} with {plural(size, 'completion')} each, score "
            f"{self.batch.rewards.mean():.2f}: {self.taught:.0%} of the completions are distilled. Left out: "
        )
        if "feedback" in self.views:  # only a completion that fails has any
            wrong, used = (self.batch.rewards < 1).tolist(), self.views["feedback"].distilled
            silent = sum(fails and not one for fails, one in zip(wrong, used, strict=True))
            done = plural(int(right.sum()), "right completion")
            return start + f"{done}, and {plural(silent, 'wrong completion')} without feedback."
        unsolved, lone = int((right == 0).sum()), int((right == 1).sum())
        return start + (
            f"{plural(size * unsolved, 'completion')} of {plural(unsolved, 'problem')} without a right one, "
            f"and {plural(lone, 'completion that is', 'completions that are')} the only right one."
        )

    def example(self, markers: int = 3) -> int:
        """Return the first right, distilled completion with at least `markers` markers, else the first.

        Raises SdlabError when no right completion is distilled.
        """
        view, texts = next(iter(self.views.values())), self.batch.rollouts.texts
        rows = [i for i, used in enumerate(view.distilled) if used and self.batch.rewards[i] == 1]
        if not rows:
            raise SdlabError(
                "no right completion has a right sibling, so the teacher has nothing to show here; "
                "give easier problems or a larger preset"
            )
        return next((i for i in rows if total_markers(texts[i]) >= markers), rows[0])

    def thinking_words(self) -> str:
        """Return a sentence: whether the two teachers see different solutions."""
        full, mild = (self.views[context].prompts for context in ("solution", "solution_no_think"))
        if full != mild:
            return "The two teachers see different solutions."
        return (
            "These completions have no <think> part, so nothing can be taken out of a solution: both "
            "teachers are the same in this run."
        )

    def rows(self, per_problem: int = 2, also: int | None = None) -> list[int]:
        """Return the first distilled completions of every problem, and the row `also`."""
        size, view = self.config.num_generations, next(iter(self.views.values()))
        chosen = []
        for start in range(0, len(view.distilled), size):
            distilled = [i for i in range(start, start + size) if view.distilled[i]]
            chosen += [i for k, i in enumerate(distilled) if k < per_problem or i == also]
        return chosen


def taught_batch(
    engine: TrainableEngine,
    problems: Sequence[Problem],
    config: SDPOConfig,
    contexts: Sequence[str] = ("solution", "solution_no_think"),
) -> TaughtBatch:
    """Sample one batch and build the teacher's prompts for several contexts."""
    batch = sample_batch(engine, problems, config, step=0)
    views = {
        context: teacher_view(
            engine.tokenizer, batch.problems, batch.rollouts.texts, batch.rewards, config.num_generations,
            replace(config, context=context), step=0,
        )
        for context in contexts
    }  # fmt: skip
    return TaughtBatch(batch, config, views)


def objections(
    engine: TrainableEngine,
    taught: TaughtBatch,
    rows: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, pandas.DataFrame]:
    """Return, for each context, `token_divergence` of the completions `rows`, with the reward of each.

    The column `kind` is the marker that a token belongs to, or "other tokens".
    """
    size, batch = taught.config.num_generations, taught.batch
    problems = [batch.problems[i // size] for i in rows]
    prompts = [render_prompt(engine.tokenizer, problem) for problem in problems]
    written, found = batch.rollouts.completions(), {}
    for context, view in taught.views.items():
        tokens = token_divergence(
            engine,
            prompts,
            [view.prompts[i] for i in rows],
            [written[i] for i in rows],
            names=[problem.id for problem in problems],
            progress=progress,
        )
        verdicts = ["right" if batch.rewards[i] == 1 else "wrong" for i in rows]
        found[context] = tokens.assign(
            problem_id=tokens["name"],
            kind=tokens["marker"].where(tokens["marker"] != "", OTHER),
            completion=tokens["row"].map(dict(enumerate(verdicts))),
            objects=(tokens["u"] < 0).astype(float),
        )
    return found


def marker_share_table(tokens: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """Return, for each context, how much of the loss lies on markers."""
    columns = {}
    for context, frame in tokens.items():
        is_marker, loss = frame["marker"] != "", frame["divergence"]
        columns[CONTEXT_LABELS.get(context, context)] = {
            "divergence of a marker : of another token": str(marker_ratio(frame)),
            "the same, where the student hesitates": str(marker_ratio(unsure(frame))),
            "|u| of a marker : of another token": str(marker_ratio(frame, "u")),
            "markers among the tokens": f"{is_marker.mean():.0%}",
            "markers' share of the loss": f"{loss[is_marker].sum() / loss.sum():.0%}",
            "markers among the 5% that differ most": f"{is_marker[loss >= loss.quantile(0.95)].mean():.0%}",
            "loss per token (nats)": f"{loss.mean():.4f}",
        }
    return pandas.DataFrame(columns)


def unsure(tokens: pandas.DataFrame) -> pandas.DataFrame:
    """Return the tokens at which the student's entropy is above 0.5 nats: those where it hesitates."""
    return tokens[tokens["entropy"] > UNSURE]


def marker_ratio(tokens: pandas.DataFrame, value: str = "divergence") -> Interval:
    """Return `heat_ratio`; NaN where the completions have no markers, or nothing else."""
    if not 0 < (tokens["marker"] != "").sum() < len(tokens):
        return Interval(math.nan, math.nan, math.nan)
    return heat_ratio(tokens, value)


def marker_tokens(tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Return which ids of the vocabulary are a marker when they stand alone, (V,) bool."""
    return torch.tensor([total_markers(str(tokenizer.decode([i]))) > 0 for i in range(len(tokenizer))])


def hottest_tokens(tokens: pandas.DataFrame, count: int = 8, least: int = 3) -> pandas.DataFrame:
    """Return the tokens with the largest mean divergence among those that occur `least` times or more."""
    groups = tokens.groupby("token")
    means = (1000 * groups[["divergence", "u"]].mean()).assign(times=groups.size())
    common = means[means["times"] >= least].nlargest(count, "divergence")
    names = {"divergence": "divergence (thousandths of a nat)", "u": "u (thousandths of a nat)"}
    return common.reset_index().rename(columns=names)


def ratio_word(
    interval: Interval, above: str = "significantly more", below: str = "significantly less"
) -> str:
    """Return `above` or `below` when the interval excludes 1, else "not significantly different"."""
    return above if interval.low > 1 else below if interval.high < 1 else "not significantly different"


def ratio_sentence(interval: Interval, what: str) -> str:
    """Return a sentence about the divergence at markers: the ratio, its interval and its verdict."""
    if math.isnan(interval.mean):
        return f"{what}: no markers beside other tokens here, so there is no ratio."
    return f"{what}: a marker has {interval} times the divergence of another token: {ratio_word(interval)}."


def divergence_by_marker(tokens: pandas.DataFrame, least: int = 5) -> pandas.DataFrame:
    """Return divergence, u and the share of objections for every marker that occurs `least` times."""
    counts = tokens["kind"].value_counts()
    common = tokens[tokens["kind"].isin(counts.index[counts >= least])]
    return summarise(common, "kind", ["divergence", "u", "objects"])


def objection_to_right_and_wrong(tokens: pandas.DataFrame) -> pandas.DataFrame:
    """Return divergence and u with their intervals, for right and wrong completions, markers and others."""
    groups = tokens.assign(token_kind=["marker" if one else "other" for one in tokens["marker"]])
    found = summarise(groups, ["completion", "token_kind"], ["divergence", "u"])
    found["cell"] = interval_cells(found)
    named = found.replace({"metric": {"divergence": "divergence (nats)", "u": "u (nats)"}})
    table = named.pivot(index=["completion", "token_kind"], columns="metric", values="cell")
    return table.rename_axis(columns=None).rename_axis(index=["completion", "token"])


def marker_fates(
    by_marker: pandas.DataFrame, before: pandas.DataFrame, after: pandas.DataFrame
) -> pandas.DataFrame:
    """Return each marker's divergence before training beside how often it is written before and after.

    `by_marker`: from `divergence_by_marker`; `before`, `after`: rows of `evaluate`.
    """
    rows = by_marker[by_marker["kind"] != OTHER]
    fates = rows.pivot(index="kind", columns="metric", values="mean")
    if rows.empty:  # no marker occurs often enough
        fates = pandas.DataFrame(columns=["divergence", "u", "objects"], dtype=float)
    for when, frame in (("before", before), ("after", after)):
        counts = marker_means(frame.assign(context=when)).set_index("marker")["mean"]
        fates[when] = counts.reindex(fates.index)
    fates["share left"] = fates["after"] / fates["before"]
    return fates.sort_values("divergence", ascending=False).rename_axis(columns=None, index="marker")
