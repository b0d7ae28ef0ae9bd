"""The page from the command line, as `make app` opens it."""

import re
import socket
import subprocess
import sys

import pytest
import requests

from conftest import write_photo
from lookalike.page.app import main


def command(*arguments):
    return [sys.executable, "-m", "lookalike.page", "--backbone", "VGG16Slim", *map(str, arguments)]


LABELS = [
    pytest.param(("cup", "plate"), id="by label"),
    pytest.param(("",), id="flat", marks=pytest.mark.soak),
]


def refused(monkeypatch, *arguments):
    """What the command ends with."""
    monkeypatch.setattr(sys, "argv", command(*arguments)[2:])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code  # a text, which Python writes to stderr, and exits with 1


@pytest.mark.parametrize("labels", LABELS)
def test_a_folder_becomes_a_page_for_this_machine_alone(tmp_path, labels):
    for number in range(8):
        write_photo(tmp_path / "photos" / labels[number % len(labels)] / f"{number}.png", number)
    arguments = command("--path", tmp_path / "photos", "--root", tmp_path / "home")
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            address = next(
                found[0] for line in process.stdout if (found := re.search(r"http://[^\s;]+", line))
            )
            answer = requests.get(address, timeout=30)
        finally:
            process.kill()
    assert address.startswith("http://127.0.0.1:")
    assert "8 photos of 8 products" in answer.text
    assert str(tmp_path) not in answer.text
    assert [
        folder.name.endswith("-VGG16Slim-gem")
        for folder in (tmp_path / "home" / "embeddings").glob("[!.]*")
    ] == [True]


def test_what_is_not_there_is_told_in_a_line(monkeypatch):
    assert (
        refused(monkeypatch, "--path", "/nowhere/photos")
        == "No folder and no archive at /nowhere/photos."
    )


def test_a_port_that_is_taken_is_told_in_a_line(tmp_path, monkeypatch):
    write_photo(tmp_path / "photos" / "0.png", 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        told = refused(
            monkeypatch, "--path", tmp_path / "photos", "--root", tmp_path, "--port", port
        )
    assert f"{port}-{port}" in told
