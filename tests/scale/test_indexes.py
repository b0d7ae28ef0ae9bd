import json
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import skip_without
from lookalike.embeddings import embed_catalog
from lookalike.scale import exact, faiss_indexes, index_store, make_index, open_index
from lookalike.scale.exact import recall_at_k
from lookalike.scale.faiss_indexes import FaissIndex
from lookalike.scale.indexes import compare_engines, measure, resampled
from lookalike.similarity import METRICS, WORST, top_k

skip_without("faiss")
EXACT = ["exact", "flat", "milvus"]  # find the nearest, all of them
KINDS = [*EXACT, "hnsw", "ivfpq"]


def needs(kind):
    """Skip where what a kind is made of is not installed."""
    if kind == "milvus":
        skip_without("milvus_lite", "pymilvus")


@pytest.fixture
def make(tmp_path):
    """An index of any kind, closed at the end."""
    made = []

    def build(kind, dim, metric="cosine"):
        needs(kind)
        made.append(make_index(kind, dim, metric=metric, path=tmp_path / f"{len(made)}.db"))
        return made[-1]

    yield build
    for index in made:
        index.close()


def saved(index, tmp_path):
    """Where an index is after it was saved."""
    path = index.uri if index.kind == "milvus" else tmp_path / "products.index"
    index.save(path)
    return path


