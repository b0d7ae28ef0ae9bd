"""The figures that the notebooks show, in one style; what a colour tells, a mark tells too."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lookalike.images import ImageError, load_image

# Okabe and Ito's palette, which stays apart for colour-blind readers: https://jfly.uni-koeln.de/color/
RIGHT, WRONG, NEUTRAL = "#0072B2", "#D55E00", "#666666"
THUMBNAIL = 160  # pixels; enough for an inch and a half at the resolution of a notebook
SCORES = {"cosine": "cosine similarity", "euclidean": "Euclidean distance"}
STYLE = {"figure.dpi": 100, "font.size": 9, "axes.titlesize": 9, "figure.facecolor": "white", "figure.titlesize": 12}
STYLE |= {"text.parse_math": False}  # a label may have a dollar sign


def _show_photo(axes: Axes, photo: str | np.ndarray) -> None:
    """One photo without axes; a grey tile says so if its file is gone."""
    axes.set_xticks([])
    axes.set_yticks([])
    try:
        pixels = load_image(photo, THUMBNAIL, fit="letterbox") if isinstance(photo, (str, bytes)) else photo
        axes.imshow(pixels)
    except ImageError:
        axes.set_facecolor("#DDDDDD")
        axes.text(0.5, 0.5, "file not found", ha="center", va="center", transform=axes.transAxes)


def _frame(axes: Axes, colour: str, width: float) -> None:
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=width)


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
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(len(queries), columns, figsize=size, squeeze=False, layout="constrained")
        for row, (query, table) in enumerate(zip(queries.to_dict("records"), results, strict=True)):
            wanted = query.get(by)
            _show_photo(grid[row, 0], query["path"])
            _frame(grid[row, 0], "black", 2.5)
            grid[row, 0].set_title("query" + (f"\n{wanted}" if pd.notna(wanted) else ""), fontweight="bold")
            for axes, found in zip(grid[row, 1:], table.to_dict("records"), strict=False):
                _show_photo(axes, found["path"])
                judged = pd.notna(wanted) and pd.notna(found.get(by))
                right = judged and found[by] == wanted
                n_right, n_judged = n_right + right, n_judged + judged
                _frame(axes, (RIGHT if right else WRONG) if judged else NEUTRAL, 2.5)
                mark = ("" if right else " \N{MULTIPLICATION SIGN}") if judged else ""
                label = found.get(by) if pd.notna(found.get(by)) else ""
                axes.set_title(
                    f"{found['rank']}{mark} | {found['score']:.3f}\n{label}", color=WRONG if mark else "black"
                )
            for axes in grid[row, 1 + len(table) :]:
                axes.set_axis_off()
        verdict = f": {n_right} of {n_judged} have the query's {by}" if n_judged else ""
        figure.suptitle(title or f"Most alike by {SCORES[metric]}{verdict}")
    plt.close(figure)  # else a notebook shows it twice: once when made, once as the cell's value
    return figure


def show_contact_sheet(
    catalog: pd.DataFrame, *, by: str = "label", per_row: int = 10, max_rows: int = 8, seed: int = 0, title: str = ""
) -> Figure:
    """A look at the catalogue: one row of photos a label, drawn at random, with the number of images it has."""
    groups = catalog.assign(**{by: catalog[by].fillna("no label")}).groupby(by, sort=True)
    shown = [(name, group) for name, group in groups][:max_rows]
    with plt.rc_context(STYLE):
        size = (1.1 * per_row, 1.15 * len(shown) + 0.4)
        figure, grid = plt.subplots(len(shown), per_row, figsize=size, squeeze=False, layout="constrained")
        for axes_row, (name, group) in zip(grid, shown, strict=True):
            sample = group.sample(min(per_row, len(group)), random_state=seed)
            for axes in axes_row[len(sample) :]:
                axes.set_axis_off()
            for axes, path in zip(axes_row, sample["path"], strict=False):
                _show_photo(axes, path)
                _frame(axes, "#CCCCCC", 0.8)
            axes_row[0].set_ylabel(f"{name}\n{len(group)} images", rotation=0, ha="right", va="center", labelpad=8)
        left_out = groups.ngroups - len(shown)
        figure.suptitle(
            (title or f"{len(catalog)} images") + (f" ({left_out} more labels not shown)" if left_out else "")
        )
    plt.close(figure)
    return figure


def show_precision(scores: pd.DataFrame) -> Figure:
    """Precision@k of `evaluation.evaluate` as bars, with the level of guessing as a line across each."""
    k, best, chance = scores.index[-1], scores["Precision@k"].iloc[-1], scores["chance"].iloc[-1]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
        places = np.arange(len(scores))
        bars = axes.bar(places, scores["Precision@k"], color=RIGHT, width=0.6)
        axes.bar_label(bars, fmt="%.2f", padding=2)
        axes.hlines(scores["chance"], places - 0.4, places + 0.4, color=WRONG, linestyle="--", label="guessing")
        axes.set(ylim=(0, 1.12), ylabel="Precision@k, from 0 to 1")
        axes.set_xticks(places, [f"k = {k}" for k in scores.index])
        axes.set_title(f"{best / chance:.1f} times as good as guessing at k = {k}" if chance else "nothing to find")
        axes.legend(loc="upper right")
        axes.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure
