"""The sample's catalogue, how any is saved and read again, and what it is called."""

import os
import re

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import ALL_LABELS, PROJECT
from lookalike.catalog import catalog_name, read_catalog, save_catalog
from lookalike.sources import load_catalog
from lookalike.sources.load import LESSON_LABELS
from lookalike.workspace import Workspace

HEADER = "image_id,path,product_id,label,split"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def plain(frame):
    return [*frame], frame.astype(object).where(frame.notna(), None).to_numpy().tolist()


def make(folder, titles):
    """A catalogue of photos that need not be there, of these labels, products and titles."""
    rows = pd.DataFrame({"image_id": [f"a/{number}.png" for number in range(len(titles))]})
    rows["path"] = [str(folder / "photos" / name) for name in rows["image_id"]]
    rows = rows.assign(product_id=titles, label=titles, split=None, title=titles, sha256="00e1")
    return rows.assign(bytes=9, mtime=1234567890.123456, pixel_width=4, pixel_height=3)


def test_the_sample_is_whole_and_no_attribute_gives_another_away():
    catalog, rejected = load_catalog("sample", labels=ALL_LABELS)
    assert rejected.empty
    assert catalog.drop(columns="split").notna().all(axis=None)
    assert {*catalog["product_id"].value_counts()} == {3}
    products = catalog[["product_id", "label", "colour", "pattern", "shape"]].drop_duplicates()
    assert products["product_id"].is_unique
    assert products["label"].value_counts().tolist() == [32] * 4 + [12] * 3
    for label in {*load_catalog("sample")[0]["label"]} | {*LESSON_LABELS}:
        colour, pattern, shape = products[products["label"] == label].iloc[:, 2:].T.to_numpy()
        assert pd.crosstab(colour, pattern).to_numpy().tolist() == [[1] * 4] * 8
        assert pd.crosstab(pattern, shape).isin([2, 3]).all(axis=None)
        assert pd.Series(shape).value_counts().between(10, 11).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | TEXT, min_size=1, max_size=6))
@example(["\r", "NA", "null", "007", "1e5", " blank ", 'a "b", c', "two\nlines"])
def test_a_catalogue_comes_back_as_it_was_saved_and_moves_with_its_photos(tmp_path_factory, titles):
    folder = tmp_path_factory.mktemp("text")
    save_catalog(make(folder / "new", titles), folder / "new" / "catalog.csv")
    moved = (folder / "new").rename(folder / "moved")
    back = read_catalog(moved / "catalog.csv")
    assert plain(back) == plain(make(moved, titles))
    assert back.dtypes[-4:].tolist() == [int, float, int, int]
    save_catalog(back, moved / "again.csv")
    assert (moved / "again.csv").read_bytes() == (moved / "catalog.csv").read_bytes()


@pytest.mark.parametrize(
    ("column", "values"),
    [("image_id", ["1", "1"]), ("bytes", ["?", "9"]), ("label", ["\ud83d", ""])],
)
def test_a_write_that_fails_leaves_the_old_file(tmp_path, column, values):
    file, catalog = tmp_path / "saved" / "catalog.csv", make(tmp_path, ["x", "y"])
    save_catalog(catalog, file)
    with pytest.raises(ValueError):
        save_catalog(catalog.assign(**{column: pd.Series(values, dtype=object)}), file)
    assert read_catalog(file)["title"].tolist() == ["x", "y"]
    assert os.listdir(file.parent) == ["catalog.csv"]


def test_a_file_that_is_no_catalogue_is_named(tmp_path):
    file, start = tmp_path / "saved.csv", f"{HEADER}\n1,1,1,a,"
    with pytest.raises(FileNotFoundError, match=f"No catalogue at {file}. Run 01_data"):
        read_catalog(file)
    no_catalogues = {
        "image_id,path,product_id,label\n1,1,1,a\n": "split",
        f"{start}\n1,2,2,b,\n": "'1' is there twice",
        f"{start}\n2,,2,b,\n": "no path",
        f"{start}\n2,2,2,b,,more\n": "line 3",
        f"{HEADER},pixel_width\n1,1,1,a,,wide\n": "'wide'.*pixel_width",
        "": "",
        "1,é\n": "utf-8",
    }
    for content, words in no_catalogues.items():
        file.write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match=f"^{re.escape(str(file))} is no catalogue: .*{words}"):
            read_catalog(file)


def test_two_folders_of_one_name_get_two_names_and_the_project_may_move(tmp_path):
    here, there = Workspace(tmp_path / "here"), Workspace(tmp_path / "there")
    assert [catalog_name("sample", blank, workspace=here) for blank in ("", " ")] == ["sample"] * 2
    outside = [tmp_path / path for path in ("a/photos", "b/photos", "b/photos.zip")]
    outside[0].mkdir(parents=True)
    names = {catalog_name("folder", path, workspace=here) for path in outside}
    inside = {here: here.root, there: there.root, Workspace(tmp_path): PROJECT}
    names |= {catalog_name("zip", inside[home] / "my/photos", workspace=home) for home in inside}
    assert len(names) == 4
    assert all(re.fullmatch(r"photos-\w{6}", name) for name in names)
