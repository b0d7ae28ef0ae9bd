"""Recommendations as a table: for a photo, a product, or a taste told by several; by what a network
sees and by colour; filtered, varied, for all at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from lookalike.colour import INDEXED, N_COLOURS, colour_histogram, join
from lookalike.embeddings import EmbeddingStore, check_encoder, embed_images
from lookalike.images import fitted
from lookalike.similarity import checked_k, diversify, exact_scores, normalise, taste, top_k

if TYPE_CHECKING:
    # Not else: a web server that recommends by vectors has no Keras.
    import keras

Query = str | os.PathLike | bytes | Image.Image | np.ndarray
POOL = 10  # times k: how many candidates `diversity` chooses from


def recommend(
    store: EmbeddingStore,
    query: Query | Iterable[Query],
    k: int = 5,
    *,
    disliked: Query | Iterable[Query] = (),
    encoder: keras.Model | None = None,
    index: object | None = None,
    metric: str = "cosine",
    colour: float = 0.0,
    where: Mapping[str, object] | None = None,
    other_products: bool = False,
    diversity: float = 0.0,
    dislike_weight: float = 0.2,
) -> pd.DataFrame:
    """The k images of a store that look most like a query.

    Parameters
    ----------
    query
        An `image_id` of the store (never among its own results); or, with the `encoder` that the
        store was made with, a photo: its path, the bytes of its file, a Pillow image, or uint8
        pixels [height, width, 3]; or a vector [dim], with its photo's `colour_histogram` behind it
        if colour is asked for. Several of these in a list are liked things, and what is sought
        is their `taste`.
    disliked
        Things to keep away from. Under "euclidean" the mean of the liked is moved away from theirs
        by `dislike_weight` of the way between the two.
    index
        What finds the candidates instead of the exact search, by cosine: an index that
        `lookalike.scale.index_store` made of this store. `where` may then name one label.
    metric
        "cosine" or "euclidean".
    colour
        From 0, what the network sees alone, to 1, the colours alone: the score is (1 - colour)
        times the cosine plus `colour` times the likeness of the colours. By distance joined
        vectors rank as by cosine.
    where
        Columns of the catalogue and the value that each must have, or a list of values: `{"label":
        ["hat", "bag"]}`.
    other_products
        Leave out the other views of the products asked with too.
    diversity
        From 0, the nearest, to 1: how much a result, chosen among the nearest 10 k, must also
        differ from those above it. Scores then need not fall.

    Returns
    -------
    DataFrame, best first: `rank` from 1, `score`, then the catalogue's columns. The score is to
    what was searched with: of several likes, to their taste.

    Raises
    ------
    ValueError
        If the encoder is missing or is not the store's, a column or value of `where` is not in the
        catalogue, an option is out of range, nothing is liked, `other_products` is asked for a
        query that is no product, or the index is of another store.
    FileNotFoundError
        If a text query is neither an `image_id` nor a file.
    """
    if not 0 <= diversity <= 1:
        raise ValueError(f"diversity must be between 0 and 1, not {diversity}.")
    _check(store, metric, colour)
    most = len(store.vectors)
    k = min(checked_k(k), most)
    liked, disliked = _listed(query), _listed(disliked)
    if not liked:
        raise ValueError("Nothing is liked: give at least one image_id, photo or vector as query.")
    found = [_find(store, one, encoder, colour) for one in [*liked, *disliked]]
    rows, vectors, colours = zip(*found, strict=True)
    if other_products and None in rows:
        raise ValueError("other_products=True needs queries that are image_ids of the store.")
    own = np.array([row for row in rows if row is not None], np.int64)
    if other_products:
        products = store.catalog["product_id"]
        own = np.flatnonzero(products.isin(products.iloc[own]))
    where = where or {}
    label = where.get("label")
    hidden = ~_matching(store.catalog, where)
    hidden[own] = True
    wanted = min(POOL * k, most) if diversity else k
    wish = _wish(vectors, len(liked), metric, dislike_weight)
    wished = _wish(colours, len(liked), metric, dislike_weight) if colour else np.zeros(1)
    if index is None:
        if colour:
            wish = join(normalise([wish]), normalise([wished]), colour)
        gallery, search = _gallery(store, metric, colour)
        indices, scores = top_k(wish, gallery, wanted, exclude=[np.flatnonzero(hidden)], **search)
        there = indices >= 0
        indices = indices[there]
        scores = scores[there]
    elif metric != "cosine" or {*where} - {"label"} or pd.api.types.is_list_like(label):
        raise ValueError("An index searches by cosine, and filters by one label alone.")
    else:
        count = min(wanted + len(own), most)
        indices, scores = _by_index(store, index, wish, wished, colour, count, label)
        shown = np.flatnonzero(~hidden[indices])[:wanted]
        indices = indices[shown]
        scores = scores[shown]
    if diversity:
        from scipy.spatial.distance import cdist  # which a server may do without

        near = store.vectors[indices]
        if colour:  # here both sides carry the weight
            parts = normalise(near), store.side_arrays["colours"][indices]
            near = np.hstack([parts[0] * (1 - colour) ** 0.5, parts[1] * colour**0.5])
        likeness = -np.nan_to_num(cdist(near, near, metric), nan=1.0)
        relevance = -scores if metric == "euclidean" else scores
        chosen = diversify(relevance, likeness, k, diversity)
        indices = indices[chosen]
        scores = scores[chosen]
    # A shop may have columns of that name.
    own_names = {name: f"catalog_{name}" for name in ("rank", "score")}
    table = store.catalog.iloc[indices].rename(columns=own_names).reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table.insert(1, "score", scores)
    return table


def recommend_all(
    store: EmbeddingStore, k: int = 5, *, metric: str = "cosine", colour: float = 0.0
) -> pd.DataFrame:
    """Recommendations for every image of a store, among other products only, as one long table for
    a shop to load.

    Returns
    -------
    DataFrame with `image_id`, `rank` from 1, `score`, `recommended_image_id`,
    `recommended_product_id`; in the store's order, best first.

    Raises
    ------
    ValueError
        If k is no whole number, or below 1, or another option is none.
    """
    catalog = store.catalog
    _check(store, metric, colour)
    gallery, search = _gallery(store, metric, colour)
    same_product = catalog.groupby("product_id").indices
    exclude = [same_product[product] for product in catalog["product_id"]]
    k = min(checked_k(k), len(gallery))
    asking = gallery
    if colour:
        asking = join(normalise(store.vectors), store.side_arrays["colours"], colour)
    indices, scores = top_k(asking, gallery, k, exclude=exclude, **search)
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


def _check(store, metric, colour):
    """Refuse to search in a way that the store does not know."""
    if not 0 <= colour <= 1:
        raise ValueError(f"colour must be between 0 and 1, not {colour}.")
    if colour and metric != "cosine":
        raise ValueError("Colour joins the cosine; use metric='cosine', or colour=0.")
    if colour and "colours" not in store.side_arrays:
        raise ValueError(
            f"{store.folder} keeps no colours: run 04_embeddings.ipynb again, or use colour=0."
        )


def _gallery(store, metric, colour):
    """What is searched, and how `top_k` searches it."""
    if not colour:
        return store.vectors, {"metric": metric, "lengths": store.lengths}
    # Of two vectors of length 1 each.
    lengths = np.full(len(store.joined), 2**0.5)
    return store.joined, {"metric": "product", "lengths": lengths}


def _by_index(store, index, wish, wished, colour, count, label):
    """Rows and scores that an index finds; the scores are computed again from the store."""
    query = normalise([wish])
    dim = store.indexed(slice(1)).shape[1]
    if dim > query.shape[1]:
        wished = np.resize(normalise([wished]), (1, dim - query.shape[1]))
        query = join(query / (1 - INDEXED), wished / INDEXED, colour)
    same = index.dim == dim
    if same:
        found, scores = index.search(query, count, label=label)
        rows = found[found >= 0]
        scores = scores[found >= 0]
        same = (rows < len(store.vectors)).all()
    if same:
        ours = exact_scores(query, store.indexed(rows), "product")
        same = np.allclose(ours, scores, atol=0.02)
    if not same:
        raise ValueError(f"The index is of other vectors than {store.folder}: make it anew.")
    order = np.lexsort((rows, -ours))
    return rows[order], np.float32(ours[order])


def _listed(queries: Query | Iterable[Query]) -> list[Query]:
    """One query or several, which may also be an array of vectors or of names, as a list."""
    if isinstance(queries, np.ndarray):
        single = queries.dtype.kind in "uif" and (queries.dtype.kind, queries.ndim) != ("f", 2)
    else:
        single = isinstance(queries, Query)
    return [queries] if single else list(queries)


def _find(
    store: EmbeddingStore, query: Query, encoder: keras.Model | None, colour: float
) -> tuple[int | None, np.ndarray, np.ndarray | None]:
    """The row of a query that is in the store, else None, its vector, and its colours if asked."""
    if isinstance(query, str):
        for row in np.flatnonzero(store.catalog["image_id"] == query):
            return (
                int(row),
                store.vectors[row],
                store.side_arrays["colours"][row] if colour else None,
            )
    if isinstance(query, np.ndarray) and query.ndim == 1:
        dim = store.vectors.shape[1]
        if len(query) not in (dim, dim + N_COLOURS):
            raise ValueError(
                f"The query vector has {len(query)} dimensions, the vectors of "
                f"{store.manifest['encoder']} in {store.folder} have {dim}; "
                "make it with the same encoder."
            )
        if colour and len(query) == dim:
            raise ValueError("A vector has no colour: ask with a photo, or use colour=0.")
        return None, query[:dim], query[dim:]
    if not isinstance(query, Query):
        raise ValueError(f"A query is an image_id, a photo or a vector, not {query!r}.")
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
    pixels = fitted(query, encoder.input_shape[1:3], fit=store.manifest["fit"])
    colours = colour_histogram(pixels) if colour else None
    return None, embed_images(encoder, [pixels])[0], colours


def _wish(vectors, n_liked: int, metric: str, dislike_weight: float) -> np.ndarray:
    """One vector for all that is liked and disliked; a single liked thing is its own."""
    if len(vectors) == 1:
        return vectors[0]
    # By cosine each counts by its direction alone.
    vectors = normalise(vectors) if metric == "cosine" else np.float64(vectors)
    liked = vectors[:n_liked]
    disliked = vectors[n_liked:]
    if metric == "euclidean":
        disliked = disliked - liked.mean(axis=0)
    return taste(liked, disliked, dislike_weight)


def _matching(catalog: pd.DataFrame, where: Mapping[str, object]) -> np.ndarray:
    """Which rows have the wanted values: bool [n]."""
    matching = np.ones(len(catalog), bool)
    for column, wanted in where.items():
        if column not in catalog:
            raise ValueError(
                f"The catalogue has no column {column!r}; it has {', '.join(catalog)}."
            )
        values = list(wanted) if pd.api.types.is_list_like(wanted) else [wanted]
        known = catalog[column].dropna()
        unknown = [value for value in values if not known.isin([value]).any()]
        if unknown:
            kinds = known.unique().tolist()
            raise ValueError(
                f"No image has {unknown[0]!r} as {column}; "
                f"it has {len(kinds)} values, {kinds[:12]}."
            )
        matching &= catalog[column].isin(values)
    return matching
