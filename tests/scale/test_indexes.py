"""What every engine must do alike: FAISS and Milvus Lite, really."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import skip_without
from lookalike.colour import join
from lookalike.embeddings import EmbeddingStore
from lookalike.scale import index_store, indexes, open_index
from lookalike.scale.indexes import FaissIndex
from lookalike.scale.milvus import MilvusIndex
from lookalike.scale.shared import INDEXED, indexed
from lookalike.similarity import normalise, top_k

skip_without("faiss")
KINDS = ["flat", "hnsw", "ivfpq", "milvus"]
QUICK = ["flat", "hnsw", "milvus"]  # IVF-PQ learns for seconds, of 10,000 vectors


def clusters(n, dim, seed=0, spread=0.4):
    """Unit vectors about forty centres, as embeddings are."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, dim))
    noise = random.normal(size=(n, dim))
    return normalise(centres[random.integers(40, size=n)] + spread * noise)


def shop(n, seed=0, dim=32):
    """An open store of n photos, two a product, in three labels, whose vectors have any length."""
    random = np.random.default_rng(seed)
    rows = {
        "image_id": [f"{row:05}" for row in range(n)],
        "product_id": [f"product-{row // 2}" for row in range(n)],
        "label": [["hat", "bag", 'say "shoe"'][row % 3] for row in range(n)],
    }
    vectors = clusters(n, dim, seed) * random.uniform(0.5, 20, (n, 1)).astype(np.float32)
    colours = np.abs(clusters(n, 32, seed + 1)) ** 2
    parts = {"encoder": "by hand", "fingerprint": "0" * 16, "fit": "resize"}, {}
    store = EmbeddingStore(Path("shop"), vectors, pd.DataFrame(rows), *parts)
    return dataclasses.replace(store, side_arrays={"colours": normalise(colours)})


@pytest.fixture
def make(tmp_path):
    """An empty index of any kind, or one of a store; closed at the end."""
    made = []

    def build(kind, of):
        path = tmp_path / f"{len(made)}.db" if kind == "milvus" else ""
        if path:
            skip_without("milvus_lite", "pymilvus")
        if isinstance(of, EmbeddingStore):
            made.append(index_store(of, kind, path))
        else:
            made.append(MilvusIndex(path, of) if path else FaissIndex(of, kind))
        return made[-1]

    yield build
    for index in made:
        index.close()


def count_for(kind):
    """Few vectors, but as many as a kind needs."""
    return 10_000 if kind == "ivfpq" else 300


