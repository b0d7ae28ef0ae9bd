"""One way to search, whichever engine does it; here what all share, and the exact one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from lookalike.machine import progress
from lookalike.similarity import METRICS, WORST, checked_k, exact_scores, top_k, vector_lengths
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


def is_milvus(path: str | Path) -> bool:
    """Whether it is the address of a server, or the file of a Milvus Lite, which ends in .db."""
    return "://" in str(path) or str(path).endswith(".db")


def checked_rows(ids, vectors, labels, dim):
    """Ids int64 [n], vectors float32 [n, dim], labels, and lengths float64 [n]; all engines refuse
    the same.
    """
    vectors, lengths = checked_vectors(vectors, dim, "new")
    ids = checked_ids(ids)
    labels = [None] * len(vectors) if labels is None else list(labels)
    if not len(ids) == len(labels) == len(vectors):
        raise ValueError(
            f"There are {len(vectors)} vectors, {len(ids)} ids and {len(labels)} labels; "
            "one each, please."
        )
    twice = pd.Index(ids).duplicated()
    if twice.any():
        row = twice.argmax()
        raise ValueError(f"The id {ids[row]} is given twice, once more in row {row}.")
    for row, label in enumerate(labels):
        if not isinstance(label, str):
            # Of a list it tells more than yes or no.
            if pd.isna(label) is not True:
                raise ValueError(
                    f"The label in row {row} is {label!r}; labels are text, or missing."
                )
            labels[row] = None
    return ids, vectors, labels, lengths


def checked_ids(ids):
    """Ids as int64 [n]."""
    given = np.asarray(ids)
    if given.ndim != 1 or (len(given) and given.dtype.kind not in "iu"):
        raise ValueError(f"ids must be whole numbers [n], not {given.dtype} {list(given.shape)}.")
    ids = given.astype(np.int64)
    if len(ids) and ids.min() < 0:
        row = ids.argmin()
        raise ValueError(f"The id in row {row} is {given[row]}; ids are 0 to 2^63 - 1.")
    return ids


def checked_vectors(vectors, dim, name):
    """Vectors float32 [n, dim], and their lengths."""
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"The {name} vectors must be [n, {dim}], not {list(vectors.shape)}.")
    return vectors, vector_lengths(vectors, name)


def checked_queries(queries, k, label, dim):
    """Queries float32 [q, dim], and their lengths."""
    checked_k(k)
    if not isinstance(label, str | None):
        raise ValueError(f"label must be text, not {label!r}.")
    return checked_vectors(np.atleast_2d(queries), dim, "query")


def checked_space(dim, metric):
    """Refuse a dimension or metric that is none."""
    if dim < 1 or metric not in METRICS:
        raise ValueError(
            f"dim must be >= 1 and metric one of {', '.join(METRICS)}; not {dim} and {metric!r}."
        )


def no_answers(queries, k, metric):
    """Ids and scores [q, k] of a search that has found nothing yet."""
    shape = (len(queries), k)
    return np.full(shape, -1, np.int64), np.full(shape, WORST[metric], np.float32)


def as_scores(values, metric):
    """The scores of a metric, of what engines compute: cosines, or squares of distances."""
    return np.clip(values, -1, 1) if metric == "cosine" else np.sqrt(np.maximum(values, 0))


def blocks(count, size, description):
    """So many rows, some at a time, with a bar where there are many."""
    starts = range(0, count, size)
    if starts[4:]:
        starts = progress(starts, total=len(starts), description=description, unit="blocks")
    for start in starts:
        yield slice(start, start + size)


class InMemory:
    """Ids and labels of an index in memory: a row each; a row that was removed keeps its place with
    the id -1.

    Where an engine has its vectors is its own matter: `add_to_engine`, `write_engine` and
    `read_engine`, which tells how many there are.
    """

    engine_file = "engine.faiss"

    def __init__(self, dim, *, metric="cosine"):
        checked_space(dim, metric)
        self.dim = dim
        self.metric = metric
        # The number of each label, of which None is one; a number without name is of no label.
        self.names = {}
        self.removed = 0
        self.ids = np.empty(0, np.int64)
        self.codes = np.empty(0, np.int32)
        self.trained_on = 0

    def __len__(self):
        return len(self.ids) - self.removed

    @property
    def rebuild_due(self):
        most = f"{self.removed} of {len(self.ids)} vectors are removed, but take room and time"
        return most if self.removed > len(self) else ""

    def add(self, ids, vectors, labels=None):
        ids, vectors, labels, lengths = checked_rows(ids, vectors, labels, self.dim)
        if not len(ids):
            return
        # What may fail for want of memory comes first.
        self.add_to_engine(vectors, lengths)
        self.remove(ids)
        names = self.names
        self._extend(ids, [names.setdefault(label, len(names)) for label in labels])

    def remove(self, ids):
        gone = np.isin(self.ids, checked_ids(ids))
        self.ids[gone] = -1
        count = int(gone.sum())
        self.removed += count
        return count

    def close(self):
        """Nothing is held open."""

    def save(self, path):
        if is_milvus(path):
            raise ValueError(
                f"{path} is a name for a Milvus; save an index of kind {self.kind} under another."
            )
        header = {
            "format": FORMAT,
            "schema": SCHEMA,
            "kind": self.kind,
            "metric": self.metric,
            "dim": self.dim,
            "labels": list(self.names),
            "trained_on": self.trained_on,
        }
        with written_aside(Path(path)) as aside, zipfile.ZipFile(aside, "w") as archive:
            archive.writestr("index.json", json.dumps(header))
            for name in ("ids", "codes"):
                with archive.open(f"{name}.npy", "w") as stream:
                    np.save(stream, getattr(self, name))
            with archive.open(self.engine_file, "w", force_zip64=True) as stream:
                self.write_engine(stream)

    def _extend(self, ids, codes):
        self.ids = np.concatenate([self.ids, ids])
        self.codes = np.concatenate([self.codes, np.array(codes, np.int32)])

    def _chosen(self, label):
        """Which rows [n] may be found; None: all, as most searches may, which then need not look at
        each.
        """
        if label is None:
            return self.ids >= 0 if self.removed else None
        return (self.ids >= 0) & (self.codes == self.names.get(label, -2))

    def _named(self, rows, ids):
        """The ids of rows, -1 where there is none."""
        return np.where(rows < 0, rows, ids[rows]) if len(ids) else rows


class ExactIndex(InMemory):
    """The reference: `lookalike.similarity.top_k` over all vectors; the first are used as they lie,
    be it on disk.
    """

    kind = "exact"
    engine_file = "vectors.npy"

    def __init__(self, dim, *, metric="cosine"):
        super().__init__(dim, metric=metric)
        self.vectors = np.empty((0, dim), np.float32)
        self.lengths = np.empty(0)

    @property
    def nbytes(self):
        return self.vectors.nbytes + self.ids.nbytes + self.codes.nbytes

    def add_to_engine(self, vectors, lengths):
        if len(self.vectors):
            vectors = np.concatenate([self.vectors, vectors])
        self.vectors = vectors
        self.lengths = np.concatenate([self.lengths, lengths])

    def search(self, queries, k, *, label=None):
        queries, _ = checked_queries(queries, k, label, self.dim)
        chosen = self._chosen(label)
        rows = slice(None) if chosen is None else np.flatnonzero(chosen)
        gallery, lengths = self.vectors[rows], self.lengths[rows]
        found, scores = top_k(queries, gallery, k, metric=self.metric, lengths=lengths)
        return self._named(found, self.ids[rows]), scores

    def write_engine(self, stream):
        np.save(stream, self.vectors)

    def read_engine(self, stream):
        self.vectors = np.load(stream, allow_pickle=False)
        self.lengths = vector_lengths(self.vectors, "saved")
        return len(self.vectors)


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
    asking = np.repeat(queries, ids.shape[1], axis=0)
    values = exact_scores(asking, vectors[ids.ravel()], metric).reshape(ids.shape)
    worst = scores[:, -1:]
    near = values >= worst - AGREE if metric == "cosine" else values <= worst * (1 + AGREE)
    twice = np.array([pd.Index(row).duplicated() for row in ids])
    return float((near & ~twice & (ids >= 0)).mean())
