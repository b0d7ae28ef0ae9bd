import keras
import numpy as np
import pytest
from PIL import Image

from conftest import ROWS, small_classifier, write_photo
from lookalike.backbones import build_encoder, embedding_encoder
from lookalike.embeddings import embed_images
from lookalike.explain import explain
from lookalike.images import FITS, ImageError, load_image
from lookalike.pooling import LAYERS, POOLINGS, pooling_layer
from lookalike.saving import load_model, save_model
from lookalike.training import halves


def photo(seed, height=50, width=90):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def cosine(encoder, *photos, fit="resize"):
    """What search would say of two photos."""
    return angle(*embed_images(encoder, photos, fit=fit).astype(float))


def angle(first, second):
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


def by_hand(height=4, width=6, pooling="avg"):
    """An encoder whose map is the mean colours of each 2 x 2 pixels."""
    image = keras.Input((height, width, 3))
    return keras.Model(
        image, pooling_layer(pooling)(keras.layers.AveragePooling2D(2)(image)), name="by-hand"
    )


def check(encoder, first, second, expected=None):
    """Hold an explanation against the cosine of the vectors; returned for more."""
    explanation = explain(encoder, first, second)
    expected = cosine(encoder, first, second) if expected is None else expected
    assert explanation.pairs.shape == (2, 2, 2, 2)
    assert explanation.pairs.dtype == np.float64
    assert explanation.score == pytest.approx(expected, abs=1e-4)
    assert explanation.pairs.sum() == pytest.approx(expected, abs=1e-4)
    for places, axes in ((explanation.query_map, (2, 3)), (explanation.result_map, (0, 1))):
        assert places.shape == (2, 2)
        assert places.sum() == pytest.approx(expected, abs=1e-4)
        np.testing.assert_allclose(places, explanation.pairs.sum(axis=axes), atol=1e-12)
    return explanation


@pytest.fixture(scope="module")
def small():
    """An untrained encoder whose map has four places."""
    return build_encoder("VGG16Slim", weights=None, image_size=64)


# --- It adds up
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_pairs_of_places_add_up_to_the_cosine_for_every_backbone_and_pooling(name):
    encoder = build_encoder(name, weights=None, image_size=64)
    pooled = [layer()(encoder.layers[-1].input) for layer in LAYERS.values()]
    # Traced once, which takes seconds.
    together = keras.Model(encoder.input, keras.ops.concatenate(pooled, axis=1))
    vectors = np.split(embed_images(together, [photo(0), photo(1)]).astype(float), 3, axis=1)
    for output, pair in zip(pooled, vectors, strict=True):
        check(keras.Model(encoder.input, output), photo(0), photo(1), expected=angle(*pair))


@pytest.mark.parametrize("name", ["VGG16Slim", "MobileNetV2"])
def test_pairs_of_places_add_up_to_the_cosine_behind_a_head_too(name):
    classifier = small_classifier(name=name, size=64, dim=16)
    random = np.random.default_rng(0)
    for layer in classifier.layers:  # their biases are zero before training
        if isinstance(layer, (keras.layers.Dense, keras.layers.LayerNormalization)):
            layer.set_weights(
                [one + random.normal(size=one.shape) / 4 for one in layer.get_weights()]
            )
    encoder = embedding_encoder(classifier)
    assert (embed_images(encoder, [photo(0)]) == 0).any(), "some of the ReLU are meant to be closed"
    check(encoder, photo(0), photo(1))


def test_several_dense_layers_and_one_without_bias_or_activation_add_up(small):
    initializer = keras.initializers.RandomNormal(seed=0)
    x = keras.layers.Dense(20, "relu", bias_initializer=initializer)(small.output)
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(10, use_bias=False)(x))
    check(
        keras.Model(small.input, keras.layers.Dense(5, bias_initializer=initializer)(x)),
        photo(0),
        photo(1),
    )


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
    np.testing.assert_allclose(
        explanation.query_map, np.array([[9, 0, 0], [0, 0, 12]]) / 15 / np.sqrt(2), atol=1e-6
    )
    np.testing.assert_allclose(
        explanation.result_map, np.array([[12, 0, 0], [0, 9, 0]]) / 15 / np.sqrt(2), atol=1e-6
    )


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


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_photo_explained_with_itself_gives_one_and_the_same_both_ways(pooling):
    encoder = build_encoder("VGG16Slim", weights=None, image_size=64, pooling=pooling)
    explanation = check(encoder, photo(0), photo(0))
    assert explanation.score == pytest.approx(1, abs=1e-12)
    square = explanation.pairs.reshape(4, 4)
    np.testing.assert_allclose(square, square.T, atol=1e-6)  # two rows of a batch may be rounded
    forth, back = explain(encoder, photo(0), photo(1)), explain(encoder, photo(1), photo(0))
    np.testing.assert_allclose(forth.pairs, back.pairs.transpose(2, 3, 0, 1), atol=1e-6)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_zero_vector_is_at_cosine_zero_to_which_nothing_adds(pooling):
    nothing, something = np.zeros((4, 6, 3), np.uint8), photo(0, 4, 6)
    for pair in ((nothing, something), (something, nothing), (nothing, nothing)):
        explanation = explain(by_hand(pooling=pooling), *pair)
        assert explanation.score == 0
        np.testing.assert_array_equal(explanation.pairs, 0)


