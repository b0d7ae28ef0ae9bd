"""What comes out of folders as they lie on people's disks; lists beside photos: `test_lists`."""

import json
import os
import re
import unicodedata
import warnings
from itertools import count
from types import SimpleNamespace

import pytest

from conftest import write_photo
from lookalike.sources import load_catalog

# A case is a text of lines, apart by ` // ` or as lines are. In them `{a,b}` and `{1..3}` stand for
# each, `#2` for two new numbers, and `$1` for what the first of these is there, or after a colon
# means. A line is a file:
#   PATH = LABEL; SPLIT; PRODUCT  a photo, and what the catalogue says of it; `-` is missing
#   PATH - WORD                   a photo that is set aside, for a reason with this word
#   PATH                          something else
# or of what `load_catalog` is asked for, and says:
#   call: JSON                    its parameters
#   said: WORD; WORD              in what is printed
#   doubt: WORD; WORD             in a warning; without this none may come
#   error: WORD; WORD             in the error that must come
#   holds: PATH: COLUMN=VALUE; COLUMN=VALUE
#   list: FILE; ENCODING          a list of photos, and by `row: ...` its rows
GROUP = re.compile(r"\{([^{}]*)\}|#(\d+)")
FILE = re.compile(r"(.*?)(?: ([=-]) (.*))?")


def spread(line, numbers, depth=1):
    """Every line that a line of a case stands for."""
    group = GROUP.search(line)
    if group is None:
        return [line]
    if group[2]:
        choices = [str(next(numbers)) for _ in range(int(group[2]))]
    elif ".." in group[1]:
        first, last = map(int, group[1].split(".."))
        choices = map(str, range(first, last + 1))
    else:
        choices = group[1].split(",")
    lines = []
    for choice in choices:
        name, colon, meaning = choice.partition(":")
        rest = line[group.end() :].replace(f"${depth}", meaning if colon else name)
        lines += spread(line[: group.start()] + name + rest, numbers, depth + 1)
    return lines


def write_text(file, text, encoding=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding=encoding)


def write_list(file, encoding, rows):
    if file.suffix != ".xlsx":
        write_text(file, "".join(f"{row}\n" for row in rows), encoding or "utf-8")
        return
    book = pytest.importorskip("openpyxl").Workbook()
    # What looks like a number becomes one, as it does in Excel.
    for row in rows:
        cells = [int(cell) if cell.isdecimal() else cell or None for cell in row.split(",")]
        book.active.append(cells)
    book.save(file)


def build(shop, text):
    """Write a case below the folder `shop`, and tell what must come out of it."""
    must = SimpleNamespace(call={}, photos={}, aside={}, holds={}, words={})
    numbers = count(1)
    lists = {}
    for line in filter(None, map(str.strip, text.replace(" // ", "\n").splitlines())):
        keyword, _, rest = line.partition(":")
        rest = rest.strip(" ")
        if keyword in ("said", "doubt", "error"):
            must.words[keyword] = rest.split("; ")
        elif keyword == "call":
            must.call = json.loads(rest)
        elif keyword == "holds":
            name, _, pairs = rest.partition(": ")
            must.holds[name] = dict(pair.split("=") for pair in pairs.split("; "))
        elif keyword == "list":
            name, _, encoding = rest.partition(";")
            rows = []
            lists[name] = encoding.strip(), rows
        elif keyword == "row":
            rows += spread(rest, numbers)
        else:
            for one in spread(line, numbers):
                name, kind, value = FILE.fullmatch(one).groups()
                if kind:
                    write_photo(shop / name, 0, size=8)
                else:
                    write_text(shop / name, "something else\n")
                image_id = unicodedata.normalize("NFC", name)
                if kind == "=":
                    label, split, product = [*value.split("; "), "-", "-"][:3]
                    must.photos[image_id] = label, split, image_id if product == "-" else product
                elif kind == "-":
                    must.aside[image_id] = value
    for name, (encoding, rows) in lists.items():
        write_list(shop / name, encoding, rows)
    return must


