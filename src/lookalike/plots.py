"""The figures of photos that the notebooks show, in one style; what a colour tells, a mark tells
too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lookalike.explain import Explanation
from lookalike.images import ImageError, load_image

# Okabe and Ito's palette, which stays apart for colour-blind readers:
# https://jfly.uni-koeln.de/color/
RIGHT, WRONG, NEUTRAL = "#0072B2", "#D55E00", "#666666"
# Theirs too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
ROOM = 0.05  # of a map's side, for one thumbnail
LONGEST = 16  # letters above a photo
THUMBNAIL = 160  # pixels; enough for an inch and a half at the resolution of a notebook
SCORES = {"cosine": "cosine similarity", "euclidean": "Euclidean distance"}
STYLE = {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.facecolor": "white",
    "figure.titlesize": 12,
    "text.parse_math": False,  # a label may have a dollar sign
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A function that draws a figure, here in the one style of the notebooks."""

    @functools.wraps(draw)
    def drawn(*args: object, **kwargs: object) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        # Else a notebook shows it twice: once when made, once as the cell's value.
        plt.close(figure)
        return figure

    return drawn


def show_photo(axes: Axes, photo: str | np.ndarray) -> None:
    """One photo without axes; a grey tile says so if its file is gone."""
    axes.set_xticks([])
    axes.set_yticks([])
    try:
        pixels = (
            load_image(photo, THUMBNAIL, fit="letterbox")
            if isinstance(photo, (str, bytes))
            else photo
        )
        axes.imshow(pixels)
    except ImageError:
        axes.set_facecolor("#DDDDDD")
        axes.text(0.5, 0.5, "file not found", ha="center", va="center", transform=axes.transAxes)


def brief(value: object) -> str:
    """What is written above a photo: nothing if it is missing, and of a long name its end."""
    text = "" if pd.isna(value) else str(value)
    return text if len(text) <= LONGEST else f"\N{HORIZONTAL ELLIPSIS}{text[1 - LONGEST :]}"


def frame(axes: Axes, colour: str, width: float) -> None:
    """A frame of a colour around a photo."""
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=width)


