"""What two data sets of right traces teach: their loss, the new guesses, and what a nudge brings back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas
import torch

from sdlab.measure.commit_tables import commits_in
from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.evaluation import evaluate
from sdlab.measure.intervals import row_intervals
from sdlab.measure.nudges import nudged_after, second_looks, true_statements
from sdlab.measure.surprisal import surprisal
from sdlab.paper import sampling
from sdlab.rollout.types import TrainableEngine
from sdlab.study.two_data_sets import evaluate_students
from sdlab.text.plural import plural
from sdlab.train.batch import Rows
from sdlab.train.losses import sft_loss, token_logps
from sdlab.train.sft import Trace
from sdlab.world.problems import Problem

Students = Mapping[str, TrainableEngine]
UNKNOWN = "an unknown share (no significant loss at this size)"


def losses(engine: TrainableEngine, data_sets: Mapping[str, Sequence[Trace]]) -> dict[str, pandas.DataFrame]:
    """Return the loss at every token of every trace, by data set: the rows of `surprisal`."""
    return {
        name: surprisal(engine, [one.problem for one in traces], [one.completion for one in traces])
        for name, traces in data_sets.items()
    }


def loss_as_trained(engine: TrainableEngine, prompt: str, completion: list[int]) -> torch.Tensor:
    """Return the loss that the training loop computes for one completion after one prompt, nats per token."""
    rows = Rows(engine, [prompt], [completion])  # prompts shared, no padding
    with torch.no_grad():
        logps = token_logps(rows.logits(engine.model, [0]).float(), torch.tensor(completion))
    return sft_loss(logps[None], torch.ones(1, len(completion)))


def share_on(rows: pandas.DataFrame, token: str) -> float:
    """Return the share of the loss that sits on one token."""
    return float(rows["nats"][rows["token"] == token].sum() / rows["nats"].sum())


def loss_table(
    rows: Mapping[str, pandas.DataFrame], token: str, labels: Mapping[str, str]
) -> pandas.DataFrame:
    """Return one row per data set: the loss per token and per trace, and the share that sits on `token`."""
    return pandas.DataFrame(
        {
            "data set": labels[name].removeprefix("SFT, "),
            "nats per token": part["nats"].mean(),
            "nats per trace": part["nats"].sum() / part["row"].nunique(),
            f"share on {token.strip()}": f"{share_on(part, token):.0%}",
        }
        for name, part in rows.items()
    )


def nudge_rounds(
    students: Students,
    written: Mapping[str, pandas.DataFrame],
    problems: Iterable[Problem],
    rounds: Mapping[str, int],
    labels: Mapping[str, str],
) -> pandas.DataFrame:
    """Return the completions of every student after each number of nudges.

    `written`: student -> rows of `evaluate`; `rounds`: name -> number of nudges. Columns as in `nudged`, with
    `nudge` (the name) and `who` (student and name).
    """
    known, parts = list(problems), []
    for name, student in students.items():
        after = nudged_after(student, written[name], known, set(rounds.values()))
        for label, count in rounds.items():
            parts.append(after[count].assign(nudge=label, who=f"{labels[name]}, {label}"))
    return pandas.concat(parts)


@dataclass(frozen=True)
class Helped:
    """One completion without and with a nudge, and how many others the nudge put right or wrong."""

    before: pandas.Series
    after: pandas.Series
    words: str


def helped(tries: pandas.DataFrame, before: str, after: str) -> Helped:
    """Return a completion that a nudge helped, if there is one; `tries`: rows of one student."""
    one, two = (tries[tries["nudge"] == name].reset_index(drop=True) for name in (before, after))
    gain = two["reward"] - one["reward"]
    shown = gain.where(one["completion"] != two["completion"]).fillna(-2).to_numpy().argmax()
    whole = plural(len(gain), "completion")
    words = f"wrong to right: {(gain > 0).sum()} of {whole}; the reverse: {(gain < 0).sum()}"
    return Helped(one.iloc[shown], two.iloc[shown], words)


def statements_after_same_text(
    students: Students, texts: pandas.DataFrame, problems: Iterable[Problem], labels: Mapping[str, str]
) -> pandas.DataFrame:
    """Return whether each student's next statement is true, at every second look in `texts`."""
    known = list(problems)
    looks = second_looks(texts.reset_index(drop=True), known)
    return pandas.concat([
        true_statements(student, looks, known).assign(model=name, who=looks["look"] + ", " + labels[name])
        for name, student in students.items()
    ])  # fmt: skip


def sampled_otherwise(
    students: Students, live: pandas.DataFrame, problems: Sequence[Problem], num_samples: int
) -> dict[tuple[float, str], pandas.DataFrame]:
    """Return completions by temperature and model: `live`, made at 1, and new ones at 0.6 and 1.4."""
    found = {(1.0, str(name)): rows for name, rows in live.groupby("model", sort=False)}
    for temperature in (0.6, 1.4):
        rows = evaluate_students(students, {"in-domain": problems}, num_samples, temperature=temperature)
        found |= {(temperature, str(name)): part for name, part in rows.groupby("model", sort=False)}
    return {at: rows.assign(temperature=at[0]) for at, rows in found.items()}


