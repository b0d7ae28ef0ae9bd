"""Exact nearest neighbours in bounded memory: one matrix product, and a choice that is cheap among
many vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import tensorflow as tf

from lookalike.gallery_vectors import SMALLEST, Gallery, as_float32, vector_lengths

WORST = {"cosine": -np.inf, "euclidean": np.inf}
# Rows at a time, and numbers in them, at most.
QUERY_BLOCK = 256
GALLERY_BLOCK = 1 << 16
NUMBERS = 1 << 24
# Scores in a block; pairs that wait before they are scored exactly.
SCORES = 1 << 18
PAIRS = 1 << 18
WIDTH = 32  # gallery rows that share one maximum
MANY = 32  # queries from which on TensorFlow multiplies
ROUNDING = np.finfo(np.float32).eps
LARGEST = 1e37
MOST = np.finfo(np.float32).max
FILLED = 1 << 27  # places of an answer that may be filled up with -1


def top_k(
    queries: np.ndarray,
    gallery: np.ndarray | Gallery,
    k: int,
    *,
    metric: str = "cosine",
    exclude: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest gallery vectors of each query, exactly.

    Block by block, a matrix product in float32 and the largest score of each few rows tell which
    rows could be among the best, given how far rounding can have moved them; those alone are scored
    anew in float64. So nothing is lost to rounding, equal vectors have equal scores, and the
    distance of a vector to itself is 0. The memory that a search takes does not grow with the
    gallery, but for 8 bytes a vector (16 for distances) in the `Gallery`.

    Parameters
    ----------
    queries : array [q, dim], or [dim] for one
    gallery : array [n, dim], may be memory-mapped
        Or a `Gallery`, which saves measuring the vectors again at every search.
    metric
        "cosine" or "euclidean", as in `Gallery`.
    exclude
        For each query the numbers of the gallery rows that must not be returned, e.g. its own.

    Returns
    -------
    indices : int64 [q, k]
        Best first, ties by lower index; -1 where fewer than k rows are left.
    scores : float32 [q, k]
        -inf (cosine) or inf (euclidean) where the index is -1.

    Raises
    ------
    ValueError
        If shapes do not fit, the metric is unknown, a row holds NaN or infinity (it is named), or k
        is no whole number, below 1, or so far beyond the gallery that the answer would be mostly
        -1, by the gigabyte.
    """
    gallery = gallery if isinstance(gallery, Gallery) else Gallery(gallery, metric)
    if gallery.metric != metric:
        raise ValueError(f"The gallery was made for {gallery.metric}; make another for {metric}.")
    queries = np.atleast_2d(np.asarray(queries))
    if queries.ndim != 2 or queries.shape[1] != gallery.vectors.shape[1]:
        raise ValueError(
            f"Queries {list(queries.shape)} and gallery {list(gallery.vectors.shape)} must be [q, dim] and [n, dim]."
        )
    if exclude is not None and len(exclude) != len(queries):
        raise ValueError(
            f"exclude has {len(exclude)} entries for {len(queries)} queries; it needs one for each."
        )
    if any(
        np.size(rows) and np.asarray(rows).dtype.kind not in "iu"
        for rows in (() if exclude is None else exclude)
    ):
        raise ValueError(
            "exclude must hold the numbers of rows, not a mask or fractions; np.flatnonzero makes them."
        )
    k = checked_k(k, len(queries), len(gallery.vectors))
    there = slice(max(1, min(k, len(gallery.vectors))))
    indices = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), WORST[metric], np.float32)
    for start in range(0, len(queries), QUERY_BLOCK):
        rows = slice(start, start + QUERY_BLOCK)
        block = as_float32(queries[rows])
        lengths = vector_lengths(block, "query", start)
        left_out = [] if exclude is None else exclude[rows]
        _search(block, lengths, gallery, left_out, indices[rows, there], scores[rows, there])
    return indices, scores


