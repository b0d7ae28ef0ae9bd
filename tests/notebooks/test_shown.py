"""Shown, then imported: the core notebooks against the rule, and the rule against small ones."""

import hashlib
import importlib
import inspect
import io
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import shown
from PIL import Image

from conftest import PROJECT
from lookalike.training import build_classifier
from test_house import MODULES, cells_of, defined_in
from test_odd_images import rgb_profile


def any_photo(random):
    """A file and a size: with or without transparency, turned by EXIF or not, in one of two spaces."""
    kind = random.integers(4)
    pixels = random.integers(0, 256, (40, 30, 4 if kind == 0 else 3), np.uint8)
    options = {"icc_profile": rgb_profile("Display P3")} if kind % 2 else {}
    if kind > 1:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = int(random.integers(1, 9))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    path = Path(tempfile.gettempdir(), f"{hashlib.sha256(file.getvalue()).hexdigest()}.png")
    path.write_bytes(file.getvalue())
    return path, int(random.integers(8, 50))


def any_catalog(random):
    """Products of one to three photos, with labels or without."""
    products = np.repeat(np.arange(40), random.integers(1, 4, 40)).astype(str)
    kinds = random.choice(["shoe", "hat", None], 40, p=[0.6, 0.3, 0.1])
    ids = [f"{number}.jpg" for number in random.permutation(len(products))]
    label = kinds[products.astype(int)]
    return (pd.DataFrame({"image_id": ids, "product_id": products, "label": label, "split": None}),)


def any_base(random):
    """A small network with a layer of each kind that matters, its preprocessing, some classes."""
    pixels = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(pixels)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="second")(x)
    base = keras.Model(pixels, keras.layers.BatchNormalization()(x), name="stub")
    base.trainable = False
    return base, keras.applications.mobilenet_v2.preprocess_input, int(random.integers(2, 6))


def any_labels(random):
    """Labels of three classes, from evenly spread to one that is rare."""
    classes = ["bag", "hat", "shoe"]
    shares = random.dirichlet([1, 1, 1])
    return pd.Series([*classes, *random.choice(classes, 60, p=shares)]), classes


def unit_vectors(random, *shape):
    vectors = random.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def any_search(random):
    """Queries, a gallery, how many to find, and what each query may not find."""
    queries, gallery = random.normal(size=(5, 8)), random.normal(size=(30, 8))
    own = [random.integers(0, 30, random.integers(3)) for _ in queries]
    return queries.astype(np.float32), gallery.astype(np.float32), int(random.integers(1, 9)), own


def any_judges(random):
    """A catalogue, the hashes of what was taught, and pairs of copies."""
    products = np.repeat(np.arange(40), random.integers(1, 4, 40)).astype(str)
    catalog = pd.DataFrame(
        {"product_id": products, "image_id": [f"{n}" for n in range(len(products))]}
    )
    catalog["sha256"] = catalog["image_id"] + " as a hash"
    catalog["split"] = random.choice(["train", "test"], 40)[products.astype(int)]
    taught = {*catalog["sha256"].sample(5, random_state=int(random.integers(99)))}
    copies = random.choice(catalog["image_id"], (6, 2))
    return catalog, taught, pd.DataFrame(copies, columns=["image_id", "other_id"])


def averaging_encoder(random):
    """A small encoder that ends in average pooling, and two photos."""
    pixels = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 5, activation="relu")(pixels)
    encoder = keras.Model(pixels, keras.layers.GlobalAveragePooling2D(name="pooling")(x))
    shapes = [w.shape for w in encoder.get_weights()]
    encoder.set_weights([random.normal(size=shape) for shape in shapes])
    return encoder, *random.integers(0, 256, (2, 12, 12, 3), np.uint8)


# For each function that a notebook writes or imports: arguments from random numbers, to compare.
EXAMPLES = {
    "load_image": any_photo,
    "split_by_product": any_catalog,
    "build_classifier": any_base,
    "rising_and_falling": lambda random: (random.random(), *random.integers(1, 9, 2).tolist()),
    "class_weights": any_labels,
    "confidence_interval": lambda random: (random.random(40), random.integers(0, 12, 40)),
    "augmentation": lambda random: (),
    "normalise": lambda random: (random.normal(size=(9, 5)),),
    "top_k": any_search,
    "precision_at_k": lambda random: (random.random((6, 8)) < 0.4, int(random.integers(1, 9))),
    "chance": lambda random: (random.integers(0, 9, 6), random.integers(9, 30, 6)),
    "embedding_encoder": lambda random: (build_classifier(*any_base(random)),),
    "gem": lambda random: (random.normal(size=(3, 4, 5, 6)).astype(np.float32),),
    "colour_histogram": lambda random: (random.integers(0, 256, (30, 40, 3), np.uint8),),
    "mean_colour": lambda random: (random.integers(0, 256, (30, 40, 3), np.uint8),),
    "join": lambda random: (
        *(unit_vectors(random, 4, dim) for dim in (5, 3)),
        random.choice([None, random.random()]),
    ),
    "taste": lambda random: (
        unit_vectors(random, 3, 5),
        unit_vectors(random, int(random.integers(3)), 5),
        random.random(),
    ),
    "diversify": lambda random: (random.random(12), random.random((12, 12)), 5, random.random()),
    "explain": averaging_encoder,
    "unseen": any_judges,
    "average_similarity": lambda random: (random.random((6, 8)), int(random.integers(1, 9))),
    "paired_change": lambda random: (*random.random((2, 40)), random.integers(0, 12, 40)),
    "unfreeze": lambda random: (any_base(random)[0], str(random.choice(["first", "second"]))),
}


