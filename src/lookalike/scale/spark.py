"""Embeddings computed by Apache Spark on many machines: the encoder goes to the photos, the vectors
come back.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from lookalike import pooling  # noqa: F401, registers a layer that encoders hold
from lookalike.embeddings import EmbeddingStore, compile_encoder, update_store
from lookalike.images import ImageError, fitted
from lookalike.machine import progress, quiet_stderr, require
from lookalike.scale.spark_store import read_parts

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

    local = master.startswith("local")
    settings = {
        "spark.master": re.sub(r"^local\[(\d+|\*)\]$", r"local[\1,4]", master),
        "spark.app.name": "Lookalike",
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1024",
    }
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        settings[f"spark.executorEnv.{name}"] = config.get("spark.task.cpus", 1)
    if local:
        settings |= {
            "spark.driver.host": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.executorEnv.CUDA_VISIBLE_DEVICES": "-1",
        }
    if local or "PYSPARK_PYTHON" not in os.environ:
        os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {name: str(value) for name, value in (settings | config).items()}
    if running := SparkSession.getActiveSession():
        for name, value in settings.items():
            if (found := running.sparkContext.getConf().get(name)) != value:
                raise ValueError(
                    f"Spark is running, with {name} = {found}, not {value}; "
                    "call spark.stop() first."
                )
        return running
    try:
        with quiet_stderr():  # the Java machine keeps it for its life
            return SparkSession.builder.config(map=settings).getOrCreate()
    except Exception as error:
        raise RuntimeError(
            "Spark does not start. It needs Java 17 or newer, e.g. apt-get install "
            f"openjdk-17-jre-headless; Colab has it. It says: {str(error).splitlines()[0]}"
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

    What the store in `folder` has of the same photos by the same encoder is taken over. A task
    whose worker dies is tried again; if the job fails, or this process is killed, the old store
    stays, and the next run starts anew.

    Parameters
    ----------
    spark
        A session, not of Spark Connect; its workers need the packages of Lookalike, whose own code
        is sent to them.
    catalog, folder
        All workers must see the photos, and what is beside the folder, at the same paths, e.g. on a
        mounted volume.
    partitions
        Into how many tasks the work is divided at most; None: eight for each core, or one for each
        5,000 photos.

    Raises
    ------
    ImageError, FileExistsError, OSError, ValueError
        As `embed_catalog` does; ValueError too if a vector is not finite.
    ImportError
        If pyarrow is not installed.
    """
    partitions = partitions or max(8 * spark.sparkContext.defaultParallelism, len(catalog) // 5000)
    if batch_size < 1 or partitions < 1:
        raise ValueError(
            f"batch_size and partitions must be at least 1, not {batch_size} and {partitions}."
        )

    def complete(known, paths, recipe, partial):
        missing = {path: key for key, path in paths.items() if key not in known["vectors"]}
        if missing:
            tasks = min(partitions, -(-len(missing) // batch_size))
            vectors = _embed(spark, missing, tasks, partial, encoder, recipe, batch_size)
            known["vectors"].update(zip(missing.values(), vectors, strict=True))

    return update_store(encoder, catalog, folder, complete, fit=fit)


def _embed(spark, photos, tasks, partial, encoder, recipe, batch_size):
    """Let Spark compute the vectors of photos, a dictionary by path, in this order.

    The workers leave them in files beside the store, and only those of whole tasks are read.
    """
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    # Better now than in the workers: whether there is such a fit.
    fitted(next(iter(photos)), recipe["image_size"], fit=recipe["fit"])
    predictor = functools.partial(
        _predictor, _ship(spark, encoder, recipe), recipe["image_size"], recipe["fit"]
    )
    vector = predict_batch_udf(predictor, return_type=ArrayType(FloatType()), batch_size=batch_size)
    frame = spark.createDataFrame([(path,) for path in photos], "path string")
    frame = frame.repartition(tasks).withColumn("vector", vector("path"))
    parts = partial / "vectors.parquet"
    # Of a run that was killed.
    shutil.rmtree(parts, ignore_errors=True)
    try:
        _watched(spark, tasks, frame.write.parquet, f"file://{parts}")
        return read_parts(parts.glob("part-*.parquet"), "path", photos, recipe["dim"])
    finally:
        shutil.rmtree(parts, ignore_errors=True)
        # Where an `embed_catalog` was interrupted, it goes on from what else is there.
        with suppress(OSError):
            parts.parent.rmdir()


def _ship(spark, encoder, recipe):
    """Hand our code and an encoder to all workers, those that come later too, once a session; the
    name by which they find the encoder.
    """
    from pyspark import SparkFiles

    context = spark.sparkContext
    shipped = {Path(file).name for file in context.listFiles}
    # Cleared away with the session.
    folder = Path(SparkFiles.getRootDirectory(), "shipped")
    folder.mkdir(exist_ok=True)
    if "lookalike.zip" not in shipped:
        package = Path(__file__).parents[1]
        archive = shutil.make_archive(
            str(folder / "lookalike"), "zip", package.parent, package.name
        )
        context.addPyFile(archive)
    name = f"{recipe['fingerprint']}.keras"
    if name not in shipped:
        # Without its optimizer.
        keras.Model(encoder.input, encoder.output).save(folder / name)
        context.addFile(str(folder / name))
    return name


def _watched(spark, tasks, write, place):
    """Run a job, with a bar of its tasks; raise the `ImageError` of a photo that stopped it."""
    tracker = spark.sparkContext.statusTracker()
    bar = progress(total=tasks, description="Embedding", unit="tasks")
    with bar, ThreadPoolExecutor(1) as pool:
        job = pool.submit(write, place)
        while wait([job], 0.3).not_done:
            for stage in map(tracker.getStageInfo, tracker.getActiveStageIds()):
                if stage and stage.numTasks == tasks:
                    bar.update(stage.numCompletedTasks - bar.n)
        found = re.search(rf"{UNREADABLE}(\[.*\])$", str(job.exception()), re.MULTILINE)
        if found:
            raise ImageError(*json.loads(found[1]))
        job.result()
        bar.update(tasks - bar.n)


def _predictor(name, size, fit):
    """The encoder as a function of paths, made once in each worker."""
    from pyspark import SparkFiles

    forward = compile_encoder(keras.models.load_model(SparkFiles.get(name), safe_mode=True))

    def read(path):
        try:
            return fitted(path, size, fit=fit)
        except ImageError as error:
            # One line, to be found again in what Spark makes of it.
            raise RuntimeError(UNREADABLE + json.dumps([path, error.reason])) from None

    return lambda paths: forward(np.stack([read(path) for path in paths]))
