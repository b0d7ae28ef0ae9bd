import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.preprocessing import normalize

from conftest import make_catalog
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images
from lookalike.images import load_image
from lookalike.intervals import confidence_interval
from lookalike.metrics import chance_at_k, overlap_at_k, precision_at_k
from lookalike.rankings import rank
from lookalike.studies import edit_photo, measure_robustness, measure_stages, try_variants
from lookalike.studies.encoder_variants import project
from lookalike.studies.experiments import embed_quickly
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
    return keras.Model(
        image, keras.layers.Flatten()(keras.ops.mean(image, axis=(1, 2, 3), keepdims=True))
    )


def values_of(table, edit, measure):
    part = table[(table["edit"] == edit) & (table["measure"] == measure)]
    return dict(zip(part["strength"], part["value"], strict=True))


def by_hand(encoder, vectors, catalog, rows, edit, strength, k, seed=0, fit="resize", **options):
    """The unedited ranking, and that of the edited photos."""
    photos = [load_image(path) for path in catalog["path"].iloc[rows]]
    edited = [
        edit_photo(photo, edit, strength, seed=(seed, number))
        for number, photo in enumerate(photos)
    ]
    asked = vectors.copy()
    asked[rows] = embed_images(encoder, edited, fit=fit)
    both = (rank(vectors, catalog, k, asking=rows, asked=one, **options) for one in (None, asked))
    return tuple(both)


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
    table = measure_robustness(brightness, vectors, catalog, 3, edits=edits, metric="euclidean")
    light, turn = values_of(table, "brightness", "overlap"), values_of(table, "rotation", "overlap")
    assert light[1] == 1
    assert light[1] > light[0.75] > light[0.5] >= light[0.25]
    assert light[1] > light[1.25] > light[1.5] >= light[2.0]
    assert turn[0] == turn[90] == 1
    right = values_of(table, "brightness", "Precision@k")
    assert right[1] > 0.8
    assert right[0.25] == 1 / 2  # all are taken for the darkest
    assert right[2.0] < 0.7


@pytest.mark.parametrize(
    ("edit", "strength", "options"),
    [
        ("crop", 30, {}),
        ("noise", 80, {"metric": "euclidean", "fit": "crop"}),
        ("rotation", 20, {"gallery_split": "train", "query_split": "test", "seed": 3}),
        ("JPEG", 5, {"by": "kind", "fit": "letterbox"}),
    ],
)
def test_a_row_is_what_comes_of_doing_it_by_hand(encoder, vectors, shop, edit, strength, options):
    catalog = shop.assign(
        split=["train", "train", "test", "train"] * 6,
        kind=list("xxyyz") * 4 + ["x", None, "y", "z"],
    )
    fit, seed = options.get("fit", "resize"), options.get("seed", 0)
    ranked = {name: value for name, value in options.items() if name not in ("fit", "seed")}
    vectors = embed_images(encoder, list(catalog["path"]), fit=fit)
    table = measure_robustness(encoder, vectors, catalog, 4, edits=[edit], **options)
    rows = rank(vectors, catalog, 4, **ranked).queries
    unedited, edited = by_hand(
        encoder, vectors, catalog, rows, edit, strength, 4, seed=seed, fit=fit, **ranked
    )
    expected = {
        "Precision@k": precision_at_k(edited.relevant, 4),
        "overlap": overlap_at_k(edited, unedited, 4),
    }
    chances = {
        "Precision@k": chance_at_k(edited, 4).mean(),
        "overlap": (4 / edited.n_gallery).mean(),
    }
    changes = {
        "Precision@k": expected["Precision@k"] - precision_at_k(unedited.relevant, 4),
        "overlap": expected["overlap"] - 1,
    }
    part = table[table["strength"] == strength].set_index("measure")
    assert list(part.index) == ["Precision@k", "overlap"]
    assert 0 < part.loc["overlap", "value"] < 1
    for measure, values in expected.items():
        row = part.loc[measure]
        assert row["value"] == pytest.approx(values.mean())
        assert (row["low"], row["high"]) == pytest.approx(
            confidence_interval(values, edited.products)
        )
        assert row["chance"] == pytest.approx(chances[measure])
        assert row["change"] == pytest.approx(changes[measure].mean())
        ends = confidence_interval(changes[measure], edited.products)
        assert (row["change low"], row["change high"]) == pytest.approx(ends)
    assert set(part["unit"]) == {EDITS[edit].unit}


