import base64
import html as text
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from conftest import make_catalog
from lookalike.embeddings import embed_catalog
from lookalike.images import load_image
from lookalike.page import Service
from lookalike.page.html_parts import (
    HEIGHT,
    HELD,
    HILL,
    SIDE,
    WIDTH,
    HtmlParts,
    _share,
    data_url,
    heat_map,
)
from lookalike.page.service import Comparison

HTML = "<script>alert('x')</script>\"'&{{7*7}}"


@pytest.fixture(scope="module")
def pages(page_store, encoder):
    return HtmlParts(Service(page_store, encoder))


@pytest.fixture(scope="module")
def markup(tmp_path_factory, encoder):
    """The parts over a catalogue all of whose texts are HTML."""
    folder = tmp_path_factory.mktemp("markup")
    catalog = make_catalog(folder / "photos", 4, views=2)
    catalog["product_id"] = [f"{HTML}p{row // 2}" for row in range(4)]
    catalog["label"] = [f"{HTML}l{row // 2}" for row in range(4)]
    catalog["image_id"] = [HTML.replace("/", "") + f"i{row}" for row in range(4)]
    return HtmlParts(Service(embed_catalog(encoder, catalog, folder / "store"), encoder))


def pixels_of(url):
    kind, encoded = re.fullmatch(r"data:image/(jpeg|png);base64,(.+)", url).groups()
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        assert image.format == kind.upper()
        return np.asarray(image)


def ids_of(html):
    """What the page would ask with, button by button."""
    return re.findall(r'data-id="([^"]*)"', html)


def marks_of(html):
    return [
        tuple(map(float, one))
        for one in re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)" y1="0"', html)
    ]


# --- Pictures
# ----------------------------------------------------------------------------------------------------


@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
        elements=st.integers(0, 255),
    )
)
def test_pixels_are_the_same_after_a_png(pixels):
    np.testing.assert_array_equal(pixels_of(data_url(pixels, "PNG")), pixels)
    assert pixels_of(data_url(pixels)).shape == pixels.shape


def test_read_only_and_turned_pixels_have_a_url():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    pixels.setflags(write=False)
    turned = pixels[::-1, ::-1].transpose(1, 0, 2)
    np.testing.assert_array_equal(pixels_of(data_url(turned, "PNG")), turned)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 9)])
@pytest.mark.parametrize("places", [(1, 1), (3, 2), (40, 40)])
def test_a_heat_map_has_the_shape_of_its_photo(shape, places):
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (*shape, 3), np.uint8)
    heat = heat_map(photo, random.normal(size=places))
    assert heat.shape == photo.shape
    assert heat.dtype == np.uint8


def test_bright_places_are_those_that_add_most():
    places = np.zeros((4, 4))
    places[0, 0], places[3, 3] = 1, 0.4
    heat = heat_map(np.full((40, 40, 3), 128, np.uint8), places).sum(axis=2, dtype=int)
    assert heat[4, 4] > heat[35, 35] > heat[4, 35]
    np.testing.assert_array_equal(heat[:6, -6:], heat[0, -1])


@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_a_heat_map_has_no_unit(scale):
    photo, places = np.full((8, 8, 3), 90, np.uint8), np.random.default_rng(0).uniform(size=(4, 4))
    np.testing.assert_allclose(
        heat_map(photo, places * scale).astype(int), heat_map(photo, places).astype(int), atol=1
    )


def test_a_map_of_one_value_is_one_colour():
    """All that is given is given by every place alike; of nothing, or less, nothing is bright."""
    photo = np.full((8, 8, 3), 90, np.uint8)
    maps = {value: heat_map(photo, np.full((3, 3), value)) for value in (0.2, 0.0, -0.2)}
    for heat in maps.values():
        assert len(np.unique(heat.reshape(-1, 3), axis=0)) == 1
    assert maps[0.2].sum() > maps[0.0].sum()
    np.testing.assert_array_equal(maps[0.0], maps[-0.2])


def test_what_takes_away_is_darkest():
    places = np.array([[-1.0, 0, 1.0]])
    heat = heat_map(np.full((10, 30, 3), 90, np.uint8), places).sum(axis=2)
    assert heat[5, 0] < heat[5, 15] < heat[5, 29]


def test_a_thumbnail_is_made_once_and_not_all_are_kept(pages, page_store):
    first = pages.thumbnail(0)
    expected = load_image(page_store.catalog["path"].iloc[0], SIDE, fit="letterbox")
    assert np.abs(pixels_of(first).astype(int) - expected).mean() < 5
    before = pages.thumbnail.cache_info()
    assert pages.thumbnail(0) is first
    assert pages.thumbnail.cache_info().hits == before.hits + 1
    assert before.maxsize == HELD
    assert HELD * len(first) < 200e6


