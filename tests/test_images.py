import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from lookalike.images import (
    FITS,
    ImageError,
    content_hash,
    decode,
    fitted,
    load_image,
    photo_facts,
    pixel_batches,
    read_bytes,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def image_size(path):
    return decode(read_bytes(path), path, 1)[1]


def write_photo(path, colour=RED, size=(64, 48)):
    """A photo of one colour; `size` is (width, height)."""
    Image.new("RGB", size, colour).save(path)
    return path


def gradient(width, height):
    """Smooth colours, as in a photo: red grows to the right, green downwards, blue waves."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    wave = 0.5 + 0.5 * np.sin(7 * x) * np.cos(5 * y)
    return Image.fromarray((np.stack([x, y, wave], axis=2) * 255).astype(np.uint8))


def noise(width, height):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def wide(tmp_path):
    """80 x 40 pixels: the outer quarters red and blue, the half between them green."""
    picture = Image.new("RGB", (80, 40), GREEN)
    picture.paste(RED, (0, 0, 20, 40))
    picture.paste(BLUE, (60, 0, 80, 40))
    picture.save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def assert_whole(pixels):
    """All of `wide` in 40 columns; where its colours meet, nothing is said."""
    for part, colour in ((slice(8), RED), (slice(12, 28), GREEN), (slice(32, 40), BLUE)):
        part = pixels[:, part]
        np.testing.assert_array_equal(part, np.broadcast_to(colour, part.shape))


def test_each_fit_is_what_it_says(wide):
    stretched = load_image(wide, 40, fit="resize")
    assert_whole(stretched)
    np.testing.assert_array_equal(load_image(wide, 40), stretched)
    framed = load_image(wide, 40, fit="letterbox")
    np.testing.assert_array_equal(framed[:10], 255)
    np.testing.assert_array_equal(framed[30:], 255)
    assert_whole(framed[10:30])
    cut = load_image(wide, 40, fit="crop")
    np.testing.assert_array_equal(cut, np.broadcast_to(GREEN, (40, 40, 3)))
    with pytest.raises(ValueError, match=r"resize, letterbox, crop.*'squeeze'"):
        load_image(wide, 32, fit="squeeze")


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(64, 48), (1, 900)])
def test_any_photo_fits_and_a_size_is_height_and_width(tmp_path, fit, size):
    path = write_photo(tmp_path / "photo.png", RED, size)
    pixels = load_image(path, (31, 51), fit=fit)
    assert pixels.shape == (31, 51, 3)
    np.testing.assert_array_equal(pixels[15, 25], RED)


def test_without_a_size_a_photo_keeps_its_own(tmp_path):
    path, pixels = tmp_path / "photo.png", noise(37, 21)
    Image.fromarray(pixels).save(path)
    for photo in (path, str(path), path.read_bytes()):
        np.testing.assert_array_equal(load_image(photo), pixels)
    np.testing.assert_array_equal(load_image(path, (21, 37)), pixels)


@pytest.mark.parametrize("fit", FITS)
def test_fitted_resamples_as_load_image_does(tmp_path, fit):
    pixels = noise(50, 30)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    loaded = load_image(tmp_path / "photo.png", (20, 24), fit=fit)
    np.testing.assert_array_equal(fitted(pixels, (20, 24), fit=fit), loaded)


@pytest.mark.parametrize("fit", FITS)
def test_a_jpeg_decoded_at_a_fraction_looks_like_the_whole(tmp_path, fit):
    path = tmp_path / "large.jpg"
    gradient(1600, 300).save(path, quality=92)
    whole = fitted(load_image(path), 64, fit=fit)
    difference = np.abs(load_image(path, 64, fit=fit).astype(int) - whole)
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) < 12


@pytest.mark.parametrize(
    ("target", "size"),
    [(None, (1200, 900)), (500, (1200, 900)), (400, (600, 450)), (112, (150, 113))],
)
def test_a_fraction_has_no_side_below_the_target(tmp_path, target, size):
    gradient(1200, 900).save(tmp_path / "large.jpg")
    image, full = decode((tmp_path / "large.jpg").read_bytes(), "large.jpg", target)
    assert image.size == size
    assert full == image_size(tmp_path / "large.jpg") == (1200, 900)


def test_facts_are_those_of_the_file_and_of_the_upright_photo(tmp_path):
    path, exif = tmp_path / "photo.jpg", Image.Exif()
    exif[0x0112] = 6
    # An eighth of it, as it is decoded, is as high as wide.
    gradient(100, 99).save(path, exif=exif)
    data = path.read_bytes()
    os.utime(path, (1_700_000_000.25, 1_700_000_000.25))
    digest = hashlib.sha256(data).hexdigest()
    expected = {"sha256": digest, "bytes": len(data), "mtime": 1_700_000_000.25}
    assert photo_facts(path) == {**expected, "pixel_width": 99, "pixel_height": 100}
    assert image_size(path) == load_image(path).shape[1::-1] == (99, 100)
    assert content_hash(path) == digest
    path.write_bytes(data[:-200])
    with pytest.raises(ImageError, match=r"photo\.jpg: cannot be decoded: .*truncated"):
        photo_facts(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_by_the_limit_of_pillow(tmp_path, monkeypatch):
    path = write_photo(tmp_path / "photo.png", size=(64, 48))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 24 - 1)
    with pytest.raises(ImageError, match=r"photo\.png: cannot be decoded: .*3072 pixels"):
        load_image(path, 32)


@pytest.fixture
def photos(tmp_path):
    """Seven photos, each of another size and another red."""
    return [
        write_photo(tmp_path / f"{i}.png", (30 * i, 0, 255 - 30 * i), (20 + 7 * i, 60 - 5 * i))
        for i in range(7)
    ]


def test_pixel_batches_are_the_photos_in_order(photos):
    batches = list(pixel_batches(photos, (16, 24), batch_size=3, fit="letterbox"))
    assert [batch.shape for batch in batches] == [(3, 16, 24, 3), (3, 16, 24, 3), (1, 16, 24, 3)]
    assert {batch.dtype for batch in batches} == {np.dtype(np.uint8)}
    one_by_one = np.stack([load_image(path, (16, 24), fit="letterbox") for path in photos])
    np.testing.assert_array_equal(np.concatenate(batches), one_by_one)
    assert one_by_one[:, 8, 12, 0].tolist() == [0, 30, 60, 90, 120, 150, 180]
    assert [len(batch) for batch in pixel_batches(photos[:6], 8, batch_size=3)] == [3, 3]
    assert list(pixel_batches([], 8)) == []


def test_a_broken_photo_in_a_batch_is_named(photos, tmp_path):
    (tmp_path / "broken.jpg").write_text("no photo")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        list(pixel_batches([*photos, tmp_path / "broken.jpg"], 8))
