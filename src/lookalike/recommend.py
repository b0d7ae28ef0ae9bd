"""Recommendations as a table: for a photo, a product, or a taste told by several; filtered, varied,
for all at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lookalike.embeddings import EmbeddingStore, check_encoder, embed_images
from lookalike.similarity import checked_k, normalise, top_k

if TYPE_CHECKING:
    # Not else: a web server that recommends by vectors has no Keras.
    import keras

Query = str | os.PathLike | np.ndarray
EXPONENT = 3  # of the similarities that weigh the results in query expansion
POOL = 10  # times k: how many candidates `diversity` chooses from


def recommend(
    store: EmbeddingStore,
    query: Query | Iterable[Query],
    k: int = 5,
    *,
    disliked: Query | Iterable[Query] = (),
    encoder: keras.Model | None = None,
    metric: str = "cosine",
    where: Mapping[str, object] | None = None,
    other_products: bool = False,
    diversity: float = 0.0,
    expand: int = 0,
    dislike_weight: float = 0.2,
) -> pd.DataFrame:
    """The k images of a store that look most like a query.

    Parameters
    ----------
    query
        An `image_id` of the store (never among its own results); or, with the `encoder` that the
        store was made with, the path of a photo or uint8 pixels [height, width, 3]; or a vector
        [dim]. Several of these in a list are liked things, and what is sought is their mean.
    disliked
        Things to keep away from. Under "cosine", where each vector counts by its direction alone,
        `dislike_weight` times their mean is taken off; under "euclidean" the mean of the liked is
        moved away from theirs by that part of the way between the two. Source: Rocchio, "Relevance
        Feedback in Information Retrieval", 1971; the weight is the 0.15 / 0.75 of Manning,
        Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 9.1.
    metric
        "cosine" or "euclidean".
    where
        Columns of the catalogue and the value that each must have, or a list of values: `{"label":
        ["hat", "bag"]}`.
    other_products
        Leave out the other views of the products asked with too.
    diversity
        From 0, the nearest, to 1: how much a result, chosen among the nearest 10 k, must also
        differ from those above it (maximal marginal relevance; Carbonell and Goldstein, SIGIR
        1998). Scores then need not fall.
    expand
        Search again with the mean of the query and so many of its first results, whatever `where`
        asks for; under "cosine" weighted by the cube of their similarity (alpha query expansion;
        Radenović, Tolias, Chum, TPAMI 2019).

    Returns
    -------
    DataFrame, best first: `rank` from 1, `score`, then the catalogue's columns. The score is to
    what was searched with: of several likes, or an expanded query, to their mean.

    Raises
    ------
    ValueError
        If the encoder is missing or is not the store's, a column or value of `where` is not in the
        catalogue, an option is out of range, nothing is liked, or `other_products` is asked for a
        query that is no product.
    FileNotFoundError
        If a text query is neither an `image_id` nor a file.
    """
    if not 0 <= diversity <= 1:
        raise ValueError(f"diversity must be between 0 and 1, not {diversity}.")
    if not isinstance(expand, Integral) or expand < 0:
        raise ValueError(f"expand must be a whole number, 0 or more, not {expand!r}.")
    if not np.isfinite(dislike_weight):
        raise ValueError(f"dislike_weight must be a number, not {dislike_weight}.")
    most = len(store.vectors)
    k, expand = min(checked_k(k), most), min(int(expand), most)
    liked, disliked = _listed(query), _listed(disliked)
    if not liked:
        raise ValueError("Nothing is liked: give at least one image_id, photo or vector as query.")
    rows, vectors = zip(
        *(_find(store, query, encoder) for query in [*liked, *disliked]), strict=True
    )
    if other_products and None in rows:
        raise ValueError("other_products=True needs queries that are image_ids of the store.")
    own = np.array([row for row in rows if row is not None], np.int64)
    if other_products:
        products = store.catalog["product_id"]
        own = np.flatnonzero(products.isin(products.iloc[own]))
    vector = _taste(np.stack(vectors), len(liked), metric, dislike_weight)
    if expand:
        indices, scores = top_k(
            vector, store.vectors, expand, metric=metric, exclude=[own], lengths=store.lengths
        )
        found = indices[0] >= 0
        weights = (
            np.clip(scores[0][found], 0, None) ** EXPONENT
            if metric == "cosine"
            else np.ones(found.sum())
        )
        near = _directions(np.asarray(store.vectors[indices[0][found]]), metric)
        vector = (_directions(vector[None], metric)[0] + weights @ near) / (1 + weights.sum())
    left_out = np.concatenate([own, np.flatnonzero(~_matching(store.catalog, where or {}))])
    wanted = min(POOL * k, most) if diversity else k
    indices, scores = top_k(
        vector, store.vectors, wanted, metric=metric, exclude=[left_out], lengths=store.lengths
    )
    indices, scores = indices[0][indices[0] >= 0], scores[0][indices[0] >= 0]
    if diversity:
        chosen = _varied(np.asarray(store.vectors[indices]), scores, k, metric, diversity)
        indices, scores = indices[chosen], scores[chosen]
    # A shop may have columns of that name.
    own_names = {name: f"catalog_{name}" for name in ("rank", "score")}
    table = store.catalog.iloc[indices].rename(columns=own_names).reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table.insert(1, "score", scores)
    return table


def recommend_all(store: EmbeddingStore, k: int = 5, *, metric: str = "cosine") -> pd.DataFrame:
    """Recommendations for every image of a store, among other products only, as one long table for
    a shop to load.

    Returns
    -------
    DataFrame with `image_id`, `rank` from 1, `score`, `recommended_image_id`,
    `recommended_product_id`; in the store's order, best first.

    Raises
    ------
    ValueError
        If k is no whole number, or below 1, or the metric is unknown.
    """
    catalog = store.catalog
    same_product = catalog.groupby("product_id").indices
    exclude = [same_product[product] for product in catalog["product_id"]]
    k = min(checked_k(k), len(store.vectors))
    indices, scores = top_k(
        store.vectors, store.vectors, k, metric=metric, exclude=exclude, lengths=store.lengths
    )
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


def _listed(queries: Query | Iterable[Query]) -> list[Query]:
    """One query or several, which may also be an array of vectors or of names, as a list."""
    if isinstance(queries, np.ndarray):
        single = queries.dtype.kind not in "OTU" and (
            queries.dtype.kind != "f" or queries.ndim != 2
        )
    else:
        single = isinstance(queries, (str, os.PathLike))
    return [queries] if single else list(queries)


def _find(
    store: EmbeddingStore, query: Query, encoder: keras.Model | None
) -> tuple[int | None, np.ndarray]:
    """The row of a query that is in the store, else None, and its vector."""
    if isinstance(query, str):
        rows = np.flatnonzero(store.catalog["image_id"] == query)
        if len(rows):
            return int(rows[0]), store.vectors[rows[0]]
    if isinstance(query, np.ndarray) and query.ndim == 1:
        if query.shape[0] != store.vectors.shape[1]:
            raise ValueError(
                f"The query vector has {query.shape[0]} dimensions, the vectors of "
                f"{store.manifest['encoder']} in "
                f"{store.folder} have {store.vectors.shape[1]}; make it with the same encoder."
            )
        return None, query
    if not isinstance(query, (str, os.PathLike, np.ndarray)):
        raise ValueError(f"A query is an image_id, a path, pixels or a vector, not {query!r}.")
    if isinstance(query, (str, os.PathLike)) and not os.path.exists(query):
        raise FileNotFoundError(
            f"{str(query)!r} is neither an image_id in {store.folder} nor a file."
        )
    if encoder is None:
        raise ValueError(
            "A photo as query needs encoder=, the one the store was made with: "
            f"{store.manifest['encoder']}."
        )
    check_encoder(store, encoder)
    return None, embed_images(encoder, [query], fit=store.manifest["fit"])[0]


def _directions(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Vectors of length 1 where only directions count, a zero vector as it is; else unchanged."""
    return normalise(vectors) if metric == "cosine" else vectors.astype(np.float64)


