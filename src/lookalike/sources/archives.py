"""A zip of photos to a folder: unpacked once, and nothing outside of it."""

import re
import shutil
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from lookalike.machine import progress
from lookalike.workspace import file_hash


def refuse_address(path):
    """Raise `ValueError` where a path is a web address, as of a folder on Google Drive."""
    if re.match(r"\w{2,}:/|www\.|drive\.google\.", str(path)):
        raise ValueError(f"{path} is a web address. Download what is there, and give its path.")


def unpack(file, folder):
    """Unpack a zip below `folder`, once; the name carries the archive's own hash.

    Returns
    -------
    The folder with what was in the archive; it is there only when it is whole.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no file there, or it is no zip, damaged, encrypted, or larger than the disk.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"No folder and no archive at {file}.")
    target = Path(folder) / f"{file.stem}-{file_hash(file)[:12]}"
    if target.is_dir():
        return target
    aside = target.with_name(f".{target.name}.partial")
    try:
        _unpack(file, aside)
        return aside.rename(target)
    # `zipfile` raises a RuntimeError for what is encrypted.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{file} cannot be unpacked ({error}). Download it again, in a browser, "
            "or unpack it yourself and give the folder with source='folder'."
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack(file, folder):
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        folder.mkdir(parents=True, exist_ok=True)
        n_bytes = sum(member.file_size for member in members)
        free = shutil.disk_usage(folder).free
        if n_bytes > free:
            raise ValueError(
                f"{file} holds {n_bytes:,} bytes; {folder.parent} has room for {free:,}. "
                "Make room, or take another root."
            )
        for member in progress(members, description="Unpacking", unit="files"):
            # macOS writes UTF-8 and does not say so.
            with suppress(UnicodeError):
                member.filename = member.filename.encode("cp437").decode()
            # `zipfile` puts inside the folder what names a place outside of it.
            archive.extract(member, folder)
