import bz2
import os
import random
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import PROJECT, closable, peak_of, small_disk
from lookalike.sources import layouts, load_catalog
from lookalike.sources.layouts import unzip
from lookalike.workspace import Workspace, file_hash

# Modules of the package in a process of their own, without TensorFlow: they do not need it, and it
# takes seconds.
LIGHT = f"""
import sys, types
package = sys.modules["lookalike"] = types.ModuleType("lookalike")
package.__path__ = [{str(PROJECT / "src" / "lookalike")!r}]
sys.modules["tensorflow"] = types.ModuleType("tensorflow")
"""


def photo_bytes(folder, colour):
    path = folder / "photo.png"
    Image.new("RGB", (8, 8), colour).save(path)
    return path.read_bytes()


def write_zip(path, members):
    """A zip of `members`: name -> bytes, or (ZipInfo, bytes) pairs where the name alone does not
    say enough.
    """
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
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def killed(code, *arguments, after, **options):
    """Run code in another process and end it with SIGKILL `after` seconds from its "ready"; tell
    whether it was.
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, **options)
        with process.stdout:
            said = process.stdout.readline()
            time.sleep(after)
            process.kill()
            process.stdout.read()
        errors.seek(0)
        assert said == b"ready\n", errors.read().decode()
        assert process.wait() in (0, -9), errors.read().decode()
    return process.returncode == -9


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


# --- Unpacking
# ---------------------------------------------------------------------------------------------------


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


def test_what_a_killed_run_left_behind_is_taken_away_and_what_a_living_one_writes_is_not(
    tmp_path, target
):
    """On a recycled machine the next process may even have the number of the killed one."""
    file = write_zip(tmp_path / "photos.zip", {"1.png": b"one"})
    name = f".photos-{file_hash(file)[:12]}"
    for number in (os.getpid(), 2**22 + 1, os.getppid()):  # ours, nobody's, a living one's
        (target / f"{name}.{number}.partial").mkdir()
        (target / f"{name}.{number}.partial" / "old.png").write_bytes(b"half a ph")
    folder = unzip(file, target)
    assert contents(folder) == {"1.png": b"one"}
    assert sorted(target.iterdir()) == sorted([folder, target / f"{name}.{os.getppid()}.partial"])


def special_member(name, kind):
    """As written on Unix; what system an archive claims to be from does not matter."""
    member = zipfile.ZipInfo(name)
    member.external_attr, member.create_system = (kind | 0o777) << 16, 0
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


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFDIR]
)
def test_a_link_or_a_device_in_a_zip_is_refused(tmp_path, target, kind):
    members = [("good.png", b"good"), (special_member("evil.jpg", kind), b"/etc/passwd")]
    with pytest.raises(ValueError, match=r"'evil\.jpg' is a link or another special file"):
        unzip(write_zip(tmp_path / "photos.zip", members), target)
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
    monkeypatch.setattr(layouts, "MAX_UNZIPPED_BYTES", 3_999)
    with pytest.raises(ValueError, match=r"photos\.zip.*3,999"):
        unzip(file, target)
    assert list(target.iterdir()) == []
    monkeypatch.setattr(layouts, "MAX_UNZIPPED_BYTES", 4_000)
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


@pytest.mark.parametrize("name", [".", "", "\0evil.png"])
def test_a_member_without_a_name_is_refused(tmp_path, target, name):
    file = write_zip(tmp_path / "photos.zip", [("good.png", b"good"), (renamed(name), b"nameless")])
    with pytest.raises(ValueError, match=r"photos\.zip: '\.?' would be written outside"):
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
    assert unpacked == {
        "shoes: new/2.png": b"two",
        "2020-01-01 12:30.png": b"time",
        "shoe/1.png": b"one",
    }


def test_a_name_too_long_for_the_disk_is_told(tmp_path, target):
    with pytest.raises(OSError, match="cannot be written") as caught:
        unzip(write_zip(tmp_path / "photos.zip", {"x" * 300 + ".png": b"x"}), target)
    assert str(target) in str(caught.value)
    assert list(target.iterdir()) == []


def test_a_name_too_deep_is_refused(tmp_path, target):
    assert (
        len(
            contents(unzip(write_zip(tmp_path / "photos.zip", {"a/" * 49 + "1.png": b"x"}), target))
        )
        == 1
    )
    file = write_zip(tmp_path / "deep.zip", {"good.png": b"good", "a/" * 3000 + "1.png": b"x"})
    with pytest.raises(ValueError, match="more than 50 folders deep"):
        unzip(file, target)
    assert len(list(target.iterdir())) == 1


CLASHES = {
    "the same name": ["1.png", "1.png"],
    "the same name, written otherwise": ["a/1.png", "./a//1.png"],
    "a file, then a folder": ["a", "a/b"],
    "a folder, then a file": ["a/b", "a"],
    "one name in two ways of writing folders": ["a/1.png", "a\\1.png"],
    "a name that ends at a zero byte": ["1.png", "1.png\0.exe"],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", CLASHES.values(), ids=CLASHES)
def test_of_two_members_none_is_lost_to_the_other(tmp_path, target, names):
    file = write_zip(tmp_path / "photos.zip", [(renamed(name), name.encode()) for name in names])
    with pytest.raises(
        ValueError, match=r"photos\.zip holds '.*' twice, or as a file and a folder"
    ):
        unzip(file, target)
    assert list(target.iterdir()) == []


def renamed(name, flags=0x800):
    """A member with exactly this name in its headers, whatever `zipfile` makes of it; `bytes` come
    without a flag.
    """

    class Member(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            return (name, 0) if isinstance(name, bytes) else (name.encode(), flags)

    return Member("x")


@pytest.mark.parametrize("other", ["SHOE/1.png", "sho\u0065\u0301/1.png"])
def test_names_that_differ_in_case_or_accents_are_both_kept_or_refused_by_name(
    tmp_path, target, other
):
    """As the disk has it: here they are two files, elsewhere one, and then neither may replace the
    other.
    """
    members = {"shoe/1.png": b"one", "sho\u00e9/1.png": b"two", other: b"three"}
    try:
        assert contents(unzip(write_zip(tmp_path / "photos.zip", members), target)) == members
    except ValueError as error:
        assert "twice" in str(error)
        assert list(target.iterdir()) == []


NAMES = {
    "UTF-8 without the flag, as macOS writes it": ("Zoë/照片.png".encode(), "Zoë/照片.png"),
    "DOS": ("Tücher/1.png".encode("cp437"), "Tücher/1.png"),
    "Shift-JIS, of which nothing tells": ("シャツ/1.png".encode("shift_jis"), None),
    "GBK, of which nothing tells": ("衬衫/1.png".encode("gbk"), None),
}


@pytest.mark.parametrize(("written", "name"), NAMES.values(), ids=NAMES)
def test_a_name_in_another_encoding_is_one_file(tmp_path, target, written, name):
    file = write_zip(tmp_path / "photos.zip", [(renamed(written), b"one"), ("2.png", b"two")])
    unpacked = contents(unzip(file, target))
    assert unpacked == {name or written.decode("cp437"): b"one", "2.png": b"two"}


def test_half_a_letter_that_looks_like_a_backslash_makes_no_folder(tmp_path, target):
    written = "ソックス/1.png".encode("shift_jis")
    assert b"\\" in written
    with pytest.raises(
        ValueError, match=r"photos\.zip.*alphabet that the zip does not tell; unpack it yourself"
    ):
        unzip(write_zip(tmp_path / "photos.zip", [(renamed(written), b"one")]), target)
    assert list(target.iterdir()) == []


def test_a_second_name_in_an_extra_field_leads_nowhere_else(tmp_path, target):
    """Some readers take the name from there, this one in Python 3.12 and later."""
    evil = b"../../evil.png"
    field = struct.pack("<HHBL", 0x7075, 5 + len(evil), 1, zlib.crc32(b"good.png")) + evil
    member = zipfile.ZipInfo("good.png")
    member.extra = field
    file = write_zip(tmp_path / "photos.zip", [(member, b"good")])
    try:
        assert contents(unzip(file, target)) == {"good.png": b"good"}
    except ValueError as error:
        assert "outside its folder" in str(error)
    assert {path.name for path in tmp_path.rglob("*.png")} <= {"good.png"}


def test_a_zip_in_a_zip_is_set_aside_by_name_and_not_unpacked(tmp_path, workspace):
    inner = write_zip(tmp_path / "inner.zip", {"hidden.png": photo_bytes(tmp_path, "blue")})
    members = {"shoe/1.png": photo_bytes(tmp_path, "red"), "shoe/inner.zip": inner.read_bytes()}
    catalog, rejected = load_catalog(
        "zip", write_zip(tmp_path / "photos.zip", members), workspace=workspace
    )
    assert catalog["image_id"].tolist() == ["shoe/1.png"]
    assert rejected["image_id"].tolist() == ["shoe/inner.zip"]
    assert not list(workspace.root.rglob("hidden.png"))


def test_an_empty_zip_is_told(tmp_path, workspace):
    with pytest.raises(ValueError, match="No files in"):
        load_catalog("zip", write_zip(tmp_path / "photos.zip", {}), workspace=workspace)


def test_a_zip_in_the_form_for_large_ones_is_unpacked(tmp_path, target):
    with (
        zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive,
        archive.open("1.png", "w", force_zip64=True) as one,
    ):
        one.write(b"one")
    assert contents(unzip(tmp_path / "photos.zip", target)) == {"1.png": b"one"}


def test_too_many_files_are_refused(tmp_path, target, monkeypatch):
    file = write_zip(tmp_path / "photos.zip", {f"{number}.png": b"" for number in range(11)})
    monkeypatch.setattr(layouts, "MAX_FILES", 10)
    with pytest.raises(ValueError, match=r"photos\.zip unpacks to more than 10 files"):
        unzip(file, target)
    assert list(target.iterdir()) == []
    monkeypatch.setattr(layouts, "MAX_FILES", 11)
    assert len(contents(unzip(file, target))) == 11


def change_central(data, name, offset, form, value):
    """Overwrite a field of a member's entry in the central directory."""
    start = data.rindex(name) - 46
    assert data[start : start + 4] == b"PK\1\2"
    struct.pack_into(form, data, start + offset, value)


