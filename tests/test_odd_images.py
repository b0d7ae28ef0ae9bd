"""Odd, broken and huge files, as people have them: each is the right pixels or a reason."""

import io
import os
import struct
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from lookalike.images import ImageError, load_image, photo_facts
from lookalike.sources import load_catalog

# Pillow warns of damaged EXIF, damaged on purpose, and of large pictures, where pytest has undone
# our own filter.
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning"
)
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
CYAN, GREY, ROSE = (0, 255, 255), (128, 128, 128), (220, 40, 60)
FOUR = (RED, GREEN, BLUE, WHITE)
UNREAD = "not an image, or in a format that is not read"


# --- Pictures, and files of them
# -------------------------------------------------------------------------------------------


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


def saved(picture, kind, **options):
    if kind in ("JPEG", "MPO"):
        options = {"quality": 95, "subsampling": 0} | options
    stream = io.BytesIO()
    # A copy: saving as JPEG leaves its settings in the picture.
    picture.copy().save(stream, kind, **options)
    return stream.getvalue()


def heic(picture, brand=b"heic", **options):
    """A HEIC file, written in a process of its own: reader and writer each bring a libheif."""
    write = f"""
import pillow_heif, sys
from PIL import Image

pillow_heif.register_heif_opener()
Image.open(sys.stdin.buffer).save(sys.stdout.buffer, "HEIF", quality=100, chroma=444, **{options})
"""
    command = [sys.executable, "-c", write]
    data = subprocess.run(command, input=saved(picture, "PNG"), stdout=-1, check=True).stdout
    return data[:8] + brand + data[12:]


def turned(write, orientation, **options):
    """`quarters` in a file, stored as a camera does that was held so; where the first row and
    column are seen is from the EXIF standard.
    """
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
    exif[0x0112] = orientation
    return write(Image.fromarray(stored), exif=exif.tobytes(), **options)


