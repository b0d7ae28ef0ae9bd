import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.backbones import build_encoder
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.pooling import POOLINGS, GeneralizedMeanPooling2D, pooling_layer, shares
from lookalike.saving import load_model, save_model

FRESH = "import sys; from lookalike.saving import load_model; m, c = load_model(sys.argv[1]); "
FRESH += "import numpy as np; print(c['fingerprint'], *m(np.full((1, 32, 32, 3), 7.0)).numpy()[0, :5].tolist())"


def pooled(p, places, dtype="float32"):
    return GeneralizedMeanPooling2D(p, dtype=dtype)(places.astype(np.float32)).numpy()


def some_maps(seed, low=0.0, high=50.0):
    random = np.random.default_rng(seed)
    return random.uniform(low, high, (2, *random.integers(1, 6, 2), 3)).astype(np.float32)


def with_power(p, size=32):
    """The same untrained encoder, whose pooling has another power."""
    encoder = build_encoder("VGG16Slim", weights=None, image_size=size, pooling="gem")
    return keras.Model(
        encoder.input, GeneralizedMeanPooling2D(p, name="pooling")(encoder.layers[-1].input)
    )


# --- The generalized mean
# ---------------------------------------------------------------------------------------------


def test_a_generalized_mean_is_the_root_of_the_mean_power():
    places = np.array([[1, 2, 3], [4, 0, 2]], np.float32)[None, :, :, None]
    assert pooled(2, places) == pytest.approx(np.sqrt(34 / 6), rel=1e-6)
    assert pooled(3, places) == pytest.approx(np.cbrt(108 / 6), rel=1e-6)
    assert pooling_layer("gem")(places).numpy() == pytest.approx(np.cbrt(108 / 6), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(1, 20), st.floats(0.1, 10))
def test_it_lies_between_average_and_maximum_and_rises_with_its_power(seed, p, more):
    maps = some_maps(seed)
    average, highest = maps.mean(axis=(1, 2)), maps.max(axis=(1, 2))
    np.testing.assert_allclose(pooled(1, maps), average, rtol=1e-5, atol=1e-5)
    mean, higher = pooled(p, maps), pooled(p + more, maps)
    assert (mean >= average * (1 - 1e-5) - 1e-5).all()
    assert (higher >= mean * (1 - 1e-5)).all()
    assert (higher <= highest * (1 + 1e-5)).all()
    np.testing.assert_allclose(pooled(p, 7 * maps), 7 * mean, rtol=1e-4)