def saved(index, tmp_path):
    """Where an index is after it was saved."""
    path = index.uri if index.kind == "milvus" else tmp_path / "deep" / "index"
    index.save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "n", "recall", "rounding"),
    [
        ("flat", 3000, 1, 1e-5),
        ("milvus", 500, 1, 1e-5),
        ("hnsw", 5000, 0.95, 1e-5),
        ("ivfpq", 10_000, 0.95, 2e-3),  # it scores in half precision
    ],
)
def test_an_engine_finds_what_exact_search_finds_at_every_weight_of_colour(
    kind, n, recall, rounding, make
):
    """Also where some or most was removed."""
    store, asking = shop(n), shop(100, seed=5)
    index, gallery = make(kind, store), indexed(store)
    asking = normalise(asking.vectors), asking.side_arrays["colours"]
    for weight, gone in ((0, 0), (0.2, 0), (0, n // 4), (0.2, n * 3 // 4)):
        index.remove(np.arange(gone))
        queries = join(asking[0] / (1 - INDEXED), asking[1] / INDEXED, weight)
        ids, scores = index.search(queries, 10)
        expected, exact = top_k(queries, gallery[gone:], 10, metric="product")
        assert (ids.dtype, scores.dtype, ids.shape) == (np.int64, np.float32, (100, 10))
        pairs = zip(ids, expected + gone, strict=True)
        assert np.mean([np.isin(*pair) for pair in pairs]) >= recall
        products = np.einsum("qd,qkd->qk", queries, gallery[ids])
        np.testing.assert_allclose(scores, products, atol=rounding)
        assert (np.diff(scores, axis=1) <= 0).all()
        if recall == 1:
            np.testing.assert_allclose(scores, exact, atol=rounding)


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_is_far_from_the_query_is_found_whole(kind, make, tmp_path):
    """The thousands that are nearer must not hide the few of the other label."""
    count = 4000 if kind == "milvus" else 10_000
    vectors = np.abs(clusters(count, 8))
    vectors[::1000] *= -1
    labels = ["far" if row % 1000 == 0 else "near" for row in range(count)]
    index = make(kind, 8)
    index.add(np.arange(count), vectors, pd.Series(labels))
    saved(index, tmp_path)  # Milvus searches its graph from then on
    found, _ = index.search(np.abs(clusters(5, 8, seed=1)), count // 1000, label="far")
    np.testing.assert_array_equal(np.sort(found), [np.arange(0, count, 1000)] * 5)


GOOD = clusters(3, 4)
BAD = np.where(np.arange(12).reshape(3, 4) == 6, np.nan, GOOD)
MISUSE = [
    (("add", [0, 1, 2], BAD), "new vector in row 1 holds NaN"),
    (("add", [0, 1, 2], GOOD[:, :3]), r"\[n, 4\], not \[3, 3\]"),
    (("add", [0, 1], GOOD), "3 vectors, 2 ids and 3 labels"),
    (("add", [0, 1, 2], GOOD, ["a"]), "3 vectors, 3 ids and 1 labels"),
    (("add", [5, 6, 5], GOOD), "each given once"),
    (("add", [5, -6, 7], GOOD), "whole numbers from 0 on"),
    (("add", [0.5, 1, 2], GOOD), "whole numbers from 0 on"),
    (("search", BAD * np.inf, 1), "query vector in row 0 holds"),
    (("search", [1, 2, 3], 1), r"\[n, 4\], not \[1, 3\]"),
    (("search", GOOD, 0), "k must be a whole number"),
]


@pytest.mark.parametrize("kind", QUICK)
def test_misuse_is_refused_alike_and_changes_nothing(kind, make):
    count = 300
    index = make(kind, 4)
    index.add(np.arange(count), clusters(count, 4))
    before = index.search(GOOD, 5)
    for (verb, *arguments), message in MISUSE:
        with pytest.raises(ValueError, match=message):
            getattr(index, verb)(*arguments)
    index.add([], np.empty((0, 4)))
    assert len(index) == count
    for ours, old in zip(index.search(GOOD, 5), before, strict=True):
        np.testing.assert_array_equal(ours, old)
    assert index.search(np.empty((0, 4)), 3)[0].shape == (0, 3)


@pytest.mark.parametrize(("kind", "examples"), [("flat", 40), ("hnsw", 40), ("milvus", 3)])
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(kind, examples, make):
    @settings(max_examples=examples, deadline=None)
    @given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(0, 1000))
    def changed(adds, seed):
        index, there, random = make(kind, 3), {}, np.random.default_rng(seed)
        for adding in adds:
            ids = random.permutation(12)[: random.integers(1, 9)]
            there = {key: row for key, row in there.items() if adding or key not in ids}
            if adding:
                rows = normalise(random.normal(size=(len(ids), 3)))
                labels = random.choice(["a", "b", None], len(ids))
                index.add(ids, rows, labels)
                pairs = [*zip(rows, labels, strict=True)]
                there |= dict(zip(ids.tolist(), pairs, strict=True))
            else:
                index.remove(ids)
        assert len(index) == len(there)
        for label in ("a", "b", None):
            held = {key: row for key, (row, name) in there.items() if label in (None, name)}
            query = normalise(random.normal(size=(1, 3)))
            gallery = np.array([*held.values(), [0, 0, 0]])[:-1]
            rows, expected = top_k(query, gallery, 15, metric="product")
            ids, scores = index.search(query, 15, label=label)
            np.testing.assert_array_equal(ids, np.append([*held], -1).astype(int)[rows])
            np.testing.assert_allclose(scores, expected, atol=1e-5)

    changed()


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_an_interrupted_add_leaves_nothing_that_could_be_found(kind, make, monkeypatch):
    vectors, index = clusters(300, 8, spread=1), make(kind, 8)
    index.add(np.arange(50), vectors[:50])

    def interrupted(*_):
        yield slice(100)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(indexes, "slices", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.add(np.arange(1000, 1300), vectors)
    assert (len(index), index.search(vectors, 51)[0].max()) == (50, 49)
    index.add(np.arange(500, 800), vectors)
    assert len(index) == 350
    assert index.search(vectors[200:], 1)[0][:, 0].tolist() == [*range(700, 800)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_opened_as_it_was(kind, make, tmp_path):
    count = 30 * (count_for(kind) // 30 + 1)
    vectors = clusters(count, 8)
    index = make(kind, 8)
    index.add(2 * np.arange(count), vectors, ["a", 'say "b"', None] * (count // 3))
    index.remove([4, 8])
    labels = (None, 'say "b"', "c")
    expected = [index.search(vectors[:9], 7, label=label) for label in labels]
    path = saved(index, tmp_path)
    index.close()
    index = open_index(path)
    for label, (ids, scores) in zip(labels, expected, strict=True):
        answer = index.search(vectors[:9], 7, label=label)
        np.testing.assert_array_equal(answer[0], ids)
        np.testing.assert_allclose(answer[1], scores, atol=1e-6)
    assert (len(index), index.kind, index.dim) == (count - 2, kind, 8)
    index.add([4], -vectors[2:3], ["c"])
    assert index.search(-vectors[2], 1, label="c")[0] == 4
    index.close()


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_file_that_was_cut_changed_or_exchanged_is_refused(kind, make, tmp_path):
    index = make(kind, 8)
    index.add(np.arange(300), clusters(300, 8))
    path = saved(index, tmp_path)
    index.remove([0])
    index.add([1], clusters(1, 8))
    index.save(tmp_path / "other")
    for name in ("index.faiss", "rows.npz"):
        whole = (path / name).read_bytes()
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        cut = [whole[:end] for end in (0, middle, len(whole) - 5)]
        for content in (*cut, changed, (tmp_path / "other" / name).read_bytes()):
            (path / name).write_bytes(content)
            with pytest.raises(ValueError, match=r"index was changed or cut .*; make it again"):
                open_index(path)
        (path / name).write_bytes(whole)
    assert len(open_index(path)) == 300


def test_what_cannot_be_opened_or_made_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="No index at nothing"):
        open_index("nothing")
    for kind, message in (
        ("annoy", "flat, hnsw, ivfpq or milvus, not 'annoy'"),
        ("ivfpq", "needs 9984 of them; there are 4"),
        ("milvus", r"Milvus needs a path, a file that ends in \.db"),
    ):
        with pytest.raises(ValueError, match=message):
            index_store(shop(4), kind)
    assert not [*tmp_path.iterdir()]
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed
    for call in (lambda: index_store(shop(4)), lambda: open_index(tmp_path)):
        with pytest.raises(ImportError, match=r"^faiss-cpu .*run: pip install faiss-cpu$"):
            call()
