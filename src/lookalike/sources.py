"""Where product photos come from: each source ends as a folder on disk that the catalogue is read from."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from lookalike.workspace import Workspace, file_hash, open_workspace, progress, project_root

MAX_UNZIPPED_BYTES = 50_000_000_000
MAX_ZIP_RATIO = 200  # photos hardly shrink when zipped; what grows two hundredfold is an attack,
MAX_PLAIN_BYTES = 100_000_000  # unless it is small: a white bitmap is no bomb


def source_folder(source: str, path: str | Path = "", *, workspace: Workspace | None = None) -> Path:
    """The folder of photos that a source stands for, unpacked if need be.

    Raises
    ------
    FileNotFoundError, ValueError
        If the source is unknown, needs a path and has none, or there is nothing usable at `path`.
    """
    if source not in SOURCES:
        raise ValueError(f"Unknown source {source!r}; choose one of {', '.join(SOURCES)}.")
    if source != "sample" and not str(path):
        raise ValueError(f"The source {source!r} needs a path: the {source} that holds your photos.")
    if source == "sample" and str(path):
        raise ValueError(f"The bundled sample takes no path; for the photos at {path} use source='folder' or 'zip'.")
    return SOURCES[source](Path(path).expanduser().absolute(), workspace)


def _sample(path: Path, workspace: Workspace | None) -> Path:
    return project_root() / "data" / "sample"


def _folder(path: Path, workspace: Workspace | None) -> Path:
    if not path.is_dir():
        raise FileNotFoundError(
            f"No folder at {path}." + (" For a zip file use source='zip'." if path.is_file() else "")
        )
    return path


def _zip(path: Path, workspace: Workspace | None) -> Path:
    return unzip(path, (workspace or open_workspace()).data)


SOURCES = {"sample": _sample, "folder": _folder, "zip": _zip}


def unzip(file: str | Path, folder: str | Path) -> Path:
    """Unpack a zip of photos below `folder`, once, and tell where; the name carries the archive's own hash.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no zip there, or it holds absolute or climbing names, links, encrypted files, or a bomb.
    """
    file = Path(file)
    if not zipfile.is_zipfile(file):
        raise (ValueError if file.exists() else FileNotFoundError)(f"No zip file at {file}.")
    target = Path(folder) / f"{file.stem}-{file_hash(file)[:12]}"
    if target.is_dir():
        return target
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _refuse_unsafe(file, members)
            for member in progress(members, total=len(members), description="Unpacking", unit="files"):
                try:
                    archive.extract(member, aside)
                except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # a method unknown, too
                    raise ValueError(f"{file}: {member.filename!r} is damaged ({error}); copy the zip again.") from None
                except OSError as error:
                    raise ValueError(f"{file}: {member.filename!r} cannot be written ({error}).") from None
        os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _refuse_unsafe(file: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        written = member.filename
        member.filename = member.filename.replace("\\", "/")  # as old Windows programs wrote it
        name = PurePosixPath(member.filename)
        if not name.parts or name.is_absolute() or ".." in name.parts or name.parts[0][1:2] == ":":
            raise ValueError(f"{file}: {written!r} would be written outside its folder; the archive is refused.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{file}: {written!r} is a link; the archive is refused.")
        if member.flag_bits & 0x1:
            raise ValueError(f"{file}: {written!r} is encrypted; unpack it yourself and use source='folder'.")
        if member.file_size > max(MAX_PLAIN_BYTES, MAX_ZIP_RATIO * member.compress_size):
            raise ValueError(
                f"{file}: {written!r} unpacks to {member.file_size:,} bytes; the archive is refused as a bomb."
            )
    if sum(member.file_size for member in members) > MAX_UNZIPPED_BYTES:
        raise ValueError(
            f"{file} unpacks to more than {MAX_UNZIPPED_BYTES:,} bytes; unpack it yourself and use source='folder'."
        )
