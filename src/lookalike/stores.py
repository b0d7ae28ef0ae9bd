"""The embedding store on disk: read without pickle, checked whole, and never mixed with another encoder's vectors."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from lookalike.catalog import read_catalog
from lookalike.fingerprints import describe_encoder, encoder_fingerprint
from lookalike.workspace import file_hash, written_aside

SCHEMA = 1
VECTORS, CATALOG, MANIFEST = "vectors.npy", "catalog.csv", "manifest.json"


@dataclass(frozen=True, eq=False)
class EmbeddingStore:
    """An open store: `vectors` float32 [n, dim] (memory-mapped), `catalog` with a row a vector, and the `manifest`."""

    folder: Path
    vectors: np.ndarray
    catalog: pd.DataFrame
    manifest: dict


def store_folder(folder: str | Path) -> Path:
    """The absolute path of a store, which may be a link to one."""
    folder = Path(folder).absolute()
    return folder.resolve() if folder.is_symlink() else folder


def previous_folder(folder: Path) -> Path:
    """Where a store lies for the moment in which another takes its place."""
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
    folder = store_folder(folder)
    if not folder.exists() and previous_folder(folder).is_dir():
        folder = previous_folder(folder)  # the next `embed_catalog` puts it back
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"No embeddings at {folder}. Run 04_embeddings.ipynb, or 00_quickstart, first.")
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
