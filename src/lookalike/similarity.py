"""Exact nearest neighbours in bounded memory, and recommendations as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd

from lookalike.embeddings import EmbeddingStore, check_encoder, embed_images

METRICS = ("cosine", "euclidean")
QUERY_BLOCK, GALLERY_BLOCK = 256, 16_384  # 256 x 16,384 float32 scores take 16 MB
SPARE = 16  # candidates kept beyond k, so that rounding in the first pass costs no neighbour


def top_k(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    metric: str = "cosine",
    exclude: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest gallery vectors of each query, exactly.

    A first pass over blocks of the gallery keeps k + 16 candidates a query by matrix product in float32; a second
    scores those anew in float64, so that equal vectors have equal scores and a vector's distance to itself is 0.

    Parameters
    ----------
    queries : array [q, dim], or [dim] for one
    gallery : array [n, dim], may be memory-mapped
    metric
        "cosine": similarity in [-1, 1], 0 where a vector is zero; "euclidean": distance >= 0.
    exclude
        For each query the gallery rows that must not be returned, e.g. itself.

    Returns
    -------
    indices : int64 [q, k]
        Best first, ties by lower index; -1 where fewer than k rows are left.
    scores : float32 [q, k]
        -inf (cosine) or inf (euclidean) where the index is -1.

    Raises
    ------
    ValueError
        If shapes do not fit, k < 1, the metric is unknown, or a row holds NaN or infinity (it is named).
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}.")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}.")
    queries = np.atleast_2d(np.asarray(queries))
    gallery = np.asarray(gallery)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"Queries {list(queries.shape)} and gallery {list(gallery.shape)} must be [q, dim] and [n, dim]."
        )
    if exclude is not None and len(exclude) != len(queries):
        raise ValueError(f"exclude has {len(exclude)} entries for {len(queries)} queries; it needs one for each.")
    indices = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf if metric == "cosine" else np.inf, np.float32)
    for start in range(0, len(queries), QUERY_BLOCK):
        rows = slice(start, min(start + QUERY_BLOCK, len(queries)))
        left_out = None if exclude is None else exclude[rows]
        block = _finite(queries[rows], "query", start)
        candidates = _candidates(block, gallery, k + SPARE, metric, left_out)
        _best_of(block, gallery, candidates, metric, indices[rows], scores[rows])
    return indices, scores


def _finite(rows: np.ndarray, name: str, offset: int) -> np.ndarray:
    """The rows as contiguous float32; refused if one is not finite, also after that conversion."""
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(rows, np.float32)
    # A sum is finite only if all its terms are, or if large finite terms overflow: only then look closer.
    suspects = np.flatnonzero(~np.isfinite(np.einsum("ij->i", rows)))
    bad = [row for row in suspects if not np.isfinite(rows[row]).all()]
    if bad:
        raise ValueError(f"The {name} vector in row {offset + bad[0]} holds NaN or infinity; compute it again.")
    return rows


def _lengths(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length one; a zero row stays zero, so that its cosine is 0."""
    lengths = _lengths(rows)
    return (rows / np.where(lengths == 0, 1, lengths)[:, None]).astype(np.float32)


