import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.distance import cdist

from lookalike.colour import join
from lookalike.embeddings import EmbeddingStore, embed_catalog
from lookalike.images import load_image
from lookalike.recommend import recommend, recommend_all
from lookalike.scale import index_store
from lookalike.similarity import METRICS, normalise, top_k


@pytest.fixture
def store(encoder, catalog, tmp_path):
    return embed_catalog(encoder, catalog, tmp_path / "store")


def test_recommend_by_image_id_leaves_the_image_out_and_its_product_when_asked(store):
    table = recommend(store, "004.png", 11)
    assert list(table.columns[:3]) == ["rank", "score", "image_id"]
    assert sorted(table["image_id"]) == sorted(set(store.catalog["image_id"]) - {"004.png"})
    assert list(table["rank"]) == list(range(1, 12))
    assert table["score"].is_monotonic_decreasing
    others = recommend(store, "004.png", 11, other_products=True)
    assert len(others) == 10
    assert "product-2" not in set(others["product_id"])


@pytest.mark.parametrize("metric", METRICS)
def test_path_pixels_and_vector_of_a_stored_photo_find_it_first(store, encoder, metric):
    row = store.catalog.iloc[7]
    queries = [row["path"], load_image(row["path"]), store.vectors[7]]
    tables = [recommend(store, query, 3, encoder=encoder, metric=metric) for query in queries]
    for table in tables:
        assert table["image_id"][0] == row["image_id"]
        assert table["score"][0] == pytest.approx(1 if metric == "cosine" else 0, abs=1e-3)
        assert list(table["image_id"]) == list(tables[0]["image_id"])


def test_a_query_of_another_encoder_is_refused_naming_both(store, encoder, other_encoder):
    with pytest.raises(
        ValueError, match=r"VGG16Slim-gem-untrained \(\w{16}\).*VGG16Slim-max-untrained \(\w{16}\)"
    ):
        recommend(store, store.catalog["path"][0], encoder=other_encoder)
    with pytest.raises(ValueError, match=r"5 dimensions.*VGG16Slim-gem.*128"):
        recommend(store, np.ones(5, np.float32))


def test_queries_that_cannot_be_answered_say_why(store, encoder):
    with pytest.raises(FileNotFoundError, match="neither an image_id"):
        recommend(store, "nothing.jpg", encoder=encoder)
    with pytest.raises(ValueError, match="needs encoder="):
        recommend(store, store.catalog["path"][0])
    with pytest.raises(ValueError, match="other_products"):
        recommend(store, store.vectors[0], other_products=True)


def test_recommend_all_agrees_with_recommend(store):
    everything = recommend_all(store, 4)
    assert len(everything) == 4 * len(store.catalog)
    for image_id, group in everything.groupby("image_id"):
        single = recommend(store, image_id, 4, other_products=True)
        assert list(group["recommended_image_id"]) == list(single["image_id"])
        assert list(group["rank"]) == [1, 2, 3, 4]
        np.testing.assert_array_equal(group["score"], single["score"])
    assert isinstance(everything, pd.DataFrame)


def test_a_catalogue_may_have_columns_of_the_same_names(encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog.assign(score="4 stars"), tmp_path / "store")
    table = recommend(store, "004.png", 3)
    assert table["score"].dtype == np.float32
    assert list(table["catalog_score"]) == ["4 stars"] * 3


# --- Stores of vectors made by hand: every result can be computed
# -----------------------------------------------------


def make_store(vectors, folder="store", **columns):
    """An open store of these vectors, whose images are called a, b, c and so on, each a product of
    its own.
    """
    names = list("abcdefghijklmnopqrstuvwxyz"[: len(vectors)])
    rows = {
        "image_id": names,
        "path": names,
        "product_id": [f"product-{name}" for name in names],
        "label": "thing",
    }
    manifest = {"encoder": "by hand", "fingerprint": "0" * 16, "fit": "resize"}
    return EmbeddingStore(
        Path(folder), np.array(vectors, np.float32), pd.DataFrame(rows | columns), manifest, {}
    )


