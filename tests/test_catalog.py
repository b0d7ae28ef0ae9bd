import os
import shutil
import zipfile
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import CLOTHING
from lookalike.catalog import attribute_columns, read_catalog, save_catalog
from lookalike.images import content_hash
from lookalike.sources import load_catalog
from lookalike.sources.load import LESSON_LABELS, MORE_LABELS
from lookalike.splits import SPLITS, split_catalog, three_splits

CONTRACT = ["image_id", "path", "product_id", "label", "split"]
FRACTIONS = (0.7, 0.15, 0.15)
few_examples = settings(max_examples=30, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def own_home(tmp_path_factory):
    """Whatever a source writes lands in the tests' own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKALIKE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def write_photo(path, colour="red", size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def write_photos(folder, image_ids):
    for image_id in image_ids:
        write_photo(folder / image_id)
    return folder


def write_csv(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "catalog.csv").write_text(text, encoding="utf-8")
    return folder


def zip_folder(folder, file, *, wrapped_in=""):
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, os.path.join(wrapped_in, path.relative_to(folder)))
    return file


def plain(frame):
    """A frame's rows as dictionaries, every missing value as None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def told(catalog):
    """What a catalogue tells of each image: image_id -> (label, split)."""
    return {row["image_id"]: (row["label"], row["split"]) for row in plain(catalog)}


def load_one(folder):
    """The catalogue of a folder in which nothing is rejected."""
    catalog, rejected = load_catalog("folder", folder)
    assert plain(rejected) == []
    return catalog


# --- Layouts
# -----------------------------------------------------------------------------------------------------

FLAT = {"1.png": (None, None), "2.jpg": (None, None), "Zoë 照片.png": (None, None)}
BY_CLASS = {
    "shoe/1.png": ("shoe", None),
    "shoe/2.png": ("shoe", None),
    "T-Shirt, blue/1.png": ("T-Shirt, blue", None),
    "watch/1.png": ("watch", None),
}
BY_SPLIT_AND_CLASS = {
    "train/shoe/1.png": ("shoe", "train"),
    "train/watch/1.png": ("watch", "train"),
    "val/shoe/2.png": ("shoe", "validation"),
    "Test/watch/3.png": ("watch", "test"),
}
BY_SPLIT_ALONE = {
    "training/1.png": (None, "train"),
    "valid/2.png": (None, "validation"),
    "testing/3.png": (None, "test"),
}
ONE_SPLIT = {"train/shoe/1.png": ("shoe", "train"), "train/watch/1.png": ("watch", "train")}
NESTED = {
    "shoe/left/1.png": ("shoe", None),
    "shoe/right/deep/1.png": ("shoe", None),
    "shoe/2.png": ("shoe", None),
    "watch/train/1.png": ("watch", None),
}
SPLIT_AND_NESTED = {
    "train/shoe/left/1.png": ("shoe", "train"),
    "train/watch/1.png": ("watch", "train"),
    "validation/shoe/right/2.png": ("shoe", "validation"),
}
A_CLASS_NAMED_TEST = {"test/1.png": ("test", None), "shoe/1.png": ("shoe", None)}
LOOSE_FILES = {"1.png": (None, None), "shoe/1.png": ("shoe", None), "watch/1.png": ("watch", None)}
WITH_FOLDERS = {
    "by class": BY_CLASS,
    "by split and class": BY_SPLIT_AND_CLASS,
    "by split alone": BY_SPLIT_ALONE,
    "one split": ONE_SPLIT,
    "nested": NESTED,
    "split and nested": SPLIT_AND_NESTED,
    "a class named test": A_CLASS_NAMED_TEST,
    "loose files": LOOSE_FILES,
}


@pytest.mark.parametrize("layout", [FLAT, *WITH_FOLDERS.values()], ids=["flat", *WITH_FOLDERS])
def test_a_layout_reads_alike_as_folder_and_as_zip(tmp_path, layout):
    folder = write_photos(tmp_path / "photos", layout)
    assert told(load_one(folder)) == layout
    catalog, rejected = load_catalog("zip", zip_folder(folder, tmp_path / "photos.zip"))
    assert told(catalog) == layout
    assert plain(rejected) == []


@pytest.mark.parametrize("layout", WITH_FOLDERS.values(), ids=WITH_FOLDERS)
@pytest.mark.parametrize("top", ["Photos", "Photos/Photos", "a/b/c"])
def test_folders_that_merely_wrap_a_layout_do_not_matter(tmp_path, layout, top):
    folder = write_photos(tmp_path / "photos", layout)
    catalog, _ = load_catalog("zip", zip_folder(folder, tmp_path / "photos.zip", wrapped_in=top))
    assert told(catalog) == layout
    wrapped = write_photos(tmp_path / "outside" / top, layout)
    assert told(load_one(tmp_path / "outside")) == layout
    assert told(load_one(wrapped)) == layout


def test_a_single_label_keeps_its_folder(tmp_path):
    folder = write_photos(tmp_path / "photos", ["shoe/1.png", "shoe/2.png"])
    expected = {"shoe/1.png": ("shoe", None), "shoe/2.png": ("shoe", None)}
    assert told(load_one(folder)) == expected
    assert told(load_catalog("zip", zip_folder(folder, tmp_path / "photos.zip"))[0]) == expected
    # The folder itself, given as the source, is a catalogue without labels.
    assert told(load_one(folder / "shoe")) == {"1.png": (None, None), "2.png": (None, None)}


@pytest.mark.parametrize(
    "hidden", [".thumbnails/1.png", ".ipynb_checkpoints/x.txt", "__MACOSX/._1.png"]
)
def test_a_single_label_keeps_its_folder_beside_hidden_ones(tmp_path, hidden):
    folder = write_photos(tmp_path / "photos", ["shoe/1.png"])
    (folder / "shoe" / hidden).parent.mkdir()
    (folder / "shoe" / hidden).write_bytes(b"hidden")
    assert told(load_one(folder)) == {"shoe/1.png": ("shoe", None)}


IGNORED = [
    ".DS_Store",
    ".hidden.png",
    ".git/photo.png",
    "__MACOSX/shoe/._1.png",
    "Thumbs.db",
    "desktop.ini",
    "notes.txt",
    "prices.csv",
    "README.md",
    "metadata.JSON",
]


@pytest.mark.parametrize("layout", [FLAT, *WITH_FOLDERS.values()], ids=["flat", *WITH_FOLDERS])
def test_what_lies_beside_photos_is_ignored(tmp_path, layout):
    folder = write_photos(tmp_path / "photos", layout)
    inside = {folder, *(path for path in folder.rglob("*") if path.is_dir())}
    for place in inside:
        for name in IGNORED:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(b"not a photo")
    assert told(load_one(folder)) == layout
    assert told(load_catalog("zip", zip_folder(folder, tmp_path / "photos.zip"))[0]) == layout


@pytest.mark.parametrize("beside", ["__MACOSX/Photos/._shoe", ".DS_Store", "license.txt"])
def test_what_lies_beside_a_wrapping_folder_is_ignored(tmp_path, beside):
    folder = write_photos(tmp_path / "photos" / "Photos", BY_CLASS).parent
    (folder / beside).parent.mkdir(parents=True, exist_ok=True)
    (folder / beside).write_bytes(b"not a photo")
    assert told(load_one(folder)) == BY_CLASS


def test_rows_come_in_the_order_of_their_names(tmp_path):
    folder = write_photos(tmp_path / "photos", ["b/2.png", "b/1.png", "a/3.png"])
    assert load_one(folder)["image_id"].tolist() == ["a/3.png", "b/1.png", "b/2.png"]


def test_linked_photos_are_photos_and_linked_folders_are_reported(tmp_path):
    elsewhere = write_photos(tmp_path / "elsewhere", ["private/1.png"])
    folder = write_photos(tmp_path / "photos", ["shoe/1.png", "watch/1.png"])
    (folder / "shoe" / "2.png").symlink_to(elsewhere / "private" / "1.png")
    (folder / "shoe" / "gone.png").symlink_to(elsewhere / "gone.png")
    (folder / "shoe" / "more").symlink_to(elsewhere, target_is_directory=True)
    (folder / "round").symlink_to(folder, target_is_directory=True)
    catalog, rejected = load_catalog("folder", folder)
    assert sorted(catalog["image_id"]) == ["shoe/1.png", "shoe/2.png", "watch/1.png"]
    reasons = dict(zip(rejected["image_id"], rejected["reason"], strict=True))
    assert sorted(reasons) == ["round", "shoe/gone.png", "shoe/more"]
    assert "folder" in reasons["round"]
    assert "folder" in reasons["shoe/more"]
    assert "No such file" in reasons["shoe/gone.png"]


def test_a_folder_that_holds_but_a_link_to_another_is_not_followed(tmp_path):
    write_photos(tmp_path / "elsewhere", BY_CLASS)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(ValueError, match="'link'"):
        load_catalog("folder", tmp_path / "photos")


def test_a_photo_whose_name_is_not_unicode_is_reported(tmp_path):
    folder = write_photos(tmp_path / "photos", ["1.png"])
    os.rename(write_photo(folder / "2.png"), os.fsencode(folder) + b"/\xff.png")
    catalog, rejected = load_catalog("folder", folder)
    assert catalog["image_id"].tolist() == ["1.png"]
    assert len(rejected) == 1
    assert "Unicode" in rejected["reason"][0]


# --- The contract
# ------------------------------------------------------------------------------------------------


def check_contract(catalog):
    assert catalog.columns[: len(CONTRACT)].tolist() == CONTRACT
    assert catalog.columns[-2:].tolist() == ["pixel_width", "pixel_height"]
    assert catalog.index.tolist() == list(range(len(catalog)))
    assert catalog["image_id"].is_unique
    for name in ("image_id", "path", "product_id"):
        assert all(isinstance(value, str) and value for value in catalog[name])
    for name in ("label", "split"):
        assert all(isinstance(value, str) and value for value in catalog[name].dropna())
    assert set(catalog["split"].dropna()) <= set(SPLITS)
    assert all(os.path.isabs(path) and os.path.isfile(path) for path in catalog["path"])
    assert pd.api.types.is_integer_dtype(catalog["pixel_width"])
    assert pd.api.types.is_integer_dtype(catalog["pixel_height"])


def test_columns_of_a_folder(tmp_path):
    write_photo(tmp_path / "photos" / "train" / "shoe" / "1.png", size=(30, 20))
    write_photo(tmp_path / "photos" / "test" / "2.png", size=(7, 9))
    (tmp_path / "photos" / "train" / "shoe" / "0.png").write_text("broken")
    catalog, rejected = load_catalog("folder", tmp_path / "photos")
    check_contract(catalog)
    assert catalog.columns.tolist() == [*CONTRACT, "pixel_width", "pixel_height"]
    assert (
        catalog["product_id"].tolist()
        == catalog["image_id"].tolist()
        == ["test/2.png", "train/shoe/1.png"]
    )
    assert catalog["path"].tolist() == [
        str(tmp_path / "photos" / image_id) for image_id in catalog["image_id"]
    ]
    assert catalog[["pixel_width", "pixel_height"]].to_numpy().tolist() == [[7, 9], [30, 20]]
    assert rejected.columns.tolist() == ["image_id", "reason"]
    assert rejected["image_id"].tolist() == ["train/shoe/0.png"]
    assert "not an image" in rejected["reason"][0]


def test_nothing_rejected_is_an_empty_frame_with_columns(tmp_path):
    _, rejected = load_catalog("folder", write_photos(tmp_path / "photos", ["1.png"]))
    assert rejected.columns.tolist() == ["image_id", "reason"]
    assert len(rejected) == 0


def test_an_empty_source_says_what_is_expected(tmp_path):
    (tmp_path / "photos" / "shoe").mkdir(parents=True)
    (tmp_path / "photos" / ".hidden.png").touch()
    (tmp_path / "photos" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"No files in .*photos.*expected photos.*<label>"):
        load_catalog("folder", tmp_path / "photos")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"expected photos"):
        load_catalog("folder", tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"expected photos"):
        load_catalog("folder", write_csv(tmp_path / "listed", "image_id,label\n"))


