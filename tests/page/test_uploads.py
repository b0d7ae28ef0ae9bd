import base64
import io
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from conftest import peak_of
from lookalike.copies.alignment import detect_keypoints
from lookalike.images import ImageError, load_image
from lookalike.page.uploads import (
    MAX_BYTES,
    MAX_GIF,
    MAX_PIXELS,
    UploadError,
    check_upload,
    decoded,
    refuse_large,
    upload_bytes,
)
from test_odd_images import heic

# Of damaged EXIF, damaged on purpose; and of large pictures, where pytest has undone our own
# filter.
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning"
)
AVIF = features.check("avif")
SENTENCES = {
    "none": r"No photo yet\. Choose one, paste one, or take one with the camera\.",
    "no photo": r"This is no photo\. Choose an image file, paste one, or take one with the camera\.",
    "broken": r"The photo did not arrive whole\. Send it again\.",
    "large": r"This file has [\d,]+ bytes; at most 10,000,000 \(10 MB\) are read\. Save it smaller\.",
    "large GIF": r"This GIF has [\d,]+ bytes; at most 1,000,000 are read, .+",
    "empty": r"This file is empty\. Choose another\.",
    "not an image": r"This file is not an image, or in a format that is not read\. Choose a [\w, ]+\.",
    "damaged": r"This photo is damaged: it cannot be read to its end\. Save or copy it anew, or choose another\.",
    "bomb": r"This file of [\d,]+ bytes claims to be [\w, ]+: too much memory for so few bytes\. .+",
    "megapixels": r"This photo has [\d,]+ x [\d,]+ pixels, [\d,]+ megapixels; at most 40 are read\. Save it smaller\.",
    "animation": r"This is an animation\. Save one of its pictures, and send that\.",
}


def refusal(function, *values):
    """The name of the one sentence, of those above, that a photo is refused with."""
    with pytest.raises(UploadError) as caught:
        function(*values)
    (name,) = [
        name for name, sentence in SENTENCES.items() if re.fullmatch(sentence, str(caught.value))
    ]
    return name


def taken(data):
    """The pixels of an upload, by the way that a service goes."""
    check_upload(data)
    return decoded(lambda: load_image(data))


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


def png(width, height, *, before=b"", after=b"", rows=None):
    """A PNG of black pixels, one bit each, with other chunks before and after them."""
    packer, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    packed = (
        b"".join(packer.compress(row) for _ in range(height if rows is None else rows))
        + packer.flush()
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + before
        + chunk(b"IDAT", packed)
        + after
        + chunk(b"IEND", b"")
    )


