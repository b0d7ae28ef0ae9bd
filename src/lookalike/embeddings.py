"""A catalogue and an encoder to an embedding store on disk: resumable, incremental, whole or not at all."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from lookalike.catalog import read_catalog, save_catalog
from lookalike.fingerprints import describe_encoder, encoder_fingerprint
from lookalike.images import FITS, content_hash, fit_pixels, load_image, pixel_batches
from lookalike.workspace import file_hash, parallel_map, progress, written_aside

SCHEMA = 1
VECTORS, CATALOG, MANIFEST = "vectors.npy", "catalog.csv", "manifest.json"


@dataclass(frozen=True)
class EmbeddingStore:
    """An open store: `vectors` float32 [n, dim] (memory-mapped), `catalog` with a row a vector, and the `manifest`."""

    folder: Path
    vectors: np.ndarray
    catalog: pd.DataFrame
    manifest: dict


@functools.lru_cache(maxsize=2)
def _compiled(encoder: keras.Model):
    """The encoder as one graph, traced once for any batch size; two are kept, so that none is traced at every query."""
    height, width = encoder.input_shape[1:3]
    signature = tf.TensorSpec([None, height, width, 3], tf.float32)
    return tf.function(lambda pixels: tf.cast(encoder(pixels, training=False), tf.float32), input_signature=[signature])


def _forward(encoder: keras.Model, pixels: np.ndarray) -> np.ndarray:
    return _compiled(encoder)(tf.cast(pixels, tf.float32)).numpy()


def embed_images(
    encoder: keras.Model, images: Sequence[str | os.PathLike | np.ndarray], *, fit: str = "resize", batch_size: int = 32
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
    for start in progress(starts, total=len(starts), description="Embedding", unit="batches") if starts[4:] else starts:
        batch = images[start : start + batch_size]
        pixels = [
            (fit_pixels if isinstance(image, np.ndarray) else load_image)(image, size, fit=fit) for image in batch
        ]
        vectors.append(_forward(encoder, np.stack(pixels)))
    return np.concatenate(vectors)


def embed_catalog(
    encoder: keras.Model, catalog: pd.DataFrame, folder: str | Path, *, fit: str = "resize", batch_size: int = 32
) -> EmbeddingStore:
    """Write the vectors of a catalogue to an embedding store, computing only what is not there yet.

    What counts is the content of the files: an image that was renamed is not computed again, one that changed is. After
    an interruption the next run goes on with the batch that was under way. The old store stays until the new is whole.

    Parameters
    ----------
    folder
        The store's own, e.g. `embeddings/vgg16`; the store that is in it is updated or replaced.
    fit
        How photos are brought to the encoder's input size: "resize", "letterbox" or "crop".

    Raises
    ------
    ImageError
        If a file of the catalogue cannot be read (any more); `load_catalog` sorts those out.
    FileExistsError
        If `folder` holds something else than a store.
    ValueError
        If the catalogue is empty, or `fit` unknown.
    """
    if catalog.empty:
        raise ValueError("The catalogue is empty; there is nothing to embed.")
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, not {fit!r}.")
    folder = Path(folder).absolute()
    if not folder.exists() and _previous(folder).is_dir():
        os.replace(_previous(folder), folder)  # a run was killed between the two renames of `_publish`
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise FileExistsError(f"{folder} is not empty and is no embedding store; choose another folder.")
    recipe = {
        "encoder": encoder.name,
        "fingerprint": encoder_fingerprint(encoder),
        "image_size": list(encoder.input_shape[1:3]),
        "fit": fit,
        "pooling": type(encoder.layers[-1]).__name__,
        "precision": encoder.dtype_policy.name,
        "dim": encoder.output_shape[-1],
    }
    bar = progress(catalog["path"], total=len(catalog), description="Reading files")
    hashes = list(parallel_map(content_hash, bar))
    known = _known_vectors(folder, recipe)
    missing = {key: path for key, path in zip(hashes, catalog["path"], strict=True) if key not in known}
    partial = folder.with_name(f".{folder.name}.partial")
    if missing:
        known |= _compute(encoder, missing, partial, recipe, batch_size=batch_size)
    return _publish(folder, partial, recipe, catalog, hashes, known)


def _known_vectors(folder: Path, recipe: dict) -> dict[str, np.ndarray]:
    """Vectors by content hash of the store that is there, if the same encoder made it from equally fitted photos."""
    store = open_store(folder) if (folder / MANIFEST).is_file() else None
    if store is None or any(store.manifest.get(name) != value for name, value in recipe.items()):
        return {}
    return dict(zip(store.manifest["content_hashes"], store.vectors, strict=True))


def _compute(
    encoder: keras.Model, missing: dict[str, str], partial: Path, recipe: dict, *, batch_size: int
) -> dict[str, np.ndarray]:
    """Vectors of the missing images, by content hash; every batch is on disk in `partial` before the next one starts.

    What an interrupted run has finished comes first and is kept, even if the catalogue has changed since. All batches
    have one shape, the last one filled up, and start where they would have: the vectors do not tell of a restart.
    """
    rows, plan_file, row_bytes = partial / "rows.f32", partial / "plan.json", 4 * recipe["dim"]
    plan = json.loads(plan_file.read_text()) if plan_file.is_file() else {}
    if plan.get("recipe") != recipe:
        shutil.rmtree(partial, ignore_errors=True)
        plan = {"recipe": recipe, "order": []}
    done = min(rows.stat().st_size // row_bytes, len(plan["order"])) if rows.is_file() else 0
    done = done if done == len(plan["order"]) else done - done % batch_size
    finished = plan["order"][:done]
    order = list(dict.fromkeys([*finished, *missing]))
    with written_aside(plan_file) as aside:
        aside.write_text(json.dumps({"recipe": recipe, "order": order}))
    paths = [missing[key] for key in order[done:]]
    with open(rows, "ab") as stream, progress(total=len(order), initial=done, description="Embedding") as bar:
        stream.truncate(done * row_bytes)
        for pixels in pixel_batches(paths, tuple(recipe["image_size"]), batch_size=batch_size, fit=recipe["fit"]):
            filled = np.pad(pixels, [(0, batch_size - len(pixels)), (0, 0), (0, 0), (0, 0)])
            stream.write(_forward(encoder, filled)[: len(pixels)].tobytes())
            stream.flush()
            bar.update(len(pixels))
    return dict(zip(order, np.memmap(rows, np.float32, "r", shape=(len(order), recipe["dim"])), strict=True))


def _publish(
    folder: Path, partial: Path, recipe: dict, catalog: pd.DataFrame, hashes: list[str], vectors: dict[str, np.ndarray]
) -> EmbeddingStore:
    """Write the new store beside the old one, then exchange them by renaming."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    if folder.exists():  # what else somebody keeps there moves along
        shutil.copytree(folder, fresh, ignore=shutil.ignore_patterns(VECTORS, CATALOG, MANIFEST), dirs_exist_ok=True)
    array = np.lib.format.open_memmap(fresh / VECTORS, "w+", np.float32, (len(catalog), recipe["dim"]))
    for row, key in enumerate(hashes):
        array[row] = vectors[key]
    array.flush()
    save_catalog(catalog, fresh / CATALOG)  # beside `folder`, so that relative paths stay right
    manifest = {
        "schema": SCHEMA,
        **recipe,
        "n": len(catalog),
        "content_hashes": hashes,
        "checksums": {name: file_hash(fresh / name) for name in (VECTORS, CATALOG)},
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__},
    }
    (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1))
    shutil.rmtree(_previous(folder), ignore_errors=True)
    if folder.exists():
        os.replace(folder, _previous(folder))
    os.replace(fresh, folder)
    for leftover in (_previous(folder), partial):
        shutil.rmtree(leftover, ignore_errors=True)
    return open_store(folder)


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def open_store(folder: str | Path) -> EmbeddingStore:
    """Open an embedding store, and check that it is whole.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    ValueError
        If a file was changed or cut, or the store is of a newer schema; the message names it.
    """
    folder = Path(folder).absolute()
    if not folder.exists() and _previous(folder).is_dir():
        folder = _previous(folder)  # the next `embed_catalog` puts it back
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"No embeddings at {folder}. Run 00_quickstart.ipynb, or embed_catalog, first.")
    manifest = json.loads((folder / MANIFEST).read_text())
    if manifest["schema"] > SCHEMA:
        raise ValueError(f"{folder} has schema {manifest['schema']}, newer than {SCHEMA}. Update Lookalike.")
    for name, checksum in manifest["checksums"].items():
        if not (folder / name).is_file() or file_hash(folder / name) != checksum:
            raise ValueError(f"{folder / name} is not the file that was written. Delete the folder and embed again.")
    vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    return EmbeddingStore(folder, vectors, read_catalog(folder / CATALOG), manifest)


def check_encoder(store: EmbeddingStore, encoder: keras.Model) -> None:
    """Refuse an encoder that did not make the store, with a `ValueError` that names both."""
    if encoder_fingerprint(encoder) != store.manifest["fingerprint"]:
        made_with = f"{store.manifest['encoder']} ({store.manifest['fingerprint']})"
        raise ValueError(
            f"{store.folder} was made with {made_with}, the query is from {describe_encoder(encoder)}. "
            "Vectors of two encoders cannot be compared: use the first, or embed the catalogue again."
        )


def export_pickle(store: EmbeddingStore, file: str | Path) -> None:
    """Write `{image_id: vector}` as `image_embeddings.pkl`, for programs that expect it; Lookalike never reads it."""
    vectors = dict(zip(store.catalog["image_id"], map(np.array, store.vectors), strict=True))
    with written_aside(Path(file)) as aside:
        aside.write_bytes(pickle.dumps(vectors))
