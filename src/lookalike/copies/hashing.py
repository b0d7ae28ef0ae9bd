"""Perceptual hashes: 64 bits that stay nearly the same when a photo is resized or saved anew."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.fft import dctn

from lookalike.images import as_image

# How far a colour may be from the margin's, of 255; how much of a line must be near it.
MARGIN = 24
SHARE = 0.95
# How many of a margin's lines must be so; others have the time of day, or a bar to swipe.
LINES = 0.75
MEASURED = 128  # pixels of the longer side, at which margins are looked for


def perceptual_hash(pixels: np.ndarray) -> int:
    """64 bits that say which of the 64 lowest frequencies of a photo are stronger than their
    median.

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010.

    Parameters
    ----------
    pixels : uint8 [height, width, 3]
    """
    grey = as_image(pixels).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, float))[:8, :8]
    return int(np.packbits(low > np.median(low)).view(">u8")[0])


def perceptual_hashes(photos: np.ndarray) -> np.ndarray:
    """Three hashes of each photo: as it is, mirrored, and without margins.

    Parameters
    ----------
    photos : uint8 [n, height, width, 3]

    Returns
    -------
    uint64 [n, 3]
    """
    versions = [(pixels, pixels[:, ::-1], without_margins(pixels)) for pixels in photos]
    hashes = [perceptual_hash(np.ascontiguousarray(one)) for some in versions for one in some]
    return np.array(hashes, np.uint64).reshape(-1, 3)


# What `embed_catalog` keeps beside the vectors, so that no photo is read again to be compared.
SIDE_ARRAYS = {"hashes": perceptual_hashes}


def without_margins(pixels: np.ndarray) -> np.ndarray:
    """What is left of a photo [height, width, 3] without margins of one colour, and those inside
    them; a photo of one colour is left whole.
    """
    image = as_image(pixels)
    image.thumbnail((MEASURED, MEASURED), Image.Resampling.BOX)
    small = np.asarray(image, np.float32)
    top, left, bottom, right = 0, 0, *small.shape[:2]
    while True:
        # All sides of the same part, or bars above and below would lay bare the ground between.
        part = small[top:bottom, left:right]
        above, after, below, before = (_margin(np.rot90(part, turn)) for turn in range(4))
        all_margin = above + below >= len(part) or before + after >= part.shape[1]
        if all_margin or not any((above, after, below, before)):
            break
        top, left, bottom, right = top + above, left + before, bottom - below, right - after
    ends = np.multiply([[top, left], [bottom, right]], np.divide(pixels.shape[:2], small.shape[:2]))
    (top, left), (bottom, right) = ends.round().astype(int)
    return pixels[top:bottom, left:right]


def _margin(lines):
    """How many lines [n, length, 3], from the first, have its colour; few of them may be of
    others.
    """
    distance = np.abs(lines - np.median(lines[0], axis=0)).max(axis=2)
    near = (distance < MARGIN).mean(axis=1) >= SHARE
    share = near.cumsum() / np.arange(1, len(near) + 1)
    return max(np.flatnonzero(near & (share >= LINES)) + 1, default=0)
