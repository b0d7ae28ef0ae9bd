"""What a stranger sends as a photo: taken apart in memory, and refused with a sentence that says
what to do.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from PIL import Image

from lookalike.images import FORMATS, ImageError

MAX_BYTES = 10_000_000
MAX_PIXELS = 40_000_000
MAX_GIF = 1_000_000  # of a larger one the comments alone may take minutes to read
# pixels a byte, from which on a picture that is too large was made to be; flat PNGs reach 1,000,
# photos 20
BOMB = 250
# An icon may hold a picture larger than it says.
ALLOWED = tuple(name for name in FORMATS if name != "ICO")
# The pages of a TIFF and the previews in an MPO are no animation.
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")


class UploadError(ValueError):
    """A photo, or a wish, that cannot be served; the message is for the one who sent it."""


def upload_bytes(url: object) -> bytes:
    """The bytes in a `data:` URL, as a browser makes it of a file; their kind is not believed.

    Raises
    ------
    UploadError
        If there is none, it is broken, or holds more than `MAX_BYTES`.
    """
    if not url:
        raise UploadError("No photo yet. Choose one, paste one, or take one with the camera.")
    if not isinstance(url, str) or not url.startswith("data:") or ";base64," not in url[:200]:
        raise UploadError(
            "This is no photo. Choose an image file, paste one, or take one with the camera."
        )
    encoded = url[url.index(";base64,") + len(";base64,") :]
    refuse_large(len(encoded) * 3 // 4 - encoded[-2:].count("="))
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        raise UploadError("The photo did not arrive whole. Send it again.") from None


def refuse_large(n_bytes: float) -> None:
    """`UploadError` for a file of more than `MAX_BYTES`."""
    if n_bytes > MAX_BYTES:
        size = (
            f"{min(n_bytes, 10**12):,.0f} bytes; at most {MAX_BYTES:,} ({MAX_BYTES / 1e6:.0f} MB)"
        )
        raise UploadError(f"This file has {size} are read. Save it smaller.")


def check_upload(data: bytes) -> None:
    """Refuse, before a pixel is decoded, a file that is no photo, is animated, or would take too
    much memory.

    Raises
    ------
    UploadError
        If it is none, an animation, or larger than `MAX_BYTES` or `MAX_PIXELS`.
    """
    refuse_large(len(data))
    if not data:
        raise UploadError("This file is empty. Choose another.")
    if data.startswith(b"GIF8") and len(data) > MAX_GIF:
        sentence = f"This GIF has {len(data):,} bytes; at most {MAX_GIF:,} are read, since large ones are animations."
        raise UploadError(f"{sentence} Save one of its pictures as a JPEG or PNG, and send that.")
    try:
        image = Image.open(io.BytesIO(data), formats=ALLOWED)
        width, height = image.size
        animated = image.format in ANIMATED and getattr(image, "is_animated", False)
    except Image.UnidentifiedImageError:
        raise UploadError(
            "This file is not an image, or in a format that is not read. "
            "Choose a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF."
        ) from None
    except Image.DecompressionBombError:
        raise UploadError(_bomb("more than 170 megapixels", data)) from None
    except Exception:  # a damaged header raises almost anything
        raise UploadError(DAMAGED) from None
    if width * height > MAX_PIXELS:
        size = f"{width:,} x {height:,} pixels"
        if width * height > BOMB * len(data):
            raise UploadError(_bomb(size, data))
        raise UploadError(
            f"This photo has {size}, {width * height / 1e6:.0f} megapixels; at most {MAX_PIXELS / 1e6:.0f} are read. "
            "Save it smaller."
        )
    if animated:
        raise UploadError("This is an animation. Save one of its pictures, and send that.")


DAMAGED = (
    "This photo is damaged: it cannot be read to its end. Save or copy it anew, or choose another."
)


def _bomb(size: str, data: bytes) -> str:
    return (
        f"This file of {len(data):,} bytes claims to be {size}: too much memory for so few bytes. "
        "It is not opened. Choose another."
    )


def decoded(read: Callable[[], object]):
    """What `read` gives, which decodes an upload; `UploadError` if the photo is damaged."""
    try:
        return read()
    except ImageError:
        raise UploadError(DAMAGED) from None
