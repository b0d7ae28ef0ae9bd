import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import peak_of
from lookalike.copies import pairs as pairs_module
from lookalike.copies.pairs import best_of_rows, pairs_above


def best_by_loop(pairs, scores, per_row):
    """Row by row: its pairs sorted by score, then by the other row; the first few are kept."""
    kept = np.zeros(len(pairs), bool)
    for row in np.unique(pairs):
        mine = np.flatnonzero((pairs == row).any(axis=1))
        others = pairs[mine].sum(axis=1) - row
        kept[mine[np.lexsort((others, -scores[mine]))[:per_row]]] = True
    return kept


def brute_force(vectors, threshold, per_row=None):
    """Every pair in float64, each with each later one, its score rounded to float32."""
    vectors = np.asarray(vectors, np.float32).astype(np.float64)
    first, other = np.triu_indices(len(vectors), 1)
    lengths = np.sqrt((vectors[first] ** 2).sum(axis=1) * (vectors[other] ** 2).sum(axis=1))
    scores = (vectors[first] * vectors[other]).sum(axis=1) / np.where(lengths == 0, 1, lengths)
    scores = scores.clip(-1, 1).astype(np.float32)
    above = scores >= np.float32(threshold)
    pairs, scores = np.stack([first, other], axis=1)[above], scores[above]
    if per_row is not None:
        kept = best_by_loop(pairs, scores, per_row)
        pairs, scores = pairs[kept], scores[kept]
    return pairs, scores


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def spread(random, kind, count, dim):
    """Vectors of which ties, rounding or sizes make the comparison hard."""
    rows = random.normal(size=(count, dim))
    if kind == "whole numbers":
        rows = random.integers(-1, 2, (count, dim))
    elif kind == "copies":
        rows = rows[random.integers(0, 1 + count // 5, count)] if count else rows
    elif kind == "some zero":
        rows *= random.integers(0, 2, (count, 1))
    elif kind == "nearly parallel":
        rows = 1 + 1e-4 * rows
    elif kind == "rows of any size":
        rows *= 10.0 ** random.integers(-44, 14, (count, 1))
    return rows.astype(np.float32)


KINDS = ["normal", "whole numbers", "copies", "some zero", "nearly parallel", "rows of any size"]


# --- All pairs
# ---------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_small_case_agrees_with_brute_force(data):
    """Blocks of any width, the last one seldom full; ties, zero rows, rows of any length."""
    count, dim = data.draw(st.integers(0, 45)), data.draw(st.integers(1, 60))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    vectors = spread(random, data.draw(st.sampled_from(KINDS)), count, dim)
    threshold, per_row = (
        data.draw(st.sampled_from([-1, -0.3, 0, 0.25, 0.9, 1])),
        data.draw(st.sampled_from([None, 1, 3])),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs_module, "BLOCK", data.draw(st.sampled_from([1, 2, 5, 16, 37, 64])))
        patch.setattr(pairs_module, "progress", lambda items, **_: items)
        found = pairs_above(vectors, threshold, per_row=per_row)
    assert_same(found, brute_force(vectors, threshold, per_row))
    assert [one.dtype for one in found] == [np.int64, np.float32]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_row", [None, 1, 4])
def test_the_blocks_make_no_difference(kind, per_row, monkeypatch, capsys):
    """Of 150 rows, in blocks of 150, 149, 75, ..."""
    vectors = spread(np.random.default_rng(0), kind, 150, 48)
    expected = brute_force(vectors, 0.05, per_row)
    assert 50 <= len(expected[0]) < 150 * 149 / 2 or (kind == "nearly parallel" and per_row is None)
    for block in (2048, 150, 149, 75, 37, 11):
        monkeypatch.setattr(pairs_module, "BLOCK", block)
        assert_same(pairs_above(vectors, 0.05, per_row=per_row), expected)
    capsys.readouterr()


def test_pairs_by_hand():
    vectors = [[1, 0], [0, 2], [3, 3], [-1, 0], [0, 0], [5, 0]]
    pairs, scores = pairs_above(np.array(vectors), 0.7)
    np.testing.assert_array_equal(pairs, [[0, 2], [0, 5], [1, 2], [2, 5]])
    np.testing.assert_array_equal(scores, np.float32([0.5**0.5, 1, 0.5**0.5, 0.5**0.5]))
    np.testing.assert_array_equal(pairs_above(np.array(vectors), 1)[0], [[0, 5]])
    pairs, scores = pairs_above(np.array(vectors), -1)
    assert len(pairs) == 15
    assert (scores[(pairs == 4).any(axis=1)] == 0).all()
    assert scores[(pairs == [0, 3]).all(axis=1)] == scores[(pairs == [3, 5]).all(axis=1)] == -1


@pytest.mark.parametrize("number", [float, np.float32, np.float64])
def test_a_score_equal_to_the_threshold_is_above_it(number):
    """0.6 exactly, and 0.9 and 1/3, which are rounded, of whatever type the threshold is."""
    vectors = np.array([[1, 0, 0], [3, 4, 0], [-3, 4, 0], [9, 0, 19**0.5], [1, 2, 2]])
    for score, pair in ((0.6, [0, 1]), (-0.6, [0, 2]), (0.9, [0, 3]), (1 / 3, [0, 4])):
        assert pair in pairs_above(vectors, number(score))[0].tolist()
        assert pair not in pairs_above(vectors, number(score + 1e-6))[0].tolist()
    for score in (0.5, 0.5 + 1e-6, 1):
        assert len(pairs_above(np.array([[1, 0, 0], [1, 3**0.5, 0]]), number(score))[0]) == (
            score == 0.5
        )


def test_every_score_can_be_a_threshold():
    vectors = np.random.default_rng(1).normal(size=(25, 300)).astype(np.float32)
    scores = np.sort(brute_force(vectors, -1)[1])
    for place in range(0, len(scores), 7):
        assert len(pairs_above(vectors, scores[place])[0]) == len(scores) - place
        assert (
            len(pairs_above(vectors, np.nextafter(scores[place], np.float32(2)))[0])
            == len(scores) - place - 1
        )


@pytest.mark.parametrize("per_row", [None, 3])
def test_any_number_type_and_layout_gives_the_same(per_row, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs_module, "BLOCK", 50)
    whole = np.random.default_rng(0).integers(-8, 9, (130, 12))
    whole[[7, 70]] = 0
    vectors = whole.astype(np.float32)
    expected = brute_force(vectors, 0.4, per_row)
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "half.npy", vectors.astype(np.float16))
    read_only = vectors.copy()
    read_only.setflags(write=False)
    layouts = [
        whole,
        *(vectors.astype(kind) for kind in (np.float16, np.float64, np.longdouble, np.int8)),
    ]
    layouts += [
        read_only,
        np.asfortranarray(vectors),
        np.repeat(vectors, 2, axis=0)[::2],
        np.hstack([vectors] * 2)[:, :12],
    ]
    layouts += [vectors[::-1].copy()[::-1], vectors.tolist()]
    layouts += [
        np.load(tmp_path / name, mmap_mode=mode)
        for name in ("vectors.npy", "half.npy")
        for mode in "rc"
    ]
    for same in layouts:
        assert_same(pairs_above(same, 0.4, per_row=per_row), expected)


def test_float64_counts_as_float32():
    """Also where float32 has few digits left, and where it has none."""
    vectors = np.array([[1.3e-45, 0.6e-45], [1e-45, 1e-45], [2e-45, 1e-45], [1e-60, 0]])
    for threshold in (-1, 0.5, 0.9):
        assert_same(pairs_above(vectors, threshold), brute_force(vectors, threshold))


@pytest.mark.parametrize("per_row", [None, 2])
def test_no_rows_and_one_row_have_no_pairs(per_row):
    for shape in ((0, 4), (1, 4), (0, 0), (1, 0)):
        pairs, scores = pairs_above(np.ones(shape, np.float32), -1, per_row=per_row)
        assert pairs.shape == (0, 2)
        assert scores.shape == (0,)
        assert (pairs.dtype, scores.dtype) == (np.int64, np.float32)


def test_vectors_of_no_numbers_are_zero():
    pairs, scores = pairs_above(np.ones((4, 0)), 0)
    np.testing.assert_array_equal(pairs, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
    assert (scores == 0).all()
    assert len(pairs_above(np.ones((4, 0)), 1e-6)[0]) == 0


# --- A few of each row
# -------------------------------------------------------------------------------------------


def test_equal_vectors_are_paired_in_the_order_of_the_rows(monkeypatch):
    """Each with the two first others; row 0 and row 1 are those of all others."""
    vectors = np.tile(np.random.default_rng(3).normal(size=100).astype(np.float32), (90, 1))
    expected = [[0, 1], *([0, row] for row in range(2, 90)), *([1, row] for row in range(2, 90))]
    for block in (2048, 64, 33):
        monkeypatch.setattr(pairs_module, "BLOCK", block)
        pairs, scores = pairs_above(vectors, 0.5, per_row=2)
        np.testing.assert_array_equal(pairs, expected)
        assert (scores == 1).all()


@pytest.mark.parametrize("block", [16, 41, 2048])
def test_float32_does_not_decide_which_pairs_are_the_best(block, monkeypatch):
    """The scores of nearly parallel vectors differ by less than a product in float32 errs."""
    monkeypatch.setattr(pairs_module, "BLOCK", block)
    vectors = spread(np.random.default_rng(5), "nearly parallel", 80, 200)
    for per_row in (1, 3):
        assert_same(pairs_above(vectors, 0.5, per_row=per_row), brute_force(vectors, 0.5, per_row))


def test_a_pair_is_kept_for_either_of_its_rows():
    """Row 3's best is row 0, which has two better ones."""
    angles = np.deg2rad([0, 1, -2, 40])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_array_equal(pairs_above(vectors, -1, per_row=1)[0], [[0, 1], [0, 2], [1, 3]])
    np.testing.assert_array_equal(pairs_above(vectors, 0.99, per_row=1)[0], [[0, 1], [0, 2]])


def test_more_of_each_row_than_there_are_is_all_of_them():
    vectors = np.random.default_rng(0).normal(size=(40, 5))
    assert_same(pairs_above(vectors, 0.2, per_row=1000), pairs_above(vectors, 0.2))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 3)), max_size=40),
    st.integers(1, 5),
)
def test_the_best_of_rows_are_those_of_a_loop(drawn, per_row):
    distinct = {(min(a, b), max(a, b)): score for a, b, score in drawn if a != b}
    pairs = np.array(list(distinct), np.int64).reshape(-1, 2)
    scores = np.array(list(distinct.values()), np.float32) / 4
    kept, _, _ = best_of_rows(pairs, scores, per_row)
    assert kept.dtype == bool
    np.testing.assert_array_equal(kept, best_by_loop(pairs, scores, per_row))