def black(width, height):
    """A PNG of one bit a pixel: whole, and in a thousandth of the bytes that its pixels take."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height))
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT" + packed + packer.flush(), b"IEND"):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data


jpeg, png, webp, tiff = (partial(saved, kind=kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF"))


# --- Colour profiles
# --------------------------------------------------------------------------------------------

D50, D65 = (0.3457, 0.3585), (0.3127, 0.3290)
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
# x and y of red, green, blue and white, the light of a value, and what `ROSE` of theirs is in sRGB.
SPACES = {
    "Display P3": (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65), 2.4, (240, 0, 52)),
    "Adobe RGB": (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65), 2.2, (255, 35, 58)),
    "ProPhoto": (((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), D50), 1.8, (255, 0, 77)),
}


def to_xyz(points):
    """The matrix from light of these primaries to XYZ, adapted to D50 as profiles have it."""
    *primaries, white, d50 = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in (*points, D50)]
    matrix = np.stack(primaries, axis=1)
    matrix = matrix * np.linalg.solve(matrix, white)
    adapted = np.diag((BRADFORD @ d50) / (BRADFORD @ white))
    return np.linalg.inv(BRADFORD) @ adapted @ BRADFORD @ matrix


def fixed(values):
    return struct.pack(f">{len(values)}i", *(round(65_536 * value) for value in values))


def curve(power):
    """Light by value; 2.4 is that of sRGB, with its straight beginning."""
    value = np.linspace(0, 1, 1024)
    srgb = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    light = srgb if power == 2.4 else value**power
    return b"curv" + struct.pack(">II", 0, 1024) + (65_535 * light).astype(">u2").tobytes()


def icc(name, tags, kind=b"mntrRGB XYZ "):
    """A colour profile, of version 2, that holds these tags."""
    words = name.encode() + b"\0"
    tags = {b"desc": b"desc" + struct.pack(">II", 0, len(words)) + words + bytes(78)} | tags
    entries, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        entries += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytes(4) + b"\2\x10\0\0" + kind + bytes(12) + b"acsp" + bytes(28)
    rest = (head + fixed((0.9642, 1, 0.8249))).ljust(124, b"\0") + entries + body
    return struct.pack(">I", len(rest) + 4) + rest


def rgb_profile(space):
    points, power, _ = SPACES[space]
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed((0.9642, 1, 0.8249))}
    for letter, column in zip((b"r", b"g", b"b"), to_xyz(points).T, strict=True):
        tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + fixed(column)
        tags[letter + b"TRC"] = curve(power)
    return icc(space, tags)


# A press where black is printed, and the other inks are not to be seen.
INKS = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed((1, 0, 0, 0, 1, 0, 0, 0, 1))
INKS += 4 * bytes(range(256)) + 8 * b"\xff\x80\x80\x00\x80\x80" + 3 * bytes(range(256))
INKS = icc("inks", {b"A2B0": INKS}, b"prtrCMYKLab ")
LINEAR_GREY = icc("grey", {b"kTRC": curve(1)}, b"mntrGRAYXYZ ")
P3 = rgb_profile("Display P3")


# --- One table of them all
# ---------------------------------------------------------------------------------------

# Each file, and what it shows - one colour, its left and right half, or its quarters - or a word of
# why it is not read.
PALETTE = halves(0, 1, "P")
PALETTE.putpalette([*GREEN, *RED])
ROSES = Image.new("P", (64, 48))
ROSES.putpalette(ROSE)
# 128 * 257.
DEEP = np.where(np.arange(64) < 32, 32_896, 65_535)[None].repeat(48, axis=0).astype(np.uint16)
FRAMES = {"save_all": True, "append_images": [halves(GREEN, GREEN)] * 3}
TWO = {"save_all": True, "append_images": [quarters()]}
INK = halves((0, 255, 255, 0), (255, 0, 0, 0), "CMYK")
CLEAR = halves((*GREEN, 0), (*RED, 255), "RGBA")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
NO_EXIF = b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40)
IN_P3 = halves((*ROSE, 0), (*ROSE, 255), "RGBA")
ODD_FILES = {f"orientation {n}.jpg": (turned(jpeg, n), FOUR) for n in range(1, 10)}
ODD_FILES |= {
    "turned.png": (turned(png, 6), FOUR),
    "turned.webp": (turned(webp, 8, lossless=True), FOUR),
    "turned.tif": (turned(tiff, 5), FOUR),
    "turned and packed.tif": (turned(tiff, 7, compression="tiff_lzw"), FOUR),
    "turned.heic": (turned(heic, 6), FOUR),
    # JPEG
    "UPPER.JPG": (jpeg(halves(GREEN, BLUE)), (GREEN, BLUE)),
    "no suffix": (jpeg(halves(GREEN, BLUE)), (GREEN, BLUE)),
    "png.jpg": (png(halves(GREEN, BLUE)), (GREEN, BLUE)),
    "progressive.jpg": (jpeg(halves(BLUE, RED), progressive=True), (BLUE, RED)),
    "grey.jpg": (jpeg(halves(0, 128, "L")), (BLACK, GREY)),
    "cmyk.jpg": (jpeg(INK), (RED, CYAN)),
    "broken exif.jpg": (jpeg(halves(RED, BLUE), exif=NO_EXIF), (RED, BLUE)),
    "two.mpo": (saved(halves(RED, BLUE), "MPO", **TWO), (RED, BLUE)),
    # PNG, GIF, WebP
    "transparent.png": (png(CLEAR), (WHITE, RED)),
    "grey and alpha.png": (png(halves((98, 0), (128, 255), "LA")), (WHITE, GREY)),
    "palette.png": (png(PALETTE), (GREEN, RED)),
    "palette, one clear.png": (png(PALETTE, transparency=0), (WHITE, RED)),
    "palette, 40 %.png": (png(PALETTE, transparency=b"\xff\x66"), (GREEN, (255, 153, 153))),
    "one colour clear.png": (png(halves(GREEN, RED), transparency=GREEN), (WHITE, RED)),
    "grey16.png": (png(Image.fromarray(DEEP)), (GREY, WHITE)),
    "grey16.tif": (tiff(Image.fromarray(DEEP)), (GREY, WHITE)),
    "one bit.png": (png(halves(0, 1, "1")), (BLACK, WHITE)),
    "moving.png": (png(halves(RED, BLUE), **FRAMES), (RED, BLUE)),
    "moving.gif": (saved(halves(RED, BLUE), "GIF", **FRAMES), (RED, BLUE)),
    "clear.gif": (saved(PALETTE, "GIF", transparency=0), (WHITE, RED)),
    "moving.webp": (webp(halves(RED, BLUE), lossless=True, **FRAMES), (RED, BLUE)),
    "clear.webp": (webp(CLEAR, lossless=True), (WHITE, RED)),
    # TIFF, BMP, ICO, HEIC
    "pages.tif": (tiff(halves(RED, BLUE), **FRAMES), (RED, BLUE)),
    "jpeg.tif": (tiff(halves(RED, BLUE), compression="jpeg", quality=95), (RED, BLUE)),
    "cmyk.tif": (tiff(INK), (RED, CYAN)),
    "photo.bmp": (saved(quarters(), "BMP"), FOUR),
    "photo.ico": (saved(quarters(), "ICO", sizes=[(64, 48)]), FOUR),
    "photo.heif": (heic(quarters(), b"mif1"), FOUR),
    # Colour profiles; those that are damaged, or for other pixels, count as none
    "clear P3.png": (png(IN_P3, icc_profile=P3), (WHITE, SPACES["Display P3"][2])),
    "iphone.heic": (heic(halves(ROSE, ROSE), icc_profile=P3), (SPACES["Display P3"][2],)),
    "grey profile.jpg": (jpeg(halves(0, 100, "L"), icc_profile=LINEAR_GREY), (BLACK, (168,) * 3)),
    "cmyk profile.jpg": (jpeg(INK, icc_profile=INKS), (WHITE,)),
    "damaged profile.png": (png(quarters(), icc_profile=P3[:200]), FOUR),
    "no profile.jpg": (jpeg(quarters(), icc_profile=b"Nothing but words."), FOUR),
    "profile of inks.png": (png(quarters(), icc_profile=INKS), FOUR),
    "grey in colours.jpg": (jpeg(halves(0, 128, "L"), icc_profile=P3), (BLACK, GREY)),
    # No photos, and photos that are not read
    "100 megapixels.png": (black(10_000, 10_000), "10,000 x 10,000 pixels; at most 89,478,485"),
    "bomb of 300 megapixels.png": (black(20_000, 15_000), "300000000 pixels"),
    "no width.png": (black(0, 5), UNREAD),
    "half.jpg": (jpeg(NOISE)[:3_000], "truncated"),
    "half.heic": (heic(NOISE)[:3_000], "cannot be decoded"),
    "empty.jpg": (b"", "empty file"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404: the photo is gone</body></html>", UNREAD),
    "film.jpg": (b"\0\0\0\x18ftypmp42" + bytes(200), UNREAD),
    "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", UNREAD),
    "32 bits.tif": (tiff(Image.new("F", (64, 48), 0.5)), "floating-point pixels"),
    "folder.jpg": (Path.mkdir, "a folder, not a file"),
    "pipe.jpg": (os.mkfifo, "not a regular file"),
    "loop.jpg": (lambda path: path.symlink_to(path), "symbolic links"),
    "gone.jpg": (lambda path: path.symlink_to("nowhere"), "No such file"),
}
for space, (_, _, rose) in SPACES.items():
    ODD_FILES[f"{space}.png"] = (png(ROSES, icc_profile=rgb_profile(space)), (rose,))
if features.check("avif"):
    best = {"quality": 100, "subsampling": "4:4:4"}
    ODD_FILES["turned.avif"] = (turned(partial(saved, kind="AVIF"), 8, **best), FOUR)
GOOD = [name for name, (_, expected) in ODD_FILES.items() if not isinstance(expected, str)]
BAD = [name for name, (_, expected) in ODD_FILES.items() if isinstance(expected, str)]


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    for name, (content, _) in ODD_FILES.items():
        make = Path.write_bytes if isinstance(content, bytes) else lambda path, make: make(path)
        make(folder / name, content)
    return folder


def assert_shows(pixels, colours):
    """One colour, two beside each other, or four; near the seams nothing is said, as JPEG blurs
    them.
    """
    rows = np.array_split(pixels, (len(colours) + 1) // 2)
    parts = [part for row in rows for part in np.array_split(row, min(len(colours), 2), axis=1)]
    for part, colour in zip(parts, colours, strict=True):
        inner = part[2:-2, 2:-2]
        np.testing.assert_allclose(inner, np.broadcast_to(colour, inner.shape), atol=6)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_odd_file_has_the_right_pixels_at_its_own_size_and_another(odd_folder, name):
    path = odd_folder / name
    assert load_image(path).shape == (48, 64, 3)
    assert photo_facts(path)["pixel_width"] == 64
    facts = photo_facts(path)
    assert (facts["pixel_width"], facts["pixel_height"]) == (64, 48)
    for pixels in (load_image(path), load_image(path, 16)):  # of a JPEG, decoded at a half
        assert pixels.dtype == np.uint8
        assert_shows(pixels, ODD_FILES[name][1])


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("read", [photo_facts, load_image, lambda path: load_image(path, 64)])
def test_a_bad_odd_file_raises_an_error_that_names_it(odd_folder, name, read):
    with pytest.raises(ImageError) as caught:
        read(odd_folder / name)
    assert str(caught.value) == f"{odd_folder / name}: {caught.value.reason}"
    assert ODD_FILES[name][1] in caught.value.reason


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what has no labels
def test_the_catalogue_names_each_odd_file_once_with_its_size_or_its_reason(
    odd_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    good, rejected = load_catalog("folder", odd_folder)
    assert sorted(good["image_id"]) == sorted(GOOD)
    assert sorted(rejected["image_id"]) == sorted({*BAD} - {"folder.jpg"})
    assert set(zip(good["pixel_width"], good["pixel_height"], strict=True)) == {(64, 48)}
    for image_id, reason in zip(rejected["image_id"], rejected["reason"], strict=True):
        assert ODD_FILES[image_id][1] in reason
        assert str(odd_folder) not in reason


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_another_colour_space_is_brought_to_srgb_as_little_cms_does(space, mode):
    profile = rgb_profile(space)
    data = png(NOISE.convert(mode), icc_profile=profile)
    srgb = ImageCms.createProfile("sRGB")
    expected = ImageCms.profileToProfile(NOISE, io.BytesIO(profile), srgb)
    np.testing.assert_array_equal(load_image(data), np.asarray(expected))
    assert (load_image(data) != np.asarray(NOISE)).any()


def test_what_says_that_it_is_srgb_is_left_as_it_is():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (png(NOISE, icc_profile=profile), png(NOISE)):
        np.testing.assert_array_equal(load_image(data), np.asarray(NOISE))


def test_half_transparent_is_half_white():
    data = png(Image.new("LA", (8, 8), (100, 51)))
    np.testing.assert_allclose(load_image(data), 0.2 * 100 + 0.8 * 255, atol=1)


@pytest.mark.parametrize("write", [png, tiff])
def test_sixteen_bits_are_scaled_alike_in_dark_and_bright_photos(write):
    """A very dark photo is black: its values are not taken for those of eight bits."""
    for value in (100, 2_570, 32_896, 65_535):
        grey = Image.fromarray(np.full((8, 8), value, np.uint16))
        np.testing.assert_array_equal(load_image(write(grey)), value // 257)


def told_by_a_child(before, *files):
    """The reasons of files, and by how many bytes a process grew that did nothing else."""
    script = f"""
