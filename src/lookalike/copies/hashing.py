"""What photos are compared by before anything is laid on anything: content hash, perceptual hashes,
a thumbnail.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from scipy.fft import dctn

from lookalike.images import File, as_image, decode, read_bytes

# pixels; a thumbnail small enough that compression does not show, and large enough that things do
SIDE = 16
# How far a colour may be from the margin's, of 255; how much of a line must be near it.
MARGIN = 24
SHARE = 0.95
LINES = (
    0.75  # how many of a margin's lines must be so; others have the time of day, or a bar to swipe
)
MEASURED = 128  # pixels of the longer side, at which margins are looked for
VARIANTS = 4  # of a photo: as it is, mirrored, without margins, both


@dataclass(frozen=True, eq=False)
class PhotoHashes:
    """SHA-256 of the file ("" if it is none), perceptual `hashes` uint64 [4] of its variants,
    `thumbnail` [256, 3].
    """

    content: str
    hashes: np.ndarray
    thumbnail: np.ndarray


def hash_photo(photo: File | np.ndarray) -> PhotoHashes:
    """The look of a photo, given as a path, as the bytes of a file, or as uint8 pixels [height,
    width, 3].
    """
    data = b"" if isinstance(photo, np.ndarray) else read_bytes(photo)
    image = as_image(photo) if isinstance(photo, np.ndarray) else decode(data, photo, 64)[0]
    inner = image.crop(inner_box(image))
    hashes = [
        perceptual_hash(version)
        for side in (image, inner)
        for version in (side, ImageOps.mirror(side))
    ]
    thumbnail = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1, 3)
    return PhotoHashes(
        hashlib.sha256(data).hexdigest() if data else "", np.array(hashes, np.uint64), thumbnail
    )


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that say where a grey 32 x 32 version has more than its median of each of the 64
    lowest frequencies.
    """
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    low = dctn(grey)[:8, :8]
    return int(np.packbits(low > np.median(low)).view(">u8")[0])


def inner_box(image: Image.Image, *, deep: bool = False) -> tuple[int, int, int, int]:
    """What is left of a photo without margins of one colour: left, top, right, bottom, as Pillow
    crops.

    Only the outermost margin goes, as a frame or the bars of a screenshot; or, `deep`, the ground
    inside it too, and so on. A photo of one colour is left whole.
    """
    scale = min(1, MEASURED / max(image.size))
    small = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32)
    left, top, right, bottom = 0, 0, *small.size
    while True:
        # All four sides of the same part: bars above and below are not to lay the ground at its
        # sides bare.
        part = pixels[top:bottom, left:right]
        turned = part.swapaxes(0, 1)
        inner = (
            left + _margin(turned),
            top + _margin(part),
            right - _margin(turned[::-1]),
            bottom - _margin(part[::-1]),
        )
        all_margin = inner[0] >= inner[2] or inner[1] >= inner[3]
        done = all_margin or not deep or inner == (left, top, right, bottom)
        if not all_margin:
            left, top, right, bottom = inner
        if done:
            ends = np.array([left, top, right, bottom]) * (image.size * 2) / (small.size * 2)
            return tuple(int(end) for end in ends.round())


def _margin(part: np.ndarray) -> int:
    """How many lines [n, length, 3], from the first, have the colour of the first; few of them may
    be of others.
    """
    if part.shape[1] < 2:  # one pixel has one colour, and says nothing about a margin
        return 0
    near = (np.abs(part - np.median(part[0], axis=0)).max(axis=2) < MARGIN).mean(axis=1) >= SHARE
    share = near.cumsum() / np.arange(1, len(near) + 1)
    return max(np.flatnonzero(near & (share >= LINES)) + 1, default=0)


def thumbnail_correlation(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pearson's, in [-1, 1], of thumbnails [n, pixels, 3] pair by pair; 0 where one of them has a
    single colour.
    """
    blank = (np.ptp(some, axis=1).max(axis=1) == 0) | (np.ptp(others, axis=1).max(axis=1) == 0)
    some, others = (side.reshape(-1, 3 * SIDE**2).astype(np.float64) for side in (some, others))
    some, others = (side - side.mean(axis=1, keepdims=True) for side in (some, others))
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return np.where(
        blank, 0, np.minimum(1, np.einsum("nd,nd->n", some, others) / np.where(blank, 1, lengths))
    )
