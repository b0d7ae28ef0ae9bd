"""A file to RGB pixels to batches: every photo is opened the same way, whatever shape it arrives
in.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps, TiffImagePlugin

from lookalike.workspace import parallel_map

# an 80-megapixel photo takes 240 MB as RGB; what is larger is refused before it is decoded
MAX_PIXELS = 80_000_000
MAX_BYTES = 200_000_000
MAX_PASSES, MAX_PARTS = 100, 2_000  # of a JPEG; libtiff allows as many passes, and photos have ten
MAX_PIECES = 10_000  # that a header is read in; over one of millions hours go by
# The markers that have a length.
MARKER, END, PASS = (re.compile(rb"\xff+([\x02-\xcf\xd9-\xfe])"), b"\xd9", b"\xda")
File = str | os.PathLike | bytes  # the path of one, or what is in it
PHOTO_SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".ico",
}
FITS = ("resize", "letterbox", "crop")

# Only formats that Pillow decodes by itself: no EPS or PDF, which would start another program on an
# untrusted file.
Image.init()
FORMATS = tuple(
    sorted({"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO"} & set(Image.OPEN))
)
# Pillow only warns where we refuse.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

TURNS = (
    "FLIP_LEFT_RIGHT",
    "ROTATE_180",
    "FLIP_TOP_BOTTOM",
    "TRANSPOSE",
    "ROTATE_270",
    "TRANSVERSE",
    "ROTATE_90",
)
# Upright, by EXIF.
TURNS = {orientation: Image.Transpose[turn] for orientation, turn in enumerate(TURNS, 2)}


class ImageError(ValueError):
    """A file that cannot be used as a photo; the message says why, `reason` without the file's
    name.
    """

    def __init__(self, path: File, reason: str):
        super().__init__(f"{'the photo' if isinstance(path, bytes) else path}: {reason}")
        self.reason = reason


def read_bytes(path: File) -> bytes:
    """The bytes of a regular file, `ImageError` if it is empty, too large, or changing; bytes as
    they are given.
    """
    if isinstance(path, bytes):
        return path
    at_once = getattr(os, "O_NONBLOCK", 0)  # else opening a pipe waits until someone writes into it
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | at_once)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(path, "not a regular file")
            if status.st_size > MAX_BYTES:
                raise ImageError(path, f"{status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
            data = file.read(status.st_size + 1)
    except OSError as error:
        folder = isinstance(error, IsADirectoryError) and "a folder, not a file"
        raise ImageError(path, folder or error.strerror or type(error).__name__) from None
    if not data or len(data) != status.st_size:
        raise ImageError(
            path,
            "changed while it was read; try again when it is written" if data else "empty file",
        )
    return data


class _Bounded:
    """A file for headers: read in `MAX_PIECES` pieces at most, and not the same bytes over and
    over.
    """

    def __init__(self, file: io.BufferedIOBase):
        place = file.tell()
        self.file, self.pieces, self.bytes = file, MAX_PIECES, 4 * file.seek(0, os.SEEK_END)
        self.seek, self.tell = file.seek, file.tell
        file.seek(place)

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.pieces, self.bytes = self.pieces - 1, self.bytes - len(data)
        if min(self.pieces, self.bytes) < 0:
            raise OSError("its header has too many parts")
        return data


# Pillow keeps the bytes of every tag, in TIFF and EXIF; ten thousand tags that name the whole file
# would fill memory.
_load_tags = TiffImagePlugin.ImageFileDirectory_v2.load
TiffImagePlugin.ImageFileDirectory_v2.load = lambda tags, file: _load_tags(tags, _Bounded(file))


def endless(data: bytes) -> bool:
    """Whether a JPEG has more passes, or parts, than any camera writes: each pass goes through all
    pixels again.
    """
    place = n_parts = n_passes = 0
    while (
        (found := MARKER.search(data, place))
        and found[1] != END
        and n_parts < MAX_PARTS
        and n_passes <= MAX_PASSES
    ):
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        n_parts, n_passes = n_parts + 1, n_passes + (found[1] == PASS)
    return n_parts == MAX_PARTS or n_passes > MAX_PASSES


def decode(data: bytes, path: File, target: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an encoded photo to upright RGB, and tell its full upright (width, height).

    A JPEG is decoded at a half, quarter or eighth of its size where both sides stay at least
    `target` pixels.
    """
    try:
        if data.startswith(b"\xff\xd8") and endless(data):
            raise ImageError(path, "a JPEG of more passes or parts than any camera writes")
        file = _Bounded(io.BytesIO(data))
        image = Image.open(file, formats=FORMATS)
        file.read = file.file.read  # the pixels are read as they come
        width, height = image.size
        # Of a TIFF, whose tiles may be larger, and are decoded whole.
        tags = getattr(image, "tag_v2", {})
        columns, rows = max(width, tags.get(322, 0)), max(height, tags.get(323, 0))
        # A WebP is held four times at once.
        most = MAX_PIXELS * 3 // 4 if image.format == "WEBP" else MAX_PIXELS
        if columns * rows > most:
            raise ImageError(path, f"{columns:,} x {rows:,} pixels; at most {most:,} are decoded")
        image.draft(image.mode, (target, target) if target else image.size)
        image.load()
        orientation = None
        with suppress(Exception):  # a damaged EXIF block says nothing about the pixels
            orientation = image.getexif().get(0x0112)
        if orientation in TURNS:
            image = image.transpose(TURNS[orientation])
        return _to_rgb(image), (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    except Image.UnidentifiedImageError:
        heic = "HEIC, which is not read; save it as JPEG" if data[4:10] == b"ftyphe" else ""
        raise ImageError(path, heic or "not an image, or in a format that is not read") from None
    except ImageError:
        raise
    # Damaged files raise almost anything, and one file must not stop a run.
    except Exception as error:
        raise ImageError(path, f"cannot be decoded: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Bring any mode to RGB: transparency on white, 16-bit greys scaled to 8."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        # "I" has 32 bits, few of them used.
        grey = grey // 257 if image.mode != "I" or grey.max() > 255 else grey
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """The upright (width, height) of a photo, which is decoded to its end; `ImageError` where that
    fails.
    """
    return decode(read_bytes(path), path, 32)[1]


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal: equal for equal files, whatever their names."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def load_image(
    path: File, size: int | tuple[int, int] | None = None, *, fit: str = "resize"
) -> np.ndarray:
    """Read a photo as RGB pixels; `ImageError` if it is missing, no image, damaged, or too large.

    Parameters
    ----------
    path
        A JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, AVIF or ICO file, or the bytes of one.
    size
        Height and width of the result in pixels, or one number for both; None keeps the photo's own
        size.
    fit
        "resize" stretches to `size`; "letterbox" keeps the proportions and fills up with white;
        "crop" keeps the proportions and cuts the centre.

    Returns
    -------
    uint8 array [height, width, 3], upright as EXIF says, transparency laid on white; `ValueError`
    for another `fit`.
    """
    image, _ = decode(read_bytes(path), path, size and int(np.max(size)))
    return np.asarray(image if size is None else _fit(image, size, fit))


def fit_pixels(
    pixels: np.ndarray, size: int | tuple[int, int], *, fit: str = "resize"
) -> np.ndarray:
    """Bring uint8 pixels [h, w, 3] to `size` by the resampling of `load_image`; `ValueError` if
    they are none.
    """
    return np.asarray(_fit(as_image(pixels), size, fit))


def as_image(pixels: np.ndarray) -> Image.Image:
    """Pixels as an image; `ValueError` if they are not uint8 [height, width, 3]."""
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"Pixels must be a uint8 array [height, width, 3], not {pixels.dtype} {list(pixels.shape)}."
        )
    return Image.fromarray(pixels)