def random_store(seed, n=20, dim=3, **columns):
    return make_store(np.random.default_rng(seed).normal(size=(n, dim)), **columns)


def cosines(query, vectors):
    query, vectors = np.asarray(query, float), np.asarray(vectors, float)
    return vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)


def test_by_cosine_likes_and_dislikes_count_by_their_directions_alone():
    #                   a       b       c        d       e        f         g
    store = make_store([(3, 0), (0, 7), (-5, 0), (7, 5), (5, -7), (-7, -5), (0, 2)])
    table = recommend(store, ["a", "b"], 9, disliked=["c"])  # (1/2, 1/2) - 0.2 * (-1, 0)
    assert list(table["image_id"]) == ["d", "g", "e", "f"]
    np.testing.assert_allclose(table["score"], [1, 5 / np.sqrt(74), 0, -1], atol=1e-6)
    table = recommend(store, ["a", "b"], 9, disliked=["c"], dislike_weight=0.5)  # (1, 1/2)
    np.testing.assert_allclose(
        table["score"], cosines((2, 1), [(7, 5), (0, 2), (5, -7), (-7, -5)]), atol=1e-6
    )


def test_by_distance_a_taste_moves_away_from_the_dislikes():
    #                   a       b       c         d       e       f
    store = make_store([(2, 0), (0, 2), (6, -9), (4, 0), (0, 3), (0, 0)])
    # (1, 1) - 0.2 * (5, -10).
    table = recommend(store, ["a", "b"], 9, disliked=["c"], metric="euclidean")
    assert list(table["image_id"]) == ["e", "f", "d"]
    np.testing.assert_allclose(table["score"], [0, 3, 5], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_taste_under_any_filter_agrees_with_sorting_everything(data):
    metric, k = data.draw(st.sampled_from(METRICS)), data.draw(st.integers(1, 25))
    colours, sizes = np.resize(["red", "green", "blue"], 20), np.resize([38, 40, 42, 44, 46], 20)
    products = [f"product-{row // 3}" for row in range(20)]
    store = random_store(
        data.draw(st.integers(0, 1000)), product_id=products, colour=colours, size=sizes
    )
    rows = st.integers(0, 19)
    liked, disliked = (
        data.draw(st.lists(rows, min_size=1, max_size=4)),
        data.draw(st.lists(rows, max_size=3)),
    )
    red, small, others = (
        data.draw(st.booleans()),
        data.draw(st.booleans()),
        data.draw(st.booleans()),
    )
    where = ({"colour": "red"} if red else {}) | ({"size": [38, 40]} if small else {})
    names = store.catalog["image_id"]
    table = recommend(
        store,
        names[liked],
        k,
        disliked=names[disliked],
        metric=metric,
        where=where,
        other_products=others,
    )

    vectors = store.vectors.astype(float)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    taste = mean = vectors[liked].mean(axis=0)
    if disliked:
        taste = mean - 0.2 * (vectors[disliked].mean(axis=0) - (0 if metric == "cosine" else mean))
    scores = (
        cosines(taste, vectors) if metric == "cosine" else np.linalg.norm(vectors - taste, axis=1)
    )
    asked = {*liked, *disliked}
    allowed = [
        row
        for row in range(20)
        if row not in asked
        and not (others and products[row] in {products[one] for one in asked})
        and not (red and colours[row] != "red")
        and not (small and sizes[row] > 40)
    ]
    expected = sorted(scores[allowed], reverse=metric == "cosine")[:k]
    np.testing.assert_allclose(table["score"], expected, atol=1e-5)
    found = [list(names).index(name) for name in table["image_id"]]
    assert set(found) <= set(allowed)
    np.testing.assert_allclose(scores[found], expected, atol=1e-5)
    assert list(table["rank"]) == list(range(1, len(expected) + 1))


@pytest.mark.parametrize("metric", METRICS)
def test_one_liked_thing_in_a_list_is_the_plain_query(metric):
    store = random_store(0)
    plain = recommend(store, "c", 7, metric=metric)
    for query in (
        ["c"],
        ("c",),
        (name for name in "c"),
        pd.Series(["c"], index=[9]),
        store.catalog["image_id"][2:3],
    ):
        pd.testing.assert_frame_equal(recommend(store, query, 7, metric=metric), plain)
    pd.testing.assert_frame_equal(
        recommend(store, "c", 7, metric=metric, disliked=[], where={}, colour=0), plain
    )


@pytest.mark.parametrize("metric", METRICS)
def test_several_things_may_come_in_any_collection_and_order(metric):
    store = random_store(1)
    plain = recommend(store, ["a", "b", "c"], 9, metric=metric, disliked=["e", "f", "g"])
    for liked, disliked in (
        (("c", "a", "b"), pd.Series(["g", "e", "f"])),
        ((name for name in "bca"), (name for name in "feg")),
        ({"a", "b", "c"}, {"e", "f", "g"}),
        (store.catalog["image_id"][:3], store.catalog["image_id"][4:7].unique()),
    ):
        table = recommend(store, liked, 9, metric=metric, disliked=disliked)
        assert list(table["image_id"]) == list(plain["image_id"])
        np.testing.assert_allclose(table["score"], plain["score"], atol=1e-6)


def test_several_things_may_come_as_an_array_of_names_or_of_vectors():
    store = random_store(1)
    plain = recommend(store, ["a", "b"], 9, disliked=["e", "f"])
    for names in (np.array(["a", "b"]), np.array(["a", "b"], object)):
        pd.testing.assert_frame_equal(recommend(store, names, 9, disliked=["e", "f"]), plain)
    pd.testing.assert_frame_equal(
        recommend(store, ["a", "b"], 9, disliked=np.array(["e", "f"])), plain
    )
    pd.testing.assert_frame_equal(
        recommend(store, store.vectors[:2], 9, disliked=store.vectors[4:6]),
        recommend(store, list(store.vectors[:2]), 9, disliked=list(store.vectors[4:6])),
    )


def test_a_single_disliked_thing_needs_no_list():
    store = random_store(2, image_id=[f"{number}.png" for number in range(20)])
    plain = recommend(store, "0.png", 20, disliked=["7.png"])
    assert "7.png" not in set(plain["image_id"])
    pd.testing.assert_frame_equal(recommend(store, "0.png", 20, disliked="7.png"), plain)
    by_vector = recommend(store, "0.png", 20, disliked=store.vectors[7])
    pd.testing.assert_frame_equal(
        by_vector, recommend(store, "0.png", 20, disliked=[store.vectors[7]])
    )


@pytest.mark.parametrize("nothing", [[], (), pd.Series([], dtype=str), iter([])])
def test_liking_nothing_is_refused(nothing):
    with pytest.raises(ValueError, match="Nothing is liked"):
        recommend(random_store(0), nothing, disliked=["a"])


@pytest.mark.parametrize("query", [[0.5, 0.1, 0.2], [3], [["a", "b"]], [None]])
def test_what_is_no_query_is_named(query):
    with pytest.raises(
        ValueError, match=rf"A query is an image_id.*not {re.escape(repr(query[0]))}"
    ):
        recommend(random_store(0), query)


def test_liked_things_may_be_of_every_kind_at_once(store, encoder, other_encoder):
    paths, names = store.catalog["path"], store.catalog["image_id"]
    mixed = [names[0], Path(paths[1]), load_image(paths[2]), np.array(store.vectors[3])]
    table = recommend(store, mixed, 11, disliked=[paths[5], names[6]], encoder=encoder)
    plain = recommend(store, names[:4], 11, disliked=names[5:7])
    assert len(table) == 10  # only images that are asked for by name stay away
    both = table.merge(plain, on="image_id")
    assert len(both) == len(plain) == 6
    np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-4)
    with pytest.raises(ValueError, match="VGG16Slim-max"):
        recommend(store, names[0], disliked=[paths[1]], encoder=other_encoder)
    with pytest.raises(ValueError, match="needs encoder="):
        recommend(store, names[0], disliked=[paths[1]])