def test_members_that_share_their_data_are_a_bomb(tmp_path, target):
    """Fifield, "A better zip bomb", WOOT 2019: each member is small enough, and all are the same
    bytes.
    """
    file = write_zip(
        tmp_path / "photos.zip", [(f"{number}.bin", bytes(100_000)) for number in range(5)]
    )
    data = bytearray(file.read_bytes())
    for number in range(1, 5):
        change_central(data, b"%d.bin" % number, 42, "<L", 0)  # all point to the first
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"overlaps another; the archive is refused as a bomb"):
        unzip(file, target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 97])
def test_a_method_that_unpacks_beyond_what_was_asked_is_refused(tmp_path, target, method):
    """Of bzip2 a few bytes become gigabytes in memory, whatever size the header names."""
    packed, file = bz2.compress(bytes(50_000_000)), tmp_path / "photos.zip"
    write_zip(file, [(zipfile.ZipInfo("1.bin"), packed)])  # stored, and then called something else
    data = bytearray(file.read_bytes())
    change_central(data, b"1.bin", 10, "<H", method)
    change_central(data, b"1.bin", 24, "<L", 1000)
    file.write_bytes(data)

    def refused():
        with pytest.raises(
            ValueError, match=rf"'1\.bin' is packed by method {method}, which is not read"
        ):
            unzip(file, target)

    assert peak_of(refused) < 10_000_000
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("size", [10, 4_000_000])
def test_a_header_that_lies_about_the_size_yields_the_whole_file_or_is_damage(
    tmp_path, target, size
):
    file = write_zip(tmp_path / "photos.zip", {"1.bin": bytes(2_000_000)})
    data = bytearray(file.read_bytes())
    change_central(data, b"1.bin", 24, "<L", size)
    file.write_bytes(data)
    if size > 2_000_000:
        assert contents(unzip(file, target)) == {"1.bin": bytes(2_000_000)}
        return
    with pytest.raises(ValueError, match=r"photos\.zip: '1\.bin' is damaged"):
        unzip(file, target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.soak)])
