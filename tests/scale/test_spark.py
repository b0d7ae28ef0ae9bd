"""Spark, really, with Java; and the stores in Parquet of the first edition.

`tests/stores/schema_2` is kept as that edition wrote it, and must open for ever.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import PROJECT, skip_without, write_photo
from lookalike.embeddings import embed_catalog, open_store
from lookalike.images import ImageError
from lookalike.scale import embed_with_spark, open_spark_store, spark_session
from lookalike.workspace import file_hash

skip_without("pyspark", "pyarrow")
KEPT = PROJECT / "tests" / "stores"
PART = "vectors.parquet/part-00001.parquet"
NAMES = ["a b.png", "Größe, 100%.png", "写真 %20.png", "it's #1?.png", '"quoted".png']
NAMES += ["new\nline.png", "[x]{y}*.png", "deep/er/7.png"]


@pytest.fixture(scope="module")
def spark():
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("there is no Java, which Spark needs")
    session = spark_session()
    yield session
    session.stop()


@pytest.fixture
def odd(tmp_path):
    """Eight photos: names that are hard to pass on, contents that repeat, products of two views,
    labels missing.
    """
    seeds = [0, 1, 2, 0, 4, 5, 6, 0]
    folder = tmp_path / "the photos, 50%"
    paths = [str(write_photo(folder / name, seed)) for name, seed in zip(NAMES, seeds, strict=True)]
    products = [f"product-{row // 2}" for row in range(8)]
    columns = {"image_id": NAMES, "path": paths, "product_id": products}
    labels = ["a", None, "b", "a", None, "b", "a", None]
    return pd.DataFrame(columns | {"label": labels, "split": None, "title": 'x, "y"\r\nz'})


def assert_same_store(store, expected):
    near = {"rtol": 1e-5, "atol": 1e-5 * np.abs(expected.vectors).max()}
    np.testing.assert_allclose(store.vectors, expected.vectors, **near)
    np.testing.assert_array_equal(store.side_arrays["colours"], expected.side_arrays["colours"])
    pd.testing.assert_frame_equal(store.catalog, expected.catalog)
    # The checksums tell roundings apart.
    said = [one.manifest | {"checksums": 0} for one in (store, expected)]
    assert said[0] == said[1]


def beside(folder):
    """What is in a folder but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_spark_writes_the_store_that_one_process_writes(encoder, odd, tmp_path, spark):
    store = embed_with_spark(spark, encoder, odd, tmp_path / "my store, 100 %é", batch_size=3)
    alone = embed_catalog(encoder, odd, tmp_path / "alone")
    assert_same_store(store, alone)
    np.testing.assert_array_equal(store.vectors[0], store.vectors[7])
    assert store.catalog["path"].tolist() == odd["path"].tolist()
    assert beside(tmp_path) == ["alone", "my store, 100 %é", "the photos, 50%"]
    assert beside(store.folder) == ["catalog.csv", "colours.npy", "manifest.json", "vectors.npy"]
    np.testing.assert_array_equal(open_store(store.folder).vectors, store.vectors)


def test_it_goes_on_from_a_store_that_is_there(encoder, catalog, tmp_path, spark):
    """Vectors that are there are taken over: they were changed by hand, and stay so."""
    store = embed_catalog(encoder, catalog.iloc[:7].assign(split="train"), tmp_path / "store")
    (store.folder / "notes.txt").write_text("mine")
    marked = np.arange(7 * 128, dtype=np.float32).reshape(7, 128)
    np.save(store.folder / "vectors.npy", marked)
    renew_checksum(store.folder, "vectors.npy")
    longer = embed_with_spark(spark, encoder, catalog.iloc[::-1], store.folder)
    np.testing.assert_array_equal(longer.vectors[5:], marked[::-1])
    assert longer.catalog["split"].tolist()[5:] == ["train"] * 7
    expected = embed_catalog(encoder, catalog, tmp_path / "fresh")
    np.testing.assert_allclose(longer.vectors[4::-1], expected.vectors[7:], rtol=1e-5, atol=1e-3)
    colours = longer.side_arrays["colours"]
    np.testing.assert_array_equal(colours[::-1], expected.side_arrays["colours"])
    assert (longer.folder / "notes.txt").read_text() == "mine"