# --- Filters
# --------------------------------------------------------------------------------------------------


def filtered():
    return make_store(
        [(10, number) for number in range(6)],
        colour=["red", "red", "green", "blue", None, "green"],
        size=[38, 40, 40, 42, 44, 38],
        price=[1.5, np.nan, 2.0, 1.5, 3.0, 2.0],
        sold=[True, False, True, False, True, False],
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, "bcdef"),
        ({}, "bcdef"),
        ({"colour": "green"}, "cf"),
        ({"colour": ["blue", "red"]}, "bd"),
        ({"colour": ("green",)}, "cf"),
        ({"colour": {"green", "blue"}}, "cdf"),
        ({"colour": pd.Series(["green"])}, "cf"),
        ({"size": 40}, "bc"),
        ({"size": np.int64(40)}, "bc"),
        ({"size": 40.0}, "bc"),
        ({"size": range(42, 45, 2)}, "de"),
        ({"price": 2}, "cf"),
        ({"sold": False}, "bdf"),
        ({"colour": "green", "size": [38, 42]}, "f"),
        ({"colour": "blue", "size": 38}, ""),
        ({"colour": []}, ""),
        ({"label": "thing", "colour": "red"}, "b"),
    ],
)
@pytest.mark.parametrize("diversity", [0, 0.3])
def test_where_keeps_what_has_the_wanted_values_in_order(where, expected, diversity):
    table = recommend(filtered(), "a", 5, where=where, diversity=diversity)
    assert sorted(table["image_id"]) == list(expected)
    assert list(table["rank"]) == list(range(1, len(expected) + 1))
    if not diversity:
        assert list(table["image_id"]) == list(expected), "b to f lie ever further from a"


