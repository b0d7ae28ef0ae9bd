"""Where product photos come from: the sample, a folder or zip, Kaggle, Amazon; each becomes a folder and its rows."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import kagglehub
import pandas as pd
import requests

from lookalike.amazon import LIMIT, amazon_photos
from lookalike.folders import CATALOG_FILE, inner_folder, rows_from_csv, rows_from_names, unzip
from lookalike.workspace import Workspace, open_workspace, project_root, source_name

SOURCES = ("sample", "folder", "zip", "caltech256", "fashion-small", "amazon")
LESSON_LABELS, MORE_LABELS = ("watch", "t-shirt", "bicycle", "shoe"), ("bag", "glasses", "hat")
# What is taken when nothing else is asked for: the kinds of the lesson, and of Caltech's no more than it takes.
DEFAULT_LABELS = {"sample": LESSON_LABELS, "caltech256": LESSON_LABELS}
DEFAULT_MAX_PER_CLASS = {"caltech256": 200}
KAGGLE = {"caltech256": "jessicali9530/caltech256", "fashion-small": "paramaggarwal/fashion-product-images-small"}
CALTECH_LABELS = {"watch-101": "watch", "mountain-bike": "bicycle", "touring-bike": "bicycle", "sneaker": "shoe"}
CALTECH_LABELS |= {"tennis-shoes": "shoe", "backpack": "bag", "eyeglasses": "glasses", "cowboy-hat": "hat"}
FASHION_COLUMNS = {"id": "product_id", "articleType": "label", "baseColour": "colour", "productDisplayName": "title"}


class SourceUnavailableError(RuntimeError):
    """Photos that should come from elsewhere cannot be had now; the message says what to do."""


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(columns=["image_id", "reason"], dtype=object)


@dataclass(frozen=True)
class Photos:
    """A folder, a row for each file in it (`image_id`, `product_id`, `label`, `split`, more), and what was left out."""

    root: Path
    rows: pd.DataFrame
    rejected: pd.DataFrame = field(default_factory=_nothing)


def find_photos(
    source: str,
    path: str | Path = "",
    *,
    labels: Sequence[str] = (),
    limit: int | None = None,
    workspace: Workspace | None = None,
) -> Photos:
    """Find the photos of a source, downloaded and unpacked if need be; no file is opened yet.

    Parameters
    ----------
    labels, limit
        Categories, and how many products, to fetch from Amazon; the other sources list all they have.

    Raises
    ------
    FileNotFoundError, ValueError
        If the source is unknown, needs a path and has none, or there is nothing usable at `path`.
    SourceUnavailableError
        If Kaggle cannot be reached or wants a token.
    """
    if source not in SOURCES:
        raise ValueError(f"Unknown source {source!r}; choose one of {', '.join(SOURCES)}.")
    if source in ("folder", "zip", "amazon") and not str(path):
        what = "metadata file" if source == "amazon" else f"{source} that holds your photos"
        raise ValueError(f"The source {source!r} needs a path: the {what}.")
    if source == "sample":
        if str(path):
            raise ValueError(
                f"The bundled sample takes no path; for the photos at {path} use source='folder' or 'zip'."
            )
        return _listed(project_root() / "data" / "sample")
    location = Path(path).expanduser().absolute()
    if source == "amazon":
        folder = (workspace or open_workspace()).downloads / f"amazon-{source_name(source, str(location))}"
        return Photos(folder, *amazon_photos(location, folder, labels=labels, limit=limit or LIMIT))
    if source in KAGGLE and not str(path):
        folder = kaggle_folder(source)
    elif source == "zip" or (source in KAGGLE and location.is_file()):
        folder = unzip(location, (workspace or open_workspace()).downloads)
    elif not location.is_dir():
        hint = " For a zip file use source='zip'." if location.is_file() else ""
        raise FileNotFoundError(f"No folder at {location}.{hint}")
    else:
        folder = location
    return {"caltech256": _caltech, "fashion-small": _fashion}.get(source, _listed)(folder)


def _listed(folder: Path) -> Photos:
    root = inner_folder(folder)
    listed = root / CATALOG_FILE
    return Photos(root, rows_from_csv(listed) if listed.is_file() else rows_from_names(root))


def kaggle_folder(source: str, *, client: str = "kagglehub", folder: str | Path = "") -> Path:
    """Download a data set from Kaggle, once; a public one needs no account.

    Parameters
    ----------
    source
        "caltech256" or "fashion-small".
    client
        "kagglehub" keeps the files in its own cache; "kaggle", the older client, unpacks them into `folder` and wants
        a token (see `kaggle_token`).

    Returns
    -------
    The folder of the data set; to be read only.

    Raises
    ------
    SourceUnavailableError
        If Kaggle cannot be reached and no earlier download is in the cache, or it refuses.
    """
    handle = KAGGLE[source]
    try:
        return Path(kagglehub.dataset_download(handle)) if client == "kagglehub" else _by_kaggle(handle, Path(folder))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        hint = "Open it in a browser, accept its terms, make a token (kaggle.com, Settings, API) and set it as "
        hint = hint + "KAGGLE_API_TOKEN." if status in (401, 403) else "Try again later."
        reason = f"Kaggle answers {status} for https://www.kaggle.com/datasets/{handle}. {hint}"
    except requests.RequestException as error:
        if (cached := _newest_cached(handle)) and client == "kagglehub":
            print(f"Kaggle cannot be reached; version {cached.name} of {source} is in the cache and is taken.")
            return cached
        reason = f"Kaggle cannot be reached ({type(error).__name__}). Connect to the internet and run this again."
    raise SourceUnavailableError(
        f"{source} cannot be downloaded: {reason} Or download it elsewhere and give the folder or zip as the path. "
        "The sources 'sample', 'folder' and 'zip' need no network."
    )


def _newest_cached(handle: str) -> Path | None:
    """The newest complete version in kagglehub's cache, asked of kagglehub itself: a known version needs no network."""
    cache = Path(os.environ.get("KAGGLEHUB_CACHE") or "~/.cache/kagglehub").expanduser()
    versions = [folder.name for folder in (cache / "datasets" / handle / "versions").glob("[0-9]*")]
    for version in sorted(filter(str.isdecimal, versions), key=int, reverse=True):
        try:
            return Path(kagglehub.dataset_download(f"{handle}/versions/{version}"))
        except requests.RequestException:  # only half of it is there
            continue
    return None


