"""Where things live, on a laptop and on Colab, and how files are written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROJECT, write_colab
from lookalike import workspace
from lookalike.catalog import catalog_name
from lookalike.workspace import Workspace, choose_source, open_workspace, plain_path, written_aside


def test_the_root_is_a_parameter_an_environment_variable_or_the_project(tmp_path, monkeypatch):
    monkeypatch.delenv("LOOKALIKE_HOME", raising=False)
    assert open_workspace().root == PROJECT
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    assert open_workspace().root == open_workspace("  ").root == tmp_path
    home = open_workspace(f"'{tmp_path}/results/'")
    assert sorted(home.root.iterdir()) == [home.data, home.embeddings, home.models]
    with pytest.raises(FileNotFoundError, match=r"missing/lookalike\. .* mount Drive"):
        open_workspace(tmp_path / "missing" / "lookalike")


@pytest.mark.parametrize("written", ["{}", " {} ", "{}//", "'{}'", ' "{}" ', "{}\n"])
@pytest.mark.parametrize("there", ["zip", "folder", ""])
def test_a_path_means_what_its_writer_meant(written, there, tmp_path):
    meant, home = tmp_path / 'John\'s "best" photos', Workspace(tmp_path)
    {"zip": meant.touch, "folder": meant.mkdir}.get(there, dict)()
    path = written.format(meant)
    assert Path(plain_path(path)) == meant
    assert choose_source("auto", path).value == (there or "folder")
    assert catalog_name("zip", path, workspace=home) == catalog_name("zip", meant, workspace=home)


def test_home_and_drive_are_as_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on_disk = {
        " '~/photos' ": f"{Path.home()}/photos",
        "  ": "",
        "My Drive/photos": "/content/drive/MyDrive/photos",
        "/content/drive/My Drive/My Drive": "/content/drive/MyDrive/My Drive",
        "'Shared drives/Team 1/a.zip'": "/content/drive/Shareddrives/Team 1/a.zip",
        "/content/drive/Other computers/My Laptop": "/content/drive/Othercomputers/My Laptop",
        "my My Drive/photos": "my My Drive/photos",
    }
    assert {path: plain_path(path) for path in on_disk} == on_disk
    # As Google's program names it on a laptop.
    os.makedirs("My Drive/photos")
    assert plain_path("My Drive/photos") == "My Drive/photos"


def test_written_aside_appears_whole_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "file.txt"
    with written_aside(file) as aside:
        aside.write_text("first")
        assert not file.exists()
    with pytest.raises(ZeroDivisionError), written_aside(file) as aside:
        1 / aside.write_text("")
    assert workspace.file_hash(file).startswith("a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b")
    # As a process leaves it that is killed.
    aside.write_text("half")
    with written_aside(file) as aside:
        aside.write_text("second")
    assert os.listdir(file.parent) == ["file.txt"]
    assert file.read_text() == "second"


def test_photos_are_unpacked_below_the_root_but_never_on_a_drive(tmp_path):
    for root in (tmp_path / "MyDrive", tmp_path / "My Drive/a/b", tmp_path / "Shareddrives/x"):
        assert Workspace(root).data == root / "data"
        assert not Workspace(root).downloads.is_relative_to(tmp_path)
    assert Workspace(tmp_path / "MyDrives").downloads == tmp_path / "MyDrives" / "data"


ON_COLAB = """
from lookalike.machine import describe_machine
from lookalike.workspace import choose_source, mount_drive
mount_drive("MyDrive/photos.zip")
print(choose_source("auto"))
import google.colab
mount_drive("", "photos", "/content/drive/photos", "/content/MyDrives/x", "my MyDrive")
mount_drive("", "My Drive", "drive/Shared drives/x", "/content/drive/MyDrive/a/MyDrive/b.zip")
print(choose_source("auto"), choose_source("auto", ".").value, sep="\\n")
print(describe_machine()[:7])
"""


def test_on_colab_alone_drive_is_mounted_and_photos_come_from_kaggle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{write_colab(tmp_path / 'standin')}:{PROJECT / 'src'}")
    told = subprocess.check_output([sys.executable, "-c", ON_COLAB], text=True).splitlines()
    assert told.pop(0) == "source = sample: bundled with the project, needs no network"
    assert told[:3] == [f"Mounted at {at}" for at in ("/content/drive", "drive", "/content/drive")]
    assert told[3] == "source = caltech256: photographs from Kaggle, as this is Colab"
    assert told[4:] == ["folder", "Colab, "]
