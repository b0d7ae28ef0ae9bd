"""The page of a folder as it is now, from the command line, as `make app` opens it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
import requests

from conftest import write_photo
from lookalike.catalog import catalog_folder, save_catalog
from lookalike.page.command import current_catalog, main
from lookalike.sources import load_catalog
from lookalike.splits import split_by_product
from lookalike.workspace import open_workspace


@pytest.fixture
def photos(tmp_path):
    """A folder of ten photos, five products in two views, as 01 has read it some time ago."""
    for number in range(10):
        name = f"{'ab'[number // 2 % 2]}/{number // 2}-{number % 2}.png"
        write_photo(tmp_path / "photos" / name, number)
    work = open_workspace(tmp_path / "home")
    catalog, _ = load_catalog("folder", tmp_path / "photos", workspace=work)
    catalog = split_by_product(catalog, fractions=(0.4, 0.3, 0.3))
    file = catalog_folder("folder", tmp_path / "photos", workspace=work) / "catalog.csv"
    file.parent.mkdir(parents=True)
    save_catalog(catalog, file)
    # The clock of the file system is coarse.
    time.sleep(0.05)
    return tmp_path / "photos", work, catalog.set_index("image_id"), file


def today(folder, work):
    return current_catalog("folder", folder, workspace=work).set_index("image_id")


def test_an_unchanged_folder_is_its_catalogue_also_if_it_has_moved(photos, capsys):
    folder, work, known, _ = photos
    moved = shutil.move(folder, folder.with_name("moved"))
    now = today(moved, work)
    assert "Since" not in capsys.readouterr().out
    for column in ("split", "sha256", "label", "product_id"):
        assert now[column].to_dict() == known[column].to_dict()
    assert all(map(os.path.exists, now["path"]))


def test_photos_that_came_or_went_are_seen_and_splits_stay(photos, capsys):
    folder, work, known, _ = photos
    for number in range(5):
        write_photo(folder / "a" / f"new-{number}.png", 100 + number)
    (folder / "b" / "1-0.png").unlink()
    now = today(folder, work)
    assert "Since 01_data.ipynb ran: 5 photos came, 1 are gone." in capsys.readouterr().out
    came = {f"a/new-{number}.png" for number in range(5)}
    assert {*now.index} == {*known.index} - {"b/1-0.png"} | came
    stayed = known.index.intersection(now.index)
    assert now["split"][stayed].to_dict() == known["split"][stayed].to_dict()
    assert now["split"][[*came]].isna().all()


def test_what_cannot_be_read_and_what_01_left_out_stay_out(photos):
    folder, work, known, file = photos
    (folder / "a" / "broken.png").write_bytes(b"no photo")
    write_photo(folder / "c" / "old.png", 70)
    # As if 01 had run now, and been asked for other labels.
    late = time.time() + 1
    os.utime(file, (late, late))
    assert {*today(folder, work).index} == {*known.index}
    os.utime(file, (1, 1))
    assert {*today(folder, work).index} == {*known.index, "c/old.png"}
    (folder / "c" / "old.png").unlink()
    assert {*today(folder, work).index} == {*known.index}


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A root of its own, and what gives the command its arguments."""
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))

    def give(*arguments):
        arguments = ["-m", "--backbone", "VGG16Slim", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", arguments)
        return arguments[1:]

    return give


def test_a_folder_becomes_a_page_for_this_machine_alone(tmp_path, given):
    for number in range(8):
        write_photo(tmp_path / "photos" / ("cup", "plate")[number % 2] / f"{number}.png", number)
    command = [sys.executable, "-um", "lookalike.page", *given("--path", tmp_path / "photos")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            addresses = (re.search(r"http://[^\s;]+", line) for line in process.stdout)
            address = next(found[0] for found in addresses if found)
            config = requests.get(f"{address}/config", timeout=30).text
        finally:
            process.kill()
    assert address.startswith("http://127.0.0.1:")
    assert "8 photos of 8 products" in config
    assert str(tmp_path / "photos") not in config


def test_what_is_not_there_is_told_in_a_line(given):
    given("--path", "/no")
    with pytest.raises(SystemExit, match="No folder and no archive at /no"):
        main()


def test_a_port_that_is_taken_is_told_in_a_line(tmp_path, given):
    write_photo(tmp_path / "photos" / "a" / "0.png", 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        given("--path", tmp_path / "photos", "--port", port)
        with pytest.raises(SystemExit, match=f"{port}-{port}"):
            main()
