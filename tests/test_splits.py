"""Shares, named splits, copies, and the one other split of a source."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from scipy.cluster.hierarchy import DisjointSet

from lookalike.copies import join_products
from lookalike.splits import (
    SPLITS,
    TooFewLabelsError,
    class_weights,
    label_names,
    split_by_product,
    three_splits,
)

few_examples = settings(max_examples=40, deadline=None)
seeds, numbers = st.integers(0, 5), st.integers(0, 99)
labels = st.sampled_from(["shoe", "watch", "None", None])
# A photo: its product, label and split. Sources contradict themselves in all ways.
photo = st.tuples(st.integers(0, 9), labels, st.sampled_from([None, None, *SPLITS]))
photos = st.lists(photo, min_size=1, max_size=40)
pairs = st.lists(st.tuples(numbers, numbers), max_size=15)
fractions = st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any)
fractions = fractions.map(lambda parts: tuple(part / sum(parts) for part in parts))


def make(rows):
    """A catalogue without files, of (product, label, split)."""
    named = [(f"{place:03}.png", f"p{row[0]}", *row[1:]) for place, row in enumerate(rows)]
    return pd.DataFrame(named, columns=["image_id", "product_id", "label", "split"], dtype=object)


SHOES = make([(product, "shoe", None) for product in range(60)])


def copies_of(catalog, pairs):
    found = [[catalog["image_id"].iloc[place % len(catalog)] for place in pair] for pair in pairs]
    found = pd.DataFrame(found, columns=["image_id", "other_id"], dtype=object)
    return found.assign(verdict="copy")


def split_with(catalog, copies, **options):
    split = split_by_product(join_products(catalog, copies), **options)["split"]
    return catalog.assign(split=split)


def counts(split):
    found = split.drop_duplicates("product_id")["split"].value_counts()
    return [int(found.get(side, 0)) for side in SPLITS]


# Of n products, in the order of a hash, number k is at (k + 0.5) / n: up to 0.7 for training, up
# to 0.85 for validation. So of 4 they are at 0.125, 0.375 and 0.625, for training, and at 0.875.
def test_a_worked_example():
    handmade = {1: [1, 0, 0], 2: [1, 1, 0], 3: [2, 1, 0], 4: [3, 0, 1], 20: [14, 3, 3]}
    for n, expected in handmade.items():
        shoes = [(place % n, "shoe", None) for place in range(2 * n)]
        split = split_by_product(make([*shoes, (99, "watch", None)]), seed=7)[:-1]
        assert counts(split) == expected
        hashes = [hashlib.sha256(f"7:{name}".encode()).hexdigest() for name in split["product_id"]]
        drawn = split["split"].iloc[np.argsort(hashes)]
        assert drawn.map(SPLITS.index).is_monotonic_increasing


@few_examples
@given(st.lists(labels, min_size=1, max_size=60), fractions, seeds)
def test_the_shares_of_each_label_are_within_one_product(labels, fractions, seed):
    catalog = make([(number, label, None) for number, label in enumerate(labels)] * 2)
    split = split_by_product(catalog, fractions=fractions, seed=seed)
    for _, group in split.groupby("label", dropna=False):
        wanted, found = np.array(fractions) * len(group) / 2, np.array(counts(group))
        assert ((abs(found - wanted) < 1 + 1e-9) & ((wanted > 0) | (found == 0))).all()


@few_examples
@given(photos, pairs, seeds)
@example([(0, "shoe", "train"), (0, "shoe", "test"), (0, "shoe", None)], [], 0)
def test_the_order_does_not_matter_and_a_second_call_changes_nothing(rows, pairs, seed):
    catalog = make(rows)
    mixed = catalog.where(catalog.notna(), np.nan)[::-1]
    turned = copies_of(catalog, [(other, one) for one, other in reversed(pairs)])
    for copies, others in ((turned[:0], turned[:0]), (copies_of(catalog, pairs), turned)):
        split = split_with(catalog, copies, seed=seed)
        other = split_with(mixed, others, seed=seed)["split"]
        assert other.sort_index().equals(split["split"])
        assert_frame_equal(split_with(split, others, seed=seed + 1), split)


@few_examples
@given(photos, pairs, fractions, seeds)
def test_views_and_copies_go_together_and_named_splits_are_kept(rows, pairs, fractions, seed):
    catalog = make(rows)
    copies = copies_of(catalog, pairs)
    split = split_with(catalog, copies, fractions=fractions, seed=seed)
    assert_frame_equal(split.assign(split=catalog["split"]), make(rows))
    product = catalog.set_index("image_id")["product_id"]
    groups = DisjointSet(product)
    for pair in copies[["image_id", "other_id"]].to_numpy():
        groups.merge(*product[pair])
    for group in groups.subsets():
        views = split["split"][catalog["product_id"].isin(group)]
        named = catalog["split"][views.index].dropna()
        if group & {*product[[*copies["image_id"], *copies["other_id"]]]}:
            named = named.iloc[named.map(SPLITS.index).argsort(kind="stable")]
        else:
            assert views[named.index].equals(named)
            views = views.drop(named.index)
        assert len({*views}) < 2
        assert {*views} <= ({*named.head(1)} or {*SPLITS})


def test_the_seed_decides_and_later_products_are_shared_out_among_themselves():
    first, *others = (split_by_product(SHOES[:40], seed=seed) for seed in (0, 1, 2))
    assert len({tuple(split["split"]) for split in (first, *others)}) == 3
    both = split_by_product(pd.concat([first, SHOES[40:]]), seed=9)
    assert_frame_equal(both[:40], first)
    assert counts(both[40:]) == [14, 3, 3]


@pytest.mark.parametrize("other", ["validation", "test"])
def test_the_one_other_side_becomes_the_test_and_a_tenth_of_train_the_validation(other):
    train = [(number, "cup" if number % 2 else "hat", "train") for number in range(40)] * 2
    catalog = make([*train, (40, "hat", other), (41, "hat", other), (42, "hat", None)])
    split = three_splits(catalog)
    assert counts(split[:80:2]) == counts(split[1:80:2]) == [18, 2, 0]
    assert split["split"][80:].tolist() == ["test", "test", None]
    assert_frame_equal(three_splits(catalog[::-1])[::-1], split)
    assert_frame_equal(three_splits(split), split)


def test_one_side_alone_is_split_anew_and_all_else_stays():
    assert counts(three_splits(SHOES[:20].assign(split="train"))) == [14, 3, 3]
    three = make([(place, "hat", side) for place, side in enumerate(SPLITS)])
    for catalog in (three, SHOES, three[1:]):
        assert_frame_equal(three_splits(catalog), catalog)


# --- Classes to learn


def labelled(train, test=(), validation=()):
    sides = {"train": train, "test": test, "validation": validation}
    rows = [(label, side) for side, labels in sides.items() for label in labels]
    return pd.DataFrame(rows, columns=["label", "split"])


def test_the_labels_are_those_of_the_train_photos_sorted():
    catalog = labelled(["pen", "cup", None, "pen"], test=["cup"], validation=["shoe"])
    assert label_names(catalog) == ["cup", "pen"]
    assert label_names(catalog, splits=("train", "test")) == ["cup", "pen"]


@pytest.mark.parametrize(
    ("catalog", "told"),
    [
        (labelled([], test=["cup", "pen"]), r"photos show \[\]\. Put the photos"),
        (labelled(["cup", "cup", None], test=["cup"]), r"photos show \['cup'\].*01_data"),
        (labelled(["Shoe", "hat"], test=["shoe"]), "No test photo .*'Shoe', 'hat'.* same name"),
        (labelled(["cup", "pen"]), "No test photo shows a class .* three products at"),
    ],
)
def test_too_few_classes_are_refused_with_which_they_are_and_what_to_do(catalog, told):
    with pytest.raises(TooFewLabelsError, match=told):
        label_names(catalog, splits=("train", "test"))
    assert issubclass(TooFewLabelsError, ValueError)


def test_photos_of_rare_classes_count_more_from_ten_to_one_on():
    labels = ["cup"] * 9 + ["hat"]
    assert class_weights(labels, ["cup", "hat"]) is None
    balanced = class_weights(["cup", *labels], ["cup", "hat"])
    assert balanced == pytest.approx({0: 11 / 20, 1: 11 / 2})


def test_variants_go_together_but_do_not_chain():
    """One is a variant of two, two of three, and so on: each joins the first before it alone."""
    catalog = make([(number, "shoe", None) for number in range(200)])
    ids = catalog["image_id"]
    chain = pd.DataFrame({"image_id": ids[:-1].to_numpy(), "other_id": ids[1:].to_numpy()})
    split = split_with(catalog, chain.assign(verdict="variant"))["split"]
    assert set(split) == set(SPLITS)
    assert (split[:-1].to_numpy() == split[1:].to_numpy()).mean() > 0.5
    star = chain.assign(image_id=ids[0], verdict="variant")
    assert split_with(catalog, star)["split"].nunique() == 1
    turned = chain.rename(columns={"image_id": "other_id", "other_id": "image_id"})[::-1]
    mixed = split_with(catalog[::-1], turned.assign(verdict="variant"))["split"]
    assert mixed.sort_index().equals(split)
