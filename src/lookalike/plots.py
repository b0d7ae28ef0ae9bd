"""Photos side by side, in one style; what a colour tells, a mark tells too."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lookalike.images import ImageError, load_image

# Okabe and Ito's palette, which stays apart for colour-blind readers:
# https://jfly.uni-koeln.de/color/
RIGHT, WRONG, NEUTRAL = "#0072B2", "#D55E00", "#666666"
# Theirs too.
PALETTE = (RIGHT, WRONG, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
THUMBNAIL = 160  # pixels; enough for an inch and a half at the resolution of a notebook
WIDEST = 14  # inches of a figure
SHEET = 10  # photos a label on a contact sheet
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 12,
    "text.parse_math": False,  # a label may have a dollar sign
}


def show_photo(axes: Axes, photo: str | np.ndarray) -> None:
    """One photo without axes; a grey tile says so if its file is gone."""
    axes.set(xticks=[], yticks=[])
    try:
        if not isinstance(photo, np.ndarray):
            photo = load_image(photo, THUMBNAIL, fit="letterbox")
        axes.imshow(photo)
    except ImageError:
        axes.set_facecolor("#DDDDDD")
        axes.text(0.5, 0.5, "file not found", ha="center", va="center", transform=axes.transAxes)


def brief(value: object) -> str:
    """What is written above a photo: nothing if it is missing, and of a long name its end."""
    text = "" if pd.isna(value) else str(value)
    return text if len(text) <= 16 else f"\N{HORIZONTAL ELLIPSIS}{text[-15:]}"


def show_photos(
    photos: Sequence[str | np.ndarray | None],
    titles: Sequence[str],
    *,
    title: str,
    per_row: int = 6,
    colours: Sequence[str] | None = None,
) -> Figure:
    """Photos, or pixels, in rows, each below its own title; the place of None stays empty.

    `colours`, if given, are those of the frames.
    """
    columns = min(per_row, len(photos))
    n_rows = -(-len(photos) // columns)
    side = min(1.5, WIDEST / columns)
    lines = 1 + max(text.count("\n") for text in titles)
    height = (side + 0.1 + 0.17 * lines) * n_rows + 0.4
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(max(side * columns, 4), height), layout="constrained")
        colours = colours or [NEUTRAL] * len(photos)
        tiles = zip(photos, titles, colours, strict=True)
        for place, (photo, text, colour) in enumerate(tiles, start=1):
            if photo is not None:
                axes = figure.add_subplot(n_rows, columns, place)
                show_photo(axes, photo)
                width = 0.8 if colour == NEUTRAL else 2.5
                plt.setp(axes.spines.values(), color=colour, linewidth=width)
                axes.set_title(text, color=WRONG if colour == WRONG else "black")
        figure.suptitle(title)
    # Else a notebook shows it twice: once when made, once as the cell's value.
    plt.close(figure)
    return figure


def show_gallery(
    queries: pd.DataFrame, results: Sequence[pd.DataFrame], *, by: str = "label", title: str = ""
) -> Figure:
    """Queries on the left, what was recommended for each on the right, with rank, score and label.

    Parameters
    ----------
    queries : DataFrame with `path` and, if known, the column `by`
        A query of one's own, outside the catalogue, is a row with a `path` alone.
    results
        For each query a table of `recommend`.
    by
        The column that decides right (blue frame) or wrong (orange frame and a cross).
    """
    columns = 1 + max(len(table) for table in results)
    tiles = []
    for query, table in zip(queries.to_dict("records"), results, strict=True):
        wanted = query.get(by)
        row = [(query["path"], f"query\n{brief(wanted)}", "black")]
        for found in table.to_dict("records"):
            shown = found.get(by)
            judged = pd.notna([wanted, shown]).all()
            colour = (RIGHT if shown == wanted else WRONG) if judged else NEUTRAL
            mark = " \N{MULTIPLICATION SIGN}" if colour == WRONG else ""
            text = f"{found['rank']}{mark} | {found['score']:.3f}\n{brief(shown)}"
            row.append((found["path"], text, colour))
        tiles += row + [(None, "", NEUTRAL)] * (columns - len(row))
    photos, texts, colours = zip(*tiles, strict=True)
    n_judged = colours.count(RIGHT) + colours.count(WRONG)
    verdict = f": {colours.count(RIGHT)} of {n_judged} have the query's {by}"
    title = title or "Most alike" + (verdict if n_judged else "")
    return show_photos(photos, texts, title=title, per_row=columns, colours=colours)


def show_contact_sheet(catalog: pd.DataFrame, *, title: str, max_rows: int = 8) -> Figure:
    """A look at the catalogue: one row of photos a label, drawn at random, with the number of
    images it has.
    """
    groups = catalog.groupby(catalog["label"].fillna("no label"))
    photos = []
    texts = []
    for name, group in [*groups][:max_rows]:
        sample = group["path"].sample(min(SHEET, len(group)), random_state=0)
        photos += [*sample, *[None] * (SHEET - len(sample))]
        texts += [f"{brief(name)}\n{len(group)} images", *[""] * (SHEET - 1)]
    if groups.ngroups > max_rows:
        title += f" ({groups.ngroups - max_rows} more labels not shown)"
    return show_photos(photos, texts, title=title, per_row=SHEET)