@pytest.mark.parametrize("members", [[], ["shoe/"]])
def test_a_zip_without_files_says_what_is_expected(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in members:
            archive.writestr(name, "")
    with pytest.raises(ValueError, match=r"photos"):
        load_catalog("zip", tmp_path / "photos.zip")


def test_a_source_of_broken_files_says_so(tmp_path):
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_text("broken")
    with pytest.raises(
        ValueError, match=r"None of 2 files .* can be read as an image.*1\.jpg.*not an image"
    ):
        load_catalog("folder", tmp_path)


# --- A folder with its own catalog.csv
# ---------------------------------------------------------------------------


def test_its_own_csv_overrules_folder_names(tmp_path):
    folder = write_photos(
        tmp_path / "photos", ["train/shoe/1.png", "train/shoe/2.png", "3.png", "unlisted.png"]
    )
    write_csv(
        folder,
        "title,image_id,product_id,label,split,price,pixel_width,pixel_height,path\n"
        '"Boot, ""large""",3.png,p2,boot,test,12.5,1,1,/nowhere\n'
        "Sneaker,./train/shoe/2.png,p1,sneaker,,007,1,1,/nowhere\n"
        "Sneaker,train/shoe/1.png,,,validation,,1,1,/nowhere\n"
        "Gone,gone.png,p3,boot,train,3,1,1,/nowhere\n",
    )
    catalog, rejected = load_catalog("folder", folder)
    check_contract(catalog)
    assert catalog.columns.tolist() == [*CONTRACT, "title", "price", "pixel_width", "pixel_height"]
    rows = [
        ("3.png", "p2", "boot", "test", 'Boot, "large"', "12.5"),
        ("train/shoe/2.png", "p1", "sneaker", None, "Sneaker", "007"),
    ]
    rows += [("train/shoe/1.png", "train/shoe/1.png", None, "validation", "Sneaker", None)]
    expected = [
        {
            "image_id": image_id,
            "path": str(folder / image_id),
            "product_id": product_id,
            "label": label,
            "split": split,
            "title": title,
            "price": price,
            "pixel_width": 12,
            "pixel_height": 8,
        }
        for image_id, product_id, label, split, title, price in rows
    ]
    assert plain(catalog) == expected
    assert plain(rejected) == [{"image_id": "gone.png", "reason": "No such file or directory"}]


def test_its_own_csv_may_name_images_alone(tmp_path):
    folder = write_csv(
        write_photos(tmp_path / "photos", ["shoe/1.png", "2.png"]), "image_id\nshoe/1.png\n2.png\n"
    )
    catalog = load_one(folder)
    check_contract(catalog)
    assert told(catalog) == {"shoe/1.png": (None, None), "2.png": (None, None)}
    assert catalog["product_id"].tolist() == ["shoe/1.png", "2.png"]


def test_its_own_csv_is_found_in_a_wrapping_folder_and_in_a_zip(tmp_path):
    inner = write_photos(tmp_path / "photos" / "inner", ["1.png"])
    write_csv(inner, "image_id,label\n1.png,shoe\n")
    assert told(load_one(tmp_path / "photos")) == {"1.png": ("shoe", None)}
    catalog, _ = load_catalog("zip", zip_folder(tmp_path / "photos", tmp_path / "photos.zip"))
    assert told(catalog) == {"1.png": ("shoe", None)}


def test_a_csv_saved_by_a_spreadsheet_is_read(tmp_path):
    """With a byte order mark, carriage returns and letters beyond ASCII."""
    folder = write_photos(tmp_path / "photos", ["été.png"])
    (folder / "catalog.csv").write_bytes(
        "\ufeffimage_id,label\r\nété.png,Schuhe für Zoë\r\n".encode()
    )
    assert told(load_one(folder)) == {"été.png": ("Schuhe für Zoë", None)}


@pytest.mark.parametrize(
    "name", ["None", "NA", "null", "nan", "N/A", "True", "007", "1e5", " spaced "]
)
def test_words_that_look_like_something_else_stay_text(tmp_path, name):
    folder = write_photos(tmp_path / "photos", [f"{name.replace('/', '-')}/1.png", "other/1.png"])
    by_name = told(load_one(folder))
    assert set(by_name.values()) == {(name.replace("/", "-"), None), ("other", None)}

    write_csv(folder, f"image_id,product_id,label,material\nother/1.png,{name},{name},{name}\n")
    catalog = load_one(folder)
    save_catalog(catalog, tmp_path / "saved.csv")
    for frame in (catalog, read_catalog(tmp_path / "saved.csv")):
        assert plain(frame[["product_id", "label"]]) == [{"product_id": name, "label": name}]
        if name not in ("True", "007", "1e5"):  # attributes are typed as pandas reads them
            assert frame["material"].tolist() == [name]


@pytest.mark.parametrize("row", ["1.png", ""])
def test_an_image_id_must_be_given_and_unique(tmp_path, row):
    folder = write_photos(tmp_path / "photos", ["1.png", "2.png"])
    write_csv(folder, f"image_id,label\n1.png,a\n2.png,b\n{row},c\n")
    with pytest.raises(ValueError, match=r"catalog\.csv.*unique"):
        load_catalog("folder", folder)


@pytest.mark.parametrize("image_id", ["../x.png", "shoe/../../x.png", "/x.png", ".."])
def test_an_image_id_must_stay_in_its_folder(tmp_path, image_id):
    write_photo(tmp_path / "x.png")
    folder = write_photos(tmp_path / "photos", ["1.png", "shoe/1.png"])
    image_id = str(tmp_path / "x.png") if image_id == "/x.png" else image_id
    write_csv(folder, f"image_id\n1.png\n{image_id}\n")
    with pytest.raises(ValueError, match=r"catalog\.csv.*leaves the folder") as caught:
        load_catalog("folder", folder)
    assert repr(image_id) in str(caught.value)


def test_a_split_must_be_one_of_the_three(tmp_path):
    folder = write_csv(
        write_photos(tmp_path / "photos", ["1.png"]), "image_id,split\n1.png,holdout\n"
    )
    with pytest.raises(ValueError, match=r"catalog\.csv.*'holdout'"):
        load_catalog("folder", folder)


@pytest.mark.parametrize("name", ["reason", "colour", "index"])
def test_an_attribute_may_have_any_name(tmp_path, name):
    folder = write_csv(
        write_photos(tmp_path / "photos", ["1.png"]), f"image_id,{name}\n1.png,as it was\n"
    )
    assert load_one(folder)[name].tolist() == ["as it was"]


def test_a_csv_without_image_ids_is_refused(tmp_path):
    folder = write_csv(write_photos(tmp_path / "photos", ["1.png"]), "file,label\n1.png,shoe\n")
    with pytest.raises(ValueError, match=r"catalog\.csv.*image_id.*file.*label"):
        load_catalog("folder", folder)


# --- Saving and reading
# ------------------------------------------------------------------------------------------


@pytest.fixture
def catalog(tmp_path):
    """Three photos with missing labels, and attributes of text, whole and broken numbers."""
    folder = write_photos(
        tmp_path / "tree" / "photos", ["shoe/1.png", "shoe/2.png", "Zoë, 照片.png"]
    )
    write_csv(
        folder,
        "image_id,product_id,label,split,title,price,stock\n"
        'shoe/1.png,p1,shoe,train,"Boot, ""large""",12.5,3\n'
        "shoe/2.png,p1,shoe,train,,,4\n"
        '"Zoë, 照片.png",p2,,,"two\nlines",0.1,5\n',
    )
    return load_one(folder)


def test_a_catalogue_comes_back_as_it_was_saved(catalog, tmp_path):
    file = tmp_path / "tree" / "results" / "deep" / "catalog.csv"
    save_catalog(catalog, file)
    assert [path.name for path in file.parent.iterdir()] == ["catalog.csv"]
    back = read_catalog(file)
    check_contract(back)
    assert back.columns.tolist() == catalog.columns.tolist()
    assert plain(back) == plain(catalog)
    assert catalog["stock"].tolist() == ["3", "4", "5"]  # attributes are text, untouched
    assert back["pixel_width"].dtype == catalog["pixel_width"].dtype == np.int64
    save_catalog(back, tmp_path / "tree" / "results" / "again" / "catalog.csv")
    assert (
        tmp_path / "tree" / "results" / "again" / "catalog.csv"
    ).read_bytes() == file.read_bytes()


def test_a_catalogue_moves_with_its_photos(catalog, tmp_path):
    save_catalog(catalog, tmp_path / "tree" / "results" / "catalog.csv")
    (tmp_path / "far" / "away").mkdir(parents=True)
    shutil.move(tmp_path / "tree", tmp_path / "far" / "away" / "tree")
    back = read_catalog(tmp_path / "far" / "away" / "tree" / "results" / "catalog.csv")
    check_contract(back)
    photos = tmp_path / "far" / "away" / "tree" / "photos"
    assert back["path"].tolist() == [str(photos / image_id) for image_id in catalog["image_id"]]


def test_a_relative_file_name_is_relative_to_here(catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_catalog(catalog, "saved.csv")
    assert str(tmp_path) not in (tmp_path / "saved.csv").read_text(encoding="utf-8")
    assert plain(read_catalog("saved.csv")) == plain(catalog)


@few_examples
@given(
    titles=st.lists(
        st.one_of(
            st.none(),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
        ),
        min_size=1,
        max_size=6,
    )
)
@example(["\r"])
def test_any_text_survives_saving(tmp_path_factory, titles):
    """In the columns of the contract, whatever the letters: commas, quotes, line ends, words like
    NA.
    """
    folder = tmp_path_factory.mktemp("text")
    numbers = [str(number) for number in range(len(titles))]
    catalog = pd.DataFrame(
        {"image_id": numbers, "path": [str(folder / number) for number in numbers]}
    )
    catalog = catalog.assign(product_id=titles, label=titles, split=None)
    save_catalog(catalog, folder / "catalog.csv")
    assert plain(read_catalog(folder / "catalog.csv")) == plain(catalog)


def test_a_write_that_fails_leaves_the_old_file(catalog, tmp_path):
    file = tmp_path / "saved" / "catalog.csv"
    save_catalog(catalog, file)
    before = file.read_bytes()
    # Arrow's strings cannot hold it.
    titles = pd.Series(["fine", "fine", "half a letter: \ud83d"], dtype=object)
    broken = catalog.assign(title=titles)
    with pytest.raises(UnicodeEncodeError):
        save_catalog(broken, file)
    # Repeated, outside, or no name.
    for name in ("shoe/1.png", "../1.png", "/1.png", "1\0.png", None):
        with pytest.raises(ValueError, match="image"):
            save_catalog(catalog.assign(image_id=["shoe/1.png", "shoe/2.png", name]), file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["catalog.csv"]


HEADER = "image_id,path,product_id,label,split\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image_id,path,product_id,label\n1,1,1,a\n", "split"),
        ("file,path,product_id,label,split\n1,1,1,a,train\n", "image_id"),
        (HEADER + "1,1,1,a,train\n1,2,2,b,train\n", "unique"),
        (HEADER + ",1,1,a,train\n", "unique"),
        (HEADER + "1,1,1,a,train\n2,2,2,b,train,too,many,fields\n", None),
        (HEADER + "a,a,a,a,train,surplus\nb,b,b,b,train,surplus\n", None),
        (HEADER + "0,0,0,a,train,surplus\n1,1,1,b,train,surplus\n", None),
        (HEADER + "1,,1,a,train\n", "path"),
        (HEADER + "1\0,1,1,a,train\n", "zero byte"),
        (HEADER + "1,1\0,1,a,train\n", "zero byte"),
        (HEADER + "../1,1,1,a,train\n", "leaves the folder"),
        (HEADER.strip() + ",pixel_width\n1,1,1,a,train,wide\n", "pixel_width.*'wide'"),
        (HEADER.strip() + ",pixel_width\n1,1,1,a,train,\n", "pixel_width"),
        (HEADER.strip() + f",pixel_width\n1,1,1,a,train,{10**30}\n", "pixel_width"),
        (HEADER.strip() + ",a" * 10**6 + "\n1,1,1,a,train\n", "50,000 bytes"),
        (HEADER.strip() + "," * 10**6, "50,000 bytes"),
        ("a" * 10**7, "50,000 bytes"),
        ("", None),
        ((HEADER + "1,1,1,été,train\n").encode("latin-1"), None),
    ],
    ids=[
        "no split",
        "no image_id",
        "repeated",
        "missing",
        "ragged",
        "surplus field",
        "surplus field, ids count from 0",
        "no path",
        "zero byte in an id",
        "zero byte in a path",
        "an id that climbs",
        "a width in words",
        "no width",
        "a width too large",
        "a million columns",
        "a million empty columns",
        "one line",
        "empty",
        "latin-1",
    ],
)
def test_a_file_that_is_no_catalogue_is_named(tmp_path, content, words):
    file = tmp_path / "saved.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words) as caught:
        read_catalog(file)
    assert str(file) in str(caught.value)


