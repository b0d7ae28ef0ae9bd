import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from conftest import ALL_LABELS
from lookalike.copies import CopyIndex, choose_threshold, plant_copies
from lookalike.copies.find import STEPS
from lookalike.copies.thresholds import SIMILARITY, precision_recall, recall_by_kind, score_copies
from lookalike.embeddings import embed_catalog
from lookalike.sources import load_catalog

DEFAULTS = {"content": 1.0, "perceptual hash": 0.985, "alignment": 0.8}


def scored(*rows):
    """Rows of (copy, kind, image_id, step, score, right)."""
    return pd.DataFrame(rows, columns=["copy", "kind", "image_id", "step", "score", "right"])


def of_one_step(pairs, step="alignment"):
    """Rows of (score, right), each of a copy of its own."""
    return scored(*((f"{row}.jpg", "PNG", f"{row}", step, *pair) for row, pair in enumerate(pairs)))


# --- Precision and recall
# ----------------------------------------------------------------------------------------


def test_precision_and_recall_of_a_small_table():
    scores = of_one_step(
        [(0.9, True), (0.7, False), (0.8, True), (0.7, True), (0.1, False), (0.6, False)]
    )
    curve = precision_recall(scores, 5)
    assert curve.columns.tolist() == ["step", "threshold", "precision", "recall", "false"]
    assert curve["step"].unique().tolist() == ["alignment"]
    assert curve["threshold"].tolist() == [0.9, 0.8, 0.7, 0.6, 0.1]
    assert curve["precision"].tolist() == pytest.approx([1, 1, 3 / 4, 3 / 5, 3 / 6])
    assert curve["recall"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.6, 0.6])
    assert curve["false"].tolist() == [0, 0, 1, 2, 3]


def test_equal_scores_are_one_threshold_in_whatever_order():
    pairs = [(0.5, False), (0.5, True), (0.5, False), (0.5, True)]
    for turn in range(4):
        curve = precision_recall(of_one_step(pairs[turn:] + pairs[:turn]), 2)
        assert curve.drop(columns="step").to_numpy().tolist() == [[0.5, 0.5, 1, 2]]


def test_each_step_has_its_own_curve_from_cheap_to_sure():
    scores = pd.concat(
        [of_one_step([(0.9, True), (0.8, False)], step) for step in (SIMILARITY, *STEPS[::-1])]
    )
    curve = precision_recall(scores, 1)
    assert curve["step"].tolist() == [step for step in (*STEPS, SIMILARITY) for _ in range(2)]
    assert curve["precision"].tolist() == [1, 0.5] * 4
    assert curve.index.tolist() == list(range(8))


def test_a_step_without_any_right_pair_has_no_precision_and_no_recall():
    curve = precision_recall(of_one_step([(0.9, False), (0.8, False)]), 4)
    assert curve["precision"].tolist() == curve["recall"].tolist() == [0, 0]
    assert curve["false"].tolist() == [1, 2]


def test_no_candidates_make_an_empty_curve():
    curve = precision_recall(scored(), 3)
    assert curve.columns.tolist() == ["step", "threshold", "precision", "recall", "false"]
    assert len(curve) == 0


MANY_PAIRS = st.lists(
    st.tuples(st.integers(-4, 10).map(lambda one: one / 10), st.booleans()), min_size=1, max_size=40
)


@settings(max_examples=200, deadline=None)
@given(MANY_PAIRS.filter(lambda pairs: any(right for _, right in pairs)))
def test_the_curve_is_that_of_scikit_learn(pairs):
    scores = of_one_step(pairs)
    curve = precision_recall(scores, scores["right"].sum())
    precision, recall, thresholds = precision_recall_curve(scores["right"], scores["score"])
    np.testing.assert_array_equal(curve["threshold"], thresholds[::-1])
    np.testing.assert_allclose(curve["precision"], precision[-2::-1])
    np.testing.assert_allclose(curve["recall"], recall[-2::-1])


@settings(max_examples=100, deadline=None)
@given(MANY_PAIRS, st.integers(0, 5))
def test_the_curve_is_what_counting_gives(pairs, missed):
    scores = of_one_step(pairs)
    n_copies = scores["right"].sum() + missed + 1
    for row in precision_recall(scores, n_copies).itertuples():
        above = scores[scores["score"] >= row.threshold]
        assert row.precision == pytest.approx(above["right"].mean())
        assert row.recall == pytest.approx(above["right"].sum() / n_copies)
        assert row.false == (~above["right"]).sum()


