"""Which vectors of one set point nearly the same way: block by block over the upper triangle, in
bounded memory.
"""

from __future__ import annotations

import numpy as np

from lookalike.machine import progress
from lookalike.similarity import exact_scores, normalise, vector_lengths

BLOCK = 2048  # rows at a time; 4 million scores
FEW = 64  # blocks that take no time worth a progress bar
MAX_PAIRS = 10_000_000  # 200 MB of them


def pairs_above(
    vectors: np.ndarray, threshold: float, *, per_row: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows whose cosine similarity is at least `threshold`, exactly.

    Each block of rows is multiplied once with itself and those after it, so that half of the n x n
    products are made and never more than a block of them is held. What float32 cannot decide is
    scored anew in float64.

    Parameters
    ----------
    vectors : array [n, dim], may be memory-mapped
        Of any length; a zero vector has the similarity 0 to all.
    threshold
        In [-1, 1].
    per_row
        Keep a pair only if it is among so many best of one of its two rows, equal scores in the
        order of the rows: memory is bounded then, however low the threshold.

    Returns
    -------
    pairs : int64 [m, 2]
        The lower row first, in ascending order.
    scores : float32 [m], in [-1, 1]
        Computed in float64; `threshold` too counts as rounded to float32.

    Raises
    ------
    ValueError
        If an option is out of range, a row holds NaN or infinity (it is named), or there are more
        than ten million pairs and no `per_row`.
    """
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold must be between -1 and 1, not {threshold}.")
    if per_row is not None and per_row < 1:
        raise ValueError(f"per_row must be at least 1, not {per_row}.")
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be [n, dim], not {list(vectors.shape)}.")
    starts = range(0, len(vectors), BLOCK)
    for start in starts:
        # Names a row that holds NaN.
        vector_lengths(vectors[start : start + BLOCK], "gallery", start)
    found = _Best(vectors, np.float32(threshold), per_row)
    blocks = [(first, second) for first in starts for second in starts if first <= second]
    if blocks[FEW:]:
        blocks = progress(blocks, total=len(blocks), description="Comparing vectors", unit="blocks")
    for first, second in blocks:
        others = normalise(vectors[second : second + BLOCK])
        if first == second:
            rows = others
        found.look_through(rows @ others.T, first, second)
    pairs, scores = found.settle()
    order = np.lexsort(pairs.T[::-1])
    return pairs[order], scores[order]


class _Best:
    """The pairs found so far that may be wanted; for each row the score below which no further pair
    of it is.
    """

    def __init__(self, vectors: np.ndarray, threshold: np.float32, per_row: int | None):
        self.vectors = vectors
        self.threshold = threshold
        self.per_row = per_row
        n_rows, dim = vectors.shape
        # How far rounding can have moved a product.
        self.margin = (dim + 16) * np.finfo(np.float32).eps
        self.floors = np.full(n_rows, threshold - self.margin)
        self.pairs = np.empty((0, 2), np.int64)
        self.scores = np.empty(0, np.float32)
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.n_waiting = 0

    def look_through(self, product: np.ndarray, first: int, second: int) -> None:
        """Take what is needed of a block of scores [rows from `first`, rows from `second`]."""
        needed = product >= self.floors[first : first + len(product), None]
        if self.per_row is not None:
            needed |= product >= self.floors[second : second + product.shape[1]]
        at = np.flatnonzero(needed)
        if first == second:  # below the diagonal is the same again
            at = at[at // product.shape[1] < at % product.shape[1]]
        if len(at):
            pairs = np.stack(
                [first + at // product.shape[1], second + at % product.shape[1]], axis=1
            )
            self.waiting.append((pairs, product.ravel()[at]))
            self.n_waiting += len(at)
        if self.n_waiting > max(BLOCK**2, len(self.pairs)) // 4:
            self.settle()

    def settle(self) -> tuple[np.ndarray, np.ndarray]:
        """All pairs that are still wanted, and their scores."""
        pairs = np.concatenate([np.empty((0, 2), np.int64), *(pairs for pairs, _ in self.waiting)])
        scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in self.waiting)])
        self.waiting = []
        self.n_waiting = 0
        if self.per_row is not None:
            together = np.concatenate([self.pairs, pairs]), np.concatenate([self.scores, scores])
            _, full, lowest = best_of_rows(*together, self.per_row)
            floors = self.floors.copy()
            floors[full] = np.maximum(floors[full], lowest - 2 * self.margin)
            possible = scores >= floors[pairs].min(axis=1)
            pairs, scores = pairs[possible], scores[possible]
        step = max(1, (1 << 17) // max(self.vectors.shape[1], 1))
        for start in range(0, len(pairs), step):
            some = slice(start, start + step)
            left, right = (np.float32(self.vectors[side]) for side in pairs[some].T)
            scores[some] = exact_scores(left, right, "cosine")
        kept = scores >= self.threshold
        self.pairs = np.concatenate([self.pairs, pairs[kept]])
        self.scores = np.concatenate([self.scores, scores[kept]])
        if self.per_row is not None:
            kept, full, lowest = best_of_rows(self.pairs, self.scores, self.per_row)
            # The others of a row come in ascending order, so that what equals its last comes too
            # late: 1 is the end.
            self.floors[full] = np.where(lowest < 1, lowest - self.margin, np.inf)
            self.pairs, self.scores = self.pairs[kept], self.scores[kept]
        elif len(self.pairs) > MAX_PAIRS:
            raise ValueError(
                f"More than {MAX_PAIRS:,} pairs are above the threshold; raise it, or keep a few "
                "of each row (per_row)."
            )
        return self.pairs, self.scores


def best_of_rows(
    pairs: np.ndarray, scores: np.ndarray, per_row: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pairs [m, 2] are among the `per_row` best of one of their two rows, equal scores in the
    order of the rows.

    Returns
    -------
    bool [m]; and int64 [r] and float [r], the rows that have so many, with the score of the last of
    them.
    """
    row, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    scores = np.concatenate([scores, scores])
    order = np.lexsort((other, -scores, row))
    row, scores = row[order], scores[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    wanted = np.zeros(len(order), bool)
    last = place == per_row - 1
    wanted[order[place < per_row]] = True
    return wanted.reshape(2, -1).any(axis=0), row[last], scores[last]
