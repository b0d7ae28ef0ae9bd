"""A folder or zip of photos on disk to rows: which files there are, and what their folders or a CSV
say of them.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
import struct
import zipfile
import zlib
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath

import pandas as pd
import psutil

from lookalike.catalog import PIXEL_COLUMNS, read_csv
from lookalike.images import PHOTO_SUFFIXES
from lookalike.splits import SPLITS
from lookalike.workspace import file_hash, progress

CATALOG_FILE = "catalog.csv"
SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_FOLDERS |= dict.fromkeys(("validation", "valid", "val"), "validation")
# Notes that lie beside photos, not photos.
SIDECAR_SUFFIXES = {".csv", ".json", ".jsonl", ".txt", ".md", ".xml", ".yaml", ".yml"}
MAX_UNZIPPED_BYTES = 50_000_000_000
MAX_ZIP_RATIO = 200  # photos hardly shrink when zipped; what grows two hundredfold is an attack,
MAX_PLAIN_BYTES = 100_000_000  # unless it is small: a white bitmap is no bomb
MAX_FILES, MAX_DEPTH = 1_000_000, 50  # in a zip
YOURSELF = "unpack it yourself and use source='folder'."


def inner_folder(root: Path) -> Path:
    """Step into a folder that merely wraps the catalogue, as zips often do:
    `Photos/Photos/<label>/*`.
    """
    while not (root / CATALOG_FILE).is_file():
        inside = _photos_and_folders(root)
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].name.lower() in SPLIT_FOLDERS:
            return root
        if (
            not any(map(Path.is_dir, _photos_and_folders(inside[0])))
            and not (inside[0] / CATALOG_FILE).is_file()
        ):
            return root  # one folder of photos is a catalogue of one label
        root = inside[0]
    return root


def _is_wanted(name: str) -> bool:
    hidden = name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
    return not hidden and Path(name).suffix.lower() not in SIDECAR_SUFFIXES


def _photos_and_folders(folder: Path) -> list[Path]:
    """What counts in a folder; links to folders do not, as they could lead anywhere, or round in
    circles.
    """
    return [
        entry
        for entry in folder.iterdir()
        if _is_wanted(entry.name) and not (entry.is_symlink() and entry.is_dir())
    ]


def rows_from_names(root: Path) -> pd.DataFrame:
    """Label and split from the folders a file lies in; symbolic links to folders are not followed."""
    names = []
    for folder, subfolders, files in os.walk(root):
        # A link to a folder, or a folder that poses as an image, is not entered but reported with
        # the files.
        odd = [
            name
            for name in subfolders
            if os.path.islink(os.path.join(folder, name))
            or Path(name).suffix.lower() in PHOTO_SUFFIXES
        ]
        subfolders[:] = sorted(name for name in subfolders if _is_wanted(name) and name not in odd)
        inside = Path(folder).relative_to(root)
        names += [(inside / name).as_posix() for name in sorted(files + odd) if _is_wanted(name)]
    tops = {PurePosixPath(name).parts[0].lower() for name in names if "/" in name}
    has_splits = bool(tops) and tops <= SPLIT_FOLDERS.keys()
    # One alone may be a kind, unless it holds folders of kinds itself.
    splits = tops & SPLIT_FOLDERS.keys()
    nested = any(
        len(parts) > 2 and parts[0].lower() in splits
        for parts in (PurePosixPath(name).parts for name in names)
    )
    if not has_splits and (len(splits) > 1 or nested):
        odd = ", ".join(sorted(tops - SPLIT_FOLDERS.keys()))
        raise ValueError(
            f"{root} holds folders for splits and others ({odd}); move the others away, or into a split."
        )
    rows = []
    for name in names:
        *folders, _ = PurePosixPath(name).parts
        split = SPLIT_FOLDERS[folders.pop(0).lower()] if has_splits and folders else None
        rows.append((name, None, folders[0] if folders else None, split))
    return pd.DataFrame(rows, columns=["image_id", "product_id", "label", "split"], dtype=object)


def rows_from_csv(file: Path) -> pd.DataFrame:
    """What a catalogue's own CSV says of each image."""
    rows = read_csv(file)
    for name in ("product_id", "label", "split"):
        rows[name] = (
            rows[name].astype(object).where(rows[name].notna(), None) if name in rows else None
        )
    unknown = set(rows["split"].dropna()) - set(SPLITS)
    if unknown:
        raise ValueError(f"{file}: a split is one of {', '.join(SPLITS)}, not {min(unknown)!r}.")
    return rows.drop(columns=[name for name in ("path", *PIXEL_COLUMNS) if name in rows])


