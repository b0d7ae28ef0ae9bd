"""Shown, then imported: the core notebooks against the rule, and the rule against small ones."""

import importlib
import inspect
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import shown
from PIL import Image

from lookalike.training import build_classifier
from test_house import MODULES, NOTEBOOKS, cells_of, defined_in
from test_odd_images import rgb_profile


def any_photo(random):
    """A file, with or without transparency, turned or not, in one of two colour spaces; a size."""
    kind = random.integers(4)
    pixels = random.integers(0, 256, (40, 30, 4 if kind == 0 else 3), np.uint8)
    options = {"icc_profile": rgb_profile("Display P3")} if kind % 2 else {}
    if kind > 1:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = int(random.integers(1, 9))
    path = Path(tempfile.mkdtemp(), "photo.png")
    Image.fromarray(pixels).save(path, **options)
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


def any_taste(random):
    """What was liked, what was disliked, which may be nothing, and how much that counts."""
    disliked = unit_vectors(random, int(random.integers(3)), 5)
    return unit_vectors(random, 3, 5), disliked, random.random()


def any_two(random):
    """Vectors of photos and of their colours, and the weight of colour, which may be left out."""
    weight = random.choice([None, random.random()])
    return unit_vectors(random, 4, 5), unit_vectors(random, 4, 3), weight


def any_pixels(random):
    return (random.integers(0, 256, (30, 40, 3), np.uint8),)


def any_search(random):
    """Queries, a gallery, how many to find, and what each query may not find."""
    queries, gallery = random.normal(size=(5, 8)), random.normal(size=(30, 8))
    own = [random.integers(0, 30, random.integers(3)) for _ in queries]
    return queries.astype(np.float32), gallery.astype(np.float32), int(random.integers(1, 9)), own


def any_judges(random):
    """A catalogue, the hashes of what was taught, and pairs of copies."""
    products = np.repeat(np.arange(40), random.integers(1, 4, 40)).astype(str)
    catalog = pd.DataFrame({"product_id": products})
    catalog["image_id"] = [f"{number}.jpg" for number in range(len(products))]
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


# For each function that a cell and the package define: arguments from random numbers, to compare.
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
    "colour_histogram": any_pixels,
    "lab_pixels": any_pixels,
    "mean_colour": any_pixels,
    "join": any_two,
    "taste": any_taste,
    "diversify": lambda random: (random.random(12), random.random((12, 12)), 5, random.random()),
    "explain": averaging_encoder,
    "unseen": any_judges,
    "average_similarity": lambda random: (random.random((6, 8)), int(random.integers(1, 9))),
    "paired_change": lambda random: (*random.random((2, 40)), random.integers(0, 12, 40)),
    "unfreeze": lambda random: (any_base(random)[0], str(random.choice(["first", "second"]))),
}
SLOW = ("build_classifier", "embedding_encoder", "unfreeze", "augmentation", "rising_and_falling")


def core_notebooks():
    paths = [path for path in NOTEBOOKS if path.name[:2] <= "06"]
    return {path.name[:2]: cells_of(path) for path in paths}


def test_a_core_notebook_imports_nothing_that_was_not_shown():
    assert shown.breaches(core_notebooks()) == []


@pytest.fixture(scope="module")
def written():
    functions = {}
    for name, function in shown.written_functions(core_notebooks()):
        functions.setdefault(name, []).append(function)
    return functions


@pytest.mark.parametrize("name", EXAMPLES)
def test_cell_and_package_agree(name, written):
    (module,) = [module for module, path in MODULES.items() if name in defined_in(path)]
    imported = getattr(importlib.import_module(module), name)
    # Where it takes no time, more seeds show more cases.
    seeds = range(2 if name in SLOW else 9)
    for function in written[name]:
        assert shown.disagreement(function, imported, EXAMPLES[name], seeds) == ""


