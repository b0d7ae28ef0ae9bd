"""What is Milvus's own; what all engines share is in test_indexes.py. On Milvus Lite, really."""

import numpy as np
import pytest

from conftest import skip_without
from lookalike.scale import milvus, open_index
from lookalike.scale.milvus import MilvusIndex
from lookalike.similarity import normalise, top_k

skip_without("pymilvus", "milvus_lite")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    index = MilvusIndex(tmp_path_factory.mktemp("milvus") / "shared.db", dim=2)
    yield index
    index.close()


ODD = ["", "%", "'", "\\", '\\" or 1 == 1 or "', '" or id >= 0 or label == "', "a\nb\r\tc\\n"]
ODD += ["{label}", "Schuhe für Füße 👟"]


@pytest.mark.parametrize("label", ODD)
def test_an_odd_label_is_only_a_label(index, label):
    """It finds its own product, and neither the one of another label nor that of none."""
    index.add([0, 1, 2], [[1, 0], [1, 0], [1, 0]], [label, label + "x", None])
    ids, _ = index.search([1.0, 0], 3, label=label)
    np.testing.assert_array_equal(ids, [[0, -1, -1]])


def test_many_messages_and_thousands_of_neighbours_agree_with_exact_search(tmp_path, monkeypatch):
    monkeypatch.setattr(milvus, "BYTES", 500 * 4 * 8)
    monkeypatch.setattr(milvus, "QUERIES", 3)
    monkeypatch.setattr(milvus, "MOST", 500)
    vectors = normalise(np.random.default_rng(0).normal(size=(1600, 8)))
    index = MilvusIndex(tmp_path / "some.db", dim=8)
    index.add(np.arange(1600), vectors)
    index.save()  # from here on it searches the graph that it has built
    expected, products = top_k(vectors[:7], vectors, 1200, metric="product")
    ids, scores = index.search(vectors[:7], 1200)
    assert (ids == expected).mean() > 0.99
    np.testing.assert_allclose(scores, products, atol=1e-4)
    index.remove(np.arange(1200))
    assert len(index) == 400
    assert sorted(index.search(vectors[:1], 401)[0][0]) == [-1, *range(1200, 1600)]
    index.close()


def test_a_file_is_closed_opened_and_its_collection_replaced(tmp_path):
    index = MilvusIndex(tmp_path / "some.db", dim=3)
    index.add([5], [[1, 0, 0]], ["a"])
    with pytest.raises(ValueError, match="make another"):
        index.save(tmp_path / "other.db")
    for _ in range(2):
        index.close()
    with pytest.raises(FileNotFoundError, match=r"No collection shoes at .*index_store"):
        open_index(tmp_path / "some.db", name="shoes")
    MilvusIndex(tmp_path / "some.db", dim=2, name="shoes").close()
    index = open_index(tmp_path / "some.db")
    assert (index.dim, len(index)) == (3, 1)
    assert index.search([1.0, 0, 0], 2, label="a")[0].tolist() == [[5, -1]]
    index.close()
    index = MilvusIndex(tmp_path / "some.db", dim=4)
    assert (index.dim, len(index)) == (4, 0)
    index.close()
    assert open_index(tmp_path / "some.db", name="shoes").dim == 2


@pytest.mark.parametrize("dim", [None, 3])
def test_a_collection_of_others_is_neither_opened_nor_dropped(dim, tmp_path):
    from pymilvus import MilvusClient

    client = MilvusClient(str(tmp_path / "some.db"))
    client.create_collection("products", dimension=3)
    client.close()
    with pytest.raises(ValueError, match="was not made here"):
        MilvusIndex(tmp_path / "some.db", dim=dim)
    client = MilvusClient(str(tmp_path / "some.db"))
    assert client.list_collections() == ["products"]
    client.close()
