"""One ranking for all metrics: which images each query found, and which of them are of its kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lookalike.similarity import checked_k, top_k

LEFT_OUT = ("product", "image", "nothing")


@dataclass(frozen=True, eq=False)
class Ranking:
    """What was found for each query: the one thing that all metrics are computed from.

    queries : int64 [q], the rows of the catalogue that searched
    results : int64 [q, k], the rows that were found, best first; -1 where the gallery was exhausted
    scores : float32 [q, k], as `top_k` gives them; not finite where the gallery was exhausted
    relevant : bool [q, k], whether a result has the query's label
    n_relevant : int64 [q], how many relevant images the query could have found
    n_gallery : int64 [q], how many images it was compared with
    labels, products : array [q], of each query the value that decides, and its product
    metric : "cosine" or "euclidean", what the scores are
    """

    queries: np.ndarray
    results: np.ndarray
    scores: np.ndarray
    relevant: np.ndarray
    n_relevant: np.ndarray
    n_gallery: np.ndarray
    labels: np.ndarray
    products: np.ndarray
    metric: str = "cosine"


def rank(
    vectors: np.ndarray,
    catalog: pd.DataFrame,
    k: int = 10,
    *,
    metric: str = "cosine",
    by: str = "label",
    within: str | None = None,
    gallery_split: str | None = None,
    query_split: str | None = None,
    leave_out: str = "product",
    pessimistic: bool = False,
    asking: np.ndarray | None = None,
    asked: np.ndarray | None = None,
) -> Ranking:
    """Let images look for others of their kind.

    With two splits, images of `query_split` search in `gallery_split`. Without, every image
    searches in all the others (leave-one-out). Either way the views of a query's own product are
    left out: finding them is no achievement.

    Parameters
    ----------
    vectors : array [n, dim]
    catalog : DataFrame of n rows
    by
        The column that decides what is relevant. Images without a value there are neither queries
        nor gallery.
    within
        A column in which query and results must agree: what is known of a pattern among shirts
        alone, say.
    leave_out
        What a query may not find: "product" (the views of its own product), "image" (itself) or
        "nothing". The last two are mistakes, to be measured.
    pessimistic
        Of images with equal scores the wrong ones come first, else those that are first in the
        catalogue.
    asking : int array
        The rows that may be queries, if not all that the splits allow.
    asked : array [n, dim]
        Other vectors that the queries ask with, such as those of edited photos; None: `vectors`.

    Raises
    ------
    ValueError
        If only one split is given, one of them is empty, no image has a value in `by`, a column is
        missing, an option is unknown, or a vector holds NaN or infinity (its row is named).
    """
    asked = vectors if asked is None else asked
    if not len(vectors) == len(catalog) == len(asked):
        counts = f"{len(vectors)} vectors" + (
            f", {len(asked)} to ask with" if len(asked) != len(vectors) else ""
        )
        raise ValueError(
            f"{counts} and {len(catalog)} rows of the catalogue do not belong together."
        )
    if (gallery_split is None) != (query_split is None):
        raise ValueError("Give both gallery_split and query_split, or neither for leave-one-out.")
    if leave_out not in LEFT_OUT:
        raise ValueError(f"leave_out must be one of {', '.join(LEFT_OUT)}, not {leave_out!r}.")
    if asking is not None and np.size(asking) and np.asarray(asking).dtype.kind not in "iu":
        raise ValueError(
            "asking must hold the numbers of rows, not a mask or fractions; "
            "np.flatnonzero makes them."
        )
    for column in filter(None, (by, within, "product_id", gallery_split and "split")):
        if column not in catalog:
            raise ValueError(
                f"The catalogue has no column {column!r}; it has {', '.join(catalog)}."
            )
    known = catalog[by].notna().to_numpy() & (
        True if within is None else catalog[within].notna().to_numpy()
    )
    gallery, queries = (
        np.flatnonzero(
            known
            if split is None
            else known & (catalog["split"] == split).fillna(False).to_numpy(bool)
        )
        for split in (gallery_split, query_split)
    )
    queries = queries if asking is None else np.intersect1d(queries, asking)
    if not len(gallery) or not len(queries):
        raise ValueError(
            f"Nothing to rank: {len(queries)} queries (split {query_split}) and "
            f"{len(gallery)} gallery images "
            f"(split {gallery_split}) have a value in column {by!r}"
            + (f" and in {within!r}." if within else ".")
        )
    for source, rows in ((vectors, gallery), (asked, queries)):
        bad = rows[~np.isfinite(np.asarray(source[rows], np.float32)).all(axis=1)]
        if len(bad):
            raise ValueError(f"The vector in row {bad[0]} holds NaN or infinity; compute it again.")
    values = pd.factorize(catalog[by])[0]
    products = pd.factorize(catalog["product_id"])[0]
    groups = np.zeros(len(catalog), int) if within is None else pd.factorize(catalog[within])[0]
    own = {"product": products, "image": np.arange(len(catalog)), "nothing": None}[leave_out]
    shape = len(queries), checked_k(k)
    results = np.full(shape, -1)
    scores = np.empty(shape, np.float32)
    n_relevant = np.empty(len(queries), int)
    n_gallery = np.empty(len(queries), int)
    for group in np.unique(groups[queries]):
        rows = np.flatnonzero(groups[queries] == group)
        among = gallery[groups[gallery] == group]
        of_group = queries[rows]
        left_out = _places(among, of_group, own)
        wrong = None if not pessimistic else (values, of_group, among)
        found, scores[rows] = _nearest(asked[of_group], vectors[among], k, metric, left_out, wrong)
        results[rows] = np.where(found >= 0, np.append(among, -1)[found], -1)
        n_gallery[rows] = len(among) - np.array([len(group) for group in left_out])
        counts = np.bincount(values[among], minlength=values.max() + 1)
        n_own = [
            (values[among[group]] == values[query]).sum()
            for group, query in zip(left_out, of_group, strict=True)
        ]
        n_relevant[rows] = counts[values[of_group]] - np.array(n_own)
    relevant = (values[results] == values[queries][:, None]) & (results >= 0)
    labels, of_product = (catalog[column].to_numpy()[queries] for column in (by, "product_id"))
    return Ranking(
        queries, results, scores, relevant, n_relevant, n_gallery, labels, of_product, metric
    )


def _places(gallery: np.ndarray, queries: np.ndarray, own: np.ndarray | None) -> list[np.ndarray]:
    """Of each query the places in the gallery that it may not find: what has the same number in
    `own`.
    """
    nothing = np.empty(0, np.int64)
    if own is None:
        return [nothing] * len(queries)
    order = np.argsort(own[gallery], kind="stable")
    first, last = (
        np.searchsorted(own[gallery][order], own[queries], side) for side in ("left", "right")
    )
    return [order[start:stop] for start, stop in zip(first, last, strict=True)]


def _nearest(
    queries, gallery, k: int, metric: str, left_out: list[np.ndarray], wrong: tuple | None
) -> tuple:
    """`top_k`; with values, queries and gallery in `wrong` those of equal scores sorted, what is
    not alike first.
    """
    found, scores = top_k(queries, gallery, k, metric=metric, exclude=left_out)
    if wrong is None:
        return found, scores
    values, asking, among = wrong
    rows, depth, deep = np.arange(len(found)), k, (found, scores)
    while True:
        alike = np.append(values[among], -1)[deep[0]] == values[asking[rows]][:, None]
        order = np.lexsort((alike, -deep[1] if metric == "cosine" else deep[1]), axis=-1)[:, :k]
        found[rows], scores[rows] = (np.take_along_axis(array, order, axis=1) for array in deep)
        # A tie at the last place may go on behind it: look deeper where it does.
        open_end = (
            np.isfinite(deep[1][:, -1])
            & (deep[1][:, k - 1] == deep[1][:, -1])
            & (depth < len(gallery))
        )
        rows, depth = rows[open_end], min(4 * depth, len(gallery))
        if not len(rows):
            return found, scores
        deep = top_k(
            queries[rows], gallery, depth, metric=metric, exclude=[left_out[row] for row in rows]
        )