def test_a_missing_catalogue_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        read_catalog(tmp_path / "gone.csv")
    with pytest.raises(FileNotFoundError, match="No catalogue"):
        read_catalog(tmp_path)


# --- Splitting
# ---------------------------------------------------------------------------------------------------


def make_products(products):
    """A catalogue without files: one (label, split, number of views) a product."""
    rows = []
    for number, (label, split, views) in enumerate(products):
        rows += [
            (f"{number}-{view}.png", f"/{number}-{view}.png", f"p{number}", label, split)
            for view in range(views)
        ]
    return pd.DataFrame(rows, columns=CONTRACT, dtype=object)


def sides(catalog):
    """product_id -> the sides its views are on."""
    return catalog.groupby("product_id")["split"].agg(lambda split: set(split)).to_dict()


def splits_of(catalog):
    return dict(zip(catalog["image_id"], catalog["split"], strict=True))


some_label = st.sampled_from(["shoe", "watch", "None", None])
new_products = st.lists(
    st.tuples(some_label, st.none(), st.integers(1, 3)), min_size=1, max_size=60
)
any_products = st.lists(
    st.tuples(some_label, st.sampled_from([None, None, *SPLITS]), st.integers(1, 3)),
    min_size=1,
    max_size=40,
)
some_fractions = (
    st.lists(st.integers(0, 20), min_size=3, max_size=3)
    .filter(any)
    .map(lambda parts: tuple(part / sum(parts) for part in parts))
)


