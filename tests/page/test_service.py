"""What a page asks of a store, asked without a page."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from conftest import make_catalog, write_photo
from lookalike.embeddings import EmbeddingStore, embed_catalog, embed_images
from lookalike.images import load_image
from lookalike.page import Service
from lookalike.page.app import ranked
from lookalike.page.service import THUMBNAIL, pair_scores
from lookalike.recommend import recommend


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """A photo that is not in the catalogue, and not square."""
    file = write_photo(tmp_path_factory.mktemp("upload") / "new.png", seed=1000, size=90)
    return load_image(file)[:50]


@pytest.mark.parametrize("colour", [0.0, 0.5])
def test_what_is_similar_is_what_is_recommended(colour, service, page_store, encoder, pixels):
    for query in (page_store.catalog["image_id"].iloc[3], pixels):
        expected = recommend(page_store, query, 7, encoder=encoder, colour=colour)
        found = service.similar(query, 7, colour=colour)
        pd.testing.assert_frame_equal(found, expected, atol=1e-5)


def test_a_taste_is_what_is_recommended_for_it_among_other_products(service, page_store):
    liked, disliked = ["000.png", "010.png"], ["005.png"]
    options = {"disliked": disliked, "other_products": True, "colour": 0.3}
    expected = recommend(page_store, liked, 9, **options)
    found = service.taste(liked, disliked, 9, colour=0.3)
    pd.testing.assert_frame_equal(found, expected)


def test_two_photos_are_compared_with_each_other_and_with_the_catalogues_pairs(
    service, page_store, encoder, pixels
):
    score, below = service.compare("000.png", pixels)
    upload = embed_images(encoder, [pixels])
    assert score == pytest.approx(cosine_similarity(page_store.vectors[:1], upload)[0, 0])
    for kind, scores in service.pair_scores.items():
        assert below[kind] == sum(one < score for one in scores) / len(scores)
    why = service.why("000.png", pixels)
    assert why.score == pytest.approx(score, abs=1e-4)


def test_another_encoder_is_refused(page_store, other_encoder):
    with pytest.raises(ValueError, match="was made with"):
        Service(page_store, other_encoder)


PAIRS = {
    "two views of two products of one label, two of another": (
        ["p", "p", "q", "q", "r", "s"],
        ["a", "a", "a", "a", "b", "b"],
        {"same product": ["01", "23"], "same label": ["02", "03", "12", "13", "45"]},
    ),
    "no labels": (["p", "p", "q", "r"], [None] * 4, {"same product": ["01"]}),
    "one product": (["p"] * 4, ["a"] * 4, {"same product": ["01", "02", "03", "12", "13", "23"]}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_a_small_catalogue_are_those_of_every_photo_with_every_other(name):
    """Each once; and the angle between two photos tells which pair it is."""
    products, labels, pairs = PAIRS[name]
    angles = np.cumsum(2.0 ** np.arange(len(products))) / 50
    vectors = np.float32([np.cos(angles), np.sin(angles)]).T
    catalog = pd.DataFrame({"product_id": products, "label": pd.Series(labels, dtype=object)})
    drawn = pair_scores(EmbeddingStore(Path("nowhere"), vectors, catalog, {}, {}))
    every = {f"{a}{b}" for b in range(len(products)) for a in range(b)}
    others = every.difference(*pairs.values())
    expected = {**pairs, "other": others} if others else pairs
    assert drawn.keys() == expected.keys()
    for kind, names in expected.items():
        cosines = [np.cos(angles[int(b)] - angles[int(a)]) for a, b in names]
        np.testing.assert_allclose(np.sort(drawn[kind]), np.sort(cosines), atol=1e-6)


def test_a_thumbnail_is_small_and_made_once(service):
    file = service.thumbnail("000.png")
    assert Image.open(file).size == (THUMBNAIL, THUMBNAIL)
    made = file.stat().st_mtime_ns
    assert service.thumbnail("000.png").stat().st_mtime_ns == made


def test_one_photo_of_each_product_is_shown_first(service, page_store):
    shown = service.mixed["product_id"]
    assert sorted(shown) == sorted(page_store.catalog["product_id"].unique())


@pytest.mark.parametrize("labels", [["a"], [None]])
def test_a_catalogue_of_one_photo_is_served(labels, tmp_path, encoder, pixels):
    catalog = make_catalog(tmp_path / "photos", 1).assign(label=labels)
    service = Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder)
    assert service.similar(pixels)["image_id"].tolist() == ["000.png"]
    assert service.similar("000.png").empty
    assert service.taste(["000.png"]).empty
    assert service.compare("000.png", pixels)[1] == {}
    tiles, ids = ranked(service, service.similar("000.png"))
    assert tiles == ids == []
