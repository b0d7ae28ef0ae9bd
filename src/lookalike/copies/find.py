"""The same photo twice: hashes and vectors name candidates, laying photo on photo decides."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import keras
import numpy as np
import pandas as pd

from lookalike.copies.alignment import detect_keypoints
from lookalike.copies.differences import Comparison, compare
from lookalike.copies.hashing import perceptual_hashes
from lookalike.embeddings import EmbeddingStore, check_encoder, embed_images
from lookalike.images import File, ImageError, content_hash, fitted, pixel_batches
from lookalike.machine import parallel_map, progress
from lookalike.similarity import normalise, top_k, vector_lengths

BLOCK = 2048  # rows at a time; 4 million scores
WAITING = 4_000_000  # pairs, after which all but the best of each row are dropped
N_CANDIDATES = 5  # that a photo names by its vector, and as many by its hash
MIN_BITS = 56  # of 64, that the hashes of a candidate share
MIN_SIMILARITY = 0.5  # cosine of a candidate
SAME_FILE = Comparison("copy", 0.0, 0.0)
# Which of their three hashes are compared: as they are, one mirrored, both without margins.
COMPARED = ((0, 0), (0, 1), (2, 2))


def find_near_duplicates(photos: pd.DataFrame | EmbeddingStore) -> pd.DataFrame:
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

    def __init__(self, photos: pd.DataFrame | EmbeddingStore, encoder: keras.Model | None = None):
        self.catalog, self.vectors, self.hashes = photos, None, None
        # Where there is no encoder that has a size.
        self.size = 128
        self.fit = "resize"
        if isinstance(photos, EmbeddingStore):
            self.catalog = photos.catalog
            self.vectors = photos.vectors
            self.size = photos.manifest["image_size"]
            self.fit = photos.manifest["fit"]
            self.hashes = photos.side_arrays.get("hashes")
        if encoder is not None:
            check_encoder(photos, encoder)
        self.encoder = encoder
        self.rows = pd.Index(self.catalog["image_id"])
        if self.hashes is None:
            bar = progress(self.catalog["path"], description="Comparing photos")
            batches = pixel_batches(bar, self.size, fit=self.fit)
            self.hashes = np.concatenate([perceptual_hashes([]), *map(perceptual_hashes, batches)])
        # 400 kB each.
        self.details = functools.lru_cache(4096)(self._details)

    def look_up(self, photo: File | np.ndarray) -> pd.DataFrame:
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
        return self.candidates(photo).query("verdict != ''").reset_index(drop=True)

    def candidates(self, photo: File | np.ndarray) -> pd.DataFrame:
        """Every photo that a new one is laid on, also what `look_up` leaves out as different."""
        pixels = fitted(photo, self.size, fit=self.fit)
        near = {}
        if self.encoder is not None:
            vectors = embed_images(self.encoder, [pixels])
            indices, scores = top_k(vectors, self.vectors, N_CANDIDATES)
            near["embedding"] = indices[scores >= MIN_SIMILARITY]
        alike = _bits_alike(perceptual_hashes(pixels[None]), self.hashes)[0]
        best = np.argsort(-alike, kind="stable")[:N_CANDIDATES]
        near["perceptual hash"] = best[alike[best] >= MIN_BITS]
        if not isinstance(photo, np.ndarray):
            near["content"] = np.flatnonzero(self.catalog["sha256"] == content_hash(photo))
        # Each by the surest step that names it.
        steps = {int(row): step for step, rows in near.items() for row in rows}
        details = detect_keypoints(photo)
        found = []
        for row, step in steps.items():
            told = SAME_FILE if step == "content" else compare(details, self.details(row))
            found.append((self.rows[row], step, *told))
        return _table(found, ["image_id", "step"])

    def pairs(self) -> pd.DataFrame:
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
        unlike = np.flatnonzero(first == self.rows)
        steps = {}
        if self.vectors is not None:
            vector_lengths(self.vectors, "gallery")
            unit = normalise(self.vectors[unlike])
            pairs = closest_pairs(unit, np.inner, N_CANDIDATES, MIN_SIMILARITY)
            steps |= dict.fromkeys(map(tuple, unlike[pairs]), "embedding")
        hashes = self.hashes[unlike]
        pairs = closest_pairs(hashes, _bits_alike, N_CANDIDATES, MIN_BITS)
        steps |= dict.fromkeys(map(tuple, unlike[pairs]), "perceptual hash")

        def judge(pair):
            return *self.rows[[*pair]], steps[pair], *compare(*map(self.details, pair))

        bar = progress(sorted(steps), description="Laying photo on photo", unit="pairs")
        found = [*parallel_map(judge, bar)]
        repeated = zip(first[first != self.rows], self.rows[first != self.rows], strict=True)
        found += [(*pair, "content", *SAME_FILE) for pair in repeated]
        table = _table(found, ["image_id", "other_id", "step"])
        return table.query("verdict != ''").reset_index(drop=True)

    def compare(self, image_id: str, other_id: str) -> Comparison:
        """Two photos of the index, one laid on the other."""
        return compare(*map(self.details, self.rows.get_indexer([image_id, other_id])))

    def _details(self, row):
        """What a photo is laid on others by: nothing, with a warning, if it is gone."""
        try:
            return detect_keypoints(self.catalog["path"].iloc[row])
        except ImageError as error:
            warnings.warn(f"{error}: it is compared with no other photo.")
            return detect_keypoints(np.zeros((1, 1, 3), np.uint8))


def closest_pairs(rows: np.ndarray, similarity: Callable, k: int, least: float) -> np.ndarray:
    """Pairs of rows of which one is among the k most similar to the other: int64 [m, 2], the lower
    first.

    Each block of rows is compared once with itself and with each that follows: half of all
    comparisons, and a block of them in memory.

    Parameters
    ----------
    rows : array [n, ...]
    similarity
        Takes two blocks of rows, [a, ...] and [b, ...], to [a, b].
    least
        A pair is at least so similar; above 0.
    """
    starts = range(0, len(rows), BLOCK)
    # Each with itself first: what it finds there is what others must exceed.
    blocks = [(one, one) for one in starts]
    blocks += [(one, other) for one in starts for other in starts if one < other]
    if len(starts) > 8:
        blocks = progress(blocks, description="Comparing all with all", unit="blocks")
    floors = np.full(len(rows), least, np.float32)
    found = [pd.DataFrame(columns=["one", "other", "score"], dtype=int)]
    for one, other in blocks:
        here, there = slice(one, one + BLOCK), slice(other, other + BLOCK)
        scores = similarity(rows[here], rows[there])
        if one == other:
            np.fill_diagonal(scores, 0)
            if len(scores) > k:
                floors[here] = np.maximum(least, np.partition(scores, -k)[:, -k])
            scores = np.triu(scores)
        at = np.nonzero((scores >= floors[here, None]) | (scores >= floors[there]))
        new = {"one": one + at[0], "other": other + at[1], "score": scores[at]}
        found.append(pd.DataFrame(new))
        if sum(map(len, found[1:])) > WAITING:
            found = [_best(found, k, floors)]
    return _best(found, k, floors)[["one", "other"]].to_numpy()


def _best(found, k, floors):
    """Of pairs those that are among the k best of one of their rows; raises the `floors` that
    others must reach.
    """
    pairs = pd.concat(found, ignore_index=True)
    turned = pairs.rename(columns={"one": "other", "other": "one"})
    both = pd.concat([pairs, turned]).sort_values("score", ascending=False, kind="stable")
    by_row = both.groupby("one")
    last = by_row.nth(k - 1)
    # A little more, as equals come too late.
    floors[last["one"]] = last["score"] + 1e-6
    return pairs.loc[by_row.head(k).index.unique()]


def _bits_alike(rows, others):
    """How many of 64 bits two photos' hashes [n, 3] share, at best: uint8 [rows, others]."""
    pairs = [rows[:, own, None] ^ others[:, other] for own, other in COMPARED]
    return 64 - np.min(np.bitwise_count(pairs), axis=0)


def _table(found, columns):
    table = pd.DataFrame(found, columns=[*columns, *Comparison._fields])
    return table.sort_values("difference", kind="stable", ignore_index=True)
