"""A catalogue and an encoder to an embedding store on disk: resumable, incremental, whole or not at
all.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from lookalike.catalog import save_catalog
from lookalike.compiled_encoder import choose_engine, compile_encoder, has_openvino
from lookalike.embedding_store import (
    CATALOG,
    MANIFEST,
    PARTS,
    VECTORS,
    EmbeddingStore,
    beside,
    open_store,
    read_manifest,
    sole_writer,
    store_folder,
)
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.images import FITS, content_hash, fitted, pixel_batches
from lookalike.machine import parallel_map, progress
from lookalike.pooling import LAYERS
from lookalike.workspace import Choice, file_hash, written_aside

PLAN = "plan.json"
# What the first stores did not say.
BEFORE_ENGINES = {"precision": "float32", "engine": "tensorflow"}


@functools.lru_cache(maxsize=2)
def _compiled(encoder: keras.Model):
    """The encoder as one graph, traced once for any batch size; two are kept, so that none is
    traced at every query.
    """
    pixels = tf.TensorSpec([None, *encoder.input_shape[1:]], tf.float32)
    graph = tf.function(
        lambda batch: tf.cast(encoder(batch, training=False), tf.float32), input_signature=[pixels]
    )
    return graph.get_concrete_function()


def embed_images(
    encoder: keras.Model,
    images: Sequence[str | os.PathLike | np.ndarray],
    *,
    fit: str = "resize",
    batch_size: int = 32,
) -> np.ndarray:
    """Vectors of a few photos, e.g. queries.

    Parameters
    ----------
    images
        Paths of photos, or uint8 pixels [height, width, 3] of any size.

    Returns
    -------
    float32 array [len(images), dim], not normalised.

    Raises
    ------
    ImageError
        If a file cannot be read as an image.
    """
    size = encoder.input_shape[1:3]
    vectors = [np.empty((0, encoder.output_shape[-1]), np.float32)]
    starts = range(0, len(images), batch_size)
    for start in (
        progress(starts, total=len(starts), description="Embedding", unit="batches")
        if starts[4:]
        else starts
    ):
        batch = images[start : start + batch_size]
        pixels = [fitted(image, size, fit=fit) for image in batch]
        vectors.append(_compiled(encoder)(tf.cast(np.stack(pixels), tf.float32)).numpy())
    return np.concatenate(vectors)


def embed_catalog(
    encoder: keras.Model,
    catalog: pd.DataFrame,
    folder: str | Path,
    *,
    fit: str = "resize",
    batch_size: int = 32,
    precision: str = "float32",
    engine: str = "tensorflow",
) -> EmbeddingStore:
    """Write the vectors of a catalogue to an embedding store, computing only what is not there yet.

    What counts is the content of the files: an image that was renamed is not computed again, one
    that changed is. After an interruption the next run goes on with the batch that was under way.
    The old store stays until the new is whole.

    Parameters
    ----------
    folder
        The store's own, e.g. `embeddings/vgg16`; the store that is in it is updated or replaced.
    fit
        How photos are brought to the encoder's input size: "resize", "letterbox" or "crop".
    precision, engine
        "float32", "bfloat16" or "float16"; "tensorflow" or "openvino". "auto" takes what the store
        has that is there, else what is fastest on this machine, and prints it. The encoder that
        queries are made with stays the same.

    Raises
    ------
    ImageError
        If a file of the catalogue cannot be read (any more); `load_catalog` sorts those out.
    FileExistsError, OSError
        If `folder` holds something else than a store, or may not be written, or the disk has no
        room for the vectors.
    ValueError
        If the catalogue is empty, or an option unknown.
    """
    with sole_writer(store_folder(folder)):
        folder, recipe = prepare_store(encoder, catalog, folder, fit=fit)
        recipe |= _settings(encoder, catalog, folder, recipe, precision=precision, engine=engine)
        reading = progress(catalog["path"], total=len(catalog), description="Reading files")
        hashes = list(parallel_map(content_hash, reading))
        known = known_vectors(folder, recipe)
        missing = {
            key: path for key, path in zip(hashes, catalog["path"], strict=True) if key not in known
        }
        if missing:
            known |= _compute(
                encoder, missing, folder, recipe, batch_size=batch_size, n=len(catalog)
            )

        def write(fresh: Path) -> list[str]:
            header = {
                "descr": "<f4",
                "fortran_order": False,
                "shape": (len(catalog), recipe["dim"]),
            }
            # No map: on a full disk, writing to one kills the process.
            with open(fresh / VECTORS, "wb") as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                stream.writelines(known[key] for key in hashes)
            return [VECTORS]

        return publish_store(folder, {"encoder": encoder.name, **recipe}, catalog, hashes, write)


def prepare_store(
    encoder: keras.Model, catalog: pd.DataFrame, folder: str | Path, *, fit: str
) -> tuple[Path, dict]:
    """Check what is asked for, and tell the store's folder, and what must be equal for its vectors
    to be taken over.
    """
    if catalog.empty:
        raise ValueError("The catalogue is empty; there is nothing to embed.")
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, not {fit!r}.")
    folder = store_folder(folder)
    if not folder.exists() and beside(folder, "previous").is_dir():
        # A run was killed between the two renames of `publish_store`.
        os.replace(beside(folder, "previous"), folder)
    # Of one that did not end well.
    for leftover in (beside(folder, "new"), beside(folder, "previous")):
        shutil.rmtree(leftover, ignore_errors=True)
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise FileExistsError(
            f"{folder} is not empty and is no embedding store; choose another folder."
        )
    return folder, {
        "fingerprint": encoder_fingerprint(encoder),
        "image_size": list(encoder.input_shape[1:3]),
        "fit": fit,
        "pooling": next(
            (
                type(layer).__name__
                for layer in encoder.layers
                if isinstance(layer, tuple(LAYERS.values()))
            ),
            "",
        ),
        "dim": encoder.output_shape[-1],
    }


def _settings(
    encoder, catalog, folder: Path, recipe: dict, *, precision: str, engine: str
) -> dict[str, str]:
    """Precision and engine: as asked, or for "auto" as in what is there, or the fastest."""
    if "auto" not in (precision, engine):
        return {"precision": precision, "engine": engine}
    plan = beside(folder, "partial") / PLAN
    found = [read_manifest(folder)] if (folder / MANIFEST).is_file() else []
    found += [json.loads(plan.read_text())["recipe"]] if plan.is_file() else []
    for there in (BEFORE_ENGINES | manifest for manifest in found):
        settings = {name: there[name] for name in BEFORE_ENGINES}
        asked = {"precision": precision, "engine": engine}
        usable = settings["engine"] != "openvino" or has_openvino()
        if (
            usable
            and recipe.items() <= there.items()
            and all(asked[name] in ("auto", settings[name]) for name in settings)
        ):
            print(
                Choice("precision", " by ".join(settings.values()), "as in the store that is there")
            )
            return settings
    # Of all kinds, in a catalogue sorted by kind.
    drawn = np.random.default_rng(0).permutation(len(catalog))[:32]
    pixels = next(
        pixel_batches(catalog["path"].iloc[drawn], tuple(recipe["image_size"]), fit=recipe["fit"])
    )
    precision, engine, choice = choose_engine(
        encoder, pixels, len(catalog), precision=precision, engine=engine
    )
    print(choice)
    return {"precision": precision, "engine": engine}


def known_vectors(folder: Path, recipe: dict) -> dict[str, np.ndarray]:
    """Vectors by content hash of the store that is there, if the same encoder made it from equally
    fitted photos.
    """
    store = open_store(folder) if (folder / MANIFEST).is_file() else None
    if store is None or not recipe.items() <= (BEFORE_ENGINES | store.manifest).items():
        return {}
    return dict(zip(store.manifest["content_hashes"], store.vectors, strict=True))


def _compute(
    encoder: keras.Model,
    missing: dict[str, str],
    folder: Path,
    recipe: dict,
    *,
    batch_size: int,
    n: int,
) -> dict[str, np.ndarray]:
    """Vectors of the missing images, by content hash; every batch is on disk before the next one
    starts.

    What an interrupted run has finished comes first and is kept, even if the catalogue has changed
    since. Batches start where they would have: the vectors do not tell of a restart.
    """
    settings = {name: recipe[name] for name in ("precision", "engine")}
    forward = compile_encoder(encoder, **settings, batch_size=batch_size)  # first, as it may refuse
    partial = beside(folder, "partial")
    rows = partial / "rows.f32"
    plan_file = partial / PLAN
    row_bytes = 4 * recipe["dim"]
    plan = json.loads(plan_file.read_text()) if plan_file.is_file() else {}
    if plan.get("recipe") != recipe:
        shutil.rmtree(partial, ignore_errors=True)
        plan = {"recipe": recipe, "order": []}
    done = min(rows.stat().st_size // row_bytes, len(plan["order"])) if rows.is_file() else 0
    done = done if done == len(plan["order"]) else done - done % batch_size
    order = list(dict.fromkeys([*plan["order"][:done], *missing]))
    need = row_bytes * (len(order) - done + n) / 1e6
    disk = shutil.disk_usage(partial.parent)
    if disk.total and need > disk.free / 1e6:  # some file systems do not tell
        raise OSError(
            errno.ENOSPC, f"The vectors take {need:,.2f} MB, and {disk.free / 1e6:,.2f} MB are free"
        )
    paths = [missing[key] for key in order[done:]]
    description = f"Embedding, {done} were done" if done else "Embedding"
    partial.mkdir(exist_ok=True)
    with (
        open(rows, "ab") as stream,
        progress(total=len(order), initial=done, description=description) as bar,
    ):
        # Before there is a plan in which the next rows are of other photos.
        stream.truncate(done * row_bytes)
        with written_aside(plan_file) as aside:
            aside.write_text(json.dumps({"recipe": recipe, "order": order}))
        for pixels in pixel_batches(
            paths, tuple(recipe["image_size"]), batch_size=batch_size, fit=recipe["fit"]
        ):
            stream.write(forward(pixels).tobytes())
            stream.flush()
            bar.update(len(pixels))
    return dict(
        zip(order, np.memmap(rows, np.float32, "r", shape=(len(order), recipe["dim"])), strict=True)
    )


def publish_store(
    folder: Path,
    recipe: dict,
    catalog: pd.DataFrame,
    hashes: list[str],
    write: Callable[[Path], list[str]],
    **versions: str,
) -> EmbeddingStore:
    """Write the new store, its vectors by `write`, beside the old one, then exchange them by
    renaming.

    `write` puts files into the folder it is given and names them; `versions` are of packages that
    others do not need.
    """
    fresh = beside(folder, "new")
    fresh.mkdir()
    if folder.exists():  # what else somebody keeps there moves along, be it another store
        ours = {str(folder): (VECTORS, PARTS, CATALOG, MANIFEST)}
        shutil.copytree(
            folder, fresh, symlinks=True, ignore=lambda at, _: ours.get(at, ()), dirs_exist_ok=True
        )
    files = write(fresh)
    save_catalog(catalog, fresh / CATALOG)  # beside `folder`, so that relative paths stay right
    manifest = {
        "schema": 1 if files == [VECTORS] else 2,
        **recipe,
        "n": len(catalog),
        "content_hashes": hashes,
        "checksums": {name: file_hash(fresh / name) for name in (*files, CATALOG)},
        "versions": {
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            **versions,
        },
    }
    (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1))
    if folder.exists():
        os.replace(folder, beside(folder, "previous"))
    os.replace(fresh, folder)
    for leftover in (beside(folder, "previous"), beside(folder, "partial")):
        shutil.rmtree(leftover, ignore_errors=True)
    return open_store(folder)
