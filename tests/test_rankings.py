import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.rankings import LEFT_OUT, rank


def make_case(n=60, dim=6, views=2, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    catalog = pd.DataFrame(
        {"image_id": [f"{i}" for i in range(n)], "product_id": [f"p{i // views}" for i in range(n)]}
    )
    catalog["label"] = [f"label {i // views % 3}" for i in range(n)]
    catalog["split"] = ["train" if i // views % 4 else "test" for i in range(n)]
    return vectors, catalog


def assert_same(ranking, other):
    for name in ("queries", "results", "scores", "relevant", "n_relevant", "n_gallery"):
        np.testing.assert_array_equal(getattr(ranking, name), getattr(other, name), err_msg=name)


# --- Against a slow second way
# ----------------------------------------------------------------------------------------


def score(query, vector, metric):
    query, vector = [float(number) for number in query], [float(number) for number in vector]
    if metric == "euclidean":
        return np.float32(math.sqrt(sum((a - b) ** 2 for a, b in zip(query, vector, strict=True))))
    lengths = math.sqrt(sum(a * a for a in query) * sum(b * b for b in vector))
    product = sum(a * b for a, b in zip(query, vector, strict=True))
    return np.float32(min(1.0, max(-1.0, product / lengths))) if lengths else np.float32(0)


def slowly(vectors, rows, k, *, metric, within, splits, leave_out, pessimistic, asking, asked):
    """One image after another; `rows` are dicts with None where there is no value."""
    needed = ["label", "kind"] if within else ["label"]
    known = [
        number for number, row in enumerate(rows) if all(row[name] is not None for name in needed)
    ]
    gallery_split, query_split = splits or (None, None)
    gallery = [i for i in known if not splits or rows[i]["split"] == gallery_split]
    queries = [
        i
        for i in known
        if (not splits or rows[i]["split"] == query_split) and (asking is None or i in asking)
    ]
    told = []
    for query in queries:
        own = {
            "product": lambda i, query=query: rows[i]["product_id"] == rows[query]["product_id"],
            "image": lambda i, query=query: i == query,
            "nothing": lambda i: False,
        }[leave_out]
        among = [
            i
            for i in gallery
            if not own(i) and (not within or rows[i]["kind"] == rows[query]["kind"])
        ]
        alike = {i: rows[i]["label"] == rows[query]["label"] for i in among}
        scores = {i: score(asked[query], vectors[i], metric) for i in among}
        sign = 1 if metric == "euclidean" else -1
        among.sort(key=lambda i: (sign * scores[i], pessimistic and alike[i], i))
        first, missing = among[:k], k - len(among[:k])
        told.append(
            {
                "queries": query,
                "results": first + [-1] * missing,
                "scores": [scores[i] for i in first] + [sign * np.float32(np.inf)] * missing,
                "relevant": [alike[i] for i in first] + [False] * missing,
                "n_relevant": sum(alike.values()),
                "n_gallery": len(among),
                "labels": rows[query]["label"],
                "products": rows[query]["product_id"],
            }
        )
    return told, gallery


LABELS = st.sampled_from(
    [["a", "b", None], [1, 2, 30], [0.5, 7.25, None], ["a", 1, None], [True, False, None]]
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_ranking_agrees_with_asking_one_image_after_another(data):
    n, dim = data.draw(st.integers(2, 14)), data.draw(st.integers(1, 3))
    # Few: most vectors share their score.
    numbers = st.lists(st.integers(-1, 2), min_size=dim, max_size=dim)
    labels, products = (
        data.draw(LABELS),
        data.draw(st.sampled_from([["p", "q", "r", "s"], [1, "1", 2, "two"]])),
    )
    row = st.fixed_dictionaries(
        {
            "vector": numbers,
            "asked": numbers,
            "label": st.sampled_from(labels),
            "product_id": st.sampled_from(products),
            "kind": st.sampled_from(["x", "y", "z", None]),
            "split": st.sampled_from(["train", "test", None]),
        }
    )
    rows = data.draw(st.lists(row, min_size=n, max_size=n))
    options = {
        "metric": data.draw(st.sampled_from(["cosine", "euclidean"])),
        "within": data.draw(st.booleans()),
        "splits": data.draw(st.sampled_from([None, ("train", "test"), ("train", "train")])),
        "leave_out": data.draw(st.sampled_from(LEFT_OUT)),
        "pessimistic": data.draw(st.booleans()),
        "asking": data.draw(st.none() | st.lists(st.integers(0, n - 1), min_size=1)),
    }
    k = data.draw(st.integers(1, n + 3))
    vectors, asked = (
        np.array([row[name] for row in rows], np.float32) for name in ("vector", "asked")
    )
    other = data.draw(st.booleans())
    expected, gallery = slowly(vectors, rows, k, asked=asked if other else vectors, **options)
    # The index of a catalogue says nothing, it may even repeat itself.
    catalog = pd.DataFrame(
        rows, index=data.draw(st.sampled_from([range(n), range(n, 0, -1), ["same"] * n]))
    )
    if data.draw(st.booleans()):
        catalog = catalog.astype({"label": "category", "split": "category", "kind": "category"})
    gallery_split, query_split = options.pop("splits") or (None, None)
    options |= {"within": "kind" if options["within"] else None, "asked": asked if other else None}
    options |= {"gallery_split": gallery_split, "query_split": query_split}
    if not expected or not gallery:
        with pytest.raises(ValueError, match="Nothing to rank"):
            rank(vectors, catalog, k, **options)
        return
    ranking = rank(vectors, catalog, k, **options)
    for name in expected[0]:
        assert getattr(ranking, name).tolist() == [one[name] for one in expected], name
    assert ranking.metric == options["metric"]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_leave_one_out_agrees_with_sorting_all_similarities(metric):
    vectors, catalog = make_case()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    far = (
        -unit @ unit.T if metric == "cosine" else np.linalg.norm(vectors[:, None] - vectors, axis=2)
    )
    far[np.arange(60)[:, None] // 2 == np.arange(60) // 2] = np.inf
    ranking = rank(vectors, catalog, 10, metric=metric)
    np.testing.assert_array_equal(ranking.results, np.argsort(far, axis=1)[:, :10])
    np.testing.assert_allclose(
        ranking.scores, np.sort(far)[:, :10] * (-1 if metric == "cosine" else 1), atol=1e-6
    )


# --- What may be found
# ------------------------------------------------------------------------------------------------


def test_leave_one_out_leaves_out_the_own_product_and_counts_what_is_left():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 60)
    assert ranking.relevant.shape == (60, 60)
    np.testing.assert_array_equal(ranking.n_gallery, 58)
    np.testing.assert_array_equal(ranking.n_relevant, 18)
    np.testing.assert_array_equal(ranking.relevant.sum(axis=1), 18)
    np.testing.assert_array_equal(np.isfinite(ranking.scores).sum(axis=1), 58)
    np.testing.assert_array_equal((ranking.results[:, -2:] == -1), True)
    assert not (ranking.results // 2 == ranking.queries[:, None] // 2).any()


def test_leaving_out_less_finds_the_other_view_and_then_the_photo_itself():
    vectors, catalog = make_case()
    vectors[1::2] = vectors[::2] * 2  # two views that point the same way
    image = rank(vectors, catalog, 3, leave_out="image")
    np.testing.assert_array_equal(image.results[:, 0], np.arange(60) ^ 1)
    np.testing.assert_array_equal(image.n_gallery, 59)
    np.testing.assert_array_equal(image.n_relevant, 19)
    nothing = rank(vectors, catalog, 3, leave_out="nothing")
    np.testing.assert_array_equal(
        np.sort(nothing.results[:, :2]), np.stack([np.arange(60) & ~1, np.arange(60) | 1], 1)
    )
    np.testing.assert_array_equal(nothing.n_gallery, 60)
    np.testing.assert_array_equal(nothing.n_relevant, 20)


def test_splits_ask_the_one_in_the_other():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 10, gallery_split="train", query_split="test")
    is_query = (catalog["split"] == "test").to_numpy()
    np.testing.assert_array_equal(ranking.queries, np.flatnonzero(is_query))
    np.testing.assert_array_equal(ranking.n_gallery, (~is_query).sum())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-(unit[is_query] @ unit[~is_query].T), axis=1)[:, :10]
    np.testing.assert_array_equal(ranking.results, np.flatnonzero(~is_query)[order])
    labels = catalog["label"].to_numpy()
    np.testing.assert_array_equal(
        ranking.relevant, labels[~is_query][order] == labels[is_query][:, None]
    )


def test_a_product_in_both_splits_does_not_find_itself():
    vectors, catalog = make_case(n=12)
    catalog["split"] = ["train", "test"] * 6
    ranking = rank(vectors, catalog, 6, gallery_split="train", query_split="test")
    np.testing.assert_array_equal(ranking.n_gallery, 5)
    assert not (ranking.results == ranking.queries[:, None] - 1).any()


def test_products_whose_names_differ_only_in_type_are_different_products():
    vectors, catalog = make_case(n=4, views=1)
    ranking = rank(vectors, catalog.assign(product_id=[1, "1", 2, "two"]), 3)
    np.testing.assert_array_equal(ranking.n_gallery, 3)
    assert ranking.products.tolist() == [1, "1", 2, "two"]


def test_images_without_a_value_are_neither_queries_nor_gallery():
    vectors, catalog = make_case()
    catalog.loc[:9, "label"] = None
    ranking = rank(vectors, catalog, 5)
    np.testing.assert_array_equal(ranking.queries, np.arange(10, 60))
    np.testing.assert_array_equal(ranking.n_gallery, 48)
    assert ranking.results.min() >= 10
    np.testing.assert_array_equal(
        rank(vectors, catalog, 5, by="product_id", leave_out="image").n_relevant, 1
    )


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([3, 4] * 6),
        pd.Series([3.0, 4.0] * 6),
        pd.Categorical(["n", "m"] * 6, categories=["m", "unused", "n"]),
        pd.Series([True, False] * 6),
        pd.Series(["m", "n"] * 6, dtype="string"),
        pd.Series([3, 4] * 6, dtype="Int64"),
    ],
    ids=lambda labels: str(labels.dtype),
)
@pytest.mark.parametrize("gaps", [False, True])
def test_labels_may_be_of_any_type_with_and_without_gaps(labels, gaps):
    vectors, catalog = make_case(n=12)
    plain = catalog.assign(label=["m", "n"] * 6)
    catalog = catalog.assign(label=labels)
    if gaps:
        plain.loc[[0, 7], "label"] = None
        catalog["label"] = catalog["label"].where(~catalog.index.isin([0, 7]))
    assert_same(rank(vectors, catalog, 12), rank(vectors, plain, 12))


