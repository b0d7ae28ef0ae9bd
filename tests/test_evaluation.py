import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, t
from sklearn.metrics import precision_score

from lookalike.evaluation import (
    average_similarity,
    chance,
    confidence_interval,
    overlap_at_k,
    paired_change,
    precision_at_k,
    rank,
    unseen,
)

NAN = np.nan


def make_case(n=60, dim=6, views=2, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    catalog = pd.DataFrame({"image_id": [f"{i}" for i in range(n)]})
    catalog["product_id"] = [f"p{i // views}" for i in range(n)]
    catalog["label"] = [f"label {i // views % 3}" for i in range(n)]
    catalog["split"] = ["train" if i // views % 4 else "test" for i in range(n)]
    return vectors, catalog


# --- Who may judge


@pytest.fixture
def judged():
    """Six products of two views; 0 and 1 teach, 2 is for validation, 3 to 5 for the test."""
    catalog = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(12)]})
    catalog["product_id"] = [f"p{i // 2}" for i in range(12)]
    catalog["split"] = ["train"] * 4 + ["validation"] * 2 + ["test"] * 6
    catalog["sha256"] = [f"hash {i}" for i in range(12)]
    many = pd.concat([catalog] * 4, ignore_index=True)  # so that enough are left to judge
    for column in ("image_id", "product_id", "sha256"):
        many.loc[12:, column] = [f"{name} of {row}" for row, name in many[column][12:].items()]
    return many


def pairs(*rows):
    return pd.DataFrame(rows, columns=["image_id", "other_id"])


@pytest.mark.parametrize(
    ("taught", "copies", "gone", "told"),
    [
        ([], pairs(), [], "24 test photos: 0 that the model learnt from, 0 with a copy"),
        (["hash 0", "hash 1"], pairs(), [], "0 that the model learnt from"),
        # The model learnt from one view of product 3: neither may ask.
        (["hash 6"], pairs(), [6, 7], "2 that the model learnt from, 0 with a copy"),
        # A copy of a train photo, in either order; of another test photo it does not matter.
        ([], pairs(("8.jpg", "1.jpg"), ("2.jpg", "9.jpg")), [8, 9], "0 that"),
        ([], pairs(("8.jpg", "10.jpg"), ("elsewhere", "9.jpg")), [], "0 with a copy"),
        # A copy of a test photo that the model learnt from.
        (["hash 6"], pairs(("10.jpg", "7.jpg")), [6, 7, 10], "learnt from, 1 with a copy"),
        # A copy of a copy of a train photo, as lists of groups tell them.
        ([], pairs(("4.jpg", "0.jpg"), ("4.jpg", "9.jpg")), [9], "0 that the model learnt from, 1"),
        # And of a validation photo that it learnt from, though it does not teach now.
        (["hash 4"], pairs(("10.jpg", "4.jpg")), [10], "0 that the model learnt from, 1 with"),
    ],
)
def test_no_query_is_a_photo_that_the_model_learnt_from(judged, taught, copies, gone, told, capsys):
    asking = [row for row in np.flatnonzero(judged["split"] == "test") if row not in gone]
    assert unseen(judged, set(taught), copies).tolist() == asking
    assert told in (output := capsys.readouterr().out)
    assert f"{len(asking)} queries" in output


def test_too_few_that_are_new_are_refused_unless_there_never_were_more(judged):
    few = judged.head(12)
    assert len(unseen(few, set(), pairs())) == 6
    with pytest.raises(
        ValueError, match=r"Too few test photos are new to the model\. Run 01 to 04"
    ):
        unseen(few, {"hash 6"}, pairs())


# --- One ranking, against a slow second way


def score(query, vector, metric):
    query, vector = [float(number) for number in query], [float(number) for number in vector]
    if metric == "euclidean":
        return np.float32(math.sqrt(sum((a - b) ** 2 for a, b in zip(query, vector, strict=True))))
    lengths = math.sqrt(sum(a * a for a in query) * sum(b * b for b in vector))
    product = sum(a * b for a, b in zip(query, vector, strict=True))
    return np.float32(min(1.0, max(-1.0, product / lengths))) if lengths else np.float32(0)


