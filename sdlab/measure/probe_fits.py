"""Fit linear probes on some problems, predict on others, and judge the predictions problem by problem."""

import numpy as np
import pandas
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold

from sdlab.measure.spread import linearised

PENALTIES = np.logspace(-2, 5, 8)  # of the ridge, chosen among by leave-one-out on the rows of the fit
STRENGTH = 0.1  # inverse penalty of the logistic regression, on standardised features


def predictions(
    fit_x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike,
    apply_x: ArrayLike | None = None,
    test_x: ArrayLike | None = None,
    folds: int = 5,
) -> np.ndarray:
    """Return what a probe predicts for rows of problems that it was not fitted on.

    fit_x (N, d), y (N,), groups (N,): the problem of each row. The result is (N,), by cross-validation; with
    apply_x (N, d), of another model at the same places, its rows are predicted. With test_x (M, d) the probe
    is fitted on all rows and the result is (M,). Features are standardised by the rows of the fit; another
    model's rows are centred by its own mean on the same rows.

    For labels of 0 and 1 the result is the log odds without their intercept. With it, a probe that knows
    nothing would rank the folds by the share of ones in the other folds, and its area would be below 0.5.
    """
    fit_x, y = np.asarray(fit_x, dtype=float), np.asarray(y, dtype=float)
    away = fit_x if apply_x is None else np.asarray(apply_x, dtype=float)
    if test_x is not None:
        centre = fit_x.mean(0) if apply_x is None else away.mean(0)
        return _fitted(fit_x, y)(np.asarray(test_x, dtype=float) - centre)
    out = np.full(len(y), np.nan)
    for train, held in GroupKFold(folds).split(fit_x, y, groups):
        out[held] = _fitted(fit_x[train], y[train])(away[held] - away[train].mean(0))
    return out


def _fitted(x: np.ndarray, y: np.ndarray):
    """Return the fitted probe as a function of centred rows."""
    scale = x.std(0)
    scale[scale < 1e-12] = 1.0
    z = (x - x.mean(0)) / scale
    if set(np.unique(y)) <= {0.0, 1.0}:
        if len(np.unique(y)) < 2:
            return lambda rows: np.zeros(len(rows))
        model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(z, y)
        return lambda rows: rows / scale @ model.coef_[0]
    ridge = RidgeCV(PENALTIES).fit(z, y)
    return lambda rows: ridge.predict(rows / scale)


def auroc_parts(values: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the area under the ROC curve and what each row contributes to it, (N,), with sum 0.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837.
    """
    parts = np.zeros(len(values))
    n1, n0 = positive.sum(), (~positive).sum()
    ranks = rankdata(values)
    wins = (ranks[positive] - rankdata(values[positive])) / n0
    losses = 1 - (ranks[~positive] - rankdata(values[~positive])) / n1
    area = float(wins.mean())
    parts[positive], parts[~positive] = (wins - area) / n1, (losses - area) / n0
    return area, parts


def judge(
    predicted: np.ndarray, truth: np.ndarray, groups: np.ndarray, metric: str
) -> tuple[float, pandas.Series]:
    """Return R2 or the area under the ROC curve, and what each problem contributes to it, with sum 0.

    predicted and truth are (M,), groups (M,) the problems. The value is nan when the truth is constant.
    """
    if np.ptp(truth) == 0:
        return np.nan, pandas.Series(dtype=float)
    if metric == "AUROC":
        value, parts = auroc_parts(predicted, truth == 1)
        return value, pandas.Series(parts).groupby(groups).sum()
    errors = pandas.DataFrame({"over": (predicted - truth) ** 2, "under": (truth - truth.mean()) ** 2})
    sums = errors.groupby(groups).sum()
    ratio, values = linearised(sums["over"].to_numpy()[None], sums["under"].to_numpy()[None])
    return float(1 - ratio), pandas.Series(-values[0] / len(sums), sums.index)
