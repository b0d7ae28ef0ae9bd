"""What is Milvus's own; what all engines share is in test_indexes.py. On Milvus Lite, really."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
ODD += ["{label}", "\x00", "Schuhe für Füße 👟"]


def assert_only_a_label(index, label):
    """It finds its own product, and neither the one of another label nor that of none."""
    index.add([0, 1, 2], [[1, 0], [1, 0], [1, 0]], [label, label + "x", None])
    ids, _ = index.search([1.0, 0], 3, label=label)
    np.testing.assert_array_equal(ids, [[0, -1, -1]])


@pytest.mark.parametrize("label", ODD)
def test_an_odd_label_is_only_a_label(index, label):
    assert_only_a_label(index, label)


@settings(max_examples=50, deadline=None)
@given(label=st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_any_label_is_only_a_label(index, label):
    assert_only_a_label(index, label)


def test_many_messages_and_thousands_of_neighbours_agree_with_exact_search(tmp_path, monkeypatch):
    monkeypatch.setattr(milvus, "BYTES", 700 * 4 * 8)
    monkeypatch.setattr(milvus, "QUERIES", 3)
    monkeypatch.setattr(milvus, "MOST", 900)
    vectors = normalise(np.random.default_rng(0).normal(size=(2500, 8)))
    index = MilvusIndex(tmp_path / "some.db", dim=8)
    index.add(np.arange(2500), vectors)
    index.save()  # from here on it searches the graph that it has built
    expected, products = top_k(vectors[:7], vectors, 2000, metric="product")
    ids, scores = index.search(vectors[:7], 2000)
    assert (ids == expected).mean() > 0.99
    np.testing.assert_allclose(scores, products, atol=1e-4)
    index.remove(np.arange(2000))
    assert len(index) == 500
    assert sorted(index.search(vectors[:1], 501)[0][0]) == [-1, *range(2000, 2500)]
    index.close()


def test_a_file_is_closed_opened_and_its_collection_replaced(tmp_path):
    with pytest.raises(FileNotFoundError, match="No Milvus at"):
        open_index(tmp_path / "some.db")
    assert not list(tmp_path.iterdir())
    index = MilvusIndex(tmp_path / "some.db", dim=3)
    index.add([5], [[1, 0, 0]], ["a"])
    with pytest.raises(ValueError, match="make another"):
        index.save(tmp_path / "other.db")
    for _ in range(2):
        index.close()
    with pytest.raises(FileNotFoundError, match="No collection shoes"):
        open_index(tmp_path / "some.db", name="shoes")
    shoes = MilvusIndex(tmp_path / "some.db", dim=2, name="shoes")
    shoes.add([1, 2], np.eye(2))
    shoes.close()
    index = open_index(tmp_path / "some.db")
    assert (index.dim, len(index)) == (3, 1)
    assert index.search([1.0, 0, 0], 2, label="a")[0].tolist() == [[5, -1]]
    index.close()
    index = MilvusIndex(tmp_path / "some.db", dim=4)
    assert (index.dim, len(index)) == (4, 0)
    index.close()
    assert len(open_index(tmp_path / "some.db", name="shoes")) == 2


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


def test_packages_that_are_missing_are_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "milvus_lite", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"^milvus-lite .*run: pip install milvus-lite$"):
        MilvusIndex(tmp_path / "some.db", dim=3)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ImportError, match=r"pip install pymilvus milvus-lite$"):
        MilvusIndex(tmp_path / "some.db", dim=3)
    with pytest.raises(ImportError, match=r"pip install pymilvus$"):  # a server needs no more
        MilvusIndex("http://localhost:1", dim=3)


FORKING = """
import signal, subprocess, sys
import numpy as np
from lookalike.scale.milvus import MilvusIndex
vectors = np.random.default_rng(0).standard_normal((5000, 16), np.float32)
index = MilvusIndex(sys.argv[1], 16)
index.add(range(5000), vectors)
index.search(vectors[:50], 10)
start = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}  # as Spark starts Java
codes = [subprocess.Popen([sys.argv[2]], **start).wait() for _ in range(150)]
print([code for code in codes if code])
"""


@pytest.mark.soak
def test_other_processes_can_be_started_beside_it(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name[:5] != "GRPC_"}
    command = [sys.executable, "-c", FORKING, tmp_path / "some.db", shutil.which("true")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