def slowly(rows, k, *, metric, within, gallery_split, query_split, queries, other):
    """One photo after another; `rows` are dicts with None where there is no value."""
    needed = ["label", "kind"] if within else ["label"]
    known = [i for i, row in enumerate(rows) if all(row[name] is not None for name in needed)]
    gallery = [i for i in known if gallery_split in (None, rows[i]["split"])]
    asking = [i for i in known if query_split in (None, rows[i]["split"])]
    asking = [i for i in asking if queries is None or i in queries]
    told = []
    for query in asking:
        among = [i for i in gallery if rows[i]["product_id"] != rows[query]["product_id"]]
        among = [i for i in among if not within or rows[i]["kind"] == rows[query]["kind"]]
        alike = {i: rows[i]["label"] == rows[query]["label"] for i in among}
        vector = rows[query]["asked" if other else "vector"]
        scores = {i: score(vector, rows[i]["vector"], metric) for i in among}
        sign = 1 if metric == "euclidean" else -1
        first = sorted(among, key=lambda i: (sign * scores[i], i))[:k]
        missing = k - len(first)
        found = {
            "queries": query,
            "results": first + [-1] * missing,
            "scores": [scores[i] for i in first] + [sign * np.float32(np.inf)] * missing,
            "relevant": [alike[i] for i in first] + [False] * missing,
            "n_relevant": sum(alike.values()),
            "n_gallery": len(among),
            "labels": rows[query]["label"],
            "products": rows[query]["product_id"],
        }
        told.append(found)
    return told, gallery


LABELS = [["a", "b", None], [1, 2, 30], [0.5, 7.25, None], ["a", 1, None], [True, False, None]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_ranking_agrees_with_asking_one_photo_after_another(data):
    n, dim = data.draw(st.integers(2, 14)), data.draw(st.integers(1, 3))
    # Few: most vectors share their score.
    numbers = st.lists(st.integers(-1, 2), min_size=dim, max_size=dim)
    products = data.draw(st.sampled_from([["p", "q", "r", "s"], [1, "1", 2, "two"]]))
    row = st.fixed_dictionaries(
        {
            "vector": numbers,
            "asked": numbers,
            "label": st.sampled_from(data.draw(st.sampled_from(LABELS))),
            "product_id": st.sampled_from(products),
            "kind": st.sampled_from(["x", "y", "z", None]),
            "split": st.sampled_from(["train", "test", None]),
        }
    )
    rows = data.draw(st.lists(row, min_size=n, max_size=n))
    options = {
        "metric": data.draw(st.sampled_from(["cosine", "euclidean"])),
        "within": data.draw(st.sampled_from(["kind", None])),
        "gallery_split": data.draw(st.sampled_from(["train", None])),
        "query_split": data.draw(st.sampled_from(["test", "train", None])),
        "queries": data.draw(st.none() | st.lists(st.integers(0, n - 1), min_size=1)),
    }
    k, other = data.draw(st.integers(1, n + 3)), data.draw(st.booleans())
    expected, gallery = slowly(rows, k, other=other, **options)
    vectors, asked = (np.array([row[name] for row in rows]) for name in ("vector", "asked"))
    # The index of a catalogue says nothing, it may even repeat itself.
    index = data.draw(st.sampled_from([range(n), range(n, 0, -1), ["same"] * n]))
    catalog = pd.DataFrame(rows, index=index)
    if data.draw(st.booleans()):
        catalog = catalog.astype({"label": "category", "split": "category", "kind": "category"})
    options["query_vectors"] = asked if other else None
    if not expected or not gallery:
        with pytest.raises(ValueError, match="Nothing to rank"):
            rank(vectors, catalog, k, **options)
        return
    ranking = rank(vectors, catalog, k, **options)
    for name in expected[0]:
        assert getattr(ranking, name).tolist() == [one[name] for one in expected], name


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"query_split": "validation"},
            "0 queries and 60 gallery photos .* 'label'; .* validation",
        ),
        ({"queries": np.array([], int)}, "0 queries"),
        ({"vectors": np.full((60, 6), NAN)}, "holds NaN"),
        ({"metric": "manhattan"}, "metric must be one of cosine, euclidean"),
        ({"k": 0}, "k must be a whole number, at least 1"),
    ],
)
def test_what_cannot_be_ranked_is_refused(change, told):
    vectors, catalog = make_case()
    options = {"vectors": vectors, "catalog": catalog, "k": 3} | change
    with pytest.raises(ValueError, match=told):
        rank(**options)


