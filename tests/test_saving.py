import ast
import json
import os
import pickle
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from conftest import PROJECT
from lookalike.backbones import build_classifier, build_encoder, embedding_encoder
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.saving import load_model, open_encoder, save_model

FIRST_EDITION = Path(__file__).parent / "models" / "first_edition.keras"


@pytest.fixture
def trained(tmp_path):
    """A classifier for the catalogue `shop`, saved as notebook 03 does."""
    classifier = build_classifier(build_encoder("VGG16Slim", weights=None, image_size=32), 3, dim=7)
    save_model(
        classifier,
        tmp_path / "model_recommendation.keras",
        {"catalogue": "shop", "backbone": "VGG16Slim"},
    )
    return classifier


@pytest.mark.parametrize("backbone", ["auto", "VGG16Slim"])
def test_the_model_trained_on_a_catalogue_gives_its_second_to_last_layer(
    trained, tmp_path, backbone
):
    encoder, choice = open_encoder(tmp_path, "shop", backbone)
    assert encoder.output_shape == (None, 7)
    assert encoder.get_layer("embedding").get_weights()[0].shape == (128, 7)
    assert str(choice) == (
        "encoder = VGG16Slim-gem-untrained-trained: trained on this catalogue by 03_fine_tuning.ipynb"
    )


@pytest.mark.parametrize(
    ("catalogue", "backbone"), [("another shop", "VGG16Slim"), ("shop", "MobileNetV2")]
)
def test_a_model_of_another_catalogue_or_backbone_is_not_used_and_that_is_said(
    trained, tmp_path, catalogue, backbone
):
    encoder, choice = open_encoder(
        tmp_path, catalogue, backbone, weights=None, image_size=32, seed=0
    )
    expected = build_encoder(backbone, weights=None, image_size=32, seed=0)
    assert encoder_fingerprint(encoder) == encoder_fingerprint(expected)
    assert "the trained model is a VGG16Slim for shop" in choice.reason


@pytest.mark.parametrize(
    ("name", "alpha", "used"),
    [
        ("MobileNetV2", 0.35, True),
        ("MobileNetV2", None, True),
        ("MobileNetV2-0.35", None, True),
        ("auto", None, True),
        ("MobileNetV2", 1.0, False),
        ("MobileNetV2-0.5", None, False),
    ],
)
@pytest.mark.parametrize("card", [("MobileNetV2", 0.35), ("MobileNetV2-0.35", None)])
def test_a_model_of_another_width_is_not_used(tmp_path, name, alpha, used, card):
    classifier = build_classifier(
        build_encoder("MobileNetV2", weights=None, alpha=0.35, image_size=32), 3, dim=7
    )
    card = {"catalogue": "shop", "backbone": card[0], "alpha": card[1]}
    save_model(classifier, tmp_path / "model_recommendation.keras", card)
    encoder, choice = open_encoder(tmp_path, "shop", name, alpha=alpha, weights=None, image_size=32)
    assert encoder.name.endswith("-trained") == used
    assert used or "the trained model is a MobileNetV2 of alpha 0.35 for shop" in choice.reason


def test_without_a_trained_model_the_backbone_is_taken_as_it_comes(tmp_path):
    encoder, choice = open_encoder(tmp_path, "shop", "VGG16Slim", weights=None, image_size=32)
    assert encoder.output_shape == (None, 128)
    assert choice.reason == "no model is trained yet; as asked"


def test_a_model_of_the_first_edition_opens_and_gives_the_vectors_that_it_gave():
    classifier, card = load_model(FIRST_EDITION)
    gradient = np.linspace(0, 255, 32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3)
    vector = embedding_encoder(classifier).predict(gradient, verbose=0)[0]
    np.testing.assert_allclose(vector, card["embedding_of_a_gradient"], rtol=1e-4)
    assert classifier.get_layer("pooling").p == 3
    assert classifier.output_shape == (None, len(card["labels"]))


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
    file, source = tmp_path / "model_recommendation.keras", tmp_path / f"stranger.{kind}"
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


# What runs code when it reads a file, or hands a string to Python; and the places that may.
DANGEROUS = ("joblib", "dill", "cloudpickle", "marshal", "shelve", "yaml", "torch", "pickle")
DANGEROUS += ("read_pickle", "saved_model.load", "TFSMLayer", "enable_unsafe_deserialization")
DANGEROUS += ("eval", "exec")
ALLOWED = {
    ("src/lookalike/embeddings.py", "pickle"),  # writes for others
    # Of an export, which is as much to be trusted as a program.
    ("src/lookalike/export/formats.py", "saved_model.load"),
    ("tests/notebooks/shown.py", "exec"),  # runs what our own cells define
    ("tests/test_embeddings.py", "pickle"),  # reads what was written for others
    ("tests/test_saving.py", "pickle"),  # writes what attacks
    ("tests/notebooks/test_book.py", "yaml"),  # reads our own workflow, by safe_load
    ("tests/test_text.py", "yaml"),  # reads our own workflow, by safe_load
}


def dangers(source, own):
    """The dangerous names that Python source uses; `own`: NumPy must be told there that it shall
    not unpickle.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [one.name for one in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            yield from {module.split(".")[0] for module in modules} & {*DANGEROUS}
            if modules[0].split(".")[0] in ("keras", "tensorflow"):
                # By its full name it is found below.
                yield from {*names} & {"load_model"}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {one.arg: ast.unparse(one.value) for one in node.keywords}
            yield from (name for name in DANGEROUS if called == name or called.endswith(f".{name}"))
            if called.endswith(".load_model") and options.get("safe_mode") != "True":
                yield called
            reads = called in ("np.load", "numpy.load") or called.endswith("format.read_array")
            told = options.get("allow_pickle", None if own and reads else "False")
            if told != "False" and not called.endswith(".save"):
                yield called


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch.nn",
        "import dill as d",
        "eval(text)",
        "exec(text)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "f(allow_pickle=trusted)",
        "pd.read_pickle(file)",
        "keras.models.load_model(file)",
        "keras.saving.load_model(file, safe_mode=False)",
        "from keras.models import load_model",
        "keras.layers.TFSMLayer(file)",
        "tf.saved_model.load(file)",
    ],
)
def test_the_search_for_dangers_finds_them(source):
    assert list(dangers(source, own=True))


def test_nothing_in_the_project_reads_what_can_run_code():
    found = set()
    for folder in ("src", "notebooks", "benchmarks", "data/sample", "models", "tests"):
        for file in sorted((PROJECT / folder).rglob("*.*")):
            if file.suffix not in (".py", ".ipynb"):
                continue
            source = file.read_text(encoding="utf-8")
            if file.suffix == ".ipynb":
                cells = json.loads(source)["cells"]
                code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
                # What is for the shell or the notebook.
                source = re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", "\n".join(code))
            name = file.relative_to(PROJECT).as_posix()
            found |= {(name, danger) for danger in dangers(source, own=folder == "src")}
    assert found == ALLOWED