def test_splits_may_be_of_any_type_with_gaps():
    vectors, catalog = make_case()
    catalog.loc[[0, 1, 2], "split"] = None
    plain = rank(vectors, catalog, 3, gallery_split="train", query_split="test")
    for dtype in ("category", "string", object):
        other = rank(
            vectors, catalog.astype({"split": dtype}), 3, gallery_split="train", query_split="test"
        )
        assert_same(plain, other)


def test_a_pattern_is_sought_within_its_kind_alone():
    vectors, catalog = make_case()
    catalog["kind"] = ["shirt", "shirt", "shirt", "shirt", "dress", "dress"] * 10
    within = rank(vectors, catalog, 60, within="kind")
    for number, query in enumerate(within.queries):
        kinds = catalog["kind"].iloc[within.results[number][within.results[number] >= 0]]
        assert set(kinds) == {catalog["kind"][query]}
    np.testing.assert_array_equal(within.n_gallery, np.where(catalog["kind"] == "shirt", 38, 18))
    shirts = rank(vectors[catalog["kind"] == "shirt"], catalog[catalog["kind"] == "shirt"], 5)
    np.testing.assert_array_equal(
        within.relevant[catalog["kind"] == "shirt"][:, :5], shirts.relevant
    )
    np.testing.assert_array_equal(
        rank(vectors, catalog, 5, by="kind", within="kind").relevant, True
    )