def _taste(vectors: np.ndarray, n_liked: int, metric: str, dislike_weight: float) -> np.ndarray:
    """One vector for all that is liked and disliked; a single liked thing is its own."""
    if len(vectors) == 1:
        return vectors[0]
    vectors = _directions(vectors, metric)
    liked = vectors[:n_liked].mean(axis=0)
    disliked = vectors[n_liked:]
    if not len(disliked):
        return liked
    away = disliked.mean(axis=0) if metric == "cosine" else disliked.mean(axis=0) - liked
    return liked - dislike_weight * away


def _matching(catalog: pd.DataFrame, where: Mapping[str, object]) -> np.ndarray:
    """Which rows have the wanted values: bool [n]."""
    matching = np.ones(len(catalog), bool)
    for column, wanted in where.items():
        if column not in catalog:
            raise ValueError(
                f"The catalogue has no column {column!r}; it has {', '.join(catalog)}."
            )
        values = (
            [wanted]
            if isinstance(wanted, str) or not isinstance(wanted, Iterable)
            else list(wanted)
        )
        found = [(catalog[column] == value).fillna(False).to_numpy(bool) for value in values]
        unknown = [value for value, rows in zip(values, found, strict=True) if not rows.any()]
        if unknown:
            known = catalog[column].dropna().unique().tolist()
            values = ", ".join(map(repr, known[:12])) + (
                f" and {len(known) - 12} more" if known[12:] else ""
            )
            raise ValueError(
                f"No image has {unknown[0]!r} as {column}; "
                f"there are {values or 'none with a value'}."
            )
        matching &= np.any(found, axis=0)
    return matching


def _varied(
    vectors: np.ndarray, scores: np.ndarray, k: int, metric: str, diversity: float
) -> list[int]:
    """Choose k candidates one after another, each near the query and unlike those chosen before."""
    relevance = scores if metric == "cosine" else -scores
    vectors, likeness = _directions(vectors, metric), np.full(len(scores), -np.inf)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        value = (1 - diversity) * relevance - (diversity * likeness if chosen else 0)
        value[chosen] = -np.inf
        best = int(np.argmax(value))
        chosen.append(best)
        to_best = (
            vectors @ vectors[best]
            if metric == "cosine"
            else -np.linalg.norm(vectors - vectors[best], axis=1)
        )
        likeness = np.maximum(likeness, to_best)
    return chosen
