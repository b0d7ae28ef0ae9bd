import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from conftest import peak_of
from lookalike import gallery_vectors as gallery_module
from lookalike import similarity
from lookalike.gallery_vectors import METRICS, Gallery
from lookalike.similarity import top_k


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(1, 7, 3, 2), (300, 500, 16, 10), (5, 40_000, 8, 12)])
def test_agrees_with_scikit_learn(metric, shape):
    n_queries, n_gallery, dim, k = shape
    random = np.random.default_rng(0)
    queries = random.normal(size=(n_queries, dim)).astype(np.float32)
    gallery = random.normal(size=(n_gallery, dim)).astype(np.float32)
    indices, scores = top_k(queries, gallery, k, metric=metric)
    reference = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(
        gallery.astype(np.float64)
    )
    distances, expected = reference.kneighbors(queries.astype(np.float64))
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(1 - scores if metric == "cosine" else scores, distances, atol=2e-6)
    assert indices.dtype == np.int64
    assert scores.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_small_case_agrees_with_sorting_everything(data):
    """Whole numbers, many ties, zero vectors, k beyond the gallery, exclusions: against a plain
    sort.
    """
    n_queries, n_gallery = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 60))
    dim, k = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 30))
    metric = data.draw(st.sampled_from(METRICS))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    queries, gallery = (
        random.integers(-1, 2, (n_queries, dim)),
        random.integers(-1, 2, (n_gallery, dim)),
    )
    exclude = [np.flatnonzero(random.random(n_gallery) < 0.2) for _ in range(n_queries)]
    indices, scores = top_k(queries, gallery, k, metric=metric, exclude=exclude)
    for row, query in enumerate(queries):
        if metric == "cosine":
            lengths = np.linalg.norm(gallery, axis=1) * np.linalg.norm(query)
            goodness = np.divide(
                gallery @ query, lengths, out=np.zeros(n_gallery), where=lengths > 0
            ).round(6)
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
    monkeypatch.setattr(similarity, "GALLERY_BLOCK", 64)
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
    with pytest.raises(ValueError, match="cosine, euclidean"):
        top_k(np.ones(3), np.ones((2, 3)), 1, metric="manhattan")
    with pytest.raises(ValueError, match="one for each"):
        top_k(np.ones((2, 3)), np.ones((2, 3)), 1, exclude=[[0]])


def brute_force(queries, gallery, k, metric, exclude=None):
    """Every score in float64, rounded to float32, sorted with ties by lower index."""
    queries, gallery = (
        np.asarray(rows, np.float32).astype(np.float64) for rows in (queries, gallery)
    )
    indices = np.full((len(queries), k), -1)
    scores = np.full((len(queries), k), -np.inf if metric == "cosine" else np.inf, np.float32)
    for row, query in enumerate(queries):
        if metric == "cosine":
            lengths = np.sqrt((gallery**2).sum(axis=1) * (query**2).sum())
            values = ((gallery * query).sum(axis=1) / np.where(lengths == 0, 1, lengths)).clip(
                -1, 1
            )
        else:
            values = np.sqrt(((gallery - query) ** 2).sum(axis=1)).clip(
                max=np.finfo(np.float32).max
            )
        values = values.astype(np.float32)
        allowed = np.arange(len(gallery))
        if exclude is not None:
            allowed = allowed[~np.isin(allowed, exclude[row])]
        order = np.argsort(
            -values[allowed] if metric == "cosine" else values[allowed], kind="stable"
        )[:k]
        indices[row, : len(order)], scores[row, : len(order)] = (
            allowed[order],
            values[allowed[order]],
        )
    return indices, scores


def assert_same(answer, expected):
    for ours, theirs in zip(answer, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "case", ["outlier", "huge outlier", "far clusters", "nearly parallel", "copies"]
)
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
    assert_same(
        top_k(queries, gallery, 10, metric=metric), brute_force(queries, gallery, 10, metric)
    )


