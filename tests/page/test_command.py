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
from lookalike.copies import SIDE_ARRAYS
from lookalike.page.command import current_catalog, current_store, main
from lookalike.sources import load_catalog
from lookalike.workspace import open_workspace


def command(*arguments):
    return [sys.executable, "-m", "lookalike.page", "--backbone", "VGG16Slim", *map(str, arguments)]


def refused(monkeypatch, *arguments):
    """The text that the command ends with."""
    monkeypatch.setattr(sys, "argv", command(*arguments)[2:])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.fixture
def photos(tmp_path):
    """A folder of ten photos, five products in two views, as 01 has read it some time ago."""
    for number in range(10):
        name = f"{'ab'[number // 2 % 2]}/{number // 2}-{number % 2}.png"
        write_photo(tmp_path / "photos" / name, number)
    work = open_workspace(tmp_path / "home")
    catalog, _ = load_catalog("folder", tmp_path / "photos", workspace=work)
    sides = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    catalog["split"] = catalog["product_id"].map(
        dict(zip(sorted(catalog["product_id"]), sides, strict=True))
    )
    file = catalog_folder("folder", tmp_path / "photos", workspace=work) / "catalog.csv"
    file.parent.mkdir(parents=True)
    save_catalog(catalog, file)
    # The clock of the file system is coarse.
    time.sleep(0.05)
    return tmp_path / "photos", work, catalog.set_index("image_id")


def test_an_unchanged_folder_is_its_catalogue(photos, capsys):
    folder, work, known = photos
    capsys.readouterr()
    now = current_catalog("folder", folder, workspace=work).set_index("image_id")
    assert "Since" not in capsys.readouterr().out
    for column in ("path", "split", "sha256", "label", "product_id"):
        assert now[column].to_dict() == known[column].to_dict()


def test_photos_that_came_changed_or_went_are_seen_and_splits_stay(photos, capsys):
    folder, work, known = photos
    for number in range(5):
        write_photo(folder / "a" / f"new-{number}.png", 100 + number)
    (folder / "b" / "1-0.png").unlink()
    write_photo(folder / "a" / "0-0.png", 50, size=44)
    capsys.readouterr()
    now = current_catalog("folder", folder, workspace=work).set_index("image_id")
    told = "Since 01_data.ipynb ran: 6 photos added or changed, 1 gone."
    assert told in capsys.readouterr().out
    assert len(now) == 14
    assert "b/1-0.png" not in now.index
    assert now["sha256"]["a/0-0.png"] != known["sha256"]["a/0-0.png"]
    stayed = known.index.intersection(now.index)
    assert now["split"][stayed].to_dict() == known["split"][stayed].to_dict()


def test_only_what_has_another_size_or_time_is_read(photos):
    folder, work, known = photos
    file = folder / "a" / "0-0.png"
    facts = file.stat()
    file.write_bytes(bytes(facts.st_size))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    now = current_catalog("folder", folder, workspace=work).set_index("image_id")
    assert now["sha256"].to_dict() == known["sha256"].to_dict()


def test_what_cannot_be_read_and_what_01_left_out_stay_out(photos):
    folder, work, known = photos
    (folder / "a" / "broken.png").write_bytes(b"no photo")
    old = folder / "c" / "old.png"
    write_photo(old, 70)
    file = catalog_folder("folder", folder, workspace=work) / "catalog.csv"
    # As if 01 had run now, and been asked for other labels.
    late = time.time() + 1
    os.utime(file, (late, late))
    assert {*current_catalog("folder", folder, workspace=work)["image_id"]} == {*known.index}
    os.utime(file, (1, 1))
    now = current_catalog("folder", folder, workspace=work)
    assert {*now["image_id"]} - {*known.index} == {"c/old.png"}
    old.unlink()
    assert {*current_catalog("folder", folder, workspace=work)["image_id"]} == {*known.index}


def test_a_folder_that_moved_keeps_its_catalogue(photos):
    folder, work, known = photos
    moved = shutil.move(folder, folder.with_name("moved"))
    now = current_catalog("folder", moved, workspace=work).set_index("image_id")
    assert now["split"].to_dict() == known["split"].to_dict()
    assert all(map(os.path.exists, now["path"]))


def test_a_store_is_written_only_if_something_changed(photos, encoder):
    folder, work, _ = photos
    place = work.embeddings / "store"
    catalog = current_catalog("folder", folder, workspace=work)
    current_store(encoder, catalog, place, SIDE_ARRAYS)
    written = place.stat().st_ino
    assert current_store(encoder, catalog, place, SIDE_ARRAYS).side_arrays.keys() == {
        "colours",
        "hashes",
    }
    assert place.stat().st_ino == written
    (folder / "b" / "1-0.png").unlink()
    catalog = current_catalog("folder", folder, workspace=work)
    assert len(current_store(encoder, catalog, place, SIDE_ARRAYS).catalog) == 9


def test_a_folder_becomes_a_page_for_this_machine_alone(tmp_path):
    for number in range(8):
        write_photo(tmp_path / "photos" / ("cup", "plate")[number % 2] / f"{number}.png", number)
    arguments = command("--path", tmp_path / "photos", "--root", tmp_path / "home")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(arguments, **pipes) as process:
        try:
            addresses = (re.search(r"http://[^\s;]+", line) for line in process.stdout)
            address = next(found[0] for found in addresses if found)
            config = requests.get(f"{address}config", timeout=30).text
        finally:
            process.kill()
    assert address.startswith("http://127.0.0.1:")
    assert "8 photos of 8 products" in config
    assert str(tmp_path / "home") not in config


def test_what_is_not_there_is_told_in_a_line(monkeypatch):
    assert refused(monkeypatch, "--path", "/no").startswith("No folder and no archive at /no")


def test_a_port_that_is_taken_is_told_in_a_line(tmp_path, monkeypatch):
    write_photo(tmp_path / "photos" / "0.png", 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asked = ["--path", tmp_path / "photos", "--root", tmp_path, "--port", port]
        told = refused(monkeypatch, *asked)
    assert f"{port}-{port}" in told
