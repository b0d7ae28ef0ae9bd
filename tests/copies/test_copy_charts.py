import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from conftest import make_catalog
from lookalike.copies.charts import (
    show_groups,
    show_pair_scores,
    show_precision_recall,
    show_recall_by_kind,
    show_scores,
)
from lookalike.plots import NEUTRAL, RIGHT, WRONG


def grouped(*rows):
    """Rows of (keep, drop), as numbers of photos, in steps and scores of their own."""
    rows = [
        (f"{keep:03}.png", f"{drop:03}.png", "alignment", 0.9 - 0.01 * place, "larger")
        for place, (keep, drop) in enumerate(rows)
    ]
    return pd.DataFrame(rows, columns=["keep", "drop", "step", "score", "why"])


def frame_of(axes):
    spine = axes.spines["left"]
    return to_hex(spine.get_edgecolor()).upper(), spine.get_linewidth()


def rows_of(figure, count):
    return np.array(figure.axes).reshape(count, -1)


# --- Groups
# ------------------------------------------------------------------------------------------------------


def test_groups_have_a_row_each_with_what_to_keep_in_a_thick_frame(tmp_path):
    catalog = make_catalog(tmp_path, 6)
    figure = show_groups(grouped((0, 1), (0, 2), (4, 3)), catalog)
    first, second = rows_of(figure, 2)
    assert [axes.get_title() for axes in first] == ["keep", "alignment\n0.900", "alignment\n0.890"]
    assert [axes.get_title() for axes in second] == ["keep", "alignment\n0.880", ""]
    assert [axes.axison for axes in [*first, *second]] == [True] * 5 + [False]
    assert all(axes.images for axes in [*first, *second[:2]])
    assert [frame_of(axes) for axes in first] == [(RIGHT, 3), (NEUTRAL, 1), (NEUTRAL, 1)]
    assert figure.get_suptitle() == "3 photos are copies of 2 others"
    figure.savefig(tmp_path / "figure.png")


def test_each_tile_shows_its_photo(tmp_path):
    catalog = make_catalog(tmp_path, 4).set_index(pd.Index([7] * 4))
    tiles = show_groups(grouped((2, 0), (2, 3)), catalog).axes
    alone = [
        show_groups(grouped((number, number)), catalog).axes[0].images[0].get_array()
        for number in (2, 0, 3)
    ]
    for axes, pixels in zip(tiles, alone, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), pixels)


def test_more_copies_than_fit_are_counted_beside_the_last(tmp_path):
    catalog = make_catalog(tmp_path, 9)
    figure = show_groups(
        grouped(*((0, drop) for drop in range(1, 6)), (6, 7), (6, 8)), catalog, per_row=2
    )
    first, second = rows_of(figure, 2)
    assert len(first) == 3
    assert [axes.get_xlabel() for axes in [*first, *second]] == ["", "", "and 3 more", "", "", ""]
    assert figure.get_suptitle() == "7 photos are copies of 2 others"


def test_more_groups_than_fit_are_said_in_the_title(tmp_path):
    catalog = make_catalog(tmp_path, 8)
    groups = grouped((0, 1), (2, 3), (4, 5), (6, 7))
    figure = show_groups(groups, catalog, max_groups=3)
    assert len(figure.axes) == 6
    assert figure.get_suptitle() == "4 photos are copies of 4 others; the first 3"
    assert (
        show_groups(groups, catalog, max_groups=4).get_suptitle()
        == "4 photos are copies of 4 others"
    )


def test_one_copy_of_one_photo_is_told_in_the_singular(tmp_path):
    figure = show_groups(grouped((1, 0)), make_catalog(tmp_path, 2))
    assert len(figure.axes) == 2
    assert figure.get_suptitle() == "1 photo is a copy of 1 other"


def test_groups_come_in_the_order_of_the_table(tmp_path):
    catalog = make_catalog(tmp_path, 6)
    figure = show_groups(grouped((5, 0), (1, 2), (5, 3)), catalog)
    first, second = rows_of(figure, 2)
    assert [axes.get_title() for axes in first] == ["keep", "alignment\n0.900", "alignment\n0.880"]
    assert [axes.get_title() for axes in second[:2]] == ["keep", "alignment\n0.890"]


def test_a_lost_file_is_a_grey_tile(tmp_path):
    catalog = make_catalog(tmp_path, 3)
    (tmp_path / "000.png").unlink()
    (tmp_path / "002.png").unlink()
    keep, there, lost = show_groups(grouped((0, 1), (0, 2)), catalog).axes
    assert there.images
    for axes in (keep, lost):
        assert not axes.images
        assert "not found" in axes.texts[0].get_text()
    assert frame_of(keep) == (RIGHT, 3)


# --- Precision and recall
# ----------------------------------------------------------------------------------------


def test_precision_is_drawn_against_recall_with_a_line_a_step():
    curve = pd.DataFrame(
        {
            "step": ["perceptual hash", "perceptual hash", "alignment"],
            "threshold": [0.9, 0.8, 0.7],
            "precision": [1.0, 0.75, 0.5],
            "recall": [0.25, 0.5, 0.9],
            "false": [0, 1, 2],
        }
    )
    axes = show_precision_recall(curve, precision=0.999, title="resized").axes[0]
    by_hash, laid, asked = axes.lines
    assert by_hash.get_xdata().tolist() == [0.25, 0.5]
    assert by_hash.get_ydata().tolist() == [1, 0.75]
    assert laid.get_xdata().tolist() == [0.9]
    assert by_hash.get_color() != laid.get_color()
    assert by_hash.get_marker() != laid.get_marker()  # told apart without colours too
    assert list(asked.get_ydata()) == [0.999, 0.999]
    assert asked.get_linestyle() == "--"
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["perceptual hash", "alignment", "precision 0.999"]
    assert axes.get_title() == "resized"
    assert axes.get_xlim() == (0, 1.02)
    assert axes.get_ylim() == (0, 1.05)


