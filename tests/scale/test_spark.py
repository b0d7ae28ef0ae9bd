"""Spark, really, with Java; and the stores in Parquet of the first edition.

`tests/stores/schema_2` is kept as that edition wrote it, and must open for ever.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import psutil
import pytest

from conftest import PROJECT, make_catalog, skip_without, write_photo
from lookalike.embeddings import embed_catalog, open_store
from lookalike.images import ImageError
from lookalike.scale import embed_with_spark, open_spark_store, spark_session
from lookalike.workspace import file_hash

skip_without("pyspark", "pyarrow")
KEPT = PROJECT / "tests" / "stores"
PART = "vectors.parquet/part-00001.parquet"
NAMES = ["a b.png", "Größe, 100%.png", "写真 %20.png", "it's #1?.png", '"quoted".png']
NAMES += ["new\nline.png", "[x]{y}*.png", *(f"deep/er/{number}.png" for number in range(6))]


@pytest.fixture(scope="module")
def spark():
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("there is no Java, which Spark needs")
    session = spark_session()
    yield session
    session.stop()


@pytest.fixture
def odd(tmp_path):
    """Thirteen photos: names that are hard to pass on, contents that repeat, products of two views,
    labels missing.
    """
    seeds = [0, 1, 2, 0, 4, 5, 6, 7, 8, 1, 10, 11, 0]
    folder = tmp_path / "the photos, 50%"
    paths = [str(write_photo(folder / name, seed)) for name, seed in zip(NAMES, seeds, strict=True)]
    products = [f"product-{row // 2}" for row in range(13)]
    columns = {"image_id": NAMES, "path": paths, "product_id": products}
    labels = ["a", None, "b"] * 4 + [None]
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
    store = embed_with_spark(spark, encoder, odd, tmp_path / "my store, 100 %é", batch_size=1)
    alone = embed_catalog(encoder, odd, tmp_path / "alone", batch_size=1)
    assert_same_store(store, alone)
    np.testing.assert_array_equal(store.vectors[0], store.vectors[12])
    assert store.catalog["path"].tolist() == odd["path"].tolist()
    assert beside(tmp_path) == ["alone", "my store, 100 %é", "the photos, 50%"]
    assert beside(store.folder) == ["catalog.csv", "colours.npy", "manifest.json", "vectors.npy"]
    np.testing.assert_array_equal(open_store(store.folder).vectors, store.vectors)


@pytest.mark.parametrize("first", ["spark", "alone"])
def test_either_goes_on_from_the_store_of_the_other(encoder, catalog, tmp_path, spark, first):
    """Vectors that are there are taken over: they were changed by hand, and stay so."""
    ways = [lambda *given: embed_with_spark(spark, encoder, *given, batch_size=7)]
    ways.insert(first == "spark", lambda *given: embed_catalog(encoder, *given))
    store = ways[0](catalog.iloc[:7].assign(split="train"), tmp_path / "store")
    (store.folder / "notes.txt").write_text("mine")
    marked = np.arange(7 * 128, dtype=np.float32).reshape(7, 128)
    np.save(store.folder / "vectors.npy", marked)
    renew_checksum(store.folder, "vectors.npy")
    longer = ways[1](catalog.iloc[::-1], store.folder)
    np.testing.assert_array_equal(longer.vectors[5:], marked[::-1])
    assert longer.catalog["split"].tolist()[5:] == ["train"] * 7
    expected = embed_catalog(encoder, catalog, tmp_path / "fresh")
    np.testing.assert_allclose(longer.vectors[4::-1], expected.vectors[7:], rtol=1e-5, atol=1e-3)
    colours = longer.side_arrays["colours"]
    np.testing.assert_array_equal(colours[::-1], expected.side_arrays["colours"])
    assert (longer.folder / "notes.txt").read_text() == "mine"


def overflow():
    """An encoder whose numbers go beyond float32."""
    image = keras.Input((8, 8, 3))
    bright = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1e38)(image))
    return keras.Model(image, keras.layers.Rescaling(1e38)(bright), name="overflow")


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
    for encoder_, rows, folder, options, error, message in (
        (overflow(), odd.iloc[:4], "store", {}, ValueError, r"\.png: its vector holds NaN or inf"),
        (encoder, odd.iloc[6:], "store", {"fit": "squeeze"}, ValueError, "resize, letterbox, crop"),
        (encoder, odd.iloc[:0], "store", {}, ValueError, "empty"),
        (encoder, odd.iloc[:4], "the photos, 50%", {}, FileExistsError, "is not empty"),
    ):
        with pytest.raises(error, match=message):
            embed_with_spark(spark, encoder_, rows, tmp_path / folder, **options)
    np.testing.assert_array_equal(open_store(tmp_path / "store").vectors, vectors)
    assert [path.name for path in shard.parent.iterdir()] == ["a.npz"]
    assert beside(tmp_path) == [".store.partial", "store", "the photos, 50%"]


def repeating_catalog(folder):
    """Photos that 16 tasks have to work on for some seconds; a quarter has the content of
    others.
    """
    catalog = make_catalog(folder / "photos", 640)
    for row in range(480, 640):
        shutil.copy(catalog["path"][row - 400], catalog["path"][row])
    return catalog


def waited_for(condition, what):
    deadline = time.monotonic() + 200
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)
    return found


@pytest.mark.soak
def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(encoder, tmp_path, spark):
    catalog = repeating_catalog(tmp_path)
    tracker, stores = spark.sparkContext.statusTracker(), []

    def run():
        stores.append(embed_with_spark(spark, encoder, catalog, tmp_path / "store", batch_size=1))

    def half_done():
        """The stage that embeds, once some of its tasks are done and some are not."""
        assert thread.is_alive(), "the run ended before it could be disturbed"
        stages = filter(None, map(tracker.getStageInfo, tracker.getActiveStageIds()))
        return [one for one in stages if one.numTasks == 16 and 2 <= one.numCompletedTasks <= 10]

    def a_task_failed():
        """Kill the worker that has computed most: of those that wait for work no task fails."""
        assert thread.is_alive(), "the run ended before a worker was killed at work"
        workers = psutil.Process().children(recursive=True)
        forked = [one for one in workers if one.is_running() and one.parent() in workers]
        forked = [one for one in forked if "pyspark" in " ".join(one.parent().cmdline())]
        max(forked, key=lambda one: sum(one.cpu_times()[:2])).send_signal(signal.SIGKILL)
        time.sleep(0.5)
        return tracker.getStageInfo(stage.stageId).numFailedTasks > 0

    thread = threading.Thread(target=run)
    thread.start()
    [stage] = waited_for(half_done, "the middle of the work")
    waited_for(a_task_failed, "a failed task")
    thread.join(200)
    [store] = stores
    assert_same_store(store, embed_catalog(encoder, catalog, tmp_path / "alone"))
    assert beside(tmp_path) == ["alone", "photos", "store"]


DRIVER = """
import sys
from lookalike.machine import quiet_tensorflow

