import sys
from collections import Counter
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from conftest import ALL_LABELS, PROJECT
from lookalike.copies.alignment import AGREEING, detect_keypoints
from lookalike.copies.differences import compare, in_same_light
from lookalike.images import load_image
from lookalike.machine import parallel_map
from lookalike.sources import load_catalog

sys.path.append(str(PROJECT / "benchmarks"))
from planted import plant_copies

# What a photo meets; JPEG 50, resize 150 % and so on lie between these.
KINDS = [
    "resize 25 %",
    "JPEG 20",
    "GIF",
    "crop 20 %",
    "brightness 1.3",
    "contrast 0.7",
    "warm light",
]
KINDS += ["rotation 10°", "mirrored", "watermark", "border", "greyscale", "screenshot"]
GREY, STAMPED = "copy in grey or variant", "stamped copy or variant"


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample", labels=ALL_LABELS)[0]


@pytest.fixture(scope="module")
def fourteen(sample):
    """Two photos of each label, and what they are laid by."""
    rows = sample.groupby("label").nth([3, 19]).reset_index(drop=True)
    return rows, [*parallel_map(detect_keypoints, rows["path"])]


@pytest.fixture(scope="module")
def edited(fourteen, tmp_path_factory):
    """What each copy of the fourteen is laid by: {kind: one each}."""
    copies = plant_copies(fourteen[0], tmp_path_factory.mktemp("copies"), kinds=KINDS)
    details = [*parallel_map(detect_keypoints, copies["path"])]
    return {kind: details[place :: len(KINDS)] for place, kind in enumerate(KINDS)}


def verdicts(pairs):
    """How often each verdict is given."""
    return Counter(found.verdict for found in parallel_map(lambda pair: compare(*pair), pairs))


def of_all(photos):
    """The same of all pairs of drawn photos."""
    return verdicts(combinations([detect_keypoints(np.asarray(photo)) for photo in photos], 2))


# --- Copies

