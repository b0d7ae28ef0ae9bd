"""The figures of numbers that the notebooks show, in the style of `plots`."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lookalike.plots import NEUTRAL, RIGHT, WRONG, styled


@styled
def show_comparison(trials: pd.DataFrame, *, x: str, hue: str, y: str, title: str = "") -> Figure:
    """Means of repeated measurements as dots, one colour and marker for each `hue`, with their
    standard deviation.
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(trials[x]))}
    hues = list(dict.fromkeys(trials[hue]))
    figure, axes = plt.subplots(figsize=(max(4.5, 2.1 * len(places)), 3), layout="constrained")
    for number, name in enumerate(hues):
        values = trials[trials[hue] == name].groupby(x, sort=False)[y].agg(["mean", "std"])
        at = [places[place] + 0.24 * (number - (len(hues) - 1) / 2) for place in values.index]
        colour = (WRONG, RIGHT, NEUTRAL)[number % 3]
        marker = "osD"[number % 3]
        axes.errorbar(
            at, values["mean"], values["std"], fmt=marker, color=colour, capsize=4, label=name
        )
        for place, value, top in zip(at, values["mean"], values.fillna(0).sum(axis=1), strict=True):
            axes.annotate(
                f"{value:.2f}", (place, top), (0, 4), textcoords="offset points", ha="center"
            )
    axes.set_xticks(range(len(places)), places)
    axes.set(ylabel=y, ylim=(0, 1.12), xlim=(-0.5, len(places) - 0.5), title=title)
    figure.legend(loc="outside lower center", ncols=len(hues), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@styled
def show_intervals(
    scores: pd.DataFrame, *, xlabel: str, title: str, changes: bool = False
) -> Figure:
    """A dot and its interval for each row of `value`, `low` and `high`; dashed its `chance`, or for
    changes 0.
    """
    places = np.arange(len(scores))
    figure, axes = plt.subplots(figsize=(7, 0.45 * len(scores) + 1.2), layout="constrained")
    around = np.abs(scores[["low", "high"]].to_numpy().T - scores["value"].to_numpy())
    axes.errorbar(scores["value"], places, xerr=around, fmt="o", color=RIGHT, capsize=4)
    for place, value in zip(places, scores["value"], strict=True):
        text = f"{value:+.3f}" if changes else f"{value:.3f}"
        look = {"ha": "center", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
        axes.annotate(text, (value, place), (0, 7), textcoords="offset points", **look)
    if changes:
        axes.axvline(0, color=WRONG, linestyle="--", label="no change")
    else:
        axes.vlines(
            scores["chance"],
            places - 0.4,
            places + 0.4,
            color=WRONG,
            linestyle="--",
            label="guessing",
        )
    axes.set_yticks(places, scores.index)
    axes.set(
        xlabel=xlabel,
        xlim=None if changes else (0, 1.02),
        ylim=(len(scores) - 0.4, -0.8),
        title=title,
    )
    figure.legend(loc="outside lower center", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@styled
def show_panels(
    table: pd.DataFrame,
    *,
    panel: str,
    x: str,
    line: str,
    levels: Mapping[str, Mapping[str, float]] | None = None,
    per_row: int = 3,
    same_y: bool = True,
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """Curves of `value` between `low` and `high`, a panel for each value of one column, a line for
    each of another.

    Parameters
    ----------
    table : DataFrame with `value`, `low`, `high`, `chance`, and the three columns that are named
        A column `unit` says what `x` is. Where `x` is text, it is taken in the order of the rows.
    levels
        What else to draw across: {name: {panel: height}}.
    same_y
        Whether all panels go from 0 to 1, or each as far as it needs.
    """
    panels = list(dict.fromkeys(table[panel]))
    lines = list(dict.fromkeys(table[line]))
    columns = min(per_row, len(panels))
    n_rows = -(-len(panels) // columns)
    size = (3.1 * columns, 2.5 * n_rows + 0.7)
    figure, grid = plt.subplots(n_rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, panels, strict=False):
        part = table[table[panel] == name]
        one_chance = part.groupby(line)["chance"].mean().nunique() == 1
        for number, which in enumerate(lines):
            curve = part[part[line] == which]
            colour = (RIGHT, "#009E73", "#CC79A7")[number % 3]
            axes.plot(
                curve[x],
                curve["value"],
                color=colour,
                marker="os^"[number % 3],
                markersize=4,
                label=which,
            )
            axes.fill_between(
                curve[x], curve["low"], curve["high"], color=colour, alpha=0.18, linewidth=0
            )
            if not one_chance:
                axes.axhline(
                    curve["chance"].mean(), color=colour, linestyle="--", label=f"{which}, guessing"
                )
        if one_chance:
            axes.axhline(part["chance"].mean(), color=WRONG, linestyle="--", label="guessing")
        for number, (what, heights) in enumerate((levels or {}).items()):
            axes.axhline(
                heights[name], color=NEUTRAL, linestyle=(":", "-.")[number % 2], label=what
            )
        axes.set_title(name)
        axes.set(
            xlabel=part["unit"].iloc[0] if "unit" in part else "",
            ylim=(0, 1.05) if same_y else (0, None),
        )
        if not pd.api.types.is_numeric_dtype(part[x]):
            axes.tick_params(axis="x", labelrotation=40)
            plt.setp(axes.get_xticklabels(), ha="right", rotation_mode="anchor")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    figure.suptitle(title)
    return figure
