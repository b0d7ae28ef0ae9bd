import math
import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from conftest import peak_of
from lookalike import similarity
from lookalike.similarity import METRICS, checked_k, exact_scores, normalise, top_k, vector_lengths


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


def brute_force(queries, gallery, k, metric, exclude=None):
    """Every score in float64, rounded to float32, sorted with ties by lower index."""
    gallery = gallery.astype(np.float64)
    indices = np.full((len(queries), k), -1)
    scores = np.full((len(queries), k), -np.inf if metric == "cosine" else np.inf, np.float32)
    for row, query in enumerate(queries.astype(np.float64)):
        if metric == "cosine":
            lengths = np.sqrt((gallery**2).sum(axis=1) * (query**2).sum())
            goodness = (gallery * query).sum(axis=1) / np.where(lengths == 0, 1, lengths)
            goodness = np.float32(goodness.clip(-1, 1))
        else:
            goodness = -np.float32(np.sqrt(((gallery - query) ** 2).sum(axis=1)))
        allowed = np.arange(len(gallery))
        if exclude is not None:
            allowed = np.setdiff1d(allowed, exclude[row])
        best = allowed[np.argsort(-goodness[allowed], kind="stable")][:k]
        indices[row, : len(best)] = best
        scores[row, : len(best)] = goodness[best] if metric == "cosine" else -goodness[best]
    return indices, scores


