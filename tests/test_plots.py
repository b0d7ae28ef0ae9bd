import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from conftest import make_catalog
from lookalike.charts import show_comparison
from lookalike.explain import Explanation
from lookalike.images import load_image
from lookalike.plots import (
    RIGHT,
    WRONG,
    brief,
    show_contact_sheet,
    show_explanations,
    show_gallery,
    show_map,
    show_pairs,
    show_photos,
)


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


def test_a_label_with_a_dollar_sign_is_text(tmp_path):
    catalog = make_catalog(tmp_path, 3).assign(label="a$^$b")
    for figure in (
        show_contact_sheet(catalog),
        show_gallery(catalog.iloc[:1], [results_of(catalog, ["a$^$b"])]),
    ):
        figure.savefig(tmp_path / "figure.png")


def test_pairs_show_sizes_and_mark_labels_that_differ(tmp_path):
    catalog = make_catalog(tmp_path, 6).assign(pixel_width=40, pixel_height=30)
    pairs = pd.DataFrame(
        [("000.png", "003.png", "content", 1.0), ("001.png", "002.png", "perceptual hash", 0.99)],
        columns=["image_id", "other_id", "step", "score"],
    )
    figure = show_pairs(catalog, pairs)
    same, differ, below_same, below_differ = figure.axes
    assert same.get_title() == "content\n1.000\na"
    assert differ.get_title() == "perceptual hash\n0.990\nb \N{MULTIPLICATION SIGN}"
    assert frame_of(below_differ) == WRONG != frame_of(below_same)
    assert below_same.get_xlabel() == "40 x 30"
    assert figure.get_suptitle() == "2 pairs of copies"
    assert (
        show_pairs(catalog, pairs, max_pairs=1).get_suptitle() == "2 pairs of copies, the first 1"
    )


def test_comparison_shows_the_mean_of_each_group_beside_the_others():
    trials = pd.DataFrame(
        {"way": list("ppqqppqq"), "by": list("xxxxyyyy"), "score": [0, 1, 0.2, 0.4, 1, 1, 0, 0]}
    )
    axes = show_comparison(trials, x="by", hue="way", y="score", title="finding").axes[0]
    dots = {
        part.get_label(): np.round(part[0].get_ydata().astype(float), 6).tolist()
        for part in axes.containers
    }
    assert dots == {"p": [0.5, 1.0], "q": [0.3, 0.0]}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["x", "y"]
    assert axes.get_title() == "finding"


def test_photos_and_pixels_stand_in_rows_below_their_titles(tmp_path):
    catalog = make_catalog(tmp_path, 3)
    (tmp_path / "001.png").unlink()
    pixels = load_image(catalog["path"][2], 20)
    figure = show_photos(
        [*catalog["path"], pixels], ["a", "b", "c", "$d$"], title="views", per_row=3
    )
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "$d$", "", ""]
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 1, 1, 0, 0]
    assert [axes.axison for axes in figure.axes] == [True] * 4 + [False] * 2
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), pixels)
    assert figure.get_suptitle() == "views"
    figure.savefig(tmp_path / "photos.png")
    assert len(show_photos([pixels], ["one"], title="").axes) == 1


def test_a_map_has_a_point_a_photo_and_no_thumbnails_on_top_of_each_other(tmp_path):
    catalog = make_catalog(tmp_path, 12).assign(label=["a", "b"] * 5 + [None] * 2)
    points = np.repeat(np.arange(6.0), 2)[:, None] * [1, 1]
    figure = show_map(points, catalog, title="two by two in a row")
    axes = figure.axes[0]
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == 12
    assert len(axes.child_axes) == 6
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "no label"]
    alone = show_map(np.zeros((1, 2)), catalog.head(1))
    assert len(alone.axes[0].child_axes) == 1


def test_explanations_show_both_photos_and_their_maps(tmp_path):
    pixels = np.full((32, 32, 3), 200, np.uint8)
    pairs = np.zeros((2, 2, 2, 2))
    pairs[0, 1, 1, 0] = 0.75
    figure = show_explanations([Explanation(0.75, pairs, pixels, pixels)], ["same thing"])
    photo, heat, _, other = figure.axes
    assert photo.get_ylabel() == "same thing"
    np.testing.assert_array_equal(heat.images[1].get_array(), [[0, 0.75], [0, 0]])
    np.testing.assert_array_equal(other.images[1].get_array(), [[0, 0], [0.75, 0]])
    assert heat.get_title() == "its places sum to 0.750"


def test_a_long_name_above_a_photo_is_cut_to_its_end():
    assert [brief(value) for value in ("shoe", None, np.nan, 7)] == ["shoe", "", "", "7"]
    assert brief("train/t-shirt/4617d065-2b1c.jpg") == "\N{HORIZONTAL ELLIPSIS}17d065-2b1c.jpg"
    assert len(brief("x" * 60)) == 16


def test_the_legend_of_a_map_says_how_many_kinds_have_no_colour(tmp_path):
    catalog = make_catalog(tmp_path, 10).assign(label=list("abcdefghij"))
    figure = show_map(np.random.default_rng(0).random((10, 2)), catalog)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:-1] == list("abcdefgh")
    assert names[-1] == "2 others"