def bmp(width, height, body=b""):
    return (
        b"BM"
        + struct.pack("<IHHI", 54 + len(body), 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
        + body
    )


def gif(screen, frame):
    """A GIF whose screen and whose only picture say how large they are; of pixels it has none."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00;"


def tiff(width, height, packed, *, tile=None):
    """A grey TIFF, deflated, in one strip or in tiles."""
    longs = {256: width, 257: height, 277: 1, 258: 8, 259: 8, 262: 1}
    longs |= (
        {322: tile[0], 323: tile[1], 324: 0, 325: len(packed)}
        if tile
        else {273: 0, 278: height, 279: len(packed)}
    )
    place = 8 + 2 + 12 * len(longs) + 4
    longs[324 if tile else 273] = place
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, longs[tag]) for tag in sorted(longs))
    return b"II*\0" + struct.pack("<IH", 8, len(longs)) + entries + struct.pack("<I", 0) + packed


def zeros(count):
    """So many of them, deflated; a thousandth of their size."""
    packer = zlib.compressobj(9)
    return (
        b"".join(
            packer.compress(bytes(min(10**6, count - done))) for done in range(0, count, 10**6)
        )
        + packer.flush()
    )


def webp(width, height):
    """An extended WebP whose canvas is large, and whose picture is not."""
    inner = saved(picture(), "WEBP")[12:]
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def icon(inner):
    """An icon that says 16 x 16 and holds whatever PNG."""
    return (
        struct.pack("<HHH", 0, 1, 1)
        + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
        + inner
    )


def url_of(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# --- Good photos
# -------------------------------------------------------------------------------------------------

EXIF = Image.Exif()
EXIF[0x0112] = 6
GREY16 = Image.fromarray((np.arange(48 * 36, dtype=np.uint16) * 37).reshape(36, 48))
CLEAR = picture().copy()
CLEAR.putalpha(picture(1, mode="L"))
GOOD = {
    "JPEG": saved(picture(), "JPEG"),
    "JPEG, progressive": saved(picture(), "JPEG", progressive=True),
    "JPEG, CMYK": saved(picture(mode="CMYK"), "JPEG"),
    "JPEG, grey": saved(picture(mode="L"), "JPEG"),
    "JPEG, on its side": saved(picture(), "JPEG", exif=EXIF),
    "JPEG, damaged EXIF": saved(
        picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40)
    ),
    "JPEG, with more behind it": saved(picture(), "JPEG") + bytes(range(256)),
    "MPO": saved(picture(), "MPO", save_all=True, append_images=[picture(1)]),
    "PNG": saved(picture(), "PNG"),
    "PNG, 16 bits": saved(GREY16, "PNG"),
    "PNG, palette": saved(picture(mode="P"), "PNG"),
    "PNG, palette and transparency": saved(picture(mode="P"), "PNG", transparency=3),
    "PNG, alpha": saved(CLEAR, "PNG"),
    "PNG, grey and alpha": saved(CLEAR.convert("LA"), "PNG"),
    "PNG, one bit": saved(picture(mode="1"), "PNG"),
    "WebP": saved(picture(), "WEBP"),
    "WebP, lossless": saved(picture(), "WEBP", lossless=True),
    "WebP, alpha": saved(CLEAR, "WEBP"),
    "GIF": saved(picture(), "GIF"),
    "GIF, interlaced": saved(picture(), "GIF", interlace=1),
    "BMP": saved(picture(), "BMP"),
    "BMP, palette": saved(picture(mode="P"), "BMP"),
    "TIFF": saved(picture(), "TIFF"),
    "TIFF, LZW": saved(picture(), "TIFF", compression="tiff_lzw"),
    "TIFF, pages": saved(picture(), "TIFF", save_all=True, append_images=[picture(1), picture(2)]),
    "TIFF, tiles": tiff(8, 8, zlib.compress(bytes(range(256)) * 16), tile=(64, 64)),
    "1 x 1": saved(picture(size=(1, 1)), "PNG"),
    "tall": saved(picture(size=(1, 3000)), "PNG"),
    "wide": saved(picture(size=(3000, 1)), "JPEG"),
    "blank": saved(Image.new("RGB", (300, 200), "white"), "PNG"),
}
# Interlaced: each of Adam7's passes has its own rows; of 8 grey pixels in one row they are 0, 4, 2
# 6, 1 3 5 7.
GOOD["PNG, interlaced"] = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, 8, 0, 0, 0, 1))
    + chunk(b"IDAT", zlib.compress(b"\0\x00" + b"\0\x40" + b"\0\x20\x60" + b"\0\x10\x30\x50\x70"))
    + chunk(b"IEND", b"")
)
GOOD["HEIC"] = heic(picture())
if AVIF:
    GOOD["AVIF"] = saved(picture(), "AVIF")


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_photo_is_taken_as_its_file_is(name, tmp_path):
    file = tmp_path / "photo"
    file.write_bytes(GOOD[name])
    pixels = taken(upload_bytes(url_of(GOOD[name])))
    np.testing.assert_array_equal(pixels, load_image(file))
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)
    for fit in ("resize", "letterbox", "crop"):
        np.testing.assert_array_equal(
            load_image(GOOD[name], 32, fit=fit), load_image(file, 32, fit=fit)
        )


def test_photos_are_what_they_show():
    whole = np.asarray(picture())
    np.testing.assert_array_equal(taken(GOOD["PNG"]), whole)
    np.testing.assert_array_equal(taken(GOOD["WebP, lossless"]), whole)
    np.testing.assert_array_equal(taken(GOOD["TIFF, pages"]), whole)
    assert taken(GOOD["JPEG, on its side"]).shape == (48, 36, 3)
    assert np.abs(taken(GOOD["MPO"]).astype(int) - whole).mean() < 4
    np.testing.assert_array_equal(
        taken(GOOD["PNG, interlaced"])[0, :, 0], [0, 16, 32, 48, 64, 80, 96, 112]
    )


def test_the_preview_in_a_photo_of_two_pictures_is_no_animation():
    with Image.open(io.BytesIO(GOOD["MPO"])) as image:
        assert image.format == "MPO"
        assert image.is_animated  # Pillow's word for it
    check_upload(GOOD["MPO"])


# --- Refused
# -----------------------------------------------------------------------------------------------------

FLAT = zeros(12_000**2)
FRAMES = {"save_all": True, "append_images": [picture(1), picture(2)]}
BAD = {
    "text": (b"Nothing but words.\n" * 50, "not an image"),
    "page": (b"<!DOCTYPE html><html><body>gone</body></html>", "not an image"),
    "script": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not an image"),
    "PDF": (saved(picture(), "PDF"), "not an image"),
    "portable pixels": (saved(picture(), "PPM"), "not an image"),
    "vector": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    "icon": (saved(picture(), "ICO", sizes=[(16, 16)]), "not an image"),
    "icon with a large picture": (icon(png(6000, 6000)), "not an image"),
    "zeros": (bytes(5000), "not an image"),
    "no width": (png(0, 5), "not an image"),
    "empty": (b"", "empty"),
    "one byte": (b"\xff", "not an image"),
    "only a start": (b"\x89PNG\r\n\x1a\n", "not an image"),
    "GIF, moving": (saved(picture(), "GIF", **FRAMES), "animation"),
    "WebP, moving": (saved(picture(), "WEBP", **FRAMES), "animation"),
    "PNG, moving": (saved(picture(), "PNG", **FRAMES), "animation"),
    "PNG, 900 megapixels": (png(30_000, 30_000, rows=1), "bomb"),
    "PNG, 2^62 pixels": (png(2**31 - 1, 2**31 - 1, rows=0), "bomb"),
    "PNG, just too large": (png(8000, 5001), "bomb"),
    "BMP, large": (bmp(9000, 9000), "bomb"),
    "BMP, enormous": (bmp(2**31 - 1, 2**31 - 1), "bomb"),
    "GIF, large": (gif((60_000, 60_000), (8, 8)), "bomb"),
    "GIF, large picture on a small screen": (gif((8, 8), (60_000, 60_000)), "bomb"),
    "GIF, a picture that is a little too large": (gif((8, 8), (8000, 5001)), "bomb"),
    "TIFF, large": (tiff(9000, 9000, b""), "bomb"),
    "TIFF, enormous": (tiff(2**31, 2**31, b""), "bomb"),
    "PNG, a text of 144 MB": (png(8, 8, before=chunk(b"zTXt", b"a\0\0" + FLAT)), "damaged"),
    "PNG, a profile of 144 MB": (png(8, 8, before=chunk(b"iCCP", b"a\0\0" + FLAT)), "damaged"),
    "PNG, a text behind it": (png(8, 8, after=chunk(b"zTXt", b"a\0\0" + FLAT)), "damaged"),
    "PNG, 100 texts": (
        png(8, 8, before=100 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))),
        "damaged",
    ),
    "WebP, larger than its picture": (webp(16_000, 16_000), "damaged"),
    "BMP, shorter than it says": (bmp(600, 600, bytes(100)), "damaged"),
    "GIF, shorter than it says": (gif((600, 600), (600, 600)), "damaged"),
    "TIFF, shorter than it says": (tiff(600, 600, zlib.compress(bytes(100))), "damaged"),
    "PNG, a wrong checksum": (png(600, 600).replace(b"IDAT", b"IDAT\0", 1), "damaged"),
}
for kind, options in {
    "JPEG": {},
    "PNG": {},
    "WEBP": {},
    "GIF": {},
    "TIFF": {"compression": "tiff_lzw"},
}.items():
    data = saved(picture(size=(640, 480)), kind, **options)
    BAD[f"half a {kind}"] = (
        data[: len(data) // 2],
        "not an image" if kind == "TIFF" else "damaged",
    )
if AVIF:
    BAD["AVIF, moving"] = (saved(picture(), "AVIF", **FRAMES), "animation")


@pytest.mark.parametrize("name", BAD)
def test_every_wrong_file_has_its_sentence(name):
    data, sentence = BAD[name]
    assert refusal(taken, data) == sentence


def test_refusing_takes_no_memory(tmp_path):
    """What Pillow holds is seen by the system alone, in a process that has had no need of memory
    before.
    """
    assert peak_of(lambda: [refusal(taken, data) for data, _ in BAD.values()]) < 20e6
    for number, (data, _) in enumerate(BAD.values()):
        (tmp_path / f"{number:03}").write_bytes(data)
    script = """
import pathlib, resource, sys
from lookalike.images import load_image
from lookalike.page.uploads import UploadError, check_upload, decoded

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    data = file.read_bytes()
    try:
        check_upload(data)
        decoded(lambda: load_image(data, 32))
        print(file, "was taken")
    except UploadError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100_000, f"{done.stdout} kB more"


def test_a_header_is_looked_at_and_no_pixel():
    """What is behind the header is nonsense, and only decoding finds that out."""
    whole = png(7000, 5500)
    start = whole.index(b"IDAT") + 4
    nonsense = whole[:start] + bytes(len(whole) - start)
    check_upload(nonsense)
    assert refusal(taken, nonsense) == "damaged"
    assert peak_of(lambda: check_upload(nonsense)) < 1e6


@pytest.mark.parametrize(
    ("width", "height", "padding", "sentence"),
    [
        (8000, 5000, 0, None),
        (1, MAX_PIXELS, 0, None),
        (8000, 5000, 200_000, None),
        (8000, 5001, 0, "bomb"),
        (1, MAX_PIXELS + 1, 0, "bomb"),
        (8000, 5001, 200_000, "megapixels"),
        (13_000, 13_000, 700_000, "megapixels"),
    ],
)
def test_forty_megapixels_are_taken_and_not_one_more(width, height, padding, sentence):
    data = png(width, height, rows=1) + bytes(padding)
    if sentence is None:
        check_upload(data)
    else:
        assert refusal(check_upload, data) == sentence


def test_a_file_of_ten_megabytes_is_taken_and_not_one_byte_more():
    data = GOOD["JPEG"] + bytes(MAX_BYTES - len(GOOD["JPEG"]))
    np.testing.assert_array_equal(taken(upload_bytes(url_of(data))), taken(GOOD["JPEG"]))
    for more in (1, 2, 3, 10**6):
        assert refusal(check_upload, data + bytes(more)) == "large"
        assert refusal(upload_bytes, url_of(data + bytes(more))) == "large"
    refuse_large(MAX_BYTES)
    assert refusal(refuse_large, MAX_BYTES + 1) == "large"


def test_of_a_gif_a_million_bytes_are_taken_and_not_one_more():
    data = GOOD["GIF"] + bytes(MAX_GIF - len(GOOD["GIF"]))
    np.testing.assert_array_equal(taken(data), taken(GOOD["GIF"]))
    assert refusal(check_upload, data + b"0") == "large GIF"


def test_what_is_too_large_is_not_unpacked_first():
    url = "data:image/jpeg;base64," + "A" * 60_000_000
    assert refusal(upload_bytes, url) == "large"
    # The base64 once, and nothing of what is in it.
    assert peak_of(lambda: refusal(upload_bytes, url)) < 61_000_000


@pytest.mark.parametrize(
    "value", [10**400, 1e308, float("inf")], ids=["400 digits", "1e308", "infinity"]
)
def test_any_number_of_bytes_that_is_too_large_is_told_so(value):
    with pytest.raises(UploadError, match=r"at most 10,000,000 \(10 MB\)"):
        refuse_large(value)


# --- What a browser sends
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "none"),
        ("", "none"),
        ([], "none"),
        ({}, "none"),
        (0, "none"),
        (False, "none"),
        (5, "no photo"),
        (True, "no photo"),
        ([1], "no photo"),
        ({"data": "x"}, "no photo"),
        (b"data:image/png;base64,AAAA", "no photo"),
        ("x", "no photo"),
        ("data:", "no photo"),
        ("data:image/png,AAAA", "no photo"),
        ("data:image/png;base64", "no photo"),
        ("https://example.com/photo.jpg", "no photo"),
        ("/etc/passwd", "no photo"),
        ("file:///etc/passwd", "no photo"),
        ("DATA:image/png;base64,AAAA", "no photo"),
        (" data:image/png;base64,AAAA", "no photo"),
        ("data:" + "a" * 300 + ";base64,AAAA", "no photo"),
        ("data:image/png;base64,A", "broken"),
        ("data:image/png;base64,AA", "broken"),
        ("data:image/png;base64,AAA", "broken"),
        ("data:image/png;base64,AA=", "broken"),
        ("data:image/png;base64,=", "broken"),
        ("data:image/png;base64,====", "broken"),
        ("data:image/png;base64,AA=A", "broken"),
        ("data:image/png;base64,AA AA", "broken"),
        ("data:image/png;base64,AAAA\n", "broken"),
        ("data:image/png;base64,AAA%3D", "broken"),
        ("data:image/png;base64,AA-_", "broken"),
        ("data:image/png;base64,ÄÄÄÄ", "broken"),
        ("data:image/png;base64,\ud800AAA", "broken"),
        ("data:image/png;base64,AAAA;base64,AAAA", "broken"),
    ],
)
def test_what_is_no_photo_in_base64_has_its_sentence(value, sentence):
    assert refusal(upload_bytes, value) == sentence


