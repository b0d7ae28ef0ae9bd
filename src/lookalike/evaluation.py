"""How good are the recommendations: retrieval metrics over one ranking, with the chance level beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lookalike.similarity import top_k


@dataclass(frozen=True)
class Ranking:
    """What was found for each query: the one thing that all metrics are computed from.

    relevant : bool [q, k], whether the result at each rank has the query's label, best rank first
    scores : float32 [q, k], as `top_k` gives them; not finite where the gallery was exhausted
    n_relevant : int64 [q], how many relevant images the query could have found
    n_gallery : int64 [q], how many images it was compared with
    metric : "cosine" or "euclidean", what the scores are
    """

    relevant: np.ndarray
    scores: np.ndarray
    n_relevant: np.ndarray
    n_gallery: np.ndarray
    metric: str = "cosine"


def rank(
    vectors: np.ndarray,
    catalog: pd.DataFrame,
    k: int = 10,
    *,
    metric: str = "cosine",
    by: str = "label",
    gallery_split: str | None = None,
    query_split: str | None = None,
) -> Ranking:
    """Let images look for others of their kind.

    With two splits, images of `query_split` search in `gallery_split`. Without, every image searches in all the others
    (leave-one-out). Either way the views of a query's own product are left out: finding them is no achievement.

    Parameters
    ----------
    vectors : array [n, dim]
    catalog : DataFrame of n rows
    by
        The column that decides what is relevant. Images without a value there are neither queries nor gallery.

    Raises
    ------
    ValueError
        If only one split is given, one of them is empty, or no image has a value in `by`.
    """
    if len(vectors) != len(catalog):
        raise ValueError(f"{len(vectors)} vectors and {len(catalog)} rows of the catalogue do not belong together.")
    if (gallery_split is None) != (query_split is None):
        raise ValueError("Give both gallery_split and query_split, or neither for leave-one-out.")
    known = catalog[by].notna().to_numpy()
    sides = [
        known if split is None else known & (catalog["split"] == split).to_numpy()
        for split in (gallery_split, query_split)
    ]
    gallery, queries = map(np.flatnonzero, sides)
    if not len(gallery) or not len(queries):
        raise ValueError(
            f"Nothing to rank: {len(queries)} queries (split {query_split}) and {len(gallery)} gallery images "
            f"(split {gallery_split}) have a value in column {by!r}."
        )
    values = pd.factorize(catalog[by])[0]
    products = pd.factorize(catalog["product_id"])[0]
    own = pd.Series(np.arange(len(gallery))).groupby(products[gallery]).apply(np.asarray).to_dict()
    exclude = [own.get(product, np.array([], np.int64)) for product in products[queries]]
    indices, scores = top_k(vectors[queries], vectors[gallery], k, metric=metric, exclude=exclude)
    relevant = (values[gallery][indices] == values[queries][:, None]) & (indices >= 0)
    n_relevant = np.bincount(values[gallery], minlength=values.max() + 1)[values[queries]]
    n_own_relevant = np.array(
        [np.sum(values[gallery][rows] == value) for rows, value in zip(exclude, values[queries], strict=True)]
    )
    n_gallery = len(gallery) - np.array([len(rows) for rows in exclude])
    return Ranking(relevant, scores, n_relevant - n_own_relevant, n_gallery, metric)


def precision_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """Share of the first k results that are relevant, in [0, 1], for each query; missing results count as wrong."""
    return _first(ranking, k).sum(axis=1) / k


def recall_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """Share of all relevant images that are among the first k; NaN for a query that has none.

    Not to be confused with the "Recall@k" of metric learning, which is `hit_rate_at_k`.
    """
    found = _first(ranking, k).sum(axis=1)
    return np.divide(found, ranking.n_relevant, out=np.full(len(found), np.nan), where=ranking.n_relevant > 0)


def hit_rate_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """1 for a query with a relevant image among its first k results, else 0; known as "Recall@k" in metric learning.

    Source: Oh Song and others, "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016.
    """
    return _first(ranking, k).any(axis=1).astype(float)


def average_precision_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """Precision averaged over the ranks of the relevant results within the first k; its mean over queries is MAP@k.

    Divided by min(number of relevant images, k), so that a perfect ranking has 1; NaN for a query that has none.
    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    """
    relevant = _first(ranking, k)
    precision = np.cumsum(relevant, axis=1) / np.arange(1, k + 1)
    possible = np.minimum(ranking.n_relevant, k)
    total = (precision * relevant).sum(axis=1)
    return np.divide(total, possible, out=np.full(len(total), np.nan), where=possible > 0)


def average_similarity_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """Mean score of the first k results of each query, whatever their labels; for "euclidean" it is a distance."""
    _first(ranking, k)
    scores = np.where(np.isfinite(ranking.scores[:, :k]), ranking.scores[:, :k], np.nan)
    counted = np.isfinite(scores).sum(axis=1)
    return np.divide(np.nansum(scores, axis=1), counted, out=np.full(len(scores), np.nan), where=counted > 0)


def chance(ranking: Ranking, k: int) -> float:
    """The Precision@k that guessing has on average: the share of relevant images in the gallery, over all queries.

    Where the gallery has fewer than k images, guessing misses the rest as any ranking does.
    """
    return float((ranking.n_relevant / np.maximum(ranking.n_gallery, k)).mean())


def confidence_interval(
    values: np.ndarray, groups: np.ndarray | None = None, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Where the mean would lie, had other queries been drawn: a percentile bootstrap.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

    Parameters
    ----------
    values : array [q]
        A metric of each query; NaN does not count.
    groups : array [q]
        What the queries are drawn by, e.g. products, whose views agree more than strangers do; None: one by one.

    Returns
    -------
    The ends of the interval; both NaN without values.
    """
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    if not known.any():
        return float("nan"), float("nan")
    groups = pd.factorize(np.arange(len(values)) if groups is None else np.asarray(groups))[0][known]
    groups = pd.factorize(groups)[0]
    sums, sizes = np.bincount(groups, values[known]), np.bincount(groups)
    random = np.random.default_rng(seed)
    drawn = np.stack([random.integers(len(sums), size=len(sums)) for _ in range(n_resamples)])
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _first(ranking: Ranking, k: int) -> np.ndarray:
    if not 1 <= k <= ranking.relevant.shape[1]:
        raise ValueError(f"k must be between 1 and {ranking.relevant.shape[1]}, the number of ranks computed, not {k}.")
    return ranking.relevant[:, :k]


def evaluate(ranking: Ranking, ks: tuple[int, ...] = (1, 5, 10)) -> pd.DataFrame:
    """One row a k: Precision@k beside its chance, hit rate, recall, MAP@k and average score, each meaned over queries.

    Means of recall and MAP run over the queries that have something relevant; `ranking.n_relevant` tells which.
    """
    columns = {
        "Precision@k": precision_at_k,
        "chance": chance,
        "hit rate@k": hit_rate_at_k,
        "recall@k": recall_at_k,
        "MAP@k": average_precision_at_k,
        "average similarity" if ranking.metric == "cosine" else "average distance": average_similarity_at_k,
    }
    rows = [{name: pd.Series(metric(ranking, k)).mean() for name, metric in columns.items()} for k in ks]
    return pd.DataFrame(rows, index=pd.Index(ks, name="k"))
