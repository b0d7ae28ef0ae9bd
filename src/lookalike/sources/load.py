"""A source of photos to the catalogue: the sample, a folder or zip, Kaggle, Amazon."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lookalike.catalog import catalog_folder, check_photos, read_catalog
from lookalike.sources.amazon import LIMIT, amazon_photos
from lookalike.sources.kaggle_sets import KAGGLE, caltech_rows, fashion_rows, kaggle_folder
from lookalike.sources.layouts import (
    CATALOG_FILE,
    inner_folder,
    rows_from_csv,
    rows_from_names,
    unzip,
)
from lookalike.workspace import Workspace, open_workspace, plain_path, project_root, source_name

SOURCES = ("sample", "folder", "zip", "caltech256", "fashion-small", "amazon")
LESSON_LABELS, MORE_LABELS = ("watch", "t-shirt", "bicycle", "shoe"), ("bag", "glasses", "hat")
# What is taken when nothing else is asked for: the kinds of the lesson, and of Caltech's no more
# than it takes.
DEFAULT_LABELS = {"sample": LESSON_LABELS, "caltech256": LESSON_LABELS}
DEFAULT_MAX_PER_CLASS = {"caltech256": 200}


def load_catalog(
    source: str,
    path: str | Path = "",
    *,
    labels: Sequence[str] = (),
    max_per_class: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    workspace: Workspace | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a source of product photos.

    Parameters
    ----------
    source
        "folder": `root/<label>/*`, `root/<split>/<label>/*` or flat, or any folder with a
        `catalog.csv` that lists its images; "zip": the same, zipped; "sample": the catalogue
        bundled with the project; "caltech256" and "fashion-small": from Kaggle; "amazon": the
        products of a metadata file.
    path
        The folder, zip or metadata file; of Kaggle's, a copy downloaded before, if there is one;
        none for "sample".
    labels
        Take only these; none named means all, of the sample and Caltech-256 the lesson's four
        (`MORE_LABELS` extend them).
    max_per_class
        Take at most so many images of a label, the same ones for the same `seed`; None or 0: all,
        of Caltech-256 200.
    limit
        How many products to fetch from Amazon; None or 0: 1,000.
    workspace
        Where photos are downloaded and unpacked (below `data`); None is the project's own.

    Returns
    -------
    catalog : DataFrame
        One row an image: `image_id` (unique, relative to the source's root), `path`, `product_id`,
        `label`, `split` (both missing where the source does not say), the attributes of its
        `catalog.csv` as text, and `pixel_width` and `pixel_height`.
    rejected : DataFrame
        `image_id` and `reason` of each file that cannot be read as an image.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is nothing at `path`, the source is unknown, the archive is unsafe, a label or all
        images are missing.
    SourceUnavailableError
        If Kaggle cannot be reached or wants a token.
    """
    labels = [labels] if isinstance(labels, str) else labels
    photos = find_photos(source, path, labels=labels, limit=limit, workspace=workspace)
    root, rows = photos.root, photos.rows
    if rows.empty:
        hint = f"; {photos.rejected['reason'].iloc[0]}" if len(photos.rejected) else ""
        raise ValueError(
            f"No files in {root}; expected photos, or one folder a label: {root.name}/<label>/*.jpg{hint}"
        )
    labels = labels or DEFAULT_LABELS.get(source, ())
    unknown = set(labels) - set(rows["label"])
    if unknown and source != "amazon":  # there a later line may have it, beyond the limit
        raise ValueError(
            f"No label {min(unknown)!r} in {root}; there are {sorted(set(rows['label'].dropna()))}."
        )
    rows = rows[rows["label"].isin(labels)].reset_index(drop=True) if labels else rows
    most = max_per_class or DEFAULT_MAX_PER_CLASS.get(source)
    return check_photos(root, rows, rejected=photos.rejected, max_per_class=most, seed=seed)


def open_catalog(source: str, path: str | Path = "", *, workspace: Workspace) -> pd.DataFrame:
    """Read the catalogue that 01_data.ipynb wrote for a source.

    Where its photos are gone, because the machine is a new one, they are unpacked or downloaded
    again.

    Raises
    ------
    FileNotFoundError
        If there is no such catalogue, or a photo of it cannot be had again.
    """
    catalog = read_catalog(catalog_folder(source, path, workspace=workspace) / "catalog.csv")
    if not all(map(os.path.exists, catalog["path"])):
        find_photos(source, path, workspace=workspace)
    gone = [
        image_id
        for image_id, file in catalog[["image_id", "path"]].to_numpy()
        if not os.path.exists(file)
    ]
    if gone:
        raise FileNotFoundError(
            f"{len(gone)} photos of the catalogue are gone, such as {gone[0]}. Run 01_data.ipynb again."
        )
    return catalog


@dataclass(frozen=True)
class Photos:
    """A folder, a row for each file in it (`image_id`, `product_id`, `label`, `split`, more), and
    what was left out.
    """

    root: Path
    rows: pd.DataFrame
    rejected: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["image_id", "reason"], dtype=object)
    )


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
        Categories, and how many products, to fetch from Amazon; the other sources list all they
        have.

    Raises
    ------
    FileNotFoundError, ValueError
        If the source is unknown, needs a path and has none, or there is nothing usable at `path`.
    SourceUnavailableError
        If Kaggle cannot be reached or wants a token.
    """
    path = plain_path(path)
    if source not in SOURCES:
        raise ValueError(f"Unknown source {source!r}; choose one of {', '.join(SOURCES)}.")
    if source in ("folder", "zip", "amazon") and not path:
        what = "metadata file" if source == "amazon" else f"{source} that holds your photos"
        raise ValueError(f"The source {source!r} needs a path: the {what}.")
    if source == "sample":
        if path:
            raise ValueError(
                f"The bundled sample takes no path; for the photos at {path} use source='folder' or 'zip'."
            )
        return Photos(*_listed(project_root() / "data" / "sample"))
    location = Path(path).absolute()
    if source == "amazon":
        folder = (
            workspace or open_workspace()
        ).downloads / f"amazon-{source_name(source, str(location))}"
        return Photos(folder, *amazon_photos(location, folder, labels=labels, limit=limit or LIMIT))
    if source in KAGGLE and not path:
        folder = kaggle_folder(source)
    elif source == "zip" or (source in KAGGLE and location.is_file()):
        folder = unzip(location, (workspace or open_workspace()).downloads)
    elif not location.is_dir():
        hint = " For a zip file use source='zip'." if location.is_file() else ""
        raise FileNotFoundError(f"No folder at {location}.{hint}")
    else:
        folder = location
    return Photos(
        *{"caltech256": caltech_rows, "fashion-small": fashion_rows}.get(source, _listed)(folder)
    )


def _listed(folder: Path) -> tuple[Path, pd.DataFrame]:
    root = inner_folder(folder)
    listed = root / CATALOG_FILE
    return root, rows_from_csv(listed) if listed.is_file() else rows_from_names(root)
