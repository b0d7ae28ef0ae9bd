import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pandas as pd
import pytest

from conftest import EXTRAS, MOBILENET, quick, skip_without, small_classifier
from lookalike.backbones import BACKBONES, build_encoder, inner_backbone
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.evaluation import compare, overlap_at_k, rank
from lookalike.export import compare_exports, export_model, open_export
from lookalike.export.formats import FEWEST, FORMATS, read_card
from lookalike.images import load_image
from lookalike.sources import load_catalog

skip_without(*EXTRAS["09_export"])

FLOAT32 = ("saved_model", "litert", "onnx", "openvino")
LITERT = [format for format in FORMATS if format.startswith("litert")]
SIZE = 32


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


def cosines(vectors, others):
    vectors, others = (one.astype(np.float64) for one in (vectors, others))
    return (
        (vectors * others).sum(axis=1)
        / np.linalg.norm(vectors, axis=1)
        / np.linalg.norm(others, axis=1)
    )


def in_batches(forward, pixels, size=32):
    return np.concatenate(
        [forward(pixels[start : start + size]) for start in range(0, len(pixels), size)]
    )


def names_in(folder):
    """What lies in a folder, but for the lock of who writes there."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def normalize_as_trained(encoder, pixels):
    """Give an untrained network the means and variances of its layers, without which its numbers
    fade to 1e-11.
    """
    backbone = inner_backbone(encoder)
    norms = [
        layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in norms:
        layer.momentum, layer.trainable = 0.0, True
    # What preprocessing makes of pixels.
    before = keras.Model(encoder.input, encoder.layers[-3].output)
    backbone(before(pixels.astype(np.float32)), training=True)
    for layer in norms:
        layer.trainable = False


BIG = {
    "VGG16Slim": {"image_size": 128},
    "MobileNetV2-0.35": {"weights": None, "image_size": 64},
    "ResNet50": {"weights": None, "image_size": 32},
}


@pytest.fixture(scope="module", params=quick(BIG, "VGG16Slim"))
def network(request, sample):
    """An encoder, all photos of the sample in its size, and what Keras makes of them."""
    options = dict(BIG[request.param])
    if request.param == "MobileNetV2-0.35" and MOBILENET.is_file():
        options |= {"weights": MOBILENET, "image_size": 96}
    encoder = build_encoder(request.param, **options)
    pixels = photos_of(sample, encoder.input_shape[1])
    if options.get("weights", "") is None:
        normalize_as_trained(encoder, pixels[::12])
    return encoder, pixels, encoder.predict(pixels.astype(np.float32), batch_size=32, verbose=0)


@pytest.mark.parametrize("format", FLOAT32)
def test_a_float32_export_finds_what_keras_finds(network, sample, format, tmp_path):
    encoder, pixels, expected = network
    vectors = in_batches(open_export(export_model(encoder, tmp_path / format, format)), pixels)
    assert vectors.dtype == np.float32
    assert cosines(vectors, expected).min() >= 0.9999
    rankings = [rank(one, sample, 10) for one in (vectors, expected)]
    same = overlap_at_k(*(one.results for one in rankings), 10) == 1
    assert len(same) == len(sample)
    assert same.mean() >= 0.99


@pytest.mark.soak
@pytest.mark.parametrize("name", ["EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny"])
def test_the_other_rows_are_exported_as_they_say(name, sample, tmp_path):
    encoder = build_encoder(name, weights=None, image_size=64)
    pixels = photos_of(sample[::16], 64)
    normalize_as_trained(encoder, pixels)
    expected = encoder.predict(pixels.astype(np.float32), verbose=0)
    for format in FLOAT32:
        if format == "onnx" and not BACKBONES[name].onnx:
            with pytest.raises(ValueError, match="ONNX lacks Erfc"):
                export_model(encoder, tmp_path / format, format)
            continue
        vectors = open_export(export_model(encoder, tmp_path / format, format))(pixels)
        assert cosines(vectors, expected).min() >= 0.9999
        # Untrained networks give nearly the same of all photos: what differs must agree.
        centre = expected.mean(axis=0)
        assert cosines(vectors - centre, expected - centre).min() >= 0.999


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_takes_any_number_of_photos_and_either_type(exports, slim, pixels, format):
    forward, expected = open_export(exports[format]), slim(pixels.astype(np.float32)).numpy()
    alone = np.concatenate([forward(photo[None]) for photo in pixels[:33]])
    least, near = (1, 1e-5) if format in FLOAT32 else (0.95, 0.02)
    assert cosines(alone, expected[:33]).min() >= least - near
    for count in (1, 5, 33, 5):
        vectors = forward(pixels[:count])
        assert (vectors.shape, vectors.dtype) == ((count, 128), np.float32)
        np.testing.assert_array_equal(forward(pixels[:count].astype(np.float32)), vectors)
        if format in FLOAT32:
            np.testing.assert_allclose(
                vectors, expected[:count], rtol=1e-4, atol=1e-5 * expected.max()
            )
            np.testing.assert_allclose(
                vectors, alone[:count], rtol=1e-5, atol=1e-5 * expected.max()
            )
    backwards = forward(pixels[9::-2, :, ::-1])  # not contiguous
    np.testing.assert_array_equal(backwards, forward(np.ascontiguousarray(pixels[9::-2, :, ::-1])))


def test_openvino_may_compute_in_bfloat16(exports, slim, pixels):
    expected = slim(pixels.astype(np.float32)).numpy()
    vectors = open_export(exports["openvino"], precision="bf16")(pixels)
    assert vectors.dtype == np.float32
    assert cosines(vectors, expected).min() > 0.99


@pytest.mark.parametrize("format", LITERT)
def test_litert_files_need_no_operations_of_tensorflow(exports, format):
    """Opening one that does is refused by the interpreter; their names are in the file."""
    from ai_edge_litert.interpreter import Interpreter

    Interpreter(str(exports[format] / "model.tflite")).allocate_tensors()
    assert b"Flex" not in (exports[format] / "model.tflite").read_bytes()


def test_smaller_formats_are_smaller(exports):
    sizes = {format: (exports[format] / "model.tflite").stat().st_size for format in LITERT}
    assert sizes["litert-float16"] < 0.6 * sizes["litert"]
    assert max(sizes["litert-dynamic-int8"], sizes["litert-int8"]) < 0.4 * sizes["litert"]


def test_the_card_says_what_the_export_is(exports, slim):
    for format, folder in exports.items():
        card = read_card(folder)
        assert card.pop("tensorflow") and card.pop("keras")
        name, fingerprint = "VGG16Slim-gem", encoder_fingerprint(slim)
        known = {"name": name, "fingerprint": fingerprint, "input": [SIZE, SIZE, 3], "dim": 128}
        assert card == {"format": format, **known}
    names = sorted(file.name for file in exports["onnx"].iterdir())
    assert names == ["card.json", "model.onnx"]


def test_a_classifier_gives_the_same_probabilities_and_its_labels(slim, pixels, tmp_path):
    classifier, labels = small_classifier(weights="auto", size=SIZE, dim=16), ["hat", "Schuh", "ë"]
    expected = classifier(pixels.astype(np.float32), training=False).numpy()
    for format in FLOAT32:
        folder = export_model(classifier, tmp_path / format, format, labels=labels)
        assert (read_card(folder)["labels"], read_card(folder)["dim"]) == (labels, 3)
        np.testing.assert_allclose(open_export(folder)(pixels), expected, atol=1e-5)


def test_a_model_that_was_never_called_is_exported_too(pixels, tmp_path):
    for format in ("onnx", "openvino"):
        encoder = build_encoder("VGG16Slim", image_size=SIZE)
        vectors = open_export(export_model(encoder, tmp_path / format, format))(pixels)
        assert cosines(vectors, encoder(pixels.astype(np.float32)).numpy()).min() > 0.9999


def test_a_folder_is_made_replaced_and_named_in_any_way(slim, pixels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = export_model(slim, "a/b/", "openvino", note="first")
    assert read_card(f"{first}/")["note"] == "first"
    other = build_encoder("VGG16Slim", image_size=SIZE, pooling="max")
    export_model(other, tmp_path / "a" / "b", "saved_model", note="second")
    assert read_card("a/b")["note"] == "second"
    assert not list((tmp_path / "a" / "b").glob("*.xml"))
    assert names_in(tmp_path / "a") == ["b"]
    assert (
        cosines(open_export("a/b")(pixels), other(pixels.astype(np.float32)).numpy()).min() > 0.9999
    )


def test_a_link_to_an_export_stays_one(slim, tmp_path):
    folder = export_model(slim, tmp_path / "real", "saved_model", note="first")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    export_model(slim, tmp_path / "link", "saved_model", note="second")
    assert (tmp_path / "link").is_symlink()
    assert read_card(folder)["note"] == "second"


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


def test_misuse_is_refused_before_anything_is_written(slim, pixels, tmp_path):
    folder = tmp_path / "export"
    with pytest.raises(
        ValueError, match=r"format must be one of saved_model, .*openvino, not 'tflite'"
    ):
        export_model(slim, folder, "tflite")
    with pytest.raises(
        ValueError, match=r"at least 32 photos as uint8 \[None, 32, 32, 3\]; given are \(\)"
    ):
        export_model(slim, folder, "litert-int8")
    wrong = (
        pixels[: FEWEST - 1],
        np.zeros((40, 64, 64, 3), np.uint8),
        np.zeros((40, SIZE, SIZE), np.uint8),
    )
    for photos in wrong:
        with pytest.raises(ValueError, match="calibrated on at least") as caught:
            export_model(slim, folder, "litert-int8", photos=photos)
        assert str(photos.shape) in str(caught.value)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("format", "module", "package"),
    [
        ("litert-int8", "ai_edge_litert", "ai-edge-litert"),
        ("onnx", "tf2onnx", "tf2onnx"),
        ("onnx", "onnxruntime", "onnxruntime"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    exports, slim, pixels, tmp_path, monkeypatch, format, module, package
):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(ImportError, match=f"{package} not installed.*pip install {package}$"):
        export_model(slim, tmp_path / "export", format, photos=pixels)
    assert not os.listdir(tmp_path)
    if module == "tf2onnx":  # it writes the file, and is not needed where it runs
        assert open_export(exports[format])(pixels[:1]).shape == (1, 128)
    else:
        with pytest.raises(ImportError, match=f"pip install {package}$"):
            open_export(exports[format])


def test_an_export_that_fails_leaves_the_old_one_as_it_was(slim, tmp_path, monkeypatch):
    folder = export_model(slim, tmp_path / "export", "saved_model", note="old")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(TypeError, match="not JSON"):
        export_model(slim, folder, "saved_model", labels=object())
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert names_in(tmp_path) == ["export"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_export_that_cannot_take_its_place_leaves_the_old_one_to_be_opened(
    slim, pixels, tmp_path, monkeypatch, error
):
    """The old one is already aside, as when a run is killed at that moment."""
    folder = export_model(slim, tmp_path / "export", "saved_model", note="old")
    real = os.replace

    def full(source, target):
        if str(target) == str(folder) and str(source).endswith(".new"):
            raise error("no more")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(error, match="no more"):
            export_model(slim, folder, "saved_model", note="new")
    assert read_card(folder)["note"] == "old"
    assert open_export(folder)(pixels[:2]).shape == (2, 128)
    with pytest.raises(TypeError, match="not JSON"):
        export_model(slim, folder, "saved_model", labels=object())
    assert read_card(folder)["note"] == "old"
    export_model(slim, folder, "saved_model", note="new")
    assert read_card(folder)["note"] == "new"
    assert names_in(tmp_path) == ["export"]


KILLED = """
import sys, time, keras
from lookalike.backbones import build_encoder
from lookalike.export import export_model
real = keras.Model.export
def slow(self, *arguments, **options):
    real(self, *arguments, **options)
    time.sleep(300)
