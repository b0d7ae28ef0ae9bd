import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from lookalike import search
from lookalike.gallery import METRICS
from lookalike.search import top_k


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(1, 7, 3, 2), (300, 500, 16, 10), (5, 40_000, 8, 12)])
def test_agrees_with_scikit_learn(metric, shape):
    n_queries, n_gallery, dim, k = shape
    random = np.random.default_rng(0)
    queries = random.normal(size=(n_queries, dim)).astype(np.float32)
    gallery = random.normal(size=(n_gallery, dim)).astype(np.float32)
    indices, scores = top_k(queries, gallery, k, metric=metric)
    reference = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(gallery.astype(np.float64))
    distances, expected = reference.kneighbors(queries.astype(np.float64))
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(1 - scores if metric == "cosine" else scores, distances, atol=2e-6)
    assert indices.dtype == np.int64
    assert scores.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_small_case_agrees_with_sorting_everything(data):
    """Whole numbers, many ties, zero vectors, k beyond the gallery, exclusions: against a plain sort."""
    n_queries, n_gallery = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 60))
    dim, k = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 30))
    metric = data.draw(st.sampled_from(METRICS))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    queries, gallery = random.integers(-1, 2, (n_queries, dim)), random.integers(-1, 2, (n_gallery, dim))
    exclude = [np.flatnonzero(random.random(n_gallery) < 0.2) for _ in range(n_queries)]
    indices, scores = top_k(queries, gallery, k, metric=metric, exclude=exclude)
    for row, query in enumerate(queries):
        if metric == "cosine":
            lengths = np.linalg.norm(gallery, axis=1) * np.linalg.norm(query)
            goodness = np.divide(gallery @ query, lengths, out=np.zeros(n_gallery), where=lengths > 0).round(6)
        else:
            goodness = -np.linalg.norm(gallery - query, axis=1).round(6)
        allowed = np.setdiff1d(np.arange(n_gallery), exclude[row])
        expected = allowed[np.argsort(-goodness[allowed], kind="stable")][:k]
        np.testing.assert_array_equal(indices[row, : len(expected)], expected)
        assert (indices[row, len(expected) :] == -1).all()
        np.testing.assert_allclose(
            scores[row, : len(expected)],
            np.abs(goodness[expected]) if metric == "euclidean" else goodness[expected],
            atol=1e-5,
        )


@pytest.mark.parametrize("metric", METRICS)
def test_ties_go_to_the_lower_index_across_blocks(metric, monkeypatch):
    monkeypatch.setattr(search, "GALLERY_BLOCK", 64)
    gallery = np.tile(np.random.default_rng(0).normal(size=48).astype(np.float32), (1000, 1))
    indices, scores = top_k(gallery[:3], gallery, 5, metric=metric)
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3, 4]] * 3)
    assert np.unique(scores).size == 1
    best = gallery.copy()
    best[:900] *= -1
    np.testing.assert_array_equal(top_k(gallery[0], best, 3, metric=metric)[0], [[900, 901, 902]])


def test_zero_vectors_have_cosine_zero_and_distance_zero_to_themselves():
    gallery = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    indices, scores = top_k(np.zeros(2), gallery, 3)
    np.testing.assert_array_equal(indices, [[0, 1, 2]])
    np.testing.assert_array_equal(scores, [[0, 0, 0]])
    np.testing.assert_array_equal(top_k(gallery[1], gallery, 3)[0], [[1, 0, 2]])
    assert top_k(np.zeros(2), gallery, 1, metric="euclidean")[1] == 0


def test_a_vector_is_at_distance_zero_from_itself_however_long():
    gallery = 1000 + np.random.default_rng(0).random((200, 64)).astype(np.float32)
    indices, scores = top_k(gallery, gallery, 1, metric="euclidean")
    np.testing.assert_array_equal(indices[:, 0], np.arange(200))
    assert (scores == 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_k_beyond_the_gallery_and_an_empty_gallery_are_filled_with_minus_one(metric):
    worst = -np.inf if metric == "cosine" else np.inf
    indices, scores = top_k(np.ones((2, 3)), np.ones((2, 3)), 4, metric=metric)
    np.testing.assert_array_equal(indices, [[0, 1, -1, -1]] * 2)
    np.testing.assert_array_equal(scores[:, 2:], worst)
    indices, scores = top_k(np.ones((2, 3)), np.empty((0, 3)), 2, metric=metric)
    assert (indices == -1).all()
    assert (scores == worst).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_row(bad):
    rows = np.ones((5, 4), np.float32)
    rows[3, 2] = bad
    with pytest.raises(ValueError, match="gallery vector in row 3"):
        top_k(np.ones(4), rows, 1)
    with pytest.raises(ValueError, match="query vector in row 3"):
        top_k(rows, np.ones((2, 4)), 1)


def test_large_finite_numbers_are_not_refused():
    gallery = np.array([[3e38] * 4, [2e38] * 4], np.float32)
    assert top_k(np.full(4, 1e30), gallery, 1)[1] == 1
    np.testing.assert_array_equal(top_k(gallery, gallery, 1, metric="euclidean")[0], [[0], [1]])


@pytest.mark.parametrize("metric", METRICS)
def test_any_float_type_and_layout_gives_the_same(metric):
    random = np.random.default_rng(0)
    gallery = random.integers(-8, 9, (300, 12)).astype(np.float32)
    expected = top_k(gallery[:20], gallery, 7, metric=metric)
    read_only = gallery.copy()
    read_only.setflags(write=False)
    for same in (
        gallery.astype(np.float16),
        gallery.astype(np.float64),
        np.asfortranarray(gallery),
        read_only,
        gallery[::1],
    ):
        for ours, theirs in zip(top_k(same[:20], same, 7, metric=metric), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match=r"\[1, 3\].*\[2, 4\]"):
        top_k(np.ones(3), np.ones((2, 4)), 1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        top_k(np.ones(3), np.ones((2, 3)), 0)
    with pytest.raises(ValueError, match="cosine, euclidean"):
        top_k(np.ones(3), np.ones((2, 3)), 1, metric="manhattan")
    with pytest.raises(ValueError, match="one for each"):
        top_k(np.ones((2, 3)), np.ones((2, 3)), 1, exclude=[[0]])


def brute_force(queries, gallery, k, metric):
    """Every score in float64, rounded to float32, sorted with ties by lower index."""
    queries, gallery = queries.astype(np.float64), gallery.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(gallery, axis=1)
        badness = -np.stack([(gallery * query).sum(axis=1) for query in queries]) / lengths
    else:
        badness = np.stack([np.sqrt(((gallery - query) ** 2).sum(axis=1)) for query in queries])
    return np.argsort(badness.astype(np.float32), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", ["outlier", "huge outlier", "far clusters", "nearly parallel", "copies"])
def test_nothing_is_lost_to_rounding(metric, case):
    random = np.random.default_rng(0)
    gallery = random.normal(size=(2000, 32))
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    if case == "outlier":
        gallery[7] *= 1000
    elif case == "huge outlier":
        gallery[7] *= 1e25
    elif case == "far clusters":
        gallery[::2] += 1000
    elif case == "nearly parallel":
        gallery = 1 + 1e-3 * gallery
    elif case == "copies":
        gallery = np.repeat(gallery[:40], 50, axis=0) + 1e-3 * random.normal(size=(2000, 32))
    gallery = gallery.astype(np.float32)
    queries = gallery[::40]
    np.testing.assert_array_equal(
        top_k(queries, gallery, 10, metric=metric)[0], brute_force(queries, gallery, 10, metric)
    )