def assert_same(answer, expected):
    for ours, theirs in zip(answer, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def all_kinds(random, count, dim):
    """Vectors [count, dim] of which rounding, overflow or ties make a search hard, by kind."""
    rows, each = random.normal(size=(count, dim)), (count, 1)
    outlier = np.arange(count)[:, None] == random.integers(count)
    return {
        "normal": rows,
        "whole numbers": rows.round(),
        "one row over and over": np.repeat(rows[:1], count, axis=0),
        "every row some five times": rows[random.integers(0, -(-count // 5), count)],
        "some zero": rows * random.integers(0, 2, each),
        "rows of any size": rows * 10.0 ** random.integers(-34, 14, each),
        "numbers of any size": rows * 10.0 ** random.integers(-44, 14, (count, dim)),
        "all large": rows * 2e13,
        "an outlier": rows * np.where(outlier, 1e13, 1),
        "nearly parallel": 1 + 1e-4 * rows,
        "far from zero": rows + 10.0 ** random.integers(1, 8),
        "far clusters": rows + 1000 * random.integers(0, 2, each),
        "almost copies": rows[:1] + 1e-3 * rows,
    }


KINDS = list(all_kinds(np.random.default_rng(0), 1, 1))


def spread(random, kind, count, dim):
    return np.float32(all_kinds(random, count, dim)[kind])


@pytest.mark.parametrize("shape", [(1, 7, 3, 2), (300, 500, 16, 10), (5, 40_000, 8, 12)])
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


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_case_in_blocks_of_any_size_agrees_with_sorting_everything(data):
    """Ties, zero vectors, k beyond the gallery, exclusions, all kinds of numbers."""

    def draw(*values):
        return data.draw(st.sampled_from(values))

    random, metric = np.random.default_rng(data.draw(st.integers(0, 10_000))), draw(*METRICS)
    dim, count, size, k = draw(1, 2, 7, 33), draw(1, 3, 20), draw(1, 2, 31, 150), draw(1, 4, 50)
    gallery = spread(random, draw(*KINDS), size, dim)
    queries = spread(random, draw(*KINDS), count, dim)
    if draw(True, False):
        queries = gallery[random.integers(size, size=count)]
    exclude = None
    if draw(True, False):
        exclude = [random.integers(-2, size + 2, random.integers(size + 1)) for _ in range(count)]
    rows, numbers, pairs = draw(3, 50, 1 << 13), draw(20, 1 << 22), draw(20, 1 << 20)
    sizes = {"QUERIES": draw(3, 256), "ROWS": rows, "NUMBERS": numbers, "PAIRS": pairs}
    with patch.multiple(similarity, **sizes):
        answer = top_k(queries, gallery, k, metric=metric, exclude=exclude)
    assert_same(answer, brute_force(queries, gallery, k, metric, exclude))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_to_rounding(metric, kind, monkeypatch):
    monkeypatch.setattr(similarity, "ROWS", 300)
    random = np.random.default_rng(1)
    gallery = spread(random, kind, 2000, 32)
    queries = np.concatenate([gallery[::80], spread(random, kind, 10, 32)])
    expected = brute_force(queries, gallery, 10, metric)
    assert_same(top_k(queries, gallery, 10, metric=metric), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_few_are_the_start_of_the_best_many(metric, kind):
    random = np.random.default_rng(5)
    gallery, queries = spread(random, kind, 400, 5), spread(random, "normal", 4, 5)
    many = top_k(queries, gallery, 60, metric=metric)
    for k in (1, 2, 13):
        assert_same(top_k(queries, gallery, k, metric=metric), [part[:, :k] for part in many])


def test_the_answer_to_a_query_does_not_depend_on_the_other_queries(metric):
    random = np.random.default_rng(3)
    gallery = spread(random, "normal", 700, 9)
    queries = spread(random, "rows of any size", 50, 9)
    together = top_k(queries, gallery, 4, metric=metric)
    for row, query in enumerate(queries):
        expected = [part[row : row + 1] for part in together]
        assert_same(top_k(query, gallery, 4, metric=metric), expected)


def test_ties_go_to_the_lower_index_across_blocks(metric, monkeypatch):
    monkeypatch.setattr(similarity, "ROWS", 64)
    monkeypatch.setattr(similarity, "PAIRS", 500)
    gallery = np.tile(np.random.default_rng(0).normal(size=48).astype(np.float32), (1000, 1))
    indices, scores = top_k(gallery[:3], gallery, 5, metric=metric)
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3, 4]] * 3)
    assert np.unique(scores).size == 1
    opposite = gallery.copy()
    opposite[:900] *= -1
    indices, _ = top_k(gallery[0], opposite, 3, metric=metric)
    np.testing.assert_array_equal(indices, [[900, 901, 902]])


def test_distances_that_float32_cannot_tell_apart_are_ties_however_few_are_asked_for(monkeypatch):
    gallery = np.array([[0.003], [0.002], [0.001], [0]])
    for rows in (1, 4):
        monkeypatch.setattr(similarity, "ROWS", rows)
        for k in (1, 2, 3, 4):
            answer = top_k(np.array([1e6]), gallery, k, metric="euclidean")
            assert_same(answer, ([range(k)], [[1e6] * k]))


def test_zero_vectors_have_cosine_zero_and_distance_zero_to_themselves():
    gallery = np.array([[0, 0], [1, 0], [-1, 0]])
    assert_same(top_k(np.zeros(2), gallery, 3), ([[0, 1, 2]], [[0, 0, 0]]))
    assert_same(top_k(gallery[1], gallery, 3), ([[1, 0, 2]], [[1, 0, -1]]))
    assert_same(top_k(np.zeros(2), gallery, 2, metric="euclidean"), ([[0, 1]], [[0, 1]]))


@pytest.mark.parametrize("away", [0, 1000, 1e13])
def test_a_vector_is_at_distance_zero_from_itself_however_long(away):
    gallery = np.random.default_rng(0).random((200, 64)).astype(np.float32)
    gallery[::2] += away
    gallery[1::2] *= max(away, 1)
    indices, scores = top_k(gallery, gallery, 1, metric="euclidean")
    assert_same((gallery[indices[:, 0]], scores), (gallery, np.zeros((200, 1))))


def test_what_is_not_there_is_minus_one_and_infinitely_far(metric):
    worst = -np.inf if metric == "cosine" else np.inf
    indices, scores = top_k(np.ones((2, 3)), np.ones((2, 3)), 4, metric=metric)
    np.testing.assert_array_equal(indices, [[0, 1, -1, -1]] * 2)
    np.testing.assert_array_equal(scores[:, 2:], worst)
    empty = top_k(np.ones((2, 3)), np.empty((0, 3)), 2, metric=metric, exclude=[[0], []])
    assert_same(empty, ([[-1, -1]] * 2, [[worst, worst]] * 2))


@pytest.mark.parametrize(("queries", "count"), [(np.empty((0, 3)), 0), (np.ones(3), 1)])
def test_no_queries_have_no_answers_and_one_vector_is_one_query(metric, queries, count):
    indices, scores = top_k(queries, np.ones((5, 3)), 2, metric=metric)
    assert indices.shape == scores.shape == (count, 2)


def test_vectors_without_numbers_are_all_alike(metric):
    assert_same(top_k(np.empty((1, 0)), np.empty((3, 0)), 2, metric=metric), [[[0, 1]], [[0, 0]]])


def test_any_numbers_and_layout_give_the_same(metric, tmp_path):
    gallery = np.random.default_rng(0).integers(0, 9, (300, 12)).astype(np.float32)
    expected = top_k(gallery[:20], gallery, 7, metric=metric)
    assert_same(expected, brute_force(gallery[:20], gallery, 7, metric))
    wide = np.zeros((600, 24), np.float32)
    wide[::2, 1::2] = gallery
    np.save(tmp_path / "gallery.npy", gallery)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(gallery.astype(np.float64)))
    kinds = (np.float16, np.float64, np.uint8, np.int8, np.int64, ">f4")
    for same in (
        *map(gallery.astype, kinds),
        wide[::2, 1::2],
        gallery[::-1, ::-1].copy()[::-1, ::-1],
        gallery.tolist(),
        *(np.load(tmp_path / "gallery.npy", mmap_mode=mode) for mode in ("r", "r+", "c")),
        np.load(tmp_path / "fortran.npy", mmap_mode="r"),
    ):
        assert_same(top_k(same[:20], same, 7, metric=metric), expected)


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ([], [0, 1, 2, 3]),
        ([2, 0, 2, 2], [1, 3, -1, -1]),
        ([-1, -4, 4, 99, 1 << 40], [0, 1, 2, 3]),
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


def test_each_query_of_every_block_has_its_own_exclusions(metric, monkeypatch):
    monkeypatch.setattr(similarity, "QUERIES", 7)
    monkeypatch.setattr(similarity, "ROWS", 16)
    vectors = np.random.default_rng(0).normal(size=(50, 6))
    own = np.arange(50)[:, None]
    indices, _ = top_k(vectors, vectors, 49, metric=metric, exclude=own)
    all_rows = np.tile(np.arange(50), (50, 1))
    np.testing.assert_array_equal(np.sort(np.hstack([indices, own])), all_rows)


def test_lengths_measured_before_give_the_same_and_are_not_measured_again(metric, monkeypatch):
    monkeypatch.setattr(similarity, "ROWS", 70)
    random = np.random.default_rng(0)
    gallery = spread(random, "rows of any size", 500, 8)
    queries = np.concatenate([gallery[::25], spread(random, "normal", 20, 8)])
    expected = top_k(queries, gallery, 9, metric=metric)
    lengths = vector_lengths(gallery)
    with patch.object(similarity, "vector_lengths", wraps=vector_lengths) as measured:
        assert_same(top_k(queries, gallery, 9, metric=metric, lengths=lengths), expected)
    assert measured.call_count == 1  # of the queries


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.1e15, -1e38, 1e39])
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
        (np.ones((1, 4, 3)), {"gallery": np.ones((2, 4, 3))}, r"\[1, 4, 3\].*\[2, 4, 3\]"),
        (np.ones(3), {"gallery": np.ones(3)}, r"\[1, 3\].*\[3\]"),
        (np.ones(3), {"gallery": np.ones((1, 2, 3))}, r"\[1, 3\].*\[1, 2, 3\]"),
        (np.ones(3), {"metric": "manhattan"}, "cosine, euclidean, not 'manhattan'"),
        (np.ones((2, 3)), {"exclude": [[0]]}, "1 entries for 2 queries"),
        (np.ones(3), {"exclude": [[True, False, True, True]]}, r"np\.flatnonzero"),
        (np.ones(3), {"exclude": [[1.0]]}, r"np\.flatnonzero"),
    ],
)
def test_misuse_is_refused(queries, options, message):
    with pytest.raises(ValueError, match=message):
        top_k(queries, **{"gallery": np.ones((4, 3)), "k": 1, **options})


