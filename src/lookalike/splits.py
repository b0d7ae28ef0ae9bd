"""Who teaches and who judges: a catalogue to train, validation and test, by product."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

SPLITS = ("train", "validation", "test")


def draw_order(product: str, seed: int) -> bytes:
    """What decides the order in which products are drawn, whatever the order of the rows."""
    return hashlib.sha256(f"{seed}:{product}".encode("utf-8", "surrogateescape")).digest()


def split_catalog(
    catalog: pd.DataFrame,
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    copies: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Assign each product without a split to train, validation or test, stratified by label.

    All views of a product go to one side, or a photo would be found by its own twin. Splits that
    the source names are kept. The order of the rows does not matter: products are drawn in the
    order of a hash of their id and the seed.

    Parameters
    ----------
    fractions
        Shares of train, validation and test; they add up to 1.
    copies : DataFrame of pairs, `image_id` and `other_id`
        Photos that are copies of each other, as `copies.find_near_duplicates` finds them; pairs
        with an image that is not in the catalogue do not count. Products that share one go to one
        side together. Where the source itself has put copies on two sides, all go to the first of
        train, validation and test that it names, so that what is left for testing is new to the
        model.

    Returns
    -------
    A copy of the catalogue with `split` filled in. A label with few products fills train first.

    Raises
    ------
    ValueError
        If `fractions` are not three shares that add up to 1.
    """
    if len(fractions) != len(SPLITS) or not (
        min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6
    ):
        raise ValueError(
            f"fractions must be three shares that add up to 1, not {tuple(fractions)}."
        )
    together = catalog["product_id"] if copies is None else _joined(catalog, copies)
    named = catalog["split"]
    if copies is not None:
        joined = together.isin(
            together[catalog["image_id"].isin({*copies["image_id"], *copies["other_id"]})]
        )
        first = (
            named.map({split: place for place, split in enumerate(SPLITS)})
            .groupby(together)
            .transform("min")
        )
        named = named.where(~joined | first.isna(), first.map(dict(enumerate(SPLITS))))
    # Sorted, so that a product whose views disagree is what its first view is.
    ordered = catalog.assign(product_id=together, split=named).sort_values("image_id")
    known = (
        ordered.dropna(subset="split")
        .drop_duplicates("product_id")
        .set_index("product_id")["split"]
        .to_dict()
    )
    products = ordered[~ordered["product_id"].isin(known)].drop_duplicates("product_id")
    for _, group in products.groupby("label", dropna=False):
        drawn = sorted(group["product_id"], key=lambda product: draw_order(product, seed))
        for split, count in zip(SPLITS, _shares(fractions, len(drawn)), strict=True):
            known |= dict.fromkeys(drawn[:count], split)
            drawn = drawn[count:]
    return catalog.assign(split=named.where(named.notna(), together.map(known)))


def three_splits(catalog: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Make sure that what judges a model at the end is not what stopped its training.

    Where a source names train and one other side, as many do, that side becomes the test, and a
    tenth of the train products become the validation. One side alone says nothing, and all is split
    anew. A catalogue that has all three comes back as it is.
    """
    named = set(catalog["split"].dropna())
    if len(named) == 1:
        return split_catalog(catalog.assign(split=None), seed=seed)
    if named != {"train", "validation"} and named != {"train", "test"}:
        return catalog
    train = catalog[catalog["split"] == "train"].assign(split=None)
    split = catalog["split"].replace("validation", "test")
    split[train.index] = split_catalog(train, fractions=(0.9, 0.1, 0), seed=seed)["split"]
    return catalog.assign(split=split)


def _joined(catalog: pd.DataFrame, copies: pd.DataFrame) -> pd.Series:
    """For each row the first product of all that are joined to its own by copies."""
    product = dict(zip(catalog["image_id"], catalog["product_id"], strict=True))
    joined = DisjointSet(product.values())
    for pair in copies[["image_id", "other_id"]].itertuples(index=False):
        if product.keys() >= set(pair):
            joined.merge(*map(product.get, pair))
    first = {}
    for group in joined.subsets():
        first |= dict.fromkeys(group, min(group))
    return catalog["product_id"].map(first)


def _shares(fractions: Sequence[float], count: int) -> np.ndarray:
    """Whole numbers that add up to `count`, each within one of its fraction; train gets at least
    one if it can.
    """
    exact = np.asarray(fractions) * count
    shares = np.floor(exact + 1e-9).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    if shares[0] == 0 and fractions[0] > 0:
        shares[np.argmax(np.where(shares > 0, shares - exact, -np.inf))] -= 1
        shares[0] = 1
    return shares
