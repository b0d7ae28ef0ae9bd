"""Exact nearest neighbours in bounded memory: a matrix product, and the best scored once more."""

from numbers import Integral

import numpy as np

METRICS = ("cosine", "euclidean")
WORST = {"cosine": -np.inf, "product": -np.inf, "euclidean": np.inf}
QUERIES = 256  # at a time
ROWS = 1 << 13  # of the gallery at a time
SPARE = 16  # more than k that are scored again, as float32 may have swapped the last


def normalise(vectors):
    """Vectors [n, dim] at length 1, so that their matrix product is their cosine; 0 stays 0."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / _not_zero(vector_lengths(vectors))[:, None]


def top_k(queries, gallery, k, exclude=None, *, metric="cosine", lengths=None):
    """The k nearest gallery vectors of each query, by comparing with all of them.

    Block by block, a matrix product in float32 finds the k best and a few more; those are scored
    again in float64, so that equal vectors tie.

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
    if np.shape(gallery)[1:] != queries.shape[1:]:
        raise ValueError(
            f"Queries {[*queries.shape]} and gallery {[*np.shape(gallery)]} "
            "must be [q, dim] and [n, dim]."
        )
    k = checked_k(k)
    count = len(queries)
    exclude = _excluded(exclude, count)
    vector_lengths(queries, "query")
    indices = np.full((count, k + SPARE), -1)
    scores = np.full(indices.shape, -np.inf, np.float32)
    for first in range(0, len(gallery), ROWS):
        block = np.asarray(gallery[first : first + ROWS], np.float32)
        if lengths is None:
            block_lengths = vector_lengths(block, "gallery", first)
        else:
            block_lengths = lengths[first : first + ROWS]
        for start in range(0, count, QUERIES):
            some = queries[start : start + QUERIES]
            close = _closeness(some, block, block_lengths, metric)
            for query, row in enumerate(close, start):
                hidden = exclude[query] - first
                here = (hidden >= 0) & (hidden < len(row))
                row[hidden[here]] = -np.inf
                _keep_best(row, first, indices[query], scores[query])
    for query, found in enumerate(indices):
        there = found >= 0
        scores[query, there] = exact_scores(queries[query], gallery[found[there]], metric)
    scores[indices < 0] = WORST[metric]
    ranks = scores if metric == "euclidean" else -scores
    order = np.lexsort((indices, ranks))[:, :k]
    indices = np.take_along_axis(indices, order, 1)
    scores = np.take_along_axis(scores, order, 1)
    return indices, scores


def taste(liked, disliked=(), weight=0.2):
    """One vector [dim] for several that are liked [n, dim] and disliked [m, dim]: the mean of the
    first, less `weight` times that of the others.

    Source: Rocchio, "Relevance Feedback in Information Retrieval", 1971; the weight is the 0.15 /
    0.75 of Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 9.1.
    """
    point = np.mean(liked, axis=0)
    return point - weight * np.mean(disliked, axis=0) if len(disliked) else point


def diversify(relevance, likeness, k, diversity):
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


def _excluded(exclude, count):
    """For each query the rows that it must not find."""
    if exclude is None:
        exclude = [[]] * count
    exclude = [np.asarray(rows) for rows in exclude]
    if len(exclude) != count or any(rows.dtype == bool for rows in exclude):
        raise ValueError(
            f"exclude must hold {count} lists, one a query, of the numbers of rows, no masks; "
            "np.flatnonzero makes them."
        )
    return [rows.astype(int) for rows in exclude]


def _closeness(queries, block, lengths, metric):
    """What sorts the rows as the metric does, highest first: float32 [queries, rows]."""
    close = queries @ block.T
    if metric == "cosine":
        close /= _not_zero(lengths)
    elif metric == "euclidean":
        # Half the squared distance, turned round, but for the query's own part.
        close -= np.einsum("ij,ij->i", block, block) / 2
    return close


def _not_zero(lengths):
    return np.where(lengths > 0, lengths, 1)


def _keep_best(close, first, indices, best):
    """Write into `indices` and `best` [k] what a block has that is closer than what is there."""
    k = len(best)
    found = np.flatnonzero(close > best[-1])
    if len(found) > 4 * k:
        # In the first block, all are closer than nothing.
        found = np.flatnonzero(close >= np.partition(close, -k)[-k])
    rows = np.append(indices, first + found)
    values = np.append(best, close[found])
    order = np.argsort(-values, kind="stable")[:k]
    indices[:] = rows[order]
    best[:] = values[order]


def exact_scores(queries, vectors, metric):
    """Scores in float64 of vectors [n, dim], each with one query [dim] or its own [n, dim]."""
    queries, vectors = np.float64(queries), np.float64(vectors)
    if metric == "euclidean":
        return np.linalg.norm(vectors - queries, axis=1)
    scores = (vectors * queries).sum(axis=1)
    if metric == "cosine":
        lengths = np.linalg.norm(vectors, axis=1)
        lengths *= np.linalg.norm(queries, axis=-1)
        scores /= _not_zero(lengths)
    return np.clip(scores, -1, 1)


def vector_lengths(rows, name="given", first=0):
    """Euclidean lengths [n] in float32; a `ValueError` names the row that has none."""
    rows = np.asarray(rows, np.float32)
    # Faster than np.linalg.norm, and without a copy.
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    bad = np.flatnonzero(~np.isfinite(lengths))
    if len(bad):
        raise ValueError(
            f"The {name} vector in row {first + bad[0]} holds NaN, infinity, or numbers that are "
            "too large; compute it again."
        )
    return lengths


def checked_k(k):
    """How many neighbours are wanted, as an int; a `ValueError` if it is no number from 1."""
    if not isinstance(k, Integral) or k < 1:
        raise ValueError(f"k must be a whole number, at least 1, not {k!r}.")
    return int(k)