@few_examples
@given(any_products, some_fractions, st.integers(0, 5))
def test_no_product_is_on_two_sides_and_known_splits_stay(products, fractions, seed):
    catalog = make_products(products)
    before = catalog.copy(deep=True)
    split = split_catalog(catalog, fractions=fractions, seed=seed)
    assert set(split["split"]) <= set(SPLITS)
    assert all(len(side) == 1 for side in sides(split).values())
    known = catalog["split"].notna()
    assert split["split"][known].tolist() == catalog["split"][known].tolist()
    pd.testing.assert_frame_equal(split.drop(columns="split"), catalog.drop(columns="split"))
    pd.testing.assert_frame_equal(catalog, before)


@few_examples
@given(new_products, some_fractions, st.integers(0, 5))
# The one for train must not cost validation its one.
@example([("shoe", None, 1)] * 10, (0.01, 0.139, 0.851), 0)
def test_the_shares_of_each_label_are_within_one_product(products, fractions, seed):
    split = split_catalog(make_products(products), fractions=fractions, seed=seed)
    one_each = split.drop_duplicates("product_id")
    for _, group in one_each.groupby("label", dropna=False):
        for name, fraction in zip(SPLITS, fractions, strict=True):
            assert abs((group["split"] == name).sum() - fraction * len(group)) < 1 + 1e-9


