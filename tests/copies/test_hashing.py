import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from conftest import ALL_LABELS, write_photo
from lookalike.copies import find_near_duplicates, plant_copies
from lookalike.copies.hashing import hash_photo, inner_box, perceptual_hash, thumbnail_correlation
from lookalike.images import ImageError, load_image
from lookalike.sources import load_catalog


@pytest.fixture(scope="module")
def twenty():
    """Twenty pictures of all seven labels."""
    sample = load_catalog("sample", labels=ALL_LABELS)[0]
    return sample.iloc[::24].head(20).reset_index(drop=True)


def changed(twenty, folder, kind):
    """Each photo and its copy of one kind, as pictures."""
    copies = plant_copies(twenty, folder, kinds=[kind])
    for path, copy in zip(twenty["path"], copies["path"], strict=True):
        yield Image.fromarray(load_image(path)), Image.fromarray(load_image(copy))


def textured(width, height, seed=0):
    """Random colours all over, about a hundred along the longer side: no line of it is of one
    colour.
    """
    step = max(1, max(width, height) // 100)
    colours = np.random.default_rng(seed).integers(
        0, 256, (-(-height // step), -(-width // step), 3), np.uint8
    )
    return Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)


def far_off(box, expected, size):
    """How far the worst side of a box is from where it should be, as a share of the longer side of
    the photo.
    """
    return np.abs(np.subtract(box, expected)).max() / max(size)


def bits(one, other):
    return int(np.bitwise_count(np.uint64(one) ^ np.uint64(other)))


# --- Margins
# -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_a_photo_without_margins_is_left_whole(deep):
    for size in ((100, 80), (30, 20), (1, 40), (40, 1), (2, 2), (1000, 700), (2000, 20)):
        assert inner_box(textured(*size), deep=deep) == (0, 0, *size)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(0, 120)] * 4),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.sampled_from([(200, 150), (120, 300), (600, 600)]),
    st.booleans(),
)
def test_margins_of_one_colour_go_on_whichever_sides_they_are(room, colour, size, deep):
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    photo = Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)
    framed = ImageOps.expand(photo, room, colour)
    expected = (room[0], room[1], room[0] + size[0], room[1] + size[1])
    assert far_off(inner_box(framed, deep=deep), expected, framed.size) <= 0.02


@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
@pytest.mark.parametrize("colour", ["white", "black", "#3060c0"])
def test_a_bar_on_one_side_goes_even_if_it_is_most_of_the_photo(side, colour):
    """160 of 256 pixels, in pixels of two."""
    room = [160 * (side == one) for one in ("left", "top", "right", "bottom")]
    photo = textured(
        96 if side in ("left", "right") else 256, 256 if side in ("left", "right") else 96
    )
    box = inner_box(ImageOps.expand(photo, tuple(room), colour))
    assert box == (room[0], room[1], room[0] + photo.width, room[1] + photo.height)


@pytest.mark.parametrize("kind", ["border", "screenshot"])
def test_what_is_left_of_a_copy_with_margins_is_the_photo(kind, twenty, tmp_path):
    """And the plain ground of the photo itself, of another colour than the margin, stays."""
    for photo, copy in changed(twenty, tmp_path, kind):
        left, top = (copy.width - photo.width) // 2, (copy.height - photo.height) // 2
        assert left + top > 0
        expected = (left, top, left + photo.width, top + photo.height)
        assert far_off(inner_box(copy), expected, copy.size) <= 0.02


def on_grounds(*colours):
    """A textured middle, 60 x 60, and around it grounds of several colours, the innermost first, 20
    pixels each.
    """
    photo = textured(60, 60)
    for colour in colours:
        photo = ImageOps.expand(photo, 20, colour)
    return photo


