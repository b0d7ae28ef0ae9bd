import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from conftest import PROJECT, small_classifier
from lookalike.backbones import build_encoder, embedding_encoder
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.saving import load_model, open_encoder, save_model

FIRST_EDITION = Path(__file__).parent / "models" / "first_edition.keras"


@pytest.fixture
def trained(tmp_path):
    """A classifier for the catalogue `shop`, saved as notebook 03 does."""
    classifier = small_classifier(3, dim=7)
    file = tmp_path / "shop" / "model_recommendation.keras"
    save_model(classifier, file, {"catalogue": "shop", "backbone": "VGG16Slim"})
    return classifier


@pytest.mark.parametrize("backbone", ["auto", "VGG16Slim"])
def test_the_model_trained_on_a_catalogue_gives_its_layer_embedding(trained, tmp_path, backbone):
    encoder, choice = open_encoder(tmp_path, "shop", backbone)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    vectors = encoder(pixels).numpy()
    np.testing.assert_allclose(vectors, embedding_encoder(trained)(pixels), atol=1e-6)
    assert str(choice) == (
        "encoder = vgg16_slim-trained: trained on this catalogue by 03_fine_tuning.ipynb"
    )


@pytest.mark.parametrize(
    ("catalogue", "backbone", "why"),
    [
        ("another shop", "VGG16Slim", "no model is trained on this catalogue yet; as asked"),
        ("shop", "MobileNetV2-0.35", "trained on this catalogue is a VGG16Slim; as asked"),
    ],
)
def test_a_model_of_another_catalogue_or_backbone_is_not_used_and_that_is_said(
    trained, tmp_path, catalogue, backbone, why
):
    options = {"weights": None, "image_size": 32, "seed": 0}
    encoder, choice = open_encoder(tmp_path, catalogue, backbone, **options)
    expected = build_encoder(backbone, **options)
    assert encoder_fingerprint(encoder) == encoder_fingerprint(expected)
    assert choice.reason.endswith(why)


PHOTOS = pd.DataFrame(
    {
        "label": ["shoe", "shoe", "hat", "hat"],
        "split": ["train", "test", "train", "test"],
        "sha256": ["a", "b", "c", "d"],
    }
)
CARD = {"backbone": "VGG16", "labels": ["hat", "shoe"]}
CARD |= {"train_sha256": ["a", "c"], "test_sha256": ["b", "d"]}


@pytest.mark.parametrize(
    ("backbone", "change", "told"),
    [
        ("VGG16", {}, ""),
        ("auto", {}, ""),
        ("ResNet50", {}, "the backbone was VGG16, and now is ResNet50"),
        (
            "auto",
            {"label": ["Shoe", "Shoe", "hat", "hat"]},
            r"the classes were \['hat', 'shoe'\], and now are \['Shoe', 'hat'\]",
        ),
        (
            "auto",
            {"split": ["test", "train", "train", "test"]},
            "2 train photos were others; 2 test",
        ),
        ("auto", {"sha256": ["a", "b", "x", "d"]}, "2 train photos were others"),
    ],
)
def test_a_model_is_compared_with_the_catalogue_of_today(tmp_path, backbone, change, told):
    file = tmp_path / "model_head.keras"
    save_model(small_classifier(2), file, CARD)
    options = {"known": PHOTOS.assign(**change), "backbone": backbone}
    if not told:
        assert load_model(file, **options)[1]["backbone"] == "VGG16"
        return
    with pytest.raises(ValueError, match=told + ".* Run 02_transfer_learning.ipynb again"):
        load_model(file, **options)


def test_a_model_of_the_first_edition_opens_and_gives_the_vectors_that_it_gave():
    classifier, card = load_model(FIRST_EDITION)
    gradient = np.linspace(0, 255, 32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3)
    vector = embedding_encoder(classifier).predict(gradient, verbose=0)[0]
    np.testing.assert_allclose(vector, card["embedding_of_a_gradient"], rtol=1e-4)
    assert classifier.get_layer("pooling").p == 3
    assert classifier.output_shape == (None, len(card["labels"]))


RELOAD = """
import sys, warnings
warnings.simplefilter("error", UserWarning)
import keras, numpy as np
from lookalike import pooling  # its layer registers itself
model = keras.models.load_model(sys.argv[1], safe_mode=True)
inner = [layer for part in model.layers for layer in getattr(part, "layers", [part])]
assert {layer.dtype_policy.name for layer in inner} == {"float32"}
np.save(sys.argv[3], model(np.load(sys.argv[2])).numpy())
"""


