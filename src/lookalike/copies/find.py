"""The same photo twice: hashes and vectors name candidates, laying photo on photo decides."""

import functools
import warnings

import numpy as np
import pandas as pd

from lookalike.copies.alignment import detect_keypoints
from lookalike.copies.differences import Comparison, compare
from lookalike.copies.hashing import perceptual_hashes
from lookalike.embeddings import EmbeddingStore, check_encoder, embed_images
from lookalike.images import ImageError, content_hash, fitted, pixel_batches
from lookalike.machine import parallel_map, progress
from lookalike.similarity import normalise, top_k

BLOCK = 2048  # squared, the scores in memory: 4 million
N_CANDIDATES = 5  # that a photo names by its vector, and as many by its hash
MIN_BITS = 56  # of 64, that the hashes of a candidate share
MIN_SIMILARITY = 0.5  # cosine of a candidate
SAME_FILE = Comparison("copy", 0.0, 0.0)
# Which of their three hashes are compared: as they are, one mirrored, both without margins.
COMPARED = ((0, 0), (0, 1), (2, 2))


def find_near_duplicates(photos):
    """Photos that are copies or variants of each other, as `CopyIndex(photos).pairs()` tells."""
    return CopyIndex(photos).pairs()


class CopyIndex:
    """Photos to find copies among.

    Candidates have the same bytes, or hashes that differ in few bits, or, in a store, similar
    vectors. Then one photo is laid on the other, and what differs decides: see `compare`.

    Parameters
    ----------
    photos
        A catalogue, in which hashes alone name candidates: what was resized, saved anew, mirrored
        or framed. Or an embedding store, for what was cut or turned too; best of a network as it
        came, as one that was trained to tell kinds apart has learnt not to see such things. If it
        was made with `side_arrays=SIDE_ARRAYS`, no photo is read to open the index.
    encoder
        The one that made the store, to look up photos that are not in it.

    Raises
    ------
    ImageError
        If there is no such side array, and a file cannot be read (any more).
    ValueError
        If the encoder is not the store's.
    """

    def __init__(self, photos, encoder=None):
        self.catalog = photos
        self.encoder = encoder
        self.vectors = None
        self.hashes = None
        # Where there is no encoder that has a size.
        self.size = 128
        self.fit = "resize"
        if isinstance(photos, EmbeddingStore):
            self.catalog = photos.catalog
            self.vectors = photos.vectors
            self.hashes = photos.side_arrays.get("hashes")
            self.size = photos.manifest["image_size"]
            self.fit = photos.manifest["fit"]
        if encoder is not None:
            check_encoder(photos, encoder)
        self.rows = pd.Index(self.catalog["image_id"])
        if self.hashes is None:
            bar = progress(self.catalog["path"], description="Comparing photos")
            batches = pixel_batches(bar, self.size, fit=self.fit)
            self.hashes = np.concatenate([*map(perceptual_hashes, batches)])
        # 400 kB each.
        self.details = functools.lru_cache(4096)(self._details)

    def look_up(self, photo):
        """What a new photo, as at an upload, is a copy or a variant of.

        Parameters
        ----------
        photo
            A path, the bytes of a file, or uint8 pixels [height, width, 3].

        Returns
        -------
        DataFrame, a row a photo, best first: `image_id`, the `step` that named it, and what a
        `Comparison` tells; `ImageError` if the file cannot be read as an image.
        """
        return _alike(self.candidates(photo))

    def candidates(self, photo):
        """Every photo that a new one is laid on, also what `look_up` leaves out as different."""
        pixels = fitted(photo, self.size, fit=self.fit)
        # Each by the surest step that names it, which comes last.
        steps = {}
        if self.encoder is not None:
            vectors = embed_images(self.encoder, [pixels])
            indices, scores = top_k(vectors, self.vectors, N_CANDIDATES)
            near = indices[scores >= MIN_SIMILARITY]
            steps |= dict.fromkeys(near, "embedding")
        (alike,) = _bits_alike(perceptual_hashes([pixels]), self.hashes)
        best = np.argsort(-alike, kind="stable")[:N_CANDIDATES]
        near = best[alike[best] >= MIN_BITS]
        steps |= dict.fromkeys(near, "perceptual hash")
        if not isinstance(photo, np.ndarray):
            same = self.catalog["sha256"] == content_hash(photo)
            steps |= dict.fromkeys(np.flatnonzero(same), "content")
        details = detect_keypoints(photo)
        found = []
        for row, step in steps.items():
            told = SAME_FILE
            if step != "content":
                told = compare(details, self.details(row))
            found.append((self.rows[row], step, *told))
        return _table(found, ["image_id", "step"])

    def pairs(self):
        """All pairs of copies and variants among the photos.

        Returns
        -------
        DataFrame, a row a pair, best first: `image_id` and `other_id` in the order of the
        catalogue, the `step` that named them ("content", "perceptual hash" or "embedding"), and
        what a `Comparison` tells. Of several identical files each is paired with the first alone. A
        photo that is gone is left out with a warning.

        Raises
        ------
        ValueError
            If a vector holds NaN or infinity; it is named by its row.
        """
        first = self.catalog.groupby("sha256")["image_id"].transform("first")
        repeated = first != self.rows
        unlike = np.flatnonzero(~repeated)
        steps = {}
        if self.vectors is not None:
            unit = normalise(self.vectors)[unlike]
            near = closest_pairs(unit, np.inner, N_CANDIDATES, MIN_SIMILARITY)
            steps |= dict.fromkeys(map(tuple, unlike[near]), "embedding")
        hashes = self.hashes[unlike]
        near = closest_pairs(hashes, _bits_alike, N_CANDIDATES, MIN_BITS)
        steps |= dict.fromkeys(map(tuple, unlike[near]), "perceptual hash")

        def judge(pair):
            names = self.rows[list(pair)]
            told = self.compare(*names)
            return *names, steps[pair], *told

        bar = progress(sorted(steps), description="Laying photo on photo", unit="pairs")
        found = list(parallel_map(judge, bar))
        for pair in zip(first[repeated], self.rows[repeated], strict=True):
            found.append((*pair, "content", *SAME_FILE))
        return _alike(_table(found, ["image_id", "other_id", "step"]))

    def compare(self, image_id, other_id):
        """Two photos of the index, one laid on the other."""
        one = self.rows.get_loc(image_id)
        other = self.rows.get_loc(other_id)
        return compare(self.details(one), self.details(other))

    def _details(self, row):
        """What a photo is laid on others by: nothing, with a warning, if it is gone."""
        try:
            return detect_keypoints(self.catalog["path"].iloc[row])
        except ImageError as error:
            warnings.warn(f"{error}: it is compared with no other photo.")
            return detect_keypoints(np.zeros((1, 1, 3), np.uint8))


