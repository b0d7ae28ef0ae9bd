"""Photos to vectors, and the store that keeps them on disk: grown, resumed, whole or not at all."""

import functools
import json
import pickle
import shutil
import warnings
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from lookalike.catalog import FILE_COLUMNS, read_catalog, save_catalog
from lookalike.colour import colour_histograms, join
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.images import content_hash, pixel_batches
from lookalike.machine import parallel_map, progress
from lookalike.similarity import normalise, vector_lengths
from lookalike.workspace import file_hash, replaced, sole_writer, written_aside

CATALOG = "catalog.csv"
MANIFEST = "manifest.json"
SHARD = 1024  # photos whose vectors are written at a time


@dataclass(frozen=True, eq=False)
class EmbeddingStore:
    """An open store: `vectors` float32 [n, dim], mapped from disk, a `catalog` with a row a vector,
    the `manifest`, which says how they were made, and `side_arrays` [n, ...] by name.
    """

    folder: Path
    vectors: np.ndarray
    catalog: pd.DataFrame
    manifest: dict
    side_arrays: dict[str, np.ndarray]

    @functools.cached_property
    def lengths(self):
        """The lengths of the vectors [n], measured once for all searches."""
        return vector_lengths(self.vectors, "gallery")

    @functools.cached_property
    def joined(self):
        """Vectors at length 1 and colours side by side, as `join` makes them, in memory."""
        return join(normalise(self.vectors), self.side_arrays["colours"])


def compile_encoder(encoder):
    """An encoder as one graph, uint8 pixels [n, height, width, 3] to float32 vectors [n, dim]; its
    weights are built in as they are now, so that layers can be fused.
    """
    import tensorflow as tf

    trainable = [variable.numpy() for variable in encoder.trainable_variables]
    others = [variable.numpy() for variable in encoder.non_trainable_variables]

    pixels = tf.TensorSpec([None, *encoder.input_shape[1:]], tf.uint8)

    @tf.function(input_signature=[pixels])
    def graph(pixels):
        pixels = tf.cast(pixels, tf.float32)
        vectors, _ = encoder.stateless_call(trainable, others, pixels, training=False)
        return tf.cast(vectors, tf.float32)

    # Traced here: who makes many encoders would be warned of retracing.
    graph = graph.get_concrete_function()
    return lambda pixels: graph(tf.constant(pixels)).numpy()


def embed_images(encoder, images, *, fit="resize"):
    """Vectors of photos that are not kept, such as queries.

    Parameters
    ----------
    images
        Paths of photos, the bytes of files, or uint8 pixels [height, width, 3] of any size.

    Returns
    -------
    float32 array [len(images), dim], not normalised; `ImageError` if a file cannot be read.
    """
    size = encoder.input_shape[1:3]
    if len(images) > 100:
        images = progress(images, description="Embedding")
    batches = pixel_batches(images, size, fit=fit)
    vectors = [encoder.predict_on_batch(np.float32(pixels)) for pixels in batches]
    return np.float32(np.concatenate(vectors))


def embed_catalog(
    encoder, catalog, folder, *, forward=None, side_arrays=None, fit="resize", batch_size=32
):
    """Write the vectors of a catalogue to an embedding store, computing only what is not there yet.

    What counts is the content of the files: an image that was renamed is not computed again, one
    that changed is. What an interrupted run has done is taken up. The old store stays until the new
    one is whole, and where the catalogue has no splits, the old ones are kept.

    Parameters
    ----------
    folder
        The store's own, e.g. `embeddings/vgg16`; the store that is in it is updated or replaced.
    forward
        What computes the vectors in the encoder's place, uint8 pixels [n, height, width, 3] to [n,
        dim], such as its export to another engine. Store and queries go on naming the encoder.
    side_arrays
        What to keep of each photo besides its colours: functions of the same pixels to [n, ...], by
        the names of the arrays.
    fit
        How photos are brought to the encoder's input size: "resize", "letterbox" or "crop".

    Raises
    ------
    ImageError
        If a photo cannot be read (any more); 01_data.ipynb sorts those out.
    FileExistsError, OSError
        If `folder` holds something else than a store, or cannot be written.
    ValueError
        If the catalogue is empty, an option none, or the store that is there damaged.
    """
    functions = {"vectors": forward, "colours": colour_histograms, **(side_arrays or {})}

    def complete(known, paths, recipe, partial):
        _add_shards(known, partial, recipe)
        missing = {name: paths.keys() - known[name].keys() for name in functions}
        needed = {name: function for name, function in functions.items() if missing[name]}
        lacking = set().union(*missing.values())
        photos = {key: path for key, path in paths.items() if key in lacking}
        if "vectors" in needed:
            needed["vectors"] = forward or compile_encoder(encoder)
        if photos:
            _compute(photos, needed, partial, recipe, batch_size)
            _add_shards(known, partial, recipe)

    return update_store(encoder, catalog, folder, complete, fit=fit)