keras.Model.export = slow
export_model(build_encoder("VGG16Slim", image_size=32), sys.argv[1], "saved_model", note="new")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_export_leaves_the_old_one_in_place(slim, pixels, tmp_path):
    folder = export_model(slim, tmp_path / "export", "saved_model", note="old")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".export.new/model/saved_model.pb")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert read_card(folder)["note"] == "old"
    assert open_export(folder)(pixels[:2]).shape == (2, 128)
    export_model(slim, folder, "saved_model", note="new")
    assert read_card(folder)["note"] == "new"
    assert names_in(tmp_path) == ["export"]


def test_an_export_changes_nothing_about_the_model(slim, pixels, tmp_path, capfd):
    before = encoder_fingerprint(slim), slim(pixels.astype(np.float32)).numpy(), slim.trainable
    export_model(slim, tmp_path / "export", "onnx")
    assert encoder_fingerprint(slim) == before[0]
    np.testing.assert_array_equal(slim(pixels.astype(np.float32)).numpy(), before[1])
    assert slim.trainable == before[2]
    assert capfd.readouterr() == ("", "")


def mean_colour():
    """A model whose vectors are the mean red, green and blue, for answers that can be told by hand."""
    image = keras.Input((8, 8, 3), name="image")
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(image), name="mean")