@styled
def show_gallery(
    queries: pd.DataFrame,
    results: Sequence[pd.DataFrame],
    *,
    by: str = "label",
    title: str = "",
    metric: str = "cosine",
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
    metric
        What the scores are: "cosine" or "euclidean".
    """
    columns = 1 + max(len(table) for table in results)
    n_right = n_judged = 0
    size = (1.35 * columns, 1.75 * len(queries) + 0.4)
    figure, grid = plt.subplots(
        len(queries), columns, figsize=size, squeeze=False, layout="constrained"
    )
    for row, (query, table) in enumerate(zip(queries.to_dict("records"), results, strict=True)):
        wanted = query.get(by)
        show_photo(grid[row, 0], query["path"])
        frame(grid[row, 0], "black", 2.5)
        grid[row, 0].set_title(
            "query" + (f"\n{brief(wanted)}" if pd.notna(wanted) else ""), fontweight="bold"
        )
        for axes, found in zip(grid[row, 1:], table.to_dict("records"), strict=False):
            show_photo(axes, found["path"])
            judged = pd.notna(wanted) and pd.notna(found.get(by))
            right = judged and found[by] == wanted
            n_right, n_judged = n_right + right, n_judged + judged
            frame(axes, (RIGHT if right else WRONG) if judged else NEUTRAL, 2.5)
            mark = ("" if right else " \N{MULTIPLICATION SIGN}") if judged else ""
            label = brief(found.get(by))
            axes.set_title(
                f"{found['rank']}{mark} | {found['score']:.3f}\n{label}",
                color=WRONG if mark else "black",
            )
        for axes in grid[row, 1 + len(table) :]:
            axes.set_axis_off()
    verdict = f": {n_right} of {n_judged} have the query's {by}" if n_judged else ""
    figure.suptitle(title or f"Most alike by {SCORES[metric]}{verdict}")
    return figure


@styled
def show_contact_sheet(
    catalog: pd.DataFrame,
    *,
    by: str = "label",
    per_row: int = 10,
    max_rows: int = 8,
    seed: int = 0,
    title: str = "",
) -> Figure:
    """A look at the catalogue: one row of photos a label, drawn at random, with the number of
    images it has.
    """
    groups = catalog.assign(**{by: catalog[by].fillna("no label")}).groupby(by, sort=True)
    shown = [(name, group) for name, group in groups][:max_rows]
    size = (1.1 * per_row, 1.15 * len(shown) + 0.4)
    figure, grid = plt.subplots(
        len(shown), per_row, figsize=size, squeeze=False, layout="constrained"
    )
    for axes_row, (name, group) in zip(grid, shown, strict=True):
        sample = group.sample(min(per_row, len(group)), random_state=seed)
        for axes in axes_row[len(sample) :]:
            axes.set_axis_off()
        for axes, path in zip(axes_row, sample["path"], strict=False):
            show_photo(axes, path)
            frame(axes, "#CCCCCC", 0.8)
        axes_row[0].set_ylabel(
            f"{name}\n{len(group)} images", rotation=0, ha="right", va="center", labelpad=8
        )
    left_out = groups.ngroups - len(shown)
    figure.suptitle(
        (title or f"{len(catalog)} images")
        + (f" ({left_out} more labels not shown)" if left_out else "")
    )
    return figure


@styled
def show_pairs(
    catalog: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    by: str = "label",
    max_pairs: int = 8,
    title: str = "",
) -> Figure:
    """Copies below their originals, with what each is labelled; orange and a cross where the two
    labels differ.
    """
    images = catalog.set_index("image_id")
    shown = pairs.head(max_pairs).to_dict("records")
    size = (max(1.35 * len(shown), 3.5), 3.9)
    figure, grid = plt.subplots(2, len(shown), figsize=size, squeeze=False, layout="constrained")
    for column, pair in zip(grid.T, shown, strict=True):
        first = images.loc[pair["image_id"]]
        other = images.loc[pair["other_id"]]
        differ = pd.notna(first[by]) and pd.notna(other[by]) and first[by] != other[by]
        for axes, image in zip(column, (first, other), strict=True):
            show_photo(axes, image["path"])
            frame(axes, WRONG if differ else NEUTRAL, 2.5)
            axes.set_xlabel(f"{image['pixel_width']} x {image['pixel_height']}")
            mark = " \N{MULTIPLICATION SIGN}" if differ else ""
            axes.set_title(f"{brief(image[by])}{mark}", color=WRONG if differ else "black")
        column[0].set_title(f"{pair['step']}\n{pair['score']:.3f}\n{column[0].get_title()}")
    more = f", the first {len(shown)}" if len(pairs) > len(shown) else ""
    figure.suptitle(
        title or f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} of copies{more}"
    )
    return figure


@styled
def show_photos(
    photos: Sequence[str | np.ndarray], titles: Sequence[str], *, title: str, per_row: int = 6
) -> Figure:
    """Photos, or pixels, in rows, each below its own title."""
    n_rows = -(-len(photos) // per_row)
    lines = 1 + max(text.count("\n") for text in titles)
    size = (max(1.5 * min(per_row, len(photos)), 4), (1.6 + 0.17 * lines) * n_rows + 0.4)
    figure, grid = plt.subplots(
        n_rows, min(per_row, len(photos)), figsize=size, squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(photos) :]:
        axes.set_axis_off()
    for axes, photo, text in zip(grid.flat, photos, titles, strict=False):
        show_photo(axes, photo)
        frame(axes, NEUTRAL, 0.8)
        axes.set_title(text)
    figure.suptitle(title)
    return figure


@styled
def show_map(
    points: np.ndarray, catalog: pd.DataFrame, *, by: str = "label", title: str = ""
) -> Figure:
    """Photos at their places [n, 2] on a plane: a point each, and a thumbnail where there is room
    for one.
    """
    values = catalog[by].fillna("no label").astype(str)
    names = values.value_counts().index[: len(PALETTE)]
    colours = values.map(dict(zip(names, PALETTE, strict=False))).fillna(NEUTRAL)
    low = points.min(axis=0)
    high = points.max(axis=0)
    places = (points - low) / np.where(high > low, high - low, 1)
    figure, axes = plt.subplots(figsize=(9.5, 7.5), layout="constrained")
    for name in names:
        axes.scatter(
            *places[values == name].T, s=14, color=colours[values == name].iloc[0], label=name
        )
    if values.nunique() > len(names):
        others = f"{values.nunique() - len(names)} others"
        axes.scatter(*places[~values.isin(names)].T, s=14, color=NEUTRAL, label=others)
    shown: list[np.ndarray] = []
    for place, path, colour in zip(places, catalog["path"], colours, strict=True):
        if all(np.abs(place - other).max() > ROOM for other in shown):
            shown.append(place)
            inset = axes.inset_axes((*(place - ROOM / 2), ROOM, ROOM), transform=axes.transData)
            show_photo(inset, path)
            frame(inset, colour, 1.8)
    axes.set(xlim=(-ROOM, 1 + ROOM), ylim=(-ROOM, 1 + ROOM), xticks=[], yticks=[])
    axes.set_title(title)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside right upper", title=by, frameon=False
    )
    return figure


@styled
def show_explanations(
    explanations: Sequence[Explanation], titles: Sequence[str] = (), *, title: str = ""
) -> Figure:
    """Query and result as the encoder saw them, and where in each the score comes from: bright is
    much, dark little.
    """
    size = (7, 1.95 * len(explanations) + 0.5)
    figure, grid = plt.subplots(
        len(explanations), 4, figsize=size, squeeze=False, layout="constrained"
    )
    for row, why in zip(grid, explanations, strict=True):
        sides = (
            (why.query_pixels, why.query_map, "query"),
            (why.result_pixels, why.result_map, "result"),
        )
        for (photo, heat), (pixels, places, name) in zip(row.reshape(2, 2), sides, strict=True):
            height, width = pixels.shape[:2]
            photo.imshow(pixels)
            photo.set_title(name)
            heat.imshow(pixels.mean(axis=2), cmap="gray", vmin=-128, vmax=383)
            area = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "interpolation": "bicubic"}
            heat.imshow(
                places,
                cmap="inferno",
                alpha=0.6,
                vmin=min(places.min(), 0),
                vmax=places.max(),
                **area,
            )
            heat.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            heat.set_title(f"its places sum to {places.sum():.3f}")
        for axes in row:
            axes.set(xticks=[], yticks=[])
    for axes, text in zip(grid[:, 0], titles, strict=False):
        axes.set_ylabel(text)
    figure.suptitle(title or "Where the similarity comes from")
    return figure
