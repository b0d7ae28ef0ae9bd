"""The catalogue: one row an image, opened once and checked, with product and label; to disk and
back.
"""

import hashlib
import os
from pathlib import Path

import pandas as pd

from lookalike.images import ImageError, photo_facts
from lookalike.machine import parallel_map, progress
from lookalike.splits import draw_order
from lookalike.workspace import plain_path, project_root, written_aside

BASE_COLUMNS = ("image_id", "path", "product_id", "label", "split")
# What the one reading of each file tells.
FILE_COLUMNS = {
    "sha256": str,
    "bytes": int,
    "mtime": float,
    "pixel_width": int,
    "pixel_height": int,
}


def check_photos(rows, *, rejected=(), at_most=None, seed=0):
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
    good = facts["reason"].isna()
    unread = [*zip(rows["image_id"][~good], facts["reason"][~good], strict=True)]
    if not good.any():
        raise ValueError(f"None of {len(rows)} files is a photo: {unread[:1]}.")
    parts = [rows[[*BASE_COLUMNS]], facts[[*FILE_COLUMNS]], rows.drop(columns=[*BASE_COLUMNS])]
    catalog = pd.concat(parts, axis=1)[good].astype(FILE_COLUMNS).reset_index(drop=True)
    catalog["product_id"] = catalog["product_id"].fillna(catalog["image_id"])
    left_out = [*rejected, *unread]
    return catalog, pd.DataFrame(left_out, columns=["image_id", "reason"], dtype=object)


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


def save_catalog(catalog, file):
    """Write a catalogue as CSV, whole or not at all; paths are relative to it, so that folders can
    move together.

    What `read_catalog` would refuse is not written: ValueError.
    """
    file = Path(file).absolute()
    paths = [_seen_from(file.parent, path) for path in catalog["path"]]
    with written_aside(file) as aside:
        # With this line end, a carriage return inside a title is quoted too.
        catalog.assign(path=paths).to_csv(aside, index=False, lineterminator="\r\n")
        read_catalog(aside)


def _seen_from(folder, path):
    """A path as it is from a folder; as it is where they lie on two disks of Windows."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path)


def read_catalog(file):
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
        first = rows[[*BASE_COLUMNS]]
        bad = first["image_id"].duplicated() | first["path"].isna()
        if bad.any():
            name = rows["image_id"][bad].iloc[0]
            raise ValueError(f"image_id {name!r} is there twice, or has no path")
        rows = rows.astype({name: kind for name, kind in FILE_COLUMNS.items() if name in rows})
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} is no catalogue: {error}.") from None
    return rows.assign(path=[os.path.normpath(file.parent / path) for path in rows["path"]])


def catalog_name(source, path="", *, workspace):
    """The name of a source's catalogue, and of the stores and models that are made from it.

    Two folders both called "photos" get two names. What lies inside the project, or the root of
    the workspace, keeps its name when that is moved or copied; so does a folder that was moved,
    known by its first photo.
    """
    path = plain_path(path)
    if not path:
        return source
    place = Path(os.path.abspath(path))
    written = place
    for root in (project_root(), workspace.root):
        if place.is_relative_to(root):
            written = place.relative_to(root)
    name = f"{place.stem}-{hashlib.sha256(written.as_posix().encode()).hexdigest()[:6]}"
    catalogs = workspace.data / "catalogs"
    if place.is_dir() and not (catalogs / name).exists():
        for file in sorted(catalogs.glob("*/catalog.csv")):
            if _moved(read_catalog(file), place):
                return file.parent.name
    return name


def _moved(rows, place):
    """Whether the first photo of a catalogue has gone from where it was, and is at `place` now."""
    first = rows.iloc[0]
    now = place / first["image_id"]
    gone = now.is_file() and not os.path.exists(first["path"])
    return gone and now.stat().st_size == first["bytes"]


def catalog_folder(source, path="", *, workspace):
    """Where 01_data.ipynb writes the catalogue of a source."""
    return workspace.data / "catalogs" / catalog_name(source, path, workspace=workspace)
