import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from conftest import peak_of
from lookalike import similarity
from lookalike.similarity import METRICS, exact_scores, normalise, top_k, vector_lengths


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


def brute_force(queries, gallery, k, metric, exclude=None):
    """Every score in float64, sorted with ties by lower index."""
    indices = np.full((len(queries), k), -1)
    scores = np.full((len(queries), k), -np.inf if metric == "cosine" else np.inf)
    for row, query in enumerate(queries.astype(np.float64)):
        values = np.float32(exact_scores(query, gallery, metric))
        allowed = np.arange(len(gallery))
        if exclude is not None:
            allowed = np.setdiff1d(allowed, exclude[row])
        best = -values if metric == "cosine" else values
        best = allowed[np.argsort(best[allowed], kind="stable")][:k]
        indices[row, : len(best)] = best
        scores[row, : len(best)] = values[best]
    return indices, scores


def assert_same(answer, expected):
    np.testing.assert_array_equal(answer[0], expected[0])
    np.testing.assert_allclose(answer[1], expected[1], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 7, 3, 2), (300, 500, 16, 10), (5, 20_000, 8, 12)])
def test_agrees_with_scikit_learn(metric, shape):
    n_queries, n_gallery, dim, k = shape
    random = np.random.default_rng(0)
    queries, gallery = (random.normal(size=(n, dim)).astype("f4") for n in (n_queries, n_gallery))
    indices, scores = top_k(queries, gallery, k, metric=metric)
    reference = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute")
    distances, expected = reference.fit(np.float64(gallery)).kneighbors(np.float64(queries))
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(1 - scores if metric == "cosine" else scores, distances, atol=2e-6)
    assert (indices.dtype, scores.dtype) == (np.int64, np.float32)


def test_agrees_with_faiss(metric):
    faiss = pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    gallery, queries = (normalise(random.normal(size=(count, 64))) for count in (5000, 50))
    index = {"cosine": faiss.IndexFlatIP, "euclidean": faiss.IndexFlatL2}[metric](64)
    index.add(gallery)
    theirs, expected = index.search(queries, 10)
    indices, scores = top_k(queries, gallery, 10, metric=metric)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(scores if metric == "cosine" else scores**2, theirs, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_case_in_blocks_of_any_size_agrees_with_sorting_everything(data):
    """Ties, zero vectors, k beyond the gallery, exclusions, lengths that are known."""

    def draw(*values):
        return data.draw(st.sampled_from(values))

    random, metric = np.random.default_rng(data.draw(st.integers(0, 10_000))), draw(*METRICS)
    dim, count, size, k = draw(1, 2, 7), draw(1, 3, 20), draw(1, 2, 31, 150), draw(1, 4, 50)
    # Whole numbers, whose products float32 holds exactly.
    gallery = random.integers(-3, 4, (size, dim)) * random.integers(0, 2, (size, 1))
    queries = random.integers(-3, 4, (count, dim))
    if metric == "cosine":
        # No two directions that differ by less than a rounding error.
        gallery = np.eye(dim)[random.integers(dim, size=size)] * random.integers(-2, 3, (size, 1))
    exclude = None
    if draw(True, False):
        exclude = [random.integers(-2, size + 2, random.integers(size + 1)) for _ in range(count)]
    lengths = draw(None, vector_lengths(gallery))
    with patch.multiple(similarity, QUERIES=draw(3, 256), ROWS=draw(3, 50, 1 << 13)):
        answer = top_k(queries, gallery, k, exclude, metric=metric, lengths=lengths)
    assert_same(answer, brute_force(queries, gallery, k, metric, exclude))


def test_the_answer_to_a_query_does_not_depend_on_k_or_the_other_queries(metric):
    random = np.random.default_rng(3)
    gallery, queries = random.normal(size=(700, 9)), random.normal(size=(50, 9))
    together = top_k(queries, gallery, 13, metric=metric)
    for k in (1, 2):
        assert_same(top_k(queries, gallery, k, metric=metric), [part[:, :k] for part in together])
    alone = top_k(queries[7], gallery, 13, metric=metric)
    assert_same(alone, [part[7:8] for part in together])


def test_equal_vectors_tie_and_the_lower_index_comes_first(metric, monkeypatch):
    monkeypatch.setattr(similarity, "ROWS", 8)
    vector = np.random.default_rng(0).normal(size=48)
    gallery = np.outer([-1, 1, 1, -1, 1, 1, -1, 1, 1, 1], vector)
    indices, scores = top_k(vector, gallery, 5, metric=metric)
    np.testing.assert_array_equal(indices, [[1, 2, 4, 5, 7]])
    assert np.unique(scores).size == 1


def test_zero_vectors_have_cosine_zero_and_distance_zero_to_themselves():
    gallery = np.array([[0, 0], [1, 0], [-1, 0]])
    assert_same(top_k(np.zeros(2), gallery, 3), ([[0, 1, 2]], [[0, 0, 0]]))
    assert_same(top_k(gallery[1], gallery, 3), ([[1, 0, 2]], [[1, 0, -1]]))
    assert_same(top_k(np.zeros(2), gallery, 2, metric="euclidean"), ([[0, 1]], [[0, 1]]))


def test_a_vector_is_at_distance_zero_from_itself():
    gallery = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    indices, scores = top_k(gallery, gallery, 1, metric="euclidean")
    assert_same((indices, scores), (np.arange(200)[:, None], np.zeros((200, 1))))


def test_what_is_not_there_is_minus_one_and_infinitely_far(metric):
    worst = -np.inf if metric == "cosine" else np.inf
    indices, scores = top_k(np.ones((2, 3)), np.ones((2, 3)), 4, metric=metric)
    np.testing.assert_array_equal(indices, [[0, 1, -1, -1]] * 2)
    np.testing.assert_array_equal(scores[:, 2:], worst)
    empty = top_k(np.ones((2, 3)), np.empty((0, 3)), 2, metric=metric)
    assert_same(empty, ([[-1, -1]] * 2, [[worst, worst]] * 2))


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ([], [0, 1, 2, 3]),
        ([2, 0, 2, 2], [1, 3, -1, -1]),
        (np.array([3, 1], np.uint8), [0, 2, -1, -1]),
        (range(4), [-1, -1, -1, -1]),
    ],
)
@pytest.mark.parametrize("rows", [1, 3, 1 << 13])
def test_excluded_rows_never_come_back(metric, left_out, expected, rows, monkeypatch):
    monkeypatch.setattr(similarity, "ROWS", rows)
    gallery = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]])
    indices, scores = top_k(gallery[:2] * [1, 0], gallery, 4, metric=metric, exclude=[left_out, []])
    np.testing.assert_array_equal(indices, [expected, [0, 1, 2, 3]])
    np.testing.assert_array_equal(np.isinf(scores), indices == -1)


