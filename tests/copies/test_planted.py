import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import PROJECT, write_photo
from lookalike.images import load_image

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
