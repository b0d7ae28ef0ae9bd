"""What colours a photo has, and how they are joined to what a network sees in it."""

import numpy as np
from PIL import Image, ImageCms

SIDE = 64  # pixels of the photo that are counted, in height and width
# Of lightness, from green to red, and from blue to yellow: bins, and the ends of the outer ones.
BINS = (3, 6, 6)
N_COLOURS = 108
ENDS = ((0, 100), (-64, 64), (-64, 64))
# Each pixel counts by a Gaussian about the centre, where the product is.
_PLACES = np.arange(SIDE) - (SIDE - 1) / 2
_BELL = np.exp(-(_PLACES**2) / (2 * 20**2))
_BELL /= _BELL.sum()
CENTRED = np.outer(_BELL, _BELL)
TO_LAB = ImageCms.buildTransform(
    ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
)


def lab_pixels(pixels):
    """RGB in 0-255 [height, width, 3] in CIELAB [64, 64, 3]: lightness in 0-100, then a and b."""
    small = Image.fromarray(pixels).resize((SIDE, SIDE))
    lab = np.array(ImageCms.applyTransform(small, TO_LAB))
    lightness = lab[..., :1] * (100 / 255)
    return np.concatenate([lightness, lab[..., 1:].view(np.int8)], axis=2)


def colour_histogram(pixels):
    """The shares of colours in a photo, as a vector of length 1; the product of two is their
    Bhattacharyya coefficient, 1 for equal shares.

    Source: Swain and Ballard, "Color Indexing", IJCV 1991; the square root, which makes it the
    coefficient, lets a small patch of colour count beside a large ground.

    Parameters
    ----------
    pixels : uint8 [height, width, 3]

    Returns
    -------
    float32 [108]
    """
    lab = lab_pixels(pixels).reshape(-1, 3)
    low, high = np.transpose(ENDS)
    lab = np.clip(lab, low, high)
    counts, _ = np.histogramdd(lab, BINS, ENDS, weights=CENTRED.ravel())
    return np.sqrt(counts.ravel(), dtype=np.float32)


def colour_histograms(photos):
    """`colour_histogram` of photos [n, height, width, 3]: float32 [n, 108]."""
    return np.stack([colour_histogram(pixels) for pixels in photos])


def mean_colour(pixels):
    """The mean CIELAB colour [3] of a photo, weighted about its centre as in the histogram.

    The distance of two of them is how far apart the colours look; about 2 is the least that an eye
    notices.
    """
    weighted = lab_pixels(pixels) * CENTRED[..., None]
    return weighted.sum(axis=(0, 1))


def join(seen, colours, colour=None):
    """What a network sees and colours, unit vectors both, side by side: [n, dim] and [n, 108] to
    [n, dim + 108].

    A gallery is joined as it is, a query with the weight `colour` in 0-1. The product of the two is
    (1 - colour) times the cosine plus `colour` times the colours' likeness: one gallery serves
    every weight.
    """
    if colour is not None:
        seen = (1 - colour) * seen
        colours = colour * colours
    return np.hstack([seen, colours])
