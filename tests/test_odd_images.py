"""Odd, broken and hostile files: each is the right pixels or a reason, at little cost; no other
error, no wait.
"""

import base64
import collections
import errno
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, features

from lookalike import images
from lookalike.images import ImageError, content_hash, decode, image_size, load_image, read_bytes
from lookalike.sources import load, load_catalog

# Pillow warns of damaged EXIF, damaged on purpose, and of large pictures, where pytest has undone
# our own filter.
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning"
)
AVIF = features.check("avif")
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
CYAN, GREY, DARK, BRIGHT = (0, 255, 255), (128, 128, 128), (98, 98, 98), (158, 158, 158)
FOUR = (RED, GREEN, BLUE, WHITE)
ORIENTATION = 0x0112
UNREAD = "not an image, or in a format that is not read"


# --- Files made by hand
# --------------------------------------------------------------------------------------------


def halves(left, right, mode="RGB"):
    """A picture of 64 x 48 pixels, its left half of one value and its right half of another."""
    picture = Image.new(mode, (64, 48), left)
    picture.paste(right, (32, 0, 64, 48))
    return picture


def quarters():
    """A picture of 64 x 48 pixels: red and green above blue and white."""
    picture = halves(RED, GREEN)
    picture.paste(halves(BLUE, WHITE).crop((0, 0, 64, 24)), (0, 24))
    return picture


