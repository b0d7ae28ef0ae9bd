"""A source of photos to the catalogue: the sample, a folder or zip, Kaggle, Amazon."""

import os
import warnings
from pathlib import Path

from lookalike.catalog import catalog_folder, catalog_name, check_photos, read_catalog
from lookalike.sources.amazon import amazon_photos
from lookalike.sources.archives import refuse_address, unpack
from lookalike.sources.kaggle_sets import FASHION_COLUMNS, KAGGLE, caltech_rows, kaggle_folder
from lookalike.sources.layouts import find_thumbnails, list_files, read_folders, split_in
from lookalike.sources.lists import read_lists
from lookalike.splits import three_splits
from lookalike.workspace import open_workspace, plain_path, project_root

SOURCES = ("sample", "folder", "zip", *KAGGLE, "amazon")
LESSON_LABELS = ("watch", "t-shirt", "bicycle", "shoe")
# What is taken when nothing else is asked for.
DEFAULT_LABELS = {"sample": LESSON_LABELS, "caltech256": LESSON_LABELS}
LISTS = (".csv", ".tsv", ".xlsx")
MAX_LIST_BYTES = 100_000_000
# Folders of pictures that are no photos, in sets made for segmentation.
MASKS = r"(?i)(?:^|/)(?:masks?|annotations?|trimaps?)(?:/|$)"


def load_catalog(
    source,
    path="",
    *,
    labels=(),
    at_most=None,
    label="parent",
    columns=None,
    seed=0,
    workspace=None,
):
    """Read a source of product photos, and say in one line how their labels were found.

    Parameters
    ----------
    source
        "folder" or "zip": photos in folders by label or split, beside a list, or in one folder;
        "sample": the catalogue bundled with the project; "caltech256" and "fashion-small": from
        Kaggle; "amazon": the products of a metadata file.
    path
        The folder, archive or metadata file; of Kaggle's, a copy downloaded before, if there is
        one; none for "sample".
    labels
        Take only these: a list, or a text with commas; none named means all, of the sample and
        Caltech-256 the lesson's four.
    at_most
        Take at most so many images of a label, the same ones for the same `seed`, of Amazon so many
        products; None or 0: all, of Caltech-256 200, of Amazon 1,000.
    label
        "parent": a label is the folder that a photo lies in; "top": the topmost, below wrappers and
        splits; or the name of a list's column.
    columns
        What a list's columns are, where they are not found: `{"file": "Bild", "label": "Art"}`.
    workspace
        Where photos are downloaded and unpacked (below `data`); None is the project's own.

    Returns
    -------
    catalog : DataFrame
        One row an image: `image_id` (its path inside the source), `path`, `product_id`, `label`,
        `split` (both missing where the source does not say), `sha256`, `bytes`, `mtime`,
        `pixel_width`, `pixel_height`, and a list's other columns as text.
    rejected : DataFrame
        `image_id` and `reason` of what was set aside.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is nothing at `path`, the source is unknown, the zip is damaged, a label or all
        images are missing.
    SourceUnavailableError
        If Kaggle cannot be reached or wants a token.

    Warns
    -----
    UserWarning
        Where the labels may be others than were meant.
    """
    path = plain_path(path)
    folder = source_folder(source, path, workspace)
    if source == "amazon":
        if isinstance(labels, str):
            # A category may hold a comma itself.
            labels = [labels, *labels.split(",")]
        rows, rejected = amazon_photos(path, folder, labels=labels, at_most=at_most or 1000)
        print(
            f"{len(rows):,} photos; a label is the deepest category of those asked for, or of all"
        )
        return check_photos(rows, rejected=rejected)
    columns = columns or {}
    if source == "fashion-small":
        columns = FASHION_COLUMNS | columns
    rows, rejected = read_photos(source, folder, labels, label, columns)
    if source == "caltech256":
        at_most = at_most or 200
    return check_photos(rows, rejected=rejected, at_most=at_most, seed=seed)


def open_catalog(source, path="", *, workspace):
    """Read the catalogue that 01_data.ipynb wrote for a source.

    Where its photos are gone, since they or the project have moved, they are found again by their
    names, and unpacked or downloaded if need be. It comes with three splits, as `three_splits`
    makes them of two.

    Raises
    ------
    FileNotFoundError
        If there is no such catalogue, or a photo of it cannot be had again.
    """
    catalog = read_catalog(catalog_folder(source, path, workspace=workspace) / "catalog.csv")
    gone = ~catalog["path"].map(os.path.exists)
    if gone.any():
        paths, _, _ = list_files(str(source_folder(source, plain_path(path), workspace)))
        catalog["path"] = catalog["image_id"].map(paths)
        gone = catalog["path"].isna()
    if gone.any():
        first = catalog["image_id"][gone].iloc[0]
        raise FileNotFoundError(
            f"{gone.sum()} photos are gone, such as {first}. Run 01_data.ipynb again."
        )
    return three_splits(catalog)


