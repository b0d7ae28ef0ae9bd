import sys
from collections import Counter
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from conftest import ALL_LABELS, PROJECT, write_photo
from lookalike.copies.alignment import AGREEING, detect_keypoints
from lookalike.copies.differences import compare, in_same_light, lab
from lookalike.images import load_image
from lookalike.machine import parallel_map
from lookalike.sources import load_catalog

sys.path.append(str(PROJECT / "benchmarks"))
from planted import COPIES, plant_copies

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
    copies = plant_copies(fourteen[0], tmp_path_factory.mktemp("copies"))
    details = [*parallel_map(detect_keypoints, copies["path"])]
    return {kind: details[place :: len(COPIES)] for place, kind in enumerate(COPIES)}


def verdicts(pairs):
    """How often each verdict is given."""
    return Counter(found.verdict for found in parallel_map(lambda pair: compare(*pair), pairs))


def of_all(photos):
    """The same of all pairs of drawn photos."""
    return verdicts(combinations([detect_keypoints(np.asarray(photo)) for photo in photos], 2))


# --- Copies

# Of fourteen, how many must be called so; others lose their small colours, or are mostly stamp.
EXPECTED = dict.fromkeys(COPIES, ("copy", 13)) | {
    "JPEG 50": ("copy", 12),
    "JPEG 20": ("copy", 10),
    "brightness 1.3": ("copy", 12),
    "greyscale": (GREY, 13),
    "watermark": (STAMPED, 10),
}


@pytest.mark.parametrize("kind", COPIES)
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
        assert [type(one) for one in found] == [str, float, float, int]


def test_it_does_not_matter_which_photo_is_named_first(fourteen, edited):
    for kind in ("crop 20 %", "brightness 1.3", "watermark", "rotation 10°", "mirrored"):
        for photo, other in list(zip(fourteen[1], edited[kind], strict=True))[::3]:
            assert compare(photo, other) == compare(other, photo)
    # An exact mirror image has as many details and the same sum: numbers differ a little.
    for path in fourteen[0]["path"][::3]:
        pair = [detect_keypoints(side) for side in (load_image(path), load_image(path)[:, ::-1])]
        there, back = compare(*pair), compare(*pair[::-1])
        assert there.verdict == back.verdict == "copy"
        assert there[1:3] == pytest.approx(back[1:3], abs=0.05)


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


def gift_card(amount, size):
    """A red card with spots, a ribbon and an amount."""
    scale = size / 256
    image = Image.new("RGB", (size, round(164 * scale)), (178, 34, 52))
    draw = ImageDraw.Draw(image)
    for spot in range(12):
        x, y = spot * 37 % 256, spot * 61 % 164
        draw.ellipse([scale * at for at in (x - 20, y - 20, x + 26, y + 26)], fill=(196, 52, 66))
    draw.rectangle((0, 122 * scale, size, 132 * scale), fill=(240, 205, 90))
    for text, x, y, tall, anchor in (
        ("Gift card", 20, 44, 28, "ls"),
        (f"{amount} €", 236, 100, 34, "rs"),
        ("at all our shops", 20, 152, 12, "ls"),
    ):
        font = ImageFont.load_default(tall * scale)
        draw.text((x * scale, y * scale), text, font=font, fill="white", anchor=anchor)
    return image


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


@pytest.mark.parametrize(
    "draw, marks",
    [(jersey, range(20)), (gift_card, (5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 100, 200))],
    ids=["jerseys", "gift cards"],
)
def test_another_number_or_amount_makes_a_variant(draw, marks):
    """In photos of 256 to 512 pixels, each laid on each other."""
    photos = [draw(mark, SIZES[place % 4]) for place, mark in enumerate(marks)]
    assert of_all(photos) == {"variant": len(photos) * (len(photos) - 1) // 2}


def test_one_cut_in_other_colours_is_a_variant():
    colours = ["#b41e28", "#1c1a1e", "#1e6e3c", "#1e3c96", "#c8aa82"]
    assert of_all(map(bag, colours)) == {"variant": 10}
    assert of_all([bag("#b41e28", 330), bag("#b41e28", 340)]) == {"copy": 1}


@pytest.fixture(scope="module")
def coloured(sample):
    """Every seventh photo of a mean chroma above 8."""
    photos = map(load_image, sample["path"])
    photos = [one for one in photos if np.linalg.norm(lab(one)[..., 1:], axis=2).mean() > 8]
    assert len(photos) > 250
    return photos[::7]


def test_hardly_any_photo_is_a_copy_of_itself_in_other_hues(coloured):
    """Turned in CIELAB by 42°, 85° and 127°: of all three, one in a hundred at most."""
    pairs = []
    for photo in coloured:
        for degrees in (42, 85, 127):
            lightness, red, blue = np.moveaxis(lab(photo), 2, 0)
            turned = (red + 1j * blue) * np.exp(1j * np.deg2rad(degrees))
            other = np.float32(np.dstack([lightness, turned.real, turned.imag]))
            other = cv2.cvtColor(other, cv2.COLOR_LAB2RGB)
            pairs.append((photo, np.uint8((255 * other).clip(0, 255).round())))
    found = verdicts([[*map(detect_keypoints, pair)] for pair in pairs])
    assert found["copy"] <= 0.01 * len(pairs)
    assert found["variant"] >= 0.9 * len(pairs)


# --- Others


def test_other_views_of_a_product_are_no_copies(sample):
    some = sample[sample["product_id"].isin(sample["product_id"].unique()[::4])]
    found = verdicts(
        pair
        for _, paths in some.groupby("product_id")["path"]
        for pair in combinations(map(detect_keypoints, paths), 2)
    )
    assert set(found) <= {"", "variant"}
    assert found[""] >= 0.97 * sum(found.values()) > 100


def test_faint_prints_on_cloth_of_one_strong_colour_are_no_copies(tmp_path):
    """The colour prevails where both are compared in small; the greys alone differ."""
    prints = [load_image(write_photo(tmp_path / f"{seed}.png", seed, 256)) for seed in range(8)]
    assert of_all(one // 20 + np.uint8([200, 30, 30]) for one in prints) == {"": 28}


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