@few_examples
@given(any_products, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(products, seed, random):
    catalog = make_products(products)
    order = list(range(len(catalog)))
    random.shuffle(order)
    shuffled = split_catalog(catalog.iloc[order], seed=seed)
    assert shuffled["image_id"].tolist() == catalog["image_id"].iloc[order].tolist()
    assert splits_of(shuffled) == splits_of(split_catalog(catalog, seed=seed))


def test_the_order_does_not_matter_where_views_disagree():
    """Views of one product with different labels: which of them comes first must not decide."""
    catalog = make_products([("shoe", None, 2)] * 20 + [("watch", None, 2)] * 9)
    catalog.loc[catalog["image_id"].str.endswith("-1.png"), "label"] = "watch"
    for seed in range(5):
        assert splits_of(split_catalog(catalog, seed=seed)) == splits_of(
            split_catalog(catalog[::-1], seed=seed)
        )


def test_the_order_does_not_matter_where_a_source_tears_a_product_apart():
    catalog = make_products([("shoe", "train", 3)])
    catalog["split"] = ["train", "test", None]
    assert splits_of(split_catalog(catalog)) == splits_of(split_catalog(catalog[::-1]))


def test_a_worked_example():
    catalog = make_products([("shoe", None, 2)] * 20 + [("watch", None, 1)] * 8)
    split = split_catalog(catalog, fractions=(0.6, 0.3, 0.1))
    counts = split.drop_duplicates("product_id").groupby(["label", "split"]).size().to_dict()
    # Of eight watches 4.8, 2.4 and 0.8.
    assert counts == {
        ("shoe", "train"): 12,
        ("shoe", "validation"): 6,
        ("shoe", "test"): 2,
        ("watch", "train"): 5,
        ("watch", "validation"): 2,
        ("watch", "test"): 1,
    }
    assert (split["label"] == "shoe").sum() == 40


def test_the_seed_decides():
    catalog = make_products([("shoe", None, 1)] * 40)
    first = splits_of(split_catalog(catalog, seed=1))
    assert splits_of(split_catalog(catalog, seed=1)) == first
    others = [splits_of(split_catalog(catalog, seed=seed)) for seed in (0, 2, 3)]
    assert all(other != first for other in others)
    assert splits_of(split_catalog(catalog)) == others[0]


def test_a_new_view_joins_its_product():
    """Whatever side the product is on, and wherever in the table the new view stands."""
    for side in SPLITS:
        old = make_products([("shoe", side, 2)])
        new = old.head(1).assign(image_id="new.png", split=None)
        for catalog in (pd.concat([old, new]), pd.concat([new, old])):
            assert set(split_catalog(catalog)["split"]) == {side}


def test_a_second_call_changes_nothing_and_later_products_fit_in():
    first = split_catalog(make_products([("shoe", None, 2)] * 30))
    pd.testing.assert_frame_equal(split_catalog(first, seed=9), first)
    later = make_products([("shoe", None, 2)] * 50).iloc[60:]
    both = split_catalog(pd.concat([first, later], ignore_index=True), seed=9)
    assert both["split"].iloc[:60].tolist() == first["split"].tolist()
    # The twenty new products are shared out among themselves.
    assert both["split"].iloc[60:].value_counts().to_dict() == {
        "train": 28,
        "validation": 6,
        "test": 6,
    }


@pytest.mark.parametrize("fractions", [FRACTIONS, (0.2, 0.4, 0.4), (0.01, 0.01, 0.98)])
def test_a_label_of_one_product_goes_to_train(fractions):
    catalog = make_products([("shoe", None, 3), ("watch", None, 1), (None, None, 1)])
    assert set(split_catalog(catalog, fractions=fractions)["split"]) == {"train"}


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_and_splits_of_any_kind_work(missing):
    catalog = make_products([("shoe", None, 1)] * 20).assign(label=missing, split=missing)
    counts = split_catalog(catalog)["split"].value_counts().to_dict()
    assert counts == {"train": 14, "validation": 3, "test": 3}


def test_nothing_is_drawn_for_a_fraction_of_zero():
    catalog = make_products([("shoe", None, 1)] * 7 + [("watch", None, 1)])
    assert set(split_catalog(catalog, fractions=(1, 0, 0))["split"]) == {"train"}
    assert set(split_catalog(catalog, fractions=(0, 0, 1))["split"]) == {"test"}
    assert set(split_catalog(catalog, fractions=(0.5, 0, 0.5))["split"]) == {"train", "test"}


@pytest.mark.parametrize(
    "fractions",
    [
        (0.7, 0.3),
        (0.7, 0.1, 0.1, 0.1),
        (0.7, 0.2, 0.2),
        (0.5, 0.2, 0.2),
        (1.2, -0.1, -0.1),
        (float("nan"), 0.5, 0.5),
        (),
    ],
)
def test_bad_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="three shares that add up to 1"):
        split_catalog(make_products([("shoe", None, 1)] * 5), fractions=fractions)


def test_a_split_survives_saving(tmp_path):
    catalog = load_one(write_photos(tmp_path / "photos", [f"shoe/{i}.png" for i in range(10)]))
    split = split_catalog(catalog)
    save_catalog(split, tmp_path / "split.csv")
    back = read_catalog(tmp_path / "split.csv")
    assert plain(back) == plain(split)
    assert plain(split_catalog(back, seed=5)) == plain(split)


# --- The bundled sample
# ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(own_home):
    return load_catalog("sample")


def test_the_sample_is_whole(sample):
    catalog, rejected = sample
    assert plain(rejected) == []
    check_contract(catalog)
    assert {"product_id", "colour", "pattern", "shape"} <= set(catalog.columns)
    assert set(catalog["label"]) == {"bicycle", "shoe", "t-shirt", "watch"}
    assert catalog.notna().drop(columns="split").to_numpy().all()


def test_products_of_the_sample_have_several_views_of_one_label(sample):
    catalog, _ = sample
    views = catalog["product_id"].value_counts()
    assert views.min() >= 2
    for name in ("label", "colour", "pattern", "shape"):
        assert len(catalog[["product_id", name]].drop_duplicates()) == len(views)


def test_the_sample_splits_without_torn_products(sample):
    split = split_catalog(sample[0])
    assert all(len(side) == 1 for side in sides(split).values())
    for _, group in split.groupby("label"):
        assert set(group["split"]) == set(SPLITS)