def obeying():
    paths = sorted((PROJECT / "notebooks").glob("0[0-6]_*.ipynb"))
    return {path.name[:2]: cells_of(path) for path in paths if path.name[:2] in shown.OBEYING}


def test_what_obeys_imports_nothing_that_was_not_shown():
    assert shown.breaches(obeying()) == []


def test_what_obeys_writes_what_the_lesson_says_as_the_package_does():
    notebooks = obeying()
    for number, cells in notebooks.items():
        # Where it is written; what it uses may have been written before.
        before = {other: notebooks[other] for other in notebooks if other < number}
        for name in shown.LESSON[number]:
            assert any(f"def {name}(" in source for source in cells), name
            written = shown.written_function(before | {number: cells}, name)
            (module,) = [module for module, path in MODULES.items() if name in defined_in(path)]
            imported = getattr(importlib.import_module(module), name)
            assert shown.disagreement(written, imported, EXAMPLES[name], range(9)) == "", name


@pytest.mark.parametrize(
    ("name", "module"),
    [(name, module) for module, names in shown.PLUMBING.items() for name in names],
)
def test_plumbing_is_there_and_holds_no_idea(name, module):
    function = getattr(importlib.import_module(module), name)
    assert inspect.isfunction(function)
    assert shown.ideas_in(function) == set()


def test_plumbing_is_a_short_list():
    assert sum(map(len, shown.PLUMBING.values())) <= 30


TOP_K = "def top_k(scores, k):\n    return np.argsort(-scores)[:, :k]"
IMPORTED = "from lookalike.similarity import top_k  # written in 00"


@pytest.mark.parametrize(
    "notebooks",
    [
        {"00": [TOP_K], "05": [IMPORTED]},
        {"00": [TOP_K, IMPORTED]},
        {"00": ["from lookalike.sources import load_catalog"]},
        {"00": ["from lookalike import workspace\nworkspace.open_workspace('')"]},
        {"00": ["import lookalike.workspace as w", "w.open_workspace('')"]},
        {"00": [TOP_K], "01": ["from lookalike import similarity as s\ns.top_k  # written in 00"]},
        {"00": [TOP_K], "05": [TOP_K], "06": [IMPORTED.replace("00", "05")]},
        {"00": ["import numpy as np\nnp.linalg.norm(np.ones(3))"]},
        {"00": [TOP_K], "01": [IMPORTED.replace("top_k  #", "(\n    top_k,\n)  #")]},
        {
            "00": [TOP_K],
            "01": [IMPORTED.replace("top_k  # written in 00", "(\n    top_k,  # written in 00\n)")],
        },
        {"00": ["from lookalike import workspace", "for workspace in [1]:\n    pass"]},
    ],
)
def test_what_was_written_and_what_is_plumbing_may_be_imported(notebooks):
    assert shown.breaches(notebooks) == []


@pytest.mark.parametrize(
    ("notebooks", "told"),
    [
        ({"00": [IMPORTED]}, "00, cell 1: lookalike.similarity.top_k was not written"),
        ({"00": [f"{TOP_K}\n{IMPORTED}"]}, "was not written in an earlier cell"),
        ({"00": [IMPORTED, TOP_K]}, "was not written in an earlier cell"),
        ({"00": [TOP_K], "01": [IMPORTED.split("  #")[0]]}, "lacks '# written in 00'"),
        ({"00": [TOP_K], "01": [IMPORTED.replace("00", "03")]}, "lacks '# written in 00'"),
        (
            {"00": ["from lookalike import similarity\nsimilarity.top_k"]},
            "similarity.top_k was not",
        ),
        ({"00": ["import lookalike.similarity\nlookalike.similarity.top_k"]}, "top_k was not"),
        ({"00": ["from lookalike import similarity", "getattr(similarity, 'top_k')"]}, "itself"),
        ({"00": ["from lookalike.similarity import *"]}, r"lookalike.similarity.\*"),
        ({"00": ["def f():\n    from lookalike.similarity import top_k"]}, "top_k was not"),
        ({"00": ["import importlib"]}, "importlib.what is hidden so"),
        ({"00": ["from lookalike.backbones import BACKBONES"]}, "BACKBONES was not written"),
        ({"00": ["def f():\n    def top_k(): pass"], "01": [IMPORTED]}, "was not written"),
    ],
)
def test_anything_else_is_told(notebooks, told):
    (breach,) = shown.breaches(notebooks)
    assert told.replace("\\", "") in breach