# --- A threshold
# -------------------------------------------------------------------------------------------------


def test_the_threshold_is_between_the_lowest_of_that_precision_and_the_median_of_the_copies():
    scores = of_one_step(
        [(0.99, True), (0.95, True), (0.9, True), (0.7, True), (0.6, False), (0.5, True)]
    )
    assert choose_threshold(scores, "alignment", 1.0) == pytest.approx((0.7 + 0.9) / 2)
    assert choose_threshold(scores, "alignment", 5 / 6) == pytest.approx((0.5 + 0.9) / 2)


def test_other_steps_have_no_say_in_it():
    scores = of_one_step([(0.9, True), (0.8, True), (0.3, False)])
    others = of_one_step([(1.0, False), (0.2, True)], SIMILARITY)
    expected = choose_threshold(scores, "alignment")
    assert expected == pytest.approx((0.8 + 0.85) / 2)
    assert choose_threshold(pd.concat([scores, others]), "alignment") == expected


def test_where_most_copies_score_low_the_threshold_still_has_its_precision():
    scores = of_one_step([(0.9, True), (0.6, False), *[(0.2, True)] * 5])
    threshold = choose_threshold(scores, "alignment", 0.99)
    assert scores.loc[scores["score"] >= threshold, "right"].all()


@settings(max_examples=200, deadline=None)
@given(MANY_PAIRS, st.sampled_from([0.5, 0.9, 1.0]))
def test_a_threshold_has_copies_above_it_and_is_not_below_one_that_has_the_precision(
    pairs, precision
):
    scores = of_one_step(pairs)
    at = {score: scores.loc[scores["score"] >= score, "right"].mean() for score in scores["score"]}
    enough = [score for score, share in at.items() if share >= precision]
    if not enough:
        with pytest.raises(
            ValueError,
            match=f"No threshold of 'alignment' has a precision of {precision}; the best",
        ):
            choose_threshold(scores, "alignment", precision)
        return
    threshold = choose_threshold(scores, "alignment", precision)
    assert min(enough) - 1e-12 <= threshold <= scores.loc[scores["right"], "score"].max()


def test_a_precision_that_no_threshold_has_is_refused_with_the_best_there_is():
    scores = of_one_step([(0.9, False), (0.8, True), (0.7, True), (0.6, False)])
    with pytest.raises(
        ValueError,
        match=r"No threshold of 'alignment' has a precision of 0\.9; the best has 0\.6667",
    ):
        choose_threshold(scores, "alignment", 0.9)
    for step in ("perceptual hash", "no such step"):
        with pytest.raises(ValueError, match=f"No threshold of '{step}'"):
            choose_threshold(scores, step)
    with pytest.raises(ValueError, match="the best has 0"):
        choose_threshold(of_one_step([(0.9, False)]), "alignment")


@pytest.mark.parametrize("precision", [0, -0.1, 1.01, np.nan])
@pytest.mark.parametrize("right", [True, False])
def test_a_precision_out_of_range_is_refused(precision, right):
    with pytest.raises(ValueError, match="precision"):
        choose_threshold(of_one_step([(0.9, right), (0.8, right)]), "alignment", precision)


# --- By kind
# -----------------------------------------------------------------------------------------------------

COPIES = pd.DataFrame(
    {
        "image_id": ["1", "2", "3", "4", "5"],
        "kind": ["PNG", "mirrored", "PNG", "mirrored", "border"],
        "copy_of": ["A", "A", "B", "B", "B"],
    }
)
SCORES = scored(
    ("1", "PNG", "A", "content", 1.0, True),
    ("1", "PNG", "A", "alignment", 0.9, True),
    ("1", "PNG", "B", "alignment", 0.85, False),
    ("1", "PNG", "B", "perceptual hash", 0.99, False),
    ("2", "mirrored", "A", "alignment", 0.82, True),
    ("2", "mirrored", "C", "alignment", 0.81, False),
    ("3", "PNG", "B", "perceptual hash", 0.985, True),
    ("4", "mirrored", "B", "alignment", 0.79, True),
    ("5", "border", "A", SIMILARITY, 0.99, False),
)


