"""One call for every source; folders and lists: `test_layouts` and `test_lists`."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal
from PIL import Image
from test_archives import contents, write_zip

from conftest import write_photo
from lookalike.catalog import catalog_folder, catalog_name, save_catalog
from lookalike.sources import load_catalog, open_catalog
from lookalike.workspace import Workspace, open_workspace

pytestmark = pytest.mark.filterwarnings("ignore:Is it right")
KITCHEN = ["Küche/1.png", "Küche/2.png", "T-Shirt, blue/3.png", "cup/4.png", "plate/5.png"]
SPLITS = ["Test/hat/4.png", "train/hat/1.png", "train/watch/2.png", "val/hat/3.png"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path / "home"))
    return open_workspace()


def write_photos(folder, names):
    for number, name in enumerate(names):
        write_photo(Path(folder, name), number)
    return Path(folder).absolute()


def ids(folder, **how):
    return load_catalog("folder", folder, **how)[0]["image_id"].tolist()


@pytest.mark.parametrize("names", [KITCHEN, SPLITS, ["my/photos/1.png"], ["Zoë 照片.png"]])
def test_a_folder_reads_alike_as_folder_and_as_zip(home, names):
    folder = write_photos("photos", names)
    catalog, rejected = load_catalog("folder", " 'photos/' ")
    assert catalog["path"].tolist() == [str(folder / name) for name in names]
    assert not any(home.data.iterdir())
    zipped, others = load_catalog("zip", write_zip("photos.zip", contents(folder)))
    assert all(home.data in Path(path).parents for path in zipped["path"])
    assert_frame_equal(*(both.drop(columns=["path", "mtime"]) for both in (zipped, catalog)))
    assert [*rejected, *others, *rejected.index, *others.index] == ["image_id", "reason"] * 2


def test_the_columns_of_a_catalogue_and_what_is_set_aside():
    folder = write_photos("photos", SPLITS)
    (folder / "train/hat/broken.png").write_text("broken")
    (folder / "train/hat/gone.png").symlink_to(folder / "nowhere.png")
    os.rename(write_photo(folder / "x.png", 9), os.fsencode(folder) + b"/train/hat/\xff.png")
    catalog, rejected = load_catalog("folder", folder)
    told = "image_id path product_id label split sha256 bytes mtime pixel_width pixel_height"
    assert [*catalog] == told.split()
    assert catalog.dtypes[-4:].tolist() == [int, float, int, int]
    assert catalog["image_id"].tolist() == catalog["product_id"].tolist() == SPLITS
    assert catalog["label"].tolist() == ["hat", "hat", "watch", "hat"]
    assert catalog["split"].tolist() == ["test", "train", "train", "validation"]
    for row in catalog.itertuples():
        there, digest = os.stat(row.path), hashlib.sha256(Path(row.path).read_bytes()).hexdigest()
        assert row[-5:] == (digest, there.st_size, there.st_mtime, *Image.open(row.path).size)
    reasons = dict(rejected.to_numpy())
    for name, word in {"broken": "no", "gone": "No such file", "\\udcff": "Unicode"}.items():
        assert word in reasons.pop(f"train/hat/{name}.png")
    assert reasons == {}


def test_labels_are_chosen_as_they_are_typed():
    folder = write_photos("photos", KITCHEN)
    asked = [("plate, cup", KITCHEN[3:]), (["plate", " cup "], KITCHEN[3:]), ("", KITCHEN)]
    asked += [("T-Shirt, blue", KITCHEN[2:3]), (["T-Shirt, blue", "cup"], KITCHEN[2:4])]
    for labels, expected in asked:
        assert ids(folder, labels=labels) == expected
    with pytest.raises(ValueError, match="'spoon'; there are Küche, T-Shirt, blue, cup, plate"):
        load_catalog("folder", folder, labels=["cup", "spoon"])


def test_at_most_so_many_of_each_label_are_drawn_by_the_seed():
    names = [f"{label}/{number:02}.png" for label in "ab" for number in range(20)]
    folder = write_photos("photos", names)
    drawn = [ids(folder, at_most=5, seed=seed) for seed in (0, 1, 2, 0)]
    assert all([name[0] for name in some] == ["a"] * 5 + ["b"] * 5 for some in drawn)
    assert len({*map(tuple, drawn)}) == 3
    assert drawn[0] == drawn[3] == sorted(drawn[0])
    write_photos(folder, ["c/1.png"])
    assert {*drawn[0], "c/1.png"} < {*ids(folder, at_most=6)}
    assert ids(folder, at_most=0) == [*names, "c/1.png"]


def test_views_of_a_product_are_drawn_together():
    """Ten products of three views; of seven photos one is of a third product. None has a label."""
    names = [f"{view}-{number}.png" for view in range(3) for number in range(10)]
    lines = ["file,product_id", *[f"{name},product {name[2]}" for name in names]]
    (write_photos("photos", names) / "list.csv").write_text("\n".join(lines))
    for most, counts in {1: [1], 6: [3, 3], 7: [3, 3, 1], 29: [3] * 9 + [2]}.items():
        few, _ = load_catalog("folder", "photos", at_most=most)
        assert few["product_id"].value_counts().tolist() == counts


def test_what_cannot_be_had_is_named_with_advice():
    refused = {("ftp", "x"): "'ftp'; choose one of sample, folder, zip"}
    refused |= {("zip", " "): "'zip' needs a path", ("sample", "x"): "for x use source='folder'"}
    refused[("folder", "nowhere")] = "No folder and no archive at /.*nowhere"
    refused[("folder", "empty")] = "No photos in /.*empty; .* a label, .*; there is notes.txt"
    refused[("folder", "broken")] = "None of 2 files .*1.jpg.* no"
    for name in ("empty/notes.txt", "broken/1.jpg", "broken/2.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("broken")
    for asked, words in refused.items():
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            load_catalog(*asked)


@pytest.fixture
def folder(home):
    """Photos and a zip of them, in the workspace, with their catalogues."""
    folder = write_photos(home.root / "photos", KITCHEN)
    for path in (folder, write_zip(home.root / "photos.zip", contents(folder))):
        to = catalog_folder("zip", path, workspace=home)
        save_catalog(load_catalog("zip", path)[0], to / "catalog.csv")
    return folder


def test_a_folder_that_was_moved_is_known_by_its_photos(home, folder):
    paths = folder, write_photos("other", KITCHEN[1:]), shutil.copytree(folder, "copy")
    name, *others = (catalog_name("folder", path, workspace=home) for path in paths)
    moved = folder.rename("renamed").absolute()
    assert catalog_name("folder", moved, workspace=home) == name not in others
    found = open_catalog("folder", moved, workspace=home)["path"].tolist()
    assert found == [str(moved / name) for name in KITCHEN]
    (moved.rename(folder) / KITCHEN[0]).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 photos .*gone, such as Küche/1\.png\. Run 01"):
        open_catalog("folder", folder, workspace=home)


def test_photos_are_found_where_all_was_copied_or_moved_and_what_was_unpacked_deleted(home, folder):
    copied = Path(shutil.copytree(home.root, "copy")).absolute()
    shutil.rmtree(next(home.data.glob("photos-*")))
    for root in (copied, home.root.rename("moved").absolute()):
        for path in ("photos", "photos.zip"):
            found = open_catalog("zip", root / path, workspace=Workspace(root))["path"]
            assert all(root in Path(path).parents and os.path.exists(path) for path in found)
