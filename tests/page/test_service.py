"""What a page asks of a store, asked without a page."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from conftest import make_catalog, write_photo
from lookalike.backbones import build_encoder
from lookalike.embeddings import EmbeddingStore, embed_catalog, embed_images
from lookalike.images import load_image
from lookalike.page import Service
from lookalike.page.service import THUMBNAIL, pair_scores
from lookalike.page.uploads import UploadError
from lookalike.recommend import recommend


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """A photo that is not in the catalogue, and not square."""
    file = write_photo(tmp_path_factory.mktemp("upload") / "new.png", seed=1000, size=90)
    return load_image(file)[:50]


@pytest.fixture
def own_store(tmp_path, encoder):
    """A store whose photos may go."""
    return embed_catalog(encoder, make_catalog(tmp_path / "photos", 8, views=2), tmp_path / "store")


def store_of(vectors, products, labels):
    """A store by hand, without photos."""
    ids = [f"{row}.png" for row in range(len(vectors))]
    columns = {"image_id": ids, "product_id": products, "label": pd.Series(labels, dtype=object)}
    vectors = np.asarray(vectors, np.float32)
    return EmbeddingStore(Path("nowhere"), vectors, pd.DataFrame(columns), {"fit": "resize"}, {})


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"colour": 0.5},
        {"metric": "euclidean"},
        {"label": "b"},
        {"label": ["a", "c"], "colour": 1.0},
    ],
    ids=str,
)
def test_what_is_similar_is_what_is_recommended(wish, service, page_store, encoder, pixels):
    options = dict(wish)
    if "label" in options:
        options["where"] = {"label": options.pop("label")}
    for query in (page_store.catalog["image_id"].iloc[3], pixels):
        expected = recommend(page_store, query, 7, encoder=encoder, **options)
        found = service.similar(query, 7, **wish)
        pd.testing.assert_frame_equal(found, expected, atol=1e-5)


def test_colour_does_not_join_a_distance(service, page_store, pixels):
    found = service.similar(pixels, 5, metric="euclidean", colour=0.7)
    pd.testing.assert_frame_equal(found, service.similar(pixels, 5, metric="euclidean"))


def test_no_file_is_looked_for_by_its_name(service, page_store):
    for name in ("nowhere", page_store.catalog["path"].iloc[0]):
        asked = (
            lambda name=name: service.similar(name),
            lambda name=name: service.compare(name, name),
            lambda name=name: service.why(name, name),
            lambda name=name: service.taste([name]),
            lambda name=name: service.thumbnail(name),
        )
        for ask in asked:
            with pytest.raises(UploadError, match="not in the catalogue"):
                ask()


def test_an_encoder_of_another_store_is_refused(page_store, other_encoder):
    with pytest.raises(ValueError, match="cannot be compared"):
        Service(page_store, other_encoder)


def test_a_taste_is_what_is_recommended_for_it(service, page_store):
    liked, disliked = page_store.catalog["image_id"].iloc[[0, 10]], ["005.png"]
    expected = recommend(
        page_store, list(liked), 9, disliked=disliked, other_products=True, colour=0.3
    )
    found = service.taste(list(liked), disliked, 9, colour=0.3)
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


def test_a_network_without_places_says_so(tmp_path):
    encoder = build_encoder("VGG16Slim", weights=None, image_size=32, pooling="max")
    import keras

    twice = keras.layers.Dense(4, activation="tanh")(encoder.output)
    encoder = keras.Model(encoder.input, twice, name="no_sum")
    store = embed_catalog(encoder, make_catalog(tmp_path / "photos", 4), tmp_path / "store")
    with pytest.raises(UploadError, match="no sum over places"):
        Service(store, encoder).why("000.png", "001.png")


KINDS = {
    "two views of two products of one label, two of another": (
        ["p", "p", "q", "q", "r", "s"],
        ["a", "a", "a", "a", "b", "b"],
        {"same product": 2, "same label": 5, "other": 8},
    ),
    "no labels": (["p", "p", "q", "r"], [None] * 4, {"same product": 1, "other": 5}),
    "one product": (["p"] * 4, ["a"] * 4, {"same product": 6}),
    "one photo": (["p"], ["a"], {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_pairs_of_a_small_catalogue_are_those_of_every_photo_with_every_other(name):
    """Each once; and the angle between two photos tells which pair it is."""
    products, labels, counts = KINDS[name]
    angles = np.cumsum(2.0 ** np.arange(len(products))) / 50
    store = store_of(np.stack([np.cos(angles), np.sin(angles)], axis=1), products, labels)
    drawn = pair_scores(store)
    expected = {kind: [] for kind in counts}
    for one in range(len(products)):
        for other in range(one):
            kind = "other"
            if products[one] == products[other]:
                kind = "same product"
            elif labels[one] is not None and labels[one] == labels[other]:
                kind = "same label"
            expected[kind].append(np.cos(angles[one] - angles[other]))
    assert {kind: len(scores) for kind, scores in drawn.items()} == counts
    for kind, scores in drawn.items():
        np.testing.assert_allclose(scores, np.sort(expected[kind]), atol=1e-6)


def test_a_thumbnail_is_made_once_and_grey_if_its_photo_is_gone(own_store, encoder):
    service = Service(own_store, encoder)
    Path(own_store.catalog["path"].iloc[1]).unlink()
    there, gone = service.thumbnail("000.png"), service.thumbnail("001.png")
    assert Image.open(there).size == (THUMBNAIL, THUMBNAIL)
    assert np.ptp(np.asarray(Image.open(gone))) == 0
    made = there.stat().st_mtime_ns
    assert service.thumbnail("000.png").stat().st_mtime_ns == made
    with pytest.raises(UploadError, match="is gone"):
        service.why("000.png", "001.png")


@pytest.mark.parametrize("labels", [["a"], [None]])
def test_a_catalogue_of_one_photo_is_served(labels, tmp_path, encoder, pixels):
    catalog = make_catalog(tmp_path / "photos", 1).assign(label=labels)
    service = Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder)
    assert service.similar(pixels)["image_id"].tolist() == ["000.png"]
    assert service.similar("000.png").empty
    assert service.taste(["000.png"]).empty
    assert service.compare("000.png", pixels)[1] == {}
