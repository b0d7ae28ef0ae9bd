import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike.studies import edit_photo
from lookalike.studies.photo_edits import EDITS, background, shrunk

EVERY_STEP = [(name, strength) for name, edit in EDITS.items() for strength in edit.strengths]
RED, GREY = (200, 30, 40), (128, 128, 128)


def smooth(height=48, width=64):
    """Colours that flow into one another, on all channels in other ways."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack([np.sin(5 * x + y), np.cos(4 * y - x), np.sin(3 * (x + y))], axis=2)
    return np.round(128 + 100 * waves).astype(np.uint8)


def plain(colour, height=40, width=40):
    return np.full((height, width, 3), colour, np.uint8)


def disc(ground=(240, 240, 240), product=RED, side=60, radius=20, hole=0):
    """A disc, or a ring with a hole in the ground's colour, and where the ground is that hangs with
    the edge.
    """
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2
    far = np.hypot(x, y)
    pixels = plain(ground, side, side)
    pixels[(far <= radius) & (far > hole)] = product
    return pixels, far > radius


def change_of(before, after):
    return np.abs(before.astype(float) - after).mean()


def share_of(pixels, colour):
    return (pixels == colour).all(axis=2).mean()


def test_every_edit_of_the_smallest_and_thinnest_photos_gives_rgb_of_the_same_size():
    random = np.random.default_rng(0)
    for height, width in [(1, 1), (7, 1), (512, 2)]:
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        for name, strength in EVERY_STEP:
            result = edit_photo(pixels, name, strength)
            assert result.dtype == np.uint8
            if name == "crop":
                assert (np.array([1, 1, 3]) <= result.shape).all()
                assert (np.array(pixels.shape) >= result.shape).all()
            else:
                assert result.shape == pixels.shape, name


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_the_same_at_every_call_and_changes_no_original(name):
    pixels = smooth()
    pixels.setflags(write=False)
    strength = EDITS[name].strengths[-1]
    expected = edit_photo(pixels, name, strength, seed=3)
    np.testing.assert_array_equal(edit_photo(pixels, name, strength, seed=3), expected)
    turned = np.asfortranarray(pixels)
    np.testing.assert_array_equal(edit_photo(turned, name, strength, seed=3), expected)


def test_brightness_is_a_factor_up_to_white():
    pixels = np.array([[[0, 10, 100], [200, 255, 128]]], np.uint8)
    np.testing.assert_array_equal(
        edit_photo(pixels, "brightness", 0.5), [[[0, 5, 50], [100, 127, 64]]]
    )
    np.testing.assert_array_equal(
        edit_photo(pixels, "brightness", 2), [[[0, 20, 200], [255, 255, 255]]]
    )


def test_contrast_is_the_distance_from_the_mean_grey():
    pixels = plain((50, 50, 50), 4, 4)
    pixels[:, 2:] = 150  # mean 100
    np.testing.assert_array_equal(np.unique(edit_photo(pixels, "contrast", 0.5)), [75, 125])
    np.testing.assert_array_equal(np.unique(edit_photo(pixels, "contrast", 2)), [0, 200])
    np.testing.assert_array_equal(edit_photo(plain(GREY), "contrast", 2), plain(GREY))


def test_blur_is_measured_by_the_shorter_side_and_moves_no_light():
    pixels = plain(0, 100, 200)
    pixels[:, 100:] = 200
    one = edit_photo(pixels, "blur", 4)[50, :, 0].astype(float)
    large = np.asarray(Image.fromarray(pixels).resize((400, 200), Image.Resampling.NEAREST))
    two = edit_photo(large, "blur", 4)[100, :, 0].astype(float)
    assert one.mean() == pytest.approx(100, abs=1)
    for row, radius in ((one, 4), (two, 8)):
        weights = np.diff(row) / 200  # of an edge what is left is the kernel itself
        places = np.arange(len(weights)) + 0.5 - len(row) / 2 + 0.5
        assert np.sqrt((weights * places**2).sum()) == pytest.approx(radius, rel=0.1)


def test_noise_has_the_standard_deviation_that_is_asked_for_and_none_is_the_same_all_over():
    pixels = plain(GREY, 100, 100)
    changed = edit_photo(pixels, "noise", 20).astype(float) - pixels
    assert changed.mean() == pytest.approx(0, abs=0.5)
    assert changed.std() == pytest.approx(20, rel=0.02)
    assert changed.std(axis=2).mean() > 10  # the channels have noise of their own
    bright = edit_photo(plain(255, 100, 100), "noise", 20)
    assert bright.min() < 230
    # Clipped, not wrapped around to black.
    assert (bright == 255).mean() == pytest.approx(0.5, abs=0.02)


def test_a_quarter_turn_is_that_left_or_right():
    pixels = smooth(40, 40)
    turns = [np.rot90(pixels, 1), np.rot90(pixels, -1)]
    seen = set()
    for seed in range(8):
        result = edit_photo(pixels, "rotation", 90, seed=seed)
        seen |= {which for which, turn in enumerate(turns) if (result == turn).all()}
        assert any((result == turn).all() for turn in turns)
    assert seen == {0, 1}


@settings(max_examples=40, deadline=None)
@given(percent=st.sampled_from(EDITS["crop"].strengths), seed=st.integers(0, 999))
def test_a_crop_is_a_part_of_the_photo_with_each_side_shorter_by_so_much(percent, seed):
    y, x = np.mgrid[0:40, 0:60]
    pixels = np.stack([y, x, 0 * x], axis=2).astype(np.uint8)  # each pixel says where it is
    result = edit_photo(pixels, "crop", percent, seed=seed)
    assert result.shape == (40 * (100 - percent) // 100, 60 * (100 - percent) // 100, 3)
    top, left = result[0, 0, :2]
    np.testing.assert_array_equal(
        result, pixels[top : top + result.shape[0], left : left + result.shape[1]]
    )


@pytest.mark.parametrize("percent", EDITS["occlusion"].strengths)
def test_occlusion_covers_so_much_of_the_area_with_one_grey_rectangle(percent):
    pixels = plain(RED, 200, 100)
    result = edit_photo(pixels, "occlusion", percent)
    covered = (result == GREY).all(axis=2)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    assert covered.sum() == len(rows) * len(columns)
    assert (len(rows), len(columns)) == (
        round(200 * (percent / 100) ** 0.5),
        round(100 * (percent / 100) ** 0.5),
    )
    assert covered.mean() == pytest.approx(percent / 100, rel=0.05)
    assert share_of(result, RED) == pytest.approx(1 - covered.mean())


@pytest.mark.parametrize("hole", [0, 8])
def test_the_background_of_a_disc_is_the_ground_but_not_a_hole_in_the_disc(hole):
    pixels, ground = disc(hole=hole)
    mask = background(pixels)
    assert mask.dtype == np.float32
    assert mask.shape == ground.shape
    assert 0 <= mask.min() <= mask.max() <= 1
    np.testing.assert_array_equal(mask > 0.5, ground)
    assert mask[30, 30] == 0
    assert mask[0, 0] == 1
    assert ((mask > 0.01) & (mask < 0.99)).any()  # its edges are soft


def test_the_background_becomes_another_colour_and_the_product_stays():
    pixels, _ = disc()
    result = edit_photo(pixels, "background", 100, seed=2)
    y, x = np.mgrid[0:60, 0:60] - 29.5
    inside, outside = np.hypot(x, y) < 15, np.hypot(x, y) > 25
    np.testing.assert_array_equal(result[inside], pixels[inside])
    (colour,) = np.unique(result[outside], axis=0)
    np.testing.assert_array_equal(colour, np.random.default_rng(2).integers(256, size=3))
    (half,) = np.unique(edit_photo(pixels, "background", 50, seed=2)[outside], axis=0)
    np.testing.assert_allclose(half, (colour.astype(float) + 240) / 2, atol=0.5)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1024, 512), (512, 256)), ((300, 900), (171, 512)), ((1, 2000), (1, 512))],
)
def test_a_large_photo_is_made_smaller_in_its_proportions(shape, expected):
    pixels = smooth(*shape)
    assert shrunk(pixels).shape == (*expected, 3)
    assert edit_photo(pixels, "contrast", 2).shape == (*expected, 3)
    means = pixels.mean(axis=(0, 1)), shrunk(pixels).mean(axis=(0, 1))
    np.testing.assert_allclose(*means, atol=1)
