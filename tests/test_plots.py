import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from conftest import make_catalog
from lookalike.plots import RIGHT, WRONG, show_contact_sheet, show_gallery, show_precision


def results_of(catalog, labels):
    table = catalog.iloc[: len(labels)].assign(label=labels)
    table.insert(0, "rank", np.arange(1, len(labels) + 1))
    table.insert(1, "score", np.linspace(0.9, 0.5, len(labels)))
    return table


def frame_of(axes):
    return to_hex(axes.spines["left"].get_edgecolor()).upper()


def test_gallery_marks_what_is_wrong_and_tells_rank_score_and_label(tmp_path):
    catalog = make_catalog(tmp_path, 4)
    figure = show_gallery(catalog.iloc[:1], [results_of(catalog, ["a", "b"])])
    query, right, wrong = figure.axes
    assert query.get_title() == "query\na"
    assert right.get_title() == "1 | 0.900\na"
    assert wrong.get_title() == "2 \N{MULTIPLICATION SIGN} | 0.500\nb"
    assert (frame_of(right), frame_of(wrong)) == (RIGHT, WRONG)
    assert all(axes.images for axes in figure.axes)
    assert figure.get_suptitle() == "Most alike by cosine similarity: 1 of 2 have the query's label"


def test_gallery_without_labels_judges_nothing_and_a_lost_file_is_a_grey_tile(tmp_path):
    catalog = make_catalog(tmp_path, 4)
    (tmp_path / "001.png").unlink()
    figure = show_gallery(catalog.iloc[:1][["path"]], [results_of(catalog, ["a", None])])
    _, first, second = figure.axes
    assert first.get_title() == "1 | 0.900\na"
    assert frame_of(first) not in (RIGHT, WRONG)
    assert not second.images
    assert figure.get_suptitle() == "Most alike by cosine similarity"
    assert "not found" in second.texts[0].get_text()


def test_contact_sheet_has_a_row_a_label_with_its_count(tmp_path):
    catalog = make_catalog(tmp_path, 10)
    figure = show_contact_sheet(catalog, per_row=3)
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == [
        "a\n4 images",
        "b\n3 images",
        "c\n3 images",
    ]
    assert sum(bool(axes.images) for axes in figure.axes) == 9
    cut = show_contact_sheet(catalog, max_rows=2, title="mine")
    assert cut.get_suptitle() == "mine (1 more labels not shown)"
    unlabelled = show_contact_sheet(catalog.assign(label=None))
    assert unlabelled.axes[0].get_ylabel() == "no label\n10 images"


def test_precision_is_drawn_beside_guessing():
    scores = pd.DataFrame({"Precision@k": [0.9, 0.6], "chance": [0.25, 0.2]}, index=[1, 10])
    axes = show_precision(scores).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.9, 0.6]
    assert [line[0, 1] for line in axes.collections[0].get_segments()] == [0.25, 0.2]
    assert axes.get_title() == "3.0 times as good as guessing at k = 10"


def test_a_label_with_a_dollar_sign_is_text(tmp_path):
    catalog = make_catalog(tmp_path, 3).assign(label="a$^$b")
    for figure in (show_contact_sheet(catalog), show_gallery(catalog.iloc[:1], [results_of(catalog, ["a$^$b"])])):
        figure.savefig(tmp_path / "figure.png")


def test_nothing_to_find_is_said():
    scores = pd.DataFrame({"Precision@k": [0.0], "chance": [0.0]}, index=[10])
    assert show_precision(scores).axes[0].get_title() == "nothing to find"