def spread(random, kind, count, dim):
    """Vectors of which rounding, overflow or ties make a search hard."""
    rows = random.normal(size=(count, dim))
    if kind == "whole numbers":
        rows = random.integers(-1, 2, (count, dim))
    elif kind == "one row over and over":
        rows = np.repeat(rows[:1], count, axis=0)
    elif kind == "some zero":
        rows *= random.integers(0, 2, (count, 1))
    elif kind == "rows of any size":
        rows *= 10.0 ** random.integers(-40, 38, (count, 1))
    elif kind == "numbers of any size":
        rows *= 10.0 ** random.integers(-40, 38, (count, dim))
    elif kind == "subnormal":
        rows *= 10.0 ** random.integers(-44, -36, (count, 1))
    elif kind == "an outlier":
        rows[random.integers(count)] *= 10.0 ** random.integers(1, 37)
    elif kind == "nearly parallel":
        rows = (1 + 1e-4 * rows) * 10.0 ** random.integers(-44, 3, (count, 1))
    elif kind == "common offset":
        rows += 10.0 ** random.integers(1, 8)
    elif kind == "up to the largest there is":
        rows = random.uniform(-3.4e38, 3.4e38, (count, dim)) * 10.0 ** random.integers(
            -1, 1, (count, 1)
        )
    elif kind == "far clusters":
        rows += 1000 * random.integers(0, 2, (count, 1))
    return rows.astype(np.float32)


