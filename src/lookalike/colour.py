"""The baseline without a network: how much of each colour a photo has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike.images import load_image
from lookalike.machine import parallel_map, progress

SIDE = 128  # pixels of the photo that are counted, in height and width


def colour_histograms(paths: Sequence[str | Path], *, bins: int = 8) -> np.ndarray:
    """The shares of colours in photos, as vectors whose cosine is the Bhattacharyya coefficient of
    two photos.

    Source: Swain and Ballard, "Color Indexing", IJCV 1991; the square root, which makes it the
    coefficient, lets a small patch of colour count beside a large ground.

    Parameters
    ----------
    bins
        Of hue, of saturation and of value each.

    Returns
    -------
    float32 [len(paths), bins ** 3], of length 1.

    Raises
    ------
    ImageError
        If a file cannot be read as an image.
    """
    bar = progress(paths, total=len(paths), description="Counting colours")
    counted = list(parallel_map(lambda path: _histogram(load_image(path, SIDE), bins), bar))
    return np.stack(counted) if counted else np.empty((0, bins**3), np.float32)


def _histogram(pixels: np.ndarray, bins: int) -> np.ndarray:
    hsv = (
        np.asarray(Image.fromarray(pixels).convert("HSV")).reshape(-1, 3).astype(int) * bins // 256
    )
    counts = np.bincount(hsv @ [bins**2, bins, 1], minlength=bins**3)
    return np.sqrt(counts / counts.sum(), dtype=np.float32)
