"""What is Milvus's own; what all engines share is in test_indexes.py. On Milvus Lite, really."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import skip_without
from lookalike.scale import milvus
from lookalike.scale.milvus import MilvusIndex, quoted
from lookalike.similarity import top_k

skip_without("pymilvus", "milvus_lite")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    index = MilvusIndex(tmp_path_factory.mktemp("milvus") / "shared.db", dim=2)
    yield index
    index.close()


@settings(max_examples=60, deadline=None)
@given(label=st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
@example(label='" or id >= 0 or label == "')
@example(label="\\")
@example(label='\\" or 1 == 1 or "')
@example(label="'")
@example(label="a\nb\r\tc\\n")
@example(label="{label}")
@example(label="%")
@example(label="")
@example(label="\x00")
@example(label="Schuhe für Füße 👟")
def test_a_label_is_only_ever_a_label(index, label):
    """Whatever it holds, it finds its own product, and neither the one of another label nor that of
    none.
    """
    index.add([0, 1, 2], [[1, 0], [1, 0], [1, 0]], [label, label + "x", None])
    ids, _ = index.search([1.0, 0], 3, label=label)
    np.testing.assert_array_equal(ids, [[0, -1, -1]])


def test_quotes_and_backslashes_are_escaped():
    assert quoted('a"b\\c\n') == '"a\\"b\\\\c\\n"'


def test_batches_and_thousands_of_neighbours_agree_with_exact_search(tmp_path, monkeypatch):
    monkeypatch.setattr(milvus, "BATCH", 700)
    monkeypatch.setattr(milvus, "QUERIES", 3)
    vectors = np.random.default_rng(0).normal(size=(2500, 8)).astype(np.float32)
    index = MilvusIndex(tmp_path / "some.db", dim=8, metric="euclidean")
    index.add(np.arange(2500), vectors)
    index.save()
    expected, distances = top_k(vectors[:7], vectors, 2000, metric="euclidean")
    ids, scores = index.search(vectors[:7], 2000)
    assert (ids == expected).mean() > 0.99
    np.testing.assert_allclose(scores, distances, atol=1e-3)
    assert index.remove(np.arange(2000)) == 2000
    assert (len(index), index.search(vectors[:1], 2500)[0].max()) == (500, 2499)
    with pytest.raises(ValueError, match="at most 16384"):
        index.search(vectors[:1], 20_000)
    index.close()


def test_vectors_are_not_sent_back(index, monkeypatch):
    index.add([0], [[1, 0]])
    answers = []
    search = index.client.search
    monkeypatch.setattr(
        index.client,
        "search",
        lambda *args, **named: answers.append(search(*args, **named)) or answers[-1],
    )
    index.search([1.0, 0], 1)
    assert set(answers[0][0][0]["entity"]) <= {"id"}


def test_a_file_that_is_open_is_closed_and_opened_again(tmp_path):
    with pytest.raises(FileNotFoundError, match="No Milvus at"):
        MilvusIndex(tmp_path / "some.db")
    assert not list(tmp_path.iterdir())
    index = MilvusIndex(tmp_path / "some.db", dim=3, metric="euclidean")
    index.add([5], [[1, 2, 3]], ["a"])
    index.close()
    index.close()
    index = MilvusIndex(tmp_path / "some.db")
    assert (index.dim, index.metric, len(index)) == (3, "euclidean", 1)
    assert index.nbytes > 0
    with pytest.raises(ValueError, match="make another"):
        index.save(tmp_path / "other.db")
    index.close()
    with pytest.raises(FileNotFoundError, match="No collection shoes"):
        MilvusIndex(tmp_path / "some.db", "shoes")
    for asked in ({"dim": 4}, {"metric": "cosine"}):
        with pytest.raises(ValueError, match="holds vectors of 3 numbers by euclidean"):
            MilvusIndex(tmp_path / "some.db", **asked)
    index = MilvusIndex(tmp_path / "some.db", dim=4, fresh=True)
    assert (index.dim, index.metric, len(index)) == (4, "cosine", 0)
    index.close()


def test_a_collection_of_others_is_neither_opened_nor_dropped(tmp_path):
    from pymilvus import MilvusClient

    client = MilvusClient(str(tmp_path / "some.db"))
    client.create_collection("products", dimension=3)
    client.close()
    for fresh in (False, True):
        with pytest.raises(ValueError, match="was not made here"):
            MilvusIndex(tmp_path / "some.db", dim=3, fresh=fresh)
    client = MilvusClient(str(tmp_path / "some.db"))
    assert client.list_collections() == ["products"]
    client.close()


def test_two_collections_of_one_milvus_do_not_mix(tmp_path):
    shoes = MilvusIndex(tmp_path / "some.db", "shoes", dim=2)
    shoes.add([1], [[1, 0]])
    shoes.close()
    hats = MilvusIndex(tmp_path / "some.db", "hats", dim=3)
    hats.add([2, 3], np.eye(3)[:2])
    assert (len(hats), hats.search([1.0, 0, 0], 5)[0].max()) == (2, 3)
    hats.close()


def test_misuse_is_refused(index):
    with pytest.raises(ValueError, match=r"ends in \.db"):
        MilvusIndex("products.txt", dim=3)
    with pytest.raises(ValueError, match="label in row 1 is longer"):
        index.add([0, 1], np.eye(2), ["a", "é" * 40_000])


def test_without_milvus_the_user_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "milvus_lite", None)  # as if it were not installed
    with pytest.raises(
        ImportError, match=r"^milvus-lite not installed; run: pip install milvus-lite$"
    ):
        MilvusIndex(tmp_path / "some.db", dim=3)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ImportError, match=r"pip install pymilvus milvus-lite$"):
        MilvusIndex(tmp_path / "some.db", dim=3)
    with pytest.raises(ImportError, match=r"pip install pymilvus$"):  # a server needs no more
        MilvusIndex("http://localhost:1", dim=3)


def test_what_is_saved_has_its_graph(tmp_path):
    index = MilvusIndex(tmp_path / "graph.db", dim=4)
    index.add(np.arange(2000), np.random.default_rng(0).standard_normal((2000, 4), np.float32))
    index.save()
    assert list(tmp_path.rglob("*.hnsw.idx"))
    assert index.search(np.ones((1, 4)), 3)[0].shape == (1, 3)
    index.close()


FORKING = """
import signal, subprocess, sys
import numpy as np
from lookalike.scale.indexes import measure
random = np.random.default_rng(0)
vectors = random.standard_normal((5050, 16), np.float32)
measure("milvus", vectors[50:], vectors[:50])
start = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}  # as Spark starts Java
codes = [subprocess.Popen([sys.argv[1]], **start).wait() for _ in range(150)]
print([code for code in codes if code])
"""


@pytest.mark.soak
def test_other_processes_can_be_started_beside_it():
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GRPC_")
    }
    command = [sys.executable, "-c", FORKING, shutil.which("true")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