def _candidates(queries, gallery, count: int, metric: str, exclude) -> np.ndarray:
    """First pass: about the `count` best rows of the gallery for each query, -1 where there are fewer; [q, count]."""
    best = np.full((len(queries), 0), -1, np.int64)
    best_closeness = np.empty((len(queries), 0), np.float32)
    if len(gallery) == 0:
        return best
    # Differences do not change when both sides move; near the origin they lose no digits to the length of the vectors.
    origin = np.zeros(queries.shape[1], np.float32) if metric == "cosine" else gallery[:GALLERY_BLOCK].mean(axis=0)
    left = _unit(queries) if metric == "cosine" else queries - origin
    for start in range(0, len(gallery), GALLERY_BLOCK):
        block = _finite(gallery[start : start + GALLERY_BLOCK], "gallery", start)
        block = _unit(block) if metric == "cosine" else block - origin
        closeness = left @ block.T
        if metric == "euclidean":  # |q - g|^2 = |q|^2 - 2 (q.g - |g|^2 / 2), and |q|^2 orders nothing
            closeness -= (_lengths(block) ** 2 / 2).astype(np.float32)
        for row, left_out in enumerate(exclude if exclude is not None else ()):
            inside = np.asarray(left_out, np.int64) - start
            closeness[row, inside[(inside >= 0) & (inside < len(block))]] = -np.inf
        found = _largest(closeness, count)
        best = np.concatenate([best, found + start], axis=1)
        best_closeness = np.concatenate([best_closeness, np.take_along_axis(closeness, found, axis=1)], axis=1)
        kept = _largest(best_closeness, count)  # columns ascend with gallery rows, so "furthest left" is "lower index"
        best, best_closeness = np.take_along_axis(best, kept, axis=1), np.take_along_axis(best_closeness, kept, axis=1)
    return np.where(best_closeness == -np.inf, -1, best)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Column numbers, ascending, of the `count` largest values of each row; of near-equal ones those furthest left.

    Equal vectors can differ in the last bit of a matrix product, so values within rounding of the last count as tied.
    """
    if values.shape[1] <= count:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    columns = np.argpartition(values, values.shape[1] - count, axis=1)[:, -count:]
    last = np.take_along_axis(values, columns, axis=1).min(axis=1, keepdims=True)
    rounding = 1e-6 * np.abs(values, where=np.isfinite(values), out=np.zeros_like(values)).max(axis=1, keepdims=True)
    for row in np.flatnonzero((values >= last - rounding).sum(axis=1) > count):
        above = np.flatnonzero(values[row] > last[row] + rounding[row])
        tied = np.flatnonzero((values[row] >= last[row] - rounding[row]) & (values[row] <= last[row] + rounding[row]))
        columns[row] = np.concatenate([above, tied])[:count]
    return np.sort(columns, axis=1)


def _best_of(queries, gallery, candidates, metric: str, indices, scores) -> None:
    """Second pass: score the candidates exactly, and write the best into `indices` and `scores` (views [q, k])."""
    for row, query in enumerate(queries.astype(np.float64)):
        chosen = np.sort(candidates[row][candidates[row] >= 0])
        vectors = gallery[chosen].astype(np.float64)
        if metric == "cosine":
            lengths = np.sqrt((vectors**2).sum(axis=1) * (query**2).sum())
            exact = np.clip((vectors * query).sum(axis=1) / np.where(lengths == 0, 1, lengths), -1, 1)
        else:
            exact = np.sqrt(((vectors - query) ** 2).sum(axis=1))
        # Sorted as the float32 numbers that the caller sees, so that what looks like a tie is ordered as one.
        exact = exact.astype(np.float32)
        order = np.argsort(-exact if metric == "cosine" else exact, kind="stable")[: indices.shape[1]]
        indices[row, : len(order)], scores[row, : len(order)] = chosen[order], exact[order]


def recommend(
    store: EmbeddingStore,
    query: str | os.PathLike | np.ndarray,
    k: int = 5,
    *,
    encoder: keras.Model | None = None,
    metric: str = "cosine",
    other_products: bool = False,
) -> pd.DataFrame:
    """The k images of a store that look most like a query.

    Parameters
    ----------
    query
        An `image_id` of the store (never among its own results); or, with the `encoder` that the store was made with,
        the path of a photo or uint8 pixels [height, width, 3]; or a vector [dim].
    metric
        "cosine" or "euclidean".
    other_products
        Leave out the other views of the query's product too.

    Returns
    -------
    DataFrame, best first: `rank` from 1, `score`, then the catalogue's columns.

    Raises
    ------
    ValueError
        If the encoder is missing or is not the store's, or `other_products` is asked for a query that is no product.
    FileNotFoundError
        If a text query is neither an `image_id` nor a file.
    """
    ids = store.catalog["image_id"]
    row = int(np.flatnonzero(ids == query)[0]) if isinstance(query, str) and (ids == query).any() else None
    if row is not None:
        products = store.catalog["product_id"]
        exclude = np.flatnonzero(products == products[row]) if other_products else np.array([row])
        vector = store.vectors[row]
    elif other_products:
        raise ValueError("other_products=True needs a query that is an image_id of the store.")
    else:
        exclude, vector = np.array([], np.int64), _query_vector(store, query, encoder)
    indices, scores = top_k(vector, store.vectors, k, metric=metric, exclude=[exclude])
    found = indices[0] >= 0
    table = store.catalog.iloc[indices[0][found]].reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table.insert(1, "score", scores[0][found])
    return table


def recommend_all(store: EmbeddingStore, k: int = 5, *, metric: str = "cosine") -> pd.DataFrame:
    """Recommendations for every image of a store, among other products only, as one long table for a shop to load.

    Returns
    -------
    DataFrame with `image_id`, `rank` from 1, `score`, `recommended_image_id`, `recommended_product_id`; in the store's
    order, best first.
    """
    catalog = store.catalog
    same_product = catalog.groupby("product_id").indices
    exclude = [same_product[product] for product in catalog["product_id"]]
    indices, scores = top_k(store.vectors, store.vectors, k, metric=metric, exclude=exclude)
    query, place = np.nonzero(indices >= 0)
    found = catalog.iloc[indices[query, place]]
    columns = {
        "image_id": catalog["image_id"].to_numpy()[query],
        "rank": place + 1,
        "score": scores[query, place],
        "recommended_image_id": found["image_id"].to_numpy(),
        "recommended_product_id": found["product_id"].to_numpy(),
    }
    return pd.DataFrame(columns)


def _query_vector(
    store: EmbeddingStore, query: str | os.PathLike | np.ndarray, encoder: keras.Model | None
) -> np.ndarray:
    if isinstance(query, np.ndarray) and query.ndim == 1:
        if query.shape[0] != store.vectors.shape[1]:
            raise ValueError(
                f"The query vector has {query.shape[0]} dimensions, the vectors of {store.manifest['encoder']} in "
                f"{store.folder} have {store.vectors.shape[1]}; make it with the same encoder."
            )
        return query
    if isinstance(query, (str, os.PathLike)) and not os.path.exists(query):
        raise FileNotFoundError(f"{str(query)!r} is neither an image_id in {store.folder} nor a file.")
    if encoder is None:
        raise ValueError(
            f"A photo as query needs encoder=, the one the store was made with: {store.manifest['encoder']}."
        )
    check_encoder(store, encoder)
    return embed_images(encoder, [query], fit=store.manifest["fit"])[0]
