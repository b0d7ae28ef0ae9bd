"""The figures of exports and of scale: what is gained and what is lost, and what grows with the
catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.isotonic import isotonic_regression

from lookalike.plots import NEUTRAL, PALETTE, RIGHT, WRONG, styled

# The first is what others are compared with.
COLOURS = (NEUTRAL, *PALETTE[:5])
MARKERS = ("o", "s", "D", "^", "v", "P")


@styled
def show_tradeoff(
    table: pd.DataFrame, *, x: str, y: str, area: str, filled: Mapping[str, bool], title: str
) -> Figure:
    """A circle for each row, as large as `area` says, filled where `filled` is true: the best are
    at the upper left.
    """
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    spread = np.ptp(table[y]) or 0.1
    right = 1.25 * table[x].max()
    heights = _apart(table[y].to_numpy(), table[x].to_numpy(), 0.11 * spread)
    sizes = 30 + 500 * (table[area] / table[area].max()).fillna(0)
    for (name, row), height in zip(table.iterrows(), heights, strict=True):
        place = (row[x], row[y])
        colour = RIGHT if filled[name] else WRONG
        inside = colour if filled[name] else "white"
        axes.scatter(*place, sizes[name], facecolor=inside, edgecolor=colour, alpha=0.8, zorder=2)
        text = f"{name}, {row[area]:.1f} {area}" if row[area] > 0 else name
        line = {"arrowstyle": "-", "color": NEUTRAL, "linewidth": 0.6}
        axes.annotate(text, place, (1.02 * right, height), va="center", arrowprops=line)
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(0, right))
    axes.set_ylim(table[y].min() - spread / 4, table[y].max() + spread / 4)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _apart(heights, places, gap):
    """The heights, moved up and down as little as puts a gap between all of them; of equal ones the
    leftmost lowest.
    """
    order = np.lexsort((places, heights))
    room = gap * np.arange(len(order))
    moved = isotonic_regression(heights[order] - room) + room
    return moved[np.argsort(order)]


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
    rows = -(-len(panels) // 2)
    figure = plt.figure(figsize=(8, 2.7 * rows + 0.6), layout="constrained")
    for place, (column, name) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, 2, place)
        axes.set_prop_cycle(color=COLOURS, marker=MARKERS)
        for which, part in table.groupby(line, sort=False):
            axes.plot(part[x], part[column], markersize=5, label=which)
        axes.set(xlabel=x, title=name, xscale="log")
        if column.startswith("recall"):
            axes.set_ylim(min(0.9, table[column].min() - 0.02), 1.005)
        else:
            axes.set_yscale("log")
            powers = np.log10(table[column][table[column] > 0])
            axes.set_ylim(10 ** np.floor(powers.min() - 0.1), 10 ** np.ceil(powers.max() + 0.1))
        axes.minorticks_off()
        axes.grid(True, color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
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
    axes.margins(x=0.15)
    axes.set(xlabel="milliseconds", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
