"""What all indexes of a store have in common: what lies in them, and what `recommend` asks."""

import numpy as np
import pandas as pd

from lookalike.colour import join
from lookalike.machine import progress
from lookalike.similarity import exact_scores, normalise, vector_lengths

# Of a graph.
LINKS = 32  # of a vector in the graph
EF_BUILD = 100  # candidates for them

# Of the colours in an index, the query making up for it: a graph of equal shares finds the way
# badly where the query asks little of them.
INDEXED = 1 / 3


def indexed(store, rows=slice(None)):
    """What an index holds of rows of a store: vectors at length 1 and colours side by side."""
    vectors = normalise(store.vectors[rows])
    if "colours" not in store.side_arrays:
        return vectors
    return join(vectors, store.side_arrays["colours"][rows], INDEXED)


class StoreIndex:
    """The base of all indexes, which says how `recommend(index=)` asks them."""

    def recommended(self, store, seen, hue, colour, k, label):
        """The k best for a wish, and their scores, computed again from the store: a Series by row.

        seen : array [dim], what the network sees; hue : array [108], or None if `colour` is 0
        """
        query = normalise([seen])
        if "colours" in store.side_arrays:
            hue = normalise([hue]) if colour else store.side_arrays["colours"][:1]
            query = join(query / (1 - INDEXED), hue / INDEXED, colour)
        rows, scores = self.search(query, k, label=label)
        scores = scores[rows >= 0]
        rows = rows[rows >= 0]
        same = rows.max(initial=0) < len(store.vectors)
        ours = exact_scores(query, indexed(store, rows), "product") if same else 0
        if not same or not np.allclose(ours, scores, atol=0.02):
            raise ValueError(
                f"The index is of other vectors than {store.folder}: make it anew."
            )
        scores = pd.Series(np.float32(ours), rows).sort_index()
        return scores.sort_values(ascending=False, kind="stable")


def checked_rows(ids, vectors, labels, dim):
    """Ids int64 [n], vectors float32 [n, dim] and labels [n], or a `ValueError` that says what is
    wrong.
    """
    vectors = checked_vectors(vectors, dim, "new")
    ids = np.asarray(ids)
    labels = pd.Series([None] * len(vectors) if labels is None else labels, dtype=object)
    if not len(ids) == len(labels) == len(vectors):
        raise ValueError(
            f"There are {len(vectors)} vectors, {len(ids)} ids and {len(labels)} labels; one each, "
            "please."
        )
    if len(ids) and (
        ids.dtype.kind not in "iu" or ids.min() < 0 or len(np.unique(ids)) < len(ids)
    ):
        raise ValueError("ids must be whole numbers from 0 on, each given once.")
    return ids.astype(np.int64), vectors, labels.where(labels.notna(), None).to_numpy()


def checked_vectors(vectors, dim, name):
    """Vectors float32 [n, dim], all finite; a `ValueError` names the row that is not."""
    vectors = np.atleast_2d(np.ascontiguousarray(vectors, np.float32))
    if vectors.shape[1:] != (dim,):
        raise ValueError(f"The {name} vectors must be [n, {dim}], not {[*vectors.shape]}.")
    vector_lengths(vectors, name)
    return vectors


def slices(count, size, description):
    """So many rows, some at a time, with a bar where there are many."""
    starts = range(0, count, size)
    if len(starts) > 4:
        starts = progress(starts, description=description, unit="blocks")
    return (slice(start, start + size) for start in starts)