def test_whatever_is_changed_in_a_zip_it_is_unpacked_whole_or_refused_by_name(
    tmp_path, target, capsys, count
):
    members = {
        "shoe/1.png": photo_bytes(tmp_path, "red"),
        "Zoë.png": b"two" * 50,
        "a/b/c.bin": bytes(300),
    }
    whole = write_zip(tmp_path / "whole.zip", members).read_bytes()
    file, draw, outcomes = tmp_path / "photos.zip", random.Random(0), set()
    for number in range(count):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            place = draw.choice(
                [draw.randrange(len(data)), draw.randrange(data.index(b"PK\1\2"), len(data))]
            )
            data[place] = draw.choice([0, 1, 0x2E, 0x2F, 0x5C, 0x7F, 0xFF, draw.randrange(256)])
        file.write_bytes(data[: draw.randrange(len(data))] if number % 10 == 0 else data)
        try:
            unzip(file, target)
        except (ValueError, OSError) as error:
            assert str(file) in str(error), number
        outcomes |= {path.name for path in target.iterdir() if path.name.startswith(".")}
        outcomes |= {path.name for path in (*tmp_path.iterdir(), *target.parent.iterdir())}
        capsys.readouterr()
    assert outcomes == {"photo.png", "whole.zip", "photos.zip", "outer", "data"}