def unzip(file: str | Path, folder: str | Path) -> Path:
    """Unpack a zip of photos below `folder`, once, and tell where; the name carries the archive's
    own hash.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no zip there, or it is damaged, encrypted, a bomb, or holds links, or names that
        clash or climb.
    OSError
        If the folder is full, or must not be written to.
    """
    file = Path(file)
    if not zipfile.is_zipfile(file):
        raise (ValueError if file.exists() else FileNotFoundError)(f"No zip file at {file}.")
    target = Path(folder) / f"{file.stem}-{file_hash(file)[:12]}"
    if target.is_dir():
        return target
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        if not psutil.pid_exists(int(left.name.split(".")[-2])):  # its process was killed
            shutil.rmtree(left, ignore_errors=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with _opened(file) as archive:
            members = _safe_members(file, archive)
            for member in progress(
                members, total=len(members), description="Unpacking", unit="files"
            ):
                _extract(file, archive, member, aside)
        try:
            os.replace(aside, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _opened(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, struct.error, ValueError, RuntimeError) as error:
        raise ValueError(f"{file} cannot be read as a zip ({error}); copy it again.") from None


def _extract(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    name = member.filename
    try:
        if os.path.lexists(folder / name):
            raise FileExistsError
        archive.extract(member, folder)
    except (FileExistsError, NotADirectoryError):  # as this disk compares names
        raise ValueError(
            f"{file} holds {name!r} twice, or as a file and a folder; {YOURSELF}"
        ) from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        RuntimeError,
        ValueError,
    ) as error:
        raise ValueError(f"{file}: {name!r} is damaged ({error}); copy the zip again.") from None
    except OSError as error:
        said = f"{name!r} of {file} cannot be written ({error.strerror}). Make room, or {YOURSELF}"
        raise OSError(error.errno, said, str(folder.parent)) from None


def _safe_members(file: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive, their names as they will be written; it is refused if one of them
    may do harm.
    """
    for member in archive.infolist():
        written = member.filename
        if not written.isascii() and not member.flag_bits & 0x800:
            with suppress(UnicodeError):  # macOS writes UTF-8 and does not say so
                member.filename = written.encode("cp437").decode("utf-8")
            if "\\" in member.filename:  # it may as well be half of a Chinese or Japanese letter
                raise ValueError(
                    f"{file}: {written!r} is in an alphabet that the zip does not tell; {YOURSELF}"
                )
        member.filename = member.filename.replace("\\", "/")  # as old Windows programs wrote it
        if not member.filename.endswith("/") and (harm := _harm(member)):
            raise ValueError(f"{file}: {written!r} {harm}")
    for member, after in pairwise(
        sorted(archive.infolist(), key=lambda member: member.header_offset)
    ):
        if member.header_offset + 30 + member.compress_size > after.header_offset:
            raise ValueError(
                f"{file}: {member.filename!r} overlaps another; the archive is refused as a bomb."
            )
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_UNZIPPED_BYTES:
        raise ValueError(
            f"{file} unpacks to more than {MAX_FILES:,} files or {MAX_UNZIPPED_BYTES:,} bytes; {YOURSELF}"
        )
    return members


def _harm(member: zipfile.ZipInfo) -> str:
    """Why a member must not be unpacked, or ""."""
    name = PurePosixPath(member.filename)
    if not name.parts or name.is_absolute() or ".." in name.parts or name.parts[0][1:2] == ":":
        return "would be written outside its folder; the archive is refused."
    if len(name.parts) > MAX_DEPTH:
        return f"lies more than {MAX_DEPTH} folders deep; the archive is refused."
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is a link or another special file; the archive is refused."
    if member.flag_bits & 0x1:
        return f"is encrypted; {YOURSELF}"
    # Others unpack beyond what was asked.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {member.compress_type}, which is not read; {YOURSELF}"
    if member.file_size > max(MAX_PLAIN_BYTES, MAX_ZIP_RATIO * member.compress_size):
        return f"unpacks to {member.file_size:,} bytes; the archive is refused as a bomb."
    return ""
