import dataclasses
import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.distance import cdist

from conftest import make_catalog
from lookalike.embeddings import EmbeddingStore, embed_catalog
from lookalike.images import load_image
from lookalike.recommend import recommend, recommend_all
from lookalike.scale import index_store
from lookalike.similarity import METRICS, normalise


@pytest.fixture(scope="module")
def store(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommend")
    catalog = make_catalog(folder / "photos", 12, views=2).assign(score="4 stars")
    return embed_catalog(encoder, catalog, folder / "store")


def test_recommend_by_image_id_leaves_the_image_out_and_its_product_when_asked(store):
    table = recommend(store, "004.png", 11)
    assert list(table.columns[:3]) == ["rank", "score", "image_id"]
    assert sorted(table["image_id"]) == sorted(set(store.catalog["image_id"]) - {"004.png"})
    assert list(table["rank"]) == list(range(1, 12))
    assert table["score"].is_monotonic_decreasing
    assert list(table["score_in_catalog"]) == ["4 stars"] * 11
    others = recommend(store, "004.png", 11, other_products=True)
    assert len(others) == 10
    assert "product-2" not in set(others["product_id"])


@pytest.mark.parametrize(
    "options", [{}, {"metric": "euclidean"}, {"colour": 0.5}, {"diversity": 0.2}], ids=str
)
def test_a_stored_photo_finds_itself_first_however_it_is_given(store, encoder, options):
    row = store.catalog.iloc[7]
    photos = [row["path"], Path(row["path"]), Path(row["path"]).read_bytes()]
    photos += [load_image(row["path"]), Image.open(row["path"])]
    photos += [np.append(store.vectors[7], store.side_arrays["colours"][7])]
    if not options.get("colour"):
        photos += [store.vectors[7]]
    tables = [recommend(store, photo, 3, encoder=encoder, **options) for photo in photos]
    for table in tables:
        assert table["image_id"][0] == row["image_id"]
        assert table["score"][0] == pytest.approx(float("metric" not in options), abs=1e-3)
        assert list(table["image_id"]) == list(tables[0]["image_id"])


def test_queries_that_cannot_be_answered_say_why(store, encoder, other_encoder):
    path = store.catalog["path"][0]
    told = "VGG16Slim-gem-untrained, .*, VGG16Slim-max-untrained, or other weights"
    for error, words, query, options in (
        (FileNotFoundError, "neither an image_id", "nothing.jpg", {"encoder": encoder}),
        (ValueError, "needs encoder=", path, {}),
        (ValueError, "needs encoder=", "000.png", {"disliked": path}),
        (ValueError, told, path, {"encoder": other_encoder}),
        (ValueError, r"5 dimensions.*VGG16Slim-gem.*128", np.ones(5, np.float32), {}),
        (ValueError, "other_products", store.vectors[0], {"other_products": True}),
        (ValueError, "Nothing is liked", [], {"disliked": ["000.png"]}),
        (ValueError, "metric must be one of cosine, euclidean", "000.png", {"metric": "l1"}),
        (ValueError, "k must be a whole number, at least 1, not 0", "000.png", {"k": 0}),
        (
            ValueError,
            "diversity must be between 0 and 1, not nan",
            "000.png",
            {"diversity": np.nan},
        ),
        (ValueError, "colour must be between 0 and 1, not 1.1", "000.png", {"colour": 1.1}),
        (ValueError, "metric='cosine'", "000.png", {"colour": 0.2, "metric": "euclidean"}),
        (ValueError, "A vector has no colour", store.vectors[0], {"colour": 0.2}),
    ):
        with pytest.raises(error, match=words):
            recommend(store, query, **options)
    with pytest.raises(ValueError, match="keeps no colours: run 04_embeddings"):
        recommend(random_store(0), "a", colour=0.2)


@pytest.mark.parametrize("options", [{}, {"metric": "euclidean"}, {"colour": 0.3}], ids=str)
def test_recommend_all_agrees_with_recommend(store, options):
    everything = recommend_all(store, 4, **options)
    assert len(everything) == 4 * len(store.catalog)
    for image_id, group in everything.groupby("image_id"):
        single = recommend(store, image_id, 4, other_products=True, **options)
        assert list(group["recommended_image_id"]) == list(single["image_id"])
        assert list(group["recommended_product_id"]) == list(single["product_id"])
        assert list(group["rank"]) == [1, 2, 3, 4]
        np.testing.assert_allclose(group["score"], single["score"], atol=1e-6)


# --- Stores of vectors made by hand: every result can be computed


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
    catalog = pd.DataFrame(rows | columns)
    return EmbeddingStore(Path(folder), np.array(vectors, np.float32), catalog, manifest, {})


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
@given(st.sampled_from(METRICS), st.integers(0, 1000), st.integers(1, 25), st.data())
def test_any_taste_under_any_filter_agrees_with_sorting_everything(metric, seed, k, data):
    colours, products = np.resize(["red", "green", "blue"], 20), np.arange(20) // 3
    store = random_store(seed, product_id=products.astype(str), colour=colours)
    rows = st.integers(0, 19)
    liked = data.draw(st.lists(rows, min_size=1, max_size=4))
    disliked = data.draw(st.lists(rows, max_size=3))
    red, others = data.draw(st.booleans()), data.draw(st.booleans())
    names = store.catalog["image_id"]
    options = {"where": {"colour": "red"} if red else {}, "other_products": others}
    options |= {"metric": metric, "disliked": names[disliked]}
    table = recommend(store, names[liked], k, **options)
    vectors = store.vectors.astype(float)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    taste = mean = vectors[liked].mean(axis=0)
    if disliked:
        taste = mean - 0.2 * (vectors[disliked].mean(axis=0) - (0 if metric == "cosine" else mean))
    scores = cdist([taste], vectors, metric)[0]
    scores = 1 - scores if metric == "cosine" else scores
    asked = [*liked, *disliked]
    allowed = ~np.isin(products, products[asked]) if others else ~np.isin(np.arange(20), asked)
    allowed &= (colours == "red") | (not red)
    expected = sorted(scores[allowed], reverse=metric == "cosine")[:k]
    np.testing.assert_allclose(table["score"], expected, atol=1e-5)
    found = [list(names).index(name) for name in table["image_id"]]
    assert allowed[found].all()
    np.testing.assert_allclose(scores[found], expected, atol=1e-5)
    assert list(table["rank"]) == list(range(1, len(expected) + 1))


def test_several_things_may_come_in_any_collection_and_of_every_kind(store, encoder):
    paths, names = store.catalog["path"], store.catalog["image_id"]
    plain = recommend(store, names[:4].tolist(), 11, disliked=names[5:7].tolist())
    for liked, disliked in (
        (names[:4], names[5:7]),
        ((name for name in names[[3, 0, 2, 1]]), {*names[5:7]}),
        ([names[0], Path(paths[1]), load_image(paths[2]), store.vectors[3]], [paths[5], names[6]]),
    ):
        table = recommend(store, liked, 11, disliked=disliked, encoder=encoder)
        # Only images that are asked for by name stay away.
        both = table.merge(plain, on="image_id")
        assert len(both) == len(plain) == 6
        np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-4)
    pd.testing.assert_frame_equal(recommend(store, ["000.png"]), recommend(store, "000.png"))