def smooth(width, height, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(picture, kind, **options):
    stream = io.BytesIO()
    # A copy: saving as JPEG leaves its settings in the picture.
    picture.copy().save(stream, kind, **options)
    return stream.getvalue()


def jpeg(picture, **options):
    return saved(picture, "JPEG", **{"quality": 95, "subsampling": 0} | options)


def turned(kind, orientation, **options):
    """`quarters` in a file, stored as a camera does that was held so; where the first row and
    column are seen is from the EXIF standard."""
    upright = np.asarray(quarters())
    across = upright.swapaxes(0, 1)
    stored = {
        2: upright[:, ::-1],  # row: top, column: right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: across,  # left, top
        6: across[::-1],  # right, top
        7: across[::-1, ::-1],  # right, bottom
        8: across[:, ::-1],  # left, bottom
    }.get(orientation, upright)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(Image.fromarray(stored), kind, exif=exif, **options)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, packed=b"", *, bits=8, colours=0, interlaced=0, before=b"", after=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + before + chunk(b"IDAT", packed) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def filtered(pixels):
    """Rows as PNG wants them: unfiltered, which a zero before each says."""
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def interlaced_png():
    """The seven passes of Adam7, each with the pixels of a coarser or finer grid."""
    pixels, passes = np.asarray(quarters()), b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        passes += filtered(pixels[y::dy, x::dx])
    return png(64, 48, zlib.compress(passes), colours=2, interlaced=1)


def in_bytes(packed):
    """`quarters`, with each byte of its pixels in a chunk of its own."""
    return png(
        64,
        48,
        b"",
        colours=2,
        after=b"".join(chunk(b"IDAT", packed[n : n + 1]) for n in range(len(packed))),
    )


def tiff(
    width, height, body, *, bits=(8,), compression=1, photometric=1, tile=None, strip=None, more=()
):
    """A TIFF in one strip, or one tile, of as many channels as `bits`; `more` are further entries,
    (tag, count, place) of bytes."""
    tags = {
        256: width,
        257: height,
        258: bits[0],
        259: compression,
        262: photometric,
        277: len(bits),
    }
    tags |= (
        {322: tile, 323: tile, 325: len(body)} if tile else {278: strip or height, 279: len(body)}
    )
    place = 8 + 2 + 12 * (len(tags) + 1 + len(more)) + 4
    tags[324 if tile else 273] = place + 2 * len(bits)
    entries = b""
    for tag in sorted(tags):
        # They do not fit into the entry, and lie behind the directory.
        several = tag == 258 and len(bits) > 2
        entries += struct.pack(
            "<HHII",
            tag,
            3 if tag == 258 else 4,
            len(bits) if several else 1,
            place if several else tags[tag],
        )
    entries += b"".join(struct.pack("<HHII", tag, 1, count, at) for tag, count, at in more)
    count = struct.pack("<H", len(tags) + len(more))
    return (
        b"II*\0\x08\0\0\0"
        + count
        + entries
        + bytes(4)
        + struct.pack(f"<{len(bits)}H", *bits)
        + body
    )


def arithmetic_jpeg():
    """Grey, its blocks dark on the left and bright on the right; each is a restart interval, so
    that all its decisions begin from the same state, Qe = 0x5A1D: not zero, the sign, no more than
    one, and the end of the block.

    Of [0, 0x10000), a decision for 0 keeps what lies below the interval's size less Qe. That leads
    below 0xB127 for no picture, to 0xB127 - 0xBD21 for +1, and to 0xDE35 - 0xE979 for -1; of each,
    the first byte is enough. The step of 240 is 30 levels in all 64 pixels.
    """
    quantization = b"\xff\xdb\0\x43\0" + bytes([240]) + bytes([1]) * 63
    frame = b"\xff\xc9\0\x0b\x08" + struct.pack(">HH", 48, 64) + b"\x01\x01\x11\0"
    restart, scan = b"\xff\xdd\0\x04\0\x01", b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    blocks = [b"\xe0"] * 4 + [b"\xb2"] * 4
    body = b"".join(block + bytes([0xFF, 0xD0 + n % 8]) for n, block in enumerate(blocks * 6))[:-2]
    return b"\xff\xd8" + quantization + frame + restart + scan + body + b"\xff\xd9"


def with_thumbnail():
    """A JPEG whose EXIF block holds another, smaller one, of other colours, as cameras write it."""
    small = jpeg(halves(GREEN, WHITE).resize((16, 12)))
    second = struct.pack("<H", 3)
    for tag, kind, value in ((0x0103, 3, 6), (0x0201, 4, 56), (0x0202, 4, len(small))):
        second += struct.pack("<HHII", tag, kind, 1, value)
    block = b"II*\0\x08\0\0\0" + struct.pack("<HI", 0, 14) + second + bytes(4) + small
    assert block[56:58] == b"\xff\xd8"
    return jpeg(halves(RED, BLUE), exif=b"Exif\0\0" + block)


def icon(inner):
    """An icon that says 16 x 16 and holds whatever PNG."""
    return (
        struct.pack("<HHH", 0, 1, 1)
        + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
        + inner
    )


def gif(screen, frame, before=b""):
    """A GIF whose screen and whose only picture say how large they are; of pixels it has none."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return head + before + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00;"


def bmp(width, height):
    return b"BM" + struct.pack(
        "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
    )


def zipped(name, data):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, data)
    return stream.getvalue()


# --- One table of them all
# ---------------------------------------------------------------------------------------

# Each file, and what it shows - one colour, its left and right half, or its quarters - or a word of
# why it is not read.
PALETTE = halves(0, 1, "P")
PALETTE.putpalette([*GREEN, *RED])
# 128 * 257.
DEEP = np.where(np.arange(64) < 32, 32_896, 65_535)[None].repeat(48, axis=0).astype(np.uint16)
FRAMES = {"save_all": True, "append_images": [halves(GREEN, GREEN)] * 3}
PHOTO = jpeg(smooth(640, 480))
TRUE_LAB = np.where(
    np.arange(64)[None, :, None].repeat(48, 0) < 32, (138, 81, 70), (255, 0, 0)
).astype(np.uint8)
ODD_FILES = {
    f"orientation {n}.jpg": (turned("JPEG", n, quality=95, subsampling=0), FOUR)
    for n in range(1, 10)
}
ODD_FILES |= {
    "turned.png": (turned("PNG", 6), FOUR),
    "turned.webp": (turned("WEBP", 8, lossless=True), FOUR),
    "turned.tif": (turned("TIFF", 5), FOUR),
    "turned and packed.tif": (turned("TIFF", 7, compression="tiff_lzw"), FOUR),
    # JPEG
    "Zoë's été 照片.jpg": (jpeg(halves(RED, GREEN)), (RED, GREEN)),
    "UPPER.JPG": (jpeg(halves(GREEN, BLUE)), (GREEN, BLUE)),
    "no suffix": (jpeg(halves(GREEN, BLUE)), (GREEN, BLUE)),
    "progressive.jpg": (jpeg(halves(BLUE, RED), progressive=True), (BLUE, RED)),
    "grey.jpg": (jpeg(halves(0, 128, "L")), (BLACK, GREY)),
    "cmyk.jpg": (
        saved(halves((0, 255, 255, 0), (255, 0, 0, 0), "CMYK"), "JPEG", quality=95),
        (RED, CYAN),
    ),
    "arithmetic.jpg": (arithmetic_jpeg(), (DARK, BRIGHT)),
    "broken exif.jpg": (
        jpeg(halves(RED, BLUE), exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40)),
        (RED, BLUE),
    ),
    "thumbnail.jpg": (with_thumbnail(), (RED, BLUE)),
    "two pictures.mpo": (
        saved(
            halves(RED, BLUE),
            "MPO",
            quality=95,
            subsampling=0,
            save_all=True,
            append_images=[halves(GREEN, GREEN)],
        ),
        (RED, BLUE),
    ),
    # PNG, GIF, WebP
    "transparent.png": (saved(halves((*GREEN, 0), (*RED, 255), "RGBA"), "PNG"), (WHITE, RED)),
    "grey and alpha.png": (saved(halves((98, 0), (98, 255), "LA"), "PNG"), (WHITE, DARK)),
    "palette.png": (saved(PALETTE, "PNG"), (GREEN, RED)),
    "palette, one clear.png": (saved(PALETTE, "PNG", transparency=0), (WHITE, RED)),
    "palette, half clear.png": (
        saved(PALETTE, "PNG", transparency=b"\xff\x66"),
        (GREEN, (255, 153, 153)),
    ),  # 40 %
    "one colour clear.png": (saved(halves(GREEN, RED), "PNG", transparency=GREEN), (WHITE, RED)),
    "grey16.png": (saved(Image.fromarray(DEEP), "PNG"), (GREY, WHITE)),
    "grey32.tif": (tiff(64, 48, DEEP.astype("<u4").tobytes(), bits=(32,)), (GREY, WHITE)),
    "rgb16.png": (
        png(
            64,
            48,
            zlib.compress(filtered(np.asarray(quarters()).astype(">u2") * 257)),
            bits=16,
            colours=2,
        ),
        FOUR,
    ),
    "one bit.png": (saved(halves(0, 1, "1"), "PNG"), (BLACK, WHITE)),
    "interlaced.png": (interlaced_png(), FOUR),
    "no exif in its exif.png": (
        png(
            64,
            48,
            zlib.compress(filtered(np.asarray(quarters()))),
            colours=2,
            before=chunk(b"eXIf", b"Only words"),
        ),
        FOUR,
    ),
    "in bytes.png": (in_bytes(zlib.compress(filtered(np.asarray(quarters())), 0)), FOUR),
    "moving.png": (saved(halves(RED, BLUE), "PNG", **FRAMES), (RED, BLUE)),
    "moving.gif": (saved(halves(RED, BLUE), "GIF", **FRAMES), (RED, BLUE)),
    "clear.gif": (saved(PALETTE, "GIF", transparency=0), (WHITE, RED)),
    "moving.webp": (saved(halves(RED, BLUE), "WEBP", lossless=True, **FRAMES), (RED, BLUE)),
    "clear.webp": (
        saved(halves((*GREEN, 0), (*RED, 255), "RGBA"), "WEBP", lossless=True),
        (WHITE, RED),
    ),
    # TIFF, BMP, ICO
    "pages.tif": (saved(halves(RED, BLUE), "TIFF", **FRAMES), (RED, BLUE)),
    "lzw.tif": (saved(halves(RED, BLUE), "TIFF", compression="tiff_lzw"), (RED, BLUE)),
    "jpeg.tif": (saved(halves(RED, BLUE), "TIFF", compression="jpeg", quality=95), (RED, BLUE)),
    "cmyk.tif": (saved(halves((0, 255, 255, 0), (255, 0, 0, 0), "CMYK"), "TIFF"), (RED, CYAN)),
    "lab.tif": (tiff(64, 48, TRUE_LAB.tobytes(), bits=(8, 8, 8), photometric=8), (RED, WHITE)),
    "negative.tif": (
        tiff(64, 48, (255 - np.asarray(halves(0, 128, "L"))).tobytes(), photometric=0),
        (BLACK, GREY),
    ),
    "large tile.tif": (
        tiff(1, 1, zlib.compress(bytes([98]) * 64**2), compression=8, tile=64),
        (DARK,),
    ),
    "photo.bmp": (saved(quarters(), "BMP"), FOUR),
    "photo.ico": (saved(quarters(), "ICO", sizes=[(64, 48)]), FOUR),
    # Sizes
    "1 x 1.png": (saved(Image.new("RGB", (1, 1), RED), "PNG"), (RED,)),
    "1 x 20,000.png": (saved(Image.new("RGB", (1, 20_000), BLUE), "PNG"), (BLUE,)),
    "30,000 x 30,000.png": (png(30_000, 30_000), "bomb"),
    "9,000 x 9,000.png": (png(9_000, 9_000), "9,000 x 9,000 pixels; at most 80,000,000"),
    "0 x 5.png": (png(0, 5), UNREAD),
    "0 x 5.gif": (gif((0, 5), (0, 5)), UNREAD),
    "0 x 5.bmp": (bmp(0, 5), UNREAD),
    "larger than it is.png": (
        png(640, 480, zlib.compress(filtered(np.zeros((48, 64), np.uint8)))),
        "truncated",
    ),
    "a tile too large.tif": (
        tiff(16, 16, b"", compression=8, tile=16_000),
        "16,000 x 16,000 pixels",
    ),
    # No photos, and photos that are not read
    "half.jpg": (PHOTO[: len(PHOTO) // 2], "truncated"),
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"Nothing but words.\n" * 50, UNREAD),
    "page.png": (b"<!DOCTYPE html><html><body>404: the photo is gone</body></html>", UNREAD),
    "drawing.svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9"/></svg>',
        UNREAD,
    ),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", UNREAD),
    "pages.pdf": (saved(halves(RED, BLUE), "PDF"), UNREAD),
    "archive.jpg": (zipped("photo.jpg", jpeg(quarters())), UNREAD),
    "iphone.heic": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "HEIC, which is not read; save it as JPEG",
    ),
    "12 bits.jpg": (jpeg(quarters()).replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), UNREAD),
    "32 bits.tif": (saved(Image.new("F", (64, 48), 0.5), "TIFF"), "floating-point pixels"),
    # What is no file at all
    "folder.jpg": (Path.mkdir, "a folder, not a file"),
    "pipe.jpg": (os.mkfifo, "not a regular file"),
    "device.jpg": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "loop.jpg": (lambda path: path.symlink_to(path), "symbolic links"),
    "gone.jpg": (lambda path: path.symlink_to("nowhere"), "No such file"),
}
if AVIF:
    ODD_FILES["photo.avif"] = (saved(quarters(), "AVIF", quality=100, subsampling="4:4:4"), FOUR)
    ODD_FILES["turned.avif"] = (turned("AVIF", 8, quality=100, subsampling="4:4:4"), FOUR)
GOOD = [name for name, (_, expected) in ODD_FILES.items() if not isinstance(expected, str)]
BAD = [name for name, (_, expected) in ODD_FILES.items() if isinstance(expected, str)]
SIZES = collections.defaultdict(
    lambda: (64, 48), {"1 x 1.png": (1, 1), "1 x 20,000.png": (1, 20_000), "large tile.tif": (1, 1)}
)


@pytest.fixture(autouse=True)
def home_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    for name, (content, _) in ODD_FILES.items():
        (folder / name).write_bytes(content) if isinstance(content, bytes) else content(
            folder / name
        )
    return folder


@pytest.fixture
def alarm():
    """Ends a test that waits for what never comes."""

    def ring(*_):
        raise TimeoutError("waited for a pipe")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def assert_shows(pixels, colours):
    """One colour, two beside each other, or four; near the seams nothing is said, as JPEG blurs
    them.
    """
    rows = np.array_split(pixels, (len(colours) + 1) // 2)
    parts = [part for row in rows for part in np.array_split(row, min(len(colours), 2), axis=1)]
    for part, colour in zip(parts, colours, strict=True):
        inner = part if len(colours) == 1 else part[2:-2, 2:-2]
        np.testing.assert_allclose(inner, np.broadcast_to(colour, inner.shape), atol=6)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_odd_file_has_the_right_pixels_at_its_own_size_and_another(odd_folder, name):
    pixels = load_image(odd_folder / name)
    assert pixels.shape[1::-1] == image_size(odd_folder / name) == SIZES[name]
    assert_shows(pixels, ODD_FILES[name][1])
    # Of a JPEG, decoded at a half.
    assert_shows(load_image(odd_folder / name, 16), ODD_FILES[name][1])
    assert load_image(odd_folder / name, 16).shape == (16, 16, 3)
    assert pixels.dtype == load_image(odd_folder / name, 16).dtype == np.uint8


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("alarm")
def test_a_bad_odd_file_raises_an_error_that_names_it(odd_folder, name):
    reason = ODD_FILES[name][1]
    for read in (image_size, load_image, lambda path: load_image(path, 64)):
        with pytest.raises(ImageError) as caught:
            read(odd_folder / name)
        assert str(caught.value).startswith(f"{odd_folder / name}: ")
        assert reason in caught.value.reason
        assert isinstance(caught.value, ValueError)


@pytest.mark.usefixtures("alarm")
def test_the_catalogue_names_each_odd_file_once_with_its_size_or_its_reason(odd_folder):
    good, rejected = load_catalog("folder", odd_folder)
    assert sorted(good["image_id"]) == sorted(GOOD)
    assert sorted(rejected["image_id"]) == sorted(BAD)
    for row in good.itertuples():
        assert (row.pixel_width, row.pixel_height) == SIZES[row.image_id]
    for image_id, reason in zip(rejected["image_id"], rejected["reason"], strict=True):
        assert ODD_FILES[image_id][1] in reason
        assert str(odd_folder) not in reason


def test_a_photo_that_goes_between_listing_and_reading_is_rejected(tmp_path, monkeypatch):
    for name in ("one.png", "two.png"):
        quarters().save(tmp_path / name)
    find_photos = load.find_photos

    def find_and_lose(*values, **options):
        photos = find_photos(*values, **options)
        (tmp_path / "one.png").unlink()
        return photos

    monkeypatch.setattr(load, "find_photos", find_and_lose)
    good, rejected = load_catalog("folder", tmp_path)
    assert good["image_id"].tolist() == ["two.png"]
    assert rejected.to_dict("records") == [
        {"image_id": "one.png", "reason": os.strerror(errno.ENOENT)}
    ]


@pytest.mark.parametrize("read", [image_size, load_image, content_hash])
def test_a_missing_file_is_an_image_error(tmp_path, read):
    with pytest.raises(ImageError, match=r"gone\.jpg: No such file"):
        read(tmp_path / "gone.jpg")


def test_a_file_that_changes_while_it_is_read_is_refused_and_not_read_beyond_its_size(
    tmp_path, monkeypatch
):
    """As one that is still downloaded, or a log: were it read to its end, there need not be one."""
    path, fstat = tmp_path / "photo.png", os.fstat
    quarters().save(path)
    whole = path.stat().st_size

    def told_and_then_changed(descriptor):
        status = fstat(descriptor)
        os.truncate(path, length)
        return status

    monkeypatch.setattr(os, "fstat", told_and_then_changed)
    tracemalloc.start()
    for length in (whole - 1, whole + 1, 100_000_000):  # noqa: B007 - `told_and_then_changed` uses it
        quarters().save(path)
        with pytest.raises(ImageError, match="changed while it was read; try again"):
            read_bytes(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    length = whole
    quarters().save(path)
    assert len(read_bytes(path)) == whole


def test_a_file_of_as_many_bytes_as_are_read_is_read_and_one_of_one_more_is_not(
    tmp_path, monkeypatch
):
    path = tmp_path / "photo.png"
    quarters().save(path)
    whole = path.stat().st_size
    monkeypatch.setattr(images, "MAX_BYTES", whole)
    assert image_size(path) == (64, 48)
    os.truncate(path, whole + 1)
    with pytest.raises(ImageError, match=f": {whole + 1} bytes; at most {whole} are read"):
        image_size(path)


def test_half_transparent_is_half_white():
    # One fifth of 100 and four fifths of 255.
    np.testing.assert_allclose(
        load_image(saved(Image.new("LA", (8, 8), (100, 51)), "PNG")), 224, atol=1
    )


@pytest.mark.parametrize(
    ("value", "expected"), [(200, 0), (2_570, 10), (32_768, 127), (65_535, 255)]
)
def test_sixteen_bits_are_scaled_alike_in_dark_and_bright_photos(value, expected):
    """A very dark photo of sixteen bits is black: its values are not taken for those of eight bits."""
    grey = np.full((8, 8), value, np.uint16)
    for data in (saved(Image.fromarray(grey), "PNG"), tiff(8, 8, grey.tobytes(), bits=(16,))):
        np.testing.assert_allclose(load_image(data), expected, atol=1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_photo_cut_off_anywhere_never_raises_anything_else(kind):
    """Either it is refused as a bad image, or, where only the trailer is gone, it has its whole
    size.
    """
    whole = saved(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)), kind
    )
    for length in range(1, len(whole), len(whole) // 40):
        try:
            pixels = load_image(whole[:length])
        except ImageError:
            continue
        assert length > 0.9 * len(whole)
        assert pixels.shape == (30, 40, 3)
    assert load_image(whole).shape == (30, 40, 3)


# --- At little cost
# ----------------------------------------------------------------------------------------------


def zeros(count):
    """So many of them, deflated; a thousandth of their size."""
    packer = zlib.compressobj(9)
    return (
        b"".join(
            packer.compress(bytes(min(10**7, count - done))) for done in range(0, count, 10**7)
        )
        + packer.flush()
    )


def tags(count):
    """An EXIF block, whose tags all name the whole block: kept, each of them, they fill memory."""
    length = 8 + 2 + 12 * count + 4
    entries = b"".join(struct.pack("<HHII", 1000 + n, 1, length - 1, 1) for n in range(count))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4)


def parts(block):
    """An EXIF block in parts of a JPEG."""
    pieces = [b"Exif\0\0" + block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)


def webp(width, height):
    """An extended WebP whose canvas is large, and whose picture is not."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides + saved(smooth(8, 8), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bombs():
    """Files that would take all memory, or minutes, or are good and have such a thing in them."""
    photo = saved(Image.new("RGB", (1000, 1000)), "JPEG", progressive=True)
    last, small, block = (
        photo[photo.rindex(b"\xff\xda") : -2],
        saved(smooth(8, 8), "JPEG"),
        tags(30_000),
    )
    flat, hidden = zeros(14_000**2), tags(20_000)
    large = png(30_000, 30_000, zeros(30_000 * 3_751), bits=1)
    profile, text = b"a\0\0" + flat, b"a\0\1\0\0\0" + flat
    raw = "\n\nexif\n" + str(len(hidden)) + "\n" + hidden.hex()
    here = 8 + 2 + 12 * (10 + 30_000) + 4
    files = {
        "a text": (png(8, 8, before=chunk(b"zTXt", profile)), "too large"),
        "an international text": (png(8, 8, before=chunk(b"iTXt", text)), "too large"),
        "a profile": (png(8, 8, before=chunk(b"iCCP", profile)), "too large"),
        "many texts": (png(8, 8, before=100 * chunk(b"zTXt", b"a\0\0" + zeros(10**6))), "text"),
        "a text behind": (
            png(8, 8, zlib.compress(bytes(72)), after=chunk(b"zTXt", profile)),
            "too large",
        ),
        "a canvas": (webp(16_383, 16_383), "cannot be decoded"),
        "a large picture": (
            saved(Image.new("RGB", (8_000, 8_000)), "WEBP", lossless=True, method=0),
            "8,000 x 8,000",
        ),
        "a screen": (gif((65_535, 65_535), (8, 8)), "bomb"),
        "a picture on a screen": (gif((8, 8), (65_535, 65_535)), "bomb"),
        "a comment in bytes": (
            gif((8, 8), (8, 8), b"!\xfe" + b"\1a" * 300_000 + b"\0"),
            "too many parts",
        ),
        "comments": (gif((8, 8), (8, 8), b"!\xfe\1a\0" * 300_000), "too many parts"),
        "a tile": (tiff(16, 16, flat, compression=8, tile=14_000), "14,000 x 14,000"),
        "a strip": (tiff(16, 16, flat, compression=8, strip=2**31), ""),
        "tags": (tiff(16, 16, bytes(256), more=[(1000 + n, here, 1) for n in range(30_000)]), ""),
        "a picture": (large, "bomb"),
        "a picture in an icon": (icon(large), "bomb"),
        "a bitmap": (bmp(2**31 - 1, 2**31 - 1), "bomb"),
        "passes": (photo[:-2] + 3_000 * last + photo[-2:], "more passes or parts"),
        "parts": (
            small[:2] + 50_000 * b"\xff\xe1\0\x0aExif\0\0ab" + small[2:],
            "more passes or parts",
        ),
        "tags in a JPEG": (small[:2] + parts(block) + small[2:], ""),
        "tags in a PNG": (png(8, 8, zlib.compress(bytes(72)), before=chunk(b"eXIf", block)), ""),
        "tags in a text": (
            png(
                8,
                8,
                zlib.compress(bytes(72)),
                before=chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw.encode())),
            ),
            "",
        ),
        "tags in a WebP": (saved(smooth(8, 8), "WEBP", exif=b"Exif\0\0" + block), ""),
    }
    if AVIF:
        none = block[:8] + bytes(len(block) - 8)
        files["tags in an AVIF"] = (saved(smooth(8, 8), "AVIF", exif=none).replace(none, block), "")
    return files


