"""Odd, broken and huge files, as people have them: each is the right pixels or a reason."""

import io
import os
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from lookalike import images
from lookalike.images import ImageError, load_image, photo_facts
from lookalike.sources import load_catalog

# Pillow warns of damaged EXIF, damaged on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
CYAN, GREY, ROSE = (0, 255, 255), (128, 128, 128), (220, 40, 60)
FOUR = (RED, GREEN, BLUE, WHITE)
UNREAD = "not an image, or in a format that is not read"


# --- Pictures, and files of them


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


jpeg, png, webp, tiff = (partial(saved, kind=kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF"))


# --- Colour profiles

# Red, green and blue of Display P3 in XYZ, adapted to D50, as Apple's own profile has them; and
# what `ROSE` of it is in sRGB.
COLUMNS = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}
ROSE_OF_P3 = (240, 0, 52)


def fixed(values):
    return struct.pack(f">{len(values)}i", *(round(65_536 * value) for value in values))


def curve(light):
    """Light, by value from 0 to 1."""
    return b"curv" + struct.pack(">II", 0, len(light)) + (65_535 * light).astype(">u2").tobytes()


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


VALUE = np.linspace(0, 1, 1024)
LIGHT = np.where(VALUE <= 0.04045, VALUE / 12.92, ((VALUE + 0.055) / 1.055) ** 2.4)


def rgb_profile(name):
    """A profile that calls itself so, of Display P3."""
    columns = {tag: b"XYZ " + bytes(4) + fixed(column) for tag, column in COLUMNS.items()}
    return icc(name, columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(LIGHT)))


P3 = rgb_profile("Display P3")
GREY_PROFILE = icc("grey", {b"kTRC": curve(VALUE)}, b"mntrGRAYXYZ ")
# A press where black is printed, and the other inks are not to be seen.
INKS = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed((1, 0, 0, 0, 1, 0, 0, 0, 1))
INKS += 4 * bytes(range(256)) + 8 * b"\xff\x80\x80\x00\x80\x80" + 3 * bytes(range(256))
INKS = icc("inks", {b"A2B0": INKS}, b"prtrCMYKLab ")


# --- One table of them all