def checked_k(k: int, n_queries: int = 1, n_rows: int = 0) -> int:
    """How many neighbours are wanted, as an int; refused as `top_k` says."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise ValueError(f"k must be a whole number, not {k!r}.")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}.")
    if k > n_rows and int(k) * n_queries > FILLED:
        raise ValueError(
            f"k = {k} for {n_queries} queries is an answer beyond what there is; ask for fewer."
        )
    return int(k)


class _Scorer:
    """Scores of gallery blocks for one block of queries in float32, with how far rounding can have
    moved them.

    With q' = (query - origin) * shrink, the closeness q'.g * scale + offset sorts the rows g as the
    metric does: it is the cosine, or (|q - origin|^2 - |q - g|^2) / 2 * shrink but for what all
    rows share.
    """

    def __init__(self, queries: np.ndarray, lengths: np.ndarray, gallery: Gallery):
        self.gallery = gallery
        self.cosine = gallery.metric == "cosine"
        self.terms = queries.shape[1] + 16  # additions, and some room for the other roundings
        unit = np.where(lengths > 0, lengths, 1)[:, None] if self.cosine else 1
        moved = queries / unit - gallery.origin
        apart = np.sqrt((moved.astype(np.float64) ** 2).sum(axis=1))
        longest = gallery.lengths.max(initial=0)  # such that no product overflows
        self.shrink = (
            1 / max(1, longest / 1e30) / (1 if self.cosine else max(apart.max(), SMALLEST))
        )
        # Numbers below SMALLEST may count as 0: TensorFlow makes them so.
        self.doubt = self.terms * (
            ROUNDING * apart * (1 if self.cosine else self.shrink) + SMALLEST
        )
        # Distances that float32 cannot tell apart are ties: of a far query, more than the product
        # can have mixed up. So are those that it cannot hold.
        ties = np.where(apart + 2 * longest > MOST, 1e300, ROUNDING * apart**2 * self.shrink)
        self.ties = 0 if self.cosine else ties
        self.queries = np.ascontiguousarray((moved * self.shrink).T, np.float32)

    def __call__(
        self, rows: slice, block: np.ndarray, values: np.ndarray, width: int
    ) -> np.ndarray:
        """Write the closeness of a block's rows into `values`; the margins [parts, q] of each
        `width` rows.
        """
        product = multiply(block, self.queries, values)
        weight = self.gallery.lengths[rows]
        slack = np.full(len(block), self.terms * SMALLEST)
        if self.cosine:
            scale = np.divide(
                1 / self.shrink, weight, out=np.zeros(len(block)), where=weight > 0
            ).clip(max=LARGEST)
            product = np.multiply(product, scale[:, None].astype(np.float32), out=values)
            weight, slack = np.ones(len(block)), slack * scale.clip(min=1)
        if self.gallery.offset is not None:
            offset = (self.gallery.offset[rows] * (1 if self.cosine else self.shrink)).clip(
                min=-LARGEST
            )
            np.add(product, offset[:, None].astype(np.float32), out=values)
            slack += 3 * ROUNDING * np.abs(offset)
        starts = np.arange(0, len(block), width)
        weight, slack = np.maximum.reduceat(weight, starts), np.maximum.reduceat(slack, starts)
        return np.outer(weight, self.doubt) + slack[:, None] + self.ties


def multiply(block: np.ndarray, queries: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The product [n, q]; of many queries by TensorFlow, on its GPU or by its own product, which is
    faster on CPUs.
    """
    if queries.shape[1] < MANY:
        return np.matmul(block, queries, out=out)
    config = tf.config.experimental
    usual = config.tensor_float_32_execution_enabled()  # newer GPUs would round to three digits
    config.enable_tensor_float_32_execution(False)
    try:
        return tf.linalg.matmul(block, queries).numpy()
    finally:
        config.enable_tensor_float_32_execution(usual)