@pytest.fixture
def colours():
    """Two reds, two greens, two blues, each a product of its own; of the last the label is not
    known.
    """
    values = [(250, 10, 0), (240, 0, 30), (0, 250, 20), (20, 230, 0), (0, 40, 250), (10, 0, 240)]
    pixels = np.stack([np.full((8, 8, 3), value, np.uint8) for value in values])
    rows = {
        "image_id": list("uvwxyz"),
        "product_id": list("uvwxyz"),
        "label": [*"rrggb", None],
        "split": [*"tttvvv"],
    }
    return pixels, pd.DataFrame(rows)


def test_comparison_of_a_case_by_hand(colours, tmp_path):
    pixels, catalog = colours
    model = mean_colour()
    folder = export_model(model, tmp_path / "mean", "saved_model")
    # Red is blue.
    other = keras.Model(model.input, keras.ops.flip(model.output, axis=1), name="swapped")
    swapped = export_model(other, tmp_path / "swapped", "saved_model")
    table, quality = compare_exports(
        model, {"same": folder, "swapped": swapped}, pixels, catalog, k=1, batch_size=4
    )
    assert list(table.index) == list(quality.index) == ["keras", "same", "swapped"]
    columns = [
        "MB",
        "ms a photo",
        "photos/s",
        "least cosine",
        "median cosine",
        "same top 1",
        "overlap",
    ]
    assert list(table.columns) == columns
    assert np.isnan(table.loc["keras", "MB"])
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "card.json"]
    assert table.loc["same", "MB"] == pytest.approx(
        sum(file.stat().st_size for file in files) / 1e6
    )
    np.testing.assert_allclose(table.loc[["keras", "same"], columns[3:]], 1, atol=1e-6)
    assert (table[["ms a photo", "photos/s"]] > 0).all(axis=None)
    expected = cosines(pixels[:, 0, 0].astype(float), pixels[:, 0, 0, ::-1].astype(float))
    assert table.loc["swapped", "least cosine"] == pytest.approx(expected.min(), abs=1e-6)
    assert table.loc["swapped", "median cosine"] == pytest.approx(np.median(expected), abs=1e-6)
    # The unlabelled asks nothing; of five queries the blue one has no other blue. Swapping all
    # alike changes none.
    rankings = {name: rank(pixels[:, 0, 0].astype(np.float32), catalog, 1) for name in table.index}
    pd.testing.assert_frame_equal(quality, compare(rankings, 1))
    assert table.loc["swapped", "same top 1"] == 1
    assert quality.loc["keras", "value"] == pytest.approx(4 / 5)