# --- Where things are
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", POOLINGS)
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


def test_a_bright_square_that_moves_takes_the_maximum_of_a_real_network_along():
    encoder = build_encoder("VGG16Slim", weights=None, image_size=64, pooling="avg")
    black = np.zeros((64, 64, 3), np.uint8)
    result = black.copy()
    result[4:28, 4:28] = 255
    for row in range(2):
        for column in range(2):
            query = black.copy()
            query[32 * row + 4 : 32 * row + 28, 32 * column + 4 : 32 * column + 28] = 255
            explanation = explain(encoder, query, result)
            assert np.unravel_index(explanation.query_map.argmax(), (2, 2)) == (row, column)
            assert np.unravel_index(explanation.result_map.argmax(), (2, 2)) == (0, 0)


# --- Photos of all kinds
# ----------------------------------------------------------------------------------------------


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


def test_letterbox_and_crop_are_not_the_same_as_resize(small):
    scores = {explain(small, photo(0, 40, 120), photo(1), fit=fit).score for fit in FITS}
    assert len(scores) == 3


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
# --------------------------------------------------------------------------------------------


def test_an_encoder_that_pools_nothing_or_does_more_than_add_is_refused_by_name(small):
    classifier = small_classifier(2, size=64)
    with pytest.raises(ValueError, match=r"vgg16_slim-classifier.*'rescaling\w*' is no sum over"):
        explain(classifier, photo(0), photo(1))
    features = small.layers[-1].input
    flat = keras.Model(small.input, keras.layers.Flatten()(features), name="flat")
    with pytest.raises(ValueError, match="flat pools nothing"):
        explain(flat, photo(0), photo(1))


@pytest.mark.parametrize(
    "last",
    [
        keras.layers.Dense(3, "sigmoid", name="last"),
        keras.layers.Dense(3, keras.layers.LeakyReLU(), name="last"),
        keras.layers.BatchNormalization(name="last"),
        lambda x: keras.layers.Add(name="last")([x, keras.layers.Dense(128)(x)]),
        lambda x: keras.layers.Concatenate(name="last")([x, keras.layers.Dense(2)(x)]),
    ],
)
def test_a_layer_behind_the_pooling_that_is_no_sum_is_named(small, last):
    model = keras.Model(small.input, last(small.output), name="odd")
    with pytest.raises(ValueError, match="odd cannot be explained: its layer 'last' is no sum"):
        explain(model, photo(0), photo(1))


@pytest.mark.parametrize(
    "last",
    [
        lambda x: x - 100,
        lambda x: x + keras.layers.Dense(128)(x),
        keras.ops.tanh,
        lambda x: x / (x + 1),
    ],
)
def test_a_calculation_behind_the_pooling_that_is_no_layer_is_not_passed_over(small, last):
    model = keras.Model(small.input, last(small.output), name="odd")
    with pytest.raises(ValueError, match="odd cannot be explained"):
        explain(model, photo(0), photo(1))


@pytest.mark.parametrize("after", ["", "block4_pool"])
def test_an_encoder_whose_layers_were_cut_in_halves_can_still_be_explained(after):
    classifier = small_classifier(2, size=64)
    encoder = embedding_encoder(classifier)
    before = explain(encoder, photo(0), photo(1))
    halves(classifier, after)
    np.testing.assert_array_equal(explain(encoder, photo(0), photo(1)).pairs, before.pairs)
    # As training does.
    dense = next(one for one in classifier.layers if isinstance(one, keras.layers.Dense))
    dense.kernel.assign(np.random.default_rng(0).normal(size=(128, 8)))
    after = check(embedding_encoder(classifier), photo(0), photo(1))
    assert abs(after.score - before.score) > 1e-3


def test_an_encoder_from_a_file_is_explained_as_the_one_that_was_saved(tmp_path):
    encoder = embedding_encoder(small_classifier(2, size=64))
    save_model(encoder, tmp_path / "encoder.keras", {})
    again, _ = load_model(tmp_path / "encoder.keras")
    one, other = write_photo(tmp_path / "a.png", 0), write_photo(tmp_path / "b.png", 1)
    np.testing.assert_allclose(
        explain(again, one, other).pairs, explain(encoder, one, other).pairs, atol=1e-6
    )
