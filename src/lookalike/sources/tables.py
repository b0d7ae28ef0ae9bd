"""A table in a file to rows of text: CSV of any usual separator and encoding, or Excel."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd

from lookalike.machine import require


def read_table(file: Path) -> tuple[pd.DataFrame, list[list[str]]]:
    """A CSV of any usual separator and encoding, or an Excel file, as text; and its broken rows."""
    if file.suffix.lower().startswith(".xls"):
        require("openpyxl")
        table = pd.read_excel(file, dtype=str, keep_default_na=False, na_values=[""])
        lines = [[str(name).strip() for name in table], *table.fillna("").to_numpy().tolist()]
    else:
        data = file.read_bytes()
        try:
            text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError:
            # As Excel writes it in the West.
            text = data.decode("cp1252", "replace")
        # Excel's own first line says what separates.
        text = re.sub(r"^sep=.\s+", "", text)
        separator = max(",;\t|", key=re.split(r"[\r\n]", text, maxsplit=1)[0].count)
        lines = csv.reader(io.StringIO(text, newline=None), delimiter=separator)
        lines = [[field.strip() for field in line] for line in lines]
    header, *rows = filter(any, lines) if any(map(any, lines)) else [[]]
    size = len(header)
    broken = [row for row in rows if any(row[size:])]
    whole = [row[:size] + [""] * (size - len(row)) for row in rows if not any(row[size:])]
    # The second column of one name gets a number.
    names = [f"{name}.{n}" if name in header[:n] else name for n, name in enumerate(header)]
    table = pd.DataFrame(whole, columns=names, dtype=object)
    # A column without a name says nothing, unless it is the first.
    named = [bool(name) or n == 0 for n, name in enumerate(header)]
    return table.loc[:, named], broken