# Of fourteen, how many must be called so; others lose their small colours, or are mostly stamp.
EXPECTED = dict.fromkeys(KINDS, ("copy", 13)) | {
    "JPEG 20": ("copy", 10),
    "brightness 1.3": ("copy", 12),
    "greyscale": (GREY, 13),
    "watermark": (STAMPED, 10),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_edited_photo_is_a_copy_of_it(kind, fourteen, edited):
    found = verdicts(zip(fourteen[1], edited[kind], strict=True))
    verdict, least = EXPECTED[kind]
    assert found[verdict] >= least
    assert found[""] <= (kind == "watermark")  # of a small thing on white, little but stamp is seen


def test_a_photo_is_a_copy_of_itself_without_any_difference(fourteen):
    for photo in fourteen[1]:
        found = compare(photo, photo)
        assert found[:3] == ("copy", 0, 0)
        assert found.n_matches >= AGREEING


def test_it_does_not_matter_which_photo_is_named_first(fourteen, edited):
    for kind in ("crop 20 %", "watermark", "rotation 10°", "mirrored"):
        for photo, other in list(zip(fourteen[1], edited[kind], strict=True))[::5]:
            assert compare(photo, other) == compare(other, photo)


# --- Variants

SIZES = (256, 384, 512, 320)


def jersey(number, size):
    """A blue jersey with a number."""
    image = Image.new("RGB", (256, 256), (232, 230, 226))
    draw = ImageDraw.Draw(image)
    shape = "80,40 176,40 230,80 206,122 184,104 184,224 72,224 72,104 50,122 26,80"
    corners = [tuple(map(int, corner.split(","))) for corner in shape.split()]
    draw.polygon(corners, fill=(30, 60, 140))
    draw.pieslice((104, 22, 152, 62), 0, 180, fill=(232, 230, 226))
    for left in (72, 178):
        draw.rectangle((left, 104, left + 6, 224), fill=(240, 200, 40))
    for text, height, tall in ((str(number), 120, 64), ("ROVERS", 185, 22)):
        font = ImageFont.load_default(tall)
        draw.text((128, height), text, font=font, fill="white", anchor="mm")
    return image.resize((size, size), Image.Resampling.LANCZOS)


def bag(colour, size=320):
    """A bag of one cut, in any colour."""
    image = Image.new("RGB", (size, size), (236, 234, 230))
    draw = ImageDraw.Draw(image)
    draw.arc((105, 38, 215, 188), 180, 360, fill=colour, width=12)
    draw.rounded_rectangle((60, 115, 260, 275), 18, fill=colour)
    draw.rectangle((60, 160, 260, 168), fill=(200, 170, 80))
    draw.ellipse((150, 150, 170, 180), fill=(200, 170, 80))
    draw.text((160, 225), "Lola", font=ImageFont.load_default(32), fill="#e6dcc8", anchor="mm")
    return image


def test_another_number_makes_a_variant():
    """In photos of 256 to 512 pixels, each laid on each other."""
    photos = [jersey(number, SIZES[number % 4]) for number in range(9, 18)]
    assert of_all(photos) == {"variant": 36}


def test_one_cut_in_other_colours_is_a_variant():
    colours = ["#b41e28", "#1c1a1e", "#1e6e3c", "#1e3c96", "#c8aa82"]
    assert of_all(map(bag, colours)) == {"variant": 10}
    assert of_all([bag("#b41e28", 330), bag("#b41e28", 340)]) == {"copy": 1}


def lab(pixels):
    return cv2.cvtColor(pixels / np.float32(255), cv2.COLOR_RGB2LAB)


def test_hardly_any_photo_is_a_copy_of_itself_in_other_hues(sample):
    """Every twentieth of a mean chroma above 8, turned in CIELAB by 42°, 85° and 127°."""
    pairs = []
    for photo in map(load_image, sample["path"].iloc[::20]):
        lightness, red, blue = np.moveaxis(lab(photo), 2, 0)
        if np.hypot(red, blue).mean() < 8:
            continue
        for degrees in (42, 85, 127):
            turned = (red + 1j * blue) * np.exp(1j * np.deg2rad(degrees))
            other = np.float32(np.dstack([lightness, turned.real, turned.imag]))
            other = cv2.cvtColor(other, cv2.COLOR_LAB2RGB)
            pairs.append((photo, np.uint8((255 * other).clip(0, 255).round())))
    found = verdicts([[*map(detect_keypoints, pair)] for pair in pairs])
    assert len(pairs) > 30
    assert found["copy"] <= 1
    assert found["variant"] >= 0.9 * len(pairs)


# --- Others


def test_other_views_of_a_product_are_no_copies(sample):
    some = sample[sample["product_id"].isin(sample["product_id"].unique()[::12])]
    found = verdicts(
        pair
        for _, paths in some.groupby("product_id")["path"]
        for pair in combinations(map(detect_keypoints, paths), 2)
    )
    assert set(found) <= {"", "variant"}
    assert found[""] >= 0.95 * sum(found.values()) > 30


# --- Light

SMOOTH = cv2.resize(np.random.default_rng(0).integers(60, 151, (9, 9, 3), np.uint8), (80, 70))
ALL = np.ones((70, 80), bool)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.6, 1.3), st.tuples(*[st.floats(0.92, 1.08)] * 3), st.floats(-20, 30))
def test_gains_and_an_offset_are_undone(brighter, gains, offset):
    """To a grey level, though a fifth of the photo shows something else."""
    light = SMOOTH * (brighter * np.array(gains)) + offset
    other = np.uint8(light.round())
    other[:14] = 255 - other[:14]
    found = in_same_light(SMOOTH, other, ALL)
    assert found.dtype == np.float32
    assert np.abs(found - light).max() <= 1


def test_swapped_channels_and_the_colours_of_another_lamp_than_any_are_not_undone():
    swapped = np.ascontiguousarray(SMOOTH[..., [2, 0, 1]])
    for other in (swapped, np.uint8(SMOOTH * [1.6, 1, 0.5])):
        assert np.abs(in_same_light(SMOOTH, other, ALL) - other).mean() > 8
