"""A source of photos to the catalogue: one row an image, checked, with product and label; to disk and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from lookalike.folders import PHOTO_SUFFIXES, PIXEL_COLUMNS, read_csv
from lookalike.images import ImageError, image_size
from lookalike.sources import DEFAULT_LABELS, DEFAULT_MAX_PER_CLASS, find_photos
from lookalike.splits import lot
from lookalike.workspace import Workspace, parallel_map, progress, source_name, written_aside

BASE_COLUMNS = ("image_id", "path", "product_id", "label", "split")


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
        "folder": `root/<label>/*`, `root/<split>/<label>/*` or flat, or any folder with a `catalog.csv` that lists its
        images; "zip": the same, zipped; "sample": the catalogue bundled with the project; "caltech256" and
        "fashion-small": from Kaggle; "amazon": the products of a metadata file.
    path
        The folder, zip or metadata file; of Kaggle's, a copy downloaded before, if there is one; none for "sample".
    labels
        Take only these; none named means all, of the sample and Caltech-256 the lesson's four (`MORE_LABELS` extend
        them).
    max_per_class
        Take at most so many images of a label, the same ones for the same `seed`; None or 0: all, of Caltech-256 200.
    limit
        How many products to fetch from Amazon; None or 0: 1,000.
    workspace
        Where photos are downloaded and unpacked (below `data`); None is the project's own.

    Returns
    -------
    catalog : DataFrame
        One row an image: `image_id` (unique, relative to the source's root), `path`, `product_id`, `label`, `split`
        (both missing where the source does not say), the attributes of its `catalog.csv` as text, and `pixel_width` and
        `pixel_height`.
    rejected : DataFrame
        `image_id` and `reason` of each file that cannot be read as an image.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is nothing at `path`, the source is unknown, the archive is unsafe, a label or all images are missing.
    SourceUnavailableError
        If Kaggle cannot be reached or wants a token.
    """
    labels = [labels] if isinstance(labels, str) else labels
    photos = find_photos(source, path, labels=labels, limit=limit, workspace=workspace)
    root, rows = photos.root, photos.rows
    if rows.empty:
        hint = f"; {photos.rejected['reason'].iloc[0]}" if len(photos.rejected) else ""
        raise ValueError(f"No files in {root}; expected photos, or one folder a label: {root.name}/<label>/*.jpg{hint}")
    labels = labels or DEFAULT_LABELS.get(source, ())
    unknown = set(labels) - set(rows["label"])
    if unknown and source != "amazon":  # there a later line may have it, beyond the limit
        raise ValueError(f"No label {min(unknown)!r} in {root}; there are {sorted(set(rows['label'].dropna()))}.")
    rows = rows[rows["label"].isin(labels)].reset_index(drop=True) if labels else rows
    if most := max_per_class or DEFAULT_MAX_PER_CLASS.get(source):
        rows = _draw(rows, most, seed)
    bar = progress(rows["image_id"], total=len(rows), description="Checking photos")
    found = list(parallel_map(lambda image_id: _check(root, image_id), bar))
    good = np.array([size is not None for size, _ in found])
    rejected = pd.DataFrame({"image_id": rows["image_id"], "reason": [reason for _, reason in found]})[~good]
    if not good.any():
        raise ValueError(f"None of {len(rows)} files in {root} can be read as an image: {rejected.iloc[0].to_dict()}")
    rejected = pd.concat([photos.rejected, rejected], ignore_index=True)
    catalog = rows[good].reset_index(drop=True)
    catalog["path"] = [_path(root, image_id) for image_id in catalog["image_id"]]
    catalog[list(PIXEL_COLUMNS)] = [size for size, _ in found if size]
    catalog["product_id"] = catalog["product_id"].fillna(catalog["image_id"])
    attributes = [name for name in catalog.columns if name not in BASE_COLUMNS]
    return catalog[[*BASE_COLUMNS, *attributes]], rejected


