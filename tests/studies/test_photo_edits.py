import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike.studies import edit_photo
from lookalike.studies.photo_edits import EDITS, LARGEST, background, shrunk

# From the mildest to the hardest; brightness and contrast go two ways.
HARDER = {name: [edit.unchanged, *edit.strengths] for name, edit in EDITS.items()}
HARDER["JPEG"] = [100, 80, 40, 20, 10, 5]
HARDER["brightness"], HARDER["contrast"] = [1, 0.75, 0.5, 0.25], [1, 0.75, 0.5, 0.25]
HARDER |= {"more brightness": [1, 1.25, 1.5, 2.0], "more contrast": [1, 1.5, 2.0]}
EVERY_STEP = [
    (name, strength)
    for name, edit in EDITS.items()
    for strength in (edit.unchanged, *edit.strengths)
]
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


def test_the_nine_edits_have_strengths_in_order_that_are_none_of_them_no_change():
    names = [
        "brightness",
        "contrast",
        "blur",
        "noise",
        "JPEG",
        "rotation",
        "crop",
        "occlusion",
        "background",
    ]
    assert list(EDITS) == names
    for edit in EDITS.values():
        assert list(edit.strengths) == sorted(set(edit.strengths))
        assert edit.unchanged not in edit.strengths
        assert edit.unit


@pytest.mark.parametrize("name", EDITS)
def test_at_the_strength_of_no_change_a_photo_stays_as_it_is(name):
    pixels = smooth()
    result = edit_photo(pixels, name, EDITS[name].unchanged)
    assert result.shape == pixels.shape
    assert change_of(pixels, result) <= (1 if name == "JPEG" else 0)


@pytest.mark.parametrize("name", sorted(set(HARDER) - {"crop"}))
@pytest.mark.parametrize("seed", [0, 5])
def test_the_stronger_an_edit_the_further_the_photo_is_from_what_it_was(name, seed):
    edit = name.removeprefix("more ")
    pixels = disc(side=150, radius=50)[0] if edit == "blur" else smooth()
    changes = [
        change_of(pixels, edit_photo(pixels, edit, strength, seed=seed))
        for strength in HARDER[name]
    ]
    # Where grey lies does not matter, but what it hides is sometimes nearly grey.
    if edit == "occlusion":
        changes = [
            share_of(edit_photo(pixels, edit, strength, seed=seed), GREY)
            for strength in HARDER[name]
        ]
    assert (np.diff(changes) > 0).all(), changes
    assert changes[-1] > 0.1


def test_the_photo_that_is_edited_is_left_alone():
    pixels = smooth()
    before = pixels.copy()
    for name, edit in EDITS.items():
        edit_photo(pixels, name, edit.strengths[-1])
    np.testing.assert_array_equal(pixels, before)


def test_every_edit_of_the_smallest_and_thinnest_photos_gives_rgb_of_the_same_size():
    random = np.random.default_rng(0)
    for height, width in [(1, 1), (1, 2), (2, 2), (7, 1), (512, 2)]:
        coloured = random.integers(0, 256, (height, width, 3), np.uint8)
        for pixels in (coloured, coloured[..., :1].repeat(3, axis=2)):
            for name, strength in EVERY_STEP:
                result = edit_photo(pixels, name, strength)
                assert result.dtype == np.uint8
                if name != "crop":
                    assert result.shape == pixels.shape, name
                else:
                    assert result.shape[2] == 3
                    assert 1 <= result.shape[0] <= height
                    assert 1 <= result.shape[1] <= width


@settings(max_examples=40, deadline=None)
@given(
    step=st.sampled_from(EVERY_STEP),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    seed=st.integers(0, 2**32),
)
def test_an_edit_is_the_same_at_every_call_and_however_the_photo_lies_in_memory(
    step, height, width, seed
):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    expected = edit_photo(pixels, *step, seed=seed)
    np.testing.assert_array_equal(edit_photo(pixels, *step, seed=seed), expected)
    frozen = pixels.copy()
    frozen.setflags(write=False)
    wide = np.zeros((2 * height, 3 * width, 4), np.uint8)
    wide[::2, ::3, :3] = pixels
    for same in (frozen, wide[::2, ::3, :3], np.asfortranarray(pixels), pixels[::-1].copy()[::-1]):
        np.testing.assert_array_equal(edit_photo(same, *step, seed=seed), expected)


@pytest.mark.parametrize("name", ["noise", "rotation", "crop", "occlusion", "background"])
def test_what_is_left_to_chance_follows_the_seed(name):
    pixels, _ = disc()
    strength = EDITS[name].strengths[-1] if name != "rotation" else 20
    pixels = pixels if name == "background" else smooth(40, 40)
    results = [edit_photo(pixels, name, strength, seed=seed).tobytes() for seed in range(8)]
    assert len(set(results)) == 2 if name == "rotation" else len(set(results)) > 5


@pytest.mark.parametrize("name", ["brightness", "contrast", "blur", "JPEG"])
def test_what_is_not_left_to_chance_is_the_same_for_all_seeds(name):
    results = [edit_photo(smooth(), name, EDITS[name].strengths[0], seed=seed) for seed in (0, 1)]
    np.testing.assert_array_equal(*results)


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


