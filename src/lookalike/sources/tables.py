"""A table in a file to rows of text: CSV of any usual separator and encoding, or Excel."""

import io

import pandas as pd


def read_table(file):
    """A CSV of any usual separator and encoding, or an Excel file, as text; and its broken rows."""
    broken = []
    if file.suffix.lower() == ".xlsx":
        table = pd.read_excel(file, dtype=str, keep_default_na=False, na_values=[""])
    else:
        data = file.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            # As Excel writes it in the West.
            text = data.decode("cp1252", "replace")
        header = text.partition("\n")[0]
        table = pd.read_csv(
            io.StringIO(text),
            sep=max(",;\t|", key=header.count),
            dtype=str,
            keep_default_na=False,
            engine="python",
            on_bad_lines=broken.append,
        )
    table = table.fillna("")
    table.columns = [str(name).strip() for name in table]
    table = table.apply(lambda column: column.str.strip())
    return table[(table != "").any(axis=1)], broken
