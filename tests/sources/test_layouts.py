"""What comes out of folders as they lie on people's disks; lists beside photos: `test_lists`."""

import io
import json
import os
import re
import tempfile
import unicodedata
import warnings
from functools import lru_cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lookalike.sources import load_catalog

# A case is a text of lines, apart by ` // ` or as lines are. In them `{a,b}` and `{1..3}` stand for
# each, `#2` for two new numbers, and `$1` for what the first of these is there, or what it means:
# `{Train_Set:train}`. A line is a file:
#   PATH = LABEL; SPLIT; PRODUCT  a photo of the catalogue; `-` is missing, `*` anything, `a|b` or
#   PATH ? LABEL; SPLIT; PRODUCT  a photo that may be left out, and else is this
#   PATH - WORD                   a photo that is set aside, for a reason with this word
#   PATH ! WORD                   no image though it is called one, set aside
#   PATH ~                        a photo that is not in the catalogue
#   PATH                          something else; a folder if it ends in a slash
# or of what `load_catalog` is asked for, and says:
#   call: JSON                    its parameters
#   said: WORD; WORD              said somewhere; without the next two no warning may come
#   doubt: WORD; WORD             in a warning
#   perhaps:                      a warning may come
#   error: WORD; WORD             in the error that must come; after `or error:` in one that may
#   missing: PATH                 set aside, though there is no such file
#   holds: PATH: COLUMN=VALUE; COLUMN=VALUE
# or changes the folder:
#   size: 600x800                 of the photos that follow
#   moved: PATH, loop: PATH       a folder becomes a link to elsewhere, a link leads to the top
#   list: FILE; ENCODING          a list of photos, and by `row: ...` its rows
GROUP = re.compile(r"\{([^{}]*)\}|#(\d+)")
FILE = re.compile(r"(.*?)(?: ([=?!~-])(?: (.*))?)?")
FORMATS = Image.registered_extensions()


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


@lru_cache
def photo(number, form, size):
    colours = np.random.default_rng(number).integers(0, 256, (4, 3, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(colours).resize(size).save(data, form)
    return data.getvalue()


def write_file(file, kind, number, size):
    file.parent.mkdir(parents=True, exist_ok=True)
    if kind in (None, "!"):
        file.write_bytes(b"something else\n")
        return
    sized = re.search(r"-(\d+)x(\d+)\.", file.name) if kind == "-" else None
    size = (int(sized[1]), int(sized[2])) if sized else size
    file.write_bytes(photo(number, FORMATS.get(file.suffix.lower(), "JPEG"), size))


def write_list(file, encoding, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix != ".xlsx":
        file.write_text("".join(f"{row}\n" for row in rows), encoding=encoding or "utf-8")
        return
    book = pytest.importorskip("openpyxl").Workbook()
    for row in rows:  # what looks like a number becomes one, as it does in Excel
        cells = [int(cell) if cell.isdecimal() else cell or None for cell in row.split(",")]
        book.active.append(cells)
    book.save(file)


def link(folder, target):
    folder.symlink_to(target, target_is_directory=True)


def build(shop, text):
    """Write a case below the folder `shop`, and tell what must come out of it."""
    must = SimpleNamespace(call={}, photos={}, left_out=set(), aside={}, holds={}, said={})
    numbers, written, size, lists = count(1), count(), (60, 80), {}
    for line in filter(None, map(str.strip, text.replace(" // ", "\n").splitlines())):
        keyword, _, rest = line.partition(":")
        rest = rest.strip(" ")
        if keyword in ("said", "doubt", "perhaps", "error", "or error"):
            must.said[keyword] = rest
        elif keyword == "call":
            must.call = json.loads(rest)
        elif keyword == "missing":
            must.aside[rest] = ""
        elif keyword == "holds":
            name, _, pairs = rest.partition(": ")
            must.holds[name] = dict(pair.split("=") for pair in pairs.split("; "))
        elif keyword == "size":
            size = tuple(map(int, rest.split("x")))
        elif keyword == "moved":
            link(shop / rest, (shop / rest).rename(shop.parent / "elsewhere"))
        elif keyword == "loop":
            link(shop / rest, shop)
        elif keyword == "list":
            name, _, encoding = rest.partition(";")
            rows = []
            lists[name] = encoding.strip(), rows
        elif keyword == "row":
            rows += spread(rest, numbers)
        elif line.endswith("/"):
            (shop / line).mkdir(parents=True)
        else:
            for one in spread(line, numbers):
                name, kind, value = FILE.fullmatch(one).groups()
                write_file(shop / name, kind, next(written), size)
                if kind in ("=", "?"):
                    parts = value.split("; ")
                    must.photos[name] = parts + ["-", ""][len(parts) - 1 :]
                    must.left_out |= {name} if kind == "?" else set()
                elif kind in ("-", "!"):
                    must.aside[name] = value or ""
    for name, (encoding, rows) in lists.items():
        write_list(shop / name, encoding, rows)
    return must


def fits(value, expected):
    """Whether a value of the catalogue is one of `a|b`; of a product the last folder counts."""
    text = "-" if pd.isna(value) else unicodedata.normalize("NFC", str(value))
    return any(one in ("*", text) or text.endswith(f"/{one}") for one in expected.split("|"))


def unsaid(words, text):
    """Which words of `a; b|c` a text lacks."""
    return [word for word in words.split("; ") if not any(one in text for one in word.split("|"))]


def check(place, text, capsys):
    """Write a case and read it; assert that what comes out is right, and what is said of it."""
    shop = place / "shop"
    shop.mkdir()
    must = build(shop, text)
    may_fail = must.said.get("error", must.said.get("or error"))
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            catalog, rejected = load_catalog("folder", shop, **must.call)
        except (ValueError, OSError, ImportError) as error:
            assert may_fail is not None, error
            assert not unsaid(may_fail, str(error)), error
            return
    assert "error" not in must.said, catalog
    assert {"sha256", "bytes", "mtime", "pixel_width", "pixel_height"} <= set(catalog.columns)
    assert set(rejected.columns) == {"image_id", "reason"}
    assert catalog["image_id"].is_unique
    assert all(unicodedata.is_normalized("NFC", name) for name in catalog["image_id"])
    assert not set(catalog["image_id"]) & set(rejected["image_id"])
    found = {
        Path(row["path"]).relative_to(shop).as_posix(): row for row in catalog.to_dict("records")
    }
    assert must.photos.keys() - must.left_out <= found.keys() <= must.photos.keys()
    wrong = {}
    for name, row in found.items():
        label, split, product = must.photos[name]
        got = row["label"], row["split"], row["product_id"]
        right = map(fits, got, (label, split, product or row["image_id"]))
        held = must.holds.get(name, {})
        if not all(right) or {column: row[column] for column in held} != held:
            wrong[name] = got, must.photos[name]
    assert not wrong, "got, and what it must be"
    for name, reason in must.aside.items():
        asides = [(f"/{one}", why) for one, why in rejected.to_numpy()]
        reasons = [
            why for one, why in asides if one.endswith(f"/{name}") or f"/{name}".endswith(one)
        ]
        assert reasons, f"{name} is not set aside"
        assert not unsaid(reason, " ".join(reasons).lower()), reasons
    lines = [line for line in capsys.readouterr().out.splitlines() if line and "%|" not in line]
    doubts = " ".join(str(one.message) for one in caught if issubclass(one.category, UserWarning))
    assert len(lines) == 1, lines
    assert "doubt" in must.said or "perhaps" in must.said or not doubts, doubts
    assert not unsaid(must.said.get("doubt", ""), doubts), f"the warnings say: {doubts}"
    told = " ".join([*lines, doubts, *rejected["image_id"], *rejected["reason"]])
    assert not unsaid(must.said.get("said", ""), told), told


LAYOUTS = {
    "one folder holds everything, a readme beside it": """
        PetImages/{Cat,Dog}/p#3.jpg = $1
        readme[1].txt // said: PetImages; Cat; Dog; readme[1].txt""",
    "photos that are numbered from 0 in each class": """
        PetImages/{Cat,Dog}/{0..2}.jpg = $1 // perhaps:""",
    "what computers and people leave beside": """
        photos/{shoe,hat}/p#3.jpg = $1
        photos/{Desktop.ini,.DS_Store,Thumbs.db,notes.docx,@eaDir/shoe@SynoEAStream}
        {LICENSE,explore.ipynb,citation.bib,photos.zip,@eaDir/photos@SynoEAStream}
        @eaDir/p1.jpg/SYNOPHOTO_THUMB_M.jpg ~
        nothing here/ // said: shoe; hat; LICENSE; explore.ipynb""",
    "an empty folder beside the classes": "{shoe,hat}/p#2.jpg = $1 // bags/ // said: bags",
    "a folder in a folder of its name": "photos/photos/{shoe,hat}/p#2.jpg = $1 // photos/LICENSE",
    "wrappers in wrappers": "Archive (1)/final/photos/{shoe,hat}/p#2.jpg = $1",
    "classes in folders of their names": "{shoe,hat}/$1/p#2.jpg = $1",
    "splits in folders of their names": """
        {training_set,test_set}/README
        {training_set/training_set:train,test_set/test_set:test}/{cats,dogs}/p#2.jpg = $2; $1""",
    "Intel's scenes, with photos of no class": """
        {seg_train/seg_train:train,seg_test/seg_test:test}/{sea,street}/p#2.jpg = $2; $1
        seg_pred/seg_pred/p#3.jpg ? -; * // perhaps: // said: seg_pred""",
    "2_Validation": "{1_Train:train,2_Validation:validation}/{bag,hat}/p#2.jpg = $2; $1",
    "val2017": "{train2017:train,val2017:validation}/{bag,hat}/p#2.jpg = $2; $1",
    "dev and holdout": "{train:train,dev:validation,holdout:test}/{bag,hat}/p#2.jpg = $2; $1",
    "eval": "{training:train,eval:validation|test}/{bag,hat}/p#2.jpg = $2; $1",
    "valid, below a wrapper": """
        data/{train,valid:validation,test}/{bag,hat}/p#2.jpg = $2; $1
        data/labels.md
        sample_submission.txt""",
    "only train": "train/{bag,hat}/p#2.jpg = $1; train",
    "splits below classes": "{bag,hat}/{train,test}/p#2.jpg = $1; $2",
    "splits, images, classes": """
        {train,val:validation}/images/{bag,hat}/p#2.jpg = $2; $1
        {train,val}/annotations/p1.xml""",
    "splits with photos of no class": "{train,test}/p#3.jpg = -; $1 // doubt: abel",
    "a class called train": "{train,bus,car}/p#3.jpg = $1 // doubt: train",
    "classes that begin like splits": """
        {trainers,valves,training shoes,test tubes,Developers,evaluators}/p#2.jpg = $1""",
    "Roboflow": """
        {train,valid:validation,test}/images/p#2.jpg = -; $1
        {train,valid,test}/labels/p1.txt
        {data.yaml,README.roboflow.txt} // doubt: abel""",
    "images, splits, classes": "images/{train,test}/{bag,hat}/p#2.jpg = $2; $1",
    "YOLO": """
        data/images/{train,val:validation}/p#2.jpg = -; $1
        data/labels/{train,val}/p1.txt
        coco128.yaml // doubt: abel""",
    "images and masks of classes": """
        images/{bag,hat}/{1,2}$1.jpg = $1
        masks/{bag,hat}/{1,2}$1.png - mask // perhaps: // said: masks""",
    "images and annotations": """
        images/IMG_000{1..3}.jpg = -
        annotations/IMG_000{1..3}.png - annotation // doubt: abel""",
    "images of classes": "images/{bag,hat}/p#2.jpg = $1 // said: bag; hat",
    "the same photos twice": """
        {images_original,images_compressed}/p{1..4}.jpg ? *
        doubt: images_original; images_compressed""",
    "labels in file names": """
        train/{cat,dog}.{0..2}.jpg = $1; train
        test1/#3.jpg ? -; test // doubt: name; cat; dog""",
    "Oxford's pets": """
        images/{Abyssinian,great_pyrenees}_{1,12,100}.jpg = $1
        annotations/trimaps/{Abyssinian,great_pyrenees}_{1,12,100}.png - annotation|trimap
        annotations/{list.txt,README} // doubt: name; great_pyrenees""",
    "what cameras call photos is no label": """
        {IMG_000,DSC_000,P101000,Screenshot 2024-01-0,20240101_12000}{1..2}.jpg = -
        doubt: abel""",
    "file names do not outvote folders": "{bag,hat}/{red,blue}_{1,2}$1.jpg = $1",
    "DeepFashion": """
        img/WOMEN/{Dresses,Skirts}/id_0000000#2/0{1,2}_1_front.jpg = $1; -; id_0000000$2
        img/MEN/{Denim,Shorts}/id_0000000#2/0{1,2}_1_front.jpg = $1; -; id_0000000$2""",
    "DeepFashion's upper labels": """
        img/WOMEN/{Dresses,Skirts}/id_0000000#2/0{1,2}_1_front.jpg = WOMEN; -; id_0000000$2
        img/MEN/{Denim,Shorts}/id_0000000#2/0{1,2}_1_front.jpg = MEN; -; id_0000000$2
        call: {"label": "top"}""",
    "a folder a product": "{shoes,bags}/AB-10#2/{1,2}.jpg = $1; -; AB-10$2 // perhaps:",
    "a folder a product, called by numbers": """
        shop/{shoes,bags}/10877500#3/{1,2,3}.jpg = $1; -; 10877500$2 // perhaps:""",
    "classes in two parts": "{part1,part2}/{bag,hat}/p#2.jpg = $2 // perhaps:",
    "any letters": "{Schuhe & Stiefel,靴,100% Wolle,l'été}/p#2.jpg = $1",
    "digits": "{0..9}/p#2.jpg = $1",
    "digits in splits": "{training:train,testing:test}/{0..9}/p#2.jpg = $2; $1",
    "numbered classes": """
        256_ObjectCategories/{001.ak47,002.bag}/x#2.jpg = $1|ak47|bag""",
    "a name composed and decomposed": """
        Ku\u0308che/p#2.jpg = K\u00fcche
        K\u00fcche/p#2.jpg = K\u00fcche
        Bad/p#2.jpg = Bad // perhaps:""",
    "a label asked for as it is typed": """
        Ku\u0308che/p#2.jpg = K\u00fcche
        Bad/p#2.jpg ~ // call: {"labels": "K\u00fcche"} // perhaps:""",
    "a photo that two spellings name": """
        {Ku\u0308che,K\u00fcche}/{1,2}.jpg ? K\u00fcche
        Bad/p#2.jpg = Bad // perhaps: // said: K\u00fcche|Ku\u0308che""",
    "a class that is a link": "{shoe,hat}/p#2.jpg = $1 // moved: hat",
    "a link that leads round in a circle": """
        {shoe,hat}/p#2.jpg = $1 // loop: shoe/again // perhaps:""",
    "classes like files": "{acme.md,v1.json,.NET,photo.jpg}/p#2.jpg = $1",
    "a photo like a hidden file": "bottle/.{5,7} l bottle.jpg = bottle // can/p#2.jpg = can",
    "one label with a comma": """
        T-Shirt, blue/p#2.jpg = T-Shirt, blue
        {T-Shirt,shoe}/p#2.jpg ~ // call: {"labels": "T-Shirt, blue"} // perhaps:""",
    "several labels as text": """
        {bag,hat}/p#2.jpg = $1
        shoe/p#2.jpg ~ // call: {"labels": "bag, hat"}""",
    "a label that is not there": """
        {bag,hat}/p#2.jpg ~ // call: {"labels": ["boot"]} // error: boot; bag; hat""",
    "WordPress": """
        size: 600x800
        uploads/2024/{shoe,hat}/{red,blue}-$1.jpg = $1
        uploads/2024/{shoe,hat}/{red,blue}-$1-{scaled,150x150,225x300,480x640}.jpg - -$1
        said: 150x150""",
    "copies by suffix": """
        {shoe,hat}/{red,blue}-$1.png = $1
        {shoe,hat}/{red,blue}-$1{@2x,_thumb}.png - -$1""",
    "copies in folders": """
        shop/{shoe,hat}/{red,blue}-$1.jpg = $1
        shop/{shoe,hat}/{thumbs,@__thumb,.@__thumb}/{red,blue}-$1.jpg - thumb|size|copy
        shop/cache/{shoe,hat}/{red,blue}-$1.jpg - cache|thumb|size|copy""",
    "sizes that are rugs": "rugs/rug-{120x170,160x230}.jpg = rugs // lamps/lamp_#2.jpg = lamps",
    "Shoe in train and shoe in test": """
        train/{Shoe,hat}/p#3.jpg = $1; train
        test/{shoe:Shoe,hat:hat}/p#2.jpg = $1; test // doubt: Shoe; shoe""",
    "labels that differ by blanks": """
        T shirt/p#3.jpg = T shirt
        {T  shirt ,t shirt}/p#2.jpg = T shirt
        hat/p#2.jpg = hat // doubt: T shirt; T  shirt; t shirt""",
    "one photo": "shoe.jpg = - // doubt: abel",
    "photos in no folder": "p#4.jpg = - // doubt: abel",
    "photos in one folder": "shoe/p#4.jpg = shoe // README // doubt: shoe",
    "photos in one folder of a folder": "photos/shoe/p#4.jpg = shoe // doubt: shoe",
    "a label of no list": '{bag,hat}/p#2.jpg ~ // call: {"label": "Farbe"} // error: Farbe',
    "photos in a folder called images": "images/p#4.jpg = -|images // doubt: images",
    "photos beside classes": "{bag,hat}/p#2.jpg = $1 // cover#2.jpg = - // doubt: cover|abel",
    "a photo beside the folder of classes": """
        photos/{bag,hat}/p#2.jpg = $1
        cover.jpg = - // doubt: cover|abel""",
    "photos without suffix": "{bag,hat}/p#2 = $1 // bag/README // {LICENSE,Makefile}",
    "every suffix": "{bag,hat}/p#1.{JPG,jpeg,PNG,webp,bmp,gif,tif} = $1",
    "what is no image": "{bag,hat}/p#2.jpg = $1 // bag/{broken.jpg,broken.PNG} !",
    "one photo of each label": "{bag,hat,shoe,watch}/p#1.jpg = $1 // doubt: one|1|single",
    "folders of different depth": """
        Fruit/Banana/p#2.jpg = Banana
        Fruit/Apple/{Golden,Pink Lady}/p#2.jpg = $1 // perhaps:""",
    "upper labels at different depth": """
        Fruit/Banana/p#2.jpg = Banana
        Fruit/Apple/{Golden,Pink Lady}/p#2.jpg = Apple // call: {"label": "top"} // perhaps:""",
    "photos beside folders of their class": """
        {shoes,hats}/p#2.jpg = $1
        shoes/boots/p#2.jpg = boots // perhaps:""",
    "photos beside the only folder": """
        shoes/p#2.jpg = shoes|- // shoes/boots/p#2.jpg = boots // doubt: boots""",
    "hidden folders": """
        {bag,hat}/p#2.jpg = $1
        {.git/objects,bag/.ipynb_checkpoints,.Trash-1000/files,$RECYCLE.BIN/S-1-5}/p#2.jpg ~
        {__MACOSX/bag/._p1.jpg,bag/._p1.jpg,System Volume Information/tracking.log}""",
    "shards": "{s/h/sh,h/a/ha,ab/cd/abcd}{1..2}x.jpg = - // doubt: label",
    "no photos": "{README,bag/list.txt} // error: shop",
}
TRAIN_AND_TEST = ["Train_Set Test_Set", "TRAIN TEST", "train2017 test2017", "1_Training 2_Testing"]
TRAIN_AND_TEST += ["train-images test-images", "trainset testset", "seg_train seg_test"]
for pair in TRAIN_AND_TEST:
    train, test = pair.split()
    LAYOUTS[pair] = f"{{{train}:train,{test}:test}}/{{bag,hat}}/p#2.jpg = $2; $1"


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_a_folder_is_read_right_and_what_is_doubtful_is_said(tmp_path_factory, text, capsys):
    # a folder whose name tells nothing of the case
    check(tmp_path_factory.mktemp("disk"), text, capsys)


def test_a_folder_that_cannot_be_listed_is_set_aside():
    """Root may list all: it becomes someone else for as long as it reads."""
    with tempfile.TemporaryDirectory() as place:
        shop = Path(place)
        build(shop, "{bag,hat,shoe}/p#2.jpg = $1")
        load_catalog("folder", shop)
        shop.chmod(0o755)
        (shop / "hat").chmod(0)
        me = os.geteuid()
        try:
            os.seteuid(me or 65534)
            catalog, rejected = load_catalog("folder", shop)
        finally:
            os.seteuid(me)
            (shop / "hat").chmod(0o755)
    assert sorted(catalog["label"]) == ["bag", "bag", "shoe", "shoe"]
    assert [Path(name).name for name in rejected["image_id"]] == ["hat"]
    assert "list" in rejected["reason"].item() or "ermission" in rejected["reason"].item()