@settings(max_examples=20, deadline=None)
@given(quality=st.sampled_from(EDITS["JPEG"].strengths))
def test_jpeg_is_what_the_file_would_show(quality, tmp_path_factory):
    file = tmp_path_factory.mktemp("jpeg") / "photo.jpg"
    Image.fromarray(smooth()).save(file, quality=quality)
    np.testing.assert_array_equal(
        edit_photo(smooth(), "JPEG", quality), np.asarray(Image.open(file))
    )


def test_a_quarter_turn_is_that_left_or_right():
    pixels = smooth(40, 40)
    turns = [np.rot90(pixels, 1), np.rot90(pixels, -1)]
    seen = set()
    for seed in range(8):
        result = edit_photo(pixels, "rotation", 90, seed=seed)
        seen |= {which for which, turn in enumerate(turns) if (result == turn).all()}
        assert any((result == turn).all() for turn in turns)
    assert seen == {0, 1}


@pytest.mark.parametrize("degrees", EDITS["rotation"].strengths)
def test_the_corners_of_a_turned_photo_are_filled_with_the_colour_of_its_edge(degrees):
    pixels, _ = disc(ground=(10, 90, 170), radius=20)
    pixels[0, :20] = 255  # less than half of the edge
    result = edit_photo(pixels, "rotation", degrees)
    filled = edit_photo(disc(ground=(10, 90, 170), radius=20)[0], "rotation", degrees)
    assert share_of(filled[:3, :3], (10, 90, 170)) == 1
    assert share_of(result[-2:, -2:], (10, 90, 170)) == 1
    np.testing.assert_array_equal(result[15:45, 15:45], filled[15:45, 15:45])


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


def test_a_crop_may_lie_at_every_edge():
    y, x = np.mgrid[0:10, 0:10]
    pixels = np.stack([y, x, 0 * x], axis=2).astype(np.uint8)
    corners = {
        tuple(edit_photo(pixels, "crop", 10, seed=seed)[0, 0, :2].tolist()) for seed in range(40)
    }
    assert corners == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("percent", EDITS["occlusion"].strengths)
@pytest.mark.parametrize("seed", range(4))
def test_occlusion_covers_so_much_of_the_area_with_one_grey_rectangle(percent, seed):
    pixels = plain(RED, 200, 100)
    result = edit_photo(pixels, "occlusion", percent, seed=seed)
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


def test_a_ground_of_several_colours_is_background_and_one_of_more_only_in_part():
    stripes = [(250, 250, 250), (30, 160, 60), (40, 40, 220), (220, 220, 20)]
    pixels, ground = disc()
    for number, colour in enumerate(stripes):
        part = ground & (np.arange(60) // 15 == number)[None, :]
        pixels[part] = colour
    np.testing.assert_array_equal(background(pixels) > 0.5, ground)
    assert (background(pixels, n_colours=1, distance=10) > 0.5).mean() < ground.mean() / 2


def test_how_near_a_colour_must_be_is_a_euclidean_distance():
    pixels = plain((100, 100, 100), 30, 30)
    pixels[1:15, 1:-1] = (110, 110, 110)  # 17.3 away
    pixels[16:-1, 1:-1] = (114, 114, 114)  # 24.2 away
    mask = background(pixels)
    assert mask[7, 15] == 1
    assert mask[22, 15] < 0.01
    assert background(pixels, distance=25)[22, 15] == 1
    assert background(pixels, distance=17)[7, 15] < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_the_background_becomes_another_colour_and_the_product_stays(seed):
    pixels, _ = disc()
    result = edit_photo(pixels, "background", 100, seed=seed)
    y, x = np.mgrid[0:60, 0:60] - 29.5
    inside, outside = np.hypot(x, y) < 15, np.hypot(x, y) > 25
    np.testing.assert_array_equal(result[inside], pixels[inside])
    (colour,) = np.unique(result[outside], axis=0)
    np.testing.assert_array_equal(colour, np.random.default_rng(seed).integers(256, size=3))
    (half,) = np.unique(edit_photo(pixels, "background", 50, seed=seed)[outside], axis=0)
    np.testing.assert_allclose(half, (colour.astype(float) + 240) / 2, atol=0.5)


def test_a_photo_of_one_colour_is_all_background():
    result = edit_photo(plain(RED), "background", 100, seed=1)
    np.testing.assert_array_equal(
        np.unique(result.reshape(-1, 3), axis=0), [np.random.default_rng(1).integers(256, size=3)]
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1024, 512), (512, 256)), ((300, 900), (171, 512)), ((1, 2000), (1, 512))],
)
def test_a_large_photo_is_made_smaller_in_its_proportions(shape, expected):
    pixels = smooth(*shape)
    assert shrunk(pixels).shape == (*expected, 3)
    for name, edit in EDITS.items():
        if name != "crop":
            assert edit_photo(pixels, name, edit.strengths[0]).shape == (*expected, 3)
    means = pixels.mean(axis=(0, 1)), shrunk(pixels).mean(axis=(0, 1))
    np.testing.assert_allclose(*means, atol=1)


@pytest.mark.parametrize("shape", [(LARGEST, LARGEST), (LARGEST, 3), (2, 2)])
def test_a_photo_that_is_small_enough_is_returned_as_it_is(shape):
    pixels = smooth(*shape)
    assert shrunk(pixels) is pixels


def test_an_edit_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(
        ValueError, match=r"Unknown edit 'sepia'; choose one of brightness, contrast, .*background"
    ):
        edit_photo(smooth(), "sepia", 1)
