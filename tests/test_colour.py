import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import write_photo
from lookalike.colour import SIDE, colour_histograms
from lookalike.images import ImageError, load_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(path, *parts):
    """Upright stripes of one colour each, in the size that is counted."""
    image = Image.new("RGB", (SIDE, SIDE))
    for number, colour in enumerate(parts):
        image.paste(colour, (number * SIDE // len(parts), 0, SIDE, SIDE))
    image.save(path)
    return path


def bin_of(colour, bins):
    """Where a colour is counted, by the standard library's formula."""
    hue, saturation, value = (
        min(int(one * bins), bins - 1) for one in colorsys.rgb_to_hsv(*np.array(colour) / 255)
    )
    return hue * bins**2 + saturation * bins + value


@pytest.mark.parametrize("bins", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "colour", [RED, BLUE, (0, 255, 0), (0, 0, 0), (255, 255, 255), (40, 180, 120)]
)
def test_one_colour_is_one_bin(tmp_path, colour, bins):
    (vector,) = colour_histograms([picture(tmp_path / "a.png", colour)], bins=bins)
    expected = np.zeros(bins**3)
    expected[bin_of(colour, bins)] = 1
    np.testing.assert_array_equal(vector, expected)


def test_halves_and_quarters_are_the_roots_of_their_shares(tmp_path):
    files = [
        picture(tmp_path / "a.png", RED, BLUE),
        picture(tmp_path / "b.png", RED, RED, RED, BLUE),
    ]
    halves, quarters = colour_histograms(files)
    assert np.flatnonzero(halves).tolist() == sorted([bin_of(RED, 8), bin_of(BLUE, 8)])
    np.testing.assert_allclose(halves[halves > 0], np.sqrt([1 / 2, 1 / 2]), rtol=1e-6)
    assert quarters[bin_of(RED, 8)] == pytest.approx(np.sqrt(3 / 4))
    assert quarters[bin_of(BLUE, 8)] == pytest.approx(np.sqrt(1 / 4))
    assert halves @ quarters == pytest.approx(np.sqrt(3 / 8) + np.sqrt(1 / 8))


def test_vectors_are_in_the_order_of_the_paths_and_of_length_one(tmp_path):
    files = [
        write_photo(tmp_path / f"{number}.png", number, size=30 + 20 * number)
        for number in range(6)
    ]
    vectors = colour_histograms(files)
    assert vectors.shape == (6, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(colour_histograms(files[::-1]), vectors[::-1])
    assert len(np.unique(vectors, axis=0)) == 6


@settings(max_examples=15, deadline=None)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)), bins=st.integers(1, 9))
def test_the_cosine_is_the_bhattacharyya_coefficient(tmp_path_factory, seeds, bins):
    folder = tmp_path_factory.mktemp("photos")
    files = [write_photo(folder / f"{seed}.png", seed) for seed in seeds]
    shares = []
    for file in files:
        hsv = np.asarray(Image.fromarray(load_image(file, SIDE)).convert("HSV")).reshape(-1, 3)
        counts, _ = np.histogramdd(hsv, bins=bins, range=[(0, 256)] * 3)
        shares.append(counts / SIDE**2)
    one, other = colour_histograms(files, bins=bins)
    assert one @ other == pytest.approx(np.sqrt(shares[0] * shares[1]).sum(), rel=1e-5)


def test_where_the_colours_lie_and_how_large_the_photo_is_does_not_count(tmp_path):
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:40] = (200, 100, 50)
    pixels[40:, 30:] = (20, 220, 90)
    sights = [
        pixels,
        pixels[::-1],
        pixels.swapaxes(0, 1),
        pixels.repeat(2, axis=0).repeat(2, axis=1),
    ]
    for number, sight in enumerate(sights):
        Image.fromarray(np.ascontiguousarray(sight)).save(tmp_path / f"{number}.png")
    vectors = colour_histograms(sorted(tmp_path.glob("*.png")))
    # Enlarged, the colours mix where they meet.
    np.testing.assert_allclose(vectors @ vectors.T, 1, atol=0.02)
    np.testing.assert_allclose((vectors[:3] @ vectors[:3].T), 1, atol=1e-6)


def test_no_photos_give_no_vectors():
    assert colour_histograms([], bins=3).shape == (0, 27)


def test_a_file_that_is_no_photo_is_named(tmp_path):
    (tmp_path / "letter.png").write_text("no photo")
    with pytest.raises(ImageError, match=r"letter\.png"):
        colour_histograms([write_photo(tmp_path / "a.png", 0), tmp_path / "letter.png"])
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        colour_histograms([tmp_path / "nowhere.jpg"])
