"""Embeddings computed by Apache Spark on many machines: the encoder goes to the photos, the vectors
into Parquet.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from lookalike import pooling  # noqa: F401, registers a layer that encoders hold
from lookalike.compiled_encoder import compile_encoder
from lookalike.embedding_store import (
    PARTS,
    EmbeddingStore,
    beside,
    read_parts,
    sole_writer,
    store_folder,
    write_part,
)
from lookalike.embeddings import known_vectors, prepare_store, publish_store
from lookalike.images import ImageError, content_hash, fitted
from lookalike.machine import parallel_map, progress, quiet_stderr, require

UNREADABLE = "Lookalike cannot read "
# Of a pandas newer than it knows.
warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")


def spark_session(master: str = "local[2]", **config: object):
    """A `pyspark.sql.SparkSession` in which `embed_with_spark` just works; the one that runs, if it
    is such a one.

    The workers' Python is the one that runs now, with a TensorFlow thread for each core of a task.
    On this machine it is reached from nowhere else, leaves a GPU to the notebook, and writes no
    log: what fails is raised.

    Parameters
    ----------
    master
        "local[n]": n tasks at a time on this machine, each tried up to four times, as on a cluster;
        or its address.
    config
        Spark's own settings, e.g. `**{"spark.driver.memory": "4g"}`.

    Raises
    ------
    ImportError, RuntimeError
        If pyspark or pyarrow is not installed, or Spark does not start, as without Java.
    ValueError
        If a session with other settings is running.
    """
    require("pyspark", "pyarrow")
    from pyspark.sql import SparkSession

    local = re.fullmatch(r"local(?:\[(\d+|\*)\])?", master)
    settings = {
        "spark.master": f"local[{local[1] or 1},4]" if local else master,
        "spark.app.name": "Lookalike",
    }
    settings |= {"spark.log.level": "ERROR", "spark.ui.showConsoleProgress": "false"}
    settings["spark.sql.execution.arrow.maxRecordsPerBatch"] = "1024"
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        settings[f"spark.executorEnv.{name}"] = config.get("spark.task.cpus", 1)
    if master.startswith("local"):
        settings |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
        settings |= {"spark.ui.enabled": "false", "spark.executorEnv.CUDA_VISIBLE_DEVICES": "-1"}
        os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {name: str(value) for name, value in (settings | config).items()}
    if running := SparkSession.getActiveSession():
        for name, value in settings.items():
            if (found := running.sparkContext.getConf().get(name)) != value:
                raise ValueError(
                    f"Spark is running, with {name} = {found}, not {value}; call spark.stop() first."
                )
        return running
    try:
        with quiet_stderr():  # the Java machine keeps it for its life
            return SparkSession.builder.config(map=settings).getOrCreate()
    except Exception as error:
        advice = (
            "It needs Java 17 or newer, e.g. apt-get install openjdk-17-jre-headless; Colab has it."
        )
        raise RuntimeError(
            f"Spark does not start. {advice} It says: {str(error).splitlines()[0]}"
        ) from None


def embed_with_spark(
    spark,
    encoder: keras.Model,
    catalog: pd.DataFrame,
    folder: str | Path,
    *,
    fit: str = "resize",
    batch_size: int = 32,
    partitions: int | None = None,
) -> EmbeddingStore:
    """Write the vectors of a catalogue to an embedding store as `embed_catalog` does, but let Spark
    compute them.

    Vectors that the store in `folder` has of the same photos by the same encoder, in float32 by
    TensorFlow, are taken over. A task whose worker dies is tried again; if the job fails, or this
    process is killed, the old store stays, and the next run starts anew.

    Parameters
    ----------
    spark
        A session, not of Spark Connect; its workers need the packages of Lookalike, whose own code
        is sent to them.
    catalog, folder
        All workers must see the photos, and the folder, at the same paths, e.g. on a mounted
        volume.
    partitions
        Into how many tasks the work is divided at most; None: eight for each core, or one for each
        5,000 photos.

    Raises
    ------
    ImageError, FileExistsError, ValueError
        As `embed_catalog` does; ValueError too if a vector is not finite.
    ImportError
        If pyarrow is not installed.
    """
    for name, number in (("batch_size", batch_size), ("partitions", partitions)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}.")
    with sole_writer(store_folder(folder)):
        folder, recipe = prepare_store(encoder, catalog, folder, fit=fit)
        # What `embed_catalog` does if not told otherwise.
        recipe |= {"precision": "float32", "engine": "tensorflow"}
        partitions = partitions or max(
            8 * spark.sparkContext.defaultParallelism, len(catalog) // 5000
        )
        divide = functools.partial(_divided, spark, partitions=partitions, batch_size=batch_size)
        hashes = _hash(spark, *divide(list(enumerate(catalog["path"])), "row: long, path: string"))
        known = known_vectors(folder, recipe)
        places = {}
        for row, (key, image_id) in enumerate(zip(hashes, catalog["image_id"], strict=True)):
            places.setdefault(key, []).append((row, image_id))
        paths = dict(zip(hashes, catalog["path"], strict=True))
        missing = [(key, paths[key], places[key]) for key in places if key not in known]
        parts = beside(folder, "partial") / PARTS
        shutil.rmtree(parts, ignore_errors=True)  # of a run that was killed
        try:
            if missing:
                kinds = "content_hash: string, path: string, places: array<struct<row: long, image_id: string>>"
                _embed(spark, *divide(missing, kinds), parts, encoder, recipe, batch_size)
            if reused := [
                (*place, key, known[key]) for key in places if key in known for place in places[key]
            ]:
                write_part(reused, parts / "part-known.parquet")
            files = sorted(parts.glob("part-*.parquet"))
            # All are there, once, or the old store stays.
            read_parts(files, len(catalog), recipe["dim"])

            def move(fresh: Path) -> list[str]:
                (fresh / PARTS).mkdir()
                for file in files:
                    os.replace(file, fresh / PARTS / file.name)
                return [f"{PARTS}/{file.name}" for file in files]

            named = {"encoder": encoder.name, **recipe}
            return publish_store(folder, named, catalog, hashes, move, pyspark=spark.version)
        finally:
            shutil.rmtree(parts, ignore_errors=True)
            # An `embed_catalog` that was interrupted goes on from what else is there.
            with suppress(OSError):
                parts.parent.rmdir()


def _divided(spark, rows: list[tuple], kinds: str, *, partitions: int, batch_size: int) -> tuple:
    """A data frame of `rows` in at most so many tasks of full batches, and how many tasks these
    are.
    """
    length = -(-len(rows) // (batch_size * partitions)) * batch_size
    tasks = [rows[start : start + length] for start in range(0, len(rows), length)]
    schema = f"task: int, rows: array<struct<{kinds}>>"
    frame = spark.createDataFrame(list(enumerate(tasks)), schema, verifySchema=False)
    return frame.repartitionByRange(len(tasks), "task").selectExpr("inline(rows)"), len(tasks)


def _hash(spark, frame, tasks: int) -> list[str]:
    """The content hash of each photo, in order."""
    from pyspark.sql.functions import pandas_udf

    package = Path(__file__).parents[1]
    _ship(
        spark,
        f"{package.name}.zip",
        lambda file: shutil.make_archive(file[:-4], "zip", package.parent, package.name),
    )
    with _watched(spark, "Reading files", tasks):
        hashed = frame.select("row", pandas_udf(_hashes, "string")("path")).collect()
    return [key for _, key in sorted(hashed)]


def _embed(
    spark, frame, tasks: int, parts: Path, encoder: keras.Model, recipe: dict, batch_size: int
) -> None:
    """Let Spark write a row for each place of each photo into `parts`; a content that has several
    is computed once.
    """
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    name = f"{recipe['fingerprint']}.keras"
    # Without its optimizer.
    _ship(spark, name, keras.Model(encoder.input, encoder.output, name=encoder.name).save)
    predictor = functools.partial(
        _predictor, name, tuple(recipe["image_size"]), recipe["fit"], batch_size
    )
    vector = predict_batch_udf(predictor, return_type=ArrayType(FloatType()), batch_size=batch_size)
    frame = frame.withColumn("vector", vector("path")).selectExpr(
        "inline(places)", "content_hash", "vector"
    )
    with _watched(spark, "Embedding", tasks):
        frame.write.parquet(f"file://{parts}")


def _ship(spark, name: str, write: Callable[[str], object]) -> None:
    """Hand a file to all workers, those that come later too, once a session."""
    from pyspark import SparkFiles

    if all(Path(file).name != name for file in spark.sparkContext.listFiles):
        # Cleared away with the session.
        file = Path(SparkFiles.getRootDirectory(), "lookalike", name)
        file.parent.mkdir(exist_ok=True)
        write(str(file))
        (spark.sparkContext.addPyFile if file.suffix == ".zip" else spark.sparkContext.addFile)(
            str(file)
        )


@contextmanager
def _watched(spark, description: str, tasks: int) -> Iterator[None]:
    """A bar of the tasks of a job that is run inside; for a photo that cannot be read, an
    `ImageError`.
    """
    tracker = spark.sparkContext.statusTracker()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.3):
            for stage in filter(None, map(tracker.getStageInfo, tracker.getActiveStageIds())):
                if stage.numTasks == tasks and stage.numCompletedTasks > bar.n:
                    bar.update(stage.numCompletedTasks - bar.n)

    with progress(total=tasks, description=description, unit="tasks") as bar:
        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        except Exception as error:
            found = re.search(rf"{UNREADABLE}(\[.*\])$", str(error), re.MULTILINE)
            if found is None:
                raise
            raise ImageError(*json.loads(found[1])) from None
        finally:
            ended.set()
            thread.join()
        bar.update(tasks - bar.n)


# --- What runs in the workers
# --------------------------------------------------------------------------------------


def _read(function: Callable, path: str) -> object:
    """A file through `function`; what is wrong with it as one line, to be found again in what Spark
    makes of it.
    """
    try:
        return function(path)
    except ImageError as error:
        raise RuntimeError(UNREADABLE + json.dumps([path, error.reason])) from None


def _hashes(paths: pd.Series) -> pd.Series:
    return pd.Series(parallel_map(functools.partial(_read, content_hash), paths), dtype=object)


def _predictor(
    name: str, size: tuple[int, int], fit: str, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The encoder as a function of paths, made once in each worker."""
    from pyspark import SparkFiles

    encoder = keras.models.load_model(SparkFiles.get(name), safe_mode=True)
    forward = compile_encoder(encoder, batch_size=batch_size)
    return lambda paths: forward(
        np.stack([_read(lambda path: fitted(path, size, fit=fit), path) for path in paths])
    )