# Each file, and what it shows - one colour, its left and right half, or its quarters - or a word of
# why it is not read.
PALETTE = halves(0, 1, "P")
PALETTE.putpalette([*GREEN, *RED])
# 128 * 257.
DEEP = np.where(np.arange(64) < 32, 32_896, 65_535)[None].repeat(48, axis=0).astype(np.uint16)
FRAMES = {"save_all": True, "append_images": [halves(GREEN, GREEN)] * 3}
TWO = {"save_all": True, "append_images": [quarters()]}
INK = halves((0, 255, 255, 0), (255, 0, 0, 0), "CMYK")
ROSES = Image.new("P", (64, 48))
ROSES.putpalette(ROSE)
CLEAR = halves((*GREEN, 0), (*RED, 255), "RGBA")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
NO_EXIF = b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40)
IN_P3 = halves((*ROSE, 0), (*ROSE, 255), "RGBA")
ODD_FILES = {f"orientation {n}.jpg": (turned(jpeg, n), FOUR) for n in range(1, 10)}
ODD_FILES |= {
    "turned.png": (turned(png, 6), FOUR),
    "turned.webp": (turned(webp, 8, lossless=True), FOUR),
    "turned.tif": (turned(tiff, 5), FOUR),
    "turned.heic": (turned(heic, 6), FOUR),
    # JPEG
    "UPPER.JPG": (jpeg(halves(GREEN, BLUE)), (GREEN, BLUE)),
    "png.jpg": (png(halves(GREEN, BLUE)), (GREEN, BLUE)),
    "progressive.jpg": (jpeg(halves(BLUE, RED), progressive=True), (BLUE, RED)),
    "cmyk.jpg": (jpeg(INK), (RED, CYAN)),
    "broken exif.jpg": (jpeg(halves(RED, BLUE), exif=NO_EXIF), (RED, BLUE)),
    "two.mpo": (saved(halves(RED, BLUE), "MPO", **TWO), (RED, BLUE)),
    # PNG, GIF, WebP
    "transparent.png": (png(CLEAR), (WHITE, RED)),
    "palette, one clear.png": (png(PALETTE, transparency=0), (WHITE, RED)),
    "palette, 40 %.png": (png(PALETTE, transparency=b"\xff\x66"), (GREEN, (255, 153, 153))),
    "one colour clear.png": (png(halves(GREEN, RED), transparency=GREEN), (WHITE, RED)),
    "grey16.png": (png(Image.fromarray(DEEP)), (GREY, WHITE)),
    "grey16.tif": (tiff(Image.fromarray(DEEP)), (GREY, WHITE)),
    "one bit.png": (png(halves(0, 1, "1")), (BLACK, WHITE)),
    "moving.gif": (saved(halves(RED, BLUE), "GIF", **FRAMES), (RED, BLUE)),
    "clear.gif": (saved(PALETTE, "GIF", transparency=0), (WHITE, RED)),
    # TIFF, BMP, ICO, HEIC
    "pages.tif": (tiff(halves(RED, BLUE), **FRAMES), (RED, BLUE)),
    "cmyk.tif": (tiff(INK), (RED, CYAN)),
    "photo.bmp": (saved(quarters(), "BMP"), FOUR),
    "photo.ico": (saved(quarters(), "ICO", sizes=[(64, 48)]), FOUR),
    # Colour profiles; those that are damaged, or for other pixels, count as none
    "palette of P3.png": (png(ROSES, icc_profile=P3), (ROSE_OF_P3,)),
    "clear P3.png": (png(IN_P3, icc_profile=P3), (WHITE, ROSE_OF_P3)),
    "iphone.heic": (heic(halves(ROSE, ROSE), icc_profile=P3), (ROSE_OF_P3,)),
    "grey profile.jpg": (jpeg(halves(0, 100, "L"), icc_profile=GREY_PROFILE), (BLACK, (168,) * 3)),
    "cmyk profile.jpg": (jpeg(INK, icc_profile=INKS), (WHITE,)),
    "damaged profile.png": (png(quarters(), icc_profile=P3[:200]), FOUR),
    "profile of inks.png": (png(quarters(), icc_profile=INKS), FOUR),
    # No photos, and photos that are not read
    "half.jpg": (jpeg(NOISE)[:3_000], "truncated"),
    "empty.jpg": (b"", "empty file"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404: the photo is gone</body></html>", UNREAD),
    "film.jpg": (b"\0\0\0\x18ftypmp42" + bytes(200), UNREAD),
    "32 bits.tif": (tiff(Image.new("F", (64, 48), 0.5)), "floating-point pixels"),
    "folder.jpg": (Path.mkdir, "not a file"),
    "pipe.jpg": (os.mkfifo, "not a file"),
    "gone.jpg": (lambda path: path.symlink_to("nowhere"), "No such file"),
}
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
    facts = photo_facts(path)
    assert (facts["pixel_width"], facts["pixel_height"]) == (64, 48)
    for pixels in (load_image(path), load_image(path, 16)):  # of a JPEG, decoded at a half
        assert pixels.dtype == np.uint8
        assert_shows(pixels, ODD_FILES[name][1])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_odd_file_raises_an_error_that_names_it(odd_folder, name):
    with pytest.raises(ImageError) as caught:
        load_image(odd_folder / name, 64)
    assert str(caught.value) == f"{odd_folder / name}: {caught.value.reason}"
    assert ODD_FILES[name][1] in caught.value.reason


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what has no labels
def test_the_catalogue_names_each_odd_file_once_with_its_size_or_its_reason(
    odd_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    good, rejected = load_catalog("folder", odd_folder)
    assert sorted(good["image_id"]) == sorted({*GOOD} - {"no suffix"})
    assert sorted(rejected["image_id"]) == sorted({*BAD} - {"folder.jpg"})
    assert set(zip(good["pixel_width"], good["pixel_height"], strict=True)) == {(64, 48)}
    for image_id, reason in zip(rejected["image_id"], rejected["reason"], strict=True):
        assert ODD_FILES[image_id][1] in reason
        assert str(odd_folder) not in reason


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_another_colour_space_is_brought_to_srgb_as_little_cms_does(mode):
    srgb = ImageCms.createProfile("sRGB")
    expected = ImageCms.profileToProfile(NOISE, io.BytesIO(P3), srgb)
    pixels = load_image(png(NOISE.convert(mode), icc_profile=P3))
    np.testing.assert_array_equal(pixels, np.asarray(expected))
    assert (pixels != np.asarray(NOISE)).any()


def test_srgb_stays_as_it_is_half_clear_is_half_white_and_16_bits_are_scaled():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(load_image(png(NOISE, icc_profile=profile)), np.asarray(NOISE))
    half = load_image(png(Image.new("LA", (8, 8), (100, 51))))
    np.testing.assert_allclose(half, 0.2 * 100 + 0.8 * 255, atol=1)
    # A very dark photo is black: its values are not taken for those of eight bits.
    for value in (100, 2_570, 32_896, 65_535):
        grey = Image.fromarray(np.full((8, 8), value, np.uint16))
        np.testing.assert_array_equal(load_image(tiff(grey)), value // 257)


def test_without_pi_heif_a_heic_says_what_to_install(monkeypatch):
    monkeypatch.setattr(images, "FORMATS", ["JPEG", "PNG"])
    for brand in ("heic", "heix", "hevc", "mif1", "msf1", "mp42"):
        with pytest.raises(ImageError) as caught:
            load_image(b"\0\0\0\x18ftyp" + brand.encode() + bytes(200))
        assert ("pip install pi-heif" in caught.value.reason) == (brand != "mp42")


@pytest.mark.parametrize("count", [200, pytest.param(5_000, marks=pytest.mark.soak)])
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
