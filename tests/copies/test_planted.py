import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import PROJECT, make_catalog, write_photo
from lookalike.catalog import FILE_COLUMNS
from lookalike.images import ImageError, load_image

sys.path.append(str(PROJECT / "benchmarks"))
from planted import COPIES, FORMATS, plant_copies

SIZES = {"resize 150 %": (180, 120), "resize 50 %": (60, 40), "resize 25 %": (30, 20)}
SIZES |= {"crop 5 %": (114, 76), "crop 10 %": (108, 72), "crop 20 %": (96, 64)}
SIZES |= {"border": (136, 96), "screenshot": (120, 213)}


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A catalogue of one smooth photo, 120 x 80."""
    path = write_photo(tmp_path_factory.mktemp("photo") / "photo.png", 3)
    Image.open(path).resize((120, 80), Image.Resampling.BICUBIC).save(path)
    return pd.DataFrame({"image_id": ["photo.png"], "path": [str(path)]})


@pytest.fixture(scope="module")
def planted(photo, tmp_path_factory):
    """One copy of each kind."""
    return plant_copies(photo, tmp_path_factory.mktemp("copies")).set_index("kind")


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_has_the_format_and_size_of_its_kind(kind, planted):
    with Image.open(planted["path"][kind]) as image:
        assert image.format == (kind.upper() if kind in FORMATS else "JPEG")
        assert image.size == SIZES.get(kind, (120, 80))


def test_copies_show_what_their_kinds_say(planted, photo):
    original = load_image(photo["path"][0])
    copies = {kind: load_image(path).astype(int) for kind, path in planted["path"].items()}
    np.testing.assert_array_equal(copies["PNG"], original)
    assert np.abs(copies["mirrored"][:, ::-1] - original).mean() < 3
    assert np.abs(copies["brightness 0.7"] - 0.7 * original).mean() < 3
    assert np.ptp(copies["greyscale"], axis=2).max() == 0
    assert np.abs(copies["border"][8:-8, 8:-8] - original).mean() < 5
    assert np.abs(copies["screenshot"][66:146] - original).mean() < 5
    assert 5 < (copies["watermark"] - original).mean() < 40
    red, green, blue = copies["warm light"].mean(axis=(0, 1)) / original.mean(axis=(0, 1))
    assert red > green > blue


def test_there_is_a_row_and_a_file_of_each_kind_whose_name_does_not_tell(tmp_path):
    catalog = make_catalog(tmp_path / "photos", 4).assign(sha256="of the photo")
    before = [Path(path).read_bytes() for path in catalog["path"]]
    kinds = ["GIF", "mirrored", "JPEG 20"]
    copies = plant_copies(catalog, tmp_path / "a" / "b", kinds=kinds)
    assert copies["copy_of"].tolist() == catalog["image_id"].repeat(3).tolist()
    assert copies["kind"].tolist() == kinds * 4
    assert copies["label"].tolist() == catalog["label"].repeat(3).tolist()
    assert not set(copies) & set(FILE_COLUMNS)
    assert all(re.fullmatch(r"\d{6}\.(gif|jpeg)", name) for name in copies["image_id"])
    assert sorted(copies["path"]) == sorted(map(str, (tmp_path / "a" / "b").iterdir()))
    assert copies["product_id"].is_unique
    assert [Path(path).read_bytes() for path in catalog["path"]] == before


def test_the_seed_decides_what_is_left_to_chance(photo, planted, tmp_path):
    def changed(table):
        pairs = ((kind, load_image(path), load_image(first[kind])) for kind, path in table.items())
        return {kind for kind, one, other in pairs if (one != other).any()}

    first = planted["path"]
    again, other = (
        plant_copies(photo, tmp_path / str(seed), seed=seed).set_index("kind")["path"]
        for seed in (0, 1)
    )
    assert changed(again) == set()
    chance = {kind for kind in COPIES if re.match("crop|rotation|watermark|border", kind)}
    assert {"watermark", "border"} <= changed(other) <= chance


# Not of one pixel: of a quarter of it, ImageOps.scale leaves none.
@pytest.mark.parametrize("size", [(3, 200), (1000, 3)])
def test_tiny_and_narrow_photos_can_be_copied(size, tmp_path):
    Image.new("RGB", size, "teal").save(tmp_path / "photo.png")
    photos = pd.DataFrame({"image_id": ["photo.png"], "path": [str(tmp_path / "photo.png")]})
    assert all(load_image(path).size for path in plant_copies(photos, tmp_path)["path"])


def test_other_kinds_and_lost_photos_are_named(photo, tmp_path):
    with pytest.raises(ValueError, match=r"no copy 'sepia'; choose among resize 150 %, .*screens"):
        plant_copies(photo, tmp_path / "copies", kinds=["PNG", "sepia"])
    assert not (tmp_path / "copies").exists()
    with pytest.raises(ImageError, match=r"gone\.png: No such"):
        plant_copies(photo.assign(path="gone.png"), tmp_path / "copies", kinds=["PNG"])
