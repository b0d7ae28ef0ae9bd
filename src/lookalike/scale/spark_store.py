"""Vectors in Parquet: as Spark's workers hand them over, and as the first edition kept them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from lookalike.embeddings import CATALOG, EmbeddingStore, read_store
from lookalike.machine import require


def open_spark_store(folder: str | Path) -> EmbeddingStore:
    """Open a store that the first edition's Spark wrote, with its vectors in memory; it is only
    read, and what is raised is that of `open_store`, and `ImportError` without pyarrow.
    """
    return read_store(Path(folder).resolve(), schema=2, load=_all_parts)


def _all_parts(folder, manifest):
    parts = [folder / name for name in manifest["checksums"] if name != CATALOG]
    return {"vectors": read_parts(parts, "row", range(manifest["n"]), manifest["dim"])}


def read_parts(parts: Iterable[Path], key: str, names: Collection, dim: int) -> np.ndarray:
    """Vectors float32 [len(names), dim] in the order of their names, whatever part they are in.

    Parameters
    ----------
    parts
        Parquet files with the columns `key` and `vector`.
    names
        What `key` must say, each once: numbers of rows, or paths of photos.

    Raises
    ------
    ValueError
        If a name is missing, there twice, or none of these, or its vector is not `dim` finite
        numbers, or a file is no such Parquet; it says which.
    ImportError
        If pyarrow is not installed.
    """
    require("pyarrow")
    from pyarrow import parquet

    vectors = {}
    for part in parts:
        try:
            table = parquet.ParquetFile(part).read([key, "vector"])
            rows = zip(table[key].to_pylist(), table["vector"].to_numpy(), strict=True)
        except Exception as error:  # of damaged bytes it raises all kinds
            raise ValueError(f"{part} is no Parquet of vectors ({error})") from None
        for name, vector in rows:
            vector = np.asarray(vector)
            if name not in names or name in vectors:
                raise ValueError(f"{part}: {key} {name!r} is there twice, or none of them")
            whole = vector.shape == (dim,) and vector.dtype == np.float32
            if not whole or not np.isfinite(vector).all():
                raise ValueError(
                    f"{part}: the vector of {key} {name!r} is not {dim} finite numbers"
                )
            vectors[name] = vector
    for name in names:
        if name not in vectors:
            raise ValueError(f"the vector of {key} {name!r} is missing")
    return np.stack([vectors[name] for name in names])
