"""Where product photos come from: the sample, a folder or zip, Kaggle, Amazon; each becomes a folder and its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lookalike.amazon import LIMIT, amazon_photos
from lookalike.folders import CATALOG_FILE, inner_folder, rows_from_csv, rows_from_names, unzip
from lookalike.kaggle_sets import KAGGLE, caltech_rows, fashion_rows, kaggle_folder
from lookalike.workspace import Workspace, open_workspace, project_root, source_name

SOURCES = ("sample", "folder", "zip", "caltech256", "fashion-small", "amazon")
LESSON_LABELS, MORE_LABELS = ("watch", "t-shirt", "bicycle", "shoe"), ("bag", "glasses", "hat")
# What is taken when nothing else is asked for: the kinds of the lesson, and of Caltech's no more than it takes.
DEFAULT_LABELS = {"sample": LESSON_LABELS, "caltech256": LESSON_LABELS}
DEFAULT_MAX_PER_CLASS = {"caltech256": 200}


@dataclass(frozen=True)
class Photos:
    """A folder, a row for each file in it (`image_id`, `product_id`, `label`, `split`, more), and what was left out."""

    root: Path
    rows: pd.DataFrame
    rejected: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["image_id", "reason"], dtype=object))


def find_photos(
    source: str,
    path: str | Path = "",
    *,
    labels: Sequence[str] = (),
    limit: int | None = None,
    workspace: Workspace | None = None,
) -> Photos:
    """Find the photos of a source, downloaded and unpacked if need be; no file is opened yet.

    Parameters
    ----------
    labels, limit
        Categories, and how many products, to fetch from Amazon; the other sources list all they have.

    Raises
    ------
    FileNotFoundError, ValueError
        If the source is unknown, needs a path and has none, or there is nothing usable at `path`.
    SourceUnavailableError
        If Kaggle cannot be reached or wants a token.
    """
    if source not in SOURCES:
        raise ValueError(f"Unknown source {source!r}; choose one of {', '.join(SOURCES)}.")
    if source in ("folder", "zip", "amazon") and not str(path):
        what = "metadata file" if source == "amazon" else f"{source} that holds your photos"
        raise ValueError(f"The source {source!r} needs a path: the {what}.")
    if source == "sample":
        if str(path):
            raise ValueError(
                f"The bundled sample takes no path; for the photos at {path} use source='folder' or 'zip'."
            )
        return Photos(*_listed(project_root() / "data" / "sample"))
    location = Path(path).expanduser().absolute()
    if source == "amazon":
        folder = (workspace or open_workspace()).downloads / f"amazon-{source_name(source, str(location))}"
        return Photos(folder, *amazon_photos(location, folder, labels=labels, limit=limit or LIMIT))
    if source in KAGGLE and not str(path):
        folder = kaggle_folder(source)
    elif source == "zip" or (source in KAGGLE and location.is_file()):
        folder = unzip(location, (workspace or open_workspace()).downloads)
    elif not location.is_dir():
        hint = " For a zip file use source='zip'." if location.is_file() else ""
        raise FileNotFoundError(f"No folder at {location}.{hint}")
    else:
        folder = location
    return Photos(*{"caltech256": caltech_rows, "fashion-small": fashion_rows}.get(source, _listed)(folder))


def _listed(folder: Path) -> tuple[Path, pd.DataFrame]:
    root = inner_folder(folder)
    listed = root / CATALOG_FILE
    return root, rows_from_csv(listed) if listed.is_file() else rows_from_names(root)