def closest_pairs(rows, similarity, k, least):
    """Pairs of rows of which one is among the k most similar to the other: int64 [m, 2], the lower
    first; of equals, any.

    Parameters
    ----------
    rows : array [n, ...]
    similarity
        Takes two blocks of rows, [a, ...] and [b, ...], to [a, b].
    least
        A pair is at least so similar; above 0.
    """
    step = BLOCK**2 // len(rows) + 1
    starts = range(0, len(rows), step)
    if len(starts) > 8:
        starts = progress(starts, description="Comparing all with all", unit="blocks")
    found = []
    for start in starts:
        scores = similarity(rows[start : start + step], rows)
        # Of each with itself.
        np.fill_diagonal(scores[:, start:], 0)
        near = scores >= least
        crowded = np.flatnonzero(near.sum(axis=1) > k)
        if len(crowded):
            best = np.argpartition(scores[crowded], -k)[:, -k:]
            near[crowded] = False
            near[crowded[:, None], best] = True
        one, other = np.nonzero(near)
        found.append(np.column_stack([start + one, other]))
    pairs = np.sort(np.concatenate(found))
    return np.unique(pairs, axis=0)


def _bits_alike(rows, others):
    """How many of 64 bits two photos' hashes [n, 3] share, at best: uint8 [rows, others]."""
    pairs = [rows[:, own, None] ^ others[:, other] for own, other in COMPARED]
    return 64 - np.min(np.bitwise_count(pairs), axis=0)


def _table(found, columns):
    table = pd.DataFrame(found, columns=[*columns, *Comparison._fields])
    return table.sort_values("difference", kind="stable", ignore_index=True)


def _alike(table):
    return table[table["verdict"] != ""].reset_index(drop=True)
