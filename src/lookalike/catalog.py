"""The catalogue: one row an image, opened once and checked, with product and label; to disk and
back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lookalike.images import ImageError, photo_facts
from lookalike.machine import parallel_map, progress
from lookalike.splits import draw_order
from lookalike.workspace import Workspace, plain_path, project_root, written_aside

BASE_COLUMNS = ("image_id", "path", "product_id", "label", "split")
# What the one reading of each file tells.
FILE_COLUMNS = {
    "sha256": str,
    "bytes": int,
    "mtime": float,
    "pixel_width": int,
    "pixel_height": int,
}


def check_photos(
    rows: pd.DataFrame,
    *,
    rejected: Sequence[tuple[str, str]] = (),
    at_most: int | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every photo that a source lists once: what can be read is the catalogue.

    Parameters
    ----------
    rows
        One row a file: `image_id`, `path`, `product_id`, `label`, `split` (missing where the source
        does not say), and whatever else it says.
    rejected
        Name and reason of what the source itself has left out.
    at_most
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
    if at_most:
        rows = _draw(rows, at_most, seed)
    bar = progress(rows["path"], total=len(rows), description="Checking photos")
    facts = pd.DataFrame(parallel_map(_facts, bar), rows.index, [*FILE_COLUMNS, "reason"])
    bad = facts["reason"].notna()
    reasons = pd.DataFrame({"image_id": rows["image_id"], "reason": facts["reason"]})[bad]
    if bad.all():
        first = [*reasons.itertuples(index=False, name=None), *rejected][:1]
        raise ValueError(f"None of {len(rows)} files is a photo: {first}.")
    catalog = rows.join(facts[[*FILE_COLUMNS]])[~bad].astype(FILE_COLUMNS).reset_index(drop=True)
    catalog["product_id"] = catalog["product_id"].fillna(catalog["image_id"])
    first = [*BASE_COLUMNS, *FILE_COLUMNS]
    left_out = pd.DataFrame([*rejected], columns=["image_id", "reason"], dtype=object)
    catalog = catalog[first + [name for name in catalog if name not in first]]
    return catalog, pd.concat([left_out, reasons], ignore_index=True)


def _draw(rows, most, seed):
    """At most so many rows of a label, in their old order; views of a product come together."""
    products = rows["product_id"].fillna(rows["image_id"])
    drawn = rows.assign(order=[draw_order(product, seed) for product in products])
    drawn = drawn.sort_values(["order", "image_id"]).groupby("label", dropna=False).head(most)
    return rows.loc[drawn.index.sort_values()]


def _facts(path):
    """What the reading of a photo tells, or the reason why it cannot be read."""
    try:
        path.encode("utf-8")
        return photo_facts(path)
    except ImageError as error:
        return {"reason": error.reason}
    except ValueError:
        return {"reason": "its name is no valid Unicode; rename it"}


def save_catalog(catalog: pd.DataFrame, file: str | Path) -> None:
    """Write a catalogue as CSV, whole or not at all; paths are relative to it, so that folders can
    move together.

    What `read_catalog` would refuse is not written: ValueError.
    """
    file = Path(file).absolute()
    paths = [_seen_from(file.parent, path) for path in catalog["path"]]
    with written_aside(file) as aside:
        # With this line end, a carriage return inside a title is quoted too.
        catalog.assign(path=paths).to_csv(
            aside, index=False, encoding="utf-8", lineterminator="\r\n"
        )
        read_catalog(aside)


def _seen_from(folder, path):
    """A path as it is from a folder; as it is where they lie on two disks of Windows."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path)


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
    try:
        rows = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""])
        if not isinstance(rows.index, pd.RangeIndex):
            raise ValueError("its rows have more fields than its header")
        bad = rows["image_id"].duplicated() | rows[["image_id", "path"]].isna().any(axis=1)
        if bad.any():
            raise ValueError(
                f"image_id {rows['image_id'][bad].iloc[0]!r} is there twice, or no path"
            )
        rows = rows.astype({name: kind for name, kind in FILE_COLUMNS.items() if name in rows})
        paths = [os.path.normpath(file.parent / path) for path in rows["path"]]
        return rows.assign(path=paths)[
            [*BASE_COLUMNS, *rows.columns.difference(BASE_COLUMNS, sort=False)]
        ]
    except (ValueError, OverflowError, KeyError) as error:
        raise ValueError(f"{file} is no catalogue: {error}.") from None


def attribute_columns(catalog: pd.DataFrame, *, at_most: int = 30) -> list[str]:
    """The columns, beside label and size, that sort images into two to `at_most` kinds, such as
    colour.
    """
    others = [name for name in catalog if name not in (*BASE_COLUMNS, *FILE_COLUMNS)]
    return [name for name in others if 2 <= catalog[name].nunique() <= at_most]


def catalog_name(source: str, path: str | Path = "", *, workspace: Workspace) -> str:
    """The name of a source's catalogue, and of the stores and models that are made from it.

    Two folders both called "photos" get two names. What lies inside the project, or the root of
    the workspace, keeps its name when that is moved or copied; so does a folder that was moved,
    known by the sizes of its photos.
    """
    path = plain_path(path)
    if not path:
        return source
    place = Path(os.path.abspath(path))
    within = [root for root in (workspace.root, project_root()) if place.is_relative_to(root)]
    written = place.relative_to(within[0]) if within else place
    name = f"{place.stem}-{hashlib.sha256(written.as_posix().encode()).hexdigest()[:6]}"
    catalogs = workspace.data / "catalogs"
    if (catalogs / name).exists() or not place.is_dir():
        return name
    moved = (file for file in sorted(catalogs.glob("*/catalog.csv")) if _holds(place, file))
    return next((file.parent.name for file in moved), name)


def _holds(place, file):
    """Whether the photos of a catalogue have gone from where they were, and are at `place` now."""
    try:
        rows = read_catalog(file).head(100)
    except ValueError:
        return False
    if "bytes" not in rows or rows["path"].map(os.path.exists).any():
        return False
    files = zip([place / image_id for image_id in rows["image_id"]], rows["bytes"], strict=True)
    there = [file.is_file() and file.stat().st_size == size for file, size in files]
    return 2 * sum(there) > len(there)


def catalog_folder(source: str, path: str | Path = "", *, workspace: Workspace) -> Path:
    """Where 01_data.ipynb writes the catalogue of a source."""
    return workspace.data / "catalogs" / catalog_name(source, path, workspace=workspace)