def _draw(rows: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most so many rows of a label, in their old order; views of a product come together, stray files last."""
    products = rows["product_id"].fillna(rows["image_id"])
    stray = [PurePosixPath(name).suffix.lower() not in PHOTO_SUFFIXES for name in rows["image_id"]]
    order = rows.assign(stray=stray, lot=[lot(product, seed) for product in products])
    drawn = order.sort_values(["stray", "lot", "image_id"]).groupby("label", dropna=False).head(most)
    return rows.loc[drawn.index.sort_values()].reset_index(drop=True)


def _check(root: Path, image_id: str) -> tuple[tuple[int, int] | None, str]:
    """The size of an image and no reason, or no size and the reason why not."""
    try:
        image_id.encode("utf-8")
        return image_size(_path(root, image_id)), ""
    except ImageError as error:
        return None, error.reason
    except ValueError:  # no Unicode, or a zero byte in it
        return None, "no valid Unicode file name; rename it"


def _path(root: Path, image_id: str) -> str:
    return os.path.join(root, *PurePosixPath(image_id).parts)


def save_catalog(catalog: pd.DataFrame, file: str | Path) -> None:
    """Write a catalogue as CSV, whole or not at all; paths are relative to it, so that folders can move together.

    What `read_catalog` would refuse is not written: ValueError.
    """
    file = Path(file).absolute()
    paths = [Path(os.path.relpath(path, file.parent)).as_posix() for path in catalog["path"]]
    with written_aside(file) as aside:
        # With this line end, a carriage return inside a title is quoted too.
        catalog.assign(path=paths).to_csv(aside, index=False, encoding="utf-8", lineterminator="\r\n")
        read_catalog(aside)


def read_catalog(file: str | Path) -> pd.DataFrame:
    """Read what `save_catalog` wrote; `path` is absolute again.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it lacks a column of the contract, or says what cannot be.
    """
    file = Path(file).absolute()
    if not file.is_file():
        raise FileNotFoundError(f"No catalogue at {file}. Run 01_data.ipynb first.")
    rows = read_csv(file, BASE_COLUMNS)
    if rows["path"].isna().any():
        raise ValueError(f"{file}: image {rows['image_id'][rows['path'].isna()].iloc[0]!r} has no path.")
    nul = rows["image_id"].str.contains("\0", regex=False) | rows["path"].str.contains("\0", regex=False)
    if nul.any():
        raise ValueError(f"{file}: image {rows['image_id'][nul].iloc[0]!r} or its path holds a zero byte.")
    rows["path"] = [os.path.normpath(file.parent / path) for path in rows["path"]]
    try:
        return rows.astype({name: int for name in PIXEL_COLUMNS if name in rows})
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{file}: pixel_width and pixel_height must be whole numbers ({error}).") from None


def attribute_columns(catalog: pd.DataFrame, *, at_most: int = 30) -> list[str]:
    """The columns, beside label and size, that sort images into two to `at_most` kinds, such as colour."""
    others = [name for name in catalog if name not in (*BASE_COLUMNS, *PIXEL_COLUMNS)]
    return [name for name in others if 2 <= catalog[name].nunique() <= at_most]


def open_catalog(source: str, path: str | Path = "", *, workspace: Workspace) -> pd.DataFrame:
    """Read the catalogue that 01_data.ipynb wrote for a source.

    Where its photos are gone, because the machine is a new one, they are unpacked or downloaded again.

    Raises
    ------
    FileNotFoundError
        If there is no such catalogue, or a photo of it cannot be had again.
    """
    catalog = read_catalog(catalog_folder(source, path, workspace=workspace) / "catalog.csv")
    if not all(map(os.path.exists, catalog["path"])):
        find_photos(source, path, workspace=workspace)
    gone = [image_id for image_id, file in catalog[["image_id", "path"]].to_numpy() if not os.path.exists(file)]
    if gone:
        raise FileNotFoundError(
            f"{len(gone)} photos of the catalogue are gone, such as {gone[0]}. Run 01_data.ipynb again."
        )
    return catalog


def catalog_folder(source: str, path: str | Path = "", *, workspace: Workspace) -> Path:
    """Where 01_data.ipynb writes the catalogue of a source."""
    return workspace.data / "catalogs" / source_name(source, str(path))
