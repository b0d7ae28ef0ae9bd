"""The same photo twice: identical, saved anew, resized, cut, turned, mirrored, framed; not what
only looks alike.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from itertools import combinations, repeat

import keras
import numpy as np
import pandas as pd

from lookalike.copies.alignment import agreement_of, detect_keypoints
from lookalike.copies.hashing import SIDE, VARIANTS, hash_photo, thumbnail_correlation
from lookalike.copies.pairs import best_of_rows, pairs_above
from lookalike.embeddings import EmbeddingStore, check_encoder, embed_images
from lookalike.machine import parallel_map, progress
from lookalike.similarity import exact_scores, top_k, vector_lengths

BLOCK = 2048  # rows compared at a time: 4 million pairs, 32 MB of them
HELD = 4096  # photos whose details are kept, 130 kB each
MANY = (
    100  # copies of one photo that hashes have found, beyond which those after them may be missed
)
STEPS = ("content", "perceptual hash", "alignment")
# Which variants of two photos are compared: each as it is with the other's as it is, mirrored,
# without margins, both.
COMPARED = ((0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (3, 0))


def find_near_duplicates(photos: pd.DataFrame | EmbeddingStore, **options) -> pd.DataFrame:
    """Find photos that are copies of each other: `CopyIndex(photos, **options).pairs()`.

    Parameters
    ----------
    photos
        A catalogue, for the first two steps, which see copies that were resized, saved anew or made
        brighter; or an embedding store, for all three, which also see what was cropped, turned,
        mirrored, framed or turned grey.

    Returns
    -------
    DataFrame, one row a pair, best first: `image_id` and `other_id` (in the order of the
    catalogue), `step` and `score` as in `CopyIndex`. Of several identical files each is paired with
    the first alone, so that a thousand copies make a thousand pairs.

    Raises
    ------
    ImageError, ValueError
        As `CopyIndex` does.
    """
    return CopyIndex(photos, **options).pairs()


class CopyIndex:
    """Photos to find copies among, read once; three steps, from cheap to sure.

    "content": the same bytes. "perceptual hash": hashes (Zauner, "Implementation and Benchmarking
    of Perceptual Image Hash Functions", 2010) that differ in few bits name the candidates; a hash
    has no colours, so the correlation of two small colour thumbnails decides. "alignment", of a
    store: the embeddings that are most similar name the candidates, and so do hashes, here also of
    the mirrored photo and of the photo without margins. Other views of a product and products that
    look alike have similar embeddings too, so one photo is laid on the other, and their agreement
    decides (`alignment.agreement_of`).

    Parameters
    ----------
    max_distance
        Most bits, of 64, in which the hashes of two copies differ.
    min_correlation
        Least correlation of their thumbnails, over all pixels and channels, in [-1, 1].
    n_candidates
        How many others each photo names for being laid on, by its embedding, and as many by its
        hash; at least 1.
    min_similarity
        Least cosine similarity of two vectors for a candidate.
    min_agreement
        Least agreement of two photos laid on each other, in [-1, 1].

    Raises
    ------
    ImageError
        If a file cannot be read (any more).
    ValueError
        If `n_candidates` is below 1.
    """

    def __init__(
        self,
        photos: pd.DataFrame | EmbeddingStore,
        *,
        max_distance: int = 8,
        min_correlation: float = 0.985,
        n_candidates: int = 5,
        min_similarity: float = 0.5,
        min_agreement: float = 0.85,
    ):
        if n_candidates < 1:
            raise ValueError(f"n_candidates must be at least 1, not {n_candidates}.")
        self.store = photos if isinstance(photos, EmbeddingStore) else None
        self.catalog = photos if self.store is None else self.store.catalog
        self.max_distance = max_distance
        self.min_correlation = min_correlation
        self.n_candidates = n_candidates
        self.min_similarity = min_similarity
        self.min_agreement = min_agreement
        self.ids, self.paths = self.catalog["image_id"].to_numpy(), self.catalog["path"].to_numpy()
        self.hashes = np.empty((len(self.ids), VARIANTS), np.uint64)
        self.thumbnails = np.empty((len(self.ids), SIDE**2, 3), np.uint8)
        self.contents: dict[str, list[int]] = {}
        bar = progress(
            parallel_map(hash_photo, self.paths),
            total=len(self.ids),
            description="Comparing photos",
        )
        for row, look in enumerate(bar):
            self.hashes[row] = look.hashes
            self.thumbnails[row] = look.thumbnail
            self.contents.setdefault(look.content, []).append(row)
        self.details = functools.lru_cache(HELD)(lambda row: detect_keypoints(self.paths[row]))

    def look_up(
        self, photo: str | os.PathLike | np.ndarray, encoder: keras.Model | None = None
    ) -> pd.DataFrame:
        """What a new photo, as at an upload, is a copy of.

        Parameters
        ----------
        photo
            A path, or uint8 pixels [height, width, 3].
        encoder
            The one that the store was made with; without it, or of a catalogue, the third step is
            left out.

        Returns
        -------
        DataFrame, one row a photo that it is a copy of, best first: `image_id`, `step`, `score`;
        empty for a new photo. Where the catalogue holds many copies, the last step may leave some
        out.

        Raises
        ------
        ImageError
            If the file cannot be read as an image.
        ValueError
            If the encoder is not the store's.
        """
        vector = None
        if encoder is not None and self.store is not None:
            check_encoder(self.store, encoder)
            vector = embed_images(encoder, [photo], fit=self.store.manifest["fit"])[0]
        table = self.score(photo, vector)
        least = table["step"].map(
            dict(zip(STEPS, (1, self.min_correlation, self.min_agreement), strict=True))
        )
        # The first step that found it.
        table = table[table["score"] >= least].drop_duplicates("image_id")
        return table.drop(columns="similarity").reset_index(drop=True)

    def score(
        self, photo: str | os.PathLike | np.ndarray, vector: np.ndarray | None = None
    ) -> pd.DataFrame:
        """Every candidate for a photo, whether it is a copy or not: `image_id`, `step`, `score`,
        and `similarity`.

        The similarity is that of the vectors, known in the third step alone, which needs the
        `vector` [dim].
        """
        look = hash_photo(photo)
        rows = self.contents.get(look.content, [])
        found = [("content", -1.0, row, np.nan) for row in rows]
        bits = [
            np.bitwise_count(look.hashes[own] ^ self.hashes[:, other]) for own, other in COMPARED
        ]
        near = np.flatnonzero(bits[0] <= self.max_distance)
        thumbnails = np.broadcast_to(look.thumbnail, (len(near), *look.thumbnail.shape))
        correlations = thumbnail_correlation(thumbnails, self.thumbnails[near])
        found += zip(repeat("perceptual hash"), -correlations, near, repeat(np.nan), strict=False)
        if vector is not None and self.store is not None:
            distances = np.min(bits, axis=0)
            by_hash = np.argsort(distances, kind="stable")[: self.n_candidates]
            nearest, similarities = (
                array[0]
                for array in top_k(
                    vector, self.store.vectors, self.n_candidates, lengths=self.store.lengths
                )
            )
            nearest = nearest[(nearest >= 0) & (similarities >= self.min_similarity)]
            likely = np.union1d(nearest, by_hash[distances[by_hash] <= self.max_distance])
            similarities = exact_scores(vector[None], self.store.vectors[likely], "cosine")
            details = detect_keypoints(photo)
            scores = [-agreement_of(details, self.details(row)) for row in likely.tolist()]
            found += zip(repeat("alignment"), scores, likely, similarities, strict=False)
        found = [
            (self.ids[row], step, -score, similarity)
            for step, score, row, similarity in sorted(found)
        ]
        table = pd.DataFrame(found, columns=["image_id", "step", "score", "similarity"])
        table = table.astype({"score": float, "similarity": float})
        return (
            table.iloc[np.argsort(table["step"].map(STEPS.index), kind="stable")]
            if len(table)
            else table
        )

    def pairs(self) -> pd.DataFrame:
        """All pairs of copies among the photos; see `find_near_duplicates`."""
        # In the order of the catalogue.
        unlike = np.array([rows[0] for rows in self.contents.values()], int)
        found, likely = self._by_hash(unlike)
        if self.store is not None:
            found += self._by_alignment(
                unlike, likely, {(int(first), int(other)) for _, _, first, other in found}
            )
        found += [
            ("content", -1.0, rows[0], other)
            for rows in self.contents.values()
            for other in rows[1:]
        ]
        found.sort(key=lambda match: (STEPS.index(match[0]), *match[1:]))
        pairs = [
            (self.ids[first], self.ids[other], step, -score) for step, score, first, other in found
        ]
        return pd.DataFrame(pairs, columns=["image_id", "other_id", "step", "score"])

    def _by_hash(self, unlike: np.ndarray) -> tuple[list[tuple], np.ndarray]:
        """Block by block over the upper triangle: (step, -score, row, other row) of each pair, and
        candidates.
        """
        found = []
        likely = np.empty((0, 3), np.int64)
        starts = range(0, len(unlike), BLOCK)
        for rows, columns in [
            (unlike[a : a + BLOCK], unlike[b : b + BLOCK]) for a in starts for b in starts if a <= b
        ]:
            upper = rows[:, None] < columns[None]
            compared = COMPARED[: len(COMPARED) if self.store is not None else 1]
            for number, (own, other) in enumerate(compared):
                bits = np.bitwise_count(
                    self.hashes[rows, own][:, None] ^ self.hashes[columns, other][None]
                )
                at = np.argwhere((bits <= self.max_distance) & upper)
                pairs = np.column_stack(
                    [rows[at[:, 0]], columns[at[:, 1]], bits[at[:, 0], at[:, 1]]]
                ).astype(np.int64)
                if number == 0:
                    parts = [
                        self.thumbnails[part]
                        for part in np.array_split(pairs[:, :2], len(pairs) // BLOCK + 1)
                    ]
                    scores = np.concatenate(
                        [thumbnail_correlation(*part.swapaxes(0, 1)) for part in parts]
                    )
                    kept = scores >= self.min_correlation
                    found += zip(
                        repeat("perceptual hash"), -scores[kept], *pairs[kept, :2].T, strict=False
                    )
                    upper[tuple(at[kept].T)] = False  # done
                    pairs = pairs[~kept]
                likely = np.concatenate([likely, pairs])
            likely = likely[np.argsort(likely[:, 2], kind="stable")]
            # Each by the fewest bits.
            likely = likely[np.unique(likely[:, :2], axis=0, return_index=True)[1]]
            likely = likely[best_of_rows(likely[:, :2], -likely[:, 2], self.n_candidates)[0]]
        return found, likely[:, :2]

    def _by_alignment(
        self, unlike: np.ndarray, likely: np.ndarray, known: set[tuple[int, int]]
    ) -> list[tuple]:
        """Candidates that are not known yet, then copies of copies: those that agree when laid on
        each other.
        """
        counts = np.bincount(
            np.array(list(known), int).reshape(-1, 2).ravel(), minlength=len(self.ids)
        )
        per_row = self.n_candidates + min(int(counts.max(initial=0)), MANY)
        # What is not finite is named by its row in the store.
        vectors = self.store.vectors
        vector_lengths(vectors, "gallery")
        vectors = vectors if len(unlike) == len(self.ids) else vectors[unlike]
        pairs, similarities = pairs_above(vectors, self.min_similarity, per_row=per_row)
        pairs = unlike[pairs]
        new = np.array([tuple(pair) not in known for pair in pairs.tolist()], bool)
        pairs, similarities = pairs[new], similarities[new]
        pairs = pairs[best_of_rows(pairs, similarities, self.n_candidates)[0]]
        waiting = sorted({*map(tuple, pairs.tolist()), *map(tuple, likely.tolist())} - known)
        seen = set(known)
        copies = set(known)
        found = []
        while waiting:
            bar = progress(
                waiting, total=len(waiting), description="Laying photo on photo", unit="pairs"
            )
            placed = ((agreement_of(*map(self.details, pair)), pair) for pair in bar)
            fresh = [(score, pair) for score, pair in placed if score >= self.min_agreement]
            found += [("alignment", -score, *pair) for score, pair in fresh]
            seen.update(waiting)
            copies.update(pair for _, pair in fresh)
            waiting = sorted(
                _copies_of_copies(copies, {row for _, pair in fresh for row in pair}) - seen
            )
        return found


def _copies_of_copies(copies: set[tuple[int, int]], changed: set[int]) -> set[tuple[int, int]]:
    """Pairs of rows that are both copies of one row, of those rows that have `changed`."""
    beside = defaultdict(list)
    for first, other in copies:
        for row, mate in ((first, other), (other, first)):
            if row in changed:
                beside[row].append(mate)
    return {pair for mates in beside.values() for pair in combinations(sorted(mates), 2)}
