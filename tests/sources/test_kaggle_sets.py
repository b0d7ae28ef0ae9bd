"""Photos from Kaggle: its own clients against a server on this machine, in the shapes that the two
data sets have.
"""

import json
import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image
from test_archives import write_zip
from test_downloads import NOISE, PNG, RED, Visit, photo, serving

from lookalike.sources import load_catalog
from lookalike.sources.kaggle_sets import (
    KAGGLE,
    SourceUnavailableError,
    caltech_rows,
    kaggle_folder,
)

# Where kagglehub looks for Kaggle under KAGGLE_API_ENVIRONMENT=TEST.
URL = f"http://localhost:{(PORT := 7777)}"


class Answer(Visit):
    """What Kaggle answers to its clients, and Colab to kagglehub."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = self.path.rpartition("/")[2]
        self.server.asked[request] += 1
        self.server.tokens.append(self.headers["Authorization"])
        answer = {"currentVersionNumber": 1, "slug": asked.get("dataset"), "username": "someone"}
        status = self.server.refusals.get(request, 200)
        if status != 200:
            answer = {"code": status, "message": "No."}
        elif request == "DownloadDataset":
            return self.give(status=302, Location=f"{URL}/archive.zip")
        self.give(json.dumps(answer).encode(), status, Content_Type="application/json")

    def do_GET(self):
        self.server.asked["file"] += 1
        end, self.server.cut_after = self.server.cut_after, None
        # A charset, or the clients guess one for the zip to print it, which takes seconds.
        kind = "application/zip; charset=latin-1"
        self.head(Content_Length=len(self.server.zip), Content_Type=kind)
        self.wfile.write(self.server.zip[:end])
        self.close_connection = True


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """An environment without accounts, caches, settings or a network of the user's."""
    for name in [name for name in os.environ if "KAGGLE" in name or "PROXY" in name.upper()]:
        monkeypatch.delenv(name)
    own = {"HOME": str(tmp_path), "LOOKALIKE_HOME": str(tmp_path)}
    own |= {"KAGGLEHUB_CACHE": str(tmp_path / "cache"), "KAGGLEHUB_VERBOSITY": "error"}
    own |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    own |= {"NO_PROXY": "localhost,127.0.0.1", "KAGGLE_API_ENVIRONMENT": "TEST"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def kaggle(machine):
    # Another run of these tests may have the port, for the moments of one test.
    lock = FileLock(Path(tempfile.gettempdir(), f"port-{PORT}.lock"))
    with lock, serving({}, PORT, Answer) as server:
        server.zip, server.cut_after, server.refusals, server.tokens = b"", None, {}, []
        yield server


def zipped(members):
    with tempfile.TemporaryDirectory() as folder:
        return write_zip(Path(folder, "archive.zip"), members).read_bytes()


def counted(rows):
    return rows["label"].value_counts().to_dict()


CLASSES = ("watch-101", "t-shirt", "touring-bike", "mountain-bike", "sneaker", "teapot")
COLOURS = [photo("JPEG", Image.new("RGB", (60, 80), (40 * place, 9, 9))) for place in range(6)]
CALTECH = {
    f"256_ObjectCategories/{place:03}.{name}/{place:03}_{number:04}.jpg": COLOURS[place]
    for place, name in enumerate(CLASSES)
    for number in (1, 2)
}
STYLES = """\
id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName
15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt
59263,Women,Accessories,Watches,Watches,Silver,Winter,2016,Casual,Titan Women Silver Watch
30039,Men,Accessories,Watches,Watches,Black,Winter,2016,Casual,Skagen Men Black Watch
"""
FASHION = {"styles.csv": STYLES.encode(), "images/15970.jpg": RED}
FASHION |= {"images/59263.jpg": PNG, "images/30039.jpg": RED, "images/99999.jpg": NOISE}


def test_caltech_is_downloaded_once_and_gives_the_lessons_kinds(kaggle, machine, capsys):
    kaggle.zip = zipped(CALTECH)
    catalog, _ = load_catalog("caltech256")
    assert counted(catalog) == {"watch": 2, "bicycle": 4, "shoe": 2, "t-shirt": 2}
    assert load_catalog("caltech256")[0].equals(catalog)
    assert kaggle.asked["file"] == 1
    assert not any(kaggle.tokens)
    assert "caltech256 is in kagglehub's cache" in capsys.readouterr().out
    (machine / "photos.zip").write_bytes(kaggle.zip)
    assert counted(load_catalog("caltech256", machine / "photos.zip")[0]) == counted(catalog)


def test_fashion_is_downloaded_with_what_its_table_says(kaggle):
    kaggle.zip = zipped(FASHION)
    catalog, rejected = load_catalog("fashion-small")
    rows = catalog.set_index("product_id")
    assert rows["label"].to_dict() == {"15970": "Shirts", "59263": "Watches", "30039": "Watches"}
    told = rows.loc["59263", ["colour", "title"]].to_list()
    assert told == ["Silver", "Titan Women Silver Watch"]
    assert "99999" in rejected["image_id"].item()


NAMES = {
    "001.watch-101/001_0001.jpg": "watch",
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


def test_on_colab_the_set_is_mounted(kaggle, machine, monkeypatch, capsys):
    folder = machine / "kaggle" / "input" / "caltech256"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TBE_RUNTIME_ADDR", URL.removeprefix("http://"))
    monkeypatch.setenv("COLAB_CACHE_MOUNT_FOLDER", str(folder.parent))
    assert kaggle_folder("caltech256") == folder
    assert "caltech256 is mounted" in capsys.readouterr().out
    assert kaggle.asked == {"is_supported": 1, "mount": 1}


def unavailable(source="caltech256"):
    with pytest.raises(SourceUnavailableError) as caught:
        kaggle_folder(source)
    said = str(caught.value)
    assert said.startswith(f"{source} cannot be downloaded: ")
    assert f"Or get https://www.kaggle.com/datasets/{KAGGLE[source]} elsewhere, and give" in said
    assert "'sample', 'folder' and 'zip' need no network" in said
    return said


@pytest.mark.parametrize("source", list(KAGGLE))
def test_offline_the_message_says_what_to_do(monkeypatch, source):
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT")
    assert "Connect to the internet" in unavailable(source)


@pytest.mark.parametrize("request_name", ["GetDataset", "DownloadDataset"])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_a_refusal_is_told_with_its_status_and_a_way_out(kaggle, request_name, status):
    kaggle.refusals[request_name] = status
    said = unavailable()
    assert f"Kaggle says {status}. " in said
    hints = {401: "KAGGLE_API_TOKEN", 403: "Accept its terms"}
    assert hints.get(status, "Try again later.") in said


def test_a_damaged_or_broken_download_is_told_and_can_be_had_again(kaggle, machine):
    whole = zipped(CALTECH)
    for kaggle.zip, kaggle.cut_after in ((b"?" * 999, None), (whole[:-99], None), (whole, 999)):
        unavailable()
    assert len(load_catalog("caltech256")[0]) == 10
