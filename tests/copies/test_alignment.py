from itertools import permutations, product

import cv2
import numpy as np
import pytest
from PIL import Image

from conftest import ALL_LABELS
from lookalike.copies.alignment import AGREEING, SIDE, correlation, detect_keypoints, lay
from lookalike.copies.differences import blurred, compare, grey
from lookalike.images import ImageError, load_image
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


# --- What is found of a photo


def test_details_have_their_shapes_and_types(drawn):
    sizes = [(256, 256), (900, 300), (31, 77)]
    for pixels, size in product(drawn[:3], sizes):
        photo = detect_keypoints(np.asarray(Image.fromarray(pixels).resize(size)))
        height, width = photo.pixels.shape[:2]
        assert max(height, width) == SIDE
        assert abs(height / width - size[1] / size[0]) < 1 / 64
        assert photo.points.shape == (len(photo.descriptors), 2)
        assert 20 < len(photo.points) <= 410  # of the weakest there may be several
        assert (photo.points > -0.5).all()
        assert (photo.points < [width - 0.5, height - 0.5]).all()
        assert photo.descriptors.shape[1] == 128
        np.testing.assert_allclose(np.linalg.norm(photo.descriptors, axis=1), 1, rtol=1e-4)


def assert_equal(first, other):
    for one, two in zip(first, other, strict=True):
        np.testing.assert_array_equal(one, two)


def test_files_their_bytes_and_pixels_in_any_layout_have_the_same_details(drawn, tmp_path):
    image = Image.fromarray(drawn[0])
    image.save(tmp_path / "photo.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned back
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    expected = detect_keypoints(drawn[0])
    wide = np.repeat(drawn[0], 2, axis=1)
    for same in (
        tmp_path / "photo.png",
        str(tmp_path / "turned.png"),
        (tmp_path / "photo.png").read_bytes(),
        np.asfortranarray(drawn[0]),
        wide[:, ::2],
        drawn[0][::-1].copy()[::-1],
    ):
        assert_equal(detect_keypoints(same), expected)


@pytest.mark.parametrize("name, content", [("no.jpg", b"not an image"), ("missing.jpg", None)])
def test_a_file_that_is_no_photo_is_named(name, content, tmp_path):
    if content:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match="the photo"):
            detect_keypoints(content)
    with pytest.raises(ImageError, match=name):
        detect_keypoints(tmp_path / name)


@pytest.mark.parametrize(
    "shape, kind",
    [((50, 40), "u1"), ((50, 40, 4), "u1"), ((50, 40, 3), float), ((0, 40, 3), "u1"), ((7,), "u1")],
)
def test_pixels_of_other_shapes_and_types_are_refused(shape, kind):
    with pytest.raises(ValueError, match=r"uint8 array \[height, width, 3\]"):
        detect_keypoints(np.zeros(shape, kind))


def test_mirrored_details_are_those_of_the_mirrored_photo(drawn):
    """Compared where SIFT finds a keypoint in both; some places have several."""
    for pixels in drawn:
        photo, other = detect_keypoints(pixels), detect_keypoints(pixels[:, ::-1])
        mirror = photo.mirrored
        np.testing.assert_array_equal(mirror.pixels, other.pixels)
        for one, two in zip(mirror.mirrored, photo, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-4)
        away = np.linalg.norm(mirror.points[:, None] - other.points, axis=2)
        cosines = np.where(away < 0.5, mirror.descriptors @ other.descriptors.T, 0)
        there = away.min(axis=1) < 0.5
        assert there.mean() > 0.6
        assert (cosines.max(axis=1)[there] > 0.9).mean() > 0.9
        # A copy that is aside in all places would be laid aside.
        nearest = other.points[away.argmin(axis=1)][there]
        np.testing.assert_allclose((nearest - mirror.points[there]).mean(axis=0), 0, atol=0.05)


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
    "none": turned(0),
    "turned 7°": turned(7),
    "turned -40°": turned(-40),
    "turned 90°": turned(90),
    "turned 180°": turned(180),
    "half the size": turned(0, 0.5),
    "double the size": turned(0, 2),
    "turned 15° at 70 %": turned(15, 0.7),
    "cut": cut(20, 35, 200, 180),
    "framed": framed(30, 30, 30, 30),
    "framed unevenly": framed(10, 50, 60, 5),
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
    """Of four drawings and a texture, in both directions."""
    for pixels in (*drawn[:2], *drawn[-2:], cloth(1)):
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
            greys = [blurred(grey(side), 1)[overlap.inside] for side in overlap[:2]]
            assert correlation(*greys) > 0.97
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


BLANK = [(255, 255, 255), (0, 0, 0), (185, 185, 185), (241, 160, 175), (200, 30, 30), (30, 30, 200)]


@pytest.mark.parametrize("shape", [(1, 1), (300, 200), (16, 900)])
def test_blank_photos_lie_on_none_or_tell_nothing(shape, drawn):
    blank = [detect_keypoints(np.full((*shape, 3), colour, np.uint8)) for colour in BLANK]
    assert all(len(one.points) == 0 for one in blank)
    others = [detect_keypoints(drawn[0]), detect_keypoints(drawn[3])]
    for one, other in product(blank, others):
        assert lay(one, other) is None
        assert lay(other, one) is None
    assert {compare(*pair)[:3] for pair in product(blank, blank)} == {("", np.inf, np.inf)}


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (3, 4000), (4000, 30), (2, 2), (5, 7)])
def test_photos_of_odd_shapes_lie_on_themselves_alone(shape, drawn):
    odd = detect_keypoints(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    drawing = detect_keypoints(drawn[0])
    assert lay(odd, drawing) is None
    assert lay(drawing, odd) is None
    assert compare(odd, odd).verdict == "copy"


def test_different_drawings_are_no_copies_of_each_other(sample):
    """That they lie on each other in some way does not matter, if they differ there."""
    details = [detect_keypoints(path) for path in sample["path"].iloc[::60]]
    assert {compare(*pair).verdict for pair in permutations(details, 2)} == {""}


@pytest.mark.parametrize("shift", [60, 120, 180, 210])
def test_photos_that_share_only_an_edge_do_not_fit(shift):
    """Two cuts of one large photo."""
    photo = cloth(3, (256, 512))
    sides = [detect_keypoints(photo[:, start : start + 256]) for start in (0, shift)]
    for overlap in (lay(*sides), lay(*sides[::-1])):
        assert (overlap is not None) == (1 - shift / 256 > 0.4)


def test_a_photo_that_is_a_spot_on_another_does_not_fit():
    """At an eighth of its size."""
    other = cloth(6)
    other[100:132, 60:92] = cv2.resize(cloth(5), (32, 32), interpolation=cv2.INTER_AREA)
    photo, spotted = detect_keypoints(cloth(5)), detect_keypoints(other)
    assert lay(photo, spotted) is None
    assert lay(spotted, photo) is None