@pytest.mark.parametrize("pessimistic", [False, True])
def test_a_kind_of_which_the_gallery_has_none_finds_nothing(pessimistic):
    vectors, catalog = make_case(n=8, views=1)
    catalog = catalog.assign(
        split=["train"] * 4 + ["test"] * 4, kind=["x"] * 6 + ["y"] * 2, label="a"
    )
    options = {
        "within": "kind",
        "gallery_split": "train",
        "query_split": "test",
        "pessimistic": pessimistic,
    }
    ranking = rank(vectors, catalog, 3, **options)
    assert ranking.n_gallery.tolist() == ranking.n_relevant.tolist() == [4, 4, 0, 0]
    np.testing.assert_array_equal(ranking.results[2:], -1)
    np.testing.assert_array_equal(ranking.scores[2:], -np.inf)
    np.testing.assert_array_equal(ranking.relevant, [[True] * 3] * 2 + [[False] * 3] * 2)


# --- Who asks, and with what
# ------------------------------------------------------------------------------------------


def test_only_those_asking_are_queries_and_each_finds_what_it_found_among_all():
    vectors, catalog = make_case()
    everyone, some = (
        rank(vectors, catalog, 5),
        rank(vectors, catalog, 5, asking=np.array([40, 3, 3, 17])),
    )
    assert some.queries.tolist() == [3, 17, 40]
    for name in ("results", "scores", "relevant", "n_relevant", "n_gallery", "labels", "products"):
        np.testing.assert_array_equal(getattr(some, name), getattr(everyone, name)[[3, 17, 40]])
    tested = rank(
        vectors, catalog, 5, gallery_split="train", query_split="test", asking=np.array([0, 2, 8])
    )
    assert tested.queries.tolist() == [0, 8]  # 2 is to be found, not to ask