def test_what_cannot_be_embedded_is_refused_and_the_old_store_stays(encoder, odd, tmp_path, spark):
    vectors = np.array(embed_catalog(encoder, odd.iloc[:4], tmp_path / "store").vectors)
    broken = odd["path"][5]
    Path(broken).write_bytes(Path(broken).read_bytes()[:300])
    # What a run of one process has done, which was interrupted.
    shard = tmp_path / ".store.partial" / "a.npz"
    shard.parent.mkdir()
    shard.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        embed_with_spark(spark, encoder, odd, tmp_path / "store")
    assert str(caught.value) == f"{broken}: {caught.value.reason}"
    assert caught.value.reason.startswith("cannot be decoded: ")
    with pytest.raises(FileExistsError, match="is not empty"):
        embed_with_spark(spark, encoder, odd, tmp_path / "the photos, 50%")
    np.testing.assert_array_equal(open_store(tmp_path / "store").vectors, vectors)
    assert [path.name for path in shard.parent.iterdir()] == ["a.npz"]
    assert beside(tmp_path) == [".store.partial", "store", "the photos, 50%"]


def test_workers_run_this_python_and_this_code_with_a_thread_a_core(spark):
    threads = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")

    def look(_):
        environment = [os.environ[name] for name in (*threads, "CUDA_VISIBLE_DEVICES")]
        return sys.executable, __import__("lookalike").__file__, environment

    [(python, code, environment)] = spark.sparkContext.parallelize([0], 1).map(look).collect()
    assert python == sys.executable
    assert code.endswith("/lookalike.zip/lookalike/__init__.py")
    assert environment == ["1", "1", "1", "-1"]
    assert spark_session() is spark


def test_a_package_that_is_missing_is_named_with_what_to_install(monkeypatch):
    for name in ("pyspark", "pyspark.sql"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"^pyspark .*run: pip install pyspark$"):
        spark_session()


def test_without_java_one_line_says_what_to_install(tmp_path):
    script = (
        "from lookalike.scale import spark_session\n"
        "try: spark_session()\nexcept RuntimeError as error: print(error)"
    )
    (tmp_path / "bash").symlink_to(shutil.which("bash"))
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    environment["PATH"] = str(tmp_path)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout.startswith("Spark does not start. It needs Java 17 or newer, e.g. apt-get")
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.fixture
def kept(tmp_path):
    return shutil.copytree(KEPT / "schema_2", tmp_path / "kept")


def renew_checksum(folder, name):
    """Write the checksum of a file that was changed by hand into the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["checksums"][name] = file_hash(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_store_that_was_written_long_ago_opens(kept):
    store = open_spark_store(kept)
    assert store.vectors.tolist() == [[255, 0, 0, 0, 0, 255], [255] * 6, [0, 255, 0, 0, 0, 0]]
    assert store.vectors.dtype == np.float32
    names = ["red-blue.png", "white.png", "shoe/green-black.png"]
    assert store.catalog["image_id"].tolist() == names
    assert store.catalog["split"].fillna("none").tolist() == ["train", "none", "test"]


def test_each_door_names_the_other_or_what_is_missing(kept, tmp_path):
    with pytest.raises(ValueError, match=r"kept cannot be opened: .*lookalike\.scale"):
        open_store(kept)
    with pytest.raises(ValueError, match="its schema is 1"):
        open_spark_store(KEPT / "schema_1")
    with pytest.raises(FileNotFoundError, match="No embeddings at"):
        open_spark_store(tmp_path / "nothing")
