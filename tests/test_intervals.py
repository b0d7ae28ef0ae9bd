import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, t

from lookalike.intervals import confidence_interval, difference_interval, macro_interval

# --- How often an interval has the truth in it
# ------------------------------------------------------------------------


def shown(random, groups, hard=2.0, easy=1.0):
    """Precision@10 of queries, of which those of one product are about as hard; its mean is hard /
    (hard + easy).
    """
    return random.binomial(10, random.beta(hard, easy, groups.max() + 1)[groups]) / 10


def views(random):
    groups = np.repeat(np.arange(40), 3)
    return shown(random, groups), groups, 2 / 3


def easy_views(random):
    groups = np.repeat(np.arange(40), 3)
    return shown(random, groups, 8, 1), groups, 8 / 9


def single_views(random):
    return shown(random, np.arange(100), 1, 2), None, 1 / 3


def hits(random):
    return random.random(100) < 0.3, None, 0.3


def unequal_groups(random):
    groups = np.repeat(np.arange(40), random.geometric(0.4, 40).clip(max=8))
    return shown(random, groups), groups, 2 / 3


def groups_that_are_easier_the_more_views_they_have(random):
    many = random.random(40) < 0.3
    products = random.beta(np.where(many, 4, 1), 1)
    groups = np.repeat(np.arange(40), np.where(many, 6, 2))
    return (
        random.binomial(10, products[groups]) / 10,
        groups,
        (0.3 * 6 * 0.8 + 0.7 * 2 * 0.5) / (0.3 * 6 + 0.7 * 2),
    )


def paired_differences(random):
    groups = np.repeat(np.arange(40), 3)
    products = random.beta(2, 2, 40)
    # The other way is better for half of the products and as much worse for the others.
    better = np.clip(products + random.choice([-0.1, 0.1], 40), 0, 1)[groups]
    return (random.binomial(10, better) - random.binomial(10, products[groups])) / 10, groups, 0.0


def covered(interval, simulate, cases=400):
    random, count = np.random.default_rng(0), 0
    for _ in range(cases):
        *values, truth = simulate(random)
        low, high = interval(*values)
        count += low <= truth <= high
    return count / cases


SIMULATIONS = [views, easy_views, single_views, hits, unequal_groups, paired_differences]
SIMULATIONS += [groups_that_are_easier_the_more_views_they_have]


@pytest.mark.parametrize("simulate", SIMULATIONS)
def test_an_interval_of_95_percent_has_the_truth_in_it_that_often(simulate):
    assert 0.93 <= covered(confidence_interval, simulate) <= 0.97


def test_views_taken_for_strangers_promise_too_much():
    assert covered(lambda values, groups: confidence_interval(values), views) < 0.85


LONG = [[10] * 9, [40] + [8] * 4, [40] + [4] * 8]


def classes_of(sizes, truths):
    def simulate(random):
        classes = np.repeat(np.arange(len(sizes)), sizes)  # of each product
        of_view = np.repeat(np.arange(len(classes)), 3)
        products = random.beta(3 * truths[classes], 3 * (1 - truths[classes]))
        return random.binomial(10, products[of_view]) / 10, classes[of_view], of_view, truths.mean()

    return simulate


@pytest.mark.parametrize(
    "sizes", [[20] * 5, *(pytest.param(s, marks=pytest.mark.soak) for s in LONG)], ids=str
)
def test_an_interval_of_the_mean_of_classes_has_the_truth_in_it_that_often(sizes):
    simulate = classes_of(sizes, np.linspace(0.3, 0.9, len(sizes)))
    assert 0.93 <= covered(macro_interval, simulate) <= 0.97


# --- What an interval is
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_it_is_the_percentile_interval_of_scipy_widened_as_student_says(level):
    values = np.random.default_rng(1).beta(2, 1, 8)
    outside = norm.cdf(-np.sqrt(8 / 7) * t.ppf((1 + level) / 2, 7))
    options = {"n_resamples": 20_000, "method": "percentile", "rng": np.random.default_rng(2)}
    theirs = bootstrap((values,), np.mean, confidence_level=1 - 2 * outside, **options)
    ours = confidence_interval(values, n_resamples=20_000, level=level)
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.01)


