"""Retrieval metrics, float [q], one number a query: how good what it found is.

All raise `ValueError` if k is below 1 or more than the ranks that were computed.
"""

from __future__ import annotations

from numbers import Integral

import numpy as np

from lookalike.rankings import Ranking
from lookalike.similarity import checked_k


def precision_at_k(relevant: np.ndarray, k: int) -> np.ndarray:
    """Share of the first k results that are relevant, in [0, 1]; missing results count as wrong.

    relevant : bool [q, at least k], whether each result is relevant, best first
    """
    return first_results(relevant, k).mean(axis=1)


def chance(n_relevant: np.ndarray, n_gallery: np.ndarray) -> np.ndarray:
    """The Precision@k that guessing has on average: the share of relevant images in the gallery."""
    return n_relevant / np.maximum(n_gallery, 1)


def recall_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """Share of all relevant images that are among the first k; NaN for a query that has none.

    Not to be confused with the "Recall@k" of metric learning, which is `hit_rate_at_k`.
    """
    return _share(first_results(ranking.relevant, k).sum(axis=1), ranking.n_relevant)


def hit_rate_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """1 for a query with a relevant image among its first k results, else 0; known as "Recall@k" in
    metric learning.

    Source: Oh Song and others, "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR
    2016.
    """
    return first_results(ranking.relevant, k).any(axis=1).astype(float)


def average_precision_at_k(ranking: Ranking, k: int, *, of: str = "possible") -> np.ndarray:
    """Precision averaged over the ranks of the relevant results within the first k; its mean over
    queries is MAP@k.

    NaN for a query that has nothing relevant. Definitions differ in what the sum is divided by:

    - "possible": min(number of relevant images, k), so that a perfect ranking has 1, and missing
      one costs.
    - "found": the relevant results among the first k, 0 if there are none. A single hit on the
      first rank has 1.
    - "relevant": all relevant images, as in Manning, Raghavan, Schütze, "Introduction to
      Information Retrieval", 2008, section 8.4, where the ranking is not cut at k.
    """
    relevant = first_results(ranking.relevant, k)
    found = relevant.sum(axis=1)
    divisors = {
        "possible": np.minimum(ranking.n_relevant, k),
        "found": found,
        "relevant": ranking.n_relevant,
    }
    if of not in divisors:
        raise ValueError(f"of must be one of {', '.join(divisors)}, not {of!r}.")
    total = (np.cumsum(relevant, axis=1) / np.arange(1, k + 1) * relevant).sum(axis=1)
    return np.where(ranking.n_relevant > 0, total / np.maximum(divisors[of], 1), np.nan)


def ndcg_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain, in [0, 1]; NaN for a query that has nothing relevant.

    A relevant result at rank r counts 1 / log2(r + 1); the sum is divided by that of a perfect
    ranking. Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques",
    2002; with this discount Burges and others, "Learning to Rank using Gradient Descent", ICML
    2005.
    """
    relevant = first_results(ranking.relevant, k)
    weights = 1 / np.log2(np.arange(2, k + 2))
    best = np.append(0, np.cumsum(weights))[np.minimum(ranking.n_relevant, k)]
    return _share(relevant @ weights, best)


def reciprocal_rank_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """1 / the rank of the first relevant result, 0 if it is not among the first k; its mean over
    queries is MRR@k.

    NaN for a query that has nothing relevant. Source: Voorhees, "The TREC-8 Question Answering
    Track Report", 1999.
    """
    relevant = first_results(ranking.relevant, k)
    return np.where(
        ranking.n_relevant > 0, relevant.any(axis=1) / (relevant.argmax(axis=1) + 1), np.nan
    )


def r_precision(ranking: Ranking) -> np.ndarray:
    """Precision within as many results as there are relevant images; NaN for a query that has none.

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4.

    Raises
    ------
    ValueError
        If a query has more relevant images than ranks were computed.
    """
    depth = ranking.relevant.shape[1]
    if (ranking.n_relevant > depth).any():
        raise ValueError(
            f"R-precision needs {ranking.n_relevant.max()} ranks, and {depth} were computed; give rank a larger k."
        )
    counted = np.arange(depth) < ranking.n_relevant[:, None]
    return _share((ranking.relevant & counted).sum(axis=1), ranking.n_relevant)


def average_similarity_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """Mean score of the first k results, whatever their labels; for "euclidean" it is a distance."""
    first_results(ranking.relevant, k)
    scores = ranking.scores[:, :k].astype(np.float64)
    there = np.isfinite(scores)
    return _share(np.where(there, scores, 0).sum(axis=1), there.sum(axis=1))


def overlap_at_k(ranking: Ranking, other: Ranking, k: int) -> np.ndarray:
    """Share of the first k results that both rankings have, whatever their order, in [0, 1].

    Of a gallery with fewer than k images the share is of those there are.

    Raises
    ------
    ValueError
        If the two are not of the same queries.
    """
    check_same_queries(ranking, other)
    for each in (ranking, other):
        first_results(each.relevant, k)
    both = [
        len(set(a[a >= 0]) & set(b))
        for a, b in zip(ranking.results[:, :k], other.results[:, :k], strict=True)
    ]
    return _share(np.array(both, float), np.minimum(k, ranking.n_gallery))


def chance_at_k(ranking: Ranking, k: int) -> np.ndarray:
    """`chance` of each query; where the gallery has fewer than k images, guessing misses the rest as
    any ranking does.
    """
    return chance(ranking.n_relevant, np.maximum(ranking.n_gallery, checked_k(k)))


def check_same_queries(ranking: Ranking, other: Ranking) -> None:
    """Refuse to set side by side what was asked by different images, or about another column."""
    same = np.array_equal(ranking.queries, other.queries) and np.array_equal(
        ranking.labels, other.labels
    )
    if not same:
        raise ValueError(
            "The two rankings are not of the same queries; compare what the same images asked."
        )


def first_results(relevant: np.ndarray, k: int) -> np.ndarray:
    """Which of the first k results are relevant: bool [q, k]; ValueError if fewer were computed."""
    if not (isinstance(k, Integral) and 1 <= k <= relevant.shape[1]):
        raise ValueError(
            f"k must be between 1 and {relevant.shape[1]}, the number of ranks computed, not {k!r}."
        )
    return relevant[:, :k]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """One divided by the other; NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