KINDS = [
    "normal",
    "whole numbers",
    "one row over and over",
    "some zero",
    "rows of any size",
    "numbers of any size",
    "subnormal",
    "an outlier",
    "nearly parallel",
    "common offset",
    "far clusters",
    "up to the largest there is",
]


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_blocks_of_any_size_and_numbers_of_any_size_agree_with_brute_force(metric, data):
    random = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    dim, n_queries = (
        data.draw(st.sampled_from([1, 2, 7, 33])),
        data.draw(st.sampled_from([1, 3, 40])),
    )
    n_gallery, k = (
        data.draw(st.sampled_from([1, 2, 31, 200])),
        data.draw(st.sampled_from([1, 4, 50])),
    )
    gallery = spread(random, data.draw(st.sampled_from(KINDS)), n_gallery, dim)
    queries = spread(random, data.draw(st.sampled_from(KINDS)), n_queries, dim)
    if data.draw(st.booleans()):
        queries = gallery[random.integers(n_gallery, size=n_queries)]
    exclude = None
    if data.draw(st.booleans()):
        exclude = [
            random.integers(-2, n_gallery + 2, random.integers(n_gallery + 1))
            for _ in range(n_queries)
        ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            similarity, "QUERY_BLOCK", data.draw(st.sampled_from([3, 256]), "QUERY_BLOCK")
        )
        patch.setattr(
            similarity,
            "GALLERY_BLOCK",
            data.draw(st.sampled_from([1, 5, 50, 1 << 16]), "GALLERY_BLOCK"),
        )
        patch.setattr(similarity, "SCORES", data.draw(st.sampled_from([1, 100, 1 << 18]), "SCORES"))
        patch.setattr(similarity, "WIDTH", data.draw(st.sampled_from([1, 3, 32]), "WIDTH"))
        patch.setattr(similarity, "PAIRS", data.draw(st.sampled_from([0, 20, 1 << 18]), "PAIRS"))
        patch.setattr(similarity, "MANY", data.draw(st.sampled_from([1, 1 << 30]), "MANY"))
        answer = top_k(queries, gallery, k, metric=metric, exclude=exclude)
    assert_same(answer, brute_force(queries, gallery, k, metric, exclude))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_numpy_and_tensorflow_give_the_same_answer(metric, kind, monkeypatch):
    random = np.random.default_rng(1)
    gallery = spread(random, kind, 1500, 17)
    queries = np.concatenate([gallery[::50], spread(random, kind, 10, 17)])
    expected = brute_force(queries, gallery, 6, metric)
    for many in (1, 1 << 30):
        monkeypatch.setattr(similarity, "MANY", many)
        assert_same(top_k(queries, gallery, 6, metric=metric), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_the_answer_to_a_query_does_not_depend_on_the_other_queries(metric):
    random = np.random.default_rng(3)
    gallery = spread(random, "normal", 700, 9)
    queries = spread(random, "rows of any size", 50, 9)
    together = top_k(queries, gallery, 4, metric=metric)
    for row, query in enumerate(queries):
        assert_same(
            top_k(query, gallery, 4, metric=metric), [part[row : row + 1] for part in together]
        )


@pytest.mark.parametrize("many", [1, 1 << 30])
def test_a_huge_query_in_the_block_does_not_hide_the_neighbour_of_a_small_one(many, monkeypatch):
    monkeypatch.setattr(similarity, "MANY", many)
    gallery = np.array([[1e6, 0], [-1e6, 0], [0, 999_999.5625], [0, -999_999.5625]], np.float32)
    queries = np.tile(np.array([0.5, 0], np.float32), (40, 1))
    queries[-1, 0] = 1e38
    indices, scores = top_k(queries, gallery, 1, metric="euclidean")
    assert (indices[:-1] == 0).all()
    assert (scores[:-1] == 999_999.5).all()


def test_a_query_in_the_very_middle_of_the_gallery_is_answered():
    gallery = np.array([[300, 0], [-200, 0], [-100, 0]], np.float32)
    assert_same(
        top_k(np.zeros(2), gallery, 3, metric="euclidean"), [[[2, 1, 0]], [[100, 200, 300]]]
    )


def test_distances_that_float32_cannot_tell_apart_are_ties_however_few_are_asked_for():
    gallery = np.array([[0], [0.001], [0.002], [0.003]], np.float32)
    for k in (1, 2, 3, 4):
        indices, scores = top_k(np.array([1e6]), gallery, k, metric="euclidean")
        np.testing.assert_array_equal(indices, [range(k)])
        assert (scores == 1e6).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_few_are_the_start_of_the_best_many(metric, kind):
    random = np.random.default_rng(5)
    gallery, queries = spread(random, kind, 400, 5), spread(random, "normal", 4, 5)
    many = top_k(queries, gallery, 60, metric=metric)
    for k in (1, 2, 13):
        assert_same(top_k(queries, gallery, k, metric=metric), [part[:, :k] for part in many])


@pytest.mark.parametrize("metric", METRICS)
def test_whole_numbers_strides_and_mapped_files_give_the_same(metric, tmp_path):
    random = np.random.default_rng(0)
    gallery = random.integers(0, 9, (300, 12)).astype(np.float32)
    expected = top_k(gallery[:20], gallery, 7, metric=metric)
    wide = np.zeros((600, 24), np.float32)
    wide[::2, 1::2] = gallery
    np.save(tmp_path / "gallery.npy", gallery)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(gallery.astype(np.float64)))
    for same in (
        gallery.astype(np.uint8),
        gallery.astype(np.int8),
        gallery.astype(np.int64),
        gallery.astype(">f4"),
        wide[::2, 1::2],
        gallery[::-1, ::-1].copy()[::-1, ::-1],
        gallery.tolist(),
        np.load(tmp_path / "gallery.npy", mmap_mode="r"),
        np.load(tmp_path / "gallery.npy", mmap_mode="r+"),
        np.load(tmp_path / "fortran.npy", mmap_mode="r"),
    ):
        assert_same(top_k(same[:20], same, 7, metric=metric), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_no_queries_have_no_answers_and_one_vector_is_one_query(metric):
    indices, scores = top_k(np.empty((0, 3)), np.ones((5, 3)), 2, metric=metric)
    assert indices.shape == scores.shape == (0, 2)
    assert top_k(np.ones(3), np.ones((5, 3)), 2, metric=metric)[0].shape == (1, 2)


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_without_numbers_are_all_alike(metric):
    assert_same(top_k(np.empty((1, 0)), np.empty((3, 0)), 2, metric=metric), [[[0, 1]], [[0, 0]]])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ([], [0, 1, 2, 3]),
        ([0], [1, 2, 3, -1]),
        ([2, 0, 2, 2], [1, 3, -1, -1]),
        ([-1, -4, 4, 99, 1 << 40], [0, 1, 2, 3]),
        ([-1, 1, 99], [0, 2, 3, -1]),
        (np.array([3, 1], np.uint8), [0, 2, -1, -1]),
        (range(4), [-1, -1, -1, -1]),
    ],
)
def test_excluded_rows_never_come_back(metric, left_out, expected):
    gallery = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]])
    indices, scores = top_k(gallery[:2] * [1, 0], gallery, 4, metric=metric, exclude=[left_out, []])
    np.testing.assert_array_equal(indices, [expected, [0, 1, 2, 3]])
    np.testing.assert_array_equal(np.isinf(scores), indices == -1)


@pytest.mark.parametrize("metric", METRICS)
def test_each_query_of_every_block_has_its_own_exclusions(metric, monkeypatch):
    monkeypatch.setattr(similarity, "QUERY_BLOCK", 7)
    monkeypatch.setattr(similarity, "GALLERY_BLOCK", 16)
    vectors = np.random.default_rng(0).normal(size=(50, 6))
    own = np.arange(50)[:, None]
    indices, _ = top_k(vectors, vectors, 49, metric=metric, exclude=own)
    np.testing.assert_array_equal(
        np.sort(np.hstack([indices, own])), np.tile(np.arange(50), (50, 1))
    )


