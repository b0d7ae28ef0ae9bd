"""Vectors to search in, checked and measured once."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np

METRICS = ("cosine", "euclidean")
SMALLEST = np.finfo(np.float32).tiny
MAPPED = 1 << 26  # bytes of a mapped file that one search keeps in memory


def as_float32(rows: np.ndarray) -> np.ndarray:
    """Rows as float32 in C order, copied only if they are not; what is no real number is refused."""
    # Of complex numbers a half would be lost.
    if (kind := np.asarray(rows).dtype).kind not in "fiubO":
        raise ValueError(f"Vectors must be real numbers, not {kind}.")
    with np.errstate(over="ignore"):  # what becomes infinite is refused by its row
        return np.ascontiguousarray(rows, np.float32)


def vector_lengths(rows: np.ndarray, name: str, offset: int) -> np.ndarray:
    """Euclidean lengths in float64; a row that is not finite is refused."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    bad = np.flatnonzero(~np.isfinite(lengths))
    if len(bad):
        raise ValueError(
            f"The {name} vector in row {offset + bad[0]} holds NaN or infinity; compute it again."
        )
    return lengths


class Gallery:
    """Vectors to search in, checked and measured once, so that every search reads them once and
    copies nothing.

    Parameters
    ----------
    vectors : array [n, dim]
        Float32 in C order, in memory or memory-mapped, is used as it lies there; else it is
        converted block by block.
    metric
        "cosine": similarity in [-1, 1], 0 where a vector is zero; "euclidean": distance >= 0.

    Raises
    ------
    ValueError
        If the metric is unknown, the array not of two dimensions, or a row holds NaN or infinity
        (it is named).
    """

    def __init__(self, vectors: np.ndarray, metric: str = "cosine"):
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}.")
        self.vectors = vectors if isinstance(vectors, np.memmap) else np.asarray(vectors)
        self.metric = metric
        if self.vectors.ndim != 2:
            raise ValueError(f"A gallery must be [n, dim], not {list(self.vectors.shape)}.")
        # Nearness does not change when the origin moves; near the vectors, rounding leaves fewer of
        # them in doubt.
        start = as_float32(self.vectors[:1024])
        lengths = vector_lengths(start, "gallery", 0)
        scaled = start / np.where(lengths > 0, lengths, 1)[:, None] if metric == "cosine" else start
        self.origin = (
            scaled.mean(axis=0, dtype=np.float64) if len(start) else np.zeros(start.shape[1])
        )
        if metric == "cosine" and (self.origin**2).sum() < 0.9:
            self.origin[:] = 0  # directions well apart: not worth a further pass over the scores
        needs_offset = metric == "euclidean" or self.origin.any()
        self.lengths = np.empty(len(self.vectors))
        self.offset = np.empty(len(self.vectors)) if needs_offset else None
        for rows, block in self.blocks(1024):
            self.lengths[rows] = vector_lengths(block, "gallery", rows.start)
            if metric == "euclidean":
                self.offset[rows] = ((block - self.origin) ** 2).sum(axis=1) / -2
            elif needs_offset:
                self.offset[rows] = block @ self.origin / np.maximum(self.lengths[rows], SMALLEST)

    def blocks(self, count: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Which rows, and their vectors as float32 in C order, `count` at a time."""
        held = 0
        for start in range(0, len(self.vectors), count):
            block = self.vectors[start : start + count]
            held += block.nbytes
            yield slice(start, start + len(block)), as_float32(block)
            if held > MAPPED:
                self.release()
                held = 0

    def release(self) -> None:
        """Let go of what is mapped from a large file: it stays in the system's cache, but takes
        none of our memory.
        """
        mapped = isinstance(self.vectors, np.memmap) and self.vectors.nbytes > MAPPED
        # Not a copy, nothing to lose.
        if mapped and self.vectors.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
            self.vectors._mmap.madvise(mmap.MADV_DONTNEED)
