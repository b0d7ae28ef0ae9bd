import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.colors import to_hex

from conftest import make_catalog
from lookalike.fonts import LETTERS, fonts, missing_letters
from lookalike.images import load_image
from lookalike.plots import RIGHT, WRONG, brief, show_contact_sheet, show_gallery, show_photos

LONG = "Handmade linen dress with pockets, $5 off " * 3


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return make_catalog(tmp_path_factory.mktemp("photos"), 10)


def results_of(catalog, labels):
    table = catalog.iloc[: len(labels)].assign(label=labels)
    ranks, scores = np.arange(1, len(labels) + 1), np.linspace(0.9, 0.5, len(labels))
    return table.assign(rank=ranks, score=scores)


def frame_of(axes):
    return to_hex(axes.spines["left"].get_edgecolor()).upper()


def titles_of(figure):
    return [axes.get_title() for axes in figure.axes]


def test_gallery_marks_what_is_wrong_and_tells_rank_score_and_label(catalog):
    figure = show_gallery(catalog.iloc[:1], [results_of(catalog, ["a", "b"])])
    assert titles_of(figure) == ["query\na", "1 | 0.900\na", "2 × | 0.500\nb"]
    assert [frame_of(axes) for axes in figure.axes[1:]] == [RIGHT, WRONG]
    assert all(axes.images for axes in figure.axes)
    assert figure.get_suptitle() == "Queries and what is most like them"


def test_gallery_without_labels_judges_nothing_and_a_lost_file_is_told(catalog):
    results = results_of(catalog, ["a", None])
    results.loc[1, "path"] = "gone.png"
    figure = show_gallery(catalog.iloc[:1][["path"]], [results])
    _, first, second = figure.axes
    assert first.get_title() == "1 | 0.900\na"
    assert frame_of(first) not in (RIGHT, WRONG)
    assert not second.images
    assert second.get_xlabel() == "file not found"


def test_contact_sheet_has_a_row_a_label_with_its_count(catalog):
    figure = show_contact_sheet(catalog, title="mine")
    expected = ["a\n4 images", "", "", "", "b\n3 images", "", "", "c\n3 images", "", ""]
    assert titles_of(figure) == expected
    assert len({axes.get_subplotspec().rowspan.start for axes in figure.axes}) == 3
    cut = show_contact_sheet(catalog, max_rows=2, title="mine")
    assert cut.get_suptitle() == "mine (1 more labels not shown)"
    unlabelled = show_contact_sheet(catalog.assign(label=None), title="mine")
    assert titles_of(unlabelled)[0] == "no label\n10 images"


def test_photos_and_pixels_stand_in_rows_below_their_titles(catalog):
    pixels = load_image(catalog["path"][2], 20)
    photos, colours = [catalog["path"][0], None, pixels], [RIGHT, WRONG, WRONG]
    figure = show_photos(photos, ["a", "", "two\nlines"], title="views", colours=colours)
    assert titles_of(figure) == ["a", "two\nlines"]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), pixels)
    assert [frame_of(axes) for axes in figure.axes] == [RIGHT, WRONG]
    assert figure.get_suptitle() == "views"


@pytest.mark.parametrize(
    "draw",
    [
        lambda many: show_photos(many["path"][:12], many["label"][:12], title=LONG),
        lambda many: show_photos(many["path"][:12], ["长" * 120] * 12, title=LONG),
        lambda many: show_gallery(many[:2], [results_of(many, many["label"][:9])] * 2, title=LONG),
        lambda many: show_contact_sheet(many, title=LONG),
    ],
)
@pytest.mark.filterwarnings("ignore:Glyph", "error:constrained_layout")
def test_long_names_and_hundreds_of_labels_leave_the_photos_their_room(draw, catalog):
    many = catalog.iloc[np.arange(500) % 10].reset_index(drop=True)
    figure = draw(many.assign(label=[f"{LONG} {number}" for number in range(500)]))
    figure.draw_without_rendering()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert min(min(box.width, box.height) for box in boxes) > figure.dpi
    for axes, box in zip(figure.axes, boxes, strict=True):
        assert axes.title.get_window_extent().width < 1.2 * box.width
    assert all(box.y1 < figure.bbox.height for box in boxes)


def test_a_long_name_above_a_photo_is_cut_to_its_end():
    assert [brief(value) for value in ("shoe", None, np.nan, 7)] == ["shoe", "", "", "7"]
    assert brief("train/t-shirt/4617d065-2b1c.jpg") == "…17d065-2b1c.jpg"


def test_letters_of_any_script_are_drawn_by_a_font_that_has_them(catalog, monkeypatch, recwarn):
    known = font_manager.fontManager.ttflist
    everything = next(font.fname for font in known if "Last Resort" in font.name)
    other = font_manager.FontEntry(fname=everything, name="Other Sans")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*known, other])
    fonts.cache_clear()
    assert fonts()[-1] == "Other Sans"
    show_photos([catalog["path"][0]], [LETTERS], title=LETTERS).draw_without_rendering()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    fonts.cache_clear()


def test_letters_that_no_font_draws_are_told_by_their_kind():
    glyph = r"Glyph {} (\N{{{}}}) missing from font(s) DejaVu Sans."
    assert "draws CJK letters" in missing_letters(glyph.format(20013, "CJK IDEOGRAPH-4E2D"))
    assert "draws emoji. On Ubuntu" in missing_letters(glyph.format(128095, "RUNNING SHOE"))