def test_a_model_trained_in_half_precision_gives_the_same_outputs_in_a_new_process(tmp_path):
    """A GPU trains in half precision; what it leaves behind is float32, for any machine."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        classifier = small_classifier(weights="auto", name="VGG16Slim")
    finally:
        keras.config.set_dtype_policy("float32")
    save_model(classifier, tmp_path / "classifier.keras", {"labels": ["blue", "red"]})
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    files = [str(tmp_path / name) for name in ("classifier.keras", "pixels.npy", "outputs.npy")]
    process = subprocess.run([sys.executable, "-c", RELOAD, *files], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    outputs = np.load(tmp_path / "outputs.npy")
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, classifier(pixels), atol=0.02)


def equal(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_model_comes_back_with_its_card(tmp_path, recwarn):
    classifier = small_classifier()
    classifier.compile("adam", "sparse_categorical_crossentropy")
    save_model(classifier, tmp_path / "photo.v1.keras", {"labels": ["Tücher", "red"], "seed": 0})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.v1.json", "photo.v1.keras"]
    model, card = load_model(tmp_path / "photo.v1.keras")
    assert equal(model, classifier)
    assert not model.compiled
    fingerprint = encoder_fingerprint(classifier)
    assert card == {"labels": ["Tücher", "red"], "seed": 0, "fingerprint": fingerprint}
    assert "Tücher" in (tmp_path / "photo.v1.json").read_text(encoding="utf-8")
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


def test_a_missing_model_or_card_names_the_notebook_that_writes_it(tmp_path):
    file = tmp_path / "classifier.keras"
    with pytest.raises(
        FileNotFoundError, match=r"classifier\.keras\. Run 02_transfer_learning\.ipynb first"
    ):
        load_model(file)
    save_model(small_classifier(), file, {})
    file.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"Run 03_fine_tuning\.ipynb first"):
        load_model(file, after="03_fine_tuning.ipynb")


def test_the_card_of_another_model_is_refused(tmp_path):
    for seed in (0, 1):
        save_model(small_classifier(seed=seed), tmp_path / f"{seed}.keras", {})
    os.replace(tmp_path / "1.json", tmp_path / "0.json")
    with pytest.raises(
        ValueError, match=r"0\.keras and its card do not belong together\. Run 02_transfer"
    ):
        load_model(tmp_path / "0.keras")


def test_a_card_that_cannot_be_written_leaves_the_old_model(tmp_path):
    file = tmp_path / "classifier.keras"
    save_model(small_classifier(), file, {"seed": 0})
    before = Counter({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    with pytest.raises(TypeError):
        save_model(small_classifier(seed=1), file, {"seed": object()})
    assert Counter({path.name: path.read_bytes() for path in tmp_path.iterdir()}) == before
    assert load_model(file)[1]["seed"] == 0


# --- Files that could run code


class Payload:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def marking(mark, *layers):
    """A model of a stranger that leaves a mark when it runs; Keras has run it already."""
    code = keras.layers.Lambda(
        lambda pixels, mark: (open(mark, "w").close(), pixels)[1], arguments={"mark": str(mark)}
    )
    stranger = keras.Sequential([keras.Input((8, 8, 3)), code, *layers])
    mark.unlink()
    return stranger


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["keras", "h5", "pickle", "text"])
def test_a_model_with_code_inside_is_refused_and_the_code_does_not_run(trained, tmp_path, kind):
    file = tmp_path / "shop" / "model_recommendation.keras"
    source = tmp_path / f"stranger.{kind}"
    mark = tmp_path / "mark"
    stranger = marking(mark)
    if kind in ("keras", "h5"):
        stranger.save(source)
        mark.unlink(missing_ok=True)
    else:
        source.write_bytes(pickle.dumps(Payload(mark)) if kind == "pickle" else b"text")
    os.replace(source, file)
    told = r"model_recommendation\.keras.*Run 03_fine_tuning\.ipynb again"
    with pytest.raises(ValueError, match=told):
        load_model(file, after="03_fine_tuning.ipynb")
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5", "a.keras"])
def test_of_a_file_of_weights_nothing_else_is_read(tmp_path, name):
    mark = tmp_path / "mark"
    stranger = marking(mark, keras.layers.Conv2D(4, 3))
    save = stranger.save_weights if ".weights" in name else stranger.save
    save(tmp_path / name)
    mark.unlink(missing_ok=True)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"weights in .*{name} do not fit VGG16Slim"):
            build_encoder("VGG16Slim", weights=tmp_path / name, image_size=32)
        (tmp_path / name).write_bytes(pickle.dumps(Payload(mark)))
    assert not mark.exists()


# What runs code when it reads a file, or hands a text to Python; and the places that may.
DANGEROUS = re.compile(
    r"import (pickle|joblib|dill|marshal|shelve|torch)|read_pickle|saved_model\.load|TFSMLayer"
    r"|unsafe_deserialization|\b(eval|exec)\([^?]|\bnp\.load\((?!.*allow_pickle=False)"
    r"|keras\.\w+\.load_model\((?!.*safe_mode=True)"
)
ALLOWED = {
    ("embeddings.py", "import pickle"),  # writes for others
    ("formats.py", "saved_model.load"),  # of an export, to be trusted as a program is
    ("09_export.ipynb", "saved_model.load"),  # reads what it has just written
}


def test_nothing_in_the_package_or_a_notebook_reads_what_can_run_code():
    files = [*(PROJECT / "src").rglob("*.py"), *(PROJECT / "notebooks").glob("*.ipynb")]
    found = {
        (file.name, danger[0])
        for file in files
        for danger in DANGEROUS.finditer(file.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED
