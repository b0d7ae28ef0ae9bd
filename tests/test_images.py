import hashlib

import numpy as np
import pytest
from PIL import Image

from lookalike.images import (
    FITS,
    ImageError,
    augment,
    content_hash,
    decode,
    fit_pixels,
    image_size,
    load_image,
    pixel_batches,
)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def write_photo(path, colour=RED, size=(64, 48), **options):
    """A photo of one colour; `size` is (width, height)."""
    Image.new("RGB", size, colour).save(path, **options)
    return path


def gradient(width, height):
    """Smooth colours, as in a photo: red grows to the right, green downwards, blue waves."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    wave = 0.5 + 0.5 * np.sin(7 * x) * np.cos(5 * y)
    return Image.fromarray((np.stack([x, y, wave], axis=2) * 255).astype(np.uint8))


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- Sizes and fits
# ----------------------------------------------------------------------------------------------


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
    np.testing.assert_array_equal(
        load_image(wide, 40, fit="crop"), np.broadcast_to(GREEN, (40, 40, 3))
    )


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
    for target, expected in (
        (None, (1200, 900)),
        (500, (1200, 900)),
        (400, (600, 450)),
        (112, (150, 113)),
    ):
        image, full = decode(path.read_bytes(), path, target)
        assert image.size == expected
        assert full == (1200, 900)
    assert image_size(path) == (1200, 900)


def test_content_hash_is_sha256_of_the_bytes(tmp_path):
    path = write_photo(tmp_path / "one.png")
    twin = tmp_path / "two.png"
    twin.write_bytes(path.read_bytes())
    other = write_photo(tmp_path / "three.png", BLUE)
    assert content_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_hash(twin) == content_hash(path) != content_hash(other)


# --- Batches
# -----------------------------------------------------------------------------------------------------


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


# --- Augmented views
# -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "size", [(80, 60), (12, 200), (200, 12), (33, 33), (1, 1), (2, 2), (4, 4), (5, 8), (1, 9)]
)
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
