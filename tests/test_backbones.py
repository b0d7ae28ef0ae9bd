import subprocess
import sys

import keras
import numpy as np
import pytest

from conftest import quick
from lookalike import backbones
from lookalike.backbones import (
    BACKBONES,
    WeightsUnavailableError,
    build_classifier,
    build_encoder,
    choose_backbone,
    embedding_encoder,
    frozen_and_trainable,
    inner_backbone,
)
from lookalike.embeddings import embed_images
from lookalike.encoder_fingerprint import describe_encoder, encoder_fingerprint
from lookalike.evaluation import evaluate
from lookalike.rankings import rank
from lookalike.sources import load_catalog
from lookalike.vgg16_slim import slim_weights, vgg16_slim

DIMS = {
    "VGG16": 512,
    "ResNet50": 2048,
    "MobileNetV2": 1280,
    "EfficientNetV2B0": 1280,
    "VGG16Slim": 128,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_row_builds_an_encoder_with_its_own_preprocessing_inside(name):
    encoder = build_encoder(name, weights=None, image_size=64)
    assert encoder.input_shape == (None, 64, 64, 3)
    assert encoder.output_shape == (None, DIMS[name])
    assert encoder.trainable_weights == []
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    before = pixels.copy()
    vectors = encoder(pixels).numpy()
    np.testing.assert_array_equal(pixels, before)
    backbone = encoder.layers[-2]
    places = backbone(BACKBONES[name].preprocess(pixels.copy()), training=False).numpy()
    expected = np.cbrt((np.maximum(places, 1e-6) ** 3).mean(axis=(1, 2)))
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert vectors.dtype == np.float32


def test_vgg16_slim_is_vgg16_at_a_quarter_of_its_width():
    slim, full = (
        vgg16_slim(),
        keras.applications.VGG16(include_top=False, weights=None, input_shape=(128, 128, 3)),
    )
    assert [layer.name for layer in slim.layers[1:]] == [layer.name for layer in full.layers[1:]]
    for ours, theirs in zip(slim.layers[1:], full.layers[1:], strict=True):
        if "conv" in ours.name:
            assert ours.filters * 4 == theirs.filters
            assert (ours.kernel_size, ours.padding) == (theirs.kernel_size, theirs.padding)
    with pytest.raises(ValueError, match="no classifier"):
        vgg16_slim(include_top=True)


def test_pooling_max_takes_the_largest():
    encoder = build_encoder("VGG16Slim", weights=None, image_size=64, pooling="max")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    places = encoder.layers[-2](BACKBONES["VGG16Slim"].preprocess(pixels.copy())).numpy()
    np.testing.assert_allclose(encoder(pixels).numpy(), places.max(axis=(1, 2)), rtol=1e-5)


def test_untrained_weights_follow_the_seed_and_the_name_says_so():
    one, same, other = (
        build_encoder("VGG16Slim", weights=None, image_size=32, seed=seed) for seed in (1, 1, 2)
    )
    assert encoder_fingerprint(one) == encoder_fingerprint(same) != encoder_fingerprint(other)
    assert "untrained" in one.name


def test_the_bundled_weights_are_loaded_and_a_changed_file_is_refused(monkeypatch, tmp_path):
    bundled = build_encoder("VGG16Slim")
    assert bundled.name == "VGG16Slim-gem"
    assert encoder_fingerprint(bundled) == encoder_fingerprint(
        build_encoder("VGG16Slim", weights=slim_weights())
    )
    content = bytearray(slim_weights().read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.weights.h5").write_bytes(content)
    monkeypatch.setattr(backbones, "slim_weights", lambda: tmp_path / "changed.weights.h5")
    with pytest.raises(ValueError, match=r"changed\.weights\.h5 is not the bundled file"):
        build_encoder("VGG16Slim")
    monkeypatch.setattr(backbones, "slim_weights", lambda: tmp_path / "missing.weights.h5")
    with pytest.raises(FileNotFoundError, match=r"missing\.weights\.h5"):
        build_encoder("VGG16Slim")


def test_the_bundled_network_sees_more_than_an_untrained_one():
    catalog, _ = load_catalog("sample")
    catalog = catalog[catalog["image_id"].str.endswith("-0.jpg")]
    scores = []
    for weights in ("auto", None):
        vectors = embed_images(
            build_encoder("VGG16Slim", weights=weights), catalog["path"].tolist()
        )
        scores.append(evaluate(rank(vectors, catalog, 5), (5,)).loc[5, "Precision@k"])
    assert scores[0] > scores[1] + 0.1


def test_a_local_weights_file_is_loaded(tmp_path):
    trained = build_encoder("VGG16Slim", weights=None, image_size=32, seed=5)
    file = tmp_path / "slim.weights.h5"
    trained.layers[-2].save_weights(file)
    loaded = build_encoder("VGG16Slim", weights=file, image_size=32)
    assert encoder_fingerprint(loaded) == encoder_fingerprint(trained)
    assert "untrained" not in loaded.name


def test_the_fingerprint_changes_with_whatever_changes_the_output():
    base = encoder_fingerprint(
        build_encoder("MobileNetV2", weights=None, alpha=0.35, image_size=32)
    )
    changed = [
        build_encoder("MobileNetV2", weights=None, alpha=0.35, image_size=64),
        build_encoder("MobileNetV2", weights=None, alpha=0.35, image_size=32, pooling="max"),
        build_encoder("MobileNetV2", weights=None, alpha=0.5, image_size=32),
        build_encoder("MobileNetV2", weights=None, alpha=0.35, image_size=32, seed=1),
    ]
    image = keras.Input((32, 32, 3))
    body = build_encoder("MobileNetV2", weights=None, alpha=0.35, image_size=32).layers[-2]
    fronts = [
        keras.layers.Rescaling(1 / 128)(image),
        keras.layers.Rescaling(1 / 255)(image),
        image[..., ::-1],
        image[..., ::1],
        keras.ops.clip(image, 0, 1),
        keras.ops.clip(image, 0, 200),
        keras.ops.subtract(image, keras.ops.flip(image)),
        keras.ops.subtract(keras.ops.flip(image), image),
    ]
    for front in fronts:
        changed.append(keras.Model(image, keras.layers.GlobalAveragePooling2D()(body(front))))
    assert len({base, *map(encoder_fingerprint, changed)}) == 1 + len(changed)


RELOAD = """
import sys
from pathlib import Path
import keras, numpy as np
from lookalike import pooling  # its layer registers itself
from lookalike.encoder_fingerprint import describe_encoder
pixels = np.load("pixels.npy")
for file in sorted(Path().glob("*.keras")):
    encoder = keras.models.load_model(file, safe_mode=True)
    np.save(file.with_suffix(".npy"), encoder(pixels).numpy())
    print(describe_encoder(encoder))
"""


def test_saved_and_reloaded_in_a_new_process_they_give_the_same_vectors(tmp_path):
    encoders = {
        name: build_encoder(name, weights=None, image_size=64) for name in sorted(BACKBONES)
    }
    for name, encoder in encoders.items():
        encoder.save(tmp_path / f"{name}.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    process = subprocess.run(
        [sys.executable, "-c", RELOAD], capture_output=True, text=True, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [
        describe_encoder(encoder) for encoder in encoders.values()
    ]
    for name, encoder in encoders.items():
        expected = encoder(pixels).numpy()
        found = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_unreachable_weights_say_what_failed_and_what_to_do(monkeypatch, tmp_path):
    """The real Keras download, against an address where nobody listens."""
    from keras.src.applications import vgg16

    monkeypatch.setattr(vgg16, "WEIGHTS_PATH_NO_TOP", "http://127.0.0.1:9/vgg16_notop.h5")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(
        WeightsUnavailableError,
        match=r"VGG16 .*127\.0\.0\.1.*weights='path/to/file\.h5'.*VGG16Slim",
    ):
        build_encoder("VGG16")


def test_auto_takes_vgg16_where_it_can_be_had_and_says_why(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(backbones, "VGG16_ADDRESS", "http://127.0.0.1:9/vgg16.h5")
    without = choose_backbone("auto")
    assert without.value == "VGG16Slim"
    assert "cannot be reached" in without.reason
    monkeypatch.setattr(backbones, "VGG16_ADDRESS", (tmp_path / "served.h5").as_uri())
    (tmp_path / "served.h5").write_bytes(b"weights")
    assert "can be downloaded" in choose_backbone("auto").reason
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / backbones.VGG16_WEIGHTS).write_bytes(b"weights")
    assert (choose_backbone("auto").value, "cache" in choose_backbone("auto").reason) == (
        "VGG16",
        True,
    )
    assert choose_backbone("ResNet50").value == "ResNet50"


def test_misuse_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown backbone 'VGG19'.*VGG16, ResNet50"):
        build_encoder("VGG19")
    with pytest.raises(ValueError, match="Unknown backbone"):
        choose_backbone("VGG19")
    with pytest.raises(ValueError, match="avg, max"):
        build_encoder("VGG16Slim", weights=None, pooling="sum")
    with pytest.raises(ValueError, match="alpha belongs to MobileNetV2"):
        build_encoder("VGG16Slim", weights=None, alpha=0.5)
    with pytest.raises(FileNotFoundError, match=r"No weights file at .*missing\.h5"):
        build_encoder("VGG16Slim", weights=tmp_path / "missing.h5")
    with pytest.raises(FileNotFoundError, match="imagenet"):
        build_encoder("VGG16Slim", weights="imagenet")
    (tmp_path / "wrong.weights.h5").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"wrong\.weights\.h5 do not fit VGG16Slim"):
        build_encoder("VGG16Slim", weights=tmp_path / "wrong.weights.h5")


@pytest.mark.filterwarnings("ignore:Skipping")  # Keras tells of each layer
def test_a_width_may_be_part_of_the_name():
    named = build_encoder("MobileNetV2-0.35", weights=None, image_size=32)
    told = build_encoder("MobileNetV2", alpha=0.35, weights=None, image_size=32)
    assert named.name == told.name == "MobileNetV2-0.35-gem-untrained"
    assert encoder_fingerprint(named) == encoder_fingerprint(told)
    assert choose_backbone("MobileNetV2-0.35").value == "MobileNetV2-0.35"
    with pytest.raises(ValueError, match="names its width"):
        build_encoder("MobileNetV2-0.35", alpha=0.5, weights=None)
    for odd in ("MobileNetV2-wide", "MobileNetV7-0.35"):
        with pytest.raises(ValueError, match="Unknown backbone 'MobileNetV"):
            choose_backbone(odd)


def test_weights_of_another_width_are_refused_in_a_few_lines_that_tell_of_alpha(tmp_path):
    narrow = build_encoder("MobileNetV2", weights=None, alpha=0.35)
    inner_backbone(narrow).save_weights(tmp_path / "narrow.weights.h5")
    with pytest.raises(
        ValueError, match=r"narrow\.weights\.h5 do not fit MobileNetV2: .*MobileNetV2-0\.35"
    ) as refused:
        build_encoder("MobileNetV2", weights=tmp_path / "narrow.weights.h5")
    assert len(str(refused.value)) < 600 + len(str(tmp_path))


# --- Classifiers
# ---------------------------------------------------------------------------------------------------


def some_pixels(count, size=32):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.float32)


def test_a_classifier_is_an_encoder_with_a_head_of_three_layers(encoder):
    classifier = build_classifier(encoder, 3)
    assert classifier.name == "VGG16Slim-gem-untrained-classifier"
    assert [layer.name for layer in classifier.layers[-4:]] == [
        "pooling",
        "dropout",
        "embedding",
        "label",
    ]
    assert classifier.layers[: len(encoder.layers)] == encoder.layers
    embedding, label = classifier.layers[-2:]
    assert (embedding.units, embedding.activation) == (256, keras.activations.relu)
    assert (label.units, label.activation) == (3, keras.activations.softmax)
    assert classifier.get_layer("dropout").rate == 0.5
    assert build_classifier(encoder, 3, dim=8).get_layer("embedding").units == 8
    assert build_classifier(encoder, 3, dropout=0.1).get_layer("dropout").rate == 0.1
    assert [weight.path for weight in classifier.trainable_weights] == [
        "embedding/kernel",
        "embedding/bias",
        "label/kernel",
        "label/bias",
    ]
    probabilities = classifier(some_pixels(5)).numpy()
    assert probabilities.shape == (5, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("n_labels", [0, 1])
def test_a_classifier_of_fewer_than_two_labels_is_refused(encoder, n_labels):
    with pytest.raises(
        ValueError, match=f"two labels at least, not {n_labels}; add photos of another kind"
    ):
        build_classifier(encoder, n_labels)


def test_the_head_follows_the_seed(encoder):
    one, same, other = (build_classifier(encoder, 3, seed=seed) for seed in (1, 1, 2))
    for layer in ("embedding", "label"):
        kernels = [classifier.get_layer(layer).kernel.numpy() for classifier in (one, same, other)]
        np.testing.assert_array_equal(kernels[0], kernels[1])
        assert (kernels[0] != kernels[2]).any()


def test_the_encoder_of_a_classifier_gives_what_its_layer_embedding_does(encoder):
    classifier = build_classifier(encoder, 3)
    trained = embedding_encoder(classifier)
    assert trained.name == "VGG16Slim-gem-untrained-trained"
    assert (trained.input_shape, trained.output_shape) == (classifier.input_shape, (None, 256))
    pixels = some_pixels(5)
    embedding = classifier.get_layer("embedding")
    by_hand = np.maximum(
        encoder(pixels).numpy() @ embedding.kernel.numpy() + embedding.bias.numpy(), 0
    )
    vectors = trained(pixels).numpy()
    np.testing.assert_allclose(vectors, by_hand, rtol=1e-4, atol=1e-4)
    assert (vectors > 0).any()
    np.testing.assert_array_equal(classifier.get_layer("label")(vectors), classifier(pixels))
    embedding.bias.assign_add(np.ones(256))  # its weights are the classifier's own
    np.testing.assert_allclose(
        trained(pixels), np.maximum(by_hand + (vectors > 0), trained(pixels)), rtol=1e-4
    )


# --- Two halves
# ----------------------------------------------------------------------------------------------------


def same_weights(weights, expected):
    return {id(weight) for weight in weights} == {id(weight) for weight in expected}


@pytest.mark.parametrize("name", quick(BACKBONES, "VGG16Slim", "MobileNetV2"))
def test_two_halves_are_the_whole_and_what_the_upper_one_learns_the_whole_knows(name, tmp_path):
    options = {"alpha": 0.35} if name == "MobileNetV2" else {}
    classifier = build_classifier(
        build_encoder(name, weights=None, image_size=64, **options), 3, dim=16
    )
    backbone = next(layer for layer in classifier.layers if isinstance(layer, keras.Model))
    classifier.save(tmp_path / "classifier.keras")
    # So pale that the softmax of an untrained network is not saturated.
    pixels = 110 + some_pixels(4, 64) / 20
    expected = classifier(pixels).numpy()
    names = [layer.name for layer in backbone.layers]
    of_head = [weight for layer in classifier.layers[-2:] for weight in layer.weights]
    for cut, behind in (
        ("", []),
        ("auto", backbone.layers[names.index(BACKBONES[name].unfreeze_after) + 1 :]),
    ):
        lower, upper = frozen_and_trainable(classifier, cut)
        np.testing.assert_allclose(upper(lower(pixels)), expected, atol=1e-5)
        behind = [
            layer for layer in behind if not isinstance(layer, keras.layers.BatchNormalization)
        ]
        learned = [weight for layer in behind for weight in layer.weights]
        assert lower.trainable_weights == []
        assert same_weights(upper.trainable_weights, [*learned, *of_head])
        assert same_weights(classifier.trainable_weights, [*learned, *of_head])
        assert bool(learned) == bool(cut)

    lower, upper = frozen_and_trainable(
        keras.models.load_model(tmp_path / "classifier.keras", safe_mode=True), "auto"
    )
    np.testing.assert_allclose(upper(lower(pixels)), expected, atol=1e-5)
    assert len(upper.trainable_weights) == len(learned) + 4
    assert lower.trainable_weights == []

    lower, upper = frozen_and_trainable(classifier, "auto")
    before = {weight.path: weight.numpy() for weight in backbone.weights}
    assert any("moving" in path for path in before) == (name not in ("VGG16", "VGG16Slim"))
    upper.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy", run_eagerly=True)
    features = lower(pixels).numpy()
    for _ in range(2):
        upper.train_on_batch(features, np.eye(3)[[0, 1, 2, 0]])
    changed = {
        weight.path for weight in backbone.weights if (weight.numpy() != before[weight.path]).any()
    }
    assert changed
    assert changed <= {weight.path for weight in learned}
    whole = classifier(pixels).numpy()
    assert np.abs(whole - expected).max() > 1e-5
    np.testing.assert_allclose(upper(lower(pixels)), whole, atol=1e-5)


def test_a_cut_is_made_behind_any_layer_by_its_name():
    classifier = build_classifier(build_encoder("VGG16Slim", weights=None, image_size=32), 2)
    pixels = some_pixels(2)
    for cut, count in (
        ("block1_pool", 26 - 4 + 4),
        ("block5_conv2", 2 + 4),
        ("", 4),
        ("pixels", 26 + 4),
    ):
        lower, upper = frozen_and_trainable(classifier, cut)
        assert len(upper.trainable_weights) == len(classifier.trainable_weights) == count
        np.testing.assert_allclose(upper(lower(pixels)), classifier(pixels), atol=1e-5)


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(encoder):
    with pytest.raises(
        ValueError, match=r"vgg16_slim has no layer 'block9_pool'; it has pixels, block1_conv1.*"
    ):
        frozen_and_trainable(build_classifier(encoder, 2), "block9_pool")


def test_a_layer_beside_which_others_pass_is_refused_in_words():
    """Behind a layer inside a residual block there is no clean cut, nor behind the last one."""
    network = build_encoder("MobileNetV2", weights=None, alpha=0.35, image_size=32)
    for cut in ("block_5_depthwise", "out_relu"):
        with pytest.raises(ValueError, match=f"cut.*{cut}"):
            frozen_and_trainable(build_classifier(network, 2), cut)


def test_a_classifier_without_a_backbone_of_the_table_is_refused():
    image = keras.Input((32, 32, 3))
    flat = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    with pytest.raises(ValueError, match="backbone"):
        frozen_and_trainable(build_classifier(flat, 2))
