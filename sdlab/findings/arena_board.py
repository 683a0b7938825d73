"""The arena in tables and sentences: who keeps the score, who beats whom, and which claims hold."""

import numpy as np
import pandas
from scipy import stats

from sdlab.findings.repairs import pushes_by_method
from sdlab.measure.intervals import tidy
from sdlab.study.arena import arena_table, claims_table, verdicts, winners
from sdlab.study.arena_comparisons import GAINS, KEEPS, NOT_RECORDED
from sdlab.study.arena_conditions import TEACHER_FREE, UNTRAINED
from sdlab.study.arena_families import FAMILY
from sdlab.study.arena_measures import load_arena, measures, missing_methods, recorded_names
from sdlab.study.arena_rates import RATES, read_rates
from sdlab.study.recorded import Recorded
from sdlab.text.plural import plural

COUNTED = ("better", "equal", "not worse", "worse", "gains", "keeps", "loses", "not settled")


def arena_or_none(round_name: str = "hunts") -> Recorded | None:
    """Return the recorded runs of a round of the arena, or None when there are none yet.

    Raises SdlabError when a recorded file is damaged.
    """
    return load_arena(round_name) if recorded_names(round_name) else None


def absent_words(recorded: Recorded | None) -> str:
    """Return a sentence that says what of the arena is recorded, and how to record the rest."""
    if recorded is None:
        return (
            "No run of the arena is recorded here. `sdlab reproduce arena-rates`, then `sdlab reproduce "
            "arena`, make them; this part of the page shows them then."
        )
    missing = [one for one in missing_methods(recorded) if one != UNTRAINED]
    there = len(FAMILY) - len(missing)
    rest = f" Not recorded: {', '.join(missing)} (`sdlab reproduce arena`)." if missing else ""
    return f"Recorded: {there} of {len(FAMILY)} methods.{rest}"


def board(recorded: Recorded) -> pandas.DataFrame:
    """Return the arena's table without the methods that are not recorded, and with fewer columns."""
    table = arena_table(recorded)
    shown = table[table["seeds"] != "0"].set_index("method")
    scores, against = (
        [name for name in map(str, shown.columns) if name.startswith(start)]
        for start in ("score, ", "against ")
    )
    return shown[["kind", "family", "seeds", *scores, "length", "markers", *against]]


def map_title(recorded: Recorded) -> str:
    """Return how many of the recorded methods keep or raise the untrained model's score, as a title."""
    table = verdicts(recorded)
    judged = table[(table["other"] == UNTRAINED) & (table["verdict"] != NOT_RECORDED)]
    kept = judged["verdict"].isin([GAINS, KEEPS]).sum()
    return f"Shown to keep or raise the untrained model's score on unseen types: {kept} of {len(judged)}"


def board_words(recorded: Recorded) -> list[str]:
    """Return which methods keep, gain or lose, and which beat SDPO, GRPO and the teacher-free control."""
    table = verdicts(recorded)
    lines = []
    for other, what in (
        (UNTRAINED, "Against the untrained model"),
        ("sdpo", "Against SDPO"),
        ("grpo", "Against GRPO"),
        (TEACHER_FREE, "Against the control without a teacher"),
    ):
        rows = table[(table["other"] == other) & (table["verdict"] != NOT_RECORDED)]
        counts = {word: list(rows.loc[rows["verdict"] == word, "method"]) for word in COUNTED}
        parts = [f"{word} ({', '.join(names)})" for word, names in counts.items() if names]
        lines.append(f"{what}, on unseen types: {'; '.join(parts) or 'nothing is recorded'}.")
    best = winners(recorded)
    lines.append(f"The best repairs that keep the score: {', '.join(best) if best else 'none'}.")
    return [*lines, edge_words(recorded)]


def edge_words(recorded: Recorded) -> str:
    """Return a sentence on the recorded methods whose learning rate is the smallest or largest tried."""
    tuned, missing = read_rates()["methods"], missing_methods(recorded)
    there = [method for method in tuned if method not in missing]
    parts = []
    for which, rate in (("smallest", min(RATES)), ("largest", max(RATES))):
        names = [method for method in there if tuned[method]["learning_rate"] == rate]
        parts += [f"the {which} rate tried ({rate:g}) is the best for {', '.join(names)}"] if names else []
    if not parts:
        return "No method has its best rate at an end of the range tried."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}; rates beyond it were not tried."


def push_and_score(pushes: pandas.DataFrame, recorded: Recorded) -> pandas.DataFrame:
    """Return each recorded method's push before training and its score on unseen types after it."""
    score = measures(recorded, splits=["unseen-types"], metrics=("reward",)).set_index("method")
    push = pushes_by_method(pushes).set_index("method")
    both = push[["mean"]].rename(columns={"mean": "push"}).join(
        score[["mean", "low", "high", "family"]].rename(columns={"mean": "score"}), how="inner"
    )  # fmt: skip
    return both.dropna(subset="score").reset_index()


def rank_words(both: pandas.DataFrame, least: int = 6) -> str:
    """Return a sentence about the rank correlation between push and score over the methods."""
    if len(both) < least:
        recorded = plural(len(both), "method is", "methods are")
        return f"{recorded} recorded; a rank correlation needs at least {least}."
    push, score = both["push"].to_numpy(), both["score"].to_numpy()

    def rank_correlation(order: np.ndarray) -> float:
        return float(np.corrcoef(stats.rankdata(order), stats.rankdata(score))[0, 1])

    found = stats.permutation_test(
        (push,), rank_correlation, permutation_type="pairings", n_resamples=4999, rng=0
    )
    shown = "" if found.pvalue < 0.05 else " (not significant)"
    return (
        f"Over {len(both)} methods the rank correlation of the push before training with the score after it "
        f"is {tidy(float(found.statistic))}, p = {found.pvalue:.2g} by permutation{shown}."
    )


def claims(recorded: Recorded) -> pandas.DataFrame:
    """Return the papers' claims whose runs are recorded, with their verdicts."""
    table = claims_table(recorded)
    judged = table["verdict"] != NOT_RECORDED
    columns = ["claim", "paper", "split", "measured", "verdict"]
    return table.loc[judged, columns].set_index("claim")


def claim_words(table: pandas.DataFrame) -> str:
    """Return how many claims hold, do not hold, and are not settled."""
    counts = table["verdict"].value_counts()
    parts = [f"{word}: {count}" for word, count in counts.items()]
    return f"Claims of the papers: {'; '.join(parts) or 'none judged'}."