def test_at_the_strength_of_no_change_everything_is_found_again(encoder, vectors, shop):
    edits = ("blur", "JPEG", "contrast")
    table = measure_robustness(encoder, vectors, shop, 5, edits=edits)
    precision = precision_at_k(rank(vectors, shop, 5).relevant, 5).mean()
    for edit in edits:
        unchanged = EDITS[edit].unchanged
        assert values_of(table, edit, "overlap")[unchanged] == 1
        assert values_of(table, edit, "Precision@k")[unchanged] == pytest.approx(precision)
        steps = sorted([*EDITS[edit].strengths, unchanged])
        assert (
            list(values_of(table, edit, "overlap"))
            == list(values_of(table, edit, "Precision@k"))
            == steps
        )
    assert list(dict.fromkeys(table["edit"])) == list(edits)
    still = table[table["strength"] == table["edit"].map(lambda edit: EDITS[edit].unchanged)]
    assert (still[["change", "change low", "change high"]] == 0).all(axis=None)


def test_what_is_found_by_an_edit_that_does_nothing_is_the_same_for_large_photos_too(
    encoder, tmp_path, monkeypatch
):
    catalog = make_catalog(tmp_path, 24)
    for number in range(24):
        coarse = Image.fromarray(
            np.random.default_rng(number).integers(0, 256, (90, 90, 3), np.uint8)
        )
        coarse.resize((1100, 900), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.jpg")
    catalog["path"] = [str(tmp_path / f"{number}.jpg") for number in range(24)]
    monkeypatch.setitem(EDITS, "nothing", Edit(lambda image, *_: image, (1, 2), 0, "of nothing"))
    vectors = embed_images(encoder, list(catalog["path"]))
    table = measure_robustness(encoder, vectors, catalog, 3, edits=["nothing"])
    assert (table.loc[table["measure"] == "overlap", "value"] == 1).all()
    assert (table["change"] == 0).all()


def test_the_size_of_batches_does_not_matter(encoder, vectors, shop):
    tables = [
        measure_robustness(encoder, vectors, shop, 3, edits=["crop"], batch_size=one)
        for one in (1, 7, 24, 32)
    ]
    for table in tables[1:]:
        np.testing.assert_allclose(
            table.select_dtypes("number"), tables[0].select_dtypes("number"), atol=1e-9
        )


def test_only_so_many_queries_are_drawn_and_the_seed_draws_them(encoder, vectors, shop):
    def measured(seed, max_queries=5):
        return measure_robustness(
            encoder, vectors, shop, 3, edits=["blur"], max_queries=max_queries, seed=seed
        )

    one, again, other = measured(0), measured(0), measured(1)
    pd.testing.assert_frame_equal(one, again)
    assert not np.array_equal(one["value"], other["value"])
    rows = np.sort(np.random.default_rng(0).permutation(24)[:5])
    unedited, edited = by_hand(encoder, vectors, shop, rows, "blur", 4, 3)
    assert values_of(one, "blur", "Precision@k")[4] == pytest.approx(
        precision_at_k(edited.relevant, 3).mean()
    )
    assert values_of(one, "blur", "overlap")[4] == pytest.approx(
        overlap_at_k(edited, unedited, 3).mean()
    )
    # All, and no chance in blur.
    np.testing.assert_array_equal(measured(0, 24).to_numpy(), measured(1, 999).to_numpy())


def test_only_photos_of_the_queries_are_read(encoder, vectors, shop):
    catalog = shop.assign(split=["train"] * 18 + ["test"] * 6)
    catalog.loc[:17, "path"] = "nowhere.png"
    splits = {"gallery_split": "train", "query_split": "test"}
    table = measure_robustness(encoder, vectors, catalog, 3, edits=["contrast"], **splits)
    assert values_of(table, "contrast", "overlap")[1] == 1


def test_chance_differs_from_photo_to_photo_and_with_the_seed(encoder, tmp_path):
    catalog = make_catalog(tmp_path, 24)
    same = catalog.assign(path=catalog["path"][0])
    vectors = embed_images(encoder, list(catalog["path"]))
    tables = [
        measure_robustness(encoder, vectors, same, 3, edits=["occlusion"], seed=seed)
        for seed in (0, 0, 100)
    ]
    np.testing.assert_array_equal(tables[0]["value"], tables[1]["value"])
    assert not np.array_equal(tables[0]["value"], tables[2]["value"])


def test_the_vectors_are_left_as_they_are(encoder, vectors, shop):
    before = vectors.copy()
    frozen = vectors.copy()
    frozen.setflags(write=False)
    table = measure_robustness(encoder, frozen, shop, 3, edits=["crop"])
    np.testing.assert_array_equal(vectors, before)
    np.testing.assert_array_equal(
        table["value"], measure_robustness(encoder, vectors, shop, 3, edits=["crop"])["value"]
    )


def test_of_a_catalogue_smaller_than_k_all_is_found_again_and_what_is_missing_is_wrong(
    encoder, vectors, shop
):
    small = shop[:6]
    table = measure_robustness(encoder, vectors[:6], small, 10, edits=["crop"])
    overlap = table[table["measure"] == "overlap"]
    assert (overlap["value"] == 1).all()
    assert (overlap["chance"] == 1).all()
    # Of each label there is one product.
    assert (table.loc[table["measure"] == "Precision@k", "value"] == 0).all()


def test_queries_that_have_nothing_to_search_in_do_not_spoil_the_rest(encoder, vectors, shop):
    # The last product is alone in its room.
    catalog = shop.assign(room=["hall"] * 22 + ["attic"] * 2)
    with np.errstate(all="raise"):
        table = measure_robustness(encoder, vectors, catalog, 3, edits=["crop"], within="room")
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    rows = np.arange(22)
    unedited, edited = by_hand(encoder, vectors, catalog, rows, "crop", 30, 3, within="room")
    assert values_of(table, "crop", "overlap")[30] == pytest.approx(
        overlap_at_k(edited, unedited, 3).mean()
    )
    overlap = table[table["measure"] == "overlap"]
    np.testing.assert_allclose(overlap["chance"], 3 / 20)


def test_an_unknown_edit_is_refused_before_anything_is_read(encoder, shop):
    catalog = shop.assign(path="nowhere.png")
    with pytest.raises(
        ValueError, match=r"Unknown edit 'sepia'; choose among brightness, .*background"
    ):
        measure_robustness(None, None, catalog, edits=["blur", "sepia"])


def test_what_rank_refuses_is_refused(encoder, vectors, shop):
    for options, message in [
        ({"by": "colour"}, "no column 'colour'"),
        ({"metric": "manhattan"}, "manhattan"),
    ]:
        with pytest.raises(ValueError, match=message):
            measure_robustness(encoder, vectors, shop, 3, edits=["blur"], **options)
    with pytest.raises(ValueError, match="do not belong together"):
        measure_robustness(encoder, vectors[:5], shop, 3, edits=["blur"])


# --- Quick vectors
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 24, 32])
def test_quick_vectors_are_those_of_the_encoder_in_order_and_a_bar_is_shown_if_described(
    encoder, shop, batch_size, capsys
):
    quick = embed_quickly(encoder, shop["path"], fit="letterbox", batch_size=batch_size)
    expected = embed_images(encoder, list(shop["path"]), fit="letterbox")
    np.testing.assert_allclose(quick, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert capsys.readouterr().out == ""
    embed_quickly(encoder, shop["path"], batch_size=batch_size, description="a name")
    assert "a name" in capsys.readouterr().out


# --- Stages
# -----------------------------------------------------------------------------------------------------------


def test_stages_are_asked_for_the_kind_everywhere_and_for_the_rest_within_the_kind(vectors, shop):
    shop = shop.assign(colour=["red", "blue", "red", "red", None, "blue"] * 4)
    parts = {"early": vectors[:, :20], "vector": vectors}
    table = measure_stages(parts, shop, ["colour"], 3).set_index(["asked", "stage"])
    assert list(table.index) == [(a, b) for a in ("kind", "colour, within the kind") for b in parts]
    for asked, question in {
        "kind": {},
        "colour, within the kind": {"by": "colour", "within": "label"},
    }.items():
        for stage, part in parts.items():
            ranking = rank(part, shop, 3, **question)
            values = precision_at_k(ranking.relevant, 3)
            row = table.loc[(asked, stage)]
            assert row["value"] == pytest.approx(values.mean())
            assert row[["low", "high"]].tolist() == pytest.approx(
                confidence_interval(values, ranking.products)
            )
            assert row["chance"] == pytest.approx(chance_at_k(ranking, 3).mean())
            assert (row["verdict"] == "") == (stage == "vector")


# --- Cheap ways
# -------------------------------------------------------------------------------------------------------


def build(**options):
    return build_encoder("VGG16Slim", weights=None, **{"image_size": 64} | options)


@pytest.fixture(scope="module")
def variants(shop):
    split = shop.assign(split=["train"] * 16 + ["validation"] * 8)
    return split, try_variants(
        build, split, 3, gallery_split="train", query_split="validation", batch_size=8
    )


def test_all_ways_are_asked_by_the_same_queries_and_the_plain_one_comes_first(variants):
    shop, found = variants
    assert next(iter(found)) == "average pooling"
    assert {"max pooling", "generalized mean", "PCA to 2", "PCA to 2, whitened"} <= set(found)
    assert [name for name in found if name.endswith("pixels")] == ["32 pixels", "96 pixels"]
    assert len(found) == 16
    for ranking in found.values():
        np.testing.assert_array_equal(ranking.queries, np.arange(16, 24))
        assert (ranking.results < 16).all()
    plain = rank(embed_quickly(build(pooling="avg"), shop["path"]), shop, 3, **SPLITS)
    np.testing.assert_array_equal(found["average pooling"].results, plain.results)


def test_ways_that_come_to_the_same_find_the_same(variants):
    _, found = variants
    np.testing.assert_array_equal(
        found["Euclidean, length 1"].results, found["average pooling"].results
    )
    assert found["Euclidean distance"].metric == "euclidean"
    differing = [
        name
        for name, one in found.items()
        if not np.array_equal(one.results, found["average pooling"].results)
    ]
    assert {"max pooling", "letterbox", "central crop", "PCA to 2, whitened", "32 pixels"} <= set(
        differing
    )


def test_expansion_asks_with_the_mean_of_query_and_first_results(variants):
    shop, found = variants
    unit = normalize(embed_quickly(build(pooling="gem"), shop["path"]))
    asked = unit.copy()
    for query, results in zip(np.arange(16, 24), found["generalized mean"].results, strict=True):
        asked[query] = unit[[query, *results[:3]]].mean(axis=0)
    again = rank(unit, shop, 3, asked=asked, **SPLITS)
    np.testing.assert_array_equal(found["generalized mean + expansion"].results, again.results)


def test_queries_have_no_say_in_what_is_learnt_from_the_gallery(variants):
    shop, found = variants
    vectors = embed_quickly(build(pooling="avg"), shop["path"])
    projected = project(vectors, np.arange(16), 2, whiten=True)
    again = rank(projected, shop, 3, **SPLITS)
    np.testing.assert_array_equal(found["PCA to 2, whitened"].results, again.results)
    everything = rank(project(vectors, np.arange(24), 2, whiten=True), shop, 3, **SPLITS)
    assert not np.array_equal(found["PCA to 2, whitened"].scores, everything.scores)
