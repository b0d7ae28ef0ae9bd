import keras
import numpy as np
import pytest
from PIL import Image

from conftest import make_catalog
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images
from lookalike.evaluation import confidence_interval, overlap_at_k, precision_at_k, rank
from lookalike.images import load_image
from lookalike.similarity import normalise
from lookalike.studies import edit_photo, measure_edits, try_variants
from lookalike.studies.encoder_variants import project
from lookalike.studies.experiments import embed_quietly
from lookalike.studies.photo_edits import EDITS, Edit

SPLITS = {"gallery_split": "train", "query_split": "validation"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Twenty-four photos of twelve products and three labels, wider than high."""
    catalog = make_catalog(tmp_path_factory.mktemp("shop"), 24, views=2)
    for path in catalog["path"]:
        Image.open(path).crop((0, 5, 40, 30)).save(path)
    return catalog


@pytest.fixture(scope="module")
def vectors(encoder, shop):
    return embed_images(encoder, list(shop["path"]))


@pytest.fixture(scope="module")
def brightness():
    """An encoder whose one number is how bright a photo is."""
    image = keras.Input((8, 8, 3))
    mean = keras.ops.mean(image, axis=(1, 2, 3), keepdims=True)
    return keras.Model(image, keras.layers.Flatten()(mean))


def values_of(table, edit, measure):
    part = table[table["edit"] == edit]
    return dict(zip(part["strength"], part[measure], strict=True))


def test_an_encoder_that_sees_brightness_alone_is_misled_by_light_and_not_by_a_quarter_turn(
    brightness, tmp_path
):
    catalog = make_catalog(tmp_path, 12)
    for number, path in enumerate(catalog["path"]):
        pixels = np.full((40, 40, 3), 20 + 8 * number, np.uint8)
        pixels[12:28, 12:28] = 120  # the same from all four sides
        Image.fromarray(pixels).save(path)
    catalog["label"] = ["dark"] * 6 + ["bright"] * 6
    vectors = embed_images(brightness, list(catalog["path"]))
    edits = ("brightness", "rotation")
    table = measure_edits(brightness, vectors, catalog, 3, edits=edits, metric="euclidean")
    light = values_of(table, "brightness", "overlap")
    assert 1 > light[0.75] > light[0.5] >= light[0.25]
    assert 1 > light[1.25] > light[1.5] >= light[2.0]
    assert values_of(table, "rotation", "overlap")[90] == 1
    right = values_of(table, "brightness", "precision")
    assert right[0.25] == 1 / 2  # all are taken for the darkest
    assert right[2.0] < 0.7


@pytest.mark.parametrize(
    ("edit", "strength", "options"),
    [
        ("crop", 30, {}),
        ("noise", 80, {"metric": "euclidean", "fit": "crop"}),
        ("rotation", 20, {"gallery_split": "train", "query_split": "test"}),
        ("JPEG", 5, {"by": "kind", "fit": "letterbox"}),
        ("blur", 4, {"queries": [0, 1, 5, 9, 12, 20, 22]}),
    ],
)
def test_a_row_is_what_comes_of_doing_it_by_hand(encoder, shop, edit, strength, options):
    split = ["train", "train", "test", "train"] * 6
    catalog = shop.assign(split=split, kind=list("xxyyz") * 4 + ["x", None, "y", "z"])
    fit = options.get("fit", "resize")
    ranked = {name: value for name, value in options.items() if name != "fit"}
    vectors = embed_images(encoder, list(catalog["path"]), fit=fit)
    vectors.setflags(write=False)
    table = measure_edits(encoder, vectors, catalog, 4, edits=[edit], **options)
    assert table["strength"].tolist() == list(EDITS[edit].strengths)
    unedited = rank(vectors, catalog, 4, **ranked)
    photos = [load_image(path) for path in catalog["path"].iloc[unedited.queries]]
    asked = vectors.copy()
    edited = [edit_photo(photo, edit, strength, seed=n) for n, photo in enumerate(photos)]
    asked[unedited.queries] = embed_images(encoder, edited, fit=fit)
    found = rank(vectors, catalog, 4, query_vectors=asked, **ranked)
    (row,) = table[table["strength"] == strength].to_dict("records")
    overlap = overlap_at_k(found.results, unedited.results, 4).mean()
    assert 0 < overlap < 1
    assert row["overlap"] == pytest.approx(overlap)
    precision = precision_at_k(found.relevant, 4)
    assert row["precision"] == pytest.approx(precision.mean())
    change = precision - precision_at_k(unedited.relevant, 4)
    assert row["change"] == pytest.approx(change.mean())
    ends = confidence_interval(change, found.products)
    assert (row["low"], row["high"]) == pytest.approx(ends)


def test_what_is_found_by_an_edit_that_does_nothing_is_the_same_for_large_photos_too(
    encoder, tmp_path, monkeypatch
):
    catalog = make_catalog(tmp_path, 24)
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (90, 90, 3), np.uint8)
        large = Image.fromarray(pixels).resize((1100, 900), Image.Resampling.BICUBIC)
        large.save(tmp_path / f"{number}.jpg")
    catalog["path"] = [str(tmp_path / f"{number}.jpg") for number in range(24)]
    monkeypatch.setitem(EDITS, "nothing", Edit(lambda image, *_: image, (1, 2), 0, "of nothing"))
    vectors = embed_images(encoder, list(catalog["path"]))
    table = measure_edits(encoder, vectors, catalog, 3, edits=["nothing"])
    assert (table["overlap"] == 1).all()
    assert (table["change"] == 0).all()


def test_only_photos_of_the_queries_are_read(encoder, vectors, shop):
    catalog = shop.assign(split=["train"] * 18 + ["validation"] * 6)
    catalog.loc[:17, "path"] = "nowhere.png"
    assert len(measure_edits(encoder, vectors, catalog, 3, edits=["contrast"], **SPLITS)) == 5


def test_queries_that_have_nothing_to_search_in_do_not_spoil_the_rest(encoder, vectors, shop):
    # The last product is alone in its room.
    catalog = shop.assign(room=["hall"] * 22 + ["attic"] * 2)
    table = measure_edits(encoder, vectors, catalog, 3, edits=["crop"], within="room")
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    # Of a catalogue smaller than k all is found again.
    small = measure_edits(encoder, vectors[:6], shop[:6], 10, edits=["crop"])
    assert (small["overlap"] == 1).all()


def test_quiet_vectors_are_those_of_the_encoder_in_order(encoder, shop, capsys):
    quiet = embed_quietly(encoder, shop["path"], fit="letterbox")
    expected = embed_images(encoder, list(shop["path"]), fit="letterbox")
    np.testing.assert_allclose(quiet, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert capsys.readouterr().out == ""


# --- Cheap ways


def build(**options):
    return build_encoder("VGG16Slim", weights=None, **{"image_size": 64} | options)


@pytest.fixture(scope="module")
def variants(shop):
    split = shop.assign(split=["train"] * 16 + ["validation"] * 8)
    return split, try_variants(build, split, 3, **SPLITS)


def test_all_ways_are_asked_by_the_same_queries_and_the_plain_one_comes_first(variants):
    shop, found = variants
    assert next(iter(found)) == "average pooling"
    assert {"max pooling", "generalized mean", "mirror image"} <= set(found)
    assert [name for name in found if name.endswith("pixels")] == ["32 pixels", "96 pixels"]
    for ranking in found.values():
        np.testing.assert_array_equal(ranking.queries, np.arange(16, 24))
        assert (ranking.results < 16).all()
    plain = rank(embed_images(build(pooling="avg"), shop["path"]), shop, 3, **SPLITS).results
    np.testing.assert_array_equal(found["average pooling"].results, plain)
    np.testing.assert_array_equal(found["Euclidean, length 1"].results, plain)
    differing = {name for name, one in found.items() if not np.array_equal(one.results, plain)}
    assert {"max pooling", "letterbox", "central crop", "32 pixels"} <= differing


def test_expansion_asks_with_the_mean_of_query_and_first_results(variants):
    shop, found = variants
    unit = normalise(embed_images(build(pooling="avg"), shop["path"]))
    asked = unit.copy()
    for query, results in zip(range(16, 24), found["average pooling"].results, strict=True):
        asked[query] = unit[[query, *results[:3]]].mean(axis=0)
    again = rank(unit, shop, 3, query_vectors=asked, **SPLITS)
    np.testing.assert_array_equal(found["query expansion"].results, again.results)


def test_queries_have_no_say_in_what_is_learnt_from_the_gallery(variants):
    shop, found = variants
    vectors = embed_images(build(pooling="avg"), shop["path"])
    (name,) = [name for name in found if name.endswith("whitened")]
    dim = int(name.split()[2].strip(","))
    for learnt, same in ((np.arange(16), True), (np.arange(24), False)):
        again = rank(project(vectors, learnt, dim, whiten=True), shop, 3, **SPLITS)
        assert np.allclose(found[name].scores, again.scores, atol=1e-5) == same
