"""The page of a folder, from the command line, as `make app` opens it."""

import re
import socket
import subprocess
import sys

import pytest
import requests

from conftest import write_photo
from lookalike.catalog import catalog_folder, save_catalog
from lookalike.page.command import main, open_services
from lookalike.sources import load_catalog
from lookalike.workspace import open_workspace


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


def test_the_photos_are_those_of_01_and_what_is_gone_is_told(tmp_path, given, capsys):
    folder, work = tmp_path / "photos", open_workspace(tmp_path)
    for number in range(4):
        write_photo(folder / "cup" / f"{number}.png", number)
    catalog, _ = load_catalog("folder", folder, workspace=work)
    file = catalog_folder("folder", folder, workspace=work) / "catalog.csv"
    file.parent.mkdir(parents=True)
    save_catalog(catalog.assign(split="train"), file)
    write_photo(folder / "cup" / "new.png", 9)
    (service,) = open_services("folder", folder, "VGG16Slim", "auto")
    assert [*service.catalog["image_id"]] == [*catalog["image_id"]]
    assert "4 photos, as 01_data.ipynb found them; run it again" in capsys.readouterr().out
    (folder / "cup" / "1.png").unlink()
    given("--path", folder)
    with pytest.raises(SystemExit, match=r"1 photos are gone, such as cup/1\.png\. Run 01"):
        main()


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
