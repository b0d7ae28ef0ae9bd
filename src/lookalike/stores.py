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

SCHEMA = 2  # the newest that is read: 1 has `vectors.npy`, 2 has `vectors.parquet`, a folder of part files
VECTORS, PARTS, CATALOG, MANIFEST = "vectors.npy", "vectors.parquet", "catalog.csv", "manifest.json"


@dataclass(frozen=True, eq=False)
class EmbeddingStore:
    """An open store: `vectors` float32 [n, dim], `catalog` with a row a vector, and the `manifest`.

    The vectors of `vectors.npy` are memory-mapped; those of `vectors.parquet`, as Spark writes them, are in memory.
    """

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


def partial_folder(folder: Path) -> Path:
    """Where a run keeps what is not yet a store; the next one clears it away, whichever it is."""
    return folder.with_name(f".{folder.name}.partial")


def open_store(folder: str | Path) -> EmbeddingStore:
    """Open an embedding store, and check that it is whole.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    ValueError
        If a file was changed or cut, rows of part files do not make one array, or the store is of a newer schema.
    ImportError
        If the vectors are in Parquet, and pyarrow is not installed.
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
    if manifest["schema"] == 1:
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    else:
        parts = [folder / name for name in manifest["checksums"] if name.startswith(f"{PARTS}/")]
        vectors = read_parts(parts, manifest["n"], manifest["dim"])
    return EmbeddingStore(folder, vectors, read_catalog(folder / CATALOG), manifest)


def read_parts(parts: list[Path], n: int, dim: int) -> np.ndarray:
    """Vectors float32 [n, dim] from Parquet files with the columns `row`, from 0, and `vector`, in any order of rows.

    Raises
    ------
    ValueError
        If a row is missing, there twice, or none of the n, or a vector has not `dim` finite numbers; it names the row.
    ImportError
        If pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError("Parquet is read by pyarrow, which is not installed; pip install pyarrow") from None
    vectors, counts = np.zeros((n, dim), np.float32), np.zeros(n, np.int64)
    for part in parts:
        for batch in parquet.ParquetFile(part).iter_batches(columns=["row", "vector"]):
            rows = np.asarray(batch["row"].cast("int64").fill_null(-1))
            checks = {f"is none of 0 to {n - 1}": (rows < 0) | (rows >= n)}
            checks[f"is not {dim} numbers"] = np.asarray(batch["vector"].value_lengths().fill_null(-1)) != dim
            if not any(map(np.any, checks.values())):
                values = batch["vector"].flatten().cast("float32").fill_null(np.nan)
                read = np.asarray(values).reshape(len(rows), dim)
                checks["is not finite"] = ~np.isfinite(read).all(axis=1)
            for problem, wrong in checks.items():
                if wrong.any():
                    raise ValueError(f"{part}: the vector of row {rows[wrong][0]} {problem}. Embed again.")
            vectors[rows] = read
            np.add.at(counts, rows, 1)
    if (counts != 1).any():
        row = int(np.flatnonzero(counts != 1)[0])
        raise ValueError(f"{parts[0].parent if parts else PARTS} has row {row} {counts[row]} times. Embed again.")
    return vectors


def write_part(rows: list[tuple[int, str, str, np.ndarray]], file: Path) -> None:
    """Write rows of number, image_id, content hash and vector as a part file, with the columns that Spark writes."""
    import pyarrow
    from pyarrow import parquet

    kinds = {"row": pyarrow.int64(), "image_id": pyarrow.string(), "content_hash": pyarrow.string()}
    kinds["vector"] = pyarrow.list_(pyarrow.float32())
    columns = map(pyarrow.array, zip(*rows, strict=True), kinds.values())
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(dict(zip(kinds, columns, strict=True))), file)


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
