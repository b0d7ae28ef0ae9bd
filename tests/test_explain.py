import keras
import numpy as np
import pytest
from PIL import Image

from conftest import ROWS, quick, small_classifier
from lookalike.backbones import build_encoder, embedding_encoder, inner_backbone
from lookalike.embeddings import embed_images
from lookalike.explain import explain
from lookalike.images import FITS, ImageError, load_image
from lookalike.pooling import LAYERS, pooling_layer
from lookalike.saving import load_model, save_model
from lookalike.training import unfreeze


def photo(seed, height=50, width=90):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def cosine(encoder, *photos, fit="resize"):
    """What search would say of two photos."""
    first, second = embed_images(encoder, photos, fit=fit).astype(float)
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


def by_hand(height=4, width=6, pooling="avg"):
    """An encoder whose map is the mean colours of each 2 x 2 pixels."""
    image = keras.Input((height, width, 3))
    return keras.Model(
        image, pooling_layer(pooling)(keras.layers.AveragePooling2D(2)(image)), name="by-hand"
    )


def check(encoder, first, second):
    """Hold an explanation against the cosine of the vectors; returned for more."""
    explanation = explain(encoder, first, second)
    expected = cosine(encoder, first, second)
    assert explanation.pairs.shape == (2, 2, 2, 2)
    assert explanation.score == pytest.approx(expected, abs=1e-4)
    assert explanation.pairs.sum() == pytest.approx(expected, abs=1e-4)
    for places, axes in ((explanation.query_map, (2, 3)), (explanation.result_map, (0, 1))):
        np.testing.assert_allclose(places, explanation.pairs.sum(axis=axes), atol=1e-12)
    return explanation


@pytest.fixture(scope="module")
def small():
    """An untrained encoder whose map has four places."""
    return build_encoder("VGG16Slim", weights=None, image_size=64)


# --- It adds up


@pytest.mark.parametrize("name", quick(ROWS, "VGG16Slim"))
@pytest.mark.parametrize("pooling", LAYERS)
def test_pairs_of_places_add_up_to_the_cosine(name, pooling):
    encoder = build_encoder(name, weights=None, image_size=64, pooling=pooling)
    check(encoder, photo(0), photo(1))
    itself = check(encoder, photo(0), photo(0))
    assert itself.score == pytest.approx(1, abs=1e-12)
    forth, back = explain(encoder, photo(0), photo(1)), explain(encoder, photo(1), photo(0))
    np.testing.assert_allclose(forth.pairs, back.pairs.transpose(2, 3, 0, 1), atol=1e-6)


def test_pairs_of_places_add_up_to_the_cosine_behind_a_head_too(tmp_path):
    classifier = small_classifier(size=64, dim=16)
    random = np.random.default_rng(0)
    # Their biases are zero before training.
    for layer in classifier.layers:
        if isinstance(layer, (keras.layers.Dense, keras.layers.LayerNormalization)):
            weights = layer.get_weights()
            layer.set_weights([one + random.normal(size=one.shape) / 4 for one in weights])
    encoder = embedding_encoder(classifier)
    assert (embed_images(encoder, [photo(0)]) == 0).any(), "some of the ReLU are meant to be closed"
    before = check(encoder, photo(0), photo(1))
    save_model(encoder, tmp_path / "encoder.keras", {})
    again, _ = load_model(tmp_path / "encoder.keras")
    np.testing.assert_allclose(explain(again, photo(0), photo(1)).pairs, before.pairs, atol=1e-6)
    # As training does.
    unfreeze(inner_backbone(classifier), "block4_pool")
    np.testing.assert_array_equal(explain(encoder, photo(0), photo(1)).pairs, before.pairs)


def test_several_dense_layers_and_one_without_bias_or_activation_add_up(small):
    initializer = keras.initializers.RandomNormal(seed=0)
    x = keras.layers.Dense(20, "relu", bias_initializer=initializer)(small.output)
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(10, use_bias=False)(x))
    x = keras.layers.Dense(5, bias_initializer=initializer)(x)
    check(keras.Model(small.input, x), photo(0), photo(1))


def test_what_each_pair_of_places_adds_is_the_product_of_their_parts():
    first, second = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)
    # Parts (90, 0) and (0, 120) of a vector of length 150.
    first[:2, :2, 0], first[2:, 4:, 1] = (90, 120)
    second[2:, 2:4, 0], second[:2, :2] = 50, (0, 50, 0)
    expected = np.zeros((2, 3, 2, 3))
    expected[0, 0, 1, 1] = 90 / 150 / np.sqrt(2)
    expected[1, 2, 0, 0] = 120 / 150 / np.sqrt(2)
    explanation = explain(by_hand(), first, second)
    np.testing.assert_allclose(explanation.pairs, expected, atol=1e-6)
    assert explanation.score == pytest.approx(1.4 / np.sqrt(2))


