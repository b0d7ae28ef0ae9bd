"""The rows of the table that need keras-hub; `make hub` runs these tests, and `make colab` with
Colab's release of it.

Networks are small ones of the same classes, saved to a folder as a preset and loaded from there.
"""

import subprocess
import sys

import keras
import nbformat
import numpy as np
import pytest

from conftest import PROJECT, skip_without
from lookalike.backbones import (
    BACKBONES,
    WeightsUnavailableError,
    build_encoder,
    inner_backbone,
    load_backbone,
)
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.explain import explain
from lookalike.saving import load_model, save_model
from lookalike.training import build_classifier, unfreeze
from test_backbones import RELOAD

pytestmark = pytest.mark.hub
HUB = ("SigLIP2", "DINOv2")
SIDE = 224


def network_of(name):
    """A network as the row has, but of few and short vectors, and of fewer blocks."""
    from keras_hub import models

    if name == "DINOv2":
        return models.DINOV2Backbone(
            56, 2, 32, 2, 64, image_shape=(280, 280, 3), position_embedding_shape=(280, 280)
        )
    tower = models.SigLIPVisionEncoder(56, 32, 11, 2, 64, image_shape=(SIDE, SIDE, 3))
    text = models.SigLIPTextEncoder(50, 32, 32, 1, 2, 64)
    return models.SigLIPBackbone(tower, text)


@pytest.fixture(scope="session")
def presets(tmp_path_factory):
    """Each row's small network: the network itself, and the folder of its preset."""
    folder = tmp_path_factory.mktemp("presets")
    found = {}
    for seed, name in enumerate(HUB):
        keras.utils.set_random_seed(seed)
        network = network_of(name)
        network.save_to_preset(str(folder / name))
        found[name] = network, folder / name
    return found


@pytest.fixture(params=HUB)
def name(request):
    return request.param


@pytest.fixture
def small(name, presets):
    return build_encoder(name, weights=presets[name][1])


def some_pixels(count=3):
    shape = (count, SIDE, SIDE, 3)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


def cosines(one, other):
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths


def test_a_preset_is_loaded_from_its_folder_and_fed_as_its_family_is(name, small, presets):
    network, _ = presets[name]
    pixels = some_pixels()
    if name == "SigLIP2":
        expected = network.vision_encoder({"images": pixels / 127.5 - 1})
    else:
        # At another size than it learnt from, whose places are interpolated.
        size = (SIDE, SIDE, 3)
        again = type(network).from_preset(str(presets[name][1]), image_shape=size)
        mean, spread = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        expected = again({"images": (pixels / 255 - mean) / spread})[:, 0]
    np.testing.assert_allclose(small.predict(pixels, verbose=0), expected, rtol=1e-4, atol=1e-4)
    assert small.trainable_weights == []


def test_saved_and_reloaded_in_a_new_process_they_give_the_same_vectors(presets, tmp_path):
    encoders = {name: build_encoder(name, weights=presets[name][1]) for name in sorted(HUB)}
    pixels = some_pixels()
    np.save(tmp_path / "pixels.npy", pixels)
    for name, encoder in encoders.items():
        encoder.save(tmp_path / f"{name}.keras")
    process = subprocess.run(
        [sys.executable, "-c", RELOAD], capture_output=True, text=True, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [encoder_fingerprint(one) for one in encoders.values()]
    for name, encoder in encoders.items():
        expected = encoder(pixels).numpy()
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, atol=1e-5)


def test_half_precision_changes_little_and_is_saved_in_float32(name, small, presets, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = build_encoder(name, weights=presets[name][1])
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in inner_backbone(half).layers[1:-1]} == {"bfloat16"}
    pixels = some_pixels()
    exact = small.predict(pixels, verbose=0)
    assert cosines(half.predict(pixels, verbose=0).astype(np.float32), exact).min() > 0.999
    assert encoder_fingerprint(half) == encoder_fingerprint(small)
    save_model(half, tmp_path / "half.keras", {})
    loaded, _ = load_model(tmp_path / "half.keras")
    np.testing.assert_allclose(loaded.predict(pixels, verbose=0), exact, rtol=1e-4, atol=1e-4)


