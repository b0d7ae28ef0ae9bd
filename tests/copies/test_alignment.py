from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from conftest import ALL_LABELS
from lookalike.copies import alignment
from lookalike.copies.alignment import COARSE, KEYPOINTS, MIRRORED, align, detect_keypoints
from lookalike.images import ImageError
from lookalike.sources import load_catalog

COPY = 0.8  # what copies agree by at least


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample", labels=ALL_LABELS)[0]


@pytest.fixture(scope="module")
def drawn(sample):
    """One drawing of each label, 256 x 256."""
    return [Image.open(path).convert("RGB") for path in sample.groupby("label")["path"].nth(4)]


def cloth(seed, colour=(150, 140, 130), spread=30.0, size=(256, 256), grain=3.0):
    """A texture without repetition, smooth enough to be resampled."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(*size, 3)), (0, 0), grain)
    return (np.array(colour) + spread * noise / noise.std()).clip(0, 255).astype(np.uint8)


def put_on(background, product, radii=(70, 90)):
    """The part of a photo within an ellipse in the middle, on another."""
    height, width = background.shape[:2]
    inside = cv2.ellipse(
        np.zeros((height, width), np.uint8), (width // 2, height // 2), radii, 0, 0, 360, 1, -1
    )
    return np.where(inside[..., None] > 0, product, background)


def agreement(one, other):
    return align(*(detect_keypoints(np.ascontiguousarray(side)) for side in (one, other))).agreement


# --- What is found of a photo
# ------------------------------------------------------------------------------------


def test_details_have_their_shapes_and_types(drawn):
    for image in (*drawn, drawn[0].resize((900, 300)), drawn[1].resize((31, 77))):
        details = detect_keypoints(np.asarray(image))
        height, width = details.pixels.shape[:2]
        assert details.pixels.dtype == np.uint8
        assert max(height, width) == COARSE
        assert abs(height / width - image.height / image.width) < 1 / 64
        assert details.points.shape == (len(details.descriptors), 2)
        assert details.points.dtype == np.float32
        assert details.descriptors.shape[1] == 128
        assert details.descriptors.dtype == np.uint8
        assert 20 < len(details.points) <= KEYPOINTS + 10  # of the weakest there may be several
        assert (details.points > -0.5).all()
        assert (details.points < [width - 0.5, height - 0.5]).all()
        lengths = np.linalg.norm(details.descriptors.astype(float), axis=1)
        np.testing.assert_allclose(lengths, alignment.ROOT, rtol=0.02)


def test_a_spot_is_found_where_it_is():
    """A spot of light, soft, in a photo of other proportions and sizes than its details."""
    for width, height, x, y in ((400, 300, 150, 100), (120, 240, 70.5, 90), (1000, 800, 444, 555)):
        far = ((np.arange(width) - x) ** 2 + (np.arange(height)[:, None] - y) ** 2) / (
            0.03 * width
        ) ** 2
        photo = (
            np.repeat((40 + 180 * np.exp(-far / 2))[..., None], 3, axis=2).round().astype(np.uint8)
        )
        points = detect_keypoints(photo).points
        scale = COARSE / max(width, height)
        expected = (np.array([x, y]) + 0.5) * scale - 0.5
        assert np.abs(points - expected).max(axis=1).min() < 0.4


def test_a_file_and_its_pixels_have_the_same_details(drawn, tmp_path):
    drawn[0].save(tmp_path / "photo.png")
    turned = drawn[0].transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned back
    turned.save(tmp_path / "turned.png", exif=exif)
    of_pixels = detect_keypoints(np.asarray(drawn[0]))
    for path in (tmp_path / "photo.png", str(tmp_path / "turned.png")):
        of_file = detect_keypoints(path)
        for name in ("pixels", "points", "descriptors"):
            np.testing.assert_array_equal(getattr(of_file, name), getattr(of_pixels, name))


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"not an image")
    for name in ("no.jpg", "missing.jpg"):
        with pytest.raises(ImageError, match=name):
            detect_keypoints(tmp_path / name)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((50, 40), np.uint8),
        np.zeros((50, 40, 4), np.uint8),
        np.zeros((50, 40, 1), np.uint8),
        np.zeros((50, 40, 3)),
        np.zeros((50, 40, 3), np.int64),
        np.zeros((0, 40, 3), np.uint8),
        np.zeros(7, np.uint8),
    ],
    ids=["grey", "RGBA", "one channel", "floats", "int64", "empty", "flat"],
)
def test_pixels_of_other_shapes_and_types_are_refused(pixels):
    with pytest.raises(ValueError, match=r"uint8 array \[height, width, 3\]"):
        detect_keypoints(pixels)


def test_any_layout_of_pixels_gives_the_same(drawn):
    pixels = np.asarray(drawn[2])  # read-only
    wide = np.zeros((256, 512, 3), np.uint8)
    wide[:, ::2] = pixels
    expected = detect_keypoints(pixels)
    for same in (pixels.copy(), np.asfortranarray(pixels), wide[:, ::2], pixels[::-1].copy()[::-1]):
        np.testing.assert_array_equal(detect_keypoints(same).descriptors, expected.descriptors)
        np.testing.assert_array_equal(detect_keypoints(same).points, expected.points)


def test_mirrored_descriptors_are_those_of_the_mirrored_photo(drawn):
    """Compared where SIFT finds the same keypoint, of one size and direction, in both."""
    sift = cv2.SIFT_create(nfeatures=400, contrastThreshold=0.015, enable_precise_upscale=True)
    compared = 0
    for image in drawn:
        grey = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)
        keypoints, descriptors = sift.detectAndCompute(grey, None)
        others, theirs = sift.detectAndCompute(np.ascontiguousarray(grey[:, ::-1]), None)
        there = np.array([(*one.pt, one.size, one.angle) for one in others])
        for keypoint, descriptor in zip(keypoints, descriptors, strict=True):
            (x, y), angle = keypoint.pt, 180 - keypoint.angle
            near = np.hypot(there[:, 0] - (grey.shape[1] - 1 - x), there[:, 1] - y) < 0.2
            near &= np.abs((there[:, 3] - angle + 180) % 360 - 180) < 2
            near &= np.abs(there[:, 2] / keypoint.size - 1) < 0.02
            for other in theirs[near]:
                cosine = (
                    descriptor[MIRRORED]
                    @ other
                    / np.linalg.norm(descriptor)
                    / np.linalg.norm(other)
                )
                assert cosine > 0.95
                compared += 1
    assert compared > 1000
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(128))  # twice is nothing


# --- Where a copy lies
# -------------------------------------------------------------------------------------------


def turned(degrees, scale=1.0):
    def change(pixels):
        height, width = pixels.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        image = Image.fromarray(
            cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        )
        image = image.resize(
            (round(scale * width), round(scale * height)), Image.Resampling.BILINEAR
        )
        return np.asarray(image), np.column_stack(
            [scale * matrix[:, :2], scale * matrix[:, 2] + (scale - 1) / 2]
        )

    return change


def cut(left, top, width, height):
    return lambda pixels: (
        pixels[top : top + height, left : left + width],
        np.array([[1, 0, -left], [0, 1, -top]]),
    )


def framed(left, top, right, bottom):
    def change(pixels):
        copy = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), constant_values=70)
        return copy, np.array([[1, 0, left], [0, 1, top]])

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


def in_details(points, pixels, details):
    """Points in the pixels of a photo, as they are in those of its details."""
    scale = np.array(details.pixels.shape[1::-1]) / pixels.shape[1::-1]
    return (points + 0.5) * scale - 0.5


@pytest.mark.parametrize("mirrored", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("name", CHANGES)
def test_known_points_of_a_copy_are_found(name, mirrored, drawn):
    """Three drawings and a texture, in both directions, within a pixel of 192 anywhere in the
    middle.
    """
    corners = np.array([[70, 70], [180, 75], [128, 128], [75, 180], [170, 185]], float)
    for pixels in (*(np.asarray(image) for image in drawn[:2] + drawn[-2:-1]), cloth(1)):
        copy, matrix = CHANGES[name](pixels)
        of_photo, of_copy = (
            detect_keypoints(pixels),
            detect_keypoints(np.ascontiguousarray(copy[:, ::-1] if mirrored else copy)),
        )
        here = in_details(corners, pixels, of_photo)
        there = in_details(corners @ matrix[:, :2].T + matrix[:, 2], copy, of_copy)
        if mirrored:
            there[:, 0] = of_copy.pixels.shape[1] - 1 - there[:, 0]
        for first, second, start, end in (
            (of_photo, of_copy, here, there),
            (of_copy, of_photo, there, here),
        ):
            placement = align(first, second)
            assert placement.mirrored == mirrored
            assert placement.n_agreeing >= alignment.AGREEING
            if mirrored:
                start = start * [-1, 1] + [first.pixels.shape[1] - 1, 0]
            found = start @ placement.matrix[:, :2].T + placement.matrix[:, 2]
            assert np.abs(found - end).max() < 1
            assert COPY < placement.agreement <= 1


def test_a_mirrored_copy_is_not_laid_aside(drawn):
    """On average, to a twentieth of a pixel: keypoints do not all lie to one side of what they are
    of.
    """
    offsets = []
    for image in drawn:
        photo, mirror = (
            detect_keypoints(np.asarray(side)) for side in (image, ImageOps.mirror(image))
        )
        matrix = align(photo, mirror).matrix
        centre = (np.array(photo.pixels.shape[1::-1]) - 1) / 2
        offsets.append(matrix[:, :2] @ centre + matrix[:, 2] - centre)
    np.testing.assert_allclose(np.mean(offsets, axis=0), 0, atol=0.05)


def test_a_photo_agrees_with_itself(drawn):
    for image in drawn:
        details = detect_keypoints(np.asarray(image))
        placement = align(details, details)
        np.testing.assert_allclose(placement.matrix, np.eye(2, 3), atol=0.01)
        assert not placement.mirrored
        assert placement.agreement > 0.95
        assert type(placement.agreement) is float


def test_a_grey_darker_or_paler_copy_agrees(drawn):
    for image in drawn:
        pixels = np.asarray(image)
        photo = detect_keypoints(pixels)
        for copy in (np.asarray(image.convert("L").convert("RGB")), pixels // 2, 60 + pixels // 2):
            assert align(photo, detect_keypoints(copy)).agreement > COPY
            assert align(detect_keypoints(copy), photo).agreement > COPY


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_photo_without_details_is_laid_from_edge_to_edge(mirrored):
    """A slope of light has no keypoints; its copy has other proportions, and lies from corner to
    corner.
    """
    slope = np.linspace(20, 235, 300) + np.linspace(0, 20, 200)[:, None]
    photo = np.repeat(slope[..., None], 3, axis=2).astype(np.uint8)
    copy = np.asarray(Image.fromarray(photo[:, ::-1] if mirrored else photo).resize((100, 100)))
    first, second = detect_keypoints(photo), detect_keypoints(copy)
    placement = align(first, second)
    assert len(first.points) == placement.n_agreeing == 0
    assert placement.mirrored == mirrored
    corners = np.array([[-0.5, -0.5], [191.5, 127.5]])
    np.testing.assert_allclose(
        corners @ placement.matrix[:, :2].T + placement.matrix[:, 2],
        [[-0.5, -0.5], [191.5, 191.5]],
        atol=1e-9,
    )
    assert placement.agreement > COPY


# --- What is no copy
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "colour", [(60, 60, 180), (180, 60, 60)], ids=["another colour", "the same colour"]
)
def test_another_product_on_the_same_floor_is_no_copy(seed, colour):
    floor = cloth(seed)
    one, other = (
        put_on(floor, cloth(50 + seed, (180, 60, 60))),
        put_on(floor, cloth(90 + seed, colour)),
    )
    assert agreement(one, other) < COPY - 0.1
    assert agreement(other, one) < COPY - 0.1
    assert agreement(floor, one) < COPY - 0.1


@pytest.mark.parametrize("seed", range(4))
def test_another_print_on_the_same_shirt_is_no_copy(seed, sample):
    plain = sample[(sample["label"] == "t-shirt") & (sample["pattern"] == "plain")]["path"]
    shirt, printed = Image.open(plain.iloc[5 * seed]).convert("RGB"), []
    for number in range(2):
        image, random = shirt.copy(), np.random.default_rng((seed, number))
        draw = ImageDraw.Draw(image)
        spots = [tuple(int(one) for one in random.integers(95, 160, 2)) for _ in range(6)]
        draw.polygon(spots, fill=(20, 20, 20))
        draw.line(spots, fill=(250, 250, 250), width=5)
        printed.append(np.asarray(image))
    assert agreement(*printed) < COPY
    assert agreement(*printed[::-1]) < COPY


def test_another_hue_is_no_copy(sample):
    """Of things large enough to colour the photo."""
    large = sample[sample["label"].isin(["bag", "shoe", "t-shirt"])]
    for path in large[~large["colour"].isin(["black", "white", "grey"])]["path"].iloc[::12]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert agreement(pixels, pixels[..., [2, 0, 1]]) < COPY - 0.2


def test_different_drawings_are_no_copies(sample):
    details = [detect_keypoints(path) for path in sample["path"].iloc[::45]]
    for one in details:
        for other in details:
            assert one is other or align(one, other).agreement < COPY - 0.2


def test_other_views_of_a_product_are_no_copies(sample):
    for _, paths in list(sample.groupby("product_id")["path"])[::13]:
        first, *others = (detect_keypoints(path) for path in paths)
        assert all(align(first, other).agreement < COPY for other in others)


BLANK = [
    (255, 255, 255),
    (0, 0, 0),
    (185, 185, 185),
    (60, 60, 60),
    (241, 160, 175),
    (200, 30, 30),
    (30, 30, 200),
]


@pytest.mark.parametrize("shape", [(1, 1), (300, 200), (77, 31), (50, 53), (16, 900)])
def test_blank_photos_are_no_copies(shape):
    """Neither of one colour nor of two: there is nothing in which they could agree."""
    blank = [detect_keypoints(np.full((*shape, 3), colour, np.uint8)) for colour in BLANK]
    blank.append(detect_keypoints(np.full((192, 192, 3), 255, np.uint8)))
    assert all(len(one.points) == 0 for one in blank)
    for one in blank:
        for other in blank:
            placement = align(one, other)
            assert -1 <= placement.agreement <= 0.5 + 1e-6
            assert placement.n_agreeing == 0


def test_what_compression_leaves_of_blank_photos_is_no_agreement():
    """Both fade by two grey levels from left to right."""
    fading = np.repeat(np.linspace(200, 202, 256).round()[None, :, None], 3, axis=2).astype(
        np.uint8
    )
    first, second = (detect_keypoints(np.tile(one, (256, 1, 1))) for one in (fading, fading - 40))
    assert align(first, second).agreement < COPY


def test_a_blank_photo_is_no_copy_of_a_drawing(drawn):
    blank = detect_keypoints(np.full((200, 150, 3), 240, np.uint8))
    for image in drawn:
        details = detect_keypoints(np.asarray(image))
        assert abs(align(blank, details).agreement) < 0.1
        assert abs(align(details, blank).agreement) < 0.1


@pytest.mark.parametrize("shift", [110, 150, 200])
def test_photos_that_share_an_edge_are_no_copies(shift):
    """Two cuts of one large photo that overlap by too little."""
    photo = cloth(3, size=(256, 512))
    one, other = photo[:, :256], photo[:, shift : shift + 256]
    assert (
        (agreement(one, other) > COPY)
        == (agreement(other, one) > COPY)
        == (256 - shift > 0.4 * 256)
    )
    if shift == 200:
        assert agreement(one, other) < 0.5


def test_a_spot_on_a_photo_is_no_copy():
    """A photo at an eighth of its size on another."""
    small = cv2.resize(cloth(5), (32, 32), interpolation=cv2.INTER_AREA)
    other = cloth(6).copy()
    other[100:132, 60:92] = small
    assert agreement(cloth(5), other) < 0.3
    assert agreement(other, cloth(5)) < 0.3


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (3, 4000), (4000, 30), (2, 2), (5, 7)])
def test_photos_of_odd_shapes_are_laid_on_any(shape, drawn):
    odd = detect_keypoints(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    assert min(odd.pixels.shape) >= 1
    assert max(odd.pixels.shape) == COARSE
    drawing = detect_keypoints(np.asarray(drawn[0]))
    assert align(odd, drawing).agreement < COPY
    assert align(drawing, odd).agreement < COPY
    assert align(odd, odd).agreement > 0.5


# --- The same every time
# -----------------------------------------------------------------------------------------


def test_both_directions_agree(drawn):
    """Of copies closely; of others on whether they are."""
    details = [detect_keypoints(np.asarray(image)) for image in drawn[:4]]
    details += [
        detect_keypoints(np.asarray(image.rotate(6).resize((150, 150)))) for image in drawn[:4]
    ]
    for row, one in enumerate(details):
        for column in range(row):
            there, back = align(one, details[column]), align(details[column], one)
            assert (there.agreement > COPY) == (back.agreement > COPY) == (row == column + 4)
            if row == column + 4:
                assert abs(there.agreement - back.agreement) < 0.1
                both = np.vstack([there.matrix, [0, 0, 1]]) @ np.vstack([back.matrix, [0, 0, 1]])
                np.testing.assert_allclose(both[:2, :2], np.eye(2), atol=0.02)
                np.testing.assert_allclose(both[:2] @ [96, 96, 1], [96, 96], atol=0.5)


def test_threads_and_repetition_change_nothing(drawn):
    photos = [np.asarray(one) for image in drawn[:4] for one in (image, image.rotate(12))]

    def place(number):
        details = [detect_keypoints(photos[(number + step) % 8]) for step in (0, 1)]
        return details[0], align(*details)

    alone = [place(number) for number in range(8)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(place, [*range(8)] * 4))
    for at, (details, placement) in enumerate(together):
        expected, placed = alone[at % 8]
        np.testing.assert_array_equal(details.points, expected.points)
        np.testing.assert_array_equal(details.descriptors, expected.descriptors)
        np.testing.assert_array_equal(placement.matrix, placed.matrix)
        assert (placement.mirrored, placement.n_agreeing) == (placed.mirrored, placed.n_agreeing)
        assert placement.agreement == placed.agreement


def test_laying_changes_neither(drawn):
    first, second = (detect_keypoints(np.asarray(image)) for image in drawn[:2])
    before = [
        getattr(one, name).copy()
        for one in (first, second)
        for name in ("pixels", "points", "descriptors")
    ]
    align(first, second)
    after = [
        getattr(one, name)
        for one in (first, second)
        for name in ("pixels", "points", "descriptors")
    ]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
