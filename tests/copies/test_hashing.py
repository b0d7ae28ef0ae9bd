import sys

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from conftest import ALL_LABELS, PROJECT
from lookalike.copies import SIDE_ARRAYS
from lookalike.copies.hashing import perceptual_hash, perceptual_hashes, without_margins
from lookalike.images import load_image
from lookalike.sources import load_catalog

sys.path.append(str(PROJECT / "benchmarks"))
from planted import plant_copies


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample", labels=ALL_LABELS)[0]


@pytest.fixture(scope="module")
def twenty(sample):
    """Twenty pictures of all seven labels."""
    return sample.iloc[::24].head(20).reset_index(drop=True)


def textured(width, height):
    """Random colours all over, about a hundred along the longer side: none of its lines is of one
    colour.
    """
    step = max(1, max(width, height) // 100)
    shape = (-(-height // step), -(-width // step), 3)
    colours = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)


def inner_box(image):
    """Left, top, right and bottom of what is left without margins, a part of the pixels."""
    pixels = np.array(image)
    inner = without_margins(pixels)
    starts = [one.__array_interface__["data"][0] for one in (inner, pixels)]
    top, left = divmod((starts[0] - starts[1]) // 3, pixels.shape[1])
    return left, top, left + inner.shape[1], top + inner.shape[0]


def assert_near(image, expected):
    """Each side of the inner box within 2 % of the longer side."""
    off = np.abs(np.subtract(inner_box(image), expected)).max()
    assert off <= 0.02 * max(image.size)


# --- The hash


def by_imagehash(pixels):
    return int(str(imagehash.phash(Image.fromarray(pixels))), 16)


def test_the_hash_is_that_of_imagehash_on_the_sample(sample):
    for path in sample["path"].iloc[::4]:
        pixels = load_image(path)
        assert perceptual_hash(pixels) == by_imagehash(pixels), path


NOISE = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
ODD = {
    "one pixel": np.full((1, 1, 3), (255, 0, 0), np.uint8),
    "one white pixel": np.full((1, 1, 3), 255, np.uint8),
    "one row": NOISE[:1],
    "one column": NOISE[:, :1],
    "black": np.zeros((40, 40, 3), np.uint8),
    "tall": np.asarray(Image.fromarray(NOISE).resize((9, 700))),
    "wide": np.asarray(Image.fromarray(NOISE).resize((700, 9))),
    "32 x 32": NOISE[:32, :32],
    "stripes": np.tile(NOISE[:1], (40, 1, 1)),
    "alike on both sides": np.concatenate([NOISE, NOISE[:, ::-1]], axis=1),
    "column by column": np.asfortranarray(NOISE),
}


@pytest.mark.parametrize("name", ODD)
def test_the_hash_is_that_of_imagehash_on_odd_images(name):
    found = perceptual_hash(ODD[name])
    assert type(found) is int
    assert found == by_imagehash(ODD[name])


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 4), (0, 30, 3)])
def test_what_are_no_pixels_is_refused(shape):
    for work in (perceptual_hash, without_margins):
        with pytest.raises(ValueError, match="Pixels must be a uint8 array"):
            work(np.zeros(shape, np.uint8))


# --- Hashes of the three versions


def test_the_hashes_are_those_of_the_photo_mirrored_and_without_margins(twenty):
    framed = np.asarray(ImageOps.expand(textured(90, 60), 16, "#3060c0"))
    for pixels in [framed, *map(load_image, twenty["path"])]:
        image = Image.fromarray(pixels)
        versions = image, ImageOps.mirror(image), image.crop(inner_box(image))
        (hashes,) = perceptual_hashes(pixels[None])
        assert hashes.tolist() == [perceptual_hash(np.asarray(one)) for one in versions]


def test_photos_of_a_batch_are_hashed_each_by_itself(twenty):
    photos = np.stack([load_image(path, 128) for path in twenty["path"]])
    hashes = SIDE_ARRAYS["hashes"](photos)
    assert hashes.dtype == np.uint64
    assert hashes.shape == (20, 3)
    for row, pixels in enumerate(photos):
        np.testing.assert_array_equal(perceptual_hashes(pixels[None])[0], hashes[row])
    assert perceptual_hashes(photos[:0]).shape == (0, 3)


# Of the kind: which hash of the photo is near which of its copy, and in how many of twenty.
KINDS = {
    "resize 50 %": (0, 0, 20),
    "JPEG 20": (0, 0, 20),
    "brightness 1.3": (0, 0, 18),
    "mirrored": (1, 0, 20),
    "border": (2, 2, 16),
    "screenshot": (2, 2, 15),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_hash_of_a_copy_is_near_one_of_the_photo(kind, twenty, tmp_path):
    own, other, least = KINDS[kind]
    copies = plant_copies(twenty, tmp_path, kinds=[kind])
    photos, changed = (
        np.concatenate([perceptual_hashes(load_image(path, 128)[None]) for path in table["path"]])
        for table in (twenty, copies)
    )
    near = np.bitwise_count(photos[:, own] ^ changed[:, other]) <= 8
    as_they_are = np.bitwise_count(photos[:, 0] ^ changed[:, 0]) <= 8
    assert near.sum() >= least
    assert as_they_are.sum() >= least if own == other == 0 else as_they_are.sum() <= 5
    # That of another photo is not near.
    assert (np.bitwise_count(photos[1:, own] ^ changed[:-1, other]) > 8).all()


# --- Margins


# Not of strips: of one pixel across, as photos of 100 : 1 are when they are measured, each line is
# of one colour, and most of them go.
@pytest.mark.parametrize("size", [(100, 80), (30, 20), (2, 2), (1000, 700), (2000, 60)])
def test_photos_without_margins_and_of_one_colour_are_left_whole(size):
    blank = [Image.new("RGB", size, colour) for colour in ("white", "black", "#3060c0")]
    for image in (textured(*size), *blank):
        assert inner_box(image) == (0, 0, *size)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(0, 120)] * 4),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.sampled_from([(200, 150), (120, 300), (600, 600)]),
)
def test_margins_of_any_colour_go_on_whichever_sides_they_are(room, colour, size):
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    photo = Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)
    framed = ImageOps.expand(photo, room, colour)
    assert_near(framed, (room[0], room[1], room[0] + size[0], room[1] + size[1]))


@pytest.mark.parametrize("colours", [["white"], ["white", "red"], ["white", "red", "#102030"]])
def test_margins_inside_margins_go_too(colours):
    image = textured(60, 60)
    for colour in colours:
        image = ImageOps.expand(image, 20, colour)
    room = 20 * len(colours)
    assert_near(image, (room, room, room + 60, room + 60))


@pytest.mark.parametrize("thing", [False, True])
def test_a_frame_goes_even_if_there_is_a_thin_thing_or_nothing_inside(thing):
    """What is inside has little to tell a margin from, so that all of it might be one."""
    photo = Image.new("RGB", (100, 100), "white")
    if thing:
        ImageDraw.Draw(photo).rectangle((10, 48, 90, 51), "black")
    left, top, right, bottom = inner_box(ImageOps.expand(photo, 20, "red"))
    assert min(left, top) >= 18
    assert max(right, bottom) <= 122
    assert right - left >= 75
    assert bottom - top >= 3


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4), st.integers(0, 3))
def test_something_is_left_of_any_photo(width, height, colours, seed):
    random = np.random.default_rng(seed)
    palette = random.integers(0, 256, (colours, 3), np.uint8)
    spots = random.random((height, width)) < 0.2
    image = Image.fromarray(palette[random.integers(colours, size=(height, width)) * spots])
    left, top, right, bottom = inner_box(image)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
