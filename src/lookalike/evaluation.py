"""How good are the recommendations: tables of metrics, each with what guessing has and how far it
can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lookalike.intervals import confidence_interval, macro_interval
from lookalike.metrics import (
    average_precision_at_k,
    average_similarity_at_k,
    chance_at_k,
    check_same_queries,
    first_results,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from lookalike.rankings import Ranking

MACRO = "macro average"
MICRO = "micro average"
FINE = 10_000  # resamples where the ends of an interval lie far out
ROUNDING = 1e-9  # changes that cancel out add up to less


def _precision(ranking: Ranking, k: int) -> np.ndarray:
    return precision_at_k(ranking.relevant, k)


def evaluate(ranking: Ranking, ks: tuple[int, ...] = (1, 5, 10)) -> pd.DataFrame:
    """One row a k: Precision@k beside its chance, and the other metrics, each averaged over
    queries.

    Queries with nothing relevant count as 0 in Precision@k and hit rate, but not in recall, MAP,
    nDCG and MRR; "nothing relevant" says how many they are. "possible" is the Precision@k of a
    perfect ranking, below 1 where a query has fewer than k relevant images. "MAP@k (÷ found)" is
    the other common definition of MAP@k.
    """
    columns = {
        "Precision@k": _precision,
        "chance": chance_at_k,
        "possible": lambda ranking, k: np.minimum(ranking.n_relevant, k) / k,
        "hit rate@k": hit_rate_at_k,
        "recall@k": recall_at_k,
        "MAP@k": average_precision_at_k,
        "MAP@k (÷ found)": lambda ranking, k: average_precision_at_k(ranking, k, of="found"),
        "nDCG@k": ndcg_at_k,
        "MRR@k": reciprocal_rank_at_k,
        "average similarity"
        if ranking.metric == "cosine"
        else "average distance": average_similarity_at_k,
    }
    rows = [{name: _mean(metric(ranking, k)) for name, metric in columns.items()} for k in ks]
    counts = {
        "queries": len(ranking.queries),
        "nothing relevant": int((ranking.n_relevant == 0).sum()),
    }
    return pd.DataFrame(rows, index=pd.Index(ks, name="k")).assign(**counts)


def evaluate_classes(
    ranking: Ranking, k: int = 10, *, metric: Callable[[Ranking, int], np.ndarray] = _precision
) -> pd.DataFrame:
    """A metric of each class with its interval, then two averages: "macro" counts classes alike,
    "micro" queries.

    Returns
    -------
    DataFrame, a row a class and two more: `queries`, `nothing relevant` (how many queries had),
    `value`, `low`, `high` (the ends of a 95 % interval, products drawn), `chance` (the Precision@k
    of guessing).
    """
    frame = {
        "value": metric(ranking, k),
        "chance": chance_at_k(ranking, k),
        "none": ranking.n_relevant == 0,
    }
    frame = pd.DataFrame({**frame, "label": ranking.labels, "product": ranking.products})
    parts = {str(label): part for label, part in frame.groupby("label")}
    rows = {label: _row(part) for label, part in (*parts.items(), (MICRO, frame))}
    table = pd.DataFrame(rows).T
    macro = table.loc[list(parts), ["value", "chance"]].mean()
    macro["low"], macro["high"] = macro_interval(frame["value"], frame["label"], frame["product"])
    macro["queries"], macro["nothing relevant"] = table.loc[MICRO, ["queries", "nothing relevant"]]
    table.loc[MACRO] = macro
    return table.reindex([*parts, MACRO, MICRO]).astype({"queries": int, "nothing relevant": int})


def _row(part: pd.DataFrame) -> dict[str, float]:
    low, high = confidence_interval(part["value"], part["product"])
    counts = {"queries": len(part), "nothing relevant": part["none"].sum()}
    return {
        **counts,
        "value": part["value"].mean(),
        "low": low,
        "high": high,
        "chance": part["chance"].mean(),
    }


def compare(
    rankings: Mapping[str, Ranking],
    k: int = 10,
    *,
    metric: Callable[[Ranking, int], np.ndarray] = _precision,
    reference: str | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Several ways side by side, on the same queries: means, intervals, and what each changes
    against a reference.

    A change is judged query by query, which removes what is hard for all ways alike. Who looks at
    many changes finds one that is chance; so each is given its share of the doubt (Bonferroni), and
    all of the intervals of changes together hold with the probability `level`. Source: Dunn,
    "Multiple Comparisons Among Means", 1961.

    Parameters
    ----------
    reference
        Which of the names the others are compared with; None: the first.

    Returns
    -------
    DataFrame, a row a name: `value`, `low`, `high` (the interval of the mean alone), `chance`,
    `change`, `change low`, `change high` and `verdict`: "better" or "worse" where the interval of
    the change leaves 0 out, else "not told apart", or "too few products" to have an interval; empty
    for the reference.

    Raises
    ------
    ValueError
        If a ranking is of other queries.
    """
    reference = next(iter(rankings)) if reference is None else reference
    base = rankings[reference]
    others = max(len(rankings) - 1, 1)
    rows = {}
    for name, ranking in rankings.items():
        check_same_queries(ranking, base)
        values = np.asarray(metric(ranking, k), np.float64)
        low, high = confidence_interval(values, ranking.products, level=level)
        rows[name] = {
            "value": _mean(values),
            "low": low,
            "high": high,
            "chance": _mean(chance_at_k(ranking, k)),
        }
        change = values - metric(base, k)
        low, high = confidence_interval(
            change, base.products, level=1 - (1 - level) / others, n_resamples=FINE
        )
        verdict = "better" if low > ROUNDING else "worse" if high < -ROUNDING else "not told apart"
        verdict = "too few products" if np.isnan(low) else verdict
        row = {"change": _mean(change), "change low": low, "change high": high, "verdict": verdict}
        rows[name] |= row if name != reference else dict.fromkeys(row, np.nan) | {"verdict": ""}
    return pd.DataFrame.from_dict(rows, orient="index")


