"""Product metadata of Amazon Reviews (2014, 2018, 2023) to rows and images; only what is asked for
is fetched.
"""

import ast
import gzip
import json
import re
import zlib

import pandas as pd

from lookalike.machine import progress
from lookalike.sources.downloads import download_images

COLUMNS = ("image_id", "product_id", "label", "split", "title", "categories", "url")


def amazon_photos(metadata, folder, *, labels=(), at_most=1000):
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
    OSError, ValueError
        If there is no such file, it is not what it should be, or no product fits.
    """
    wanted = {label.strip().casefold() for label in labels} - {""}
    products = {}
    rejected = []
    bar = progress(_lines(metadata), description="Reading metadata", unit="lines")
    for number, line in enumerate(bar, start=1):
        try:
            product, categories, url, title = _fields(line)
        # A broken line, or a value of another kind, may raise almost anything.
        except Exception:
            rejected.append((f"line {number}", "no record of a product"))
            continue
        fitting = [name for name in categories if not wanted or name.casefold() in wanted]
        if wanted and not fitting:
            continue
        if not url:
            rejected.append((f"line {number}", f"product {product!r} has no image"))
            continue
        label = fitting[-1] if fitting else None
        path = " > ".join(categories)
        row = f"images/{product}.jpg", product, label, None, title, path, url
        products.setdefault(product, row)
        if len(products) == at_most:
            break
    if not products:
        raise ValueError(
            f"{metadata} lists no product with an image of the labels {list(labels)}; "
            f"left out: {rejected[:3]}"
        )
    rows = pd.DataFrame(products.values(), columns=COLUMNS, dtype=object)
    rows["path"] = f"{folder}/" + rows["image_id"]
    reasons = pd.Series(download_images(rows["url"], rows["path"]), dtype=object)
    failed = reasons != ""
    rejected += zip(rows["image_id"][failed], reasons[failed], strict=True)
    return rows[~failed], rejected


def _lines(metadata):
    opened = gzip.open if str(metadata).endswith(".gz") else open
    try:
        with opened(metadata, "rt", encoding="utf-8", errors="replace") as stream:
            yield from stream
    except (EOFError, zlib.error) as error:
        raise ValueError(
            f"{metadata} is cut off or damaged ({error}); download it again."
        ) from None


def _fields(line):
    """Product id, categories from the widest on, address of the main image, and title."""
    try:
        record = json.loads(line)
    except ValueError:
        # The files of 2014 hold Python dictionaries.
        record = ast.literal_eval(line)
    get = record.get
    # It names a file: no more than letters and digits, as all have.
    product = re.fullmatch(r"[A-Za-z0-9]{1,40}", get("parent_asin") or get("asin"))[0]
    names = [get("main_category") or get("main_cat")]
    for entry in get("categories") or get("category") or []:
        names += entry if isinstance(entry, list) else [entry]
    categories = list(dict.fromkeys(filter(None, names)))
    # Of 2023: the main image first, and large where there is none in high resolution.
    images = sorted(get("images") or [], key=lambda image: image.get("variant") != "MAIN")
    urls = [image.get(size) for image in images for size in ("hi_res", "large")]
    urls += get("imageURLHighRes") or get("imageURL") or [get("imUrl")]
    url = next(filter(None, urls), None)
    # Half of a pair of surrogates, which JSON may hold, could not be saved.
    title = (get("title") or "").encode("utf-8", "replace").decode()
    return product, categories, url, title or None
