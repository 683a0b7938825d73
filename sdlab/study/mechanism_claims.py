"""Claims about what became of the doubt, each with the range that the claim allows and a verdict.

A claim is about SDPO unless it says otherwise. Its verdict is yes when the whole 95% interval lies in the
range, no when no part of it does, else not settled. A claim of equality uses a 90% interval (two one-sided
tests). A quantity over training seeds is not settled with fewer than two of them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval, row_interval
from sdlab.measure.ladder import NEUTRAL_WORDS, NO_CHECKS, PATCH_ALL, RANDOM
from sdlab.measure.readouts import CHANGE, MARKER, NEAR, TRANSFER, TRUE, UNEMBEDDING
from sdlab.study.mechanism_recorded import Estimate, Mechanism, Point
from sdlab.study.mechanism_unit import BASE
from sdlab.study.statements import OWN_WORDS
from sdlab.study.verdicts import MIN_SEEDS, NOT_SETTLED, Measured, judge

FAR = "unseen-types"
MARGIN = 0.05  # of the score and of a share: smaller differences do not matter
KEPT = 0.1  # of R2
LEARNT = "sdpo"


@dataclass(frozen=True)
class Claim:
    """A claim: its question, its quantity and the range in which the quantity then lies.

    one_model: the quantity is about the organism alone, which has no training seeds. lost: the claim is about
    a share of what was lost of this metric on unseen types, so it is not settled when no loss is shown.
    changed: the claim is about a share of the change of this readout on unseen types, so it is not settled
    when no change is shown.
    """

    question: str
    claim: str
    what: str
    quantity: Callable[[Mechanism], Estimate]
    low: float = -math.inf
    high: float = math.inf
    one_model: bool = False
    lost: str = ""
    changed: str = ""

    def measure(self, mechanism: Mechanism) -> Measured:
        """Return the quantity and the verdict for one organism."""
        try:
            estimate = self.quantity(mechanism)
        except SdlabError:  # a study of few problems may lack what the claim needs
            return Measured(Interval(math.nan, math.nan, math.nan), NOT_SETTLED, "not recorded")
        equality = math.isfinite(self.low) and math.isfinite(self.high)
        interval = estimate.narrow if equality else estimate.interval
        if estimate.seeds < MIN_SEEDS and not self.one_model:
            return Measured(interval, NOT_SETTLED, "one seed")
        if self.lost and not loss(mechanism, self.lost).interval.low > 0:
            return Measured(interval, NOT_SETTLED, f"no loss of {metric_name(self.lost)} is shown")
        change = mechanism.mean_readout(LEARNT, self.changed, FAR) if self.changed else None
        if change is not None and not (change.low > 0 or change.high < 0):
            return Measured(interval, NOT_SETTLED, f"no {self.changed} is shown")
        return Measured(interval, judge(interval, self.low, self.high), "90% interval" if equality else "")

    @property
    def refuting(self) -> str:
        """Return what would refute the claim."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{self.what}: outside {self.low:g} to {self.high:g}"
        return (
            f"{self.what}: {f'{self.low:g} or less' if math.isfinite(self.low) else f'{self.high:g} or more'}"
        )


def loss(mechanism: Mechanism, metric: str, split: str = FAR) -> Estimate:
    """Return the mean of the base minus that of the trained model."""
    return mechanism.combine([(1.0, Point(BASE)), (-1.0, Point(LEARNT))], metric, split)


def metric_name(metric: str) -> str:
    """Return the name of a metric for readers."""
    return "score" if metric == "reward" else metric


def _probe(column: str, split: str, probe: str = "own") -> Callable[[Mechanism], Estimate]:
    """Return the quantity of a probe's row at the best layer: mean or change, with the recorded interval."""
    ends = ("mean", "low", "high") if column == "mean" else (column, f"{column}_low", f"{column}_high")

    def quantity(mechanism: Mechanism) -> Estimate:
        row = mechanism.probe(LEARNT, split, probe)
        interval = row_interval(row, ends)
        return Estimate(interval, interval, int(row["seeds"]))

    return quantity


def _score(*terms: tuple[float, Point], metric: str = "reward", split: str = FAR):
    return lambda mechanism: mechanism.combine(terms, metric, split)


def _steered(metric: str, share: float, against: str | None = None):
    """Return the gain by steering minus `share` of what was lost, or minus the gain by a random push."""

    def quantity(mechanism: Mechanism) -> Estimate:
        chosen = mechanism.chosen_dose(LEARNT)
        terms = [(1.0, chosen), (share - 1, Point(LEARNT)), (-share, Point(BASE))]
        if against:
            terms = [(1.0, chosen), (-1.0, Point(LEARNT, against, chosen.layer, chosen.dose))]
        return mechanism.combine([term for term in terms if term[0]], metric, FAR)

    return quantity


def _half_back(intervention: str):
    """Return the score under an intervention minus the middle between trained model and base."""
    return _score((1, Point(LEARNT, intervention)), (-0.5, Point(LEARNT)), (-0.5, Point(BASE)))