def test_recall_by_kind_of_a_small_table():
    table = recall_by_kind(SCORES, COPIES, DEFAULTS)
    assert table.index.tolist() == ["PNG", "mirrored", "border", "all"]
    assert table.index.name == "kind"
    assert table.columns.tolist() == [
        "content",
        "perceptual hash",
        "alignment",
        "together",
        "false",
    ]
    expected = [
        [1 / 2, 1 / 2, 1 / 2, 1, 1],  # B is wrong for 1, by two steps, but one pair
        [0, 0, 1 / 2, 1 / 2, 1],
        [0, 0, 0, 0, 0],
        [1 / 5, 1 / 5, 2 / 5, 3 / 5, 2],
    ]
    np.testing.assert_allclose(table.to_numpy(float), expected)
    assert table["false"].dtype.kind == "i"


def test_a_step_without_a_threshold_finds_nothing():
    table = recall_by_kind(SCORES, COPIES, {"alignment": 0.8})
    assert table.columns.tolist() == ["alignment", "together", "false"]
    assert (
        table["together"].tolist()
        == table["alignment"].tolist()
        == pytest.approx([1 / 2, 1 / 2, 0, 2 / 5])
    )
    assert recall_by_kind(SCORES, COPIES, {SIMILARITY: 0.99})["false"].tolist() == [0, 0, 1, 1]
    nothing = recall_by_kind(SCORES, COPIES, {})
    assert nothing.columns.tolist() == ["together", "false"]
    assert (nothing == 0).all(axis=None)


def test_a_score_at_the_threshold_counts():
    for threshold, found in ((0.985, 1), (0.98501, 0)):
        table = recall_by_kind(SCORES.iloc[[6]], COPIES.iloc[[2]], {"perceptual hash": threshold})
        assert table["together"].tolist() == [found, found]


def test_copies_without_any_candidate_are_not_found():
    for empty in (scored(), SCORES.head(0)):
        table = recall_by_kind(empty, COPIES, DEFAULTS)
        assert table.index.tolist() == ["PNG", "mirrored", "border", "all"]
        assert (table == 0).all(axis=None)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_recall_by_kind_is_what_a_loop_counts(data):
    kinds = data.draw(st.lists(st.sampled_from(["PNG", "GIF", "border"]), min_size=1, max_size=6))
    copies = pd.DataFrame({"image_id": [f"c{row}" for row in range(len(kinds))], "kind": kinds})
    rows = []
    for copy, kind in copies.itertuples(index=False):
        for step in (*STEPS, SIMILARITY):
            for other in data.draw(st.lists(st.sampled_from("ABC"), unique=True, max_size=3)):
                rows.append(
                    (
                        copy,
                        kind,
                        other,
                        step,
                        data.draw(st.sampled_from([0.5, 0.8, 1.0])),
                        other == "A",
                    )
                )
    thresholds = {
        step: data.draw(st.sampled_from([0.5, 0.9, 1.0]))
        for step in STEPS[data.draw(st.integers(0, 2)) :]
    }
    table = recall_by_kind(scored(*rows), copies, thresholds)
    for kind in [*dict.fromkeys(kinds), "all"]:
        of_kind = [copy for copy, own in copies.itertuples(index=False) if kind in (own, "all")]
        found = {step: set() for step in thresholds}
        wrong = set()
        for copy, _, other, step, score, right in rows:
            if copy in of_kind and step in thresholds and score >= thresholds[step]:
                if right:
                    found[step].add(copy)
                else:
                    wrong.add((copy, other))
        for step, some in found.items():
            assert table.loc[kind, step] == pytest.approx(len(some) / len(of_kind))
        assert table.loc[kind, "together"] == pytest.approx(
            len(set().union(*found.values())) / len(of_kind)
        )
        assert table.loc[kind, "false"] == len(wrong)


# --- From photos to scores
# ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dozen(encoder, tmp_path_factory):
    """An index of twelve pictures of all seven labels."""
    catalog = load_catalog("sample", labels=ALL_LABELS)[0].iloc[::41].head(12)
    return CopyIndex(embed_catalog(encoder, catalog, tmp_path_factory.mktemp("store") / "store"))


@pytest.fixture(scope="module")
def planted(dozen, tmp_path_factory):
    """Resized, recompressed and unchanged copies of the twelve, and their scores."""
    kinds = ["resize 50 %", "JPEG 50", "PNG"]
    return plant_copies(dozen.catalog, tmp_path_factory.mktemp("copies"), kinds=kinds)


@pytest.fixture(scope="module")
def scores(dozen, planted, encoder):
    return score_copies(dozen, planted, encoder)


