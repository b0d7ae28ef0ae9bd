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

from conftest import make_catalog, skip_without, write_photo
from lookalike.embeddings import embed_catalog, open_store
from lookalike.images import ImageError
from lookalike.scale import embed_with_spark, spark_session
from lookalike.scale.spark_store import read_parts
from lookalike.similarity import top_k
from lookalike.workspace import file_hash

skip_without("pyspark", "pyarrow")
if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
    pytest.skip("there is no Java, which Spark needs", allow_module_level=True)


@pytest.fixture(scope="module")
def spark():
    session = spark_session()
    yield session
    session.stop()


@pytest.fixture
def odd(tmp_path):
    """Thirteen photos: names that are hard to pass on, contents that repeat, products of two views,
    labels missing.
    """
    names = [
        "a b.png",
        "Größe, 100%.png",
        "写真 %20.png",
        "it's #1?.png",
        '"quoted".png',
        "new\nline.png",
        "[x]{y}*.png",
    ]
    names += [f"deep/er/{number}.png" for number in range(6)]
    seeds = [0, 1, 2, 0, 4, 5, 6, 7, 8, 1, 10, 11, 0]
    paths = [
        str(write_photo(tmp_path / "the photos, 50%" / name, seed))
        for name, seed in zip(names, seeds, strict=True)
    ]
    columns = {
        "image_id": names,
        "path": paths,
        "product_id": [f"product-{row // 2}" for row in range(13)],
    }
    return pd.DataFrame(
        columns | {"label": ["a", None, "b"] * 4 + [None], "split": None, "title": 'x, "y"\r\nz'}
    )


def said_of(store):
    """The manifest without the checksums, which tell roundings apart."""
    return {key: store.manifest[key] for key in store.manifest if key != "checksums"}


def colours(pixels):
    """A small side array."""
    return pixels.mean(axis=(1, 2)).astype(np.float32)


def assert_same_store(store, expected):
    np.testing.assert_allclose(
        store.vectors, expected.vectors, rtol=1e-5, atol=1e-5 * np.abs(expected.vectors).max()
    )
    pd.testing.assert_frame_equal(store.catalog, expected.catalog)
    assert said_of(store) == said_of(expected)


@pytest.fixture
def same(encoder, odd, tmp_path, spark):
    """What Spark made of the odd photos, in more tasks than there are photos, and what this process
    did.
    """
    store = embed_with_spark(
        spark, encoder, odd, tmp_path / "my store, 100 %é", batch_size=1, partitions=50
    )
    return store, embed_catalog(encoder, odd, tmp_path / "alone", batch_size=1)


# --- The same store
# ----------------------------------------------------------------


def test_spark_writes_the_store_that_one_process_writes(same, odd, tmp_path):
    store, alone = same
    assert_same_store(store, alone)
    assert store.vectors.dtype == np.float32
    assert [store.catalog["path"][row] for row in range(13)] == odd["path"].tolist()
    np.testing.assert_array_equal(store.vectors[0], store.vectors[12])
    np.testing.assert_array_equal(
        top_k(store.vectors, store.vectors, 3)[0], top_k(alone.vectors, alone.vectors, 3)[0]
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == [
        "alone",
        "my store, 100 %é",
        "the photos, 50%",
    ]
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "catalog.csv",
        "manifest.json",
        "vectors.npy",
    ]
    np.testing.assert_array_equal(open_store(store.folder).vectors, store.vectors)


def test_the_workers_hand_each_content_over_once_in_as_many_parts_as_there_are_tasks(
    encoder, odd, tmp_path, spark, monkeypatch
):
    from pyarrow import parquet

    tables = []

    def read(parts, *rest):
        parts = list(parts)
        tables.extend(parquet.read_table(part).to_pandas() for part in parts)
        return read_parts(parts, *rest)

    monkeypatch.setattr("lookalike.scale.spark.read_parts", read)
    embed_with_spark(spark, encoder, odd, tmp_path / "store", batch_size=3, partitions=2)
    rows = pd.concat(tables)
    assert (len(tables), len(rows)) == (2, 10)
    assert list(rows) == ["path", "vector"]
    last = dict(zip([0, 1, 2, 0, 4, 5, 6, 7, 8, 1, 10, 11, 0], odd["path"], strict=True))
    assert sorted(rows["path"]) == sorted(last.values())


