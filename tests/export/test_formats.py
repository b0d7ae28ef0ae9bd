import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest

from conftest import EXTRAS, skip_without, small_classifier
from lookalike.backbones import BACKBONES, build_encoder, inner_backbone
from lookalike.embeddings import compile_encoder
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.evaluation import overlap_at_k, rank
from lookalike.export import compare_exports, export_model, open_export, read_card
from lookalike.export.formats import FORMATS
from lookalike.images import load_image
from lookalike.similarity import exact_scores
from lookalike.sources import load_catalog

skip_without(*EXTRAS["09_export"])

FLOAT32 = ("saved_model", "litert", "onnx", "openvino")
SIZE = 32
EACH = pytest.mark.parametrize("format", FORMATS)
cosines = partial(exact_scores, metric="cosine")


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample")[0]


def photos_of(catalog, size):
    return np.stack([load_image(path, size) for path in catalog["path"]])


@pytest.fixture(scope="module")
def slim():
    return build_encoder("VGG16Slim", image_size=SIZE)


@pytest.fixture(scope="module")
def pixels(sample):
    return photos_of(sample.iloc[::9], SIZE)  # 43 of all kinds


@pytest.fixture(scope="module")
def exports(slim, pixels, tmp_path_factory):
    """An export in each format, in a folder with a space and an umlaut."""
    folder = tmp_path_factory.mktemp("exports") / "Kopien für alle"
    return {
        format: export_model(slim, folder / format, format, photos=pixels) for format in FORMATS
    }


