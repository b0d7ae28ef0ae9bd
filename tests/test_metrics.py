import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    ndcg_score,
    precision_score,
    recall_score,
)

from lookalike.metrics import (
    average_precision_at_k,
    average_similarity_at_k,
    chance_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    overlap_at_k,
    precision_at_k,
    r_precision,
    recall_at_k,
    reciprocal_rank_at_k,
)
from lookalike.rankings import Ranking, rank

NAN = np.nan


def precision(ranking, k):
    return precision_at_k(ranking.relevant, k)


def make_ranking(orders, depth, scores=None, results=None, labels=None):
    """A ranking cut at `depth`; of each query, which of its whole gallery are relevant, best first."""
    padded = np.array([(list(order) + [False] * depth)[:depth] for order in orders], bool).reshape(
        -1, depth
    )
    there = np.arange(depth) < np.array([len(order) for order in orders])[:, None]
    count = len(orders)
    return Ranking(
        queries=np.arange(count),
        results=np.where(there, np.arange(depth), -1) if results is None else np.array(results),
        scores=np.where(there, 0.5, -np.inf).astype(np.float32)
        if scores is None
        else np.array(scores, np.float32),
        relevant=padded,
        n_relevant=np.array([sum(order) for order in orders]),
        n_gallery=np.array([len(order) for order in orders]),
        labels=np.array(["a"] * count if labels is None else labels),
        products=np.arange(count),
    )


# What each query finds, best first; ranks 1 to 4 are computed.
HAND = make_ranking(
    [
        [1, 1, 1, 0, 0, 0],  # perfect
        [1, 0, 1, 0, 0, 1],  # three relevant, two found
        [0, 0, 0, 1],  # the last rank
        [0, 0, 0, 0, 1, 1],  # two relevant, none found
        [0, 0, 0, 0, 0],  # none exist
        [1, 1],  # the gallery exhausted, all right
        [0, 1, 0],  # the gallery exhausted
        [1, 1, 1, 1, 1, 1],  # more relevant than ranks
        [],  # an empty gallery
    ],
    4,
)
EXPECTED = {
    (precision, 4): [3 / 4, 2 / 4, 1 / 4, 0, 0, 2 / 4, 1 / 4, 1, 0],
    (precision, 1): [1, 1, 0, 0, 0, 1, 0, 1, 0],
    (recall_at_k, 4): [1, 2 / 3, 1, 0, NAN, 1, 1, 4 / 6, NAN],
    (recall_at_k, 2): [2 / 3, 1 / 3, 0, 0, NAN, 1, 1, 2 / 6, NAN],
    (hit_rate_at_k, 4): [1, 1, 1, 0, 0, 1, 1, 1, 0],
    (hit_rate_at_k, 3): [1, 1, 0, 0, 0, 1, 1, 1, 0],
    (average_precision_at_k, 4): [1, (1 + 2 / 3) / 3, 1 / 4, 0, NAN, 1, 1 / 2, 1, NAN],
    (average_precision_at_k, 2): [1, 1 / 2, 0, 0, NAN, 1, 1 / 2, 1, NAN],
    (reciprocal_rank_at_k, 4): [1, 1, 1 / 4, 0, NAN, 1, 1 / 2, 1, NAN],
    (reciprocal_rank_at_k, 3): [1, 1, 0, 0, NAN, 1, 1 / 2, 1, NAN],
    (ndcg_at_k, 1): [1, 1, 0, 0, NAN, 1, 0, 1, NAN],
    (ndcg_at_k, 4): [
        1,
        (1 + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2),
        1 / math.log2(5),
        0,
        NAN,
        1,
        1 / math.log2(3),
        1,
        NAN,
    ],
    (chance_at_k, 4): [3 / 6, 3 / 6, 1 / 4, 2 / 6, 0, 2 / 4, 1 / 4, 1, 0],
    (chance_at_k, 12): [3 / 12, 3 / 12, 1 / 12, 2 / 12, 0, 2 / 12, 1 / 12, 6 / 12, 0],
}


@pytest.mark.parametrize(
    ("metric", "k"), EXPECTED, ids=lambda value: getattr(value, "__name__", value)
)
def test_each_metric_has_the_value_computed_by_hand(metric, k):
    np.testing.assert_allclose(metric(HAND, k), EXPECTED[metric, k])


