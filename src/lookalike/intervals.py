"""How far a mean can be trusted: bootstrap intervals, by product where products have several views."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm, t

DRAWN = 1 << 22  # numbers drawn at a time
FEWEST = 5  # groups; of fewer, what is drawn again shows too little of what there could be


def confidence_interval(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Where the mean would lie, had other queries been drawn: a bootstrap interval.

    The percentile interval is too narrow for few groups, and is widened as Student's t is wider
    than the normal. Source: Hesterberg, "What Teachers Should Know About the Bootstrap", The
    American Statistician 2015, section 5.3, and Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13.

    Parameters
    ----------
    values : array [q]
        A metric of each query; NaN does not count. For two encoders, the differences of the same
        queries.
    groups : array [q]
        What the queries are drawn by, e.g. products, whose views agree more than strangers do;
        None: one by one.

    Returns
    -------
    The ends of the interval; both NaN of fewer than five groups, for which no resampling keeps what
    it promises. Where nearly all values are equal, as hit rates may be, or of few groups a mean
    near 0 or 1, it is too narrow: of n queries that are all right it has no width, but up to 3/n of
    the next may be wrong.

    Raises
    ------
    ValueError
        If a value is infinite, there is not one group for each, nothing is drawn, or `level` is not
        between 0 and 1.
    """
    means, n_groups = _resampled_means(values, groups, n_resamples, np.random.default_rng(seed))
    return _ends(means, n_groups, level)


def difference_interval(
    values: np.ndarray,
    groups: np.ndarray,
    others: np.ndarray,
    other_groups: np.ndarray,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The same for the mean of `values` less that of `others`, of different queries; NaN if one
    side is too few.
    """
    random = np.random.default_rng(seed)
    parts = [
        _resampled_means(*side, 2000, random) for side in ((values, groups), (others, other_groups))
    ]
    return _ends(parts[0][0] - parts[1][0], min(count for _, count in parts), level)


def macro_interval(
    values: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The same for the mean of the means of classes: queries are drawn class by class.

    Each class is widened for its own few groups; how far the whole can be trusted is weighed by how
    much doubt each class adds. Source: Satterthwaite, "An Approximate Distribution of Estimates of
    Variance Components", 1946. A class whose values are all NaN does not count. NaN if a class has
    a single group, whose doubt nothing shows, or all are too few.
    """
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"value": values, "class": classes, "group": groups}).dropna(
        subset=["value"]
    )
    parts = [
        _resampled_means(part["value"], part["group"], 2000, random)
        for _, part in frame.groupby("class")
    ]
    if not parts or min(count for _, count in parts) < 2:
        return float("nan"), float("nan")
    found = np.array([means.var() for means, _ in parts])
    freedom = np.array([count - 1 for _, count in parts])
    real = found * (freedom + 1) / freedom
    means = np.mean([means for means, _ in parts], axis=0)
    if not real.any():
        return _ends(means, 1 + freedom.sum(), level)  # nothing to widen
    return _ends(
        means, 1 + real.sum() ** 2 / (real**2 / freedom).sum(), level, real.sum() / found.sum()
    )


def _resampled_means(
    values, groups, n_resamples: int, random: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Means [n_resamples] of as many groups as there are, drawn with replacement; and how many
    there are.
    """
    values = np.asarray(values, np.float64)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    if (
        values.ndim != 1
        or groups.shape != values.shape
        or np.isinf(values).any()
        or n_resamples < 1
    ):
        given = f"values {list(values.shape)} and groups {list(groups.shape)}, drawn {n_resamples} times"
        raise ValueError(
            f"Finite values or NaN, a group for each, and one draw or more, please; not {given}."
        )
    known = ~np.isnan(values)
    groups = pd.factorize(pd.factorize(groups)[0][known])[0]
    sums = np.bincount(groups, values[known])
    sizes = np.bincount(groups)
    if not len(sums):
        return np.full(n_resamples, np.nan), 0
    means = np.empty(n_resamples)
    rows = max(1, DRAWN // len(sums))
    for start in range(0, n_resamples, rows):
        part = means[start : start + rows]
        drawn = random.integers(len(sums), size=(len(part), len(sums)))
        part[:] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means, len(sums)


def _ends(
    means: np.ndarray, n_groups: float, level: float, widening: float | None = None
) -> tuple[float, float]:
    """The ends, of a variance that is `widening` times that of the means: n / (n - 1) if it is of n
    groups.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, as 0.95, not {level}.")
    if n_groups < FEWEST:
        return float("nan"), float("nan")
    widening = n_groups / (n_groups - 1) if widening is None else widening
    outside = norm.cdf(-np.sqrt(widening) * t.ppf((1 + level) / 2, n_groups - 1))
    low, high = np.quantile(means, [outside, 1 - outside])
    return float(low), float(high)
