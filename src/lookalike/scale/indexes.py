"""Search at scale: indexes made, opened and measured by one name, and galleries of any size to
measure them on.
"""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from lookalike.embeddings import EmbeddingStore
from lookalike.scale import faiss_indexes
from lookalike.scale.exact import FORMAT, ROWS, SCHEMA, ExactIndex, Index, is_milvus, recall_at_k
from lookalike.scale.faiss_indexes import FaissIndex
from lookalike.scale.milvus import MilvusIndex
from lookalike.similarity import top_k

KINDS = ("exact", *faiss_indexes.KINDS, "milvus")
# Resampling: with these, the nearest neighbours are as far as those of real photos.
NEIGHBOURS = 10
NOISE = 0.5
# queries timed one at a time, and for how long at most
TIMED = 100
SECONDS = 20


def make_index(
    kind: str,
    dim: int,
    *,
    metric: str = "cosine",
    path: str | Path | None = None,
    name: str = "products",
    token: str = "",
) -> Index:
    """An empty index of one of `KINDS`; for "milvus", at `path`, a file that ends in .db or an
    address.

    In a file of Milvus Lite the collection `name` is made anew; on a server, one that is there must
    be empty.

    Raises
    ------
    ImportError
        If its engine is not installed.
    ValueError
        If the kind is unknown, "milvus" without a path, or the server's collection another's or not
        empty.
    """
    if kind == "exact":
        return ExactIndex(dim, metric=metric)
    if kind in faiss_indexes.KINDS:
        return FaissIndex(dim, kind=kind, metric=metric)
    if kind != "milvus":
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}.")
    if path is None:
        raise ValueError(
            "Milvus needs a path: a file that ends in .db, or an address like http://host:19530."
        )
    index = MilvusIndex(path, name, dim, metric=metric, token=token, fresh="://" not in str(path))
    if len(index):
        index.close()
        raise ValueError(
            f"The collection {name} at {path} holds vectors already; open it, or name another."
        )
    return index


def index_store(store: EmbeddingStore, kind: str = "hnsw", **options: object) -> Index:
    """An index of an embedding store: ids are its rows, so that `store.catalog.iloc[ids]` are the
    products.

    Labels are those of the catalogue, some or all of which may be missing. The options, and what is
    raised, are those of `make_index`: metric, and for Milvus path, name and token.
    """
    index = make_index(kind, store.vectors.shape[1], **options)
    index.add(np.arange(len(store.vectors)), store.vectors, store.catalog.get("label"))
    return index


def open_index(path: str | Path, *, name: str = "products", token: str = "") -> Index:
    """Open what an index was saved to; its kind is found there.

    Parameters
    ----------
    path
        The file given to `save`, a Milvus Lite (it ends in .db), or the address of a Milvus server.
    name, token
        Of a Milvus: the collection, and what it asks for.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ImportError
        If its engine is not installed.
    ValueError
        If it is no index, was changed or cut, or is of a newer schema.
    """
    if is_milvus(path):
        return MilvusIndex(path, name, token=token)
    if not Path(path).is_file():
        raise FileNotFoundError(f"No index at {path}. Make one with index_store and save it there.")
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read("index.json"))
            if header["format"] != FORMAT or archive.testzip():
                raise ValueError(header["format"])
            if header["schema"] <= SCHEMA:
                return _read(archive, header)
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ValueError,
        TypeError,
        EOFError,
        RuntimeError,
    ) as error:
        raise ValueError(
            f"{path} is no index of Lookalike, or was changed or cut; "
            "make it again with index_store."
        ) from error
    raise ValueError(
        f"{path} has schema {header['schema']}, newer than {SCHEMA}. Update Lookalike."
    )


def _read(archive, header):
    index = make_index(header["kind"], header["dim"], metric=header["metric"])
    for name in ("ids", "codes"):
        with archive.open(f"{name}.npy") as stream:
            setattr(index, name, np.load(stream, allow_pickle=False))
    index.removed = int((index.ids < 0).sum())
    index.names = {label: code for code, label in enumerate(header["labels"])}
    index.trained_on = header.get("trained_on", 0)
    with archive.open(index.engine_file) as stream:
        count = index.read_engine(stream)
    if not count == len(index.ids) == len(index.codes):
        raise ValueError("more or fewer vectors than ids")
    return index


