import numpy as np
import pandas as pd
import pytest

from lookalike.charts import show_intervals, show_panels


def test_intervals_are_drawn_from_low_to_high_around_their_value():
    scores = pd.DataFrame(
        {"value": [0.5, 0.8], "low": [0.4, 0.75], "high": [0.7, 0.9], "chance": [0.2, 0.3]},
        index=["ImageNet", "fine-tuned"],
    )
    axes = show_intervals(scores, xlabel="Precision@10", title="better by 0.3").axes[0]
    dots, _, (bars,) = axes.containers[0]
    assert dots.get_xdata().tolist() == [0.5, 0.8]
    ends = [segment.tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[[0.4, 0], [0.7, 0]], [[0.75, 1], [0.9, 1]]])
    assert [text.get_text() for text in axes.texts] == ["0.500", "0.800"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ImageNet", "fine-tuned"]
    assert axes.yaxis_inverted()  # the first row is on top
    (chance,) = [lines for lines in axes.collections if lines.get_label() == "guessing"]
    np.testing.assert_allclose(
        chance.get_segments(), [[[0.2, -0.4], [0.2, 0.4]], [[0.3, 0.6], [0.3, 1.4]]]
    )
    assert (axes.get_xlabel(), axes.get_title()) == ("Precision@10", "better by 0.3")


def test_changes_are_drawn_on_both_sides_of_no_change():
    changes = pd.DataFrame(
        {"value": [0.02, -0.1], "low": [-0.01, -0.2], "high": [0.05, 0.0]}, index=["one", "other"]
    )
    axes = show_intervals(changes, xlabel="change", title="", changes=True).axes[0]
    assert [text.get_text() for text in axes.texts] == ["+0.020", "-0.100"]
    (nothing,) = [line for line in axes.lines if line.get_label() == "no change"]
    assert nothing.get_xdata() == [0, 0]
    low, high = axes.get_xlim()
    assert low <= -0.2
    assert high >= 0.05


@pytest.mark.parametrize("rows", [1, 6])
def test_intervals_that_hit_the_edges_stay_in_sight(rows):
    scores = pd.DataFrame(
        {"value": [1.0] * rows, "low": [0.0] * rows, "high": [1.0] * rows, "chance": [0.0] * rows}
    )
    axes = show_intervals(scores, xlabel="", title="").axes[0]
    low, high = axes.get_xlim()
    assert low <= 0
    assert high >= 1


def measured(x):
    rows = [
        {
            "of": of,
            "x": place,
            "which": which,
            "value": value,
            "low": value - 0.1,
            "high": value + 0.1,
            "chance": chance,
        }
        for of, chance in (("colour", 0.1), ("pattern", 0.3))
        for which, value in (("before", 0.5), ("after", 0.7))
        for place in x
    ]
    table = pd.DataFrame(rows)
    return table.assign(low=table["value"] - 0.1, high=table["value"] + 0.1)


def test_panels_show_a_line_each_its_interval_guessing_and_what_else_there_is():
    figure = show_panels(
        measured([1.0, 2.0, 4.0]).assign(unit="times"),
        panel="of",
        x="x",
        line="which",
        levels={"colour histogram": {"colour": 0.9, "pattern": 0.2}},
        per_row=1,
        ylabel="Precision@10",
        title="colour is lost",
    )
    colour, pattern = figure.axes
    for axes, chance, level in ((colour, 0.1, 0.9), (pattern, 0.3, 0.2)):
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines) == ["before", "after", "guessing", "colour histogram"]
        assert lines["after"].get_xdata().tolist() == [1, 2, 4]
        assert lines["after"].get_ydata().tolist() == [0.7] * 3
        assert lines["guessing"].get_ydata() == pytest.approx([chance] * 2)
        assert lines["colour histogram"].get_ydata() == [level] * 2
        first, second = (band.get_paths()[0].get_extents() for band in axes.collections)
        assert (first.ymin, first.ymax) == pytest.approx((0.4, 0.6))
        assert (second.ymin, second.ymax) == pytest.approx((0.6, 0.8))
        assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_ylim()) == (
            "times",
            "Precision@10",
            (0, 1.05),
        )
    assert (colour.get_title(), pattern.get_title()) == ("colour", "pattern")
    assert figure.get_suptitle() == "colour is lost"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)


def test_panels_take_text_in_the_order_of_the_rows_and_leave_no_empty_frame():
    table = measured(["block2", "block10", "block1"])
    table = pd.concat([table, table[table["of"] == "colour"].assign(of="shape")])
    figure = show_panels(table, panel="of", x="x", line="which", per_row=2, same_y=False)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == ["colour", "pattern", "shape"]
    assert [text.get_text() for text in shown[0].get_xticklabels()] == [
        "block2",
        "block10",
        "block1",
    ]
    assert shown[0].get_ylim()[0] == 0
    assert shown[0].get_ylim()[1] < 1


def test_lines_that_guessing_reaches_differently_have_each_its_own():
    table = measured([1, 2])
    table["chance"] = table["which"].map({"before": 0.1, "after": 0.4})
    lines = {
        line.get_label(): line
        for line in show_panels(table, panel="of", x="x", line="which").axes[0].lines
    }
    assert list(lines) == ["before", "before, guessing", "after", "after, guessing"]
    for which, chance in (("before", 0.1), ("after", 0.4)):
        assert lines[f"{which}, guessing"].get_ydata() == pytest.approx([chance] * 2)
        assert lines[f"{which}, guessing"].get_color() == lines[which].get_color()


def test_a_curve_without_intervals_is_drawn_all_the_same():
    table = measured([1, 2]).assign(low=np.nan, high=np.nan)
    assert len(show_panels(table, panel="of", x="x", line="which").axes[0].lines) == 3