import resource, sys
{before}
from lookalike.images import ImageError, load_image

start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load_image(path, 64)
        print("read")
    except ImageError as error:
        print(error.reason)
unit = 1 if sys.platform == "darwin" else 1024
print(unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start))
"""
    command = [sys.executable, "-c", script, *files]
    *reasons, grown = subprocess.check_output(command, text=True).splitlines()
    return reasons, int(grown)


def test_what_is_too_large_is_refused_before_it_takes_memory(odd_folder):
    names = ["100 megapixels.png", "bomb of 300 megapixels.png"]
    reasons, grown = told_by_a_child("", *(odd_folder / name for name in names))
    for name, reason in zip(names, reasons, strict=True):
        assert ODD_FILES[name][1] in reason
    assert grown < 30_000_000


def test_without_pi_heif_a_heic_says_what_to_install(tmp_path):
    brands = "heic heix heim heis hevc hevx mif1 msf1 avif"
    files = [tmp_path / f"{brand}.jpg" for brand in brands.split()]
    for file in files:
        file.write_bytes(b"\0\0\0\x18ftyp" + file.stem.encode() + bytes(200))
    reasons, _ = told_by_a_child("sys.modules['pi_heif'] = None", *files)
    assert ["pip install pi-heif" in reason for reason in reasons] == [True] * 8 + [False]


@pytest.mark.parametrize("count", [400, pytest.param(5_000, marks=pytest.mark.soak)])
def test_any_damage_to_a_photo_leaves_pixels_or_a_reason(count):
    """Bytes are changed, or the end is cut off."""
    random, n_read = np.random.default_rng(0), 0
    for number in range(count):
        data = bytearray(ODD_FILES[GOOD[number % len(GOOD)]][0])
        for place in random.integers(0, len(data), random.integers(0, 9)):
            data[place] = random.integers(0, 256)
        length = random.integers(0, len(data)) if random.random() < 0.5 else len(data)
        try:
            assert load_image(bytes(data[:length]), 32).shape == (32, 32, 3)
            n_read += 1
        except ImageError as error:
            assert error.reason
    assert 0.1 < n_read / count < 0.9