def source_folder(source, path, workspace):
    """Where the photos of a source lie, downloaded and unpacked if need be."""
    work = workspace or open_workspace()
    if source not in SOURCES:
        raise ValueError(f"Unknown source {source!r}; choose one of {', '.join(SOURCES)}.")
    if source == "sample":
        if path:
            raise ValueError(
                f"The sample takes no path; for {path} use source='folder' or 'zip'."
            )
        return project_root() / "data" / "sample"
    if not path:
        if source in KAGGLE:
            return kaggle_folder(source)
        raise ValueError(
            f"The source {source!r} needs a path, to your photos or their metadata."
        )
    refuse_address(path)
    place = Path(os.path.abspath(path))
    if source == "amazon":
        return work.downloads / f"amazon-{catalog_name(source, path, workspace=work)}"
    return place if place.is_dir() else unpack(place, work.downloads)


def read_photos(source, folder, labels, label, columns):
    """A row for each photo in a folder, with what a list beside them, or their folders, say.

    Says in one line what that is, and warns where it is doubtful. No photo is opened.

    Returns
    -------
    rows : DataFrame
        `image_id`, `path`, `label`, `split`, `product_id`, a list's other columns.
    rejected : list of (name, reason)
    """
    paths, others, rejected = list_files(str(folder))
    copies = find_thumbnails(paths.index)
    rejected += [(name, "by its name another size of a photo") for name in copies]
    paths = paths.drop(copies)
    if paths.empty:
        raise ValueError(
            f"No photos in {folder}; expected one folder a label, such as shoe/1.jpg; "
            f"there is {_some(others)}. Set aside: {rejected[:1]}"
        )
    by_folder, how = read_folders(paths.index, label)
    if label not in ("parent", "top"):
        columns = {**columns, "label": label}
    # A competition's guesses are no labels, and a log of sales would fill memory.
    lists = [
        file
        for file in map(folder.joinpath, others)
        if file.suffix.lower() in LISTS
        and "submission" not in file.name
        and file.stat().st_size < MAX_LIST_BYTES
    ]
    listed, left_out, used = read_lists(lists, paths.index, columns)
    rejected += left_out
    if not used and (columns or "catalog.csv" in map(str.lower, others)):
        raise ValueError(
            f"No list names the photos in {folder}: neither {_some(map(str, lists))}, "
            f'by {columns}. Say which column does: columns={{"file": ...}}.'
        )
    if label == "top":
        listed = listed.drop(columns="label", errors="ignore")
    rows = listed.reindex(paths.index).astype(object).join(paths)
    for name in by_folder:
        rows[name] = rows.get(name, by_folder[name]).fillna(by_folder[name])
    # Shopify labels the first photo of a product alone.
    of_product = rows.groupby("product_id")["label"].transform("first")
    rows["label"] = rows["label"].fillna(of_product)
    if "label" in listed:
        how = used
        # Neither a list nor a folder labels them, such as the test photos of a competition.
        left = rows.index[rows["label"].isna()].difference(listed.index)
        rejected += [(name, f"not in {used}") for name in left]
        rows = rows.drop(left)
    rows = rows.reset_index(names="image_id")
    if source == "caltech256":
        rows = caltech_rows(rows)
    _warn_of_doubts(rows)
    if wanted := labels or DEFAULT_LABELS.get(source):
        rows = rows[rows["label"].isin(_chosen(wanted, rows["label"]))]
    unused = [name for name in others if os.path.basename(name) not in used]
    line = (
        f"{len(rows):,} photos. Labels, from {how or 'no folder or list'}: {_some(rows['label'])}. "
        f"Splits: {_some(rows['split'])}. Set aside: {len(rejected):,}. "
        f"Not used: {_some(unused, 3)}."
    )
    if used not in ("", how):
        line += f" List: {used}."
    print(line)
    return rows, rejected


def _warn_of_doubts(rows):
    """Warn where the labels may be others than were meant."""
    counts = rows["label"].value_counts()
    labels = _some(counts.index)
    odd = [name for name in counts.index if split_in(name)]
    folders = rows["image_id"].str.rpartition("/")[0]
    unnamed = rows["image_id"][rows["label"].isna()]
    same = counts.index[counts.index.str.casefold().duplicated(keep=False)]
    doubts = {
        f"no folder ({_some(folders)}) and no list names a label": counts.empty,
        f"{_some(unnamed, 1)}, beside {labels}, have no label": len(unnamed) and len(counts),
        f"there is one label, or one photo of each: {labels}": 1 in (len(counts), counts.max()),
        f"a label is called {_some(odd)}": odd,
        f"{_some(same)} are different labels": len(same),
        "photos lie in a folder of masks": folders.str.contains(MASKS).any(),
    }
    for doubt, is_there in doubts.items():
        if is_there:
            warnings.warn(
                f"Is it right that {doubt}? If not, put photos into folders of their labels, or a "
                'catalog.csv beside them, or say which column of a list tells: columns={"label": '
                '...}; label="top" takes the topmost folders.'
            )


def _some(names, most=8):
    """The first of the different names, and how many more there are."""
    names = [name for name in dict.fromkeys(names) if isinstance(name, str)]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def _chosen(wanted, labels):
    """The labels that were asked for; ValueError where one is not there."""
    there = {*labels.dropna()}
    if isinstance(wanted, str):
        wanted = [wanted] if wanted in there else wanted.split(",")
    asked = {name.strip() for name in wanted} - {""}
    if missing := asked - there:
        raise ValueError(f"No label {min(missing)!r}; there are {_some(sorted(there), 30)}.")
    return asked
