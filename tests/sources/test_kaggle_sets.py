"""Photos from Kaggle: its own clients against a server on this machine, in the shapes that the two
data sets have.
"""

import base64
import csv
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
from kagglesdk import kaggle_env
from PIL import Image
from test_layouts import LIGHT, contents, killed

from conftest import PROJECT, small_disk
from lookalike.catalog import PIXEL_COLUMNS
from lookalike.images import load_image
from lookalike.sources import load_catalog
from lookalike.sources.kaggle_sets import (
    KAGGLE,
    SourceUnavailableError,
    kaggle_folder,
    kaggle_token,
)

TEST_PORT = 7777  # where the clients look for Kaggle under KAGGLE_API_ENVIRONMENT=TEST
NOWHERE = "http://127.0.0.1:9"
TOKEN = "KGAT_0123456789abcdef_nobody_may_read_this"
WITHOUT_NETWORK = r"The sources 'sample', 'folder' and 'zip' need no network"


# --- A Kaggle of one's own
# ---------------------------------------------------------------------------------------


class Kaggle(ThreadingHTTPServer):
    """What Kaggle answers to its clients: the current version of a data set, and where its zip is."""

    def __init__(self, port):
        self.zips, self.version = {}, 1  # by handle
        self.refusals = {}  # request -> status
        self.cut_after = None  # bytes of the next zip after which the connection breaks
        self.resumable, self.pause = True, 0  # seconds between two pieces of a file
        # At a request, or "body" for half of a file.
        self.silent, self.closing = (None, threading.Event())
        self.checksum = None
        self.seen = []  # (request, what it asked for), in order
        self.authorizations = []
        super().__init__(("127.0.0.1", port), Answer)
        self.url = f"http://localhost:{self.server_address[1]}"

    def count(self, request):
        return [name for name, _ in self.seen].count(request)


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = self.path.rpartition("/")[2]
        handle = f"{asked.get('ownerSlug')}/{asked.get('datasetSlug')}"
        self.server.seen.append((request, handle))
        self.server.authorizations.append(self.headers["Authorization"])
        self.be_silent(request)
        if status := self.server.refusals.get(request):
            self.send_json(status, {"code": status, "message": "This is what Kaggle has to say."})
        elif request == "IntrospectToken":
            self.send_json(200, {"active": asked["token"] == TOKEN, "username": "someone"})
        elif request == "GetDataset":
            self.send_json(200, {"currentVersionNumber": self.server.version})
        elif request == "DownloadDataset":
            self.send_response(302)
            self.send_header("Location", f"{self.server.url}/files/{handle}.zip")
            self.end_headers()
        else:
            self.send_error(501)

    def be_silent(self, where):
        if self.server.silent == where:
            self.server.closing.wait(60)

    def send_json(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/be-silent":
            self.server.silent = "DownloadDataset"
            return self.send_json(200, {})
        asked = self.headers["Range"] if self.server.resumable else None
        self.server.seen.append(("file", asked))
        self.be_silent("file")
        whole = self.server.zips[self.path.removeprefix("/files/").removesuffix(".zip")]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        # A charset, or the clients guess one for the zip to print it, which takes seconds.
        self.send_header("Content-Type", "application/zip; charset=latin-1")
        self.send_header("Content-Length", str(len(whole) - start))
        if self.server.resumable:
            self.send_header("Accept-Ranges", "bytes")
        if self.server.checksum:
            self.send_header("X-Goog-Hash", f"md5={self.server.checksum}")
        self.end_headers()
        end, self.server.cut_after = self.server.cut_after, None
        for place in range(start, len(whole[:end]), len(whole) // 20 + 1):
            self.wfile.write(whole[place:end][: len(whole) // 20 + 1])
            time.sleep(self.server.pause)
            self.be_silent("body")

    def log_message(self, *_):
        pass


@contextmanager
def listening(port):
    server = Kaggle(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


patience = iter(range(50))


def skip_unless_port_is_free():
    """Another run of these tests may have the port, for the moments of one test; all tests wait ten
    seconds at most.
    """
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", TEST_PORT)):
                return
        if next(patience, None) is None:
            pytest.skip(
                f"another program listens on port {TEST_PORT}, where Kaggle's clients look for a test server"
            )
        time.sleep(0.2)


def own_machine(folder):
    """An environment without accounts, caches, settings or a network of the user's."""
    for name in ("home", "lookalike"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "home" / ".config"),
        "KAGGLE_CONFIG_DIR": str(folder / "home" / ".kaggle"),
        "KAGGLEHUB_CACHE": str(folder / "cache"),
        "LOOKALIKE_HOME": str(folder / "lookalike"),
        "KAGGLE_API_ENVIRONMENT": "TEST",
        **dict.fromkeys(
            ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"),
            NOWHERE,
        ),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1"),
    }


STRANGE = (
    "KAGGLE_API_TOKEN",
    "KAGGLE_USERNAME",
    "KAGGLE_KEY",
    "KAGGLE_API_V1_TOKEN",
    "KAGGLE_KERNEL_RUN_TYPE",
)
STRANGE += (
    "KAGGLE_DATA_PROXY_URL",
    "TBE_RUNTIME_ADDR",
    "KAGGLE_LOGGING_ENABLED",
    "KAGGLEHUB_VERBOSITY",
)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    for name, value in own_machine(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in STRANGE:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def kaggle(machine):
    skip_unless_port_is_free()
    with listening(TEST_PORT) as server:
        yield server


@pytest.fixture
def offline(machine, monkeypatch):
    """The real Kaggle is asked for, and the way there is closed."""
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT")


@pytest.fixture
def quiet_kaggle(machine, monkeypatch):
    """As in production: under TEST the client reads every answer whole, to print it, before it
    writes anything.
    """
    with listening(0) as server:
        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, server.url)
        yield server


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def unpacked(folder, members):
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def in_cache(machine, source, version, members, complete=True):
    """What kagglehub leaves behind: the files, and beside them a mark once it has them all."""
    folder = machine / "cache" / "datasets" / KAGGLE[source]
    unpacked(folder / "versions" / str(version), members)
    if complete:
        (folder / f"{version}.complete").touch()
    return folder / "versions" / str(version)


# --- The two data sets, small
# ------------------------------------------------------------------------------------


def photo(label, number, size=(40, 32), mode="RGB"):
    files = sorted((PROJECT / "data" / "sample" / label).glob("*.jpg"))
    stream = io.BytesIO()
    with Image.open(files[number % len(files)]) as image:
        image.draft(mode, size)
        image.convert(mode).resize(size).save(stream, "JPEG")
    return stream.getvalue()


# Caltech's name -> the kind of our sample that stands in for it, and how many.
CLASSES = {
    "backpack": ("bag", 3),
    "cowboy-hat": ("hat", 2),
    "eyeglasses": ("glasses", 4),
    "motorbikes-101": ("bicycle", 7),
    "mountain-bike": ("bicycle", 4),
    "sneaker": ("shoe", 3),
    "t-shirt": ("t-shirt", 6),
    "teapot": ("bag", 5),
    "tennis-shoes": ("shoe", 4),
    "touring-bike": ("bicycle", 5),
    "watch-101": ("watch", 205),
}
PREFIX = "256_ObjectCategories/256_ObjectCategories/"


def caltech_members(first=11, classes=CLASSES, prefix=PREFIX):
    """`NNN.name/NNN_MMMM.jpg`, classes numbered from `first`, with the oddities that the real data
    set has.
    """
    members = {}
    for place, (name, (label, count)) in enumerate(classes.items(), first):
        kinds = [
            photo(label, number, mode="L" if number == 1 else "RGB")
            for number in range(min(count, 8))
        ]
        for number in range(count):
            members[f"{prefix}{place:03}.{name}/{place:03}_{number + 1:04}.jpg"] = kinds[number % 8]
        if name == "tennis-shoes":
            members[f"{prefix}{place:03}.{name}/RENAME2"] = (
                b"#!/bin/sh\nfor i in *; do mv $i ...; done\n"
            )
        if name == "mountain-bike":
            members[f"{prefix}{place:03}.{name}/greg/{place:03}_0099.jpg"] = photo(label, 30)
    return members


@pytest.fixture(scope="module")
def caltech():
    return caltech_members()


@pytest.fixture(scope="module")
def small_caltech():
    """The kinds of the lesson, a few of each."""
    return caltech_members(
        classes={
            "watch-101": ("watch", 2),
            "t-shirt": ("t-shirt", 2),
            "touring-bike": ("bicycle", 2),
            "sneaker": ("shoe", 2),
        }
    )


STYLES = """\
id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName
15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt
53759,Men,Apparel,Topwear,Tshirts,Grey,Summer,2012,Casual,"Puma ""Logo"", grey, XL"
1855,Men,Apparel,Topwear,Tshirts,Grey,,2011,Casual,Inkfruit Mens Chain Reaction T-shirt
59263,Women,Accessories,Watches,Watches,NA,Winter,2016,Casual,Titan Women's 9" Watch
30039,Men,Accessories,Watches,Watches,Black,Winter,2016,Casual,Skagen Men Black Watch
12369,Men,Accessories,Belts,Belts,Brown,Winter,2016,Casual,Belt, brown, 90 cm
31000,Men,Apparel
abc,Men,Apparel,Topwear,Tshirts,Blue,Summer,2012,Casual,A row whose id is no number
"""
COLUMNS = STYLES.splitlines()[0].split(",")


@pytest.fixture(scope="module")
def fashion():
    """Image 30039 is missing, 99999 has no row, 1855 is grey, and all lies a second time in
    `myntradataset`.
    """
    kinds = {
        15970: "t-shirt",
        53759: "t-shirt",
        1855: "t-shirt",
        59263: "watch",
        12369: "bag",
        31000: "hat",
    }
    members = {"styles.csv": STYLES.encode()}
    for number, label in {**kinds, 99999: "shoe"}.items():
        members[f"images/{number}.jpg"] = photo(
            label, number, (60, 80), "L" if number == 1855 else "RGB"
        )
    copy = {f"myntradataset/{name}": data for name, data in members.items()}
    copy["myntradataset/styles.csv"] = STYLES.replace("Shirts", "Copies").encode()
    return copy | members


def counted(catalog):
    return catalog["label"].value_counts().to_dict()


def from_same_files(catalog, other):
    assert catalog.drop(columns="path").equals(other.drop(columns="path"))
    assert catalog["path"].map(os.path.getsize).equals(other["path"].map(os.path.getsize))


# --- Caltech-256
# -------------------------------------------------------------------------------------------------


def test_caltech_is_downloaded_and_gives_the_lessons_four_kinds(kaggle, caltech, machine):
    kaggle.zips[KAGGLE["caltech256"]] = zipped(caltech)
    catalog, rejected = load_catalog("caltech256")
    # 205 watches, of which 200 are taken; 4 + 5 bicycles and one in the folder `greg`; 3 + 4 shoes.
    assert counted(catalog) == {"watch": 200, "bicycle": 10, "shoe": 7, "t-shirt": 6}
    assert catalog["image_id"].str.contains("/motorbikes|/teapot|/backpack").sum() == 0
    bicycles = catalog["image_id"][catalog["label"] == "bicycle"]
    assert bicycles.str.extract(r"\.([^/]+)/")[0].value_counts().to_dict() == {
        "touring-bike": 5,
        "mountain-bike": 5,
    }
    assert bicycles.str.contains("/greg/").sum() == 1
    assert rejected.to_dict("records") == [
        {
            "image_id": f"{PREFIX}019.tennis-shoes/RENAME2",
            "reason": "not an image, or in a format that is not read",
        }
    ]
    assert set(map(tuple, catalog[list(PIXEL_COLUMNS)].to_numpy())) == {(40, 32)}
    assert catalog["split"].isna().all()
    assert catalog["product_id"].equals(catalog["image_id"])
    cache = machine / "cache" / "datasets" / "jessicali9530" / "caltech256" / "versions" / "1"
    assert [Path(path) for path in catalog["path"]] == [
        cache / name for name in catalog["image_id"]
    ]

    again, _ = load_catalog("caltech256")
    assert again.equals(catalog)
    assert (kaggle.count("GetDataset"), kaggle.count("DownloadDataset"), kaggle.count("file")) == (
        2,
        1,
        1,
    )
    assert not any(kaggle.authorizations)


def test_a_newer_version_is_downloaded(kaggle, small_caltech):
    kaggle.zips[KAGGLE["caltech256"]] = zipped(small_caltech)
    assert kaggle_folder("caltech256").name == "1"
    kaggle.version = 2
    assert kaggle_folder("caltech256").name == "2"
    assert kaggle.count("file") == 2


def test_grey_photos_count_like_others(caltech, machine):
    catalog, _ = load_catalog("caltech256", unpacked(machine / "photos", caltech))
    grey = catalog[catalog["image_id"].str.endswith("0002.jpg") & (catalog["label"] == "t-shirt")]
    with Image.open(grey["path"].item()) as image:
        assert image.mode == "L"
    assert load_image(grey["path"].item(), 8).shape == (8, 8, 3)


def test_more_kinds_of_caltech_are_taken_when_named(caltech, machine):
    folder = unpacked(machine / "photos", caltech)
    catalog, rejected = load_catalog("caltech256", folder, labels=("bag", "glasses", "hat"))
    assert counted(catalog) == {"glasses": 4, "bag": 3, "hat": 2}
    assert rejected.empty
    assert counted(load_catalog("caltech256", folder, labels=("teapot",))[0]) == {"teapot": 5}
    assert counted(load_catalog("caltech256", folder, labels=("motorbikes-101", "hat"))[0]) == {
        "motorbikes-101": 7,
        "hat": 2,
    }
    with pytest.raises(ValueError, match=r"No label 'unicorn' .*'bicycle'.*'teapot'"):
        load_catalog("caltech256", folder, labels=("unicorn",))


def drawn(folder, label, **options):
    catalog, _ = load_catalog("caltech256", folder, labels=(label,), max_per_class=3, **options)
    return catalog["image_id"].to_list()


@pytest.mark.parametrize("label", ["watch", "bicycle"])
def test_what_is_drawn_depends_on_the_seed_alone(caltech, machine, label):
    folder = unpacked(machine / "photos", caltech)
    first = drawn(folder, label)
    assert len(first) == 3
    assert first == drawn(folder, label, seed=0)
    assert first != drawn(folder, label, seed=1)
    catalog, _ = load_catalog("caltech256", folder, max_per_class=3)
    assert catalog["image_id"][catalog["label"] == label].to_list() == first
    wanted = {name: data for name, data in caltech.items() if "-bike/" in name or "watch" in name}
    backwards = unpacked(machine / "backwards", dict(reversed(wanted.items())))
    assert drawn(backwards, label) == first


def test_at_most_200_of_a_kind_come_unless_more_are_asked_for(caltech, machine):
    folder = unpacked(machine / "photos", caltech)
    names = [
        len(load_catalog("caltech256", folder, labels=("watch",), max_per_class=n)[0])
        for n in (None, 1, 205, 999)
    ]
    assert names == [200, 1, 205, 205]


def test_the_numbers_of_the_classes_do_not_matter(caltech, machine):
    """Copies of Caltech-256 differ in them, and in whether the folder is nested."""
    other = caltech_members(first=201, prefix="256_ObjectCategories/")
    catalog, _ = load_catalog("caltech256", unpacked(machine / "one", caltech))
    renumbered, _ = load_catalog("caltech256", unpacked(machine / "other", other))
    assert counted(catalog) == counted(renumbered)
    bare = caltech_members(first=201, prefix="")
    assert counted(load_catalog("caltech256", unpacked(machine / "bare", bare))[0]) == counted(
        catalog
    )


def test_a_copy_of_the_tree_inside_the_tree_counts_once(caltech, machine):
    outer = {name.replace(PREFIX, "256_ObjectCategories/"): data for name, data in caltech.items()}
    folder = unpacked(machine / "photos", outer | caltech)
    catalog, rejected = load_catalog("caltech256", folder, max_per_class=999)
    assert counted(catalog) == {"watch": 205, "bicycle": 10, "shoe": 7, "t-shirt": 6}
    assert not catalog["image_id"].str.startswith(PREFIX).any()  # the nearer one
    assert len(rejected) == 1


@pytest.mark.parametrize("wrapper", ["", "archive/"])
def test_a_copy_of_caltech_on_disk_is_read_as_folder_and_as_zip(offline, caltech, machine, wrapper):
    members = {wrapper + name: data for name, data in caltech.items()}
    folder = unpacked(machine / "photos", members)
    file = machine / "archive.zip"
    file.write_bytes(zipped(members))
    catalog, rejected = load_catalog("caltech256", folder)
    zipped_catalog, zipped_rejected = load_catalog("caltech256", file)
    from_same_files(catalog, zipped_catalog)
    assert rejected.equals(zipped_rejected)
    assert counted(catalog) == {"watch": 200, "bicycle": 10, "shoe": 7, "t-shirt": 6}
    assert contents(folder) == members  # read only
    assert (machine / "lookalike" / "data") in Path(zipped_catalog["path"][0]).parents
    assert not (machine / "cache").exists()


def test_a_folder_without_classes_of_caltech_is_told(offline, machine):
    folder = unpacked(machine / "photos", {"watch/1.jpg": photo("watch", 1)})
    with pytest.raises(ValueError, match=r"No files in .*photos"):
        load_catalog("caltech256", folder)
    with pytest.raises(FileNotFoundError, match=r"No folder at .*gone"):
        load_catalog("caltech256", machine / "gone")


# --- Fashion Product Images
# --------------------------------------------------------------------------------------


def test_fashion_is_downloaded_with_what_its_table_says(kaggle, fashion):
    kaggle.zips[KAGGLE["fashion-small"]] = zipped(fashion)
    catalog, rejected = load_catalog("fashion-small")
    others = ["gender", "masterCategory", "subCategory", "season", "year", "usage"]
    contract = ["image_id", "path", "product_id", "label", "split"]
    assert catalog.columns[:5].to_list() == contract
    assert set(catalog.columns[5:]) == {"colour", "title", *others, *PIXEL_COLUMNS}
    rows = catalog.set_index("product_id").drop(columns="path").astype(object)
    assert rows.index.to_list() == ["15970", "53759", "1855", "59263"]
    assert rows["image_id"].to_list() == [f"images/{number}.jpg" for number in rows.index]
    assert rows["label"].to_list() == ["Shirts", "Tshirts", "Tshirts", "Watches"]
    assert rows["colour"].to_list() == ["Navy Blue", "Grey", "Grey", "NA"]
    assert rows["title"].to_list() == [
        "Turtle Check Men Navy Blue Shirt",
        'Puma "Logo", grey, XL',
        "Inkfruit Mens Chain Reaction T-shirt",
        "Titan Women's 9\" Watch",
    ]
    assert rows.loc["15970", others].to_list() == [
        "Men",
        "Apparel",
        "Topwear",
        "Fall",
        "2011",
        "Casual",
    ]
    assert rows["season"].isna().to_list() == [False, False, True, False]
    assert rows["split"].isna().all()
    assert set(map(tuple, catalog[list(PIXEL_COLUMNS)].to_numpy())) == {(60, 80)}
    with Image.open(catalog["path"][2]) as image:
        assert image.mode == "L"
    assert rejected["image_id"].is_unique
    reasons = rejected.set_index("image_id")["reason"].to_dict()
    assert reasons.pop("images/12369.jpg") == "its row in styles.csv has 12 fields, not 10"
    assert reasons.pop("images/31000.jpg") == "its row in styles.csv has 3 fields, not 10"
    assert reasons.pop("images/30039.jpg") == "No such file or directory"
    assert reasons.pop("images/99999.jpg") == "not in styles.csv"
    assert len(reasons) == 1
    assert "images/abc.jpg" in reasons
    load_catalog("fashion-small")
    assert kaggle.count("file") == 1


def test_a_row_whose_id_is_no_number_is_told_as_such(offline, fashion, machine):
    _, rejected = load_catalog("fashion-small", unpacked(machine / "photos", fashion))
    (reason,) = rejected["reason"][rejected["image_id"] == "images/abc.jpg"]
    assert "abc" in reason
    assert "10 fields, not 10" not in reason


def test_one_kind_of_fashion_is_taken_when_named(offline, fashion, machine):
    folder = unpacked(machine / "photos", fashion)
    catalog, _ = load_catalog("fashion-small", folder, labels=("Tshirts",))
    assert catalog["product_id"].to_list() == ["53759", "1855"]
    assert len(load_catalog("fashion-small", folder, max_per_class=1)[0]) == 3  # one a kind
    with pytest.raises(ValueError, match=r"No label 'Copies' .*\['Shirts', 'Tshirts', 'Watches'\]"):
        load_catalog("fashion-small", folder, labels=("Copies",))


@pytest.mark.parametrize("wrapper", ["", "archive/"])
def test_a_copy_of_fashion_on_disk_is_read_as_folder_and_as_zip(offline, fashion, machine, wrapper):
    members = {wrapper + name: data for name, data in fashion.items()}
    file = machine / "archive.zip"
    file.write_bytes(zipped(members))
    catalog, rejected = load_catalog("fashion-small", unpacked(machine / "photos", members))
    zipped_catalog, zipped_rejected = load_catalog("fashion-small", file)
    from_same_files(catalog, zipped_catalog)
    assert rejected.equals(zipped_rejected)
    assert catalog["image_id"].to_list() == [
        f"images/{number}.jpg" for number in (15970, 53759, 1855, 59263)
    ]


def written_styles(folder, header, *rows, encoding="utf-8"):
    with open(folder / "styles.csv", "w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def test_fashion_without_its_table_or_columns_is_told(offline, machine):
    folder = unpacked(machine / "photos", {"images/1.jpg": photo("shoe", 1)})
    with pytest.raises(FileNotFoundError, match=r"No styles\.csv in .*photos.*beside the folder"):
        load_catalog("fashion-small", folder)
    written_styles(folder, ["id", "articleType", "title"])
    with pytest.raises(
        ValueError, match=r"styles\.csv has no column baseColour, productDisplayName; it has id, "
    ):
        load_catalog("fashion-small", folder)
    (folder / "styles.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="has no column articleType, baseColour, id"):
        load_catalog("fashion-small", folder)
    written_styles(folder, COLUMNS)
    with pytest.raises(ValueError, match=r"No files in .*not in styles\.csv"):
        load_catalog("fashion-small", folder)


SHOE = [
    "7",
    "Men",
    "Footwear",
    "Shoes",
    "Casual Shoes",
    "White",
    "Fall",
    "2011",
    "Casual",
    "A shoe",
]


def test_fashion_whose_table_was_saved_by_a_spreadsheet_is_read(offline, machine):
    """Excel puts a byte order mark before the first column's name."""
    folder = unpacked(machine / "photos", {"images/7.jpg": photo("shoe", 1)})
    written_styles(folder, COLUMNS, SHOE, encoding="utf-8-sig")
    assert load_catalog("fashion-small", folder)[0]["product_id"].to_list() == ["7"]


def test_fashion_is_read_by_the_names_of_its_columns(offline, machine):
    folder = unpacked(machine / "photos", {"images/7.jpg": photo("shoe", 1)})
    written_styles(folder, COLUMNS[::-1], SHOE[::-1])
    catalog, rejected = load_catalog("fashion-small", folder)
    assert catalog[["product_id", "label", "colour"]].to_numpy().tolist() == [
        ["7", "Casual Shoes", "White"]
    ]
    assert rejected.empty


def test_fashion_whose_images_lie_elsewhere_is_told(offline, machine):
    (machine / "photos").mkdir()
    written_styles(machine / "photos", COLUMNS, SHOE)
    with pytest.raises((FileNotFoundError, ValueError), match=r"photos.*images|images.*photos"):
        load_catalog("fashion-small", machine / "photos")


def test_a_quote_that_is_never_closed_costs_rows_but_not_the_run(offline, machine):
    """All that follows is one field to a CSV reader, and longer than it takes."""
    folder = unpacked(
        machine / "photos", {f"images/{number}.jpg": photo("shoe", 1) for number in (6, 7)}
    )
    written_styles(folder, COLUMNS, ["6", *SHOE[1:]])
    with open(folder / "styles.csv", "a", newline="") as stream:
        stream.write(",".join([*SHOE[:-1], '"Never closed']) + "\r\n")
        stream.write((",".join(["8", *SHOE[1:]]) + "\r\n") * 3000)
    catalog, rejected = load_catalog("fashion-small", folder)
    assert catalog["product_id"].to_list()[:1] == ["6"]
    assert len(rejected) >= 1


# --- Without a network
# -------------------------------------------------------------------------------------------


def test_offline_the_newest_complete_version_in_the_cache_is_taken(
    offline, small_caltech, machine, capsys
):
    for version in (9, 10):
        folder = in_cache(machine, "caltech256", version, small_caltech)
    in_cache(machine, "caltech256", 11, dict(list(small_caltech.items())[:1]), complete=False)
    (folder.parent / "not-a-number").mkdir()
    assert kaggle_folder("caltech256") == folder
    said = "Kaggle cannot be reached; version 10 of caltech256 is in the cache and is taken."
    assert capsys.readouterr().out.splitlines().count(said) == 1
    assert counted(load_catalog("caltech256")[0]) == {
        "watch": 2,
        "t-shirt": 2,
        "bicycle": 2,
        "shoe": 2,
    }


@pytest.mark.parametrize("source", ["caltech256", "fashion-small"])
def test_offline_with_an_empty_cache_the_message_says_what_to_do(offline, machine, source):
    with pytest.raises(
        SourceUnavailableError, match=rf"^{source} cannot be downloaded: "
    ) as caught:
        load_catalog(source)
    said = str(caught.value)
    assert "Connect to the internet and run this again." in said
    assert "give the folder or zip as the path" in said
    assert "The sources 'sample', 'folder' and 'zip' need no network." in said


def test_offline_half_a_download_is_not_taken(offline, small_caltech, machine):
    in_cache(machine, "caltech256", 3, small_caltech, complete=False)
    with pytest.raises(SourceUnavailableError, match="Kaggle cannot be reached"):
        kaggle_folder("caltech256")


def test_the_cache_of_another_data_set_does_not_help(offline, fashion, machine):
    in_cache(machine, "fashion-small", 1, fashion)
    assert len(load_catalog("fashion-small")[0]) == 4
    with pytest.raises(SourceUnavailableError, match="caltech256"):
        load_catalog("caltech256")


def test_a_server_that_is_not_there_is_told(machine):
    skip_unless_port_is_free()
    with pytest.raises(SourceUnavailableError, match=WITHOUT_NETWORK):
        load_catalog("caltech256")


def test_a_name_that_is_not_known_is_told_soon(offline, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://kaggle.invalid:3128")
    start = time.monotonic()
    with pytest.raises(SourceUnavailableError, match=WITHOUT_NETWORK):
        load_catalog("caltech256")
    assert time.monotonic() - start < 20


# --- Kaggle says no
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_name", ["GetDataset", "DownloadDataset"])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_refusal_is_told_with_its_status_and_a_way_out(kaggle, request_name, status):
    kaggle.refusals[request_name] = status
    with pytest.raises(SourceUnavailableError, match=WITHOUT_NETWORK) as caught:
        load_catalog("caltech256")
    said = str(caught.value)
    assert (
        f"Kaggle answers {status} for https://www.kaggle.com/datasets/jessicali9530/caltech256."
        in said
    )
    if status in (401, 403):
        assert "accept its terms" in said
        assert "KAGGLE_API_TOKEN" in said
        assert "Try again later" not in said
    else:
        assert "Try again later" in said


@pytest.mark.parametrize("status", [500, 503])
def test_while_kaggle_is_down_the_cache_is_taken(kaggle, small_caltech, machine, status):
    folder = in_cache(machine, "caltech256", 2, small_caltech)
    kaggle.refusals["GetDataset"] = status
    assert kaggle_folder("caltech256") == folder


# --- Interrupted and damaged downloads
# ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_caltech(small_caltech):
    """More than the clients read at once, one MiB."""
    return {"noise.txt": np.random.default_rng(0).bytes(2_500_000), **small_caltech}


@pytest.mark.parametrize("resumable", [True, False])
def test_a_download_that_broke_off_is_finished_by_the_next_run(
    quiet_kaggle, large_caltech, machine, resumable
):
    quiet_kaggle.zips[KAGGLE["caltech256"]] = whole = zipped(large_caltech)
    quiet_kaggle.resumable = resumable
    quiet_kaggle.cut_after = len(whole) // 2
    with pytest.raises(
        SourceUnavailableError, match=r"caltech256 cannot be downloaded: .*run this again"
    ):
        load_catalog("caltech256")
    got = (machine / "cache" / "datasets" / KAGGLE["caltech256"] / "1.archive").stat().st_size
    assert 0 < got <= len(whole) // 2
    catalog, _ = load_catalog("caltech256")
    assert counted(catalog) == {"watch": 2, "t-shirt": 2, "bicycle": 2, "shoe": 2}
    assert (
        contents(machine / "cache" / "datasets" / KAGGLE["caltech256"] / "versions" / "1")
        == large_caltech
    )
    # kagglehub asks for all of it, sees that it could go on, and asks again for what is missing.
    ranges = [asked for request, asked in quiet_kaggle.seen if request == "file"]
    assert ranges == [None, None, f"bytes={got}-"] if resumable else [None, None]


def test_a_download_that_broke_off_leaves_the_older_version_in_use(
    quiet_kaggle, large_caltech, small_caltech, machine
):
    folder = in_cache(machine, "caltech256", 1, small_caltech)
    quiet_kaggle.zips[KAGGLE["caltech256"]] = whole = zipped(large_caltech)
    quiet_kaggle.version, quiet_kaggle.cut_after = 2, len(whole) // 2
    assert kaggle_folder("caltech256") == folder
    assert kaggle_folder("caltech256").name == "2"


def test_a_broken_download_does_not_start_another_one(
    quiet_kaggle, large_caltech, small_caltech, machine
):
    """Half of an older version is no help, and what is in the cache is all that is looked for."""
    in_cache(machine, "caltech256", 1, dict(list(small_caltech.items())[:1]), complete=False)
    quiet_kaggle.zips[KAGGLE["caltech256"]] = whole = zipped(large_caltech)
    quiet_kaggle.version, quiet_kaggle.cut_after = 2, len(whole) // 2
    with pytest.raises(SourceUnavailableError, match="Kaggle cannot be reached"):
        kaggle_folder("caltech256")
    assert quiet_kaggle.count("file") == 1


def damaged(members):
    """One byte of the first photo is wrong, as its checksum tells."""
    data = bytearray(zipped(members))
    name = next(iter(members)).encode()
    data[data.index(name) + len(name) + 20] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize("kind", ["a photo", "the zip", "the checksum"])
@pytest.mark.parametrize("resumable", [True, False])
def test_a_damaged_download_is_told_and_the_next_run_starts_anew(
    quiet_kaggle, small_caltech, kind, resumable
):
    good = zipped(small_caltech)
    bad = {"a photo": damaged(small_caltech), "the zip": b"?" * len(good), "the checksum": good}[
        kind
    ]
    quiet_kaggle.resumable, quiet_kaggle.zips[KAGGLE["caltech256"]] = resumable, bad
    if kind == "the checksum":
        quiet_kaggle.checksum = base64.b64encode(hashlib.md5(b"something else").digest()).decode()
    with pytest.raises(SourceUnavailableError, match=WITHOUT_NETWORK):
        load_catalog("caltech256")
    quiet_kaggle.checksum, quiet_kaggle.zips[KAGGLE["caltech256"]] = None, good
    assert counted(load_catalog("caltech256")[0]) == {
        "watch": 2,
        "t-shirt": 2,
        "bicycle": 2,
        "shoe": 2,
    }


def test_a_checksum_that_agrees_is_no_obstacle(quiet_kaggle, small_caltech):
    quiet_kaggle.zips[KAGGLE["caltech256"]] = good = zipped(small_caltech)
    quiet_kaggle.checksum = base64.b64encode(hashlib.md5(good).digest()).decode()
    assert len(load_catalog("caltech256")[0]) == 8


@pytest.mark.parametrize("where", ["GetDataset", "DownloadDataset", "file", "body"])
def test_a_server_that_falls_silent_is_told_and_keeps_nobody_waiting(
    quiet_kaggle, large_caltech, where
):
    quiet_kaggle.zips[KAGGLE["caltech256"]], quiet_kaggle.silent = zipped(large_caltech), where
    with pytest.raises(SourceUnavailableError, match=r"Kaggle cannot be reached .*run this again"):
        kaggle_folder("caltech256", seconds=0.3)
    quiet_kaggle.silent = None
    assert contents(kaggle_folder("caltech256", seconds=20)) == large_caltech
    # What others ask for is not bounded.
    assert requests.Session.send.__module__ == "requests.sessions"


def test_a_full_disk_is_named_and_the_next_run_goes_on(
    quiet_kaggle, large_caltech, tmp_path, monkeypatch
):
    quiet_kaggle.zips[KAGGLE["caltech256"]] = zipped(large_caltech)
    with small_disk(tmp_path / "disk", "1m") as disk:
        monkeypatch.setenv("KAGGLEHUB_CACHE", str(disk))
        with pytest.raises(
            SourceUnavailableError,
            match=r"disk/datasets/jessicali9530/caltech256 cannot be written to",
        ):
            kaggle_folder("caltech256")
        assert not list(disk.rglob("*.complete"))
        subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
        assert contents(kaggle_folder("caltech256")) == large_caltech


def test_a_cache_that_must_not_be_written_to_is_read(
    quiet_kaggle, small_caltech, tmp_path, monkeypatch
):
    with small_disk(tmp_path / "disk", "1m") as disk:
        monkeypatch.setenv("KAGGLEHUB_CACHE", str(disk))
        unpacked(disk / "datasets" / KAGGLE["caltech256"] / "versions" / "1", small_caltech)
        (disk / "datasets" / KAGGLE["caltech256"] / "1.complete").touch()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert contents(kaggle_folder("caltech256")) == small_caltech
        quiet_kaggle.version = 2
        quiet_kaggle.zips[KAGGLE["caltech256"]] = zipped(small_caltech)
        with pytest.raises(
            SourceUnavailableError,
            match=r"caltech256 cannot be written to \(Read-only file system\)",
        ):
            kaggle_folder("caltech256")


ONE_RUN = """
import os
from kagglesdk import kaggle_env
for place in kaggle_env.KaggleEnv:
    kaggle_env._env_to_endpoint[place] = os.environ["SERVER"]
os.environ["KAGGLE_API_ENVIRONMENT"] = "LOCALHOST"
import kagglehub
from lookalike.sources.kaggle_sets import kaggle_folder
if sys.argv[1] == "kaggle":
    import kaggle
print("ready", flush=True)
kaggle_folder("caltech256", client=sys.argv[1], folder=sys.argv[2])
"""


def one_machine(machine, server):
    variables = {
        name: value for name, value in os.environ.items() if name not in STRANGE
    } | own_machine(machine)
    return variables | {"SERVER": server.url, "KAGGLE_API_TOKEN": TOKEN}


@pytest.mark.parametrize(
    ("client", "kills"),
    [
        ("kagglehub", 2),
        pytest.param("kagglehub", 20, marks=pytest.mark.soak),
        pytest.param("kaggle", 20, marks=pytest.mark.soak),
    ],
)
def test_a_download_killed_at_any_moment_is_finished_by_the_next(
    quiet_kaggle, large_caltech, machine, client, kills
):
    members = large_caltech | {
        f"256_ObjectCategories/{n}.bin": b"%d" % n * 5000 for n in range(200)
    }
    quiet_kaggle.zips[KAGGLE["caltech256"]], quiet_kaggle.pause = zipped(members), 0.02
    draw, done, finished = random.Random(2), 0, 0
    cache, folder = machine / "cache" / "datasets" / KAGGLE["caltech256"], machine / "older"
    while done < kills:
        code, options = LIGHT + ONE_RUN, {"env": one_machine(machine, quiet_kaggle)}
        if killed(code, client, folder, after=draw.uniform(0, 0.8), **options):
            done += 1
        else:
            finished += 1
        for mark in cache.glob("*.complete"):
            assert contents(cache / "versions" / mark.stem) == members
            mark.unlink()  # and so once more
        for whole in folder.glob("caltech256-*"):
            if whole.is_dir():
                assert contents(whole) == members
                whole.rename(machine / f"finished-{finished}-{done}")
    with pytest.MonkeyPatch.context() as patch:
        quiet_kaggle.pause = 0
        if client == "kagglehub":
            assert contents(kaggle_folder("caltech256")) == members
            assert sorted(path.name for path in cache.iterdir()) == [
                ".lock",
                "1.complete",
                "versions",
            ]
        else:
            patch.setenv("KAGGLE_API_TOKEN", TOKEN)
            patch.setattr(
                kaggle_env,
                "_env_to_endpoint",
                dict.fromkeys(kaggle_env.KaggleEnv, quiet_kaggle.url),
            )
            whole = kaggle_folder("caltech256", client="kaggle", folder=folder)
            assert contents(whole) == members
            assert sorted(folder.iterdir()) == [whole]


def test_two_processes_download_at_once_and_the_second_takes_what_the_first_got(
    quiet_kaggle, large_caltech, machine
):
    quiet_kaggle.zips[KAGGLE["caltech256"]], quiet_kaggle.pause = zipped(large_caltech), 0.03
    command = [sys.executable, "-c", LIGHT + ONE_RUN, "kagglehub", "unused"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [
        subprocess.Popen(command, env=one_machine(machine, quiet_kaggle), **pipes) for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert (
        contents(machine / "cache" / "datasets" / KAGGLE["caltech256"] / "versions" / "1")
        == large_caltech
    )
    assert quiet_kaggle.count("file") == 1


# --- Tokens
# ------------------------------------------------------------------------------------------------------


def keep(machine, name, text, mode=0o600):
    file = machine / "home" / ".kaggle" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


KAGGLE_JSON = json.dumps({"username": "someone", "key": TOKEN})


def test_without_a_token_there_is_none():
    assert kaggle_token() == ""


def test_a_token_is_told_by_where_it_is_kept(machine, monkeypatch, capfd):
    keep(machine, "kaggle.json", KAGGLE_JSON)
    assert kaggle_token() == "kaggle.json"
    keep(machine, "access_token", TOKEN)
    assert kaggle_token() == "access_token"
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    assert kaggle_token() == "access_token"
    monkeypatch.setenv("KAGGLE_KEY", TOKEN)
    assert kaggle_token() == "KAGGLE_USERNAME and KAGGLE_KEY"
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert kaggle_token() == "KAGGLE_API_TOKEN"
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.skipif(os.name != "posix", reason="only here do files have modes")
@pytest.mark.parametrize("name", ["kaggle.json", "access_token"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_that_others_can_read_is_refused(machine, name, mode, capfd):
    file = keep(machine, name, KAGGLE_JSON, mode)
    with pytest.raises(PermissionError) as caught:
        kaggle_token()
    assert str(caught.value).endswith(f"chmod 600 {file}")
    with pytest.raises(PermissionError, match="chmod 600"):
        kaggle_folder("caltech256", client="kaggle", folder=machine / "photos")
    assert TOKEN not in str(caught.value) + "".join(capfd.readouterr())
    file.chmod(0o600)
    assert kaggle_token() == name


def run_python(machine, script, *paths, **environment):
    """In a Python of its own, since some clients read the environment when they are imported."""
    inherited = {name: value for name, value in os.environ.items() if name not in STRANGE}
    search = os.pathsep.join(map(str, paths))
    done = subprocess.run(
        [sys.executable, "-c", LIGHT + script],
        env={**inherited, **own_machine(machine), "PYTHONPATH": search, **environment},
        cwd=machine,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


USERDATA = """
class SecretNotFoundError(AttributeError): ...
class NotebookAccessError(AttributeError): ...
answer = None
def get(name):
    assert name == "KAGGLE_API_TOKEN"
    if isinstance(answer, type):
        raise answer(name)
    return answer
"""
ON_COLAB = """
import json, os
import google.colab
from google.colab import userdata
from lookalike.sources.kaggle_sets import kaggle_token

outcomes = []
for answer in (userdata.SecretNotFoundError, userdata.NotebookAccessError, os.environ["SECRET"]):
    userdata.answer = answer
    where = kaggle_token()
    outcomes.append((where, os.environ.get("KAGGLE_API_TOKEN") == os.environ["SECRET"]))
userdata.answer = AssertionError  # what the environment has is not asked for
outcomes.append((kaggle_token(), True))
print(json.dumps(outcomes))
"""


def test_on_colab_a_secret_is_handed_on(machine):
    """`google.colab` is a stand-in, with the three things that are used of it."""
    unpacked(
        machine / "colab",
        {"google/colab/__init__.py": b"", "google/colab/userdata.py": USERDATA.encode()},
    )
    done = run_python(machine, ON_COLAB, machine / "colab", SECRET=TOKEN)
    name = "KAGGLE_API_TOKEN"
    assert json.loads(done.stdout) == [["", False], ["", False], [name, True], [name, True]]
    assert TOKEN not in done.stdout + done.stderr


# --- The older client
# --------------------------------------------------------------------------------------------

BY_CLIENT = """
import json, os
from pathlib import Path
from urllib.request import urlopen
from kagglesdk import kaggle_env
for place in kaggle_env.KaggleEnv:  # the older client knows no test server
    kaggle_env._env_to_endpoint[place] = os.environ["SERVER"]
os.environ["KAGGLE_API_ENVIRONMENT"] = "LOCALHOST"
from lookalike.sources.kaggle_sets import kaggle_folder

outcomes = {}
for name, client, variables in json.loads(os.environ["STEPS"]):
    if name == "silent":
        urlopen(os.environ["SERVER"] + "/be-silent")
    for variable in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        os.environ.pop(variable, None)
    os.environ.update(variables)
    try:
        folder = kaggle_folder("caltech256", client=client, folder=Path(name) / "photos", seconds=2)
        outcomes[name] = ["folder", str(folder)]
    except BaseException as error:
        outcomes[name] = [type(error).__name__, str(error)]
Path("outcomes.json").write_text(json.dumps(outcomes))
print("Python goes on")
"""
ACCOUNT = {"KAGGLE_USERNAME": "someone", "KAGGLE_KEY": TOKEN}
STEPS = [
    ("token", "kaggle", {"KAGGLE_API_TOKEN": TOKEN}),
    ("account", "kaggle", ACCOUNT),
    ("none", "kaggle", {}),
    ("expired", "kaggle", {"KAGGLE_API_TOKEN": "KGAT_expired_and_secret"}),
    ("kagglehub", "kagglehub", {"KAGGLE_API_TOKEN": TOKEN}),
    ("silent", "kaggle", {"KAGGLE_API_TOKEN": TOKEN}),
]


@pytest.fixture(scope="module")
def by_client(tmp_path_factory, small_caltech):
    """What becomes of each of `STEPS`, the server that saw them, and all that was printed."""
    machine = tmp_path_factory.mktemp("by_client")
    with listening(0) as server:
        server.zips[KAGGLE["caltech256"]] = zipped(small_caltech)
        done = run_python(machine, BY_CLIENT, SERVER=server.url, STEPS=json.dumps(STEPS))
        outcomes = json.loads((machine / "outcomes.json").read_text())
    return machine, outcomes, server, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["token", "account"])
def test_the_older_client_downloads_with_a_token(by_client, small_caltech, name):
    machine, outcomes, _, _ = by_client
    kind, folder = outcomes[name]
    assert kind == "folder"
    assert contents(machine / folder) == small_caltech
    assert sorted((machine / name / "photos").iterdir()) == [machine / folder]  # the zip is gone
    assert counted(load_catalog("caltech256", machine / name / "photos")[0])["watch"] == 2


def test_the_older_client_is_not_asked_without_a_token(by_client):
    machine, outcomes, server, _ = by_client
    kind, said = outcomes["none"]
    assert kind == "SourceUnavailableError"
    assert "KAGGLE_API_TOKEN" in said
    assert "kaggle.json in ~/.kaggle with mode 600" in said
    assert "client='kagglehub'" in said
    assert not (machine / "none").exists()
    assert None not in server.authorizations


def test_an_expired_token_does_not_end_python(by_client):
    _, outcomes, _, printed = by_client
    kind, said = outcomes["expired"]
    assert kind == "SourceUnavailableError"
    assert "token" in said
    assert "KGAT_expired_and_secret" not in said + printed


def test_the_older_client_is_not_kept_waiting_either(by_client):
    kind, said = by_client[1]["silent"]
    assert kind == "SourceUnavailableError"
    assert "Kaggle cannot be reached (ReadTimeout)" in said


def test_the_token_is_sent_to_kaggle_and_shown_nowhere(by_client):
    _, outcomes, server, printed = by_client
    assert f"Bearer {TOKEN}" in server.authorizations
    assert outcomes["kagglehub"][0] == "folder"
    assert "Python goes on" in printed
    assert TOKEN not in printed
    assert not any(TOKEN in said for _, said in outcomes.values())


@pytest.mark.parametrize("name", ["access_token", "kaggle.json"])
def test_a_token_counts_only_where_the_clients_look_for_it(machine, monkeypatch, name):
    """They look for `access_token` in ~/.kaggle alone, whatever KAGGLE_CONFIG_DIR says."""
    elsewhere = machine / "elsewhere"
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(elsewhere))
    unpacked(elsewhere, {name: KAGGLE_JSON.encode()})
    (elsewhere / name).chmod(0o600)
    assert kaggle_token() == ("kaggle.json" if name == "kaggle.json" else "")
