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
FLOAT32_ROUNDING = float(np.finfo(np.float32).eps)
WORST = {"cosine": -np.inf, "euclidean": np.inf}


def top_k(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    metric: str = "cosine",
    exclude: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest gallery vectors of each query, exactly.

    Block by block, a matrix product in float32 tells which rows could be among the best, given how far rounding can
    have moved them; those alone are scored anew in float64. So nothing is lost to rounding, equal vectors have equal
    scores, and the distance of a vector to itself is 0.

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
    scores = np.full((len(queries), k), WORST[metric], np.float32)
    for start in range(0, len(queries), QUERY_BLOCK):
        rows = slice(start, start + QUERY_BLOCK)
        left_out = None if exclude is None else exclude[rows]
        _search(_finite(queries[rows], "query", start), gallery, metric, left_out, indices[rows], scores[rows])
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


def _search(queries, gallery, metric: str, exclude, indices, scores) -> None:
    """Find the best rows for one block of queries; written into `indices` and `scores`, views [q, k]."""
    sign = -1 if metric == "cosine" else 1  # similarities are sorted downwards, distances upwards
    # Differences do not change when both sides move; near the origin they lose no digits to the length of the vectors.
    origin = np.zeros(queries.shape[1], np.float32)
    if metric == "euclidean" and len(gallery):
        origin = gallery[:GALLERY_BLOCK].mean(axis=0, dtype=np.float64).astype(np.float32)
    for start in range(0, len(gallery), GALLERY_BLOCK):
        block = _finite(gallery[start : start + GALLERY_BLOCK], "gallery", start)
        excluded = [] if exclude is None else [np.asarray(rows, np.int64) - start for rows in exclude]
        mask = _could_be_best(queries - origin, block - origin, metric, excluded, scores)
        for row in np.flatnonzero(mask.any(axis=1)):
            found = np.flatnonzero(mask[row])
            # Sorted as the float32 numbers that the caller sees, so that what looks like a tie is ordered as one.
            exact = np.append(scores[row], _exact(queries[row], block[found], metric).astype(np.float32))
            order = np.argsort(sign * exact, kind="stable")[: len(scores[row])]
            indices[row], scores[row] = np.append(indices[row], found + start)[order], exact[order]


def _could_be_best(queries, block, metric: str, excluded, scores) -> np.ndarray:
    """Which rows of a block of the gallery rounding leaves a chance to be among the best k: bool [q, n]."""
    q_lengths, b_lengths = _lengths(queries), _lengths(block)
    scale = 1.0 if metric == "cosine" else max(q_lengths.max(), b_lengths.max(), 1e-300)  # so that no square overflows
    if metric == "cosine":
        q_scale, b_scale = np.where(q_lengths == 0, 1, q_lengths), np.where(b_lengths == 0, 1, b_lengths)
        closeness = _divided(queries, q_scale) @ _divided(block, b_scale).T
        known = scores[:, -1].astype(np.float64)
        margin = np.ones((1, 1), np.float32)
    else:  # |q - g|^2 = |q|^2 - 2 (q.g - |g|^2 / 2): the larger the bracket, the nearer
        q_lengths, b_lengths = q_lengths / scale, b_lengths / scale
        closeness = _divided(queries, scale) @ _divided(block, scale).T
        closeness -= (b_lengths**2 / 2).astype(np.float32)
        known = (q_lengths**2 - (scores[:, -1].astype(np.float64) / scale) ** 2) / 2
        margin = ((q_lengths[:, None] + b_lengths) ** 2).astype(np.float32)
    margin = margin * np.float32((queries.shape[1] + 16) * FLOAT32_ROUNDING) + np.float32(1e-30)
    for row, rows in enumerate(excluded):
        closeness[row, rows[(rows >= 0) & (rows < len(block))]] = -np.inf
    floor, k = known, scores.shape[1]
    if closeness.shape[1] >= k:
        floor = np.maximum(known, np.partition(closeness - margin, -k, axis=1)[:, -k])
    closeness += margin
    return (closeness >= floor[:, None].astype(np.float32)) & (closeness > -np.inf)


def _lengths(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))


def _divided(rows: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    return (rows / np.reshape(by, (-1, 1))).astype(np.float32)


def _exact(query: np.ndarray, vectors: np.ndarray, metric: str) -> np.ndarray:
    """Scores in float64; each row is summed in the same order, so that equal rows score equally."""
    query, vectors = query.astype(np.float64), vectors.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(((vectors - query) ** 2).sum(axis=1))
    lengths = np.sqrt((vectors**2).sum(axis=1) * (query**2).sum())
    return np.clip((vectors * query).sum(axis=1) / np.where(lengths == 0, 1, lengths), -1, 1)


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
    own_names = {name: f"catalog_{name}" for name in ("rank", "score")}  # a shop may have columns of that name
    table = store.catalog.iloc[indices[0][found]].rename(columns=own_names).reset_index(drop=True)
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
