"""A file to RGB pixels to batches: every photo is opened the same way, whatever shape it arrives
in.
"""

import hashlib
import io
import itertools
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from lookalike.machine import parallel_map

PHOTO_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .mpo .png .webp .gif .bmp .tif .tiff .avif .ico .heic .heif .hif"
)
PHOTO_SUFFIXES = set(PHOTO_SUFFIXES.split())
# How the photos of telephones begin, behind four bytes.
HEIC = (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")

# Only formats that are decoded in this process: no EPS or PDF, which would start another program on
# an untrusted file.
FORMATS = "AVIF BMP GIF ICO JPEG PNG TIFF WEBP"
FORMATS = FORMATS.split()
Image.init()
with suppress(ImportError):
    import pi_heif

    pi_heif.register_heif_opener()
    # After AVIF, of whose files it takes some for its own.
    FORMATS.append("HEIF")


class ImageError(ValueError):
    """A file that cannot be used as a photo; the message says why, `reason` without the file's
    name.
    """

    def __init__(self, path, reason):
        super().__init__(f"{'the photo' if isinstance(path, bytes) else path}: {reason}")
        self.reason = reason


def read_bytes(path):
    """The bytes of a regular file, `ImageError` if there is none or it is empty; bytes as they are
    given.
    """
    if isinstance(path, bytes):
        return path
    file = Path(path)
    try:
        n_bytes = file.stat().st_size
        # A pipe would be waited for.
        if not file.is_file():
            raise ImageError(path, "not a file")
        if n_bytes == 0:
            raise ImageError(path, "empty file")
        return file.read_bytes()
    except OSError as error:
        raise ImageError(path, error.strerror) from None


def content_hash(path):
    """SHA-256 of a file's bytes, in hexadecimal: equal for equal files, whatever their names."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def photo_facts(path):
    """What a catalogue keeps of a photo, which is read once and decoded to its end; `ImageError`
    where that fails.

    Returns
    -------
    `sha256` in hexadecimal, `bytes`, `mtime` in seconds, and, upright, `pixel_width` and
    `pixel_height`.
    """
    data = read_bytes(path)
    width, height = decode(data, path, 1)[1]
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "mtime": Path(path).stat().st_mtime,
        "pixel_width": width,
        "pixel_height": height,
    }


def decode(data, path, target):
    """Decode an encoded photo to upright sRGB, and tell its full upright (width, height).

    A JPEG is decoded at a half, quarter or eighth of its size where both sides stay at least
    `target` pixels.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if target:
            image.draft(image.mode, (target, target))
        image.load()
        with suppress(Exception):  # a damaged EXIF block says nothing about the pixels
            if image.getexif()[ExifTags.Base.Orientation] in range(5, 9):
                width, height = height, width
            ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image), (width, height)
    # Damaged files raise almost anything, and one file must not stop a run.
    except Exception as error:
        reason = f"cannot be decoded: {str(error).strip()}"
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "not an image, or in a format that is not read"
        if data.startswith(HEIC, 4) and "HEIF" not in FORMATS:
            reason = "HEIC, which is read after: pip install pi-heif"
        raise ImageError(path, reason) from None


def _to_rgb(image):
    """Bring any mode and colour profile to sRGB, transparency laid on white."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):  # 16 bits
        image = image.convert("I").point(lambda value: value / 257 + 0.5).convert("L")
    if image.has_transparency_data or image.mode == "P":
        image = image.convert("RGBA")
    with suppress(Exception):  # no profile, a damaged one, or one for other pixels
        if transform := _to_srgb(image.info["icc_profile"], image.mode):
            image = transform.apply(image)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


# To make one takes longer than to decode a small photo.
@lru_cache
def _to_srgb(profile, mode):
    """What takes pixels of a profile to sRGB; None where they are sRGB already."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if ImageCms.getProfileDescription(profile).startswith("sRGB"):
        return None
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(profile, srgb, mode, "RGBA" if mode == "RGBA" else "RGB")


def load_image(path, size=None, *, fit="resize"):
    """Read a photo as RGB pixels; `ImageError` if it is missing, no image, damaged, or too large.

    Parameters
    ----------
    path
        A JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, AVIF or ICO file, HEIC where pi-heif is
        installed, or the bytes of one.
    size
        Height and width of the result in pixels, or one number for both; None keeps the photo's own
        size.
    fit
        "resize" stretches to `size`; "letterbox" keeps the proportions and fills up with white;
        "crop" keeps the proportions and cuts the centre.

    Returns
    -------
    uint8 array [height, width, 3], sRGB, upright as EXIF says, transparency laid on white;
    `ValueError` for another `fit`.
    """
    image, _ = decode(read_bytes(path), path, size and np.max(size))
    return np.asarray(image if size is None else _fit(image, size, fit))


def as_image(pixels):
    """Pixels as an image; `ValueError` if they are not uint8 [height, width, 3]."""
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,) or not pixels.size:
        raise ValueError(
            "Pixels must be a uint8 array [height, width, 3], "
            f"not {pixels.dtype} {list(pixels.shape)}."
        )
    return Image.fromarray(pixels)


def fitted(image, size, *, fit="resize"):
    """A photo, given as a path, the bytes of a file, a Pillow image, or pixels, as uint8 pixels of
    `size`.
    """
    if isinstance(image, np.ndarray):
        image = as_image(image)
    if isinstance(image, Image.Image):
        return np.asarray(_fit(_to_rgb(ImageOps.exif_transpose(image)), size, fit))
    return load_image(image, size, fit=fit)


def _letterbox(image, size, resample):
    image.thumbnail(size, resample, None)  # a strip keeps a pixel of its width
    return ImageOps.pad(image, size, resample, color="white")


FITS = {"resize": Image.Image.resize, "letterbox": _letterbox, "crop": ImageOps.fit}


def _fit(image, size, fit):
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, not {fit!r}.")
    height, width = np.broadcast_to(size, 2)
    # Antialiased when it shrinks, and the fastest that is.
    return FITS[fit](image, (width, height), Image.Resampling.BILINEAR)


def pixel_batches(photos, size, *, batch_size=32, fit="resize"):
    """Decode photos in threads, ahead of the reader: uint8 batches [<= batch_size, height, width,
    3], in order.

    An `ImageError` names the first that cannot be read; a `ValueError` says which ways to `fit`
    there are.
    """
    # Two batches ahead, so that the threads find work for as long as the network takes for one.
    pixels = parallel_map(
        lambda photo: fitted(photo, size, fit=fit), photos, ahead=2 * batch_size
    )
    while batch := list(itertools.islice(pixels, batch_size)):
        yield np.stack(batch)
