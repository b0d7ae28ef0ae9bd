import numpy as np
import pandas as pd
import pytest

from lookalike.evaluation import (
    answers,
    as_text,
    compare,
    confused_pairs,
    evaluate,
    evaluate_classes,
)
from lookalike.intervals import confidence_interval, macro_interval
from lookalike.metrics import (
    average_precision_at_k,
    average_similarity_at_k,
    chance_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from lookalike.rankings import Ranking, rank


def make_case(n=60, dim=6, views=2, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    catalog = pd.DataFrame({"product_id": [f"p{i // views}" for i in range(n)]})
    return vectors, catalog.assign(label=[f"label {i // views % 3}" for i in range(n)])


def by_counts(counts, k=10, n_relevant=9, n_gallery=20, labels=None, products=None):
    """A ranking of queries of which so many of the first k results are relevant."""
    count = len(counts)
    return Ranking(
        queries=np.arange(count),
        results=np.tile(np.arange(k), (count, 1)),
        scores=np.full((count, k), 0.5, np.float32),
        relevant=np.arange(k) < np.array(counts)[:, None],
        n_relevant=np.broadcast_to(n_relevant, count),
        n_gallery=np.full(count, n_gallery),
        labels=np.array(["a"] * count if labels is None else labels),
        products=np.arange(count) if products is None else np.array(products),
    )


# --- One ranking
# ------------------------------------------------------------------------------------------------------


def test_evaluate_has_a_row_for_each_k_and_means_over_queries():
    vectors, catalog = make_case()
    catalog.loc[59, "label"] = "alone"
    ranking = rank(vectors, catalog, 10)
    table = evaluate(ranking, (1, 3))
    assert table.index.tolist() == [1, 3]
    assert table.index.name == "k"
    expected = {
        "Precision@k": precision_at_k(ranking.relevant, 3),
        "chance": chance_at_k(ranking, 3),
        "possible": [1] * 59 + [0],
        "hit rate@k": hit_rate_at_k(ranking, 3),
        "recall@k": recall_at_k(ranking, 3),
        "MAP@k": average_precision_at_k(ranking, 3),
        "MAP@k (÷ found)": average_precision_at_k(ranking, 3, of="found"),
        "nDCG@k": ndcg_at_k(ranking, 3),
        "MRR@k": reciprocal_rank_at_k(ranking, 3),
        "average similarity": average_similarity_at_k(ranking, 3),
        "queries": 60,
        "nothing relevant": 1,
    }
    assert list(table) == list(expected)
    for name, values in expected.items():
        assert table.loc[3, name] == pytest.approx(np.nanmean(values)), name
    assert "average distance" in evaluate(rank(vectors, catalog, 3, metric="euclidean"), (3,))


def test_evaluate_of_a_case_computed_by_hand():
    #                first three results, of so many relevant
    ranking = by_counts([3, 1, 0, 0], k=3, n_relevant=[3, 2, 4, 0], n_gallery=12)
    row = evaluate(ranking, (3,)).loc[3]
    assert row["Precision@k"] == pytest.approx(4 / 12)
    assert row["chance"] == pytest.approx((3 + 2 + 4) / 12 / 4)
    assert row["possible"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert row["hit rate@k"] == 0.5
    assert row["MRR@k"] == pytest.approx((1 + 1 + 0) / 3)
    assert row["recall@k"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert row["MAP@k"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert row["MAP@k (÷ found)"] == pytest.approx((1 + 1 + 0) / 3)
    assert row["nDCG@k"] == pytest.approx((1 + 1 / (1 + np.log(2) / np.log(3)) + 0) / 3)
    assert row["average similarity"] == 0.5
    assert row[["queries", "nothing relevant"]].tolist() == [4, 1]


def test_evaluate_where_nothing_is_relevant_tells_so_without_a_warning(recwarn):
    vectors, catalog = make_case()
    table = evaluate(rank(vectors, catalog.assign(label=catalog["product_id"]), 3), (3,))
    assert table.loc[3, ["Precision@k", "chance", "hit rate@k"]].tolist() == [0, 0, 0]
    assert table.loc[3, ["MAP@k", "recall@k", "nDCG@k", "MRR@k"]].isna().all()
    assert table.loc[3, "nothing relevant"] == 60
    assert not recwarn.list


def test_a_perfect_encoder_on_a_tiny_catalogue_has_what_can_be_had():
    catalog = pd.DataFrame({"product_id": range(10), "label": ["cup"] * 5 + ["plate"] * 5})
    vectors = np.eye(2, dtype=np.float32)[[0] * 5 + [1] * 5]
    scores = evaluate(rank(vectors, catalog, 10), (10,)).loc[10]
    assert scores["Precision@k"] == pytest.approx(0.4)  # four others of its kind exist
    assert scores["chance"] == pytest.approx(0.4)  # and ten results show all of the nine photos
    assert scores["MAP@k"] == scores["nDCG@k"] == scores["recall@k"] == 1


# --- Classes
# ----------------------------------------------------------------------------------------------------------


def test_macro_counts_classes_and_micro_counts_queries():
    labels, products = ["hat"] * 6 + ["bag"] * 2, [0, 1, 2, 3, 4, 4, 5, 6]
    ranking = by_counts(
        [10, 8, 6, 4, 2, 0, 5, 10], n_relevant=[9] * 6 + [2, 0], labels=labels, products=products
    )
    table = evaluate_classes(ranking)
    assert table.index.tolist() == ["bag", "hat", "macro average", "micro average"]
    assert table["queries"].tolist() == [2, 6, 8, 8]
    assert table["nothing relevant"].tolist() == [1, 0, 1, 1]
    np.testing.assert_allclose(
        table["value"], [0.75, 0.5, (0.75 + 0.5) / 2, (6 * 0.5 + 2 * 0.75) / 8]
    )
    np.testing.assert_allclose(
        table["chance"], [1 / 20, 9 / 20, (1 + 9) / 40, (6 * 9 + 2) / 20 / 8]
    )
    values = precision_at_k(ranking.relevant, 10)
    hats = confidence_interval(values[:6], products[:6])
    assert table.loc["hat", ["low", "high"]].tolist() == pytest.approx(hats)
    assert table.loc["micro average", ["low", "high"]].tolist() == pytest.approx(
        confidence_interval(values, products)
    )
    macro = macro_interval(values, labels, products)
    assert table.loc["macro average", ["low", "high"]].tolist() == pytest.approx(macro, nan_ok=True)


def test_classes_can_be_told_in_another_metric_whose_gaps_do_not_count():
    labels = ["hat"] * 5 + ["bag"] * 6
    ranking = by_counts([10, 5, 0, 0, 5, *range(1, 7)], n_relevant=[10] * 10 + [0], labels=labels)
    table = evaluate_classes(ranking, metric=recall_at_k)
    assert table.loc["hat", "value"] == pytest.approx(0.4)
    assert table.loc["bag", "value"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.4 + 0.5) / 5)
    assert table.loc["macro average", "value"] == pytest.approx(0.35)
    assert table.loc["micro average", "value"] == pytest.approx(3.5 / 10)
    assert table.loc["bag", "nothing relevant"] == 1


def test_a_class_of_one_product_has_a_value_and_no_interval():
    ranking = by_counts(
        [10, 8, 5, 4, 3, 2, 1], labels=["hat"] * 2 + ["bag"] * 5, products=[0, 0, 1, 2, 3, 4, 5]
    )
    table = evaluate_classes(ranking)
    assert table.loc["hat", "value"] == pytest.approx(0.9)
    assert table.loc["hat", ["low", "high"]].isna().all()
    assert table.loc["bag", ["low", "high"]].notna().all()


@pytest.mark.parametrize("labels", [[1, 2], [True, False], ["b", 1]])
def test_classes_may_be_numbers_and_of_mixed_types(labels):
    table = evaluate_classes(by_counts([10, 8, 5, 4], labels=np.array(labels * 2, object)))
    assert set(table.index) == {*map(str, labels), "macro average", "micro average"}
    assert table.loc[[str(label) for label in labels], "value"].tolist() == pytest.approx(
        [0.75, 0.6]
    )


# --- Several rankings
# -------------------------------------------------------------------------------------------------


def test_a_change_is_judged_query_by_query():
    random = np.random.default_rng(0)
    products = np.repeat(np.arange(30), 3)
    before = random.integers(0, 9, 90)  # far apart from each other
    after = before + 1
    rankings = {
        "before": by_counts(before, products=products),
        "after": by_counts(after, products=products),
    }
    table = compare(rankings)
    # Apart, the two are not told apart.
    assert table.loc["after", "low"] < table.loc["before", "high"]
    assert table.loc["after", "verdict"] == "better"
    assert table.loc["after", ["change", "change low", "change high"]].tolist() == pytest.approx(
        [0.1] * 3
    )
    assert table.loc["before", "verdict"] == ""
    assert table.loc["before", ["change", "change low", "change high"]].isna().all()
    np.testing.assert_allclose(table["value"], [before.mean() / 10, after.mean() / 10])
    np.testing.assert_allclose(table["chance"], 9 / 20)
    assert table.loc["before", ["low", "high"]].tolist() == pytest.approx(
        confidence_interval(before / 10, products)
    )
    turned = compare(rankings, reference="after")
    assert turned.index.tolist() == ["before", "after"]
    assert turned["verdict"].tolist() == ["worse", ""]
    assert turned.loc["before", "change"] == pytest.approx(-0.1)


def test_each_of_several_changes_has_its_share_of_the_doubt():
    random = np.random.default_rng(0)
    products = np.repeat(np.arange(30), 3)
    rankings = {name: by_counts(random.integers(0, 11, 90), products=products) for name in "abcdef"}
    change = precision_at_k(rankings["c"].relevant, 10) - precision_at_k(rankings["a"].relevant, 10)
    for names, level in {"ac": 0.95, "abc": 0.975, "abcdef": 0.99}.items():
        table = compare({name: rankings[name] for name in names})
        expected = confidence_interval(change, products, level=level, n_resamples=10_000)
        assert table.loc["c", ["change low", "change high"]].tolist() == pytest.approx(expected)
    looser = compare(rankings, level=0.5)
    assert looser.loc["c", "change low"] > table.loc["c", "change low"]


def test_of_variants_that_change_nothing_one_family_in_twenty_is_told_apart():
    random = np.random.default_rng(0)
    products = np.repeat(np.arange(40), 3)
    quiet = 0
    for _ in range(100):
        hard = random.beta(2, 1, 40)[products]
        table = compare(
            {name: by_counts(random.binomial(10, hard), products=products) for name in "abcde"}
        )
        quiet += set(table["verdict"][1:]) == {"not told apart"}
    assert 90 <= quiet <= 99


def test_equal_rankings_are_not_told_apart():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 10)
    table = compare({"one": ranking, "same": rank(vectors * 2, catalog, 10)}, 5)
    assert table.loc["same", ["change", "change low", "change high"]].tolist() == [0, 0, 0]
    assert table.loc["same", "verdict"] == "not told apart"
    assert compare({"alone": ranking}, 5)["verdict"].tolist() == [""]


def test_changes_that_cancel_out_are_not_told_apart():
    # In each product one view gains what another loses; in floating point 0.1 - 0.1 may leave
    # 3e-17.
    products = np.repeat(np.arange(8), 3)
    one, other = (by_counts(counts * 8, products=products) for counts in ([0, 0, 3], [0, 1, 2]))
    assert compare({"one": one, "other": other})["verdict"]["other"] == "not told apart"
    assert compare({"other": other, "one": one})["verdict"]["one"] == "not told apart"


def test_a_metric_that_some_queries_do_not_have_is_compared_on_the_others():
    products = np.repeat(np.arange(20), 2)
    none = np.arange(40) % 4 == 0
    before = by_counts(np.where(none, 0, 2), n_relevant=np.where(none, 0, 8), products=products)
    after = by_counts(np.where(none, 0, 6), n_relevant=np.where(none, 0, 8), products=products)
    table = compare({"before": before, "after": after}, metric=recall_at_k)
    assert table["value"].tolist() == pytest.approx([0.25, 0.75])
    assert table.loc["after", ["change", "change low", "change high"]].tolist() == pytest.approx(
        [0.5] * 3
    )
    assert table.loc["after", "verdict"] == "better"
    nobody = by_counts([0] * 40, n_relevant=0, products=products)
    table = compare({"before": nobody, "after": nobody}, metric=recall_at_k)
    assert table.loc["after", "verdict"] == "too few products"
    assert table.loc["after", ["value", "low", "change", "change low"]].isna().all()


def test_rankings_of_other_queries_are_not_compared():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 5)
    some = rank(vectors, catalog, 5, asking=np.arange(20))
    other_column = rank(vectors, catalog.assign(label=catalog["label"].str[::-1]), 5)
    for other in (some, other_column):
        with pytest.raises(ValueError, match="not of the same queries"):
            compare({"all": ranking, "other": other}, 5)
    assert (
        len(
            compare(
                {"one": ranking, "other": rank(vectors[:, :2], catalog, 5, metric="euclidean")}, 5
            )
        )
        == 2
    )


# --- Mistakes
# ---------------------------------------------------------------------------------------------------------

SHOWN = pd.DataFrame({"product_id": range(6), "label": ["hat", "hat", "bag", "bag", "cup", None]})


def shown_by(results, queries, labels):
    count, k = np.shape(results)
    ranking = by_counts([0] * count, k=k, labels=labels)
    return Ranking(**vars(ranking) | {"queries": np.array(queries), "results": np.array(results)})


def test_confused_pairs_of_a_case_computed_by_hand():
    # Hats are shown 1 hat, 3 bags and 1 cup, a bag 1 bag and 1 hat, and the cup nothing but a bag,
    # twice.
    results = [[1, 2, 3], [2, 4, -1], [3, 0, -1], [2, 3, -1]]
    table = confused_pairs(shown_by(results, [0, 1, 2, 4], ["hat", "hat", "bag", "cup"]), SHOWN, 3)
    assert table.columns.tolist() == ["asked", "shown", "share", "images"]
    assert table.iloc[:, :2].to_numpy().tolist() == [
        ["cup", "bag"],
        ["hat", "bag"],
        ["bag", "hat"],
        ["hat", "cup"],
    ]
    assert table["share"].tolist() == pytest.approx([1, 3 / 5, 1 / 2, 1 / 5])
    assert table["images"].tolist() == [2, 3, 1, 1]
    first = confused_pairs(shown_by(results, [0, 1, 2, 4], ["hat", "hat", "bag", "cup"]), SHOWN, 1)
    assert first.to_numpy().tolist() == [["cup", "bag", 1, 1], ["hat", "bag", 0.5, 1]]


def test_where_nothing_is_confused_there_are_no_pairs():
    catalog = pd.DataFrame({"product_id": range(9), "label": list("abc") * 3})
    ranking = rank(np.eye(3, dtype=np.float32)[[0, 1, 2] * 3], catalog, 2)
    table = confused_pairs(ranking, catalog, 2)
    assert table.empty
    assert list(table) == ["asked", "shown", "share", "images"]


@pytest.mark.parametrize(
    "labels",
    [
        [1, 2],
        [1.5, 2.5],
        [True, False],
        ["z", 1],
        pd.Categorical(["a", "b"] * 10, categories=["b", "unused", "a"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("gaps", [False, True])
def test_pairs_are_counted_for_labels_of_any_type(labels, gaps):
    vectors, _ = make_case(n=20)
    labels = labels if isinstance(labels, pd.Categorical) else labels * 10
    catalog = pd.DataFrame({"product_id": range(20), "kind": labels}, index=range(20, 0, -1))
    if gaps:
        catalog["kind"] = catalog["kind"].where(catalog.index > 4)
    ranking = rank(vectors, catalog, 5, by="kind")
    table = confused_pairs(ranking, catalog, 5, by="kind")
    right = precision_at_k(ranking.relevant, 5)
    assert len(table) == 2
    for pair in table.itertuples():
        asked = ranking.labels == pair.asked
        assert pair.share == pytest.approx(1 - right[asked].mean())
        assert pair.images == (~ranking.relevant[asked]).sum()


def test_pairs_of_another_column_or_catalogue_or_of_more_results_than_there_are_are_refused():
    vectors, catalog = make_case()
    ranking = rank(vectors, catalog, 5)
    for other in (catalog.head(40), catalog[::-1], catalog.assign(label="other")):
        with pytest.raises(ValueError, match="not by the column 'label' of this catalogue"):
            confused_pairs(ranking, other, 5)
    with pytest.raises(ValueError, match="'product_id'"):
        confused_pairs(ranking, catalog, 5, by="product_id")
    for k in (0, 6):
        with pytest.raises(ValueError, match="between 1 and 5"):
            confused_pairs(ranking, catalog, k)


def test_a_comparison_as_text_has_three_digits_and_nothing_where_nothing_is_known():
    worse, better = by_counts([2, 4, 6, 8, 0, 1]), by_counts([6, 8, 10, 10, 5, 6])
    text = as_text(compare({"plain": worse, "other": better}), 10)
    assert text.loc["plain"].tolist()[2:] == ["", "", ""]
    assert text.loc["other", ["P@10", "change", "verdict"]].tolist() == [
        "0.750",
        "+0.400",
        "better",
    ]
    low, high = confidence_interval(precision_at_k(better.relevant, 10))
    assert text.loc["other", "95 % interval"] == f"{low:.3f} to {high:.3f}"
    assert text.loc["other", "of the change"].startswith("+0.")
    few = as_text(compare({"plain": by_counts([1, 2]), "other": by_counts([3, 4])}), 10)
    assert few["95 % interval"].tolist() == ["", ""]
    assert few.loc["other", ["change", "of the change", "verdict"]].tolist() == [
        "+0.200",
        "",
        "too few products",
    ]


def test_answers_are_tables_as_those_of_recommend():
    vectors, catalog = make_case()
    catalog = catalog.assign(
        score="a shop's own", image_id=[f"{number}.jpg" for number in range(60)]
    )
    ranking = rank(vectors, catalog, 70)  # more than there are
    first, second = answers(ranking, catalog, [4, 0])
    assert list(first) == ["rank", "score", "product_id", "label", "image_id"]
    assert first["rank"].tolist() == list(range(1, 59))
    assert first["image_id"].tolist() == [f"{row}.jpg" for row in ranking.results[4] if row >= 0]
    np.testing.assert_array_equal(second["score"], ranking.scores[0, :58])
