"""One way to search, whichever engine does it; here what all share, and the exact one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from lookalike.gallery_vectors import METRICS, Gallery, as_float32, vector_lengths
from lookalike.similarity import checked_k, exact_scores, top_k
from lookalike.workspace import written_aside

SCHEMA = 1
FORMAT = "lookalike index"
ROWS = 1 << 16  # rows at a time
AGREE = 1e-5  # scores that differ by less are equal: engines round differently


class Index(Protocol):
    """What every engine does. Ids are whole numbers >= 0, of which no two are alike.

    `metric` is "cosine" (scores in [-1, 1], 0 where a vector is zero) or "euclidean" (a distance >=
    0, not squared). A `ValueError` names the row of a vector that holds NaN or infinity, or of an
    id or label that is none.
    """

    kind: str
    metric: str
    dim: int

    def add(
        self, ids: Sequence[int], vectors: np.ndarray, labels: Sequence[str | None] | None = None
    ) -> None:
        """Add vectors [n, dim]; where an id is there already, the new vector and label take its
        place.
        """

    def search(
        self, queries: np.ndarray, k: int, *, label: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of queries [q, dim], of one label if given: ids int64 [q, k] and scores
        float32 [q, k].

        Best first; -1 and -inf (cosine) or inf (euclidean) where fewer are left.
        """

    def remove(self, ids: Sequence[int]) -> int:
        """Remove what is there of `ids`, which may be added again later; how many there were."""

    def save(self, path: str | Path) -> None:
        """Write the index, whole or not at all; `open_index` opens it again."""

    def close(self) -> None:
        """Let go of what is held open."""

    @property
    def nbytes(self) -> int:
        """Bytes that the index takes: in memory, or on disk if it lies there."""

    @property
    def rebuild_due(self) -> str:
        """Why the index should be made anew from its vectors, in words; empty if it need not."""

    def __len__(self) -> int: ...


def checked_rows(
    ids, vectors, labels, dim: int
) -> tuple[np.ndarray, np.ndarray, list[str | None], np.ndarray]:
    """Ids int64 [n], vectors [n, dim], labels and lengths float64 [n]; all engines refuse the same."""
    vectors = vectors if isinstance(vectors, np.memmap) else np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"Vectors must be [n, {dim}], not {list(vectors.shape)}.")
    ids, labels = checked_ids(ids), [None] * len(vectors) if labels is None else list(labels)
    if not len(ids) == len(labels) == len(vectors):
        raise ValueError(
            f"There are {len(vectors)} vectors, {len(ids)} ids and {len(labels)} labels; one each, please."
        )
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice):
        first = order[twice[0]]
        second = order[twice[0] + 1]
        raise ValueError(f"The id {ids[first]} is given twice, in rows {first} and {second}.")
    labels = [
        None if gone else label
        for label, gone in zip(labels, pd.isna(np.array(labels, object)), strict=True)
    ]
    wrong = next(
        (row for row, label in enumerate(labels) if not isinstance(label, str | None)), None
    )
    if wrong is not None:
        raise ValueError(
            f"The label in row {wrong} is {labels[wrong]!r}; labels are text, or missing."
        )
    lengths = [
        vector_lengths(as_float32(vectors[at : at + ROWS]), "new", at)
        for at in range(0, len(vectors), ROWS)
    ]
    return ids, vectors, labels, np.concatenate([np.empty(0), *lengths])


def checked_ids(ids) -> np.ndarray:
    """Ids as int64 [n]."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise ValueError(f"ids must be whole numbers [n], not {ids.dtype} {list(ids.shape)}.")
    given, ids = ids, ids.astype(np.int64)
    if (ids < 0).any():
        row = int(np.argmax(ids < 0))
        raise ValueError(f"The id in row {row} is {given[row]}; ids are 0 to 2^63 - 1.")
    return ids


def checked_queries(queries, k: int, label, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries float32 [q, dim] and their lengths."""
    queries = np.atleast_2d(np.asarray(queries))
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"Queries must be [q, {dim}], not {list(queries.shape)}.")
    checked_k(k, len(queries))
    if not isinstance(label, str | None):
        raise ValueError(f"label must be text, not {label!r}.")
    queries = as_float32(queries)
    return queries, vector_lengths(queries, "query", 0)


def checked_space(dim: int, metric: str) -> None:
    """Refuse a dimension or metric that is none."""
    if dim < 1 or metric not in METRICS:
        raise ValueError(
            f"dim must be >= 1 and metric one of {', '.join(METRICS)}; not {dim} and {metric!r}."
        )