def test_vectors_of_any_kind_and_on_disk_are_searched_alike(metric, tmp_path):
    gallery = np.random.default_rng(0).integers(0, 9, (300, 12)).astype(np.float32)
    expected = brute_force(gallery[:20], gallery, 7, metric)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    kinds = [gallery.astype(kind) for kind in (np.float16, np.float64, int)]
    for same in (gallery, *kinds, mapped):
        assert_same(top_k(same[:20], same, 7, metric=metric), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_cannot_be_compared_is_refused_by_its_row(metric, bad, monkeypatch):
    monkeypatch.setattr(similarity, "ROWS", 2)
    rows = np.ones((7, 4))
    rows[5, 2] = bad
    with pytest.raises(ValueError, match="gallery vector in row 5 holds NaN"):
        top_k(np.ones(4), rows, 1, metric=metric)
    with pytest.raises(ValueError, match="query vector in row 5 holds NaN"):
        top_k(rows, np.ones((2, 4)), 1, metric=metric)


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        (np.ones(2), {}, r"\[1, 2\].*\[4, 3\]"),
        (np.ones(3), {"gallery": np.ones(3)}, r"\[1, 3\].*\[3\]"),
        (np.ones(3), {"metric": "manhattan"}, "cosine, euclidean, not 'manhattan'"),
        (np.ones((2, 3)), {"exclude": [[0]]}, "must hold 2 lists"),
        (np.ones(3), {"exclude": [[True, False, True, True]]}, r"np\.flatnonzero"),
        *((np.ones(3), {"k": k}, f"at least 1, not {k}") for k in (2.5, None, 0, -1)),
    ],
)
def test_misuse_is_refused(queries, options, message):
    with pytest.raises(ValueError, match=message):
        top_k(queries, **{"gallery": np.ones((4, 3)), "k": 1, **options})


def test_the_memory_of_a_search_does_not_grow_with_the_gallery(metric, tmp_path):
    shape = (80_000, 16)
    vectors = np.lib.format.open_memmap(tmp_path / "vectors.npy", "w+", np.float64, shape)
    vectors[:] = np.random.default_rng(0).random(shape)
    small, large = (
        peak_of(lambda rows=rows: top_k(vectors[:64], vectors[:rows], 5, metric=metric))
        for rows in (20_000, 80_000)
    )
    assert large < 1.2 * small


def test_normalised_vectors_have_length_one_and_zero_stays_zero():
    vectors = np.float32([[3, 4], [0, 0], [-1e-9, 0], [0, 1e9]])
    normal = normalise(vectors)
    assert normal.dtype == np.float32
    np.testing.assert_allclose(normal, [[0.6, 0.8], [0, 0], [-1, 0], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(vector_lengths(vectors), [5, 0, 1e-9, 1e9], rtol=1e-6)


def test_a_row_without_a_length_is_named_by_its_place_in_all_vectors():
    rows = np.ones((5, 3), np.float32)
    rows[3:, 1] = np.nan
    with pytest.raises(ValueError, match="The new vector in row 1003 holds NaN"):
        vector_lengths(rows, "new", 1000)
    with pytest.raises(ValueError, match="vector in row 3 holds NaN"):
        normalise(rows)


@pytest.mark.parametrize(
    ("first", "second", "cosine", "distance"),
    [
        ([3, 4], [3, 4], 1, 0),
        ([3, 4], [-3, -4], -1, 10),
        ([3, 4], [0, 0], 0, 5),
        ([3, 4], [6, 17], 86 / 5 / math.sqrt(325), math.sqrt(178)),
    ],
)
def test_exact_scores_of_pairs(first, second, cosine, distance):
    for metric, expected in (("cosine", cosine), ("euclidean", distance)):
        for query in (np.array(first), np.array([first] * 3)):
            scores = exact_scores(query, np.array([second] * 3), metric)
            np.testing.assert_allclose(scores, [expected] * 3, rtol=1e-15)
    assert exact_scores(np.array([0.6, 0]), np.array([[0.5, 9]]), "product") == 0.3