def test_the_best_k_are_taken_of_what_passes_the_filter_rather_than_the_other_way_round():
    assert list(recommend(filtered(), "a", 1, where={"size": 44})["image_id"]) == ["e"]
    assert list(
        recommend(filtered(), "a", 2, where={"colour": "green"}, diversity=0.1)["image_id"]
    ) == ["c", "f"]


def test_where_goes_with_other_products():
    store = make_store(
        [(10, number) for number in range(6)], product_id=list("xyxyxz"), colour=["red", "blue"] * 3
    )
    assert list(recommend(store, "a", 5, where={"colour": "red"})["image_id"]) == ["c", "e"]
    assert (
        list(recommend(store, "a", 5, where={"colour": "red"}, other_products=True)["image_id"])
        == []
    )
    assert list(
        recommend(store, "a", 5, where={"colour": "blue"}, other_products=True)["image_id"]
    ) == ["b", "d", "f"]
    table = recommend(
        store, ["a"], 5, disliked=["b"], where={"colour": "blue"}, other_products=True
    )
    assert list(table["image_id"]) == ["f"], "the products of what is disliked are asked with too"


def test_a_column_or_value_that_is_not_there_is_refused_naming_what_is():
    with pytest.raises(ValueError, match=r"no column 'color'; it has image_id, path.*colour, size"):
        recommend(filtered(), "a", where={"color": "red"})
    with pytest.raises(
        ValueError,
        match=r"No image has 'pink' as colour; .* 3 values, \['red', 'green', 'blue'\]\.",
    ):
        recommend(filtered(), "a", where={"colour": ["red", "pink"]})
    for missing in (None, np.nan, pd.NA):
        with pytest.raises(ValueError, match=r"as colour; it has 3 values"):
            recommend(filtered(), "a", where={"colour": ["red", missing]})