def test_a_folder_beside_the_splits_is_not_taken_for_a_label(tmp_path):
    folder = write_photos(
        tmp_path / "photos", ["train/shoe/1.png", "test/shoe/2.png", "extra/3.png"]
    )
    with pytest.raises(ValueError, match=r"others \(extra\)"):
        load_one(folder)


def test_one_split_with_kinds_in_it_is_not_taken_for_a_kind_but_toy_trains_are(tmp_path):
    folder = write_photos(tmp_path / "photos", ["train/hat/1.png", "extra/2.png"])
    with pytest.raises(ValueError, match=r"others \(extra\)"):
        load_one(folder)
    toys = write_photos(tmp_path / "toys", ["train/1.png", "doll/2.png"])
    assert load_catalog("folder", toys)[0]["label"].tolist() == ["doll", "train"]


def test_two_spellings_of_one_file_are_one_id(tmp_path):
    folder = write_photos(tmp_path / "photos", ["1.png"])
    write_csv(folder, "image_id\n1.png\n./1.png\n")
    with pytest.raises(ValueError, match="unique"):
        load_one(folder)


def test_a_zero_byte_in_a_name_is_rejected_not_raised(tmp_path):
    folder = write_photos(tmp_path / "photos", ["1.png"])
    write_csv(folder, "image_id\n1.png\n2\0.png\n")
    catalog, rejected = load_catalog("folder", folder)
    assert (len(catalog), len(rejected)) == (1, 1)


def test_labels_can_be_chosen(tmp_path):
    folder = write_photos(tmp_path / "photos", ["cup/1.png", "plate/2.png", "bowl/3.png"])
    catalog, _ = load_catalog("folder", folder, labels=["plate", "cup"])
    assert catalog["image_id"].tolist() == ["cup/1.png", "plate/2.png"]
    with pytest.raises(ValueError, match=r"'spoon'.*bowl.*cup.*plate"):
        load_catalog("folder", folder, labels=["spoon"])


def test_the_sample_has_three_more_labels_on_request():
    catalog, rejected = load_catalog("sample", labels=LESSON_LABELS + MORE_LABELS)
    assert rejected.empty
    assert len(catalog) == 492
    products = catalog.drop_duplicates("product_id")
    assert products["label"].value_counts().to_dict() == {
        **dict.fromkeys(LESSON_LABELS, 32),
        **dict.fromkeys(MORE_LABELS, 12),
    }
    assert (catalog.groupby("product_id").size() == 3).all()


@pytest.mark.parametrize("label", LESSON_LABELS)
def test_no_attribute_of_the_sample_gives_another_away(label):
    products = load_catalog("sample", labels=[label])[0].drop_duplicates("product_id")
    assert products["colour"].value_counts().to_dict() == dict.fromkeys(
        products["colour"].unique(), 4
    )
    assert products["colour"].nunique() == 8
    assert products["pattern"].value_counts().tolist() == [8, 8, 8, 8]
    assert products["shape"].value_counts().between(10, 11).all()
    assert (pd.crosstab(products["colour"], products["pattern"]) == 1).all(axis=None)
    assert pd.crosstab(products["pattern"], products["shape"]).isin([2, 3]).all(axis=None)


# --- Copies and the split
# ----------------------------------------------------------------------------------------


def copies_of(*pairs):
    return pd.DataFrame(pairs, columns=["image_id", "other_id"], dtype=object)


def draw_pairs(catalog, numbers):
    """Pairs of different photos of the catalogue, picked by any numbers."""
    ids = catalog["image_id"].tolist()
    pairs = [(ids[one % len(ids)], ids[other % len(ids)]) for one, other in numbers]
    return copies_of(*(pair for pair in pairs if pair[0] != pair[1]))


def joined(catalog, copies):
    """The products that pairs join, each set of them apart; one that no pair joins to another is
    alone.
    """
    product = dict(zip(catalog["image_id"], catalog["product_id"], strict=True))
    groups = [{name} for name in set(product.values())]
    for one, other in zip(copies["image_id"], copies["other_id"], strict=True):
        touched = [group for group in groups if product[one] in group or product[other] in group]
        groups = [group for group in groups if group not in touched] + [set().union(*touched)]
    return groups


some_pairs = st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), max_size=25)


@few_examples
@given(new_products, some_pairs, some_fractions, st.integers(0, 5))
def test_products_that_share_a_copy_are_on_one_side(products, numbers, fractions, seed):
    catalog = make_products(products)
    copies = draw_pairs(catalog, numbers)
    before = catalog.copy(deep=True), copies.copy(deep=True)
    split = split_catalog(catalog, fractions=fractions, copies=copies, seed=seed)
    assert set(split["split"]) <= set(SPLITS)
    side = sides(split)
    for group in joined(catalog, copies):
        assert len(set().union(*(side[name] for name in group))) == 1
    pd.testing.assert_frame_equal(split.drop(columns="split"), catalog.drop(columns="split"))
    pd.testing.assert_frame_equal(catalog, before[0])
    pd.testing.assert_frame_equal(copies, before[1])


@few_examples
@given(any_products, some_pairs, st.integers(0, 5))
def test_copies_follow_the_first_split_that_the_source_names(products, numbers, seed):
    catalog = make_products(products)
    copies = draw_pairs(catalog, numbers)
    split = split_catalog(catalog, copies=copies, seed=seed)
    assert set(split["split"]) <= set(SPLITS)
    side, said = sides(split), sides(catalog)
    for group in joined(catalog, copies):
        now = set().union(*(side[name] for name in group))
        named = set().union(*(said[name] for name in group)) - {None}
        assert len(now) == 1
        if named:
            assert now == {min(named, key=SPLITS.index)}


@few_examples
@given(any_products, some_pairs, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_of_pairs_does_not_matter(products, numbers, seed, random):
    catalog = make_products(products)
    copies = draw_pairs(catalog, numbers)
    order, pair_order = list(range(len(catalog))), list(range(len(copies)))
    random.shuffle(order)
    random.shuffle(pair_order)
    turned = copies.iloc[pair_order].rename(
        columns={"image_id": "other_id", "other_id": "image_id"}
    )
    expected = split_catalog(catalog, copies=copies, seed=seed)
    shuffled = split_catalog(catalog.iloc[order], copies=turned, seed=seed)
    assert shuffled["image_id"].tolist() == catalog["image_id"].iloc[order].tolist()
    assert splits_of(shuffled) == splits_of(expected)


@few_examples
@given(any_products, some_fractions, st.integers(0, 5))
def test_no_copies_change_nothing(products, fractions, seed):
    catalog = make_products(products)
    expected = split_catalog(catalog, fractions=fractions, seed=seed)
    found = pd.DataFrame([], columns=["image_id", "other_id", "step", "score"])
    for copies in (copies_of(), found):
        split = split_catalog(catalog, fractions=fractions, copies=copies, seed=seed)
        pd.testing.assert_frame_equal(split, expected)


@few_examples
@given(new_products, some_pairs)
def test_a_split_with_copies_changes_nothing_the_second_time(products, numbers):
    catalog = make_products(products)
    copies = draw_pairs(catalog, numbers)
    first = split_catalog(catalog, copies=copies)
    pd.testing.assert_frame_equal(split_catalog(first, copies=copies, seed=9), first)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("train", "test", "train"),
        ("test", "train", "train"),
        ("validation", "test", "validation"),
        ("test", "validation", "validation"),
        ("train", "validation", "train"),
        ("test", "test", "test"),
        (None, "test", "test"),
        ("validation", None, "validation"),
    ],
)
def test_copies_that_the_source_tore_apart_come_together(one, other, expected):
    catalog = make_products(
        [("shoe", one, 2), ("watch", other, 2), ("shoe", "test", 1), ("shoe", "validation", 1)]
    )
    split = split_catalog(catalog, copies=copies_of(("0-1.png", "1-0.png")))
    assert split["split"].tolist() == [expected] * 4 + ["test", "validation"]