def test_fine_tuning_begins_where_the_row_says_and_leaves_the_rest(name, presets):
    row = BACKBONES[name]
    base, preprocess = load_backbone(name, presets[name][1])
    classifier = build_classifier(base, preprocess, 3, dim=8)
    pixels = some_pixels(4)
    fed = preprocess(pixels.copy())
    expected = base(fed).numpy()
    # Cut in two, as 03 does where there is no GPU.
    middle = base.get_layer(row.unfreeze_after).output
    lower, upper = keras.Model(base.input, middle), keras.Model(middle, base.output)
    np.testing.assert_allclose(upper(lower(fed)), expected, atol=1e-5)
    unfreeze(base, row.unfreeze_after)
    cut = [layer.name for layer in base.layers].index(row.unfreeze_after) + 1
    before = [[weight.numpy() for weight in layer.weights] for layer in base.layers]
    classifier.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    classifier.train_on_batch(pixels, np.array([0, 1, 2, 0]))
    changed = [
        any(not np.array_equal(weight, was) for weight, was in zip(layer.weights, old, strict=True))
        for layer, old in zip(base.layers, before, strict=True)
    ]
    assert not any(changed[:cut])
    assert any(changed[cut:])


def test_there_is_nothing_to_explain_in_a_single_vector_and_a_sentence_says_so(small):
    photo = some_pixels(1)[0].astype(np.uint8)
    with pytest.raises(ValueError, match="looks at a photo as a whole"):
        explain(small, photo, photo)


@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx", "openvino"])
def test_an_export_agrees_or_a_sentence_says_why_there_is_none(name, small, format, tmp_path):
    from lookalike.export import export_model, open_export

    engines = {"litert": ["ai_edge_litert"], "onnx": ["tf2onnx", "onnxruntime"]}
    skip_without(*engines.get(format, [format] * (format == "openvino")))
    if format == "onnx" and not BACKBONES[name].onnx:
        with pytest.raises(ValueError, match="does not run as onnx; take another format"):
            export_model(small, tmp_path / format, format)
        return
    pixels = some_pixels()
    run = open_export(export_model(small, tmp_path / format, format))
    assert cosines(run(pixels), small.predict(pixels, verbose=0)).min() >= 0.9999


def test_a_photo_size_that_the_preset_does_not_take_is_refused(presets):
    with pytest.raises(ValueError, match="takes photos of 224 pixels, not 96"):
        build_encoder("SigLIP2", weights=presets["SigLIP2"][1], image_size=96)
    assert build_encoder("DINOv2", weights=presets["DINOv2"][1], image_size=112)


def test_unreachable_presets_say_what_failed_and_what_to_do(name, monkeypatch, tmp_path):
    """The real kagglehub client, towards a port where nobody listens."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsUnavailableError, match=rf"{name} are in no cache.*VGG16Slim"):
        build_encoder(name)


@pytest.mark.parametrize("name", HUB[:1])
def test_the_series_runs_with_a_row_of_keras_hub(name, presets, tmp_path):
    settings = {"source": "sample", "backbone": name, "weights": presets[name][1]}
    settings["root"] = tmp_path / "root"
    given = [part for pair in settings.items() for part in ("--set", "{}={}".format(*pair))]
    # Not 03, which builds the network in its full size.
    numbers = ["00", "01", "02", "04", "05"]
    command = [sys.executable, "notebooks/run.py", *given, "--output", str(tmp_path), *numbers]
    process = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    for path in sorted(tmp_path.glob("*.ipynb")):
        cells = nbformat.read(path, 4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        assert not [output for output in outputs if output.get("name") == "stderr"]
