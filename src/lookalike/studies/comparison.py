"""Several ways to rank side by side, and which of them can be told apart."""

import numpy as np
import pandas as pd

from lookalike.evaluation import chance, confidence_interval, paired_change, precision_at_k

FINE = 10_000  # resamples where the ends of an interval lie far out
ROUNDING = 1e-9  # changes that cancel out add up to less


def compare(rankings, k=10, *, reference=None):
    """Precision@k of several ways side by side, and what each changes against a reference.

    Who looks at many changes finds one that is chance. So each is given its share of the doubt, and
    all intervals of changes hold together with a probability of 0.95. Source: Dunn, "Multiple
    Comparisons Among Means", 1961.

    Parameters
    ----------
    reference
        Which of the names the others are compared with; None: the first.

    Returns
    -------
    DataFrame, a row a name: `value`, `low`, `high`, `chance`; `change`, `change low`, `change high`
    and `verdict`: "better" or "worse" where the interval of the change leaves 0 out, else "not told
    apart", or "too few products" to have one. `ValueError` if they are of other queries or
    galleries.
    """
    reference = reference or next(iter(rankings))
    base = rankings[reference]
    before = precision_at_k(base.relevant, k)
    level = 1 - 0.05 / max(1, len(rankings) - 1)
    rows = {}
    for name, ranking in rankings.items():
        for what in ("queries", "labels", "n_gallery"):
            if not np.array_equal(getattr(ranking, what), getattr(base, what)):
                raise ValueError(f"{name!r} is not of the same {what} as {reference!r}.")
        values = precision_at_k(ranking.relevant, k)
        interval = confidence_interval(values, base.products)
        # Of fewer photos than k, guessing misses the rest, as any ranking does.
        guessing = chance(ranking.n_relevant, np.maximum(ranking.n_gallery, k))
        change = paired_change(values, before, base.products, level=level, n_resamples=FINE)
        verdict = _verdict(*change[1:])
        rows[name] = [values.mean(), *interval, guessing.mean(), *change, verdict]
    changes = ["change", "change low", "change high"]
    columns = ["value", "low", "high", "chance", *changes, "verdict"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.loc[reference, changes] = np.nan
    table.loc[reference, "verdict"] = ""
    return table


def _verdict(low, high):
    if np.isnan(low):
        return "too few products"
    if low > ROUNDING:
        return "better"
    return "worse" if high < -ROUNDING else "not told apart"
