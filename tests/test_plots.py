import numpy as np
from matplotlib.colors import to_hex

from conftest import make_catalog
from lookalike.images import load_image
from lookalike.plots import RIGHT, WRONG, brief, show_contact_sheet, show_gallery, show_photos


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
    assert figure.get_suptitle() == "Most alike: 1 of 2 have the query's label"


def test_gallery_without_labels_judges_nothing_and_a_lost_file_is_a_grey_tile(tmp_path):
    catalog = make_catalog(tmp_path, 4)
    (tmp_path / "001.png").unlink()
    figure = show_gallery(catalog.iloc[:1][["path"]], [results_of(catalog, ["a", None])])
    _, first, second = figure.axes
    assert first.get_title() == "1 | 0.900\na"
    assert frame_of(first) not in (RIGHT, WRONG)
    assert not second.images
    assert figure.get_suptitle() == "Most alike"
    assert "not found" in second.texts[0].get_text()


def test_contact_sheet_has_a_row_a_label_with_its_count(tmp_path):
    catalog = make_catalog(tmp_path, 10)
    figure = show_contact_sheet(catalog, title="mine")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["a\n4 images", "", "", "", "b\n3 images", "", "", "c\n3 images", "", ""]
    assert all(axes.images for axes in figure.axes)
    assert len({axes.get_subplotspec().rowspan.start for axes in figure.axes}) == 3
    cut = show_contact_sheet(catalog, max_rows=2, title="mine")
    assert cut.get_suptitle() == "mine (1 more labels not shown)"
    unlabelled = show_contact_sheet(catalog.assign(label=None), title="mine")
    assert unlabelled.axes[0].get_title() == "no label\n10 images"


def test_a_label_with_a_dollar_sign_is_text(tmp_path):
    catalog = make_catalog(tmp_path, 3).assign(label="a$^$b")
    for figure in (
        show_contact_sheet(catalog, title="$"),
        show_gallery(catalog.iloc[:1], [results_of(catalog, ["a$^$b"])]),
    ):
        figure.savefig(tmp_path / "figure.png")


def test_photos_and_pixels_stand_in_rows_below_their_titles(tmp_path):
    catalog = make_catalog(tmp_path, 3)
    (tmp_path / "001.png").unlink()
    pixels = load_image(catalog["path"][2], 20)
    figure = show_photos(
        [*catalog["path"], pixels], ["a", "b", "c", "$d$"], title="views", per_row=3
    )
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "$d$"]
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 1, 1]
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), pixels)
    assert figure.get_suptitle() == "views"
    figure.savefig(tmp_path / "photos.png")
    gaps = show_photos([None, pixels], ["", "one"], title="", colours=[RIGHT, WRONG])
    assert [axes.get_title() for axes in gaps.axes] == ["one"]
    assert frame_of(gaps.axes[0]) == WRONG


def test_a_long_name_above_a_photo_is_cut_to_its_end():
    assert [brief(value) for value in ("shoe", None, np.nan, 7)] == ["shoe", "", "", "7"]
    assert brief("train/t-shirt/4617d065-2b1c.jpg") == "\N{HORIZONTAL ELLIPSIS}17d065-2b1c.jpg"
    assert len(brief("x" * 60)) == 16
