from itertools import product

import cv2
import numpy as np
import pytest
from PIL import Image

from conftest import ALL_LABELS
from lookalike.copies.alignment import AGREEING, detect_keypoints, lay
from lookalike.copies.differences import compare
from lookalike.images import load_image
from lookalike.sources import load_catalog


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample", labels=ALL_LABELS)[0]


@pytest.fixture(scope="module")
def drawn(sample):
    """One drawing of each label, 256 x 256."""
    return [load_image(path) for path in sample.groupby("label")["path"].nth(4)]


def cloth(seed, size=(256, 256), colour=(150, 140, 130)):
    """A texture without repetition, smooth enough to be resampled."""
    noise = np.random.default_rng(seed).normal(size=(*size, 3))
    noise = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.uint8((colour + 30 * noise / noise.std()).clip(0, 255))


# --- Where a copy lies


def turned(degrees, scale=1.0):
    def change(pixels):
        height, width = pixels.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        copy = cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        size = round(scale * width), round(scale * height)
        copy = np.asarray(Image.fromarray(copy).resize(size, Image.Resampling.BILINEAR))
        matrix[:, 2] += 0.5 - 0.5 / scale
        return copy, scale * matrix

    return change


def cut(left, top, width, height):
    return lambda pixels: (
        pixels[top : top + height, left : left + width],
        np.array([[1, 0, -left], [0, 1, -top]], float),
    )


def framed(left, top, right, bottom):
    def change(pixels):
        copy = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), constant_values=70)
        return copy, np.array([[1, 0, left], [0, 1, top]], float)

    return change


CHANGES = {
    "turned -40°": turned(-40),
    "turned 180°": turned(180),
    "double the size": turned(0, 2),
    "turned 15° at 70 %": turned(15, 0.7),
    "cut": cut(20, 35, 200, 180),
    "framed": framed(10, 50, 60, 5),
}


def places(photo, matrix, size):
    """The pixels of a photo replaced by where, x and y, they are in the original."""
    height, width = photo.pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    points = (np.dstack([x, y]) + 0.5) * (np.array(size) / [width, height]) - 0.5
    points = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return photo._replace(pixels=np.float32(np.dstack([points, 0 * x])))


@pytest.mark.parametrize("mirrored", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("name", CHANGES)
def test_each_pixel_of_a_copy_is_laid_on_that_of_the_photo(name, mirrored, drawn):
    """Of a drawing and a texture, in both directions."""
    for pixels in (drawn[0], cloth(1)):
        copy, matrix = CHANGES[name](pixels)
        size = copy.shape[1::-1]
        first, second = detect_keypoints(pixels), detect_keypoints(copy)
        known = places(first, np.eye(2, 3), (256, 256)), places(second, matrix, size)
        if mirrored:
            second = detect_keypoints(copy[:, ::-1])
            backwards = np.ascontiguousarray(known[1].pixels[:, ::-1])
            known = known[0], second._replace(pixels=backwards)
        for way in (slice(None), slice(None, None, -1)):
            overlap = lay(*(first, second)[way])
            assert overlap.n_matches >= AGREEING
            placed = lay(*known[way])
            off = np.abs(placed.pixels - placed.other)[placed.inside]
            assert np.quantile(off, 0.99) < 1.5
            assert placed.inside.sum() > 0.4 * placed.inside.size


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_photo_without_details_is_laid_from_edge_to_edge(mirrored):
    """A slope of light has no keypoints; its copy has other proportions."""
    slope = np.linspace(20, 235, 300) + np.linspace(0, 20, 200)[:, None]
    photo = np.uint8(np.dstack([slope] * 3))
    copy = Image.fromarray(photo[:, ::-1] if mirrored else photo).resize((100, 100))
    first, second = detect_keypoints(photo), detect_keypoints(np.asarray(copy))
    for overlap in (lay(first, second), lay(second, first)):
        assert overlap.n_matches == 0
        # EDGE is not left out along the edges of the frame: cv2.erode takes what is beyond as
        # inside.
        assert overlap.inside.mean() > 0.9
        off = np.abs(np.float32(overlap.pixels) - overlap.other)[overlap.inside]
        assert off.max() <= 3


# --- What does not fit


BLANK = [(255, 255, 255), (0, 0, 0), (241, 160, 175)]


@pytest.mark.parametrize("shape", [(1, 1), (16, 900)])
def test_blank_photos_lie_on_none_or_tell_nothing(shape, drawn):
    blank = [detect_keypoints(np.full((*shape, 3), colour, np.uint8)) for colour in BLANK]
    assert all(len(one.points) == 0 for one in blank)
    others = [detect_keypoints(drawn[0]), detect_keypoints(drawn[3])]
    for one, other in product(blank, others):
        assert lay(one, other) is None
        assert lay(other, one) is None
    assert {compare(*pair)[:3] for pair in product(blank, blank)} == {("", np.inf, np.inf)}


@pytest.mark.parametrize("shape", [(1, 500), (4000, 30), (2, 2), (5, 7)])
def test_photos_of_odd_shapes_lie_on_themselves_alone(shape, drawn):
    odd = detect_keypoints(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    drawing = detect_keypoints(drawn[0])
    assert lay(odd, drawing) is None
    assert lay(drawing, odd) is None
    assert compare(odd, odd).verdict == "copy"
