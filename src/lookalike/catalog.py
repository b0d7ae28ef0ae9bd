"""A source of photos to the catalogue: one row an image, checked, with product, label and split."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from lookalike.images import ImageError, image_size
from lookalike.sources import source_folder
from lookalike.workspace import Workspace, parallel_map, progress, written_aside

BASE_COLUMNS = ("image_id", "path", "product_id", "label", "split")
PIXEL_COLUMNS = ("pixel_width", "pixel_height")
SPLITS = ("train", "validation", "test")
SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_FOLDERS |= dict.fromkeys(("validation", "valid", "val"), "validation")
# Notes that lie beside photos, not photos.
SIDECAR_SUFFIXES = {".csv", ".json", ".jsonl", ".txt", ".md", ".xml", ".yaml", ".yml"}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ico"}
CATALOG_FILE = "catalog.csv"
LESSON_LABELS, MORE_LABELS = ("watch", "t-shirt", "bicycle", "shoe"), ("bag", "glasses", "hat")


def load_catalog(
    source: str, path: str | Path = "", *, labels: Sequence[str] = (), workspace: Workspace | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a source of product photos.

    Parameters
    ----------
    source
        "folder": `root/<label>/*`, `root/<split>/<label>/*` or flat, or any folder with a `catalog.csv` that lists its
        images; "zip": the same, zipped; "sample": the catalogue bundled with the project.
    path
        The folder or zip file; not used by "sample".
    labels
        Take only these; none named means all, of the sample the lesson's four (`MORE_LABELS` extend them).
    workspace
        Where a zip is unpacked (below `data`); None is the project's own.

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
    """
    root = _inner_folder(source_folder(source, path, workspace=workspace))
    listed = root / CATALOG_FILE
    rows = _rows_from_csv(listed) if listed.is_file() else _rows_from_names(root)
    if rows.empty:
        raise ValueError(f"No files in {root}; expected photos, or one folder a label: {root.name}/<label>/*.jpg")
    labels = labels or (LESSON_LABELS if source == "sample" else ())
    unknown = set(labels) - set(rows["label"])
    if unknown:
        raise ValueError(f"No label {min(unknown)!r} in {root}; there are {sorted(set(rows['label'].dropna()))}.")
    rows = rows[rows["label"].isin(labels)].reset_index(drop=True) if labels else rows
    bar = progress(rows["image_id"], total=len(rows), description="Checking photos")
    found = list(parallel_map(lambda image_id: _check(root, image_id), bar))
    good = np.array([size is not None for size, _ in found])
    rejected = pd.DataFrame({"image_id": rows["image_id"], "reason": [reason for _, reason in found]})[~good]
    rejected = rejected.reset_index(drop=True)
    if not good.any():
        raise ValueError(f"None of {len(rows)} files in {root} can be read as an image: {rejected.iloc[0].to_dict()}")
    catalog = rows[good].reset_index(drop=True)
    catalog["path"] = [_path(root, image_id) for image_id in catalog["image_id"]]
    catalog[list(PIXEL_COLUMNS)] = [size for size, _ in found if size]
    catalog["product_id"] = catalog["product_id"].fillna(catalog["image_id"])
    attributes = [name for name in catalog.columns if name not in BASE_COLUMNS]
    return catalog[[*BASE_COLUMNS, *attributes]], rejected


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


def _inner_folder(root: Path) -> Path:
    """Step into a folder that merely wraps the catalogue, as zips often do: `Photos/Photos/<label>/*`."""
    while not (root / CATALOG_FILE).is_file():
        inside = _photos_and_folders(root)
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].name.lower() in SPLIT_FOLDERS:
            return root
        if not any(map(Path.is_dir, _photos_and_folders(inside[0]))) and not (inside[0] / CATALOG_FILE).is_file():
            return root  # one folder of photos is a catalogue of one label
        root = inside[0]
    return root


def _is_wanted(name: str) -> bool:
    hidden = name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
    return not hidden and Path(name).suffix.lower() not in SIDECAR_SUFFIXES


def _photos_and_folders(folder: Path) -> list[Path]:
    """What counts in a folder; links to folders do not, as they could lead anywhere, or round in circles."""
    return [
        entry for entry in folder.iterdir() if _is_wanted(entry.name) and not (entry.is_symlink() and entry.is_dir())
    ]


def _rows_from_names(root: Path) -> pd.DataFrame:
    """Label and split from the folders a file lies in; symbolic links to folders are not followed."""
    names = []
    for folder, subfolders, files in os.walk(root):
        # A link to a folder, or a folder that poses as an image, is not entered but reported with the files.
        odd = [
            name
            for name in subfolders
            if os.path.islink(os.path.join(folder, name)) or Path(name).suffix.lower() in PHOTO_SUFFIXES
        ]
        subfolders[:] = sorted(name for name in subfolders if _is_wanted(name) and name not in odd)
        inside = Path(folder).relative_to(root)
        names += [(inside / name).as_posix() for name in sorted(files + odd) if _is_wanted(name)]
    tops = {PurePosixPath(name).parts[0].lower() for name in names if "/" in name}
    has_splits = bool(tops) and tops <= SPLIT_FOLDERS.keys()
    if not has_splits and len(tops & SPLIT_FOLDERS.keys()) > 1:
        odd = ", ".join(sorted(tops - SPLIT_FOLDERS.keys()))
        raise ValueError(f"{root} holds folders for splits and others ({odd}); move the others away, or into a split.")
    rows = []
    for name in names:
        *folders, _ = PurePosixPath(name).parts
        split = SPLIT_FOLDERS[folders.pop(0).lower()] if has_splits and folders else None
        rows.append((name, None, folders[0] if folders else None, split))
    return pd.DataFrame(rows, columns=["image_id", "product_id", "label", "split"], dtype=object)