@pytest.mark.parametrize("metric", METRICS)
def test_a_gallery_gives_the_same_as_its_vectors_and_is_used_where_it_lies(metric):
    vectors = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    vectors.setflags(write=False)
    gallery = Gallery(vectors, metric)
    for queries in (vectors[5], vectors[:40]):
        assert_same(
            top_k(queries, gallery, 9, metric=metric), top_k(queries, vectors, 9, metric=metric)
        )
    assert all(np.shares_memory(block, vectors) for _, block in gallery.blocks(1000))
    assert [rows for rows, _ in gallery.blocks(2000)] == [slice(0, 2000), slice(2000, 3000)]


def test_a_gallery_is_refused_for_the_other_metric_and_for_what_is_no_table():
    with pytest.raises(ValueError, match="made for euclidean; make another for cosine"):
        top_k(np.ones(2), Gallery(np.ones((3, 2)), "euclidean"), 1)
    with pytest.raises(ValueError, match="made for cosine; make another for euclidean"):
        top_k(np.ones(2), Gallery(np.ones((3, 2))), 1, metric="euclidean")
    with pytest.raises(ValueError, match=r"\[n, dim\], not \[3\]"):
        Gallery(np.ones(3))
    with pytest.raises(ValueError, match=r"\[1, 2, 2\]"):
        top_k(np.ones((1, 2, 2)), np.ones((3, 2)), 1)


def test_a_row_is_named_by_its_place_in_all_vectors_and_numbers_beyond_float32_are_refused():
    vectors = np.ones((2500, 3))
    vectors[2100, 1] = 1e39
    with pytest.raises(ValueError, match="gallery vector in row 2100"):
        Gallery(vectors)
    with pytest.raises(ValueError, match="query vector in row 2100"):
        top_k(vectors, np.ones((2, 3)), 1)


@pytest.mark.parametrize("usual", [True, False])
def test_full_float32_precision_is_asked_for_during_the_product_alone(usual, monkeypatch):
    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    during = []
    matmul = tf.linalg.matmul

    def watched(*args):
        during.append(config.tensor_float_32_execution_enabled())
        return matmul(*args)

    monkeypatch.setattr(tf.linalg, "matmul", watched)
    config.enable_tensor_float_32_execution(usual)
    try:
        top_k(np.ones((40, 3)), np.ones((5, 3)), 1)
        assert during == [False]
        assert config.tensor_float_32_execution_enabled() == usual
        with pytest.raises(tf.errors.InvalidArgumentError):
            similarity.multiply(np.ones((5, 3)), np.ones((4, 40)), np.empty((5, 40)))
        assert config.tensor_float_32_execution_enabled() == usual
    finally:
        config.enable_tensor_float_32_execution(before)


@pytest.mark.parametrize(
    ("metric", "kind"), [("cosine", "IndexFlatIP"), ("euclidean", "IndexFlatL2")]
)
def test_agrees_with_faiss(metric, kind):
    faiss = pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    gallery, queries = (random.normal(size=(count, 64)).astype(np.float32) for count in (5000, 50))
    if metric == "cosine":
        gallery, queries = (
            rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (gallery, queries)
        )
    index = getattr(faiss, kind)(64)
    index.add(gallery)
    theirs, expected = index.search(queries, 10)
    indices, scores = top_k(queries, gallery, 10, metric=metric)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(scores if metric == "cosine" else scores**2, theirs, rtol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 64])
def test_the_memory_of_a_search_does_not_grow_with_the_gallery(metric, kind, count):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(400_000, 8)).astype(kind)
    few, many = Gallery(vectors[:100_000], metric), Gallery(vectors, metric)
    small, large = (
        peak_of(lambda of=of: top_k(vectors[:count], of, 5, metric=metric)) for of in (few, many)
    )
    assert large < 1.5 * small


@pytest.mark.parametrize("metric", METRICS)
def test_memory_stays_bounded_where_every_row_is_a_candidate(metric):
    gallery = Gallery(np.ones((50_000, 4), np.float32), metric)
    queries = np.ones((64, 4), np.float32)
    assert_same(top_k(queries, gallery, 3, metric=metric)[:1], [[[0, 1, 2]] * 64])
    # All pairs at once would take twice that.
    assert peak_of(lambda: top_k(queries, gallery, 3, metric=metric)) < 100e6


