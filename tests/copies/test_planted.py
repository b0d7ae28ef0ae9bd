import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import make_catalog, write_photo
from lookalike.copies import plant_copies
from lookalike.copies.planted import COPIES, OPACITY
from lookalike.images import ImageError, load_image, photo_facts
from lookalike.sources import load_catalog

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF"}
CHANCE = (
    "crop 5 %",
    "crop 10 %",
    "crop 20 %",
    "rotation 5°",
    "rotation 10°",
    "watermark",
    "border",
)
WIDTH, HEIGHT = 120, 80


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A catalogue of one smooth photo, 120 x 80."""
    folder = tmp_path_factory.mktemp("photo")
    path = write_photo(folder / "photo.png", 3)
    Image.open(path).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
    return pd.DataFrame({"image_id": ["photo.png"], "path": [str(path)]})


@pytest.fixture(scope="module")
def planted(photo, tmp_path_factory):
    """One copy of each kind."""
    return plant_copies(photo, tmp_path_factory.mktemp("copies")).set_index("kind")


def pixels_of(table, kind):
    return load_image(table["path"][kind]).astype(int)


def changed(kind, image, seed=0):
    """What a kind makes of an image, before it is written."""
    return np.asarray(COPIES[kind][0](image, np.random.default_rng(seed)).convert("RGB")).astype(
        int
    )


def contents(table):
    return {(row.copy_of, row.kind): Path(row.path).read_bytes() for row in table.itertuples()}


# --- The files
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_written_in_the_format_of_its_suffix(kind, planted):
    _, (suffix, _) = COPIES[kind]
    path = planted["path"][kind]
    assert path.endswith(suffix)
    with Image.open(path) as image:
        assert image.format == FORMATS[suffix]
    assert load_image(path).ndim == 3


def test_there_is_a_row_and_a_file_for_each_kind_of_each_photo(catalog, tmp_path):
    kinds = ["GIF", "mirrored", "JPEG 20"]
    copies = plant_copies(
        catalog.set_index(pd.Index([7] * len(catalog))), tmp_path / "a" / "b", kinds=kinds
    )
    assert copies["copy_of"].tolist() == catalog["image_id"].repeat(3).tolist()
    assert copies["kind"].tolist() == kinds * len(catalog)
    assert copies["label"].tolist() == catalog["label"].repeat(3).tolist()
    assert copies.columns.tolist() == [*catalog.columns, "copy_of", "kind"]
    assert copies.index.tolist() == list(range(3 * len(catalog)))
    files = sorted((tmp_path / "a" / "b").iterdir())
    assert sorted(copies["path"]) == [str(file) for file in files]
    assert sorted(copies["image_id"]) == [file.name for file in files]
    assert not set(copies["product_id"]) & set(catalog["product_id"])
    for column in ("image_id", "product_id", "path"):
        assert copies[column].is_unique


def test_names_do_not_tell(catalog, tmp_path):
    copies = plant_copies(catalog, tmp_path / "copies", kinds=["PNG", "JPEG 50"])
    assert all(re.fullmatch(r"\d{6}\.(png|jpg)", name) for name in copies["image_id"])
    assert not set(copies["image_id"]) & set(catalog["image_id"])


def test_the_seed_decides(catalog, tmp_path):
    one, same, other = (
        contents(plant_copies(catalog, tmp_path / str(place), seed=seed))
        for place, seed in enumerate((5, 5, 6))
    )
    assert one == same
    differ = {kind for name, kind in one if one[name, kind] != other[name, kind]}
    assert differ == set(CHANCE)


def test_each_photo_has_a_chance_of_its_own(catalog, tmp_path):
    copies = plant_copies(catalog, tmp_path / "copies", kinds=["border"])
    assert len({tuple(load_image(path)[0, 0].tolist()) for path in copies["path"]}) == len(catalog)


def test_a_copy_does_not_depend_on_which_others_are_made(catalog, tmp_path):
    everything = contents(plant_copies(catalog.head(2), tmp_path / "all"))
    some = contents(
        plant_copies(catalog.head(2), tmp_path / "some", kinds=["watermark", "PNG", "border"])
    )
    assert some.items() <= everything.items()
    assert len(some) == 6


def test_a_relative_folder_gives_paths_that_stay_good(catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copies = plant_copies(catalog.head(1), "copies", kinds=["PNG"])
    monkeypatch.chdir("/")
    assert load_image(copies["path"][0]).shape == (40, 40, 3)


def test_the_originals_stay_as_they_are(catalog, tmp_path):
    before = [Path(path).read_bytes() for path in catalog["path"]]
    table = catalog.copy()
    plant_copies(catalog, tmp_path / "copies", kinds=["border", "watermark", "screenshot"])
    assert [Path(path).read_bytes() for path in catalog["path"]] == before
    pd.testing.assert_frame_equal(catalog, table)


def test_what_the_file_tells_is_the_copys_own(tmp_path):
    catalog = load_catalog("sample")[0].iloc[::150]
    copies = plant_copies(
        catalog, tmp_path, kinds=["resize 50 %", "screenshot", "PNG", "greyscale"]
    )
    facts = pd.DataFrame([photo_facts(path) for path in copies["path"]])
    pd.testing.assert_frame_equal(copies[[*facts]].astype(facts.dtypes), facts)
    assert copies["pixel_width"].nunique() > 1
    assert copies["pixel_width"].dtype.kind == "i"


# --- What they show
# ----------------------------------------------------------------------------------------------

SIZES = {
    "resize 150 %": (180, 120),
    "resize 50 %": (60, 40),
    "resize 25 %": (30, 20),
    "crop 5 %": (114, 76),
    "crop 10 %": (108, 72),
    "crop 20 %": (96, 64),
    "border": (136, 96),
    "screenshot": (120, 213),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_has_the_size_that_its_kind_says(kind, planted):
    assert Image.open(planted["path"][kind]).size == SIZES.get(kind, (WIDTH, HEIGHT))


@pytest.mark.parametrize(
    "kind", ["resize 150 %", "resize 50 %", "resize 25 %", "JPEG 50", "JPEG 20", "WebP", "GIF"]
)
def test_a_photo_resized_or_saved_anew_still_shows_the_same(kind, planted, photo):
    original = Image.open(photo["path"][0])
    copy = Image.open(planted["path"][kind]).convert("RGB").resize(original.size)
    off = np.abs(np.asarray(copy, int) - np.asarray(original, int))
    assert 0 < off.mean() < 10


def test_png_loses_nothing_and_low_quality_is_a_small_file(planted, photo):
    np.testing.assert_array_equal(pixels_of(planted, "PNG"), load_image(photo["path"][0]))
    sizes = [os.path.getsize(planted["path"][kind]) for kind in ("JPEG 20", "JPEG 50", "mirrored")]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("kind", ["crop 5 %", "crop 10 %", "crop 20 %"])
@pytest.mark.parametrize("seed", range(3))
def test_a_crop_is_a_part_of_the_photo(kind, seed):
    """Of a photo whose pixels tell where they are."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))
    part = changed(kind, image, seed)
    left, top = part[0, 0, :2]
    np.testing.assert_array_equal(
        part, np.asarray(image)[top : top + part.shape[0], left : left + part.shape[1]]
    )


