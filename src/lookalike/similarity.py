"""Exact nearest neighbours in bounded memory: a matrix product, and the few best scored again."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np

METRICS = ("cosine", "euclidean")
WORST = {"cosine": -np.inf, "product": -np.inf, "euclidean": np.inf}
QUERIES = 256  # at a time
ROWS = 1 << 13  # of the gallery at a time
NUMBERS = 1 << 22  # in them, at most
PAIRS = 1 << 20  # numbers that are scored again at a time
LONGEST = 1e15  # float32 holds the square of such a length, and of its inverse


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, dim] at length 1, so that their matrix product is their cosine; 0 stays 0."""
    vectors = np.asarray(vectors, np.float32)
    return np.float32(vectors / _not_zero(vector_lengths(vectors))[:, None])


def top_k(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    exclude: Sequence[np.ndarray] | None = None,
    *,
    metric: str = "cosine",
    lengths: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest gallery vectors of each query, exactly.

    Block by block, a matrix product in float32 tells which rows can be among the best, whatever was
    lost to rounding; those few are scored again in float64, so that equal vectors tie.

    Parameters
    ----------
    queries : array [q, dim], or [dim] for one
    gallery : array [n, dim], may be memory-mapped
    exclude
        For each query the numbers of the gallery rows that must not be returned, e.g. its own.
    metric
        "cosine": similarity in [-1, 1], 0 where a vector is zero; "euclidean": distance >= 0;
        "product": the sum of products in [-1, 1], for vectors that `join` has made.
    lengths : array [n]
        `vector_lengths(gallery)`, so that they are not measured at every search.

    Returns
    -------
    indices : int64 [q, k]
        Best first, ties by lower index; -1 where fewer than k rows are left.
    scores : float32 [q, k]
        -inf (cosine) or inf (euclidean) where the index is -1.

    Raises
    ------
    ValueError
        If shapes do not fit, an option is none, or a row holds NaN or infinity (it is named).
    """
    if metric not in WORST:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}.")
    queries = np.atleast_2d(np.asarray(queries, np.float32))
    if queries.ndim != 2 or np.shape(gallery)[1:] != queries.shape[1:]:
        raise ValueError(
            f"Queries {[*queries.shape]} and gallery {[*np.shape(gallery)]} "
            "must be [q, dim] and [n, dim]."
        )
    k = checked_k(k)
    count, dim = queries.shape
    exclude = _checked_exclude(exclude, count)
    asking = vector_lengths(queries, "query")
    indices = np.full((count, k), -1)
    scores = np.full((count, k), WORST[metric], np.float32)
    step = max(1, min(ROWS, NUMBERS // max(1, dim)))
    for first in range(0, len(gallery), step):
        block = np.asarray(gallery[first : first + step], np.float32)
        if lengths is None:
            block_lengths = vector_lengths(block, "gallery", first)
        else:
            block_lengths = lengths[first : first + step]
        for start in range(0, count, QUERIES):
            some = slice(start, start + QUERIES)
            close, margin = _closeness(queries[some], asking[some], block, block_lengths, metric)
            for place, rows in enumerate(exclude[some]):
                close[place, rows[(rows >= first) & (rows < first + len(block))] - first] = -np.inf
            floor = scores[some, -1].astype(np.float64)
            if metric == "euclidean":
                floor = (asking[some] ** 2 - floor**2) / 2
            query, row = _candidates(close, floor - margin, margin, k)
            pairs = max(1, PAIRS // max(1, dim))
            for at in range(0, len(query), pairs):
                who = query[at : at + pairs]
                found = row[at : at + pairs]
                values = exact_scores(queries[some][who], block[found], metric)
                _keep_best(who, first + found, values, metric, indices[some], scores[some])
    return indices, scores


def taste(liked: np.ndarray, disliked: np.ndarray = (), weight: float = 0.2) -> np.ndarray:
    """One vector [dim] for several that are liked [n, dim] and disliked [m, dim]: the mean of the
    first, less `weight` times that of the others.

    Source: Rocchio, "Relevance Feedback in Information Retrieval", 1971; the weight is the 0.15 /
    0.75 of Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 9.1.
    """
    point = np.mean(liked, axis=0)
    return point - weight * np.mean(disliked, axis=0) if len(disliked) else point


def diversify(relevance: np.ndarray, likeness: np.ndarray, k: int, diversity: float) -> list[int]:
    """Choose k candidates one after another, each near the query and unlike those before it.

    Source: maximal marginal relevance; Carbonell and Goldstein, SIGIR 1998.

    Parameters
    ----------
    relevance : array [n], of each candidate to the query
    likeness : array [n, n], among the candidates, on the same scale
    diversity : from 0, the most relevant, to 1
    """
    chosen = []
    while len(chosen) < min(k, len(relevance)):
        to_chosen = likeness[:, chosen].max(axis=1) if chosen else 0
        value = (1 - diversity) * relevance - diversity * to_chosen
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
    return chosen


def _checked_exclude(exclude, count):
    """For each query the rows that it must not find."""
    exclude = [np.ravel(rows) for rows in ([()] * count if exclude is None else exclude)]
    if len(exclude) != count:
        raise ValueError(
            f"exclude has {len(exclude)} entries for {count} queries; it needs one for each."
        )
    if any(len(rows) and rows.dtype.kind not in "iu" for rows in exclude):
        raise ValueError("exclude must hold numbers of rows, no mask; np.flatnonzero makes them.")
    return [rows.astype(np.int64) for rows in exclude]


def _closeness(queries, asking, block, lengths, metric):
    """What sorts rows as the metric does, [q, rows], and how far rounding can move it, [q]."""
    rounding = (block.shape[1] + 16) * np.finfo(np.float32).eps
    if metric == "cosine":
        close = np.float32(queries / _not_zero(asking)[:, None]) @ block.T
        close /= np.float32(_not_zero(lengths))
        return close, np.full(len(queries), rounding)
    if metric == "product":
        return queries @ block.T, rounding * asking * lengths.max()
    # Half the squared distance, turned round, but for the query's own part, the same for all rows.
    close = queries @ block.T
    close -= np.float32(lengths**2 / 2)
    # The least float32 is added, for lengths whose squares are even less.
    return close, rounding * (asking + lengths.max()) ** 2 + np.finfo(np.float32).tiny


def _not_zero(lengths):
    return np.where(lengths > 0, lengths, 1)


def _candidates(close, floor, margin, k):
    """Query and row of all that can be among the k best: not below `floor`, nor below the k-th of
    the block by more than `margin`.
    """
    near = close >= np.float32(np.maximum(floor, np.finfo(np.float32).min))[:, None]
    found = np.flatnonzero(near)
    counts = np.bincount(found // close.shape[1], minlength=len(close))
    crowded = np.flatnonzero(counts > 4 * k)
    if len(crowded):
        best = np.partition(close[crowded], -k, axis=1)[:, -k]
        near[crowded] &= close[crowded] >= np.float32(best - margin[crowded])[:, None]
        found = np.flatnonzero(near)
    return np.divmod(found, close.shape[1])


def _keep_best(query, row, values, metric, indices, scores):
    """Write into `indices` and `scores` what is best of what is there and of what was found."""
    old, place = np.nonzero(indices >= 0)
    query = np.concatenate([old, query])
    row = np.concatenate([indices[old, place], row])
    # As float32, which the caller sees: what looks like a tie is ordered as one.
    values = np.concatenate([scores[old, place], np.float32(values)])
    order = np.lexsort((row, values if metric == "euclidean" else -values, query))
    place = np.arange(len(order)) - np.searchsorted(query[order], query[order])
    kept = place < indices.shape[1]
    order = order[kept]
    place = place[kept]
    indices[query[order], place] = row[order]
    scores[query[order], place] = values[order]


def exact_scores(queries: np.ndarray, vectors: np.ndarray, metric: str) -> np.ndarray:
    """Scores in float64 of pairs of rows, each summed in the same order, so that equals tie."""
    queries, vectors = np.float64(queries), np.float64(vectors)
    if metric == "euclidean":
        return np.linalg.norm(queries - vectors, axis=1)
    scores = (queries * vectors).sum(axis=1)
    if metric == "cosine":
        lengths = np.linalg.norm(queries, axis=1) * np.linalg.norm(vectors, axis=1)
        scores /= _not_zero(lengths)
    return np.clip(scores, -1, 1)


def vector_lengths(rows: np.ndarray, name: str = "given", first: int = 0) -> np.ndarray:
    """Euclidean lengths [n] in float64; a `ValueError` names the row that has none."""
    rows = np.asarray(rows, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows), dtype=np.float64)
    # Others have squares beyond float32.
    usual = lengths > 1 / LONGEST
    lengths[~usual] = np.linalg.norm(np.float64(rows[~usual]), axis=1)
    bad = np.flatnonzero(~(lengths < LONGEST))
    if len(bad):
        raise ValueError(
            f"The {name} vector in row {first + bad[0]} holds NaN, infinity, or numbers beyond "
            f"{LONGEST:.0e}; compute it again."
        )
    return lengths


def checked_k(k: int) -> int:
    """How many neighbours are wanted, as an int; a `ValueError` if it is no number from 1."""
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be a whole number, at least 1, not {k!r}.")
    return int(k)