# --- Filters


def filtered():
    return make_store(
        [(10, number) for number in range(6)],
        product_id=list("xyxyxz"),
        colour=["red", "red", "green", "blue", None, "green"],
        size=[38, 40, 40, 42, 44, 38],
        price=[1.5, np.nan, 2.0, 1.5, 3.0, 2.0],
        sold=[True, False, True, False, True, False],
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, "bcdef"),
        ({"colour": "green"}, "cf"),
        ({"colour": ["blue", "red"]}, "bd"),
        ({"colour": pd.Series(["green"])}, "cf"),
        ({"size": np.int64(40)}, "bc"),
        ({"price": 2}, "cf"),
        ({"sold": False}, "bdf"),
        ({"colour": "green", "size": [38, 42]}, "f"),
        ({"colour": "blue", "size": 38}, ""),
        ({"colour": []}, ""),
    ],
)
def test_where_keeps_what_has_the_wanted_values(where, expected):
    table = recommend(filtered(), "a", 5, where=where)
    assert list(table["image_id"]) == list(expected), "b to f lie ever further from a"
    assert list(table["rank"]) == list(range(1, len(expected) + 1))
    varied = recommend(filtered(), "a", 5, where=where, diversity=0.3)
    assert sorted(varied["image_id"]) == list(expected)


def test_the_best_k_are_taken_of_what_passes_the_filter():
    found = recommend(filtered(), "a", 1, where={"size": 44})["image_id"]
    assert found.tolist() == ["e"]
    options = {"where": {"size": [40, 42, 38]}, "other_products": True}
    assert recommend(filtered(), "a", 5, **options)["image_id"].tolist() == ["b", "d", "f"]
    # The products of what is disliked are asked with too.
    found = recommend(filtered(), ["a"], 5, disliked=["b"], **options)["image_id"]
    assert found.tolist() == ["f"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"color": "red"}, r"no column 'color'; it has image_id, path.*colour, size"),
        ({"colour": ["red", "pink"]}, r"'pink' as colour; it has 3 values, \['red', 'green', "),
        # Attributes of a store are read back as text, those of a table may be numbers.
        ({"size": "40"}, r"No image has '40' as size; .* \[38, 40, 42, 44\]\."),
    ],
)
def test_a_column_or_value_that_is_not_there_is_refused_naming_what_is(where, message):
    with pytest.raises(ValueError, match=message):
        recommend(filtered(), "a", where=where)


