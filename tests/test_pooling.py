import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.backbones import build_encoder
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.pooling import LAYERS, GeneralizedMeanPooling2D, pooling_layer, shares
from lookalike.saving import load_model, save_model


def pooled(p, places, dtype="float32"):
    return GeneralizedMeanPooling2D(p, dtype=dtype)(places.astype(np.float32)).numpy()


def some_maps(seed, low=0.0, high=50.0):
    random = np.random.default_rng(seed)
    return random.uniform(low, high, (2, *random.integers(1, 6, 2), 3)).astype(np.float32)


# --- The generalized mean


def test_a_generalized_mean_is_the_root_of_the_mean_power():
    places = np.array([[1, 2, 3], [4, 0, 2]], np.float32)[None, :, :, None]
    assert pooled(2, places) == pytest.approx(np.sqrt(34 / 6), rel=1e-6)
    assert pooled(3, places) == pytest.approx(np.cbrt(108 / 6), rel=1e-6)
    assert pooling_layer("gem")(places).numpy() == pytest.approx(np.cbrt(108 / 6), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(1, 8), st.floats(0.1, 5))
def test_it_lies_between_average_and_maximum_and_rises_with_its_power(seed, p, more):
    maps = some_maps(seed)
    average, highest = maps.mean(axis=(1, 2)), maps.max(axis=(1, 2))
    np.testing.assert_allclose(pooled(1, maps), average, rtol=1e-5, atol=1e-5)
    mean, higher = pooled(p, maps), pooled(p + more, maps)
    assert (mean >= average * (1 - 1e-5) - 1e-5).all()
    assert (higher >= mean * (1 - 1e-5)).all()
    assert (higher <= highest * (1 + 1e-5)).all()
    np.testing.assert_allclose(pooled(p, 7 * maps), 7 * mean, rtol=1e-4)


def test_what_is_zero_or_below_counts_as_nothing():
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[..., 1] = -5
    np.testing.assert_allclose(pooled(3, maps), 0, atol=1e-11)
    maps[0, 0, 1] = 8
    np.testing.assert_allclose(pooled(3, maps), 8 / np.cbrt(4), rtol=1e-4)
    # As in networks that nobody has trained.
    np.testing.assert_allclose(pooled(3, maps * 1e-9), 8e-9 / np.cbrt(4), rtol=1e-4)


def test_the_slope_is_right_and_finite_where_all_is_zero():
    places = np.zeros((1, 2, 2, 2), np.float32)
    places[0, 0, 0, 1], places[0, 1, 1, 1] = 100, 300
    variable = tf.Variable(places)
    with tf.GradientTape() as tape:
        means = GeneralizedMeanPooling2D()(variable)
        total = tf.reduce_sum(means)
    slope = tape.gradient(total, variable).numpy()
    mean = np.cbrt((100**3 + 300**3) / 4)
    np.testing.assert_allclose(means.numpy(), [[0, mean]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slope[0, 0, 0], [0, (100 / mean) ** 2 / 4], rtol=1e-4)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("pooling", LAYERS)
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


def test_an_unknown_pooling_is_refused_naming_the_three():
    with pytest.raises(ValueError, match="pooling must be one of avg, max, gem, not 'mean'"):
        pooling_layer("mean")


# --- What each place gave


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([*LAYERS, 1, 2.5]))
def test_shares_add_up_to_the_pooled_vector(seed, pooling):
    layer = pooling_layer(pooling) if pooling in LAYERS else GeneralizedMeanPooling2D(pooling)
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


def test_the_power_is_part_of_the_fingerprint_and_of_the_file(tmp_path):
    encoder = build_encoder("VGG16Slim", weights=None, image_size=32, pooling="gem")
    layer = GeneralizedMeanPooling2D(4.5, name="pooling")
    stronger = keras.Model(encoder.input, layer(encoder.layers[-1].input))
    assert encoder_fingerprint(stronger) != encoder_fingerprint(encoder)
    save_model(stronger, tmp_path / "encoder.keras", {})
    again, card = load_model(tmp_path / "encoder.keras")
    assert again.layers[-1].p == 4.5
    assert card["fingerprint"] == encoder_fingerprint(again) == encoder_fingerprint(stronger)