def names_in(folder):
    """What lies in a folder, but for the lock of who writes there."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def normalize_as_trained(encoder, pixels):
    """Give an untrained network the means and variances of its layers, without which its numbers
    fade to 1e-11.
    """
    backbone = inner_backbone(encoder)
    norms = [layer for layer in backbone.layers if hasattr(layer, "moving_mean")]
    for layer in norms:
        layer.momentum, layer.trainable = 0.0, True
    before = keras.Model(encoder.input, encoder.layers[-3].output)
    backbone(before(pixels.astype(np.float32)), training=True)
    for layer in norms:
        layer.trainable = False


@pytest.mark.parametrize("format", FLOAT32)
def test_a_float32_export_finds_what_keras_finds(exports, slim, sample, format):
    forward, pixels = open_export(exports[format]), photos_of(sample, SIZE)
    expected = slim.predict(pixels.astype(np.float32), batch_size=64, verbose=0)
    vectors = np.concatenate([forward(some) for some in np.split(pixels, 12)])
    assert cosines(vectors, expected).min() >= 0.9999
    found, wanted = (rank(one, sample, 10).results for one in (vectors, expected))
    same = overlap_at_k(found, wanted, 10) == 1
    assert same.mean() >= 0.99


ROWS = ["MobileNetV2-0.35", "ResNet50", "EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny"]


@pytest.mark.soak
@pytest.mark.parametrize("name", ROWS)
def test_the_other_rows_are_exported_as_they_say(name, sample, tmp_path):
    encoder = build_encoder(name, weights=None, image_size=64)
    pixels = photos_of(sample[::16], 64)
    normalize_as_trained(encoder, pixels)
    expected = encoder.predict(pixels.astype(np.float32), verbose=0)
    for format in FLOAT32:
        if format == "onnx" and not BACKBONES[name].onnx:
            with pytest.raises(ValueError, match=f"{encoder.name} does not run as onnx; take an"):
                export_model(encoder, tmp_path / format, format)
            continue
        vectors = open_export(export_model(encoder, tmp_path / format, format))(pixels)
        assert cosines(vectors, expected).min() >= 0.9999
        # Untrained networks give nearly the same of all photos: what differs must agree.
        centre = expected.mean(axis=0)
        assert cosines(vectors - centre, expected - centre).min() >= 0.999


@EACH
def test_every_format_takes_any_number_of_photos_and_either_type(exports, slim, pixels, format):
    forward, expected = open_export(exports[format]), slim(pixels.astype(np.float32)).numpy()
    least = 1 - 1e-5 if format in FLOAT32 else 0.93
    for count in (1, 33, 0, 5):
        vectors = forward(pixels[:count])
        assert (vectors.shape, vectors.dtype) == ((count, 128), np.float32)
        np.testing.assert_array_equal(forward(pixels[:count].astype(np.float32)), vectors)
        assert (cosines(vectors, expected[:count]) >= least).all()
    with pytest.raises(ValueError, match=r"takes photos \[32, 32, 3\], not \[64, 64, 3\]"):
        forward(np.zeros((2, 64, 64, 3), np.uint8))
    if format == "openvino":
        halved = open_export(exports[format], precision="bf16")(pixels)
        assert cosines(halved, expected).min() > 0.99


@EACH
def test_threads_may_share_an_export(exports, pixels, format):
    forward = open_export(exports[format])
    asked = [pixels[row : row + 1 + row % 3] for row in range(12)] * 8
    expected = [forward(one) for one in asked[:12]] * 8
    with ThreadPoolExecutor(4) as pool:
        for ours, alone in zip(pool.map(forward, asked), expected, strict=True):
            np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-4)


def test_fewer_bits_make_smaller_files_and_none_needs_operations_of_tensorflow(exports):
    shares = {"litert": 1, "litert-float16": 0.6, "litert-dynamic-int8": 0.4, "litert-int8": 0.4}
    files = {format: (exports[format] / "model.tflite").read_bytes() for format in shares}
    for format, share in shares.items():
        assert len(files[format]) <= share * len(files["litert"])
        assert b"Flex" not in files[format]


def test_the_card_says_what_the_export_is(exports, slim):
    for format, folder in exports.items():
        known = {"name": "VGG16Slim-gem", "fingerprint": encoder_fingerprint(slim), "dim": 128}
        known |= {"format": format, "input": [SIZE, SIZE, 3]}
        assert {"tensorflow", "keras"} == read_card(folder).keys() - known.keys()
        assert known.items() <= read_card(folder).items()
    assert sorted(names_in(exports["onnx"])) == ["card.json", "model.onnx"]


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_a_classifier_never_called_gives_the_same_probabilities_and_its_labels(
    pixels, tmp_path, format
):
    classifier, labels = small_classifier(weights="auto", size=SIZE, dim=16), ["hat", "Schuh", "ë"]
    folder = export_model(classifier, tmp_path / format, format, labels=labels)
    assert (read_card(folder)["labels"], read_card(folder)["dim"]) == (labels, 3)
    expected = classifier(pixels.astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(open_export(folder)(pixels), expected, atol=1e-5)


def test_a_folder_is_made_and_replaced_and_nothing_else_changes_or_is_said(
    slim, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    before = encoder_fingerprint(slim), slim.trainable
    first = export_model(slim, "a/b/", "onnx", note="first")
    assert read_card(f"{first}/")["note"] == "first"
    export_model(slim, tmp_path / "a" / "b", "saved_model", note="second")
    assert read_card("a/b")["note"] == "second"
    assert not list((tmp_path / "a" / "b").glob("*.onnx"))
    assert names_in(tmp_path / "a") == ["b"]
    assert (encoder_fingerprint(slim), slim.trainable) == before
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_something_else_is_refused_and_left_alone(slim, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("notes", "file"):
        with pytest.raises(FileExistsError, match=f"{name} is there and is no export"):
            export_model(slim, tmp_path / name, "saved_model")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine.txt", "notes"]
    with pytest.raises(FileNotFoundError, match="No export at"):
        open_export(tmp_path / "notes")
    (tmp_path / "card.json").write_text(json.dumps({"format": "coreml"}))
    with pytest.raises(ValueError, match="not 'coreml'"):
        open_export(tmp_path)


@pytest.mark.parametrize(
    ("format", "shape", "told"),
    [
        ("tflite", None, r"format must be one of saved_model, .*openvino, not 'tflite'"),
        ("litert-int8", None, r"at least 32 photos as uint8 \[None, 32, 32, 3\]; given are \(\)"),
        ("litert-int8", (31, SIZE, SIZE, 3), r"given are \(31, 32, 32, 3\)"),
        ("litert-int8", (40, 64, 64, 3), r"given are \(40, 64, 64, 3\)"),
    ],
)
def test_misuse_is_refused_before_anything_is_written(slim, tmp_path, format, shape, told):
    photos = None if shape is None else np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=told):
        export_model(slim, tmp_path / "export", format, photos=photos)
    assert not os.listdir(tmp_path)


NEEDED = {"ai-edge-litert": "litert-int8", "tf2onnx": "onnx", "onnxruntime": "onnx"}
NEEDED |= {"openvino": "openvino"}


@pytest.mark.parametrize("package", NEEDED)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    exports, slim, pixels, tmp_path, monkeypatch, package
):
    format = NEEDED[package]
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(ImportError, match=f"{package} not installed.*pip install {package}$"):
        export_model(slim, tmp_path / "export", format, photos=pixels)
    assert not os.listdir(tmp_path)
    if package == "tf2onnx":  # it writes the file, and is not needed where it runs
        assert open_export(exports[format])(pixels[:1]).shape == (1, 128)
    else:
        with pytest.raises(ImportError, match=f"pip install {package}$"):
            open_export(exports[format])


def test_what_does_not_run_is_told_with_the_reason_and_leaves_the_old_export(exports, tmp_path):
    photo = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="gelu")(photo)
    exact = keras.Model(photo, keras.layers.GlobalAveragePooling2D()(x), name="exact")
    folder = shutil.copytree(exports["litert"], tmp_path / "export")
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    with pytest.raises(ValueError, match=r"exact does not run as onnx; take another.*Erfc[^\n]*$"):
        export_model(exact, folder, "onnx")
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    assert names_in(tmp_path) == ["export"]


def test_comparison_of_a_case_by_hand():
    """The vectors are mean colours: two reds, two greens, two blues, each a product of its own; of
    the last the label is not known.
    """
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image), name="mean")
    values = [(250, 10, 0), (240, 0, 30), (0, 250, 20), (20, 230, 0), (0, 40, 250), (10, 0, 240)]
    pixels = np.stack([np.full((8, 8, 3), value, np.uint8) for value in values])
    rows = {"image_id": list("uvwxyz"), "product_id": list("uvwxyz"), "split": [*"tttvvv"]}
    catalog = pd.DataFrame(rows | {"label": [*"rrggb", None]})
    same = compile_encoder(model)
    runs = {"same": same, "swapped": lambda photos: same(photos)[:, ::-1]}  # red is blue
    table, rankings = compare_exports(model, runs, pixels, catalog, k=1, batch_size=4)
    assert [*table.index] == [*rankings] == ["keras", *runs]
    assert (table[["ms a photo", "photos/s"]] > 0).all(axis=None)
    told = ["least cosine", "median cosine", "same top 1", "overlap"]
    np.testing.assert_allclose(table.loc[["keras", "same"], told], 1, atol=1e-6)
    colours = np.float32(values)
    expected = cosines(colours, colours[:, ::-1])
    # Swapping all alike changes no neighbour.
    swapped = [expected.min(), np.median(expected), 1, 1]
    np.testing.assert_allclose(table.loc["swapped", told], swapped, atol=1e-6)
    # The unlabelled asks nothing; of five queries the blue one has no other blue.
    assert rankings["keras"].relevant.mean() == pytest.approx(4 / 5)
    expected = rank(colours, catalog, 1)
    for ranking in rankings.values():
        np.testing.assert_array_equal(ranking.results, expected.results)
    # Of the gallery r, r, g the green query finds its one green among two, the blue finds none.
    splits = {"gallery_split": "t", "query_split": "v"}
    _, rankings = compare_exports(model, {}, pixels, catalog, k=2, **splits)
    assert rankings["keras"].relevant.mean() == pytest.approx(0.25)