def check(shop, text, capsys):
    """Write a case and read it; assert that what comes out is right, and what is said of it."""
    must = build(shop, text)
    capsys.readouterr()
    if "error" in must.words:
        with pytest.raises(ValueError) as caught:
            load_catalog("folder", shop, **must.call)
        assert [word for word in must.words["error"] if word not in str(caught.value)] == []
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        catalog, rejected = load_catalog("folder", shop, **must.call)
    found = catalog[["label", "split", "product_id"]].fillna("-")
    found = dict(zip(catalog["image_id"], found.itertuples(index=False, name=None), strict=True))
    assert found == must.photos
    rows = catalog.set_index("image_id")
    for name, held in must.holds.items():
        assert rows.loc[name, [*held]].to_dict() == held
    reasons = dict(rejected.to_numpy())
    assert [name for name in must.aside if must.aside[name] not in reasons.get(name, "")] == []
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line and "%|" not in line]
    assert [word for word in must.words.get("said", ()) if word not in line] == []
    doubts = " ".join(str(one.message) for one in caught)
    assert [word for word in must.words.get("doubt", ()) if word not in doubts] == []
    assert "doubt" in must.words or not doubts


LAYOUTS = {
    "one folder holds everything, a readme beside it": """
        PetImages/{Cat,Dog}/p#3.jpg = $1
        readme[1].txt // said: the folders in PetImages: Cat, Dog.; Not used: readme[1].txt""",
    "what computers and people leave beside": """
        photos/{shoe,hat}/p#3.jpg = $1
        photos/{Desktop.ini,.DS_Store,Thumbs.db,notes.docx,@eaDir/shoe@SynoEAStream}
        {LICENSE,explore.ipynb,.git/objects/1.jpg,__MACOSX/bag/._p1.jpg,photos/hat/._p1.jpg}
        said: Not used: LICENSE, explore.ipynb, photos/notes.docx.""",
    "a folder in a folder of its name": "photos/photos/{shoe,hat}/p#2.jpg = $1 // photos/LICENSE",
    "wrappers in wrappers": "Archive (1)/final/photos/{shoe,hat}/p#2.jpg = $1",
    "classes in folders of their names": "{shoe,hat}/$1/p#2.jpg = $1",
    "Intel's scenes, with photos of no class": """
        {seg_train/seg_train:train,seg_test/seg_test:test}/{sea,street}/p#2.jpg = $2; $1
        seg_pred/seg_pred/p#3.jpg = -; test // doubt: beside sea, street, have no label""",
    "2_Validation": "{1_Train:train,2_Validation:validation}/{bag,hat}/p#2.jpg = $2; $1",
    "dev and holdout": "{train2017:train,dev:validation,holdout:test}/{bag,hat}/p#2.jpg = $2; $1",
    "splits that a name begins": "{cars_train:train,cars_test:test}/{BMW,VW}/p#2.jpg = $2; $1",
    "only train": "train/{bag,hat}/p#2.jpg = $1; train",
    "splits below classes": "{bag,hat}/{train,test}/p#2.jpg = $1; $2",
    "splits, images, classes": """
        {train,val:validation}/images/{bag,hat}/p#2.jpg = $2; $1""",
    "images, splits, classes": "images/{train,test}/{bag,hat}/p#2.jpg = $2; $1",
    "splits with photos of no class": """
        {train,valid:validation}/images/p#3.jpg = -; $1
        data.yaml // doubt: no folder (train/images, valid/images) and no list names a label""",
    "a class called train": "{train,bus,car}/p#3.jpg = $1 // doubt: a label is called train",
    "classes that begin like splits": """
        {trainers,valves,training shoes,test tubes,Developers,evaluators}/p#2.jpg = $1""",
    "images and masks of classes": """
        {images,masks}/{bag,hat}/{1,2}$2.png = $2 // doubt: a folder of masks""",
    "DeepFashion": """
        img/{WOMEN,MEN}/{Shirts,Denim}/id_000#2/0{1,2}_front.jpg = $2; -; $1/$2/id_000$3""",
    "DeepFashion's upper labels": """
        img/{WOMEN,MEN}/{Shirts,Denim}/id_000#2/0{1,2}_front.jpg = $1; -; $1/$2/id_000$3
        call: {"label": "top"}""",
    "a folder a product": "shop/{shoes,bags}/AB-10#2/{1,2}.jpg = $1; -; $1/AB-10$2",
    "any letters": "{Schuhe & Stiefel,靴,100% Wolle,l'été}/.{5,7} l bottle.jpg = $1",
    "digits": "{0..9}/p#2.jpg = $1",
    "numbered classes": "256_ObjectCategories/{001.ak47,002.bag}/x#3.jpg = $1",
    "a name decomposed": "{Ku\u0308che:K\u00fcche,Bad:Bad}/p#2.jpg = $1",
    "smaller copies": """
        2024/{shoe,hat}/{red,blue}_$1.jpg = $1
        2024/{shoe,hat}/red_$1{-150x150,-scaled,@2x,_thumb}.jpg - another size
        2024/{shoe,hat}/thumbs/red_$1.jpg - another size // said: Set aside: 10.""",
    "sizes that are rugs": "rugs/rug-{120x170,160x230}.jpg = rugs // lamps/lamp_#2.jpg = lamps",
    "Shoe in train and shoe in test": """
        train/{Shoe,hat}/p#3.jpg = $1; train
        test/{shoe,hat}/p#2.jpg = $1; test // doubt: Shoe, shoe are different labels""",
    "photos in no folder": "p#4.jpg = - // doubt: no list names a label // said: no folder or list",
    "photos in one folder": "photos/shoe/p#4.jpg = shoe // doubt: there is one label",
    "a label of no list": '{bag,hat}/p#2.jpg = $1 // call: {"label": "Farbe"} // error: Farbe',
    "a photo beside the folder of classes": """
        photos/{bag,hat}/p#2.jpg = $1 // cover.jpg = - // doubt: cover.jpg, beside bag, hat""",
    "every suffix": "{bag,hat}/p#1.{JPG,jpeg,PNG,webp,bmp,gif,tif} = $1",
    "folders of different depth": """
        Fruit/Banana/p#2.jpg = Banana // Fruit/Apple/{Golden,Pink Lady}/p#2.jpg = $1""",
    "photos beside folders of their class": """
        {shoes,hats}/p#2.jpg = $1 // shoes/boots/p#2.jpg = boots""",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_a_folder_is_read_right_and_what_is_doubtful_is_said(tmp_path_factory, text, capsys):
    # A folder whose name tells nothing of the case.
    check(tmp_path_factory.mktemp("disk"), text, capsys)


def test_a_class_may_be_a_link(tmp_path):
    build(tmp_path, "shop/bag/p#2.jpg = bag // elsewhere/p#2.jpg = hat")
    (tmp_path / "shop" / "hat").symlink_to(tmp_path / "elsewhere")
    assert (
        load_catalog("folder", tmp_path / "shop")[0]["label"].tolist() == ["bag"] * 2 + ["hat"] * 2
    )


def test_a_folder_that_cannot_be_listed_is_set_aside(tmp_path, monkeypatch):
    build(tmp_path, "{bag,hat,shoe}/p#2.jpg = $1")
    scan = os.scandir

    def scan_all_but_hat(folder):
        if folder.endswith("hat"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scan_all_but_hat)
    catalog, rejected = load_catalog("folder", tmp_path)
    assert sorted(catalog["label"]) == ["bag", "bag", "shoe", "shoe"]
    assert rejected.to_numpy().tolist() == [["hat", "cannot be listed: Permission denied"]]
