"""The figures of copies: groups with what to keep, precision against recall, what is found of each
kind.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lookalike.plots import NEUTRAL, PALETTE, RIGHT, WRONG, frame, show_photo, styled


@styled
def show_groups(
    groups: pd.DataFrame, catalog: pd.DataFrame, *, max_groups: int = 6, per_row: int = 7
) -> Figure:
    """Groups of copies, a row each: what to keep in a thick frame, then what could go, with step
    and score.

    Parameters
    ----------
    groups
        As `group_copies` gives them, at least one.
    """
    paths = catalog.set_index("image_id")["path"]
    members = list(groups.groupby("keep", sort=False))
    shown = members[:max_groups]
    columns = 1 + min(per_row, max(len(group) for _, group in shown))
    size = (max(1.35 * columns, 4), 1.85 * len(shown) + 0.5)
    figure, grid = plt.subplots(
        len(shown), columns, figsize=size, squeeze=False, layout="constrained"
    )
    for row, (keep, group) in zip(grid, shown, strict=True):
        for axes in row[1 + len(group) :]:
            axes.set_axis_off()
        show_photo(row[0], paths[keep])
        frame(row[0], RIGHT, 3)
        row[0].set_title("keep", color=RIGHT, fontweight="bold")
        for axes, copy in zip(row[1:], group.to_dict("records"), strict=False):
            show_photo(axes, paths[copy["drop"]])
            frame(axes, NEUTRAL, 1)
            axes.set_title(f"{copy['step']}\n{copy['score']:.3f}")
        if len(group) > per_row:
            row[-1].set_xlabel(f"and {len(group) - per_row} more")
    more = f"; the first {len(shown)}" if len(members) > len(shown) else ""
    copies = "photo is a copy" if len(groups) == 1 else "photos are copies"
    figure.suptitle(
        f"{len(groups)} {copies} of {len(members)} {'other' if len(members) == 1 else 'others'}{more}"
    )
    return figure


@styled
def show_precision_recall(curve: pd.DataFrame, *, precision: float, title: str = "") -> Figure:
    """Precision against recall of each step, as `thresholds.precision_recall` gives them; dashed
    the one asked for.
    """
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    for number, (step, part) in enumerate(curve.groupby("step", sort=False)):
        style = {"color": PALETTE[number], "marker": "osD^"[number % 4], "markersize": 5}
        axes.plot(part["recall"], part["precision"], label=step, markevery=[-1], **style)
    axes.axhline(precision, color=NEUTRAL, linestyle="--", label=f"precision {precision}")
    axes.set(
        xlim=(0, 1.02), ylim=(0, 1.05), xlabel="recall: share of the copies found", title=title
    )
    axes.set_ylabel("precision: share of the found that is right")
    axes.legend(loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@styled
def show_scores(
    scores: pd.DataFrame, thresholds: Mapping[str, float], *, title: str = ""
) -> Figure:
    """How originals and others score, a panel for each step that has a threshold, dashed: bars on a
    logarithmic scale.

    Parameters
    ----------
    scores
        As `thresholds.score_copies` gives them.
    thresholds : {step: least score}
    """
    size = (4.5 * len(thresholds), 3)
    figure, panels = plt.subplots(
        1, len(thresholds), figsize=size, squeeze=False, layout="constrained"
    )
    for axes, (step, threshold) in zip(panels[0], thresholds.items(), strict=True):
        part = scores[scores["step"] == step]
        bins = np.linspace(min([*part["score"], threshold]), 1, 41)
        for right, label, colour, hatch in (
            (False, "another photo", WRONG, "///"),
            (True, "original", RIGHT, None),
        ):
            values = part.loc[part["right"] == right, "score"]
            axes.hist(values, bins, color=colour, alpha=0.6, label=label, hatch=hatch)
        axes.axvline(threshold, color="black", linestyle="--", label="threshold")
        axes.set(
            yscale="log" if len(part) else "linear", xlabel=f"score: {step}", ylabel="candidates"
        )
        missed = (part["right"] & (part["score"] < threshold)).sum()
        false = (~part["right"] & (part["score"] >= threshold)).sum()
        axes.set_title(f"{missed} originals below, {false} others above")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(loc="upper left")
    figure.suptitle(title)
    return figure


@styled
def show_recall_by_kind(table: pd.DataFrame, *, title: str = "") -> Figure:
    """What share of each kind of copy is found, as `thresholds.recall_by_kind` gives it: dark is
    much.
    """
    shares = table.drop(columns="false")
    size = (1.25 * len(shares.columns) + 1.8, 0.26 * len(shares) + 1)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.imshow(shares.to_numpy(float), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        share = shares.iloc[row, column]
        axes.text(
            column,
            row,
            f"{share:.2f}",
            ha="center",
            va="center",
            color="white" if share > 0.6 else "black",
        )
    axes.set_xticks(
        range(len(shares.columns)), [name.replace(" ", "\n", 1) for name in shares.columns]
    )
    axes.set_yticks(range(len(shares)), shares.index)
    axes.xaxis.tick_top()
    axes.axhline(len(shares) - 1.5, color=WRONG, linewidth=1)
    axes.set_xlabel(title, labelpad=8)
    return figure


@styled
def show_pair_scores(
    pair_scores: Mapping[str, np.ndarray], score: float, *, title: str = ""
) -> Figure:
    """How alike the pairs of each kind are, as hills over the cosine similarity, and a line at the
    score of two photos.

    Parameters
    ----------
    pair_scores
        As `service.pair_scores` gives them.
    """
    figure, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
    for (kind, scores), colour in zip(pair_scores.items(), PALETTE, strict=False):
        axes.hist(
            scores, 60, density=True, histtype="stepfilled", alpha=0.5, color=colour, label=kind
        )
    axes.axvline(score, color="black", label="these two photos")
    axes.set(xlabel="cosine similarity", yticks=[], title=title)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    return figure
