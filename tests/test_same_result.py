"""The same photos and the same seed give the same, in any process, whatever order the files were
written in.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from lookalike.backbones import build_encoder, load_backbone
from lookalike.embeddings import embed_catalog
from lookalike.evaluation import confidence_interval, rank
from lookalike.sources import load_catalog
from lookalike.splits import split_by_product
from lookalike.training import build_classifier, train

MEMORY = "/dev/shm"
THREADS = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


def work(folder, taught=True):
    """Everything that a seed or an order could change: catalogue, store, splits, training,
    neighbours, intervals.
    """
    rows, _ = load_catalog("folder", folder / "photos", at_most=9, seed=3)
    store = embed_catalog(build_encoder("VGG16Slim", image_size=32), rows, folder / "store")
    copies = (
        rows[["image_id"]]
        .iloc[:4]
        .assign(verdict="copy", other_id=rows["image_id"].iloc[4:8].to_numpy())
    )
    split = split_by_product(store.catalog, copies=copies, seed=3)
    split.drop(columns="path").to_csv(folder / "split.csv")
    if not taught:
        return
    keras.utils.set_random_seed(3)
    classifier = build_classifier(*load_backbone("VGG16Slim", image_size=32), 3, dim=8)
    history = train(classifier, split, folder / "training", epochs=2, views=2, seed=3)
    np.savez(folder / "weights.npz", *classifier.get_weights())
    ranking = rank(store.vectors, split, 5)
    told = {"history": history.round(4).to_dict("list"), "found": ranking.results.tolist()}
    told["interval"] = confidence_interval(ranking.relevant.mean(axis=1), ranking.products)
    (folder / "told.json").write_text(json.dumps(told))


def started(folder, taught, **environment):
    command = [sys.executable, __file__, str(folder), taught]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """The same done here, in a process of another hash seed, and in one that computes on one
    thread.

    Their photos were written in the order of their names, the other way round, and at random.
    """
    top = tmp_path_factory.mktemp("same")
    # A file system in memory lists the newest first, one on disk by a hash of the names.
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as memory:
        (top / "there").symlink_to(memory)
        yield work_in_three(top)


def work_in_three(top):
    from conftest import make_catalog

    made = make_catalog(top / "made", 33, views=2)
    orders = {
        "here": np.arange(33),
        "there": np.arange(33)[::-1],
        "one thread": np.random.default_rng(0).permutation(33),
    }
    for name, order in orders.items():
        for row in made.iloc[order].itertuples():
            file = top / name / "photos" / row.label / row.image_id
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(row.path, file)
    single = dict.fromkeys(THREADS, "1")
    children = [started(os.path.realpath(top / "there"), "taught", PYTHONHASHSEED="7")]
    children += [started(top / "one thread", "", PYTHONHASHSEED="8", **single)]
    work(top / "here")
    for child in children:
        told, _ = child.communicate(timeout=300)
        assert child.returncode == 0
        assert told.splitlines()[-1] == "[]", (
            "FAISS and Milvus are loaded only when they are asked for"
        )
    return top


def test_a_store_is_the_same_to_the_byte_in_another_process(worked):
    for name in ("vectors.npy", "catalog.csv", "manifest.json"):
        assert (worked / "here/store" / name).read_bytes() == (
            worked / "there/store" / name
        ).read_bytes(), name


def test_splits_neighbours_and_intervals_are_the_same_in_another_process(worked):
    for name in ("split.csv", "told.json"):
        assert (worked / "here" / name).read_bytes() == (worked / "there" / name).read_bytes(), name
    assert set(pd.read_csv(worked / "here/split.csv")["split"]) == {"train", "validation", "test"}
    assert (worked / "here/split.csv").read_bytes() == (
        worked / "one thread/split.csv"
    ).read_bytes()


def test_training_gives_the_same_weights_in_another_process(worked):
    here, there = (
        np.load(worked / name / "weights.npz", allow_pickle=False) for name in ("here", "there")
    )
    assert here.files == there.files
    for name in here.files:
        np.testing.assert_allclose(here[name], there[name], atol=1e-5)


def off_by(vectors, others):
    return np.abs(vectors - others).max() / np.abs(others).max()


def test_the_number_of_threads_moves_vectors_by_rounding_alone(worked):
    here, single = (np.load(worked / name / "store/vectors.npy") for name in ("here", "one thread"))
    assert off_by(single, here) < 1e-5


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_moves_vectors_by_rounding_alone(worked, tmp_path, batch_size):
    rows, _ = load_catalog("folder", worked / "here/photos", at_most=9, seed=3)
    store = embed_catalog(
        build_encoder("VGG16Slim", image_size=32), rows, tmp_path / "store", batch_size=batch_size
    )
    assert off_by(store.vectors, np.load(worked / "here/store/vectors.npy")) < 1e-5


if __name__ == "__main__":
    import lookalike.scale.indexes  # noqa: F401

    work(Path(sys.argv[1]), bool(sys.argv[2]))
    print([name for name in ("faiss", "pymilvus") if name in sys.modules])