def fitted(
    image: File | np.ndarray, size: int | tuple[int, int], *, fit: str = "resize"
) -> np.ndarray:
    """A photo, given as a path, as the bytes of a file, or as pixels, as uint8 pixels of `size`."""
    return (fit_pixels if isinstance(image, np.ndarray) else load_image)(image, size, fit=fit)


def _fit(image: Image.Image, size: int | tuple[int, int], fit: str) -> Image.Image:
    # As Pillow has it: width and height.
    size = (size, size) if isinstance(size, int) else (size[1], size[0])
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
    """One random variant of a photo: mirrored or not, turned, zoomed and shifted a little, in
    another light.

    Up to 15 degrees, 80 to 110 % of its width, a tenth of its width aside, and 25 % of brightness,
    contrast and saturation; beyond its edge the photo is reflected. `pixels`, uint8, are best a
    little larger than `size`.
    """
    height, width = pixels.shape[:2]
    margin = max(height, width) // 3 + 1
    wide = Image.fromarray(
        np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    )
    angle, zoom = np.deg2rad(random.uniform(-15, 15)), random.uniform(0.8, 1.1)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn * [random.choice([-1, 1]) * width / size[1], height / size[0]]
    centre = margin + np.array([width, height]) * (0.5 + random.uniform(-0.1, 0.1, 2))
    corner = centre - turn @ [size[1] / 2, size[0] / 2]
    matrix = (*turn[0], corner[0], *turn[1], corner[1])
    photo = wide.transform(
        (size[1], size[0]), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        photo = change(photo).enhance(random.uniform(0.75, 1.25))
    return np.asarray(photo)


def pixel_batches(
    paths: Sequence[str | Path],
    size: int | tuple[int, int],
    *,
    batch_size: int = 32,
    fit: str = "resize",
) -> Iterator[np.ndarray]:
    """Decode photos in threads, ahead of the reader: uint8 batches [<= batch_size, height, width,
    3], in order.

    An `ImageError` names the first that cannot be read; a `ValueError` says which ways to `fit`
    there are.
    """
    # Two batches ahead, so that the threads find work for as long as the network takes for one.
    photos = parallel_map(lambda path: load_image(path, size, fit=fit), paths, ahead=2 * batch_size)
    while batch := list(itertools.islice(photos, batch_size)):
        yield np.stack(batch)
