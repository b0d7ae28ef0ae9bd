"""A catalogue to train, validation and test, by product."""

import hashlib

import numpy as np

SPLITS = ("train", "validation", "test")


class TooFewLabelsError(ValueError):
    """A catalogue that has nothing to teach: its train photos are not of two classes at least."""


def draw_order(product, seed):
    """What decides the order in which products are drawn, whatever the order of the rows."""
    return hashlib.sha256(f"{seed}:{product}".encode("utf-8", "surrogateescape")).hexdigest()


def split_by_product(catalog, *, fractions=(0.7, 0.15, 0.15), seed=0):
    """Deal out the products that have no split yet to train, validation and test, label by label.

    All views of a product go to one side, or a photo would be found by its own twin; so do copies,
    after `copies.join_products`. A split that is named is kept. Products are drawn in the order of
    a hash of their id and the seed, so the order of the rows does not matter.

    Parameters
    ----------
    fractions
        Shares of train, validation and test; they add up to 1.

    Returns
    -------
    A copy of the catalogue with `split` filled in. A label with few products fills train first.
    """
    products = catalog.sort_values("image_id").groupby("product_id")[["label", "split"]].first()
    new = products[products["split"].isna()]
    new = new.loc[sorted(new.index, key=lambda product: draw_order(product, seed))]
    classes = new.groupby("label", dropna=False)["split"]
    place = (classes.cumcount() + 0.5) / classes.transform("size")
    train, validation, _ = np.cumsum(fractions)
    split = np.select([place < train, place < validation], SPLITS[:2], SPLITS[2])
    split_of = {**products["split"], **dict(zip(new.index, split, strict=True))}
    named = catalog["split"]
    return catalog.assign(split=named.fillna(catalog["product_id"].map(split_of)))


def three_splits(catalog):
    """Make sure that what tests a model at the end is not what stopped its training.

    Where a source names train and one other side, as many do, that side becomes the test, and a
    tenth of the train products become the validation. One side alone says nothing, and all is split
    anew. A catalogue that has all three comes back as it is.
    """
    named = {*catalog["split"].dropna()}
    if len(named) == 1:
        return split_by_product(catalog.assign(split=None))
    if named not in ({"train", "validation"}, {"train", "test"}):
        return catalog
    split = catalog["split"].replace("validation", "test")
    train = catalog[split == "train"].assign(split=None)
    train = split_by_product(train, fractions=(0.9, 0.1, 0))
    return catalog.assign(split=train["split"].reindex(split.index).fillna(split))


def label_names(catalog, *, splits=("train",)):
    """The classes that train photos show, sorted: the order of a classifier's outputs.

    Raises
    ------
    TooFewLabelsError
        If there are fewer than two, or one of `splits` has no photo of them.
    """
    known = catalog.dropna(subset="label")
    classes = sorted({*known.loc[known["split"] == "train", "label"]})
    if len(classes) < 2:
        raise TooFewLabelsError(
            f"There must be classes to tell apart; the train photos show {classes}. Put the photos "
            "of each class into a folder of its own, and run 01_data.ipynb again."
        )
    for split in splits:
        labels = known.loc[known["split"] == split, "label"]
        if not labels.isin(classes).any():
            raise TooFewLabelsError(
                f"No {split} photo shows a class of the train photos, {classes}. Give the same "
                "class the same name everywhere, and three products at least; then run "
                "01_data.ipynb again."
            )
    return classes


def class_weights(labels, classes):
    """What a photo of each class counts, if one class has ten times the photos of another: then as
    much as makes all classes equal.
    """
    from sklearn.utils.class_weight import compute_class_weight  # a second that few need

    weights = compute_class_weight("balanced", classes=np.array(classes), y=labels)
    return dict(enumerate(weights)) if weights.max() >= 10 * weights.min() else None
