import dataclasses
import gc
import io
import os
import shutil
import weakref
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from conftest import make_catalog, write_photo
from lookalike import explain as explain_module
from lookalike.backbones import build_encoder
from lookalike.copies import CopyIndex
from lookalike.copies.alignment import detect_keypoints
from lookalike.embeddings import EmbeddingStore, embed_catalog, embed_images
from lookalike.explain import explain
from lookalike.images import fitted, load_image
from lookalike.page import Service
from lookalike.page.service import KINDS, pair_scores
from lookalike.page.uploads import UploadError
from lookalike.recommend import recommend
from lookalike.similarity import METRICS

GONE = "The photo of this product is gone"


@pytest.fixture(scope="module")
def service(page_store, encoder):
    return Service(page_store, encoder)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photo that is not in the catalogue, and not square."""
    file = write_photo(tmp_path_factory.mktemp("upload") / "new.png", seed=1000, size=90)
    Image.open(file).crop((0, 0, 90, 50)).save(file)
    return file


@pytest.fixture
def own_store(tmp_path, encoder):
    """A store whose photos may go."""
    return embed_catalog(encoder, make_catalog(tmp_path / "photos", 8, views=2), tmp_path / "store")


def store_of(vectors, products, labels=None):
    """A store by hand, without photos."""
    catalog = pd.DataFrame(
        {"image_id": [f"{row}.png" for row in range(len(vectors))], "product_id": products}
    )
    catalog["label"] = pd.Series([None] * len(vectors) if labels is None else labels, dtype=object)
    return EmbeddingStore(
        Path("nowhere"), np.asarray(vectors, np.float32), catalog, {"fit": "resize"}, {}
    )


# --- Alike
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_found_is_what_is_recommended(metric, service, page_store, encoder, photo):
    own = page_store.catalog["image_id"].iloc[5]
    pixels = service.prepare(photo.read_bytes())
    for query, plain in ((own, own), (pixels, photo)):
        for k, label in ((1, ()), (12, ()), (100, ()), (4, "a"), (4, ["b", "c"]), (4, "")):
            found = service.find(query, k=k, metric=metric, label=label)
            where = {"label": label} if label else None
            expected = recommend(page_store, plain, k, metric=metric, where=where, encoder=encoder)
            pd.testing.assert_frame_equal(found, expected)
    assert len(service.find(own, k=100)) == 35
    assert len(service.find(pixels, k=100)) == 36
    assert set(service.find(own, k=100, label="a")["label"]) == {"a"}


@pytest.mark.parametrize("fit", ["resize", "letterbox", "crop"])
def test_photos_are_brought_to_size_as_the_store_says_and_twice_changes_nothing(
    fit, tmp_path, encoder, photo
):
    catalog = make_catalog(tmp_path / "photos", 6)
    for path in catalog["path"]:
        Image.open(path).crop((0, 0, 40, 22)).save(path)
    store = embed_catalog(encoder, catalog, tmp_path / "store", fit=fit)
    service = Service(store, encoder)
    first = service.prepare(photo.read_bytes())
    np.testing.assert_array_equal(first, load_image(photo, 32, fit=fit))
    stream = io.BytesIO()
    Image.fromarray(first).save(stream, "PNG")
    again = service.prepare(stream.getvalue())
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(service.vector(again), embed_images(encoder, [photo], fit=fit)[0])
    # Each of the catalogue's photos, sent, is the same photo.
    for row, path in enumerate(catalog["path"]):
        pixels = service.prepare(Path(path).read_bytes())
        np.testing.assert_allclose(service.vector(pixels), store.vectors[row], rtol=1e-4, atol=1e-6)
        why = service.why(catalog["image_id"].iloc[row], pixels)
        np.testing.assert_array_equal(why.query_pixels, why.result_pixels)
    large = load_image(photo)  # pixels of another size are brought to it in the same way
    pd.testing.assert_frame_equal(service.find(large), recommend(store, photo, 12, encoder=encoder))


def test_an_encoder_of_another_store_is_refused(page_store, other_encoder):
    with pytest.raises(ValueError, match="cannot be compared"):
        Service(page_store, other_encoder)


def test_what_is_not_there_has_its_sentence(service, photo):
    for ask in (
        lambda: service.find("nobody.png"),
        lambda: service.compare("nobody.png", "000.png"),
        lambda: service.compare("000.png", str(photo)),  # a path is no name
        lambda: service.why("000.png", os.fspath(photo)),
        lambda: service.taste(["000.png", "nobody.png"]),
        lambda: service.taste(["000.png"], ["nobody.png"]),
        lambda: service.find(os.fspath(photo)),
    ):
        with pytest.raises(UploadError, match="not in the catalogue") as caught:
            ask()
        assert "nobody" not in str(caught.value)
        assert "/" not in str(caught.value)


def test_a_taste_is_what_is_recommended_for_it(service, page_store):
    liked, disliked = ["000.png", "006.png"], ["013.png"]
    expected = recommend(page_store, liked, 12, disliked=disliked, other_products=True)
    pd.testing.assert_frame_equal(service.taste(liked, disliked), expected)
    named = page_store.catalog.set_index("image_id").loc[[*liked, *disliked], "product_id"]
    assert not set(expected["product_id"]) & set(named)
    assert len(service.taste(liked, k=3)) == 3
    with pytest.raises(UploadError, match="Like at least one product"):
        service.taste([], disliked)
    everything = page_store.catalog["image_id"].tolist()
    assert service.taste(everything).empty


# --- Compared
# ----------------------------------------------------------------------------------------------------


def test_a_score_is_the_cosine_and_what_its_explanation_sums_to(
    service, page_store, encoder, photo
):
    pixels = service.prepare(photo.read_bytes())
    vectors = {
        "000.png": page_store.vectors[0],
        "007.png": page_store.vectors[7],
        "new": service.vector(pixels),
    }
    for first, second in (
        ("000.png", "007.png"),
        ("000.png", "new"),
        ("new", "new"),
        ("007.png", "007.png"),
    ):
        photos = [pixels if name == "new" else name for name in (first, second)]
        found = service.compare(*photos)
        expected = cosine_similarity(
            vectors[first][None].astype(float), vectors[second][None].astype(float)
        )[0, 0]
        assert found.score == pytest.approx(expected, abs=1e-6)
        assert found.why.score == pytest.approx(found.score, abs=1e-4)
        assert found.why.query_map.sum() == pytest.approx(found.score, abs=1e-4)
        assert found.below.keys() == service.pair_scores.keys()
        for kind, scores in service.pair_scores.items():
            assert found.below[kind] == sum(score < found.score for score in scores) / len(scores)


def slow_pair_scores(store):
    """Every pair, one after another."""
    found, catalog = {kind: [] for kind in KINDS}, store.catalog
    for one in range(len(catalog)):
        for other in range(one):
            score = cosine_similarity(
                store.vectors[[one]].astype(float), store.vectors[[other]].astype(float)
            )[0, 0]
            first, second = catalog.iloc[one], catalog.iloc[other]
            same_label = pd.notna(first["label"]) and first["label"] == second["label"]
            kind = (
                "same product"
                if first["product_id"] == second["product_id"]
                else KINDS[1 if same_label else 2]
            )
            found[kind].append(score)
    return {kind: np.sort(scores) for kind, scores in found.items() if scores}


CATALOGS = {
    "two labels": ("aabbccdd", "xxxxyyyy"),
    "no labels": ("aabbccdd", None),
    "some labels": ("aabbccdd", ["x", "x", None, None, "x", None, "y", "y"]),
    "one label": ("aabbccdd", "xxxxxxxx"),
    "a label each": ("aabbccdd", "11223344"),
    "one product": ("aaaaaaaa", "xxxxxxxx"),
    "one product without label": ("aaaaaaaa", None),
    "a product each": ("abcdefgh", "xxyyzzxx"),
    "a product each, without label": ("abcdefgh", None),
    "one product of two labels": ("aabbccaa", "xxxxyyyy"),
    "one product with and without label": ("aabbccaa", ["x", None, "x", "x", "y", "y", None, "y"]),
    "two photos": ("aa", "xx"),
    "two products": ("ab", "xy"),
    "one photo": ("a", "x"),
    "one photo without label": ("a", None),
}


@pytest.mark.parametrize("name", CATALOGS)
def test_pairs_of_a_small_catalogue_are_those_of_every_photo_with_every_other(name):
    products, labels = CATALOGS[name]
    vectors = np.random.default_rng(1).normal(size=(len(products), 5))
    store = store_of(vectors, list(products), labels if labels is None else list(labels))
    found, expected = pair_scores(store, 4000), slow_pair_scores(store)
    assert found.keys() == expected.keys()
    for kind, scores in expected.items():
        np.testing.assert_allclose(found[kind], scores, atol=1e-6)
        assert (np.diff(found[kind]) >= 0).all()
        assert found[kind].max(initial=-1) < 0.9999  # none is of a photo with itself
    again, other = pair_scores(store, 4000), pair_scores(store, 5, seed=1)
    for kind in expected:
        np.testing.assert_array_equal(again[kind], found[kind])
        assert np.isin(other[kind], found[kind]).all()
        assert 1 <= len(other[kind]) <= 5


def test_pairs_are_found_however_few_there_are():
    """One product of 3,000 has a second photo, and one other its label."""
    vectors = np.random.default_rng(0).normal(size=(3000, 4))
    products, labels = np.arange(3000), np.arange(3000)
    products[7], labels[7] = products[8], labels[8]
    labels[9] = labels[8]
    found = pair_scores(store_of(vectors, products.astype(str), labels.astype(str)), 50)
    assert {kind: len(scores) for kind, scores in found.items()} == {
        "same product": 1,
        "same label": 2,
        "other": 50,
    }
    cosines = cosine_similarity(vectors.astype(np.float32))
    np.testing.assert_allclose(found["same product"], [cosines[7, 8]], atol=1e-6)
    np.testing.assert_allclose(found["same label"], np.sort(cosines[9, [7, 8]]), atol=1e-6)


def test_every_pair_is_as_likely_as_any_other():
    """A product of 100 photos has 4,950 pairs, 550 products of 2 have 550: nine of ten are of the
    first.
    """
    angles = np.random.default_rng(0).uniform(0, 0.1, 1200)
    # Pairs of two have a cosine near 0, of the many a cosine near 1.
    angles[101::2] = angles[100::2] + 1.5
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    products = [0] * 100 + [1 + row // 2 for row in range(1100)]
    found = pair_scores(store_of(vectors, products), 600)["same product"]
    assert (found > 0.5).mean() == pytest.approx(0.9, abs=0.05)


def test_vectors_of_zero_compare_to_nothing():
    found = pair_scores(store_of(np.zeros((4, 3)), list("aabb"), list("xxxx")))
    assert {kind: set(scores) for kind, scores in found.items()} == {
        "same product": {0},
        "same label": {0},
    }


# --- Explained
# ---------------------------------------------------------------------------------------------------


def test_an_encoder_that_is_no_sum_over_places_answers_without_maps(tmp_path):
    inputs = keras.Input((16, 16, 3))
    encoder = keras.Model(
        inputs, keras.layers.Dense(6)(keras.layers.Flatten()(inputs)), name="flat"
    )
    store = embed_catalog(encoder, make_catalog(tmp_path / "photos", 4), tmp_path / "store")
    service = Service(store, encoder)
    assert service.why("000.png", "001.png") is None
    found = service.compare("000.png", "001.png")
    assert found.why is None
    assert found.score == pytest.approx(
        cosine_similarity(store.vectors[:1], store.vectors[1:2])[0, 0], abs=1e-5
    )


def small_encoder():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    places = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(places))


def test_explanations_follow_the_weights_and_the_encoder():
    """What is kept of an encoder, to explain faster, is its layers and no weights."""
    photos = [
        np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8) for seed in range(2)
    ]

    def cosine(encoder):
        vectors = embed_images(encoder, photos)
        return cosine_similarity(vectors)[0, 1]

    first, second = small_encoder(), small_encoder()
    second.set_weights(
        [np.random.default_rng(5).normal(size=w.shape) for w in second.get_weights()]
    )
    before = explain(first, *photos).score
    assert before == pytest.approx(cosine(first), abs=1e-5)
    assert explain(second, *photos).score == pytest.approx(cosine(second), abs=1e-5)
    first.set_weights([np.random.default_rng(9).normal(size=w.shape) for w in first.get_weights()])
    after = explain(first, *photos).score
    assert after == pytest.approx(cosine(first), abs=1e-5)
    assert abs(after - before) > 1e-4
    np.testing.assert_array_equal(explain(first, *photos).pairs, explain(first, *photos).pairs)


def test_of_many_encoders_two_are_kept_at_most():
    pixels = np.zeros((8, 8, 3), np.uint8)
    alive = []
    for _ in range(6):
        encoder = small_encoder()
        explain(encoder, pixels, pixels)
        alive.append(weakref.ref(encoder))
    del encoder
    keras.backend.clear_session()
    gc.collect()
    assert explain_module._until.cache_info().currsize <= 2
    assert sum(one() is not None for one in alive) <= 2


# --- Already there
# -----------------------------------------------------------------------------------------------


def test_an_upload_is_looked_up_as_its_file_is(service, page_store, encoder, photo, tmp_path):
    index = CopyIndex(page_store, encoder)
    original = Path(page_store.catalog["path"].iloc[4])
    edited = tmp_path / "edited.jpg"
    Image.open(original).resize((80, 80), Image.Resampling.BICUBIC).save(edited, quality=92)
    for file, copies in ((original, True), (edited, True), (photo, False)):
        found = service.check(file.read_bytes())
        pd.testing.assert_frame_equal(found, index.look_up(file))
        pd.testing.assert_frame_equal(found, index.look_up(file.read_bytes()))
        assert ("004.png" in found["image_id"].tolist()) == copies
    assert service.check(original.read_bytes())["step"].iloc[0] == "content"
    one, other = detect_keypoints(edited), detect_keypoints(edited.read_bytes())
    for name in ("pixels", "points", "descriptors"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(
        embed_images(encoder, [edited]), embed_images(encoder, [edited.read_bytes()])
    )


@pytest.mark.parametrize("data", [b"", b"words", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_photo_is_refused_wherever_it_is_sent(service, data):
    for ask in (service.prepare, service.check):
        with pytest.raises(UploadError):
            ask(data)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 2)])
@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_tiny_and_narrow_and_blank_photos_are_answered(service, size, colour):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    data = stream.getvalue()
    pixels = service.prepare(data)
    assert pixels.shape == (32, 32, 3)
    assert len(service.find(pixels, k=5)) == 5
    assert service.compare(pixels, "000.png").why.score == pytest.approx(
        service.compare(pixels, "000.png").score, abs=1e-4
    )
    assert "content" not in service.check(data)["step"].tolist()


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (3, 2000)])
def test_a_narrow_photo_has_room_in_a_letterbox(size, tmp_path):
    file = tmp_path / "narrow.png"
    Image.new("RGB", size, "red").save(file)
    pixels = fitted(os.fspath(file), 32, fit="letterbox")
    assert pixels.shape == (32, 32, 3)
    assert (pixels == [255, 0, 0]).all(axis=2).sum() == 32  # one line of it
    assert (pixels == 255).all(axis=2).sum() == 31 * 32


def test_a_photo_that_goes_leaves_the_rest_answered(own_store, encoder):
    service = Service(own_store, encoder)
    files = [Path(path) for path in own_store.catalog["path"]]
    sent = files[0].read_bytes()
    reference = service.check(sent)
    for file in files:
        file.unlink()
    assert len(service.find("000.png", k=3)) == 3
    assert len(service.taste(["000.png"], k=3)) == 3
    pixels = service.prepare(sent)
    assert service.find(pixels, k=1)["image_id"].item() == "000.png"
    for pair in (("000.png", "001.png"), (pixels, "001.png"), ("001.png", pixels)):
        with pytest.raises(UploadError, match=GONE):
            service.why(*pair)
        with pytest.raises(UploadError, match=GONE):
            service.compare(*pair)
    assert service.compare(pixels, pixels).score == pytest.approx(1)
    assert reference["image_id"].iloc[0] == "000.png"


def test_a_photo_that_is_gone_is_not_blamed_on_the_upload(own_store, encoder, tmp_path):
    """Its bytes still tell that it is a copy."""
    files = [Path(path) for path in own_store.catalog["path"]]
    edited = tmp_path / "edited.png"
    Image.open(files[0]).resize((80, 80), Image.Resampling.BICUBIC).save(edited)
    same = files[0].read_bytes()
    service = Service(own_store, encoder)
    for file in files:
        file.unlink()
    with pytest.warns(UserWarning, match="No such file"):
        assert service.check(same)["image_id"].tolist() == ["000.png"]
        assert service.check(edited.read_bytes()).empty


def test_uploads_are_looked_up_where_the_page_is_told_to(page_store, own_store, encoder):
    """As in an index of the network as it came, beside a store of a trained one."""
    service = Service(page_store, encoder, CopyIndex(own_store, encoder))
    assert service.copies.catalog is own_store.catalog


def test_a_photo_that_went_before_is_told_at_once(own_store, encoder):
    Path(own_store.catalog["path"].iloc[0]).unlink()
    with pytest.raises(ValueError, match="No such file"):
        Service(own_store, encoder)


# --- Odd catalogues
# ----------------------------------------------------------------------------------------------


def test_a_catalogue_of_one_photo_is_served(tmp_path, encoder, photo):
    store = embed_catalog(encoder, make_catalog(tmp_path / "photos", 1), tmp_path / "store")
    service = Service(store, encoder)
    assert service.pair_scores == {}
    assert service.find("000.png").empty
    pixels = service.prepare(photo.read_bytes())
    assert service.find(pixels)["image_id"].tolist() == ["000.png"]
    assert service.taste(["000.png"]).empty
    assert service.compare(pixels, "000.png").below == {}
    assert service.check(photo.read_bytes()).empty
    assert service.check(Path(store.catalog["path"].iloc[0]).read_bytes())["image_id"].tolist() == [
        "000.png"
    ]


@pytest.mark.parametrize(
    ("labels", "known"),
    [
        ([None] * 4, []),
        ([1, 2, 2, 10], ["1", "10", "2"]),
        ([True, False, True, None], ["False", "True"]),
        ([0.5, None, 0.5, 2], ["0.5", "2.0"]),
        (["<b>", "&amp;", '"', "<b>"], ['"', "&amp;", "<b>"]),
        (["NA", "None", "nan", "null"], ["NA", "None", "nan", "null"]),
    ],
    ids=["none", "whole numbers", "booleans", "fractions", "markup", "words for nothing"],
)
def test_labels_and_products_of_any_kind_are_served_as_text(labels, known, tmp_path, encoder):
    catalog = make_catalog(tmp_path / "photos", 4)
    catalog["label"], catalog["product_id"] = pd.Series(labels), range(4)
    service = Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder)
    assert service.labels == known
    assert service.catalog["product_id"].tolist() == ["0", "1", "2", "3"]
    for label in known:
        assert set(service.find("000.png", label=label)["label"]) <= {label}


ODD_NAMES = [
    "Zoë's 照片.png",
    "a&b<i>\"'.png",
    "folder/with space.png",
    "-rf.png",
    "100%.png",
    "{{x}}${y}.png",
]


def test_images_of_odd_names_are_served(tmp_path, encoder):
    catalog = make_catalog(tmp_path / "photos", len(ODD_NAMES))
    for row, name in enumerate(ODD_NAMES):
        file = tmp_path / "photos" / name
        file.parent.mkdir(exist_ok=True)
        shutil.move(catalog["path"].iloc[row], file)
        catalog.loc[row, ["image_id", "path"]] = name, str(file)
    service = Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder)
    for name in ODD_NAMES:
        assert set(service.find(name)["image_id"]) == set(ODD_NAMES) - {name}
        assert service.check((tmp_path / "photos" / name).read_bytes())["image_id"].iloc[0] == name
        assert service.compare(name, name).score == pytest.approx(1)
    assert set(service.taste(ODD_NAMES[:2], ODD_NAMES[2:3])["image_id"]) == set(ODD_NAMES[3:])


def test_vectors_may_be_read_only_or_mapped_or_neither(page_store, encoder):
    assert isinstance(page_store.vectors, np.memmap)
    own = dataclasses.replace(page_store, vectors=np.array(page_store.vectors))
    pd.testing.assert_frame_equal(
        Service(own, encoder).find("003.png"), Service(page_store, encoder).find("003.png")
    )


def test_pooling_by_maximum_is_explained_too(tmp_path):
    encoder = build_encoder("VGG16Slim", weights=None, image_size=32, pooling="max")
    service = Service(
        embed_catalog(encoder, make_catalog(tmp_path / "photos", 3), tmp_path / "store"), encoder
    )
    found = service.compare("000.png", "001.png")
    assert found.why.score == pytest.approx(found.score, abs=1e-4)
