import os
import stat
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from lookalike import folders
from lookalike.folders import unzip
from lookalike.workspace import Workspace, file_hash


def photo_bytes(folder, colour):
    path = folder / "photo.png"
    Image.new("RGB", (8, 8), colour).save(path)
    return path.read_bytes()


def write_zip(path, members):
    """A zip of `members`: name -> bytes, or (ZipInfo, bytes) pairs where the name alone does not say enough."""
    pairs = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in pairs:
            archive.writestr(name, data)
    return path


def mark_as_encrypted(path, name):
    """Set the flag of encryption in the local and in the central header of one member."""
    data = bytearray(path.read_bytes())
    for signature, flags_at, name_at in ((b"PK\3\4", 6, 30), (b"PK\1\2", 8, 46)):
        start = data.find(signature)
        while data[start + name_at : start + name_at + len(name)] != name.encode():
            start = data.index(signature, start + 1)
        (flags,) = struct.unpack_from("<H", data, start + flags_at)
        struct.pack_into("<H", data, start + flags_at, flags | 0x1)
    path.write_bytes(data)


def contents(folder):
    """Every file below a folder: relative name -> bytes."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def target(tmp_path):
    """The folder that archives are unpacked below, with a neighbour that none may touch."""
    folder = tmp_path / "outer" / "data"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def workspace(tmp_path):
    root = tmp_path / "home"
    (root / "data").mkdir(parents=True)
    return Workspace(root)


# --- Unpacking ---------------------------------------------------------------------------------------------------


def test_unzip_gives_the_files_back(tmp_path, target):
    members = {
        "shoe/1.png": photo_bytes(tmp_path, "red"),
        "shoe/left side/2.png": photo_bytes(tmp_path, "blue"),
        "Zoë 照片.png": photo_bytes(tmp_path, "green"),
        "notes.txt": b"",
    }
    file = write_zip(tmp_path / "photos.zip", members)
    folder = unzip(file, target)
    assert contents(folder) == members
    assert folder.parent == target
    assert folder.name == f"photos-{file_hash(file)[:12]}"
    assert list(target.iterdir()) == [folder]


def test_the_folder_to_unpack_below_is_made(tmp_path):
    file = write_zip(tmp_path / "photos.zip", {"1.png": b"one"})
    assert contents(unzip(str(file), str(tmp_path / "not" / "yet"))) == {"1.png": b"one"}


def test_the_same_zip_is_unpacked_once(tmp_path, target):
    file = write_zip(tmp_path / "photos.zip", {"1.png": b"one", "2.png": b"two"})
    folder = unzip(file, target)
    (folder / "1.png").write_bytes(b"touched")
    assert unzip(file, target) == folder
    assert contents(folder) == {"1.png": b"touched", "2.png": b"two"}
    assert list(target.iterdir()) == [folder]


def test_a_changed_zip_gets_a_folder_of_its_own(tmp_path, target):
    file = tmp_path / "photos.zip"
    first = unzip(write_zip(file, {"1.png": b"one"}), target)
    second = unzip(write_zip(file, {"1.png": b"changed"}), target)
    assert first != second
    assert contents(first) == {"1.png": b"one"}
    assert contents(second) == {"1.png": b"changed"}


def test_what_a_killed_run_left_behind_does_not_matter(tmp_path, target):
    """On a recycled machine the next process may even have the same number."""
    file = write_zip(tmp_path / "photos.zip", {"1.png": b"one"})
    left = target / f".photos-{file_hash(file)[:12]}.{os.getpid()}.partial"
    left.mkdir()
    (left / "old.png").write_bytes(b"half a ph")
    assert contents(unzip(file, target)) == {"1.png": b"one"}


def symlink_member(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


UNSAFE_NAMES = [
    "../evil.jpg",
    "shoe/../../evil.jpg",
    "/evil.jpg",
    "//host/evil.jpg",
    "C:\\evil.jpg",
    "C:/evil.jpg",
    "..\\evil.jpg",
    "\\evil.jpg",
]


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, target, name):
    file = write_zip(tmp_path / "photos.zip", {"good.png": b"good", name: b"evil"})
    with pytest.raises(ValueError, match=r"evil\.jpg.*outside its folder") as caught:
        unzip(file, target)
    assert repr(name) in str(caught.value)
    assert str(file) in str(caught.value)
    assert contents(tmp_path) == {"photos.zip": file.read_bytes()}
    assert list(target.iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path, target):
    file = write_zip(tmp_path / "photos.zip", [("good.png", b"good"), (symlink_member("evil.jpg"), b"/etc/passwd")])
    with pytest.raises(ValueError, match=r"'evil\.jpg' is a link"):
        unzip(file, target)
    assert list(target.iterdir()) == []


def test_an_encrypted_member_is_refused(tmp_path, target):
    file = write_zip(tmp_path / "photos.zip", {"good.png": b"good", "secret.jpg": b"secret"})
    mark_as_encrypted(file, "secret.jpg")
    with zipfile.ZipFile(file) as archive:
        assert [member.flag_bits & 0x1 for member in archive.infolist()] == [0, 1]
    with pytest.raises(ValueError, match=r"'secret\.jpg' is encrypted"):
        unzip(file, target)
    assert list(target.iterdir()) == []


def test_a_member_that_grows_beyond_measure_is_refused(tmp_path, target):
    file = write_zip(tmp_path / "photos.zip", {"good.png": b"good", "bomb.bmp": bytes(200_000_000)})
    assert file.stat().st_size < 500_000
    with pytest.raises(ValueError, match=r"'bomb\.bmp'.*200,000,000.*bomb"):
        unzip(file, target)
    assert list(target.iterdir()) == []


def test_a_small_flat_picture_is_no_bomb(tmp_path, target):
    """A white logo, uncompressed, shrinks a lot and harms nobody."""
    file = write_zip(tmp_path / "photos.zip", {"logo.bmp": bytes(5_000_000)})
    assert contents(unzip(file, target)) == {"logo.bmp": bytes(5_000_000)}


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path, target, monkeypatch):
    noise = np.random.default_rng(0).bytes(1_000)
    file = write_zip(tmp_path / "photos.zip", {f"{i}.jpg": noise for i in range(4)})
    monkeypatch.setattr(folders, "MAX_UNZIPPED_BYTES", 3_999)
    with pytest.raises(ValueError, match=r"photos\.zip.*3,999"):
        unzip(file, target)
    assert list(target.iterdir()) == []
    monkeypatch.setattr(folders, "MAX_UNZIPPED_BYTES", 4_000)
    assert len(contents(unzip(file, target))) == 4


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_refused_and_leaves_nothing(tmp_path, target, method):
    file = tmp_path / "photos.zip"
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("good.jpg", b"good" * 10)
        archive.writestr("damaged.jpg", b"these are the pixels" * 10)
        start = archive.getinfo("damaged.jpg").header_offset + 30 + len("damaged.jpg")
    data = bytearray(file.read_bytes())
    data[start : start + 10] = b"\xff" * 10
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged\.jpg") as caught:
        unzip(file, target)
    assert str(file) in str(caught.value)
    assert list(target.iterdir()) == []


def test_a_member_without_a_name_is_refused(tmp_path, target):
    file = write_zip(tmp_path / "photos.zip", {"good.png": b"good", ".": b"nameless"})
    with pytest.raises(ValueError, match=r"photos\.zip.*'\.'"):
        unzip(file, target)
    assert list(target.iterdir()) == []


def test_what_is_no_zip_is_refused(tmp_path, target):
    (tmp_path / "photos.zip").write_bytes(b"Rar!\x1a\x07\x00 this is something else")
    with pytest.raises(ValueError, match=r"No zip file at .*photos\.zip"):
        unzip(tmp_path / "photos.zip", target)
    whole = write_zip(tmp_path / "cut.zip", {"1.png": bytes(1_000)}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"No zip file at .*cut\.zip"):
        unzip(tmp_path / "cut.zip", target)
    with pytest.raises(ValueError, match="No zip file"):
        unzip(tmp_path, target)
    with pytest.raises(FileNotFoundError, match=r"No zip file at .*gone\.zip"):
        unzip(tmp_path / "gone.zip", target)
    assert list(target.iterdir()) == []


def test_names_with_colons_and_backslashes_are_unpacked(tmp_path, target):
    members = {"shoes: new/2.png": b"two", "2020-01-01 12:30.png": b"time", "shoe\\1.png": b"one"}
    unpacked = contents(unzip(write_zip(tmp_path / "photos.zip", members), target))
    assert unpacked == {"shoes: new/2.png": b"two", "2020-01-01 12:30.png": b"time", "shoe/1.png": b"one"}


def test_a_name_too_long_for_the_disk_is_told(tmp_path, target):
    with pytest.raises(ValueError, match="cannot be written"):
        unzip(write_zip(tmp_path / "photos.zip", {"x" * 300 + ".png": b"x"}), target)
