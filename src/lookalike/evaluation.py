"""How good the recommendations are: one ranking, metrics of its arrays, how far to trust them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lookalike.similarity import checked_k, top_k

FEWEST = 6  # products; of fewer, what is drawn again shows too little of what there could be


@dataclass(frozen=True, eq=False)
class Ranking:
    """What each query found: the one thing that all metrics are computed from.

    queries : int64 [q], the rows of the catalogue that searched
    results : int64 [q, k], the rows that were found, best first; -1 where the gallery was exhausted
    scores : float32 [q, k], as `top_k` gives them; not finite where the gallery was exhausted
    relevant : bool [q, k], whether a result has the query's label
    n_relevant, n_gallery : int64 [q], how many relevant photos, and how many at all, could be found
    labels, products : array [q], of each query the value that decides, and its product
    """

    queries: np.ndarray
    results: np.ndarray
    scores: np.ndarray
    relevant: np.ndarray
    n_relevant: np.ndarray
    n_gallery: np.ndarray
    labels: np.ndarray
    products: np.ndarray


def unseen(catalog, taught, copies):
    """The test photos that may judge a model: it learnt from no view of their product, nor from a
    copy of them, and no train photo is a copy; says how many there are.

    Parameters
    ----------
    catalog : DataFrame with `image_id`, `product_id`, `split` and `sha256`
    taught
        The `sha256` of all photos that the model learnt from, as its card lists them.
    copies : DataFrame of pairs, `image_id` and `other_id`

    Returns
    -------
    int64 [q], rows of the catalogue; `ValueError` if too few products are left to judge by.
    """
    asks = catalog["split"] == "test"
    products = catalog.loc[catalog["sha256"].isin(taught), "product_id"]
    learnt = catalog["product_id"].isin(products)
    known = {*catalog.loc[learnt | (catalog["split"] == "train"), "image_id"]}
    one = copies["image_id"]
    other = copies["other_id"]
    for _ in range(2):  # copies, then copies of copies
        known |= {*one[other.isin(known)], *other[one.isin(known)]}
    copied = catalog["image_id"].isin(known)
    rows = np.flatnonzero(asks & ~learnt & ~copied)
    print(
        f"{asks.sum()} test photos: {(asks & learnt).sum()} that the model learnt from, "
        f"{(asks & ~learnt & copied).sum()} with a copy among the others; {len(rows)} queries"
    )
    if len(rows) < asks.sum() and catalog["product_id"].iloc[rows].nunique() < FEWEST:
        raise ValueError("Too few test photos are new to the model. Run 01 to 04 again.")
    return rows


def rank(
    vectors,
    catalog,
    k=10,
    *,
    metric="cosine",
    by="label",
    within=None,
    gallery_split=None,
    query_split=None,
    queries=None,
    query_vectors=None,
):
    """Let photos look for others of their kind; the views of their own product are left out, as
    finding them is no achievement.

    Parameters
    ----------
    vectors : array [n, dim]
    catalog : DataFrame of n rows
    by
        The column that decides what is relevant. Photos without a value there take no part.
    within
        A column in which query and results must agree: what is known of colour among shirts, say.
    gallery_split, query_split
        Photos of one split search in another; None: all photos.
    queries : int array
        The rows that may search, such as those of `unseen`, if not all that the splits allow.
    query_vectors : array [n, dim]
        Other vectors to search with, such as those of edited photos.

    Raises
    ------
    ValueError
        If there is no query or no gallery, or `top_k` raises it.
    """
    asked = vectors if query_vectors is None else query_vectors
    known = catalog[[by, within or by]].notna().all(axis=1).to_numpy()
    split = catalog.get("split")
    gallery = np.flatnonzero(known & (gallery_split is None or split == gallery_split))
    rows = np.flatnonzero(known & (query_split is None or split == query_split))
    if queries is not None:
        rows = np.intersect1d(rows, queries)
    if not len(gallery) or not len(rows):
        raise ValueError(
            f"Nothing to rank: {len(rows)} queries and {len(gallery)} gallery photos have a value "
            f"in {by!r}; their splits are {query_split or 'all'} and {gallery_split or 'all'}."
        )
    values = pd.factorize(catalog[by])[0]
    products = pd.factorize(catalog["product_id"])[0]
    groups = pd.factorize(catalog[within])[0] if within else np.zeros(len(catalog), int)
    hidden, n_relevant, n_gallery = [], [], []
    for row in rows:
        others = (products[gallery] != products[row]) & (groups[gallery] == groups[row])
        hidden.append(np.flatnonzero(~others))
        n_gallery.append(others.sum())
        n_relevant.append((others & (values[gallery] == values[row])).sum())
    found, scores = top_k(asked[rows], vectors[gallery], k, exclude=hidden, metric=metric)
    results = np.where(found >= 0, gallery[found], -1)
    return Ranking(
        queries=rows,
        results=results,
        scores=scores,
        relevant=(results >= 0) & (values[results] == values[rows][:, None]),
        n_relevant=np.array(n_relevant),
        n_gallery=np.array(n_gallery),
        labels=catalog[by].to_numpy()[rows],
        products=catalog["product_id"].to_numpy()[rows],
    )


def precision_at_k(relevant, k):
    """Share [q] of the first k results that are relevant; missing results count as wrong.

    relevant : bool [q, at least k], whether each result is relevant, best first; as for all metrics
    """
    return _first(relevant, k).mean(axis=1)


def chance(n_relevant, n_gallery):
    """The Precision@k that guessing has on average: the share of relevant photos in the gallery."""
    return n_relevant / np.maximum(n_gallery, 1)


def average_similarity(scores, k):
    """Mean score [q] of the first k results, whatever they show; NaN where nothing was found."""
    found = np.ma.masked_invalid(_first(scores, k))
    return found.mean(axis=1).filled(np.nan)


def overlap_at_k(results, others, k):
    """Share [q] of the first k results that both rankings have, in whatever order; NaN of none.

    results, others : int [q, at least k], -1 where nothing was found
    """
    results = _first(results, k)
    found = results >= 0
    equal = results[:, :, None] == _first(others, k)[:, None]
    both = found & equal.any(axis=2)
    n_found = found.sum(axis=1)
    return both.sum(axis=1) / np.where(n_found > 0, n_found, np.nan)


def confidence_interval(values, groups=None, *, level=0.95, n_resamples=2000):
    """Where the mean would lie, had other products been drawn: a bootstrap interval.

    The percentile interval is too narrow for few groups, and is widened as Student's t is wider
    than the normal. Source: Hesterberg, "What Teachers Should Know About the Bootstrap", The
    American Statistician 2015, section 5.3, and Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13.

    Parameters
    ----------
    values : array [q]
        A metric of each query; NaN does not count.
    groups : array [q]
        What is drawn, e.g. products, whose views agree more than strangers do; None: one by one.

    Returns
    -------
    Its ends; both NaN of so few groups that all of them agree too often by chance: 2 to the power
    of 1 - n is more than 1 - level, so of fewer than six at 0.95. Where nearly all values are equal
    it is too narrow: of n queries that are all right it has no width, but up to 3/n of the next may
    be wrong.
    """
    values = np.asarray(values, np.float64)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    known = ~np.isnan(values)
    groups, names = pd.factorize(groups[known], use_na_sentinel=False)
    count = len(names)
    if 2.0 ** (1 - count) > 1 - level:
        return np.nan, np.nan
    sums = np.bincount(groups, values[known])
    sizes = np.bincount(groups)
    random = np.random.default_rng(0)
    means = []
    for _ in range(n_resamples // 100):  # a hundred at a time, to spare memory
        drawn = random.integers(count, size=(100, count))
        means.extend(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    wider = np.sqrt(count / (count - 1)) * stats.t.ppf((1 + level) / 2, count - 1)
    outside = stats.norm.cdf(-wider)
    return tuple(np.quantile(means, [outside, 1 - outside]).tolist())


def paired_change(values, before, groups=None, **options):
    """What two ways differ by on the same queries, on average, and the ends of its interval.

    Query by query, so that what is hard for both does not count; options are those of
    `confidence_interval`.
    """
    change = np.asarray(values, np.float64) - before
    return float(pd.Series(change).mean()), *confidence_interval(change, groups, **options)


def _first(ranked, k):
    """The first k of what was ranked; ValueError if fewer were."""
    if checked_k(k) > ranked.shape[1]:
        raise ValueError(f"k is {k}, and {ranked.shape[1]} ranks were computed; compute more.")
    return ranked[:, :k]