def test_measuring_a_gallery_takes_two_numbers_a_row():
    vectors = np.random.default_rng(0).normal(size=(100_000, 32))
    assert peak_of(lambda: Gallery(vectors, "euclidean")) < 16 * len(vectors) + 2e6


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_mapped_vectors_answer_a_query_within_one_gigabyte(tmp_path):
    path = tmp_path / "gallery.npy"
    random = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (1_000_000, 128))
    for start in range(0, len(rows), 100_000):
        rows[start : start + 100_000] = random.random((100_000, 128), np.float32)
    del rows
    try:
        script = (
            "import sys, numpy as np\n"
            "from lookalike.similarity import top_k\n"
            "gallery = np.load(sys.argv[1], mmap_mode='r')\n"
            "assert top_k(gallery[777_777], gallery, 10)[0][0, 0] == 777_777\n"
            "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
        )
    finally:
        path.unlink()  # pytest keeps the folders of the last three runs
    # KB, some 680,000 of them for importing TensorFlow.
    assert int(done.stdout.split()[1]) < 1 << 20


def test_a_copy_of_mapped_vectors_is_searched_and_keeps_what_was_written_into_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(gallery_module, "MAPPED", 100)
    np.save(tmp_path / "vectors.npy", np.eye(40, dtype=np.float32))
    in_memory = np.load(tmp_path / "vectors.npy", mmap_mode="r").copy()
    on_write = np.load(tmp_path / "vectors.npy", mmap_mode="c")
    for copy in (in_memory, on_write):
        copy[7] = 3
        copy.setflags(write=False)
        np.testing.assert_array_equal(top_k(np.ones(40), copy, 1), [[[7]], [[1]]])
        assert (copy[7] == 3).all()


@pytest.mark.parametrize("rows", [[True, False, True], [1.0]])
def test_exclusions_that_are_no_row_numbers_are_refused(rows):
    with pytest.raises(ValueError, match=r"np\.flatnonzero"):
        top_k(np.ones(2), np.ones((3, 2)), 1, exclude=[rows])
    np.testing.assert_array_equal(top_k(np.ones(2), np.ones((3, 2)), 1, exclude=[[]])[0], [[0]])


@pytest.mark.parametrize("k", [2.0, 2.5, np.float64(3), "3", None, True, np.nan, [2]])
def test_k_that_is_no_whole_number_is_refused_by_its_name(k):
    with pytest.raises(ValueError, match="k must be a whole number, not "):
        top_k(np.ones(3), np.ones((2, 3)), k)


@pytest.mark.parametrize("k", [0, -1, -(10**30)])
def test_k_below_one_is_refused(k):
    with pytest.raises(ValueError, match=f"k must be at least 1, not {k}"):
        top_k(np.ones(3), np.ones((2, 3)), k)


@pytest.mark.parametrize("k", [10**9, 10**12, 10**30])
def test_a_huge_k_takes_no_memory(k):
    def ask():
        with pytest.raises(
            ValueError, match=f"k = {k} for 2 queries is an answer beyond what there is"
        ):
            top_k(np.ones((2, 3)), np.ones((5, 3)), k)

    ask()
    assert peak_of(ask) < 1e6


def test_what_is_filled_up_takes_no_memory_beside_the_answer():
    queries, gallery = np.ones((1, 3)), Gallery(np.ones((5, 3)))
    indices, _ = top_k(queries, gallery, 10**6)
    assert indices[0, :6].tolist() == [0, 1, 2, 3, 4, -1]
    # 8 bytes an index, 4 a score.
    assert peak_of(lambda: top_k(queries, gallery, 10**6)) < 1.2 * 12e6


def test_a_distance_beyond_float32_is_the_largest_there_is_and_not_infinite():
    gallery = np.array([[1, 1], [-1, -1], [-0.5, -1], [0.5, 1]], np.float32) * np.float32(2**127)
    indices, scores = top_k(gallery[0], gallery, 5, metric="euclidean")
    largest = np.finfo(np.float32).max
    assert_same(
        (indices, scores),
        ([[0, 3, 1, 2, -1]], np.array([[0, 2**126, largest, largest, np.inf]], np.float32)),
    )


@pytest.mark.parametrize("kind", [complex, "U3", "S3", "M8[s]", "m8[s]"])
def test_what_is_no_number_is_refused(kind):
    odd = np.ones((4, 3)).astype(kind)
    for asked in ((odd, np.ones((4, 3))), (np.ones((4, 3)), odd)):
        with pytest.raises(
            ValueError, match=f"must be real numbers, not {re.escape(str(odd.dtype))}"
        ):
            top_k(*asked, 2)
