import shutil
import subprocess
import sys
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from lookalike.sources.archives import refuse_address, unpack
from lookalike.workspace import file_hash


def write_zip(path, members):
    """A zip of `members`: name -> bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def contents(folder):
    """Every file below a folder: relative name -> bytes."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def target(tmp_path):
    """The folder that archives are unpacked below."""
    folder = tmp_path / "outer" / "data"
    folder.mkdir(parents=True)
    return folder


def refused(file, target, message):
    """The error names the file, says what to do, and nothing is left behind."""
    with pytest.raises(ValueError, match=message) as caught:
        unpack(file, target)
    assert str(file) in str(caught.value)
    assert list(target.iterdir()) == []


def test_the_files_come_back_below_the_archives_own_name(tmp_path, target, capsys):
    members = {"shoe/1.png": b"one", "shoe/left side/2.png": b"two", "Zoë 照片.png": b"3"}
    file = write_zip(tmp_path / "photos.zip", members)
    folder = unpack(str(file), str(target))
    assert contents(folder) == members
    assert folder == target / f"photos-{file_hash(file)[:12]}"
    assert list(target.iterdir()) == [folder]
    assert "Unpacking: 100%" in capsys.readouterr().out


def test_the_same_archive_is_unpacked_once_and_a_changed_one_beside_it(tmp_path, target):
    file = tmp_path / "photos.zip"
    first = unpack(write_zip(file, {"1.png": b"one"}), target)
    (first / "1.png").write_bytes(b"touched")
    assert unpack(file, target) == first
    second = unpack(write_zip(file, {"1.png": b"changed"}), target)
    assert contents(target) == {
        f"{first.name}/1.png": b"touched",
        f"{second.name}/1.png": b"changed",
    }


# macOS writes UTF-8, and does not say so.
NAMES = [("Zoë/照片.png", "utf-8"), ("Tür.png", "cp437")]


@pytest.mark.parametrize(("name", "encoding"), NAMES)
def test_names_are_those_that_their_writer_saw(tmp_path, target, name, encoding):
    written = name.encode(encoding)
    placeholder = "x" * len(written)
    file = write_zip(tmp_path / "photos.zip", {placeholder: b"1", "folder/": b"", "2.png": b"2"})
    file.write_bytes(file.read_bytes().replace(placeholder.encode(), written))
    assert contents(unpack(file, target)) == {name: b"1", "2.png": b"2"}


SLIPS = ("../evil.jpg", "shoe/../../evil.jpg", "/evil.jpg", "//host/evil.jpg", "..\\evil.jpg")


@pytest.mark.parametrize("name", SLIPS)
def test_nothing_is_written_outside_of_the_folder(tmp_path, target, name):
    folder = unpack(write_zip(tmp_path / "photos.zip", {"good.png": b"1", name: b"evil"}), target)
    assert sorted(contents(folder).values()) == [b"1", b"evil"]
    assert len(contents(tmp_path)) == 3


def test_what_the_disk_cannot_hold_is_refused(tmp_path, target, monkeypatch):
    file = write_zip(tmp_path / "photos.zip", {f"{n}.bmp": bytes(100_000) for n in range(4)})
    for free in (399_999, 400_000):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if free < 400_000:
            refused(file, target, "holds 400,000 bytes; .*data has room for 399,999. Make room")
    assert len(contents(unpack(file, target))) == 4


def encrypted(path):
    """A zip whose member says that it is encrypted, in both of its headers."""
    data = bytearray(write_zip(path, {"secret.jpg": b"secret"}).read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags] |= 1
    return bytes(data)


NO_ARCHIVES = {
    "encrypted": (encrypted, r"secret\.jpg' .*is encrypted.*unpack it yourself"),
    "half a zip": (lambda path: encrypted(path)[:50], "not a zip file.*Download it again"),
    "a web page": (lambda path: b"<!DOCTYPE html>", "not a zip file.*in a browser"),
    "nothing": (lambda path: b"", "not a zip file"),
}


@pytest.mark.parametrize(("make", "message"), NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_what_cannot_be_unpacked_is_refused_with_advice(tmp_path, target, make, message):
    file = tmp_path / "photos.zip"
    file.write_bytes(make(file))
    refused(file, target, message)


def test_what_is_not_there_is_told(tmp_path, target):
    with pytest.raises(FileNotFoundError, match=f"no archive at {tmp_path / 'gone.zip'}"):
        unpack(tmp_path / "gone.zip", target)
    for address in ("https://drive.google.com/file/d/1", "drive.google.com/x", "www.shop.org/a"):
        with pytest.raises(ValueError, match=f"{address} is a web address. Download"):
            refuse_address(address)
    for path in ("photos.zip", "C:/photos", "C:\\photos", "/content/drive/MyDrive/a", "a:b/c", ""):
        assert refuse_address(path) is None


def killed(code, *arguments, after):
    """Run code in another process, kill it `after` seconds from its "ready"; tell if it was."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after)
        process.kill()
    return process.returncode == -9


UNPACK = """
import sys
from lookalike.sources.archives import unpack
print("ready", flush=True)
unpack(*sys.argv[1:])
"""


def test_unpacking_that_is_killed_is_done_by_the_next_run(tmp_path, target):
    noise = np.random.default_rng(0).bytes(400_000)
    members = {f"{number % 7}/{number}.png": noise[number:] for number in range(100)}
    file = write_zip(tmp_path / "photos.zip", members)
    killed(UNPACK, file, target, after=0.05)
    assert [contents(folder) for folder in target.glob("photos-*")] in ([], [members])
    folder = unpack(file, target)
    assert contents(folder) == members
    assert list(target.iterdir()) == [folder]
