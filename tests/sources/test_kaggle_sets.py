"""Photos from Kaggle, in the shapes that the two data sets have; kagglehub itself stands aside."""

import os

import kagglehub
import pandas as pd
import pytest

from conftest import write_photo
from lookalike.sources import load_catalog
from lookalike.sources.kaggle_sets import (
    KAGGLE,
    SourceUnavailableError,
    caltech_rows,
    kaggle_folder,
)

CLASSES = ("watch-101", "t-shirt", "touring-bike", "mountain-bike", "sneaker", "teapot")
CALTECH = [
    f"256_ObjectCategories/{place:03}.{name}/{place:03}_{number:04}.jpg"
    for place, name in enumerate(CLASSES)
    for number in (1, 2)
]
STYLES = """\
id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName
15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt
59263,Women,Accessories,Watches,Watches,Silver,Winter,2016,Casual,Titan Women Silver Watch
30039,Men,Accessories,Watches,Watches,Black,Winter,2016,Casual,Skagen Men Black Watch
"""
FASHION = ["images/15970.jpg", "images/59263.jpg", "images/30039.jpg"]


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A folder that kagglehub has downloaded, whatever it is asked for."""
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: str(tmp_path / handle))
    return tmp_path


def test_caltech_gives_the_lessons_kinds(kaggle):
    folder = kaggle / KAGGLE["caltech256"]
    for number, name in enumerate(CALTECH):
        write_photo(folder / name, number)
    for path in ("", folder):
        catalog, _ = load_catalog("caltech256", path)
        counts = catalog["label"].value_counts().to_dict()
        assert counts == {"watch": 2, "bicycle": 4, "shoe": 2, "t-shirt": 2}


def test_fashion_comes_with_what_its_table_says(kaggle):
    folder = kaggle / KAGGLE["fashion-small"]
    for number, name in enumerate(FASHION):
        write_photo(folder / name, number)
        write_photo(folder / "myntradataset" / name, number)
    (folder / "styles.csv").write_text(STYLES)
    rows = load_catalog("fashion-small")[0].set_index("product_id")
    assert rows["label"].to_dict() == {"15970": "Shirts", "59263": "Watches", "30039": "Watches"}
    told = rows.loc["59263", ["colour", "title"]].to_list()
    assert told == ["Silver", "Titan Women Silver Watch"]


NAMES = {
    "deep/256_ObjectCategories/189.sneaker/189_0001.jpg": "shoe",
    "deep/256_ObjectCategories/189.sneaker/greg/189_0099.jpg": "shoe",
    "deep/copy/256_ObjectCategories/189.sneaker/189_0001.jpg": None,
    "252.car-side-101/252_0001.jpg": "car-side-101",
    "25.hat/1.jpg": None,
}


def test_the_classes_of_caltech_are_named_by_what_they_show_and_copies_count_once():
    rows = caltech_rows(pd.DataFrame({"image_id": list(NAMES), "label": "of the folder"}))
    found = dict(zip(rows["image_id"], rows["label"], strict=True))
    assert found == {name: label for name, label in NAMES.items() if label}


def test_offline_the_message_says_what_to_do(tmp_path, monkeypatch):
    for name in [name for name in os.environ if "KAGGLE" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    with pytest.raises(SourceUnavailableError) as caught:
        kaggle_folder("caltech256")
    said = str(caught.value)
    assert said.startswith("caltech256 cannot be downloaded: Kaggle's client says ")
    assert "set it as KAGGLE_API_TOKEN" in said
    assert f"Or get https://www.kaggle.com/datasets/{KAGGLE['caltech256']} elsewhere" in said