# --- Variety


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(METRICS), st.integers(0, 1000), st.integers(1, 8), st.floats(0.01, 1))
def test_a_varied_choice_is_that_of_maximal_marginal_relevance(metric, seed, k, diversity):
    store = random_store(seed)
    likeness = -cdist(store.vectors, store.vectors, metric)
    chosen, left = [], sorted(range(1, 20), key=lambda row: -likeness[0, row])[: 10 * k]
    relevance = likeness[0] + (metric == "cosine")

    def value(row):
        to_chosen = [likeness[row, other] + (metric == "cosine") for other in chosen]
        return (1 - diversity) * relevance[row] - diversity * max(to_chosen, default=0)

    while left and len(chosen) < k:
        chosen.append(max(left, key=value))
        left.remove(chosen[-1])
    table = recommend(store, "a", k, metric=metric, diversity=diversity)
    assert list(table["image_id"]) == list(store.catalog["image_id"][chosen])
    expected = np.abs(relevance[chosen]) if metric == "euclidean" else relevance[chosen]
    np.testing.assert_allclose(table["score"], expected, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_exact_duplicates_are_thinned_and_the_best_still_comes_first(metric):
    #                   a           b           c           d           e            f
    store = make_store([(10, 0, 0), (10, 2, 0), (10, 2, 0), (10, 2, 0), (10, -4, 0), (10, 0, 5)])
    for diversity, expected in {0: "bcd", 0.5: "bef", 1: "bef"}.items():
        table = recommend(store, "a", 3, metric=metric, diversity=diversity)
        assert list(table["image_id"]) == list(expected)
        assert list(table["rank"]) == [1, 2, 3]


# --- Colour


def coloured_store(seed=0, n=20, dim=3, **columns):
    """A store whose photos have colours, unit vectors of four numbers."""
    store = random_store(seed, n, dim, **columns)
    colours = normalise(np.random.default_rng(seed).random((n, 4)) ** 3)
    return dataclasses.replace(store, side_arrays={"colours": colours})


@pytest.mark.parametrize("colour", [0.1, 0.5, 1])
def test_the_score_is_the_weighted_sum_of_both_likenesses(colour):
    store = coloured_store()
    colours = store.side_arrays["colours"]
    expected = (1 - colour) * cosines(store.vectors[0], store.vectors)
    expected += colour * colours @ colours[0]
    table = recommend(store, "a", 19, colour=colour)
    rows = store.catalog["image_id"].tolist()
    places = [rows.index(name) for name in table["image_id"]]
    assert places == sorted(range(1, 20), key=lambda row: -expected[row])
    np.testing.assert_allclose(table["score"], expected[places], atol=1e-6)


def test_a_taste_has_a_colour_too():
    store = coloured_store(2)
    colours = store.side_arrays["colours"]
    alike = dataclasses.replace(store, vectors=np.ones_like(store.vectors))
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


# --- By an index


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
        {"k": 100},
        {"where": {"label": 'say "shoe"'}},
        {"other_products": True, "where": {"label": "bag"}, "k": 100},
        {"diversity": 0.4},
        {"query": ["a", "c", "e"], "disliked": "s"},
    ],
    ids=str,
)
def test_by_an_exact_index_the_table_is_the_same(options, indexed):
    options = {"query": "a"} | options
    cases = [(SHOP, indexed(SHOP), {"colour": colour}) for colour in (0, 0.2, 1)]
    cases += [(PLAIN, indexed(PLAIN), {})]
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
    }.values(),
)
def test_an_index_of_another_store_is_refused(asked, other, indexed):
    with pytest.raises(ValueError, match="index is of other vectors than store: make it anew"):
        recommend(asked, "a", index=indexed(other), colour=0.3)


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "euclidean"},
        {"where": {"label": "hat", "product_id": "product-0"}},
        {"where": {"label": ["hat", "bag"]}},
    ],
    ids=str,
)
def test_what_an_index_cannot_do_is_refused(options, indexed):
    with pytest.raises(ValueError, match="by cosine, and filters by one label alone"):
        recommend(SHOP, "a", index=indexed(SHOP), **options)


# --- Odds and ends


def test_a_zero_vector_is_at_cosine_zero_and_takes_no_part_in_a_taste():
    store = make_store([(0, 0), (4, 0), (0, 2), (3, 4)])
    np.testing.assert_array_equal(recommend(store, "a", 9)["score"], 0)
    table = recommend(store, ["b", "a"], 9)
    assert list(table["image_id"]) == ["d", "c"]
    np.testing.assert_allclose(table["score"], [0.6, 0], atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_recommend_all_has_as_many_rows_as_there_are_images_of_other_products(metric):
    store = make_store([(1, 0), (1, 0.1), (1, 1), (0, 1)], product_id=["x", "x", "y", "x"])
    table = recommend_all(store, 10**12, metric=metric)
    found = table["image_id"] + table["recommended_image_id"]
    assert found.tolist() == ["ac", "bc", "cb", "ca", "cd", "dc"]
    assert table["rank"].tolist() == [1, 1, 1, 2, 3, 1]
    assert table["recommended_product_id"].tolist() == ["y", "y", "x", "x", "x", "y"]
    alone = recommend_all(make_store([(1, 0), (0, 1)], product_id="x"), 3)
    assert alone.empty
    assert list(alone.columns) == list(table.columns)