def templates():
    """Small photos of every kind, three in four of them JPEG, PNG and WebP."""
    photo, exif = smooth(48, 36), Image.Exif()
    exif[ORIENTATION], exif[0x010F] = 6, "a camera"
    clear = photo.copy()
    clear.putalpha(smooth(48, 36, 1).convert("L"))
    more = {"save_all": True, "append_images": [smooth(48, 36, 1)]}
    usual = [
        jpeg(photo),
        jpeg(photo, progressive=True, exif=exif),
        jpeg(photo, restart_marker_blocks=2),
    ]
    usual += [
        jpeg(photo.convert("L")),
        jpeg(photo.convert("CMYK")),
        arithmetic_jpeg(),
        with_thumbnail(),
    ]
    usual += [
        saved(photo, "PNG"),
        saved(clear, "PNG", exif=exif),
        saved(photo.convert("P"), "PNG", transparency=3),
    ]
    usual += [
        interlaced_png(),
        saved(photo.convert("1"), "PNG"),
        saved(Image.fromarray(DEEP), "PNG"),
        saved(photo, "PNG", **more),
    ]
    usual += [
        saved(photo, "WEBP", exif=exif),
        saved(clear, "WEBP"),
        saved(photo, "WEBP", lossless=True),
        saved(photo, "WEBP", **more),
    ]
    other = [
        saved(photo, "GIF", **more),
        saved(photo, "BMP"),
        saved(photo.convert("P"), "BMP"),
        saved(photo, "MPO", save_all=True, append_images=[smooth(48, 36, 2)]),
    ]
    other += [
        saved(photo, "TIFF", compression=c, **more)
        for c in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg")
    ]
    other += [
        saved(photo, "ICO", sizes=[(48, 36)]),
        saved(photo, "ICO", sizes=[(32, 24)], bitmap_format="bmp"),
    ]
    other += [tiff(8, 8, zlib.compress(bytes(range(256)) * 16), compression=8, tile=64)]
    other += [saved(photo, "AVIF", exif=exif), saved(clear, "AVIF")] if AVIF else []
    return usual, other