def test_a_number_asked_for_in_a_column_of_text_can_be_told_from_it_in_the_message(
    encoder, catalog, tmp_path
):
    # Attributes are read back as text.
    store = embed_catalog(encoder, catalog.assign(year=2012), tmp_path / "store")
    assert len(recommend(store, "000.png", 20, where={"year": "2012"})) == 11
    with pytest.raises(ValueError, match=r"No image has 2012 as year; .* \['2012'\]\."):
        recommend(store, "000.png", where={"year": 2012})
    with pytest.raises(ValueError, match=r"No image has '40' as size; .* \[38, 40, 42, 44\]\."):
        recommend(filtered(), "a", where={"size": "40"})


def test_a_message_does_not_take_some_values_for_all_there_are():
    store = random_store(0, code=[f"{number:03}" for number in range(20)])
    with pytest.raises(ValueError, match=r"'999' as code; it has 20 values, \['000', .*'011'\]\."):
        recommend(store, "a", where={"code": "999"})


# --- Variety
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("diversity", [0.0, 0, False])
def test_without_diversity_the_nearest_come_in_order(metric, diversity):
    store = random_store(3)
    table = recommend(store, "a", 6, metric=metric, diversity=diversity)
    pd.testing.assert_frame_equal(table, recommend(store, "a", 6, metric=metric))
    assert (
        table["score"].is_monotonic_decreasing
        if metric == "cosine"
        else table["score"].is_monotonic_increasing
    )


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(METRICS), st.integers(0, 1000), st.integers(1, 8), st.floats(0.01, 1))
def test_a_varied_choice_is_that_of_maximal_marginal_relevance(metric, seed, k, diversity):
    store = random_store(seed)
    vectors = store.vectors.astype(float)
    likeness = np.stack(
        [
            cosines(one, vectors) if metric == "cosine" else -cdist([one], vectors)[0]
            for one in vectors
        ]
    )
    chosen, left = [], sorted(range(1, 20), key=lambda row: -likeness[0, row])[: 10 * k]
    while left and len(chosen) < k:
        chosen.append(
            max(
                left,
                key=lambda row: (
                    (1 - diversity) * likeness[0, row]
                    - diversity * max((likeness[row, other] for other in chosen), default=0)
                ),
            )
        )
        left.remove(chosen[-1])
    table = recommend(store, "a", k, metric=metric, diversity=diversity)
    assert list(table["image_id"]) == list(store.catalog["image_id"][chosen])
    np.testing.assert_allclose(
        table["score"],
        np.abs(likeness[0, chosen]) if metric == "euclidean" else likeness[0, chosen],
        atol=1e-5,
    )


@pytest.mark.parametrize("metric", METRICS)
def test_exact_duplicates_are_thinned_and_the_best_still_comes_first(metric):
    #                   a           b           c           d           e            f
    store = make_store([(10, 0, 0), (10, 2, 0), (10, 2, 0), (10, 2, 0), (10, -4, 0), (10, 0, 5)])
    assert list(recommend(store, "a", 3, metric=metric)["image_id"]) == ["b", "c", "d"]
    for diversity in (0.5, 1, True):
        table = recommend(store, "a", 3, metric=metric, diversity=diversity)
        assert list(table["image_id"]) == ["b", "e", "f"]
        assert list(table["rank"]) == [1, 2, 3]
    assert len(recommend(store, "a", 9, metric=metric, diversity=1)) == 5


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), float("inf")])
def test_diversity_outside_its_range_is_refused(bad):
    with pytest.raises(ValueError, match=f"diversity must be between 0 and 1, not {bad}"):
        recommend(random_store(0), "a", diversity=bad)


# --- Colour
# --------------------------------------------------------------------------------------------------