def test_the_best_of_rows_by_hand():
    pairs = np.array([[0, 1], [0, 2], [0, 3], [1, 2]])
    scores = np.array([0.5, 0.9, 0.5, 0.7], np.float32)
    np.testing.assert_array_equal(best_of_rows(pairs, scores, 1)[0], [False, True, True, True])
    np.testing.assert_array_equal(best_of_rows(pairs, np.ones(4), 1)[0], [True, True, True, False])
    assert best_of_rows(pairs[:0], scores[:0], 3)[0].shape == (0,)


# --- Limits
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [-1.001, 1.001, np.nan, np.inf])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=f"threshold must be between -1 and 1, not {threshold}"):
        pairs_above(np.ones((3, 2)), threshold)


@pytest.mark.parametrize("per_row", [0, -1])
def test_fewer_than_one_of_each_row_is_refused(per_row):
    with pytest.raises(ValueError, match=f"per_row must be at least 1, not {per_row}"):
        pairs_above(np.ones((3, 2)), 0.5, per_row=per_row)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_a_row_that_is_not_finite_is_named(bad, monkeypatch):
    monkeypatch.setattr(pairs_module, "BLOCK", 3)
    vectors = np.ones((3000, 4))
    vectors[[2222, 2900], [0, 3]] = bad
    with pytest.raises(ValueError, match="row 2222 holds NaN, infinity"):
        pairs_above(vectors, 1)