def _rows_from_csv(file: Path) -> pd.DataFrame:
    rows = _read_csv(file)
    names = [PurePosixPath(name) for name in rows["image_id"]]
    outside = [str(name) for name in names if name.is_absolute() or ".." in name.parts]
    if outside:
        raise ValueError(f"{file}: image_id {outside[0]!r} leaves the folder; ids are paths inside it.")
    for name in ("product_id", "label", "split"):
        rows[name] = rows[name].astype(object).where(rows[name].notna(), None) if name in rows else None
    unknown = set(rows["split"].dropna()) - set(SPLITS)
    if unknown:
        raise ValueError(f"{file}: a split is one of {', '.join(SPLITS)}, not {min(unknown)!r}.")
    return rows.drop(columns=[name for name in ("path", *PIXEL_COLUMNS) if name in rows])


def _read_csv(file: Path, columns: Sequence[str] = ("image_id",)) -> pd.DataFrame:
    options = {"keep_default_na": False, "na_values": [""], "encoding": "utf-8", "index_col": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row of too many fields
            rows = pd.read_csv(file, dtype=str, **options)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as CSV in UTF-8: {error}") from None
    missing = [name for name in columns if name not in rows]
    if missing:
        raise ValueError(f"{file} has no column {', '.join(missing)}; it has {', '.join(rows)}.")
    rows["image_id"] = rows["image_id"].map(lambda name: PurePosixPath(name).as_posix(), na_action="ignore")
    repeated = rows["image_id"][rows["image_id"].duplicated() | rows["image_id"].isna()]
    if len(repeated):
        raise ValueError(f"{file}: image_id must be given and unique; {repeated.iloc[0]!r} is not.")
    return rows


def save_catalog(catalog: pd.DataFrame, file: str | Path) -> None:
    """Write a catalogue as CSV, whole or not at all; paths are relative to it, so that folders can move together."""
    file = Path(file).absolute()
    paths = [Path(os.path.relpath(path, file.parent)).as_posix() for path in catalog["path"]]
    with written_aside(file) as aside:
        # With this line end, a carriage return inside a title is quoted too.
        catalog.assign(path=paths).to_csv(aside, index=False, encoding="utf-8", lineterminator="\r\n")


def read_catalog(file: str | Path) -> pd.DataFrame:
    """Read what `save_catalog` wrote; `path` is absolute again.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it lacks a column of the contract.
    """
    file = Path(file).absolute()
    if not file.is_file():
        raise FileNotFoundError(f"No catalogue at {file}.")
    rows = _read_csv(file, BASE_COLUMNS)
    if rows["path"].isna().any():
        raise ValueError(f"{file}: image {rows['image_id'][rows['path'].isna()].iloc[0]!r} has no path.")
    rows["path"] = [os.path.normpath(file.parent / path) for path in rows["path"]]
    return rows.astype({name: int for name in PIXEL_COLUMNS if name in rows})


def split_catalog(
    catalog: pd.DataFrame, *, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0
) -> pd.DataFrame:
    """Assign each product without a split to train, validation or test, stratified by label.

    All views of a product go to one side, or a photo would be found by its own twin. Splits that the source names are
    kept. The order of the rows does not matter: products are drawn in the order of a hash of their id and the seed.

    Parameters
    ----------
    fractions
        Shares of train, validation and test; they add up to 1.

    Returns
    -------
    A copy of the catalogue with `split` filled in. A label with few products fills train first.
    """
    if len(fractions) != len(SPLITS) or not (min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
        raise ValueError(f"fractions must be three shares that add up to 1, not {tuple(fractions)}.")
    ordered = catalog.sort_values("image_id")  # so that a product whose views disagree is what its first view is
    known = ordered.dropna(subset="split").drop_duplicates("product_id").set_index("product_id")["split"].to_dict()
    products = ordered[~ordered["product_id"].isin(known)].drop_duplicates("product_id")
    for _, group in products.groupby("label", dropna=False):
        drawn = sorted(group["product_id"], key=lambda product: hashlib.sha256(f"{seed}:{product}".encode()).digest())
        for split, count in zip(SPLITS, _shares(fractions, len(drawn)), strict=True):
            known |= dict.fromkeys(drawn[:count], split)
            drawn = drawn[count:]
    split = catalog["split"].where(catalog["split"].notna(), catalog["product_id"].map(known))
    return catalog.assign(split=split)


def _shares(fractions: Sequence[float], count: int) -> np.ndarray:
    """Whole numbers that add up to `count`, each within one of its fraction; train gets at least one if it can."""
    exact = np.asarray(fractions) * count
    shares = np.floor(exact + 1e-9).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    if shares[0] == 0 and fractions[0] > 0:
        shares[np.argmax(np.where(shares > 0, shares - exact, -np.inf))] -= 1
        shares[0] = 1
    return shares