# --- Metrics

# What each query finds, best first, and how many relevant photos there are; of four ranks.
RELEVANT = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
EXPECTED = {4: [3 / 4, 2 / 4, 1 / 4, 0, 1], 1: [1, 1, 0, 0, 1]}


@pytest.mark.parametrize("k", EXPECTED)
def test_precision_has_the_values_computed_by_hand(k):
    np.testing.assert_allclose(precision_at_k(RELEVANT, k), EXPECTED[k])


def test_average_similarity_counts_what_was_found_alone():
    inf = np.inf
    scores = np.array([[0.9, 0.7, 0.5], [0.5, 0.25, -inf], [-0.5, -0.25, -inf], [-inf] * 3])
    np.testing.assert_allclose(average_similarity(scores, 3), [0.7, 0.375, -0.375, NAN])
    np.testing.assert_allclose(average_similarity(scores, 1), [0.9, 0.5, -0.5, NAN])
    # Distances are missing the other way round.
    np.testing.assert_allclose(average_similarity(np.array([[1, 3], [2, inf]]), 2), [2, 2])


def test_overlap_is_the_share_that_both_found_in_whatever_order():
    one = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, -1], [-1] * 3])
    other = np.array([[2, 0, 1], [3, 4, 1], [3, 4, 5], [1, 0, -1], [-1] * 3])
    np.testing.assert_allclose(overlap_at_k(one, other, 3), [1, 1 / 3, 0, 1, NAN])
    np.testing.assert_allclose(overlap_at_k(one, other, 1), [0, 0, 0, 0, NAN])
    np.testing.assert_allclose(overlap_at_k(one, other, 2), [1 / 2, 0, 0, 1, NAN])


def test_chance_is_the_share_of_what_is_relevant():
    assert chance(np.array([3, 0, 0]), np.array([12, 12, 0])).tolist() == [1 / 4, 0, 0]


@pytest.mark.parametrize("k", [0, 5, 2.5])
def test_k_beyond_what_was_ranked_is_refused(k):
    with pytest.raises(ValueError, match=r"k must be|4 ranks were computed"):
        precision_at_k(RELEVANT, k)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=15).filter(any), st.data())
def test_precision_agrees_with_scikit_learn(order, data):
    k, order = data.draw(st.integers(1, len(order))), np.array(order)
    shown = np.arange(len(order)) < k
    assert precision_at_k(order[None], k)[0] == pytest.approx(precision_score(order, shown))