@pytest.mark.parametrize(
    "kind", ["brightness 0.7", "brightness 1.3", "contrast 0.7", "contrast 1.4"]
)
def test_light_changes_by_the_factor_that_the_kind_names(kind):
    what, factor = kind.split()
    random = np.random.default_rng(0)
    pixels = random.integers(90, 140, (40, 40, 3), np.uint8)
    result, middle = changed(kind, Image.fromarray(pixels)), 0
    if what == "contrast":
        middle = np.asarray(Image.fromarray(pixels).convert("L")).mean()
    np.testing.assert_allclose(result, middle + float(factor) * (pixels - middle), atol=1.5)


def test_a_mirrored_copy_is_the_photo_from_right_to_left(planted, photo):
    original = load_image(photo["path"][0]).astype(int)
    mirrored = pixels_of(planted, "mirrored")
    assert np.abs(mirrored[:, ::-1] - original).mean() < 3
    assert np.abs(mirrored - original).mean() > 20
    image = Image.fromarray(original.astype(np.uint8))
    twice = changed("mirrored", Image.fromarray(changed("mirrored", image).astype(np.uint8)))
    np.testing.assert_array_equal(twice, original)


def test_a_grey_copy_has_no_colour(planted, photo):
    grey, original = pixels_of(planted, "greyscale"), load_image(photo["path"][0])
    assert np.ptp(grey, axis=2).max() == 0
    assert np.ptp(original, axis=2).mean() > 30
    luma = original @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - luma).mean() < 3


@pytest.mark.parametrize("degrees", [5, 10])
def test_a_turned_copy_can_be_turned_back(degrees, photo):
    image = Image.open(photo["path"][0])
    sides = set()
    for seed in range(8):
        turned = Image.fromarray(changed(f"rotation {degrees}°", image, seed).astype(np.uint8))
        off = [
            np.abs(np.asarray(turned.rotate(back), int) - np.asarray(image, int))[
                25:55, 40:80
            ].mean()
            for back in (degrees, -degrees)
        ]
        assert min(off) < 2 < max(off)
        sides.add(int(np.argmin(off)))
    assert sides == {0, 1}


@pytest.mark.parametrize("seed", range(4))
def test_a_watermark_lets_the_photo_through(seed, photo):
    original = load_image(photo["path"][0]).astype(int)
    marked = changed("watermark", Image.fromarray(original.astype(np.uint8)), seed)
    assert 0.02 < (marked != original).any(axis=2).mean() < 0.5
    assert (marked >= original).all()
    full = original + OPACITY / 255 * (255 - original)
    assert (marked <= full + 1).all()
    # The writing itself, not only its edges.
    assert (np.abs(marked - full) <= 1).all(axis=2).mean() > 0.01
    quarters = (marked != original).any(axis=2).reshape(4, -1).any(axis=1)
    assert quarters.all()


