"""The figures of exports and of scale: what is gained and what is lost, and what grows with the
catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lookalike.plots import NEUTRAL, RIGHT, WRONG, styled

# The first is what others are compared with.
COLOURS = (NEUTRAL, RIGHT, "#009E73", WRONG, "#CC79A7", "#E69F00")
MARKERS = "osD^vP"


@styled
def show_tradeoff(
    table: pd.DataFrame, *, x: str, y: str, area: str, filled: Mapping[str, bool], title: str
) -> Figure:
    """A circle for each row, as large as `area` says, filled where `filled` is true: the best are
    at the upper left.
    """
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    size = table[area] / table[area].max()
    low = table[y].min()
    high = table[y].max()
    axes.set_ylim(low - 0.25 * (high - low or 0.1), high + 0.25 * (high - low or 0.1))
    axes.set_xlim(0, 1.25 * table[x].max())
    heights = _apart(table[y].to_numpy(), table[x].to_numpy(), 0.075 * np.ptp(axes.get_ylim()))
    edge = axes.get_xlim()[1]
    for number, (name, row) in enumerate(table.iterrows()):
        known = np.isfinite(row[area])
        colour = RIGHT if filled[name] else WRONG
        look = {"facecolor": colour if filled[name] else "white", "edgecolor": colour, "alpha": 0.8}
        axes.scatter(row[x], row[y], 30 + 500 * (size[name] if known else 0), **look, zorder=2)
        text = f"{name}, {row[area]:.1f} {area}" if known else name
        line = {"arrowstyle": "-", "color": NEUTRAL, "linewidth": 0.6}
        axes.annotate(
            text, (row[x], row[y]), (1.02 * edge, heights[number]), va="center", arrowprops=line
        )
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _apart(heights: np.ndarray, places: np.ndarray, gap: float) -> np.ndarray:
    """The heights, moved up and down as little as puts a gap between all of them; of equal ones the
    leftmost lowest.
    """
    order = np.lexsort((places, heights))
    moved = heights[order] - gap * np.arange(len(order))
    for _ in range(len(moved)):  # neighbours out of order meet at their mean
        falling = np.flatnonzero(np.diff(moved) < -1e-12)
        if not len(falling):
            break
        start = falling[0]
        stop = start + 2
        while start > 0 and moved[start - 1] > moved[start:stop].mean():
            start -= 1
        moved[start:stop] = moved[start:stop].mean()
    result = np.empty_like(moved)
    result[order] = moved + gap * np.arange(len(order))
    return result


@styled
def show_growth(
    table: pd.DataFrame, *, x: str, line: str, panels: Mapping[str, str], title: str
) -> Figure:
    """A panel for each measured column, over x, both in powers of ten; a line for each value of one
    column.

    Parameters
    ----------
    panels
        For each column the title of its panel; "recall" is a share, and drawn as one.
    """
    size = (8, 2.7 * -(-len(panels) // 2) + 0.6)
    figure, grid = plt.subplots(
        -(-len(panels) // 2), 2, figsize=size, squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (column, name) in zip(grid.flat, panels.items(), strict=False):
        for number, (which, part) in enumerate(table.groupby(line, sort=False)):
            look = {
                "color": COLOURS[number % len(COLOURS)],
                "marker": MARKERS[number % len(MARKERS)],
            }
            axes.plot(part[x], part[column], **look, markersize=5, label=which)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        if column.startswith("recall"):
            axes.set_ylim(min(0.9, table[column].min() - 0.02), 1.005)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())
            powers = np.log10(table[column][table[column] > 0])
            axes.set_ylim(10 ** np.floor(powers.min() - 0.1), 10 ** np.ceil(powers.max() + 0.1))
        axes.set(xlabel=x, title=name)
        axes.grid(True, color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title)
    return figure


@styled
def show_times(milliseconds: Mapping[str, float], *, title: str = "") -> Figure:
    """What each step takes, as bars one below the other, with the number beside each."""
    figure, axes = plt.subplots(figsize=(7, 0.3 * len(milliseconds) + 0.7), layout="constrained")
    bars = axes.barh(list(milliseconds), list(milliseconds.values()), color=RIGHT)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set(xlabel="milliseconds", xlim=(0, 1.15 * max(milliseconds.values())), title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
