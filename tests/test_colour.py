import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.colour import (
    BINS,
    CENTRED,
    ENDS,
    SIDE,
    colour_histogram,
    colour_histograms,
    join,
    lab_pixels,
)
from lookalike.similarity import normalise

# Bruce Lindbloom's CIELAB of sRGB colours, adapted to the white D50 of colour profiles.
KNOWN = {
    (255, 0, 0): (54.29, 80.81, 69.89),
    (0, 255, 0): (87.82, -79.27, 80.99),
    (0, 0, 255): (29.57, 68.30, -112.03),
    (255, 255, 255): (100, 0, 0),
    (0, 0, 0): (0, 0, 0),
}
RED, BLUE = (255, 0, 0), (0, 0, 255)


def photo(*colours, side=SIDE):
    """Upright stripes of one colour each."""
    pixels = np.zeros((side, side, 3), np.uint8)
    for number, colour in enumerate(colours):
        pixels[:, number * side // len(colours) :] = colour
    return pixels


def bin_of(colour):
    places = [
        min(int(np.clip((one - low) / (high - low), 0, 1) * bins), bins - 1)
        for one, (low, high), bins in zip(KNOWN[colour], ENDS, BINS, strict=True)
    ]
    return int(np.ravel_multi_index(places, BINS))


@pytest.mark.parametrize("colour", KNOWN)
def test_one_colour_has_its_known_place_in_cielab_and_one_bin(colour):
    np.testing.assert_allclose(lab_pixels(photo(colour))[5, 5], KNOWN[colour], atol=1)
    expected = np.zeros(108)
    expected[bin_of(colour)] = 1
    np.testing.assert_allclose(colour_histogram(photo(colour)), expected, atol=1e-6)


def test_shares_are_roots_and_what_is_in_the_centre_counts_more():
    halves = colour_histogram(photo(RED, BLUE))
    np.testing.assert_allclose(halves[[bin_of(RED), bin_of(BLUE)]], np.sqrt(0.5), rtol=1e-6)
    rim, middle = photo(RED), photo(BLUE)
    rim[16:48, 16:48], middle[16:48, 16:48] = BLUE, RED
    share = CENTRED[16:48, 16:48].sum()
    assert share > 0.25
    assert colour_histogram(rim)[bin_of(BLUE)] ** 2 == pytest.approx(share, rel=1e-5)
    assert colour_histogram(middle)[bin_of(RED)] ** 2 == pytest.approx(share, rel=1e-5)


def test_any_photo_has_colours_of_length_one_mirrored_or_not():
    photos = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    colours = colour_histograms(photos)
    assert (colours.shape, colours.dtype) == ((5, 108), np.float32)
    for one, pixels in zip(colours, photos, strict=True):
        assert one @ one == pytest.approx(1, abs=1e-5)
        assert one @ colour_histogram(pixels[:, ::-1]) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(colour_histogram(photos[0, :20, :33])) == pytest.approx(1, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_product_of_query_and_gallery_is_the_weighted_sum(seed, colour):
    random = np.random.default_rng(seed)
    seen, colours = normalise(random.normal(size=(7, 5))), normalise(random.random((7, 4)))
    products = join(seen[:2], colours[:2], colour) @ join(seen, colours).T
    expected = (1 - colour) * seen[:2] @ seen.T + colour * colours[:2] @ colours.T
    np.testing.assert_allclose(products, expected, atol=1e-6)