def test_a_mask_or_fractions_of_who_asks_are_refused():
    vectors, catalog = make_case()
    for asking in (np.arange(60) > 50, np.array([1.0, 2.0])):
        with pytest.raises(ValueError, match="numbers of rows"):
            rank(vectors, catalog, asking=asking)


def test_other_vectors_ask_and_the_gallery_stays_as_it_is():
    vectors, catalog = make_case()
    asked = vectors[::-1].copy()
    ranking = rank(vectors, catalog, 60, asked=asked, leave_out="nothing")
    # Image i asks with the vector of its mirror image in the list, and so finds that one first.
    np.testing.assert_array_equal(ranking.results[:, 0], np.arange(60)[::-1])
    np.testing.assert_array_equal(
        ranking.results, rank(vectors, catalog, 60, leave_out="nothing").results[::-1]
    )
    unasked = np.full_like(vectors, np.nan)
    unasked[5] = vectors[5]
    assert_same(
        rank(vectors, catalog, 5, asked=unasked, asking=[5]), rank(vectors, catalog, 5, asking=[5])
    )


# --- Ties
# -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_where_all_are_equal_the_catalogue_decides_or_the_worst_case(metric):
    catalog = pd.DataFrame({"product_id": range(50), "label": ["a"] * 10 + ["b"] * 40})
    vectors = np.ones((50, 4), np.float32)
    ranking = rank(vectors, catalog, 5, metric=metric)
    assert ranking.results[20].tolist() == [0, 1, 2, 3, 4]
    assert ranking.relevant[:10].all()
    worst = rank(vectors, catalog, 5, metric=metric, pessimistic=True)
    # For an "a" the five wrong ones lie ten places behind the cut; for a "b" there are ten of them.
    assert worst.results[0].tolist() == [10, 11, 12, 13, 14]
    assert worst.results[20].tolist() == [0, 1, 2, 3, 4]
    assert not worst.relevant.any()
    np.testing.assert_array_equal(worst.n_relevant, ranking.n_relevant)
    np.testing.assert_array_equal(worst.scores, ranking.scores)
    deep = rank(vectors, catalog, 60, metric=metric, pessimistic=True)
    assert deep.relevant[0].tolist() == [False] * 40 + [True] * 9 + [False] * 11


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_tie_that_goes_on_behind_the_cut_is_followed_to_its_end(metric):
    # Two near ones, then 90 at the same score of which the last alone is wrong.
    vectors = np.array([[2, 0]] * 3 + [[0, 2]] * 90 + [[-2, 0]] * 7, np.float32)
    catalog = pd.DataFrame({"product_id": range(100), "label": ["a"] * 92 + ["b"] * 8})
    ranking = rank(vectors, catalog, 4, metric=metric, pessimistic=True, asking=[0])
    assert ranking.results.tolist() == [[1, 2, 92, 3]]
    assert ranking.relevant.tolist() == [[True, True, False, True]]
    usual = rank(vectors, catalog, 4, metric=metric, asking=[0])
    assert usual.results.tolist() == [[1, 2, 3, 4]]
    np.testing.assert_array_equal(ranking.scores, usual.scores)


