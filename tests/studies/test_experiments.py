import numpy as np
import pytest
from PIL import Image

from conftest import make_catalog
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images
from lookalike.evaluation import confidence_interval, overlap_at_k, precision_at_k, rank
from lookalike.images import load_image
from lookalike.similarity import normalise
from lookalike.studies import edit_photo, experiments, measure_edits, try_variants
from lookalike.studies.encoder_variants import project
from lookalike.studies.photo_edits import EDITS

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


@pytest.fixture
def only(monkeypatch):
    """Leave only some of the edits."""

    def leave(*names):
        monkeypatch.setattr(experiments, "EDITS", {name: EDITS[name] for name in names})

    return leave


@pytest.mark.parametrize(
    ("edit", "strength", "options"),
    [
        ("crop", 30, {}),
        ("noise", 80, {"metric": "euclidean", "by": "kind"}),
        ("rotation", 20, {"gallery_split": "train", "query_split": "test"}),
        ("blur", 4, {"queries": [0, 1, 5, 9, 12, 20, 22]}),
    ],
)
def test_a_row_is_what_comes_of_doing_it_by_hand(
    encoder, shop, vectors, only, edit, strength, options
):
    split = ["train", "train", "test", "train"] * 6
    catalog = shop.assign(split=split, kind=list("xxyyz") * 4 + ["x", None, "y", "z"])
    only(edit)
    table = measure_edits(encoder, vectors, catalog, 4, **options)
    assert table["edit"].unique().tolist() == [edit]
    assert table["strength"].tolist() == list(EDITS[edit].strengths)
    unedited = rank(vectors, catalog, 4, **options)
    photos = [load_image(path) for path in catalog["path"].iloc[unedited.queries]]
    asked = vectors.copy()
    edited = [edit_photo(photo, edit, strength, seed=n) for n, photo in enumerate(photos)]
    asked[unedited.queries] = embed_images(encoder, edited)
    found = rank(vectors, catalog, 4, query_vectors=asked, **options)
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


def test_only_photos_of_the_queries_are_read(encoder, vectors, shop, only):
    catalog = shop.assign(split=["train"] * 18 + ["validation"] * 6)
    catalog.loc[:17, "path"] = "nowhere.png"
    only("contrast")
    assert len(measure_edits(encoder, vectors, catalog, 3, **SPLITS)) == 5


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