def test_a_large_power_approaches_the_maximum_rather_than_overflowing():
    maps = some_maps(0, high=500)
    highest = maps.max(axis=(1, 2))
    errors = [np.abs(pooled(p, maps) / highest - 1).max() for p in (3, 10, 100, 1000)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01
    np.testing.assert_allclose(
        shares(GeneralizedMeanPooling2D(100), maps[0].reshape(-1, 3)).sum(axis=0), highest[0], 0.05
    )


@pytest.mark.parametrize("p", [1, 3, 7, 100])
def test_what_is_zero_or_below_counts_as_nothing(p):
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[..., 1] = -5
    np.testing.assert_array_equal(pooled(p, maps), 0)
    np.testing.assert_array_equal(shares(GeneralizedMeanPooling2D(p), maps[0].reshape(-1, 2)), 0)
    maps[0, 0, 1] = 8
    np.testing.assert_allclose(pooled(p, maps), 8 / 4 ** (1 / p), rtol=1e-4)
    tiny = maps * np.float32(1e-30)  # as in networks that nobody has trained
    np.testing.assert_allclose(pooled(p, tiny), 8e-30 / 4 ** (1 / p), rtol=1e-4)
    np.testing.assert_allclose(
        shares(GeneralizedMeanPooling2D(p), tiny[0].reshape(-1, 2)).sum(axis=0)[1],
        8e-30 / 4 ** (1 / p),
        rtol=1e-4,
    )


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_means_and_gradients_are_finite_and_right_in_half_precision_too(dtype):
    places = np.zeros((1, 2, 2, 3), np.float32)
    places[0, 0, 0], places[0, 1, 1] = (0, 200, 100), (0, 0, 300)
    layer, variable = GeneralizedMeanPooling2D(dtype=dtype), tf.Variable(places)
    with tf.GradientTape() as tape:
        means = layer(variable)
        total = tf.reduce_sum(means)
    slope = tape.gradient(total, variable).numpy()
    expected = np.cbrt([0, 200**3 / 4, (100**3 + 300**3) / 4])
    np.testing.assert_allclose(means.numpy()[0], expected, rtol=5e-3, atol=1e-5)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(
            slope[0, 0, 0, 1:], (places[0, 0, 0, 1:] / expected[1:]) ** 2 / 4, rtol=5e-3
        )
    np.testing.assert_allclose(slope[0, 1, 1], [0, 0, (300 / expected[2]) ** 2 / 4], rtol=5e-3)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_gives_a_vector_in_float32_whatever_else_is_computed_in(pooling):
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = pooling_layer(pooling)
    finally:
        keras.config.set_dtype_policy(usual)
    assert layer.name == "pooling"
    assert layer(np.ones((2, 3, 4, 5), np.float16)).dtype == "float32"
    assert layer(keras.Input((3, 4, 5))).shape == (None, 5)
    assert layer.compute_output_shape((None, 3, 4, 5)) == (None, 5)


@pytest.mark.parametrize("unknown", ["mean", "", None, "GEM"])
def test_an_unknown_pooling_is_refused_naming_the_three(unknown):
    with pytest.raises(ValueError, match=rf"pooling must be one of avg, max, gem, not {unknown!r}"):
        pooling_layer(unknown)


# --- What each place gave
# ---------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([*POOLINGS, 1, 2.5, 12]))
def test_shares_add_up_to_the_pooled_vector(seed, pooling):
    layer = pooling_layer(pooling) if pooling in POOLINGS else GeneralizedMeanPooling2D(pooling)
    # The second has ties.
    for maps in (some_maps(seed, low=-20), np.round(some_maps(seed, high=3))):
        expected = layer(maps).numpy()
        for one, vector in zip(maps, expected, strict=True):
            parts = shares(layer, one.reshape(-1, 3))
            assert parts.shape == (one.shape[0] * one.shape[1], 3)
            assert parts.dtype == np.float64
            np.testing.assert_allclose(parts.sum(axis=0), vector, rtol=1e-4, atol=1e-5)


def test_shares_are_the_parts_of_an_average_the_top_of_a_maximum_and_powers_of_a_generalized_mean():
    places = np.array([[1, -4], [3, -2], [3, -9], [1, -2]], np.float32)
    np.testing.assert_allclose(shares(pooling_layer("avg"), places), places / 4)
    np.testing.assert_allclose(
        shares(pooling_layer("max"), places), [[0, 0], [1.5, -1], [1.5, 0], [0, -1]]
    )
    parts = shares(pooling_layer("gem"), places)[:, 0]
    np.testing.assert_allclose(parts, np.array([1, 27, 27, 1]) / 56 * np.cbrt(56 / 4))


# --- In encoders
# ------------------------------------------------------------------------------------------------------


def test_the_power_decides_the_vectors_and_the_fingerprint():
    three, four = with_power(3), with_power(4)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    same = build_encoder("VGG16Slim", weights=None, image_size=32, pooling="gem")
    np.testing.assert_array_equal(three(pixels), same(pixels))
    assert (
        encoder_fingerprint(three)
        == encoder_fingerprint(same)
        == encoder_fingerprint(with_power(3.0))
    )
    assert encoder_fingerprint(four) != encoder_fingerprint(three)
    three, four = with_power(3, size=64), with_power(4, size=64)  # a map of four places
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    assert (four(pixels).numpy() >= three(pixels).numpy() * (1 - 1e-5)).all()
    assert (four(pixels).numpy() > three(pixels).numpy() + 1e-3).any()


def test_it_is_saved_and_loaded_in_safe_mode_here_and_in_a_process_that_knows_nothing_of_it(
    tmp_path,
):
    encoder, file = with_power(4.5), tmp_path / "encoder.keras"
    save_model(encoder, file, {})
    again, card = load_model(file)
    assert again.layers[-1].p == 4.5
    assert card["fingerprint"] == encoder_fingerprint(again) == encoder_fingerprint(encoder)
    pixels = np.full((1, 32, 32, 3), 7.0)
    np.testing.assert_array_equal(again(pixels), encoder(pixels))
    told = subprocess.run(
        [sys.executable, "-c", FRESH, str(file)], capture_output=True, text=True, check=True
    )
    fingerprint, *vector = told.stdout.split()
    assert fingerprint == card["fingerprint"]
    np.testing.assert_allclose(np.array(vector, float), encoder(pixels)[0, :5], rtol=1e-5)