def test_average_precision_at_k_is_divided_by_what_is_asked_for():
    values = {
        of: average_precision_at_k(HAND, 4, of=of)[:8] for of in ("possible", "found", "relevant")
    }
    total = np.array([3, 1 + 2 / 3, 1 / 4, 0, NAN, 2, 1 / 2, 4])
    np.testing.assert_allclose(values["possible"], total / [3, 3, 1, 2, 1, 2, 1, 4])
    np.testing.assert_allclose(values["found"], total / [3, 2, 1, 1, 1, 2, 1, 4])
    np.testing.assert_allclose(values["relevant"], total / [3, 3, 1, 2, 1, 2, 1, 6])
    with pytest.raises(ValueError, match="possible, found, relevant, not 'retrieved'"):
        average_precision_at_k(HAND, 4, of="retrieved")


def test_r_precision_looks_at_as_many_results_as_are_relevant():
    deep = make_ranking([[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0], [1], []], 3)
    np.testing.assert_allclose(r_precision(deep), [1, 1 / 2, 0, NAN, 1, NAN])
    with pytest.raises(ValueError, match="needs 6 ranks, and 4 were computed"):
        r_precision(HAND)


def test_average_similarity_counts_what_was_found_alone():
    scores = [[0.9, 0.7, 0.5], [0.5, 0.25, -np.inf], [-0.5, -0.25, -np.inf], [-np.inf] * 3]
    ranking = make_ranking([[0, 0, 1], [0, 1], [1, 1], []], 3, scores=scores)
    np.testing.assert_allclose(
        average_similarity_at_k(ranking, 3), [0.7, 0.375, -0.375, NAN], rtol=1e-6
    )
    np.testing.assert_allclose(
        average_similarity_at_k(ranking, 1), [0.9, 0.5, -0.5, NAN], rtol=1e-6
    )
    # Distances are missing the other way round.
    distances = make_ranking([[0, 0], [1]], 2, scores=[[1, 3], [2, np.inf]])
    np.testing.assert_allclose(average_similarity_at_k(distances, 2), [2, 2])


def test_overlap_is_the_share_that_both_found_in_whatever_order():
    gallery = [[0] * 5, [0] * 5, [0] * 5, [0] * 2, []]
    one = make_ranking(gallery, 3, results=[[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, -1], [-1] * 3])
    other = make_ranking(
        gallery, 3, results=[[2, 0, 1], [3, 4, 1], [3, 4, 5], [1, 0, -1], [-1] * 3]
    )
    np.testing.assert_allclose(overlap_at_k(one, other, 3), [1, 1 / 3, 0, 1, NAN])
    np.testing.assert_allclose(overlap_at_k(one, other, 1), [0, 0, 0, 0, NAN])
    np.testing.assert_allclose(overlap_at_k(one, other, 2), [1 / 2, 0, 0, 1, NAN])
    np.testing.assert_allclose(overlap_at_k(one, one, 3), [1, 1, 1, 1, NAN])


def test_overlap_of_other_queries_or_of_another_column_is_refused():
    one, other = (
        make_ranking([[1, 0]] * 3, 2),
        make_ranking([[1, 0]] * 3, 2, labels=["a", "b", "a"]),
    )
    for wrong in (other, make_ranking([[1, 0]] * 2, 2)):
        with pytest.raises(ValueError, match="not of the same queries"):
            overlap_at_k(one, wrong, 2)


@pytest.mark.parametrize(
    "metric",
    [
        precision,
        recall_at_k,
        hit_rate_at_k,
        average_precision_at_k,
        ndcg_at_k,
        reciprocal_rank_at_k,
        average_similarity_at_k,
        lambda ranking, k: overlap_at_k(ranking, make_ranking([[1] * 9] * 9, 9), k),
    ],
)
def test_k_beyond_what_was_ranked_is_refused(metric):
    for k in (-1, 0, 5, 10**12, 2.5, 2.0, "2", None, NAN):
        with pytest.raises(
            ValueError, match=f"between 1 and 4, the number of ranks computed, not {k!r}"
        ):
            metric(HAND, k)


@pytest.mark.parametrize("k", [0, -1, 2.5, "2", None, NAN])
def test_chance_is_not_told_of_k_that_is_none(k):
    with pytest.raises(ValueError, match=f"k must be .*, not {k!r}"):
        chance_at_k(HAND, k)


# --- Against a slow second way, and scikit-learn
# ----------------------------------------------------------------------


def slow_average_precision(order, k, of):
    if not any(order):
        return NAN
    at = [rank for rank, good in enumerate(order[:k], 1) if good]
    total = sum(number / rank for number, rank in enumerate(at, 1))
    return (
        total
        / {"possible": min(sum(order), k), "found": max(len(at), 1), "relevant": sum(order)}[of]
    )


