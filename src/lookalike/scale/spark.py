"""Embeddings computed by Apache Spark on many machines: the encoder goes to the photos, the vectors
come back.
"""

import os
import shutil
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from lookalike.colour import colour_histograms
from lookalike.embeddings import CATALOG, compile_encoder, read_store, update_store
from lookalike.images import ImageError, fitted
from lookalike.machine import quiet_stderr, require

# Of a pandas newer than it knows.
warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")


def spark_session(master="local[2]", **config):
    """A `pyspark.sql.SparkSession` whose workers run this Python and know Lookalike; the one that
    runs, if there is one.

    Parameters
    ----------
    master
        "local[n]": n tasks at a time on this machine; or the address of a cluster.
    config
        Spark's own settings, e.g. `**{"spark.driver.memory": "4g"}`.

    Raises
    ------
    ImportError, RuntimeError
        If pyspark or pyarrow is not installed, or Spark does not start, as without Java.
    """
    require("pyspark", "pyarrow")
    from pyspark.sql import SparkSession

    settings = {
        # On this machine, too, each task is tried up to four times.
        "spark.master": master.replace("]", ",4]"),
        "spark.app.name": "Lookalike",
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": "false",
    }
    # Tasks that share a machine's cores shall not fight for them.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        settings[f"spark.executorEnv.{name}"] = "1"
    if master.startswith("local"):
        settings |= {"spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false"}
        # The notebook has the GPU.
        settings["spark.executorEnv.CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["PYSPARK_PYTHON"] = sys.executable
    settings |= config
    try:
        with quiet_stderr():  # the Java machine keeps it for its life
            spark = SparkSession.builder.config(map=settings).getOrCreate()
    except Exception as error:
        raise RuntimeError(
            "Spark does not start. It needs Java 17 or newer, e.g. apt-get install "
            f"openjdk-17-jre-headless; Colab has it. It says: {str(error).splitlines()[0]}"
        ) from None
    _ship(spark)
    return spark


def _ship(spark):
    """Hand our code to all workers, those that come later too; where such files lie."""
    from pyspark import SparkFiles

    # Cleared away with the session.
    folder = Path(SparkFiles.getRootDirectory(), "shipped")
    if not folder.exists():
        package = Path(__file__).parents[1]
        archive = shutil.make_archive(
            f"{folder}/lookalike", "zip", package.parent, package.name
        )
        spark.sparkContext.addPyFile(archive)
    return folder


def embed_with_spark(spark, encoder, catalog, folder, *, fit="resize", batch_size=32):
    """Write the store that `embed_catalog` writes, but let Spark compute vectors and colours.

    What the store in `folder` has of the same photos by the same encoder is taken over. A task
    whose worker dies is tried again; if the job fails, or this process is killed, the old store
    stays, and the next run starts anew.

    Parameters
    ----------
    spark
        A session; its workers need the packages of Lookalike, whose own code is sent to them.
    catalog, folder
        All workers must see the photos, and what is beside the folder, at the same paths, e.g. on a
        mounted volume.

    Raises
    ------
    ImageError, FileExistsError, OSError, ValueError
        As `embed_catalog` does.
    """

    def complete(known, paths, recipe, partial):
        done = known["vectors"].keys() & known["colours"].keys()
        missing = {path: key for key, path in paths.items() if key not in done}
        if missing:
            found = _embed(spark, encoder, [*missing], partial, recipe, batch_size)
            for path, row in found.to_numpy():
                vector, colours = np.split(np.float32(row), [recipe["dim"]])
                known["vectors"][missing[path]] = vector
                known["colours"][missing[path]] = colours

    return update_store(encoder, catalog, folder, complete, fit=fit)


def _embed(spark, encoder, paths, partial, recipe, batch_size):
    """Let Spark compute a row a photo, its vector and colours: a table of `path` and `row`.

    The workers leave them beside the store, in Parquet, of which only whole tasks are read.
    """
    from pyspark import SparkFiles
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    name = f"{recipe['fingerprint']}.keras"
    file = _ship(spark) / name
    if not file.exists():
        encoder.save(file)
        spark.sparkContext.addFile(str(file))

    def make_predict():
        import lookalike.backbones  # noqa: F401, registers layers that encoders hold

        forward = compile_encoder(keras.models.load_model(SparkFiles.get(name), safe_mode=True))

        def predict(batch):
            photos = [fitted(path, recipe["image_size"], fit=recipe["fit"]) for path in batch]
            return np.hstack([forward(np.stack(photos)), colour_histograms(photos)])

        return predict

    rows = predict_batch_udf(
        make_predict, return_type=ArrayType(FloatType()), batch_size=batch_size
    )
    frame = spark.createDataFrame([(path,) for path in paths], "path string")
    batches = -(-len(paths) // batch_size)
    most = max(8 * spark.sparkContext.defaultParallelism, len(paths) // 5000)
    frame = frame.repartition(min(most, batches))
    parts = partial / "rows.parquet"
    try:
        frame.withColumn("row", rows("path")).write.parquet(f"file://{parts}", mode="overwrite")
        return pd.read_parquet(parts)
    except Exception as error:
        for path in paths:
            _, found, reason = str(error).partition(f"ImageError: {path}: ")
            if found:
                raise ImageError(path, reason.splitlines()[0]) from None
        raise
    finally:
        # Not all of `partial`: an `embed_catalog` that was interrupted goes on from what is there.
        shutil.rmtree(parts, ignore_errors=True)


def open_spark_store(folder):
    """Open a store that the first edition's Spark wrote in Parquet, with its vectors in memory; it
    is only read, and what is raised is that of `open_store`.
    """

    def load(folder, manifest):
        parts = [folder / name for name in manifest["checksums"] if name != CATALOG]
        rows = pd.concat(map(pd.read_parquet, parts)).sort_values("row")
        return {"vectors": np.stack(rows["vector"])}

    return read_store(Path(folder).resolve(), schema=2, load=load)