def test_only_deep_takes_the_ground_inside_a_frame_too():
    for colours, shallow, deep in (
        (["white"], (20, 20, 80, 80), (20, 20, 80, 80)),
        (["white", "red"], (20, 20, 120, 120), (40, 40, 100, 100)),
        (["white", "red", "#102030"], (20, 20, 160, 160), (60, 60, 120, 120)),
    ):
        photo = on_grounds(*colours)
        assert far_off(inner_box(photo), shallow, photo.size) <= 0.02
        assert far_off(inner_box(photo, deep=True), deep, photo.size) <= 0.02


def test_bars_above_and_below_do_not_take_the_ground_at_the_sides_with_them():
    """As in a screenshot of a photo of one thing on white."""
    photo = ImageOps.expand(textured(60, 100), (20, 0), "white")
    barred = ImageOps.expand(photo, (0, 30), "#101010")
    assert far_off(inner_box(barred), (0, 30, 100, 130), barred.size) <= 0.02
    assert far_off(inner_box(barred, deep=True), (20, 30, 80, 130), barred.size) <= 0.02


def test_the_frame_goes_even_if_what_is_inside_is_a_thin_thing_or_nothing():
    """What is inside has little to tell a margin from, so that all of it might be one; the frame is
    none of that.
    """
    for inside in ("nothing", "thing"):
        photo = Image.new("RGB", (100, 100), "white")
        if inside == "thing":
            ImageDraw.Draw(photo).rectangle((10, 48, 90, 51), "black")
        framed = ImageOps.expand(photo, 20, "red")
        for deep in (False, True):
            left, top, right, bottom = inner_box(framed, deep=deep)
            assert min(left, top) >= 18
            assert max(right, bottom) <= 122
            assert right - left >= 75  # and what is inside stays
            assert bottom - top >= 3


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (40, 30), (500, 400)])
def test_a_photo_of_one_colour_is_left_whole(size, deep):
    for colour in ("white", "black", "#3060c0"):
        assert inner_box(Image.new("RGB", size, colour), deep=deep) == (0, 0, *size)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_something_is_left_of_any_photo(width, height, colours, seed, deep):
    random = np.random.default_rng(seed)
    palette = random.integers(0, 256, (colours, 3), np.uint8)
    pixels = palette[
        random.integers(colours, size=(height, width)) * (random.random((height, width)) < 0.2)
    ]
    left, top, right, bottom = inner_box(Image.fromarray(pixels), deep=deep)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


# --- Hashes of the variants
# --------------------------------------------------------------------------------------


def test_the_hashes_are_those_of_the_photo_mirrored_without_margins_and_both(twenty):
    framed = ImageOps.expand(textured(90, 60), 16, "#3060c0")
    for photo in [framed, *(Image.fromarray(load_image(path)) for path in twenty["path"])]:
        inner = photo.crop(inner_box(photo))
        expected = [
            perceptual_hash(one)
            for one in (photo, ImageOps.mirror(photo), inner, ImageOps.mirror(inner))
        ]
        hashes = hash_photo(np.asarray(photo)).hashes
        assert hashes.dtype == np.uint64
        assert hashes.tolist() == expected


def test_the_hash_of_a_mirrored_copy_is_that_of_the_mirrored_photo(twenty, tmp_path):
    copies = plant_copies(twenty, tmp_path, kinds=["mirrored"])
    for path, copy in zip(twenty["path"], copies["path"], strict=True):
        one, other = hash_photo(path).hashes, hash_photo(copy).hashes
        assert max(bits(one[1], other[0]), bits(one[0], other[1])) <= 8
        assert bits(one[0], other[0]) > 8


@pytest.mark.parametrize("kind", ["border", "screenshot"])
def test_the_hash_of_a_copy_without_its_margins_is_that_of_the_photo(kind, twenty, tmp_path):
    copies = plant_copies(twenty, tmp_path, kinds=[kind])
    near = as_it_is = 0
    for path, copy in zip(twenty["path"], copies["path"], strict=True):
        one, other = hash_photo(path).hashes, hash_photo(copy).hashes
        near += bits(one[0], other[2]) <= 8
        as_it_is += bits(one[0], other[0]) <= 8
    assert near >= 18
    assert as_it_is <= 5