@pytest.mark.parametrize("k", [2.0, np.float64(3), "3", None, True, np.nan, [2], 0, -1, -(10**30)])
def test_k_that_is_no_whole_number_from_one_is_refused_by_its_value(k):
    for ask in (checked_k, lambda k: top_k(np.ones(3), np.ones((2, 3)), k)):
        with pytest.raises(ValueError) as refused:
            ask(k)
        assert str(refused.value) == f"k must be a whole number, at least 1, not {k!r}."


def test_k_of_any_whole_kind_becomes_an_int():
    wholes = [checked_k(k) for k in (1, np.int64(3), np.uint8(200), 10**30)]
    assert [(type(k), k) for k in wholes] == [(int, 1), (int, 3), (int, 200), (int, 10**30)]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_memory_of_a_search_does_not_grow_with_the_gallery(metric, kind, tmp_path):
    vectors = np.lib.format.open_memmap(tmp_path / "vectors.npy", "w+", kind, (120_000, 16))
    vectors[:] = np.random.default_rng(0).random(vectors.shape)
    small, large = (
        peak_of(lambda rows=rows: top_k(vectors[:64], vectors[:rows], 5, metric=metric))
        for rows in (30_000, 120_000)
    )
    assert large < 1.2 * small


def test_memory_stays_bounded_where_every_row_is_a_candidate(metric):
    gallery = np.ones((10_000, 128), np.float32)
    # All pairs in float64 at once would take 0.6 GB.
    assert peak_of(lambda: top_k(gallery[:64], gallery, 3, metric=metric)) < 100e6


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_mapped_vectors_answer_a_query_within_one_gigabyte(tmp_path):
    path = tmp_path / "gallery.npy"
    np.save(path, np.random.default_rng(0).random((1_000_000, 128), np.float32))
    script = (
        "import sys, numpy as np\n"
        "from lookalike.similarity import top_k\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "gallery = np.load(sys.argv[1], mmap_mode='r')\n"
        "assert top_k(gallery[777_777], gallery, 10)[0][0, 0] == 777_777\n"
        "print(peak() - before)"
    )
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    path.unlink()  # pytest keeps the folders of the last three runs
    assert int(done.stdout) < 1 << 20  # KB, of which the mapped file itself is half


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, np.uint8])
def test_normalised_vectors_have_length_one_and_zero_stays_zero(kind):
    vectors = np.random.default_rng(0).integers(0, 100, (50, 9)).astype(kind)
    vectors[7] = 0
    normal = normalise(vectors)
    assert normal.dtype == np.float32
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), lengths > 0, rtol=1e-6)
    np.testing.assert_allclose(normal * lengths[:, None], vectors, rtol=1e-6)


