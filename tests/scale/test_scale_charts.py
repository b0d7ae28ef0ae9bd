import numpy as np
import pandas as pd
import pytest

from lookalike.scale.charts import _apart, show_growth, show_times, show_tradeoff

TABLE = pd.DataFrame(
    {"ms": [4.0, 1.0, 2.0], "overlap": [1.0, 0.9, 1.0], "MB": [np.nan, 1.0, 4.0]},
    index=["keras", "small", "large"],
)


def test_a_tradeoff_names_every_row_and_fills_those_that_are_good_enough():
    filled = {"keras": True, "small": False, "large": True}
    axes = show_tradeoff(TABLE, x="ms", y="overlap", area="MB", filled=filled, title="t").axes[0]
    assert [text.get_text() for text in axes.texts] == ["keras", "small, 1.0 MB", "large, 4.0 MB"]
    places = [tuple(dots.get_offsets()[0]) for dots in axes.collections]
    assert places == [(4.0, 1.0), (1.0, 0.9), (2.0, 1.0)]
    white = [bool((dots.get_facecolor()[0, :3] == 1).all()) for dots in axes.collections]
    assert white == [False, True, False]
    assert axes.collections[2].get_sizes()[0] > axes.collections[1].get_sizes()[0]
    heights = [text.xyann[1] for text in axes.texts]
    # Of equals the leftmost is lowest, so that no line crosses another.
    assert heights[1] < heights[2] < heights[0]


def test_rows_that_are_all_equal_are_still_told_apart():
    table = TABLE.assign(overlap=1.0)
    axes = show_tradeoff(
        table, x="ms", y="overlap", area="MB", filled=dict.fromkeys(TABLE.index, True), title=""
    ).axes[0]
    assert np.diff(sorted(text.xyann[1] for text in axes.texts)).min() > 0


@pytest.mark.parametrize("seed", range(5))
def test_labels_keep_their_distance_and_their_order_and_move_no_more_than_they_must(seed):
    random = np.random.default_rng(seed)
    heights, gap = random.random(8).round(1), 0.11
    moved = _apart(heights, random.random(8), gap)
    order = np.argsort(moved)
    assert (np.diff(moved[order]) >= gap - 1e-9).all()
    assert (np.diff(heights[order]) >= 0).all()
    assert moved.mean() == pytest.approx(heights.mean())
    assert _apart(np.array([0.0, 1.0]), np.zeros(2), gap) == pytest.approx([0, 1])


def test_growth_has_a_panel_a_column_and_a_line_a_kind():
    table = pd.DataFrame(
        {"n": [10, 100, 10], "kind": ["a", "a", "b"], "ms": [1, 9, 0.0], "recall": [1, 0.8, 0.9]}
    )
    figure = show_growth(
        table, x="n", line="kind", panels={"ms": "time", "recall": "found", "n": "size"}, title="t"
    )
    shown = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in shown] == ["time", "found", "size"]
    assert [axes.get_yscale() for axes in shown] == ["log", "linear", "log"]
    assert [line.get_label() for line in shown[0].lines] == ["a", "b"]
    assert shown[1].lines[0].get_ydata().tolist() == [1, 0.8]
    assert shown[1].get_ylim()[0] < 0.8  # the worst is seen too
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b"]


def test_times_are_bars_in_the_given_order_from_the_top_with_their_numbers():
    axes = show_times({"decode": 2.0, "search": 0.5}, title="t").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 0.5]
    assert [text.get_text() for text in axes.texts] == ["2.0", "0.5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["decode", "search"]
    assert axes.yaxis_inverted()
