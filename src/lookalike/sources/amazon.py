"""Product metadata of Amazon Reviews (2014, 2018, 2023) to rows and images; only what is asked for
is fetched.
"""

import ast
import gzip
import json
import re
import zlib
from pathlib import Path

import pandas as pd

from lookalike.machine import progress
from lookalike.sources.downloads import download_images

COLUMNS = ("image_id", "product_id", "label", "split", "title", "categories", "url")


def amazon_photos(metadata, folder, *, labels=(), at_most=1000, **options):
    """Read metadata as a stream until `at_most` products are found, and download the main image of
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
        `image_id`, `path`, `product_id`, `label`, `split` (missing), `title`, `categories` (from
        the widest to the narrowest), `url`.
    rejected : list of (name, reason)
        Lines that cannot be read, products without an image, downloads
        that failed.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is not what it should be, or no product fits.
    """
    wanted = {label.casefold(): label for label in labels}
    products = {}
    rejected = []
    bar = progress(_lines(metadata), total=None, description="Reading metadata", unit="lines")
    for number, line in enumerate(bar, start=1):
        try:
            product, names, url, title = _fields(line)
        # A broken line, or a value of another kind, may raise almost anything.
        except Exception:
            rejected.append((f"line {number}", "no record of a product"))
            continue
        fitting = [wanted[name] for name in map(str.casefold, names) if name in wanted]
        label = [None, *(fitting if wanted else names)][-1]
        if wanted and not fitting:
            continue
        if not url:
            rejected.append((f"line {number}", f"product {product!r} has no image"))
        else:
            row = f"images/{product}.jpg", product, label, None, title, " > ".join(names), url
            products.setdefault(product, row)
        if len(products) == at_most:
            break
    if not products:
        said = f"{metadata} lists no product with an image of the labels {list(labels)}"
        raise ValueError(f"{said}; left out: {rejected[:3]}")
    rows = pd.DataFrame(products.values(), columns=COLUMNS, dtype=object)
    rows["path"] = f"{folder}/" + rows["image_id"]
    reasons = pd.Series(download_images(rows["url"], rows["path"], **options), dtype=object)
    failed = reasons != ""
    rejected += zip(rows["image_id"][failed], reasons[failed], strict=True)
    return rows[~failed], rejected


def _lines(metadata):
    metadata = Path(metadata)
    if not metadata.is_file():
        raise FileNotFoundError(f"No metadata at {metadata}, as meta_All_Beauty.jsonl.gz would be.")
    opened = gzip.open if metadata.suffix == ".gz" else open
    try:
        with opened(metadata, "rt", encoding="utf-8-sig", errors="replace") as stream:
            yield from stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{metadata} is cut off or damaged ({error}); download it again."
        ) from None


def _fields(line):
    """Product id, categories from the widest on, address of the main image, and title."""
    try:
        get = json.loads(line).get
    except ValueError:
        # The files of 2014 hold Python dictionaries.
        get = ast.literal_eval(line).get
    # It names a file: no more than letters and digits, as all have.
    product = re.fullmatch(r"\w{1,40}", str(get("parent_asin") or get("asin") or ""), re.ASCII)[0]
    names = [get("main_category") or get("main_cat")]
    for entry in get("categories") or get("category") or []:
        names += entry if isinstance(entry, list) else [entry]
    names = [str(name) for name in dict.fromkeys(names) if name]
    # Of 2023: the main image first, and large where there is none in high resolution.
    images = sorted(get("images") or [], key=lambda image: image.get("variant") != "MAIN")
    urls = [image.get(size) for image in images for size in ("hi_res", "large")]
    urls += get("imageURLHighRes") or get("imageURL") or [get("imUrl")]
    # Half of a pair of surrogates, which JSON may hold, could not be saved.
    title = str(get("title") or "").encode("utf-8", "replace").decode()
    return product, names, next(filter(None, urls), None), title or None
