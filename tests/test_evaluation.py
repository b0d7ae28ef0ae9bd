import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score

from lookalike.evaluation import (
    Ranking,
    average_precision_at_k,
    average_similarity_at_k,
    chance,
    confidence_interval,
    evaluate,
    hit_rate_at_k,
    precision_at_k,
    rank,
    recall_at_k,
)

# Three queries, four ranks. Two of three relevant ones found at ranks 1 and 3; one of one at rank 4; none exist.
HAND = Ranking(
    relevant=np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], bool),
    scores=np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.2], [0.1, 0.1, -np.inf, -np.inf]], np.float32),
    n_relevant=np.array([3, 1, 0]),
    n_gallery=np.array([10, 10, 10]),
)


def test_hand_computed_values():
    np.testing.assert_allclose(precision_at_k(HAND, 1), [1, 0, 0])
    np.testing.assert_allclose(precision_at_k(HAND, 4), [2 / 4, 1 / 4, 0])
    np.testing.assert_allclose(recall_at_k(HAND, 3), [2 / 3, 0, np.nan])
    np.testing.assert_allclose(recall_at_k(HAND, 4), [2 / 3, 1, np.nan])
    np.testing.assert_allclose(hit_rate_at_k(HAND, 3), [1, 0, 0])
    np.testing.assert_allclose(hit_rate_at_k(HAND, 4), [1, 1, 0])
    np.testing.assert_allclose(average_precision_at_k(HAND, 4), [(1 / 1 + 2 / 3) / 3, (1 / 4) / 1, np.nan])
    np.testing.assert_allclose(average_precision_at_k(HAND, 2), [(1 / 1) / 2, 0, np.nan])
    np.testing.assert_allclose(average_similarity_at_k(HAND, 4), [0.75, 0.35, 0.1], rtol=1e-6)
    assert chance(HAND, 4) == pytest.approx((0.3 + 0.1 + 0) / 3)
    assert chance(HAND, 20) == pytest.approx((3 + 1 + 0) / 20 / 3)  # half of twenty results cannot exist


def test_k_beyond_what_was_ranked_is_refused():
    for k in (0, 5):
        with pytest.raises(ValueError, match="between 1 and 4"):
            precision_at_k(HAND, k)


def make_case(n=60, dim=6, views=2, seed=0):
    random = np.random.default_rng(seed)
    catalog = pd.DataFrame({"image_id": [f"{i}" for i in range(n)], "product_id": [f"p{i // views}" for i in range(n)]})
    catalog["label"] = [f"label {i // views % 3}" for i in range(n)]
    catalog["split"] = ["train" if i // views % 4 else "test" for i in range(n)]
    return random.normal(size=(n, dim)).astype(np.float32), catalog


def test_perfect_vectors_score_one_and_opposite_ones_zero():
    _, catalog = make_case()
    vectors = np.eye(3, dtype=np.float32)[pd.factorize(catalog["label"])[0]]
    scores = evaluate(rank(vectors, catalog, 10))
    assert (scores[["Precision@k", "hit rate@k", "MAP@k", "average similarity"]] == 1).all(axis=None)
    worst = catalog.assign(
        label=[f"{i // 2}" for i in range(60)]
    )  # a label a product: nothing relevant but its own views
    ranking = rank(vectors, worst, 10)
    assert not ranking.relevant.any()
    assert (ranking.n_relevant == 0).all()
    assert np.isnan(recall_at_k(ranking, 10)).all()


def test_leave_one_out_leaves_out_the_own_product_and_counts_what_is_left():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 60)
    assert ranking.relevant.shape == (60, 60)
    np.testing.assert_array_equal(ranking.n_gallery, 58)
    np.testing.assert_array_equal(ranking.n_relevant, 18)
    np.testing.assert_array_equal(ranking.relevant.sum(axis=1), 18)
    np.testing.assert_array_equal(np.isfinite(ranking.scores).sum(axis=1), 58)
    assert chance(ranking, 10) == pytest.approx(18 / 58)
    np.testing.assert_allclose(recall_at_k(ranking, 60), 1)


def test_random_vectors_score_the_level_of_chance():
    vectors, catalog = make_case(n=3000, dim=16)
    ranking = rank(vectors, catalog, 10)
    assert precision_at_k(ranking, 10).mean() == pytest.approx(chance(ranking, 10), abs=0.02)


def test_splits_query_the_one_in_the_other():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 10, gallery_split="train", query_split="test")
    is_query = (catalog["split"] == "test").to_numpy()
    assert len(ranking.relevant) == is_query.sum()
    np.testing.assert_array_equal(ranking.n_gallery, (~is_query).sum())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-(unit[is_query] @ unit[~is_query].T), axis=1)[:, :10]
    labels = catalog["label"].to_numpy()
    np.testing.assert_array_equal(ranking.relevant, labels[~is_query][order] == labels[is_query][:, None])


def test_average_precision_agrees_with_scikit_learn_over_the_whole_gallery():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 58)
    expected = [
        average_precision_score(row, score) for row, score in zip(ranking.relevant, ranking.scores, strict=True)
    ]
    np.testing.assert_allclose(average_precision_at_k(ranking, 58), expected, rtol=1e-6)