quiet_tensorflow()
from lookalike.backbones import build_encoder
from lookalike.catalog import read_catalog
from lookalike.scale import embed_with_spark, spark_session

encoder = build_encoder("VGG16Slim", weights=None, image_size=32)
catalog = read_catalog(sys.argv[1])
embed_with_spark(spark_session(), encoder, catalog, sys.argv[2], fit="crop", batch_size=1)
"""


@pytest.mark.soak
def test_a_driver_killed_in_the_middle_leaves_the_old_store_and_the_next_run_finishes(
    encoder, tmp_path, spark
):
    catalog = repeating_catalog(tmp_path)
    old = embed_catalog(encoder, catalog, tmp_path / "store")
    vectors = np.array(old.vectors)
    command = [sys.executable, "-c", DRIVER, str(old.folder / "catalog.csv"), str(old.folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    parts = tmp_path / ".store.partial" / "rows.parquet"

    def half_done():
        assert process.poll() is None, "the run ended before it could be killed"
        return len(list(parts.glob("_temporary/0/task_*"))) >= 3

    waited_for(half_done, "the middle of the work")
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.communicate()[1] == b"", "Spark wrote to standard error"
    assert psutil.wait_procs(family, timeout=60)[1] == [], "what it had started outlived it"
    np.testing.assert_array_equal(open_store(old.folder).vectors, vectors)
    assert parts.is_dir()
    store = embed_with_spark(spark, encoder, catalog, old.folder, fit="crop")
    assert_same_store(store, embed_catalog(encoder, catalog, tmp_path / "alone", fit="crop"))
    assert beside(tmp_path) == ["alone", "photos", "store"]


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


@pytest.mark.parametrize("package", ["pyspark", "pyarrow"])
def test_a_package_that_is_missing_is_named_with_what_to_install(package, monkeypatch):
    for name in (package, f"{package}.sql"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"^{package} .*run: pip install {package}$"):
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


# By name: what a part becomes, from the table that was in it.
DAMAGE = {
    "a row missing": lambda rows: rows[:-1],
    "a row twice": lambda rows: pd.concat([rows, rows]),
    "no vectors": lambda rows: rows[["row"]],
    "vectors cut": lambda rows: rows.assign(vector=[vector[:5] for vector in rows["vector"]]),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_part_that_is_not_what_was_written_is_refused(kept, what):
    DAMAGE[what](pd.read_parquet(kept / PART)).to_parquet(kept / PART)
    with pytest.raises(ValueError, match=f"kept cannot be opened: {PART} has been changed"):
        open_spark_store(kept)
    renew_checksum(kept, PART)  # with its checksum made right
    with pytest.raises(ValueError, match="kept cannot be opened"):
        open_spark_store(kept)