def test_rules_reach_the_ranking(colours, tmp_path):
    pixels, catalog = colours
    model = mean_colour()
    exports = {"same": export_model(model, tmp_path / "mean", "saved_model")}
    rules = {"gallery_split": "t", "query_split": "v"}
    _, quality = compare_exports(model, exports, pixels, catalog, k=2, **rules)
    # Of the gallery r, r, g the green query finds its one green among two, the blue query finds
    # none.
    assert quality["value"].tolist() == pytest.approx([0.25, 0.25])
    with pytest.raises(ValueError, match="metric must be one of"):
        compare_exports(model, exports, pixels, catalog, k=2, metric="all")


def test_a_card_of_another_format_is_refused(exports, tmp_path):
    (tmp_path / "card.json").write_text(
        json.dumps(read_card(exports["onnx"]) | {"format": "coreml"})
    )
    with pytest.raises(ValueError, match="not 'coreml'"):
        open_export(tmp_path)


@pytest.mark.parametrize("format", FORMATS)
def test_photos_of_another_size_are_refused(exports, format):
    with pytest.raises(ValueError, match=r"takes photos \[32, 32, 3\], not \[64, 64, 3\]"):
        open_export(exports[format])(np.zeros((2, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("format", FORMATS)
def test_threads_may_share_an_export(exports, pixels, format):
    forward = open_export(exports[format])
    asked = [pixels[row : row + 1 + row % 3] for row in range(12)] * 8
    expected = [forward(one) for one in asked[:12]] * 8
    with ThreadPoolExecutor(4) as pool:
        for ours, alone in zip(pool.map(forward, asked), expected, strict=True):
            np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_no_photos_have_no_vectors(exports, pixels, format):
    forward = open_export(exports[format])
    assert forward(pixels[:0]).shape == (0, 128)
    assert forward(pixels[:2]).shape == (2, 128)
