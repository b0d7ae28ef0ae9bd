"""Files that a stranger may send: good ones of every kind, and ones made to do harm."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, features

from test_odd_images import heic


def picture(seed=0, size=(48, 36), mode="RGB"):
    """A picture of smooth colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def zeros(count):
    """So many of them, deflated; a thousandth of their size."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(10**6)) for _ in range(count // 10**6)]
    return b"".join(parts) + packer.flush()


def png(width, height, packed=None, *, bits=1, kind=0, before=b"", after=b""):
    """A PNG, black if nothing else is packed, with other chunks before and after its pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    packed = zlib.compress(bytes((1 + (width + 7) // 8) * height)) if packed is None else packed
    parts = [chunk(b"IHDR", header), before, chunk(b"IDAT", packed), after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bmp(width, height, body=b""):
    head = struct.pack("<IHHI", 54 + len(body), 0, 0, 54)
    facts = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + head + facts + body


def gif(screen, frame, before=b""):
    """A GIF whose screen and whose only picture say how large they are; of pixels it has none."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + before
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00;"


def tiff(width, height, packed, entries=()):
    """A grey TIFF, deflated, in one strip, with more entries in its list of tags."""
    longs = {256: width, 257: height, 277: 1, 258: 8, 259: 8, 262: 1, 273: 0}
    longs |= {278: height, 279: len(packed), **dict(entries)}
    longs[273] = 8 + 2 + 12 * len(longs) + 4
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, longs[tag]) for tag in sorted(longs))
    return b"II*\0" + struct.pack("<IH", 8, len(longs)) + tags + bytes(4) + packed


def webp(width, height):
    """An extended WebP whose canvas is large, and whose picture is not."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    inner = saved(picture(), "WEBP")[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def icon(inner):
    """An icon that says 16 x 16 and holds whatever PNG."""
    facts = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    return struct.pack("<HHH", 0, 1, 1) + facts + inner


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
GREY16 = Image.fromarray((np.arange(48 * 36, dtype=np.uint16) * 37).reshape(36, 48))
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
GOOD = {
    "JPEG": saved(picture(), "JPEG"),
    "JPEG, CMYK": saved(picture(mode="CMYK"), "JPEG"),
    "JPEG, on its side": saved(picture(), "JPEG", exif=TURNED),
    "JPEG, a profile of its own": saved(picture(), "JPEG", icc_profile=LAB),
    "MPO": saved(picture(), "MPO", save_all=True, append_images=[picture(1)]),
    "PNG": saved(picture(), "PNG"),
    "PNG, 16 bits": saved(GREY16, "PNG"),
    "PNG, palette and transparency": saved(picture(mode="P"), "PNG", transparency=3),
    "PNG, alpha": saved(CLEAR, "PNG"),
    "WebP, alpha": saved(CLEAR, "WEBP"),
    "GIF": saved(picture(), "GIF"),
    "GIF, moving": saved(picture(), "GIF", save_all=True, append_images=[picture(1)]),
    "TIFF": saved(picture(), "TIFF", compression="tiff_lzw"),
    "HEIC": heic(picture()),
    "1 x 1": saved(picture(size=(1, 1)), "PNG"),
    "tall": saved(picture(size=(1, 3000)), "PNG"),
}
if features.check("avif"):
    GOOD["AVIF"] = saved(picture(), "AVIF")

FLAT = zeros(144_000_000)
BAD = {
    "text": b"Nothing but words.\n" * 50,
    "page": b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>",
    "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "PDF": saved(picture(), "PDF"),
    "vector": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "empty": b"",
    "no width": png(0, 5),
    "PNG, 900 megapixels": png(30_000, 30_000, b""),
    "PNG, 2^62 pixels": png(2**31 - 1, 2**31 - 1, b""),
    "PNG, 80 megapixels of 64 bits": png(9000, 8900, zeros(640_000_000), bits=16, kind=6),
    "PNG, a text of 144 MB": png(8, 8, before=chunk(b"zTXt", b"a\0\0" + FLAT)),
    "PNG, a text behind it": png(8, 8, after=chunk(b"zTXt", b"a\0\0" + FLAT)),
    "BMP, enormous": bmp(2**31 - 1, 2**31 - 1),
    "BMP, shorter than it says": bmp(600, 600, bytes(100)),
    "GIF, large": gif((60_000, 60_000), (8, 8)),
    "GIF, large picture on a small screen": gif((8, 8), (60_000, 60_000)),
    "GIF, 20 MB of comments": gif(
        (8, 8), (8, 8), b"!\xfe" + (b"\xff" + bytes(255)) * 80_000 + b"\0"
    ),
    "TIFF, enormous": tiff(2**31, 2**31, b""),
    "TIFF, tags without end": tiff(8, 8, zlib.compress(bytes(64)), [(330, 8), (34665, 8)])[:-20],
    "WebP, larger than its picture": webp(16_000, 16_000),
    "icon with a large picture": icon(png(30_000, 30_000, b"")),
    "half a JPEG": saved(picture(size=(640, 480)), "JPEG")[:-3000],
    "half a PNG": saved(picture(size=(640, 480)), "PNG")[:-3000],
}
SLOW = {"JPEG, 300 passes": many_passes()}