def coloured_store(seed=0, n=20, dim=3, **columns):
    """A store whose photos have colours, unit vectors of four numbers."""
    store = random_store(seed, n, dim, **columns)
    colours = normalise(np.random.default_rng(seed).random((n, 4)) ** 3)
    return dataclasses.replace(store, side_arrays={"colours": colours})


@pytest.mark.parametrize("colour", [0.1, 0.5, 1])
def test_the_score_is_the_weighted_sum_of_both_likenesses(colour):
    store = coloured_store()
    colours = store.side_arrays["colours"]
    expected = (1 - colour) * cosines(store.vectors[0], store.vectors) + colour * colours @ colours[
        0
    ]
    table = recommend(store, "a", 19, colour=colour)
    rows = store.catalog["image_id"].tolist()
    places = [rows.index(name) for name in table["image_id"]]
    assert places == sorted(range(1, 20), key=lambda row: -expected[row])
    np.testing.assert_allclose(table["score"], expected[places], atol=1e-6)


def test_one_gallery_serves_every_weight():
    store = coloured_store(1)
    gallery = store.joined
    for colour in (0, 0.3, 1):
        parts = normalise(store.vectors), store.side_arrays["colours"]
        for_it = join(np.sqrt(1 - colour) * parts[0], np.sqrt(colour) * parts[1])
        found, scores = top_k(join(*parts, colour), gallery, 5, metric="product")
        expected, of_it = top_k(for_it, for_it, 5)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(scores, of_it, atol=1e-6)


def test_a_taste_has_a_colour_too_and_scores_stay_within_one():
    store = coloured_store(2)
    for options in ({}, {"disliked": ["d", "e"], "dislike_weight": 0.9}, {"diversity": 0.5}):
        table = recommend(store, ["a", "b", "c"], 9, colour=0.4, **options)
        assert table["score"].between(-1, 1).all()
    alike = dataclasses.replace(store, vectors=np.ones_like(store.vectors))
    colours = store.side_arrays["colours"]
    wanted = normalise([colours[:2].mean(axis=0) - 0.2 * colours[2]])[0]
    table = recommend(alike, ["a", "b"], 9, disliked=["c"], colour=0.5)
    expected = np.sort(0.5 + 0.5 * colours[3:] @ wanted)[::-1][:9]
    np.testing.assert_allclose(table["score"], expected, atol=1e-6)


def test_with_colours_a_varied_choice_differs_in_colour():
    #                   a       b         c         d
    store = make_store([(1, 0), (1, 0.1), (1, 0.2), (1, 0.1)])
    colours = np.float32([[1, 0], [1, 0], [0, 1], [1, 0]])
    store = dataclasses.replace(store, side_arrays={"colours": colours})
    for diversity, expected in {0: ["b", "d"], 0.7: ["b", "c"]}.items():
        table = recommend(store, "a", 2, colour=0.3, diversity=diversity)
        assert table["image_id"].tolist() == expected


def test_a_photo_is_asked_with_its_own_colours_however_it_is_given(store, encoder):
    row = store.catalog.iloc[7]
    photos = [row["path"], Path(row["path"]).read_bytes(), load_image(row["path"])]
    photos += [Image.open(row["path"])]
    photos += [np.append(store.vectors[7], store.side_arrays["colours"][7])]
    for photo in photos:
        table = recommend(store, photo, 3, encoder=encoder, colour=0.5)
        assert table["image_id"][0] == row["image_id"]
        assert table["score"][0] == pytest.approx(1, abs=1e-4)


def test_recommend_all_by_colour_agrees_with_recommend(store):
    everything = recommend_all(store, 4, colour=0.3)
    for image_id, group in everything.groupby("image_id"):
        single = recommend(store, image_id, 4, other_products=True, colour=0.3)
        assert list(group["recommended_image_id"]) == list(single["image_id"])
        np.testing.assert_allclose(group["score"], single["score"], atol=1e-6)