def test_the_bias_of_a_head_is_spread_evenly_over_the_places():
    encoder = by_hand()
    layer = keras.layers.Dense(2, "relu", bias_initializer=keras.initializers.Constant([1.0, 2.0]))
    model = keras.Model(encoder.input, layer(encoder.output))
    layer.kernel.assign([[6, -6], [0, 0], [0, 0]])  # of red; the second output is closed
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2, 2:4, 0] = 10  # a vector of 6 * 10 / 6 + 1 = 11
    expected = (np.array([[0, 10, 0], [0, 0, 0]]) + 1 / 6) / 11
    explanation = explain(model, pixels, pixels)
    np.testing.assert_allclose(explanation.query_map, expected, atol=1e-6)
    np.testing.assert_allclose(explanation.pairs, expected[:, :, None, None] * expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_zero_vector_is_at_cosine_zero_to_which_nothing_adds(pooling):
    nothing, something = np.zeros((4, 6, 3), np.uint8), photo(0, 4, 6)
    for pair in ((nothing, something), (something, nothing), (nothing, nothing)):
        explanation = explain(by_hand(pooling=pooling), *pair)
        assert explanation.score == 0
        np.testing.assert_array_equal(explanation.pairs, 0)


# --- Where things are


@pytest.mark.parametrize("pooling", LAYERS)
def test_the_maps_are_highest_where_both_photos_have_the_same_thing(pooling):
    encoder = by_hand(pooling=pooling)
    result = np.zeros((4, 6, 3), np.uint8)
    result[2:, :2] = 200
    for row in range(2):
        for column in range(3):
            query = np.zeros((4, 6, 3), np.uint8)
            query[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 255
            explanation = explain(encoder, query, result)
            assert np.unravel_index(explanation.query_map.argmax(), (2, 3)) == (row, column)
            assert np.unravel_index(explanation.result_map.argmax(), (2, 3)) == (1, 0)
            assert explanation.query_map[row, column] == pytest.approx(1, abs=1e-4)


# --- Photos of all kinds


@pytest.mark.parametrize("fit", FITS)
def test_photos_of_any_shape_are_seen_as_search_sees_them(small, tmp_path, fit):
    tall, wide = photo(0, 120, 70), tmp_path / "wide.png"
    Image.fromarray(photo(1, 60, 150)).save(wide)
    explanation = explain(small, tall, wide, fit=fit)
    assert explanation.score == pytest.approx(cosine(small, tall, wide, fit=fit), abs=1e-4)
    np.testing.assert_array_equal(explanation.result_pixels, load_image(wide, 64, fit=fit))
    assert explanation.query_pixels.shape == explanation.result_pixels.shape == (64, 64, 3)
    assert explanation.query_pixels.dtype == np.uint8
    if fit == "letterbox":
        assert (explanation.query_pixels[:, 0] == 255).all()
        assert (explanation.result_pixels[0] == 255).all()
    again = explain(small, str(wide), load_image(wide), fit=fit)
    assert again.score == pytest.approx(1, abs=1e-6)


def test_what_cannot_be_seen_is_refused(small, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        explain(small, photo(0), broken)
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        explain(small, tmp_path / "gone.jpg", photo(0))
    with pytest.raises(ValueError, match="uint8"):
        explain(small, photo(0), photo(1) / 255)
    with pytest.raises(ValueError, match="fit must be one of"):
        explain(small, photo(0), photo(1), fit="squeeze")


# --- Encoders of all kinds


def test_an_encoder_without_places_is_refused_by_name(small):
    flat = keras.Model(small.input, keras.layers.Flatten()(small.layers[-1].input), name="flat")
    with pytest.raises(ValueError, match="flat pools nothing"):
        explain(flat, photo(0), photo(1))


@pytest.mark.parametrize(
    "last",
    [
        keras.layers.Dense(3, "sigmoid"),
        keras.layers.BatchNormalization(),
        lambda x: keras.layers.Concatenate()([x, keras.layers.Dense(2)(x)]),
        lambda x: x - 100,
        keras.ops.tanh,
    ],
)
def test_a_layer_behind_the_pooling_that_is_no_sum_is_named(small, last):
    model = keras.Model(small.input, last(small.output))
    with pytest.raises(ValueError, match=r"layer '\w+' cannot be explained: it is no sum"):
        explain(model, photo(0), photo(1))
