import functools
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import keras
import numpy as np
import pytest

from conftest import PROJECT, ROWS
from lookalike import backbones
from lookalike.backbones import (
    BACKBONES,
    WeightsUnavailableError,
    build_encoder,
    choose_backbone,
    inner_backbone,
    load_backbone,
)
from lookalike.encoder_fingerprint import encoder_fingerprint


@pytest.mark.parametrize("name", ROWS)
def test_every_row_builds_an_encoder_with_its_own_preprocessing_inside(name):
    encoder = build_encoder(name, weights=None, image_size=64)
    assert encoder.input_shape == (None, 64, 64, 3)
    row = BACKBONES[name]
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


def test_the_bundled_weights_are_loaded():
    file = PROJECT / "models" / "vgg16_slim.weights.h5"
    bundled = build_encoder("VGG16Slim")
    assert bundled.name == "VGG16Slim-gem"
    expected = build_encoder("VGG16Slim", weights=file)
    assert encoder_fingerprint(bundled) == encoder_fingerprint(expected)


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
        keras.ops.clip(image, 0, 1),
        keras.ops.clip(image, 0, 200),
    ]
    for front in fronts:
        changed.append(keras.Model(image, keras.layers.GlobalAveragePooling2D()(body(front))))
    assert len({base, *map(encoder_fingerprint, changed)}) == 1 + len(changed)


RELOAD = """
import sys
from pathlib import Path
import keras, numpy as np
from lookalike import pooling  # its layer registers itself
from lookalike.encoder_fingerprint import encoder_fingerprint
pixels = np.load("pixels.npy")
for file in sorted(Path().glob("*.keras")):
    encoder = keras.models.load_model(file, safe_mode=True)
    np.save(file.with_suffix(".npy"), encoder(pixels).numpy())
    print(encoder_fingerprint(encoder))
"""


# One of each way to preprocess and to pool.
SAVED = ("EfficientNetV2B0", "MobileNetV2-0.35", "VGG16Slim")


def test_saved_and_reloaded_in_a_new_process_they_give_the_same_vectors(tmp_path):
    encoders = {name: build_encoder(name, weights=None, image_size=64) for name in SAVED}
    for name, encoder in encoders.items():
        encoder.save(tmp_path / f"{name}.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    process = subprocess.run(
        [sys.executable, "-c", RELOAD], capture_output=True, text=True, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [
        encoder_fingerprint(encoder) for encoder in encoders.values()
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
    cached = choose_backbone("auto")
    assert cached.value == "VGG16"
    assert "cache" in cached.reason
    assert choose_backbone("ResNet50").value == "ResNet50"


@pytest.mark.parametrize("odd", ["VGG19", "VGG16Slim-0.5", "MobileNetV2-wide"])
def test_an_unknown_name_is_told_with_those_there_are(odd):
    for function in (build_encoder, choose_backbone):
        with pytest.raises(ValueError, match=rf"Unknown backbone '{odd}'.*VGG16, ResNet50"):
            function(odd)


def test_weights_that_are_missing_or_do_not_fit_are_told(tmp_path):
    with pytest.raises(ValueError, match="avg, max"):
        build_encoder("VGG16Slim", weights=None, pooling="sum")
    with pytest.raises(FileNotFoundError, match=r"No weights at .*missing\.h5"):
        build_encoder("VGG16Slim", weights=tmp_path / "missing.h5")
    (tmp_path / "wrong.weights.h5").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"wrong\.weights\.h5 do not fit VGG16Slim"):
        build_encoder("VGG16Slim", weights=tmp_path / "wrong.weights.h5")


@pytest.mark.filterwarnings("ignore:Skipping")  # Keras tells of each layer
def test_weights_of_another_width_are_refused_in_a_few_lines_that_tell_of_its_name(tmp_path):
    file = tmp_path / "narrow.weights.h5"
    narrow = build_encoder("MobileNetV2-0.35", weights=None)
    inner_backbone(narrow).save_weights(file)
    told = r"narrow\.weights\.h5 do not fit MobileNetV2: .*MobileNetV2-0\.35"
    with pytest.raises(ValueError, match=told) as refused:
        build_encoder("MobileNetV2", weights=file)
    assert len(str(refused.value)) < 600 + len(str(tmp_path))
