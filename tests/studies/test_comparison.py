"""Several ways to rank, side by side."""

import numpy as np
import pandas as pd
import pytest

from lookalike.evaluation import Ranking, confidence_interval, paired_change, precision_at_k, rank
from lookalike.studies.comparison import FINE, compare


def make_catalog(n):
    catalog = pd.DataFrame({"image_id": [f"{i}" for i in range(n)]})
    catalog["product_id"] = [f"p{i // 2}" for i in range(n)]
    catalog["label"] = [f"label {i // 2 % 3}" for i in range(n)]
    catalog["split"] = ["train" if i // 2 % 4 else "test" for i in range(n)]
    return catalog


def by_counts(counts, k=10, labels=None, products=None):
    """A ranking of queries of which so many of the first k results are relevant."""
    count = len(counts)
    return Ranking(
        queries=np.arange(count),
        results=np.tile(np.arange(k), (count, 1)),
        scores=np.full((count, k), 0.5, np.float32),
        relevant=np.arange(k) < np.array(counts)[:, None],
        n_relevant=np.full(count, 9),
        n_gallery=np.full(count, 20),
        labels=np.array(["a"] * count if labels is None else labels),
        products=np.arange(count) if products is None else np.array(products),
    )


def test_a_change_is_judged_query_by_query():
    products = np.repeat(np.arange(30), 3)
    before = np.random.default_rng(0).integers(0, 9, 90)  # far apart from each other
    rankings = {"before": by_counts(before, products=products)}
    rankings["after"] = by_counts(before + 1, products=products)
    table = compare(rankings)
    # Apart, the two are not told apart.
    assert table.loc["after", "low"] < table.loc["before", "high"]
    changes = ["change", "change low", "change high"]
    assert table.loc["after", changes].tolist() == pytest.approx([0.1] * 3)
    assert table.loc["before", changes].isna().all()
    assert table["verdict"].tolist() == ["", "better"]
    np.testing.assert_allclose(table["value"], [before.mean() / 10, before.mean() / 10 + 0.1])
    np.testing.assert_allclose(table["chance"], 9 / 20)
    ends = confidence_interval(before / 10, products)
    assert table.loc["before", ["low", "high"]].tolist() == pytest.approx(ends)
    turned = compare(rankings, reference="after")
    assert turned["verdict"].to_dict() == {"before": "worse", "after": ""}
    assert paired_change(before + 1.0, before, products) == pytest.approx((1, 1, 1))


def test_each_of_several_changes_has_its_share_of_the_doubt():
    random = np.random.default_rng(0)
    products = np.repeat(np.arange(30), 3)
    rankings = {name: by_counts(random.integers(0, 11, 90), products=products) for name in "abcdef"}
    change = precision_at_k(rankings["c"].relevant, 10) - precision_at_k(rankings["a"].relevant, 10)
    for names, level in {"ac": 0.95, "abc": 0.975, "abcdef": 0.99}.items():
        table = compare({name: rankings[name] for name in names})
        expected = confidence_interval(change, products, level=level, n_resamples=FINE)
        assert table.loc["c", ["change low", "change high"]].tolist() == pytest.approx(expected)


# In each product one view gains what another loses; in floating point 0.1 - 0.1 may leave 3e-17.
CANCEL = [0, 0, 3] * 8, [0, 1, 2] * 8


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ([5] * 24, [5] * 24, "not told apart"),
        (*CANCEL, "not told apart"),
        (*CANCEL[::-1], "not told apart"),
        ([1] * 3, [9] * 3, "too few products"),
    ],
)
def test_what_cannot_be_told_apart_is_said(one, other, verdict):
    products = np.repeat(np.arange(8), 3)[: len(one)]
    ways = {"one": by_counts(one, products=products), "other": by_counts(other, products=products)}
    assert compare(ways)["verdict"]["other"] == verdict


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"queries": np.arange(20)}, "queries"),
        ({"by": "image_id"}, "labels"),
        ({"gallery_split": "train"}, "n_gallery"),
    ],
)
def test_rankings_of_other_queries_are_not_compared(change, what):
    vectors, catalog = np.random.default_rng(0).normal(size=(60, 6)), make_catalog(60)
    rankings = {"all": rank(vectors, catalog, 5), "other": rank(vectors, catalog, 5, **change)}
    with pytest.raises(ValueError, match=f"'other' is not of the same {what} as 'all'"):
        compare(rankings, 5)


def test_guessing_among_fewer_photos_than_k_misses_the_rest():
    # Of three others that are all alike, a guess of ten finds three.
    four = pd.DataFrame({"product_id": range(4), "label": "a"})
    alone = rank(np.eye(4), four, 10)
    assert compare({"alone": alone}, 10)["chance"].tolist() == pytest.approx([0.3])
