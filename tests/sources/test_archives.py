import io
import os
import stat
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest

from conftest import small_disk
from lookalike.sources import archives
from lookalike.sources.archives import refuse_address, unpack
from lookalike.workspace import file_hash


def write_zip(path, members):
    """A zip of `members`: name -> bytes, or (ZipInfo, bytes) pairs."""
    pairs = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in pairs:
            archive.writestr(name, data)
    return path


def write_tar(path, members, mode="w:gz", **of_all):
    """The same as a tar; `of_all` are attributes of every member, such as its `type`."""
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for attribute, value in of_all.items():
                setattr(member, attribute, value)
            archive.addfile(member, io.BytesIO(data))
    return path


def contents(folder):
    """Every file below a folder: relative name -> bytes."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def killed(code, *arguments, after):
    """Run code in another process, kill it `after` seconds from its "ready"; tell if it was."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after)
        process.kill()
    return process.returncode == -9


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
    assert [path.name for path in target.parent.iterdir()] == ["data"]


MEMBERS = {"shoe/1.png": b"one", "shoe/left side/2.png": b"two", "Zoë 照片.png": b"3", "a.txt": b""}


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.tar.gz", "photos.tgz"])
def test_the_files_come_back_below_the_archives_own_name(tmp_path, target, name, capsys):
    mode = "w" if name.endswith("tar") else "w:gz"
    write = write_zip if name.endswith("zip") else lambda *given: write_tar(*given, mode)
    file = write(tmp_path / name, MEMBERS)
    folder = unpack(str(file), str(target))
    assert contents(folder) == MEMBERS
    assert folder == target / f"{file.stem}-{file_hash(file)[:12]}"
    assert list(target.iterdir()) == [folder]
    assert "Unpacking: 4 files" in capsys.readouterr().out


def test_the_same_archive_is_unpacked_once_and_a_changed_one_beside_it(tmp_path, target):
    file = tmp_path / "photos.zip"
    first = unpack(write_zip(file, {"1.png": b"one"}), target / "not" / "yet")
    (first / "1.png").write_bytes(b"touched")
    assert unpack(file, target / "not" / "yet") == first
    assert contents(first) == {"1.png": b"touched"}
    second = unpack(write_zip(file, {"1.png": b"changed"}), target / "not" / "yet")
    assert contents(second) == {"1.png": b"changed"}
    assert sorted((target / "not" / "yet").iterdir()) == sorted([first, second])


NAMES = {
    "UTF-8 without saying so, as macOS": ("Zoë/照片.png".encode(), "Zoë/照片.png"),
    "DOS": ("Tücher/1.png".encode("cp437"), "Tücher/1.png"),
    "backslashes, as Windows": (b"shoe\\left\\1.png", "shoe/left/1.png"),
    "folders of their own": (b"./shoe//1.png", "shoe/1.png"),
}


@pytest.mark.parametrize(("written", "name"), NAMES.values(), ids=NAMES)
def test_names_are_those_that_their_writer_saw(tmp_path, target, written, name):
    placeholder = "x" * len(written)
    file = write_zip(tmp_path / "photos.zip", {placeholder: b"1", "folder/": b"", "2.png": b"2"})
    file.write_bytes(file.read_bytes().replace(placeholder.encode(), written))
    assert contents(unpack(file, target)) == {name: b"1", "2.png": b"2"}


SLIPS = ("../evil.jpg", "shoe/../../evil.jpg", "/evil.jpg", "//host/evil.jpg", "..\\evil.jpg")


@pytest.mark.parametrize("name", SLIPS)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, target, name):
    members = {"good.png": b"good", name: b"evil"}
    refused(write_zip(tmp_path / "photos.zip", members), target, r"evil\.jpg.*outside its folder")
    if "\\" not in name:
        refused(write_tar(tmp_path / "photos.tgz", members), target, r"evil\.jpg.*outside")