def test_random_vectors_score_the_level_of_chance_and_perfect_ones_one():
    labels = np.repeat(["a", "b", "c"], [600, 300, 100])
    catalog = pd.DataFrame({"product_id": np.arange(1000) // 2, "label": labels})
    ranking = rank(np.random.default_rng(0).normal(size=(1000, 16)), catalog, 10)
    for label in "abc":
        asked = ranking.labels == label
        guessed = chance(ranking.n_relevant, ranking.n_gallery)[asked].mean()
        found = precision_at_k(ranking.relevant, 10)[asked].mean()
        assert found == pytest.approx(guessed, abs=0.03)
    perfect = rank(np.eye(3)[pd.factorize(labels)[0]], catalog, 98)
    assert precision_at_k(perfect.relevant, int(perfect.n_relevant.min())).min() == 1
    assert average_similarity(perfect.scores, 98).min() == 1


# --- How often an interval has the truth in it


def shown(random, groups, hard=2.0, easy=1.0):
    """Precision@10 of queries, of which those of one product are about as hard; its mean is hard /
    (hard + easy).
    """
    return random.binomial(10, random.beta(hard, easy, groups.max() + 1)[groups]) / 10


def few_products(random):
    groups = np.repeat(np.arange(20), 3)
    return shown(random, groups), groups, 2 / 3


def unequal_groups(random):
    groups = np.repeat(np.arange(40), random.geometric(0.4, 40).clip(max=8))
    return shown(random, groups), groups, 2 / 3


def covered(interval, simulate, cases=600):
    random, count = np.random.default_rng(0), 0
    for _ in range(cases):
        *values, truth = simulate(random)
        low, high = interval(*values)
        count += low <= truth <= high
    return count / cases


@pytest.mark.parametrize("simulate", [few_products, unequal_groups])
def test_an_interval_of_95_percent_has_the_truth_in_it_that_often(simulate):
    assert 0.93 <= covered(confidence_interval, simulate) <= 0.97


# --- What an interval is


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_it_is_the_percentile_interval_of_scipy_widened_as_student_says(level):
    values = np.random.default_rng(1).beta(2, 1, 8)
    outside = norm.cdf(-np.sqrt(8 / 7) * t.ppf((1 + level) / 2, 7))
    options = {"n_resamples": 20_000, "method": "percentile", "rng": np.random.default_rng(2)}
    theirs = bootstrap((values,), np.mean, confidence_level=1 - 2 * outside, **options)
    ours = confidence_interval(values, n_resamples=20_000, level=level)
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.01)


def test_values_that_come_in_groups_tell_less_than_as_many_strangers():
    groups = np.repeat(np.arange(20), 5)
    values = np.repeat(np.random.default_rng(0).random(20), 5)
    low, high = confidence_interval(values)
    grouped = confidence_interval(values, groups)
    assert grouped[0] < low < values.mean() < high < grouped[1]
    assert (grouped[1] - grouped[0]) / (high - low) == pytest.approx(5**0.5, rel=0.2)
    # Whole groups are drawn, so it is the interval of their means, whatever the groups are called.
    assert grouped == pytest.approx(confidence_interval(values[::5]))
    names = np.array([[1, "1", None][g] if g < 3 else g for g in groups], object)
    assert confidence_interval(values, names) == pytest.approx(grouped)


def test_groups_of_different_size_are_weighed_by_it():
    values, groups = np.array([1.0] * 9 + [0.0] * 4), np.array(["a"] * 9 + ["b", "c", "d", "e"])
    # Of five groups five are drawn; how often a is among them is 0, 1, 2 with probabilities 0.328,
    # 0.410, 0.205. At level 0.2 Student's t of 4 degrees is 0.27, times the root of 5/4 0.30: 0.38
    # of the means are outside.
    assert confidence_interval(values, groups, level=0.2) == pytest.approx((9 / 13, 9 / 13))
    # At level 0.6 it is 0.94, so 1.05, and 0.15 of the means are outside.
    assert confidence_interval(values, groups, level=0.6) == pytest.approx((0, 18 / 21))


def test_of_groups_so_few_that_all_agree_by_chance_nothing_is_told():
    few = [0.4, 0.8, 0.9, 0.1, 0.6]
    nothing = [([], None), ([NAN] * 9, None), ([0.4], None), (few, None), (few * 3, [*"pqrst"] * 3)]
    for values, groups in (*nothing, ([*few, NAN], [*"pqrstu"])):
        assert np.isnan(confidence_interval(values, groups)).all()
    assert not np.isnan(confidence_interval([*few, 0.5], [*"pqrstu"])).any()
    # Of eight that all agree, one case in 128 is chance, which twelve comparisons do not allow.
    level = 1 - 0.05 / 12
    told = [np.isfinite(confidence_interval([0.5] * n, level=level)).all() for n in (8, 9)]
    assert told == [False, True]


def test_nan_does_not_count():
    values = np.random.default_rng(0).random(30)
    gaps, groups = np.insert(values, [3, 10, 30], NAN), np.arange(33) // 3
    kept = ~np.isnan(gaps)
    assert confidence_interval(gaps) == confidence_interval(values)
    assert confidence_interval(gaps, groups) == confidence_interval(gaps[kept], groups[kept])
    assert confidence_interval(np.full(20, 0.4)) == pytest.approx((0.4, 0.4))


def test_a_paired_change_leaves_out_what_one_of_both_does_not_tell():
    change, low, high = paired_change([1, 1, NAN, 1, 1, 1, 1, 1], [0, 1, 1, 0, NAN, 0, 1, 0])
    assert change == pytest.approx(4 / 6)
    assert low <= change <= high