@pytest.mark.parametrize("length", [1e-44, 1e-30, 1e-16, 1e-10, 1e10, 9e14])
def test_lengths_of_any_size_are_measured_and_normalised(length):
    rows = np.float32(np.outer([0, 1, 1, -0.5], [0.6, -0.8]) * length)
    expected = [math.hypot(*row) for row in rows.tolist()]
    lengths = vector_lengths(rows)
    assert lengths.dtype == np.float64
    np.testing.assert_allclose(lengths, expected, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(normalise(rows), axis=1), [0, 1, 1, 1], rtol=1e-6)


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
        ([1e14, 0], [1e14, 1e14], math.sqrt(0.5), 1e14),
        ([1e-40, 0], [1e-40, 1e-40], math.sqrt(0.5), 1e-40),
        ([0.1, 1.3], [0.1 * 7, 1.3 * 7], 1, 6 * math.sqrt(1.7)),
    ],
)
def test_exact_scores_of_pairs_are_float64(first, second, cosine, distance):
    for metric, expected in (("cosine", cosine), ("euclidean", distance)):
        scores = exact_scores(np.array([first]), np.array([second] * 3), metric)
        assert scores.dtype == np.float64
        np.testing.assert_allclose(scores, [expected] * 3, rtol=1e-15)
        assert abs(scores[0]) <= 1 or metric == "euclidean"
