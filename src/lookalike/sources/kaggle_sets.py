"""Two data sets of Kaggle, Caltech-256 and Fashion Product Images (small): how to get them, and to
rows.
"""

from __future__ import annotations

import csv
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import requests
from filelock import FileLock

from lookalike.sources.layouts import rows_from_names, unzip
from lookalike.workspace import on_colab

KAGGLE = {
    "caltech256": "jessicali9530/caltech256",
    "fashion-small": "paramaggarwal/fashion-product-images-small",
}
CALTECH_LABELS = {
    "watch-101": "watch",
    "mountain-bike": "bicycle",
    "touring-bike": "bicycle",
    "sneaker": "shoe",
}
CALTECH_LABELS |= {
    "tennis-shoes": "shoe",
    "backpack": "bag",
    "eyeglasses": "glasses",
    "cowboy-hat": "hat",
}
FASHION_COLUMNS = {
    "id": "product_id",
    "articleType": "label",
    "baseColour": "colour",
    "productDisplayName": "title",
}


class SourceUnavailableError(RuntimeError):
    """Photos that should come from elsewhere cannot be had now; the message says what to do."""


def kaggle_folder(
    source: str, *, client: str = "kagglehub", folder: str | Path = "", seconds: float = 60
) -> Path:
    """Download a data set from Kaggle; a public one needs no account.

    Parameters
    ----------
    source
        "caltech256" or "fashion-small".
    client
        "kagglehub" downloads once and keeps the files in its own cache; "kaggle", the older client,
        downloads a zip to `folder`, where it is unpacked, and wants a token (see `kaggle_token`).
    seconds
        How long the server may be silent.

    Returns
    -------
    The folder of the data set; to be read only.

    Raises
    ------
    SourceUnavailableError
        If Kaggle cannot be reached and no earlier download is in the cache, or it refuses.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its progress bar misses a package that is not needed
        # here, since it takes a while, and who needs no Kaggle needs not have it in order
        import kagglehub
        from kagglehub.exceptions import DataCorruptionError
    handle = KAGGLE[source]
    try:
        with _alone(handle), _in_time(seconds):
            if client == "kagglehub":
                return Path(kagglehub.dataset_download(handle))
            return _by_kaggle(handle, Path(folder))
    except requests.RequestException as error:
        status = None if error.response is None else error.response.status_code
        down = status is None or status == 429 or status >= 500
        if down and client == "kagglehub" and (cached := _newest_cached(handle)):
            print(
                f"Kaggle cannot be reached; version {cached.name} of {source} is in the cache and is taken."
            )
            return cached
        hint = "Open it in a browser, accept its terms, make a token (kaggle.com, Settings, API) and set it as "
        hint = hint + "KAGGLE_API_TOKEN." if status in (401, 403) else "Try again later."
        reason = f"Kaggle answers {status} for https://www.kaggle.com/datasets/{handle}. {hint}"
        if status is None:
            reason = f"Kaggle cannot be reached ({type(error).__name__}). Connect to the internet and run this again."
    except (DataCorruptionError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        # Or the clients would go on with these bytes for ever.
        for archive in (
            *_cache(handle).glob("*.archive"),
            Path(folder, f"{handle.split('/')[1]}.zip"),
        ):
            archive.unlink(missing_ok=True)
        reason = f"{error}. What came was thrown away; run this again."
    except OSError as error:
        if error.errno is None:  # a token that others can read
            raise
        place = _cache(handle) if client == "kagglehub" else Path(folder)
        reason = f"{place} cannot be written to ({error.strerror}). Make room, and run this again."
    raise SourceUnavailableError(
        f"{source} cannot be downloaded: {reason} Or download it elsewhere and give the folder or zip as the path. "
        "The sources 'sample', 'folder' and 'zip' need no network."
    )


@contextmanager
def _alone(handle: str) -> Iterator[None]:
    """Let one process after the other download a data set, since the clients would write into one
    file together.
    """
    lock = FileLock(_cache(handle) / ".lock")
    with suppress(OSError, NotImplementedError):  # a cache that must not be written to may have all
        _cache(handle).mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """Let no server be silent for ever, as the clients would: they ask without a time-out."""
    send = requests.Session.send
    requests.Session.send = lambda *given, **options: send(
        *given, **{**options, "timeout": seconds}
    )
    try:
        yield
    finally:
        requests.Session.send = send


def _cache(handle: str) -> Path:
    return (
        Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub")
        / "datasets"
        / handle
    )


def _newest_cached(handle: str) -> Path | None:
    """The newest version in kagglehub's cache that it has marked as complete; others it would
    download again.
    """
    marks = [mark for mark in _cache(handle).glob("*.complete") if mark.stem.isdecimal()]
    folders = [
        mark.parent / "versions" / mark.stem
        for mark in sorted(marks, key=lambda mark: int(mark.stem))
    ]
    return next(filter(Path.is_dir, reversed(folders)), None)


def _by_kaggle(handle: str, folder: Path) -> Path:
    if not kaggle_token():
        raise SourceUnavailableError(
            "The kaggle client needs a token: kaggle.com, Settings, API. Set it as KAGGLE_API_TOKEN, in the "
            "environment or as a secret of Colab, or save kaggle.json in ~/.kaggle with mode 600. "
            "Or use client='kagglehub'."
        )
    try:
        import kaggle  # here, since it looks for a token at once

        kaggle.api.authenticate()
    except SystemExit:  # so it ends Python where Kaggle does not know the token
        raise SourceUnavailableError(
            "Kaggle does not take this token; it may have expired. Make a new one: kaggle.com, Settings, API."
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    kaggle.api.dataset_download_files(handle, path=str(folder), unzip=False, quiet=False)
    archive = folder / f"{handle.split('/')[1]}.zip"
    photos = unzip(archive, folder)  # the client's own way would leave half of them after a kill
    archive.unlink()
    return photos


def kaggle_token() -> str:
    """Where this machine keeps its Kaggle token, or ""; the token itself is shown nowhere.

    A secret of Colab named `KAGGLE_API_TOKEN` is handed on to the clients, through the environment
    of this process.

    Raises
    ------
    PermissionError
        If `kaggle.json` can be read by others.
    """
    if on_colab() and "KAGGLE_API_TOKEN" not in os.environ:
        from google.colab import userdata

        with suppress(userdata.SecretNotFoundError, userdata.NotebookAccessError):
            os.environ["KAGGLE_API_TOKEN"] = userdata.get("KAGGLE_API_TOKEN")
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or "~/.kaggle").expanduser()
    # Where the clients look.
    files = (Path("~/.kaggle/access_token").expanduser(), folder / "kaggle.json")
    for file in files:
        if os.name == "posix" and file.is_file() and file.stat().st_mode & 0o077:
            raise PermissionError(f"{file} can be read by others; run: chmod 600 {file}")
    if os.environ.get("KAGGLE_API_TOKEN"):
        return "KAGGLE_API_TOKEN"
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return "KAGGLE_USERNAME and KAGGLE_KEY"
    return next((file.name for file in files if file.is_file()), "")


def caltech_rows(folder: Path) -> tuple[Path, pd.DataFrame]:
    """Caltech-256: `NNN.name/NNN_MMMM.jpg` at any depth; the numbers differ between copies, the
    names do not.
    """
    rows = rows_from_names(folder)
    classes = rows["image_id"].str.extract(r"(?:^|.*/)\d{3}\.([^/]+)/(?:.*/)?([^/]+)$")
    rows["label"] = classes[0].replace(CALTECH_LABELS)
    # A copy of the whole tree inside the tree is the same photos twice: the one nearer the root
    # counts.
    depth = rows["image_id"].str.count("/")
    rows = rows[rows["label"].notna()].assign(split=None)
    order = depth[rows.index].sort_values(kind="stable").index
    first = ~classes.loc[order].duplicated()
    return folder, rows.loc[order[first].sort_values()].reset_index(drop=True)


def fashion_rows(folder: Path) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """Fashion Product Images (small): `styles.csv` and `images/<id>.jpg`; the doubled copy further
    down is ignored.
    """
    tables = sorted(folder.rglob("styles.csv"), key=lambda file: len(file.parts))
    if not tables:
        raise FileNotFoundError(f"No styles.csv in {folder}; it lies beside the folder `images`.")
    root, good, broken = tables[0].parent, {}, {}
    with open(tables[0], encoding="utf-8-sig", errors="replace") as stream:
        # Line by line: no title has two, and a quote that is never closed costs no more than its
        # own row.
        lines = (fields for line in stream for fields in csv.reader([line.rstrip("\n")]))
        header = next(lines, [])
        missing = set(FASHION_COLUMNS) - set(header)
        if missing:
            raise ValueError(
                f"{tables[0]} has no column {', '.join(sorted(missing))}; it has {', '.join(header)}."
            )
        for line in filter(None, lines):
            number = dict(zip(header, line, strict=False)).get("id", line[0])
            if len(line) != len(header):
                broken[f"images/{number}.jpg"] = (
                    f"its row in styles.csv has {len(line)} fields, not {len(header)}"
                )
            elif not number.isdecimal():
                broken[f"images/{number}.jpg"] = f"its id in styles.csv, {number!r}, is no number"
            else:
                good.setdefault(f"images/{number}.jpg", line)
    for file in os.scandir(root / "images"):
        if f"images/{file.name}" not in good:
            broken.setdefault(f"images/{file.name}", "not in styles.csv")
    rows = pd.DataFrame(good.values(), columns=header, dtype=object).rename(columns=FASHION_COLUMNS)
    rows = rows.replace("", None).assign(image_id=list(good), split=None)
    return root, rows, pd.DataFrame(broken.items(), columns=["image_id", "reason"], dtype=object)
