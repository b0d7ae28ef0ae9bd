"""Product metadata of Amazon Reviews (2014, 2018, 2023) to rows and images; only what is asked for
is fetched.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath

import pandas as pd

from lookalike.images import PHOTO_SUFFIXES
from lookalike.sources.downloads import download_images
from lookalike.workspace import progress

LIMIT = 1000
MAX_LINE = 5_000_000  # bytes; a few kilobytes are usual
COLUMNS = ("image_id", "product_id", "label", "split", "title", "categories", "url")


def amazon_photos(
    metadata: str | Path,
    folder: str | Path,
    *,
    labels: Sequence[str] = (),
    limit: int = LIMIT,
    **options,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read metadata as a stream until `limit` products are found, and download the main image of
    each.

    Run again it fetches only what is missing, so a killed download goes on, and failures get
    another chance.

    Parameters
    ----------
    metadata
        `meta_*.jsonl`, `.json` or the same with `.gz`, of 2014 (`imUrl`), 2018 (`imageURLHighRes`)
        or 2023 (`images`).
    folder
        Images go to `folder/images/<product>.jpg`.
    labels
        Take products of these categories only, on any level, whatever the case; the deepest that
        fits becomes the label. None named: all products, labelled by their deepest category.
    options
        Those of `download_images`.

    Returns
    -------
    rows : DataFrame
        `image_id`, `product_id`, `label`, `title`, `categories` (from the widest to the narrowest),
        `url`.
    rejected : DataFrame
        `image_id` and `reason`: lines that cannot be read, products without an image, downloads
        that failed.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is not what it should be, or no product fits.
    """
    rows, rejected = _read(Path(metadata), labels, limit)
    if rows.empty:
        wanted = f" of {', '.join(labels)}" if labels else ""
        reason = f"; the first of {len(rejected)} left out: {rejected[0]}" if rejected else ""
        raise ValueError(f"{metadata} lists no product{wanted} with an image{reason}.")
    reasons = pd.Series(
        download_images(rows["url"], [Path(folder, name) for name in rows["image_id"]], **options),
        dtype=object,
    )
    failed = rows[["image_id"]].assign(reason=reasons + " (" + rows["url"] + ")")[reasons != ""]
    rejected = pd.concat(
        [pd.DataFrame(rejected, columns=["image_id", "reason"], dtype=object), failed]
    )
    return rows[reasons == ""].reset_index(drop=True), rejected.reset_index(drop=True)


def _read(
    metadata: Path, labels: Sequence[str], limit: int
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    wanted = {label.casefold(): label for label in labels}
    found: dict[str, tuple] = {}
    rejected = []
    with progress(total=limit, description="Reading metadata", unit="products") as bar:
        for number, line in enumerate(_lines(metadata), start=1):
            if not line.strip():
                continue
            if len(rejected) > 100_000 + 10 * limit:
                raise ValueError(
                    f"{metadata}: {len(rejected):,} of {number:,} lines are no product with an image."
                )
            record = _parse(line)
            if record is None:
                long = f"longer than {MAX_LINE:,} bytes" if len(line) > MAX_LINE else ""
                rejected.append((f"line {number}", long or "neither JSON nor a Python dictionary"))
                continue
            categories = _categories(record)
            fitting = [wanted[name.casefold()] for name in categories if name.casefold() in wanted]
            if wanted and not fitting:
                continue
            product = str(record.get("parent_asin") or record.get("asin") or "")
            url = _main_image(record)
            if not re.fullmatch(r"\w{1,40}", product, re.ASCII):
                reason = f"{product[:50]!r} is no product id" if product else "no product id"
                rejected.append((f"line {number}", reason))
            elif not url:
                rejected.append((f"line {number}", f"product {product!r} has no image"))
            elif product not in found:
                suffix = PurePosixPath(re.split("[?#]", url)[0]).suffix.lower()
                image_id = f"images/{product}{suffix if suffix in PHOTO_SUFFIXES else '.jpg'}"
                label = fitting[-1] if fitting else next(reversed(categories), None)
                title = _text(record.get("title") or "") or None
                found[product] = (
                    image_id,
                    product,
                    label,
                    None,
                    title,
                    " > ".join(categories),
                    url,
                )
                bar.update()
            if len(found) == limit:
                break
    return pd.DataFrame(found.values(), columns=COLUMNS, dtype=object), rejected


def _lines(metadata: Path) -> Iterator[bytes]:
    if not metadata.is_file():
        raise FileNotFoundError(
            f"No metadata at {metadata}; it is a file such as meta_All_Beauty.jsonl.gz."
        )
    with open(metadata, "rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(metadata) if packed else open(metadata, "rb") as stream:
            while line := stream.readline(MAX_LINE + 1):
                rest = line
                # Read by pieces, it takes no memory.
                while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
                    rest = stream.readline(MAX_LINE + 1)
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{metadata} is cut off or damaged ({error}); download it again."
        ) from None


def _parse(line: bytes) -> dict | None:
    if len(line) > MAX_LINE:
        return None
    for parse in (json.loads, ast.literal_eval):  # the files of 2014 hold Python dictionaries
        try:
            record = parse(line.decode("utf-8-sig"))
        except (ValueError, SyntaxError, TypeError, ArithmeticError, RecursionError, MemoryError):
            continue
        return record if isinstance(record, dict) else None
    return None


def _categories(record: dict) -> list[str]:
    """Widest first: 2014 has lists of lists, 2018 `category` and `main_cat`, 2023 `categories` and
    `main_category`.
    """
    listed = record.get("categories") or record.get("category") or []
    listed = listed if isinstance(listed, list) else [listed]
    names = chain(
        [record.get("main_category") or record.get("main_cat")],
        *(entry if isinstance(entry, list) else [entry] for entry in listed),
    )
    return list(dict.fromkeys(_text(name) for name in names if isinstance(name, str) and name))


def _text(value: object) -> str:
    """A value as text that can be saved: JSON may hold half of a pair of surrogates."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _main_image(record: dict) -> str:
    images = record.get("images")
    if isinstance(images, list):  # 2023
        images = [image for image in images if isinstance(image, dict)]
        main = next(
            (image for image in images if image.get("variant") == "MAIN"),
            images[0] if images else {},
        )
        urls = [main.get(size) for size in ("hi_res", "large", "thumb")]
    else:  # 2018, 2014
        urls = [
            *_listed(record, "imageURLHighRes"),
            *_listed(record, "imageURL"),
            record.get("imUrl"),
        ]
    return next((_text(url) for url in urls if isinstance(url, str) and url), "")


def _listed(record: dict, name: str) -> list:
    value = record.get(name)
    return value if isinstance(value, list) else [value]