def test_a_catalogue_alone_is_searched_by_the_photos_as_they_are(twenty, tmp_path):
    """Variants are for candidates that are laid on each other: their thumbnails do not show that
    they are copies.
    """
    copies = plant_copies(twenty, tmp_path, kinds=["mirrored", "border", "screenshot", "PNG"])
    both = pd.concat([twenty, copies[twenty.columns]], ignore_index=True)
    found = find_near_duplicates(both)
    again = copies[copies["kind"] == "PNG"]
    pairs = set(zip(found["image_id"], found["other_id"], strict=True))
    assert pairs == set(zip(again["copy_of"], again["image_id"], strict=True))
    assert set(found["step"]) == {"perceptual hash"}


# --- Looks
# -------------------------------------------------------------------------------------------------------


def test_the_look_of_a_path_is_that_of_its_pixels_and_has_the_content_too(tmp_path):
    path = write_photo(tmp_path / "photo.png", 3)
    look, of_text = hash_photo(path), hash_photo(str(path))
    pixels = np.asfortranarray(load_image(path))
    pixels.setflags(write=False)
    of_pixels = hash_photo(pixels)
    for one in (of_text, of_pixels):
        np.testing.assert_array_equal(one.hashes, look.hashes)
        np.testing.assert_array_equal(one.thumbnail, look.thumbnail)
    assert look.content == of_text.content == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert of_pixels.content == ""
    assert look.thumbnail.shape == (256, 3)
    assert look.thumbnail.dtype == np.uint8


def test_the_look_of_a_jpeg_is_nearly_that_of_its_pixels(twenty):
    """It is decoded at a fraction of its size."""
    for path in twenty["path"]:
        of_path, of_pixels = hash_photo(path), hash_photo(load_image(path))
        assert max(map(bits, of_path.hashes[:2], of_pixels.hashes[:2])) <= 4
        assert thumbnail_correlation(of_path.thumbnail[None], of_pixels.thumbnail[None])[0] > 0.995


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (40, 30)])
def test_photos_of_one_colour_and_of_one_line_have_a_look(size):
    for photo in (Image.new("RGB", size, "red"), textured(*size)):
        look = hash_photo(np.asarray(photo))
        np.testing.assert_array_equal(look.hashes[:2], look.hashes[2:])  # there is no margin
        assert look.thumbnail.shape == (256, 3)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((40, 30), np.uint8),
        np.zeros((40, 30, 4), np.uint8),
        np.zeros((40, 30, 3)),
        np.zeros((0, 30, 3), "u1"),
    ],
    ids=["grey", "with transparency", "fractions", "none"],
)
def test_what_are_no_pixels_is_refused(pixels):
    with pytest.raises(ValueError, match="Pixels must be a uint8 array"):
        hash_photo(pixels)


@pytest.mark.parametrize("content", [b"", b"no photo"], ids=["empty", "text"])
def test_a_file_that_is_no_photo_is_named(content, tmp_path):
    (tmp_path / "some.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"some\.jpg"):
        hash_photo(tmp_path / "some.jpg")


def test_correlations_of_thumbnails_are_pearsons_and_0_for_a_single_colour():
    random = np.random.default_rng(0)
    some, others = random.integers(0, 256, (2, 7, 256, 3), np.uint8)
    some[2], others[3] = (200, 30, 30), (1, 2, 3)
    others[4] = some[4]
    others[5] = 255 - some[5]
    expected = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1]
        for one, other in zip(some, others, strict=True)
    ]
    expected[2] = expected[3] = 0
    np.testing.assert_allclose(thumbnail_correlation(some, others), expected, atol=1e-12)
    assert thumbnail_correlation(some[:0], others[:0]).shape == (0,)