def test_resized_and_recompressed_copies_are_all_found_and_nothing_else(scores, planted):
    assert len(planted) == 36
    table = recall_by_kind(scores, planted, DEFAULTS)
    assert table.index.tolist() == ["resize 50 %", "JPEG 50", "PNG", "all"]
    assert (table["together"] == 1).all()
    assert (table["perceptual hash"] == 1).all()
    assert (table["false"] == 0).all()
    assert (table["content"] == 0).all()


def test_scores_are_of_every_candidate_and_say_which_is_right(scores, planted, dozen):
    assert set(scores["step"]) == {"perceptual hash", "alignment", SIMILARITY}
    assert set(scores["image_id"]) <= set(dozen.ids)
    original, kind = (planted.set_index("image_id")[name] for name in ("copy_of", "kind"))
    assert (scores["right"] == (scores["image_id"] == scores["copy"].map(original))).all()
    assert (scores["kind"] == scores["copy"].map(kind)).all()
    assert not scores.duplicated(["copy", "image_id", "step"]).any()
    assert scores.notna().all(axis=None)
    assert scores["score"].between(-1, 1 + 1e-6).all()
    assert scores["score"].dtype == float
    assert scores["right"].dtype == bool
    candidates = {
        step: set(zip(part["copy"], part["image_id"], strict=True))
        for step, part in scores.groupby("step")
    }
    assert candidates[SIMILARITY] == candidates["alignment"]
    assert scores[scores["step"] == "alignment"].groupby("copy").size().max() <= dozen.n_candidates


def test_scores_are_those_of_looking_up(scores, planted, dozen, encoder):
    for copy, path in zip(planted["image_id"].head(6), planted["path"], strict=False):
        found = dozen.look_up(path, encoder)
        own = scores[(scores["copy"] == copy) & scores["step"].isin(STEPS)]
        own = own[own["score"] >= own["step"].map(DEFAULTS)].drop_duplicates("image_id")
        assert own["image_id"].tolist() == found["image_id"].tolist()
        assert own["step"].tolist() == found["step"].tolist()
        np.testing.assert_allclose(own["score"], found["score"], atol=1e-6)


def test_a_threshold_chosen_on_them_finds_them(scores, planted):
    threshold = choose_threshold(scores, "perceptual hash")
    assert 0.9 < threshold <= 1
    table = recall_by_kind(scores, planted, {"perceptual hash": threshold})
    assert table.loc["all", "together"] >= 0.5  # it is halfway to the median
    assert table.loc["all", "false"] == 0


def test_the_same_file_is_found_by_its_content(dozen, encoder):
    photos = dozen.catalog.head(3)
    copies = photos.assign(copy_of=photos["image_id"], kind="same")
    scores = score_copies(dozen, copies, encoder)
    table = recall_by_kind(scores, copies, DEFAULTS)
    assert (table.drop(columns="false") == 1).all(axis=None)


def test_the_table_of_scores_has_its_types_when_some_copies_have_no_candidate(
    dozen, encoder, tmp_path
):
    strict = CopyIndex(dozen.store, min_similarity=1.0, max_distance=0)
    copies = plant_copies(dozen.catalog.head(4), tmp_path, kinds=["rotation 10°", "PNG"])
    scores = score_copies(strict, copies, encoder)
    assert set(scores["kind"]) >= {"PNG"}
    assert scores["copy"].nunique() < len(copies)
    assert scores["score"].dtype == float
    assert scores["right"].dtype == bool
    none = score_copies(strict, copies[~copies["image_id"].isin(scores["copy"])], encoder)
    assert len(none) == 0
    assert none.columns.tolist() == scores.columns.tolist()
    assert (recall_by_kind(none, copies, DEFAULTS) == 0).all(axis=None)


def test_an_original_that_is_not_searched_is_named(dozen, planted, encoder):
    copies = planted.assign(copy_of=["elsewhere.png", *planted["copy_of"][1:]])
    with pytest.raises(
        ValueError, match=r"elsewhere\.png is not among the photos that are searched"
    ):
        score_copies(dozen, copies, encoder)


def test_another_encoder_than_the_stores_is_refused(dozen, planted, other_encoder):
    with pytest.raises(ValueError, match="Vectors of two encoders cannot be compared"):
        score_copies(dozen, planted.head(1), other_encoder)


def test_no_copies_are_refused_in_words(dozen, planted, encoder):
    with pytest.raises(ValueError, match="no cop"):
        score_copies(dozen, planted.head(0), encoder)