@pytest.mark.parametrize("first", ["spark", "alone"])
def test_either_goes_on_from_the_store_of_the_other(encoder, catalog, tmp_path, spark, first):
    """Vectors that are there are taken over: they were changed by hand, and stay so."""
    ways = {
        "spark": lambda rows: embed_with_spark(
            spark, encoder, rows, tmp_path / "store", batch_size=7
        )
    }
    ways["alone"] = lambda rows: embed_catalog(encoder, rows, tmp_path / "store", batch_size=7)
    second = next(way for way in ways if way != first)
    store = ways[first](catalog.iloc[:7])
    (store.folder / "notes.txt").write_text("mine")
    marked = np.arange(7 * 128, dtype=np.float32).reshape(7, 128)
    np.save(store.folder / "vectors.npy", marked)
    checksums = store.manifest["checksums"] | {
        "vectors.npy": file_hash(store.folder / "vectors.npy")
    }
    (store.folder / "manifest.json").write_text(
        json.dumps(store.manifest | {"checksums": checksums})
    )
    longer = ways[second](catalog)
    np.testing.assert_array_equal(longer.vectors[:7], marked)
    expected = embed_catalog(encoder, catalog, tmp_path / "fresh", batch_size=5)
    np.testing.assert_allclose(longer.vectors[7:], expected.vectors[7:], rtol=1e-5, atol=1e-3)
    assert said_of(longer) == said_of(expected)
    assert {path.name for path in longer.folder.iterdir()} == {
        "catalog.csv",
        "colours.npy",
        "manifest.json",
        "notes.txt",
        "vectors.npy",
    }


def test_where_all_is_known_spark_computes_nothing_and_what_is_beside_the_vectors_stays(
    encoder, catalog, tmp_path, spark, monkeypatch
):
    splits = catalog.assign(split=["train", "test"] * 6)
    store = embed_catalog(encoder, splits, tmp_path / "store", side_arrays={"colours": colours})
    vectors = np.array(store.vectors)
    monkeypatch.setattr("lookalike.scale.spark._watched", None)
    again = embed_with_spark(spark, encoder, catalog.iloc[::-1], tmp_path / "store")
    np.testing.assert_array_equal(again.vectors, vectors[::-1])
    np.testing.assert_array_equal(again.side_arrays["colours"], store.side_arrays["colours"][::-1])
    assert again.catalog["split"].tolist() == ["test", "train"] * 6


def test_a_side_array_that_new_photos_lack_is_left_out_and_a_new_encoder_computes_all(
    encoder, other_encoder, catalog, tmp_path, spark, capsys
):
    embed_catalog(encoder, catalog[:7], tmp_path / "store", side_arrays={"colours": colours})
    store = embed_with_spark(spark, encoder, catalog, tmp_path / "store")
    assert not store.side_arrays
    assert "colours is left out" in capsys.readouterr().out
    store = embed_with_spark(spark, other_encoder, catalog, tmp_path / "store")
    assert "another encoder" in capsys.readouterr().out
    assert_same_store(store, embed_catalog(other_encoder, catalog, tmp_path / "alone"))


# --- What goes wrong
# ----------------------------------------------------------------


def test_what_cannot_be_embedded_is_refused_and_the_old_store_stays(
    encoder, catalog, tmp_path, spark
):
    vectors = np.array(embed_catalog(encoder, catalog, tmp_path / "store").vectors)
    with pytest.raises(FileExistsError, match="photos is not empty"):
        embed_with_spark(spark, encoder, catalog, tmp_path / "photos")
    for wrong, message in (
        ({"fit": "squeeze"}, "resize, letterbox, crop"),
        ({"batch_size": 0}, "must be at least 1, not 0 and 16"),
        ({"partitions": -1}, "must be at least 1, not 32 and -1"),
    ):
        with pytest.raises(ValueError, match=message):
            embed_with_spark(spark, encoder, catalog, tmp_path / "store", **wrong)
    with pytest.raises(ValueError, match="empty"):
        embed_with_spark(spark, encoder, catalog.iloc[:0], tmp_path / "store")
    np.testing.assert_array_equal(open_store(tmp_path / "store").vectors, vectors)


def test_a_photo_that_cannot_be_read_is_named_in_one_line_and_nothing_is_lost(
    encoder, odd, tmp_path, spark
):
    vectors = np.array(embed_catalog(encoder, odd.iloc[:4], tmp_path / "store").vectors)
    Path(odd["path"][5]).write_bytes(b"broken")
    # What a run of one process has done, which was interrupted.
    shard = tmp_path / ".store.partial" / "a.npz"
    shard.parent.mkdir()
    shard.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        embed_with_spark(spark, encoder, odd, tmp_path / "store")
    assert str(caught.value) == f"{odd['path'][5]}: {caught.value.reason}"
    assert caught.value.reason == "not an image, or in a format that is not read"
    np.testing.assert_array_equal(open_store(tmp_path / "store").vectors, vectors)
    assert [path.name for path in shard.parent.iterdir()] == ["a.npz"]


def test_vectors_that_are_not_finite_are_refused_and_the_old_store_stays(
    encoder, catalog, tmp_path, spark
):
    embed_catalog(encoder, catalog, tmp_path / "store")
    image = keras.Input((8, 8, 3))
    dark = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1e38)(image))
    overflow = keras.Model(image, keras.layers.Rescaling(1e38)(dark), name="overflow")
    with pytest.raises(ValueError, match=r"path '.*png' is not 3 finite numbers"):
        embed_with_spark(spark, overflow, catalog, tmp_path / "store")
    assert open_store(tmp_path / "store").manifest["encoder"] == encoder.name
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == [
        "photos",
        "store",
    ]


