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
import pytest

from lookalike.backbones import build_encoder, load_backbone
from lookalike.copies import join_products
from lookalike.embeddings import embed_catalog
from lookalike.evaluation import confidence_interval, rank
from lookalike.sources import load_catalog
from lookalike.splits import split_by_product
from lookalike.training import build_classifier, train

MEMORY = "/dev/shm"


def work(folder):
    """Everything that a seed or an order could change: catalogue, store, splits, training,
    neighbours, intervals.
    """
    rows, _ = load_catalog("folder", folder / "photos", at_most=9, seed=3)
    store = embed_catalog(build_encoder("VGG16Slim", image_size=32), rows, folder / "store")
    copies = rows[["image_id"]].head(4)
    copies = copies.assign(verdict="copy", other_id=rows["image_id"].iloc[4:8].to_numpy())
    split = split_by_product(join_products(store.catalog, copies), seed=3)
    split.drop(columns="path").to_csv(folder / "split.csv")
    keras.utils.set_random_seed(3)
    classifier = build_classifier(*load_backbone("VGG16Slim", image_size=32), 3, dim=8)
    history = train(classifier, split, folder / "training", epochs=1, views=2, seed=3)
    np.savez(folder / "weights.npz", *classifier.get_weights())
    ranking = rank(store.vectors, split, 5)
    told = {"history": history.round(4).to_dict("list"), "found": ranking.results.tolist()}
    told["interval"] = confidence_interval(ranking.relevant.mean(axis=1), ranking.products)
    (folder / "told.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """The same done here and in a process of another hash seed, whose photos were written in the
    opposite order.
    """
    # The other process has no use for it.
    from conftest import make_catalog

    top = tmp_path_factory.mktemp("same")
    made = make_catalog(top / "made", 30, views=2)
    # A file system in memory lists the newest first, one on disk by a hash of the names.
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as memory:
        (top / "there").symlink_to(memory)
        for name, rows in {"here": made, "there": made[::-1]}.items():
            for row in rows.itertuples():
                file = top / name / "photos" / row.label / row.image_id
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(row.path, file)
        command = [sys.executable, __file__, os.path.realpath(memory)]
        environment = os.environ | {"PYTHONHASHSEED": "7"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
            work(top / "here")
            told, _ = child.communicate(timeout=300)
        assert child.returncode == 0
        assert told.splitlines()[-1] == "[]", "FAISS and Milvus are loaded when they are asked for"
        yield top


@pytest.mark.parametrize(
    "name",
    ["store/vectors.npy", "store/catalog.csv", "store/manifest.json", "split.csv", "told.json"],
)
def test_what_is_written_is_the_same_to_the_byte_in_another_process(name, worked):
    assert (worked / "here" / name).read_bytes() == (worked / "there" / name).read_bytes()


def test_training_gives_the_same_weights_in_another_process(worked):
    here, there = (
        np.load(worked / name / "weights.npz", allow_pickle=False) for name in ("here", "there")
    )
    assert here.files == there.files
    for name in here.files:
        np.testing.assert_allclose(here[name], there[name], atol=1e-5)


def test_the_batch_moves_vectors_by_rounding_alone(worked, tmp_path):
    rows, _ = load_catalog("folder", worked / "here/photos", at_most=9, seed=3)
    encoder = build_encoder("VGG16Slim", image_size=32)
    vectors = embed_catalog(encoder, rows, tmp_path / "store", batch_size=7).vectors
    others = np.load(worked / "here/store/vectors.npy")
    np.testing.assert_allclose(vectors, others, rtol=0, atol=1e-5 * others.max())


if __name__ == "__main__":
    import lookalike.scale.indexes  # noqa: F401

    work(Path(sys.argv[1]))
    print([name for name in ("faiss", "pymilvus") if name in sys.modules])