def resampled(vectors: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """As many vectors as one likes, float32 [n, dim], shaped like real ones [m, dim].

    Each is a real vector, moved by a random share of the way to one of its 10 nearest (SMOTE:
    Chawla et al., JAIR 2002), plus noise half as long as that way. So clusters stay; and of 3,409
    photos of clothing, as many resampled vectors are at a median cosine distance of 0.028 from
    their nearest and 0.054 from their tenth, the real ones at 0.033 and 0.050, and white noise of
    the same mean and spread at 0.105 and 0.116.

    Raises
    ------
    ValueError
        If there are fewer than two vectors, n < 1, or a vector holds NaN or infinity (its row is
        named).
    """
    vectors = np.asarray(vectors, np.float32)
    count, dim = vectors.shape
    if count < 2 or n < 1:
        raise ValueError(
            f"n must be >= 1 and there must be two vectors at least; not {n} of {count}."
        )
    itself = np.arange(count)[:, None]
    neighbours = min(NEIGHBOURS, count - 1)
    near, _ = top_k(vectors, vectors, neighbours, metric="euclidean", exclude=itself)
    random = np.random.default_rng(seed)
    made = np.empty((n, dim), np.float32)
    for start in range(0, n, ROWS):
        block = made[start : start + ROWS]
        source = random.integers(count, size=len(block))
        target = near[source, random.integers(neighbours, size=len(block))]
        step = vectors[target] - vectors[source]
        spread = NOISE * np.linalg.norm(step, axis=1, keepdims=True) / np.sqrt(dim)
        block[:] = vectors[source] + random.random((len(block), 1), np.float32) * step
        block += spread * random.standard_normal(block.shape, np.float32)
    return made


def measure(
    index: Index | str,
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int = 10,
    *,
    metric: str = "cosine",
    exact: np.ndarray | None = None,
) -> dict:
    """How fast, how right and how large an index is.

    Parameters
    ----------
    index
        One of `KINDS`, which is made here (Milvus: in a file that is removed again), or an index
        whose ids are the rows of `vectors`.
    vectors, queries : float [n, dim] and [q, dim]
        Queries should not be among the vectors.
    exact : float [q, k]
        Scores of the exact search, if they are known.

    Returns
    -------
    `kind`, `vectors`, `build_s` (NaN for an index that was given), `ms_per_query` (median, one at a
    time), `queries_per_s` (all at once), `recall` at k against exact search, and `MB`. What is
    raised is that of `make_index`.
    """
    k = min(k, len(vectors))
    if isinstance(index, str):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "measured.db"
            begin = time.perf_counter()
            with closing(make_index(index, vectors.shape[1], metric=metric, path=path)) as made:
                made.add(np.arange(len(vectors)), vectors)
                if index == "milvus":
                    made.save()
                made.search(queries[:1], k)  # the first prepares: it is part of building
                took = time.perf_counter() - begin
                return measure(made, vectors, queries, k, exact=exact) | {"build_s": took}
    index.search(queries[:1], k)
    times = []
    for query in queries[:TIMED]:
        begin = time.perf_counter()
        index.search(query, k)
        times.append(time.perf_counter() - begin)
        if sum(times) > SECONDS:
            break
    begin = time.perf_counter()
    ids, _ = index.search(queries, k)
    took = time.perf_counter() - begin
    if exact is None:
        _, exact = top_k(queries, vectors, k, metric=index.metric)
    return {
        "kind": index.kind,
        "vectors": len(index),
        "build_s": np.nan,
        "ms_per_query": 1000 * float(np.median(times)),
        "queries_per_s": len(queries) / took,
        "recall": recall_at_k(ids, exact[:, :k], queries, vectors, index.metric),
        "MB": index.nbytes / 1e6,
    }


def compare_engines(
    vectors: np.ndarray,
    queries: np.ndarray,
    kinds: Sequence[str] = KINDS,
    *,
    k: int = 10,
    metric: str = "cosine",
    sizes: Sequence[int] = (),
) -> pd.DataFrame:
    """`measure` of several kinds, a row each; with `sizes`, on the first so many vectors, one size
    after the other.
    """
    rows = []
    for size in sizes or [len(vectors)]:
        _, exact = top_k(queries, vectors[:size], k, metric=metric)
        for kind in kinds:
            rows.append(measure(kind, vectors[:size], queries, k, metric=metric, exact=exact))
    return pd.DataFrame(rows)
