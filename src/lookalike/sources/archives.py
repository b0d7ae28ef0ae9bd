"""A zip or tar of photos to a folder: unpacked once, and nothing outside of it."""

import gzip
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from lookalike.machine import progress
from lookalike.workspace import file_hash

MAX_FILES = 1_000_000
MAX_UNZIPPED_BYTES = 50_000_000_000
# No photo has as many; a bomb has.
MAX_MEMBER_BYTES = 2_000_000_000
ADVICE = "Download it again, or unpack it yourself and give the folder with source='folder'."
# `zipfile` raises a RuntimeError for what is encrypted.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
)
# How a file begins, and what it is then, if no zip or tar.
KINDS = {
    b"PK": "a zip that broke off, is damaged or encrypted",
    b"\x1f\x8b": "a gzip that broke off, is damaged or holds no tar",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zst file",
    b"<": "a web page, a login or Google Drive's warning: take it from the browser",
    b"": "empty, or neither zip nor tar",
}


def refuse_address(path):
    """Raise `ValueError` where a path is a web address, as of a folder on Google Drive."""
    if re.match(r"\w{2,}:/|www\.|drive\.google\.", str(path)):
        raise ValueError(f"{path} is a web address. Download what is there, and give its path.")


def unpack(file, folder):
    """Unpack a zip, tar or tar.gz below `folder`, once; the name carries the archive's own hash.

    No link or special file is made.

    Returns
    -------
    The folder with what was in the archive; it is there only when it is whole.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no archive there, or it is damaged, encrypted, too large, or would write
        elsewhere.
    OSError
        If the disk is full, or `folder` must not be written to.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"No folder and no archive at {file}.")
    target = Path(folder).resolve() / f"{file.stem}-{file_hash(file)[:12]}"
    aside = target.with_name(f".{target.name}.partial")
    if target.is_dir():
        return target
    try:
        # What a killed run has left there is of the same archive, and written anew.
        aside.mkdir(parents=True, exist_ok=True)
        _write(file, aside)
        return aside.rename(target)
    except DAMAGE as error:
        with open(file, "rb") as stream:
            start = stream.read(100).lstrip()
        kind = next(KINDS[sign] for sign in KINDS if start.startswith(sign))
        said = f"{file} is {kind} ({str(error).split(':')[0]}). {ADVICE}"
        raise ValueError(said) from None
    except OSError as error:
        said = (
            f"{error.strerror or error}. If {folder} is full, make room; "
            f"else unpack {file} yourself."
        )
        raise OSError(error.errno, said) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(file, folder):
    total = 0
    members = progress(_members(file), total=None, description="Unpacking", unit="files")
    for number, (name, size, stream) in enumerate(members, start=1):
        path = (folder / name).resolve()
        if folder not in path.parents:
            raise ValueError(f"{file} is refused: {name!r} would be written outside its folder.")
        total += size
        if number > MAX_FILES or size > MAX_MEMBER_BYTES or total > MAX_UNZIPPED_BYTES:
            raise ValueError(f"{file} grows beyond measure with {name!r}. {ADVICE}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with stream, open(path, "wb") as copy:
            shutil.copyfileobj(stream, copy)


def _members(file):
    """The name of each file, its bytes, which its stream never exceeds, and its stream."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                # Windows programs write backslashes.
                name = member.filename.replace("\\", "/")
                # macOS writes UTF-8 and does not say so.
                with suppress(UnicodeError):
                    name = name.encode("cp437").decode()
                if not name.endswith("/"):
                    yield name, member.file_size, archive.open(member.filename)
    else:
        with tarfile.open(file) as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, member.size, archive.extractfile(member)