def test_a_chain_of_copies_is_one():
    catalog = make_products(
        [("shoe", "test", 1), ("shoe", "validation", 1), ("watch", "train", 1), ("shoe", "test", 1)]
    )
    chain = copies_of(("0-0.png", "1-0.png"), ("1-0.png", "2-0.png"))
    assert split_catalog(catalog, copies=chain)["split"].tolist() == [
        "train",
        "train",
        "train",
        "test",
    ]
    assert split_catalog(catalog, copies=chain.head(1))["split"].tolist() == [
        "validation",
        "validation",
        "train",
        "test",
    ]


def test_a_chain_over_the_views_of_a_product_is_one():
    """The first view is a copy of one product, the second of another."""
    catalog = make_products([("shoe", None, 1), ("shoe", None, 2), ("shoe", "test", 1)])
    chain = copies_of(("0-0.png", "1-0.png"), ("1-1.png", "2-0.png"))
    assert set(split_catalog(catalog, copies=chain)["split"]) == {"test"}


def test_what_no_copy_joins_keeps_what_the_source_says():
    """Even where the source itself tears a product apart."""
    catalog = make_products([("shoe", None, 3), ("watch", "train", 1), ("watch", "test", 1)])
    catalog["split"] = ["test", "train", None, "validation", "test"]
    split = split_catalog(catalog, copies=copies_of(("1-0.png", "2-0.png")))
    assert split["split"].tolist() == ["test", "train", "test", "validation", "validation"]


def test_every_view_of_a_joined_product_comes_along():
    catalog = make_products([("shoe", None, 3), ("watch", None, 1)])
    catalog["split"] = ["test", "validation", None, "test"]
    split = split_catalog(catalog, copies=copies_of(("0-0.png", "1-0.png")))
    assert split["split"].tolist() == ["validation"] * 4


