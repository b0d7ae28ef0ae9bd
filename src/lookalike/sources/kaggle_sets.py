"""Two data sets of Kaggle, Caltech-256 and Fashion Product Images (small): how to get them, and
what their folders and columns mean.
"""

from pathlib import Path

KAGGLE = {
    "caltech256": "jessicali9530/caltech256",
    "fashion-small": "paramaggarwal/fashion-product-images-small",
}
CALTECH_LABELS = {
    "watch-101": "watch",
    "mountain-bike": "bicycle",
    "touring-bike": "bicycle",
    "sneaker": "shoe",
    "tennis-shoes": "shoe",
    "backpack": "bag",
    "eyeglasses": "glasses",
    "cowboy-hat": "hat",
}
FASHION_COLUMNS = {
    "file": "id",
    "label": "articleType",
    "product_id": "id",
    "colour": "baseColour",
    "title": "productDisplayName",
}


class SourceUnavailableError(RuntimeError):
    """Photos that should come from elsewhere cannot be had now; the message says what to do."""


def kaggle_folder(source):
    """Download a data set by kagglehub, which keeps it in its cache; a public one needs no account.

    Returns
    -------
    The folder of the data set, to be read only; on Colab and Kaggle it may be mounted.

    Raises
    ------
    SourceUnavailableError
        If Kaggle cannot be reached or refuses, or what came is damaged.
    """
    import kagglehub  # seconds that few need

    try:
        return Path(kagglehub.dataset_download(KAGGLE[source]))
    # No network, refusals, damaged zips and full disks raise many things.
    except Exception as error:
        raise SourceUnavailableError(
            f"{source} cannot be downloaded: Kaggle's client says {error}. "
            "Is there a connection, and room on the disk? Where Kaggle answers 401 or 403, accept "
            "the set's terms in a browser, make a token (kaggle.com, Settings, API) and set it as "
            "KAGGLE_API_TOKEN, in the environment or as a secret of Colab. "
            f"Or get https://www.kaggle.com/datasets/{KAGGLE[source]} elsewhere, and give its "
            "folder or zip as path. The sources 'sample', 'folder' and 'zip' need no network."
        ) from None


def caltech_rows(rows):
    """Of Caltech-256, the photos in folders such as `251.sneaker`, labelled by what they show.

    The numbers differ between copies, the names do not. A copy of the tree inside the tree counts
    once.
    """
    parts = rows["image_id"].str.extract(r"(?:^|/)\d{3}\.([^/]+)/(?:.*/)?([^/]+)$")
    rows = rows.assign(label=parts[0].replace(CALTECH_LABELS))
    return rows[rows["label"].notna() & ~parts.duplicated()]