def update_store(encoder, catalog, folder, complete, *, fit="resize"):
    """What `embed_catalog` does, for whatever computes: `complete(known, paths, recipe, partial)`
    adds to `known`, the rows by name of array and content, those that the photos `paths`, by
    content, lack; in the folder `partial` it may keep what an interruption shall not cost.
    """
    if catalog.empty:
        raise ValueError("The catalogue is empty; there is nothing to embed.")
    folder = Path(folder).resolve()
    partial = folder.with_name(f".{folder.name}.partial")
    # What decides the vectors, and must be equal for them to be kept.
    recipe = {
        "fingerprint": encoder_fingerprint(encoder),
        "image_size": list(encoder.input_shape[1:3]),
        "fit": fit,
        "dim": encoder.output_shape[-1],
    }
    with sole_writer(folder):
        old = _store_there(folder)
        catalog = catalog.assign(sha256=_hashes_now(catalog))
        if old is not None and catalog["split"].isna().all():
            splits = old.catalog.set_index("image_id")["split"]
            catalog["split"] = catalog["image_id"].map(splits)
        known = _known_rows(old, recipe)
        paths = catalog.set_index("sha256")["path"].to_dict()
        complete(known, paths, recipe, partial)
        arrays = {}
        for name, rows in known.items():
            if rows.keys() >= {*catalog["sha256"]}:
                arrays[name] = np.stack([rows[key] for key in catalog["sha256"]])
            else:
                print(f"{name} is left out, as new photos lack it; ask for it in side_arrays.")
        arrays["vectors"] = np.float32(arrays["vectors"])
        _write(folder, encoder, recipe, catalog, arrays)
        shutil.rmtree(partial, ignore_errors=True)
    return read_store(folder)


def _hashes_now(catalog):
    """The hash of each file as it is now; what has the size and time that it had is not read."""

    def hash_now(row):
        path = Path(row.path)
        if path.exists():
            now = path.stat()
            if (now.st_size, now.st_mtime) == (row.bytes, row.mtime):
                return row.sha256
        return content_hash(path)

    rows = catalog.reindex(columns=["path", *FILE_COLUMNS]).itertuples()
    bar = progress(rows, total=len(catalog), description="Looking for changes")
    return [*parallel_map(hash_now, bar)]


def _known_rows(store, recipe):
    """By name and content, the rows of each array of a store, if it is of this recipe."""
    known = defaultdict(dict)
    if store is None:
        return known
    # The first edition kept no hashes in the catalogue.
    if recipe.items() <= store.manifest.items() and "sha256" in store.catalog:
        for name, rows in {"vectors": store.vectors, **store.side_arrays}.items():
            known[name].update(zip(store.catalog["sha256"], rows, strict=True))
    else:
        print(
            f"{store.folder.name} is of another encoder or fit: all photos are embedded anew."
        )
    return known


def _add_shards(known, partial, recipe):
    """Add what was done by runs that did not come to their end."""
    for file in partial.glob("*.npz"):
        # One that a power cut has cut short is of no use.
        with suppress(BadZipFile, ValueError), np.load(file, allow_pickle=False) as shard:
            if shard["recipe"] == json.dumps(recipe):
                for name in {*shard} - {"recipe", "keys"}:
                    # Only the first photos may have been done.
                    known[name].update(zip(shard["keys"], shard[name], strict=False))


def _compute(photos, functions, partial, recipe, batch_size):
    """Write what functions make of photos, paths by content, in shards; what is done is kept, also
    if a photo cannot be read or somebody stops it.
    """
    partial.mkdir(exist_ok=True)
    keys = list(photos)
    options = {"batch_size": batch_size, "fit": recipe["fit"]}
    with progress(total=len(photos), description="Embedding") as bar:
        for first in range(0, len(keys), SHARD):
            some = keys[first : first + SHARD]
            paths = [photos[key] for key in some]
            done = {name: [] for name in functions}
            try:
                for pixels in pixel_batches(paths, recipe["image_size"], **options):
                    for name, function in functions.items():
                        rows = np.asarray(function(pixels))
                        if name == "vectors" and rows.shape != (len(pixels), recipe["dim"]):
                            raise ValueError(f"forward makes {rows.shape} of {pixels.shape}.")
                        done[name].extend(rows)
                    bar.update(len(pixels))
            finally:
                with (
                    written_aside(partial / f"{some[0]}.npz") as aside,
                    open(aside, "wb") as file,
                ):
                    np.savez(file, recipe=json.dumps(recipe), keys=some, **done)