def scores(random):
    return random.random((4, 9)), 3


@pytest.mark.parametrize(
    ("body", "agrees"),
    [
        ("return np.argsort(-scores)[:, :k]", True),
        ("return np.argsort(-scores, kind='stable')[:, :k] + 0", True),
        ("return np.argsort(scores)[:, :k]", False),
        ("return np.argsort(-scores)[:, : k - 1]", False),
    ],
)
def test_a_definition_that_answers_otherwise_than_the_package_is_told(body, agrees):
    cell = f"def helper(scores, k):\n    {body}\n\n\n"
    cell += "def top_k(scores, k):\n    return helper(scores, k)"
    ours = shown.written_function({"00": ["k = 7", cell, "raise SystemExit"]}, "top_k")
    theirs = shown.written_function({"00": [TOP_K]}, "top_k")
    assert (shown.disagreement(ours, theirs, scores) == "") == agrees


HEAD = """
def build_head(dim):
    photo = keras.Input((dim,))
    x = layers.Dense(4, activation="{}", name="embedding")(photo)
    return keras.Model(photo, layers.Dense(2, activation="softmax")(x))
"""


@pytest.mark.parametrize(("activation", "agrees"), [("relu", True), ("tanh", False)])
def test_networks_are_compared_with_equal_weights(activation, agrees):
    ours = shown.written_function({"02": [HEAD.format(activation)]}, "build_head")
    theirs = shown.written_function({"02": [HEAD.format("relu")]}, "build_head")
    assert isinstance(ours(5), keras.Model)
    told = shown.disagreement(ours, theirs, lambda random: (5,), seeds=range(2))
    assert (told == "") == agrees


UNFREEZE = """
def unfreeze(model):
    for layer in model.layers[{}:]:
        layer.trainable = True
"""
DROPOUT = """
def drop():
    photo = keras.Input((6,))
    return keras.Model(photo, layers.Dropout({}, seed=0)(photo))
"""


def frozen(random):
    model = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(3) for _ in range(3))])
    model.trainable = False
    return (model,)


@pytest.mark.parametrize(
    ("cell", "name", "values", "example"),
    [(UNFREEZE, "unfreeze", (1, 2), frozen), (DROPOUT, "drop", (0.2, 0.6), lambda random: ())],
)
def test_what_a_network_does_only_while_it_trains_is_compared_too(cell, name, values, example):
    for value in values:
        ours = shown.written_function({"03": [cell.format(value)]}, name)
        theirs = shown.written_function({"03": [cell.format(values[0])]}, name)
        told = shown.disagreement(ours, theirs, example, seeds=range(2))
        assert (told == "") == (value == values[0])


def test_what_is_imported_must_have_an_example_to_be_compared_by():
    notebooks = {"00": [TOP_K], "05": [IMPORTED, "from lookalike.sources import load_catalog"]}
    assert shown.imported_by(notebooks) == [("lookalike.similarity", "top_k")]


def test_a_definition_stands_on_the_libraries_and_what_was_defined_before_it_alone():
    uses_more = shown.written_function({"00": ["import os", "def f():\n    return os.sep"]}, "f")
    with pytest.raises(NameError, match="os"):
        uses_more()
    with pytest.raises(LookupError, match="No cell defines g"):
        shown.written_function({"00": ["def f():\n    pass"]}, "g")


def test_small_differences_of_rounding_do_not_count():
    def add(numbers):
        return numbers.sum(), [float(numbers[0]), {"n": len(numbers)}]

    def add_otherwise(numbers):
        return numbers[::-1].astype(np.float32).sum(), [numbers[0] + 1e-9, {"n": len(numbers)}]

    assert shown.disagreement(add, add_otherwise, lambda random: (random.random(9),)) == ""


def test_cell_and_package_agree():
    notebooks = obeying()
    for module, name in shown.imported_by(notebooks):
        imported = getattr(importlib.import_module(module), name)
        written = shown.written_function(notebooks, name)
        assert shown.disagreement(written, imported, EXAMPLES[name]) == "", name
