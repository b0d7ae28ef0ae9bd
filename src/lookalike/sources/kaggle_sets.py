"""Two data sets of Kaggle, Caltech-256 and Fashion Product Images (small): how to get them, and
what their folders and columns mean.
"""

import warnings
from pathlib import Path

import requests

KAGGLE = {
    "caltech256": "jessicali9530/caltech256",
    "fashion-small": "paramaggarwal/fashion-product-images-small",
}
CALTECH_LABELS = (
    "watch-101=watch mountain-bike=bicycle touring-bike=bicycle sneaker=shoe tennis-shoes=shoe"
    " backpack=bag eyeglasses=glasses cowboy-hat=hat"
)
CALTECH_LABELS = dict(pair.split("=") for pair in CALTECH_LABELS.split())
FASHION_COLUMNS = {
    "file": "id",
    "label": "articleType",
    "product_id": "id",
    "colour": "baseColour",
    "title": "productDisplayName",
}
TOKEN = (
    "Accept its terms in a browser, make a token (kaggle.com, Settings, API) and set it as "
    "KAGGLE_API_TOKEN, in the environment or as a secret of Colab."
)
# What to do about an answer; None is none.
ADVICE = {None: "Connect to the internet, and run this again.", 401: TOKEN, 403: TOKEN}


class SourceUnavailableError(RuntimeError):
    """Photos that should come from elsewhere cannot be had now; the message says what to do."""


def kaggle_folder(source):
    """Download a data set by kagglehub, which keeps it in its cache; a public one needs no account.

    Parameters
    ----------
    source
        "caltech256" or "fashion-small".

    Returns
    -------
    The folder of the data set, to be read only; on Colab and Kaggle it may be mounted.

    Raises
    ------
    SourceUnavailableError
        If Kaggle cannot be reached or refuses, or what came is damaged.
    """
    with warnings.catch_warnings():
        # Its progress bar misses a package that is not needed.
        warnings.simplefilter("ignore")
        import kagglehub
    handle = KAGGLE[source]
    try:
        place = kagglehub.dataset_download(handle)
        print(source, "is mounted" if "/kaggle/input" in place else "is in kagglehub's cache")
        return Path(place)
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", None)
        reason = f"Kaggle says {status or 'nothing'}. {ADVICE.get(status, 'Try again later.')}"
    # Damaged zips and full disks raise many things.
    except Exception as error:
        reason = f"{error}. Make room, empty the cache of kagglehub, and run again."
    raise SourceUnavailableError(
        f"{source} cannot be downloaded: {reason} Or get https://www.kaggle.com/datasets/{handle} "
        "elsewhere, and give the folder or zip as path. "
        "The sources 'sample', 'folder' and 'zip' need no network."
    )


def caltech_rows(rows):
    """Of Caltech-256, the photos in folders such as `251.sneaker`, labelled by what they show.

    The numbers differ between copies, the names do not. A copy of the tree inside the tree counts
    once.
    """
    parts = rows["image_id"].str.extract(r"(?:^|/)\d{3}\.([^/]+)/(?:.*/)?([^/]+)$")
    rows = rows.assign(label=parts[0].replace(CALTECH_LABELS))
    return rows[rows["label"].notna() & ~parts.duplicated()]
