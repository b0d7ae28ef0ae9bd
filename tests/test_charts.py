import numpy as np
import pandas as pd
import pytest

from lookalike.charts import show_confusion, show_history, show_intervals, show_panels
from lookalike.plots import RIGHT, WRONG


def history_of(epochs, *, held_out=True):
    history = {
        "epoch": range(1, epochs + 1),
        "accuracy": np.linspace(0.5, 1, epochs),
        "loss": np.linspace(2, 1, epochs),
    }
    if held_out:
        history |= {
            "val_accuracy": np.linspace(0.4, 0.8, epochs),
            "val_loss": np.linspace(3, 2, epochs),
        }
    return pd.DataFrame(history)


def curves(axes):
    return [line for line in axes.lines if line.get_marker() == "."]


def test_history_puts_the_phases_one_after_the_other():
    figure = show_history({"head": history_of(3), "fine-tuning": history_of(2)})
    for axes, name in zip(figure.axes, ("accuracy", "loss"), strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", name)
        train, held_out, later_train, later_held_out = curves(axes)
        for line in (train, held_out):
            assert list(line.get_xdata()) == [1, 2, 3]
        for line in (later_train, later_held_out):
            assert list(line.get_xdata()) == [4, 5]
        assert [line.get_color() for line in curves(axes)] == [RIGHT, WRONG] * 2
        assert train.get_linestyle() != held_out.get_linestyle()  # told apart without colours too
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "train",
            "validation",
        ]
        borders = [line.get_xdata()[0] for line in axes.lines if line not in curves(axes)]
        assert borders == [0.5, 3.5]
        assert [text.get_text() for text in axes.texts] == ["head", "fine-tuning"]
        assert axes.get_xlim() == (0.5, 5.5)
    assert (
        figure.get_suptitle() == "validation accuracy 0.40 after the first epoch, 0.80 at the end"
    )
    accuracy, loss = figure.axes
    np.testing.assert_allclose(curves(accuracy)[1].get_ydata(), [0.4, 0.6, 0.8])
    np.testing.assert_allclose(curves(loss)[2].get_ydata(), [2, 1])


def test_history_without_validation_has_one_curve():
    figure = show_history({"head": history_of(1, held_out=False)})
    assert figure.get_suptitle() == "training accuracy 0.50 after the first epoch, 0.50 at the end"
    for axes in figure.axes:
        assert len(curves(axes)) == 1
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train"]


def test_confusion_counts_true_labels_in_rows_and_predicted_ones_in_columns(tmp_path):
    truth = ["cup", "cup", "cup", "cup", "hat", "hat"]
    predicted = ["cup", "cup", "cup", "hat", "hat", "shoe"]
    figure = show_confusion(pd.Series(truth), np.array(predicted), ["cup", "hat", "shoe", "$ock"])
    axes = figure.axes[0]
    written = {
        (text.get_position()[1], text.get_position()[0]): int(text.get_text())
        for text in axes.texts
    }
    assert {place: count for place, count in written.items() if count} == {
        (0, 0): 3,
        (0, 1): 1,
        (1, 1): 1,
        (1, 2): 1,
    }
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [text.get_text() for text in ticks] == ["cup", "hat", "shoe", "$ock"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted label", "True label")
    assert axes.get_title() == "4 of 6 right"
    figure.savefig(tmp_path / "confusion.png")


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