def test_the_thumbnail_of_a_photo_that_is_gone_is_grey(tmp_path, encoder):
    store = embed_catalog(encoder, make_catalog(tmp_path / "photos", 3), tmp_path / "store")
    pages = HtmlParts(Service(store, encoder))
    Path(store.catalog["path"].iloc[0]).unlink()
    Path(store.catalog["path"].iloc[1]).write_bytes(b"words")
    for row in range(2):
        assert (pixels_of(pages.thumbnail(row)) == 221).all()
    assert pages.card("000.png")["name"] == "a, product-0"
    assert ids_of(pages.choices(0, (), ()))
    assert "/" not in re.sub(r"data:image/jpeg;base64,[\w+/=]+|</?\w+", "", pages.starts())


def test_a_narrow_photo_of_the_catalogue_has_a_thumbnail(tmp_path, encoder):
    catalog = make_catalog(tmp_path / "photos", 3)
    Image.new("RGB", (1, 900), "red").save(catalog["path"].iloc[0])
    pages = HtmlParts(Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder))
    assert pixels_of(pages.thumbnail(0)).shape == (SIDE, SIDE, 3)


# --- Texts
# -------------------------------------------------------------------------------------------------------


def test_every_text_is_escaped(markup):
    ids = markup.catalog["image_id"].tolist()
    found = markup.service.find(ids[0], k=3)
    pair = markup.service.compare(ids[0], ids[2])
    told = [
        markup.results(found, "cosine"),
        markup.results(found, "euclidean"),
        markup.photo(ids[0])["html"],
        markup.why(pair.why, (HTML, HTML), HTML),
        markup.why(None, (HTML, HTML), HTML),
        markup.comparison(pair),
        markup.choices(0, ids[:1], ids[2:3]),
        markup.taste(markup.service.taste(ids[:1]), ids[:1], ids[2:3], HTML),
        markup.taste(None, [], [], HTML),
        markup.copies(pd.DataFrame({"image_id": ids, "verdict": "copy"})),
        markup.starts(),
        markup.parts.problem(HTML),
        markup.parts.empty(HTML),
    ]
    for html in map(str, told):
        assert "<script" not in html
        assert "alert('x')" not in html
        assert "49" not in re.sub(r"base64,[\w+/=]+", "", html) or "{{7*7}}" in html
        # Quotes stay inside their attributes: no button has others than those that the page knows.
        names = set(re.findall(r' ([\w:-]+)="', re.sub(r'="[^"]*"', '="', html)))
        assert not {name for name in names if name.startswith("on")}
    assert {text.unescape(one) for one in ids_of(told[0])} == set(ids[1:])


def test_a_card_tells_what_there_is(pages):
    card = pages.card("004.png", rank=3)
    assert (card["label"], card["product"], card["name"], card["rank"]) == (
        "c",
        "product-2",
        "c, product-2",
        3,
    )


def test_a_card_without_a_label_is_named_by_its_product(tmp_path, encoder):
    catalog = make_catalog(tmp_path / "photos", 2).assign(label=None)
    pages = HtmlParts(Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder))
    assert pages.card("000.png")["name"] == "product-0"
    assert "lk-label" not in pages.results(pages.service.find("000.png"), "cosine")
    assert "share no label" not in pages.comparison(pages.service.compare("000.png", "001.png"))


def test_results_are_told_in_order(pages):
    table = pages.service.find("000.png", k=5)
    html = pages.results(table, "cosine")
    assert list(dict.fromkeys(ids_of(html))) == table["image_id"].tolist()
    assert re.findall(r'class="lk-rank">(\d+)', html) == ["1", "2", "3", "4", "5"]
    assert re.findall(r'class="lk-score"[^>]*>([-\d.]+)', html) == [
        f"{score:.3f}" for score in table["score"]
    ]
    assert "5 most alike by cosine similarity" in html
    assert "Nothing found" in pages.results(table.iloc[:0], "cosine")


def test_copies_and_variants_are_told_in_words(pages):
    verdicts = ["copy", "copy", "variant", "copy in grey or variant", "stamped copy or variant"]
    ids = [f"00{number}.png" for number in range(5)]
    table = pd.DataFrame({"image_id": ids, "step": "embedding", "verdict": verdicts})
    html = pages.copies(table)
    for told in ("a copy of 2 photos", "the same photo", "in other colours", "with a stamp"):
        assert told in html
    assert "a copy of a photo" in pages.copies(table.iloc[:1])
    assert "No copy" in pages.copies(table.iloc[2:])
    assert "New" in pages.copies(table.iloc[:0])


# --- Shares and hills
# --------------------------------------------------------------------------------------------


@given(st.integers(1, 10**6), st.data())
def test_a_share_is_all_or_none_only_if_it_is(count, data):
    part = data.draw(st.integers(0, count) | st.sampled_from([0, 1, count - 1, count]))
    told = _share(part / count)
    if part in (0, count):
        assert told == ("none" if part == 0 else "all")
    else:
        assert re.fullmatch(r"[1-9]\d?%", told)
        assert abs(int(told[:-1]) / 100 - part / count) <= max(
            0.0051, 0.01 - part / count, part / count - 0.99
        )