LIES = [
    b"\0",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff",
    b"\xff\x7f",
    b"\0\1",
    b"\1\0",
    b"\x3f\xff",
    bytes(4),
    b"\xff" * 4,
]
LIES += [
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\xff\xff",
    b"\xff\xff\0\0",
    b"\0\0\x27\x10",
    b"\x10\x27\0\0",
]


def mutated(data, random):
    """One change or two: bits turned, a cut, a piece gone, twice, or elsewhere, or a length that
    lies.
    """
    data = bytearray(data)
    for _ in range(random.integers(1, 3)):
        first, last = sorted(int(at) for at in random.integers(0, len(data) + 1, 2))
        near = int(random.integers(0, 100 if random.random() < 0.5 else len(data) + 1))
        piece = data[first : min(last, first + 500)]
        match random.integers(0, 6):
            case 0:
                for at in random.integers(0, max(1, len(data)), random.integers(1, 9)):
                    data[at : at + 1] = bytes(
                        value ^ (1 << int(random.integers(0, 8))) for value in data[at : at + 1]
                    )
            case 1:
                del data[last:]
            case 2:
                del data[first : first + len(piece)]
            case 3:
                data[last:last] = piece * int(random.integers(1, 20))
            case 4:
                data[near : near + len(piece)], data[first : first + len(piece)] = (
                    piece,
                    data[near : near + len(piece)],
                )
            case 5:
                lie = LIES[random.integers(0, len(LIES))]
                data[near : near + len(lie)] = lie
    return mended(data) if random.random() < 0.7 else bytes(data)


