import functools
import importlib.util
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import keras
import numpy as np
import pytest

from conftest import ROWS
from lookalike import backbones
from lookalike.backbones import (
    BACKBONES,
    WeightsUnavailableError,
    build_encoder,
    choose_backbone,
    inner_backbone,
    load_backbone,
)
from lookalike.embeddings import embed_images
from lookalike.encoder_fingerprint import describe_encoder, encoder_fingerprint
from lookalike.evaluation import precision_at_k, rank
from lookalike.sources import load_catalog
from lookalike.vgg16_slim import slim_weights, vgg16_slim


@pytest.mark.parametrize("name", ROWS)
def test_every_row_builds_an_encoder_with_its_own_preprocessing_inside(name):
    encoder = build_encoder(name, weights=None, image_size=64)
    assert encoder.input_shape == (None, 64, 64, 3)
    row = BACKBONES[name]
    assert encoder.output_shape == (None, row.dim)
    assert encoder.count_params() * 4 / 1e6 == pytest.approx(row.megabytes, abs=1)
    assert encoder.trainable_weights == []
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    before = pixels.copy()
    vectors = encoder(pixels).numpy()
    np.testing.assert_array_equal(pixels, before)
    backbone = encoder.layers[-2]
    assert row.unfreeze_after in [layer.name for layer in backbone.layers]
    places = backbone(row.preprocess(pixels.copy()), training=False).numpy()
    if row.pooling == "gem":
        places = np.maximum(places, 1e-6) ** 3
    expected = places.mean(axis=(1, 2))
    expected = np.cbrt(expected) if row.pooling == "gem" else expected
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert vectors.dtype == np.float32


# Black, grey and white, as the family documents them; the others are scaled inside.
CAFFE = [[-103.939, -116.779, -123.68], [23.561, 10.721, 3.82], [151.061, 138.221, 131.32]]
TORCH = [[-2.1179, -2.0357, -1.8044], [0.0655, 0.1964, 0.4178], [2.2489, 2.4286, 2.64]]
ENDS = [[-1.0] * 3, [0.0] * 3, [1.0] * 3]
FED = {"VGG16": CAFFE, "ResNet50": CAFFE, "VGG16Slim": CAFFE, "MobileNetV2": ENDS}
# (x - 128) / 128, as its Rescaling has it; by the mean and spread of ImageNet.
FED |= {"EfficientNetV2S": [[-1.0] * 3, [-0.0039] * 3, [0.9922] * 3], "ConvNeXtTiny": TORCH}
FED |= {"EfficientNetV2B0": TORCH}
FED |= {"SigLIP2": ENDS, "DINOv2": TORCH}
SCALING = (keras.layers.Rescaling, keras.layers.Normalization)


@pytest.mark.parametrize("name", BACKBONES)
def test_black_grey_and_white_become_what_the_family_documents(name):
    pixels = np.zeros((1, 64, 64, 3), np.float32)
    pixels[0, 0, :3] = [[0], [127.5], [255]]
    found = BACKBONES[name].preprocess(keras.ops.convert_to_tensor(pixels))
    if name in ROWS:
        base, _ = load_backbone(name, None, image_size=64)
        for layer in base.layers:
            if isinstance(layer, SCALING):
                found = layer(found)
    np.testing.assert_allclose(found[0, 0, :3], FED[name], atol=1e-3)


@pytest.mark.parametrize("name", ["SigLIP2", "DINOv2"])
def test_without_keras_hub_a_row_that_needs_it_is_a_sentence(name):
    if importlib.util.find_spec("keras_hub"):
        pytest.skip("keras-hub is installed here")
    with pytest.raises(ImportError, match="keras-hub not installed; run: pip install keras-hub"):
        build_encoder(name)


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