def test_a_curve_of_nothing_and_of_five_steps_can_be_drawn(tmp_path):
    empty = pd.DataFrame(columns=["step", "threshold", "precision", "recall", "false"])
    assert len(show_precision_recall(empty, precision=0.9).axes[0].lines) == 1
    five = pd.DataFrame(
        {"step": list("abcde"), "threshold": 0.5, "precision": 0.5, "recall": 0.5, "false": 0}
    )
    figure = show_precision_recall(five, precision=0.9)
    assert len(figure.axes[0].lines) == 6
    figure.savefig(tmp_path / "figure.png")


# --- Scores
# ------------------------------------------------------------------------------------------------------


def scored(*rows):
    return pd.DataFrame(rows, columns=["step", "score", "right"])


def counted(axes):
    """What the bars of originals and of others sum to."""
    others, originals = axes.containers
    return sum(bar.get_height() for bar in originals), sum(bar.get_height() for bar in others)


def test_scores_have_a_panel_a_threshold_and_say_what_is_on_the_wrong_side():
    scores = scored(
        ("alignment", 0.95, True),
        ("alignment", 0.8, True),
        ("alignment", 0.7, True),
        ("alignment", 0.8, False),
        ("alignment", -0.5, False),
        ("perceptual hash", 1.0, True),
        ("similarity alone", 0.9, False),
    )
    figure = show_scores(scores, {"alignment": 0.8, "perceptual hash": 0.985}, title="copies")
    laid, by_hash = figure.axes
    assert laid.get_title() == "1 originals below, 1 others above"
    assert by_hash.get_title() == "0 originals below, 0 others above"
    assert (counted(laid), counted(by_hash)) == ((3, 2), (1, 0))
    assert laid.get_xlabel() == "score: alignment"
    assert laid.get_yscale() == "log"
    (threshold,) = laid.lines
    assert list(threshold.get_xdata()) == [0.8, 0.8]
    others, originals = laid.containers
    assert (
        to_hex(originals[0].get_facecolor()).upper(),
        to_hex(others[0].get_facecolor()).upper(),
    ) == (RIGHT, WRONG)
    assert others[0].get_hatch() != originals[0].get_hatch()
    assert figure.get_suptitle() == "copies"


def test_scores_that_are_all_one_and_none_at_all_can_be_drawn(tmp_path):
    scores = scored(("content", 1.0, True), ("content", 1.0, True))
    figure = show_scores(scores, {"content": 1.0, "alignment": 0.8})
    figure.savefig(tmp_path / "figure.png")
    content, nothing = figure.axes
    assert counted(content) == (2, 0)
    assert counted(nothing) == (0, 0)
    assert nothing.get_title() == "0 originals below, 0 others above"
    assert nothing.get_xlim()[0] <= 0.8 <= nothing.get_xlim()[1]


# --- By kind
# -----------------------------------------------------------------------------------------------------


def test_recall_by_kind_is_a_table_in_shades_without_the_false_pairs(tmp_path):
    table = pd.DataFrame(
        {
            "perceptual hash": [1.0, 0.25, 0.625],
            "similarity alone": [0.5, 0.0, 0.25],
            "together": [1.0, 0.25, 0.625],
            "false": [0, 3, 3],
        },
        index=pd.Index(["resize 50 %", "$watermark$", "all"], name="kind"),
    )
    figure = show_recall_by_kind(table, title="two kinds")
    axes = figure.axes[0]
    shares = axes.images[0].get_array()
    np.testing.assert_array_equal(shares, table.drop(columns="false").to_numpy())
    assert axes.images[0].get_clim() == (0, 1)
    written = {
        text.get_position()[::-1]: (text.get_text(), text.get_color()) for text in axes.texts
    }
    assert len(written) == 9
    for (row, column), (text, colour) in written.items():
        assert text == f"{shares[row, column]:.2f}"
        assert colour == ("white" if shares[row, column] > 0.6 else "black")
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "perceptual\nhash",
        "similarity\nalone",
        "together",
    ]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "resize 50 %",
        "$watermark$",
        "all",
    ]
    (line,) = axes.lines
    assert list(line.get_ydata()) == [1.5, 1.5]  # above "all"
    assert axes.get_xlabel() == "two kinds"
    figure.savefig(tmp_path / "figure.png")
    assert "false" in table  # the table itself stays as it is


def test_the_scores_of_pairs_are_a_hill_a_kind_with_a_line_at_the_score_of_two_photos():
    pairs = {"same product": np.array([0.8, 0.9]), "other": np.array([0.1, 0.2, 0.2])}
    axes = show_pair_scores(pairs, 0.95, title="t").axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "same product",
        "other",
        "these two photos",
    ]
    hills = [patch.get_path().vertices for patch in axes.patches]
    assert [(hill[:, 0].min(), hill[:, 0].max()) for hill in hills] == [(0.8, 0.9), (0.1, 0.2)]
    assert axes.lines[0].get_xdata() == [0.95, 0.95]
    assert axes.get_title() == "t"
