"""The same photo twice: pairs of images that are one picture, whole or nearly."""

from __future__ import annotations

import hashlib
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from lookalike.images import decode, read_bytes
from lookalike.workspace import parallel_map, progress

SIDE = 16  # pixels; a thumbnail small enough that compression does not show, and large enough that things do
BLOCK = 2048  # rows compared at a time: 4 million pairs, 32 MB of them


def find_near_duplicates(
    catalog: pd.DataFrame, *, max_distance: int = 8, min_correlation: float = 0.985
) -> pd.DataFrame:
    """Find images that are copies of each other: identical files, and photos resized, recompressed or made brighter.

    Two steps, from cheap to sure. Perceptual hashes (Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010) that differ in few bits name the candidates; a hash has no colours, so the correlation of two
    small colour thumbnails decides. Cropped, turned or overwritten copies are not found; a thing as thin as a bicycle
    in another colour can pass for a copy.

    Parameters
    ----------
    max_distance
        Most bits, of 64, in which the hashes of two copies differ.
    min_correlation
        Least correlation of their thumbnails, over all pixels and channels, in [-1, 1].

    Returns
    -------
    DataFrame, one row a pair, best first: `image_id` and `other_id` (in the order of the catalogue), `step` ("content"
    or "perceptual hash") and `score` (the correlation; 1 for identical files). Of several identical files each is
    paired with the first alone, so that a thousand copies make a thousand pairs.
    """
    ids = catalog["image_id"].to_numpy()
    hashes, thumbnails = np.empty(len(ids), np.uint64), np.empty((len(ids), SIDE**2, 3), np.uint8)
    firsts: dict[str, int] = {}
    found = []
    bar = progress(parallel_map(_look, catalog["path"]), total=len(ids), description="Comparing photos")
    for index, (content, hashes[index], thumbnails[index]) in enumerate(bar):
        first = firsts.setdefault(content, index)
        if first != index:
            found.append(("content", -1.0, first, index))
    unlike = np.array(list(firsts.values()), int)
    starts = range(0, len(unlike), BLOCK)
    for rows, columns in [(unlike[a : a + BLOCK], unlike[b : b + BLOCK]) for a in starts for b in starts if a <= b]:
        near = np.bitwise_count(hashes[rows][:, None] ^ hashes[columns][None]) <= max_distance
        near &= rows[:, None] < columns[None]
        for at in np.array_split(np.argwhere(near), near.sum() // BLOCK + 1):
            first, other = rows[at[:, 0]], columns[at[:, 1]]
            scores = _correlation(thumbnails[first], thumbnails[other])
            kept = scores >= min_correlation
            found += zip(repeat("perceptual hash"), -scores[kept], first[kept], other[kept], strict=False)
    pairs = [(ids[first], ids[other], step, -score) for step, score, first, other in sorted(found)]
    return pd.DataFrame(pairs, columns=["image_id", "other_id", "step", "score"])


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that say where a grey 32 x 32 version has more than its median of each of the 64 lowest frequencies."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    low = dctn(grey)[:8, :8]
    return int(np.packbits(low > np.median(low)).view(">u8")[0])


def _look(path: str | Path) -> tuple[str, int, np.ndarray]:
    """What an image is compared by: content hash, perceptual hash, thumbnail."""
    data = read_bytes(path)
    image, _ = decode(data, path, 64)
    thumbnail = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    return hashlib.sha256(data).hexdigest(), perceptual_hash(image), thumbnail.reshape(-1, 3)


def _correlation(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pearson's, in [-1, 1], of thumbnails [n, pixels, 3] pair by pair; 0 where one of them has a single colour."""
    blank = (np.ptp(some, axis=1).max(axis=1) == 0) | (np.ptp(others, axis=1).max(axis=1) == 0)
    some, others = (side.reshape(-1, 3 * SIDE**2).astype(np.float64) for side in (some, others))
    some, others = (side - side.mean(axis=1, keepdims=True) for side in (some, others))
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return np.where(blank, 0, np.minimum(1, np.einsum("nd,nd->n", some, others) / np.where(blank, 1, lengths)))