def test_without_ties_the_worst_case_is_the_usual_one():
    vectors, catalog = make_case()
    assert_same(rank(vectors, catalog, 7), rank(vectors, catalog, 7, pessimistic=True))


# --- Misuse
# -----------------------------------------------------------------------------------------------------------


def test_misuse_is_refused():
    vectors, catalog = make_case()
    with pytest.raises(ValueError, match="59 vectors and 60 rows"):
        rank(vectors[1:], catalog)
    with pytest.raises(ValueError, match="60 vectors, 59 to ask with and 60 rows"):
        rank(vectors, catalog, asked=vectors[1:])
    with pytest.raises(ValueError, match="both"):
        rank(vectors, catalog, query_split="test")
    with pytest.raises(ValueError, match=r"0 queries \(split validation\)"):
        rank(vectors, catalog, gallery_split="train", query_split="validation")
    with pytest.raises(ValueError, match="column 'label'"):
        rank(vectors, catalog.assign(label=None))
    with pytest.raises(ValueError, match="'label' and in 'kind'"):
        rank(vectors, catalog.assign(kind=None), within="kind")
    with pytest.raises(ValueError, match="0 queries"):
        rank(vectors, catalog, asking=[])
    with pytest.raises(ValueError, match="product, image, nothing, not 'view'"):
        rank(vectors, catalog, leave_out="view")
    with pytest.raises(ValueError, match="metric must be one of cosine, euclidean"):
        rank(vectors, catalog, metric="manhattan")
    with pytest.raises(ValueError, match="k must be a whole number, at least 1"):
        rank(vectors, catalog, 0)
    for column, options in {"colour": {"by": "colour"}, "kind": {"within": "kind"}}.items():
        with pytest.raises(ValueError, match=f"no column '{column}'; it has image_id, product_id"):
            rank(vectors, catalog, **options)


def test_a_catalogue_without_products_or_splits_is_told_so():
    vectors, catalog = make_case()
    with pytest.raises(ValueError, match="no column 'product_id'"):
        rank(vectors, catalog.drop(columns="product_id"))
    with pytest.raises(ValueError, match="no column 'split'"):
        rank(vectors, catalog.drop(columns="split"), gallery_split="train", query_split="test")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
@pytest.mark.parametrize("splits", [{}, {"gallery_split": "train", "query_split": "test"}])
def test_a_vector_that_is_not_finite_is_named_by_its_row_of_the_catalogue(bad, splits):
    vectors, catalog = make_case()
    vectors = vectors.astype(np.float64)
    catalog.loc[3, "label"], vectors[3] = None, bad  # takes no part
    rank(vectors, catalog, **splits)
    for row in (31, 32):  # of the train and the test split
        broken = vectors.copy()
        broken[row, 2] = bad
        with pytest.raises(ValueError, match=f"The vector in row {row} holds NaN or infinity"):
            rank(broken, catalog, **splits)
    with pytest.raises(ValueError, match="The vector in row 32 holds NaN or infinity"):
        rank(vectors, catalog, asked=broken, **splits)


@pytest.mark.parametrize("k", [0, 2.5, "3", None])
def test_k_that_is_none_is_refused(k):
    with pytest.raises(ValueError, match=f"k .*{k!r}"):
        rank(*make_case(), k)
