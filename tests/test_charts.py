import numpy as np
import pandas as pd
import pytest

from lookalike.charts import show_confusion, show_history, show_intervals
from lookalike.plots import RIGHT, WRONG


def history_of(epochs, *, held_out=True):
    history = {
        "epoch": range(1, epochs + 1),
        "accuracy": np.linspace(0.5, 1, epochs),
        "loss": np.linspace(2, 1, epochs),
    }
    if held_out:
        history |= {"val_accuracy": np.linspace(0.4, 0.8, epochs), "val_loss": np.linspace(3, 2, epochs)}
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
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "validation"]
        borders = [line.get_xdata()[0] for line in axes.lines if line not in curves(axes)]
        assert borders == [0.5, 3.5]
        assert [text.get_text() for text in axes.texts] == ["head", "fine-tuning"]
        assert axes.get_xlim() == (0.5, 5.5)
    accuracy, loss = figure.axes
    np.testing.assert_allclose(curves(accuracy)[1].get_ydata(), [0.4, 0.6, 0.8])
    np.testing.assert_allclose(curves(loss)[2].get_ydata(), [2, 1])


def test_history_without_validation_has_one_curve():
    figure = show_history({"head": history_of(1, held_out=False)})
    for axes in figure.axes:
        assert len(curves(axes)) == 1
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train"]


def test_confusion_counts_true_labels_in_rows_and_predicted_ones_in_columns(tmp_path):
    truth = ["cup", "cup", "cup", "cup", "hat", "hat"]
    predicted = ["cup", "cup", "cup", "hat", "hat", "shoe"]
    figure = show_confusion(pd.Series(truth), np.array(predicted), ["cup", "hat", "shoe", "$ock"])
    axes = figure.axes[0]
    written = {(text.get_position()[1], text.get_position()[0]): int(text.get_text()) for text in axes.texts}
    assert written == {(0, 0): 3, (0, 1): 1, (1, 1): 1, (1, 2): 1}
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [text.get_text() for text in ticks] == ["cup", "hat", "shoe", "$ock"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert axes.get_title() == "4 of 6 right"
    figure.savefig(tmp_path / "confusion.png")


def test_intervals_are_drawn_from_low_to_high_around_their_value():
    scores = pd.DataFrame(
        {"value": [0.5, 0.8], "low": [0.4, 0.75], "high": [0.7, 0.9], "chance": [0.2, 0.2]},
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
    (chance,) = [line for line in axes.lines if line.get_label() == "guessing"]
    assert chance.get_xdata() == [0.2, 0.2]
    assert (axes.get_xlabel(), axes.get_title()) == ("Precision@10", "better by 0.3")


@pytest.mark.parametrize("rows", [1, 6])
def test_intervals_that_hit_the_edges_stay_in_sight(rows):
    scores = pd.DataFrame({"value": [1.0] * rows, "low": [0.0] * rows, "high": [1.0] * rows, "chance": [0.0] * rows})
    axes = show_intervals(scores, xlabel="", title="").axes[0]
    low, high = axes.get_xlim()
    assert low <= 0
    assert high >= 1