def test_whatever_a_cell_writes_and_the_package_has_is_compared(written):
    packaged = set().union(*map(defined_in, MODULES.values()))
    assert written.keys() & packaged == EXAMPLES.keys()


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
WRITTEN = "  # written in 00"
MODULE = "from lookalike import similarity as s"


@pytest.mark.parametrize(
    "cells",
    [
        [TOP_K, IMPORTED],
        ["from lookalike.sources import load_catalog"],
        ["from lookalike import workspace", "workspace.open_workspace('')"],
        [TOP_K, f"{MODULE}\ns.top_k{WRITTEN}"],
        [TOP_K, IMPORTED.replace("top_k  #", "(\n    top_k,\n)  #")],
        ["from lookalike import workspace", "for workspace in [1]:\n    pass"],
    ],
)
def test_what_was_written_and_what_is_plumbing_may_be_imported(cells):
    assert shown.breaches({"00": cells}) == []
    assert shown.breaches({"00": cells[:1], "05": cells}) == []


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([IMPORTED], "00, cell 1: lookalike.similarity.top_k was not written in an earlier cell"),
        ([TOP_K, IMPORTED.removesuffix(WRITTEN)], "lacks '# written in 00'"),
        ([TOP_K, IMPORTED.replace("00", "03")], "lacks '# written in 00'"),
        ([f"{MODULE}\ns.top_k"], "lookalike.similarity.top_k was not"),
        ([MODULE, "getattr(s, 'top_k')"], "the module itself"),
        (["import lookalike.similarity as s"], "by a plain import"),
        (["from lookalike.similarity import *"], "lookalike.similarity.*"),
        (["def f():\n    def top_k(): pass", IMPORTED], "was not written"),
    ],
)
def test_anything_else_is_told(cells, told):
    (breach,) = shown.breaches({"00": cells})
    assert told in breach


HEAD = """
def build(activation="{}", rate={}):
    photo = keras.Input((6,))
    x = layers.Dense(4, activation=activation, name="embedding")(photo)
    return keras.Model(photo, layers.Dropout(rate, seed=0)(x))
"""
UNFREEZE = "def unfreeze(base):\n    for layer in base.layers[{}:]:\n        layer.trainable = True"
SUM_BACKWARDS = "def f(a, k):\n    return a[::-1].astype(np.float32).sum(), [a[0] + 1e-9]"
HELPED = "def helper(scores, k):\n    {}\n\ndef top_k(scores, k):\n    return helper(scores, k)"
RANK = "return np.argsort({}scores, kind='stable')[:, :{}]"


@pytest.mark.parametrize(
    ("ours", "theirs", "example", "agrees"),
    [
        (HELPED.format(RANK.format("-", "k") + " + 0"), TOP_K, "scores", True),
        (HELPED.format(RANK.format("-", "k - 1")), TOP_K, "scores", False),
        ("def f(a, k):\n    return a.sum(), [a[0]]", SUM_BACKWARDS, "scores", True),
        (HEAD.format("tanh", 0.2), HEAD.format("relu", 0.2), "nothing", False),
        (HEAD.format("relu", 0.6), HEAD.format("relu", 0.2), "nothing", False),
        (UNFREEZE.format(1), UNFREEZE.format(1), "base", True),
        (UNFREEZE.format(2), UNFREEZE.format(1), "base", False),
    ],
)
def test_a_definition_that_answers_otherwise_than_another_is_told(ours, theirs, example, agrees):
    examples = {
        "scores": lambda random: (random.random((4, 9)), 3),
        "nothing": lambda random: (),
        "base": lambda random: any_base(random)[:1],
    }
    # The last that a cell defines; the one before may be its helper.
    (*_, (_, one)), (*_, (_, other)) = (
        shown.written_functions({"00": ["raise SystemExit", cell]}) for cell in (ours, theirs)
    )
    assert (shown.disagreement(one, other, examples[example]) == "") == agrees