def mended(data):
    """A PNG with the right checksums, so that what is wrong comes to be read; anything else as it
    is.
    """
    place = 8
    while data.startswith(b"\x89PNG") and place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(data)


def tried(data):
    """How a file ends: with its pixels, a reason, or what must not be; and the seconds of a
    processor that it took.
    """
    start = time.process_time()
    try:
        _, size = decode(data, data, 32)
    except ImageError as error:
        size = error.reason
    try:
        pixels = load_image(data)
        end = "pixels" if size == pixels.shape[1::-1] else f"pixels {pixels.shape}, and {size}"
    except ImageError as error:
        end = error.reason if isinstance(size, str) else f"{size}, and {error}"
    return end, (time.process_time() - start) / 2


def main():
    """Answer questions, line by line, in a process that did nothing else before."""
    unit = 1 if sys.platform == "darwin" else 1024
    resource.setrlimit(resource.RLIMIT_CPU, (1200, 1200))  # what goes on forever ends
    # What takes all memory takes no more than 4 GB of it, and is found out.
    if sys.platform == "linux":
        most = psutil.Process().memory_info().vms + 4_000_000_000
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    usual, other = templates()
    for line in sys.stdin:
        job = json.loads(line)
        if "seed" in job:
            random, ends, slowest, wrong = (
                np.random.default_rng(job["seed"]),
                collections.Counter(),
                0,
                [],
            )
            for number in range(job["count"]):
                kind = usual if number % 4 else other
                data = mutated(kind[random.integers(0, len(kind))], random)
                try:
                    end, seconds = tried(data)
                except BaseException as error:
                    end, seconds = f"{type(error).__name__}: {error}", 0
                known = end == "pixels" or "decoded" in end or UNREAD in end or "passes" in end
                ends["pixels" if end == "pixels" else "refused"] += 1
                slowest = max(slowest, seconds)
                if not known or seconds > 2:
                    wrong.append([end, seconds, base64.b64encode(data).decode()])
            answer = {"ends": ends, "slowest": slowest, "wrong": wrong}
        elif "folder" in job:
            answer = {
                path.name: tried(path.read_bytes())
                for path in sorted(Path(job["folder"]).iterdir())
            }
        else:
            os.seteuid(65_534)
            answer = {}
            for path in job["paths"]:
                try:
                    answer[path] = len(read_bytes(path))
                except ImageError as error:
                    answer[path] = error.reason
            os.seteuid(0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - start
        print(json.dumps({"answer": answer, "peak": peak}), flush=True)


@pytest.fixture(scope="module")
def ask():
    """A question to one process for all, as TensorFlow takes long to import."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def answered(**job):
        print(json.dumps(job), file=process.stdin, flush=True)
        line = process.stdout.readline()
        assert line, f"the process ended with {process.wait()}"
        return json.loads(line)

    yield answered
    process.stdin.close()
    process.stdout.close()
    process.kill()  # it has nothing to tidy up, for which TensorFlow takes seconds
    process.wait()


@pytest.mark.parametrize(
    ("seed", "count"),
    [(0, 300), *(pytest.param(seed, 5_000, marks=pytest.mark.soak) for seed in (1, 2))],
)
def test_any_damage_to_a_photo_leaves_pixels_or_a_reason_and_takes_little(ask, seed, count):
    told = ask(seed=seed, count=count)
    assert told["answer"]["wrong"] == []
    assert told["answer"]["slowest"] < 2
    assert told["peak"] < 1_000_000_000
    assert min(told["answer"]["ends"].values()) > count / 10  # there are some of both


def test_a_file_that_was_made_to_take_memory_or_time_takes_neither(ask, tmp_path):
    files = bombs()
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
        assert len(data) < 5_000_000
    told = ask(folder=str(tmp_path))
    for name, (_, reason) in files.items():
        end, seconds = told["answer"][name]
        assert reason in end, name
        assert seconds < 2, name
        assert reason == "" or end != "pixels", name
    assert told["peak"] < 1_000_000_000


def test_a_file_that_may_not_be_read_says_so(request):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        open_one, closed = os.path.join(folder, "open.png"), os.path.join(folder, "closed.png")
        for path, mode in ((open_one, 0o644), (closed, 0)):
            quarters().save(path)
            os.chmod(path, mode)
        if os.geteuid() == 0:  # to whom nothing is closed
            answer = request.getfixturevalue("ask")(paths=[open_one, closed])["answer"]
            assert answer == {open_one: os.path.getsize(open_one), closed: "Permission denied"}
        else:
            with pytest.raises(ImageError, match=r"closed\.png: Permission denied"):
                load_image(closed)


if __name__ == "__main__":
    main()
