"""Who teaches and who judges: a catalogue to train, validation and test, by product."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

SPLITS = ("train", "validation", "test")


class TooFewLabelsError(ValueError):
    """A catalogue that has nothing to teach: its train photos are not of two kinds at least."""


def draw_order(product: str, seed: int) -> str:
    """What decides the order in which products are drawn, whatever the order of the rows."""
    return hashlib.sha256(f"{seed}:{product}".encode("utf-8", "surrogateescape")).hexdigest()


def split_by_product(
    catalog: pd.DataFrame,
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    copies: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Deal out the products that have no split yet to train, validation and test, label by label.

    All views of a product go to one side, or a photo would be found by its own twin. A split that
    is named is kept. Products are drawn in the order of a hash of their id and the seed, so the
    order of the rows does not matter.

    Parameters
    ----------
    fractions
        Shares of train, validation and test; they add up to 1.
    copies : DataFrame of pairs, `image_id`, `other_id` and `verdict`
        Photos that are copies of each other, as `copies.CopyIndex` finds them. Products that share
        one go to one side together: where their splits are named and differ, to the first of train,
        validation and test, so that what is left for testing is new to the model. So do variants,
        whose verdict is not "copy", but these without chains.

    Returns
    -------
    A copy of the catalogue with `split` filled in. A label with few products fills train first.

    Raises
    ------
    ValueError
        If `fractions` are not three shares that add up to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not np.isclose(sum(fractions), 1):
        raise ValueError(f"fractions are three shares that add up to 1, not {tuple(fractions)}.")
    if copies is not None:
        joined = _joined(catalog, copies)
        split = _first_named(catalog, joined, copies)
        halves = catalog.assign(product_id=joined, split=split)
        dealt = split_by_product(halves, fractions=fractions, seed=seed)
        return catalog.assign(split=dealt["split"])

    products = catalog.sort_values("image_id").groupby("product_id")[["label", "split"]].first()
    new = products[products["split"].isna()]
    new = new.loc[sorted(new.index, key=lambda product: draw_order(product, seed))]
    kinds = new.groupby("label", dropna=False)["split"]
    place = (kinds.cumcount() + 0.5) / kinds.transform("size")
    train, validation, _ = np.cumsum(fractions)
    sides = np.select([place < train, place < validation], SPLITS[:2], SPLITS[2])
    known = {**products["split"], **dict(zip(new.index, sides, strict=True))}
    named = catalog["split"]
    return catalog.assign(split=named.where(named.notna(), catalog["product_id"].map(known)))


def three_splits(catalog: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Make sure that what judges a model at the end is not what stopped its training.

    Where a source names train and one other side, as many do, that side becomes the test, and a
    tenth of the train products become the validation. One side alone says nothing, and all is split
    anew. A catalogue that has all three comes back as it is.
    """
    named = set(catalog["split"].dropna())
    if len(named) == 1:
        return split_by_product(catalog.assign(split=None), seed=seed)
    if named != {"train", "validation"} and named != {"train", "test"}:
        return catalog
    train = catalog[catalog["split"] == "train"].assign(split=None)
    split = catalog["split"].replace("validation", "test")
    split[train.index] = split_by_product(train, fractions=(0.9, 0.1, 0), seed=seed)["split"]
    return catalog.assign(split=split)


def label_names(catalog: pd.DataFrame, *, splits: Sequence[str] = ("train",)) -> list[str]:
    """The kinds that train photos show, sorted: the order of a classifier's outputs.

    Raises
    ------
    TooFewLabelsError
        If there are fewer than two, or one of `splits` has no photo of them.
    """
    kinds = catalog.groupby("split")["label"].agg(lambda labels: sorted(labels.dropna().unique()))
    taught = list(kinds.get("train", []))
    if len(taught) < 2:
        raise TooFewLabelsError(
            f"There must be kinds to tell apart; of the train photos there are {taught}. Put the "
            "photos of two kinds at least into a folder each, and run 01_data.ipynb again."
        )
    for split in splits:
        if not {*kinds.get(split, [])} & {*taught}:
            shown = kinds.get(split, "no kind at all")
            raise TooFewLabelsError(
                f"Photos of {split!r} show {shown}; train photos {taught}. "
                "Give the same kind the same name everywhere, and three products at least; then "
                "run 01_data.ipynb again."
            )
    return taught


def class_weights(labels: Sequence[str], classes: Sequence[str]) -> dict[int, float] | None:
    """What a photo of each class counts, if one class has ten times the photos of another: then as
    much as makes all classes equal.
    """
    from sklearn.utils.class_weight import compute_class_weight  # a second that few need

    weights = compute_class_weight("balanced", classes=np.array(classes), y=labels)
    return dict(enumerate(weights)) if weights.max() >= 10 * weights.min() else None


def _joined(catalog, copies):
    """For each row the first product of all that are joined to its own: by copies, whatever hangs
    together; by variants, those of the first alone, or a chain might join all.
    """
    from scipy.cluster.hierarchy import DisjointSet  # here, as reading a catalogue does without

    product = dict(zip(catalog["image_id"], catalog["product_id"], strict=True))
    groups, joined = DisjointSet(catalog["product_id"]), {}
    pairs = copies[["image_id", "other_id"]].map(product.get)
    same = copies["verdict"] == "copy"
    for one, other in pairs[same].to_numpy():
        groups.merge(one, other)
    first = {name: min(groups.subset(name)) for name in groups}
    for one, other in sorted(map(sorted, pairs[~same].map(first.get).to_numpy())):
        if joined.setdefault(one, one) == one:
            joined.setdefault(other, one)
    return catalog["product_id"].map(first).map(lambda name: joined.get(name, name))


def _first_named(catalog, joined, copies):
    """The splits that are named; of products joined by copies the first one for all."""
    ids = {*copies["image_id"], *copies["other_id"]}
    has_copies = joined.isin(joined[catalog["image_id"].isin(ids)])
    places = catalog["split"].map({split: place for place, split in enumerate(SPLITS)})
    first = places.groupby(joined).transform("min").map(dict(enumerate(SPLITS)))
    return catalog["split"].where(~has_copies | first.isna(), first)