REPRESENTED = "Is uncertainty still represented?"
KIND = "Was it a readout, a behaviour, or knowledge that was lost?"
STEERING = "Can steering bring markers back, and does the score follow?"
WORDS = "Does the score need the words, or the checks?"
CLAIMS = (
    Claim(REPRESENTED, "a probe reads the belief's entropy nearly as well as before, in-domain",
          "change of the probe's R2 in-domain", _probe("change", NEAR), low=-KEPT),
    Claim(REPRESENTED, "a probe reads the belief's entropy nearly as well as before, on unseen types",
          "change of the probe's R2 on unseen types", _probe("change", FAR), low=-KEPT),
    Claim(REPRESENTED, "a probe of the base, shifted to the new mean, still reads more than half of it",
          "R2 of the base's probe in-domain", _probe("mean", NEAR, TRANSFER), low=0.5),
    Claim(KIND, "at the same places a marker is at most half as likely as before",
          "probability of a marker, divided by the base's, on unseen types",
          lambda m: m.readout_ratio(LEARNT, MARKER, BASE, FAR), high=0.5),
    Claim(KIND, "less than a quarter of the change of the markers' logits is in the unembedding",
          "a quarter of the change minus the unembedding's part, in its direction, on unseen types",
          lambda m: m.readout_excess(LEARNT, UNEMBEDDING, CHANGE, 0.25, FAR), low=0, changed=CHANGE),
    Claim(KIND, "made to check, it states true facts as often as the base",
          "change of the share of true statements, on unseen types",
          lambda m: m.readout_change(LEARNT, TRUE, FAR), low=-MARGIN, high=MARGIN),
    Claim(KIND, "a nudge to check at every guess raises the score",
          "score with nudges minus the score as it is, unseen types",
          _score((1, Point(LEARNT, "a nudge at every guess")), (-1, Point(LEARNT))), low=0),
    Claim(KIND, "a nudge to check at every guess brings back at least half of the lost score",
          "score with nudges minus the middle of trained model and base, unseen types",
          _half_back("a nudge at every guess"), low=0, lost="reward"),
    Claim(KIND, "the blocks of the base bring back at least half of the lost score",
          "score with the base's blocks minus the middle of trained model and base, unseen types",
          _half_back(PATCH_ALL), low=0, lost="reward"),
    Claim(STEERING, "steering towards doubt brings back at least half of the lost markers",
          "markers when steered minus the middle of trained model and base, unseen types",
          _steered("markers", 0.5), low=0, lost="markers"),
    Claim(STEERING, "steering towards doubt raises the score",
          "score when steered minus the score as it is, unseen types", _steered("reward", 0), low=0),
    Claim(STEERING, "steering towards doubt brings back at least half of the lost score",
          "score when steered minus the middle of trained model and base, unseen types",
          _steered("reward", 0.5), low=0, lost="reward"),
    Claim(STEERING, "it raises the score more than a random direction of the same size",
          "score when steered minus that with a random direction, unseen types",
          _steered("reward", 0, RANDOM), low=0),
    Claim(WORDS, "the base keeps its score when neutral words stand in for words of doubt",
          "change of the base's score with neutral words, unseen types",
          _score((1, Point(BASE, NEUTRAL_WORDS)), (-1, Point(BASE))),
          low=-MARGIN, high=MARGIN, one_model=True),
    Claim(WORDS, "the base loses score without checks, even with words of doubt",
          "change of the base's score without checks, unseen types",
          _score((1, Point(BASE, NO_CHECKS)), (-1, Point(BASE))), high=0, one_model=True),
    Claim(WORDS, "after SDPO an inserted check helps more than an inserted word of doubt",
          "score with a check inserted minus that with a word inserted, unseen types",
          _score((1, Point(LEARNT, "insert a check")), (-1, Point(LEARNT, "insert a word"))), low=0),
)  # fmt: skip


def claim_rows(mechanism: Mechanism) -> dict[str, dict[str, str]]:
    """Return claim -> question, measured, verdict (yes, no, not settled) and what refutes it."""
    rows = {}
    for claim in CLAIMS:
        measured = claim.measure(mechanism)
        rows[claim.claim] = {
            "question": claim.question, "measured": str(measured), "verdict": OWN_WORDS[measured.verdict],
            "refuted by": claim.refuting,
        }  # fmt: skip
    return rows


def claims_by_organism(mechanisms: Mapping[str, Mechanism]) -> pandas.DataFrame:
    """Return the verdicts with one row per claim and one column per organism, and whether all agree.

    Columns: question, claim, the organisms ("measured: verdict"), and `all`: the verdict when it is the same
    on every organism, else "differs".
    """
    rows = {name: claim_rows(mechanism) for name, mechanism in mechanisms.items()}
    table = []
    for claim in CLAIMS:
        own = {name: found[claim.claim] for name, found in rows.items()}
        verdicts = {row["verdict"] for row in own.values()}
        cells = {name: f"{row['verdict']}: {row['measured']}" for name, row in own.items()}
        same = verdicts.pop() if len(verdicts) == 1 else "differs"
        table.append({"question": claim.question, "claim": claim.claim, **cells, "all": same})
    return pandas.DataFrame(table)
