import hashlib
import resource
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from lookalike.catalog import load_catalog
from lookalike.images import (
    FITS,
    ImageError,
    augment,
    content_hash,
    decode,
    fit_pixels,
    image_batches,
    image_size,
    load_image,
    pixel_batches,
)

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
RED_PART, BLUE_PART = "red part", "blue part"
ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Whatever a source writes lands in the test's own folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("LOOKALIKE_HOME", str(home))


def write_photo(path, colour=RED, size=(64, 48), **options):
    """A photo of one colour; `size` is (width, height)."""
    Image.new("RGB", size, colour).save(path, **options)
    return path


def two_halves(left, right, *, mode="RGB"):
    """A picture of 64 x 48 pixels, its left half of one value and its right half of another."""
    picture = Image.new(mode, (64, 48), left)
    picture.paste(right, (32, 0, 64, 48))
    return picture


def gradient(width, height):
    """Smooth colours, as in a photo: red grows to the right, green downwards, blue waves."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    wave = 0.5 + 0.5 * np.sin(7 * x) * np.cos(5 * y)
    return Image.fromarray((np.stack([x, y, wave], axis=2) * 255).astype(np.uint8))


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def grey_png(width, height):
    """A valid PNG of black pixels, one bit each: enormous pictures in a tiny file."""
    row = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def zero_size(suffix):
    """An image file whose header says that it is 0 pixels wide."""
    if suffix == "png":
        return grey_png(0, 5)
    if suffix == "gif":
        return b"GIF89a" + struct.pack("<HHBBB", 0, 5, 0, 0, 0) + b";"
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 0, 5, 1, 24, 0, 0, 0, 0, 0, 0)


# --- One folder of odd files -------------------------------------------------------------------------------------

# Of a good file: what its left and right half show. Of another: a word of the reason why it is rejected.
ODD_FILES = {
    "rotated.jpg": (RED, BLUE),
    "transparent.png": (WHITE, RED),
    "grey and alpha.png": (WHITE, (100, 100, 100)),
    "palette.png": (WHITE, RED),
    "cmyk.jpg": (RED, (0, 255, 255)),
    "grey16.png": ((128, 128, 128), WHITE),
    "one-bit.png": (BLACK, WHITE),
    "animated.gif": (RED, BLUE),
    "photo.webp": (GREEN, RED),
    "progressive.jpg": (BLUE, RED),
    "Zoë's été 照片.png": (RED, GREEN),
    "UPPER.JPG": (GREEN, BLUE),
    "truncated.jpg": "truncated",
    "empty.jpg": "empty",
    "text.jpg": "not an image",
    "page.png": "not an image",
    "bomb.png": "bomb",
    "loop.jpg": "symbolic links",
    "folder.jpg": "folder",
    "zero.gif": "not an image",
}
GOOD = [name for name, expected in ODD_FILES.items() if not isinstance(expected, str)]
BAD = [name for name, expected in ODD_FILES.items() if isinstance(expected, str)]


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")

    exif = Image.Exif()
    exif[ORIENTATION] = 6  # shown after a quarter turn clockwise: what lies at the bottom comes to the left
    lying = two_halves(RED, BLUE).rotate(90, expand=True)
    lying.save(folder / "rotated.jpg", exif=exif, quality=95, subsampling=0)

    two_halves((*GREEN, 0), (*RED, 255), mode="RGBA").save(folder / "transparent.png")
    two_halves((100, 0), (100, 255), mode="LA").save(folder / "grey and alpha.png")
    palette = two_halves(0, 1, mode="P")
    palette.putpalette([*GREEN, *RED])
    palette.save(folder / "palette.png", transparency=0)

    two_halves((0, 255, 255, 0), (255, 0, 0, 0), mode="CMYK").save(folder / "cmyk.jpg", quality=95)
    deep = np.full((48, 64), 32_896, np.uint16)  # 128 * 257
    deep[:, 32:] = 65_535
    Image.fromarray(deep).save(folder / "grey16.png")
    two_halves(0, 1, mode="1").save(folder / "one-bit.png")
    two_halves(RED, BLUE).save(folder / "animated.gif", save_all=True, append_images=[two_halves(GREEN, GREEN)] * 3)
    two_halves(GREEN, RED).save(folder / "photo.webp", lossless=True)
    two_halves(BLUE, RED).save(folder / "progressive.jpg", progressive=True, quality=95, subsampling=0)
    two_halves(RED, GREEN).save(folder / "Zoë's été 照片.png")
    two_halves(GREEN, BLUE).save(folder / "UPPER.JPG", quality=95, subsampling=0)

    gradient(640, 480).save(folder / "truncated.jpg")
    whole = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("Nothing but words.\n" * 50)
    (folder / "page.png").write_text("<!DOCTYPE html><html><body>404: the photo is gone</body></html>")
    (folder / "bomb.png").write_bytes(grey_png(30_000, 30_000))
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "zero.gif").write_bytes(zero_size("gif"))
    return folder


def test_the_catalogue_names_each_odd_file_once(odd_folder):
    assert len(ODD_FILES) == 20
    good, rejected = load_catalog("folder", odd_folder)
    assert sorted(good["image_id"]) == sorted(GOOD)
    assert sorted(rejected["image_id"]) == sorted(BAD)
    assert (good["pixel_width"] == 64).all()
    assert (good["pixel_height"] == 48).all()
    for image_id, reason in zip(rejected["image_id"], rejected["reason"], strict=True):
        assert ODD_FILES[image_id] in reason
        assert str(odd_folder) not in reason


@pytest.mark.parametrize("name", GOOD)
def test_a_good_odd_file_has_the_right_pixels(odd_folder, name):
    pixels = load_image(odd_folder / name)
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    left, right = ODD_FILES[name]
    # The two columns at the seam are left out: JPEG blurs them a little.
    np.testing.assert_allclose(pixels[:, :30], np.broadcast_to(left, (48, 30, 3)), atol=6)
    np.testing.assert_allclose(pixels[:, 34:], np.broadcast_to(right, (48, 30, 3)), atol=6)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_odd_file_loads_at_any_size(odd_folder, name):
    pixels = load_image(odd_folder / name, 64)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (64, 64, 3)
    left, right = ODD_FILES[name]
    np.testing.assert_allclose(pixels[32, 10], left, atol=6)
    np.testing.assert_allclose(pixels[32, 53], right, atol=6)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("read", [image_size, load_image, lambda path: load_image(path, 64)])
def test_a_bad_odd_file_raises_an_error_that_names_it(odd_folder, name, read):
    with pytest.raises(ImageError, match=ODD_FILES[name]) as caught:
        read(odd_folder / name)
    assert str(odd_folder / name) in str(caught.value)
    assert ODD_FILES[name] in caught.value.reason
    assert isinstance(caught.value, ValueError)


def test_a_bomb_is_refused_before_it_is_decoded(odd_folder):
    """Were it decoded, its 900 million pixels would take as many bytes."""
    assert (odd_folder / "bomb.png").stat().st_size < 1_000_000
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    for read in (image_size, load_image):
        with pytest.raises(ImageError, match=r"bomb.* pixels"):
            read(odd_folder / "bomb.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < 100_000_000


def test_our_own_limit_is_below_that_of_pillow(tmp_path):
    """A picture of 81 million pixels, of which Pillow would not even warn."""
    path = tmp_path / "large.png"
    path.write_bytes(grey_png(9_000, 9_000))
    with pytest.raises(ImageError, match="9,000 x 9,000 pixels"):
        image_size(path)


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp"])
def test_an_image_without_width_is_refused(tmp_path, suffix):
    path = tmp_path / f"zero.{suffix}"
    path.write_bytes(zero_size(suffix))
    for read in (image_size, load_image, lambda path: load_image(path, 64)):
        with pytest.raises(ImageError, match="zero"):
            read(path)


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "JPEG", "progressive": True}, {"format": "GIF"}])
def test_a_photo_cut_off_anywhere_never_raises_anything_else(tmp_path, options):
    """Either it is refused as a bad image, or, where only the trailer is gone, it has its whole size."""
    path = tmp_path / "cut"
    Image.fromarray(noise(40, 30)).save(path, **options)
    whole = path.read_bytes()
    for length in range(1, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        try:
            pixels = load_image(path)
        except ImageError:
            continue
        assert length > 0.9 * len(whole)
        assert pixels.shape == (30, 40, 3)
    path.write_bytes(whole)
    assert load_image(path).shape == (30, 40, 3)


@pytest.mark.parametrize("read", [image_size, load_image, content_hash])
def test_a_missing_file_is_an_image_error(tmp_path, read):
    with pytest.raises(ImageError, match=r"gone\.jpg: No such file"):
        read(tmp_path / "gone.jpg")


def test_half_transparent_is_half_white(tmp_path):
    Image.new("LA", (8, 8), (100, 51)).save(tmp_path / "fifth.png")
    # One fifth of 100 and four fifths of 255.
    np.testing.assert_allclose(load_image(tmp_path / "fifth.png"), 224, atol=1)


@pytest.mark.parametrize(("value", "expected"), [(200, 0), (2_570, 10), (32_768, 127), (65_535, 255)])
def test_sixteen_bits_are_scaled_alike_in_dark_and_bright_photos(tmp_path, value, expected):
    """A very dark photo of sixteen bits is black: its values are not taken for those of eight bits."""
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((8, 8), value, np.uint16)).save(path)
    np.testing.assert_allclose(load_image(path), expected, atol=1)


# --- Upright, as EXIF says ---------------------------------------------------------------------------------------

# From the EXIF standard: where the stored first row and the stored first column are seen.
SEEN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def stored_on_its_side(path, orientation):
    """A white photo, stored 80 wide and 40 high; its first rows are red and its first columns blue."""
    photo = Image.new("RGB", (80, 40), WHITE)
    photo.paste(RED, (0, 0, 80, 8))
    photo.paste(BLUE, (0, 0, 8, 40))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lossy = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
    photo.save(path, exif=exif, **lossy)
    return path


def edges(pixels):
    """The colour in the middle of each edge."""
    height, width, _ = pixels.shape
    spots = {
        "top": (3, width // 2),
        "bottom": (height - 4, width // 2),
        "left": (height // 2, 3),
        "right": (height // 2, width - 4),
    }
    return {side: pixels[spot].astype(int) for side, spot in spots.items()}


@pytest.mark.parametrize("orientation", SEEN)
def test_every_exif_orientation_is_turned_upright(tmp_path, orientation):
    path = stored_on_its_side(tmp_path / "photo.jpg", orientation)
    row_side, column_side = SEEN[orientation]
    upright = (80, 40) if row_side in ("top", "bottom") else (40, 80)
    assert image_size(path) == upright
    pixels = load_image(path)
    assert pixels.shape == (upright[1], upright[0], 3)
    # The same at a size of one's own, where the JPEG is decoded at a fraction.
    for seen in (edges(pixels), edges(load_image(path, (upright[1] // 2, upright[0] // 2)))):
        np.testing.assert_allclose(seen.pop(row_side), RED, atol=40)
        np.testing.assert_allclose(seen.pop(column_side), BLUE, atol=40)
        for colour in seen.values():
            np.testing.assert_allclose(colour, WHITE, atol=40)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_other_formats_are_turned_too(tmp_path, suffix):
    path = stored_on_its_side(tmp_path / f"photo.{suffix}", 6)
    assert image_size(path) == (40, 80)
    seen = edges(load_image(path))
    np.testing.assert_allclose(seen["right"], RED, atol=40)
    np.testing.assert_allclose(seen["top"], BLUE, atol=40)


def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path):
    path = stored_on_its_side(tmp_path / "photo.jpg", 9)
    assert image_size(path) == (80, 40)
    np.testing.assert_allclose(edges(load_image(path))["top"], RED, atol=40)


# --- Sizes and fits ----------------------------------------------------------------------------------------------


@pytest.fixture
def wide(tmp_path):
    """80 x 40 pixels: the outer quarters red and blue, the half between them green."""
    picture = Image.new("RGB", (80, 40), GREEN)
    picture.paste(RED, (0, 0, 20, 40))
    picture.paste(BLUE, (60, 0, 80, 40))
    picture.save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def test_resize_stretches(wide):
    pixels = load_image(wide, 40, fit="resize")
    np.testing.assert_array_equal(pixels[:, :8], np.broadcast_to(RED, (40, 8, 3)))
    np.testing.assert_array_equal(pixels[:, 12:28], np.broadcast_to(GREEN, (40, 16, 3)))
    np.testing.assert_array_equal(pixels[:, 32:], np.broadcast_to(BLUE, (40, 8, 3)))
    np.testing.assert_array_equal(load_image(wide, 40), pixels)


def test_letterbox_keeps_proportions_between_white_bars(wide):
    pixels = load_image(wide, 40, fit="letterbox")
    np.testing.assert_array_equal(pixels[:10], 255)
    np.testing.assert_array_equal(pixels[30:], 255)
    np.testing.assert_array_equal(pixels[10:30, :8], np.broadcast_to(RED, (20, 8, 3)))
    np.testing.assert_array_equal(pixels[10:30, 12:28], np.broadcast_to(GREEN, (20, 16, 3)))
    np.testing.assert_array_equal(pixels[10:30, 32:], np.broadcast_to(BLUE, (20, 8, 3)))


def test_crop_cuts_the_centre(wide):
    np.testing.assert_array_equal(load_image(wide, 40, fit="crop"), np.broadcast_to(GREEN, (40, 40, 3)))


@pytest.mark.parametrize("fit", FITS)
def test_a_size_is_height_and_width(wide, fit):
    assert load_image(wide, (30, 50), fit=fit).shape == (30, 50, 3)
    assert load_image(wide, 24, fit=fit).shape == (24, 24, 3)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(200, 10), (10, 200)])
def test_a_strip_of_a_photo_fits_too(tmp_path, fit, size):
    path = write_photo(tmp_path / "strip.png", RED, size)
    pixels = load_image(path, 16, fit=fit)
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_array_equal(pixels[8, 8], RED)


def test_an_unknown_fit_is_refused_with_the_choices(wide):
    with pytest.raises(ValueError, match=r"resize, letterbox, crop.*'squeeze'"):
        load_image(wide, 32, fit="squeeze")


def test_without_a_size_a_photo_keeps_its_own(tmp_path):
    pixels = noise(37, 21)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(load_image(tmp_path / "photo.png"), pixels)
    np.testing.assert_array_equal(load_image(str(tmp_path / "photo.png")), pixels)
    np.testing.assert_array_equal(load_image(tmp_path / "photo.png", (21, 37)), pixels)


@pytest.mark.parametrize("fit", FITS)
def test_fit_pixels_resamples_as_load_image_does(tmp_path, fit):
    pixels = noise(50, 30)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(
        fit_pixels(pixels, (20, 24), fit=fit), load_image(tmp_path / "photo.png", (20, 24), fit=fit)
    )


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_fit_pixels_refuses_what_is_no_rgb_picture(pixels):
    with pytest.raises(ValueError, match="uint8 array"):
        fit_pixels(pixels, 8)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1200, 900), (1600, 300)])
def test_a_jpeg_decoded_at_a_fraction_looks_like_the_whole(tmp_path, fit, size):
    path = tmp_path / "large.jpg"
    gradient(*size).save(path, quality=92)
    reduced = load_image(path, 64, fit=fit)
    whole = fit_pixels(load_image(path), 64, fit=fit)
    difference = np.abs(reduced.astype(int) - whole)
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) < 12


def test_the_longer_side_of_a_size_decides_the_fraction(tmp_path):
    """Fine stripes, asked for at their full width and a small height, are still there."""
    stripes = np.zeros((400, 800, 3), np.uint8)
    stripes[:, np.arange(800) % 8 < 4] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.jpg", quality=95)
    pixels = load_image(tmp_path / "stripes.jpg", (50, 800))
    np.testing.assert_allclose(pixels[25, 1::8], 255, atol=20)
    np.testing.assert_allclose(pixels[25, 5::8], 0, atol=20)


def test_a_large_jpeg_is_decoded_at_a_fraction(tmp_path):
    path = tmp_path / "large.jpg"
    gradient(1200, 900).save(path)
    for target, expected in ((None, (1200, 900)), (500, (1200, 900)), (400, (600, 450)), (112, (150, 113))):
        image, full = decode(path.read_bytes(), path, target)
        assert image.size == expected
        assert full == (1200, 900)
    assert image_size(path) == (1200, 900)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp", "tif", "ico"])
def test_image_size_is_width_and_height(tmp_path, suffix):
    path = write_photo(
        tmp_path / f"photo.{suffix}", GREEN, (64, 48), **({"sizes": [(64, 48)]} if suffix == "ico" else {})
    )
    assert image_size(path) == (64, 48)
    np.testing.assert_allclose(load_image(path)[24, 32], GREEN, atol=6)


def test_the_suffix_does_not_matter(tmp_path):
    path = write_photo(tmp_path / "photo.dat", BLUE, format="PNG")
    np.testing.assert_array_equal(load_image(path)[0, 0], BLUE)


def test_content_hash_is_sha256_of_the_bytes(tmp_path):
    path = write_photo(tmp_path / "one.png")
    twin = tmp_path / "two.png"
    twin.write_bytes(path.read_bytes())
    other = write_photo(tmp_path / "three.png", BLUE)
    assert content_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_hash(twin) == content_hash(path) != content_hash(other)


# --- Batches -----------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """Seven photos, each of another size and another red."""
    return [write_photo(tmp_path / f"{i}.png", (30 * i, 0, 255 - 30 * i), (20 + 7 * i, 60 - 5 * i)) for i in range(7)]


def test_pixel_batches_are_the_photos_in_order(photos):
    batches = list(pixel_batches(photos, (16, 24), batch_size=3, fit="letterbox"))
    assert [batch.shape for batch in batches] == [(3, 16, 24, 3), (3, 16, 24, 3), (1, 16, 24, 3)]
    assert {batch.dtype for batch in batches} == {np.dtype(np.uint8)}
    one_by_one = np.stack([load_image(path, (16, 24), fit="letterbox") for path in photos])
    np.testing.assert_array_equal(np.concatenate(batches), one_by_one)
    assert one_by_one[:, 8, 12, 0].tolist() == [0, 30, 60, 90, 120, 150, 180]


def test_pixel_batches_keep_order_over_many_photos(photos):
    """More photos than the threads have under way, of very different cost."""
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(photos), 300)
    batches = pixel_batches([photos[i] for i in chosen], 8, batch_size=64)
    reds = np.concatenate([batch[:, 4, 4, 0] for batch in batches])
    np.testing.assert_array_equal(reds, 30 * chosen)


def test_pixel_batches_without_rest_and_without_photos(photos):
    assert [len(batch) for batch in pixel_batches(photos[:6], 8, batch_size=3)] == [3, 3]
    assert list(pixel_batches([], 8)) == []


def test_a_broken_photo_in_a_batch_is_named(photos, tmp_path):
    (tmp_path / "broken.jpg").write_text("no photo")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        list(pixel_batches([*photos, tmp_path / "broken.jpg"], 8))


def test_image_batches_are_float_pixels_from_0_to_255(photos, tmp_path):
    paths = [*photos, write_photo(tmp_path / "white.png", WHITE)]
    dataset = image_batches(paths, (16, 24), batch_size=3, fit="letterbox")
    assert dataset.element_spec.shape.as_list() == [None, 16, 24, 3]
    for _ in range(2):  # a dataset can be read again
        batches = [batch.numpy() for batch in dataset]
        assert [batch.shape for batch in batches] == [(3, 16, 24, 3), (3, 16, 24, 3), (2, 16, 24, 3)]
        assert {batch.dtype for batch in batches} == {np.dtype(np.float32)}
        expected = np.concatenate(list(pixel_batches(paths, (16, 24), batch_size=3, fit="letterbox")))
        np.testing.assert_array_equal(np.concatenate(batches), expected.astype(np.float32))
        assert batches[-1].max() == 255


# --- Augmented views -----------------------------------------------------------------------------------------------


def variant(pixels, seed=0, size=(48, 64)):
    return augment(pixels, size, np.random.default_rng(seed))


def test_a_variant_is_pixels_of_the_size_asked_for_and_comes_again_by_its_seed():
    photo = np.asarray(gradient(80, 60))
    before = photo.copy()
    for size in ((48, 64), (64, 48), (1, 1), (100, 30)):
        assert variant(photo, size=size).shape == (*size, 3)
        assert variant(photo, size=size).dtype == np.uint8
    np.testing.assert_array_equal(variant(photo, 7), variant(photo, 7))
    assert len({variant(photo, seed).tobytes() for seed in range(30)}) == 30
    np.testing.assert_array_equal(photo, before)


def test_variants_have_about_the_colours_of_their_photo():
    photo = np.asarray(gradient(80, 60))
    means = np.array([variant(photo, seed).mean(axis=(0, 1)) for seed in range(60)])
    original = photo.mean(axis=(0, 1))
    np.testing.assert_allclose(means.mean(axis=0), original, rtol=0.1)
    assert (np.abs(means / original - 1) < 0.5).all()


@pytest.mark.parametrize("size", [(80, 60), (12, 200), (200, 12), (33, 33), (1, 1), (2, 2), (4, 4), (5, 8), (1, 9)])
def test_a_photo_of_one_grey_stays_so_up_to_brightness_with_nothing_black_beyond_its_edge(size):
    photo = np.full((*size, 3), 120, np.uint8)
    light = set()
    for seed in range(60):
        pixels = variant(photo, seed)
        assert len(np.unique(pixels)) == 1, f"seed {seed}: {np.unique(pixels)}"
        light.add(int(pixels.max()))
    assert 0.75 * 120 - 1 <= min(light) < 100
    assert 140 < max(light) <= 1.25 * 120 + 1


def test_a_photo_of_one_colour_stays_of_one_colour():
    for seed in range(20):
        pixels = variant(np.full((40, 40, 3), (200, 90, 30), np.uint8), seed)
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1
        red, green, blue = pixels[0, 0]
        assert red > green > blue


def test_half_of_the_variants_are_mirrored_and_none_is_upside_down():
    photo = np.zeros((60, 60, 3), np.uint8)
    photo[:20, :20] = 255  # a white corner, top left
    corners = []
    for seed in range(60):
        pixels = variant(photo, seed, (60, 60))[..., 0].astype(float)
        quarters = [pixels[:30, :30], pixels[:30, 30:], pixels[30:, :30], pixels[30:, 30:]]
        corners.append(int(np.argmax([quarter.sum() for quarter in quarters])))
    assert set(corners) == {0, 1}
    assert 15 < corners.count(0) < 45