def temperature_words(
    by_model: Mapping[tuple[float, str], pandas.DataFrame], labels: Mapping[str, str]
) -> list[str]:
    """Return sentences that part the change after unguided traces from what a lower temperature does."""
    pairs = (
        ((1.0, "base"), (1.0, "sft_unguided")), ((1.0, "base"), (0.6, "base")),
        ((0.6, "base"), (1.0, "sft_unguided")), ((0.6, "base"), (0.6, "sft_unguided")),
    )  # fmt: skip
    return [
        compare(by_model[a], by_model[b], names=(_at(labels, *a), _at(labels, *b))).sentence for a, b in pairs
    ]


def around_the_filter(
    engine: TrainableEngine, problems: Sequence[Problem], written: pandas.DataFrame
) -> pandas.DataFrame:
    """Return the commitments before and after a filter for right completions, with a column `set`.

    The model writes four completions of each problem anew; `written`: the two data sets of `trace_frame`.
    """
    own = evaluate(engine, problems, sampling(4, 0, "two data sets, before the filter"))
    sets = {
        "everything it wrote": own,
        "the right ones": own[own["reward"] == 1],
        "unguided data": written[written["model"] == "sft_unguided"],
        "guided data": written[written["model"] == "sft_guided"],
    }
    frame = pandas.concat([part.assign(set=name) for name, part in sets.items()])
    return commits_in(frame, problems, ["set"])


def filter_effects(commitments: pandas.DataFrame) -> tuple[Comparison, Comparison]:
    """Return how the share of guesses differs: after the filter, and between the guided and unguided data.

    `commitments`: from `around_the_filter`.
    """
    part = dict(list(commitments.groupby("set", sort=False)))
    pairs = (("everything it wrote", "the right ones"), ("unguided data", "guided data"))
    one, two = (compare(part[a], part[b], "unchecked", names=(a, b)) for a, b in pairs)
    return one, two


def nested(summary: pandas.DataFrame, by: str = "model") -> dict[str, dict[str, dict[str, float]]]:
    """Return rows of `summarise` as group -> metric -> mean, low and high, for a record."""
    return {str(key): _ends(rows, "metric") for key, rows in summary.groupby(by, sort=False)}


def intervals(summary: pandas.DataFrame, metric: str, by: str = "model") -> dict[str, dict[str, float]]:
    """Return one metric of rows of `summarise` as group -> mean, low and high, for a record."""
    return _ends(summary[summary["metric"] == metric], by)


def _ends(rows: pandas.DataFrame, by: str) -> dict[str, dict[str, float]]:
    return {str(key): vars(one) for key, one in zip(rows[by], row_intervals(rows), strict=True)}


def _at(labels: Mapping[str, str], temperature: float, name: str) -> str:
    return f"{labels[name]} at {temperature}"


def longest_contrast(one: Sequence[Trace], other: Sequence[Trace]) -> int:
    """Return the place at which `one` is longer than `other` by most characters."""
    return max(range(len(other)), key=lambda i: len(one[i].completion) - len(other[i].completion))


def data_words(data: pandas.DataFrame) -> str:
    """Return one sentence on the length and the markers of the two data sets; `data`: from `summarise`."""
    size = data.set_index(["metric", "model"])["mean"]
    guided, unguided = (
        f"{size['length', name]:.0f} tokens and {size['markers', name]:.1f} markers"
        for name in ("sft_guided", "sft_unguided")
    )
    return (
        "Every trace of both data sets is right, on the same problems. A guided trace has "
        f"{guided} on average, an unguided one {unguided}."
    )


def guess_words(shares: pandas.DataFrame, facts: pandas.DataFrame, wrong: Comparison) -> list[str]:
    """Return sentences on the guesses and on what the guided model still knows.

    `shares`: from `commit_shares`; `facts`: true statements by look and model; `wrong`: base against guided.
    """
    guesses = shares[shares["metric"] == "unchecked"].set_index("model")["mean"].map("{:.0%}".format)
    known = facts[facts["look"] == "first look"].set_index("model")["mean"].map("{:.0%}".format)
    return [
        f"Guesses: {guesses['base']} of base's commitments, {guesses['sft_unguided']} after unguided and "
        f"{guesses['sft_guided']} after guided traces. Wrong completions per 100, guided minus base: "
        f"{100 * wrong.difference.mean:+.0f}.",
        f"First looks: {known['sft_guided']} of the guided model's statements are true (base "
        f"{known['base']}).",
    ]


def share_words(share: float | None, gain: Comparison | None = None) -> str:
    """Return a recovered share in words: a percentage, or why it is not known or not significant."""
    if share is None:
        return UNKNOWN
    return f"{share:.0%}" + (" (not significant)" if gain is not None and not gain.significant else "")
