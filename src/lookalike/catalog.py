"""The catalogue: one row an image, opened once and checked, with product and label; to disk and
back.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from lookalike.images import PHOTO_SUFFIXES, ImageError, image_size
from lookalike.splits import draw_order
from lookalike.workspace import Workspace, parallel_map, progress, source_name, written_aside

BASE_COLUMNS = ("image_id", "path", "product_id", "label", "split")
PIXEL_COLUMNS = ("pixel_width", "pixel_height")
MAX_HEADER = 50_000  # bytes


def check_photos(
    root: Path,
    rows: pd.DataFrame,
    *,
    rejected: pd.DataFrame | None = None,
    max_per_class: int | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Open every photo that a source lists once: what can be read is the catalogue, the rest is
    rejected with a reason.

    Parameters
    ----------
    root
        The folder of the photos.
    rows
        One row a file: `image_id` (its path inside `root`), `product_id`, `label` and `split`
        (missing where the source does not say), and whatever else it says.
    rejected
        What the source itself has left out.
    max_per_class
        Take at most so many images of a label, the same ones for the same `seed`; None or 0: all.

    Returns
    -------
    catalog, rejected : DataFrame
        As `sources.load_catalog` gives them.

    Raises
    ------
    ValueError
        If no file can be read as an image.
    """
    if max_per_class:
        rows = _draw(rows, max_per_class, seed)
    bar = progress(rows["image_id"], total=len(rows), description="Checking photos")
    found = list(parallel_map(lambda image_id: _check(root, image_id), bar))
    good = np.array([size is not None for size, _ in found])
    bad = pd.DataFrame({"image_id": rows["image_id"], "reason": [reason for _, reason in found]})[
        ~good
    ]
    if not good.any():
        raise ValueError(
            f"None of {len(rows)} files in {root} can be read as an image: {bad.iloc[0].to_dict()}"
        )
    catalog = rows[good].reset_index(drop=True)
    catalog["path"] = [_path(root, image_id) for image_id in catalog["image_id"]]
    catalog[list(PIXEL_COLUMNS)] = [size for size, _ in found if size]
    catalog["product_id"] = catalog["product_id"].fillna(catalog["image_id"])
    attributes = [name for name in catalog.columns if name not in BASE_COLUMNS]
    return catalog[[*BASE_COLUMNS, *attributes]], pd.concat([rejected, bad], ignore_index=True)


def _draw(rows: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most so many rows of a label, in their old order; views of a product come together, stray
    files last.
    """
    products = rows["product_id"].fillna(rows["image_id"])
    stray = [PurePosixPath(name).suffix.lower() not in PHOTO_SUFFIXES for name in rows["image_id"]]
    drawn = rows.assign(stray=stray, order=[draw_order(product, seed) for product in products])
    drawn = (
        drawn.sort_values(["stray", "order", "image_id"]).groupby("label", dropna=False).head(most)
    )
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
    """Write a catalogue as CSV, whole or not at all; paths are relative to it, so that folders can
    move together.

    What `read_catalog` would refuse is not written: ValueError.
    """
    file = Path(file).absolute()
    paths = [Path(os.path.relpath(path, file.parent)).as_posix() for path in catalog["path"]]
    with written_aside(file) as aside:
        # With this line end, a carriage return inside a title is quoted too.
        catalog.assign(path=paths).to_csv(
            aside, index=False, encoding="utf-8", lineterminator="\r\n"
        )
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
        raise ValueError(
            f"{file}: image {rows['image_id'][rows['path'].isna()].iloc[0]!r} has no path."
        )
    nul = rows["image_id"].str.contains("\0", regex=False) | rows["path"].str.contains(
        "\0", regex=False
    )
    if nul.any():
        raise ValueError(
            f"{file}: image {rows['image_id'][nul].iloc[0]!r} or its path holds a zero byte."
        )
    rows["path"] = [os.path.normpath(file.parent / path) for path in rows["path"]]
    try:
        return rows.astype({name: int for name in PIXEL_COLUMNS if name in rows})
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{file}: pixel_width and pixel_height must be whole numbers ({error})."
        ) from None


def read_csv(file: Path, columns: Sequence[str] = ("image_id",)) -> pd.DataFrame:
    """Read a CSV as text, refused if it is broken, lacks one of `columns`, names an image twice, or
    one elsewhere.
    """
    with open(file, "rb") as stream:
        if len(b"".join(stream.read(MAX_HEADER + 1).splitlines()[:1])) > MAX_HEADER:
            raise ValueError(
                f"{file} begins with a line of more than {MAX_HEADER:,} bytes; no catalogue does."
            )
    options = {"keep_default_na": False, "na_values": [""], "encoding": "utf-8", "index_col": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row of too many fields
            rows = pd.read_csv(file, dtype=str, **options)
    except (
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
    ) as error:
        raise ValueError(f"{file} cannot be read as CSV in UTF-8: {error}") from None
    missing = [name for name in columns if name not in rows]
    if missing:
        raise ValueError(f"{file} has no column {', '.join(missing)}; it has {', '.join(rows)}.")
    rows["image_id"] = rows["image_id"].map(
        lambda name: PurePosixPath(name).as_posix(), na_action="ignore"
    )
    repeated = rows["image_id"][rows["image_id"].duplicated() | rows["image_id"].isna()]
    if len(repeated):
        raise ValueError(f"{file}: image_id must be given and unique; {repeated.iloc[0]!r} is not.")
    names = map(PurePosixPath, rows["image_id"])
    if outside := [str(name) for name in names if name.is_absolute() or ".." in name.parts]:
        raise ValueError(
            f"{file}: image_id {outside[0]!r} leaves the folder; ids are paths inside it."
        )
    return rows


def attribute_columns(catalog: pd.DataFrame, *, at_most: int = 30) -> list[str]:
    """The columns, beside label and size, that sort images into two to `at_most` kinds, such as
    colour.
    """
    others = [name for name in catalog if name not in (*BASE_COLUMNS, *PIXEL_COLUMNS)]
    return [name for name in others if 2 <= catalog[name].nunique() <= at_most]


def catalog_folder(source: str, path: str | Path = "", *, workspace: Workspace) -> Path:
    """Where 01_data.ipynb writes the catalogue of a source."""
    return workspace.data / "catalogs" / source_name(source, str(path))