@pytest.mark.parametrize(
    "kind",
    [
        "image/png",
        "image/jpeg",
        "text/html",
        "",
        "image/svg+xml;charset=utf-8",
        "application/octet-stream",
    ],
)
def test_the_kind_that_is_told_is_not_believed(kind):
    np.testing.assert_array_equal(
        taken(upload_bytes(url_of(GOOD["PNG"], kind))), taken(GOOD["PNG"])
    )


@given(st.binary(max_size=200))
def test_bytes_arrive_as_they_were_sent(data):
    assert upload_bytes(url_of(data)) == data


@given(st.text() | st.text(alphabet="A=+/ \n%", max_size=12).map("data:;base64,".__add__))
def test_any_text_is_bytes_or_a_sentence(text):
    try:
        assert isinstance(upload_bytes(text), bytes)
    except UploadError:
        assert refusal(upload_bytes, text) in ("none", "no photo", "broken")


STARTS = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\x40\0\0\0WEBPVP8 ",
    b"BM",
    b"II*\0\x08\0\0\0",
]
STARTS += [b"MM\0*", b"\0\0\0\x18ftypavif", b"\0\0\1\0\1\0"]


def is_decoded_or_refused(data):
    try:
        pixels = taken(data)
    except UploadError:
        assert refusal(taken, data) != "none"
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3


