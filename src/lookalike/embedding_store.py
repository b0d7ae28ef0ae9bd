"""The embedding store on disk: read without pickle, checked whole, and never mixed with another
encoder's vectors.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from lookalike.catalog import read_catalog
from lookalike.encoder_fingerprint import describe_encoder, encoder_fingerprint
from lookalike.images import FITS
from lookalike.machine import require
from lookalike.workspace import file_hash, written_aside

# the newest that is read: 1 has `vectors.npy`, 2 has `vectors.parquet`, a folder of part files
SCHEMA = 2
VECTORS = "vectors.npy"
PARTS = "vectors.parquet"
CATALOG = "catalog.csv"
MANIFEST = "manifest.json"
FIELDS = {
    "schema": int,
    "encoder": str,
    "fingerprint": str,
    "image_size": list,
    "fit": str,
    "dim": int,
    "n": int,
}
FIELDS |= {"content_hashes": list, "checksums": dict, "versions": dict}
LATER = ("pooling", "precision", "engine")  # what the first stores do not say
ANEW = "Delete the folder and embed again."
ADVICE = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "What was computed is kept: free some space")
ADVICE |= dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "Choose a folder that you may write to"
)


@dataclass(frozen=True, eq=False)
class EmbeddingStore:
    """An open store: `vectors` float32 [n, dim], `catalog` with a row a vector, and the `manifest`.

    The vectors of `vectors.npy` are memory-mapped; those of `vectors.parquet`, as Spark writes
    them, are in memory.
    """

    folder: Path
    vectors: np.ndarray
    catalog: pd.DataFrame
    manifest: dict


def store_folder(folder: str | Path) -> Path:
    """The absolute path of a store, which may be a link to one."""
    folder = Path(folder).absolute()
    return folder.resolve() if folder.is_symlink() else folder


def beside(folder: Path, what: str) -> Path:
    """A hidden folder beside a store: what is "partial" or "new" is not yet one, and cleared away
    by the next run.

    "previous" is where a store lies for the moment in which another takes its place.
    """
    return folder.with_name(f".{folder.name}.{what}")


def open_store(folder: str | Path) -> EmbeddingStore:
    """Open an embedding store, and check that it is whole.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    ValueError
        If a file was changed, cut or is a link, the files do not make one store, or it is of a
        newer schema.
    ImportError
        If the vectors are in Parquet, and pyarrow is not installed.
    """
    manifest = store_folder(folder) / MANIFEST
    while True:
        before = _seen(manifest)
        try:
            store = _read(manifest.parent)
        except (OSError, ValueError):
            if _seen(manifest) == before:
                raise
        else:
            if _seen(manifest) == before:
                return store  # else another run has exchanged the store while it was read


def _seen(file: Path) -> tuple | None:
    """What tells a file from another that takes its name."""
    with suppress(OSError):
        found = file.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _read(folder: Path) -> EmbeddingStore:
    if not folder.exists() and beside(folder, "previous").is_dir():
        folder = beside(folder, "previous")  # the next `embed_catalog` puts it back
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"No embeddings at {folder}. Run 04_embeddings.ipynb, or 00_quickstart.ipynb, first."
        )
    manifest = read_manifest(folder)
    n = manifest["n"]
    dim = manifest["dim"]
    for name, checksum in manifest["checksums"].items():
        file = folder / name
        if (
            not os.path.isfile(file)
            or file.resolve() != folder.resolve() / name
            or file_hash(file) != checksum
        ):
            raise ValueError(f"{file} is not the file that was written. {ANEW}")
    try:
        if manifest["schema"] == 1:
            vectors = _mapped(folder / VECTORS, n, dim)
        else:
            vectors = read_parts(
                [folder / name for name in manifest["checksums"] if name != CATALOG], n, dim
            )
        catalog = read_catalog(folder / CATALOG)
        if len(catalog) != n:
            raise ValueError(f"{folder / CATALOG} has {len(catalog)} rows for {n} vectors")
    except ValueError as error:
        raise ValueError(str(error).rstrip(".\n") + f". {ANEW}") from None
    return EmbeddingStore(folder, vectors, catalog, manifest)


def read_manifest(folder: Path) -> dict:
    """What a store says of itself; a `ValueError` names what no store of ours can have said."""
    file = folder / MANIFEST
    try:
        manifest = {**json.loads(file.read_bytes())}
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"{file} is no JSON object ({error}). {ANEW}") from None
    if type(manifest.get("schema")) is int and manifest["schema"] > SCHEMA:
        raise ValueError(
            f"{folder} has schema {manifest['schema']}, newer than {SCHEMA}. Update Lookalike."
        )
    kinds = FIELDS | {name: str for name in LATER if name in manifest}
    wrong = [name for name, kind in kinds.items() if type(manifest.get(name)) is not kind]
    if not wrong:
        names = manifest["checksums"].keys() - {CATALOG}
        known = (
            names == {VECTORS}
            if manifest["schema"] == 1
            else set(map(os.path.dirname, names)) == {PARTS}
        )
        checks = {
            "schema": manifest["schema"] < 1,
            "image_size": [type(side) is int and side > 0 for side in manifest["image_size"]]
            != [True, True],
            "fit": manifest["fit"] not in FITS,
            "dim": manifest["dim"] < 1,
            "n, content_hashes": not 1 <= manifest["n"] == len(manifest["content_hashes"]),
            "content_hashes": not all(isinstance(key, str) for key in manifest["content_hashes"]),
            "checksums": CATALOG not in manifest["checksums"] or not known,
        }
        wrong = [name for name, refused in checks.items() if refused]
    if file.is_symlink() or wrong:
        raise ValueError(
            f"{file} is {'not as it was written: ' + ', '.join(wrong) if wrong else 'a link'}. {ANEW}"
        )
    return manifest


def _mapped(file: Path, n: int, dim: int) -> np.ndarray:
    """Vectors float32 [n, dim] of a `.npy`, left on disk; a `ValueError` if it holds anything else."""
    try:
        vectors = np.lib.format.open_memmap(file, mode="r")  # it never unpickles
    except Exception as error:  # a header that was made to do harm raises all kinds
        raise ValueError(f"{file} is no array of numbers ({error})") from None
    if vectors.dtype != np.float32 or vectors.shape != (n, dim) or not vectors.flags.c_contiguous:
        raise ValueError(f"{file} is not float32 [{n}, {dim}], row by row")
    return vectors


def read_parts(parts: list[Path], n: int, dim: int) -> np.ndarray:
    """Vectors float32 [n, dim] from Parquet files with the columns `row`, from 0, and `vector`, in
    any order of rows.

    Raises
    ------
    ValueError
        If a row is missing, there twice, or none of the n, or a vector has not `dim` finite
        numbers; it names the row. If a file is not such a Parquet file; it names the file.
    ImportError
        If pyarrow is not installed.
    """
    vectors = np.empty((0, 0), np.float32)
    counts = np.zeros(n, np.int64)
    for part in parts:
        for rows, batch in _batches(part):
            checks = {f"is none of 0 to {n - 1}": (rows < 0) | (rows >= n)}
            checks[f"is not {dim} numbers"] = np.asarray(batch.value_lengths().fill_null(-1)) != dim
            if not any(map(np.any, checks.values())):
                read = np.asarray(batch.flatten().fill_null(np.nan)).reshape(len(rows), dim)
                checks["is not finite"] = ~np.isfinite(read).all(axis=1)
            for problem, wrong in checks.items():
                if wrong.any():
                    raise ValueError(f"{part}: the vector of row {rows[wrong][0]} {problem}.")
            if not vectors.size:  # no sooner than a vector was found to be so long
                vectors = np.zeros((n, dim), np.float32)
            vectors[rows] = read
            np.add.at(counts, rows, 1)
    if (counts != 1).any():
        row = int(np.flatnonzero(counts != 1)[0])
        raise ValueError(
            f"{parts[0].parent if parts else PARTS} has row {row} {counts[row]} times."
        )
    return vectors


def _batches(part: Path) -> Iterator[tuple]:
    """Rows and vectors of a part file, many at a time, as an int64 array and a pyarrow one of
    float32 lists.
    """
    require("pyarrow")
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(part).iter_batches(columns=["row", "vector"]):
            rows = np.asarray(batch["row"].cast("int64").fill_null(-1))
            yield rows, batch["vector"].cast(pyarrow.list_(pyarrow.float32()))
    except Exception as error:  # of damaged bytes it raises all kinds, too
        raise ValueError(f"{part} is no Parquet of rows and vectors ({error})") from None


def write_part(rows: list[tuple[int, str, str, np.ndarray]], file: Path) -> None:
    """Write rows of number, image_id, content hash and vector as a part file, with the columns that
    Spark writes.
    """
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
    """Write `{image_id: vector}` as `image_embeddings.pkl`, for programs that expect it; Lookalike
    never reads it.
    """
    vectors = dict(zip(store.catalog["image_id"], map(np.array, store.vectors), strict=True))
    with written_aside(Path(file)) as aside:
        aside.write_bytes(pickle.dumps(vectors))


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Let one process at a time write `path`; another waits, and says so.

    What a killed one has locked is free.

    A file system without locks lets all in. A full disk or a folder of others is an `OSError` that
    says what to do.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(
                f"Another process writes {path}; waiting for it to remove {lock.lock_file} ...",
                flush=True,
            )
            lock.acquire()
        except (NotImplementedError, OSError) as error:
            if getattr(error, "errno", None) in ADVICE:
                raise
            Path(lock.lock_file).unlink(missing_ok=True)
        yield
    except OSError as error:
        if error.errno not in ADVICE:
            raise
        raise OSError(
            error.errno, f"{error.strerror}; {path} is as before. {ADVICE[error.errno]}; run again."
        ) from error
    finally:
        if lock.is_locked:
            # While held: who waits for a file that was removed notices it, and takes the next.
            with suppress(OSError):
                os.unlink(lock.lock_file)
        lock.release()
