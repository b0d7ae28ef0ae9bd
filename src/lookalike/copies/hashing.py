"""Perceptual hashes: 64 bits that stay nearly the same when a photo is resized or saved anew."""

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


def perceptual_hash(pixels):
    """64 bits that say which of the 64 lowest frequencies of a photo are stronger than their
    median.

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010.

    Parameters
    ----------
    pixels : uint8 [height, width, 3]
    """
    image = as_image(pixels).convert("L")
    grey = image.resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, float))[:8, :8]
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits, "big")


def perceptual_hashes(photos):
    """Three hashes of each photo: as it is, mirrored, and without margins.

    Parameters
    ----------
    photos : uint8 [n, height, width, 3]

    Returns
    -------
    uint64 [n, 3]
    """
    hashes = []
    for pixels in photos:
        mirrored = pixels[:, ::-1]
        inner = without_margins(pixels)
        for version in (pixels, mirrored, inner):
            hashes.append(perceptual_hash(np.ascontiguousarray(version)))
    return np.array(hashes, np.uint64).reshape(-1, 3)


# What `embed_catalog` keeps beside the vectors, so that no photo is read again to be compared.
SIDE_ARRAYS = {"hashes": perceptual_hashes}


def without_margins(pixels):
    """What is left of a photo [height, width, 3] without margins of one colour, and those inside
    them; a photo of one colour is left whole.
    """
    image = as_image(pixels)
    image.thumbnail((MEASURED, MEASURED), Image.Resampling.BOX)
    small = np.asarray(image, np.float32)
    top = left = 0
    bottom, right, _ = small.shape
    while True:
        # All sides of the same part, or bars above and below would lay bare the ground between.
        part = small[top:bottom, left:right]
        above, after, below, before = (_margin(np.rot90(part, turn)) for turn in range(4))
        high = above + below
        wide = before + after
        if high + wide == 0 or high >= len(part) or wide >= part.shape[1]:
            break
        top += above
        left += before
        bottom -= below
        right -= after
    down, across = np.divide(pixels.shape[:2], small.shape[:2])
    rows = slice(round(top * down), round(bottom * down))
    columns = slice(round(left * across), round(right * across))
    return pixels[rows, columns]


def _margin(lines):
    """How many lines [n, length, 3], from the first, have its colour; few of them may be of
    others.
    """
    colour = np.median(lines[0], axis=0)
    distance = np.abs(lines - colour).max(axis=2)
    near = (distance < MARGIN).mean(axis=1) >= SHARE
    count = np.arange(1, len(lines) + 1)
    share = near.cumsum() / count
    return max(count[near & (share >= LINES)], default=0)
