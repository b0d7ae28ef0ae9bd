"""What happens to photos on their way: other light, blur, compression, a turn, a cut, another
background.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage
from sklearn.cluster import KMeans

LARGEST = 512  # pixels of the longer side, above which a photo is made smaller before it is edited


def _enhanced(kind):
    return lambda image, factor, _: kind(image).enhance(factor)


def _blur(image, strength, _):
    return image.filter(ImageFilter.GaussianBlur(strength / 100 * min(image.size)))


def _noise(image, strength, random):
    pixels = np.asarray(image, np.float32)
    return _image(pixels + strength * random.standard_normal(pixels.shape, np.float32))


def _compress(image, quality, _):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(quality))
    return Image.open(stream).convert("RGB")


def _turn(image, degrees, random):
    colour = tuple(int(channel) for channel in np.median(_border(np.asarray(image)), axis=0))
    return image.rotate(
        degrees * random.choice([-1, 1]), Image.Resampling.BILINEAR, fillcolor=colour
    )


def _window(image, share, random):
    """A box at any place, each side so large a share of the photo's."""
    width, height = (round(side * share) or 1 for side in image.size)
    left = int(random.integers(image.width - width + 1))
    top = int(random.integers(image.height - height + 1))
    return left, top, left + width, top + height


def _crop(image, percent, random):
    return image.crop(_window(image, 1 - percent / 100, random))


def _cover(image, percent, random):
    covered = image.copy()
    covered.paste((128, 128, 128), _window(image, (percent / 100) ** 0.5, random))
    return covered


def _other_background(image, percent, random):
    pixels = np.asarray(image)
    weight = percent / 100 * background(pixels)[..., None]
    return _image(pixels * (1 - weight) + random.integers(256, size=3) * weight)


@dataclass(frozen=True)
class Edit:
    """One way to change a photo: `change(image, strength, random)`, strengths that show it, and the
    one of no change.

    `unit` says what the strengths are, for the axis of a figure.
    """

    change: Callable[[Image.Image, float, np.random.Generator], Image.Image]
    strengths: tuple[float, ...]
    unchanged: float
    unit: str


EDITS = {
    "brightness": Edit(
        _enhanced(ImageEnhance.Brightness), (0.25, 0.5, 0.75, 1.25, 1.5, 2.0), 1, "times as bright"
    ),
    "contrast": Edit(
        _enhanced(ImageEnhance.Contrast), (0.25, 0.5, 0.75, 1.5, 2.0), 1, "times the contrast"
    ),
    "blur": Edit(_blur, (0.25, 0.5, 1, 2, 4), 0, "radius, % of the shorter side"),
    "noise": Edit(_noise, (5, 10, 20, 40, 80), 0, "standard deviation, of 255 levels"),
    "JPEG": Edit(_compress, (5, 10, 20, 40, 80), 100, "quality"),
    "rotation": Edit(_turn, (5, 10, 20, 45, 90), 0, "degrees, left or right"),
    "crop": Edit(_crop, (5, 10, 20, 30, 50), 0, "% of each side cut off"),
    "occlusion": Edit(_cover, (2, 5, 10, 20, 40), 0, "% of the area covered in grey"),
    "background": Edit(_other_background, (25, 50, 75, 100), 0, "% replaced by a random colour"),
}


def edit_photo(
    pixels: np.ndarray, edit: str, strength: float, *, seed: int | Sequence[int] = 0
) -> np.ndarray:
    """A photo, changed as one row of `EDITS` says.

    Parameters
    ----------
    pixels : uint8 [height, width, 3]
        Made smaller first if a side is longer than 512.
    seed
        Decides what is left to chance: side, place, colour, noise. Several numbers count as one.

    Returns
    -------
    uint8 [height, width, 3], or smaller for "crop".

    Raises
    ------
    ValueError
        If there is no such edit.
    """
    if edit not in EDITS:
        raise ValueError(f"Unknown edit {edit!r}; choose one of {', '.join(EDITS)}.")
    pixels = shrunk(pixels)
    if strength == EDITS[edit].unchanged:
        return pixels
    image = Image.fromarray(pixels)
    return np.asarray(EDITS[edit].change(image, strength, np.random.default_rng(seed)))


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """A photo whose longer side has 512 pixels at most; one that has is returned as it is."""
    if max(pixels.shape[:2]) <= LARGEST:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
    return np.asarray(image)


def background(pixels: np.ndarray, *, n_colours: int = 4, distance: float = 24.0) -> np.ndarray:
    """A guess at what is background: what hangs together with the edge and has one of its colours.

    Good for products on a plain ground, poor where ground and product have the same colours.

    Parameters
    ----------
    pixels : uint8 [height, width, 3]
    n_colours
        How many colours the ground has, at most.
    distance
        How far from them a pixel may be, as a Euclidean distance of RGB values.

    Returns
    -------
    float32 [height, width] in [0, 1], with soft edges.
    """
    edge = _border(pixels).astype(np.float32)
    n_colours = min(n_colours, len(np.unique(edge, axis=0)))
    centres = KMeans(n_colours, n_init=1, random_state=0).fit(edge).cluster_centers_
    near = np.linalg.norm(pixels[:, :, None] - centres, axis=3).min(axis=2) < distance
    regions, _ = ndimage.label(near)
    touching = np.setdiff1d(_border(regions), 0)
    return ndimage.gaussian_filter(np.isin(regions, touching).astype(np.float32), 1)


def _border(pixels):
    """The outermost pixels, in a row."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _image(pixels):
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