@pytest.mark.parametrize(
    ("store", "query", "options", "message"),
    [
        (coloured_store(), np.ones(3, np.float32), {"colour": 0.2}, "A vector has no colour"),
        (coloured_store(), "a", {"colour": 0.2, "metric": "euclidean"}, "metric='cosine'"),
        (coloured_store(), "a", {"colour": 1.1}, "between 0 and 1, not 1.1"),
        (coloured_store(), "a", {"colour": np.nan}, "between 0 and 1, not nan"),
        (random_store(0), "a", {"colour": 0.2}, "keeps no colours: run 04_embeddings"),
    ],
)
def test_where_colour_cannot_count_it_says_why(store, query, options, message):
    with pytest.raises(ValueError, match=message):
        recommend(store, query, **options)


# --- By an index
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def indexed():
    """What makes a flat index of a store."""
    pytest.importorskip("faiss")
    return functools.partial(index_store, kind="flat")


LABELS = ["hat", "bag", 'say "shoe"', "hat"] * 5
SHOP = coloured_store(7, label=LABELS, product_id=[f"product-{row // 2}" for row in range(20)])
SHARES = SHOP.side_arrays["colours"]
PLAIN = dataclasses.replace(SHOP, side_arrays={})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 100},
        {"where": {"label": 'say "shoe"'}},
        {"other_products": True},
        {"other_products": True, "where": {"label": "bag"}, "k": 100},
        {"diversity": 0.4},
        {"query": ["a", "c", "e"], "disliked": "s"},
        {"query": ["a", "c"], "diversity": 0.9, "other_products": True, "k": 2},
    ],
    ids=str,
)
def test_by_an_exact_index_the_table_is_the_same(options, indexed):
    index, options = indexed(SHOP), {"query": "a"} | options
    cases = [(SHOP, index, {"colour": colour}) for colour in (0, 0.2, 1)]
    cases += [(PLAIN, indexed(PLAIN), {})]
    cases += [(PLAIN, indexed(PLAIN), {"query": np.float32([1, -2, 3]), "other_products": False})]
    for store, its_index, more in cases:
        expected = recommend(store, **options | more)
        table = recommend(store, **options | more, index=its_index)
        pd.testing.assert_frame_equal(table, expected, rtol=0, atol=1e-5)
        assert len(table)


@pytest.mark.parametrize(
    ("asked", "other"),
    {
        "other vectors": (SHOP, coloured_store(8)),
        "other order": (SHOP, dataclasses.replace(SHOP, vectors=SHOP.vectors[::-1])),
        "other colours": (SHOP, dataclasses.replace(SHOP, side_arrays={"colours": SHARES[::-1]})),
        "larger": (SHOP, coloured_store(7, n=26)),
        "no colours": (SHOP, PLAIN),
        "with colours": (PLAIN, SHOP),
        "another encoder": (SHOP, coloured_store(7, dim=5)),
    }.values(),
)
def test_an_index_of_another_store_is_refused(asked, other, indexed):
    colour = 0.3 if asked is SHOP else 0
    with pytest.raises(ValueError, match="index is of other vectors than store: make it anew"):
        recommend(asked, "a", index=indexed(other), colour=colour)


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "euclidean"},
        {"where": {"product_id": "product-1"}},
        {"where": {"label": "hat", "product_id": "product-0"}},
        {"where": {"label": ["hat", "bag"]}},
    ],
    ids=str,
)
def test_what_an_index_cannot_do_is_refused(options, indexed):
    with pytest.raises(ValueError, match="by cosine, and filters by one label alone"):
        recommend(SHOP, "a", index=indexed(SHOP), **options)


def test_a_store_without_labels_is_indexed_too(indexed):
    store = dataclasses.replace(PLAIN, catalog=PLAIN.catalog.drop(columns="label"))
    index = indexed(store)
    assert len(recommend(store, "a", index=index)) == 5
    assert (index.search(store.vectors[:1], 5, label="hat")[0] == -1).all()


