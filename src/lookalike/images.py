"""A file to RGB pixels to batches: every photo is opened the same way, whatever shape it arrives in."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from lookalike.workspace import parallel_map

MAX_PIXELS = 80_000_000  # an 80-megapixel photo takes 240 MB as RGB; what is larger is refused before it is decoded
MAX_BYTES = 200_000_000
File = str | os.PathLike | bytes  # the path of one, or what is in it
FITS = ("resize", "letterbox", "crop")

# Only formats that Pillow decodes by itself: no EPS or PDF, which would start another program on an untrusted file.
Image.init()
FORMATS = tuple(
    name for name in ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO") if name in Image.OPEN
)

# Pillow only warns where we refuse.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(ValueError):
    """A file that cannot be used as a photo; the message says why, `reason` without the file's name."""

    def __init__(self, path: File, reason: str):
        super().__init__(f"{'the photo' if isinstance(path, bytes) else path}: {reason}")
        self.reason = reason


def read_bytes(path: File) -> bytes:
    """The bytes of a regular file, `ImageError` if it is empty or larger than `MAX_BYTES`; bytes as they are given."""
    try:
        if isinstance(path, bytes):
            return path
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(path, "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageError(path, f"{status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(path, error.strerror or type(error).__name__) from None
    if not data:
        raise ImageError(path, "empty file")
    return data


def decode(data: bytes, path: File, target: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an encoded photo to upright RGB, and tell its full upright (width, height).

    A JPEG is decoded at a half, quarter or eighth of its size where both sides stay at least `target` pixels.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(path, f"{width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are decoded")
        if target:
            image.draft(image.mode, (target, target))
        image.load()
        if _orientation(image) in (5, 6, 7, 8):  # the EXIF orientations that lay the photo on its side
            width, height = height, width
        return _to_rgb(_upright(image)), (width, height)
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(path, "not an image, or in a format that is not read") from None
    except Image.DecompressionBombError as error:
        raise ImageError(path, f"decompression bomb: {error}") from None
    except Exception as error:  # damaged files raise almost anything, and one file must not stop a run
        raise ImageError(path, f"cannot be decoded: {error}") from None


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1


def _upright(image: Image.Image) -> Image.Image:
    """Turn the photo as its EXIF orientation says."""
    turns = "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"
    steps = {orientation: Image.Transpose[turn] for orientation, turn in enumerate(turns, 2)}
    step = steps.get(_orientation(image))
    return image if step is None else image.transpose(step)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Bring any mode to RGB: transparency on white, 16-bit greys scaled to 8."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        grey = grey // 257 if image.mode != "I" or grey.max() > 255 else grey  # "I" has 32 bits, few of them used
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """Open and decode a file once, as small as its format allows; its upright (width, height) in pixels.

    Raises
    ------
    ImageError
        If the file is missing, not an image, damaged, or too large.
    """
    return decode(read_bytes(path), path, 32)[1]


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal: equal for equal files, whatever their names."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def load_image(path: File, size: int | tuple[int, int] | None = None, *, fit: str = "resize") -> np.ndarray:
    """Read a photo as RGB pixels.

    Parameters
    ----------
    path
        A JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, AVIF or ICO file, or the bytes of one.
    size
        Height and width of the result in pixels, or one number for both; None keeps the photo's own size.
    fit
        "resize" stretches to `size`; "letterbox" keeps the proportions and fills up with white; "crop" keeps the
        proportions and cuts the centre.

    Returns
    -------
    uint8 array [height, width, 3], upright as EXIF says, transparency laid on white.

    Raises
    ------
    ImageError
        If the file is missing, not an image, damaged, or too large.
    """
    if size is None:
        return np.asarray(decode(read_bytes(path), path, None)[0])
    height, width = (size, size) if isinstance(size, int) else size
    image, _ = decode(read_bytes(path), path, max(height, width))
    return np.asarray(_fit(image, (width, height), fit))


def fit_pixels(pixels: np.ndarray, size: int | tuple[int, int], *, fit: str = "resize") -> np.ndarray:
    """Bring uint8 pixels [h, w, 3] to `size`, by the same resampling as `load_image`."""
    height, width = (size, size) if isinstance(size, int) else size
    return np.asarray(_fit(as_image(pixels), (width, height), fit))


def as_image(pixels: np.ndarray) -> Image.Image:
    """Pixels as an image; `ValueError` if they are not uint8 [height, width, 3]."""
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"Pixels must be a uint8 array [height, width, 3], not {pixels.dtype} {list(pixels.shape)}.")
    return Image.fromarray(pixels)


def fitted(image: File | np.ndarray, size: int | tuple[int, int], *, fit: str = "resize") -> np.ndarray:
    """A photo, given as a path, as the bytes of a file, or as pixels, as uint8 pixels of `size`."""
    return (fit_pixels if isinstance(image, np.ndarray) else load_image)(image, size, fit=fit)


def _fit(image: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    resample = Image.Resampling.BILINEAR  # antialiased when it shrinks, and the fastest that is
    if fit == "resize":
        return image.resize(size, resample)
    if fit == "letterbox":
        shrink = max(image.width / size[0], image.height / size[1])
        if min(image.size) <= shrink / 2:  # too narrow for one pixel, and yet it has one
            image = image.resize([max(1, round(side / shrink)) for side in image.size], resample)
        return ImageOps.pad(image, size, resample, color="white")
    if fit == "crop":
        return ImageOps.fit(image, size, resample)
    raise ValueError(f"fit must be one of {', '.join(FITS)}, not {fit!r}.")


def augment(pixels: np.ndarray, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """One random variant of a photo: mirrored or not, turned, zoomed and shifted a little, in another light.

    Up to 15 degrees, 80 to 110 % of its width, a tenth of its width aside, and 25 % of brightness, contrast and
    saturation. What comes into sight beyond the edge is the photo reflected there.

    Parameters
    ----------
    pixels : uint8 [h, w, 3], best a little larger than `size`
    size
        Height and width of the result.
    """
    height, width = pixels.shape[:2]
    margin = max(height, width) // 3 + 1
    wide = Image.fromarray(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric"))
    angle, zoom = np.deg2rad(random.uniform(-15, 15)), random.uniform(0.8, 1.1)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn * [random.choice([-1, 1]) * width / size[1], height / size[0]]
    centre = margin + np.array([width, height]) * (0.5 + random.uniform(-0.1, 0.1, 2))
    corner = centre - turn @ [size[1] / 2, size[0] / 2]
    matrix = (*turn[0], corner[0], *turn[1], corner[1])
    photo = wide.transform((size[1], size[0]), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        photo = change(photo).enhance(random.uniform(0.75, 1.25))
    return np.asarray(photo)


def pixel_batches(
    paths: Sequence[str | Path], size: int | tuple[int, int], *, batch_size: int = 32, fit: str = "resize"
) -> Iterator[np.ndarray]:
    """Decode photos in threads, ahead of the reader: uint8 batches [<= batch_size, height, width, 3], in order."""
    batch = []
    # Two batches ahead, so that the threads find work for as long as the network takes for one.
    for pixels in parallel_map(lambda path: load_image(path, size, fit=fit), paths, ahead=2 * batch_size):
        batch.append(pixels)
        if len(batch) == batch_size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def image_batches(
    paths: Sequence[str | Path], size: int | tuple[int, int], *, batch_size: int = 32, fit: str = "resize"
) -> tf.data.Dataset:
    """Photos as Keras takes them: a prefetching dataset of float32 batches [<= batch_size, height, width, 3], 0-255."""
    height, width = (size, size) if isinstance(size, int) else size
    dataset = tf.data.Dataset.from_generator(
        lambda: pixel_batches(paths, (height, width), batch_size=batch_size, fit=fit),
        output_signature=tf.TensorSpec([None, height, width, 3], tf.uint8),
    )
    return dataset.map(lambda batch: tf.cast(batch, tf.float32)).prefetch(tf.data.AUTOTUNE)