def test_the_bundled_weights_are_loaded(monkeypatch, tmp_path):
    bundled = build_encoder("VGG16Slim")
    assert bundled.name == "VGG16Slim-gem"
    assert encoder_fingerprint(bundled) == encoder_fingerprint(
        build_encoder("VGG16Slim", weights=slim_weights())
    )
    missing = tmp_path / "missing.weights.h5"
    monkeypatch.setattr("lookalike.vgg16_slim.slim_weights", lambda: missing)
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
        scores.append(precision_at_k(rank(vectors, catalog, 5).relevant, 5).mean())
    assert scores[0] > scores[1] + 0.1


def test_a_local_weights_file_is_loaded(tmp_path):
    trained = build_encoder("VGG16Slim", weights=None, image_size=32, seed=5)
    file = tmp_path / "slim.weights.h5"
    trained.layers[-2].save_weights(file)
    loaded = build_encoder("VGG16Slim", weights=file, image_size=32)
    assert encoder_fingerprint(loaded) == encoder_fingerprint(trained)
    assert "untrained" not in loaded.name


def test_the_fingerprint_changes_with_whatever_changes_the_output():
    base = encoder_fingerprint(build_encoder("MobileNetV2-0.35", weights=None, image_size=32))
    changed = [
        build_encoder("MobileNetV2-0.35", weights=None, image_size=64),
        build_encoder("MobileNetV2-0.35", weights=None, image_size=32, pooling="max"),
        build_encoder("MobileNetV2-0.5", weights=None, image_size=32),
        build_encoder("MobileNetV2-0.35", weights=None, image_size=32, seed=1),
    ]
    image = keras.Input((32, 32, 3))
    body = build_encoder("MobileNetV2-0.35", weights=None, image_size=32).layers[-2]
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
    encoders = {name: build_encoder(name, weights=None, image_size=64) for name in sorted(ROWS)}
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
    (tmp_path / "served.h5").write_bytes(b"weights")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        for name, told in {"served": "can be downloaded", "gone": "cannot be reached"}.items():
            address = f"http://127.0.0.1:{server.server_port}/{name}.h5"
            monkeypatch.setattr(backbones, "VGG16_ADDRESS", address)
            assert told in choose_backbone("auto").reason
        server.shutdown()
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
    with pytest.raises(ValueError, match=r"Unknown backbone 'VGG16Slim-0\.5'"):
        build_encoder("VGG16Slim-0.5", weights=None)
    with pytest.raises(FileNotFoundError, match=r"No weights at .*missing\.h5"):
        build_encoder("VGG16Slim", weights=tmp_path / "missing.h5")
    with pytest.raises(FileNotFoundError, match="imagenet"):
        build_encoder("VGG16Slim", weights="imagenet")
    (tmp_path / "wrong.weights.h5").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"wrong\.weights\.h5 do not fit VGG16Slim"):
        build_encoder("VGG16Slim", weights=tmp_path / "wrong.weights.h5")


def test_a_width_may_be_part_of_the_name():
    named = build_encoder("MobileNetV2-0.35", weights=None, image_size=32)
    assert named.name == "MobileNetV2-0.35-gem-untrained"
    whole = build_encoder("MobileNetV2", weights=None, image_size=32)
    assert named.count_params() < whole.count_params() / 4
    assert choose_backbone("MobileNetV2-0.35").value == "MobileNetV2-0.35"
    for odd in ("MobileNetV2-wide", "MobileNetV7-0.35", "ResNet50-0.5"):
        with pytest.raises(ValueError, match=f"Unknown backbone '{odd}'"):
            choose_backbone(odd)


@pytest.mark.filterwarnings("ignore:Skipping")  # Keras tells of each layer
def test_weights_of_another_width_are_refused_in_a_few_lines_that_tell_of_its_name(tmp_path):
    narrow = build_encoder("MobileNetV2-0.35", weights=None)
    inner_backbone(narrow).save_weights(tmp_path / "narrow.weights.h5")
    with pytest.raises(
        ValueError, match=r"narrow\.weights\.h5 do not fit MobileNetV2: .*MobileNetV2-0\.35"
    ) as refused:
        build_encoder("MobileNetV2", weights=tmp_path / "narrow.weights.h5")
    assert len(str(refused.value)) < 600 + len(str(tmp_path))