@pytest.mark.parametrize("seed", range(4))
def test_a_border_is_of_one_colour_and_leaves_the_photo_inside(seed, photo):
    original = load_image(photo["path"][0])
    framed = changed("border", Image.fromarray(original), seed)
    np.testing.assert_array_equal(framed[8:-8, 8:-8], original)
    around = np.ones(framed.shape[:2], bool)
    around[8:-8, 8:-8] = False
    assert len(np.unique(framed[around], axis=0)) == 1


@pytest.mark.parametrize(
    ("width", "height"), [(120, 80), (80, 120), (300, 300), (90, 300), (200, 20)]
)
def test_a_screenshot_leaves_the_photo_inside_between_dark_bars(width, height):
    original = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    screen = changed("screenshot", Image.fromarray(original))
    tall = round(max(16 / 9 * width, 1.3 * height))
    assert screen.shape == (tall, width, 3)
    top = (tall - height) // 2
    np.testing.assert_array_equal(screen[top : top + height], original)
    bars = np.concatenate([screen[:top], screen[top + height :]])
    assert len(bars) == tall - height
    assert np.median(bars) == 16
    assert (bars[..., 0] > 200).any(axis=1).any()  # the time of day


# --- Odd photos
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 200), (200, 3), (1, 2000), (2000, 1)])
def test_tiny_and_narrow_photos_can_be_copied(size, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    photos = pd.DataFrame({"image_id": ["photo.png"], "path": [str(tmp_path / "photo.png")]})
    copies = plant_copies(photos, tmp_path / "copies").set_index("kind")
    assert copies.index.tolist() == list(COPIES)
    for kind, path in copies["path"].items():
        height, width = load_image(path).shape[:2]
        if kind.startswith("resize"):
            factor = int(re.search(r"\d+", kind)[0]) / 100
            assert (width, height) == tuple(max(1, round(factor * side)) for side in size)
        elif kind == "border":
            assert (width, height) == (size[0] + 2, size[1] + 2)
        elif kind not in ("screenshot", "crop 5 %", "crop 10 %", "crop 20 %"):
            assert (width, height) == size


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_photos_of_any_mode_can_be_copied(mode, tmp_path):
    image = (
        Image.new("I;16", (30, 20), 40_000)
        if mode == "I;16"
        else Image.new("RGB", (30, 20), "teal").convert(mode)
    )
    path = tmp_path / ("photo.tiff" if mode == "CMYK" else "photo.png")
    image.save(path)
    photos = pd.DataFrame({"image_id": [path.name], "path": [str(path)]})
    copies = plant_copies(photos, tmp_path / "copies").set_index("kind")
    assert len(copies) == len(COPIES)
    np.testing.assert_array_equal(load_image(copies["path"]["PNG"]), load_image(path))


def test_a_photo_that_lies_on_its_side_is_copied_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 20), "teal").save(tmp_path / "photo.jpg", exif=exif)
    photos = pd.DataFrame({"image_id": ["photo.jpg"], "path": [str(tmp_path / "photo.jpg")]})
    copies = plant_copies(photos, tmp_path / "copies", kinds=["PNG", "JPEG 50", "resize 50 %"])
    assert [load_image(path).shape[:2] for path in copies["path"]] == [(60, 20), (60, 20), (30, 10)]


@pytest.mark.parametrize(("count", "kinds"), [(0, ["PNG"]), (2, []), (0, [])])
def test_nothing_to_copy_is_a_table_of_no_copies(count, kinds, tmp_path):
    catalog = make_catalog(tmp_path / "photos", 2).head(count)
    copies = plant_copies(catalog, tmp_path / "copies", kinds=kinds)
    assert len(copies) == 0
    assert copies.columns.tolist() == [*catalog.columns, "copy_of", "kind"]


# --- Misuse
# ------------------------------------------------------------------------------------------------------


def test_a_kind_that_there_is_not_is_refused_before_anything_is_written(catalog, tmp_path):
    with pytest.raises(
        ValueError, match=r"There is no copy 'sepia'; choose among resize 150 %, .*screenshot"
    ):
        plant_copies(catalog, tmp_path / "copies", kinds=["PNG", "sepia"])
    assert not (tmp_path / "copies").exists()


def test_a_photo_that_is_gone_or_damaged_is_named_and_leaves_no_half_file(catalog, tmp_path):
    paths = list(catalog["path"])
    shutil.copyfile(paths[0], tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:300])
    for path, reason in (
        (tmp_path / "half.png", r"half\.png: cannot be decoded"),
        ("gone.png", r"gone\.png: No such"),
    ):
        photos = catalog.assign(path=[*paths[:4], str(path), *paths[5:]])
        with pytest.raises(ImageError, match=reason):
            plant_copies(photos, tmp_path / "copies", kinds=["PNG"])
    assert not [file for file in (tmp_path / "copies").iterdir() if "partial" in file.name]