def test_shares_by_hand():
    shares = [0, 1e-9, 0.004, 0.015, 0.5, 0.994, 0.996, 1 - 1e-9, 1, np.float64(1), np.float64(0)]
    told = ["none", "1%", "1%", "2%", "50%", "99%", "99%", "99%", "all", "all", "none"]
    assert [_share(share) for share in shares] == told


def test_hills_hold_every_pair(pages):
    for kind, scores in pages.service.pair_scores.items():
        assert pages.hills[kind].sum() == len(scores)
        assert len(pages.hills[kind]) == HILL
    low = min(scores[0] for scores in pages.service.pair_scores.values())
    assert pages.low <= low < pages.low + 0.1 + 1e-9


def test_a_comparison_tells_score_shares_and_place(pages):
    found = Comparison(0.5, {"same product": 1.0, "same label": 0.25, "other": 0.0}, None)
    html = pages.comparison(found)
    assert "<strong>0.500</strong>" in html
    for told in ("More alike than all of", "More alike than 25% of", "More alike than none of"):
        assert told in html
    bars = [
        tuple(map(float, bar))
        for bar in re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', html)
    ]
    assert bars
    for x, y, width, height in bars:
        assert 0 <= x <= x + width <= WIDTH + 1e-6
        assert 0 < height <= HEIGHT
        assert y + height == pytest.approx(40)
    assert "nan" not in html


@pytest.mark.parametrize("score", [-1.0, -0.3, 0.0, 0.5, 0.999, 1.0])
def test_the_line_lies_where_the_score_is(pages, score):
    html = pages.comparison(Comparison(score, dict.fromkeys(pages.hills, 0.5), None))
    place = WIDTH * max(score - pages.low, 0) / (1 - pages.low)
    assert marks_of(html) == [(pytest.approx(place, abs=0.06),) * 2] * len(pages.hills)


def test_a_comparison_where_there_are_no_pairs_tells_the_score(tmp_path, encoder):
    store = embed_catalog(encoder, make_catalog(tmp_path / "photos", 1), tmp_path / "store")
    pages = HtmlParts(Service(store, encoder))
    html = pages.comparison(pages.service.compare("000.png", "000.png"))
    assert "<strong>1.000</strong>" in html
    assert "hill" not in html


def test_photos_that_are_all_the_same_make_hills_too(tmp_path, encoder):
    catalog = make_catalog(tmp_path / "photos", 4, views=2)
    for path in catalog["path"][1:]:
        Path(path).write_bytes(Path(catalog["path"].iloc[0]).read_bytes())
    pages = HtmlParts(Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder))
    assert {kind: counts.sum() for kind, counts in pages.hills.items()} == {
        "same product": 2,
        "other": 4,
    }
    assert "nan" not in pages.comparison(pages.service.compare("000.png", "003.png"))


# --- Choices
# -----------------------------------------------------------------------------------------------------


def test_choices_go_round_and_each_page_differs(pages):
    assert sorted(pages.catalog.set_index("image_id").loc[pages.mixed, "product_id"]) == sorted(
        pages.catalog["product_id"].unique()
    )
    shown = [
        list(dict.fromkeys(ids_of(pages.choices(page, (), (), count=5)))) for page in range(18)
    ]
    assert [len(ids) for ids in shown] == [5] * 18
    assert [one for ids in shown for one in ids] == pages.mixed * 5
    assert len({tuple(ids) for ids in shown}) == 18
    labels = pages.catalog.set_index("image_id").loc[pages.mixed, "label"].tolist()
    for start in range(0, 18, 3):
        assert set(labels[start : start + 3]) == {"a", "b", "c"}


def test_choices_of_few_products_name_each_once(pages):
    shown = ids_of(pages.choices(0, (), (), count=100))
    assert sorted(set(shown)) == sorted(pages.mixed)
    assert len(shown) == 2 * len(pages.mixed)


@pytest.mark.parametrize("page", [0, 1, 9_999, 10_000, 10**12])
def test_any_page_has_choices(pages, page):
    assert len(set(ids_of(pages.choices(page, (), ())))) == 12


def test_choices_say_what_was_chosen(pages):
    liked, disliked = pages.mixed[0], pages.mixed[1]
    html = pages.choices(0, [liked], [disliked])
    pressed = re.findall(r'data-event="(\w+)" data-id="([^"]+)" aria-pressed="true"', html)
    assert sorted(pressed) == sorted([("like", liked), ("dislike", disliked)])


def test_a_taste_shows_what_was_named_and_what_follows(pages):
    table = pages.service.taste(["000.png"], ["004.png"])
    html = pages.taste(table, ["000.png"], ["004.png"], "")
    assert re.findall(r'data-event="forget" data-id="([^"]+)"', html) == ["000.png", "004.png"]
    assert re.findall(r'data-event="like" data-id="([^"]+)"', html) == table["image_id"].tolist()
    assert "Nothing yet" in pages.taste(None, [], [], "Nothing yet")


def test_starts_are_of_different_products(pages):
    shown = ids_of(pages.starts(8))
    assert len(set(pages.catalog.set_index("image_id").loc[shown, "product_id"])) == 8