# --- Odds and ends
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"disliked": ["b"]}, {"diversity": 0.5}])
def test_an_unknown_metric_and_no_k_are_refused(options):
    with pytest.raises(
        ValueError, match="metric must be one of cosine, euclidean, not 'manhattan'"
    ):
        recommend(random_store(0), "a", metric="manhattan", **options)
    with pytest.raises(ValueError, match="k must be a whole number, at least 1, not 0"):
        recommend(random_store(0), "a", 0, **options)


def test_a_zero_vector_is_at_cosine_zero_and_takes_no_part_in_a_taste():
    store = make_store([(0, 0), (4, 0), (0, 2), (3, 4)])
    np.testing.assert_array_equal(recommend(store, "a", 9)["score"], 0)
    table = recommend(store, ["b", "a"], 9)
    assert list(table["image_id"]) == ["d", "c"]
    np.testing.assert_allclose(table["score"], [0.6, 0], atol=1e-6)


def test_two_stores_of_the_same_name_are_searched_each_by_itself():
    first, second = (
        make_store([(1, 0), (1, 1), (0, 1)]),
        make_store([(1, 0), (0, 1), (1, 2), (5, 1)]),
    )
    for _ in range(2):
        assert list(recommend(first, "a", 9)["image_id"]) == ["b", "c"]
        assert list(recommend(second, "a", 9)["image_id"]) == ["d", "c", "b"]
        assert list(recommend(first, "a", 9, metric="euclidean")["score"]) == pytest.approx(
            [1, np.sqrt(2)]
        )
        assert recommend_all(second, 1)["recommended_image_id"].tolist() == ["d", "c", "b", "a"]


@pytest.mark.parametrize("metric", METRICS)
def test_recommend_all_has_as_many_rows_as_there_are_images_of_other_products(metric):
    store = make_store([(1, 0), (1, 0.1), (1, 1), (0, 1)], product_id=["x", "x", "y", "x"])
    table = recommend_all(store, 3, metric=metric)
    pairs = list(zip(table["image_id"], table["rank"], table["recommended_image_id"], strict=True))
    assert pairs == [
        ("a", 1, "c"),
        ("b", 1, "c"),
        ("c", 1, "b"),
        ("c", 2, "a"),
        ("c", 3, "d"),
        ("d", 1, "c"),
    ]
    assert table["recommended_product_id"].tolist() == ["y", "y", "x", "x", "x", "y"]


def test_recommend_all_of_a_single_product_is_empty_but_has_its_columns():
    table = recommend_all(make_store([(1, 0), (0, 1)], product_id="x"), 3)
    assert table.empty
    names = ["image_id", "rank", "score", "recommended_image_id", "recommended_product_id"]
    assert list(table.columns) == names


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [10**12, np.int8(100)])
def test_more_than_there_are_is_all_that_there_are(metric, k):
    store = random_store(0)
    for options in ({}, {"diversity": 0.4}, {"disliked": ["b"]}):
        pd.testing.assert_frame_equal(
            recommend(store, "a", k, metric=metric, **options),
            recommend(store, "a", 50, metric=metric, **options),
        )
    pd.testing.assert_frame_equal(
        recommend_all(store, k, metric=metric), recommend_all(store, 50, metric=metric)
    )


@pytest.mark.parametrize("bad", [2.5, "3", None, True, np.nan])
def test_numbers_that_are_not_whole_are_refused_by_their_name(bad):
    for ask in (recommend, lambda store, _, k: recommend_all(store, k)):
        with pytest.raises(ValueError, match=f"k must be a whole number, at least 1, not {bad!r}"):
            ask(random_store(0), "a", bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="The query vector in row 0 holds NaN, infinity"):
        recommend(random_store(0), "a", disliked=["b"], dislike_weight=bad)