def test_images_without_a_label_are_neither_queries_nor_gallery():
    vectors, catalog = make_case()
    catalog.loc[:9, "label"] = None
    ranking = rank(vectors, catalog, 5)
    assert len(ranking.relevant) == 50
    np.testing.assert_array_equal(ranking.n_gallery, 48)


def test_misuse_is_refused():
    vectors, catalog = make_case()
    with pytest.raises(ValueError, match="59 vectors and 60 rows"):
        rank(vectors[1:], catalog)
    with pytest.raises(ValueError, match="both"):
        rank(vectors, catalog, query_split="test")
    with pytest.raises(ValueError, match=r"0 queries \(split validation\)"):
        rank(vectors, catalog, gallery_split="train", query_split="validation")
    with pytest.raises(ValueError, match="column 'label'"):
        rank(vectors, catalog.assign(label=None))


def test_evaluate_has_a_row_for_each_k():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 10)
    table = evaluate(ranking, (1, 3))
    assert table.index.tolist() == [1, 3]
    assert table.loc[3, "Precision@k"] == pytest.approx(precision_at_k(ranking, 3).mean())
    assert table["chance"].tolist() == [chance(ranking, 1), chance(ranking, 3)]
    assert "average distance" in evaluate(rank(vectors, catalog, 3, metric="euclidean"), (3,))


def test_evaluate_where_nothing_is_relevant_tells_so_without_a_warning(recwarn):
    vectors, catalog = make_case()
    table = evaluate(rank(vectors, catalog.assign(label=catalog["product_id"]), 3), (3,))
    assert table.loc[3, ["Precision@k", "chance"]].tolist() == [0, 0]
    assert np.isnan(table.loc[3, "MAP@k"])
    assert not recwarn.list


def test_a_perfect_encoder_on_a_tiny_catalogue_is_above_chance():
    catalog = pd.DataFrame({"product_id": range(10), "label": ["cup"] * 5 + ["plate"] * 5})
    vectors = np.eye(2, dtype=np.float32)[[0] * 5 + [1] * 5]
    scores = evaluate(rank(vectors, catalog, 10), (10,))
    assert scores.loc[10, "Precision@k"] == pytest.approx(0.4)  # four others of its kind exist
    assert scores.loc[10, "chance"] == pytest.approx(0.4)  # and ten results show all of the nine photos


# --- Confidence intervals ------------------------------------------------------------------------------------------


def test_values_that_are_all_alike_have_no_interval_around_them():
    assert confidence_interval(np.full(20, 0.4)) == pytest.approx((0.4, 0.4))
    assert confidence_interval(np.array([0.4])) == pytest.approx((0.4, 0.4))


def test_an_interval_of_95_percent_covers_the_truth_about_that_often():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = confidence_interval(random.random(100) < 0.3, n_resamples=500, seed=trial)
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 198


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(1).beta(2, 1, 80)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2))
    ours = confidence_interval(values, n_resamples=20_000)
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.003)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2), confidence_level=0.8
    )
    np.testing.assert_allclose(
        confidence_interval(values, n_resamples=20_000, level=0.8), theirs.confidence_interval, atol=0.003
    )


def test_values_that_come_in_groups_tell_less_than_as_many_strangers():
    groups = np.repeat(np.arange(20), 5)
    values = np.repeat(np.random.default_rng(0).random(20), 5)
    low, high = confidence_interval(values)
    low_grouped, high_grouped = confidence_interval(values, groups)
    assert low_grouped < low < values.mean() < high < high_grouped
    assert (high_grouped - low_grouped) / (high - low) == pytest.approx(5**0.5, rel=0.15)
    # Whole groups are drawn, so it is the interval of their means, whatever the groups are called.
    assert (low_grouped, high_grouped) == pytest.approx(confidence_interval(values[::5]))
    assert confidence_interval(values, [f"p{group}" for group in groups]) == pytest.approx((low_grouped, high_grouped))


def test_groups_of_different_size_are_weighed_by_it():
    values, groups = np.array([1.0] * 9 + [0.0]), np.array(["a"] * 9 + ["b"])
    # Of two groups two are drawn: one time in four both b (mean 0), in two one each (0.9), in one both a (1).
    assert confidence_interval(values, groups) == (0, 1)
    assert confidence_interval(values, groups, level=0.4) == pytest.approx((0.9, 0.9))
    assert confidence_interval(values, groups, level=0.6) == pytest.approx((0, 1))


def test_nan_does_not_count_and_nothing_has_no_interval():
    values = np.random.default_rng(0).random(30)
    gaps = np.insert(values, [3, 10, 30], np.nan)
    assert confidence_interval(gaps) == confidence_interval(values)
    groups = np.arange(33) // 3
    assert confidence_interval(gaps, groups) == confidence_interval(gaps[~np.isnan(gaps)], groups[~np.isnan(gaps)])
    for nothing in ([], [np.nan, np.nan]):
        assert np.isnan(confidence_interval(nothing)).all()


def test_an_interval_comes_again_by_its_seed():
    values = np.random.default_rng(0).random(30)
    assert confidence_interval(values, seed=1) == confidence_interval(values, seed=1) != confidence_interval(values)