def test_no_link_or_special_file_is_made(tmp_path, target):
    link = zipfile.ZipInfo("evil.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    folder = unpack(write_zip(tmp_path / "photos.zip", [(link, b"/etc/passwd")]), target)
    assert not (folder / "evil.jpg").is_symlink()
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        of_all = {"type": kind, "linkname": "/etc/passwd"}
        file = write_tar(tmp_path / "photos.tar", {"a": b""}, "w", **of_all)
        assert list(unpack(file, target).iterdir()) == []


LIMITS = {"MAX_FILES": 4, "MAX_UNZIPPED_BYTES": 400_000, "MAX_MEMBER_BYTES": 100_000}


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", LIMITS)
def test_a_bomb_is_refused(tmp_path, target, monkeypatch, write, name):
    file = write(tmp_path / "photos", {f"{number}.bmp": bytes(100_000) for number in range(4)})
    assert file.stat().st_size < 5_000
    monkeypatch.setattr(archives, name, LIMITS[name] - 1)
    refused(file, target, r"photos grows beyond measure with '\d\.bmp'.*unpack it yourself")
    monkeypatch.setattr(archives, name, LIMITS[name])
    assert len(contents(unpack(file, target))) == 4


def encrypted(path):
    """A zip whose member says that it is encrypted, in both of its headers."""
    data = bytearray(write_zip(path, {"secret.jpg": b"secret"}).read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags] |= 1
    return bytes(data)


def damaged(path):
    data = write_zip(path, {"good.jpg": b"good", "bad.jpg": os.urandom(500)}).read_bytes()
    place = data.index(b"bad.jpg") + 100
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


NOISE = {"1.png": np.random.default_rng(0).bytes(9_000)}
PAGE = b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>"
NO_ARCHIVES = {
    "encrypted": (encrypted, r"secret\.jpg' is encrypted.*unpack it yourself"),
    "damaged": (damaged, r"damaged.*bad\.jpg.*Download it again"),
    "half a zip": (lambda path: write_zip(path, NOISE).read_bytes()[:5000], "zip that broke off"),
    "half a tgz": (lambda path: write_tar(path, NOISE).read_bytes()[:5000], "gzip that broke off"),
    "half a tar": (lambda path: write_tar(path, NOISE, "w").read_bytes()[:5000], "unexpected end"),
    "a web page": (lambda path: PAGE, "a web page, .*Google Drive's warning.*browser"),
    "RAR": (lambda path: b"Rar!\x1a\x07\x00" + bytes(999), "a RAR archive.*unpack it yourself"),
    "7z": (lambda path: b"7z\xbc\xaf\x27\x1c" + bytes(999), "a 7z archive.*unpack it yourself"),
    "xz": (lambda path: b"\xfd7zXZ\0" + bytes(999), "an xz file.*unpack it yourself"),
    "zst": (lambda path: b"\x28\xb5\x2f\xfd" + bytes(999), "a zst file.*unpack it yourself"),
    "a photo": (lambda path: b"\xff\xd8\xff\xe0" + bytes(999), "neither zip nor tar"),
    "nothing": (lambda path: b"", "empty"),
}


@pytest.mark.parametrize(("make", "message"), NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_what_cannot_be_unpacked_is_named_for_what_it_is(tmp_path, target, make, message):
    file = tmp_path / "photos.zip"
    file.write_bytes(make(file))
    refused(file, target, message)


def test_what_is_not_there_is_told(tmp_path, target):
    for path in (tmp_path / "gone.zip", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no archive at {path}"):
            unpack(path, target)
    for address in ("https://drive.google.com/file/d/1", "drive.google.com/x", "www.shop.org/a"):
        with pytest.raises(ValueError, match=f"{address} is a web address. Download"):
            refuse_address(address)
    for path in ("photos.zip", "C:/photos", "C:\\photos", "/content/drive/MyDrive/a", "a:b/c", ""):
        assert refuse_address(path) is None


UNPACK = """
import sys
from lookalike.sources.archives import unpack
print("ready", flush=True)
unpack(*sys.argv[1:])
"""


@pytest.fixture
def many(tmp_path):
    """A zip that takes a while to unpack, and what is in it."""
    noise = np.random.default_rng(0).bytes(400_000)
    members = {f"{number % 7}/{number}.png": noise[number:] for number in range(100)}
    return write_zip(tmp_path / "photos.zip", members), members


@pytest.mark.parametrize("after", [0.02, 0.1])
def test_unpacking_that_is_killed_is_done_by_the_next_run(many, target, after):
    file, members = many
    killed(UNPACK, file, target, after=after)
    visible = [path for path in target.iterdir() if not path.name.startswith(".")]
    assert [contents(folder) for folder in visible] in ([], [members])
    folder = unpack(file, target)
    assert contents(folder) == members
    assert list(target.iterdir()) == [folder]


def test_a_full_disk_is_named_and_left_empty(many, tmp_path):
    with small_disk(tmp_path / "disk", "2m") as disk:
        with pytest.raises(OSError, match=r"No space left on device. If .*disk"):
            unpack(many[0], disk)
        assert list(disk.iterdir()) == []