def _search(queries, lengths, gallery: Gallery, exclude, indices, scores) -> None:
    """Find the best rows for one block of queries; written into `indices` and `scores`, views [q,
    k].

    The k best of a query lie in the parts of the gallery, `width` rows each, whose largest
    closeness is among the k largest of all parts, or so near that rounding may have brought it
    below them.
    """
    k = indices.shape[1]
    n_queries = len(queries)
    n_rows = len(gallery.lengths)
    scorer = _Scorer(queries, lengths, gallery)
    banned = np.concatenate(
        [np.asarray(rows, np.int64).ravel() for rows in exclude] or [np.empty(0, np.int64)]
    )
    order = np.argsort(banned, kind="stable")
    banned, who = (
        banned[order],
        np.repeat(np.arange(len(exclude)), [np.size(rows) for rows in exclude])[order],
    )
    width = int(np.clip(n_rows // (4 * k), 1, WIDTH))
    size = min(
        SCORES // n_queries, GALLERY_BLOCK, NUMBERS // max(queries.shape[1], 1), n_rows + width
    )
    n_parts = max(size // width, 1)
    buffer = np.empty((n_parts, width, n_queries), np.float32)
    best = np.full((k, n_queries), -np.inf)  # the largest lower bounds, of as many different rows
    found = []
    n_found = 0
    for rows, block in gallery.blocks(n_parts * width):
        parts = buffer[: -(-len(block) // width)]
        values = parts.reshape(-1, n_queries)
        values[len(block) :] = -np.inf
        margin = scorer(rows, block, values[: len(block)], width)
        inside = slice(*np.searchsorted(banned, [rows.start, rows.stop]))
        values[banned[inside] - rows.start, who[inside]] = -np.inf

        highest = parts.max(axis=1)
        rising = np.flatnonzero((highest - margin > best[0]).any(axis=0))
        lower = np.concatenate([best[:, rising], (highest - margin)[:, rising]])
        best[:, rising] = np.partition(lower, len(lower) - k, axis=0)[len(lower) - k :]
        part, query = np.nonzero((highest + margin >= best[0]) & (highest > -np.inf))
        margin = margin[part, query]
        near = parts[part, :, query]
        pair, place = np.nonzero((near >= (best[0, query] - margin)[:, None]) & (near > -np.inf))
        found.append(
            (query[pair], rows.start + part[pair] * width + place, near[pair, place] + margin[pair])
        )
        n_found += len(pair)
        if n_found > PAIRS:
            _settle(queries, gallery, found, best[0], indices, scores)
            found = []
            n_found = 0
    if found:
        _settle(queries, gallery, found, best[0], indices, scores)


def _settle(queries, gallery: Gallery, found: list[tuple], floor, indices, scores) -> None:
    """Score in float64 the pairs that may still be among the best, and keep the best k of each
    query.
    """
    query, row, upper = (np.concatenate(parts) for parts in zip(*found, strict=True))
    query, row = query[upper >= floor[query]], row[upper >= floor[query]]
    values = np.empty(len(query), np.float32)
    step = max(1, (1 << 17) // max(queries.shape[1], 1))
    for start in range(0, len(query), step):
        rows = slice(start, start + step)
        vectors = as_float32(gallery.vectors[row[rows]])
        values[rows] = exact_scores(queries[query[rows]], vectors, gallery.metric)
    gallery.release()
    # Sorted as the float32 numbers that the caller sees, so that what looks like a tie is ordered
    # as one.
    old_query, old_place = np.nonzero(indices >= 0)
    query = np.concatenate([old_query, query])
    row = np.concatenate([indices[old_query, old_place], row])
    values = np.concatenate([scores[old_query, old_place], values])
    order = np.lexsort((row, -values if gallery.metric == "cosine" else values, query))
    query, row, values = query[order], row[order], values[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    kept = place < indices.shape[1]
    indices[query[kept], place[kept]], scores[query[kept], place[kept]] = row[kept], values[kept]


def exact_scores(queries: np.ndarray, vectors: np.ndarray, metric: str) -> np.ndarray:
    """Scores in float64, pair by pair; each is summed in the same order, so that equal vectors
    score equally.
    """
    queries, vectors = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "euclidean":
        distances = np.sqrt(((vectors - queries) ** 2).sum(axis=1))
        return np.minimum(distances, MOST)  # infinite is what is not there
    lengths = np.sqrt((vectors**2).sum(axis=1) * (queries**2).sum(axis=1))
    return np.clip((vectors * queries).sum(axis=1) / np.where(lengths == 0, 1, lengths), -1, 1)