def as_text(comparison: pd.DataFrame, k: int = 10) -> pd.DataFrame:
    """What `compare` gives in fewer columns, for reading: numbers with three digits, and each
    interval in one.
    """

    def interval(low: pd.Series, high: pd.Series, sign: str) -> list[str]:
        ends = zip(low, high, strict=True)
        return [f"{a:{sign}.3f} to {b:{sign}.3f}" if np.isfinite(a) else "" for a, b in ends]

    columns = {
        f"P@{k}": [f"{value:.3f}" for value in comparison["value"]],
        "95 % interval": interval(comparison["low"], comparison["high"], ""),
        "change": [
            f"{change:+.3f}" if np.isfinite(change) else "" for change in comparison["change"]
        ],
        "of the change": interval(comparison["change low"], comparison["change high"], "+"),
        "verdict": comparison["verdict"],
    }
    return pd.DataFrame(columns, index=comparison.index)


def answers(ranking: Ranking, catalog: pd.DataFrame, numbers: Sequence[int]) -> list[pd.DataFrame]:
    """What some queries found, as the tables of `recommend`: `rank`, `score` and the columns of the
    catalogue.

    Parameters
    ----------
    numbers
        Of queries in the ranking, from 0.
    """
    tables = []
    for rows, scores in zip(ranking.results[numbers], ranking.scores[numbers], strict=True):
        found = (
            catalog.iloc[rows[rows >= 0]]
            .drop(columns=["rank", "score"], errors="ignore")
            .reset_index(drop=True)
        )
        found.insert(0, "rank", np.arange(1, len(found) + 1))
        found.insert(1, "score", scores[rows >= 0])
        tables.append(found)
    return tables


def confused_pairs(
    ranking: Ranking, catalog: pd.DataFrame, k: int = 10, *, by: str = "label"
) -> pd.DataFrame:
    """Which classes are shown to whom: of all first k results of a class, the share that is of
    another, largest first.

    Returns
    -------
    DataFrame with `asked`, `shown`, `share` in [0, 1], and `images`, how many.

    Raises
    ------
    ValueError
        If the ranking was not made by this column of this catalogue, or of fewer than k results.
    """
    first_results(ranking.relevant, k)
    results = ranking.results[:, :k]
    if len(catalog) <= results.max() or not np.array_equal(
        catalog[by].to_numpy()[ranking.queries], ranking.labels
    ):
        raise ValueError(f"The ranking was not by the column {by!r} of this catalogue.")
    shown = np.append(catalog[by].to_numpy(), None)[results]
    pairs = pd.DataFrame(
        {"asked": np.repeat(ranking.labels, results.shape[1]), "shown": shown.ravel()}
    ).dropna()
    counts = pairs.value_counts().rename("images").reset_index()
    counts["share"] = counts["images"] / counts.groupby("asked")["images"].transform("sum")
    wrong = counts[counts["asked"] != counts["shown"]].sort_values(
        "share", ascending=False, kind="stable"
    )
    return wrong[["asked", "shown", "share", "images"]].reset_index(drop=True)


def _mean(values: np.ndarray) -> float:
    """The mean of what is not NaN; NaN if nothing is."""
    return float(pd.Series(values).mean())
