"""Photos side by side, in one style; what a colour tells, a mark tells too."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lookalike.fonts import fonts
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
# Where these begin among all letters: Chinese, Japanese, Korean, emoji.
WIDE = "\u2e80"


def show_photo(axes, photo):
    """One photo without axes; a grey tile says so if its file is gone."""
    axes.set(xticks=[], yticks=[])
    try:
        is_array = isinstance(photo, np.ndarray)
        axes.imshow(photo if is_array else load_image(photo, THUMBNAIL, fit="letterbox"))
    except ImageError:
        axes.set(facecolor="#DDDDDD", aspect=1, xlabel="file not found")


def brief(value):
    """What is written above a photo: nothing if it is missing, and of a long name its end."""
    text = "" if pd.isna(value) else str(value)
    return text if len(text) <= 16 else f"…{text[-15:]}"


def _wrapped(text, letters):
    """Each line in at most two, of so many letters."""
    lines = []
    for line in text.split("\n"):
        # Chinese, Japanese and Korean letters are twice as wide.
        width = letters // 2 if max(line, default="") > WIDE else letters
        lines += textwrap.wrap(line, width, max_lines=2, placeholder="…") or [""]
    return "\n".join(lines)


def show_photos(photos, titles, *, title, per_row=6, colours=None):
    """Photos, or pixels, in rows, each below its own title; the place of None stays empty.

    `colours`, if given, are those of the frames.
    """
    columns = min(per_row, len(photos))
    n_rows = -(-len(photos) // columns)
    side = min(1.5, WIDEST / columns)
    titles = [_wrapped(text, 2 + int(12 * side)) for text in titles]
    lines = 1 + max(text.count("\n") for text in titles)
    height = (side + 0.1 + 0.17 * lines) * n_rows + 0.4
    colours = colours or [NEUTRAL] * len(photos)
    with plt.rc_context(STYLE | {"font.family": fonts()}):
        figure = plt.figure(figsize=(max(side * columns, 4), height), layout="constrained")
        tiles = zip(photos, titles, colours, strict=True)
        for place, (photo, text, colour) in enumerate(tiles, start=1):
            if photo is not None:
                axes = figure.add_subplot(n_rows, columns, place)
                show_photo(axes, photo)
                axes.set_title(text, color=WRONG if colour == WRONG else "black")
                plt.setp(axes.spines.values(), color=colour, linewidth=1.5)
        figure.suptitle(title, wrap=True)
    # Else a notebook shows it twice: once when made, once as the cell's value.
    plt.close(figure)
    return figure


def show_gallery(queries, results, *, by="label", title="Queries and what is most like them"):
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
    columns = 1 + max(map(len, results))
    tiles = []
    for query, table in zip(queries.to_dict("records"), results, strict=True):
        wanted = query.get(by)
        tiles.append((query["path"], f"query\n{brief(wanted)}", "black"))
        for found in table.to_dict("records"):
            shown = found.get(by)
            mark, colour = "", NEUTRAL
            if pd.notna(wanted) and pd.notna(shown):
                mark, colour = ("", RIGHT) if shown == wanted else (" ×", WRONG)
            text = f"{found['rank']}{mark} | {found['score']:.3f}\n{brief(shown)}"
            tiles.append((found["path"], text, colour))
        tiles += [(None, "", NEUTRAL)] * (columns - 1 - len(table))
    photos, texts, colours = zip(*tiles, strict=True)
    return show_photos(photos, texts, title=title, per_row=columns, colours=colours)


def show_contact_sheet(catalog, *, title, max_rows=8):
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