# --- Killed in the middle
# ----------------------------------------------------------------


def repeating_catalog(folder):
    """Eighty rows of sixty contents: thirty tasks of two embed them."""
    catalog = make_catalog(folder / "photos", 80)
    for row in range(60, 80):
        shutil.copy(catalog["path"][row - 40], catalog["path"][row])
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
    tracker, ended = spark.sparkContext.statusTracker(), []

    def run():
        ended.append(
            embed_with_spark(
                spark, encoder, catalog, tmp_path / "store", batch_size=2, partitions=100
            )
        )

    def half_done():
        """The stage that embeds, once some of its tasks are done and some are not."""
        assert thread.is_alive(), "the run ended before it could be disturbed"
        stages = filter(None, map(tracker.getStageInfo, tracker.getActiveStageIds()))
        return [one for one in stages if one.numTasks == 30 and 3 <= one.numCompletedTasks <= 25]

    def a_task_failed():
        workers = [one for one in psutil.Process().children(recursive=True) if one.is_running()]
        forked = [
            one
            for one in workers
            if "pyspark" in " ".join(one.parent().cmdline()) and one.parent() in workers
        ]
        max(forked, key=lambda one: sum(one.cpu_times()[:2])).send_signal(signal.SIGKILL)
        time.sleep(0.5)
        return tracker.getStageInfo(stage.stageId).numFailedTasks > 0

    thread = threading.Thread(target=run)
    thread.start()
    [stage] = waited_for(half_done, "the middle of the work")
    waited_for(a_task_failed, "a failed task")
    thread.join(200)
    [store] = ended
    assert tracker.getStageInfo(stage.stageId).numFailedTasks >= 1
    assert_same_store(store, embed_catalog(encoder, catalog, tmp_path / "alone", batch_size=2))
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == [
        "alone",
        "photos",
        "store",
    ]


DRIVER = """
import sys
from lookalike.machine import quiet_tensorflow

quiet_tensorflow()
from lookalike.backbones import build_encoder
from lookalike.catalog import read_catalog
from lookalike.scale import embed_with_spark, spark_session

encoder = build_encoder("VGG16Slim", weights=None, image_size=32)
catalog = read_catalog(sys.argv[1])
options = {"fit": "crop", "batch_size": 2, "partitions": 100}
embed_with_spark(spark_session(), encoder, catalog, sys.argv[2], **options)
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
    parts = tmp_path / ".store.partial" / "vectors.parquet"

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
    store = embed_with_spark(spark, encoder, catalog, old.folder, fit="crop", batch_size=2)
    assert_same_store(
        store, embed_catalog(encoder, catalog, tmp_path / "alone", fit="crop", batch_size=2)
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == [
        "alone",
        "photos",
        "store",
    ]


# --- The session
# ----------------------------------------------------------------


def test_workers_run_this_python_and_this_code_with_a_thread_a_core(
    encoder, catalog, tmp_path, spark
):
    embed_with_spark(spark, encoder, catalog, tmp_path / "store")

    def look(_):
        names = (
            "TF_NUM_INTRAOP_THREADS",
            "TF_NUM_INTEROP_THREADS",
            "OMP_NUM_THREADS",
            "CUDA_VISIBLE_DEVICES",
        )
        return (
            sys.executable,
            __import__("lookalike").__file__,
            [os.environ[name] for name in names],
        )

    [(python, code, environment)] = spark.sparkContext.parallelize([0], 1).map(look).collect()
    assert python == sys.executable
    assert code.endswith("/lookalike.zip/lookalike/__init__.py")
    assert environment == ["1", "1", "1", "-1"]
    assert spark.sparkContext.master == "local[2,4]"


def test_a_second_session_is_the_first_or_an_error(spark):
    assert spark_session() is spark
    with pytest.raises(
        ValueError, match=r"spark.master = local\[2,4\], not local\[3,4\]; call spark.stop"
    ):
        spark_session("local[3]")
    with pytest.raises(ValueError, match=r"spark.driver.memory = None, not 3g"):
        spark_session(**{"spark.driver.memory": "3g"})


@pytest.mark.parametrize("package", ["pyspark", "pyarrow"])
def test_a_package_that_is_missing_is_named_with_what_to_install(package, monkeypatch):
    for name in (package, f"{package}.sql"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"^{package} not installed; run: pip install {package}$"):
        spark_session()


def test_without_java_one_line_says_what_to_install(tmp_path):
    script = (
        "from lookalike.scale import spark_session\n"
        "try: spark_session()\nexcept RuntimeError as error: print(error)"
    )
    (tmp_path / "bash").symlink_to(shutil.which("bash"))
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | {
        "PATH": str(tmp_path)
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.startswith(
        "Spark does not start. It needs Java 17 or newer, e.g. apt-get install openjdk-17"
    )
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