def test_of_many_normal_values_it_is_the_textbook_interval():
    values = np.random.default_rng(0).normal(3, 2, 2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    low, high = confidence_interval(values, n_resamples=20_000)
    assert (low, high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.05 * half
    )


def test_values_that_come_in_groups_tell_less_than_as_many_strangers():
    groups = np.repeat(np.arange(20), 5)
    values = np.repeat(np.random.default_rng(0).random(20), 5)
    low, high = confidence_interval(values)
    low_grouped, high_grouped = confidence_interval(values, groups)
    assert low_grouped < low < values.mean() < high < high_grouped
    assert (high_grouped - low_grouped) / (high - low) == pytest.approx(5**0.5, rel=0.2)
    # Whole groups are drawn, so it is the interval of their means, whatever the groups are called.
    assert (low_grouped, high_grouped) == pytest.approx(confidence_interval(values[::5]))
    for names in (
        [f"p{group}" for group in groups],
        np.array([[1, "1", None][g] if g < 3 else g for g in groups], object),
    ):
        assert confidence_interval(values, names) == pytest.approx((low_grouped, high_grouped))


def test_groups_of_different_size_are_weighed_by_it():
    values, groups = np.array([1.0] * 9 + [0.0] * 4), np.array(["a"] * 9 + ["b", "c", "d", "e"])
    # Of five groups five are drawn; how often a is among them is 0, 1, 2 with probabilities 0.328,
    # 0.410, 0.205. At level 0.2 Student's t of 4 degrees is 0.27, times the root of 5/4 0.30: 0.38
    # of the means are outside.
    assert confidence_interval(values, groups, level=0.2) == pytest.approx((9 / 13, 9 / 13))
    # At level 0.6 it is 0.94, so 1.05, and 0.15 of the means are outside.
    assert confidence_interval(values, groups, level=0.6) == pytest.approx((0, 18 / 21))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 9)), min_size=2, max_size=40),
    st.randoms(),
)
def test_the_interval_lies_around_the_mean_and_turns_with_the_values(pairs, random):
    values, groups = np.array(pairs).T
    if len(set(groups)) < 5:
        assert np.isnan(confidence_interval(values, groups)).all()
        return
    low, high = confidence_interval(values, groups)
    middle = confidence_interval(values, groups, level=0.5)
    assert values.min() - 1e-9 <= low <= middle[0] <= middle[1] <= high <= values.max() + 1e-9
    assert low - 1e-9 <= values.mean() <= high + 1e-9
    flipped, moved = (
        confidence_interval(-values, groups),
        confidence_interval(values / 10 + 5, groups),
    )
    assert flipped == pytest.approx((-high, -low))
    assert moved == pytest.approx((low / 10 + 5, high / 10 + 5))


def test_values_that_are_all_alike_have_an_interval_without_width():
    assert confidence_interval(np.full(20, 0.4)) == pytest.approx((0.4, 0.4))
    assert macro_interval([0.4] * 4 + [0.8] * 4, [0] * 4 + [1] * 4, range(8)) == pytest.approx(
        (0.6, 0.6)
    )


def test_of_fewer_than_five_groups_nothing_is_told():
    few = [0.4, 0.8, 0.9, 0.1]
    for values, groups in (
        ([], None),
        ([np.nan] * 9, None),
        ([0.4], None),
        (few, None),
        (few * 3, [*"pqrs"] * 3),
    ):
        assert np.isnan(confidence_interval(values, groups)).all()
    assert np.isnan(confidence_interval([*few, np.nan], [*"pqrst"])).all()
    assert not np.isnan(confidence_interval([*few, 0.5], [*"pqrst"])).any()


def test_nan_does_not_count():
    values = np.random.default_rng(0).random(30)
    gaps = np.insert(values, [3, 10, 30], np.nan)
    assert confidence_interval(gaps) == confidence_interval(values)
    groups = np.arange(33) // 3
    assert confidence_interval(gaps, groups) == confidence_interval(
        gaps[~np.isnan(gaps)], groups[~np.isnan(gaps)]
    )


def test_an_interval_comes_again_by_its_seed():
    values, classes = np.random.default_rng(0).random(30), np.arange(30) % 3
    assert (
        confidence_interval(values, seed=1)
        == confidence_interval(values, seed=1)
        != confidence_interval(values)
    )
    asked = values, classes, np.arange(30)
    assert (
        macro_interval(*asked, seed=1) == macro_interval(*asked, seed=1) != macro_interval(*asked)
    )


