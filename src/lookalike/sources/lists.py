"""A list beside photos, CSV or Excel: which of its columns names the files, and what others say."""

import re
import warnings

import pandas as pd

from lookalike.catalog import BASE_COLUMNS, FILE_COLUMNS
from lookalike.sources.layouts import split_in
from lookalike.sources.tables import read_table

# What a column holds, by its name without blanks and signs; the first that is there counts.
NAMES = {
    "label": "label labels class classname category categoryname producttypename producttype"
    " articletype categories subcategory kind breed species target kategorie klasse tag type",
    "product_id": "productid productcode product sku asin itemid styleid articleid handle ean gtin",
    "split": "split set subset partition traintest",
}
# What does not count of a file's name, or of a number in Excel.
SUFFIX = r"\.(jpe?g|png|webp|gif|bmp|tiff?|hei[cf]|avif|0)(\?.*)?$"
# Words for nothing; and numbers that Excel has cut short, such as 4.00638E+12.
NOTHING = re.compile(r"(-+|\?|#?n/?a|nan|null|none|\d([.,]\d+)?e\+?\d+)?", re.IGNORECASE)


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
        Names without a photo, and broken rows.
    told : str
        The lists that were read, and what their columns were taken for.
    """
    listed = pd.DataFrame()
    rejected = []
    told = []
    there = set()
    for file in files:
        try:
            table, broken = read_table(file)
            column, rows = _match(table, image_ids, columns.get("file"))
        # Excel's and pandas' errors are of many kinds, and most lists beside photos are of others.
        except Exception as error:
            warnings.warn(f"{file.name} is not used: {error}")
            continue
        there |= {*table}
        if rows.empty:
            continue
        names = table[column]
        _warn_of_doubles(file, names, rows)
        rejected += [
            (row[0], f"its row in {file.name} has {len(row)} fields") for row in broken
        ]
        gone = names[~names.isin(names[rows])]
        rejected += [
            (name, f"there is no such file, though {file.name} names it") for name in gone
        ]
        table, used = _with_our_names(table, {**columns, "file": column}, file)
        listed = listed.combine_first(table.loc[rows].set_index(rows.index))
        told.append(f"{file.name} ({used})")
    unknown = {*columns.values()} - there
    if told and unknown:
        raise ValueError(f"No list has a column {min(unknown)!r}; there are {sorted(there)}.")
    return listed, rejected, " and ".join(told)


def _match(table, image_ids, asked):
    """The column that names the files, and the row for each photo that it names.

    Folders count as far as it takes them to tell the photos apart, since a list may come from
    another machine. One row may stand for all photos of a product: 4711_1.jpg, or 4711/1.jpg.
    """
    photos = pd.Series(image_ids, image_ids)
    stems = _key(photos, 1)
    keys = [
        (9, _key(photos, 9)),
        (2, _key(photos, 2)),
        (1, stems),
        (1, stems.str.replace(r"[-_ .]+\(?\d+\)?$", "", regex=True)),
        (1, _key(photos.str.rpartition("/")[0], 1)),
    ]
    best = "", pd.Series(dtype=int)
    best_merit = 0, 0
    for column in [asked] if asked in table else table:
        names = table[column][table[column] != ""]
        few = min(names.nunique(), len(photos))
        for depth, key in keys:
            named = _key(names, depth).drop_duplicates()
            rows = key.map(pd.Series(named.index, named)).dropna().astype(int)
            enough = 2 * len(rows) >= few and 2 * len(named) >= len(names)
            merit = rows.nunique(), names.str.contains(r"[./]").mean()
            if enough and merit > best_merit:
                best = column, rows
                best_merit = merit
    return best


def _key(names, depth):
    """What is compared of files' names: no ending, no zeros that Excel drops, `depth` parts."""
    plain = names.str.normalize("NFC").str.casefold()
    plain = plain.str.replace(SUFFIX, "", regex=True).str.split(r"[\\/]", regex=True)
    return plain.str[-depth:].str.join("/").str.replace(r"^0+(?=.)", "", regex=True)


def _warn_of_doubles(file, names, rows):
    """Warn of two rows for a photo, and of one row for photos of one name in two folders."""
    same_name = _key(rows.index.to_series(), 1).duplicated()
    doubles = [*names[names.duplicated()], *rows.index[same_name & rows.duplicated()]]
    if doubles:
        warnings.warn(
            f"{file.name} has two rows, or there are two photos, for {doubles[0]!r} and "
            f"{len(doubles) - 1} others."
        )


def _with_our_names(table, columns, file):
    """The list's columns under the catalogue's names, and what was taken for what."""
    plain = {re.sub(r"[\W_]", "", name).casefold(): name for name in table}
    used = {}
    for kind, words in NAMES.items():
        found = [plain[word] for word in words.split() if word in plain]
        if found:
            used[kind] = found[0]
    used |= {kind: name for kind, name in columns.items() if name in table}
    rows = table.drop(columns=[*used.values(), *BASE_COLUMNS, *FILE_COLUMNS], errors="ignore")
    for kind, name in used.items():
        rows[kind] = table[name]
    for kind in filter(used.get, NAMES):
        meaning = split_in if kind == "split" else _something
        meant = rows[kind].map(meaning)
        nothing = sorted({*rows[kind][meant.isna()]})
        if nothing:
            warnings.warn(f"{file.name}: as {kind}, {nothing} mean nothing; left out.")
        rows[kind] = meant
    split = split_in(file.stem)
    if split and "split" not in rows:
        rows["split"] = split
    told = ", ".join(f"{kind} = {name}" for kind, name in used.items())
    return rows.drop(columns="file").replace("", None), told


def _something(text):
    return None if NOTHING.fullmatch(text) else text