OFTEN = pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.soak)])


@OFTEN
def test_any_bytes_are_a_photo_or_a_sentence(count):
    @settings(max_examples=count, deadline=None)
    @given(st.sampled_from(STARTS), st.binary(max_size=300))
    @example(b"", b"")
    def tried(start, rest):
        is_decoded_or_refused(start + rest)

    tried()


@OFTEN
def test_any_damage_to_a_photo_leaves_a_photo_or_a_sentence(count):
    @settings(max_examples=count, deadline=None)
    @given(
        st.sampled_from([name for name in GOOD if name != "wide"]),
        st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=6),
        st.floats(0, 2),
    )
    def tried(name, changes, end):
        data = bytearray(GOOD[name])
        for place, new in changes:
            at = int(place * len(data))
            data[at : at + len(new)] = new
        is_decoded_or_refused(bytes(data[: int(min(end, 1) * len(data))]))

    tried()


# --- Bytes where a path can be given
# -----------------------------------------------------------------------------


def test_bytes_are_named_in_no_message():
    with pytest.raises(ImageError) as caught:
        load_image(b"Nothing but words.")
    assert str(caught.value) == "the photo: not an image, or in a format that is not read"


@pytest.mark.parametrize("read", [load_image, detect_keypoints])
def test_no_bytes_are_no_photo(read):
    with pytest.raises(ImageError, match="the photo: not an image"):
        read(b"")


def test_an_error_of_another_kind_is_not_taken_for_a_damaged_photo():
    with pytest.raises(ZeroDivisionError):
        decoded(lambda: 1 // 0)