def clusters(n, dim, seed=0, centres=20):
    """Vectors around a few centres, as embeddings are."""
    random = np.random.default_rng(seed)
    middle = np.random.default_rng(99).normal(size=(centres, dim))
    return (middle[random.integers(centres, size=n)] + 0.4 * random.normal(size=(n, dim))).astype(
        np.float32
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_engine_gives_the_scores_of_the_exact_search(kind, metric, make):
    vectors, queries = clusters(1000, 16), clusters(20, 16, seed=1)
    index = make(kind, 16, metric)
    index.add(np.arange(1000) + 5, vectors)
    ids, scores = index.search(queries, 10)
    expected, exact = top_k(queries, vectors, 10, metric=metric)
    assert (ids.dtype, scores.dtype, ids.shape) == (np.int64, np.float32, (20, 10))
    rounding = 5e-3 if kind == "ivfpq" else 1e-4  # IVF-PQ scores in half precision
    assert recall_at_k(ids - 5, exact, queries, vectors, metric) >= 0.95
    same = ids - 5 == expected
    assert same.mean() > 0.9
    np.testing.assert_allclose(scores[same], exact[same], atol=rounding)
    assert (np.diff(scores, axis=1) * (-1 if metric == "cosine" else 1) >= 0).all()
    assert len(index) == 1000
    assert (index.metric, index.dim, index.kind) == (metric, 16, kind)


@pytest.mark.parametrize("kind", [*EXACT, "hnsw"])
def test_scores_by_hand(kind, make):
    vectors = np.array([[3, 4], [0, 0], [-6, -8], [0, 5]], np.float32)
    index = make(kind, 2)
    index.add([7, 3, 9, 0], vectors)
    ids, scores = index.search([1.0, 0], 4)
    # Both at right angles, or taken as if.
    np.testing.assert_array_equal(np.sort(ids[0, 1:3]), [0, 3])
    np.testing.assert_array_equal(ids[0, [0, 3]], [7, 9])
    np.testing.assert_allclose(scores, [[0.6, 0, 0, -0.6]], atol=1e-6)
    np.testing.assert_allclose(index.search([0.0, 0], 4)[1], 0, atol=1e-6)
    index = make(kind, 2, "euclidean")
    index.add([7, 3, 9, 0], vectors)
    ids, scores = index.search([0.0, 0], 4)
    np.testing.assert_array_equal(ids, [[3, *ids[0, 1:3], 9]])
    np.testing.assert_allclose(scores, [[0, 5, 5, 10]], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_where_too_few_are_left_the_rest_is_minus_one(kind, metric, make):
    index = make(kind, 4, metric)
    queries = clusters(3, 4, seed=1)
    ids, scores = index.search(queries, 2)
    assert (ids == -1).all()
    assert (scores == WORST[metric]).all()
    assert len(index) == 0
    index.add(np.arange(80), clusters(80, 4), ["a"] * 2 + [None] * 78)
    ids, scores = index.search(queries, 100)
    assert all(sorted(row) == list(range(80)) for row in ids[:, :80].tolist())
    assert (ids[:, 80:] == -1).all()
    assert (scores[:, 80:] == WORST[metric]).all()
    assert np.isfinite(scores[:, :80]).all()
    ids, scores = index.search(queries, 3, label="a")
    assert (np.sort(ids, axis=1) == [-1, 0, 1]).all()
    assert (scores[:, 2] == WORST[metric]).all()
    assert (index.search(queries, 3, label="nobody's")[0] == -1).all()
    assert index.search(np.empty((0, 4)), 3)[0].shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_is_far_from_the_query_is_found_whole(kind, make):
    """The thousands that are nearer must not hide the few of the other label."""
    vectors = clusters(3000, 8)
    vectors[::300] = -40 + clusters(10, 8, seed=3)
    labels = ["far" if row % 300 == 0 else "near" if row % 2 else None for row in range(3000)]
    index = make(kind, 8, "euclidean")
    index.add(np.arange(3000), vectors, pd.Series(labels))
    queries = clusters(5, 8, seed=1)
    np.testing.assert_array_equal(
        np.sort(index.search(queries, 10, label="far")[0]), [np.arange(0, 3000, 300)] * 5
    )
    ids, _ = index.search(queries, 10, label="near")
    expected, _ = top_k(queries, vectors[1::2], 10, metric="euclidean")
    assert (ids % 2 == 1).all()
    assert (ids == 2 * expected + 1).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_removed_is_not_found_and_may_be_added_again(kind, make):
    vectors = clusters(200, 8)
    index = make(kind, 8)
    index.add(np.arange(200), vectors, ["a", "b"] * 100)
    assert index.remove([3, 3, 5, 1000]) == 2
    assert index.remove([3]) == 0
    assert len(index) == 198
    ids, _ = index.search(vectors, 198)
    assert not np.isin(ids, [3, 5, -1]).any()
    assert not np.isin(index.search(vectors[3], 99, label="b")[0], [3, 5]).any()
    index.add([3], -vectors[3:4], ["c"])
    assert len(index) == 199
    ids, scores = index.search(-vectors[3], 1)
    assert ids == 3
    np.testing.assert_allclose(scores, 1, atol=1e-3)
    np.testing.assert_array_equal(index.search(vectors[3], 2, label="c")[0], [[3, -1]])


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_that_is_there_gets_the_new_vector_and_label(kind, make):
    vectors = clusters(100, 8)
    index = make(kind, 8)
    index.add(np.arange(100), vectors, ["old"] * 100)
    index.add([200, 4], -vectors[:2], ["new", "new"])
    assert len(index) == 101
    assert index.search(-vectors[1], 1)[0] == 4
    assert sorted(index.search(vectors[0], 5, label="new")[0][0]) == [-1, -1, -1, 4, 200]
    assert 4 not in index.search(vectors[0], 100, label="old")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_misuse_is_refused_alike_and_changes_nothing(kind, make):
    index = make(kind, 4)
    good = clusters(90, 4)
    index.add(np.arange(90), good)
    bad = good.copy()
    bad[3, 1] = np.nan
    refused = [
        ((np.arange(90), bad), "new vector in row 3 holds NaN"),
        ((np.arange(90), good[:, :3]), r"\[n, 4\], not \[90, 3\]"),
        ((np.arange(89), good), "90 vectors, 89 ids"),
        ((np.arange(90), good, ["a"]), "1 labels"),
        (([5, 6, 5], good[:3]), "id 5 is given twice, once more in row 2"),
        (([5, -6, 7], good[:3]), "id in row 1 is -6"),
        (([0.5, 1, 2], good[:3]), "whole numbers"),
        (([1, 2, 3], good[:3], ["a", None, 7]), "label in row 2 is 7"),
    ]
    for given_, message in refused:
        with pytest.raises(ValueError, match=message):
            index.add(*given_)
    bad[0, 0] = np.inf
    with pytest.raises(ValueError, match="query vector in row 0"):
        index.search(bad, 1)
    with pytest.raises(ValueError, match=r"\[n, 4\], not \[1, 3\]"):
        index.search([1, 2, 3], 1)
    for k in (0, -1, 2.5, "3", True):
        with pytest.raises(ValueError, match=r"^k must"):
            index.search(good, k)
    with pytest.raises(ValueError, match="label must be text"):
        index.search(good, 1, label=3)
    with pytest.raises(ValueError, match="whole numbers"):
        index.remove(["a"])
    assert len(index) == 90
    index.add([], np.empty((0, 4)))
    assert index.remove([]) == 0
    assert len(index) == 90


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_what_was_saved_is_opened_as_it_was(kind, metric, make, tmp_path):
    vectors = clusters(150, 8)
    index = make(kind, 8, metric)
    index.add(np.arange(0, 300, 2), vectors, ["a", 'say "b"', None] * 50)
    index.remove([4, 8])
    expected = index.search(vectors[:9], 7), index.search(vectors[:9], 7, label='say "b"')
    path = saved(index, tmp_path)
    index.close()
    index = open_index(path)
    answers = index.search(vectors[:9], 7), index.search(vectors[:9], 7, label='say "b"')
    for ours, theirs in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)
    assert (len(index), index.kind, index.metric, index.dim) == (148, kind, metric, 8)
    index.add([4], vectors[2:3], ["a"])
    assert index.search(vectors[2], 1)[0] == 4
    index.close()


@pytest.mark.parametrize("kind", ["exact", "flat", "hnsw", "ivfpq"])
def test_an_empty_index_is_saved_too(kind, make, tmp_path):
    index = open_index(saved(make(kind, 3), tmp_path))
    assert len(index) == 0
    index.add(np.arange(100), clusters(100, 3))
    assert len(index) == 100


@pytest.mark.parametrize("kind", ["exact", "flat", "hnsw", "ivfpq"])
def test_a_cut_a_changed_and_a_foreign_file_are_refused(kind, make, tmp_path):
    index = make(kind, 8)
    index.add(np.arange(100), clusters(100, 8))
    path = saved(index, tmp_path)
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="changed or cut"):
            open_index(path)
    with zipfile.ZipFile(saved(index, tmp_path)) as archive:
        places = [member.header_offset + 80 for member in archive.infolist()]
    for place in places:  # one byte of each part
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="changed or cut"):
            open_index(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("index.json", json.dumps({"format": "another"}))
    with pytest.raises(ValueError, match="no index of Lookalike"):
        open_index(path)
    with pytest.raises(FileNotFoundError, match="No index at"):
        open_index(tmp_path / "nothing")


def test_a_newer_schema_is_refused(make, tmp_path, monkeypatch):
    monkeypatch.setattr(exact, "SCHEMA", 2)
    path = saved(make("exact", 3), tmp_path)
    with pytest.raises(ValueError, match="schema 2, newer than 1"):
        open_index(path)


def test_a_failed_save_leaves_what_was_there(make, tmp_path, monkeypatch):
    index = make("flat", 3)
    index.add([1], [[1, 2, 3]])
    path = saved(index, tmp_path)

    def full(*_):
        raise OSError("disk full")

    index.add([2], [[1, 2, 3]])
    monkeypatch.setattr(index.faiss, "write_index", full)
    with pytest.raises(OSError, match="disk full"):
        index.save(path)
    assert len(open_index(path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
@pytest.mark.parametrize(("n", "dim"), [(3000, 32), (8000, 128), (4000, 384)])
def test_the_approximate_find_19_of_20(kind, n, dim):
    real, held_out = clusters(1000, dim), clusters(200, dim, seed=1)
    vectors, queries = resampled(real, n), resampled(held_out, 100, seed=1)
    row = measure(kind, vectors, queries)
    assert row["recall"] >= 0.95
    assert row["vectors"] == n


def test_ivfpq_takes_the_least_room():
    vectors = clusters(2000, 128)
    table = compare_engines(
        vectors, clusters(20, 128, seed=1), ["flat", "hnsw", "ivfpq"]
    ).set_index("kind")
    assert table.loc["ivfpq", "MB"] < 0.75 * table.loc["flat", "MB"]
    assert table.loc["flat", "MB"] == pytest.approx(2000 * (4 * 128 + 8 + 4) / 1e6, rel=0.01)
    assert table.loc["hnsw", "MB"] > table.loc["flat", "MB"]


def test_a_graph_with_removed_vectors_still_finds_19_of_20():
    vectors, queries = clusters(4000, 16), clusters(100, 16, seed=1)
    index = FaissIndex(16)
    index.add(np.arange(4000), vectors)
    for removed in (slice(0, 1500), slice(0, 3000)):  # followed, and compared with all
        index.remove(np.arange(4000)[removed])
        ids, _ = index.search(queries, 10)
        exact = top_k(queries, vectors[removed.stop :], 10)[1]
        assert ids.min() >= removed.stop
        assert recall_at_k(ids, exact, queries, vectors, "cosine") >= 0.95


def test_ivfpq_of_too_few_says_how_many_it_needs():
    index = FaissIndex(8, kind="ivfpq")
    with pytest.raises(ValueError, match=r"needs 78 of them; there are 77"):
        index.add(np.arange(77), clusters(77, 8))
    index.add(np.arange(78), clusters(78, 8))
    assert len(index) == 78


def test_a_rebuild_is_asked_for_when_it_is_due():
    index = FaissIndex(4, kind="ivfpq")
    index.add(np.arange(100), clusters(100, 4))
    assert index.rebuild_due == ""
    index.add(np.arange(100, 401), clusters(301, 4))
    assert index.rebuild_due == "it was trained on 100 vectors, and holds 401"
    index = FaissIndex(4)
    index.add(np.arange(10), clusters(10, 4))
    index.remove(np.arange(5))
    assert index.rebuild_due == ""
    index.remove([5])
    assert index.rebuild_due == "6 of 10 vectors are removed, but take room and time"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(data):
    """Exact, flat and HNSW, changed at random, against a plain dictionary of vectors and labels."""
    kind, metric = (
        data.draw(st.sampled_from(["exact", "flat", "hnsw"])),
        data.draw(st.sampled_from(METRICS)),
    )
    index, there = make_index(kind, 3, metric=metric), {}
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    for _ in range(data.draw(st.integers(1, 6))):
        ids = random.permutation(12)[: random.integers(1, 9)]
        if random.random() < 0.6:
            vectors = random.normal(size=(len(ids), 3)).astype(np.float32)
            labels = random.choice(["a", "b", None], len(ids))
            index.add(ids, vectors, labels)
            there |= {
                key: (vector, label)
                for key, vector, label in zip(ids.tolist(), vectors, labels, strict=True)
            }
        else:
            assert index.remove(ids) == len(there.keys() & set(ids.tolist()))
            there = {key: held for key, held in there.items() if key not in ids}
    label = data.draw(st.sampled_from(["a", "b", None]))
    held = {key: vector for key, (vector, name) in there.items() if label in (None, name)}
    query = random.normal(size=3)
    rows, expected = top_k(query, np.array([*held.values(), [0, 0, 0]])[:-1], 15, metric=metric)
    ids, scores = index.search(query, 15, label=label)
    np.testing.assert_array_equal(ids, np.append(list(held), -1).astype(int)[rows])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert len(index) == len(there)


def test_recall_counts_what_is_as_near_as_the_last():
    vectors = np.array([[1, 0], [0, 1], [0, -1], [-1, 0]], np.float32)
    queries = np.array([[1, 0]], np.float32)
    exact = top_k(queries, vectors, 2)[1]
    for ids, expected in (
        ([[0, 1]], 1),
        ([[0, 2]], 1),
        ([[0, 3]], 0.5),
        ([[0, -1]], 0.5),
        ([[3, -1]], 0),
    ):
        assert recall_at_k(np.array(ids), exact, queries, vectors, "cosine") == expected


def test_measure_of_an_index_tells_how_right_it_is(make):
    vectors, queries = clusters(100, 4), clusters(7, 4, seed=1)
    index = make("exact", 4)
    index.add(np.arange(100), vectors)
    row = measure(index, vectors, queries, 5)
    assert row["recall"] == 1
    assert row["MB"] == 100 * (16 + 8 + 4) / 1e6
    assert np.isnan(row["build_s"])
    wrong = make("exact", 4)
    wrong.add(np.arange(100), -vectors)
    assert measure(wrong, vectors, queries, 5)["recall"] < 0.5


def test_engines_are_compared_in_a_table_over_sizes():
    table = compare_engines(
        clusters(500, 8), clusters(9, 8, seed=1), ["exact", "hnsw"], sizes=[100, 500]
    )
    assert table[["kind", "vectors"]].to_numpy().tolist() == [
        ["exact", 100],
        ["hnsw", 100],
        ["exact", 500],
        ["hnsw", 500],
    ]
    assert list(table) == [
        "kind",
        "vectors",
        "build_s",
        "ms_per_query",
        "queries_per_s",
        "recall",
        "MB",
    ]
    assert (table["recall"] > 0.95).all()


def test_resampled_vectors_lie_as_near_to_each_other_as_the_real_ones():
    real = clusters(2000, 32, centres=40) ** 3  # of uneven directions
    made = resampled(real, 2000)
    white = np.random.default_rng(0).normal(real.mean(axis=0), real.std(axis=0), real.shape)
    near = [
        np.median(1 - top_k(vectors, vectors, 1, exclude=list(np.arange(2000)[:, None]))[1])
        for vectors in (real, made, white)
    ]
    assert 0.5 < near[1] / near[0] < 1.5
    assert near[2] > 2 * near[0]
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, resampled(real, 2000))
    assert not (made == resampled(real, 2000, seed=1)).all(axis=1).any()
    np.testing.assert_allclose(
        resampled(real, 70_000).mean(axis=0), real.mean(axis=0), atol=0.1 * real.std()
    )


def test_two_real_vectors_are_enough_to_resample_one_is_not():
    made = resampled([[0, 0], [1, 0]], 1000)
    assert -0.9 < made[:, 0].min() < 0 < 1 < made[:, 0].max() < 3
    with pytest.raises(ValueError, match="two vectors"):
        resampled([[0, 0]], 10)
    with pytest.raises(ValueError, match="n must be >= 1"):
        resampled([[0, 0], [1, 0]], 0)


@pytest.mark.parametrize("kind", [*EXACT, "hnsw"])
def test_a_store_is_indexed_by_its_rows_and_labels(kind, encoder, catalog, tmp_path):
    needs(kind)
    catalog.loc[2, "label"] = None
    store = embed_catalog(encoder, catalog, tmp_path / "store")
    index = index_store(store, kind, path=tmp_path / "products.db")
    ids, _ = index.search(store.vectors[5], 3)
    assert store.catalog.iloc[ids[0]]["image_id"].iloc[0] == store.catalog["image_id"][5]
    ids, _ = index.search(store.vectors[5], 12, label="b")
    assert set(store.catalog.iloc[ids[ids >= 0]]["label"]) == {"b"}
    assert (ids >= 0).sum() == 3
    index.close()
    del store.catalog["label"]
    index = index_store(store, kind, path=tmp_path / "products.db")
    assert len(index) == 12
    assert (index.search(store.vectors[5], 12, label="b")[0] == -1).all()
    index.close()


def test_an_unknown_kind_metric_and_a_milvus_nowhere_are_refused():
    with pytest.raises(ValueError, match="exact, flat, hnsw, ivfpq, milvus"):
        make_index("annoy", 3)
    with pytest.raises(ValueError, match="flat, hnsw, ivfpq"):
        FaissIndex(3, kind="annoy")
    for kind in ("exact", "hnsw"):
        with pytest.raises(ValueError, match="cosine, euclidean"):
            make_index(kind, 3, metric="manhattan")
    with pytest.raises(ValueError, match="Milvus needs a path"):
        make_index("milvus", 3)


def test_without_faiss_the_user_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"^faiss-cpu not installed; run: pip install faiss-cpu$"):
        make_index("hnsw", 3)


def test_what_is_found_twice_counts_once():
    vectors = np.eye(4, dtype=np.float32)
    _, exact = top_k(vectors[:1], vectors, 2)
    assert recall_at_k(np.array([[0, 0]]), exact, vectors[:1], vectors, "cosine") == 0.5
    assert recall_at_k(np.array([[2, 0]]), exact, vectors[:1], vectors, "cosine") == 1


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_an_interrupted_add_leaves_nothing_behind_that_could_be_found(kind, monkeypatch):
    monkeypatch.setattr(faiss_indexes, "ROWS", 100)
    vectors, index = clusters(300, 8), FaissIndex(8, kind=kind)
    index.add(np.arange(50), vectors[:50])
    scaled = index._scaled

    def interrupted(*block):
        if index.engine.ntotal == 150:
            raise KeyboardInterrupt
        return scaled(*block)

    monkeypatch.setattr(index, "_scaled", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.add(np.arange(1000, 1300), vectors)
    monkeypatch.setattr(index, "_scaled", scaled)
    index.add(np.arange(500, 800), vectors)
    assert len(index) == 350
    ids, _ = index.search(vectors[200:], 1)
    assert ids[:, 0].tolist() == list(range(700, 800))


@pytest.mark.parametrize("name", ["products.db", "http://host/index"])
def test_an_index_is_not_saved_under_a_name_that_milvus_would_open(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="a name for a Milvus"):
        make_index("exact", 2).save(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["exact", "flat", "hnsw"])
def test_vectors_of_any_type_and_layout_make_the_same_index(kind, make, tmp_path):
    vectors = np.random.default_rng(0).integers(-8, 9, (60, 4)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    wide = np.zeros((120, 8))
    wide[::2, 1::2] = vectors
    read_only = vectors[::-1, ::-1].copy()[::-1, ::-1]
    read_only.setflags(write=False)
    indexes_ = [make(kind, 4) for _ in range(7)]
    same = (
        vectors,
        vectors.astype(np.float16),
        vectors.astype(np.int8),
        np.asfortranarray(vectors.astype(float)),
    )
    same += (wide[::2, 1::2], read_only, np.load(tmp_path / "vectors.npy", mmap_mode="r"))
    for index, rows in zip(indexes_, same, strict=True):
        index.add(np.arange(40), rows[:40])
        index.add(np.arange(40, 60, dtype=np.uint8), rows[40:])
        for ours, theirs in zip(
            index.search(rows[:9], 5), indexes_[0].search(vectors[:9], 5), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_an_exact_index_without_room_for_more_stays_as_it_was(make, monkeypatch):
    index, vectors = make("exact", 4), clusters(20, 4)
    index.add(np.arange(10), vectors[:10], ["a"] * 10)

    concatenate = np.concatenate

    def full(parts):
        if parts[0].ndim == 2:
            raise MemoryError
        return concatenate(parts)

    with monkeypatch.context() as patch:
        patch.setattr(exact.np, "concatenate", full)
        with pytest.raises(MemoryError):
            index.add(np.arange(5, 15), vectors[5:15], ["b"] * 10)
    assert len(index) == 10
    assert index.search(vectors[7], 1, label="a")[0] == 7
    index.add(np.arange(5, 15), vectors[5:15], ["b"] * 10)
    assert len(index) == 15
    assert index.search(vectors[12], 1, label="b")[0] == 12