def _write(folder, encoder, recipe, catalog, arrays):
    """Write a store in the place of the one that is there, whole or not at all."""
    with replaced(folder) as fresh:
        save_catalog(catalog, fresh / CATALOG)
        checksums = {CATALOG: file_hash(fresh / CATALOG)}
        for name in sorted(arrays):
            file = fresh / f"{name}.npy"
            np.save(file, arrays[name])
            checksums[file.name] = file_hash(file)
        manifest = {"schema": 1, "encoder": encoder.name, **recipe, "checksums": checksums}
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1))


def open_store(folder):
    """Open an embedding store, check that it is whole, and warn if its photos are not those of
    today's catalogue.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    ValueError
        If a file was changed or cut, or Spark has written the store.
    """
    store = read_store(Path(folder).resolve())
    name = store.folder.name.removesuffix(f"-{store.manifest['encoder']}")
    file = store.folder.parent.parent / "data" / "catalogs" / name / CATALOG
    # Without a catalogue of it, or hashes, there is nothing to compare.
    with suppress(FileNotFoundError, KeyError):
        todays = {*read_catalog(file)[["image_id", "sha256"]].itertuples(index=False)}
        ours = {*store.catalog[["image_id", "sha256"]].itertuples(index=False)}
        if ours != todays:
            warnings.warn(
                f"{store.folder.name} lacks {len(todays - ours)} photos of today's catalogue, and "
                f"has {len(ours - todays)} that are not in it: run 04_embeddings.ipynb again."
            )
    return store


def _store_there(folder):
    """The store that another is to take the place of, if any; nothing else is overwritten."""
    with suppress(FileNotFoundError):
        return read_store(folder)
    if folder.is_file() or any(folder.glob("*")):
        raise FileExistsError(f"{folder} is not empty and is no store; choose another folder.")
    return None


def _mapped(folder, manifest):
    """The arrays of a store by name, left on disk; what would need pickle is refused."""
    files = [folder / name for name in manifest["checksums"] if name.endswith(".npy")]
    return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in files}


def read_store(folder, *, schema=1, load=_mapped):
    """`open_store` for a schema, whose arrays `load` reads from the folder as the manifest says."""
    # A run was killed at the moment in which the new store takes the place of the old.
    previous = folder.with_name(f".{folder.name}.previous")
    place = folder if folder.exists() else previous
    if not (place / MANIFEST).is_file():
        raise FileNotFoundError(f"No embeddings at {folder}. Run 04_embeddings.ipynb first.")
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        if manifest["schema"] != schema:
            raise ValueError(
                f"its schema is {manifest['schema']}; open_store opens 1, and "
                "lookalike.scale.open_spark_store 2"
            )
        for name, checksum in manifest["checksums"].items():
            if file_hash(place / name) != checksum:
                raise ValueError(f"{name} has been changed")
        catalog = read_catalog(place / CATALOG)
        arrays = load(place, manifest)
        vectors = arrays.pop("vectors")
        if vectors.shape != (len(catalog), manifest["dim"]):
            raise ValueError(f"it has {len(catalog)} photos, and vectors {[*vectors.shape]}")
    except Exception as error:
        raise ValueError(
            f"{folder} cannot be opened: {error}. If nothing else helps, delete it and embed again."
        ) from None
    return EmbeddingStore(folder, vectors, catalog, manifest, arrays)


def check_encoder(store, encoder):
    """Refuse an encoder that did not make the store, with a `ValueError` that names both."""
    if encoder_fingerprint(encoder) != store.manifest["fingerprint"]:
        raise ValueError(
            f"{store.folder} was made with {store.manifest['encoder']}, the query is from another, "
            f"{encoder.name}, or other weights. Vectors of two encoders cannot be compared: use "
            "the first, or embed the catalogue again."
        )


def export_pickle(store, file):
    """Write `{image_id: vector}` as `image_embeddings.pkl`, for programs that expect it; Lookalike
    never reads it.
    """
    vectors = dict(zip(store.catalog["image_id"], np.array(store.vectors), strict=True))
    with written_aside(Path(file)) as aside:
        aside.write_bytes(pickle.dumps(vectors))