def test_copies_among_the_views_of_a_product_come_together():
    catalog = make_products([("shoe", None, 2), ("watch", "test", 1)])
    catalog["split"] = ["test", "train", "test"]
    split = split_catalog(catalog, copies=copies_of(("0-0.png", "0-1.png")))
    assert split["split"].tolist() == ["train", "train", "test"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_copies_without_labels_or_splits_work(missing):
    catalog = make_products([(None, None, 1)] * 22).assign(label=missing, split=missing)
    split = split_catalog(catalog, copies=copies_of(("0-0.png", "1-0.png"), ("5-0.png", "9-0.png")))
    side = splits_of(split)
    assert side["0-0.png"] == side["1-0.png"]
    assert side["5-0.png"] == side["9-0.png"]
    # Twenty are drawn, of which two count double.
    one_each = split[~split["image_id"].isin(["1-0.png", "9-0.png"])]
    assert one_each["split"].value_counts().to_dict() == {"train": 14, "validation": 3, "test": 3}


def test_copies_under_two_labels_and_under_none_are_drawn_once():
    """Ten, each as what its first photo is: 7, 1.5 and 1.5 of ten shoes."""
    catalog = make_products(
        [("shoe", None, 1)] * 10 + [("watch", None, 1)] * 10 + [(None, None, 1)] * 10
    )
    catalog["image_id"] = [f"{number:02}.png" for number in range(30)]
    pairs = copies_of(*((f"{number:02}.png", f"{number + 10:02}.png") for number in range(20)))
    for seed in range(3):
        split = split_catalog(catalog, copies=pairs, seed=seed)["split"]
        assert split[:10].value_counts().to_dict() == {"train": 7, "validation": 2, "test": 1}
        assert split[:10].tolist() == split[10:20].tolist() == split[20:].tolist()


def test_copies_among_shoes_do_not_move_watches():
    catalog = make_products([("shoe", None, 2)] * 20 + [("watch", None, 2)] * 20)
    watches = catalog["label"] == "watch"
    expected = split_catalog(catalog)["split"][watches].tolist()
    for pairs in (
        copies_of(("0-0.png", "1-0.png")),
        copies_of(("3-0.png", "17-1.png"), ("17-0.png", "5-0.png")),
    ):
        assert split_catalog(catalog, copies=pairs)["split"][watches].tolist() == expected


def test_copies_go_together_whatever_the_index():
    catalog = make_products([("shoe", "train", 2), ("shoe", "test", 2)]).set_index(
        pd.Index([3, 3, 0, 3])
    )
    split = split_catalog(catalog, copies=copies_of(("0-0.png", "1-0.png")))
    assert split["split"].tolist() == ["train"] * 4
    assert split.index.tolist() == [3, 3, 0, 3]


# --- So many images of a label
# -----------------------------------------------------------------------------------


def load_some(folder, most, seed=0):
    return load_catalog("folder", folder, max_per_class=most, seed=seed)[0]


def test_so_many_images_of_a_label_are_taken(tmp_path):
    names = [
        f"{label}/{number:02}.png"
        for label, count in {"a": 20, "b": 6, "c": 3}.items()
        for number in range(count)
    ]
    folder = write_photos(tmp_path / "photos", names)
    few = load_some(folder, 5)
    check_contract(few)
    assert few["label"].value_counts().to_dict() == {"a": 5, "b": 5, "c": 3}
    assert few["image_id"].tolist() == sorted(few["image_id"])
    assert load_some(folder, 20)["image_id"].tolist() == names
    assert load_one(folder)["image_id"].tolist() == names
    # More of them are the same ones and others.
    assert set(few["image_id"]) < set(load_some(folder, 6)["image_id"])


def test_the_seed_decides_which_are_taken(tmp_path):
    folder = write_photos(
        tmp_path / "photos", [f"{label}/{number:02}.png" for label in "ab" for number in range(20)]
    )
    taken = [load_some(folder, 5, seed)["image_id"].tolist() for seed in range(4)]
    assert len(set(map(tuple, taken))) == 4
    assert [load_some(folder, 5, seed)["image_id"].tolist() for seed in range(4)] == taken
    # Another label beside them changes nothing.
    write_photos(folder, [f"c/{number}.png" for number in range(9)])
    assert [name for name in load_some(folder, 5)["image_id"] if name[0] != "c"] == taken[0]


def test_views_of_a_product_are_taken_together(tmp_path):
    """Ten products of three views, in an order that mixes them: of seven images one is of a third
    product.
    """
    names = [f"{view}-{number}.png" for view in range(3) for number in range(10)]
    folder = write_photos(tmp_path / "photos", names)
    lines = [f"{name},product {name.split('-')[1]},shoe" for name in names]
    write_csv(folder, "\n".join(["image_id,product_id,label", *lines]))
    for seed in range(4):
        for most, counts in {1: [1], 3: [3], 6: [3, 3], 7: [3, 3, 1], 29: [3] * 9 + [2]}.items():
            few = load_some(folder, most, seed)
            assert few["product_id"].value_counts().tolist() == counts
            assert few["image_id"].tolist() == [
                name for name in names if name in set(few["image_id"])
            ]


def test_a_flat_folder_counts_as_one_label(tmp_path):
    names = [f"{number:02}.png" for number in range(12)]
    folder = write_photos(tmp_path / "photos", names)
    few = load_some(folder, 5)
    assert len(few) == 5
    assert few["label"].isna().all()
    assert few["image_id"].tolist() == sorted(few["image_id"])
    assert load_some(folder, 99)["image_id"].tolist() == names


# --- The clothing photos, four ways
# ------------------------------------------------------------------------------


def zip_clothing(file, top=""):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(CLOTHING.rglob("*.jpg")):
            archive.write(path, os.path.join(top, path.relative_to(CLOTHING)))
    return file


def photos_of(catalog):
    """How often each photo, told by its bytes, is there with this label and split."""
    rows = zip(catalog["path"], plain(catalog[["label", "split"]]), strict=True)
    return Counter((content_hash(path), row["label"], row["split"]) for path, row in rows)


@pytest.mark.soak
@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the clothing photos are not beside the project")
def test_the_clothing_reads_alike_in_four_layouts(tmp_path):
    catalog, rejected = load_catalog("folder", CLOTHING)
    assert rejected["image_id"].tolist() == ["LICENSE"]
    as_folder = photos_of(catalog)
    assert len(catalog) == as_folder.total() == 3409
    assert {split for _, _, split in as_folder} == {"train", "validation"}
    assert len({label for _, label, _ in as_folder}) == 10

    for name, top in {"plain.zip": "", "wrapped.zip": "Colors_Products"}.items():
        zipped, rejected = load_catalog("zip", zip_clothing(tmp_path / name, top))
        assert rejected.empty
        assert zipped["image_id"].tolist() == catalog["image_id"].tolist()
        assert photos_of(zipped) == as_folder

    flat = tmp_path / "flat"
    flat.mkdir()
    for image_id, path in zip(catalog["image_id"], catalog["path"], strict=True):
        (flat / image_id.replace("/", "_")).symlink_to(path)
    flat_catalog = load_one(flat)
    assert flat_catalog[["label", "split"]].isna().all(axis=None)
    assert Counter(content for content, _, _ in photos_of(flat_catalog).elements()) == Counter(
        content for content, _, _ in as_folder.elements()
    )


# --- A test that training has not seen
# -----------------------------------------------------------------------------


def two_sided(other, *, without=0):
    """Forty train products of two labels with two views each, four products on the other side, and
    some on none.
    """
    rows = []
    for number in range(44 + without):
        split = "train" if number < 40 else other if number < 44 else None
        rows += [
            (f"{number}-{view}", f"p{number}", "cup" if number % 2 else "hat", split)
            for view in range(2)
        ]
    catalog = pd.DataFrame(rows, columns=["image_id", "product_id", "label", "split"])
    return catalog.assign(path=catalog["image_id"])


def test_three_splits_stay_as_they_are_and_so_does_what_is_no_train_with_one_other_side():
    three = two_sided("validation")
    three.loc[:3, "split"] = "test"
    for catalog in (three, three.assign(split=None), three[three["split"] != "train"]):
        pd.testing.assert_frame_equal(three_splits(catalog), catalog)


@pytest.mark.parametrize("other", ["validation", "test"])
def test_the_one_other_side_becomes_the_test_and_a_tenth_of_the_train_products_the_validation(
    other,
):
    catalog = two_sided(other, without=3)
    before = catalog.copy()
    split = three_splits(catalog)
    pd.testing.assert_frame_equal(catalog, before)
    pd.testing.assert_frame_equal(split.drop(columns="split"), catalog.drop(columns="split"))
    assert set(split.loc[catalog["split"] == other, "split"]) == {"test"}
    assert split["split"].isna().tolist() == catalog["split"].isna().tolist()
    assert split.groupby("product_id")["split"].nunique().max() == 1
    products = split.drop_duplicates("product_id")
    assert products["split"].value_counts().to_dict() == {"train": 36, "validation": 4, "test": 4}
    drawn = products[products["split"] == "validation"]
    assert sorted(drawn["label"]) == ["cup", "cup", "hat", "hat"]
    assert set(drawn["product_id"]) <= set(catalog.loc[catalog["split"] == "train", "product_id"])


def test_which_products_become_the_validation_follows_the_seed_not_the_order_of_rows():
    catalog = two_sided("test")
    split = splits_of(three_splits(catalog, seed=3))
    assert splits_of(three_splits(catalog.sample(frac=1, random_state=0), seed=3)) == split
    assert splits_of(three_splits(catalog, seed=4)) != split
    assert splits_of(three_splits(three_splits(catalog, seed=3), seed=4)) == split


def test_a_source_that_names_train_alone_is_split_anew():
    rows = pd.DataFrame(
        {"image_id": [f"{number}.png" for number in range(20)], "label": ["a", "b"] * 10}
    )
    split = three_splits(rows.assign(product_id=rows["image_id"], split="train"))["split"]
    assert set(split) == set(SPLITS)
    assert (split == "train").sum() == 14
    assert (
        three_splits(rows.assign(product_id=rows["image_id"], split="train"))["split"] == split
    ).all()


def test_attributes_are_what_sorts_images_into_a_few_kinds():
    rows = {
        "image_id": [f"{n}.jpg" for n in range(6)],
        "path": "x",
        "product_id": "p",
        "label": list("aabbcc"),
    }
    catalog = pd.DataFrame(rows).assign(split=None, pixel_width=range(6), pixel_height=range(6))
    catalog = catalog.assign(
        colour=["red", "blue", None] * 2, title=list("uvwxyz"), season="summer", price=[1, 2] * 3
    )
    assert attribute_columns(catalog) == ["colour", "title", "price"]
    assert attribute_columns(catalog, at_most=5) == ["colour", "price"]