# --- Interruptions
# -------------------------------------------------------------------------------------------------

UNZIP = (
    LIGHT
    + """
from lookalike.sources.layouts import unzip
print("ready", flush=True)
print(unzip(*sys.argv[1:]))
"""
)


@pytest.fixture
def many(tmp_path):
    """A zip that takes a while to unpack, and what is in it."""
    noise = np.random.default_rng(0).bytes(400_000)
    members = {f"{number % 7}/{number}.png": noise[number:] for number in range(100)}
    return write_zip(tmp_path / "photos.zip", members), members


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_unpacking_killed_at_any_moment_is_finished_by_the_next_run(many, target, kills):
    file, members = many
    start, draw, done = time.monotonic(), random.Random(1), 0
    whole = unzip(file, target)
    seconds = time.monotonic() - start
    while done < kills:
        whole.rename(target / "whole")
        done += killed(UNZIP, file, target, after=draw.uniform(0, 0.9 * seconds))
        assert not whole.exists() or contents(whole) == members
        assert unzip(file, target) == whole
        assert contents(whole) == contents(target / "whole") == members
        for name in members:
            (target / "whole" / name).unlink()
        for folder in sorted((target / "whole").iterdir()):
            folder.rmdir()
        (target / "whole").rmdir()
        assert list(target.iterdir()) == [whole]


def test_two_processes_unpack_the_same_zip_at_once_and_both_end_well(many, target):
    file, members = many
    command = [sys.executable, "-c", UNZIP, str(file), str(target)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    whole = unzip(file, target)
    assert said.splitlines()[-1].endswith(str(whole))
    assert contents(whole) == members
    assert list(target.iterdir()) == [whole]


def test_a_faster_process_is_no_obstacle(tmp_path, target, monkeypatch):
    file, replace = write_zip(tmp_path / "photos.zip", {"1.png": b"one"}), os.replace

    def too_late(aside, whole):
        Path(whole).mkdir()
        Path(whole, "1.png").write_bytes(b"one")
        replace(aside, whole)

    monkeypatch.setattr(os, "replace", too_late)
    whole = unzip(file, target)
    assert list(target.iterdir()) == [whole]
    assert contents(whole) == {"1.png": b"one"}


def test_a_full_disk_is_named_and_left_empty(many, tmp_path):
    file, _ = many
    with small_disk(tmp_path / "disk", "2m") as disk:
        with pytest.raises(
            OSError, match=r"photos\.zip cannot be written \(No space left on device\)"
        ) as caught:
            unzip(file, disk)
        assert str(disk) in str(caught.value)
        assert list(disk.iterdir()) == []


def test_a_folder_that_must_not_be_written_to_is_named(tmp_path):
    file = write_zip(tmp_path / "photos.zip", {"1.png": b"one"})
    with closable(tmp_path / "data") as (folder, close):
        close()
        with pytest.raises(
            OSError, match=r"(Permission denied|Read-only file system): .*data/\.photos"
        ):
            unzip(file, folder)
        assert list(folder.iterdir()) == []
