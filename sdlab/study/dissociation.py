"""The dissociation: does training cost more on unseen types than in-domain, and how many times more?

A relative loss is 1 - after / before, in scores. Both losses come from the same training seeds and from
different problems. Their ratio has Fieller's interval (1954, J. R. Stat. Soc. B 16:175): all factors f for
which `loss on unseen types - f * loss in-domain` is not significantly different from 0. That difference is
linear, so its interval over seeds and problems is the one of `sdlab.measure.spread`. When the loss in-domain
is not shown to be above 0, every factor is possible, and the interval is (-inf, inf). Whether the loss on
unseen types is more than f times the one in-domain can be shown even then: by that difference itself.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas
from scipy.optimize import root_scalar

from sdlab.errors import SdlabError
from sdlab.measure.crossed import Difference, crossed_difference
from sdlab.measure.intervals import Interval
from sdlab.measure.spread import Spread, crossed_spread, linearised
from sdlab.study.recorded import Recorded
from sdlab.text.repr_html import ReprHtml

CONFIDENCE = 0.95
LARGEST = 1e6  # factors are searched up to here


Tables = tuple[pandas.DataFrame, pandas.DataFrame]  # sums and their denominators, (S, P) each
Loss = tuple[float, pandas.DataFrame]  # a relative loss, and every cell's contribution to it (S, P)


@dataclass(frozen=True)
class Dissociation(ReprHtml):
    """The relative losses on two splits (shares of the score before), and the second divided by the first."""

    near: str  # the split that training resembles
    far: str
    loss_near: Interval
    loss_far: Interval
    ratio: Interval
    seeds: int
    parts: tuple[Loss, Loss] = field(repr=False, compare=False)  # of near and far

    def excess(self, factor: float) -> Interval:
        """Return the loss on `far` minus `factor` times the loss on `near`, with its 95% interval."""
        return _excess(*self.parts, factor)

    def exceeds(self, factor: float) -> bool:
        """Return whether the loss on `far` is shown to be more than `factor` times the loss on `near`.

        One seed shows nothing about other seeds, so it never exceeds.
        """
        return self.seeds > 1 and self.excess(factor).low > 0

    def __str__(self) -> str:
        return f"{self.near} loses {self.loss_near}, {self.far} {self.loss_far}: {self.ratio} times as much"

    def __repr__(self) -> str:
        return f"<Dissociation {self}>"


def dissociation(
    recorded: Recorded,
    before: str,
    after: str,
    near: str = "in-domain",
    far: str = "unseen-types",
    step: int | None = None,
) -> Dissociation:
    """Return the relative losses from condition `before` to condition `after` on two splits, and their ratio.

    step: the evaluation of `after` (None: the last one); `before` is taken at its last evaluation.

    Raises SdlabError when nothing is recorded there, and when the two conditions have no seeds in common.
    """
    first, second = (_relative_loss(recorded, before, after, split, step) for split in (near, far))
    loss_near, loss_far = (_sum(loss).around(loss[0], CONFIDENCE) for loss in (first, second))
    ratio = Interval(second[0] / first[0] if first[0] else np.nan, *_fieller(first, second))
    return Dissociation(near, far, loss_near, loss_far, ratio, seeds=len(first[1]), parts=(first, second))


def loss_change(
    recorded: Recorded, first: tuple[str, str], second: tuple[str, str], split: str
) -> Difference:
    """Return the relative loss on `split` from the `second` pair of conditions minus that of the `first`.

    A pair is a condition before and one after training, for example ("base", "sdpo"). Seeds are paired by
    their number, problems by their name.

    Raises SdlabError when nothing is recorded there, and when nothing is common.
    """
    losses = [_relative_loss(recorded, *pair, split, None) for pair in (first, second)]
    # Around its own mean, every cell holds the loss plus its contribution, so their mean is the loss.
    a, b = (loss + cells for loss, cells in losses)
    common = a.columns.intersection(b.columns)
    return crossed_difference(a[common], b[common])


def relative_change(before: Tables, after: Tables) -> Interval:
    """Return after / before - 1 on the common seeds and problems, with its interval over both.

    `before` and `after` as from `Recorded.table`. The score before has an error, too, and the interval counts
    it (delta method). The change is NaN where the score before is 0, and at least -1: nobody loses more than
    everything.

    Raises SdlabError when nothing is common.
    """
    loss, contributions = _share_lost(before, after)
    return crossed_spread(0 - contributions.to_numpy()).around(0 - loss, CONFIDENCE, bounds=(-1, np.inf))


def _relative_loss(recorded: Recorded, before: str, after: str, split: str, step: int | None) -> Loss:
    """Return the share of the score of `before` on `split` that `after` lacks."""
    loss = _share_lost(
        recorded.table(before, "reward", split), recorded.table(after, "reward", split, step),
        f"{before!r} and {after!r} on {split!r}",
    )  # fmt: skip
    if np.isnan(loss[0]):
        raise SdlabError(f"the score of {before!r} on {split!r} is 0; a share of it cannot be lost")
    return loss


def _share_lost(before: Tables, after: Tables, what: str = "the two") -> Loss:
    """Return 1 - after / before on the common seeds and problems, linearised by the delta method."""
    (x, m), (y, n) = before, after
    seeds, problems = x.index.intersection(y.index), x.columns.intersection(y.columns)
    if seeds.empty or problems.empty:
        raise SdlabError(
            f"{what} have no seeds or no problems in common; record them with the same seeds and problems"
        )
    (a, values_a), (b, values_b) = (
        linearised(*(table.loc[seeds, problems].to_numpy(float) for table in tables))
        for tables in ((x, m), (y, n))
    )
    share = float(b / a) if a > 0 else np.nan
    contributions = -(values_b - share * values_a) / np.where(a > 0, a, np.nan)
    return 1 - share, pandas.DataFrame(contributions, index=seeds, columns=problems)


def _sum(*losses: Loss) -> Spread:
    """Return the spread of the sum of losses that have the same seeds and different problems.

    The problems of all losses become the columns of one table, scaled so that its mean is the sum of means.
    """
    count = sum(values.shape[1] for _, values in losses)
    columns = [values.to_numpy() * (count / values.shape[1]) for _, values in losses]
    return crossed_spread(np.concatenate(columns, axis=1))


def _excess(first: Loss, second: Loss, factor: float) -> Interval:
    """Return second - factor * first with its interval."""
    spread = _sum(second, (-factor * first[0], -factor * first[1]))
    return spread.around(second[0] - factor * first[0], CONFIDENCE)


def _fieller(first: Loss, second: Loss) -> tuple[float, float]:
    """Return the smallest and the largest factor f for which second - f * first may be 0."""

    def low_end(factor: float) -> float:
        return _excess(first, second, factor).low

    def high_end(factor: float) -> float:
        return _excess(first, second, factor).high

    if not first[0] > _sum(first).half_width(CONFIDENCE):
        return -np.inf, np.inf
    middle = second[0] / first[0]
    low = root_scalar(low_end, bracket=(-LARGEST, middle)).root
    high = root_scalar(high_end, bracket=(middle, LARGEST)).root
    return low, high
