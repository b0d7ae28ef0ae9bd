"""The picture of the whole way, which every notebook shows with its own stage marked."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lookalike.plots import NEUTRAL, RIGHT, styled

STAGES = {  # by the number of the notebook: what it makes
    "01": "a catalogue\nto be trusted",
    "02": "a head that\nnames kinds",
    "03": "a network\nfine-tuned",
    "04": "vectors",
    "05": "recommen-\ndations",
    "06": "scores",
    "07": "copies found",
    "08": "a page to\nsearch with",
    "09": "files for\nother programs",
    "10": "search among\nmillions",
}
WIDTH, HEIGHT = 0.84, 0.62  # of a box, where the next one begins at 1


@styled
def show_way(stage: str) -> Figure:
    """The stages from photos to recommendations, and what is made of those, with the present stage filled.

    Parameters
    ----------
    stage
        The number of a notebook, "00" to "10"; "00" goes the whole way, so all are filled.
    """
    figure, axes = plt.subplots(figsize=(9.5, 2.5), layout="constrained")
    arrow = {"arrowstyle": "-|>", "color": NEUTRAL, "shrinkA": 0, "shrinkB": 0}
    _box(axes, 0, 1, "photos", filled=False)
    for number, (name, text) in enumerate(STAGES.items()):
        column, row = 1 + number % 5, 1 - number // 5
        _box(axes, column, row, f"{name}\n{text}", filled=stage in ("00", name))
        start, end = ((column - 1 + WIDTH, 1), (column, 1)) if row else ((column + WIDTH / 2, 0.5), None)
        axes.annotate("", end or (column + WIDTH / 2, HEIGHT / 2), start, arrowprops=arrow)
    last = 5 + WIDTH / 2
    axes.plot([1 + WIDTH / 2, last, last], [0.5, 0.5, 1 - HEIGHT / 2], color=NEUTRAL, linewidth=1)
    axes.set(xlim=(-0.05, 5.9), ylim=(-0.4, 1.4))
    axes.set_axis_off()
    here = "the whole way, once" if stage == "00" else " ".join(STAGES[stage].replace("-\n", "").split())
    axes.set_title(f"Notebook {stage}: {here}")
    return figure


def _box(axes: plt.Axes, column: int, row: int, text: str, *, filled: bool) -> None:
    """One stage, dark with white letters where it is the present one."""
    shape = {"boxstyle": "round,pad=0,rounding_size=0.08", "edgecolor": RIGHT if filled else NEUTRAL}
    corner = (column, row - HEIGHT / 2)
    axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, facecolor=RIGHT if filled else "white", **shape))
    axes.text(column + WIDTH / 2, row, text, ha="center", va="center", color="white" if filled else "black")
