"""What happens to photos on their way: other light, blur, compression, a turn, a cut, another
background.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage
from sklearn.cluster import KMeans

LARGEST = (
    512  # pixels of the longer side, above which a photo is made smaller before it is edited
)
GROUND_COLOURS = 4  # of a background, at most
NEAR = 24  # distance from one of them, of RGB values, of what belongs to it


def _brighten(image, factor, _):
    return ImageEnhance.Brightness(image).enhance(factor)


def _stretch(image, factor, _):
    return ImageEnhance.Contrast(image).enhance(factor)


def _blur(image, percent, _):
    radius = percent / 100 * min(image.size)
    return image.filter(ImageFilter.GaussianBlur(radius))


def _noise(image, strength, random):
    pixels = np.asarray(image, np.float32)
    noise = random.standard_normal(pixels.shape, np.float32)
    return _image(pixels + strength * noise)


def _compress(image, quality, _):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(quality))
    return Image.open(stream).convert("RGB")


def _turn(image, degrees, random):
    border = _border(np.asarray(image))
    colour = np.median(border, axis=0).astype(int)
    side = random.choice([-1, 1])
    return image.rotate(side * degrees, Image.Resampling.BILINEAR, fillcolor=tuple(colour))


def _window(image, share, random):
    """A box at any place, each side so large a share of the photo's."""
    width = round(image.width * share) or 1
    height = round(image.height * share) or 1
    left = random.integers(image.width - width + 1)
    top = random.integers(image.height - height + 1)
    return left, top, left + width, top + height


def _crop(image, percent, random):
    return image.crop(_window(image, 1 - percent / 100, random))


def _cover(image, percent, random):
    covered = image.copy()
    window = _window(image, (percent / 100) ** 0.5, random)
    covered.paste("grey", window)
    return covered


def _other_background(image, percent, random):
    pixels = np.asarray(image)
    weight = percent / 100 * background(pixels)[..., None]
    colour = random.integers(256, size=3)
    return _image(pixels * (1 - weight) + colour * weight)


class Edit(NamedTuple):
    """One way to change a photo: `change(image, strength, random)`, strengths that show it, and the
    one of no change.

    `unit` says what the strengths are, for the axis of a figure.
    """

    change: Callable
    strengths: tuple[float, ...]
    unchanged: float
    unit: str


EDITS = {
    "brightness": Edit(_brighten, (0.25, 0.5, 0.75, 1.25, 1.5, 2.0), 1, "times as bright"),
    "contrast": Edit(_stretch, (0.25, 0.5, 0.75, 1.5, 2.0), 1, "times the contrast"),
    "blur": Edit(_blur, (0.25, 0.5, 1, 2, 4), 0, "radius, % of the shorter side"),
    "noise": Edit(_noise, (5, 10, 20, 40, 80), 0, "standard deviation, of 255 levels"),
    "JPEG": Edit(_compress, (5, 10, 20, 40, 80), 100, "quality"),
    "rotation": Edit(_turn, (5, 10, 20, 45, 90), 0, "degrees, left or right"),
    "crop": Edit(_crop, (5, 10, 20, 30, 50), 0, "% of each side cut off"),
    "occlusion": Edit(_cover, (2, 5, 10, 20, 40), 0, "% of the area covered in grey"),
    "background": Edit(
        _other_background, (25, 50, 75, 100), 0, "% replaced by a random colour"
    ),
}


def edit_photo(pixels, edit, strength, *, seed=0):
    """A photo, changed as one row of `EDITS` says.

    Parameters
    ----------
    pixels : uint8 [height, width, 3]
        Made smaller first if a side is longer than 512.
    seed
        Decides what is left to chance: side, place, colour, noise.

    Returns
    -------
    uint8 [height, width, 3], or smaller for "crop".
    """
    image = Image.fromarray(shrunk(pixels))
    random = np.random.default_rng(seed)
    return np.asarray(EDITS[edit].change(image, strength, random))


def shrunk(pixels):
    """A photo whose longer side has 512 pixels at most; one that has stays as it is."""
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
    return np.asarray(image)


def background(pixels):
    """A guess at what is background: what hangs together with the edge and has one of its colours.

    Good for products on a plain ground, poor where ground and product have the same colours.

    Parameters
    ----------
    pixels : uint8 [height, width, 3]

    Returns
    -------
    float32 [height, width] in [0, 1], with soft edges.
    """
    edge = _border(pixels).astype(np.float32)
    count = min(GROUND_COLOURS, len(np.unique(edge, axis=0)))
    colours = KMeans(count, n_init=1, random_state=0).fit(edge).cluster_centers_
    distance = np.linalg.norm(pixels[:, :, None] - colours, axis=3).min(axis=2)
    regions, _ = ndimage.label(distance < NEAR)
    touching = np.setdiff1d(_border(regions), 0)
    ground = np.isin(regions, touching).astype(np.float32)
    return ndimage.gaussian_filter(ground, 1)


def _border(pixels):
    """The outermost pixels, in a row."""
    top, bottom = pixels[0], pixels[-1]
    left, right = pixels[:, 0], pixels[:, -1]
    return np.concatenate([top, bottom, left, right])


def _image(pixels):
    pixels = np.round(pixels).clip(0, 255)
    return Image.fromarray(np.uint8(pixels))