def slow_gain(order, k):
    return sum(1 / math.log2(rank + 1) for rank, good in enumerate(order[:k], 1) if good)


def slow_reciprocal(order):
    return next((1 / rank for rank, good in enumerate(order, 1) if good), 0)


SLOW = {
    precision: lambda order, k: sum(order[:k]) / k,
    recall_at_k: lambda order, k: sum(order[:k]) / sum(order) if any(order) else NAN,
    hit_rate_at_k: lambda order, k: float(any(order[:k])),
    ndcg_at_k: lambda order, k: (
        slow_gain(order, k) / slow_gain(sorted(order)[::-1], k) if any(order) else NAN
    ),
    reciprocal_rank_at_k: lambda order, k: slow_reciprocal(order[:k]) if any(order) else NAN,
}
ORDERS = st.lists(st.lists(st.booleans(), max_size=12), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(ORDERS, st.integers(1, 14), st.data())
def test_every_metric_agrees_with_counting_result_by_result(orders, depth, data):
    k = data.draw(st.integers(1, depth))
    ranking = make_ranking(orders, depth)
    for metric, slow in SLOW.items():
        np.testing.assert_allclose(
            metric(ranking, k), [slow(order, k) for order in orders], err_msg=metric.__name__
        )
    for of in ("possible", "found", "relevant"):
        expected = [slow_average_precision(order, k, of) for order in orders]
        np.testing.assert_allclose(average_precision_at_k(ranking, k, of=of), expected)
    if depth >= max(map(sum, orders)):
        expected = [
            sum(order[: sum(order)]) / sum(order) if any(order) else NAN for order in orders
        ]
        np.testing.assert_allclose(r_precision(ranking), expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=15).filter(any), st.data())
def test_every_metric_that_scikit_learn_has_agrees_with_it(order, data):
    k, order = data.draw(st.integers(1, len(order))), np.array(order)
    scores, shown = -np.arange(len(order)), np.arange(len(order)) < k
    ranking = make_ranking([order], len(order))
    assert precision(ranking, k)[0] == pytest.approx(precision_score(order, shown))
    assert recall_at_k(ranking, k)[0] == pytest.approx(recall_score(order, shown))
    assert ndcg_at_k(ranking, k)[0] == pytest.approx(ndcg_score([order], [scores], k=k))
    everything = average_precision_at_k(ranking, len(order), of="relevant")[0]
    assert everything == pytest.approx(average_precision_score(order, scores))
    assert everything == pytest.approx(label_ranking_average_precision_score([order], [scores]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 15))
def test_chance_is_the_mean_precision_of_all_orders(n_relevant, n_wrong, k):
    # Each place holds each image equally often: what is expected of one is expected of all that
    # exist.
    n_gallery = n_relevant + n_wrong
    expected = min(k, n_gallery) * n_relevant / n_gallery / k if n_gallery else 0
    ranking = make_ranking([[True] * n_relevant + [False] * n_wrong], 1)
    assert chance_at_k(ranking, k)[0] == pytest.approx(expected)


def test_random_vectors_score_the_level_of_chance():
    labels = np.repeat(["a", "b", "c"], [600, 300, 100])
    catalog = pd.DataFrame({"product_id": np.arange(1000) // 2, "label": labels})
    ranking = rank(np.random.default_rng(0).normal(size=(1000, 16)).astype(np.float32), catalog, 10)
    for label in "abc":
        asked = ranking.labels == label
        expected = chance_at_k(ranking, 10)[asked].mean()
        assert precision(ranking, 10)[asked].mean() == pytest.approx(expected, abs=0.03)


def test_perfect_vectors_score_one_and_vectors_told_to_mislead_score_zero():
    catalog = pd.DataFrame({"product_id": np.arange(60) // 2, "label": np.arange(60) // 2 % 3})
    perfect = rank(np.eye(3, dtype=np.float32)[catalog["label"]], catalog, 18)
    ones = (
        precision,
        recall_at_k,
        hit_rate_at_k,
        average_precision_at_k,
        ndcg_at_k,
        average_similarity_at_k,
    )
    for metric in (*ones, reciprocal_rank_at_k):
        np.testing.assert_array_equal(metric(perfect, 18), 1)
    np.testing.assert_array_equal(r_precision(perfect), 1)
    blind = rank(np.ones((60, 3), np.float32), catalog, 18, pessimistic=True)
    for metric in (precision, recall_at_k, hit_rate_at_k, average_precision_at_k, ndcg_at_k):
        np.testing.assert_array_equal(metric(blind, 18), 0)
