import sys

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from conftest import ALL_LABELS, PROJECT
from lookalike.copies.hashing import perceptual_hash, perceptual_hashes, without_margins
from lookalike.images import load_image
from lookalike.sources import load_catalog

sys.path.append(str(PROJECT / "benchmarks"))


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample", labels=ALL_LABELS)[0]


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


def test_the_hash_is_that_of_imagehash_on_the_sample(sample):
    for path in sample["path"].iloc[::12]:
        pixels = load_image(path)
        expected = imagehash.phash(Image.fromarray(pixels))
        assert perceptual_hash(pixels) == int(str(expected), 16), path


# --- Hashes of the three versions


def test_the_hashes_are_those_of_the_photo_mirrored_and_without_margins(sample):
    framed = np.asarray(ImageOps.expand(textured(90, 60), 16, "#3060c0"))
    for pixels in [framed, *map(load_image, sample["path"].iloc[::100])]:
        image = Image.fromarray(pixels)
        versions = image, ImageOps.mirror(image), image.crop(inner_box(image))
        (hashes,) = perceptual_hashes(pixels[None])
        assert hashes.tolist() == [perceptual_hash(np.asarray(one)) for one in versions]


# --- Margins


# Not of strips: of one pixel across, as photos of 100 : 1 are when they are measured, each line is
# of one colour, and most of them go.
@pytest.mark.parametrize("size", [(100, 80), (2, 2), (2000, 60)])
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


@pytest.mark.parametrize("colours", [["white"], ["white", "red", "#102030"]])
def test_margins_inside_margins_go_too(colours):
    image = textured(60, 60)
    for colour in colours:
        image = ImageOps.expand(image, 20, colour)
    room = 20 * len(colours)
    assert_near(image, (room, room, room + 60, room + 60))


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