def _by_kaggle(handle: str, folder: Path) -> Path:
    if not kaggle_token():
        raise SourceUnavailableError(
            "The kaggle client needs a token: kaggle.com, Settings, API. Set it as KAGGLE_API_TOKEN, in the "
            "environment or as a secret of Colab, or save kaggle.json in ~/.kaggle with mode 600. "
            "Or use client='kagglehub'."
        )
    import kaggle  # here, since it looks for a token at once, and some versions end Python when they find none

    kaggle.api.authenticate()
    folder.mkdir(parents=True, exist_ok=True)
    kaggle.api.dataset_download_files(handle, path=str(folder), unzip=True, quiet=False)
    return folder


def kaggle_token() -> str:
    """Where this machine keeps its Kaggle token, or ""; the token itself is shown nowhere.

    A secret of Colab named `KAGGLE_API_TOKEN` is handed on to the clients, through the environment of this process.

    Raises
    ------
    PermissionError
        If `kaggle.json` can be read by others.
    """
    if "google.colab" in sys.modules and "KAGGLE_API_TOKEN" not in os.environ:
        from google.colab import userdata

        with suppress(userdata.SecretNotFoundError, userdata.NotebookAccessError):
            os.environ["KAGGLE_API_TOKEN"] = userdata.get("KAGGLE_API_TOKEN")
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or "~/.kaggle").expanduser()
    for file in (folder / "access_token", folder / "kaggle.json"):
        if os.name == "posix" and file.is_file() and file.stat().st_mode & 0o077:
            raise PermissionError(f"{file} can be read by others; run: chmod 600 {file}")
    if os.environ.get("KAGGLE_API_TOKEN"):
        return "KAGGLE_API_TOKEN"
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return "KAGGLE_USERNAME and KAGGLE_KEY"
    return next((file.name for file in (folder / "access_token", folder / "kaggle.json") if file.is_file()), "")


def _caltech(folder: Path) -> Photos:
    """Caltech-256: `NNN.name/NNN_MMMM.jpg` at any depth; the numbers differ between copies, the names do not."""
    rows = rows_from_names(folder)
    classes = rows["image_id"].str.extract(r"(?:^|.*/)\d{3}\.([^/]+)/(?:.*/)?([^/]+)$")
    rows["label"] = classes[0].replace(CALTECH_LABELS)
    # A copy of the whole tree inside the tree is the same photos twice: the one nearer the root counts.
    depth = rows["image_id"].str.count("/")
    rows = rows[rows["label"].notna()].assign(split=None)
    order = depth[rows.index].sort_values(kind="stable").index
    first = ~classes.loc[order].duplicated()
    return Photos(folder, rows.loc[order[first].sort_values()].reset_index(drop=True))


def _fashion(folder: Path) -> Photos:
    """Fashion Product Images (small): `styles.csv` and `images/<id>.jpg`; the doubled copy further down is ignored."""
    tables = sorted(folder.rglob("styles.csv"), key=lambda file: len(file.parts))
    if not tables:
        raise FileNotFoundError(f"No styles.csv in {folder}; it lies beside the folder `images`.")
    root, good, broken = tables[0].parent, {}, {}
    with open(tables[0], encoding="utf-8", errors="replace", newline="") as stream:
        lines = csv.reader(stream)
        header = next(lines, [])
        missing = set(FASHION_COLUMNS) - set(header)
        if missing:
            raise ValueError(f"{tables[0]} has no column {', '.join(sorted(missing))}; it has {', '.join(header)}.")
        for line in filter(None, lines):
            if len(line) == len(header) and line[0].isdecimal():
                good.setdefault(f"images/{line[0]}.jpg", line)
            else:
                broken[f"images/{line[0]}.jpg"] = f"its row in styles.csv has {len(line)} fields, not {len(header)}"
    for file in os.scandir(root / "images"):
        if f"images/{file.name}" not in good:
            broken.setdefault(f"images/{file.name}", "not in styles.csv")
    rows = pd.DataFrame(good.values(), columns=header, dtype=object).rename(columns=FASHION_COLUMNS)
    rows = rows.replace("", None).assign(image_id=list(good), split=None)
    return Photos(root, rows, pd.DataFrame(broken.items(), columns=["image_id", "reason"], dtype=object))
