"""A list beside photos, CSV or Excel: which of its columns names the files, and what others say."""

import re
import warnings

import pandas as pd

from lookalike.catalog import BASE_COLUMNS, FILE_COLUMNS
from lookalike.images import PHOTO_SUFFIXES
from lookalike.sources.layouts import split_in
from lookalike.sources.tables import read_table

# What a column holds, by its name without blanks and signs; the first that is there counts.
LABELS = (
    "label labels class classname classlabel category categoryname producttypename producttype"
    " articletype categories subcategory mastercategory kind breed species target kategorie"
    " klasse tag"
    " type"
)
PRODUCTS = (
    "productid productcode product productnumber sku asin parentasin itemid modelid styleid groupid"
    " articleid ean gtin"
)
NAMES = {"label": LABELS, "product_id": PRODUCTS, "split": "split set subset partition traintest"}
# What does not count of a file's name, or of a number in Excel.
SUFFIX = re.compile(rf"({'|'.join(PHOTO_SUFFIXES)}|.0)$".replace(".", r"\."))
NOTHING = re.compile(r"(-+|\?|#?n/a|nan|null|none)?", re.IGNORECASE)
# What no product has for an id: Excel's exponents, zeros, words for nothing.
NO_ID = re.compile(rf"{NOTHING.pattern}|na|unknown|0+|\d([.,]\d+)?e\+?\d+", re.IGNORECASE)
# What the texts in a column mean; None where they mean nothing.
MEANINGS = {
    "label": lambda text: None if NOTHING.fullmatch(text) else text,
    "product_id": lambda text: None if NO_ID.fullmatch(text) else text,
    "split": split_in,
}


def read_lists(files, image_ids, columns):
    """What the lists beside photos say of those that they name; what is no such list is left out.

    Parameters
    ----------
    columns
        What the lists' columns are, by their names: `{"file": "Bild", "label": "Kategorie"}`. What
        is not named is found by what the columns hold, and by how they are called.

    Returns
    -------
    rows : DataFrame
        By image_id `label`, `product_id` and `split` where a list tells them, its other columns;
        empty where no file is a list of these photos.
    rejected : list of (name, reason)
        Photos that no list names, names without a photo, and broken rows.
    told : str
        The lists that were read, and what their columns were taken for.
    """
    lists = []
    there = set()
    for file in files:
        try:
            table, broken = read_table(file)
            column, rows = _match(table, image_ids, columns.get("file"))
        # Excel's and pandas' errors are of many kinds, and most lists beside photos are of others.
        except Exception as error:
            if file.stem.lower() == "catalog":
                raise ValueError(f"{file}: {error}") from None
            warnings.warn(f"{file.name} is not used: {error}")
            continue
        there |= {*table}
        if rows.empty:
            continue
        names = table[column]
        same_name = _key(rows.index.to_series()).duplicated()
        if unclear := [*names[names.duplicated()], *rows.index[rows.duplicated() & same_name]]:
            warnings.warn(
                f"{file.name} has two rows, or there are two photos, for {unclear[0]!r} and "
                f"{len(unclear) - 1} others."
            )
        left_out = [(row[0], f"its row in {file.name} has {len(row)} fields") for row in broken]
        gone = names[~names.isin(names[rows])]
        left_out += [(name, f"there is no such file, though {file.name} names it") for name in gone]
        table, used = _with_our_names(table, {**columns, "file": column}, file)
        listed = table.loc[rows].set_index(rows.index.rename("image_id"))
        lists.append((listed, left_out, f"{file.name} ({used})"))
    if lists and (unknown := {*columns.values()} - there):
        raise ValueError(f"No list has a column {min(unknown)!r}; there are {sorted(there)}.")
    # Of two that tell the same of a photo the one with labels counts, or else the longer.
    lists.sort(key=lambda each: ("label" in each[0], len(each[0])), reverse=True)
    listed = pd.DataFrame()
    for part, _, _ in lists:
        listed = listed.combine_first(part)
    rejected = [reason for _, left_out, _ in lists for reason in left_out]
    return listed, rejected, " and ".join(used for _, _, used in lists)


def _match(table, image_ids, asked):
    """The column that names the files, and the row for each photo that it names.

    Folders count as far as it takes them to tell the photos apart, since a list may come from
    another machine. One row may stand for all photos of a product: 4711_1.jpg, or 4711/1.jpg.
    """
    photos = pd.Series(image_ids, image_ids)
    keys = [(depth, _key(photos, depth)) for depth in (9, 2, 1)]
    stems = keys[-1][1]
    if _key(table.columns[:1].to_series()).isin(stems).any():
        raise ValueError(f"it has no header, but begins with {table.columns[0]}; give it one")
    keys += [(1, stems.str.replace(r"[-_ .]+\(?\d+\)?$", "", regex=True))]
    keys += [(1, _key(photos.str.rpartition("/")[0]))]
    best = "", pd.Series(dtype=int), (0, 0)
    for column in [asked] if asked in table else table:
        names = table[column][table[column] != ""]
        # What counts the rows may count anything, unless there are as many photos.
        counts = names.isin(map(str, range(len(names) + 1))).all()
        few = len(photos) if counts else min(names.nunique(), len(photos))
        for depth, key in keys:
            named = _key(names, depth).drop_duplicates()
            rows = key.map(pd.Series(named.index, named)).dropna().astype(int)
            enough = 2 * len(rows) >= few and 2 * len(named) >= len(names)
            merit = rows.nunique(), names.str.contains(r"[./]").mean()
            if enough and merit > best[2]:
                best = column, rows, merit
    return best[:2]


def _key(names, depth=1):
    """What is compared of files' names: no ending, no zeros that Excel drops, `depth` parts."""
    plain = names.astype(str).str.normalize("NFC").str.casefold().str.strip()
    plain = plain.str.replace(SUFFIX, "", regex=True).str.split(r"[\\/]", regex=True)
    return plain.str[-depth:].str.join("/").str.replace(r"^0+(?=.)", "", regex=True)


def _with_our_names(table, columns, file):
    """The list's columns under the catalogue's names, and what was taken for what."""
    plain = {re.sub(r"[\W_]", "", name).casefold(): name for name in table}
    used = {}
    for kind, words in NAMES.items():
        for word in filter(plain.get, reversed(words.split())):
            used[kind] = plain[word]
    used |= {kind: name for kind, name in columns.items() if name in table}
    rows = table.drop(columns=[*used.values(), *BASE_COLUMNS, *FILE_COLUMNS], errors="ignore")
    rows = rows.assign(**{kind: table[name].str.strip() for kind, name in used.items()})
    for kind, meaning in MEANINGS.items():
        if kind in rows:
            meant = rows[kind].map(meaning)
            if nothing := sorted({*rows[kind][meant.isna()]}):
                warnings.warn(f"{file.name}: as {kind}, {nothing} mean nothing; left out.")
            rows[kind] = meant
    if "split" not in rows and split_in(file.stem):
        rows["split"] = split_in(file.stem)
    used = ", ".join(f"{kind} = {name}" for kind, name in used.items())
    return rows.drop(columns="file").replace("", None), used