@pytest.mark.parametrize("shape", [(4,), (4, 2, 2)])
def test_an_array_of_other_than_two_dimensions_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be \[n, dim\]"):
        pairs_above(np.ones(shape), 0.5)


def test_too_many_pairs_are_refused(monkeypatch):
    """45 pairs of ten rows are above -1; those below the threshold, though near it, do not count."""
    vectors = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    monkeypatch.setattr(pairs_module, "MAX_PAIRS", 45)
    assert len(pairs_above(vectors, -1)[0]) == 45
    monkeypatch.setattr(pairs_module, "MAX_PAIRS", 44)
    for block in (2048, 3):
        monkeypatch.setattr(pairs_module, "BLOCK", block)
        with pytest.raises(ValueError, match=r"More than 44 pairs .*per_row"):
            pairs_above(vectors, -1)
        assert (
            len(
                pairs_above(
                    vectors, np.nextafter(brute_force(vectors, -1)[1].min(), np.float32(1))
                )[0]
            )
            == 44
        )


def test_a_few_of_each_row_are_never_too_many(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    monkeypatch.setattr(pairs_module, "MAX_PAIRS", 3)
    assert_same(pairs_above(vectors, -1, per_row=1), brute_force(vectors, -1, 1))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_memory_is_that_of_a_block(kind, monkeypatch, capsys):
    """4,000 x 4,000 scores would take 64 MB; of blocks of 256 rows, half of all pairs, one of each
    row is kept.
    """
    monkeypatch.setattr(pairs_module, "BLOCK", 256)
    vectors = np.random.default_rng(0).normal(size=(4000, 8)).astype(kind)
    assert peak_of(lambda: pairs_above(vectors, 0.999)) < 8e6
    assert peak_of(lambda: pairs_above(vectors, -1, per_row=1)) < 16e6
    capsys.readouterr()


def test_the_memory_is_that_of_a_block_where_all_vectors_are_equal(monkeypatch, capsys):
    monkeypatch.setattr(pairs_module, "BLOCK", 128)
    vectors = np.ones((2500, 4), np.float32)
    found = []
    assert peak_of(lambda: found.extend(pairs_above(vectors, 1, per_row=1))) < 8e6
    np.testing.assert_array_equal(found[0], [[0, row] for row in range(1, 2500)])
    capsys.readouterr()


def test_a_mapped_file_is_read_block_by_block(tmp_path, monkeypatch, capsys):
    """Of 32 MB, 512 KB at a time."""
    monkeypatch.setattr(pairs_module, "BLOCK", 64)
    vectors = np.random.default_rng(0).normal(size=(4096, 2048)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert peak_of(lambda: pairs_above(vectors, 0.9)) < 8e6
    capsys.readouterr()


def test_many_blocks_show_their_progress_and_few_do_not(monkeypatch, capsys):
    vectors = np.eye(33)
    pairs_above(vectors, 0.5)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(pairs_module, "BLOCK", 3)  # 11 blocks of rows, 66 of scores
    pairs_above(vectors, 0.5)
    assert "66/66" in capsys.readouterr().out


def test_the_vectors_stay_as_they_were():
    vectors = np.random.default_rng(0).normal(size=(50, 6))
    before = vectors.copy()
    pairs_above(vectors, 0.1, per_row=2)
    np.testing.assert_array_equal(vectors, before)