def test_many_values_are_drawn_some_rows_at_a_time(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = confidence_interval(values)
    monkeypatch.setattr("lookalike.intervals.DRAWN", 120)  # two rows
    assert confidence_interval(values) == whole
    monkeypatch.setattr("lookalike.intervals.DRAWN", 7)  # less than one
    assert confidence_interval(values) == whole


# --- Classes
# ----------------------------------------------------------------------------------------------------------


def test_one_class_is_the_interval_of_its_groups():
    values, groups = np.random.default_rng(0).random(40), np.arange(40) // 2
    assert macro_interval(values, ["a"] * 40, groups) == pytest.approx(
        confidence_interval(values, groups)
    )


def test_each_class_counts_alike_whatever_its_size():
    values, classes = np.array([0.0] * 90 + [1.0] * 10), np.array(["a"] * 90 + ["b"] * 10)
    assert macro_interval(values, classes, np.arange(100)) == (0.5, 0.5)
    # Two independent classes have half the variance of the mean of one.
    values, classes = np.random.default_rng(0).normal(size=2000), np.repeat(["a", "b"], 1000)
    low, high = macro_interval(values, classes, np.arange(2000))
    one_low, one_high = confidence_interval(values[:1000])
    assert (high - low) / (one_high - one_low) == pytest.approx(0.5**0.5, rel=0.08)


def test_a_class_of_few_groups_beside_a_large_one_is_as_doubtful_as_it_is():
    random = np.random.default_rng(0)
    small, large = random.random(6), np.full(200, 0.5)
    low, high = macro_interval([*small, *large], ["s"] * 6 + ["l"] * 200, range(206))
    # The large one adds no doubt, so it is the interval of the six, at half its width.
    expected = np.array(confidence_interval(small)) / 2 + 0.25
    assert (low, high) == pytest.approx(expected, abs=0.01)


def test_beside_a_class_of_one_group_nothing_is_told_and_a_class_without_values_adds_nothing():
    values = np.random.default_rng(0).random(20)
    low, high = confidence_interval(values)
    assert np.isnan(
        macro_interval([*values, 1.0, 0.8], ["a"] * 20 + ["b"] * 2, [*range(20), 20, 20])
    ).all()
    assert macro_interval([*values, np.nan], ["a"] * 20 + ["b"], range(21)) == pytest.approx(
        (low, high)
    )


def test_where_no_class_has_two_groups_nothing_is_told():
    for values, classes in (([], []), ([np.nan], ["a"]), ([0.0, 1.0], ["a", "b"])):
        assert np.isnan(macro_interval(values, classes, range(len(values)))).all()


def test_a_difference_of_two_sides_is_as_wide_as_both_together():
    random = np.random.default_rng(0)
    values, others = random.normal(1, 1, 400), random.normal(0, 2, 400)
    low, high = difference_interval(values, np.arange(400), others, np.arange(400))
    middle, spread = (
        values.mean() - others.mean(),
        1.96 * np.sqrt((values.var() + others.var()) / 400),
    )
    assert (low, high) == pytest.approx((middle - spread, middle + spread), abs=0.03)
    turned = difference_interval(others, np.arange(400), values, np.arange(400), seed=1)
    assert turned == pytest.approx((-high, -low), abs=0.03)
    assert np.isnan(difference_interval(values, np.arange(400), others, np.arange(400) % 4)).all()
    # Views of one product are drawn together.
    views = np.arange(400) // 8
    wide = difference_interval(np.repeat(values[:50], 8), views, np.repeat(others[:50], 8), views)
    alone = difference_interval(values[:50], np.arange(50), others[:50], np.arange(50))
    assert wide == pytest.approx(alone)


@pytest.mark.parametrize("level", [0, 1, -0.95, 95, np.nan, np.inf])
def test_a_level_that_is_no_share_is_refused(level):
    values, groups = np.arange(10.0), np.arange(10)
    for ask in (
        lambda: confidence_interval(values, level=level),
        lambda: difference_interval(values, groups, values, groups, level=level),
        lambda: macro_interval(values, groups % 2, groups, level=level),
    ):
        with pytest.raises(
            ValueError, match=f"level must be between 0 and 1, as 0.95, not {level}"
        ):
            ask()


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([0.5, np.inf, 1, 1, 1, 1], {}),
        ([0.5] * 6, {"groups": [1, 2, 3]}),
        ([[0.5] * 6], {}),
        ([0.5] * 6, {"n_resamples": 0}),
    ],
)
def test_values_that_no_mean_can_be_made_of_are_refused(values, options):
    with pytest.raises(ValueError, match="Finite values or NaN, a group for each"):
        confidence_interval(values, **options)