class InMemory:
    """Ids and labels of an index in memory: a row each; a row that was removed keeps its place with
    the id -1.
    """

    def __init__(self, dim: int, *, metric: str = "cosine"):
        checked_space(dim, metric)
        self.dim = dim
        self.metric = metric
        self.names = {}
        self.removed = 0
        self.ids = np.empty(0, np.int64)
        self.codes = np.empty(0, np.int32)  # they number the names of labels; -1: none

    def __len__(self) -> int:
        return len(self.ids) - self.removed

    @property
    def rebuild_due(self) -> str:
        most = f"{self.removed} of {len(self.ids)} vectors are removed, but take room and time"
        return most if self.removed > len(self) else ""

    def remove(self, ids: Sequence[int]) -> int:
        gone = np.isin(self.ids, checked_ids(ids))
        self.ids[gone] = -1
        self.removed += int(gone.sum())
        return int(gone.sum())

    def close(self) -> None:
        """Nothing is held open."""

    def _header(self) -> dict:
        """What else the manifest says."""
        return {}

    def _append(self, ids, labels) -> None:
        self.remove(ids)
        codes = [
            -1 if label is None else self.names.setdefault(label, len(self.names))
            for label in labels
        ]
        self.ids = np.concatenate([self.ids, ids])
        self.codes = np.concatenate([self.codes, np.array(codes, np.int32)])

    def _chosen(self, label: str | None) -> np.ndarray | None:
        """Which rows [n] may be found; None: all, as most searches may, which then need not look at
        each.
        """
        if label is None:
            return self.ids >= 0 if self.removed else None
        return (self.ids >= 0) & (self.codes == self.names.get(label, -2))

    def _named(self, rows: np.ndarray) -> np.ndarray:
        """The ids of rows, -1 of none."""
        return np.where(rows < 0, -1, self.ids[rows]) if len(self.ids) else rows

    def _write(self, path: str | Path, engine: str, write) -> None:
        if "://" in str(path) or str(path).endswith(".db"):
            raise ValueError(
                f"{path} is a name for a Milvus; save an index of kind {self.kind} under another."
            )
        header = {
            "format": FORMAT,
            "schema": SCHEMA,
            "kind": self.kind,
            "metric": self.metric,
            "dim": self.dim,
        }
        header |= {"labels": list(self.names), **self._header()}
        with written_aside(Path(path)) as aside, zipfile.ZipFile(aside, "w") as archive:
            archive.writestr("index.json", json.dumps(header))
            for name in ("ids", "codes"):
                with archive.open(f"{name}.npy", "w") as stream:
                    np.lib.format.write_array(stream, getattr(self, name), allow_pickle=False)
            with archive.open(engine, "w", force_zip64=True) as stream:
                write(stream)


class ExactIndex(InMemory):
    """The reference: `lookalike.similarity.top_k` over all vectors; the first are used as they lie,
    be it on disk.
    """

    kind = "exact"

    def __init__(self, dim: int, *, metric: str = "cosine"):
        super().__init__(dim, metric=metric)
        self.vectors = np.empty((0, dim), np.float32)
        self._gallery = None

    @property
    def nbytes(self) -> int:
        return self.vectors.nbytes + self.ids.nbytes + self.codes.nbytes

    def add(self, ids, vectors, labels=None) -> None:
        ids, vectors, labels, _ = checked_rows(ids, vectors, labels, self.dim)
        # What may fail for want of memory comes first.
        vectors = (
            np.concatenate([self.vectors, as_float32(vectors)]) if len(self.vectors) else vectors
        )
        self._append(ids, labels)
        self.vectors = vectors
        self._gallery = None

    def search(self, queries, k, *, label=None):
        queries, _ = checked_queries(queries, k, label, self.dim)
        chosen = self._chosen(label)
        if chosen is None:
            self._gallery = self._gallery or Gallery(self.vectors, self.metric)
            rows, scores = top_k(queries, self._gallery, k, metric=self.metric)
            return self._named(rows), scores
        chosen = np.flatnonzero(chosen)
        places, scores = top_k(
            queries, Gallery(self.vectors[chosen], self.metric), k, metric=self.metric
        )
        return self._named(np.append(chosen, -1)[places]), scores

    def save(self, path) -> None:
        self._write(
            path,
            "vectors.npy",
            lambda stream: np.lib.format.write_array(stream, as_float32(self.vectors)),
        )


def recall_at_k(
    ids: np.ndarray, scores: np.ndarray, queries: np.ndarray, vectors: np.ndarray, metric: str
) -> float:
    """Which share of the exact k nearest an engine found; what is as near as the k-th counts too,
    nothing twice.

    Parameters
    ----------
    ids : int [q, k], rows of `vectors` that the engine found; -1 where none
    scores : float [q, k], those of the exact search, best first
    queries, vectors : float [q, dim] and [n, dim]
    """
    values = np.stack(
        [exact_scores(queries, as_float32(vectors[column]), metric) for column in ids.T], axis=1
    )
    worst = scores[:, -1:]
    near = values >= worst - AGREE if metric == "cosine" else values <= worst * (1 + AGREE)
    once = np.array(
        [
            [place in np.unique(row, return_index=True)[1] for place in range(len(row))]
            for row in ids
        ]
    )
    return float((near & once & (ids >= 0)).mean())
