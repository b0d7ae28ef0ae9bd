"""Files that a stranger may send: good ones of every kind, and ones made to do harm."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, features

from test_odd_images import heic


def picture(seed=0, size=(48, 36), mode="RGB"):
    """A picture of smooth colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, packed, before=b""):
    """A PNG of black and white, with other chunks before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for part in (b"IHDR" + header, before, b"IDAT" + packed, b"IEND"):
        if part:
            data += struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
    return data


def many_passes():
    """A progressive JPEG whose first pass is repeated: each goes over all its pixels anew."""
    data = saved(picture(size=(6000, 6000)), "JPEG", progressive=True, quality=1)
    begin = data.index(b"\xff\xda")
    end = data.index(b"\xff\xda", begin + 2)
    return data[:end] + 300 * data[begin:end] + b"\xff\xd9"


TURNED = Image.Exif()
TURNED[0x0112] = 6
CLEAR = picture().copy()
CLEAR.putalpha(picture(1, mode="L"))
GOOD = {
    "JPEG": saved(picture(), "JPEG"),
    "JPEG, on its side": saved(picture(), "JPEG", exif=TURNED),
    "PNG": saved(picture(), "PNG"),
    "PNG, alpha": saved(CLEAR, "PNG"),
    "WebP, alpha": saved(CLEAR, "WEBP"),
    "GIF, moving": saved(picture(), "GIF", save_all=True, append_images=[picture(1)]),
    "HEIC": heic(picture()),
    "1 x 1": saved(picture(size=(1, 1)), "PNG"),
    "tall": saved(picture(size=(1, 3000)), "PNG"),
}
if features.check("avif"):
    GOOD["AVIF"] = saved(picture(), "AVIF")
BAD = {
    "text": b"Nothing but words.\n" * 50,
    "page": b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>",
    "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "empty": b"",
    "PNG, 900 megapixels": png(30_000, 30_000, b""),
    "PNG, a text of 144 MB": png(8, 8, b"", b"zTXta\0\0" + zlib.compress(bytes(144_000_000), 9)),
    "half a JPEG": saved(picture(size=(640, 480)), "JPEG")[:-3000],
    "JPEG, 300 passes": many_passes(),
}
