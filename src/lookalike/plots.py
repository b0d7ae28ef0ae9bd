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
SPLIT_COLOURS = {"train": RIGHT, "validation": "#E69F00", "test": "#009E73", "no split yet": NEUTRAL}
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


def show_counts(catalog: pd.DataFrame, *, by: str = "label", max_rows: int = 25, title: str = "") -> Figure:
    """Images a label as bars, largest first; in the colours of the splits where the catalogue has them."""
    labels = catalog[by].fillna("no label")
    counts = pd.crosstab(labels, catalog["split"].fillna("no split yet"))
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    counts = counts[[name for name in SPLIT_COLOURS if name in counts]]
    total, shown = counts.sum(axis=1), counts.head(max_rows)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 0.32 * len(shown) + 1.2), layout="constrained")
        left = np.zeros(len(shown))
        for split in counts:
            axes.barh(shown.index, shown[split], left=left, color=SPLIT_COLOURS[split], label=split)
            left += shown[split].to_numpy()
        axes.bar_label(axes.containers[-1], labels=[f"{count:,}" for count in total.head(max_rows)], padding=3)
        axes.invert_yaxis()
        axes.set(xlabel="images", xlim=(0, 1.12 * left.max()))
        if len(counts.columns) > 1:
            figure.legend(loc="outside right upper")
        more = f" ({len(counts) - len(shown)} more labels not shown)" if len(counts) > len(shown) else ""
        finding = f"the largest label has {total.max() / total.min():.1f} times the images of the smallest"
        finding = finding if total.max() > total.min() else f"{total.max():,} images of each label"
        axes.set_title((title or finding) + more)
        axes.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure


def show_sizes(catalog: pd.DataFrame, *, min_side: int) -> Figure:
    """Two histograms: the shorter side of each image with the least that is accepted, and width divided by height."""
    sides = catalog[["pixel_width", "pixel_height"]]
    shorter, shape = sides.min(axis=1), catalog["pixel_width"] / catalog["pixel_height"]
    small = int((shorter < min_side).sum())
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
        ends = min(shorter.min(), min_side) / 1.2, max(shorter.max(), min_side) * 1.2
        left.hist(shorter, bins=np.geomspace(*ends, 30), color=RIGHT)
        left.axvline(min_side, color=WRONG, linestyle="--", label=f"{min_side} pixels")
        left.set(xscale="log", xlabel="shorter side in pixels", ylabel="images")
        left.set_title(f"{small} of {len(catalog):,} images are smaller than {min_side} pixels")
        left.set_xticks(sizes := 2 ** np.arange(np.floor(np.log2(ends[0])), np.ceil(np.log2(ends[1])) + 1))
        left.set_xticklabels([f"{size:g}" for size in sizes])
        left.minorticks_off()
        left.legend()
        far = max(2.0, *np.abs(np.log2(shape.clip(1 / 16, 16)))) if len(shape) else 2.0
        right.hist(np.log2(shape.clip(1 / 16, 16)), bins=np.linspace(-far, far, 31), color=RIGHT)
        ticks = np.arange(-np.floor(far), far + 0.5)
        right.set_xticks(ticks, [f"1:{2**-tick:g}" if tick < 0 else f"{2**tick:g}:1" for tick in ticks])
        right.set(xlabel="width : height", ylabel="images")
        right.set_title(f"{(shape - 1).abs().lt(0.1).mean():.0%} are square, or nearly")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure


def show_pairs(catalog: pd.DataFrame, pairs: pd.DataFrame, *, by: str = "label", max_pairs: int = 8) -> Figure:
    """Copies below their originals, with what each is labelled; orange and a cross where the two labels differ."""
    images = catalog.set_index("image_id")
    shown = pairs.head(max_pairs).to_dict("records")
    with plt.rc_context(STYLE):
        size = (max(1.35 * len(shown), 3.5), 3.9)
        figure, grid = plt.subplots(2, len(shown), figsize=size, squeeze=False, layout="constrained")
        for column, pair in zip(grid.T, shown, strict=True):
            first, other = images.loc[pair["image_id"]], images.loc[pair["other_id"]]
            differ = pd.notna(first[by]) and pd.notna(other[by]) and first[by] != other[by]
            for axes, image in zip(column, (first, other), strict=True):
                _show_photo(axes, image["path"])
                _frame(axes, WRONG if differ else NEUTRAL, 2.5)
                axes.set_xlabel(f"{image['pixel_width']} x {image['pixel_height']}")
                mark = " \N{MULTIPLICATION SIGN}" if differ else ""
                axes.set_title(f"{image[by] if pd.notna(image[by]) else ''}{mark}", color=WRONG if differ else "black")
            column[0].set_title(f"{pair['step']}\n{pair['score']:.3f}\n{column[0].get_title()}")
        more = f", the first {len(shown)}" if len(pairs) > len(shown) else ""
        figure.suptitle(f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} of copies{more}")
    plt.close(figure)
    return figure


def show_comparison(trials: pd.DataFrame, *, x: str, hue: str, y: str, title: str = "") -> Figure:
    """Means of repeated measurements as dots, one colour and marker for each `hue`, with their standard deviation."""
    places = {name: place for place, name in enumerate(dict.fromkeys(trials[x]))}
    hues = list(dict.fromkeys(trials[hue]))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(max(4.5, 2.1 * len(places)), 3), layout="constrained")
        for number, name in enumerate(hues):
            values = trials[trials[hue] == name].groupby(x, sort=False)[y].agg(["mean", "std"])
            at = [places[place] + 0.24 * (number - (len(hues) - 1) / 2) for place in values.index]
            colour, marker = (WRONG, RIGHT, NEUTRAL)[number % 3], "osD"[number % 3]
            axes.errorbar(at, values["mean"], values["std"], fmt=marker, color=colour, capsize=4, label=name)
            for place, value in zip(at, values["mean"], strict=True):
                axes.annotate(f"{value:.2f}", (place, value), (8, 0), textcoords="offset points", va="center")
        axes.set_xticks(range(len(places)), places)
        axes.set(ylabel=y, ylim=(0, 1.05), xlim=(-0.5, len(places) - 0.3), title=title)
        axes.legend(loc="upper right")
        axes.spines[["top", "right"]].set_visible(False)
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
