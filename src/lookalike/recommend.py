"""Recommendations as a table: for a photo, a product, or a taste told by several; by what a network
sees and by colour; filtered, varied, for all at once.
"""

import os

import numpy as np
import pandas as pd
from PIL import Image
from scipy.spatial.distance import cdist

from lookalike.colour import N_COLOURS, colour_histogram, join
from lookalike.embeddings import check_encoder, embed_images
from lookalike.images import fitted
from lookalike.similarity import checked_k, diversify, normalise, taste, top_k

Query = str | os.PathLike | bytes | Image.Image | np.ndarray
POOL = 10  # times k: how many candidates `diversity` chooses from


def recommend(
    store,
    query,
    k=5,
    *,
    disliked=(),
    encoder=None,
    index=None,
    metric="cosine",
    colour=0.0,
    where=None,
    other_products=False,
    diversity=0.0,
    dislike_weight=0.2,
):
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
    _check(store, metric, colour, diversity)
    catalog = store.catalog
    where = where or {}
    k = min(checked_k(k), len(catalog))
    wanted = min(POOL * k, len(catalog)) if diversity else k
    liked = _listed(query)
    if not liked:
        raise ValueError(
            "Nothing is liked: give at least one image_id, photo or vector as query."
        )
    asked = [_find(store, one, encoder) for one in liked + _listed(disliked)]
    own = [row for row, _ in asked if row is not None]
    if other_products:
        if len(own) < len(asked):
            raise ValueError(
                "other_products=True needs queries that are image_ids of the store."
            )
        products = catalog["product_id"]
        own = np.flatnonzero(products.isin(products.iloc[own]))
    hidden = ~_matching(catalog, where)
    hidden[own] = True
    dim = store.vectors.shape[1]
    seen = [vector[:dim] for _, vector in asked]
    seen = _wish(seen, len(liked), metric, dislike_weight)
    hue = None
    if colour:
        hues = [vector[dim:] for _, vector in asked]
        if not all(map(len, hues)):
            raise ValueError("A vector has no colour: ask with a photo, or use colour=0.")
        hue = _wish(hues, len(liked), metric, dislike_weight)
    if index is None:
        asking = seen
        if colour:
            asking = join(normalise([seen]), normalise([hue]), colour)
        exclude = [np.flatnonzero(hidden)]
        found, scores = _exactly(store, asking, wanted, exclude, metric, colour)
        scores = pd.Series(scores[0], found[0])
    else:
        label = where.get("label")
        one_label = where.keys() <= {"label"} and not pd.api.types.is_list_like(label)
        if metric != "cosine" or not one_label:
            raise ValueError("An index searches by cosine, and filters by one label alone.")
        count = min(wanted + len(own), len(catalog))
        scores = index.recommended(store, seen, hue, colour, count, label)
    rows = scores.index
    shown = (rows >= 0) & ~hidden[rows]
    scores = scores[shown].head(wanted)
    if diversity and len(scores):
        chosen = _varied(store, scores, k, metric, colour, diversity)
        scores = scores.iloc[chosen]
    ranks = np.arange(1, len(scores) + 1)
    table = pd.DataFrame({"rank": ranks, "score": scores})
    # A shop may have columns of that name.
    suffixes = ("", "_in_catalog")
    table = table.merge(catalog, left_index=True, right_index=True, suffixes=suffixes)
    return table.reset_index(drop=True)


def recommend_all(store, k=5, *, metric="cosine", colour=0.0):
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
    _check(store, metric, colour)
    catalog = store.catalog
    k = min(checked_k(k), len(catalog))
    asking = store.vectors
    if colour:
        asking = join(normalise(asking), store.side_arrays["colours"], colour)
    same_product = catalog.groupby("product_id").indices
    exclude = [same_product[product] for product in catalog["product_id"]]
    indices, scores = _exactly(store, asking, k, exclude, metric, colour)
    query, place = np.nonzero(indices >= 0)
    found = catalog.iloc[indices[query, place]].reset_index(drop=True)
    table = catalog[["image_id"]].iloc[query].reset_index(drop=True)
    return table.assign(
        rank=place + 1,
        score=scores[query, place],
        recommended_image_id=found["image_id"],
        recommended_product_id=found["product_id"],
    )


def _check(store, metric, colour, diversity=0):
    """Refuse to search in a way that the store does not know."""
    for name, share in {"colour": colour, "diversity": diversity}.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be between 0 and 1, not {share}.")
    if colour and metric != "cosine":
        raise ValueError("Colour joins the cosine; use metric='cosine', or colour=0.")
    if colour and "colours" not in store.side_arrays:
        raise ValueError(
            f"{store.folder} keeps no colours: run 04_embeddings.ipynb again, or use colour=0."
        )


def _exactly(store, asking, k, exclude, metric, colour):
    """What `top_k` finds, by the vectors alone or with their colours."""
    return top_k(
        asking,
        store.joined if colour else store.vectors,
        k,
        exclude,
        metric="product" if colour else metric,
        lengths=store.lengths,
    )


def _varied(store, scores, k, metric, colour, diversity):
    """Which places of the scores, by row, to show, so that the photos differ from each other."""
    near = store.vectors[scores.index]
    relevance = scores.to_numpy()
    if metric == "euclidean":
        return diversify(-relevance, -cdist(near, near), k, diversity)
    from sklearn.metrics.pairwise import cosine_similarity  # a second that few need

    likeness = cosine_similarity(near)
    if colour:
        hues = cosine_similarity(store.side_arrays["colours"][scores.index])
        likeness = (1 - colour) * likeness + colour * hues
    return diversify(relevance, likeness, k, diversity)


def _listed(queries):
    """One query or several, as a list."""
    return [queries] if isinstance(queries, Query) else list(queries)


def _find(store, query, encoder):
    """The row of a query that is in the store, else None, and its vector with its colours, if there
    are any, behind it.
    """
    if isinstance(query, str):
        colours = store.side_arrays.get("colours", np.empty((len(store.vectors), 0)))
        for row in np.flatnonzero(store.catalog["image_id"] == query):
            return row, np.append(store.vectors[row], colours[row])
    if isinstance(query, np.ndarray) and query.ndim == 1:
        dim = store.vectors.shape[1]
        if len(query) not in (dim, dim + N_COLOURS):
            raise ValueError(
                f"The query vector has {len(query)} dimensions, the vectors of "
                f"{store.manifest['encoder']} in {store.folder} have {dim}; "
                "make it with the same encoder."
            )
        return None, query
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
    return None, np.append(embed_images(encoder, [pixels]), colour_histogram(pixels))


def _wish(vectors, n_liked, metric, dislike_weight):
    """One vector for all that is liked and disliked."""
    # By cosine each counts by its direction alone.
    vectors = normalise(vectors) if metric == "cosine" else np.stack(vectors)
    liked = vectors[:n_liked]
    disliked = vectors[n_liked:]
    if metric == "euclidean":
        disliked = disliked - liked.mean(axis=0)
    return taste(liked, disliked, dislike_weight)


def _matching(catalog, where):
    """Which rows have the wanted values: bool [n]."""
    matching = np.ones(len(catalog), bool)
    for column, wanted in where.items():
        if column not in catalog:
            raise ValueError(
                f"The catalogue has no column {column!r}; it has {', '.join(catalog)}."
            )
        values = list(wanted) if pd.api.types.is_list_like(wanted) else [wanted]
        known = catalog[column].dropna().unique()
        for value in values:
            if value not in known:
                raise ValueError(
                    f"No image has {value!r} as {column}; "
                    f"it has {len(known)} values, {known[:12].tolist()}."
                )
        matching &= catalog[column].isin(values).to_numpy()
    return matching
